//! What an attempt makes of a message and its recipients.

use std::time::Duration;

use super::*;
use crate::message::{Body, Lane};
use crate::store::samples::{accept, address, at, incoming, record, recorded, wait};

pub fn a_finished_message_moves_to_the_archive(subject: &mut Subject) {
    let mut large = incoming(2, &["a@example.com"]);
    large.body = Body::File("somewhere".into());
    subject.commit(&[accept(1, &["a@example.com", "b@example.com"]), Change::Accept(Box::new(large))]);
    let both = [(0, RecipientState::Accepted), (1, RecipientState::Refused)];
    assert_eq!(subject.commit(&[recorded(1, 60, &both, Next::Archive)]), Committed::default());
    assert_eq!(subject.read().message(id(1)).unwrap(), None);
    assert_eq!(subject.read().body(id(1)).unwrap(), None);
    assert_eq!(subject.window(10), [id(2)]);
    let recipient = |text, state: RecipientState| {
        let reply = Some(format!("reply of 60: {}", state.as_str()));
        RecipientRow { address: address(text), state, reply }
    };
    let expected = Archived {
        id: id(1),
        received_at: at(1),
        finished_at: at(60),
        ending: Ending::Finished,
        app: "moodle".to_owned(),
        account: lms(),
        sender: Some(address("noreply@contoso.com")),
        lane: Lane::Normal,
        lane_why: None,
        subject: Some("1".to_owned()),
        size: 22,
        recipients: vec![
            recipient("a@example.com", RecipientState::Accepted),
            recipient("b@example.com", RecipientState::Refused),
        ],
    };
    assert_eq!(subject.read().archived(id(1)).unwrap(), Some(expected));
    assert_eq!(subject.journal(1), ["received from app moodle: 22 octets for 2 recipients", "attempt of 60"]);
    let finished = recorded(2, 60, &[(0, RecipientState::Accepted)], Next::Archive);
    assert_eq!(subject.commit(&[finished]).files, [id(2)], "its file may go");
}

pub fn an_accepted_recipient_stays_accepted(subject: &mut Subject) {
    subject.commit(&[accept(1, &["a@example.com", "b@example.com"])]);
    subject.commit(&[recorded(1, 10, &[(0, RecipientState::Accepted)], wait(20))]);
    let undone = [(0, RecipientState::Waiting), (1, RecipientState::InDoubt), (7, RecipientState::Accepted)];
    subject.commit(&[recorded(1, 20, &undone, wait(30)), recorded(1, 21, &[(0, RecipientState::Refused)], wait(30))]);
    let stored = subject.read().message(id(1)).unwrap().unwrap();
    let kept: Vec<_> = stored.recipients.iter().map(|row| (row.state, row.reply.as_deref())).collect();
    let expected = [
        (RecipientState::Accepted, Some("reply of 10: accepted")),
        (RecipientState::InDoubt, Some("reply of 20: in_doubt")),
    ];
    assert_eq!(kept, expected);
}

pub fn pending_recipients_are_never_archived(subject: &mut Subject) {
    subject.commit(&[accept(1, &["a@example.com", "b@example.com"])]);
    subject.commit(&[recorded(1, 10, &[(0, RecipientState::Accepted)], Next::Archive)]);
    assert_eq!(subject.state(1), MessageState::Held);
    assert_eq!(subject.read().archived(id(1)).unwrap(), None);
    assert_eq!(subject.journal(1)[2], "held: it was said to be finished while recipients are still pending");
}

pub fn a_record_for_a_deleted_message_brings_nothing_back(subject: &mut Subject) {
    subject.commit(&[accept(1, &["a@example.com"]), Change::Delete { ids: vec![id(1)], at: at(5) }]);
    let mut late = record(1, 10, &[(0, RecipientState::InDoubt)], wait(20));
    late.sent = Some(Sent { login: lms(), at: at(10), recipients: 1, outside: 1 });
    subject.commit(&[Change::Record(Box::new(late))]);
    assert_eq!(subject.read().message(id(1)).unwrap(), None);
    let archived = subject.read().archived(id(1)).unwrap().unwrap();
    assert_eq!(archived.recipients[0].state, RecipientState::Waiting, "as it was when it was deleted");
    assert_eq!(subject.journal(1)[2], "attempt of 10");
    assert_eq!(subject.read().recipients_since(&lms(), at(0)).unwrap(), 1);
}

pub fn each_next_step_leads_to_its_state(subject: &mut Subject) {
    subject.commit(&[accept(1, &["a@example.com"])]);
    let tried_for = Duration::from_millis(90_001);
    subject.commit(&[recorded(1, 10, &[], Next::Wait { due_at: at(70), tries: 3, tried_for })]);
    let stored = subject.read().message(id(1)).unwrap().unwrap();
    assert_eq!((stored.due_at, stored.tries, stored.tried_for), (at(70), 3, tried_for));
    subject.commit(&[recorded(1, 80, &[], Next::Hold)]);
    assert_eq!(subject.state(1), MessageState::Held);
    subject.commit(&[recorded(1, 90, &[(0, RecipientState::Refused)], Next::Dead)]);
    assert_eq!(subject.state(1), MessageState::Dead);
    assert_eq!(subject.window(10), []);
}
