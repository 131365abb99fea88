//! When a queue will be empty, if nothing more comes. Pure: from what waits, the limits, and what was used of the day.
//!
//! It steps through the time to come in minutes, as the pace itself would go; what is left after two weeks goes on as the last one.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use super::day::{Allowed, Used};
use super::slowdown::Gauge;
use super::{Limits, WINDOW};

/// Looked at minute by minute; further on it is the same every day.
const CLOSELY: u32 = 14 * DAY;
/// In minutes, as long as a recipient counts.
const DAY: u32 = 24 * 60 + 1;
/// Messages are counted in thousandths: a minute seldom has a whole number of them.
const PARTS: u64 = 1000;
/// Nobody plans further ahead.
const FAR: Duration = Duration::from_hours(10 * 365 * 24);

/// What a login will be able to send from now on.
#[derive(Clone, Debug)]
pub struct Outlook {
    pub(super) limits: Limits,
    pub(super) rate: Gauge,
    pub(super) sessions: Gauge,
    /// Messages that may leave at once.
    pub(super) at_once: u32,
    /// How long an attempt takes.
    pub(super) took: Duration,
    /// What counts of the day, and when each no longer does.
    pub(super) day: Vec<(Timestamp, Used)>,
}

/// What waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Messages.
    pub messages: u64,
    /// Their recipients that are still to be served.
    pub recipients: u64,
}

/// What the end of a queue depends on most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Messages a minute, or sessions.
    Rate,
    /// Recipients a day.
    Day,
}

/// When a queue will be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// When, about.
    pub empty_at: Timestamp,
    /// What it depends on.
    pub bound: Bound,
}

/// How far it has come.
struct Run {
    left: u64,
    /// Recipients of a message, in thousandths.
    each: u64,
    /// Of the day, in thousandths of a recipient.
    used: u64,
    /// What was sent in each of the last minutes, in thousandths of a recipient.
    sent: VecDeque<u64>,
}

impl Outlook {
    /// When a queue of this load, which is not urgent, will be empty. `None`: it is.
    pub fn empty(&self, load: Load, now: Timestamp) -> Option<Forecast> {
        if load.messages == 0 {
            return None;
        }
        let mut run = Run {
            left: load.messages.saturating_sub(u64::from(self.at_once)).saturating_mul(PARTS),
            each: (load.recipients.max(load.messages).saturating_mul(PARTS) / load.messages).max(1),
            used: self.day.iter().map(|(_, used)| used.others * PARTS).sum(),
            sent: VecDeque::new(),
        };
        let allowed = Allowed::of(self.limits.recipients_per_day).others * PARTS;
        if run.used >= allowed {
            run.left = load.messages.saturating_mul(PARTS);
        }
        let mut ends = self.day.iter().copied().peekable();
        let mut bound = Bound::Rate;
        for minute in 0..CLOSELY {
            let begins = now + Duration::from_mins(u64::from(minute));
            while let Some((_, used)) = ends.next_if(|(at, _)| *at <= begins) {
                run.used = run.used.saturating_sub(used.others * PARTS);
            }
            let rate = self.rate(minute);
            let wanted = run.left.min(rate);
            let taken = run.minute(wanted, allowed);
            if taken < wanted {
                bound = Bound::Day;
            }
            if run.left == 0 {
                let within = Duration::from_millis(60_000 * taken / rate);
                return Some(Forecast { empty_at: begins + within, bound });
            }
        }
        let by_day = allowed.saturating_mul(PARTS) / run.each;
        let by_rate = self.rate(CLOSELY).saturating_mul(u64::from(DAY));
        let minutes = run.left.saturating_mul(u64::from(DAY)) / by_day.min(by_rate).max(1);
        let after = Duration::from_secs((minutes + u64::from(CLOSELY)).saturating_mul(60)).min(FAR);
        Some(Forecast { empty_at: now + after, bound: if by_day < by_rate { Bound::Day } else { bound } })
    }

    /// Thousandths of a message in that minute. A message counts for the window and for as long as it takes, and a session carries one
    /// at a time.
    fn rate(&self, minute: u32) -> u64 {
        let Limits { messages_per_minute, connections, .. } = self.limits;
        let messages = self.rate.after(minute, messages_per_minute, messages_per_minute / 6);
        let sessions = self.sessions.after(minute, connections, 1);
        let took = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX).clamp(1, 3_600_000);
        let window = u64::try_from(WINDOW.as_millis()).unwrap_or(u64::MAX) + took;
        let by_window = u64::from(messages) * 60_000 * PARTS / window;
        let by_sessions = u64::from(sessions) * 60_000 * PARTS / took;
        by_window.min(by_sessions).max(1)
    }
}

impl Run {
    /// Sends up to so much in the next minute; what was sent.
    fn minute(&mut self, wanted: u64, allowed: u64) -> u64 {
        if self.sent.len() >= DAY as usize {
            self.used = self.used.saturating_sub(self.sent.pop_front().unwrap_or_default());
        }
        let room = allowed.saturating_sub(self.used).saturating_mul(PARTS) / self.each;
        let taken = wanted.min(room);
        let recipients = taken.saturating_mul(self.each) / PARTS;
        self.sent.push_back(recipients);
        self.used += recipients;
        self.left -= taken;
        taken
    }
}
