//! A scheduler, a store of a few lines, and an Exchange that counts for itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::super::*;
use crate::config::{Account, App, testing};
use crate::message::Lane;
use crate::schedule::Counted;
use crate::schedule::window::testing::answer;
use crate::store::{HoldCause, samples};

pub(super) const MINUTE: Duration = Duration::from_mins(1);

pub(super) fn start() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

pub(super) fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// A message that left.
#[derive(Clone, Debug)]
pub(super) struct Left {
    pub(super) id: i64,
    pub(super) at: Timestamp,
    pub(super) carrier: Address,
    pub(super) flow: Flow,
    pub(super) recipients: u32,
}

/// What one mailbox has taken, counted strictly: 30 in any minute, 3 at once.
#[derive(Default)]
pub(super) struct Exchange {
    minute: VecDeque<Timestamp>,
    sessions: u32,
    refused: u32,
}

impl Exchange {
    pub(super) fn begin(&mut self) {
        self.sessions += 1;
        self.refused += u32::from(self.sessions > 3);
    }

    pub(super) fn end(&mut self, at: Timestamp, is_seen: bool) {
        self.sessions -= 1;
        if !is_seen {
            return;
        }
        self.minute.retain(|taken| *taken + MINUTE > at);
        self.minute.push_back(at);
        self.refused += u32::from(self.minute.len() > 30);
    }
}

pub(super) struct World {
    pub(super) scheduler: Scheduler,
    pub(super) now: Timestamp,
    /// By id: in whose queue, and what.
    pub(super) store: BTreeMap<i64, (Address, Waiting)>,
    /// By end.
    pub(super) under_way: BTreeSet<(Timestamp, i64, Address)>,
    pub(super) exchanges: HashMap<Address, Exchange>,
    pub(super) left: Vec<Left>,
    pub(super) next: i64,
    /// By hand, or so that only a probe of the login frees it.
    pub(super) held: Vec<Address>,
    /// What becomes of the attempts that end next; all others are taken. So with the probes of logins.
    pub(super) fates: VecDeque<Fate>,
}

/// What an attempt comes to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fate {
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
    pub(super) fn new(config: &Config) -> Self {
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
    pub(super) fn accept(&mut self, queue: &str, app: &str, lane: Lane, recipients: u32) -> i64 {
        self.next += 1;
        let (id, flow) = (QueueId::from_number(self.next), Flow::new(app, lane));
        let waiting = Waiting { id, due_at: self.now, recipients, flow };
        self.store.insert(self.next, (address(queue), waiting.clone()));
        self.on(Event::Accepted { account: address(queue), waiting });
        self.next
    }

    pub(super) fn hold(&mut self, account: &str, cause: HoldCause) {
        let hold = Hold { account: address(account), ..samples::hold(cause, self.now) };
        self.held.push(hold.account.clone());
        self.on(Event::Held(hold));
    }

    pub(super) fn release(&mut self, account: &str) {
        let account = address(account);
        self.held.retain(|held| *held != account);
        self.on(Event::Released { account, why: "by hand".to_owned() });
    }

    pub(super) fn on(&mut self, event: Event) {
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

    pub(super) fn begin(&mut self, carrier: &Address, id: i64) {
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
    pub(super) fn step(&mut self, end: Timestamp) -> bool {
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
    pub(super) fn failed(&mut self, fate: Fate, carrier: &Address, id: i64) -> Outcome {
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

    pub(super) fn run_for(&mut self, span: Duration) {
        let end = self.now + span;
        while self.step(end) {}
    }

    pub(super) fn run_until_empty(&mut self) {
        let end = self.now + Duration::from_hours(240);
        while !self.store.is_empty() {
            assert!(self.step(end), "{} messages never left", self.store.len());
        }
    }

    pub(super) fn refused(&self) -> u32 {
        self.exchanges.values().map(|exchange| exchange.refused).sum()
    }

    /// How many messages of this app left.
    pub(super) fn left_of(&self, app: &str) -> usize {
        self.left.iter().filter(|left| &*left.flow.app == app).count()
    }

    /// The messages that left since the `from`th.
    pub(super) fn since(&self, from: usize) -> Vec<i64> {
        self.left[from..].iter().map(|left| left.id).collect()
    }
}

pub(super) fn config(accounts: Vec<Account>, apps: Vec<App>) -> Config {
    Config { apps: apps.into_iter().map(Arc::new).collect(), ..testing::config(accounts) }
}

pub(super) fn account(mailbox: &str) -> Account {
    testing::account(mailbox, mailbox)
}

pub(super) fn one() -> Config {
    config(vec![account(LMS)], Vec::new())
}

/// Three accounts, all of which carry the mail of moodle.
pub(super) fn three() -> Config {
    let accounts = LIST.map(address).to_vec();
    let moodle = App { name: "moodle".to_owned(), accounts, ..App::default() };
    config(LIST.map(account).to_vec(), vec![moodle])
}

pub(super) const LMS: &str = "lms@contoso.com";
pub(super) const LIST: [&str; 3] = [LMS, "lms2@contoso.com", "lms3@contoso.com"];

/// Messages a minute, from the first to the last.
pub(super) fn pace(world: &World) -> f64 {
    let (first, last) = (world.left.first().unwrap().at, world.left.last().unwrap().at);
    f64::from(u32::try_from(world.left.len()).unwrap()) / last.duration_since(first).as_secs_f64() * 60.0
}
