//! A message as it comes in: to the lone dot (DATA, RFC 5321 section 4.1.1.4) or by octets counted beforehand (BDAT, RFC 3030).
//!
//! Only `CRLF.CRLF` ends it. A bare CR or LF is noticed and stays where it is; an octet over the limit is thrown away and noticed too.

/// What has come in so far.
#[derive(Debug)]
pub(super) struct Body {
    bytes: Vec<u8>,
    limit: usize,
    place: Place,
    /// Octets received, stuffed dots and those beyond the limit included.
    pub(super) received: u64,
    /// A CR without LF or an LF without CR was seen.
    pub(super) bare_line_end: bool,
    /// More came than the limit.
    pub(super) too_large: bool,
}

/// Where in a line the next octet stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Start,
    /// Behind a dot at the start of a line.
    Dot,
    /// Behind a dot and a CR at the start of a line.
    DotCr,
    Text,
    /// Behind a CR.
    Cr,
}

impl Body {
    pub(super) fn with_limit(limit: usize) -> Self {
        let place = Place::Start;
        Self { bytes: Vec::new(), limit, place, received: 0, bare_line_end: false, too_large: false }
    }

    /// Takes octets up to the final dot: how many of `input` belong to the message, and whether it ended there.
    pub(super) fn take_stuffed(&mut self, input: &[u8]) -> (usize, bool) {
        let mut at = 0;
        let mut ended = false;
        while at < input.len() && !ended {
            let byte = input[at];
            match (self.place, byte) {
                (Place::Start, b'.') => {
                    self.place = Place::Dot;
                    at += 1;
                }
                (Place::Dot, b'\r') => {
                    self.place = Place::DotCr;
                    at += 1;
                }
                (Place::DotCr, b'\n') => {
                    at += 1;
                    ended = true;
                }
                // The dot was stuffing; the CR behind it was none of a line end.
                (Place::DotCr, _) => {
                    self.push(b"\r");
                    self.place = Place::Cr;
                }
                (Place::Start | Place::Dot, _) => self.place = Place::Text,
                (Place::Text | Place::Cr, _) => at += self.take_text(&input[at..]),
            }
        }
        self.received += at as u64;
        (at, ended)
    }

    /// Takes octets of a BDAT chunk as they are.
    pub(super) fn take_counted(&mut self, input: &[u8]) {
        let mut at = 0;
        while at < input.len() {
            if matches!(self.place, Place::Start) {
                self.place = Place::Text;
            }
            at += self.take_text(&input[at..]);
        }
        self.received += input.len() as u64;
    }

    /// The message, once it has ended.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.bytes.shrink_to_fit();
        self.bytes
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the last octet was a bare CR: known only when nothing follows.
    pub(super) fn close(&mut self) {
        self.bare_line_end |= self.place == Place::Cr;
    }

    /// Takes octets inside a line, at the most to its end.
    fn take_text(&mut self, input: &[u8]) -> usize {
        if self.place == Place::Cr {
            let (next, bare) = match input[0] {
                b'\n' => (Place::Start, false),
                b'\r' => (Place::Cr, true),
                _ => (Place::Text, true),
            };
            self.bare_line_end |= bare;
            self.place = next;
            if next == Place::Text {
                return 0;
            }
            self.push(&input[..1]);
            return 1;
        }
        let run = input.iter().position(|byte| matches!(byte, b'\r' | b'\n')).unwrap_or(input.len());
        let end = (run + 1).min(input.len());
        match input.get(run) {
            Some(b'\r') => self.place = Place::Cr,
            Some(_) => self.bare_line_end = true,
            None => {}
        }
        self.push(&input[..end]);
        end
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = self.limit - self.bytes.len();
        self.too_large |= bytes.len() > room;
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message, what was left over behind it, and whether a bare line end was seen. Whole and octet by octet give the same.
    fn read(input: &[u8]) -> Option<(Vec<u8>, Vec<u8>, bool)> {
        let mut whole = Body::with_limit(1 << 20);
        let (taken, ended) = whole.take_stuffed(input);
        let mut slow = Body::with_limit(1 << 20);
        let slow_end = (0..input.len()).find(|n| slow.take_stuffed(&input[*n..=*n]).1);
        assert_eq!(slow_end.map(|n| n + 1), ended.then_some(taken));
        assert_eq!(slow.bytes(), whole.bytes());
        assert_eq!(slow.bare_line_end, whole.bare_line_end);
        let bare = whole.bare_line_end;
        ended.then(|| (whole.into_bytes(), input[taken..].to_vec(), bare))
    }

    #[test]
    fn only_a_dot_between_two_whole_line_ends_is_the_end() {
        for (input, message, rest) in [
            ("a\r\n.\r\nQUIT\r\n", "a\r\n", "QUIT\r\n"),
            (".\r\n", "", ""),
            ("..\r\n.\r\n", ".\r\n", ""),
            (".a\r\n..b\r\n.\r\n", "a\r\n.b\r\n", ""),
            ("a.\r\n.\r\n", "a.\r\n", ""),
            ("\r\n.\r\n", "\r\n", ""),
        ] {
            assert_eq!(read(input.as_bytes()), Some((message.into(), rest.into(), false)), "{input:?}");
        }
    }

    #[test]
    fn nothing_else_ends_it_and_each_is_noticed() {
        for end in ["\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r\n.\r", "\r.\r\n", "\r\n.\r\r\n", "\r\n.\r\n"] {
            let input = format!("a{end}b\r\n.\r\n");
            let (message, rest, bare) = read(input.as_bytes()).unwrap();
            if end == "\r\n.\r\n" {
                assert_eq!((message, rest), (b"a\r\n".to_vec(), b"b\r\n.\r\n".to_vec()));
            } else {
                assert!(bare && rest.is_empty(), "{end:?}");
                assert_eq!(
                    message,
                    input.strip_suffix(".\r\n").unwrap().replace("\r\n.", "\r\n").as_bytes(),
                    "{end:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_too_large_is_thrown_away_up_to_the_end() {
        let mut body = Body::with_limit(4);
        let (taken, ended) = body.take_stuffed(b"123456\r\n.\r\nQUIT");
        assert!(ended && body.too_large);
        assert_eq!(taken, 11);
        assert_eq!(body.bytes(), b"1234");
    }

    #[test]
    fn a_chunk_is_taken_as_it_is() {
        let mut body = Body::with_limit(100);
        body.take_counted(b".\r\n.\r");
        body.take_counted(b"\n..x\r");
        body.close();
        assert_eq!(body.bytes(), b".\r\n.\r\n..x\r");
        assert!(body.bare_line_end);
    }
}
