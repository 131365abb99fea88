//! Who is to be told, and is told once.

use super::*;
use crate::message::Lane;
use crate::store::samples::{accept, address, at, incoming, recorded, wait};

fn telling(refusals: &[(u32, usize, Telling)], mail: Option<u32>) -> Change {
    let refusal = |&(n, index, telling): &(u32, usize, Telling)| Refusal { message: id(n), index, telling };
    let entry = JournalEntry { at: at(50), message: Some(id(1)), account: None, text: "told".to_owned() };
    let fact = Fact { account: None, name: "notice/x".to_owned(), value: Some("1".to_owned()), at: at(50) };
    Change::Tell(Box::new(Tell {
        mail: mail.map(|n| incoming(n, &["noreply@contoso.com"])),
        refusals: refusals.iter().map(refusal).collect(),
        entries: vec![entry],
        facts: vec![fact],
        at: at(50),
        ..Tell::default()
    }))
}

pub fn a_refusal_is_to_be_told_until_it_was_told_once(subject: &mut Subject) {
    use RecipientState::{Accepted, Refused, Waiting};

    subject.commit(&[accept(1, &["a@example.com", "b@example.com"]), accept(2, &["c@example.com"])]);
    subject.commit(&[recorded(2, 20, &[(0, Refused)], Next::Dead)]);
    subject.commit(&[recorded(1, 10, &[(0, Accepted), (1, Refused)], Next::Dead)]);
    assert_eq!(subject.read().to_tell(at(9), 10).unwrap(), []);
    assert_eq!(subject.read().to_tell(at(20), 10).unwrap(), [(id(1), 1), (id(2), 0)], "the oldest first");
    assert_eq!(subject.read().to_tell(at(20), 1).unwrap(), [(id(1), 1)]);

    subject.commit(&[telling(&[(1, 1, Telling::Done), (2, 0, Telling::At(at(90)))], Some(3))]);
    assert_eq!(subject.read().to_tell(at(89), 10).unwrap(), []);
    assert_eq!(subject.read().to_tell(at(90), 10).unwrap(), [(id(2), 0)]);
    assert!(subject.window(10).contains(&id(3)), "the mail that tells it waits");
    assert_eq!(subject.journal(1).last().unwrap(), "told");
    assert_eq!(subject.read().facts().unwrap().len(), 1);

    subject.commit(&[telling(&[(2, 0, Telling::Nobody)], None)]);
    assert_eq!(subject.read().to_tell(at(1_000_000), 10).unwrap(), []);
    assert_eq!(subject.read().told_nobody().unwrap(), 1);

    // What waits again is no refusal; refused again, it is to be told again.
    subject.commit(&[Change::Retry { ids: vec![id(1), id(2)], at: at(100) }]);
    assert_eq!(subject.read().told_nobody().unwrap(), 0);
    subject.commit(&[recorded(1, 110, &[(1, Waiting)], wait(120)), recorded(2, 110, &[(0, Refused)], Next::Dead)]);
    assert_eq!(subject.read().to_tell(at(110), 10).unwrap(), [(id(2), 0)]);
    subject.commit(&[Change::Delete { ids: vec![id(2)], at: at(111) }]);
    assert_eq!(subject.read().to_tell(at(110), 10).unwrap(), []);
}

pub fn a_notice_about_what_is_settled_meanwhile_is_not_written(subject: &mut Subject) {
    subject.commit(&[accept(1, &["a@example.com"]), accept(2, &["a@example.com"])]);
    let refused = [(0, RecipientState::Refused)];
    subject.commit(&[recorded(1, 10, &refused, Next::Dead), recorded(2, 10, &refused, Next::Dead)]);
    subject.commit(&[Change::Retry { ids: vec![id(1)], at: at(20) }]);
    let done = Telling::Done;
    subject.commit(&[telling(&[(1, 0, done)], Some(3)), telling(&[(2, 0, done)], Some(4))]);
    subject.commit(&[telling(&[(2, 0, done)], Some(5)), telling(&[(1, 0, done), (7, 0, done)], Some(6))]);
    let waiting: Vec<_> = subject.read().list(None, 10).unwrap().iter().map(|stored| stored.id).collect();
    assert_eq!(waiting, [id(1), id(2), id(4)]);
    assert_eq!(subject.journal(1).iter().filter(|line| *line == "told").count(), 1);
}

pub fn who_waits_long_is_warned_once(subject: &mut Subject) {
    let of = |n: u32, lane, sender: Option<&str>| {
        let mut mail = incoming(n, &["a@example.com"]);
        mail.lane = lane;
        mail.envelope.sender = sender.map(address);
        Change::Accept(Box::new(mail))
    };
    let me = Some("me@contoso.com");
    subject.commit(&[
        of(1, Lane::Normal, me),
        of(2, Lane::Bulk, me),
        of(3, Lane::Urgent, me),
        of(4, Lane::Normal, None),
    ]);
    subject.commit(&[of(5, Lane::Normal, me), of(6, Lane::Normal, me)]);
    subject.commit(&[recorded(5, 10, &[(0, RecipientState::Refused)], Next::Dead)]);
    let found = |subject: &mut Subject, after, limit| -> Vec<_> {
        subject.read().unwarned(after, id(6), limit).unwrap().iter().map(|stored| stored.id).collect()
    };
    assert_eq!(found(subject, None, 10), [id(1), id(3)]);
    assert_eq!(found(subject, None, 1), [id(1)]);
    assert_eq!(found(subject, Some(id(1)), 10), [id(3)]);
    let warn = |ids: &[u32], mail| {
        let mail = Some(incoming(mail, &["me@contoso.com"]));
        Change::Tell(Box::new(Tell {
            mail,
            warned: ids.iter().map(|&n| id(n)).collect(),
            at: at(60),
            ..Tell::default()
        }))
    };
    subject.commit(&[warn(&[1], 8), warn(&[1, 5], 9)]);
    assert_eq!(found(subject, None, 10), [id(3)]);
    assert!(subject.read().message(id(8)).unwrap().is_some());
    assert_eq!(subject.read().message(id(9)).unwrap(), None, "one was warned before, the other does not wait");
}
