//! What holds and frees accounts: one by one, and those of a tenant together.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{AccountQueue, Scheduler};
use crate::message::Address;
use crate::schedule::event::Action;
use crate::schedule::gate::{Probed, Raised};
use crate::store::Hold;

impl Scheduler {
    pub(super) fn hold(&mut self, hold: Hold, actions: &mut Vec<Action>) {
        // Whoever keeps the sign-in of a new account may be quicker than the word of the new configuration.
        let queue = self.queues.entry(hold.account.clone());
        let queue = queue.or_insert_with(|| AccountQueue::removed(&hold.account, hold.since));
        if let Some(Raised { hold, is_news }) = queue.gate.raise(hold) {
            actions.push(Action::Hold { hold, is_news });
        }
    }

    /// Holds the account, and with it those of its tenant that nothing holds yet.
    pub(super) fn stop(&mut self, hold: &Hold, of_tenant: bool, actions: &mut Vec<Action>) {
        let tenant = self.queues.get(&hold.account).map(|queue| queue.tenant.clone()).unwrap_or_default();
        let is_meant = |queue: &AccountQueue| {
            of_tenant && !tenant.is_empty() && !queue.is_removed && queue.tenant == tenant && queue.gate.is_open()
        };
        let others = self.queues.iter().filter(|(account, queue)| **account != hold.account && is_meant(queue));
        let others: Vec<Address> = others.map(|(account, _)| account.clone()).collect();
        self.hold(hold.clone(), actions);
        for account in others {
            self.hold(Hold { account, ..hold.clone() }, actions);
        }
    }

    /// The other accounts of the tenant that the same hold has stopped.
    pub(super) fn held_with(&self, account: &Address) -> Vec<Address> {
        let Some(queue) = self.queues.get(account) else { return Vec::new() };
        let others = self.queues.iter().filter(|(other, _)| *other != account);
        others.filter(|(_, other)| are_held_together(queue, other)).map(|(other, _)| other.clone()).collect()
    }

    /// What follows from a probe, for the account and for those held with it.
    pub(super) fn after_probe(
        &mut self,
        account: &Address,
        probed: Probed,
        why: &str,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let others = self.held_with(account);
        match probed {
            Probed::Nothing => {}
            Probed::Free => {
                for account in std::iter::once(account).chain(&others) {
                    self.release(account, why.to_owned(), now, actions);
                }
            }
            Probed::Still(hold) => {
                let gates = others.iter().filter_map(|other| self.queues.get_mut(other)?.gate.follow(&hold));
                let followed: Vec<Hold> = gates.collect();
                actions.extend(std::iter::once(hold).chain(followed).map(|hold| Action::Hold { hold, is_news: false }));
            }
        }
    }

    pub(super) fn release(&mut self, account: &Address, why: String, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(queue) = self.queues.get_mut(account) else { return };
        queue.pause = None;
        if queue.gate.release() {
            // Whoever freed it may be wrong.
            queue.proof.soon(now);
            actions.push(Action::Release { account: account.clone(), at: now, why });
        }
    }

    pub(super) fn sign_in_good(&mut self, account: &Address, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(queue) = self.queues.get_mut(account) else { return };
        if queue.gate.is_open() {
            // What failed for want of a token need not wait any longer.
            queue.pause = None;
        } else if queue.gate.is_freed_by_sign_in() {
            self.release(account, "the sign-in works".to_owned(), now, actions);
        }
    }

    pub(super) fn signed_in(&mut self, account: &Address, now: Timestamp, actions: &mut Vec<Action>) {
        if self.queues.get(account).is_some_and(|queue| !queue.gate.is_manual()) {
            self.release(account, "somebody signed in".to_owned(), now, actions);
            self.with(account, |queue| queue.proof.soon(now));
        }
    }

    pub(super) fn probed(
        &mut self,
        account: &Address,
        result: Result<(), String>,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        self.leave(account);
        let Some(queue) = self.queues.get_mut(account) else { return };
        let probed = queue.gate.probed(result, now);
        let is_free = probed == Probed::Free;
        self.after_probe(account, probed, "the login was accepted again", now, actions);
        if is_free {
            self.with(account, |queue| queue.proof.taken(now));
        }
    }
}

/// Whether one hold of their tenant has stopped both.
fn are_held_together(one: &AccountQueue, other: &AccountQueue) -> bool {
    !one.tenant.is_empty() && one.tenant == other.tenant && !other.is_removed && one.gate.shares(&other.gate)
}

/// Whether another account of the tenant tries for this one.
pub(super) fn is_probed_for(queues: &BTreeMap<Address, AccountQueue>, queue: &AccountQueue) -> bool {
    let tries = |other: &AccountQueue| other.gate.is_probing() && are_held_together(queue, other);
    !queue.gate.is_open() && queues.values().any(tries)
}
