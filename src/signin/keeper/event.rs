//! What can happen to a sign-in, and what can be done about it, as values.

use jiff::Timestamp;

use crate::config::Secret;
use crate::signin::answer::Tokens;
use crate::signin::errors::{Advice, Meaning};
use crate::signin::shelf::{ShelfError, StoredSignIn};
use crate::signin::status::{HoldView, Problem, Published, Why};

/// What was on the shelf.
pub type Loaded = Result<Option<StoredSignIn>, ShelfError>;

/// What happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The relay started, or the account appeared in the configuration.
    Started,
    /// The shelf answered.
    Loaded(Loaded),
    /// Time passed; comes at least every minute.
    Tick,
    /// A refresh brought tokens.
    TokensReceived {
        /// Of which [`Action::Refresh`].
        request: u64,
        /// What it brought.
        tokens: Tokens,
    },
    /// A refresh brought none.
    RefreshFailed {
        /// Of which [`Action::Refresh`].
        request: u64,
        /// Why.
        failure: Failure,
    },
    /// A sign-in is on the shelf, synced.
    Written {
        /// Of which [`Action::Write`].
        number: u64,
    },
    /// A sign-in could not be put on the shelf.
    WriteFailed {
        /// Of which [`Action::Write`].
        number: u64,
        /// In words.
        error: String,
    },
    /// Exchange refused this access token although it is believed good.
    Rejected {
        /// [`AccessToken::version`](crate::signin::AccessToken::version).
        version: u64,
    },
    /// A person signed in, and it is already on the shelf.
    SignedIn(Box<StoredSignIn>),
    /// The stored sign-in is to be tried at once, even if it was marked dead: a person released the account.
    Asked,
    /// The account's configuration is another one from now on.
    ConfigChanged,
}

/// Why a refresh brought no tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What is to be done.
    pub meaning: Meaning,
    /// In Microsoft's words, or ours if nobody answered.
    pub error: String,
    /// AADSTS numbers.
    pub codes: Vec<u32>,
    /// What the administrator is told.
    pub advice: Advice,
}

impl Failure {
    /// Something on our own side that passes by itself.
    pub fn passing(error: String) -> Self {
        Self { meaning: Meaning::TryAgain, error, codes: Vec::new(), advice: Advice::wait() }
    }
}

/// Which refresh token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one in use.
    Current,
    /// Its predecessor.
    Previous,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Read the shelf; answered by [`Event::Loaded`].
    Load,
    /// Redeem a refresh token; answered by [`Event::TokensReceived`] or [`Event::RefreshFailed`].
    Refresh {
        /// Its number.
        request: u64,
        /// Which token it is.
        which: Which,
        /// The token.
        refresh_token: Secret,
    },
    /// Ask for an access token of the registration's own; answered by [`Event::TokensReceived`] or [`Event::RefreshFailed`].
    Apply {
        /// Its number.
        request: u64,
    },
    /// Put this on the shelf; answered by [`Event::Written`] or [`Event::WriteFailed`].
    Write {
        /// Its number.
        number: u64,
        /// What to write.
        stored: Box<StoredSignIn>,
    },
    /// This is what callers see from now on.
    Publish(Box<Published>),
    /// A definite no: the account is held, and probed on a schedule.
    Hold(HoldView),
    /// The sign-in is good (again).
    Cleared(Why),
    /// A failure that passes.
    Trouble(Problem),
    /// [`Event::Tick`] is wanted then at the latest, and every minute anyway.
    WakeAt(Timestamp),
}
