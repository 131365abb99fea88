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
        Self {
            from: headers
                .all("From")
                .flat_map(|field| Mailboxes::find(field.value).list)
                .map(|one| one.address)
                .collect(),
            // Behind its fields stands the empty line, or a line that is no field: not just the first letters of one.
            is_whole: message[headers.end()..].iter().any(|b| matches!(b, b'\r' | b'\n')),
            subject: headers.first("Subject").map(|field| unfold(&String::from_utf8_lossy(field.value))),
        }
    }
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
    fn whether_the_header_was_seen_to_its_end_is_known() {
        for (message, is_whole) in [
            ("From: a@b\r\n\r\nbody", true),
            ("From: a@b\r\nno field\r\n", true),
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
