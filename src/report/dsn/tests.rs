//! Notices as they are written.

use super::*;
use crate::message::{EnvelopeId, Headers, OriginalRecipient};
use crate::report::affair::samples::{at, stored};
use crate::store::Stored;

const HEADER: &[u8] =
    b"Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\nDate: Sat, 21 Nov 2026 08:59:00 +0000\r\nMessage-ID: <one@school.org>\r\n\r\n";

fn address(text: &str) -> Address {
    Address::parse(text).unwrap()
}

fn one(stored: &Stored) -> Affair {
    let places: Vec<usize> = (0..stored.recipients.len()).collect();
    Affair::of(stored, &Headers::scan(HEADER), &places)
}

fn written(kind: Kind, affairs: &[Affair], original: Option<Original>) -> String {
    let notice = Notice {
        kind,
        id: QueueId::from_number(1 << 40),
        at: at(60),
        to: &address("jane@school.org"),
        from: &address("lms@contoso.com"),
        relay: "relay.contoso.com",
        remote: "smtp.office365.com",
        affairs,
        retry_until: (kind == Kind::Delayed).then(|| at(86_400)),
        kept_days: 30,
        original,
    };
    String::from_utf8(compose(&notice).unwrap().0.to_vec()).unwrap().replace("\r\n", "\n")
}

fn assert_lines(mail: &str, lines: &[&str]) {
    for line in lines {
        assert!(mail.lines().any(|found| found == *line), "{line:?} is not in\n{mail}");
    }
}

#[test]
fn a_failure_is_told_to_people_and_to_programs() {
    let mut stored = stored(1, Some("jane@school.org"), &["gone@example.com", "grün@example.com"]);
    stored.envelope.envid = EnvelopeId::parse("a+2Bb");
    stored.envelope.recipients[0].orcpt = OriginalRecipient::parse("rfc822;old+2Bname@example.com");
    stored.recipients[1].reply = Some("550-5.1.10 first line\n550 5.1.10 Empfänger unbekannt".to_owned());
    let affair = one(&stored);
    let mail = written(Kind::Failed, &[affair], Original::of(HEADER, false));
    assert_lines(
        &mail,
        &[
            "From: \"Mail Delivery System\" <lms@contoso.com>",
            "To: jane@school.org",
            "Auto-Submitted: auto-replied",
            "In-Reply-To: <one@school.org>",
            "References: <one@school.org>",
            "Original-Envelope-Id: a+b",
            "Reporting-MTA: dns; relay.contoso.com",
            "Arrival-Date: Sat, 21 Nov 2026 09:00:00 +0000",
            "Original-Recipient: rfc822;old+name@example.com",
            "Final-Recipient: rfc822;gone@example.com",
            "Final-Recipient: utf-8;gr\\x{FC}n@example.com",
            "Action: failed",
            "Status: 5.4.1",
            "Status: 5.1.10",
            "Remote-MTA: dns; smtp.office365.com",
            "Diagnostic-Code: smtp; 550 5.4.1 Recipient address rejected: Access denied.",
            "Diagnostic-Code: smtp; 550-5.1.10 first line 550 5.1.10 Empf?nger unbekannt",
            "Content-Type: text/rfc822-headers",
            "Message-ID: <one@school.org>",
        ],
    );
    assert!(!mail.contains("Will-Retry-Until"));
    assert!(mail.contains("multipart/report; report-type=delivery-status;"), "{mail}");
}

#[test]
fn recipients_of_whom_the_same_was_said_are_told_together() {
    let mut stored = stored(1, Some("jane@school.org"), &["a@example.com", "b@example.com", "c@example.com"]);
    stored.recipients[1].reply = Some("552 5.2.2 mailbox full".to_owned());
    let affair = Affair::of(&stored, &Headers::scan(b"Subject: x\r\n\r\n"), &[0, 1, 2]);
    let mail = written(Kind::Failed, &[affair], None);
    assert_lines(
        &mail,
        &[
            "    Did not reach: a@example.com, b@example.com, c@example.com",
            "The mail server said about a@example.com, c@example.com:",
            "The mail server said about b@example.com:",
        ],
    );
    assert_eq!(mail.matches("What it means").count(), 2);
}

#[test]
fn a_delay_is_no_failure_and_says_until_when() {
    let mut stored = stored(1, Some("jane@school.org"), &["slow@example.com", "other@example.com"]);
    stored.recipients[0].reply = Some("451 4.3.2 busy".to_owned());
    stored.recipients[1].reply = None;
    let mail = written(Kind::Delayed, &[one(&stored)], None);
    assert_lines(
        &mail,
        &["Action: delayed", "Status: 4.3.2", "Status: 4.4.7", "Will-Retry-Until: Sun, 22 Nov 2026 09:00:00 +0000"],
    );
    assert!(!mail.contains("queue retry"), "{mail}");
    assert!(!mail.contains("What it means"), "{mail}");
}

#[test]
fn what_is_gathered_names_each_mail_and_is_still_a_notice() {
    let affairs: Vec<Affair> =
        (0..60).map(|n| one(&stored(n, Some("jane@school.org"), &[&format!("gone{}@example.com", n % 55)]))).collect();
    let mail = written(Kind::Failed, &affairs, None);
    assert_lines(&mail, &["Subject: 60 mails were not delivered", "... and 10 more."]);
    assert_eq!(mail.matches("Final-Recipient: ").count(), 55);
    assert!(!mail.contains("In-Reply-To"));
    // Quoted-printable, because of an umlaut in the subject: a line may end in the middle.
    assert_eq!(mail.matches("What it means").count(), 1);
}

#[test]
fn a_hostile_answer_stays_within_its_field() {
    let mut stored = stored(1, Some("jane@school.org"), &["gone@example.com"]);
    let long = "x".repeat(5000);
    stored.recipients[0].reply = Some(format!("550 5.1.1 \u{7}a\r\rSubject: y\n\nAction: delivered {long}"));
    let mail = written(Kind::Failed, &[one(&stored)], None);
    assert!(
        !mail.lines().any(|line| line.starts_with("Action: delivered") || line.starts_with("Subject: y")),
        "{mail}"
    );
    assert!(mail.lines().all(|line| line.len() <= LONGEST_LINE));
}

#[test]
fn the_whole_mail_comes_back_only_if_it_can_stand_in_another() {
    let sound = b"Subject: x\r\n\r\nt\xc3\xa9xt\nmore";
    let Some(Original::Whole(bytes)) = Original::of(sound, true) else { panic!("it is sound") };
    assert_eq!(bytes, b"Subject: x\r\n\r\nt\xc3\xa9xt\r\nmore");
    let header = Some(Original::Header(b"Subject: x\r\n".to_vec()));
    assert_eq!(Original::of(sound, false), header);
    let long = [&b"Subject: x\r\n\r\n"[..], &[b'y'; 1000]].concat();
    assert_eq!(Original::of(&long, true), header);
    assert_eq!(Original::of(b"Subject: x\r\n\r\na\0b", true), header);
    assert_eq!(Original::of(b"\r\nno header", false), None);
}
