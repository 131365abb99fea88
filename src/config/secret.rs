//! Secrets and where they come from. The only place that can show one.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::{Environment, command};

/// No secret is longer; whoever names a log file or a device by mistake gets told so.
pub(super) const MAX_LENGTH: u64 = 64 * 1024;

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

impl SecretSource {
    /// Reads the secret, without white space around it.
    ///
    /// Blocks: files are read, and a command is run for up to ten seconds, without a shell.
    ///
    /// # Errors
    /// When there is nothing, or nothing but white space, or what is there is no text. The error says where it was looked for.
    pub fn read(&self, environment: &Environment) -> Result<Secret, SecretError> {
        let secret = match self {
            Self::Literal(secret) => return Ok(secret.clone()),
            Self::File(path) => read_file(path),
            Self::Env(name) => match environment.var(name) {
                None => Err("is not set".to_owned()),
                Some(value) => text(value.as_encoded_bytes()),
            },
            Self::Credential(name) => credential_path(name, environment).and_then(|path| read_file(&path)),
            Self::Command(command) => command::output(command, environment).and_then(|octets| text(&octets)),
        };
        secret.map_err(|why| SecretError(format!("{self} {why}")))
    }

    /// Why reading would fail, without running anything: for `check-config`, which may run as somebody else.
    pub(super) fn cannot_be_there(&self) -> Option<String> {
        match self {
            Self::File(path) => match path.metadata() {
                Ok(metadata) if metadata.is_file() => (metadata.len() == 0).then(|| format!("{self} is empty")),
                Ok(metadata) if metadata.is_dir() => Some(format!("{self} is a folder")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Some(format!("{self} does not exist")),
                Ok(_) | Err(_) => None,
            },
            _ => None,
        }
    }
}

/// Names the source for messages, never the secret.
impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Literal(_) => f.write_str("the secret in the configuration"),
            Self::File(path) => write!(f, "the secret file {}", path.display()),
            Self::Env(name) => write!(f, "the environment variable {name}"),
            Self::Credential(name) => write!(f, "the credential {name}"),
            // Arguments may be secrets themselves.
            Self::Command(command) => write!(f, "the command {}", command.first().map_or("", String::as_str)),
        }
    }
}

fn credential_path(name: &str, environment: &Environment) -> Result<PathBuf, String> {
    let folder = environment.var("CREDENTIALS_DIRECTORY").filter(|folder| !folder.is_empty());
    match folder {
        Some(folder) => Ok(Path::new(folder).join(OsStr::new(name))),
        None => {
            Err("cannot be read: $CREDENTIALS_DIRECTORY is not set; systemd sets it for a unit with LoadCredential="
                .to_owned())
        }
    }
}

fn read_file(path: &Path) -> Result<Secret, String> {
    let mut octets = Zeroizing::new(Vec::new());
    File::open(path)
        .and_then(|file| file.take(MAX_LENGTH + 1).read_to_end(&mut octets))
        .map_err(|error| format!("cannot be read: {}", cause(&error)))?;
    text(&octets)
}

/// The secret within these octets.
fn text(octets: &[u8]) -> Result<Secret, String> {
    if octets.len() as u64 > MAX_LENGTH {
        return Err("holds more than 64 KiB: that is no secret".to_owned());
    }
    let Ok(text) = std::str::from_utf8(octets) else {
        return Err("holds something that is no text (UTF-8)".to_owned());
    };
    // Windows editors put a byte order mark in front.
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(Secret::new(text)) }
}

/// An error of the system without its number: "No such file or directory".
pub(super) fn cause(error: &io::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" (os error").map_or(text.clone(), |(text, _)| text.to_owned())
}

/// A secret could not be read. Says where it was looked for, never what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SecretError(pub String);

#[cfg(test)]
mod tests {
    use super::*;

    fn file(contents: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, contents).unwrap();
        (folder, path)
    }

    #[test]
    fn a_file_is_read_without_white_space_around_it() {
        for contents in ["s3cret", "s3cret\n", "  s3cret\r\n\n", "\u{feff}s3cret\n"] {
            let (_folder, path) = file(contents.as_bytes());
            assert_eq!(
                SecretSource::File(path).read(&Environment::default()),
                Ok(Secret::new("s3cret")),
                "{contents:?}"
            );
        }
    }

    #[test]
    fn a_file_without_a_secret_is_named_with_the_cause() {
        for (contents, why) in
            [(&b" \n"[..], "is empty"), (b"\xff\xfe", "no text (UTF-8)"), (&vec![b'x'; 65 * 1024], "more than 64 KiB")]
        {
            let (_folder, path) = file(contents);
            let error = SecretSource::File(path.clone()).read(&Environment::default()).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("the secret file {} ", path.display())) && error.contains(why),
                "{error}"
            );
        }
        let error = SecretSource::File("/nowhere/at/all".into()).read(&Environment::default()).unwrap_err();
        assert_eq!(error.to_string(), "the secret file /nowhere/at/all cannot be read: No such file or directory");
    }

    #[test]
    fn a_file_with_nothing_in_it_is_pointed_out_beforehand() {
        for (contents, said) in [(&b""[..], Some(" is empty")), (b"s3cret", None)] {
            let (_folder, path) = file(contents);
            let expected = said.map(|said| format!("the secret file {}{said}", path.display()));
            assert_eq!(SecretSource::File(path).cannot_be_there(), expected);
        }
    }

    #[test]
    fn a_variable_is_read_or_named() {
        let environment = Environment::from([("SECRET", " s3cret\n"), ("EMPTY", "")]);
        let read =
            |name: &str| SecretSource::Env(name.to_owned()).read(&environment).map_err(|error| error.to_string());
        assert_eq!(read("SECRET"), Ok(Secret::new("s3cret")));
        assert_eq!(read("EMPTY"), Err("the environment variable EMPTY is empty".to_owned()));
        assert_eq!(read("OTHER"), Err("the environment variable OTHER is not set".to_owned()));
    }

    #[test]
    fn a_credential_is_a_file_in_the_folder_of_systemd() {
        let (folder, _) = file(b"s3cret\n");
        let source = SecretSource::Credential("secret".to_owned());
        let environment = Environment::from([("CREDENTIALS_DIRECTORY", folder.path())]);
        assert_eq!(source.read(&environment), Ok(Secret::new("s3cret")));
        let error = source.read(&Environment::default()).unwrap_err().to_string();
        assert!(
            error.starts_with("the credential secret cannot be read: $CREDENTIALS_DIRECTORY is not set"),
            "{error}"
        );
    }

    #[test]
    fn printing_a_secret_shows_nothing() {
        let source = SecretSource::Literal(Secret::new("hunter2"));
        assert_eq!(format!("{source:?} {source}"), "Literal(Secret(…)) the secret in the configuration");
    }
}
