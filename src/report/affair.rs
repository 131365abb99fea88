//! What a notice is about: a message, and those of its recipients that something has become of. Values alone.

use std::time::Duration;

use jiff::Timestamp;
use mail_parser::{HeaderName, MessageParser};

use crate::message::{Address, EnvelopeId, Headers, Notify, OriginalRecipient, QueueId, Return, date};
use crate::store::Stored;

/// A message in a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Affair {
    /// Its name.
    pub id: QueueId,
    /// Whose queue it waits or waited in.
    pub account: Address,
    /// Which program handed it in.
    pub app: String,
    /// As MAIL FROM said.
    pub sender: Option<Address>,
    /// When it came.
    pub received_at: Timestamp,
    /// How long it has been tried, in the sense of `give_up_after`.
    pub tried_for: Duration,
    /// Its subject, decoded, in one line; empty if it has none.
    pub subject: String,
    /// Whether subjects may be written down, as `record_subjects` says.
    pub subject_is_recorded: bool,
    /// When it was written, as its header says, or when it came.
    pub date: String,
    /// With its angle brackets, if it has one that can be repeated.
    pub message_id: Option<String>,
    /// The sender's own name for it (ENVID), decoded.
    pub envid: Option<String>,
    /// How much of it the sender wants back.
    pub ret: Option<Return>,
    /// Whom it is about.
    pub parties: Vec<Party>,
}

/// A recipient in a notice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Party {
    /// The place in the envelope, from 0.
    pub index: usize,
    /// The address.
    pub address: Address,
    /// Of what the sender wants to hear, if it said so.
    pub notify: Option<Notify>,
    /// Whom it was for in the first place (ORCPT), decoded.
    pub orcpt: Option<String>,
    /// The last answer, word for word; empty if there was none.
    pub reply: String,
}

impl Affair {
    /// About the recipients at these places. `headers` is the header of the message as it came.
    pub fn of(stored: &Stored, headers: &Headers<'_>, places: &[usize]) -> Self {
        let line = |name| {
            let field = headers.first(name)?;
            let text = str::from_utf8(field.value).ok()?;
            let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
            Some(line).filter(|line| (1..=250).contains(&line.len()) && line.is_ascii())
        };
        let is_id = |id: &String| id.starts_with('<') && id.ends_with('>') && !id.contains(' ');
        let party = |&index: &usize| {
            let (said, row) = (stored.envelope.recipients.get(index)?, stored.recipients.get(index)?);
            Some(Party {
                index,
                address: row.address.clone(),
                notify: said.notify,
                orcpt: said.orcpt.as_ref().map(OriginalRecipient::decoded),
                reply: row.reply.clone().unwrap_or_default(),
            })
        };
        Self {
            id: stored.id,
            account: stored.account.clone(),
            app: stored.app.clone(),
            sender: stored.envelope.sender.clone(),
            received_at: stored.received_at,
            tried_for: stored.tried_for,
            subject: headers.first("Subject").map(|field| decoded(field.value)).unwrap_or_default(),
            subject_is_recorded: stored.subject.is_some(),
            date: line("Date").unwrap_or_else(|| date(stored.received_at)),
            message_id: line("Message-ID").filter(is_id),
            envid: stored.envelope.envid.as_ref().map(EnvelopeId::decoded),
            ret: stored.envelope.ret,
            parties: places.iter().filter_map(party).collect(),
        }
    }

    /// What was said about the first of its recipients: messages with an answer of the same kind are gathered.
    pub fn shape(&self) -> String {
        self.parties.first().map(|party| shape(&party.reply)).unwrap_or_default()
    }
}

/// An answer without what differs from mail to mail: codes and words stay; addresses, hosts, numbers and what stands in brackets go.
pub fn shape(reply: &str) -> String {
    let mut depth = 0_u32;
    let mut outside = String::new();
    for c in reply.chars() {
        match c {
            '[' | '<' | '(' => depth += 1,
            ']' | '>' | ')' => depth = depth.saturating_sub(1),
            c if depth == 0 => outside.push(c),
            _ => {}
        }
    }
    let is_code = |n: usize, word: &str| n < 2 && word.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '-'));
    let is_word = |word: &str| word.chars().all(|c| c.is_alphabetic() || matches!(c, '.' | ',' | ':' | ';' | '\''));
    let has_letters = |word: &str| word.contains(char::is_alphabetic);
    let is_name = |word: &str| word.trim_matches(['.', ',', ':', ';']).contains(['.', '@']);
    let words = outside.split_whitespace().enumerate();
    let kept = words.filter(|&(n, word)| is_code(n, word) || has_letters(word) && is_word(word) && !is_name(word));
    let kept: Vec<String> = kept.map(|(_, word)| word.to_lowercase()).take(12).collect();
    kept.join(" ").chars().take(100).collect()
}

/// A header's value for people: encoded words decoded, in one line, not longer than anybody would read.
fn decoded(value: &[u8]) -> String {
    let field = [b"Subject:", value, b"\r\n\r\n"].concat();
    let parser = MessageParser::new().header_text(HeaderName::Subject);
    let parsed = parser.parse_headers(&field);
    let text = parsed.as_ref().and_then(|parsed| parsed.subject()).unwrap_or_default();
    let line = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    line.collect::<Vec<_>>().join(" ").chars().take(200).collect()
}

#[cfg(test)]
pub mod samples {
    //! Messages that something has become of.

    use std::time::Duration;

    use jiff::Timestamp;

    use crate::message::{Envelope, QueueId};
    use crate::store::{Incoming, MessageState, RecipientState, Stored, samples};

    /// What Exchange says of an address that it does not know.
    pub const UNKNOWN: &str =
        "550 5.4.1 Recipient address rejected: Access denied. [AM5EUR.prod.outlook.com 2026-11-21T09:00:00.123Z]";

    /// Second `n` of the tests' time.
    pub fn at(n: i64) -> Timestamp {
        let start: Timestamp = "2026-11-21T09:00:00Z".parse().unwrap();
        start + Duration::from_secs(u64::try_from(n).unwrap())
    }

    /// A message all recipients of which were refused.
    pub fn stored(n: u32, sender: Option<&str>, recipients: &[&str]) -> Stored {
        let incoming = samples::incoming(n, recipients);
        let envelope = Envelope { sender: sender.map(samples::address), ..incoming.envelope };
        let id = QueueId::new(at(0), n);
        let mut stored = samples::accepted(Incoming { id, received_at: at(0), envelope, ..incoming });
        (stored.state, stored.tries) = (MessageState::Dead, 1);
        for row in &mut stored.recipients {
            (row.state, row.reply) = (RecipientState::Refused, Some(UNKNOWN.to_owned()));
        }
        stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_one_kind_have_one_shape() {
        let one = shape(samples::UNKNOWN);
        assert_eq!(one, "550 5.4.1 recipient address rejected: access denied.");
        let other = "550 5.4.1 Recipient address rejected: Access denied. [DB8EUR05FT020.eop-eur05.prod.protection.outlook.com 11 Z]";
        assert_eq!(shape(other), one);
        assert_eq!(shape("550 5.1.1 <a@b.example>: unknown user a@b.example"), "550 5.1.1 unknown user");
        assert_ne!(shape("550 5.1.10 Recipient not found"), one);
        assert_eq!(shape(""), "");
    }

    #[test]
    fn what_stands_in_the_header_is_read_for_people() {
        let header = b"Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n an alle\r\nDate: Sat,  21 Nov 2026\r\n 09:00:00 +0000\r\nMessage-ID: <a@b>\r\n\r\n";
        let stored = samples::stored(1, Some("jane@school.org"), &["a@example.com", "b@example.com"]);
        let affair = Affair::of(&stored, &Headers::scan(header), &[1, 7]);
        assert_eq!(affair.subject, "Grüße an alle");
        assert_eq!(affair.date, "Sat, 21 Nov 2026 09:00:00 +0000");
        assert_eq!(affair.message_id.as_deref(), Some("<a@b>"));
        assert_eq!(affair.parties.len(), 1);
        let bare = Affair::of(&stored, &Headers::scan(b"Message-ID: not one\r\n\r\n"), &[0]);
        assert_eq!((bare.message_id, bare.subject.as_str()), (None, ""));
        assert_eq!(bare.date, "Sat, 21 Nov 2026 09:00:00 +0000");
    }
}
