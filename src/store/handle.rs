//! The store as the rest of the relay sees it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use super::bodies::Bodies;
use super::engine::{Found, Opened, Reader};
use super::readers::Readers;
use super::space::Space;
use super::upkeep::Keeper;
use super::writer::{Life, WriterHandle};
use super::{Archived, Change, Count, Fact, Flow, FlowHead, Hold, JournalEntry, SealedSignIn, Sent, Stored, sqlite};
use crate::message::{Address, Body, QueueId};

/// The queue. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
}

struct Shared {
    writer: WriterHandle,
    readers: Readers,
    bodies: Bodies,
    space: Space,
    last_id: AtomicI64,
    was_running: bool,
}

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A newer program was here.
    #[error(
        "the queue {} was made by a newer xoauth2-relay (its version is {version}): install that one again, or restore a backup \
         from before the update",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its schema version.
        version: i64,
    },
    /// It cannot be made, read or written.
    #[error("cannot use {}: {why}", path.display())]
    Unusable {
        /// The file or folder.
        path: PathBuf,
        /// What the system or the database said, and the remedy if there is one.
        why: String,
    },
}

/// A change was not committed: nothing of it is in the queue, unless it says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// No room on the disk. Once there is, the next change will go.
    #[error("the disk is full")]
    Full,
    /// The writer has ended. A change that it was working on just then may be on disk.
    #[error("the queue is closed")]
    Closed,
    /// The disk or the database failed, or the change itself cannot be (an id that is taken).
    #[error("the queue could not be written: {0}")]
    Failed(String),
}

/// The queue could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the queue could not be read: {0}")]
pub struct ReadError(pub(super) String);

impl Store {
    /// Opens the queue in `dir`: `queue.db` and `bodies/`, made if they are not there. The caller has locked the folder.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let folder = dir.join("bodies");
        let database = dir.join("queue.db");
        let unusable = |error: std::io::Error| StoreError::Unusable { path: folder.clone(), why: error.to_string() };
        if !database.exists() {
            set_aside(&folder).map_err(unusable)?;
        }
        make_folder(&folder).map_err(unusable)?;
        let unusable = |error: std::io::Error| StoreError::Unusable { path: database.clone(), why: error.to_string() };
        keep_private(&database).map_err(unusable)?;
        let opened = sqlite::open(&database)?;
        Self::start(opened, Bodies::new(Some(&folder)), Space::new(Some(dir.to_owned())))
    }

    /// A queue in memory for tests and simulations. Without a folder for `bodies`, all bodies have to be inline.
    pub fn in_memory(bodies: Option<&Path>) -> Result<Self, StoreError> {
        Self::start(sqlite::in_memory()?, Bodies::new(bodies), Space::new(None))
    }

    /// Puts the parts around an opened database.
    pub(super) fn start(mut opened: Opened, bodies: Bodies, space: Space) -> Result<Self, StoreError> {
        let failed = |why: String| StoreError::Unusable { path: PathBuf::from("the queue"), why };
        let Some(reader) = opened.readers.first_mut() else { return Err(failed("it has no readers".to_owned())) };
        let last_id = reader.last_id().map_err(|error| failed(error.to_string()))?;
        let was_running = reader.running().map_err(|error| failed(error.to_string()))?;

        let keeper = Keeper::start(bodies.clone(), opened.upkeep).map_err(|error| failed(error.to_string()))?;
        let writer = WriterHandle::start(opened.engine, keeper).map_err(|error| failed(error.to_string()))?;
        let last_id = AtomicI64::new(last_id.map_or(i64::MIN, QueueId::number));
        let readers = Readers::new(opened.readers);
        Ok(Self { shared: Arc::new(Shared { writer, readers, bodies, space, last_id, was_running }) })
    }

    /// Commits a change. Returns once it is on disk, synced: only then may anyone be told of it.
    ///
    /// Dropping the future does not take the change back; it may be committed or not. When the disk is full, the body file of the
    /// refused message is removed.
    pub async fn commit(&self, change: Change) -> Result<(), CommitError> {
        let writer = &self.shared.writer;
        match change {
            Change::Accept(incoming) => {
                let body = if let Body::File(path) = &incoming.body { Some((incoming.id, path.clone())) } else { None };
                if let Some((id, path)) = &body
                    && self.shared.bodies.path(*id).as_ref() != Some(path)
                {
                    return Err(CommitError::Failed(format!("{} is not the body file of {id}", path.display())));
                }
                let accepted = writer.write(Change::Accept(incoming)).await;
                if let (Err(CommitError::Full), Some((_, path))) = (&accepted, body) {
                    self.shared.bodies.discard(Body::File(path)).await;
                }
                accepted?;
            }
            // In shares, so that mail gets in between.
            Change::Forget { .. } => while writer.write(change.clone()).await? {},
            change => drop(writer.write(change).await?),
        }
        Ok(())
    }

    /// Commits what must not be forgotten, such as what became of a message: tried again until it can, or the store is closed.
    pub async fn insist(&self, change: Change) {
        let mut wait = Duration::from_millis(100);
        while let Err(error) = self.commit(change.clone()).await {
            tracing::error!(%error, "could not write what must not be forgotten; trying again");
            if error == CommitError::Closed {
                return;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_secs(5));
        }
    }

    /// An id for a message that arrives at `now`: larger than all given out before, in this process and any earlier one.
    pub fn next_id(&self, now: Timestamp) -> QueueId {
        let drawn = QueueId::new(now, rand::random()).number();
        let after = |last: i64| drawn.max(last.saturating_add(1));
        let last = self.shared.last_id.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(after(last)));
        // The closure never declines, so both arms carry the value from before.
        QueueId::from_number(after(last.unwrap_or_else(|last| last)))
    }

    /// The first waiting messages of these flows of an account, or of all that it has, by due time, then id: of each as many as `limit` says,
    /// which is told how many flows there are. Costs the same however long the queue is.
    ///
    /// # Errors
    /// The queue cannot be read.
    pub async fn heads(
        &self,
        account: &Address,
        flows: Option<Vec<Flow>>,
        limit: impl FnOnce(usize) -> u32 + Send + 'static,
    ) -> Result<Vec<FlowHead>, ReadError> {
        let account = account.clone();
        let read = move |reader: &mut dyn Reader| {
            let flows = match flows {
                Some(flows) => flows,
                None => reader.flows(&account)?,
            };
            let limit = limit(flows.len());
            let head = |flow: Flow| {
                let messages = reader.window(&account, &flow, limit)?;
                let is_cut = messages.len() >= limit as usize;
                Ok(FlowHead { flow, messages, is_cut })
            };
            flows.into_iter().map(head).collect()
        };
        self.shared.readers.read(read).await
    }

    /// An unfinished or dead message; `None` if it is finished, deleted or was never there.
    pub async fn message(&self, id: QueueId) -> Result<Option<Stored>, ReadError> {
        self.shared.readers.read(move |reader| reader.message(id)).await
    }

    /// The body of an unfinished or dead message. A file may vanish before it is opened, if the message is deleted just then.
    pub async fn body(&self, id: QueueId) -> Result<Option<Body>, ReadError> {
        let found = self.shared.readers.read(move |reader| reader.body(id)).await?;
        Ok(found.and_then(|found| self.found(id, found)))
    }

    /// Both, in one reading: what an attempt needs. A message without its body was damaged, or deleted in between.
    pub async fn message_and_body(&self, id: QueueId) -> Result<Option<(Stored, Option<Body>)>, ReadError> {
        let read = move |reader: &mut dyn super::engine::Reader| {
            let Some(stored) = reader.message(id)? else { return Ok(None) };
            Ok(Some((stored, reader.body(id)?)))
        };
        let read = self.shared.readers.read(read).await?;
        Ok(read.map(|(stored, found)| (stored, found.and_then(|found| self.found(id, found)))))
    }

    fn found(&self, id: QueueId, found: Found) -> Option<Body> {
        match found {
            Found::Inline(bytes) => Some(Body::Inline(bytes)),
            Found::InFile => self.shared.bodies.path(id).map(Body::File),
        }
    }

    /// At most `limit` unfinished and dead messages, by id, from behind `after`.
    pub async fn list(&self, after: Option<QueueId>, limit: u32) -> Result<Vec<Stored>, ReadError> {
        self.shared.readers.read(move |reader| reader.list(after, limit)).await
    }

    /// A finished or deleted message.
    pub async fn archived(&self, id: QueueId) -> Result<Option<Archived>, ReadError> {
        self.shared.readers.read(move |reader| reader.archived(id)).await
    }

    /// All that happened to a message, its arrival first.
    pub async fn journal(&self, id: QueueId) -> Result<Vec<JournalEntry>, ReadError> {
        self.shared.readers.read(move |reader| reader.journal(id)).await
    }

    /// The last `limit` lines about the account itself (not about its messages), oldest first.
    pub async fn account_journal(&self, account: &Address, limit: u32) -> Result<Vec<JournalEntry>, ReadError> {
        let account = account.clone();
        self.shared.readers.read(move |reader| reader.account_journal(&account, limit)).await
    }

    /// The last `limit` lines about anything, oldest first. Arrivals are not among them.
    pub async fn recent_journal(&self, limit: u32) -> Result<Vec<JournalEntry>, ReadError> {
        self.shared.readers.read(move |reader| reader.recent_journal(limit)).await
    }

    /// Every held account.
    pub async fn holds(&self) -> Result<Vec<Hold>, ReadError> {
        self.shared.readers.read(|reader| reader.holds()).await
    }

    /// An account's sign-in.
    pub async fn sign_in(&self, account: &Address) -> Result<Option<SealedSignIn>, ReadError> {
        let account = account.clone();
        self.shared.readers.read(move |reader| reader.sign_in(&account)).await
    }

    /// Every sign-in, by account, also of accounts that are not configured.
    pub async fn sign_ins(&self) -> Result<Vec<SealedSignIn>, ReadError> {
        self.shared.readers.read(|reader| reader.sign_ins()).await
    }

    /// Whether any account has a sign-in: then a missing key is a lost key.
    pub async fn has_sign_ins(&self) -> Result<bool, ReadError> {
        self.shared.readers.read(|reader| reader.has_sign_ins()).await
    }

    /// All that was learnt ([`Change::Learn`]), by account and name; the relay's own facts first. They are few.
    pub async fn facts(&self) -> Result<Vec<Fact>, ReadError> {
        self.shared.readers.read(|reader| reader.facts()).await
    }

    /// At most `limit` recipients of whose refusal somebody is to be told by `now`, those first that have waited longest; each as its message
    /// and its place in the envelope.
    pub async fn to_tell(&self, now: Timestamp, limit: u32) -> Result<Vec<(QueueId, usize)>, ReadError> {
        self.shared.readers.read(move |reader| reader.to_tell(now, limit)).await
    }

    /// How many refusals there are among the dead letters of which nobody could be told.
    pub async fn told_nobody(&self) -> Result<u64, ReadError> {
        self.shared.readers.read(|reader| reader.told_nobody()).await
    }

    /// At most `limit` messages that wait and of which no sender was warned yet, by id, from behind `after` to before `before`. Bulk mail and
    /// what has the null sender are not among them.
    pub async fn unwarned(
        &self,
        after: Option<QueueId>,
        before: QueueId,
        limit: u32,
    ) -> Result<Vec<Stored>, ReadError> {
        self.shared.readers.read(move |reader| reader.unwarned(after, before, limit)).await
    }

    /// How many messages are where, by account, state and flow. A few milliseconds for 100,000 messages.
    pub async fn counts(&self) -> Result<Vec<Count>, ReadError> {
        self.shared.readers.read(|reader| reader.counts()).await
    }

    /// The accounts with unfinished or dead mail.
    pub async fn accounts_with_mail(&self) -> Result<Vec<Address>, ReadError> {
        self.shared.readers.read(|reader| reader.accounts_with_mail()).await
    }

    /// Uses of a login's pace from `since` on, oldest first.
    pub async fn sent_since(&self, login: &Address, since: Timestamp) -> Result<Vec<Sent>, ReadError> {
        let login = login.clone();
        self.shared.readers.read(move |reader| reader.sent_since(&login, since)).await
    }

    /// Recipients that a login reached from `since` on.
    pub async fn recipients_since(&self, login: &Address, since: Timestamp) -> Result<u64, ReadError> {
        let login = login.clone();
        self.shared.readers.read(move |reader| reader.recipients_since(&login, since)).await
    }

    /// Whether the queue was found as a running relay leaves it: the last process did not end in order.
    pub fn was_running(&self) -> bool {
        self.shared.was_running
    }

    /// Where large bodies are written.
    pub fn bodies(&self) -> Bodies {
        self.shared.bodies.clone()
    }

    /// Whether the volume has at least `min_free` octets left, or 5 % of it if that is less. Measured at most once a second.
    pub fn has_room(&self, min_free: u64) -> bool {
        self.shared.space.has_room(min_free)
    }

    /// Removes body files that no message refers to, and says how many. For the start, before anything is received.
    pub async fn sweep(&self) -> Result<u64, ReadError> {
        let bodies = self.bodies();
        let sweep = move |reader: &mut dyn super::engine::Reader| {
            let mut swept = 0;
            for id in bodies.ids().map_err(|error| ReadError(format!("the folder bodies: {error}")))? {
                if reader.body(id)? != Some(Found::InFile) {
                    bodies.remove(id);
                    swept += 1;
                }
            }
            Ok(swept)
        };
        self.shared.readers.read(sweep).await
    }

    /// How many transactions were committed so far; less than the changes when several shared one.
    pub fn batches(&self) -> u64 {
        self.shared.writer.batches()
    }

    /// Commits what was handed over, then stops the writer and leaves the database tidy. Later changes are told `Closed`.
    pub async fn close(self) {
        self.shared.writer.close().await;
    }

    /// Waits until the writer has committed what it was given so far: whether it is still there.
    pub async fn answers(&self) -> bool {
        self.shared.writer.answers().await
    }

    /// Waits until the writer has died of a panic: the process has to end, because nothing can be stored any more. Waits for ever
    /// when the store is closed in order.
    pub async fn writer_gone(&self) {
        if self.shared.writer.ended().await == Life::Closed {
            std::future::pending::<()>().await;
        }
    }
}

/// The bodies of a queue that was moved away or lost: a sweep would take them for orphans, and they may be the only copies.
fn set_aside(folder: &Path) -> std::io::Result<()> {
    let is_empty = match std::fs::read_dir(folder) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(error),
    };
    if is_empty {
        return Ok(());
    }
    let aside = folder.with_file_name(format!("bodies-without-queue-{}", Timestamp::now().as_second()));
    tracing::error!(kept = %aside.display(), "there are bodies but no queue.db: they are kept apart, in case the queue comes back");
    std::fs::rename(folder, aside)
}

/// Other users may pass through the data folder to the drop folder: the mail in the queue is not for them. A new database is made private
/// by `sqlite::open`; this is for one whose mode somebody has changed. `SQLite` gives the files that it makes beside it the same mode.
fn keep_private(database: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;

    for beside in ["", "-wal", "-shm"] {
        let mut path = database.as_os_str().to_owned();
        path.push(beside);
        match std::fs::metadata(&path) {
            Ok(found) if found.permissions().mode() & 0o077 != 0 => {
                std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn make_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;

    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let parent = folder.parent().unwrap_or(Path::new("."));
    std::fs::File::open(parent)?.sync_all()
}
