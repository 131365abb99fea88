//! What becomes of a message and its recipients after an attempt: pure rules, from verdicts to what is recorded.

use std::fmt::Write as _;

use jiff::Timestamp;

use super::{AttemptError, Class, Scope, Verdict};
use crate::config::{Account, Queue};
use crate::schedule::retry;
use crate::smtp::Reply;
use crate::store::{Next, RecipientState, RecipientUpdate, Stored};

/// What becomes of the recipients and the message. `jitter` is in `0.0..1.0`.
pub(super) fn decide(
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

pub(super) fn settled(stored: &Stored, updates: &[RecipientUpdate]) -> usize {
    states(stored, updates).filter(|state| !state.is_pending()).count()
}

/// Nobody answered about the message: the pending recipients stay as they are, with the reason beside them.
pub(super) fn unanswered(stored: &Stored, why: &str) -> Vec<RecipientUpdate> {
    let pending = stored.recipients.iter().enumerate().filter(|(_, row)| row.state.is_pending());
    pending.map(|(index, row)| RecipientUpdate { index, state: row.state, reply: why.to_owned() }).collect()
}

/// A failure within the transaction, as what it means for every pending recipient.
pub(super) fn failed_verdicts(stored: &Stored, error: &AttemptError) -> Vec<(usize, Verdict)> {
    let reply = Reply::new(451, format!("4.4.2 xoauth2-relay: {error}"));
    let verdict = Verdict { scope: Scope::Message, class: Class::Later, throttle: None, reply };
    let pending = stored.recipients.iter().enumerate().filter(|(_, row)| row.state.is_pending());
    pending.map(|(index, _)| (index, verdict.clone())).collect()
}

/// One line that tells the whole attempt.
pub(super) fn journal_line(
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
    use std::io;
    use std::time::Duration;

    use crate::message::{Address, Envelope, Lane, Protocol, QueueId, Trace};
    use crate::store::{MessageState, RecipientRow};

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
            lane: Lane::Normal,
            lane_why: None,
            state: MessageState::Waiting,
            due_at: at(),
            tries: 0,
            tried_for: Duration::ZERO,
            envelope: Envelope {
                recipients: (0..states.len()).map(|n| address(n).into()).collect(),
                ..Envelope::default()
            },
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
        (index, Verdict { scope: Scope::Recipient, class, throttle: None, reply: Reply::new(code, text) })
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
