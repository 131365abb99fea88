//! Whatever happens to a queue, in any order.

use proptest::prelude::*;

use super::testing::answer;
use super::tests::of;
use super::*;
use crate::message::Lane;

/// A few flows, by number.
fn flow(n: i64) -> Flow {
    let lane = Lane::ALL[usize::try_from(n % 3).unwrap()];
    Flow { lane, app: format!("app{}", n % 2).into(), outside: n % 4 > 1 }
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
