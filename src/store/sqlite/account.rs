//! Changes about accounts and about the relay itself.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, params};

use super::apply::line;
use super::values::{millis, span};
use crate::message::Address;
use crate::store::engine::Failure;
use crate::store::{Fact, Hold, SealedSignIn, Sent};

/// Stops an account. Journalled when it is new or has another cause: a probe that fails again is no news.
pub fn hold(sql: &Connection, hold: &Hold) -> Result<(), Failure> {
    let key = hold.account.key();
    let before: Option<String> = sql
        .prepare_cached("SELECT cause FROM hold WHERE account = ?1")?
        .query_row([&key], |row| row.get(0))
        .optional()?;
    let codes: Vec<String> = hold.codes.iter().map(u32::to_string).collect();
    sql.prepare_cached(
        "INSERT OR REPLACE INTO hold (account, mailbox, cause, reply, error, codes, since, probe_at, probes)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .execute(params![
        key,
        hold.account.as_str(),
        hold.cause.as_str(),
        hold.reply,
        hold.error,
        codes.join(" "),
        millis(hold.since),
        hold.probe_at.map(millis),
        hold.probes
    ])?;
    if before.as_deref() == Some(hold.cause.as_str()) {
        return Ok(());
    }
    let text = match hold.reply.as_ref().or(hold.error.as_ref()) {
        Some(said) => format!("held, {}: {said}", hold.cause),
        None => format!("held, {}", hold.cause),
    };
    line(sql, hold.since, None, Some(&hold.account), &text)
}

/// Frees an account, if it was held.
pub fn release(sql: &Connection, account: &Address, at: Timestamp, why: &str) -> Result<(), Failure> {
    match sql.prepare_cached("DELETE FROM hold WHERE account = ?1")?.execute([account.key()])? {
        0 => Ok(()),
        _ => line(sql, at, None, Some(account), &format!("released: {why}")),
    }
}

/// The account's sign-in from now on.
pub fn sign_in(sql: &Connection, sign_in: &SealedSignIn) -> Result<(), Failure> {
    let access = sign_in.access.as_ref();
    sql.prepare_cached(
        "INSERT OR REPLACE INTO sign_in (account, mailbox, current, previous, signed_in_as, since, refreshed_at,
             refresh_life, access, access_at, access_life)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
    )?
    .execute(params![
        sign_in.account.key(),
        sign_in.account.as_str(),
        sign_in.current,
        sign_in.previous,
        sign_in.signed_in_as,
        millis(sign_in.since),
        millis(sign_in.refreshed_at),
        sign_in.refresh_life.map(span),
        access.map(|access| &access.token),
        access.map(|access| millis(access.received_at)),
        access.map(|access| span(access.life))
    ])?;
    Ok(())
}

/// A use of the pace.
pub fn sent(sql: &Connection, sent: &Sent) -> Result<(), Failure> {
    sql.prepare_cached("INSERT INTO sent (login, at, recipients, outside) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![sent.login.key(), millis(sent.at), sent.recipients, sent.outside])?;
    Ok(())
}

/// Something was learnt, or is no longer so.
pub fn learn(sql: &Connection, fact: &Fact) -> Result<(), Failure> {
    let key = fact.account.as_ref().map(Address::key).unwrap_or_default();
    let Some(value) = &fact.value else {
        sql.prepare_cached("DELETE FROM fact WHERE account = ?1 AND name = ?2")?.execute([&key, &fact.name])?;
        return Ok(());
    };
    sql.prepare_cached("INSERT OR REPLACE INTO fact (account, mailbox, name, value, at) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![key, fact.account.as_ref().map(Address::as_str), fact.name, value, millis(fact.at)])?;
    Ok(())
}

/// The relay runs, or has stopped in order.
pub fn running(sql: &Connection, running: bool) -> Result<(), Failure> {
    sql.prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES ('running', ?1)")?.execute([running])?;
    Ok(())
}
