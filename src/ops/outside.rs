//! What a tenant has used of its budget for recipients outside the organisation, and what waits for it.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::pace::{WARNING, grouped};
use super::{Ops, OpsError};
use crate::config::Account;
use crate::message::{Address, QueueId};
use crate::registry;
use crate::schedule::{Event, Standing};
use crate::store::{Change, Stored};

/// How many messages are looked at together.
const SHARE: u32 = 500;

/// What a tenant has used of its budget: all its accounts together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetView {
    /// The tenant, as the account says it.
    pub tenant: String,
    /// Recipients outside the organisation in the last 24 hours.
    pub last_day: u64,
    /// The same at most.
    pub external_recipients_per_day: u32,
}

impl BudgetView {
    pub(super) fn of(account: &Account, standing: Option<&Standing>) -> Option<Self> {
        let allowance = standing?.allowance.as_ref()?;
        Some(Self {
            tenant: account.tenant.clone(),
            last_day: allowance.last_day,
            external_recipients_per_day: allowance.recipients_per_day,
        })
    }

    /// Whether it is the budget of the same tenant.
    pub fn is_of_same_tenant(&self, other: &Self) -> bool {
        self.tenant.eq_ignore_ascii_case(&other.tenant)
    }

    /// Whether so much of it is used that somebody should know.
    pub fn is_nearly_used(&self) -> bool {
        self.last_day * 100 >= u64::from(self.external_recipients_per_day) * WARNING
    }

    /// How much of it is used.
    pub fn in_words(&self) -> String {
        let Self { tenant, last_day, external_recipients_per_day: limit } = self;
        let (used, limit) = (grouped(*last_day), grouped(u64::from(*limit)));
        format!("{used} of {limit} recipients outside {tenant} in the last 24 hours, of all its accounts together")
    }

    /// How much of it is used, and what happens next, as one sentence.
    pub fn warning_in_words(&self) -> String {
        let limit = u64::from(self.external_recipients_per_day);
        let (used, others) = (grouped(self.last_day), grouped(limit - limit / 10));
        let percent = self.last_day * 100 / limit.max(1);
        let (limit, tenant) = (grouped(limit), &self.tenant);
        format!(
            "{used} of {limit} recipients outside {tenant} in the last 24 hours ({percent} %); from {others} on only urgent mail leaves the \
             organisation, from {limit} on none, until older ones are a day old; mail within it goes on"
        )
    }
}

impl Ops {
    /// Puts what waits into the flow that it belongs to: the configuration, its account or its recipients may have been others when it came.
    /// Each attempt looks too; but what waits for a budget that does not count it any more would wait until then. Costs a reading of
    /// the queue, and nothing where no tenant has a budget. How many messages were in the wrong one.
    ///
    /// # Errors
    /// The queue cannot be read or written.
    pub async fn look_outside(&self) -> Result<usize, OpsError> {
        let (mut found, mut after) = (0, None);
        loop {
            let config = self.config.borrow().clone();
            if config.tenants.is_empty() {
                return Ok(found);
            }
            let page = self.store.list(after, SHARE).await?;
            let Some(last) = page.last() else { return Ok(found) };
            after = Some(last.id);
            let is_outside = |stored: &Stored| {
                let pending = stored.recipients.iter().filter(|row| row.state.is_pending()).map(|row| &row.address);
                registry::is_outside(&config, &stored.app, &stored.account, pending)
            };
            let wrong: Vec<&Stored> = page.iter().filter(|stored| is_outside(stored) != stored.outside).collect();
            for outside in [true, false] {
                let ids = wrong.iter().filter(|stored| stored.outside != outside).map(|stored| stored.id);
                let ids: Vec<QueueId> = ids.collect();
                if !ids.is_empty() {
                    found += ids.len();
                    self.store.commit(Change::Outside { ids, outside }).await?;
                }
            }
            let accounts: HashSet<&Address> = wrong.iter().map(|stored| &stored.account).collect();
            for account in accounts {
                self.schedule.tell(Event::Changed { account: account.clone() });
            }
        }
    }

    /// The same behind an order that has been carried out.
    pub(super) async fn look_outside_after_order(&self) {
        if let Err(error) = self.look_outside().await {
            tracing::warn!(%error, "could not put waiting mail in line by external_recipients_per_day; each attempt looks again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_begins_at_four_fifths_of_the_budget_and_says_that_mail_within_goes_on() {
        let tenant = "contoso.com".to_owned();
        let budget = |last_day| BudgetView { tenant: tenant.clone(), last_day, external_recipients_per_day: 5_000 };
        assert!(!budget(3_999).is_nearly_used() && budget(4_000).is_nearly_used());
        assert_eq!(
            budget(4_812).warning_in_words(),
            "4,812 of 5,000 recipients outside contoso.com in the last 24 hours (96 %); from 4,500 on only urgent mail leaves the \
             organisation, from 5,000 on none, until older ones are a day old; mail within it goes on"
        );
        assert!(budget(7).in_words().starts_with("7 of 5,000 recipients outside contoso.com in the last 24 hours,"));
    }
}
