//! How fast one login may send: what Exchange Online allows a mailbox, kept on our side so that it never has to say no.
//!
//! Three limits, all at once. A GCRA (the leaky bucket in its virtual-scheduling form, ITU-T I.371) spreads messages evenly with a
//! short burst. A strict window never lets more than `messages_per_minute` be under way or just sent in any 60.5 s: a GCRA alone is
//! over the limit by its burst. And no more recipients than `recipients_per_day` in any 24 h.
//!
//! A message counts from its start until 60.5 s after its *end*, since nobody knows when in between the far side counts it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use crate::config::Account;
use crate::message::{Address, Lane, QueueId};
use crate::store::Sent;

/// A minute, and half a second for clocks and networks that are not ours.
const WINDOW: Duration = Duration::from_millis(60_500);
/// The recipient limit is a rolling one.
const DAY: Duration = Duration::from_hours(24);
/// Recipients are counted in steps of this size: a day is 1,440 numbers, however much is sent.
const STEP: Duration = Duration::from_mins(1);
/// Messages that may leave back to back after a quiet time.
pub const BURST: u32 = 3;

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
    /// The theoretical arrival time of the GCRA, in microseconds since 1970: at high rates a step is less than a millisecond.
    arrival: i64,
    under_way: HashMap<QueueId, u32>,
    /// Accounts with a session that carries no message: a probe. It takes the place of one that does.
    visits: Vec<Address>,
    /// When the messages of the last window ended, oldest first.
    ended: VecDeque<Timestamp>,
    /// Recipients taken in the last day, by step, oldest first.
    day: VecDeque<(Timestamp, u32)>,
    recipients: u64,
}

impl Pace {
    /// A login that has sent nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            arrival: 0,
            under_way: HashMap::new(),
            visits: Vec::new(),
            ended: VecDeque::new(),
            day: VecDeque::new(),
            recipients: 0,
        }
    }

    /// Other limits from now on; what was sent still counts.
    pub fn limit(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes in what an earlier run of the relay has sent, oldest first.
    pub fn restore(&mut self, sent: &[Sent]) {
        for sent in sent {
            self.charge(sent.at);
            self.note(sent.at, sent.recipients);
        }
    }

    /// Assumes that as many messages as could be under way were sent just now, unrecorded: after a crash.
    pub fn assume_unrecorded(&mut self, now: Timestamp) {
        for _ in 0..self.limits.connections {
            self.charge(now);
            self.note(now, 1);
        }
    }

    /// When a message to so many recipients may leave.
    ///
    /// A message with more recipients than a whole day allows leaves once the day is empty.
    pub fn turn(&mut self, now: Timestamp, recipients: u32, _lane: Lane) -> Turn {
        self.forget(now);
        let under_way = u32::try_from(self.under_way.len() + self.visits.len()).unwrap_or(u32::MAX);
        if under_way >= self.limits.connections {
            return Turn::Busy;
        }
        let burst = i64::from(self.burst().saturating_sub(1)) * self.step();
        let mut earliest = micros(self.arrival - burst);
        let in_window = self.ended.len() + self.under_way.len();
        let limit = self.limits.messages_per_minute as usize;
        if in_window >= limit {
            match self.ended.get(in_window - limit) {
                Some(&ended) => earliest = earliest.max(ended + WINDOW),
                None => return Turn::Busy,
            }
        }
        match self.day_has_room(now, recipients) {
            Turn::Now => {}
            Turn::At(when) => earliest = earliest.max(when),
            Turn::Busy => return Turn::Busy,
        }
        if earliest <= now { Turn::Now } else { Turn::At(earliest) }
    }

    /// A message leaves.
    pub fn start(&mut self, now: Timestamp, id: QueueId, recipients: u32) {
        self.charge(now);
        self.under_way.insert(id, recipients);
    }

    /// It has ended; `sent` is what the far side will have counted, or `None` if it never saw the message. Nothing happens if it
    /// was not under way here.
    pub fn finish(&mut self, id: QueueId, sent: Option<(Timestamp, u32)>) {
        if self.under_way.remove(&id).is_none() {
            return;
        }
        if let Some((at, recipients)) = sent {
            self.note(at, recipients);
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
        self.recipients
    }

    /// The time in which a steady stream sends one message, in microseconds.
    fn step(&self) -> i64 {
        60_000_000 / i64::from(self.limits.messages_per_minute)
    }

    /// Three, or what a fast upstream takes in 10 ms, since time is told in whole milliseconds; never more than the minute holds.
    fn burst(&self) -> u32 {
        BURST.max(self.limits.messages_per_minute / 6000).min(self.limits.messages_per_minute)
    }

    fn charge(&mut self, at: Timestamp) {
        self.arrival = self.arrival.max(at.as_microsecond()) + self.step();
    }

    fn note(&mut self, at: Timestamp, recipients: u32) {
        self.ended.push_back(at);
        if recipients == 0 {
            return;
        }
        self.recipients += u64::from(recipients);
        match self.day.back_mut() {
            Some((since, count))
                if at.duration_since(*since) < jiff::SignedDuration::try_from(STEP).unwrap_or_default() =>
            {
                *count += recipients;
            }
            _ => self.day.push_back((at, recipients)),
        }
    }

    /// Drops what no longer counts. A clock that was set back far would keep entries for ever: those from the future go as well.
    fn forget(&mut self, now: Timestamp) {
        while self.ended.front().is_some_and(|&at| at + WINDOW <= now) {
            self.ended.pop_front();
        }
        while self.ended.back().is_some_and(|&at| at > now + WINDOW) {
            self.ended.pop_back();
        }
        while let Some(&(since, count)) = self.day.front() {
            // The step's last recipient may be one step younger than its first.
            if since + DAY + STEP > now && since <= now + DAY {
                break;
            }
            self.recipients -= u64::from(count);
            self.day.pop_front();
        }
        let burst = i64::from(self.burst()) * self.step();
        self.arrival = self.arrival.min(now.as_microsecond() + burst);
    }

    fn day_has_room(&self, now: Timestamp, recipients: u32) -> Turn {
        let limit = u64::from(self.limits.recipients_per_day);
        let pending: u64 = self.under_way.values().map(|&count| u64::from(count)).sum();
        let mut taken = self.recipients + pending;
        if taken + u64::from(recipients) <= limit || taken == 0 {
            return Turn::Now;
        }
        for &(since, count) in &self.day {
            taken -= u64::from(count);
            if taken + u64::from(recipients) <= limit || taken == 0 {
                return Turn::At((since + DAY + STEP).max(now));
            }
        }
        Turn::Busy
    }
}

fn micros(since_1970: i64) -> Timestamp {
    Timestamp::from_microsecond(since_1970).unwrap_or(Timestamp::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXCHANGE: Limits = Limits { messages_per_minute: 30, connections: 3, recipients_per_day: 10_000 };

    fn start() -> Timestamp {
        Timestamp::from_second(1_795_000_000).unwrap()
    }

    fn id(n: i64) -> QueueId {
        QueueId::from_number(n)
    }

    /// Sends as fast as it may, `took` each, one after another; when each one left.
    fn send(pace: &mut Pace, count: i64, took: Duration) -> Vec<Timestamp> {
        let mut now = start();
        let mut left = Vec::new();
        for n in 0..count {
            match pace.turn(now, 1, Lane::Normal) {
                Turn::Now => {}
                Turn::At(when) => {
                    assert!(when > now, "a wait that is over is no wait");
                    now = when;
                    assert_eq!(pace.turn(now, 1, Lane::Normal), Turn::Now);
                }
                Turn::Busy => panic!("nothing is under way"),
            }
            left.push(now);
            pace.start(now, id(n), 1);
            now += took;
            pace.finish(id(n), Some((now, 1)));
        }
        left
    }

    #[test]
    fn three_leave_at_once_and_then_one_every_two_seconds() {
        let left = send(&mut Pace::new(EXCHANGE), 6, Duration::ZERO);
        let seconds: Vec<i64> = left.iter().map(|at| at.duration_since(start()).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 0, 2, 4, 6]);
    }

    #[test]
    fn no_minute_ever_holds_more_than_is_allowed() {
        for took in [0, 150, 2_000] {
            let left = send(&mut Pace::new(EXCHANGE), 2_000, Duration::from_millis(took));
            for window in left.windows(31) {
                let span = window[30].duration_since(window[0]);
                assert!(span.as_millis() > 60_000, "31 messages within {span:?}");
            }
        }
    }

    #[test]
    fn nearly_all_of_the_allowance_is_used() {
        let left = send(&mut Pace::new(EXCHANGE), 2_000, Duration::from_millis(200));
        let minutes = left[1_999].duration_since(left[0]).as_secs_f64() / 60.0;
        assert!(2_000.0 / minutes > 30.0 * 0.98, "{}", 2_000.0 / minutes);
    }

    #[test]
    fn as_many_are_under_way_as_there_are_sessions() {
        let mut pace = Pace::new(EXCHANGE);
        for n in 0..3 {
            assert_eq!(pace.turn(start(), 1, Lane::Normal), Turn::Now);
            pace.start(start(), id(n), 1);
        }
        assert_eq!(pace.turn(start(), 1, Lane::Normal), Turn::Busy);
        pace.finish(id(1), None);
        assert!(matches!(pace.turn(start() + Duration::from_secs(10), 1, Lane::Normal), Turn::Now));
    }

    #[test]
    fn a_session_without_a_message_takes_a_place_and_nothing_else() {
        let mut pace = Pace::new(Limits { connections: 1, ..EXCHANGE });
        let account = Address::parse("lms@contoso.com").unwrap();
        pace.visit(&account);
        assert_eq!(pace.turn(start(), 1, Lane::Normal), Turn::Busy);
        assert_eq!((pace.last_minute(start()), pace.is_idle()), (0, false));
        pace.leave(&account);
        pace.leave(&account);
        assert_eq!(pace.turn(start(), 1, Lane::Normal), Turn::Now);
        assert!(pace.is_idle());
    }

    #[test]
    fn the_day_is_a_rolling_one_and_survives_a_restart() {
        let limits = Limits { recipients_per_day: 10, ..EXCHANGE };
        let mut pace = Pace::new(limits);
        pace.start(start(), id(1), 8);
        pace.finish(id(1), Some((start(), 8)));
        let noon = start() + Duration::from_hours(12);
        assert_eq!(pace.turn(noon, 2, Lane::Normal), Turn::Now);
        let Turn::At(when) = pace.turn(noon, 3, Lane::Normal) else { panic!("the day is full") };
        assert_eq!(when, start() + DAY + STEP);

        let mut again = Pace::new(limits);
        let login = crate::message::Address::parse("lms@contoso.com").unwrap();
        again.restore(&[Sent { login, at: start(), recipients: 8 }]);
        assert_eq!(again.turn(noon, 3, Lane::Normal), Turn::At(when));
        assert_eq!(again.turn(when, 3, Lane::Normal), Turn::Now);
    }

    #[test]
    fn a_message_larger_than_the_day_leaves_when_the_day_is_empty() {
        let mut pace = Pace::new(Limits { recipients_per_day: 10, ..EXCHANGE });
        assert_eq!(pace.turn(start(), 50, Lane::Normal), Turn::Now);
        pace.start(start(), id(1), 50);
        pace.finish(id(1), Some((start(), 50)));
        assert!(matches!(pace.turn(start() + Duration::from_mins(2), 1, Lane::Normal), Turn::At(_)));
    }

    #[test]
    fn a_clock_set_back_does_not_stop_the_mail() {
        let mut pace = Pace::new(EXCHANGE);
        for n in 0..30 {
            pace.start(start(), id(n), 1);
            pace.finish(id(n), Some((start(), 1)));
        }
        let yesterday = start() - Duration::from_hours(48);
        assert_eq!(pace.last_minute(yesterday), 0);
        let Turn::At(when) = pace.turn(yesterday, 1, Lane::Normal) else { return };
        assert!(when.duration_since(yesterday).as_secs() <= 6, "{when}");
    }

    #[test]
    fn after_a_crash_the_sessions_that_may_have_sent_are_counted() {
        let mut pace = Pace::new(EXCHANGE);
        pace.assume_unrecorded(start());
        assert_eq!(pace.last_minute(start()), 3);
        assert!(matches!(pace.turn(start(), 1, Lane::Normal), Turn::At(_)));
    }
}
