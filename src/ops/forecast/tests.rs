use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::{Account, App, testing};
use crate::message::Lane;
use crate::schedule::Scheduler;
use crate::schedule::pace::{Limits, Pace};
use crate::store::{Flow, Hold, HoldCause};

const LIMITS: Limits = Limits { messages_per_minute: 30, connections: 3, recipients_per_day: 10_000 };

const A: &str = "a@contoso.com";
const B: &str = "b@contoso.com";
const C: &str = "c@contoso.com";

fn now() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// A configuration, how its accounts stand, and what waits.
struct Bench {
    config: Config,
    standings: HashMap<Address, Standing>,
    counts: Vec<Count>,
}

impl Bench {
    /// Accounts, each with its login.
    fn new(accounts: &[(&str, &str)]) -> Self {
        let standings = accounts.iter().map(|(mailbox, _)| (address(mailbox), standing(mailbox))).collect();
        let accounts = accounts.iter().map(|(mailbox, login)| testing::account(mailbox, login)).collect();
        Self { config: testing::config(accounts), standings, counts: Vec::new() }
    }

    fn app(mut self, name: &str, accounts: &[&str]) -> Self {
        let accounts = accounts.iter().map(|mailbox| address(mailbox)).collect();
        self.config.apps.push(Arc::new(App { name: name.to_owned(), accounts, ..App::default() }));
        self
    }

    fn waits(mut self, queue: &str, app: &str, lane: Lane, messages: u64) -> Self {
        self.counts.push(Count {
            account: address(queue),
            state: MessageState::Waiting,
            flow: Flow::new(app, lane),
            messages,
            by_rule: 0,
            by_order: 0,
            oldest: now(),
            recipients: messages,
            last_due: now(),
        });
        self
    }

    fn held(mut self, mailbox: &str, cause: HoldCause) -> Self {
        let (account, since) = (address(mailbox), now());
        let standing = self.standings.get_mut(&account).unwrap();
        standing.hold = Some(Hold {
            account,
            cause,
            reply: None,
            error: None,
            codes: Vec::new(),
            since,
            probe_at: None,
            probes: 0,
        });
        self
    }

    fn found(&self) -> Forecasts {
        forecasts(&self.config, &self.counts, &self.standings, now())
    }

    /// Minutes until the queues of these are empty.
    fn minutes(&self, queues: &[&str]) -> Vec<Option<i64>> {
        let found = self.found();
        queues.iter().map(|queue| found.queues.get(&address(queue)).map(minutes)).collect()
    }
}

fn minutes(forecast: &ForecastView) -> i64 {
    forecast.empty_at.duration_since(now()).as_secs() / 60
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

#[test]
fn accounts_that_share_a_login_take_turns_and_others_do_not_wait_for_each_other() {
    let bench = Bench::new(&[(A, A), (B, A), (C, C)]);
    let bench = bench.waits(A, "moodle", Lane::Normal, 300).waits(B, "moodle", Lane::Normal, 30);
    let bench = bench.waits(C, "moodle", Lane::Normal, 300);
    assert_eq!(bench.minutes(&[A, B, C]), [Some(11), Some(1), Some(10)]);
    assert_eq!(bench.found().all.as_ref().map(minutes), Some(11));
}

#[test]
fn the_accounts_of_an_app_empty_its_queue_together() {
    let bench = Bench::new(&[(A, A), (B, B), (C, C)]).app("moodle", &[A, B, C]);
    let bench = bench.waits(A, "moodle", Lane::Normal, 900);
    assert_eq!(bench.minutes(&[A, B, C]), [Some(10), None, None]);
    assert_eq!(bench.found().queues[&address(A)].carried_by, [A, B, C]);
    // The one that the app has for itself carries all of another one.
    let bench = bench.waits(C, "erp", Lane::Normal, 300);
    assert_eq!(bench.minutes(&[A, C]), [Some(13), Some(10)]);
    assert_eq!(bench.found().queues[&address(C)].carried_by, [C]);
}

#[test]
fn an_app_with_a_rate_of_its_own_takes_as_long_as_that_says() {
    let mut bench = Bench::new(&[(A, A)]).app("moodle", &[]).waits(A, "moodle", Lane::Normal, 100);
    assert_eq!(bench.minutes(&[A]), [Some(3)]);
    let app = App { messages_per_minute: 5, ..App::clone(&bench.config.apps[0]) };
    bench.config.apps[0] = Arc::new(app);
    assert_eq!(bench.minutes(&[A]), [Some(20)]);
}

#[test]
fn what_is_held_pauses_or_is_empty_has_no_forecast_and_keeps_nobody_waiting() {
    let bench = Bench::new(&[(A, C), (B, C), (C, C), ("d@contoso.com", C)]).held(A, HoldCause::Manual);
    let mut bench = [A, B, C].iter().fold(bench, |bench, queue| bench.waits(queue, "moodle", Lane::Normal, 300));
    bench.standings.get_mut(&address(B)).unwrap().pause = Some((now(), "refused".to_owned()));
    assert_eq!(bench.minutes(&[A, B, C, "d@contoso.com"]), [None, None, Some(10), None]);
    assert_eq!(bench.found().all.as_ref().map(minutes), Some(10));
    assert_eq!(Bench::new(&[(A, A)]).found().all, None);
}

#[test]
fn the_queue_of_a_held_account_is_emptied_by_the_other_accounts_of_the_app() {
    let bench = Bench::new(&[(A, A), (B, B), (C, C)]).app("moodle", &[A, B, C]).held(A, HoldCause::Login);
    let bench = bench.waits(A, "moodle", Lane::Normal, 600);
    assert_eq!(bench.minutes(&[A]), [Some(10)]);
    assert_eq!(bench.found().queues[&address(A)].carried_by, [B, C]);
    // What nobody else carries stays: then the queue is not empty by any time that could be told.
    let bench = bench.waits(A, "erp", Lane::Normal, 1);
    assert_eq!(bench.minutes(&[A]), [None]);
    assert_eq!(bench.found().all.as_ref().map(minutes), Some(10));
}

#[test]
fn a_fallback_carries_what_is_urgent_beside_its_own_mail() {
    let mut bench = Bench::new(&[(A, A), (B, B)]).held(A, HoldCause::Login);
    let own = Account { fallback: Some(address(B)), ..Account::clone(&bench.config.accounts[0]) };
    bench.config.accounts[0] = Arc::new(own);
    let bench = bench.waits(A, "moodle", Lane::Urgent, 56).waits(B, "erp", Lane::Normal, 225);
    assert_eq!(bench.minutes(&[A, B]), [Some(1), Some(10)], "and a sixth of the minute is kept free");
    assert_eq!(bench.found().queues[&address(A)].carried_by, [B]);
    assert_eq!(bench.held(A, HoldCause::Manual).minutes(&[A, B]), [None, Some(7)], "then it is not meant to leave");
}

#[test]
fn the_mail_of_an_account_that_is_gone_leaves_through_the_accounts_of_its_app_or_waits() {
    let bench = Bench::new(&[(A, A), (B, B)]).app("moodle", &[A, B]);
    let bench = bench.waits("gone@contoso.com", "moodle", Lane::Normal, 600);
    assert_eq!(bench.minutes(&["gone@contoso.com"]), [Some(10)]);
    let bench = bench.waits("away@contoso.com", "erp", Lane::Normal, 1);
    assert_eq!(bench.minutes(&["gone@contoso.com", "away@contoso.com"]), [Some(10), None]);
}

#[test]
fn a_message_that_is_due_later_is_what_a_short_queue_waits_for() {
    let mut bench = Bench::new(&[(A, A)]).waits(A, "moodle", Lane::Normal, 30);
    assert_eq!(bench.found().queues[&address(A)].limited_by, "rate");
    let later = now() + Duration::from_mins(30);
    bench.counts[0].last_due = later;
    let found = &bench.found().queues[&address(A)];
    assert_eq!((found.empty_at, found.limited_by.as_str()), (later, "retry"));
}

#[test]
fn the_day_is_named_where_it_is_what_a_queue_waits_for() {
    let bench = Bench::new(&[(A, A)]).waits(A, "moodle", Lane::Normal, 10_000);
    assert_eq!(bench.found().queues[&address(A)].limited_by, "day");
}

#[test]
fn mail_to_the_outside_waits_for_the_budget_of_its_tenant_and_other_mail_does_not() {
    const TENANT: &str = "contoso.onmicrosoft.com";
    let config = testing::of_tenant(TENANT, &[A, B], 100);
    let outside = Flow { outside: true, ..Flow::new("moodle", Lane::Normal) };
    let mut bench = Bench::new(&[(A, A), (B, B)])
        .waits(A, "moodle", Lane::Normal, 130)
        .waits(A, "moodle", Lane::Normal, 300)
        .waits(B, "erp", Lane::Normal, 300);
    bench.counts[0].flow = outside;
    let standings = Scheduler::new(&config, Vec::new(), &[], false, now()).standings(now());
    bench.standings = standings.into_iter().map(|standing| (standing.account.clone(), standing)).collect();
    bench.config = config;
    let found = bench.found();
    let (a, b) = (&found.queues[&address(A)], &found.queues[&address(B)]);
    assert!((1_441..1_500).contains(&minutes(a)), "90 in the first day, the rest in the next: {a:?}");
    assert_eq!((a.limited_by.as_str(), b.limited_by.as_str(), minutes(b)), ("budget", "rate", 10));
}
