//! The writing connection: one transaction and one sync for a batch.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rusqlite::{ErrorCode, TransactionBehavior};

use super::{Shared, apply, checkpoint, lock};
use crate::store::Change;
use crate::store::engine::{Committed, Engine, Failure};

/// SQLite as the store's engine.
pub struct SqliteEngine {
    connection: Shared,
    /// The checkpointer asks for the log to begin anew.
    restart: Arc<AtomicBool>,
}

impl SqliteEngine {
    /// Writes through `connection`; `restart` is shared with the checkpointer.
    pub fn new(connection: Shared, restart: Arc<AtomicBool>) -> Self {
        Self { connection, restart }
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

    /// Under a constant load the checkpointer never gets to the end of the log, which would grow for ever. The little that it left
    /// is copied here, where nothing is being written, so that the next commit begins the log anew.
    fn settle(&mut self) {
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
