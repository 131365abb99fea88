//! Fernet (<https://github.com/fernet/spec>), as email-oauth2-proxy keeps its tokens: AES-128-CBC under HMAC-SHA256, with keys that PBKDF2
//! makes of a password.
//!
//! Only opening: nothing is ever sealed this way here. The age of a token is not looked at, as the program does not either.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{AES_128, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use zeroize::Zeroizing;

use crate::config::Secret;

/// RFC 4648 section 5, with and without `=`.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const VERSION: u8 = 0x80;
/// Version and time.
const PREFIX: usize = 9;
const IV: usize = 16;
const TAG: usize = 32;

/// The key that a password, a salt and a number of iterations make.
pub struct Fernet {
    signing: hmac::Key,
    encryption: Zeroizing<[u8; 16]>,
}

/// Why a token does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Sealed {
    /// It is no Fernet token, or only a piece of one.
    #[error("is cut off or damaged")]
    Damaged,
    /// The signature does not fit: another key sealed it, or it was changed.
    #[error("was sealed with another password")]
    OtherKey,
}

/// What is within the base64.
struct Parts {
    octets: Zeroizing<Vec<u8>>,
}

impl Fernet {
    /// PBKDF2-HMAC-SHA256 (RFC 8018). Takes a good part of a second with the iterations that are usual.
    pub fn of_password(password: &Secret, salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        let password = password.expose().as_bytes();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, key.as_mut_slice());
        let mut encryption = Zeroizing::new([0; 16]);
        encryption.copy_from_slice(&key[16..]);
        Self { signing: hmac::Key::new(hmac::HMAC_SHA256, &key[..16]), encryption }
    }

    /// Opens a token.
    ///
    /// # Errors
    /// See [`Sealed`]. The signature is compared in constant time, before anything is decrypted.
    pub fn open(&self, token: &str) -> Result<Secret, Sealed> {
        let mut parts = Parts::of(token)?;
        let (signed, tag) = parts.octets.split_at(parts.octets.len() - TAG);
        hmac::verify(&self.signing, signed, tag).map_err(|_| Sealed::OtherKey)?;
        let mut iv = [0; IV];
        iv.copy_from_slice(&signed[PREFIX..PREFIX + IV]);
        let end = signed.len();
        let key = UnboundCipherKey::new(&AES_128, self.encryption.as_slice());
        let key = key.and_then(PaddedBlockDecryptingKey::cbc_pkcs7).map_err(|_| Sealed::Damaged)?;
        let context = DecryptionContext::Iv128(FixedLength::from(iv));
        let text = key.decrypt(&mut parts.octets[PREFIX + IV..end], context).map_err(|_| Sealed::Damaged)?;
        std::str::from_utf8(text).map(Secret::new).map_err(|_| Sealed::Damaged)
    }
}

/// Whether this has the form of a token, whatever its key.
///
/// # Errors
/// [`Sealed::Damaged`] if it does not.
pub fn check_form(token: &str) -> Result<(), Sealed> {
    Parts::of(token).map(|_| ())
}

impl Parts {
    /// At least one block, and nothing but whole ones.
    fn of(token: &str) -> Result<Self, Sealed> {
        let octets = BASE64.decode(token.trim()).map(Zeroizing::new).map_err(|_| Sealed::Damaged)?;
        let text = octets.len().checked_sub(PREFIX + IV + TAG).ok_or(Sealed::Damaged)?;
        let is_whole = octets[0] == VERSION && text > 0 && text.is_multiple_of(16);
        is_whole.then_some(Self { octets }).ok_or(Sealed::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The examples that come with the specification (`generate.json`, `verify.json`).
    const KEY: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
    const TOKEN: &str =
        "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";

    fn specified() -> Fernet {
        let key = BASE64.decode(KEY).unwrap();
        let encryption = Zeroizing::new(key[16..].try_into().unwrap());
        Fernet { signing: hmac::Key::new(hmac::HMAC_SHA256, &key[..16]), encryption }
    }

    #[test]
    fn the_token_of_the_specification_opens() {
        assert_eq!(specified().open(TOKEN), Ok(Secret::new("hello")));
        assert_eq!(specified().open(TOKEN.trim_end_matches('=')), Ok(Secret::new("hello")));
    }

    #[test]
    fn another_key_and_a_changed_token_do_not_open() {
        let salt = [7; 16];
        let other = Fernet::of_password(&Secret::new("hunter2"), &salt, NonZeroU32::new(10).unwrap());
        assert_eq!(other.open(TOKEN), Err(Sealed::OtherKey));
        let mut octets = BASE64.decode(TOKEN).unwrap();
        for at in 1..octets.len() {
            octets[at] ^= 1;
            assert_eq!(specified().open(&BASE64.encode(&octets)), Err(Sealed::OtherKey), "octet {at}");
            octets[at] ^= 1;
        }
    }

    #[test]
    fn a_piece_of_a_token_is_damaged() {
        for token in ["", "gAAAAAA", "not base64!", &TOKEN[..60], &TOKEN[4..], "hAAAAAAdwJ6w"] {
            assert_eq!(specified().open(token), Err(Sealed::Damaged), "{token}");
            assert_eq!(check_form(token), Err(Sealed::Damaged), "{token}");
        }
    }

    proptest! {
        #[test]
        fn no_token_makes_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC*") {
            let _ = specified().open(&text);
            let mut octets = octets;
            if let Some(first) = octets.first_mut() {
                *first = VERSION;
            }
            prop_assert!(specified().open(&BASE64.encode(&octets)).is_err());
        }
    }
}
