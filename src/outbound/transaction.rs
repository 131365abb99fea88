//! One message over one session: MAIL, each RCPT, DATA, the bytes, and who answered what (RFC 5321 section 3.3).
//!
//! The one instant that matters: until the final dot has left, nothing is accepted and all may be tried again; from then on, only
//! a reply tells.

use std::borrow::Cow;

use super::connection::Connection;
use super::content::{Content, PIECE};
use super::error::AttemptError;
use super::verdict::{Class, Scope, Step, Verdict};
use crate::message::{Address, Envelope, EnvelopeId, OriginalRecipient, Recipient, Return};
use crate::smtp::{DataEncoder, Mended, Reply};

/// What is to be handed over.
#[derive(Debug)]
pub(super) struct Mail<'a> {
    /// `None` is the null sender.
    pub(super) from: Option<&'a Address>,
    /// As it came: what the sender wants to hear of the delivery.
    pub(super) envelope: &'a Envelope,
    /// Each with its place in the envelope.
    pub(super) to: Vec<(usize, &'a Recipient)>,
    pub(super) content: &'a Content,
    /// The header needs SMTPUTF8, whatever the addresses are.
    pub(super) utf8_header: bool,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// By place in the envelope; every recipient has one unless `error` is set.
    pub(super) verdicts: Vec<(usize, Verdict)>,
    /// Who of them were refused together behind DATA, by a reply that is about one of them.
    pub(super) together: Vec<usize>,
    /// Why it ended before that.
    pub(super) error: Option<AttemptError>,
    /// The server had said `354`: whatever came of it, the message counts for its pace.
    pub(super) submitted: bool,
    /// What had to be done to the message for it to arrive in one piece.
    pub(super) mended: Mended,
    /// What the session is good for.
    pub(super) session: After,
    /// MAIL was answered by the session's end: it was dead before.
    pub(super) stale: bool,
}

/// What a session is good for after a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum After {
    /// The next one.
    #[default]
    Ready,
    /// The next one, once RSET has cleared what is left of this one.
    NeedsReset,
    /// Nothing.
    Gone,
}

/// A transaction that goes no further: all that can be known is in the outcome.
struct Ended;
type Goes<T> = Result<T, Ended>;

/// Hands `mail` over.
pub(super) async fn hand_over(connection: &mut Connection, mail: &Mail<'_>) -> Outcome {
    connection.messages += 1;
    let mut transaction = Transaction { connection, mail, outcome: Outcome::default(), open: Vec::new() };
    // Either way the outcome has all there is to know.
    let _ = transaction.run().await;
    let mut outcome = transaction.outcome;
    let lost = |verdict: &Verdict| verdict.scope == Scope::Connection && verdict.class != Class::Accepted;
    if outcome.verdicts.iter().any(|(_, verdict)| lost(verdict)) {
        outcome.session = After::Gone;
    }
    outcome
}

struct Transaction<'c, 'm> {
    connection: &'c mut Connection,
    mail: &'m Mail<'m>,
    outcome: Outcome,
    /// Recipients without a verdict, by place in `mail.to`.
    open: Vec<usize>,
}

impl Transaction<'_, '_> {
    async fn run(&mut self) -> Goes<()> {
        self.reset().await?;
        self.choose_recipients()?;
        if self.connection.offers.pipelining {
            self.envelope_at_once().await?;
        } else {
            self.envelope_in_steps().await?;
        }
        self.outcome.submitted = true;
        self.message().await
    }

    /// Clears what a failed transaction left behind. A session that cannot even do that was dead before.
    async fn reset(&mut self) -> Goes<()> {
        if !self.connection.needs_reset {
            return Ok(());
        }
        let limit = self.connection.timeouts.command;
        match self.connection.command("RSET", "saying RSET", limit).await {
            Ok(reply) if reply.is_positive() => {
                self.connection.needs_reset = false;
                Ok(())
            }
            Ok(reply) => {
                self.outcome.stale = true;
                Err(self.fail(self.connection.refused(Step::Mail, reply)))
            }
            Err(error) => {
                self.outcome.stale = true;
                Err(self.fail(error))
            }
        }
    }

    /// All recipients, but for those whose mail the server cannot take (RFC 6531 section 3.2).
    fn choose_recipients(&mut self) -> Goes<()> {
        let mail = self.mail;
        let takes_from = mail.from.is_none_or(|from| self.sayable(from).is_some());
        for (n, (place, recipient)) in mail.to.iter().enumerate() {
            let what = match () {
                () if self.sayable(&recipient.address).is_none() => format!("the address {}", recipient.address),
                () if !takes_from => "the sender's address".to_owned(),
                () if mail.utf8_header && !self.connection.offers.smtputf8 => "the header".to_owned(),
                () => {
                    self.open.push(n);
                    continue;
                }
            };
            let text =
                format!("5.6.7 xoauth2-relay: the server takes only ASCII (no SMTPUTF8), and {what} is not ASCII");
            let verdict = Verdict {
                scope: Scope::Recipient,
                class: Class::Refused,
                throttle: None,
                row: None,
                reply: Reply::new(553, text),
            };
            self.outcome.verdicts.push((*place, verdict));
        }
        if self.open.is_empty() { Err(Ended) } else { Ok(()) }
    }

    /// An address as this server can be told it.
    fn sayable<'a>(&self, address: &'a Address) -> Option<Cow<'a, Address>> {
        if address.is_ascii() || self.connection.offers.smtputf8 {
            return Some(Cow::Borrowed(address));
        }
        address.in_ascii().map(Cow::Owned)
    }

    /// The same for a path; those that cannot be said were left out by [`Self::choose_recipients`].
    fn path(&self, address: &Address) -> String {
        self.sayable(address).map_or_else(String::new, |address| address.to_string())
    }

    /// MAIL, every RCPT and DATA in one go (RFC 2920), then all replies in order. Ends with a `354`.
    async fn envelope_at_once(&mut self) -> Goes<()> {
        let mut batch = self.mail_line() + "\r\n";
        for &n in &self.open {
            batch.push_str(&self.rcpt_line(n));
            batch.push_str("\r\n");
        }
        batch.push_str("DATA\r\n");
        let (limit, asked) = (self.connection.timeouts.envelope, self.open.len());
        // Where this fails, the replies tell how far it went.
        let _ = self.connection.send(batch.as_bytes(), limit).await;

        let mail = self.connection.reply("saying MAIL", limit).await;
        if let Err(ended) = self.after_mail(mail) {
            if self.outcome.session == After::NeedsReset {
                self.drain(asked).await;
            }
            return Err(ended);
        }
        for n in std::mem::take(&mut self.open) {
            let reply = self.connection.reply("saying RCPT", limit).await;
            self.after_rcpt(n, reply)?;
        }
        if self.open.is_empty() {
            self.outcome.session = After::NeedsReset;
            self.drain(0).await;
            return Err(Ended);
        }
        let data = self.connection.reply("saying DATA", self.connection.timeouts.data).await;
        self.after_data(data)
    }

    /// One command at a time, for servers without PIPELINING. Ends with a `354`.
    async fn envelope_in_steps(&mut self) -> Goes<()> {
        let limit = self.connection.timeouts.envelope;
        let mail = self.connection.command(&self.mail_line(), "saying MAIL", limit).await;
        self.after_mail(mail)?;
        for n in std::mem::take(&mut self.open) {
            let reply = self.connection.command(&self.rcpt_line(n), "saying RCPT", limit).await;
            self.after_rcpt(n, reply)?;
        }
        if self.open.is_empty() {
            self.outcome.session = After::NeedsReset;
            return Err(Ended);
        }
        let data = self.connection.command("DATA", "saying DATA", self.connection.timeouts.data).await;
        self.after_data(data)
    }

    fn after_mail(&mut self, reply: Result<Reply, AttemptError>) -> Goes<()> {
        let reply = match reply {
            Ok(reply) => reply,
            Err(error) => {
                self.outcome.stale = matches!(error, AttemptError::Network { .. });
                return Err(self.fail(error));
            }
        };
        let verdict = self.connection.judge.judge(Step::Mail, &reply);
        if verdict.class == Class::Accepted {
            return Ok(());
        }
        self.outcome.stale = verdict.scope == Scope::Connection;
        Err(self.settle(Step::Mail, &reply))
    }

    /// `open` collects those that are accepted so far; the rest keeps its refusal.
    fn after_rcpt(&mut self, n: usize, reply: Result<Reply, AttemptError>) -> Goes<()> {
        let reply = reply.map_err(|error| self.fail(error))?;
        let verdict = self.connection.judge.judge(Step::Rcpt, &reply);
        if verdict.class == Class::Accepted {
            self.open.push(n);
            return Ok(());
        }
        if matches!(reply.code(), 421 | 221) {
            // It closes: what holds for this recipient holds for all that have no final answer.
            let decided: Vec<usize> = self.outcome.verdicts.iter().map(|(place, _)| *place).collect();
            self.open = (0..self.mail.to.len()).filter(|&n| !decided.contains(&self.mail.to[n].0)).collect();
            return Err(self.settle(Step::Rcpt, &reply));
        }
        self.outcome.verdicts.push((self.mail.to[n].0, verdict));
        Ok(())
    }

    fn after_data(&mut self, reply: Result<Reply, AttemptError>) -> Goes<()> {
        let reply = reply.map_err(|error| self.fail(error))?;
        if reply.code() == 354 {
            return Ok(());
        }
        Err(self.settle(Step::Data, &reply))
    }

    /// Reads the answers to what was sent in vain: `rcpts` recipients and DATA. A server that wants a message all the same gets an
    /// empty one, for nobody (RFC 2920 section 3.1).
    async fn drain(&mut self, rcpts: usize) {
        let limit = self.connection.timeouts.data;
        let mut answer = Ok(Reply::new(250, ""));
        for _ in 0..=rcpts {
            answer = self.connection.reply("saying DATA", limit).await;
            if answer.is_err() {
                break;
            }
        }
        if answer.as_ref().is_ok_and(|reply| reply.code() == 354) {
            answer = self.connection.command(".", "ending an empty message", limit).await;
        }
        if answer.map_or(true, |reply| reply.code() == 421) {
            self.outcome.session = After::Gone;
        }
    }

    /// The bytes, the final dot, and the answer to it.
    async fn message(&mut self) -> Goes<()> {
        let mut encoder = DataEncoder::new();
        let mut wire = Vec::with_capacity(PIECE + PIECE / 8);
        let mut pieces = self.mail.content.pieces().await.map_err(|source| self.unreadable(source))?;
        while let Some(piece) = pieces.next().await.map_err(|source| self.unreadable(source))? {
            encoder.encode(&piece, &mut wire);
            if wire.len() >= PIECE {
                self.send_block(&wire).await?;
                wire.clear();
            }
        }
        encoder.finish(&mut wire);
        self.outcome.mended = encoder.mended();
        self.send_last(&wire).await?;
        match self.connection.last_reply().await {
            Ok(reply) => Err(self.settle(Step::DataEnd, &reply)),
            Err(error) => Err(self.in_doubt(&error)),
        }
    }

    /// A part of the message that is not its end. A server that answers already has made up its mind.
    async fn send_block(&mut self, wire: &[u8]) -> Goes<()> {
        let sent = self.connection.send(wire, self.connection.timeouts.block).await;
        match self.connection.reply_at_hand("sending the message") {
            Ok(None) if sent.is_ok() => Ok(()),
            Ok(Some(reply)) => Err(self.refused_early(&reply)),
            Ok(None) => Err(self.cut_off().await),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// The end of the message with the final dot.
    async fn send_last(&mut self, wire: &[u8]) -> Goes<()> {
        match self.connection.send(wire, self.connection.timeouts.block).await {
            // What was handed over may have arrived: only a reply tells.
            Err(unsent) if !unsent.handed_over => Err(self.cut_off().await),
            _ => Ok(()),
        }
    }

    /// Sending has failed before the dot: the server may have said why.
    async fn cut_off(&mut self) -> Ended {
        match self.connection.reply("sending the message", self.connection.timeouts.block).await {
            Ok(reply) => self.refused_early(&reply),
            Err(error) => self.fail(error),
        }
    }

    /// An answer before the message was complete. The session is of no use: its server and we are at different places.
    fn refused_early(&mut self, reply: &Reply) -> Ended {
        if reply.is_positive() {
            let problem = format!("it accepted a message that it did not have yet: {reply}");
            let error = self.connection.misbehaved(problem);
            return self.fail(error);
        }
        let ended = self.settle(Step::DataEnd, reply);
        self.outcome.session = After::Gone;
        ended
    }

    /// Gives this answer to all recipients without one.
    fn settle(&mut self, step: Step, reply: &Reply) -> Ended {
        let verdict = self.connection.judge.judge(step, reply);
        let places: Vec<usize> = std::mem::take(&mut self.open).into_iter().map(|n| self.mail.to[n].0).collect();
        self.outcome.verdicts.extend(places.iter().map(|&place| (place, verdict.clone())));
        let is_of_one = verdict.scope == Scope::Recipient && verdict.class != Class::Accepted;
        if is_of_one && matches!(step, Step::Data | Step::DataEnd) && places.len() > 1 {
            self.outcome.together = places;
        }
        self.outcome.session = match verdict {
            Verdict { class: Class::Accepted, .. } => After::Ready,
            Verdict { scope: Scope::Connection, .. } => After::Gone,
            Verdict { .. } => After::NeedsReset,
        };
        Ended
    }

    /// The dot has left, the answer has not come.
    fn in_doubt(&mut self, error: &AttemptError) -> Ended {
        let text = format!("4.4.2 xoauth2-relay: {error}; the message had left whole and may have been accepted");
        let reply = Reply::new(451, text.replace(['\r', '\n'], " "));
        for n in std::mem::take(&mut self.open) {
            let verdict = Verdict {
                scope: Scope::Message,
                class: Class::InDoubt,
                throttle: None,
                row: None,
                reply: reply.clone(),
            };
            self.outcome.verdicts.push((self.mail.to[n].0, verdict));
        }
        self.outcome.session = After::Gone;
        Ended
    }

    /// Nothing was accepted, and no recipient is worse off than before.
    fn fail(&mut self, error: AttemptError) -> Ended {
        self.outcome.error = Some(error);
        self.outcome.session = After::Gone;
        Ended
    }

    /// The connection has to be cut: an end of data would make the server accept half a message.
    fn unreadable(&mut self, source: std::io::Error) -> Ended {
        self.fail(AttemptError::Body { source })
    }

    fn mail_line(&self) -> String {
        let (mail, offers) = (self.mail, &self.connection.offers);
        let mut line = format!("MAIL FROM:<{}>", mail.from.map(|from| self.path(from)).unwrap_or_default());
        if offers.size {
            line = format!("{line} SIZE={}", mail.content.size);
        }
        if offers.eight_bit && mail.content.eight_bit {
            line.push_str(" BODY=8BITMIME");
        }
        let foreign = mail.utf8_header
            || mail.from.is_some_and(|from| !from.is_ascii())
            || self.open.iter().any(|&n| !mail.to[n].1.address.is_ascii());
        if offers.smtputf8 && foreign {
            line.push_str(" SMTPUTF8");
        }
        if offers.dsn {
            parameter(&mut line, "RET", mail.envelope.ret.map(Return::as_str));
            parameter(&mut line, "ENVID", mail.envelope.envid.as_ref().map(EnvelopeId::as_str));
        }
        line
    }

    /// A server without DSN is not told what the sender wants to hear (RFC 3461 section 5.2.2): it will report failures to MAIL FROM
    /// with the whole message, and nothing else. What is kept with the message says what was asked for, `NEVER` included.
    fn rcpt_line(&self, n: usize) -> String {
        let Recipient { address, notify, orcpt } = self.mail.to[n].1;
        let mut line = format!("RCPT TO:<{}>", self.path(address));
        if self.connection.offers.dsn {
            parameter(&mut line, "NOTIFY", notify.map(|notify| notify.to_string()).as_deref());
            parameter(&mut line, "ORCPT", orcpt.as_ref().map(OriginalRecipient::as_str));
        }
        line
    }
}

fn parameter(line: &mut String, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        line.extend([" ", name, "=", value]);
    }
}
