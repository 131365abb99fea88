//! A reply of an SMTP server, kept whole (RFC 5321 section 4.2, RFC 2034 for the enhanced code).

use std::fmt;

/// A reply: its code and all its lines, word for word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    lines: Vec<String>,
}

impl Reply {
    /// A reply of one line; `text` is what follows the code, an enhanced code included.
    pub fn new(code: u16, text: impl Into<String>) -> Self {
        Self { code, lines: vec![text.into()] }
    }

    /// A reply of several lines, each without its code.
    ///
    /// A reply has at least one line; none given becomes one that is empty.
    pub fn with_lines(code: u16, mut lines: Vec<String>) -> Self {
        if lines.is_empty() {
            lines.push(String::new());
        }
        Self { code, lines }
    }

    /// The three digits.
    pub fn code(&self) -> u16 {
        self.code
    }

    /// Every line without its code; an enhanced code is still in front of each.
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// The enhanced status code of the first line (`5.7.3`), if there is one.
    pub fn enhanced(&self) -> Option<&str> {
        let first = self.lines.first()?.split(' ').next()?;
        let mut parts = first.split('.');
        let class = parts.next()?;
        let is_code = matches!(class, "2" | "4" | "5")
            && parts.by_ref().take(2).filter(|part| part.len() <= 3 && part.parse::<u16>().is_ok()).count() == 2
            && parts.next().is_none();
        is_code.then_some(first)
    }

    /// `2xx`.
    pub fn is_positive(&self) -> bool {
        self.code / 100 == 2
    }

    /// `5xx`.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// The bytes as they go over the wire: `250-first CRLF 250 last CRLF`.
    pub fn wire(&self) -> String {
        let mut wire = String::new();
        for (n, line) in self.lines.iter().enumerate() {
            let dash = if n + 1 < self.lines.len() { '-' } else { ' ' };
            wire.push_str(&self.code.to_string());
            wire.push(dash);
            wire.push_str(line);
            wire.push_str("\r\n");
        }
        wire
    }
}

/// As it came, lines parted by a line feed: `535 5.7.3 Authentication unsuccessful […]`.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.wire().trim_end_matches("\r\n").replace("\r\n", "\n").as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_of_several_lines_is_shown_as_it_came() {
        let reply = Reply::with_lines(550, vec!["5.7.1 first".into(), "5.7.1 second".into()]);
        assert_eq!(reply.wire(), "550-5.7.1 first\r\n550 5.7.1 second\r\n");
        assert_eq!(reply.to_string(), "550-5.7.1 first\n550 5.7.1 second");
        assert_eq!(reply.enhanced(), Some("5.7.1"));
    }

    #[test]
    fn words_are_no_enhanced_code() {
        for text in ["OK", "5.7 short", "5.7.x", "9.1.1 what", "5.7.1.2 long", ""] {
            assert_eq!(Reply::new(250, text).enhanced(), None, "{text}");
        }
    }
}
