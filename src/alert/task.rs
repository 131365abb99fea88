//! Looks every minute and whenever something happens, and carries out what is decided.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::alerts::{Action, Alerts, Event, Handed};
use super::heartbeat::{self, Heartbeat};
use super::look::look;
use super::notice::{Item, Notice, State};
use super::receiver::{Receiver, ReceiverName, SendError, receivers};
use super::trouble::Severity;
use crate::config::Config;
use crate::journal::Happening;
use crate::message::Address;
use crate::ops::Ops;
use crate::ops::expiry::expiries;
use crate::store::Change;

/// How often it looks, on the calendar.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// What happens at the same time is looked at together.
const GATHER: Duration = Duration::from_millis(500);
/// How long a stop waits for alerts under way.
const GRACE: Duration = Duration::from_secs(5);
/// How long the parts may take to say how things stand.
const PATIENCE: Duration = Duration::from_secs(20);

/// Something that the alerts hear of at once. All else they see with the next look.
#[derive(Debug)]
enum Ring {
    Look,
    Broken(Address),
}

/// Makes the alerts look now. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bell {
    rings: mpsc::UnboundedSender<Ring>,
}

/// The other side of a bell.
#[derive(Debug)]
pub struct Ears {
    rings: mpsc::UnboundedReceiver<Ring>,
}

/// A bell and its other side.
pub fn bell() -> (Bell, Ears) {
    let (sender, receiver) = mpsc::unbounded_channel();
    (Bell { rings: sender }, Ears { rings: receiver })
}

impl Bell {
    /// Something has changed that may be worth an alert. Nobody hearing it means that the relay ends.
    pub fn ring(&self) {
        let _ = self.rings.send(Ring::Look);
    }

    /// The keeper of this account's sign-in has panicked, and the relay is about to end.
    pub fn broken(&self, account: Address) {
        let _ = self.rings.send(Ring::Broken(account));
    }
}

/// Runs until `stop`, and then until what is under way has been told, for a few seconds.
pub async fn run(ops: Ops, ears: Ears, stop: CancellationToken) {
    let facts = ops.store.facts().await.unwrap_or_else(|error| {
        // Worse than telling something twice is not telling it.
        tracing::warn!(%error, "could not read which alerts were told before");
        Vec::new()
    });
    let alerts = Alerts::recall(&facts, ops.clock.now());
    let task = Task {
        alerts,
        receivers: HashMap::new(),
        sending: JoinSet::new(),
        heartbeat: Heartbeat::default(),
        beating: JoinSet::new(),
        ops,
    };
    task.run(ears, stop).await;
}

type Sent = (ReceiverName, Vec<Handed>, Result<String, SendError>);

struct Task {
    ops: Ops,
    alerts: Alerts,
    receivers: HashMap<ReceiverName, Receiver>,
    sending: JoinSet<Sent>,
    heartbeat: Heartbeat,
    /// When it began, and how it went.
    beating: JoinSet<(Timestamp, Result<(), SendError>)>,
}

impl Task {
    async fn run(mut self, mut ears: Ears, stop: CancellationToken) {
        let mut config = self.ops.config.clone();
        let mut feed = self.ops.feed.listen();
        let first = Arc::clone(&config.borrow_and_update());
        self.follow(&first).await;
        loop {
            self.look(&stop).await;
            let look_at = self.ops.clock.now() + LOOK_EVERY;
            let clock = self.ops.clock.clone();
            let until_look = clock.sleep_until(look_at);
            tokio::pin!(until_look);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return self.finish(&mut ears).await,
                    () = &mut until_look => break,
                    Ok(()) = config.changed() => {
                        let config = Arc::clone(&config.borrow_and_update());
                        self.follow(&config).await;
                        break;
                    }
                    Some(sent) = self.sending.join_next() => self.handed(sent).await,
                    Some(Ok((at, result))) = self.beating.join_next() => self.heartbeat.called(result, at),
                    Some(ring) = ears.rings.recv() => match ring {
                        Ring::Look => break,
                        Ring::Broken(account) => self.on(Event::Broken(account)).await,
                    },
                    is_news = about_an_account(&mut feed) => if is_news { break },
                }
            }
            // Real time: a storm of events is one look, whatever the calendar does.
            tokio::time::sleep(GATHER).await;
            while let Ok(ring) = ears.rings.try_recv() {
                if let Ring::Broken(account) = ring {
                    self.on(Event::Broken(account)).await;
                }
            }
        }
    }

    /// Tells those whom another configuration names.
    async fn follow(&mut self, config: &Config) {
        let receivers = receivers(config, &self.ops.login_tools.secrets, &self.ops.intake());
        let names = receivers.iter().map(|receiver| receiver.name).collect();
        self.receivers = receivers.into_iter().map(|receiver| (receiver.name, receiver)).collect();
        self.on(Event::Receivers(names)).await;
    }

    async fn look(&mut self, stop: &CancellationToken) {
        let config = self.ops.config.borrow().clone();
        let has_room = self.ops.store.has_room(config.queue.min_free_disk);
        let looking = async {
            let status = self.ops.status().await;
            // A scheduler that has ended knows of no hold: that must not look like an end of all troubles.
            if self.ops.answers().await { Some(status) } else { None }
        };
        let status = match tokio::time::timeout(PATIENCE, looking).await {
            _ if stop.is_cancelled() => return,
            Ok(Some(Ok(status))) => status,
            Ok(Some(Err(error))) => {
                return tracing::warn!(%error, "could not see how things stand; looking again in a minute");
            }
            Ok(None) | Err(_) => {
                return tracing::warn!("the relay does not say how it stands; looking again in a minute");
            }
        };
        let reading = tokio::task::spawn_blocking(move || expiries(&config)).await;
        let Ok(expiries) = reading else {
            return tracing::error!("looking for what ends soon has panicked: this is a bug");
        };
        let now = self.ops.clock.now();
        self.on(Event::Looked(look(&status, &expiries, has_room, now))).await;
        self.beat();
    }

    /// Says that all is well, if it is and it is time.
    fn beat(&mut self) {
        while let Some(Ok((at, result))) = self.beating.try_join_next() {
            self.heartbeat.called(result, at);
        }
        let now = self.ops.clock.now();
        let Some(source) = self.ops.config.borrow().alert.heartbeat.clone() else { return };
        if self.beating.is_empty() && self.heartbeat.is_due(now) && self.alerts.is_well(now) {
            let secrets = Arc::clone(&self.ops.login_tools.secrets);
            self.beating.spawn(async move { (now, heartbeat::call(&source, &secrets).await) });
        }
    }

    async fn on(&mut self, event: Event) {
        for action in self.alerts.on(event, self.ops.clock.now()) {
            match action {
                Action::Send { to, items, what, through } => self.send(to, items, what, through),
                Action::Learn(fact) => {
                    if let Err(error) = self.ops.store.commit(Change::Learn(fact)).await {
                        tracing::warn!(%error, "could not write that an alert was told: it may be told again after a restart");
                    }
                }
                Action::Say(item) => say(&item),
            }
        }
    }

    fn send(&mut self, to: ReceiverName, items: Vec<Item>, what: Vec<Handed>, through: Option<Address>) {
        let notice = Notice::new(&self.ops.config.borrow(), self.ops.clock.now(), items);
        let receiver = self.receivers.get(&to).cloned();
        self.sending.spawn(async move {
            let result = match receiver {
                Some(receiver) => receiver.send(&notice, through.as_ref()).await,
                None => Err(SendError::new("it is no longer in the configuration")),
            };
            (to, what, result)
        });
    }

    async fn handed(&mut self, sent: Result<Sent, tokio::task::JoinError>) {
        let (to, what, result) = match sent {
            Ok(sent) => sent,
            // The same would happen again: the watcher over this task ends the relay.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => return,
            },
        };
        match &result {
            Ok(how) => tracing::info!(receiver = %to, "told: {how}"),
            Err(error) => tracing::warn!(receiver = %to, %error, "could not tell of an alert; it is tried again"),
        }
        let result = result.map(drop);
        self.on(Event::Handed { to, what, result }).await;
    }

    /// What is under way may end, and a failure that ends the relay is told.
    async fn finish(mut self, ears: &mut Ears) {
        while let Ok(ring) = ears.rings.try_recv() {
            if let Ring::Broken(account) = ring {
                self.on(Event::Broken(account)).await;
            }
        }
        let telling = async {
            while let Some(sent) = self.sending.join_next().await {
                self.handed(sent).await;
            }
        };
        if tokio::time::timeout(GRACE, telling).await.is_err() {
            tracing::warn!(
                "stopping before every receiver has answered: what it did not get is told after the next start"
            );
        }
    }
}

/// Waits for something live: whether it is about an account that stops or goes on.
async fn about_an_account(feed: &mut broadcast::Receiver<Happening>) -> bool {
    match feed.recv().await {
        Ok(Happening::Account { .. }) | Err(broadcast::error::RecvError::Lagged(_)) => true,
        Ok(_) => false,
        // The looks go on.
        Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
    }
}

/// Nobody else may be listening.
fn say(item: &Item) {
    let (headline, todo) = (item.headline(), &item.todo);
    match (item.state, item.severity) {
        (State::Solved, _) => tracing::info!("alert: {headline}"),
        (_, Severity::Warning) => tracing::warn!("alert: {headline}; to do: {todo}"),
        (_, Severity::Critical) => tracing::error!("alert: {headline}; to do: {todo}"),
    }
}
