//! Which accounts carry what waits in which queue. Rules only: by them the scheduler sends, and the forecast counts.
//!
//! Mail waits in the queue of one account, and leaves through whichever of the app's accounts can take it. While all of them are held,
//! urgent mail leaves through the `fallback` of the queue's own account; the rest waits. A hold that a person made, or one that stops a copy
//! of the relay, is there so that nothing leaves: then urgent mail waits, too.

use std::collections::{BTreeMap, HashMap};
use std::slice;

use super::event::Standing;
use super::scheduler::AccountQueue;
use crate::config::Config;
use crate::message::{Address, Lane};
use crate::registry;
use crate::store::{Flow, Hold, HoldCause};

/// What of a configured account matters here.
trait Carrier {
    /// What stops it.
    fn hold(&self) -> Option<&Hold>;
    /// Whether mail finds its way through it, or is to find out whether it does.
    fn is_for_messages(&self) -> bool;
}

impl Carrier for AccountQueue {
    fn hold(&self) -> Option<&Hold> {
        self.gate.hold()
    }

    fn is_for_messages(&self) -> bool {
        self.gate.is_for_messages()
    }
}

/// Whoever looks ahead sees only what a hold leaves open: the one message that tries whether it is over empties no queue.
impl Carrier for Standing {
    fn hold(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    fn is_for_messages(&self) -> bool {
        self.hold.is_none()
    }
}

/// What the configuration says of it, kept so that it can be looked up for every message: `registry::carriers` has the rule.
#[derive(Debug, Default)]
pub struct Routes {
    /// By app.
    lists: HashMap<String, Vec<Address>>,
    /// Asked for the fallback, which is seldom needed.
    config: Option<Config>,
}

impl Routes {
    /// What this configuration says of it.
    pub fn of(config: &Config) -> Self {
        let apps = config.apps.iter().chain([&config.default_app]).filter(|app| !app.accounts.is_empty());
        Self { lists: apps.map(|app| (app.name.clone(), app.accounts.clone())).collect(), config: Some(config.clone()) }
    }

    /// The accounts through which this flow of this queue leaves at present, as all accounts stand. Empty: it waits.
    pub fn open<'a>(
        &'a self,
        standings: &'a HashMap<Address, Standing>,
        queue: &'a Address,
        flow: &Flow,
    ) -> impl Iterator<Item = &'a Standing> {
        let carriers = self.among(move |address| standings.get(address), queue, flow);
        carriers.map(|(_, standing)| standing).filter(|standing| standing.pause.is_none())
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
        self.among(move |address| queues.get(address).filter(|queue| !queue.is_removed), address, flow)
    }

    /// The same, of accounts that are to be found in `known` if they are configured.
    fn among<'a, C: Carrier + 'a>(
        &'a self,
        known: impl Fn(&Address) -> Option<&'a C> + Copy,
        queue: &'a Address,
        flow: &Flow,
    ) -> impl Iterator<Item = (&'a Address, &'a C)> {
        let found = move |address: &'a Address| Some((address, known(address)?));
        let list = self.list(known(queue).is_none(), queue, &flow.app);
        let stands_in = || !list.iter().filter_map(found).any(|(_, carrier)| carrier.hold().is_none());
        // Nobody else's mail finds out whether the fallback is still held.
        let fallback = known(queue).and_then(|own| self.fallback(own.hold()?, queue, flow)).filter(|_| stands_in());
        let fallback = fallback.and_then(found).filter(|(_, carrier)| carrier.hold().is_none());
        let own = list.iter().filter_map(found).filter(|(_, carrier)| carrier.is_for_messages());
        own.chain(fallback)
    }

    fn list<'a>(&'a self, is_removed: bool, queue: &'a Address, app: &str) -> &'a [Address] {
        match self.lists.get(app) {
            Some(list) if is_removed || list.contains(queue) => list,
            _ if is_removed => &[],
            _ => slice::from_ref(queue),
        }
    }

    fn fallback(&self, hold: &Hold, queue: &Address, flow: &Flow) -> Option<&Address> {
        let is_meant = matches!(hold.cause, HoldCause::Manual | HoldCause::Clone);
        let config = self.config.as_ref().filter(|_| flow.lane == Lane::Urgent && !is_meant)?;
        registry::fallback(config, &flow.app, queue).map(|fallback| &fallback.mailbox)
    }
}
