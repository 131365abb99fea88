//! What a token endpoint answered (RFC 6749 sections 5.1 and 5.2, RFC 8628 section 3.2), read without trusting it.
//!
//! Fields are picked by hand from the JSON. serde's own errors quote the value they stumble over, and here that value may be a
//! token. The `oauth2` crate's reading was tried and left: it refuses an `expires_in` that is a string and an answer without
//! `token_type`, drops the status and the headers, and its parse error carries the raw body, tokens included, in its `Debug`.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::config::Secret;

/// How long an access token is taken to live when the answer does not say.
const USUAL_LIFE: Duration = Duration::from_hours(1);
/// No answer is believed beyond this.
const LONGEST_LIFE: Duration = Duration::from_hours(366 * 24);
/// The longest `Retry-After` that is honoured: a proxy's "tomorrow" must not stop mail for a day.
const LONGEST_RETRY_AFTER: Duration = Duration::from_hours(1);
/// The most octets of a description that are kept.
const MAX_DESCRIPTION: usize = 2_000;
/// The most octets of a short field that are kept.
const MAX_NAME: usize = 200;

/// A successful answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The access token.
    pub access: Secret,
    /// How long the access token lives from now on, if the answer says so.
    pub expires_in: Option<Duration>,
    /// The refresh token that takes the place of the one used; `None`: the old one stays in use.
    pub refresh: Option<Secret>,
    /// How long the refresh token may lie unused, if the answer says so.
    pub refresh_life: Option<Duration>,
    /// What was granted, if the answer says so.
    pub scope: Option<String>,
    /// The server's own time, from its `Date` header.
    pub date: Option<Timestamp>,
}

impl Tokens {
    /// How long the access token lives; an hour if the answer did not say.
    pub fn life(&self) -> Duration {
        self.expires_in.unwrap_or(USUAL_LIFE)
    }
}

/// A refusal in the form of OAuth, with everything that tells one refusal from another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OAuthError {
    /// `error`.
    pub error: String,
    /// `error_description`, cut to a reasonable length.
    pub description: String,
    /// The AADSTS numbers: `error_codes`, and those named in the description.
    pub codes: Vec<u32>,
    /// Microsoft's `suberror`.
    pub suberror: Option<String>,
    /// The HTTP status.
    pub status: u16,
    /// `Retry-After`, at most an hour.
    pub retry_after: Option<Duration>,
    /// Microsoft's `correlation_id`, for its support.
    pub correlation_id: Option<String>,
    /// Microsoft's `trace_id`, for its support.
    pub trace_id: Option<String>,
    /// The server's own time, from its `Date` header.
    pub date: Option<Timestamp>,
}

impl OAuthError {
    /// A refusal that a browser brought back (RFC 6749 section 4.1.2.1): it has no status.
    pub(super) fn from_redirect(error: &str, description: &str) -> Self {
        let description = bounded(description, MAX_DESCRIPTION);
        let codes = named_codes(&description);
        Self { error: bounded(error, MAX_NAME), description, codes, ..Self::default() }
    }
}

impl fmt::Display for OAuthError {
    /// One line: Microsoft's first sentences without its ids, or the bare `error` if there is no description.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = self.said();
        if said.is_empty() { write!(f, "{}", self.error) } else { write!(f, "{}: {said}", self.error) }
    }
}

impl OAuthError {
    /// The description in one line, without the ids behind it; empty if there is none.
    pub fn said(&self) -> String {
        let line = self.description.split_whitespace().collect::<Vec<_>>().join(" ");
        line.split(" Trace ID:").next().unwrap_or_default().to_owned()
    }
}

/// Why a request for tokens brought none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The endpoint itself refused. Only this can mark a sign-in dead.
    #[error("{0}")]
    Answer(Box<OAuthError>),
    /// Nobody answered: DNS, connection, TLS, timeout.
    #[error("{0}")]
    Unreachable(String),
    /// Something answered that is no token endpoint in its right mind: an error page, a proxy's log-in page, half a JSON.
    #[error("the token endpoint answered with HTTP status {status} and {what}")]
    Nonsense {
        /// The HTTP status.
        status: u16,
        /// What came instead, without its content.
        what: String,
        /// `Retry-After`, at most an hour.
        retry_after: Option<Duration>,
    },
}

/// An answer as it came over the wire. Its body may hold tokens, so it cannot be printed.
pub(super) struct RawAnswer {
    pub(super) status: u16,
    pub(super) retry_after: Option<String>,
    pub(super) date: Option<String>,
    /// `None`: larger than what is read.
    pub(super) body: Option<Vec<u8>>,
}

/// What a device endpoint gave (RFC 8628 section 3.2).
#[derive(Clone, Debug)]
pub(super) struct DeviceGrant {
    pub(super) device_code: Secret,
    pub(super) user_code: String,
    pub(super) verification_uri: String,
    pub(super) verification_uri_complete: Option<String>,
    pub(super) message: Option<String>,
    pub(super) expires_in: Duration,
    pub(super) interval: Duration,
}

impl RawAnswer {
    /// The tokens in it, or what stands there instead.
    pub(super) fn tokens(&self) -> Result<Tokens, EndpointError> {
        let object = self.success()?;
        let access = secret(&object, "access_token").ok_or_else(|| self.nonsense("JSON without access_token"))?;
        Ok(Tokens {
            access,
            expires_in: life(object.get("expires_in")).map(|life| life.min(LONGEST_LIFE)),
            refresh: secret(&object, "refresh_token"),
            // As Entra ID names it (24 hours for single-page applications), and as Keycloak does.
            refresh_life: life(object.get("refresh_token_expires_in"))
                .or_else(|| life(object.get("refresh_expires_in")))
                .map(|life| life.min(LONGEST_LIFE)),
            scope: text(&object, "scope", MAX_DESCRIPTION),
            date: self.date(),
        })
    }

    /// The device code in it, or what stands there instead.
    pub(super) fn device_grant(&self) -> Result<DeviceGrant, EndpointError> {
        let object = self.success()?;
        let missing = |field: &str| self.nonsense(&format!("JSON without {field}"));
        Ok(DeviceGrant {
            device_code: secret(&object, "device_code").ok_or_else(|| missing("device_code"))?,
            user_code: text(&object, "user_code", MAX_NAME).ok_or_else(|| missing("user_code"))?,
            // Google still uses the name of an early draft.
            verification_uri: text(&object, "verification_uri", MAX_DESCRIPTION)
                .or_else(|| text(&object, "verification_url", MAX_DESCRIPTION))
                .ok_or_else(|| missing("verification_uri"))?,
            verification_uri_complete: text(&object, "verification_uri_complete", MAX_DESCRIPTION),
            message: text(&object, "message", MAX_DESCRIPTION),
            expires_in: life(object.get("expires_in")).unwrap_or(Duration::from_mins(15)).min(LONGEST_LIFE),
            // RFC 8628 section 3.2: 5 seconds if none is given.
            interval: seconds(object.get("interval")).unwrap_or(Duration::from_secs(5)).min(Duration::from_mins(1)),
        })
    }

    /// The JSON object of an answer that is no refusal.
    fn success(&self) -> Result<Map<String, Value>, EndpointError> {
        let body = self.body.as_deref().ok_or_else(|| self.nonsense("more than it should ever say"))?;
        let Ok(Value::Object(object)) = serde_json::from_slice(body) else {
            return Err(self.nonsense(&describe(body)));
        };
        // Some servers refuse with status 200.
        if let Some(refusal) = self.refusal(&object) {
            return Err(EndpointError::Answer(Box::new(refusal)));
        }
        if !(200..300).contains(&self.status) {
            return Err(self.nonsense("JSON that is no OAuth answer"));
        }
        Ok(object)
    }

    fn refusal(&self, object: &Map<String, Value>) -> Option<OAuthError> {
        let error = match object.get("error")? {
            Value::String(name) => bounded(name, MAX_NAME),
            // Gateways of Microsoft Graph and Google nest it.
            Value::Object(nested) => text(nested, "code", MAX_NAME).or_else(|| text(nested, "status", MAX_NAME))?,
            _ => return None,
        };
        let description = text(object, "error_description", MAX_DESCRIPTION).unwrap_or_default();
        let mut codes: Vec<u32> = match object.get("error_codes") {
            Some(Value::Array(codes)) => codes.iter().take(20).filter_map(number).collect(),
            _ => Vec::new(),
        };
        for code in named_codes(&description) {
            if !codes.contains(&code) {
                codes.push(code);
            }
        }
        Some(OAuthError {
            error,
            description,
            codes,
            suberror: text(object, "suberror", MAX_NAME),
            status: self.status,
            retry_after: self.retry_after(),
            correlation_id: text(object, "correlation_id", MAX_NAME),
            trace_id: text(object, "trace_id", MAX_NAME),
            date: self.date(),
        })
    }

    fn nonsense(&self, what: &str) -> EndpointError {
        EndpointError::Nonsense { status: self.status, what: what.to_owned(), retry_after: self.retry_after() }
    }

    fn date(&self) -> Option<Timestamp> {
        self.date.as_deref().and_then(http_date)
    }

    /// Seconds or a date (RFC 9110 section 10.2.3); a date counts from the server's own `Date`, so that a wrong clock here does
    /// not matter; from our own where the server does not tell its.
    fn retry_after(&self) -> Option<Duration> {
        let text = self.retry_after.as_deref()?.trim();
        let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            // More digits than fit are a long time too.
            Duration::from_secs(text.parse().unwrap_or(u64::MAX))
        } else {
            let now = self.date().unwrap_or_else(Timestamp::now);
            Duration::try_from(http_date(text)?.duration_since(now)).ok()?
        };
        Some(wait.min(LONGEST_RETRY_AFTER))
    }
}

/// A date in any of the three forms of RFC 9110 section 5.6.7, or as a mail has it.
fn http_date(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let http = httpdate::parse_http_date(text).ok().and_then(|date| Timestamp::try_from(date).ok());
    http.or_else(|| jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok())
}

/// What a body that is no JSON object looks like, without quoting it: it may be half an answer with tokens in it.
fn describe(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let start = text.trim_start();
    if start.is_empty() {
        return "nothing".to_owned();
    }
    if !start.starts_with('<') {
        return "text that is not JSON".to_owned();
    }
    // The title names the proxy or the outage; nothing else of a page is worth keeping.
    let lower = start.to_ascii_lowercase();
    let title = lower.find("<title>").and_then(|at| {
        let from = at + "<title>".len();
        let to = lower[from..].find("</title>")?;
        start.get(from..from + to)
    });
    match title.map(|title| bounded(title.trim(), 80)).filter(|title| !title.is_empty()) {
        Some(title) => format!("an HTML page ({title:?}) instead of JSON"),
        None => "an HTML page instead of JSON".to_owned(),
    }
}

/// Every `AADSTSnnn` in the text.
fn named_codes(text: &str) -> Vec<u32> {
    text.split("AADSTS")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok())
        .take(20)
        .collect()
}

fn number(value: &Value) -> Option<u32> {
    match value {
        Value::Number(number) => number.as_u64().and_then(|number| u32::try_from(number).ok()),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

/// How long something lasts. Zero says nothing: nobody hands out what is over already.
fn life(value: Option<&Value>) -> Option<Duration> {
    seconds(value).filter(|span| !span.is_zero())
}

/// Seconds as a number or, as older endpoints have it, as a string.
fn seconds(value: Option<&Value>) -> Option<Duration> {
    let seconds = match value? {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    Duration::try_from_secs_f64(seconds).ok()
}

fn secret(object: &Map<String, Value>, field: &str) -> Option<Secret> {
    match object.get(field)? {
        Value::String(text) if !text.is_empty() => Some(Secret::new(text.as_str())),
        _ => None,
    }
}

fn text(object: &Map<String, Value>, field: &str, max: usize) -> Option<String> {
    match object.get(field)? {
        Value::String(text) if !text.is_empty() => Some(bounded(text, max)),
        _ => None,
    }
}

/// At most `max` octets, without control characters that would upset a terminal.
fn bounded(text: &str, max: usize) -> String {
    let end = text.floor_char_boundary(max);
    text[..end].chars().filter(|c| !c.is_control() || matches!(c, '\r' | '\n' | '\t')).collect()
}

/// So much of a secret's beginning is told from a word that happens to be like it.
const SHORTEST_HEAD: usize = 6;

impl EndpointError {
    /// Takes the given secrets out of whatever the far side echoed.
    pub(super) fn without(mut self, secrets: &[&Secret]) -> Self {
        let clean = |text: &mut String| {
            for secret in secrets.iter().map(|secret| secret.expose()).filter(|secret| secret.len() >= 4) {
                if text.contains(secret) {
                    *text = text.replace(secret, "…");
                }
                // The text may have been cut in the middle of it.
                let heads = (SHORTEST_HEAD..secret.len()).rev().filter_map(|length| secret.get(..length));
                if let Some(head) = heads.into_iter().find(|head| text.ends_with(head)) {
                    text.truncate(text.len() - head.len());
                    text.push('…');
                }
            }
        };
        match &mut self {
            Self::Answer(answer) => {
                clean(&mut answer.error);
                clean(&mut answer.description);
            }
            Self::Unreachable(what) | Self::Nonsense { what, .. } => clean(what),
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> RawAnswer {
        RawAnswer { status, retry_after: None, date: None, body: Some(body.into()) }
    }

    #[test]
    fn an_echoed_secret_is_taken_out_even_where_the_text_was_cut() {
        let secret = Secret::new("0.AXoA-".to_owned() + &"x".repeat(MAX_DESCRIPTION));
        for before in [0, 10, 2_000 - 8] {
            let said = format!("{}{}", "a".repeat(before), secret.expose());
            let body = format!(r#"{{"error":"invalid_grant","error_description":"{said}"}}"#);
            let error = answer(400, &body).tokens().unwrap_err().without(&[&secret]);
            assert!(!error.to_string().contains("0.AXoA"), "{before}: {error}");
        }
    }

    #[test]
    fn tokens_are_read_in_every_form_they_are_seen_in() {
        let full = answer(
            200,
            r#"{"token_type":"Bearer","scope":"x","expires_in":"4799","ext_expires_in":1,"access_token":"A","refresh_token":"R"}"#,
        );
        let tokens = full.tokens().unwrap();
        assert_eq!(tokens.life(), Duration::from_secs(4799));
        assert_eq!(tokens.refresh, Some(Secret::new("R")));

        let bare = answer(200, r#"{"access_token":"A"}"#).tokens().unwrap();
        assert_eq!((bare.life(), bare.refresh), (USUAL_LIFE, None));
        for odd in ["-5", "0", "\"0\"", "null", "1e300", "\"soon\"", "[]"] {
            let tokens = answer(200, &format!(r#"{{"access_token":"A","expires_in":{odd}}}"#)).tokens().unwrap();
            assert_eq!(tokens.life(), USUAL_LIFE, "{odd}");
        }
        let forever = answer(200, r#"{"access_token":"A","expires_in":99999999999}"#).tokens().unwrap();
        assert_eq!(forever.life(), LONGEST_LIFE);
    }

    #[test]
    fn numbers_come_from_error_codes_and_from_the_description() {
        let refused = answer(
            400,
            r#"{"error":"invalid_grant","error_description":"AADSTS70002: x. AADSTS70008: y.\r\nTrace ID: t","error_codes":[70002],"suberror":"bad_token","trace_id":"t","correlation_id":"c"}"#,
        );
        let Err(EndpointError::Answer(error)) = refused.tokens() else { panic!("refused") };
        assert_eq!(error.codes, [70002, 70008]);
        assert_eq!(error.suberror.as_deref(), Some("bad_token"));
        assert_eq!(error.to_string(), "invalid_grant: AADSTS70002: x. AADSTS70008: y.");
        assert_eq!((error.trace_id.as_deref(), error.correlation_id.as_deref()), (Some("t"), Some("c")));
    }

    #[test]
    fn what_is_no_answer_is_named_and_never_quoted() {
        let said = |status, body: &str| answer(status, body).tokens().unwrap_err().to_string();
        assert!(said(502, "<html><TITLE>Zscaler</TITLE>").contains("an HTML page (\"Zscaler\")"));
        assert!(said(200, "").contains("nothing"));
        assert!(!said(200, r#"{"access_token":"eyJ0"#).contains("eyJ0"));
        assert!(!said(200, r#"{"access_token":["eyJ0"]}"#).contains("eyJ0"));
        assert!(said(200, "[]").contains("not JSON"));
        let huge = RawAnswer { status: 200, retry_after: None, date: None, body: None };
        assert!(matches!(huge.tokens(), Err(EndpointError::Nonsense { .. })));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_a_day() {
        let wait = |text: &str| {
            let date = Some("Wed, 21 Oct 2026 07:28:00 GMT".to_owned());
            RawAnswer { status: 429, retry_after: Some(text.to_owned()), date, body: None }.retry_after()
        };
        assert_eq!(wait("60"), Some(Duration::from_mins(1)));
        assert_eq!(wait("Wed, 21 Oct 2026 07:30:00 GMT"), Some(Duration::from_mins(2)));
        assert_eq!(wait("Wed, 21 Oct 2026 07:00:00 GMT"), None);
        assert_eq!(wait("Wednesday, 21-Oct-26 07:30:00 GMT"), Some(Duration::from_mins(2)), "RFC 850");
        assert_eq!(wait("Wed Oct 21 07:30:00 2026"), Some(Duration::from_mins(2)), "asctime");
        assert_eq!(wait("Wed, 21 Oct 2099 07:30:00 GMT"), Some(LONGEST_RETRY_AFTER));
        for absurd in ["86400", "18446744073709551615", "99999999999999999999999999"] {
            assert_eq!(wait(absurd), Some(LONGEST_RETRY_AFTER), "{absurd}");
        }
        for nothing in ["soon", "", "-5", "1e3", "0x10", "12 minutes"] {
            assert_eq!(wait(nothing), None, "{nothing:?}");
        }
        assert_eq!(wait("0"), Some(Duration::ZERO));
    }

    #[test]
    fn a_date_without_the_servers_own_time_counts_from_ours() {
        let in_ten_minutes = std::time::SystemTime::now() + Duration::from_mins(10);
        let retry_after = Some(httpdate::fmt_http_date(in_ten_minutes));
        let wait = RawAnswer { status: 503, retry_after, date: None, body: None }.retry_after().unwrap();
        assert!(wait <= Duration::from_mins(10) && wait > Duration::from_mins(5), "{wait:?}");
    }

    #[test]
    fn what_an_endpoint_says_of_the_refresh_tokens_life_is_kept() {
        let life =
            |field: &str| answer(200, &format!(r#"{{"access_token":"A"{field}}}"#)).tokens().unwrap().refresh_life;
        let day = Some(Duration::from_hours(24));
        assert_eq!(life(""), None);
        assert_eq!(life(r#","refresh_token_expires_in":86400"#), day);
        assert_eq!(life(r#","refresh_expires_in":"86400""#), day);
        assert_eq!(life(r#","refresh_expires_in":0"#), None, "Keycloak's offline tokens");
    }

    #[test]
    fn an_echoed_secret_is_taken_out() {
        let refused = answer(400, r#"{"error":"invalid_grant","error_description":"no such token R-123"}"#);
        let error = refused.tokens().unwrap_err().without(&[&Secret::new("R-123")]);
        assert_eq!(error.to_string(), "invalid_grant: no such token …");
    }

    #[test]
    fn a_device_grant_has_sensible_defaults() {
        let grant = answer(200, r#"{"device_code":"D","user_code":"U","verification_url":"https://v"}"#);
        let grant = grant.device_grant().unwrap();
        assert_eq!((grant.interval, grant.expires_in), (Duration::from_secs(5), Duration::from_mins(15)));
        assert_eq!(grant.verification_uri, "https://v");
    }
}
