//! The data folder belongs to one process at a time.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The data folder, locked for as long as this lives. The lock goes with the process, however it ends.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

/// Why the data folder cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it: do without, or ask that one through its control socket.
    #[error(
        "another xoauth2-relay is running on {}{}: of the relay, a login, an import and rotate-key one at a time can work there; wait until \
         it has ended",
        path.display(),
        process(*pid)
    )]
    Taken {
        /// The folder.
        path: PathBuf,
        /// The other process, as far as it wrote it down.
        pid: Option<u32>,
    },
    /// It cannot be made or written.
    #[error("cannot {doing} {}: {source}; the data folder has to be writable for the relay's user", path.display())]
    Unusable {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn process(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

impl DataDir {
    /// Makes the folder if it is not there and takes the lock of it. The folder is for its owner, for its group to reach the control
    /// socket, and for others to pass through to the drop folder; what is in it is private by its own mode.
    pub fn lock(path: &Path) -> Result<Self, LockError> {
        let unusable = |doing, path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Unusable { doing, path, source }
        };
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o751).create(path).map_err(unusable("make", path))?;
        }
        let file_path = path.join("lock");
        let mut options = OpenOptions::new();
        let mut file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&file_path)
            .map_err(unusable("write", &file_path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(LockError::Taken { path: path.to_owned(), pid: read_pid(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(unusable("lock", &file_path)(source)),
        }
        probe(path).map_err(unusable("write in", path))?;
        write_pid(&mut file).map_err(unusable("write", &file_path))?;
        Ok(Self { path: path.to_owned(), _lock: file })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A folder that turned read-only still opens a lock file that is there.
fn probe(path: &Path) -> io::Result<()> {
    let probe = path.join("lock.probe");
    File::create(&probe)?;
    fs::remove_file(probe)
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_second_process_is_told_who_has_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/data");
        let first = DataDir::lock(&path).unwrap();
        let told = DataDir::lock(&path).unwrap_err().to_string();
        let expected =
            format!("another xoauth2-relay is running on {} (process {})", path.display(), std::process::id());
        assert!(told.starts_with(&expected), "{told}");
        drop(first);
        // A process that another test starts just now has the file open until it becomes its program.
        let deadline = Instant::now() + Duration::from_mins(1);
        while let Err(error) = DataDir::lock(&path) {
            assert!(Instant::now() < deadline, "{error}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_new_folder_can_be_listed_and_written_by_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");
        let data_dir = DataDir::lock(&path).unwrap();
        assert_eq!(data_dir.path(), path);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o751);
    }

    #[test]
    fn a_folder_that_cannot_be_is_named_in_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let told = DataDir::lock(&path).unwrap_err().to_string();
            assert!(told.starts_with(&format!("cannot make {}", path.display())), "{told}");
            assert!(!told.contains('\n'));
        }
    }
}
