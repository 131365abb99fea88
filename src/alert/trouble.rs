//! What can be wrong. Values only.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;

use crate::message::Address;

/// What kind of thing is wrong. Adding one? Also extend `Kind::ALL`, `look.rs`, `Cause::solved` and `docs/alerts.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// An account is held: nothing leaves through it.
    Held,
    /// The sign-in is not renewed, and mail will stop, or the sign-in die, if that goes on.
    SignInTrouble,
    /// The server that takes the mail cannot be reached, and mail waits for it.
    Unreachable,
    /// A message was set aside because an attempt failed within the relay itself.
    MessageHeld,
    /// The disk is too full to take mail.
    DiskFull,
    /// A client secret ends, or has ended.
    ClientSecret,
    /// The certificate by which a registration proves itself ends, or has ended.
    ClientCertificate,
    /// The certificate of a listener ends, or has ended.
    ListenerCertificate,
    /// This machine's clock is wrong.
    ClockSkew,
    /// Most of the recipients that a login may write to in a day are used.
    DayNearlyUsed,
    /// Most of the recipients outside the organisation are used that a tenant may write to in a day.
    BudgetNearlyUsed,
    /// Exchange refuses a sender that mail is to leave as.
    SenderRefused,
    /// A part of the relay has failed, and the relay has to be started again.
    Broken,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Held,
        Self::SignInTrouble,
        Self::Unreachable,
        Self::MessageHeld,
        Self::DiskFull,
        Self::ClientSecret,
        Self::ClientCertificate,
        Self::ListenerCertificate,
        Self::ClockSkew,
        Self::DayNearlyUsed,
        Self::BudgetNearlyUsed,
        Self::SenderRefused,
        Self::Broken,
    ];

    /// Its name in JSON and in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::SignInTrouble => "sign_in_trouble",
            Self::Unreachable => "unreachable",
            Self::MessageHeld => "message_held",
            Self::DiskFull => "disk_full",
            Self::ClientSecret => "client_secret",
            Self::ClientCertificate => "certificate",
            Self::ListenerCertificate => "listener_certificate",
            Self::ClockSkew => "clock_skew",
            Self::DayNearlyUsed => "day_nearly_used",
            Self::BudgetNearlyUsed => "budget_nearly_used",
            Self::SenderRefused => "sender_refused",
            Self::Broken => "broken",
        }
    }

    /// The kind of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Whether it has a day that comes nearer: then each threshold is news, and there are no reminders before it.
    pub fn is_countdown(self) -> bool {
        matches!(self, Self::ClientSecret | Self::ClientCertificate | Self::ListenerCertificate)
    }

    /// How long it has to be gone before it is said to be over: a network comes and goes, a person's sign-in does not.
    pub fn clears_after(self) -> Duration {
        match self {
            Self::SignInTrouble | Self::Unreachable | Self::DiskFull | Self::ClockSkew => Duration::from_mins(5),
            // A rolling count goes up and down around a mark: told once a day is enough.
            Self::DayNearlyUsed | Self::BudgetNearlyUsed => Duration::from_hours(24),
            _ => Duration::ZERO,
        }
    }
}

/// What an alert is about; the same cause is told once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cause {
    /// What kind.
    pub kind: Kind,
    /// The account it is about; `None`: the relay itself.
    pub account: Option<Address>,
    /// Which one, where there can be several: the file of a certificate, a sender, a tenant.
    pub subject: Option<String>,
}

impl Cause {
    /// Of this account.
    pub fn of(kind: Kind, account: &Address) -> Self {
        Self { kind, account: Some(account.clone()), subject: None }
    }

    /// Of the relay itself.
    pub fn of_relay(kind: Kind) -> Self {
        Self { kind, account: None, subject: None }
    }

    /// Whom it concerns, for sentences.
    fn whose(&self) -> String {
        self.account.as_ref().map_or_else(|| "the relay".to_owned(), Address::to_string)
    }

    /// What to say when it is over.
    pub fn solved(&self) -> String {
        let whose = self.whose();
        match self.kind {
            Kind::Held => format!("Mail through {whose} leaves again"),
            Kind::SignInTrouble => format!("The sign-in of {whose} is renewed again"),
            Kind::Unreachable => format!("The mail server of {whose} can be reached again"),
            Kind::MessageHeld => format!("No message of {whose} is set aside any more"),
            Kind::DiskFull => "There is room on the disk again, and mail is taken".to_owned(),
            Kind::ClientSecret => format!("The client secret of {whose} no longer ends soon"),
            Kind::ClientCertificate => format!("The certificate that signs in {whose} no longer ends soon"),
            Kind::ClockSkew => "This machine's clock is right again".to_owned(),
            Kind::DayNearlyUsed => format!("{whose} has used less than 80 % of its recipients a day for a whole day"),
            Kind::BudgetNearlyUsed => {
                let tenant = self.subject.as_deref().unwrap_or("The tenant");
                format!("{tenant} has used less than 80 % of its recipients outside a day for a whole day")
            }
            Kind::SenderRefused => {
                let sender = self.subject.as_deref().unwrap_or("a sender");
                format!("Exchange no longer refuses mail of {whose} from {sender}")
            }
            Kind::ListenerCertificate => {
                format!("The certificate {} no longer ends soon", self.subject.as_deref().unwrap_or("of a listener"))
            }
            Kind::Broken => "The relay runs again".to_owned(),
        }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Mail still flows; there is time.
    Warning,
    /// Mail does not leave, or will not within minutes.
    Critical,
}

impl Severity {
    /// Its name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Something that is wrong now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What it is about.
    pub cause: Cause,
    /// How bad it is.
    pub severity: Severity,
    /// Which form of it: another cause of a hold, or the next threshold of a countdown (a larger number).
    pub stage: u8,
    /// How long it has to last before anybody is told.
    pub settles_after: Duration,
    /// Since when, if that is known; otherwise since it was first seen.
    pub since: Option<Timestamp>,
    /// When it ends or has ended, for countdowns.
    pub ends: Option<Timestamp>,
    /// What is wrong, as a headline.
    pub title: String,
    /// What is wrong, in one sentence.
    pub text: String,
    /// How many messages wait because of it; `None` where that says nothing.
    pub waiting: Option<u64>,
    /// The reply or error, word for word.
    pub error: Option<String>,
    /// AADSTS numbers.
    pub codes: Vec<u32>,
    /// The one thing to do.
    pub todo: String,
}
