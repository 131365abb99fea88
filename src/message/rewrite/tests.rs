//! What leaves compared with what came, for mail as it should be, as it is, and at random.

use mail_parser::MessageParser;
use proptest::prelude::*;

use super::*;
use crate::message::Protocol;
use crate::smtp::DataEncoder;

pub(super) const RECEIVED: &str = "Received: from lms ([10.1.2.3])\r\n\tby relay.contoso.com with ESMTP id 0000000000007;\r\n\t\
                        Mon, 4 Aug 2025 11:15:30 +0000\r\n";

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

pub(super) fn rewritten(message: &[u8], sender: Option<&str>) -> Rewritten {
    rewritten_part(message, message.len(), sender)
}

pub(super) fn rewritten_part(start: &[u8], size: usize, sender: Option<&str>) -> Rewritten {
    rewritten_as(SenderPolicy::Rewrite, &[], start, size, sender)
}

pub(super) fn rewritten_as(
    policy: SenderPolicy,
    originals: &[Address],
    start: &[u8],
    size: usize,
    sender: Option<&str>,
) -> Rewritten {
    let protocol = Protocol { extended: true, tls: false, authenticated: false };
    let trace = Trace { peer: "10.1.2.3".parse().unwrap(), helo: Some("lms".into()), protocol, user: None };
    let envelope = Envelope {
        sender: sender.map(address),
        recipients: vec![address("a@example.com").into()],
        ..Envelope::default()
    };
    let policy = Policy {
        sender: policy,
        originals,
        permitted: Permitted { mailbox: &address("lms@contoso.com"), send_as: &[address("noreply@contoso.com")] },
        hostname: "relay.contoso.com",
        trace: &trace,
        envelope: &envelope,
        id: QueueId::from_number(7),
        received_at: "2025-08-04T11:15:30Z".parse().unwrap(),
    };
    rewrite(start, u64::try_from(size).unwrap(), &policy)
}

/// The whole message as it leaves, without our `Received`.
fn leaves(message: &str) -> String {
    let new = rewritten(message.as_bytes(), Some("lms@contoso.com"));
    let whole = [&new.head, &message.as_bytes()[new.resume_at..]].concat();
    String::from_utf8(whole).unwrap().strip_prefix(RECEIVED).unwrap().to_owned()
}

const IDS: &str = "Date: Mon, 4 Aug 2025 11:00:00 +0000\r\nMessage-ID: <1@lms>\r\n";

#[test]
fn a_permitted_message_only_gets_a_received_field() {
    let message = format!("From: LMS <lms@contoso.com>\r\nSubject: x\r\n{IDS}\r\nHello\r\n");
    assert_eq!(leaves(&message), message);
    let new = rewritten(message.as_bytes(), Some("NoReply@contoso.com"));
    assert_eq!(new.mail_from, Some(address("noreply@contoso.com")));
    assert_eq!(new.notes, Vec::<String>::new());
}

#[test]
fn a_teachers_own_address_becomes_the_mailbox_and_replies_still_reach_the_teacher() {
    let from = "\"=?utf-8?B?SsO8cmdlbg==?= (via LMS)\" <teacher@school.org>";
    let message = format!("Subject: x\r\nFROM: {from}\r\n{IDS}\r\nHello");
    assert_eq!(
        leaves(&message),
        format!(
            "Reply-To: {from}\r\nSubject: x\r\nFROM: \"=?utf-8?B?SsO8cmdlbg==?= (via LMS)\" <lms@contoso.com>\r\n{IDS}\r\nHello"
        )
    );
}

#[test]
fn a_reply_to_that_is_there_is_kept() {
    let message = format!("From: teacher@school.org\r\nReply-To: forum@school.org\r\n{IDS}\r\n");
    assert_eq!(leaves(&message), format!("From: lms@contoso.com\r\nReply-To: forum@school.org\r\n{IDS}\r\n"));
}

#[test]
fn what_is_missing_is_added() {
    assert_eq!(
        leaves("Subject: x\r\n\r\nHello"),
        "From: <lms@contoso.com>\r\nDate: Mon, 4 Aug 2025 11:15:30 +0000\r\nMessage-ID: <0000000000007@contoso.com>\r\n\
         Subject: x\r\n\r\nHello"
    );
}

#[test]
fn a_message_without_a_header_gets_one() {
    let added = "From: <lms@contoso.com>\r\nDate: Mon, 4 Aug 2025 11:15:30 +0000\r\nMessage-ID: <0000000000007@contoso.com>\r\n";
    assert_eq!(leaves("just some text\r\n"), format!("{added}\r\njust some text\r\n"));
    assert_eq!(leaves("\r\ntext"), format!("{added}\r\ntext"));
    assert_eq!(leaves(""), added);
    assert_eq!(
        leaves("Subject: x\r\ntext at once\r\n"),
        format!("{added}Subject: x\r\ntext at once\r\n"),
        "not ours to judge"
    );
}

#[test]
fn the_line_of_a_mailbox_file_does_not_make_text_of_the_header() {
    let message = format!("From: lms@contoso.com\r\n{IDS}\r\nHello");
    let line = "From lms@contoso.com  Sat Nov  1 09:00:00 2026\r\n";
    assert_eq!(leaves(&format!("{line}{message}")), message);
    let notes = rewritten(format!("{line}{message}").as_bytes(), Some("lms@contoso.com")).notes;
    assert_eq!(notes, ["the line of a mailbox file in front of the header was left out"]);
}

#[test]
fn only_the_first_from_stays() {
    let message = format!("From: a@school.org\r\nFrom : lms@contoso.com\r\n{IDS}from: b@school.org\r\n c\r\n\r\n");
    assert_eq!(leaves(&message), format!("Reply-To: a@school.org\r\nFrom: lms@contoso.com\r\n{IDS}\r\n"));
    let notes = rewritten(message.as_bytes(), None).notes.join("; ");
    assert!(
        notes.contains("MAIL FROM <> became <lms@contoso.com>; From a@school.org became lms@contoso.com; 2 more"),
        "{notes}"
    );
}

#[test]
fn leaving_a_field_out_does_not_join_bare_line_ends_around_it() {
    let message = format!("{IDS}From: lms@contoso.com\rFrom: b@school.org\r\n\nSubject: of the text");
    assert_eq!(leaves(&message), format!("{IDS}From: lms@contoso.com\r\n\nSubject: of the text"));
}

#[test]
fn several_permitted_senders_get_a_sender_field_and_a_foreign_one_is_replaced() {
    let from = "From: lms@contoso.com, noreply@contoso.com\r\n";
    assert_eq!(leaves(&format!("{from}{IDS}\r\n")), format!("Sender: <lms@contoso.com>\r\n{from}{IDS}\r\n"));
    let foreign = format!("{from}Sender: x@school.org\r\n{IDS}\r\n");
    assert_eq!(leaves(&foreign), format!("{from}Sender: lms@contoso.com\r\n{IDS}\r\n"));
}

#[test]
fn a_bounce_address_of_its_own_becomes_the_mailbox() {
    let verp = "moodleAABAAAAAg==0123456789abcdef0123456789abcdef@contoso.com";
    assert_eq!(rewritten(b"", Some(verp)).mail_from, Some(address("lms@contoso.com")));
    assert_eq!(rewritten(b"", None).mail_from, Some(address("lms@contoso.com")));
}

#[test]
fn of_a_header_too_long_to_be_seen_whole_the_end_is_left_as_it_is() {
    let message = format!("From: a@school.org\r\nSubject: x\r\nX-Long: {}\r\nDate: x\r\n\r\nbody", "y".repeat(100));
    for cut in [40, 60] {
        let new = rewritten_part(&message.as_bytes()[..cut], message.len(), None);
        let whole = [&new.head, &message.as_bytes()[new.resume_at..]].concat();
        let whole = String::from_utf8(whole).unwrap();
        let rest = message.split_once("Subject").unwrap().1;
        assert_eq!(
            whole,
            format!("{RECEIVED}Reply-To: a@school.org\r\nFrom: lms@contoso.com\r\nSubject{rest}"),
            "{cut}"
        );
        assert!(new.notes.last().unwrap().starts_with("the header is longer than"), "{:?}", new.notes);
    }
}

fn line_end() -> impl Strategy<Value = &'static str> {
    prop_oneof![8 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r")]
}

fn from_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ ]?\"[a-zA-Z=?()<>, äß]{0,12}\" <[a-z]{1,5}@[a-z]{1,5}\\.org>",
        "[ ]?[a-zA-Zäß=?_-]{1,8}( [a-zA-Z]{1,8})?(\r\n)? <[a-z]{1,5}@[a-z]{1,5}\\.org>",
        "[ ]?[a-z]{1,5}@[a-z]{1,5}\\.org( \\([a-z]{0,5}\\))?",
        "[ ]?[a-z]{1,5}@[a-z]{1,5}\\.org, [A-Z][a-z]{0,5} <[a-z]{1,5}@[a-z]{1,5}\\.org>",
        "[ ]?[A-Z][a-z]{0,5}: [a-z]{1,5}@[a-z]{1,5}\\.org;",
        Just(" lms@contoso.com".to_owned()),
        "[ -~]{0,30}",
        "[<>\"(),;:@. aäß]{0,20}",
    ]
}

fn field() -> impl Strategy<Value = String> {
    let name = prop_oneof!["[A-Z][a-zA-Z-]{0,9}", "(Subject|To|Reply-To|Message-ID|Sender)[ ]?"];
    // mail-parser loses its way in a broken `Date`, so that one is always good.
    let date = line_end().prop_map(|end| format!("Date: Mon, 4 Aug 2025 11:00:00 +0000{end}"));
    let any = (name, "([ -~äß]{0,20})((\r\n|\n)[ \t][!-~äß]{1,10})?", line_end())
        .prop_map(|(name, value, end)| format!("{name}:{value}{end}"));
    prop_oneof![1 => date, 9 => any]
}

/// The raw fields, those that may be changed left out.
fn others(message: &[u8]) -> Vec<Vec<u8>> {
    let headers = Headers::scan(message);
    let fields = headers.fields().iter().filter(|field| !is(field, "From") && !is(field, "Sender"));
    fields.map(|field| message[field.span.clone()].to_vec()).collect()
}

proptest! {
    #[test]
    fn whatever_came_says_it_is_from_the_mailbox_and_every_other_byte_is_kept(
        before in prop::collection::vec(field(), 0..5),
        from in prop::option::of((from_value(), line_end())),
        after in prop::collection::vec(field(), 0..5),
        body in "\r\n[ -~\r\näß]{0,60}",
    ) {
        let from = from.map(|(value, end)| format!("From:{value}{end}")).unwrap_or_default();
        let message = format!("{}{from}{}{body}", before.concat(), after.concat()).into_bytes();
        let new = rewritten(&message, None);

        let resumed = &message[new.resume_at..];
        prop_assert!(resumed.starts_with(b"\r") || resumed.starts_with(b"\n"));
        let (kept, came) = (others(&new.head), others(&message));
        prop_assert!(kept.ends_with(&came), "{:?} -> {:?}", came, kept);
        prop_assert!(kept.len() - came.len() <= 4);

        let mut wire = Vec::new();
        let whole = [&new.head[..], resumed].concat();
        DataEncoder::new().encode(&whole, &mut wire);
        let parsed = MessageParser::default().parse(&wire).unwrap();
        let senders: Vec<_> = parsed.from().unwrap().iter().filter_map(|addr| addr.address()).collect();
        prop_assert_eq!(senders, ["lms@contoso.com"], "{:?}", String::from_utf8_lossy(&new.head));
        let again = rewritten(&whole, None);
        let again = [&again.head[RECEIVED.len()..], &whole[again.resume_at..]].concat();
        prop_assert_eq!(again, whole, "a second relay finds nothing to change");
    }

    #[test]
    fn no_bytes_make_it_panic(message in prop::collection::vec(any::<u8>(), 0..200), size in 0_usize..400) {
        let new = rewritten_part(&message, size, None);
        prop_assert!(new.resume_at <= message.len());
    }
}

/// What is stored, and what leaves of it under this policy, without our `Received`.
fn leaves_as(policy: SenderPolicy, sender: Option<&str>, message: &str) -> (Rewritten, String) {
    let new = rewritten_as(policy, &[], message.as_bytes(), message.len(), sender);
    let whole = [&new.head, &message.as_bytes()[new.resume_at..]].concat();
    let whole = String::from_utf8(whole).unwrap().strip_prefix(RECEIVED).unwrap().to_owned();
    (new, whole)
}

#[test]
fn what_is_to_be_kept_leaves_as_it_came_whoever_it_is_from() {
    for from in ["Dean <dean@school.org>", "a@b.example, c@d.example", "root (Cron Daemon)", "Team: a@b.example;", ""] {
        let message = format!("From: {from}\r\nSender: <x@y.example>\r\nfrom: other@y.example\r\n{IDS}\r\nHello\r\n");
        for sender in [None, Some("moodleAAB==@school.org")] {
            let (new, whole) = leaves_as(SenderPolicy::Keep, sender, &message);
            assert_eq!((whole, new.mail_from), (message.clone(), sender.map(address)), "{from}");
            assert_eq!(new.notes, Vec::<String>::new());
            assert!(new.senders.contains(&address("other@y.example")), "{:?}", new.senders);
        }
    }
    let (new, whole) = leaves_as(SenderPolicy::Keep, None, &format!("{IDS}\r\nHello\r\n"));
    assert_eq!(whole, format!("From: <lms@contoso.com>\r\n{IDS}\r\nHello\r\n"), "Exchange takes none without");
    assert_eq!(new.senders, []);
}

#[test]
fn the_senders_of_what_leaves_are_told() {
    let message = format!("From: x <NoReply@contoso.com>\r\n{IDS}\r\nHello");
    let senders = |policy, sender| leaves_as(policy, Some(sender), &message).0.senders;
    assert_eq!(senders(SenderPolicy::Rewrite, "a@school.org"), [address("noreply@contoso.com")]);
    assert_eq!(senders(SenderPolicy::Rewrite, "noreply@contoso.com"), [address("noreply@contoso.com")]);
    let both = [address("a@school.org"), address("noreply@contoso.com")];
    assert_eq!(senders(SenderPolicy::Keep, "a@school.org"), both);
}

#[test]
fn whom_a_diverted_message_was_for_is_readable_and_nothing_else_changes() {
    let message = format!("From: LMS <lms@contoso.com>\r\nTo: you@example.com\r\n{IDS}\r\nHello\r\n");
    let diverted = |originals: &[Address]| {
        let new = rewritten_as(SenderPolicy::Rewrite, originals, message.as_bytes(), message.len(), None);
        let whole = [&new.head, &message.as_bytes()[new.resume_at..]].concat();
        String::from_utf8(whole).unwrap().strip_prefix(RECEIVED).unwrap().to_owned()
    };
    let two = diverted(&[address("you@example.com"), address("grün@münchen.example")]);
    let fields = "X-Original-To: you@example.com\r\nX-Original-To: gr\\x{FC}n@m\\x{FC}nchen.example\r\n";
    assert_eq!(two, format!("{fields}{message}"));
    let many: Vec<Address> = (0..500).map(|n| address(&format!("user{n}@example.com"))).collect();
    let many = diverted(&many);
    assert_eq!(many.matches("X-Original-To: ").count(), 100);
    assert!(many.contains("X-Original-To-More: 400\r\n"));
}
