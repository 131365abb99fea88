//! `data_dir/key`: the key that the relay makes for itself. Several keys may be in it, a line each: the first one seals, all of them open.
//!
//! A rotation puts the new key in front, has everything sealed anew, and then leaves the old one out. Whatever it is cut off by, each
//! key that something is sealed with is in the file, on disk. The file is never written in place: there is always a whole one.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Key, VaultError};

/// The key file of a data folder. Everything here blocks on the disk.
#[derive(Clone, Debug)]
pub struct KeyFile {
    path: PathBuf,
}

impl KeyFile {
    /// That of this data folder.
    pub fn of(data_dir: &Path) -> Self {
        Self { path: data_dir.join("key") }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its keys, the one that seals first.
    ///
    /// # Errors
    ///
    /// [`VaultError::Missing`] if there is no file; if it cannot be read, or something in it is no key.
    pub fn read(&self) -> Result<Vec<Key>, VaultError> {
        match fs::read(&self.path).map(Zeroizing::new) {
            Ok(octets) => {
                Key::read_all(&octets).ok_or_else(|| VaultError::NotAKey(format!("the file {}", self.path.display())))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(VaultError::Missing(self.path.clone())),
            Err(source) => Err(VaultError::File { path: self.path.clone(), source }),
        }
    }

    /// Puts these keys into it, in place of those that are there. They are on disk when this returns. The file is for its owner alone, and
    /// belongs to whom it belonged to, or else to the owner of the folder: root may be at work for the relay's user.
    pub fn write<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) -> Result<(), VaultError> {
        let failed = |source| VaultError::File { path: self.path.clone(), source };
        let mut text = Zeroizing::new(String::new());
        for key in keys {
            // Reserved beforehand, so that no copy is left behind where the text grows.
            let line = key.to_text();
            let mut longer = Zeroizing::new(String::with_capacity(text.len() + line.len() + 1));
            longer.push_str(&text);
            longer.push_str(&line);
            longer.push('\n');
            text = longer;
        }
        self.replace(text.as_bytes()).map_err(failed)
    }

    fn replace(&self, octets: &[u8]) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let owner = fs::metadata(&self.path).or_else(|_| fs::metadata(folder))?;
        // Written aside: a key cut short by a crash would be refused at the next start.
        let aside = self.path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        let own = file.metadata()?;
        if (own.uid(), own.gid()) != (owner.uid(), owner.gid()) && own.uid() == 0 {
            fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
        }
        file.write_all(octets)?;
        file.sync_all()?;
        fs::rename(&aside, &self.path)?;
        fs::File::open(folder)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_for_its_owner_alone_and_keeps_the_order() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::of(folder.path());
        assert!(matches!(file.read(), Err(VaultError::Missing(path)) if path == file.path()));
        let (new, old) = (Key::random(), Key::random());
        for keys in [vec![&old], vec![&new, &old], vec![&new]] {
            file.write(keys.iter().copied()).unwrap();
            let read = file.read().unwrap();
            assert!(read.iter().map(Key::id).eq(keys.iter().map(|key| key.id())));
            let mode = fs::metadata(file.path()).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn what_is_no_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::of(folder.path());
        fs::write(file.path(), "password\n").unwrap();
        let text = file.read().unwrap_err().to_string();
        assert!(text.contains("/key holds no key") && !text.contains("password"), "{text}");
        fs::remove_file(file.path()).unwrap();
        fs::create_dir(file.path()).unwrap();
        assert!(matches!(file.read(), Err(VaultError::File { .. })));
        assert!(matches!(file.write([&Key::random()]), Err(VaultError::File { .. })));
    }
}
