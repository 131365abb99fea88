//! Seals sign-ins at rest with XChaCha20-Poly1305. The key stays outside the database.
//!
//! Sealed: version (1), key id (8 octets), nonce (24 octets, random), ciphertext with its tag. Account and purpose are authenticated
//! with it, so that a row copied to another account does not open. The key id tells a wrong key from a damaged row.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use crate::config::Secret;
use crate::message::Address;

const VERSION: u8 = 1;
const KEY: usize = 32;
const KEY_ID: usize = 8;
const NONCE: usize = 24;
const HEAD: usize = 1 + KEY_ID + NONCE;

/// Opens and seals with one key.
pub struct Vault {
    cipher: XChaCha20Poly1305,
    key_id: [u8; KEY_ID],
}

/// What to do when no key is configured and the data folder has none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoKey {
    /// Make one: nothing was sealed yet.
    Make,
    /// Refuse: something is sealed, and a new key would only hide that the old one is lost.
    Refuse,
}

/// The key cannot be had, or does not open what was sealed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The text is no key.
    #[error("{0} holds no key: a key is 32 octets, written in base64 or in hex; `openssl rand -base64 32` makes one")]
    NotAKey(String),
    /// There was one once.
    #[error(
        "the key {} is missing, but the queue has sign-ins sealed with it: put it back; if it is lost for good, sign every account in \
         again with `xoauth2-relay login MAILBOX`, which makes a new one",
        .0.display()
    )]
    Missing(PathBuf),
    /// The key file cannot be made or read.
    #[error("cannot use the key {}: {source}", path.display())]
    File {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Sealed with another key.
    #[error("this was sealed with another key")]
    WrongKey,
    /// The right key, but not what was sealed, or for another account.
    #[error("what was sealed is damaged")]
    Damaged,
}

impl Vault {
    /// With the configured key, or else with that of `data_dir/key`, which is made if there is none and `no_key` allows it.
    pub fn load(key: Option<&Secret>, data_dir: &Path, no_key: NoKey) -> Result<Self, VaultError> {
        if let Some(configured) = key {
            let key =
                parse(configured.expose()).ok_or_else(|| VaultError::NotAKey("the configured `key`".to_owned()))?;
            return Ok(Self::new(&key));
        }
        let path = data_dir.join("key");
        let key = match fs::read(&path).map(Zeroizing::new) {
            Ok(bytes) => read(&bytes).ok_or_else(|| VaultError::NotAKey(path.display().to_string()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && no_key == NoKey::Refuse => {
                return Err(VaultError::Missing(path));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make(&path).map_err(|source| VaultError::File { path, source })?
            }
            Err(source) => return Err(VaultError::File { path, source }),
        };
        Ok(Self::new(&key))
    }

    fn new(key: &[u8; KEY]) -> Self {
        let cipher = XChaCha20Poly1305::new(key.into());
        // The tag of nothing under a nonce of zeros tells the key, and nothing about it. A random nonce is never that one.
        let tag = cipher
            .encrypt(&XNonce::from([0; NONCE]), Payload { msg: b"", aad: b"xoauth2-relay key id" })
            .expect("nothing is not too long to be sealed");
        let mut key_id = [0; KEY_ID];
        key_id.copy_from_slice(&tag[..KEY_ID]);
        Self { cipher, key_id }
    }

    /// Seals a secret for one account and purpose (`"refresh_token"`).
    pub fn seal(&self, account: &Address, purpose: &str, plain: &Secret) -> Vec<u8> {
        let nonce: [u8; NONCE] = rand::random();
        let payload = Payload { msg: plain.expose().as_bytes(), aad: &bound_to(account, purpose) };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload).expect("a text in memory is under 256 GiB");
        [&[VERSION], &self.key_id[..], &nonce, &sealed].concat()
    }

    /// Opens what was sealed for this account and purpose: [`VaultError::WrongKey`] or [`VaultError::Damaged`] if it cannot.
    pub fn open(&self, account: &Address, purpose: &str, sealed: &[u8]) -> Result<Secret, VaultError> {
        let (head, text) = sealed.split_at_checked(HEAD).ok_or(VaultError::Damaged)?;
        let (mark, nonce) = head.split_at(1 + KEY_ID);
        if mark[0] != VERSION {
            return Err(VaultError::Damaged);
        }
        if mark[1..] != self.key_id {
            return Err(VaultError::WrongKey);
        }
        let nonce = XNonce::try_from(nonce).map_err(|_| VaultError::Damaged)?;
        let payload = Payload { msg: text, aad: &bound_to(account, purpose) };
        let plain = Zeroizing::new(self.cipher.decrypt(&nonce, payload).map_err(|_| VaultError::Damaged)?);
        let text = std::str::from_utf8(&plain).map_err(|_| VaultError::Damaged)?;
        Ok(Secret::new(text))
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault(…)")
    }
}

/// An address holds no NUL, so two pairs never look the same.
fn bound_to(account: &Address, purpose: &str) -> Vec<u8> {
    format!("xoauth2-relay\0{purpose}\0{}", account.key()).into_bytes()
}

/// A key file: the octets themselves, or a text.
fn read(bytes: &[u8]) -> Option<Zeroizing<[u8; KEY]>> {
    if let Ok(raw) = <[u8; KEY]>::try_from(bytes) {
        return Some(Zeroizing::new(raw));
    }
    parse(std::str::from_utf8(bytes).ok()?)
}

/// A key as text: hex or base64.
fn parse(text: &str) -> Option<Zeroizing<[u8; KEY]>> {
    let text = text.trim();
    let mut key = Zeroizing::new([0; KEY]);
    if text.len() == 2 * KEY && text.is_ascii() {
        for (n, octet) in key.iter_mut().enumerate() {
            *octet = u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()?;
        }
        return Some(key);
    }
    let decoded = Zeroizing::new(STANDARD.decode(text).ok()?);
    key.copy_from_slice(decoded.get(..).filter(|decoded| decoded.len() == KEY)?);
    Some(key)
}

/// A new key in a file of its own, on disk before anything is sealed with it.
fn make(path: &Path) -> io::Result<Zeroizing<[u8; KEY]>> {
    let key = Zeroizing::new(rand::random::<[u8; KEY]>());
    let text = Zeroizing::new(STANDARD.encode(&key[..]));
    // Written aside: a key cut short by a crash would be refused at the next start.
    let aside = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn vault(byte: u8) -> Vault {
        Vault::new(&[byte; KEY])
    }

    #[test]
    fn what_was_sealed_opens_for_its_account_and_purpose_alone() {
        let lms = address("LMS@contoso.com");
        let plain = Secret::new("0.AXoA refresh token");
        let sealed = vault(1).seal(&lms, "refresh_token", &plain);
        assert_eq!(vault(1).open(&address("lms@CONTOSO.com"), "refresh_token", &sealed).unwrap(), plain);
        for (account, purpose) in [("erp@contoso.com", "refresh_token"), ("lms@contoso.com", "client_secret")] {
            let opened = vault(1).open(&address(account), purpose, &sealed);
            assert!(matches!(opened, Err(VaultError::Damaged)), "{account} {purpose}");
        }
        assert!(!sealed.windows(7).any(|part| part == b"refresh"));
        assert_ne!(sealed, vault(1).seal(&lms, "refresh_token", &plain), "the nonce is random");
    }

    #[test]
    fn a_wrong_key_is_told_from_damage() {
        let lms = address("lms@contoso.com");
        let sealed = vault(1).seal(&lms, "refresh_token", &Secret::new("token"));
        assert!(matches!(vault(2).open(&lms, "refresh_token", &sealed), Err(VaultError::WrongKey)));
        for cut in 0..sealed.len() {
            assert!(matches!(vault(1).open(&lms, "refresh_token", &sealed[..cut]), Err(VaultError::Damaged)), "{cut}");
        }
        for at in 1 + KEY_ID..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 1;
            assert!(matches!(vault(1).open(&lms, "refresh_token", &damaged), Err(VaultError::Damaged)), "{at}");
        }
    }

    #[test]
    fn the_first_start_makes_a_key_that_the_next_one_finds() {
        let folder = tempfile::tempdir().unwrap();
        let lms = address("lms@contoso.com");
        let first = Vault::load(None, folder.path(), NoKey::Make).unwrap();
        let sealed = first.seal(&lms, "refresh_token", &Secret::new("token"));
        let second = Vault::load(None, folder.path(), NoKey::Refuse).unwrap();
        assert_eq!(second.open(&lms, "refresh_token", &sealed).unwrap().expose(), "token");
        let mode = fs::metadata(folder.path().join("key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_lost_key_is_not_replaced_in_silence() {
        let folder = tempfile::tempdir().unwrap();
        let lost = Vault::load(None, folder.path(), NoKey::Refuse).unwrap_err();
        assert!(lost.to_string().contains("is missing, but the queue has sign-ins"), "{lost}");
        assert!(!folder.path().join("key").exists());
    }

    #[test]
    fn a_key_may_be_hex_or_base64_or_a_file_of_32_octets() {
        let folder = tempfile::tempdir().unwrap();
        let lms = address("lms@contoso.com");
        let sealed = vault(7).seal(&lms, "p", &Secret::new("token"));
        for text in ["07".repeat(KEY), format!(" {}\n", STANDARD.encode([7; KEY]))] {
            let vault = Vault::load(Some(&Secret::new(text)), folder.path(), NoKey::Refuse).unwrap();
            assert!(vault.open(&lms, "p", &sealed).is_ok());
        }
        fs::write(folder.path().join("key"), [7; KEY]).unwrap();
        assert!(Vault::load(None, folder.path(), NoKey::Refuse).unwrap().open(&lms, "p", &sealed).is_ok());
        for text in ["", "password", "07070707", &"zz".repeat(KEY)] {
            let refused = Vault::load(Some(&Secret::new(text)), folder.path(), NoKey::Make).unwrap_err();
            assert!(matches!(refused, VaultError::NotAKey(_)), "{text}");
        }
    }
}
