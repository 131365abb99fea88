//! The calendar's time: due times, token life, pace, thresholds.
//!
//! Wall time, so that a suspended machine wakes up with the right idea of what is due, and replaceable, so that a day away is a
//! test of milliseconds. Socket deadlines do not use it: they belong to tokio's time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

/// The longest a sleeper trusts its arithmetic: after this it looks at the wall clock again, so that a suspend or a clock jump is
/// noticed within a minute.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// Tells the time and waits for it. Cheap to clone; clones share one time.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    manual: Option<Arc<Manual>>,
}

#[derive(Debug)]
struct Manual {
    now: Mutex<Timestamp>,
    moved: watch::Sender<()>,
}

impl Clock {
    /// The machine's wall clock.
    pub fn system() -> Self {
        Self { manual: None }
    }

    /// A clock that stands still until [`Clock::advance`] or [`Clock::set`] moves it.
    pub fn manual(start: Timestamp) -> Self {
        let manual = Manual { now: Mutex::new(start), moved: watch::Sender::new(()) };
        Self { manual: Some(Arc::new(manual)) }
    }

    /// The time now, in whole milliseconds: what the store keeps is what was compared.
    pub fn now(&self) -> Timestamp {
        let now = match &self.manual {
            None => Timestamp::now(),
            Some(manual) => *manual.now.lock().unwrap_or_else(PoisonError::into_inner),
        };
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }

    /// Moves a manual clock forward and wakes who sleeps until then. The system clock cannot be moved.
    pub fn advance(&self, by: Duration) {
        let now = self.now();
        self.set(now + by);
    }

    /// Sets a manual clock, backwards too, and wakes who sleeps. The system clock cannot be set.
    pub fn set(&self, to: Timestamp) {
        if let Some(manual) = &self.manual {
            *manual.now.lock().unwrap_or_else(PoisonError::into_inner) = to;
            manual.moved.send_replace(());
        }
    }

    /// Waits until `when` has come. Returns at once if it is in the past.
    pub async fn sleep_until(&self, when: Timestamp) {
        let mut moved = self.manual.as_ref().map(|manual| manual.moved.subscribe());
        loop {
            let now = self.now();
            if now >= when {
                return;
            }
            match &mut moved {
                None => {
                    let left = Duration::try_from(when.duration_since(now)).unwrap_or_default();
                    tokio::time::sleep(left.min(LOOK_AGAIN)).await;
                }
                // The sender lives in `self`: it cannot be gone while this waits.
                Some(moved) => drop(moved.changed().await),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_manual_clock_reaches_its_time() {
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let clock = Clock::manual(start);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(start + Duration::from_hours(1)).await }
        });
        clock.advance(Duration::from_secs(3_599));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        sleeper.await.unwrap();
    }

    #[tokio::test]
    async fn a_time_in_the_past_is_not_waited_for() {
        let clock = Clock::system();
        clock.sleep_until(clock.now() - Duration::from_secs(1)).await;
    }
}
