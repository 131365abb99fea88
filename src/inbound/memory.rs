//! A queue in memory, for tests of the door.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::{AcceptError, BodyWriter, Intake, Room};
use crate::message::{Body, QueueId};
use crate::store::Incoming;

/// Keeps what it is given, as long as it is not told to fail.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    accepted: Mutex<Vec<Incoming>>,
    last_id: Mutex<Option<QueueId>>,
    files: Files,
    /// There is no room.
    pub(crate) full: AtomicBool,
    /// Nothing can be committed.
    pub(crate) broken: AtomicBool,
    /// No body can be written.
    pub(crate) disk_full: AtomicBool,
    gate: Option<Arc<Semaphore>>,
}

/// The bodies that are "files": by their paths.
type Files = Arc<Mutex<HashMap<PathBuf, Vec<u8>>>>;

/// Keeps a body that would be a file.
#[derive(Debug)]
pub(crate) struct MemoryWriter {
    path: PathBuf,
    files: Files,
    broken: bool,
    finished: bool,
}

impl Memory {
    /// A queue whose commits each take one permit of `gate`, and wait for it.
    pub(crate) fn gated(gate: &Arc<Semaphore>) -> Self {
        Self { gate: Some(Arc::clone(gate)), ..Self::default() }
    }

    /// Everything that was accepted so far, each with its bytes.
    pub(crate) fn accepted(&self) -> Vec<(Incoming, Vec<u8>)> {
        let files = self.files.lock().unwrap();
        let bytes = |body: &Body| match body {
            Body::Inline(bytes) => bytes.to_vec(),
            Body::File(path) => files[path].clone(),
        };
        self.accepted.lock().unwrap().iter().map(|incoming| (incoming.clone(), bytes(&incoming.body))).collect()
    }

    /// How many "files" there are, finished or not.
    pub(crate) fn files(&self) -> usize {
        self.files.lock().unwrap().len()
    }
}

impl Intake for Memory {
    type Writer = MemoryWriter;

    fn next_id(&self, now: Timestamp) -> QueueId {
        let mut last = self.last_id.lock().unwrap();
        let drawn = QueueId::new(now, 0);
        let id = last.filter(|last| *last >= drawn).map_or(drawn, QueueId::next);
        *last = Some(id);
        id
    }

    fn room(&self) -> Room {
        if self.full.load(Ordering::Relaxed) { Room::None } else { Room::Enough }
    }

    async fn create_body(&self, id: QueueId) -> io::Result<MemoryWriter> {
        let (path, files) = (PathBuf::from(id.to_string()), Arc::clone(&self.files));
        files.lock().unwrap().insert(path.clone(), Vec::new());
        Ok(MemoryWriter { path, files, broken: self.disk_full.load(Ordering::Relaxed), finished: false })
    }

    async fn accept(&self, incoming: Incoming) -> Result<(), AcceptError> {
        if let Some(gate) = &self.gate {
            gate.acquire().await.unwrap().forget();
        }
        if self.broken.load(Ordering::Relaxed) {
            return Err(AcceptError::Unavailable);
        }
        self.accepted.lock().unwrap().push(incoming);
        Ok(())
    }
}

impl BodyWriter for MemoryWriter {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.files.lock().unwrap().get_mut(&self.path).unwrap().extend_from_slice(bytes);
        Ok(())
    }

    async fn finish(mut self) -> io::Result<Body> {
        self.finished = true;
        Ok(Body::File(self.path.clone()))
    }
}

impl Drop for MemoryWriter {
    fn drop(&mut self) {
        if !self.finished {
            self.files.lock().unwrap().remove(&self.path);
        }
    }
}
