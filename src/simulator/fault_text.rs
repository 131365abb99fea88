//! Faults as text, for the command line and for tests.
//!
//! ```text
//! [PHASE=]EFFECT[*TIMES][,to=ADDRESS | ,from=ADDRESS | ,mailbox=ADDRESS]
//! ```
//!
//! PHASE is `connect ehlo starttls auth mail rcpt data body data_end any token device`; left out, a row of the tables comes at
//! its own. TIMES left out means always. EFFECT is one of
//!
//! | effect | what happens |
//! |---|---|
//! | `554-5.2.0-quota` | that row of `replies.toml`; `id#2` is its second wording |
//! | `50173`, `aadsts50173` | that row of `oauth_errors.toml`, by its name or number (at `token` or `device`) |
//! | `"550 5.1.1 Gone"` | a literal reply in double quotes; `\n` parts its lines |
//! | `ndr:5.1.8`, `ndr:"550 …"` | accepted behind the final dot, refused later by a mail to the mailbox |
//! | `wait:250ms` | the answer comes late |
//! | `silence`, `keep-silence` | no answer; with `keep` Exchange has the message |
//! | `drop`, `keep-drop` | the connection is closed; with `keep` Exchange has the message |
//! | `drop:1000` | at `body`: the connection is closed after so many octets of the message |
//! | `http:503`, `http:429:60` | a bare HTTP status with an HTML page, perhaps with `Retry-After` |

use std::str::FromStr;

use super::fault::{Effect, Fault, FaultError, Phase, Whom, row};
use super::options::duration;

impl FromStr for Phase {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        Self::ALL.into_iter().find(|phase| phase.name() == text).ok_or_else(|| FaultError::NoSuchPhase(text.to_owned()))
    }
}

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, FaultError> {
        let (phase, rest) = phase_in_front(text)?;
        let (effect, rest) = word(rest, &['*', ',']);
        let (effect, own_phase) = parse_effect(effect.trim())?;
        let Some(phase) = phase.or(own_phase) else {
            return Err(FaultError::Syntax(format!("{text:?} does not say at which phase")));
        };
        let mut fault = Fault::at(phase, effect)?;
        let mut rest = rest;
        while !rest.is_empty() {
            let (mark, behind) = rest.split_at(1);
            let (value, next) = word(behind, &['*', ',']);
            fault = match mark {
                "*" => fault.times(parse_times(value.trim())?),
                _ => fault.whom(parse_whom(value.trim())?),
            };
            rest = next;
        }
        Ok(fault)
    }
}

/// `PHASE=` in front of the effect. An equals sign behind a quote or a comma belongs to something else.
fn phase_in_front(text: &str) -> Result<(Option<Phase>, &str), FaultError> {
    match text.split_once('=') {
        Some((phase, rest)) if !phase.contains(['"', ',', '*']) => Ok((Some(phase.trim().parse()?), rest)),
        _ => Ok((None, text)),
    }
}

/// What stands before the first of `marks` that is not inside quotes, and the rest from that mark on.
fn word<'a>(text: &'a str, marks: &[char]) -> (&'a str, &'a str) {
    let (mut quoted, mut escaped) = (false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if !quoted && marks.contains(&c) => return text.split_at(at),
            _ => {}
        }
    }
    (text, "")
}

fn parse_effect(text: &str) -> Result<(Effect, Option<Phase>), FaultError> {
    if text.starts_with('"') {
        return Ok((Effect::Reply(literal(text)?), None));
    }
    let syntax = |problem: String| FaultError::Syntax(problem);
    let (name, value) = text.split_once(':').unwrap_or((text, ""));
    let effect = match (name, value) {
        ("silence", "") => (Effect::Silence, None),
        ("keep-silence", "") => (Effect::KeepAndSilence, Some(Phase::DataEnd)),
        ("drop", "") => (Effect::Drop, None),
        ("keep-drop", "") => (Effect::KeepAndDrop, Some(Phase::DataEnd)),
        ("drop", octets) => {
            let octets = octets.parse().map_err(|_| syntax(format!("{octets:?} is not a number of octets")))?;
            (Effect::DropAfter(octets), Some(Phase::Body))
        }
        ("wait", value) => (Effect::Wait(duration(value).map_err(syntax)?), None),
        ("http", value) => (parse_http(value)?, Some(Phase::Token)),
        ("ndr", value) if value.starts_with('"') => (Effect::Notice(literal(value)?), Some(Phase::DataEnd)),
        ("ndr", id) => match row(id)? {
            (Effect::Reply(text), _) => (Effect::Notice(text), Some(Phase::DataEnd)),
            _ => return Err(syntax(format!("{id} is no SMTP reply, so it cannot come back as a mail"))),
        },
        _ => {
            let (effect, phase) = row(text)?;
            (effect, Some(phase))
        }
    };
    Ok(effect)
}

fn parse_http(value: &str) -> Result<Effect, FaultError> {
    let wrong = || FaultError::Syntax(format!("{value:?} is not an HTTP status: write http:503 or http:429:60"));
    let (status, retry_after) = match value.split_once(':') {
        Some((status, seconds)) => (status, Some(seconds.parse().map_err(|_| wrong())?)),
        None => (value, None),
    };
    let status = status.parse().ok().filter(|status| (200..600).contains(status)).ok_or_else(wrong)?;
    Ok(Effect::Http { status, retry_after })
}

/// The text between the quotes; `\n`, `\"` and `\\` stand for what they say.
fn literal(text: &str) -> Result<String, FaultError> {
    let unclosed = || FaultError::Syntax(format!("{text} has no closing quote, or something behind it"));
    let inside = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).ok_or_else(unclosed)?;
    let mut plain = String::with_capacity(inside.len());
    let mut letters = inside.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next() {
                Some('n') => plain.push('\n'),
                Some(other @ ('"' | '\\')) => plain.push(other),
                _ => return Err(FaultError::Syntax(format!("in {text} a backslash stands before n, \\ or \" only"))),
            },
            '"' => return Err(unclosed()),
            other => plain.push(other),
        }
    }
    Ok(plain)
}

fn parse_times(text: &str) -> Result<u32, FaultError> {
    let times = text.parse().ok().filter(|times| *times > 0);
    times.ok_or_else(|| FaultError::Syntax(format!("{text:?} is not a number of times")))
}

fn parse_whom(text: &str) -> Result<Whom, FaultError> {
    match text.split_once('=') {
        Some(("to", address)) => Ok(Whom::Recipient(address.to_owned())),
        Some(("from", address)) => Ok(Whom::Sender(address.to_owned())),
        Some(("mailbox", address)) => Ok(Whom::Mailbox(address.to_owned())),
        _ => Err(FaultError::Syntax(format!(
            "{text:?} does not say for whom: write to=, from= or mailbox= and an address"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        format!("{:?}", text.parse::<Fault>().unwrap())
    }

    #[test]
    fn faults_are_read_from_text() {
        let quota = shown("data_end=554-5.2.0-quota*3");
        assert!(
            quota.contains("phase: DataEnd") && quota.contains("SubmissionQuotaExceeded") && quota.contains("Times(3)")
        );
        assert!(shown("554-5.2.0-quota").contains("phase: DataEnd"), "at its own phase");
        assert!(shown("mail=421-4.3.2-not-available#2").contains("Service not active"));
        assert!(shown("50173*1").contains("phase: Token"));
        assert!(shown("device=90002").contains("phase: Device"));
        let literal = shown(r#"rcpt="550-5.1.1 a, b * c\n550 5.1.1 \"d\""*2,to=gone@example.com"#);
        assert!(literal.contains(r#"550-5.1.1 a, b * c\n550 5.1.1 \"d\""#), "{literal}");
        assert!(literal.contains(r#"Recipient("gone@example.com")"#) && literal.contains("Times(2)"), "{literal}");
        assert!(shown("token=wait:1500ms,mailbox=a@b").contains("1.5s"));
        assert!(shown("drop:1000").contains("DropAfter(1000)"));
        assert!(shown("keep-drop*1,from=a@b").contains("KeepAndDrop"));
        assert!(shown("http:429:60").contains("retry_after: Some(60)"));
        assert!(shown("ndr:5.1.8").contains("Notice"));
        assert!(shown("auth=silence").contains("Silence"));
    }

    #[test]
    fn what_is_wrong_with_a_text_is_said() {
        for (text, words) in [
            ("554-5.2.0-qouta", "did you mean 554-5.2.0-quota"),
            ("data_ende=554-5.2.0-quota", "the phases are connect, ehlo"),
            ("554-5.2.0-quota#7", "write 554-5.2.0-quota#1"),
            ("silence", "does not say at which phase"),
            ("mail=keep-drop", "it can at data_end"),
            ("mail=50173", "it can at token, device"),
            ("mail=\"550 no", "closing quote"),
            ("mail=\"no\"", "is not an SMTP reply"),
            ("mail=drop*0", "number of times"),
            ("mail=drop,who=a@b", "does not say for whom"),
            ("mail=wait:soon", "is not a duration"),
            ("http:99", "is not an HTTP status"),
            ("ndr:50173", "is no SMTP reply"),
            ("", "no reply or error is called"),
        ] {
            let error = text.parse::<Fault>().unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
