//! The token endpoint and the device endpoint of one account, over HTTPS.
//!
//! The forms are written here and not by the `oauth2` crate: its device flow polls in a loop of its own that cannot be driven
//! step by step with our clock, and a single error page from a proxy ends it (for its reading of answers see `answer.rs`). What
//! would be left of it is a form of five fields.

use std::error::Error as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Certificate, Client, Url, redirect};

use super::answer::{DeviceGrant, EndpointError, RawAnswer, Tokens};
use super::credential::Credential;
use super::proxy::{Proxy, unknown_suspect, untrusted};
use crate::config::{Account, Secret, SecretError, SecretSource};

/// The most octets of an answer that are read.
const MAX_BODY: usize = 1024 * 1024;

/// Reads a secret from where the configuration says it is. May block: a file on a network, a command.
pub type SecretReader = Arc<dyn Fn(&SecretSource) -> Result<Secret, SecretError> + Send + Sync>;

/// How long an endpoint may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until it is connected, TLS included.
    pub connect: Duration,
    /// From the start to the last byte of the answer.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), total: Duration::from_secs(30) }
    }
}

/// Where an account gets its tokens. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TokenEndpoint {
    token: Door,
    device: Option<Door>,
    client_id: String,
    scope: String,
}

/// One address with the client that may talk to it.
#[derive(Clone, Debug)]
struct Door {
    client: Client,
    url: Url,
    timeouts: Timeouts,
    /// The proxy in between, if the environment has one for this address.
    proxy: Option<Proxy>,
}

/// An account's endpoints cannot be used: a broken address or certificate file. Checked configurations hardly ever get here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EndpointUnusable(String);

impl TokenEndpoint {
    /// The endpoints of this account: platform roots plus its own, the environment's proxy (never for loopback), no redirects.
    pub fn new(account: &Account, timeouts: Timeouts) -> Result<Self, EndpointUnusable> {
        let door = |address: &str| Door::new(address, account, timeouts);
        Ok(Self {
            token: door(&account.endpoints.token)?,
            device: account.endpoints.device.as_deref().map(door).transpose()?,
            client_id: account.client_id.clone(),
            scope: account.endpoints.scopes.join(" "),
        })
    }

    /// The registration's id.
    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    /// What is asked for, parted by spaces.
    pub(super) fn scope(&self) -> &str {
        &self.scope
    }

    /// Whether it can start a device sign-in.
    pub fn has_device_flow(&self) -> bool {
        self.device.is_some()
    }

    /// Redeems a refresh token (RFC 6749 section 6). The scope is always sent: Entra ID answers AADSTS900144 without it.
    pub async fn refresh(&self, refresh: &Secret, credential: &Credential) -> Result<Tokens, EndpointError> {
        let form = self.form(credential, [("grant_type", "refresh_token"), ("refresh_token", refresh.expose())], true);
        let answer = self.token.ask(&form, RawAnswer::tokens).await;
        answer.map_err(|error| error.without(&secrets(Some(refresh), credential)))
    }

    /// Asks for an access token of the registration's own: client credentials (RFC 6749 section 4.4).
    pub async fn apply(&self, credential: &Credential) -> Result<Tokens, EndpointError> {
        let form = self.form(credential, [("grant_type", "client_credentials")], true);
        let answer = self.token.ask(&form, RawAnswer::tokens).await;
        answer.map_err(|error| error.without(&secrets(None, credential)))
    }

    /// Redeems the code that a browser brought back (RFC 6749 section 4.1.3, RFC 7636 section 4.5).
    pub(super) async fn redeem_code(
        &self,
        code: &Secret,
        redirect_uri: &str,
        verifier: &Secret,
        credential: &Credential,
    ) -> Result<Tokens, EndpointError> {
        let fields = [
            ("grant_type", "authorization_code"),
            ("code", code.expose()),
            ("redirect_uri", redirect_uri),
            ("code_verifier", verifier.expose()),
        ];
        let form = self.form(credential, fields, false);
        let answer = self.token.ask(&form, RawAnswer::tokens).await;
        let mut secrets = secrets(Some(code), credential);
        secrets.push(verifier);
        answer.map_err(|error| error.without(&secrets))
    }

    /// Asks for a device code (RFC 8628 section 3.1); `None` if the account has no device endpoint.
    pub(super) async fn device_grant(&self, credential: &Credential) -> Option<Result<DeviceGrant, EndpointError>> {
        let form = self.form(credential, [], true);
        let answer = self.device.as_ref()?.ask(&form, RawAnswer::device_grant).await;
        Some(answer.map_err(|error| error.without(&secrets(None, credential))))
    }

    /// Asks once whether the person is done (RFC 8628 section 3.4).
    pub(super) async fn poll(&self, device_code: &Secret, credential: &Credential) -> Result<Tokens, EndpointError> {
        let grant = ("grant_type", "urn:ietf:params:oauth:grant-type:device_code");
        let form = self.form(credential, [grant, ("device_code", device_code.expose())], false);
        let answer = self.token.ask(&form, RawAnswer::tokens).await;
        answer.map_err(|error| error.without(&secrets(Some(device_code), credential)))
    }

    /// A public client sends its id alone; a confidential one what proves it, too.
    fn form<'a, const N: usize>(
        &'a self,
        credential: &'a Credential,
        fields: [(&'a str, &'a str); N],
        with_scope: bool,
    ) -> Vec<(&'a str, &'a str)> {
        let mut form = Vec::from(fields);
        form.push(("client_id", &self.client_id));
        form.extend(credential.fields());
        if with_scope && !self.scope.is_empty() {
            form.push(("scope", &self.scope));
        }
        form
    }
}

fn secrets<'a>(token: Option<&'a Secret>, credential: &'a Credential) -> Vec<&'a Secret> {
    token.into_iter().chain(credential.secret()).collect()
}

impl Door {
    fn new(address: &str, account: &Account, timeouts: Timeouts) -> Result<Self, EndpointUnusable> {
        let url =
            Url::parse(address).map_err(|error| EndpointUnusable(format!("{address:?} is no address: {error}")))?;
        let unusable = |error| EndpointUnusable(format!("cannot talk to {}: {}", host(&url), in_words(&error)));
        let mut client = Client::builder()
            .user_agent(concat!("xoauth2-relay/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(timeouts.connect)
            .timeout(timeouts.total);
        let proxy = if is_loopback(&url) {
            client = client.no_proxy();
            None
        } else {
            Proxy::of_environment(&url)
        };
        client = if url.scheme() == "http" {
            // No TLS, so no roots: `demo` has to run in a container that has none.
            client.tls_certs_only([])
        } else {
            let roots = account.extra_roots.iter().map(|root| Certificate::from_der(root));
            client.tls_certs_merge(roots.collect::<Result<Vec<_>, _>>().map_err(unusable)?)
        };
        Ok(Self { client: client.build().map_err(unusable)?, timeouts, url, proxy })
    }

    /// Asks, and names who may have answered in the endpoint's place.
    async fn ask<T>(
        &self,
        form: &[(&str, &str)],
        read: impl Fn(&RawAnswer) -> Result<T, EndpointError>,
    ) -> Result<T, EndpointError> {
        let mut answer = self.post(form).await.and_then(|answer| read(&answer));
        if let Err(EndpointError::Nonsense { status, what, .. }) = &mut answer {
            let suspect = self.proxy.as_ref().map(|proxy| proxy.suspicion(&host(&self.url)));
            if let Some(suspect) = suspect.or_else(|| unknown_suspect(*status).map(str::to_owned)) {
                what.push_str("; ");
                what.push_str(&suspect);
            }
        }
        answer
    }

    async fn post(&self, form: &[(&str, &str)]) -> Result<RawAnswer, EndpointError> {
        let request = self.client.post(self.url.clone()).header("accept", "application/json").form(form);
        let mut response = request.send().await.map_err(|error| self.unreachable(error))?;
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (retry_after, date) = (header("retry-after"), header("date"));
        let status = response.status().as_u16();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(error))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Ok(RawAnswer { status, retry_after, date, body: None });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(RawAnswer { status, retry_after, date, body: Some(body) })
    }

    fn unreachable(&self, error: reqwest::Error) -> EndpointError {
        let host = host(&self.url);
        if error.is_timeout() {
            let through = self.proxy.as_ref().map(|proxy| format!(" through {proxy}")).unwrap_or_default();
            let seconds = self.timeouts.total.as_secs_f32();
            return EndpointError::Unreachable(format!("no answer from {host}{through} within {seconds} s"));
        }
        let words = in_words(&error.without_url());
        let mut said = match &self.proxy {
            Some(proxy) => proxy.blame(&host, &words),
            None => format!("cannot reach {host}: {words}"),
        };
        if let Some(remedy) = untrusted(&words) {
            said.push_str("; ");
            said.push_str(remedy);
        }
        EndpointError::Unreachable(said)
    }
}

fn host(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => url.scheme().to_owned(),
    }
}

fn is_loopback(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    })
}

/// The innermost causes: reqwest's outer ones ("error sending request", "client error") tell an administrator nothing.
pub fn in_words(error: &reqwest::Error) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if text != "client error (Connect)" && words.last() != Some(&text) {
            words.push(text);
        }
        source = cause.source();
    }
    if words.is_empty() { error.to_string() } else { words.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signin::errors::{Meaning, meaning};
    use crate::signin::scripted::{Answer, Scripted, account};

    async fn refresh(scripted: &Scripted) -> Result<Tokens, EndpointError> {
        let endpoint = TokenEndpoint::new(&scripted.account("lms@contoso.com"), Timeouts::default()).unwrap();
        endpoint.refresh(&Secret::new("refresh-0"), &Credential::None).await
    }

    #[tokio::test]
    async fn a_public_client_sends_no_secret_and_a_confidential_one_sends_it_in_the_body() {
        let scripted = Scripted::start().await;
        assert_eq!(refresh(&scripted).await.unwrap().refresh, Some(Secret::new("refresh-1")));
        let endpoint = TokenEndpoint::new(&scripted.account("lms@contoso.com"), Timeouts::default()).unwrap();
        endpoint.refresh(&Secret::new("a+b/c=&d"), &Credential::Secret(Secret::new("s~e+c r"))).await.unwrap();
        let asked = scripted.asked();
        assert!(!asked[0].contains_key("client_secret"));
        assert_eq!(asked[0]["grant_type"], "refresh_token");
        assert_eq!(asked[0]["scope"], "https://outlook.office.com/SMTP.Send offline_access");
        assert_eq!(asked[0]["client_id"], "the-client");
        assert_eq!((asked[1]["refresh_token"].as_str(), asked[1]["client_secret"].as_str()), ("a+b/c=&d", "s~e+c r"));
    }

    #[tokio::test]
    async fn what_is_no_answer_is_told_from_a_refusal() {
        let scripted = Scripted::start().await;
        let retry: &[_] = &[("retry-after", "7"), ("date", "Wed, 21 Oct 2026 07:28:00 GMT")];
        scripted
            .then(Answer::Text(502, &[], "<html><title>Bad Gateway</title>".to_owned()))
            .then(Answer::Text(429, retry, String::new()))
            .then(Answer::Text(503, retry, r#"{"error":"temporarily_unavailable"}"#.to_owned()))
            .then(Answer::Text(302, &[("location", "https://portal.example/")], String::new()))
            .then(Answer::json(200, r#"{"access_token":"#))
            .then(Answer::Text(200, &[], "x".repeat(MAX_BODY + 1)))
            .then(Answer::refusal("invalid_grant", 700_082));
        let mut meanings = Vec::new();
        for _ in 0..7 {
            let error = refresh(&scripted).await.unwrap_err();
            meanings.push(meaning(&error));
        }
        let seven = Meaning::Wait(Duration::from_secs(7));
        let again = Meaning::TryAgain;
        assert_eq!(meanings, [again, seven, seven, again, again, again, Meaning::SignInAgain]);
    }

    #[tokio::test]
    async fn a_life_in_a_string_is_read_and_the_servers_date_is_kept() {
        let scripted = Scripted::start().await;
        let date: &[_] = &[("date", "Wed, 21 Oct 2026 07:28:00 GMT")];
        scripted.then(Answer::Text(200, date, r#"{"access_token":"A","expires_in":"3599"}"#.to_owned()));
        let tokens = refresh(&scripted).await.unwrap();
        assert_eq!(tokens.life(), Duration::from_secs(3599));
        assert_eq!(tokens.date, "2026-10-21T07:28:00Z".parse().ok());
    }

    #[tokio::test]
    async fn silence_ends_with_the_timeout_and_a_closed_port_at_once() {
        let scripted = Scripted::start().await;
        scripted.then(Answer::Silence);
        let short = Timeouts { connect: Duration::from_millis(50), total: Duration::from_millis(50) };
        let endpoint = TokenEndpoint::new(&scripted.account("lms@contoso.com"), short).unwrap();
        let error = endpoint.refresh(&Secret::new("refresh-0"), &Credential::None).await.unwrap_err();
        assert!(error.to_string().starts_with("no answer from 127.0.0.1:"), "{error}");

        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let gone = account("lms@contoso.com", &format!("http://127.0.0.1:{port}/token"), None);
        let endpoint = TokenEndpoint::new(&gone, Timeouts::default()).unwrap();
        let error = endpoint.refresh(&Secret::new("refresh-0"), &Credential::None).await.unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
        assert!(matches!(error, EndpointError::Unreachable(_)));
    }

    #[tokio::test]
    async fn an_application_asks_with_an_assertion_and_none_of_it_is_echoed() {
        let scripted = Scripted::start().await;
        let endpoint = TokenEndpoint::new(&scripted.account("lms@contoso.com"), Timeouts::default()).unwrap();
        let credential = Credential::Assertion(Secret::new("e30.e30.signature"));
        assert_eq!(endpoint.apply(&credential).await.unwrap().access, Secret::new("access-1"));
        let asked = scripted.asked().remove(0);
        assert_eq!(asked["grant_type"], "client_credentials");
        assert_eq!(asked["client_id"], "the-client");
        assert_eq!(asked["client_assertion_type"], "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
        assert_eq!(asked["client_assertion"], "e30.e30.signature");
        assert!(!asked.contains_key("client_secret") && !asked.contains_key("refresh_token"));
        let echo = r#"{"error":"invalid_client","error_description":"bad assertion e30.e30.signature"}"#;
        scripted.then(Answer::json(401, echo));
        let error = endpoint.apply(&credential).await.unwrap_err();
        assert_eq!(error.to_string(), "invalid_client: bad assertion …");
    }

    /// Answers one HTTPS request after the other with tokens; gives its port and its certificate.
    async fn https() -> (u16, rustls_pki_types::CertificateDer<'static>) {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = rustls_pki_types::PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate.clone()], key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let mut seen = Vec::new();
                while !seen.ends_with(b"offline_access") && stream.read_buf(&mut seen).await.is_ok_and(|read| read > 0)
                {
                }
                let body = r#"{"access_token":"A"}"#;
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
        (port, certificate)
    }

    #[tokio::test]
    async fn an_accounts_own_roots_are_trusted_beside_the_platforms_and_nothing_else_is() {
        let (port, certificate) = https().await;
        let mut account = account("lms@contoso.com", &format!("https://localhost:{port}/token"), None);
        let ask = async |account: &Account| {
            let endpoint = TokenEndpoint::new(account, Timeouts::default()).unwrap();
            endpoint.refresh(&Secret::new("refresh-0"), &Credential::None).await
        };
        let error = ask(&account).await.unwrap_err();
        assert!(matches!(&error, EndpointError::Unreachable(why) if why.contains("certificate")), "{error}");
        account.extra_roots = Arc::from([certificate]);
        assert_eq!(ask(&account).await.unwrap().access, Secret::new("A"));
    }

    #[test]
    fn a_broken_address_is_said_to_be_one() {
        let account = account("lms@contoso.com", "no address", None);
        assert!(TokenEndpoint::new(&account, Timeouts::default()).unwrap_err().to_string().contains("no address"));
    }

    #[test]
    fn loopback_is_known_in_all_its_forms() {
        for (address, expected) in [
            ("http://127.0.0.1:1/", true),
            ("http://127.8.9.1/", true),
            ("http://[::1]:1/", true),
            ("http://LocalHost/", true),
            ("https://login.microsoftonline.com/", false),
            ("https://127.0.0.1.example/", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(address).unwrap()), expected, "{address}");
        }
    }
}
