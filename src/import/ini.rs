//! INI as Python's `configparser` reads it without interpolation, which is how email-oauth2-proxy has it read.
//!
//! Sections, `key = value` or `key : value`, values that go on in lines indented deeper, whole-line comments behind `#` or `;`.
//! Keys are known in lower case, sections word for word. Nothing stands for anything else: a `%` is a `%`.

use std::fmt;

use zeroize::Zeroizing;

/// A whole file. Printing it prints no value: there are secrets among them.
pub struct Ini {
    sections: Vec<Section>,
}

/// One `[section]`.
pub struct Section {
    /// Its name, as it stands between the brackets.
    pub name: String,
    options: Vec<(String, Zeroizing<String>)>,
}

/// Where a text stops being INI; lines are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IniError {
    /// There is a key before the first section.
    #[error("line {0} stands before the first [section]")]
    NoSection(usize),
    /// Neither a section nor a key.
    #[error("line {0} is neither a [section] nor \"key = value\"")]
    NoKey(usize),
    /// A section for the second time.
    #[error("line {0} begins the section [{1}] for the second time")]
    SectionAgain(usize, String),
    /// A key for the second time in its section.
    #[error("line {0} has the key {1} for the second time in its section")]
    KeyAgain(usize, String),
}

impl Ini {
    /// Reads a text; a byte order mark in front and any kind of line end are taken.
    ///
    /// # Errors
    /// At the first line that makes no sense, as `configparser` would stop there too.
    pub fn parse(text: &str) -> Result<Self, IniError> {
        let mut sections: Vec<Section> = Vec::new();
        // How far the key is indented whose value may still go on.
        let mut open: Option<usize> = None;
        for (n, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let (n, content) = (n + 1, line.trim());
            if content.starts_with(['#', ';']) {
                continue;
            }
            let last = sections.last_mut();
            let value = last.and_then(|section| section.options.last_mut()).map(|(_, value)| value);
            if content.is_empty() {
                if let (Some(value), Some(_)) = (value, open) {
                    value.push('\n');
                }
                continue;
            }
            let indent = line.chars().take_while(|c| c.is_whitespace()).count();
            if let (Some(value), Some(_)) = (value, open.filter(|&key| indent > key)) {
                value.push('\n');
                value.push_str(content);
                continue;
            }
            open = None;
            if let Some(name) = heading(content) {
                if sections.iter().any(|section| section.name == name) {
                    return Err(IniError::SectionAgain(n, name.to_owned()));
                }
                sections.push(Section { name: name.to_owned(), options: Vec::new() });
                continue;
            }
            let section = sections.last_mut().ok_or(IniError::NoSection(n))?;
            let at = content.find(['=', ':']).filter(|&at| at > 0).ok_or(IniError::NoKey(n))?;
            let key = content[..at].trim_end().to_lowercase();
            if section.get(&key).is_some() {
                return Err(IniError::KeyAgain(n, key));
            }
            section.options.push((key, Zeroizing::new(content[at + 1..].trim().to_owned())));
            open = Some(indent);
        }
        for (_, value) in sections.iter_mut().flat_map(|section| &mut section.options) {
            let length = value.trim_end().len();
            value.truncate(length);
        }
        Ok(Self { sections })
    }

    /// The sections in the order of the file.
    pub fn sections(&self) -> impl Iterator<Item = &Section> {
        self.sections.iter()
    }

    /// The value of a key; `[DEFAULT]` stands in where the section has none. An empty one counts as none.
    pub fn get(&self, section: &str, key: &str) -> Option<&str> {
        let of = |name: &str| self.sections.iter().find(|section| section.name == name);
        let own = of(section).and_then(|section| section.get(key));
        own.or_else(|| of("DEFAULT").and_then(|default| default.get(key))).filter(|value| !value.is_empty())
    }

    /// Takes over these keys of another file's sections: they win over those that are here.
    pub fn overlay(&mut self, other: &Ini, keys: &[&str]) {
        for theirs in &other.sections {
            let Some(ours) = self.sections.iter_mut().find(|section| section.name == theirs.name) else { continue };
            for (key, value) in theirs.options.iter().filter(|(key, _)| keys.contains(&key.as_str())) {
                ours.options.retain(|(ours, _)| ours != key);
                ours.options.push((key.clone(), value.clone()));
            }
        }
    }
}

impl Section {
    fn get(&self, key: &str) -> Option<&str> {
        self.options.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for Ini {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.sections.iter().map(|section| &section.name)).finish()
    }
}

/// What stands between the brackets. `configparser` takes the last closing one and minds nothing behind it.
fn heading(line: &str) -> Option<&str> {
    let (name, _) = line.strip_prefix('[')?.rsplit_once(']')?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TEXT: &str = "# a comment\n[Server setup]\ndocumentation = first\n\tsecond = not a key\n\n\t[not a section]\n\
        \t# a comment\n\tlast\n\n[lms@contoso.com]\n  Client_ID : a%b%%c = d : e \nempty =\n  ; a comment\n[none]\n";

    #[test]
    fn what_configparser_reads_is_read() {
        for text in [TEXT.to_owned(), TEXT.replace('\n', "\r\n"), format!("\u{feff}{TEXT}")] {
            let ini = Ini::parse(&text).unwrap();
            let names: Vec<_> = ini.sections().map(|section| section.name.as_str()).collect();
            assert_eq!(names, ["Server setup", "lms@contoso.com", "none"]);
            assert_eq!(
                ini.get("Server setup", "documentation"),
                Some("first\nsecond = not a key\n\n[not a section]\nlast")
            );
            assert_eq!(ini.get("lms@contoso.com", "client_id"), Some("a%b%%c = d : e"), "nothing is interpolated");
            assert_eq!(ini.get("lms@contoso.com", "empty"), None);
            assert_eq!(ini.get("Server setup", "client_id"), None);
            assert_eq!(format!("{ini:?}"), r#"["Server setup", "lms@contoso.com", "none"]"#);
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        for (text, error) in [
            ("\n\nkey = value\n", IniError::NoSection(3)),
            ("{\"refresh_token\": \"x\"}", IniError::NoSection(1)),
            ("[a]\nno key\n", IniError::NoKey(2)),
            ("[a]\n= no key\n", IniError::NoKey(2)),
            ("[a]\n[]\n", IniError::NoKey(2)),
            ("[a]\nx = 1\n[a]\n", IniError::SectionAgain(3, "a".into())),
            ("[a]\nx = 1\nX : 2\n", IniError::KeyAgain(3, "x".into())),
        ] {
            assert_eq!(Ini::parse(text).unwrap_err(), error, "{text:?}");
        }
    }

    #[test]
    fn another_file_lends_the_keys_that_are_asked_for() {
        let mut ini = Ini::parse("[DEFAULT]\nx = 0\n[a]\ntoken = old\n[b]\nx = 1\n").unwrap();
        assert_eq!((ini.get("a", "x"), ini.get("b", "x")), (Some("0"), Some("1")));
        ini.overlay(&Ini::parse("[a]\ntoken = new\nother = 1\n[c]\ntoken = no\n").unwrap(), &["token"]);
        assert_eq!((ini.get("a", "token"), ini.get("a", "other")), (Some("new"), None));
        assert_eq!(ini.get("c", "token"), None);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(\\PC|[\\[\\]=:;#%\\r\\n\\t \u{feff}\u{85}\u{2028}])*") {
            let _ = Ini::parse(&text);
        }

        #[test]
        fn what_is_written_is_read(values in proptest::collection::vec("[!-~]( ?[!-~]){0,20}", 1..5)) {
            let lines = values.iter().enumerate().map(|(n, value)| format!("key{n} = {value}"));
            let ini = Ini::parse(&format!("[a@b.c]\n{}", lines.collect::<Vec<_>>().join("\n"))).unwrap();
            for (n, value) in values.iter().enumerate() {
                prop_assert_eq!(ini.get("a@b.c", &format!("key{n}")), Some(value.as_str()));
            }
        }
    }
}
