//! Dropping a client secret whose successor works: the end of replacing one by the other.

use super::SignIns;
use super::credential::{Credential, CredentialError, Offer, credential};
use super::secrets::KnownSecrets;
use super::shelf::ShelfError;
use crate::config::{Account, Secret};
use crate::message::Address;

/// Why the old secret stays in use.
#[derive(Debug, thiserror::Error)]
pub enum DropError {
    /// The configuration has no such account.
    #[error("the configuration has no account for this mailbox")]
    UnknownAccount,
    /// There is nothing to take its place.
    #[error(
        "{0} has no next_client_secret: put the new secret there first and reload; the old one stays in client_secret until the new one works"
    )]
    NoNext(Address),
    /// Its successor has never been taken.
    #[error(
        "next_client_secret has not worked yet, so the old one stays in use{}. A new secret takes some minutes until Entra ID knows it everywhere; compare it with the secret's Value, and try again",
        why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
    )]
    NotProven {
        /// What the try brought, if it brought nothing at all.
        why: Option<String>,
    },
    /// A secret cannot be read.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// What is known of the secrets cannot be read or written.
    #[error("what is known of the secrets cannot be read or written: {0}")]
    Shelf(#[from] ShelfError),
}

impl SignIns {
    /// From now on only `next_client_secret` is used. If it has not worked yet, it is tried now.
    ///
    /// # Errors
    /// As [`DropError`] says; the old secret stays in use then.
    pub async fn drop_secret(&self, mailbox: &Address) -> Result<(), DropError> {
        let account = self.shared.parts.config.borrow().account(mailbox).cloned().ok_or(DropError::UnknownAccount)?;
        if account.next_client_secret.is_none() {
            return Err(DropError::NoNext(account.mailbox.clone()));
        }
        let next = self.secret(&account, Offer::Next).await?;
        if !self.has_worked(&account, &next).await? {
            let tried = self.refresh_now(&account.mailbox).await;
            if !self.has_worked(&account, &next).await? {
                return Err(DropError::NotProven { why: tried.err().map(|error| error.to_string()) });
            }
        }
        let old = match self.secret(&account, Offer::Current).await {
            Ok(old) => old,
            Err(error) => {
                // It cannot be used either, so there is nothing left to drop.
                tracing::info!(account = %account.mailbox, %error, "the old client secret is gone already");
                return Ok(());
            }
        };
        let parts = &self.shared.parts;
        parts.shelf.learn(KnownSecrets::drop_it(&account.mailbox, &old, parts.clock.now())).await?;
        tracing::info!(account = %account.mailbox, "the old client secret is no longer used");
        Ok(())
    }

    async fn has_worked(&self, account: &Account, next: &Secret) -> Result<bool, ShelfError> {
        let facts = self.shared.parts.shelf.facts(&account.mailbox).await?;
        Ok(KnownSecrets::of(facts).has_worked(next))
    }

    async fn secret(&self, account: &Account, offer: Offer) -> Result<Secret, CredentialError> {
        let parts = &self.shared.parts;
        match credential(&parts.secrets, account, offer, parts.clock.now()).await? {
            Credential::Secret(secret) | Credential::Assertion(secret) => Ok(secret),
            Credential::None => Ok(Secret::new("")),
        }
    }
}
