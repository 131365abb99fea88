//! The relay's configuration file as text: new accounts are added at its end, everything else stays byte for byte.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::config::{Account, Config, Environment};
use crate::import::{Found, Proof};

/// What is larger is not one of the files that are meant.
const MAX_FILE: u64 = 1 << 20;
/// Client secrets, within the data folder: what is there is private, and the relay's own user can read it.
pub(super) const SECRETS: &str = "secrets";
/// The configuration may be read by everybody: no secret is put into it.
const MODE: u32 = 0o644;

/// The file as it is.
pub(super) struct ConfigFile {
    /// The file itself, behind any link.
    pub path: PathBuf,
    /// `None`: there is none yet.
    pub text: Option<String>,
    /// Its accounts.
    pub accounts: Vec<Arc<Account>>,
    environment: Environment,
}

impl ConfigFile {
    /// Reads it. That it has no account yet, or is not there at all, is no error; that it cannot be read is one.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let path = fs::canonicalize(path).or_else(|_| std::path::absolute(path))?;
        let text = read_text(&path)?;
        let mut file = Self { path, text, accounts: Vec::new(), environment: Environment::of_process() };
        if let Some(text) = &file.text
            && let Ok(config) = Config::from_text(text, &file.path.display().to_string(), &file.environment)
        {
            file.accounts = config.accounts;
        }
        Ok(file)
    }

    /// The text with more at its end.
    pub(super) fn with(&self, blocks: &str) -> String {
        let text = match self.text.as_deref() {
            None => "# The relay's configuration; every key is explained in docs/configuration.md.\n",
            Some(text) => text,
        };
        let separator = match text {
            _ if blocks.is_empty() => "",
            "" => "",
            text if text.ends_with('\n') => "\n",
            _ => "\n\n",
        };
        format!("{text}{separator}{blocks}")
    }

    /// Checks a text as if it were the file.
    pub(super) fn check(&self, text: &str) -> anyhow::Result<Config> {
        let name = self.path.display().to_string();
        Config::from_text(text, &name, &self.environment).map_err(|problems| {
            anyhow::anyhow!(
                "the configuration would not be good with the accounts added, so nothing was changed:\n{problems}"
            )
        })
    }

    /// Checks one new account by itself.
    pub(super) fn check_block(&self, block: &str) -> Result<(), String> {
        let Err(problems) = Config::from_text(block, &self.path.display().to_string(), &Environment::default()) else {
            return Ok(());
        };
        let problem = |key: &str, text: &str| match key.strip_prefix("account[0].") {
            Some(key) => format!("{key} {text}"),
            None => format!("{key} {text}"),
        };
        let problems: Vec<String> = problems.iter().map(|found| problem(&found.key, &found.text)).collect();
        Err(problems.join("; "))
    }

    /// Replaces the file at one stroke, with the mode and the owner that it had.
    pub(super) fn replace(&self, text: &str) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        if !folder.is_dir() {
            DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        }
        let mut new = tempfile::Builder::new().prefix(".relay.toml.").tempfile_in(folder)?;
        new.write_all(text.as_bytes())?;
        match fs::metadata(&self.path) {
            Ok(old) => {
                // A copy of a file that several may read must not be readable by more of them.
                let is_ours = new.as_file().metadata()?;
                if (is_ours.uid(), is_ours.gid()) != (old.uid(), old.gid()) {
                    chown(new.path(), Some(old.uid()), Some(old.gid()))?;
                }
                new.as_file().set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                new.as_file().set_permissions(Permissions::from_mode(MODE))?;
            }
            Err(error) => return Err(error),
        }
        new.as_file().sync_all()?;
        if read_text(&self.path).map_err(io::Error::other)? != self.text {
            return Err(io::Error::other("somebody else has changed it meanwhile"));
        }
        new.persist(&self.path).map_err(|error| error.error)?;
        File::open(folder)?.sync_all()
    }
}

/// A text file of at most 1 MiB; `None` if it is not there.
pub(super) fn read_text(path: &Path) -> anyhow::Result<Option<String>> {
    let mut octets = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut octets));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
    if octets.len() as u64 > MAX_FILE {
        bail!("{} is larger than 1 MiB: that is not the file that is meant", path.display());
    }
    match String::from_utf8(octets) {
        Ok(text) => Ok(Some(text)),
        Err(_) => bail!("{} is not a text in UTF-8: save it in that encoding", path.display()),
    }
}

/// Client secrets as files of their own.
pub(super) struct SecretFiles {
    data_dir: PathBuf,
    made: Vec<PathBuf>,
}

impl SecretFiles {
    /// Those within this data folder.
    pub(super) fn of(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned(), made: Vec::new() }
    }

    /// Where an account's secret is or would be; `None` if it has none. One that is there with other contents is left alone.
    pub(super) fn place(&self, found: &Found) -> Option<PathBuf> {
        let Proof::Secret(secret) = &found.proof else { return None };
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '@' | '.' | '-' | '_' | '+');
        let name: String = found.mailbox.key().chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
        let place = |n: u32| match n {
            1 => self.data_dir.join(SECRETS).join(format!("{name}.client-secret")),
            n => self.data_dir.join(SECRETS).join(format!("{name}.{n}.client-secret")),
        };
        let is_free = |path: &PathBuf| match fs::read_to_string(path) {
            Ok(text) => text.trim() == secret.expose(),
            Err(error) => error.kind() == ErrorKind::NotFound,
        };
        (1..1000).map(place).find(is_free).or_else(|| Some(place(1000)))
    }

    /// Writes an account's secret, mode 0600, for the owner of the data folder; where.
    pub(super) fn keep(&mut self, found: &Found) -> anyhow::Result<Option<PathBuf>> {
        let (Proof::Secret(secret), Some(place)) = (&found.proof, self.place(found)) else { return Ok(None) };
        if place.exists() {
            return Ok(Some(place));
        }
        let folder = self.data_dir.join(SECRETS);
        if !fs::symlink_metadata(&folder).is_ok_and(|found| found.is_dir()) {
            DirBuilder::new()
                .mode(0o700)
                .create(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
            give_to_owner_of(&self.data_dir, &folder)?;
        }
        let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&place).and_then(|mut file| {
            self.made.push(place.clone());
            file.write_all(format!("{}\n", secret.expose()).as_bytes())?;
            file.sync_all()?;
            File::open(&folder)?.sync_all()
        });
        written.with_context(|| format!("cannot write {}", place.display()))?;
        give_to_owner_of(&self.data_dir, &place)?;
        Ok(Some(place))
    }

    /// Takes back what was made.
    pub(super) fn undo(&self) {
        for file in &self.made {
            if let Err(error) = fs::remove_file(file) {
                eprintln!("xoauth2-relay: cannot remove {} again: {error}", file.display());
            }
        }
    }
}

/// What root has made in the data folder of the relay's user has to be readable for that user.
pub(super) fn give_to_owner_of(folder: &Path, path: &Path) -> anyhow::Result<()> {
    let (owner, has) = (fs::metadata(folder)?, fs::symlink_metadata(path)?);
    if rustix::process::geteuid().is_root() && has.uid() == 0 && owner.uid() != 0 {
        std::os::unix::fs::lchown(path, Some(owner.uid()), Some(owner.gid()))
            .with_context(|| format!("cannot give {} to the relay's user", path.display()))?;
    }
    Ok(())
}
