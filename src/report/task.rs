//! Looks every minute and whenever a recipient was refused, and carries out what is decided: each notice is committed together with the mark that it
//! was told, so that a crash leaves both or neither.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::io::AsyncReadExt;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::addressee::addressee;
use super::affair::{Affair, Party};
use super::digest;
use super::dsn::{self, Notice, Original};
use super::memory::Memory;
use super::plan::{self, Found, Kind, Letter, Plan, Settled};
use crate::clock::Clock;
use crate::config::{App, Config};
use crate::inbound::QueueIntake;
use crate::journal::Happening;
use crate::message::{Address, Body, HEADER_LIMIT, Headers, Lane, QueueId, Return};
use crate::own_mail::OwnMail;
use crate::schedule::Event;
use crate::store::{
    Change, CommitError, JournalEntry, ReadError, RecipientState, Refusal, Store, Stored, Tell, Telling,
};

/// How often it looks, on the calendar.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// What happens at the same time is looked at together.
const PAUSE: Duration = Duration::from_millis(500);
/// The most refused recipients that one look is about; the next ones are looked at a minute later.
const PAGE: u32 = 2000;
/// How long a mail waits until its sender is warned.
const DELAY: Duration = Duration::from_hours(4);
/// How often delayed mail is looked for.
const DELAYS_EVERY: Duration = Duration::from_mins(15);
/// How long a relay that has just started may get rid of what waited for it before anybody is warned.
const DELAYS_AFTER_START: Duration = Duration::from_mins(10);
/// How many delayed messages are read at a time.
const DELAYED_PAGE: u32 = 500;
/// How much of a mail comes back at most if its sender wants all of it.
const WHOLE_LIMIT: usize = 1 << 20;
/// How much of a header comes back at most.
const HEADER_BACK: usize = 64 * 1024;
/// How many recipients a line of the journal names.
const NAMED: usize = 5;

/// What the notices work with.
#[derive(Clone)]
pub struct Desk {
    /// The queue, who sends on from it, and who hears of it.
    pub intake: QueueIntake,
    /// The time.
    pub clock: Clock,
}

/// Runs until `stop`.
pub async fn run(desk: Desk, stop: CancellationToken) {
    let mut task = Task::recall(desk).await;
    let mut config = task.desk.intake.config.clone();
    let mut feed = task.desk.intake.feed.listen();
    loop {
        if let Err(error) = task.look().await {
            tracing::warn!(%error, "could not tell what became of mail; looking again in a minute");
        }
        let clock = task.desk.clock.clone();
        let next_look = clock.now() + LOOK_EVERY;
        tokio::select! {
            () = stop.cancelled() => return,
            () = clock.sleep_until(next_look) => {}
            Ok(()) = config.changed() => {}
            () = refusal(&mut feed) => {}
        }
        // Real time: a storm of refusals is one look, whatever the calendar does.
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}

/// Waits until somebody is refused, or until something was missed.
async fn refusal(feed: &mut broadcast::Receiver<Happening>) {
    loop {
        match feed.recv().await {
            Ok(Happening::Recipient { state: RecipientState::Refused, .. })
            | Err(broadcast::error::RecvError::Lagged(_)) => return,
            Ok(_) => {}
            // The looks go on.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}

/// Why a look was not finished. What it has not told is told by the next one.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

struct Task {
    desk: Desk,
    memory: Memory,
    /// When delayed mail is looked for next.
    delays_at: Timestamp,
}

impl Task {
    async fn recall(desk: Desk) -> Self {
        let facts = desk.intake.store.facts().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "could not read which notices were sent lately: some may not be gathered");
            Vec::new()
        });
        let delays_at = desk.clock.now() + DELAYS_AFTER_START;
        Self { memory: Memory::recall(&facts), delays_at, desk }
    }

    fn store(&self) -> &Store {
        &self.desk.intake.store
    }

    async fn look(&mut self) -> Result<(), LookError> {
        self.refusals().await?;
        let now = self.desk.clock.now();
        // A clock that went back is no reason to look less often.
        if now >= self.delays_at || self.delays_at > now + DELAYS_EVERY {
            self.delays().await?;
            self.delays_at = now + DELAYS_EVERY;
        }
        Ok(())
    }

    async fn refusals(&mut self) -> Result<(), LookError> {
        let now = self.desk.clock.now();
        if self.memory.room(now) == 0 {
            return Ok(());
        }
        let config = self.desk.intake.config.borrow().clone();
        let mut places: BTreeMap<QueueId, Vec<usize>> = BTreeMap::new();
        for (id, index) in self.store().to_tell(now, PAGE).await? {
            places.entry(id).or_default().push(index);
        }
        let mut found = Vec::new();
        for (id, places) in places {
            let Some((stored, body)) = self.store().message_and_body(id).await? else { continue };
            found.push(find(&stored, body.as_ref(), &places, &config).await);
        }
        if found.is_empty() {
            return Ok(());
        }
        let mut memory = self.memory.clone();
        let plan = plan::refusals(found, config.postmaster.as_ref(), &mut memory, now);
        self.settle(&plan, now).await?;
        self.memory = memory;
        for letter in &plan.letters {
            self.send(letter, letter_account(letter), &config, now).await?;
        }
        self.digest(&plan, &config, now).await
    }

    /// What needs no mail.
    async fn settle(&self, plan: &Plan, now: Timestamp) -> Result<(), LookError> {
        if plan.settled.is_empty() && plan.facts.is_empty() {
            return Ok(());
        }
        let tell = Tell {
            refusals: plan.settled.iter().flat_map(marks).collect(),
            entries: plan.settled.iter().map(|settled| entry(settled.id, now, settled.entry.clone())).collect(),
            facts: plan.facts.clone(),
            at: now,
            ..Tell::default()
        };
        Ok(self.store().commit(Change::Tell(Box::new(tell))).await?)
    }

    /// A notice to a sender, together with what it settles.
    async fn send(
        &mut self,
        letter: &Letter,
        account: &Address,
        config: &Config,
        now: Timestamp,
    ) -> Result<(), LookError> {
        let id = self.store().next_id(now);
        let through = through(account, config);
        let notice = Notice {
            kind: letter.kind,
            id,
            at: now,
            to: &letter.to,
            from: &through,
            relay: &config.hostname,
            remote: config.account(&through).map_or("", |account| &account.smtp.host),
            affairs: &letter.affairs,
            retry_until: retry_until(letter, config, now),
            kept_days: config.queue.dead_letter_days,
            original: self.original(letter).await?,
        };
        let (bytes, subject) = match dsn::compose(&notice) {
            Ok(composed) => composed,
            Err(error) => return self.cannot_tell(letter, &error, now).await,
        };
        let mail = OwnMail {
            id,
            at: now,
            app: App::RELAY,
            through,
            // RFC 3461 section 5.2: a notice has the null sender, so that none is ever sent about it.
            sender: None,
            to: vec![letter.to.clone()],
            lane: Lane::Normal,
            lane_why: "a notice to a sender",
            subject,
            bytes,
        };
        let mut memory = self.memory.clone();
        let tell = Tell {
            mail: Some(mail.incoming(config)),
            refusals: if letter.kind == Kind::Failed { done(letter.affairs.iter()) } else { Vec::new() },
            warned: if letter.kind == Kind::Delayed { ids(letter) } else { Vec::new() },
            entries: entries(letter, id, now),
            facts: memory.tell(&letter.topic, now),
            at: now,
        };
        self.commit(tell).await?;
        self.memory = memory;
        tracing::info!(notice = %id, to = %letter.to, mails = letter.affairs.len(), kind = ?letter.kind, "told a sender");
        Ok(())
    }

    async fn digest(&mut self, plan: &Plan, config: &Config, now: Timestamp) -> Result<(), LookError> {
        let (Some((first, _)), Some(postmaster)) = (plan.digest.first(), &config.postmaster) else { return Ok(()) };
        let id = self.store().next_id(now);
        let through = through(&first.account, config);
        let digest = digest::Digest {
            id,
            at: now,
            to: postmaster,
            from: &through,
            relay: &config.hostname,
            affairs: &plan.digest,
            kept_days: config.queue.dead_letter_days,
        };
        let composed = digest::compose(&digest);
        let affairs = || plan.digest.iter().map(|(affair, _)| affair);
        let mut memory = self.memory.clone();
        let mut tell = Tell { refusals: done(affairs()), at: now, ..Tell::default() };
        match composed {
            Ok((bytes, subject)) => {
                let why = |(affair, why): &(Affair, &str)| {
                    entry(affair.id, now, format!("the postmaster {postmaster} was told: notice {id} ({why})"))
                };
                tell.entries = plan.digest.iter().map(why).collect();
                tell.facts = vec![memory.digest(now)];
                let mail = OwnMail {
                    id,
                    at: now,
                    app: App::RELAY,
                    through,
                    sender: None,
                    to: vec![postmaster.clone()],
                    lane: Lane::Normal,
                    lane_why: "a digest for the postmaster",
                    subject,
                    bytes,
                };
                tell.mail = Some(mail.incoming(config));
            }
            Err(error) => {
                tracing::warn!(%error, "could not tell the postmaster");
                for refusal in &mut tell.refusals {
                    refusal.telling = Telling::Nobody;
                }
                tell.entries = affairs().map(|one| entry(one.id, now, format!("nobody was told: {error}"))).collect();
            }
        }
        self.commit(tell).await?;
        self.memory = memory;
        tracing::info!(notice = %id, to = %postmaster, mails = plan.digest.len(), "told the postmaster");
        Ok(())
    }

    /// An address that cannot stand in a header: told by nobody, rather than tried for ever.
    async fn cannot_tell(&self, letter: &Letter, error: &str, now: Timestamp) -> Result<(), LookError> {
        tracing::warn!(to = %letter.to, error, "could not tell a sender");
        let mut refusals = done(letter.affairs.iter());
        for refusal in &mut refusals {
            refusal.telling = Telling::Nobody;
        }
        let nobody = |affair: &Affair| entry(affair.id, now, format!("nobody was told: {error}"));
        let tell = Tell {
            refusals: if letter.kind == Kind::Failed { refusals } else { Vec::new() },
            warned: if letter.kind == Kind::Delayed { ids(letter) } else { Vec::new() },
            entries: letter.affairs.iter().map(nobody).collect(),
            at: now,
            ..Tell::default()
        };
        Ok(self.store().commit(Change::Tell(Box::new(tell))).await?)
    }

    /// Commits, and has the mail of it sent on. A mail that was not needed any more is not there: nobody minds.
    async fn commit(&self, tell: Tell) -> Result<(), LookError> {
        let about = tell.mail.as_ref().map(|mail| (mail.id, mail.account.clone(), mail.size));
        self.store().commit(Change::Tell(Box::new(tell))).await?;
        if let Some((id, account, size)) = about {
            self.desk.intake.feed.tell(Happening::Received { id, sender: None, recipients: 1, size });
            self.desk.intake.schedule.tell(Event::Changed { account });
        }
        Ok(())
    }

    /// What comes back of the mail; of several nothing does.
    async fn original(&self, letter: &Letter) -> Result<Option<Original>, LookError> {
        let [affair] = &letter.affairs[..] else { return Ok(None) };
        // RFC 3461 section 4.3: RET is about failures.
        let is_wanted = affair.ret == Some(Return::Full) && letter.kind == Kind::Failed;
        let Some(body) = self.store().body(affair.id).await? else { return Ok(None) };
        // One octet more tells whether there is more.
        let limit = if is_wanted { WHOLE_LIMIT } else { HEADER_BACK };
        let start = match beginning(&body, limit + 1).await {
            Ok(start) => start,
            Err(error) => {
                tracing::warn!(id = %affair.id, %error, "could not read a mail for the notice about it");
                return Ok(None);
            }
        };
        let is_all = start.len() <= limit;
        Ok(Original::of(if is_all { &start } else { &start[..HEADER_BACK.min(start.len())] }, is_wanted && is_all))
    }

    /// Warns of what has waited long. Who was warned lately is not warned again yet.
    async fn delays(&mut self) -> Result<(), LookError> {
        let now = self.desk.clock.now();
        let config = self.desk.intake.config.borrow().clone();
        let held: HashSet<Address> = self.store().holds().await?.into_iter().map(|hold| hold.account).collect();
        let is_free = |mailbox: &Address| !held.contains(mailbox);
        // A warning that waits behind the same hold would come with the mail itself.
        let other = config.accounts.iter().map(|account| &account.mailbox).find(|mailbox| is_free(mailbox));
        let Some(other) = other.cloned() else { return Ok(()) };
        let before = QueueId::new(now - DELAY, 0);
        let mut after = None;
        loop {
            let page = self.store().unwarned(after, before, DELAYED_PAGE).await?;
            let Some(last) = page.last().map(|stored| stored.id) else { return Ok(()) };
            let found = self.delayed(&page, &config, now).await?;
            let (letters, never) = plan::delays(found, &self.memory, now);
            if !never.is_empty() {
                let tell = Tell { warned: never, at: now, ..Tell::default() };
                self.store().commit(Change::Tell(Box::new(tell))).await?;
            }
            for letter in &letters {
                let own = letter_account(letter);
                let account = if is_free(own) { own } else { &other };
                self.send(letter, account, &config, now).await?;
            }
            after = Some(last);
        }
    }

    /// Those of a page whose sender was not warned lately.
    async fn delayed(&self, page: &[Stored], config: &Config, now: Timestamp) -> Result<Vec<Found>, LookError> {
        let mut found = Vec::new();
        for stored in page {
            let topic = stored.envelope.sender.as_ref().map(|sender| plan::delay_topic(sender, &stored.account));
            if topic.is_some_and(|topic| self.memory.gathers(&topic, now).is_some()) {
                continue;
            }
            let pending = stored.recipients.iter().enumerate().filter(|(_, row)| row.state.is_pending());
            let places: Vec<usize> = pending.map(|(index, _)| index).collect();
            let body = self.store().body(stored.id).await?;
            found.push(find(stored, body.as_ref(), &places, config).await);
        }
        Ok(found)
    }
}

/// What a notice about a message needs. One whose header cannot be read is told of by what the envelope says.
async fn find(stored: &Stored, body: Option<&Body>, places: &[usize], config: &Config) -> Found {
    let start = match body {
        Some(body) => beginning(body, HEADER_LIMIT).await.unwrap_or_default(),
        None => Bytes::new(),
    };
    let headers = Headers::scan(&start);
    Found { affair: Affair::of(stored, &headers, places), addressee: addressee(stored, &headers, config) }
}

/// At most so many octets from the start of a stored mail.
async fn beginning(body: &Body, limit: usize) -> io::Result<Bytes> {
    match body {
        Body::Inline(bytes) => Ok(bytes.slice(..bytes.len().min(limit))),
        Body::File(path) => {
            let file = tokio::fs::File::open(path).await?;
            let mut start = Vec::new();
            file.take(u64::try_from(limit).unwrap_or(u64::MAX)).read_to_end(&mut start).await?;
            Ok(start.into())
        }
    }
}

/// The account that carried it, if it is still there.
fn through(account: &Address, config: &Config) -> Address {
    match config.account(account) {
        Some(_) => account.clone(),
        None => config.accounts.first().map_or_else(|| account.clone(), |first| first.mailbox.clone()),
    }
}

/// All affairs of a letter are of one account.
fn letter_account(letter: &Letter) -> &Address {
    letter.affairs.first().map_or(&letter.to, |affair| &affair.account)
}

/// Only trying counts, so that it may be later.
fn retry_until(letter: &Letter, config: &Config, now: Timestamp) -> Option<Timestamp> {
    let [affair] = &letter.affairs[..] else { return None };
    let left = config.queue.give_up_after.saturating_sub(affair.tried_for);
    (letter.kind == Kind::Delayed).then(|| now.checked_add(left).ok()).flatten()
}

fn marks(settled: &Settled) -> impl Iterator<Item = Refusal> {
    let mark = |&index: &usize| Refusal { message: settled.id, index, telling: settled.telling };
    settled.places.iter().map(mark)
}

fn done<'a>(affairs: impl Iterator<Item = &'a Affair>) -> Vec<Refusal> {
    let of = |affair: &'a Affair| {
        let mark = |party: &Party| Refusal { message: affair.id, index: party.index, telling: Telling::Done };
        affair.parties.iter().map(mark)
    };
    affairs.flat_map(of).collect()
}

fn ids(letter: &Letter) -> Vec<QueueId> {
    letter.affairs.iter().map(|affair| affair.id).collect()
}

/// A line with each mail, and one with the notice.
fn entries(letter: &Letter, notice: QueueId, now: Timestamp) -> Vec<JournalEntry> {
    let to = &letter.to;
    let line = |affair: &Affair| {
        let mut whom: Vec<&str> = affair.parties.iter().take(NAMED).map(|party| party.address.as_str()).collect();
        if affair.parties.len() > NAMED {
            whom.push("others");
        }
        let what = match letter.kind {
            Kind::Failed => format!("the sender {to} was told that it did not reach {}", whom.join(", ")),
            Kind::Delayed => format!("the sender {to} was warned that it takes long"),
        };
        entry(affair.id, now, format!("{what}: notice {notice}"))
    };
    let mut entries: Vec<_> = letter.affairs.iter().map(line).collect();
    let about: Vec<String> = letter.affairs.iter().take(NAMED).map(|affair| affair.id.to_string()).collect();
    let more = letter.affairs.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    entries.push(entry(notice, now, format!("a notice to {to} about message {}{more}", about.join(", "))));
    entries
}

fn entry(message: QueueId, at: Timestamp, text: String) -> JournalEntry {
    JournalEntry { at, message: Some(message), account: None, text }
}

#[cfg(test)]
mod tests;
