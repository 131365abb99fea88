//! Who was told of what: marks on recipients and messages, together with the mail that tells.

use rusqlite::{Connection, params};

use super::values::{count, millis};
use super::{account, apply, message};
use crate::store::engine::Failure;
use crate::store::{Tell, Telling};

/// `tell_at` of a recipient of whose refusal nobody can be told. No time is as late, so that it is never due.
pub const NOBODY: i64 = i64::MAX;

/// All of it, or nothing if there is nothing left to be settled by it.
pub fn tell(sql: &Connection, tell: &Tell) -> Result<(), Failure> {
    let marked = refusals(sql, tell)? + warned(sql, tell)?;
    if marked == 0 && !(tell.refusals.is_empty() && tell.warned.is_empty()) {
        return Ok(());
    }
    if let Some(mail) = &tell.mail {
        message::accept(sql, mail)?;
    }
    tell.entries.iter().try_for_each(|entry| apply::note(sql, entry))?;
    tell.facts.iter().try_for_each(|fact| account::learn(sql, fact))
}

fn refusals(sql: &Connection, tell: &Tell) -> Result<usize, Failure> {
    let mut mark = sql.prepare_cached(
        "UPDATE recipient SET tell_at = ?3 WHERE message = ?1 AND n = ?2 AND state = 'refused' AND tell_at IS NOT NULL",
    )?;
    let mut marked = 0;
    for refusal in &tell.refusals {
        let tell_at = match refusal.telling {
            Telling::Done => None,
            Telling::At(at) => Some(millis(at)),
            Telling::Nobody => Some(NOBODY),
        };
        marked += mark.execute(params![refusal.message.number(), count(refusal.index), tell_at])?;
    }
    Ok(marked)
}

fn warned(sql: &Connection, tell: &Tell) -> Result<usize, Failure> {
    let mut mark = sql.prepare_cached(
        "UPDATE message SET warned_at = ?2 WHERE id = ?1 AND state = 'waiting' AND warned_at IS NULL",
    )?;
    let mut marked = 0;
    for id in &tell.warned {
        marked += mark.execute(params![id.number(), millis(tell.at)])?;
    }
    Ok(marked)
}
