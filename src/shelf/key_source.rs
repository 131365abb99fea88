//! Where the key is: in a configured secret, or in the data folder.

use std::path::Path;

use crate::config::{Config, Environment, SecretSource, seen_by_others};
use crate::store::{Key, KeyFile, VaultError};

/// Reads the keys, the one that seals first. Cheap to clone.
#[derive(Clone, Debug)]
pub struct KeySource {
    configured: Option<SecretSource>,
    environment: Environment,
    file: KeyFile,
}

/// Who may write it.
pub(super) enum Place<'a> {
    /// The relay itself: it made it.
    Own(&'a KeyFile),
    /// A person.
    Configured(&'a SecretSource),
}

impl KeySource {
    /// That of this configuration.
    pub fn of(config: &Config, environment: &Environment) -> Self {
        Self { configured: config.key.clone(), environment: environment.clone(), file: KeyFile::of(&config.data_dir) }
    }

    /// Which of the two it is.
    pub(super) fn place(&self) -> Place<'_> {
        self.configured.as_ref().map_or(Place::Own(&self.file), Place::Configured)
    }

    /// The relay's own key file.
    pub(super) fn file(&self) -> KeyFile {
        self.file.clone()
    }

    /// Reads them anew: a file that was put back takes effect. Never on an async thread: this reads files and may run a command.
    pub(super) async fn read(&self) -> Result<Vec<Key>, VaultError> {
        let source = self.clone();
        blocking(move || match &source.configured {
            Some(secret) => {
                let text = secret.read(&source.environment)?;
                Key::read_all(text.expose().as_bytes()).ok_or_else(|| VaultError::NotAKey(secret.to_string()))
            }
            None => source.file.read(),
        })
        .await
    }

    /// Says when others may read the relay's own key file. Of a configured file `check-config` and every start say it.
    pub(super) fn warn_of_exposure(&self) {
        let path: &Path = self.file.path();
        if self.configured.is_none() && seen_by_others(path) {
            let path = path.display();
            tracing::warn!("the key {path} can be read by every user of this machine: chmod 600 {path}");
        }
    }
}

/// Runs something that waits for the disk or for a command, off the async threads. A panic in it goes on here.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => std::panic::resume_unwind(Box::new(error.to_string())),
        },
    }
}
