//! What outlives a message and a run, and what is forgotten.

use super::*;
use crate::message::Body;
use crate::store::samples::{accept, at, incoming, record, recorded, wait};

pub fn the_old_is_forgotten_in_shares(subject: &mut Subject) {
    const MANY: u32 = 600;
    let changes = (0..MANY).flat_map(|n| {
        let mut large = incoming(n, &["a@example.com"]);
        large.body = Body::File("somewhere".into());
        let mut dead = record(n, 10, &[(0, RecipientState::Refused)], Next::Dead);
        dead.sent = Some(Sent { login: lms(), at: at(10), recipients: 1, outside: 0 });
        [Change::Accept(Box::new(large)), Change::Record(Box::new(dead))]
    });
    subject.commit(&changes.collect::<Vec<_>>());
    let accepted = [(0, RecipientState::Accepted)];
    subject.commit(&[accept(MANY, &["a@example.com"]), recorded(MANY, 10, &accepted, Next::Archive)]);
    subject.commit(&[accept(MANY + 1, &["a@example.com"]), recorded(MANY + 1, 50, &accepted, Next::Archive)]);
    let nothing = Change::Forget { journal_before: at(10), dead_before: at(10), sent_before: at(10) };
    assert_eq!(subject.commit(&[nothing]), Committed::default());
    assert_eq!(subject.read().list(None, 1000).unwrap().len(), 600);

    let forget = Change::Forget { journal_before: at(11), dead_before: at(11), sent_before: at(11) };
    let first = subject.commit(std::slice::from_ref(&forget));
    assert!(first.unfinished && first.files.len() < 600);
    let second = subject.commit(std::slice::from_ref(&forget));
    assert!(!second.unfinished);
    assert_eq!(first.files.len() + second.files.len(), 600);
    assert_eq!(subject.read().list(None, 10).unwrap(), []);
    assert_eq!(subject.read().archived(id(MANY)).unwrap(), None);
    assert!(subject.read().archived(id(MANY + 1)).unwrap().is_some());
    assert_eq!(subject.read().recent_journal(10).unwrap().len(), 1);
    assert_eq!(subject.read().sent_since(&lms(), at(0)).unwrap(), []);
}

pub fn the_last_id_is_remembered_when_the_message_is_gone(subject: &mut Subject) {
    assert_eq!(subject.read().last_id().unwrap(), None);
    subject.commit(&[accept(1, &["a@example.com"]), accept(2, &["a@example.com"])]);
    assert_eq!(subject.read().last_id().unwrap(), Some(id(2)));
    subject.commit(&[recorded(2, 10, &[(0, RecipientState::Accepted)], Next::Archive)]);
    assert_eq!(subject.read().last_id().unwrap(), Some(id(2)));
    subject.commit(&[recorded(3, 10, &[], wait(20))]);
    assert_eq!(subject.read().last_id().unwrap(), Some(id(3)));
}

pub fn a_run_that_did_not_end_is_noticed(subject: &mut Subject) {
    assert!(!subject.read().running().unwrap());
    subject.commit(&[Change::Running(true)]);
    assert!(subject.read().running().unwrap());
    subject.commit(&[Change::Running(false)]);
    assert!(!subject.read().running().unwrap());
}
