//! The task with a real store and a far side that answers when the test says so.

use jiff::Timestamp;
use tokio::task::JoinHandle;

use super::*;
use crate::config::{Account, testing};
use crate::message::Lane;
use crate::store::samples::{self, lms};
use crate::store::{Flow, HoldCause, Incoming, MessageState, RecipientState};

/// Sessions of the account, so many attempts are under way at once.
const UNDER_WAY: usize = 3;
/// How long a condition is waited for before the test gives up: long, since machines are busy, and never waited out.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks the test what becomes of each attempt.
struct Scripted {
    asked: mpsc::UnboundedSender<Asked>,
}

/// An attempt under way. It ends with the answer, or with a panic when this is dropped.
#[derive(Debug)]
struct Asked {
    id: QueueId,
    answer: oneshot::Sender<Outcome>,
}

impl Courier for Scripted {
    async fn attempt(&self, _: Address, id: QueueId) -> Outcome {
        let (answer, answered) = oneshot::channel();
        self.asked.send(Asked { id, answer }).unwrap();
        answered.await.expect("the panic that the test wants")
    }

    async fn probe(&self, _: Address) -> Result<(), String> {
        Err("nobody probes here".to_owned())
    }

    async fn prove(&self, _: Address) -> Proved {
        Proved::Taken(Timestamp::now())
    }
}

impl Asked {
    fn answer(self, outcome: Outcome) {
        self.answer.send(outcome).unwrap();
    }

    fn number(&self) -> i64 {
        self.id.number()
    }
}

/// A task that runs, and all that it works with.
struct Bench {
    store: Store,
    clock: Clock,
    inbox: Inbox,
    asked: mpsc::UnboundedReceiver<Asked>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Bench {
    /// The task has nothing to do but what is in the store.
    fn start(store: &Store) -> Self {
        // The clock stands still: all that a test sends has to fit into the burst, which is a 6000th of this.
        let messages_per_minute = 60_000_000;
        let account = Account { messages_per_minute, ..testing::account(LMS, LMS) };
        let clock = Clock::manual(start());
        let scheduler = Scheduler::new(&testing::config(vec![account]), Vec::new(), &[], false, clock.now());
        let ((inbox, letters), (asked_in, asked)) = (inbox(), mpsc::unbounded_channel());
        let desk = Desk {
            store: store.clone(),
            courier: Arc::new(Scripted { asked: asked_in }),
            clock: clock.clone(),
            feed: Feed::default(),
            inbox: inbox.clone(),
        };
        let stop = CancellationToken::new();
        let task = tokio::spawn(run(desk, scheduler, letters, stop.clone()));
        Self { store: store.clone(), clock, inbox, asked, stop, task }
    }

    /// The next attempt.
    async fn next(&mut self) -> Asked {
        let next = tokio::time::timeout(PATIENCE, self.asked.recv()).await;
        next.expect("nothing is tried").expect("the courier is there")
    }

    /// Attempts until all places are taken.
    async fn all_under_way(&mut self) -> Vec<Asked> {
        let mut under_way = Vec::new();
        while under_way.len() < UNDER_WAY {
            under_way.push(self.next().await);
        }
        under_way
    }

    /// The far side takes it.
    async fn settle(&self, asked: Asked) {
        let accepted = samples::record(0, 0, &[(0, RecipientState::Accepted)], Next::Archive);
        let record = Record { id: asked.id, at: self.clock.now(), ..accepted };
        self.store.commit(Change::Record(Box::new(record))).await.unwrap();
        asked.answer(done());
    }

    /// Where the one account stands.
    async fn standing(&self) -> Standing {
        let standings = tokio::time::timeout(PATIENCE, self.inbox.standings()).await;
        let [standing] = standings.expect("the task does not answer").try_into().expect("the task has ended");
        standing
    }

    async fn until_under_way(&self, count: usize) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while self.standing().await.under_way != count {
                tokio::task::yield_now().await;
            }
        });
        assert!(waited.await.is_ok(), "never {count} under way: {:?}", self.standing().await);
    }

    /// Stops the task; what it still wanted to do.
    async fn stop(mut self) -> Vec<Asked> {
        self.stop.cancel();
        self.ended().await;
        std::iter::from_fn(|| self.asked.try_recv().ok()).collect()
    }

    async fn ended(&mut self) {
        tokio::time::timeout(PATIENCE, &mut self.task).await.expect("the task does not end").unwrap();
    }
}

const LMS: &str = "lms@contoso.com";

fn start() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

fn waiting(n: i64) -> Waiting {
    Waiting { id: QueueId::from_number(n), due_at: start(), recipients: 1, flow: Flow::new("moodle", Lane::Normal) }
}

fn done() -> Outcome {
    Outcome::Answered { sent: None, again: None, throttled: None }
}

/// A store with these messages in it, all due.
async fn store_of(numbers: impl IntoIterator<Item = i64>) -> Store {
    let store = Store::in_memory(None).unwrap();
    for n in numbers {
        accept(&store, n).await;
    }
    store
}

async fn accept(store: &Store, n: i64) {
    let incoming = samples::incoming(0, &["you@example.com"]);
    let incoming = Incoming { id: QueueId::from_number(n), received_at: start(), ..incoming };
    store.commit(Change::Accept(Box::new(incoming))).await.unwrap();
}

fn sorted(asked: &[Asked]) -> Vec<i64> {
    let mut numbers: Vec<i64> = asked.iter().map(Asked::number).collect();
    numbers.sort_unstable();
    numbers
}

/// More than the window holds, so that the store is asked more than once.
#[tokio::test]
async fn what_is_in_the_store_at_the_start_is_sent_each_once() {
    let numbers: Vec<i64> = (1..=1200).collect();
    let mut bench = Bench::start(&store_of(numbers.clone()).await);
    let mut sent = Vec::new();
    while sent.len() < numbers.len() {
        let asked = bench.next().await;
        sent.push(asked.number());
        bench.settle(asked).await;
    }
    sent.sort_unstable();
    assert_eq!(sent, numbers);
    bench.until_under_way(0).await;
    assert!(bench.stop().await.is_empty(), "nothing was tried twice");
}

/// The test's runtime has one thread: without an `await` in between, the task cannot take anything out of its letter box. Announcements
/// of an account that does not exist fill it without filling a window, which would ask the store for a reason of its own.
#[tokio::test]
async fn a_message_whose_announcement_found_the_letter_box_full_is_sent() {
    let mut bench = Bench::start(&store_of([1]).await);
    let first = bench.next().await;
    bench.settle(first).await;
    bench.until_under_way(0).await;
    accept(&bench.store, 2).await;
    let nobody = Address::parse("nobody@contoso.com").unwrap();
    for n in 0..i64::try_from(ANNOUNCEMENTS).unwrap() {
        bench.inbox.accepted(nobody.clone(), waiting(1_000 + n));
    }
    assert!(!bench.inbox.overflowed.load(Ordering::Acquire), "it is just full");
    bench.inbox.accepted(lms(), waiting(2));
    assert!(bench.inbox.overflowed.load(Ordering::Acquire), "now something is lost");
    let second = bench.next().await;
    assert_eq!(second.number(), 2);
    bench.settle(second).await;
    assert!(bench.stop().await.is_empty());
}

/// As many as there are places, so that a place that is not given back stops the rest.
#[tokio::test]
async fn an_attempt_that_panics_holds_its_message_and_the_others_go_on() {
    let mut bench = Bench::start(&store_of(1..=6).await);
    let panicking = bench.all_under_way().await;
    let held = sorted(&panicking);
    drop(panicking);
    let others = bench.all_under_way().await;
    assert_eq!(sorted(&others), (1..=6).filter(|n| !held.contains(n)).collect::<Vec<_>>());
    for asked in others {
        bench.settle(asked).await;
    }
    bench.until_under_way(0).await;
    for &n in &held {
        let id = QueueId::from_number(n);
        let stored = bench.store.message(id).await.unwrap().expect("a held message is kept");
        assert_eq!(stored.state, MessageState::Held);
        let journal = bench.store.journal(id).await.unwrap();
        assert!(journal.last().unwrap().text.starts_with("held: the attempt failed within the relay"), "{journal:?}");
    }
    // The account itself goes on.
    assert_eq!(bench.standing().await.hold, None);
    accept(&bench.store, 7).await;
    bench.inbox.accepted(lms(), waiting(7));
    let seventh = bench.next().await;
    assert_eq!(seventh.number(), 7);
    bench.settle(seventh).await;
    assert!(bench.stop().await.is_empty(), "what panicked is not tried again");
}

#[tokio::test]
async fn a_stop_waits_for_the_attempts_under_way_and_begins_no_new_ones() {
    let mut bench = Bench::start(&store_of(1..=6).await);
    let mut under_way = bench.all_under_way().await;
    bench.stop.cancel();
    // The task meets the stop in one of these rounds, and goes on answering.
    for _ in 0..100 {
        bench.standing().await;
    }
    let last = under_way.pop().unwrap();
    for asked in under_way {
        bench.settle(asked).await;
    }
    for _ in 0..100 {
        bench.standing().await;
        assert!(!bench.task.is_finished(), "it has left an attempt alone");
    }
    // What the last one brings is still written.
    let reply = Some("535 5.7.3 Authentication unsuccessful".to_owned());
    let hold = Hold { reply, ..samples::hold(HoldCause::Login, start()) };
    last.answer(Outcome::Held { again: waiting(3), hold });
    bench.ended().await;
    assert_eq!(bench.store.holds().await.unwrap().len(), 1);
    assert!(bench.asked.try_recv().is_err(), "an attempt was begun after the stop");
    let heads = bench.store.heads(&lms(), None, |_| 10).await.unwrap();
    assert_eq!(heads[0].messages.len(), 4, "the rest waits for the next start");
}

/// The clock moves and somebody asks in the same instant, so that the task finds both at once. Many rounds: it takes either first.
#[tokio::test]
async fn a_message_is_tried_again_when_it_is_due_however_often_somebody_asks_for_standings() {
    let mut bench = Bench::start(&store_of([1]).await);
    let inbox = bench.inbox.clone();
    let asking = tokio::spawn(async move { while !inbox.standings().await.is_empty() {} });
    let wait = Duration::from_millis(50);
    for _ in 0..100 {
        let asked = bench.next().await;
        let again = Waiting { due_at: bench.clock.now() + wait, ..waiting(1) };
        asked.answer(Outcome::Answered { sent: None, again: Some(again), throttled: None });
        bench.until_under_way(0).await;
        bench.clock.advance(wait);
    }
    let asked = bench.next().await;
    bench.settle(asked).await;
    assert!(bench.stop().await.is_empty());
    asking.await.unwrap();
}
