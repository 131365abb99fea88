//! Signing in by device code (RFC 8628): a code is shown, a person types it on any device, and meanwhile the endpoint is asked again and again.

use std::time::Duration;

use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use super::answer::{DeviceGrant, EndpointError};
use super::credential::{Credential, Offer};
use super::endpoint::TokenEndpoint;
use super::errors::{Circumstances, Flow, Meaning, judge};
use super::login::{Asked, LoginError, LoginTools, advice_at_login, refused_or, sign_in};
use super::observer::Asking;
use super::shelf::StoredSignIn;
use super::timing::later;
use crate::config::Account;

/// RFC 8628 section 3.5: how much longer the waits become when the endpoint says `slow_down`.
const SLOWER: Duration = Duration::from_secs(5);

/// A device sign-in that waits for its person. Printing it prints no device code.
#[derive(Debug)]
pub struct DeviceLogin {
    account: Account,
    endpoint: TokenEndpoint,
    offer: Offer,
    grant: DeviceGrant,
    expires_at: Timestamp,
}

impl DeviceLogin {
    /// Asks for a code. Show [`Self::message`] to the person, then [`Self::wait`].
    pub async fn start(account: &Account, tools: &LoginTools) -> Result<Self, LoginError> {
        let endpoint = TokenEndpoint::new(account, tools.timeouts)?;
        let asking = Asking::now(Flow::DeviceCode, tools.clock.now());
        let at = &endpoint;
        let ask = |proof: Credential| async move { at.device_grant(&proof).await.transpose() };
        // Entra ID looks at the secret only later; others do so here.
        let Asked { offer, answer, .. } = tools.ask(account, Offer::first(account), ask).await?;
        let now = tools.clock.now();
        let refused = |error| refused_or(error, account, (asking, now), LoginError::Unreachable);
        let grant = answer.map_err(refused)?.ok_or_else(|| LoginError::NoDeviceFlow {
            account: account.mailbox.clone(),
            with_browser: account.endpoints.authorize.is_some(),
        })?;
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
            let (endpoint, code) = (&self.endpoint, &self.grant.device_code);
            let ask = |proof: Credential| async move { endpoint.poll(code, &proof).await };
            let Asked { offer, answer, .. } = tokio::select! {
                () = stop.cancelled() => return Err(LoginError::Stopped),
                asked = tools.ask(&self.account, self.offer, ask) => asked?,
            };
            self.offer = offer;
            let error = match answer {
                Ok(tokens) => return sign_in(&self.account, &tokens, None, clock.now()),
                Err(error) => error,
            };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::config::{Secret, SecretSource};
    use crate::signin::scripted::{Answer, Scripted, access_of, tools};

    /// Good for so long that a slow machine is in time, however fast the calendar runs.
    const GRANT: &str = r#"{"device_code":"device-secret","user_code":"ABCD-EFGH","verification_uri":"https://v.example/device","expires_in":900000,"interval":5}"#;

    fn clock() -> Clock {
        Clock::manual(Timestamp::from_second(1_800_000_000).unwrap())
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
    async fn the_current_secret_takes_over_where_the_next_one_is_refused_and_stays() {
        let scripted = Scripted::start().await;
        let tools = tools(&Clock::system());
        let mut account = scripted.account("lms@contoso.com");
        account.client_secret = Some(SecretSource::Literal(Secret::new("old~secret")));
        account.next_client_secret = Some(SecretSource::Literal(Secret::new("new~secret")));
        scripted
            .then(Answer::json(200, &GRANT.replace("\"interval\":5", "\"interval\":0")))
            .then(Answer::refusal("invalid_client", 7_000_215))
            .then(Answer::refusal("authorization_pending", 70016))
            .then(Answer::tokens(&access_of("lms@contoso.com"), "refresh-9"));
        let login = DeviceLogin::start(&account, &tools).await.unwrap();
        login.wait(&tools, &CancellationToken::new()).await.unwrap();
        scripted.then(Answer::refusal("invalid_client", 7_000_215)).then(Answer::json(200, GRANT));
        DeviceLogin::start(&account, &tools).await.unwrap();
        let asked: Vec<_> = scripted.asked().iter().map(|form| form["client_secret"].clone()).collect();
        assert_eq!(asked.join(" ").replace("~secret", ""), "new new old old new old");
    }
}
