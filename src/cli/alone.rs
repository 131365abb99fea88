//! The data folder without a running relay: what a login or an import has of it, for this process alone.

use std::sync::Arc;

use anyhow::Context;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::config::{Account, Config, Environment, Secret, SecretSource};
use crate::ops::LoginDone;
use crate::relay::open_shelf;
use crate::shelf::VaultShelf;
use crate::signin::{LoginTools, Shelf, StoredSignIn, Timeouts, take_in_untried};
use crate::store::{Change, DataDir, Hold, HoldCause, Store};

/// The data folder under its lock.
pub(super) struct Alone {
    /// What is configured; an import adds to it.
    pub(super) config: watch::Sender<Arc<Config>>,
    pub(super) store: Store,
    pub(super) shelf: VaultShelf,
    pub(super) tools: LoginTools,
    _lock: DataDir,
}

impl Alone {
    /// Takes it.
    ///
    /// # Errors
    /// When somebody else has it, or it cannot be used.
    pub(super) async fn of(config: &Config) -> anyhow::Result<Self> {
        let environment = Environment::of_process();
        let lock = DataDir::lock(&config.data_dir)?;
        let store = Store::open(&config.data_dir)?;
        let clock = Clock::system();
        let (config, configs) = watch::channel(Arc::new(config.clone()));
        let shelf = open_shelf(&configs, &environment, &store, &clock).await?;
        let tools = LoginTools {
            secrets: Arc::new(move |source: &SecretSource| source.read(&environment)),
            shelf: Arc::new(shelf.clone()),
            clock,
            timeouts: Timeouts::default(),
        };
        Ok(Self { config, store, shelf, tools, _lock: lock })
    }

    /// Takes in a refresh token that was obtained elsewhere.
    ///
    /// # Errors
    /// When it is of no use or cannot be written.
    pub(super) async fn take_in(&self, account: &Account, token: Secret) -> anyhow::Result<LoginDone> {
        let has_sign_in = self.store.sign_in(&account.mailbox).await?.is_some();
        let (stored, untried) = take_in_untried(account, token, &self.tools, has_sign_in).await?;
        let done = self.keep(stored).await?;
        Ok(LoginDone { unproven: untried.map(|error| error.to_string()), ..done })
    }

    /// Stores a sign-in, and frees its account unless a person holds it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) async fn keep(&self, stored: StoredSignIn) -> anyhow::Result<LoginDone> {
        let account = stored.account.clone();
        let done = LoginDone::of(&stored);
        self.shelf.save(stored).await.context("the sign-in could not be stored")?;
        let is_manual = |hold: &Hold| hold.account == account && hold.cause == HoldCause::Manual;
        if !self.store.holds().await?.iter().any(is_manual) {
            let why = "somebody signed in".to_owned();
            self.store.commit(Change::Release { account, at: self.tools.clock.now(), why }).await?;
        }
        Ok(done)
    }
}
