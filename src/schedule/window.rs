//! The few messages of an account's queue that are in memory: those due first. The store has the rest.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::Timestamp;

use crate::message::QueueId;
use crate::store::Waiting;

/// How many messages of one queue are known at most.
pub const SIZE: usize = 512;

/// The head of one account's queue, in the order in which it becomes due.
///
/// Invariant: whatever waits in the store and is neither here nor under way either is due after everything here, or `more` is set.
#[derive(Clone, Debug)]
pub struct Window {
    due: BTreeMap<(Timestamp, QueueId), u32>,
    known: HashMap<QueueId, Timestamp>,
    under_way: HashSet<QueueId>,
    /// Of those under way: what the store says of them has changed meanwhile. Their end may be old news: somebody may have had them tried
    /// again between the record of the end and its announcement.
    doubtful: HashSet<QueueId>,
    /// The store may have more than is known here.
    more: bool,
    /// A load is under way. What ended since it was asked for is written down, since the answer may be older than that.
    loading: Option<Loading>,
    generation: u64,
}

#[derive(Clone, Debug, Default)]
struct Loading {
    ended: HashSet<QueueId>,
    /// What came meanwhile and found no place: from here on nothing is known.
    gap: Option<(Timestamp, QueueId)>,
}

/// A load that was asked for; its answer has to name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Answers to an older one are dropped.
    pub generation: u64,
    /// How many messages to bring at most.
    pub limit: u32,
}

impl Default for Window {
    /// Nothing is known: the store has to be asked.
    fn default() -> Self {
        Self {
            due: BTreeMap::new(),
            known: HashMap::new(),
            under_way: HashSet::new(),
            doubtful: HashSet::new(),
            more: true,
            loading: None,
            generation: 0,
        }
    }
}

impl Window {
    /// A message waits, newly or again.
    pub fn insert(&mut self, waiting: &Waiting) {
        if self.under_way.contains(&waiting.id) || self.known.contains_key(&waiting.id) {
            return;
        }
        let key = (waiting.due_at, waiting.id);
        let is_last = self.due.last_key_value().is_none_or(|(last, _)| key > *last);
        // Behind a gap it has no place. During a load there is no telling whether the answer will have it.
        if self.more && is_last && self.loading.is_none() {
            return;
        }
        self.due.insert(key, waiting.recipients);
        self.known.insert(waiting.id, waiting.due_at);
        self.trim();
    }

    /// What is due first: when, which, and to how many.
    pub fn first(&self) -> Option<Waiting> {
        let (&(due_at, id), &recipients) = self.due.first_key_value()?;
        Some(Waiting { id, due_at, recipients })
    }

    /// Takes out what is due first: it is under way.
    pub fn take_first(&mut self) -> Option<Waiting> {
        let ((due_at, id), recipients) = self.due.pop_first()?;
        self.known.remove(&id);
        self.under_way.insert(id);
        Some(Waiting { id, due_at, recipients })
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
        self.due.clear();
        self.known.clear();
        self.more = true;
        self.loading = None;
    }

    /// The load that is needed now, if one is. Asking marks it as under way.
    pub fn load(&mut self) -> Option<Load> {
        if !self.more || self.loading.is_some() || self.due.len() > SIZE / 2 {
            return None;
        }
        self.loading = Some(Loading::default());
        self.generation += 1;
        let limit = u32::try_from(SIZE + self.under_way.len()).unwrap_or(u32::MAX);
        Some(Load { generation: self.generation, limit })
    }

    /// The answer to a load: what is due first in the store, in that order.
    pub fn loaded(&mut self, load: Load, messages: &[Waiting]) {
        if load.generation != self.generation {
            return;
        }
        let Some(loading) = self.loading.take() else { return };
        let cut = (messages.len() >= load.limit as usize).then(|| messages.last()).flatten();
        let cut = cut.map(|last| (last.due_at, last.id.next()));
        let gap = cut.into_iter().chain(loading.gap).min();
        self.more = gap.is_some();
        for waiting in messages {
            let is_stale = loading.ended.contains(&waiting.id) || self.under_way.contains(&waiting.id);
            if !is_stale && !self.known.contains_key(&waiting.id) {
                self.due.insert((waiting.due_at, waiting.id), waiting.recipients);
                self.known.insert(waiting.id, waiting.due_at);
            }
        }
        // Behind the end of an answer that was cut off, and behind what found no place meanwhile, something may be missing.
        if let Some(gap) = gap {
            for (_, id) in self.due.split_off(&gap).into_keys() {
                self.known.remove(&id);
            }
        }
        self.trim();
    }

    /// The load failed; it is to be asked for again.
    pub fn load_failed(&mut self, load: Load) {
        if load.generation == self.generation {
            self.loading = None;
        }
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether nothing is known to wait.
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    fn trim(&mut self) {
        while self.due.len() > SIZE {
            if let Some((key, _)) = self.due.pop_last() {
                self.known.remove(&key.1);
                self.more = true;
                if let Some(loading) = &mut self.loading {
                    loading.gap = Some(loading.gap.map_or(key, |gap| gap.min(key)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn waiting(n: i64, due: i64) -> Waiting {
        let due_at = Timestamp::from_second(1_795_000_000 + due).unwrap();
        Waiting { id: QueueId::from_number(n), due_at, recipients: 1 }
    }

    fn loaded(messages: &[Waiting]) -> Window {
        let mut window = Window::default();
        let load = window.load().expect("nothing is known yet");
        window.loaded(load, messages);
        window
    }

    #[test]
    fn a_new_queue_is_read_first_and_known_whole_if_it_is_short() {
        let mut window = loaded(&[waiting(1, 5), waiting(2, 9)]);
        assert_eq!(window.load(), None);
        window.insert(&waiting(3, 7));
        let order: Vec<i64> = std::iter::from_fn(|| window.take_first()).map(|w| w.id.number()).collect();
        assert_eq!(order, [1, 3, 2]);
    }

    #[test]
    fn an_answer_older_than_the_end_of_an_attempt_does_not_bring_the_message_back() {
        let mut window = loaded(&[waiting(1, 0)]);
        window.take_first();
        window.forget();
        let load = window.load().unwrap();
        window.ended(QueueId::from_number(1));
        window.loaded(load, &[waiting(1, 0)]);
        assert!(window.is_empty());
    }

    #[test]
    fn what_arrives_during_a_load_is_not_lost_though_the_answer_does_not_have_it() {
        let mut window = Window::default();
        let load = window.load().unwrap();
        window.insert(&waiting(9, 50));
        window.loaded(load, &[waiting(1, 0)]);
        assert_eq!(window.len(), 2);
    }

    #[test]
    fn an_answer_from_before_the_queue_was_changed_is_dropped() {
        let mut window = Window::default();
        let load = window.load().unwrap();
        window.forget();
        window.loaded(load, &[waiting(1, 0)]);
        assert!(window.is_empty());
        assert!(window.load().is_some());
    }

    #[test]
    fn a_message_that_is_to_be_tried_again_before_its_end_was_announced_is_not_forgotten() {
        let mut window = loaded(&[waiting(1, 0)]);
        window.take_first();
        // Its end is in the store, somebody has it tried again, and only then its end is announced.
        window.forget();
        let load = window.load().unwrap();
        window.ended(QueueId::from_number(1));
        window.loaded(load, &[waiting(1, 0)]);
        let load = window.load().expect("the store is asked once more");
        window.loaded(load, &[waiting(1, 0)]);
        assert_eq!(window.len(), 1);
        assert!(window.load().is_none());
    }

    #[test]
    fn no_more_than_its_size_is_ever_known() {
        let mut window = loaded(&[]);
        for n in 0..5_000 {
            window.insert(&waiting(n, 5_000 - n));
        }
        assert_eq!(window.len(), SIZE);
        assert_eq!(window.first().unwrap().id.number(), 4_999);
    }

    #[test]
    fn what_finds_no_place_during_a_load_is_looked_for_though_the_answer_was_short() {
        let mut window = Window::default();
        let load = window.load().unwrap();
        for n in 0..=i64::try_from(SIZE).unwrap() {
            window.insert(&waiting(n, n));
        }
        window.loaded(load, &[]);
        while window.take_first().is_some() {}
        assert!(window.load().is_some(), "one is known to the store alone");
    }

    #[test]
    fn lost_news_are_looked_for_at_once_even_behind_many_that_wait_for_their_time() {
        let later: Vec<Waiting> = (0..300).map(|n| waiting(n, 3_600)).collect();
        let mut window = loaded(&later);
        window.forget();
        let load = window.load().expect("the lost one may be due now");
        window.forget();
        window.loaded(load, &[]);
        assert!(window.load().is_some(), "and news lost during that load, too");
    }

    proptest! {
        /// Whatever happens in whatever order, every message of the store is taken exactly once per turn, in the end.
        #[test]
        fn nothing_is_lost_or_taken_twice(steps in prop::collection::vec((0u8..9, 0i64..2_000), 1..400)) {
            let mut window = Window::default();
            let mut store: BTreeMap<(Timestamp, QueueId), Waiting> = BTreeMap::new();
            let mut under_way: Vec<Waiting> = Vec::new();
            let mut load: Option<(Load, Vec<Waiting>)> = None;
            let mut next = 0;
            for (step, value) in steps {
                match step {
                    0 | 1 => {
                        for _ in 0..=(value % 300) {
                            next += 1;
                            let new = waiting(next, value);
                            store.insert((new.due_at, new.id), new.clone());
                            window.insert(&new);
                        }
                    }
                    2 => if let Some(first) = window.take_first() {
                        prop_assert!(store.contains_key(&(first.due_at, first.id)), "taken, but not in the store");
                        prop_assert!(!under_way.iter().any(|w| w.id == first.id), "taken twice");
                        under_way.push(first);
                    },
                    3 => if let Some(done) = under_way.pop() {
                        store.remove(&(done.due_at, done.id));
                        window.ended(done.id);
                        if value % 2 == 0 {
                            let again = waiting(done.id.number(), value + 2_000);
                            store.insert((again.due_at, again.id), again.clone());
                            window.insert(&again);
                        }
                    },
                    4 => if load.is_none() && let Some(asked) = window.load() {
                        load = Some((asked, store.values().take(asked.limit as usize).cloned().collect()));
                    },
                    5 => if let Some((asked, answer)) = load.take() { window.loaded(asked, &answer); },
                    // Announcements were lost.
                    6 => {
                        for _ in 0..=(value % 20) {
                            next += 1;
                            let new = waiting(next, value);
                            store.insert((new.due_at, new.id), new.clone());
                        }
                        window.forget();
                    }
                    // Retried by hand.
                    7 => {
                        let first = store.values().nth(usize::try_from(value).unwrap()).cloned();
                        if let Some(w) = first && !under_way.iter().any(|u| u.id == w.id) {
                            store.remove(&(w.due_at, w.id));
                            let again = waiting(w.id.number(), 0);
                            store.insert((again.due_at, again.id), again);
                            window.forget();
                        }
                    }
                    _ => {}
                }
            }
            if let Some((asked, answer)) = load.take() { window.loaded(asked, &answer); }
            for done in under_way.drain(..) {
                store.remove(&(done.due_at, done.id));
                window.ended(done.id);
            }
            let mut idle = 0;
            while !store.is_empty() && idle < 3 {
                if let Some(asked) = window.load() {
                    let answer: Vec<Waiting> = store.values().take(asked.limit as usize).cloned().collect();
                    window.loaded(asked, &answer);
                }
                idle += 1;
                while let Some(first) = window.take_first() {
                    prop_assert!(store.remove(&(first.due_at, first.id)).is_some());
                    window.ended(first.id);
                    idle = 0;
                    if window.load().is_some() { window.forget(); break; }
                }
            }
            prop_assert!(store.is_empty(), "{} messages were never taken", store.len());
        }
    }
}
