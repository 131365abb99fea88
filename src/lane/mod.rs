//! Which lane a mail travels in, decided when it is accepted: what somebody waits for first, what nobody misses for an hour last.
//!
//! `signs` is what a mail says about itself (with `text` to read it and `rules`, which are data), `memory` what came before it. Nothing of a
//! mail is changed, and no mail fails because of its lane: what says nothing is normal. The rules for people: `docs/lanes.md`.

mod memory;
mod rules;
mod signs;
#[cfg(test)]
mod tests;
mod text;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use crate::config::App;
use crate::message::{Headers, Lane, Recipient};
use memory::{BURST, Coming, Memory, Seen};
use signs::Sign;

/// How much of a mail is looked at, in octets.
pub const LOOKED_AT: usize = 64 * 1024;
/// Apps whose mail is remembered. There are never so many; but names come and go with the configuration.
const MOST_APPS: usize = 1000;

/// A mail that is being accepted.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// Its beginning; of more than [`LOOKED_AT`] octets the rest is not looked at.
    pub start: &'a [u8],
    /// To whom.
    pub recipients: &'a [Recipient],
    /// How it came.
    pub way: Way<'a>,
    /// When.
    pub at: Timestamp,
}

/// How a mail came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way<'a> {
    /// Over a connection.
    Connection {
        /// It is the first one on it.
        first: bool,
        /// How the program called itself.
        helo: Option<&'a str>,
    },
    /// Out of the drop folder.
    Folder,
}

/// A lane, and what says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The lane.
    pub lane: Lane,
    /// What says so, in words without anything secret; `None`: nothing says anything.
    pub why: Option<String>,
}

/// Tells the lane of each mail, and remembers what it needs for that.
#[derive(Debug, Default)]
pub struct Lanes {
    memories: Mutex<HashMap<String, Memory>>,
}

impl Lanes {
    /// The lane of a mail of this app.
    pub fn judge(&self, app: &App, arrival: &Arrival<'_>) -> Judged {
        if let Some(lane) = app.lane {
            return Judged { lane, why: Some(format!("the lane of the app {}", app.name)) };
        }
        let start = &arrival.start[..arrival.start.len().min(LOOKED_AT)];
        let headers = Headers::scan(start);
        let sign = signs::of(start, &headers, arrival.recipients.len(), app);
        // What is bulk or urgent for certain needs no burst, and makes none.
        let shape = if matches!(sign, Sign::Certain(..)) { None } else { signs::shape(&headers) };
        decide(sign, self.see(app, coming(arrival, shape), arrival.at))
    }

    fn see(&self, app: &App, coming: Coming, now: Timestamp) -> Seen {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        if memories.len() >= MOST_APPS && !memories.contains_key(&app.name) {
            memories.clear();
        }
        if let Some(memory) = memories.get_mut(&app.name) {
            return memory.see(coming, now);
        }
        memories.entry(app.name.clone()).or_default().see(coming, now)
    }
}

fn decide(sign: Sign, seen: Seen) -> Judged {
    let because = |lane, why| Judged { lane, why: Some(why) };
    match sign {
        Sign::Certain(lane, why) => because(lane, why),
        Sign::Urgent(why) if seen.in_burst => {
            because(Lane::Normal, format!("{why}, but one of many alike: {BURST} recipients and more within 5 minutes"))
        }
        Sign::Urgent(why) => because(Lane::Urgent, why),
        Sign::Open | Sign::Plain if seen.in_burst => {
            because(Lane::Bulk, format!("one of many alike: {BURST} recipients and more within 5 minutes"))
        }
        Sign::Open if seen.alone => because(Lane::Urgent, "it came by itself while others come in a run".to_owned()),
        Sign::Open | Sign::Plain => Judged { lane: Lane::Normal, why: None },
    }
}

fn coming(arrival: &Arrival<'_>, shape: Option<u64>) -> Coming {
    let (first, helo) = match arrival.way {
        Way::Connection { first, helo } => (Some(first), helo),
        Way::Folder => (None, None),
    };
    let mut recipients = DefaultHasher::new();
    for recipient in arrival.recipients {
        recipient.address.as_str().to_ascii_lowercase().hash(&mut recipients);
    }
    let mut name = DefaultHasher::new();
    helo.map(str::to_ascii_lowercase).hash(&mut name);
    Coming { shape, recipients: recipients.finish(), first, helo: name.finish() }
}
