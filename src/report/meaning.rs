//! What an answer means for whoever wrote the mail, in plain words. The administrator's side of it is the reply table.

/// An answer in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meaning {
    /// What it means; a sentence that follows "What it means:".
    pub what: &'static str,
    /// What the reader can do about it.
    pub todo: &'static str,
}

/// Enhanced codes (RFC 3463), as far as they begin, and what they say to a person. The first that fits counts.
const TABLE: &[(&[&str], Meaning)] = &[
    (
        &["5.1.1 ", "5.1.10 ", "5.4.1 ", "5.1.6 ", "5.5.0 "],
        Meaning {
            what: "the organisation that the address belongs to does not know it.",
            todo: "look for a typing mistake in the address, and ask the person for the right one.",
        },
    ),
    (
        &["5.1.2 ", "5.1.3 ", "5.4.4 ", "5.4.310 ", "5.4.312 "],
        Meaning {
            what: "there is no place on the Internet that takes mail for this address.",
            todo: "look for a typing mistake in the address, above all behind the @.",
        },
    ),
    (
        &["5.2.2 ", "5.2.121 ", "5.2.122 "],
        Meaning {
            what: "the mailbox of the recipient is full, or gets more mail than it may.",
            todo: "tell the person over another road, and send the mail again later.",
        },
    ),
    (
        &["5.2.3 ", "5.3.4 "],
        Meaning {
            what: "the mail is larger than is taken there.",
            todo: "send it with smaller attachments, or with a link instead of them.",
        },
    ),
    (
        &["5.2.1 ", "5.1.8 "],
        Meaning {
            what: "the mailbox is switched off, or may not be used for this mail.",
            todo: "ask the person for another address, or show this notice to your administrator.",
        },
    ),
    (
        &["5.6."],
        Meaning {
            what: "something in the form of the mail is not taken.",
            todo: "show this notice to the administrator of the program that sent the mail.",
        },
    ),
    (
        &["5.7."],
        Meaning {
            what: "a rule of your own organisation or of the recipient's does not allow this mail.",
            todo: "show this notice to your administrator.",
        },
    ),
    (
        &["4."],
        Meaning {
            what: "it was tried again and again, and not taken at any time.",
            todo: "send the mail again later, or show this notice to your administrator.",
        },
    ),
];

const UNKNOWN: Meaning = Meaning {
    what: "the mail is not taken there, and trying again would not change that.",
    todo: "show this notice to your administrator.",
};

/// What this answer means.
pub fn meaning(reply: &str) -> Meaning {
    let status = format!("{} ", status(reply));
    let fits = |starts: &&(&[&str], Meaning)| starts.0.iter().any(|start| status.starts_with(start));
    TABLE.iter().find(fits).map_or(UNKNOWN, |(_, meaning)| *meaning)
}

/// The enhanced status code of an answer (RFC 3463); where it has none, one of its class.
pub fn status(reply: &str) -> String {
    let mut words = reply.split(|c: char| c.is_whitespace() || c == '-');
    let code = words.next().unwrap_or_default();
    let enhanced = words.next().unwrap_or_default();
    let parts: Vec<&str> = enhanced.split('.').collect();
    let is_number = |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|octet| octet.is_ascii_digit());
    let is_status = matches!(parts[..], ["2" | "4" | "5", _, _]) && parts.iter().all(is_number);
    match code.as_bytes().first() {
        _ if is_status => enhanced.to_owned(),
        Some(b'5') if code.len() == 3 => "5.0.0".to_owned(),
        Some(b'4') if code.len() == 3 => "4.0.0".to_owned(),
        // Nothing was answered, for as long as it was tried: RFC 3463 section 3.5, delivery time expired.
        _ => "4.4.7".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_a_status() {
        for (reply, expected) in [
            ("550 5.1.10 RESOLVER.ADR.RecipientNotFound", "5.1.10"),
            ("550-5.7.1 first\n550 5.7.1 second", "5.7.1"),
            ("550 no such user", "5.0.0"),
            ("451 try later", "4.0.0"),
            ("550 5.1.1234 odd", "5.0.0"),
            ("550 5..1 odd", "5.0.0"),
            ("", "4.4.7"),
            ("lost the connection", "4.4.7"),
        ] {
            assert_eq!(status(reply), expected, "{reply}");
        }
    }

    #[test]
    fn the_whole_code_counts() {
        assert!(meaning("550 5.1.10 x").what.contains("does not know it"));
        assert!(meaning("550 5.1.1 x").what.contains("does not know it"));
        assert_eq!(meaning("550 5.1.100 x"), UNKNOWN);
        assert!(meaning("451 4.3.2 x").what.contains("again and again"));
        assert!(meaning("").what.contains("again and again"));
        assert_eq!(meaning("554 no"), UNKNOWN);
    }
}
