//! The path of MAIL and RCPT (RFC 5321 section 4.1.2): from the bytes behind the verb to an address.
//!
//! Ours rather than `smtp-proto`'s because that one takes the quotes off a quoted local part and wants its brackets, and because
//! the reply to a wrong address has to name it.

use crate::message::{Address, AddressError};

/// Why there is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// Not of the form `FROM:<path>` or `TO:<path>`.
    #[error("syntax")]
    Syntax,
    /// A name without a domain.
    #[error(
        "{0:?} has no domain: write the whole address, {0}@ and the domain, or set default_domain in the relay's configuration"
    )]
    NoDomain(String),
    /// Neither ASCII nor UTF-8.
    #[error("{0:?} is not an address: it is neither ASCII nor UTF-8")]
    NotText(String),
    /// Not an address.
    #[error(transparent)]
    Address(#[from] AddressError),
}

/// Reads `FROM:<a@b> PARAMETERS` (without the verb): the address, or `None` for `<>`, and what stands behind it. A bare name such as
/// `root` gets `default_domain`, if there is one.
///
/// As old programs write it, white space may stand around the colon, the brackets may be missing, and a source route
/// (RFC 5321 appendix C) is dropped.
///
/// # Errors
/// The text is not of this form, or what it names is no address.
pub fn read<'a>(
    rest: &'a [u8],
    keyword: &str,
    default_domain: Option<&str>,
) -> Result<(Option<Address>, &'a [u8]), PathError> {
    let rest = rest.trim_ascii_start();
    let (word, rest) = rest.split_at_checked(keyword.len()).ok_or(PathError::Syntax)?;
    if !word.eq_ignore_ascii_case(keyword.as_bytes()) {
        return Err(PathError::Syntax);
    }
    let rest = rest.trim_ascii_start().strip_prefix(b":").ok_or(PathError::Syntax)?.trim_ascii_start();
    let (path, parameters) = match rest.strip_prefix(b"<") {
        Some(rest) => {
            let end = unquoted(rest, |b| b == b'>').ok_or(PathError::Syntax)?;
            (&rest[..end], &rest[end + 1..])
        }
        None => rest.split_at(unquoted(rest, |b| b.is_ascii_whitespace()).unwrap_or(rest.len())),
    };
    let behind_path = parameters.first().is_none_or(u8::is_ascii_whitespace);
    let has_brackets = rest.starts_with(b"<");
    if !behind_path || (path.is_empty() && !has_brackets) {
        return Err(PathError::Syntax);
    }
    Ok((address(path.trim_ascii(), default_domain)?, parameters.trim_ascii()))
}

/// The place of the first byte outside quotes that `is_wanted`.
fn unquoted(text: &[u8], is_wanted: impl Fn(u8) -> bool) -> Option<usize> {
    let (mut in_quotes, mut escaped) = (false, false);
    text.iter().position(|&byte| {
        let literal = escaped;
        escaped = false;
        match byte {
            _ if literal => false,
            b'\\' if in_quotes => {
                escaped = true;
                false
            }
            b'"' => {
                in_quotes = !in_quotes;
                false
            }
            _ => !in_quotes && is_wanted(byte),
        }
    })
}

fn address(path: &[u8], default_domain: Option<&str>) -> Result<Option<Address>, PathError> {
    if path.is_empty() {
        return Ok(None);
    }
    let path = str::from_utf8(path).map_err(|_| PathError::NotText(path.escape_ascii().to_string()))?;
    let path = match path.split_once(':') {
        Some((route, mailbox)) if route.starts_with('@') => mailbox,
        _ => path,
    };
    if ends_with_domain(path) {
        return Ok(Some(Address::parse(path)?));
    }
    match default_domain {
        Some(domain) => Ok(Some(Address::parse(&format!("{path}@{domain}"))?)),
        None => Err(PathError::NoDomain(path.chars().take(64).collect())),
    }
}

/// Whether there is an `@` outside quotes.
fn ends_with_domain(path: &str) -> bool {
    unquoted(path.as_bytes(), |b| b == b'@').is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Result<(Option<String>, String), PathError> {
        let (address, rest) = read(text.as_bytes(), "FROM", None)?;
        Ok((address.map(|address| address.to_string()), String::from_utf8_lossy(rest).into_owned()))
    }

    #[test]
    fn paths_are_read_as_old_and_new_programs_write_them() {
        for (text, address, parameters) in [
            ("FROM:<a@b.example>", "a@b.example", ""),
            ("from: <a@b.example>  SIZE=1 ", "a@b.example", "SIZE=1"),
            ("From : < a@b.example >", "a@b.example", ""),
            ("FROM:a@b.example", "a@b.example", ""),
            ("FROM: a@b.example BODY=8BITMIME", "a@b.example", "BODY=8BITMIME"),
            ("FROM:<\"a > \\\"b\"@c.example> SIZE=1", "\"a > \\\"b\"@c.example", "SIZE=1"),
            ("FROM:<@x.example,@y.example:a@b.example>", "a@b.example", ""),
            ("FROM:<root@[IPv6:::1]>", "root@[IPv6:::1]", ""),
        ] {
            assert_eq!(path(text), Ok((Some(address.into()), parameters.into())), "{text}");
        }
        assert_eq!(path("FROM:<> SIZE=1"), Ok((None, "SIZE=1".into())));
    }

    #[test]
    fn what_has_another_form_is_a_syntax_error() {
        for text in ["", "FROM", "FROM:", "FROM: ", "TO:<a@b>", "FROM <a@b>", "FROM:<a@b", "FROM:<a@b>SIZE=1", "FRO"] {
            assert_eq!(path(text), Err(PathError::Syntax), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_named() {
        assert_eq!(path("FROM:<root>"), Err(PathError::NoDomain("root".into())));
        assert!(path("FROM:<a b@c>").unwrap_err().to_string().contains("a b@c"));
        assert!(matches!(read(b"FROM:<\xff@b>", "FROM", None), Err(PathError::NotText(_))));
    }

    #[test]
    fn a_bare_name_gets_the_default_domain_and_nothing_else_does() {
        let path = |text: &str| {
            read(text.as_bytes(), "TO", Some("contoso.com")).map(|(address, _)| address.map(|a| a.to_string()))
        };
        for (text, address) in [
            ("TO:<root>", "root@contoso.com"),
            ("TO:root", "root@contoso.com"),
            ("TO:<Postmaster>", "Postmaster@contoso.com"),
            ("TO:<\"John Doe\">", "\"John Doe\"@contoso.com"),
            ("TO:<\"a@b\">", "\"a@b\"@contoso.com"),
            ("TO:<a@b.example>", "a@b.example"),
        ] {
            assert_eq!(path(text), Ok(Some(address.to_owned())), "{text}");
        }
        assert_eq!(path("TO:<>"), Ok(None));
        for text in ["TO:<root@>", "TO:<@>", "TO:<a b>", "TO:<a\"b>", "TO:<.\x07>"] {
            assert!(path(text).is_err(), "{text}: {:?}", path(text));
        }
        assert_eq!(
            path(&format!("TO:<{}>", "x".repeat(65))).map_err(|error| matches!(error, PathError::Address(_))),
            Err(true)
        );
    }
}
