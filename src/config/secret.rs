//! Secrets and where they come from. The only place that can show one.

use std::fmt;
use std::path::PathBuf;

use secrecy::{ExposeSecret, SecretString};

/// A secret text. Printing it prints nothing; memory is wiped when it goes.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text itself. Search for this call to see who reads secrets.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

/// Where a secret comes from. Read anew whenever it is needed, so that a replaced file takes effect without a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// Written in the configuration itself.
    Literal(Secret),
    /// The contents of a file, without white space around it.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// A credential of systemd: a file in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// What a command prints.
    Command(Vec<String>),
}

/// A secret could not be read. Says where it was looked for, never what was found.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SecretError(pub String);
