//! The Microsoft sign-ins: one keeper per account holds a refresh token, keeps it alive and publishes access tokens.
//!
//! [`SignIns`] is what the rest of the relay talks to: it asks for a token, tells that one was rejected, hands in a new sign-in.
//! What happens to a sign-in is told as [`SignInEvent`]s; who holds mail because of it is not decided here. Knows nothing of mail.
//!
//! From the inside out: `timing`, `errors`, `inspect` and `skew` are rules, `keeper` decides by them, `task` carries out what it
//! decides with `endpoint` and [`Shelf`], while an `observer` notices what goes with it; `login`, `device` and `browser` are what a person starts, with
//! or without a running relay.

mod answer;
mod application;
#[cfg(test)]
mod bench;
mod browser;
mod claims;
mod credential;
mod device;
mod drop_secret;
mod endpoint;
pub mod errors;
mod inspect;
pub mod keeper;
mod login;
mod observer;
#[cfg(test)]
mod outages;
mod proxy;
mod redirect;
mod round;
#[cfg(test)]
mod scripted;
mod secrets;
mod shelf;
mod skew;
mod status;
mod task;
#[cfg(test)]
mod tests;
mod timing;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use answer::{EndpointError, OAuthError, Tokens};
pub use application::try_application;
pub use browser::{BrowserLogin, Unanswered, loopback_redirect};
pub use claims::Claims;
pub use credential::{Credential, CredentialError, Offer};
pub use device::DeviceLogin;
pub use drop_secret::DropError;
pub(crate) use endpoint::in_words;
pub use endpoint::{EndpointUnusable, SecretReader, Timeouts, TokenEndpoint};
pub use errors::{Advice, Circumstances, Flow, Meaning};
pub use inspect::{Finding, Flaw};
pub use login::{LoginError, LoginTools, take_in, take_in_untried};
pub use redirect::{NotThis, is_redirect};
pub use shelf::{MemoryShelf, Shelf, ShelfError, StoredAccess, StoredSignIn};
pub use status::{AccessToken, HoldView, NoToken, Problem, Published, SignInStatus, Why};

use crate::clock::Clock;
use crate::config::{Account, Config, Grant};
use crate::message::Address;
use crate::store::HoldCause;
use task::{Command, KeeperTask};

/// How long a caller waits for a token: a whole request with its timeout, and a write.
const PATIENCE: Duration = Duration::from_secs(40);
/// Commands that may wait for a keeper; whoever sends one more waits.
const COMMANDS: usize = 16;

/// What became of a sign-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignInEvent {
    /// Certain: it takes a person. Told again after every failed probe. An access token that is still good stays good until its
    /// end; [`SignIns::token`] goes on giving it.
    Dead {
        /// Whose.
        account: Address,
        /// What it waits for.
        cause: HoldCause,
        /// Microsoft's own `error_description`, or our words if it was not Microsoft.
        error: String,
        /// AADSTS numbers.
        codes: Vec<u32>,
        /// What the administrator does about it.
        advice: Advice,
        /// When the stored sign-in is tried again.
        probe_at: Option<Timestamp>,
        /// How many probes have failed.
        probes: u32,
    },
    /// It is good: after a start, after failures, after a new sign-in, after somebody asked. Not told of every refresh.
    Good {
        /// Whose.
        account: Address,
        /// Since when it counts as good.
        why: Why,
    },
    /// A failure that passes. Mail goes on while the access token at hand is good.
    Trouble {
        /// Whose.
        account: Address,
        /// In words.
        error: String,
        /// When it is tried again.
        retry_at: Timestamp,
    },
    /// The keeper's task panicked: a bug. Nobody keeps this sign-in any more; the process should end and be started again.
    Broken {
        /// Whose.
        account: Address,
    },
}

/// What the sign-ins need from the rest of the relay.
pub struct SignInParts {
    /// The running configuration; accounts come and go with it.
    pub config: watch::Receiver<Arc<Config>>,
    /// Reads a client secret; called for every request, so that a replaced file takes effect. May block.
    pub secrets: SecretReader,
    /// Where the sign-ins rest.
    pub shelf: Arc<dyn Shelf>,
    /// The calendar.
    pub clock: Clock,
    /// Who is told.
    pub events: mpsc::UnboundedSender<SignInEvent>,
    /// Ends it: a request or write under way is finished first.
    pub stop: CancellationToken,
    /// Waits for the keepers to end.
    pub tasks: TaskTracker,
    /// How long an endpoint may take.
    pub timeouts: Timeouts,
}

/// All sign-ins. Cheap to clone.
#[derive(Clone)]
pub struct SignIns {
    shared: Arc<Shared>,
}

struct Shared {
    parts: SignInParts,
    keepers: Mutex<Keepers>,
}

#[derive(Default)]
struct Keepers {
    /// By [`Address::key`].
    present: HashMap<String, Handle>,
    /// Keepers of removed accounts that may still have something to write.
    leaving: HashMap<String, JoinHandle<()>>,
}

/// How to talk to a keeper.
struct Handle {
    account: Arc<Account>,
    line: Line,
    stop: CancellationToken,
    ended: JoinHandle<()>,
}

#[derive(Clone)]
struct Line {
    commands: mpsc::Sender<Command>,
    published: watch::Receiver<Published>,
    rejected: Arc<watch::Sender<u64>>,
    nudge: Arc<tokio::sync::Notify>,
}

/// Why a new sign-in was not taken over.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// The configuration has no such account.
    #[error("the configuration has no account for this mailbox")]
    UnknownAccount,
    /// The account has the application grant.
    #[error("this account has grant = \"application\": nobody signs in to it")]
    NobodySignsIn,
    /// It could not be committed; the old one, if any, is still in use.
    #[error("the new sign-in could not be written: {0}")]
    Shelf(#[from] ShelfError),
    /// The relay is stopping.
    #[error("the relay is stopping")]
    Stopping,
}

impl SignIns {
    /// Starts a keeper for each account that has a sign-in, and follows the configuration from then on.
    pub fn start(parts: SignInParts) -> Self {
        let (tasks, stop, mut config) = (parts.tasks.clone(), parts.stop.clone(), parts.config.clone());
        let sign_ins = Self { shared: Arc::new(Shared { parts, keepers: Mutex::default() }) };
        let first = Arc::clone(&config.borrow_and_update());
        for account in first.accounts.iter().filter(|account| account.signs_in()) {
            sign_ins.start_keeper(account);
        }
        let follower = sign_ins.clone();
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = config.changed() => if changed.is_err() { return },
                }
                let config = Arc::clone(&config.borrow_and_update());
                follower.follow(&config).await;
            }
        });
        sign_ins
    }

    /// An access token that is good now. Waits only if there is none and one may be had, and not for longer than 40 seconds.
    pub async fn token(&self, mailbox: &Address) -> Result<AccessToken, NoToken> {
        let mut line = self.line(mailbox).ok_or(NoToken::UnknownAccount)?;
        let clock = &self.shared.parts.clock;
        let rejected = *line.rejected.borrow();
        let answer = |published: &Published| published.answer(clock.now(), rejected);
        if let Some(answer) = answer(&line.published.borrow_and_update()) {
            return answer;
        }
        // The calendar may be ahead of the keeper: it looks only every minute.
        line.nudge.notify_one();
        self.wait(&mut line, answer).await
    }

    /// Exchange refused this token with 535 although it is believed good. It is replaced, once; a later [`Self::token`] waits for
    /// that. Said about anything but the token in use, it changes nothing.
    pub fn rejected(&self, mailbox: &Address, version: u64) {
        if let Some(line) = self.line(mailbox) {
            line.rejected.send_if_modified(|known| {
                let is_news = version > *known;
                *known = version.max(*known);
                is_news
            });
        }
    }

    /// Tries the stored sign-in at once, and waits for what comes of it, even if the token at hand is good.
    pub async fn refresh_now(&self, mailbox: &Address) -> Result<AccessToken, NoToken> {
        let mut line = self.line(mailbox).ok_or(NoToken::UnknownAccount)?;
        let (reply, asked) = oneshot::channel();
        // A keeper that is gone fails the wait below.
        let _ = line.commands.send(Command::Ask(reply)).await;
        let request = asked.await.unwrap_or_default();
        self.wait(&mut line, move |published| published.outcome(request)).await
    }

    /// Tries the stored sign-in at once, even if it was marked dead. What comes of it is told as an event; this returns once the keeper
    /// has read it and begun.
    pub async fn retry(&self, mailbox: &Address) {
        if let Some(line) = self.line(mailbox) {
            let (reply, begun) = oneshot::channel();
            // A keeper that is gone is on its way out with the relay.
            let _ = line.commands.send(Command::Ask(reply)).await;
            let _ = begun.await;
        }
    }

    /// How the account of this mailbox gets its tokens, if there is one.
    pub fn grant(&self, mailbox: &Address) -> Option<Grant> {
        Some(self.line(mailbox)?.published.borrow().status.grant)
    }

    /// Takes over what a person's login brought: commits it, uses it from then on, and tells that the account is good.
    pub async fn adopt(&self, sign_in: StoredSignIn) -> Result<(), AdoptError> {
        let line = self.line(&sign_in.account).ok_or(AdoptError::UnknownAccount)?;
        if self.grant(&sign_in.account) == Some(Grant::Application) {
            return Err(AdoptError::NobodySignsIn);
        }
        let (reply, done) = oneshot::channel();
        let command = Command::Adopt(Box::new(sign_in), reply);
        line.commands.send(command).await.map_err(|_| AdoptError::Stopping)?;
        Ok(done.await.map_err(|_| AdoptError::Stopping)??)
    }

    /// What is known of every sign-in, in the order of the configuration.
    pub fn status(&self) -> Vec<SignInStatus> {
        let config = Arc::clone(&self.shared.parts.config.borrow());
        let lines = config.accounts.iter().filter_map(|account| self.line(&account.mailbox));
        lines.map(|line| line.published.borrow().status.clone()).collect()
    }

    fn line(&self, mailbox: &Address) -> Option<Line> {
        self.keepers().present.get(&mailbox.key()).map(|handle| handle.line.clone())
    }

    /// Waits until `answer` has one.
    async fn wait(
        &self,
        line: &mut Line,
        answer: impl Fn(&Published) -> Option<Result<AccessToken, NoToken>>,
    ) -> Result<AccessToken, NoToken> {
        let found = tokio::time::timeout(PATIENCE, line.published.wait_for(|published| answer(published).is_some()));
        let error = match found.await {
            Ok(Ok(published)) => match answer(&published) {
                Some(answer) => return answer,
                // It ended between two looks at the calendar.
                None => "the access token has just ended",
            },
            Ok(Err(_gone)) => "nobody keeps this sign-in any more",
            Err(_elapsed) => "the token endpoint has not answered yet",
        };
        Err(NoToken::Unavailable { error: error.to_owned(), retry_at: self.shared.parts.clock.now() })
    }

    fn keepers(&self) -> MutexGuard<'_, Keepers> {
        self.shared.keepers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_keeper(&self, account: &Arc<Account>) {
        let mut keepers = self.keepers();
        let parts = &self.shared.parts;
        let key = account.mailbox.key();
        let (commands, heard) = mpsc::channel(COMMANDS);
        let (publish, published) = watch::channel(Published::nothing_yet(account.mailbox.clone(), account.grant));
        let (rejected, rejections) = watch::channel(0);
        let nudge = Arc::new(tokio::sync::Notify::new());
        let stop = parts.stop.child_token();
        let line = Line { commands, published, rejected: Arc::new(rejected), nudge: Arc::clone(&nudge) };
        let task = KeeperTask::new(parts, Arc::clone(account), publish)
            .hearing(heard, rejections, nudge)
            .until(stop.clone())
            .after(keepers.leaving.remove(&key));
        let ended = parts.tasks.spawn(task.run_watched());
        keepers.present.insert(key, Handle { account: Arc::clone(account), line, stop, ended });
    }

    async fn follow(&self, config: &Config) {
        let mut changed = Vec::new();
        let mut new = Vec::new();
        {
            let mut keepers = self.keepers();
            let gone: Vec<String> = keepers
                .present
                .values()
                .filter(|handle| !config.account(&handle.account.mailbox).is_some_and(|account| account.signs_in()))
                .map(|handle| handle.account.mailbox.key())
                .collect();
            for key in gone {
                if let Some(handle) = keepers.present.remove(&key) {
                    handle.stop.cancel();
                    keepers.leaving.insert(key, handle.ended);
                }
            }
            keepers.leaving.retain(|_, ended| !ended.is_finished());
            for account in config.accounts.iter().filter(|account| account.signs_in()) {
                match keepers.present.get_mut(&account.mailbox.key()) {
                    None => new.push(account),
                    Some(handle) if handle.account != *account => {
                        handle.account = Arc::clone(account);
                        changed.push((handle.line.commands.clone(), Arc::clone(account)));
                    }
                    Some(_) => {}
                }
            }
        }
        for account in new {
            self.start_keeper(account);
        }
        for (commands, account) in changed {
            // A keeper that is gone is on its way out with the relay.
            let _ = commands.send(Command::Account(account)).await;
        }
    }
}
