//! What opens and shuts an account, cause by cause.

use super::*;
use crate::schedule::Counted;
use crate::store::{Flow, Waiting, samples};

const ME: i64 = 1;

fn start() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

fn hold(cause: HoldCause, since: Timestamp) -> Hold {
    Hold { reply: Some("554 5.2.0 no".to_owned()), ..samples::hold(cause, since) }
}

fn held(cause: HoldCause) -> Gate {
    let mut gate = Gate::default();
    assert!(gate.raise(hold(cause, start())).unwrap().is_news);
    gate
}

fn id() -> QueueId {
    QueueId::from_number(ME)
}

fn again() -> Waiting {
    Waiting { id: id(), due_at: start(), recipients: 1, flow: Flow::default() }
}

fn stopped(cause: HoldCause, at: Timestamp) -> Outcome {
    let stop = Stop::Hold { hold: hold(cause, at), of_tenant: false };
    Outcome::Stopped { sent: Some(Counted::new(at, 0)), again: Some(again()), stop }
}

fn taken(at: Timestamp) -> Outcome {
    Outcome::Answered { sent: Some(Counted::new(at, 1)), again: None, throttled: None }
}

/// The waits between the first probes, in minutes, if each is refused as before.
fn probes(cause: HoldCause, count: usize) -> Vec<i64> {
    let (mut gate, mut now, mut waited) = (held(cause), start(), Vec::new());
    for _ in 0..count {
        let Opening::Message(when) = gate.opening() else { panic!("{cause}: {:?}", gate.opening()) };
        waited.push(when.duration_since(now).as_mins());
        assert_eq!(gate.pass(when - Duration::from_secs(1)), Pass::Shut, "{cause}");
        now = when;
        assert_eq!(gate.pass(now), Pass::One, "{cause}");
        gate.passes(id());
        assert_eq!(gate.pass(now), Pass::Shut, "one at a time");
        assert!(matches!(gate.answered(id(), &stopped(cause, now), now), Probed::Still(_)), "{cause}");
    }
    waited
}

#[test]
fn each_cause_that_shows_behind_the_dot_is_probed_at_its_own_times() {
    assert_eq!(probes(HoldCause::Blocked, 3), [60, 60, 60]);
    assert_eq!(probes(HoldCause::MailboxFull, 3), [60, 60, 60]);
    assert_eq!(probes(HoldCause::Permission, 5), [1, 5, 15, 60, 60]);
    assert_eq!(probes(HoldCause::Connection, 5), [5, 15, 30, 60, 60]);
}

#[test]
fn a_quota_is_probed_ever_later_but_when_its_day_is_over() {
    let waited = probes(HoldCause::Quota, 7);
    assert_eq!(waited, [60, 120, 240, 480, 540, 1440, 1440]);
    assert_eq!(waited[..5].iter().sum::<i64>(), 24 * 60, "then what was sent counts no more");
}

#[test]
fn what_is_accepted_opens_the_gate_for_all_at_once() {
    let mut gate = held(HoldCause::Quota);
    let now = start() + HOUR;
    gate.passes(id());
    assert_eq!(gate.answered(QueueId::from_number(7), &taken(now), now), Probed::Nothing, "not the probe");
    assert_eq!(gate.answered(id(), &taken(now), now), Probed::Free);
    assert!(gate.release());
    assert_eq!(gate.pass(now), Pass::One, "until it is known that a message has shown it");
    gate.trust();
    assert_eq!(gate.pass(now), Pass::All);
}

#[test]
fn a_probe_that_meets_something_of_its_own_ends_the_hold_and_the_next_one_goes_alone() {
    let mut gate = held(HoldCause::Blocked);
    gate.passes(id());
    let refused = Outcome::Answered { sent: None, again: None, throttled: None };
    assert_eq!(gate.answered(id(), &refused, start() + HOUR), Probed::Free);
    gate.release();
    assert_eq!(gate.pass(start() + HOUR), Pass::One);
    gate.answered(QueueId::from_number(2), &taken(start()), start() + HOUR);
    assert_eq!(gate.pass(start() + HOUR), Pass::All);
}

#[test]
fn after_a_release_one_message_goes_and_the_same_hold_comes_back_after_it() {
    for cause in HoldCause::ALL {
        let mut gate = held(cause);
        assert!(gate.release());
        assert_eq!(gate.pass(start()), Pass::One, "{cause}");
        gate.passes(id());
        assert_eq!(gate.answered(id(), &stopped(cause, start()), start()), Probed::Nothing, "{cause}");
        assert!(gate.raise(hold(cause, start())).unwrap().is_news, "{cause}");
        assert_eq!(gate.pass(start()), Pass::Shut, "{cause}");
    }
}

#[test]
fn a_probe_that_finds_out_nothing_is_made_again_soon_and_does_not_count() {
    for outcome in [
        Outcome::Unreachable { again: again(), error: "connection refused".to_owned(), retry_at: None },
        Outcome::Stopped {
            sent: None,
            again: None,
            stop: Stop::Pause { error: "421 4.3.2 busy".to_owned(), retry_at: None },
        },
    ] {
        let mut gate = held(HoldCause::Quota);
        let now = start() + HOUR;
        gate.passes(id());
        let Probed::Still(hold) = gate.answered(id(), &outcome, now) else { panic!("{outcome:?}") };
        assert_eq!((hold.probe_at, hold.probes), (Some(now + PROBE_AGAIN), 0));
    }
    for outcome in [Outcome::Gone, Outcome::NotDue(again())] {
        let mut gate = held(HoldCause::Quota);
        gate.passes(id());
        assert_eq!(gate.answered(id(), &outcome, start() + HOUR), Probed::Nothing);
        assert_eq!(gate.pass(start() + HOUR), Pass::One, "the next one is the probe");
    }
}

#[test]
fn a_probe_that_meets_another_cause_leaves_that_one_behind() {
    let mut gate = held(HoldCause::Quota);
    let now = start() + HOUR;
    gate.passes(id());
    assert_eq!(gate.answered(id(), &stopped(HoldCause::Blocked, now), now), Probed::Nothing);
    let raised = gate.raise(hold(HoldCause::Blocked, now)).unwrap();
    assert_eq!((raised.is_news, raised.hold.probe_at), (true, Some(now + HOUR)));
}

#[test]
fn a_person_who_holds_the_account_meanwhile_counts_more_than_the_probe() {
    let mut gate = held(HoldCause::Quota);
    gate.passes(id());
    assert!(gate.raise(hold(HoldCause::Manual, start())).is_some());
    assert_eq!(gate.answered(id(), &taken(start()), start()), Probed::Nothing);
    assert_eq!(gate.hold().map(|hold| hold.cause), Some(HoldCause::Manual));
    assert_eq!(gate.opening(), Opening::Unknown);
}

#[test]
fn where_a_hold_stands_survives_a_restart() {
    let mut gate = held(HoldCause::Quota);
    let now = start() + HOUR;
    gate.passes(id());
    let Probed::Still(row) = gate.answered(id(), &stopped(HoldCause::Quota, now), now) else { panic!() };
    let mut after = Gate::default();
    after.restore(row);
    assert_eq!(after.opening(), Opening::Message(now + 2 * HOUR));
    after.passes(id());
    let Probed::Still(row) = after.answered(id(), &stopped(HoldCause::Quota, now), now) else { panic!() };
    assert_eq!(row.probes, 2);
}
