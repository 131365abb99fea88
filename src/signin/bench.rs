//! Sign-ins that run, with everything around them in the test's hand.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::scripted::literals;
use super::{AccessToken, NoToken, Shelf, SignInEvent, SignInParts, SignIns, StoredSignIn, Timeouts};
use crate::clock::Clock;
use crate::config::{Account, Config, Secret, testing};
use crate::message::Address;

/// Nothing here takes long; a test that gets stuck ends loudly.
const DEADLINE: Duration = Duration::from_secs(30);

/// The account of most tests.
pub const MAILBOX: &str = "lms@contoso.com";

pub fn mailbox() -> Address {
    Address::parse(MAILBOX).unwrap()
}

/// A sign-in of long ago that has not been used since.
pub fn stored(account: &Address, refresh: &str) -> StoredSignIn {
    let since = Timestamp::from_second(1_700_000_000).unwrap();
    StoredSignIn {
        account: account.clone(),
        current: Secret::new(refresh),
        previous: None,
        signed_in_as: None,
        since,
        refreshed_at: since,
        refresh_life: None,
        access: None,
    }
}

pub fn config(accounts: Vec<Account>) -> Arc<Config> {
    Arc::new(testing::config(accounts))
}

/// Sign-ins on a shelf of this kind.
pub struct Bench<S> {
    pub sign_ins: SignIns,
    pub shelf: Arc<S>,
    pub clock: Clock,
    pub config: watch::Sender<Arc<Config>>,
    pub stop: CancellationToken,
    events: mpsc::UnboundedReceiver<SignInEvent>,
    tasks: TaskTracker,
}

impl<S: Shelf + 'static> Bench<S> {
    pub fn start(accounts: Vec<Account>, shelf: Arc<S>) -> Self {
        Self::with(accounts, shelf, Timeouts::default())
    }

    /// With an endpoint that is waited for so long.
    pub fn with(accounts: Vec<Account>, shelf: Arc<S>, timeouts: Timeouts) -> Self {
        let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
        let (config, running) = watch::channel(config(accounts));
        let (tell, events) = mpsc::unbounded_channel();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let sign_ins = SignIns::start(SignInParts {
            config: running,
            secrets: literals(),
            shelf: Arc::clone(&shelf) as Arc<dyn Shelf>,
            clock: clock.clone(),
            events: tell,
            stop: stop.clone(),
            tasks: tasks.clone(),
            timeouts,
        });
        Self { sign_ins, shelf, clock, config, stop, events, tasks }
    }

    pub async fn token(&self) -> Result<AccessToken, NoToken> {
        self.sign_ins.token(&mailbox()).await
    }

    pub async fn event(&mut self) -> SignInEvent {
        tokio::time::timeout(DEADLINE, self.events.recv()).await.expect("an event in time").expect("not ended")
    }

    pub async fn until(&self, condition: impl Fn(&Self) -> bool) {
        let waited = tokio::time::timeout(DEADLINE, async {
            while !condition(self) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        waited.await.expect("it comes true in time");
    }

    pub async fn end(self) {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(DEADLINE, self.tasks.wait()).await.expect("it ends in time");
    }
}
