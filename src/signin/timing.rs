//! When a keeper acts next: refreshing, backing off, probing. Numbers in, numbers out.
//!
//! `jitter` is a number in `0.0..1.0`, drawn once per account, so that many accounts do not ask in step.

use std::time::Duration;

use jiff::Timestamp;

const MINUTE: Duration = Duration::from_mins(1);
/// A refresh token is used at least this often, mail or not.
const LONGEST_REST: Duration = Duration::from_hours(24);
/// However short a token lives, the endpoint is not asked more often than this: it would answer AADSTS50196.
const SHORTEST_REST: Duration = Duration::from_secs(5);

/// How long after its arrival a token of this life is replaced: at 50 to 60 % of it, so that at least 40 % (or 15 minutes, if that
/// is less) is left to get through an outage; and at least daily.
pub(super) fn rest(life: Duration, jitter: f64) -> Duration {
    let left = (15 * MINUTE).min(life.mul_f64(0.4));
    let about = life.mul_f64(0.6).min(life.saturating_sub(left)).min(LONGEST_REST);
    about.mul_f64(1.0 - jitter / 6.0).max(SHORTEST_REST)
}

/// How long before its end a token is no longer handed out: the request's own way, and the SMTP dialogue still to come.
pub(super) fn margin(life: Duration) -> Duration {
    MINUTE.min(life / 10)
}

/// How long to wait after this many failures in a row (from 1): 5 s, doubled up to 15 minutes, a little less by the jitter; never
/// less than what the endpoint asked for.
pub(super) fn backoff(failures: u32, asked: Option<Duration>, jitter: f64) -> Duration {
    let doubled = 5_u64 << failures.saturating_sub(1).min(8);
    let wait = Duration::from_secs(doubled).min(15 * MINUTE).mul_f64(1.0 - 0.2 * jitter);
    wait.max(asked.unwrap_or_default())
}

/// How long to wait before the next write of a token that could not be written: it is already the only good one.
pub(super) fn write_backoff(failures: u32) -> Duration {
    Duration::from_secs(5_u64 << failures.saturating_sub(1).min(4)).min(MINUTE)
}

/// How long until a sign-in that was refused for certain is tried again, after this many probes.
pub(super) fn probe(probes: u32) -> Duration {
    match probes {
        0 => 15 * MINUTE,
        1 => 60 * MINUTE,
        _ => 360 * MINUTE,
    }
}

/// `at + by`, or the end of time.
pub(super) fn later(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// `at - by`, or the beginning of time.
pub(super) fn earlier(at: Timestamp, by: Duration) -> Timestamp {
    at.checked_sub(by).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(duration: Duration) -> u64 {
        duration.as_secs() / 60
    }

    #[test]
    fn a_token_is_replaced_at_about_60_percent_with_enough_left() {
        let table = [(10, 6), (20, 12), (60, 36), (75, 45), (90, 54), (24 * 60, 864), (72 * 60, 1440)];
        for (life, expected) in table {
            assert_eq!(minutes(rest(life * MINUTE, 0.0)), expected, "{life} minutes");
        }
        for life in 1..200_u32 {
            for jitter in [0.0, 0.3, 0.999] {
                let life = life * MINUTE;
                let rest = rest(life, jitter);
                let left = life.saturating_sub(rest);
                assert!(rest >= life.mul_f64(0.49), "not much earlier than at half: {life:?}");
                // Rounding of floats: a millisecond is nothing here.
                assert!(left + Duration::from_millis(1) >= (15 * MINUTE).min(life.mul_f64(0.4)), "{life:?}");
            }
        }
    }

    #[test]
    fn tokens_that_hardly_live_do_not_make_it_loop() {
        for life in [0, 1, 5, 8] {
            assert_eq!(rest(Duration::from_secs(life), 0.5), SHORTEST_REST);
        }
    }

    #[test]
    fn failures_are_met_with_longer_and_longer_waits() {
        let waits: Vec<u64> = (1..=10).map(|failures| backoff(failures, None, 0.0).as_secs()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]);
        assert!(backoff(u32::MAX, None, 0.9) >= 12 * MINUTE);
        assert_eq!(backoff(1, Some(45 * MINUTE), 0.5), 45 * MINUTE);
        assert_eq!(backoff(9, Some(MINUTE), 0.0), 15 * MINUTE);
    }

    #[test]
    fn a_refused_sign_in_is_probed_after_15_minutes_an_hour_and_then_every_6_hours() {
        assert_eq!([0, 1, 2, 9].map(|probes| minutes(probe(probes))), [15, 60, 360, 360]);
    }
}
