//! The writing connection: one transaction and one sync for a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{ErrorCode, TransactionBehavior};

use super::log_file::LogFile;
use super::{Shared, apply, checkpoint, lock};
use crate::store::Change;
use crate::store::engine::{Committed, Engine, Failure};

/// SQLite as the store's engine.
pub struct SqliteEngine {
    connection: Shared,
    /// The checkpointer asks for the log to begin anew.
    restart: Arc<AtomicBool>,
    /// `None` in memory, or once it could not be made longer: that costs time and nothing else.
    log_file: Option<LogFile>,
}

impl SqliteEngine {
    /// Writes through `connection`; `restart` is shared with the checkpointer.
    pub fn new(connection: Shared, restart: Arc<AtomicBool>, log_file: Option<LogFile>) -> Self {
        Self { connection, restart, log_file }
    }

    /// What a full disk cannot do now it may do later: it is not the log that needs this room.
    fn lengthen_log(&mut self) {
        let Some(log_file) = &mut self.log_file else { return };
        match log_file.tend() {
            Err(error) if error.kind() != std::io::ErrorKind::StorageFull => {
                tracing::warn!(%error, "could not make the queue's log longer ahead of time: commits will be slower");
                self.log_file = None;
            }
            _ => {}
        }
    }

    /// Under a constant load the checkpointer never gets to the end of the log, which would grow for ever. The little that it left
    /// is copied here, where nothing is being written, so that the next commit begins the log anew.
    fn shorten_log(&self) {
        if !self.restart.load(Ordering::Relaxed) {
            return;
        }
        match checkpoint::passive(&lock(&self.connection)) {
            Ok(log) if !log.is_copied() => {} // A reading still needs the end of it: after the next batch, then.
            Ok(_) => self.restart.store(false, Ordering::Relaxed),
            Err(error) => {
                self.restart.store(false, Ordering::Relaxed);
                tracing::warn!(%error, "could not checkpoint the queue");
            }
        }
    }
}

impl Engine for SqliteEngine {
    fn commit(&mut self, changes: &[Change]) -> Result<Committed, Failure> {
        let mut connection = lock(&self.connection);
        let mut committed = Committed::default();
        // Dropped on the way out of an error, it rolls back.
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for change in changes {
            apply::apply(&transaction, change, &mut committed)?;
        }
        transaction.commit()?;
        Ok(committed)
    }

    fn settle(&mut self) {
        self.lengthen_log();
        self.shorten_log();
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full,
            Some(ErrorCode::ConstraintViolation | ErrorCode::TooBig | ErrorCode::TypeMismatch) => {
                Self::Fault(error.to_string())
            }
            // Not from SQLite: a value that has no place in a column.
            None => Self::Fault(error.to_string()),
            Some(_) => Self::Broken(error.to_string()),
        }
    }
}
