//! What a message looks like when it leaves: `Received` in front, what is missing added, the sender made one that is permitted.
//!
//! A pure function of what was stored: a second attempt sends the same bytes, with the same `Message-ID`. No field is decoded,
//! encoded or wrapped again; apart from what [`Rewritten::notes`] tells and the added fields, every byte leaves as it came.

use jiff::Timestamp;

use super::sender::{FromEdit, rewrite_from, rewrite_sender};
use super::{Address, Envelope, Field, Headers, Mailboxes, Permitted, QueueId, SenderPolicy, Trace, date, received};

/// How much of a message is looked at: a header section longer than this leaves with its end as it came.
pub const HEADER_LIMIT: usize = 256 * 1024;
/// So many of a diverted message's recipients are named in its header.
const ORIGINALS_NAMED: usize = 100;

/// What rewriting goes by.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// What is done about a sender that is not permitted.
    pub sender: SenderPolicy,
    /// The senders that are.
    pub permitted: Permitted<'a>,
    /// Whom it was for, if it goes to somebody else instead: named in `X-Original-To`.
    pub originals: &'a [Address],
    /// This machine, for `Received`.
    pub hostname: &'a str,
    /// The last hop.
    pub trace: &'a Trace,
    /// As it was said.
    pub envelope: &'a Envelope,
    /// The message's name in the queue.
    pub id: QueueId,
    /// When its last byte came: the date of `Received`, and of a message without one.
    pub received_at: Timestamp,
}

/// The beginning of a message as it leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    /// The reverse path; `None` is the null sender.
    pub mail_from: Option<Address>,
    /// What is sent first, in the place of the stored message's first `resume_at` octets.
    pub head: Vec<u8>,
    /// From here on the stored message is sent untouched.
    pub resume_at: usize,
    /// The addresses other than the mailbox that it leaves as, in MAIL FROM and `From`: Exchange has to permit each.
    pub senders: Vec<Address>,
    /// What was changed, for the journal.
    pub notes: Vec<String>,
}

/// Rewrites the beginning of a message.
///
/// `start` holds its first octets, [`HEADER_LIMIT`] or all of them; `size` is the length of the whole message.
pub fn rewrite(start: &[u8], size: u64, policy: &Policy<'_>) -> Rewritten {
    let headers = Headers::scan(start);
    let section = Section::of(&headers, start, size);
    let mut notes = Vec::new();
    let mail_from = reverse_path(policy, &mut notes);
    let edits = Edits::of(section.fields, policy, &mut notes);

    let smtputf8 = policy.envelope.smtputf8;
    let mut head = received(policy.trace, policy.hostname, smtputf8, policy.id, policy.received_at).into_bytes();
    for (name, value) in edits.added(section.fields, section.whole, policy, &mut notes) {
        head.extend_from_slice(&[name.as_bytes(), b":", &value, b"\r\n"].concat());
    }
    head.extend_from_slice(original_to(policy.originals).as_bytes());
    for field in section.fields {
        edits.write(field, start, &mut head);
    }
    if headers.start() > 0 {
        notes.push("the line of a mailbox file in front of the header was left out".to_owned());
    }
    if section.needs_empty_line {
        head.extend_from_slice(b"\r\n");
        notes.push("an empty line was put between header and text".to_owned());
    }
    if !section.whole {
        notes.push(format!("the header is longer than {} KiB: its end left as it came", HEADER_LIMIT / 1024));
    }
    let senders = edits.senders(section.fields, mail_from.as_ref(), policy.permitted.mailbox);
    Rewritten { mail_from, head, resume_at: section.end, senders, notes }
}

/// The reverse path that Exchange takes: bounces come back to a mailbox that exists.
fn reverse_path(policy: &Policy<'_>, notes: &mut Vec<String>) -> Option<Address> {
    let mailbox = policy.permitted.mailbox;
    match &policy.envelope.sender {
        sender if policy.sender == SenderPolicy::Keep => return sender.clone(),
        Some(sender) if policy.permitted.allows(sender) => return Some(sender.clone()),
        Some(sender) => notes.push(format!("MAIL FROM <{sender}> became <{mailbox}>")),
        None => notes.push(format!("MAIL FROM <> became <{mailbox}>")),
    }
    Some(mailbox.clone())
}

/// Whom a diverted message was for: a field for each, in ASCII, since not every server takes a header that is not (RFC 6533 section 3 has
/// this form of an address).
fn original_to(originals: &[Address]) -> String {
    let mut fields = String::new();
    for original in originals.iter().take(ORIGINALS_NAMED) {
        let ascii = original
            .as_str()
            .chars()
            .map(|c| if c.is_ascii() { c.to_string() } else { format!("\\x{{{:X}}}", u32::from(c)) });
        fields.extend(["X-Original-To: ".to_owned(), ascii.collect(), "\r\n".to_owned()]);
    }
    if let Some(more) = originals.len().checked_sub(ORIGINALS_NAMED).filter(|&more| more > 0) {
        fields.extend(["X-Original-To-More: ", &more.to_string(), "\r\n"]);
    }
    fields
}

/// The part of the header that is looked at.
struct Section<'h, 'a> {
    fields: &'h [Field<'a>],
    end: usize,
    /// It is the whole header.
    whole: bool,
    /// There is no header, and text follows without an empty line in front of it.
    needs_empty_line: bool,
}

impl<'h, 'a> Section<'h, 'a> {
    fn of(headers: &'h Headers<'a>, start: &[u8], size: u64) -> Self {
        let (fields, end) = (headers.fields(), headers.end());
        let more = u64::try_from(start.len()).is_ok_and(|seen| seen < size);
        let behind = &start[end..];
        let line_ends = behind.iter().any(|b| matches!(b, b'\r' | b'\n'));
        match fields.split_last() {
            // The last field may go on in what was not read.
            Some((last, fields)) if more && behind.is_empty() => {
                Self { fields, end: last.span.start, whole: false, needs_empty_line: false }
            }
            Some(_) if more && !line_ends => Self { fields, end, whole: false, needs_empty_line: false },
            _ => {
                // A line that is no field, in the middle of a header, is not ours to judge; only a message that has no header at all would
                // have its text taken for one.
                let needs_empty_line = fields.is_empty() && !matches!(behind.first(), None | Some(b'\r' | b'\n'));
                Self { fields, end, whole: true, needs_empty_line }
            }
        }
    }
}

/// What is done to the fields that are there.
struct Edits {
    from: Option<FromEdit>,
    /// New values of `Sender` fields, by the place of the old ones.
    senders: Vec<(usize, Vec<u8>)>,
    /// The place of the one `From` field that stays; `None`: all of them do.
    from_at: Option<usize>,
}

impl Edits {
    fn of(fields: &[Field<'_>], policy: &Policy<'_>, notes: &mut Vec<String>) -> Self {
        let first = fields.iter().find(|field| is(field, "From"));
        if policy.sender == SenderPolicy::Keep {
            return Self { from: first.map(|_| FromEdit::default()), senders: Vec::new(), from_at: None };
        }
        let from = first.map(|field| rewrite_from(field.value, policy.permitted));
        notes.extend(from.iter().filter_map(|edit| edit.note.clone()));
        let others = fields.iter().filter(|field| is(field, "From")).count().saturating_sub(1);
        if others > 0 {
            notes.push(format!("{others} more From left out: Exchange takes one"));
        }
        let mut senders = Vec::new();
        for field in fields.iter().filter(|field| is(field, "Sender")) {
            if let Some(value) = rewrite_sender(field.value, policy.permitted) {
                notes.push(format!("Sender became {}", policy.permitted.mailbox));
                senders.push((field.span.start, value));
            }
        }
        Self { from, senders, from_at: first.map(|field| field.span.start) }
    }

    /// The fields to put in front, with their values.
    fn added(
        &self,
        fields: &[Field<'_>],
        whole: bool,
        policy: &Policy<'_>,
        notes: &mut Vec<String>,
    ) -> Vec<(&'static str, Vec<u8>)> {
        let mailbox = policy.permitted.mailbox;
        let missing = |name| !fields.iter().any(|field| is(field, name));
        let mut added = Vec::new();
        match &self.from {
            None => added.push(("From", format!(" <{mailbox}>").into_bytes())),
            Some(FromEdit { reply_to: Some(value), .. }) if missing("Reply-To") => {
                added.push(("Reply-To", with_space(value)));
            }
            Some(FromEdit { needs_sender: true, .. }) if missing("Sender") => {
                added.push(("Sender", format!(" <{mailbox}>").into_bytes()));
            }
            Some(_) => {}
        }
        // In a header that was not seen to its end they may still come.
        if whole && missing("Date") {
            added.push(("Date", format!(" {}", date(policy.received_at)).into_bytes()));
        }
        if whole && missing("Message-ID") {
            added.push(("Message-ID", format!(" <{}@{}>", policy.id, mailbox.domain()).into_bytes()));
        }
        notes.extend(added.iter().map(|(name, _)| format!("{name} added")));
        added
    }

    /// A `From` field that stands behind another one.
    fn is_left_out(&self, field: &Field<'_>) -> bool {
        self.from_at.is_some_and(|at| at != field.span.start)
    }

    /// Whom the message says it is from as it leaves, the mailbox left aside.
    fn senders(&self, fields: &[Field<'_>], mail_from: Option<&Address>, mailbox: &Address) -> Vec<Address> {
        let mut senders: Vec<Address> = mail_from.cloned().into_iter().collect();
        for field in fields.iter().filter(|field| is(field, "From") && !self.is_left_out(field)) {
            let value = self.from.as_ref().and_then(|edit| edit.value.as_deref()).unwrap_or(field.value);
            senders.extend(Mailboxes::find(value).list.into_iter().map(|found| found.address));
        }
        senders.retain(|sender| sender != mailbox);
        senders.sort();
        senders.dedup();
        senders
    }

    /// The field as it leaves; nothing if it is left out.
    fn write(&self, field: &Field<'_>, message: &[u8], head: &mut Vec<u8>) {
        let value = if is(field, "From") {
            if self.is_left_out(field) {
                // A bare CR that now stands before a bare LF would be one line end with it, and the empty line would be gone.
                if head.ends_with(b"\r") {
                    head.push(b'\n');
                }
                return;
            }
            self.from.as_ref().and_then(|edit| edit.value.as_deref())
        } else {
            self.senders.iter().find(|(at, _)| *at == field.span.start).map(|(_, value)| value.as_slice())
        };
        let old = &field.value_span;
        head.extend_from_slice(&message[field.span.start..old.start]);
        head.extend_from_slice(value.unwrap_or(field.value));
        head.extend_from_slice(&message[old.end..field.span.end]);
    }
}

fn is(field: &Field<'_>, name: &str) -> bool {
    field.name.eq_ignore_ascii_case(name.as_bytes())
}

/// `From:a@b` is allowed and seen; a field of ours is written the usual way.
fn with_space(value: &[u8]) -> Vec<u8> {
    match value.first() {
        Some(b' ' | b'\t' | b'\r' | b'\n') => value.to_vec(),
        _ => [b" ", value].concat(),
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
