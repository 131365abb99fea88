//! What a refusal of the token endpoint means, and what an administrator does about it.
//!
//! Whatever is not known for certain means "try again": a sign-in tried too often can be helped, one given up on stops the mail.
//! The order is: numbers that are passing whatever else is said; the HTTP status; numbers that mean another thing than their
//! `error`; then `error` itself.

use std::fmt;
use std::time::Duration;

use super::answer::{EndpointError, OAuthError};
use crate::message::Address;

/// How long a 429 without `Retry-After` is waited out.
const THROTTLED: Duration = Duration::from_mins(1);
/// How long is waited when Entra ID says that it is asked in circles, or too often.
const LOOPING: Duration = Duration::from_mins(5);

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

/// What the administrator is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// What is wrong and what to do, in one sentence.
    pub sentence: String,
    /// The one command to type.
    pub command: String,
}

impl Advice {
    /// For what passes by itself.
    pub fn wait() -> Self {
        Self { sentence: TROUBLE.to_owned(), command: "xoauth2-relay status".to_owned() }
    }

    /// For an account that has no sign-in.
    pub fn not_signed_in(account: &Address) -> Self {
        let sentence = "Nobody has signed in for this account yet: sign in once".to_owned();
        Self { sentence, command: format!("xoauth2-relay login {account}") }
    }

    /// For a sign-in that is there but cannot be opened.
    pub fn wrong_key(account: &Address) -> Self {
        let sentence =
            "The stored sign-in was sealed with another key: bring that key back, or sign in again".to_owned();
        Self { sentence, command: format!("xoauth2-relay login {account}") }
    }
}

impl fmt::Display for Advice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. Then: {}", self.sentence, self.command)
    }
}

const TROUBLE: &str = "It is tried again by itself";

/// Entra ID's own hiccups: `server_error` and `temporarily_unavailable` in all their numbers.
const PASSING: [u32; 6] = [90033, 50033, 90006, 90012, 90024, 90090];
/// Consumer accounts have theirs.
const PASSING_PERSONAL: u32 = 70012;
/// Throttled tenant, locked account, a loop of requests (which comes as `invalid_grant` and is no dead token).
const WAITING: [u32; 3] = [90055, 50053, 50196];

/// A policy, a consent, an account or a registration is in the way, although `error` sounds like a dead token.
const CONFIGURATION: [u32; 12] =
    [53003, 53000, 53001, 53002, 53011, 50034, 50057, 50020, 65001, 700_084, 700_005, 50013];
/// A person declined, although `error` sounds like a policy.
const DECLINED: u32 = 65004;

/// What a new sign-in puts right, or completes: a missing consent, a mangled token.
const BY_SIGNING_IN: [u32; 2] = [65001, 9_002_313];

/// What this failure means.
pub fn meaning(error: &EndpointError) -> Meaning {
    match error {
        EndpointError::Answer(answer) => meaning_of_answer(answer),
        EndpointError::Unreachable(_) => Meaning::TryAgain,
        EndpointError::Nonsense { status, retry_after, .. } => passing(*status, *retry_after),
    }
}

fn meaning_of_answer(answer: &OAuthError) -> Meaning {
    let any = |codes: &[u32]| answer.codes.iter().any(|code| codes.contains(code));
    if any(&WAITING) {
        return Meaning::Wait(answer.retry_after.unwrap_or(LOOPING));
    }
    if any(&PASSING) || any(&[PASSING_PERSONAL]) || answer.status == 429 || answer.status >= 500 {
        return passing(answer.status, answer.retry_after);
    }
    if any(&CONFIGURATION) || answer.description.contains("service abuse mode") {
        return Meaning::FixConfiguration;
    }
    if any(&[DECLINED]) {
        return Meaning::SignInAgain;
    }
    match answer.error.as_str() {
        "invalid_grant"
        | "interaction_required"
        | "login_required"
        | "authorization_declined"
        | "expired_token"
        | "bad_verification_code" => Meaning::SignInAgain,
        "invalid_client"
        | "unauthorized_client"
        | "invalid_request"
        | "invalid_scope"
        | "access_denied"
        | "consent_required"
        | "invalid_resource"
        | "unsupported_grant_type" => Meaning::FixConfiguration,
        _ => passing(answer.status, answer.retry_after),
    }
}

fn passing(status: u16, retry_after: Option<Duration>) -> Meaning {
    match retry_after {
        Some(wait) => Meaning::Wait(wait),
        None if status == 429 => Meaning::Wait(THROTTLED),
        None => Meaning::TryAgain,
    }
}

/// The sentence and the command for this failure of this account.
pub fn advice(error: &EndpointError, account: &Address) -> Advice {
    let meaning = meaning(error);
    let codes = if let EndpointError::Answer(answer) = error { answer.codes.as_slice() } else { &[] };
    let sentence = match (codes.iter().find_map(|code| sentence_of_code(*code)), meaning) {
        (Some(sentence), _) => sentence,
        (None, Meaning::TryAgain) => "The token endpoint is in trouble; it is tried again by itself",
        (None, Meaning::Wait(_)) => "The token endpoint asks for a pause; it is tried again by itself",
        (None, Meaning::SignInAgain) => "The stored sign-in no longer works: sign in again",
        (None, Meaning::FixConfiguration) => {
            "The app registration, the tenant or this configuration refuses it: correct what the message names, then release the account"
        }
    };
    let command = match meaning {
        Meaning::TryAgain | Meaning::Wait(_) => "xoauth2-relay status".to_owned(),
        Meaning::SignInAgain => format!("xoauth2-relay login {account}"),
        Meaning::FixConfiguration if codes.iter().any(|code| BY_SIGNING_IN.contains(code)) => {
            format!("xoauth2-relay login {account}")
        }
        Meaning::FixConfiguration => format!("xoauth2-relay account release {account}"),
    };
    Advice { sentence: sentence.to_owned(), command }
}

/// The codes administrators meet most.
fn sentence_of_code(code: u32) -> Option<&'static str> {
    Some(match code {
        700_082 => "The refresh token was not used for 90 days and has expired: sign in again",
        70008 => "The refresh token has expired: sign in again",
        50173 => "The password was changed or the sessions were revoked: sign in again, and ask who did it",
        50076 => {
            "Microsoft wants multi-factor authentication: sign in again with it, and exclude the relay's address or app in Conditional Access"
        }
        53003 => {
            "A Conditional Access policy blocks the sign-in: the Entra sign-in log names it; allow the relay's public address, or exclude the account from it"
        }
        65001 => {
            "Consent for SMTP.Send is missing: an administrator grants it in the app registration, then sign in again"
        }
        700_016 => {
            "The tenant knows no application with this client_id: compare client_id and tenant with the app registration's overview page"
        }
        90002 => {
            "There is no such tenant: compare tenant with the Directory (tenant) ID in the Entra portal; it may belong to another cloud"
        }
        7_000_215 => {
            "The client secret is wrong: paste the secret's Value (about 40 characters), not its Secret ID (a GUID)"
        }
        7_000_222 => {
            "The client secret has expired: create a new one in the app registration; no new sign-in is needed"
        }
        7_000_218 => {
            "The app registration is confidential: set client_secret, or turn on \"Allow public client flows\" in the app registration"
        }
        700_025 => "The app registration is a public client: remove client_secret from the configuration",
        9_002_313 => "Entra ID cannot read the refresh token: it was cut or changed on its way here; sign in again",
        50196 => "Entra ID was asked for the same token too often: the relay pauses; the sign-in is not dead",
        50053 => "Microsoft has locked the account for a while: the relay pauses; the Entra sign-in log says why",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(error: &str, codes: &[u32], status: u16) -> EndpointError {
        let answer = OAuthError { error: error.to_owned(), codes: codes.to_vec(), status, ..OAuthError::default() };
        EndpointError::Answer(Box::new(answer))
    }

    #[test]
    fn passing_trouble_never_marks_a_sign_in_dead() {
        for code in [90033, 50033, 90006, 90012, 90024, 90090, 70012] {
            for error in ["invalid_grant", "temporarily_unavailable", "server_error"] {
                assert_eq!(meaning(&answer(error, &[code], 400)), Meaning::TryAgain, "{error} {code}");
            }
        }
        for code in [50196, 90055, 50053] {
            assert_eq!(meaning(&answer("invalid_grant", &[code], 400)), Meaning::Wait(LOOPING), "{code}");
        }
        for status in [500, 502, 503, 504] {
            assert_eq!(meaning(&answer("invalid_grant", &[], status)), Meaning::TryAgain, "{status}");
        }
        assert_eq!(meaning(&answer("invalid_grant", &[70008], 429)), Meaning::Wait(THROTTLED));
        for error in ["temporarily_unavailable", "server_error", "slow_down", "", "what_is_this"] {
            assert_eq!(meaning(&answer(error, &[], 400)), Meaning::TryAgain, "{error}");
        }
        assert_eq!(meaning(&EndpointError::Unreachable(String::new())), Meaning::TryAgain);
        let page = |status, retry_after| EndpointError::Nonsense { status, what: String::new(), retry_after };
        assert_eq!(meaning(&page(404, None)), Meaning::TryAgain);
        assert_eq!(meaning(&page(429, None)), Meaning::Wait(THROTTLED));
        let ten = Duration::from_secs(10);
        assert_eq!(meaning(&page(503, Some(ten))), Meaning::Wait(ten));
    }

    #[test]
    fn definite_answers_are_told_apart() {
        for (error, codes) in [
            ("invalid_grant", &[700_082][..]),
            ("invalid_grant", &[70002, 70008]),
            ("invalid_grant", &[]),
            ("invalid_grant", &[4_242_424]),
            ("interaction_required", &[50076]),
            ("access_denied", &[65004]),
        ] {
            assert_eq!(meaning(&answer(error, codes, 400)), Meaning::SignInAgain, "{error} {codes:?}");
        }
        for (error, codes) in [
            ("invalid_client", &[7_000_222][..]),
            ("unauthorized_client", &[700_016]),
            ("invalid_request", &[90002]),
            ("invalid_scope", &[]),
            ("access_denied", &[]),
            ("consent_required", &[90094]),
            ("invalid_resource", &[500_011]),
            ("invalid_grant", &[65001]),
            ("invalid_grant", &[53003]),
            ("interaction_required", &[53000]),
        ] {
            assert_eq!(meaning(&answer(error, codes, 400)), Meaning::FixConfiguration, "{error} {codes:?}");
        }
    }

    #[test]
    fn every_failure_has_one_sentence_and_one_command() {
        let account = Address::parse("lms@contoso.com").unwrap();
        let told = |error, codes: &[u32]| advice(&answer(error, codes, 400), &account);
        assert_eq!(told("invalid_grant", &[1]).command, "xoauth2-relay login lms@contoso.com");
        assert_eq!(told("invalid_grant", &[65001]).command, "xoauth2-relay login lms@contoso.com");
        assert_eq!(told("invalid_client", &[7_000_222]).command, "xoauth2-relay account release lms@contoso.com");
        assert!(told("invalid_client", &[7_000_222]).sentence.contains("expired"));
        let codes =
            [700_082, 70008, 50173, 50076, 53003, 65001, 700_016, 90002, 7_000_215, 7_000_222, 7_000_218, 700_025];
        for code in codes {
            assert!(sentence_of_code(code).is_some(), "{code}");
        }
    }
}
