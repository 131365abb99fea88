//! The queue as it is read: windows, lists, counts, journals.

use super::*;
use crate::message::Lane;
use crate::store::samples::{accept, address, at, incoming, recorded, wait};

pub fn the_window_is_ordered_and_bounded(subject: &mut Subject) {
    let mut other = incoming(9, &["a@example.com"]);
    other.account = address("erp@contoso.com");
    let mut spelled = incoming(5, &["a@example.com", "b@example.com"]);
    spelled.account = address("LMS@Contoso.com");
    subject.commit(&[Change::Accept(Box::new(other)), Change::Accept(Box::new(spelled))]);
    subject.commit(&[4, 3, 2, 1].map(|n| accept(n, &["a@example.com"])));
    subject.commit(&[
        recorded(1, 10, &[], wait(100)),
        recorded(2, 10, &[], Next::Hold),
        recorded(3, 10, &[], wait(4)),
        recorded(5, 10, &[(0, RecipientState::Accepted)], wait(50)),
    ]);
    assert_eq!(subject.window(10), [id(3), id(4), id(5), id(1)], "by due time, equal ones by id");
    assert_eq!(subject.window(2), [id(3), id(4)]);
    let window = subject.windows(&lms(), 3);
    let flow = Flow::new("moodle", Lane::Normal);
    assert_eq!(window[2], Waiting { id: id(5), due_at: at(50), recipients: 1, flow });
}

pub fn every_flow_has_a_window_of_its_own(subject: &mut Subject) {
    let flows = [("moodle", Lane::Urgent), ("", Lane::Normal), ("erp", Lane::Normal), ("moodle", Lane::Bulk)];
    let mut changes: Vec<Change> = Vec::new();
    for n in 1..=20 {
        let (app, lane) = flows[n as usize % flows.len()];
        let app = app.to_owned();
        changes.push(Change::Accept(Box::new(Incoming { app, lane, ..incoming(n, &["a@example.com"]) })));
    }
    changes.push(Change::Accept(Box::new(Incoming {
        account: address("erp@contoso.com"),
        ..incoming(30, &["a@example.com"])
    })));
    subject.commit(&changes);
    assert_eq!(subject.read().flows(&lms()).unwrap(), flows.map(|(app, lane)| Flow::new(app, lane)));
    let erp = Flow::new("erp", Lane::Normal);
    let ids = |window: Vec<Waiting>| window.iter().map(|waiting| waiting.id).collect::<Vec<_>>();
    assert_eq!(ids(subject.read().window(&lms(), &erp, 10).unwrap()), [2, 6, 10, 14, 18].map(id));
    assert_eq!(ids(subject.read().window(&lms(), &erp, 2).unwrap()), [id(2), id(6)]);
    let settled = [2, 6, 10, 14].map(|n| recorded(n, 60, &[(0, RecipientState::Accepted)], Next::Archive));
    subject.commit(&settled);
    subject.commit(&[recorded(18, 60, &[], Next::Hold)]);
    assert_eq!(ids(subject.read().window(&lms(), &erp, 10).unwrap()), []);
    assert!(!subject.read().flows(&lms()).unwrap().contains(&erp), "nothing of it waits");
}

pub fn the_list_goes_on_from_an_id(subject: &mut Subject) {
    subject.commit(&[5, 1, 4, 2, 3].map(|n| accept(n, &["a@example.com", "b@example.com"])));
    subject.commit(&[recorded(4, 10, &[], Next::Dead), Change::Delete { ids: vec![id(2)], at: at(10) }]);
    let mut ids = |after, limit| -> Vec<_> {
        subject.read().list(after, limit).unwrap().iter().map(|stored| (stored.id, stored.recipients.len())).collect()
    };
    assert_eq!(ids(None, 2), [(id(1), 2), (id(3), 2)]);
    assert_eq!(ids(Some(id(3)), 2), [(id(4), 2), (id(5), 2)]);
    assert_eq!(ids(Some(id(5)), 2), []);
}

pub fn the_journals_show_their_own_lines_in_order(subject: &mut Subject) {
    let note = |message: Option<u32>, account: Option<Address>, when| {
        let text = format!("line {when}");
        Change::Note(JournalEntry { at: at(when), message: message.map(id), account, text })
    };
    subject.commit(&[
        note(None, Some(address("LMS@contoso.com")), 1),
        note(Some(1), Some(lms()), 2),
        note(None, None, 3),
        note(None, Some(lms()), 4),
        note(None, Some(address("erp@contoso.com")), 5),
        note(None, Some(lms()), 6),
    ]);
    let times = |entries: Vec<JournalEntry>| -> Vec<_> { entries.into_iter().map(|entry| entry.at).collect() };
    assert_eq!(times(subject.read().account_journal(&lms(), 10).unwrap()), [at(1), at(4), at(6)]);
    assert_eq!(times(subject.read().account_journal(&lms(), 2).unwrap()), [at(4), at(6)]);
    assert_eq!(times(subject.read().recent_journal(3).unwrap()), [at(4), at(5), at(6)]);
    let entry = JournalEntry { at: at(2), message: Some(id(1)), account: Some(lms()), text: "line 2".to_owned() };
    assert_eq!(subject.read().journal(id(1)).unwrap(), [entry]);
}

pub fn messages_are_counted_by_account_state_and_flow(subject: &mut Subject) {
    assert_eq!(subject.read().counts().unwrap(), []);
    assert_eq!(subject.read().accounts_with_mail().unwrap(), []);
    subject.commit(&[4, 3, 2, 1].map(|n| accept(n, &["a@example.com", "b@example.com"])));
    subject.commit(&[recorded(1, 10, &[], Next::Dead), recorded(4, 10, &[], Next::Dead)]);
    subject.commit(&[recorded(3, 10, &[(0, RecipientState::Accepted)], wait(70))]);
    let mut other = incoming(9, &["a@example.com"]);
    other.account = address("erp@contoso.com");
    let mut bulk = incoming(10, &["a@example.com"]);
    (bulk.lane, bulk.app) = (Lane::Bulk, "erp".to_owned());
    subject.commit(&[Change::Accept(Box::new(other)), Change::Accept(Box::new(bulk))]);
    let count = |account: &str, state, messages, oldest, recipients, last_due| {
        let account = address(account);
        Count {
            account,
            state,
            flow: Flow::new("moodle", Lane::Normal),
            messages,
            by_rule: 0,
            by_order: 0,
            oldest: at(oldest),
            recipients,
            last_due: at(last_due),
        }
    };
    let expected = [
        count("erp@contoso.com", MessageState::Waiting, 1, 9, 1, 9),
        count("lms@contoso.com", MessageState::Dead, 2, 1, 4, 4),
        count("lms@contoso.com", MessageState::Waiting, 2, 2, 3, 70),
        Count { flow: Flow::new("erp", Lane::Bulk), ..count("lms@contoso.com", MessageState::Waiting, 1, 10, 1, 10) },
    ];
    assert_eq!(subject.read().counts().unwrap(), expected);
    assert_eq!(subject.read().accounts_with_mail().unwrap(), [address("erp@contoso.com"), lms()]);
}
