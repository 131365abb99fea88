//! How a login divides what it may send among the streams that it may carry, as the scheduler does (`fairness`): by lanes, and within a lane
//! so that those who get least get more, counted in recipients and together with what other logins carry of them.
//!
//! So each lane is like vessels of different depth into which water is poured. Logins that share streams pour in turn, each knowing what the
//! others have poured, until nothing moves any more.

use jiff::Timestamp;

use super::ledger::{Ledger, Recipients};
use super::{Flowing, LATELY, NONE, Outlook, from_now};
use crate::message::Lane;

/// Urgent mail takes no more than this part from others: fifteen in a row, then one of them.
const URGENT: f64 = 15.0 / 16.0;
/// Normal mail takes no more than this part from bulk mail.
const NORMAL: f64 = 7.0 / 8.0;
/// The same once bulk mail is old.
const NORMAL_IF_OLD: f64 = 1.0 / 2.0;
/// When what is bulk is old, in minutes.
pub(super) const OLD: f64 = 12.0 * 60.0;

/// A login with what it may carry.
#[derive(Debug)]
pub(super) struct Carrier<'a> {
    outlook: &'a Outlook,
    day: Ledger,
    /// Until when more than usual is kept for urgent mail, in minutes.
    urgent_until: f64,
    /// In the order of [`Lane::ALL`].
    lanes: [Vec<Part>; 3],
    /// Whether the day was what kept the lane from sending more.
    by_day: [bool; 3],
    /// What it sends a minute, as last divided.
    sends: Recipients,
    /// By what it was last divided.
    supply: Supply,
}

/// What it carries of a stream.
#[derive(Debug)]
struct Part {
    stream: usize,
    /// Recipients of a message.
    each: f64,
    /// Messages a minute.
    rate: f64,
    /// The same before it was last divided.
    before: f64,
    /// The same through other logins.
    elsewhere: f64,
    /// The stream may have no more.
    is_full: bool,
}

/// What a login may send a minute.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Supply {
    pub(super) messages: f64,
    /// Of which so many that are not urgent.
    others: f64,
    recipients: Recipients,
}

/// What is there to be taken, or was taken, a minute.
#[derive(Clone, Copy, Debug, Default)]
struct Amount {
    messages: f64,
    recipients: f64,
}

impl Amount {
    fn without(self, other: Self) -> Self {
        Self {
            messages: (self.messages - other.messages).max(0.0),
            recipients: (self.recipients - other.recipients).max(0.0),
        }
    }

    fn times(self, part: f64) -> Self {
        Self { messages: self.messages * part, recipients: self.recipients * part }
    }

    fn is_something(self) -> bool {
        self.messages > NONE && self.recipients > NONE
    }
}

impl<'a> Carrier<'a> {
    pub(super) fn new(outlook: &'a Outlook, now: Timestamp) -> Self {
        Self {
            outlook,
            day: Ledger::new(&outlook.day, now),
            urgent_until: outlook.urgent_until.map_or(0.0, |until| from_now(until, now)),
            lanes: [Vec::new(), Vec::new(), Vec::new()],
            by_day: [false; 3],
            sends: Recipients::default(),
            supply: Supply::default(),
        }
    }

    /// It may carry this stream, too.
    pub(super) fn carry(&mut self, stream: usize, flowing: &Flowing) {
        let part = Part { stream, each: flowing.each, rate: 0.0, before: 0.0, elsewhere: 0.0, is_full: false };
        self.lanes[flowing.lane as usize].push(part);
    }

    pub(super) fn has_mail(&self) -> bool {
        self.parts() > 0
    }

    pub(super) fn parts(&self) -> usize {
        self.lanes.iter().map(Vec::len).sum()
    }

    /// What it may send in a step of so many minutes.
    pub(super) fn supply(&mut self, at: f64, minutes: f64) -> Supply {
        let (messages, others) = self.outlook.rates(at, at < self.urgent_until);
        Supply { messages, others, recipients: self.day.room(at, minutes) }
    }

    /// Whether this much would be divided as before.
    pub(super) fn is_settled(&self, supply: &Supply) -> bool {
        let before = &self.supply;
        let has_room = |used: f64, before: f64, now: f64| {
            let is_limited = self.by_day.contains(&true);
            if is_limited { (before - now).abs() <= before * 0.001 } else { used <= now }
        };
        is_same(before.messages, supply.messages)
            && is_same(before.others, supply.others)
            && has_room(self.sends.all, before.recipients.all, supply.recipients.all)
            && has_room(self.sends.others, before.recipients.others, supply.recipients.others)
    }

    /// Divides it anew, as the others have divided theirs. How much has changed, in messages a minute.
    pub(super) fn divide(&mut self, supply: &Supply, at: f64, streams: &mut [Flowing]) -> f64 {
        self.supply = *supply;
        self.lanes.iter_mut().flatten().for_each(|part| part.before = part.rate);
        let [urgent, normal, bulk] = &mut self.lanes;
        let [urgent_by_day, normal_by_day, bulk_by_day] = &mut self.by_day;
        let all = Amount { messages: supply.messages, recipients: supply.recipients.all };
        let is_alone = normal.is_empty() && bulk.is_empty();
        let first = fill(urgent, streams, all.times(if is_alone { 1.0 } else { URGENT }), urgent_by_day);
        let rest = all.without(first);
        let others = Amount {
            messages: rest.messages.min(supply.others),
            recipients: rest.recipients.min(supply.recipients.others),
        };
        let part = match (bulk.is_empty(), at >= OLD) {
            (true, _) => 1.0,
            (false, true) => NORMAL_IF_OLD,
            (false, false) => NORMAL,
        };
        let mut second = fill(normal, streams, others.times(part), normal_by_day);
        let third = fill(bulk, streams, others.without(second), bulk_by_day);
        // What some may not take for what they share is there for those before them.
        if part < 1.0 && others.without(second).without(third).is_something() {
            second = fill(normal, streams, others.without(third), normal_by_day);
        }
        if !is_alone && rest.without(second).without(third).is_something() {
            fill(urgent, streams, all.without(second).without(third), urgent_by_day);
        }
        self.sends = Recipients::default();
        for (lane, parts) in Lane::ALL.into_iter().zip(&self.lanes) {
            self.sends.add(lane, parts.iter().map(|part| part.rate * part.each).sum());
        }
        self.lanes.iter().flatten().map(|part| (part.rate - part.before).abs()).sum()
    }

    /// The streams that would have been quicker but for the day.
    pub(super) fn held_up_by_day(&self) -> impl Iterator<Item = usize> {
        let lanes = self.lanes.iter().zip(self.by_day).filter(|(_, by_day)| *by_day);
        lanes.flat_map(|(parts, _)| parts.iter().map(|part| part.stream))
    }

    /// So many minutes go by.
    pub(super) fn pass(&mut self, at: f64, minutes: f64) {
        self.day.note(at, minutes, self.sends.times(minutes));
        if self.sends.all > self.sends.others + NONE {
            self.urgent_until = at + minutes + LATELY.as_secs_f64() / 60.0;
        }
    }

    /// What is empty is no longer carried.
    pub(super) fn drop_ended(&mut self, streams: &[Flowing]) {
        for parts in &mut self.lanes {
            parts.retain(|part| streams[part.stream].ended.is_none());
        }
    }
}

/// Pours so much into these parts of streams, the lowest first. What they have taken; `by_day`: whether they would have taken more messages if
/// more recipients had been allowed.
fn fill(parts: &mut [Part], streams: &mut [Flowing], amount: Amount, by_day: &mut bool) -> Amount {
    for part in parts.iter_mut() {
        let stream = &streams[part.stream];
        part.elsewhere = (stream.rate - part.rate).max(0.0);
        part.is_full = false;
    }
    if parts.len() > 1 {
        parts.sort_unstable_by(|a, b| a.reached().total_cmp(&b.reached()));
    }
    let mut left = amount;
    loop {
        let (by_messages, by_recipients) = levels(parts, left);
        *by_day = by_recipients < by_messages;
        let level = by_messages.min(by_recipients);
        let mut overflows = false;
        for part in parts.iter_mut().filter(|part| !part.is_full) {
            part.rate = (level - part.reached()).max(0.0) / part.each;
            let most = (streams[part.stream].most - part.elsewhere).max(0.0);
            if part.rate > most {
                part.rate = most;
                part.is_full = true;
                overflows = true;
                left = left.without(Amount { messages: most, recipients: most * part.each });
            }
        }
        if !overflows {
            break;
        }
    }
    let mut taken = Amount::default();
    for part in parts {
        streams[part.stream].rate = part.elsewhere + part.rate;
        taken.messages += part.rate;
        taken.recipients += part.rate * part.each;
    }
    taken
}

/// How high so many messages would stand, and so many recipients, each for itself. The parts are in order.
fn levels(parts: &[Part], amount: Amount) -> (f64, f64) {
    (level(parts, amount.messages, |part| 1.0 / part.each), level(parts, amount.recipients, |_| 1.0))
}

fn level(parts: &[Part], amount: f64, width: impl Fn(&Part) -> f64) -> f64 {
    let mut open = parts.iter().filter(|part| !part.is_full).peekable();
    let (mut widths, mut below, mut level) = (0.0, 0.0, 0.0);
    while let Some(part) = open.next() {
        let width = width(part);
        widths += width;
        below += width * part.reached();
        level = (amount + below) / widths;
        if open.peek().is_none_or(|next| level <= next.reached()) {
            break;
        }
    }
    level
}

fn is_same(a: f64, b: f64) -> bool {
    (a - b).abs() <= NONE
}

impl Part {
    /// Recipients a minute through other logins.
    fn reached(&self) -> f64 {
        self.elsewhere * self.each
    }
}
