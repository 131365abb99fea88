//! The queue on disk: what was accepted with `250` is here until it is settled.
//!
//! Writes are [`Change`] values that go to one writer, which commits all that wait in one transaction with one sync. Reads come
//! from a snapshot of their own and never wait for it. The store knows nothing of SMTP. States and moves: `docs/queue.md`.

mod bodies;
mod change;
pub(crate) mod crash;
mod engine;
mod handle;
mod lock;
mod readers;
mod space;
mod sqlite;
mod upkeep;
mod vault;
mod writer;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod model;
#[cfg(test)]
pub(crate) mod samples;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::message::{Address, Envelope, Lane, QueueId, Trace};

pub use bodies::{Bodies, BodyWriter, INLINE_LIMIT};
pub use change::{
    Change, Fact, Hold, HoldCause, Incoming, JournalEntry, Next, RecipientUpdate, Record, Refusal, Resealed, Sent,
    Tell, Telling,
};
pub use handle::{CommitError, ReadError, Store, StoreError};
pub use lock::{DataDir, LockError};
pub use vault::{Key, KeyFile, KeyId, Vault, VaultError, sealed_with};

/// Where one recipient stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecipientState {
    /// Not handed over yet.
    Waiting,
    /// Stopped until something changes.
    Held,
    /// The connection was lost behind the final dot: Exchange may have it. Tried again.
    InDoubt,
    /// Will never get it.
    Refused,
    /// Accepted by Exchange.
    Accepted,
}

impl RecipientState {
    /// The name in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::InDoubt => "in_doubt",
            Self::Refused => "refused",
            Self::Accepted => "accepted",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Waiting, Self::Held, Self::InDoubt, Self::Refused, Self::Accepted]
            .into_iter()
            .find(|state| state.as_str() == name)
    }

    /// Whether it is still to be settled.
    pub fn is_pending(self) -> bool {
        matches!(self, Self::Waiting | Self::Held | Self::InDoubt)
    }

    /// Whether an attempt tries it: one that is held waits for somebody to change something.
    pub fn is_tried(self) -> bool {
        matches!(self, Self::Waiting | Self::InDoubt)
    }
}

/// Where a message stands in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageState {
    /// Tried when it is due.
    Waiting,
    /// Stopped until a person decides.
    Held,
    /// Given up on, kept.
    Dead,
}

impl MessageState {
    /// The name in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Held => "held",
            Self::Dead => "dead",
        }
    }

    /// The state of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Waiting, Self::Held, Self::Dead].into_iter().find(|state| state.as_str() == name)
    }
}

/// An unfinished or dead message with all that an attempt needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Its name.
    pub id: QueueId,
    /// When its last byte came.
    pub received_at: Timestamp,
    /// The sending app's name.
    pub app: String,
    /// The mailbox whose queue it waits in.
    pub account: Address,
    /// How urgent it is.
    pub lane: Lane,
    /// What says so, in words; `None`: nothing says anything.
    pub lane_why: Option<String>,
    /// As [`Incoming::outside`], by the configuration that last looked at it.
    pub outside: bool,
    /// Where it stands.
    pub state: MessageState,
    /// Not tried before.
    pub due_at: Timestamp,
    /// Tries that counted.
    pub tries: u32,
    /// How long it has been tried, in the sense of `give_up_after`.
    pub tried_for: Duration,
    /// As it was said.
    pub envelope: Envelope,
    /// The last hop.
    pub trace: Trace,
    /// The raw `Subject` field, if it is recorded.
    pub subject: Option<String>,
    /// Octets of the body.
    pub size: u64,
    /// In the order of `envelope.recipients`.
    pub recipients: Vec<RecipientRow>,
}

/// What is kept of one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientRow {
    /// Its address.
    pub address: Address,
    /// Where it stands.
    pub state: RecipientState,
    /// The last reply about it, word for word.
    pub reply: Option<String>,
}

/// How a message left the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Every recipient was settled.
    Finished,
    /// A person threw it away; its recipients are as they were then.
    Deleted,
}

impl Ending {
    /// The name in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Deleted => "deleted",
        }
    }

    /// The ending of this name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Finished, Self::Deleted].into_iter().find(|ending| ending.as_str() == name)
    }
}

/// A finished message: what is left of it once it is gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archived {
    /// Its name.
    pub id: QueueId,
    /// When its last byte came.
    pub received_at: Timestamp,
    /// When the last recipient was settled, or when it was deleted.
    pub finished_at: Timestamp,
    /// How it left the queue.
    pub ending: Ending,
    /// The sending app's name.
    pub app: String,
    /// The mailbox that carried it.
    pub account: Address,
    /// The reverse path as it came.
    pub sender: Option<Address>,
    /// How urgent it was.
    pub lane: Lane,
    /// What said so.
    pub lane_why: Option<String>,
    /// The raw `Subject` field, if it is recorded.
    pub subject: Option<String>,
    /// Octets of the body.
    pub size: u64,
    /// Each with its last reply.
    pub recipients: Vec<RecipientRow>,
}

/// A waiting message as the scheduler sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Which.
    pub id: QueueId,
    /// Not tried before.
    pub due_at: Timestamp,
    /// Recipients still to be served.
    pub recipients: u32,
    /// With whose mail it is in line.
    pub flow: Flow,
}

/// The mail of one app in one lane, and of that what a tenant's budget counts apart from what it does not. Within it the order is by due time,
/// then id.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// The lane.
    pub lane: Lane,
    /// The app's name; shared, since many messages carry it.
    pub app: Arc<str>,
    /// As [`Incoming::outside`]: it may have to wait while the rest of the app's mail goes on.
    pub outside: bool,
}

impl Flow {
    /// The flow of this app and lane, for what no budget counts.
    pub fn new(app: &str, lane: Lane) -> Self {
        Self { lane, app: app.into(), outside: false }
    }

    /// The one for what a budget counts, or does not.
    #[must_use]
    pub fn to_outside(self, outside: bool) -> Self {
        Self { outside, ..self }
    }

    /// Whether it is that of a message: no app is without a name.
    pub fn is_known(&self) -> bool {
        !self.app.is_empty()
    }

    /// Whether both have a place in the same line: one app, one lane. They share what the app is due of a lane.
    pub fn is_in_line_with(&self, other: &Self) -> bool {
        self.lane == other.lane && self.app == other.app
    }
}

/// What of a flow is due first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowHead {
    /// Which flow.
    pub flow: Flow,
    /// In the order in which they are due.
    pub messages: Vec<Waiting>,
    /// As many as were asked for: there may be more.
    pub is_cut: bool,
}

/// An account's sign-in at rest. The tokens are sealed; the rest may be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSignIn {
    /// Its mailbox.
    pub account: Address,
    /// The refresh token in use, sealed by the vault.
    pub current: Vec<u8>,
    /// Its predecessor, sealed, until the current one has worked.
    pub previous: Option<Vec<u8>>,
    /// Who signed in, as far as the access token told.
    pub signed_in_as: Option<String>,
    /// When the person signed in.
    pub since: Timestamp,
    /// When the last refresh succeeded.
    pub refreshed_at: Timestamp,
    /// How long the refresh token may lie unused, if the endpoint said so.
    pub refresh_life: Option<Duration>,
    /// The last access token.
    pub access: Option<SealedAccess>,
}

/// An access token at rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedAccess {
    /// Sealed by the vault.
    pub token: Vec<u8>,
    /// When it came.
    pub received_at: Timestamp,
    /// How long it lives from then on.
    pub life: Duration,
}

impl SealedSignIn {
    /// Everything in it that is sealed, with the purpose that it was sealed for: what a new key has to reach. A field that is not named
    /// here does not compile.
    pub fn sealed_mut(&mut self) -> impl Iterator<Item = (&'static str, &mut Vec<u8>)> {
        let Self { account: _, current, previous, signed_in_as: _, since: _, refreshed_at: _, refresh_life: _, access } =
            self;
        let current = Some((Self::CURRENT, current));
        let previous = previous.as_mut().map(|previous| (Self::PREVIOUS, previous));
        let access = access.as_mut().map(|access| (Self::ACCESS, &mut access.token));
        [current, previous, access].into_iter().flatten()
    }

    /// What the vault binds [`Self::current`] to, beside the account.
    pub const CURRENT: &str = "refresh token";
    /// What the vault binds [`Self::previous`] to, beside the account.
    pub const PREVIOUS: &str = "previous refresh token";
    /// What the vault binds the token of [`Self::access`] to, beside the account.
    pub const ACCESS: &str = "access token";
}

/// How many messages of one flow of an account's queue are where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// The mailbox.
    pub account: Address,
    /// Where.
    pub state: MessageState,
    /// Of which flow.
    pub flow: Flow,
    /// How many messages.
    pub messages: u64,
    /// Those of them of which some recipient is held: a rule keeps it back on purpose. Only counted among held messages.
    pub by_rule: u64,
    /// Those of them that a person has ordered to be held.
    pub by_order: u64,
    /// The arrival of the oldest of them.
    pub oldest: Timestamp,
    /// Recipients still to be served.
    pub recipients: u64,
    /// When the last of them is due.
    pub last_due: Timestamp,
}
