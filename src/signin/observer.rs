//! What is noticed beside the tokens: claims that do not fit the account, a clock that is wrong. It decides about no token; it explains failures, and is told once when it changes.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

use super::answer::{EndpointError, Tokens};
use super::claims::Claims;
use super::errors::{Circumstances, Flow};
use super::inspect::{Finding, Flaw, inspect};
use super::skew::{self, Reading};
use super::status::SignInStatus;
use crate::config::Account;

/// Watches the answers that one account gets.
#[derive(Default)]
pub(super) struct Observer {
    noticed: Mutex<Noticed>,
}

#[derive(Default)]
struct Noticed {
    clock_skew: Option<SignedDuration>,
    findings: Vec<Finding>,
}

/// A request under way.
#[derive(Clone, Copy)]
pub(super) struct Asking {
    flow: Flow,
    at: Timestamp,
    began: Instant,
}

impl Asking {
    /// A request of this kind is about to be made.
    pub(super) fn now(flow: Flow, now: Timestamp) -> Self {
        Self { flow, at: now, began: Instant::now() }
    }

    /// What to know for understanding a refusal that came at once, where nobody watches the account.
    pub(super) fn refused(self, error: &EndpointError, now: Timestamp) -> Circumstances {
        let clock_skew = match self.reading(date_of(error), now) {
            Some(Reading::Wrong(skew)) => Some(skew),
            _ => None,
        };
        Circumstances { flow: self.flow, secret_age: None, clock_skew }
    }

    fn reading(self, date: Option<Timestamp>, now: Timestamp) -> Option<Reading> {
        skew::read(self.at, now, self.began.elapsed(), date?)
    }
}

fn date_of(error: &EndpointError) -> Option<Timestamp> {
    if let EndpointError::Answer(refusal) = error { refusal.date } else { None }
}

impl Observer {
    /// What came of it, and what to know for understanding it.
    pub(super) fn answered(
        &self,
        asking: Asking,
        answer: &Result<Tokens, EndpointError>,
        account: &Account,
        now: Timestamp,
    ) -> Circumstances {
        let mut noticed = self.noticed();
        let date = answer.as_ref().map_or_else(date_of, |tokens| tokens.date);
        if let Some(reading) = asking.reading(date, now) {
            noticed.compare_clocks(reading, account);
        }
        if let Ok(tokens) = answer {
            let claims = Claims::decode(tokens.access.expose()).unwrap_or_default();
            noticed.find(inspect(&claims, account), account);
        }
        Circumstances { flow: asking.flow, secret_age: None, clock_skew: noticed.clock_skew }
    }

    /// Adds it to what the keeper knows.
    pub(super) fn annotate(&self, status: &mut SignInStatus) {
        let noticed = self.noticed();
        status.clock_skew = noticed.clock_skew;
        status.findings.clone_from(&noticed.findings);
    }

    fn noticed(&self) -> MutexGuard<'_, Noticed> {
        self.noticed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Noticed {
    fn compare_clocks(&mut self, reading: Reading, account: &Account) {
        let skew = if let Reading::Wrong(skew) = reading { Some(skew) } else { None };
        let before = std::mem::replace(&mut self.clock_skew, skew);
        match (before, skew) {
            (None, Some(skew)) => tracing::warn!(
                account = %account.mailbox,
                "{}; set up NTP: {}", skew::in_words(skew, account.provider), skew::COMMAND
            ),
            (Some(_), None) => tracing::info!(account = %account.mailbox, "this machine's clock is right again"),
            _ => {}
        }
    }

    fn find(&mut self, found: Vec<Finding>, account: &Account) {
        let flaws = |findings: &[Finding]| -> Vec<Flaw> { findings.iter().map(|finding| finding.flaw).collect() };
        let before = flaws(&self.findings);
        for finding in found.iter().filter(|finding| !before.contains(&finding.flaw)) {
            tracing::warn!(account = %account.mailbox, advice = %finding.advice, "the access token does not fit the account");
        }
        if found.is_empty() && !before.is_empty() {
            tracing::info!(account = %account.mailbox, "the access token fits the account again");
        }
        self.findings = found;
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;
    use std::time::Duration;

    use crate::config::{Grant, Secret};
    use crate::signin::answer::OAuthError;
    use crate::signin::scripted::account;

    fn start() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn relay() -> Account {
        account("lms@contoso.com", "http://127.0.0.1:1/token", None)
    }

    fn tokens(claims: &str, date: Option<Timestamp>) -> Tokens {
        let access = Secret::new(format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims)));
        Tokens {
            access,
            expires_in: Some(Duration::from_hours(1)),
            refresh: None,
            refresh_life: None,
            scope: None,
            date,
        }
    }

    fn refusal(error: &str, date: Option<Timestamp>) -> Result<Tokens, EndpointError> {
        let error = OAuthError { error: error.to_owned(), status: 401, date, ..OAuthError::default() };
        Err(EndpointError::Answer(Box::new(error)))
    }

    fn status(observer: &Observer) -> SignInStatus {
        let mut status = super::super::status::Published::nothing_yet(relay().mailbox, Grant::Delegated).status;
        observer.annotate(&mut status);
        status
    }

    #[test]
    fn a_wrong_clock_is_seen_in_refusals_too_and_forgotten_when_it_is_right() {
        let observer = Observer::default();
        let at = |seconds: i64| Some(start() - SignedDuration::from_secs(seconds));
        let answer = |answer: Result<Tokens, EndpointError>| {
            let asking = Asking::now(Flow::RefreshToken, start());
            observer
                .answered(asking, &answer, &relay(), start())
                .clock_skew
                .map(|skew| (skew.as_secs().abs() + 30) / 60)
        };
        assert_eq!(answer(Ok(tokens("{}", at(30)))), None);
        assert_eq!(answer(refusal("invalid_client", at(480))), Some(8));
        assert_eq!(answer(Ok(tokens("{}", None))), Some(8), "an answer without a date says nothing");
        assert!(status(&observer).clock_skew.is_some());
        assert_eq!(answer(Ok(tokens("{}", at(-600)))), Some(10));
        assert!(status(&observer).clock_skew.is_some_and(|skew| skew.is_negative()));
        assert_eq!(answer(Ok(tokens("{}", at(0)))), None);
        assert_eq!(status(&observer).clock_skew, None);
    }

    #[test]
    fn what_does_not_fit_is_remembered_until_a_token_fits() {
        let observer = Observer::default();
        let brings = |claims: &str| {
            let asking = Asking::now(Flow::RefreshToken, start());
            observer.answered(asking, &Ok(tokens(claims, None)), &relay(), start());
            status(&observer).findings.iter().map(|finding| finding.flaw).collect::<Vec<_>>()
        };
        assert_eq!(brings(r#"{"aud":"https://graph.microsoft.com","scp":"SMTP.Send"}"#), [Flaw::Audience]);
        assert_eq!(brings(r#"{"aud":"https://outlook.office.com","scp":"SMTP.Send"}"#), []);
        assert_eq!(brings(r#"{"upn":"other@contoso.com"}"#), [Flaw::Person]);
        let asking = Asking::now(Flow::RefreshToken, start());
        observer.answered(asking, &refusal("invalid_grant", None), &relay(), start());
        assert_eq!(status(&observer).findings.len(), 1, "a refusal says nothing about the token at hand");
    }
}
