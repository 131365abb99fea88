//! A new key for everything that is sealed.
//!
//! One rule covers every source: a key may be several, of which the first seals and all open. So a rotation is "put the new key in front,
//! seal everything anew in one transaction, take the old key away", and wherever it is cut off, both keys are there for as long as both
//! are needed. (A second file beside the first would say the same in two places that have to agree.) In its own key file the relay does
//! all three steps; of a configured secret it does the second one, since it may not and cannot write there, and says the other two.
//! A start finishes a rotation that was cut off.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::key_source::{Place, blocking};
use super::{VaultShelf, vault_of};
use crate::config::SecretSource;
use crate::message::Address;
use crate::store::{
    Change, CommitError, Fact, JournalEntry, Key, KeyFile, KeyId, ReadError, Resealed, SealedSignIn, Vault, VaultError,
    crash, sealed_with,
};

/// The fact that tells `status` which key is in use, and since when.
pub const KEY_FACT: &str = "vault/key";

/// What a rotation has done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotated {
    /// The name of the key in use. It says nothing about the key.
    pub key: String,
    /// How many sign-ins are sealed with it.
    pub sign_ins: usize,
    /// Accounts whose stored sign-in no key at hand opens: left as they are.
    pub left: Vec<String>,
    /// What is left to do for a person.
    pub next: String,
}

/// Why nothing was sealed anew. Nothing is lost in any case.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// There is no key, or no new one.
    #[error(transparent)]
    Key(#[from] VaultError),
    /// The configured secret holds one key only: how to go on.
    #[error("{0}")]
    NoNewKey(String),
    /// The configured secret no longer holds the key in use.
    #[error(
        "{place} does not hold the key {in_use} any more, with which {account} is sealed: put it back behind the new one, or a restart in \
         the middle would lose the sign-in"
    )]
    OldKeyGone {
        /// The secret.
        place: String,
        /// The key in use.
        in_use: KeyId,
        /// One of the accounts.
        account: Address,
    },
    /// The queue could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The sign-ins could not be written.
    #[error(
        "the sign-ins were not sealed anew: {0}; the old key and the new one both open them, so give the command again"
    )]
    Write(#[from] CommitError),
}

/// What is sealed, under another key.
struct Anew {
    changed: Vec<SealedSignIn>,
    left: Vec<Address>,
    total: usize,
}

impl VaultShelf {
    /// Seals everything with a new key. Nobody saves or loads a sign-in meanwhile, which takes as long as one commit.
    pub async fn rotate(&self, now: Timestamp) -> Result<Rotated, RotateError> {
        match self.shared.source.place() {
            Place::Own(file) => self.rotate_own_key(file, now).await,
            Place::Configured(secret) => self.take_configured_key(secret, now).await,
        }
    }

    async fn rotate_own_key(&self, file: &KeyFile, now: Timestamp) -> Result<Rotated, RotateError> {
        let mut vault = self.shared.vault.write().await;
        let on_disk = match (self.shared.source.read().await, &*vault) {
            (Ok(keys), _) => keys,
            // Somebody removed the file: what is in memory still opens everything.
            (Err(VaultError::Missing(_)), Ok(_)) => Vec::new(),
            (Err(error), _) => return Err(error.into()),
        };
        let new = Key::random();
        let old = match (&*vault, Vault::of(&on_disk)) {
            (Ok(vault), Some(found)) => vault.with(&found),
            (Ok(vault), None) => vault.clone(),
            (Err(_), found) => found.ok_or_else(|| VaultError::Missing(file.path().to_owned()))?,
        };
        // Those in memory too: the file may be gone, or another one by now.
        let keys = [new.clone()].into_iter().chain(old.all_keys()).collect();
        write(file, keys).await?;
        crash::point(crash::AFTER_NEW_KEY);
        // From here on both keys open, in memory as on disk: whatever becomes of the commit, nothing is lost.
        *vault = Ok(old.behind(&new));
        let anew = self.seal_anew(&old.behind(&new), Some(old.seals_with()), now).await?;
        crash::point(crash::BEFORE_OLD_KEY_REMOVAL);
        let path = file.path().display().to_string();
        let id = new.id();
        let after = Vault::new(&new);
        let next = match write(file, vec![new]).await {
            Ok(()) => {
                *vault = Ok(after);
                format!(
                    "The new key is in {path}, and the old one is gone. A backup of the data folder from before needs the key that was \
                     kept with it. Keep a copy of the new key, apart from backups of the data folder."
                )
            }
            Err(error) => {
                tracing::warn!(%error, "the old key could not be removed from its file; the next start does it");
                format!("The old key could not be removed from {path} ({error}); the next start does it.")
            }
        };
        Ok(anew.told(id, next))
    }

    async fn take_configured_key(&self, secret: &SecretSource, now: Timestamp) -> Result<Rotated, RotateError> {
        let mut vault = self.shared.vault.write().await;
        let keys = self.shared.source.read().await?;
        let new = vault_of(&keys)?;
        let rows = self.shared.store.sign_ins().await?;
        if let Ok(old) = &*vault
            && let Some(account) = only_opens_with(old, &new, &rows)
        {
            return Err(RotateError::OldKeyGone { place: secret.to_string(), in_use: old.seals_with(), account });
        }
        let before = vault.as_ref().ok().map(Vault::seals_with);
        if keys.len() == 1 && before.is_none_or(|before| before == new.seals_with()) {
            return Err(RotateError::NoNewKey(procedure(secret)));
        }
        *vault = Ok(new.clone());
        let anew = self.seal_anew(&new, before, now).await?;
        let next = format!(
            "Now take the old key away: leave nothing but the first one in {}.{}",
            place(secret),
            later(secret)
        );
        Ok(anew.told(new.seals_with(), next))
    }

    /// Finishes what a crash has cut off, and what a person has begun by putting a new key in front: for the start. What cannot be done
    /// now is told and done by the next one, since both keys are still there.
    pub async fn finish_rotation(&self, now: Timestamp) {
        if let Err(error) = self.try_to_finish(now).await {
            tracing::warn!(%error, "could not seal the sign-ins with the first key; the next start tries again");
        }
    }

    async fn try_to_finish(&self, now: Timestamp) -> Result<(), RotateError> {
        let mut guard = self.shared.vault.write().await;
        let Ok(vault) = &*guard else { return Ok(()) };
        self.seal_anew(vault, None, now).await?;
        let first = vault.seals_with();
        let mut keys = self.shared.source.read().await?;
        if keys.len() == 1 {
            return Ok(());
        }
        match self.shared.source.place() {
            Place::Own(file) => {
                keys.truncate(1);
                let after = vault_of(&keys)?;
                write(file, keys).await?;
                tracing::info!(key = %first, "the old key is gone from its file");
                *guard = Ok(after);
            }
            Place::Configured(secret) => {
                tracing::info!(
                    "everything is sealed with {first}: the other keys can be taken away from {}",
                    place(secret)
                );
            }
        }
        Ok(())
    }

    /// Everything in one change. Nothing is written where everything is sealed with the first key already, unless there is `before`.
    async fn seal_anew(&self, vault: &Vault, before: Option<KeyId>, now: Timestamp) -> Result<Anew, RotateError> {
        let anew = under(vault, self.shared.store.sign_ins().await?);
        let id = vault.seals_with();
        let before = before.filter(|before| *before != id);
        if anew.changed.is_empty() && before.is_none() {
            return Ok(anew);
        }
        let with = before.map(|before| format!(", with {before} before")).unwrap_or_default();
        let text = format!("a new key: {} sealed with {id} now{with}", sign_ins(anew.changed.len()));
        let key = Fact { account: None, name: KEY_FACT.to_owned(), value: Some(id.to_string()), at: now };
        let entry = JournalEntry { at: now, message: None, account: None, text: text.clone() };
        let change = Change::Reseal(Box::new(Resealed { sign_ins: anew.changed.clone(), key, entry }));
        self.shared.store.commit(change).await?;
        tracing::info!("{text}");
        Ok(anew)
    }
}

impl Anew {
    fn told(self, key: KeyId, next: String) -> Rotated {
        let left: Vec<String> = self.left.iter().map(ToString::to_string).collect();
        Rotated { key: key.to_string(), sign_ins: self.total - left.len(), left, next }
    }
}

/// The rows under the vault's first key. What no key opens stays as it is.
fn under(vault: &Vault, rows: Vec<SealedSignIn>) -> Anew {
    let mut anew = Anew { changed: Vec::new(), left: Vec::new(), total: rows.len() };
    for mut row in rows {
        let (account, mut is_changed) = (row.account.clone(), false);
        for (purpose, sealed) in row.sealed_mut() {
            match vault.open(&account, purpose, sealed) {
                Ok(_) if sealed_with(sealed) == Some(vault.seals_with()) => {}
                Ok(plain) => {
                    *sealed = vault.seal(&account, purpose, &plain);
                    is_changed = true;
                }
                Err(_) if purpose == SealedSignIn::CURRENT => anew.left.push(account.clone()),
                Err(_) => {}
            }
        }
        if is_changed {
            anew.changed.push(row);
        }
    }
    anew
}

/// An account that the one vault opens and the other does not.
fn only_opens_with(one: &Vault, other: &Vault, rows: &[SealedSignIn]) -> Option<Address> {
    let opens =
        |vault: &Vault, row: &SealedSignIn| vault.open(&row.account, SealedSignIn::CURRENT, &row.current).is_ok();
    rows.iter().find(|row| opens(one, row) && !opens(other, row)).map(|row| row.account.clone())
}

pub(super) async fn write(file: &KeyFile, keys: Vec<Key>) -> Result<(), VaultError> {
    let file = file.clone();
    blocking(move || file.write(&keys)).await
}

fn sign_ins(number: usize) -> String {
    if number == 1 { "1 sign-in is".to_owned() } else { format!("{number} sign-ins are") }
}

/// How a new key comes into a configured secret.
fn procedure(secret: &SecretSource) -> String {
    let restart = match secret {
        SecretSource::File(_) | SecretSource::Command(_) => "2. xoauth2-relay rotate-key",
        // The process knows these as they were when it started; a start seals everything anew by itself.
        SecretSource::Literal(_) | SecretSource::Env(_) | SecretSource::Credential(_) => {
            "2. restart the relay, then: xoauth2-relay rotate-key"
        }
    };
    format!(
        "nothing was changed: {place} holds one key, the one in use. To replace it: 1. make a new one (openssl rand -base64 32) and put it \
         in front of the old one, which stays behind it, with white space between them; {restart}; 3. take the old key away when that \
         command says so",
        place = place(secret)
    )
}

fn later(secret: &SecretSource) -> &'static str {
    match secret {
        SecretSource::File(_) | SecretSource::Command(_) => "",
        _ => " The next restart takes note of it; nothing has to be restarted for it.",
    }
}

fn place(secret: &SecretSource) -> String {
    match secret {
        SecretSource::File(path) => path.display().to_string(),
        SecretSource::Literal(_) => "`key` in the configuration".to_owned(),
        SecretSource::Command(_) => format!("what {secret} prints"),
        other => other.to_string(),
    }
}
