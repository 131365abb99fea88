//! What the accounts have used of their limits, and when their queues will be empty.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::status::QueueCounts;
use crate::config::Account;
use crate::message::Address;
use crate::schedule::pace::{Bound, Forecast, Load};
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

/// When a queue will be empty, if nothing more comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastView {
    /// When, about.
    pub empty_at: Timestamp,
    /// What it depends on most: `rate` (messages a minute, sessions), `day` (recipients a day) or `retry` (a message waits for its next
    /// try).
    pub limited_by: String,
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

/// When the queues will be empty, by account. Accounts that are held or pause have no forecast, nor has an empty queue.
pub(super) fn forecasts(
    accounts: &[Arc<Account>],
    counts: &HashMap<Address, QueueCounts>,
    standings: &HashMap<Address, Standing>,
    now: Timestamp,
) -> HashMap<Address, ForecastView> {
    let standing = |account: &Account| {
        standings.get(&account.mailbox).filter(|standing| standing.hold.is_none() && standing.pause.is_none())
    };
    let moving: Vec<(&Account, &Standing, &QueueCounts)> = accounts
        .iter()
        .filter_map(|account| Some((&**account, standing(account)?, counts.get(&account.mailbox)?)))
        .collect();
    let forecast = |&(account, standing, queue): &(&Account, &Standing, &QueueCounts)| {
        // Accounts of one login take turns: until this queue is empty, as many of each of the others leave.
        let of_login = moving.iter().filter(|(other, ..)| other.login == account.login);
        let load = of_login.map(|(.., other)| share(other, queue.waiting)).fold(Load::default(), and);
        let forecast = standing.outlook.as_ref()?.empty(load, now).filter(|_| queue.waiting > 0)?;
        Some((account.mailbox.clone(), view(forecast, queue.last_due)))
    };
    moving.iter().filter_map(forecast).collect()
}

/// So many messages at most of a queue.
fn share(queue: &QueueCounts, messages: u64) -> Load {
    let messages = messages.min(queue.waiting);
    Load { messages, recipients: queue.recipients.saturating_mul(messages) / queue.waiting.max(1) }
}

fn and(a: Load, b: Load) -> Load {
    Load { messages: a.messages + b.messages, recipients: a.recipients + b.recipients }
}

fn view(forecast: Forecast, last_due: Option<Timestamp>) -> ForecastView {
    match last_due.filter(|&due| due > forecast.empty_at) {
        Some(due) => ForecastView { empty_at: due, limited_by: "retry".to_owned() },
        None => ForecastView {
            empty_at: forecast.empty_at,
            limited_by: match forecast.bound {
                Bound::Rate => "rate".to_owned(),
                Bound::Day => "day".to_owned(),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing;
    use crate::schedule::pace::{Limits, Pace};
    use crate::store::{Hold, HoldCause};

    const LIMITS: Limits = Limits { messages_per_minute: 30, connections: 3, recipients_per_day: 10_000 };

    fn now() -> Timestamp {
        Timestamp::from_second(1_795_000_000).unwrap()
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn standing(account: &str) -> Standing {
        Standing {
            account: address(account),
            hold: None,
            pause: None,
            under_way: 0,
            last_minute: 0,
            last_day: 0,
            slowdowns: Vec::new(),
            outlook: Some(Pace::new(LIMITS).outlook(now())),
            allowance: None,
            prove_at: now(),
            unproven: None,
        }
    }

    /// Minutes until the queues of accounts, each with its login, its messages and its standing, are empty.
    fn minutes(queues: Vec<(&str, &str, u64, Standing)>) -> Vec<Option<i64>> {
        let accounts: Vec<_> =
            queues.iter().map(|(mailbox, login, ..)| Arc::new(testing::account(mailbox, login))).collect();
        let names: Vec<Address> = queues.iter().map(|(mailbox, ..)| address(mailbox)).collect();
        let queue =
            |waiting| QueueCounts { waiting, recipients: waiting, last_due: Some(now()), ..QueueCounts::default() };
        let counts = queues.iter().map(|(mailbox, _, waiting, _)| (address(mailbox), queue(*waiting))).collect();
        let standings = queues.into_iter().map(|(mailbox, .., standing)| (address(mailbox), standing)).collect();
        let forecasts = forecasts(&accounts, &counts, &standings, now());
        let minutes = |at: Timestamp| at.duration_since(now()).as_secs() / 60;
        names.iter().map(|name| forecasts.get(name).map(|forecast| minutes(forecast.empty_at))).collect()
    }

    #[test]
    fn accounts_that_share_a_login_take_turns_and_others_do_not_wait_for_each_other() {
        let (a, b, c) = ("a@contoso.com", "b@contoso.com", "c@contoso.com");
        let told = minutes(vec![(a, a, 300, standing(a)), (b, a, 30, standing(b)), (c, c, 300, standing(c))]);
        assert_eq!(told, [Some(11), Some(1), Some(10)]);
    }

    #[test]
    fn what_is_held_pauses_or_is_empty_has_no_forecast_and_keeps_nobody_waiting() {
        let hold = Hold {
            account: address("a@contoso.com"),
            cause: HoldCause::Manual,
            reply: None,
            error: None,
            codes: Vec::new(),
            since: now(),
            probe_at: None,
            probes: 0,
        };
        let (a, b, c) = ("a@contoso.com", "b@contoso.com", "c@contoso.com");
        let stopped = Standing { hold: Some(hold), ..standing(a) };
        let pausing = Standing { pause: Some((now(), "refused".to_owned())), ..standing(b) };
        let told = minutes(vec![
            (a, c, 300, stopped),
            (b, c, 300, pausing),
            (c, c, 300, standing(c)),
            ("d@contoso.com", c, 0, standing(c)),
        ]);
        assert_eq!(told, [None, None, Some(10), None]);
    }

    #[test]
    fn a_message_that_is_due_later_is_what_a_short_queue_waits_for() {
        let forecast = Forecast { empty_at: now(), bound: Bound::Day };
        assert_eq!(view(forecast, Some(now())).limited_by, "day");
        let later = now() + std::time::Duration::from_mins(30);
        assert_eq!(view(forecast, Some(later)), ForecastView { empty_at: later, limited_by: "retry".to_owned() });
    }

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
