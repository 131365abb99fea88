//! The store's database as a file of SQLite, or in memory for tests.
//!
//! One connection writes, some read, one checkpoints; WAL lets none of them wait for another. Every commit is synced
//! (`synchronous=FULL`). The write-ahead log is kept short by [`checkpoint`], off the acknowledgement path.

mod account;
mod apply;
mod checkpoint;
mod engine;
mod forget;
mod log_file;
mod message;
mod order;
mod reader;
mod tell;
mod values;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::Connection;

use super::engine::{Opened, Reader};
use super::handle::StoreError;

use checkpoint::Checkpointer;
use engine::SqliteEngine;
use log_file::LogFile;
use reader::SqliteReader;

/// `user_version` of a database that this program understands.
const SCHEMA_VERSION: i64 = 3;
const SCHEMA: &str = include_str!("schema.sql");
/// What leads from each version to the one behind it; the first is the step from version 1.
const STEPS: [&str; 2] = [
    "ALTER TABLE message ADD COLUMN ret TEXT;
     ALTER TABLE message ADD COLUMN envid TEXT;
     ALTER TABLE recipient ADD COLUMN notify TEXT;
     ALTER TABLE recipient ADD COLUMN orcpt TEXT;",
    "CREATE TABLE fact (
         account TEXT NOT NULL,
         mailbox TEXT,
         name    TEXT NOT NULL,
         value   TEXT NOT NULL,
         at      INTEGER NOT NULL,
         PRIMARY KEY (account, name)
     ) STRICT, WITHOUT ROWID;
     ALTER TABLE sign_in ADD COLUMN refresh_life INTEGER;
     ALTER TABLE sign_in ADD COLUMN access BLOB;
     ALTER TABLE sign_in ADD COLUMN access_at INTEGER;
     ALTER TABLE sign_in ADD COLUMN access_life INTEGER;
     ALTER TABLE message ADD COLUMN lane INTEGER NOT NULL DEFAULT 1;
     ALTER TABLE message ADD COLUMN lane_why TEXT;
     ALTER TABLE archive ADD COLUMN lane INTEGER NOT NULL DEFAULT 1;
     ALTER TABLE archive ADD COLUMN lane_why TEXT;
     ALTER TABLE message ADD COLUMN warned_at INTEGER;
     ALTER TABLE message ADD COLUMN by_order INTEGER NOT NULL DEFAULT 0;
     ALTER TABLE recipient ADD COLUMN tell_at INTEGER;
     CREATE INDEX recipient_to_tell ON recipient (tell_at) WHERE tell_at IS NOT NULL;
     DROP INDEX message_by_state;
     ALTER TABLE message ADD COLUMN outside INTEGER NOT NULL DEFAULT 0;
     CREATE INDEX message_by_flow ON message (account, state, lane, app, outside, due_at, id, pending);
     ALTER TABLE sent ADD COLUMN outside INTEGER NOT NULL DEFAULT 0;
     DROP INDEX sent_by_login;
     CREATE INDEX sent_by_login ON sent (login, at, recipients, outside);",
];

/// Marks the file as ours (`application_id`): "xoa2".
const APPLICATION_ID: i64 = 0x786f_6132;

/// Readings at once. They are short; commands and the page share them with the scheduler.
const READERS: usize = 3;

/// How long a connection waits for another one's lock. Only checkpoints and a second process (`login` beside a backup) make it wait.
const BUSY: Duration = Duration::from_secs(10);

/// A connection and who may use it now. In memory all parts share one; in a file each has its own and never waits.
type Shared = Arc<Mutex<Connection>>;

fn lock(connection: &Shared) -> MutexGuard<'_, Connection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens or creates the database file.
pub fn open(path: &Path) -> Result<Opened, StoreError> {
    let (opened, _) = open_shared(path)?;
    Ok(opened)
}

/// A database in memory that is gone with its last handle.
pub fn in_memory() -> Result<Opened, StoreError> {
    let path = Path::new(":memory:");
    let mut connection = Connection::open_in_memory().map_err(|error| unusable(path, &error))?;
    migrate(&mut connection, path)?;
    prepare(&connection).map_err(|error| unusable(path, &error))?;
    let shared = Arc::new(Mutex::new(connection));
    let readers = vec![Box::new(SqliteReader::new(Arc::clone(&shared))) as Box<dyn Reader>];
    let engine = Box::new(SqliteEngine::new(shared, Arc::default(), None));
    Ok(Opened { engine, readers, upkeep: None })
}

fn open_shared(path: &Path) -> Result<(Opened, Shared), StoreError> {
    create(path)?;
    let open = || {
        let connection = Connection::open(path)?;
        prepare(&connection)?;
        Ok(connection)
    };
    let unusable = |error: rusqlite::Error| unusable(path, &error);
    let mut writing = open().map_err(unusable)?;
    migrate(&mut writing, path)?;
    let mode: String =
        writing.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0)).map_err(unusable)?;
    if mode != "wal" {
        let why = "its folder does not support a write-ahead log: use a local disk".to_owned();
        return Err(StoreError::Unusable { path: path.to_owned(), why });
    }
    writing.execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;").map_err(unusable)?;

    let restart = Arc::new(AtomicBool::new(false));
    let mut readers: Vec<Box<dyn Reader>> = Vec::new();
    for _ in 0..READERS {
        let connection = open().map_err(unusable)?;
        connection.execute_batch("PRAGMA query_only = 1").map_err(unusable)?;
        readers.push(Box::new(SqliteReader::new(Arc::new(Mutex::new(connection)))));
    }
    let upkeep = Checkpointer::new(open().map_err(unusable)?, path, Arc::clone(&restart));
    let upkeep = upkeep.map_err(|error| StoreError::Unusable { path: path.to_owned(), why: error.to_string() })?;
    let writing = Arc::new(Mutex::new(writing));
    let engine = Box::new(SqliteEngine::new(Arc::clone(&writing), restart, Some(LogFile::of(path))));
    Ok((Opened { engine, readers, upkeep: Some(Box::new(upkeep)) }, writing))
}

/// Makes the file before SQLite does: mail is for the relay's own user alone. The log and its index take over the mode.
fn create(path: &Path) -> Result<(), StoreError> {
    if path.exists() {
        return Ok(());
    }
    let made = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
    let synced = made.and_then(|file| file.sync_all()).and_then(|()| {
        let folder = path.parent().unwrap_or(Path::new("."));
        fs::File::open(folder)?.sync_all()
    });
    synced.map_err(|error| StoreError::Unusable { path: path.to_owned(), why: error.to_string() })
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(BUSY)?;
    connection.set_prepared_statement_cache_capacity(64);
    connection.execute_batch(
        "PRAGMA temp_store = MEMORY; PRAGMA fullfsync = 1; PRAGMA checkpoint_fullfsync = 1;
         PRAGMA wal_autocheckpoint = 0; PRAGMA journal_size_limit = 67108864;",
    )
}

/// Brings the schema to this program's version, in one transaction.
fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error: rusqlite::Error| unusable(path, &error);
    let number = |name: &str| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map_err(failed);
    let version = number("user_version")?;
    let ours = number("application_id")? == APPLICATION_ID;
    let steps = match usize::try_from(version) {
        Ok(known @ 1..) if ours && version <= SCHEMA_VERSION => &STEPS[known - 1..],
        Ok(_) if ours && version > SCHEMA_VERSION => return Err(StoreError::Newer { path: path.to_owned(), version }),
        Ok(0) if is_empty(connection).map_err(failed)? => &[SCHEMA],
        _ => {
            let why = "it is a database of another program".to_owned();
            return Err(StoreError::Unusable { path: path.to_owned(), why });
        }
    };
    take(connection, steps).map_err(failed)
}

/// All steps or none: a database is never left between two versions.
fn take(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    if steps.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Exclusive)?;
    for step in steps {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
    transaction.commit()
}

fn is_empty(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))
}

fn unusable(path: &Path, error: &rusqlite::Error) -> StoreError {
    let why = match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase | rusqlite::ErrorCode::DatabaseCorrupt) => {
            format!("it is damaged ({error}); move it away or restore a backup")
        }
        Some(rusqlite::ErrorCode::DiskFull) => "the disk is full".to_owned(),
        Some(rusqlite::ErrorCode::ReadOnly | rusqlite::ErrorCode::PermissionDenied) => {
            format!("it cannot be written ({error}); the relay's user has to own it and its folder")
        }
        _ => error.to_string(),
    };
    StoreError::Unusable { path: path.to_owned(), why }
}

/// Opens a file, with a way to bound its growth beyond what it has (in pages), as a full disk would.
#[cfg(test)]
#[expect(clippy::type_complexity, reason = "a test's own pair, named nowhere else")]
pub fn open_with_limit(path: &Path) -> Result<(Opened, Box<dyn Fn(Option<i64>)>), StoreError> {
    let (opened, writing) = open_shared(path)?;
    let limit = move |more: Option<i64>| {
        let writing = lock(&writing);
        let has: i64 = writing.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        let most = more.map_or(1 << 30, |more| has + more);
        writing.pragma_update_and_check(None, "max_page_count", most, |_| Ok(())).unwrap();
    };
    Ok((opened, Box::new(limit)))
}

#[cfg(test)]
mod tests;
