//! Which messages wait for an account that is held or gone: those that nobody else carries meanwhile.

use std::collections::HashMap;

use super::Ops;
use crate::message::Address;
use crate::schedule::{Routes, Standing};
use crate::store::{Flow, Stored};

/// How all accounts stand, and who carries what.
pub(super) struct Stops {
    routes: Routes,
    standings: HashMap<Address, Standing>,
}

impl Ops {
    /// What is stopped at present.
    pub(super) async fn stops(&self) -> Stops {
        let routes = Routes::of(&self.config.borrow());
        let standings = self.schedule.standings().await;
        let standings = standings.into_iter().map(|standing| (standing.account.clone(), standing)).collect();
        Stops { routes, standings }
    }
}

impl Stops {
    /// Whether the message waits until its account is free again, or back in the configuration.
    pub(super) fn stop(&self, stored: &Stored) -> bool {
        let is_stopped = self.standings.get(&stored.account).is_none_or(|account| account.hold.is_some());
        let flow = Flow::new(&stored.app, stored.lane).to_outside(stored.outside);
        is_stopped && self.routes.open(&self.standings, &stored.account, &flow).next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::config::{App, Config, testing};
    use crate::message::Lane;
    use crate::store::samples::{address, at, stored};
    use crate::store::{Hold, HoldCause, RecipientState};

    const ERP: &str = "erp@contoso.com";

    fn standing(mailbox: &str, cause: Option<HoldCause>) -> (Address, Standing) {
        let account = address(mailbox);
        let hold = cause.map(|cause| Hold {
            account: account.clone(),
            cause,
            reply: None,
            error: None,
            codes: Vec::new(),
            since: at(0),
            probe_at: None,
            probes: 0,
        });
        let standing = Standing {
            account: account.clone(),
            hold,
            pause: None,
            under_way: 0,
            last_minute: 0,
            last_day: 0,
            slowdowns: Vec::new(),
            outlook: None,
            allowance: None,
            prove_at: Timestamp::UNIX_EPOCH,
            unproven: None,
        };
        (account, standing)
    }

    #[test]
    fn what_another_account_carries_is_not_stopped() {
        let mut config =
            testing::config(vec![testing::account("lms@contoso.com", "lms@contoso.com"), testing::account(ERP, ERP)]);
        let stops = |config: &Config, own: Option<HoldCause>, other: Option<HoldCause>| Stops {
            routes: Routes::of(config),
            standings: [standing("lms@contoso.com", own), standing(ERP, other)].into(),
        };
        let mut mail = stored(&[RecipientState::Waiting]);
        assert!(!stops(&config, None, None).stop(&mail));
        assert!(stops(&config, Some(HoldCause::Login), None).stop(&mail), "nobody else carries it");
        mail.account = address("gone@contoso.com");
        assert!(stops(&config, None, None).stop(&mail), "its account is not configured");

        let accounts = ["lms@contoso.com", ERP].map(address).to_vec();
        config.apps.push(Arc::new(App { name: mail.app.clone(), accounts, ..App::default() }));
        assert!(!stops(&config, None, None).stop(&mail), "the accounts of its app carry it");
        mail.account = address("lms@contoso.com");
        assert!(!stops(&config, Some(HoldCause::Manual), None).stop(&mail));
        assert!(stops(&config, Some(HoldCause::Login), Some(HoldCause::Quota)).stop(&mail));
        mail.lane = Lane::Urgent;
        assert!(stops(&config, Some(HoldCause::Login), Some(HoldCause::Quota)).stop(&mail), "there is no fallback");
    }
}
