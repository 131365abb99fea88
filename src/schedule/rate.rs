//! An app's own `messages_per_minute`: above it its mail waits, whoever carries it. Rules only.
//!
//! A GCRA like the one of an account's pace, and nothing else of that: the limit is the administrator's wish and not Exchange's, so it may be
//! over by its burst, and nobody has to remember it over a restart: a start lets an app send three messages more than its rate, and the pace of the
//! login, which is remembered, bounds what many starts come to.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::pace::BURST;
use crate::config::Config;

/// The apps with a rate of their own.
#[derive(Debug, Default)]
pub(super) struct Rates(HashMap<Arc<str>, Rate>);

#[derive(Debug)]
struct Rate {
    per_minute: u32,
    /// The theoretical arrival time of the next message, in microseconds since 1970.
    arrival: i64,
}

impl Rates {
    /// As this configuration says; what was sent still counts.
    pub(super) fn configure(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.0);
        for app in config.apps.iter().chain([&config.default_app]).filter(|app| app.messages_per_minute > 0) {
            let arrival = before.remove(app.name.as_str()).map_or(0, |rate| rate.arrival);
            self.0.insert(app.name.as_str().into(), Rate { per_minute: app.messages_per_minute, arrival });
        }
    }

    /// When the app's next message may leave; `None`: now.
    pub(super) fn not_before(&self, app: &str, now: Timestamp) -> Option<Timestamp> {
        let rate = self.0.get(app)?;
        let burst = i64::from(BURST.min(rate.per_minute) - 1) * rate.step();
        // Rounded up: a wait of less than a millisecond is one.
        let micros = rate.arrival.min(rate.latest(now)) - burst;
        let when = Timestamp::from_millisecond(micros.div_euclid(1000) + i64::from(micros.rem_euclid(1000) > 0));
        when.ok().filter(|&when| when > now)
    }

    /// A message of the app leaves.
    pub(super) fn charge(&mut self, app: &str, now: Timestamp) {
        if let Some(rate) = self.0.get_mut(app) {
            let arrival = rate.arrival.min(rate.latest(now));
            rate.arrival = arrival.max(now.as_microsecond()) + rate.step();
        }
    }
}

impl Rate {
    fn step(&self) -> i64 {
        60_000_000 / i64::from(self.per_minute)
    }

    /// No clock that was set back makes mail wait for longer than this.
    fn latest(&self, now: Timestamp) -> i64 {
        now.as_microsecond() + i64::from(BURST) * self.step()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use crate::config::testing;

    fn rates(text: &str) -> Rates {
        let mut rates = Rates::default();
        rates.configure(&testing::config_with(text));
        rates
    }

    fn start() -> Timestamp {
        Timestamp::from_second(1_795_000_000).unwrap()
    }

    #[test]
    fn an_app_sends_as_many_a_minute_as_it_may_and_the_others_as_many_as_they_like() {
        let mut rates = rates("[[app]]\nname = 'erp'\nmessages_per_minute = 7\n[[app]]\nname = 'moodle'\n");
        let (mut now, mut sent) = (start(), 0);
        while now < start() + Duration::from_mins(10) {
            match rates.not_before("erp", now) {
                None => {
                    rates.charge("erp", now);
                    sent += 1;
                }
                Some(when) => now = when,
            }
            assert_eq!(rates.not_before("moodle", now), None);
        }
        assert!((70..=73).contains(&sent), "{sent}");
    }

    #[test]
    fn one_a_minute_is_one_a_minute_and_a_clock_set_back_delays_by_minutes_only() {
        let mut rates = rates("[[app]]\nname = 'default'\nmessages_per_minute = 1\n");
        rates.charge("default", start());
        assert_eq!(rates.not_before("default", start()), Some(start() + Duration::from_mins(1)));
        let yesterday = start() - Duration::from_hours(24);
        let when = rates.not_before("default", yesterday).unwrap();
        assert!(when <= yesterday + Duration::from_mins(3), "{when}");
    }
}
