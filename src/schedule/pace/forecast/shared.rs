//! Limits that streams share, whoever carries them: an app's own rate, or what a tenant may send to the outside.

use jiff::Timestamp;

use super::ledger::{Ledger, Recipients};
use super::{Bound, DayOutlook, Flowing, NONE};

/// A limit that streams share, whoever carries them.
#[derive(Clone, Debug)]
pub struct Shared {
    /// By their places.
    streams: Vec<usize>,
    limit: Limit,
}

#[derive(Clone, Debug)]
enum Limit {
    /// Messages a minute.
    Rate(u32),
    Day(DayOutlook),
}

impl Shared {
    /// So many messages a minute at most, at least 1: an app's own rate.
    pub fn rate(messages_per_minute: u32, streams: Vec<usize>) -> Self {
        Self { streams, limit: Limit::Rate(messages_per_minute.max(1)) }
    }

    /// So many recipients a day at most, for all logins together: a tenant's budget.
    pub fn day(day: DayOutlook, streams: Vec<usize>) -> Self {
        Self { streams, limit: Limit::Day(day) }
    }
}

/// What becomes of it.
#[derive(Debug)]
pub(super) struct Sharing<'a> {
    streams: &'a [usize],
    /// If it is recipients that are shared.
    day: Option<Ledger>,
    /// What there is a minute: recipients, or messages.
    amount: Recipients,
}

impl<'a> Sharing<'a> {
    pub(super) fn new(shared: &'a Shared, now: Timestamp) -> Self {
        let (day, rate) = match &shared.limit {
            Limit::Rate(rate) => (None, f64::from(*rate)),
            Limit::Day(day) => (Some(Ledger::new(day, now)), 0.0),
        };
        Self { streams: &shared.streams, day, amount: Recipients { all: rate, others: rate } }
    }

    /// What there is in a step of so many minutes.
    pub(super) fn plan(&mut self, at: f64, minutes: f64) {
        if let Some(day) = &mut self.day {
            self.amount = day.room(at, minutes);
        }
    }

    /// Whether there is something else in every step.
    pub(super) fn changes(&self) -> bool {
        self.day.is_some()
    }

    /// What each may have at most. Those that want no less than they may have an equal part of what the others leave.
    pub(super) fn cap(&self, streams: &mut [Flowing]) {
        let (mut flowing, mut hungry, mut sated, mut largest) = (0.0, 0.0, 0.0, 0.0_f64);
        for stream in self.streams.iter().map(|&n| &streams[n]).filter(|stream| stream.left > NONE) {
            let taken = stream.rate * self.unit(stream);
            largest = largest.max(taken);
            flowing += 1.0;
            if stream.is_hungry {
                hungry += 1.0;
            } else {
                sated += taken;
            }
        }
        for &n in self.streams {
            let stream = &mut streams[n];
            let amount = self.amount.of(stream.lane);
            let level = if hungry > 0.0 { (amount - sated) / hungry } else { largest + (amount - sated) / flowing };
            let most = level.max(amount / flowing) / self.unit(stream);
            if most < stream.most {
                (stream.most, stream.is_most_of_day) = (most, self.day.is_some());
            }
        }
    }

    /// So many minutes go by.
    pub(super) fn pass(&mut self, at: f64, minutes: f64, is_whole: bool, streams: &mut [Flowing]) {
        let Some(day) = &mut self.day else { return };
        let mut sent = Recipients::default();
        for &n in self.streams {
            let stream = &mut streams[n];
            sent.add(stream.lane, stream.rate * stream.each * minutes);
            if is_whole && stream.is_most_of_day && stream.has_all_it_may() {
                stream.bound = Bound::Budget;
            }
        }
        day.note(at, minutes, sent);
    }

    fn unit(&self, stream: &Flowing) -> f64 {
        if self.day.is_some() { stream.each } else { 1.0 }
    }
}
