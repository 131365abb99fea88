//! The search against an Exchange that refuses whole transactions because of one recipient.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::message::{Envelope, Lane, Protocol, Trace};
use crate::outbound::{Step, judge};
use crate::smtp::Reply;
use crate::store::{MessageState, RecipientRow, RecipientState};

const GONE: &str = "550 5.1.10 Recipient not found";
const FULL: &str = "550 5.2.122 Recipient's per hour message receive limit exceeded";

fn address(n: usize) -> Address {
    Address::parse(&format!("user{n}@example.com")).unwrap()
}

fn stored(count: usize) -> Stored {
    let at = Timestamp::from_second(1_795_000_000).unwrap();
    let row = |n| RecipientRow { address: address(n), state: RecipientState::Waiting, reply: None };
    Stored {
        id: QueueId::new(at, 0),
        received_at: at,
        app: "default".to_owned(),
        account: Address::parse("lms@contoso.com").unwrap(),
        lane: Lane::Normal,
        lane_why: None,
        outside: false,
        state: MessageState::Waiting,
        due_at: at,
        tries: 0,
        tried_for: Duration::ZERO,
        envelope: Envelope { recipients: (0..count).map(|n| address(n).into()).collect(), ..Envelope::default() },
        trace: Trace {
            peer: [127, 0, 0, 1].into(),
            helo: None,
            protocol: Protocol { extended: true, tls: false, authenticated: false },
            user: None,
        },
        subject: None,
        size: 2,
        recipients: (0..count).map(row).collect(),
    }
}

fn reply(text: &str) -> Reply {
    let (code, text) = text.split_once(' ').unwrap();
    Reply::new(code.parse().unwrap(), text)
}

/// A message on its way to an Exchange that refuses a transaction if one of these is in it.
struct World {
    parts: Parts,
    stored: Stored,
    /// What is said because of whom; `{}` is the address.
    bad: BTreeMap<usize, &'static str>,
    transactions: usize,
    delivered: Vec<usize>,
}

impl World {
    fn new(count: usize, bad: &[(usize, &'static str)]) -> Self {
        let bad = bad.iter().copied().collect();
        Self { parts: Parts::default(), stored: stored(count), bad, transactions: 0, delivered: Vec::new() }
    }

    /// Who is still to be tried.
    fn waiting(&self) -> Vec<usize> {
        waiting(&self.stored).collect()
    }

    /// One attempt.
    fn attempt(&mut self) -> Sifted {
        let to = self.parts.next(&self.stored).unwrap_or_else(|| self.waiting());
        let culprit = to.iter().find_map(|place| Some((*place, *self.bad.get(place)?)));
        self.answered(&to, culprit)
    }

    fn answered(&mut self, to: &[usize], culprit: Option<(usize, &str)>) -> Sifted {
        self.transactions += 1;
        let text = culprit
            .map_or_else(|| "250 2.0.0 OK".to_owned(), |(place, text)| text.replace("{}", address(place).as_str()));
        let verdict = judge(Step::DataEnd, &reply(&text));
        if verdict.class == Class::Accepted {
            self.delivered.extend(to);
        }
        let verdicts: Vec<(usize, Verdict)> = to.iter().map(|&place| (place, verdict.clone())).collect();
        let is_of_one = verdict.scope == Scope::Recipient && verdict.class != Class::Accepted;
        let together = if is_of_one && to.len() > 1 { to } else { &[] };
        let mailbox = self.stored.account.clone();
        let sifted = self.parts.sift(&self.stored, Answers { verdicts: &verdicts, together, senders: &[&mailbox] });
        self.record(&sifted);
        sifted
    }

    fn record(&mut self, sifted: &Sifted) {
        for (place, verdict) in &sifted.verdicts {
            let row = &mut self.stored.recipients[*place];
            row.reply = Some(verdict.reply.to_string());
            row.state = match verdict.class {
                Class::Accepted => RecipientState::Accepted,
                Class::Refused => RecipientState::Refused,
                _ => RecipientState::Waiting,
            };
        }
    }

    /// Attempts until one does not lead to another one at once.
    fn run(&mut self) -> Sifted {
        for _ in 0..=AT_ONCE {
            let sifted = self.attempt();
            if !sifted.goes_on {
                return sifted;
            }
        }
        panic!("a storm: {} transactions", self.transactions);
    }

    fn refused(&self) -> Vec<usize> {
        let rows = self.stored.recipients.iter().enumerate();
        rows.filter(|(_, row)| row.state == RecipientState::Refused).map(|(place, _)| place).collect()
    }
}

#[test]
fn one_bad_recipient_among_many_is_found_in_few_transactions_and_the_others_get_the_mail() {
    for bad in [0, 1, 149, 150, 298, 299] {
        let mut world = World::new(300, &[(bad, GONE)]);
        world.run();
        assert_eq!(world.refused(), [bad]);
        assert_eq!(world.delivered.len(), 299, "{bad}");
        assert!(world.transactions <= 20, "{bad}: {}", world.transactions);
        assert_eq!(world.parts.next(&world.stored), None, "nothing is remembered");
    }
}

#[test]
fn a_recipient_that_the_reply_names_is_refused_alone_and_the_others_are_next() {
    let named = "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient {} not found by SMTP address lookup";
    let mut world = World::new(50, &[(7, named), (30, named)]);
    let first = world.attempt();
    assert!(first.goes_on && first.note.as_ref().unwrap().contains("user7@example.com"), "{first:?}");
    world.run();
    assert_eq!((world.refused(), world.delivered.len(), world.transactions), (vec![7, 30], 48, 3));
}

#[test]
fn the_sender_is_not_taken_for_the_recipient_that_is_meant() {
    let mut world =
        World::new(3, &[(1, "550 5.2.121 … message receive limit from specific sender lms@contoso.com exceeded")]);
    world.stored.recipients[0].address = world.stored.account.clone();
    let first = world.attempt();
    assert!(first.goes_on && first.note.unwrap().contains("does not say whom"));
    let last = world.run();
    assert_eq!((world.delivered.clone(), world.waiting()), (vec![0, 2], vec![1]));
    assert_eq!(last.verdicts.iter().find(|(place, _)| *place == 1).unwrap().1.wait(), Some(Duration::from_hours(1)));
}

#[test]
fn who_has_to_wait_does_so_alone_and_only_once_the_others_have_the_mail() {
    let mut world = World::new(20, &[(3, FULL), (11, FULL), (15, GONE)]);
    let last = world.run();
    assert_eq!((world.refused(), world.delivered.len(), world.waiting()), (vec![15], 17, vec![3, 11]));
    let mut told: Vec<(usize, Option<Duration>)> = last
        .verdicts
        .iter()
        .filter(|(_, verdict)| verdict.class == Class::Later)
        .map(|(n, v)| (*n, v.wait()))
        .collect();
    told.sort_unstable();
    let hour = Some(Duration::from_hours(1));
    assert_eq!(told, [(3, hour), (11, hour)], "both are told, and the message waits for an hour");
    world.bad.clear();
    assert!(!world.attempt().goes_on);
    assert!(world.waiting().is_empty());
}

#[test]
fn many_bad_recipients_make_no_storm() {
    let bad: Vec<(usize, &str)> = (0..300).map(|n| (n, GONE)).collect();
    let mut world = World::new(300, &bad);
    let mut waits = 0;
    while !world.waiting().is_empty() {
        world.run();
        waits += 1;
        assert!(waits < 12, "{} are left", world.waiting().len());
    }
    assert!(world.transactions <= 310, "{}", world.transactions);
}

#[test]
fn what_is_said_of_the_message_or_of_more_ends_the_burst_but_not_the_search() {
    for text in
        ["451 4.3.111 Temporary server error", "432 4.3.2 Concurrent connections limit exceeded", "421 4.3.2 busy"]
    {
        let mut world = World::new(8, &[(6, GONE)]);
        assert!(world.attempt().goes_on);
        let part = world.parts.next(&world.stored).unwrap();
        assert_eq!(part, [0, 1, 2, 3]);
        let sifted = world.answered(&part, Some((0, text)));
        assert!(!sifted.goes_on, "{text}");
        assert!(sifted.verdicts.iter().all(|(_, verdict)| verdict.reply == reply(text)));
        assert_eq!(world.parts.next(&world.stored).unwrap(), part, "where it was");
        world.run();
        assert_eq!((world.refused(), world.delivered.len()), (vec![6], 7));
    }
}

#[test]
fn a_message_that_is_refused_as_such_or_recipient_by_recipient_is_left_as_it_is() {
    let mut world = World::new(3, &[(0, "550 5.7.509 Access denied, sending domain does not pass DMARC verification")]);
    let sifted = world.attempt();
    assert!(!sifted.goes_on && sifted.verdicts.iter().all(|(_, verdict)| verdict.class == Class::Refused));
    let world = World::new(2, &[]);
    let refused = |place| (place, judge(Step::Rcpt, &reply("550 5.4.1 Recipient address rejected: Access denied")));
    let answers = Answers { verdicts: &[refused(0), refused(1)], together: &[], senders: &[] };
    let sifted = world.parts.sift(&world.stored, answers);
    assert_eq!((sifted.verdicts, sifted.goes_on), (answers.verdicts.to_vec(), false));
}

#[test]
fn who_is_readdressed_or_held_meanwhile_is_not_answered_with_what_was_said_before() {
    let mut world = World::new(4, &[(0, FULL)]);
    while world.parts.next(&world.stored) != Some(vec![1]) && world.transactions < 9 {
        assert!(world.attempt().goes_on);
    }
    world.stored.recipients[0].reply = None;
    assert_eq!(world.parts.next(&world.stored).unwrap()[0], 0, "a new address is tried like the others");
    world.stored.recipients[0].state = RecipientState::Held;
    let last = world.run();
    assert!(last.verdicts.iter().all(|(place, _)| *place != 0), "{last:?}");
    assert_eq!((world.delivered, world.stored.recipients[0].state), (vec![1, 2, 3], RecipientState::Held));
}

#[test]
fn only_the_whole_address_is_a_name() {
    let address = Address::parse("Neil@Example.com").unwrap();
    for text in [
        "recipient neil@example.com not found",
        "neil@example.com",
        "<neil@example.com>",
        "no 'neil@example.com' here",
        "to neil@example.com.",
        "rfc822;neil@example.com;x",
    ] {
        assert!(names(text, &address), "{text}");
    }
    for text in [
        "o'neil@example.com",
        "mc.neil@example.com",
        "x+neil@example.com",
        "mcneil@example.com",
        "neil@example.com.au",
        "neil@example.community",
        "neil@example.com-x",
        "neil@example",
        "",
    ] {
        assert!(!names(text, &address), "{text}");
    }
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut world = World::new(2, &[(0, GONE)]);
    for n in 0..2 * REMEMBERED {
        world.stored.id = QueueId::from_number(i64::try_from(n).unwrap());
        world.attempt();
    }
    assert_eq!(world.parts.lock().len(), REMEMBERED);
}

proptest! {
    #[test]
    fn whoever_is_good_gets_it_once_and_whoever_is_not_is_told_why(
        count in 1_usize..80,
        bad in proptest::collection::btree_map(0_usize..80, 0_usize..4, 0..6),
        forgets in 20_usize..60,
    ) {
        let texts = [GONE, FULL, "550 5.1.10 {} was not found", "550 5.2.121 Too much for {} from specific sender"];
        let bad: Vec<(usize, &str)> = bad.into_iter().filter(|(n, _)| *n < count).map(|(n, text)| (n, texts[text])).collect();
        let mut world = World::new(count, &bad);
        let mut last = world.attempt();
        for _ in 0..400 {
            if !last.goes_on && world.waiting().iter().all(|place| world.bad.contains_key(place)) {
                break;
            }
            if world.transactions.is_multiple_of(forgets) {
                world.parts = Parts::default();
            }
            last = world.attempt();
        }
        world.delivered.sort_unstable();
        let good: Vec<usize> = (0..count).filter(|place| !world.bad.contains_key(place)).collect();
        prop_assert_eq!(&world.delivered, &good, "each once");
        for place in world.refused() {
            prop_assert!(world.bad.get(&place).is_some_and(|text| text.contains("5.1.10")));
        }
    }
}
