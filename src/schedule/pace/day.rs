//! The recipients that a login has used of its day. A rolling one: what is 24 hours old no longer counts.
//!
//! They are counted in steps of a minute, so a day is 1,440 numbers, however much is sent.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Turn;
use crate::message::Lane;

/// The recipient limit is a rolling one.
const DAY: Duration = Duration::from_hours(24);
/// What is counted as one.
const STEP: Duration = Duration::from_mins(1);
/// The same, to compare spans that may be negative.
const SIGNED_STEP: SignedDuration = SignedDuration::from_secs(60);
/// Steps that are kept although they no longer count: a day of them.
const PAST: usize = 24 * 60;

/// What counts, oldest first.
#[derive(Clone, Debug, Default)]
pub(super) struct Day {
    steps: VecDeque<Step>,
    /// What no longer counts. It does again if the clock that said so was wrong.
    past: VecDeque<Step>,
    used: Used,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    since: Timestamp,
    used: Used,
}

/// Recipients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) all: u64,
    /// Those of all that were not urgent.
    pub(super) others: u64,
}

impl Used {
    pub(super) fn of(recipients: u32, lane: Lane) -> Self {
        let all = u64::from(recipients);
        Self { all, others: if lane == Lane::Urgent { 0 } else { all } }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self { all: self.all + other.all, others: self.others + other.others }
    }

    fn without(self, other: Self) -> Self {
        Self { all: self.all.saturating_sub(other.all), others: self.others.saturating_sub(other.others) }
    }
}

/// What a day allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowed {
    pub(super) all: u64,
    /// What is not urgent may use no more than this of it.
    pub(super) others: u64,
}

impl Allowed {
    /// A tenth is kept for urgent mail.
    pub(super) fn of(recipients_per_day: u32) -> Self {
        let all = u64::from(recipients_per_day);
        Self { all, others: all - all / 10 }
    }

    /// A message that is larger than the day goes with an empty one.
    fn has_room(self, used: Used, recipients: u32, lane: Lane) -> bool {
        let recipients = u64::from(recipients);
        let others = lane == Lane::Urgent || used.others == 0 || used.others + recipients <= self.others;
        used.all == 0 || (used.all + recipients <= self.all && others)
    }
}

impl Day {
    pub(super) fn used(&self) -> u64 {
        self.used.all
    }

    pub(super) fn note(&mut self, at: Timestamp, used: Used) {
        if used.all == 0 {
            return;
        }
        self.used = self.used.and(used);
        // Nearly always the last one: only what several logins have sent in an earlier run comes out of turn.
        let behind = self.steps.partition_point(|step| step.since <= at);
        match behind.checked_sub(1).and_then(|before| self.steps.get_mut(before)) {
            Some(step) if at.duration_since(step.since) < SIGNED_STEP => step.used = step.used.and(used),
            _ => self.steps.insert(behind, Step { since: at, used }),
        }
    }

    /// What is too old no longer counts.
    pub(super) fn forget(&mut self, now: Timestamp) {
        while let Some(step) = self.steps.pop_front_if(|step| ends(step) <= now) {
            self.used = self.used.without(step.used);
            self.past.push_back(step);
            if self.past.len() > PAST {
                self.past.pop_front();
            }
        }
    }

    /// The clock has gone back: what it had dated later than now has happened by now, and what it had called too old may not be.
    pub(super) fn set_back(&mut self, now: Timestamp) {
        for step in self.steps.iter_mut().chain(&mut self.past) {
            step.since = step.since.min(now);
        }
        while let Some(step) = self.past.pop_back_if(|step| ends(step) > now) {
            self.used = self.used.and(step.used);
            self.steps.push_front(step);
        }
    }

    /// When so many more may be used; `pending` are those of messages under way.
    pub(super) fn turn(&self, allowed: Allowed, pending: Used, recipients: u32, lane: Lane, now: Timestamp) -> Turn {
        let mut used = self.used.and(pending);
        if allowed.has_room(used, recipients, lane) {
            return Turn::Now;
        }
        for step in &self.steps {
            used = used.without(step.used);
            if allowed.has_room(used, recipients, lane) {
                return Turn::At(ends(step).max(now));
            }
        }
        Turn::Busy
    }

    /// Recipients that count, and when each no longer does.
    pub(super) fn ends(&self) -> Vec<(Timestamp, Used)> {
        self.steps.iter().map(|step| (ends(step), step.used)).collect()
    }
}

/// The step's last recipient may be one step younger than its first.
fn ends(step: &Step) -> Timestamp {
    step.since + DAY + STEP
}
