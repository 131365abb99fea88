//! What the door reads of a message's header: who it says it is from, to pick the account and to see whether it may, and its subject,
//! for the journal. Nothing is judged and nothing is changed.

use crate::message::{Address, Headers, Mailboxes};

/// The longest subject that is kept, in bytes.
const MAX_SUBJECT: usize = 400;

/// The fields that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The addresses of `From`, of all such fields if there are several.
    pub(crate) from: Vec<Address>,
    /// The end of the header was seen, so that no further `From` can come.
    pub(crate) is_whole: bool,
    /// The raw `Subject`, unfolded, without control characters, cut to a reasonable length.
    pub(crate) subject: Option<String>,
}

impl Head {
    /// Reads them from the beginning of a message.
    pub(crate) fn read(message: &[u8]) -> Self {
        let headers = Headers::scan(message);
        let subject = headers.first("Subject").map(|field| unfold(&String::from_utf8_lossy(field.value)));
        let mut from = addresses(&headers);
        let mut rest = &message[headers.end()..];
        // Text without a header gets an empty line put in front of it when it leaves: nobody reads fields in that.
        let is_whole = if headers.fields().is_empty() {
            rest.iter().any(|&b| is_line_end(b))
        } else {
            go_on_to_the_empty_line(&mut rest, &mut from)
        };
        Self { from, is_whole, subject }
    }
}

/// Reads on behind lines that are no fields. For us the first of them ends the header, but there are servers that pass over it and take
/// what follows for fields until the empty line: whoever may not send as somebody must not be able to hide the `From` there.
///
/// Whether the empty line came.
fn go_on_to_the_empty_line(rest: &mut &[u8], from: &mut Vec<Address>) -> bool {
    while let Some(&first) = rest.first() {
        if is_line_end(first) {
            return true;
        }
        let Some(end) = rest.iter().position(|&b| is_line_end(b)) else { return false };
        let is_crlf = rest[end..].starts_with(b"\r\n");
        *rest = &rest[end + if is_crlf { 2 } else { 1 }..];
        let headers = Headers::scan(rest);
        from.extend(addresses(&headers));
        *rest = &rest[headers.end()..];
    }
    false
}

/// The addresses of all fields `From`.
fn addresses(headers: &Headers<'_>) -> Vec<Address> {
    headers.all("From").flat_map(|field| Mailboxes::find(field.value).list).map(|one| one.address).collect()
}

fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// RFC 5322 section 2.2.3: unfolding takes the line ends away and leaves the white space behind them.
fn unfold(value: &str) -> String {
    let text: String = value.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    super::replies::printable(text.replace('\t', " ").trim(), MAX_SUBJECT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(value: &str) -> Vec<String> {
        Head::read(format!("From: {value}\r\n\r\n").as_bytes()).from.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_addresses_of_from_are_found() {
        for (value, addresses) in [
            ("a@b.example", &["a@b.example"][..]),
            (" Moodle <a@b.example>", &["a@b.example"]),
            ("\"=?utf-8?B?w6k=?= (via LMS)\" <a@b.example>", &["a@b.example"]),
            ("\"x <no@no.example>, y\" <a@b.example>", &["a@b.example"]),
            ("x (a \\) comment <no@no.example>)\r\n <a@b.example>, c@d.example", &["a@b.example", "c@d.example"]),
            ("a@b.example (Somebody), c@d.example", &["a@b.example", "c@d.example"]),
            ("staff: a@b.example, c@d.example;", &["a@b.example", "c@d.example"]),
            (", a@b.example", &["a@b.example"]),
            ("<a@b.example>\r\nFROM: <c@d.example>", &["a@b.example", "c@d.example"]),
            ("\"a b\"@c.example", &["\"a b\"@c.example"]),
            ("Moodle", &[]),
            ("<>", &[]),
            ("undisclosed:;", &[]),
            ("(((", &[]),
        ] {
            assert_eq!(from(value), addresses, "{value}");
        }
    }

    #[test]
    fn a_from_behind_a_line_that_is_no_field_is_found_up_to_the_empty_line() {
        for (message, addresses) in [
            (
                "From: a@b.example\r\nno field\r\nFrom: c@d.example\r\n\r\nFrom: e@f.example",
                &["a@b.example", "c@d.example"][..],
            ),
            ("X: y\r\nno\r\nfield\rfrom:c@d.example\nno: no\n\nFrom: e@f.example", &["c@d.example"]),
            ("X: y\r\nno field\r\n From: c@d.example\r\n\r\n", &[]),
            ("X: y\r\nno field\r\n\r\nFrom: e@f.example\r\n", &[]),
            ("no field\r\nFrom: c@d.example\r\n\r\n", &[]),
        ] {
            let from: Vec<String> = Head::read(message.as_bytes()).from.iter().map(ToString::to_string).collect();
            assert_eq!(from, addresses, "{message}");
        }
    }

    #[test]
    fn whether_the_header_was_seen_to_its_end_is_known() {
        for (message, is_whole) in [
            ("From: a@b\r\n\r\nbody", true),
            ("From: a@b\r\nno field\r\n\r\nbody", true),
            ("From: a@b\r\nno field\n\nbody", true),
            ("From: a@b\r\nno field\r\nX: y\r\n", false),
            ("no field\r\n", true),
            ("\r\n", true),
            ("", false),
            ("From: a@b\r\n", false),
            ("From: a@b\r\nX: y\r\n more", false),
            ("From: a@b\r\nFro", false),
        ] {
            assert_eq!(Head::read(message.as_bytes()).is_whole, is_whole, "{message}");
        }
    }

    #[test]
    fn subjects_are_unfolded_and_harmless() {
        let head = Head::read(b"Subject: one\r\n\ttwo \x1b[31m\r\n three\r\n\r\nbody");
        assert_eq!(head.subject.as_deref(), Some("one two ?[31m three"));
        assert_eq!(Head::read(b"no header").subject, None);
        let long = format!("Subject: {}\r\n\r\n", "é".repeat(1000));
        assert_eq!(Head::read(long.as_bytes()).subject.map(|s| s.len()), Some(MAX_SUBJECT));
    }
}
