//! When queues will be empty, if nothing more comes. Pure: from what waits, who may carry it, the limits, and what was used of the day.
//!
//! Mail is a fluid here, in streams: what waits of one flow of one queue. From one step in time to the next every login divides what it may
//! send among the streams that it may carry (`share`), and each stream takes from all of its logins. A step ends early when a stream does.
//! Steps are a minute at first, and longer the further they look, but never more than a hundredth of the way. After two weeks it is the
//! same every day.

mod ledger;
mod share;
mod shared;

use std::time::Duration;

use jiff::Timestamp;

use self::share::{Carrier, Supply};
use self::shared::Sharing;
use super::day::{Allowed, Used};
use super::slowdown::Gauge;
use super::{LATELY, Limits, WINDOW, reserve};
use crate::message::Lane;

pub use self::shared::Shared;

/// Looked at step by step, in minutes; further on it is the same every day.
const CLOSELY: f64 = 14.0 * DAY;
/// In minutes, as long as a recipient counts.
const DAY: f64 = 24.0 * 60.0 + 1.0;
/// The longest step within that, in minutes: half an hour, and so that what is sent in one step makes room in one, a day later.
const STEP: f64 = DAY / 48.0;
/// Nobody plans further ahead: ten years, in minutes.
const FAR: f64 = 10.0 * 365.0 * 24.0 * 60.0;
/// Of a message: less is none.
const NONE: f64 = 1e-6;
/// Rounds in which logins that share streams come to terms; the next step goes on where the last one ended.
const ROUNDS: usize = 4;
/// They have, when no more than this part is still divided otherwise.
const CLOSE: f64 = 0.002;

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
    /// Until when more than usual is kept for urgent mail.
    pub(super) urgent_until: Option<Timestamp>,
    pub(super) day: DayOutlook,
}

/// What will be left of a number of recipients in 24 hours.
#[derive(Clone, Debug)]
pub struct DayOutlook {
    pub(super) allowed: Allowed,
    /// What counts, and when each no longer does.
    pub(super) ends: Vec<(Timestamp, Used)>,
}

/// What waits of one flow of one queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its lane.
    pub lane: Lane,
    /// How much it is.
    pub load: Load,
    /// The logins that may carry it now, by their places among the outlooks; none twice.
    pub logins: Vec<usize>,
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
    /// What a tenant may send to the outside in a day.
    Budget,
}

/// When a queue will be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// When, about.
    pub empty_at: Timestamp,
    /// What it depends on.
    pub bound: Bound,
}

/// When each of the streams will have left, in their order. `None`: nothing waits, or nobody carries it.
pub fn forecasts(
    outlooks: &[&Outlook],
    streams: &[Stream],
    shared: &[Shared],
    now: Timestamp,
) -> Vec<Option<Forecast>> {
    let mut run = Run::new(outlooks, streams, shared, now);
    while run.at < FAR && run.step() {}
    let forecast = |stream: &Flowing| {
        let minutes = if stream.left > NONE { Some(FAR) } else { stream.ended };
        minutes.map(|minutes| Forecast { empty_at: now + span(minutes), bound: stream.bound })
    };
    let is_carried = |stream: &Stream| !stream.logins.is_empty() && stream.load.messages > 0;
    let both = run.streams.iter().zip(streams);
    both.map(|(flowing, stream)| forecast(flowing).filter(|_| is_carried(stream))).collect()
}

/// A stream while it flows.
#[derive(Debug)]
struct Flowing {
    lane: Lane,
    /// Messages that are left.
    left: f64,
    /// Recipients of a message.
    each: f64,
    /// Messages a minute that leave, through all logins together.
    rate: f64,
    /// The most that may, for what the stream shares with others.
    most: f64,
    /// It is recipients of a day that it shares.
    is_most_of_day: bool,
    /// It would have taken more.
    is_hungry: bool,
    bound: Bound,
    /// After how many minutes it was empty.
    ended: Option<f64>,
}

/// How far it has come.
struct Run<'a> {
    /// Minutes from now.
    at: f64,
    carriers: Vec<Carrier<'a>>,
    streams: Vec<Flowing>,
    shared: Vec<Sharing<'a>>,
    /// Nothing is to be divided anew as long as there is as much as before.
    is_settled: bool,
}

impl<'a> Run<'a> {
    fn new(outlooks: &[&'a Outlook], streams: &[Stream], shared: &'a [Shared], now: Timestamp) -> Self {
        let flowing: Vec<Flowing> = streams.iter().map(Flowing::new).collect();
        let mut carriers: Vec<Carrier<'a>> = outlooks.iter().map(|&outlook| Carrier::new(outlook, now)).collect();
        for (n, stream) in streams.iter().enumerate().filter(|(_, stream)| stream.load.messages > 0) {
            for &login in &stream.logins {
                carriers[login].carry(n, &flowing[n]);
            }
        }
        // Who has the least choice goes first: so they come to terms soonest.
        carriers.retain(Carrier::has_mail);
        carriers.sort_by_key(Carrier::parts);
        let shared = shared.iter().map(|shared| Sharing::new(shared, now)).collect();
        Self { at: 0.0, carriers, streams: flowing, shared, is_settled: false }
    }

    /// Goes on until a stream is empty, or for a while. Whether there is anything left to do.
    fn step(&mut self) -> bool {
        let planned = planned(self.at);
        let supplies: Vec<Supply> = self.carriers.iter_mut().map(|carrier| carrier.supply(self.at, planned)).collect();
        let mut both = self.carriers.iter().zip(&supplies);
        self.is_settled &= both.all(|(carrier, supply)| carrier.is_settled(supply));
        self.is_settled &= !self.shared.iter().any(Sharing::changes);
        if !self.is_settled {
            self.shared.iter_mut().for_each(|sharing| sharing.plan(self.at, planned));
            self.divide(&supplies);
        }
        let ends = self.streams.iter().filter(|stream| stream.rate > NONE).map(|stream| stream.left / stream.rate);
        let lasts = ends.fold(planned, f64::min);
        if !lasts.is_finite() {
            return false;
        }
        self.pass(lasts, lasts >= planned || self.at >= CLOSELY);
        !self.carriers.is_empty()
    }

    /// Every login divides what it has.
    fn divide(&mut self, supplies: &[Supply]) {
        let all: f64 = supplies.iter().map(|supply| supply.messages).sum();
        for _ in 0..ROUNDS {
            self.cap();
            let both = self.carriers.iter_mut().zip(supplies);
            let moved: f64 = both.map(|(carrier, supply)| carrier.divide(supply, self.at, &mut self.streams)).sum();
            self.is_settled = moved <= all * CLOSE;
            if self.is_settled {
                break;
            }
        }
    }

    /// What streams may have at most for what they share.
    fn cap(&mut self) {
        if self.shared.is_empty() {
            return;
        }
        for stream in &mut self.streams {
            stream.is_hungry = stream.has_all_it_may();
            stream.most = f64::INFINITY;
        }
        self.shared.iter().for_each(|sharing| sharing.cap(&mut self.streams));
    }

    /// So many minutes go by. `is_whole`: so many as the day was divided by, so that what it allowed is used up if it was the limit.
    fn pass(&mut self, minutes: f64, is_whole: bool) {
        for carrier in &mut self.carriers {
            carrier.pass(self.at, minutes);
            if is_whole {
                carrier.held_up_by_day().for_each(|n| self.streams[n].bound = Bound::Day);
            }
        }
        for sharing in &mut self.shared {
            sharing.pass(self.at, minutes, is_whole, &mut self.streams);
        }
        // Then bulk mail is old, and lanes are divided otherwise.
        self.is_settled &= !(self.at..self.at + minutes).contains(&share::OLD);
        self.at += minutes;
        let mut has_ended = false;
        for stream in self.streams.iter_mut().filter(|stream| stream.rate > 0.0) {
            stream.left -= stream.rate * minutes;
            if stream.left <= NONE {
                (stream.left, stream.rate, stream.ended) = (0.0, 0.0, Some(self.at));
                has_ended = true;
            }
        }
        if has_ended {
            self.is_settled = false;
            self.carriers.iter_mut().for_each(|carrier| carrier.drop_ended(&self.streams));
            self.carriers.retain(Carrier::has_mail);
        }
    }
}

impl Flowing {
    fn new(stream: &Stream) -> Self {
        let Load { messages, recipients } = stream.load;
        let left = number(messages);
        Self {
            lane: stream.lane,
            left,
            each: number(recipients).max(left) / left.max(1.0),
            rate: 0.0,
            most: f64::INFINITY,
            is_most_of_day: false,
            is_hungry: false,
            bound: Bound::Rate,
            ended: None,
        }
    }

    /// Whether what it shares with others is what keeps it from leaving faster, as far as is known: at first it is taken to be.
    fn has_all_it_may(&self) -> bool {
        self.rate >= self.most * 0.999 || (self.most.is_infinite() && self.rate <= NONE)
    }
}

impl Outlook {
    /// Messages in a minute from so many minutes on: of urgent mail and others, and of others alone. A message counts for the window and for
    /// as long as it takes, and a session carries one at a time.
    fn rates(&self, at: f64, is_urgent_about: bool) -> (f64, f64) {
        let minute = u32::try_from(span(at).as_secs() / 60).unwrap_or(u32::MAX);
        let Limits { messages_per_minute, connections, .. } = self.limits;
        let messages = self.rate.after(minute, messages_per_minute, reserve(messages_per_minute));
        let sessions = self.sessions.after(minute, connections, 1);
        let took = self.took.as_secs_f64().clamp(0.001, 3_600.0);
        let window = WINDOW.as_secs_f64() + took;
        let a_minute = |messages: u32, sessions: u32| {
            (f64::from(messages) * 60.0 / window).min(f64::from(sessions) * 60.0 / took).max(0.001)
        };
        // What leaves at once leaves in the first minute.
        let at_once = if at < 1.0 { f64::from(self.at_once) } else { 0.0 };
        let all = a_minute(messages, sessions) + at_once;
        if !is_urgent_about {
            return (all, all);
        }
        (all, a_minute(messages - reserve(messages), sessions.saturating_sub(1).max(1)) + at_once)
    }
}

/// How long the next step is to be.
fn planned(at: f64) -> f64 {
    if at >= CLOSELY { f64::INFINITY } else { (at / 100.0).clamp(1.0, STEP) }
}

/// Far more than anybody has waiting is as much as that.
fn number(of: u64) -> f64 {
    u32::try_from(of).unwrap_or(u32::MAX).into()
}

fn span(minutes: f64) -> Duration {
    Duration::try_from_secs_f64(minutes.clamp(0.0, FAR) * 60.0).unwrap_or_default()
}

/// In minutes.
fn from_now(at: Timestamp, now: Timestamp) -> f64 {
    at.duration_since(now).as_secs_f64() / 60.0
}

#[cfg(test)]
mod tests;
