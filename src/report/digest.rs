//! Writes the postmaster's digest: what no sender would read, by cause, with what to type. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use bytes::Bytes;
use jiff::Timestamp;
use lettre::message::header::ContentType;

use super::affair::Affair;
use crate::message::{Address, QueueId};
use crate::own_mail::{AutoSubmitted, mailbox, plain};

/// How many causes are told apart.
const CAUSES: usize = 20;
/// How many recipients are named for each.
const EXAMPLES: usize = 10;

/// A digest to be written.
#[derive(Clone, Debug)]
pub struct Digest<'a> {
    /// Its own name in the queue.
    pub id: QueueId,
    /// Now.
    pub at: Timestamp,
    /// The postmaster.
    pub to: &'a Address,
    /// The mailbox it leaves through.
    pub from: &'a Address,
    /// The relay's name.
    pub relay: &'a str,
    /// What it is about, each with the reason why its sender is not told.
    pub affairs: &'a [(Affair, &'static str)],
    /// How many days a dead letter is kept.
    pub kept_days: u32,
}

/// The digest as a mail, and its subject.
///
/// # Errors
///
/// In words, when an address cannot stand in a header.
pub fn compose(digest: &Digest<'_>) -> Result<(Bytes, String), String> {
    let mails = match digest.affairs.len() {
        1 => "1 mail was".to_owned(),
        n => format!("{n} mails were"),
    };
    let subject = format!("[xoauth2-relay] {mails} not delivered, and no sender would read of it");
    let mail = lettre::Message::builder()
        .from(mailbox(Some("xoauth2-relay"), digest.from)?)
        .to(mailbox(None, digest.to)?)
        .subject(&subject)
        .date(SystemTime::from(digest.at))
        .message_id(Some(format!("<{}@{}>", digest.id, digest.from.domain())))
        .header(AutoSubmitted::Generated)
        .header(ContentType::TEXT_PLAIN)
        .body(plain(&text(digest, &mails)))
        .map_err(|error| format!("the digest could not be composed: {error}"))?;
    Ok((Bytes::from(mail.formatted()), subject))
}

fn text(digest: &Digest<'_>, mails: &str) -> String {
    let mut text =
        format!("{mails} refused for good or given up on at {}.\nNo sender was told of it:\n\n", digest.relay);
    for (why, mails) in counted(digest.affairs.iter().map(|(_, why)| (*why).to_owned())) {
        let _ = writeln!(text, "    {mails:>5}  {why}");
    }
    let mut causes: BTreeMap<String, Vec<&Affair>> = BTreeMap::new();
    for (affair, _) in digest.affairs {
        causes.entry(affair.shape()).or_default().push(affair);
    }
    let mut causes: Vec<Vec<&Affair>> = causes.into_values().collect();
    causes.sort_by_key(|affairs| std::cmp::Reverse(affairs.len()));
    for affairs in causes.iter().take(CAUSES) {
        cause(&mut text, affairs);
    }
    if let Some(more) = causes.len().checked_sub(CAUSES).filter(|&more| more > 0) {
        let _ = write!(text, "\n... and {more} more causes.\n");
    }
    let example = digest.affairs.first().map_or_else(|| "ID".to_owned(), |(affair, _)| affair.id.to_string());
    let _ =
        write!(text, "\nThe mails are kept as dead letters for {} days. On {}:\n\n", digest.kept_days, digest.relay);
    for (command, does) in [
        ("list".to_owned(), "lists them"),
        (format!("show {example}"), "tells all that happened to one"),
        (format!("retry {example}"), "tries it once more"),
    ] {
        let _ = writeln!(text, "    xoauth2-relay queue {command:<19}  {does}");
    }
    text.push_str("\n-- \nSent by xoauth2-relay, because postmaster in its configuration says so.\n");
    text
}

fn cause(text: &mut String, affairs: &[&Affair]) {
    let reply = affairs.first().and_then(|affair| affair.parties.first()).map_or("", |party| &party.reply);
    let said = if reply.is_empty() { "(nothing was answered)" } else { reply };
    let _ = match affairs.len() {
        1 => write!(text, "\n1 mail, with this answer:\n\n"),
        mails => write!(text, "\n{mails} mails, the first of them with this answer:\n\n"),
    };
    for line in said.lines() {
        let _ = writeln!(text, "    {}", line.replace(char::is_control, " "));
    }
    text.push('\n');
    let parties: Vec<_> =
        affairs.iter().flat_map(|affair| affair.parties.iter().map(move |party| (affair, party))).collect();
    for (affair, party) in parties.iter().take(EXAMPLES) {
        let sender = affair.sender.as_ref().map_or("<>", Address::as_str);
        let _ = write!(text, "    {} to {} from {sender} (app {})", affair.id, party.address, affair.app);
        if affair.subject_is_recorded && !affair.subject.is_empty() {
            let _ = write!(text, ": {}", affair.subject);
        }
        text.push('\n');
    }
    if let Some(more) = parties.len().checked_sub(EXAMPLES).filter(|&more| more > 0) {
        let _ = writeln!(text, "    ... and {more} more");
    }
}

/// How often each of them is there, the most frequent first.
fn counted(all: impl Iterator<Item = String>) -> Vec<(String, usize)> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for one in all {
        *counts.entry(one).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;
    use crate::report::affair::samples::{at, stored};

    fn written(affairs: &[(Affair, &'static str)]) -> String {
        let address = |text| Address::parse(text).unwrap();
        let digest = Digest {
            id: QueueId::from_number(1 << 40),
            at: at(60),
            to: &address("it@contoso.com"),
            from: &address("lms@contoso.com"),
            relay: "relay.contoso.com",
            affairs,
            kept_days: 30,
        };
        String::from_utf8(compose(&digest).unwrap().0.to_vec()).unwrap().replace("\r\n", "\n")
    }

    fn affair(n: u32, reply: &str) -> (Affair, &'static str) {
        let mut stored = stored(n, Some("noreply@contoso.com"), &[&format!("gone{n}@example.com")]);
        stored.recipients[0].reply = Some(reply.to_owned());
        let why = if n.is_multiple_of(2) { "nobody reads the sender" } else { "a program wrote it" };
        (Affair::of(&stored, &Headers::scan(b"Subject: hello\r\n\r\n"), &[0]), why)
    }

    #[test]
    fn causes_are_counted_and_recipients_named_as_far_as_one_reads() {
        let mut affairs: Vec<_> = (0..13).map(|n| affair(n, "550 5.1.1 no such user [x]")).collect();
        affairs.push(affair(99, "552 5.2.2 full"));
        let mail = written(&affairs);
        for line in [
            "Subject: [xoauth2-relay] 14 mails were not delivered, and no sender would",
            "Auto-Submitted: auto-generated",
            "        7  nobody reads the sender",
            "13 mails, the first of them with this answer:",
            "    550 5.1.1 no such user [x]",
            "    ... and 3 more",
            "1 mail, with this answer:",
        ] {
            assert!(mail.lines().any(|found| found == line), "{line:?} is not in\n{mail}");
        }
        assert!(mail.contains("to gone99@example.com from noreply@contoso.com (app moodle): hello"), "{mail}");
    }

    #[test]
    fn a_flood_of_causes_is_cut() {
        let words = |n: u32| {
            char::from(b'a' + u8::try_from(n % 26).unwrap()).to_string().repeat(usize::try_from(n).unwrap() + 1)
        };
        let affairs: Vec<_> = (0..25).map(|n| affair(n, &format!("550 5.1.1 {}", words(n)))).collect();
        assert!(written(&affairs).contains("... and 5 more causes."));
    }
}
