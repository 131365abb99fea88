//! One complete command line becomes a command. `smtp-proto` parses; here is what it does not do: paths as old programs write them,
//! extensions that are not offered, and the methods of HTTP.

use std::borrow::Cow;

use smtp_proto::{AUTH_LOGIN, AUTH_PLAIN, Error, Request};
use zeroize::Zeroizing;

use super::parameters;
use super::path::{self, PathError};
use crate::message::{Address, EnvelopeId, Recipient, Return};

/// What a browser that was sent to the wrong port, or by the wrong people, would begin with.
const HTTP_METHODS: [&[u8]; 9] =
    [b"GET", b"POST", b"PUT", b"HEAD", b"OPTIONS", b"CONNECT", b"DELETE", b"PATCH", b"PRI"];
/// Commands of other times and other programs: RFC 821 (SEND, SOML, SAML, TURN), Postfix (XCLIENT, XFORWARD).
const OTHERS: [&[u8]; 6] = [b"SEND", b"SOML", b"SAML", b"TURN", b"XCLIENT", b"XFORWARD"];

/// A command with its arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// EHLO with whatever name the client gives itself.
    Ehlo(String),
    /// HELO, likewise.
    Helo(String),
    /// AUTH; `initial` is the initial response as it was sent, `=` included.
    Auth {
        /// How.
        mechanism: Mechanism,
        /// The initial response, base64; `None` if there was none.
        initial: Option<String>,
    },
    /// MAIL.
    Mail(MailFrom),
    /// RCPT.
    Rcpt(Recipient),
    /// DATA.
    Data,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// VRFY.
    Vrfy,
    /// HELP.
    Help,
    /// QUIT.
    Quit,
    /// STARTTLS.
    StartTls,
    /// BDAT (RFC 3030): its chunk follows without an answer being waited for.
    Bdat {
        /// The chunk's octets.
        size: u64,
        /// The message is complete with them.
        last: bool,
    },
    /// A command of SMTP that is not offered: EXPN, ETRN and such.
    NotOffered,
    /// A request of HTTP.
    Http,
}

/// The arguments of MAIL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MailFrom {
    /// `None` is the null sender.
    pub sender: Option<Address>,
    /// The size in octets that was announced; 0 if none was.
    pub size: u64,
    /// `BODY=BINARYMIME` was said.
    pub binary: bool,
    /// `SMTPUTF8` was said.
    pub smtputf8: bool,
    /// What `RET` said.
    pub ret: Option<Return>,
    /// What `ENVID` said.
    pub envid: Option<EnvelopeId>,
}

/// A mechanism of AUTH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// RFC 4616.
    Plain,
    /// As draft-murchison-sasl-login wrote it down.
    Login,
    /// Any other.
    Other,
}

/// Why a line is not a command.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Not a command of SMTP.
    #[error("unknown command")]
    Unknown,
    /// The form it should have.
    #[error("the form is: {0}")]
    Syntax(&'static str),
    /// MAIL names no sender that could be one.
    #[error("{0}")]
    Sender(PathError),
    /// RCPT names no recipient that could be one.
    #[error("{0}")]
    Recipient(PathError),
    /// BDAT without a size that can be believed: nobody can tell what follows.
    #[error("the form is: BDAT octets [LAST]")]
    Chunk,
    /// A parameter that was not offered.
    #[error("parameter {0} is not offered: leave it out")]
    Parameter(String),
    /// A parameter that was given before.
    #[error("parameter {0} stands there twice")]
    Twice(String),
    /// The value of this parameter is wrong.
    #[error("the value of {name} is wrong: {form}")]
    Value {
        /// Which.
        name: &'static str,
        /// What it could be.
        form: &'static str,
    },
}

impl Command {
    /// Parses a line without its CRLF.
    ///
    /// # Errors
    /// What is wrong with it, said in a way that may go into a reply once it is made printable.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        Self::parse_within(line, None)
    }

    /// As `parse`, with a domain for addresses that have none.
    ///
    /// # Errors
    /// As `parse`.
    pub fn parse_within(line: &[u8], default_domain: Option<&str>) -> Result<Self, CommandError> {
        let line = line.trim_ascii();
        let (verb, rest) = line.split_at(line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len()));
        if verb.eq_ignore_ascii_case(b"MAIL") {
            return mail(rest, default_domain);
        }
        if verb.eq_ignore_ascii_case(b"RCPT") {
            return recipient(rest, default_domain);
        }
        if verb.eq_ignore_ascii_case(b"EHLO") {
            return name(rest).map(Self::Ehlo).ok_or(CommandError::Syntax("EHLO domain"));
        }
        if verb.eq_ignore_ascii_case(b"HELO") {
            return name(rest).map(Self::Helo).ok_or(CommandError::Syntax("HELO domain"));
        }
        if OTHERS.iter().any(|other| verb.eq_ignore_ascii_case(other)) {
            return Ok(Self::NotOffered);
        }
        if verb.eq_ignore_ascii_case(b"BDAT") {
            return chunk(rest);
        }
        if HTTP_METHODS.contains(&verb) && !rest.is_empty() {
            return Ok(Self::Http);
        }
        // RFC 3207 section 4: it has no parameters.
        if verb.eq_ignore_ascii_case(b"STARTTLS") && !rest.is_empty() {
            return Err(CommandError::Syntax("STARTTLS"));
        }
        // An AUTH line holds a password.
        let line = Zeroizing::new([line, b"\r\n"].concat());
        match Request::parse(&mut line.iter()) {
            Ok(request) => request.try_into(),
            Err(Error::SyntaxError { syntax }) => Err(CommandError::Syntax(syntax)),
            Err(_) => Err(CommandError::Unknown),
        }
    }
}

impl TryFrom<Request<Cow<'_, str>>> for Command {
    type Error = CommandError;

    fn try_from(request: Request<Cow<'_, str>>) -> Result<Self, CommandError> {
        Ok(match request {
            Request::Auth { mechanism, initial_response } => Self::Auth {
                mechanism: match mechanism {
                    AUTH_PLAIN => Mechanism::Plain,
                    AUTH_LOGIN => Mechanism::Login,
                    _ => Mechanism::Other,
                },
                initial: (!initial_response.is_empty()).then(|| initial_response.into_owned()),
            },
            Request::Data => Self::Data,
            Request::Rset => Self::Rset,
            Request::Noop { .. } => Self::Noop,
            Request::Vrfy { .. } => Self::Vrfy,
            Request::Help { .. } => Self::Help,
            Request::Quit => Self::Quit,
            Request::StartTls => Self::StartTls,
            Request::Expn { .. } | Request::Etrn { .. } | Request::Atrn { .. } | Request::Burl { .. } => {
                Self::NotOffered
            }
            Request::Ehlo { .. }
            | Request::Helo { .. }
            | Request::Lhlo { .. }
            | Request::Mail { .. }
            | Request::Rcpt { .. }
            | Request::Bdat { .. } => return Err(CommandError::Unknown),
        })
    }
}

/// What a client calls itself. There are machines with names in Latin-1, and no name is worth a refusal.
fn name(rest: &[u8]) -> Option<String> {
    let name = rest.split(u8::is_ascii_whitespace).find(|word| !word.is_empty())?;
    Some(String::from_utf8_lossy(name).into_owned())
}

fn mail(rest: &[u8], default_domain: Option<&str>) -> Result<Command, CommandError> {
    const FORM: &str = "MAIL FROM:<name@domain>";
    let (sender, parameters) = path::read(rest, "FROM", default_domain).map_err(|error| match error {
        PathError::Syntax => CommandError::Syntax(FORM),
        error => CommandError::Sender(error),
    })?;
    let mut mail = MailFrom { sender, ..MailFrom::default() };
    parameters::of_mail(parameters, &mut mail)?;
    Ok(Command::Mail(mail))
}

fn recipient(rest: &[u8], default_domain: Option<&str>) -> Result<Command, CommandError> {
    const FORM: &str = "RCPT TO:<name@domain>";
    let (recipient, parameters) = path::read(rest, "TO", default_domain).map_err(|error| match error {
        PathError::Syntax => CommandError::Syntax(FORM),
        error => CommandError::Recipient(error),
    })?;
    let mut recipient = Recipient::from(recipient.ok_or(CommandError::Syntax(FORM))?);
    parameters::of_recipient(parameters, &mut recipient)?;
    Ok(Command::Rcpt(recipient))
}

fn chunk(rest: &[u8]) -> Result<Command, CommandError> {
    let mut words = rest.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let digits = words.next().filter(|word| word.iter().all(u8::is_ascii_digit)).ok_or(CommandError::Chunk)?;
    let size = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(CommandError::Chunk)?;
    let last = match words.next() {
        None => false,
        Some(word) if word.eq_ignore_ascii_case(b"LAST") => true,
        Some(_) => return Err(CommandError::Chunk),
    };
    if words.next().is_some() { Err(CommandError::Chunk) } else { Ok(Command::Bdat { size, last }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::OriginalRecipient;
    use proptest::prelude::*;

    fn parse(line: &str) -> Result<Command, CommandError> {
        Command::parse(line.as_bytes())
    }

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn commands_are_known_in_any_case() {
        for (line, command) in [
            ("EHLO 127.0.0.1", Command::Ehlo("127.0.0.1".into())),
            ("ehlo büro_pc", Command::Ehlo("büro_pc".into())),
            ("HELO [10.0.0.1]", Command::Helo("[10.0.0.1]".into())),
            ("helo my printer", Command::Helo("my".into())),
            ("data", Command::Data),
            (" RSET ", Command::Rset),
            ("Noop hello there", Command::Noop),
            ("noop", Command::Noop),
            ("VRFY root", Command::Vrfy),
            ("HELP", Command::Help),
            ("help MAIL", Command::Help),
            ("QUIT", Command::Quit),
            ("STARTTLS", Command::StartTls),
            ("BDAT 10 LAST", Command::Bdat { size: 10, last: true }),
            ("bdat\t0", Command::Bdat { size: 0, last: false }),
            ("BDAT 18446744073709551615  last", Command::Bdat { size: u64::MAX, last: true }),
            ("EXPN staff", Command::NotOffered),
            ("ETRN x", Command::NotOffered),
            ("turn", Command::NotOffered),
            ("XCLIENT ADDR=10.0.0.1 NAME=evil", Command::NotOffered),
            ("GET / HTTP/1.1", Command::Http),
        ] {
            assert_eq!(parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn auth_comes_with_and_without_an_initial_response() {
        let auth = |mechanism, initial: Option<&str>| Ok(Command::Auth { mechanism, initial: initial.map(Into::into) });
        assert_eq!(parse("AUTH LOGIN"), auth(Mechanism::Login, None));
        assert_eq!(parse("auth login  dXNlcg=="), auth(Mechanism::Login, Some("dXNlcg==")));
        assert_eq!(parse("Auth Plain ="), auth(Mechanism::Plain, Some("=")));
        assert_eq!(parse("AUTH CRAM-MD5"), auth(Mechanism::Other, None));
        assert_eq!(parse("AUTH X-UNHEARD-OF-MECHANISM abc"), auth(Mechanism::Other, Some("abc")));
        assert!(matches!(parse("AUTH"), Err(CommandError::Syntax(_))));
    }

    #[test]
    fn mail_takes_the_parameters_that_are_offered() {
        let line = "MAIL FROM:<a@b.example> size=1000 BODY=8BITMIME SMTPUTF8 AUTH=<>";
        let mail = MailFrom { sender: Some(address("a@b.example")), size: 1000, smtputf8: true, ..MailFrom::default() };
        assert_eq!(parse(line), Ok(Command::Mail(mail)));
        assert!(matches!(parse("MAIL FROM:<> BODY=7bit"), Ok(Command::Mail(mail)) if mail.sender.is_none()));
        assert!(matches!(parse("MAIL FROM:<> BODY=BINARYMIME"), Ok(Command::Mail(mail)) if mail.binary));
    }

    #[test]
    fn wishes_about_notices_are_taken_with_mail_and_rcpt() {
        let Ok(Command::Mail(mail)) = parse("MAIL FROM:<> ret=hdrs ENVID=QQ+2B1") else { panic!("no MAIL") };
        assert_eq!((mail.ret, mail.envid.as_ref().map(EnvelopeId::as_str)), (Some(Return::Headers), Some("QQ+2B1")));
        let line = "RCPT TO:<a@b.example> notify=success,DELAY Orcpt=rfc822;A+2Bx@b.example";
        let Ok(Command::Rcpt(recipient)) = parse(line) else { panic!("no RCPT") };
        assert_eq!(recipient.address, address("a@b.example"));
        assert_eq!(recipient.notify.map(|notify| notify.to_string()).as_deref(), Some("SUCCESS,DELAY"));
        assert_eq!(recipient.orcpt.as_ref().map(OriginalRecipient::as_str), Some("rfc822;A+2Bx@b.example"));
    }

    #[test]
    fn what_was_not_offered_is_refused_by_name() {
        for line in ["MAIL FROM:<a@b> HOLDFOR=5", "MAIL FROM:<a@b> SIZE=1 holdfor=5", "MAIL FROM:<a@b> HOLDFOR"] {
            assert_eq!(parse(line), Err(CommandError::Parameter("HOLDFOR".into())), "{line}");
        }
        assert_eq!(parse("MAIL FROM:<a@b> NOTIFY=NEVER"), Err(CommandError::Parameter("NOTIFY".into())));
        assert_eq!(parse("RCPT TO:<a@b> RET=FULL"), Err(CommandError::Parameter("RET".into())));
        assert!(matches!(Command::parse(b"RCPT TO:<a@b> \xff=1"), Err(CommandError::Parameter(_))));
    }

    #[test]
    fn a_wrong_value_is_told_with_its_parameter() {
        for (line, wrong) in [
            ("MAIL FROM:<a@b> SIZE", "SIZE"),
            ("MAIL FROM:<a@b> SIZE=x", "SIZE"),
            ("MAIL FROM:<a@b> SIZE=+1", "SIZE"),
            ("MAIL FROM:<a@b> SIZE=99999999999999999999999999", "SIZE"),
            ("MAIL FROM:<a@b> BODY=9BIT", "BODY"),
            ("MAIL FROM:<a@b> SMTPUTF8=yes", "SMTPUTF8"),
            ("MAIL FROM:<a@b> AUTH=", "AUTH"),
            ("MAIL FROM:<a@b> RET=ALL", "RET"),
            ("MAIL FROM:<a@b> ENVID=", "ENVID"),
            ("MAIL FROM:<a@b> ENVID=a+0D+0Ab", "ENVID"),
            ("RCPT TO:<a@b> NOTIFY=NEVER,FAILURE", "NOTIFY"),
            ("RCPT TO:<a@b> ORCPT=a@b", "ORCPT"),
        ] {
            assert!(matches!(parse(line), Err(CommandError::Value { name, .. }) if name == wrong), "{line}");
        }
        for line in [
            "MAIL FROM:<a@b> SIZE=1 SIZE=2",
            "RCPT TO:<a@b> NOTIFY=DELAY notify=NEVER",
            "MAIL FROM:<> RET=FULL ret=FULL",
        ] {
            assert!(matches!(parse(line), Err(CommandError::Twice(_))), "{line}");
        }
    }

    #[test]
    fn a_chunk_without_a_size_to_believe_is_an_error_of_its_own() {
        for line in [
            "BDAT",
            "BDAT LAST",
            "BDAT +5",
            "BDAT -1",
            "BDAT 0x10",
            "BDAT 5LAST",
            "BDAT 5 LAST 6",
            "BDAT 18446744073709551616",
        ] {
            assert_eq!(parse(line), Err(CommandError::Chunk), "{line}");
        }
    }

    #[test]
    fn wrong_forms_are_told_from_unknown_commands() {
        for line in ["EHLO", "HELO ", "MAIL", "MAIL a@b", "MAIL FROM:", "RCPT TO:<>", "RCPT FROM:<a@b>", "VRFY"] {
            assert!(matches!(parse(line), Err(CommandError::Syntax(_))), "{line}");
        }
        for line in ["", "XYZZY", "LHLO x", "MAILFROM:<a@b>", "STARTTLSX", "GET", "\u{1F4E7}"] {
            assert_eq!(parse(line), Err(CommandError::Unknown), "{line}");
        }
        assert!(matches!(parse("RCPT TO:<root>"), Err(CommandError::Recipient(PathError::NoDomain(_)))));
        assert!(matches!(parse("MAIL FROM:<a@b..c>"), Err(CommandError::Sender(_))));
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic(
            verb in prop_oneof![Just(""), Just("MAIL FROM:"), Just("RCPT TO:<a@b> "), Just("MAIL FROM:<a@b> SIZE="), Just("AUTH "),
                Just("BDAT "), Just("EHLO "), Just("VRFY "), Just("MAIL FROM:<> AUTH="), Just("MAIL FROM:<> ENVID="),
                Just("RCPT TO:<a@b> ORCPT=utf-8;"), Just("RCPT TO:<a@b> NOTIFY=")],
            rest in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            drop(Command::parse(&[verb.as_bytes(), &rest].concat()));
        }
    }
}
