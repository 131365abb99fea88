//! How fast one login may send: what Exchange Online allows a mailbox, kept on our side so that it never has to say no.
//!
//! Three limits, all at once. A GCRA (the leaky bucket in its virtual-scheduling form, ITU-T I.371) spreads messages evenly with a
//! short burst. A strict window never lets more than `messages_per_minute` be under way or just sent in any 60.5 s: a GCRA alone is
//! over the limit by its burst. And no more recipients than `recipients_per_day` in any 24 h (`day`).
//!
//! A message counts from its start until 60.5 s after its *end*, since nobody knows when in between the far side counts it.
//!
//! Part of each limit is kept for urgent mail, so that it finds a way open whatever else waits; `docs/queue.md` tells how much, and what
//! it costs. When the far side says all the same that it is too much, the limits are lower for a while (`slowdown`).

mod budget;
mod day;
mod forecast;
mod slowdown;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use self::day::{Allowed, Day, Used};
use self::slowdown::Gauge;
use super::Throttle;
use crate::config::Account;
use crate::message::{Address, Lane, QueueId};
use crate::store::Sent;

pub use self::budget::Allowance;
pub(super) use self::budget::Budgets;
pub use self::forecast::{Bound, DayOutlook, Forecast, Load, Outlook, Shared, Stream, forecasts};
pub use self::slowdown::Slowdown;

/// A minute, and half a second for clocks and networks that are not ours.
const WINDOW: Duration = Duration::from_millis(60_500);
/// Messages that may leave back to back after a quiet time, if the last one is urgent.
pub(super) const BURST: u32 = 3;
/// Urgent mail seldom comes alone: for so long after one the whole reserve is kept free.
const LATELY: Duration = Duration::from_mins(10);
/// A step back of the clock that is more than its being set right.
const CLOCK_STEP: Duration = Duration::from_secs(5);

/// What a login is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Messages in a minute; at least 1.
    pub messages_per_minute: u32,
    /// Sessions, and thus messages, at once; at least 1.
    pub connections: u32,
    /// Recipients in 24 hours; at least 1.
    pub recipients_per_day: u32,
}

impl Limits {
    /// The limits that an account's configuration gives its login.
    pub fn of(account: &Account) -> Self {
        Self {
            messages_per_minute: account.messages_per_minute.max(1),
            connections: account.connections.max(1),
            recipients_per_day: account.recipients_per_day.max(1),
        }
    }

    /// The tighter of both in each respect: for accounts that share a login.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            messages_per_minute: self.messages_per_minute.min(other.messages_per_minute),
            connections: self.connections.min(other.connections),
            recipients_per_day: self.recipients_per_day.min(other.recipients_per_day),
        }
    }
}

/// Whether the next message may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Now.
    Now,
    /// Not before this time.
    At(Timestamp),
    /// Only once a message that is under way has ended.
    Busy,
}

/// The account book of one login.
#[derive(Clone, Debug)]
pub struct Pace {
    limits: Limits,
    rate: Gauge,
    sessions: Gauge,
    /// The theoretical arrival time of the GCRA, in microseconds since 1970: at high rates a step is less than a millisecond.
    arrival: i64,
    under_way: HashMap<QueueId, UnderWay>,
    /// Accounts with a session that carries no message: a probe. It takes the place of one that does.
    visits: Vec<Address>,
    /// When the messages of the last window ended, oldest first.
    ended: VecDeque<Timestamp>,
    /// Those of them that were not urgent.
    others_ended: VecDeque<Timestamp>,
    day: Day,
    /// When an urgent message last left.
    urgent_at: Option<Timestamp>,
    /// How long an attempt takes, as a moving average in milliseconds.
    took: i64,
    /// When the clock was last looked at.
    last: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    since: Timestamp,
    recipients: u32,
    lane: Lane,
}

impl Pace {
    /// A login that has sent nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            rate: Gauge::default(),
            sessions: Gauge::default(),
            arrival: 0,
            under_way: HashMap::new(),
            visits: Vec::new(),
            ended: VecDeque::new(),
            others_ended: VecDeque::new(),
            day: Day::default(),
            urgent_at: None,
            took: 0,
            last: Timestamp::MIN,
        }
    }

    /// Other limits from now on; what was sent still counts.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes in what an earlier run of the relay has sent, oldest first. Which of it was urgent is not known: none, then. What is dated
    /// later than now was sent while the clock was wrong, and counts as just sent.
    pub fn restore(&mut self, sent: &[Sent], now: Timestamp) {
        for sent in sent {
            let at = sent.at.min(now);
            self.charge(at);
            self.note(at, sent.recipients, Lane::Normal);
        }
    }

    /// Assumes that as many messages as could be under way were sent just now, unrecorded: after a crash. How many.
    pub fn assume_unrecorded(&mut self, now: Timestamp) -> u32 {
        for _ in 0..self.limits.connections {
            self.charge(now);
            self.note(now, 1, Lane::Normal);
        }
        self.limits.connections
    }

    /// When a message to so many recipients may leave.
    ///
    /// A message with more recipients than a whole day allows leaves once the day is empty.
    pub fn turn(&mut self, now: Timestamp, recipients: u32, lane: Lane) -> Turn {
        self.forget(now);
        let mut pending = Used::default();
        for message in self.under_way.values() {
            pending = pending.and(Used::of(message.recipients, message.lane));
        }
        let by_day = || self.day.turn(Allowed::of(self.limits.recipients_per_day), pending, recipients, lane, now);
        let earliest = [self.session(now, lane), self.bucket(now, lane), self.window(now, lane)].into_iter();
        let mut latest = now;
        for turn in earliest.chain(std::iter::once_with(by_day)) {
            match turn {
                Turn::Now => {}
                Turn::At(when) => latest = latest.max(when),
                Turn::Busy => return Turn::Busy,
            }
        }
        if latest > now { Turn::At(latest) } else { Turn::Now }
    }

    /// A message leaves.
    pub fn start(&mut self, now: Timestamp, id: QueueId, recipients: u32, lane: Lane) {
        self.charge(now);
        if lane == Lane::Urgent {
            self.urgent_at = Some(now);
        }
        self.under_way.insert(id, UnderWay { since: now, recipients, lane });
    }

    /// It has ended; `sent` is what the far side will have counted, or `None` if it never saw the message. Nothing happens if it
    /// was not under way here.
    pub fn finish(&mut self, id: QueueId, sent: Option<(Timestamp, u32)>) {
        let Some(message) = self.under_way.remove(&id) else { return };
        if let Some((at, recipients)) = sent {
            let took = i64::try_from(at.duration_since(message.since).as_millis()).unwrap_or(i64::MAX).max(0);
            self.took = if self.took == 0 { took } else { (self.took * 7 + took) / 8 };
            self.note(at, recipients, message.lane);
        }
    }

    /// Whether the message is under way here.
    pub fn carries(&self, id: QueueId) -> bool {
        self.under_way.contains_key(&id)
    }

    /// The far side took something without complaint: what it had too much of may go up again.
    pub fn taken(&mut self, now: Timestamp) {
        self.rate.taken(self.limits.messages_per_minute, reserve(self.limits.messages_per_minute), now);
        self.sessions.taken(self.limits.connections, 1, now);
    }

    /// The far side said that it has too much of something: less of it for a while, but never less than one session and a sixth of the
    /// rate.
    pub fn throttled(&mut self, now: Timestamp, throttle: Throttle, said: &str) {
        let Limits { messages_per_minute, connections, .. } = self.limits;
        match throttle {
            Throttle::Rate => self.rate.refused(messages_per_minute, messages_per_minute / 6, said, now),
            Throttle::Sessions => self.sessions.refused(connections, 1, said, now),
        }
    }

    /// What is slowed down at present.
    pub fn slowdowns(&mut self, now: Timestamp) -> Vec<(Throttle, Slowdown)> {
        self.forget(now);
        let both = [(Throttle::Rate, &self.rate), (Throttle::Sessions, &self.sessions)];
        both.into_iter().filter_map(|(throttle, gauge)| Some((throttle, gauge.slowdown()?.clone()))).collect()
    }

    /// What can be told of the time to come.
    pub fn outlook(&mut self, now: Timestamp) -> Outlook {
        self.forget(now);
        let is_rested = self.arrival <= now.as_microsecond();
        Outlook {
            limits: self.limits,
            rate: self.rate.clone(),
            sessions: self.sessions.clone(),
            at_once: if is_rested { self.burst(Lane::Normal, now).min(self.connections()) } else { 0 },
            took: Duration::from_millis(u64::try_from(self.took).unwrap_or_default()),
            urgent_until: self.urgent_at.map(|at| at + LATELY).filter(|&until| until > now),
            day: DayOutlook { allowed: Allowed::of(self.limits.recipients_per_day), ends: self.day.ends() },
        }
    }

    /// A session without a message begins for this account.
    pub fn visit(&mut self, account: &Address) {
        self.visits.push(account.clone());
    }

    /// It has ended. Nothing happens if there was none.
    pub fn leave(&mut self, account: &Address) {
        if let Some(at) = self.visits.iter().position(|visitor| visitor == account) {
            self.visits.swap_remove(at);
        }
    }

    /// Whether it has no session at all, as far as is known here.
    pub fn is_idle(&self) -> bool {
        self.under_way.is_empty() && self.visits.is_empty()
    }

    /// Messages under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Messages sent or under way within the last minute's window.
    pub fn last_minute(&mut self, now: Timestamp) -> usize {
        self.forget(now);
        self.ended.len() + self.under_way.len()
    }

    /// Recipients taken within the last 24 hours.
    pub fn last_day(&mut self, now: Timestamp) -> u64 {
        self.forget(now);
        self.day.used()
    }

    /// One session is kept for urgent mail. Another message gets it when the pace would lose a turn otherwise, since the rest are slow,
    /// but not while urgent mail is about. A fast upstream has more turns at rest than it can lose.
    fn session(&self, now: Timestamp, lane: Lane) -> Turn {
        let in_use = self.under_way.len() + self.visits.len();
        let allowed = self.connections() as usize;
        if in_use >= allowed {
            return Turn::Busy;
        }
        let is_last = allowed > 1 && in_use + 1 == allowed;
        if lane == Lane::Urgent || !is_last {
            return Turn::Now;
        }
        // A message is under way, or a probe: its end is an event.
        if self.is_urgent_about(now) {
            return Turn::Busy;
        }
        let rested = i64::from(self.burst(Lane::Urgent, now).saturating_sub(BURST));
        Turn::At(micros(self.arrival - rested * self.step()))
    }

    fn bucket(&self, now: Timestamp, lane: Lane) -> Turn {
        let burst = i64::from(self.burst(lane, now).saturating_sub(1));
        Turn::At(micros(self.arrival - burst * self.step()))
    }

    /// The strict window, and within it what is kept for urgent mail: a place that is free within less than a step, and while urgent
    /// mail is about the whole reserve. To keep the reserve always would cost a sixth of the pace; the place costs next to nothing, since
    /// places become free about once a step.
    fn window(&self, now: Timestamp, lane: Lane) -> Turn {
        let limit = self.messages_per_minute() as usize;
        let in_window = self.ended.len() + self.under_way.len();
        let turn = freed(&self.ended, in_window.checked_sub(limit), Duration::ZERO);
        let reserve = reserve(self.messages_per_minute());
        if lane == Lane::Urgent || reserve == 0 {
            return turn;
        }
        let lead = Duration::from_micros(u64::try_from(self.step()).unwrap_or_default()) * 19 / 20;
        let place = freed(&self.ended, (in_window + 1).checked_sub(limit), lead);
        let mut latest = later(turn, place);
        if self.is_urgent_about(now) {
            let others = self.under_way.values().filter(|message| message.lane != Lane::Urgent).count();
            let in_window = self.others_ended.len() + others;
            let limit = limit - reserve as usize;
            latest = later(latest, freed(&self.others_ended, in_window.checked_sub(limit), Duration::ZERO));
        }
        latest
    }

    fn is_urgent_about(&self, now: Timestamp) -> bool {
        self.urgent_at.is_some_and(|at| now < at + LATELY)
    }

    fn messages_per_minute(&self) -> u32 {
        self.rate.of(self.limits.messages_per_minute)
    }

    fn connections(&self) -> u32 {
        self.sessions.of(self.limits.connections)
    }

    /// The time in which a steady stream sends one message, in microseconds.
    fn step(&self) -> i64 {
        60_000_000 / i64::from(self.messages_per_minute())
    }

    /// Three, or what a fast upstream takes in 10 ms, since time is told in whole milliseconds; never more than the minute holds. One
    /// of them is for urgent mail, and while that is about all but one.
    fn burst(&self, lane: Lane, now: Timestamp) -> u32 {
        let rate = self.messages_per_minute();
        let burst = BURST.max(rate / 6000).min(rate);
        let kept = match lane {
            Lane::Urgent => 0,
            _ if self.is_urgent_about(now) => BURST - 1,
            _ => 1,
        };
        burst.saturating_sub(kept).max(1)
    }

    fn charge(&mut self, at: Timestamp) {
        self.last = self.last.max(at);
        self.arrival = self.arrival.max(at.as_microsecond()) + self.step();
    }

    fn note(&mut self, at: Timestamp, recipients: u32, lane: Lane) {
        self.last = self.last.max(at);
        self.ended.push_back(at);
        if lane != Lane::Urgent {
            self.others_ended.push_back(at);
        }
        self.day.note(at, Used::of(recipients, lane));
    }

    /// Drops what no longer counts.
    fn forget(&mut self, now: Timestamp) {
        if now + CLOCK_STEP < self.last {
            self.set_back(now);
        }
        self.last = now;
        for ended in [&mut self.ended, &mut self.others_ended] {
            while ended.pop_front_if(|at| *at + WINDOW <= now).is_some() {}
        }
        self.day.forget(now);
        self.rate.forget(now);
        self.sessions.forget(now);
        let burst = i64::from(self.burst(Lane::Urgent, now)) * self.step();
        self.arrival = self.arrival.min(now.as_microsecond() + burst);
    }

    /// The clock has gone back: nothing has happened later than now. Mail waits for a minute at most, and the day is not counted anew.
    fn set_back(&mut self, now: Timestamp) {
        for at in self.ended.iter_mut().chain(&mut self.others_ended) {
            *at = (*at).min(now);
        }
        for message in self.under_way.values_mut() {
            message.since = message.since.min(now);
        }
        self.urgent_at = self.urgent_at.map(|at| at.min(now));
        self.day.set_back(now);
        self.rate.set_back(now);
        self.sessions.set_back(now);
    }
}

/// What is kept of the minute for urgent mail: 5 of 30.
fn reserve(messages_per_minute: u32) -> u32 {
    messages_per_minute / 6
}

/// When the entry `n` leaves the window, or so much before. Without a number nothing has to leave; what is under way has no time yet.
fn freed(ended: &VecDeque<Timestamp>, n: Option<usize>, before: Duration) -> Turn {
    match n.map(|n| ended.get(n)) {
        None => Turn::Now,
        Some(Some(&at)) => Turn::At(at + WINDOW - before),
        Some(None) => Turn::Busy,
    }
}

/// The later of both.
pub(super) fn later(a: Turn, b: Turn) -> Turn {
    match (a, b) {
        (Turn::Busy, _) | (_, Turn::Busy) => Turn::Busy,
        (Turn::At(a), Turn::At(b)) => Turn::At(a.max(b)),
        (Turn::Now, other) | (other, Turn::Now) => other,
    }
}

fn micros(since_1970: i64) -> Timestamp {
    Timestamp::from_microsecond(since_1970).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
