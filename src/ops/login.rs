//! Signing an account in while the relay runs. At most one sign-in of an account waits for its person: the one begun last.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Ops, OpsError, Tried};
use crate::config::{Account, Grant, Secret};
use crate::message::Address;
use crate::schedule::Event;
use crate::signin::{
    BrowserLogin, DeviceLogin, LoginError, StoredSignIn, Unanswered, loopback_redirect, take_in_untried,
};

/// A sign-in that waits for its person.
pub struct Pending {
    /// Tells it from the sign-ins of the same account before and after it.
    number: u64,
    how: How,
    over: Arc<Over>,
}

/// That a sign-in is over, for those who wait for it.
#[derive(Default)]
struct Over {
    why: OnceLock<Ending>,
    told: CancellationToken,
}

#[derive(Clone, Copy)]
enum Ending {
    Done,
    Superseded,
    Stopped,
}

impl Over {
    fn end(&self, why: Ending) {
        // The first reason counts.
        let _ = self.why.set(why);
        self.told.cancel();
    }

    /// Why nobody is signed in; `None`: somebody is, or it is not over.
    fn failure(&self) -> Option<OpsError> {
        match self.why.get()? {
            Ending::Done => None,
            Ending::Superseded => Some(OpsError::Failed(SUPERSEDED.to_owned())),
            Ending::Stopped => Some(OpsError::Failed(STOPPED.to_owned())),
        }
    }
}

enum How {
    /// By device code; `None` once somebody waits for it.
    Device(Option<JoinHandle<Result<StoredSignIn, LoginError>>>),
    Browser(Arc<BrowserLogin>),
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

/// A sign-in that waits for its browser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrowserPrompt {
    /// The address to open.
    pub address: String,
    /// Until when the browser is waited for.
    pub expires_at: Timestamp,
    /// Who has to sign in.
    pub login: String,
    /// Which sign-in of the account it is.
    pub number: u64,
}

/// Where the browser ended. It holds a code, so it cannot be printed.
#[derive(Clone, Serialize, Deserialize)]
pub struct BrowserRedirect {
    /// Which sign-in of the account it is for.
    pub number: u64,
    /// The address, or its part from `?` on.
    pub address: String,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrowserAnswer {
    /// Signed in, and put to use.
    Done(LoginDone),
    /// It was another address: the sign-in goes on waiting.
    NotThis(String),
}

/// What is said to whoever began an earlier sign-in of the same account.
const SUPERSEDED: &str =
    "another sign-in of this account was begun meanwhile, so this one is over: finish the newer one, or start again";
/// What is said when the relay stops.
const STOPPED: &str =
    "the relay was stopped before anybody had signed in: sign in again, once it runs or while it does not";

impl Ops {
    /// Tries an account to which nobody signs in.
    pub async fn login_application(&self, mailbox: &Address) -> Result<Tried, OpsError> {
        let account = self.account(mailbox)?;
        match account.grant {
            Grant::Application => {}
            Grant::Delegated => {
                return Err(OpsError::Failed(format!(
                    "the running relay has {mailbox} with grant = \"delegated\": reload it first"
                )));
            }
            Grant::None => return Err(no_sign_in(mailbox)),
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

    /// Begins a device sign-in. An earlier one of the same account that still waits is over: whoever began it is told.
    pub async fn login_begin(&self, mailbox: &Address) -> Result<DevicePrompt, OpsError> {
        let account = self.person_account(mailbox)?;
        self.ensure_key().await?;
        let login = DeviceLogin::start(&account, &self.login_tools).await.map_err(|error| failed(&error))?;
        let prompt = DevicePrompt::of(&login, &account);
        let (tools, over) = (self.login_tools.clone(), Arc::new(Over::default()));
        let stop = over.told.clone();
        let waiting = tokio::spawn(async move { login.wait(&tools, &stop).await });
        self.begun(&account.mailbox, How::Device(Some(waiting)), over).await;
        Ok(prompt)
    }

    /// Waits until the person is done, and puts the sign-in to use.
    pub async fn login_wait(&self, mailbox: &Address) -> Result<LoginDone, OpsError> {
        let mut logins = self.logins.lock().await;
        let waiting = match logins.get_mut(mailbox) {
            Some(Pending { how: How::Device(waiting), number, over }) => {
                waiting.take().map(|waiting| (waiting, *number, Arc::clone(over)))
            }
            Some(Pending { how: How::Browser(_), .. }) => return Err(OpsError::Failed(SUPERSEDED.to_owned())),
            None => None,
        };
        drop(logins);
        let Some((waiting, number, over)) = waiting else {
            return Err(OpsError::NotFound(format!("no sign-in of {mailbox} is under way")));
        };
        let outcome = waiting.await;
        self.ended(mailbox, number).await;
        if let Some(failure) = over.failure() {
            return Err(failure);
        }
        match outcome {
            Ok(stored) => self.adopt(stored.map_err(|error| failed(&error))?).await,
            Err(_) => Err(OpsError::Failed("this failed within the relay; see its log".to_owned())),
        }
    }

    /// Begins a sign-in with a browser that ends at this port of the machine. An earlier one of the same account is over, as with
    /// [`Self::login_begin`].
    pub async fn login_browser_begin(&self, mailbox: &Address, port: u16) -> Result<BrowserPrompt, OpsError> {
        let account = self.person_account(mailbox)?;
        self.ensure_key().await?;
        let login = BrowserLogin::start(&account, loopback_redirect(port), &self.login_tools).await;
        let login = Arc::new(login.map_err(|error| failed(&error))?);
        let over = Arc::default();
        let number = self.begun(&account.mailbox, How::Browser(Arc::clone(&login)), over).await;
        Ok(BrowserPrompt {
            address: login.address(),
            expires_at: login.expires_at(),
            login: account.login.to_string(),
            number,
        })
    }

    /// Waits until a sign-in with a browser cannot come to anything any more: why. `Ok` if it is done.
    pub async fn login_browser_wait(&self, mailbox: &Address, number: u64) -> Result<(), OpsError> {
        let (login, over) = self.browser_login(mailbox, number).await?;
        tokio::select! {
            () = over.told.cancelled() => over.failure().map_or(Ok(()), Err),
            () = self.clock.sleep_until(login.expires_at()) => {
                self.ended(mailbox, number).await;
                Err(failed(&login.expired()))
            }
        }
    }

    /// A browser ended at this address: redeems its code and puts the sign-in to use.
    pub async fn login_browser_answer(
        &self,
        mailbox: &Address,
        redirect: &BrowserRedirect,
    ) -> Result<BrowserAnswer, OpsError> {
        let (login, over) = self.browser_login(mailbox, redirect.number).await?;
        let stored = match login.answer(&redirect.address, &self.login_tools).await {
            Ok(stored) => Ok(stored),
            Err(Unanswered::NotThis(why)) => return Ok(BrowserAnswer::NotThis(why.to_string())),
            Err(Unanswered::Over(error)) => Err(failed(&error)),
        };
        // Whoever began another one meanwhile wants that one.
        self.ended(mailbox, redirect.number).await;
        if let Some(failure) = over.failure() {
            return Err(failure);
        }
        Ok(BrowserAnswer::Done(self.adopt(stored?).await?))
    }

    async fn browser_login(&self, mailbox: &Address, number: u64) -> Result<(Arc<BrowserLogin>, Arc<Over>), OpsError> {
        match self.logins.lock().await.get(mailbox) {
            Some(Pending { number: current, how: How::Browser(login), over }) if *current == number => {
                Ok((Arc::clone(login), Arc::clone(over)))
            }
            Some(_) => Err(OpsError::Failed(SUPERSEDED.to_owned())),
            None => Err(OpsError::NotFound(format!("no sign-in of {mailbox} is under way"))),
        }
    }

    /// Puts a sign-in in the place of an earlier one of this account; its number.
    async fn begun(&self, mailbox: &Address, how: How, over: Arc<Over>) -> u64 {
        let number = rand::random();
        let earlier = self.logins.lock().await.insert(mailbox.clone(), Pending { number, how, over });
        if let Some(earlier) = earlier {
            earlier.over.end(Ending::Superseded);
        }
        number
    }

    /// A sign-in has come to its end by itself.
    async fn ended(&self, mailbox: &Address, number: u64) {
        let mut logins = self.logins.lock().await;
        let is_current = logins.get(mailbox).is_some_and(|pending| pending.number == number);
        if is_current && let Some(pending) = logins.remove(mailbox) {
            pending.over.end(Ending::Done);
        }
    }

    /// Ends every sign-in that still waits for its person, since the relay stops.
    pub(crate) async fn end_logins(&self) {
        for (_, pending) in self.logins.lock().await.drain() {
            pending.over.end(Ending::Stopped);
        }
    }

    /// Takes in a refresh token that was obtained elsewhere.
    pub async fn login_take_in(&self, mailbox: &Address, refresh_token: Secret) -> Result<LoginDone, OpsError> {
        let account = self.person_account(mailbox)?;
        self.ensure_key().await?;
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
            Grant::None => Err(no_sign_in(mailbox)),
        }
    }

    /// Before a person is sent to a browser: what they bring can be sealed.
    async fn ensure_key(&self) -> Result<(), OpsError> {
        self.shelf.ensure_key().await.map_err(|error| OpsError::Failed(format!("{error:#}")))
    }

    async fn adopt(&self, stored: StoredSignIn) -> Result<LoginDone, OpsError> {
        let account = stored.account.clone();
        let done = LoginDone::of(&stored);
        self.sign_ins.adopt(stored).await.map_err(|error| OpsError::Failed(error.to_string()))?;
        self.schedule.tell(Event::SignedIn { account });
        Ok(done)
    }
}

fn no_sign_in(mailbox: &Address) -> OpsError {
    OpsError::Failed(format!("{mailbox} has provider = \"smarthost\" in the running relay: nobody signs in to it"))
}

fn failed(error: &LoginError) -> OpsError {
    OpsError::Failed(error.to_string())
}
