//! A try of everybody who is told when something is wrong.

use serde::{Deserialize, Serialize};

use super::{Ops, OpsError};
use crate::alert::{Item, Notice, receivers};
use crate::message::Address;

/// How one receiver took a test.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertTested {
    /// Which: `webhook 1 (slack)`, `command` or `mail_to`.
    pub receiver: String,
    /// Whether it got it.
    pub ok: bool,
    /// What it answered, or what went wrong. Holds no secret.
    pub answer: String,
}

impl Ops {
    /// Sends a test through every receiver at once; none if none is configured.
    pub async fn alert_test(&self) -> Result<Vec<AlertTested>, OpsError> {
        let config = self.config.borrow().clone();
        let at = self.clock.now();
        let notice = Notice::new(&config, at, vec![Item::test(at)]);
        let through = self.usable_account().await?;
        let receivers = receivers(&config, &self.login_tools.secrets, &self.intake());
        let tests = receivers.into_iter().map(|receiver| {
            let (notice, through) = (&notice, through.as_ref());
            async move {
                let sent = receiver.send(notice, through).await;
                let ok = sent.is_ok();
                let answer = sent.unwrap_or_else(|error| error.to_string());
                AlertTested { receiver: receiver.name.to_string(), ok, answer }
            }
        });
        Ok(futures_util::future::join_all(tests).await)
    }

    /// The first account through which mail leaves just now.
    async fn usable_account(&self) -> Result<Option<Address>, OpsError> {
        let status = self.status().await?;
        let usable = status.accounts.iter().find(|account| account.hold.is_none() && account.pause.is_none());
        Ok(usable.and_then(|account| Address::parse(&account.mailbox).ok()))
    }
}
