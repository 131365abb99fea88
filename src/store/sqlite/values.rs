//! Our types as SQLite's values, both ways.

use std::time::Duration;

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Error, Result, Row};

use crate::message::{Address, Lane, Notify, OriginalRecipient, Protocol, QueueId, Recipient};
use crate::store::{JournalEntry, RecipientRow, RecipientState};

/// A time as the database keeps it.
pub fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// A span as the database keeps it; one that is too long to be true becomes the longest.
pub fn span(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// A number of something as the database keeps it.
pub fn count(n: impl TryInto<i64>) -> i64 {
    n.try_into().unwrap_or(i64::MAX)
}

/// A lane as the database keeps it: the more urgent, the smaller.
pub fn lane_number(lane: Lane) -> i64 {
    match lane {
        Lane::Urgent => 0,
        Lane::Normal => 1,
        Lane::Bulk => 2,
    }
}

/// The lane in a row.
pub fn lane(row: &Row<'_>) -> Result<Lane> {
    let number: i64 = row.get("lane")?;
    Lane::ALL.into_iter().find(|&lane| lane_number(lane) == number).ok_or(Error::IntegralValueOutOfRange(0, number))
}

/// The time in a column.
pub fn time(row: &Row<'_>, column: &str) -> Result<Timestamp> {
    timestamp(row.get(column)?)
}

/// A time from what the database keeps.
pub fn timestamp(millis: i64) -> Result<Timestamp> {
    Timestamp::from_millisecond(millis).map_err(odd)
}

/// The time in a column that may be empty.
pub fn maybe_time(row: &Row<'_>, column: &str) -> Result<Option<Timestamp>> {
    row.get::<_, Option<i64>>(column)?.map(timestamp).transpose()
}

/// The span in a column.
pub fn duration(row: &Row<'_>, column: &str) -> Result<Duration> {
    Ok(Duration::from_millis(unsigned(row, column)?))
}

/// The span in a column that may be empty.
pub fn maybe_duration(row: &Row<'_>, column: &str) -> Result<Option<Duration>> {
    let millis = row.get::<_, Option<i64>>(column)?;
    millis.map(|millis| u64::try_from(millis).map(Duration::from_millis).map_err(odd)).transpose()
}

/// The number in a column of which there cannot be less than none.
pub fn unsigned(row: &Row<'_>, column: &str) -> Result<u64> {
    u64::try_from(row.get::<_, i64>(column)?).map_err(odd)
}

/// The address in a column.
pub fn address(row: &Row<'_>, column: &str) -> Result<Address> {
    Address::parse(&row.get::<_, String>(column)?).map_err(odd)
}

/// The address in a column that may be empty.
pub fn maybe_address(row: &Row<'_>, column: &str) -> Result<Option<Address>> {
    row.get::<_, Option<String>>(column)?.map(|text| Address::parse(&text).map_err(odd)).transpose()
}

/// The text in a column, read by `parse`.
pub fn named<T>(row: &Row<'_>, column: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T> {
    let text: String = row.get(column)?;
    parse(&text).ok_or_else(|| odd(Odd(format!("{column} is {text:?}"))))
}

/// The text in a column that may be empty, read by `parse`.
pub fn maybe_named<T>(row: &Row<'_>, column: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>> {
    let Some(text) = row.get::<_, Option<String>>(column)? else { return Ok(None) };
    parse(&text).map(Some).ok_or_else(|| odd(Odd(format!("{column} is {text:?}"))))
}

/// A recipient as it was said, from the same row as [`recipient`].
pub fn envelope_recipient(row: &Row<'_>) -> Result<Recipient> {
    Ok(Recipient {
        address: address(row, "address")?,
        notify: maybe_named(row, "notify", Notify::parse)?,
        orcpt: maybe_named(row, "orcpt", OriginalRecipient::parse)?,
    })
}

/// One recipient's row.
pub fn recipient(row: &Row<'_>) -> Result<RecipientRow> {
    Ok(RecipientRow {
        address: address(row, "address")?,
        state: named(row, "state", RecipientState::parse)?,
        reply: row.get("reply")?,
    })
}

/// One line of the journal.
pub fn journal_entry(row: &Row<'_>) -> Result<JournalEntry> {
    Ok(JournalEntry {
        at: time(row, "at")?,
        message: row.get::<_, Option<i64>>("message")?.map(QueueId::from_number),
        account: maybe_address(row, "mailbox")?,
        text: row.get("text")?,
    })
}

/// `[e]smtp[s][a]`: like the names of RFC 3848, but AUTH after HELO has one too.
pub fn protocol_name(protocol: Protocol) -> String {
    let part = |given, letter| if given { letter } else { "" };
    let Protocol { extended, tls, authenticated } = protocol;
    format!("{}smtp{}{}", part(extended, "e"), part(tls, "s"), part(authenticated, "a"))
}

/// Reads [`protocol_name`].
pub fn protocol(name: &str) -> Option<Protocol> {
    let (before, behind) = name.split_once("smtp")?;
    Some(Protocol { extended: before == "e", tls: behind.contains('s'), authenticated: behind.contains('a') })
}

/// What stands in the database cannot be: somebody else wrote it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Odd(String);

/// An error about a value that cannot be.
pub fn odd(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::FromSqlConversionFailure(0, Type::Text, Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_protocol_is_read_back() {
        for bits in 0..8u8 {
            let given = Protocol { extended: bits & 1 > 0, tls: bits & 2 > 0, authenticated: bits & 4 > 0 };
            assert_eq!(protocol(&protocol_name(given)), Some(given));
        }
    }
}
