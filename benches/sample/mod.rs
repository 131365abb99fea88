//! What the benches take for a usual message.

use bytes::Bytes;
use jiff::Timestamp;
use xoauth2_relay::message::{Address, Body, Envelope, Lane, Protocol, QueueId, Trace};
use xoauth2_relay::store::Incoming;

/// A message of one recipient with this body; its id is still to be given.
pub fn incoming(body: Bytes) -> Incoming {
    let address = |text| Address::parse(text).expect("it is an address");
    let account = address("lms@contoso.com");
    Incoming {
        id: QueueId::from_number(0),
        received_at: Timestamp::UNIX_EPOCH,
        app: "moodle".to_owned(),
        envelope: Envelope {
            sender: Some(account.clone()),
            recipients: vec![address("student@example.com").into()],
            ..Envelope::default()
        },
        account,
        lane: Lane::Normal,
        lane_why: None,
        outside: false,
        trace: Trace {
            peer: "127.0.0.1".parse().expect("it is an address"),
            helo: Some("moodle.local".to_owned()),
            protocol: Protocol { extended: true, tls: false, authenticated: true },
            user: Some("moodle".to_owned()),
        },
        subject: Some("Forum: a new post".to_owned()),
        size: body.len() as u64,
        body: Body::Inline(body),
    }
}
