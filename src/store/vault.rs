//! Seals sign-ins at rest with XChaCha20-Poly1305. The keys stay outside the database.
//!
//! Sealed: version (1), key id (8 octets), nonce (24 octets, random), ciphertext with its tag. Account and purpose are authenticated
//! with it, so that a row copied to another account does not open. The key id tells a wrong key from a damaged row, and which key.

mod key;
mod key_file;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use chacha20poly1305::XNonce;
use chacha20poly1305::aead::{Aead, Payload};
use zeroize::Zeroizing;

pub use key::{Key, KeyId};
pub use key_file::KeyFile;

use crate::config::{Secret, SecretError};
use crate::message::Address;
use key::KEY_ID;

const VERSION: u8 = 1;
const NONCE: usize = 24;
const HEAD: usize = 1 + KEY_ID + NONCE;

/// Seals with one key, and opens with several.
#[derive(Clone)]
pub struct Vault {
    first: Arc<Keyed>,
    others: Vec<Arc<Keyed>>,
}

/// A key at work; wiped when it goes.
struct Keyed {
    key: Key,
    id: KeyId,
}

/// The key cannot be had, or does not open what was sealed.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The text is no key.
    #[error("{0} holds no key: a key is 32 octets, written in base64 or in hex; `openssl rand -base64 32` makes one")]
    NotAKey(String),
    /// There was one once.
    #[error(
        "the key {} is missing, and the stored sign-ins are of no use without it: put it back; if it is lost for good, sign in anew, \
         which makes a new one",
        .0.display()
    )]
    Missing(PathBuf),
    /// The configured secret cannot be read.
    #[error("`key` in the configuration: {0}")]
    Unreadable(#[from] SecretError),
    /// The key file cannot be made or read.
    #[error("cannot use the key {}: {source}", path.display())]
    File {
        /// The key file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Sealed with another key.
    #[error("the stored sign-in was sealed with the key {sealed_with}, but the key at hand is {at_hand}")]
    WrongKey {
        /// The key that opens it.
        sealed_with: KeyId,
        /// The key that the vault seals with.
        at_hand: KeyId,
    },
    /// The right key, but not what was sealed, or for another account.
    #[error("what was sealed is damaged")]
    Damaged,
}

impl Vault {
    /// Seals with `key`.
    pub fn new(key: &Key) -> Self {
        Self { first: Keyed::new(key), others: Vec::new() }
    }

    /// Seals with the first of these keys and opens with all of them. `None` without any.
    pub fn of(keys: &[Key]) -> Option<Self> {
        let (first, others) = keys.split_first()?;
        Some(Self { first: Keyed::new(first), others: others.iter().map(Keyed::new).collect() })
    }

    /// Seals with `key` from now on, and opens what this one opens, too.
    #[must_use]
    pub fn behind(&self, key: &Key) -> Self {
        Self { first: Keyed::new(key), others: self.keys().cloned().collect() }
    }

    /// Seals as before, and opens what the other one opens, too.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        let is_new = |key: &&Arc<Keyed>| self.keys().all(|known| known.id != key.id);
        let others = self.others.iter().chain(other.keys().filter(is_new)).cloned().collect();
        Self { first: Arc::clone(&self.first), others }
    }

    /// The key that it seals with.
    pub fn seals_with(&self) -> KeyId {
        self.first.id
    }

    /// Every key that it opens with, the one that it seals with first: for a key file.
    pub fn all_keys(&self) -> Vec<Key> {
        self.keys().map(|keyed| keyed.key.clone()).collect()
    }

    fn keys(&self) -> impl Iterator<Item = &Arc<Keyed>> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// Seals a secret for one account and purpose (`"refresh token"`).
    pub fn seal(&self, account: &Address, purpose: &str, plain: &Secret) -> Vec<u8> {
        let nonce: [u8; NONCE] = rand::random();
        let payload = Payload { msg: plain.expose().as_bytes(), aad: &bound_to(account, purpose) };
        let Keyed { key, id } = &*self.first;
        let sealed = key.cipher().encrypt(&XNonce::from(nonce), payload).expect("a text in memory is under 256 GiB");
        [&[VERSION], &id.0[..], &nonce, &sealed].concat()
    }

    /// Opens what was sealed for this account and purpose: [`VaultError::WrongKey`] or [`VaultError::Damaged`] if it cannot.
    pub fn open(&self, account: &Address, purpose: &str, sealed: &[u8]) -> Result<Secret, VaultError> {
        let sealed_with = sealed_with(sealed).ok_or(VaultError::Damaged)?;
        let (head, text) = sealed.split_at_checked(HEAD).ok_or(VaultError::Damaged)?;
        let Some(key) = self.keys().find(|key| key.id == sealed_with) else {
            return Err(VaultError::WrongKey { sealed_with, at_hand: self.seals_with() });
        };
        let nonce = XNonce::try_from(&head[1 + KEY_ID..]).map_err(|_| VaultError::Damaged)?;
        let payload = Payload { msg: text, aad: &bound_to(account, purpose) };
        let plain = Zeroizing::new(key.key.cipher().decrypt(&nonce, payload).map_err(|_| VaultError::Damaged)?);
        let text = std::str::from_utf8(&plain).map_err(|_| VaultError::Damaged)?;
        Ok(Secret::new(text))
    }
}

/// The key that this was sealed with; `None`: it is cut short, or of a version that is not known here.
pub fn sealed_with(sealed: &[u8]) -> Option<KeyId> {
    let (&version, rest) = sealed.split_first()?;
    let id = rest.first_chunk::<KEY_ID>()?;
    (version == VERSION).then_some(KeyId(*id))
}

impl Keyed {
    fn new(key: &Key) -> Arc<Self> {
        Arc::new(Self { key: key.clone(), id: key.id() })
    }
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({})", self.first.id)
    }
}

/// An address holds no NUL, so two pairs never look the same.
fn bound_to(account: &Address, purpose: &str) -> Vec<u8> {
    format!("xoauth2-relay\0{purpose}\0{}", account.key()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    fn key(byte: u8) -> Key {
        Key::read_all(&[byte; 32]).unwrap().remove(0)
    }

    fn vault(byte: u8) -> Vault {
        Vault::new(&key(byte))
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
        let wrong = vault(2).open(&lms, "refresh_token", &sealed).unwrap_err();
        let said = format!("sealed with the key {}, but the key at hand is {}", key(1).id(), key(2).id());
        assert!(wrong.to_string().ends_with(&said), "{wrong}");
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
    fn the_first_key_seals_and_all_of_them_open() {
        let lms = address("lms@contoso.com");
        let by = |vault: &Vault| vault.seal(&lms, "p", &Secret::new("token"));
        let both = Vault::of(&[key(2), key(1)]).unwrap();
        for vault in [both, vault(1).behind(&key(2))] {
            assert_eq!(sealed_with(&by(&vault)), Some(key(2).id()));
            assert!(vault.open(&lms, "p", &by(&super::tests::vault(1))).is_ok());
            assert!(vault.open(&lms, "p", &by(&super::tests::vault(2))).is_ok());
            assert!(matches!(
                vault.open(&lms, "p", &by(&super::tests::vault(3))),
                Err(VaultError::WrongKey { sealed_with, .. }) if sealed_with == key(3).id()
            ));
        }
        assert!(Vault::of(&[]).is_none());
    }

    /// What an earlier version has written must open for ever.
    #[test]
    fn a_sealed_text_of_the_first_version_opens() {
        const SEALED: &str = include_str!("vault/sealed_1.hex");
        let octets: Vec<u8> =
            (0..SEALED.trim().len() / 2).map(|n| u8::from_str_radix(&SEALED[2 * n..2 * n + 2], 16).unwrap()).collect();
        let opened = vault(7).open(&address("lms@contoso.com"), "refresh token", &octets).unwrap();
        assert_eq!(opened.expose(), "a refresh token of the first version");
    }
}
