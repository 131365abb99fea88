//! Copies the write-ahead log into the database, on a thread where no sender of mail waits for it.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::Connection;

use crate::store::engine::Upkeep;

/// A log of more pages than this is begun anew by the writer (32 MiB with pages of 4 KiB).
const LONG_LOG: i64 = 8 * 1024;

/// How the log stands after a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Its pages.
    pub pages: i64,
    /// Those of them that are in the database.
    pub copied: i64,
}

impl Log {
    /// Whether the next commit may begin it anew.
    pub fn is_copied(self) -> bool {
        self.copied >= self.pages
    }
}

/// Copies what can be copied without waiting for anyone.
pub fn passive(connection: &Connection) -> rusqlite::Result<Log> {
    checkpoint(connection, "PRAGMA wal_checkpoint(PASSIVE)")
}

fn checkpoint(connection: &Connection, pragma: &str) -> rusqlite::Result<Log> {
    connection.query_row(pragma, [], |row| Ok(Log { pages: row.get(1)?, copied: row.get(2)? }))
}

/// A connection for checkpoints alone.
pub struct Checkpointer {
    connection: Connection,
    restart: Arc<AtomicBool>,
    /// The database's file, to sync it. Never closed: closing any descriptor of a file ends all locks that the process has on it
    /// (<https://sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_>).
    database: ManuallyDrop<File>,
}

impl Checkpointer {
    /// Checkpoints the database at `path`; sets `restart` when the log has grown long.
    pub fn new(connection: Connection, path: &Path, restart: Arc<AtomicBool>) -> std::io::Result<Self> {
        Ok(Self { connection, restart, database: ManuallyDrop::new(File::open(path)?) })
    }

    /// Has the log begun anew. The writer syncs the database for that, while mail waits: what can be synced before is synced here.
    fn ask_for_restart(&self) {
        if let Err(error) = self.database.sync_data() {
            tracing::warn!(%error, "could not sync the queue");
        }
        self.restart.store(true, Ordering::Relaxed);
    }
}

impl Upkeep for Checkpointer {
    fn tend(&mut self) {
        match passive(&self.connection) {
            // Even if all of it is copied: the writer may have gone on meanwhile, which these numbers do not show.
            Ok(log) if log.pages > LONG_LOG => self.ask_for_restart(),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "could not checkpoint the queue"),
        }
    }

    /// Leaves an empty log, so that a copy of the database file alone is whole.
    fn finish(&mut self) {
        if let Err(error) = checkpoint(&self.connection, "PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!(%error, "could not checkpoint the queue");
        }
    }
}
