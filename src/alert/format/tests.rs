//! What arrives, to the letter.

use serde_json::{Value, json};

use super::*;

fn parsed(format: WebhookFormat, notice: &Notice) -> Value {
    serde_json::from_slice(&request(format, notice).body).unwrap()
}

const ERROR: &str =
    "AADSTS50173: The provided grant has expired due to it being <revoked> & a *fresh* auth_token is needed.";

#[test]
fn plain_text_is_for_somebody_who_is_tired() {
    let notice = samples::dead_sign_in();
    assert_eq!(notice.title(), "Mail through lms@contoso.com has stopped");
    assert_eq!(
        notice.text(),
        format!(
            "The password was changed or the sessions were revoked: sign in again, and ask who did it.\n\
             Since: 2026-11-21 22:40 UTC\n\
             Mail: 12 messages wait; none is lost\n\
             Error: {ERROR}\n\
             To do: xoauth2-relay login lms@contoso.com\n\
             \n\
             Relay: relay.contoso.com"
        )
    );
    let notice = samples::solved();
    assert_eq!(notice.title(), "Solved: mail through lms@contoso.com leaves again");
    assert_eq!(
        notice.text(),
        "It lasted 3 hours and 2 minutes.\nSince: 2026-11-21 22:40 UTC\n\nRelay: relay.contoso.com"
    );
}

#[test]
fn several_at_once_are_one_message_and_too_many_are_counted() {
    let solved = samples::solved().items.remove(0);
    let notice = samples::notice(vec![samples::dead_item(), solved]);
    assert_eq!(notice.title(), "1 alert, and 1 solved");
    let text = notice.text();
    assert!(text.starts_with("* Mail through lms@contoso.com has stopped\n"), "{text}");
    assert!(text.contains("\n\n* Solved: mail through lms@contoso.com leaves again\n"), "{text}");
    let notice = samples::notice(vec![samples::dead_item(); 50]);
    assert_eq!(notice.title(), "50 alerts");
    assert!(notice.text().contains("… and 30 more: xoauth2-relay status"));
}

#[test]
fn json_has_the_fields_that_the_document_promises() {
    let notice = samples::dead_sign_in();
    let expected = json!({
        "event": "alert",
        "title": "Mail through lms@contoso.com has stopped",
        "text": notice.text(),
        "severity": "critical",
        "relay": "relay.contoso.com",
        "at": "2026-11-21T22:41:00Z",
        "alerts": [{
            "kind": "held",
            "state": "raised",
            "severity": "critical",
            "account": "lms@contoso.com",
            "subject": null,
            "title": "Mail through lms@contoso.com has stopped",
            "text": "The password was changed or the sessions were revoked: sign in again, and ask who did it",
            "since": "2026-11-21T22:40:00Z",
            "ends": null,
            "waiting": 12,
            "error": ERROR,
            "codes": [50173],
            "todo": "xoauth2-relay login lms@contoso.com",
        }],
    });
    assert_eq!(parsed(WebhookFormat::Json, &notice), expected);
    let document = include_str!("../../../docs/alerts.md");
    let fields = expected.as_object().unwrap().keys().chain(expected["alerts"][0].as_object().unwrap().keys());
    for field in fields {
        assert!(document.contains(&format!("| `{field}` |")), "{field} is not in docs/alerts.md");
    }
}

#[test]
fn slack_gets_a_notification_and_blocks_of_plain_text() {
    let expected = json!({
        "text": "relay.contoso.com: Mail through lms@contoso.com has stopped",
        "blocks": [
            { "type": "header", "text": {
                "type": "plain_text", "text": ":rotating_light: Mail through lms@contoso.com has stopped", "emoji": true
            } },
            { "type": "section", "text": { "type": "plain_text", "emoji": false, "text": format!(
                "The password was changed or the sessions were revoked: sign in again, and ask who did it.\n\
                 Since: 2026-11-21 22:40 UTC\nMail: 12 messages wait; none is lost\nError: {ERROR}\n\
                 To do: xoauth2-relay login lms@contoso.com"
            ) } },
            { "type": "context", "elements": [
                { "type": "plain_text", "text": "Relay: relay.contoso.com", "emoji": false }
            ] },
        ],
    });
    assert_eq!(parsed(WebhookFormat::Slack, &samples::dead_sign_in()), expected);
    let mut notice = samples::dead_sign_in();
    notice.items[0].title = "<!channel> & more".to_owned();
    let text = parsed(WebhookFormat::Slack, &notice)["text"].clone();
    assert_eq!(text, "relay.contoso.com: &lt;!channel&gt; &amp; more", "nobody is called by an error message");
}

#[test]
fn slack_refuses_nothing_for_its_length() {
    let mut notice = samples::dead_sign_in();
    notice.items[0].title = "x".repeat(5000);
    notice.items[0].todo = "y".repeat(5000);
    let body = parsed(WebhookFormat::Slack, &samples::notice(vec![notice.items[0].clone(); 60]));
    let blocks = body["blocks"].as_array().unwrap();
    assert!(blocks.len() <= 50, "the most blocks that Slack takes");
    assert_eq!(blocks[0]["text"]["text"].as_str().unwrap().chars().count(), 150);
    assert_eq!(blocks[1]["text"]["text"].as_str().unwrap().chars().count(), 3000);
}

#[test]
fn teams_gets_an_adaptive_card_without_mark_up_of_ours() {
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "fallbackText": "Mail through lms@contoso.com has stopped",
        "msteams": { "width": "Full" },
        "body": [
            { "type": "TextBlock", "text": "Mail through lms@contoso.com has stopped", "weight": "Bolder", "size": "Medium",
              "color": "Attention", "wrap": true },
            { "type": "TextBlock", "wrap": true,
              "text": "The password was changed or the sessions were revoked: sign in again, and ask who did it." },
            { "type": "FactSet", "facts": [
                { "title": "Since", "value": "2026-11-21 22:40 UTC" },
                { "title": "Mail", "value": "12 messages wait; none is lost" },
                { "title": "Error", "value": ERROR.replace('*', "\\*").replace('_', "\\_") },
                { "title": "To do", "value": "xoauth2-relay login lms@contoso.com" },
            ] },
            { "type": "TextBlock", "text": "Relay: relay.contoso.com", "isSubtle": true, "wrap": true },
        ],
    });
    let expected = json!({ "type": "message", "attachments": [
        { "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card }
    ] });
    assert_eq!(parsed(WebhookFormat::Teams, &samples::dead_sign_in()), expected);
    let solved = parsed(WebhookFormat::Teams, &samples::solved());
    assert_eq!(solved["attachments"][0]["content"]["body"][0]["color"], "Good");
}

#[test]
fn ntfy_gets_text_with_title_priority_and_tag() {
    let headers = |notice: &Notice| {
        let post = request(WebhookFormat::Ntfy, notice);
        assert_eq!(post.body, notice.text().into_bytes());
        post.headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>()
    };
    assert_eq!(
        headers(&samples::dead_sign_in()),
        ["title: Mail through lms@contoso.com has stopped", "priority: 5", "tags: rotating_light"]
    );
    assert_eq!(headers(&samples::secret_ends())[1..], ["priority: 4", "tags: warning"]);
    assert_eq!(headers(&samples::solved())[1..], ["priority: 3", "tags: white_check_mark"]);
    let mut notice = samples::dead_sign_in();
    notice.items[0].title = "Büro\r\nX-Injected: 1".to_owned();
    assert_eq!(headers(&notice)[0], "title: =?UTF-8?B?QsO8cm8NClgtSW5qZWN0ZWQ6IDE=?=");
}

#[test]
fn a_test_says_that_nothing_is_wrong() {
    let notice = samples::notice(vec![Item::test("2026-11-21T22:41:00Z".parse().unwrap())]);
    assert_eq!(parsed(WebhookFormat::Json, &notice)["event"], "test");
    assert_eq!(notice.text(), "Nothing is wrong.\n\nRelay: relay.contoso.com");
}
