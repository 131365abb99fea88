//! Connections through proxies over real sockets.

use std::time::Duration;

use super::harness::{TestDoor, until};
use super::identity::Identity;
use super::logs::Logs;
use crate::config::{Listener, TlsBegins};
use crate::inbound::memory::Memory;
use crate::registry::testing;

/// A client at 10.0.0.9.
const V1: &[u8] = b"PROXY TCP4 10.0.0.9 10.0.0.1 1234 25\r\n";
const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x0a\0\0\x09\x0a\0\0\x01\x04\xd2\0\x19";
/// The proxy's own health check.
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// 127.0.0.1 is a proxy, its clients are in 10.0.0.0/8.
fn listener() -> Listener {
    Listener {
        allow: vec!["10.0.0.0/8".parse().unwrap()],
        proxy_protocol_from: vec!["127.0.0.1".parse::<std::net::IpAddr>().unwrap().into()],
        ..testing::listener()
    }
}

fn start(listener: Listener) -> TestDoor {
    TestDoor::start_with(listener, Memory::default())
}

#[tokio::test]
async fn the_client_that_a_proxy_names_is_the_peer() {
    let door = start(listener());
    for header in [V1, V2] {
        for size in [1, 7, header.len()] {
            let mut client = door.connect().await;
            client.send_aside(header.chunks(size).map(<[u8]>::to_vec).collect());
            client.expect("220 *").await;
        }
        // Together with what the client says.
        let mut client = door.connect().await;
        client
            .send([header, b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nDATA\r\nhello\r\n.\r\n"].concat())
            .await;
        for pattern in ["220 *", "250 2.1.0 *", "250 2.1.5 *", "354 *", "250 2.0.0 *"] {
            client.expect(pattern).await;
        }
    }
    for (incoming, _) in door.memory.accepted() {
        assert_eq!(incoming.trace.peer.to_string(), "10.0.0.9");
    }
    assert_eq!(door.accepted(), 2);
}

#[tokio::test]
async fn allow_is_about_the_client_and_not_about_the_proxy() {
    let logs = Logs::capture();
    let door = start(listener());
    for (header, peer) in [
        (&b"PROXY TCP4 203.0.113.9 10.0.0.1 1234 25\r\n"[..], "203.0.113.9"),
        (b"PROXY TCP6 ::ffff:203.0.113.9 ::1 1234 25\r\n", "203.0.113.9"),
        (LOCAL, "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    ] {
        let mut client = door.connect().await;
        client.send(header).await;
        client.expect("220 *").await;
        client.say("MAIL FROM:<a@b.example>", &format!("550 5.7.1 {peer} may not send *")).await;
    }
    assert_eq!(logs.count("outside \"allow\""), 2, "health checks are no news: {}", logs.text());
    let mut client = door.connect().await;
    client.send("PROXY TCP6 ::ffff:10.1.2.3 ::1 1234 25\r\n").await;
    client.expect("220 *").await;
    client.submit("from an IPv4 address after all").await;
}

#[tokio::test]
async fn a_header_from_anybody_else_is_an_unknown_command() {
    let door = start(Listener { proxy_protocol_from: vec!["10.0.0.1/32".parse().unwrap()], ..testing::listener() });
    let mut client = door.connect().await;
    client.send(V1).await;
    client.expect("220 *").await;
    client.expect("500 *").await;
    client.submit("as myself").await;
    assert_eq!(door.memory.accepted()[0].0.trace.peer.to_string(), "127.0.0.1");
}

#[tokio::test]
async fn a_proxy_that_does_not_say_for_whom_is_closed_and_named() {
    let logs = Logs::capture();
    let door = start(Listener { idle_timeout: Duration::from_secs(1), ..listener() });
    for (header, words) in [
        (
            &b"EHLO haproxy\r\n"[..],
            "the proxy 127.0.0.1 does not begin with a PROXY header; let it send one (HAProxy: ",
        ),
        (b"PROXY TCP4 10.0.0.9 10.0.0.1 1234\r\n", "the proxy 127.0.0.1 sent a PROXY header that is wrong: "),
        (b"PROXY UDP4 10.0.0.9 10.0.0.1 1234 25\r\n", "for something else than TCP"),
        (&[b'P'; 1], "did not send its PROXY header in time"),
        (&[&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat(), "a PROXY header that is too long"),
    ] {
        for _ in 0..2 {
            let mut client = door.connect().await;
            client.send(header).await;
            client.expect_end().await;
        }
        assert_eq!(logs.count(words), 1, "{words}: {}", logs.text());
    }
    drop(door.connect().await);
    until("all of them are gone", || door.tasks.len() == 1).await;
    assert_eq!(logs.count("before its PROXY header was complete"), 0, "monitoring is no news: {}", logs.text());
}

#[tokio::test]
async fn limits_are_about_clients_and_headers_under_way_take_no_place() {
    let door = start(Listener { max_connections: 2, max_connections_per_address: 1, ..listener() });
    let mut unnamed = Vec::new();
    for _ in 0..5 {
        unnamed.push(door.connect().await);
    }
    let mut first = door.connect().await;
    first.send(V1).await;
    first.expect("220 *").await;
    let mut again = door.connect().await;
    again.send(V2).await;
    again.expect("421 4.7.0 10.0.0.9 already has 1 connection,*").await;
    again.expect_end().await;
    let mut other = unnamed.remove(0);
    other.send("PROXY TCP4 10.0.0.10 10.0.0.1 1234 25\r\n").await;
    other.expect("220 *").await;
    let mut third = unnamed.remove(0);
    third.send("PROXY TCP4 10.0.0.11 10.0.0.1 1234 25\r\n").await;
    third.expect("421 4.3.2 all 2 connections *").await;
}

#[tokio::test]
async fn the_header_comes_before_tls() {
    let identity = Identity::new();
    let door = start(Listener { tls: Some(identity.tls(TlsBegins::AtOnce)), ..listener() });
    let mut client = door.connect().await;
    client.send(V2).await;
    let mut client = client.with_tls(&identity.trusted()).await.unwrap();
    client.expect("220 *").await;
    client.submit("through both").await;
    let trace = &door.memory.accepted()[0].0.trace;
    assert!(trace.protocol.tls && trace.peer.to_string() == "10.0.0.9");
}

#[tokio::test]
async fn a_relay_that_stops_does_not_wait_for_headers() {
    let door = start(listener());
    let mut client = door.connect().await;
    until("it is accepted", || door.tasks.len() == 2).await;
    door.stop.cancel();
    client.expect_end().await;
}
