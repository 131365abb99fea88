//! Mail in chunks (RFC 3030): whatever stands in a chunk is never taken for a command, and what is behind one always is.
//!
//! A program hands in the input as a message in chunks of any size, pipelined and cut into any packets, first without MAIL, which has to
//! be refused, then as it should be. Then the same input as it is: a dialogue with chunks in it by somebody who means no good.

#![no_main]

use bytes::{Buf as _, BytesMut};
use libfuzzer_sys::fuzz_target;
use xoauth2_relay::inbound::{Chunk, Event, Outcome, Room, Session, Welcome};
use xoauth2_relay::message::QueueId;
use xoauth2_relay::smtp::{BodyDecoder, Decoded, LineDecoder};
use xoauth2_relay_fuzz::{facts, pieces, sizes_and_bytes};

const LIMIT: u64 = 100_000;

fuzz_target!(|input: &[u8]| {
    let (sizes, message) = sizes_and_bytes(input);
    let mut chunks = Vec::new();
    for chunk in pieces(message, sizes) {
        chunks.extend_from_slice(format!("BDAT {}\r\n", chunk.len()).as_bytes());
        chunks.extend_from_slice(chunk);
    }
    chunks.extend_from_slice(b"BDAT 0 LAST\r\n");
    let count = pieces(message, sizes).count();
    let begin = b"RSET\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n";
    let stream = [&chunks[..], begin, &chunks, b"QUIT\r\n"].concat();

    let said = talk(&stream, sizes);
    let expected = [vec![503; count + 1], vec![250; 3 + count + 1], vec![221]].concat();
    assert_eq!(said.codes, expected);
    assert_eq!(said.bodies, [message]);

    // The other way round: packets make no difference to what is said and kept.
    let (whole, cut) = (talk(message, &[]), talk(message, sizes));
    assert_eq!(whole.codes, cut.codes);
    assert_eq!(whole.bodies, cut.bodies);
});

#[derive(Default)]
struct Said {
    codes: Vec<u16>,
    bodies: Vec<Vec<u8>>,
}

/// What the connection does, without sockets, time and disk: bytes to lines and chunks, events to answers.
fn talk(stream: &[u8], sizes: &[u8]) -> Said {
    let mut packets = pieces(stream, sizes);
    let (mut input, mut lines, mut said) = (BytesMut::new(), LineDecoder::new(), Said::default());
    let mut session = Session::new(facts(LIMIT, Welcome::Allowed));
    let mut body = Vec::new();
    loop {
        let line = loop {
            match lines.next(&mut input, session.expects()) {
                Some(line) => break line,
                None => match packets.next() {
                    Some(packet) => input.extend_from_slice(packet),
                    None => return said,
                },
            }
        };
        let mut event = session.on(line.as_ref().map(|line| &line[..]).map_err(|error| *error), Room::Enough);
        if !session.is_chunking() && !matches!(event, Event::Chunk(_)) {
            body.clear();
        }
        if let Event::Chunk(chunk) = event {
            let (Chunk::Part(size) | Chunk::Last(size, _) | Chunk::Refused(size, _)) = chunk;
            let Some(octets) = take(&mut input, &mut packets, size) else { return said };
            event = match chunk {
                Chunk::Refused(_, reply) => Event::Reply(reply),
                Chunk::Part(size) => {
                    body.extend_from_slice(&octets);
                    session.on_chunk(size)
                }
                Chunk::Last(..) => {
                    said.bodies.push([std::mem::take(&mut body), octets].concat());
                    session.on_body(Outcome::Queued(QueueId::from_number(1)))
                }
            };
        }
        if let Event::Body(go_ahead, _) = event {
            said.codes.push(go_ahead.code());
            let Some(text) = text(&mut input, &mut packets) else { return said };
            said.bodies.push(text);
            event = session.on_body(Outcome::Queued(QueueId::from_number(1)));
        }
        match event {
            Event::Reply(reply) => said.codes.push(reply.code()),
            Event::Close(reply) => {
                said.codes.push(reply.code());
                return said;
            }
            Event::Body(..) | Event::Chunk(_) | Event::Login(_) | Event::StartTls(_) => panic!("no answer"),
        }
    }
}

/// So many octets, or `None` if the stream ends before.
fn take<'a>(input: &mut BytesMut, packets: &mut impl Iterator<Item = &'a [u8]>, size: u64) -> Option<Vec<u8>> {
    assert!(size <= 4 * LIMIT + 65_536, "{size} octets are waited for");
    while (input.len() as u64) < size {
        input.extend_from_slice(packets.next()?);
    }
    Some(input.split_to(usize::try_from(size).ok()?).to_vec())
}

/// Up to the lone dot, or `None` if the stream ends before.
fn text<'a>(input: &mut BytesMut, packets: &mut impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let (mut decoder, mut text) = (BodyDecoder::new(LIMIT), Vec::new());
    loop {
        if let Decoded::End(end) = decoder.decode(input, &mut text) {
            input.advance(end);
            return Some(text);
        }
        input.clear();
        input.extend_from_slice(packets.next()?);
    }
}
