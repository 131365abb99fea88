//! `replies.toml`, read once.

use std::sync::{Arc, LazyLock};

use serde::Deserialize;

use super::{Row, folded};
use crate::config::{ReplyCause, ReplyClass, ReplyPhase, ReplyRule, ReplyScope, ReplyThrottle, duration};

/// One row as it is written. What each field says is told at the top of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: String,
    #[serde(default)]
    phase: Vec<ReplyPhase>,
    code: Option<u16>,
    enhanced: Option<String>,
    #[serde(default)]
    words: Vec<String>,
    #[serde(default)]
    unnumbered: Vec<String>,
    scope: ReplyScope,
    class: WrittenClass,
    cause: Option<ReplyCause>,
    throttle: Option<ReplyThrottle>,
    wait: Option<String>,
    #[serde(default)]
    once: bool,
    sentence: String,
    command: Option<String>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WrittenClass {
    Later,
    Refused,
    Held,
}

#[derive(Deserialize)]
struct File {
    reply: Vec<Written>,
}

const SHIPPED: &str = "shipped with the program and read by a test";

static ROWS: LazyLock<Vec<Arc<Row>>> = LazyLock::new(|| {
    let file: File = toml::from_str(include_str!("../replies.toml")).expect(SHIPPED);
    file.reply.into_iter().map(|written| Arc::new(row(written))).collect()
});

/// Every row, in the order of the file.
pub(super) fn rows() -> &'static [Arc<Row>] {
    &ROWS
}

/// The words of a row as they are written.
#[cfg(test)]
pub(super) fn words_of(id: &str) -> Vec<String> {
    let file: File = toml::from_str(include_str!("../replies.toml")).expect(SHIPPED);
    let row = file.reply.into_iter().find(|row| row.id == id).expect(SHIPPED);
    row.words.into_iter().chain(row.unnumbered).collect()
}

fn row(written: Written) -> Row {
    let rule = ReplyRule {
        phases: written.phase,
        code: written.code,
        enhanced: written.enhanced.map(|code| code.parse().expect(SHIPPED)),
        words: written.words,
        scope: written.scope,
        class: match written.class {
            WrittenClass::Later => ReplyClass::Later,
            WrittenClass::Refused => ReplyClass::Refused,
            WrittenClass::Held => ReplyClass::Held(written.cause.expect(SHIPPED)),
        },
        throttle: written.throttle,
        wait: written.wait.map(|wait| duration(&wait).expect(SHIPPED)),
        sentence: written.sentence,
        command: written.command,
    };
    let once = written.once;
    let unnumbered = written.unnumbered.iter().map(|words| folded(words)).collect();
    Row { id: Some(written.id), unnumbered, once, ..Row::from(&rule) }
}
