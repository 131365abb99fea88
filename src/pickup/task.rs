//! Takes what was left in the drop folder into the queue, once.
//!
//! A file is first renamed to the id that its message will have, and that name is synced; then the message is committed under this id;
//! then the file goes. So after a crash at any point the store tells what to do with a file: if it knows the id, the message is ours and
//! the file is a leftover; if not, the message is committed now. Nothing is lost and nothing is sent twice.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
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

use super::folder::{self, Folder, Found, Opened};
use super::letter::{Letter, LetterError, MAX_ENVELOPE, Sender};
use super::users;
use super::watch::Watch;
use crate::config::Config;
use crate::inbound::{AcceptError, BodyWriter, Door, Head, Intake, Room};
use crate::message::{Address, Body, Envelope, Protocol, QueueId, Trace};
use crate::registry;
use crate::store::{Change, INLINE_LIMIT, Incoming, JournalEntry, Store, crash};

/// How often the folder is looked at although nothing is heard of it, and what waits for room is tried again.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// What is read of a file at a time.
const PIECE: usize = 64 * 1024;
/// The name by which `[[app]]` can be meant; where it comes from is this machine.
const APP: &str = "sendmail";
const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

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
    body: Body,
    size: u64,
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
        let is_more = found.more && !found.new.is_empty();
        let Some(names) = self.rename(found).await else { return false };
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
        let Found { new, mut taken, .. } = found;
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
            let contents = self.read(id, opened, owner).await?;
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

    async fn read(&self, id: QueueId, opened: Opened, owner: String) -> Result<Contents, Trouble> {
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
        let (body, size) = self.body(id, reader).await?;
        Ok(Contents { letter, owner, head, body, size })
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
        let Contents { letter, owner, head, body, size } = contents;
        let envelope = envelope(&letter, &owner, domain(&config))
            .map_err(|why| Trouble::Bad(format!("left by {owner}, {why}")))?;
        let most = config.listeners.iter().map(|listener| listener.max_recipients).max().unwrap_or_default();
        let recipients = envelope.recipients.len();
        if recipients > most {
            return Err(Trouble::Bad(format!(
                "left by {owner}, it has {recipients} recipients; max_recipients is {most}"
            )));
        }
        let account = registry::account_for(&config, None, envelope.sender.as_ref(), head.from.as_ref())
            .ok_or_else(|| Trouble::Later("there is no account to send it through".to_owned()))?;
        let received_at = self.door.clock.now();
        let incoming = Incoming {
            id,
            received_at,
            app: registry::app_for(&config, HERE, Some(APP)).to_owned(),
            account: account.mailbox.clone(),
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

/// What stands behind the `@` of a name without one.
fn domain(config: &Config) -> &str {
    &config.hostname
}

/// The envelope as SMTP would have said it. The only place where one is made of a letter.
///
/// `letter.notify`, `.ret` and `.envid` are what RCPT NOTIFY and MAIL RET and ENVID are.
fn envelope(letter: &Letter, owner: &str, domain: &str) -> Result<Envelope, String> {
    let mut recipients = Vec::new();
    for recipient in &letter.recipients {
        recipients.push(complete(recipient, domain)?);
    }
    let sender = match letter.sender {
        Sender::Null => None,
        _ => Some(sender_address(letter, owner, domain)?),
    };
    let smtputf8 = recipients.iter().chain(&sender).any(|address| !address.is_ascii());
    Ok(Envelope { sender, recipients, smtputf8 })
}

fn sender_address(letter: &Letter, owner: &str, domain: &str) -> Result<Address, String> {
    match &letter.sender {
        Sender::Address(address) => complete(address, domain),
        Sender::Owner | Sender::Null => complete(owner, domain),
    }
}

fn complete(name: &str, domain: &str) -> Result<Address, String> {
    let address = if name.contains('@') { Address::parse(name) } else { Address::parse(&format!("{name}@{domain}")) };
    address.map_err(|error| error.to_string())
}

fn has_from(start: &[u8]) -> bool {
    crate::message::Headers::scan(start).first("From").is_some()
}

/// A `From` for a message that has none (cron and `mail()` need not write one); it stands in front of all else.
fn from_field(from: Option<&Address>, name: Option<&str>, start: &[u8]) -> Vec<u8> {
    let Some(from) = from else { return Vec::new() };
    let field = match name.map(str::trim).filter(|name| !name.is_empty()) {
        Some(name) => format!("From: {} <{from}>\r\n", phrase(name)),
        None => format!("From: {from}\r\n"),
    };
    let headers = crate::message::Headers::scan(start);
    // A message without a header begins with its text, which is not to become one.
    let is_bare = headers.fields().is_empty() && !start.starts_with(b"\r\n") && !start.starts_with(b"\n");
    [field.as_bytes(), if is_bare { b"\r\n" } else { b"" }].concat()
}

/// A name that may stand in front of an address (RFC 5322 section 3.2.5; RFC 2047 for what is not ASCII).
fn phrase(name: &str) -> String {
    use base64::Engine;
    if !name.is_ascii() {
        // An encoded word has 75 characters at most; a name of more than 40 octets is cut rather than spread.
        let end = (0..=name.len().min(40)).rev().find(|&end| name.is_char_boundary(end)).unwrap_or_default();
        return format!("=?utf-8?B?{}?=", base64::engine::general_purpose::STANDARD.encode(&name[..end]));
    }
    let escaped: String =
        name.chars().flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c])).collect();
    format!("\"{escaped}\"")
}

/// The last hop was no hop: a file, left by this user.
fn trace(owner: &str) -> Trace {
    let protocol = Protocol { extended: false, tls: false, authenticated: false };
    Trace { peer: HERE, helo: Some("localhost".to_owned()), protocol, user: Some(owner.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_addresses_of_this_machine() {
        let letter = |sender, recipients: &[&str]| Letter {
            sender,
            recipients: recipients.iter().map(|&text| text.to_owned()).collect(),
            ..Letter::default()
        };
        let made = envelope(&letter(Sender::Owner, &["root", "you@example.com"]), "www-data", "relay.test").unwrap();
        assert_eq!(made.sender.unwrap().as_str(), "www-data@relay.test");
        let recipients: Vec<_> = made.recipients.iter().map(ToString::to_string).collect();
        assert_eq!(recipients, ["root@relay.test", "you@example.com"]);
        assert_eq!(envelope(&letter(Sender::Null, &["root"]), "cron", "relay.test").unwrap().sender, None);
        let named = letter(Sender::Address("lms@contoso.com".to_owned()), &["kät@example.com"]);
        let made = envelope(&named, "cron", "relay.test").unwrap();
        assert_eq!((made.sender.unwrap().as_str(), made.smtputf8), ("lms@contoso.com", true));
        assert!(envelope(&letter(Sender::Owner, &["a b"]), "cron", "relay.test").is_err());
    }

    #[test]
    fn a_missing_from_is_put_in_front_and_a_text_stays_a_text() {
        let from = Address::parse("root@relay.test").unwrap();
        let with = |name: Option<&str>, message: &str| {
            String::from_utf8(from_field(Some(&from), name, message.as_bytes())).unwrap() + message
        };
        assert_eq!(with(None, "Subject: x\r\n\r\ny"), "From: root@relay.test\r\nSubject: x\r\n\r\ny");
        assert_eq!(with(None, "\r\ny"), "From: root@relay.test\r\n\r\ny");
        assert_eq!(with(None, "only text\r\n"), "From: root@relay.test\r\n\r\nonly text\r\n");
        assert_eq!(with(Some("Cron \"D\""), ""), "From: \"Cron \\\"D\\\"\" <root@relay.test>\r\n\r\n");
        assert!(with(Some("Käthe"), "").starts_with("From: =?utf-8?B?S8OkdGhl?= <root@relay.test>\r\n"));
        assert!(has_from(b"Subject: x\r\nFROM: a\r\n\r\n") && !has_from(b"Subject: x\r\n\r\nFrom: a\r\n"));
    }
}
