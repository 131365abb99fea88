//! The pace, as a login's messages leave.

use super::*;

const EXCHANGE: Limits = Limits { messages_per_minute: 30, connections: 3, recipients_per_day: 10_000 };

fn start() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

fn id(n: i64) -> QueueId {
    QueueId::from_number(n)
}

/// Sends as fast as it may, `took` each, one after another; when each one left.
fn send(pace: &mut Pace, count: i64, took: Duration) -> Vec<Timestamp> {
    let mut now = start();
    let mut left = Vec::new();
    for n in 0..count {
        match pace.turn(now, 1, Lane::Normal) {
            Turn::Now => {}
            Turn::At(when) => {
                assert!(when > now, "a wait that is over is no wait");
                now = when;
                assert_eq!(pace.turn(now, 1, Lane::Normal), Turn::Now);
            }
            Turn::Busy => panic!("nothing is under way"),
        }
        left.push(now);
        pace.start(now, id(n), 1, Lane::Normal);
        now += took;
        pace.finish(id(n), Some((now, 1)));
    }
    left
}

#[test]
fn two_leave_at_once_and_then_one_every_two_seconds_but_an_urgent_one_never_waits_behind_them() {
    let mut pace = Pace::new(EXCHANGE);
    let left = send(&mut pace, 5, Duration::ZERO);
    let seconds: Vec<i64> = left.iter().map(|at| at.duration_since(start()).as_secs()).collect();
    assert_eq!(seconds, [0, 0, 2, 4, 6]);
    assert_eq!(pace.turn(left[4], 1, Lane::Urgent), Turn::Now);
    assert!(matches!(pace.turn(left[4], 1, Lane::Bulk), Turn::At(_)));
}

#[test]
fn no_minute_ever_holds_more_than_is_allowed() {
    for took in [0, 150, 2_000] {
        let left = send(&mut Pace::new(EXCHANGE), 2_000, Duration::from_millis(took));
        for window in left.windows(31) {
            let span = window[30].duration_since(window[0]);
            assert!(span.as_millis() > 60_000, "31 messages within {span:?}");
        }
    }
}

#[test]
fn nearly_all_of_the_allowance_is_used() {
    let left = send(&mut Pace::new(EXCHANGE), 2_000, Duration::from_millis(200));
    let minutes = left[1_999].duration_since(left[0]).as_secs_f64() / 60.0;
    assert!(2_000.0 / minutes > 30.0 * 0.98, "{}", 2_000.0 / minutes);
}

#[test]
fn as_many_are_under_way_as_there_are_sessions_and_the_last_one_is_for_urgent_mail() {
    let mut pace = Pace::new(EXCHANGE);
    for n in 0..2 {
        assert_eq!(pace.turn(start(), 1, Lane::Normal), Turn::Now);
        pace.start(start(), id(n), 1, Lane::Normal);
    }
    assert!(matches!(pace.turn(start(), 1, Lane::Normal), Turn::At(_)));
    assert_eq!(pace.turn(start(), 1, Lane::Urgent), Turn::Now);
    pace.start(start(), id(2), 1, Lane::Urgent);
    assert_eq!(pace.turn(start(), 1, Lane::Urgent), Turn::Busy);
    pace.finish(id(1), None);
    let later = start() + Duration::from_secs(10);
    assert_eq!(pace.turn(later, 1, Lane::Normal), Turn::Busy, "urgent mail is about");
    assert_eq!(pace.turn(start() + LATELY, 1, Lane::Normal), Turn::Now);
}

#[test]
fn other_mail_gets_the_last_session_when_the_rest_are_too_slow_for_the_pace() {
    let mut pace = Pace::new(EXCHANGE);
    for n in 0..2 {
        pace.start(start(), id(n), 1, Lane::Normal);
    }
    let Turn::At(when) = pace.turn(start(), 1, Lane::Normal) else { panic!("it is for urgent mail") };
    assert_eq!(when, start() + Duration::from_secs(4));
    assert_eq!(pace.turn(when, 1, Lane::Normal), Turn::Now);
}

#[test]
fn while_urgent_mail_is_about_a_sixth_of_the_minute_is_kept_for_it() {
    let mut pace = Pace::new(EXCHANGE);
    pace.start(start(), id(-1), 1, Lane::Urgent);
    pace.finish(id(-1), Some((start(), 1)));
    let (mut now, mut n) = (start(), 0);
    while now < start() + Duration::from_mins(1) {
        match pace.turn(now, 1, Lane::Bulk) {
            Turn::Now => {
                pace.start(now, id(n), 1, Lane::Bulk);
                pace.finish(id(n), Some((now, 1)));
                n += 1;
            }
            Turn::At(when) => now = when,
            Turn::Busy => panic!("nothing is under way"),
        }
    }
    assert_eq!(n, 25);
    now = start() + Duration::from_secs(58);
    let mut urgent = Pace { last: now, ..pace };
    for n in 100..103 {
        assert_eq!(urgent.turn(now, 1, Lane::Urgent), Turn::Now);
        urgent.start(now, id(n), 1, Lane::Urgent);
        urgent.finish(id(n), Some((now, 1)));
    }
}

#[test]
fn a_small_limit_is_used_all_the_same() {
    for (messages_per_minute, connections) in [(1, 1), (1, 3), (2, 2), (3, 1), (5, 2), (6, 1), (7, 10)] {
        let mut pace = Pace::new(Limits { messages_per_minute, connections, recipients_per_day: 9 });
        pace.start(start(), id(-1), 1, Lane::Urgent);
        pace.finish(id(-1), Some((start(), 1)));
        let left = send(&mut pace, 8, Duration::from_millis(100));
        let minutes = left[7].duration_since(start()).as_secs() / 60;
        assert!(minutes <= 9 / i64::from(messages_per_minute) + 2, "{messages_per_minute}: {minutes} minutes");
    }
}

#[test]
fn a_session_without_a_message_takes_a_place_and_nothing_else() {
    let mut pace = Pace::new(Limits { connections: 1, ..EXCHANGE });
    let account = Address::parse("lms@contoso.com").unwrap();
    pace.visit(&account);
    assert_eq!(pace.turn(start(), 1, Lane::Normal), Turn::Busy);
    assert_eq!((pace.last_minute(start()), pace.is_idle()), (0, false));
    pace.leave(&account);
    pace.leave(&account);
    assert_eq!(pace.turn(start(), 1, Lane::Normal), Turn::Now);
    assert!(pace.is_idle());
}

/// When what counts now no longer does.
const ONE_DAY: Duration = Duration::from_mins(24 * 60 + 1);

#[test]
fn the_day_is_a_rolling_one_and_survives_a_restart() {
    let limits = Limits { recipients_per_day: 10, ..EXCHANGE };
    let mut pace = Pace::new(limits);
    pace.start(start(), id(1), 8, Lane::Normal);
    pace.finish(id(1), Some((start(), 8)));
    let noon = start() + Duration::from_hours(12);
    assert_eq!(pace.turn(noon, 1, Lane::Normal), Turn::Now);
    assert_eq!(pace.turn(noon, 2, Lane::Urgent), Turn::Now);
    let Turn::At(when) = pace.turn(noon, 3, Lane::Urgent) else { panic!("the day is full") };
    assert_eq!(when, start() + ONE_DAY);

    let mut again = Pace::new(limits);
    let login = crate::message::Address::parse("lms@contoso.com").unwrap();
    again.restore(&[Sent { login, at: start(), recipients: 8, outside: 0 }], noon);
    assert_eq!(again.turn(noon, 3, Lane::Urgent), Turn::At(when));
    assert_eq!(again.turn(when, 3, Lane::Urgent), Turn::Now);
}

#[test]
fn the_last_tenth_of_the_day_is_for_urgent_mail_and_what_that_has_used_does_not_count_against_the_rest() {
    let mut pace = Pace::new(Limits { recipients_per_day: 100, ..EXCHANGE });
    let use_up = |pace: &mut Pace, n, recipients, lane| {
        pace.start(start(), id(n), recipients, lane);
        pace.finish(id(n), Some((start(), recipients)));
    };
    use_up(&mut pace, 1, 10, Lane::Urgent);
    use_up(&mut pace, 2, 85, Lane::Bulk);
    let later = start() + Duration::from_mins(30);
    assert_eq!(pace.turn(later, 5, Lane::Normal), Turn::Now);
    assert_eq!(pace.turn(later, 6, Lane::Normal), Turn::At(start() + ONE_DAY));
    let mut pace = Pace::new(Limits { recipients_per_day: 100, ..EXCHANGE });
    use_up(&mut pace, 1, 90, Lane::Bulk);
    assert_eq!(pace.turn(later, 1, Lane::Normal), Turn::At(start() + ONE_DAY));
    assert_eq!(pace.turn(later, 10, Lane::Urgent), Turn::Now);
    assert_eq!(pace.turn(later, 11, Lane::Urgent), Turn::At(start() + ONE_DAY));
}

#[test]
fn a_day_is_not_counted_anew_because_the_clock_was_wrong() {
    let limits = Limits { recipients_per_day: 100, ..EXCHANGE };
    for away in [Duration::from_hours(2), Duration::from_hours(48), Duration::from_hours(24 * 4000)] {
        // Ahead for a while: what was sent before, and meanwhile, counts once the clock is right again.
        let mut pace = Pace::new(limits);
        pace.start(start(), id(1), 60, Lane::Normal);
        pace.finish(id(1), Some((start(), 60)));
        let ahead = start() + away;
        pace.turn(ahead, 1, Lane::Normal);
        pace.start(ahead, id(2), 20, Lane::Normal);
        pace.finish(id(2), Some((ahead, 20)));
        let right = start() + Duration::from_mins(5);
        assert_eq!(pace.last_day(right), 80, "{away:?}");
        assert_eq!(pace.last_day(right + ONE_DAY), 0, "{away:?}");
        // Behind for a while: nothing is counted twice, nor for longer than a day.
        let mut pace = Pace::new(limits);
        pace.start(start(), id(1), 60, Lane::Normal);
        pace.finish(id(1), Some((start(), 60)));
        let behind = start() - away;
        assert_eq!(pace.last_day(behind), 60);
        assert_eq!(pace.last_day(behind + Duration::from_hours(3)), 60);
        assert_eq!(pace.last_day(behind + ONE_DAY), 0);
    }
    // The relay was started anew while the clock was behind: rows from the future have been sent by now.
    let login = crate::message::Address::parse("lms@contoso.com").unwrap();
    let mut pace = Pace::new(limits);
    pace.restore(&[Sent { login, at: start() + Duration::from_hours(72), recipients: 60, outside: 0 }], start());
    assert_eq!(pace.last_day(start()), 60);
    assert_eq!(pace.last_day(start() + ONE_DAY), 0);
    assert_eq!(pace.turn(start() + Duration::from_mins(2), 1, Lane::Normal), Turn::Now);
}

#[test]
fn a_message_larger_than_the_day_leaves_when_the_day_is_empty() {
    let mut pace = Pace::new(Limits { recipients_per_day: 10, ..EXCHANGE });
    assert_eq!(pace.turn(start(), 50, Lane::Normal), Turn::Now);
    pace.start(start(), id(1), 50, Lane::Normal);
    pace.finish(id(1), Some((start(), 50)));
    assert!(matches!(pace.turn(start() + Duration::from_mins(2), 1, Lane::Normal), Turn::At(_)));
}

#[test]
fn a_clock_set_back_stops_the_mail_for_a_minute_at_most_and_lets_no_second_minute_follow_the_first() {
    let mut pace = Pace::new(EXCHANGE);
    for n in 0..30 {
        pace.start(start(), id(n), 1, Lane::Normal);
        pace.finish(id(n), Some((start(), 1)));
    }
    let yesterday = start() - Duration::from_hours(48);
    assert_eq!(pace.last_minute(yesterday), 30);
    assert_eq!(pace.turn(yesterday, 1, Lane::Normal), Turn::At(yesterday + WINDOW));
    assert_eq!(pace.turn(yesterday + WINDOW, 1, Lane::Normal), Turn::Now);
}

#[test]
fn after_a_crash_the_sessions_that_may_have_sent_are_counted() {
    let mut pace = Pace::new(EXCHANGE);
    pace.assume_unrecorded(start());
    assert_eq!(pace.last_minute(start()), 3);
    assert!(matches!(pace.turn(start(), 1, Lane::Normal), Turn::At(_)));
}

const SAID: &str = "432 4.3.2 Concurrent connections limit exceeded.";

#[test]
fn a_refused_rate_is_halved_down_to_a_sixth_and_comes_back_in_steps_as_mail_is_taken() {
    let mut pace = Pace::new(EXCHANGE);
    let mut now = start();
    for level in [15, 7, 5, 5] {
        // Messages that were under way together.
        pace.throttled(now, Throttle::Rate, SAID);
        pace.throttled(now + Duration::from_secs(29), Throttle::Rate, SAID);
        let slowed = pace.slowdowns(now);
        let [(Throttle::Rate, slowdown)] = slowed.as_slice() else { panic!("{slowed:?}") };
        assert_eq!((slowdown.level, slowdown.since, slowdown.said.as_str()), (level, start(), SAID));
        now += Duration::from_secs(31);
    }
    let left = send(&mut pace.clone(), 20, Duration::ZERO);
    assert!(left[19].duration_since(start()).as_secs() > 180, "5 a minute");
    let mut levels = Vec::new();
    for _ in 0..60 {
        now += Duration::from_secs(15);
        pace.taken(now);
        levels.extend(pace.slowdowns(now).first().map(|(_, slowdown)| slowdown.level));
    }
    levels.dedup();
    assert_eq!(levels, [5, 10, 15, 20, 25]);
    assert_eq!(pace.slowdowns(now), []);
}

#[test]
fn refused_sessions_are_fewer_for_some_minutes_but_never_none() {
    let mut pace = Pace::new(EXCHANGE);
    for n in 0..3 {
        let now = start() + Duration::from_mins(n);
        pace.throttled(now, Throttle::Sessions, SAID);
        assert_eq!(pace.slowdowns(now)[0].1.level, 1);
    }
    let now = start() + Duration::from_mins(3);
    assert_eq!(pace.turn(now, 1, Lane::Normal), Turn::Now, "the only session is for everybody");
    pace.start(now, id(1), 1, Lane::Normal);
    assert_eq!(pace.turn(now, 1, Lane::Urgent), Turn::Busy);
    pace.finish(id(1), Some((now, 1)));
    pace.taken(now);
    assert_eq!(pace.slowdowns(now)[0].1.level, 1, "too soon");
    pace.taken(start() + Duration::from_mins(4));
    assert_eq!(pace.slowdowns(start() + Duration::from_mins(4))[0].1.level, 2);
    pace.taken(start() + Duration::from_mins(6));
    assert_eq!(pace.slowdowns(start() + Duration::from_mins(6)), []);
}

#[test]
fn a_slowdown_is_over_after_an_hour_without_mail_and_follows_a_clock_that_goes_back() {
    let mut pace = Pace::new(EXCHANGE);
    pace.throttled(start(), Throttle::Rate, SAID);
    let yesterday = start() - Duration::from_hours(24);
    assert_eq!(pace.slowdowns(start()).len(), 1);
    assert_eq!(pace.slowdowns(yesterday)[0].1.since, yesterday);
    assert_eq!(pace.slowdowns(yesterday + Duration::from_hours(1)), []);
}

#[test]
fn accounts_that_share_a_login_share_its_tighter_limits() {
    let small = Limits { messages_per_minute: 10, connections: 5, recipients_per_day: 20_000 };
    let both = Limits { messages_per_minute: 10, connections: 3, recipients_per_day: 10_000 };
    assert_eq!(EXCHANGE.and(small), both);
}
