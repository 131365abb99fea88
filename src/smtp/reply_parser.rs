//! Replies as they come in, a few bytes at a time (RFC 5321 section 4.2).
//!
//! The far side may be broken or hostile: what is kept is bounded, control characters never reach a terminal or a log, and what
//! makes no reply is an error rather than a guess.

use super::Reply;

/// The longest line that is kept whole. RFC 5321 section 4.5.3.1.5 allows 512 octets; Exchange's diagnostics run to thousands.
const LONGEST_KEPT: usize = 4096;
/// A line longer than this is no reply any more. In between, the end of the line is left out.
const LONGEST_TAKEN: usize = 16 * 1024;
/// The most lines of one reply.
const MOST_LINES: usize = 200;

/// Why the bytes are no reply. The connection is of no use afterwards.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line does not begin with three digits and a space or hyphen.
    #[error("not an SMTP reply: {0:?}")]
    NotAReply(String),
    /// A line without an end.
    #[error("a line of the reply is longer than {LONGEST_TAKEN} octets")]
    LineTooLong,
    /// A reply without an end.
    #[error("the reply has more than {MOST_LINES} lines")]
    TooManyLines,
}

/// Makes replies of bytes. Independent of how the bytes are cut into pieces.
#[derive(Debug, Default)]
pub struct ReplyParser {
    buffer: Vec<u8>,
    /// How much of the buffer is known to hold no line end.
    searched: usize,
    lines: Vec<String>,
}

impl ReplyParser {
    /// A parser that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in what was read. Call [`ReplyParser::next_reply`] until it has no more.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole reply, or `None` as long as it has not come.
    pub fn next_reply(&mut self) -> Result<Option<Reply>, ReplyError> {
        while let Some(line) = self.next_line()? {
            let (code, last, text) = split(&line)?;
            self.lines.push(text);
            if last {
                return Ok(Some(Reply::with_lines(code, std::mem::take(&mut self.lines))));
            }
            if self.lines.len() >= MOST_LINES {
                return Err(ReplyError::TooManyLines);
            }
        }
        Ok(None)
    }

    /// Octets taken in and not yet given out as a reply; 0 means that nothing waits here.
    pub fn buffered(&self) -> usize {
        self.buffer.len() + self.lines.iter().map(|line| line.len() + 1).sum::<usize>()
    }

    /// The next line without its end. LF alone ends one too: nothing is gained by being strict with a server.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, ReplyError> {
        let Some(found) = self.buffer[self.searched..].iter().position(|&b| b == b'\n') else {
            self.searched = self.buffer.len();
            return if self.searched > LONGEST_TAKEN { Err(ReplyError::LineTooLong) } else { Ok(None) };
        };
        let end = self.searched + found;
        self.searched = 0;
        let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.len() > LONGEST_TAKEN { Err(ReplyError::LineTooLong) } else { Ok(Some(line)) }
    }
}

/// The code, whether it is the last line, and the text. Lines of one reply with different codes: the last one counts (RFC 5321
/// section 4.2.1).
fn split(line: &[u8]) -> Result<(u16, bool, String), ReplyError> {
    let wrong = || ReplyError::NotAReply(printable(&line[..line.len().min(80)]));
    let digits = line.get(..3).filter(|d| d.iter().all(u8::is_ascii_digit)).ok_or_else(wrong)?;
    let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
    if !(200..600).contains(&code) {
        return Err(wrong());
    }
    let last = match line.get(3) {
        None | Some(b' ') => true,
        Some(b'-') => false,
        Some(_) => return Err(wrong()),
    };
    let text = line.get(4..).unwrap_or_default();
    if text.len() <= LONGEST_KEPT {
        return Ok((code, last, printable(text)));
    }
    Ok((code, last, printable(&text[..LONGEST_KEPT]) + "…"))
}

/// The text as it may be shown: what is no UTF-8 and what would move a cursor is replaced.
fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .map(|c| if c.is_control() && c != '\t' { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(parser: &mut ReplyParser, bytes: &[u8]) -> Result<Vec<Reply>, ReplyError> {
        parser.feed(bytes);
        let mut replies = Vec::new();
        while let Some(reply) = parser.next_reply()? {
            replies.push(reply);
        }
        Ok(replies)
    }

    #[test]
    fn every_line_of_a_reply_is_kept() {
        let bytes = b"250-mx Hello [203.0.113.10]\r\n250-SIZE 157286400\r\n250 SMTPUTF8\r\n354 \r\n250\r\n";
        let replies = all(&mut ReplyParser::new(), bytes).unwrap();
        assert_eq!(replies.len(), 3);
        assert_eq!(replies[0].lines(), ["mx Hello [203.0.113.10]", "SIZE 157286400", "SMTPUTF8"]);
        assert_eq!(replies[1], Reply::new(354, ""));
        assert_eq!(replies[2], Reply::new(250, ""));
    }

    #[test]
    fn half_a_reply_waits_for_its_other_half() {
        let mut parser = ReplyParser::new();
        assert_eq!(all(&mut parser, b"250-one\r\n25"), Ok(vec![]));
        assert_ne!(parser.buffered(), 0);
        assert_eq!(all(&mut parser, b"0 two\r"), Ok(vec![]));
        assert_eq!(all(&mut parser, b"\n").unwrap()[0].lines(), ["one", "two"]);
        assert_eq!(parser.buffered(), 0);
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for bytes in
            [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"25\r\n", b"\r\n", b"250_ok\r\n", b"999 x\r\n", b"100 x\r\n"]
        {
            assert!(matches!(all(&mut ReplyParser::new(), bytes), Err(ReplyError::NotAReply(_))), "{bytes:?}");
        }
    }

    #[test]
    fn a_very_long_line_is_cut_and_an_endless_one_ends_it() {
        let long = format!("554 {}\r\n", "x".repeat(10_000));
        let reply = all(&mut ReplyParser::new(), long.as_bytes()).unwrap().remove(0);
        assert_eq!(reply.lines()[0].chars().count(), LONGEST_KEPT + 1);
        assert_eq!(all(&mut ReplyParser::new(), &vec![b'2'; LONGEST_TAKEN + 1]), Err(ReplyError::LineTooLong));
        let lines = b"250-x\r\n".repeat(MOST_LINES);
        assert_eq!(all(&mut ReplyParser::new(), &lines), Err(ReplyError::TooManyLines));
    }

    #[test]
    fn no_escape_sequence_reaches_a_terminal() {
        let reply = all(&mut ReplyParser::new(), b"550 \x1b[2Jgone\0\xff\r\n").unwrap().remove(0);
        assert_eq!(reply.lines()[0], "\u{fffd}[2Jgone\u{fffd}\u{fffd}");
    }

    proptest! {
        #[test]
        fn cutting_the_bytes_differently_changes_nothing(
            lines in prop::collection::vec("(2[0-9]{2}|5[0-9]{2})[ -][ -~]{0,20}\r?\n", 0..8),
            cuts in prop::collection::vec(1_usize..12, 1..20),
        ) {
            let bytes = lines.concat().into_bytes();
            let whole = all(&mut ReplyParser::new(), &bytes).unwrap();
            let mut parser = ReplyParser::new();
            let mut pieces = Vec::new();
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (piece, behind) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
                pieces.extend(all(&mut parser, piece).unwrap());
                rest = behind;
            }
            prop_assert_eq!(whole, pieces);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = all(&mut ReplyParser::new(), &bytes);
        }
    }
}
