//! What is remembered of an app's mail of the last minutes: how many got mail of one shape, and how mail comes that comes in a run. Bounded,
//! and a function of what was seen and when; a restart forgets it.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

/// So many recipients of one shape within [`BURST_WINDOW`] are a burst.
pub(super) const BURST: usize = 30;
/// How far back a burst reaches.
pub(super) const BURST_WINDOW: Duration = Duration::from_mins(5);
/// Shapes that are remembered of an app.
const MOST_SHAPES: usize = 256;
/// So many mails within [`RUN_WINDOW`] are a run.
const RUN: usize = 20;
/// How far back a run reaches.
const RUN_WINDOW: Duration = Duration::from_mins(1);
/// A shape that so many had lately is none of which somebody waits for the only one.
const RARE: usize = 2;

/// How a mail came, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coming {
    /// What it looks like once digits and names are folded; `None`: it has no shape worth counting.
    pub(super) shape: Option<u64>,
    /// Its recipients.
    pub(super) recipients: u64,
    /// Whether it is the first one on its connection; `None`: there was no connection.
    pub(super) first: Option<bool>,
    /// How the program called itself.
    pub(super) helo: u64,
}

/// What the memory says of a mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// It is one of many of its shape.
    pub(super) in_burst: bool,
    /// It came by itself while others come in a run.
    pub(super) alone: bool,
}

/// One app's mail.
#[derive(Debug, Default)]
pub(super) struct Memory {
    shapes: HashMap<u64, Shape>,
    /// The last ones, the oldest first.
    run: VecDeque<(Timestamp, Coming)>,
}

/// Who got mail of one shape, the oldest first; no more than it takes to be a burst.
#[derive(Debug, Default)]
struct Shape {
    recipients: VecDeque<(Timestamp, u64)>,
}

impl Memory {
    /// Takes note of a mail.
    pub(super) fn see(&mut self, coming: Coming, now: Timestamp) -> Seen {
        let alike = coming.shape.map_or(0, |shape| self.count(shape, coming.recipients, now));
        let alone = coming.first == Some(true) && alike <= RARE && self.is_apart(coming, now);
        if self.run.len() == RUN {
            self.run.pop_front();
        }
        self.run.push_back((now, coming));
        Seen { in_burst: alike >= BURST, alone }
    }

    /// How many had mail of this shape lately, these included.
    fn count(&mut self, shape: u64, recipients: u64, now: Timestamp) -> usize {
        if !self.shapes.contains_key(&shape) && self.shapes.len() >= MOST_SHAPES {
            let last = |shape: &Shape| shape.recipients.back().map(|&(at, _)| at);
            let oldest = self.shapes.iter().min_by_key(|&(key, shape)| (last(shape), *key)).map(|(key, _)| *key);
            oldest.map(|oldest| self.shapes.remove(&oldest));
        }
        let of_shape = &mut self.shapes.entry(shape).or_default().recipients;
        of_shape.retain(|&(at, other)| is_within(at, now, BURST_WINDOW) && other != recipients);
        if of_shape.len() == BURST {
            of_shape.pop_front();
        }
        of_shape.push_back((now, recipients));
        of_shape.len()
    }

    /// Whether mail comes in a run, and this one otherwise: the run has connections that bring many, or calls itself by another name.
    fn is_apart(&self, coming: Coming, now: Timestamp) -> bool {
        let is_run = self.run.len() == RUN && self.run.iter().all(|&(at, _)| is_within(at, now, RUN_WINDOW));
        let kept = self.run.iter().filter(|(_, other)| other.first == Some(false)).count() >= RUN / 2;
        is_run && (kept || self.run.iter().all(|(_, other)| other.helo != coming.helo))
    }
}

/// A clock that is set back or forth makes nothing look recent for longer than it is.
fn is_within(at: Timestamp, now: Timestamp, window: Duration) -> bool {
    now.duration_since(at).unsigned_abs() <= window
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn at(millis: u64) -> Timestamp {
        start() + Duration::from_millis(millis)
    }

    fn mail(shape: u64, recipients: u64) -> Coming {
        Coming { shape: Some(shape), recipients, first: Some(true), helo: 1 }
    }

    #[test]
    fn many_recipients_of_one_shape_within_minutes_are_a_burst_as_long_as_it_lasts() {
        let mut memory = Memory::default();
        let seen: Vec<bool> = (0..100).map(|n| memory.see(mail(1, n), at(n * 1000)).in_burst).collect();
        assert_eq!(seen.iter().position(|&seen| seen), Some(BURST - 1));
        assert!(seen[BURST - 1..].iter().all(|&seen| seen));
        assert!(!memory.see(mail(2, 7), at(100_000)).in_burst, "another shape");
        assert!(!memory.see(mail(1, 1000), at(1_000_000)).in_burst, "the burst is over");
        assert!(
            !memory.see(mail(1, 1001), start() - Duration::from_hours(2)).in_burst,
            "nor does a clock that was set back bring it back"
        );
    }

    #[test]
    fn many_mails_to_one_and_mails_over_hours_are_no_burst() {
        let mut memory = Memory::default();
        assert!(!(0..1000).any(|n| memory.see(mail(1, 7), at(n)).in_burst));
        assert!(!(0..1000).any(|n| memory.see(mail(2, n), at(n * 60_000)).in_burst));
    }

    #[test]
    fn of_many_shapes_the_ones_that_were_seen_last_are_remembered() {
        let mut memory = Memory::default();
        for n in 0..10_000 {
            memory.see(mail(n, n), at(n));
        }
        assert_eq!(memory.shapes.len(), MOST_SHAPES);
        assert!(memory.shapes.contains_key(&9_999) && !memory.shapes.contains_key(&0));
        for n in 0..10_000 {
            memory.see(mail(1, n), at(20_000));
        }
        assert!(memory.shapes[&1].recipients.len() == BURST && memory.run.len() == RUN);
    }

    #[test]
    fn a_mail_by_itself_is_seen_beside_a_run_over_a_kept_connection() {
        let mut memory = Memory::default();
        for n in 0..50 {
            let coming = Coming { first: Some(n == 0), ..mail(1, n) };
            assert!(!memory.see(coming, at(n * 100)).alone);
        }
        assert!(memory.see(mail(2, 1000), at(5_000)).alone);
        assert!(!memory.see(Coming { first: Some(false), ..mail(3, 1000) }, at(5_000)).alone);
        assert!(!memory.see(Coming { first: None, ..mail(4, 1000) }, at(5_000)).alone);
        assert!(!memory.see(mail(1, 1000), at(5_000)).alone, "one of those that come in the run");
        assert!(!memory.see(mail(5, 1000), at(500_000)).alone, "the run is over");
    }

    #[test]
    fn beside_a_run_of_many_connections_only_another_name_tells() {
        let mut memory = Memory::default();
        for n in 0..50 {
            assert!(!memory.see(mail(n, n), at(n * 100)).alone);
        }
        assert!(!memory.see(mail(100, 100), at(5_000)).alone);
        assert!(memory.see(Coming { helo: 2, ..mail(101, 100) }, at(5_000)).alone);
    }
}
