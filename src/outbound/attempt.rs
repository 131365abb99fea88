//! One try to hand one message over.

use std::sync::Arc;

use jiff::Timestamp;

use super::connection::Connection;
use super::content::{Content, beginning};
use super::credentials::Credentials;
use super::error::AttemptError;
use super::pool::Pool;
use super::transaction::{After, Mail, Outcome, hand_over};
use super::verdict::{Class, Verdict};
use crate::config::Account;
use crate::message::{Address, Body, Permitted, Policy, Recipient, Rewritten, SenderPolicy, rewrite};
use crate::store::Stored;

/// A message with all that one attempt needs.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The account that carries it.
    pub account: Arc<Account>,
    /// As whom to log in: `user=` of XOAUTH2.
    pub user: Address,
    /// What a new session is logged in with, if one has to be opened.
    pub credentials: Credentials,
    /// What is done about a sender that the account may not send as.
    pub sender: SenderPolicy,
    /// The senders beside the mailbox that count as permitted.
    pub send_as: Vec<Address>,
    /// Where the message goes instead of to its recipients.
    pub divert_to: Option<Address>,
    /// This machine's name: for EHLO and `Received`.
    pub hostname: String,
    /// The message; its pending recipients are tried.
    pub message: Stored,
    /// Of these, only those at these places of the envelope; `None`: all.
    pub only: Option<Vec<usize>>,
    /// Its bytes.
    pub body: Body,
}

/// What came of an attempt.
#[derive(Debug)]
pub struct Attempt {
    /// A verdict for each recipient that was tried, by its place in the envelope; or why there is none.
    pub result: Result<Vec<(usize, Verdict)>, AttemptError>,
    /// Who of them were refused together by a reply that is about one of them, by place: nobody knows about whom.
    pub together: Vec<usize>,
    /// MAIL had been said: a failure may have to do with the message.
    pub begun: bool,
    /// The server had said `354`: whatever came of it, the message counts for the pace.
    pub submitted: bool,
    /// Whether there was a session.
    pub session: Session,
    /// The senders other than the mailbox that it went out as.
    pub senders: Vec<Address>,
    /// It went to somebody else, as one recipient.
    pub diverted: bool,
    /// It is to be tried again at this time, and nothing of this try counts: its sender was in the way, or it goes out in parts.
    pub again_at: Option<Timestamp>,
    /// For the journal: what was rewritten, and which session carried it.
    pub notes: Vec<String>,
}

/// The session of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// None came about.
    None,
    /// It had carried mail before.
    Reused,
    /// The server has just taken the login.
    New,
}

impl Default for Attempt {
    /// Nothing has happened yet.
    fn default() -> Self {
        Self {
            result: Ok(Vec::new()),
            together: Vec::new(),
            begun: false,
            submitted: false,
            session: Session::None,
            senders: Vec::new(),
            diverted: false,
            again_at: None,
            notes: Vec::new(),
        }
    }
}

impl Pool {
    /// Tries to hand over one message: takes or opens a session, says MAIL, RCPT and DATA, keeps every reply.
    ///
    /// The caller sees to it that a login has no more attempts at once than its account's `connections`. Dropping the future cuts
    /// the connection; a message whose final dot had left is then in doubt.
    pub async fn attempt(&self, delivery: Delivery) -> Attempt {
        let mut attempt = Attempt::default();
        let mut pending = pending(&delivery.message);
        pending.retain(|(place, _)| delivery.only.as_ref().is_none_or(|only| only.contains(place)));
        if pending.is_empty() {
            return attempt;
        }
        let mut message_id = None;
        attempt.result = match prepare(&delivery).await {
            Ok((rewritten, content)) => {
                message_id = content.message_id();
                attempt.notes.extend(rewritten.notes);
                attempt.senders = rewritten.senders;
                let envelope = &delivery.message.envelope;
                let utf8_header = envelope.smtputf8 && !content.head_is_ascii();
                // What its sender wanted to hear of its recipients is not for whoever gets it instead.
                let instead = delivery.divert_to.clone().map(Recipient::from);
                let places: Vec<usize> = pending.iter().map(|(place, _)| *place).collect();
                let to = match &instead {
                    Some(instead) => vec![(places[0], instead)],
                    None => pending,
                };
                let mail = Mail { from: rewritten.mail_from.as_ref(), envelope, to, content: &content, utf8_header };
                let result = self.send(&delivery, &mail, &mut attempt).await;
                match &instead {
                    Some(instead) => {
                        attempt.diverted = true;
                        attempt.notes.push(format!("diverted to {} (divert_to)", instead.address));
                        result.map(|verdicts| for_all(&places, &verdicts))
                    }
                    None => result,
                }
            }
            Err(source) => Err(AttemptError::Body { source }),
        };
        let is_in_doubt =
            |verdicts: &Vec<(usize, Verdict)>| verdicts.iter().any(|(_, verdict)| verdict.class == Class::InDoubt);
        if attempt.result.as_ref().is_ok_and(is_in_doubt) {
            attempt.notes.extend(message_id.map(|id| format!("Message-ID {id}")));
        }
        attempt
    }

    async fn send(
        &self,
        delivery: &Delivery,
        mail: &Mail<'_>,
        attempt: &mut Attempt,
    ) -> Result<Vec<(usize, Verdict)>, AttemptError> {
        if let Some(connection) = self.take(&delivery.account, &delivery.user).await {
            attempt.session = Session::Reused;
            let (outcome, greeting) = self.over(connection, delivery, mail).await;
            if !outcome.stale {
                attempt.notes.push(format!("over {greeting}"));
                return finish(outcome, attempt);
            }
            // It had died while it was idle. That is nobody's fault and costs nothing.
            attempt.session = Session::None;
        }
        let Delivery { account, user, credentials, hostname, .. } = delivery;
        let connection = self.open(account, user, credentials, hostname).await?;
        attempt.session = Session::New;
        let (outcome, greeting) = self.over(connection, delivery, mail).await;
        attempt.notes.push(format!("over {greeting}"));
        finish(outcome, attempt)
    }

    /// One transaction, and the session back to the others if it is good for another one.
    async fn over(&self, mut connection: Connection, delivery: &Delivery, mail: &Mail<'_>) -> (Outcome, String) {
        let outcome = hand_over(&mut connection, mail).await;
        let greeting = connection.greeting.to_string();
        match outcome.session {
            After::Gone => drop(connection),
            After::Ready => self.put_back(&delivery.account, &delivery.user, connection),
            After::NeedsReset => {
                connection.needs_reset = true;
                self.put_back(&delivery.account, &delivery.user, connection);
            }
        }
        (outcome, greeting)
    }
}

fn finish(outcome: Outcome, attempt: &mut Attempt) -> Result<Vec<(usize, Verdict)>, AttemptError> {
    attempt.begun = true;
    attempt.submitted = outcome.submitted;
    attempt.together = outcome.together;
    if outcome.mended.line_ends {
        attempt.notes.push("bare CR or LF made CRLF".to_owned());
    }
    if outcome.mended.nul_dots {
        attempt.notes.push("a dot behind NULs at the start of a line doubled".to_owned());
    }
    let mut meanings: Vec<String> = outcome.verdicts.iter().filter_map(|(_, verdict)| verdict.meaning()).collect();
    meanings.dedup();
    attempt.notes.extend(meanings);
    outcome.error.map_or(Ok(outcome.verdicts), Err)
}

fn pending(message: &Stored) -> Vec<(usize, &Recipient)> {
    let both = message.envelope.recipients.iter().zip(&message.recipients).enumerate();
    both.filter(|(_, (_, row))| row.state.is_tried()).map(|(place, (said, _))| (place, said)).collect()
}

/// What came of the one delivery is what came of it for everybody whose mail it was.
fn for_all(places: &[usize], verdicts: &[(usize, Verdict)]) -> Vec<(usize, Verdict)> {
    let each =
        |(_, verdict): &(usize, Verdict)| places.iter().map(|&place| (place, verdict.clone())).collect::<Vec<_>>();
    verdicts.first().map(each).unwrap_or_default()
}

/// The message as it will leave.
async fn prepare(delivery: &Delivery) -> std::io::Result<(Rewritten, Content)> {
    let (account, message) = (&delivery.account, &delivery.message);
    let start = beginning(&delivery.body, message.size).await?;
    let originals: Vec<Address> = match &delivery.divert_to {
        Some(_) => pending(message).into_iter().map(|(_, said)| said.address.clone()).collect(),
        None => Vec::new(),
    };
    let policy = Policy {
        sender: delivery.sender,
        permitted: Permitted { mailbox: &account.mailbox, send_as: &delivery.send_as },
        originals: &originals,
        hostname: &delivery.hostname,
        trace: &message.trace,
        envelope: &message.envelope,
        id: message.id,
        received_at: message.received_at,
    };
    let mut rewritten = rewrite(&start, message.size, &policy);
    let head = std::mem::take(&mut rewritten.head);
    let content = Content::new(head, &delivery.body, rewritten.resume_at, message.size).await?;
    Ok((rewritten, content))
}
