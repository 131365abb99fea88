//! How things stand: accounts, sign-ins, holds, queue, pace, forecast. What is shown of it is in `views`, what is said of one account in
//! `account`.

mod account;
mod views;

use std::collections::HashMap;

use self::account::{account_status, expires, hold_view, of_smart_host, senders};
use super::expiry::expiries;
use super::forecast::forecasts;
use super::{Ops, OpsError};
use crate::message::Address;
use crate::shelf::KEY_FACT;

pub use self::views::{
    AccountStatus, ExpiryView, HoldView, KeyView, LoginView, PauseView, QueueCounts, RemovedAccount, SenderView,
    SignInView, Status, WarningView,
};

impl Ops {
    /// How things stand.
    pub async fn status(&self) -> Result<Status, OpsError> {
        let config = self.config.borrow().clone();
        let by_flow = self.store.counts().await?;
        let mut counts: HashMap<Address, QueueCounts> = HashMap::new();
        for count in &by_flow {
            counts.entry(count.account.clone()).or_default().add(count);
        }
        let standings = by(self.schedule.standings().await, |standing| standing.account.clone());
        let sign_ins = by(self.sign_ins.status(), |sign_in| sign_in.mailbox.clone());
        let now = self.clock.now();
        let reading = tokio::task::spawn_blocking({
            let config = config.clone();
            move || expiries(&config)
        });
        let expiries =
            reading.await.map_err(|_| OpsError::Failed("looking for what ends soon failed: see the log".to_owned()))?;
        let mut forecasts = forecasts(&config, &by_flow, &standings, now);
        let total = counts.values().fold(QueueCounts::default(), |sum, counts| sum.and(counts));
        let accounts = config.accounts.iter().map(|account| {
            let queue = counts.remove(&account.mailbox).unwrap_or_default();
            let (standing, sign_in) = (standings.get(&account.mailbox), sign_ins.get(&account.mailbox));
            let forecast = forecasts.queues.remove(&account.mailbox);
            let last_login = self.user_names.last(account);
            let mut status = account_status(account, queue, standing, sign_in, last_login, &expiries, forecast);
            let hold = standing.and_then(|standing| standing.hold.as_ref());
            status.hold =
                hold.map(|hold| of_smart_host(account, hold, hold_view(hold, sign_in, account, &config.replies)));
            status.senders = senders(&config, account, self.send_as.standings(&account.mailbox, now));
            status
        });
        let accounts = accounts.collect();
        let removed = counts.into_iter().map(|(mailbox, queue)| {
            let forecast = forecasts.queues.remove(&mailbox);
            RemovedAccount { mailbox: mailbox.to_string(), queue, forecast }
        });
        let removed_accounts = removed.collect();
        let key = match self.shelf.key().await {
            Some(id) => Some(self.key_view(&id.to_string()).await?),
            None => None,
        };
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: config.hostname.clone(),
            started_at: self.started_at,
            key,
            queue: total,
            forecast: forecasts.all,
            told_nobody: self.store.told_nobody().await?,
            has_postmaster: config.postmaster.is_some(),
            accounts,
            removed_accounts,
            expires: expires(&expiries, None),
        })
    }

    async fn key_view(&self, id: &str) -> Result<KeyView, OpsError> {
        let facts = self.store.facts().await?;
        let told = facts.iter().find(|fact| fact.account.is_none() && fact.name == KEY_FACT);
        let since = told.filter(|fact| fact.value.as_deref() == Some(id)).map(|fact| fact.at);
        Ok(KeyView { id: id.to_owned(), since })
    }
}

fn by<T>(all: Vec<T>, key: impl Fn(&T) -> Address) -> HashMap<Address, T> {
    all.into_iter().map(|one| (key(&one), one)).collect()
}
