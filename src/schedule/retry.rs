//! When a message is tried again, and when it is given up: pure rules over `[queue]`.

use std::time::Duration;

use crate::config::Queue;

/// How much a wait may be stretched, so that mail which failed together does not come back together.
const JITTER: f64 = 0.2;

/// What happens to a message after a try that counted and failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Once more after this long; `tried_for` is what it has been tried in all once that wait is over.
    After {
        /// The wait.
        delay: Duration,
        /// The sum of its waits: time on hold, on pace or on quota is not in it.
        tried_for: Duration,
    },
    /// It was tried for `give_up_after`.
    GiveUp,
}

/// Decides after the `tries`-th try that failed (the first is 1) of a message tried for `tried_for` so far.
///
/// `wait` is what the reply itself asks for, in place of the configured step. It counts as time of trying like any other: a recipient
/// whose every hour is full would otherwise never be given up.
///
/// `jitter` is a number in `0.0..1.0`; the caller draws it, so tests need no randomness.
pub fn after_failure(queue: &Queue, tries: u32, tried_for: Duration, wait: Option<Duration>, jitter: f64) -> Retry {
    if tried_for >= queue.give_up_after {
        return Retry::GiveUp;
    }
    let delay = wait.map_or_else(|| delay(&queue.retry, tries, jitter), |wait| stretched(wait, jitter));
    Retry::After { delay, tried_for: tried_for + delay }
}

/// How long to wait after failure number `failures` (the first is 1); the last step repeats.
pub fn delay(steps: &[Duration], failures: u32, jitter: f64) -> Duration {
    let step = (failures.max(1) as usize - 1).min(steps.len().saturating_sub(1));
    stretched(steps.get(step).copied().unwrap_or(Duration::from_mins(1)), jitter)
}

fn stretched(wait: Duration, jitter: f64) -> Duration {
    let wait = wait.mul_f64(1.0 + JITTER * jitter);
    // The store keeps whole milliseconds: what is compared is what is kept.
    Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue {
        Queue {
            retry: [1, 5, 15].map(Duration::from_mins).to_vec(),
            give_up_after: Duration::from_hours(1),
            journal_days: 30,
            dead_letter_days: 30,
            record_subjects: true,
            min_free_disk: 0,
        }
    }

    #[test]
    fn the_steps_are_walked_and_the_last_one_repeats() {
        let waits: Vec<u64> = (1..=5).map(|n| delay(&queue().retry, n, 0.0).as_secs() / 60).collect();
        assert_eq!(waits, [1, 5, 15, 15, 15]);
    }

    #[test]
    fn jitter_only_ever_stretches_a_wait_by_a_fifth() {
        assert_eq!(delay(&queue().retry, 1, 0.5), Duration::from_secs(66));
        assert!(delay(&queue().retry, 1, 0.999) < Duration::from_secs(72));
    }

    #[test]
    fn a_message_is_given_up_once_its_waits_add_up() {
        let queue = queue();
        let (mut tries, mut tried_for) = (0, Duration::ZERO);
        while let Retry::After { tried_for: sum, .. } = after_failure(&queue, tries + 1, tried_for, None, 0.0) {
            tries += 1;
            tried_for = sum;
        }
        // 1 + 5 + 15 + 15 + 15 + 15 = 66 minutes: the last try comes after the hour is over.
        assert_eq!((tries, tried_for), (6, Duration::from_mins(66)));
    }

    #[test]
    fn what_the_reply_asks_for_takes_the_place_of_a_step_and_counts_as_trying() {
        let mut queue = queue();
        let hour = Duration::from_hours(1);
        let asked = |queue: &Queue, tried_for, jitter| after_failure(queue, 1, tried_for, Some(hour), jitter);
        assert_eq!(asked(&queue, Duration::ZERO, 0.0), Retry::After { delay: hour, tried_for: hour });
        assert_eq!(asked(&queue, hour, 0.0), Retry::GiveUp);
        queue.give_up_after = Duration::from_hours(2);
        let delay = Duration::from_mins(66);
        assert_eq!(asked(&queue, hour, 0.5), Retry::After { delay, tried_for: hour + delay }, "stretched like a step");
    }
}
