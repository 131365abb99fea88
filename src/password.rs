//! The password of a sending app: hashed with Argon2id (RFC 9106), so that nobody finds it in the relay's memory.
//!
//! An administrator may give the hash himself, in PHC form (`$argon2id$v=19$m=19456,t=2,p=1$…`). Hashing and comparing take tens of
//! milliseconds on purpose: keep them off the async threads.

use argon2::{Algorithm, Argon2, Block, Params, Version};
use subtle::ConstantTimeEq as _;

/// What OWASP's Password Storage Cheat Sheet asks of Argon2id at least (<https://cheatsheetseries.owasp.org>): 19 MiB of memory, 2
/// iterations, 1 lane; in KiB.
pub const MEMORY_KIB: u32 = 19 * 1024;
/// See [`MEMORY_KIB`].
pub const ITERATIONS: u32 = 2;
/// See [`MEMORY_KIB`].
pub const LANES: u32 = 1;
/// Each of the cheat sheet's equal choices of Argon2id (47104 KiB once … 7168 KiB five times) writes at least so many KiB.
const LEAST_WORK_KIB: u64 = 7168 * 5;
/// A hash that costs more would let a few logins take all of a small machine.
const MOST_MEMORY_KIB: u32 = 256 * 1024;
const MOST_WORK_KIB: u64 = 4 * 1024 * 1024;
const MOST_LANES: u32 = 16;
/// Shorter passwords are found by trying.
const SHORT: usize = 12;

/// RFC 9106 section 3.1: a salt has at least 8 octets.
const LEAST_SALT: usize = 8;
const SALT: usize = 16;
const OUTPUT: usize = 32;

/// The hash of a password. Printing it prints nothing.
#[derive(Clone)]
pub struct PasswordHash {
    params: Params,
    version: Version,
    salt: Vec<u8>,
    output: Vec<u8>,
}

/// Why a text is no usable hash. Never repeats the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Made by something else than Argon2id.
    #[error(
        "is a hash of another kind: write the password itself, or a hash that begins with $argon2id$, as made by: argon2 \
         SALT -id -t 2 -k 19456 -p 1 -e"
    )]
    OtherKind,
    /// Begins as one, and is not complete.
    #[error("begins with $argon2id$, but the rest is damaged: copy the whole line that argon2 -e prints")]
    Damaged,
    /// It would take too much memory or time.
    #[error(
        "is a hash that takes more memory or time than a login may: at most 256 MiB (m=262144), 16 lanes and m × t = 4194304"
    )]
    TooCostly,
}

/// What there is to say about a password before it is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Weakness {
    /// Few characters.
    #[error("is short: 12 characters and more are not found by trying; \"openssl rand -base64 18\" makes a good one")]
    Short,
    /// Cheap to try.
    #[error("is a hash that is cheap to try: make it with at least -t 2 -k 19456 (19 MiB), as OWASP advises")]
    CheapHash,
}

impl PasswordHash {
    /// The hash of this text, or the one that it is. Takes tens of milliseconds unless it is one.
    ///
    /// # Errors
    /// It is a hash that cannot be used.
    pub fn of(secret: &str) -> Result<Self, HashError> {
        match given(secret) {
            Some(hash) => hash,
            None => Ok(Self::make(secret)),
        }
    }

    fn make(password: &str) -> Self {
        let params =
            Params::new(MEMORY_KIB, ITERATIONS, LANES, None).expect("the parameters are within Argon2's limits");
        let salt: [u8; SALT] = rand::random();
        let mut hash = Self { params, version: Version::V0x13, salt: salt.to_vec(), output: vec![0; OUTPUT] };
        hash.output =
            hash.derived(password.as_bytes()).expect("secrets end at 64 KiB, and no such password is too long");
        hash
    }

    /// Whether this is the password. Compares in constant time; takes tens of milliseconds.
    pub fn fits(&self, password: &[u8]) -> bool {
        self.derived(password).is_some_and(|output| output.ct_eq(&self.output).into())
    }

    /// What these parameters make of a password; `None` if it is too long for Argon2.
    fn derived(&self, password: &[u8]) -> Option<Vec<u8>> {
        let argon2 = Argon2::new(Algorithm::Argon2id, self.version, self.params.clone());
        let mut output = vec![0; self.output.len()];
        let mut memory = memory(self.params.block_count());
        argon2.hash_password_into_with_memory(password, &self.salt, &mut output, &mut memory[..]).ok()?;
        Some(output)
    }
}

/// Argon2's memory, in blocks of 1 KiB, which goes back to the system at once when it is dropped.
///
/// The allocator of glibc keeps freed memory for each thread unless the piece was larger than 32 MiB (mallopt(3),
/// `M_MMAP_THRESHOLD`): forty logins on as many threads would leave 700 MiB behind. What is reserved and never touched costs nothing.
fn memory(blocks: usize) -> Vec<Block> {
    const RETURNED_AT_ONCE: usize = 33 * 1024;
    let mut memory = Vec::with_capacity(blocks.max(RETURNED_AT_ONCE));
    memory.resize(blocks, Block::new());
    memory
}

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// What is wrong with a configured password, without hashing it.
///
/// # Errors
/// It is a hash that cannot be used.
pub fn examine(secret: &str) -> Result<Option<Weakness>, HashError> {
    match given(secret) {
        Some(Err(error)) => Err(error),
        Some(Ok(hash)) => Ok((work(&hash.params) < LEAST_WORK_KIB).then_some(Weakness::CheapHash)),
        None => Ok((secret.chars().count() < SHORT).then_some(Weakness::Short)),
    }
}

/// The hash that this text is, good or bad; `None` if it is a password.
fn given(text: &str) -> Option<Result<PasswordHash, HashError>> {
    if !text.starts_with("$argon2id$") {
        return is_other_hash(text).then_some(Err(HashError::OtherKind));
    }
    Some(parsed(text).ok_or(HashError::Damaged).and_then(|hash| {
        let is_bearable = hash.params.m_cost() <= MOST_MEMORY_KIB
            && work(&hash.params) <= MOST_WORK_KIB
            && hash.params.p_cost() <= MOST_LANES;
        if is_bearable { Ok(hash) } else { Err(HashError::TooCostly) }
    }))
}

/// Reads the PHC form.
fn parsed(text: &str) -> Option<PasswordHash> {
    let phc = argon2::PasswordHash::new(text).ok()?;
    let version = phc.version.map_or(Ok(Version::V0x10), Version::try_from).ok()?;
    let mut salt = [0; 64];
    let salt = phc.salt?.decode_b64(&mut salt).ok().filter(|salt| salt.len() >= LEAST_SALT)?.to_vec();
    Some(PasswordHash { params: Params::try_from(&phc).ok()?, version, salt, output: phc.hash?.as_bytes().to_vec() })
}

/// How much is written while it is computed, in KiB.
fn work(params: &Params) -> u64 {
    u64::from(params.m_cost()) * u64::from(params.t_cost())
}

/// What crypt(5) and other programs write: nobody means such a text as the password itself.
fn is_other_hash(text: &str) -> bool {
    const KINDS: [&str; 14] =
        ["argon2i", "argon2d", "argon2", "1", "5", "6", "7", "y", "2a", "2b", "2x", "2y", "scrypt", "pbkdf2-sha256"];
    let Some((kind, rest)) = text.strip_prefix('$').and_then(|text| text.split_once('$')) else { return false };
    KINDS.contains(&kind) && rest.contains('$')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Debian 12's argon2 makes of "correct horse battery staple":
    /// `printf %s 'correct horse battery staple' | argon2 0123456789abcdef -id -t 2 -k 19456 -p 1 -e`
    const OF_DEBIAN: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$gy5SuVm5Z7Vw7keB9se9p87QGcomaseB/S2U1OhTsM0";

    #[test]
    fn a_password_fits_its_hash_and_no_other() {
        let hash = PasswordHash::of("s3cret, and long").unwrap();
        assert!(hash.fits(b"s3cret, and long"));
        for wrong in [&b""[..], b"s3cret, and lonG", b"s3cret, and long ", b"s3cret", &[0xff; 3]] {
            assert!(!hash.fits(wrong), "{wrong:?}");
        }
        let again = PasswordHash::of("s3cret, and long").unwrap();
        assert!(hash.salt != again.salt && hash.output != again.output, "the salt is another one");
    }

    #[test]
    fn a_hash_that_another_program_made_is_taken_as_it_is() {
        let hash = PasswordHash::of(OF_DEBIAN).unwrap();
        assert!(hash.fits(b"correct horse battery staple"));
        assert!(!hash.fits(OF_DEBIAN.as_bytes()), "the hash is not the password");
        assert_eq!(examine(OF_DEBIAN), Ok(None));
    }

    #[test]
    fn what_is_no_usable_hash_is_said() {
        for (text, error) in [
            ("$2y$10$abcdefghijklmnopqrstuv", HashError::OtherKind),
            ("$6$salt$hash", HashError::OtherKind),
            ("$argon2i$v=19$m=4096,t=3,p=1$c2FsdHNhbHQ$x", HashError::OtherKind),
            ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ", HashError::Damaged),
            ("$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$MDEyMzQ1Njc4OWFiY2RlZg", HashError::Damaged),
            ("$argon2id$v=7$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$MDEyMzQ1Njc4OWFiY2RlZg", HashError::Damaged),
            ("$argon2id$v=19$t=2,p=1,m=zz$c2FsdHNhbHRzYWx0$MDEyMzQ1Njc4OWFiY2RlZg", HashError::Damaged),
            ("$argon2id$", HashError::Damaged),
            ("$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHRzYWx0$MDEyMzQ1Njc4OWFiY2RlZg", HashError::TooCostly),
            ("$argon2id$v=19$m=65536,t=4000,p=1$c2FsdHNhbHRzYWx0$MDEyMzQ1Njc4OWFiY2RlZg", HashError::TooCostly),
        ] {
            assert_eq!(examine(text), Err(error), "{text}");
            assert_eq!(PasswordHash::of(text).unwrap_err(), error);
        }
    }

    #[test]
    fn weak_ones_are_told_and_what_looks_odd_is_a_password() {
        assert_eq!(examine("hunter2"), Ok(Some(Weakness::Short)));
        assert_eq!(
            examine("$argon2id$v=19$m=4096,t=3,p=1$c2FsdHNhbHRzYWx0$MDEyMzQ1Njc4OWFiY2RlZg"),
            Ok(Some(Weakness::CheapHash))
        );
        for good in ["correct horse battery staple", "$dollars$and$more", "$1, please, or more"] {
            assert_eq!(examine(good), Ok(None), "{good}");
        }
    }

    #[test]
    fn printing_a_hash_shows_nothing() {
        assert_eq!(format!("{:?}", PasswordHash::of(OF_DEBIAN).unwrap()), "PasswordHash(…)");
    }
}
