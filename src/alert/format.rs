//! A notice in the words of each kind of webhook. Pure.

mod slack;
mod teams;

#[cfg(test)]
pub(super) mod samples;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde::Serialize;

use super::http::Post;
use super::notice::{Item, Notice, State};
use super::trouble::Severity;
use crate::config::WebhookFormat;

const JSON: &str = "application/json";

/// What is posted to a webhook of this format.
pub(super) fn request(format: WebhookFormat, notice: &Notice) -> Post {
    let body = match format {
        WebhookFormat::Json => json(notice),
        WebhookFormat::Slack => slack::body(notice),
        WebhookFormat::Teams => teams::body(notice),
        WebhookFormat::Ntfy => return ntfy(notice),
    };
    Post { body, content_type: JSON, headers: Vec::new() }
}

/// Our own form; `docs/alerts.md` promises its fields.
#[derive(Serialize)]
struct Json<'a> {
    event: &'static str,
    title: String,
    text: String,
    severity: &'static str,
    relay: &'a str,
    at: Timestamp,
    alerts: Vec<JsonItem<'a>>,
}

#[derive(Serialize)]
struct JsonItem<'a> {
    kind: &'a str,
    state: &'static str,
    severity: &'static str,
    account: Option<&'a str>,
    subject: Option<&'a str>,
    title: &'a str,
    text: &'a str,
    since: Timestamp,
    ends: Option<Timestamp>,
    waiting: Option<u64>,
    error: Option<String>,
    codes: &'a [u32],
    todo: &'a str,
}

/// All of it as JSON.
pub(super) fn json(notice: &Notice) -> Vec<u8> {
    let is_test = notice.items.iter().all(|item| item.state == State::Test);
    written(&Json {
        event: if is_test { "test" } else { "alert" },
        title: notice.title(),
        text: notice.text(),
        severity: notice.severity().as_str(),
        relay: &notice.relay,
        at: notice.at,
        alerts: notice.items.iter().map(json_item).collect(),
    })
}

fn json_item(item: &Item) -> JsonItem<'_> {
    let cause = item.cause.as_ref();
    JsonItem {
        kind: cause.map_or("test", |cause| cause.kind.as_str()),
        state: item.state.as_str(),
        severity: item.severity.as_str(),
        account: cause.and_then(|cause| cause.account.as_ref()).map(crate::message::Address::as_str),
        subject: cause.and_then(|cause| cause.subject.as_deref()),
        title: &item.title,
        text: &item.text,
        since: item.since,
        ends: item.ends,
        waiting: item.waiting,
        error: item.short_error(),
        codes: &item.codes,
        todo: &item.todo,
    }
}

/// ntfy takes the text as it is, and the rest from headers (<https://docs.ntfy.sh/publish/>). Text that is not ASCII is put into an encoded
/// word, which ntfy reads.
fn ntfy(notice: &Notice) -> Post {
    let (priority, tag) = match notice.severity() {
        _ if notice.is_solved() => ("3", "white_check_mark"),
        Severity::Critical => ("5", "rotating_light"),
        Severity::Warning => ("4", "warning"),
    };
    let title = notice.title();
    let headers = vec![("title", header_text(&title)), ("priority", priority.to_owned()), ("tags", tag.to_owned())];
    Post { body: notice.text().into_bytes(), content_type: "text/plain; charset=utf-8", headers }
}

/// RFC 2047 for what a header cannot hold.
fn header_text(text: &str) -> String {
    use base64::Engine as _;
    if text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return text.to_owned();
    }
    format!("=?UTF-8?B?{}?=", base64::engine::general_purpose::STANDARD.encode(text))
}

fn written(value: &impl Serialize) -> Vec<u8> {
    // Texts, numbers and times only: nothing in it cannot be written as JSON.
    serde_json::to_vec(value).unwrap_or_default()
}
