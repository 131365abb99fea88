//! `[alert]`. The address of a webhook is a secret: no message repeats more of it than its host.

use super::{address, secret};
use crate::config::alert::HookUrl;
use crate::config::document::{Node, Value};
use crate::config::keys::WEBHOOK;
use crate::config::review::Review;
use crate::config::section::{Section, choice};
use crate::config::units::quoted;
use crate::config::{Account, Alert, SecretSource, Webhook, WebhookFormat};
use crate::message::Address;

const FORMATS: [(&str, WebhookFormat); 4] = [
    ("json", WebhookFormat::Json),
    ("slack", WebhookFormat::Slack),
    ("teams", WebhookFormat::Teams),
    ("ntfy", WebhookFormat::Ntfy),
];

pub(super) fn alert(alert: &Section<'_>, review: &mut Review) -> Alert {
    Alert {
        webhooks: webhooks(alert, review),
        command: alert.read("command", secret::words, review).unwrap_or_default(),
        mail_to: alert.list("mail_to", address, review).unwrap_or_default(),
        heartbeat: url("heartbeat_url", alert, review),
    }
}

/// A copy of the alert that comes back as mail to the relay's own mailbox is read by nobody.
pub(super) fn is_read_by_somebody(
    alert: &Alert,
    accounts: &[std::sync::Arc<Account>],
    section: &Section<'_>,
    review: &mut Review,
) {
    let is_own = |to: &Address| accounts.iter().any(|account| account.mailbox == *to);
    if let Some(own) = alert.mail_to.iter().find(|to| is_own(to)) {
        let text = format!("{own} is a mailbox that programs send through: name people who read their mail");
        section.warning("mail_to", text, review);
    }
    if !alert.mail_to.is_empty() && alert.webhooks.is_empty() && alert.command.is_empty() {
        let text = "is the only way of being told: when mail itself has stopped, nobody hears of it; add a webhook, a command or a \
                    heartbeat_url";
        if alert.heartbeat.is_none() {
            section.warning("mail_to", text, review);
        }
    }
}

fn webhooks(alert: &Section<'_>, review: &mut Review) -> Vec<Webhook> {
    const HOW: &str = "write a list, as in webhook = [{ url = \"https://…\", format = \"slack\" }]";
    let Some(node) = alert.node("webhook") else { return Vec::new() };
    let Value::List(items) = &node.value else {
        alert.problem("webhook", format!("is {}: {HOW}", node.value.form()), review);
        return Vec::new();
    };
    let mut webhooks = Vec::new();
    for (n, Node { place, value }) in items.iter().enumerate() {
        let path = alert.key_path(&format!("webhook[{n}]"));
        match value {
            Value::Table(table) => {
                let section = Section::open(path, place.clone(), table, &WEBHOOK, review);
                webhooks.extend(webhook(&section, review));
            }
            // It may well be the address.
            other => review.problem(place, path, format!("is {}: {HOW}", other.form())),
        }
    }
    webhooks
}

fn webhook(webhook: &Section<'_>, review: &mut Review) -> Option<Webhook> {
    if !webhook.has("url") {
        webhook.missing("url", "alerts have to be posted somewhere, for example \"https://hooks.slack.com/…\"", review);
    }
    let format = webhook.read("format", choice(&FORMATS, &[]), review);
    let url = url("url", webhook, review)?;
    if webhook.has("format") && format.is_none() {
        return None;
    }
    let format = format.unwrap_or(WebhookFormat::Json);
    if let SecretSource::Literal(literal) = &url
        && let Ok(url) = HookUrl::parse(literal.expose())
    {
        if let Some(usual) = usual_format(&url.host()).filter(|usual| *usual != format) {
            let key = if webhook.has("format") { "format" } else { "url" };
            let text = format!("{} expects format = {:?}", quoted(&url.host()), usual.as_str());
            webhook.warning(key, text, review);
        }
        if format == WebhookFormat::Ntfy && url.expose().path().trim_matches('/').is_empty() {
            webhook.problem("url", "names no topic: write \"https://ntfy.example.com/topic\"", review);
        }
    }
    Some(Webhook { url, format })
}

/// What the well-known hosts understand: a wrong format is answered with an error that says nothing.
fn usual_format(host: &str) -> Option<WebhookFormat> {
    let host = host.to_ascii_lowercase();
    match host.as_str() {
        "hooks.slack.com" => Some(WebhookFormat::Slack),
        "ntfy.sh" => Some(WebhookFormat::Ntfy),
        _ if [".logic.azure.com", ".api.powerplatform.com", ".webhook.office.com"]
            .iter()
            .any(|end| host.ends_with(end)) =>
        {
            Some(WebhookFormat::Teams)
        }
        _ => None,
    }
}

/// An address as a secret. Only one that is written here can be looked at; the others are when they are used.
fn url(key: &str, section: &Section<'_>, review: &mut Review) -> Option<SecretSource> {
    let source = secret::source(key, section, review)?;
    if let SecretSource::Literal(literal) = &source {
        match HookUrl::parse(literal.expose()) {
            Ok(url) if url.is_in_the_clear() => {
                let text = format!(
                    "goes in the clear to {}: whoever can read along in that network can post there too",
                    quoted(&url.host())
                );
                section.warning(key, text, review);
            }
            Ok(_) => {}
            Err(text) => {
                section.problem(key, text, review);
                return None;
            }
        }
    }
    Some(source)
}
