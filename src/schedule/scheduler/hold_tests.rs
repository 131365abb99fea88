//! Holds, event by event: one message at a time, and what is shared by the accounts of a tenant.

use super::*;
use crate::config::testing;
use crate::message::Lane;
use crate::schedule::Counted;
use crate::schedule::window::testing::answer;
use crate::store::{HoldCause, Waiting, samples};

const LMS: &str = "lms@contoso.com";
const ERP: &str = "erp@contoso.com";
const OTHER: &str = "it@fabrikam.com";

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn start() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

/// From 100 on it is urgent mail of another app.
fn waiting(n: i64) -> Waiting {
    let flow = if n < 100 { Flow::default() } else { Flow::new("moodle", Lane::Urgent) };
    Waiting { id: QueueId::from_number(n), due_at: start(), recipients: 1, flow }
}

/// Two accounts of one tenant and one of another; each has three messages, numbered from 1, 11 and 21.
struct World {
    scheduler: Scheduler,
    queues: BTreeMap<Address, Vec<i64>>,
    now: Timestamp,
    /// What was begun, and not ended yet.
    attempts: Vec<(Address, i64)>,
    /// Of holds and releases.
    told: Vec<String>,
}

fn config() -> Config {
    let account = |mailbox: &str, tenant: &str| {
        let account = testing::account(mailbox, mailbox);
        // So many that nothing is kept back for urgent mail.
        crate::config::Account { tenant: tenant.to_owned(), messages_per_minute: 60_000, ..account }
    };
    let tenants = [(LMS, "contoso.onmicrosoft.com"), (ERP, "Contoso.OnMicrosoft.com"), (OTHER, "fabrikam.example")];
    testing::config(tenants.map(|(mailbox, tenant)| account(mailbox, tenant)).to_vec())
}

impl World {
    fn new(mailboxes: &[&str]) -> Self {
        let scheduler = Scheduler::new(&config(), Vec::new(), &[], false, start());
        let proved: Vec<_> = [LMS, ERP, OTHER].iter().map(|mailbox| (address(mailbox), start())).collect();
        let queues = mailboxes.iter().zip([1, 11, 21]).map(|(mailbox, n)| (address(mailbox), vec![n, n + 1, n + 2]));
        let mut world = Self {
            scheduler: scheduler.with_logins(&proved, start()),
            queues: queues.collect(),
            now: start(),
            attempts: Vec::new(),
            told: Vec::new(),
        };
        world.on(Event::Woken);
        world
    }

    fn on(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.scheduler.on(event, self.now) {
                match action {
                    Action::Load(account, load) => {
                        let messages = self.queues.get(&account).into_iter().flatten().map(|&n| waiting(n));
                        let heads = answer(&load, &messages.collect::<Vec<_>>());
                        events.push(Event::Loaded { account, load, heads: Some(heads) });
                    }
                    Action::Attempt(account, id) => self.attempts.push((account, id.number())),
                    Action::Hold { hold, is_news } => {
                        let news = if is_news { "held" } else { "still held" };
                        self.told.push(format!("{news}: {} {}", hold.account, hold.cause.as_str()));
                    }
                    Action::Release { account, .. } => self.told.push(format!("released: {account}")),
                    Action::Prove(account) => {
                        let result = Proved::Taken(self.now);
                        events.push(Event::Proved { account, result });
                    }
                    Action::Probe(_) | Action::Wake(..) => panic!("nobody asked for {action:?}"),
                }
            }
        }
    }

    /// The attempts that are under way end like this, one after the other.
    fn finish(&mut self, outcome: impl Fn(&Address, i64, Timestamp) -> Outcome) {
        for (account, n) in std::mem::take(&mut self.attempts) {
            let outcome = outcome(&account, n, self.now);
            let is_over = matches!(outcome, Outcome::Answered { again: None, .. });
            if is_over {
                self.queues.get_mut(&account).unwrap().retain(|&other| other != n);
            }
            self.on(Event::Finished { account, id: QueueId::from_number(n), outcome });
        }
    }

    /// Time passes until something is tried; the attempts under way by then, by their numbers.
    fn pass_time(&mut self) -> Vec<i64> {
        // Beside mail there are the daily proofs of the other accounts.
        for _ in 0..20 {
            let next = self.scheduler.next_wake(self.now).expect("something will be due");
            assert!(next > self.now, "what is due now has been begun");
            self.now = next;
            self.on(Event::Woken);
            if !self.attempts.is_empty() {
                return self.begun();
            }
        }
        panic!("nothing is tried by {}", self.now);
    }

    fn begun(&self) -> Vec<i64> {
        let mut begun: Vec<i64> = self.attempts.iter().map(|(_, n)| *n).collect();
        begun.sort_unstable();
        begun
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }

    fn held(&mut self) -> Vec<String> {
        let standings = self.scheduler.standings(self.now);
        let held = standings.into_iter().filter(|standing| standing.hold.is_some());
        held.map(|standing| standing.account.to_string()).collect()
    }
}

fn taken(_: &Address, _: i64, at: Timestamp) -> Outcome {
    Outcome::Answered { sent: Some(Counted::new(at, 1)), again: None, throttled: None }
}

fn stopped(cause: HoldCause, of_tenant: bool) -> impl Fn(&Address, i64, Timestamp) -> Outcome {
    move |account, n, at| {
        let hold = Hold {
            account: account.clone(),
            reply: Some("550 5.7.705 Access denied, tenant has exceeded threshold".to_owned()),
            ..samples::hold(cause, at)
        };
        Outcome::Stopped {
            sent: Some(Counted::new(at, 0)),
            again: Some(waiting(n)),
            stop: Stop::Hold { hold, of_tenant },
        }
    }
}

#[test]
fn a_quota_holds_the_account_and_one_message_at_a_time_finds_out_whether_it_is_over() {
    let mut world = World::new(&[LMS]);
    assert_eq!(world.begun(), [1, 2, 3]);
    world.finish(stopped(HoldCause::Quota, false));
    assert_eq!(world.told(), ["held: lms@contoso.com quota"], "once, and nothing is tried");
    assert!(world.attempts.is_empty());
    for hours in [1, 3, 7, 15, 24] {
        assert_eq!(world.pass_time(), [1], "one message, the oldest");
        assert_eq!(world.now, start() + Duration::from_hours(hours));
        assert_eq!(world.scheduler.next_wake(world.now).filter(|&when| when <= world.now), None, "nothing else is due");
        world.finish(stopped(HoldCause::Quota, false));
        assert_eq!(world.told(), ["still held: lms@contoso.com quota"]);
    }
    assert_eq!(world.pass_time(), [1]);
    world.finish(taken);
    assert_eq!(world.told(), ["released: lms@contoso.com"]);
    assert_eq!(world.begun(), [2, 3], "and the rest goes on");
}

#[test]
fn a_hold_of_the_tenant_holds_its_accounts_and_no_other_and_one_of_them_probes() {
    let mut world = World::new(&[LMS, ERP, OTHER]);
    assert_eq!(world.begun(), [1, 2, 3, 11, 12, 13, 21, 22, 23]);
    let refused = stopped(HoldCause::Blocked, true);
    world.finish(
        |account, n, at| if *account == address(OTHER) { taken(account, n, at) } else { refused(account, n, at) },
    );
    let mut told = world.told();
    told.sort();
    assert_eq!(told, ["held: erp@contoso.com blocked", "held: lms@contoso.com blocked"], "each once");
    assert!(world.queues[&address(OTHER)].is_empty(), "the other tenant's mail has left");
    assert!(world.attempts.is_empty());

    for _ in 0..3 {
        assert_eq!(world.pass_time().len(), 1, "one message of one account: {:?}", world.attempts);
        world.finish(&refused);
        assert_eq!(world.told().len(), 2, "both rows are put off");
        assert!(world.attempts.is_empty());
    }
    assert_eq!(world.pass_time().len(), 1);
    let prober = world.attempts[0].0.clone();
    world.finish(taken);
    let mut told = world.told();
    told.sort();
    assert_eq!(told, ["released: erp@contoso.com", "released: lms@contoso.com"]);
    let of = |world: &World, prober: &Address| world.attempts.iter().filter(|(account, _)| account == prober).count();
    assert_eq!(of(&world, &prober), 2, "it has shown that all may go");
    assert_eq!(world.attempts.len() - of(&world, &prober), 1, "the other one begins with one message");
    world.finish(taken);
    world.finish(taken);
    assert!(world.queues.values().all(Vec::is_empty), "{:?}", world.queues);
}

#[test]
fn what_the_daily_proof_meets_of_the_tenant_holds_its_accounts() {
    let mut world = World::new(&[]);
    let Outcome::Stopped { stop: Stop::Hold { hold, .. }, .. } =
        stopped(HoldCause::Blocked, true)(&address(LMS), 1, start())
    else {
        unreachable!()
    };
    world.on(Event::Proved { account: address(LMS), result: Proved::Held(hold, true) });
    assert_eq!(world.held(), [ERP, LMS]);
}

#[test]
fn a_release_of_one_account_of_the_tenant_frees_the_others_but_not_what_holds_them_for_themselves() {
    let mut world = World::new(&[LMS]);
    world.finish(stopped(HoldCause::Blocked, true));
    let signed_out = Hold { account: address(OTHER), ..samples::hold(HoldCause::Blocked, start()) };
    world.on(Event::Held(signed_out));
    assert_eq!(world.held(), [ERP, OTHER, LMS]);
    world.told();
    world.on(Event::Released { account: address(ERP), why: "an administrator released it".to_owned() });
    assert_eq!(world.held(), [OTHER], "that is another tenant");
    assert_eq!(world.pass_time(), [1], "one message goes first");
    world.now += Duration::from_mins(1);
    world.on(Event::Woken);
    assert_eq!(world.begun(), [1], "and the others wait for what becomes of it");
    world.finish(stopped(HoldCause::Blocked, true));
    assert_eq!(world.held(), [ERP, OTHER, LMS], "and after it the hold is back");
    assert!(world.attempts.is_empty(), "never a burst");
}

#[test]
fn an_account_that_somebody_holds_is_not_freed_with_its_tenant() {
    let mut world = World::new(&[LMS]);
    let manual = Hold { account: address(ERP), ..samples::hold(HoldCause::Manual, start()) };
    world.on(Event::Held(manual));
    world.finish(stopped(HoldCause::Blocked, true));
    world.on(Event::Released { account: address(LMS), why: "an administrator released it".to_owned() });
    assert_eq!(world.held(), [ERP]);
}

#[test]
fn who_has_tried_for_all_in_vain_lets_somebody_else_try_next() {
    for cause in [Some(HoldCause::Blocked), None] {
        let pause = |_: &Address, n, at| Outcome::Stopped {
            sent: Some(Counted::new(at, 0)),
            again: Some(waiting(n)),
            stop: Stop::Pause { error: "451 4.7.500 Server busy".to_owned(), retry_at: None },
        };
        let refuse = |world: &mut World| match cause {
            Some(cause) => world.finish(stopped(cause, false)),
            None => world.finish(pause),
        };
        let mut world = World::new(&[]);
        for n in [101, 1] {
            world.queues.entry(address(LMS)).or_default().push(n);
            world.on(Event::Accepted { account: address(LMS), waiting: waiting(n) });
            if n > 100 {
                refuse(&mut world);
            }
        }
        assert_eq!(world.pass_time(), [101], "urgent mail first");
        refuse(&mut world);
        assert_eq!(world.pass_time(), [1], "{cause:?}");
        refuse(&mut world);
        assert_eq!(world.pass_time(), [101], "in turn");
        refuse(&mut world);
        assert_eq!(world.pass_time(), [1]);
        world.finish(taken);
        assert!(world.held().is_empty());
        assert_eq!(world.begun(), [101], "and alone it is not kept back");
    }
}

#[test]
fn a_mood_of_the_account_pauses_it_and_one_message_tries_for_all() {
    let mut world = World::new(&[LMS]);
    world.finish(|_, n, at| Outcome::Stopped {
        sent: Some(Counted::new(at, 0)),
        again: Some(waiting(n)),
        stop: Stop::Pause { error: "451 4.7.500 Server busy".to_owned(), retry_at: None },
    });
    assert!(world.held().is_empty());
    assert_eq!(world.pass_time(), [1]);
    assert_eq!(world.now, start() + Duration::from_mins(1));
    world.finish(taken);
    assert_eq!(world.begun(), [2, 3]);
}

#[test]
fn probes_go_on_after_a_restart_where_they_were() {
    let mut world = World::new(&[LMS]);
    world.finish(stopped(HoldCause::Quota, false));
    world.pass_time();
    world.finish(stopped(HoldCause::Quota, false));
    let holds = world.scheduler.standings(world.now).into_iter().filter_map(|standing| standing.hold).collect();
    world.scheduler = Scheduler::new(&config(), holds, &[], false, world.now);
    world.on(Event::Woken);
    assert!(world.attempts.is_empty(), "it is still held");
    assert_eq!((world.pass_time(), world.now), (vec![1], start() + Duration::from_hours(3)));
}
