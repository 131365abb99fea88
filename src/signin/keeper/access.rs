//! The access token in use, and the times that go with it.

use std::time::Duration;

use jiff::Timestamp;

use crate::signin::answer::Tokens;
use crate::signin::shelf::StoredAccess;
use crate::signin::status::AccessToken;
use crate::signin::timing::{earlier, later, margin, rest};

/// A 535 for a token that itself replaced a refused one this recently does not bring another: the token is not what is wrong.
const REPLACED_LATELY: Duration = Duration::from_mins(10);

#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) token: AccessToken,
    pub(super) refresh_at: Timestamp,
    received_at: Timestamp,
    /// It took the place of a token that Exchange had refused.
    after_rejection: bool,
}

impl Access {
    /// As it came just now. `jitter` is a number in `0.0..1.0`.
    pub(super) fn received(tokens: &Tokens, version: u64, after_rejection: bool, now: Timestamp, jitter: f64) -> Self {
        let life = tokens.life();
        let expires_at = earlier(later(now, life), margin(life));
        Self {
            token: AccessToken { secret: tokens.access.clone(), version, expires_at },
            refresh_at: later(now, rest(life, jitter)),
            received_at: now,
            after_rejection,
        }
    }

    /// That of an earlier run, to be replaced at once; `None` if it has ended. It is worth no more than it was given: if the calendar has
    /// gone back since it came, nobody knows how old it is.
    pub(super) fn kept(kept: &StoredAccess, version: u64, now: Timestamp) -> Option<Self> {
        let received_at = kept.received_at.min(now);
        let expires_at = earlier(later(received_at, kept.life), margin(kept.life));
        let token = AccessToken { secret: kept.token.clone(), version, expires_at };
        (expires_at > now).then_some(Self { token, refresh_at: now, received_at, after_rejection: false })
    }

    /// Whether it has taken the place of a token that Exchange had refused, and not long ago.
    pub(super) fn is_replaced_lately(&self, now: Timestamp) -> bool {
        self.after_rejection && now < later(self.received_at, REPLACED_LATELY)
    }

    /// Moves its times along with a calendar that went back.
    pub(super) fn shift(&mut self, back: Duration) {
        for at in [&mut self.token.expires_at, &mut self.received_at, &mut self.refresh_at] {
            *at = earlier(*at, back);
        }
    }
}
