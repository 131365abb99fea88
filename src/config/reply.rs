//! `[[reply]]`: what a server's reply means, as the administrator says. Also the form of the shipped table (`outbound/replies.toml`).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

/// One row: which replies it is for, and what they mean. Values only; `outbound::replies` applies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyRule {
    /// Where it counts; none: wherever it makes sense.
    pub phases: Vec<ReplyPhase>,
    /// The three digits; `None`: any.
    pub code: Option<u16>,
    /// The enhanced code; `None`: any, or none at all.
    pub enhanced: Option<EnhancedCodes>,
    /// Words that are all in the reply.
    pub words: Vec<String>,
    /// Whom the reply is about.
    pub scope: ReplyScope,
    /// What is done.
    pub class: ReplyClass,
    /// What there is too much of, if that is what it says.
    pub throttle: Option<ReplyThrottle>,
    /// How long it is waited before the next try; `None`: as usual. Only with [`ReplyClass::Later`].
    pub wait: Option<Duration>,
    /// What is wrong and what helps, for people.
    pub sentence: String,
    /// What to type, with `{names}` of the account to be filled in; `None`: nothing in particular.
    pub command: Option<String>,
}

/// Where in the conversation a reply comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyPhase {
    /// In place of the greeting.
    Connect,
    /// To EHLO.
    Ehlo,
    /// To STARTTLS.
    #[serde(rename = "starttls")]
    StartTls,
    /// To the login.
    Auth,
    /// To MAIL.
    Mail,
    /// To RCPT.
    Rcpt,
    /// To DATA.
    Data,
    /// Behind the final dot.
    DataEnd,
}

impl ReplyPhase {
    /// All of them with their names, in the order of a conversation.
    pub const NAMES: [(&str, Self); 8] = [
        ("connect", Self::Connect),
        ("ehlo", Self::Ehlo),
        ("starttls", Self::StartTls),
        ("auth", Self::Auth),
        ("mail", Self::Mail),
        ("rcpt", Self::Rcpt),
        ("data", Self::Data),
        ("data_end", Self::DataEnd),
    ];

    /// Whether a message is being handed over: before that nothing can be said of it.
    pub fn is_about_a_message(self) -> bool {
        matches!(self, Self::Mail | Self::Rcpt | Self::Data | Self::DataEnd)
    }
}

/// Whom a reply is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyScope {
    /// This recipient of this message.
    Recipient,
    /// The message, whoever gets it.
    Message,
    /// This connection.
    Connection,
    /// The account.
    Account,
    /// All accounts of the tenant.
    Tenant,
}

impl ReplyScope {
    /// All of them with their names.
    pub const NAMES: [(&str, Self); 5] = [
        ("recipient", Self::Recipient),
        ("message", Self::Message),
        ("connection", Self::Connection),
        ("account", Self::Account),
        ("tenant", Self::Tenant),
    ];
}

/// What is done about a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyClass {
    /// Tried again.
    Later,
    /// Never tried again.
    Refused,
    /// More than the message stops.
    Held(ReplyCause),
}

/// Why it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyCause {
    /// The login is refused.
    Login,
    /// A limit of the day.
    Quota,
    /// Spam, a threshold, a suspicion.
    Blocked,
    /// The sending mailbox is full.
    MailboxFull,
    /// The login may not send from the mailbox.
    Permission,
    /// The kind of connection or of login.
    Connection,
}

impl ReplyCause {
    /// All of them with their names.
    pub const NAMES: [(&str, Self); 6] = [
        ("login", Self::Login),
        ("quota", Self::Quota),
        ("blocked", Self::Blocked),
        ("mailbox_full", Self::MailboxFull),
        ("permission", Self::Permission),
        ("connection", Self::Connection),
    ];
}

/// What a server has too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyThrottle {
    /// Messages a minute.
    Rate,
    /// Connections at once.
    Sessions,
}

impl ReplyThrottle {
    /// Both with their names.
    pub const NAMES: [(&str, Self); 2] = [("rate", Self::Rate), ("sessions", Self::Sessions)];
}

/// An enhanced status code (RFC 3463), or those whose last part is in a range: `5.7.139`, `4.7.500-699`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnhancedCodes {
    class: u16,
    subject: u16,
    first: u16,
    last: u16,
}

impl EnhancedCodes {
    /// Whether `code`, such as `5.7.139`, is one of them.
    pub fn contain(&self, code: &str) -> bool {
        let mut parts = code.split('.').map(str::parse::<u16>);
        let (class, subject, detail) = (parts.next(), parts.next(), parts.next());
        let (Some(Ok(class)), Some(Ok(subject)), Some(Ok(detail))) = (class, subject, detail) else { return false };
        (class, subject) == (self.class, self.subject) && (self.first..=self.last).contains(&detail)
    }
}

impl FromStr for EnhancedCodes {
    type Err = String;

    /// Only codes that say no: `4.…` and `5.…`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            "is no enhanced code of a refusal: write one such as \"5.7.139\", or a range of its last part such as \"4.7.500-699\""
                .to_owned()
        };
        let number = |text: &str| {
            let is_plain = (1..=3).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
            text.parse::<u16>().ok().filter(|_| is_plain).ok_or_else(wrong)
        };
        let mut parts = text.split('.');
        let (Some(class), Some(subject), Some(detail), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        let (first, last) = detail.split_once('-').unwrap_or((detail, detail));
        let codes =
            Self { class: number(class)?, subject: number(subject)?, first: number(first)?, last: number(last)? };
        if !matches!(codes.class, 4 | 5) || codes.first > codes.last {
            return Err(wrong());
        }
        Ok(codes)
    }
}

impl fmt::Display for EnhancedCodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.first)?;
        if self.last == self.first { Ok(()) } else { write!(f, "-{}", self.last) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_its_ends_and_nothing_beyond() {
        let codes: EnhancedCodes = "4.7.500-699".parse().unwrap();
        for (code, is_one) in [
            ("4.7.500", true),
            ("4.7.699", true),
            ("4.7.499", false),
            ("4.7.700", false),
            ("5.7.500", false),
            ("4.8.500", false),
            ("4.7", false),
            ("", false),
        ] {
            assert_eq!(codes.contain(code), is_one, "{code}");
        }
        assert_eq!(codes.to_string(), "4.7.500-699");
        assert_eq!("5.1.8".parse::<EnhancedCodes>().unwrap().to_string(), "5.1.8");
    }

    #[test]
    fn what_is_no_code_of_a_refusal_is_not_taken() {
        for text in ["", "5", "5.7", "2.0.0", "5.7.x", "5.7.9-1", "5.7.1.2", "5..1", "5.7.1000", "5.7.-1", "+5.7.1"] {
            assert!(text.parse::<EnhancedCodes>().is_err(), "{text}");
        }
    }
}
