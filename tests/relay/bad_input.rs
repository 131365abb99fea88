//! What hostile, broken and old programs say: a clear reply, and the next session is unharmed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::{Client, MAILBOX, PATIENCE, Rig, blocking, expect, quick};

const MAIL: &str = "From: lms@contoso.com\r\nSubject: still here\r\n\r\nstill here\r\n";

/// A listener with small limits.
const SMALL: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\nmax_message_size = \"20 KB\"\nmax_recipients = 3\nidle_timeout = \"1s\"\n";

/// The next client is served as if nothing had been.
fn assert_unharmed(door: SocketAddr) {
    let mut client = Client::greeted(door);
    client.submit(MAILBOX, &["you@example.com"], MAIL);
    expect(&client.ask("QUIT"), "221");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mistake_has_its_reply_and_costs_nothing_else() {
    let rig = Rig::start().await;
    let door = rig.door();
    blocking(move || {
        let mut client = Client::greeted(door);
        for (command, reply) in [
            ("", "500"),
            ("NONSENSE", "500"),
            ("MAIL", "501"),
            ("MAIL FROM:<a@b", "501"),
            ("MAIL FROM:<a b@c>", "501"),
            ("MAIL FROM:<a@b> FOO=bar", "555"),
            ("MAIL FROM:<a@b> SIZE=999999999999", "552"),
            ("RCPT TO:<a@b>", "503"),
            ("DATA", "503"),
            ("STARTTLS", "502"),
            ("AUTH", "501"),
            ("AUTH CRAM-MD5", "504"),
            ("AUTH PLAIN !!!", "501"),
            ("AUTH PLAIN AGFueW9uZQBhbnl0aGluZw==", "235"),
            ("AUTH LOGIN", "503"),
            ("MAIL FROM:<lms@contoso.com>", "250"),
            ("MAIL FROM:<lms@contoso.com>", "503"),
            ("RCPT TO:<>", "5"),
            ("RCPT TO:<root>", "550"),
            ("RCPT TO:<you@example.com>", "250"),
        ] {
            expect(&client.ask(command), reply);
        }
        // After all this the mail still goes.
        expect(&client.ask("DATA"), "354");
        client.send(MAIL.as_bytes());
        expect(&client.ask("."), "250");
        assert_unharmed(door);
    })
    .await;
    rig.until_accepted(2).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_large_too_many_and_too_slow_are_told_apart() {
    let rig = Rig::with_listener(quick(), SMALL).await;
    let door = rig.door();
    blocking(move || {
        let mut client = Client::greeted(door);
        let reply = client.ask("MAIL FROM:<lms@contoso.com> SIZE=30000");
        expect(&reply, "552");
        assert!(reply.contains("max_message_size"), "the key to change is named: {reply}");

        expect(&client.ask("MAIL FROM:<lms@contoso.com>"), "250");
        for n in 0..3 {
            expect(&client.ask(&format!("RCPT TO:<user{n}@example.com>")), "250");
        }
        expect(&client.ask("RCPT TO:<user4@example.com>"), "452");
        expect(&client.ask("DATA"), "354");
        client.send(&b"too much\r\n".repeat(3_000));
        let reply = client.ask(".");
        expect(&reply, "552");
        client.submit(MAILBOX, &["you@example.com"], MAIL);

        // It says nothing more; the relay does, and goes.
        let since = Instant::now();
        let last = client.rest();
        assert!(last.starts_with("421 "), "{last}");
        assert!(since.elapsed() < PATIENCE);
        assert_unharmed(door);
    })
    .await;
    rig.until_accepted(2).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stalls_within_a_mail_leaves_nothing_behind() {
    let rig = Rig::with_listener(quick(), SMALL).await;
    let door = rig.door();
    blocking(move || {
        let mut client = Client::greeted(door);
        expect(&client.ask("MAIL FROM:<lms@contoso.com>"), "250");
        expect(&client.ask("RCPT TO:<you@example.com>"), "250");
        expect(&client.ask("DATA"), "354");
        client.send(b"Subject: half a mail\r\n\r\nand no");
        let last = client.rest();
        assert!(last.is_empty() || last.starts_with("421 "), "{last}");
        assert_unharmed(door);
    })
    .await;
    rig.until_accepted(1).await;
    rig.until_queue_is_empty().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_anything_ends_with_its_own_connection() {
    let rig = Rig::start().await;
    let door = rig.door();
    blocking(move || {
        let mut state = 1_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        })
        .take(1 << 20)
        .collect();
        let zeros = vec![0; 1 << 20];
        let long_line = vec![b'a'; 4 << 20];
        for flood in [&noise, &zeros, &long_line] {
            let mut client = Client::connect(door);
            expect(&client.reply(), "220");
            // The relay may have closed by then: that is its right.
            client.send_what_it_takes(flood);
            let said = client.rest();
            assert!(said.is_empty() || said.starts_with('5') || said.starts_with("421"), "{said}");
            assert_unharmed(door);
        }
    })
    .await;
    rig.until_accepted(3).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_allowed_are_told_so_and_the_others_go_on() {
    let listener = "[[listener]]\naddress = \"127.0.0.1:0\"\nmax_connections_per_address = 3\n";
    let rig = Rig::with_listener(quick(), listener).await;
    let door = rig.door();
    blocking(move || {
        let mut first: Vec<Client> = (0..3).map(|_| Client::greeted(door)).collect();
        let mut fourth = Client::connect(door);
        expect(&fourth.reply(), "421");
        first[0].submit(MAILBOX, &["you@example.com"], MAIL);
        drop(first);
        let since = Instant::now();
        loop {
            let mut again = Client::connect(door);
            if again.reply().starts_with("220") {
                break;
            }
            assert!(since.elapsed() < PATIENCE, "places are given back");
            std::thread::sleep(Duration::from_millis(10));
        }
    })
    .await;
    rig.until_accepted(1).await;
    rig.stop().await;
}
