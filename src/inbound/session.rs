//! The dialogue of one connection (RFC 5321 section 4.1.4), as a pure state machine: lines go in, events come out.
//!
//! It is patient with old programs: no HELO at all, AUTH after HELO, any user name and password. It refuses late: a peer from a
//! network that is not allowed is greeted like any other and told why at MAIL, because that is where programs keep the text.

use std::fmt;
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

impl fmt::Display for Outcome {
    /// For the log: what became of it, without the advice that the program is given.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queued(id) => write!(f, "queued as {id}"),
            Self::TooLarge => f.write_str("larger than max_message_size"),
            Self::Flood => f.write_str("so much larger than max_message_size that its end was not waited for"),
            Self::Full => f.write_str("there is no room for it"),
            Self::Unavailable => f.write_str("it could not be stored"),
            Self::NoAccount => f.write_str("there is no account to send it through"),
            Self::Sender(refused) => refused.fmt(f),
            Self::SenderUnseen(app) => {
                write!(f, "its header is too long to compare its senders with those of the app {app}")
            }
            Self::LoggedOut => {
                f.write_str("the app that the program had logged in as is gone, or may not come from there")
            }
        }
    }
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
mod refusals;
#[cfg(test)]
mod tests;
