//! What every engine has to do. An engine's own tests run this with `contract::suite!`.

use std::any::Any;
use std::time::Duration;

use bytes::Bytes;

use super::engine::{Committed, Failure, Found, Opened, Reader};
use super::samples::{accept, accepted, address, at, hold, id, incoming, lms, record, recorded, wait};
use super::*;
use crate::message::{Body, EnvelopeId, Lane, Notify, OriginalRecipient, Protocol, Return};

/// An engine with something that keeps it alive (its folder).
pub struct Subject {
    opened: Opened,
    _keep: Box<dyn Any>,
}

impl Subject {
    /// Tests this; `keep` lives as long.
    pub fn new(opened: Opened, keep: impl Any) -> Self {
        Self { opened, _keep: Box::new(keep) }
    }

    fn commit(&mut self, changes: &[Change]) -> Committed {
        self.opened.engine.commit(changes).unwrap()
    }

    fn read(&mut self) -> &mut dyn Reader {
        self.opened.readers[0].as_mut()
    }

    fn state(&mut self, n: u32) -> MessageState {
        self.read().message(id(n)).unwrap().unwrap().state
    }

    fn recipients(&mut self, n: u32) -> Vec<RecipientState> {
        self.read().message(id(n)).unwrap().unwrap().recipients.iter().map(|recipient| recipient.state).collect()
    }

    fn journal(&mut self, n: u32) -> Vec<String> {
        self.read().journal(id(n)).unwrap().into_iter().map(|entry| entry.text).collect()
    }

    /// What waits in the queue of the account, flow by flow.
    /// How many are held, and how many of these because somebody ordered it.
    fn held(&mut self) -> (u64, u64) {
        let counts = self.read().counts().unwrap();
        let held = counts.iter().find(|count| count.state == MessageState::Held);
        held.map_or((0, 0), |count| (count.messages, count.by_order))
    }

    fn window(&mut self, limit: u32) -> Vec<QueueId> {
        self.windows(&lms(), limit).iter().map(|waiting| waiting.id).collect()
    }

    fn windows(&mut self, account: &Address, limit: u32) -> Vec<Waiting> {
        let flows = self.read().flows(account).unwrap();
        flows.iter().flat_map(|flow| self.read().window(account, flow, limit).unwrap()).collect()
    }
}

/// Makes a test of each part of the contract; `$open` gives a new and empty [`Subject`].
macro_rules! suite {
    ($open:expr; $($name:ident)*) => { $(#[test] fn $name() { crate::store::contract::$name(&mut $open) })* };
    ($open:expr) => {
        crate::store::contract::suite! { $open;
            an_accepted_message_is_read_back_whole
            odd_values_are_read_back_as_they_were
            a_batch_is_committed_whole_or_not_at_all
            a_message_without_recipients_is_not_taken
            the_window_is_ordered_and_bounded
            every_flow_has_a_window_of_its_own
            a_finished_message_moves_to_the_archive
            an_accepted_recipient_stays_accepted
            pending_recipients_are_never_archived
            a_record_for_a_deleted_message_brings_nothing_back
            each_next_step_leads_to_its_state
            a_retry_begins_anew_and_keeps_what_was_accepted
            a_wake_makes_waiting_mail_due_and_forgets_no_try
            a_deleted_message_leaves_its_story
            a_moved_message_waits_for_the_other_account
            a_message_changes_its_lane_and_its_story_says_why
            what_a_budget_counts_waits_beside_the_rest
            a_held_message_is_released_by_a_person_alone
            what_is_given_up_while_it_is_tried_stays_a_dead_letter
            a_readdressed_recipient_waits_under_its_new_address
            what_cannot_be_readdressed_stays_as_it_is
            the_list_goes_on_from_an_id
            a_hold_is_journalled_once_and_released_once
            the_last_sign_in_counts
            sign_ins_are_sealed_anew_together_and_none_is_brought_back
            what_was_learnt_is_known_until_it_is_forgotten
            a_refusal_is_to_be_told_until_it_was_told_once
            a_notice_about_what_is_settled_meanwhile_is_not_written
            who_waits_long_is_warned_once
            the_pace_is_remembered_by_login
            the_journals_show_their_own_lines_in_order
            messages_are_counted_by_account_state_and_flow
            the_old_is_forgotten_in_shares
            the_last_id_is_remembered_when_the_message_is_gone
            a_run_that_did_not_end_is_noticed
        }
    };
}
pub(crate) use suite;

pub fn an_accepted_message_is_read_back_whole(subject: &mut Subject) {
    let sent = incoming(1, &["a@example.com", "b@example.com"]);
    subject.commit(&[Change::Accept(Box::new(sent.clone()))]);
    assert_eq!(subject.read().message(id(1)).unwrap(), Some(accepted(sent.clone())));
    let Body::Inline(bytes) = sent.body else { panic!("the sample is inline") };
    assert_eq!(subject.read().body(id(1)).unwrap(), Some(Found::Inline(bytes)));
    assert_eq!(subject.journal(1), ["received from app moodle: 22 octets for 2 recipients"]);
    assert_eq!(subject.read().message(id(2)).unwrap(), None);
    assert_eq!(subject.read().body(id(2)).unwrap(), None);
}

pub fn odd_values_are_read_back_as_they_were(subject: &mut Subject) {
    let mut sent = incoming(1, &["\"it's, odd\"@example.com", "jörg@bücher.example"]);
    sent.envelope.sender = None;
    sent.envelope.smtputf8 = true;
    sent.envelope.ret = Some(Return::Headers);
    sent.envelope.envid = EnvelopeId::parse("it's+20odd");
    sent.envelope.recipients[0].notify = Notify::parse("NEVER");
    sent.envelope.recipients[1].notify = Notify::parse("SUCCESS,DELAY");
    sent.envelope.recipients[1].orcpt = OriginalRecipient::parse("utf-8;j\\x{F6}rg@b.example");
    assert!(sent.envelope.envid.is_some() && sent.envelope.recipients[1].orcpt.is_some());
    sent.trace.peer = "2001:db8::1".parse().unwrap();
    sent.trace.helo = None;
    sent.trace.user = Some("x'; DROP TABLE message; --\0ü".to_owned());
    sent.trace.protocol = Protocol { extended: false, tls: true, authenticated: true };
    sent.subject = Some(String::new());
    sent.body = Body::Inline(Bytes::from_static(b"\0\xff\r\n.\r\n"));
    subject.commit(&[Change::Accept(Box::new(sent.clone()))]);
    let stored = subject.read().message(id(1)).unwrap().unwrap();
    assert_eq!((stored.envelope, stored.trace, stored.subject), (sent.envelope, sent.trace, sent.subject));
    assert_eq!(subject.read().body(id(1)).unwrap(), Some(Found::Inline(Bytes::from_static(b"\0\xff\r\n.\r\n"))));

    let mut large = incoming(2, &["a@example.com"]);
    large.body = Body::File("somewhere".into());
    subject.commit(&[Change::Accept(Box::new(large))]);
    assert_eq!(subject.read().body(id(2)).unwrap(), Some(Found::InFile));
}

pub fn a_batch_is_committed_whole_or_not_at_all(subject: &mut Subject) {
    subject.commit(&[accept(1, &["a@example.com"])]);
    let batch = [accept(2, &["a@example.com"]), accept(1, &["b@example.com"]), accept(3, &["a@example.com"])];
    let failure = subject.opened.engine.commit(&batch).unwrap_err();
    assert!(matches!(failure, Failure::Fault(_)), "{failure:?}");
    assert_eq!(subject.window(10), [id(1)]);
    let stored = subject.read().message(id(1)).unwrap().unwrap();
    assert_eq!(stored.recipients[0].address, address("a@example.com"));
    subject.commit(&[accept(2, &["a@example.com"])]);
    assert_eq!(subject.window(10), [id(1), id(2)]);
}

pub fn a_message_without_recipients_is_not_taken(subject: &mut Subject) {
    let failure = subject.opened.engine.commit(&[accept(1, &[])]).unwrap_err();
    assert!(matches!(failure, Failure::Fault(_)), "{failure:?}");
}

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

pub fn a_hold_is_journalled_once_and_released_once(subject: &mut Subject) {
    let login = Hold {
        account: address("LMS@contoso.com"),
        reply: Some("535 5.7.3 Authentication unsuccessful".to_owned()),
        codes: vec![70043, 7_000_215],
        probe_at: Some(at(70)),
        ..hold(HoldCause::Login, at(10))
    };
    let probed = Hold { probe_at: None, probes: 1, ..login.clone() };
    subject.commit(&[Change::Hold(Box::new(login)), Change::Hold(Box::new(probed.clone()))]);
    assert_eq!(subject.read().holds().unwrap(), std::slice::from_ref(&probed));
    let sign_in = Hold { cause: HoldCause::SignIn, reply: None, error: Some("expired".to_owned()), ..probed };
    subject.commit(&[Change::Hold(Box::new(sign_in))]);
    let release = Change::Release { account: lms(), at: at(90), why: "signed in again".to_owned() };
    subject.commit(&[release.clone(), release]);
    assert_eq!(subject.read().holds().unwrap(), []);
    let journal = subject.read().account_journal(&lms(), 10).unwrap();
    let lines: Vec<_> = journal.iter().map(|entry| entry.text.as_str()).collect();
    let expected = [
        "held, Exchange refuses the login: 535 5.7.3 Authentication unsuccessful",
        "held, the sign-in no longer works: expired",
        "released: signed in again",
    ];
    assert_eq!(lines, expected);
}

pub fn the_last_sign_in_counts(subject: &mut Subject) {
    assert!(!subject.read().has_sign_ins().unwrap());
    let first = SealedSignIn {
        account: address("LMS@contoso.com"),
        current: vec![0, 1, 255],
        previous: None,
        signed_in_as: None,
        since: at(1),
        refreshed_at: at(1),
        refresh_life: None,
        access: None,
    };
    let second = SealedSignIn {
        current: vec![2],
        previous: Some(vec![0, 1, 255]),
        signed_in_as: Some("jane@contoso.com".to_owned()),
        refreshed_at: at(3),
        refresh_life: Some(Duration::from_hours(24)),
        access: Some(SealedAccess { token: vec![3], received_at: at(3), life: Duration::from_mins(75) }),
        ..first.clone()
    };
    subject.commit(&[Change::SignIn(Box::new(first)), Change::SignIn(Box::new(second.clone()))]);
    assert_eq!(subject.read().sign_in(&lms()).unwrap(), Some(second.clone()));
    let without_access = SealedSignIn { access: None, ..second };
    subject.commit(&[Change::SignIn(Box::new(without_access.clone()))]);
    assert_eq!(subject.read().sign_in(&lms()).unwrap(), Some(without_access));
    assert_eq!(subject.read().sign_in(&address("erp@contoso.com")).unwrap(), None);
    assert!(subject.read().has_sign_ins().unwrap());
}

pub fn sign_ins_are_sealed_anew_together_and_none_is_brought_back(subject: &mut Subject) {
    let sealed = |account: &str, octet: u8| SealedSignIn {
        account: address(account),
        current: vec![octet],
        previous: Some(vec![octet, octet]),
        signed_in_as: None,
        since: at(1),
        refreshed_at: at(2),
        refresh_life: None,
        access: Some(SealedAccess {
            token: vec![octet, octet, octet],
            received_at: at(2),
            life: Duration::from_hours(1),
        }),
    };
    let sign_in = |account, octet| Change::SignIn(Box::new(sealed(account, octet)));
    subject.commit(&[sign_in("lms@contoso.com", 1), sign_in("erp@contoso.com", 1), sign_in("old@contoso.com", 1)]);
    let key = Fact { account: None, name: "vault/key".to_owned(), value: Some("2".to_owned()), at: at(3) };
    let entry = JournalEntry { at: at(3), message: None, account: None, text: "a new key".to_owned() };
    let anew = ["lms@contoso.com", "ERP@contoso.com", "gone@contoso.com"].map(|account| sealed(account, 2)).into();
    subject.commit(&[Change::Reseal(Box::new(Resealed { sign_ins: anew, key: key.clone(), entry: entry.clone() }))]);
    let expected = [sealed("ERP@contoso.com", 2), sealed("lms@contoso.com", 2), sealed("old@contoso.com", 1)];
    assert_eq!(subject.read().sign_ins().unwrap(), expected);
    assert_eq!(subject.read().facts().unwrap(), [key]);
    assert_eq!(subject.read().recent_journal(1).unwrap(), [entry]);
}

pub fn what_was_learnt_is_known_until_it_is_forgotten(subject: &mut Subject) {
    let fact = |account: Option<&str>, name: &str, value: Option<&str>, n| Fact {
        account: account.map(address),
        name: name.to_owned(),
        value: value.map(str::to_owned),
        at: at(n),
    };
    let own = fact(None, "instance", Some("production"), 1);
    let lms = fact(Some("LMS@contoso.com"), "user", Some("it's \0 ü"), 3);
    let erp = fact(Some("erp@contoso.com"), "user", Some(""), 2);
    subject.commit(&[
        Change::Learn(fact(Some("lms@contoso.com"), "user", Some("earlier"), 1)),
        Change::Learn(lms.clone()),
        Change::Learn(own.clone()),
        Change::Learn(erp.clone()),
    ]);
    assert_eq!(subject.read().facts().unwrap(), [own.clone(), erp.clone(), lms]);
    subject.commit(&[Change::Learn(fact(Some("lms@CONTOSO.com"), "user", None, 4))]);
    assert_eq!(subject.read().facts().unwrap(), [own, erp]);
}

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

pub fn the_pace_is_remembered_by_login(subject: &mut Subject) {
    let use_of = |login: &str, when, recipients, outside| {
        let mut record = record(99, when, &[], wait(0));
        record.sent = Some(Sent { login: address(login), at: at(when), recipients, outside });
        Change::Record(Box::new(record))
    };
    subject.commit(&[
        use_of("LMS@contoso.com", 30, 5, 3),
        use_of("lms@contoso.com", 10, 1, 0),
        use_of("lms@contoso.com", 20, 0, 0),
        use_of("erp@contoso.com", 30, 7, 7),
    ]);
    let sent = subject.read().sent_since(&lms(), at(20)).unwrap();
    let of = |when, recipients, outside| Sent { login: lms(), at: at(when), recipients, outside };
    assert_eq!(sent, [of(20, 0, 0), of(30, 5, 3)]);
    assert_eq!(subject.read().recipients_since(&lms(), at(10)).unwrap(), 6);
    assert_eq!(subject.read().recipients_since(&lms(), at(31)).unwrap(), 0);
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
