//! What a person starts: signing in by device code (RFC 8628), and taking in a refresh token obtained elsewhere. Signing in with a browser
//! is in `browser.rs`; why nobody is signed in is said here for all of them.
//!
//! Works with and without a running relay: both end with a [`StoredSignIn`], which the caller commits - through
//! [`SignIns::adopt`](super::SignIns::adopt) or, without a relay, through the shelf itself. Nothing is written here.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::answer::{DeviceGrant, EndpointError, Tokens};
use super::claims::Claims;
use super::credential::{Credential, CredentialError, Offer, credential};
use super::endpoint::{EndpointUnusable, SecretReader, Timeouts, TokenEndpoint};
use super::errors::{Advice, Circumstances, Flow, Meaning, judge};
use super::inspect::{Finding, Flaw, inspect};
use super::observer::Asking;
use super::shelf::StoredSignIn;
use super::timing::later;
use crate::clock::Clock;
use crate::config::{Account, Provider, Secret};
use crate::message::Address;

/// RFC 8628 section 3.5: how much longer the waits become when the endpoint says `slow_down`.
const SLOWER: Duration = Duration::from_secs(5);

/// What a login needs besides the account.
#[derive(Clone)]
pub struct LoginTools {
    /// Reads the client secret of a confidential registration.
    pub secrets: SecretReader,
    /// The calendar.
    pub clock: Clock,
    /// How long an endpoint may take.
    pub timeouts: Timeouts,
}

/// A device sign-in that waits for its person. Printing it prints no device code.
#[derive(Debug)]
pub struct DeviceLogin {
    account: Account,
    endpoint: TokenEndpoint,
    offer: Offer,
    grant: DeviceGrant,
    expires_at: Timestamp,
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

impl DeviceLogin {
    /// Asks for a code. Show [`Self::message`] to the person, then [`Self::wait`].
    pub async fn start(account: &Account, tools: &LoginTools) -> Result<Self, LoginError> {
        let endpoint = TokenEndpoint::new(account, tools.timeouts)?;
        let (mut offer, proof) = first_credential(account, tools).await?;
        let asking = Asking::now(Flow::DeviceCode, tools.clock.now());
        let mut answer = endpoint.device_grant(&proof).await;
        // Entra ID looks at the secret only later; others do so here.
        if offer == Offer::Next && matches!(&answer, Some(Err(error)) if is_about_client(error)) {
            offer = Offer::Current;
            let proof = credential(&tools.secrets, account, offer, tools.clock.now()).await?;
            answer = endpoint.device_grant(&proof).await;
        }
        let answer = answer.ok_or_else(|| LoginError::NoDeviceFlow {
            account: account.mailbox.clone(),
            with_browser: account.endpoints.authorize.is_some(),
        })?;
        let now = tools.clock.now();
        let refused = |error| refused_or(error, account, (asking, now), LoginError::Unreachable);
        let grant = answer.map_err(refused)?;
        let expires_at = later(now, grant.expires_in);
        Ok(Self { account: account.clone(), endpoint, offer, grant, expires_at })
    }

    /// The code the person types.
    pub fn user_code(&self) -> &str {
        &self.grant.user_code
    }

    /// The page on which it is typed.
    pub fn verification_uri(&self) -> &str {
        &self.grant.verification_uri
    }

    /// The page with the code already in it, if the provider has such a thing.
    pub fn verification_uri_complete(&self) -> Option<&str> {
        self.grant.verification_uri_complete.as_deref()
    }

    /// Until when the code is good.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// What to tell the person: the provider's own words if it sent any.
    pub fn message(&self) -> String {
        match &self.grant.message {
            Some(message) => message.clone(),
            None => format!("To sign in, open {} and enter the code {}", self.verification_uri(), self.user_code()),
        }
    }

    /// Waits until the person is done. Network failures meanwhile are waited out; `stop` ends it.
    pub async fn wait(mut self, tools: &LoginTools, stop: &CancellationToken) -> Result<StoredSignIn, LoginError> {
        let clock = &tools.clock;
        let mut interval = self.grant.interval;
        loop {
            let next = later(clock.now(), interval);
            tokio::select! {
                () = stop.cancelled() => return Err(LoginError::Stopped),
                () = clock.sleep_until(next.min(self.expires_at)) => {}
            }
            if clock.now() >= self.expires_at {
                return Err(LoginError::Expired(self.account.mailbox));
            }
            let asking = Asking::now(Flow::DeviceCode, clock.now());
            let polled = tokio::select! {
                () = stop.cancelled() => return Err(LoginError::Stopped),
                polled = self.poll(tools) => polled?,
            };
            let error = match polled {
                Ok(tokens) => return sign_in(&self.account, &tokens, None, clock.now()),
                Err(error) => error,
            };
            if self.offer == Offer::Next && is_about_client(&error) {
                self.offer = Offer::Current;
                continue;
            }
            let circumstances = asking.refused(&error, clock.now());
            interval = match verdict(&error, &circumstances) {
                Poll::Pending => interval,
                Poll::Slower => interval + SLOWER,
                Poll::Pause(pause) => interval.max(pause),
                Poll::Expired => return Err(LoginError::Expired(self.account.mailbox)),
                Poll::Declined => {
                    return Err(LoginError::Declined(format!("xoauth2-relay login {}", self.account.mailbox)));
                }
                Poll::Refused => {
                    let advice = advice_at_login(&error, &self.account, &circumstances);
                    return Err(LoginError::Refused { error, advice });
                }
            };
        }
    }
}

impl DeviceLogin {
    /// Asks once. The credential is made anew: an assertion does not live as long as the code.
    async fn poll(&self, tools: &LoginTools) -> Result<Result<Tokens, EndpointError>, CredentialError> {
        let credential = credential(&tools.secrets, &self.account, self.offer, tools.clock.now()).await?;
        Ok(self.endpoint.poll(&self.grant.device_code, &credential).await)
    }
}

/// What is asked with first: the next secret if there is one, so that a dropped one is not sent again, unless it cannot be read.
pub(super) async fn first_credential(
    account: &Account,
    tools: &LoginTools,
) -> Result<(Offer, Credential), CredentialError> {
    let made = async |offer| credential(&tools.secrets, account, offer, tools.clock.now()).await;
    if account.next_client_secret.is_some() {
        match made(Offer::Next).await {
            Ok(credential) => return Ok((Offer::Next, credential)),
            Err(error) => tracing::warn!(account = %account.mailbox, %error, "the current secret is used"),
        }
    }
    Ok((Offer::Current, made(Offer::Current).await?))
}

/// Whether it is the client's secret that was refused: another one may be taken.
pub(super) fn is_about_client(error: &EndpointError) -> bool {
    let EndpointError::Answer(answer) = error else { return false };
    // RFC 6749 section 5.2 has the first; Keycloak says the second, with the status of the first.
    answer.error == "invalid_client" || (answer.status == 401 && answer.error == "unauthorized_client")
}

/// What one answer to a poll means.
enum Poll {
    Pending,
    Slower,
    Pause(Duration),
    Expired,
    Declined,
    Refused,
}

fn verdict(error: &EndpointError, circumstances: &Circumstances) -> Poll {
    let meaning = judge(error, circumstances).meaning;
    let EndpointError::Answer(answer) = error else {
        tracing::debug!(%error, "could not ask whether the sign-in is done");
        return if let Meaning::Wait(pause) = meaning { Poll::Pause(pause) } else { Poll::Pending };
    };
    match answer.error.as_str() {
        "authorization_pending" => Poll::Pending,
        "slow_down" => Poll::Slower,
        // Entra ID's own names beside those of the RFC.
        "expired_token" | "bad_verification_code" => Poll::Expired,
        "authorization_declined" => Poll::Declined,
        // The RFC's name for a person's no; with a number it is a policy's.
        "access_denied" if answer.codes.is_empty() || answer.codes.contains(&65004) => Poll::Declined,
        _ => match meaning {
            Meaning::TryAgain => Poll::Pending,
            Meaning::Wait(pause) => Poll::Pause(pause),
            Meaning::SignInAgain | Meaning::FixConfiguration => Poll::Refused,
        },
    }
}

/// Takes in a refresh token obtained elsewhere: redeems it at once, so that what is kept is a token of our own that works.
pub async fn take_in(account: &Account, refresh_token: Secret, tools: &LoginTools) -> Result<StoredSignIn, LoginError> {
    let endpoint = TokenEndpoint::new(account, tools.timeouts)?;
    let (offer, mut proof) = first_credential(account, tools).await?;
    let asking = Asking::now(Flow::RefreshToken, tools.clock.now());
    let mut answer = endpoint.refresh(&refresh_token, &proof).await;
    if offer == Offer::Next && answer.as_ref().is_err_and(is_about_client) {
        proof = credential(&tools.secrets, account, Offer::Current, tools.clock.now()).await?;
        answer = endpoint.refresh(&refresh_token, &proof).await;
    }
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
fn refused_or(
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
fn advice_at_login(error: &EndpointError, account: &Account, circumstances: &Circumstances) -> Advice {
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
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use crate::config::SecretSource;
    use crate::signin::scripted::{Answer, Scripted, tools};

    /// Good for so long that a slow machine is in time, however fast the calendar runs.
    const GRANT: &str = r#"{"device_code":"device-secret","user_code":"ABCD-EFGH","verification_uri":"https://v.example/device","expires_in":900000,"interval":5}"#;

    fn clock() -> Clock {
        Clock::manual(Timestamp::from_second(1_800_000_000).unwrap())
    }

    fn access_of(person: &str) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(format!(r#"{{"upn":"{person}"}}"#)))
    }

    /// Signs in while the calendar runs fast; gives the seconds it took by the calendar, too.
    async fn device_login(scripted: &Scripted) -> (Result<StoredSignIn, LoginError>, u64) {
        let clock = clock();
        let began = clock.now();
        let account = scripted.account("lms@contoso.com");
        let login = DeviceLogin::start(&account, &tools(&clock)).await.unwrap();
        let running = clock.clone();
        let driver = tokio::spawn(async move {
            loop {
                running.advance(Duration::from_secs(1));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        let outcome = login.wait(&tools(&clock), &CancellationToken::new()).await;
        driver.abort();
        let took = clock.now().duration_since(began).as_secs();
        (outcome, u64::try_from(took).unwrap())
    }

    #[tokio::test]
    async fn a_person_signs_in_with_a_code() {
        let scripted = Scripted::start().await;
        scripted
            .then(Answer::json(200, GRANT))
            .then(Answer::refusal("authorization_pending", 70016))
            .then(Answer::json(400, r#"{"error":"slow_down"}"#))
            .then(Answer::Text(502, &[], "<html>".to_owned()))
            .then(Answer::json(400, r#"{"error":"authorization_pending"}"#))
            .then(Answer::tokens(&access_of("LMS@contoso.com"), "refresh-1"));
        let (outcome, took) = device_login(&scripted).await;
        let signed_in = outcome.unwrap();
        assert_eq!(signed_in.current, Secret::new("refresh-1"));
        assert_eq!(signed_in.previous, None);
        assert_eq!(signed_in.signed_in_as.as_deref(), Some("LMS@contoso.com"));
        assert!(took >= 5 + 5 + 10 + 10 + 10, "slow_down adds five seconds to all later waits: {took}");
        let asked = scripted.asked();
        assert_eq!(asked[0]["scope"], "https://outlook.office.com/SMTP.Send offline_access");
        assert_eq!(asked[1]["device_code"], "device-secret");
        assert_eq!(asked[1]["grant_type"], "urn:ietf:params:oauth:grant-type:device_code");
    }

    #[tokio::test]
    async fn what_the_person_is_shown_is_complete() {
        let scripted = Scripted::start().await;
        scripted.then(Answer::json(200, &GRANT.replace("900000", "900")));
        let clock = clock();
        let login = DeviceLogin::start(&scripted.account("lms@contoso.com"), &tools(&clock)).await.unwrap();
        assert_eq!(login.message(), "To sign in, open https://v.example/device and enter the code ABCD-EFGH");
        assert_eq!(login.expires_at(), clock.now() + Duration::from_mins(15));
        assert!(!format!("{login:?}").contains("device-secret"));
        let stop = CancellationToken::new();
        stop.cancel();
        assert!(matches!(login.wait(&tools(&clock), &stop).await, Err(LoginError::Stopped)));
    }

    #[tokio::test]
    async fn every_other_end_of_a_device_sign_in_has_its_sentence() {
        let wrong = Answer::tokens(&access_of("admin@contoso.com"), "refresh-1");
        let bare = Answer::json(200, r#"{"access_token":"opaque"}"#);
        for (answer, expected) in [
            (Answer::json(400, r#"{"error":"authorization_declined"}"#), "declined in the browser"),
            (Answer::json(400, r#"{"error":"access_denied"}"#), "declined in the browser"),
            (Answer::json(400, r#"{"error":"expired_token"}"#), "xoauth2-relay login lms@contoso.com"),
            (Answer::refusal("bad_verification_code", 70018), "was not used in time"),
            (Answer::refusal("access_denied", 53003), "Conditional Access"),
            (Answer::refusal("invalid_client", 7_000_218), "Allow public client flows"),
            (wrong, "admin@contoso.com signed in, but this account needs lms@contoso.com"),
            (bare, "offline_access"),
        ] {
            let scripted = Scripted::start().await;
            scripted.then(Answer::json(200, GRANT)).then(answer);
            let text = device_login(&scripted).await.0.unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        }
    }

    #[tokio::test]
    async fn a_code_that_nobody_types_expires() {
        let scripted = Scripted::start().await;
        scripted.then(Answer::json(200, &GRANT.replace("900000", "12")));
        for _ in 0..20 {
            scripted.then(Answer::json(400, r#"{"error":"authorization_pending"}"#));
        }
        let (outcome, took) = device_login(&scripted).await;
        assert!(matches!(outcome, Err(LoginError::Expired(_))));
        assert!(took >= 12);
    }

    #[tokio::test]
    async fn a_device_sign_in_that_cannot_start_says_why() {
        let scripted = Scripted::start().await;
        let clock = clock();
        let account = scripted.account("lms@contoso.com");
        scripted.then(Answer::refusal("invalid_request", 90002));
        let text = DeviceLogin::start(&account, &tools(&clock)).await.unwrap_err().to_string();
        assert!(text.contains("AADSTS90002") && text.contains("no such tenant"), "{text}");
        scripted.then(Answer::Text(503, &[], String::new()));
        let error = DeviceLogin::start(&account, &tools(&clock)).await.unwrap_err();
        assert!(matches!(error, LoginError::Unreachable(_)));
        let mut without = account.clone();
        without.endpoints.device = None;
        let error = DeviceLogin::start(&without, &tools(&clock)).await.unwrap_err();
        assert!(error.to_string().contains("set it or authorize_url"), "{error}");
        without.endpoints.authorize = Some("https://login.example/authorize".to_owned());
        let error = DeviceLogin::start(&without, &tools(&clock)).await.unwrap_err();
        assert!(error.to_string().contains("xoauth2-relay login lms@contoso.com --browser"), "{error}");
        let mut secretive = account;
        secretive.client_secret = Some(SecretSource::Env("NO_SUCH".to_owned()));
        let error = DeviceLogin::start(&secretive, &tools(&clock)).await.unwrap_err();
        assert!(matches!(error, LoginError::Credential(_)));
    }

    #[tokio::test]
    async fn a_wrong_clock_is_named_where_it_may_be_the_cause() {
        let scripted = Scripted::start().await;
        let late = &[("date", "Fri, 15 Jan 2027 07:50:00 GMT"), ("content-type", "application/json")];
        let refusal = r#"{"error":"invalid_client","error_codes":[700024]}"#;
        scripted.then(Answer::Text(401, late, refusal.to_owned()));
        let error =
            take_in(&scripted.account("lms@contoso.com"), Secret::new("x"), &tools(&clock())).await.unwrap_err();
        assert!(error.to_string().contains("this machine's clock is 10 minutes ahead of Microsoft's"), "{error}");
    }

    #[tokio::test]
    async fn a_next_secret_is_asked_with_first_and_the_current_one_at_once_if_it_is_refused() {
        let scripted = Scripted::start().await;
        let tools = tools(&Clock::system());
        let mut account = scripted.account("lms@contoso.com");
        account.client_secret = Some(SecretSource::Literal(Secret::new("old~secret")));
        account.next_client_secret = Some(SecretSource::Literal(Secret::new("new~secret")));
        take_in(&account, Secret::new("x"), &tools).await.unwrap();
        scripted.then(Answer::refusal("invalid_client", 7_000_215));
        take_in(&account, Secret::new("x"), &tools).await.unwrap();
        scripted
            .then(Answer::json(200, &GRANT.replace("\"interval\":5", "\"interval\":0")))
            .then(Answer::refusal("invalid_client", 7_000_215))
            .then(Answer::tokens(&access_of("lms@contoso.com"), "refresh-9"));
        let login = DeviceLogin::start(&account, &tools).await.unwrap();
        login.wait(&tools, &CancellationToken::new()).await.unwrap();
        scripted.then(Answer::refusal("invalid_client", 7_000_215)).then(Answer::json(200, GRANT));
        DeviceLogin::start(&account, &tools).await.unwrap();
        account.next_client_secret = Some(SecretSource::Env("NO_SUCH".to_owned()));
        take_in(&account, Secret::new("x"), &tools).await.unwrap();
        let asked: Vec<_> = scripted.asked().iter().map(|form| form["client_secret"].clone()).collect();
        assert_eq!(asked.join(" ").replace("~secret", ""), "new new old new new old new old old");
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
