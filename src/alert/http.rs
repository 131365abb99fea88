//! One request to a webhook or a heartbeat. Nothing of its address but scheme and host gets into an error.

use std::time::Duration;

use reqwest::{Client, RequestBuilder, Response, redirect};

use super::receiver::SendError;
use crate::config::HookUrl;
use crate::signin::in_words;

const CONNECT: Duration = Duration::from_secs(10);
const TOTAL: Duration = Duration::from_secs(30);
/// How much of an answer is read to find out what was wrong, in octets.
const MAX_BODY: usize = 4096;
/// How much of it is repeated, in characters.
const LONGEST_SAID: usize = 120;

/// What is posted.
pub(super) struct Post {
    /// The body.
    pub body: Vec<u8>,
    /// Its type.
    pub content_type: &'static str,
    /// Further headers.
    pub headers: Vec<(&'static str, String)>,
}

/// A client for one address.
pub(super) struct Http {
    client: Client,
    url: HookUrl,
}

impl Http {
    /// Platform roots, the environment's proxy (never for loopback), no redirects: an alert is not handed to whoever an answer names.
    pub fn new(url: &HookUrl) -> Result<Self, SendError> {
        let mut client = Client::builder()
            .user_agent(concat!("xoauth2-relay/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT)
            .timeout(TOTAL);
        if url.is_loopback() {
            client = client.no_proxy();
        }
        if url.expose().scheme() == "http" {
            // No TLS, so no roots: there may be none.
            client = client.tls_certs_only([]);
        }
        let client =
            client.build().map_err(|error| SendError::new(format!("cannot talk to {url}: {}", in_words(&error))))?;
        Ok(Self { client, url: url.clone() })
    }

    /// Posts it; the status of the answer.
    pub async fn post(&self, post: Post) -> Result<u16, SendError> {
        let mut request = self.client.post(self.url.expose().clone()).header("content-type", post.content_type);
        for (name, value) in post.headers {
            request = request.header(name, value);
        }
        self.ask(request.body(post.body)).await
    }

    /// Calls it; the status of the answer.
    pub async fn get(&self) -> Result<u16, SendError> {
        self.ask(self.client.get(self.url.expose().clone())).await
    }

    async fn ask(&self, request: RequestBuilder) -> Result<u16, SendError> {
        let mut response = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(status.as_u16());
        }
        let retry_after =
            response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let hint = match status.as_u16() {
            300..=399 => ": the address has moved; take the new one",
            401 | 403 => ": the address or its token is not good (any more)",
            404 | 410 => ": there is no such webhook (any more); make a new one",
            _ => "",
        };
        let said = self.said(&mut response).await.map(|said| format!(" ({said})")).unwrap_or_default();
        let text = format!("{} answered {}{said}{hint}", self.url, status.as_u16());
        Err(SendError { text, retry_after: retry_after.map(Duration::from_secs) })
    }

    /// What the answer says in plain text, unless it repeats something of the address.
    async fn said(&self, response: &mut Response) -> Option<String> {
        let mut body = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_BODY {
                return None;
            }
        }
        let text = String::from_utf8(body).ok()?;
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_plain = !line.starts_with('<') && !line.chars().any(char::is_control);
        if line.is_empty() || !is_plain || self.repeats_address(&line) {
            return None;
        }
        Some(line.chars().take(LONGEST_SAID).collect())
    }

    /// Whether something of the address stands in it. What is escaped in an address may be repeated as it was meant, so only letters and
    /// digits are compared.
    fn repeats_address(&self, line: &str) -> bool {
        let url = self.url.expose();
        let values = url.query().into_iter().flat_map(|query| query.split('&'));
        let values = values.map(|pair| pair.split_once('=').map_or(pair, |(_, value)| value));
        let parts = url.path_segments().into_iter().flatten().chain(values);
        let mut parts = parts.chain([url.username()]).chain(url.password()).map(letters);
        let line = letters(line);
        parts.any(|part| part.len() > 3 && line.contains(&part))
    }

    fn unreachable(&self, error: reqwest::Error) -> SendError {
        SendError::new(if error.is_timeout() {
            format!("no answer from {} within {} s", self.url, TOTAL.as_secs())
        } else {
            format!("cannot reach {}: {}", self.url, in_words(&error.without_url()))
        })
    }
}

/// The letters and digits of a text, apart from those of `%2B` and its like.
fn letters(text: &str) -> String {
    let mut pieces = text.split('%');
    let mut letters = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let is_escape = piece.len() >= 2 && piece.bytes().take(2).all(|byte| byte.is_ascii_hexdigit());
        letters.push_str(if is_escape { &piece[2..] } else { piece });
    }
    letters.retain(char::is_alphanumeric);
    letters
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers everything in this way, and its address with a secret in it.
    async fn server(status: u16, headers: [(&'static str, &'static str); 1], body: &'static str) -> HookUrl {
        let answer = move || async move { (StatusCode::from_u16(status).unwrap(), headers, body) };
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url =
            format!("http://user:passw0rd@{}/services/hunter2?key=s3cret%2fT0KEN&x", socket.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(socket, Router::new().fallback(answer)).await });
        HookUrl::parse(&url).unwrap()
    }

    #[tokio::test]
    async fn every_answer_is_understood_and_no_secret_repeated() {
        let none = [("x-nothing", "")];
        for (status, headers, body, said) in [
            (
                404,
                none,
                "no_service",
                " answered 404 (no_service): there is no such webhook (any more); make a new one",
            ),
            (
                403,
                none,
                "invalid_token",
                " answered 403 (invalid_token): the address or its token is not good (any more)",
            ),
            (400, none, "no /services/hunter2 here", " answered 400"),
            (400, none, "key=s3cret%2fT0KEN is wrong", " answered 400"),
            (400, none, "s3cret/T0KEN is 100% wrong", " answered 400"),
            (400, none, "no key is 100% right", " answered 400 (no key is 100% right)"),
            (400, none, "passw0rd?", " answered 400"),
            (500, none, "<html><title>Oops</title></html>", " answered 500"),
            (
                302,
                [("location", "http://127.0.0.1:1/hunter2")],
                "",
                " answered 302: the address has moved; take the new one",
            ),
            (429, [("retry-after", "90")], "", " answered 429"),
        ] {
            let url = server(status, headers, body).await;
            let error = Http::new(&url).unwrap().get().await.unwrap_err();
            assert_eq!(error.text, format!("{url}{said}"));
            assert_eq!(error.retry_after, (status == 429).then_some(Duration::from_secs(90)));
        }
        let url = server(202, none, "").await;
        assert_eq!(Http::new(&url).unwrap().get().await, Ok(202));
    }

    #[tokio::test]
    async fn a_server_that_is_away_is_named_without_its_secret() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = HookUrl::parse(&format!("https://{}/hunter2", socket.local_addr().unwrap())).unwrap();
        drop(socket);
        let error = Http::new(&url).unwrap().get().await.unwrap_err();
        assert!(error.text.starts_with(&format!("cannot reach {url}: ")), "{error}");
        assert!(error.text.contains("refused") && !error.text.contains("hunter2"), "{error}");
    }
}
