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
use self::stage::Stage;
use self::work::{Begin, look_outside};
use crate::clock::Clock;
use crate::config::{Config, Environment, Followed};
use crate::journal::Feed;
use crate::message::Address;
use crate::ops::Ops;
use crate::outbound::{Judge, Pool, UnderWay};
use crate::schedule::{self, Event, Inbox};
use crate::service::Inherited;
use crate::signin::{LoginTools, SignInParts, SignIns, Timeouts};
use crate::store::{Change, DataDir, Store};
use crate::{control, inbound};

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
        let (config_sender, config) = watch::channel(Arc::new(config));
        let found = Found::by(&config, &environment, inherited, &clock).await?;
        found.store.commit(Change::Running(true)).await?;

        let (failed, failures) = mpsc::unbounded_channel();
        let (door, work) = (Stage::new(failed.clone()), Stage::new(failed));
        let (inbox, letters) = schedule::inbox();
        let (events, sign_in_events) = mpsc::unbounded_channel();
        let (doorkeeper, passwords) = inbound::Doorkeeper::new(config.clone(), environment.clone());
        let login_tools = login_tools(&found, environment, clock);
        let sign_ins = SignIns::start(SignInParts {
            config: config.clone(),
            secrets: login_tools.secrets.clone(),
            shelf: login_tools.shelf.clone(),
            clock: login_tools.clock.clone(),
            events,
            stop: work.stop.clone(),
            tasks: work.tasks.clone(),
            timeouts: login_tools.timeouts,
        });
        let ops = ops(&found, config, inbox, login_tools, sign_ins);
        let Found { data_dir, store, sockets, scheduler, .. } = found;
        let pool = Pool::judging(Judge::new(ops.config.clone()));
        needs_no_sign_in(&ops);
        work::start(&work, &ops, &pool, Begin { scheduler, letters, sign_in_events });
        door.run("the reader of passwords", |stop| passwords.run(stop));
        let (listeners, admin) = sockets.serve(&door, &ops, doorkeeper);
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
            // The stages keep the other end.
            Some(failure) = self.failures.recv() => failure,
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

/// What a sign-in and a login need.
fn login_tools(found: &Found, environment: Environment, clock: Clock) -> LoginTools {
    LoginTools {
        secrets: Arc::new(move |source| source.read(&environment)),
        shelf: Arc::new(found.shelf.clone()),
        clock,
        timeouts: Timeouts::default(),
    }
}

fn ops(
    found: &Found,
    config: watch::Receiver<Arc<Config>>,
    schedule: Inbox,
    login_tools: LoginTools,
    sign_ins: SignIns,
) -> Ops {
    Ops {
        store: found.store.clone(),
        config,
        sign_ins,
        shelf: found.shelf.clone(),
        schedule,
        feed: Feed::default(),
        clock: login_tools.clock.clone(),
        login_tools,
        started_at: found.at,
        user_names: found.user_names.clone(),
        send_as: found.send_as.clone(),
        under_way: UnderWay::default(),
        logins: Arc::default(),
    }
}

/// A sign-in that is missing or dead stops no account that has none: it may have had one in an earlier configuration.
fn needs_no_sign_in(ops: &Ops) {
    for account in ops.config.borrow().accounts.iter().filter(|account| !account.signs_in()) {
        ops.schedule.tell(Event::SignInGood { account: account.mailbox.clone() });
    }
}
