//! Signing an account in while the relay runs.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Ops, OpsError, Tried};
use crate::config::{Account, Grant, Secret};
use crate::message::Address;
use crate::schedule::Event;
use crate::signin::{DeviceLogin, LoginError, StoredSignIn, take_in_untried};

/// A device sign-in that waits for its person.
pub struct Pending {
    waiting: JoinHandle<Result<StoredSignIn, LoginError>>,
}

/// What the person has to do (RFC 8628 section 3.3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevicePrompt {
    /// The page to open.
    pub verification_uri: String,
    /// The code to type there.
    pub user_code: String,
    /// Until when the code is good.
    pub expires_at: Timestamp,
    /// Who has to sign in.
    pub login: String,
}

impl DevicePrompt {
    /// What the person of this sign-in has to do.
    pub fn of(login: &DeviceLogin, account: &Account) -> Self {
        Self {
            verification_uri: login.verification_uri().to_owned(),
            user_code: login.user_code().to_owned(),
            expires_at: login.expires_at(),
            login: account.login.to_string(),
        }
    }
}

/// A finished sign-in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginDone {
    /// The account.
    pub mailbox: String,
    /// Who signed in, as far as the token tells.
    pub signed_in_as: Option<String>,
    /// Why a refresh token could not be tried before it was stored.
    pub unproven: Option<String>,
}

impl LoginDone {
    /// What there is to tell of a sign-in that is stored.
    pub fn of(stored: &StoredSignIn) -> Self {
        Self { mailbox: stored.account.to_string(), signed_in_as: stored.signed_in_as.clone(), unproven: None }
    }
}

impl Ops {
    /// Tries an account to which nobody signs in.
    pub async fn login_application(&self, mailbox: &Address) -> Result<Tried, OpsError> {
        let account = self.account(mailbox)?;
        if account.grant != Grant::Application {
            return Err(OpsError::Failed(format!(
                "the running relay has {mailbox} with grant = \"delegated\": reload it first"
            )));
        }
        match self.sign_ins.refresh_now(&account.mailbox).await {
            Ok(token) => Ok(Tried { access_token_until: token.expires_at }),
            Err(error) => Err(OpsError::Failed(self.with_advice(&account, &error.to_string()))),
        }
    }

    fn with_advice(&self, account: &Account, error: &str) -> String {
        let statuses = self.sign_ins.status();
        let hold =
            statuses.iter().find(|status| status.mailbox == account.mailbox).and_then(|status| status.hold.as_ref());
        hold.map_or_else(|| error.to_owned(), |hold| format!("{error}\n{}", hold.advice))
    }

    /// Begins a device sign-in. An earlier one of the same account that still waits is dropped: its code is worth nothing any more.
    pub async fn login_begin(&self, mailbox: &Address) -> Result<DevicePrompt, OpsError> {
        let account = self.person_account(mailbox)?;
        let login = DeviceLogin::start(&account, &self.login_tools).await.map_err(|error| failed(&error))?;
        let prompt = DevicePrompt::of(&login, &account);
        let tools = self.login_tools.clone();
        let waiting = tokio::spawn(async move { login.wait(&tools, &CancellationToken::new()).await });
        if let Some(earlier) = self.logins.lock().await.insert(account.mailbox.clone(), Pending { waiting }) {
            earlier.waiting.abort();
        }
        Ok(prompt)
    }

    /// Waits until the person is done, and puts the sign-in to use.
    pub async fn login_wait(&self, mailbox: &Address) -> Result<LoginDone, OpsError> {
        let pending = self.logins.lock().await.remove(mailbox);
        let Some(pending) = pending else {
            return Err(OpsError::NotFound(format!("no sign-in of {mailbox} is under way")));
        };
        let stored = pending.waiting.await;
        let stored =
            stored.map_err(|_| OpsError::Failed("another sign-in of this account was begun meanwhile".into()))?;
        self.adopt(stored.map_err(|error| failed(&error))?).await
    }

    /// Takes in a refresh token that was obtained elsewhere.
    pub async fn login_take_in(&self, mailbox: &Address, refresh_token: Secret) -> Result<LoginDone, OpsError> {
        let account = self.person_account(mailbox)?;
        let has_sign_in = self.store.sign_in(&account.mailbox).await?.is_some();
        let taken = take_in_untried(&account, refresh_token, &self.login_tools, has_sign_in).await;
        let (stored, untried) = taken.map_err(|error| failed(&error))?;
        let done = self.adopt(stored).await?;
        Ok(LoginDone { unproven: untried.map(|error| error.to_string()), ..done })
    }

    /// An account to which a person signs in.
    fn person_account(&self, mailbox: &Address) -> Result<Arc<Account>, OpsError> {
        let account = self.account(mailbox)?;
        match account.grant {
            Grant::Delegated => Ok(account),
            Grant::Application => Err(OpsError::Failed(format!(
                "{mailbox} has grant = \"application\" in the running relay: nobody signs in to it"
            ))),
        }
    }

    async fn adopt(&self, stored: StoredSignIn) -> Result<LoginDone, OpsError> {
        let account = stored.account.clone();
        let done = LoginDone::of(&stored);
        self.sign_ins.adopt(stored).await.map_err(|error| OpsError::Failed(error.to_string()))?;
        self.schedule.tell(Event::SignedIn { account });
        Ok(done)
    }
}

fn failed(error: &LoginError) -> OpsError {
    OpsError::Failed(error.to_string())
}
