//! The few messages of an account's queue that are in memory: of each flow those due first. The store has the rest.
//!
//! A flow is the mail of one app in one lane, and of that what a tenant's budget counts apart from the rest. Who else has much to send never
//! keeps the head of a flow out of memory.

#[cfg(test)]
mod play;
#[cfg(test)]
pub(super) mod testing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

use super::fairness::Share;
use crate::message::QueueId;
use crate::store::{Flow, FlowHead, Waiting};

/// How many messages of one queue are known at most, whatever number of flows it has; more only if there are hundreds.
pub const SIZE: usize = 2048;
/// How many of one flow.
const LARGEST: usize = 512;
/// So many are known of every flow.
const SMALLEST: usize = 4;

/// The heads of one account's flows, each in the order in which it becomes due.
///
/// Invariant: whatever waits in the store and is neither here nor under way is due after everything of its flow that is here and `more` is
/// set for that flow, or the flow is not here and `is_surveyed` is not set.
#[derive(Clone, Debug, Default)]
pub struct Window {
    flows: BTreeMap<Flow, Head>,
    /// What the lines have saved up: an app's two flows of a lane share one, which is kept by the flow that no budget counts. Outlives their
    /// heads, since those are read anew now and then.
    shares: BTreeMap<Flow, Share>,
    known: HashSet<QueueId>,
    under_way: HashSet<QueueId>,
    /// Of those under way: what the store says of them has changed meanwhile. Their end may be old news: somebody may have had them tried
    /// again between the record of the end and its announcement.
    doubtful: HashSet<QueueId>,
    /// All flows of the store are here, but for those of which nothing waits.
    is_surveyed: bool,
    /// A load is under way. What ended since it was asked for is written down, since the answer may be older than that.
    loading: Option<Loading>,
    generation: u64,
}

#[derive(Clone, Debug, Default)]
struct Head {
    due: BTreeMap<Key, u32>,
    /// The store may have more than is known here.
    more: bool,
}

/// The order in which mail of a flow leaves.
type Key = (Timestamp, QueueId);

#[derive(Clone, Debug, Default)]
struct Loading {
    /// Whose heads were asked for; `None`: of all that there are.
    flows: Option<Vec<Flow>>,
    ended: HashSet<QueueId>,
    /// What came meanwhile and found no place: from here on nothing is known.
    gaps: HashMap<Flow, Key>,
}

impl Loading {
    fn covers(&self, flow: &Flow) -> bool {
        self.flows.as_ref().is_none_or(|flows| flows.contains(flow))
    }
}

/// A load that was asked for; its answer has to name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Answers to an older one are dropped.
    generation: u64,
    /// Whose heads are to be brought; `None`: of all flows that the store has.
    pub flows: Option<Vec<Flow>>,
    known: usize,
    under_way: usize,
}

impl Load {
    /// How many messages to bring of each flow at most, if there are so many flows.
    pub fn limit(&self, flows: usize) -> u32 {
        // What is under way is still in the store.
        u32::try_from(share_of(flows.max(self.known)) + self.under_way).unwrap_or(u32::MAX)
    }
}

/// What of a flow is due first.
#[derive(Clone, Copy, Debug)]
pub(super) struct First<'a> {
    pub(super) flow: &'a Flow,
    pub(super) due_at: Timestamp,
    pub(super) id: QueueId,
    pub(super) recipients: u32,
    pub(super) share: Share,
}

/// By what the share of a flow's line is known.
fn line(flow: &Flow) -> Flow {
    flow.clone().to_outside(false)
}

/// What each of so many flows may have in memory.
fn share_of(flows: usize) -> usize {
    (SIZE / flows.max(1)).clamp(SMALLEST, LARGEST)
}

impl Window {
    /// A message waits, newly or again.
    pub fn insert(&mut self, waiting: &Waiting) {
        if self.under_way.contains(&waiting.id) || self.known.contains(&waiting.id) {
            return;
        }
        let (key, flow) = ((waiting.due_at, waiting.id), &waiting.flow);
        // During a load there is no telling whether the answer will have it.
        let is_loading = self.loading.as_ref().is_some_and(|loading| loading.covers(flow));
        let Some(head) = self.flows.get_mut(flow) else {
            if self.is_surveyed || is_loading {
                let head = Head { due: [(key, waiting.recipients)].into(), ..Head::default() };
                self.flows.insert(flow.clone(), head);
                self.known.insert(waiting.id);
                self.make_room();
            }
            return;
        };
        // Behind a gap it has no place.
        if head.more && !is_loading && head.due.last_key_value().is_none_or(|(last, _)| key > *last) {
            return;
        }
        head.due.insert(key, waiting.recipients);
        self.known.insert(waiting.id);
        if head.due.len() > share_of(self.flows.len()) {
            self.trim(flow);
        }
    }

    /// Of each flow what is due first.
    pub(super) fn firsts(&self) -> impl Iterator<Item = First<'_>> {
        self.flows.iter().filter_map(|(flow, head)| {
            let (&(due_at, id), &recipients) = head.due.first_key_value()?;
            let share = self.shares.get(&line(flow)).copied().unwrap_or_default();
            Some(First { flow, due_at, id, recipients, share })
        })
    }

    /// What the flow's line has saved up.
    pub(super) fn share(&mut self, flow: &Flow) -> &mut Share {
        self.shares.entry(line(flow)).or_default()
    }

    /// Takes out what of this flow is due first: it is under way.
    pub fn take_first(&mut self, flow: &Flow) -> Option<Waiting> {
        let head = self.flows.get_mut(flow)?;
        let ((due_at, id), recipients) = head.due.pop_first()?;
        let is_over = head.due.is_empty() && !head.more;
        self.known.remove(&id);
        self.under_way.insert(id);
        let waiting = Waiting { id, due_at, recipients, flow: flow.clone() };
        if is_over {
            self.flows.remove(flow);
            if !self.flows.contains_key(&flow.clone().to_outside(!flow.outside)) {
                self.shares.remove(&line(flow));
            }
        }
        Some(waiting)
    }

    /// It is no longer under way; if it waits again, [`Window::insert`] follows.
    pub fn ended(&mut self, id: QueueId) {
        self.under_way.remove(&id);
        if let Some(loading) = &mut self.loading {
            loading.ended.insert(id);
        }
        if self.doubtful.remove(&id) {
            self.forget_known();
        }
    }

    /// The queue was changed in the store, or news of it was lost: what is known is worth nothing, and so is a load under way.
    pub fn forget(&mut self) {
        self.doubtful.clone_from(&self.under_way);
        self.forget_known();
    }

    fn forget_known(&mut self) {
        self.flows.clear();
        self.known.clear();
        self.is_surveyed = false;
        self.loading = None;
    }

    /// The load that is needed now, if one is. Asking marks it as under way.
    pub fn load(&mut self) -> Option<Load> {
        if self.loading.is_some() {
            return None;
        }
        let room = share_of(self.flows.len()) / 2;
        let is_short = |(_, head): &(&Flow, &Head)| head.more && head.due.len() <= room;
        let flows = self.is_surveyed.then(|| self.flows.iter().filter(is_short).map(|(flow, _)| flow.clone()));
        let flows: Option<Vec<Flow>> = flows.map(Iterator::collect);
        if flows.as_ref().is_some_and(Vec::is_empty) {
            return None;
        }
        self.loading = Some(Loading { flows: flows.clone(), ..Loading::default() });
        self.generation += 1;
        let (known, under_way) = (self.flows.len(), self.under_way.len());
        Some(Load { generation: self.generation, flows, known, under_way })
    }

    /// The answer to a load: what of each flow is due first in the store, in that order.
    pub fn loaded(&mut self, load: &Load, heads: &[FlowHead]) {
        if load.generation != self.generation {
            return;
        }
        let Some(mut loading) = self.loading.take() else { return };
        self.is_surveyed = true;
        for (_, head) in self.flows.iter_mut().filter(|(flow, _)| loading.covers(flow)) {
            head.more = false;
        }
        for FlowHead { flow, messages, is_cut } in heads {
            let head = self.flows.entry(flow.clone()).or_default();
            for waiting in messages {
                let is_stale = loading.ended.contains(&waiting.id) || self.under_way.contains(&waiting.id);
                if !is_stale && self.known.insert(waiting.id) {
                    head.due.insert((waiting.due_at, waiting.id), waiting.recipients);
                }
            }
            if let Some(last) = messages.last().filter(|_| *is_cut) {
                let cut = (last.due_at, last.id.next());
                loading.gaps.entry(flow.clone()).and_modify(|gap| *gap = cut.min(*gap)).or_insert(cut);
            }
        }
        // Behind the end of an answer that was cut off, and behind what found no place meanwhile, something may be missing.
        for (flow, gap) in loading.gaps {
            let head = self.flows.entry(flow).or_default();
            head.more = true;
            for (_, id) in head.due.split_off(&gap).into_keys() {
                self.known.remove(&id);
            }
        }
        self.flows.retain(|_, head| head.more || !head.due.is_empty());
        let waits = |flow: &Flow| self.flows.contains_key(flow);
        self.shares.retain(|line, _| waits(line) || waits(&line.clone().to_outside(true)));
        self.make_room();
    }

    /// The load failed; it is to be asked for again.
    pub fn load_failed(&mut self, load: &Load) {
        if load.generation == self.generation {
            self.loading = None;
        }
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether nothing is known to wait.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Every flow has to do with its share.
    fn make_room(&mut self) {
        let size = share_of(self.flows.len());
        let large = self.flows.iter().filter(|(_, head)| head.due.len() > size).map(|(flow, _)| flow.clone());
        for flow in large.collect::<Vec<_>>() {
            self.trim(&flow);
        }
    }

    fn trim(&mut self, flow: &Flow) {
        let size = share_of(self.flows.len());
        let Some(head) = self.flows.get_mut(flow) else { return };
        while head.due.len() > size {
            let Some((key, _)) = head.due.pop_last() else { break };
            self.known.remove(&key.1);
            head.more = true;
            if let Some(loading) = self.loading.as_mut().filter(|loading| loading.covers(flow)) {
                loading.gaps.entry(flow.clone()).and_modify(|gap| *gap = key.min(*gap)).or_insert(key);
            }
        }
    }
}
