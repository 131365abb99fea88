//! Signing in with a browser: authorization code with PKCE for a native application (RFC 6749 section 4.1, RFC 7636, RFC 8252).
//!
//! A [`BrowserLogin`] makes the address to open, and takes the address at which the browser ended, from wherever that comes: a
//! listener on loopback, or a person who pastes it. It opens no port and writes nothing; state and verifier never leave it but for the
//! provider.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use reqwest::Url;

use super::answer::{EndpointError, OAuthError};
use super::credential::{Credential, Offer};
use super::endpoint::TokenEndpoint;
use super::errors::{Advice, Circumstances, Flow, Meaning, judge};
use super::login::{LoginError, LoginTools, sign_in};
use super::observer::Asking;
use super::redirect::{NotThis, Redirect, from_page};
use super::shelf::StoredSignIn;
use super::timing::later;
use crate::config::{Account, Provider, Secret};
use crate::message::Address;

/// How long a person may take. Codes of Entra ID live as long, from the consent on.
const PATIENCE: Duration = Duration::from_mins(10);
/// Octets of randomness: 43 characters, which is the shortest verifier of RFC 7636 section 4.1.
const ENTROPY: usize = 32;

/// AADSTS50011, whose own words name neither the address nor the place.
const NOT_REGISTERED: &str = "The app registration does not know the address http://localhost: add it in the Entra portal under Authentication, platform \"Mobile and desktop applications\"";

/// A sign-in that waits for its browser. Printing it prints neither state nor verifier.
#[derive(Debug)]
pub struct BrowserLogin {
    account: Account,
    endpoint: TokenEndpoint,
    authorize: Url,
    redirect_uri: String,
    state: Secret,
    verifier: Secret,
    expires_at: Timestamp,
}

/// Where a native application waits for its browser (RFC 8252 section 7.3). Entra ID takes any port of `http://localhost` for a registration
/// that has this address under "Mobile and desktop applications", and needs more steps for `127.0.0.1`.
pub fn loopback_redirect(port: u16) -> String {
    format!("http://localhost:{port}/")
}

/// Why an address brought nobody in.
#[derive(Debug)]
pub enum Unanswered {
    /// It was another one: the sign-in goes on waiting.
    NotThis(NotThis),
    /// The sign-in is over.
    Over(LoginError),
}

impl BrowserLogin {
    /// Begins a sign-in that ends at `redirect_uri`. Open [`Self::address`], then hand what comes back to [`Self::answer`].
    pub async fn start(account: &Account, redirect_uri: String, tools: &LoginTools) -> Result<Self, LoginError> {
        let page = account.endpoints.authorize.as_deref();
        let page = page.ok_or_else(|| LoginError::NoBrowserFlow(account.mailbox.clone()))?;
        let authorize =
            Url::parse(page).map_err(|error| LoginError::AuthorizeUrl(page.to_owned(), error.to_string()))?;
        let endpoint = TokenEndpoint::new(account, tools.timeouts)?;
        // Made again for the code. That it cannot be made is told before somebody signs in for nothing.
        tools.has_credential(account).await?;
        Ok(Self {
            account: account.clone(),
            endpoint,
            authorize,
            redirect_uri,
            state: random(),
            verifier: random(),
            expires_at: later(tools.clock.now(), PATIENCE),
        })
    }

    /// The address that the person opens (RFC 6749 section 4.1.1).
    pub fn address(&self) -> String {
        let mut url = self.authorize.clone();
        {
            let mut query = url.query_pairs_mut();
            query
                .append_pair("client_id", self.endpoint.client_id())
                .append_pair("response_type", "code")
                .append_pair("redirect_uri", &self.redirect_uri);
            if !self.endpoint.scope().is_empty() {
                query.append_pair("scope", self.endpoint.scope());
            }
            query
                .append_pair("state", self.state.expose())
                .append_pair("code_challenge", &challenge(&self.verifier))
                .append_pair("code_challenge_method", "S256")
                .append_pair("login_hint", self.account.login.as_str());
            if self.account.provider == Provider::Google {
                // Its name for what is the scope offline_access elsewhere.
                query.append_pair("access_type", "offline");
            }
            if let Some(prompt) = self.prompt() {
                query.append_pair("prompt", prompt);
            }
        }
        url.into()
    }

    /// Microsoft signs in whoever the browser knows unless it is told to ask. `OpenID` Connect (Core, section 11) gives a token that lasts
    /// only to those who ask for consent.
    fn prompt(&self) -> Option<&'static str> {
        let lasts = self.account.endpoints.scopes.iter().any(|scope| scope == "offline_access");
        match self.account.provider {
            Provider::Microsoft => Some("select_account"),
            // Google gives its refresh token to the first consent alone unless it is asked for another one.
            Provider::Google => Some("consent"),
            Provider::Custom | Provider::SmartHost => lasts.then_some("consent"),
        }
    }

    /// Until when it waits.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// What is said when nobody came back in time.
    pub fn expired(&self) -> LoginError {
        LoginError::TabClosed(self.account.mailbox.clone())
    }

    /// The browser ended at this address. If it is the one, its code is redeemed.
    pub async fn answer(&self, address: &str, tools: &LoginTools) -> Result<StoredSignIn, Unanswered> {
        let code = match Redirect::read(address, &self.state) {
            Ok(Redirect::Code(code)) => code,
            Ok(Redirect::Refused(error)) => return Err(Unanswered::Over(self.refused(error))),
            Err(NotThis::NoRedirect) => return Err(Unanswered::NotThis(self.explained(address))),
            Err(other) => return Err(Unanswered::NotThis(other)),
        };
        self.redeem(&code, tools).await.map_err(Unanswered::Over)
    }

    async fn redeem(&self, code: &Secret, tools: &LoginTools) -> Result<StoredSignIn, LoginError> {
        let asking = Asking::now(Flow::AuthorizationCode, tools.clock.now());
        let redeem = |proof: Credential| async move {
            self.endpoint.redeem_code(code, &self.redirect_uri, &self.verifier, &proof).await
        };
        let answer = tools.ask(&self.account, Offer::first(&self.account), redeem).await?.answer;
        let now = tools.clock.now();
        match answer {
            Ok(tokens) => sign_in(&self.account, &tokens, None, now),
            Err(error) => {
                let circumstances = asking.refused(&error, now);
                Err(self.not_redeemed(error, &circumstances))
            }
        }
    }

    /// What was pasted is no address; perhaps it is what the provider's page said.
    fn explained(&self, text: &str) -> NotThis {
        let Some(refusal) = from_page(text) else { return NotThis::NoRedirect };
        let sentence = if refusal.codes.contains(&50011) {
            NOT_REGISTERED.to_owned()
        } else {
            let refusal = EndpointError::Answer(Box::new(refusal));
            judge(&refusal, &Flow::AuthorizationCode.into()).advice(&self.account).sentence
        };
        NotThis::ProvidersPage(sentence)
    }

    /// The provider said no with a redirect.
    fn refused(&self, answer: OAuthError) -> LoginError {
        let account = &self.account.mailbox;
        // The name for a person's no; with another number it is a policy's.
        if answer.error == "access_denied" && (answer.codes.is_empty() || answer.codes.contains(&65004)) {
            return LoginError::Declined(again(account));
        }
        let error = EndpointError::Answer(Box::new(answer));
        let judgement = judge(&error, &Flow::AuthorizationCode.into());
        let sentence = match judgement.meaning {
            Meaning::TryAgain | Meaning::Wait(_) => {
                "The provider has trouble of its own: try again in a few minutes".to_owned()
            }
            Meaning::SignInAgain | Meaning::FixConfiguration => judgement.advice(&self.account).sentence,
        };
        LoginError::Refused { error, advice: Advice { sentence, command: again(account) } }
    }

    /// The code was no good, or could not be tried.
    fn not_redeemed(&self, error: EndpointError, circumstances: &Circumstances) -> LoginError {
        let account = &self.account.mailbox;
        let judgement = judge(&error, circumstances);
        let sentence = match judgement.meaning {
            Meaning::TryAgain | Meaning::Wait(_) => return LoginError::Unreachable(error),
            Meaning::SignInAgain => {
                "The code in the address is used up, too old or not meant for this sign-in: start anew".to_owned()
            }
            Meaning::FixConfiguration => judgement.advice(&self.account).sentence,
        };
        LoginError::Refused { error, advice: Advice { sentence, command: again(account) } }
    }
}

/// The command that begins anew.
fn again(account: &Address) -> String {
    format!("xoauth2-relay login {account} --browser")
}

fn random() -> Secret {
    let mut octets = [0; ENTROPY];
    rand::fill(&mut octets);
    Secret::new(URL_SAFE_NO_PAD.encode(octets))
}

/// RFC 7636 section 4.2.
fn challenge(verifier: &Secret) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.expose().as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::clock::Clock;
    use crate::config::SecretSource;
    use crate::signin::scripted::{Answer, Scripted, tools};

    const BACK: &str = "http://localhost:40123/";

    fn account(scripted: &Scripted) -> Account {
        let mut account = scripted.account("lms@contoso.com");
        account.endpoints.authorize = Some(format!("{}/authorize?dc=1", scripted.url));
        account
    }

    async fn begun(account: &Account) -> BrowserLogin {
        BrowserLogin::start(account, BACK.to_owned(), &tools(&Clock::system())).await.unwrap()
    }

    fn asked(login: &BrowserLogin) -> HashMap<String, String> {
        Url::parse(&login.address()).unwrap().query_pairs().into_owned().collect()
    }

    /// The browser ends with this in front of the right state.
    async fn end(login: &BrowserLogin, query: &str) -> Result<StoredSignIn, Unanswered> {
        let address = format!("{BACK}?{query}&state={}", asked(login)["state"]);
        login.answer(&address, &tools(&Clock::system())).await
    }

    async fn failure(login: &BrowserLogin, query: &str) -> String {
        match end(login, query).await.unwrap_err() {
            Unanswered::Over(error) => error.to_string(),
            Unanswered::NotThis(other) => panic!("{other}"),
        }
    }

    #[test]
    fn the_challenge_is_that_of_the_rfc() {
        let verifier = Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        assert_eq!(challenge(&verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }

    #[tokio::test]
    async fn the_address_asks_for_everything_and_gives_nothing_away() {
        let scripted = Scripted::start().await;
        let account = account(&scripted);
        let (login, other) = (begun(&account).await, begun(&account).await);
        let asked = asked(&login);
        for (name, value) in [
            ("dc", "1"),
            ("client_id", "the-client"),
            ("response_type", "code"),
            ("redirect_uri", BACK),
            ("scope", "https://outlook.office.com/SMTP.Send offline_access"),
            ("code_challenge_method", "S256"),
            ("prompt", "select_account"),
            ("login_hint", "lms@contoso.com"),
        ] {
            assert_eq!(asked[name], value, "{name}");
        }
        assert_eq!((asked["state"].len(), asked["code_challenge"].len()), (43, 43));
        assert!(!login.address().contains(login.verifier.expose()));
        assert_ne!(login.state, other.state);
        assert_ne!(login.verifier, other.verifier);
        let printed = format!("{login:?}");
        assert!(!printed.contains(login.verifier.expose()) && !printed.contains(login.state.expose()));
    }

    #[tokio::test]
    async fn other_providers_are_asked_for_consent_where_the_sign_in_is_to_last() {
        let scripted = Scripted::start().await;
        let mut account = account(&scripted);
        account.provider = Provider::Custom;
        assert_eq!(asked(&begun(&account).await)["prompt"], "consent");
        account.endpoints.scopes = Vec::new();
        let asked = asked(&begun(&account).await);
        assert!(!asked.contains_key("prompt") && !asked.contains_key("scope"));
    }

    #[tokio::test]
    async fn a_code_is_redeemed_with_the_verifier_and_the_secret() {
        let scripted = Scripted::start().await;
        let mut account = account(&scripted);
        account.client_secret = Some(SecretSource::Literal(Secret::new("s3cret")));
        let login = begun(&account).await;
        let stored = end(&login, "code=c0de").await.unwrap();
        assert_eq!((stored.current.expose(), stored.previous), ("refresh-1", None));
        let form = &scripted.asked()[0];
        assert_eq!(form["grant_type"], "authorization_code");
        assert_eq!(form["code"], "c0de");
        assert_eq!(form["redirect_uri"], BACK);
        assert_eq!(form["client_id"], "the-client");
        assert_eq!(form["client_secret"], "s3cret");
        assert_eq!(challenge(&Secret::new(form["code_verifier"].clone())), asked(&login)["code_challenge"]);
    }

    #[tokio::test]
    async fn a_forged_state_is_refused_before_anything_is_redeemed() {
        let scripted = Scripted::start().await;
        let login = begun(&account(&scripted)).await;
        for (address, why) in [
            ("http://localhost:40123/?code=c0de&state=forged", NotThis::WrongState),
            ("http://localhost:40123/?code=c0de", NotThis::NoState),
            (&login.address(), NotThis::StartingPoint),
            (
                "AADSTS50011: The redirect URI 'http://localhost:40123/'",
                NotThis::ProvidersPage(NOT_REGISTERED.to_owned()),
            ),
        ] {
            let answer = login.answer(address, &tools(&Clock::system())).await;
            assert!(matches!(answer, Err(Unanswered::NotThis(said)) if said == why), "{address}");
        }
        assert!(scripted.asked().is_empty());
        assert!(end(&login, "code=c0de").await.is_ok(), "it still waits for the right one");
    }

    #[tokio::test]
    async fn every_end_of_a_sign_in_has_its_sentence() {
        let scripted = Scripted::start().await;
        let login = begun(&account(&scripted)).await;
        for (query, says) in [
            ("error=access_denied", "declined in the browser"),
            ("error=access_denied&error_description=AADSTS65004:+no", "xoauth2-relay login lms@contoso.com --browser"),
            ("error=access_denied&error_description=AADSTS53003:+no", "Conditional Access"),
            ("error=invalid_scope", "invalid_scope"),
            ("error=server_error", "try again in a few minutes"),
        ] {
            let said = failure(&login, query).await;
            assert!(said.contains(says), "{said}");
        }
        for (answer, says) in [
            (Answer::refusal("invalid_grant", 70008), "used up, too old"),
            (Answer::refusal("invalid_grant", 54005), "xoauth2-relay login lms@contoso.com --browser"),
            (Answer::refusal("invalid_client", 7_000_218), "Allow public client flows"),
            (Answer::Text(502, &[], "<html>".to_owned()), "Check the network"),
            (Answer::json(200, r#"{"access_token":"opaque"}"#), "offline_access"),
        ] {
            scripted.then(answer);
            let said = failure(&login, "code=c0de-7").await;
            assert!(said.contains(says) && !said.contains("c0de-7"), "{said}");
        }
        assert!(login.expired().to_string().contains("xoauth2-relay login lms@contoso.com --browser"));
    }

    #[tokio::test]
    async fn a_sign_in_that_cannot_begin_says_why() {
        let scripted = Scripted::start().await;
        let tools = tools(&Clock::system());
        let mut without = account(&scripted);
        without.endpoints.authorize = None;
        let said = BrowserLogin::start(&without, BACK.to_owned(), &tools).await.unwrap_err().to_string();
        assert!(
            said.contains("has no authorize_url") && said.contains("xoauth2-relay login lms@contoso.com"),
            "{said}"
        );
    }
}
