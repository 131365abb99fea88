//! Slack's incoming webhooks (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>): `text` for the notification, blocks
//! for the message itself.
//!
//! The blocks are plain text: Slack has no way to write a `_` or a `*` of an error or a command so that it is not read as mark-up.

use std::fmt::Write;

use serde_json::{Value, json};

use super::written;
use crate::alert::notice::{Item, Notice, State};
use crate::alert::trouble::Severity;

/// The longest header block, in characters (<https://docs.slack.dev/reference/block-kit/blocks/header-block>).
const LONGEST_HEADER: usize = 150;
/// The longest text of a section (<https://docs.slack.dev/reference/block-kit/blocks/section-block>).
const LONGEST_SECTION: usize = 3000;

pub(super) fn body(notice: &Notice) -> Vec<u8> {
    let (listed, rest) = notice.listed();
    let mut blocks: Vec<Value> = listed.iter().flat_map(|item| [header(item), details(item, notice)]).collect();
    if rest > 0 {
        blocks.push(json!({ "type": "section", "text": plain(&format!("… and {rest} more: xoauth2-relay status"), LONGEST_SECTION) }));
    }
    let relay = plain(&format!("Relay: {}", notice.relay), LONGEST_SECTION);
    blocks.push(json!({ "type": "context", "elements": [relay] }));
    written(&json!({ "text": escaped(&format!("{}: {}", notice.relay, notice.title())), "blocks": blocks }))
}

fn header(item: &Item) -> Value {
    let sign = match (item.state, item.severity) {
        (State::Solved, _) => ":white_check_mark:",
        (State::Test, _) => ":wave:",
        (_, Severity::Critical) => ":rotating_light:",
        (_, Severity::Warning) => ":warning:",
    };
    let mut text = plain(&format!("{sign} {}", item.headline()), LONGEST_HEADER);
    text["emoji"] = Value::Bool(true);
    json!({ "type": "header", "text": text })
}

fn details(item: &Item, notice: &Notice) -> Value {
    let mut text = format!("{}.", item.text.trim_end_matches('.'));
    for (label, value) in item.details(&notice.zone) {
        let _ = write!(text, "\n{label}: {value}");
    }
    json!({ "type": "section", "text": plain(&text, LONGEST_SECTION) })
}

fn plain(text: &str, longest: usize) -> Value {
    let text: String = text.chars().take(longest).collect();
    json!({ "type": "plain_text", "text": text, "emoji": false })
}

/// `text` is read as mark-up: these three could make a link or a mention (<https://docs.slack.dev/messaging/formatting-message-text#escaping>).
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
