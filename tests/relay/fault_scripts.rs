//! Whatever goes wrong, and in whatever order: every recipient that was taken ends delivered once, delivered more often only where a doubt is
//! marked, refused and told of to the sender once, or waiting. Nothing else.
//!
//! Each script is a random run of mails, faults, restarts and time that passes, on a clock of its own, against a model of a few lines. At its
//! end all faults are over, and whatever can leave has to. Many of them:
//!
//! ```text
//! ulimit -n 100000    # each relay leaves a file open, see store/sqlite/checkpoint.rs
//! FAULT_SCRIPTS=10000 cargo test --release --test relay fault_scripts -- --nocapture
//! ```
//!
//! `FAULT_SEED=N` repeats one that has failed.

mod model;
mod script;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tempfile::TempDir;
use xoauth2_relay::clock::Clock;
use xoauth2_relay::config::{Config, Environment, Secret};
use xoauth2_relay::ops::{AccountStatus, MessageDetail};
use xoauth2_relay::relay::Relay;
use xoauth2_relay::simulator::{Mailbox, Options, Simulator};

use self::model::{Fate, Model, SENDER, check_notices};
use self::script::{Script, Step};
use crate::support::{Client, LISTENER, MAILBOX, PATIENCE, blocking, configuration, mailbox, quick};

/// So many scripts in an ordinary run.
const SCRIPTS: u64 = 60;
/// So many at once.
const AT_ONCE: u64 = 16;
/// Longer than any wait between two tries or probes.
const A_DAY: Duration = Duration::from_hours(25);
/// What can leave has left after so many days without a fault.
const DAYS: usize = 12;

/// A relay and a Microsoft 365 with one clock, which only the script moves.
struct Stage {
    simulator: Simulator,
    relay: Relay,
    clock: Clock,
    folder: TempDir,
    is_away: bool,
}

impl Stage {
    async fn set() -> Self {
        let clock = Clock::manual(Timestamp::now());
        let now = clock.clone();
        let mailboxes = vec![Mailbox::new(MAILBOX)];
        let options = Options { now: Arc::new(move || now.now()), mailboxes, ..quick() };
        let simulator = Simulator::start(options).await.unwrap();
        let folder = TempDir::new().unwrap();
        let relay = relay(&simulator, &folder, &clock).await;
        let token = Secret::new(simulator.issue_refresh_token(MAILBOX));
        relay.ops().login_take_in(&mailbox(), token).await.unwrap();
        Self { simulator, relay, clock, folder, is_away: false }
    }

    async fn restart(self) -> Self {
        self.relay.stop().await;
        let relay = relay(&self.simulator, &self.folder, &self.clock).await;
        Self { relay, ..self }
    }

    async fn play(mut self, script: &Script, model: &mut Model) -> Self {
        for step in &script.steps {
            match step {
                Step::Mail(people) => self.hand_in(people, model).await,
                Step::Fault(text) => self.simulator.fault(text.parse().unwrap()),
                Step::Pass(span) => self.pass(*span).await,
                Step::Restart => self = self.restart().await,
                Step::Away if !self.is_away => {
                    self.simulator.go_away().await.unwrap();
                    self.is_away = true;
                }
                Step::Away => self.come_back().await,
            }
        }
        self
    }

    async fn come_back(&mut self) {
        if std::mem::take(&mut self.is_away) {
            self.simulator.come_back().await.unwrap();
        }
    }

    async fn hand_in(&self, people: &[script::Person], model: &mut Model) {
        let mail = model.mail(people);
        for (address, person) in mail.addresses.iter().zip(people) {
            if let Some(refusal) = person.refusal() {
                self.simulator.fault(format!("{refusal},to={address}").parse().unwrap());
            }
        }
        let (door, tag) = (self.relay.listeners()[0], mail.tag.clone());
        let reply = blocking(move || Client::greeted(door).submit(SENDER, &mail.addresses, &mail.text)).await;
        let (_, id) = reply.rsplit_once(' ').unwrap();
        model.taken(&tag, id.parse().unwrap());
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
        let mut calm = 0;
        while calm < 3 {
            assert!(since.elapsed() < PATIENCE, "never at rest: {:#?}", self.account().await);
            let _ = self.relay.ops().sign_ins.token(&mailbox()).await;
            let is_calm = self.account().await.pace.under_way == 0 && !self.has_work().await;
            calm = if is_calm { calm + 1 } else { 0 };
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Whether something is due, a login without mail too: it asks for a token.
    async fn has_work(&self) -> bool {
        let (account, now) = (self.account().await, self.clock.now());
        let queue = self.relay.ops().queue_list().await.unwrap();
        let has_mail = queue.iter().any(|message| message.due_at.is_some_and(|due_at| due_at <= now));
        let is_due = |when: Option<Timestamp>| when.is_some_and(|when| when <= now);
        match account.hold {
            // What only mail shows waits for mail.
            Some(hold) => is_due(hold.probe_at) && (has_mail || hold.cause == "login"),
            None if account.pause.is_some_and(|pause| pause.until > now) => false,
            None => has_mail || is_due(account.next_probe),
        }
    }

    async fn account(&self) -> AccountStatus {
        self.relay.ops().status().await.unwrap().accounts.remove(0)
    }

    /// Nothing is at fault any more but the people who are not there: whatever can leave does.
    async fn end(&mut self, model: &Model) {
        self.come_back().await;
        self.simulator.clear_faults();
        for fault in model.refusals() {
            self.simulator.fault(fault.parse().unwrap());
        }
        for _ in 0..DAYS {
            self.settle().await;
            let queue = self.relay.ops().queue_list().await.unwrap();
            if queue.iter().all(|message| message.state == "dead") && self.is_told(model).await {
                // Whoever is told twice is told later.
                self.clock.advance(A_DAY);
                self.settle().await;
                return;
            }
            self.clock.advance(A_DAY);
        }
        let wrong = check_notices(&self.fates(model).await, &self.simulator.accepted());
        panic!(
            "{wrong:#?}, or this never left: {:#?}\n{:#?}",
            self.relay.ops().queue_list().await,
            self.account().await
        );
    }

    /// Whether the sender has been told of all who are refused. Who tells has its own time: a notice may have to be written still.
    async fn is_told(&self, model: &Model) -> bool {
        for _ in 0..50 {
            if check_notices(&self.fates(model).await, &self.simulator.accepted()).is_empty() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        false
    }

    /// Each recipient's state as the relay tells it, and how often the journal has a doubt about the message.
    async fn fates(&self, model: &Model) -> Vec<Fate> {
        let mut fates = Vec::new();
        for (tag, id) in model.ids() {
            let MessageDetail { message, journal } = self.relay.ops().queue_show(id).await.unwrap();
            let doubts = journal.iter().filter(|line| line.text.contains("in doubt")).count();
            for recipient in message.recipients {
                let (address, state) = (recipient.address, recipient.state);
                fates.push(Fate { tag: tag.clone(), address, state, doubts });
            }
        }
        fates
    }
}

async fn relay(simulator: &Simulator, folder: &TempDir, clock: &Clock) -> Relay {
    let text = configuration(simulator, folder.path(), LISTENER);
    let config = Config::from_text(&text, "relay.toml", &Environment::default()).unwrap();
    Relay::start(config, Environment::default(), clock.clone()).await.unwrap()
}

/// Plays one script; what is wrong with how it ended.
async fn run(script: &Script) -> Vec<String> {
    let mut model = Model::default();
    let mut stage = Stage::set().await.play(script, &mut model).await;
    let mut wrong = Vec::new();
    // Also as things stand in the middle of it.
    stage.settle().await;
    wrong.extend(model.check(&stage.fates(&model).await, &stage.simulator.accepted(), false));
    stage.end(&model).await;
    wrong.extend(model.check(&stage.fates(&model).await, &stage.simulator.accepted(), true));
    wrong.extend(check_notices(&stage.fates(&model).await, &stage.simulator.accepted()));
    stage.relay.stop().await;
    stage.simulator.stop().await;
    wrong
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_goes_wrong_every_recipient_gets_the_mail_once_or_is_accounted_for() {
    let (first, scripts) = match number("FAULT_SEED") {
        Some(seed) => (seed, 1),
        None => (rand::random::<u32>().into(), number("FAULT_SCRIPTS").unwrap_or(SCRIPTS)),
    };
    let next = Arc::new(AtomicU64::new(0));
    let worker = |next: Arc<AtomicU64>| async move {
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if n >= scripts {
                return;
            }
            let script = Script::of_seed(first + n);
            let wrong = tokio::spawn(async move { run(&script).await }).await;
            let script = Script::of_seed(first + n);
            let wrong = wrong.unwrap_or_else(|panic| vec![panic.to_string()]);
            assert!(wrong.is_empty(), "FAULT_SEED={}\n{script:#?}\n{wrong:#?}", first + n);
            if (n + 1).is_multiple_of(500) {
                println!("{} scripts", n + 1);
            }
        }
    };
    let workers: Vec<_> = (0..AT_ONCE.min(scripts)).map(|_| tokio::spawn(worker(next.clone()))).collect();
    for worker in workers {
        worker.await.unwrap();
    }
    println!("{scripts} scripts from seed {first} on, all accounted for");
}
