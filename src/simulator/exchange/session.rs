//! The SMTP dialogue: what Exchange answers to each line, from the state of the session. No socket in here.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use super::super::cloud::Cloud;
use super::super::event::{Accepted, Event};
use super::super::fault::{About, Phase};
use super::super::options::{Mailbox, SmtpTls};
use super::super::texts::{Words, fill, words};
use super::body::Body;
use super::command::{Argument, Command, Credentials};
use super::envelope::{Mail, checked_mail, checked_recipient};
use super::inspect::{self, Problem};
use super::limits::Exceeded;

/// A whole reply, its lines parted by line feeds, without the last line end.
pub(super) type Text = Cow<'static, str>;

/// A line of the client, understood in its place in the dialogue.
#[derive(Debug)]
pub(super) enum Input<'a> {
    Command(Command<'a>),
    /// The whole of AUTH XOAUTH2; `None`: not to be understood.
    Token(Option<Credentials>),
    /// The user name of AUTH LOGIN.
    LoginUser,
    /// The whole of AUTH LOGIN.
    Login,
    /// `*`
    Cancel,
    /// The empty line behind a `334` that came instead of a refusal.
    AfterChallenge,
}

/// What comes next.
#[derive(Debug)]
pub(super) enum Step {
    Reply(Text),
    /// Reply, then close.
    Close(Text),
    /// Reply, then the TLS handshake.
    StartTls(Text),
    /// Reply, then the message up to the lone dot.
    Body(Text),
    /// So many octets of the message; with `last` they are its end.
    Chunk {
        size: u64,
        last: bool,
    },
    /// So many octets that belong to no message, then the reply.
    Skip {
        size: u64,
        reply: Text,
    },
}

/// What the next line is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expecting {
    Command,
    Token,
    LoginUser,
    LoginPassword,
    AfterChallenge,
}

/// One SMTP session. Dropping it gives its seat back.
pub(super) struct Session {
    pub(super) cloud: Arc<Cloud>,
    pub(super) number: u64,
    pub(super) id: String,
    peer: SocketAddr,
    secure: bool,
    pub(super) greeted: bool,
    pub(super) expecting: Expecting,
    pub(super) mailbox: Option<Mailbox>,
    /// What the last AUTH was refused with: MAIL repeats it.
    pub(super) refused_with: Option<String>,
    pub(super) mail: Option<Mail>,
}

impl Session {
    pub(super) fn open(cloud: Arc<Cloud>, peer: SocketAddr) -> Self {
        let number: u64 = rand::random();
        let id = format!("08DE{:012X}", number & 0xFFFF_FFFF_FFFF);
        cloud.count(|statistics| {
            statistics.connections += 1;
            statistics.open += 1;
            statistics.most_open = statistics.most_open.max(statistics.open);
        });
        cloud.emit(|| Event::Connected { session: id.clone(), peer });
        let expecting = Expecting::Command;
        let (mailbox, refused_with, mail) = (None, None, None);
        Self { cloud, number, id, peer, secure: false, greeted: false, expecting, mailbox, refused_with, mail }
    }

    pub(super) fn greeting(&self) -> Text {
        let date = self.cloud.now().strftime("%a, %-d %b %Y %H:%M:%S +0000").to_string();
        fill(words().banner, &[("host", &self.cloud.host), ("date", &date), ("session", &self.id)]).into_owned().into()
    }

    /// TLS is up: whatever was said before it is forgotten (RFC 3207 section 4.2).
    pub(super) fn secured(&mut self) {
        self.secure = true;
        self.greeted = false;
        self.mail = None;
    }

    /// Understands a line. AUTH that brought everything at once is its credentials.
    pub(super) fn read<'a>(&mut self, line: &'a str) -> Input<'a> {
        match std::mem::replace(&mut self.expecting, Expecting::Command) {
            Expecting::Command => {}
            Expecting::AfterChallenge => return Input::AfterChallenge,
            _ if line == "*" => return Input::Cancel,
            Expecting::Token => return Input::Token(Credentials::parse(line)),
            Expecting::LoginUser => return Input::LoginUser,
            Expecting::LoginPassword => return Input::Login,
        }
        let command = Command::parse(line);
        self.cloud.count(|statistics| *statistics.commands.entry(command.verb()).or_default() += 1);
        match command {
            Command::Auth { mechanism, initial: Some(initial) }
                if mechanism.eq_ignore_ascii_case("XOAUTH2") && self.why_no_auth().is_none() =>
            {
                Input::Token(Credentials::parse(initial))
            }
            other => Input::Command(other),
        }
    }

    /// The phase a line belongs to.
    pub(super) fn phase(input: &Input<'_>) -> Phase {
        match input {
            Input::Token(_) | Input::Login => Phase::Auth,
            Input::Command(Command::Ehlo | Command::Helo) => Phase::Ehlo,
            Input::Command(Command::StartTls) => Phase::StartTls,
            Input::Command(Command::Mail(_)) => Phase::Mail,
            Input::Command(Command::Rcpt(_)) => Phase::Rcpt,
            Input::Command(Command::Data) => Phase::Data,
            _ => Phase::Any,
        }
    }

    /// Whom a line is about.
    pub(super) fn about<'a>(&'a self, input: &'a Input<'_>) -> About<'a> {
        let mut about = self.about_message();
        match input {
            Input::Token(Some(credentials)) => about.mailbox = Some(&credentials.user),
            Input::Command(Command::Mail(argument)) => about.sender = argument.address.as_deref(),
            Input::Command(Command::Rcpt(argument)) => about.recipients = argument.address.as_slice(),
            _ => {}
        }
        about
    }

    /// Whom the message at hand is about.
    pub(super) fn about_message(&self) -> About<'_> {
        About {
            mailbox: self.mailbox.as_ref().map(|mailbox| mailbox.address.as_str()),
            sender: self.mail.as_ref().map(|mail| mail.from.as_str()),
            recipients: self.mail.as_ref().map(|mail| mail.recipients.as_slice()).unwrap_or_default(),
        }
    }

    /// Answers a line.
    pub(super) fn on(&mut self, input: Input<'_>, line: &str) -> Step {
        match input {
            Input::Command(command) => self.command(command, line),
            Input::Token(credentials) => Step::Reply(self.sign_in(credentials)),
            Input::LoginUser => {
                self.expecting = Expecting::LoginPassword;
                Step::Reply("334 UGFzc3dvcmQ6".into())
            }
            Input::Login => {
                let text = self.authentication(words().auth_basic);
                Step::Reply(self.refuse_sign_in(None, text, "a password was shown"))
            }
            Input::Cancel => Step::Reply("501 5.7.3 Authentication cancelled".into()),
            Input::AfterChallenge => {
                let text = self.authentication(words().auth_failed);
                Step::Reply(self.refuse_sign_in(None, text, "a fault"))
            }
        }
    }

    /// Answers a line with the words of a fault. Positive ones only replace those of the usual answer.
    pub(super) fn on_fault(&mut self, input: Input<'_>, line: &str, text: String) -> Step {
        let positive = text.starts_with('2') && !text.starts_with("221");
        if positive || (text.starts_with("354") && matches!(input, Input::Command(Command::Data))) {
            return match self.on(input, line) {
                Step::Reply(own) if own.starts_with('2') => Step::Reply(text.into()),
                Step::StartTls(_) => Step::StartTls(text.into()),
                Step::Body(_) => Step::Body(text.into()),
                other => other,
            };
        }
        match input {
            Input::Token(_) if text.starts_with("334") => {
                self.expecting = Expecting::AfterChallenge;
                return Step::Reply(text.into());
            }
            Input::Token(credentials) => {
                let user = credentials.map(|credentials| credentials.user);
                self.refuse_sign_in(user, text.clone(), "a fault");
            }
            Input::Login => {
                self.refuse_sign_in(None, text.clone(), "a fault");
            }
            Input::Command(Command::Mail(argument)) => drop(self.refuse_sender(&argument, text.clone().into())),
            Input::Command(Command::Rcpt(argument)) => drop(self.refuse_recipient(&argument, text.clone().into())),
            Input::Command(Command::Data) => drop(self.refuse_message(text.clone().into())),
            _ => {}
        }
        let closes = text.starts_with("421") || text.starts_with("221");
        if closes { Step::Close(text.into()) } else { Step::Reply(text.into()) }
    }

    fn command(&mut self, command: Command<'_>, line: &str) -> Step {
        let reply = match command {
            Command::Ehlo => self.hello(),
            Command::Helo => {
                self.greeted = true;
                self.mail = None;
                format!("250 {} Hello [{}]", self.cloud.host, self.peer.ip()).into()
            }
            Command::StartTls if self.offers_starttls() => return Step::StartTls(words().starttls.into()),
            Command::StartTls => "503 5.5.2 STARTTLS is not possible here".into(),
            Command::Auth { mechanism, initial } => self.auth(mechanism, initial),
            Command::Mail(argument) => self.mail(&argument),
            Command::Rcpt(argument) => self.rcpt(&argument),
            Command::Data => return self.data(),
            Command::Bdat { size, last } => return self.bdat(size, last),
            Command::Rset => {
                self.mail = None;
                "250 2.0.0 Resetting".into()
            }
            Command::Noop => "250 2.0.0 OK".into(),
            Command::Vrfy => "252 2.1.5 Cannot VRFY user".into(),
            Command::Quit => return Step::Close(words().quit.into()),
            Command::Malformed => "501 5.5.4 Invalid arguments".into(),
            Command::Unknown => {
                let shown: String = line.chars().filter(|c| !c.is_control()).take(64).collect();
                fill(words().unrecognized, &[("command", &shown)]).into_owned().into()
            }
        };
        Step::Reply(reply)
    }

    fn hello(&mut self) -> Text {
        self.greeted = true;
        self.mail = None;
        let lines = if self.offers_starttls() { words().ehlo_plain } else { words().ehlo_secure };
        let client = self.peer.ip().to_string();
        fill(lines, &[("host", &self.cloud.host), ("client", &client)]).into_owned().into()
    }

    pub(super) fn offers_starttls(&self) -> bool {
        !self.secure && self.cloud.options.tls == SmtpTls::StartTls
    }

    fn mail(&mut self, argument: &Argument<'_>) -> Text {
        if !self.greeted {
            return self.refuse_sender(argument, "503 5.5.2 Send hello first".into());
        }
        if self.mailbox.is_none() {
            let reply = match &self.refused_with {
                Some(refusal) => format!("530 5.7.57 Client not authenticated to send mail. Error: {refusal}"),
                None => self.authentication(words().not_authenticated),
            };
            return self.refuse_sender(argument, reply.into());
        }
        if self.mail.is_some() {
            return self.refuse_sender(argument, "503 5.5.2 Sender already specified".into());
        }
        match checked_mail(argument) {
            Ok(mail) => {
                self.mail = Some(mail);
                "250 2.1.0 Sender OK".into()
            }
            Err(reply) => self.refuse_sender(argument, reply.into()),
        }
    }

    fn refuse_sender(&self, argument: &Argument<'_>, reply: Text) -> Text {
        let session = self.id.clone();
        self.cloud.emit(|| Event::SenderRefused { session, sender: argument.shown(), reply: reply.to_string() });
        reply
    }

    fn rcpt(&mut self, argument: &Argument<'_>) -> Text {
        let Some(mail) = &mut self.mail else {
            return self.refuse_recipient(argument, "503 5.5.2 Need mail command".into());
        };
        if mail.recipients.len() >= self.cloud.options.max_recipients {
            return self.refuse_recipient(argument, words().too_many_recipients.into());
        }
        match checked_recipient(argument, mail.utf8) {
            Ok(address) => {
                mail.recipients.push(address);
                mail.recipient_params.push(argument.params.to_owned());
                words().recipient_ok.into()
            }
            Err(reply) => self.refuse_recipient(argument, reply.into()),
        }
    }

    fn refuse_recipient(&self, argument: &Argument<'_>, reply: Text) -> Text {
        let session = self.id.clone();
        self.cloud.emit(|| Event::RecipientRefused { session, recipient: argument.shown(), reply: reply.to_string() });
        reply
    }

    fn data(&mut self) -> Step {
        let reply = match &self.mail {
            None => "503 5.5.2 Need mail command",
            Some(mail) if mail.recipients.is_empty() => "503 5.5.2 Need rcpt command",
            Some(mail) if mail.chunks.is_some() || mail.binary => "503 5.5.2 Only BDAT can bring this message",
            Some(_) => return Step::Body(words().data_go.into()),
        };
        Step::Reply(reply.into())
    }

    fn bdat(&mut self, size: u64, last: bool) -> Step {
        match &self.mail {
            Some(mail) if !mail.recipients.is_empty() => Step::Chunk { size, last },
            Some(_) => Step::Skip { size, reply: "503 5.5.2 Need rcpt command".into() },
            None => Step::Skip { size, reply: "503 5.5.2 Need mail command".into() },
        }
    }

    /// A new body for DATA, or the one that BDAT has begun.
    pub(super) fn body(&mut self) -> Body {
        let begun = self.mail.as_mut().and_then(|mail| mail.chunks.take());
        begun.unwrap_or_else(|| Body::with_limit(self.cloud.options.max_message_size))
    }

    /// A chunk that was not the last: the rest of the message follows.
    pub(super) fn keep_chunk(&mut self, body: Body) {
        if let Some(mail) = &mut self.mail {
            mail.chunks = Some(body);
        }
    }

    /// The message is whole: takes it or refuses it. `said` replaces the words of an acceptance.
    pub(super) fn finish(&mut self, body: Body, said: Option<String>, notice: Option<String>) -> Text {
        if let Err(reply) = self.judge(&body) {
            return self.refuse_message(reply);
        }
        let (Some(mail), Some(mailbox)) = (self.mail.take(), &self.mailbox) else {
            return "503 5.5.2 Need mail command".into();
        };
        let reply = said.unwrap_or_else(|| {
            let message = format!("SIM1P281MB{:016X}", rand::random::<u64>());
            fill(words().accepted, &[("host", &self.cloud.host), ("message", &message)]).into_owned()
        });
        self.cloud.accept(Accepted {
            at: self.cloud.now(),
            mailbox: mailbox.address.clone(),
            mail_from: mail.from,
            mail_params: mail.params,
            recipients: mail.recipients,
            recipient_params: mail.recipient_params,
            bytes: body.into_bytes().into(),
            session: self.id.clone(),
            reply: reply.clone(),
            notice,
        });
        reply.into()
    }

    /// Ends the message with a refusal.
    pub(super) fn refuse_message(&mut self, reply: Text) -> Text {
        self.cloud.count(|statistics| {
            statistics.refused += 1;
            statistics.throttled += u64::from(reply.starts_with("432"));
        });
        let mail = self.mail.take().unwrap_or_default();
        self.cloud.emit(|| Event::MessageRefused {
            session: self.id.clone(),
            mailbox: self.mailbox.as_ref().map(|mailbox| mailbox.address.clone()).unwrap_or_default(),
            mail_from: mail.from,
            recipients: mail.recipients,
            reply: reply.to_string(),
        });
        reply
    }

    fn judge(&self, body: &Body) -> Result<(), Text> {
        let words: &Words = words();
        let (Some(mail), Some(mailbox)) = (&self.mail, &self.mailbox) else {
            return Err("503 5.5.2 Need mail command".into());
        };
        if body.too_large {
            return Err(words.too_large.into());
        }
        if body.bare_line_end && !mail.binary {
            return Err(words.bare_line_end.into());
        }
        let host = ("host", self.cloud.host.as_str());
        inspect::check(body.bytes(), &mail.from, mailbox).map_err(|problem| match problem {
            Problem::FromMissing => words.from_missing.into(),
            Problem::ManyFrom => words.many_from.into(),
            Problem::NotAllowed(sender) => {
                let sender = if sender.is_empty() { "<>" } else { &sender };
                let values = [host, ("mailbox", &mailbox.address), ("sender", sender)];
                Text::from(fill(words.send_as_denied, &values).into_owned())
            }
        })?;
        let (options, now) = (&self.cloud.options, self.cloud.now());
        let admitted = self.cloud.limits().admit(options, &mailbox.address, self.number, mail.recipients.len(), now);
        admitted.map_err(|exceeded| {
            let text = match exceeded {
                Exceeded::Sessions => words.concurrent,
                Exceeded::Minute => words.too_fast,
                Exceeded::Day => words.quota,
            };
            fill(text, &[host]).into_owned().into()
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(mailbox) = &self.mailbox {
            self.cloud.limits().leave(&mailbox.address, self.number);
        }
        self.cloud.count(|statistics| statistics.open -= 1);
        self.cloud.emit(|| Event::Disconnected { session: std::mem::take(&mut self.id) });
    }
}
