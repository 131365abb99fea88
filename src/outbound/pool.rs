//! Sessions with the servers, kept for the next message while they are good for one.
//!
//! A session serves at most 100 messages in 10 minutes, and is closed after 30 idle seconds. How many may be open at once is the
//! caller's to see to, with one promise from here: an idle session is used, or closed, before another one is opened for its login.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Greeting, Opening, Timeouts};
use super::credentials::Credentials;
use super::error::AttemptError;
use super::sessions::Sessions;
use super::tls::TlsConfigs;
use super::verdict::Judge;
use crate::config::{Account, HostPort, SmtpTls};
use crate::message::Address;

/// How long a session may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The most messages of one session: 100.
    pub messages: u32,
    /// How old a session may become: 10 minutes. Exchange ends them after 20.
    pub age: Duration,
    /// How long it may wait for the next message: 30 s.
    pub idle: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { messages: 100, age: Duration::from_mins(10), idle: Duration::from_secs(30) }
    }
}

/// All sessions. Cheap to clone; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    idle: Mutex<HashMap<Key, Vec<Idle>>>,
    sessions: Sessions,
    tls: TlsConfigs,
    timeouts: Timeouts,
    bounds: Bounds,
    judge: Judge,
    hurry: CancellationToken,
}

/// Sessions of one key may stand in for each other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    smtp: HostPort,
    tls: SmtpTls,
    /// Whose limits it counts for.
    login: Address,
    /// As whom it is logged in: what it may send as depends on that.
    user: Address,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Instant,
}

impl Pool {
    /// An empty pool.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty pool whose replies are judged so.
    pub fn judging(judge: Judge) -> Self {
        Self { inner: Arc::new(Inner { judge, ..Inner::default() }) }
    }

    /// An empty pool with other waits and bounds.
    pub fn with(timeouts: Timeouts, bounds: Bounds) -> Self {
        Self { inner: Arc::new(Inner { timeouts, bounds, ..Inner::default() }) }
    }

    /// Logs in as `user` over a new connection and says goodbye: whether this account could send now.
    ///
    /// # Errors
    /// What stands in the way, as an attempt would meet it.
    pub async fn probe(
        &self,
        account: &Account,
        user: &Address,
        credentials: &Credentials,
        hostname: &str,
    ) -> Result<Greeting, AttemptError> {
        let connection = self.open(account, user, credentials, hostname).await?;
        let greeting = connection.greeting.clone();
        connection.quit().await;
        Ok(greeting)
    }

    /// Closes what has been idle or open for too long. To be called every few seconds; see [`Pool::tend`].
    pub async fn close_idle(&self) {
        let bounds = self.inner.bounds;
        let expired = self.remove(|idle| !idle.is_good(bounds));
        close(expired).await;
    }

    /// Closes every idle session. Those in use close with their attempts.
    pub async fn close_all(&self) {
        close(self.remove(|_| true)).await;
    }

    /// The relay is about to end: whoever waits for the answer to a message that has left whole gets "in doubt" at once.
    pub fn hurry(&self) {
        self.inner.hurry.cancel();
    }

    /// Closes what expires until told to stop, then everything.
    pub async fn tend(&self, stop: CancellationToken) {
        let every = (self.inner.bounds.idle / 6).max(Duration::from_millis(10));
        while stop.run_until_cancelled(tokio::time::sleep(every)).await.is_some() {
            self.close_idle().await;
        }
        self.close_all().await;
    }

    /// Sessions of this login whose socket is not closed yet, whether in use, idle or just being opened.
    pub fn open_sessions(&self, login: &Address) -> usize {
        self.inner.sessions.of(login)
    }

    /// An idle session for this account, logged in as `user`, that is still good for a message.
    pub(super) async fn take(&self, account: &Account, user: &Address) -> Option<Connection> {
        let key = Key::of(account, user);
        loop {
            // Latest first: the others may get old in peace.
            let mut idle = self.lock().get_mut(&key)?.pop()?;
            if !idle.connection.is_quiet().await {
                continue;
            }
            if idle.is_good(self.inner.bounds) {
                return Some(idle.connection);
            }
            idle.connection.quit().await;
        }
    }

    /// A new session. Makes room for it first.
    pub(super) async fn open(
        &self,
        account: &Account,
        user: &Address,
        credentials: &Credentials,
        hostname: &str,
    ) -> Result<Connection, AttemptError> {
        let most = usize::try_from(account.connections).unwrap_or(usize::MAX);
        while self.open_sessions(&account.login) >= most {
            let Some(idle) = self.any_idle_of(&account.login) else { break };
            idle.connection.quit().await;
        }
        let login = &credentials.read(user).await?;
        let counted = self.inner.sessions.count(&account.login);
        let (tls, timeouts) = (&self.inner.tls, self.inner.timeouts);
        let (judge, hurry) = (&self.inner.judge, &self.inner.hurry);
        Connection::open(Opening { account, login, hostname, tls, timeouts, judge, hurry }, counted).await
    }

    /// Keeps a session for the next message.
    pub(super) fn put_back(&self, account: &Account, user: &Address, connection: Connection) {
        let idle = Idle { connection, since: Instant::now() };
        self.lock().entry(Key::of(account, user)).or_default().push(idle);
    }

    fn any_idle_of(&self, login: &Address) -> Option<Idle> {
        self.lock().iter_mut().find_map(|(key, idle)| if key.login == *login { idle.pop() } else { None })
    }

    fn remove(&self, mut unwanted: impl FnMut(&Idle) -> bool) -> Vec<Idle> {
        let mut removed = Vec::new();
        self.lock().retain(|_, idle| {
            removed.extend(idle.extract_if(.., |idle| unwanted(idle)));
            !idle.is_empty()
        });
        removed
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Vec<Idle>>> {
        self.inner.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn close(idle: Vec<Idle>) {
    join_all(idle.into_iter().map(|idle| idle.connection.quit())).await;
}

impl Idle {
    fn is_good(&self, bounds: Bounds) -> bool {
        self.since.elapsed() < bounds.idle
            && self.connection.opened.elapsed() < bounds.age
            && self.connection.messages < bounds.messages
    }
}

impl Key {
    fn of(account: &Account, user: &Address) -> Self {
        let (login, user) = (account.login.clone(), user.clone());
        Self { smtp: account.smtp.clone(), tls: account.smtp_tls, login, user }
    }
}
