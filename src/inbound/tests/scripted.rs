//! Connections without sockets: the test decides which bytes come in which packet, and sees every write.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Environment, Passwords};
use crate::inbound::connection::converse;
use crate::inbound::memory::Memory;
use crate::inbound::wire::Stream;
use crate::inbound::{Door, Doorkeeper, Facts, Tls, Welcome};
use crate::registry::testing;

/// Gives one packet a read, then the end; keeps what is written.
struct Script {
    packets: VecDeque<Vec<u8>>,
    writes: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Stream for Script {
    fn hurry(&self) {}
}

impl AsyncRead for Script {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Some(packet) = self.packets.front_mut() {
            let n = packet.len().min(buf.remaining());
            buf.put_slice(&packet[..n]);
            packet.drain(..n);
            if packet.is_empty() {
                self.packets.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Script {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.lock().unwrap().push(bytes.to_vec());
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What came of a conversation.
struct Said {
    writes: Vec<Vec<u8>>,
    bodies: Vec<Vec<u8>>,
}

impl Said {
    fn text(&self) -> String {
        String::from_utf8(self.writes.concat()).expect("replies are text")
    }
}

fn talk<'a>(packets: impl IntoIterator<Item = &'a [u8]>) -> Said {
    let writes = Arc::default();
    let packets = packets.into_iter().filter(|packet| !packet.is_empty()).map(<[u8]>::to_vec).collect();
    let script = Script { packets, writes: Arc::clone(&writes) };
    let config = watch::Sender::new(Arc::new(testing::config(&[("lms@contoso.com", &[])])));
    let memory = Arc::new(Memory::default());
    let clock = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
    let (doorkeeper, _) = Doorkeeper::new(config.subscribe(), Environment::default());
    let door = Door {
        intake: Arc::clone(&memory),
        config: config.subscribe(),
        clock,
        doorkeeper,
        lanes: crate::lane::Lanes::default(),
    };
    let facts = Facts {
        hostname: "relay.test".into(),
        listener: "127.0.0.1:2525".parse().unwrap(),
        max_message_size: 500,
        max_recipients: 3,
        password: Passwords::Any,
        default_domain: None,
        peer: "127.0.0.1".parse().unwrap(),
        welcome: Welcome::Allowed,
        tls: Tls::None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let upgraded =
        runtime.block_on(converse(script, facts, Duration::from_mins(1), Arc::new(door), CancellationToken::new()));
    assert!(upgraded.is_none(), "TLS was not offered");
    let bodies = memory.accepted().into_iter().map(|(_, bytes)| bytes).collect();
    Said { writes: std::mem::take(&mut *writes.lock().unwrap()), bodies }
}

#[test]
fn answers_to_pipelined_commands_leave_together() {
    let session = b"EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nhello\r\n.\r\nRSET\r\nNOOP\r\nQUIT\r\n";
    let said = talk([&session[..]]);
    assert_eq!(said.writes.len(), 2, "the greeting, and the rest");
    assert_eq!(said.text().lines().last(), Some("221 2.0.0 bye"));
    assert_eq!(said.bodies, [b"hello\r\n"]);
}

#[test]
fn commands_behind_quit_are_not_carried_out() {
    let said = talk([&b"QUIT\r\nMAIL FROM:<a@b>\r\n"[..]]);
    assert_eq!(said.text().lines().count(), 2);
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let words: Vec<&[u8]> = vec![
        b"EHLO x\r\n",
        b"HELO y\r\n",
        b"MAIL FROM:<a@b>\r\n",
        b"MAIL FROM:<> SIZE=9999\r\n",
        b"RCPT TO:<c@d>\r\n",
        b"RCPT TO:<c@d>\r\n",
        b"RCPT TO:<nobody>\r\n",
        b"DATA\r\n",
        b"DATA\r\n",
        b"RSET\r\n",
        b"BDAT 7\r\n",
        b"BDAT 0\r\n",
        b"BDAT 5 LAST\r\n",
        b"BDAT 400\r\n",
        b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nBDAT 6\r\na\r\n.\r\nBDAT 5 LAST\r\nDATA\n",
        b"NOOP\r\n",
        b"QUIT\r\n",
        b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
        b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
        b"AUTH LOGIN\r\n",
        b"AUTH PLAIN AGEAYg==\r\n",
        b"YQ==\r\n",
        b"*\r\n",
        b"XYZZY\r\n",
        b".\r\n",
        b"\r\n.\r\n",
        b"\r\n.\r\n",
        b"\r\n.\r\n",
        b".",
        b"..",
        b"\r\n",
        b"\r",
        b"\n",
        b"\0",
        b"text",
        b"\xff\xfe",
        b"\n.\n",
        b"\r.\r",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\x16\x03\x01",
    ];
    let piece = prop_oneof![
        12 => proptest::sample::select(words).prop_map(<[u8]>::to_vec),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => (1usize..3000).prop_map(|n| vec![b'z'; n]),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn packets_make_no_difference_to_what_is_said_and_kept(stream in stream(), size in 1usize..40) {
        let (whole, split) = (talk([&stream[..]]), talk(stream.chunks(size)));
        prop_assert_eq!(whole.text(), split.text());
        prop_assert_eq!(whole.bodies, split.bodies);
    }

    #[test]
    fn chunks_are_put_together_as_they_came(
        chunks in proptest::collection::vec(
            proptest::collection::vec(prop_oneof![Just(b'.'), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..40), 1..8),
        size in 1usize..9,
    ) {
        let mut wire = b"MAIL FROM:<>\r\nRCPT TO:<c@d>\r\n".to_vec();
        for (n, chunk) in chunks.iter().enumerate() {
            let last = if n + 1 == chunks.len() { " LAST" } else { "" };
            wire.extend_from_slice(format!("BDAT {}{last}\r\n", chunk.len()).as_bytes());
            wire.extend_from_slice(chunk);
        }
        wire.extend_from_slice(b"NOOP\r\n");
        let said = talk(wire.chunks(size));
        prop_assert_eq!(&said.bodies, &[chunks.concat()]);
        prop_assert!(said.text().ends_with("\r\n250 2.0.0 OK\r\n"));
    }

    #[test]
    fn a_body_is_kept_as_it_came(lines in proptest::collection::vec(
        proptest::collection::vec(prop_oneof![Just(b'.'), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..20), 0..10), size in 1usize..9) {
        // The client does as RFC 5321 says: ends with CRLF, and a dot more at the start of each line that has one.
        let body = [lines.join(&b"\r\n"[..]), b"\r\n".to_vec()].concat();
        let mut wire = b"MAIL FROM:<>\r\nRCPT TO:<c@d>\r\nDATA\r\n".to_vec();
        let start = wire.len();
        for &byte in &body {
            if byte == b'.' && (wire.len() == start || wire.ends_with(b"\r\n")) {
                wire.push(b'.');
            }
            wire.push(byte);
        }
        wire.extend_from_slice(b".\r\nNOOP\r\n");
        let said = talk(wire.chunks(size));
        prop_assert_eq!(&said.bodies, &[body]);
        prop_assert!(said.text().ends_with("\r\n250 2.0.0 OK\r\n"));
    }
}
