//! Takes what was left in the drop folder into the queue, once.
//!
//! A file is first renamed to the id that its message will have, and that name is synced; then the message is committed under this id;
//! then the file goes. So after a crash at any point the store tells what to do with a file: if it knows the id, the message is ours and
//! the file is a leftover; if not, the message is committed now. Nothing is lost and nothing is sent twice.

use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use rustix::io::Errno;
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

use super::envelope::{HERE, domain, envelope, from_field, has_from, sender_address, trace};
use super::folder::{self, Folder, Found, Opened};
use super::letter::{Letter, LetterError, MAX_ENVELOPE};
use super::users;
use super::watch::Watch;
use crate::inbound::{AcceptError, BodyWriter, Door, Head, Intake, Outcome, Room, Route, route_of};
use crate::lane::{Arrival, Judged, LOOKED_AT, Way};
use crate::message::{Address, Body, QueueId};
use crate::registry;
use crate::store::{Change, INLINE_LIMIT, Incoming, JournalEntry, Store, crash};

/// How often the folder is looked at although nothing is heard of it, and what waits for room is tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// What is read of a file at a time.
const PIECE: usize = 64 * 1024;
/// The name by which `[[app]]` can be meant.
const APP: &str = "sendmail";

/// Takes mail until `stop`.
pub async fn run<I: Intake>(folder: Folder, door: Arc<Door<I>>, store: Store, stop: CancellationToken) {
    let mut watch = Watch::over(folder.path());
    let pickup = Pickup { folder, door, store };
    loop {
        let is_more = pickup.look(&stop).await;
        if stop.is_cancelled() {
            return;
        }
        if is_more {
            continue;
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = watch.change() => {}
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
    }
}

struct Pickup<I> {
    folder: Folder,
    door: Arc<Door<I>>,
    store: Store,
}

/// Why there is no message yet.
#[derive(Debug)]
enum Trouble {
    /// There never will be one.
    Bad(String),
    /// The file stays, and is tried again.
    Later(String),
    /// Whoever left it has taken it away again.
    Gone,
}

/// What is made of a file.
struct Contents {
    letter: Letter,
    owner: String,
    head: Head,
    /// The message, of which the beginning was read.
    reader: Reader,
}

impl<I: Intake> Pickup<I> {
    /// Takes what is there; whether there is more.
    async fn look(&self, stop: &CancellationToken) -> bool {
        let folder = self.folder.clone();
        let found = match tokio::task::spawn_blocking(move || folder.look()).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                tracing::error!(%error, path = %self.folder.path().display(), "cannot look into the drop folder");
                return false;
            }
            Err(_) => return false,
        };
        if self.door.intake.room() == Room::None {
            if !(found.new.is_empty() && found.taken.is_empty()) {
                tracing::warn!("the disk is too full: mail waits in the drop folder");
            }
            return false;
        }
        let (is_more, begun) = (found.more, found.taken.len());
        let Some(names) = self.rename(found).await else { return false };
        // Where no file can be renamed, the next look would find the same ones.
        let is_more = is_more && names.len() > begun;
        for (id, path) in names {
            if stop.is_cancelled() {
                return false;
            }
            self.take_guarded(id, &path).await;
        }
        is_more
    }

    /// Gives the files the names of their messages to be, on disk.
    async fn rename(&self, found: Found) -> Option<Vec<(QueueId, PathBuf)>> {
        let (mut taken, others) = self.told_apart(found.taken);
        let new: Vec<_> = found.new.into_iter().chain(others).collect();
        if new.is_empty() {
            return Some(taken);
        }
        for path in new {
            let id = self.door.intake.next_id(self.door.clock.now());
            let name = self.folder.taken(id);
            match tokio::fs::rename(&path, &name).await {
                Ok(()) => taken.push((id, name)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::error!(%error, path = %path.display(), "cannot take mail from the drop folder"),
            }
        }
        let folder = self.folder.clone();
        match tokio::task::spawn_blocking(move || folder.sync()).await {
            Ok(Ok(())) => {
                crash::point(crash::AFTER_PICKUP_RENAME);
                Some(taken)
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "cannot sync the drop folder; its mail waits");
                None
            }
            Err(_) => None,
        }
    }

    /// The files that have their names from the relay, and others. Anybody can name a file so, and a message with an id that is still to
    /// come would be in the way of those to come: its file is as good as new. So is one of ours from before the clock was set back: were
    /// it in the queue, all ids that are given out now would be larger.
    fn told_apart(&self, taken: Vec<(QueueId, PathBuf)>) -> (Vec<(QueueId, PathBuf)>, Vec<PathBuf>) {
        if taken.is_empty() {
            return (taken, Vec::new());
        }
        let next = self.door.intake.next_id(self.door.clock.now());
        let (taken, others): (Vec<_>, Vec<_>) = taken.into_iter().partition(|(id, _)| *id < next);
        (taken, others.into_iter().map(|(_, path)| path).collect())
    }

    /// A file on which the relay itself fails is put aside: it would fail again, and no other mail is to wait for it.
    async fn take_guarded(&self, id: QueueId, path: &Path) {
        let taken = AssertUnwindSafe(self.take(id, path)).catch_unwind().await;
        match taken.unwrap_or_else(|_| Err(Trouble::Bad("taking it failed within the relay: this is a bug".to_owned())))
        {
            Ok(()) | Err(Trouble::Gone) => {}
            Err(Trouble::Later(why)) => {
                tracing::warn!(%id, why, "mail in the drop folder has to wait");
            }
            Err(Trouble::Bad(why)) => match self.folder.put_aside(path) {
                Ok(aside) => tracing::error!(why, kept = %aside.display(), "mail in the drop folder cannot be sent"),
                Err(error) => {
                    tracing::error!(why, %error, path = %path.display(), "mail in the drop folder cannot be sent, nor put aside");
                }
            },
        }
    }

    async fn take(&self, id: QueueId, path: &Path) -> Result<(), Trouble> {
        if !self.is_known(id).await? {
            let opened = open(path)?;
            let owner = users::name_of(opened.owner);
            let contents = self.read(opened, owner).await?;
            self.accept(id, contents).await?;
            crash::point(crash::AFTER_PICKUP_COMMIT);
        }
        if let Err(error) = tokio::fs::remove_file(path).await {
            // It is looked at again, and known then.
            tracing::warn!(%id, %error, path = %path.display(), "could not remove what is in the queue now");
        }
        Ok(())
    }

    /// Whether the message was committed by an earlier look, whatever has become of it since.
    async fn is_known(&self, id: QueueId) -> Result<bool, Trouble> {
        let later = |error: crate::store::ReadError| Trouble::Later(error.to_string());
        Ok(self.store.message(id).await.map_err(later)?.is_some()
            || self.store.archived(id).await.map_err(later)?.is_some())
    }

    async fn read(&self, opened: Opened, owner: String) -> Result<Contents, Trouble> {
        let config = self.door.config();
        let most = config.listeners.iter().map(|listener| listener.max_message_size).max().unwrap_or_default();
        if opened.size > most.saturating_add(MAX_ENVELOPE as u64) {
            return Err(Trouble::Bad(format!("left by {owner}, it is larger than max_message_size, {most} octets")));
        }
        let mut file = File::from_std(opened.file);
        let (letter, mut piece) = envelope_of(&mut file, &owner).await?;
        let sender = sender_address(&letter, &owner, domain(&config)).ok();
        piece.reserve(PIECE);
        let size = piece.len() as u64;
        let mut reader = Reader { file, piece, size, most };
        reader.fill(INLINE_LIMIT + 1).await?;
        let mut head = Head::read(&reader.piece);
        if !has_from(&reader.piece) {
            let from = sender.or_else(|| Address::parse(&format!("{owner}@{}", domain(&config))).ok());
            reader.piece.splice(0..0, from_field(from.as_ref(), letter.name.as_deref(), &reader.piece));
            head = Head::read(&reader.piece);
        }
        if reader.piece.len() <= INLINE_LIMIT {
            // What is all there hides nothing.
            head.is_whole = true;
        }
        Ok(Contents { letter, owner, head, reader })
    }

    /// A small message into memory, a larger one into a file of its own, as those that come by SMTP.
    async fn body(&self, id: QueueId, mut reader: Reader) -> Result<(Body, u64), Trouble> {
        if reader.piece.len() <= INLINE_LIMIT {
            let size = reader.piece.len() as u64;
            return Ok((Body::Inline(Bytes::from(reader.piece)), size));
        }
        let later = |error: io::Error| Trouble::Later(format!("its body cannot be written: {error}"));
        let mut writer = self.door.intake.create_body(id).await.map_err(later)?;
        let mut size = 0;
        while !reader.piece.is_empty() {
            writer.write(&reader.piece).await.map_err(later)?;
            size += reader.piece.len() as u64;
            reader.piece.clear();
            reader.fill(PIECE).await?;
        }
        Ok((writer.finish().await.map_err(later)?, size))
    }

    async fn accept(&self, id: QueueId, contents: Contents) -> Result<(), Trouble> {
        let config = self.door.config();
        let Contents { letter, owner, head, reader } = contents;
        let envelope = envelope(&letter, &owner, domain(&config))
            .map_err(|why| Trouble::Bad(format!("left by {owner}, {why}")))?;
        let most = config.listeners.iter().map(|listener| listener.max_recipients).max().unwrap_or_default();
        let recipients = envelope.recipients.len();
        if recipients > most {
            return Err(Trouble::Bad(format!(
                "left by {owner}, it has {recipients} recipients; max_recipients is {most}"
            )));
        }
        let app = registry::app_for(&config, HERE, Some(APP));
        let route = route_of(&config, app, None, envelope.sender.as_ref(), &head);
        let Route { app, account } = route.map_err(|why| not_taken(&owner, why))?;
        let received_at = self.door.clock.now();
        let start = &reader.piece[..reader.piece.len().min(LOOKED_AT)];
        let arrival = Arrival { start, recipients: &envelope.recipients, way: Way::Folder, at: received_at };
        let Judged { lane, why } = self.door.lanes.judge(&app, &arrival);
        // Last, so that nothing is left of what is not taken.
        let (body, size) = self.body(id, reader).await?;
        let to = envelope.recipients.iter().map(|recipient| &recipient.address);
        let outside = registry::is_outside(&config, &app.name, &account.mailbox, to);
        let incoming = Incoming {
            id,
            received_at,
            app: app.name.clone(),
            account: account.mailbox.clone(),
            lane,
            lane_why: why,
            outside,
            envelope,
            trace: trace(&owner),
            subject: head.subject.filter(|_| config.queue.record_subjects),
            size,
            body,
        };
        self.door.intake.accept(incoming).await.map_err(|error| match error {
            AcceptError::Full => Trouble::Later("the disk is full".to_owned()),
            AcceptError::Unavailable => Trouble::Later("the queue could not be written".to_owned()),
        })?;
        tracing::info!(%id, user = owner, account = %account.mailbox, recipients, size, "message accepted from the drop folder");
        let text = format!("left in the drop folder by the local user {owner}");
        let note = JournalEntry { at: received_at, message: Some(id), account: None, text };
        if let Err(error) = self.store.commit(Change::Note(note)).await {
            tracing::warn!(%id, %error, "could not write down who left a message");
        }
        Ok(())
    }
}

fn not_taken(owner: &str, why: Outcome) -> Trouble {
    match why {
        Outcome::Sender(refused) => Trouble::Bad(format!(
            "left by {owner}, its sender {} is not among \"senders\" of the app {}",
            refused.sender, refused.app
        )),
        Outcome::SenderUnseen(app) => Trouble::Bad(format!(
            "left by {owner}, its header is too long to compare with \"senders\" of the app {app}"
        )),
        _ => Trouble::Later("there is no account to send it through".to_owned()),
    }
}

fn open(path: &Path) -> Result<Opened, Trouble> {
    folder::open(path).map_err(|error| {
        let of_the_machine = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::IO].map(Errno::raw_os_error);
        match error.raw_os_error() {
            _ if error.kind() == io::ErrorKind::NotFound => Trouble::Gone,
            Some(number) if of_the_machine.contains(&number) => Trouble::Later(error.to_string()),
            _ => Trouble::Bad(format!("it cannot be opened: {error}")),
        }
    })
}

/// The envelope at the beginning of a file, and what was read of the message.
async fn envelope_of(file: &mut File, owner: &str) -> Result<(Letter, Vec<u8>), Trouble> {
    let bad = |error: LetterError| Trouble::Bad(format!("left by {owner}, {error}"));
    let mut start = Vec::new();
    loop {
        if let Some(end) = start.windows(2).position(|two| two == b"\n\n") {
            let text = std::str::from_utf8(&start[..end]).map_err(|_| bad(LetterError::Form))?;
            let letter = Letter::parse(text).map_err(bad)?;
            return Ok((letter, start.split_off(end + 2)));
        }
        if start.len() > MAX_ENVELOPE || read_more(file, &mut start).await? == 0 {
            return Err(bad(LetterError::Form));
        }
    }
}

async fn read_more(file: &mut File, into: &mut Vec<u8>) -> Result<usize, Trouble> {
    let mut piece = file.take(PIECE as u64);
    piece.read_to_end(into).await.map_err(|error| Trouble::Later(format!("it cannot be read: {error}")))
}

struct Reader {
    file: File,
    /// What was read and is nowhere else yet.
    piece: Vec<u8>,
    size: u64,
    most: u64,
}

impl Reader {
    /// Reads until the piece has so many octets, or to the end.
    async fn fill(&mut self, wanted: usize) -> Result<(), Trouble> {
        while self.piece.len() < wanted {
            let read = read_more(&mut self.file, &mut self.piece).await?;
            self.size += read as u64;
            // Its owner may write on while it is read.
            if self.size > self.most {
                return Err(Trouble::Bad(format!("it is larger than max_message_size, {} octets", self.most)));
            }
            if read == 0 {
                break;
            }
        }
        Ok(())
    }
}
