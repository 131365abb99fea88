//! The dialogue of one connection (RFC 5321 section 4.1.4), as a pure state machine: lines go in, events come out.
//!
//! It is patient with old programs: no HELO at all, AUTH after HELO, any user name and password. It refuses late: a peer from a
//! network that is not allowed is greeted like any other and told why at MAIL, because that is where programs keep the text.

use std::net::{IpAddr, SocketAddr};

use zeroize::Zeroizing;

use super::auth::{self, Exchange, Login, Step};
use super::route::Refused;
use super::{Room, replies};
use crate::config::Passwords;
use crate::message::{Envelope, Protocol, QueueId, Recipient, Trace};
use crate::smtp::{Command, CommandError, Expect, LineError, MailFrom, Mechanism, Reply};

/// Wrong commands in a row, successful messages aside, before the session ends.
const MAX_ERRORS: u32 = 20;
/// How often a peer that is not allowed is told so before its session ends.
const MAX_REFUSALS: u32 = 3;
/// Wrong passwords before the session ends.
const MAX_LOGINS: u32 = 3;

/// A body that is so many times larger than the limit is not read to its end; the margin is for small limits.
const FLOOD: u64 = 4;
const FLOOD_MARGIN: u64 = 64 * 1024;

/// What does not change during a session.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The relay's name.
    pub hostname: String,
    /// The listener, to be named in replies.
    pub listener: SocketAddr,
    /// The largest message in octets.
    pub max_message_size: u64,
    /// The most recipients of one message.
    pub max_recipients: usize,
    /// Whether a program has to log in.
    pub password: Passwords,
    /// For addresses without a domain.
    pub default_domain: Option<String>,
    /// Where the connection comes from.
    pub peer: IpAddr,
    /// Whether it may send.
    pub welcome: Welcome,
    /// What there is of TLS.
    pub tls: Tls,
}

/// Whether a peer may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Welcome {
    /// Its network is among those allowed.
    Allowed,
    /// It is not.
    Stranger,
}

/// What a session has of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tls {
    /// The listener has none.
    None,
    /// STARTTLS is offered.
    Offered,
    /// STARTTLS is offered, and nothing of value is taken before it.
    Required,
    /// The client said STARTTLS: the greeting was before this session.
    Started,
    /// TLS was there from the first octet.
    Implicit,
}

impl Tls {
    /// Whether this session goes through TLS.
    pub fn is_on(self) -> bool {
        matches!(self, Self::Started | Self::Implicit)
    }
}

/// What the connection does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Answer, and go on with the next line.
    Reply(Reply),
    /// Answer, and read the body of this message; its outcome goes to [`Session::on_body`].
    Body(Reply, Box<Mail>),
    /// Read a chunk; [`Chunk`] says what comes of it.
    Chunk(Chunk),
    /// Answer, and begin TLS. This session is over then: what is known of the client was said by anyone (RFC 3207 section 4.2).
    StartTls(Reply),
    /// See whether this login is right; the outcome goes to [`Session::on_login`].
    Login(Box<Login>),
    /// Answer, and close.
    Close(Reply),
}

/// What is done with the octets behind a BDAT command (RFC 3030 section 2). They are there whatever the answer is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// So many more octets of the message; then [`Session::on_chunk`], or [`Session::on_body`] if it will not be taken.
    Part(u64),
    /// So many octets, and the message is complete; its outcome goes to [`Session::on_body`].
    Last(u64, Box<Mail>),
    /// So many octets of nothing; then this answer.
    Refused(u64, Reply),
}

/// A message as far as it is known before its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mail {
    /// From whom to whom.
    pub envelope: Envelope,
    /// Over which hop.
    pub trace: Trace,
}

/// What became of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// It is this user.
    In(String),
    /// User name or password is wrong.
    Refused,
    /// Nobody can tell at the moment.
    Unavailable,
}

/// What became of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the queue, on disk.
    Queued(QueueId),
    /// It is larger than the limit.
    TooLarge,
    /// It is so much larger that its end was not waited for.
    Flood,
    /// There is no room for it.
    Full,
    /// It could not be stored.
    Unavailable,
    /// There is no account to send it through.
    NoAccount,
    /// A sender is not among those that the app may send as.
    Sender(Refused),
    /// The header is too long to see whether the senders are among those that this app may send as.
    SenderUnseen(String),
    /// The app that the program has logged in as is no longer there.
    LoggedOut,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    facts: Facts,
    helo: Option<String>,
    extended: bool,
    user: Option<String>,
    exchange: Option<Exchange>,
    mail: Option<Envelope>,
    /// A chunk of `mail` has come: DATA and further recipients are out of place.
    chunking: bool,
    /// Octets in chunks since MAIL was taken.
    octets: u64,
    errors: u32,
    refusals: u32,
    logins: u32,
}

impl Session {
    /// A session that nobody has said anything in.
    pub fn new(facts: Facts) -> Self {
        Self {
            facts,
            helo: None,
            extended: false,
            user: None,
            exchange: None,
            mail: None,
            chunking: false,
            octets: 0,
            errors: 0,
            refusals: 0,
            logins: 0,
        }
    }

    /// What the server says first; nothing behind STARTTLS.
    pub fn greeting(&self) -> Option<Reply> {
        (self.facts.tls != Tls::Started).then(|| replies::greeting(&self.facts))
    }

    /// What the next line is.
    pub fn expects(&self) -> Expect {
        if self.exchange.is_some() { Expect::AuthResponse } else { Expect::Command }
    }

    /// The user name of AUTH, once it is done.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// The next line, without its CRLF, or what was wrong with it.
    pub fn on(&mut self, line: Result<&[u8], LineError>, room: Room) -> Event {
        let exchange = self.exchange.take();
        match (line, exchange) {
            (Err(LineError::Tls), _) => Event::Close(replies::unexpected_tls(self.facts.tls)),
            (Err(error @ (LineError::NotLines | LineError::Endless | LineError::Chunk)), _) => {
                Event::Close(replies::bad_line(error))
            }
            (Err(error), _) => self.wrong(replies::bad_line(error)),
            (Ok(response), Some(exchange)) => self.on_auth(exchange.on(response)),
            (Ok(line), None) => match Command::parse_within(line, self.facts.default_domain.as_deref()) {
                Ok(command) => self.on_command(command, room),
                Err(error) => self.on_bad_command(&error),
            },
        }
    }

    /// Whether some chunks of a message have come and more may follow. Once this is no longer so, they are of no use.
    pub fn is_chunking(&self) -> bool {
        self.chunking && self.mail.is_some()
    }

    /// The octets of [`Chunk::Part`] have come.
    pub fn on_chunk(&mut self, size: u64) -> Event {
        Event::Reply(replies::chunk(size))
    }

    /// What became of the body that [`Event::Body`] or [`Event::Chunk`] asked for.
    pub fn on_body(&mut self, outcome: Outcome) -> Event {
        self.mail = None;
        Event::Reply(match outcome {
            Outcome::Queued(id) => {
                self.errors = 0;
                replies::queued(id)
            }
            Outcome::TooLarge => replies::too_large(&self.facts),
            Outcome::Flood => return Event::Close(replies::too_large(&self.facts)),
            Outcome::Full => replies::no_room(),
            Outcome::Unavailable => replies::unavailable(),
            Outcome::NoAccount => replies::no_account(),
            Outcome::Sender(refused) => replies::sender_refused(&refused),
            Outcome::SenderUnseen(app) => replies::sender_unseen(&app),
            Outcome::LoggedOut => return Event::Close(replies::logged_out()),
        })
    }

    /// What became of the login that [`Event::Login`] asked about.
    pub fn on_login(&mut self, outcome: LoginOutcome) -> Event {
        match outcome {
            LoginOutcome::In(user) => {
                self.user = Some(user);
                return Event::Reply(replies::authenticated());
            }
            LoginOutcome::Refused => self.logins += 1,
            LoginOutcome::Unavailable => return self.wrong(replies::login_unavailable()),
        }
        if self.logins >= MAX_LOGINS {
            return Event::Close(replies::logins_refused());
        }
        Event::Reply(replies::login_refused())
    }

    fn on_command(&mut self, command: Command, room: Room) -> Event {
        let reply = match command {
            Command::Ehlo(name) => self.hello(&name, true),
            Command::Helo(name) => self.hello(&name, false),
            Command::Auth { mechanism, initial } => {
                return self.auth(mechanism, initial.map(Zeroizing::new).as_ref().map(|initial| initial.as_str()));
            }
            Command::Mail(mail) => return self.mail(mail, room),
            Command::Rcpt(recipient) => self.recipient(recipient),
            Command::Data => return self.data(),
            Command::Rset => {
                self.mail = None;
                replies::ok()
            }
            Command::Noop => replies::ok(),
            Command::Vrfy => replies::vrfy(),
            Command::Help => replies::help(),
            Command::Quit => return Event::Close(replies::bye()),
            Command::StartTls => return self.start_tls(),
            Command::NotOffered => return self.wrong(replies::not_offered()),
            Command::Bdat { size, last } => return self.chunk(size, last),
            Command::Http => return Event::Close(replies::http()),
        };
        Event::Reply(reply)
    }

    fn on_bad_command(&mut self, error: &CommandError) -> Event {
        let reply = replies::bad_command(error);
        match error {
            // Nobody can tell how many of the octets that follow are the chunk.
            CommandError::Chunk => Event::Close(reply),
            // A mailing with many bad addresses is no attack, and must not cost it the good ones.
            CommandError::Recipient(_) | CommandError::Sender(_) => Event::Reply(reply),
            _ => self.wrong(reply),
        }
    }

    fn hello(&mut self, name: &str, extended: bool) -> Reply {
        self.helo = Some(replies::ascii(name));
        self.extended = extended;
        self.mail = None;
        if extended { replies::ehlo(&self.facts) } else { replies::helo(&self.facts) }
    }

    fn start_tls(&mut self) -> Event {
        match self.facts.tls {
            Tls::None => Event::Reply(replies::no_tls()),
            Tls::Started | Tls::Implicit => self.wrong(replies::tls_again()),
            Tls::Offered | Tls::Required if self.mail.is_some() => self.wrong(replies::tls_within_mail()),
            Tls::Offered | Tls::Required => Event::StartTls(replies::start_tls()),
        }
    }

    fn auth(&mut self, mechanism: Mechanism, initial: Option<&str>) -> Event {
        // Not as late as other refusals: a password must not cross the network in the clear, or never again.
        if self.facts.tls == Tls::Required {
            return self.wrong(replies::auth_needs_tls());
        }
        if self.user.is_some() {
            return self.wrong(replies::auth_again());
        }
        if self.mail.is_some() {
            return self.wrong(replies::auth_within_mail());
        }
        match auth::begin(mechanism, initial) {
            Some(step) => self.on_auth(step),
            None => self.wrong(replies::other_mechanism(&self.facts)),
        }
    }

    fn on_auth(&mut self, step: Step) -> Event {
        match step {
            Step::Challenge(text, exchange) => {
                self.exchange = Some(exchange);
                Event::Reply(replies::challenge(text))
            }
            // Whether the password of somebody who may not send is right is none of their business.
            Step::Done(login)
                if self.facts.password == Passwords::Checked && self.facts.welcome == Welcome::Allowed =>
            {
                Event::Login(Box::new(login))
            }
            Step::Done(login) => self.on_login(LoginOutcome::In(login.user)),
            Step::Malformed => self.wrong(replies::auth_malformed()),
            Step::Cancelled => self.wrong(replies::auth_cancelled()),
        }
    }

    fn mail(&mut self, mail: MailFrom, room: Room) -> Event {
        if self.mail.is_some() {
            return self.wrong(replies::already_begun());
        }
        if self.facts.welcome == Welcome::Stranger {
            return self.refuse_stranger();
        }
        if self.facts.tls == Tls::Required {
            return self.wrong(replies::mail_needs_tls(&self.facts));
        }
        if self.facts.password == Passwords::Checked && self.user.is_none() {
            return self.wrong(replies::log_in_first(&self.facts));
        }
        if mail.binary {
            return Event::Reply(replies::no_binary());
        }
        if mail.size > self.facts.max_message_size {
            return Event::Reply(replies::announced_too_large(mail.size, &self.facts));
        }
        if let Some(sender) = mail.sender.as_ref().filter(|sender| !sender.is_ascii() && !mail.smtputf8) {
            return Event::Reply(replies::needs_smtputf8(sender.as_str()));
        }
        if room == Room::None {
            return Event::Reply(replies::no_room());
        }
        let MailFrom { sender, smtputf8, ret, envid, .. } = mail;
        self.mail = Some(Envelope { sender, recipients: Vec::new(), smtputf8, ret, envid });
        (self.chunking, self.octets) = (false, 0);
        Event::Reply(replies::sender_ok())
    }

    fn refuse_stranger(&mut self) -> Event {
        self.refusals += 1;
        if self.refusals >= MAX_REFUSALS {
            return Event::Close(replies::stranger(self.facts.peer, &self.facts, 421));
        }
        Event::Reply(replies::stranger(self.facts.peer, &self.facts, 550))
    }

    fn recipient(&mut self, recipient: Recipient) -> Reply {
        let Some(mail) = &mut self.mail else { return replies::mail_first() };
        if self.chunking {
            return replies::within_chunks();
        }
        if !recipient.address.is_ascii() && !mail.smtputf8 {
            return replies::needs_smtputf8(recipient.address.as_str());
        }
        if mail.recipients.len() >= self.facts.max_recipients {
            return replies::too_many_recipients(&self.facts);
        }
        mail.recipients.push(recipient);
        replies::recipient_ok()
    }

    fn data(&mut self) -> Event {
        if self.is_chunking() {
            return Event::Reply(replies::within_chunks());
        }
        match self.mail.take() {
            None => Event::Reply(replies::mail_first()),
            Some(mail) if mail.recipients.is_empty() => {
                self.mail = Some(mail);
                Event::Reply(replies::no_recipients())
            }
            Some(envelope) => Event::Body(replies::go_ahead(), Box::new(Mail { envelope, trace: self.trace() })),
        }
    }

    /// The octets follow in any case, and are read in any case, or a body would be taken for commands. Only where they are far too many
    /// is the session not worth it.
    fn chunk(&mut self, size: u64, last: bool) -> Event {
        self.octets = self.octets.saturating_add(size);
        if is_flood(self.octets, self.facts.max_message_size) {
            return Event::Close(replies::too_large(&self.facts));
        }
        match self.mail.take() {
            None => Event::Chunk(Chunk::Refused(size, replies::mail_first())),
            Some(mail) if mail.recipients.is_empty() => {
                self.mail = Some(mail);
                Event::Chunk(Chunk::Refused(size, replies::no_recipients()))
            }
            Some(envelope) if last => Event::Chunk(Chunk::Last(size, Box::new(Mail { envelope, trace: self.trace() }))),
            Some(envelope) => {
                self.mail = Some(envelope);
                self.chunking = true;
                Event::Chunk(Chunk::Part(size))
            }
        }
    }

    fn trace(&self) -> Trace {
        Trace {
            peer: self.facts.peer,
            helo: self.helo.clone(),
            protocol: Protocol {
                extended: self.extended,
                tls: self.facts.tls.is_on(),
                authenticated: self.user.is_some(),
            },
            user: self.user.clone(),
        }
    }

    /// The answer to something wrong, or the end if there was too much of it.
    fn wrong(&mut self, reply: Reply) -> Event {
        self.errors += 1;
        if self.errors >= MAX_ERRORS { Event::Close(replies::too_many_errors()) } else { Event::Reply(reply) }
    }
}

/// Whether a body has so many octets more than it may have that its end is not worth waiting for.
pub(super) fn is_flood(octets: u64, limit: u64) -> bool {
    octets > limit.saturating_mul(FLOOD).saturating_add(FLOOD_MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Address;

    fn facts() -> Facts {
        Facts {
            hostname: "relay.test".into(),
            listener: "127.0.0.1:2525".parse().unwrap(),
            max_message_size: 35 << 20,
            max_recipients: 2,
            password: Passwords::Any,
            default_domain: None,
            peer: "10.2.3.4".parse().unwrap(),
            welcome: Welcome::Allowed,
            tls: Tls::None,
        }
    }

    fn session() -> Session {
        Session::new(facts())
    }

    /// Says the lines and gives the code (and enhanced code) of each answer; a body is read at once and queued.
    fn say(session: &mut Session, lines: &[&str]) -> Vec<String> {
        lines.iter().flat_map(|line| answers(session, line)).collect()
    }

    fn answers(session: &mut Session, line: &str) -> Vec<String> {
        let code = |reply: &Reply| format!("{} {}", reply.code(), reply.enhanced().unwrap_or("-"));
        match session.on(Ok(line.as_bytes()), Room::Enough) {
            Event::Reply(reply) | Event::Chunk(Chunk::Refused(_, reply)) => vec![code(&reply)],
            Event::StartTls(reply) => vec![code(&reply), "tls".into()],
            Event::Close(reply) => vec![code(&reply), "closed".into()],
            Event::Login(login) => {
                let outcome = match login.password.expose() {
                    b"right" => LoginOutcome::In(login.user),
                    b"who knows" => LoginOutcome::Unavailable,
                    _ => LoginOutcome::Refused,
                };
                match session.on_login(outcome) {
                    Event::Close(reply) => vec![code(&reply), "closed".into()],
                    Event::Reply(reply) => vec![code(&reply)],
                    other => panic!("{other:?} is no answer to a login"),
                }
            }
            Event::Body(reply, mail) => {
                assert!(!mail.envelope.recipients.is_empty());
                vec![code(&reply), code(&reply_to(session.on_body(Outcome::Queued(QueueId::from_number(1)))))]
            }
            Event::Chunk(Chunk::Part(size)) => {
                assert!(session.is_chunking());
                vec![code(&reply_to(session.on_chunk(size)))]
            }
            Event::Chunk(Chunk::Last(_, mail)) => {
                assert!(!mail.envelope.recipients.is_empty());
                vec![code(&reply_to(session.on_body(Outcome::Queued(QueueId::from_number(1)))))]
            }
        }
    }

    fn reply_to(event: Event) -> Reply {
        let Event::Reply(reply) = event else { panic!("nothing is closed or read now") };
        reply
    }

    #[test]
    fn dialogues_are_answered_as_the_table_says() {
        const MAIL: &str = "MAIL FROM:<a@b.example>";
        const RCPT: &str = "RCPT TO:<c@d.example>";
        for (lines, expected) in [
            (
                &["EHLO x", MAIL, RCPT, "DATA", "QUIT"][..],
                &["250 -", "250 2.1.0", "250 2.1.5", "354 -", "250 2.0.0", "221 2.0.0", "closed"][..],
            ),
            (&["HELO x", "AUTH LOGIN", "YQ==", "YQ=="], &["250 -", "334 -", "334 -", "235 2.7.0"]),
            (&[MAIL, RCPT, "DATA"], &["250 2.1.0", "250 2.1.5", "354 -", "250 2.0.0"]),
            (&[MAIL, RCPT, RCPT, RCPT], &["250 2.1.0", "250 2.1.5", "250 2.1.5", "452 4.5.3"]),
            (&[RCPT, "DATA", MAIL, "DATA", MAIL], &["503 5.5.1", "503 5.5.1", "250 2.1.0", "554 5.5.1", "503 5.5.1"]),
            (&[MAIL, RCPT, "RSET", "DATA", MAIL], &["250 2.1.0", "250 2.1.5", "250 2.0.0", "503 5.5.1", "250 2.1.0"]),
            (&[MAIL, "EHLO again", RCPT], &["250 2.1.0", "250 -", "503 5.5.1"]),
            (&["MAIL FROM:<>", "RCPT TO:<root>", "RCPT TO:<a@b..c>"], &["250 2.1.0", "550 5.1.3", "501 5.1.3"]),
            (
                &["MAIL FROM:<root>", "MAIL FROM:<a@b> SIZE=99999999", "MAIL FROM:<a@b> HOLDFOR=5"],
                &["501 5.1.7", "552 5.3.4", "555 5.5.4"],
            ),
            (
                &["MAIL FROM:<a@b> BODY=BINARYMIME", "MAIL FROM:<é@b>", "MAIL FROM:<é@b> SMTPUTF8"],
                &["555 5.5.4", "553 5.6.7", "250 2.1.0"],
            ),
            (&[MAIL, "RCPT TO:<é@b>"], &["250 2.1.0", "553 5.6.7"]),
            (
                &["NOOP", "VRFY x", "HELP", "EXPN x", "STARTTLS", "XYZZY", ""],
                &["250 2.0.0", "252 2.0.0", "214 2.0.0", "502 5.5.1", "502 5.5.1", "500 5.5.1", "500 5.5.1"],
            ),
            (&["AUTH PLAIN AGEAYQ==", "AUTH LOGIN"], &["235 2.7.0", "503 5.5.1"]),
            (
                &["AUTH PLAIN", "*", "AUTH LOGIN", "%", "AUTH CRAM-MD5", "AUTH XOAUTH2 YQ==", "AUTH PLAIN", "AGEAYQ=="],
                &["334 -", "501 5.7.0", "334 -", "501 5.5.2", "504 5.5.4", "504 5.5.4", "334 -", "235 2.7.0"],
            ),
            (&[MAIL, "AUTH LOGIN", RCPT], &["250 2.1.0", "503 5.5.1", "250 2.1.5"]),
            (&["BDAT 5 LAST", MAIL, "BDAT 5"], &["503 5.5.1", "250 2.1.0", "554 5.5.1"]),
            (
                &[
                    MAIL,
                    RCPT,
                    "BDAT 5",
                    RCPT,
                    "DATA",
                    MAIL,
                    "AUTH LOGIN",
                    "NOOP",
                    "BDAT 0",
                    "bdat 5 last",
                    "BDAT 0 LAST",
                ],
                &[
                    "250 2.1.0",
                    "250 2.1.5",
                    "250 2.0.0",
                    "503 5.5.1",
                    "503 5.5.1",
                    "503 5.5.1",
                    "503 5.5.1",
                    "250 2.0.0",
                    "250 2.0.0",
                    "250 2.0.0",
                    "503 5.5.1",
                ],
            ),
            (
                &[MAIL, RCPT, "BDAT 5", "RSET", "BDAT 5", MAIL, RCPT, "DATA"],
                &[
                    "250 2.1.0",
                    "250 2.1.5",
                    "250 2.0.0",
                    "250 2.0.0",
                    "503 5.5.1",
                    "250 2.1.0",
                    "250 2.1.5",
                    "354 -",
                    "250 2.0.0",
                ],
            ),
            (&["BDAT"], &["501 5.5.4", "closed"]),
            (&["BDAT 18446744073709551616 LAST"], &["501 5.5.4", "closed"]),
            (&[MAIL, RCPT, "BDAT 18446744073709551615"], &["250 2.1.0", "250 2.1.5", "552 5.3.4", "closed"]),
            (&["POST / HTTP/1.1"], &["421 4.7.0", "closed"]),
        ] {
            assert_eq!(say(&mut session(), lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn starttls_is_answered_as_the_table_says() {
        const MAIL: &str = "MAIL FROM:<a@b.example>";
        for (tls, lines, expected) in [
            (Tls::Offered, &["STARTTLS"][..], &["220 2.0.0", "tls"][..]),
            (
                Tls::Offered,
                &["EHLO x", "AUTH PLAIN AGEAYQ==", "starttls "],
                &["250 -", "235 2.7.0", "220 2.0.0", "tls"],
            ),
            (Tls::Offered, &["STARTTLS now"], &["501 5.5.4"]),
            (
                Tls::Offered,
                &[MAIL, "STARTTLS", "RSET", "STARTTLS"],
                &["250 2.1.0", "503 5.5.1", "250 2.0.0", "220 2.0.0", "tls"],
            ),
            (Tls::Required, &[MAIL, "AUTH LOGIN", "AUTH PLAIN AGEAYQ=="], &["530 5.7.0", "538 5.7.11", "538 5.7.11"]),
            (Tls::Required, &["RCPT TO:<c@d.example>", "DATA", "NOOP"], &["503 5.5.1", "503 5.5.1", "250 2.0.0"]),
            (Tls::Required, &["HELO x", MAIL, "STARTTLS"], &["250 -", "530 5.7.0", "220 2.0.0", "tls"]),
            (Tls::Started, &["STARTTLS", MAIL], &["503 5.5.1", "250 2.1.0"]),
            (Tls::Implicit, &["STARTTLS", "AUTH PLAIN AGEAYQ=="], &["503 5.5.1", "235 2.7.0"]),
        ] {
            assert_eq!(say(&mut Session::new(Facts { tls, ..facts() }), lines), expected, "{tls:?} {lines:?}");
        }
    }

    #[test]
    fn ehlo_offers_what_can_be_had() {
        for (tls, starttls, auth) in [
            (Tls::None, false, true),
            (Tls::Offered, true, true),
            (Tls::Required, true, false),
            (Tls::Started, false, true),
            (Tls::Implicit, false, true),
        ] {
            let mut session = Session::new(Facts { tls, ..facts() });
            let Event::Reply(reply) = session.on(Ok(b"EHLO x"), Room::Enough) else { panic!("closed") };
            assert_eq!(reply.lines().contains(&"STARTTLS".to_owned()), starttls, "{tls:?}");
            assert_eq!(reply.lines().iter().any(|line| line.starts_with("AUTH")), auth, "{tls:?}");
            assert_eq!(Session::new(Facts { tls, ..facts() }).greeting().is_some(), tls != Tls::Started);
        }
    }

    #[test]
    fn what_was_said_is_handed_over_with_the_message() {
        let mut session = session();
        say(
            &mut session,
            &[
                "EHLO web.example",
                "AUTH PLAIN AG1vb2RsZQB4",
                "MAIL FROM:<A@b.example> SMTPUTF8",
                "RCPT TO:<c@d.example>",
            ],
        );
        let Event::Body(_, mail) = session.on(Ok(b"DATA"), Room::Enough) else { panic!("no body asked for") };
        assert_eq!(mail.envelope.sender.map(|a| a.to_string()).as_deref(), Some("A@b.example"));
        assert_eq!(mail.envelope.recipients.len(), 1);
        assert!(mail.envelope.smtputf8);
        assert_eq!(mail.trace.helo.as_deref(), Some("web.example"));
        assert_eq!(mail.trace.user.as_deref(), Some("moodle"));
        assert_eq!(mail.trace.protocol, Protocol { extended: true, tls: false, authenticated: true });
    }

    #[test]
    fn a_stranger_is_told_so_at_mail_and_not_for_ever() {
        let mut session = Session::new(Facts { welcome: Welcome::Stranger, ..facts() });
        let mail = "MAIL FROM:<a@b.example>";
        assert_eq!(say(&mut session, &["EHLO x", "AUTH PLAIN AGEAYQ==", mail]), ["250 -", "235 2.7.0", "550 5.7.1"]);
        assert_eq!(say(&mut session, &["RCPT TO:<c@d.example>", "DATA"]), ["503 5.5.1", "503 5.5.1"]);
        let Event::Reply(reply) = session.on(Ok(mail.as_bytes()), Room::Enough) else { panic!("closed too early") };
        assert!(reply.to_string().contains("10.2.3.4 may not send"), "{reply}");
        assert_eq!(say(&mut session, &[mail]), ["421 4.7.1", "closed"]);
    }

    #[test]
    fn wrong_commands_are_counted_until_a_message_goes_through() {
        let mut session = session();
        for _ in 1..MAX_ERRORS {
            assert_eq!(say(&mut session, &["XYZZY"]), ["500 5.5.1"]);
        }
        say(&mut session, &["MAIL FROM:<>", "RCPT TO:<c@d.example>", "DATA"]);
        for _ in 1..MAX_ERRORS {
            assert_eq!(say(&mut session, &["XYZZY"]), ["500 5.5.1"]);
        }
        assert_eq!(say(&mut session, &["XYZZY"]), ["421 4.7.0", "closed"]);
    }

    #[test]
    fn bad_addresses_do_not_cost_a_mailing_its_good_ones() {
        let mut session = session();
        say(&mut session, &["MAIL FROM:<>"]);
        for _ in 0..100 {
            assert_eq!(say(&mut session, &["RCPT TO:<nobody>"]), ["550 5.1.3"]);
        }
        assert_eq!(say(&mut session, &["RCPT TO:<c@d.example>"]), ["250 2.1.5"]);
    }

    #[test]
    fn a_full_disk_is_said_at_mail() {
        let Event::Reply(reply) = session().on(Ok(b"MAIL FROM:<a@b>"), Room::None) else { panic!("closed") };
        assert_eq!((reply.code(), reply.enhanced()), (452, Some("4.3.1")));
    }

    #[test]
    fn a_broken_line_ends_an_auth_exchange_and_no_more() {
        let mut session = session();
        say(&mut session, &["AUTH LOGIN"]);
        assert_eq!(session.expects(), Expect::AuthResponse);
        assert!(
            matches!(session.on(Err(LineError::TooLong), Room::Enough), Event::Reply(reply) if reply.code() == 500)
        );
        assert_eq!(say(&mut session, &["NOOP"]), ["250 2.0.0"]);
    }

    #[test]
    fn a_chunk_that_is_not_taken_ends_the_message() {
        let mut session = session();
        say(&mut session, &["MAIL FROM:<>", "RCPT TO:<c@d.example>", "BDAT 3"]);
        assert!(matches!(session.on(Ok(b"BDAT 3"), Room::Enough), Event::Chunk(Chunk::Part(3))));
        assert_eq!(reply_to(session.on_body(Outcome::TooLarge)).code(), 552);
        assert!(!session.is_chunking());
        assert_eq!(say(&mut session, &["BDAT 3 LAST", "MAIL FROM:<>"]), ["503 5.5.1", "250 2.1.0"]);
    }

    #[test]
    fn no_outcome_of_a_body_is_left_without_words() {
        let sender = Address::parse("a@b.example").unwrap();
        let refused = Refused { app: "moodle".into(), sender, said_in: crate::inbound::route::SaidIn::Header };
        for (outcome, code) in [
            (Outcome::TooLarge, 552),
            (Outcome::Full, 452),
            (Outcome::Unavailable, 451),
            (Outcome::NoAccount, 451),
            (Outcome::Sender(refused), 550),
            (Outcome::SenderUnseen("moodle".into()), 550),
        ] {
            let event = session().on_body(outcome.clone());
            assert!(matches!(event, Event::Reply(reply) if reply.code() == code), "{outcome:?}");
        }
        for (outcome, code) in [(Outcome::Flood, 552), (Outcome::LoggedOut, 421)] {
            let event = session().on_body(outcome.clone());
            assert!(matches!(event, Event::Close(reply) if reply.code() == code), "{outcome:?}");
        }
    }

    /// AUTH PLAIN of the user moodle with this password.
    fn plain(password: &str) -> String {
        use base64::Engine as _;
        format!("AUTH PLAIN {}", base64::engine::general_purpose::STANDARD.encode(format!("\0moodle\0{password}")))
    }

    fn checked() -> Session {
        Session::new(Facts { password: Passwords::Checked, ..facts() })
    }

    #[test]
    fn where_passwords_are_checked_mail_waits_for_a_right_one() {
        const MAIL: &str = "MAIL FROM:<a@b.example>";
        let mut session = checked();
        assert_eq!(say(&mut session, &["EHLO x", MAIL, "RCPT TO:<c@d.example>"]), ["250 -", "530 5.7.0", "503 5.5.1"]);
        assert_eq!(say(&mut session, &[&plain("wrong"), MAIL]), ["535 5.7.8", "530 5.7.0"]);
        assert_eq!(say(&mut session, &[&plain("who knows"), MAIL]), ["454 4.7.0", "530 5.7.0"]);
        assert_eq!(session.user(), None);
        assert_eq!(say(&mut session, &["AUTH LOGIN", "bW9vZGxl", "cmlnaHQ="]), ["334 -", "334 -", "235 2.7.0"]);
        assert_eq!(session.user(), Some("moodle"));
        assert_eq!(say(&mut session, &[&plain("wrong"), MAIL]), ["503 5.5.1", "250 2.1.0"], "one login is enough");
    }

    #[test]
    fn a_session_has_three_wrong_passwords() {
        let mut session = checked();
        let wrong = plain("wrong");
        assert_eq!(say(&mut session, &[&wrong, &wrong, &wrong]), ["535 5.7.8", "535 5.7.8", "421 4.7.0", "closed"]);
    }

    #[test]
    fn a_stranger_learns_nothing_about_passwords() {
        for password in ["right", "wrong"] {
            let mut session =
                Session::new(Facts { welcome: Welcome::Stranger, password: Passwords::Checked, ..facts() });
            assert_eq!(say(&mut session, &[&plain(password), "MAIL FROM:<>"]), ["235 2.7.0", "550 5.7.1"]);
        }
    }

    #[test]
    fn a_bare_name_gets_the_default_domain() {
        let mut session = Session::new(Facts { default_domain: Some("contoso.com".into()), ..facts() });
        assert_eq!(say(&mut session, &["MAIL FROM:<root>", "RCPT TO:<postmaster>"]), ["250 2.1.0", "250 2.1.5"]);
        let Event::Body(_, mail) = session.on(Ok(b"DATA"), Room::Enough) else { panic!("no body asked for") };
        assert_eq!(mail.envelope.sender.unwrap().as_str(), "root@contoso.com");
        assert_eq!(mail.envelope.recipients[0].address.as_str(), "postmaster@contoso.com");
    }
}
