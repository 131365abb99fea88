//! Who may come in at a listener with `password = "checked"`: the apps' passwords, compared off the async threads, a few at a time.
//!
//! Passwords are read once for each configuration, hashed and forgotten; a login that was right is remembered under a keyed hash, so
//! that a printer which logs in for every mail costs one comparison with Argon2, not one a mail. What is wrong costs the same time
//! whether the name is known or not, and is answered the more slowly the more often it happens. The program is not told what was wrong;
//! the log is.

mod book;
mod failures;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::book::{Book, Entry};
use self::failures::Failures;
use super::auth::{Login, Password};
use super::replies::printable;
use crate::config::{Config, Environment};
use crate::registry;

/// How many passwords are compared at once, whatever the machine: each takes one processor and 19 MiB.
const MOST_TURNS: usize = 4;
/// How long a login may wait for its turn, and for the passwords to be read. Programs wait longer.
const PATIENCE: Duration = Duration::from_secs(15);
/// When a password that could not be read is tried again.
const READ_AGAIN: Duration = Duration::from_mins(1);
/// What the first wrong password of a peer waits for; each further one twice as long.
const FIRST_DELAY: Duration = Duration::from_secs(1);
/// How much of a user name the log repeats.
const MAX_SHOWN: usize = 64;

/// Checks logins. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Doorkeeper {
    config: watch::Receiver<Arc<Config>>,
    book: watch::Receiver<Option<Arc<Book>>>,
    turns: Arc<Semaphore>,
    failures: Arc<Mutex<Failures>>,
}

/// Reads the passwords for a [`Doorkeeper`], again for each new configuration.
#[derive(Debug)]
pub struct PasswordReader {
    config: watch::Receiver<Arc<Config>>,
    environment: Environment,
    book: watch::Sender<Option<Arc<Book>>>,
}

/// What became of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It is this user.
    In(String),
    /// It is not; the answer has to wait until so much time has passed since it was given.
    Out(Duration),
    /// It cannot be told now; the answer has to wait likewise.
    Unknown(Duration),
}

impl Doorkeeper {
    /// One that knows no password until the reader runs.
    pub fn new(config: watch::Receiver<Arc<Config>>, environment: Environment) -> (Self, PasswordReader) {
        Self::with_first_delay(config, environment, FIRST_DELAY)
    }

    /// As `new`, with another delay of the first wrong password.
    pub(super) fn with_first_delay(
        config: watch::Receiver<Arc<Config>>,
        environment: Environment,
        first_delay: Duration,
    ) -> (Self, PasswordReader) {
        let (sender, book) = watch::channel(None);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let keeper = Self {
            config: config.clone(),
            book,
            turns: Arc::new(Semaphore::new(processors.min(MOST_TURNS))),
            failures: Arc::new(Mutex::new(Failures::new(first_delay))),
        };
        (keeper, PasswordReader { config, environment, book: sender })
    }

    /// Whether this login is right.
    pub(super) async fn check(&self, peer: IpAddr, login: Login) -> Decision {
        let Login { user, password } = login;
        let Some(book) = self.book().await else {
            tracing::warn!(%peer, "a login waits in vain for the passwords to be read; the program is told to try again");
            return Decision::Unknown(Duration::ZERO);
        };
        let found = registry::app_to_log_in(&book.config, peer, &user);
        let entry = found.ok().and_then(|app| book.entry(&app.name));
        if let Some(entry) = entry
            && book.remembers(entry, &password)
        {
            return Decision::In(user);
        }
        // Somebody unknown is compared with somebody else's password: it has to take as long.
        let compared = entry.filter(|entry| entry.is_readable()).or_else(|| book.stand_in(&user));
        let Some(fits) = self.compare(&book, compared, password).await else {
            tracing::warn!(%peer, "too many logins at once; the program is told to try again");
            return Decision::Unknown(Duration::ZERO);
        };
        let why = match (found, entry) {
            (Ok(_), Some(entry)) if !entry.is_readable() => "its password cannot be read".to_owned(),
            (Ok(app), Some(_)) if fits => {
                tracing::debug!(%peer, app = app.name, "logged in");
                return Decision::In(user);
            }
            (Ok(_), _) => "the password is wrong".to_owned(),
            (Err(why), _) => why.to_string(),
        };
        let delay = self.note(peer, &user, &why);
        // With a password missing nobody can say that a login is wrong for good.
        if book.is_complete() { Decision::Out(delay) } else { Decision::Unknown(delay) }
    }

    /// How many addresses are known to have failed.
    #[cfg(test)]
    pub(super) fn failed(&self) -> usize {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).peers()
    }

    /// The passwords of the configuration in force.
    async fn book(&self) -> Option<Arc<Book>> {
        let mut books = self.book.clone();
        let is_current = |book: &Option<Arc<Book>>| {
            book.as_ref().is_some_and(|book| Arc::ptr_eq(&book.config, &self.config.borrow()))
        };
        let book = timeout(PATIENCE, books.wait_for(is_current)).await.ok()?.ok()?;
        book.clone()
    }

    /// Compares a password when it is its turn; `None` if that takes too long.
    async fn compare(&self, book: &Arc<Book>, entry: Option<&Entry>, password: Password) -> Option<bool> {
        let Some(place) = entry.map(|entry| book.place_of(entry)) else { return Some(false) };
        let turn = timeout(PATIENCE, Arc::clone(&self.turns).acquire_owned()).await.ok()?.ok()?;
        let book = Arc::clone(book);
        let compared = tokio::task::spawn_blocking(move || {
            let fits = book.fits(place, &password);
            drop(turn);
            fits
        });
        compared.await.ok()
    }

    /// Counts a failure and tells the log; how long its answer has to wait.
    fn note(&self, peer: IpAddr, user: &str, why: &str) -> Duration {
        let failure = self.failures.lock().unwrap_or_else(PoisonError::into_inner).note(peer, user, Instant::now());
        let user = printable(user, MAX_SHOWN);
        if let Some(failures) = failure.told {
            tracing::warn!(%peer, user, why, failures, "login refused");
        } else {
            tracing::debug!(%peer, user, why, "login refused");
        }
        failure.delay
    }
}

impl PasswordReader {
    /// Reads until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let config = self.config.borrow_and_update().clone();
            let book = tokio::select! {
                () = stop.cancelled() => return,
                book = aside(&self.environment, move |environment| Arc::new(Book::read(config, environment))) => book,
            };
            self.book.send_replace(book.clone());
            tokio::select! {
                () = stop.cancelled() => return,
                changed = self.config.changed() => if changed.is_err() {
                    // Nobody can change it any more.
                    return stop.cancelled().await;
                },
                never = complete(book, &self.environment) => match never {},
            }
        }
    }
}

/// Tries again what could not be read, for ever if need be.
async fn complete(book: Option<Arc<Book>>, environment: &Environment) -> Infallible {
    while let Some(book) = book.clone().filter(|book| !book.is_complete()) {
        sleep(READ_AGAIN).await;
        aside(environment, move |environment| book.read_missing(environment)).await;
    }
    std::future::pending().await
}

/// Reads off the async threads; `None` if that panicked.
async fn aside<T: Send + 'static>(
    environment: &Environment,
    work: impl FnOnce(&Environment) -> T + Send + 'static,
) -> Option<T> {
    let environment = environment.clone();
    let done = tokio::task::spawn_blocking(move || work(&environment)).await;
    done.inspect_err(|error| tracing::error!(%error, "the passwords of the apps could not be read")).ok()
}

#[cfg(test)]
mod tests;
