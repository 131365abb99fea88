//! What is made of the text on standard input. Pure.

use mail_parser::{HeaderName, HeaderValue, MessageParser};

use crate::message::{Headers, Mailboxes};

/// The message with the line ends of mail: CRLF for LF, everything else as it came.
///
/// Where a lone dot ends it, what stands behind that is left out. So is the `From ` line of a mail that was taken out of a mailbox file.
pub(super) fn prepared(raw: &[u8], dot_ends: bool) -> Vec<u8> {
    let raw = match raw {
        [b'F', b'r', b'o', b'm', b' ', ..] => {
            raw.split_inclusive(|&b| b == b'\n').next().map_or(raw, |line| &raw[line.len()..])
        }
        raw => raw,
    };
    let mut message = Vec::with_capacity(raw.len() + raw.len() / 32);
    for line in raw.split_inclusive(|&b| b == b'\n') {
        let text = line.strip_suffix(b"\n");
        if dot_ends && matches!(text.unwrap_or(line), b"." | b".\r") {
            break;
        }
        match text {
            Some(text) => {
                message.extend_from_slice(text.strip_suffix(b"\r").unwrap_or(text));
                message.extend_from_slice(b"\r\n");
            }
            None => message.extend_from_slice(line),
        }
    }
    message
}

/// The recipients of the header; its `Bcc` is taken out. Where the mail is resent, those of the `Resent-` fields count (RFC 5322 section
/// 3.6.6).
pub(super) fn take_recipients(message: &mut Vec<u8>) -> Vec<String> {
    let headers = Headers::scan(message);
    let of = |names: [&str; 3]| -> Vec<String> {
        names.iter().flat_map(|&name| headers.all(name)).flat_map(|field| addresses_of(field.value)).collect()
    };
    let resent = of(["Resent-To", "Resent-Cc", "Resent-Bcc"]);
    let recipients = if resent.is_empty() { of(["To", "Cc", "Bcc"]) } else { resent };
    let hidden: Vec<_> =
        ["Bcc", "Resent-Bcc"].iter().flat_map(|&name| headers.all(name)).map(|field| field.span.clone()).collect();
    let mut hidden: Vec<_> = hidden.into_iter().collect();
    hidden.sort_by_key(|span| std::cmp::Reverse(span.start));
    for span in hidden {
        message.drain(span);
    }
    recipients
}

/// The addresses of a list as it stands behind the options: `a@b.example`, `root`, `You <you@example.com>, a@b.example`.
pub(super) fn addresses(list: &str) -> Vec<String> {
    // Nothing to take apart: it is checked as a whole.
    if !list.contains([',', '<', '(', '"', ';', ' ', '\t']) {
        return Some(list.to_owned()).filter(|list| !list.is_empty()).into_iter().collect();
    }
    addresses_of(list.as_bytes())
}

/// The addresses of a field's value: groups, comments, names and folds are left out.
fn addresses_of(value: &[u8]) -> Vec<String> {
    let found = Mailboxes::find(value);
    if found.sound {
        return found.list.into_iter().map(|mailbox| mailbox.address.to_string()).collect();
    }
    // Groups, names without a domain, and what is odd.
    let field = [b"To:", value, b"\r\n\r\n"].concat();
    let parser = MessageParser::new().header_address(HeaderName::To);
    let Some(parsed) = parser.parse_headers(&field) else { return Vec::new() };
    let Some(HeaderValue::Address(list)) = parsed.header(HeaderName::To) else { return Vec::new() };
    // A name without a domain is taken for the name of somebody whose address is missing.
    list.iter()
        .filter_map(|one| one.address().or(one.name()))
        .map(|address| address.trim().to_owned())
        .filter(|a| !a.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn line_ends_become_those_of_mail() {
        for (raw, expected) in [
            ("Subject: x\n\nhello\n", "Subject: x\r\n\r\nhello\r\n"),
            ("Subject: x\r\n\r\nhello\r\n", "Subject: x\r\n\r\nhello\r\n"),
            ("a\r\nb\nc", "a\r\nb\r\nc"),
            ("a\rb\n", "a\rb\r\n"),
            ("From root Sat Nov 21\nSubject: x\n", "Subject: x\r\n"),
            ("From: a@b.example\n", "From: a@b.example\r\n"),
            ("", ""),
        ] {
            assert_eq!(text(prepared(raw.as_bytes(), true)), expected, "{raw:?}");
        }
    }

    #[test]
    fn a_lone_dot_ends_it_unless_told_otherwise() {
        for raw in ["a\n.\nb\n", "a\r\n.\r\nb\n", "a\n."] {
            assert_eq!(text(prepared(raw.as_bytes(), true)), "a\r\n", "{raw:?}");
        }
        assert_eq!(text(prepared(b"a\n.\nb\n", false)), "a\r\n.\r\nb\r\n");
        assert_eq!(text(prepared(b"a\n..\n.b\n", true)), "a\r\n..\r\n.b\r\n");
    }

    #[test]
    fn the_header_names_the_recipients_and_keeps_all_but_bcc() {
        let header = "To: =?utf-8?Q?K=C3=A4the?= <kaethe@example.com>,\r\n \"Doe, John\" <john@example.com> (at work)\r\n\
            Cc: friends: a@b.example, root;, undisclosed-recipients:;\r\n";
        let mut message = format!(
            "{header}BCC: hidden@example.com,\r\n\tother@example.com\r\nSubject: x\r\n\r\nBcc: a@b.example\r\n"
        )
        .into_bytes();
        let recipients = take_recipients(&mut message);
        let expected = [
            "kaethe@example.com",
            "john@example.com",
            "a@b.example",
            "root",
            "hidden@example.com",
            "other@example.com",
        ];
        assert_eq!(recipients, expected);
        assert_eq!(text(message), format!("{header}Subject: x\r\n\r\nBcc: a@b.example\r\n"));
    }

    #[test]
    fn a_mail_that_is_resent_goes_to_whom_it_is_resent() {
        let mut message = b"Resent-To: a@b.example\r\nResent-Bcc: c@d.example\r\nTo: old@example.com\r\n\r\n".to_vec();
        assert_eq!(take_recipients(&mut message), ["a@b.example", "c@d.example"]);
        assert_eq!(text(message), "Resent-To: a@b.example\r\nTo: old@example.com\r\n\r\n");
    }

    #[test]
    fn lists_behind_the_options_are_taken_apart() {
        for (list, expected) in [
            ("root", &["root"][..]),
            ("a@b.example", &["a@b.example"]),
            ("a@b.example,root", &["a@b.example", "root"]),
            ("You <you@example.com>", &["you@example.com"]),
            ("<you@example.com>", &["you@example.com"]),
            ("\"a b\"@example.com", &["\"a b\"@example.com"]),
            ("", &[]),
        ] {
            assert_eq!(addresses(list), expected, "{list:?}");
        }
    }
}
