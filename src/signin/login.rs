//! What every login has in common: what it needs, with which secret it asks, what is kept of what came, and why nobody is signed in. Signing
//! in by device code is in `device.rs`, with a browser in `browser.rs`; taking in a refresh token obtained elsewhere is here.
//!
//! Works with and without a running relay: both end with a [`StoredSignIn`], which the caller commits - through
//! [`SignIns::adopt`](super::SignIns::adopt) or, without a relay, through the shelf itself. Nothing is written here.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::answer::{EndpointError, Tokens};
use super::claims::Claims;
use super::credential::{Credential, CredentialError, Offer, credential};
use super::endpoint::{EndpointUnusable, SecretReader, Timeouts, TokenEndpoint};
use super::errors::{Advice, Circumstances, Flow, Meaning, judge};
use super::inspect::{Finding, Flaw, inspect};
use super::observer::Asking;
use super::secrets::KnownSecrets;
use super::shelf::{Shelf, StoredSignIn};
use crate::clock::Clock;
use crate::config::{Account, Provider, Secret};
use crate::message::Address;

/// What a login needs besides the account.
#[derive(Clone)]
pub struct LoginTools {
    /// Reads the client secret of a confidential registration.
    pub secrets: SecretReader,
    /// Where it is remembered which secret was dropped.
    pub shelf: Arc<dyn Shelf>,
    /// The calendar.
    pub clock: Clock,
    /// How long an endpoint may take.
    pub timeouts: Timeouts,
}

/// What came of asking with one secret or the other.
pub(super) struct Asked<T> {
    /// Which was asked with last.
    pub(super) offer: Offer,
    /// The credential that this was.
    pub(super) credential: Credential,
    /// What the endpoint answered to it.
    pub(super) answer: Result<T, EndpointError>,
}

impl LoginTools {
    /// Asks with the next secret if there is one, and at once with the current one if that is refused as such and nobody has dropped it. A
    /// next secret that cannot be read is passed over in the same way. Credentials are made anew: an assertion does not live for long.
    pub(super) async fn ask<T, F: Future<Output = Result<T, EndpointError>>>(
        &self,
        account: &Account,
        first: Offer,
        ask: impl Fn(Credential) -> F,
    ) -> Result<Asked<T>, CredentialError> {
        let made = async |offer| credential(&self.secrets, account, offer, self.clock.now()).await;
        let asked = match made(first).await {
            Ok(credential) => {
                let answer = ask(credential.clone()).await;
                Ok(Asked { offer: first, credential, answer })
            }
            Err(error) => Err(error),
        };
        let is_of_no_use = match &asked {
            Ok(asked) => asked.answer.as_ref().is_err_and(is_about_client),
            Err(error) => {
                tracing::debug!(account = %account.mailbox, %error, "cannot ask with this secret");
                true
            }
        };
        if first == Offer::Current || !is_of_no_use {
            return asked;
        }
        let credential = made(Offer::Current).await?;
        if self.is_dropped(account, &credential).await {
            return asked;
        }
        let answer = ask(credential.clone()).await;
        Ok(Asked { offer: Offer::Current, credential, answer })
    }

    /// Whether there is anything to ask with.
    ///
    /// # Errors
    /// Why there is not.
    pub(super) async fn has_credential(&self, account: &Account) -> Result<(), CredentialError> {
        let mut outcome = Ok(());
        for &offer in Offer::all(account) {
            outcome = credential(&self.secrets, account, offer, self.clock.now()).await.map(drop);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// Whether an administrator has ended this old secret. What cannot be recalled counts as not dropped: it only costs a request.
    async fn is_dropped(&self, account: &Account, credential: &Credential) -> bool {
        let Credential::Secret(secret) = credential else { return false };
        let facts = self.shelf.facts(&account.mailbox).await.unwrap_or_default();
        KnownSecrets::of(facts).is_dropped(secret)
    }
}

/// Whether it is the client's secret that was refused: another one may be taken.
fn is_about_client(error: &EndpointError) -> bool {
    let EndpointError::Answer(answer) = error else { return false };
    // RFC 6749 section 5.2 has the first; Keycloak says the second, with the status of the first.
    answer.error == "invalid_client" || (answer.status == 401 && answer.error == "unauthorized_client")
}

/// Why nobody is signed in.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The endpoint refused for a reason that another try does not change.
    #[error("the sign-in was refused, and nothing was changed: {error}\n{advice}")]
    Refused {
        /// Its words.
        error: EndpointError,
        /// What the administrator does about it.
        advice: Advice,
    },
    /// The endpoint could not be asked, so nothing is known.
    #[error("{0}\nNothing was changed. {remedy}", remedy = remedy(.0, "Check the network"))]
    Unreachable(EndpointError),
    /// The refresh token could not be tried: it may be good. The caller decides whether to keep it all the same.
    #[error(
        "{0}\nThe refresh token could not be tried, so nobody knows yet whether it works. Nothing was changed. {remedy}",
        remedy = remedy(.0, "Check token_url and the network")
    )]
    Unproven(EndpointError),
    /// The code was not typed in time.
    #[error("the code was not used in time. Start again: xoauth2-relay login {0}")]
    Expired(Address),
    /// The person said no. The command that begins anew.
    #[error("the sign-in was declined in the browser. Start again and accept: {0}")]
    Declined(String),
    /// Nobody came back from the browser in time.
    #[error(
        "nobody came back from the browser within 10 minutes: its tab was closed, or the sign-in there was not finished, or the page showed an error. Nothing was changed. Start again, and stay on the page until it says that you are signed in: xoauth2-relay login {0} --browser"
    )]
    TabClosed(Address),
    /// Somebody else signed in.
    #[error(
        "{signed_in} signed in, but this account needs {expected}. Use a private browser window, or set login = \"{signed_in}\" in the configuration if that person may send for the mailbox"
    )]
    WrongPerson {
        /// Who did.
        signed_in: String,
        /// Who should have.
        expected: Address,
    },
    /// The right person signed in, but Exchange would refuse what came of it.
    #[error("the sign-in worked, but no mail could leave with it, so nothing was changed: {0}")]
    Useless(Advice),
    /// Signed in, but without anything that lasts.
    #[error(
        "the provider gave no refresh token, so the sign-in would end within the hour. Add offline_access to scopes"
    )]
    NoRefreshToken,
    /// A custom provider without `device_url`.
    #[error(
        "account {account} has no device_url: {}",
        if *.with_browser {
            format!("sign in with a browser instead: xoauth2-relay login {account} --browser")
        } else {
            "set it or authorize_url, or get a refresh token elsewhere and take it in with --refresh-token-file".to_owned()
        }
    )]
    NoDeviceFlow {
        /// The account.
        account: Address,
        /// Whether there is a page on which a person can sign in with a browser.
        with_browser: bool,
    },
    /// The client secret, certificate or federated token cannot be read.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// A custom provider without `authorize_url`.
    #[error(
        "account {0} has no authorize_url: set it to the page on which people sign in, or sign in by device code: xoauth2-relay login {0}"
    )]
    NoBrowserFlow(Address),
    /// `authorize_url` cannot be read. Checked configurations never get here.
    #[error("{0:?} is no address for authorize_url: {1}")]
    AuthorizeUrl(String, String),
    /// The endpoint's address or the certificate file is broken.
    #[error(transparent)]
    Endpoint(#[from] EndpointUnusable),
    /// Told to stop before the person was done.
    #[error("stopped before anybody signed in; nothing was changed")]
    Stopped,
}

/// What to do about an endpoint that could not be asked or did not want to be; where to look, if it is on the way there.
fn remedy(error: &EndpointError, look: &str) -> String {
    match error {
        EndpointError::Answer(_) | EndpointError::Nonsense { status: 429, .. } => {
            "The provider refuses it for now: try again in some minutes".to_owned()
        }
        EndpointError::Unreachable(_) | EndpointError::Nonsense { .. } => {
            format!("{look} (DNS, firewall, HTTPS_PROXY) and try again")
        }
    }
}

/// Takes in a refresh token obtained elsewhere: redeems it at once, so that what is kept is a token of our own that works.
pub async fn take_in(account: &Account, refresh_token: Secret, tools: &LoginTools) -> Result<StoredSignIn, LoginError> {
    let endpoint = TokenEndpoint::new(account, tools.timeouts)?;
    let asking = Asking::now(Flow::RefreshToken, tools.clock.now());
    let (endpoint, token) = (&endpoint, &refresh_token);
    let ask = |proof: Credential| async move { endpoint.refresh(token, &proof).await };
    let answer = tools.ask(account, Offer::first(account), ask).await?.answer;
    let now = tools.clock.now();
    let tokens = answer.map_err(|error| refused_or(error, account, (asking, now), LoginError::Unproven))?;
    sign_in(account, &tokens, Some(refresh_token), now)
}

/// The same, but a token that cannot be tried now is kept all the same if there is no sign-in that it would replace: the relay tries it
/// as soon as the endpoint answers. Why it could not be tried comes with it.
pub async fn take_in_untried(
    account: &Account,
    refresh_token: Secret,
    tools: &LoginTools,
    has_sign_in: bool,
) -> Result<(StoredSignIn, Option<EndpointError>), LoginError> {
    match take_in(account, refresh_token.clone(), tools).await {
        Ok(stored) => Ok((stored, None)),
        Err(LoginError::Unproven(error)) if !has_sign_in => {
            Ok((StoredSignIn::unproven(account, refresh_token, tools.clock.now()), Some(error)))
        }
        Err(error) => Err(error),
    }
}

impl StoredSignIn {
    /// A refresh token that could not be tried ([`LoginError::Unproven`]), for a caller that keeps it all the same.
    pub fn unproven(account: &Account, refresh_token: Secret, now: Timestamp) -> Self {
        Self {
            account: account.mailbox.clone(),
            current: refresh_token,
            previous: None,
            signed_in_as: None,
            since: now,
            refreshed_at: now,
            // Nobody knows how long it has been lying about.
            refresh_life: Some(Duration::ZERO),
            access: None,
        }
    }
}

/// A definite answer is a refusal; anything else is what `otherwise` makes of it.
pub(super) fn refused_or(
    error: EndpointError,
    account: &Account,
    (asking, now): (Asking, Timestamp),
    otherwise: fn(EndpointError) -> LoginError,
) -> LoginError {
    let circumstances = asking.refused(&error, now);
    match judge(&error, &circumstances).meaning {
        Meaning::TryAgain | Meaning::Wait(_) => otherwise(error),
        Meaning::SignInAgain | Meaning::FixConfiguration => {
            let advice = advice_at_login(&error, account, &circumstances);
            LoginError::Refused { error, advice }
        }
    }
}

/// The same advice, but for somebody who is just signing in: what is stored may well be good, and the next thing to type is `login`.
pub(super) fn advice_at_login(error: &EndpointError, account: &Account, circumstances: &Circumstances) -> Advice {
    let judgement = judge(error, circumstances);
    let sentence = match judgement.meaning {
        // What only goes by `error` speaks of a stored sign-in, and here is none.
        Meaning::SignInAgain if !judgement.is_by_number() => {
            "This sign-in or token is of no use: sign in anew, or bring another token".to_owned()
        }
        _ => judgement.advice(account).sentence,
    };
    Advice { sentence, command: format!("xoauth2-relay login {}", account.mailbox) }
}

/// What is kept of the first tokens, if the right person signed in and the sign-in lasts.
pub(super) fn sign_in(
    account: &Account,
    tokens: &Tokens,
    used: Option<Secret>,
    now: Timestamp,
) -> Result<StoredSignIn, LoginError> {
    let claims = Claims::decode(tokens.access.expose()).unwrap_or_default();
    let person = claims.person().map(str::to_owned);
    check_findings(account, &claims)?;
    let current = tokens.refresh.clone().or_else(|| used.clone()).ok_or(LoginError::NoRefreshToken)?;
    // As in a refresh: the one just used stays until the new one has worked.
    let previous = used.filter(|used| *used != current);
    Ok(StoredSignIn {
        account: account.mailbox.clone(),
        current,
        previous,
        signed_in_as: person,
        since: now,
        refreshed_at: now,
        refresh_life: tokens.refresh_life,
        // The keeper proves the new sign-in by a refresh of its own.
        access: None,
    })
}

/// Exchange would answer a bare 535; better said here. What other providers' tokens say is only a hint: they name things in other ways.
fn check_findings(account: &Account, claims: &Claims) -> Result<(), LoginError> {
    for Finding { flaw, advice } in inspect(claims, account) {
        if account.provider != Provider::Microsoft || !flaw.prevents_sending() {
            tracing::warn!(account = %account.mailbox, %advice, "the access token does not quite fit the account");
            continue;
        }
        return Err(match (flaw, claims.person()) {
            (Flaw::Person, Some(person)) => {
                LoginError::WrongPerson { signed_in: person.to_owned(), expected: account.login.clone() }
            }
            _ => LoginError::Useless(advice),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SecretSource;
    use crate::signin::scripted::{Answer, Scripted, access_of, tools};

    #[tokio::test]
    async fn a_wrong_clock_is_named_where_it_may_be_the_cause() {
        let scripted = Scripted::start().await;
        let late = &[("date", "Fri, 15 Jan 2027 07:50:00 GMT"), ("content-type", "application/json")];
        let refusal = r#"{"error":"invalid_client","error_codes":[700024]}"#;
        scripted.then(Answer::Text(401, late, refusal.to_owned()));
        let error = take_in(
            &scripted.account("lms@contoso.com"),
            Secret::new("x"),
            &tools(&Clock::manual(Timestamp::from_second(1_800_000_000).unwrap())),
        )
        .await
        .unwrap_err();
        assert!(error.to_string().contains("this machine's clock is 10 minutes ahead of Microsoft's"), "{error}");
    }

    #[tokio::test]
    async fn the_current_secret_is_asked_with_at_once_if_the_next_one_is_refused_or_unreadable_but_never_once_it_is_dropped()
     {
        let scripted = Scripted::start().await;
        let tools = tools(&Clock::system());
        let mut account = scripted.account("lms@contoso.com");
        account.client_secret = Some(SecretSource::Literal(Secret::new("old~secret")));
        account.next_client_secret = Some(SecretSource::Literal(Secret::new("new~secret")));
        take_in(&account, Secret::new("x"), &tools).await.unwrap();
        scripted.then(Answer::refusal("invalid_client", 7_000_215));
        take_in(&account, Secret::new("x"), &tools).await.unwrap();
        let mut unreadable = account.clone();
        unreadable.next_client_secret = Some(SecretSource::Env("NO_SUCH".to_owned()));
        take_in(&unreadable, Secret::new("x"), &tools).await.unwrap();

        let dropped = KnownSecrets::drop_it(&account.mailbox, &Secret::new("old~secret"), tools.clock.now());
        tools.shelf.learn(dropped).await.unwrap();
        scripted.then(Answer::refusal("invalid_client", 7_000_215));
        assert!(take_in(&account, Secret::new("x"), &tools).await.is_err());
        assert!(matches!(take_in(&unreadable, Secret::new("x"), &tools).await, Err(LoginError::Credential(_))));
        let asked: Vec<_> = scripted.asked().iter().map(|form| form["client_secret"].clone()).collect();
        assert_eq!(asked.join(" ").replace("~secret", ""), "new new old old new");
    }

    #[tokio::test]
    async fn a_token_from_elsewhere_is_redeemed_at_once() {
        let scripted = Scripted::start().await;
        let account = scripted.account("lms@contoso.com");
        let tools = tools(&Clock::system());
        let take = |token: &str| take_in(&account, Secret::new(token), &tools);
        let taken = take("from-elsewhere").await.unwrap();
        assert_eq!((taken.current.expose(), taken.previous), ("refresh-1", Some(Secret::new("from-elsewhere"))));

        scripted.then(Answer::refusal("invalid_grant", 70000));
        let text = take("from-elsewhere").await.unwrap_err().to_string();
        assert!(text.contains("AADSTS70000") && text.contains("xoauth2-relay login lms@contoso.com"), "{text}");
        scripted.then(Answer::Text(500, &[], String::new()));
        assert!(matches!(take("from-elsewhere").await, Err(LoginError::Unproven(_))));
        scripted.then(Answer::tokens(&access_of("admin@contoso.com"), "refresh-9"));
        assert!(matches!(take("from-elsewhere").await, Err(LoginError::WrongPerson { .. })));
        scripted.then(Answer::json(200, r#"{"access_token":"opaque"}"#));
        let kept = take("not-rotated").await.unwrap();
        assert_eq!((kept.current.expose(), kept.previous), ("not-rotated", None));
    }

    #[tokio::test]
    async fn a_custom_provider_may_name_its_people_as_it_likes() {
        let scripted = Scripted::start().await;
        let mut account = scripted.account("lms@contoso.com");
        account.provider = Provider::Custom;
        scripted.then(Answer::tokens(&access_of("someone"), "refresh-1"));
        let taken = take_in(&account, Secret::new("x"), &tools(&Clock::system())).await.unwrap();
        assert_eq!(taken.signed_in_as.as_deref(), Some("someone"));
    }
}
