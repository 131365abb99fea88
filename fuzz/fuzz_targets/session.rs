//! The dialogue, line by line, with every outcome of a body: what is answered is well-formed, and what is taken was asked for.
//!
//! The input is a row of lines. `!N` in front of a line stands for one that the framing refuses; behind DATA and BDAT the next line's
//! length picks what becomes of the body; behind a login it picks whether that is right. The first octet says what kind of listener it is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xoauth2_relay::config::Passwords;
use xoauth2_relay::inbound::{Chunk, Event, Facts, LoginOutcome, Mail, Outcome, Room, Session, Tls, Welcome};
use xoauth2_relay::message::QueueId;
use xoauth2_relay::smtp::{Expect, LineError, Reply};
use xoauth2_relay_fuzz::{MOST_RECIPIENTS, facts};

const ERRORS: [LineError; 8] = [
    LineError::TooLong,
    LineError::BareLf,
    LineError::BareCr,
    LineError::Control(0),
    LineError::NotLines,
    LineError::Endless,
    LineError::Tls,
    LineError::Chunk,
];

const OUTCOMES: [Outcome; 6] =
    [Outcome::TooLarge, Outcome::Flood, Outcome::Full, Outcome::Unavailable, Outcome::NoAccount, Outcome::LoggedOut];

/// What the client may rely on, kept apart from what the session knows.
#[derive(Default)]
struct Expected {
    sender: bool,
    recipients: usize,
    chunks: bool,
}

/// The listener that the first octet of the input stands for.
fn listener(flags: u8) -> Facts {
    let welcome = if flags & 1 == 0 { Welcome::Allowed } else { Welcome::Stranger };
    let tls = [Tls::None, Tls::Offered, Tls::Required, Tls::Implicit][usize::from(flags >> 1 & 3)];
    let password = if flags & 8 == 0 { Passwords::Any } else { Passwords::Checked };
    let default_domain = (flags & 16 != 0).then(|| "contoso.com".to_owned());
    Facts { tls, password, default_domain, ..facts(1000, welcome) }
}

fuzz_target!(|input: &[u8]| {
    let (flags, input) = input.split_first().map_or((0, input), |(flags, rest)| (*flags, rest));
    let mut facts = listener(flags);
    let mut session = Session::new(facts.clone());
    check_reply(&session.greeting().expect("there is no handshake before it"));
    let mut expected = Expected::default();
    let mut lines = input.split(|&b| b == b'\n');
    while let Some(line) = lines.next() {
        let room = if line.ends_with(b"\x01") { Room::None } else { Room::Enough };
        let Some(line) = framed(line) else { continue };
        let within_auth = session.expects() == Expect::AuthResponse;
        match session.on(line, room) {
            Event::Close(reply) => return check_reply(&reply),
            Event::Reply(reply) => {
                check_reply(&reply);
                if !within_auth && let Ok(line) = line {
                    expected.on(line, &reply, &facts, session.user());
                }
            }
            Event::StartTls(reply) => {
                check_reply(&reply);
                assert_eq!(reply.code(), 220);
                assert!(matches!(facts.tls, Tls::Offered | Tls::Required), "TLS that was not offered");
                assert!(!expected.sender, "TLS within a message");
                facts.tls = Tls::Started;
                session = Session::new(facts.clone());
                assert!(session.greeting().is_none() && session.user().is_none());
            }
            Event::Login(login) => {
                assert_eq!((facts.password, facts.welcome), (Passwords::Checked, Welcome::Allowed));
                assert_ne!(facts.tls, Tls::Required, "a password in the clear");
                let outcome = match lines.next().unwrap_or_default().len() % 3 {
                    0 => LoginOutcome::In(login.user),
                    1 => LoginOutcome::Refused,
                    _ => LoginOutcome::Unavailable,
                };
                let is_in = matches!(outcome, LoginOutcome::In(_));
                if !settled(session.on_login(outcome)) {
                    return;
                }
                assert_eq!(session.user().is_some(), is_in);
            }
            Event::Body(reply, mail) => {
                check_reply(&reply);
                assert_eq!(reply.code(), 354);
                expected.check_mail(&mail);
                expected = Expected::default();
                if !settled(session.on_body(outcome(lines.next().unwrap_or_default()))) {
                    return;
                }
            }
            Event::Chunk(Chunk::Refused(_, reply)) => {
                assert!(!reply.is_positive());
                check_reply(&reply);
            }
            Event::Chunk(Chunk::Part(size)) => {
                assert!(expected.sender && expected.recipients > 0, "a chunk of no message");
                assert!(session.is_chunking());
                expected.chunks = true;
                let goes_on = match outcome(lines.next().unwrap_or_default()) {
                    Outcome::Queued(_) => settled(session.on_chunk(size)),
                    refused => {
                        expected = Expected::default();
                        settled(session.on_body(refused))
                    }
                };
                if !goes_on {
                    return;
                }
            }
            Event::Chunk(Chunk::Last(_, mail)) => {
                expected.check_mail(&mail);
                expected = Expected::default();
                if !settled(session.on_body(outcome(lines.next().unwrap_or_default()))) {
                    return;
                }
            }
        }
    }
});

/// The answer to a body or chunk; whether the session goes on.
fn settled(event: Event) -> bool {
    match event {
        Event::Reply(reply) => {
            check_reply(&reply);
            true
        }
        Event::Close(reply) => {
            check_reply(&reply);
            false
        }
        Event::Body(..) | Event::Chunk(_) | Event::Login(_) | Event::StartTls(_) => panic!("no answer"),
    }
}

/// The line as the framing would hand it over; `None` if it never would.
fn framed(line: &[u8]) -> Option<Result<&[u8], LineError>> {
    if let [b'!', digit, ..] = line {
        return Some(Err(ERRORS[usize::from(*digit) % ERRORS.len()]));
    }
    let line = line.strip_suffix(b"\x01").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    (!line.iter().any(|&b| b.is_ascii_control() && b != b'\t')).then_some(Ok(line))
}

fn outcome(line: &[u8]) -> Outcome {
    let id = QueueId::from_number(1);
    OUTCOMES.get(line.len() % 9).cloned().unwrap_or(Outcome::Queued(id))
}

impl Expected {
    /// What a client would believe after this answer.
    fn on(&mut self, line: &[u8], reply: &Reply, facts: &Facts, user: Option<&str>) {
        let verb = line.trim_ascii().split(u8::is_ascii_whitespace).next().unwrap_or_default().to_ascii_uppercase();
        let good = reply.is_positive();
        match &verb[..] {
            b"MAIL" if good => {
                assert_eq!(facts.welcome, Welcome::Allowed, "a stranger may not send");
                assert_ne!(facts.tls, Tls::Required, "mail in the clear");
                assert!(facts.password == Passwords::Any || user.is_some(), "mail without a login");
                assert!(!self.sender, "a message within a message");
                *self = Self { sender: true, ..Self::default() };
            }
            b"RCPT" if good => {
                assert!(self.sender, "a recipient of no message");
                assert!(!self.chunks, "a recipient behind the first chunk");
                self.recipients += 1;
                assert!(self.recipients <= MOST_RECIPIENTS);
            }
            b"DATA" => assert!(!good, "250 to DATA without a body"),
            b"EHLO" | b"HELO" | b"RSET" if good => *self = Self::default(),
            _ => {}
        }
    }

    fn check_mail(&self, mail: &Mail) {
        assert!(self.sender, "a body without MAIL");
        assert!(self.recipients > 0, "a body without RCPT");
        assert_eq!(mail.envelope.recipients.len(), self.recipients);
        let recipients = mail.envelope.recipients.iter().map(|recipient| &recipient.address);
        let addresses = recipients.chain(&mail.envelope.sender);
        for address in addresses {
            assert!(address.is_ascii() || mail.envelope.smtputf8);
            assert!(!address.as_str().chars().any(char::is_control));
        }
        let said = mail.trace.helo.iter().chain(&mail.trace.user);
        for text in said {
            assert!(!text.chars().any(char::is_control), "{text:?} goes into a log");
        }
    }
}

/// One reply and no more: RFC 5321 section 4.2, and nothing a client said can add a line or move a cursor.
fn check_reply(reply: &Reply) {
    let wire = reply.wire();
    let lines: Vec<&str> = wire.strip_suffix("\r\n").expect("a reply ends").split("\r\n").collect();
    let code = reply.code().to_string();
    assert!((200..600).contains(&reply.code()));
    for (n, line) in lines.iter().enumerate() {
        assert!(line.len() <= 510, "{line}");
        assert!(line.bytes().all(|b| (b' '..=b'~').contains(&b)), "{line:?}");
        let (first, rest) = line.split_at(3);
        assert_eq!(first, code);
        assert_eq!(rest.starts_with(' '), n + 1 == lines.len(), "{wire:?}");
        assert!(rest.starts_with([' ', '-']));
    }
}
