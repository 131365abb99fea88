//! A message on its way out behind `354` (RFC 5321 sections 2.3.8 and 4.5.2).
//!
//! Every line ends with CRLF, no line but the last is a lone dot: no server, however it reads line ends, can see the end of the
//! message before it is there.

/// Makes the bytes of a message into what goes over the wire, piece by piece. Independent of how the pieces are cut.
#[derive(Debug)]
pub struct DataEncoder {
    at: At,
    mended: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    LineStart,
    Text,
    /// Behind a CR that is not written yet: the next byte tells what it is.
    Cr,
}

impl Default for DataEncoder {
    fn default() -> Self {
        Self::new()
    }
}

impl DataEncoder {
    /// An encoder before the first byte of a message.
    pub fn new() -> Self {
        Self { at: At::LineStart, mended: false }
    }

    /// Appends `piece` to `wire`: dots stuffed, a bare CR or LF made CRLF.
    pub fn encode(&mut self, mut piece: &[u8], wire: &mut Vec<u8>) {
        wire.reserve(piece.len() + piece.len() / 64);
        while let Some(&first) = piece.first() {
            if self.at == At::Cr {
                self.end_line(wire, first != b'\n');
                if first == b'\n' {
                    piece = &piece[1..];
                    continue;
                }
            }
            if self.at == At::LineStart && first == b'.' {
                wire.push(b'.');
            }
            let text = piece.iter().position(|&b| matches!(b, b'\r' | b'\n')).unwrap_or(piece.len());
            wire.extend_from_slice(&piece[..text]);
            if text > 0 {
                self.at = At::Text;
            }
            match piece.get(text) {
                Some(b'\r') => self.at = At::Cr,
                Some(_) => self.end_line(wire, true),
                None => return,
            }
            piece = &piece[text + 1..];
        }
    }

    /// Ends the message: the last line's end if it has none, then the lone dot.
    pub fn finish(&mut self, wire: &mut Vec<u8>) {
        match self.at {
            At::LineStart => {}
            At::Text => self.end_line(wire, false),
            At::Cr => self.end_line(wire, true),
        }
        wire.extend_from_slice(b".\r\n");
    }

    /// Whether a bare CR or LF was made CRLF so far. A missing end of the last line does not count.
    pub fn mended(&self) -> bool {
        self.mended
    }

    fn end_line(&mut self, wire: &mut Vec<u8>, mended: bool) {
        wire.extend_from_slice(b"\r\n");
        self.at = At::LineStart;
        self.mended |= mended;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(message: &[u8], cuts: &[usize]) -> (Vec<u8>, bool) {
        let (mut encoder, mut wire) = (DataEncoder::new(), Vec::new());
        let (mut rest, mut cuts) = (message, cuts.iter().cycle());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            encoder.encode(piece, &mut wire);
            rest = behind;
        }
        encoder.finish(&mut wire);
        (wire, encoder.mended())
    }

    /// The same, plainly.
    fn reference(message: &[u8]) -> (Vec<u8>, bool) {
        let text: Vec<char> = message.iter().map(|&b| char::from(b)).collect();
        let text: String = text.into_iter().collect();
        let even = text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n");
        let mended = even != text;
        let even = if even.is_empty() || even.ends_with("\r\n") { even } else { even + "\r\n" };
        let mut wire: String =
            even.split_inclusive("\r\n").map(|l| if l.starts_with('.') { format!(".{l}") } else { l.into() }).collect();
        wire.push_str(".\r\n");
        (wire.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect(), mended)
    }

    #[test]
    fn dots_are_stuffed_and_the_end_is_put() {
        for (message, wire, mended) in [
            (&b""[..], &b".\r\n"[..], false),
            (b"hi", b"hi\r\n.\r\n", false),
            (b"hi\r\n", b"hi\r\n.\r\n", false),
            (b".\r\n..\r\na.b\r\n", b"..\r\n...\r\na.b\r\n.\r\n", false),
            (b"a\n.\n", b"a\r\n..\r\n.\r\n", true),
            (b"a\r.\r", b"a\r\n..\r\n.\r\n", true),
            (b"a\r\r\nb", b"a\r\n\r\nb\r\n.\r\n", true),
            (b"a\n\r\nb", b"a\r\n\r\nb\r\n.\r\n", true),
            (b"a\n\rb", b"a\r\n\r\nb\r\n.\r\n", true),
        ] {
            assert_eq!(encode(message, &[usize::MAX]), (wire.to_vec(), mended), "{message:?}");
        }
    }

    proptest! {
        #[test]
        fn any_message_cut_anywhere_comes_out_as_the_plain_way_says(
            message in prop::collection::vec(
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'x'), any::<u8>()], 0..200),
            cuts in prop::collection::vec(1_usize..9, 1..20),
        ) {
            prop_assert_eq!(encode(&message, &cuts), reference(&message));
        }

        #[test]
        fn the_end_of_the_message_is_seen_nowhere_before_it(
            message in prop::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'x')], 0..60),
        ) {
            let (wire, _) = encode(&message, &[3]);
            // The laxest reader there is: any of CR, LF, CRLF ends a line.
            let text = String::from_utf8(wire).unwrap().replace("\r\n", "\n").replace('\r', "\n");
            let lines: Vec<&str> = text.trim_end_matches('\n').split('\n').collect();
            prop_assert_eq!(lines.iter().position(|line| *line == "."), Some(lines.len() - 1));
        }
    }
}
