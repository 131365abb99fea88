//! A refusal in Microsoft's shape.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::json;

use super::super::cloud::Cloud;
use super::super::texts::{self, OAuthRow};
use super::jwt;

/// A row of `oauth_errors.toml`, and what its description is filled with.
#[derive(Debug)]
pub(in crate::simulator) struct Refused {
    row: &'static OAuthRow,
    values: Vec<(&'static str, String)>,
}

impl Refused {
    /// The refusal of this name.
    pub(super) fn row(id: &'static str) -> Self {
        let row = texts::oauth_error(id)
            .expect("the simulator refuses with rows of its own table: the tests walk through them");
        Self::from(row)
    }

    /// Fills in a value of the description.
    pub(super) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.values.push((name, value.into()));
        self
    }

    #[cfg(test)]
    pub(super) fn id(&self) -> &str {
        &self.row.id
    }

    /// What is said of it to who watches: the error or the status, and the number.
    pub(super) fn summary(&self) -> (String, u32) {
        (self.row.error.clone().unwrap_or_else(|| format!("HTTP {}", self.row.status)), self.row.aadsts)
    }

    /// The description with its number in front, as programs and pages show it.
    pub(super) fn text(&self, cloud: &Cloud) -> String {
        self.words(cloud, &jwt::guid(), &jwt::guid())
    }

    fn words(&self, cloud: &Cloud, trace: &str, correlation: &str) -> String {
        let now = now(cloud);
        let mut values: Vec<(&str, &str)> = self.values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let scope = "https://foo.microsoft.com/mail.read";
        values.extend([
            ("tenant", cloud.options.tenant.as_str()),
            ("client_id", &cloud.options.client_id),
            ("time", &now),
            ("issued", &now),
            ("idle", "90.00:00:00"),
            ("parameter", "scope"),
            ("scope", scope),
            ("grant", "client_credentials"),
        ]);
        let description = texts::fill(&self.row.description, &values);
        let prefix = if self.row.aadsts == 0 { String::new() } else { format!("AADSTS{}: ", self.row.aadsts) };
        format!("{prefix}{description} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {now}")
    }

    /// As it goes over the wire.
    pub(super) fn response(&self, cloud: &Cloud) -> Response {
        let Some(error) = &self.row.error else {
            return html(self.row.status, self.row.retry_after);
        };
        let (trace, correlation) = (jwt::guid(), jwt::guid());
        let mut body = json!({
            "error": error,
            "error_description": self.words(cloud, &trace, &correlation),
            "error_codes": if self.row.aadsts == 0 { json!([]) } else { json!([self.row.aadsts]) },
            "timestamp": now(cloud),
            "trace_id": trace,
            "correlation_id": correlation,
            "error_uri": format!("{}/error?code={}", cloud.http_base(), self.row.aadsts),
        });
        if let Some(suberror) = &self.row.suberror {
            body["suberror"] = json!(suberror);
        }
        respond(self.row.status, "application/json; charset=utf-8", self.row.retry_after, body.to_string())
    }
}

fn now(cloud: &Cloud) -> String {
    cloud.now().strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

impl From<&'static OAuthRow> for Refused {
    fn from(row: &'static OAuthRow) -> Self {
        Self { row, values: Vec::new() }
    }
}

/// A bare status with a page for people, as load balancers and proxies send it.
pub(super) fn html(status: u16, retry_after: Option<u32>) -> Response {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or("Error");
    let page = format!(
        "<!DOCTYPE html>\n<html><head><title>{status} {reason}</title></head>\n<body><h1>{status} {reason}</h1>\
         <p>Our services aren't available right now.</p></body></html>\n"
    );
    respond(status, "text/html; charset=utf-8", retry_after, page)
}

fn respond(status: u16, content_type: &'static str, retry_after: Option<u32>, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
