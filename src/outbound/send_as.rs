//! What Exchange takes and refuses as senders, learnt from what it says. Outlives a restart as facts, `sender/…`.
//!
//! A sender is doubted at its first refusal, since Exchange has been seen to refuse one at random and to take it a moment later: the message is
//! tried once more. Refused again, it counts as refused: a message that may be rewritten leaves as the mailbox at once, and so do those behind
//! it. Once a day, and when somebody says that things have changed, the next message tries it again.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Attempt, Class, Sender, Verdict};
use crate::config::{Account, App};
use crate::message::{Address, SenderPolicy};
use crate::smtp::Reply;
use crate::store::{Change, Fact, JournalEntry};

/// What the facts' names begin with; the sender follows.
const FACT: &str = "sender/";
/// So many senders are known of one account: a program may make up any number of them.
const MOST: usize = 64;
/// How long a sender that is refused is not tried.
const TRY_EVERY: Duration = Duration::from_hours(24);
/// A refusal this long after the first one is a first one again.
const DOUBT_LASTS: Duration = Duration::from_hours(1);
/// A sender of whom nothing was heard for so long is not shown any more.
const SHOWN_FOR: Duration = Duration::from_hours(7 * 24);
/// How old what is on disk may get while nothing changes: a busy relay is not to write it with every message.
const WRITE_EVERY: Duration = Duration::from_hours(24);
/// Replies are kept up to this length, in characters; Exchange's have a long diagnostic block.
const LONGEST_REPLY: usize = 300;

/// What is known of the senders. Cheap to clone; clones share it.
#[derive(Clone, Debug, Default)]
pub struct SendAs {
    book: Arc<Mutex<Book>>,
}

/// How one sender stands with Exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SenderStanding {
    /// Which.
    pub sender: Address,
    /// What Exchange said when it refused it; `None`: it takes it.
    pub refused: Option<String>,
    /// Since when it is so.
    pub since: Timestamp,
    /// When Exchange last said so.
    pub last: Timestamp,
}

#[derive(Debug, Default)]
struct Book {
    /// By mailbox, then by sender.
    known: HashMap<Address, BTreeMap<Address, Known>>,
    /// Until when messages of a mailbox wait that were refused because of a sender, which may have been by chance.
    doubted: HashMap<(Address, Address), Timestamp>,
}

#[derive(Clone, Debug)]
struct Known {
    refused: Option<String>,
    since: Timestamp,
    last: Timestamp,
    written_at: Timestamp,
    /// Somebody has said that things have changed.
    try_again: bool,
}

/// The fact's value; `last` is the fact's time.
#[derive(Serialize, Deserialize)]
struct Value {
    sender: String,
    since: Timestamp,
    refused: Option<String>,
}

/// What a message's end means for its senders.
#[derive(Debug, Default)]
struct Met {
    again_at: Option<Timestamp>,
    learnt: Vec<Change>,
    notes: Vec<String>,
}

impl Sender {
    /// The senders of the account that count as permitted for this app's message.
    pub(super) fn permitted(&self, account: &Account, app: Option<&App>) -> Vec<Address> {
        match app.map(|app| app.sender).unwrap_or_default() {
            SenderPolicy::Rewrite => self.send_as.permitted(account, self.clock.now()),
            SenderPolicy::Keep | SenderPolicy::Refuse => account.send_as.clone(),
        }
    }

    /// Learns from what Exchange said of the message's sender, and decides whether the message is tried again because of it.
    pub(super) fn sender_met(&self, account: &Account, app: Option<&App>, attempt: &mut Attempt) -> Vec<Change> {
        let Ok(verdicts) = &mut attempt.result else { return Vec::new() };
        let policy = app.map(|app| app.sender).unwrap_or_default();
        // By default that is the minute after which it was seen to work.
        let pause = self.config.borrow().queue.retry.first().copied().unwrap_or(Duration::from_mins(1));
        let met = self.send_as.met(account, policy, &attempt.senders, verdicts, pause, self.clock.now());
        attempt.again_at = met.again_at;
        attempt.notes.extend(met.notes);
        met.learnt
    }
}

impl SendAs {
    /// What an earlier run has learnt.
    pub fn from_facts(facts: &[Fact]) -> Self {
        let mut book = Book::default();
        for fact in facts.iter().filter(|fact| fact.name.starts_with(FACT)) {
            let value = fact.value.as_deref().and_then(|value| serde_json::from_str::<Value>(value).ok());
            let (Some(value), Some(account)) = (value, &fact.account) else { continue };
            let Ok(sender) = Address::parse(&value.sender) else { continue };
            let Value { since, refused, .. } = value;
            let known = Known { refused, since, last: fact.at, written_at: fact.at, try_again: false };
            book.known.entry(account.clone()).or_default().insert(sender, known);
        }
        Self { book: Arc::new(Mutex::new(book)) }
    }

    /// The senders of `send_as` but for those that Exchange refuses, unless it is time to try them again.
    fn permitted(&self, account: &Account, now: Timestamp) -> Vec<Address> {
        let book = self.lock();
        let known = book.known.get(&account.mailbox);
        let is_refused =
            |sender: &&Address| known.and_then(|known| known.get(*sender)).is_some_and(|known| known.keeps_out(now));
        account.send_as.iter().filter(|sender| !is_refused(sender)).cloned().collect()
    }

    /// Things may have changed: of this mailbox or of all, whatever was refused is tried with the next message.
    pub fn try_again(&self, mailbox: Option<&Address>) {
        let mut book = self.lock();
        book.doubted.clear();
        let of = book.known.iter_mut().filter(|(account, _)| mailbox.is_none_or(|mailbox| mailbox == *account));
        for known in of.flat_map(|(_, senders)| senders.values_mut()) {
            known.try_again = true;
        }
    }

    /// How the senders of this mailbox stand, those left out of whom nothing was heard for a week.
    pub fn standings(&self, mailbox: &Address, now: Timestamp) -> Vec<SenderStanding> {
        let book = self.lock();
        let Some(senders) = book.known.get(mailbox) else { return Vec::new() };
        let lately = senders.iter().filter(|(_, known)| now < known.last + SHOWN_FOR);
        let standing = |(sender, known): (&Address, &Known)| SenderStanding {
            sender: sender.clone(),
            refused: known.refused.clone(),
            since: known.since,
            last: known.last,
        };
        lately.map(standing).collect()
    }

    fn met(
        &self,
        account: &Account,
        policy: SenderPolicy,
        senders: &[Address],
        verdicts: &mut [(usize, Verdict)],
        pause: Duration,
        now: Timestamp,
    ) -> Met {
        let mut met = Met::default();
        let mut book = self.lock();
        if verdicts.iter().any(|(_, verdict)| verdict.class == Class::Accepted) {
            for sender in senders {
                met.learnt.extend(book.taken(account, sender, now));
            }
            return met;
        }
        let is_refusal = |verdict: &Verdict| is_about_sender(&verdict.reply);
        let Some(reply) = verdicts.iter().map(|(_, verdict)| verdict).find(|verdict| is_refusal(verdict)) else {
            return met;
        };
        let reply = reply.reply.clone();
        let blamed = book.blamed(account, senders, &reply);
        if blamed.is_empty() {
            return met;
        }
        let mut waits_until = None;
        for sender in &blamed {
            match book.refused(account, sender, &reply, pause, now) {
                Refusal::Doubted(until) => waits_until = waits_until.max(Some(until)),
                Refusal::Sure(changes) => met.learnt.extend(changes),
            }
        }
        let who = blamed.iter().map(Address::as_str).collect::<Vec<_>>().join(", ");
        met.again_at = match (waits_until, policy) {
            (Some(until), _) => {
                met.notes.push(format!("refused as the sender {who}: once more, since that is seen by chance"));
                Some(until)
            }
            (None, SenderPolicy::Rewrite) => {
                met.notes.push(format!("refused as the sender {who}: leaves as {} from now on", account.mailbox));
                Some(now)
            }
            (None, SenderPolicy::Keep | SenderPolicy::Refuse) => None,
        };
        if met.again_at.is_some() {
            for (_, verdict) in verdicts.iter_mut().filter(|(_, verdict)| is_refusal(verdict)) {
                verdict.class = Class::Later;
            }
        }
        met
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn keeps_out(&self, now: Timestamp) -> bool {
        self.refused.is_some() && !self.try_again && now < self.last + TRY_EVERY
    }
}

enum Refusal {
    /// It may be chance: to be tried again at this time.
    Doubted(Timestamp),
    /// It is refused, and this is to be written.
    Sure(Vec<Change>),
}

impl Book {
    /// Which of the senders the refusal is about: the one it names, else those that were not taken before, else all.
    fn blamed(&self, account: &Account, senders: &[Address], reply: &Reply) -> Vec<Address> {
        let named = named(reply);
        if named.as_ref() == Some(&account.mailbox) {
            return Vec::new();
        }
        if let Some(named) = named.filter(|named| senders.contains(named)) {
            return vec![named];
        }
        let known = self.known.get(&account.mailbox);
        let is_taken =
            |sender: &&Address| known.and_then(|known| known.get(*sender)).is_some_and(|known| known.refused.is_none());
        let new: Vec<Address> = senders.iter().filter(|sender| !is_taken(sender)).cloned().collect();
        if new.is_empty() { senders.to_vec() } else { new }
    }

    fn taken(&mut self, account: &Account, sender: &Address, now: Timestamp) -> Vec<Change> {
        self.doubted.remove(&(account.mailbox.clone(), sender.clone()));
        let senders = self.known.entry(account.mailbox.clone()).or_default();
        let before = senders.get(sender);
        if before.is_none() && senders.len() >= MOST {
            return Vec::new();
        }
        let was_refused = before.is_some_and(|before| before.refused.is_some());
        let before = before.filter(|before| before.refused.is_none());
        let since = before.map_or(now, |before| before.since);
        // A clock that was set back would otherwise keep it unwritten until that time comes again.
        let written = before.map(|before| before.written_at).filter(|at| *at <= now && now < *at + WRITE_EVERY);
        let written_at = written.unwrap_or(now);
        let known = Known { refused: None, since, last: now, written_at, try_again: false };
        let fact = written.is_none().then(|| fact(account, sender, &known));
        senders.insert(sender.clone(), known);
        let mut changes: Vec<Change> = fact.into_iter().map(Change::Learn).collect();
        if was_refused {
            tracing::info!(account = %account.mailbox, %sender, "Exchange takes the sender again");
            changes.push(note(account, now, format!("Exchange takes {sender} as a sender again")));
        }
        changes
    }

    fn refused(
        &mut self,
        account: &Account,
        sender: &Address,
        reply: &Reply,
        pause: Duration,
        now: Timestamp,
    ) -> Refusal {
        let pair = (account.mailbox.clone(), sender.clone());
        let before = self.known.get(&account.mailbox).and_then(|known| known.get(sender));
        let since = before.filter(|before| before.refused.is_some()).map(|before| before.since);
        if since.is_none() {
            match self.doubted.get(&pair) {
                Some(&until) if now < until && until <= now + pause => return Refusal::Doubted(until),
                Some(&until) if until <= now && now < until + DOUBT_LASTS => {}
                _ => {
                    self.doubted.retain(|_, until| now < *until + DOUBT_LASTS);
                    self.doubted.insert(pair, now + pause);
                    return Refusal::Doubted(now + pause);
                }
            }
        }
        self.doubted.remove(&pair);
        let refused = Some(shortened(reply));
        let known = Known { refused, since: since.unwrap_or(now), last: now, written_at: now, try_again: false };
        let mut changes = self.room_for(account, sender, now);
        changes.push(Change::Learn(fact(account, sender, &known)));
        if since.is_none() {
            tracing::warn!(account = %account.mailbox, %sender, %reply, "Exchange refuses the sender");
            changes.push(note(account, now, format!("Exchange refuses {sender} as a sender: {}", shortened(reply))));
        }
        self.known.entry(account.mailbox.clone()).or_default().insert(sender.clone(), known);
        Refusal::Sure(changes)
    }

    /// Forgets one of too many: the one of whom nothing was heard for longest, rather one that is taken.
    fn room_for(&mut self, account: &Account, sender: &Address, now: Timestamp) -> Vec<Change> {
        let senders = self.known.entry(account.mailbox.clone()).or_default();
        if senders.len() < MOST || senders.contains_key(sender) {
            return Vec::new();
        }
        let oldest = senders.iter().min_by_key(|(_, known)| (known.refused.is_some(), known.last));
        let Some(oldest) = oldest.map(|(sender, _)| sender.clone()) else { return Vec::new() };
        senders.remove(&oldest);
        let fact = Fact { account: Some(account.mailbox.clone()), name: fact_name(&oldest), value: None, at: now };
        vec![Change::Learn(fact)]
    }
}

/// Whether Exchange means who the message is from.
pub(super) fn is_about_sender(reply: &Reply) -> bool {
    let text = reply.to_string().to_ascii_lowercase();
    reply.is_permanent()
        && (matches!(reply.enhanced(), Some("5.7.60" | "5.2.252"))
            || text.contains("sendasdenied")
            || text.contains("permissions to send as"))
}

/// Whom a refusal names: `… not allowed to send as noreply@contoso.com; …`.
fn named(reply: &Reply) -> Option<Address> {
    let text = reply.to_string();
    let (_, behind) = text.split_once("not allowed to send as ")?;
    let word = behind.split(|c: char| c == ';' || c.is_whitespace()).next()?;
    Address::parse(word).ok()
}

/// Without the diagnostic block, on one line.
fn shortened(reply: &Reply) -> String {
    let text = reply.to_string();
    let text = text.split("[BeginDiagnosticData]").next().unwrap_or(&text);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(LONGEST_REPLY).collect()
}

fn fact_name(sender: &Address) -> String {
    format!("{FACT}{}", sender.key())
}

fn fact(account: &Account, sender: &Address, known: &Known) -> Fact {
    let value = Value { sender: sender.to_string(), since: known.since, refused: known.refused.clone() };
    Fact {
        account: Some(account.mailbox.clone()),
        name: fact_name(sender),
        // Texts and a time can always be written.
        value: serde_json::to_string(&value).ok(),
        at: known.last,
    }
}

fn note(account: &Account, at: Timestamp, text: String) -> Change {
    Change::Note(JournalEntry { at, message: None, account: Some(account.mailbox.clone()), text })
}

#[cfg(test)]
mod tests;
