//! Bytes become command lines. Only CRLF ends a line (RFC 5321 section 2.3.8); memory stays bounded whatever comes.
//!
//! A line feed without its carriage return never ends a command: what follows it could be a command somebody smuggled into an
//! argument. It is answered at once all the same, because a program that ends its lines that way (`nc` does) would wait for ever.
//! The rest of such a line, up to its CRLF, is thrown away without a second answer; a second bare line feed within it means that
//! this side and that one will never agree, and ends the session.

use bytes::BytesMut;

/// The longest command line in octets, CRLF included. RFC 5321 section 4.5.3.1.4 asks for 512, extensions for more.
const COMMAND_LIMIT: usize = 2048;
/// The longest AUTH line in octets, CRLF included (RFC 4954 section 4: 12,288).
const AUTH_LIMIT: usize = 12_288;
/// How much of one line is thrown away in octets before the session is not worth going on with.
const SKIP_LIMIT: usize = 1 << 20;
/// The first byte of a TLS handshake record (RFC 8446 section 5.1).
const TLS_HANDSHAKE: u8 = 0x16;

/// What the next line should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// A command.
    Command,
    /// The client's part of an AUTH exchange, which may be as long as an AUTH command.
    AuthResponse,
}

/// Why a line is no command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Longer than the limit; it was thrown away up to its end.
    #[error("line too long")]
    TooLong,
    /// A line feed without a carriage return; the rest up to CRLF will be thrown away.
    #[error("a line feed without a carriage return")]
    BareLf,
    /// A carriage return without a line feed within the line.
    #[error("a carriage return without a line feed")]
    BareCr,
    /// Some other control character, NUL for instance.
    #[error("control character {0:#04x}")]
    Control(u8),
    /// The line feeds of this peer mean something else than ours; the session has to end.
    #[error("lines that end with a line feed alone")]
    NotLines,
    /// More than a mebibyte and no end; the session has to end.
    #[error("a line without an end")]
    Endless,
    /// A BDAT command whose line is broken, so that nobody can tell what follows; the session has to end.
    #[error("a chunk of unknown size")]
    Chunk,
    /// The peer began a TLS handshake; the session has to end.
    #[error("a TLS handshake on a listener without TLS")]
    Tls,
}

/// Cuts a stream of bytes into lines. The outcome does not depend on how the bytes are split into packets.
#[derive(Debug, Default)]
pub struct LineDecoder {
    /// Octets at the start of the input that are known to hold no line feed.
    scanned: usize,
    /// Octets of this line that were thrown away.
    skipped: usize,
    /// Whether the last octet thrown away was a carriage return.
    skipped_cr: bool,
    state: State,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The line is kept.
    #[default]
    Whole,
    /// It is too long, and thrown away.
    Long,
    /// It held a bare line feed and was answered; the rest is thrown away.
    Answered,
}

impl LineDecoder {
    /// A decoder at the start of a line.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next line off `input`, without its CRLF; `None` asks for more bytes.
    ///
    /// # Errors
    /// What is wrong with the line that was taken off. All but [`LineError::NotLines`], [`LineError::Endless`], [`LineError::Chunk`]
    /// and [`LineError::Tls`] leave the decoder ready for the next one.
    pub fn next(&mut self, input: &mut BytesMut, expect: Expect) -> Option<Result<BytesMut, LineError>> {
        loop {
            if self.at_line_start() && input.first() == Some(&TLS_HANDSHAKE) {
                return Some(Err(LineError::Tls));
            }
            let Some(n) = input[self.scanned..].iter().position(|&b| b == b'\n') else {
                return self.wait(input, expect).map(Err);
            };
            let end = self.scanned + n;
            let ends_with_crlf = if end == 0 { self.skipped_cr } else { input[end - 1] == b'\r' };
            let mut line = input.split_to(end + 1);
            let length = self.skipped + line.len();
            if length > SKIP_LIMIT {
                return Some(Err(LineError::Endless));
            }
            let state = self.state;
            if !ends_with_crlf {
                *self = Self { scanned: 0, skipped: length, skipped_cr: false, state: State::Answered };
                if state == State::Whole && begins_chunk(&line, expect) {
                    return Some(Err(LineError::Chunk));
                }
                return Some(Err(if state == State::Answered { LineError::NotLines } else { LineError::BareLf }));
            }
            *self = Self::default();
            match state {
                State::Answered => {}
                State::Long => return Some(Err(LineError::TooLong)),
                State::Whole => {
                    let checked =
                        if length > limit(&line, expect) { Err(LineError::TooLong) } else { check(&line[..end - 1]) };
                    line.truncate(end - 1);
                    return Some(match checked {
                        Err(_) if begins_chunk(&line, expect) => Err(LineError::Chunk),
                        checked => checked.map(|()| line),
                    });
                }
            }
        }
    }

    fn at_line_start(&self) -> bool {
        self.scanned == 0 && self.skipped == 0
    }

    /// There is no line feed yet: remembers what was looked at, and throws away what nobody will read.
    fn wait(&mut self, input: &mut BytesMut, expect: Expect) -> Option<LineError> {
        if self.state == State::Whole && input.len() <= limit(input, expect) {
            self.scanned = input.len();
            return None;
        }
        if self.state == State::Whole {
            if begins_chunk(input, expect) {
                return Some(LineError::Chunk);
            }
            self.state = State::Long;
        }
        if let Some(&last) = input.last() {
            self.skipped_cr = last == b'\r';
        }
        self.skipped += input.len();
        self.scanned = 0;
        input.clear();
        (self.skipped > SKIP_LIMIT).then_some(LineError::Endless)
    }
}

fn limit(line: &[u8], expect: Expect) -> usize {
    let auth = expect == Expect::AuthResponse
        || line.trim_ascii_start().get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"AUTH "));
    if auth { AUTH_LIMIT } else { COMMAND_LIMIT }
}

/// Whether this is a BDAT command. If its line is broken, its octets must not be taken for commands.
fn begins_chunk(line: &[u8], expect: Expect) -> bool {
    let (verb, rest) = line.trim_ascii_start().split_at_checked(4).unwrap_or_default();
    expect == Expect::Command
        && verb.eq_ignore_ascii_case(b"BDAT")
        && !rest.first().is_some_and(u8::is_ascii_alphanumeric)
}

fn check(line: &[u8]) -> Result<(), LineError> {
    match line.iter().find(|b| b.is_ascii_control() && **b != b'\t') {
        None => Ok(()),
        Some(b'\r') => Err(LineError::BareCr),
        Some(&other) => Err(LineError::Control(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Lines = Vec<Result<Vec<u8>, LineError>>;

    fn is_last(line: &Result<Vec<u8>, LineError>) -> bool {
        matches!(line, Err(LineError::NotLines | LineError::Endless | LineError::Tls | LineError::Chunk))
    }

    fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Lines {
        let mut decoder = LineDecoder::new();
        let mut input = BytesMut::new();
        let mut lines = Lines::new();
        for piece in pieces {
            input.extend_from_slice(piece);
            while let Some(line) = decoder.next(&mut input, Expect::Command) {
                lines.push(line.map(|line| line.to_vec()));
                if lines.last().is_some_and(is_last) {
                    return lines;
                }
            }
            assert!(input.len() <= AUTH_LIMIT, "memory grows");
        }
        lines
    }

    fn whole(bytes: &[u8]) -> Lines {
        decode([bytes])
    }

    #[expect(clippy::unnecessary_wraps, reason = "it stands beside errors in tables")]
    fn ok(line: &[u8]) -> Result<Vec<u8>, LineError> {
        Ok(line.to_vec())
    }

    #[test]
    fn only_crlf_ends_a_line() {
        assert_eq!(whole(b"NOOP\r\n\r\nQUIT\r\nrest"), [ok(b"NOOP"), ok(b""), ok(b"QUIT")]);
        assert_eq!(whole(b"NO\rOP\r\nQUIT\r\n"), [Err(LineError::BareCr), ok(b"QUIT")]);
        assert_eq!(whole(b"NOOP\r\r\nQUIT\r\n"), [Err(LineError::BareCr), ok(b"QUIT")]);
    }

    #[test]
    fn what_stands_behind_a_bare_line_feed_is_no_command() {
        assert_eq!(whole(b"NOOP\nRSET\r\nQUIT\r\n"), [Err(LineError::BareLf), ok(b"QUIT")]);
        assert_eq!(whole(b"\nRSET\r\nQUIT\r\n"), [Err(LineError::BareLf), ok(b"QUIT")]);
    }

    #[test]
    fn lines_that_end_with_line_feeds_are_answered_at_once_and_end_the_session_soon() {
        assert_eq!(whole(b"EHLO x\n"), [Err(LineError::BareLf)]);
        assert_eq!(whole(b"EHLO x\nQUIT\n"), [Err(LineError::BareLf), Err(LineError::NotLines)]);
    }

    #[test]
    fn control_characters_are_refused_and_tabs_are_not() {
        assert_eq!(whole(b"NO\0OP\r\nA\tB\r\n"), [Err(LineError::Control(0)), ok(b"A\tB")]);
        assert_eq!(whole(b"\x16\x03\x01"), [Err(LineError::Tls)]);
    }

    #[test]
    fn a_line_too_long_is_thrown_away_up_to_its_end() {
        let fits = [&[b'a'; COMMAND_LIMIT - 2][..], b"\r\n"].concat();
        assert_eq!(whole(&fits), [ok(&fits[..COMMAND_LIMIT - 2])]);
        let long = [&vec![b'a'; 100_000], &b"\r\nQUIT\r\n"[..]].concat();
        assert_eq!(whole(&long), [Err(LineError::TooLong), ok(b"QUIT")]);
        assert_eq!(decode(long.chunks(7)), [Err(LineError::TooLong), ok(b"QUIT")]);
        assert_eq!(decode(vec![b'a'; SKIP_LIMIT + 2].chunks(4096)), [Err(LineError::Endless)]);
    }

    #[test]
    fn a_chunk_whose_command_is_broken_ends_it() {
        let long = [b"bdat 5 ", &[b' '; COMMAND_LIMIT][..], b"\r\n"].concat();
        for line in [&b"BDAT 5 LAST\nMAIL FROM:<a@b>\r\n"[..], b"BDAT 5\r LAST\r\n", b" bdat\x005\r\n", &long] {
            assert_eq!(whole(line), [Err(LineError::Chunk)]);
            assert_eq!(decode(line.chunks(3)), [Err(LineError::Chunk)]);
        }
        assert_eq!(whole(b"BDATA\x005\r\n"), [Err(LineError::Control(0))]);
    }

    #[test]
    fn auth_lines_may_be_longer() {
        let blob = [b"auth PLAIN ", &[b'A'; 9000][..], b"\r\n"].concat();
        assert_eq!(decode(blob.chunks(1000)), [ok(&blob[..blob.len() - 2])]);
        let long = [b"AUTH PLAIN ", &[b'A'; AUTH_LIMIT][..], b"\r\n"].concat();
        assert_eq!(whole(&long), [Err(LineError::TooLong)]);
    }

    proptest! {
        #[test]
        fn packets_make_no_difference(
            bytes in proptest::collection::vec(
                prop_oneof![Just(b"\r\n".to_vec()), Just(b"\n".to_vec()), Just(b"\r".to_vec()), Just(b"AUTH ".to_vec()), Just(b"BDAT ".to_vec()),
                    Just(vec![b'x'; 700]), any::<u8>().prop_map(|b| vec![b])], 0..40),
            size in 1usize..9,
        ) {
            let bytes = bytes.concat();
            prop_assert_eq!(decode(bytes.chunks(size)), whole(&bytes));
        }
    }
}
