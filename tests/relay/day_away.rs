//! A day without Exchange, in simulated time: the real scheduler and the real store, with the clock in the test's hand.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use xoauth2_relay::config::{Config, Environment};
use xoauth2_relay::message::{Address, Body, Envelope, Lane, Protocol, QueueId, Trace};
use xoauth2_relay::schedule::{Action, Counted, Event, Outcome, Proved, Scheduler};
use xoauth2_relay::store::{
    Change, Flow, Incoming, Next, RecipientState, RecipientUpdate, Record, Sent, Store, Waiting,
};

use crate::support::{MAILBOX, mailbox};

const DAY: Duration = Duration::from_hours(24);
/// A busy site: a mail every 40 seconds.
const EVERY: Duration = Duration::from_secs(40);

struct Simulation {
    store: Store,
    scheduler: Scheduler,
    now: Timestamp,
    away_until: Timestamp,
    left: Vec<(Timestamp, QueueId)>,
    attempts_while_away: usize,
}

#[tokio::test]
async fn nothing_is_refused_or_lost_and_all_of_it_leaves_within_the_pace() {
    let start = Timestamp::from_second(1_795_000_000).unwrap();
    let config = Config::from_text(
        &format!(
            "[[account]]\nmailbox = \"{MAILBOX}\"\nprovider = \"custom\"\nclient_id = \"relay\"\n\
             token_url = \"http://127.0.0.1/token\"\nsmtp = \"localhost:587\"\n"
        ),
        "relay.toml",
        &Environment::default(),
    )
    .unwrap();
    let mut simulation = Simulation {
        store: Store::in_memory(None).unwrap(),
        scheduler: Scheduler::new(&config, Vec::new(), &[], false, start),
        now: start,
        away_until: start + DAY,
        left: Vec::new(),
        attempts_while_away: 0,
    };
    simulation.on(Event::Woken).await;

    let mut accepted = Vec::new();
    while simulation.now < simulation.away_until {
        accepted.push(simulation.accept().await);
        simulation.run_until(simulation.now + EVERY).await;
    }
    assert!(simulation.left.is_empty());
    assert!(simulation.attempts_while_away < 400, "{} attempts in vain", simulation.attempts_while_away);
    let waiting = simulation.store.list(None, 10_000).await.unwrap();
    assert_eq!(waiting.len(), accepted.len());
    assert!(waiting.iter().all(|message| message.tries == 0), "no message has lost a try");

    let back = simulation.now;
    let enough = Duration::from_mins(1) * (u32::try_from(accepted.len()).unwrap() / 29 + 10);
    simulation.run_until(back + enough).await;
    assert!(simulation.store.list(None, 10).await.unwrap().is_empty());
    let mut left: Vec<QueueId> = simulation.left.iter().map(|(_, id)| *id).collect();
    assert_eq!(left.len(), accepted.len(), "each leaves once");
    left.sort();
    assert_eq!(left, accepted, "and none is missing");
    for window in simulation.left.windows(31) {
        let span = window[30].0.duration_since(window[0].0);
        assert!(span.as_secs() >= 60, "31 messages within {span:?}");
    }
}

impl Simulation {
    async fn accept(&mut self) -> QueueId {
        let id = self.store.next_id(self.now);
        let incoming = Incoming {
            id,
            received_at: self.now,
            app: "default".to_owned(),
            account: mailbox(),
            lane: Lane::Normal,
            lane_why: None,
            outside: false,
            envelope: Envelope {
                sender: Some(mailbox()),
                recipients: vec![Address::parse("you@example.com").unwrap().into()],
                ..Envelope::default()
            },
            trace: Trace {
                peer: Ipv4Addr::LOCALHOST.into(),
                helo: None,
                protocol: Protocol { extended: true, tls: false, authenticated: false },
                user: None,
            },
            subject: None,
            size: 2,
            body: Body::Inline(Bytes::from_static(b"\r\n")),
        };
        self.store.commit(Change::Accept(Box::new(incoming))).await.expect("nothing is refused");
        let waiting = Waiting { id, due_at: self.now, recipients: 1, flow: Flow::new("default", Lane::Normal) };
        self.on(Event::Accepted { account: mailbox(), waiting }).await;
        id
    }

    async fn run_until(&mut self, end: Timestamp) {
        while let Some(wake) = self.scheduler.next_wake(self.now)
            && wake <= end
        {
            self.now = wake.max(self.now + Duration::from_millis(1));
            self.on(Event::Woken).await;
        }
        self.now = self.now.max(end);
    }

    /// Carries out what the scheduler decides, until there is nothing more to do at this instant.
    async fn on(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.scheduler.on(event, self.now) {
                match action {
                    Action::Load(account, load) => {
                        let asked = load.clone();
                        let heads = self.store.heads(&account, load.flows.clone(), move |flows| asked.limit(flows));
                        let heads = Some(heads.await.unwrap());
                        events.push_back(Event::Loaded { account, load, heads });
                    }
                    Action::Attempt(account, id) => {
                        let outcome = self.attempt(id).await;
                        events.push_back(Event::Finished { account, id, outcome });
                    }
                    Action::Prove(account) => {
                        let away = self.now < self.away_until;
                        let result = if away {
                            Proved::Failed("connection refused".to_owned())
                        } else {
                            Proved::Taken(self.now)
                        };
                        events.push_back(Event::Proved { account, result });
                    }
                    other => panic!("nobody asked for {other:?}"),
                }
            }
        }
    }

    async fn attempt(&mut self, id: QueueId) -> Outcome {
        let stored = self.store.message(id).await.unwrap().expect("it waits");
        if self.now < self.away_until {
            self.attempts_while_away += 1;
            let again = Waiting { id, due_at: stored.due_at, recipients: 1, flow: Flow::new("default", Lane::Normal) };
            return Outcome::Unreachable { again, error: "connection refused".to_owned(), retry_at: None };
        }
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
        self.left.push((self.now, id));
        Outcome::Answered { sent: Some(Counted::new(self.now, 1)), again: None, throttled: None }
    }
}
