//! Where sign-ins are kept: sealed by the vault, in the store. The sign-in knows neither of them.
//!
//! Promises:
//! - Whoever saves holds the vault from the sealing to the commit, and a new key waits for that: nothing sealed with an old key is ever
//!   written behind a rotation.
//! - A sign-in that belongs to another instance is not given out ([`crate::identity`]), so that no token is asked for with it.
//! - A key that is missing or wrong is looked for again whenever a sign-in cannot be opened: put back, it needs no restart.

mod key_source;
mod rotation;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use anyhow::Context;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{RwLock, RwLockReadGuard};

pub use key_source::KeySource;
pub use rotation::{KEY_FACT, RotateError, Rotated};

use crate::identity::Identity;
use crate::message::Address;
use crate::signin::{Shelf, ShelfError, StoredAccess, StoredSignIn};
use crate::store::{Change, Fact, Key, KeyId, SealedAccess, SealedSignIn, Store, Vault, VaultError, crash};
use key_source::{Place, blocking};

/// Sign-ins in the store, sealed. Cheap to clone; clones share the vault.
#[derive(Clone)]
pub struct VaultShelf {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    source: KeySource,
    identity: Identity,
    /// The vault, or why there is none. Once there is one, there always is.
    vault: RwLock<Result<Vault, String>>,
}

impl VaultShelf {
    /// Keeps sign-ins in this store under the key of this source; one is made if nothing is sealed yet and none is configured. Where
    /// something is sealed and the key cannot be had, the shelf is there without one: the relay takes mail, and its accounts are held.
    ///
    /// # Errors
    ///
    /// When the key cannot be had and nothing is sealed yet: whoever sets the relay up is there to hear it.
    pub async fn open(store: Store, source: KeySource, identity: Identity) -> anyhow::Result<Self> {
        source.warn_of_exposure();
        let vault = match source.read().await.and_then(|keys| vault_of(&keys)) {
            Ok(vault) => Ok(vault),
            Err(error) if store.has_sign_ins().await? => {
                tracing::error!(%error, "the stored sign-ins cannot be opened: their accounts are held, and mail is taken and waits");
                Err(error.to_string())
            }
            Err(VaultError::Missing(_)) => Ok(make(&source).await?),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { shared: Arc::new(Shared { store, source, identity, vault: RwLock::new(vault) }) })
    }

    /// For the tests of others: with the key of this folder, and nobody else's accounts.
    #[cfg(test)]
    pub(crate) async fn in_folder(store: Store, data_dir: &std::path::Path) -> Self {
        let config = crate::config::testing::config_with(&format!("data_dir = {data_dir:?}"));
        let source = KeySource::of(&config, &crate::config::Environment::default());
        let (_sender, config) = tokio::sync::watch::channel(Arc::new(config));
        let identity = Identity::establish(store.clone(), config, crate::clock::Clock::system(), None).await;
        Self::open(store, source, identity.expect("the store is good")).await.expect("the folder is good")
    }

    /// Whose accounts these are.
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// The key in use; `None`: there is none.
    pub async fn key(&self) -> Option<KeyId> {
        self.shared.vault.read().await.as_ref().ok().map(Vault::seals_with)
    }

    /// Sees to it that there is a key to seal with, before a person is asked to sign in: looks for a missing one again, and makes one if
    /// none is configured. What was sealed with a lost key stays as it is until it is replaced.
    ///
    /// # Errors
    ///
    /// When the configured key cannot be read, or the key file cannot be written.
    pub async fn ensure_key(&self) -> anyhow::Result<()> {
        let Shared { source, vault, .. } = &*self.shared;
        if vault.read().await.is_ok() {
            return Ok(());
        }
        let mut vault = vault.write().await;
        if vault.is_err() {
            let found = match source.read().await.and_then(|keys| vault_of(&keys)) {
                Err(VaultError::Missing(path)) => {
                    tracing::warn!(key = %path.display(), "a new key is made; what was sealed with the lost one stays sealed");
                    make(source).await
                }
                found => found,
            };
            *vault = Ok(found.context("there is no key to seal the sign-in with")?);
        }
        Ok(())
    }

    /// The key may have been put back. Opens more than before, and goes on to seal with the key in use, which is put beside it if somebody has
    /// copied the old file over it.
    async fn look_again(&self) {
        let Shared { source, vault, .. } = &*self.shared;
        let mut vault = vault.write().await;
        let Ok(keys) = source.read().await else { return };
        let Some(found) = Vault::of(&keys) else { return };
        let found = match &*vault {
            Ok(vault) => vault.with(&found),
            Err(_) => found,
        };
        if let Place::Own(file) = source.place()
            && keys.iter().all(|key| key.id() != found.seals_with())
            && let Err(error) = rotation::write(file, found.all_keys()).await
        {
            tracing::error!(%error, "the key in use is not in its file: what is sealed with it does not outlive a restart");
        }
        *vault = Ok(found);
    }

    /// `None`: it cannot be opened, for this reason.
    async fn read(&self, account: &Address) -> Result<Option<Result<StoredSignIn, String>>, ShelfError> {
        // Held while the row is read: it is not sealed anew in between.
        let vault = self.shared.vault.read().await;
        let row = self.shared.store.sign_in(account).await;
        let row = row.map_err(|error| ShelfError::Unavailable(error.to_string()))?;
        Ok(row.map(|row| match &*vault {
            Ok(vault) => unseal(vault, row).map_err(|error| error.to_string()),
            Err(why) => Err(why.clone()),
        }))
    }

    async fn seal_and_commit(&self, sign_in: StoredSignIn) -> Result<(), ShelfError> {
        let unavailable = |error: String| ShelfError::Unavailable(error);
        self.ensure_key().await.map_err(|error| unavailable(format!("{error:#}")))?;
        // Held until the row is on disk: a rotation does not come in between.
        let vault = RwLockReadGuard::try_map(self.shared.vault.read().await, |vault| vault.as_ref().ok());
        let Ok(vault) = vault else { return Err(unavailable("the key is gone".to_owned())) };
        let row = seal(&vault, sign_in);
        let committed = self.shared.store.commit(Change::SignIn(Box::new(row))).await;
        committed.map_err(|error| unavailable(error.to_string()))
    }
}

impl Shelf for VaultShelf {
    fn load<'a>(&'a self, account: &'a Address) -> BoxFuture<'a, Result<Option<StoredSignIn>, ShelfError>> {
        async move {
            if let Some(foreign) = self.shared.identity.foreign(account) {
                return Err(ShelfError::Foreign(foreign.to_string()));
            }
            if let Some(Err(_)) = self.read(account).await? {
                self.look_again().await;
            }
            let stored = self.read(account).await?.transpose().map_err(ShelfError::WrongKey);
            crash::point(crash::AFTER_SIGN_IN_LOAD);
            stored
        }
        .boxed()
    }

    fn save(&self, sign_in: StoredSignIn) -> BoxFuture<'_, Result<(), ShelfError>> {
        async move {
            crash::point(crash::BEFORE_SIGN_IN_WRITE);
            let account = sign_in.account.clone();
            self.seal_and_commit(sign_in).await?;
            crash::point(crash::AFTER_SIGN_IN_WRITE);
            // Afterwards: a crash in between leaves it held, never the copied sign-in in use.
            let claimed = self.shared.identity.claim(&account).await;
            claimed.map_err(|error| ShelfError::Unavailable(error.to_string()))
        }
        .boxed()
    }

    fn facts<'a>(&'a self, account: &'a Address) -> BoxFuture<'a, Result<Vec<Fact>, ShelfError>> {
        async move {
            let facts = self.shared.store.facts().await;
            let mut facts = facts.map_err(|error| ShelfError::Unavailable(error.to_string()))?;
            facts.retain(|fact| fact.account.as_ref() == Some(account));
            Ok(facts)
        }
        .boxed()
    }

    fn learn(&self, fact: Fact) -> BoxFuture<'_, Result<(), ShelfError>> {
        async move {
            let committed = self.shared.store.commit(Change::Learn(fact)).await;
            committed.map_err(|error| ShelfError::Unavailable(error.to_string()))
        }
        .boxed()
    }
}

fn vault_of(keys: &[Key]) -> Result<Vault, VaultError> {
    Vault::of(keys).ok_or_else(|| VaultError::NotAKey("the key".to_owned()))
}

/// The relay's own key, on disk before anything is sealed with it.
async fn make(source: &KeySource) -> Result<Vault, VaultError> {
    // Without one configured: nothing else is missing in this way.
    let file = source.file();
    blocking(move || {
        let key = Key::random();
        file.write([&key])?;
        Ok(Vault::new(&key))
    })
    .await
}

fn seal(vault: &Vault, sign_in: StoredSignIn) -> SealedSignIn {
    let StoredSignIn { account, current, previous, signed_in_as, since, refreshed_at, refresh_life, access } = sign_in;
    SealedSignIn {
        current: vault.seal(&account, SealedSignIn::CURRENT, &current),
        previous: previous.map(|previous| vault.seal(&account, SealedSignIn::PREVIOUS, &previous)),
        signed_in_as,
        since,
        refreshed_at,
        refresh_life,
        access: access.map(|StoredAccess { token, received_at, life }| SealedAccess {
            token: vault.seal(&account, SealedSignIn::ACCESS, &token),
            received_at,
            life,
        }),
        account,
    }
}

fn unseal(vault: &Vault, row: SealedSignIn) -> Result<StoredSignIn, VaultError> {
    let SealedSignIn { account, current, previous, signed_in_as, since, refreshed_at, refresh_life, access } = row;
    let current = vault.open(&account, SealedSignIn::CURRENT, &current)?;
    // A damaged predecessor is no reason to give up a sign-in that works.
    let previous = previous.and_then(|sealed| vault.open(&account, SealedSignIn::PREVIOUS, &sealed).ok());
    // Nor is a damaged access token: the next refresh brings another one.
    let access = access.and_then(|SealedAccess { token, received_at, life }| {
        Some(StoredAccess { token: vault.open(&account, SealedSignIn::ACCESS, &token).ok()?, received_at, life })
    });
    Ok(StoredSignIn { account, current, previous, signed_in_as, since, refreshed_at, refresh_life, access })
}
