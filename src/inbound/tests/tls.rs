//! TLS over real sockets: before it, behind it, and when it does not come about.

use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::harness::{Client, TestDoor, until};
use super::identity::{Identity, connector};
use super::logs::Logs;
use crate::clock::Clock;
use crate::config::{Listener, TlsBegins};
use crate::inbound::certificates::Certificates;
use crate::inbound::memory::Memory;
use crate::registry::testing;

const STARTTLS: TlsBegins = TlsBegins::WithStartTls;
const IMPLICIT: TlsBegins = TlsBegins::AtOnce;

fn start(identity: &Identity, begins: TlsBegins) -> TestDoor {
    TestDoor::start_with(identity.listener(begins), Memory::default())
}

/// As far as the `220` of STARTTLS.
async fn before_handshake(door: &TestDoor) -> Client {
    let mut client = door.greeted().await;
    client.say("STARTTLS", "220 2.0.0 ready for TLS").await;
    client
}

#[tokio::test]
async fn nothing_of_what_was_said_in_the_clear_is_known_behind_starttls() {
    let identity = Identity::new();
    let door = start(&identity, STARTTLS);
    let mut client = door.greeted().await;
    client.say("HELO evil.example", "250 relay.test").await;
    client.say("AUTH PLAIN AGV2aWwAcHc=", "235 *").await;
    client.say("STARTTLS", "220 *").await;
    let mut client = client.with_tls(&identity.trusted()).await.unwrap();
    client.submit("first").await;
    client.say("EHLO web.example", "250-relay.test").await;
    for _ in 0..9 {
        assert_ne!(client.line().await.unwrap(), "250-STARTTLS");
    }
    client.say("AUTH PLAIN AGdvb2QAcHc=", "235 *").await;
    client.say("STARTTLS", "503 5.5.1 TLS is already on").await;
    client.submit("second").await;
    client.say("QUIT", "221 *").await;
    client.expect_end().await;

    let accepted = door.memory.accepted();
    let first = &accepted[0].0.trace;
    assert_eq!((first.helo.as_deref(), first.user.as_deref()), (None, None));
    assert!(first.protocol.tls && !first.protocol.authenticated);
    let second = &accepted[1].0.trace;
    assert_eq!((second.helo.as_deref(), second.user.as_deref()), (Some("web.example"), Some("good")));
    assert!(second.protocol.tls && second.protocol.authenticated && second.protocol.extended);
}

#[tokio::test]
async fn implicit_tls_greets_behind_the_handshake_and_takes_large_bodies() {
    let identity = Identity::new();
    let listener = Listener { max_message_size: 10_000_000, ..identity.listener(IMPLICIT) };
    let door = TestDoor::start_with(listener, Memory::default());
    let mut client = door.connect().await.with_tls(&identity.trusted()).await.unwrap();
    client.expect("220 relay.test *").await;
    let body = "a line of some length, and another one, é\r\n".repeat(40_000);
    client.begin().await;
    client.send(&body).await;
    client.say(".", "250 2.0.0 OK queued as *").await;
    let (incoming, bytes) = door.memory.accepted().remove(0);
    assert!(bytes == body.as_bytes(), "the bytes differ");
    assert!(incoming.trace.protocol.tls);
    drop(client);
    // Hanging up without a goodbye frees the place.
    until("the session ends", || door.tasks.len() == 1).await;
}

#[tokio::test]
async fn commands_in_the_clear_that_come_after_the_go_ahead_are_never_carried_out() {
    let identity = Identity::new();
    let logs = Logs::capture();
    let door = start(&identity, STARTTLS);
    let mut client = before_handshake(&door).await;
    client.send("MAIL FROM:<evil@example.com>\r\nRCPT TO:<b@example.com>\r\nDATA\r\nevil\r\n.\r\n").await;
    // What comes is a TLS alert, no reply.
    let mut rest = Vec::new();
    while let Some(byte) = client.byte().await {
        rest.push(byte);
    }
    assert!(rest.first().is_none_or(|&first| first == 21), "{}", rest.escape_ascii());
    until("it is logged", || logs.count("sent something that is no TLS") == 1).await;
    assert_eq!(door.accepted(), 0);
    door.greeted().await.submit("unharmed").await;
}

#[tokio::test]
async fn commands_that_come_together_with_starttls_end_the_session_with_a_line_in_the_log() {
    let identity = Identity::new();
    let logs = Logs::capture();
    let door = start(&identity, STARTTLS);
    let mut client = door.greeted().await;
    client.send("STARTTLS\r\nRSET\r\n").await;
    client.expect("554 5.5.1 nothing may be sent behind STARTTLS*").await;
    client.expect_end().await;
    assert_eq!(logs.count("commands in the clear came behind STARTTLS"), 1, "{}", logs.text());
    assert_eq!(logs.count("peer=127.0.0.1"), 1, "{}", logs.text());
}

/// The beginning of a handshake by a program that knows nothing newer than TLS 1.0, with one of its ciphers.
fn old_hello() -> Vec<u8> {
    let hello = [&[3, 1][..], &[7; 32], &[0], &[0, 2, 0, 0x35], &[1, 0]].concat();
    let length = u8::try_from(hello.len()).unwrap();
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &hello].concat()
}

#[tokio::test]
async fn what_stands_in_the_way_of_tls_is_logged_once_with_its_remedy() {
    let identity = Identity::new();
    let logs = Logs::capture();
    let door = start(&identity, STARTTLS);
    for _ in 0..3 {
        let mut old = before_handshake(&door).await;
        old.send(old_hello()).await;
        while old.byte().await.is_some() {}
        let strict = before_handshake(&door).await.with_tls(&connector(&[])).await;
        assert!(strict.is_err(), "a client that trusts nobody");
        drop(before_handshake(&door).await);
        until("all of them are gone", || door.tasks.len() == 1).await;
    }
    for words in [
        "no TLS with 127.0.0.1: the program knows only TLS 1.1 or older, and the relay needs 1.2: update it",
        "no TLS with 127.0.0.1: the program does not accept the relay's certificate (UnknownCA)",
        "no TLS with 127.0.0.1: the program closed the connection in the middle of the handshake",
    ] {
        assert_eq!(logs.count(words), 1, "{words}: {}", logs.text());
    }
}

#[tokio::test]
async fn a_handshake_has_a_deadline_and_the_relay_does_not_wait_for_it_to_stop() {
    let identity = Identity::new();
    let logs = Logs::capture();
    let listener = Listener { idle_timeout: Duration::from_secs(1), ..identity.listener(IMPLICIT) };
    let door = TestDoor::start_with(listener, Memory::default());
    // Set to STARTTLS, so it waits for a greeting.
    door.connect().await.expect_end().await;
    assert_eq!(logs.count("with tls = \"implicit\" its encryption has to be SSL/TLS"), 1, "{}", logs.text());

    let door = start(&identity, IMPLICIT);
    let mut waiting = door.connect().await;
    until("it is accepted", || door.tasks.len() == 2).await;
    door.stop.cancel();
    waiting.expect_end().await;
    door.tasks.close();
    door.tasks.wait().await;
}

#[tokio::test]
async fn handshakes_take_places_and_give_them_back() {
    let identity = Identity::new();
    let listener = Listener { max_connections_per_address: 1, ..identity.listener(IMPLICIT) };
    let door = TestDoor::start_with(listener, Memory::default());
    let first = door.connect().await;
    until("it is accepted", || door.tasks.len() == 2).await;
    // There is no TLS yet to say it in.
    door.connect().await.expect_end().await;
    drop(first);
    until("its place is free", || door.tasks.len() == 1).await;
    let mut next = door.connect().await.with_tls(&identity.trusted()).await.unwrap();
    next.expect("220 *").await;
}

#[tokio::test]
async fn a_program_that_begins_tls_too_early_is_told_what_to_set() {
    let identity = Identity::new();
    for (listener, words) in [
        (identity.listener(STARTTLS), "421 4.7.0 TLS begins with STARTTLS here: set the encryption *"),
        (testing::listener(), "421 4.7.0 this listener has no TLS: set the encryption *"),
    ] {
        let door = TestDoor::start_with(listener, Memory::default());
        let mut client = door.greeted().await;
        client.send(old_hello()).await;
        client.expect(words).await;
        client.expect_end().await;
    }
}

#[tokio::test]
async fn a_renewed_certificate_is_used_from_the_next_connection_on() {
    let identity = Identity::new();
    let logs = Logs::capture();
    let door = start(&identity, STARTTLS);
    let before = identity.trusted();
    let mut session = before_handshake(&door).await.with_tls(&before).await.unwrap();

    // Half of a renewal: kept from use, and said.
    let (certificate, key) = Identity::pair();
    identity.write("cert.pem", &certificate);
    door.reload();
    until("it is said", || logs.count("so the one before is kept: ") == 1).await;
    assert_eq!(logs.count("key.pem does not belong to the certificate in"), 1, "{}", logs.text());
    door.reload();
    before_handshake(&door).await.with_tls(&before).await.unwrap();

    identity.write("key.pem", &key);
    door.reload();
    until("it is said", || logs.count("the certificate has changed and is used from now on") == 1).await;
    assert!(before_handshake(&door).await.with_tls(&before).await.is_err(), "the old one is gone");
    before_handshake(&door).await.with_tls(&identity.trusted()).await.unwrap().submit("renewed").await;
    session.submit("unharmed").await;
    assert_eq!(logs.count("so the one before is kept"), 1, "said once: {}", logs.text());
}

/// As certbot (a link for each file) and Kubernetes (a link to the folder) do it.
#[tokio::test]
async fn links_that_lead_elsewhere_are_followed() {
    let identity = Identity::new();
    for name in ["one", "two"] {
        std::fs::create_dir(identity.path(name)).unwrap();
        let (certificate, key) = Identity::pair();
        identity.write(&format!("{name}/cert.pem"), &certificate);
        identity.write(&format!("{name}/key.pem"), &key);
    }
    let swap = |to: &str, link: &str| {
        symlink(to, identity.path("new")).unwrap();
        std::fs::rename(identity.path("new"), identity.path(link)).unwrap();
    };
    swap("one", "live");
    for file in ["cert.pem", "key.pem"] {
        swap(&format!("live/{file}"), file);
    }
    let certificate = identity.certificate();
    assert!(!certificate.has_changed());
    swap("two", "live");
    assert!(certificate.has_changed());
    let renewed = certificate.read_again().unwrap();
    assert_ne!(renewed.chain(), certificate.chain());
    swap("two/cert.pem", "cert.pem");
    assert!(!renewed.has_changed(), "another way to the same file");
    std::fs::remove_file(identity.path("two/key.pem")).unwrap();
    assert!(renewed.has_changed() && renewed.read_again().is_err());
}

#[tokio::test]
async fn certificates_are_looked_at_without_being_asked_to() {
    let identity = Identity::new();
    let certificates = Arc::new(Certificates::new(identity.certificate(), Duration::from_millis(20)));
    let before = certificates.current();
    let stop = CancellationToken::new();
    let config = watch::Sender::new(Arc::new(testing::config(&[("lms@contoso.com", &[])])));
    let following = tokio::spawn({
        let (certificates, stop, config) = (certificates.clone(), stop.clone(), config.subscribe());
        async move { certificates.keep_up("127.0.0.1:587".parse().unwrap(), config, &Clock::system(), &stop).await }
    });
    // A relay that stops drops its configuration first: that ends nothing here.
    drop(config);
    let (certificate, key) = Identity::pair();
    identity.write("cert.pem", &certificate);
    identity.write("key.pem", &key);
    until("the new one is there", || certificates.current().chain() != before.chain()).await;
    assert_eq!(certificates.current().chain(), identity.certificate().chain());
    stop.cancel();
    following.await.unwrap();
}

#[tokio::test]
async fn all_addresses_of_both_families_can_have_the_same_port() {
    let any = |address: &str| Listener { address: address.parse().unwrap(), ..testing::listener() };
    // Without IPv6 there is nothing to show.
    let Ok(ipv6) = crate::inbound::bind(&any("[::]:0")) else { return };
    let port = ipv6.local_addr().unwrap().port();
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "IPv6 alone");
    let _ipv4 = crate::inbound::bind(&any(&format!("0.0.0.0:{port}"))).unwrap();
    TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    TcpStream::connect(("::1", port)).await.unwrap();
}
