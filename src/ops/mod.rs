//! Every operation an administrator can order, once and typed. The control socket and the commands are faces of it.

mod account;
mod alert;
mod delay;
pub mod expiry;
pub(crate) mod forecast;
mod login;
mod order;
mod outside;
mod pace;
mod queue;
mod rotate_key;
mod send_test;
mod status;
mod stops;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, watch};

use crate::clock::Clock;
use crate::config::{Account, Config};
use crate::inbound::QueueIntake;
use crate::journal::Feed;
use crate::message::Address;
use crate::outbound::{SendAs, UnderWay, UserNames};
use crate::schedule::Inbox;
use crate::shelf::VaultShelf;
use crate::signin::{LoginTools, SignIns};
use crate::store::{ReadError, Store};

pub use account::{AccountDetail, AccountView, ReleaseOrder, Released, Tried};
pub use alert::AlertTested;
pub use forecast::ForecastView;
pub use login::{BrowserAnswer, BrowserPrompt, BrowserRedirect, DevicePrompt, LoginDone};
pub use order::{Left, MoveOrder, Ordered, ReaddressOrder};
pub use outside::BudgetView;
pub use pace::{PaceView, SlowdownView, grouped};
pub use queue::{JournalView, LaneOrder, MessageDetail, MessageView, RecipientView, Selection, view};
pub use send_test::{SendTest, Tested};
pub use status::{
    AccountStatus, ExpiryView, HoldView, KeyView, LoginView, PauseView, QueueCounts, RemovedAccount, SenderView,
    SignInView, Status, WarningView,
};

pub use crate::outbound::replies::STATUS;

/// The operations of a running relay. Cheap to clone.
#[derive(Clone)]
pub struct Ops {
    /// The queue.
    pub store: Store,
    /// What is configured.
    pub config: watch::Receiver<Arc<Config>>,
    /// Who holds the sign-ins.
    pub sign_ins: SignIns,
    /// Where the sign-ins rest, and under which key.
    pub shelf: VaultShelf,
    /// What a new sign-in needs.
    pub login_tools: LoginTools,
    /// The scheduler.
    pub schedule: Inbox,
    /// What happens, live.
    pub feed: Feed,
    /// The time.
    pub clock: Clock,
    /// When the relay started.
    pub started_at: Timestamp,
    /// As whom Exchange takes the logins, and when it last did.
    pub user_names: UserNames,
    /// What Exchange takes and refuses as senders.
    pub send_as: SendAs,
    /// The messages that somebody works on.
    pub under_way: UnderWay,
    /// Sign-ins that wait for their person.
    pub logins: Arc<Mutex<HashMap<Address, login::Pending>>>,
}

/// Why an operation was not done. The text is for the administrator: what is wrong, and what to type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "kind", content = "error")]
pub enum OpsError {
    /// There is no such account or message.
    #[error("{0}")]
    NotFound(String),
    /// It was not done, for this reason.
    #[error("{0}")]
    Failed(String),
}

impl From<ReadError> for OpsError {
    fn from(error: ReadError) -> Self {
        Self::Failed(format!("the queue cannot be read: {error}"))
    }
}

impl From<crate::store::CommitError> for OpsError {
    fn from(error: crate::store::CommitError) -> Self {
        Self::Failed(format!("nothing was changed: {error}"))
    }
}

impl Ops {
    /// What takes mail into the queue.
    pub fn intake(&self) -> QueueIntake {
        QueueIntake {
            store: self.store.clone(),
            schedule: self.schedule.clone(),
            feed: self.feed.clone(),
            config: self.config.clone(),
        }
    }

    /// Waits until the writer and the scheduler have answered: whether both are still there.
    pub async fn answers(&self) -> bool {
        self.store.answers().await && self.schedule.answers().await
    }

    /// The configured account of this mailbox.
    fn account(&self, mailbox: &Address) -> Result<Arc<Account>, OpsError> {
        let config = self.config.borrow();
        if let Some(account) = config.account(mailbox) {
            return Ok(account.clone());
        }
        let known: Vec<String> = config.accounts.iter().map(|account| account.mailbox.to_string()).collect();
        Err(OpsError::NotFound(format!("there is no account {mailbox}; the configuration has {}", known.join(", "))))
    }
}
