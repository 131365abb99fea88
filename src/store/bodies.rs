//! Large bodies: a file each, written and synced by the connection that receives it, before any change refers to it.
//!
//! A file that no message refers to is garbage, whatever the reason: the relay died between file and commit, or between commit and
//! removal. It is swept at the next start.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::fs::{self, File, OpenOptions};
use tokio::io::AsyncWriteExt;

use crate::message::{Body, QueueId};

/// Bodies up to this many octets go into the database, larger ones into files. How it was chosen: `docs/queue.md`.
pub const INLINE_LIMIT: usize = 128 * 1024;

/// What a writer gathers before it bothers the disk.
const CHUNK: usize = 128 * 1024;

/// The folder of body files. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bodies {
    /// `None`: a store in memory that was given no folder.
    folder: Option<Arc<Path>>,
}

impl Bodies {
    /// Files in `folder`, which exists.
    pub(super) fn new(folder: Option<&Path>) -> Self {
        Self { folder: folder.map(Arc::from) }
    }

    /// Begins the file of the message `id`. Fails if there is one already, or if the store has no folder.
    pub async fn create(&self, id: QueueId) -> io::Result<BodyWriter> {
        let path = self.path(id).ok_or_else(|| io::Error::other("this store keeps no body files"))?;
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path).await?;
        file.set_max_buf_size(CHUNK);
        Ok(BodyWriter { path: Some(path), file, gathered: Vec::new() })
    }

    /// Removes a finished file whose message was not stored after all.
    pub async fn discard(&self, body: Body) {
        if let Body::File(path) = body
            && let Err(error) = fs::remove_file(&path).await
        {
            tracing::warn!(%error, path = %path.display(), "could not remove a body file");
        }
    }

    /// Where the file of `id` is or would be.
    pub(super) fn path(&self, id: QueueId) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join(id.to_string()))
    }

    /// Removes the file of a message that is gone. That it is gone already is fine.
    pub(super) fn remove(&self, id: QueueId) {
        let Some(path) = self.path(id) else { return };
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(%error, path = %path.display(), "could not remove a body file"),
        }
    }

    /// The messages that have a file here. Names that are no ids were not made by us and are left alone.
    pub(super) fn ids(&self) -> io::Result<Vec<QueueId>> {
        let Some(folder) = &self.folder else { return Ok(Vec::new()) };
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            ids.extend(entry?.file_name().to_string_lossy().parse::<QueueId>());
        }
        Ok(ids)
    }
}

/// A body file being written. Dropped before [`BodyWriter::finish`], it takes the file with it.
#[derive(Debug)]
pub struct BodyWriter {
    /// `None` once it is finished.
    path: Option<PathBuf>,
    file: File,
    gathered: Vec<u8>,
}

impl BodyWriter {
    /// Appends. Memory stays at a few hundred KiB whatever the size of the message.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.gathered.len() + bytes.len() < CHUNK {
            self.gathered.extend_from_slice(bytes);
            return Ok(());
        }
        self.flush().await?;
        if bytes.len() < CHUNK {
            self.gathered.extend_from_slice(bytes);
            return Ok(());
        }
        self.file.write_all(bytes).await
    }

    /// Syncs the file, then its name in the folder: from here on it survives a power cut.
    pub async fn finish(mut self) -> io::Result<Body> {
        self.flush().await?;
        self.file.flush().await?;
        self.file.sync_all().await?;
        let path = self.path.as_ref().expect("a path is only taken below, and that consumes the writer").clone();
        let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
        File::open(folder).await?.sync_all().await?;
        super::crash::point(super::crash::AFTER_BODY_SYNC);
        self.path = None;
        Ok(Body::File(path))
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.file.write_all(&self.gathered).await?;
        self.gathered.clear();
        Ok(())
    }
}

impl Drop for BodyWriter {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            // One unlink, of a file that was never synced: not worth a thread of its own.
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "could not remove an unfinished body file");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::samples::id;

    #[tokio::test]
    async fn a_finished_body_holds_every_byte_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Bodies::new(Some(folder.path())).create(id(1)).await.unwrap();
        let mut all = Vec::new();
        for size in [10, CHUNK - 1, 1, CHUNK, 3 * CHUNK + 7, 0, 100] {
            let part: Vec<u8> = (0..size).map(|n| u8::try_from(n % 251).unwrap()).collect();
            writer.write(&part).await.unwrap();
            all.extend(part);
        }
        let Body::File(path) = writer.finish().await.unwrap() else { panic!("it is a file") };
        assert_eq!(std::fs::read(path).unwrap(), all);
    }

    #[tokio::test]
    async fn an_unfinished_body_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let bodies = Bodies::new(Some(folder.path()));
        let mut writer = bodies.create(id(1)).await.unwrap();
        writer.write(&vec![0; CHUNK]).await.unwrap();
        drop(writer);
        assert_eq!(bodies.ids().unwrap(), []);
    }

    #[tokio::test]
    async fn a_body_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let bodies = Bodies::new(Some(folder.path()));
        let body = bodies.create(id(1)).await.unwrap().finish().await.unwrap();
        assert_eq!(bodies.create(id(1)).await.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        bodies.discard(body).await;
        bodies.create(id(1)).await.unwrap();
    }
}
