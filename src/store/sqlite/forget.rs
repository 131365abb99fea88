//! Forgetting what is old, a bounded share at a time: other changes of the same second have to get in between.

use jiff::Timestamp;
use rusqlite::{Connection, params};

use super::message;
use super::values::millis;
use crate::message::QueueId;
use crate::store::engine::{Committed, Failure};

/// Rows of one kind that one commit forgets.
const SHARE: u16 = 500;

/// From before when each kind is forgotten.
pub struct Before {
    /// Journal and archive.
    pub journal: Timestamp,
    /// Dead letters.
    pub dead: Timestamp,
    /// Uses of the pace.
    pub sent: Timestamp,
}

/// Forgets one share of each kind; says in `committed` whether there is more.
pub fn forget(sql: &Connection, before: &Before, committed: &mut Committed) -> Result<(), Failure> {
    let shares = [
        rows(
            sql,
            "DELETE FROM journal WHERE n IN (SELECT n FROM journal WHERE at < ?1 ORDER BY at LIMIT ?2)",
            before.journal,
        )?,
        rows(
            sql,
            "DELETE FROM sent WHERE rowid IN (SELECT rowid FROM sent WHERE at < ?1 ORDER BY at LIMIT ?2)",
            before.sent,
        )?,
        archived(sql, before.journal)?,
        dead(sql, before.dead, committed)?,
    ];
    committed.unfinished |= shares.iter().any(|&share| share >= usize::from(SHARE));
    Ok(())
}

fn rows(sql: &Connection, delete: &str, before: Timestamp) -> Result<usize, Failure> {
    Ok(sql.prepare_cached(delete)?.execute(params![millis(before), SHARE])?)
}

fn archived(sql: &Connection, before: Timestamp) -> Result<usize, Failure> {
    let old = ids(sql, "SELECT id FROM archive WHERE finished_at < ?1 ORDER BY finished_at LIMIT ?2", before)?;
    for id in &old {
        sql.prepare_cached("DELETE FROM archive_recipient WHERE message = ?1")?.execute([id])?;
        sql.prepare_cached("DELETE FROM archive WHERE id = ?1")?.execute([id])?;
    }
    Ok(old.len())
}

fn dead(sql: &Connection, before: Timestamp, committed: &mut Committed) -> Result<usize, Failure> {
    let old = ids(sql, "SELECT id FROM message WHERE dead_at < ?1 ORDER BY dead_at LIMIT ?2", before)?;
    for &id in &old {
        message::remove(sql, QueueId::from_number(id), committed)?;
    }
    Ok(old.len())
}

fn ids(sql: &Connection, select: &str, before: Timestamp) -> Result<Vec<i64>, Failure> {
    let mut select = sql.prepare_cached(select)?;
    let ids = select.query_map(params![millis(before), SHARE], |row| row.get(0))?;
    Ok(ids.collect::<rusqlite::Result<_>>()?)
}
