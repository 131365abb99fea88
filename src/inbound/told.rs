//! What was logged lately: a program that fails the same way every minute is worth one line a day.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// After so long the same is said again.
const AGAIN: Duration = Duration::from_hours(24);
/// No more than this is remembered; with so many troubled peers a line said twice is the least of it.
const MOST: usize = 1024;

/// Which trouble was said of whom, and when.
#[derive(Debug, Default)]
pub(super) struct Told {
    said: Mutex<HashMap<(IpAddr, &'static str), Instant>>,
}

impl Told {
    /// Whether this has to be said of this peer now; if so, it counts as said.
    pub(super) fn is_news(&self, peer: IpAddr, what: &'static str) -> bool {
        self.is_news_at(peer, what, Instant::now())
    }

    fn is_news_at(&self, peer: IpAddr, what: &'static str, now: Instant) -> bool {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.get(&(peer, what)).is_some_and(|at| now.duration_since(*at) < AGAIN) {
            return false;
        }
        if said.len() >= MOST {
            said.clear();
        }
        said.insert((peer, what), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_trouble_is_said_once_a_day() {
        let (told, now) = (Told::default(), Instant::now());
        let (peer, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert!(told.is_news_at(peer, "old", now));
        assert!(!told.is_news_at(peer, "old", now + AGAIN / 2));
        assert!(told.is_news_at(peer, "late", now) && told.is_news_at(other, "old", now));
        assert!(told.is_news_at(peer, "old", now + AGAIN));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let told = Told::default();
        for n in 0..10_000_u32 {
            assert!(told.is_news(IpAddr::from(n.to_be_bytes()), "old"));
        }
        assert!(told.said.lock().unwrap().len() <= MOST);
    }
}
