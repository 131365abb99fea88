//! Whether this machine's clock is right, by the `Date` of a server that surely has the time (RFC 9110 section 6.6.1).
//!
//! A wrong clock harms no token: their life is counted from their arrival. But it makes signed requests invalid, and every time in a
//! log or in `status` is wrong, so it is named.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::errors::Advice;
use crate::config::Provider;

/// A clock that is wrong by less is right enough: Entra ID itself allows for five minutes.
const TOLERATED: SignedDuration = SignedDuration::from_mins(2);
/// An answer that took longer says too little about the time.
const SLOWEST: SignedDuration = SignedDuration::from_mins(1);

/// What sets a clock right.
pub(super) const COMMAND: &str = "timedatectl set-ntp true";

/// How far this clock is ahead of the server's (negative: behind), by one answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// By nothing worth telling.
    Right,
    /// By so much.
    Wrong(SignedDuration),
}

/// What an answer dated `date` says about a clock that showed `asked` and `answered` around it. `took` is the same stretch by a clock
/// that does not jump. `None`: nothing, since it took too long or the clock jumped meanwhile.
pub(super) fn read(asked: Timestamp, answered: Timestamp, took: Duration, date: Timestamp) -> Option<Reading> {
    let shown = answered.duration_since(asked);
    let took = SignedDuration::try_from(took).ok()?;
    if took > SLOWEST || (shown - took).abs() > TOLERATED {
        return None;
    }
    // The answer was dated at some moment in between, and in whole seconds.
    let ahead = answered.duration_since(date) - took / 2;
    let doubt = took / 2 + SignedDuration::from_secs(1);
    Some(if ahead.abs() > TOLERATED + doubt { Reading::Wrong(ahead) } else { Reading::Right })
}

/// "this machine's clock is 7 minutes ahead of Microsoft's".
pub(super) fn in_words(ahead: SignedDuration, provider: Provider) -> String {
    let whose = if provider == Provider::Microsoft { "Microsoft's" } else { "the provider's" };
    let direction = if ahead.is_negative() { "behind" } else { "ahead of" };
    let seconds = ahead.unsigned_abs().as_secs();
    let (number, unit) = match seconds {
        0..=7_199 => (seconds.saturating_add(30) / 60, "minutes"),
        7_200..=172_799 => (seconds.saturating_add(1_800) / 3_600, "hours"),
        _ => (seconds.saturating_add(43_200) / 86_400, "days"),
    };
    format!("this machine's clock is {number} {unit} {direction} {whose}")
}

/// What is told of a clock that is wrong.
pub(super) fn advice(ahead: SignedDuration, provider: Provider) -> Advice {
    let words = in_words(ahead, provider);
    let sentence = format!("T{}: set up NTP", words.strip_prefix('t').unwrap_or(&words));
    Advice { sentence, command: COMMAND.to_owned() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_clock_is_wrong_from_two_minutes_on_in_either_direction() {
        let now = 1_800_000_000;
        let after = |ahead: i64| read(at(now), at(now + 2), Duration::from_secs(2), at(now + 1 - ahead));
        for right in [-120, -60, 0, 60, 120] {
            assert_eq!(after(right), Some(Reading::Right), "{right}");
        }
        for wrong in [-86_400, -123, 123, 420] {
            assert_eq!(after(wrong), Some(Reading::Wrong(SignedDuration::from_secs(wrong))), "{wrong}");
        }
    }

    #[test]
    fn a_slow_answer_is_given_the_benefit_of_the_doubt_and_a_jump_proves_nothing() {
        let now = 1_800_000_000;
        let slow = Duration::from_secs(40);
        assert_eq!(read(at(now), at(now + 40), slow, at(now - 110)), Some(Reading::Right));
        assert_eq!(read(at(now), at(now + 90), Duration::from_secs(90), at(now - 500)), None);
        assert_eq!(read(at(now), at(now + 3_600), Duration::from_secs(1), at(now)), None, "jumped forward meanwhile");
        assert_eq!(read(at(now), at(now - 3_600), Duration::from_secs(1), at(now)), None, "jumped back meanwhile");
    }

    #[test]
    fn it_is_said_in_words() {
        for (seconds, expected) in [
            (420, "this machine's clock is 7 minutes ahead of Microsoft's"),
            (-150, "this machine's clock is 3 minutes behind Microsoft's"),
            (3 * 3_600, "this machine's clock is 3 hours ahead of Microsoft's"),
            (-10 * 86_400, "this machine's clock is 10 days behind Microsoft's"),
        ] {
            assert_eq!(in_words(SignedDuration::from_secs(seconds), Provider::Microsoft), expected);
        }
        assert!(in_words(SignedDuration::MIN, Provider::Custom).ends_with("behind the provider's"));
        let told = advice(SignedDuration::from_mins(7), Provider::Microsoft).to_string();
        assert_eq!(
            told,
            "This machine's clock is 7 minutes ahead of Microsoft's: set up NTP. Then: timedatectl set-ntp true"
        );
    }

    proptest! {
        #[test]
        fn no_date_makes_it_panic(asked in any::<i32>(), answered in any::<i32>(), took in any::<u64>(), date in any::<i32>()) {
            let at = |second: i32| at(i64::from(second));
            if let Some(Reading::Wrong(skew)) = read(at(asked), at(answered), Duration::from_secs(took), at(date)) {
                in_words(skew, Provider::Custom);
            }
            read(Timestamp::MIN, Timestamp::MAX, Duration::MAX, at(date));
            read(Timestamp::MAX, Timestamp::MAX, Duration::ZERO, Timestamp::MIN);
        }
    }
}
