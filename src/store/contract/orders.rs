//! What people order about messages.

use std::time::Duration;

use super::*;
use crate::message::{Body, Lane, Notify};
use crate::store::samples::{accept, address, at, incoming, recorded, wait};

pub fn a_retry_begins_anew_and_keeps_what_was_accepted(subject: &mut Subject) {
    use RecipientState::{Accepted, Held, InDoubt, Refused, Waiting};

    let all = ["a@example.com", "b@example.com", "c@example.com", "d@example.com"];
    subject.commit(&[accept(1, &all), accept(2, &["a@example.com"])]);
    let states = [(0, Accepted), (1, Refused), (2, Held), (3, InDoubt)];
    subject.commit(&[recorded(1, 10, &states, Next::Dead), recorded(2, 10, &[], wait(500))]);
    subject.commit(&[Change::Retry { ids: vec![id(1), id(2), id(3)], at: at(20) }]);
    assert_eq!(subject.recipients(1), [Accepted, Waiting, Waiting, Waiting]);
    for n in [1, 2] {
        let stored = subject.read().message(id(n)).unwrap().unwrap();
        assert_eq!((stored.state, stored.due_at), (MessageState::Waiting, at(20)));
        assert_eq!((stored.tries, stored.tried_for), (0, Duration::ZERO));
    }
    assert_eq!(subject.windows(&lms(), 1)[0].recipients, 3);
    assert_eq!(subject.journal(1)[2], "due now: an administrator asked for a retry");
    assert!(subject.journal(3).is_empty(), "there is no such message");
    subject.commit(&[Change::Forget { journal_before: at(0), dead_before: at(1000), sent_before: at(0) }]);
    assert_eq!(subject.window(10), [id(1), id(2)], "no dead letter any more");
}

pub fn a_wake_makes_waiting_mail_due_and_forgets_no_try(subject: &mut Subject) {
    subject.commit(&[accept(1, &["a@example.com"]), accept(2, &["a@example.com"]), accept(3, &["a@example.com"])]);
    subject.commit(&[recorded(2, 10, &[], wait(500)), recorded(3, 10, &[], Next::Dead)]);
    let tries = subject.read().message(id(2)).unwrap().unwrap().tries;
    subject.commit(&[Change::Wake { account: lms(), at: at(20) }]);
    let stored = subject.read().message(id(2)).unwrap().unwrap();
    assert_eq!((stored.due_at, stored.tries), (at(20), tries));
    assert_eq!(subject.read().message(id(1)).unwrap().unwrap().due_at, at(1), "it was due before");
    assert_eq!(subject.window(10), [id(1), id(2)], "a dead letter stays one");
}

pub fn a_deleted_message_leaves_its_story(subject: &mut Subject) {
    let mut large = incoming(2, &["a@example.com"]);
    large.body = Body::File("somewhere".into());
    subject.commit(&[accept(1, &["a@example.com", "b@example.com"]), Change::Accept(Box::new(large))]);
    subject.commit(&[recorded(1, 10, &[(0, RecipientState::Accepted)], wait(20))]);
    let committed = subject.commit(&[Change::Delete { ids: vec![id(1), id(2), id(3)], at: at(30) }]);
    assert_eq!(committed.files, [id(2)]);
    assert_eq!(subject.read().list(None, 10).unwrap(), []);
    assert_eq!(subject.read().body(id(1)).unwrap(), None);
    let archived = subject.read().archived(id(1)).unwrap().unwrap();
    assert_eq!((archived.ending, archived.finished_at), (Ending::Deleted, at(30)));
    let states: Vec<_> = archived.recipients.iter().map(|row| row.state).collect();
    assert_eq!(states, [RecipientState::Accepted, RecipientState::Waiting]);
    assert_eq!(subject.journal(1).last().unwrap(), "deleted by an administrator");
    assert_eq!(subject.read().archived(id(3)).unwrap(), None);
}

pub fn a_moved_message_waits_for_the_other_account(subject: &mut Subject) {
    let erp = address("ERP@contoso.com");
    subject.commit(&[accept(1, &["a@example.com"]), accept(2, &["a@example.com"])]);
    subject.commit(&[Change::Move { ids: vec![id(1), id(3)], account: erp.clone(), at: at(10) }]);
    assert_eq!(subject.window(10), [id(2)]);
    assert_eq!(subject.windows(&address("erp@contoso.com"), 10)[0].id, id(1));
    assert_eq!(subject.read().message(id(1)).unwrap().unwrap().account.as_str(), "ERP@contoso.com");
    assert_eq!(subject.journal(1)[1], "moved from lms@contoso.com to ERP@contoso.com");
    assert!(subject.journal(3).is_empty());
    assert_eq!(subject.read().accounts_with_mail().unwrap(), [erp, lms()]);
}

pub fn a_message_changes_its_lane_and_its_story_says_why(subject: &mut Subject) {
    subject.commit(&[accept(1, &["a@example.com"]), accept(2, &["a@example.com"])]);
    let lane = |lane, ids| Change::Lane { ids, lane, why: "because".to_owned(), at: at(10) };
    subject.commit(&[lane(Lane::Bulk, vec![id(1), id(3)]), lane(Lane::Urgent, vec![id(1)])]);
    let stored = subject.read().message(id(1)).unwrap().unwrap();
    assert_eq!((stored.lane, stored.lane_why.as_deref()), (Lane::Urgent, Some("because")));
    assert_eq!(subject.journal(1)[1..], ["lane bulk: because", "lane urgent: because"]);
    assert_eq!(subject.read().message(id(2)).unwrap().unwrap().lane, Lane::Normal);
    assert!(subject.journal(3).is_empty());
    subject.commit(&[Change::Delete { ids: vec![id(1)], at: at(20) }]);
    let archived = subject.read().archived(id(1)).unwrap().unwrap();
    assert_eq!((archived.lane, archived.lane_why), (stored.lane, stored.lane_why));
}

pub fn what_a_budget_counts_waits_beside_the_rest(subject: &mut Subject) {
    let accepted = |n, outside| Change::Accept(Box::new(Incoming { outside, ..incoming(n, &["a@example.com"]) }));
    subject.commit(&[accepted(1, true), accepted(2, false), accepted(3, true)]);
    let rest = Flow::new("moodle", Lane::Normal);
    let outside = rest.clone().to_outside(true);
    assert_eq!(subject.read().flows(&lms()).unwrap(), [rest.clone(), outside.clone()]);
    let mut ids = |flow: &Flow| -> Vec<QueueId> {
        let window = subject.read().window(&lms(), flow, 10).unwrap();
        assert!(window.iter().all(|waiting| waiting.flow == *flow));
        window.iter().map(|waiting| waiting.id).collect()
    };
    assert_eq!((ids(&rest), ids(&outside)), (vec![id(2)], vec![id(1), id(3)]));

    // Somebody was readdressed, or the configuration is another one.
    let lines = subject.journal(3).len();
    subject.commit(&[
        Change::Outside { ids: vec![id(1), id(3), id(9)], outside: false },
        Change::Outside { ids: vec![id(2)], outside: true },
    ]);
    assert_eq!(subject.windows(&lms(), 10).iter().map(|waiting| waiting.id).collect::<Vec<_>>(), [1, 3, 2].map(id));
    assert!(subject.read().message(id(2)).unwrap().unwrap().outside);
    assert_eq!(subject.journal(3).len(), lines, "it says nothing of what became of the message");
}

pub fn a_held_message_is_released_by_a_person_alone(subject: &mut Subject) {
    use RecipientState::{Accepted, Held, InDoubt, Refused, Waiting};

    let all = ["a@example.com", "b@example.com", "c@example.com", "d@example.com"];
    subject.commit(&[accept(1, &all), accept(2, &["a@example.com"]), accept(3, &["a@example.com"])]);
    subject.commit(&[recorded(3, 10, &[], Next::Dead)]);
    subject.commit(&[Change::HoldMessages { ids: vec![id(1), id(3), id(9)], at: at(20) }]);
    assert_eq!((subject.state(1), subject.state(3)), (MessageState::Held, MessageState::Dead));
    assert_eq!(subject.window(10), [id(2)]);
    assert_eq!(subject.held(), (1, 1), "on purpose");

    // The attempt that was under way.
    let answers = [(0, Accepted), (1, Refused), (2, Held), (3, InDoubt)];
    subject.commit(&[recorded(1, 30, &answers, wait(500)), Change::Wake { account: lms(), at: at(31) }]);
    assert_eq!(subject.state(1), MessageState::Held);
    assert_eq!(subject.recipients(1), [Accepted, Refused, Held, InDoubt]);
    assert_eq!(subject.held(), (1, 1), "it left the order in force");

    subject.commit(&[Change::ReleaseMessages { ids: vec![id(1), id(2), id(3), id(9)], at: at(40) }]);
    assert_eq!(subject.recipients(1), [Accepted, Refused, Waiting, InDoubt]);
    let stored = subject.read().message(id(1)).unwrap().unwrap();
    assert_eq!((stored.state, stored.due_at, stored.tries), (MessageState::Waiting, at(40), 1));
    assert_eq!(subject.windows(&lms(), 10)[1].recipients, 2);
    assert_eq!(subject.state(3), MessageState::Dead);
    let told = subject.journal(1);
    assert_eq!([&told[1], &told[3]], ["held by an administrator", "released by an administrator: due now"]);
    assert_eq!(subject.journal(2).len(), 1, "it was not held");
    assert!(subject.journal(9).is_empty());

    subject.commit(&[Change::HoldMessages { ids: vec![id(2)], at: at(50) }]);
    subject.commit(&[recorded(2, 60, &[(0, Accepted)], Next::Archive)]);
    assert!(subject.read().archived(id(2)).unwrap().is_some(), "it had left when it was held");

    subject.commit(&[recorded(1, 70, &[], Next::Hold)]);
    assert_eq!(subject.held(), (1, 0), "nobody has ordered that one");
    subject.commit(&[
        Change::Retry { ids: vec![id(1)], at: at(80) },
        Change::HoldMessages { ids: vec![id(1)], at: at(81) },
    ]);
    subject.commit(&[recorded(1, 90, &[], Next::Hold)]);
    assert_eq!(subject.held(), (1, 0), "its attempt had a reason of its own");
}

pub fn what_is_given_up_while_it_is_tried_stays_a_dead_letter(subject: &mut Subject) {
    use RecipientState::{Accepted, Waiting};

    subject.commit(&[accept(1, &["a@example.com", "b@example.com"]), accept(2, &["a@example.com"])]);
    subject.commit(&[Change::HoldMessages { ids: vec![id(2)], at: at(10) }]);
    let why = "too old".to_owned();
    subject.commit(&[Change::GiveUp { ids: vec![id(1), id(2), id(9)], at: at(20), why: why.clone() }]);
    subject.commit(&[recorded(1, 30, &[(0, Accepted)], wait(500))]);
    assert_eq!((subject.state(1), subject.state(2)), (MessageState::Dead, MessageState::Held));
    assert_eq!(subject.recipients(1), [Accepted, Waiting]);
    assert_eq!(subject.journal(1)[1], why);
    assert!(subject.journal(9).is_empty());
    subject.commit(&[Change::Retry { ids: vec![id(1)], at: at(40) }]);
    assert_eq!(subject.windows(&lms(), 10)[0].recipients, 1);
    subject.commit(&[Change::GiveUp { ids: vec![id(1)], at: at(50), why }]);
    subject.commit(&[Change::Forget { journal_before: at(0), dead_before: at(51), sent_before: at(0) }]);
    assert_eq!(subject.read().message(id(1)).unwrap(), None, "kept as long as any other dead letter");
}

pub fn a_readdressed_recipient_waits_under_its_new_address(subject: &mut Subject) {
    use RecipientState::{Accepted, Refused, Waiting};

    let to =
        |from: &str, to: &str, n| Change::Readdress { id: id(n), from: address(from), to: address(to), at: at(50) };
    let mut sent = incoming(1, &["a@example.com", "old@example.com", "c@example.com"]);
    sent.envelope.recipients[1].notify = Notify::parse("FAILURE");
    subject.commit(&[Change::Accept(Box::new(sent))]);
    subject.commit(&[recorded(1, 10, &[(0, Accepted), (1, Refused), (2, Refused)], Next::Dead)]);
    subject.commit(&[to("OLD@example.com", "neu@exämple.com", 1)]);
    let stored = subject.read().message(id(1)).unwrap().unwrap();
    let row = &stored.recipients[1];
    assert_eq!((row.address.as_str(), row.state, row.reply.as_deref()), ("neu@exämple.com", Waiting, None));
    let said = &stored.envelope.recipients[1];
    assert_eq!(said.address.as_str(), "neu@exämple.com");
    assert_eq!(
        (said.notify, said.orcpt.as_ref().unwrap().as_str()),
        (Notify::parse("FAILURE"), "rfc822;OLD@example.com")
    );
    assert!(stored.envelope.smtputf8);
    assert_eq!((stored.state, stored.due_at, stored.tries), (MessageState::Waiting, at(50), 0));
    assert_eq!(subject.recipients(1), [Accepted, Waiting, Refused], "the others are as they were");
    assert_eq!(subject.windows(&lms(), 1)[0].recipients, 1);
    let line = "readdressed by an administrator from OLD@example.com to neu@exämple.com; OLD@example.com was refused: \
                reply of 10: refused";
    assert_eq!(subject.journal(1)[2], line);

    // Once more: whom it was for in the first place stays so.
    subject.commit(&[to("neu@exämple.com", "newer@example.com", 1)]);
    let stored = subject.read().message(id(1)).unwrap().unwrap();
    let said = &stored.envelope.recipients[1];
    assert_eq!(said.address.as_str(), "newer@example.com");
    assert_eq!(said.orcpt.as_ref().unwrap().as_str(), "rfc822;OLD@example.com");
}

pub fn what_cannot_be_readdressed_stays_as_it_is(subject: &mut Subject) {
    let to =
        |from: &str, n| Change::Readdress { id: id(n), from: address(from), to: address("z@example.com"), at: at(50) };
    subject.commit(&[accept(1, &["a@example.com", "b@example.com"]), accept(2, &["a@example.com"])]);
    subject.commit(&[recorded(1, 10, &[(0, RecipientState::Accepted)], wait(500))]);
    let before = subject.read().message(id(1)).unwrap();
    subject.commit(&[to("a@example.com", 1), to("other@example.com", 1), to("a@example.com", 9)]);
    assert_eq!(subject.read().message(id(1)).unwrap(), before);
    subject.commit(&[Change::HoldMessages { ids: vec![id(2)], at: at(20) }, to("a@example.com", 2)]);
    assert_eq!(subject.state(2), MessageState::Held, "only a release frees it");
}
