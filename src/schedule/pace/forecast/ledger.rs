//! A day's recipients in the time to come: what is used of them, and when it no longer counts.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::{CLOSELY, DAY, DayOutlook, from_now, number};
use crate::message::Lane;

/// What is left of a day, step by step.
#[derive(Debug)]
pub(super) struct Ledger {
    allowed: Recipients,
    used: Recipients,
    /// What no longer counts when, the first first.
    ends: VecDeque<End>,
}

/// Recipients that cease to count little by little, as they were sent.
#[derive(Debug)]
struct End {
    /// Minutes from now.
    from: f64,
    until: f64,
    recipients: Recipients,
}

/// Recipients, or recipients a minute.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Recipients {
    pub(super) all: f64,
    /// Those of all that are not urgent.
    pub(super) others: f64,
}

impl Recipients {
    pub(super) fn times(self, part: f64) -> Self {
        Self { all: self.all * part, others: self.others * part }
    }

    pub(super) fn of(self, lane: Lane) -> f64 {
        if lane == Lane::Urgent { self.all } else { self.others }
    }

    pub(super) fn add(&mut self, lane: Lane, recipients: f64) {
        self.all += recipients;
        if lane != Lane::Urgent {
            self.others += recipients;
        }
    }
}

impl Ledger {
    pub(super) fn new(day: &DayOutlook, now: Timestamp) -> Self {
        let mut used = Recipients::default();
        let mut ends = VecDeque::with_capacity(day.ends.len());
        for (at, count) in &day.ends {
            let recipients = Recipients { all: number(count.all), others: number(count.others) };
            used.all += recipients.all;
            used.others += recipients.others;
            let until = from_now(*at, now);
            ends.push_back(End { from: until, until, recipients });
        }
        let allowed = Recipients { all: number(day.allowed.all), others: number(day.allowed.others) };
        Self { allowed, used, ends }
    }

    /// What may be used a minute in a step of so many, in which what ceases to count makes room for as much.
    pub(super) fn room(&mut self, at: f64, minutes: f64) -> Recipients {
        if at >= CLOSELY {
            return self.allowed.times(1.0 / DAY);
        }
        self.forget(at + minutes);
        let all = (self.allowed.all - self.used.all).max(0.0);
        let others = (self.allowed.others - self.used.others).clamp(0.0, all);
        Recipients { all, others }.times(1.0 / minutes)
    }

    fn forget(&mut self, now: f64) {
        while let Some(end) = self.ends.front_mut().filter(|end| end.from <= now) {
            let part = if end.until <= now { 1.0 } else { (now - end.from) / (end.until - end.from) };
            let gone = end.recipients.times(part);
            self.used.all -= gone.all;
            self.used.others -= gone.others;
            if part < 1.0 {
                end.recipients = end.recipients.times(1.0 - part);
                end.from = now;
                break;
            }
            self.ends.pop_front();
        }
    }

    /// So many are used from then on for so many minutes.
    pub(super) fn note(&mut self, at: f64, minutes: f64, recipients: Recipients) {
        if recipients.all > 0.0 && at < CLOSELY {
            self.used.all += recipients.all;
            self.used.others += recipients.others;
            self.ends.push_back(End { from: at + DAY, until: at + minutes + DAY, recipients });
        }
    }
}
