//! What has to become of each recipient, whatever the relay believes.
//!
//! A recipient may have a mail once when the relay says that Exchange took it; once more for each doubt that is in its journal; and once more for
//! each crash at which it was under way. Of an app with `in_doubt = "hold"` a doubt explains nothing by itself: a person has to have said so.

use std::collections::{BTreeMap, BTreeSet};

use xoauth2_relay::message::{Headers, QueueId};
use xoauth2_relay::simulator::Accepted;
use xoauth2_relay::store::RecipientState;

use super::script::{App, Person, SECOND};
use crate::support::MAILBOX;

/// Whoever hands in the mails, and is told of refusals.
pub const SENDER: &str = "person@contoso.com";
/// Who is told of them instead where the sender may not be written to.
pub const POSTMASTER: &str = "it@contoso.com";
/// So many mails can be under way: each of the two accounts has three sessions.
const UNDER_WAY: usize = 6;

/// Every mail that was handed in, by its subject.
#[derive(Default)]
pub struct Model {
    mails: BTreeMap<String, Mail>,
}

struct Mail {
    id: Option<QueueId>,
    app: App,
    /// By address.
    people: BTreeMap<String, Person>,
    /// How often a person has let it go on although it was in doubt.
    decisions: usize,
    /// How often it was under way at a crash, and had arrived without our knowing: by address.
    cut_off: BTreeMap<String, usize>,
}

/// A mail that was handed in.
pub struct Written {
    pub tag: String,
    pub addresses: Vec<String>,
    pub text: String,
}

/// What the relay says of one recipient.
#[derive(Debug)]
pub struct Fate {
    pub tag: String,
    pub address: String,
    pub state: RecipientState,
    /// How often the journal says that nobody knows whether Exchange has the message.
    pub doubts: usize,
}

impl Fate {
    fn key(&self) -> (String, String) {
        (self.tag.clone(), self.address.clone())
    }

    /// How many copies are explained by what the relay says.
    fn explained(&self) -> usize {
        self.doubts + usize::from(self.state == RecipientState::Accepted)
    }
}

impl Model {
    /// A mail to these, of each lane and in the name of each mailbox in turn.
    pub fn mail(&mut self, app: App, people: &[Person]) -> Written {
        let n = self.mails.len();
        let tag = format!("mail {n}");
        let (field, body) = match n % 3 {
            0 => ("", "hello"),
            1 => ("Importance: low\r\n", "hello"),
            _ => ("", "https://lms.example/login/forgot_password.php?token=x"),
        };
        let from = if n.is_multiple_of(2) { MAILBOX } else { SECOND };
        let text = format!("From: {from}\r\nSubject: {tag}\r\n{field}\r\n{body}\r\n");
        // Only one of the apps has a fence to be outside of.
        let is_outside = |person| person == Person::Outside && app == App::Fenced;
        let place = |person| if is_outside(person) { "elsewhere.example" } else { "example.com" };
        let address = |(k, &person): (usize, &Person)| format!("m{n}n{k}@{}", place(person));
        let addresses: Vec<String> = people.iter().enumerate().map(address).collect();
        let person = |&person| if person == Person::Outside && !is_outside(person) { Person::There } else { person };
        let people = addresses.iter().cloned().zip(people.iter().map(person)).collect();
        self.mails.insert(tag.clone(), Mail { id: None, app, people, decisions: 0, cut_off: BTreeMap::new() });
        Written { tag, addresses, text }
    }

    /// It was answered with 250: from here on it is the relay's.
    pub fn taken(&mut self, tag: &str, id: QueueId) {
        self.mails.get_mut(tag).expect("handed in").id = Some(id);
    }

    /// A person has seen that it is in doubt, and lets it go on.
    pub fn decided(&mut self, id: QueueId) {
        let mails = self.mails.values_mut().filter(|mail| mail.id == Some(id));
        mails.for_each(|mail| mail.decisions += 1);
    }

    /// The relay has crashed. Whoever has a mail that nothing explains had it under way; nothing else is excused, and nothing that was settled
    /// before is open again. What is wrong with that.
    pub fn crashed(&mut self, before: &[Fate], after: &[Fate], accepted: &[Accepted]) -> Vec<String> {
        let mut wrong = Vec::new();
        for (fate, before) in after.iter().zip(before) {
            if !before.state.is_pending() && fate.state != before.state {
                wrong.push(format!("settled before a crash, and not behind it: {before:?}, {fate:?}"));
            }
        }
        let copies = self.copies(accepted);
        let mut under_way = BTreeSet::new();
        for fate in after.iter().filter(|fate| fate.state.is_pending()) {
            let mail = self.mails.get_mut(&fate.tag).expect("handed in");
            let cut_off = mail.cut_off.entry(fate.address.clone()).or_default();
            if copies.get(&fate.key()).is_some_and(|&copies| copies > fate.explained() + *cut_off) {
                *cut_off += 1;
                under_way.insert(&fate.tag);
            }
        }
        if under_way.len() > UNDER_WAY {
            wrong.push(format!("more were lost track of by a crash than can have been under way: {under_way:?}"));
        }
        wrong
    }

    pub fn ids(&self) -> impl Iterator<Item = (&String, QueueId)> {
        self.mails.iter().filter_map(|(tag, mail)| Some((tag, mail.id?)))
    }

    /// The refusals that do not pass.
    pub fn refusals(&self) -> impl Iterator<Item = String> {
        let people = self.mails.values().flat_map(|mail| &mail.people);
        people.filter_map(|(address, person)| Some(format!("{},to={address}", person.refusal()?)))
    }

    /// What of this cannot be. At the end nobody waits any more.
    pub fn check(&self, fates: &[Fate], accepted: &[Accepted], is_end: bool) -> Vec<String> {
        let mut copies = self.copies(accepted);
        let mut wrong: Vec<String> = Vec::new();
        for fate in fates {
            let copies = copies.remove(&fate.key()).unwrap_or(0);
            if let Some(why) = self.mails[&fate.tag].impossible(fate, copies, is_end) {
                wrong.push(format!("{why}: {fate:?}, delivered {copies} times"));
            }
        }
        let told: usize = self.mails.values().map(|mail| mail.people.len()).sum();
        if fates.len() != told {
            wrong.push(format!("the relay tells of {} of {told} recipients", fates.len()));
        }
        wrong.extend(copies.into_keys().map(|whom| format!("delivered to somebody that nobody named: {whom:?}")));
        wrong
    }

    /// What is wrong with what was told at the end: of each refused recipient once, to whom it concerns, and of nobody else.
    pub fn check_notices(&self, fates: &[Fate], accepted: &[Accepted]) -> Vec<String> {
        let mut told = told(accepted);
        let mut wrong = Vec::new();
        for fate in fates.iter().filter(|fate| fate.state == RecipientState::Refused) {
            let notices: Vec<_> = told.remove(&fate.address).into_iter().flatten().collect();
            let whom = if self.mails[&fate.tag].app == App::Fenced { POSTMASTER } else { SENDER };
            if !matches!(&notices[..], [(to, _)] if *to == [whom]) {
                wrong.push(format!("{whom} is to be told once of {}: {notices:?}", fate.address));
            }
        }
        wrong.extend(told.into_iter().map(|told| format!("told of somebody who is not refused: {told:?}")));
        wrong
    }

    /// How often each recipient has each mail. Own mail of the relay has other subjects.
    fn copies(&self, accepted: &[Accepted]) -> BTreeMap<(String, String), usize> {
        let mut copies = BTreeMap::new();
        for mail in accepted {
            let headers = Headers::scan(&mail.bytes);
            let Some(subject) = headers.first("subject") else { continue };
            let tag = String::from_utf8_lossy(subject.value.trim_ascii()).into_owned();
            if self.mails.contains_key(&tag) {
                for recipient in &mail.recipients {
                    *copies.entry((tag.clone(), recipient.clone())).or_default() += 1;
                }
            }
        }
        copies
    }
}

impl Mail {
    fn impossible(&self, fate: &Fate, copies: usize, is_end: bool) -> Option<&'static str> {
        use RecipientState::{Accepted, Held, InDoubt, Refused, Waiting};
        let cut_off = self.cut_off.get(&fate.address).copied().unwrap_or(0);
        if copies > fate.explained() + cut_off {
            return Some("delivered more often than anything explains");
        }
        if self.app == App::Careful && copies > 1 + self.decisions + cut_off {
            return Some("sent again in doubt, and no person had said so");
        }
        match (fate.state, self.people[&fate.address]) {
            (Accepted, Person::There) if copies == 0 => Some("accepted, but nobody has it"),
            (Refused, Person::Gone | Person::GoneLate) | (Accepted, Person::There) | (Held, Person::Outside) => None,
            (Refused, Person::There | Person::Outside) => Some("refused for what only was a mood"),
            (Accepted, _) => Some("accepted, though Exchange refuses them, or they may not be written to"),
            (Held, _) => Some("held, though they may be written to"),
            (Waiting | InDoubt, _) => is_end.then_some("it has not left although nothing stops it"),
        }
    }
}

/// What tells of a refusal, by whom it went to and its Message-ID: one that is in doubt itself may come twice.
pub type Notice = (Vec<String>, String);

/// The notices that say of a recipient that they were refused: those to a sender, and the postmaster's.
pub fn told(accepted: &[Accepted]) -> BTreeMap<String, BTreeSet<Notice>> {
    let mut told: BTreeMap<String, BTreeSet<Notice>> = BTreeMap::new();
    for mail in accepted {
        let text = String::from_utf8_lossy(&mail.bytes);
        // Each recipient has a block of their own; a delay is no refusal.
        let blocks = text.split("\r\n\r\n").filter(|block| block.contains("Action: failed"));
        let of_block = |block: &str| {
            let line = block.lines().find_map(|line| line.strip_prefix("Final-Recipient: rfc822;"));
            line.expect("a block names whom it is about").to_owned()
        };
        let lines = text.lines().filter(|line| mail.recipients == [POSTMASTER] && line.contains(" (app "));
        let of_line = |line: &str| Some(line.split_once(" to ")?.1.split_once(" from ")?.0.to_owned());
        for address in blocks.map(of_block).chain(lines.filter_map(of_line)) {
            let headers = Headers::scan(&mail.bytes);
            let id = headers.first("message-id").expect("a notice has one").value.trim_ascii();
            let id = String::from_utf8_lossy(id).into_owned();
            told.entry(address).or_default().insert((mail.recipients.clone(), id));
        }
    }
    told
}

/// That the model finds what it is there to find.
mod tests {
    use super::*;

    fn fate(state: RecipientState, doubts: usize) -> Fate {
        Fate { tag: "mail 0".to_owned(), address: "m0n0@example.com".to_owned(), state, doubts }
    }

    fn accepted() -> Accepted {
        Accepted {
            at: jiff::Timestamp::UNIX_EPOCH,
            mailbox: MAILBOX.to_owned(),
            mail_from: MAILBOX.to_owned(),
            mail_params: String::new(),
            recipients: vec!["m0n0@example.com".to_owned()],
            recipient_params: vec![String::new()],
            bytes: b"Subject: mail 0\r\n\r\nhello\r\n".as_slice().into(),
            session: String::new(),
            reply: String::new(),
            notice: None,
        }
    }

    /// Whether this may be, of a mail that was handed in by this app.
    fn may_be(app: App, state: RecipientState, doubts: usize, copies: usize, decisions: usize) -> bool {
        let (mut model, id) = (Model::default(), QueueId::from_number(1));
        let mail = model.mail(app, &[Person::There]);
        model.taken(&mail.tag, id);
        (0..decisions).for_each(|_| model.decided(id));
        model.check(&[fate(state, doubts)], &vec![accepted(); copies], false).is_empty()
    }

    #[test]
    fn copies_want_an_explanation_and_of_some_apps_a_persons_word() {
        use RecipientState::{Accepted, InDoubt, Refused, Waiting};
        for (app, state, doubts, copies, decisions, expected) in [
            (App::Plain, Accepted, 0, 1, 0, true),
            (App::Plain, Accepted, 0, 0, 0, false),
            (App::Plain, Accepted, 0, 2, 0, false),
            (App::Plain, Accepted, 1, 2, 0, true),
            (App::Plain, Waiting, 0, 1, 0, false),
            (App::Plain, InDoubt, 1, 1, 0, true),
            (App::Plain, Refused, 0, 0, 0, false),
            (App::Careful, InDoubt, 1, 1, 0, true),
            (App::Careful, Accepted, 1, 2, 0, false),
            (App::Careful, Accepted, 1, 2, 1, true),
        ] {
            let found = may_be(app, state, doubts, copies, decisions);
            assert_eq!(found, expected, "{app:?} {state:?} {doubts} {copies} {decisions}");
        }
    }

    #[test]
    fn a_crash_excuses_what_was_under_way_once_and_nothing_else() {
        let mut model = Model::default();
        let mail = model.mail(App::Careful, &[Person::There]);
        model.taken(&mail.tag, QueueId::from_number(1));
        let before = [fate(RecipientState::Waiting, 0)];
        assert_eq!(model.crashed(&before, &before, &[accepted()]), [""; 0]);
        let settled = [fate(RecipientState::Accepted, 0)];
        assert!(model.check(&settled, &vec![accepted(); 2], true).is_empty());
        assert!(!model.check(&settled, &vec![accepted(); 3], true).is_empty());
        assert!(!model.crashed(&settled, &before, &[accepted()]).is_empty(), "it had been settled");
    }
}
