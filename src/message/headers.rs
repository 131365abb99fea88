//! The header section of a message as it came: where each field begins and ends, byte for byte (RFC 5322 section 2.2).
//!
//! Nothing is decoded and nothing is judged: odd messages (no header at all, bare line feeds, 8-bit names) have to pass unharmed.

use std::ops::Range;

/// One header field, with its place in the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// The bytes before the colon, white space in front of it left out.
    pub name: &'a [u8],
    /// The bytes behind the colon, folds included, without the final line end.
    pub value: &'a [u8],
    /// Where the value is in the message.
    pub value_span: Range<usize>,
    /// The whole field in the message, its final line end included.
    pub span: Range<usize>,
}

/// The header section of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    fields: Vec<Field<'a>>,
    start: usize,
    end: usize,
}

impl<'a> Headers<'a> {
    /// Finds the fields at the beginning of `message`. Any of CRLF, CR and LF ends a line, as it will once it is sent on.
    ///
    /// The section ends before the first empty line, or before the first line that is no field: a message without a header has an
    /// empty one. A message cut off within its header has the fields that are complete. The line that a mailbox file has in front of
    /// each message (RFC 4155) belongs to none: programs that send such a message on forget to take it away.
    pub fn scan(message: &'a [u8]) -> Self {
        let mut fields = Vec::new();
        let start = mailbox_line(message);
        let mut at = start;
        while let Some(colon) = field_name(&message[at..]) {
            let mut end = at;
            let (mut text_end, mut next) = line(message, end);
            while next < message.len() && matches!(message[next], b' ' | b'\t') {
                end = next;
                (text_end, next) = line(message, end);
            }
            let name = message[at..at + colon].trim_ascii_end();
            let value_span = at + colon + 1..text_end;
            fields.push(Field { name, value: &message[value_span.clone()], value_span, span: at..next });
            at = next;
        }
        Self { fields, start, end: at }
    }

    /// All fields from the top.
    pub fn fields(&self) -> &[Field<'a>] {
        &self.fields
    }

    /// The fields of this name, from the top.
    pub fn all<'n>(&'n self, name: &'n str) -> impl Iterator<Item = &'n Field<'a>> {
        self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The first field of this name.
    pub fn first(&self, name: &str) -> Option<&Field<'a>> {
        self.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// Where the first field begins: behind the line of a mailbox file if there is one.
    pub fn start(&self) -> usize {
        self.start
    }

    /// Where the header section ends: the place of the empty line, or of the body when there is none.
    pub fn end(&self) -> usize {
        self.end
    }
}

/// Where the colon is if a field begins here: printable ASCII without spaces before it (obsolete white space aside).
fn field_name(rest: &[u8]) -> Option<usize> {
    let colon = rest.iter().position(|&b| b == b':' || matches!(b, b'\r' | b'\n'))?;
    let name = rest[..colon].trim_ascii_end();
    let fits = rest[colon] == b':' && !name.is_empty() && name.iter().all(|&b| (33..=126).contains(&b) || b >= 128);
    fits.then_some(colon)
}

/// How long the line `From somebody Sat Nov 21 09:00:00 2026` is if the message begins with one and a field follows. A text may begin
/// with the word "From" too: it is told by the time of day.
fn mailbox_line(message: &[u8]) -> usize {
    let (text_end, next) = line(message, 0);
    let is_time =
        |word: &[u8]| matches!(word, [a, b, b':', c, d, ..] if [a, b, c, d].iter().all(|b| b.is_ascii_digit()));
    let is_one = message.starts_with(b"From ")
        && message[..text_end].split(|&b| b == b' ').skip(2).any(is_time)
        && field_name(&message[next..]).is_some();
    if is_one { next } else { 0 }
}

/// The end of the line's text, and where the next line begins.
fn line(message: &[u8], start: usize) -> (usize, usize) {
    match message[start..].iter().position(|&b| matches!(b, b'\r' | b'\n')) {
        None => (message.len(), message.len()),
        Some(n) => {
            let end = start + n;
            let crlf = message[end] == b'\r' && message.get(end + 1) == Some(&b'\n');
            (end, end + if crlf { 2 } else { 1 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(message: &[u8]) -> Vec<String> {
        Headers::scan(message).fields().iter().map(|f| String::from_utf8_lossy(f.name).into_owned()).collect()
    }

    #[test]
    fn folds_belong_to_their_field() {
        let message = b"From: a@b\r\nSubject: one\r\n two\r\n\tthree\r\n\r\nTo: not a header\r\n";
        let headers = Headers::scan(message);
        assert_eq!(names(message), ["From", "Subject"]);
        assert_eq!(headers.first("SUBJECT").unwrap().value, b" one\r\n two\r\n\tthree");
        assert_eq!(&message[headers.end()..][..2], b"\r\n");
        for field in headers.fields() {
            assert_eq!(&message[field.value_span.clone()], field.value);
            assert_eq!(&message[field.span.clone()][field.name.len()..][..1], b":");
        }
    }

    #[test]
    fn the_line_of_a_mailbox_file_is_no_part_of_the_header() {
        let line = "From lms@contoso.com Sat Nov 21 09:00:00 2026\r\n";
        let message = format!("{line}Subject: x\r\n\r\n");
        let headers = Headers::scan(message.as_bytes());
        assert_eq!((headers.start(), headers.fields().len()), (line.len(), 1));
        for message in [line, &format!("{line}\r\ntext"), "From 09:00 on\r\n", "From nine o'clock on\r\nNote: come\r\n"]
        {
            let headers = Headers::scan(message.as_bytes());
            assert_eq!((headers.start(), headers.fields().len()), (0, 0), "{message:?}");
        }
    }

    #[test]
    fn a_message_without_a_header_has_none() {
        for message in [&b"just text\r\n"[..], b"\r\nbody\r\n", b"", b"some words: and more\r\n"] {
            let headers = Headers::scan(message);
            assert!(headers.fields().is_empty(), "{message:?}");
            assert_eq!(headers.end(), 0);
        }
    }

    #[test]
    fn bare_line_ends_part_fields_as_they_will_when_sent() {
        assert_eq!(names(b"A: 1\nB: 2\rC: 3\r\n\r\n"), ["A", "B", "C"]);
    }

    #[test]
    fn a_header_cut_off_is_taken_as_far_as_it_goes() {
        assert_eq!(names(b"A: 1\r\nB: 2"), ["A", "B"]);
        assert_eq!(names(b"A: 1\r\nB"), ["A"]);
    }
}
