//! Long runs in simulated time, against the bookkeeping of the simulator's Exchange.

use std::collections::{BTreeMap, VecDeque};

use super::*;
use crate::simulator;

const EXCHANGE: Limits = Limits { messages_per_minute: 30, connections: 3, recipients_per_day: 10_000 };

fn start() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

/// Numbers that look random and are the same every time (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }
}

#[derive(Clone, Copy)]
struct Mail {
    arrives: Timestamp,
    recipients: u32,
    lane: Lane,
}

enum Step {
    /// The far side counts the message: at any time between its first and its last octet.
    Count(QueueId, u32),
    End(QueueId, u32),
}

/// One login with its queue, and the mailbox it logs in to.
struct World {
    pace: Pace,
    far: simulator::Limits,
    options: simulator::Options,
    dice: Dice,
    /// How long an attempt takes, in milliseconds: from, to.
    took: (u64, u64),
    now: Timestamp,
    steps: BTreeMap<(Timestamp, u64), Step>,
    planned: u64,
    /// Arrival, departure and lane of what has left.
    left: Vec<(Mail, Timestamp)>,
    ended: Timestamp,
}

impl World {
    fn new(limits: Limits, took: (u64, u64), seed: u64) -> Self {
        let options = simulator::Options {
            messages_per_minute: limits.messages_per_minute,
            connections: limits.connections,
            recipients_per_day: limits.recipients_per_day,
            ..simulator::Options::default()
        };
        Self {
            pace: Pace::new(limits),
            far: simulator::Limits::default(),
            options,
            dice: Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1),
            took,
            now: start(),
            steps: BTreeMap::new(),
            planned: 0,
            left: Vec::new(),
            ended: start(),
        }
    }

    fn plan(&mut self, at: Timestamp, step: Step) {
        self.planned += 1;
        self.steps.insert((at, self.planned), step);
    }

    /// Everything leaves, urgent mail first; the order is otherwise that of `mail`. Nothing the far side says may be a complaint.
    fn run(&mut self, mail: &[Mail]) {
        let (mut urgent, mut others): (VecDeque<Mail>, VecDeque<Mail>) =
            mail.iter().partition(|mail| mail.lane == Lane::Urgent);
        while !(urgent.is_empty() && others.is_empty() && self.steps.is_empty()) {
            let is_here = |mail: &&Mail| mail.arrives <= self.now;
            let first = urgent.front().filter(is_here).or(others.front().filter(is_here)).copied();
            let mut next = self.steps.keys().next().map(|(at, _)| *at);
            let arrivals = urgent.front().into_iter().chain(others.front()).map(|mail| mail.arrives);
            next = next.into_iter().chain(arrivals.filter(|at| *at > self.now)).min();
            if let Some(mail) = first {
                match self.pace.turn(self.now, mail.recipients, mail.lane) {
                    Turn::Now => {
                        if mail.lane == Lane::Urgent { &mut urgent } else { &mut others }.pop_front();
                        self.leave(mail);
                        continue;
                    }
                    Turn::At(when) => {
                        assert!(when > self.now, "a wait that is over is no wait");
                        next = Some(next.map_or(when, |next| next.min(when)));
                    }
                    Turn::Busy => assert!(!self.steps.is_empty(), "busy with nothing"),
                }
            }
            self.now = self.now.max(next.expect("something is under way, or to come"));
            while let Some(entry) = self.steps.first_entry().filter(|entry| entry.key().0 <= self.now) {
                let ((at, _), step) = entry.remove_entry();
                self.happen(at, &step);
            }
        }
    }

    fn leave(&mut self, mail: Mail) {
        let id = QueueId::from_number(i64::try_from(self.left.len()).unwrap());
        let took = self.took.0 + self.dice.below(self.took.1 - self.took.0 + 1);
        let counted = self.dice.below(took + 1);
        assert!(self.far.open(&self.options, id.number().unsigned_abs()), "432: a session too many");
        self.pace.start(self.now, id, mail.recipients, mail.lane);
        self.plan(self.now + Duration::from_millis(counted), Step::Count(id, mail.recipients));
        self.plan(self.now + Duration::from_millis(took), Step::End(id, mail.recipients));
        self.left.push((mail, self.now));
    }

    fn happen(&mut self, at: Timestamp, step: &Step) {
        match *step {
            Step::Count(id, recipients) => {
                let taken = self.far.take(&self.options, id.number().unsigned_abs(), recipients as usize, at);
                assert_eq!(taken, Ok(()), "message {id} at {at}");
            }
            Step::End(id, recipients) => {
                self.far.close(id.number().unsigned_abs());
                self.pace.finish(id, Some((at, recipients)));
                self.ended = at;
            }
        }
    }

    fn waits(&self, lane: Lane) -> impl Iterator<Item = Duration> {
        let of_lane = self.left.iter().filter(move |(mail, _)| mail.lane == lane);
        of_lane.map(|(mail, left)| Duration::try_from(left.duration_since(mail.arrives)).unwrap())
    }
}

fn mail(arrives: Timestamp, lane: Lane) -> Mail {
    Mail { arrives, recipients: 1, lane }
}

#[test]
fn two_thousand_messages_use_the_pace_and_never_meet_a_limit() {
    for took in [(0, 0), (100, 300), (50, 700)] {
        let mut world = World::new(EXCHANGE, took, 1);
        world.run(&vec![mail(start(), Lane::Normal); 2_000]);
        let minutes = world.ended.duration_since(start()).as_secs_f64() / 60.0;
        assert!(2_000.0 / minutes >= 30.0 * 0.98, "{took:?}: {} a minute", 2_000.0 / minutes);
    }
}

#[test]
fn no_limit_is_ever_met_whatever_it_is_and_whatever_comes() {
    let limits = |messages_per_minute, connections, recipients_per_day| Limits {
        messages_per_minute,
        connections,
        recipients_per_day,
    };
    let all = [
        limits(1, 1, 100),
        limits(2, 3, 50),
        limits(3, 1, 1_000),
        limits(6, 2, 90),
        limits(30, 3, 700),
        limits(120, 10, 400),
    ];
    for (seed, limits) in (1..).zip(all.into_iter().cycle().take(24)) {
        let mut dice = Dice(seed * 77 + 1);
        let mut world = World::new(limits, dice.of(&[(0, 400), (100, 9_000), (1_000, 40_000)]), seed);
        let mut at = start();
        let mails = (0..300).map(|_| {
            // Bursts and quiet times.
            at += Duration::from_millis(dice.of(&[0, 40, 3_000, 90_000]));
            let lane = dice.of(&[Lane::Urgent, Lane::Normal, Lane::Normal, Lane::Bulk]);
            Mail { arrives: at, recipients: 1 + u32::try_from(dice.below(4)).unwrap(), lane }
        });
        let mails: Vec<Mail> = mails.collect();
        world.run(&mails);
        assert_eq!(world.left.len(), 300, "seed {seed}");
    }
}

#[test]
fn urgent_mail_leaves_within_two_seconds_with_the_queue_full_even_if_exchange_is_slow() {
    for took in [(100, 300), (1_000, 3_000), (6_000, 12_000)] {
        let mut dice = Dice(7);
        let mut at = start();
        let mut mails = vec![mail(start(), Lane::Bulk); 2_000];
        for _ in 0..80 {
            // Never two at once, at any distance from the last one: the reserve may be at rest.
            at += Duration::from_millis(3_000 + dice.below(90_000));
            mails.push(mail(at, Lane::Urgent));
        }
        let mut world = World::new(EXCHANGE, took, 3);
        world.run(&mails);
        let mut waits: Vec<Duration> = world.waits(Lane::Urgent).collect();
        waits.sort();
        // An urgent message that takes twelve seconds is itself in the way of one that comes three seconds later.
        let late = if took.1 > 3_000 { 4 } else { 0 };
        assert!(waits[79 - late] < Duration::from_secs(2), "{took:?}: {waits:?}");
    }
}

#[test]
fn the_first_urgent_message_after_hours_of_bulk_leaves_within_two_seconds_at_any_instant() {
    for offset in 0..120 {
        let mut world = World::new(EXCHANGE, (100, 900), offset + 1);
        let mut mails = vec![mail(start(), Lane::Bulk); 120];
        mails.push(mail(start() + Duration::from_millis(1_000 + 1_700 * offset), Lane::Urgent));
        world.run(&mails);
        let wait = world.waits(Lane::Urgent).next().unwrap();
        assert!(wait < Duration::from_secs(2), "after {offset}: {wait:?}");
    }
}

/// What the forecast says at the start, and what comes true.
fn forecast(limits: Limits, took: (u64, u64), messages: usize, recipients: u32) -> (Duration, Duration, Bound) {
    let mut world = World::new(limits, took, 5);
    // The pace has to know how long an attempt takes.
    world.run(&[mail(start(), Lane::Normal); 2]);
    world.now += Duration::from_mins(2);
    let begins = world.now;
    let load = Load { messages: messages as u64, recipients: messages as u64 * u64::from(recipients) };
    let told = world.pace.outlook(begins).empty(load, begins).unwrap();
    world.run(&vec![Mail { arrives: begins, recipients, lane: Lane::Normal }; messages]);
    let span = |at: Timestamp| Duration::try_from(at.duration_since(begins)).unwrap();
    (span(told.empty_at), span(world.ended), told.bound)
}

#[test]
fn a_forecast_comes_true() {
    let small = Limits { recipients_per_day: 300, ..EXCHANGE };
    for (limits, took, messages, recipients, bound) in [
        (EXCHANGE, (200, 200), 40, 1, Bound::Rate),
        (EXCHANGE, (100, 300), 1_000, 1, Bound::Rate),
        (EXCHANGE, (15_000, 25_000), 600, 1, Bound::Rate),
        (Limits { messages_per_minute: 3, connections: 1, ..EXCHANGE }, (500, 500), 200, 1, Bound::Rate),
        (small, (100, 300), 1_400, 1, Bound::Day),
        (small, (100, 300), 100, 12, Bound::Day),
        (small, (100, 300), 3_000, 1, Bound::Day),
    ] {
        let (told, true_, limited) = forecast(limits, took, messages, recipients);
        let off = told.abs_diff(true_).as_secs_f64() / true_.as_secs_f64();
        assert!(off < 0.1, "{messages} messages of {recipients}: {told:?} told, {true_:?} came true");
        assert_eq!(limited, bound, "{messages} messages of {recipients}");
    }
    let (told, true_, _) = forecast(EXCHANGE, (200, 200), 3, 1);
    assert!(told.abs_diff(true_) < Duration::from_secs(5), "{told:?} told, {true_:?} came true");
}

#[test]
fn a_forecast_knows_that_a_slowdown_passes_and_that_nothing_waits() {
    let mut pace = Pace::new(EXCHANGE);
    let load = Load { messages: 300, recipients: 300 };
    let empty = |pace: &mut Pace| pace.outlook(start()).empty(load, start()).unwrap().empty_at.duration_since(start());
    let full = empty(&mut pace);
    pace.throttled(start(), Throttle::Rate, "421 4.4.2 rate");
    pace.throttled(start() + Duration::from_secs(31), Throttle::Rate, "421 4.4.2 rate");
    let slowed = empty(&mut pace);
    assert!(slowed > full + jiff::SignedDuration::from_mins(2) && slowed < full * 2, "{full} and {slowed}");
    assert_eq!(pace.outlook(start()).empty(Load::default(), start()), None);
}
