//! What a refusal of a token endpoint means, and what an administrator does about it.
//!
//! The knowledge is in `errors.toml`; here is how it is applied. Whatever is not known for certain means "try again": a sign-in tried
//! too often can be helped, one given up on stops the mail. When several rows fit one answer, the order is: what passes by itself;
//! a row that goes by words; by a number; by the HTTP status; by `error` alone (`table.rs` has the details). A number that no row
//! knows changes nothing, but the advice says so and repeats the provider's own words.

mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use jiff::SignedDuration;
use serde::Deserialize;

use super::answer::{EndpointError, OAuthError};
use super::skew;
use crate::config::{Account, Provider};
use crate::message::Address;
use table::{Class, Row, Then};

/// A secret that has been in use for less than this may not be known to all of Entra ID's servers yet.
pub const NEW_SECRET: Duration = Duration::from_mins(15);
/// How long is waited between tries with a new secret.
const SETTLING: Duration = Duration::from_mins(1);
/// The most characters of the provider's own words that are repeated in an advice.
const MAX_QUOTE: usize = 300;

/// What is to be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// It passes by itself.
    TryAgain,
    /// It passes by itself, but not before this long.
    Wait(Duration),
    /// The stored sign-in no longer works: a person signs in.
    SignInAgain,
    /// The registration, the tenant or the configuration is changed by a person; the stored sign-in may well be good.
    FixConfiguration,
}

/// What was asked for when the endpoint refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flow {
    /// RFC 6749 section 6.
    #[default]
    RefreshToken,
    /// RFC 6749 section 4.1: a person is signing in by browser.
    AuthorizationCode,
    /// RFC 8628: a person is signing in by device code.
    DeviceCode,
    /// RFC 6749 section 4.4: there is no person.
    ClientCredentials,
}

/// What one has to know besides the answer to understand it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// What was asked for.
    pub flow: Flow,
    /// How long the secret or certificate shown has been in use; `None` where there is none, or nobody remembers.
    pub secret_age: Option<Duration>,
    /// How far this machine's clock is ahead of the endpoint's (negative: behind), if it is wrong.
    pub clock_skew: Option<SignedDuration>,
}

impl From<Flow> for Circumstances {
    fn from(flow: Flow) -> Self {
        Self { flow, ..Self::default() }
    }
}

/// What the administrator is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// What is wrong and what to do, in one sentence without its full stop.
    pub sentence: String,
    /// The one command to type, if need be after what the sentence says.
    pub command: String,
}

impl Advice {
    /// For what passes by itself.
    pub fn wait() -> Self {
        Self { sentence: "It is tried again by itself".to_owned(), command: status() }
    }

    /// For an account that has no sign-in.
    pub fn not_signed_in(account: &Address) -> Self {
        let sentence = "Nobody has signed in for this account yet: sign in once".to_owned();
        Self { sentence, command: format!("xoauth2-relay login {account}") }
    }

    /// For a sign-in that belongs to another instance.
    pub fn foreign(account: &Address) -> Self {
        let sentence = "Nothing is sent and the stored sign-in is not used: if this is a copy, look at the mail that came along with it \
            (xoauth2-relay queue list) and sign in anew; if the instance was renamed, release the account";
        let command =
            format!("a copy: xoauth2-relay login {account}; renamed: xoauth2-relay account release {account}");
        Self { sentence: sentence.to_owned(), command }
    }

    /// For a sign-in that is there but cannot be opened.
    pub fn wrong_key(account: &Address) -> Self {
        let sentence = "The stored sign-in cannot be opened with the key at hand: put the right key back and release the account (no \
                        restart is needed), or sign in again"
            .to_owned();
        let command = format!(
            "the key is back: xoauth2-relay account release {account}; it is lost: xoauth2-relay login {account}"
        );
        Self { sentence, command }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. Then: {}", self.sentence, self.command)
    }
}

fn status() -> String {
    "xoauth2-relay status".to_owned()
}

/// What a failure means and where that is known from.
#[derive(Clone, Copy, Debug)]
pub struct Judgement<'a> {
    /// What is to be done.
    pub meaning: Meaning,
    error: &'a EndpointError,
    row: Option<&'static Row>,
    circumstances: Circumstances,
}

/// What this failure means under these circumstances.
pub fn judge<'a>(error: &'a EndpointError, circumstances: &Circumstances) -> Judgement<'a> {
    let (row, retry_after) = match error {
        EndpointError::Answer(answer) => (table::deciding(answer, circumstances), answer.retry_after),
        EndpointError::Unreachable(_) => (None, None),
        EndpointError::Nonsense { status, retry_after, .. } => (table::of_status(*status), *retry_after),
    };
    let meaning = match row.map(|row| (row.class, row)) {
        Some((Class::SignIn, _)) => Meaning::SignInAgain,
        Some((Class::Fix, row)) if row.new_secret && is_new(circumstances.secret_age) => Meaning::Wait(SETTLING),
        Some((Class::Fix, _)) => Meaning::FixConfiguration,
        Some((Class::Wait, row)) => {
            Meaning::Wait(retry_after.unwrap_or(Duration::from_secs(row.pause.unwrap_or_default())))
        }
        Some((Class::TryAgain, _)) | None => retry_after.map_or(Meaning::TryAgain, Meaning::Wait),
    };
    Judgement { meaning, error, row, circumstances: *circumstances }
}

fn is_new(secret_age: Option<Duration>) -> bool {
    secret_age.is_some_and(|age| age < NEW_SECRET)
}

/// What this failure of a refresh means, if nothing else is known.
pub fn meaning(error: &EndpointError) -> Meaning {
    judge(error, &Circumstances::default()).meaning
}

/// The sentence and the command for this failure of this account.
pub fn advice(error: &EndpointError, account: &Account, circumstances: &Circumstances) -> Advice {
    judge(error, circumstances).advice(account)
}

impl Judgement<'_> {
    /// The name of the row that decided, as in `docs/sign-in-errors.md`.
    pub fn row(&self) -> Option<&'static str> {
        self.row.map(|row| row.id.as_str())
    }

    /// Whether a number decided, and not just `error` or the HTTP status.
    pub fn is_by_number(&self) -> bool {
        self.row.is_some_and(|row| !row.codes.is_empty())
    }

    /// The sentence and the command for this account.
    pub fn advice(&self, account: &Account) -> Advice {
        let sentence = match self.row {
            Some(row) if row.new_secret && matches!(self.meaning, Meaning::Wait(_)) => {
                "A new client secret or certificate takes some minutes until all of Entra ID knows it: nothing is to be done, it \
                 is tried again by itself"
                    .to_owned()
            }
            Some(row) => self.told(row, account),
            None => self.told_without_row(),
        };
        Advice { sentence, command: self.command(account) }
    }

    fn told(&self, row: &Row, account: &Account) -> String {
        let (mut what, mut action) = (capitalized(&row.sentence), row.action.clone());
        if let (true, Some(skew)) = (row.clock, self.circumstances.clock_skew) {
            what = format!("{what}, and {}", skew::in_words(skew, account.provider));
            action = format!("set up NTP: {}", skew::COMMAND);
        }
        if row.new_secret && self.is_at_login() {
            action.push_str("; a secret or certificate made within the last minutes may just need some more");
        }
        let told = filled(&format!("{what}: {action}"), account);
        match self.unknown() {
            Some(unknown) => format!("{unknown}. {told}"),
            None => told,
        }
    }

    /// Whether a person is just signing in.
    fn is_at_login(&self) -> bool {
        matches!(self.circumstances.flow, Flow::AuthorizationCode | Flow::DeviceCode)
    }

    fn told_without_row(&self) -> String {
        match self.error {
            EndpointError::Answer(answer) => {
                let unknown = self.unknown().unwrap_or_else(|| unknown(&answer.error, answer));
                format!("{unknown}: it is tried again by itself")
            }
            EndpointError::Unreachable(_) => {
                "The token endpoint cannot be reached: it is tried again by itself".to_owned()
            }
            EndpointError::Nonsense { .. } => {
                "Something that is no token endpoint answered, perhaps a proxy: it is tried again by itself".to_owned()
            }
        }
    }

    /// The numbers of the answer, if none of them is in the table, with the provider's own words.
    fn unknown(&self) -> Option<String> {
        let EndpointError::Answer(answer) = self.error else { return None };
        if answer.codes.is_empty() || answer.codes.iter().any(|code| table::knows(*code)) {
            return None;
        }
        let codes: Vec<String> = answer.codes.iter().map(|code| format!("AADSTS{code}")).collect();
        Some(unknown(&codes.join(", "), answer))
    }

    fn command(&self, account: &Account) -> String {
        let mailbox = &account.mailbox;
        let then = match (self.meaning, self.row.and_then(|row| row.then)) {
            (Meaning::TryAgain | Meaning::Wait(_), _) => Then::Status,
            (_, Some(then)) => then,
            (Meaning::SignInAgain, None) => Then::Login,
            (Meaning::FixConfiguration, None) => Then::Release,
        };
        match then {
            // An application has nobody to sign in.
            Then::Login if self.circumstances.flow != Flow::ClientCredentials => {
                format!("xoauth2-relay login {mailbox}")
            }
            Then::Login | Then::Release => format!("xoauth2-relay account release {mailbox}"),
            Then::Status => status(),
        }
    }
}

/// "AADSTS4711 is unknown to this version; the provider says: …".
fn unknown(what: &str, answer: &OAuthError) -> String {
    let what = match what.split_whitespace().collect::<Vec<_>>().join(" ") {
        nothing if nothing.is_empty() => "The answer".to_owned(),
        what => what,
    };
    match answer.said() {
        said if said.is_empty() => format!("{what} is unknown to this version, and the provider says no more"),
        said => {
            let cut = if said.chars().count() > MAX_QUOTE { "…" } else { "" };
            let said: String = said.chars().take(MAX_QUOTE).collect();
            format!("{what} is unknown to this version; the provider says \"{said}{cut}\"")
        }
    }
}

fn capitalized(text: &str) -> String {
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + rest.as_str())
}

/// Puts the account's own names in the place of `{names}`.
fn filled(text: &str, account: &Account) -> String {
    let tenant = if account.tenant.is_empty() { "in token_url" } else { &account.tenant };
    text.replace("{mailbox}", account.mailbox.as_str())
        .replace("{login}", account.login.as_str())
        .replace("{client_id}", &account.client_id)
        .replace("{tenant}", tenant)
        .replace("{consent}", &consent(account))
}

/// Where an administrator consents for the whole tenant
/// (<https://learn.microsoft.com/entra/identity/enterprise-apps/grant-admin-consent>): beside the token endpoint, in every cloud.
fn consent(account: &Account) -> String {
    let base = account.endpoints.token.strip_suffix("/oauth2/v2.0/token");
    match base.filter(|_| account.provider == Provider::Microsoft) {
        Some(base) => format!("{base}/adminconsent?client_id={}", account.client_id),
        None => "the provider's consent page".to_owned(),
    }
}
