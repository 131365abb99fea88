//! Handing sign-ins over: to the running relay through its control socket, or without one under the data folder's lock.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::config_file::{SECRETS, give_to_owner_of};
use super::plan::Plan;
use crate::cli::alone::Alone;
use crate::config::{Config, Secret};
use crate::control::{Client, ControlError, SOCKET};
use crate::message::Address;
use crate::ops::LoginDone;

/// How long a running relay may take to put a changed configuration in force.
const RELOAD: Duration = Duration::from_secs(20);
const GLANCE: Duration = Duration::from_millis(50);
/// What may have been made under the lock.
const OURS: [&str; 7] = ["lock", "queue.db", "queue.db-wal", "queue.db-shm", "key", "bodies", SECRETS];

/// Who keeps the sign-ins.
pub(super) enum Relay {
    /// The relay that runs.
    Running(Client, std::path::PathBuf),
    /// Nobody but this process.
    Alone(Box<Alone>),
}

impl Relay {
    /// The running relay of this configuration; if there is none, its data folder under the lock.
    pub(super) async fn of(config: &Config) -> anyhow::Result<Self> {
        let client = Client::new(&config.data_dir)?;
        match client.account_list().await {
            Ok(_) => Ok(Self::Running(client, config.data_dir.join(SOCKET))),
            Err(ControlError::NotRunning(_)) => {
                let alone = Alone::of(config).await?;
                alone.shelf.ensure_key().await?;
                Ok(Self::Alone(Box::new(alone)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Has the configuration put in force, and waits until every account of the plan is known.
    pub(super) async fn learn(&mut self, config: &Config, plan: &Plan) -> anyhow::Result<()> {
        let (client, socket) = match self {
            Self::Running(client, socket) => (client, socket),
            Self::Alone(alone) => {
                alone.config.send_replace(Arc::new(config.clone()));
                return Ok(());
            }
        };
        if knows(client, plan).await? {
            return Ok(());
        }
        let by_hand = "reload it (`systemctl reload xoauth2-relay`) and give this command again: the configuration is written, no sign-in \
                       was taken over yet";
        reload(socket)
            .await
            .with_context(|| format!("the running relay could not be told of the new accounts; {by_hand}"))?;
        let waited = tokio::time::timeout(RELOAD, async {
            while !knows(client, plan).await? {
                tokio::time::sleep(GLANCE).await;
            }
            anyhow::Ok(())
        });
        match waited.await {
            Ok(known) => known,
            Err(_) => bail!("the running relay does not know the new accounts yet; see its log, then {by_hand}"),
        }
    }

    /// Whether an account has a sign-in already.
    pub(super) async fn has_sign_in(&self, mailbox: &Address) -> anyhow::Result<bool> {
        match self {
            Self::Running(client, _) => {
                let accounts = client.account_list().await?;
                Ok(accounts.iter().any(|account| account.signed_in && is(&account.mailbox, mailbox)))
            }
            Self::Alone(alone) => Ok(alone.store.sign_in(mailbox).await?.is_some()),
        }
    }

    /// Redeems a refresh token and keeps what comes of it.
    pub(super) async fn take_in(&self, mailbox: &Address, token: &Secret) -> anyhow::Result<LoginDone> {
        match self {
            Self::Running(client, _) => Ok(client.login_take_in(mailbox, token).await?),
            Self::Alone(alone) => {
                let config = alone.config.borrow().clone();
                let account =
                    config.account(mailbox).ok_or_else(|| anyhow!("{mailbox} is not in the configuration"))?;
                alone.take_in(account, token.clone()).await
            }
        }
    }

    /// Everything is on disk.
    pub(super) async fn close(self) {
        let Self::Alone(alone) = self else { return };
        let Alone { config, store, .. } = *alone;
        store.close().await;
        let data_dir = config.borrow().data_dir.clone();
        for name in OURS {
            let path = data_dir.join(name);
            // A file with a second name may be anybody's.
            let is_plain = |found: std::fs::Metadata| found.is_dir() || (found.is_file() && found.nlink() == 1);
            if std::fs::symlink_metadata(&path).is_ok_and(is_plain)
                && let Err(error) = give_to_owner_of(&data_dir, &path)
            {
                eprintln!("xoauth2-relay: {error:#}");
            }
        }
    }
}

/// Whether the relay knows every account and has looked whether it has a sign-in: before that it could take none.
async fn knows(client: &Client, plan: &Plan) -> anyhow::Result<bool> {
    let accounts = client.account_list().await?;
    let is_known = |mailbox: &Address| {
        let found = accounts.iter().find(|account| is(&account.mailbox, mailbox));
        found.is_some_and(|account| account.signed_in || account.hold.is_some())
    };
    Ok(plan.accounts().all(|found| found.sign_in == crate::import::SignIn::Application || is_known(&found.mailbox)))
}

fn is(text: &str, mailbox: &Address) -> bool {
    Address::parse(text).is_ok_and(|address| address == *mailbox)
}

/// SIGHUP to whoever listens on the control socket: the kernel names the process, also in another container.
async fn reload(socket: &Path) -> anyhow::Result<()> {
    let stream = tokio::net::UnixStream::connect(socket).await?;
    let pid = stream.peer_cred()?.pid().and_then(Pid::from_raw);
    let pid = pid.context("its process cannot be seen from here")?;
    kill_process(pid, Signal::HUP).with_context(|| format!("process {} may not be signalled", pid.as_raw_nonzero()))
}
