//! What a reply means: for whom, and what is to be done.
//!
//! Classified by step and by the names Exchange gives its exceptions before the first digit: `535` holds the account, most `554`
//! behind the final dot are moods. The table is `replies.toml`, with the administrator's rows in front. What is in neither means "try again": a message that waits too long can be helped, one
//! that was bounced wrongly cannot.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::replies::{self, Row};
use crate::config::{Config, ReplyRule};
use crate::schedule::Throttle;
use crate::smtp::Reply;
use crate::store::HoldCause;

/// What a reply means for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whom it is about.
    pub scope: Scope,
    /// What is to be done.
    pub class: Class,
    /// What the far side has too much of, if it says so: the pace is to slow down.
    pub throttle: Option<Throttle>,
    /// The row of the table that says so; `None`: none fits, or none is needed.
    pub row: Option<Arc<Row>>,
    /// The reply, word for word; in our own words (`xoauth2-relay: …`) where the server said nothing.
    pub reply: Reply,
}

/// Whom a verdict is about. Only the first two say anything about the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// This recipient of this message.
    Recipient,
    /// The message, whoever gets it.
    Message,
    /// This connection; another one may do better.
    Connection,
    /// The account and its login.
    Account,
    /// All accounts of the tenant.
    Tenant,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Accepted by the server.
    Accepted,
    /// Worth another try later.
    Later,
    /// Will never work; the sender is told.
    Refused,
    /// Not this message's fault: something larger stops until a person or a probe frees it.
    Held(HoldCause),
    /// The connection was lost behind the final dot: Exchange may have it.
    InDoubt,
}

/// What was being answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// The connection itself: the greeting.
    Greeting,
    /// EHLO.
    Ehlo,
    /// STARTTLS.
    StartTls,
    /// AUTH or the token.
    Auth,
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// DATA.
    Data,
    /// The message behind DATA.
    DataEnd,
}

impl Step {
    /// Whether a message is being handed over.
    pub(super) fn is_about_a_message(self) -> bool {
        matches!(self, Self::Mail | Self::Rcpt | Self::Data | Self::DataEnd)
    }
}

/// What was refused, in the middle of a sentence: "refused *the login*".
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Greeting => "the connection",
            Self::Ehlo => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Auth => "the login",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
            Self::DataEnd => "the message",
        })
    }
}

/// What `reply` means as the answer to `step`, by the shipped table alone.
pub fn judge(step: Step, reply: &Reply) -> Verdict {
    judge_with(&[], step, reply)
}

/// What `reply` means as the answer to `step`; the administrator's own rows come first.
pub fn judge_with(own: &[ReplyRule], step: Step, reply: &Reply) -> Verdict {
    let verdict = |scope, class, row: Option<Arc<Row>>| {
        let throttle = row.as_ref().and_then(|row| row.throttle());
        Verdict { scope, class, throttle, row, reply: reply.clone() }
    };
    if is_success(step, reply) {
        return verdict(scope_of(step), Class::Accepted, None);
    }
    if let Some(row) = replies::understood(own, step, reply) {
        return verdict(row.scope(), row.class(), Some(row));
    }
    // The refusal of a login is known by where it stands.
    let step = if replies::embedded(step, reply).is_some() { Step::Auth } else { step };
    let (scope, class) = unknown(step, reply);
    verdict(scope, class, None)
}

/// Where the administrator's own rows are found: in the configuration in force.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    config: Option<watch::Receiver<Arc<Config>>>,
}

impl Judge {
    /// Judges by this configuration and those that follow it.
    pub fn new(config: watch::Receiver<Arc<Config>>) -> Self {
        Self { config: Some(config) }
    }

    /// What `reply` means as the answer to `step`.
    pub fn judge(&self, step: Step, reply: &Reply) -> Verdict {
        let config = self.config.as_ref().map(|config| config.borrow().clone());
        judge_with(config.as_deref().map(|config| config.replies.as_slice()).unwrap_or_default(), step, reply)
    }
}

impl Verdict {
    /// How long to wait before the next try, if that is known of this reply.
    pub fn wait(&self) -> Option<Duration> {
        self.row.as_ref().filter(|_| self.class == Class::Later).and_then(|row| row.wait())
    }

    /// What the reply means, for the journal; `None` where that needs no words.
    pub fn meaning(&self) -> Option<String> {
        match (&self.row, self.class) {
            (_, Class::Accepted) => None,
            (Some(row), _) if row.is_own() => Some(format!("by your own rule: {}", row.what())),
            (Some(row), _) => Some(row.what().to_owned()),
            (None, _) if replies::is_ours(&self.reply) => None,
            (None, Class::Later) => Some("the reply is unknown to this version, so it is tried again".to_owned()),
            (None, _) => Some("the reply is unknown to this version".to_owned()),
        }
    }
}

fn is_success(step: Step, reply: &Reply) -> bool {
    match step {
        Step::Data => reply.code() == 354,
        // A challenge is no answer yet, but no refusal either.
        Step::Auth => (reply.is_positive() && reply.code() != 221) || reply.code() == 334,
        // A goodbye is no yes.
        _ => reply.is_positive() && reply.code() != 221,
    }
}

/// What is in no table: a 5xx to AUTH is about the account, one to RCPT about the recipient, anything else may pass.
fn unknown(step: Step, reply: &Reply) -> (Scope, Class) {
    match step {
        Step::Auth if reply.is_permanent() => (Scope::Account, Class::Held(HoldCause::Login)),
        Step::Rcpt if reply.is_permanent() => (Scope::Recipient, Class::Refused),
        Step::Auth => (Scope::Connection, Class::Later),
        step => (scope_of(step), Class::Later),
    }
}

fn scope_of(step: Step) -> Scope {
    match step {
        Step::Greeting | Step::Ehlo | Step::StartTls => Scope::Connection,
        Step::Auth => Scope::Account,
        Step::Rcpt => Scope::Recipient,
        Step::Mail | Step::Data | Step::DataEnd => Scope::Message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGIN: Class = Class::Held(HoldCause::Login);

    fn verdict(step: Step, code: u16, text: &str) -> (Scope, Class) {
        let verdict = judge(step, &Reply::new(code, text));
        (verdict.scope, verdict.class)
    }

    #[test]
    fn unknown_means_try_again_but_for_logins_and_recipients() {
        for step in [Step::Greeting, Step::Ehlo, Step::StartTls, Step::Mail, Step::Data, Step::DataEnd] {
            assert_eq!(verdict(step, 599, "5.9.9 new").1, Class::Later, "{step:?}");
        }
        assert_eq!(
            verdict(Step::DataEnd, 554, "5.2.0 STOREDRV.Submission.Exception:BrandNewException").1,
            Class::Later
        );
        assert_eq!(verdict(Step::Auth, 535, "5.7.139 a sentence nobody has seen"), (Scope::Account, LOGIN));
        assert_eq!(verdict(Step::Auth, 454, "4.7.0 later").1, Class::Later);
        assert_eq!(verdict(Step::Rcpt, 550, "5.1.1 no such user"), (Scope::Recipient, Class::Refused));
        assert_eq!(verdict(Step::Rcpt, 450, "busy"), (Scope::Recipient, Class::Later));
    }

    #[test]
    fn the_trouble_of_a_tenant_is_not_the_recipients() {
        let blocked = (Scope::Tenant, Class::Held(HoldCause::Blocked));
        assert_eq!(verdict(Step::Rcpt, 550, "5.7.705 Access denied, tenant has exceeded threshold"), blocked);
        assert_eq!(verdict(Step::Rcpt, 503, "5.5.2 Need mail command"), (Scope::Connection, Class::Later));
        assert_eq!(verdict(Step::Rcpt, 552, "Too many recipients"), (Scope::Message, Class::Later));
        let lost = (Scope::Connection, Class::Held(HoldCause::Permission));
        assert_eq!(verdict(Step::Rcpt, 530, "authenticate first"), lost);
    }

    #[test]
    fn names_count_without_an_enhanced_code_in_any_case_and_across_lines() {
        let refused = (Scope::Message, Class::Refused);
        assert_eq!(verdict(Step::DataEnd, 554, "storedrv.submission.exception:SENDASDENIEDEXCEPTION"), refused);
        let wrapped =
            vec!["5.7.139 Authentication unsuccessful, federated STS".into(), "5.7.139 service was unreachable".into()];
        assert_eq!(judge(Step::Auth, &Reply::with_lines(535, wrapped)).class, Class::Later);
    }

    #[test]
    fn only_354_is_a_yes_to_data() {
        assert_eq!(verdict(Step::Data, 354, "go on").1, Class::Accepted);
        assert_eq!(verdict(Step::Data, 250, "what?").1, Class::Later);
    }
}
