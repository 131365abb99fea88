//! The parameters of MAIL and RCPT (RFC 5321 section 4.1.1.11). One that was not offered is refused by its name, never ignored; one
//! that stands there twice is refused too, because nobody knows which of the two the next server would believe.

use super::command::{CommandError, MailFrom};
use crate::message::{EnvelopeId, Notify, OriginalRecipient, Recipient, Return};

/// More digits than this are no size of anything.
const MAX_SIZE_DIGITS: usize = 18;

/// What stands behind the path of MAIL: SIZE (RFC 1870), BODY (RFC 6152), SMTPUTF8 (RFC 6531), AUTH (RFC 4954), RET and ENVID
/// (RFC 3461).
///
/// # Errors
/// A parameter that is not offered, one that is there twice, or a value that it cannot have.
pub(super) fn of_mail(text: &[u8], mail: &mut MailFrom) -> Result<(), CommandError> {
    each(text, |name, value| {
        let wrong = |name, form| CommandError::Value { name, form };
        match (name, value) {
            ("SIZE", value) => mail.size = size(value).ok_or(wrong("SIZE", "a number of octets"))?,
            ("BODY", value) => {
                let is = |word: &str| value.is_some_and(|value| value.eq_ignore_ascii_case(word));
                mail.binary = is("BINARYMIME");
                if !(mail.binary || is("7BIT") || is("8BITMIME")) {
                    return Err(wrong("BODY", "7BIT or 8BITMIME"));
                }
            }
            ("SMTPUTF8", None) => mail.smtputf8 = true,
            ("SMTPUTF8", Some(_)) => return Err(wrong("SMTPUTF8", "it has none")),
            // Whoever else has vouched for the sender, `<>` or a mailbox in xtext, makes no difference here.
            ("AUTH", Some(_)) => {}
            ("AUTH", None) => return Err(wrong("AUTH", "<> or a mailbox")),
            ("RET", value) => mail.ret = Some(value.and_then(Return::parse).ok_or(wrong("RET", "FULL or HDRS"))?),
            ("ENVID", value) => {
                let envid = value.and_then(EnvelopeId::parse);
                mail.envid =
                    Some(envid.ok_or(wrong("ENVID", "at most 100 characters of xtext, all of them printable"))?);
            }
            _ => return Err(CommandError::Parameter(name.to_owned())),
        }
        Ok(())
    })
}

/// What stands behind the path of RCPT: NOTIFY and ORCPT (RFC 3461).
///
/// # Errors
/// The same.
pub(super) fn of_recipient(text: &[u8], recipient: &mut Recipient) -> Result<(), CommandError> {
    each(text, |name, value| {
        match name {
            "NOTIFY" => {
                let form = "NEVER by itself, or some of SUCCESS, FAILURE and DELAY with commas";
                let notify = value.and_then(Notify::parse);
                recipient.notify = Some(notify.ok_or(CommandError::Value { name: "NOTIFY", form })?);
            }
            "ORCPT" => {
                let form = "a type, a semicolon and an address in xtext, at most 500 characters, all of them printable";
                let orcpt = value.and_then(OriginalRecipient::parse);
                recipient.orcpt = Some(orcpt.ok_or(CommandError::Value { name: "ORCPT", form })?);
            }
            _ => return Err(CommandError::Parameter(name.to_owned())),
        }
        Ok(())
    })
}

/// Gives each parameter to `take`: its name in capitals, and its value if there is one.
fn each(text: &[u8], mut take: impl FnMut(&str, Option<&str>) -> Result<(), CommandError>) -> Result<(), CommandError> {
    let mut seen: Vec<String> = Vec::new();
    for parameter in text.split(u8::is_ascii_whitespace).filter(|parameter| !parameter.is_empty()) {
        let Ok(parameter) = str::from_utf8(parameter) else {
            return Err(CommandError::Parameter(parameter.escape_ascii().to_string()));
        };
        let (name, value) = match parameter.split_once('=') {
            Some((name, value)) => (name, Some(value).filter(|value| !value.is_empty())),
            None => (parameter, None),
        };
        let name = name.to_ascii_uppercase();
        take(&name, value)?;
        if seen.contains(&name) {
            return Err(CommandError::Twice(name));
        }
        seen.push(name);
    }
    Ok(())
}

fn size(value: Option<&str>) -> Option<u64> {
    let digits = value.filter(|value| value.len() <= MAX_SIZE_DIGITS && value.bytes().all(|b| b.is_ascii_digit()))?;
    digits.parse().ok()
}
