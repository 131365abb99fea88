//! An address of mail (RFC 5321 section 4.1.2, RFC 6531 for what is not ASCII).

use std::fmt;
use std::str::FromStr;

/// The longest address that is taken (RFC 5321 section 4.5.3.1.3: a path of 256 octets with its brackets).
const MAX_LENGTH: usize = 254;
/// RFC 5321 section 4.5.3.1.1.
const MAX_LOCAL_PART: usize = 64;

/// `local-part@domain`, kept as it was written. Compares without regard to case.
#[derive(Clone, Debug)]
pub struct Address(String);

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing before or behind the `@`, or no `@` at all.
    #[error("{0:?} is not an address: it needs the form name@domain")]
    Form(String),
    /// A character that cannot stand where it stands.
    #[error("{0:?} is not an address: {1:?} cannot stand there")]
    Character(String, char),
    /// Longer than RFC 5321 allows.
    #[error("{0:?} is too long for an address")]
    Length(String),
}

impl Address {
    /// Reads `local@domain`, without angle brackets. Quoted local parts and address literals are taken.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let form = || AddressError::Form(text.to_owned());
        if text.len() > MAX_LENGTH {
            return Err(AddressError::Length(text.chars().take(60).collect::<String>() + "…"));
        }
        let (local, domain) = text.rsplit_once('@').ok_or_else(form)?;
        if local.is_empty() || domain.is_empty() {
            return Err(form());
        }
        if local.len() > MAX_LOCAL_PART {
            return Err(AddressError::Length(text.to_owned()));
        }
        let wrong = |c| AddressError::Character(text.to_owned(), c);
        check_local_part(local).map_err(wrong)?;
        check_domain(domain).map_err(wrong)?;
        Ok(Self(text.to_owned()))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stands behind the last `@`.
    pub fn domain(&self) -> &str {
        self.0.rsplit_once('@').map_or("", |(_, domain)| domain)
    }

    /// Its domain to compare: A-labels (RFC 5890) in lower case, where there are such.
    pub fn domain_key(&self) -> String {
        domain_key(self.domain())
    }

    /// The form in which the store and the maps know it: ASCII letters in lower case.
    pub fn key(&self) -> String {
        self.0.to_ascii_lowercase()
    }

    /// Whether handing it on needs SMTPUTF8 (RFC 6531).
    pub fn is_ascii(&self) -> bool {
        self.0.is_ascii()
    }

    /// The same mailbox for those who know ASCII alone: the domain as A-labels (RFC 5890). `None` if the local part is not ASCII, since
    /// nobody but its own domain can say what that would be in ASCII, or if the domain is none that could be registered.
    pub fn in_ascii(&self) -> Option<Self> {
        let (local, domain) = self.0.rsplit_once('@')?;
        if !local.is_ascii() {
            return None;
        }
        Self::parse(&format!("{local}@{}", idna::domain_to_ascii(domain).ok()?)).ok()
    }
}

/// A domain to compare, as [`Address::domain_key`].
pub fn domain_key(domain: &str) -> String {
    if domain.is_ascii() {
        return domain.to_ascii_lowercase();
    }
    idna::domain_to_ascii(domain).unwrap_or_else(|_| domain.to_lowercase())
}

fn check_local_part(local: &str) -> Result<(), char> {
    if let Some(quoted) = local.strip_prefix('"') {
        return check_quoted(quoted);
    }
    match local.chars().find(|&c| c.is_control() || c.is_whitespace() || "\"(),:;<>@[]\\".contains(c)) {
        Some(c) => Err(c),
        None => Ok(()),
    }
}

/// The rest of a quoted string behind its opening quote (RFC 5321 section 4.1.2, `Quoted-string`).
fn check_quoted(rest: &str) -> Result<(), char> {
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return chars.next().map_or(Ok(()), Err),
            '\\' => match chars.next() {
                Some(' '..='~') => {}
                other => return Err(other.unwrap_or('\\')),
            },
            c if c.is_control() => return Err(c),
            _ => {}
        }
    }
    Err('"')
}

fn check_domain(domain: &str) -> Result<(), char> {
    if let Some(literal) = domain.strip_prefix('[') {
        let inside = literal.strip_suffix(']').ok_or('[')?;
        return match inside.chars().find(|c| !(c.is_ascii_alphanumeric() || ".:-".contains(*c))) {
            Some(c) => Err(c),
            None => Ok(()),
        };
    }
    if domain.starts_with('.') || domain.ends_with('.') || domain.contains("..") {
        return Err('.');
    }
    // Underscores are no host names, but they are seen, and it is not for a relay to judge.
    match domain.chars().find(|&c| !(c.is_alphanumeric() || c == '.' || c == '-' || c == '_')) {
        Some(c) => Err(c),
        None => Ok(()),
    }
}

impl PartialEq for Address {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Address {}

impl std::hash::Hash for Address {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

impl PartialOrd for Address {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Address {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_real_programs_send_is_an_address() {
        for text in [
            "lms@contoso.com",
            "moodleAABAAAAAg==0123456789abcdef0123456789abcdef@contoso.com",
            "\"John Doe\"@contoso.com",
            "\"a@b\\\"c\"@contoso.com",
            "root@[127.0.0.1]",
            "root@[IPv6:::1]",
            "o'neil+tag@host_name.contoso.com",
            "grün@münchen.example",
        ] {
            assert_eq!(Address::parse(text).map(|a| a.to_string()).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "", "@", "root", "a@", "@b", "a b@c", "a@b c", "a@b..c", "a@.b", "a\r\n@b", "a@b\0", "\"a@b", "\"a\"x@b",
            "<a@b>", "a@[b",
        ] {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
        assert!(Address::parse(&format!("{}@b", "a".repeat(65))).is_err());
    }

    #[test]
    fn a_domain_outside_ascii_has_a_form_in_ascii_and_a_local_part_has_none() {
        for (text, ascii) in [
            ("info@münchen.example", Some("info@xn--mnchen-3ya.example")),
            ("\"a b\"@MÜNCHEN.example", Some("\"a b\"@xn--mnchen-3ya.example")),
            ("info@例え.テスト", Some("info@xn--r8jz45g.xn--zckzah")),
            ("grün@münchen.example", None),
            ("info@a\u{ad}\u{2060}.example\u{fffd}", None),
        ] {
            let found = Address::parse(text).ok().and_then(|address| address.in_ascii());
            assert_eq!(found.as_ref().map(Address::as_str), ascii, "{text}");
        }
    }

    #[test]
    fn case_makes_no_difference() {
        let a = Address::parse("LMS@Contoso.com").unwrap();
        assert_eq!(a, Address::parse("lms@contoso.COM").unwrap());
        assert_eq!(a.to_string(), "LMS@Contoso.com");
        assert_eq!(a.domain(), "Contoso.com");
    }
}
