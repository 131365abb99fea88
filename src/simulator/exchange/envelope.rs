//! MAIL and RCPT: which addresses and parameters Exchange takes.

use super::super::texts::words;
use super::body::Body;
use super::command::Argument;

/// What EHLO promises, whatever the mailbox's own limit.
const SIZE_PROMISED: u64 = 157_286_400;

/// The envelope of the message at hand.
#[derive(Debug, Default)]
pub(super) struct Mail {
    pub(super) from: String,
    pub(super) params: String,
    pub(super) utf8: bool,
    pub(super) binary: bool,
    pub(super) recipients: Vec<String>,
    pub(super) recipient_params: Vec<String>,
    /// What BDAT has brought so far.
    pub(super) chunks: Option<Body>,
}

/// The envelope that MAIL begins, or the reply to a wrong one.
pub(super) fn checked_mail(argument: &Argument<'_>) -> Result<Mail, &'static str> {
    let address = argument.address.clone().ok_or("501 5.1.7 Invalid address")?;
    let mut mail = Mail { from: address, params: argument.params.to_owned(), ..Mail::default() };
    for (name, value) in argument.params() {
        match (name.to_ascii_uppercase().as_str(), value.map(str::to_ascii_uppercase).as_deref()) {
            ("SIZE", Some(size)) => match size.parse::<u64>() {
                Ok(size) if size <= SIZE_PROMISED => {}
                Ok(_) => return Err(words().too_large),
                Err(_) => return Err("501 5.5.4 Invalid arguments"),
            },
            ("BODY", Some("7BIT" | "8BITMIME")) | ("RET", Some("FULL" | "HDRS")) | ("ENVID" | "AUTH", Some(_)) => {}
            ("BODY", Some("BINARYMIME")) => mail.binary = true,
            ("SMTPUTF8", None) => mail.utf8 = true,
            ("SIZE" | "BODY" | "RET" | "ENVID" | "AUTH" | "SMTPUTF8", _) => return Err("501 5.5.4 Invalid arguments"),
            _ => return Err("555 5.5.4 Unsupported parameter"),
        }
    }
    if mail.from.is_ascii() || mail.utf8 { Ok(mail) } else { Err("553 5.6.7 Address needs SMTPUTF8") }
}

/// The address of RCPT, or the reply to a wrong one.
pub(super) fn checked_recipient(argument: &Argument<'_>, utf8: bool) -> Result<String, &'static str> {
    let address = argument.address.clone().filter(|address| !address.is_empty()).ok_or("501 5.1.3 Invalid address")?;
    for (name, value) in argument.params() {
        match (name.to_ascii_uppercase().as_str(), value) {
            ("NOTIFY" | "ORCPT", Some(value)) if !value.is_empty() => {}
            ("NOTIFY" | "ORCPT", _) => return Err("501 5.5.4 Invalid arguments"),
            _ => return Err("555 5.5.4 Unsupported parameter"),
        }
    }
    if address.is_ascii() || utf8 { Ok(address) } else { Err("553 5.6.7 Address needs SMTPUTF8") }
}
