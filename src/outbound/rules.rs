//! What the app of a message has to say before any of it is said to Exchange: whom it may go to, and whether it may leave in this name.
//!
//! Asked at every attempt, of the configuration in force: so a copy of a program whose rules were changed sends nothing by the old ones.

use jiff::Timestamp;

use super::content::beginning;
use super::sender::record;
use super::settlement::state_after;
use super::{Sender, Verdict};
use crate::config::{Account, App};
use crate::message::{Body, Permitted, QueueId, SenderPolicy, foreign_sender};
use crate::store::{Next, RecipientRow, RecipientState, RecipientUpdate, Stored};

/// How the reason of a recipient that is held by the list begins. One that is held for another reason is not ours to free.
const BY_LIST: &str = "xoauth2-relay: held by recipients_allow";

impl Sender {
    /// The message with those of its recipients held that it may not go to; `None` if nothing of it may leave. What is held is written down
    /// before anything is tried.
    pub(super) async fn ruled(
        &self,
        app: Option<&App>,
        account: &Account,
        stored: Stored,
        body: &Body,
    ) -> Option<Stored> {
        let Some(app) = app else { return Some(stored) };
        let at = self.clock.now();
        if let Some(words) = self.refused_sender(app, account, &stored, body).await {
            tracing::warn!(id = %stored.id, "held: {words}");
            let pending = stored.recipients.iter().enumerate().filter(|(_, row)| row.state.is_tried());
            let updates = pending
                .map(|(index, row)| RecipientUpdate {
                    index,
                    state: row.state,
                    reply: format!("xoauth2-relay: {words}"),
                })
                .collect();
            let record = record(account, &stored, at, updates, Next::Hold, None, format!("held: {words}"));
            self.write(record, &stored).await;
            return None;
        }
        let (stored, held) = kept_back(app, stored);
        let goes_on = stored.recipients.iter().any(|row| row.state.is_tried());
        if !held.is_empty() || !goes_on {
            let next = if goes_on {
                Next::Wait { due_at: stored.due_at, tries: stored.tries, tried_for: stored.tried_for }
            } else {
                Next::Hold
            };
            let journal = format!("held by recipients_allow of the app {}: {}", app.name, listed(&stored, &held));
            self.write(record(account, &stored, at, held, next, None, journal), &stored).await;
        }
        goes_on.then_some(stored)
    }

    /// Why the message may not leave through this account; `None` if it may.
    async fn refused_sender(&self, app: &App, account: &Account, stored: &Stored, body: &Body) -> Option<String> {
        if app.sender != SenderPolicy::Refuse {
            return None;
        }
        // A body that cannot be read is the attempt's to tell of.
        let start = beginning(body, stored.size).await.ok()?;
        let permitted = Permitted { mailbox: &account.mailbox, send_as: &account.send_as };
        let foreign = foreign_sender(&start, &stored.envelope, permitted)?;
        let (app, mailbox, id) = (&app.name, &account.mailbox, stored.id);
        Some(format!(
            "{mailbox} may not send as {foreign}, and the app {app} has sender = \"refuse\": grant Send As and add it to send_as, or set \
             sender = \"rewrite\"; then xoauth2-relay queue retry {id}"
        ))
    }
}

/// Holds whom the app's mail may not go to, and lets go again whom it may by now. What is new is to be written.
fn kept_back(app: &App, mut stored: Stored) -> (Stored, Vec<RecipientUpdate>) {
    let mut held = Vec::new();
    for (index, row) in stored.recipients.iter_mut().enumerate() {
        let may_go = app.divert_to.is_some() || app.may_send_to(&row.address);
        if may_go && is_held_by_list(row) {
            row.state = RecipientState::Waiting;
        } else if !may_go && row.state.is_tried() {
            let reply = reason(app, stored.id);
            (row.state, row.reply) = (RecipientState::Held, Some(reply.clone()));
            held.push(RecipientUpdate { index, state: RecipientState::Held, reply });
        }
    }
    (stored, held)
}

fn is_held_by_list(row: &RecipientRow) -> bool {
    row.state == RecipientState::Held && row.reply.as_deref().is_some_and(|reply| reply.starts_with(BY_LIST))
}

fn reason(app: &App, id: QueueId) -> String {
    format!(
        "{BY_LIST} of the app {}, which does not name this address: change the list, then xoauth2-relay queue retry {id}; or \
         xoauth2-relay queue delete {id}",
        app.name
    )
}

fn listed(stored: &Stored, held: &[RecipientUpdate]) -> String {
    let rows = held.iter().filter_map(|update| stored.recipients.get(update.index));
    rows.map(|row| row.address.as_str()).collect::<Vec<_>>().join(", ")
}

/// A message of which only held recipients are left waits for a person, whatever became of the others.
pub(super) fn held_if_only_held_are_left(next: Next, stored: &Stored, updates: &[RecipientUpdate]) -> Next {
    let state = |(index, row): (usize, &RecipientRow)| {
        updates.iter().find(|update| update.index == index).map_or(row.state, |update| update.state)
    };
    let (mut held, mut tried) = (false, false);
    for state in stored.recipients.iter().enumerate().map(state) {
        held |= state == RecipientState::Held;
        tried |= state.is_tried();
    }
    if held && !tried { Next::Hold } else { next }
}

/// The same message once more, because its sender was in the way or it goes out in parts: what Exchange said of its recipients counts, the try
/// does not.
pub(super) fn once_more(
    stored: &Stored,
    verdicts: &[(usize, Verdict)],
    due_at: Timestamp,
) -> (Vec<RecipientUpdate>, Next) {
    let update = |(index, verdict): &(usize, Verdict)| RecipientUpdate {
        index: *index,
        state: state_after(stored.recipients.get(*index).map(|row| row.state), verdict.class),
        reply: verdict.reply.to_string(),
    };
    let updates = verdicts.iter().map(update).collect();
    (updates, Next::Wait { due_at, tries: stored.tries, tried_for: stored.tried_for })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing;
    use crate::store::samples::stored;

    const WAITING: RecipientState = RecipientState::Waiting;
    const HELD: RecipientState = RecipientState::Held;

    fn app(rules: &str) -> App {
        App::clone(&testing::config_with(&format!("[[app]]\nname = 'staging'\n{rules}")).apps[0])
    }

    fn states(stored: &Stored) -> Vec<RecipientState> {
        stored.recipients.iter().map(|row| row.state).collect()
    }

    #[test]
    fn whom_the_list_does_not_name_is_held_and_let_go_when_it_does() {
        let before = stored(&[WAITING, WAITING, RecipientState::Accepted, RecipientState::InDoubt]);
        let (after, held) = kept_back(&app("recipients_allow = ['user0@example.com']"), before);
        assert_eq!(states(&after), [WAITING, HELD, RecipientState::Accepted, HELD]);
        assert_eq!(held.iter().map(|update| update.index).collect::<Vec<_>>(), [1, 3]);
        assert!(
            held[0].reply.contains("the app staging") && held[0].reply.contains("queue retry"),
            "{}",
            held[0].reply
        );

        let (again, held) = kept_back(&app("recipients_allow = ['user0@example.com']"), after.clone());
        assert_eq!((states(&again), held.len()), (states(&after), 0), "nothing new is to be written");
        for freed in ["", "recipients_allow = ['*@example.com']", "divert_to = 'dev@contoso.com'"] {
            let (after, held) = kept_back(&app(freed), after.clone());
            assert_eq!((states(&after), held.len()), (vec![WAITING, WAITING, RecipientState::Accepted, WAITING], 0));
        }
    }

    #[test]
    fn who_is_in_doubt_stays_so_when_the_sender_is_in_the_way() {
        let reply = crate::smtp::Reply::new(554, "5.2.252 SendAsDenied");
        let (scope, class) = (crate::outbound::Scope::Message, crate::outbound::Class::Later);
        let verdict = Verdict { scope, class, throttle: None, row: None, reply };
        let stored = stored(&[RecipientState::InDoubt, WAITING]);
        let (updates, _) = once_more(&stored, &[(0, verdict.clone()), (1, verdict)], Timestamp::UNIX_EPOCH);
        let states: Vec<_> = updates.iter().map(|update| update.state).collect();
        assert_eq!(states, [RecipientState::InDoubt, WAITING]);
    }

    #[test]
    fn who_is_held_for_another_reason_stays_so() {
        let (after, held) = kept_back(&app(""), stored(&[HELD, WAITING]));
        assert_eq!((states(&after), held.len()), (vec![HELD, WAITING], 0));
    }

    #[test]
    fn a_message_of_which_only_held_recipients_are_left_is_held() {
        let at = Timestamp::UNIX_EPOCH;
        let wait = Next::Wait { due_at: at, tries: 4, tried_for: std::time::Duration::ZERO };
        let update = |index, state| RecipientUpdate { index, state, reply: String::new() };
        for (states, updated, expected) in [
            (&[WAITING, HELD][..], RecipientState::Accepted, Next::Hold),
            (&[WAITING, HELD], RecipientState::Refused, Next::Hold),
            (&[WAITING, HELD], WAITING, wait.clone()),
            (&[WAITING, WAITING], RecipientState::Accepted, wait.clone()),
        ] {
            let next = held_if_only_held_are_left(wait.clone(), &stored(states), &[update(0, updated)]);
            assert_eq!(next, expected, "{states:?} {updated:?}");
        }
        let both = [update(0, RecipientState::Accepted), update(1, RecipientState::Accepted)];
        assert_eq!(held_if_only_held_are_left(Next::Archive, &stored(&[WAITING, WAITING]), &both), Next::Archive);
    }
}
