//! The one task that owns the scheduler and carries out what it decides.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Action, Event, Outcome, Proved, Scheduler, Standing};
use crate::clock::Clock;
use crate::journal::{Feed, Happening};
use crate::message::{Address, QueueId};
use crate::store::{Change, Hold, Next, Record, Store, Waiting};

/// Announcements of accepted mail that may be under way; more than that is found in the store instead.
const ANNOUNCEMENTS: usize = 8192;
/// How many announcements are taken in before the scheduler decides anew.
const BATCH: usize = 256;
/// Nothing due: look again all the same.
const IDLE: Duration = Duration::from_mins(1);

/// Hands messages to the far side; the schedule does not know how.
pub trait Courier: Send + Sync + 'static {
    /// Makes one attempt through this account, which need not be the one in whose queue the message waits, and records what came of it.
    fn attempt(&self, account: Address, id: QueueId) -> impl Future<Output = Outcome> + Send;

    /// Logs in with a fresh token, without sending. The error is the reply or failure in words.
    fn probe(&self, account: Address) -> impl Future<Output = Result<(), String>> + Send;

    /// Logs in as an attempt would, without sending.
    fn prove(&self, account: Address) -> impl Future<Output = Proved> + Send;
}

/// The scheduler's letter box. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbox {
    events: mpsc::UnboundedSender<Letter>,
    accepted: mpsc::Sender<(Address, Waiting)>,
    overflowed: Arc<AtomicBool>,
}

#[derive(Debug)]
enum Letter {
    Event(Box<Event>),
    Standings(oneshot::Sender<Vec<Standing>>),
}

/// The other side of the letter box.
#[derive(Debug)]
pub struct Letters {
    events: mpsc::UnboundedReceiver<Letter>,
    accepted: mpsc::Receiver<(Address, Waiting)>,
    overflowed: Arc<AtomicBool>,
}

/// A letter box and its other side.
pub fn inbox() -> (Inbox, Letters) {
    let (events, events_out) = mpsc::unbounded_channel();
    let (accepted, accepted_out) = mpsc::channel(ANNOUNCEMENTS);
    let overflowed = Arc::new(AtomicBool::new(false));
    let letters = Letters { events: events_out, accepted: accepted_out, overflowed: overflowed.clone() };
    (Inbox { events, accepted, overflowed }, letters)
}

impl Inbox {
    /// A message is on disk. Never waits: a scheduler that falls behind asks the store.
    pub fn accepted(&self, account: Address, waiting: Waiting) {
        if self.accepted.try_send((account, waiting)).is_err() {
            self.overflowed.store(true, Ordering::Release);
        }
    }

    /// Something happened. Lost only when the scheduler has ended, and then it no longer matters.
    pub fn tell(&self, event: Event) {
        let _ = self.events.send(Letter::Event(Box::new(event)));
    }

    /// Where every account stands; empty when the scheduler has ended.
    pub async fn standings(&self) -> Vec<Standing> {
        self.ask().await.unwrap_or_default()
    }

    /// Waits for an answer: whether the scheduler is still there.
    pub async fn answers(&self) -> bool {
        self.ask().await.is_some()
    }

    async fn ask(&self) -> Option<Vec<Standing>> {
        let (answer, answered) = oneshot::channel();
        let _ = self.events.send(Letter::Standings(answer));
        answered.await.ok()
    }
}

/// What the task works with.
pub struct Desk<C> {
    /// Where messages are read from and holds are written to.
    pub store: Store,
    /// Who makes the attempts.
    pub courier: Arc<C>,
    /// The time of due times and pace.
    pub clock: Clock,
    /// Who hears of holds.
    pub feed: Feed,
    /// The task's own letter box, for the answers of what it starts.
    pub inbox: Inbox,
}

/// Runs the scheduler until `stop`, and then until the attempts under way have ended.
pub async fn run<C: Courier>(desk: Desk<C>, scheduler: Scheduler, letters: Letters, stop: CancellationToken) {
    let (decided, to_write) = mpsc::unbounded_channel();
    let recorder = Recorder { store: desk.store.clone(), feed: desk.feed.clone(), inbox: desk.inbox.clone() };
    let recorder = tokio::spawn(recorder.run(to_write));
    let mut task =
        Task { desk, scheduler, letters, decided, attempts: TaskTracker::new(), running: 0, stopping: false };
    task.run(stop).await;
    task.attempts.close();
    task.attempts.wait().await;
    drop(task);
    if recorder.await.is_err() {
        tracing::error!("the task that writes holds has panicked");
    }
}

struct Task<C> {
    desk: Desk<C>,
    scheduler: Scheduler,
    letters: Letters,
    decided: mpsc::UnboundedSender<Action>,
    attempts: TaskTracker,
    running: usize,
    stopping: bool,
}

impl<C: Courier> Task<C> {
    async fn run(&mut self, stop: CancellationToken) {
        self.take(Event::Woken);
        while !(self.stopping && self.running == 0) {
            let now = self.desk.clock.now();
            let wake = self.scheduler.next_wake(now).unwrap_or(now + IDLE).min(now + IDLE);
            let clock = self.desk.clock.clone();
            tokio::select! {
                () = stop.cancelled(), if !self.stopping => self.stopping = true,
                Some(letter) = self.letters.events.recv() => self.open(letter),
                Some(first) = self.letters.accepted.recv() => self.accept(first),
                () = clock.sleep_until(wake), if !self.stopping => self.take(Event::Woken),
                // It has panicked. Returning early ends the relay, which is better than holds that nobody hears of.
                () = self.decided.closed() => return,
            }
            if self.letters.overflowed.swap(false, Ordering::AcqRel) {
                self.take(Event::Overflowed);
            }
        }
    }

    fn open(&mut self, letter: Letter) {
        match letter {
            Letter::Event(event) => {
                if matches!(*event, Event::Finished { .. } | Event::Probed { .. } | Event::Proved { .. }) {
                    self.running = self.running.saturating_sub(1);
                }
                self.take(*event);
            }
            Letter::Standings(answer) => {
                let _ = answer.send(self.scheduler.standings(self.desk.clock.now()));
            }
        }
    }

    fn accept(&mut self, first: (Address, Waiting)) {
        let mut next = Some(first);
        for _ in 0..BATCH {
            let Some((account, waiting)) = next else { break };
            self.take(Event::Accepted { account, waiting });
            next = self.letters.accepted.try_recv().ok();
        }
        if let Some((account, waiting)) = next {
            self.take(Event::Accepted { account, waiting });
        }
    }

    fn take(&mut self, event: Event) {
        for action in self.scheduler.on(event, self.desk.clock.now()) {
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        let inbox = self.desk.inbox.clone();
        match action {
            Action::Hold { .. } | Action::Release { .. } | Action::Wake(..) => {
                let _ = self.decided.send(action);
            }
            // What is not begun any more waits in the store for the next start.
            _ if self.stopping => {}
            Action::Load(account, load) => {
                let store = self.desk.store.clone();
                self.attempts.spawn(async move {
                    let asked = load.clone();
                    let heads = store.heads(&account, load.flows.clone(), move |flows| asked.limit(flows)).await;
                    if let Err(error) = &heads {
                        tracing::error!(%account, %error, "could not read the queue");
                    }
                    inbox.tell(Event::Loaded { account, load, heads: heads.ok() });
                });
            }
            Action::Attempt(account, id) => {
                self.running += 1;
                let Desk { courier, store, clock, .. } = &self.desk;
                let desk = Attempting { courier: courier.clone(), store: store.clone(), clock: clock.clone() };
                self.attempts.spawn(async move {
                    let outcome = attempt(desk, account.clone(), id).await;
                    inbox.tell(Event::Finished { account, id, outcome });
                });
            }
            Action::Probe(account) => {
                self.running += 1;
                let courier = self.desk.courier.clone();
                self.attempts.spawn(async move {
                    let probe = AssertUnwindSafe(courier.probe(account.clone())).catch_unwind().await;
                    let result =
                        probe.unwrap_or_else(|_| Err("the probe failed within the relay; see the log".to_owned()));
                    inbox.tell(Event::Probed { account, result });
                });
            }
            Action::Prove(account) => {
                self.running += 1;
                let courier = self.desk.courier.clone();
                self.attempts.spawn(async move {
                    let proof = AssertUnwindSafe(courier.prove(account.clone())).catch_unwind().await;
                    let broken = |_| Proved::Failed("this failed within the relay; see the log".to_owned());
                    inbox.tell(Event::Proved { account, result: proof.unwrap_or_else(broken) });
                });
            }
        }
    }
}

/// One attempt that may panic: then the message is held for a person to look at, since it would panic again.
async fn attempt<C: Courier>(desk: Attempting<C>, account: Address, id: QueueId) -> Outcome {
    let attempt = AssertUnwindSafe(desk.courier.attempt(account.clone(), id)).catch_unwind();
    if let Ok(outcome) = attempt.await {
        return outcome;
    }
    tracing::error!(%id, %account, "an attempt failed within the relay; the message is held");
    let record = Record {
        id,
        account,
        at: desk.clock.now(),
        recipients: Vec::new(),
        next: Next::Hold,
        sent: None,
        journal: "held: the attempt failed within the relay itself, which is a fault in it; see the log".to_owned(),
    };
    desk.store.insist(Change::Record(Box::new(record))).await;
    Outcome::Gone
}

struct Attempting<C> {
    courier: Arc<C>,
    store: Store,
    clock: Clock,
}

/// Writes what the scheduler has decided in the order in which it was decided, and tells of it.
struct Recorder {
    store: Store,
    feed: Feed,
    inbox: Inbox,
}

impl Recorder {
    async fn run(self, mut decided: mpsc::UnboundedReceiver<Action>) {
        while let Some(action) = decided.recv().await {
            match action {
                Action::Hold { hold, is_news } => self.hold(hold, is_news).await,
                Action::Release { account, at, why } => {
                    let what = format!("released: {why}");
                    self.write(&account, Change::Release { account: account.clone(), at, why }).await;
                    self.tell(account, false, what);
                }
                Action::Wake(account, at) => {
                    self.write(&account, Change::Wake { account: account.clone(), at }).await;
                    self.inbox.tell(Event::Changed { account });
                }
                Action::Load(..) | Action::Attempt(..) | Action::Probe(_) | Action::Prove(_) => {}
            }
        }
    }

    async fn hold(&self, hold: Hold, is_news: bool) {
        let why = hold.reply.as_deref().or(hold.error.as_deref()).unwrap_or_default();
        let what = format!("held: {}{}{why}", hold.cause, if why.is_empty() { "" } else { ": " });
        let account = hold.account.clone();
        self.write(&account, Change::Hold(Box::new(hold))).await;
        if is_news {
            self.tell(account, true, what);
        }
    }

    /// In memory it is in force all the same; what cannot be written is lost with the next restart only.
    async fn write(&self, account: &Address, change: Change) {
        if let Err(error) = self.store.commit(change).await {
            tracing::error!(%account, %error, "could not write a hold, a release or a wake");
        }
    }

    fn tell(&self, account: Address, is_held: bool, what: String) {
        tracing::warn!(%account, "{what}");
        self.feed.tell(Happening::Account { account, is_held, what });
    }
}

#[cfg(test)]
mod tests;
