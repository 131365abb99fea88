//! Which accounts carry what waits in which queue. Rules only.
//!
//! Mail waits in the queue of one account, and leaves through whichever of the app's accounts can take it. While all of them are held,
//! urgent mail leaves through the `fallback` of the queue's own account; the rest waits. A hold that a person made, or one that stops a copy
//! of the relay, is there so that nothing leaves: then urgent mail waits, too.

use std::collections::{BTreeMap, HashMap};
use std::slice;

use super::scheduler::AccountQueue;
use crate::config::Config;
use crate::message::{Address, Lane};
use crate::registry;
use crate::store::{Flow, HoldCause};

/// What the configuration says of it, kept so that it can be looked up for every message: `registry::carriers` has the rule.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// By app.
    lists: HashMap<String, Vec<Address>>,
    /// Asked for the fallback, which is seldom needed.
    config: Option<Config>,
}

impl Routes {
    pub(super) fn of(config: &Config) -> Self {
        let apps = config.apps.iter().chain([&config.default_app]).filter(|app| !app.accounts.is_empty());
        Self { lists: apps.map(|app| (app.name.clone(), app.accounts.clone())).collect(), config: Some(config.clone()) }
    }

    /// Whether accounts that are gone may have left mail that others carry.
    pub(super) fn share(&self) -> bool {
        !self.lists.is_empty()
    }

    /// The accounts that carry this flow of this queue, the first one first: those that are not held, and those of which its next message
    /// is to find out whether they still are.
    pub(super) fn carriers<'a>(
        &'a self,
        queues: &'a BTreeMap<Address, AccountQueue>,
        address: &'a Address,
        flow: &Flow,
    ) -> impl Iterator<Item = (&'a Address, &'a AccountQueue)> {
        let known = |address: &'a Address| Some((address, queues.get(address).filter(|queue| !queue.is_removed)?));
        let is_open = |(_, carrier): &(&Address, &AccountQueue)| carrier.gate.is_open();
        let list = self.list(queues, address, &flow.app);
        let stands_in = || !list.iter().filter_map(known).any(|carrier| is_open(&carrier));
        // Nobody else's mail finds out whether the fallback is still held.
        let fallback = self.fallback(queues, address, flow).filter(|_| stands_in());
        let fallback = fallback.and_then(known).filter(is_open);
        let own = list.iter().filter_map(known).filter(|(_, carrier)| carrier.gate.is_for_messages());
        own.chain(fallback)
    }

    fn list<'a>(&'a self, queues: &BTreeMap<Address, AccountQueue>, queue: &'a Address, app: &str) -> &'a [Address] {
        let is_removed = queues.get(queue).is_none_or(|queue| queue.is_removed);
        match self.lists.get(app) {
            Some(list) if is_removed || list.contains(queue) => list,
            _ if is_removed => &[],
            _ => slice::from_ref(queue),
        }
    }

    fn fallback(&self, queues: &BTreeMap<Address, AccountQueue>, queue: &Address, flow: &Flow) -> Option<&Address> {
        let hold = queues.get(queue).filter(|_| flow.lane == Lane::Urgent)?.gate.hold()?;
        let is_meant = matches!(hold.cause, HoldCause::Manual | HoldCause::Clone);
        let config = self.config.as_ref().filter(|_| !is_meant)?;
        registry::fallback(config, &flow.app, queue).map(|fallback| &fallback.mailbox)
    }
}
