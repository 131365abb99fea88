//! `[alert]`.

use super::*;

fn warnings(text: &str) -> Vec<String> {
    let config = with_account(text).unwrap_or_else(|problems| panic!("{problems}"));
    config.warnings.iter().map(|warning| warning.to_string().replace("/etc/relay/relay.toml:", "")).collect()
}

#[test]
fn receivers_are_read_in_both_forms_of_a_list() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("url");
    std::fs::write(&file, "https://hooks.slack.com/services/x").unwrap();
    let inline = format!(
        "[alert]\nwebhook = [{{ url = {{ file = {file:?} }}, format = \"slack\" }}, {{ url = \"https://example.com/x\" }}]\n\
         command = [\"/bin/page\", \"\"]\nmail_to = [\"it@example.com\"]\nheartbeat_url = \"http://127.0.0.1:1/x\"\n"
    );
    let headings = format!(
        "[alert]\ncommand = [\"/bin/page\", \"\"]\nmail_to = [\"it@example.com\"]\nheartbeat_url = \"http://127.0.0.1:1/x\"\n\
         [[alert.webhook]]\nurl = {{ file = {file:?} }}\nformat = \"slack\"\n[[alert.webhook]]\nurl = \"https://example.com/x\"\n"
    );
    let alert = with_account(&inline).unwrap().alert;
    assert_eq!(alert, with_account(&headings).unwrap().alert);
    assert_eq!(alert.webhooks[0], Webhook { url: SecretSource::File(file), format: WebhookFormat::Slack });
    assert_eq!(alert.webhooks[1].format, WebhookFormat::Json);
    assert_eq!(alert.command, ["/bin/page", ""]);
    assert_eq!(with_account("").unwrap().alert, Alert::default());
}

#[test]
fn what_is_wrong_is_told_without_the_secret_in_an_address() {
    let text = "[alert]\nwebhook = [\n \"https://hooks.slack.com/hunter2\",\n { url = \"http://example.com/hunter2\" },\n \
        { url = \"https://example.com/hunter2\", format = \"slak\" },\n { format = \"json\" },\n \
        { url = \"https://ntfy.sh/\", format = \"ntfy\", token = \"hunter2\" }]\ncommand = \"page me\"\nmail_to = [\"nobody\"]\n\
        heartbeat_url = 5\n";
    let listing = listing(with_account(text));
    let expected = [
        "3: alert.webhook[0]: is a text: write a list",
        "4: alert.webhook[1].url: would send alerts, and the secret in the address, in the clear to \"example.com\"",
        "5: alert.webhook[2].format: \"slak\" is unknown; did you mean \"slack\"?",
        "6: alert.webhook[3].url: is missing",
        "7: alert.webhook[4].token: is unknown; webhook = [{ … }] knows url, format",
        "7: alert.webhook[4].url: names no topic",
        "8: alert.command: is a text, but no shell reads it",
        "9: alert.mail_to[0]: ",
        "10: alert.heartbeat_url: is a number",
    ];
    assert_eq!(listing.len(), expected.len(), "{listing:#?}");
    for (line, start) in listing.iter().zip(expected) {
        assert!(line.starts_with(start) && !line.contains("hunter2"), "{line}, not {start}");
    }
}

#[test]
fn what_will_not_work_as_meant_is_warned_of() {
    for (text, warning) in [
        (
            "webhook = [{ url = \"https://hooks.slack.com/services/x\" }]",
            "2: alert.webhook[0].url: \"hooks.slack.com\" expects format = \"slack\"",
        ),
        (
            "webhook = [{ url = \"https://x.logic.azure.com/x\", format = \"slack\" }]",
            "2: alert.webhook[0].format: \"x.logic.azure.com\" expects format = \"teams\"",
        ),
        (
            "webhook = [{ url = \"http://ntfy.lan/x\", format = \"ntfy\" }]",
            "2: alert.webhook[0].url: goes in the clear to \"ntfy.lan\"",
        ),
        ("mail_to = [\"it@contoso.com\"]", "2: alert.mail_to: is the only way of being told"),
        (
            "mail_to = [\"lms@contoso.com\"]\ncommand = [\"/bin/page\"]",
            "2: alert.mail_to: lms@contoso.com is a mailbox that programs send",
        ),
    ] {
        let warnings = warnings(&format!("[alert]\n{text}\n"));
        assert_eq!(warnings.len(), 1, "{warnings:#?}");
        assert!(warnings[0].starts_with(warning), "{}, not {warning}", warnings[0]);
    }
}

#[test]
fn a_variable_can_set_the_heartbeat() {
    let environment = Environment::from([("XOAUTH2_RELAY__ALERT__HEARTBEAT_URL", "https://hc.example/x")]);
    let config = Config::from_text(ACCOUNT, "relay.toml", &environment).unwrap();
    assert_eq!(config.alert.heartbeat, Some(SecretSource::Literal(Secret::new("https://hc.example/x"))));
}
