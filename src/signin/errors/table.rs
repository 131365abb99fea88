//! `errors.toml`, read once.

use std::sync::LazyLock;

use serde::Deserialize;

use super::{Circumstances, Flow};
use crate::signin::answer::OAuthError;

/// One meaning of a refusal. What each field says is told at the top of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Row {
    pub(super) id: String,
    #[serde(default)]
    pub(super) codes: Vec<u32>,
    pub(super) error: Option<String>,
    pub(super) status: Option<Status>,
    pub(super) words: Option<String>,
    #[serde(default)]
    pub(super) flow: Vec<Flow>,
    #[serde(default)]
    pub(super) general: bool,
    pub(super) class: Class,
    pub(super) pause: Option<u64>,
    #[serde(default)]
    pub(super) new_secret: bool,
    #[serde(default)]
    pub(super) clock: bool,
    pub(super) sentence: String,
    pub(super) action: String,
    pub(super) then: Option<Then>,
}

/// `status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum Status {
    #[serde(rename = "429")]
    TooManyRequests,
    #[serde(rename = "5xx")]
    ServerError,
}

impl Status {
    pub(super) fn is(self, status: u16) -> bool {
        match self {
            Self::TooManyRequests => status == 429,
            Self::ServerError => status >= 500,
        }
    }
}

/// `class`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Class {
    TryAgain,
    Wait,
    SignIn,
    Fix,
}

impl Class {
    fn passes(self) -> bool {
        matches!(self, Self::TryAgain | Self::Wait)
    }
}

/// `then`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Then {
    Login,
    Release,
    Status,
}

#[derive(Deserialize)]
struct File {
    error: Vec<Row>,
}

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let file: File =
        toml::from_str(include_str!("../errors.toml")).expect("shipped with the program and read by a test");
    file.error
});

/// Every row, in the order of the file.
pub(super) fn rows() -> &'static [Row] {
    &ROWS
}

/// The row that decides about this answer; `None`: nothing in it is known.
pub(super) fn deciding(answer: &OAuthError, circumstances: &Circumstances) -> Option<&'static Row> {
    let description = answer.description.to_ascii_lowercase();
    let fitting = rows().iter().filter(|row| row.fits(answer, &description, circumstances.flow));
    fitting.max_by_key(|row| row.weight(answer))
}

/// The row for an answer that is no refusal in the form of OAuth.
pub(super) fn of_status(status: u16) -> Option<&'static Row> {
    rows().iter().find(|row| row.status.is_some_and(|known| known.is(status)))
}

/// Whether any row is about this number.
pub(super) fn knows(code: u32) -> bool {
    rows().iter().any(|row| row.codes.contains(&code))
}

impl Row {
    fn fits(&self, answer: &OAuthError, description: &str, flow: Flow) -> bool {
        let about = match (self.codes.as_slice(), self.status) {
            ([], Some(status)) => status.is(answer.status),
            ([], None) => self.is_usual_for(answer),
            (codes, _) => answer.codes.iter().any(|code| codes.contains(code)),
        };
        let words = self.words.as_ref().is_none_or(|words| description.contains(&words.to_ascii_lowercase()));
        about && words && (self.flow.is_empty() || self.flow.contains(&flow))
    }

    fn is_usual_for(&self, answer: &OAuthError) -> bool {
        self.error.as_ref().is_some_and(|error| error.eq_ignore_ascii_case(answer.error.trim()))
    }

    /// The heaviest row decides. What passes weighs most: a sign-in that is tried too often can be helped, one that is given up
    /// stops the mail. Then words, numbers, the status, and `error` alone; among numbers the one that fits its `error`, the one that
    /// says more, and the larger one, since Microsoft's longer numbers are the more exact ones.
    fn weight(&self, answer: &OAuthError) -> (bool, bool, bool, bool, bool, bool, u32) {
        let number = self.codes.iter().filter(|code| answer.codes.contains(code)).max();
        (
            self.class.passes(),
            self.words.is_some(),
            number.is_some(),
            self.status.is_some(),
            self.is_usual_for(answer),
            !self.general,
            number.copied().unwrap_or(0),
        )
    }
}
