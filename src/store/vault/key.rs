//! Keys as values: read from text, written as text, named without being shown.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use zeroize::Zeroizing;

use super::NONCE;

pub(super) const KEY: usize = 32;
pub(super) const KEY_ID: usize = 8;

/// One key. Printing it prints its id. Every copy of it is wiped when it goes.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; KEY]>);

/// What a key is called in logs and in what it has sealed. Says nothing about the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub(super) [u8; KEY_ID]);

impl Key {
    /// A new one.
    pub fn random() -> Self {
        let mut octets = Zeroizing::new([0; KEY]);
        rand::fill(&mut octets[..]);
        Self(octets)
    }

    /// All keys of a text, parted by white space, each in base64 or hex; or the 32 octets of one key as they are. `None`: something
    /// in it is no key, or there is nothing.
    pub fn read_all(octets: &[u8]) -> Option<Vec<Self>> {
        if octets.len() == KEY {
            let mut raw = Zeroizing::new([0; KEY]);
            raw.copy_from_slice(octets);
            return Some(vec![Self(raw)]);
        }
        let text = std::str::from_utf8(octets).ok()?;
        let keys: Vec<Self> = text.split_whitespace().map(Self::parse).collect::<Option<_>>()?;
        (!keys.is_empty()).then_some(keys)
    }

    fn parse(word: &str) -> Option<Self> {
        let mut key = Zeroizing::new([0; KEY]);
        if word.len() == 2 * KEY && word.is_ascii() {
            for (n, octet) in key.iter_mut().enumerate() {
                *octet = u8::from_str_radix(&word[2 * n..2 * n + 2], 16).ok()?;
            }
            return Some(Self(key));
        }
        let decoded = Zeroizing::new(STANDARD.decode(word).ok()?);
        key.copy_from_slice(decoded.get(..).filter(|decoded| decoded.len() == KEY)?);
        Some(Self(key))
    }

    /// Base64, for a key file.
    pub(super) fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(&self.0[..]))
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        let tag = self
            .cipher()
            // The tag of nothing under a nonce of zeros tells the key, and nothing about it. A random nonce is never that one.
            .encrypt(&XNonce::from([0; NONCE]), Payload { msg: b"", aad: b"xoauth2-relay key id" })
            .expect("nothing is not too long to be sealed");
        let mut id = [0; KEY_ID];
        id.copy_from_slice(&tag[..KEY_ID]);
        KeyId(id)
    }

    pub(super) fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id())
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(text: &[u8]) -> Option<Vec<KeyId>> {
        Some(Key::read_all(text)?.iter().map(Key::id).collect())
    }

    #[test]
    fn a_key_may_be_hex_or_base64_or_32_octets() {
        let seven = Key(Zeroizing::new([7; KEY])).id();
        for text in ["07".repeat(KEY), format!(" {}\n", STANDARD.encode([7; KEY]))] {
            assert_eq!(ids(text.as_bytes()), Some(vec![seven]), "{text}");
        }
        assert_eq!(ids(&[7; KEY]), Some(vec![seven]));
        for text in ["", " \n", "password", "07070707", &"zz".repeat(KEY), &format!("{}\nand more", "07".repeat(KEY))] {
            assert_eq!(ids(text.as_bytes()), None, "{text}");
        }
        assert_eq!(ids(b"\xff\xfe"), None);
    }

    #[test]
    fn several_keys_keep_their_order() {
        let (new, old) = (Key::random(), Key::random());
        for between in ["\n", " ", "\r\n\r\n"] {
            let text = [new.to_text().as_str(), between, old.to_text().as_str(), "\n"].concat();
            assert_eq!(ids(text.as_bytes()), Some(vec![new.id(), old.id()]));
        }
    }

    #[test]
    fn printing_a_key_shows_its_name_alone() {
        let key = Key::random();
        assert_eq!(format!("{key:?}"), format!("Key({})", key.id()));
        assert_eq!(key.id().to_string().len(), 2 * KEY_ID);
        assert_ne!(key.id(), Key::random().id());
    }
}
