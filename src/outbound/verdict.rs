//! What a reply means: for whom, and what is to be done.
//!
//! Classified by step and by the names Exchange gives its exceptions before the first digit: `535` holds the account, most `554`
//! behind the final dot are moods. What is not in the table means "try again": a message that waits too long can be helped, one
//! that was bounced wrongly cannot.

use std::fmt;

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

/// One row of the table: a reply that has all that the row names.
struct Row {
    /// Where it counts; none means everywhere.
    steps: &'static [Step],
    /// The code; 0 means any.
    code: u16,
    /// The enhanced code; empty means any or none.
    enhanced: &'static str,
    /// Words of the reply in any case; empty means any.
    words: &'static str,
    scope: Scope,
    class: Class,
}

const fn row(code: u16, enhanced: &'static str, words: &'static str, scope: Scope, class: Class) -> Row {
    Row { steps: &[], code, enhanced, words, scope, class }
}

const fn at(steps: &'static [Step], row: &Row) -> Row {
    Row { steps, ..*row }
}

const LOGIN: Class = Class::Held(HoldCause::Login);

/// The first row that fits decides. Texts as Exchange Online has been seen to say them.
const TABLE: &[Row] = &[
    // A busy or closing server says nothing about anything else.
    row(421, "", "", Scope::Connection, Class::Later),
    row(451, "4.7.0", "Timeout waiting for client input", Scope::Connection, Class::Later),
    // Logins. What is no fault of the account comes first; every other 5xx holds it.
    at(&[Step::Auth], &row(535, "", "STS service was unreachable", Scope::Tenant, Class::Later)),
    at(&[Step::Auth], &row(501, "5.5.127", "", Scope::Account, Class::Later)),
    at(&[Step::Auth], &row(500, "", "", Scope::Connection, Class::Later)),
    at(&[Step::Auth], &row(503, "", "", Scope::Connection, Class::Later)),
    // The session has lost its login ("530 5.7.57 Client not authenticated to send mail"): a new one may have it.
    row(530, "", "", Scope::Connection, Class::Later),
    row(0, "5.7.57", "", Scope::Connection, Class::Later),
    // The order of commands was upset: ours or theirs, not the message's.
    at(&[Step::Mail, Step::Rcpt, Step::Data], &row(500, "", "", Scope::Connection, Class::Later)),
    at(&[Step::Mail, Step::Rcpt, Step::Data], &row(502, "", "", Scope::Connection, Class::Later)),
    at(&[Step::Mail, Step::Rcpt, Step::Data], &row(503, "", "", Scope::Connection, Class::Later)),
    // Trouble of the account or the tenant, said about a message or a recipient.
    row(432, "", "recipient thread limit", Scope::Recipient, Class::Later),
    row(432, "", "", Scope::Account, Class::Later),
    row(0, "", "SubmissionQuotaExceeded", Scope::Account, Class::Held(HoldCause::Quota)),
    row(0, "", "OutboundSpamException", Scope::Account, Class::Held(HoldCause::Blocked)),
    row(0, "", "MapiExceptionLogonFailed", Scope::Account, Class::Held(HoldCause::Permission)),
    at(&[Step::DataEnd], &row(0, "5.2.2", "", Scope::Account, Class::Held(HoldCause::MailboxFull))),
    row(0, "4.7.500", "", Scope::Account, Class::Later),
    row(0, "5.1.8", "", Scope::Account, Class::Held(HoldCause::Blocked)),
    row(0, "5.1.90", "", Scope::Account, Class::Later),
    row(0, "5.7.501", "", Scope::Account, Class::Later),
    row(0, "5.7.502", "", Scope::Account, Class::Later),
    row(0, "5.7.503", "", Scope::Account, Class::Later),
    row(0, "5.7.232", "", Scope::Tenant, Class::Later),
    row(0, "5.7.233", "", Scope::Tenant, Class::Later),
    row(0, "5.7.705", "", Scope::Tenant, Class::Held(HoldCause::Blocked)),
    row(0, "5.7.708", "", Scope::Tenant, Class::Later),
    row(0, "5.7.750", "", Scope::Tenant, Class::Later),
    // More recipients than it takes at once: these go with the next attempt (RFC 5321 section 4.5.3.1.10).
    at(&[Step::Rcpt], &row(452, "4.5.3", "", Scope::Message, Class::Later)),
    at(&[Step::Rcpt], &row(0, "", "too many recipients", Scope::Message, Class::Later)),
    // A recipient that gets too much at the moment.
    row(0, "5.2.121", "", Scope::Recipient, Class::Later),
    row(0, "5.2.122", "", Scope::Recipient, Class::Later),
    // The message itself can never leave like this.
    row(554, "5.2.252", "", Scope::Message, Class::Refused),
    row(554, "", "SendAsDenied", Scope::Message, Class::Refused),
    row(550, "5.7.60", "", Scope::Message, Class::Refused),
    row(550, "5.6.11", "", Scope::Message, Class::Refused),
    row(550, "5.7.512", "", Scope::Message, Class::Refused),
    row(550, "5.1.20", "", Scope::Message, Class::Refused),
    row(552, "5.3.4", "", Scope::Message, Class::Refused),
    row(550, "5.7.703", "", Scope::Message, Class::Refused),
    row(550, "5.7.509", "", Scope::Message, Class::Refused),
    // The recipient will never get it.
    row(550, "5.4.1", "", Scope::Recipient, Class::Refused),
    row(550, "5.1.10", "", Scope::Recipient, Class::Refused),
];

/// What `reply` means as the answer to `step`.
pub fn judge(step: Step, reply: &Reply) -> Verdict {
    let (scope, class) = if is_success(step, reply) {
        (scope_of(step), Class::Accepted)
    } else {
        let row = TABLE.iter().find(|row| row.fits(step, reply));
        row.map_or_else(|| unknown(step, reply), |row| (row.scope, row.class))
    };
    Verdict { scope, class, throttle: None, reply: reply.clone() }
}

fn is_success(step: Step, reply: &Reply) -> bool {
    match step {
        Step::Data => reply.code() == 354,
        // A challenge is no answer yet, but no refusal either.
        Step::Auth => reply.is_positive() || reply.code() == 334,
        _ => reply.is_positive(),
    }
}

/// What is in no table: a 5xx to AUTH is about the account, one to RCPT about the recipient, anything else may pass.
fn unknown(step: Step, reply: &Reply) -> (Scope, Class) {
    match step {
        Step::Auth if reply.is_permanent() => (Scope::Account, LOGIN),
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

impl Row {
    fn fits(&self, step: Step, reply: &Reply) -> bool {
        (self.steps.is_empty() || self.steps.contains(&step))
            && (self.code == 0 || self.code == reply.code())
            && (self.enhanced.is_empty() || reply.enhanced() == Some(self.enhanced))
            && (self.words.is_empty() || says(reply, self.words))
    }
}

/// Whether these words are in the reply, in any case, even across its lines: Exchange wraps where it likes.
fn says(reply: &Reply, words: &str) -> bool {
    let enhanced = reply.enhanced().map(|code| format!("{code} ")).unwrap_or_default();
    let lines = reply.lines().iter().map(|line| line.strip_prefix(enhanced.as_str()).unwrap_or(line).trim());
    let text = lines.collect::<Vec<_>>().join(" ").to_ascii_lowercase();
    text.contains(&words.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

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
        assert_eq!(
            verdict(Step::Rcpt, 550, "5.7.705 Access denied, tenant has exceeded threshold").1,
            Class::Held(HoldCause::Blocked)
        );
        assert_eq!(verdict(Step::Rcpt, 503, "5.5.2 Need mail command"), (Scope::Connection, Class::Later));
        assert_eq!(verdict(Step::Rcpt, 552, "Too many recipients"), (Scope::Message, Class::Later));
        assert_eq!(verdict(Step::Rcpt, 530, "authenticate first"), (Scope::Connection, Class::Later));
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

    /// The class that the facts give a row, as far as holds other than the login's are told apart.
    fn expected(phase: &str, code: u64, verdict: &str) -> Class {
        match verdict {
            "accepted" => Class::Accepted,
            "refused" => Class::Refused,
            "held" if phase == "auth" && code >= 500 => LOGIN,
            _ => Class::Later,
        }
    }

    fn step(phase: &str) -> Step {
        match phase {
            "connect" => Step::Greeting,
            "ehlo" => Step::Ehlo,
            "starttls" => Step::StartTls,
            "auth" => Step::Auth,
            "mail" => Step::Mail,
            "rcpt" => Step::Rcpt,
            "data" => Step::Data,
            "data_end" | "any" => Step::DataEnd,
            other => panic!("no such phase: {other}"),
        }
    }

    fn parse(text: &str) -> Reply {
        let mut parser = crate::smtp::ReplyParser::new();
        parser.feed(text.as_bytes());
        parser.feed(b"\r\n");
        parser.next_reply().unwrap().unwrap()
    }

    #[test]
    fn every_reply_that_exchange_is_known_to_give_means_what_it_should() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let file = ["../shared", "../../shared"].map(|shared| root.join(shared).join("microsoft/replies.json"));
        let Some(text) = file.iter().find_map(|path| std::fs::read_to_string(path).ok()) else {
            eprintln!("left out: microsoft/replies.json is not beside this tree");
            return;
        };
        let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        let mut wrong = Vec::new();
        for row in &rows {
            let (phase, code) = (row["phase"].as_str().unwrap(), row["code"].as_u64().unwrap());
            let expected = expected(phase, code, row["verdict"].as_str().unwrap());
            for text in row["text"].as_array().unwrap() {
                let class = judge(step(phase), &parse(text.as_str().unwrap())).class;
                let may_hold = row["verdict"] == "held" && matches!(class, Class::Held(_));
                if class != expected && !may_hold {
                    wrong.push(format!("{} is {class:?}, should be {expected:?}", row["id"]));
                }
            }
        }
        assert!(rows.len() > 50 && wrong.is_empty(), "{wrong:#?}");
    }
}
