//! A secret: `"literal"`, `{ file = "…" }`, `{ env = "…" }`, `{ credential = "…" }` or `{ command = ["…"] }`.
//!
//! Nothing here repeats a value in a message: it may be the secret itself, put into the wrong place.

use std::path::Path;

use crate::config::document::{Node, Table, Value};
use crate::config::keys;
use crate::config::review::Review;
use crate::config::section::{Section, text};
use crate::config::{Secret, SecretSource};

const SOURCES: [&str; 4] = ["file", "env", "credential", "command"];
const HOW: &str = "write it in quotes, or say where it is: { file = \"…\" }, { env = \"…\" }, { credential = \"…\" } or \
    { command = [\"…\"] }";

/// Where the secret of this key is; `None` if the key is not there or is wrong.
pub(super) fn source(key: &str, section: &Section<'_>, review: &mut Review) -> Option<SecretSource> {
    let source = match section.read(key, of, review)? {
        SecretSource::File(path) => SecretSource::File(review.resolve(&path)),
        other => other,
    };
    if let Some(text) = source.cannot_be_there() {
        section.warning(key, text, review);
    }
    Some(source)
}

fn of(value: &Value) -> Result<SecretSource, String> {
    match value {
        Value::Text(secret) if secret.trim().is_empty() => Err(format!("is empty: {HOW}")),
        Value::Text(path) if Path::new(path).is_absolute() && Path::new(path).is_file() => {
            Err("is the path of a file, not a secret: write { file = \"…\" } around it".to_owned())
        }
        Value::Text(secret) => Ok(SecretSource::Literal(Secret::new(secret.trim()))),
        Value::Table(table) => of_table(table),
        other => Err(format!("is {}: {HOW}", other.form())),
    }
}

fn of_table(table: &Table) -> Result<SecretSource, String> {
    if let Some(name) = table.keys().find(|name| !SOURCES.contains(&name.as_str())) {
        return Err(match keys::nearest(name, SOURCES.into_iter()) {
            Some(near) => format!("has a word in it that is unknown; did you mean {near}?"),
            None => format!("has a word in it that is unknown: {HOW}"),
        });
    }
    let mut sources = table.iter();
    let (Some((kind, Node { value, .. })), None) = (sources.next(), sources.next()) else {
        return Err(if table.is_empty() {
            format!("says nothing about where the secret is: {HOW}")
        } else {
            "names several places: keep one of them".to_owned()
        });
    };
    let within = |why: String| format!("{kind} {why}");
    match kind.as_str() {
        "file" => text(value).map(|path| SecretSource::File(path.into())).map_err(within),
        "env" => text(value).and_then(variable).map_err(within),
        "credential" => text(value).and_then(credential).map_err(within),
        _ => words(value).map(SecretSource::Command).map_err(within),
    }
}

fn variable(name: &str) -> Result<SecretSource, String> {
    if name.contains(['=', '\0', '$', ' ']) {
        return Err("must be the name of a variable, without $".to_owned());
    }
    Ok(SecretSource::Env(name.to_owned()))
}

fn credential(name: &str) -> Result<SecretSource, String> {
    if name.contains(['/', '\0']) || name == "." || name == ".." {
        return Err("must be a name as in systemd's LoadCredential=, not a path".to_owned());
    }
    Ok(SecretSource::Credential(name.to_owned()))
}

/// A program with its arguments, which no shell reads.
pub(super) fn words(value: &Value) -> Result<Vec<String>, String> {
    let words = match value {
        Value::List(words) => words,
        Value::Text(_) => {
            return Err("is a text, but no shell reads it: write the program and each argument, as in [\"pass\", \"show\", \"relay\"]".to_owned());
        }
        other => return Err(format!("is {}: write a list, as in [\"pass\", \"show\", \"relay\"]", other.form())),
    };
    let mut command = Vec::new();
    for word in words {
        match &word.value {
            // Arguments may be empty; the program, which comes first, may not.
            Value::Text(word) if !command.is_empty() || !word.trim().is_empty() => command.push(word.clone()),
            Value::Text(_) => return Err("names no program: its first word is empty".to_owned()),
            other => return Err(format!("has a word that is {}: put every word in quotes", other.form())),
        }
    }
    if command.is_empty() { Err("names no program: it is empty".to_owned()) } else { Ok(command) }
}
