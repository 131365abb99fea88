//! Where a script is played: a relay and a Microsoft 365 with one clock, which only the script moves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use jiff::Timestamp;
use tempfile::TempDir;
use xoauth2_relay::clock::Clock;
use xoauth2_relay::config::Secret;
use xoauth2_relay::message::Address;
use xoauth2_relay::ops::{AccountStatus, MoveOrder, Ops, Selection};
use xoauth2_relay::simulator::{Accepted, Mailbox, Options, Simulator};
use xoauth2_relay::store::{MessageState, RecipientState, Store, Stored};

use super::model::{Fate, Model, SENDER};
use super::running::Running;
use super::script::{App, Order, Person, SECOND, Script, Step};
use crate::support::{Client, MAILBOX, PATIENCE, blocking, expect, quick};

/// Longer than any wait between two tries or probes.
const A_DAY: Duration = Duration::from_hours(25);
/// Longer than notices of one cause are gathered, and a good part of the day for which the postmaster's are.
const SOME_HOURS: Duration = Duration::from_hours(5);
/// What can leave has left after so many days without a fault, and been told of.
const DAYS: usize = 12;
/// By then all is at rest. A connection made at the instant at which Exchange goes away may be one that nobody ever answers: the relay waits a
/// minute for its greeting.
const REST: Duration = Duration::from_mins(4);
/// Between two looks at whether all is at rest.
const MOMENT: Duration = Duration::from_millis(2);
/// After so many looks at which nothing was to be done, all is at rest.
const CALM: u32 = 3;
/// The same when nothing has happened although there is something to be done: the mail of an app above its rate, and what only looks like it.
const STILL: u32 = 25;
/// If so little happens before a crash, it comes all the same.
const NOTHING_MORE: Duration = Duration::from_millis(30);
/// So long a mail may take to be under way.
const NOTHING_COMES: Duration = Duration::from_millis(400);
/// Exchange takes its time with an answer.
const SLOW: &str = "data_end=wait:300ms*2";

pub struct Stage {
    simulator: Simulator,
    running: Running,
    clock: Clock,
    folder: TempDir,
    is_away: bool,
    /// What has been wrong so far.
    pub wrong: Vec<String>,
}

impl Stage {
    pub async fn set() -> Self {
        let clock = Clock::manual(Timestamp::now());
        let now = clock.clone();
        let mailboxes = vec![Mailbox::new(MAILBOX), Mailbox::new(SECOND)];
        let options = Options { now: Arc::new(move || now.now()), mailboxes, ..quick() };
        let simulator = Simulator::start(options).await.unwrap();
        let folder = TempDir::new().unwrap();
        let running = Running::start(&simulator, &folder, &clock).await;
        for mailbox in [MAILBOX, SECOND] {
            let token = Secret::new(simulator.issue_refresh_token(mailbox));
            running.relay.ops().login_take_in(&address(mailbox), token).await.unwrap();
        }
        Self { simulator, running, clock, folder, is_away: false, wrong: Vec::new() }
    }

    pub async fn play(mut self, script: &Script, model: &mut Model) -> Self {
        for step in &script.steps {
            match step {
                Step::Mail(app, people) => self.hand_in(*app, people, model).await,
                Step::Fault(text) => self.simulator.fault(text.parse().unwrap()),
                Step::Pass(span) => self.pass(*span).await,
                Step::Order(order) => self.order(*order, model).await,
                Step::Restart => self = self.restart().await,
                Step::Crash(events) => self = self.crash(*events, model).await,
                Step::CutOff(app, people) => self = self.cut_off(*app, people, model).await,
                Step::Away if !self.is_away => {
                    self.simulator.go_away().await.unwrap();
                    self.is_away = true;
                }
                Step::Away => self.come_back().await,
            }
        }
        self
    }

    pub async fn stop(self) {
        self.running.stop().await;
        self.simulator.stop().await;
    }

    fn ops(&self) -> &Ops {
        self.running.relay.ops()
    }

    async fn restart(self) -> Self {
        self.running.stop().await;
        let running = Running::start(&self.simulator, &self.folder, &self.clock).await;
        Self { running, ..self }
    }

    async fn crash(mut self, events: usize, model: &mut Model) -> Self {
        let mut happening = self.simulator.watch();
        let before = fates(&self.ops().store, model).await;
        for _ in 0..events {
            if tokio::time::timeout(NOTHING_MORE, happening.recv()).await.is_err() {
                break;
            }
        }
        let store = self.running.kill().await;
        // What had been sent by then still arrives.
        let since = Instant::now();
        while self.simulator.statistics().open > 0 {
            assert!(since.elapsed() < PATIENCE, "sessions of nobody: {:?}", self.simulator.statistics());
            tokio::time::sleep(MOMENT).await;
        }
        let after = fates(&store, model).await;
        self.wrong.extend(model.crashed(&before, &after, &self.simulator.accepted()));
        store.close().await;
        let running = Running::start(&self.simulator, &self.folder, &self.clock).await;
        Self { running, ..self }
    }

    /// A crash while Exchange has the mail and the relay does not know, as far as the mail gets there.
    async fn cut_off(self, app: App, people: &[Person], model: &mut Model) -> Self {
        let said = || self.simulator.statistics().commands.get("DATA").copied();
        let before = said();
        self.simulator.fault(SLOW.parse().unwrap());
        self.hand_in(app, people, model).await;
        let since = Instant::now();
        while said() == before && since.elapsed() < NOTHING_COMES {
            tokio::time::sleep(MOMENT).await;
        }
        // The mail itself comes behind DATA.
        tokio::time::sleep(10 * MOMENT).await;
        self.crash(0, model).await
    }

    async fn come_back(&mut self) {
        if std::mem::take(&mut self.is_away) {
            self.simulator.come_back().await.unwrap();
        }
    }

    async fn hand_in(&self, app: App, people: &[Person], model: &mut Model) {
        let mail = model.mail(app, people);
        for (address, person) in mail.addresses.iter().zip(people) {
            if let Some(refusal) = person.refusal() {
                self.simulator.fault(format!("{refusal},to={address}").parse().unwrap());
            }
        }
        let (door, tag) = (self.running.relay.listeners()[0], mail.tag.clone());
        let reply = blocking(move || {
            let mut client = Client::greeted(door);
            let login = BASE64_STANDARD.encode(format!("\0{}\0any", app.name()));
            expect(&client.ask(&format!("AUTH PLAIN {login}")), "235");
            client.submit(SENDER, &mail.addresses, &mail.text)
        })
        .await;
        let (_, id) = reply.rsplit_once(' ').unwrap();
        model.taken(&tag, id.parse().unwrap());
    }

    async fn order(&self, order: Order, model: &mut Model) {
        let ops = self.ops();
        match order {
            Order::HoldAccount(mailbox) => ops.account_hold(&address(mailbox)).await.unwrap(),
            Order::ReleaseAccount(mailbox) => drop(ops.account_release(&address(mailbox)).await.unwrap()),
            Order::Move(mailbox) => {
                let order = MoveOrder { which: Selection::All, to: mailbox.to_owned() };
                ops.queue_move(&order).await.unwrap();
            }
            Order::HoldMail => drop(ops.queue_hold(Selection::All).await.unwrap()),
            Order::Decide => self.decide(model).await,
        }
    }

    /// A person lets go on whatever is held by itself. Not while it is under way: it might come to be in doubt between look and word.
    async fn decide(&self, model: &mut Model) {
        self.settle().await;
        let (mut released, mut retried) = (Vec::new(), Vec::new());
        for stored in self.queue().await.iter().filter(|stored| stored.state == MessageState::Held) {
            let has = |state| stored.recipients.iter().any(|row| row.state == state);
            if has(RecipientState::InDoubt) {
                model.decided(stored.id);
            }
            // A retry is one of those who were refused, too, who would be told of again.
            let ids = if has(RecipientState::Refused) { &mut released } else { &mut retried };
            ids.push(stored.id.to_string());
        }
        self.ops().queue_release(Selection::Ids(released)).await.unwrap();
        self.ops().queue_retry(Selection::Ids(retried)).await.unwrap();
    }

    /// Lets time pass, but not in the middle of an attempt, and not while a token is asked for: its end would be reckoned from another time
    /// than it was issued at.
    async fn pass(&self, span: Duration) {
        self.settle().await;
        self.clock.advance(span);
    }

    /// Waits until nothing is under way and nothing is due.
    async fn settle(&self) {
        let since = Instant::now();
        let (mut calm, mut still, mut happened) = (0, 0, self.simulator.statistics());
        while calm < CALM && still < STILL {
            assert!(since.elapsed() < REST, "never at rest: {:#?}", self.accounts().await);
            for mailbox in [MAILBOX, SECOND] {
                let _ = self.ops().sign_ins.token(&address(mailbox)).await;
            }
            let accounts = self.accounts().await;
            let is_idle = is_idle(&accounts);
            calm = if is_idle && !self.has_work(&accounts).await { calm + 1 } else { 0 };
            let now = self.simulator.statistics();
            still = if is_idle && now == happened { still + 1 } else { 0 };
            happened = now;
            tokio::time::sleep(MOMENT).await;
        }
    }

    /// Whether something is due, a login without mail too: it asks for a token.
    async fn has_work(&self, accounts: &[AccountStatus]) -> bool {
        let (queue, now) = (self.queue().await, self.clock.now());
        let is_due = |when: Option<Timestamp>| when.is_some_and(|when| when <= now);
        let waits = |stored: &&Stored| stored.state == MessageState::Waiting && stored.due_at <= now;
        accounts.iter().any(|account| {
            let carries =
                |stored: &Stored| stored.app == App::Pair.name() || stored.account.as_str() == account.mailbox;
            let has_mail = queue.iter().filter(waits).any(carries);
            match &account.hold {
                // What only mail shows waits for mail.
                Some(hold) => is_due(hold.probe_at) && (has_mail || hold.cause == "login"),
                None if account.pause.as_ref().is_some_and(|pause| pause.until > now) => false,
                None => has_mail || is_due(account.next_probe),
            }
        })
    }

    async fn accounts(&self) -> Vec<AccountStatus> {
        self.ops().status().await.unwrap().accounts
    }

    async fn queue(&self) -> Vec<Stored> {
        self.ops().store.list(None, 1000).await.unwrap()
    }

    /// What the relay says of each recipient and what Exchange has, at one moment at which nothing is under way.
    pub async fn look(&self, model: &Model) -> (Vec<Fate>, Vec<Accepted>) {
        loop {
            self.settle().await;
            let before = self.simulator.statistics();
            let look = (fates(&self.ops().store, model).await, self.simulator.accepted());
            if is_idle(&self.accounts().await) && self.simulator.statistics() == before {
                return look;
            }
        }
    }

    /// Nothing is at fault any more but the people who are not there, and a person has let go what waited for one: whatever can leave does.
    pub async fn end(&mut self, model: &mut Model) {
        self.come_back().await;
        self.simulator.clear_faults();
        for fault in model.refusals() {
            self.simulator.fault(fault.parse().unwrap());
        }
        for account in self.accounts().await {
            if account.hold.is_some_and(|hold| hold.cause == "manual") {
                self.ops().account_release(&address(&account.mailbox)).await.unwrap();
            }
        }
        for _ in 0..DAYS {
            self.decide(model).await;
            self.settle().await;
            let goes_on = |state| matches!(state, RecipientState::Waiting | RecipientState::InDoubt);
            let is_done = |stored: &Stored| !stored.recipients.iter().any(|row| goes_on(row.state));
            let has_left = self.queue().await.iter().all(is_done);
            if has_left && self.is_told(model).await {
                // Whoever is told twice is told later.
                self.clock.advance(A_DAY);
                self.settle().await;
                return;
            }
            self.clock.advance(if has_left { SOME_HOURS } else { A_DAY });
        }
        let (fates, accepted) = self.look(model).await;
        let wrong = model.check_notices(&fates, &accepted);
        panic!("{wrong:#?}, or this never left: {:#?}\n{:#?}", self.ops().queue_list().await, self.accounts().await);
    }

    /// Whether all who are refused have been told of. Who tells has its own time: a notice may have to be written still.
    async fn is_told(&self, model: &Model) -> bool {
        for _ in 0..150 {
            if model.check_notices(&fates(&self.ops().store, model).await, &self.simulator.accepted()).is_empty() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }
}

fn is_idle(accounts: &[AccountStatus]) -> bool {
    accounts.iter().all(|account| account.pace.under_way == 0)
}

fn address(mailbox: &str) -> Address {
    Address::parse(mailbox).unwrap()
}

/// Each recipient's state as it is on disk, and how often the journal has a doubt about the message.
async fn fates(store: &Store, model: &Model) -> Vec<Fate> {
    let mut fates = Vec::new();
    for (tag, id) in model.ids() {
        let rows = match store.message(id).await.unwrap() {
            Some(stored) => stored.recipients,
            None => store.archived(id).await.unwrap().unwrap_or_else(|| panic!("{tag} is lost")).recipients,
        };
        let journal = store.journal(id).await.unwrap();
        let doubts = journal.iter().filter(|line| line.text.contains("in doubt")).count();
        fates.extend(rows.into_iter().map(|row| {
            let (address, state) = (row.address.to_string(), row.state);
            Fate { tag: tag.clone(), address, state, doubts }
        }));
    }
    fates
}
