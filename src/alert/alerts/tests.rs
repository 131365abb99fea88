//! Days and weeks in no time: what is told to whom, and how often.

use super::super::case::lasted;
use super::*;
use crate::store::Fact;

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const HOOK: ReceiverName = ReceiverName::Webhook(1, "json");
const COMMAND: ReceiverName = ReceiverName::Command;

fn lms() -> Address {
    Address::parse("lms@contoso.com").unwrap()
}

fn erp() -> Address {
    Address::parse("erp@contoso.com").unwrap()
}

fn trouble(cause: Cause) -> Trouble {
    Trouble {
        title: format!("{} of {:?}", cause.kind.as_str(), cause.account),
        cause,
        severity: Severity::Critical,
        stage: 0,
        settles_after: Duration::ZERO,
        since: None,
        ends: None,
        text: String::new(),
        waiting: Some(3),
        error: None,
        codes: Vec::new(),
        todo: "do it".to_owned(),
    }
}

fn held(account: &Address) -> Trouble {
    trouble(Cause::of(Kind::Held, account))
}

/// The core with receivers that answer at once, looked at every minute.
struct World {
    alerts: Alerts,
    now: Timestamp,
    wrong: Vec<Trouble>,
    unknown: Vec<Address>,
    usable: Vec<Address>,
    away: Vec<ReceiverName>,
    wish: Option<Duration>,
    attempts: usize,
    /// Who was told what, in how many items.
    told: Vec<(ReceiverName, State, String, usize)>,
    facts: BTreeMap<(Option<Address>, String), String>,
}

impl World {
    fn new(receivers: &[ReceiverName]) -> Self {
        let now = Timestamp::from_second(1_795_000_000).unwrap();
        let mut world = Self {
            alerts: Alerts::default(),
            now,
            wrong: Vec::new(),
            unknown: Vec::new(),
            usable: Vec::new(),
            away: Vec::new(),
            wish: None,
            attempts: 0,
            told: Vec::new(),
            facts: BTreeMap::new(),
        };
        world.on(Event::Receivers(receivers.to_vec()));
        world
    }

    fn on(&mut self, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for action in self.alerts.on(event, self.now) {
                match action {
                    Action::Say(_) => {}
                    Action::Learn(Fact { account, name, value: Some(value), .. }) => {
                        self.facts.insert((account, name), value);
                    }
                    Action::Learn(Fact { account, name, .. }) => drop(self.facts.remove(&(account, name))),
                    Action::Send { to, items, what, .. } => {
                        self.attempts += 1;
                        let result = if self.away.contains(&to) {
                            Err(SendError { retry_after: self.wish, ..SendError::new("away") })
                        } else {
                            let many = items.len();
                            self.told.extend(items.into_iter().map(|item| (to, item.state, item.title, many)));
                            Ok(())
                        };
                        events.push(Event::Handed { to, what, result });
                    }
                }
            }
        }
    }

    fn look(&mut self) {
        let accounts = vec![lms(), erp()];
        let (troubles, unknown, usable) = (self.wrong.clone(), self.unknown.clone(), self.usable.clone());
        self.on(Event::Looked(Looked { accounts, troubles, unknown, usable }));
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += MINUTE;
            self.look();
        }
    }

    /// Ends and starts again, with what is on disk.
    fn restart(&mut self, receivers: &[ReceiverName]) {
        let facts: Vec<Fact> = self
            .facts
            .iter()
            .map(|((account, name), value)| Fact {
                account: account.clone(),
                name: name.clone(),
                value: Some(value.clone()),
                at: self.now,
            })
            .collect();
        self.alerts = Alerts::recall(&facts, self.now);
        self.on(Event::Receivers(receivers.to_vec()));
    }

    fn states(&self) -> Vec<State> {
        self.told.iter().map(|(_, state, ..)| *state).collect()
    }
}

#[test]
fn a_hold_of_ten_days_is_told_once_reminded_of_and_resolved() {
    let mut world = World::new(&[HOOK]);
    world.look();
    world.wrong = vec![held(&lms())];
    world.look();
    assert_eq!(world.states(), [State::Raised], "at once");
    let raised = world.now;
    let mut reminded = Vec::new();
    for _ in 0..10 * 24 * 60 {
        let before = world.told.len();
        world.run(MINUTE);
        if world.told.len() > before {
            reminded.push((world.now.as_second() - raised.as_second()) / 3600);
        }
    }
    assert_eq!(reminded, [24, 24 + 72], "then weekly");
    world.wrong.clear();
    world.look();
    assert_eq!(world.states(), [State::Raised, State::Reminder, State::Reminder, State::Solved]);
    assert_eq!(world.told[3].2, "Mail through lms@contoso.com leaves again");
    world.run(2 * DAY);
    assert_eq!(world.told.len(), 4);
    assert!(world.facts.is_empty(), "nothing is left to remember: {:?}", world.facts);
}

#[test]
fn a_restart_repeats_nothing_and_forgets_nothing() {
    let mut world = World::new(&[HOOK]);
    world.wrong = vec![held(&lms())];
    world.look();
    world.restart(&[HOOK]);
    // Just after a start nothing is known yet.
    let wrong = std::mem::take(&mut world.wrong);
    world.unknown = vec![lms()];
    world.run(5 * MINUTE);
    assert!(!world.alerts.is_well(world.now), "not known is not well");
    world.unknown.clear();
    world.wrong = wrong;
    world.run(HOUR);
    assert_eq!(world.states(), [State::Raised]);
    world.restart(&[HOOK]);
    world.run(DAY);
    assert_eq!(world.states(), [State::Raised, State::Reminder], "the reminder is due by the calendar");
    world.restart(&[HOOK]);
    world.wrong.clear();
    world.look();
    assert_eq!(world.states().last(), Some(&State::Solved), "it was put right while the relay was down");
}

#[test]
fn what_nobody_has_heard_is_told_after_a_restart() {
    let mut world = World::new(&[HOOK]);
    world.away = vec![HOOK];
    world.wrong = vec![held(&lms())];
    world.look();
    world.restart(&[HOOK]);
    world.away.clear();
    world.look();
    assert_eq!(world.states(), [State::Raised]);
}

#[test]
fn a_receiver_that_fails_stops_nobody_else_and_gets_it_later() {
    let mut world = World::new(&[HOOK, COMMAND]);
    world.away = vec![HOOK];
    world.wrong = vec![held(&lms())];
    world.run(6 * HOUR);
    assert_eq!(world.told, [(COMMAND, State::Raised, "held of Some(Address(\"lms@contoso.com\"))".to_owned(), 1)]);
    assert!((8..=15).contains(&world.attempts), "{} attempts in six hours", world.attempts);
    world.away.clear();
    world.run(HOUR);
    assert_eq!(world.told.len(), 2);
    world.away = vec![HOOK];
    world.wrong.clear();
    world.look();
    world.run(30 * MINUTE);
    world.away.clear();
    world.run(HOUR);
    let solved: Vec<_> = world.told[2..].iter().map(|(to, state, ..)| (*to, *state)).collect();
    assert_eq!(solved, [(COMMAND, State::Solved), (HOOK, State::Solved)]);
}

#[test]
fn a_clock_that_was_a_month_ahead_delays_nothing_once_it_is_right() {
    let mut world = World::new(&[HOOK, COMMAND]);
    world.now += 30 * DAY;
    world.away = vec![HOOK];
    world.wrong = vec![held(&lms())];
    world.look();
    world.wrong.push(Trouble { settles_after: 5 * MINUTE, since: Some(world.now), ..held(&erp()) });
    world.look();
    world.now -= 30 * DAY;
    world.away.clear();
    world.run(10 * MINUTE);
    for receiver in [HOOK, COMMAND] {
        let heard = world.told.iter().filter(|(name, state, ..)| (*name, *state) == (receiver, State::Raised)).count();
        assert_eq!(heard, 2, "{:?}", world.told);
    }
    world.told.clear();
    world.run(DAY);
    assert_eq!(world.told.iter().filter(|(_, state, ..)| *state == State::Reminder).count(), 4, "{:?}", world.told);
}

#[test]
fn a_receiver_may_ask_for_a_pause_but_not_for_days() {
    let mut world = World::new(&[HOOK]);
    (world.away, world.wish) = (vec![HOOK], Some(100 * DAY));
    world.wrong = vec![held(&lms())];
    world.run(59 * MINUTE);
    assert_eq!(world.attempts, 1);
    world.away.clear();
    world.run(2 * MINUTE);
    assert_eq!(world.states(), [State::Raised]);
}

#[test]
fn whoever_did_not_hear_of_it_is_not_told_that_it_is_over() {
    let mut world = World::new(&[HOOK, COMMAND]);
    world.away = vec![HOOK];
    world.wrong = vec![held(&lms())];
    world.look();
    world.wrong.clear();
    world.run(10 * MINUTE);
    world.away.clear();
    world.run(2 * DAY);
    assert!(world.told.iter().all(|(to, ..)| *to == COMMAND), "{:?}", world.told);
}

#[test]
fn a_new_receiver_hears_of_what_is_wrong_already() {
    let mut world = World::new(&[]);
    world.wrong = vec![held(&lms())];
    world.run(HOUR);
    world.on(Event::Receivers(vec![HOOK]));
    assert_eq!(world.states(), [State::Raised]);
}

#[test]
fn what_comes_at_once_is_told_at_once() {
    let mut world = World::new(&[HOOK]);
    world.wrong = vec![held(&lms()), held(&erp()), trouble(Cause::of_relay(Kind::DiskFull))];
    world.look();
    assert_eq!(world.attempts, 1);
    assert!(world.told.iter().all(|(.., many)| *many == 3) && world.told.len() == 3);
}

#[test]
fn what_passes_before_it_has_settled_tells_nothing() {
    let mut world = World::new(&[HOOK]);
    let away = Trouble { settles_after: 30 * MINUTE, ..trouble(Cause::of(Kind::Unreachable, &lms())) };
    for _ in 0..5 {
        world.wrong = vec![away.clone()];
        world.run(29 * MINUTE);
        assert!(world.alerts.is_well(world.now));
        world.wrong.clear();
        world.run(MINUTE);
    }
    assert!(world.told.is_empty());
    world.wrong = vec![away];
    world.run(31 * MINUTE);
    assert_eq!(world.states(), [State::Raised]);
    assert!(!world.alerts.is_well(world.now));
    world.wrong.clear();
    world.run(4 * MINUTE);
    assert_eq!(world.states(), [State::Raised], "it may come back");
    world.run(2 * MINUTE);
    assert_eq!(world.states(), [State::Raised, State::Solved]);
    assert!(world.alerts.is_well(world.now));
}

#[test]
fn what_comes_and_goes_is_told_as_one() {
    let mut world = World::new(&[HOOK]);
    for _ in 0..20 {
        world.wrong = vec![held(&lms())];
        world.run(5 * MINUTE);
        world.wrong.clear();
        world.run(5 * MINUTE);
    }
    assert_eq!(world.states(), [State::Raised, State::Solved, State::Raised], "from then on it is restless");
    world.run(HOUR);
    assert_eq!(world.states().last(), Some(&State::Solved));
    world.run(2 * HOUR);
    world.wrong = vec![held(&lms())];
    world.run(MINUTE);
    world.wrong.clear();
    world.run(MINUTE);
    assert_eq!(world.states().len(), 6, "after a quiet time it is new again");
}

#[test]
fn what_comes_back_while_its_end_is_being_told_ends_once_more() {
    let mut alerts = Alerts::default();
    let mut now = Timestamp::from_second(1_795_000_000).unwrap();
    let mut on = |event: Event, wait: Duration| {
        now += wait;
        let mut sent = alerts.on(event, now).into_iter().filter_map(|action| match action {
            Action::Send { items, what, .. } => Some((items[0].state, what)),
            _ => None,
        });
        sent.next_back()
    };
    let looked = |troubles| Event::Looked(Looked { accounts: vec![lms()], troubles, ..Looked::default() });
    let heard = |what| Event::Handed { to: HOOK, what, result: Ok(()) };
    on(Event::Receivers(vec![HOOK]), MINUTE);
    let (state, what) = on(looked(vec![held(&lms())]), MINUTE).unwrap();
    assert_eq!((state, on(heard(what), MINUTE)), (State::Raised, None));
    let (state, end) = on(looked(vec![]), MINUTE).unwrap();
    assert_eq!((state, on(looked(vec![held(&lms())]), MINUTE)), (State::Solved, None), "the line is busy");
    let (state, what) = on(heard(end), MINUTE).unwrap();
    assert_eq!((state, on(heard(what), MINUTE)), (State::Raised, None));
    on(looked(vec![]), MINUTE);
    assert_eq!(on(looked(vec![]), HOUR).unwrap().0, State::Solved);
}

#[test]
fn a_hold_with_another_cause_is_news_but_not_back_and_forth() {
    let mut world = World::new(&[HOOK]);
    world.wrong = vec![held(&lms())];
    world.look();
    for round in 0..60 {
        world.wrong[0].stage = round % 2;
        world.run(MINUTE);
    }
    assert!(world.told.len() <= 2, "{:?}", world.told);
    world.wrong[0].stage = 7;
    world.run(2 * HOUR);
    assert!(world.states().iter().all(|state| *state == State::Raised), "{:?}", world.told);
}

#[test]
fn every_threshold_is_told_once_and_what_was_renewed_counts_anew() {
    let mut world = World::new(&[HOOK]);
    let ends = world.now + 40 * DAY;
    let of_stage = |stage| Trouble {
        stage,
        severity: Severity::Warning,
        ends: Some(ends),
        ..trouble(Cause::of(Kind::ClientSecret, &lms()))
    };
    for stage in [1, 1, 2, 3, 4, 4, 5] {
        world.wrong = vec![of_stage(stage)];
        world.run(2 * DAY);
        world.restart(&[HOOK]);
    }
    assert_eq!(world.states(), [State::Raised; 5]);
    world.wrong = vec![of_stage(1)];
    world.run(DAY);
    assert_eq!(world.told.len(), 5, "put off is no news");
    world.wrong = vec![of_stage(2)];
    world.run(DAY);
    assert_eq!(world.told.len(), 6);
    world.wrong.clear();
    world.look();
    assert_eq!(world.told[6].2, "The client secret of lms@contoso.com no longer ends soon");
    assert!(world.alerts.is_well(world.now), "a warning is no reason for silence");
}

#[test]
fn a_mail_never_goes_through_the_account_that_it_is_about() {
    let mut world = World::new(&[ReceiverName::Mail]);
    world.usable = vec![lms()];
    world.wrong = vec![held(&lms())];
    world.run(DAY);
    assert!(world.told.is_empty());
    world.wrong = vec![Trouble { severity: Severity::Warning, ..trouble(Cause::of(Kind::ClientSecret, &lms())) }];
    world.look();
    assert_eq!(world.told.len(), 1, "a warning in advance does");
    world.wrong.push(trouble(Cause::of_relay(Kind::DiskFull)));
    world.run(DAY);
    assert_eq!(world.told.iter().filter(|(_, _, title, _)| title.starts_with("disk_full")).count(), 0);
    world.wrong = vec![held(&erp())];
    world.look();
    assert!(world.told.iter().any(|(_, _, title, _)| title.contains("erp")), "{:?}", world.told);
}

#[test]
fn an_account_that_is_gone_from_the_configuration_is_forgotten() {
    let mut world = World::new(&[HOOK]);
    let other = Address::parse("gone@contoso.com").unwrap();
    world.on(Event::Looked(Looked {
        accounts: vec![other.clone()],
        troubles: vec![held(&other)],
        ..Looked::default()
    }));
    world.run(MINUTE);
    assert_eq!(world.states(), [State::Raised]);
    assert!(world.facts.is_empty() && world.alerts.is_well(world.now));
}

#[test]
fn a_broken_keeper_is_told_before_the_relay_ends_and_its_return_after_the_next_start() {
    let mut world = World::new(&[HOOK]);
    world.look();
    world.on(Event::Broken(lms()));
    assert_eq!(world.states(), [State::Raised]);
    world.restart(&[HOOK]);
    world.look();
    assert_eq!(world.told[1].2, "The relay runs again");
}

#[test]
fn how_long_it_lasted_is_said_in_two_units() {
    let start = Timestamp::UNIX_EPOCH;
    for (seconds, said) in [
        (0, "less than a minute"),
        (60, "1 minute"),
        (7200, "2 hours"),
        (3 * 3600 + 125, "3 hours and 2 minutes"),
        (86_400, "1 day"),
        (10 * 86_400 + 3700, "10 days and 1 hour"),
    ] {
        assert_eq!(lasted(start, start + Duration::from_secs(seconds)), said);
    }
}
