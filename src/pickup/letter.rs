//! What stands in a file of the drop folder: the envelope as lines of text, an empty line, the message.
//!
//! ```text
//! xoauth2-relay drop 1
//! sender www-data
//! recipient root
//! recipient you@example.com
//! name The learning site
//!
//! Subject: hello
//! ```
//!
//! Addresses stand there as they were given; the relay makes `root` into an address, since the configuration need not be readable for
//! whoever leaves mail. Any user can write such a file: nothing in it is believed but what it is, a request to send a mail.

/// The first line. The number rises when an older relay would misunderstand a newer file.
const FIRST_LINE: &str = "xoauth2-relay drop 1";
/// The longest envelope that is read, in octets: 500 recipients of the greatest length, and more.
pub(super) const MAX_ENVELOPE: usize = 256 * 1024;

/// Who is told when a mail cannot be delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sender {
    /// The owner of the file.
    #[default]
    Owner,
    /// Nobody: the null sender `<>`.
    Null,
    /// This address, or the name of a local user.
    Address(String),
}

/// An envelope as the `sendmail` command was given it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Letter {
    /// `-f`.
    pub sender: Sender,
    /// Addresses, or names of local users; not empty in a file.
    pub recipients: Vec<String>,
    /// `-F`: the name for a `From` that is missing.
    pub name: Option<String>,
    /// `-N`, as it was given (RFC 3461 section 4.1).
    pub notify: Option<String>,
    /// `-R`, as it was given (RFC 3461 section 4.3).
    pub ret: Option<String>,
    /// `-V`, as it was given (RFC 3461 section 4.4).
    pub envid: Option<String>,
}

/// A file is none of ours, or nothing that can be sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LetterError {
    /// Another program's, or a newer relay's.
    #[error("it does not begin with \"{FIRST_LINE}\"")]
    Form,
    /// Nobody wrote that with the command.
    #[error("line {0} of its envelope cannot be understood")]
    Line(usize),
    /// Nobody would get it.
    #[error("it names no recipient")]
    NoRecipient,
}

impl Letter {
    /// The envelope for the beginning of the file. Control characters are left out of the values: none of them can be of use.
    pub fn to_text(&self) -> String {
        let mut lines = vec![FIRST_LINE.to_owned()];
        let mut line = |key: &str, value: &str| {
            let value: String = value.chars().filter(|c| !c.is_control()).collect();
            lines.push(format!("{key} {value}"));
        };
        match &self.sender {
            Sender::Owner => {}
            Sender::Null => line("sender", ""),
            Sender::Address(address) => line("sender", address),
        }
        self.recipients.iter().for_each(|recipient| line("recipient", recipient));
        for (key, value) in
            [("name", &self.name), ("notify", &self.notify), ("return", &self.ret), ("envid", &self.envid)]
        {
            if let Some(value) = value {
                line(key, value);
            }
        }
        lines.join("\n") + "\n\n"
    }

    /// Reads what stands before the empty line.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, LetterError> {
        let mut lines = text.lines().enumerate();
        if lines.next().is_none_or(|(_, first)| first != FIRST_LINE) {
            return Err(LetterError::Form);
        }
        let mut letter = Self::default();
        for (n, line) in lines {
            let wrong = LetterError::Line(n + 1);
            let Some((key, value)) = line.split_once(' ') else { return Err(wrong) };
            if value.chars().any(char::is_control) {
                return Err(wrong);
            }
            let value = value.to_owned();
            match key {
                "sender" if value.is_empty() => letter.sender = Sender::Null,
                "sender" => letter.sender = Sender::Address(value),
                "recipient" => letter.recipients.push(value),
                "name" => letter.name = Some(value),
                "notify" => letter.notify = Some(value),
                "return" => letter.ret = Some(value),
                "envid" => letter.envid = Some(value),
                _ => return Err(wrong),
            }
        }
        if letter.recipients.is_empty() { Err(LetterError::NoRecipient) } else { Ok(letter) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for sender in [Sender::Owner, Sender::Null, Sender::Address("www-data".to_owned())] {
            let letter = Letter {
                sender,
                recipients: vec!["root".to_owned(), "\"a b\"@example.com".to_owned()],
                name: Some("Käthe (cron)".to_owned()),
                notify: Some("never".to_owned()),
                ret: None,
                envid: Some("a+20b".to_owned()),
            };
            let text = letter.to_text();
            assert_eq!(Letter::parse(text.strip_suffix("\n\n").unwrap()), Ok(letter));
        }
    }

    #[test]
    fn a_value_cannot_make_a_line_of_its_own() {
        let name = Some("x\nrecipient evil@example.com\r\0".to_owned());
        let letter = Letter { recipients: vec!["root".to_owned()], name, ..Letter::default() };
        let read = Letter::parse(letter.to_text().trim_end()).unwrap();
        assert_eq!(read.recipients, ["root"]);
    }

    #[test]
    fn what_nobody_wrote_with_the_command_is_named() {
        for (text, wrong) in [
            ("", LetterError::Form),
            ("xoauth2-relay drop 2\nrecipient root", LetterError::Form),
            ("From: a@b.example\n", LetterError::Form),
            ("xoauth2-relay drop 1\nrecipient root\ncolour red", LetterError::Line(3)),
            ("xoauth2-relay drop 1\nrecipient", LetterError::Line(2)),
            ("xoauth2-relay drop 1\nrecipient a\rb", LetterError::Line(2)),
            ("xoauth2-relay drop 1\nsender a", LetterError::NoRecipient),
        ] {
            assert_eq!(Letter::parse(text), Err(wrong), "{text:?}");
        }
    }
}
