//! Microsoft Teams, by a workflow of Power Automate ("When a Teams webhook request is received"): an Adaptive Card as an attachment
//! (<https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/connectors-using>). The connectors of Office 365, which are
//! being retired, take the same.

use serde_json::{Value, json};

use super::written;
use crate::alert::notice::{Item, Notice, State};
use crate::alert::trouble::Severity;

pub(super) fn body(notice: &Notice) -> Vec<u8> {
    let (listed, rest) = notice.listed();
    let mut body: Vec<Value> = listed.iter().flat_map(|item| item_blocks(item, notice)).collect();
    if rest > 0 {
        body.push(text(&format!("… and {rest} more: xoauth2-relay status")));
    }
    body.push(json!({ "type": "TextBlock", "text": escaped(&format!("Relay: {}", notice.relay)), "isSubtle": true, "wrap": true }));
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": notice.title(),
        "msteams": { "width": "Full" },
        "body": body,
    });
    let attachment =
        json!({ "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card });
    written(&json!({ "type": "message", "attachments": [attachment] }))
}

fn item_blocks(item: &Item, notice: &Notice) -> Vec<Value> {
    let color = match (item.state, item.severity) {
        (State::Solved, _) => "Good",
        (State::Test, _) => "Accent",
        (_, Severity::Critical) => "Attention",
        (_, Severity::Warning) => "Warning",
    };
    let headline = json!({
        "type": "TextBlock", "text": escaped(&item.headline()), "weight": "Bolder", "size": "Medium", "color": color, "wrap": true
    });
    let mut blocks = vec![headline, text(&format!("{}.", item.text.trim_end_matches('.')))];
    let fact = |(label, value): (&str, String)| json!({ "title": label, "value": escaped(&value) });
    let facts: Vec<Value> = item.details(&notice.zone).into_iter().map(fact).collect();
    if !facts.is_empty() {
        blocks.push(json!({ "type": "FactSet", "facts": facts }));
    }
    blocks
}

fn text(text: &str) -> Value {
    json!({ "type": "TextBlock", "text": escaped(text), "wrap": true })
}

/// Text blocks know a little Markdown: what would be read as such gets a backslash.
fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        if matches!(c, '\\' | '*' | '_' | '[' | ']' | '`') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
