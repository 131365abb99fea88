//! Where sign-ins are kept: sealed by the vault, in the store. The sign-in knows neither of them.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::message::Address;
use crate::signin::{Shelf, ShelfError, StoredAccess, StoredSignIn};
use crate::store::{Change, Fact, SealedAccess, SealedSignIn, Store, Vault, VaultError, crash};

/// What the vault binds a sealed text to, beside the account.
const CURRENT: &str = "refresh token";
const PREVIOUS: &str = "previous refresh token";
const ACCESS: &str = "access token";

/// Sign-ins in the store, sealed.
pub struct VaultShelf {
    store: Store,
    vault: Vault,
}

impl VaultShelf {
    /// Keeps sign-ins in this store under this vault's key.
    pub fn new(store: Store, vault: Vault) -> Self {
        Self { store, vault }
    }

    fn unseal(&self, row: SealedSignIn) -> Result<StoredSignIn, ShelfError> {
        let SealedSignIn { account, current, previous, signed_in_as, since, refreshed_at, refresh_life, access } = row;
        let unusable = |error: VaultError| ShelfError::WrongKey(error.to_string());
        let current = self.vault.open(&account, CURRENT, &current).map_err(unusable)?;
        // A damaged predecessor is no reason to give up a sign-in that works.
        let previous = previous.and_then(|sealed| self.vault.open(&account, PREVIOUS, &sealed).ok());
        // Nor is a damaged access token: the next refresh brings another one.
        let access = access.and_then(|access| {
            let SealedAccess { token, received_at, life } = access;
            Some(StoredAccess { token: self.vault.open(&account, ACCESS, &token).ok()?, received_at, life })
        });
        Ok(StoredSignIn { account, current, previous, signed_in_as, since, refreshed_at, refresh_life, access })
    }
}

impl Shelf for VaultShelf {
    fn load<'a>(&'a self, account: &'a Address) -> BoxFuture<'a, Result<Option<StoredSignIn>, ShelfError>> {
        async move {
            let row = self.store.sign_in(account).await.map_err(|error| ShelfError::Unavailable(error.to_string()))?;
            crash::point(crash::AFTER_SIGN_IN_LOAD);
            row.map(|row| self.unseal(row)).transpose()
        }
        .boxed()
    }

    fn save(&self, sign_in: StoredSignIn) -> BoxFuture<'_, Result<(), ShelfError>> {
        async move {
            crash::point(crash::BEFORE_SIGN_IN_WRITE);
            let account = sign_in.account;
            let row = SealedSignIn {
                current: self.vault.seal(&account, CURRENT, &sign_in.current),
                previous: sign_in.previous.map(|previous| self.vault.seal(&account, PREVIOUS, &previous)),
                signed_in_as: sign_in.signed_in_as,
                since: sign_in.since,
                refreshed_at: sign_in.refreshed_at,
                refresh_life: sign_in.refresh_life,
                access: sign_in.access.map(|access| SealedAccess {
                    token: self.vault.seal(&account, ACCESS, &access.token),
                    received_at: access.received_at,
                    life: access.life,
                }),
                account,
            };
            let committed = self.store.commit(Change::SignIn(Box::new(row))).await;
            crash::point(crash::AFTER_SIGN_IN_WRITE);
            committed.map_err(|error| ShelfError::Unavailable(error.to_string()))
        }
        .boxed()
    }

    fn facts<'a>(&'a self, account: &'a Address) -> BoxFuture<'a, Result<Vec<Fact>, ShelfError>> {
        async move {
            let mut facts = self.store.facts().await.map_err(|error| ShelfError::Unavailable(error.to_string()))?;
            facts.retain(|fact| fact.account.as_ref() == Some(account));
            Ok(facts)
        }
        .boxed()
    }

    fn learn(&self, fact: Fact) -> BoxFuture<'_, Result<(), ShelfError>> {
        async move {
            let committed = self.store.commit(Change::Learn(fact)).await;
            committed.map_err(|error| ShelfError::Unavailable(error.to_string()))
        }
        .boxed()
    }
}
