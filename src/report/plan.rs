//! Who is told of what, and when: what is gathered, what goes to the postmaster, what to nobody. Pure.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::addressee::Addressee;
use super::affair::{Affair, Party};
use super::memory::Memory;
use crate::message::{Address, QueueId};
use crate::store::{Fact, Telling};

/// Something that has become of a message, and who would read of it.
#[derive(Clone, Debug)]
pub struct Found {
    /// What.
    pub affair: Affair,
    /// Who.
    pub addressee: Addressee,
}

/// What a notice says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It was refused for good, or given up on.
    Failed,
    /// It takes long.
    Delayed,
}

/// A notice to a sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// What it says.
    pub kind: Kind,
    /// To whom.
    pub to: Address,
    /// What it is about; not empty, and all of one account.
    pub affairs: Vec<Affair>,
    /// By what it is remembered.
    pub topic: String,
}

/// A decision about recipients of one message that needs no mail now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The message.
    pub id: QueueId,
    /// The places of the recipients.
    pub places: Vec<usize>,
    /// What is decided.
    pub telling: Telling,
    /// For the journal.
    pub entry: String,
}

/// What is to be done about refusals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Notices to senders, each by itself.
    pub letters: Vec<Letter>,
    /// What the postmaster is told now, and why the sender is not.
    pub digest: Vec<(Affair, &'static str)>,
    /// What needs no mail.
    pub settled: Vec<Settled>,
    /// What has to be kept with it.
    pub facts: Vec<Fact>,
}

/// What is done about refusals that somebody should hear of by now. What is in no part of the plan waits for its turn.
pub fn refusals(found: Vec<Found>, postmaster: Option<&Address>, memory: &mut Memory, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let mut for_postmaster = Vec::new();
    let mut by_topic: BTreeMap<String, Letter> = BTreeMap::new();
    for Found { mut affair, addressee } in found {
        let is_wanted = |party: &Party| party.notify.is_none_or(|notify| notify.failure);
        let (wanted, unwanted) = affair.parties.into_iter().partition(is_wanted);
        affair.parties = unwanted;
        if !affair.parties.is_empty() {
            plan.settle(&affair, Telling::Done, "nobody is told: the sender asked for no notice (NOTIFY)");
        }
        affair.parties = wanted;
        if affair.parties.is_empty() {
            continue;
        }
        match addressee {
            Addressee::Needless(why) => plan.settle(&affair, Telling::Done, &format!("nobody is told: {why}")),
            Addressee::Nobody(why) => plan.settle(&affair, Telling::Nobody, &format!("nobody was told: {why}")),
            Addressee::Postmaster(why) if postmaster.is_none() => {
                let entry = format!("nobody was told: {why}, and no postmaster is configured");
                plan.settle(&affair, Telling::Nobody, &entry);
            }
            Addressee::Postmaster(why) => for_postmaster.push((affair, why)),
            Addressee::Sender(to) => {
                let topic = format!("failed/{}/{}/{}", to.key(), affair.account.key(), affair.shape());
                let letter = Letter { kind: Kind::Failed, to, affairs: Vec::new(), topic: topic.clone() };
                by_topic.entry(topic).or_insert(letter).affairs.push(affair);
            }
        }
    }
    plan.postmaster(for_postmaster, memory, now);
    plan.senders(by_topic, memory, now);
    plan
}

impl Plan {
    fn settle(&mut self, affair: &Affair, telling: Telling, entry: &str) {
        let places = affair.parties.iter().map(|party| party.index).collect();
        self.settled.push(Settled { id: affair.id, places, telling, entry: entry.to_owned() });
    }

    fn postmaster(&mut self, affairs: Vec<(Affair, &'static str)>, memory: &mut Memory, now: Timestamp) {
        if affairs.is_empty() {
            return;
        }
        let (next, fact) = memory.next_digest(now);
        self.facts.extend(fact);
        if next <= now {
            self.digest = affairs;
            return;
        }
        for (affair, why) in affairs {
            let entry = format!("the postmaster is told of it at {next}, with others: {why}");
            self.settle(&affair, Telling::At(next), &entry);
        }
    }

    /// The first of a cause at once, others within the hour together.
    fn senders(&mut self, letters: BTreeMap<String, Letter>, memory: &Memory, now: Timestamp) {
        let mut room = memory.room(now);
        for (topic, letter) in letters {
            if let Some(at) = memory.gathers(&topic, now) {
                for affair in &letter.affairs {
                    let entry =
                        format!("the sender {} is told of it at {at}, with others of the same cause", letter.to);
                    self.settle(affair, Telling::At(at), &entry);
                }
            } else if room > 0 {
                room -= 1;
                self.letters.push(letter);
            }
        }
    }
}

/// Warnings that mail takes long, and the messages of which nobody is to be warned. What is in neither waits for its turn.
pub fn delays(found: Vec<Found>, memory: &Memory, now: Timestamp) -> (Vec<Letter>, Vec<QueueId>) {
    let mut by_topic: BTreeMap<String, Letter> = BTreeMap::new();
    let mut never = Vec::new();
    for Found { mut affair, addressee } in found {
        affair.parties.retain(|party| party.notify.is_none_or(|notify| notify.delay));
        match addressee {
            Addressee::Sender(to) if !affair.parties.is_empty() => {
                let topic = delay_topic(&to, &affair.account);
                let letter = Letter { kind: Kind::Delayed, to, affairs: Vec::new(), topic: topic.clone() };
                by_topic.entry(topic).or_insert(letter).affairs.push(affair);
            }
            _ => never.push(affair.id),
        }
    }
    let is_new = |letter: &Letter| memory.gathers(&letter.topic, now).is_none();
    (by_topic.into_values().filter(is_new).take(memory.room(now)).collect(), never)
}

/// By what a warning to this sender is remembered.
pub fn delay_topic(sender: &Address, account: &Address) -> String {
    format!("delayed/{}/{}", sender.key(), account.key())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Headers, Notify};
    use crate::report::affair::samples::{at, stored};

    const WHY: &str = "nobody reads it";

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn found(n: u32, addressee: Addressee) -> Found {
        let stored = stored(n, Some("jane@school.org"), &["gone@example.com"]);
        Found { affair: Affair::of(&stored, &Headers::scan(b""), &[0]), addressee }
    }

    fn to_jane(n: u32) -> Found {
        found(n, Addressee::Sender(address("jane@school.org")))
    }

    fn plan(found: Vec<Found>, memory: &mut Memory, now: i64) -> Plan {
        refusals(found, Some(&address("it@contoso.com")), memory, at(now))
    }

    #[test]
    fn the_senders_wish_decides_who_hears_of_a_failure_and_of_a_delay() {
        for (notify, of_failure, of_delay) in [
            (None, true, true),
            (Some("NEVER"), false, false),
            (Some("FAILURE"), true, false),
            (Some("DELAY"), false, true),
            (Some("SUCCESS"), false, false),
            (Some("FAILURE,DELAY"), true, true),
            (Some("SUCCESS,FAILURE"), true, false),
        ] {
            let mut one = to_jane(1);
            one.affair.parties[0].notify = notify.map(|text| Notify::parse(text).unwrap());
            let plan = plan(vec![one.clone()], &mut Memory::default(), 0);
            assert_eq!(plan.letters.len(), usize::from(of_failure), "{notify:?}");
            assert_eq!(plan.settled.len(), usize::from(!of_failure), "{notify:?}");
            let (letters, never) = delays(vec![one], &Memory::default(), at(0));
            assert_eq!((letters.len(), never.len()), (usize::from(of_delay), usize::from(!of_delay)), "{notify:?}");
        }
    }

    #[test]
    fn the_first_of_a_cause_is_told_at_once_and_a_thousand_others_together() {
        let mut memory = Memory::default();
        let first = plan(vec![to_jane(1)], &mut memory, 0);
        assert_eq!(first.letters.len(), 1);
        memory.tell(&first.letters[0].topic, at(0));
        let storm = plan((2..1002).map(to_jane).collect(), &mut memory, 10);
        assert!(storm.letters.is_empty());
        assert!(storm.settled.iter().all(|settled| settled.telling == Telling::At(at(3600))));
        assert_eq!(storm.settled.len(), 1000);
        let gathered = plan((2..1002).map(to_jane).collect(), &mut memory, 3600);
        assert_eq!(gathered.letters.len(), 1);
        assert_eq!(gathered.letters[0].affairs.len(), 1000);
    }

    #[test]
    fn another_cause_another_account_and_another_sender_are_told_by_themselves() {
        let mut others =
            vec![to_jane(1), to_jane(2), to_jane(3), found(4, Addressee::Sender(address("joe@school.org")))];
        others[1].affair.parties[0].reply = "552 5.2.2 mailbox full".to_owned();
        others[2].affair.account = address("erp@contoso.com");
        assert_eq!(plan(others, &mut Memory::default(), 0).letters.len(), 4);
    }

    #[test]
    fn there_are_never_more_notices_in_an_hour_than_may_be() {
        use crate::report::memory::MOST;

        let verp = |n: u32| found(n, Addressee::Sender(address(&format!("bounce-{n}@school.org"))));
        let many = || (0..300).map(verp).collect();
        let mut memory = Memory::default();
        let first = plan(many(), &mut memory, 0);
        assert_eq!((first.letters.len(), first.settled.len()), (MOST, 0), "the others wait for their turn");
        for letter in &first.letters {
            memory.tell(&letter.topic, at(0));
        }
        assert!(plan(many(), &mut memory, 60).letters.is_empty());
        assert_eq!(plan(many(), &mut memory, 3600).letters.len(), MOST);
        assert_eq!(delays(many(), &memory, at(60)).0.len(), 0);
    }

    #[test]
    fn the_postmaster_gets_one_mail_for_all_and_nobody_else_one_for_none() {
        let mut memory = Memory::default();
        let many = || (0..50).map(|n| found(n, Addressee::Postmaster(WHY))).collect::<Vec<_>>();
        let first = plan(many(), &mut memory, 0);
        assert!(first.digest.is_empty() && first.facts.len() == 1);
        assert!(first.settled.iter().all(|settled| settled.telling == Telling::At(at(300))));
        assert_eq!(plan(many(), &mut memory, 300).digest.len(), 50);

        let without = refusals(many(), None, &mut Memory::default(), at(0));
        assert!(without.settled.iter().all(|settled| settled.telling == Telling::Nobody));
        assert_eq!(without.settled[0].entry, "nobody was told: nobody reads it, and no postmaster is configured");
    }

    #[test]
    fn a_notice_that_did_not_arrive_ends_there() {
        let plan =
            plan(vec![found(1, Addressee::Nobody("x")), found(2, Addressee::Needless("y"))], &mut Memory::default(), 0);
        assert_eq!((plan.letters.len(), plan.digest.len()), (0, 0));
        let telling: Vec<_> = plan.settled.iter().map(|settled| settled.telling).collect();
        assert_eq!(telling, [Telling::Nobody, Telling::Done]);
    }

    #[test]
    fn a_sender_is_warned_of_all_that_waits_once_an_hour() {
        let mut memory = Memory::default();
        let waiting = || (0..40).map(to_jane).chain([found(99, Addressee::Postmaster(WHY))]).collect();
        let (letters, never) = delays(waiting(), &memory, at(0));
        assert_eq!((letters.len(), letters[0].affairs.len(), never.len()), (1, 40, 1));
        memory.tell(&letters[0].topic, at(0));
        assert!(delays(waiting(), &memory, at(3599)).0.is_empty());
        assert_eq!(delays(waiting(), &memory, at(3600)).0.len(), 1);
    }
}
