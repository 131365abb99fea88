//! Lends out the reading connections, off the async threads.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::engine::Reader;
use super::handle::ReadError;

/// The readers of a store. Cheap to clone.
#[derive(Clone)]
pub struct Readers {
    idle: Arc<Mutex<Vec<Box<dyn Reader>>>>,
    free: Arc<Semaphore>,
}

/// A reader on loan; comes back when dropped, after a panic too.
struct Loan {
    reader: Option<Box<dyn Reader>>,
    idle: Arc<Mutex<Vec<Box<dyn Reader>>>>,
}

impl Drop for Loan {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(reader);
        }
    }
}

impl Readers {
    /// Lends these.
    pub fn new(readers: Vec<Box<dyn Reader>>) -> Self {
        let free = Arc::new(Semaphore::new(readers.len()));
        Self { idle: Arc::new(Mutex::new(readers)), free }
    }

    /// Runs `read` on a blocking thread, when a reader is free.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut dyn Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let ended = |_| ReadError("the reading was broken off".to_owned());
        let turn = Arc::clone(&self.free).acquire_owned().await.map_err(|_| ReadError("closed".to_owned()))?;
        let idle = Arc::clone(&self.idle);
        let reading = spawn_blocking(move || {
            let reader = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut loan = Loan { reader, idle };
            let reader = loan.reader.as_mut().ok_or_else(|| ReadError("no reader is free".to_owned()))?;
            let result = read(reader.as_mut());
            // The reader is back before the next turn is given.
            drop(loan);
            drop(turn);
            result
        });
        reading.await.map_err(ended)?
    }
}
