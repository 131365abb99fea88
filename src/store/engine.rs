//! What a database has to do for the store. SQLite does it today; another one passes `store/contract.rs` first.
//!
//! Engines are synchronous and run on threads of their own; the store around them does the waiting, the batching and the files.

use bytes::Bytes;
use jiff::Timestamp;

use super::handle::ReadError;
use super::{Archived, Change, Count, Fact, Flow, Hold, JournalEntry, SealedSignIn, Sent, Stored, Waiting};
use crate::message::{Address, QueueId};

/// Commits. The writer owns the only one.
pub trait Engine: Send {
    /// Commits all of `changes` or none, in their order: one transaction, and on disk when it returns.
    fn commit(&mut self, changes: &[Change]) -> Result<Committed, Failure>;

    /// Called after the batch was answered, so nobody waits for what is done here.
    fn settle(&mut self) {}
}

/// What a commit leaves to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Messages whose body files are no longer needed.
    pub files: Vec<QueueId>,
    /// A [`Change::Forget`] did its share and left more to be forgotten.
    pub unfinished: bool,
}

/// Why a batch was not committed. Nothing of it is in the database then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// One of the changes cannot be: the others may go without it.
    #[error("{0}")]
    Fault(String),
    /// No room left.
    #[error("the disk is full")]
    Full,
    /// The disk or the database does not do its work.
    #[error("{0}")]
    Broken(String),
}

/// Reads from a snapshot of the last commit.
pub trait Reader: Send {
    /// The flows of an account that have waiting messages, by lane and app. Costs no more for long flows than for short ones.
    fn flows(&mut self, account: &Address) -> Result<Vec<Flow>, ReadError>;
    /// The first `limit` waiting messages of a flow by due time, then id. Costs no more for a long queue than for a short one.
    fn window(&mut self, account: &Address, flow: &Flow, limit: u32) -> Result<Vec<Waiting>, ReadError>;
    /// One unfinished or dead message.
    fn message(&mut self, id: QueueId) -> Result<Option<Stored>, ReadError>;
    /// Where the body of an unfinished or dead message is.
    fn body(&mut self, id: QueueId) -> Result<Option<Found>, ReadError>;
    /// Unfinished and dead messages by id, from behind `after`.
    fn list(&mut self, after: Option<QueueId>, limit: u32) -> Result<Vec<Stored>, ReadError>;
    /// One finished message.
    fn archived(&mut self, id: QueueId) -> Result<Option<Archived>, ReadError>;
    /// All that happened to a message, its arrival first.
    fn journal(&mut self, id: QueueId) -> Result<Vec<JournalEntry>, ReadError>;
    /// The last `limit` lines about the account itself (not about its messages), oldest first.
    fn account_journal(&mut self, account: &Address, limit: u32) -> Result<Vec<JournalEntry>, ReadError>;
    /// The last `limit` lines about anything, oldest first.
    fn recent_journal(&mut self, limit: u32) -> Result<Vec<JournalEntry>, ReadError>;
    /// Every held account.
    fn holds(&mut self) -> Result<Vec<Hold>, ReadError>;
    /// An account's sign-in.
    fn sign_in(&mut self, account: &Address) -> Result<Option<SealedSignIn>, ReadError>;
    /// All sign-ins, by account.
    fn sign_ins(&mut self) -> Result<Vec<SealedSignIn>, ReadError>;
    /// Whether any account has a sign-in.
    fn has_sign_ins(&mut self) -> Result<bool, ReadError>;
    /// All that was learnt, by account and name; the relay's own facts first.
    fn facts(&mut self) -> Result<Vec<Fact>, ReadError>;
    /// The first `limit` recipients of whose refusal somebody is to be told by `now`, by that time; each as its message and place.
    fn to_tell(&mut self, now: Timestamp, limit: u32) -> Result<Vec<(QueueId, usize)>, ReadError>;
    /// How many refusals there are of which nobody can be told.
    fn told_nobody(&mut self) -> Result<u64, ReadError>;
    /// Messages with a sender that wait outside the lane for bulk mail and of which nobody was warned, by id, from behind `after` to before
    /// `before`.
    fn unwarned(&mut self, after: Option<QueueId>, before: QueueId, limit: u32) -> Result<Vec<Stored>, ReadError>;
    /// How many messages are where, by account, state and flow, in this order.
    fn counts(&mut self) -> Result<Vec<Count>, ReadError>;
    /// The accounts with unfinished or dead mail.
    fn accounts_with_mail(&mut self) -> Result<Vec<Address>, ReadError>;
    /// Uses of a login's pace from `since` on, oldest first.
    fn sent_since(&mut self, login: &Address, since: Timestamp) -> Result<Vec<Sent>, ReadError>;
    /// The recipients of those.
    fn recipients_since(&mut self, login: &Address, since: Timestamp) -> Result<u64, ReadError>;
    /// Whether the relay last said that it runs.
    fn running(&mut self) -> Result<bool, ReadError>;
    /// The largest id that was ever given out, as far as it is remembered.
    fn last_id(&mut self) -> Result<Option<QueueId>, ReadError>;
}

/// Where a body is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// In the database.
    Inline(Bytes),
    /// In the message's body file.
    InFile,
}

/// What a database needs done now and then, on a thread where nobody waits for it.
pub trait Upkeep: Send {
    /// Much was written since the last call, or nothing for a while.
    fn tend(&mut self);
    /// The writer has stopped: leave everything tidy.
    fn finish(&mut self);
}

/// An opened database.
pub struct Opened {
    /// For the writer.
    pub engine: Box<dyn Engine>,
    /// At least one; each is used by one reading at a time.
    pub readers: Vec<Box<dyn Reader>>,
    /// If there is something to keep up.
    pub upkeep: Option<Box<dyn Upkeep>>,
}
