//! The body behind DATA (RFC 5321 section 4.5.2): finds its end, takes stuffed dots away, and leaves every other byte as it came.
//!
//! Only `CRLF.CRLF` ends a body; a body may also begin with `.CRLF`. Bare carriage returns and line feeds are bytes like any
//! other: neither does a dot behind one end anything, nor is it taken away.

/// What a piece of input led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// All of it was taken, and the body goes on.
    More,
    /// The body ended after so many octets of the piece; the rest are commands.
    End(usize),
}

/// Reads one body, in pieces of any size.
#[derive(Debug)]
pub struct BodyDecoder {
    place: Place,
    limit: u64,
    size: u64,
    seen: u64,
    /// The last octets seen.
    tail: [u8; 4],
}

/// Where in the body the next octet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Behind CRLF, or at the very start.
    LineStart,
    /// Behind a dot at the start of a line, held back.
    Dot,
    /// Behind a dot and a carriage return at the start of a line, both held back.
    DotCr,
    /// Behind a carriage return.
    Cr,
    /// Anywhere else.
    Within,
}

impl BodyDecoder {
    /// A decoder for a body of at most `limit` octets. What is beyond it is not kept, but its end is still found.
    pub fn new(limit: u64) -> Self {
        Self { place: Place::LineStart, limit, size: 0, seen: 0, tail: *b"\0\0\r\n" }
    }

    /// Octets of the body so far, stuffed dots left out.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Octets taken from the connection so far, whatever became of them.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Whether the last that came is what a program without CRLF would believe to be the end: a lone dot between bare line ends.
    pub fn seems_ended(&self) -> bool {
        matches!(self.tail, [_, b'\n', b'.', b'\n'] | [_, b'\r', b'.', b'\r'] | [b'\n' | b'\r', b'.', b'\r', b'\n'])
    }

    /// Whether the body is larger than the limit: what was put into `out` is not all of it.
    pub fn is_over(&self) -> bool {
        self.size > self.limit
    }

    /// Appends the body's octets within `input` to `out`.
    pub fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Decoded {
        let mut at = 0;
        while let Some(&byte) = input.get(at) {
            match (self.place, byte) {
                (Place::LineStart, b'.') => {
                    self.place = Place::Dot;
                    at += 1;
                }
                (Place::Dot, b'\r') => {
                    self.place = Place::DotCr;
                    at += 1;
                }
                (Place::DotCr, b'\n') => {
                    self.seen += at as u64 + 1;
                    return Decoded::End(at + 1);
                }
                (Place::DotCr, _) => {
                    self.keep(b"\r", out);
                    self.place = Place::Cr;
                }
                (Place::Cr, b'\n') => {
                    self.keep(b"\n", out);
                    self.place = Place::LineStart;
                    at += 1;
                }
                // A dot held back with something else behind it was stuffed: it goes.
                _ => at += self.keep_line(&input[at..], out),
            }
        }
        self.seen += at as u64;
        let last = &input[input.len().saturating_sub(self.tail.len())..];
        self.tail.rotate_left(last.len());
        let keep = self.tail.len() - last.len();
        self.tail[keep..].copy_from_slice(last);
        Decoded::More
    }

    /// Keeps everything up to and including the next line feed, and says how much that was.
    fn keep_line(&mut self, rest: &[u8], out: &mut Vec<u8>) -> usize {
        let line = match rest.iter().position(|&b| b == b'\n') {
            Some(n) => &rest[..=n],
            None => rest,
        };
        self.keep(line, out);
        self.place = match line {
            [.., b'\r', b'\n'] => Place::LineStart,
            [.., b'\r'] => Place::Cr,
            _ => Place::Within,
        };
        line.len()
    }

    fn keep(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        self.size += bytes.len() as u64;
        if !self.is_over() {
            out.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What came of a stream: the body, and what stands behind its end if it has one.
    fn decode(stream: &[u8], piece: usize) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut decoder = BodyDecoder::new(u64::MAX);
        let mut out = Vec::new();
        for (n, input) in stream.chunks(piece).enumerate() {
            if let Decoded::End(end) = decoder.decode(input, &mut out) {
                assert_eq!(decoder.size(), out.len() as u64);
                assert_eq!(decoder.seen(), (n * piece + end) as u64);
                return (out, Some(stream[n * piece + end..].to_vec()));
            }
        }
        (out, None)
    }

    /// The same, as RFC 5321 says it, without thought of speed or pieces.
    fn naively(stream: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
        let text = [b"\r\n", stream].concat();
        let end = text.windows(5).position(|five| five == b"\r\n.\r\n");
        let lines = &text[2..end.map_or(text.len(), |end| (end + 2).max(2))];
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
        (body, end.map(|end| text[end + 5..].to_vec()))
    }

    #[test]
    fn dots_are_unstuffed_and_what_follows_the_end_is_left() {
        let (body, rest) = decode(b"a\r\n..b\r\n...\r\n.c\r\n.\r\nQUIT\r\n", 100);
        assert_eq!(body, b"a\r\n.b\r\n..\r\nc\r\n");
        assert_eq!(rest.as_deref(), Some(&b"QUIT\r\n"[..]));
    }

    #[test]
    fn a_body_may_be_empty() {
        assert_eq!(decode(b".\r\n", 1), (vec![], Some(vec![])));
    }

    #[test]
    fn nothing_but_crlf_dot_crlf_ends_a_body() {
        for smuggled in [
            &b"a\n.\nMAIL"[..],
            b"a\n.\r\nMAIL",
            b"a\r\n.\nMAIL",
            b"a\r.\rMAIL",
            b"a\r.\r\nMAIL",
            b"a\r\n.\rMAIL",
            b"a\n.\rMAIL",
            b"a\r.\nMAIL",
            b"a\r\n\0.\r\nMAIL",
            b"a\r\n.\0\r\nMAIL",
            b"a\r\n.\r\0\nMAIL",
            b"a\r\n.\r\r\nMAIL",
            b"a\r\n. \r\nMAIL",
            b"a\r\n..\r\nMAIL",
            b".\nMAIL",
            b".\rMAIL",
        ] {
            for piece in [1, 2, 3, 100] {
                assert_eq!(decode(smuggled, piece).1, None, "{}", smuggled.escape_ascii());
            }
        }
    }

    #[test]
    fn bytes_around_bare_line_ends_are_kept_as_they_came() {
        assert_eq!(decode(b"a\n..b\r.c\0\xff\r\r\n.\r\n", 1).0, b"a\n..b\r.c\0\xff\r\r\n");
    }

    #[test]
    fn a_dot_between_bare_line_ends_is_noticed_and_ends_nothing() {
        for piece in [1, 2, 100] {
            let seems = |stream: &[u8]| {
                let mut decoder = BodyDecoder::new(u64::MAX);
                let mut out = Vec::new();
                for input in stream.chunks(piece) {
                    assert_eq!(decoder.decode(input, &mut out), Decoded::More);
                }
                decoder.seems_ended()
            };
            for stream in [&b"a\n.\n"[..], b"a\r\n.\n", b"a\n.\r\n", b".\n", b"a\r.\r", b"a\r.\r\n"] {
                assert!(seems(stream), "{}", stream.escape_ascii());
            }
            for stream in [&b"a\n.\nb"[..], b"a.\n", b"a\n..\n", b"\r\n.", b"\r\n..\r\n", b""] {
                assert!(!seems(stream), "{}", stream.escape_ascii());
            }
        }
    }

    #[test]
    fn the_end_of_a_body_that_is_too_large_is_found_without_keeping_it() {
        let mut decoder = BodyDecoder::new(4);
        let mut out = Vec::new();
        assert_eq!(decoder.decode(b"123\r\n", &mut out), Decoded::More);
        assert!(decoder.is_over());
        assert_eq!(decoder.decode(b"456\r\n.\r\nQUIT", &mut out), Decoded::End(8));
        assert!(out.len() <= 4);
        assert_eq!(decoder.seen(), 13);
        let mut decoder = BodyDecoder::new(5);
        assert_eq!(decoder.decode(b"123\r\n.\r\n", &mut out), Decoded::End(8));
        assert!(!decoder.is_over(), "a body of just the limit fits");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_decoder_does_what_the_rfc_says(
            pieces in proptest::collection::vec(
                proptest::sample::select(vec![
                    &b"\r\n"[..], b"\r\n", b".", b".", b".\r\n", b"\r", b"\n", b"text", b"\0", b"\r\n.\r\n",
                ]), 0..24),
            size in 1usize..9,
        ) {
            let stream = pieces.concat();
            prop_assert_eq!(decode(&stream, size), naively(&stream));
        }
    }
}
