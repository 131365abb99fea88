//! The scheduler, event by event.

use std::sync::Arc;

use super::*;
use crate::config::{Queue, testing};
use crate::schedule::Counted;
use crate::schedule::window::testing::answer;
use crate::store::{HoldCause, Waiting, samples};

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn lms() -> Address {
    address("lms@contoso.com")
}

fn start() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

/// Accounts by mailbox and login.
fn config(accounts: &[(&str, &str)]) -> Config {
    let accounts = accounts.iter().map(|(mailbox, login)| testing::account(mailbox, login)).collect();
    let config = testing::config(accounts);
    let retry = [1, 5, 15].map(Duration::from_mins).to_vec();
    Config { queue: Queue { retry, ..config.queue.clone() }, ..config }
}

fn waiting(n: i64) -> Waiting {
    Waiting { id: QueueId::from_number(n), due_at: start(), recipients: 1, flow: Flow::default() }
}

/// A scheduler of one account whose queue in the store is known to be empty.
fn one_account() -> Scheduler {
    let config = config(&[("lms@contoso.com", "lms@contoso.com")]);
    let scheduler = Scheduler::new(&config, Vec::new(), &[], false, start());
    let mut scheduler = scheduler.with_logins(&[(lms(), start())], start());
    wake(&mut scheduler, &[], start());
    scheduler
}

/// The daily proof, which is not what most tests are about.
fn proof(scheduler: &mut Scheduler) -> Timestamp {
    scheduler.standings(start())[0].prove_at
}

/// Time has passed. Whatever the scheduler asks of the store is answered by `messages`; what else it wants done.
fn wake(scheduler: &mut Scheduler, messages: &[Waiting], now: Timestamp) -> Vec<Action> {
    let mut others = Vec::new();
    for action in scheduler.on(Event::Woken, now) {
        if let Action::Load(account, load) = action {
            let heads = Some(answer(&load, messages));
            others.extend(scheduler.on(Event::Loaded { account, load, heads }, now));
        } else {
            others.push(action);
        }
    }
    others
}

fn accept(scheduler: &mut Scheduler, n: i64, now: Timestamp) -> Vec<Action> {
    scheduler.on(Event::Accepted { account: lms(), waiting: waiting(n) }, now)
}

fn finish(scheduler: &mut Scheduler, n: i64, outcome: Outcome, now: Timestamp) -> Vec<Action> {
    scheduler.on(Event::Finished { account: lms(), id: QueueId::from_number(n), outcome }, now)
}

fn unreachable(n: i64) -> Outcome {
    Outcome::Unreachable { again: waiting(n), error: "connection refused".to_owned(), retry_at: None }
}

fn attempts(actions: &[Action]) -> Vec<i64> {
    let ids = actions.iter().filter_map(|action| match action {
        Action::Attempt(_, id) => Some(id.number()),
        _ => None,
    });
    ids.collect()
}

fn login_refused(at: Timestamp) -> Hold {
    Hold { reply: Some("535 5.7.3 Authentication unsuccessful".to_owned()), ..samples::hold(HoldCause::Login, at) }
}

#[test]
fn a_message_leaves_as_soon_as_it_is_accepted() {
    assert_eq!(attempts(&accept(&mut one_account(), 1, start())), [1]);
}

#[test]
fn no_more_than_three_are_under_way_and_an_end_makes_room() {
    let mut scheduler = one_account();
    for n in 1..=2 {
        assert_eq!(attempts(&accept(&mut scheduler, n, start())), [n]);
    }
    // The last place is for urgent mail, and is not kept empty for ever.
    assert!(attempts(&accept(&mut scheduler, 3, start())).is_empty());
    let soon = scheduler.next_wake(start()).unwrap();
    assert!(soon <= start() + Duration::from_secs(4));
    assert_eq!(attempts(&wake(&mut scheduler, &[waiting(3)], soon)), [3]);
    let later = start() + Duration::from_secs(10);
    assert!(attempts(&accept(&mut scheduler, 4, later)).is_empty());
    let sent = Outcome::Answered { sent: Some(Counted::new(later, 1)), again: None, throttled: None };
    assert_eq!(attempts(&finish(&mut scheduler, 2, sent, later)), [4]);
}

#[test]
fn an_upstream_that_is_away_is_tried_by_one_message_after_ever_longer_pauses() {
    let mut scheduler = one_account();
    for n in 1..=3 {
        accept(&mut scheduler, n, start());
    }
    let mut now = start();
    for n in 1..=3 {
        assert!(attempts(&finish(&mut scheduler, n, unreachable(n), now)).is_empty());
    }
    for minutes in [1, 5, 5, 5] {
        let next = scheduler.next_wake(now).unwrap();
        assert_eq!(next, now + Duration::from_mins(minutes));
        now = next;
        let tried = attempts(&wake(&mut scheduler, &[1, 2, 3].map(waiting), now));
        assert_eq!(tried, [1], "one message, never a burst");
        finish(&mut scheduler, 1, unreachable(1), now);
    }
    now = scheduler.next_wake(now).unwrap();
    assert_eq!(attempts(&wake(&mut scheduler, &[1, 2, 3].map(waiting), now)), [1]);
    let sent = Outcome::Answered { sent: Some(Counted::new(now, 1)), again: None, throttled: None };
    assert_eq!(attempts(&finish(&mut scheduler, 1, sent, now)), [2]);
}

#[test]
fn a_connection_that_was_one_too_many_leaves_the_account_fewer_of_them() {
    let mut scheduler = one_account();
    for n in 1..=2 {
        accept(&mut scheduler, n, start());
    }
    let said = "421 4.3.2 The maximum number of concurrent connections has exceeded a limit".to_owned();
    let one_too_many = Event::Throttled { account: lms(), throttle: Throttle::Sessions, said: said.clone() };
    for n in 1..=2 {
        // Those that were under way together are refused together.
        scheduler.on(one_too_many.clone(), start());
        finish(&mut scheduler, n, unreachable(n), start());
    }
    let slowdowns = scheduler.standings(start())[0].slowdowns.clone();
    let [(Throttle::Sessions, slowdown)] = &slowdowns[..] else { panic!("{slowdowns:?}") };
    assert_eq!((slowdown.level, &slowdown.said), (1, &said));
    let now = scheduler.next_wake(start()).unwrap();
    assert_eq!(now, start() + Duration::from_mins(1), "and it pauses");
    assert_eq!(attempts(&wake(&mut scheduler, &[1, 2, 3].map(waiting), now)), [1]);
    let sent = Outcome::Answered { sent: Some(Counted::new(now, 1)), again: None, throttled: None };
    assert_eq!(attempts(&finish(&mut scheduler, 1, sent, now)), [2], "one at a time");
    let of_nobody = Event::Throttled { account: address("gone@contoso.com"), throttle: Throttle::Rate, said };
    assert!(scheduler.on(of_nobody, now).is_empty());
}

#[test]
fn a_refused_login_holds_the_account_until_a_probe_succeeds() {
    let mut scheduler = one_account();
    accept(&mut scheduler, 1, start());
    let refused = Outcome::Held { again: waiting(1), hold: login_refused(start()) };
    let actions = finish(&mut scheduler, 1, refused, start());
    assert!(matches!(&actions[..], [Action::Hold { hold, is_news: true }] if hold.probe_at.is_some()), "{actions:?}");
    assert!(attempts(&accept(&mut scheduler, 2, start())).is_empty());

    let mut now = start();
    for minutes in [5, 15, 30, 60, 60] {
        let next = scheduler.next_wake(now).unwrap();
        assert_eq!(next, now + Duration::from_mins(minutes));
        now = next;
        assert_eq!(wake(&mut scheduler, &[1, 2].map(waiting), now), [Action::Probe(lms())]);
        assert!(scheduler.on(Event::Woken, now).is_empty(), "one probe at a time");
        let refused = Err("535 5.7.3 still not".to_owned());
        scheduler.on(Event::Probed { account: lms(), result: refused }, now);
    }
    now = scheduler.next_wake(now).unwrap();
    wake(&mut scheduler, &[1, 2].map(waiting), now);
    let actions = scheduler.on(Event::Probed { account: lms(), result: Ok(()) }, now);
    assert!(matches!(actions[0], Action::Release { .. }));
    assert_eq!(attempts(&actions), [1], "one message goes first");
    let sent = Outcome::Answered { sent: Some(Counted::new(now, 1)), again: None, throttled: None };
    assert_eq!(attempts(&finish(&mut scheduler, 1, sent, now)), [2]);
}

#[test]
fn a_sign_in_that_works_again_frees_what_the_sign_in_stopped_but_not_what_a_person_did() {
    for (cause, is_freed) in [
        (HoldCause::SignIn, true),
        (HoldCause::NotSignedIn, true),
        (HoldCause::Registration, true),
        (HoldCause::Login, false),
        (HoldCause::Clone, false),
        (HoldCause::Manual, false),
    ] {
        let mut scheduler = one_account();
        scheduler.on(Event::Held(Hold { cause, ..login_refused(start()) }), start());
        accept(&mut scheduler, 1, start());
        let actions = scheduler.on(Event::SignInGood { account: lms() }, start());
        assert_eq!(attempts(&actions) == [1], is_freed, "{cause}");
        let is_freed = is_freed || matches!(cause, HoldCause::Login | HoldCause::Clone);
        scheduler.on(Event::SignedIn { account: lms() }, start());
        assert_eq!(scheduler.standings(start())[0].hold.is_none(), is_freed, "{cause}");
        let released = Event::Released { account: lms(), why: "by hand".to_owned() };
        scheduler.on(released, start());
        assert!(scheduler.standings(start())[0].hold.is_none(), "{cause}");
    }
}

#[test]
fn a_copy_is_not_probed_and_nothing_but_a_person_changes_why_it_is_held() {
    let mut scheduler = one_account();
    let held = Hold { cause: HoldCause::Clone, probe_at: None, ..login_refused(start()) };
    scheduler.on(Event::Held(held.clone()), start());
    assert!(scheduler.on(Event::Held(login_refused(start())), start()).is_empty());
    assert!(scheduler.on(Event::Held(held), start()).is_empty(), "the same is no news");
    let year = start() + Duration::from_hours(24 * 365);
    assert_eq!(scheduler.next_wake(start()), None);
    assert!(scheduler.on(Event::Woken, year).iter().all(|action| !matches!(action, Action::Probe(_))));
    scheduler.on(Event::Held(Hold { cause: HoldCause::Manual, ..login_refused(year) }), year);
    assert_eq!(scheduler.standings(year)[0].hold.as_ref().map(|hold| hold.cause), Some(HoldCause::Manual));
}

#[test]
fn a_persons_hold_is_not_replaced_by_another_cause() {
    let mut scheduler = one_account();
    scheduler.on(Event::Held(Hold { cause: HoldCause::Manual, ..login_refused(start()) }), start());
    assert!(scheduler.on(Event::Held(login_refused(start())), start()).is_empty());
}

#[test]
fn accounts_that_share_a_login_share_its_pace() {
    let both = config(&[("one@contoso.com", "svc@contoso.com"), ("two@contoso.com", "svc@contoso.com")]);
    let mut scheduler = Scheduler::new(&both, Vec::new(), &[], false, start());
    wake(&mut scheduler, &[], start());
    let mut under_way = 0;
    for n in 0..10 {
        for mailbox in ["one@contoso.com", "two@contoso.com"] {
            let waiting = Waiting { id: QueueId::from_number(n * 2 + i64::from(mailbox < "p")), ..waiting(0) };
            let actions = scheduler.on(Event::Accepted { account: address(mailbox), waiting }, start());
            under_way += attempts(&actions).len();
        }
    }
    assert_eq!(under_way, 2, "as for one account: the third place is for urgent mail");
}

#[test]
fn holds_and_todays_sends_are_remembered_from_the_run_before() {
    let config = config(&[("lms@contoso.com", "lms@contoso.com")]);
    let sent: Vec<Sent> = (0..30).map(|_| Sent { login: lms(), at: start(), recipients: 1, outside: 0 }).collect();
    let mut scheduler = Scheduler::new(&config, vec![login_refused(start())], &sent, false, start());
    wake(&mut scheduler, &[waiting(1)], start());
    let standing = &scheduler.standings(start())[0];
    assert!(standing.hold.is_some());
    assert_eq!((standing.last_minute, standing.last_day), (30, 30));
    let released = Event::Released { account: lms(), why: "by hand".to_owned() };
    assert!(attempts(&scheduler.on(released, start())).is_empty(), "the minute is used up");
    assert_eq!(scheduler.next_wake(start()), Some(start() + Duration::from_millis(60_500)));
}

#[test]
fn a_queue_of_any_length_is_worked_off_from_a_small_window() {
    let mut scheduler = one_account();
    let mut todo = scheduler.on(Event::Changed { account: lms() }, start());
    let mut store: BTreeMap<i64, Waiting> = (1..=2_000).map(|n| (n, waiting(n))).collect();
    let mut now = start();
    let mut left = Vec::new();
    while !store.is_empty() {
        let Some(action) = todo.pop() else {
            now = scheduler.next_wake(now).expect("there is more to do");
            todo = scheduler.on(Event::Woken, now);
            continue;
        };
        todo.extend(match action {
            Action::Load(account, load) => {
                let heads = Some(answer(&load, &store.values().cloned().collect::<Vec<_>>()));
                scheduler.on(Event::Loaded { account, load, heads }, now)
            }
            Action::Attempt(_, id) => {
                store.remove(&id.number()).expect("each leaves once");
                left.push(id.number());
                finish(
                    &mut scheduler,
                    id.number(),
                    Outcome::Answered { sent: Some(Counted::new(now, 1)), again: None, throttled: None },
                    now,
                )
            }
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(left.len(), 2_000);
    assert!(left.is_sorted_by(|a, b| *a < *b + 3), "in order, but for those under way together");
}

#[test]
fn a_persons_hold_during_a_probe_stays_whatever_the_probe_finds() {
    let mut scheduler = one_account();
    scheduler.on(Event::Held(login_refused(start())), start());
    let now = scheduler.next_wake(start()).unwrap();
    assert_eq!(wake(&mut scheduler, &[], now), [Action::Probe(lms())]);
    scheduler.on(Event::Held(Hold { cause: HoldCause::Manual, ..login_refused(now) }), now);
    scheduler.on(Event::Probed { account: lms(), result: Ok(()) }, now);
    let hold = scheduler.standings(now)[0].hold.clone().expect("still held");
    assert_eq!(hold.cause, HoldCause::Manual);
}

#[test]
fn a_hold_said_again_keeps_its_beginning_and_is_no_news() {
    let mut scheduler = one_account();
    scheduler.on(Event::Held(login_refused(start())), start());
    let later = start() + Duration::from_mins(1);
    let again = Hold { reply: Some("535 5.7.139 other words".to_owned()), ..login_refused(later) };
    let actions = scheduler.on(Event::Held(again), later);
    let [Action::Hold { hold, is_news: false }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((hold.since, hold.reply.as_deref()), (start(), Some("535 5.7.139 other words")));
    assert_eq!(hold.probe_at, Some(start() + Duration::from_mins(5)));
}

#[test]
fn a_clock_that_goes_back_takes_what_was_planned_with_it() {
    let mut scheduler = one_account();
    let month = Duration::from_hours(24 * 30);
    let ahead = start() + month;
    scheduler.on(Event::Woken, ahead);
    accept(&mut scheduler, 1, ahead);
    finish(&mut scheduler, 1, unreachable(1), ahead);
    let actions = wake(&mut scheduler, &[waiting(1)], start());
    assert!(actions.contains(&Action::Wake(lms(), start())), "what waits in the store, too: {actions:?}");
    let next = scheduler.next_wake(start()).unwrap();
    assert_eq!(next, start() + Duration::from_mins(1), "not in a month");
    assert_eq!(attempts(&scheduler.on(Event::Woken, next)), [1]);
}

#[test]
fn an_account_that_goes_and_comes_back_is_still_held_and_sends_nothing_twice() {
    let both = config(&[("lms@contoso.com", "lms@contoso.com"), ("erp@contoso.com", "erp@contoso.com")]);
    let one = config(&[("erp@contoso.com", "erp@contoso.com")]);
    let mut scheduler = Scheduler::new(&both, Vec::new(), &[], false, start());
    wake(&mut scheduler, &[], start());
    assert_eq!(attempts(&accept(&mut scheduler, 1, start())), [1]);
    scheduler.on(Event::Configured { config: Arc::new(one), sent: Vec::new() }, start());
    assert_eq!(scheduler.standings(start()).len(), 1);
    let actions = scheduler.on(Event::Configured { config: Arc::new(both), sent: Vec::new() }, start());
    for action in actions {
        let Action::Load(account, load) = action else { continue };
        let messages = if account == lms() { vec![waiting(1)] } else { Vec::new() };
        let heads = Some(answer(&load, &messages));
        let more = scheduler.on(Event::Loaded { account, load, heads }, start());
        assert!(attempts(&more).is_empty(), "it is still under way");
    }
    let manual = Hold { cause: HoldCause::Manual, ..login_refused(start()) };
    let mut scheduler =
        Scheduler::new(&config(&[("erp@contoso.com", "erp@contoso.com")]), vec![manual], &[], false, start());
    let back = config(&[("lms@contoso.com", "lms@contoso.com")]);
    scheduler.on(Event::Configured { config: Arc::new(back), sent: Vec::new() }, start());
    assert!(scheduler.standings(start())[0].hold.is_some());
}

#[test]
fn what_became_due_between_two_looks_is_due_now() {
    let mut scheduler = one_account();
    let later = start() + Duration::from_secs(2);
    let again = Waiting { due_at: later, ..waiting(1) };
    accept(&mut scheduler, 1, start());
    finish(&mut scheduler, 1, Outcome::Answered { sent: None, again: Some(again), throttled: None }, start());
    assert_eq!(scheduler.next_wake(start()), Some(later));
    let just_after = later + Duration::from_millis(1);
    assert_eq!(scheduler.next_wake(just_after), Some(just_after));
    assert_eq!(attempts(&scheduler.on(Event::Woken, just_after)), [1]);
    assert_eq!(scheduler.next_wake(just_after), Some(proof(&mut scheduler)), "it is under way");
}

#[test]
fn while_one_message_tries_for_all_after_a_pause_nobody_is_woken_for_the_others() {
    let mut scheduler = one_account();
    for n in 1..=2 {
        accept(&mut scheduler, n, start());
    }
    finish(&mut scheduler, 1, unreachable(1), start());
    finish(&mut scheduler, 2, unreachable(2), start());
    let over = scheduler.next_wake(start()).unwrap();
    assert_eq!(attempts(&scheduler.on(Event::Woken, over)), [1]);
    assert_eq!(scheduler.next_wake(over + Duration::from_secs(1)), Some(proof(&mut scheduler)));
}

#[test]
fn whatever_was_overlooked_is_looked_for_within_minutes() {
    let mut scheduler = one_account();
    let later = start() + Duration::from_mins(10);
    assert!(matches!(scheduler.on(Event::Woken, later)[..], [Action::Load(..)]));
}

fn proved(scheduler: &mut Scheduler, result: Proved, now: Timestamp) -> Vec<Action> {
    scheduler.on(Event::Proved { account: lms(), result }, now)
}

/// Without any mail; the hours between the proofs.
#[test]
fn an_account_without_mail_proves_its_login_about_once_a_day_for_a_year() {
    let mut scheduler = one_account();
    let (mut now, mut last, mut hours) = (start(), start(), Vec::new());
    while now < start() + Duration::from_hours(365 * 24) {
        now = scheduler.next_wake(now).expect("the next proof");
        if wake(&mut scheduler, &[], now) == [Action::Prove(lms())] {
            assert!(wake(&mut scheduler, &[], now).is_empty(), "one at a time");
            hours.push(now.duration_since(last).as_hours());
            last = now;
            assert!(proved(&mut scheduler, Proved::Taken(now), now).is_empty());
        }
    }
    assert!((337..=398).contains(&hours.len()), "{}", hours.len());
    assert!(hours.iter().all(|hours| (22..=26).contains(hours)), "{hours:?}");
}

#[test]
fn a_login_that_was_taken_for_a_mail_is_proof_enough() {
    let mut scheduler = one_account();
    let noon = start() + Duration::from_hours(12);
    scheduler.on(Event::LoginTaken { account: lms(), at: noon }, noon);
    let due = proof(&mut scheduler).duration_since(noon).as_hours();
    assert!((22..=26).contains(&due), "{due}");
}

#[test]
fn a_proof_waits_until_nothing_of_its_login_waits_or_is_under_way() {
    let both = config(&[("lms@contoso.com", "svc@contoso.com"), ("two@contoso.com", "svc@contoso.com")]);
    let mut scheduler = Scheduler::new(&both, Vec::new(), &[], false, start());
    scheduler = scheduler.with_logins(&[(address("two@contoso.com"), start())], start());
    wake(&mut scheduler, &[], start());
    let two = |id: i64| QueueId::from_number(id);
    let message = Waiting { id: two(1), ..waiting(1) };
    scheduler.on(Event::Accepted { account: address("two@contoso.com"), waiting: message }, start());
    let due = proof(&mut scheduler);
    assert!(due <= start() + Duration::from_mins(5));
    assert!(wake(&mut scheduler, &[], due).is_empty(), "the other account is sending");
    assert!(scheduler.next_wake(due).is_none_or(|when| when > due), "and nobody is woken for it");

    let sent = Outcome::Answered { sent: Some(Counted::new(due, 1)), again: None, throttled: None };
    let ended = Event::Finished { account: address("two@contoso.com"), id: two(1), outcome: sent };
    assert_eq!(scheduler.on(ended, due), [Action::Prove(lms())]);
    // It takes one of the three places, and no more than that.
    let later = due + Duration::from_mins(1);
    let attempted: Vec<i64> = (2..=5).flat_map(|n| attempts(&accept(&mut scheduler, n, later))).collect();
    assert_eq!(attempted, [2]);
    assert_eq!(attempts(&proved(&mut scheduler, Proved::Taken(later), later)), [3]);
}

#[test]
fn a_refused_proof_holds_the_account_as_a_refused_attempt_does() {
    let mut scheduler = one_account();
    let now = proof(&mut scheduler);
    wake(&mut scheduler, &[], now);
    let actions = proved(&mut scheduler, Proved::Held(login_refused(now), false), now);
    let [Action::Hold { hold, is_news: true }] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(hold.probe_at, Some(now + Duration::from_mins(5)));
    assert!(attempts(&accept(&mut scheduler, 1, now)).is_empty());

    let probe = scheduler.next_wake(now).unwrap();
    assert_eq!(wake(&mut scheduler, &[waiting(1)], probe), [Action::Probe(lms())]);
    let actions = scheduler.on(Event::Probed { account: lms(), result: Ok(()) }, probe);
    assert_eq!(attempts(&actions), [1], "the mail goes on");
    assert!(proof(&mut scheduler) >= probe + Duration::from_hours(22), "and that was proof enough");
}

#[test]
fn a_proof_that_cannot_be_made_holds_nothing_and_is_told_from_the_third_failure_on() {
    let mut scheduler = one_account();
    for n in 1..=4 {
        let now = proof(&mut scheduler);
        wake(&mut scheduler, &[], now);
        let failed = Proved::Failed("could not connect".to_owned());
        assert!(proved(&mut scheduler, failed, now).is_empty());
        let standing = &scheduler.standings(now)[0];
        assert_eq!((&standing.hold, standing.unproven.is_some()), (&None, n >= 3));
    }
    let now = proof(&mut scheduler);
    scheduler.on(Event::LoginTaken { account: lms(), at: now }, now);
    assert_eq!(scheduler.standings(now)[0].unproven, None);
}

#[test]
fn a_new_sign_in_a_release_and_another_login_are_proven_within_minutes() {
    let soon = |scheduler: &mut Scheduler| proof(scheduler) <= start() + Duration::from_mins(5);
    let mut scheduler = one_account();
    assert!(!soon(&mut scheduler));
    scheduler.on(Event::SignedIn { account: lms() }, start());
    assert!(soon(&mut scheduler), "a sign-in");

    let mut scheduler = one_account();
    scheduler.on(Event::Held(login_refused(start())), start());
    scheduler.on(Event::Released { account: lms(), why: "by hand".to_owned() }, start());
    assert!(soon(&mut scheduler), "a release");

    let mut scheduler = one_account();
    let other = config(&[("lms@contoso.com", "svc@contoso.com")]);
    scheduler.on(Event::Configured { config: Arc::new(other), sent: Vec::new() }, start());
    assert!(soon(&mut scheduler), "another login");
}

#[test]
fn a_held_account_proves_nothing() {
    let mut scheduler = one_account();
    scheduler.on(Event::Held(Hold { cause: HoldCause::Manual, ..login_refused(start()) }), start());
    let now = proof(&mut scheduler) + Duration::from_hours(1);
    assert!(wake(&mut scheduler, &[], now).is_empty());
    assert_eq!(scheduler.next_wake(now), None);
}

#[test]
fn accounts_of_one_login_prove_it_one_after_the_other() {
    let both = config(&[("lms@contoso.com", "svc@contoso.com"), ("two@contoso.com", "svc@contoso.com")]);
    let mut scheduler = Scheduler::new(&both, Vec::new(), &[], false, start());
    wake(&mut scheduler, &[], start());
    let now = start() + Duration::from_mins(6);
    let first = wake(&mut scheduler, &[], now);
    let [Action::Prove(account)] = &first[..] else { panic!("{first:?}") };
    let second = scheduler.on(Event::Proved { account: account.clone(), result: Proved::Taken(now) }, now);
    assert!(matches!(&second[..], [Action::Prove(other)] if other != account), "{second:?}");
}

#[test]
fn a_hold_that_is_told_before_its_account_is_known_counts_once_it_is() {
    let mut scheduler = one_account();
    let new = Hold { account: address("erp@contoso.com"), cause: HoldCause::NotSignedIn, ..login_refused(start()) };
    assert!(matches!(&scheduler.on(Event::Held(new), start())[..], [Action::Hold { is_news: true, .. }]));
    assert_eq!(scheduler.standings(start()).len(), 1, "it is not there yet");
    let both = config(&[("lms@contoso.com", "lms@contoso.com"), ("erp@contoso.com", "erp@contoso.com")]);
    scheduler.on(Event::Configured { config: Arc::new(both), sent: Vec::new() }, start());
    let held: Vec<bool> = scheduler.standings(start()).iter().map(|standing| standing.hold.is_some()).collect();
    assert_eq!(held, [true, false]);
}

#[test]
fn a_reply_that_asks_for_less_slows_the_login_down_and_is_told_word_for_word() {
    let mut scheduler = one_account();
    accept(&mut scheduler, 1, start());
    let said = "432 4.3.2 Concurrent connections limit exceeded.";
    let throttled = Some((Throttle::Sessions, said.to_owned()));
    let later = Waiting { due_at: start() + Duration::from_mins(1), ..waiting(1) };
    finish(&mut scheduler, 1, Outcome::Answered { sent: None, again: Some(later), throttled }, start());
    let standing = &scheduler.standings(start())[0];
    let [(Throttle::Sessions, slowdown)] = standing.slowdowns.as_slice() else { panic!("{standing:?}") };
    assert_eq!((slowdown.level, slowdown.said.as_str()), (1, said));
    let mut now = start();
    for n in 2..=4 {
        now += Duration::from_mins(2);
        assert_eq!(attempts(&accept(&mut scheduler, n, now)).len(), 1);
        let sent = Outcome::Answered { sent: Some(Counted::new(now, 1)), again: None, throttled: None };
        finish(&mut scheduler, n, sent, now);
    }
    assert!(scheduler.standings(now)[0].slowdowns.is_empty());
}
