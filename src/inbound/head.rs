//! What the door reads of a message's header: who it says it is from, to pick the account, and its subject, for the journal.
//! Nothing is judged and nothing is changed.

use crate::message::{Address, Headers};

/// The longest subject that is kept, in bytes.
const MAX_SUBJECT: usize = 400;

/// The two fields that matter here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// The first address of `From`.
    pub(super) from: Option<Address>,
    /// The raw `Subject`, unfolded, without control characters, cut to a reasonable length.
    pub(super) subject: Option<String>,
}

impl Head {
    /// Reads them from the beginning of a message.
    pub(super) fn read(message: &[u8]) -> Self {
        let headers = Headers::scan(message);
        Self {
            from: headers.first("From").and_then(|field| first_address(&String::from_utf8_lossy(field.value))),
            subject: headers.first("Subject").map(|field| unfold(&String::from_utf8_lossy(field.value))),
        }
    }
}

/// RFC 5322 section 2.2.3: unfolding takes the line ends away and leaves the white space behind them.
fn unfold(value: &str) -> String {
    let text: String = value.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    super::replies::printable(text.replace('\t', " ").trim(), MAX_SUBJECT)
}

/// The first mailbox of an address list (RFC 5322 section 3.4): what stands in angle brackets, or all of it if there are none.
fn first_address(value: &str) -> Option<Address> {
    let mut plain = String::new();
    let mut chars = value.chars();
    let (mut in_quotes, mut in_angle, mut comments) = (false, false, 0_u32);
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_quotes || comments > 0 => {
                let escaped = chars.next();
                if in_quotes {
                    plain.extend([Some(c), escaped].into_iter().flatten());
                }
            }
            '"' if comments == 0 => {
                in_quotes = !in_quotes;
                plain.push(c);
            }
            _ if in_quotes => plain.push(c),
            '(' => comments += 1,
            ')' => comments = comments.saturating_sub(1),
            _ if comments > 0 => {}
            '<' => {
                in_angle = true;
                plain.clear();
            }
            '>' => break,
            _ if in_angle => plain.push(c),
            // The name of a group.
            ':' => plain.clear(),
            ',' | ';' if plain.trim().is_empty() => plain.clear(),
            ',' | ';' => break,
            _ => plain.push(c),
        }
    }
    Address::parse(plain.trim()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_address_of_from_is_found() {
        for (value, address) in [
            ("a@b.example", "a@b.example"),
            (" Moodle <a@b.example>", "a@b.example"),
            ("\"=?utf-8?B?w6k=?= (via LMS)\" <a@b.example>", "a@b.example"),
            ("\"x <no@no.example>, y\" <a@b.example>", "a@b.example"),
            ("x (a \\) comment <no@no.example>)\r\n <a@b.example>, c@d.example", "a@b.example"),
            ("a@b.example (Somebody), c@d.example", "a@b.example"),
            ("staff: a@b.example, c@d.example;", "a@b.example"),
            (", a@b.example", "a@b.example"),
            ("<a@b.example>, <c@d.example>", "a@b.example"),
            ("\"a b\"@c.example", "\"a b\"@c.example"),
        ] {
            assert_eq!(first_address(value).map(|a| a.to_string()).as_deref(), Some(address), "{value}");
        }
        for value in ["", "Moodle", "<", "<>", "undisclosed:;", "\"a@b", "a@b c@d", "(((", "\\"] {
            assert_eq!(first_address(value), None, "{value}");
        }
    }

    #[test]
    fn subjects_are_unfolded_and_harmless() {
        let head = Head::read(b"Subject: one\r\n\ttwo \x1b[31m\r\n three\r\n\r\nbody");
        assert_eq!(head.subject.as_deref(), Some("one two ?[31m three"));
        assert_eq!(Head::read(b"no header"), Head::default());
        let long = format!("Subject: {}\r\n\r\n", "é".repeat(1000));
        assert_eq!(Head::read(long.as_bytes()).subject.map(|s| s.len()), Some(MAX_SUBJECT));
    }
}
