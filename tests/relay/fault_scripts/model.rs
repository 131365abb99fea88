//! What has to become of each recipient, whatever the relay believes.

use std::collections::{BTreeMap, BTreeSet};

use xoauth2_relay::message::{Headers, QueueId};
use xoauth2_relay::simulator::Accepted;

use super::script::Person;
use crate::support::MAILBOX;

/// Whoever hands in the mails, and is told of refusals.
pub const SENDER: &str = "person@contoso.com";

/// Every mail that was handed in, by its subject.
#[derive(Default)]
pub struct Model {
    mails: BTreeMap<String, Mail>,
}

struct Mail {
    id: Option<QueueId>,
    /// By address.
    people: BTreeMap<String, Person>,
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
    pub state: String,
    /// How often the journal says that nobody knows whether Exchange has the message.
    pub doubts: usize,
}

impl Model {
    /// A mail to these, of each lane in turn.
    pub fn mail(&mut self, people: &[Person]) -> Written {
        let tag = format!("mail {}", self.mails.len());
        let (field, body) = match self.mails.len() % 3 {
            0 => ("", "hello"),
            1 => ("Importance: low\r\n", "hello"),
            _ => ("", "https://lms.example/login/forgot_password.php?token=x"),
        };
        let text = format!("From: {MAILBOX}\r\nSubject: {tag}\r\n{field}\r\n{body}\r\n");
        let addresses: Vec<String> =
            (0..people.len()).map(|n| format!("m{}n{n}@example.com", self.mails.len())).collect();
        let people = addresses.iter().cloned().zip(people.iter().copied()).collect();
        self.mails.insert(tag.clone(), Mail { id: None, people });
        Written { tag, addresses, text }
    }

    /// It was answered with 250: from here on it is the relay's.
    pub fn taken(&mut self, tag: &str, id: QueueId) {
        self.mails.get_mut(tag).expect("handed in").id = Some(id);
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
            let copies = copies.remove(&(fate.tag.clone(), fate.address.clone())).unwrap_or(0);
            let person = self.mails[&fate.tag].people[&fate.address];
            if let Some(why) = impossible(fate, person, copies, is_end) {
                wrong.push(format!("{why}: {fate:?}, {person:?}, delivered {copies} times"));
            }
        }
        let told: usize = self.mails.values().map(|mail| mail.people.len()).sum();
        if fates.len() != told {
            wrong.push(format!("the relay tells of {} of {told} recipients", fates.len()));
        }
        wrong.extend(copies.into_keys().map(|whom| format!("delivered to somebody that nobody named: {whom:?}")));
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

/// What is wrong with what the sender was told at the end: of each refused recipient once, and of nobody else.
pub fn check_notices(fates: &[Fate], accepted: &[Accepted]) -> Vec<String> {
    let told = told(accepted);
    let refused: BTreeSet<&str> =
        fates.iter().filter(|fate| fate.state == "refused").map(|fate| fate.address.as_str()).collect();
    let of_nobody = told.keys().filter(|address| !refused.contains(address.as_str()));
    let mut wrong: Vec<String> =
        of_nobody.map(|address| format!("the sender was told that {address} is refused, who is not")).collect();
    for address in refused {
        let notices = told.get(address).map_or(0, BTreeSet::len);
        if notices != 1 {
            wrong.push(format!("{notices} notices tell the sender of {address}"));
        }
    }
    wrong
}

/// The notices that say of a recipient that they were refused, by their Message-ID: one that is in doubt itself may come twice.
fn told(accepted: &[Accepted]) -> BTreeMap<String, BTreeSet<Vec<u8>>> {
    let mut told: BTreeMap<String, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for notice in accepted.iter().filter(|mail| mail.recipients == [SENDER]) {
        let headers = Headers::scan(&notice.bytes);
        let id = headers.first("message-id").expect("a notice has one").value.trim_ascii().to_vec();
        let text = String::from_utf8_lossy(&notice.bytes);
        // Each recipient has a block of their own; a delay is no refusal.
        for block in text.split("\r\n\r\n").filter(|block| block.contains("Action: failed")) {
            let address = block.lines().find_map(|line| line.strip_prefix("Final-Recipient: rfc822;"));
            told.entry(address.expect("a block names whom it is about").to_owned()).or_default().insert(id.clone());
        }
    }
    told
}

fn impossible(fate: &Fate, person: Person, copies: usize, is_end: bool) -> Option<&'static str> {
    let most = if fate.state == "accepted" { 1 + fate.doubts } else { fate.doubts };
    if copies > most {
        return Some("delivered more often than anything explains");
    }
    match (fate.state.as_str(), person) {
        ("accepted", Person::There) if copies == 0 => Some("accepted, but nobody has it"),
        ("refused", Person::Gone | Person::GoneLate) | ("accepted", Person::There) => None,
        ("refused", Person::There) => Some("refused for what only was a mood"),
        ("accepted", _) => Some("accepted, though Exchange refuses them"),
        ("waiting" | "in_doubt" | "held", _) if !is_end => None,
        ("waiting" | "in_doubt" | "held", _) => Some("it has not left although nothing stops it"),
        _ => Some("there is no such state"),
    }
}
