//! The certificate by which Entra ID knows a registration: it signs the assertions that take the place of a client secret.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::CertificateDer;

use super::{Certificate, CertificateError};

/// Entra ID takes nothing but RSA (<https://learn.microsoft.com/entra/identity-platform/certificate-credentials>).
const KEYS: &str = "that cannot sign for an app registration: it has to be RSA with 2048 bits or more";

/// `certificate` of an account, as read when the configuration was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The last moment at which it is good.
    pub not_after: Timestamp,
    /// How it signs.
    pub algorithm: AssertionAlgorithm,
    files: Certificate,
}

/// How an assertion is signed (RFC 7518 section 3.1), and by which of its hashes the certificate is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AssertionAlgorithm {
    /// RSASSA-PSS with SHA-256; the certificate is named by `x5t#S256`. What Microsoft recommends.
    #[default]
    Ps256,
    /// RSASSA-PKCS1-v1_5 with SHA-256; the certificate is named by `x5t`, a SHA-1 hash. For providers that know nothing newer.
    Rs256,
}

impl AssertionAlgorithm {
    /// Its name in a JWT header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ps256 => "PS256",
            Self::Rs256 => "RS256",
        }
    }

    fn scheme(self) -> SignatureScheme {
        match self {
            Self::Ps256 => SignatureScheme::RSA_PSS_SHA256,
            Self::Rs256 => SignatureScheme::RSA_PKCS1_SHA256,
        }
    }
}

impl ClientCertificate {
    /// Reads both files. Blocks on the disk.
    ///
    /// # Errors
    /// Everything that is wrong with either of them.
    pub fn read(file: &Path, key_file: &Path, algorithm: AssertionAlgorithm) -> Result<Self, Vec<CertificateError>> {
        let files = Certificate::read_with(file, key_file, KEYS)?;
        if files.pair().key.algorithm() != SignatureAlgorithm::RSA {
            let text = format!("{} holds a key {KEYS}", key_file.display());
            return Err(vec![CertificateError { key: "key", text }]);
        }
        Ok(Self { not_after: files.not_after(), algorithm, files })
    }

    /// The certificate as its files are now. Blocks on the disk: two calls of `stat` if nothing has changed.
    ///
    /// # Errors
    /// As [`ClientCertificate::read`]: while the files are being replaced, they may not fit each other.
    pub fn as_it_is_now(&self) -> Result<Self, Vec<CertificateError>> {
        if !self.files.has_changed() {
            return Ok(self.clone());
        }
        let (file, key_file) = self.files.files();
        Self::read(file, key_file, self.algorithm)
    }

    /// Both files as such.
    pub(super) fn files(&self) -> &Certificate {
        &self.files
    }

    /// How long it is good in all.
    pub fn life(&self) -> Duration {
        self.files.life()
    }

    /// The file of the certificate, for messages.
    pub fn file(&self) -> &Path {
        self.files.file()
    }

    /// Where it and its key are.
    pub fn paths(&self) -> [&Path; 2] {
        let (file, key_file) = self.files.files();
        [file, key_file]
    }

    /// The certificate itself, without its chain.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.files.chain()[0]
    }

    /// Signs with its key, by its algorithm.
    ///
    /// # Errors
    /// If the cryptography fails, which it does not with a key that was read.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let key = &self.files.pair().key;
        let signer = key.choose_scheme(&[self.algorithm.scheme()]);
        signer
            .ok_or_else(|| rustls::Error::General("the key does not sign by this algorithm".to_owned()))?
            .sign(message)
    }

    /// Why Entra ID refuses it at this time, though it can be used.
    pub fn doubt(&self, now: Timestamp) -> Option<String> {
        let file = self.file().display();
        if now > self.not_after {
            let when = self.not_after;
            return Some(format!(
                "{file} expired at {when}: the sign-in is refused; make a new certificate and upload it to the app registration"
            ));
        }
        let begins = self.files.not_before();
        (now < begins).then(|| format!("{file} is not valid before {begins}: is the clock of this machine right?"))
    }
}
