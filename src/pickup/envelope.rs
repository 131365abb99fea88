//! From what a letter says to what SMTP would have said, and the `From` of a message that has none. Pure.

use std::net::{IpAddr, Ipv4Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::letter::{Letter, Sender};
use crate::config::Config;
use crate::message::{Address, Envelope, EnvelopeId, Headers, Notify, Protocol, Recipient, Return, Trace};

/// Where mail of the drop folder comes from: this machine.
pub(super) const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What stands behind the `@` of a name without one.
pub(super) fn domain(config: &Config) -> &str {
    config.default_domain.as_deref().unwrap_or(&config.hostname)
}

/// The envelope as SMTP would have said it. The only place where one is made of a letter.
pub(super) fn envelope(letter: &Letter, owner: &str, domain: &str) -> Result<Envelope, String> {
    let notify = wish("NOTIFY", letter.notify.as_deref(), Notify::parse)?;
    let mut recipients = Vec::new();
    for recipient in &letter.recipients {
        recipients.push(Recipient { address: complete(recipient, domain)?, notify, orcpt: None });
    }
    let sender = match letter.sender {
        Sender::Null => None,
        _ => Some(sender_address(letter, owner, domain)?),
    };
    let smtputf8 = recipients.iter().map(|recipient| &recipient.address).chain(&sender).any(|it| !it.is_ascii());
    let ret = wish("RET", letter.ret.as_deref(), Return::parse)?;
    let envid = wish("ENVID", letter.envid.as_deref(), EnvelopeId::parse)?;
    Ok(Envelope { sender, recipients, smtputf8, ret, envid })
}

/// What was wished of notices (RFC 3461), if anything was.
fn wish<T>(name: &str, value: Option<&str>, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, String> {
    let parsed = value.map(|value| parse(value).ok_or_else(|| format!("its {name} cannot be understood: {value:?}")));
    parsed.transpose()
}

pub(super) fn sender_address(letter: &Letter, owner: &str, domain: &str) -> Result<Address, String> {
    match &letter.sender {
        Sender::Address(address) => complete(address, domain),
        Sender::Owner | Sender::Null => complete(owner, domain),
    }
}

fn complete(name: &str, domain: &str) -> Result<Address, String> {
    let address = if name.contains('@') { Address::parse(name) } else { Address::parse(&format!("{name}@{domain}")) };
    address.map_err(|error| error.to_string())
}

pub(super) fn has_from(start: &[u8]) -> bool {
    Headers::scan(start).first("From").is_some()
}

/// A `From` for a message that has none (cron and `mail()` need not write one); it stands in front of all else.
pub(super) fn from_field(from: Option<&Address>, name: Option<&str>, start: &[u8]) -> Vec<u8> {
    let Some(from) = from else { return Vec::new() };
    let field = match name.map(str::trim).filter(|name| !name.is_empty()) {
        Some(name) => format!("From: {} <{from}>\r\n", phrase(name)),
        None => format!("From: {from}\r\n"),
    };
    let headers = Headers::scan(start);
    // A message without a header begins with its text, which is not to become one.
    let is_bare = headers.fields().is_empty() && !start.starts_with(b"\r\n") && !start.starts_with(b"\n");
    [field.as_bytes(), if is_bare { b"\r\n" } else { b"" }].concat()
}

/// A name that may stand in front of an address (RFC 5322 section 3.2.5; RFC 2047 for what is not ASCII).
fn phrase(name: &str) -> String {
    if !name.is_ascii() {
        // An encoded word has 75 characters at most; a name of more than 40 octets is cut rather than spread.
        let end = (0..=name.len().min(40)).rev().find(|&end| name.is_char_boundary(end)).unwrap_or_default();
        return format!("=?utf-8?B?{}?=", STANDARD.encode(&name[..end]));
    }
    let escaped: String =
        name.chars().flat_map(|c| matches!(c, '"' | '\\').then_some('\\').into_iter().chain([c])).collect();
    format!("\"{escaped}\"")
}

/// The last hop was no hop: a file, left by this user.
pub(super) fn trace(owner: &str) -> Trace {
    let protocol = Protocol { extended: false, tls: false, authenticated: false };
    Trace { peer: HERE, helo: Some("localhost".to_owned()), protocol, user: Some(owner.to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_addresses_of_this_machine() {
        let letter = |sender, recipients: &[&str]| Letter {
            sender,
            recipients: recipients.iter().map(|&text| text.to_owned()).collect(),
            ..Letter::default()
        };
        let made = envelope(&letter(Sender::Owner, &["root", "you@example.com"]), "www-data", "relay.test").unwrap();
        assert_eq!(made.sender.unwrap().as_str(), "www-data@relay.test");
        let recipients: Vec<_> = made.recipients.iter().map(|recipient| recipient.address.to_string()).collect();
        assert_eq!(recipients, ["root@relay.test", "you@example.com"]);
        assert_eq!(envelope(&letter(Sender::Null, &["root"]), "cron", "relay.test").unwrap().sender, None);
        let named = letter(Sender::Address("lms@contoso.com".to_owned()), &["kät@example.com"]);
        let made = envelope(&named, "cron", "relay.test").unwrap();
        assert_eq!((made.sender.unwrap().as_str(), made.smtputf8), ("lms@contoso.com", true));
        assert!(envelope(&letter(Sender::Owner, &["a b"]), "cron", "relay.test").is_err());
    }

    #[test]
    fn a_missing_from_is_put_in_front_and_a_text_stays_a_text() {
        let from = Address::parse("root@relay.test").unwrap();
        let with = |name: Option<&str>, message: &str| {
            String::from_utf8(from_field(Some(&from), name, message.as_bytes())).unwrap() + message
        };
        assert_eq!(with(None, "Subject: x\r\n\r\ny"), "From: root@relay.test\r\nSubject: x\r\n\r\ny");
        assert_eq!(with(None, "\r\ny"), "From: root@relay.test\r\n\r\ny");
        assert_eq!(with(None, "only text\r\n"), "From: root@relay.test\r\n\r\nonly text\r\n");
        assert_eq!(with(Some("Cron \"D\""), ""), "From: \"Cron \\\"D\\\"\" <root@relay.test>\r\n\r\n");
        assert!(with(Some("Käthe"), "").starts_with("From: =?utf-8?B?S8OkdGhl?= <root@relay.test>\r\n"));
        assert!(has_from(b"Subject: x\r\nFROM: a\r\n\r\n") && !has_from(b"Subject: x\r\n\r\nFrom: a\r\n"));
    }
}
