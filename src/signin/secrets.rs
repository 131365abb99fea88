//! What is remembered of an account's client secrets while one replaces the other: whether the next one has worked, whether the old one was
//! dropped, since when each is known. Pure.
//!
//! Facts are not sealed, so nothing but salted one-way fingerprints is kept. A secret of Entra ID is 40 random characters: nobody finds it by
//! trying.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use blake2::{Blake2b512, Digest};
use jiff::Timestamp;
use subtle::ConstantTimeEq;

use super::credential::{Credential, Offer};
use crate::config::Secret;
use crate::message::Address;
use crate::store::Fact;

/// The next secret that has worked.
const NEXT_WORKED: &str = "secret/next_worked";
/// The old secret that is no longer to be used.
const DROPPED: &str = "secret/dropped";
/// The secrets that were seen last, each since the time of its fact.
const SEEN: &str = "secret/seen";
const NEXT_SEEN: &str = "secret/next_seen";
const SALT: usize = 16;

/// What is known of one account's secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownSecrets {
    facts: Vec<Fact>,
}

impl KnownSecrets {
    /// What these facts of one account say.
    pub(super) fn of(facts: Vec<Fact>) -> Self {
        Self { facts }
    }

    /// Whether the next secret, being this one, has worked.
    pub(super) fn has_worked(&self, next: &Secret) -> bool {
        self.says(NEXT_WORKED, next).is_some()
    }

    /// Whether this old secret was dropped.
    pub(super) fn is_dropped(&self, old: &Secret) -> bool {
        self.says(DROPPED, old).is_some()
    }

    /// For how long this secret or certificate has been in use.
    pub(super) fn age(&self, offer: Offer, credential: &Credential, now: Timestamp) -> Option<Duration> {
        // A clock that went back must not make it new for ever.
        self.says(seen(offer), &credential.lasting()?).map(|fact| now.duration_since(fact.at).unsigned_abs())
    }

    /// The fact to learn when a secret is seen for the first time.
    pub(super) fn seen(&self, account: &Address, offer: Offer, secret: &Secret, now: Timestamp) -> Option<Fact> {
        self.says(seen(offer), secret).is_none().then(|| fact(account, seen(offer), secret, now))
    }

    /// The fact to learn when the next secret works for the first time.
    pub(super) fn worked(&self, account: &Address, next: &Secret, now: Timestamp) -> Option<Fact> {
        (!self.has_worked(next)).then(|| fact(account, NEXT_WORKED, next, now))
    }

    /// The fact to learn when the old secret is dropped.
    pub(super) fn drop_it(account: &Address, old: &Secret, now: Timestamp) -> Fact {
        fact(account, DROPPED, old, now)
    }

    /// Takes in what was learnt.
    pub(super) fn learn(&mut self, fact: Fact) {
        self.facts.retain(|known| known.name != fact.name);
        self.facts.push(fact);
    }

    fn says(&self, name: &str, secret: &Secret) -> Option<&Fact> {
        let fact = self.facts.iter().find(|fact| fact.name == name)?;
        fact.value.as_deref().is_some_and(|value| is_of(value, secret)).then_some(fact)
    }
}

fn seen(offer: Offer) -> &'static str {
    match offer {
        Offer::Current => SEEN,
        Offer::Next => NEXT_SEEN,
    }
}

fn fact(account: &Address, name: &str, secret: &Secret, at: Timestamp) -> Fact {
    let value = Some(fingerprint(&rand::random(), secret));
    Fact { account: Some(account.clone()), name: name.to_owned(), value, at }
}

/// Salt and hash, as one text.
fn fingerprint(salt: &[u8; SALT], secret: &Secret) -> String {
    let hash = Blake2b512::new().chain_update(salt).chain_update(secret.expose()).finalize();
    format!("{}.{}", STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(&hash[..32]))
}

/// Whether a fingerprint is this secret's.
fn is_of(value: &str, secret: &Secret) -> bool {
    let salt = value.split_once('.').and_then(|(salt, _)| STANDARD_NO_PAD.decode(salt).ok());
    let salt: Option<[u8; SALT]> = salt.and_then(|salt| salt.try_into().ok());
    salt.is_some_and(|salt| fingerprint(&salt, secret).as_bytes().ct_eq(value.as_bytes()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> Address {
        Address::parse("lms@contoso.com").unwrap()
    }

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    #[test]
    fn a_secret_is_known_again_and_no_other_is_taken_for_it() {
        let (old, next, other) = (Secret::new("old"), Secret::new("next"), Secret::new("other"));
        let mut known = KnownSecrets::default();
        assert!(!known.has_worked(&next) && !known.is_dropped(&old));
        known.learn(known.worked(&account(), &next, now()).unwrap());
        known.learn(KnownSecrets::drop_it(&account(), &old, now()));
        assert!(known.has_worked(&next) && !known.has_worked(&other));
        assert!(known.is_dropped(&old) && !known.is_dropped(&next));
        assert_eq!(known.worked(&account(), &next, now()), None, "nothing new");
        let again = KnownSecrets::of(known.facts.clone());
        assert_eq!(again, known);
    }

    #[test]
    fn the_age_of_a_secret_is_known_over_restarts() {
        let secret = Secret::new("secret");
        let shown = Credential::Secret(secret.clone());
        let mut known = KnownSecrets::default();
        assert_eq!(known.age(Offer::Next, &shown, now()), None, "not seen yet");
        known.learn(known.seen(&account(), Offer::Next, &secret, now()).unwrap());
        let minutes = Duration::from_mins(14);
        assert_eq!(known.age(Offer::Next, &shown, now() + minutes), Some(minutes));
        assert_eq!(known.age(Offer::Current, &shown, now()), None);
        let signed = |jwt: &str| Credential::Assertion(Secret::new(jwt));
        known.learn(known.seen(&account(), Offer::Current, &signed("head.one.x").lasting().unwrap(), now()).unwrap());
        assert_eq!(known.age(Offer::Current, &signed("head.two.y"), now() + minutes), Some(minutes));
        assert_eq!(known.age(Offer::Current, &signed("other.two.y"), now() + minutes), None);
        assert_eq!(known.age(Offer::Next, &Credential::Secret(Secret::new("other")), now()), None);
        assert_eq!(known.age(Offer::Next, &shown, now() - minutes), Some(minutes), "the clock went back");
        assert_eq!(known.seen(&account(), Offer::Next, &secret, now() + minutes), None);
    }

    #[test]
    fn a_fingerprint_shows_nothing_and_is_another_one_each_time() {
        let secret = Secret::new("abc8Q~hunter2");
        let facts = [(); 2].map(|()| KnownSecrets::drop_it(&account(), &secret, now()).value.unwrap());
        assert_ne!(facts[0], facts[1]);
        assert!(!facts[0].contains("hunter2") && is_of(&facts[0], &secret) && is_of(&facts[1], &secret));
        for damaged in ["", ".", "AAAA.BBBB", "no fingerprint", &facts[0][1..]] {
            assert!(!is_of(damaged, &secret), "{damaged}");
        }
    }
}
