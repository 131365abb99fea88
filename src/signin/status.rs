//! What callers see of a sign-in: the token, the reason there is none, and what `status` shows. Values only.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::errors::Advice;
use super::inspect::Finding;
use super::skew;
use crate::config::{Grant, Provider, Secret};
use crate::message::Address;
use crate::store::HoldCause;

/// An access token that is good now. Printing it prints no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessToken {
    /// The token.
    pub secret: Secret,
    /// Grows with every token of the account; tells which one was rejected.
    pub version: u64,
    /// Until when it is handed out: up to a minute before it really ends.
    pub expires_at: Timestamp,
}

impl AccessToken {
    /// Whether it may still be handed out.
    pub fn usable_at(&self, now: Timestamp) -> bool {
        now < self.expires_at
    }
}

/// Why there is no access token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoToken {
    /// Certain: it takes a person. The same was told as [`SignInEvent::Dead`](super::SignInEvent::Dead).
    #[error("{cause}: {error}")]
    Held {
        /// What it waits for.
        cause: HoldCause,
        /// In Microsoft's words, or ours.
        error: String,
        /// AADSTS numbers.
        codes: Vec<u32>,
    },
    /// It passes: the endpoint is away, or throttles, or the disk is full.
    #[error("{error}")]
    Unavailable {
        /// In words.
        error: String,
        /// When it is tried again.
        retry_at: Timestamp,
    },
    /// The configuration has no such account.
    #[error("the configuration has no account for this mailbox")]
    UnknownAccount,
}

/// A failure that passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// In words.
    pub error: String,
    /// AADSTS numbers.
    pub codes: Vec<u32>,
    /// What the administrator is told.
    pub advice: Advice,
    /// When it is tried again.
    pub retry_at: Timestamp,
}

/// A definite no, and how it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HoldView {
    /// What it waits for.
    pub cause: HoldCause,
    /// Microsoft's own `error_description`, or our words if it was not Microsoft.
    pub error: String,
    /// AADSTS numbers.
    pub codes: Vec<u32>,
    /// What the administrator does about it.
    pub advice: Advice,
    /// When it was first said.
    pub since: Timestamp,
    /// When the stored sign-in is tried again; `None`: there is none to try.
    pub probe_at: Option<Timestamp>,
    /// How many probes have failed.
    pub probes: u32,
}

/// What `status` shows of one sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignInStatus {
    /// The account.
    pub mailbox: Address,
    /// How it gets its tokens.
    pub grant: Grant,
    /// Who signed in, as far as the access token told.
    pub signed_in_as: Option<String>,
    /// When the person signed in; with the application grant, when the first access token came.
    pub since: Option<Timestamp>,
    /// When the last refresh succeeded.
    pub last_refresh: Option<Timestamp>,
    /// When the next one is made: the usual one, a retry or a probe.
    pub next_refresh: Option<Timestamp>,
    /// Until when at least the stored sign-in works without another refresh, by what the provider promises; `None`: unknown, or it is
    /// refused already.
    pub good_until_at_least: Option<Timestamp>,
    /// Until when mail can leave with the access token at hand.
    pub access_token_until: Option<Timestamp>,
    /// A failure that passes.
    pub problem: Option<Problem>,
    /// A definite no.
    pub hold: Option<HoldView>,
    /// What does not fit in the access token at hand. It is used all the same; it explains a refusal of Exchange's.
    pub findings: Vec<Finding>,
    /// How far this machine's clock is ahead of the token endpoint's (negative: behind), if it is wrong.
    pub clock_skew: Option<SignedDuration>,
}

impl SignInStatus {
    /// What to do about a wrong clock, if it is wrong. `provider` is the account's.
    pub fn clock_advice(&self, provider: Provider) -> Option<Advice> {
        self.clock_skew.map(|ahead| skew::advice(ahead, provider))
    }
}

/// Why a sign-in is told to be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The first refresh after a start worked.
    Started,
    /// A refresh worked again after failures.
    Recovered,
    /// A person signed in.
    SignedIn,
    /// A person asked for a try, and it worked.
    Asked,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Started => "the stored sign-in works",
            Self::Recovered => "the sign-in works again",
            Self::SignedIn => "a person signed in",
            Self::Asked => "the stored sign-in was tried and works",
        })
    }
}

/// What a keeper publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// The latest token that is relied upon; it may have ended since.
    pub access: Option<AccessToken>,
    /// Something is under way that may bring another one: worth waiting for.
    pub busy: bool,
    /// The number of the last request whose outcome is known.
    pub answered: u64,
    /// The latest rejected version that was taken into account.
    pub heard_rejection: u64,
    /// For people.
    pub status: SignInStatus,
}

impl Published {
    /// Before the keeper has looked.
    pub(super) fn nothing_yet(mailbox: Address, grant: Grant) -> Self {
        let status = SignInStatus {
            mailbox,
            grant,
            signed_in_as: None,
            since: None,
            last_refresh: None,
            next_refresh: None,
            good_until_at_least: None,
            access_token_until: None,
            problem: None,
            hold: None,
            findings: Vec::new(),
            clock_skew: None,
        };
        Self { access: None, busy: true, answered: 0, heard_rejection: 0, status }
    }

    /// The token or the reason, as far as this can say; `None`: worth waiting for. A token up to version `rejected` that the
    /// keeper has not heard about yet does not count.
    pub(super) fn answer(&self, now: Timestamp, rejected: u64) -> Option<Result<AccessToken, NoToken>> {
        if rejected > self.heard_rejection {
            return None;
        }
        if let Some(access) = self.access.as_ref().filter(|access| access.usable_at(now)) {
            return Some(Ok(access.clone()));
        }
        if self.busy { None } else { self.refusal().map(Err) }
    }

    /// What came of the request of this number; `None`: not known yet.
    pub(super) fn outcome(&self, request: Option<u64>) -> Option<Result<AccessToken, NoToken>> {
        if self.busy || request.is_some_and(|request| self.answered < request) {
            return None;
        }
        match (self.refusal(), &self.access) {
            (Some(refusal), _) => Some(Err(refusal)),
            (None, Some(access)) => Some(Ok(access.clone())),
            (None, None) => None,
        }
    }

    fn refusal(&self) -> Option<NoToken> {
        let status = &self.status;
        if let Some(hold) = &status.hold {
            let (cause, error, codes) = (hold.cause, hold.error.clone(), hold.codes.clone());
            return Some(NoToken::Held { cause, error, codes });
        }
        let problem = status.problem.as_ref()?;
        Some(NoToken::Unavailable { error: problem.error.clone(), retry_at: problem.retry_at })
    }
}
