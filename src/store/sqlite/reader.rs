//! The reading connections.

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use super::tell::NOBODY;
use super::values::{
    address, duration, envelope_recipient, journal_entry, lane, lane_number, maybe_address, maybe_duration,
    maybe_named, maybe_time, millis, named, odd, protocol, recipient, time, timestamp, unsigned,
};
use super::{Shared, lock};
use crate::message::{Address, Envelope, EnvelopeId, Lane, QueueId, Return, Trace};
use crate::store::engine::{Found, Reader};
use crate::store::handle::ReadError;
use crate::store::{
    Archived, Count, Ending, Fact, Flow, Hold, HoldCause, JournalEntry, MessageState, RecipientRow, SealedAccess,
    SealedSignIn, Sent, Stored, Waiting,
};

/// The scheduler's window. A constant, so that the test of its cost sees the same text.
pub const WINDOW: &str = "SELECT id, due_at, pending FROM message
     WHERE account = ?1 AND state = 'waiting' AND lane = ?2 AND app = ?3 AND outside = ?4 ORDER BY due_at, id LIMIT ?5";

/// The flow behind this one. So the index is jumped through, from flow to flow.
pub const NEXT_FLOW: &str = "SELECT lane, app, outside FROM message
     WHERE account = ?1 AND state = 'waiting' AND (lane, app, outside) > (?2, ?3, ?4) ORDER BY lane, app, outside LIMIT 1";

/// Who is to be told of a refusal.
pub const TO_TELL: &str = "SELECT message, n FROM recipient WHERE tell_at <= ?1 AND state = 'refused'
     ORDER BY tell_at, message, n LIMIT ?2";

/// Counts from the index alone: a few milliseconds for 100,000 messages. Ids are in order of arrival.
pub const COUNTS: &str =
    "SELECT account, state, lane, app, outside, count(*) AS messages, min(id) AS first, sum(pending) AS recipients, max(due_at) AS last_due
     FROM message GROUP BY account, state, lane, app, outside";

/// Held messages are few, but for a copy of a program that may send to nobody: then it is a look into the recipients' key for each.
const HELD_BY_RULE: &str = "SELECT count(*) AS messages FROM message
         WHERE account = ?1 AND state = 'held' AND lane = ?2 AND app = ?3 AND outside = ?4 AND by_order = 0
         AND EXISTS (SELECT 1 FROM recipient WHERE recipient.message = message.id AND recipient.state = 'held')";

const HELD_BY_ORDER: &str = "SELECT count(*) AS messages FROM message
         WHERE account = ?1 AND state = 'held' AND lane = ?2 AND app = ?3 AND outside = ?4 AND by_order = 1";

/// Jumps from account to account in the index instead of reading all of it.
pub const ACCOUNTS: &str = "WITH RECURSIVE found (account) AS (
         SELECT (SELECT min(account) FROM message)
         UNION ALL
         SELECT (SELECT min(account) FROM message WHERE account > found.account) FROM found WHERE found.account IS NOT NULL
     )
     SELECT (SELECT mailbox FROM message WHERE message.account = found.account LIMIT 1) AS mailbox
     FROM found WHERE account IS NOT NULL";

/// SQLite as the store's reader.
pub struct SqliteReader {
    connection: Shared,
}

impl SqliteReader {
    /// Reads through `connection`.
    pub fn new(connection: Shared) -> Self {
        Self { connection }
    }

    /// Runs `read` in a transaction, so that all its statements see the same commit.
    fn snapshot<T>(&mut self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, ReadError> {
        let mut connection = lock(&self.connection);
        let snapshot = connection.transaction()?;
        Ok(read(&snapshot)?)
    }
}

impl Reader for SqliteReader {
    fn flows(&mut self, account: &Address) -> Result<Vec<Flow>, ReadError> {
        self.snapshot(|sql| {
            let mut flows: Vec<Flow> = Vec::new();
            loop {
                let last = flows.last();
                let (lane_before, app, outside) =
                    last.map_or((-1, "", false), |last| (lane_number(last.lane), &*last.app, last.outside));
                let next =
                    |row: &Row<'_>| Ok(Flow { lane: lane(row)?, app: row.get("app")?, outside: row.get("outside")? });
                match row(sql, NEXT_FLOW, params![account.key(), lane_before, app, outside], next)? {
                    Some(flow) => flows.push(flow),
                    None => return Ok(flows),
                }
            }
        })
    }

    fn window(&mut self, account: &Address, flow: &Flow, limit: u32) -> Result<Vec<Waiting>, ReadError> {
        let values = params![account.key(), lane_number(flow.lane), &*flow.app, flow.outside, limit];
        self.snapshot(|sql| {
            rows(sql, WINDOW, values, |row| {
                let (due_at, recipients, flow) = (time(row, "due_at")?, row.get("pending")?, flow.clone());
                Ok(Waiting { id: id(row)?, due_at, recipients, flow })
            })
        })
    }

    fn message(&mut self, id: QueueId) -> Result<Option<Stored>, ReadError> {
        self.snapshot(|sql| row(sql, "SELECT * FROM message WHERE id = ?1", [id.number()], |row| stored(sql, row)))
    }

    fn body(&mut self, id: QueueId) -> Result<Option<Found>, ReadError> {
        let query = "SELECT in_file, bytes FROM message LEFT JOIN body USING (id) WHERE message.id = ?1";
        self.snapshot(|sql| {
            row(sql, query, [id.number()], |row| {
                if row.get("in_file")? {
                    return Ok(Found::InFile);
                }
                Ok(Found::Inline(Bytes::from(row.get::<_, Vec<u8>>("bytes")?)))
            })
        })
    }

    fn list(&mut self, after: Option<QueueId>, limit: u32) -> Result<Vec<Stored>, ReadError> {
        let after = after.map_or(i64::MIN, QueueId::number);
        self.snapshot(|sql| {
            let query = "SELECT * FROM message WHERE id > ?1 ORDER BY id LIMIT ?2";
            rows(sql, query, params![after, limit], |row| stored(sql, row))
        })
    }

    fn archived(&mut self, id: QueueId) -> Result<Option<Archived>, ReadError> {
        self.snapshot(|sql| row(sql, "SELECT * FROM archive WHERE id = ?1", [id.number()], |row| archived(sql, row)))
    }

    fn journal(&mut self, id: QueueId) -> Result<Vec<JournalEntry>, ReadError> {
        self.snapshot(|sql| {
            let mut lines: Vec<_> = received(sql, id)?.into_iter().collect();
            let query = "SELECT * FROM journal WHERE message = ?1 ORDER BY n";
            lines.extend(rows(sql, query, [id.number()], journal_entry)?);
            Ok(lines)
        })
    }

    fn account_journal(&mut self, account: &Address, limit: u32) -> Result<Vec<JournalEntry>, ReadError> {
        let query = "SELECT * FROM journal WHERE message IS NULL AND account = ?1 ORDER BY n DESC LIMIT ?2";
        let mut lines = self.snapshot(|sql| rows(sql, query, params![account.key(), limit], journal_entry))?;
        lines.reverse();
        Ok(lines)
    }

    fn recent_journal(&mut self, limit: u32) -> Result<Vec<JournalEntry>, ReadError> {
        let query = "SELECT * FROM journal ORDER BY n DESC LIMIT ?1";
        let mut lines = self.snapshot(|sql| rows(sql, query, [limit], journal_entry))?;
        lines.reverse();
        Ok(lines)
    }

    fn holds(&mut self) -> Result<Vec<Hold>, ReadError> {
        self.snapshot(|sql| rows(sql, "SELECT * FROM hold ORDER BY account", [], hold))
    }

    fn sign_in(&mut self, account: &Address) -> Result<Option<SealedSignIn>, ReadError> {
        self.snapshot(|sql| row(sql, "SELECT * FROM sign_in WHERE account = ?1", [account.key()], sign_in))
    }

    fn sign_ins(&mut self) -> Result<Vec<SealedSignIn>, ReadError> {
        self.snapshot(|sql| rows(sql, "SELECT * FROM sign_in ORDER BY account", [], sign_in))
    }

    fn has_sign_ins(&mut self) -> Result<bool, ReadError> {
        self.snapshot(|sql| sql.query_row("SELECT EXISTS (SELECT 1 FROM sign_in)", [], |row| row.get(0)))
    }

    fn facts(&mut self) -> Result<Vec<Fact>, ReadError> {
        self.snapshot(|sql| {
            rows(sql, "SELECT * FROM fact ORDER BY account, name", [], |row| {
                Ok(Fact {
                    account: maybe_address(row, "mailbox")?,
                    name: row.get("name")?,
                    value: Some(row.get("value")?),
                    at: time(row, "at")?,
                })
            })
        })
    }

    fn to_tell(&mut self, now: Timestamp, limit: u32) -> Result<Vec<(QueueId, usize)>, ReadError> {
        self.snapshot(|sql| {
            rows(sql, TO_TELL, params![millis(now), limit], |row| {
                let place = usize::try_from(unsigned(row, "n")?).map_err(odd)?;
                Ok((row.get("message").map(QueueId::from_number)?, place))
            })
        })
    }

    fn told_nobody(&mut self) -> Result<u64, ReadError> {
        let query = "SELECT count(*) AS refusals FROM recipient WHERE tell_at = ?1 AND state = 'refused'";
        self.snapshot(|sql| sql.query_row(query, [NOBODY], |row| unsigned(row, "refusals")))
    }

    fn unwarned(&mut self, after: Option<QueueId>, before: QueueId, limit: u32) -> Result<Vec<Stored>, ReadError> {
        let after = after.map_or(i64::MIN, QueueId::number);
        let query = "SELECT * FROM message WHERE id > ?1 AND id < ?2 AND state = 'waiting' AND warned_at IS NULL
             AND sender IS NOT NULL AND lane < ?3 ORDER BY id LIMIT ?4";
        self.snapshot(|sql| {
            let bulk = lane_number(Lane::Bulk);
            rows(sql, query, params![after, before.number(), bulk, limit], |row| stored(sql, row))
        })
    }

    fn counts(&mut self) -> Result<Vec<Count>, ReadError> {
        self.snapshot(|sql| rows(sql, COUNTS, [], |row| count(sql, row)))
    }

    fn accounts_with_mail(&mut self) -> Result<Vec<Address>, ReadError> {
        self.snapshot(|sql| rows(sql, ACCOUNTS, [], |row| address(row, "mailbox")))
    }

    fn sent_since(&mut self, login: &Address, since: Timestamp) -> Result<Vec<Sent>, ReadError> {
        let query = "SELECT at, recipients, outside FROM sent WHERE login = ?1 AND at >= ?2 ORDER BY at";
        self.snapshot(|sql| {
            rows(sql, query, params![login.key(), millis(since)], |row| {
                let (at, recipients) = (time(row, "at")?, row.get("recipients")?);
                Ok(Sent { login: login.clone(), at, recipients, outside: row.get("outside")? })
            })
        })
    }

    fn recipients_since(&mut self, login: &Address, since: Timestamp) -> Result<u64, ReadError> {
        let query = "SELECT coalesce(sum(recipients), 0) AS recipients FROM sent WHERE login = ?1 AND at >= ?2";
        self.snapshot(|sql| {
            sql.query_row(query, params![login.key(), millis(since)], |row| unsigned(row, "recipients"))
        })
    }

    fn running(&mut self) -> Result<bool, ReadError> {
        let running =
            self.snapshot(|sql| row(sql, "SELECT value FROM meta WHERE name = 'running'", [], |row| row.get(0)))?;
        Ok(running.unwrap_or(false))
    }

    fn last_id(&mut self) -> Result<Option<QueueId>, ReadError> {
        let query = "SELECT max(id) FROM (SELECT max(id) AS id FROM message UNION ALL SELECT max(id) FROM archive
             UNION ALL SELECT max(message) FROM journal WHERE message IS NOT NULL)";
        let last: Option<i64> = self.snapshot(|sql| sql.query_row(query, [], |row| row.get(0)))?;
        Ok(last.map(QueueId::from_number))
    }
}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

fn rows<T>(
    sql: &Connection,
    query: &str,
    values: impl Params,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    sql.prepare_cached(query)?.query_map(values, read)?.collect()
}

fn row<T>(
    sql: &Connection,
    query: &str,
    values: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    sql.prepare_cached(query)?.query_row(values, read).optional()
}

fn id(row: &Row<'_>) -> rusqlite::Result<QueueId> {
    row.get("id").map(QueueId::from_number)
}

fn stored(sql: &Connection, row: &Row<'_>) -> rusqlite::Result<Stored> {
    let id = id(row)?;
    let query = "SELECT address, state, reply, notify, orcpt FROM recipient WHERE message = ?1 ORDER BY n";
    let both = |row: &Row<'_>| Ok((envelope_recipient(row)?, recipient(row)?));
    let (said, recipients) = rows(sql, query, [id.number()], both)?.into_iter().unzip();
    let peer: String = row.get("peer")?;
    Ok(Stored {
        id,
        received_at: time(row, "received_at")?,
        app: row.get("app")?,
        account: address(row, "mailbox")?,
        lane: lane(row)?,
        lane_why: row.get("lane_why")?,
        outside: row.get("outside")?,
        state: named(row, "state", MessageState::parse)?,
        due_at: time(row, "due_at")?,
        tries: row.get("tries")?,
        tried_for: duration(row, "tried_for")?,
        envelope: Envelope {
            sender: maybe_address(row, "sender")?,
            recipients: said,
            smtputf8: row.get("smtputf8")?,
            ret: maybe_named(row, "ret", Return::parse)?,
            envid: maybe_named(row, "envid", EnvelopeId::parse)?,
        },
        trace: Trace {
            peer: peer.parse().map_err(odd)?,
            helo: row.get("helo")?,
            protocol: named(row, "protocol", protocol)?,
            user: row.get("user")?,
        },
        subject: row.get("subject")?,
        size: unsigned(row, "size")?,
        recipients,
    })
}

fn archived(sql: &Connection, row: &Row<'_>) -> rusqlite::Result<Archived> {
    let id = id(row)?;
    let query = "SELECT address, state, reply FROM archive_recipient WHERE message = ?1 ORDER BY n";
    let recipients: Vec<RecipientRow> = rows(sql, query, [id.number()], recipient)?;
    Ok(Archived {
        id,
        received_at: time(row, "received_at")?,
        finished_at: time(row, "finished_at")?,
        ending: named(row, "ending", Ending::parse)?,
        app: row.get("app")?,
        account: address(row, "mailbox")?,
        sender: maybe_address(row, "sender")?,
        lane: lane(row)?,
        lane_why: row.get("lane_why")?,
        subject: row.get("subject")?,
        size: unsigned(row, "size")?,
        recipients,
    })
}

/// The first line of a message's journal. It is not stored, because its row says the same.
fn received(sql: &Connection, id: QueueId) -> rusqlite::Result<Option<JournalEntry>> {
    let query = "SELECT received_at, app, size, (SELECT count(*) FROM recipient WHERE message = id) AS recipients
             FROM message WHERE id = ?1
         UNION ALL
         SELECT received_at, app, size, (SELECT count(*) FROM archive_recipient WHERE message = id) FROM archive WHERE id = ?1
         LIMIT 1";
    row(sql, query, [id.number()], |row| {
        let (app, size, recipients): (String, u64, u64) =
            (row.get("app")?, unsigned(row, "size")?, unsigned(row, "recipients")?);
        let noun = if recipients == 1 { "recipient" } else { "recipients" };
        let text = format!("received from app {app}: {size} octets for {recipients} {noun}");
        Ok(JournalEntry { at: time(row, "received_at")?, message: Some(id), account: None, text })
    })
}

fn hold(row: &Row<'_>) -> rusqlite::Result<Hold> {
    let codes: String = row.get("codes")?;
    Ok(Hold {
        account: address(row, "mailbox")?,
        cause: named(row, "cause", HoldCause::parse)?,
        reply: row.get("reply")?,
        error: row.get("error")?,
        codes: codes.split_whitespace().filter_map(|code| code.parse().ok()).collect(),
        since: time(row, "since")?,
        probe_at: maybe_time(row, "probe_at")?,
        probes: row.get("probes")?,
    })
}

fn sign_in(row: &Row<'_>) -> rusqlite::Result<SealedSignIn> {
    Ok(SealedSignIn {
        account: address(row, "mailbox")?,
        current: row.get("current")?,
        previous: row.get("previous")?,
        signed_in_as: row.get("signed_in_as")?,
        since: time(row, "since")?,
        refreshed_at: time(row, "refreshed_at")?,
        refresh_life: maybe_duration(row, "refresh_life")?,
        access: access(row)?,
    })
}

/// All three of its columns, or none.
fn access(row: &Row<'_>) -> rusqlite::Result<Option<SealedAccess>> {
    let (token, received_at) = (row.get::<_, Option<Vec<u8>>>("access")?, maybe_time(row, "access_at")?);
    let whole = token.zip(received_at).zip(maybe_duration(row, "access_life")?);
    Ok(whole.map(|((token, received_at), life)| SealedAccess { token, received_at, life }))
}

fn count(sql: &Connection, row: &Row<'_>) -> rusqlite::Result<Count> {
    let first: i64 = row.get("first")?;
    let mut select = sql.prepare_cached("SELECT mailbox, received_at FROM message WHERE id = ?1")?;
    let (account, oldest) =
        select.query_row([first], |row| Ok((address(row, "mailbox")?, timestamp(row.get("received_at")?)?)))?;
    let state = named(row, "state", MessageState::parse)?;
    let flow = Flow { lane: lane(row)?, app: row.get("app")?, outside: row.get("outside")? };
    let (by_rule, by_order) = match state {
        MessageState::Held => {
            let key: String = row.get("account")?;
            let values = params![key, lane_number(flow.lane), &*flow.app, flow.outside];
            let number = |query| sql.prepare_cached(query)?.query_row(values, |row| unsigned(row, "messages"));
            (number(HELD_BY_RULE)?, number(HELD_BY_ORDER)?)
        }
        MessageState::Waiting | MessageState::Dead => (0, 0),
    };
    Ok(Count {
        account,
        state,
        flow,
        by_rule,
        by_order,
        messages: unsigned(row, "messages")?,
        oldest,
        recipients: unsigned(row, "recipients")?,
        last_due: time(row, "last_due")?,
    })
}
