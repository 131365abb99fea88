//! A listener's certificate and its key: read from PEM files, found to belong together, and read again when the files change.
//!
//! What is wrong with them is said in the same words by `check-config`, at the start and at a change.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Version};
use zeroize::Zeroizing;

use super::secret::cause;

/// What is said of a key that TLS cannot use.
const KEYS_OF_TLS: &str =
    "that TLS cannot use here: it has to be RSA with 2048 bits or more, ECDSA (P-256, P-384, P-521) or Ed25519";

/// No chain and no key is as long, in octets.
const MAX_FILE: u64 = 1 << 20;

/// A certificate with its chain, and the key that belongs to it.
#[derive(Clone)]
pub struct Certificate {
    file: PathBuf,
    key_file: PathBuf,
    pair: Arc<CertifiedKey>,
    not_before: Timestamp,
    not_after: Timestamp,
    stamp: Stamp,
}

/// Why a certificate cannot be used: what is wrong with one of its files, and the remedy. Shows nothing of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct CertificateError {
    /// The configuration key that names the file: `certificate` or `key`.
    pub key: &'static str,
    /// What is wrong.
    pub text: String,
}

impl CertificateError {
    fn certificate(text: String) -> Self {
        Self { key: "certificate", text }
    }

    fn key(text: String) -> Self {
        Self { key: "key", text }
    }
}

impl Certificate {
    /// Reads both files. Blocks on the disk.
    ///
    /// # Errors
    /// Everything that is wrong with either of them.
    pub fn read(file: &Path, key_file: &Path) -> Result<Self, Vec<CertificateError>> {
        Self::read_with(file, key_file, KEYS_OF_TLS)
    }

    /// As [`Certificate::read`]; `keys` says which keys there can be, behind "holds a key".
    pub(super) fn read_with(file: &Path, key_file: &Path, keys: &str) -> Result<Self, Vec<CertificateError>> {
        // Before the files are read: what changes meanwhile is a change.
        let stamp = Stamp::of(file, key_file);
        let chain = read_file(file).map_err(CertificateError::certificate);
        let chain = chain.and_then(|pem| chain_of(file, &pem).map_err(CertificateError::certificate));
        let key = read_file(key_file).map_err(CertificateError::key);
        let key = key.and_then(|pem| key_of(key_file, &pem).map_err(CertificateError::key));
        let (chain, key) = match (chain, key) {
            (Ok(chain), Ok(key)) => (chain, key),
            (chain, key) => return Err([chain.err(), key.err()].into_iter().flatten().collect()),
        };
        let (not_before, not_after) = validity(&chain[0]).ok_or_else(|| {
            let text = format!("{} holds a certificate that cannot be understood: get it anew", file.display());
            vec![CertificateError::certificate(text)]
        })?;
        let pair = pair(file, chain, key_file, key, keys).map_err(|error| vec![error])?;
        let (file, key_file) = (file.to_owned(), key_file.to_owned());
        Ok(Self { file, key_file, pair: Arc::new(pair), not_before, not_after, stamp })
    }

    /// Reads the same files again. Blocks on the disk.
    ///
    /// # Errors
    /// As [`Certificate::read`].
    pub fn read_again(&self) -> Result<Self, Vec<CertificateError>> {
        Self::read(&self.file, &self.key_file)
    }

    /// Whether the files are others than those that were read: two calls of `stat`.
    pub fn has_changed(&self) -> bool {
        Stamp::of(&self.file, &self.key_file) != self.stamp
    }

    /// What TLS needs.
    pub fn pair(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.pair)
    }

    /// The certificate and its chain.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.pair.cert
    }

    /// Both files, the certificate's first.
    pub(super) fn files(&self) -> (&Path, &Path) {
        (&self.file, &self.key_file)
    }

    /// From when on it is good.
    pub(super) fn not_before(&self) -> Timestamp {
        self.not_before
    }

    /// The file of the certificate, for messages.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// How long it is good in all.
    pub fn life(&self) -> std::time::Duration {
        std::time::Duration::try_from(self.not_after.duration_since(self.not_before)).unwrap_or_default()
    }

    /// The last moment at which it is good.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// The file or folder that keeps this user (its number) from reading them, and which key names it. What is open to some group counts
    /// as open: which groups the user will be in is not known.
    pub(super) fn closed_to(&self, user: u32) -> Option<(&'static str, PathBuf)> {
        [("certificate", &self.file), ("key", &self.key_file)].into_iter().find_map(|(key, file)| {
            let file = fs::canonicalize(file).ok()?;
            let closed = file.ancestors().enumerate().find(|(n, path)| {
                // The file is to be read, the folders above it to be passed.
                let right = if *n == 0 { 0o4 } else { 0o1 };
                let Ok(found) = fs::metadata(path) else { return false };
                let of_owner = if found.uid() == user { right << 6 } else { 0 };
                found.mode() & (of_owner | right << 3 | right) == 0
            });
            closed.map(|(_, path)| (key, path.to_owned()))
        })
    }

    /// Why programs may refuse it at this time, though it can be used.
    pub fn doubt(&self, now: Timestamp) -> Option<String> {
        let file = self.file.display();
        if now > self.not_after {
            let when = self.not_after;
            return Some(format!("{file} expired at {when}: programs that check it refuse to send; renew it"));
        }
        if now < self.not_before {
            let when = self.not_before;
            return Some(format!("{file} is not valid before {when}: is the clock of this machine right?"));
        }
        let whole = self.file.with_file_name("fullchain.pem");
        if self.pair.cert.len() == 1 && self.file.ends_with("cert.pem") && whole.is_file() {
            return Some(format!(
                "{file} lacks the certificates of its authority, and programs may not trust it without: use {}",
                whole.display()
            ));
        }
        None
    }
}

/// Nothing of the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("file", &self.file)
            .field("key_file", &self.key_file)
            .finish_non_exhaustive()
    }
}

/// A configuration that names the same files says the same, whatever is in them by now.
impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        (&self.file, &self.key_file) == (&other.file, &other.key_file)
    }
}

impl Eq for Certificate {}

/// What two files looked like at a moment. A renewal changes it, whether files are replaced, written over, or reached by a symbolic link
/// that leads elsewhere since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp([Option<FileStamp>; 2]);

/// Device, inode, size, time of the content, time of the inode.
type FileStamp = (u64, u64, u64, (i64, i64), (i64, i64));

impl Stamp {
    fn of(file: &Path, key_file: &Path) -> Self {
        Self([file, key_file].map(|path| {
            let file = fs::metadata(path).ok()?;
            Some((
                file.dev(),
                file.ino(),
                file.size(),
                (file.mtime(), file.mtime_nsec()),
                (file.ctime(), file.ctime_nsec()),
            ))
        }))
    }
}

fn read_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut octets = Zeroizing::new(Vec::new());
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut octets));
    match read {
        Ok(0) => Err(format!("{} is empty", path.display())),
        Ok(_) if octets.len() as u64 > MAX_FILE => {
            Err(format!("{} is larger than 1 MiB: that is no PEM file", path.display()))
        }
        Ok(_) => Ok(octets),
        Err(error) => Err(unreadable(path, &error)),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    let (path, cause) = (path.display(), cause(error));
    if error.kind() == io::ErrorKind::PermissionDenied {
        return format!(
            "{path} cannot be read: {cause}; the relay's user must be able to read the file and to enter every folder above it"
        );
    }
    format!("{path} cannot be read: {cause}")
}

/// At least one certificate; the first one is the relay's own.
fn chain_of(path: &Path, octets: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let path = path.display();
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(octets).collect();
    match chain {
        Ok(chain) if !chain.is_empty() => Ok(chain),
        Ok(_) if has(octets, "PRIVATE KEY-----") => {
            Err(format!("{path} holds a key and no certificate: \"certificate\" and \"key\" may be mixed up"))
        }
        Ok(_) if is_binary(octets) => Err(format!(
            "{path} is no PEM: openssl x509 -inform der -in {path} -out NEW-FILE converts it, or openssl pkcs12 -nodes -in {path} -out NEW-FILE \
             if it is a PFX file"
        )),
        Ok(_) => Err(format!("{path} holds no certificate: it needs \"-----BEGIN CERTIFICATE-----\" (PEM)")),
        Err(_) => Err(format!("{path} is damaged: what is between BEGIN and END is no PEM")),
    }
}

/// PKCS#8, PKCS#1 or SEC1.
fn key_of(path: &Path, octets: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let path = path.display();
    if has(octets, "ENCRYPTED") {
        return Err(format!(
            "{path} is locked with a passphrase, and nobody is there to type it: \
             openssl pkey -in {path} -out NEW-FILE unlocks it"
        ));
    }
    PrivateKeyDer::from_pem_slice(octets).map_err(|error| match error {
        pem::Error::NoItemsFound if has(octets, "BEGIN CERTIFICATE-----") => {
            format!("{path} holds a certificate and no key: name the file with the private key")
        }
        pem::Error::NoItemsFound if is_binary(octets) => format!(
            "{path} is no PEM: openssl pkey -inform der -in {path} -out NEW-FILE converts it, or openssl pkcs12 -nodes -in {path} -out NEW-FILE \
             if it is a PFX file"
        ),
        pem::Error::NoItemsFound => {
            format!("{path} holds no key: it needs \"-----BEGIN PRIVATE KEY-----\" (PEM)")
        }
        _ => format!("{path} is damaged: what is between BEGIN and END is no PEM"),
    })
}

/// DER, and PFX which is made of it, begin with a SEQUENCE.
fn is_binary(octets: &[u8]) -> bool {
    octets.first() == Some(&0x30)
}

fn has(octets: &[u8], text: &str) -> bool {
    octets.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Without extensions, RFC 5280 section 4.1.2.1; a certificate of today has version 3.
fn is_of_version_1(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| parsed.version() == X509Version::V1)
}

/// RFC 5280 section 4.1.2.5.
fn validity(certificate: &CertificateDer<'_>) -> Option<(Timestamp, Timestamp)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    // The end of the year 9999 stands for "never", and is a few hours more than a `Timestamp` holds.
    let time = |seconds| Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    let validity = parsed.validity();
    Some((time(validity.not_before.timestamp()), time(validity.not_after.timestamp())))
}

fn pair(
    file: &Path,
    chain: Vec<CertificateDer<'static>>,
    key_file: &Path,
    key: PrivateKeyDer<'static>,
    keys: &str,
) -> Result<CertifiedKey, CertificateError> {
    let (file, key_file) = (file.display(), key_file.display());
    let key = aws_lc_rs::default_provider()
        .key_provider
        .load_private_key(key)
        .map_err(|_| CertificateError::key(format!("{key_file} holds a key {keys}")))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(pair),
        Err(Error::InconsistentKeys(_)) => {
            let fits = |certificate: &CertificateDer<'static>| {
                CertifiedKey::new(vec![certificate.clone()], pair.key.clone()).keys_match().is_ok()
            };
            Err(match pair.cert.iter().position(fits) {
                Some(n) => CertificateError::certificate(format!(
                    "{file} is in the wrong order: the certificate of {key_file} is number {} in it and must be the first",
                    n + 1
                )),
                None => CertificateError::key(format!(
                    "{key_file} does not belong to the certificate in {file}: name the key that it was made with"
                )),
            })
        }
        Err(Error::InvalidCertificate(_)) if is_of_version_1(&pair.cert[0]) => {
            Err(CertificateError::certificate(format!(
                "{file} holds a certificate of version 1, as `openssl x509 -req` makes it without extensions: make one of version 3, as \
                 `openssl req -x509` does"
            )))
        }
        Err(error) => {
            Err(CertificateError::certificate(format!("{file} holds a certificate that cannot be used: {error}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_may_not_be_read_says_what_is_needed() {
        let said = |kind: io::ErrorKind| unreadable(Path::new("/etc/key.pem"), &kind.into());
        assert_eq!(
            said(io::ErrorKind::PermissionDenied),
            "/etc/key.pem cannot be read: permission denied; the relay's user must be able to read the file and to enter every folder above it"
        );
        assert_eq!(said(io::ErrorKind::NotFound), "/etc/key.pem cannot be read: entity not found");
    }
}
