//! `[[reply]]`.

use std::time::Duration;

use crate::config::document::Value;
use crate::config::review::Review;
use crate::config::section::{Section, choice, count, parsed, text, with_unit};
use crate::config::units::{self, quoted};
use crate::config::{ReplyCause, ReplyClass, ReplyPhase, ReplyRule, ReplyScope, ReplyThrottle};

/// What a row may ask a message or an account to wait.
const LONGEST_WAIT: Duration = Duration::from_hours(24);

/// The names that may stand in braces in a command.
pub(super) const NAMES: [&str; 6] = ["mailbox", "login", "client_id", "smtp", "id", "sender"];

/// One row; `None` if something it cannot do without is missing or wrong. All its problems are reported either way.
pub(super) fn reply(reply: &Section<'_>, review: &mut Review) -> Option<ReplyRule> {
    for (key, text) in [
        (
            "scope",
            "write whom the reply is about: \"recipient\", \"message\", \"connection\", \"account\" or \"tenant\"",
        ),
        ("class", "write what is done: \"later\", \"refused\" or \"held\""),
        ("sentence", "write for people what is wrong and what helps"),
    ] {
        if !reply.has(key) {
            reply.missing(key, text, review);
        }
    }
    if !["code", "enhanced", "words"].iter().any(|key| reply.has(key)) {
        reply.missing("words", "write by what the reply is known: code, enhanced or words", review);
    }
    let phases = reply.list("phase", |name| choice(&ReplyPhase::NAMES, &[])(&Value::Text(name.to_owned())), review);
    if reply.is_empty_list("phase") {
        reply.problem("phase", "is empty: remove the line for every phase", review);
    }
    let code = reply.read("code", code, review);
    let enhanced = reply.read("enhanced", parsed(|text| text.trim().parse()), review);
    let words = words(reply, review);
    let scope = reply.read("scope", choice(&ReplyScope::NAMES, &[]), review);
    let class = class(reply, review);
    let throttle = reply.read("throttle", choice(&ReplyThrottle::NAMES, &[]), review);
    let wait = reply.read("wait", with_unit("1h", wait), review);
    if wait.is_some() && class.is_some_and(|class| class != ReplyClass::Later) {
        let text =
            "belongs to class = \"later\": remove it; a hold is tried again by its cause, and what is refused never is";
        reply.problem("wait", text, review);
    }
    let sentence = reply.read("sentence", parsed(one_line), review);
    let command = reply.read("command", parsed(command), review);
    let phases = phases.unwrap_or_default();
    if let (Some(scope), Some(class)) = (scope, class) {
        fit(reply, &phases, scope, class, review);
    }
    let (scope, class, sentence) = (scope?, class?, sentence?);
    Some(ReplyRule { phases, code, enhanced, words, scope, class, throttle, wait, sentence, command })
}

/// A server that accepts has accepted: nothing can make that a no.
fn code(value: &Value) -> Result<u16, String> {
    match count::<u16>(999)(value)? {
        code @ 400..=599 => Ok(code),
        _ => Err("is no refusal: write a code from 400 to 599".to_owned()),
    }
}

/// What waits for longer than a day waits for a person.
fn wait(text: &str) -> Result<Duration, String> {
    match units::duration(text)? {
        wait if wait > LONGEST_WAIT => {
            Err("is too long: at most 24h; write class = \"held\" for what a person ends".to_owned())
        }
        wait => Ok(wait),
    }
}

fn words(reply: &Section<'_>, review: &mut Review) -> Vec<String> {
    if reply.is_empty_list("words") {
        reply.problem("words", "is empty: remove the line, or write words of the reply", review);
    }
    reply.list("words", word, review).unwrap_or_default()
}

/// Host names in brackets do not count, since they differ from reply to reply: a row with nothing else would fit everything.
fn word(words: &str) -> Result<String, String> {
    let inside = words.split_once('[').and_then(|(_, behind)| behind.split_once(']'));
    if inside.is_some_and(|(inside, _)| inside.contains('.')) {
        return Err(format!("{} has a host name in brackets, which does not count: leave it out", quoted(words)));
    }
    Ok(words.trim().to_owned())
}

fn class(reply: &Section<'_>, review: &mut Review) -> Option<ReplyClass> {
    let cause = reply.read("cause", choice(&ReplyCause::NAMES, &[]), review);
    let read = |value: &Value| match text(value)?.trim() {
        "accepted" => {
            Err("cannot be \"accepted\": only the server accepts; use \"later\", \"refused\" or \"held\"".to_owned())
        }
        _ => choice(&[("later", 'l'), ("refused", 'r'), ("held", 'h')], &[])(value),
    };
    let class = reply.read("class", read, review)?;
    if class != 'h' && reply.has("cause") {
        reply.problem("cause", "belongs to class = \"held\": remove it, or write that class", review);
    }
    match class {
        'l' => Some(ReplyClass::Later),
        'r' => Some(ReplyClass::Refused),
        _ => {
            if !reply.has("cause") {
                let text = "with class = \"held\" write why: \"login\", \"quota\", \"blocked\", \"mailbox_full\", \"permission\" or \
                            \"connection\"";
                reply.missing("cause", text, review);
            }
            cause.map(ReplyClass::Held)
        }
    }
}

/// Whether this can be done about these.
fn fit(reply: &Section<'_>, phases: &[ReplyPhase], scope: ReplyScope, class: ReplyClass, review: &mut Review) {
    let of_message = matches!(scope, ReplyScope::Recipient | ReplyScope::Message);
    if matches!(class, ReplyClass::Held(_)) && of_message {
        let text = "cannot be held: write scope = \"account\", \"tenant\" or \"connection\", or class = \"later\"";
        reply.problem("scope", text, review);
    }
    if class == ReplyClass::Refused && !of_message {
        let text = "cannot be refused: only a message or a recipient can; write class = \"held\" to stop the account";
        reply.problem("scope", text, review);
    }
    if of_message && phases.iter().any(|phase| !phase.is_about_a_message()) {
        let text = "has a phase in which nothing is said of a message yet: write \"mail\", \"rcpt\", \"data\" or \"data_end\", or \
                    another scope";
        reply.problem("phase", text, review);
    }
}

/// Shown in one line of the journal.
fn one_line(text: &str) -> Result<String, String> {
    let text = text.trim().trim_end_matches('.');
    if text.chars().any(char::is_control) {
        return Err("has several lines: write one".to_owned());
    }
    if text.chars().count() > 500 {
        return Err("is too long: at most 500 characters".to_owned());
    }
    Ok(text.to_owned())
}

fn command(text: &str) -> Result<String, String> {
    let command = one_line(text)?;
    for part in command.split('{').skip(1) {
        let name = part.split('}').next().unwrap_or_default();
        let looks_like_a_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        if looks_like_a_name && part.contains('}') && !NAMES.contains(&name) {
            return Err(format!(
                "has an unknown name, {}: the names are {{{}}}",
                quoted(&format!("{{{name}}}")),
                NAMES.join("}, {")
            ));
        }
    }
    Ok(command)
}
