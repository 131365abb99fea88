//! What is handed over, and how it is read back.

use bytes::Bytes;

use super::*;
use crate::message::{Body, EnvelopeId, Notify, OriginalRecipient, Protocol, Return};
use crate::store::engine::{Failure, Found};
use crate::store::samples::{accept, accepted, address, incoming};

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
