//! Hours of mail in simulated time: a scheduler, a store of a few lines, and an Exchange that counts for itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::*;
use crate::config::{Account, App, testing};
use crate::message::Lane;
use crate::schedule::Counted;
use crate::schedule::window::testing::answer;
use crate::store::{HoldCause, samples};

mod budget;

const MINUTE: Duration = Duration::from_mins(1);

fn start() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// A message that left.
#[derive(Clone, Debug)]
struct Left {
    id: i64,
    at: Timestamp,
    carrier: Address,
    flow: Flow,
    recipients: u32,
}

/// What one mailbox has taken, counted strictly: 30 in any minute, 3 at once.
#[derive(Default)]
struct Exchange {
    minute: VecDeque<Timestamp>,
    sessions: u32,
    refused: u32,
}

impl Exchange {
    fn begin(&mut self) {
        self.sessions += 1;
        self.refused += u32::from(self.sessions > 3);
    }

    fn end(&mut self, at: Timestamp, is_seen: bool) {
        self.sessions -= 1;
        if !is_seen {
            return;
        }
        self.minute.retain(|taken| *taken + MINUTE > at);
        self.minute.push_back(at);
        self.refused += u32::from(self.minute.len() > 30);
    }
}

struct World {
    scheduler: Scheduler,
    now: Timestamp,
    /// By id: in whose queue, and what.
    store: BTreeMap<i64, (Address, Waiting)>,
    /// By end.
    under_way: BTreeSet<(Timestamp, i64, Address)>,
    exchanges: HashMap<Address, Exchange>,
    left: Vec<Left>,
    next: i64,
    /// By hand, or so that only a probe of the login frees it.
    held: Vec<Address>,
    /// What becomes of the attempts that end next; all others are taken. So with the probes of logins.
    fates: VecDeque<Fate>,
}

/// What an attempt comes to.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Unreachable,
    Login,
    Quota,
    TenantBlocked,
    Busy,
    NotDue,
    /// It is put into the flow that it belongs to.
    OtherFlow,
    Failed,
}

impl World {
    fn new(config: &Config) -> Self {
        let mut world = Self {
            scheduler: Scheduler::new(config, Vec::new(), &[], false, start()),
            now: start(),
            store: BTreeMap::new(),
            under_way: BTreeSet::new(),
            exchanges: HashMap::new(),
            left: Vec::new(),
            next: 0,
            held: Vec::new(),
            fates: VecDeque::new(),
        };
        world.on(Event::Woken);
        world
    }

    /// A message comes.
    fn accept(&mut self, queue: &str, app: &str, lane: Lane, recipients: u32) -> i64 {
        self.next += 1;
        let (id, flow) = (QueueId::from_number(self.next), Flow::new(app, lane));
        let waiting = Waiting { id, due_at: self.now, recipients, flow };
        self.store.insert(self.next, (address(queue), waiting.clone()));
        self.on(Event::Accepted { account: address(queue), waiting });
        self.next
    }

    fn hold(&mut self, account: &str, cause: HoldCause) {
        let hold = Hold { account: address(account), ..samples::hold(cause, self.now) };
        self.held.push(hold.account.clone());
        self.on(Event::Held(hold));
    }

    fn release(&mut self, account: &str) {
        let account = address(account);
        self.held.retain(|held| *held != account);
        self.on(Event::Released { account, why: "by hand".to_owned() });
    }

    fn on(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.scheduler.on(event, self.now) {
                match action {
                    Action::Load(account, load) => {
                        let queue = self.store.values().filter(|(queue, _)| *queue == account);
                        let mut messages: Vec<Waiting> = queue.map(|(_, waiting)| waiting.clone()).collect();
                        messages.sort_by_key(|waiting| (waiting.due_at, waiting.id));
                        let heads = Some(answer(&load, &messages));
                        events.push_back(Event::Loaded { account, load, heads });
                    }
                    Action::Attempt(carrier, id) => self.begin(&carrier, id.number()),
                    Action::Prove(account) => {
                        events.push_back(Event::Proved { account, result: Proved::Taken(self.now) });
                    }
                    Action::Probe(account) => {
                        let is_over = !self.held.contains(&account) && self.fates.pop_front().is_none();
                        let result = if is_over { Ok(()) } else { Err("535 5.7.3 no".to_owned()) };
                        events.push_back(Event::Probed { account, result });
                    }
                    Action::Release { account, .. } => self.held.retain(|held| *held != account),
                    Action::Hold { .. } | Action::Wake(..) => {}
                }
            }
        }
        let wake = self.scheduler.next_wake(self.now);
        assert!(wake.is_none_or(|when| when > self.now), "what is due now has been begun: {wake:?} at {}", self.now);
    }

    fn begin(&mut self, carrier: &Address, id: i64) {
        assert!(!self.held.contains(carrier), "{carrier} is held");
        assert!(self.under_way.iter().all(|(_, other, _)| *other != id), "{id} is under way already");
        let waiting = &self.store.get(&id).expect("it is sent once").1;
        assert!(waiting.due_at <= self.now, "{id} is not due");
        let (flow, recipients) = (waiting.flow.clone(), waiting.recipients);
        self.left.push(Left { id, at: self.now, carrier: carrier.clone(), flow, recipients });
        self.exchanges.entry(carrier.clone()).or_default().begin();
        // Now quicker, now slower.
        let took = Duration::from_millis(150 + u64::try_from(id * 37 % 200).unwrap());
        self.under_way.insert((self.now + took, id, carrier.clone()));
    }

    /// What happens next, if it is before `end`.
    fn step(&mut self, end: Timestamp) -> bool {
        let wake = self.scheduler.next_wake(self.now).map(|when| when.max(self.now + Duration::from_millis(1)));
        let first = self.under_way.first().map(|(at, ..)| *at);
        let Some(next) = wake.into_iter().chain(first).min().filter(|next| *next <= end) else {
            self.now = end;
            return false;
        };
        self.now = next;
        if first == Some(next) {
            let (_, id, carrier) = self.under_way.pop_first().unwrap();
            let outcome = match self.fates.pop_front() {
                None => {
                    let (_, waiting) = self.store.remove(&id).expect("it was there when it began");
                    let outside = if waiting.flow.outside { waiting.recipients } else { 0 };
                    let sent = Some(Counted { outside, ..Counted::new(next, waiting.recipients) });
                    Outcome::Answered { sent, again: None, throttled: None }
                }
                Some(fate) => self.failed(fate, &carrier, id),
            };
            let is_seen = matches!(outcome, Outcome::Answered { sent: Some(_), .. } | Outcome::Stopped { .. });
            self.exchanges.get_mut(&carrier).unwrap().end(next, is_seen);
            self.on(Event::Finished { account: carrier, id: QueueId::from_number(id), outcome });
        } else {
            self.on(Event::Woken);
        }
        true
    }

    /// The message is still there, and is due as before or a little later.
    fn failed(&mut self, fate: Fate, carrier: &Address, id: i64) -> Outcome {
        let at = self.now;
        let waiting = &mut self.store.get_mut(&id).expect("it was there when it began").1;
        if matches!(fate, Fate::NotDue | Fate::Failed) {
            waiting.due_at = at + Duration::from_secs(5);
        }
        if matches!(fate, Fate::OtherFlow) {
            waiting.flow.outside = !waiting.flow.outside;
        }
        let again = waiting.clone();
        let hold = |cause| {
            let reply = Some("550 5.7.705 no".to_owned());
            Hold { account: carrier.clone(), reply, ..samples::hold(cause, at) }
        };
        let (sent, error) = (Some(Counted::new(at, 0)), "no".to_owned());
        let stop = |stop| Outcome::Stopped { sent, again: Some(again.clone()), stop };
        match fate {
            Fate::Unreachable => Outcome::Unreachable { again, error, retry_at: None },
            Fate::Login => Outcome::Held { again, hold: hold(HoldCause::Login) },
            Fate::Quota => stop(Stop::Hold { hold: hold(HoldCause::Quota), of_tenant: false }),
            Fate::TenantBlocked => stop(Stop::Hold { hold: hold(HoldCause::Blocked), of_tenant: true }),
            Fate::Busy => stop(Stop::Pause { error, retry_at: None }),
            Fate::NotDue | Fate::OtherFlow => Outcome::NotDue(again),
            Fate::Failed => Outcome::Answered { sent: None, again: Some(again), throttled: None },
        }
    }

    fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
    }

    fn run_until_empty(&mut self) {
        let end = self.now + Duration::from_hours(240);
        while !self.store.is_empty() {
            assert!(self.step(end), "{} messages never left", self.store.len());
        }
    }

    fn refused(&self) -> u32 {
        self.exchanges.values().map(|exchange| exchange.refused).sum()
    }

    /// How many messages of this app left.
    fn left_of(&self, app: &str) -> usize {
        self.left.iter().filter(|left| &*left.flow.app == app).count()
    }

    /// The messages that left since the `from`th.
    fn since(&self, from: usize) -> Vec<i64> {
        self.left[from..].iter().map(|left| left.id).collect()
    }
}

fn config(accounts: Vec<Account>, apps: Vec<App>) -> Config {
    Config { apps: apps.into_iter().map(Arc::new).collect(), ..testing::config(accounts) }
}

fn account(mailbox: &str) -> Account {
    testing::account(mailbox, mailbox)
}

fn one() -> Config {
    config(vec![account(LMS)], Vec::new())
}

/// Three accounts, all of which carry the mail of moodle.
fn three() -> Config {
    let accounts = LIST.map(address).to_vec();
    let moodle = App { name: "moodle".to_owned(), accounts, ..App::default() };
    config(LIST.map(account).to_vec(), vec![moodle])
}

const LMS: &str = "lms@contoso.com";
const LIST: [&str; 3] = [LMS, "lms2@contoso.com", "lms3@contoso.com"];

/// Messages a minute, from the first to the last.
fn pace(world: &World) -> f64 {
    let (first, last) = (world.left.first().unwrap().at, world.left.last().unwrap().at);
    f64::from(u32::try_from(world.left.len()).unwrap()) / last.duration_since(first).as_secs_f64() * 60.0
}

#[test]
fn two_thousand_messages_leave_at_the_pace_that_exchange_allows_and_none_is_refused() {
    let mut world = World::new(&one());
    for _ in 0..2_000 {
        world.accept(LMS, "moodle", Lane::Normal, 1);
    }
    world.run_until_empty();
    assert_eq!((world.left.len(), world.refused()), (2_000, 0));
    assert!(pace(&world) > 30.0 * 0.98, "{} a minute", pace(&world));
    assert!(world.left.iter().map(|left| left.id).is_sorted(), "the oldest first");
}

#[test]
fn three_accounts_carry_three_times_as_much_and_none_is_refused() {
    let mut world = World::new(&three());
    for _ in 0..6_000 {
        world.accept(LMS, "moodle", Lane::Normal, 1);
    }
    world.run_until_empty();
    assert_eq!((world.left.len(), world.refused()), (6_000, 0));
    assert!(pace(&world) > 90.0 * 0.98, "{} a minute", pace(&world));
    for mailbox in LIST {
        let carried = world.left.iter().filter(|left| left.carrier == address(mailbox)).count();
        assert!((1_900..2_100).contains(&carried), "{mailbox} carried {carried}");
    }
}

#[test]
fn a_password_reset_is_the_next_to_leave_though_twenty_thousand_digests_of_the_same_moodle_wait() {
    let mut world = World::new(&one());
    for _ in 0..20_000 {
        world.accept(LMS, "moodle", Lane::Bulk, 1);
    }
    world.run_for(MINUTE * 5);
    for _ in 0..20 {
        world.run_for(Duration::from_secs(17));
        let from = world.left.len();
        let reset = world.accept(LMS, "moodle", Lane::Urgent, 1);
        world.run_for(MINUTE);
        assert_eq!(world.since(from)[0], reset);
    }
    assert_eq!(world.refused(), 0);
}

#[test]
fn twenty_apps_of_unequal_load_share_fairly_within_a_lane() {
    let mut world = World::new(&one());
    let app = |n: u32| format!("app{n}");
    // Some come with a hundred times as much as others, all with more than their share; some write to many at once.
    for n in 0..20 {
        let recipients = [1, 1, 3, 10][n as usize % 4];
        for _ in 0..(200 + (n * n) * 20) {
            world.accept(LMS, &app(n), Lane::Normal, recipients);
        }
    }
    world.run_for(MINUTE * 60);
    let reached = |app: &str| -> u32 {
        let left = world.left.iter().filter(|left| &*left.flow.app == app);
        left.map(|left| left.recipients).sum()
    };
    let reached: Vec<u32> = (0..20).map(|n| reached(&app(n))).collect();
    let fair = f64::from(reached.iter().sum::<u32>()) / 20.0;
    assert!(reached.iter().all(|&n| (f64::from(n) - fair).abs() <= fair * 0.1), "fair is {fair}: {reached:?}");
    assert_eq!(world.refused(), 0);
}

#[test]
fn bulk_mail_never_starves_under_endless_normal_mail() {
    let mut world = World::new(&one());
    for _ in 0..300 {
        world.accept(LMS, "moodle", Lane::Bulk, 1);
        world.accept(LMS, "erp", Lane::Normal, 1);
    }
    for _ in 0..60 {
        for _ in 0..40 {
            world.accept(LMS, "erp", Lane::Normal, 1);
        }
        world.run_for(MINUTE);
    }
    let bulk = world.left_of("moodle");
    assert!((200..=240).contains(&bulk), "every eighth of 1,800: {bulk}");
}

#[test]
fn after_a_hold_of_ten_days_everything_leaves_oldest_first_within_its_lane() {
    let mut world = World::new(&one());
    world.run_for(MINUTE);
    world.hold(LMS, HoldCause::SignIn);
    for n in 0..600 {
        world.accept(LMS, ["moodle", "erp"][n % 2], Lane::ALL[n % 3], 1);
        world.run_for(MINUTE * 24);
    }
    assert!(world.left.is_empty());
    world.release(LMS);
    world.run_until_empty();
    assert_eq!(world.left.len(), 600);
    for lane in Lane::ALL {
        for app in ["moodle", "erp"] {
            let order = world.left.iter().filter(|left| left.flow == Flow::new(app, lane)).map(|left| left.id);
            assert!(order.is_sorted(), "{lane} of {app}");
        }
    }
    let last_urgent = world.left.iter().rposition(|left| left.flow.lane == Lane::Urgent).unwrap();
    assert!(last_urgent < 220, "urgent mail was through after {last_urgent}");
}

#[test]
fn mail_goes_on_at_once_through_the_other_accounts_while_one_is_held_and_when_it_is_gone() {
    let mut world = World::new(&three());
    for _ in 0..1_000 {
        world.accept(LMS, "moodle", Lane::Normal, 1);
    }
    world.run_for(MINUTE);
    world.hold(LMS, HoldCause::Login);
    let from = world.left.len();
    world.run_for(MINUTE * 5);
    assert!(world.left.len() - from > 290, "two of three go on: {}", world.left.len() - from);
    assert!(world.left[from..].iter().all(|left| left.carrier != address(LMS)));

    // Of a list without it: what waits in its queue is not forgotten, not even by a restart.
    let accounts = LIST[1..].iter().map(|mailbox| address(mailbox)).collect();
    let moodle = App { name: "moodle".to_owned(), accounts, ..App::default() };
    let without = Arc::new(config(LIST[1..].iter().map(|mailbox| account(mailbox)).collect(), vec![moodle]));
    world.on(Event::Configured { config: without.clone(), sent: Vec::new() });
    world.run_for(MINUTE * 2);
    assert_eq!(world.refused(), 0);
    while !world.under_way.is_empty() {
        let end = world.now + MINUTE;
        world.step(end);
    }
    let restarted = Scheduler::new(&without, Vec::new(), &[], false, world.now);
    world.scheduler = restarted.with_queues(&[address(LMS)], world.now);
    world.exchanges.clear();
    world.on(Event::Woken);
    world.run_until_empty();
    assert_eq!(world.left.len(), 1_000);
}

#[test]
fn while_an_account_is_held_its_urgent_mail_leaves_through_the_fallback_and_the_rest_waits() {
    let with_fallback = || Account { fallback: Some(address("way-out@contoso.com")), ..account(LMS) };
    for (cause, goes) in [
        (HoldCause::Login, true),
        (HoldCause::Registration, true),
        (HoldCause::Manual, false),
        (HoldCause::Clone, false),
    ] {
        let mut world = World::new(&config(vec![with_fallback(), account("way-out@contoso.com")], Vec::new()));
        world.hold(LMS, cause);
        world.accept(LMS, "moodle", Lane::Normal, 1);
        world.accept(LMS, "moodle", Lane::Bulk, 1);
        let reset = world.accept(LMS, "moodle", Lane::Urgent, 1);
        world.run_for(MINUTE * 10);
        assert_eq!(world.since(0), if goes { vec![reset] } else { Vec::new() }, "{cause:?}");
        assert!(world.left.iter().all(|left| left.carrier == address("way-out@contoso.com")));
        world.release(LMS);
        let from = world.left.len();
        world.run_until_empty();
        assert!(
            world.left[from..].iter().all(|left| left.carrier == address(LMS)),
            "released, it carries its own mail"
        );
    }
}

#[test]
fn an_app_over_its_own_rate_waits_whoever_carries_it_and_the_others_do_not() {
    let accounts = LIST.map(address).to_vec();
    let moodle = App { name: "moodle".to_owned(), accounts, messages_per_minute: 10, ..App::default() };
    let mut world = World::new(&config(LIST.map(account).to_vec(), vec![moodle]));
    for _ in 0..400 {
        world.accept(LMS, "moodle", Lane::Normal, 1);
        world.accept(LMS, "erp", Lane::Normal, 1);
    }
    world.run_for(MINUTE * 10);
    let (moodle, erp) = (world.left_of("moodle"), world.left_of("erp"));
    assert!((100..=103).contains(&moodle), "{moodle}");
    assert!(erp > 250, "{erp}");
}

#[test]
fn near_the_end_of_the_day_an_urgent_message_is_the_next_to_leave() {
    let limited = Account { recipients_per_day: 100, ..account(LMS) };
    let mut world = World::new(&config(vec![limited], Vec::new()));
    for _ in 0..200 {
        world.accept(LMS, "moodle", Lane::Bulk, 1);
    }
    world.run_for(MINUTE * 60);
    assert_eq!(world.left.len(), 90, "a tenth of the day is kept");
    let (from, at) = (world.left.len(), world.now);
    let reset = world.accept(LMS, "moodle", Lane::Urgent, 1);
    world.run_for(MINUTE);
    assert_eq!(world.since(from), [reset]);
    assert!(world.left[from].at.duration_since(at) <= Duration::from_secs(2).try_into().unwrap());
    world.run_until_empty();
    assert_eq!((world.left.len(), world.refused()), (201, 0), "and the day after the rest");
}

#[test]
fn a_message_that_two_queues_know_for_a_moment_is_begun_once() {
    let mut world = World::new(&config(vec![account(LMS), account("erp@contoso.com")], Vec::new()));
    let erp = address("erp@contoso.com");
    let id = world.accept(LMS, "moodle", Lane::Normal, 1);
    // It was moved, and its new queue hears of it before the old one does.
    let (_, waiting) = world.store[&id].clone();
    world.store.insert(id, (erp.clone(), waiting.clone()));
    world.on(Event::Accepted { account: erp.clone(), waiting });
    assert_eq!(world.left.len(), 1);
    let (_, _, carrier) = world.under_way.pop_first().unwrap();
    world.on(Event::Finished { account: carrier, id: QueueId::from_number(id), outcome: Outcome::Gone });
    assert_eq!(world.left.last().unwrap().carrier, erp, "and then by whose it is");
    world.run_until_empty();
    assert_eq!(world.scheduler.under_way(), 0);
}

#[test]
fn a_message_that_is_moved_while_it_is_tried_is_not_tried_by_both() {
    let mut world = World::new(&config(vec![account(LMS), account("erp@contoso.com")], Vec::new()));
    let id = world.accept(LMS, "moodle", Lane::Normal, 1);
    assert_eq!(world.left.len(), 1);
    world.store.get_mut(&id).unwrap().0 = address("erp@contoso.com");
    for account in [LMS, "erp@contoso.com"] {
        world.on(Event::Changed { account: address(account) });
    }
    assert_eq!(world.left.len(), 1, "it is still under way");
    // That ends without an answer: now the other one may.
    let (_, _, carrier) = world.under_way.pop_first().unwrap();
    let gone = Event::Finished { account: carrier, id: QueueId::from_number(id), outcome: Outcome::Gone };
    world.on(gone);
    assert_eq!(world.left.iter().map(|left| left.carrier.as_str()).collect::<Vec<_>>(), [LMS, "erp@contoso.com"]);
}

mod forecast;

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// Mail of three apps in three lanes and two queues, holds, releases, changes, lost announcements: in the end each message has left
        /// once. That none leaves twice or through a held account is asserted where it begins.
        #[test]
        fn whatever_happens_nothing_is_lost_or_sent_twice(steps in prop::collection::vec((0u8..8, 0usize..60), 1..60)) {
            let mut world = World::new(&three());
            for (step, value) in steps {
                let mailbox = LIST[value % 3];
                match step {
                    0..=2 => for n in 0..value {
                        let app = ["moodle", "erp", "default"][(n + value) % 3];
                        world.accept(mailbox, app, Lane::ALL[n % 3], 1 + u32::try_from(n % 4).unwrap());
                    },
                    3 if !world.held.contains(&address(mailbox)) => world.hold(mailbox, HoldCause::Login),
                    4 => world.release(mailbox),
                    5 => world.on(Event::Changed { account: address(mailbox) }),
                    6 => world.on(Event::Overflowed),
                    _ => world.run_for(Duration::from_secs(u64::try_from(value).unwrap())),
                }
            }
            for mailbox in LIST {
                world.release(mailbox);
            }
            let all = usize::try_from(world.next).unwrap();
            world.run_until_empty();
            prop_assert_eq!(world.left.len(), all);
            prop_assert_eq!(world.refused(), 0);
        }

        /// Attempts fail in every way, people hold and release: nothing is under way twice, the scheduler never wants to be woken for what it
        /// does not begin (both asserted where it happens), and whatever Exchange has stopped goes on without anybody's help.
        #[test]
        fn no_failure_stops_an_account_for_ever(
            steps in prop::collection::vec((0u8..6, 0usize..60, any_fate()), 1..50),
        ) {
            let mut config = three();
            let tenant = |account: &Arc<Account>| {
                let fallback = Some(address("lms3@contoso.com")).filter(|_| account.mailbox != address("lms3@contoso.com"));
                Arc::new(Account { tenant: "contoso.onmicrosoft.com".to_owned(), fallback, ..Account::clone(account) })
            };
            config.accounts = config.accounts.iter().map(tenant).collect();
            let mut world = World::new(&config);
            for (step, value, fate) in steps {
                let mailbox = LIST[value % 3];
                match step {
                    0 => for n in 0..value {
                        world.accept(mailbox, ["moodle", "erp"][n % 2], Lane::ALL[n % 3], 1);
                    },
                    1 if !world.held.contains(&address(mailbox)) => world.hold(mailbox, HoldCause::Manual),
                    2 => world.release(mailbox),
                    3 => world.on(Event::Changed { account: address(mailbox) }),
                    4 => world.fates.extend([fate; 3]),
                    _ => world.run_for(Duration::from_secs(20 * u64::try_from(value).unwrap())),
                }
            }
            for mailbox in LIST.iter().filter(|mailbox| world.held.contains(&address(mailbox))).collect::<Vec<_>>() {
                world.release(mailbox);
            }
            world.run_until_empty();
            prop_assert_eq!(world.refused(), 0);
            prop_assert_eq!(world.scheduler.under_way(), 0);
        }
    }

    fn any_fate() -> impl Strategy<Value = Fate> {
        prop::sample::select(vec![
            Fate::Unreachable,
            Fate::Login,
            Fate::Quota,
            Fate::TenantBlocked,
            Fate::Busy,
            Fate::NotDue,
            Fate::Failed,
        ])
    }
}
