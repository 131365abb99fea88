//! What replies are known, and what an administrator does about them.
//!
//! The knowledge is in `replies.toml`, and in front of it whatever `[[reply]]` of the configuration says; `verdict` makes a verdict
//! of it. Of the text only words and codes count: not its case, its line breaks, the host names in brackets.

mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use super::verdict::{Class, Scope, Step};
use crate::config::{Account, EnhancedCodes, ReplyCause, ReplyClass, ReplyPhase, ReplyRule, ReplyScope, ReplyThrottle};
use crate::message::Address;
use crate::schedule::Throttle;
use crate::signin::Advice;
use crate::smtp::{Reply, ReplyParser};
use crate::store::{Hold, HoldCause};

/// What to do about a reply that no row knows, once somebody does.
const TEACH: &str =
    "once you know what it means, tell the relay with a [[reply]] in its configuration (docs/replies.md)";
/// Words of ours in the place of a reply that never came; no server says them.
const OURS: &str = "xoauth2-relay: ";
/// The most characters of a reply that are repeated in an advice.
const MAX_QUOTE: usize = 300;
/// Where a reply may have come whose place is not known, the likeliest first.
const LIKELY: [Step; 8] =
    [Step::DataEnd, Step::Rcpt, Step::Mail, Step::Data, Step::Auth, Step::Greeting, Step::Ehlo, Step::StartTls];

/// What is named as the thing to type where nothing is to be done: it shows how things stand.
pub const STATUS: &str = "xoauth2-relay status";
/// In a command, where neither the reply nor the message says whom it was sent as.
const SOMEBODY: &str = "\"the address in From\"";

/// The message that a reply is about, as far as it is known.
#[derive(Clone, Copy, Debug, Default)]
pub struct About<'a> {
    /// Its id.
    pub id: Option<&'a str>,
    /// Whom it was sent as: a refusal of the sender that names nobody means this one.
    pub sender: Option<&'a Address>,
}

/// One row: a reply that has all that the row names, and what it means.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    /// `None`: the administrator's own, which has no name.
    id: Option<String>,
    /// Where it counts; none means wherever it makes sense.
    steps: Vec<Step>,
    code: Option<u16>,
    enhanced: Option<EnhancedCodes>,
    /// Folded.
    words: Vec<String>,
    /// Folded; in place of `words` where the reply has no enhanced code.
    unnumbered: Vec<String>,
    scope: Scope,
    class: Class,
    throttle: Option<Throttle>,
    wait: Option<Duration>,
    /// No other login follows at once.
    once: bool,
    sentence: String,
    command: Option<String>,
}

impl Row {
    /// Its name in the shipped table; `None` for a row of the administrator's.
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether the administrator wrote it.
    pub fn is_own(&self) -> bool {
        self.id.is_none()
    }

    /// What is wrong, without what helps.
    pub fn what(&self) -> &str {
        self.sentence.split_once(": ").map_or(self.sentence.as_str(), |(what, _)| what)
    }

    pub(super) fn scope(&self) -> Scope {
        self.scope
    }

    pub(super) fn class(&self) -> Class {
        self.class
    }

    pub(super) fn throttle(&self) -> Option<Throttle> {
        self.throttle
    }

    /// How long it asks to wait.
    pub(super) fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// Whether another login at once, as somebody else or with a fresh token, would make it worse.
    pub(super) fn is_for_once(&self) -> bool {
        self.once
    }

    fn fits(&self, step: Step, said: &Said<'_>) -> bool {
        self.counts_at(step)
            && self.code.is_none_or(|code| code == said.reply.code())
            && self.is_worded(said)
            // A shipped row never refuses what the server itself takes for passing.
            && (self.is_own() || self.class != Class::Refused || said.reply.is_permanent())
    }

    fn counts_at(&self, step: Step) -> bool {
        let of_message = self.class == Class::Refused || matches!(self.scope, Scope::Recipient | Scope::Message);
        (self.steps.is_empty() || self.steps.contains(&step)) && (!of_message || step.is_about_a_message())
    }

    fn is_worded(&self, said: &Said<'_>) -> bool {
        let words = match (self.enhanced, said.reply.enhanced()) {
            (None, _) => &self.words,
            (Some(wanted), Some(enhanced)) if wanted.contain(enhanced) => &self.words,
            (Some(_), Some(_)) => return false,
            (Some(_), None) => {
                let words = if self.words.is_empty() { &self.unnumbered } else { &self.words };
                if words.is_empty() {
                    return false;
                }
                words
            }
        };
        words.iter().all(|word| said.text.contains(word.as_str()))
    }

    /// The sentence and the command for this account and this reply.
    fn advice(&self, account: &Account, reply: &str, about: About<'_>) -> Advice {
        let sender = sender_in(reply).or_else(|| about.sender.map(Address::as_str).filter(|sender| is_plain(sender)));
        let fill = |text: &str| {
            let text = text.replace("{mailbox}", account.mailbox.as_str()).replace("{login}", account.login.as_str());
            let text = text.replace("{client_id}", &account.client_id).replace("{smtp}", &account.smtp.to_string());
            text.replace("{id}", about.id.unwrap_or("ID")).replace("{sender}", sender.unwrap_or(SOMEBODY))
        };
        let own = if self.is_own() { " (your own rule)" } else { "" };
        let command = self.command.as_deref().map_or_else(|| STATUS.to_owned(), fill);
        Advice { sentence: fill(&self.sentence) + own, command }
    }
}

impl From<&ReplyRule> for Row {
    fn from(rule: &ReplyRule) -> Self {
        Self {
            id: None,
            steps: rule.phases.iter().map(|phase| step(*phase)).collect(),
            code: rule.code,
            enhanced: rule.enhanced,
            words: rule.words.iter().map(|words| folded(words)).collect(),
            unnumbered: Vec::new(),
            scope: scope(rule.scope),
            class: class(rule.class),
            throttle: rule.throttle.map(throttle),
            wait: rule.wait,
            once: false,
            sentence: rule.sentence.clone(),
            command: rule.command.clone(),
        }
    }
}

/// The row that decides about a refusal at this step: the first of the administrator's that fits, else the first of the shipped ones.
pub(super) fn deciding(own: &[ReplyRule], step: Step, reply: &Reply) -> Option<Arc<Row>> {
    let said = Said::of(reply);
    let own = own.iter().map(|rule| Arc::new(Row::from(rule))).find(|row| row.fits(step, &said));
    own.or_else(|| table::rows().iter().find(|row| row.fits(step, &said)).cloned())
}

/// What the reply of the last try means, and what to do about it: for a recipient that waits or was refused.
///
/// `None` for what is no reply, such as a failure in our own words: that says itself what it is.
pub fn explain(own: &[ReplyRule], reply: &str, account: &Account, about: About<'_>) -> Option<Advice> {
    let parsed = parse(reply).filter(|parsed| !parsed.is_positive())?;
    let row = LIKELY.iter().find_map(|step| understood(own, *step, &parsed));
    Some(row.map_or_else(|| to_be_taught(&parsed), |row| row.advice(account, reply, about)))
}

/// About a reply of which only somebody else knows what it means.
fn to_be_taught(reply: &Reply) -> Advice {
    let waits = if reply.is_permanent() { "" } else { "nothing for now, it is tried again; " };
    Advice { command: format!("{waits}{TEACH}"), ..unknown(reply) }
}

/// Whether a refusal of the sender does not say whom it means, so that [`About::sender`] is needed to explain it.
pub fn lacks_sender(own: &[ReplyRule], reply: &str) -> bool {
    let Some(parsed) = parse(reply).filter(|_| sender_in(reply).is_none()) else { return false };
    let row = LIKELY.iter().find_map(|step| understood(own, *step, &parsed));
    let texts = row.as_ref().map(|row| [Some(row.sentence.as_str()), row.command.as_deref()]);
    texts.is_some_and(|texts| texts.into_iter().flatten().any(|text| text.contains("{sender}")))
}

/// What the reply that holds an account means, and what to do about it. `None`: no reply holds it.
pub fn explain_hold(own: &[ReplyRule], hold: &Hold, account: &Account) -> Option<Advice> {
    let reply = hold.reply.as_deref()?;
    let parsed = parse(reply)?;
    let steps = if hold.cause == HoldCause::Login { [Step::Auth, Step::DataEnd] } else { [Step::DataEnd, Step::Auth] };
    let rows = steps.iter().chain(&LIKELY).filter_map(|step| understood(own, *step, &parsed));
    if let Some(row) = rows.into_iter().find(|row| matches!(row.class, Class::Held(_))) {
        return Some(row.advice(account, reply, About::default()));
    }
    let command = format!("change what the reply names, then: xoauth2-relay account release {}", account.mailbox);
    Some(Advice { command, ..unknown(&parsed) })
}

/// The row that decides, also about the login that the reply to a later command repeats: `530 5.7.57 … Error: 535 5.7.139 …`.
pub(super) fn understood(own: &[ReplyRule], step: Step, reply: &Reply) -> Option<Arc<Row>> {
    match embedded(step, reply) {
        Some(login) => deciding(own, Step::Auth, &login),
        None => deciding(own, step, reply),
    }
}

/// The refusal of the login that a refusal of MAIL repeats.
pub(super) fn embedded(step: Step, reply: &Reply) -> Option<Reply> {
    if !step.is_about_a_message() || reply.code() != 530 {
        return None;
    }
    let text = joined(reply);
    let (_, login) = text.split_once("Error: 535 ")?;
    Some(Reply::new(535, login))
}

/// "The reply is unknown to this version; the server says: …".
fn unknown(reply: &Reply) -> Advice {
    let text = joined(reply);
    let cut = if text.chars().count() > MAX_QUOTE { "…" } else { "" };
    let said: String = text.chars().filter(|c| !c.is_control()).take(MAX_QUOTE).collect();
    let sentence = format!("This reply is unknown to this version; the server says \"{said}{cut}\"");
    Advice { sentence, command: STATUS.to_owned() }
}

/// A reply as it was stored. `None` for text that is none, and for our own words.
fn parse(text: &str) -> Option<Reply> {
    if text.contains(OURS) {
        return None;
    }
    let mut parser = ReplyParser::new();
    parser.feed(text.replace('\n', "\r\n").as_bytes());
    parser.feed(b"\r\n");
    parser.next_reply().ok().flatten()
}

/// Whether this reply was made here, in place of one that never came.
pub(super) fn is_ours(reply: &Reply) -> bool {
    reply.lines().iter().any(|line| line.contains(OURS))
}

/// Whom a reply says the mailbox may not send as. It comes from the network and goes into a command: nothing but a plain address.
fn sender_in(reply: &str) -> Option<&str> {
    let (_, rest) = reply.split_once("not allowed to send as ")?;
    rest.split([';', ' ', '\n']).next().filter(|address| is_plain(address))
}

/// Whether an address can stand in a command whatever shell reads it.
fn is_plain(address: &str) -> bool {
    let is_harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+' | '@');
    let is_address = address.len() <= 254 && address.matches('@').count() == 1 && address.chars().all(is_harmless);
    is_address && !address.starts_with(['@', '-']) && !address.ends_with('@')
}

/// What of a reply is compared.
struct Said<'a> {
    reply: &'a Reply,
    /// Folded.
    text: String,
}

impl<'a> Said<'a> {
    fn of(reply: &'a Reply) -> Self {
        Self { reply, text: folded(&joined(reply)) }
    }
}

/// The lines of a reply as one, its enhanced code only once.
fn joined(reply: &Reply) -> String {
    let enhanced = reply.enhanced().map(|code| format!("{code} ")).unwrap_or_default();
    let lines = reply.lines().iter().enumerate();
    let lines = lines.map(|(n, line)| if n == 0 { line } else { line.strip_prefix(enhanced.as_str()).unwrap_or(line) });
    lines.map(str::trim).collect::<Vec<_>>().join(" ")
}

/// Lower case, without blanks (Exchange wraps where it likes) and without host names in brackets (`[Hostname=…]`, `[host time session]`).
fn folded(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('[') {
        let end = rest[open..].find(']').map(|close| open + close + 1);
        folded.push_str(&rest[..open]);
        match end {
            // What is in these is a name of a machine or a domain; other brackets hold words.
            Some(end) if rest[open..end].contains('.') => rest = &rest[end..],
            _ => {
                folded.push('[');
                rest = &rest[open + 1..];
            }
        }
    }
    folded.push_str(rest);
    folded.retain(|c| !c.is_whitespace());
    folded.make_ascii_lowercase();
    folded
}

fn step(phase: ReplyPhase) -> Step {
    match phase {
        ReplyPhase::Connect => Step::Greeting,
        ReplyPhase::Ehlo => Step::Ehlo,
        ReplyPhase::StartTls => Step::StartTls,
        ReplyPhase::Auth => Step::Auth,
        ReplyPhase::Mail => Step::Mail,
        ReplyPhase::Rcpt => Step::Rcpt,
        ReplyPhase::Data => Step::Data,
        ReplyPhase::DataEnd => Step::DataEnd,
    }
}

fn scope(scope: ReplyScope) -> Scope {
    match scope {
        ReplyScope::Recipient => Scope::Recipient,
        ReplyScope::Message => Scope::Message,
        ReplyScope::Connection => Scope::Connection,
        ReplyScope::Account => Scope::Account,
        ReplyScope::Tenant => Scope::Tenant,
    }
}

fn class(class: ReplyClass) -> Class {
    match class {
        ReplyClass::Later => Class::Later,
        ReplyClass::Refused => Class::Refused,
        ReplyClass::Held(cause) => Class::Held(match cause {
            ReplyCause::Login => HoldCause::Login,
            ReplyCause::Quota => HoldCause::Quota,
            ReplyCause::Blocked => HoldCause::Blocked,
            ReplyCause::MailboxFull => HoldCause::MailboxFull,
            ReplyCause::Permission => HoldCause::Permission,
            ReplyCause::Connection => HoldCause::Connection,
        }),
    }
}

fn throttle(throttle: ReplyThrottle) -> Throttle {
    match throttle {
        ReplyThrottle::Rate => Throttle::Rate,
        ReplyThrottle::Sessions => Throttle::Sessions,
    }
}
