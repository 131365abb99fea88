//! The apps' passwords of one configuration: their hashes, and the logins that were right.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, OnceLock};

use blake2::Blake2bMac;
use blake2::digest::consts::U32;
use blake2::digest::{FixedOutput as _, KeyInit as _, Update as _};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::config::{App, Config, Environment, Secret, SecretSource};
use crate::inbound::auth::Password;
use crate::password::{self, PasswordHash};

/// What a right login is remembered by.
type Tag = [u8; 32];

/// One configuration's passwords.
#[derive(Debug)]
pub(super) struct Book {
    /// The configuration.
    pub(super) config: Arc<Config>,
    entries: Vec<Entry>,
    /// For the tags; another one for each book, so that a tag is good for nothing elsewhere.
    key: Zeroizing<[u8; 64]>,
    /// Chooses stand-ins.
    hasher: RandomState,
}

/// One app's password.
#[derive(Debug)]
pub(super) struct Entry {
    app: String,
    /// Empty as long as it cannot be read.
    hash: OnceLock<PasswordHash>,
    /// The tag of the password, once somebody has logged in with it.
    known: OnceLock<Tag>,
}

impl Entry {
    pub(super) fn is_readable(&self) -> bool {
        self.hash.get().is_some()
    }
}

impl Book {
    /// Reads and hashes. Blocks: on files, on commands, and for the time that each hash takes.
    pub(super) fn read(config: Arc<Config>, environment: &Environment) -> Self {
        let with_password = config.apps.iter().filter(|app| app.password.is_some());
        let entry = |app: &Arc<App>| {
            let hash = read(app, environment).and_then(|secret| hashed(app, &secret));
            let hash = hash.inspect_err(|error| {
                tracing::error!(app = app.name, "an app cannot log in: {error}; it is tried again every minute");
            });
            Entry {
                app: app.name.clone(),
                hash: hash.map_or_else(|_| OnceLock::new(), OnceLock::from),
                known: OnceLock::new(),
            }
        };
        let entries = with_password.map(entry).collect();
        Self { config, entries, key: Zeroizing::new(rand::random()), hasher: RandomState::new() }
    }

    /// Tries once more what could not be read. Blocks likewise.
    pub(super) fn read_missing(&self, environment: &Environment) {
        for entry in self.entries.iter().filter(|entry| !entry.is_readable()) {
            let app = self.config.apps.iter().find(|app| app.name == entry.app);
            if let Some(app) = app
                && let Ok(hash) = read(app, environment).and_then(|secret| hashed(app, &secret))
            {
                tracing::info!(app = app.name, "an app can log in again: its password can be read");
                entry.hash.get_or_init(|| hash);
            }
        }
    }

    /// Whether every password could be read.
    pub(super) fn is_complete(&self) -> bool {
        self.entries.iter().all(Entry::is_readable)
    }

    pub(super) fn entry(&self, app: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.app == app)
    }

    /// Somebody whose password is compared in the place of one that there is not: always the same one for the same name.
    pub(super) fn stand_in(&self, user: &str) -> Option<&Entry> {
        let readable: Vec<_> = self.entries.iter().filter(|entry| entry.is_readable()).collect();
        let chosen =
            self.hasher.hash_one(user.to_ascii_lowercase()) % u64::try_from(readable.len()).ok().filter(|&n| n > 0)?;
        readable.get(usize::try_from(chosen).ok()?).copied()
    }

    /// Where it stands.
    pub(super) fn place_of(&self, entry: &Entry) -> usize {
        self.entries.iter().position(|other| std::ptr::eq(other, entry)).unwrap_or(usize::MAX)
    }

    /// Whether somebody has logged in with this password already.
    pub(super) fn remembers(&self, entry: &Entry, password: &Password) -> bool {
        entry.known.get().is_some_and(|known| known.ct_eq(&self.tag(entry, password)).into())
    }

    /// Whether this is the password of the entry at this place; if it is, it is remembered. Takes tens of milliseconds.
    pub(super) fn fits(&self, place: usize, password: &Password) -> bool {
        let Some(entry) = self.entries.get(place) else { return false };
        let fits = entry.hash.get().is_some_and(|hash| hash.fits(password.expose()));
        if fits {
            // There is only one that fits: whoever was first has remembered the same.
            entry.known.get_or_init(|| self.tag(entry, password));
        }
        fits
    }

    fn tag(&self, entry: &Entry, password: &Password) -> Tag {
        let mut mac = Blake2bMac::<U32>::new((&*self.key).into());
        mac.update(entry.app.as_bytes());
        mac.update(&[0]);
        mac.update(password.expose());
        mac.finalize_fixed().into()
    }
}

fn read(app: &App, environment: &Environment) -> Result<Secret, String> {
    let source = app.password.as_ref().ok_or("it has no password")?;
    source.read(environment).map_err(|error| error.to_string())
}

fn hashed(app: &App, secret: &Secret) -> Result<PasswordHash, String> {
    // What stands in the configuration or in a file was looked at when the configuration was checked.
    let is_new = !matches!(app.password, Some(SecretSource::Literal(_) | SecretSource::File(_)));
    if let Ok(Some(weakness)) = password::examine(secret.expose())
        && is_new
    {
        tracing::warn!(app = app.name, "the password of an app {weakness}");
    }
    PasswordHash::of(secret.expose()).map_err(|error| format!("its password {error}"))
}
