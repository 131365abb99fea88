//! `rules.toml`, read once.

use std::sync::LazyLock;

use serde::Deserialize;

use super::text::Link;
use crate::config::Glob;

/// All of them.
pub(super) static RULES: LazyLock<Rules> =
    LazyLock::new(|| toml::from_str(include_str!("rules.toml")).expect("shipped with the program and read by a test"));

/// The file. What each field says is told in it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rules {
    pub(super) link: Vec<LinkRule>,
    pub(super) header: Vec<HeaderRule>,
    pub(super) subject: Vec<SubjectRule>,
    pub(super) code: CodeRule,
}

/// A link that only mail has which somebody waits for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinkRule {
    #[serde(deserialize_with = "glob")]
    pub(super) path: Glob,
    #[serde(default)]
    pub(super) query: Vec<String>,
    pub(super) what: String,
    #[serde(default)]
    pub(super) bursts: bool,
}

/// A header field that tells who wrote the mail.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeaderRule {
    pub(super) name: String,
    #[serde(deserialize_with = "glob")]
    pub(super) matches: Glob,
    pub(super) what: String,
}

/// Subjects of programs of which nothing else is known.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SubjectRule {
    #[serde(deserialize_with = "globs")]
    pub(super) matches: Vec<Glob>,
}

/// What tells a one-time code from another number.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CodeRule {
    pub(super) words: Vec<String>,
}

impl LinkRule {
    /// Whether it is such a link.
    pub(super) fn fits(&self, link: &Link<'_>) -> bool {
        self.path.fits_lower(&link.path) && self.query.iter().all(|wanted| has(link.query, wanted))
    }
}

/// Whether a query has this key with a value, or this key with this value.
fn has(query: &str, wanted: &str) -> bool {
    query.split(['&', ';']).any(|part| match part.strip_prefix(wanted) {
        Some("") => wanted.contains('='),
        Some(rest) => rest.len() > 1 && rest.starts_with('=') && !wanted.contains('='),
        None => false,
    })
}

fn glob<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Glob, D::Error> {
    String::deserialize(from).map(|text| Glob::new(&text))
}

fn globs<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Vec<Glob>, D::Error> {
    Vec::<String>::deserialize(from).map(|texts| texts.iter().map(|text| Glob::new(text)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lane::text::links;

    #[test]
    fn every_rule_that_is_shipped_can_fit() {
        for rule in &RULES.link {
            let path = rule.path.to_string().replace('*', "/x").replace("//", "/");
            let query: Vec<String> =
                rule.query.iter().map(|key| if key.contains('=') { key.clone() } else { format!("{key}=1") }).collect();
            let text = format!("see https://x.example{path}?{} now", query.join("&"));
            assert!(links(&text).any(|link| rule.fits(&link)), "{text}");
        }
        assert!(RULES.header.iter().all(|rule| !rule.matches.core().is_empty()));
        assert!(RULES.subject.iter().flat_map(|rule| &rule.matches).all(|glob| glob.core().chars().count() > 2));
        assert!(RULES.code.words.iter().all(|word| *word == word.to_lowercase()));
    }

    #[test]
    fn a_key_needs_a_value_and_a_key_with_a_value_that_one() {
        for (query, wanted, is) in [
            ("token=abc", "token", true),
            ("a=1&token=abc", "token", true),
            ("token=", "token", false),
            ("token", "token", false),
            ("tokens=abc", "token", false),
            ("action=rp&key=1", "action=rp", true),
            ("action=rpx", "action=rp", false),
            ("", "token", false),
        ] {
            assert_eq!(has(query, wanted), is, "{query} {wanted}");
        }
    }
}
