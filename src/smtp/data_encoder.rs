//! A message on its way out behind `354` (RFC 5321 sections 2.3.8 and 4.5.2).
//!
//! Every line ends with CRLF, no line but the last is a lone dot: no server, however it reads line ends, can see the end of the
//! message before it is there. There have been servers that took `CRLF NUL . CRLF` for the end (SEC Consult, "SMTP smuggling",
//! 2023), and there are languages in which a text ends with a NUL: so a dot is stuffed as well where only NULs stand in front of it.

/// Makes the bytes of a message into what goes over the wire, piece by piece. Independent of how the pieces are cut.
#[derive(Debug)]
pub struct DataEncoder {
    at: At,
    mended: Mended,
}

/// What an encoder had to do to a message beyond what the protocol asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// A bare CR or LF was made CRLF. A missing end of the last line does not count.
    pub line_ends: bool,
    /// A dot was put in front of one that had only NULs between itself and the start of its line; a server that keeps NULs keeps it.
    pub nul_dots: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    LineStart,
    /// Behind NULs and nothing else in this line.
    Nuls,
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
        Self { at: At::LineStart, mended: Mended::default() }
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
            match (self.at, first) {
                (At::LineStart | At::Nuls, 0) => {
                    self.at = At::Nuls;
                    wire.push(0);
                    piece = &piece[1..];
                    continue;
                }
                (At::LineStart, b'.') => wire.push(b'.'),
                (At::Nuls, b'.') => {
                    wire.push(b'.');
                    self.mended.nul_dots = true;
                }
                _ => {}
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
            At::Nuls | At::Text => self.end_line(wire, false),
            At::Cr => self.end_line(wire, true),
        }
        wire.extend_from_slice(b".\r\n");
    }

    /// What was done so far.
    pub fn mended(&self) -> Mended {
        self.mended
    }

    fn end_line(&mut self, wire: &mut Vec<u8>, mended: bool) {
        wire.extend_from_slice(b"\r\n");
        self.at = At::LineStart;
        self.mended.line_ends |= mended;
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
        (wire, encoder.mended().line_ends)
    }

    /// Makes lines of what came over the wire.
    type Reading = fn(&[u8]) -> Vec<Vec<u8>>;

    /// The ways in which servers have been found, or could be written, to look for the end: what they make of the bytes, line by line.
    const READINGS: [(&str, Reading); 6] = [
        ("CR, LF and CRLF all end a line", |wire| {
            let text = replaced(&replaced(wire, b"\r\n", b"\n"), b"\r", b"\n");
            lines(&text)
        }),
        ("NULs are dropped, and CR, LF and CRLF all end a line", |wire| {
            let text = replaced(&replaced(&replaced(wire, b"\0", b""), b"\r\n", b"\n"), b"\r", b"\n");
            lines(&text)
        }),
        ("carriage returns are dropped", |wire| lines(&replaced(wire, b"\r", b""))),
        ("LF ends a line, and white space before it is dropped", |wire| {
            lines(wire).iter().map(|line| line.trim_ascii_end().to_vec()).collect()
        }),
        ("LF ends a line, and a NUL ends its text", |wire| {
            let text = |line: &[u8]| line.split(|&b| b == 0).next().unwrap_or_default().trim_ascii_end().to_vec();
            lines(wire).iter().map(|line| text(line)).collect()
        }),
        ("NULs are dropped once lines are found", |wire| {
            let text = |line: &[u8]| line.iter().copied().filter(|&b| b != 0).collect::<Vec<u8>>();
            lines(wire).iter().map(|line| text(line.trim_ascii_end())).collect()
        }),
    ];

    fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
        let (mut out, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            if bytes[at..].starts_with(from) {
                out.extend_from_slice(to);
                at += from.len();
            } else {
                out.push(bytes[at]);
                at += 1;
            }
        }
        out
    }

    fn lines(text: &[u8]) -> Vec<Vec<u8>> {
        text.strip_suffix(b"\n").unwrap_or(text).split(|&b| b == b'\n').map(<[u8]>::to_vec).collect()
    }

    /// Whether any reading finds the end before it is there; which one.
    fn cut_early(wire: &[u8]) -> Option<&'static str> {
        READINGS.iter().find_map(|(name, reading)| {
            let lines = reading(wire);
            (lines.iter().position(|line| line == b".") != Some(lines.len() - 1)).then_some(*name)
        })
    }

    /// The same, plainly.
    fn reference(message: &[u8]) -> (Vec<u8>, bool) {
        let text: Vec<char> = message.iter().map(|&b| char::from(b)).collect();
        let text: String = text.into_iter().collect();
        let even = text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n");
        let mended = even != text;
        let even = if even.is_empty() || even.ends_with("\r\n") { even } else { even + "\r\n" };
        let mut wire: String = even.split_inclusive("\r\n").map(stuffed).collect();
        wire.push_str(".\r\n");
        (wire.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect(), mended)
    }

    fn stuffed(line: &str) -> String {
        let text = line.trim_start_matches('\0');
        let nuls = &line[..line.len() - text.len()];
        if text.starts_with('.') { format!("{nuls}.{text}") } else { line.to_owned() }
    }

    #[test]
    fn a_dot_behind_nuls_is_stuffed_and_that_is_told() {
        for (message, wire) in [
            (&b"a\r\n\0.\r\nMAIL"[..], &b"a\r\n\0..\r\nMAIL\r\n.\r\n"[..]),
            (b"\0\0.", b"\0\0..\r\n.\r\n"),
            (b"\n\0.\n", b"\r\n\0..\r\n.\r\n"),
        ] {
            let (mut encoder, mut out) = (DataEncoder::new(), Vec::new());
            encoder.encode(message, &mut out);
            encoder.finish(&mut out);
            assert_eq!(out, wire, "{}", message.escape_ascii());
            assert!(encoder.mended().nul_dots);
        }
        for (message, wire) in [
            (&b"\0"[..], &b"\0\r\n.\r\n"[..]),
            (b".\0\r\n", b"..\0\r\n.\r\n"),
            (b"\0a.", b"\0a.\r\n.\r\n"),
            (b"\r\0\n.", b"\r\n\0\r\n..\r\n.\r\n"),
        ] {
            let (mut encoder, mut out) = (DataEncoder::new(), Vec::new());
            encoder.encode(message, &mut out);
            encoder.finish(&mut out);
            assert_eq!(out, wire, "{}", message.escape_ascii());
            assert!(!encoder.mended().nul_dots);
        }
    }

    #[test]
    fn every_published_end_of_data_is_harmless_on_its_way_out() {
        let ends = ["\r\n", "\n", "\r", "\r\r\n", "\n\r", "\0\r\n", "\r\0\n", "\r\n\0", "\n\0", "\r\0", "", " \r\n"];
        for before in ends {
            for dot in [".", "..", "\0.", ".\0", "\0.\0", ". ", ".\r", "\0\0."] {
                for behind in ends {
                    let message = format!("text{before}{dot}{behind}MAIL FROM:<x@evil.example>{behind}");
                    let (wire, _) = encode(message.as_bytes(), &[usize::MAX]);
                    assert_eq!(cut_early(&wire), None, "{message:?} leaves as {}", wire.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn the_readings_do_find_an_end_where_there_is_one() {
        for (n, wire) in [
            &b"\r.\r.\r\n"[..],
            b"\r\n\0.\r\n.\r\n",
            b"\n\r.\n.\r\n",
            b"\n. \r\n.\r\n",
            b"\n.\0x\r\n.\r\n",
            b"\n\0\0.\0\n.\r\n",
        ]
        .into_iter()
        .enumerate()
        {
            let (name, reading) = READINGS[n];
            let lines = reading(wire);
            assert_ne!(lines.iter().position(|line| line == b"."), Some(lines.len() - 1), "{name}");
        }
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
                prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(0), Just(b'x'), any::<u8>()], 0..200),
            cuts in prop::collection::vec(1_usize..9, 1..20),
        ) {
            prop_assert_eq!(encode(&message, &cuts), reference(&message));
        }

        #[test]
        fn the_end_of_the_message_is_seen_nowhere_before_it(
            message in prop::collection::vec(
                prop::sample::select(vec![b'\r', b'\n', b'\n', b'.', b'.', 0, b' ', b'x']), 0..60),
            cuts in prop::collection::vec(1_usize..9, 1..20),
        ) {
            let (wire, _) = encode(&message, &cuts);
            prop_assert_eq!(cut_early(&wire), None, "{}", wire.escape_ascii());
        }
    }
}
