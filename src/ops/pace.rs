//! What the accounts have used of their limits.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Account;
use crate::schedule::{Standing, Throttle};

/// From this percentage of a day's recipients on there is a warning.
pub(super) const WARNING: u64 = 80;

/// What an account has used of its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PaceView {
    /// Attempts under way.
    pub under_way: usize,
    /// Sessions at most.
    pub connections: u32,
    /// Messages in the last minute.
    pub last_minute: usize,
    /// Messages a minute at most.
    pub messages_per_minute: u32,
    /// Recipients in the last 24 hours.
    pub last_day: u64,
    /// Recipients in 24 hours at most.
    pub recipients_per_day: u32,
    /// Limits that are lower for a while, because the far side said that it has too much.
    #[serde(default)]
    pub slowed: Vec<SlowdownView>,
}

/// A limit that is lower for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlowdownView {
    /// `messages_per_minute` or `connections`.
    pub what: String,
    /// What is allowed now.
    pub level: u32,
    /// Since when it is less than configured.
    pub since: Timestamp,
    /// What the far side said, word for word.
    pub said: String,
}

impl PaceView {
    pub(super) fn of(account: &Account, standing: Option<&Standing>) -> Self {
        let slowdowns = standing.map(|standing| standing.slowdowns.as_slice()).unwrap_or_default();
        let slowed = slowdowns.iter().map(|(throttle, slowdown)| SlowdownView {
            what: match throttle {
                Throttle::Rate => "messages_per_minute".to_owned(),
                Throttle::Sessions => "connections".to_owned(),
            },
            level: slowdown.level,
            since: slowdown.since,
            said: slowdown.said.clone(),
        });
        Self {
            under_way: standing.map_or(0, |standing| standing.under_way),
            connections: account.connections,
            last_minute: standing.map_or(0, |standing| standing.last_minute),
            messages_per_minute: account.messages_per_minute,
            last_day: standing.map_or(0, |standing| standing.last_day),
            recipients_per_day: account.recipients_per_day,
            slowed: slowed.collect(),
        }
    }

    /// Whether so much of the day's recipients is used that somebody should know.
    pub fn is_day_nearly_used(&self) -> bool {
        self.last_day * 100 >= u64::from(self.recipients_per_day) * WARNING
    }

    /// How much of the day is used, and what happens next, as one sentence.
    pub fn day_in_words(&self) -> String {
        let limit = u64::from(self.recipients_per_day);
        let (used, others) = (grouped(self.last_day), grouped(limit - limit / 10));
        let percent = self.last_day * 100 / limit.max(1);
        let limit = grouped(limit);
        format!(
            "{used} of {limit} recipients of the last 24 hours are used ({percent} %); from {others} on only urgent mail leaves, from \
             {limit} on none, until older ones are a day old"
        )
    }
}

/// `10,000`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_begins_at_four_fifths_of_the_day_and_says_what_comes_next() {
        let pace = |last_day| PaceView { last_day, recipients_per_day: 10_000, ..PaceView::default() };
        assert!(!pace(7_999).is_day_nearly_used());
        assert!(pace(8_000).is_day_nearly_used());
        assert_eq!(
            pace(8_123).day_in_words(),
            "8,123 of 10,000 recipients of the last 24 hours are used (81 %); from 9,000 on only urgent mail leaves, from 10,000 on none, \
             until older ones are a day old"
        );
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
