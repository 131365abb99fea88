//! The drop folder and the names in it.
//!
//! | name | is |
//! |---|---|
//! | `.RANDOM` | being written by somebody |
//! | `RANDOM.mail` | whole, synced, for the relay to take |
//! | `ID.taken` | the message of this name in the queue, or about to be; anybody can give such a name, so an id from the future counts as none |
//! | `bad/` | what could not be sent; the log says why. The relay's own, or nothing is put there |

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Mode, OFlags};

use super::letter::Letter;
use crate::message::QueueId;

/// For whoever may write: all, but only in. For whom files are: the folder's group.
const MODE: u32 = 0o3733;
/// Sticky, which must not be lacking where everybody may write.
const STICKY: u32 = 0o1000;
/// A file that has been in the making for so long will never be whole.
const ABANDONED: Duration = Duration::from_hours(24);
/// Files that are taken in one go, so that a flood of them does not fill the memory. What is no mail does not count: it cannot be in the
/// way of mail.
const SHARE: usize = 1000;
/// Those that an earlier look has begun with: all of them, short of a flood.
const MOST_TAKEN: usize = 10 * SHARE;

/// The relay's side of the folder.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
}

/// What there is to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Names of whole files, oldest name first.
    pub new: Vec<PathBuf>,
    /// What an earlier look has begun with.
    pub taken: Vec<(QueueId, PathBuf)>,
    /// There is more than fits into one look.
    pub more: bool,
}

/// A file that was opened safely.
#[derive(Debug)]
pub(super) struct Opened {
    pub file: File,
    /// Whose it is: nobody but that user, or root, could have put it there.
    pub owner: u32,
    pub size: u64,
}

impl Folder {
    /// Makes the folder in `data_dir` if it is not there.
    ///
    /// Inside systemd's sandbox (`RestrictSUIDSGID=`) nobody can make a folder like this; then the installation has to (`tmpfiles.d`), and
    /// the log says so.
    ///
    /// # Errors
    /// When there is none and none can be made at all.
    pub fn prepare(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join("drop");
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {
                if let Err(error) = fs::set_permissions(&path, Permissions::from_mode(MODE)) {
                    tracing::warn!(
                        path = %path.display(), %error,
                        "only the relay's own user can use sendmail; for all users: chmod 3733 {}", path.display()
                    );
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let mode = fs::symlink_metadata(&path)?.mode();
        if mode & 0o002 != 0 && mode & STICKY == 0 {
            tracing::error!(path = %path.display(), "everybody may remove the mail of others: chmod 3733 {}", path.display());
        }
        let folder = Self { path };
        // Now, before anybody else makes one.
        if let Err(error) = folder.aside() {
            tracing::error!(%error, "mail that cannot be sent could not be put aside");
        }
        Ok(folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Looks what is there. Removes what was abandoned.
    pub(super) fn look(&self) -> io::Result<Found> {
        let mut found = Found::default();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // Somebody else's folder could not be put aside: nothing is made of it, whatever its name.
            if entry.file_type()?.is_dir() {
                continue;
            }
            let (name, path) = (entry.file_name(), entry.path());
            match Name::of(&name) {
                Name::New if found.new.len() >= SHARE => found.more = true,
                Name::New => found.new.push(path),
                Name::Taken(_) if found.taken.len() >= MOST_TAKEN => {}
                Name::Taken(id) => found.taken.push((id, path)),
                Name::Unfinished => remove_if_abandoned(&path),
                Name::Foreign => {}
            }
        }
        found.new.sort();
        found.taken.sort();
        Ok(found)
    }

    /// The name of the file from which the message `id` is made.
    pub(super) fn taken(&self, id: QueueId) -> PathBuf {
        self.path.join(format!("{id}.taken"))
    }

    /// New names are on disk: what was renamed is found under its new name after a crash.
    pub(super) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    /// Puts a file that cannot be sent where it is not looked at any more; where it is then.
    pub(super) fn put_aside(&self, path: &Path) -> io::Result<PathBuf> {
        let aside = self.aside()?.join(path.file_name().unwrap_or(OsStr::new("file")));
        fs::rename(path, &aside)?;
        Ok(aside)
    }

    /// The folder for that. Everybody may make a folder here, and whoever owns one can remove what is in it: mail of others goes into
    /// none but ours.
    fn aside(&self) -> io::Result<PathBuf> {
        let folder = self.path.join("bad");
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let found = fs::symlink_metadata(&folder)?;
        let is_ours = found.is_dir() && found.uid() == rustix::process::geteuid().as_raw();
        if is_ours && found.mode() & 0o022 == 0 {
            return Ok(folder);
        }
        Err(io::Error::other(format!("{} is no folder of the relay's own user: remove it", folder.display())))
    }
}

/// Opens a file that anybody may have put there: no link is followed, no pipe or device is waited for.
pub(super) fn open(path: &Path) -> io::Result<Opened> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let metadata = file.metadata()?;
    // A second name may be a link to somebody else's file, which then is not from its owner.
    if !metadata.is_file() || metadata.nlink() != 1 {
        return Err(io::Error::other("it is no plain file with a single name"));
    }
    Ok(Opened { file, owner: metadata.uid(), size: metadata.len() })
}

#[derive(Debug, PartialEq, Eq)]
enum Name {
    New,
    Taken(QueueId),
    Unfinished,
    Foreign,
}

impl Name {
    fn of(name: &OsStr) -> Self {
        let Some(name) = name.to_str() else { return Self::Foreign };
        if let Some(id) = name.strip_suffix(".taken").and_then(|id| id.parse().ok()) {
            return Self::Taken(id);
        }
        match name {
            _ if name.starts_with('.') => Self::Unfinished,
            _ if name.strip_suffix(".mail").is_some() => Self::New,
            _ => Self::Foreign,
        }
    }
}

/// Whoever writes a mail takes seconds, and begins anew with another name if that fails.
fn remove_if_abandoned(path: &Path) {
    let Ok(metadata) = fs::symlink_metadata(path) else { return };
    let age = metadata.modified().ok().and_then(|at| SystemTime::now().duration_since(at).ok());
    if !metadata.is_dir() && age.is_some_and(|age| age > ABANDONED) {
        match fs::remove_file(path) {
            Ok(()) => tracing::info!(path = %path.display(), "an unfinished mail of a day ago was removed"),
            Err(error) => tracing::warn!(path = %path.display(), %error, "could not remove an unfinished mail"),
        }
    }
}

/// Why a mail could not be left.
#[derive(Debug, thiserror::Error)]
pub enum LeaveError {
    /// There is no drop folder.
    #[error(
        "there is no drop folder {}: start the relay once (or systemd-tmpfiles --create), or name its configuration in \
         $XOAUTH2_RELAY_CONFIG",
        .0.display()
    )]
    NoFolder(PathBuf),
    /// It is not for this user.
    #[error("may not leave mail in {}: as root: chmod 3733 {}; chmod o+x {}", .0.display(), .0.display(), .1.display())]
    NotAllowed(PathBuf, PathBuf),
    /// The relay could not read what is left.
    #[error("mail left in {} could not be read by the relay: as root: chmod 3733 {}", .0.display(), .0.display())]
    NotReadable(PathBuf),
    /// The disk is full, or whatever else the system says.
    #[error("cannot write in {}: {}", .0.display(), .1)]
    Failed(PathBuf, #[source] io::Error),
}

/// Leaves a mail for the relay that works in `data_dir`. Once this returns, the mail is on disk and the relay will find it.
///
/// # Errors
/// Nothing is left behind then.
pub fn leave(data_dir: &Path, letter: &Letter, message: &mut dyn Read) -> Result<(), LeaveError> {
    let folder = data_dir.join("drop");
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => LeaveError::NoFolder(folder.clone()),
        io::ErrorKind::PermissionDenied => LeaveError::NotAllowed(folder.clone(), data_dir.to_owned()),
        _ => LeaveError::Failed(folder.clone(), error),
    };
    // Nobody guesses it, so nobody can be there first.
    let name: u128 = rand::random();
    let unfinished = Unfinished(folder.join(format!(".{name:032x}")));
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o640).open(&unfinished.0).map_err(failed)?;
    // The umask of whoever calls is not to keep the relay from reading it.
    file.set_permissions(Permissions::from_mode(0o640)).map_err(failed)?;
    let (mine, its) = (file.metadata().map_err(failed)?, fs::metadata(&folder).map_err(failed)?);
    if its.uid() != mine.uid() && its.gid() != mine.gid() && its.uid() != 0 {
        return Err(LeaveError::NotReadable(folder));
    }
    let written = file
        .write_all(letter.to_text().as_bytes())
        .and_then(|()| io::copy(message, &mut file))
        .and_then(|_| file.sync_all());
    written.map_err(failed)?;
    fs::rename(&unfinished.0, folder.join(format!("{name:032x}.mail"))).map_err(failed)?;
    unfinished.keep();
    sync_name(&folder, &file).map_err(failed)
}

/// The name is on disk too. Who may not read the folder cannot sync it; then the whole file system is.
fn sync_name(folder: &Path, file: &File) -> io::Result<()> {
    match File::open(folder) {
        Ok(folder) => folder.sync_all(),
        Err(_) => Ok(rustix::fs::syncfs(file)?),
    }
}

/// Removed when it goes, unless it has become whole.
struct Unfinished(PathBuf);

impl Unfinished {
    fn keep(mut self) {
        self.0 = PathBuf::new();
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            // What cannot be removed now the relay removes after a day.
            let _ = fs::remove_file(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pickup::letter::Letter;

    fn letter() -> Letter {
        Letter { recipients: vec!["root".to_owned()], ..Letter::default() }
    }

    #[test]
    fn what_is_left_is_found_whole_and_nothing_else_is() {
        let data_dir = tempfile::tempdir().unwrap();
        let folder = Folder::prepare(data_dir.path()).unwrap();
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o7777, MODE);
        leave(data_dir.path(), &letter(), &mut &b"hello"[..]).unwrap();
        fs::write(folder.path().join(".begun"), "").unwrap();
        fs::write(folder.path().join("README"), "").unwrap();
        let found = folder.look().unwrap();
        let [path] = &found.new[..] else { panic!("{found:?}") };
        let metadata = fs::metadata(path).unwrap();
        assert_eq!(metadata.mode() & 0o7777, 0o640);
        let text = fs::read_to_string(path).unwrap();
        assert_eq!(text, "xoauth2-relay drop 1\nrecipient root\n\nhello");
        assert!(folder.path().join(".begun").exists(), "somebody may be writing it just now");

        let id = QueueId::from_number(7);
        fs::rename(path, folder.taken(id)).unwrap();
        assert_eq!(folder.look().unwrap().taken, [(id, folder.taken(id))]);
    }

    #[test]
    fn any_number_of_files_is_taken_in_shares_and_other_names_are_in_nobodys_way() {
        let data_dir = tempfile::tempdir().unwrap();
        let folder = Folder::prepare(data_dir.path()).unwrap();
        for n in 0..=SHARE {
            fs::write(folder.path().join(format!("{n}.mail")), "").unwrap();
            fs::write(folder.path().join(format!(".{n}")), "").unwrap();
        }
        fs::create_dir(folder.path().join("folder.mail")).unwrap();
        let found = folder.look().unwrap();
        assert_eq!((found.new.len(), found.more), (SHARE, true));
        for path in found.new {
            fs::remove_file(path).unwrap();
        }
        let found = folder.look().unwrap();
        assert_eq!((found.new.len(), found.more), (1, false));
    }

    #[test]
    fn what_was_abandoned_goes() {
        let data_dir = tempfile::tempdir().unwrap();
        let folder = Folder::prepare(data_dir.path()).unwrap();
        let path = folder.path().join(".abandoned");
        let old = SystemTime::now() - ABANDONED - Duration::from_mins(1);
        File::create(&path).unwrap().set_modified(old).unwrap();
        folder.look().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn links_pipes_and_folders_are_not_opened() {
        let data_dir = tempfile::tempdir().unwrap();
        let folder = Folder::prepare(data_dir.path()).unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("plain.mail"), "hello").unwrap();
        assert_eq!(open(&at("plain.mail")).unwrap().size, 5);
        std::os::unix::fs::symlink("/etc/passwd", at("link.mail")).unwrap();
        fs::write(at("first"), "").unwrap();
        fs::hard_link(at("first"), at("second.mail")).unwrap();
        fs::create_dir(at("folder.mail")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at("pipe.mail")).status().unwrap().success());
        for name in ["link.mail", "second.mail", "folder.mail", "pipe.mail"] {
            open(&at(name)).unwrap_err();
            let aside = folder.put_aside(&at(name)).unwrap();
            assert!(fs::symlink_metadata(aside).is_ok() && !at(name).exists());
        }
    }

    #[test]
    fn a_message_that_fails_half_way_leaves_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the program has died"))
            }
        }
        let data_dir = tempfile::tempdir().unwrap();
        let told = leave(data_dir.path(), &letter(), &mut &b""[..]).unwrap_err().to_string();
        assert!(told.starts_with("there is no drop folder"), "{told}");
        let folder = Folder::prepare(data_dir.path()).unwrap();
        leave(data_dir.path(), &letter(), &mut Broken).unwrap_err();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["bad"]);
    }

    #[test]
    fn mail_is_put_aside_where_nobody_else_can_remove_it() {
        let data_dir = tempfile::tempdir().unwrap();
        let folder = Folder::prepare(data_dir.path()).unwrap();
        let (mail, bad) = (folder.path().join("1.mail"), folder.path().join("bad"));
        fs::write(&mail, "hello").unwrap();
        let refused = || {
            let error = folder.put_aside(&mail).unwrap_err().to_string();
            assert!(error.contains("no folder of the relay's own user") && mail.exists(), "{error}");
        };
        fs::set_permissions(&bad, Permissions::from_mode(0o777)).unwrap();
        refused();
        fs::remove_dir(&bad).unwrap();
        std::os::unix::fs::symlink(data_dir.path(), &bad).unwrap();
        refused();
        fs::remove_file(&bad).unwrap();
        folder.put_aside(&mail).unwrap();
        assert!(bad.join("1.mail").exists());
    }
}
