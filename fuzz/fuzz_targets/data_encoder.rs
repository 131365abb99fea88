//! What leaves behind `354`: no server, however it reads line ends, sees the end of the message before it is there.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xoauth2_relay::smtp::{BodyDecoder, DataEncoder, Decoded};
use xoauth2_relay_fuzz::{mended, pieces, sizes_and_bytes};

fuzz_target!(|input: &[u8]| {
    let (sizes, message) = sizes_and_bytes(input);
    let wire = encoded(message, sizes);
    assert_eq!(wire, encoded(message, &[]), "pieces make no difference");

    // A strict server gets the message, mended, and nothing behind it.
    let mut body = Vec::new();
    assert_eq!(BodyDecoder::new(u64::MAX).decode(&wire, &mut body), Decoded::End(wire.len()));
    assert_eq!(body, mended(message));

    // To the laxest one CR, LF and CRLF each end a line, and so they do to one that minds only some of them. White space behind a dot
    // and NULs are nothing to it, or a NUL ends its line.
    let ends: [&[&[u8]]; 4] = [&[b"\r\n", b"\r", b"\n"], &[b"\n"], &[b"\r"], &[b"\r\n", b"\n"]];
    let readings: [fn(&[u8]) -> Vec<u8>; 3] = [
        |line| line.trim_ascii_end().to_vec(),
        |line| line.iter().copied().filter(|&byte| byte != 0).collect(),
        |line| line.split(|&byte| byte == 0).next().unwrap_or_default().to_vec(),
    ];
    for (ends, reading) in ends.iter().flat_map(|ends| readings.map(|reading| (ends, reading))) {
        let lines = lines(&wire, ends);
        let first = lines.iter().position(|line| reading(line) == b".");
        assert!(first.is_none_or(|first| first + 1 >= lines.len()), "{} is cut in two", wire.escape_ascii());
    }
    assert!(!wire.ends_with(b"\r\n.\r\n.\r\n"));
});

fn encoded(message: &[u8], sizes: &[u8]) -> Vec<u8> {
    let (mut encoder, mut wire) = (DataEncoder::new(), Vec::new());
    for piece in pieces(message, sizes) {
        encoder.encode(piece, &mut wire);
    }
    encoder.finish(&mut wire);
    wire
}

/// The lines of a server for which each of `ends` ends one; what is left behind the last end is none.
fn lines<'a>(wire: &'a [u8], ends: &[&[u8]]) -> Vec<&'a [u8]> {
    let (mut lines, mut start, mut at) = (Vec::new(), 0, 0);
    while at < wire.len() {
        match ends.iter().find(|end| wire[at..].starts_with(end)) {
            Some(end) => {
                lines.push(&wire[start..at]);
                at += end.len();
                start = at;
            }
            None => at += 1,
        }
    }
    lines
}
