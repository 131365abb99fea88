//! The files in `config/` and the page in `docs/` say what the program does.

use super::*;
use crate::config::keys::{Form, Meaning, SCOPES};

const MINIMAL: &str = include_str!("../../../config/minimal.toml");
const RELAY: &str = include_str!("../../../config/relay.toml");
const DOCUMENT: &str = include_str!("../../../docs/configuration.md");

/// `relay.toml` with the `#` removed in front of the keys of these lines.
fn shown(which: fn(&str) -> bool) -> String {
    let is_key =
        |line: &str| line.starts_with('#') && line[1..].starts_with(|c: char| c.is_ascii_lowercase() || c == '[');
    let lines = RELAY.lines().map(|line| if is_key(line) && which(line) { &line[1..] } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

fn no_default(line: &str) -> bool {
    line.ends_with("# no default")
}

#[test]
fn the_smallest_file_and_the_full_one_say_the_same() {
    let minimal = load(MINIMAL).unwrap();
    let relay = load(RELAY).unwrap();
    assert_eq!(minimal.warnings.len(), 1, "the placeholder: {:?}", minimal.warnings);
    assert_eq!(Config { warnings: Vec::new(), ..minimal }, Config { warnings: Vec::new(), ..relay });
}

#[test]
fn what_is_shown_as_the_default_is_the_default() {
    let defaults = load(&shown(|line| !no_default(line))).unwrap();
    let relay = load(RELAY).unwrap();
    assert_eq!(*defaults.listeners, relay.listeners[..1], "the listener shown is the first of the default ones");
    let but = |config: Config| Config { warnings: Vec::new(), listeners: Vec::new(), ..config };
    assert_eq!(but(defaults), but(relay));
}

#[test]
fn the_examples_are_good_ones() {
    const FILES: [&str; 3] = ["#ca_file", "#certificate =", "#key = \"/etc/xoauth2-relay/tls"];
    // Another way to prove what client_secret proves or to say what account says, what only another provider or class of reply has, and what
    // needs a second account.
    const OTHERS: [&str; 5] =
        ["#federated_token", "#accounts", "#password = { file = \"/etc/xoauth2-relay/smarthost", "#fallback", "#wait"];
    let all = shown(|line| !FILES.iter().chain(&OTHERS).any(|left| line.starts_with(left)));
    let config = load(&all).unwrap();
    assert_eq!(config.hostname, "relay.contoso.com");
    assert!(config.key.is_some() && config.accounts[0].client_secret.is_some());
}

#[test]
fn every_key_with_a_meaning_is_shown_and_documented_below_its_heading() {
    let all = shown(|_| true);
    for scope in SCOPES {
        let sections = |text: &str, heading: &str| -> String {
            let mut here = heading.is_empty();
            let mut section = String::new();
            for line in text.lines() {
                if line.starts_with('[') {
                    here = line.trim_end_matches("   # no default") == heading;
                }
                if here {
                    section.extend([line, "\n"]);
                }
            }
            section
        };
        let toml = sections(&all, scope.heading);
        let title =
            if scope.heading.is_empty() { "## Top of the file".to_owned() } else { format!("## `{}`", scope.heading) };
        let (_, document) = DOCUMENT.split_once(&title).unwrap();
        let document = document.split("\n## ").next().unwrap();
        for key in scope.keys.iter().filter(|key| key.form != Form::Tables && key.form != Form::Table) {
            let now = key.meaning == Meaning::Now;
            let shown = toml.lines().any(|line| line.split_once('=').is_some_and(|(name, _)| name.trim() == key.name));
            assert_eq!(shown, now, "{}{} in relay.toml", scope.heading, key.name);
            assert_eq!(
                document.contains(&format!("\n| `{}` |", key.name)),
                now,
                "{}{} in the document",
                scope.heading,
                key.name
            );
        }
    }
}

#[test]
fn every_key_says_when_to_change_it() {
    let lines: Vec<&str> = RELAY.lines().collect();
    for (n, line) in lines.iter().enumerate() {
        if line.contains(" = ") && !line.starts_with("# ") {
            assert!(lines[n - 1].starts_with("# "), "line {}: {line}", n + 1);
        }
    }
}
