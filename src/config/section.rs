//! One heading of the file with its keys: typed reading that reports what does not fit and goes on.

use std::fmt;

use super::document::{Node, Table, Value};
use super::keys::{self, Meaning, Scope};
use super::problem::Place;
use super::review::Review;
use super::units::quoted;

const LATER: &str = "is not yet supported in this version: remove it";

/// The keys below one heading, all known and all with a meaning; the others were reported when it was opened.
pub(super) struct Section<'a> {
    path: String,
    /// The heading's place.
    pub place: Place,
    table: &'a Table,
    scope: &'static Scope,
}

impl<'a> Section<'a> {
    /// Looks at every key once: unknown ones, and those without a meaning yet, are problems.
    pub fn open(path: String, place: Place, table: &'a Table, scope: &'static Scope, review: &mut Review) -> Self {
        let section = Self { path, place, table, scope };
        for (name, node) in table {
            match scope.key(name).map(|key| key.meaning) {
                None => review.problem(&node.place, section.key_path(&shown(name)), keys::unknown(name, scope)),
                Some(Meaning::Now) => {}
                Some(Meaning::Later) => review.problem(&node.place, section.key_path(name), LATER),
                Some(Meaning::Empty) => {
                    if let Err(text) = empty(&node.value) {
                        review.problem(&node.place, section.key_path(name), text);
                    }
                }
            }
        }
        section
    }

    /// The path of one of its keys: `account[0].client_id`.
    pub fn key_path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The value as it was written.
    pub fn node(&self, key: &str) -> Option<&'a Node> {
        debug_assert!(self.scope.key(key).is_some_and(|key| key.meaning == Meaning::Now), "{key} is not in the tables");
        self.table.get(key)
    }

    /// Whether the key is there, right or wrong.
    pub fn has(&self, key: &str) -> bool {
        self.node(key).is_some()
    }

    /// Where the key stands, or the heading if it is not there.
    pub fn place_of(&self, key: &str) -> &Place {
        self.node(key).map_or(&self.place, |node| &node.place)
    }

    /// Whether the key is there as `[]`. (A list of nothing but wrong items is read as an empty one.)
    pub fn is_empty_list(&self, key: &str) -> bool {
        self.node(key).is_some_and(|node| matches!(&node.value, Value::List(items) if items.is_empty()))
    }

    /// Reports something about one of its keys.
    pub fn problem(&self, key: &str, text: impl Into<String>, review: &mut Review) {
        review.problem(self.place_of(key), self.key_path(key), text);
    }

    /// As `problem`, for what can be lived with.
    pub fn warning(&self, key: &str, text: impl Into<String>, review: &mut Review) {
        review.warning(self.place_of(key), self.key_path(key), text);
    }

    /// Reports that a key should be there. Not if it seems to be there, misspelt: that was said already.
    pub fn missing(&self, key: &str, text: &str, review: &mut Review) {
        let unknown = self.table.keys().filter(|name| self.scope.key(name).is_none());
        let names = || self.scope.keys.iter().map(|key| key.name);
        if unknown.into_iter().any(|name| keys::nearest(name, names()) == Some(key)) {
            return;
        }
        review.missing(&self.place, self.key_path(key), format!("is missing: {text}"));
    }

    /// The value of a key, if it is there and `read` takes it. `read` says what is wrong, to stand behind the key.
    pub fn read<T>(&self, key: &str, read: impl FnOnce(&Value) -> Result<T, String>, review: &mut Review) -> Option<T> {
        let node = self.node(key)?;
        read(&node.value).map_err(|text| review.problem(&node.place, self.key_path(key), text)).ok()
    }

    /// The items of a list; those that `read` refuses are reported, each in its own line, and left out.
    pub fn list<T>(&self, key: &str, read: impl Fn(&str) -> Result<T, String>, review: &mut Review) -> Option<Vec<T>> {
        let node = self.node(key)?;
        let Value::List(items) = &node.value else {
            let text = match &node.value {
                Value::Text(_) => format!("is a text: write a list, as in {key} = [\"…\"]"),
                other => format!("is {}: write a list, as in {key} = [\"…\"]", other.form()),
            };
            self.problem(key, text, review);
            return None;
        };
        let mut list = Vec::new();
        for (n, item) in items.iter().enumerate() {
            match text(&item.value).and_then(&read) {
                Ok(item) => list.push(item),
                Err(text) => review.problem(&item.place, self.key_path(&format!("{key}[{n}]")), text),
            }
        }
        Some(list)
    }
}

/// `listener[0] (line 12)`: for messages about another section.
impl fmt::Display for Section<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Place::Line(line) => write!(f, "{} (line {line})", self.path),
            _ => f.write_str(&self.path),
        }
    }
}

/// A text, however long, but not an empty one.
pub(super) fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::Text(text) if text.trim().is_empty() => Err("is empty: remove it or complete it".to_owned()),
        Value::Text(text) => Ok(text),
        other => Err(format!("is {}: write a text, in quotes", other.form())),
    }
}

/// A text that `parse` understands.
pub(super) fn parsed<T>(parse: impl FnOnce(&str) -> Result<T, String>) -> impl FnOnce(&Value) -> Result<T, String> {
    |value| text(value).and_then(parse)
}

/// A number with a unit: a bare number gets told so.
pub(super) fn with_unit<T>(
    example: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> impl FnOnce(&Value) -> Result<T, String> {
    move |value| match value {
        Value::Number(_) | Value::Float => {
            Err(format!("is a number without a unit: write it like {example:?}, in quotes"))
        }
        other => text(other).and_then(parse),
    }
}

/// A whole number of at least 1.
pub(super) fn count<T: TryFrom<i128>>(most: i128) -> impl FnOnce(&Value) -> Result<T, String> {
    move |value| match value {
        Value::Number(Some(0)) => Err("is 0: it must be at least 1".to_owned()),
        Value::Number(Some(number)) if (1..=most).contains(number) => {
            T::try_from(*number).map_err(|_| format!("is too large: the most is {most}"))
        }
        Value::Number(Some(number)) if *number < 0 => Err("is negative: it must be at least 1".to_owned()),
        Value::Number(_) => Err(format!("is too large: the most is {most}")),
        Value::Text(_) => Err("is a text: write the number without quotes".to_owned()),
        other => Err(format!("is {}: write a whole number", other.form())),
    }
}

/// `true` or `false`.
pub(super) fn switch(value: &Value) -> Result<bool, String> {
    match value {
        Value::Switch(switch) => Ok(*switch),
        other => Err(format!("is {}: write true or false, without quotes", other.form())),
    }
}

/// One of several words. Those in `later` belong to the design but not to this version.
pub(super) fn choice<T: Copy>(choices: &[(&str, T)], later: &[&str]) -> impl FnOnce(&Value) -> Result<T, String> {
    let choices = choices.to_vec();
    let later = later.to_vec();
    move |value| {
        let word = text(value)?;
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == word) {
            return Ok(*choice);
        }
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
        let names = names.join(", ");
        if later.contains(&word) {
            return Err(format!("{word:?} is not yet supported in this version: use {names}"));
        }
        Err(match keys::nearest(word, choices.iter().map(|(name, _)| *name)) {
            Some(near) => format!("{} is unknown; did you mean {near:?}?", quoted(word)),
            None => format!("{} is unknown: use {names}", quoted(word)),
        })
    }
}

/// Whether a key without a meaning has the value it would have anyway.
fn empty(value: &Value) -> Result<(), String> {
    match value {
        Value::List(list) if list.is_empty() => Ok(()),
        _ => Err("is not yet supported in this version: remove it or write []".to_owned()),
    }
}

/// A key as it can be repeated in a message: it may be anything that fits into quotes.
fn shown(name: &str) -> String {
    let plain = (1..=40).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b));
    if plain { name.to_owned() } else { quoted(name) }
}
