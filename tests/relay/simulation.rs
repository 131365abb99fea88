//! Days and weeks within a moment: the real scheduler and the real store, with the clock in the test's hand, before an Exchange that takes
//! every message, unless the test has put something in the way.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use xoauth2_relay::config::{Config, Environment};
use xoauth2_relay::message::{Lane, QueueId};
use xoauth2_relay::schedule::{Action, Counted, Event, Outcome, Proved, Scheduler};
use xoauth2_relay::store::{Change, Flow, Next, RecipientState, RecipientUpdate, Record, Sent, Store, Waiting};

use crate::support::{MAILBOX, incoming, mailbox};

/// What is in the way of every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The sign-in is dead; in the words of the token endpoint.
    NoSignIn(&'static str),
    /// Exchange cannot be reached.
    NoExchange,
}

/// A message that has left.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    pub id: QueueId,
    pub lane: Lane,
    pub at: Timestamp,
}

pub struct Simulation {
    pub store: Store,
    pub now: Timestamp,
    pub obstacle: Option<Obstacle>,
    /// In this order.
    pub left: Vec<Left>,
    /// How often a message was tried although Exchange could not be reached.
    pub in_vain: usize,
    /// How often the dead sign-in was tried.
    pub probes: usize,
    config: Config,
    scheduler: Scheduler,
}

impl Simulation {
    /// One account and an empty queue.
    pub fn start(obstacle: Obstacle) -> Self {
        let now = Timestamp::from_second(1_795_000_000).unwrap();
        let text = format!(
            "[[account]]\nmailbox = \"{MAILBOX}\"\nprovider = \"custom\"\nclient_id = \"relay\"\n\
             token_url = \"http://127.0.0.1/token\"\nsmtp = \"localhost:587\"\n[queue]\ngive_up_after = \"5d\"\n"
        );
        let config = Config::from_text(&text, "relay.toml", &Environment::default()).unwrap();
        Self {
            store: Store::in_memory(None).unwrap(),
            now,
            obstacle: Some(obstacle),
            left: Vec::new(),
            in_vain: 0,
            probes: 0,
            scheduler: Scheduler::new(&config, Vec::new(), &[], false, now),
            config,
        }
    }

    /// A message is taken and stored; the scheduler is not told of it.
    pub async fn accept(&mut self, lane: Lane) -> QueueId {
        let id = self.store.next_id(self.now);
        let mail = incoming(id, self.now, lane, "you@example.com", Bytes::from_static(b"\r\n"));
        self.store.commit(Change::Accept(Box::new(mail))).await.expect("nothing is refused");
        id
    }

    /// The machine is restarted: what was in memory is gone.
    pub async fn restart(&mut self) {
        let holds = self.store.holds().await.unwrap();
        self.scheduler = Scheduler::new(&self.config, holds, &[], false, self.now);
        self.on(Event::Woken).await;
    }

    /// Lets time pass.
    pub async fn run_until(&mut self, end: Timestamp) {
        while let Some(wake) = self.scheduler.next_wake(self.now)
            && wake <= end
        {
            self.now = wake.max(self.now + Duration::from_millis(1));
            self.on(Event::Woken).await;
        }
        self.now = self.now.max(end);
    }

    /// Lets so much time pass that so many messages leave within the pace.
    pub async fn run_until_all_may_have_left(&mut self, messages: usize) {
        let enough = Duration::from_mins(1) * (u32::try_from(messages).unwrap() / 29 + 10);
        self.run_until(self.now + enough).await;
    }

    /// Carries out what the scheduler decides, until there is nothing more to do at this instant.
    pub async fn on(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.scheduler.on(event, self.now) {
                events.extend(self.carry_out(action).await);
            }
        }
    }

    async fn carry_out(&mut self, action: Action) -> Option<Event> {
        match action {
            Action::Load(account, load) => {
                let asked = load.clone();
                let heads = self.store.heads(&account, load.flows.clone(), move |flows| asked.limit(flows));
                let heads = Some(heads.await.unwrap());
                Some(Event::Loaded { account, load, heads })
            }
            Action::Attempt(account, id) => {
                let outcome = self.attempt(id).await;
                Some(Event::Finished { account, id, outcome })
            }
            Action::Probe(account) => {
                let Some(Obstacle::NoSignIn(error)) = self.obstacle else { panic!("nothing is to be probed") };
                self.probes += 1;
                Some(Event::Probed { account, result: Err(error.to_owned()) })
            }
            Action::Prove(account) => {
                let result = match self.obstacle {
                    Some(Obstacle::NoExchange) => Proved::Failed("connection refused".to_owned()),
                    Some(Obstacle::NoSignIn(_)) | None => Proved::Taken(self.now),
                };
                Some(Event::Proved { account, result })
            }
            Action::Hold { hold, .. } => {
                assert!(matches!(self.obstacle, Some(Obstacle::NoSignIn(_))), "nobody asked for {hold:?}");
                self.store.commit(Change::Hold(Box::new(hold))).await.unwrap();
                None
            }
            Action::Release { account, at, why } => {
                assert!(!self.store.holds().await.unwrap().is_empty(), "nothing is held");
                self.store.commit(Change::Release { account, at, why }).await.unwrap();
                None
            }
            Action::Wake(..) => panic!("the clock has not gone back"),
        }
    }

    async fn attempt(&mut self, id: QueueId) -> Outcome {
        let stored = self.store.message(id).await.unwrap().expect("it waits");
        match self.obstacle {
            Some(Obstacle::NoSignIn(_)) => panic!("an attempt without a sign-in"),
            Some(Obstacle::NoExchange) => {
                self.in_vain += 1;
                let flow = Flow::new(&stored.app, stored.lane);
                let again = Waiting { id, due_at: stored.due_at, recipients: 1, flow };
                Outcome::Unreachable { again, error: "connection refused".to_owned(), retry_at: None }
            }
            None => {
                self.accepted(id).await;
                self.left.push(Left { id, lane: stored.lane, at: self.now });
                Outcome::Answered { sent: Some(Counted::new(self.now, 1)), again: None, throttled: None }
            }
        }
    }

    /// Writes down that Exchange has it.
    async fn accepted(&self, id: QueueId) {
        let reply = "250 2.0.0 OK".to_owned();
        let record = Record {
            id,
            account: mailbox(),
            at: self.now,
            recipients: vec![RecipientUpdate { index: 0, state: RecipientState::Accepted, reply }],
            next: Next::Archive,
            sent: Some(Sent { login: mailbox(), at: self.now, recipients: 1, outside: 0 }),
            journal: "accepted by Exchange".to_owned(),
        };
        self.store.commit(Change::Record(Box::new(record))).await.unwrap();
    }
}
