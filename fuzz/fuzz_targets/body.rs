//! The body behind DATA: what is kept, and where it ends, is what RFC 5321 section 4.5.2 says, however the octets are cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xoauth2_relay::smtp::{BodyDecoder, Decoded};
use xoauth2_relay_fuzz::{pieces, sizes_and_bytes};

fuzz_target!(|input: &[u8]| {
    let (sizes, stream) = sizes_and_bytes(input);
    let expected = plainly(stream);
    assert_eq!(decoded(stream, &[]), expected);
    assert_eq!(decoded(stream, sizes), expected);

    // Beyond the limit nothing is kept, and the end is found all the same.
    let mut limited = BodyDecoder::new(16);
    let mut kept = Vec::new();
    let end = limited.decode(stream, &mut kept);
    assert!(kept.len() <= 16);
    assert_eq!(limited.size(), expected.0.len() as u64);
    assert_eq!(limited.is_over(), expected.0.len() > 16);
    assert_eq!(end, expected.1.map_or(Decoded::More, Decoded::End));
});

/// The body, and how much of the stream was its own if it ended.
fn decoded(stream: &[u8], sizes: &[u8]) -> (Vec<u8>, Option<usize>) {
    let mut decoder = BodyDecoder::new(u64::MAX);
    let (mut body, mut taken) = (Vec::new(), 0);
    for piece in pieces(stream, sizes) {
        match decoder.decode(piece, &mut body) {
            Decoded::More => taken += piece.len(),
            Decoded::End(end) => {
                taken += end;
                assert_eq!(decoder.seen(), taken as u64);
                return (body, Some(taken));
            }
        }
    }
    assert_eq!(decoder.size(), body.len() as u64);
    (body, None)
}

/// The same without thought of speed or pieces.
fn plainly(stream: &[u8]) -> (Vec<u8>, Option<usize>) {
    let text = [b"\r\n", stream].concat();
    let end = text.windows(5).position(|five| five == b"\r\n.\r\n");
    let lines = &text[2..end.map_or(text.len(), |end| end + 2)];
    let mut body = Vec::new();
    for (n, &byte) in lines.iter().enumerate() {
        let starts_line = n == 0 || lines[..n].ends_with(b"\r\n");
        if !(starts_line && byte == b'.') {
            body.push(byte);
        }
    }
    if end.is_none() && text.ends_with(b"\r\n.\r") {
        body.pop(); // held back: the next octet tells what it is
    }
    (body, end.map(|end| end + 3))
}
