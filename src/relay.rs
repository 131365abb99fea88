//! The one place that builds the parts, runs them and stops them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::{Account, Config, Environment, Followed, Listener};
use crate::identity::{Identity, machine_mark};
use crate::journal::Feed;
use crate::lane::Lanes;
use crate::message::Address;
use crate::ops::Ops;
use crate::outbound::{Judge, Moods, Parts, Pool, SendAs, Sender, UnderWay, UserNames};
use crate::pickup::{self, Folder};
use crate::schedule::{self, Desk, Event, Inbox, Scheduler};
use crate::service::Inherited;
use crate::shelf::{KeySource, VaultShelf};
use crate::signin::{LoginTools, SecretReader, SignInEvent, SignInParts, SignIns, Timeouts};
use crate::store::{Change, DataDir, Hold, Sent, Store};
use crate::{admin, alert, control, inbound, report};

/// The day that the pace looks back on, and a margin.
const PACE_MEMORY: Duration = Duration::from_hours(25);
/// How often old journals and dead letters are looked for.
const HOUSEKEEPING: Duration = Duration::from_hours(1);
/// How long the listeners may take to finish their replies.
const DOOR_DEADLINE: Duration = Duration::from_secs(4);
/// How long attempts and refreshes under way may take to end by themselves.
const WORK_DEADLINE: Duration = Duration::from_secs(8);
/// How long they may take behind that, once messages that have left whole but have no answer are to be written down as in doubt. With what
/// comes before, this stays below the promised 20 s.
const HURRY: Duration = Duration::from_secs(3);
/// How long the sessions that are left may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_hours(24);

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

/// Tasks that are stopped together.
#[derive(Default)]
struct Stage {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Stage {
    /// Whether all of it ends in time.
    async fn end(&self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok()
    }
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

/// What a start finds, and what may be in its way. Nothing runs yet.
struct Found {
    data_dir: DataDir,
    store: Store,
    sockets: Sockets,
    shelf: VaultShelf,
    scheduler: Scheduler,
    user_names: UserNames,
    send_as: SendAs,
}

impl Found {
    async fn by(
        configs: &watch::Receiver<Arc<Config>>,
        environment: &Environment,
        inherited: Inherited,
        clock: &Clock,
    ) -> anyhow::Result<Self> {
        let (config, now) = (Arc::clone(&configs.borrow()), clock.now());
        let config = &*config;
        let data_dir = DataDir::lock(&config.data_dir)?;
        let store = Store::open(&config.data_dir)?;
        let sockets = Sockets::bind(config, inherited).await?;
        let shelf = open_shelf(configs, environment, &store, clock).await?;
        shelf.finish_rotation(now).await;
        store.sweep().await.context("bodies without a message could not be removed")?;
        let sent = sent_lately(&store, config, now, |_| true).await?;
        let (holds, changes) = shelf.identity().correct_holds(store.holds().await?);
        for change in changes {
            store.commit(change).await?;
        }
        let facts = store.facts().await?;
        let (user_names, send_as) = (UserNames::from_facts(&facts), SendAs::from_facts(&facts));
        let taken = |account: &Arc<Account>| Some((account.mailbox.clone(), user_names.last(account)?.at));
        let taken: Vec<_> = config.accounts.iter().filter_map(taken).collect();
        let with_mail = store.accounts_with_mail().await?;
        let scheduler = Scheduler::new(config, holds, &sent, store.was_running(), now);
        let scheduler = scheduler.with_logins(&taken, now).with_queues(&with_mail, now);
        Ok(Self { data_dir, store, sockets, shelf, scheduler, user_names, send_as })
    }
}

/// A sign-in that is missing or dead stops no account that has none: it may have had one in an earlier configuration.
fn needs_no_sign_in(ops: &Ops) {
    for account in ops.config.borrow().accounts.iter().filter(|account| !account.signs_in()) {
        ops.schedule.tell(Event::SignInGood { account: account.mailbox.clone() });
    }
}

/// What the scheduler works with.
fn desk(ops: &Ops, pool: &Pool) -> Desk<Sender> {
    let courier = Sender {
        store: ops.store.clone(),
        sign_ins: ops.sign_ins.clone(),
        pool: pool.clone(),
        config: ops.config.clone(),
        clock: ops.clock.clone(),
        feed: ops.feed.clone(),
        user_names: ops.user_names.clone(),
        send_as: ops.send_as.clone(),
        schedule: ops.schedule.clone(),
        moods: Moods::default(),
        parts: Parts::default(),
        secrets: ops.login_tools.secrets.clone(),
        under_way: ops.under_way.clone(),
    };
    Desk {
        store: ops.store.clone(),
        courier: Arc::new(courier),
        clock: ops.clock.clone(),
        feed: ops.feed.clone(),
        inbox: ops.schedule.clone(),
    }
}

/// Everything that is bound at the start, so that a port that is taken is told before anything runs.
struct Sockets {
    listeners: Vec<(TcpListener, Arc<Listener>)>,
    admin: TcpListener,
    control: UnixListener,
}

impl Sockets {
    async fn bind(config: &Config, mut inherited: Inherited) -> anyhow::Result<Self> {
        let mut listeners = Vec::new();
        for listener in &config.listeners {
            let bound = match inherited.take(listener.address) {
                Some(socket) => TcpListener::from_std(socket),
                None => inbound::bind(listener),
            };
            match bound {
                Ok(socket) => listeners.push((socket, listener.clone())),
                Err(error) if listener.optional && is_missing_family(&error) => {
                    tracing::info!(address = %listener.address, "this machine has no IPv6: the listener is left out");
                }
                Err(error) => return Err(cannot_listen(&listener.address, "address in [[listener]]", &error)),
            }
        }
        let admin = match inherited.take(config.admin.address) {
            Some(socket) => TcpListener::from_std(socket),
            None => TcpListener::bind(config.admin.address).await,
        };
        let admin = admin.map_err(|error| cannot_listen(&config.admin.address, "address in [admin]", &error))?;
        inherited.used_up()?;
        let control = bind_control(&config.data_dir)?;
        Ok(Self { listeners, admin, control })
    }

    /// Starts to serve; returns where, in the order of the configuration, and where the page is.
    fn serve(
        self,
        ops: &Ops,
        doorkeeper: inbound::Doorkeeper,
        door: &Stage,
        watcher: &Watcher,
    ) -> (Vec<SocketAddr>, SocketAddr) {
        let intake = Arc::new(ops.intake());
        let (config, clock) = (ops.config.clone(), ops.clock.clone());
        let behind = Arc::new(inbound::Door { intake, config, clock, doorkeeper, lanes: Lanes::default() });
        let mut addresses = Vec::new();
        for (socket, listener) in self.listeners {
            addresses.push(socket.local_addr().unwrap_or(listener.address));
            let (stop, tasks) = (door.stop.clone(), door.tasks.clone());
            let serve = inbound::serve(socket, listener, behind.clone(), stop, tasks);
            watcher.over(door, "a listener", serve);
        }
        match Folder::prepare(&ops.config.borrow().data_dir) {
            Ok(folder) => {
                let taking = pickup::run(folder, behind, ops.store.clone(), door.stop.clone());
                watcher.over(door, "the drop folder", taking);
            }
            Err(error) => tracing::error!(%error, "there is no drop folder: sendmail cannot be used"),
        }
        let admin = self.admin.local_addr().unwrap_or(ops.config.borrow().admin.address);
        let (alive, healthy) = watch::channel(true);
        let (store, stop) = (ops.store.clone(), door.stop.clone());
        door.tasks.spawn(async move {
            tokio::select! {
                () = store.writer_gone() => drop(alive.send_replace(false)),
                // Whoever waits for a store that was closed in order waits for ever, and keeps it open.
                () = stop.cancelled() => {}
            }
        });
        let page = admin::serve(self.admin, healthy, door.stop.clone());
        watcher.over(door, "the page", async move { log_end("the page", page.await) });
        let control = control::serve(self.control, ops.clone(), door.stop.clone());
        watcher.over(door, "the control socket", async move { log_end("the control socket", control.await) });
        (addresses, admin)
    }
}

fn bind_control(data_dir: &Path) -> anyhow::Result<UnixListener> {
    let path = data_dir.join(control::SOCKET);
    control::bind(&path).with_context(|| format!("cannot open the control socket {}", path.display()))
}

fn cannot_listen(address: &SocketAddr, key: &str, error: &std::io::Error) -> anyhow::Error {
    let why = match error.kind() {
        std::io::ErrorKind::AddrInUse => "another program listens there already".to_owned(),
        std::io::ErrorKind::PermissionDenied => "ports below 1024 need the right to use them".to_owned(),
        std::io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => error.to_string(),
    };
    anyhow::anyhow!("cannot listen on {address}: {why}; {key} names another one")
}

fn is_missing_family(error: &std::io::Error) -> bool {
    // EAFNOSUPPORT has no kind of its own.
    const ADDRESS_FAMILY_NOT_SUPPORTED: i32 = 97;
    error.kind() == std::io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(ADDRESS_FAMILY_NOT_SUPPORTED)
}

fn log_end(what: &str, result: std::io::Result<()>) {
    if let Err(error) = result {
        tracing::error!(%error, "{what} has failed");
    }
}

/// Notices when a task ends that should not.
#[derive(Clone)]
struct Watcher {
    failed: mpsc::UnboundedSender<String>,
}

impl Watcher {
    fn over(&self, stage: &Stage, what: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (stop, failed) = (stage.stop.clone(), self.failed.clone());
        let running = stage.tasks.spawn(task);
        tokio::spawn(async move {
            let ended = running.await;
            if ended.is_err() || !stop.is_cancelled() {
                let _ = failed.send(format!("{what} has ended unexpectedly; see the log"));
            }
        });
    }
}

/// Where this configuration's sign-ins are kept: with the key that it names, and as the instance that it names.
///
/// # Errors
///
/// When the store cannot be read or written, or nothing is sealed yet and the key cannot be had.
pub async fn open_shelf(
    config: &watch::Receiver<Arc<Config>>,
    environment: &Environment,
    store: &Store,
    clock: &Clock,
) -> anyhow::Result<VaultShelf> {
    let identity = Identity::establish(store.clone(), config.clone(), clock.clone(), machine_mark()).await?;
    let source = KeySource::of(&config.borrow(), environment);
    VaultShelf::open(store.clone(), source, identity).await
}

/// What a tenant's budget counts may be other mail than when the queue was last looked at.
fn look_outside(ops: &Ops, work: &Stage) {
    let (ops, stop) = (ops.clone(), work.stop.clone());
    work.tasks.spawn(async move {
        let looked = tokio::select! {
            () = stop.cancelled() => return,
            looked = ops.look_outside() => looked,
        };
        match looked {
            Ok(0) => {}
            Ok(messages) => tracing::info!(messages, "waiting mail was put in line anew by external_recipients_per_day"),
            Err(error) => {
                tracing::warn!(%error, "could not put waiting mail in line by external_recipients_per_day; each attempt looks again");
            }
        }
    });
}

/// What the logins that are wanted have sent while the pace looks back.
async fn sent_lately(
    store: &Store,
    config: &Config,
    now: Timestamp,
    is_wanted: impl Fn(&Address) -> bool,
) -> anyhow::Result<Vec<Sent>> {
    let logins = config.accounts.iter().map(|account| account.login.clone());
    let mut logins: Vec<_> = logins.filter(is_wanted).collect();
    logins.sort();
    logins.dedup();
    let mut sent = Vec::new();
    for login in logins {
        sent.extend(store.sent_since(&login, now - PACE_MEMORY).await?);
    }
    Ok(sent)
}

/// What the sign-ins tell concerns the schedule, and makes the alerts look.
async fn pass_on(
    mut events: mpsc::UnboundedReceiver<SignInEvent>,
    inbox: Inbox,
    bell: alert::Bell,
    clock: Clock,
    stop: CancellationToken,
) {
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = stop.cancelled() => return,
        };
        // Whatever it is, how things stand may have changed.
        bell.ring();
        match event {
            Some(SignInEvent::Dead { account, cause, error, codes, probe_at, probes, .. }) => {
                inbox.tell(Event::Held(Hold {
                    account,
                    cause,
                    reply: None,
                    error: Some(error),
                    codes,
                    since: clock.now(),
                    probe_at,
                    probes,
                }));
            }
            Some(SignInEvent::Good { account, .. }) => inbox.tell(Event::SignInGood { account }),
            // Its keeper has logged it.
            Some(SignInEvent::Trouble { .. }) => {}
            // Its keeper has panicked: the watcher over this task ends the relay.
            Some(SignInEvent::Broken { account }) => return bell.broken(account),
            None => return,
        }
    }
}

/// Old journals and dead letters are forgotten.
async fn keep_house(ops: Ops, stop: CancellationToken) {
    loop {
        let now = ops.clock.now();
        let queue = ops.config.borrow().queue.clone();
        let forget = Change::Forget {
            journal_before: now - DAY * queue.journal_days,
            dead_before: now - DAY * queue.dead_letter_days,
            sent_before: now - PACE_MEMORY,
        };
        if let Err(error) = ops.store.commit(forget).await {
            tracing::warn!(%error, "old journal entries could not be removed");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = ops.clock.sleep_until(now + HOUSEKEEPING) => {}
        }
    }
}
