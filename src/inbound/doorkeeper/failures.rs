//! Wrong passwords, counted by address and by name: how slowly the next answer comes, and when the log hears of it. Pure: time is an
//! argument.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// No answer waits longer: programs give up after 20 to 60 s.
const LONGEST_DELAY: Duration = Duration::from_secs(15);
/// Who has failed no more for so long is forgotten.
const MEMORY: Duration = Duration::from_mins(15);
/// How often the log hears of one address.
const QUIET: Duration = Duration::from_mins(1);
/// How many addresses, and how many names, are remembered: about half a megabyte in all.
const MOST: usize = 4096;

/// Who has failed how often.
#[derive(Debug)]
pub(super) struct Failures {
    first_delay: Duration,
    peers: Counts<IpAddr>,
    /// By their hashes: names are as long as a stranger likes, and some are passwords in the wrong place.
    names: Counts<u64>,
    hasher: RandomState,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// How long after the attempt it is answered.
    pub(super) delay: Duration,
    /// The log should hear of it: of so many failures of this address since it last did.
    pub(super) told: Option<u32>,
}

impl Failures {
    /// None yet. The first failure is answered after `first_delay`, each further one after twice as long.
    pub(super) fn new(first_delay: Duration) -> Self {
        Self { first_delay, peers: Counts::default(), names: Counts::default(), hasher: RandomState::new() }
    }

    /// How many addresses are remembered.
    #[cfg(test)]
    pub(super) fn peers(&self) -> usize {
        self.peers.0.len()
    }

    /// Counts one more.
    pub(super) fn note(&mut self, peer: IpAddr, name: &str, now: Instant) -> Failure {
        let name = self.hasher.hash_one(name.trim().to_ascii_lowercase());
        let of_name = self.names.note(name, now).failures;
        let of_peer = self.peers.note(site(peer), now);
        let failures = of_peer.failures.max(of_name);
        let doubled = self.first_delay.saturating_mul(1 << failures.saturating_sub(1).min(20));
        Failure { delay: doubled.min(LONGEST_DELAY), told: of_peer.tell(now) }
    }
}

/// An IPv6 site has a whole /64 of addresses to try from.
fn site(peer: IpAddr) -> IpAddr {
    match peer {
        IpAddr::V4(_) => peer,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

/// Counts by key, bounded.
#[derive(Debug)]
struct Counts<K>(HashMap<K, Count>);

#[derive(Clone, Copy, Debug)]
struct Count {
    failures: u32,
    last: Instant,
    told_at: Option<Instant>,
    untold: u32,
}

impl Count {
    /// Whether the log should hear of it, and of how many.
    fn tell(&mut self, now: Instant) -> Option<u32> {
        self.untold += 1;
        if self.told_at.is_some_and(|told_at| now.saturating_duration_since(told_at) < QUIET) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

impl<K> Default for Counts<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Copy + Eq + Hash> Counts<K> {
    /// One more failure of this key.
    fn note(&mut self, key: K, now: Instant) -> &mut Count {
        let is_old = |count: &Count| now.saturating_duration_since(count.last) >= MEMORY;
        if self.0.get(&key).is_none_or(is_old) {
            self.0.remove(&key);
            self.make_room(now);
        }
        let new = Count { failures: 0, last: now, told_at: None, untold: 0 };
        let count = self.0.entry(key).or_insert(new);
        count.failures = count.failures.saturating_add(1);
        count.last = now;
        count
    }

    /// Forgets who has failed no more for long, or else the one for whom that is longest ago.
    fn make_room(&mut self, now: Instant) {
        if self.0.len() < MOST {
            return;
        }
        self.0.retain(|_, count| now.saturating_duration_since(count.last) < MEMORY);
        if self.0.len() >= MOST
            && let Some(oldest) = self.0.iter().min_by_key(|(_, count)| count.last).map(|(key, _)| *key)
        {
            self.0.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures() -> (Failures, Instant) {
        (Failures::new(Duration::from_secs(1)), Instant::now())
    }

    fn peer(n: u32) -> IpAddr {
        IpAddr::from((0x0a00_0000 + n).to_be_bytes())
    }

    fn seconds(failure: Failure) -> u64 {
        failure.delay.as_secs()
    }

    #[test]
    fn answers_come_more_slowly_up_to_a_limit() {
        let (mut failures, now) = failures();
        let delays: Vec<_> = (0..40).map(|_| seconds(failures.note(peer(1), "moodle", now))).collect();
        assert_eq!(delays[..6], [1, 2, 4, 8, 15, 15]);
        assert!(delays[6..].iter().all(|&delay| delay == 15));
    }

    #[test]
    fn an_address_that_tries_many_names_and_a_name_that_many_try_are_both_slowed() {
        let (mut failures, now) = failures();
        let delays: Vec<_> = (0..4).map(|n| seconds(failures.note(peer(1), &format!("name{n}"), now))).collect();
        assert_eq!(delays, [1, 2, 4, 8]);
        let delays: Vec<_> = (10..14).map(|n| seconds(failures.note(peer(n), "Moodle", now))).collect();
        assert_eq!(delays, [1, 2, 4, 8]);
        assert_eq!(seconds(failures.note(peer(20), " MOODLE", now)), 15, "however it is written");
        assert_eq!(seconds(failures.note(peer(21), "other", now)), 1, "others are unharmed");
    }

    #[test]
    fn a_site_of_ipv6_counts_as_one_address() {
        let (mut failures, now) = failures();
        failures.note("2001:db8::1".parse().unwrap(), "a", now);
        assert_eq!(seconds(failures.note("2001:db8::ffff:1".parse().unwrap(), "b", now)), 2);
        assert_eq!(seconds(failures.note("2001:db8:0:1::1".parse().unwrap(), "c", now)), 1);
    }

    #[test]
    fn failures_are_forgotten() {
        let (mut failures, now) = failures();
        for _ in 0..10 {
            failures.note(peer(1), "moodle", now);
        }
        assert_eq!(seconds(failures.note(peer(1), "moodle", now + MEMORY / 2)), 15);
        assert_eq!(seconds(failures.note(peer(1), "moodle", now + 3 * MEMORY)), 1);
    }

    #[test]
    fn the_log_hears_of_an_address_once_a_minute_and_how_often_it_was() {
        let (mut failures, now) = failures();
        let told: Vec<_> =
            (0..200).filter_map(|s| failures.note(peer(1), "a", now + Duration::from_secs(s)).told).collect();
        assert_eq!(told, [1, 60, 60, 60]);
        assert_eq!(failures.note(peer(2), "a", now).told, Some(1), "another address is told of at once");
    }

    #[test]
    fn memory_is_bounded_and_keeps_those_who_go_on() {
        let (mut failures, now) = failures();
        for n in 0..20_000_u32 {
            let now = now + Duration::from_millis(n.into());
            failures.note(peer(n), &format!("name{n}"), now);
            failures.note(peer(1_000_000), "always", now);
        }
        assert!(failures.peers.0.len() <= MOST && failures.names.0.len() <= MOST);
        assert_eq!(seconds(failures.note(peer(1_000_000), "x", now)), 15);
        failures.note(peer(0), "x", now + 2 * MEMORY);
        assert_eq!(failures.peers.0.len(), 1, "what is old goes all at once");
    }
}
