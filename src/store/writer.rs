//! The one writer: takes everything that waits, commits it in one transaction with one sync, then answers all of it.
//!
//! There is no artificial delay: while one batch is synced the next one gathers. What waits is bounded in number by the channel and
//! in octets by a semaphore, so that a slow disk makes senders wait and not memory grow.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use super::Change;
use super::crash;
use super::engine::{Committed, Engine, Failure};
use super::handle::CommitError;
use super::upkeep::Keeper;
use crate::message::Body;

/// Changes in one batch, so that the first of them does not wait for too many others.
const BATCH: usize = 1024;
/// Octets in one batch: about what fits into SQLite's cache, so that it is written once.
const BATCH_OCTETS: usize = 2 << 20;
/// Changes that may wait for the writer.
const WAITING: usize = 4096;
/// Octets that may wait for the writer or be written.
const WAITING_OCTETS: usize = 32 << 20;

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
        Change::Accept(incoming) => {
            let body = if let Body::Inline(bytes) = &incoming.body { bytes.len() } else { 0 };
            let recipients = &incoming.envelope.recipients;
            let said = recipients.iter().filter_map(|recipient| recipient.orcpt.as_ref());
            ROW + body + 128 * recipients.len() + said.map(|orcpt| orcpt.as_str().len()).sum::<usize>()
        }
        Change::Record(record) => {
            let replies: usize = record.recipients.iter().map(|update| 128 + update.reply.len()).sum();
            ROW + replies + record.journal.len()
        }
        Change::Retry { ids, .. } | Change::Delete { ids, .. } | Change::Move { ids, .. } => ROW * (1 + ids.len()),
        Change::Forget { .. } => 256 * ROW,
        Change::Note(entry) => ROW + entry.text.len(),
        Change::Wake { .. } | Change::Hold(_) | Change::Release { .. } | Change::SignIn(_) | Change::Running(_) => ROW,
    }
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

impl Writer {
    fn run(mut self, mut waiting: mpsc::Receiver<Order>) {
        while let Some(order) = waiting.blocking_recv() {
            let mut batch = Batch::default();
            let mut asked = Vec::new();
            let mut next = Some(order);
            while let Some(order) = next {
                match order {
                    Order::Write(job) => batch.push(job),
                    Order::Ask(to) => asked.push(to),
                    // What was handed over before is still received, nothing new is.
                    Order::Close => waiting.close(),
                }
                next = if batch.is_full() { None } else { waiting.try_recv().ok() };
            }
            if !batch.changes.is_empty() {
                self.commit(batch);
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
