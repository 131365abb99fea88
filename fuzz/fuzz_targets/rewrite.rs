//! Headers and their rewriting: whatever came, it leaves from the mailbox, and no other byte is changed.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xoauth2_relay::message::{
    Address, Envelope, Headers, Mailboxes, Permitted, Policy, Protocol, QueueId, Rewritten, SenderPolicy, Trace,
    rewrite,
};

const MAILBOX: &str = "lms@contoso.com";
const SEND_AS: &str = "noreply@contoso.com";

fuzz_target!(|input: &[u8]| {
    let Some((&flags, message)) = input.split_first() else { return };
    check_headers(message);
    check_whole(message);
    // Of a very long header only the beginning is looked at.
    let seen = message.len() * usize::from(flags) / 255;
    check_part(message, seen);
});

fn rewritten(start: &[u8], size: usize) -> Rewritten {
    let address = |text| Address::parse(text).unwrap();
    let protocol = Protocol { extended: true, tls: false, authenticated: false };
    let trace = Trace { peer: "10.1.2.3".parse().unwrap(), helo: Some("lms".into()), protocol, user: None };
    let envelope = Envelope { recipients: vec![address("a@example.com").into()], ..Envelope::default() };
    let policy = Policy {
        sender: SenderPolicy::Rewrite,
        originals: &[],
        permitted: Permitted { mailbox: &address(MAILBOX), send_as: &[address(SEND_AS)] },
        hostname: "relay.contoso.com",
        trace: &trace,
        envelope: &envelope,
        id: QueueId::from_number(7),
        received_at: "2025-08-04T11:15:30Z".parse().unwrap(),
    };
    rewrite(start, size as u64, &policy)
}

/// The fields lie one behind the other, each with its name, its colon and its value.
fn check_headers(message: &[u8]) {
    let headers = Headers::scan(message);
    let mut at = headers.start();
    for field in headers.fields() {
        assert_eq!(field.span.start, at);
        assert_eq!(&message[field.value_span.clone()], field.value);
        let name = &message[field.span.start..field.value_span.start];
        assert!(name.starts_with(field.name) && name.ends_with(b":") && !field.name.is_empty());
        let end = &message[field.value_span.end..field.span.end];
        assert!([&b""[..], b"\r", b"\n", b"\r\n"].contains(&end));
        assert!(!end.is_empty() || field.span.end == message.len());
        at = field.span.end;
    }
    assert_eq!(headers.end(), at.max(headers.start()));
}

fn check_whole(message: &[u8]) {
    let new = rewritten(message, message.len());
    let whole = [&new.head[..], &message[new.resume_at..]].concat();
    assert_eq!(new.resume_at, Headers::scan(message).end());
    assert_eq!(kept(&whole).1.strip_prefix(parting(message, &new)), Some(&message[new.resume_at..]), "the text");
    let (after, before) = (kept(&whole).0, kept(message).0);
    assert!(after.len() <= before.len() + 4);
    for (after, before) in after.iter().rev().zip(before.iter().rev()) {
        // A bare CR may have become CRLF, where another field stood behind it.
        assert!(after == before || *after == [before, &b"\n"[..]].concat(), "{}", before.escape_ascii());
    }
    assert_from_the_mailbox(&whole);

    let again = rewritten(&whole, whole.len());
    let again = [&again.head[..], &whole[again.resume_at..]].concat();
    assert!(again.ends_with(&whole), "a second relay changes nothing");
}

fn parting(message: &[u8], new: &Rewritten) -> &'static [u8] {
    let text = new.resume_at == 0 && !matches!(message.first(), None | Some(b'\r' | b'\n'));
    if text { b"\r\n" } else { b"" }
}

/// Every field but the sender's, and all that is behind the header.
fn kept(message: &[u8]) -> (Vec<Vec<u8>>, &[u8]) {
    let headers = Headers::scan(message);
    let is = |name: &[u8]| name.eq_ignore_ascii_case(b"From") || name.eq_ignore_ascii_case(b"Sender");
    let fields = headers.fields().iter().filter(|field| !is(field.name));
    (fields.map(|field| message[field.span.clone()].to_vec()).collect(), &message[headers.end()..])
}

fn assert_from_the_mailbox(whole: &[u8]) {
    let headers = Headers::scan(whole);
    let senders: Vec<_> = headers.all("From").collect();
    assert_eq!(senders.len(), 1);
    for field in headers.all("From").chain(headers.all("Sender")) {
        let found = Mailboxes::find(field.value);
        assert!(found.sound, "{}", field.value.escape_ascii());
        for mailbox in found.list {
            assert!([MAILBOX, SEND_AS].iter().any(|own| own.eq_ignore_ascii_case(mailbox.address.as_str())));
        }
    }
}

/// Nothing beyond the part that was seen is touched, and nothing is lost where it ends.
fn check_part(message: &[u8], seen: usize) {
    let new = rewritten(&message[..seen], message.len());
    assert!(new.resume_at <= seen);
    let line_start = new.resume_at == 0 || b"\r\n".contains(&message[new.resume_at - 1]);
    assert!(line_start || new.resume_at == seen);
}
