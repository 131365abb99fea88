//! Command lines: one begins only at the very start or behind CRLF, and ends only with CRLF; packets make no difference; memory is bounded.

#![no_main]

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use xoauth2_relay::smtp::{Expect, LineDecoder, LineError};
use xoauth2_relay_fuzz::{pieces, sizes_and_bytes};

/// The longest line that is ever kept (RFC 4954 section 4).
const LONGEST: usize = 12_288;

fuzz_target!(|input: &[u8]| {
    let (sizes, stream) = sizes_and_bytes(input);
    for expect in [Expect::Command, Expect::AuthResponse] {
        assert_eq!(lines(stream, &[], expect), lines(stream, sizes, expect));
    }
});

fn lines(stream: &[u8], sizes: &[u8], expect: Expect) -> Vec<Result<Vec<u8>, LineError>> {
    let mut decoder = LineDecoder::new();
    let (mut input, mut lines, mut fed) = (BytesMut::new(), Vec::new(), 0);
    for piece in pieces(stream, sizes) {
        input.extend_from_slice(piece);
        fed += piece.len();
        while let Some(line) = decoder.next(&mut input, expect) {
            if let Ok(line) = &line {
                assert_is_a_line(stream, line, fed - input.len());
            }
            lines.push(line.map(|line| line.to_vec()));
            let last = lines.last();
            if let Some(Err(LineError::NotLines | LineError::Endless | LineError::Chunk | LineError::Tls)) = last {
                return lines;
            }
        }
        assert!(input.len() <= LONGEST, "{} octets are kept", input.len());
    }
    lines
}

/// Where the decoder stands behind it, the stream has this line, with CRLF in front of it and CRLF behind it.
fn assert_is_a_line(stream: &[u8], line: &[u8], end: usize) {
    assert!(!line.iter().any(|&b| b.is_ascii_control() && b != b'\t'));
    let (before, own) = stream[..end].split_at(end - line.len() - 2);
    assert!(before.is_empty() || before.ends_with(b"\r\n"));
    assert_eq!(own, [line, b"\r\n"].concat());
}
