//! The whole client against a server that follows a script.

mod login;
mod loss;
mod outside;
mod reuse;
mod talk;
mod upstream;

use std::sync::Arc;

use bytes::Bytes;

use self::upstream::Upstream;
use super::{Attempt, AttemptError, Class, Credentials, Delivery, Pool, Session, Verdict};
use crate::config::{Account, HostPort, Secret, SmtpTls, testing};
use crate::message::{Address, Body, QueueId, SenderPolicy};
use crate::store::{Stored, samples};

/// Up to an accepted login, without PIPELINING.
const LOGIN: &str = "
    S: 220 mx.example ESMTP ready [0A1B]
    C: EHLO relay.contoso.com
    S: 250-mx.example
    S: 250 AUTH LOGIN XOAUTH2
    C: AUTH XOAUTH2
    S: 334
    C: dXNlcj1sbXNAY29udG9zby5jb20BYXV0aD1CZWFyZXIgVE9LRU4BAQ==
    S: 235 2.7.0 Authentication successful
";

/// The same with all that Exchange offers.
const LOGIN_PIPELINED: &str = "
    S: 220 mx.example ESMTP ready
    C: EHLO relay.contoso.com
    S: 250-mx.example
    S: 250-SIZE 157286400
    S: 250-PIPELINING
    S: 250-8BITMIME
    S: 250-SMTPUTF8
    S: 250 AUTH XOAUTH2
    C: AUTH XOAUTH2
    S: 334
    C: dXNlcj1sbXNAY29udG9zby5jb20BYXV0aD1CZWFyZXIgVE9LRU4BAQ==
    S: 235 2.7.0 Authentication successful
";

/// One message for one recipient.
const ONE_MESSAGE: &str = "
    C: MAIL FROM:<lms@contoso.com>
    S: 250 2.1.0 Sender OK
    C: RCPT TO:<a@example.com>
    S: 250 2.1.5 Recipient OK
    C: DATA
    S: 354 go on
    BODY
    S: 250 2.0.0 OK <id> [Hostname=mx]
";

const MESSAGE: &str =
    "From: lms@contoso.com\r\nDate: Mon, 4 Aug 2025 11:00:00 +0000\r\nMessage-ID: <1@lms>\r\n\r\nHello\r\n.\r\n";

/// What `MESSAGE` is between DATA and the end of the session.
const ON_THE_WIRE: &str = "Received: from lms ([127.0.0.1])\r\n\tby relay.contoso.com with ESMTPA id 0000000000007;\r\n\t\
    Mon, 4 Aug 2025 11:15:30 +0000\r\nFrom: lms@contoso.com\r\nDate: Mon, 4 Aug 2025 11:00:00 +0000\r\n\
    Message-ID: <1@lms>\r\n\r\nHello\r\n..\r\n.\r\n";

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn account(port: u16, smtp_tls: SmtpTls) -> Account {
    let smtp = HostPort { host: "127.0.0.1".to_owned(), port };
    Account { smtp, smtp_tls, ..testing::account("lms@contoso.com", "lms@contoso.com") }
}

fn token() -> Credentials {
    Credentials::Token(Secret::new("TOKEN"))
}

/// A message of so many octets to these, which came at the time that [`ON_THE_WIRE`] says.
fn stored(recipients: &[&str], size: usize) -> Stored {
    let mut incoming = samples::incoming(0, recipients);
    incoming.id = QueueId::from_number(7);
    incoming.received_at = "2025-08-04T11:15:30Z".parse().unwrap();
    incoming.envelope.sender = Some(address("lms@contoso.com"));
    incoming.trace.helo = Some("lms".to_owned());
    incoming.size = u64::try_from(size).unwrap();
    samples::accepted(incoming)
}

fn delivery(upstream: &Upstream, recipients: &[&str], message: impl Into<Bytes>) -> Delivery {
    let message = message.into();
    Delivery {
        account: Arc::new(account(upstream.port, SmtpTls::None)),
        user: address("lms@contoso.com"),
        credentials: token(),
        sender: SenderPolicy::Rewrite,
        send_as: Vec::new(),
        divert_to: None,
        hostname: "relay.contoso.com".to_owned(),
        message: stored(recipients, message.len()),
        only: None,
        body: Body::Inline(message),
    }
}

/// The classes by place in the envelope.
fn classes(attempt: &Attempt) -> Vec<(usize, Class)> {
    let mut classes: Vec<_> = verdicts(attempt).iter().map(|(place, verdict)| (*place, verdict.class)).collect();
    classes.sort_by_key(|(place, _)| *place);
    classes
}

fn verdicts(attempt: &Attempt) -> &[(usize, Verdict)] {
    attempt.result.as_ref().unwrap_or_else(|error| panic!("no verdicts: {error}"))
}

fn error(attempt: &Attempt) -> &AttemptError {
    attempt.result.as_ref().expect_err("an error")
}
