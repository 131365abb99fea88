//! What is wrong with a configuration: where, which key, and the remedy.

use std::fmt;
use std::sync::Arc;

/// Where something stands. The order is the order of a listing: the file from the top, the file as a whole, the environment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A line of the file, counted from 1.
    Line(usize),
    /// No line in particular: what should be there is not.
    File,
    /// A variable that overrides the file.
    Variable(String),
}

/// One thing to change: `relay.toml:12: account[0].tenant: is missing: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file as the administrator named it.
    pub file: Arc<str>,
    /// Where in it, or which variable.
    pub place: Place,
    /// The path of the key, such as `account[0].client_id`; empty where it is not about one key.
    pub key: String,
    /// What is wrong and what to do. Never shows a secret.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Line(line) => write!(f, "{}:{line}: ", self.file)?,
            Place::File => write!(f, "{}: ", self.file)?,
            Place::Variable(name) => write!(f, "{name}: ")?,
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// Everything that is wrong, in the order of the file; never empty. Prints one problem per line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// Puts them in order. `None` if there are none.
    pub(super) fn collect(mut problems: Vec<Problem>) -> Option<Self> {
        problems.sort_by(|a, b| a.place.cmp(&b.place));
        problems.dedup();
        (!problems.is_empty()).then_some(Self(problems))
    }

    /// One that is about the file as a whole: it cannot be read.
    pub(super) fn of_file(file: &str, text: String) -> Self {
        Self(vec![Problem { file: file.into(), place: Place::File, key: String::new(), text }])
    }

    /// One after the other.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}
