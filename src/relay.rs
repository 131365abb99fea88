//! The one place that builds the parts, runs them and stops them.

mod found;
mod sockets;
mod stage;
mod upkeep;
mod work;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

pub use found::open_shelf;

use self::found::{Found, sent_lately};
use self::stage::{Stage, Watcher};
use self::upkeep::keep_house;
use self::work::{desk, look_outside, pass_on};
use crate::clock::Clock;
use crate::config::{Config, Environment, Followed};
use crate::journal::Feed;
use crate::message::Address;
use crate::ops::Ops;
use crate::outbound::{Judge, Pool, UnderWay};
use crate::schedule::{self, Event};
use crate::service::Inherited;
use crate::signin::{LoginTools, SecretReader, SignInParts, SignIns, Timeouts};
use crate::store::{Change, DataDir, Store};
use crate::{alert, control, inbound, report};

/// How long the listeners may take to finish their replies.
const DOOR_DEADLINE: Duration = Duration::from_secs(4);
/// How long attempts and refreshes under way may take to end by themselves.
const WORK_DEADLINE: Duration = Duration::from_secs(8);
/// How long they may take behind that, once messages that have left whole but have no answer are to be written down as in doubt. With what
/// comes before, this stays below the promised 20 s.
const HURRY: Duration = Duration::from_secs(3);
/// How long the sessions that are left may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// A relay that runs.
pub struct Relay {
    ops: Ops,
    listeners: Vec<SocketAddr>,
    admin: SocketAddr,
    config: watch::Sender<Arc<Config>>,
    store: Store,
    pool: Pool,
    door: Stage,
    work: Stage,
    failures: mpsc::UnboundedReceiver<String>,
    socket: PathBuf,
    _data_dir: DataDir,
}

impl Relay {
    /// Builds everything and starts it. When this returns, every listener and the control socket are bound.
    ///
    /// # Errors
    ///
    /// In one line each: a second relay on the folder, a folder or key that cannot be used, a port that is taken.
    pub async fn start(config: Config, environment: Environment, clock: Clock) -> anyhow::Result<Self> {
        Self::start_on(Inherited::default(), config, environment, clock).await
    }

    /// As [`Self::start`], on the sockets that are there already. A listener without one is bound.
    ///
    /// # Errors
    ///
    /// Also when a socket fits no listener.
    pub async fn start_on(
        inherited: Inherited,
        config: Config,
        environment: Environment,
        clock: Clock,
    ) -> anyhow::Result<Self> {
        let now = clock.now();
        let (config_sender, config) = watch::channel(Arc::new(config));
        let Found { data_dir, store, sockets, shelf, scheduler, user_names, send_as } =
            Found::by(&config, &environment, inherited, &clock).await?;
        store.commit(Change::Running(true)).await?;

        let (inbox, letters) = schedule::inbox();
        let (failed, failures) = mpsc::unbounded_channel();
        let (door, work, watcher) = (Stage::default(), Stage::default(), Watcher { failed });
        let (events, sign_in_events) = mpsc::unbounded_channel();
        let (doorkeeper, passwords) = inbound::Doorkeeper::new(config.clone(), environment.clone());
        let secrets: SecretReader = Arc::new(move |source| source.read(&environment));
        let login_tools = LoginTools {
            secrets: secrets.clone(),
            shelf: Arc::new(shelf.clone()),
            clock: clock.clone(),
            timeouts: Timeouts::default(),
        };
        let sign_ins = SignIns::start(SignInParts {
            config: config.clone(),
            secrets,
            shelf: Arc::new(shelf.clone()),
            clock: clock.clone(),
            events,
            stop: work.stop.clone(),
            tasks: work.tasks.clone(),
            timeouts: Timeouts::default(),
        });
        let ops = Ops {
            store: store.clone(),
            config,
            sign_ins,
            shelf,
            login_tools,
            schedule: inbox.clone(),
            feed: Feed::default(),
            clock: clock.clone(),
            started_at: now,
            user_names,
            send_as,
            under_way: UnderWay::default(),
            logins: Arc::default(),
        };
        let pool = Pool::judging(Judge::new(ops.config.clone()));
        let desk = desk(&ops, &pool);
        needs_no_sign_in(&ops);
        watcher.over(&work, "the scheduler", schedule::run(desk, scheduler, letters, work.stop.clone()));
        let (bell, ears) = alert::bell();
        watcher.over(&work, "a sign-in", pass_on(sign_in_events, inbox, bell, clock, work.stop.clone()));
        watcher.over(&work, "the alerts", alert::run(ops.clone(), ears, work.stop.clone()));
        let reporting = report::Desk { intake: ops.intake(), clock: ops.clock.clone() };
        watcher.over(&work, "the notices", report::run(reporting, work.stop.clone()));
        watcher.over(&work, "the housekeeping", keep_house(ops.clone(), work.stop.clone()));
        let (sessions, stop) = (pool.clone(), work.stop.clone());
        watcher.over(&work, "the session pool", async move { sessions.tend(stop).await });
        watcher.over(&door, "the reader of passwords", passwords.run(door.stop.clone()));
        let (listeners, admin) = sockets.serve(&ops, doorkeeper, &door, &watcher);
        look_outside(&ops, &work);
        tracing::info!(?listeners, %admin, "taking mail");
        let socket = data_dir.path().join(control::SOCKET);
        let config = config_sender;
        Ok(Self { ops, listeners, admin, config, store, pool, door, work, failures, socket, _data_dir: data_dir })
    }

    /// What an administrator can order.
    pub fn ops(&self) -> &Ops {
        &self.ops
    }

    /// Where mail is taken; with the ports that were given for port 0.
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.listeners
    }

    /// Where `/healthz` answers.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The configuration that is in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }

    /// Puts another configuration in force, as far as that goes without a restart; what needs one is returned, a line each. The certificates of
    /// the listeners are looked at at once.
    ///
    /// # Errors
    ///
    /// When the queue cannot be read. Nothing has changed then.
    pub async fn configure(&self, config: Config) -> anyhow::Result<Vec<String>> {
        let running = self.config();
        let Followed { config, needs_restart } = config.follow(&running);
        let is_new = |login: &Address| running.accounts.iter().all(|account| account.login != *login);
        let sent = sent_lately(&self.store, &config, self.ops.clock.now(), is_new).await?;
        let config = Arc::new(config);
        self.config.send_replace(config.clone());
        // Whoever changes something may have granted a sender too.
        self.ops.send_as.try_again(None);
        // An account that is new in the configuration may be one of the original, of which this is a copy: held before it can send.
        for hold in self.ops.shelf.identity().holds() {
            self.ops.schedule.tell(Event::Held(hold));
        }
        self.ops.schedule.tell(Event::Configured { config: config.clone(), sent });
        look_outside(&self.ops, &self.work);
        needs_no_sign_in(&self.ops);
        // It is in force: what cannot be counted now, `status` tells later.
        let counts = self.store.counts().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "could not see whether mail waits for accounts that are gone");
            Vec::new()
        });
        let is_gone = |account: &Address| config.account(account).is_none() && running.account(account).is_some();
        let mut gone: BTreeMap<(&Address, &str), u64> = BTreeMap::new();
        for count in counts.iter().filter(|count| is_gone(&count.account)) {
            *gone.entry((&count.account, count.state.as_str())).or_default() += count.messages;
        }
        for ((account, state), messages) in gone {
            tracing::warn!(%account, messages, state, "the account is gone: its mail is kept until it is back");
        }
        Ok(needs_restart)
    }

    /// Returns when a part has failed that the relay cannot do without, and says which.
    pub async fn failure(&mut self) -> String {
        let store = self.store.clone();
        tokio::select! {
            () = store.writer_gone() => "the queue's writer has ended; see the log".to_owned(),
            failure = self.failures.recv() => failure.unwrap_or_else(|| "every part has ended".to_owned()),
        }
    }

    /// Ends in three stages: the door is closed, the work under way may finish, and the writer goes last.
    pub async fn stop(self) {
        self.ops.end_logins().await;
        if !self.door.end(DOOR_DEADLINE).await {
            tracing::warn!("a conversation did not end in time and is cut off");
        }
        let mut in_order = self.work.end(WORK_DEADLINE).await;
        if !in_order {
            self.pool.hurry();
            // Counted from here: a machine that had no time for the relay so far is not to cut off what only has to be written.
            in_order = self.work.end(HURRY).await;
        }
        if !in_order {
            tracing::warn!("an attempt did not end in time and is cut off");
        }
        let _ = tokio::time::timeout(GOODBYE, self.pool.close_all()).await;
        // An attempt that was cut off may have sent: the next start has to reckon with it, as after a crash.
        if in_order && let Err(error) = self.store.commit(Change::Running(false)).await {
            tracing::warn!(%error, "could not write that the relay stopped in order");
        }
        self.store.close().await;
        let _ = std::fs::remove_file(self.socket);
    }
}

/// A sign-in that is missing or dead stops no account that has none: it may have had one in an earlier configuration.
fn needs_no_sign_in(ops: &Ops) {
    for account in ops.config.borrow().accounts.iter().filter(|account| !account.signs_in()) {
        ops.schedule.tell(Event::SignInGood { account: account.mailbox.clone() });
    }
}
