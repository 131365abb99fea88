//! What can happen to the store, as values. One writer commits them; nothing else writes.
//!
//! Adding a change? Also give it a case in the contract suite (`store/contract.rs`) and in every engine.

use std::fmt;

use jiff::Timestamp;

use super::{RecipientState, SealedSignIn};
use crate::message::{Address, Body, Envelope, Lane, QueueId, Trace};

/// One thing to be written. All changes of a batch share one transaction and one sync.
#[derive(Clone, Debug)]
pub enum Change {
    /// A message was handed to us: once this is committed, it is ours.
    Accept(Box<Incoming>),
    /// An attempt ended. If the message is gone by then (deleted meanwhile), only the journal and the pace hear of it.
    Record(Box<Record>),
    /// An account stops until something changes. Replaces an earlier hold of the account; only a new cause is journalled, so that
    /// a probe that fails again is no news.
    Hold(Box<Hold>),
    /// The account goes on. Nothing happens if it was not held.
    Release {
        /// Its mailbox.
        account: Address,
        /// When.
        at: Timestamp,
        /// What freed it, for the journal.
        why: String,
    },
    /// The account's sign-in from now on.
    SignIn(Box<SealedSignIn>),
    /// Sign-ins that are sealed with another key from now on: all of them or none.
    Reseal(Box<Resealed>),
    /// Waiting, held or dead messages are due now, with their tries forgotten. Accepted recipients stay accepted, all others wait
    /// again.
    Retry {
        /// Which.
        ids: Vec<QueueId>,
        /// When.
        at: Timestamp,
    },
    /// Messages are thrown away, whatever their state; their journal stays, and the archive tells who had it by then.
    Delete {
        /// Which.
        ids: Vec<QueueId>,
        /// When.
        at: Timestamp,
    },
    /// Messages that waited for one account wait for another one from now on.
    Move {
        /// Which.
        ids: Vec<QueueId>,
        /// The mailbox.
        account: Address,
        /// When.
        at: Timestamp,
    },
    /// Messages travel in another lane from now on.
    Lane {
        /// Which.
        ids: Vec<QueueId>,
        /// In this one.
        lane: Lane,
        /// What says so, in words.
        why: String,
        /// When.
        at: Timestamp,
    },
    /// Messages are counted by a tenant's budget from now on, or no longer: the configuration, their account or their recipients are others.
    Outside {
        /// Which.
        ids: Vec<QueueId>,
        /// Whether they are.
        outside: bool,
    },
    /// Waiting messages are held until a person decides. An attempt under way ends as it will; if it leaves something to be done, the
    /// message stays held.
    HoldMessages {
        /// Which.
        ids: Vec<QueueId>,
        /// When.
        at: Timestamp,
    },
    /// Held messages wait again, due now, and so do their held recipients; the tries they have had still count.
    ReleaseMessages {
        /// Which.
        ids: Vec<QueueId>,
        /// When.
        at: Timestamp,
    },
    /// Waiting messages become dead letters, with their recipients as they are: a retry goes on where they were.
    GiveUp {
        /// Which.
        ids: Vec<QueueId>,
        /// When.
        at: Timestamp,
        /// Who gave them up and why, for the journal.
        why: String,
    },
    /// A message goes to another address instead of one that does not have it yet: the new one waits, and keeps the old one as its original
    /// recipient (RFC 3461). A dead letter waits again. No attempt at the message may be under way: its answer would be about the old one.
    Readdress {
        /// Which message.
        id: QueueId,
        /// Whom it does not go to any more.
        from: Address,
        /// Whom it goes to.
        to: Address,
        /// When.
        at: Timestamp,
    },
    /// The waiting messages of an account are due now; the tries they have had still count.
    Wake {
        /// Its mailbox.
        account: Address,
        /// When.
        at: Timestamp,
    },
    /// Somebody is told what became of messages, or it is decided when, or that nobody is: the mail that tells it and what it settles, in
    /// one transaction, so that nobody is told twice or never. If nothing of what it settles is left to be settled (retried, deleted or told
    /// meanwhile), nothing of it happens.
    Tell(Box<Tell>),
    /// Something that belongs to an account or to the relay, for the journal.
    Note(JournalEntry),
    /// Something the relay has learnt and needs to know after a restart.
    Learn(Fact),
    /// Journal, archive and dead letters from before these times are forgotten, and counted sends from before `sent_before`.
    Forget {
        /// Journal and archive.
        journal_before: Timestamp,
        /// Dead letters.
        dead_before: Timestamp,
        /// What the pace no longer needs.
        sent_before: Timestamp,
    },
    /// The relay runs, or has stopped in order: what is not in order at a start tells of a crash.
    Running(bool),
}

/// A message as it was handed over.
#[derive(Clone, Debug)]
pub struct Incoming {
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
    /// It has recipients outside the organisation, and a tenant's budget counts them.
    pub outside: bool,
    /// As it was said.
    pub envelope: Envelope,
    /// The last hop.
    pub trace: Trace,
    /// The raw `Subject` field, unfolded and cut to a reasonable length; `None` if there is none or none is to be recorded.
    pub subject: Option<String>,
    /// Octets of the body as stored.
    pub size: u64,
    /// The bytes, or the synced file that holds them.
    pub body: Body,
}

/// What came of one attempt.
#[derive(Clone, Debug)]
pub struct Record {
    /// Which message.
    pub id: QueueId,
    /// The mailbox that carried it.
    pub account: Address,
    /// When it ended.
    pub at: Timestamp,
    /// What is new about its recipients, by their place in the envelope. Others keep what they have, and an accepted one stays
    /// accepted whatever is said here.
    pub recipients: Vec<RecipientUpdate>,
    /// What happens to the message now.
    pub next: Next,
    /// What the pace has to remember.
    pub sent: Option<Sent>,
    /// One line for the journal; replies word for word, never content.
    pub journal: String,
}

/// What is new about one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecipientUpdate {
    /// Its place in the envelope, from 0.
    pub index: usize,
    /// Its state from now on.
    pub state: RecipientState,
    /// The reply that caused it, word for word, all lines; or the failure in words when there was no reply.
    pub reply: String,
}

/// What happens to a message after an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Every recipient was settled: to the archive. If one is still pending, the message is held instead: mail is not dropped
    /// because of a wrong sum.
    Archive,
    /// Once more, unless a person has held the message or given it up while the attempt ran: then it stays so.
    Wait {
        /// Not before.
        due_at: Timestamp,
        /// Tries that counted so far.
        tries: u32,
        /// How long it has been tried, in the sense of `give_up_after`.
        tried_for: std::time::Duration,
    },
    /// Some recipient will never get it, or it was tried for too long: a dead letter.
    Dead,
    /// The message itself cannot be worked on (a panicked attempt): a person has to look.
    Hold,
}

/// What is done about telling people.
#[derive(Clone, Debug, Default)]
pub struct Tell {
    /// The mail that tells; `None` when it is only decided whom to tell, or when. Its body is inline.
    pub mail: Option<Incoming>,
    /// Refused recipients, each with what is decided about it. One that is refused no longer is left alone.
    pub refusals: Vec<Refusal>,
    /// Waiting messages whose sender has been warned now, or never will be.
    pub warned: Vec<QueueId>,
    /// For the journal.
    pub entries: Vec<JournalEntry>,
    /// What has to be remembered of it.
    pub facts: Vec<Fact>,
    /// When.
    pub at: Timestamp,
}

/// A recipient that will never get the message, and whether anybody is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The message.
    pub message: QueueId,
    /// The recipient's place in the envelope, from 0.
    pub index: usize,
    /// What is decided.
    pub telling: Telling,
}

/// Whether somebody is told of a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Somebody is, with this change.
    Done,
    /// Not before this time.
    At(Timestamp),
    /// Nobody can be.
    Nobody,
}

/// A use of the pace and of the day's recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Whose pace.
    pub login: Address,
    /// When its last byte had left.
    pub at: Timestamp,
    /// How many recipients were taken; 0 when only the rate counts.
    pub recipients: u32,
    /// Recipients outside the organisation that were taken, or may have been; 0 where the tenant has no budget for them.
    pub outside: u32,
}

/// What a new key leaves to be written, in one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// Each in place of the account's earlier row. An account without one gets none: what is gone is not brought back.
    pub sign_ins: Vec<SealedSignIn>,
    /// The name of the key in use, and since when; for `status`.
    pub key: Fact,
    /// For the journal.
    pub entry: JournalEntry,
}

/// A row that stops an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// Its mailbox.
    pub account: Address,
    /// What it waits for.
    pub cause: HoldCause,
    /// The reply that caused it, word for word.
    pub reply: Option<String>,
    /// What failed when there was no SMTP reply; for OAuth the raw `error_description`.
    pub error: Option<String>,
    /// AADSTS numbers.
    pub codes: Vec<u32>,
    /// Since when.
    pub since: Timestamp,
    /// When it is tried next without a person; `None`: only a person frees it.
    pub probe_at: Option<Timestamp>,
    /// How many probes have failed.
    pub probes: u32,
}

/// Why an account is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldCause {
    /// It was never signed in.
    NotSignedIn,
    /// The token endpoint said for certain that the stored sign-in no longer works.
    SignIn,
    /// The registration or the tenant has to be changed by a person.
    Registration,
    /// Exchange refused the login although the token is good.
    Login,
    /// The stored sign-in cannot be opened with the key at hand.
    Key,
    /// The data folder belongs to another instance, of which this may be a copy.
    Clone,
    /// Exchange takes no more for now: a limit of the day, the mailbox's or the tenant's.
    Quota,
    /// Exchange has stopped the mailbox or the tenant: spam, a threshold, a suspicion.
    Blocked,
    /// The mailbox is full, so that Exchange cannot keep what it sends.
    MailboxFull,
    /// The login works, but may not send from the mailbox.
    Permission,
    /// What Exchange asks of the connection is not there: its TLS, its way of logging in.
    Connection,
    /// A person asked for it.
    Manual,
}

impl HoldCause {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::NotSignedIn,
        Self::SignIn,
        Self::Registration,
        Self::Login,
        Self::Key,
        Self::Clone,
        Self::Quota,
        Self::Blocked,
        Self::MailboxFull,
        Self::Permission,
        Self::Connection,
        Self::Manual,
    ];

    /// The name in the database and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotSignedIn => "not_signed_in",
            Self::SignIn => "sign_in",
            Self::Registration => "registration",
            Self::Login => "login",
            Self::Key => "key",
            Self::Clone => "clone",
            Self::Quota => "quota",
            Self::Blocked => "blocked",
            Self::MailboxFull => "mailbox_full",
            Self::Permission => "permission",
            Self::Connection => "connection",
            Self::Manual => "manual",
        }
    }

    /// The cause of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == name)
    }
}

impl fmt::Display for HoldCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSignedIn => "not signed in yet",
            Self::SignIn => "the sign-in no longer works",
            Self::Registration => "the app registration or the tenant refuses it",
            Self::Login => "Exchange refuses the login",
            Self::Key => "the stored sign-in cannot be opened with this key",
            Self::Clone => "the queue and the sign-in belong to another instance",
            Self::Quota => "Exchange takes no more mail for now",
            Self::Blocked => "Exchange has stopped the mailbox or the tenant",
            Self::MailboxFull => "the mailbox is full",
            Self::Permission => "Exchange does not let the login send from the mailbox",
            Self::Connection => "Exchange refuses this kind of connection",
            Self::Manual => "held by an administrator",
        })
    }
}

/// What the relay knows by a name: of an account, or of itself. A later one takes the place of an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// The account it is about; `None`: the relay itself.
    pub account: Option<Address>,
    /// Its name, which belongs to the part that learns it, as in `"alert/sign_in"`.
    pub name: String,
    /// What is known; `None`: nothing any more. Never a secret: facts are not sealed.
    pub value: Option<String>,
    /// When it was learnt.
    pub at: Timestamp,
}

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// When.
    pub at: Timestamp,
    /// The message it is about.
    pub message: Option<QueueId>,
    /// The account it is about.
    pub account: Option<Address>,
    /// What happened: replies word for word, never content, tokens or secrets.
    pub text: String,
}
