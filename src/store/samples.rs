//! Messages and changes for tests.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::{
    Change, Hold, HoldCause, Incoming, MessageState, Next, RecipientRow, RecipientState, RecipientUpdate, Record,
    Stored,
};
use crate::message::{Address, Body, Envelope, Lane, Protocol, QueueId, Recipient, Trace};

/// Second `n` of the tests' time.
pub fn at(n: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + n).unwrap()
}

/// The `n`-th id.
pub fn id(n: u32) -> QueueId {
    QueueId::new(at(0), n)
}

/// An address.
pub fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

/// The account that the samples use.
pub fn lms() -> Address {
    address("lms@contoso.com")
}

/// A message to these.
pub fn incoming(n: u32, recipients: &[&str]) -> Incoming {
    let body = format!("Subject: {n}\r\n\r\nbody {n}\r\n").into_bytes();
    Incoming {
        id: id(n),
        received_at: at(i64::from(n)),
        app: "moodle".to_owned(),
        account: lms(),
        lane: Lane::Normal,
        lane_why: None,
        outside: false,
        envelope: Envelope {
            sender: Some(address("noreply@contoso.com")),
            recipients: recipients.iter().map(|text| address(text).into()).collect(),
            ..Envelope::default()
        },
        trace: Trace {
            peer: "127.0.0.1".parse().unwrap(),
            helo: Some("moodle.local".to_owned()),
            protocol: Protocol { extended: true, tls: false, authenticated: true },
            user: Some("moodle".to_owned()),
        },
        subject: Some(n.to_string()),
        size: body.len() as u64,
        body: Body::Inline(Bytes::from(body)),
    }
}

/// What is stored of it at first.
pub fn accepted(incoming: Incoming) -> Stored {
    let row = |recipient: &Recipient| RecipientRow {
        address: recipient.address.clone(),
        state: RecipientState::Waiting,
        reply: None,
    };
    Stored {
        id: incoming.id,
        received_at: incoming.received_at,
        app: incoming.app,
        account: incoming.account,
        lane: incoming.lane,
        lane_why: incoming.lane_why,
        outside: incoming.outside,
        state: MessageState::Waiting,
        due_at: incoming.received_at,
        tries: 0,
        tried_for: Duration::ZERO,
        recipients: incoming.envelope.recipients.iter().map(row).collect(),
        envelope: incoming.envelope,
        trace: incoming.trace,
        subject: incoming.subject,
        size: incoming.size,
    }
}

/// A message that waits, with a recipient in each of these states: `user0@example.com` and so on.
pub fn stored(states: &[RecipientState]) -> Stored {
    let recipients: Vec<String> = (0..states.len()).map(|n| format!("user{n}@example.com")).collect();
    let recipients: Vec<&str> = recipients.iter().map(String::as_str).collect();
    let mut stored = accepted(incoming(0, &recipients));
    for (row, &state) in stored.recipients.iter_mut().zip(states) {
        row.state = state;
    }
    stored
}

/// It is handed over.
pub fn accept(n: u32, recipients: &[&str]) -> Change {
    Change::Accept(Box::new(incoming(n, recipients)))
}

/// An attempt at it ended.
pub fn record(n: u32, when: i64, recipients: &[(usize, RecipientState)], next: Next) -> Record {
    Record {
        id: id(n),
        account: lms(),
        at: at(when),
        recipients: recipients
            .iter()
            .map(|&(index, state)| RecipientUpdate {
                index,
                state,
                reply: format!("reply of {when}: {}", state.as_str()),
            })
            .collect(),
        next,
        sent: None,
        journal: format!("attempt of {when}"),
    }
}

/// The same as a change.
pub fn recorded(n: u32, when: i64, recipients: &[(usize, RecipientState)], next: Next) -> Change {
    Change::Record(Box::new(record(n, when, recipients, next)))
}

/// The account is held from then on, and nobody has said anything about it.
pub fn hold(cause: HoldCause, since: Timestamp) -> Hold {
    Hold { account: lms(), cause, reply: None, error: None, codes: Vec::new(), since, probe_at: None, probes: 0 }
}

/// Wait until then, after one try.
pub fn wait(due: i64) -> Next {
    Next::Wait { due_at: at(due), tries: 1, tried_for: Duration::from_mins(1) }
}
