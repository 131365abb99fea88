//! What becomes of a message and its recipients after an attempt: pure rules, from verdicts to what is recorded.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use super::moods::Fault;
use super::{AttemptError, Class, Scope, Verdict};
use crate::config::{Account, InDoubt, Queue};
use crate::schedule::retry;
use crate::smtp::Reply;
use crate::store::{HoldCause, Next, RecipientState, RecipientUpdate, Stored};

/// How long a message waits at least that was one too many; at most twice as long. Others leave meanwhile, at the lower pace.
const THROTTLED: Duration = Duration::from_secs(30);

/// What else counts beside the verdicts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub(super) queue: &'a Queue,
    /// What the app has chosen for mail of which nobody knows whether it has arrived.
    pub(super) in_doubt: InDoubt,
    /// Something larger than the message stands in its way: that costs it no try.
    pub(super) obstacle: Option<Fault>,
}

/// What becomes of the recipients and the message. `jitter` is in `0.0..1.0`.
pub(super) fn decide(
    terms: Terms<'_>,
    stored: &Stored,
    verdicts: &[(usize, Verdict)],
    at: Timestamp,
    jitter: f64,
) -> (Vec<RecipientUpdate>, Next) {
    let mut updates: Vec<RecipientUpdate> = verdicts
        .iter()
        .map(|(index, verdict)| {
            let state = state_after(stored.recipients.get(*index).map(|row| row.state), verdict.class);
            RecipientUpdate { index: *index, state, reply: verdict.reply.to_string() }
        })
        .collect();
    if settled(stored, &updates) < stored.recipients.len() {
        let as_before = |due_at| Next::Wait { due_at, tries: stored.tries, tried_for: stored.tried_for };
        if why_held(terms.in_doubt, verdicts).is_some() {
            return (updates, Next::Hold);
        }
        if is_split(verdicts) {
            return (updates, as_before(at));
        }
        match terms.obstacle {
            Some(Fault::Account) => return (updates, as_before(stored.due_at)),
            Some(Fault::Throttled) => return (updates, as_before(at + THROTTLED.mul_f64(1.0 + jitter))),
            Some(Fault::AccountAgain) => return (updates, as_before(at + retry::delay(&terms.queue.retry, 1, 0.0))),
            Some(Fault::Message) | None => {}
        }
        let tries = stored.tries + 1;
        match retry::after_failure(terms.queue, tries, stored.tried_for, asked_for(verdicts), jitter) {
            retry::Retry::After { delay, tried_for } => {
                return (updates, Next::Wait { due_at: at + delay, tries, tried_for });
            }
            retry::Retry::GiveUp => give_up(stored, &mut updates),
        }
    }
    let all_accepted = states(stored, &updates).all(|state| state == RecipientState::Accepted);
    (updates, if all_accepted { Next::Archive } else { Next::Dead })
}

/// How long the replies themselves ask to wait: the shortest, and nothing if one of those that are tried again does not ask. Nobody waits for
/// somebody else's limit.
fn asked_for(verdicts: &[(usize, Verdict)]) -> Option<Duration> {
    let again = verdicts.iter().filter(|(_, verdict)| !matches!(verdict.class, Class::Accepted | Class::Refused));
    again.map(|(_, verdict)| verdict.wait()).min().flatten()
}

pub(super) fn state_after(before: Option<RecipientState>, class: Class) -> RecipientState {
    match class {
        Class::Accepted => RecipientState::Accepted,
        Class::Refused => RecipientState::Refused,
        Class::InDoubt => RecipientState::InDoubt,
        // That it is not taken now says nothing about whether it had been taken then.
        Class::Later | Class::Held(_) if before == Some(RecipientState::InDoubt) => RecipientState::InDoubt,
        Class::Later | Class::Held(_) => RecipientState::Waiting,
    }
}

/// Why a person has to decide about the message, if one has to: what to look at, and what to type.
pub(super) fn why_held(in_doubt: InDoubt, verdicts: &[(usize, Verdict)]) -> Option<String> {
    let held = verdicts.iter().find_map(|(_, verdict)| match (verdict.class, verdict.scope) {
        (Class::Held(cause), Scope::Recipient | Scope::Message) => Some(cause),
        _ => None,
    });
    if let Some(cause) = held {
        return Some(format!(
            "held: {cause}, and that is about this message; then queue retry <id>, or queue delete <id>"
        ));
    }
    let is_in_doubt = verdicts.iter().any(|(_, verdict)| verdict.class == Class::InDoubt);
    (is_in_doubt && in_doubt == InDoubt::Hold).then(|| {
        "held: nobody knows whether Exchange has it (in_doubt = \"hold\"); look for its Message-ID in the message trace of the Exchange \
         admin center, then queue delete <id> if it is there, or queue retry <id> if it is not"
            .to_owned()
    })
}

/// Something larger than the message that a reply speaks of: what holds or stops the account, and whom else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Obstacle<'a> {
    /// What the account is held for; `None`: it is a passing mood.
    pub(super) cause: Option<HoldCause>,
    pub(super) of_tenant: bool,
    /// The pace follows from it, and that is enough.
    pub(super) is_throttle: bool,
    /// How long the account is to pause, if that is known.
    pub(super) wait: Option<Duration>,
    pub(super) reply: &'a Reply,
}

/// What stands in the way of more than this message, if anything does. What holds says more than a mood. `is_fresh`: the session was a new
/// one, so that a refusal of the connection is none of an old session's.
pub(super) fn obstacle(verdicts: &[(usize, Verdict)], is_fresh: bool) -> Option<Obstacle<'_>> {
    let all = || verdicts.iter().filter_map(|(_, verdict)| obstacle_of(verdict, is_fresh));
    all().find(|obstacle| obstacle.cause.is_some()).or_else(|| all().next())
}

fn obstacle_of(verdict: &Verdict, is_fresh: bool) -> Option<Obstacle<'_>> {
    let Verdict { scope, class, throttle, reply, .. } = verdict;
    if matches!(scope, Scope::Recipient | Scope::Message) {
        return None;
    }
    match *class {
        Class::Held(cause) => {
            let cause = Some(cause).filter(|_| *scope != Scope::Connection || is_fresh);
            Some(Obstacle { cause, of_tenant: *scope == Scope::Tenant, is_throttle: false, wait: None, reply })
        }
        Class::Later => {
            let wait = verdict.wait();
            let is_throttle = throttle.is_some() && wait.is_none();
            Some(Obstacle { cause: None, of_tenant: false, is_throttle, wait, reply })
        }
        Class::Accepted | Class::Refused | Class::InDoubt => None,
    }
}

/// The server took as many recipients as it takes at once; the others are next, and nothing has failed (RFC 5321 section 4.5.3.1.10).
/// Each round settles somebody, so there is an end to it.
fn is_split(verdicts: &[(usize, Verdict)]) -> bool {
    let is_too_many = |verdict: &Verdict| {
        verdict.class == Class::Later
            && (matches!(verdict.reply.enhanced(), Some("4.5.3" | "5.5.3"))
                || verdict.reply.to_string().to_ascii_lowercase().contains("too many recipients"))
    };
    let is_settled = |verdict: &Verdict| matches!(verdict.class, Class::Accepted | Class::Refused);
    verdicts.iter().any(|(_, verdict)| is_settled(verdict)) && verdicts.iter().any(|(_, verdict)| is_too_many(verdict))
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
pub(super) fn states<'a>(
    stored: &'a Stored,
    updates: &'a [RecipientUpdate],
) -> impl Iterator<Item = RecipientState> + 'a {
    stored.recipients.iter().enumerate().map(|(index, row)| {
        updates.iter().find(|update| update.index == index).map_or(row.state, |update| update.state)
    })
}

pub(super) fn settled(stored: &Stored, updates: &[RecipientUpdate]) -> usize {
    states(stored, updates).filter(|state| !state.is_pending()).count()
}

/// Nobody answered about the message: the pending recipients stay as they are, with the reason beside them.
pub(super) fn unanswered(stored: &Stored, why: &str) -> Vec<RecipientUpdate> {
    let pending = stored.recipients.iter().enumerate().filter(|(_, row)| row.state.is_tried());
    pending.map(|(index, row)| RecipientUpdate { index, state: row.state, reply: why.to_owned() }).collect()
}

/// A failure within the transaction, as what it means for every pending recipient.
pub(super) fn failed_verdicts(stored: &Stored, error: &AttemptError) -> Vec<(usize, Verdict)> {
    let reply = Reply::new(451, format!("4.4.2 xoauth2-relay: {error}"));
    let verdict = Verdict { scope: Scope::Message, class: Class::Later, throttle: None, row: None, reply };
    let pending = stored.recipients.iter().enumerate().filter(|(_, row)| row.state.is_tried());
    pending.map(|(index, _)| (index, verdict.clone())).collect()
}

/// What the journal says about what comes next, beside the next step itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then<'a> {
    /// Nothing.
    AsUsual,
    /// It was tried for `give_up_after`.
    GivenUp,
    /// A person decides: why.
    Held(&'a str),
    /// The account is held: why.
    AccountHeld(HoldCause),
    /// The account was in a mood.
    Mood,
}

/// One line that tells the whole attempt.
pub(super) fn journal_line(
    account: &Account,
    stored: &Stored,
    updates: &[RecipientUpdate],
    next: &Next,
    then: Then<'_>,
    notes: &[String],
) -> String {
    let mut line = format!("try {} through {}: ", stored.tries + 1, account.mailbox);
    for (addresses, update) in alike(stored, updates) {
        let what = match update.state {
            RecipientState::Accepted => "accepted by Exchange",
            RecipientState::Refused => "refused",
            RecipientState::InDoubt => "in doubt",
            RecipientState::Waiting | RecipientState::Held => "not yet",
        };
        let _ = write!(line, "{} {what}: {}; ", addresses.join(", "), update.reply.replace('\n', " / "));
    }
    match next {
        Next::Wait { due_at, .. } => match then {
            Then::AccountHeld(cause) => drop(write!(line, "no try lost, it waits for the account: {cause}")),
            Then::Mood => {
                let _ = write!(line, "no try lost, that was about more than this message; next try from {due_at} on");
            }
            _ => drop(write!(line, "next try at {due_at}")),
        },
        Next::Dead if then == Then::GivenUp => {
            let _ = write!(line, "given up after {} tries (give_up_after): kept as a dead letter", stored.tries + 1);
        }
        Next::Dead => line.push_str("no more tries: kept as a dead letter"),
        Next::Archive => line.push_str("done"),
        Next::Hold => line.push_str(if let Then::Held(why) = then { why } else { "held" }),
    }
    for note in notes {
        line.push_str("; ");
        line.push_str(note);
    }
    line
}

/// Whom the same is said of, in the order in which it is said first: behind the final dot Exchange answers once, for everybody.
fn alike<'a>(stored: &'a Stored, updates: &'a [RecipientUpdate]) -> Vec<(Vec<&'a str>, &'a RecipientUpdate)> {
    let mut groups: Vec<(Vec<&str>, &RecipientUpdate)> = Vec::new();
    for update in updates {
        let address = stored.recipients.get(update.index).map_or("?", |row| row.address.as_str());
        let is_like = |other: &RecipientUpdate| other.state == update.state && other.reply == update.reply;
        match groups.iter_mut().find(|(_, first)| is_like(first)) {
            Some((addresses, _)) => addresses.push(address),
            None => groups.push((vec![address], update)),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    use crate::store::samples::stored;

    fn at() -> Timestamp {
        Timestamp::from_second(1_795_000_000).unwrap()
    }

    fn queue() -> Queue {
        crate::config::testing::config(Vec::new()).queue
    }

    fn decide(
        queue: &Queue,
        stored: &Stored,
        verdicts: &[(usize, Verdict)],
        at: Timestamp,
        jitter: f64,
    ) -> (Vec<RecipientUpdate>, Next) {
        let terms = Terms { queue, in_doubt: InDoubt::Retry, obstacle: None };
        super::decide(terms, stored, verdicts, at, jitter)
    }

    fn verdict(index: usize, class: Class, code: u16, text: &str) -> (usize, Verdict) {
        (index, Verdict { scope: Scope::Recipient, class, throttle: None, row: None, reply: Reply::new(code, text) })
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
    fn the_journal_says_once_what_is_said_of_several() {
        let stored = stored(&[WAITING, WAITING, WAITING]);
        let accepted = |index| verdict(index, Class::Accepted, 250, "2.0.0 OK");
        let refused = verdict(1, Class::Refused, 550, "5.4.1 no");
        let (updates, next) = decide(&queue(), &stored, &[accepted(0), refused, accepted(2)], at(), 0.0);
        let account = crate::config::testing::account("lms@contoso.com", "lms@contoso.com");
        let line = journal_line(&account, &stored, &updates, &next, Then::AsUsual, &[]);
        let [a, b, c] = [0, 1, 2].map(|n| stored.recipients[n].address.as_str());
        assert_eq!(
            line,
            format!(
                "try 1 through lms@contoso.com: {a}, {c} accepted by Exchange: 250 2.0.0 OK; {b} refused: 550 5.4.1 no; no more tries: kept as a \
                 dead letter"
            )
        );
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
    fn a_recipient_whose_hour_is_full_is_tried_again_in_an_hour_unless_somebody_else_is_tried_sooner() {
        let full = Reply::new(550, "5.2.122 Recipient's per hour message receive limit exceeded");
        let full = |index| (index, crate::outbound::judge(crate::outbound::Step::DataEnd, &full));
        let (_, next) = decide(&queue(), &stored(&[WAITING]), &[full(0)], at(), 0.5);
        let stretched = Duration::from_mins(66);
        assert_eq!(next, Next::Wait { due_at: at() + stretched, tries: 1, tried_for: stretched });
        for (other, minutes) in [
            (verdict(1, Class::Accepted, 250, "2.0.0 OK"), 60),
            (verdict(1, Class::Refused, 550, "5.4.1 no such user"), 60),
            (verdict(1, Class::Later, 451, "4.3.0 busy"), 1),
            (verdict(1, Class::InDoubt, 451, "4.4.2 xoauth2-relay: lost"), 1),
        ] {
            let (_, next) = decide(&queue(), &stored(&[WAITING, WAITING]), &[full(0), other], at(), 0.0);
            let wait = Duration::from_mins(minutes);
            assert_eq!(next, Next::Wait { due_at: at() + wait, tries: 1, tried_for: wait });
        }
    }

    #[test]
    fn an_account_that_is_to_wait_pauses_for_so_long_and_is_not_only_slowed_down() {
        let said =
            |code, text: &str| [(0, crate::outbound::judge(crate::outbound::Step::DataEnd, &Reply::new(code, text)))];
        let met =
            |verdicts: &[(usize, Verdict)]| obstacle(verdicts, true).map(|met| (met.cause, met.is_throttle, met.wait));
        let evaluated = said(451, "4.7.500 Access denied, please try again later");
        assert_eq!(met(&evaluated), Some((None, false, Some(Duration::from_mins(30)))));
        assert_eq!(met(&said(432, "4.3.2 Concurrent connections limit exceeded")), Some((None, true, None)));
        assert_eq!(met(&said(421, "4.3.2 Service not available")), Some((None, false, None)));
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
    fn a_limit_of_100_recipients_takes_500_in_five_rounds_and_costs_nothing() {
        for too_many in ["452 4.5.3 Too many recipients", "552 Too many recipients", "550 5.5.3 too many recipients"] {
            let (code, text) = too_many.split_once(' ').unwrap();
            let code = code.parse().unwrap();
            let mut stored = stored(&[WAITING; 500]);
            let mut rounds = 0;
            loop {
                rounds += 1;
                let pending: Vec<usize> = (0..500).filter(|&n| stored.recipients[n].state.is_pending()).collect();
                let verdicts = pending.iter().enumerate().map(|(n, &index)| match n {
                    // Within a round somebody may be refused, and somebody else may have a full mailbox.
                    3 => verdict(index, Class::Refused, 550, "5.4.1 no such user"),
                    4 if rounds < 3 => verdict(index, Class::Later, 450, "4.2.2 mailbox full"),
                    0..100 => verdict(index, Class::Accepted, 250, "2.0.0 OK"),
                    _ => verdict(index, Class::Later, code, text),
                });
                let (updates, next) = decide(&queue(), &stored, &verdicts.collect::<Vec<_>>(), at(), 0.0);
                for update in updates {
                    stored.recipients[update.index].state = update.state;
                }
                match next {
                    Next::Wait { due_at, tries, tried_for } => {
                        assert_eq!((due_at, tries, tried_for), (at(), 0, Duration::ZERO), "{too_many}");
                    }
                    next => break assert_eq!(next, Next::Dead, "for those who do not exist"),
                }
            }
            assert_eq!(rounds, 6, "{too_many}");
            let refused = stored.recipients.iter().filter(|row| row.state == RecipientState::Refused).count();
            assert_eq!(refused, 5);
        }
    }

    #[test]
    fn what_is_in_doubt_is_held_for_a_person_if_the_app_says_so() {
        let stored = stored(&[WAITING, WAITING]);
        let verdicts = [
            verdict(0, Class::InDoubt, 451, "4.4.2 xoauth2-relay: lost"),
            verdict(1, Class::Refused, 550, "5.4.1 no such user"),
        ];
        let (updates, next) = decide(&queue(), &stored, &verdicts, at(), 0.0);
        assert!(matches!(next, Next::Wait { tries: 1, .. }), "as long as nobody says otherwise");
        let terms = Terms { queue: &queue(), in_doubt: InDoubt::Hold, obstacle: None };
        let held = super::decide(terms, &stored, &verdicts, at(), 0.0);
        assert_eq!(held, (updates, Next::Hold));
        assert_eq!(states_after(&held.0), [(0, RecipientState::InDoubt), (1, RecipientState::Refused)]);
        assert!(why_held(InDoubt::Hold, &verdicts).unwrap().contains("message trace"));
    }

    #[test]
    fn a_doubt_stays_a_doubt_while_nobody_takes_the_message() {
        let stored = stored(&[RecipientState::InDoubt]);
        let (updates, _) = decide(&queue(), &stored, &[verdict(0, Class::Later, 451, "4.3.0 busy")], at(), 0.0);
        assert_eq!(states_after(&updates), [(0, RecipientState::InDoubt)]);
    }

    fn about(scope: Scope, class: Class) -> (usize, Verdict) {
        (0, Verdict { scope, class, throttle: None, row: None, reply: Reply::new(554, "5.2.0 something larger") })
    }

    #[test]
    fn what_is_about_more_than_the_message_costs_it_no_try() {
        let stored = Stored { due_at: at() - Duration::from_hours(1), ..stored(&[WAITING, WAITING]) };
        let held = about(Scope::Account, Class::Held(HoldCause::Quota));
        let verdicts = [held, verdict(1, Class::Refused, 550, "5.4.1 no such user")];
        let decided = |obstacle| {
            super::decide(Terms { queue: &queue(), in_doubt: InDoubt::Hold, obstacle }, &stored, &verdicts, at(), 0.0)
        };
        let (updates, next) = decided(Some(Fault::Account));
        assert_eq!(next, Next::Wait { due_at: stored.due_at, tries: 0, tried_for: Duration::ZERO });
        assert_eq!(states_after(&updates), [(0, WAITING), (1, RecipientState::Refused)], "the other one is settled");
        let minute = Duration::from_mins(1);
        let (_, next) = decided(Some(Fault::AccountAgain));
        assert_eq!(next, Next::Wait { due_at: at() + minute, tries: 0, tried_for: Duration::ZERO });
        let (_, next) = decided(Some(Fault::Throttled));
        assert_eq!(next, Next::Wait { due_at: at() + minute / 2, tries: 0, tried_for: Duration::ZERO });
        let (_, next) = decided(Some(Fault::Message));
        assert_eq!(next, Next::Wait { due_at: at() + minute, tries: 1, tried_for: minute });
    }

    #[test]
    fn what_holds_counts_before_a_mood_and_a_connection_only_if_it_was_a_fresh_one() {
        let (quota, spam) = (Class::Held(HoldCause::Quota), Class::Held(HoldCause::Blocked));
        let cause = |verdicts: &[(usize, Verdict)], is_fresh| {
            obstacle(verdicts, is_fresh).map(|met| (met.cause, met.of_tenant))
        };
        let mood = about(Scope::Account, Class::Later);
        assert_eq!(cause(&[about(Scope::Message, Class::Later), about(Scope::Recipient, Class::Refused)], true), None);
        assert_eq!(cause(std::slice::from_ref(&mood), true), Some((None, false)));
        assert_eq!(cause(&[mood.clone(), about(Scope::Account, quota)], false), Some((Some(HoldCause::Quota), false)));
        assert_eq!(cause(&[about(Scope::Tenant, spam)], false), Some((Some(HoldCause::Blocked), true)));
        let connection = [about(Scope::Connection, Class::Held(HoldCause::Connection))];
        assert_eq!(cause(&connection, false), Some((None, false)));
        assert_eq!(cause(&connection, true), Some((Some(HoldCause::Connection), false)));
        assert_eq!(cause(&[about(Scope::Message, Class::Held(HoldCause::Blocked))], true), None);
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
