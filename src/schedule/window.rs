//! The few messages of an account's queue that are in memory: of each flow those due first. The store has the rest.
//!
//! A flow is the mail of one app in one lane. Who else has much to send never keeps the head of a flow out of memory.

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

#[cfg(test)]
pub(super) mod testing {
    use super::*;

    /// What a store with these messages, in the order in which they are due, answers.
    pub(in crate::schedule) fn answer(load: &Load, messages: &[Waiting]) -> Vec<FlowHead> {
        let mut flows: BTreeMap<Flow, Vec<Waiting>> = BTreeMap::new();
        for waiting in messages {
            flows.entry(waiting.flow.clone()).or_default().push(waiting.clone());
        }
        let limit = load.limit(flows.len()) as usize;
        let wanted = flows.into_iter().filter(|(flow, _)| load.flows.as_ref().is_none_or(|flows| flows.contains(flow)));
        wanted
            .map(|(flow, mut messages)| {
                let is_cut = messages.len() >= limit;
                messages.truncate(limit);
                FlowHead { flow, messages, is_cut }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::answer;
    use super::*;
    use crate::message::Lane;
    use proptest::prelude::*;

    fn waiting(n: i64, due: i64) -> Waiting {
        of(Flow::default(), n, due)
    }

    fn of(flow: Flow, n: i64, due: i64) -> Waiting {
        let due_at = Timestamp::from_second(1_795_000_000 + due).unwrap();
        Waiting { id: QueueId::from_number(n), due_at, recipients: 1, flow }
    }

    /// A few flows, by number.
    fn flow(n: i64) -> Flow {
        let lane = Lane::ALL[usize::try_from(n % 3).unwrap()];
        Flow { lane, app: format!("app{}", n % 2).into(), outside: n % 4 > 1 }
    }

    /// What is due first of the one flow.
    fn take(window: &mut Window) -> Option<Waiting> {
        window.take_first(&Flow::default())
    }

    fn load(window: &mut Window, load: &Load, messages: &[Waiting]) {
        window.loaded(load, &answer(load, messages));
    }

    fn loaded(messages: &[Waiting]) -> Window {
        let mut window = Window::default();
        let asked = window.load().expect("nothing is known yet");
        load(&mut window, &asked, messages);
        window
    }

    #[test]
    fn a_new_queue_is_read_first_and_known_whole_if_it_is_short() {
        let mut window = loaded(&[waiting(1, 5), waiting(2, 9)]);
        assert_eq!(window.load(), None);
        window.insert(&waiting(3, 7));
        let order: Vec<i64> = std::iter::from_fn(|| take(&mut window)).map(|w| w.id.number()).collect();
        assert_eq!(order, [1, 3, 2]);
    }

    #[test]
    fn an_apps_two_flows_of_a_lane_have_one_share_as_long_as_one_of_them_waits() {
        let (rest, outside) = (Flow::new("moodle", Lane::Normal), Flow::new("moodle", Lane::Normal).to_outside(true));
        let mut window = loaded(&[of(rest.clone(), 1, 5), of(outside.clone(), 2, 3)]);
        window.share(&rest).earn(7);
        assert!(window.firsts().all(|first| first.share == *window.clone().share(&outside)));
        assert_eq!(window.take_first(&rest).unwrap().id.number(), 1);
        assert_ne!(*window.clone().share(&outside), Share::default(), "the other one still waits");
        assert_eq!(window.take_first(&outside).unwrap().flow, outside);
        assert_eq!(*window.share(&rest), Share::default());
    }

    #[test]
    fn an_answer_older_than_the_end_of_an_attempt_does_not_bring_the_message_back() {
        let mut window = loaded(&[waiting(1, 0)]);
        take(&mut window);
        window.forget();
        let asked = window.load().unwrap();
        window.ended(QueueId::from_number(1));
        load(&mut window, &asked, &[waiting(1, 0)]);
        assert!(window.is_empty());
    }

    #[test]
    fn what_arrives_during_a_load_is_not_lost_though_the_answer_does_not_have_it() {
        let mut window = Window::default();
        let asked = window.load().unwrap();
        window.insert(&waiting(9, 50));
        load(&mut window, &asked, &[waiting(1, 0)]);
        assert_eq!(window.len(), 2);
    }

    #[test]
    fn an_answer_from_before_the_queue_was_changed_is_dropped() {
        let mut window = Window::default();
        let asked = window.load().unwrap();
        window.forget();
        load(&mut window, &asked, &[waiting(1, 0)]);
        assert!(window.is_empty());
        assert!(window.load().is_some());
    }

    #[test]
    fn a_message_that_is_to_be_tried_again_before_its_end_was_announced_is_not_forgotten() {
        let mut window = loaded(&[waiting(1, 0)]);
        take(&mut window);
        // Its end is in the store, somebody has it tried again, and only then its end is announced.
        window.forget();
        let asked = window.load().unwrap();
        window.ended(QueueId::from_number(1));
        load(&mut window, &asked, &[waiting(1, 0)]);
        let asked = window.load().expect("the store is asked once more");
        load(&mut window, &asked, &[waiting(1, 0)]);
        assert_eq!(window.len(), 1);
        assert!(window.load().is_none());
    }

    #[test]
    fn no_more_than_its_size_is_ever_known() {
        let mut window = loaded(&[]);
        for n in 0..5_000 {
            window.insert(&waiting(n, 5_000 - n));
        }
        assert_eq!(window.len(), LARGEST);
        assert_eq!(take(&mut window).unwrap().id.number(), 4_999);
    }

    #[test]
    fn what_finds_no_place_during_a_load_is_looked_for_though_the_answer_was_short() {
        let mut window = Window::default();
        let asked = window.load().unwrap();
        for n in 0..=i64::try_from(LARGEST).unwrap() {
            window.insert(&waiting(n, n));
        }
        load(&mut window, &asked, &[]);
        while take(&mut window).is_some() {}
        assert!(window.load().is_some(), "one is known to the store alone");
    }

    #[test]
    fn lost_news_are_looked_for_at_once_even_behind_many_that_wait_for_their_time() {
        let later: Vec<Waiting> = (0..300).map(|n| waiting(n, 3_600)).collect();
        let mut window = loaded(&later);
        window.forget();
        let asked = window.load().expect("the lost one may be due now");
        window.forget();
        load(&mut window, &asked, &[]);
        assert!(window.load().is_some(), "and news lost during that load, too");
    }

    #[test]
    fn a_small_flow_is_known_beside_a_large_one() {
        let urgent = Flow { lane: Lane::Urgent, ..Flow::default() };
        let mut queue: Vec<Waiting> = (0..5_000).map(|n| waiting(n, n)).collect();
        queue.push(of(urgent.clone(), 9_000, 9_000));
        let mut window = loaded(&queue);
        assert_eq!(window.firsts().count(), 2);
        window.insert(&of(urgent.clone(), 9_001, 9_001));
        assert_eq!(window.take_first(&urgent).unwrap().id.number(), 9_000);
        assert_eq!(window.take_first(&urgent).unwrap().id.number(), 9_001);
    }

    #[test]
    fn only_the_flow_that_runs_out_is_asked_for_again() {
        let bulk = Flow { lane: Lane::Bulk, ..Flow::default() };
        let both = |n| [waiting(n, n), of(bulk.clone(), 2_000 + n, n)];
        let queue: Vec<Waiting> = (0..1_500).flat_map(both).collect();
        let mut window = loaded(&queue);
        for _ in 0..LARGEST / 2 {
            assert_eq!(window.load(), None);
            take(&mut window);
        }
        assert_eq!(window.load().unwrap().flows, Some(vec![Flow::default()]));
    }

    #[test]
    fn however_many_apps_there_are_memory_is_bounded_and_none_is_forgotten() {
        let app = |n: i64| Flow { app: format!("app{n}").into(), ..Flow::default() };
        let mut window = loaded(&[]);
        for n in 0..40_000 {
            window.insert(&of(app(n % 200), n, n));
        }
        assert_eq!(window.firsts().count(), 200);
        assert!(window.len() <= SIZE, "{}", window.len());
        let queue: Vec<Waiting> = (0..40_000).map(|n| of(app(n % 200), n, n)).collect();
        let window = loaded(&queue);
        assert_eq!(window.firsts().count(), 200);
        assert!(window.len() <= SIZE, "{}", window.len());
    }

    proptest! {
        /// Whatever happens in whatever order, every message of the store is taken exactly once per turn, in the end.
        #[test]
        fn nothing_is_lost_or_taken_twice(steps in prop::collection::vec((0u8..10, 0i64..2_000), 1..200)) {
            let mut play = Play::default();
            for (step, value) in steps {
                play.step(step, value)?;
            }
            play.finish()?;
        }
    }

    /// A window beside a store, and what is under way.
    #[derive(Default)]
    struct Play {
        window: Window,
        store: BTreeMap<QueueId, Waiting>,
        under_way: Vec<QueueId>,
        load: Option<(Load, Vec<FlowHead>)>,
        next: i64,
    }

    impl Play {
        fn step(&mut self, step: u8, value: i64) -> Result<(), TestCaseError> {
            match step {
                0 | 1 => self.arrive(value % 150, value, true),
                2 => {
                    self.take(value)?;
                }
                3 => self.end(value),
                4 if self.load.is_none() => self.ask(),
                5 => self.answer(),
                // Announcements were lost.
                6 => {
                    self.arrive(value % 20, value, false);
                    self.window.forget();
                }
                // Retried by hand, and put into another lane.
                7 | 8 => {
                    let id = self.store.keys().nth(usize::try_from(value).unwrap()).copied();
                    if let Some(id) = id.filter(|id| step == 8 || !self.under_way.contains(id)) {
                        let waiting = if step == 7 {
                            of(self.store[&id].flow.clone(), id.number(), 0)
                        } else {
                            Waiting { flow: flow(value), ..self.store[&id].clone() }
                        };
                        self.store.insert(id, waiting);
                        self.window.forget();
                    }
                }
                _ => {}
            }
            prop_assert!(self.window.len() <= SIZE);
            Ok(())
        }

        fn arrive(&mut self, last: i64, due: i64, is_told: bool) {
            for n in 0..=last {
                self.next += 1;
                let new = of(flow(n * due), self.next, due);
                self.store.insert(new.id, new.clone());
                if is_told {
                    self.window.insert(&new);
                }
            }
        }

        fn take(&mut self, value: i64) -> Result<bool, TestCaseError> {
            let flows: Vec<Flow> = self.window.firsts().map(|first| first.flow.clone()).collect();
            let Some(flow) = flows.get(usize::try_from(value).unwrap() % flows.len().max(1)) else { return Ok(false) };
            let Some(first) = self.window.take_first(flow) else { return Ok(false) };
            prop_assert_eq!(self.store.get(&first.id), Some(&first), "taken, but not so in the store");
            prop_assert!(!self.under_way.contains(&first.id), "taken twice");
            let earlier = self.store.values().find(|other| {
                let is_first = (other.due_at, other.id) < (first.due_at, first.id);
                is_first && other.flow == first.flow && !self.under_way.contains(&other.id)
            });
            // What arrives while the store is asked may be taken before what the store knows.
            prop_assert!(self.load.is_some() || earlier.is_none(), "not in order: {:?} before {:?}", first, earlier);
            self.under_way.push(first.id);
            Ok(true)
        }

        fn end(&mut self, value: i64) {
            let Some(id) = self.under_way.pop() else { return };
            let Some(done) = self.store.remove(&id) else { return };
            self.window.ended(id);
            if value % 2 == 0 {
                let again = of(done.flow, id.number(), value + 2_000);
                self.store.insert(id, again.clone());
                self.window.insert(&again);
            }
        }

        fn ask(&mut self) {
            if let Some(asked) = self.window.load() {
                let mut messages: Vec<Waiting> = self.store.values().cloned().collect();
                messages.sort_by_key(|waiting| (waiting.due_at, waiting.id));
                let answer = answer(&asked, &messages);
                self.load = Some((asked, answer));
            }
        }

        fn answer(&mut self) {
            if let Some((asked, answer)) = self.load.take() {
                self.window.loaded(&asked, &answer);
            }
        }

        /// All that waits is taken, and what is under way ends.
        fn finish(mut self) -> Result<(), TestCaseError> {
            self.answer();
            let mut idle = 0;
            while idle < 3 {
                while !self.under_way.is_empty() {
                    self.end(1);
                }
                self.ask();
                self.answer();
                idle += 1;
                loop {
                    let flow = self.window.firsts().next().map(|first| first.flow.clone());
                    let Some(flow) = flow else { break };
                    let first = self.window.take_first(&flow).expect("it is there");
                    prop_assert!(self.store.remove(&first.id).is_some(), "taken twice");
                    self.window.ended(first.id);
                    idle = 0;
                }
            }
            prop_assert!(self.store.is_empty(), "{} messages were never taken", self.store.len());
            Ok(())
        }
    }
}
