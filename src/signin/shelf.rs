//! Where sign-ins rest: a small door to the store and its vault, so that the sign-in knows neither.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::Timestamp;

use crate::config::Secret;
use crate::message::Address;
use crate::store::Fact;

/// A sign-in as it outlives a restart. Printing it prints no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSignIn {
    /// The mailbox it belongs to.
    pub account: Address,
    /// The refresh token in use.
    pub current: Secret,
    /// Its predecessor, until the current one has worked.
    pub previous: Option<Secret>,
    /// Who signed in, as far as the access token told.
    pub signed_in_as: Option<String>,
    /// When the person signed in.
    pub since: Timestamp,
    /// When the last refresh succeeded.
    pub refreshed_at: Timestamp,
    /// How long the refresh token may lie unused from then on, if the endpoint said so; zero if it was never tried.
    pub refresh_life: Option<Duration>,
    /// The last access token, so that mail leaves after a restart even while the endpoint is away; `None` once Exchange rejected it.
    pub access: Option<StoredAccess>,
}

/// An access token as it outlives a restart. Printing it prints no token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAccess {
    /// The token.
    pub token: Secret,
    /// When it came.
    pub received_at: Timestamp,
    /// How long it lives from then on.
    pub life: Duration,
}

/// Why a sign-in could not be loaded or committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShelfError {
    /// It is there, but sealed with another key. Trying again does not help: a person has to bring the key back or sign in anew.
    #[error("{0}")]
    WrongKey(String),
    /// It belongs to another instance, of which this relay may be a copy. It must not be used: that would take it away from its owner.
    #[error("{0}")]
    Foreign(String),
    /// Anything that may go away by itself: a full disk, a busy or closing store.
    #[error("{0}")]
    Unavailable(String),
}

/// Loads and commits sign-ins.
pub trait Shelf: Send + Sync + 'static {
    /// The sign-in of this mailbox, if it has one.
    fn load<'a>(&'a self, account: &'a Address) -> BoxFuture<'a, Result<Option<StoredSignIn>, ShelfError>>;

    /// Keeps it in place of an earlier one. `Ok` means that it is synced to disk: the rotated token is relied upon from then on.
    fn save(&self, sign_in: StoredSignIn) -> BoxFuture<'_, Result<(), ShelfError>>;

    /// What was learnt of this account.
    fn facts<'a>(&'a self, account: &'a Address) -> BoxFuture<'a, Result<Vec<Fact>, ShelfError>>;

    /// Remembers a fact in place of an earlier one of that name.
    fn learn(&self, fact: Fact) -> BoxFuture<'_, Result<(), ShelfError>>;
}

/// A shelf that forgets everything with the process: for tests and rehearsals.
#[derive(Debug, Default)]
pub struct MemoryShelf {
    rows: Mutex<HashMap<String, StoredSignIn>>,
    facts: Mutex<Vec<Fact>>,
}

impl MemoryShelf {
    /// Puts a sign-in there, as an earlier run of the relay would have.
    pub fn put(&self, sign_in: StoredSignIn) {
        let key = sign_in.account.key();
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).insert(key, sign_in);
    }

    /// What is there.
    pub fn peek(&self, account: &Address) -> Option<StoredSignIn> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).get(&account.key()).cloned()
    }
}

impl Shelf for MemoryShelf {
    fn load<'a>(&'a self, account: &'a Address) -> BoxFuture<'a, Result<Option<StoredSignIn>, ShelfError>> {
        async move { Ok(self.peek(account)) }.boxed()
    }

    fn save(&self, sign_in: StoredSignIn) -> BoxFuture<'_, Result<(), ShelfError>> {
        async move {
            self.put(sign_in);
            Ok(())
        }
        .boxed()
    }

    fn facts<'a>(&'a self, account: &'a Address) -> BoxFuture<'a, Result<Vec<Fact>, ShelfError>> {
        async move {
            let facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(facts.iter().filter(|fact| fact.account.as_ref() == Some(account)).cloned().collect())
        }
        .boxed()
    }

    fn learn(&self, fact: Fact) -> BoxFuture<'_, Result<(), ShelfError>> {
        async move {
            let mut facts = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
            facts.retain(|known| (&known.account, &known.name) != (&fact.account, &fact.name));
            facts.push(fact);
            Ok(())
        }
        .boxed()
    }
}
