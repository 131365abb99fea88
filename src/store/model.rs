//! Random histories, in the store and in a model of a few lines of Rust: both have to end up the same.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use super::samples::{accept, accepted, address, at, hold, id, incoming, lms, record};
use super::*;
use crate::message::{Lane, OriginalRecipient, Recipient};

const IDS: u32 = 5;
const RECIPIENTS: usize = 3;
/// The first three are whom a message is for when it comes.
const ADDRESSES: [&str; 4] = ["a@example.com", "b@example.com", "c@example.com", "d@example.com"];

#[derive(Clone, Debug)]
enum Step {
    Accept(u32),
    Record(u32, Vec<(usize, RecipientState)>, Next, bool),
    Retry(Vec<u32>),
    Delete(Vec<u32>),
    Move(Vec<u32>, bool),
    Lane(Vec<u32>, Lane),
    Outside(Vec<u32>, bool),
    HoldMessages(Vec<u32>),
    ReleaseMessages(Vec<u32>),
    GiveUp(Vec<u32>),
    Readdress(u32, usize, usize),
    Hold(HoldCause),
    Release,
    Tell(Vec<(u32, usize)>, Told),
    ForgetDead,
}

/// What is decided about refusals.
#[derive(Clone, Copy, Debug)]
enum Told {
    Done,
    Later,
    Nobody,
}

/// The store as maps.
#[derive(Default)]
struct Model {
    messages: BTreeMap<u32, Stored>,
    archive: BTreeMap<u32, Archived>,
    hold: Option<HoldCause>,
    dead_since: BTreeMap<u32, i64>,
    sent: u64,
    /// Refused recipients and when somebody is to be told; `None`: nobody can be.
    to_tell: BTreeMap<(u32, usize), Option<i64>>,
}

fn erp() -> Address {
    address("erp@contoso.com")
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    use RecipientState::{Accepted, Held, InDoubt, Refused, Waiting};

    let n = 0..IDS;
    let ids = prop::collection::vec(0..IDS, 1..3);
    let state = prop::sample::select(vec![Waiting, Held, InDoubt, Refused, Accepted, Accepted]);
    let updates = prop::collection::vec((0..RECIPIENTS + 1, state), 0..4);
    let wait = (0..100i64, 0..9u32).prop_map(|(due, tries)| {
        let tried_for = Duration::from_millis(u64::from(tries) * 1001);
        Next::Wait { due_at: at(due), tries, tried_for }
    });
    let next = prop_oneof![3 => wait, 3 => Just(Next::Archive), 1 => Just(Next::Dead), 1 => Just(Next::Hold)];
    let refusals = prop::collection::vec((0..IDS, 0..RECIPIENTS), 1..4);
    let told = prop::sample::select(vec![Told::Done, Told::Done, Told::Later, Told::Nobody]);
    let cause = prop::sample::select(vec![HoldCause::Login, HoldCause::Manual]);
    let step = prop_oneof![
        4 => n.clone().prop_map(Step::Accept),
        6 => (n, updates, next, any::<bool>()).prop_map(|(n, updates, next, sent)| Step::Record(n, updates, next, sent)),
        1 => ids.clone().prop_map(Step::Retry),
        1 => ids.clone().prop_map(Step::Delete),
        1 => (ids.clone(), any::<bool>()).prop_map(|(ids, back)| Step::Move(ids, back)),
        1 => (ids.clone(), prop::sample::select(&Lane::ALL[..])).prop_map(|(ids, lane)| Step::Lane(ids, lane)),
        2 => (ids.clone(), any::<bool>()).prop_map(|(ids, outside)| Step::Outside(ids, outside)),
        1 => ids.clone().prop_map(Step::HoldMessages),
        1 => ids.clone().prop_map(Step::ReleaseMessages),
        1 => ids.prop_map(Step::GiveUp),
        1 => (0..IDS, 0..ADDRESSES.len(), 0..ADDRESSES.len()).prop_map(|(n, from, to)| Step::Readdress(n, from, to)),
        1 => cause.prop_map(Step::Hold),
        1 => Just(Step::Release),
        2 => (refusals, told).prop_map(|(refusals, told)| Step::Tell(refusals, told)),
        1 => Just(Step::ForgetDead),
    ];
    prop::collection::vec(step, 1..40)
}

fn change(step: &Step, now: i64) -> Change {
    let ids = |ids: &[u32]| ids.iter().map(|&n| id(n)).collect();
    let at = at(now);
    match step {
        Step::Accept(n) => accept(*n, &["a@example.com", "b@example.com", "c@example.com"]),
        Step::Record(n, updates, next, sent) => {
            let mut record = record(*n, now, updates, next.clone());
            record.sent = sent.then(|| Sent { login: lms(), at, recipients: 1, outside: 1 });
            Change::Record(Box::new(record))
        }
        Step::Retry(them) => Change::Retry { ids: ids(them), at },
        Step::Delete(them) => Change::Delete { ids: ids(them), at },
        Step::Move(them, back) => Change::Move { ids: ids(them), account: if *back { lms() } else { erp() }, at },
        Step::Lane(them, lane) => Change::Lane { ids: ids(them), lane: *lane, why: format!("at {now}"), at },
        Step::Outside(them, outside) => Change::Outside { ids: ids(them), outside: *outside },
        Step::HoldMessages(them) => Change::HoldMessages { ids: ids(them), at },
        Step::ReleaseMessages(them) => Change::ReleaseMessages { ids: ids(them), at },
        Step::GiveUp(them) => Change::GiveUp { ids: ids(them), at, why: "test".to_owned() },
        Step::Readdress(n, from, to) => {
            let (from, to) = (address(ADDRESSES[*from]), address(ADDRESSES[*to]));
            Change::Readdress { id: id(*n), from, to, at }
        }
        Step::Hold(cause) => Change::Hold(Box::new(hold(*cause, at))),
        Step::Tell(refusals, told) => {
            let telling = match told {
                Told::Done => Telling::Done,
                Told::Later => Telling::At(samples::at(now + 5)),
                Told::Nobody => Telling::Nobody,
            };
            let refusal = |&(n, index): &(u32, usize)| Refusal { message: id(n), index, telling };
            let refusals = refusals.iter().map(refusal).collect();
            Change::Tell(Box::new(Tell { refusals, at, ..Tell::default() }))
        }
        Step::Release => Change::Release { account: lms(), at, why: "test".to_owned() },
        Step::ForgetDead => {
            let before = samples::at(now - 10);
            Change::Forget { journal_before: samples::at(0), dead_before: before, sent_before: samples::at(0) }
        }
    }
}

impl Model {
    /// Whether the store has to take it.
    fn apply(&mut self, step: &Step, now: i64) -> bool {
        match step {
            Step::Accept(n) => return self.accept(*n),
            Step::Record(n, updates, next, sent) => {
                self.sent += u64::from(*sent);
                self.record(*n, updates, next, now);
            }
            Step::Retry(ids) => ids.iter().for_each(|n| self.retry(*n, now)),
            Step::Delete(ids) => ids.iter().for_each(|n| self.archive(*n, now, Ending::Deleted, None)),
            Step::Move(ids, back) => {
                for n in ids {
                    if let Some(stored) = self.messages.get_mut(n) {
                        stored.account = if *back { lms() } else { erp() };
                    }
                }
            }
            Step::Lane(ids, lane) => {
                for n in ids {
                    if let Some(stored) = self.messages.get_mut(n) {
                        (stored.lane, stored.lane_why) = (*lane, Some(format!("at {now}")));
                    }
                }
            }
            Step::Outside(ids, outside) => {
                for n in ids {
                    if let Some(stored) = self.messages.get_mut(n) {
                        stored.outside = *outside;
                    }
                }
            }
            Step::HoldMessages(ids) => ids.iter().for_each(|n| self.hold_message(*n)),
            Step::ReleaseMessages(ids) => ids.iter().for_each(|n| self.release_message(*n, now)),
            Step::GiveUp(ids) => ids.iter().for_each(|n| self.give_up(*n, now)),
            Step::Readdress(n, from, to) => self.readdress(*n, ADDRESSES[*from], ADDRESSES[*to], now),
            Step::Hold(cause) => self.hold = Some(*cause),
            Step::Release => self.hold = None,
            Step::Tell(refusals, told) => refusals.iter().for_each(|refusal| self.tell(*refusal, *told, now)),
            Step::ForgetDead => {
                let old: Vec<u32> = self.dead_since.iter().filter(|&(_, &at)| at < now - 10).map(|(n, _)| *n).collect();
                for n in old {
                    self.settled(n);
                    self.messages.remove(&n);
                    self.dead_since.remove(&n);
                }
            }
        }
        true
    }

    fn accept(&mut self, n: u32) -> bool {
        if self.messages.contains_key(&n) {
            return false;
        }
        let given = incoming(n, &["a@example.com", "b@example.com", "c@example.com"]);
        self.messages.insert(n, accepted(given));
        true
    }

    fn record(&mut self, n: u32, updates: &[(usize, RecipientState)], next: &Next, now: i64) {
        let Some(stored) = self.messages.get_mut(&n) else { return };
        for &(index, state) in updates {
            if let Some(row) = stored.recipients.get_mut(index)
                && row.state != RecipientState::Accepted
            {
                match (row.state, state) {
                    (RecipientState::Refused, RecipientState::Refused) => {}
                    (_, RecipientState::Refused) => drop(self.to_tell.insert((n, index), Some(now))),
                    _ => drop(self.to_tell.remove(&(n, index))),
                }
                row.state = state;
                row.reply = Some(format!("reply of {now}: {}", state.as_str()));
            }
        }
        let is_settled = stored.recipients.iter().all(|row| !row.state.is_pending());
        if matches!(next, Next::Wait { .. }) && stored.state != MessageState::Waiting {
            let Next::Wait { due_at, tries, tried_for } = next else { return };
            (stored.due_at, stored.tries, stored.tried_for) = (*due_at, *tries, *tried_for);
            return;
        }
        self.dead_since.remove(&n);
        match next {
            Next::Archive if is_settled => self.archive(n, now, Ending::Finished, Some(lms())),
            Next::Archive | Next::Hold => stored.state = MessageState::Held,
            Next::Wait { due_at, tries, tried_for } => {
                stored.state = MessageState::Waiting;
                (stored.due_at, stored.tries, stored.tried_for) = (*due_at, *tries, *tried_for);
            }
            Next::Dead => {
                stored.state = MessageState::Dead;
                self.dead_since.insert(n, now);
            }
        }
    }

    fn tell(&mut self, refusal: (u32, usize), told: Told, now: i64) {
        if let Some(tell_at) = self.to_tell.get_mut(&refusal) {
            match told {
                Told::Done => drop(self.to_tell.remove(&refusal)),
                Told::Later => *tell_at = Some(now + 5),
                Told::Nobody => *tell_at = None,
            }
        }
    }

    /// Nobody has to be told of it any more.
    fn settled(&mut self, n: u32) {
        self.to_tell.retain(|(of, _), _| *of != n);
    }

    fn retry(&mut self, n: u32, now: i64) {
        self.settled(n);
        let Some(stored) = self.messages.get_mut(&n) else { return };
        for row in stored.recipients.iter_mut().filter(|row| row.state != RecipientState::Accepted) {
            row.state = RecipientState::Waiting;
        }
        stored.state = MessageState::Waiting;
        (stored.due_at, stored.tries, stored.tried_for) = (at(now), 0, Duration::ZERO);
        self.dead_since.remove(&n);
    }

    fn hold_message(&mut self, n: u32) {
        match self.messages.get_mut(&n) {
            Some(stored) if stored.state == MessageState::Waiting => stored.state = MessageState::Held,
            _ => {}
        }
    }

    fn release_message(&mut self, n: u32, now: i64) {
        let Some(stored) = self.messages.get_mut(&n) else { return };
        if stored.state == MessageState::Held {
            (stored.state, stored.due_at) = (MessageState::Waiting, at(now));
            for row in stored.recipients.iter_mut().filter(|row| row.state == RecipientState::Held) {
                row.state = RecipientState::Waiting;
            }
        }
    }

    fn give_up(&mut self, n: u32, now: i64) {
        match self.messages.get_mut(&n) {
            Some(stored) if stored.state == MessageState::Waiting => {
                stored.state = MessageState::Dead;
                self.dead_since.insert(n, now);
            }
            _ => {}
        }
    }

    fn readdress(&mut self, n: u32, from: &str, to: &str, now: i64) {
        let Some(stored) = self.messages.get_mut(&n) else { return };
        let rows = stored.recipients.iter_mut().zip(&mut stored.envelope.recipients);
        let is_open = |row: &RecipientRow| row.address == address(from) && row.state != RecipientState::Accepted;
        let mut changed = false;
        for (index, (row, said)) in rows.enumerate().filter(|(_, (row, _))| is_open(row)) {
            self.to_tell.remove(&(n, index));
            *row = RecipientRow { address: address(to), state: RecipientState::Waiting, reply: None };
            let original = said.orcpt.take().or_else(|| OriginalRecipient::parse(&format!("rfc822;{from}")));
            *said = Recipient { address: address(to), notify: said.notify, orcpt: original };
            changed = true;
        }
        if changed {
            (stored.tries, stored.tried_for) = (0, Duration::ZERO);
            if stored.state != MessageState::Held {
                (stored.state, stored.due_at) = (MessageState::Waiting, at(now));
                self.dead_since.remove(&n);
            }
        }
    }

    fn archive(&mut self, n: u32, now: i64, ending: Ending, carrier: Option<Address>) {
        let Some(stored) = self.messages.remove(&n) else { return };
        self.settled(n);
        self.dead_since.remove(&n);
        let archived = Archived {
            id: stored.id,
            received_at: stored.received_at,
            finished_at: at(now),
            ending,
            app: stored.app,
            account: carrier.unwrap_or(stored.account),
            sender: stored.envelope.sender,
            lane: stored.lane,
            lane_why: stored.lane_why,
            subject: stored.subject,
            size: stored.size,
            recipients: stored.recipients,
        };
        self.archive.insert(n, archived);
    }

    fn window(&self, account: &Address) -> Vec<Waiting> {
        let is_waiting = |stored: &&Stored| stored.account == *account && stored.state == MessageState::Waiting;
        let row = |stored: &Stored| {
            let recipients = stored.recipients.iter().filter(|row| row.state.is_pending()).count();
            let flow = Flow::new(&stored.app, stored.lane).to_outside(stored.outside);
            Waiting { id: stored.id, due_at: stored.due_at, recipients: u32::try_from(recipients).unwrap(), flow }
        };
        let mut window: Vec<Waiting> = self.messages.values().filter(is_waiting).map(row).collect();
        window.sort_by_key(|waiting| (waiting.flow.clone(), waiting.due_at, waiting.id));
        window
    }

    async fn compare(&self, store: &Store) {
        let list = store.list(None, 100).await.unwrap();
        assert_eq!(list, self.messages.values().cloned().collect::<Vec<_>>());
        for n in 0..IDS {
            assert_eq!(store.archived(id(n)).await.unwrap().as_ref(), self.archive.get(&n));
            assert_eq!(store.body(id(n)).await.unwrap().is_some(), self.messages.contains_key(&n));
        }
        for account in [lms(), erp()] {
            let heads = store.heads(&account, None, |_| 100).await.unwrap();
            let window: Vec<Waiting> = heads.into_iter().flat_map(|head| head.messages).collect();
            assert_eq!(window, self.window(&account));
        }
        let mut to_tell: Vec<_> =
            self.to_tell.iter().filter_map(|(&(n, index), at)| Some((at.as_ref().copied()?, id(n), index))).collect();
        to_tell.sort_unstable();
        let to_tell: Vec<_> = to_tell.into_iter().map(|(_, id, index)| (id, index)).collect();
        assert_eq!(store.to_tell(at(1_000_000), 100).await.unwrap(), to_tell);
        let nobody = self.to_tell.values().filter(|at| at.is_none()).count();
        assert_eq!(store.told_nobody().await.unwrap(), nobody as u64);
        let counted: u64 = store.counts().await.unwrap().iter().map(|count| count.messages).sum();
        assert_eq!(counted, self.messages.len() as u64);
        let holds: Vec<HoldCause> = store.holds().await.unwrap().iter().map(|hold| hold.cause).collect();
        assert_eq!(holds, Vec::from_iter(self.hold));
        assert_eq!(store.recipients_since(&lms(), at(0)).await.unwrap(), self.sent);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn the_store_agrees_with_its_model(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let store = Store::in_memory(None).unwrap();
            let mut model = Model::default();
            for (n, step) in steps.iter().enumerate() {
                let now = 1000 + i64::try_from(n).unwrap();
                let is_taken = model.apply(step, now);
                let committed = store.commit(change(step, now)).await;
                assert_eq!(committed.is_ok(), is_taken, "{step:?}: {committed:?}");
            }
            model.compare(&store).await;
            store.close().await;
        });
    }
}
