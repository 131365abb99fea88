//! The one writer: takes everything that waits, commits it in one transaction with one sync, then answers all of it.
//!
//! While one batch is synced the next one gathers; only where a sync is slow, and only if somebody waits already, is a moment given to
//! those who were just answered. What waits is bounded in number by the channel and in octets by a semaphore, so that a slow disk makes
//! senders wait and not memory grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::crash;
use super::engine::{Committed, Engine, Failure};
use super::handle::CommitError;
use super::upkeep::Keeper;
use super::{Change, Incoming};
use crate::message::Body;

/// Changes in one batch, so that the first of them does not wait for too many others.
const BATCH: usize = 1024;
/// Octets in one batch: about what fits into SQLite's cache, so that it is written once.
const BATCH_OCTETS: usize = 2 << 20;
/// Changes that may wait for the writer.
const WAITING: usize = 4096;
/// Octets that may wait for the writer or be written.
const WAITING_OCTETS: usize = 32 << 20;
/// A commit that takes so long is worth being shared: a disk without a cache that survives a power cut, or one with much to do.
const SLOW: Duration = Duration::from_millis(2);
/// How long others are waited for at most, and how often they are looked for.
const MOST_PATIENCE: Duration = Duration::from_millis(5);
const MOMENT: Duration = Duration::from_micros(100);

/// Whether the writer is still there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Yes.
    Running,
    /// It committed all it was given and ended.
    Closed,
    /// It panicked: nothing can be accepted or recorded any more.
    Died,
}

/// The senders' end. Cheap to clone; the writer ends when the last one is gone.
#[derive(Clone)]
pub struct WriterHandle {
    orders: mpsc::Sender<Order>,
    room: Arc<Semaphore>,
    life: watch::Receiver<Life>,
    batches: Arc<AtomicU64>,
}

enum Order {
    Write(Job),
    /// An answer once what came before is committed.
    Ask(oneshot::Sender<()>),
    Close,
}

struct Job {
    change: Change,
    answer: Answer,
}

struct Answer {
    /// Whether a `Forget` left something to forget.
    to: oneshot::Sender<Result<bool, CommitError>>,
    octets: usize,
    _room: OwnedSemaphorePermit,
}

impl WriterHandle {
    /// Starts the writer's thread.
    pub fn start(engine: Box<dyn Engine>, keeper: Keeper) -> std::io::Result<Self> {
        let (orders, waiting) = mpsc::channel(WAITING);
        let (alive, life) = watch::channel(Life::Running);
        let batches = Arc::<AtomicU64>::default();
        let writer = Writer { engine, keeper: Some(keeper), batches: Arc::clone(&batches), alive };
        std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.run(waiting))?;
        Ok(Self { orders, room: Arc::new(Semaphore::new(WAITING_OCTETS)), life, batches })
    }

    /// Hands a change over and waits until it is on disk. Says whether a `Forget` left something to forget.
    pub async fn write(&self, change: Change) -> Result<bool, CommitError> {
        let octets = weight(&change).min(WAITING_OCTETS);
        let permits = u32::try_from(octets).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).acquire_many_owned(permits).await.map_err(|_| CommitError::Closed)?;
        let (to, answered) = oneshot::channel();
        let job = Job { change, answer: Answer { to, octets, _room: room } };
        self.orders.send(Order::Write(job)).await.map_err(|_| CommitError::Closed)?;
        answered.await.unwrap_or(Err(CommitError::Closed))
    }

    /// Waits until what was handed over so far is committed: whether the writer is still there. Writes nothing.
    pub async fn answers(&self) -> bool {
        let (to, answered) = oneshot::channel();
        self.orders.send(Order::Ask(to)).await.is_ok() && answered.await.is_ok()
    }

    /// Ends the writer once it has committed what waits.
    pub async fn close(&self) {
        // An error means that it has ended.
        drop(self.orders.send(Order::Close).await);
        self.ended().await;
    }

    /// Waits until the writer has ended, and says how.
    pub async fn ended(&self) -> Life {
        let mut life = self.life.clone();
        // The sender tells how it ended before it goes.
        life.wait_for(|life| *life != Life::Running).await.map_or(Life::Died, |life| *life)
    }

    /// Transactions so far.
    pub fn batches(&self) -> u64 {
        self.batches.load(Ordering::Relaxed)
    }
}

/// About what a change takes in memory and in the log.
fn weight(change: &Change) -> usize {
    const ROW: usize = 512;
    match change {
        Change::Accept(incoming) => ROW + incoming_weight(incoming),
        Change::Tell(tell) => {
            let entries: usize = tell.entries.iter().map(|entry| ROW + entry.text.len()).sum();
            let marks = tell.refusals.len() + tell.warned.len() + tell.facts.len();
            ROW * (1 + marks) + entries + tell.mail.as_ref().map_or(0, incoming_weight)
        }
        Change::Record(record) => {
            let replies: usize = record.recipients.iter().map(|update| 128 + update.reply.len()).sum();
            ROW + replies + record.journal.len()
        }
        Change::Retry { ids, .. }
        | Change::Delete { ids, .. }
        | Change::Move { ids, .. }
        | Change::Outside { ids, .. }
        | Change::HoldMessages { ids, .. }
        | Change::ReleaseMessages { ids, .. } => ROW * (1 + ids.len()),
        Change::GiveUp { ids, why, .. } => (ROW + why.len()) * (1 + ids.len()),
        Change::Lane { ids, why, .. } => (ROW + 2 * why.len()) * (1 + ids.len()),
        Change::Forget { .. } => 256 * ROW,
        Change::Note(entry) => ROW + entry.text.len(),
        Change::Reseal(resealed) => ROW * 16 * (1 + resealed.sign_ins.len()),
        Change::Learn(fact) => ROW + fact.value.as_ref().map_or(0, String::len),
        Change::Wake { .. }
        | Change::Readdress { .. }
        | Change::Hold(_)
        | Change::Release { .. }
        | Change::SignIn(_)
        | Change::Running(_) => ROW,
    }
}

fn incoming_weight(incoming: &Incoming) -> usize {
    let body = if let Body::Inline(bytes) = &incoming.body { bytes.len() } else { 0 };
    let recipients = &incoming.envelope.recipients;
    let said = recipients.iter().filter_map(|recipient| recipient.orcpt.as_ref());
    body + 128 * recipients.len() + said.map(|orcpt| orcpt.as_str().len()).sum::<usize>()
}

struct Writer {
    engine: Box<dyn Engine>,
    /// `None` once it has ended.
    keeper: Option<Keeper>,
    batches: Arc<AtomicU64>,
    alive: watch::Sender<Life>,
}

/// What is committed together. The two lists are in step.
#[derive(Default)]
struct Batch {
    changes: Vec<Change>,
    answers: Vec<Answer>,
    octets: usize,
    /// Those who want to know whether the writer is still at work.
    asked: Vec<oneshot::Sender<()>>,
}

impl Batch {
    fn push(&mut self, job: Job) {
        self.octets += job.answer.octets;
        self.changes.push(job.change);
        self.answers.push(job.answer);
    }

    fn is_full(&self) -> bool {
        self.changes.len() >= BATCH || self.octets >= BATCH_OCTETS
    }

    /// The batch in two: the messages handed over, and all else.
    fn split(self) -> (Self, Self) {
        let (mut accepts, mut others) = (Self::default(), Self::default());
        for (change, answer) in self.changes.into_iter().zip(self.answers) {
            let part = if matches!(change, Change::Accept(_)) { &mut accepts } else { &mut others };
            part.push(Job { change, answer });
        }
        (accepts, others)
    }

    fn answer(self, answer: &Result<bool, CommitError>) {
        for waiting in self.answers {
            // Who no longer waits does not hear of it; what was committed stays committed.
            drop(waiting.to.send(answer.clone()));
        }
    }
}

/// How long a commit took, and how many changes it had.
#[derive(Clone, Copy, Default)]
struct Done {
    took: Duration,
    changes: usize,
}

impl Done {
    /// How long to wait for those who were just answered, and are about to come back with their next change, rather than leave them
    /// waiting for a whole sync that others have to themselves. Nothing where a sync is quick.
    fn patience(self) -> Duration {
        if self.took < SLOW { Duration::ZERO } else { (self.took / 6).min(MOST_PATIENCE) }
    }
}

impl Writer {
    fn run(mut self, mut waiting: mpsc::Receiver<Order>) {
        let mut done = Done::default();
        loop {
            let mut batch = Batch::default();
            take(&mut waiting, &mut batch);
            if batch.changes.is_empty() && batch.asked.is_empty() {
                // Nobody came during the last commit: whoever comes first does not wait for others.
                match waiting.blocking_recv() {
                    Some(order) => put(&mut waiting, &mut batch, order),
                    None => return,
                }
                take(&mut waiting, &mut batch);
            } else if !batch.changes.is_empty() {
                gather(&mut waiting, &mut batch, done);
            }
            let asked = std::mem::take(&mut batch.asked);
            if !batch.changes.is_empty() {
                let (begun, changes) = (Instant::now(), batch.changes.len());
                self.commit(batch);
                done = Done { took: begun.elapsed(), changes };
                self.engine.settle();
            }
            for to in asked {
                // Who no longer waits need not hear it.
                let _ = to.send(());
            }
        }
    }

    fn commit(&mut self, batch: Batch) {
        crash::point(crash::BEFORE_COMMIT);
        let committed = self.engine.commit(&batch.changes);
        match committed {
            Ok(Committed { files, unfinished }) => {
                crash::point(crash::AFTER_COMMIT_BEFORE_ANSWER);
                self.batches.fetch_add(1, Ordering::Relaxed);
                let octets = batch.octets;
                batch.answer(&Ok(unfinished));
                if let Some(keeper) = &self.keeper {
                    keeper.committed(octets, files);
                }
            }
            Err(Failure::Fault(_)) if batch.changes.len() > 1 => self.commit_one_by_one(batch),
            Err(Failure::Full) => self.commit_without_mail(batch),
            Err(failure) => {
                tracing::error!(%failure, changes = batch.changes.len(), "could not commit to the queue");
                batch.answer(&Err(failure.into()));
            }
        }
    }

    /// One of them is at fault: the others are not to suffer.
    fn commit_one_by_one(&mut self, batch: Batch) {
        for (change, answer) in batch.changes.into_iter().zip(batch.answers) {
            let mut alone = Batch::default();
            alone.push(Job { change, answer });
            self.commit(alone);
        }
    }

    /// The disk is full: no more mail. But what became of mail already sent is small, frees room, and lost would be sent twice.
    fn commit_without_mail(&mut self, batch: Batch) {
        let (accepts, others) = batch.split();
        tracing::error!(refused = accepts.changes.len(), "could not commit to the queue: the disk is full");
        if accepts.changes.is_empty() {
            return others.answer(&Err(CommitError::Full));
        }
        accepts.answer(&Err(CommitError::Full));
        if !others.changes.is_empty() {
            self.commit(others);
        }
    }
}

/// Puts whatever waits into the batch.
fn take(waiting: &mut mpsc::Receiver<Order>, batch: &mut Batch) {
    while !batch.is_full()
        && let Ok(order) = waiting.try_recv()
    {
        put(waiting, batch, order);
    }
}

fn put(waiting: &mut mpsc::Receiver<Order>, batch: &mut Batch, order: Order) {
    match order {
        Order::Write(job) => batch.push(job),
        Order::Ask(to) => batch.asked.push(to),
        // What was handed over before is still received, nothing new is.
        Order::Close => waiting.close(),
    }
}

/// Gives those of the last commit a moment to come back. Some came while it was under way, so there are at least as many as both.
fn gather(waiting: &mut mpsc::Receiver<Order>, batch: &mut Batch, done: Done) {
    let (expected, mut left) = (batch.changes.len() + done.changes, done.patience());
    while batch.changes.len() < expected && !batch.is_full() && !waiting.is_closed() && !left.is_zero() {
        std::thread::sleep(MOMENT);
        take(waiting, batch);
        left = left.saturating_sub(MOMENT);
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Ended before the others hear of it: an ended writer leaves no thread behind.
        self.keeper = None;
        let life = if std::thread::panicking() { Life::Died } else { Life::Closed };
        if life == Life::Died {
            tracing::error!("the writer of the queue panicked");
        }
        self.alive.send_replace(life);
    }
}

impl From<Failure> for CommitError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Full => Self::Full,
            Failure::Fault(why) | Failure::Broken(why) => Self::Failed(why),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A letter box with so many orders in it, and a batch of one.
    fn orders(n: usize) -> (mpsc::Receiver<Order>, Batch, mpsc::Sender<Order>) {
        let (sender, waiting) = mpsc::channel(WAITING);
        for _ in 0..n {
            assert!(sender.try_send(Order::Write(job())).is_ok());
        }
        let mut batch = Batch::default();
        batch.push(job());
        (waiting, batch, sender)
    }

    fn job() -> Job {
        let room = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Job { change: Change::Running(true), answer: Answer { to: oneshot::channel().0, octets: 1, _room: room } }
    }

    #[test]
    fn only_a_slow_disk_makes_anybody_wait_for_others() {
        for (took, patience) in [(0, 0), (1_999, 0), (2_400, 400), (6_000, 1_000), (30_000, 5_000), (900_000, 5_000)] {
            let done = Done { took: Duration::from_micros(took), changes: 1 };
            assert_eq!(done.patience(), Duration::from_micros(patience), "{took}");
        }
    }

    #[test]
    fn those_who_come_back_are_taken_along() {
        let slow = Duration::from_millis(20);
        let (mut waiting, mut batch, _sender) = orders(3);
        gather(&mut waiting, &mut batch, Done { took: slow, changes: 3 });
        assert_eq!(batch.changes.len(), 4);

        let (mut waiting, mut batch, _sender) = orders(3);
        gather(&mut waiting, &mut batch, Done { took: Duration::from_micros(90), changes: 3 });
        assert_eq!(batch.changes.len(), 1, "a quick disk is not worth the wait");

        let (mut waiting, mut batch, _sender) = orders(0);
        gather(&mut waiting, &mut batch, Done { took: slow, changes: 3 });
        assert_eq!(batch.changes.len(), 1, "nobody came, and it went on");
    }
}
