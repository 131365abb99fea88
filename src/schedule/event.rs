//! What the scheduler is told, and what it wants done.

use std::sync::Arc;

use jiff::Timestamp;

use super::pace::{Allowance, Outlook, Slowdown};
use super::window::Load;
use crate::config::Config;
use crate::message::{Address, QueueId};
use crate::store::{FlowHead, Hold, Sent, Waiting};

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message of this account was accepted.
    Accepted {
        /// The mailbox whose queue it waits in.
        account: Address,
        /// The message.
        waiting: Waiting,
    },
    /// Announcements of accepted messages were lost: the store knows better.
    Overflowed,
    /// The store's answer to [`Action::Load`].
    Loaded {
        /// The mailbox.
        account: Address,
        /// What was asked.
        load: Load,
        /// What of each flow is due first; `None` when the store could not be read.
        heads: Option<Vec<FlowHead>>,
    },
    /// An attempt ended.
    Finished {
        /// The mailbox that carried it.
        account: Address,
        /// Which message.
        id: QueueId,
        /// What came of it.
        outcome: Outcome,
    },
    /// The account stops.
    Held(Hold),
    /// The account goes on, whatever held it. Nothing happens if it was not held, save that a pause ends.
    Released {
        /// The mailbox.
        account: Address,
        /// What freed it, for the journal.
        why: String,
    },
    /// The stored sign-in works again: frees what the sign-in had stopped, and nothing else.
    SignInGood {
        /// The mailbox.
        account: Address,
    },
    /// A person has just signed the account in: frees everything but what a person holds.
    SignedIn {
        /// The mailbox.
        account: Address,
    },
    /// The answer to [`Action::Probe`].
    Probed {
        /// The mailbox.
        account: Address,
        /// The reply or failure that keeps it held.
        result: Result<(), String>,
    },
    /// Exchange has taken the account's login, for whatever it was.
    LoginTaken {
        /// The mailbox.
        account: Address,
        /// When.
        at: Timestamp,
    },
    /// The far side has refused a connection or a login as one too many. Where it says so of a message, [`Outcome::Answered`] tells it.
    Throttled {
        /// The mailbox.
        account: Address,
        /// What there is too much of.
        throttle: Throttle,
        /// Its words.
        said: String,
    },
    /// The answer to [`Action::Prove`].
    Proved {
        /// The mailbox.
        account: Address,
        /// What came of it.
        result: Proved,
    },
    /// The queue of the account was changed in the store.
    Changed {
        /// The mailbox.
        account: Address,
    },
    /// Another configuration is in force.
    Configured {
        /// It.
        config: Arc<Config>,
        /// What the logins that are new in it have sent in the last day. Does not count for a login whose pace is known.
        sent: Vec<Sent>,
    },
    /// Time has passed.
    Woken,
}

/// What came of an attempt, as far as it concerns the schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The far side answered about the message.
    Answered {
        /// What the far side counts; `None` if it never saw the message's end.
        sent: Option<Counted>,
        /// It waits again.
        again: Option<Waiting>,
        /// The far side wants it slower, and said so in these words.
        throttled: Option<(Throttle, String)>,
    },
    /// The far side could not be reached or was of no use before it came to the message: no fault of this message's.
    Unreachable {
        /// It waits again as before.
        again: Waiting,
        /// What failed, in words.
        error: String,
        /// Not before, if somebody said so.
        retry_at: Option<Timestamp>,
    },
    /// The login was refused, or there is no sign-in to log in with.
    Held {
        /// It waits again as before.
        again: Waiting,
        /// What the account waits for.
        hold: Hold,
    },
    /// The far side answered about the message, and what it said is about more than that.
    Stopped {
        /// As in [`Outcome::Answered`].
        sent: Option<Counted>,
        /// It waits again, if some recipient is still to be served.
        again: Option<Waiting>,
        /// What follows for the account.
        stop: Stop,
    },
    /// It was not tried after all: put off meanwhile, or it belongs into another flow.
    NotDue(Waiting),
    /// There is nothing to do for it: deleted or settled meanwhile.
    Gone,
}

/// What the far side counts of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// When it had seen the end of the message.
    pub at: Timestamp,
    /// Recipients that it has taken.
    pub recipients: u32,
    /// Recipients outside the organisation that it has taken, or may have; 0 where the tenant has no budget for them.
    pub outside: u32,
}

impl Counted {
    /// So many recipients, of which no budget counts any.
    pub fn new(at: Timestamp, recipients: u32) -> Self {
        Self { at, recipients, outside: 0 }
    }
}

impl Outcome {
    /// What the far side counts; `None` if it never saw the message's end.
    pub fn sent(&self) -> Option<Counted> {
        match self {
            Self::Answered { sent, .. } | Self::Stopped { sent, .. } => *sent,
            Self::Unreachable { .. } | Self::Held { .. } | Self::NotDue(_) | Self::Gone => None,
        }
    }
}

/// What a reply means for all the mail of its account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is held.
    Hold {
        /// What it waits for.
        hold: Hold,
        /// All accounts of the tenant are.
        of_tenant: bool,
    },
    /// It pauses, as when the far side is out of reach; then one message tries.
    Pause {
        /// What was answered.
        error: String,
        /// Not before, if that is known.
        retry_at: Option<Timestamp>,
    },
}

/// What the far side has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Throttle {
    /// Messages a minute.
    Rate,
    /// Sessions at once.
    Sessions,
}

/// What came of the proof that an account's login works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proved {
    /// Exchange took it, and when.
    Taken(Timestamp),
    /// It was refused, or there is no sign-in to log in with: as an attempt would have found. And whether all accounts of the tenant are
    /// held by it.
    Held(Hold, bool),
    /// Nobody knows: the far side could not be reached. In words.
    Failed(String),
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Ask the store what of this account's flows is due first.
    Load(Address, Load),
    /// Make an attempt through this account. The message may wait in the queue of another one.
    Attempt(Address, QueueId),
    /// Write the hold.
    Hold {
        /// The hold as it is now.
        hold: Hold,
        /// It is a new one, to be told of; otherwise something about it has changed.
        is_news: bool,
    },
    /// Erase the hold and tell of it.
    Release {
        /// The mailbox.
        account: Address,
        /// When.
        at: Timestamp,
        /// What freed it.
        why: String,
    },
    /// The account is held: log in with a fresh token, without sending, and say how it went.
    Probe(Address),
    /// Nothing has been sent for a day: log in as an attempt would, without sending, and say how it went.
    Prove(Address),
    /// The clock has gone back: what waits in the store for a time that is now far off is due, then [`Event::Changed`] is told.
    Wake(Address, Timestamp),
}

/// Where an account stands, for `status`.
#[derive(Clone, Debug)]
pub struct Standing {
    /// The mailbox.
    pub account: Address,
    /// The hold, if there is one.
    pub hold: Option<Hold>,
    /// Why it pauses, and until when.
    pub pause: Option<(Timestamp, String)>,
    /// Attempts under way.
    pub under_way: usize,
    /// Messages of the last minute that count.
    pub last_minute: usize,
    /// Recipients of the last day that count.
    pub last_day: u64,
    /// Which limits are lower for a while, because the far side said that it has too much.
    pub slowdowns: Vec<(Throttle, Slowdown)>,
    /// What its login will be able to send.
    pub outlook: Option<Outlook>,
    /// How its tenant's budget for recipients outside stands, if there is one. The same for all accounts of the tenant.
    pub allowance: Option<Allowance>,
    /// When it is to prove its login at the latest, if no mail does so before.
    pub prove_at: Timestamp,
    /// Why the proof is overdue: what has failed several times in a row.
    pub unproven: Option<String>,
}
