//! Which lane an app's mail travels in, as its administrator says: patterns with `*`, and the rules made of them.

use std::fmt;

use memchr::memmem;

use crate::message::Lane;

/// A checked `[[app.lane_rule]]`: mail with such a header field travels in this lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneRule {
    /// The field's name, in any case.
    pub header: String,
    /// What its value looks like, decoded and unfolded.
    pub matches: Glob,
    /// The lane.
    pub lane: Lane,
}

/// A text in which `*` stands for anything, or for nothing. Upper and lower case make no difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob {
    written: String,
    /// In lower case; all there is, if there is no star.
    first: String,
    /// What stands between two stars, in lower case.
    between: Vec<String>,
    /// What stands behind the last star, if there is one, in lower case.
    last: Option<String>,
}

impl Glob {
    /// The pattern that is written so.
    pub fn new(text: &str) -> Self {
        let lower = text.to_lowercase();
        let mut parts = lower.split('*');
        let first = parts.next().unwrap_or_default().to_owned();
        let last = parts.next_back().map(str::to_owned);
        let between = parts.map(str::to_owned).collect();
        Self { written: text.to_owned(), first, between, last }
    }

    /// Whether a text is one of those meant.
    pub fn fits(&self, text: &str) -> bool {
        self.fits_lower(&text.to_lowercase())
    }

    /// The same for a text in lower case.
    pub fn fits_lower(&self, text: &str) -> bool {
        let Some(last) = &self.last else { return text == self.first };
        // Most patterns begin or end with a star, and dozens are tried on each link: to compare with the nothing beside it, which is at no
        // address, costs some processors twenty times as much as with a word.
        let rest = if self.first.is_empty() { Some(text) } else { text.strip_prefix(self.first.as_str()) };
        let rest = if last.is_empty() { rest } else { rest.and_then(|rest| rest.strip_suffix(last.as_str())) };
        let Some(mut rest) = rest.map(str::as_bytes) else { return false };
        for part in &self.between {
            // A search in `str` begins with getting ready for long texts; these are short, and tried with dozens of patterns for each mail.
            let Some(at) = memmem::find(rest, part.as_bytes()) else { return false };
            rest = &rest[at + part.len()..];
        }
        true
    }

    /// What is surely in a text that fits: the pattern without the stars around it.
    pub fn core(&self) -> &str {
        self.written.trim_matches('*')
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_stands_for_anything_and_nothing() {
        for (pattern, fits, not) in [
            ("*reset*", &["reset", "a password RESET request", "resetreset"][..], &["rese t", ""][..]),
            ("[LMS] *", &["[lms] x", "[LMS] "], &["x [LMS] ", "[LMS]"]),
            ("*ü*ß", &["GRÜße mit ß", "üß"], &["ß ü"]),
            ("*", &["", "x"], &[]),
            ("ab*ba", &["abba", "ab ba"], &["aba"]),
            ("exact?", &["Exact?"], &["exactl", "exact? "]),
            ("a*b*b", &["abb", "axbxb"], &["ab"]),
            ("a**b", &["ab", "a b"], &["ac"]),
        ] {
            let glob = Glob::new(pattern);
            assert!(fits.iter().all(|text| glob.fits(text)), "{pattern} {fits:?}");
            assert!(!not.iter().any(|text| glob.fits(text)), "{pattern} {not:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_put_in_the_place_of_the_stars_fits(parts in prop::collection::vec("[a-zäöü.?+]{0,4}", 1..5), fill in "[a-z*ß ]{0,4}") {
            prop_assert!(Glob::new(&parts.join("*")).fits(&parts.join(&fill)));
        }
    }
}
