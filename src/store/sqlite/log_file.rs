//! Keeps the write-ahead log's file longer than the log.
//!
//! A sync of a file that has just grown waits for the file system's journal; one of a file that was written over does not, and is
//! several times quicker. So whenever the file has grown it is made longer by as much again, and the next commits write over zeros.
//! SQLite takes no notice of what stands behind the log's last frame: it is no frame, because its checksum is wrong
//! (<https://sqlite.org/fileformat2.html#wal_file_format>). It goes with the log when the relay ends.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The least and the most that is added at once, in octets: little for a relay with little to do, and never so much that mail waits.
const LEAST: u64 = 256 * 1024;
const MOST: u64 = 2 << 20;
/// What is written at a time.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// The file behind the log. Belongs to the thread that commits: nobody else may make the log longer meanwhile.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    /// `None` until there is a log.
    file: Option<File>,
    /// How long it was when it was last looked at.
    length: u64,
}

impl LogFile {
    /// The log of the database at `path`; there need not be one yet.
    pub fn of(path: &Path) -> Self {
        let mut name = path.as_os_str().to_owned();
        name.push("-wal");
        Self { path: name.into(), file: None, length: 0 }
    }

    /// Makes the file longer if it has grown since the last call. To be called between commits.
    ///
    /// # Errors
    /// What the system says, such as that the disk is full. Then nothing is lost but time.
    pub fn tend(&mut self) -> io::Result<()> {
        if self.file.is_none() {
            self.file = Some(OpenOptions::new().write(true).open(&self.path)?);
        }
        let Some(file) = &self.file else { return Ok(()) };
        let length = file.metadata()?.len();
        let has_grown = length > self.length;
        self.length = length;
        if !has_grown {
            return Ok(());
        }
        let wanted = length + length.clamp(LEAST, MOST);
        while self.length < wanted {
            let piece = usize::try_from(wanted - self.length).map_or(ZEROS.len(), |left| left.min(ZEROS.len()));
            file.write_all_at(&ZEROS[..piece], self.length)?;
            self.length += piece as u64;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_has_grown_is_made_longer_and_what_stands_in_it_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("queue.db-wal");
        let mut file = LogFile::of(&folder.path().join("queue.db"));
        assert_eq!(file.tend().unwrap_err().kind(), io::ErrorKind::NotFound);

        std::fs::write(&log, b"frames").unwrap();
        file.tend().unwrap();
        let first = std::fs::read(&log).unwrap();
        assert!(first.starts_with(b"frames\0") && first.len() as u64 == 6 + LEAST);

        file.tend().unwrap();
        assert_eq!(std::fs::metadata(&log).unwrap().len(), 6 + LEAST, "it has not grown");

        File::options().write(true).open(&log).unwrap().set_len(100 << 20).unwrap();
        file.tend().unwrap();
        assert_eq!(std::fs::metadata(&log).unwrap().len(), (100 << 20) + MOST);

        File::options().write(true).open(&log).unwrap().set_len(0).unwrap();
        file.tend().unwrap();
        assert_eq!(std::fs::metadata(&log).unwrap().len(), 0, "somebody has emptied it");
    }
}
