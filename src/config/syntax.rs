//! What the TOML parser complains about, in words for someone who does not know TOML.
//!
//! Nothing of a value is repeated: it may be a secret that merely lost its quotes.

use super::keys::{self, Form, SCOPES};

/// What is wrong at octet `at` of the text, where the parser says `message`, and what to write instead.
pub(super) fn explain(message: &str, text: &str, at: usize) -> String {
    explain_line(message, line_at(text, at).1.trim())
}

/// A mistake behind which the parser loses its way, and the character that would have kept it.
pub(super) struct Repair {
    /// The octet that the mistake is about.
    pub at: usize,
    /// What is wrong and what to write instead.
    pub text: String,
    /// The character, and where to put it. No line end, so that lines keep their numbers.
    pub insert: (usize, char),
    /// Whether everything that was written can still be looked at.
    pub nothing_lost: bool,
}

/// The repair of the first such mistake. Without it, what follows would not be looked at, or be taken for something else.
pub(super) fn repair(errors: &[toml::de::Error], text: &str) -> Option<Repair> {
    errors.iter().find_map(|error| {
        let at = floor(text, error.span().map_or(text.len(), |span| span.start));
        let message = error.message();
        if begins(message, &["unclosed array, "]) {
            return close_list(text, text.len());
        }
        if begins(message, &["missing comma between array"]) {
            return close_list(text, at);
        }
        let (start, line) = line_at(text, at);
        if begins(message, &["unclosed table", "unclosed array table"]) && line.trim_start().starts_with('[') {
            let end = start + items(line).len();
            return Some(Repair { at, text: explain(message, text, at), insert: (end, ']'), nothing_lost: true });
        }
        let is_lost = begins(message, &["key with no value"]) && !line.trim_start().starts_with('#');
        is_lost.then(|| Repair { at, text: explain(message, text, at), insert: (start, '#'), nothing_lost: false })
    })
}

/// Closes a list that runs on into the keys behind it; `at` is where the parser stumbled.
fn close_list(text: &str, at: usize) -> Option<Repair> {
    let (start, line) = line_at(text, at);
    let runs_out = text[at..].trim().is_empty();
    if !runs_out && !is_key_or_heading(line) {
        return None;
    }
    let end = if runs_out { text.len() } else { start };
    let at = begin_of_list(text, end)?;
    let said = "the list is not closed: the ] at its end is missing".to_owned();
    Some(Repair { at, text: said, insert: (end_of_items(text, at, end), ']'), nothing_lost: true })
}

fn explain_line(message: &str, line: &str) -> String {
    if begins(message, &["duplicate key"]) {
        return twice(line);
    }
    if (line.starts_with("[[") && !line.contains("]]")) || (line.starts_with('[') && !line.contains(']')) {
        return "the heading is not closed: it needs as many ] as it has [".to_owned();
    }
    if let Some((key, _)) = line.split_once(':')
        && !line.contains('=')
        && is_plain(key.trim())
    {
        return format!("a key and its value are joined by =, as in {} = \"…\"", key.trim());
    }
    if begins(message, &["key with no value"]) {
        // Only what is surely a key is repeated: the line may be the rest of a secret.
        let key = if SCOPES.iter().any(|scope| scope.key(line).is_some()) { line } else { "key" };
        return format!("this line has no value: remove it or complete it, as in {key} = \"…\"");
    }
    if begins(message, &["missing escaped value", "invalid escape", "too few unicode"]) {
        return "a backslash has a meaning of its own within \"…\": write \\\\ for one, or put the text in '…'"
            .to_owned();
    }
    if begins(message, &["invalid basic string", "invalid literal string", "invalid multi-line"]) {
        return "the text is not closed: the quote at its end is missing".to_owned();
    }
    let words =
        ["invalid boolean", "invalid float", "string values must be quoted", "invalid integer", "invalid datetime"];
    if begins(message, &words) {
        return match key_of(line) {
            Some((key, "")) => format!("{key} has no value: remove the line or complete it"),
            Some((key, _)) => format!("the value of {key} is not understood: a text needs quotes, as in {key} = \"…\""),
            None => "this value is not understood: a text needs quotes around it".to_owned(),
        };
    }
    match message {
        "missing comma between array elements, expected `,`" => {
            "a comma is missing between two items of the list".to_owned()
        }
        message if message.starts_with("carriage return must") => {
            "a line ends in a lone carriage return: save the file with Unix line ends".to_owned()
        }
        message => format!("this is no TOML: {message}"),
    }
}

fn begins(message: &str, starts: &[&str]) -> bool {
    starts.iter().any(|start| message.starts_with(start))
}

/// Something stands there for the second time.
fn twice(line: &str) -> String {
    match (heading(line), key_of(line)) {
        (Some(name), _) if keys::ROOT.key(name).is_some_and(|key| key.form == Form::Tables) => {
            format!("[{name}] must be written [[{name}]]: there can be several of them")
        }
        (Some(name), _) => format!("[{name}] stands here for the second time: put all its keys below one heading"),
        (None, Some((key, _))) => format!("{key} is given for the second time: remove one of them"),
        (None, None) => "something is given for the second time: remove one of them".to_owned(),
    }
}

/// `[name]`.
fn heading(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix('[')?.split_once(']')?;
    let name = name.trim();
    is_plain(name).then_some(name)
}

/// The key of `key = …` and what stands behind the sign.
fn key_of(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once('=')?;
    let key = key.trim();
    is_plain(key).then_some((key, value.trim()))
}

/// Whether no item of a list looks like this line.
fn is_key_or_heading(line: &str) -> bool {
    let line = line.trim();
    key_of(line).is_some()
        || heading(line.trim_start_matches('[')).is_some()
        || line.starts_with("[[")
        || heading(line).is_some()
}

/// The nearest line above with `= [`.
fn begin_of_list(text: &str, before: usize) -> Option<usize> {
    let mut end = before;
    while end > 0 {
        let (start, line) = line_at(text, end - 1);
        if key_of(line.trim()).is_some_and(|(_, value)| value.starts_with('[')) {
            return Some(start);
        }
        end = start;
    }
    None
}

/// The end of the last line from `begin` to `end` that has more than a comment.
fn end_of_items(text: &str, begin: usize, end: usize) -> usize {
    let mut last = end;
    let mut at = begin;
    for line in text[begin..end].split_inclusive('\n') {
        let items = items(line);
        if !items.trim().is_empty() && !items.trim_start().starts_with('#') {
            last = at + items.len();
        }
        at += line.len();
    }
    last
}

/// The line without a comment at its end.
fn items(line: &str) -> &str {
    line.split(" #").next().unwrap_or_default().trim_end()
}

/// The line around `at`, and where it begins.
fn line_at(text: &str, at: usize) -> (usize, &str) {
    let start = text[..floor(text, at)].rfind('\n').map_or(0, |at| at + 1);
    (start, text[start..].lines().next().unwrap_or_default())
}

/// Whether it can be repeated in a message: something short that looks like a key.
fn is_plain(key: &str) -> bool {
    (1..=40).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// The nearest place at or before `at` where a character begins.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}
