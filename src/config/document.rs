//! The text of a configuration as a tree in which every value knows where it stands.
//!
//! Parsing never stops at an error: what can be understood is handed on, so that all problems are told at once.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use toml::value::Datetime;

use super::problem::Place;
use super::review::Review;
use super::syntax;

/// The keys below one heading.
pub(super) type Table = BTreeMap<String, Node>;

/// A value and its place. It has no `Debug`: it may be a secret.
pub(super) struct Node {
    pub place: Place,
    pub value: Value,
}

/// TOML's values.
pub(super) enum Value {
    Text(String),
    /// `None`: more digits than any key could want.
    Number(Option<i128>),
    Float,
    Switch(bool),
    Date(Datetime),
    List(Vec<Node>),
    Table(Table),
}

impl Value {
    /// For "is a number, but should be …".
    pub fn form(&self) -> &'static str {
        match self {
            Self::Text(_) => "a text",
            Self::Number(_) => "a number",
            Self::Float => "a number with a fraction",
            Self::Switch(_) => "true or false",
            Self::Date(_) => "a date or time",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Whoever makes more mistakes of one kind has other problems first.
const MOST_REPAIRS: usize = 50;

/// Reads TOML; what is not TOML goes into `review`.
pub(super) fn parse(text: &str, review: &mut Review) -> Table {
    let last = Lines::of(text).0.len();
    let line_in = |text: &str, at| Lines::of(text).number_at(at).min(last);
    let mut text = Cow::Borrowed(text);
    for _ in 0..MOST_REPAIRS {
        let Some(repair) = syntax::repair(&parse_all(&text).1, &text) else { break };
        let line = line_in(&text, repair.at);
        if repair.nothing_lost {
            review.problem(&Place::Line(line), "", repair.text);
        } else {
            review.syntax(line, repair.text);
        }
        let (at, character) = repair.insert;
        text.to_mut().insert(at, character);
    }
    let lines = Lines::of(&text);
    let (root, errors) = parse_all(&text);
    for error in errors {
        let at = error.span().map_or(text.len(), |span| span.start);
        review.syntax(line_in(&text, at), syntax::explain(error.message(), &text, at));
    }
    table(root.into_inner(), &|span| Place::Line(lines.number_at(span.start)))
}

/// The tree, and the errors in the order of the text.
fn parse_all(text: &str) -> (Spanned<DeTable<'_>>, Vec<toml::de::Error>) {
    let (root, mut errors) = DeTable::parse_recoverable(text);
    errors.sort_by_key(|error| error.span().map_or(usize::MAX, |span| span.start));
    (root, errors)
}

/// Reads one value, as it would stand behind `key =`. `None` if it is no TOML.
pub(super) fn parse_value(text: &str, place: &Place) -> Option<Value> {
    let value = DeValue::parse(text).ok()?;
    Some(self::value(value.into_inner(), &|_| place.clone()))
}

fn table(table: DeTable<'_>, place: &impl Fn(Range<usize>) -> Place) -> Table {
    let node = |(key, value): (Spanned<_>, Spanned<DeValue<'_>>)| {
        // Headings are tables whose own place is the better one; everything else stands where its key stands.
        let span = if value.get_ref().is_table() { value.span() } else { key.span() };
        let key: Cow<'_, str> = key.into_inner();
        (key.into_owned(), Node { place: place(span), value: self::value(value.into_inner(), place) })
    };
    table.into_iter().map(node).collect()
}

fn value(value: DeValue<'_>, place: &impl Fn(Range<usize>) -> Place) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => Value::Number(i128::from_str_radix(number.as_str(), number.radix()).ok()),
        DeValue::Float(_) => Value::Float,
        DeValue::Boolean(switch) => Value::Switch(switch),
        DeValue::Datetime(date) => Value::Date(date),
        DeValue::Array(items) => {
            let node = |item: Spanned<DeValue<'_>>| Node {
                place: place(item.span()),
                value: self::value(item.into_inner(), place),
            };
            Value::List(items.into_iter().map(node).collect())
        }
        DeValue::Table(inner) => Value::Table(table(inner, place)),
    }
}

/// Where lines begin, to turn the place of an octet into the number of its line.
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        // A line end as the last octet begins no line: what is missing there is missing from the line before.
        let ends = text.trim_end().match_indices('\n');
        Self(std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect())
    }

    fn number_at(&self, at: usize) -> usize {
        self.0.partition_point(|start| *start <= at)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn line(table: &Table, key: &str) -> Place {
        table[key].place.clone()
    }

    #[test]
    fn every_value_knows_its_line() {
        let mut review = Review::new(Path::new("relay.toml"), jiff::civil::date(2026, 10, 1));
        let text = "a = 1\n\nb = [\n  'x',\n  'y',\n]\n[c]\nd = 1\n[[e]]\n[[e]]\nf.g = true\n";
        let root = parse(text, &mut review);
        assert!(review.into_findings().0.is_empty());
        assert_eq!(line(&root, "a"), Place::Line(1));
        assert_eq!(line(&root, "b"), Place::Line(3));
        assert_eq!(line(&root, "c"), Place::Line(7));
        let Value::List(items) = &root["b"].value else { panic!() };
        assert_eq!(items[1].place, Place::Line(5));
        let Value::List(tables) = &root["e"].value else { panic!() };
        assert_eq!(tables[1].place, Place::Line(10));
        let Value::Table(second) = &tables[1].value else { panic!() };
        assert_eq!(line(second, "f"), Place::Line(11));
    }

    #[test]
    fn what_is_missing_at_the_end_is_missing_from_the_last_line() {
        let lines = Lines::of("a = 1\nb = [\n\n");
        assert_eq!(lines.number_at(13), 2);
        assert_eq!(Lines::of("").number_at(0), 1);
    }
}
