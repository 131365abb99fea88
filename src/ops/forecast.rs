//! When what waits will have left, if nothing more comes: of each queue, and of all together. Pure.
//!
//! Who carries what is the scheduler's rule (`schedule::Routes`), how fast is the pace's (`schedule::pace`); here they are put together.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::message::Address;
use crate::schedule::pace::{self, Bound, Forecast, Load, Outlook, Shared, Stream};
use crate::schedule::{Routes, Standing};
use crate::store::{Count, MessageState};

/// When a queue will be empty, if nothing more comes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastView {
    /// When, about.
    pub empty_at: Timestamp,
    /// What it depends on most: `rate` (messages a minute, sessions), `day` (recipients a day), `budget` (recipients outside the tenant a
    /// day) or `retry` (a message waits for its next try).
    pub limited_by: String,
    /// The mailboxes through which it leaves.
    #[serde(default)]
    pub carried_by: Vec<String>,
}

/// When queues will be empty.
#[derive(Debug, Default)]
pub(crate) struct Forecasts {
    /// By account. A queue has none if nothing waits in it, or if part of that does not leave at present.
    pub(crate) queues: HashMap<Address, ForecastView>,
    /// Of everything that leaves at present.
    pub(crate) all: Option<ForecastView>,
}

/// When the queues will be empty, as far as somebody carries what waits in them: whoever is held or pauses carries nothing.
pub(crate) fn forecasts(
    config: &Config,
    counts: &[Count],
    standings: &HashMap<Address, Standing>,
    now: Timestamp,
) -> Forecasts {
    let waiting: Vec<&Count> = counts.iter().filter(|count| count.state == MessageState::Waiting).collect();
    let routes = Routes::of(config);
    let carriers: Vec<Vec<&Standing>> =
        waiting.iter().map(|count| routes.open(standings, &count.account, &count.flow).collect()).collect();
    let mut logins = Logins::default();
    let streams: Vec<Stream> = waiting
        .iter()
        .zip(&carriers)
        .map(|(count, carriers)| Stream {
            lane: count.flow.lane,
            load: Load { messages: count.messages, recipients: count.recipients },
            logins: logins.of(config, carriers),
        })
        .collect();
    let mut shared = rates_of_apps(config, &waiting);
    shared.extend(budgets_of_tenants(config, &waiting, &carriers));
    let found = pace::forecasts(&logins.outlooks, &streams, &shared, now);
    let mut all = Together::default();
    let mut queues: HashMap<Address, Together> = HashMap::new();
    for ((count, carriers), forecast) in waiting.into_iter().zip(&carriers).zip(found) {
        let queue = queues.entry(count.account.clone()).or_default();
        match forecast {
            Some(forecast) => [queue, &mut all].into_iter().for_each(|sum| sum.add(forecast, count, carriers)),
            None => queue.stays = true,
        }
    }
    let queues = queues.into_iter().filter_map(|(queue, sum)| Some((queue, sum.view()?)));
    Forecasts { queues: queues.collect(), all: all.view() }
}

/// The logins of those who carry something. Accounts that share one share its pace.
#[derive(Default)]
struct Logins<'a> {
    names: Vec<&'a Address>,
    outlooks: Vec<&'a Outlook>,
}

impl<'a> Logins<'a> {
    /// Their places, none twice.
    fn of(&mut self, config: &'a Config, carriers: &[&'a Standing]) -> Vec<usize> {
        let mut places = Vec::new();
        for standing in carriers {
            let Some((account, outlook)) = config.account(&standing.account).zip(standing.outlook.as_ref()) else {
                continue;
            };
            let known = self.names.iter().position(|name| **name == account.login);
            let place = known.unwrap_or_else(|| {
                self.names.push(&account.login);
                self.outlooks.push(outlook);
                self.names.len() - 1
            });
            if !places.contains(&place) {
                places.push(place);
            }
        }
        places
    }
}

fn rates_of_apps(config: &Config, waiting: &[&Count]) -> Vec<Shared> {
    let apps = config.apps.iter().chain([&config.default_app]).filter(|app| app.messages_per_minute > 0);
    let shared = apps.map(|app| {
        let of_app = waiting.iter().enumerate().filter(|(_, count)| *count.flow.app == *app.name);
        Shared::rate(app.messages_per_minute, of_app.map(|(n, _)| n).collect())
    });
    shared.collect()
}

/// What leaves through an account of the tenant, as far as it has recipients outside.
fn budgets_of_tenants(config: &Config, waiting: &[&Count], carriers: &[Vec<&Standing>]) -> Vec<Shared> {
    let shared = config.tenants.iter().filter_map(|tenant| {
        let is_of_tenant = |standing: &&&Standing| {
            let account = config.account(&standing.account);
            account.is_some_and(|account| account.tenant.eq_ignore_ascii_case(&tenant.name))
        };
        let counts = |n: &usize| waiting[*n].flow.outside && carriers[*n].iter().any(|one| is_of_tenant(&one));
        let streams: Vec<usize> = (0..waiting.len()).filter(counts).collect();
        let one = streams.first().and_then(|&n| carriers[n].iter().find(is_of_tenant))?;
        Some(Shared::day(one.allowance.as_ref()?.day.clone(), streams))
    });
    shared.collect()
}

/// Several streams, seen as one.
#[derive(Default)]
struct Together {
    last: Option<Forecast>,
    last_due: Option<Timestamp>,
    carried_by: Vec<String>,
    /// Something of it does not leave.
    stays: bool,
}

impl Together {
    fn add(&mut self, forecast: Forecast, count: &Count, carriers: &[&Standing]) {
        if self.last.is_none_or(|last| last.empty_at < forecast.empty_at) {
            self.last = Some(forecast);
        }
        self.last_due = self.last_due.max(Some(count.last_due));
        for standing in carriers {
            if self.carried_by.iter().all(|mailbox| *mailbox != *standing.account.as_str()) {
                self.carried_by.push(standing.account.to_string());
            }
        }
    }

    fn view(self) -> Option<ForecastView> {
        let Forecast { empty_at, bound } = self.last.filter(|_| !self.stays)?;
        let carried_by = self.carried_by;
        if let Some(due) = self.last_due.filter(|&due| due > empty_at) {
            return Some(ForecastView { empty_at: due, limited_by: "retry".to_owned(), carried_by });
        }
        let limited_by = match bound {
            Bound::Rate => "rate",
            Bound::Day => "day",
            Bound::Budget => "budget",
        };
        Some(ForecastView { empty_at, limited_by: limited_by.to_owned(), carried_by })
    }
}

#[cfg(test)]
mod tests;
