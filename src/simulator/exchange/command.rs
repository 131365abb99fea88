//! One line of a client as a command. Strict: what RFC 5321 does not know, Exchange does not either.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// A command.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Ehlo,
    Helo,
    StartTls,
    Auth {
        mechanism: &'a str,
        initial: Option<&'a str>,
    },
    Mail(Argument<'a>),
    Rcpt(Argument<'a>),
    Data,
    Bdat {
        size: u64,
        last: bool,
    },
    Rset,
    Noop,
    Vrfy,
    Quit,
    /// Known, with an argument that is none.
    Malformed,
    Unknown,
}

impl<'a> Command<'a> {
    pub(super) fn parse(line: &'a str) -> Self {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let argument = rest.trim();
        let bare = |command| if argument.is_empty() { command } else { Self::Malformed };
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" if !argument.is_empty() => Self::Ehlo,
            "HELO" if !argument.is_empty() => Self::Helo,
            "EHLO" | "HELO" => Self::Malformed,
            "STARTTLS" => bare(Self::StartTls),
            "AUTH" => match argument.split_once(' ') {
                _ if argument.is_empty() => Self::Malformed,
                Some((mechanism, initial)) => Self::Auth { mechanism, initial: Some(initial.trim()) },
                None => Self::Auth { mechanism: argument, initial: None },
            },
            "MAIL" => Self::Mail(Argument::parse(argument, "FROM:")),
            "RCPT" => Self::Rcpt(Argument::parse(argument, "TO:")),
            "DATA" => bare(Self::Data),
            "BDAT" => bdat(argument),
            "RSET" => bare(Self::Rset),
            "NOOP" => Self::Noop,
            "VRFY" => Self::Vrfy,
            "QUIT" => bare(Self::Quit),
            _ => Self::Unknown,
        }
    }

    /// The verb, for statistics.
    pub(super) fn verb(&self) -> &'static str {
        match self {
            Self::Ehlo => "EHLO",
            Self::Helo => "HELO",
            Self::StartTls => "STARTTLS",
            Self::Auth { .. } => "AUTH",
            Self::Mail(_) => "MAIL",
            Self::Rcpt(_) => "RCPT",
            Self::Data => "DATA",
            Self::Bdat { .. } => "BDAT",
            Self::Rset => "RSET",
            Self::Noop => "NOOP",
            Self::Vrfy => "VRFY",
            Self::Quit => "QUIT",
            Self::Malformed | Self::Unknown => "other",
        }
    }
}

fn bdat<'a>(argument: &str) -> Command<'a> {
    let (size, last) = match argument.split_once(' ') {
        Some((size, last)) if last.trim().eq_ignore_ascii_case("LAST") => (size, true),
        Some(_) => return Command::Malformed,
        None => (argument, false),
    };
    size.parse().map_or(Command::Malformed, |size| Command::Bdat { size, last })
}

/// The argument of MAIL or RCPT.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Argument<'a> {
    /// What stood there.
    pub(super) raw: &'a str,
    /// The address without brackets; `None`: there is none to be read. Empty for `<>`.
    pub(super) address: Option<String>,
    /// What stands behind it.
    pub(super) params: &'a str,
}

impl<'a> Argument<'a> {
    fn parse(raw: &'a str, prefix: &str) -> Self {
        let path =
            raw.get(..prefix.len()).filter(|start| start.eq_ignore_ascii_case(prefix)).map(|_| &raw[prefix.len()..]);
        let found = path.and_then(|path| split_path(path.trim_start()));
        match found {
            Some((address, params)) if well_formed(address) => {
                Self { raw, address: Some(address.to_owned()), params: params.trim() }
            }
            _ => Self { raw, address: None, params: "" },
        }
    }

    /// Each parameter with its value.
    pub(super) fn params(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        self.params.split_ascii_whitespace().map(|param| match param.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (param, None),
        })
    }

    /// As it is told in events.
    pub(super) fn shown(&self) -> String {
        self.address.clone().unwrap_or_else(|| self.raw.to_owned())
    }
}

/// The text between the brackets and the text behind them; a bracket inside a quoted local part is none.
fn split_path(path: &str) -> Option<(&str, &str)> {
    let inside = path.strip_prefix('<')?;
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '>' if !quoted => {
                let behind = &inside[at + 1..];
                return (behind.is_empty() || behind.starts_with(' ')).then_some((&inside[..at], behind));
            }
            _ => {}
        }
    }
    None
}

/// `<>`, or a local part and a domain without control characters, and without blanks outside quotes.
fn well_formed(address: &str) -> bool {
    if address.is_empty() {
        return true;
    }
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let quoted = local.len() > 1 && local.starts_with('"') && local.ends_with('"');
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>' | '@' | ',' | ':' | '"');
    !local.is_empty()
        && !domain.is_empty()
        && !domain.starts_with('.')
        && (domain.starts_with('[') || !domain.contains(odd))
        && (quoted || !local.contains(odd))
        && !address.contains(char::is_control)
}

/// What AUTH XOAUTH2 brought.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) token: String,
}

/// Without the token.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

impl Credentials {
    /// `base64("user=" user ^A "auth=Bearer " token ^A ^A)`.
    pub(super) fn parse(blob: &str) -> Option<Self> {
        let text = String::from_utf8(STANDARD.decode(blob).ok()?).ok()?;
        let mut parts = text.strip_suffix("\x01\x01")?.split('\x01');
        let user = parts.next()?.strip_prefix("user=")?.to_owned();
        let token = parts.next()?.strip_prefix("auth=Bearer ")?.to_owned();
        parts.next().is_none().then_some(Self { user, token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(line: &str) -> Option<String> {
        match Command::parse(line) {
            Command::Mail(argument) | Command::Rcpt(argument) => argument.address,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn addresses_are_read_strictly() {
        for (line, expected) in [
            ("MAIL FROM:<a@b.example>", Some("a@b.example")),
            ("mail from: <a@b.example> SIZE=1", Some("a@b.example")),
            ("MAIL FROM:<>", Some("")),
            ("RCPT TO:<\"a> b\"@c>", Some("\"a> b\"@c")),
            ("RCPT TO:<a@[192.0.2.1]>", Some("a@[192.0.2.1]")),
            ("MAIL FROM:a@b", None),
            ("MAIL FROM:<a@b", None),
            ("MAIL FROM:<a@b>SIZE=1", None),
            ("MAIL <a@b>", None),
            ("RCPT TO:<a>", None),
            ("RCPT TO:<a@>", None),
            ("RCPT TO:<@relay:a@b>", None),
            ("RCPT TO:<a b@c>", None),
            ("RCPT FROM:<a@b>", None),
            ("RCPT", None),
        ] {
            assert_eq!(address(line).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn commands_are_known_in_any_case() {
        assert_eq!(Command::parse("ehlo me"), Command::Ehlo);
        assert_eq!(Command::parse("EHLO"), Command::Malformed);
        assert_eq!(Command::parse("auth XOAUTH2"), Command::Auth { mechanism: "XOAUTH2", initial: None });
        assert_eq!(Command::parse("AUTH XOAUTH2 abc"), Command::Auth { mechanism: "XOAUTH2", initial: Some("abc") });
        assert_eq!(Command::parse("BDAT 10 last"), Command::Bdat { size: 10, last: true });
        assert_eq!(Command::parse("BDAT ten"), Command::Malformed);
        assert_eq!(Command::parse("DATA now"), Command::Malformed);
        assert_eq!(Command::parse("Length: 2"), Command::Unknown);
    }

    #[test]
    fn credentials_have_one_form() {
        let blob = |text: &str| STANDARD.encode(text);
        let read = Credentials::parse(&blob("user=a@b\x01auth=Bearer xyz\x01\x01")).unwrap();
        assert_eq!((read.user.as_str(), read.token.as_str()), ("a@b", "xyz"));
        for wrong in
            ["user=a@b\x01auth=Bearer xyz\x01", "user=a@b\x01auth=xyz\x01\x01", "a@b\x01auth=Bearer x\x01\x01", ""]
        {
            assert!(Credentials::parse(&blob(wrong)).is_none(), "{wrong:?}");
        }
        assert!(Credentials::parse("no base64!").is_none());
    }
}
