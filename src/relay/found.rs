//! What a start finds on disk, and what may be in its way.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use tokio::sync::watch;

use super::sockets::Sockets;
use crate::clock::Clock;
use crate::config::{Account, Config, Environment};
use crate::identity::{Identity, machine_mark};
use crate::message::Address;
use crate::outbound::{SendAs, UserNames};
use crate::schedule::Scheduler;
use crate::service::Inherited;
use crate::shelf::{KeySource, VaultShelf};
use crate::store::{DataDir, Sent, Store};

/// The day that the pace looks back on, and a margin.
pub(super) const PACE_MEMORY: Duration = Duration::from_hours(25);

/// What a start finds, and what may be in its way. Nothing runs yet.
pub(super) struct Found {
    /// When this was.
    pub(super) at: Timestamp,
    pub(super) data_dir: DataDir,
    pub(super) store: Store,
    pub(super) sockets: Sockets,
    pub(super) shelf: VaultShelf,
    pub(super) scheduler: Scheduler,
    pub(super) user_names: UserNames,
    pub(super) send_as: SendAs,
}

impl Found {
    pub(super) async fn by(
        configs: &watch::Receiver<Arc<Config>>,
        environment: &Environment,
        inherited: Inherited,
        clock: &Clock,
    ) -> anyhow::Result<Self> {
        let (config, at) = (Arc::clone(&configs.borrow()), clock.now());
        let config = &*config;
        let data_dir = DataDir::lock(&config.data_dir)?;
        let store = Store::open(&config.data_dir)?;
        let sockets = Sockets::bind(config, inherited).await?;
        let shelf = open_shelf(configs, environment, &store, clock).await?;
        shelf.finish_rotation(at).await;
        store.sweep().await.context("bodies without a message could not be removed")?;
        let sent = sent_lately(&store, config, at, |_| true).await?;
        let (holds, changes) = shelf.identity().correct_holds(store.holds().await?);
        for change in changes {
            store.commit(change).await?;
        }
        let facts = store.facts().await?;
        let (user_names, send_as) = (UserNames::from_facts(&facts), SendAs::from_facts(&facts));
        let taken = |account: &Arc<Account>| Some((account.mailbox.clone(), user_names.last(account)?.at));
        let taken: Vec<_> = config.accounts.iter().filter_map(taken).collect();
        let with_mail = store.accounts_with_mail().await?;
        let scheduler = Scheduler::new(config, holds, &sent, store.was_running(), at);
        let scheduler = scheduler.with_logins(&taken, at).with_queues(&with_mail, at);
        Ok(Self { at, data_dir, store, sockets, shelf, scheduler, user_names, send_as })
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

/// What the logins that are wanted have sent while the pace looks back.
pub(super) async fn sent_lately(
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
