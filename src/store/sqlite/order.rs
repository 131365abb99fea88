//! What a person orders about messages that are in the queue.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::apply::line;
use super::message::{recount, set_state, state_of};
use super::values::millis;
use crate::message::{Address, OriginalRecipient, QueueId};
use crate::store::engine::Failure;
use crate::store::{MessageState, RecipientState};

/// Nothing sends it until a person decides.
pub fn hold(sql: &Connection, id: QueueId, at: Timestamp) -> Result<(), Failure> {
    if state_of(sql, id)? != Some(MessageState::Waiting) {
        return Ok(());
    }
    set_state(sql, id, MessageState::Held, at)?;
    sql.prepare_cached("UPDATE message SET by_order = 1 WHERE id = ?1")?.execute([id.number()])?;
    line(sql, at, Some(id), None, "held by an administrator")
}

/// Waits again, due now.
pub fn release(sql: &Connection, id: QueueId, at: Timestamp) -> Result<(), Failure> {
    if state_of(sql, id)? != Some(MessageState::Held) {
        return Ok(());
    }
    due_now(sql, id, at)?;
    sql.prepare_cached("UPDATE recipient SET state = 'waiting' WHERE message = ?1 AND state = 'held'")?
        .execute([id.number()])?;
    set_state(sql, id, MessageState::Waiting, at)?;
    line(sql, at, Some(id), None, "released by an administrator: due now")
}

/// A dead letter from now on, with its recipients as they are.
pub fn give_up(sql: &Connection, id: QueueId, at: Timestamp, why: &str) -> Result<(), Failure> {
    if state_of(sql, id)? != Some(MessageState::Waiting) {
        return Ok(());
    }
    set_state(sql, id, MessageState::Dead, at)?;
    line(sql, at, Some(id), None, why)
}

/// To another address instead of one that does not have it yet.
pub fn readdress(sql: &Connection, id: QueueId, from: &Address, to: &Address, at: Timestamp) -> Result<(), Failure> {
    let Some(state) = state_of(sql, id)? else { return Ok(()) };
    let open = open_recipients(sql, id, from)?;
    if open.is_empty() {
        return Ok(());
    }
    let original = OriginalRecipient::of(from);
    for (n, stood, reply) in open {
        sql.prepare_cached(
            "UPDATE recipient SET address = ?3, state = 'waiting', reply = NULL, tell_at = NULL, orcpt = coalesce(orcpt, ?4)
             WHERE message = ?1 AND n = ?2",
        )?
        .execute(params![id.number(), n, to.as_str(), original.as_ref().map(OriginalRecipient::as_str)])?;
        let said = reply.map(|reply| format!(": {reply}")).unwrap_or_default();
        let text = format!("readdressed by an administrator from {from} to {to}; {from} was {}{said}", stood.as_str());
        line(sql, at, Some(id), None, &text)?;
    }
    sql.prepare_cached("UPDATE message SET tries = 0, tried_for = 0, smtputf8 = smtputf8 OR ?2 WHERE id = ?1")?
        .execute(params![id.number(), !to.is_ascii()])?;
    if state == MessageState::Held {
        return recount(sql, id);
    }
    due_now(sql, id, at)?;
    set_state(sql, id, MessageState::Waiting, at)
}

/// The recipients of this address that do not have the message: place, state, last reply.
fn open_recipients(
    sql: &Connection,
    id: QueueId,
    address: &Address,
) -> Result<Vec<(i64, RecipientState, Option<String>)>, Failure> {
    let mut select = sql.prepare_cached("SELECT n, address, state, reply FROM recipient WHERE message = ?1")?;
    let mut rows = select.query([id.number()])?;
    let mut open = Vec::new();
    while let Some(row) = rows.next()? {
        let (text, state): (String, String) = (row.get(1)?, row.get(2)?);
        let is_meant = Address::parse(&text).is_ok_and(|found| found == *address);
        match RecipientState::parse(&state) {
            Some(state) if is_meant && state != RecipientState::Accepted => {
                open.push((row.get(0)?, state, row.get(3)?));
            }
            _ => {}
        }
    }
    Ok(open)
}

fn due_now(sql: &Connection, id: QueueId, at: Timestamp) -> Result<(), Failure> {
    sql.prepare_cached("UPDATE message SET due_at = ?2 WHERE id = ?1")?.execute(params![id.number(), millis(at)])?;
    Ok(())
}
