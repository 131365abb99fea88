//! Rewriting changes nothing but what it is there for: header sections in every state of disrepair, read before and after by eyes that
//! share nothing with the code under test.

use proptest::prelude::*;
use proptest::sample::select;

use super::SenderPolicy;
use super::tests::{RECEIVED, rewritten, rewritten_as, rewritten_part};

/// A message as lines: what each says, and how it ends.
fn lines(message: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut lines = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let text = rest.iter().take_while(|b| !b"\r\n".contains(b)).count();
        let end = match &rest[text..] {
            [b'\r', b'\n', ..] => 2,
            [] => 0,
            _ => 1,
        };
        lines.push((&rest[..text], &rest[text..text + end]));
        rest = &rest[text + end..];
    }
    lines
}

/// The fields of the header, folds and line ends included, each with its name in lower case; then everything behind them.
fn parted(message: &[u8]) -> (Vec<(String, Vec<u8>)>, Vec<u8>) {
    let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
    let mut read = 0;
    for (text, end) in lines(message) {
        let whole = [text, end].concat();
        let name = text.split(|&b| b == b':').next().unwrap_or_default();
        let name = String::from_utf8_lossy(name).to_lowercase();
        let folded = text.starts_with(b" ") || text.starts_with(b"\t");
        match fields.last_mut() {
            Some((_, field)) if folded => field.extend_from_slice(&whole),
            _ if is_name(name.trim_ascii_end()) && text.contains(&b':') => {
                fields.push((name.trim_ascii_end().to_owned(), whole.clone()));
            }
            _ => break,
        }
        read += whole.len();
    }
    (fields, message[read..].to_vec())
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_ascii_control() || c == ' ')
}

/// Bytes that mean something in a header, words around them, and any others.
fn scrap() -> impl Strategy<Value = Vec<u8>> {
    let words = [
        "From:",
        "from :",
        "FROM\t:",
        "Sender:",
        "Reply-To:",
        "Date:",
        "Message-ID:",
        "Subject:",
        "X-y:",
        "To: a@b",
        ":",
        " ",
        "\t",
        "\r\n",
        "\r\n",
        "\r\n",
        "\r\n ",
        "\r\n\t",
        "\n",
        "\r",
        "\n ",
        "\r\r\n",
        "\r\n\r\n",
        "\0",
        "\"",
        "\\",
        "(",
        ")",
        "<",
        ">",
        ",",
        ";",
        "@",
        "@[",
        "[IPv6:::1]",
        "lms@contoso.com",
        "<lms@contoso.com>",
        "noreply@contoso.com",
        "a@school.org",
        "\"=?utf-8?B?SsO8?= (x)\" <b@school.org>",
        "=?utf-8?Q?a=2C_b?=",
        "Group: c@school.org, <d@school.org>;",
        "undisclosed-recipients:;",
        "((a) b)",
        "(\\)",
        "Jürgen",
        "name",
        "\u{feff}",
        "From lms Sat Nov 21 09:00:00 2026\r\n",
    ];
    prop_oneof![
        12 => select(words.to_vec()).prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..8),
    ]
}

/// Fields of scraps, or a heap of them.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let heap = prop::collection::vec(scrap(), 0..40).prop_map(|scraps| scraps.concat()).boxed();
    let name = select(vec![
        "From:",
        "From:",
        "from :",
        "Sender:",
        "Reply-To:",
        "Date:",
        "Message-ID:",
        "Subject:",
        "Bcc:",
        "X-From:",
    ]);
    let field = (name, prop::collection::vec(scrap(), 0..8), select(vec!["\r\n", "\r\n", "\n", "\r"]))
        .prop_map(|(name, value, end)| [name.as_bytes(), &value.concat(), end.as_bytes()].concat());
    let fields = prop::collection::vec(field, 0..8).prop_map(|fields| fields.concat());
    prop_oneof![1 => heap.clone(), 2 => (fields, heap).prop_map(|(fields, heap)| [fields, heap].concat())]
}

/// Takes our own fields off the top: as many as the result has more than came, `From` and `Sender` left aside.
fn without_added(mut fields: Vec<(String, Vec<u8>)>, came: usize) -> Vec<(String, Vec<u8>)> {
    let added = fields.len().saturating_sub(came);
    for (name, _) in fields.drain(..added) {
        assert!(["received", "reply-to", "date", "message-id"].contains(&name.as_str()), "{name} was added");
    }
    fields
}

fn kept(fields: Vec<(String, Vec<u8>)>) -> Vec<(String, Vec<u8>)> {
    fields.into_iter().filter(|(name, _)| name != "from" && name != "sender").collect()
}

/// Whom a `From` field names, as somebody else's parser reads it.
fn addresses(field: &[u8]) -> Vec<String> {
    let header = [field, b"\r\n"].concat();
    let parser = mail_parser::MessageParser::new().with_address_headers();
    let Some(read) = parser.parse_headers(&header[..]) else { return Vec::new() };
    let each = read.from().into_iter().flat_map(|from| from.iter());
    each.filter_map(|one| one.address.as_deref().map(str::to_lowercase)).collect()
}

/// The one difference that is allowed in a kept field: its bare CR may have become CRLF.
fn same(a: &[u8], b: &[u8]) -> bool {
    a == b || (b.ends_with(b"\r") && [b, b"\n"].concat() == a)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn every_other_field_and_the_text_are_kept_in_order(message in message()) {
        let new = rewritten(&message, Some("lms@contoso.com"));
        let whole = [&new.head[..], &message[new.resume_at..]].concat();

        let from_mailbox_file = new.notes.iter().any(|note| note.contains("mailbox file"));
        let skipped = if from_mailbox_file { message.iter().position(|&b| b == b'\n').unwrap() + 1 } else { 0 };
        let (before, text) = parted(&message[skipped..]);
        let (after, new_text) = parted(&whole);
        let parting: &[u8] = if before.is_empty() && !text.is_empty() && !text.starts_with(b"\r") && !text.starts_with(b"\n") { b"\r\n" } else { b"" };
        prop_assert_eq!([parting, &text].concat(), new_text);

        let froms = |fields: &[(String, Vec<u8>)]| fields.iter().filter(|(name, _)| name == "from").count();
        prop_assert_eq!(froms(&after), 1);
        let before = kept(before);
        let after = without_added(kept(after), before.len());
        prop_assert_eq!(before.len(), after.len());
        for ((old_name, old), (new_name, new)) in before.iter().zip(&after) {
            prop_assert_eq!(old_name, new_name);
            prop_assert!(same(new, old), "{} became {}", old.escape_ascii(), new.escape_ascii());
        }
    }

    #[test]
    fn what_is_kept_has_nothing_changed_but_fields_in_front(message in message()) {
        let new = rewritten_as(SenderPolicy::Keep, &[], &message, message.len(), Some("dean@school.org"));
        prop_assert_eq!(new.mail_from.as_ref().map(super::Address::as_str), Some("dean@school.org"));
        let whole = [&new.head[..], &message[new.resume_at..]].concat();
        let from_mailbox_file = new.notes.iter().any(|note| note.contains("mailbox file"));
        let skipped = if from_mailbox_file { message.iter().position(|&b| b == b'\n').unwrap() + 1 } else { 0 };
        prop_assert!(whole.ends_with(&message[skipped..]));
        let (in_front, _) = parted(&whole[..whole.len() - (message.len() - skipped)]);
        for (name, _) in in_front {
            prop_assert!(["received", "from", "date", "message-id"].contains(&name.as_str()), "{} was added", name);
        }
    }

    #[test]
    fn under_the_other_policies_it_leaves_as_nobody_but_who_is_permitted(message in message(), refuse: bool) {
        let policy = if refuse { SenderPolicy::Refuse } else { SenderPolicy::Rewrite };
        for sender in [None, Some("dean@school.org"), Some("noreply@contoso.com")] {
            let new = rewritten_as(policy, &[], &message, message.len(), sender);
            for sender in &new.senders {
                prop_assert_eq!(sender.as_str().to_ascii_lowercase(), "noreply@contoso.com");
            }
            prop_assert!(new.mail_from.is_some_and(|from| from.domain().eq_ignore_ascii_case("contoso.com")));
            let whole = [&new.head[..], &message[new.resume_at..]].concat();
            let (fields, _) = parted(&whole);
            for (_, from) in fields.iter().filter(|(name, _)| name == "from") {
                let read = addresses(from);
                prop_assert!(!read.is_empty() && read.iter().all(|one| ["lms@contoso.com", "noreply@contoso.com"].contains(&one.as_str())), "{:?} in {}", read, from.escape_ascii());
            }
        }
    }

    #[test]
    fn a_second_rewriting_finds_nothing_more_to_change(message in message()) {
        let once = rewritten(&message, Some("lms@contoso.com"));
        let once = [&once.head[..], &message[once.resume_at..]].concat();
        let twice = rewritten(&once, Some("lms@contoso.com"));
        let whole = [&twice.head[RECEIVED.len()..], &once[twice.resume_at..]].concat();
        prop_assert_eq!(&whole[..], &once[..], "{:?}", twice.notes);
    }

    #[test]
    fn what_lies_beyond_the_part_that_is_looked_at_is_kept(message in message(), cut in 0_usize..200) {
        let cut = cut.min(message.len());
        let new = rewritten_part(&message[..cut], message.len(), Some("lms@contoso.com"));
        prop_assert!(new.resume_at <= cut);
        // A field is never cut in two: what is resumed begins where a line does, or where the part was all text.
        let at_line = new.resume_at == 0 || b"\r\n".contains(&message[new.resume_at - 1]);
        prop_assert!(at_line || new.resume_at == cut);
    }
}
