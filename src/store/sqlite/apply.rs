//! Each change as SQL.

use rusqlite::{Connection, params};

use super::{account, forget, message, order, tell, values};
use crate::message::{Address, QueueId};
use crate::store::engine::{Committed, Failure};
use crate::store::{Change, JournalEntry, Resealed};

/// Writes one change into the open transaction.
pub fn apply(sql: &Connection, change: &Change, committed: &mut Committed) -> Result<(), Failure> {
    match change {
        Change::Accept(incoming) => message::accept(sql, incoming),
        Change::Record(record) => message::record(sql, record, committed),
        Change::Retry { ids, at } => ids.iter().try_for_each(|&id| message::retry(sql, id, *at)),
        Change::Delete { ids, at } => ids.iter().try_for_each(|&id| message::delete(sql, id, *at, committed)),
        Change::Move { ids, account, at } => ids.iter().try_for_each(|&id| message::transfer(sql, id, account, *at)),
        Change::Lane { ids, lane, why, at } => ids.iter().try_for_each(|&id| message::lane(sql, id, *lane, why, *at)),
        Change::Outside { ids, outside } => ids.iter().try_for_each(|&id| message::outside(sql, id, *outside)),
        Change::HoldMessages { ids, at } => ids.iter().try_for_each(|&id| order::hold(sql, id, *at)),
        Change::ReleaseMessages { ids, at } => ids.iter().try_for_each(|&id| order::release(sql, id, *at)),
        Change::GiveUp { ids, at, why } => ids.iter().try_for_each(|&id| order::give_up(sql, id, *at, why)),
        Change::Readdress { id, from, to, at } => order::readdress(sql, *id, from, to, *at),
        Change::Hold(hold) => account::hold(sql, hold),
        Change::Release { account, at, why } => account::release(sql, account, *at, why),
        Change::SignIn(sign_in) => account::sign_in(sql, sign_in),
        Change::Reseal(resealed) => reseal(sql, resealed),
        Change::Wake { account, at } => message::wake(sql, account, *at),
        Change::Tell(tell) => tell::tell(sql, tell),
        Change::Note(entry) => note(sql, entry),
        Change::Learn(fact) => account::learn(sql, fact),
        Change::Forget { journal_before, dead_before, sent_before } => {
            let before = forget::Before { journal: *journal_before, dead: *dead_before, sent: *sent_before };
            forget::forget(sql, &before, committed)
        }
        Change::Running(running) => account::running(sql, *running),
    }
}

fn reseal(sql: &Connection, resealed: &Resealed) -> Result<(), Failure> {
    let exists = "SELECT EXISTS (SELECT 1 FROM sign_in WHERE account = ?1)";
    for sign_in in &resealed.sign_ins {
        if sql.prepare_cached(exists)?.query_row([sign_in.account.key()], |row| row.get(0))? {
            account::sign_in(sql, sign_in)?;
        }
    }
    account::learn(sql, &resealed.key)?;
    note(sql, &resealed.entry)
}

/// One line for the journal.
pub fn note(sql: &Connection, entry: &JournalEntry) -> Result<(), Failure> {
    line(sql, entry.at, entry.message, entry.account.as_ref(), &entry.text)
}

/// The same, from its parts.
pub fn line(
    sql: &Connection,
    at: jiff::Timestamp,
    message: Option<QueueId>,
    account: Option<&Address>,
    text: &str,
) -> Result<(), Failure> {
    sql.prepare_cached("INSERT INTO journal (at, message, mailbox, account, text) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![
            values::millis(at),
            message.map(QueueId::number),
            account.map(Address::as_str),
            account.map(Address::key),
            text
        ])?;
    Ok(())
}
