//! What SMTP offers beyond the plainest mail, from the sending program through to Exchange: chunks, notices, addresses outside ASCII, and
//! bytes that no standard wants.

use crate::support::{Client, MAILBOX, Rig, blocking, expect, without_received};

const HEADER: &str = "From: Moodle <lms@contoso.com>\r\nSubject: odd\r\nDate: Sat, 21 Nov 2026 09:00:00 +0000\r\n\
                      Message-ID: <one@moodle.example>\r\n\r\n";

/// The id in `250 2.0.0 OK queued as …`.
fn id_of(reply: &str) -> String {
    reply.strip_prefix("250 2.0.0 OK queued as ").unwrap_or_else(|| panic!("not queued: {reply}")).to_owned()
}

/// Says MAIL and RCPT, then `body` in chunks of at most `size` octets, all in one go, and gives the id.
fn in_chunks(client: &mut Client, body: &[u8], size: usize) -> String {
    let mut wire = format!("MAIL FROM:<{MAILBOX}>\r\nRCPT TO:<you@example.com>\r\n").into_bytes();
    for chunk in body.chunks(size) {
        wire.extend_from_slice(format!("BDAT {}\r\n", chunk.len()).as_bytes());
        wire.extend_from_slice(chunk);
    }
    wire.extend_from_slice(b"BDAT 0 LAST\r\n");
    client.send(&wire);
    for _ in 0..2 + body.chunks(size).len() {
        expect(&client.reply(), "250");
    }
    id_of(&client.reply())
}

/// The journal of a message, and what the command prints of it.
async fn journal(rig: &Rig, id: &str) -> String {
    let detail = rig.relay.ops().queue_show(id.parse().unwrap()).await.unwrap();
    detail.journal.into_iter().map(|line| line.text + "\n").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_in_chunks_leaves_with_its_dots_and_its_last_line_ended() {
    let rig = Rig::start().await;
    let door = rig.door();
    let body = format!("{HEADER}.\r\n..\r\n.\r\nMAIL FROM:<x@evil.example>\r\n.\r\nno end");
    let sent = body.clone();
    blocking(move || {
        let mut client = Client::greeted(door);
        for size in [7, sent.len()] {
            in_chunks(&mut client, sent.as_bytes(), size);
        }
        expect(&client.ask("QUIT"), "221");
    })
    .await;
    for accepted in rig.until_accepted(2).await {
        assert_eq!(String::from_utf8_lossy(without_received(&accepted.bytes)), format!("{body}\r\n"));
    }
    rig.until_queue_is_empty().await;
    assert_eq!(rig.simulator.accepted().len(), 2, "and nothing that was smuggled");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_no_standard_wants_are_handed_on_and_what_had_to_be_mended_is_told() {
    let rig = Rig::start().await;
    let door = rig.door();
    let long = "x".repeat(100_000);
    let body = format!("{HEADER}bare \n.\n and \r, a NUL \0\r\n\0.\r\n{long}\r\n").into_bytes();
    let mended = format!("{HEADER}bare \r\n.\r\n and \r\n, a NUL \0\r\n\0..\r\n{long}\r\n");
    let id = blocking(move || in_chunks(&mut Client::greeted(door), &body, 50_000)).await;
    let accepted = rig.until_accepted(1).await;
    assert_eq!(String::from_utf8_lossy(without_received(&accepted[0].bytes)), mended);
    rig.until_queue_is_empty().await;
    let journal = journal(&rig, &id).await;
    assert!(journal.contains("bare CR or LF made CRLF"), "{journal}");
    assert!(journal.contains("a dot behind NULs at the start of a line doubled"), "{journal}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sender_wants_to_hear_reaches_exchange_and_is_shown() {
    let rig = Rig::start().await;
    rig.simulator.go_away().await.unwrap();
    let door = rig.door();
    let id = blocking(move || {
        let mut client = Client::greeted(door);
        expect(&client.ask(&format!("MAIL FROM:<{MAILBOX}> RET=HDRS ENVID=QQ+2B1")), "250");
        expect(&client.ask("RCPT TO:<one@example.com> NOTIFY=NEVER"), "250");
        expect(&client.ask("RCPT TO:<two@example.com> NOTIFY=DELAY,FAILURE ORCPT=rfc822;2@old.example"), "250");
        expect(&client.ask("RCPT TO:<three@example.com>"), "250");
        expect(&client.ask("DATA"), "354");
        client.send(HEADER.as_bytes());
        id_of(&client.ask("."))
    })
    .await;
    let shown = rig.relay.ops().queue_show(id.parse().unwrap()).await.unwrap().message;
    assert_eq!((shown.envid.as_deref(), shown.ret.as_deref()), (Some("QQ+2B1"), Some("HDRS")));
    let notify: Vec<_> = shown.recipients.iter().map(|recipient| recipient.notify.as_deref()).collect();
    assert_eq!(notify, [Some("NEVER"), Some("FAILURE,DELAY"), None]);
    assert_eq!(shown.recipients[1].orcpt.as_deref(), Some("rfc822;2@old.example"));

    let rig = rig.restart().await;
    rig.simulator.come_back().await.unwrap();
    let accepted = rig.until_accepted(1).await.remove(0);
    assert!(accepted.mail_params.contains("RET=HDRS ENVID=QQ+2B1"), "{}", accepted.mail_params);
    let told = ["NOTIFY=NEVER", "NOTIFY=FAILURE,DELAY ORCPT=rfc822;2@old.example", ""];
    assert_eq!(accepted.recipient_params, told);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_and_headers_outside_ascii_arrive_as_they_were_written() {
    let rig = Rig::start().await;
    let door = rig.door();
    let mail = HEADER.replace("odd", "grün, 用户");
    let sent = mail.clone();
    blocking(move || {
        let mut client = Client::greeted(door);
        expect(&client.ask(&format!("MAIL FROM:<{MAILBOX}> SMTPUTF8 BODY=8BITMIME")), "250");
        expect(&client.ask("RCPT TO:<用户@münchen.example>"), "250");
        expect(&client.ask("DATA"), "354");
        client.send(sent.as_bytes());
        expect(&client.ask("."), "250");
    })
    .await;
    let accepted = rig.until_accepted(1).await.remove(0);
    assert_eq!(accepted.recipients, ["用户@münchen.example"]);
    assert!(accepted.mail_params.contains("SMTPUTF8"), "{}", accepted.mail_params);
    assert_eq!(String::from_utf8_lossy(without_received(&accepted.bytes)), mail);
    rig.stop().await;
}
