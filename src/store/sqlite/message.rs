//! Changes about messages.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::apply::line;
use super::values::{count, lane_number, millis, protocol_name, span};
use crate::message::{Address, Body, EnvelopeId, Lane, OriginalRecipient, QueueId, Recipient, Return};
use crate::store::engine::{Committed, Failure};
use crate::store::{Ending, Incoming, MessageState, Next, RecipientState, RecipientUpdate, Record};

/// A message is ours from here on.
pub fn accept(sql: &Connection, incoming: &Incoming) -> Result<(), Failure> {
    let Incoming { id, envelope, trace, account, .. } = incoming;
    if envelope.recipients.is_empty() {
        return Err(Failure::Fault(format!("message {id} has no recipients")));
    }
    sql.prepare_cached(
        "INSERT INTO message (id, received_at, app, account, mailbox, state, due_at, tries, tried_for, pending, sender,
             smtputf8, peer, helo, protocol, user, subject, size, in_file, ret, envid, lane, lane_why, outside)
         VALUES (?1, ?2, ?3, ?4, ?5, 'waiting', ?2, 0, 0, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)",
    )?
    .execute(params![
        id.number(),
        millis(incoming.received_at),
        incoming.app,
        account.key(),
        account.as_str(),
        count(envelope.recipients.len()),
        envelope.sender.as_ref().map(Address::as_str),
        envelope.smtputf8,
        trace.peer.to_string(),
        trace.helo,
        protocol_name(trace.protocol),
        trace.user,
        incoming.subject,
        count(incoming.size),
        matches!(incoming.body, Body::File(_)),
        envelope.ret.map(Return::as_str),
        envelope.envid.as_ref().map(EnvelopeId::as_str),
        lane_number(incoming.lane),
        incoming.lane_why,
        incoming.outside,
    ])?;
    if let Body::Inline(bytes) = &incoming.body {
        sql.prepare_cached("INSERT INTO body (id, bytes) VALUES (?1, ?2)")?
            .execute(params![id.number(), &bytes[..]])?;
    }
    let mut insert = sql.prepare_cached(
        "INSERT INTO recipient (message, n, address, state, notify, orcpt) VALUES (?1, ?2, ?3, 'waiting', ?4, ?5)",
    )?;
    for (n, Recipient { address, notify, orcpt }) in envelope.recipients.iter().enumerate() {
        let notify = notify.map(|notify| notify.to_string());
        let orcpt = orcpt.as_ref().map(OriginalRecipient::as_str);
        insert.execute(params![id.number(), count(n), address.as_str(), notify, orcpt])?;
    }
    Ok(())
}

/// An attempt ended.
pub fn record(sql: &Connection, record: &Record, committed: &mut Committed) -> Result<(), Failure> {
    line(sql, record.at, Some(record.id), Some(&record.account), &record.journal)?;
    if let Some(sent) = &record.sent {
        super::account::sent(sql, sent)?;
    }
    // Deleted while the attempt ran: nothing comes back to life.
    if mailbox_of(sql, record.id)?.is_none() {
        return Ok(());
    }
    for update in &record.recipients {
        update_recipient(sql, record.id, update, record.at)?;
    }
    match &record.next {
        Next::Archive if pending(sql, record.id)? == 0 => {
            archive(sql, record.id, record.at, Ending::Finished, Some(&record.account), committed)
        }
        Next::Archive => {
            let why = "held: it was said to be finished while recipients are still pending";
            line(sql, record.at, Some(record.id), Some(&record.account), why)?;
            set_state(sql, record.id, MessageState::Held, record.at)
        }
        Next::Wait { due_at, tries, tried_for } => {
            sql.prepare_cached("UPDATE message SET due_at = ?2, tries = ?3, tried_for = ?4 WHERE id = ?1")?
                .execute(params![record.id.number(), millis(*due_at), tries, span(*tried_for)])?;
            // Attempts are made at what waits: if it does not wait any more, a person has held it or given it up meanwhile.
            match state_of(sql, record.id)? {
                Some(MessageState::Waiting) => set_state(sql, record.id, MessageState::Waiting, record.at),
                _ => recount(sql, record.id),
            }
        }
        Next::Dead => set_state(sql, record.id, MessageState::Dead, record.at),
        Next::Hold => set_state(sql, record.id, MessageState::Held, record.at),
    }
}

/// Due now, with the tries forgotten.
pub fn retry(sql: &Connection, id: QueueId, at: Timestamp) -> Result<(), Failure> {
    let changed = sql
        .prepare_cached("UPDATE message SET due_at = ?2, tries = 0, tried_for = 0 WHERE id = ?1")?
        .execute(params![id.number(), millis(at)])?;
    if changed == 0 {
        return Ok(());
    }
    sql.prepare_cached(
        "UPDATE recipient SET state = 'waiting', tell_at = NULL WHERE message = ?1 AND state <> 'accepted'",
    )?
    .execute([id.number()])?;
    set_state(sql, id, MessageState::Waiting, at)?;
    line(sql, at, Some(id), None, "due now: an administrator asked for a retry")
}

/// What waits for its time need not wait any longer.
pub fn wake(sql: &Connection, account: &Address, at: Timestamp) -> Result<(), Failure> {
    sql.prepare_cached("UPDATE message SET due_at = ?2 WHERE account = ?1 AND state = 'waiting' AND due_at > ?2")?
        .execute(params![account.key(), millis(at)])?;
    Ok(())
}

/// Thrown away; the archive tells who had it by then.
pub fn delete(sql: &Connection, id: QueueId, at: Timestamp, committed: &mut Committed) -> Result<(), Failure> {
    if mailbox_of(sql, id)?.is_none() {
        return Ok(());
    }
    archive(sql, id, at, Ending::Deleted, None, committed)?;
    line(sql, at, Some(id), None, "deleted by an administrator")
}

/// To the queue of another account.
pub fn transfer(sql: &Connection, id: QueueId, account: &Address, at: Timestamp) -> Result<(), Failure> {
    let Some(before) = mailbox_of(sql, id)? else { return Ok(()) };
    sql.prepare_cached("UPDATE message SET account = ?2, mailbox = ?3 WHERE id = ?1")?.execute(params![
        id.number(),
        account.key(),
        account.as_str()
    ])?;
    line(sql, at, Some(id), Some(account), &format!("moved from {before} to {account}"))
}

/// To another lane.
pub fn lane(sql: &Connection, id: QueueId, lane: Lane, why: &str, at: Timestamp) -> Result<(), Failure> {
    let changed = sql.prepare_cached("UPDATE message SET lane = ?2, lane_why = ?3 WHERE id = ?1")?.execute(params![
        id.number(),
        lane_number(lane),
        why
    ])?;
    if changed == 0 {
        return Ok(());
    }
    line(sql, at, Some(id), None, &format!("lane {lane}: {why}"))
}

/// Whether a budget counts it. No news to anybody: it says nothing of what became of the message.
pub fn outside(sql: &Connection, id: QueueId, outside: bool) -> Result<(), Failure> {
    sql.prepare_cached("UPDATE message SET outside = ?2 WHERE id = ?1")?.execute(params![id.number(), outside])?;
    Ok(())
}

/// Takes a message with its body and recipients out of the queue, leaving nothing behind.
pub fn remove(sql: &Connection, id: QueueId, committed: &mut Committed) -> Result<(), Failure> {
    let in_file: bool = sql
        .prepare_cached("DELETE FROM message WHERE id = ?1 RETURNING in_file")?
        .query_row([id.number()], |row| row.get(0))?;
    if in_file {
        committed.files.push(id);
    } else {
        sql.prepare_cached("DELETE FROM body WHERE id = ?1")?.execute([id.number()])?;
    }
    sql.prepare_cached("DELETE FROM recipient WHERE message = ?1")?.execute([id.number()])?;
    Ok(())
}

fn archive(
    sql: &Connection,
    id: QueueId,
    at: Timestamp,
    ending: Ending,
    carrier: Option<&Address>,
    committed: &mut Committed,
) -> Result<(), Failure> {
    // Ids are for ever, but a copied-back database must not make a finished message unfinishable: the newer ending counts.
    sql.prepare_cached(
        "INSERT OR REPLACE INTO archive (id, received_at, finished_at, ending, app, account, mailbox, sender, subject, size,
             lane, lane_why)
         SELECT id, received_at, ?2, ?3, app, coalesce(?4, account), coalesce(?5, mailbox), sender, subject, size, lane, lane_why
         FROM message WHERE id = ?1",
    )?
    .execute(params![
        id.number(),
        millis(at),
        ending.as_str(),
        carrier.map(Address::key),
        carrier.map(Address::as_str)
    ])?;
    sql.prepare_cached(
        "INSERT OR REPLACE INTO archive_recipient (message, n, address, state, reply)
         SELECT message, n, address, state, reply FROM recipient WHERE message = ?1",
    )?
    .execute([id.number()])?;
    remove(sql, id, committed)
}

/// The account a message waits for, as it was written; `None` if there is no such message.
pub(super) fn mailbox_of(sql: &Connection, id: QueueId) -> Result<Option<String>, Failure> {
    let mut select = sql.prepare_cached("SELECT mailbox FROM message WHERE id = ?1")?;
    Ok(select.query_row([id.number()], |row| row.get(0)).optional()?)
}

/// An accepted recipient has the mail: whatever is said of it later, it is not sent to again. One that is refused from now on is to be told of.
fn update_recipient(sql: &Connection, id: QueueId, update: &RecipientUpdate, at: Timestamp) -> Result<(), Failure> {
    let RecipientUpdate { index, state, reply } = update;
    sql.prepare_cached(
        "UPDATE recipient SET state = ?3, reply = ?4,
             tell_at = CASE WHEN ?3 <> 'refused' THEN NULL WHEN state = 'refused' THEN tell_at ELSE ?5 END
         WHERE message = ?1 AND n = ?2 AND state <> 'accepted'",
    )?
    .execute(params![id.number(), count(*index), state.as_str(), reply, millis(at)])?;
    Ok(())
}

fn pending(sql: &Connection, id: QueueId) -> Result<i64, Failure> {
    let mut select =
        sql.prepare_cached("SELECT count(*) FROM recipient WHERE message = ?1 AND state NOT IN (?2, ?3)")?;
    let settled = [RecipientState::Refused, RecipientState::Accepted].map(RecipientState::as_str);
    debug_assert!(!RecipientState::Refused.is_pending() && !RecipientState::Accepted.is_pending());
    Ok(select.query_row(params![id.number(), settled[0], settled[1]], |row| row.get(0))?)
}

/// Where a message stands; `None` if there is no such message.
pub(super) fn state_of(sql: &Connection, id: QueueId) -> Result<Option<MessageState>, Failure> {
    let mut select = sql.prepare_cached("SELECT state FROM message WHERE id = ?1")?;
    let name: Option<String> = select.query_row([id.number()], |row| row.get(0)).optional()?;
    Ok(name.and_then(|name| MessageState::parse(&name)))
}

/// The recipients have changed, the state has not.
pub(super) fn recount(sql: &Connection, id: QueueId) -> Result<(), Failure> {
    sql.prepare_cached("UPDATE message SET pending = ?2 WHERE id = ?1")?
        .execute(params![id.number(), pending(sql, id)?])?;
    Ok(())
}

/// Sets the state and what follows from it and from the recipients.
pub(super) fn set_state(sql: &Connection, id: QueueId, state: MessageState, at: Timestamp) -> Result<(), Failure> {
    let dead_at = (state == MessageState::Dead).then(|| millis(at));
    sql.prepare_cached("UPDATE message SET state = ?2, dead_at = ?3, pending = ?4, by_order = 0 WHERE id = ?1")?
        .execute(params![id.number(), state.as_str(), dead_at, pending(sql, id)?])?;
    Ok(())
}
