//! One message, one account, now: from what is stored to what is recorded.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::{Attempt, AttemptError, Class, Delivery, Pool, Scope, Verdict};
use crate::clock::Clock;
use crate::config::{Account, Config, Queue};
use crate::journal::{Feed, Happening};
use crate::message::{Address, QueueId, SenderPolicy};
use crate::schedule::{Courier, Outcome, retry};
use crate::signin::{AccessToken, NoToken, SignIns};
use crate::smtp::Reply;
use crate::store::{
    Change, Hold, HoldCause, MessageState, Next, RecipientState, RecipientUpdate, Record, Sent, Store, Stored, Waiting,
};

/// How long a message is left alone that could not be read, so that one that is damaged does not stop the others.
const UNREADABLE: Duration = Duration::from_mins(15);
/// How soon an account without a keeper is looked at again.
const NOT_THERE_YET: Duration = Duration::from_secs(5);

/// Makes attempts and records what came of them.
pub struct Sender {
    /// The queue.
    pub store: Store,
    /// Who gives access tokens.
    pub sign_ins: SignIns,
    /// The sessions.
    pub pool: Pool,
    /// What is configured.
    pub config: watch::Receiver<Arc<Config>>,
    /// The time of due dates.
    pub clock: Clock,
    /// Who hears of it.
    pub feed: Feed,
}

impl Courier for Sender {
    async fn attempt(&self, mailbox: Address, id: QueueId) -> Outcome {
        let config = self.config.borrow().clone();
        let Some(account) = config.account(&mailbox) else { return Outcome::Gone };
        let stored = match self.store.message(id).await {
            Ok(Some(stored)) if stored.state == MessageState::Waiting && stored.account == mailbox => stored,
            Ok(_) => return Outcome::Gone,
            Err(error) => return unreadable(id, self.clock.now(), &error.to_string()),
        };
        let again = waiting_again(&stored);
        if stored.due_at > self.clock.now() {
            return Outcome::NotDue(again);
        }
        let body = match self.store.body(id).await {
            Ok(Some(body)) => body,
            Ok(None) => {
                let source = io::Error::from(io::ErrorKind::NotFound);
                self.hold_message(account, &stored, &source, self.clock.now()).await;
                return Outcome::Gone;
            }
            Err(error) => return unreadable(id, self.clock.now(), &error.to_string()),
        };
        let token = match self.sign_ins.token(&mailbox).await {
            Ok(token) => token,
            Err(error) => return self.without_token(account, &stored, error).await,
        };
        let deliver = |token: &AccessToken| Delivery {
            account: account.clone(),
            token: token.secret.clone(),
            sender: SenderPolicy::Rewrite,
            hostname: config.hostname.clone(),
            message: stored.clone(),
            body: body.clone(),
        };
        let mut attempt = self.pool.attempt(deliver(&token)).await;
        if is_login_refused(&attempt) {
            // The token was believed to be good: once more with a fresh one, then the account is held.
            self.sign_ins.rejected(&mailbox, token.version);
            match self.sign_ins.token(&mailbox).await {
                Ok(fresh) if fresh.version != token.version => attempt = self.pool.attempt(deliver(&fresh)).await,
                Ok(_) => {}
                Err(error) => return self.without_token(account, &stored, error).await,
            }
        }
        self.settle(&config.queue, account, stored, attempt).await
    }

    async fn probe(&self, mailbox: Address) -> Result<(), String> {
        let config = self.config.borrow().clone();
        let account = config.account(&mailbox).ok_or("the account is no longer configured")?;
        let token = self.sign_ins.refresh_now(&mailbox).await.map_err(|error| error.to_string())?;
        let probed = self.pool.probe(account, &token.secret, &config.hostname).await;
        probed.map(|_| ()).map_err(|error| said(&error))
    }
}

impl Sender {
    async fn without_token(&self, account: &Account, stored: &Stored, error: NoToken) -> Outcome {
        let (at, again) = (self.clock.now(), waiting_again(stored));
        let (error, retry_at) = match error {
            // The hold itself tells why, of all its messages at once.
            NoToken::Held { cause, error, codes } => {
                let (reply, error, probe_at) = (None, Some(error), None);
                let hold = Hold {
                    account: account.mailbox.clone(),
                    cause,
                    reply,
                    error,
                    codes,
                    since: at,
                    probe_at,
                    probes: 0,
                };
                return Outcome::Held { again, hold };
            }
            NoToken::Unavailable { error, retry_at } => (error, retry_at),
            // A new account is scheduled a moment before it is known there.
            NoToken::UnknownAccount => ("the account's sign-in is not there yet".to_owned(), at + NOT_THERE_YET),
        };
        let error = format!("no access token: {error}");
        self.note_failure(account, stored, at, &error, &error).await;
        Outcome::Unreachable { again, error, retry_at: Some(retry_at) }
    }

    /// Nothing has changed for the message, but whoever asks why it has not left is to find the reason with it.
    async fn note_failure(&self, account: &Account, stored: &Stored, at: Timestamp, said: &str, why: &str) {
        let next = Next::Wait { due_at: stored.due_at, tries: stored.tries, tried_for: stored.tried_for };
        let journal = format!("not sent through {}: {why}", account.mailbox);
        self.write(record(account, stored, at, unanswered(stored, said), next, None, journal), stored).await;
    }

    async fn settle(&self, queue: &Queue, account: &Account, stored: Stored, attempt: Attempt) -> Outcome {
        let at = self.clock.now();
        match attempt.result {
            Ok(ref verdicts) => self.settle_verdicts(queue, account, &stored, &attempt, verdicts, at).await,
            Err(AttemptError::Body { ref source }) if is_lost(source) => {
                self.hold_message(account, &stored, source, at).await;
                Outcome::Gone
            }
            // Perhaps it is this message that the far side, or something on the way, cannot bear. It must not stop the others.
            Err(ref error) if attempt.begun || matches!(error, AttemptError::Body { .. }) => {
                let verdicts = failed_verdicts(&stored, error);
                self.settle_verdicts(queue, account, &stored, &attempt, &verdicts, at).await
            }
            Err(ref error) => {
                self.note_failure(account, &stored, at, &said(error), &error.to_string()).await;
                let again = waiting_again(&stored);
                match login_hold(account, error, at) {
                    Some(hold) => Outcome::Held { again, hold },
                    None => Outcome::Unreachable { again, error: error.to_string(), retry_at: None },
                }
            }
        }
    }

    /// Only a person can say what becomes of a message without its body.
    async fn hold_message(&self, account: &Account, stored: &Stored, source: &io::Error, at: Timestamp) {
        tracing::error!(id = %stored.id, error = %source, "the body of a message is missing");
        let words = format!("the stored message cannot be read: {source}");
        let update = unanswered(stored, &words);
        let journal = format!("held: {words}");
        self.write(record(account, stored, at, update, Next::Hold, None, journal), stored).await;
    }

    async fn settle_verdicts(
        &self,
        queue: &Queue,
        account: &Account,
        stored: &Stored,
        attempt: &Attempt,
        verdicts: &[(usize, Verdict)],
        at: Timestamp,
    ) -> Outcome {
        let (mut updates, next) = decide(queue, stored, verdicts, at, rand::random());
        let accepted = updates.iter().filter(|update| update.state == RecipientState::Accepted).count();
        let sent = attempt.submitted.then(|| (at, u32::try_from(accepted).unwrap_or(u32::MAX)));
        let again = match next {
            Next::Wait { due_at, .. } => {
                let recipients = stored.recipients.len() - settled(stored, &updates);
                Some(Waiting { id: stored.id, due_at, recipients: u32::try_from(recipients).unwrap_or(u32::MAX) })
            }
            _ => None,
        };
        let is_given_up = stored.tried_for >= queue.give_up_after;
        let journal = journal_line(account, stored, &updates, &next, is_given_up, &attempt.notes);
        updates.sort_by_key(|update| update.index);
        let sent_row = sent.map(|(at, recipients)| Sent { login: account.login.clone(), at, recipients });
        self.write(record(account, stored, at, updates, next, sent_row, journal), stored).await;
        Outcome::Answered { sent, again }
    }

    /// The far side has answered: forgetting that would mean sending the message twice.
    async fn write(&self, record: Record, stored: &Stored) {
        let id = record.id;
        self.store.insist(Change::Record(Box::new(record.clone()))).await;
        for update in record.recipients {
            let Some(row) = stored.recipients.get(update.index) else { continue };
            let (state, reply) = (update.state, update.reply);
            tracing::info!(%id, recipient = %row.address, state = state.as_str(), %reply, "attempt");
            self.feed.tell(Happening::Recipient { id, address: row.address.clone(), state, reply });
        }
        if record.next == Next::Dead {
            self.feed.tell(Happening::Dead { id });
        }
    }
}

/// What becomes of the recipients and the message. `jitter` is in `0.0..1.0`.
fn decide(
    queue: &Queue,
    stored: &Stored,
    verdicts: &[(usize, Verdict)],
    at: Timestamp,
    jitter: f64,
) -> (Vec<RecipientUpdate>, Next) {
    let mut updates: Vec<RecipientUpdate> = verdicts
        .iter()
        .map(|(index, verdict)| {
            let state = match verdict.class {
                Class::Accepted => RecipientState::Accepted,
                Class::Refused => RecipientState::Refused,
                Class::InDoubt => RecipientState::InDoubt,
                Class::Later | Class::Held(_) => RecipientState::Waiting,
            };
            RecipientUpdate { index: *index, state, reply: verdict.reply.to_string() }
        })
        .collect();
    let is_pending = settled(stored, &updates) < stored.recipients.len();
    if is_pending && is_split(verdicts) {
        let (tries, tried_for) = (stored.tries, stored.tried_for);
        return (updates, Next::Wait { due_at: at, tries, tried_for });
    }
    if is_pending {
        let tries = stored.tries + 1;
        match retry::after_failure(queue, tries, stored.tried_for, jitter) {
            retry::Retry::After { delay, tried_for } => {
                return (updates, Next::Wait { due_at: at + delay, tries, tried_for });
            }
            retry::Retry::GiveUp => give_up(stored, &mut updates),
        }
    }
    let all_accepted = states(stored, &updates).all(|state| state == RecipientState::Accepted);
    (updates, if all_accepted { Next::Archive } else { Next::Dead })
}

/// The server took as many recipients as it takes at once; the others are next, and nothing has failed (RFC 5321 section 4.5.3.1.10).
fn is_split(verdicts: &[(usize, Verdict)]) -> bool {
    let later = || verdicts.iter().filter(|(_, verdict)| verdict.class == Class::Later);
    let is_too_many = |verdict: &Verdict| verdict.reply.code() == 452 && verdict.reply.enhanced() == Some("4.5.3");
    verdicts.iter().any(|(_, verdict)| verdict.class == Class::Accepted)
        && later().next().is_some()
        && later().all(|(_, verdict)| is_too_many(verdict))
}

/// Who waits still will not get it; who is in doubt stays so.
fn give_up(stored: &Stored, updates: &mut Vec<RecipientUpdate>) {
    for (index, row) in stored.recipients.iter().enumerate() {
        match updates.iter_mut().find(|update| update.index == index) {
            Some(update) if update.state == RecipientState::Waiting => update.state = RecipientState::Refused,
            None if row.state == RecipientState::Waiting => {
                let reply = row.reply.clone().unwrap_or_default();
                updates.push(RecipientUpdate { index, state: RecipientState::Refused, reply });
            }
            Some(_) | None => {}
        }
    }
}

/// The states of all recipients once the updates are in.
fn states<'a>(stored: &'a Stored, updates: &'a [RecipientUpdate]) -> impl Iterator<Item = RecipientState> + 'a {
    stored.recipients.iter().enumerate().map(|(index, row)| {
        updates.iter().find(|update| update.index == index).map_or(row.state, |update| update.state)
    })
}

fn settled(stored: &Stored, updates: &[RecipientUpdate]) -> usize {
    states(stored, updates).filter(|state| !state.is_pending()).count()
}

/// Nobody answered about the message: the pending recipients stay as they are, with the reason beside them.
fn unanswered(stored: &Stored, why: &str) -> Vec<RecipientUpdate> {
    let pending = stored.recipients.iter().enumerate().filter(|(_, row)| row.state.is_pending());
    pending.map(|(index, row)| RecipientUpdate { index, state: row.state, reply: why.to_owned() }).collect()
}

/// The body is gone or cut short: trying again does not bring it back.
fn is_lost(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
}

/// A failure within the transaction, as what it means for every pending recipient.
fn failed_verdicts(stored: &Stored, error: &AttemptError) -> Vec<(usize, Verdict)> {
    let reply = Reply::new(451, format!("4.4.2 xoauth2-relay: {error}"));
    let verdict = Verdict { scope: Scope::Message, class: Class::Later, reply };
    let pending = stored.recipients.iter().enumerate().filter(|(_, row)| row.state.is_pending());
    pending.map(|(index, _)| (index, verdict.clone())).collect()
}

fn waiting_again(stored: &Stored) -> Waiting {
    let recipients = stored.recipients.iter().filter(|row| row.state.is_pending()).count();
    Waiting { id: stored.id, due_at: stored.due_at, recipients: u32::try_from(recipients).unwrap_or(u32::MAX) }
}

fn unreadable(id: QueueId, now: Timestamp, error: &str) -> Outcome {
    tracing::error!(%id, error, "could not read a message");
    let again = Waiting { id, due_at: now + UNREADABLE, recipients: 1 };
    Outcome::Unreachable { again, error: format!("the queue cannot be read: {error}"), retry_at: None }
}

fn is_login_refused(attempt: &Attempt) -> bool {
    matches!(&attempt.result, Err(AttemptError::Login { .. }))
}

/// The reply word for word where there is one, else the failure in words.
fn said(error: &AttemptError) -> String {
    error.reply().map_or_else(|| error.to_string(), ToString::to_string)
}

fn login_hold(account: &Account, error: &AttemptError, at: Timestamp) -> Option<Hold> {
    let AttemptError::Login { reply, .. } = error else { return None };
    Some(Hold {
        account: account.mailbox.clone(),
        cause: HoldCause::Login,
        reply: Some(reply.to_string()),
        error: None,
        codes: Vec::new(),
        since: at,
        probe_at: None,
        probes: 0,
    })
}

fn record(
    account: &Account,
    stored: &Stored,
    at: Timestamp,
    recipients: Vec<RecipientUpdate>,
    next: Next,
    sent: Option<Sent>,
    journal: String,
) -> Record {
    Record { id: stored.id, account: account.mailbox.clone(), at, recipients, next, sent, journal }
}

/// One line that tells the whole attempt.
fn journal_line(
    account: &Account,
    stored: &Stored,
    updates: &[RecipientUpdate],
    next: &Next,
    is_given_up: bool,
    notes: &[String],
) -> String {
    let mut line = format!("try {} through {}: ", stored.tries + 1, account.mailbox);
    for update in updates {
        let address = stored.recipients.get(update.index).map_or("?", |row| row.address.as_str());
        let what = match update.state {
            RecipientState::Accepted => "accepted by Exchange",
            RecipientState::Refused => "refused",
            RecipientState::InDoubt => "in doubt",
            RecipientState::Waiting | RecipientState::Held => "not yet",
        };
        let _ = write!(line, "{address} {what}: {}; ", update.reply.replace('\n', " / "));
    }
    match next {
        Next::Wait { due_at, .. } => drop(write!(line, "next try at {due_at}")),
        Next::Dead if is_given_up => {
            let _ = write!(line, "given up after {} tries (give_up_after): kept as a dead letter", stored.tries + 1);
        }
        Next::Dead => line.push_str("no more tries: kept as a dead letter"),
        Next::Archive => line.push_str("done"),
        Next::Hold => line.push_str("held"),
    }
    for note in notes {
        line.push_str("; ");
        line.push_str(note);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Envelope, Protocol, Trace};
    use crate::store::RecipientRow;

    fn at() -> Timestamp {
        Timestamp::from_second(1_795_000_000).unwrap()
    }

    fn queue() -> Queue {
        crate::config::testing::config(Vec::new()).queue
    }

    fn stored(states: &[RecipientState]) -> Stored {
        let address = |n: usize| Address::parse(&format!("user{n}@example.com")).unwrap();
        Stored {
            id: QueueId::new(at(), 0),
            received_at: at(),
            app: "default".to_owned(),
            account: Address::parse("lms@contoso.com").unwrap(),
            state: MessageState::Waiting,
            due_at: at(),
            tries: 0,
            tried_for: Duration::ZERO,
            envelope: Envelope { sender: None, recipients: (0..states.len()).map(address).collect(), smtputf8: false },
            trace: Trace {
                peer: [127, 0, 0, 1].into(),
                helo: None,
                protocol: Protocol { extended: true, tls: false, authenticated: false },
                user: None,
            },
            subject: None,
            size: 2,
            recipients: states
                .iter()
                .enumerate()
                .map(|(n, &state)| RecipientRow { address: address(n), state, reply: None })
                .collect(),
        }
    }

    fn verdict(index: usize, class: Class, code: u16, text: &str) -> (usize, Verdict) {
        (index, Verdict { scope: Scope::Recipient, class, reply: Reply::new(code, text) })
    }

    fn states_after(updates: &[RecipientUpdate]) -> Vec<(usize, RecipientState)> {
        updates.iter().map(|update| (update.index, update.state)).collect()
    }

    const WAITING: RecipientState = RecipientState::Waiting;

    #[test]
    fn all_accepted_goes_to_the_archive_and_one_refused_makes_a_dead_letter() {
        let stored = stored(&[WAITING, WAITING]);
        let accepted = |index| verdict(index, Class::Accepted, 250, "2.0.0 OK");
        let (_, next) = decide(&queue(), &stored, &[accepted(0), accepted(1)], at(), 0.0);
        assert_eq!(next, Next::Archive);
        let refused = verdict(1, Class::Refused, 550, "5.4.1 no");
        let (updates, next) = decide(&queue(), &stored, &[accepted(0), refused], at(), 0.0);
        assert_eq!(next, Next::Dead);
        assert_eq!(states_after(&updates), [(0, RecipientState::Accepted), (1, RecipientState::Refused)]);
    }

    #[test]
    fn who_was_refused_before_is_not_forgotten_when_the_rest_is_accepted() {
        let stored = stored(&[RecipientState::Refused, WAITING]);
        let (_, next) = decide(&queue(), &stored, &[verdict(1, Class::Accepted, 250, "2.0.0 OK")], at(), 0.0);
        assert_eq!(next, Next::Dead);
    }

    #[test]
    fn a_refusal_for_now_costs_a_try_and_waits_the_first_step() {
        let (updates, next) =
            decide(&queue(), &stored(&[WAITING]), &[verdict(0, Class::Later, 451, "4.3.0 busy")], at(), 0.0);
        let minute = Duration::from_mins(1);
        assert_eq!(next, Next::Wait { due_at: at() + minute, tries: 1, tried_for: minute });
        assert_eq!(updates[0].reply, "451 4.3.0 busy");
    }

    #[test]
    fn recipients_that_were_too_many_at_once_are_next_and_cost_nothing() {
        let stored = stored(&[WAITING, WAITING]);
        let accepted = verdict(0, Class::Accepted, 250, "2.0.0 OK");
        let too_many = verdict(1, Class::Later, 452, "4.5.3 Too many recipients");
        let (_, next) = decide(&queue(), &stored, &[accepted, too_many.clone()], at(), 0.0);
        assert_eq!(next, Next::Wait { due_at: at(), tries: 0, tried_for: Duration::ZERO });
        // A server that takes none at all would be asked for ever.
        let (_, next) = decide(&queue(), &stored, &[(0, too_many.1.clone()), too_many], at(), 0.0);
        assert!(matches!(next, Next::Wait { tries: 1, .. }));
    }

    #[test]
    fn a_message_tried_for_too_long_is_given_up_but_a_doubt_stays_a_doubt() {
        let mut stored = stored(&[WAITING, RecipientState::InDoubt, RecipientState::Accepted]);
        stored.tried_for = queue().give_up_after;
        let later = |index| verdict(index, Class::Later, 451, "4.3.0 busy");
        let (updates, next) = decide(&queue(), &stored, &[later(0), later(1)], at(), 0.0);
        assert_eq!(next, Next::Dead);
        assert_eq!(states_after(&updates)[0], (0, RecipientState::Refused));
        assert_eq!(updates[0].reply, "451 4.3.0 busy", "the last reply, word for word");
    }

    #[test]
    fn a_connection_lost_within_the_transaction_is_held_against_every_pending_recipient() {
        let stored = stored(&[RecipientState::Accepted, WAITING, RecipientState::InDoubt]);
        let error = AttemptError::Network {
            host: crate::config::HostPort { host: "localhost".to_owned(), port: 587 },
            doing: "sending the message",
            source: io::ErrorKind::ConnectionReset.into(),
        };
        let verdicts = failed_verdicts(&stored, &error);
        assert_eq!(verdicts.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 2]);
        assert!(
            verdicts[0]
                .1
                .reply
                .to_string()
                .starts_with("451 4.4.2 xoauth2-relay: lost the connection to localhost:587")
        );
    }
}
