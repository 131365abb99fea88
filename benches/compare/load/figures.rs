//! What a run has measured, as one line of JSON.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

/// The figures of one run.
#[derive(Debug, Serialize)]
pub struct Figures {
    /// When the clock began to run, in seconds since 1970.
    pub began_at: f64,
    /// From there to the last acknowledgement, in seconds.
    pub seconds: f64,
    /// Acknowledged messages.
    pub messages: usize,
    /// Messages that were refused and sessions that failed.
    pub failures: usize,
    /// The first of those, in words.
    pub failure: Option<String>,
    /// Acknowledged messages in a second.
    pub rate: f64,
    /// From MAIL to the acknowledgement, or from connect to the end of QUIT with a connection for each message; in milliseconds.
    pub transaction: Spread,
    /// From the final dot to its answer, in milliseconds.
    pub dot: Spread,
}

/// Where in a row of times most of them lie, in milliseconds.
#[derive(Debug, Serialize)]
pub struct Spread {
    p50: f64,
    p99: f64,
    max: f64,
}

impl Spread {
    /// Sorts `times` to find out.
    pub fn of(times: &mut [Duration]) -> Self {
        times.sort_unstable();
        let at = |part: usize| {
            let place = (times.len() * part / 100).min(times.len().saturating_sub(1));
            times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
        };
        Self { p50: at(50), p99: at(99), max: at(100) }
    }
}

/// The wall clock in seconds since 1970, to compare what two processes saw.
pub fn wall() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
