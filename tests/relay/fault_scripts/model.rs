//! What has to become of each recipient, whatever the relay believes.

use std::collections::BTreeMap;

use xoauth2_relay::message::{Headers, QueueId};
use xoauth2_relay::simulator::Accepted;

use super::script::Person;

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
    /// A mail to these: its subject and their addresses.
    pub fn mail(&mut self, people: &[Person]) -> (String, Vec<String>) {
        let tag = format!("mail {}", self.mails.len());
        let addresses: Vec<String> =
            (0..people.len()).map(|n| format!("m{}n{n}@example.com", self.mails.len())).collect();
        let people = addresses.iter().cloned().zip(people.iter().copied()).collect();
        self.mails.insert(tag.clone(), Mail { id: None, people });
        (tag, addresses)
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
