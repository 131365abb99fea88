//! Ten days without a sign-in, in simulated time: the real scheduler and the real store, with the clock in the test's hand.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use xoauth2_relay::config::{Config, Environment};
use xoauth2_relay::message::{Address, Body, Envelope, Lane, Protocol, QueueId, Trace};
use xoauth2_relay::schedule::{Action, Counted, Event, Outcome, Proved, Scheduler};
use xoauth2_relay::store::{
    Change, Hold, HoldCause, Incoming, Next, RecipientState, RecipientUpdate, Record, Sent, Store,
};

use crate::support::{MAILBOX, mailbox};

const DAYS: u32 = 10;
const EVERY: Duration = Duration::from_mins(10);
/// Word for word.
const ERROR: &str = "AADSTS50173: The provided grant has expired due to it being revoked";

struct Simulation {
    config: Config,
    store: Store,
    scheduler: Scheduler,
    now: Timestamp,
    is_signed_in: bool,
    left: Vec<(QueueId, Lane)>,
    probes: u32,
}

#[tokio::test]
async fn nothing_is_lost_or_given_up_and_all_of_it_leaves_after_the_login_oldest_first() {
    let start = Timestamp::from_second(1_795_000_000).unwrap();
    let text = format!(
        "[[account]]\nmailbox = \"{MAILBOX}\"\nprovider = \"custom\"\nclient_id = \"relay\"\n\
         token_url = \"http://127.0.0.1/token\"\nsmtp = \"localhost:587\"\n[queue]\ngive_up_after = \"5d\"\n"
    );
    let config = Config::from_text(&text, "relay.toml", &Environment::default()).unwrap();
    let mut simulation = Simulation {
        store: Store::in_memory(None).unwrap(),
        scheduler: Scheduler::new(&config, Vec::new(), &[], false, start),
        config,
        now: start,
        is_signed_in: false,
        left: Vec::new(),
        probes: 0,
    };
    simulation.on(Event::Held(sign_in_is_dead(start))).await;

    let mut accepted = Vec::new();
    let login_at = start + Duration::from_hours(24) * DAYS;
    while simulation.now < login_at {
        accepted.push(simulation.accept(accepted.len()).await);
        simulation.run_until(simulation.now + EVERY).await;
        // In the night of the fifth day the machine is restarted.
        if accepted.len() == 700 {
            simulation.restart().await;
        }
    }
    assert!(simulation.left.is_empty(), "nothing leaves without a sign-in");
    assert!(simulation.probes > 200, "and it was tried all the time: {}", simulation.probes);
    let waiting = simulation.store.list(None, 10_000).await.unwrap();
    assert_eq!(waiting.len(), accepted.len(), "nothing is refused, nothing bounced");
    for message in &waiting {
        assert_eq!((message.tries, message.tried_for), (0, Duration::ZERO), "give_up_after has not begun");
        assert_eq!(message.recipients[0].state, RecipientState::Waiting);
    }
    let held = simulation.store.holds().await.unwrap();
    assert_eq!((held.len(), held[0].since, held[0].error.as_deref()), (1, start, Some(ERROR)));

    simulation.is_signed_in = true;
    simulation.on(Event::SignedIn { account: mailbox() }).await;
    assert!(simulation.store.holds().await.unwrap().is_empty());
    let enough = Duration::from_mins(1) * (u32::try_from(accepted.len()).unwrap() / 29 + 10);
    simulation.run_until(simulation.now + enough).await;
    assert!(simulation.store.list(None, 10).await.unwrap().is_empty(), "everything has left");
    assert_eq!(simulation.left.len(), accepted.len(), "each once");
    for lane in [Lane::Urgent, Lane::Normal, Lane::Bulk] {
        let left: Vec<QueueId> = simulation.left.iter().filter(|(_, of)| *of == lane).map(|(id, _)| *id).collect();
        assert_eq!(left.len(), accepted.len() / 3);
        assert!(left.is_sorted(), "oldest first within {lane:?}");
    }
}

fn sign_in_is_dead(since: Timestamp) -> Hold {
    Hold {
        account: mailbox(),
        cause: HoldCause::SignIn,
        reply: None,
        error: Some(ERROR.to_owned()),
        codes: vec![50173],
        since,
        probe_at: None,
        probes: 0,
    }
}

fn lane(n: usize) -> Lane {
    [Lane::Urgent, Lane::Normal, Lane::Bulk][n % 3]
}

impl Simulation {
    async fn accept(&mut self, n: usize) -> QueueId {
        let id = self.store.next_id(self.now);
        let incoming = Incoming {
            id,
            received_at: self.now,
            app: "default".to_owned(),
            account: mailbox(),
            lane: lane(n),
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
        // The announcement was lost: the store knows.
        self.on(Event::Overflowed).await;
        id
    }

    async fn restart(&mut self) {
        let holds = self.store.holds().await.unwrap();
        self.scheduler = Scheduler::new(&self.config, holds, &[], false, self.now);
        self.on(Event::Woken).await;
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
                self.probes += 1;
                Some(Event::Probed { account, result: Err(ERROR.to_owned()) })
            }
            Action::Prove(account) => Some(Event::Proved { account, result: Proved::Taken(self.now) }),
            Action::Hold { hold, .. } => {
                self.store.commit(Change::Hold(Box::new(hold))).await.unwrap();
                None
            }
            Action::Release { account, at, why } => {
                self.store.commit(Change::Release { account, at, why }).await.unwrap();
                None
            }
            Action::Wake(..) => panic!("the clock has not gone back"),
        }
    }

    async fn attempt(&mut self, id: QueueId) -> Outcome {
        assert!(self.is_signed_in, "an attempt without a sign-in");
        let stored = self.store.message(id).await.unwrap().expect("it waits");
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
        self.left.push((id, stored.lane));
        Outcome::Answered { sent: Some(Counted::new(self.now, 1)), again: None, throttled: None }
    }
}
