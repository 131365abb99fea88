//! What Exchange looks at in a message's own header: who it says it is from.

use std::sync::LazyLock;

use mail_parser::{HeaderName, HeaderValue, MessageParser};

use super::super::options::Mailbox;

static PARSER: LazyLock<MessageParser> = LazyLock::new(|| MessageParser::new().with_address_headers());

/// What is wrong with who a message is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// No From, or none with an address.
    FromMissing,
    /// Several From addresses and no Sender (RFC 5322 section 3.6.2).
    ManyFrom,
    /// The mailbox has no right to send as this address; empty for `<>`.
    NotAllowed(String),
}

/// Checks From and MAIL FROM against what the mailbox may send as.
pub(super) fn check(message: &[u8], mail_from: &str, mailbox: &Mailbox) -> Result<(), Problem> {
    let (from, has_sender) = from_addresses(message);
    if from.is_empty() {
        return Err(Problem::FromMissing);
    }
    if from.len() > 1 && !has_sender {
        return Err(Problem::ManyFrom);
    }
    let mut senders = from.iter().map(String::as_str).chain([mail_from]);
    match senders.find(|sender| !mailbox.may_send_as(sender)) {
        Some(other) => Err(Problem::NotAllowed(other.to_owned())),
        None => Ok(()),
    }
}

/// Every address in every From, and whether there is a Sender.
fn from_addresses(message: &[u8]) -> (Vec<String>, bool) {
    let Some(parsed) = PARSER.parse_headers(header_section(message)) else {
        return (Vec::new(), false);
    };
    let (mut from, mut has_sender) = (Vec::new(), false);
    for header in parsed.headers() {
        match (&header.name, &header.value) {
            (HeaderName::From, HeaderValue::Address(addresses)) => {
                from.extend(addresses.iter().filter_map(|one| one.address.as_deref()).map(str::to_owned));
            }
            (HeaderName::Sender, HeaderValue::Address(_)) => has_sender = true,
            _ => {}
        }
    }
    from.retain(|address| address.contains('@'));
    (from, has_sender)
}

/// Up to the first empty line; all of a message without one.
fn header_section(message: &[u8]) -> &[u8] {
    if message.starts_with(b"\r\n") {
        return &[];
    }
    let end = message.windows(4).position(|four| four == b"\r\n\r\n").map_or(message.len(), |at| at + 2);
    &message[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(header: &str) -> Result<(), Problem> {
        let mailbox = Mailbox::new("lms@contoso.com").send_as("noreply@contoso.com");
        check(format!("{header}\r\nFrom: in@the.body\r\n").as_bytes(), "lms@contoso.com", &mailbox)
    }

    #[test]
    fn from_must_be_the_mailbox_or_granted() {
        for header in [
            "From: lms@contoso.com\r\n",
            "from: \"=?utf-8?B?w5w=?=\" <NoReply@Contoso.com>\r\n",
            "Subject: x\r\nFrom:\r\n Moodle (via it)\r\n <lms@contoso.com>\r\n",
            "From: lms@contoso.com, noreply@contoso.com\r\nSender: lms@contoso.com\r\n",
            "From: group: lms@contoso.com;\r\n",
        ] {
            assert_eq!(checked(header), Ok(()), "{header}");
        }
        let denied = checked("From: \"lms@contoso.com\" <dean@contoso.com>\r\n");
        assert_eq!(denied, Err(Problem::NotAllowed("dean@contoso.com".into())));
        let mailbox = Mailbox::new("lms@contoso.com");
        for mail_from in ["", "noreply@contoso.com"] {
            let denied = check(b"From: lms@contoso.com\r\n\r\n", mail_from, &mailbox);
            assert_eq!(denied, Err(Problem::NotAllowed(mail_from.to_owned())));
        }
    }

    #[test]
    fn a_message_from_nobody_or_from_many_is_noticed() {
        for header in ["", "Subject: no from\r\n", "From: \r\n", "From: Nobody\r\n", "From: undisclosed:;\r\n"] {
            assert_eq!(checked(header), Err(Problem::FromMissing), "{header}");
        }
        for header in
            ["From: lms@contoso.com, noreply@contoso.com\r\n", "From: lms@contoso.com\r\nFrom: noreply@contoso.com\r\n"]
        {
            assert_eq!(checked(header), Err(Problem::ManyFrom), "{header}");
        }
    }
}
