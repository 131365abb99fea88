//! The call that says "all is well". Its absence is the alarm, so it is made only while nothing stands in the way of mail.

use std::time::Duration;

use jiff::Timestamp;

use super::http::Http;
use super::receiver::{SendError, read};
use crate::config::SecretSource;
use crate::signin::SecretReader;

/// How often it is called. One that fails is tried again with the next look.
const EVERY: Duration = Duration::from_mins(5);

/// When it was called.
#[derive(Debug, Default)]
pub(super) struct Heartbeat {
    called_at: Option<Timestamp>,
    fails: bool,
}

impl Heartbeat {
    /// Whether it is time again. A clock that went back must not silence it for longer than it says.
    pub fn is_due(&self, now: Timestamp) -> bool {
        self.called_at.is_none_or(|at| now < at || at.checked_add(EVERY).is_ok_and(|next| next <= now))
    }

    /// How the call of `now` went. Its failure is logged once, not every minute: whoever listens at the other end hears the silence.
    pub fn called(&mut self, result: Result<(), SendError>, now: Timestamp) {
        match result {
            Ok(()) => {
                if self.fails {
                    tracing::info!("the heartbeat is heard again");
                }
                *self = Self { called_at: Some(now), fails: false };
            }
            Err(error) => {
                if !self.fails {
                    tracing::warn!(%error, "the heartbeat could not be sent; it is tried again every minute");
                }
                self.fails = true;
            }
        }
    }
}

/// Calls it once.
pub(super) async fn call(source: &SecretSource, secrets: &SecretReader) -> Result<(), SendError> {
    let url = read(source, secrets).await?;
    Http::new(&url)?.get().await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_due_every_five_minutes_and_after_a_failure_at_once() {
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let mut heartbeat = Heartbeat::default();
        assert!(heartbeat.is_due(start));
        heartbeat.called(Ok(()), start);
        assert!(!heartbeat.is_due(start + Duration::from_secs(299)));
        assert!(heartbeat.is_due(start + EVERY));
        heartbeat.called(Err(SendError::new("away")), start + EVERY);
        assert!(heartbeat.is_due(start + EVERY));
        heartbeat.called(Ok(()), start + EVERY);
        assert!(heartbeat.is_due(start), "the clock was set back");
    }
}
