//! One message, one account, now: from what is stored to what is recorded.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::errand::{Done, Errand, Pass, Refused};
use super::login_order::LoginOrder;
use super::moods::{Fault, Moods};
use super::parts::{Answers, Parts, Sifted};
use super::rules;
use super::settlement::{
    Obstacle, Terms, Then, decide, failed_verdicts, journal_line, obstacle, settled, states, unanswered, why_held,
};
use super::{Attempt, AttemptError, Class, Credentials, Pool, Scope, SendAs, Session, UnderWay, UserNames, Verdict};
use crate::clock::Clock;
use crate::config::{Account, Config};
use crate::journal::{Feed, Happening};
use crate::message::{Address, QueueId};
use crate::registry;
use crate::schedule::{Counted, Courier, Event, Inbox, Outcome, Proved, Stop};
use crate::signin::{NoToken, SecretReader, SignIns};
use crate::store::{
    Change, Flow, Hold, HoldCause, MessageState, Next, RecipientUpdate, Record, Sent, Store, Stored, Waiting,
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
    /// As whom Exchange takes the logins.
    pub user_names: UserNames,
    /// What Exchange takes and refuses as senders.
    pub send_as: SendAs,
    /// Who hears of each login that was taken.
    pub schedule: Inbox,
    /// Which messages have stopped their account.
    pub moods: Moods,
    /// Which messages go out in parts, since nobody knows whom a refusal means.
    pub parts: Parts,
    /// Reads the passwords of accounts without a sign-in. May block.
    pub secrets: SecretReader,
    /// The messages that somebody works on.
    pub under_way: UnderWay,
}

impl Courier for Sender {
    async fn attempt(&self, mailbox: Address, id: QueueId) -> Outcome {
        let config = self.config.borrow().clone();
        let Some(account) = config.account(&mailbox) else { return Outcome::Gone };
        // Until what came of it is on disk.
        let Some(_turn) = self.under_way.enter(id) else {
            return self.under_way_elsewhere(id).await;
        };
        let (stored, body) = match self.store.message_and_body(id).await {
            Ok(Some((stored, body))) if is_for(&config, &stored, &mailbox) => (stored, body),
            Ok(_) => return Outcome::Gone,
            Err(error) => return unreadable(id, self.clock.now(), &error.to_string()),
        };
        let again = waiting_again(&stored);
        if stored.due_at > self.clock.now() {
            return Outcome::NotDue(again);
        }
        if let Some(again) = self.in_another_flow(&config, &stored).await {
            return Outcome::NotDue(again);
        }
        let Some(body) = body else {
            let source = io::Error::from(io::ErrorKind::NotFound);
            self.hold_message(account, &stored, &source, self.clock.now()).await;
            return Outcome::Gone;
        };
        let app = registry::app_named(&config, &stored.app).map(Arc::as_ref);
        let Some(stored) = self.ruled(app, account, stored, &body).await else { return Outcome::Gone };
        let pass = match self.pass(account).await {
            Ok(pass) => pass,
            Err(error) => return self.without_token(account, &stored, error).await,
        };
        match self.run(account, &Errand::Deliver(&stored, &body, app), pass, self.order(account)).await {
            Ok(mut done) => {
                let learnt = std::mem::take(&mut done.learnt);
                self.sift(account, &stored, &mut done.attempt);
                let outcome = self.settle(&config, account, stored, done).await;
                self.learn(account, learnt).await;
                outcome
            }
            Err(error) => self.without_token(account, &stored, error).await,
        }
    }

    async fn probe(&self, mailbox: Address) -> Result<(), String> {
        let account = self.configured(&mailbox).ok_or("the account is no longer configured")?;
        let pass = match self.own(&account) {
            Some(own) => own,
            None => Pass::Token(self.sign_ins.refresh_now(&mailbox).await.map_err(|error| error.to_string())?),
        };
        let order = self.order(&account).with_fresh_token();
        let done = self.run(&account, &Errand::Prove, pass, order).await.map_err(|error| error.to_string())?;
        self.learn(&account, done.learnt).await;
        match done.hold.and_then(|refused| refused.hold.reply) {
            Some(reply) => Err(reply),
            None => done.attempt.result.map(|_| ()).map_err(|error| said(&error)),
        }
    }

    async fn prove(&self, mailbox: Address) -> Proved {
        let Some(account) = self.configured(&mailbox) else {
            return Proved::Failed("the account is no longer configured".to_owned());
        };
        let done = match self.pass(&account).await {
            Ok(pass) => self.run(&account, &Errand::Prove, pass, self.order(&account)).await,
            Err(error) => Err(error),
        };
        match done {
            Ok(Done { hold: Some(refused), .. }) => Proved::Held(refused.hold, refused.of_tenant),
            Ok(Done { attempt, learnt, .. }) => {
                let last = self.user_names.last(&account).map_or_else(|| self.clock.now(), |last| last.at);
                self.learn(&account, learnt).await;
                match attempt.result {
                    Ok(_) => Proved::Taken(last),
                    Err(error) => Proved::Failed(error.to_string()),
                }
            }
            Err(NoToken::Held { cause, error, codes }) => {
                Proved::Held(sign_in_hold(&account, cause, error, codes, self.clock.now()), false)
            }
            Err(error) => Proved::Failed(format!("no access token: {error}")),
        }
    }
}

impl Sender {
    fn configured(&self, mailbox: &Address) -> Option<Arc<Account>> {
        self.config.borrow().account(mailbox).cloned()
    }

    fn order(&self, account: &Account) -> LoginOrder {
        let last = self.user_names.last(account);
        let order = LoginOrder::new(account, last.as_ref().map(|last| &last.user));
        // A password is read for each login: there is no fresher one.
        if account.signs_in() { order } else { order.with_fresh_token() }
    }

    /// What the account logs in with now.
    async fn pass(&self, account: &Account) -> Result<Pass, NoToken> {
        match self.own(account) {
            Some(own) => Ok(own),
            None => self.sign_ins.token(&account.mailbox).await.map(Pass::Token),
        }
    }

    /// What an account without a sign-in logs in with.
    fn own(&self, account: &Account) -> Option<Pass> {
        (!account.signs_in()).then(|| Pass::Own(Credentials::own(account, &self.secrets)))
    }

    /// It was moved here while another account has it under way: what becomes of that has to be waited for.
    async fn under_way_elsewhere(&self, id: QueueId) -> Outcome {
        let due_at = self.clock.now() + NOT_THERE_YET;
        match self.store.message(id).await {
            Ok(Some(stored)) => Outcome::NotDue(Waiting { due_at, ..waiting_again(&stored) }),
            Ok(None) => Outcome::Gone,
            Err(error) => unreadable(id, self.clock.now(), &error.to_string()),
        }
    }

    /// What a budget counts has to wait in a flow of its own. When the message was put into one, the configuration, its account or its recipients
    /// may have been others: then it is put into the other one, to come back in its turn. Where no budget is configured, either will do.
    async fn in_another_flow(&self, config: &Config, stored: &Stored) -> Option<Waiting> {
        let outside = other_flow(config, stored, &[])?;
        Some(self.put_in_line(waiting_again(stored), outside).await)
    }

    async fn put_in_line(&self, again: Waiting, outside: bool) -> Waiting {
        self.store.insist(Change::Outside { ids: vec![again.id], outside }).await;
        Waiting { flow: again.flow.to_outside(outside), ..again }
    }

    async fn without_token(&self, account: &Account, stored: &Stored, error: NoToken) -> Outcome {
        let (at, again) = (self.clock.now(), waiting_again(stored));
        let (error, retry_at) = match error {
            // The hold itself tells why, of all its messages at once.
            NoToken::Held { cause, error, codes } => {
                return Outcome::Held { again, hold: sign_in_hold(account, cause, error, codes, at) };
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

    /// What was said of several recipients and means one of them is made an outcome for each.
    fn sift(&self, account: &Account, stored: &Stored, attempt: &mut Attempt) {
        let Ok(verdicts) = &mut attempt.result else { return };
        // Its sender was in the way: that says nothing about recipients.
        if attempt.again_at.is_some() || attempt.diverted {
            return;
        }
        let senders: Vec<&Address> = [Some(&account.mailbox), Some(&account.login), stored.envelope.sender.as_ref()]
            .into_iter()
            .flatten()
            .collect();
        let answers = Answers { verdicts, together: &attempt.together, senders: &senders };
        let Sifted { verdicts: sifted, goes_on, note } = self.parts.sift(stored, answers);
        *verdicts = sifted;
        attempt.again_at = goes_on.then(|| self.clock.now());
        attempt.notes.extend(note);
    }

    async fn settle(&self, config: &Config, account: &Account, stored: Stored, done: Done) -> Outcome {
        let (Done { attempt, hold, .. }, at) = (done, self.clock.now());
        match attempt.result {
            Ok(ref verdicts) => self.settle_verdicts(config, account, &stored, &attempt, verdicts, at).await,
            Err(AttemptError::Body { ref source }) if is_lost(source) => {
                self.hold_message(account, &stored, source, at).await;
                Outcome::Gone
            }
            // Perhaps it is this message that the far side, or something on the way, cannot bear. It must not stop the others.
            Err(ref error) if attempt.begun || matches!(error, AttemptError::Body { .. }) => {
                let verdicts = failed_verdicts(&stored, error);
                self.settle_verdicts(config, account, &stored, &attempt, &verdicts, at).await
            }
            Err(ref error) => {
                self.note_failure(account, &stored, at, &said(error), &error.to_string()).await;
                let again = waiting_again(&stored);
                match hold.or_else(|| refused_before_login(account, error, at)) {
                    Some(Refused { hold, of_tenant: false }) => Outcome::Held { again, hold },
                    Some(Refused { hold, of_tenant }) => {
                        Outcome::Stopped { sent: None, again: Some(again), stop: Stop::Hold { hold, of_tenant } }
                    }
                    None => {
                        let retry_at = error.verdict().and_then(|verdict| verdict.wait()).map(|wait| at + wait);
                        Outcome::Unreachable { again, error: error.to_string(), retry_at }
                    }
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
        config: &Config,
        account: &Account,
        stored: &Stored,
        attempt: &Attempt,
        verdicts: &[(usize, Verdict)],
        at: Timestamp,
    ) -> Outcome {
        let in_doubt = registry::app_named(config, &stored.app).map(|app| app.in_doubt).unwrap_or_default();
        let obstacle = obstacle(verdicts, attempt.session == Session::New);
        let stopped = || self.moods.stopped(&account.mailbox, stored.id, stored.tries);
        let fault = obstacle.map(|met| if met.is_throttle { Fault::Throttled } else { stopped() });
        let is_accepted = |(_, verdict): &(usize, Verdict)| verdict.class == Class::Accepted;
        if fault.is_none() && verdicts.iter().any(is_accepted) {
            self.moods.taken(&account.mailbox, stored.id);
        }
        let terms = Terms { queue: &config.queue, in_doubt, obstacle: fault };
        let (mut updates, next) = match attempt.again_at {
            Some(due_at) => rules::once_more(stored, verdicts, due_at),
            None => decide(terms, stored, verdicts, at, rand::random()),
        };
        let next = rules::held_if_only_held_are_left(next, stored, &updates);
        let stands = obstacle.filter(|_| fault != Some(Fault::Message));
        let sent = attempt.submitted.then(|| Counted {
            at,
            recipients: reached(attempt, verdicts),
            outside: reached_outside(config, account, stored, verdicts),
        });
        let again = waits_again(stored, &updates, &next);
        let other_flow = other_flow(config, stored, &updates);
        let why = why_held(in_doubt, verdicts).map(|why| why.replace("<id>", &stored.id.to_string()));
        let then = match (&why, stands) {
            (Some(why), _) => Then::Held(why),
            (None, Some(obstacle)) => obstacle.cause.map_or(Then::Mood, Then::AccountHeld),
            (None, None) if stored.tried_for >= config.queue.give_up_after => Then::GivenUp,
            (None, None) => Then::AsUsual,
        };
        let journal = journal_line(account, stored, &updates, &next, then, &attempt.notes);
        updates.sort_by_key(|update| update.index);
        let login = account.login.clone();
        let sent_row = sent.map(|Counted { at, recipients, outside }| Sent { login, at, recipients, outside });
        self.write(record(account, stored, at, updates, next, sent_row, journal), stored).await;
        let again = match (again, other_flow) {
            // Whoever is left does not wait for a budget that only the others have used.
            (Some(again), Some(outside)) => Some(self.put_in_line(again, outside).await),
            (again, _) => again,
        };
        let throttled = verdicts.iter().find_map(|(_, verdict)| Some((verdict.throttle?, verdict.reply.to_string())));
        match stands {
            Some(obstacle) if !(obstacle.is_throttle && obstacle.cause.is_none()) => {
                if let Some((throttle, said)) = throttled {
                    self.schedule.tell(Event::Throttled { account: account.mailbox.clone(), throttle, said });
                }
                Outcome::Stopped { sent, again, stop: stop(account, &obstacle, at) }
            }
            _ => Outcome::Answered { sent, again, throttled },
        }
    }

    /// The far side has answered: forgetting that would mean sending the message twice.
    pub(super) async fn write(&self, record: Record, stored: &Stored) {
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

/// Whether it still waits, in a queue whose mail the account may carry: it may have been moved, or the configuration be another one.
fn is_for(config: &Config, stored: &Stored, carrier: &Address) -> bool {
    let may_carry = || registry::may_carry(config, &stored.app, stored.lane, &stored.account, carrier);
    stored.state == MessageState::Waiting && may_carry()
}

/// Whether a budget counts the message once the updates are in, if that is not the flow that it is in.
pub(super) fn other_flow(config: &Config, stored: &Stored, updates: &[RecipientUpdate]) -> Option<bool> {
    if config.tenants.is_empty() {
        return None;
    }
    let rows = stored.recipients.iter().zip(states(stored, updates));
    let pending = rows.filter(|(_, state)| state.is_pending()).map(|(row, _)| &row.address);
    let outside = registry::is_outside(config, &stored.app, &stored.account, pending);
    (outside != stored.outside).then_some(outside)
}

/// What waits again once this is on record.
fn waits_again(stored: &Stored, updates: &[RecipientUpdate], next: &Next) -> Option<Waiting> {
    let Next::Wait { due_at, .. } = *next else { return None };
    let recipients = u32::try_from(stored.recipients.len() - settled(stored, updates)).unwrap_or(u32::MAX);
    Some(Waiting { due_at, recipients, ..waiting_again(stored) })
}

/// Who is in doubt may have been taken, and counted there.
fn may_have_it(verdict: &Verdict) -> bool {
    matches!(verdict.class, Class::Accepted | Class::InDoubt)
}

/// How many have the mail now, or may have it.
fn reached(attempt: &Attempt, verdicts: &[(usize, Verdict)]) -> u32 {
    let may_have_it = verdicts.iter().filter(|(_, verdict)| may_have_it(verdict)).count();
    let reached = if attempt.diverted { may_have_it.min(1) } else { may_have_it };
    u32::try_from(reached).unwrap_or(u32::MAX)
}

/// How many of them a budget of the carrier's tenant counts.
pub(super) fn reached_outside(
    config: &Config,
    account: &Account,
    stored: &Stored,
    verdicts: &[(usize, Verdict)],
) -> u32 {
    let may_have_it = verdicts.iter().filter(|(_, verdict)| may_have_it(verdict));
    let reached = may_have_it.filter_map(|(index, _)| Some(&stored.recipients.get(*index)?.address));
    u32::try_from(registry::outside(config, &stored.app, account, reached)).unwrap_or(u32::MAX)
}

/// The body is gone or cut short: trying again does not bring it back.
fn is_lost(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
}

fn waiting_again(stored: &Stored) -> Waiting {
    let recipients = stored.recipients.iter().filter(|row| row.state.is_pending()).count();
    let recipients = u32::try_from(recipients).unwrap_or(u32::MAX);
    Waiting { id: stored.id, due_at: stored.due_at, recipients, flow: flow_of(stored) }
}

fn flow_of(stored: &Stored) -> Flow {
    Flow::new(&stored.app, stored.lane).to_outside(stored.outside)
}

fn unreadable(id: QueueId, now: Timestamp, error: &str) -> Outcome {
    tracing::error!(%id, error, "could not read a message");
    // The schedule knows the flow that it came from, which this one does not claim to be.
    let again = Waiting { id, due_at: now + UNREADABLE, recipients: 1, flow: Flow::default() };
    Outcome::Unreachable { again, error: format!("the queue cannot be read: {error}"), retry_at: None }
}

/// The reply word for word where there is one, else the failure in words.
fn said(error: &AttemptError) -> String {
    error.reply().map_or_else(|| error.to_string(), ToString::to_string)
}

/// The connection was refused before anybody had logged in, and for good: its TLS, this network.
fn refused_before_login(account: &Account, error: &AttemptError, at: Timestamp) -> Option<Refused> {
    let verdict = error.verdict()?;
    let Class::Held(cause) = verdict.class else { return None };
    let hold = reply_hold(account, cause, verdict.reply.to_string(), at);
    Some(Refused { hold, of_tenant: verdict.scope == Scope::Tenant })
}

/// What a reply about more than its message means for the account.
fn stop(account: &Account, obstacle: &Obstacle<'_>, at: Timestamp) -> Stop {
    let reply = obstacle.reply.to_string();
    match obstacle.cause {
        Some(cause) => Stop::Hold { hold: reply_hold(account, cause, reply, at), of_tenant: obstacle.of_tenant },
        None => Stop::Pause { error: reply, retry_at: obstacle.wait.map(|wait| at + wait) },
    }
}

fn reply_hold(account: &Account, cause: HoldCause, reply: String, since: Timestamp) -> Hold {
    let (account, reply) = (account.mailbox.clone(), Some(reply));
    Hold { account, cause, reply, error: None, codes: Vec::new(), since, probe_at: None, probes: 0 }
}

fn sign_in_hold(account: &Account, cause: HoldCause, error: String, codes: Vec<u32>, since: Timestamp) -> Hold {
    let (account, error) = (account.mailbox.clone(), Some(error));
    Hold { account, cause, reply: None, error, codes, since, probe_at: None, probes: 0 }
}

pub(super) fn record(
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
