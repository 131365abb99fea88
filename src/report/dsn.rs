//! Writes delivery status notices: `multipart/report` (RFC 6522) of a text for people, `message/delivery-status` for programs (RFC 3464), and the
//! mail itself or its header. Pure.

use std::fmt::Write as _;
use std::time::SystemTime;

use bytes::Bytes;
use jiff::Timestamp;
use lettre::message::header::{ContentTransferEncoding, ContentType};
use lettre::message::{Body, MultiPart, SinglePart};

use super::affair::{Affair, Party, shape};
use super::meaning::{meaning, status};
use super::plan::Kind;
use crate::message::{Address, QueueId, date, typed_address};
use crate::own_mail::{AutoSubmitted, mailbox, plain};

/// How many mails the text for people names.
const SHOWN: usize = 50;
/// How many recipients the part for programs names.
const NAMED: usize = 100;
/// RFC 5322 section 2.1.1: the longest line in octets.
const LONGEST_LINE: usize = 998;

/// A notice to be written.
#[derive(Clone, Debug)]
pub struct Notice<'a> {
    /// What it says.
    pub kind: Kind,
    /// Its own name in the queue.
    pub id: QueueId,
    /// Now.
    pub at: Timestamp,
    /// To whom.
    pub to: &'a Address,
    /// The mailbox it leaves through.
    pub from: &'a Address,
    /// The relay's name.
    pub relay: &'a str,
    /// The server that answered.
    pub remote: &'a str,
    /// What it is about: one mail, or several that are gathered.
    pub affairs: &'a [Affair],
    /// Until when a delayed mail is tried at least.
    pub retry_until: Option<Timestamp>,
    /// How many days a dead letter is kept.
    pub kept_days: u32,
    /// What comes back of the mail, if it can be shown.
    pub original: Option<Original>,
}

/// What comes back of a mail. Its lines end in CRLF and are not longer than a mail's may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Original {
    /// All of it.
    Whole(Vec<u8>),
    /// Its header.
    Header(Vec<u8>),
}

impl Original {
    /// Out of the first octets of a stored mail; `whole` says that these are all of it, and wanted. `None` if it cannot stand in another mail.
    pub fn of(start: &[u8], whole: bool) -> Option<Self> {
        let all = with_line_ends(start);
        if whole && is_sound(&all) {
            return Some(Self::Whole(all));
        }
        let headers = crate::message::Headers::scan(start);
        let header = with_line_ends(&start[headers.start()..headers.end()]);
        (!header.is_empty() && is_sound(&header)).then_some(Self::Header(header))
    }
}

fn is_sound(text: &[u8]) -> bool {
    !text.contains(&0) && text.split(|&octet| octet == b'\n').all(|line| line.len() <= LONGEST_LINE)
}

/// Bare CR and LF become CRLF, as they do when the mail leaves.
fn with_line_ends(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut octets = text.iter().peekable();
    while let Some(&octet) = octets.next() {
        match octet {
            b'\r' => {
                octets.next_if(|&&next| next == b'\n');
                out.extend_from_slice(b"\r\n");
            }
            b'\n' => out.extend_from_slice(b"\r\n"),
            octet => out.push(octet),
        }
    }
    out
}

/// The notice as a mail, and its subject.
///
/// # Errors
///
/// In words, when an address cannot stand in a header.
pub fn compose(notice: &Notice<'_>) -> Result<(Bytes, String), String> {
    let subject = subject(notice);
    let mut mail = lettre::Message::builder()
        .from(mailbox(Some("Mail Delivery System"), notice.from)?)
        .to(mailbox(None, notice.to)?)
        .subject(&subject)
        .date(SystemTime::from(notice.at))
        .message_id(Some(format!("<{}@{}>", notice.id, notice.from.domain())))
        .header(AutoSubmitted::Replied);
    if let [Affair { message_id: Some(id), .. }] = notice.affairs {
        mail = mail.in_reply_to(id.clone()).references(id.clone());
    }
    let parsed = |text: &str| ContentType::parse(text).map_err(|error| format!("{text}: {error}"));
    // The id is no one else's, and the sender cannot know it beforehand.
    let boundary = format!("notice.{}.{:08x}", notice.id, rand::random::<u32>());
    let report = parsed(&format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\""))?;
    let people = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(plain(&text(notice)));
    let programs = SinglePart::builder()
        .header(parsed("message/delivery-status")?)
        .body(Body::dangerous_pre_encoded(fields(notice).into_bytes(), ContentTransferEncoding::SevenBit));
    let mut parts = MultiPart::builder().header(report).singlepart(people).singlepart(programs);
    if let Some(original) = &notice.original {
        let (kind, bytes) = match original {
            Original::Whole(bytes) => ("message/rfc822", bytes),
            Original::Header(bytes) => ("text/rfc822-headers", bytes),
        };
        let encoding =
            if bytes.is_ascii() { ContentTransferEncoding::SevenBit } else { ContentTransferEncoding::EightBit };
        let body = Body::dangerous_pre_encoded(bytes.clone(), encoding);
        parts = parts.singlepart(SinglePart::builder().header(parsed(kind)?).body(body));
    }
    let mail = mail.multipart(parts).map_err(|error| format!("the notice could not be composed: {error}"))?;
    Ok((Bytes::from(mail.formatted()), subject))
}

fn subject(notice: &Notice<'_>) -> String {
    let [affair] = notice.affairs else {
        let what = if notice.kind == Kind::Failed { "mails were not delivered" } else { "mails are delayed, not lost" };
        return format!("{} {what}", notice.affairs.len());
    };
    let what = match (notice.kind, &affair.parties[..]) {
        (Kind::Delayed, _) => "Delayed, not lost".to_owned(),
        (Kind::Failed, [only]) => format!("Not delivered to {}", only.address),
        (Kind::Failed, parties) => format!("Not delivered to {} recipients", parties.len()),
    };
    if affair.subject.is_empty() { what } else { format!("{what}: {}", affair.subject) }
}

/// For people.
fn text(notice: &Notice<'_>) -> String {
    let one = notice.affairs.len() == 1;
    let mut text = format!("This is the mail system of {}. ", notice.relay);
    text.push_str(match (notice.kind, one) {
        (Kind::Failed, true) => "A mail of yours could not be delivered:\n",
        (Kind::Failed, false) => "Mails of yours could not be delivered:\n",
        (Kind::Delayed, true) => {
            "A mail of yours has not been delivered yet. It is not lost,\nand you need not send it again:\n"
        }
        (Kind::Delayed, false) => {
            "Mails of yours have not been delivered yet. They are not\nlost, and you need not send them again:\n"
        }
    });
    for affair in notice.affairs.iter().take(SHOWN) {
        about(&mut text, notice.kind, affair, one);
    }
    if let Some(more) = notice.affairs.len().checked_sub(SHOWN).filter(|&more| more > 0) {
        let _ = write!(text, "\n... and {more} more.\n");
    }
    // Gathered mails have one cause.
    if let Some(first) = notice.affairs.first().filter(|_| !one && notice.kind == Kind::Failed) {
        explain(&mut text, first.parties.first().map_or("", |party| &party.reply));
    }
    closing(&mut text, notice);
    text
}

fn about(text: &mut String, kind: Kind, affair: &Affair, in_full: bool) {
    let subject = if affair.subject.is_empty() { "(none)" } else { &affair.subject };
    let label = if kind == Kind::Failed { "Did not reach:" } else { "Waits for:    " };
    let _ = write!(text, "\n    Subject:       {subject}\n    Written:       {}\n", affair.date);
    let _ = writeln!(text, "    {label} {}", named(&affair.parties.iter().collect::<Vec<_>>()));
    let answers = by_answer(&affair.parties);
    for parties in &answers {
        let reply = parties.first().map_or("", |party| &party.reply);
        let whom = if answers.len() > 1 { format!(" about {}", named(parties)) } else { String::new() };
        match (kind, reply.is_empty()) {
            (Kind::Delayed, true) => text.push_str("\nNobody has refused it; it waits in its queue.\n"),
            (Kind::Failed, true) => text.push_str("\nNothing was answered for as long as it was tried.\n"),
            (_, false) => {
                let _ = write!(text, "\nThe mail server said{whom}:\n\n");
                for line in reply.lines() {
                    let _ = writeln!(text, "    {}", line.replace(char::is_control, " "));
                }
            }
        }
        if in_full && kind == Kind::Failed {
            explain(text, reply);
        }
    }
}

/// Recipients of whom the same was said, in the order in which it was.
fn by_answer(parties: &[Party]) -> Vec<Vec<&Party>> {
    let mut answers: Vec<(String, Vec<&Party>)> = Vec::new();
    for party in parties {
        let shape = shape(&party.reply);
        match answers.iter_mut().find(|(known, _)| *known == shape) {
            Some((_, parties)) => parties.push(party),
            None => answers.push((shape, vec![party])),
        }
    }
    answers.into_iter().map(|(_, parties)| parties).take(SHOWN).collect()
}

fn named(parties: &[&Party]) -> String {
    let mut names: Vec<&str> = parties.iter().take(SHOWN).map(|party| party.address.as_str()).collect();
    if parties.len() > SHOWN {
        names.push("...");
    }
    names.join(", ")
}

fn explain(text: &mut String, reply: &str) {
    let meaning = meaning(reply);
    let _ = write!(text, "\nWhat it means: {}\nWhat you can do: {}\n", meaning.what, meaning.todo);
}

fn closing(text: &mut String, notice: &Notice<'_>) {
    let Some(last) = notice.affairs.last() else { return };
    match notice.kind {
        Kind::Failed => {
            let _ = write!(
                text,
                "\nFor the administrator of {relay}: the mail is kept there for {days} days.\n\n    \
                 xoauth2-relay queue show {id}     tells all that happened to it\n    \
                 xoauth2-relay queue retry {id}    tries it once more\n",
                relay = notice.relay,
                days = notice.kept_days,
                id = last.id,
            );
        }
        Kind::Delayed => {
            if let Some(until) = notice.retry_until {
                let _ = write!(text, "\nIt is tried until {} at least.", date(until));
            }
            text.push_str("\nYou will hear again only if it cannot be delivered in the end.\n");
        }
    }
    text.push_str("\n-- \nWritten by a program (xoauth2-relay). Nobody reads answers to this mail.\n");
}

/// For programs: a group of fields about the mail, then one for each recipient (RFC 3464 section 2).
fn fields(notice: &Notice<'_>) -> String {
    let mut out = String::new();
    if let [affair] = notice.affairs {
        if let Some(envid) = &affair.envid {
            field(&mut out, "Original-Envelope-Id", envid);
        }
        field(&mut out, "Reporting-MTA", &format!("dns; {}", notice.relay));
        field(&mut out, "Arrival-Date", &date(affair.received_at));
        field(&mut out, "X-Xoauth2-Relay-Message", &affair.id.to_string());
    } else {
        field(&mut out, "Reporting-MTA", &format!("dns; {}", notice.relay));
    }
    let mut named = std::collections::BTreeSet::new();
    // Of a recipient that several mails were for the last answer counts.
    let parties = notice.affairs.iter().rev().flat_map(|affair| &affair.parties);
    for party in parties.filter(|party| named.insert(party.address.key())).take(NAMED) {
        recipient(&mut out, notice, party);
    }
    out
}

fn recipient(out: &mut String, notice: &Notice<'_>, party: &Party) {
    out.push_str("\r\n");
    if let Some(orcpt) = &party.orcpt {
        field(out, "Original-Recipient", orcpt);
    }
    field(out, "Final-Recipient", &typed_address(&party.address));
    field(out, "Action", if notice.kind == Kind::Failed { "failed" } else { "delayed" });
    // A mail that waits has not failed, whatever the last answer was.
    let status = match status(&party.reply) {
        status if notice.kind == Kind::Delayed && !status.starts_with('4') => "4.4.7".to_owned(),
        status => status,
    };
    field(out, "Status", &status);
    let is_answer = party.reply.len() > 3 && party.reply.as_bytes()[..3].iter().all(u8::is_ascii_digit);
    if is_answer && !party.reply.contains("xoauth2-relay:") {
        field(out, "Remote-MTA", &format!("dns; {}", notice.remote));
        field(out, "Diagnostic-Code", &format!("smtp; {}", party.reply));
    } else if !party.reply.is_empty() {
        field(out, "Diagnostic-Code", &format!("x-xoauth2-relay; {}", party.reply));
    }
    if let Some(until) = notice.retry_until.filter(|_| notice.kind == Kind::Delayed) {
        field(out, "Will-Retry-Until", &date(until));
    }
}

/// A field in printable ASCII, folded between its words; nothing in the value can end it.
fn field(out: &mut String, name: &str, value: &str) {
    const WIDTH: usize = 76;
    const LONGEST_WORD: usize = 900;
    let _ = write!(out, "{name}:");
    let mut column = name.len() + 1;
    for word in value.split_whitespace() {
        let printable = |c: char| if c.is_ascii_graphic() { c } else { '?' };
        let word: String = word.chars().map(printable).take(LONGEST_WORD).collect();
        if column + 1 + word.len() > WIDTH && column > name.len() + 1 {
            out.push_str("\r\n");
            column = 0;
        }
        let _ = write!(out, " {word}");
        column += 1 + word.len();
    }
    out.push_str("\r\n");
}

#[cfg(test)]
mod tests;
