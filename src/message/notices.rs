//! Which notices about a delivery the sender asked for, and what it wants to find in them: the parameters RET, ENVID, NOTIFY and ORCPT
//! (RFC 3461 section 4). They are kept word for word, so that they can be handed on.

use std::fmt;

use super::Address;

/// RFC 3461 section 4.4: the longest ENVID in octets.
const MAX_ENVID: usize = 100;
/// RFC 3461 section 4.2: the longest ORCPT in octets.
const MAX_ORCPT: usize = 500;

/// RET: how much of the message comes back with a notice that it failed (RFC 3461 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    /// All of it.
    Full,
    /// Its header.
    Headers,
}

impl Return {
    /// Reads the value of RET, in any case.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Full, Self::Headers].into_iter().find(|ret| text.eq_ignore_ascii_case(ret.as_str()))
    }

    /// The value of RET.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "FULL",
            Self::Headers => "HDRS",
        }
    }
}

/// NOTIFY: of what the sender wants to hear (RFC 3461 section 4.1). None of the three is `NEVER`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notify {
    /// That it was delivered.
    pub success: bool,
    /// That it failed.
    pub failure: bool,
    /// That it takes long.
    pub delay: bool,
}

impl Notify {
    const NEVER: Self = Self { success: false, failure: false, delay: false };

    /// Reads the value of NOTIFY, in any case: `NEVER` by itself, or a list of the others.
    pub fn parse(text: &str) -> Option<Self> {
        let mut notify = Self::NEVER;
        if text.eq_ignore_ascii_case("NEVER") {
            return Some(notify);
        }
        for word in text.split(',') {
            match word.to_ascii_uppercase().as_str() {
                "SUCCESS" => notify.success = true,
                "FAILURE" => notify.failure = true,
                "DELAY" => notify.delay = true,
                _ => return None,
            }
        }
        Some(notify)
    }
}

/// The value of NOTIFY.
impl fmt::Display for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = [(self.success, "SUCCESS"), (self.failure, "FAILURE"), (self.delay, "DELAY")];
        let words: Vec<&str> = named.iter().filter(|(wanted, _)| *wanted).map(|(_, word)| *word).collect();
        if words.is_empty() { f.write_str("NEVER") } else { f.write_str(&words.join(",")) }
    }
}

/// ENVID: the sender's own name for the message, in xtext as it came (RFC 3461 section 4.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvelopeId(String);

impl EnvelopeId {
    /// Reads the value of ENVID.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() <= MAX_ENVID && is_xtext(text)).then(|| Self(text.to_owned()))
    }

    /// As it came, in xtext.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a notice repeats it: printable ASCII.
    pub fn decoded(&self) -> String {
        from_xtext(&self.0)
    }
}

/// ORCPT: whom the message was for before anybody forwarded it, `type;address` in xtext (RFC 3461 section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginalRecipient(String);

impl OriginalRecipient {
    /// Reads the value of ORCPT. An address outside ASCII, of the type `utf-8`, is turned into its ASCII form (RFC 6533 section 3),
    /// which every server takes.
    pub fn parse(text: &str) -> Option<Self> {
        let (kind, address) = text.split_once(';')?;
        let is_atom = !kind.is_empty() && kind.bytes().all(is_atom_octet);
        let is_utf8 = kind.eq_ignore_ascii_case("utf-8");
        if !is_atom || !(address.is_ascii() || is_utf8) || address.chars().any(char::is_control) {
            return None;
        }
        let value = format!("{kind};{}", in_ascii(address));
        (value.len() <= MAX_ORCPT && is_xtext(&value[kind.len() + 1..])).then_some(Self(value))
    }

    /// This address, for mail that goes to another one from now on. `None` if it is too long to be said.
    pub fn of(address: &Address) -> Option<Self> {
        if address.is_ascii() {
            return Self::parse(&format!("rfc822;{}", xtext(address.as_str())));
        }
        // A backslash begins what stands for a character that is not ASCII (RFC 6533 section 3).
        Self::parse(&format!("utf-8;{}", xtext(&address.as_str().replace('\\', r"\x{5C}"))))
    }

    /// As it came, `type;address` with the address in xtext.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a notice repeats it: `type;address` in printable ASCII.
    pub fn decoded(&self) -> String {
        from_xtext(&self.0)
    }
}

/// An address as a notice names it: `rfc822;address`, or `utf-8;address` where it is not ASCII (RFC 3464 section 2.3.2, RFC 6533 section 3).
pub fn typed_address(address: &Address) -> String {
    let kind = if address.is_ascii() { "rfc822" } else { "utf-8" };
    format!("{kind};{}", in_ascii(address.as_str()))
}

/// `+XX` becomes the octet it stands for. What was parsed before has nothing else in it than printable ASCII.
fn from_xtext(text: &str) -> String {
    let mut parts = text.split('+');
    let mut decoded = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let octet = part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        decoded.push(octet.map_or('?', char::from));
        decoded.push_str(part.get(2..).unwrap_or_default());
    }
    decoded
}

/// RFC 3461 section 4: printable ASCII but for `+` and `=`, which stand as `+XX`. What is encoded has to be printable as well
/// (sections 4.2 and 4.4): a line end hidden in it would break out of the notice that repeats it.
fn is_xtext(text: &str) -> bool {
    let mut rest = text.as_bytes();
    while let Some((&first, behind)) = rest.split_first() {
        rest = behind;
        match first {
            b'+' => {
                let digits = behind.get(..2).and_then(|digits| str::from_utf8(digits).ok());
                let is_upper = |digits: &&str| !digits.bytes().any(|b| b.is_ascii_lowercase() || b == b'+');
                let octet = digits.filter(is_upper).and_then(|digits| u8::from_str_radix(digits, 16).ok());
                if !octet.is_some_and(|octet| matches!(octet, b' '..=b'~')) {
                    return false;
                }
                rest = &behind[2..];
            }
            b'=' => return false,
            b'!'..=b'~' => {}
            _ => return false,
        }
    }
    !text.is_empty()
}

/// ASCII as xtext; what is not ASCII stays as it is.
fn xtext(text: &str) -> String {
    let encoded = |c: char| match c {
        '+' | '=' | ' ' => format!("+{:02X}", u32::from(c)),
        c => c.to_string(),
    };
    text.chars().map(encoded).collect()
}

/// `utf-8-addr-xtext` of RFC 6533 section 3: `\x{HEX}` for what is not ASCII.
fn in_ascii(address: &str) -> String {
    let encoded = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\x{{{:X}}}", u32::from(c)) };
    address.chars().map(encoded).collect()
}

/// What an atom is made of (RFC 5322 section 3.2.3).
fn is_atom_octet(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&octet)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_are_read_in_any_case_and_said_again() {
        for (text, again) in [
            ("never", "NEVER"),
            ("Failure", "FAILURE"),
            ("DELAY,success", "SUCCESS,DELAY"),
            ("SUCCESS,FAILURE,DELAY", "SUCCESS,FAILURE,DELAY"),
            ("FAILURE,FAILURE", "FAILURE"),
        ] {
            assert_eq!(Notify::parse(text).map(|notify| notify.to_string()).as_deref(), Some(again), "{text}");
        }
        for text in ["", "NEVER,FAILURE", "FAILURE,NEVER", "FAILURE,", ",", "ALWAYS", "SUCCESS FAILURE"] {
            assert_eq!(Notify::parse(text), None, "{text}");
        }
        assert_eq!(Return::parse("hdrs"), Some(Return::Headers));
        assert_eq!(Return::parse("Full").map(Return::as_str), Some("FULL"));
        assert_eq!(Return::parse("HEADERS"), None);
    }

    #[test]
    fn an_envelope_id_is_printable_xtext() {
        for text in ["QQ314159", "a+2Bb+3Dc+20d", "!~", &"x".repeat(100)] {
            assert_eq!(EnvelopeId::parse(text).as_ref().map(EnvelopeId::as_str), Some(text));
        }
        let long = "x".repeat(101);
        for text in
            ["", "a=b", "a+", "a+4", "a+2b", "a+G0", "a++0", "a b", "é", "a+0D+0A", "a+00", "a+7F", "a+E9", &long]
        {
            assert_eq!(EnvelopeId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_address_becomes_the_original_recipient_of_mail_that_goes_elsewhere() {
        for (address, kept) in [
            ("Bob@example.com", "rfc822;Bob@example.com"),
            ("b+c=d@example.com", "rfc822;b+2Bc+3Dd@example.com"),
            ("\"a b\"@example.com", "rfc822;\"a+20b\"@example.com"),
            ("grün@example.com", "utf-8;gr\\x{FC}n@example.com"),
            ("\"\\\\ü\"@example.com", "utf-8;\"\\x{5C}\\x{5C}\\x{FC}\"@example.com"),
        ] {
            let original = OriginalRecipient::of(&Address::parse(address).unwrap());
            assert_eq!(original.as_ref().map(OriginalRecipient::as_str), Some(kept), "{address}");
        }
    }

    #[test]
    fn a_notice_repeats_what_was_encoded_in_plain() {
        assert_eq!(EnvelopeId::parse("a+2Bb+3Dc+20d").unwrap().decoded(), "a+b=c d");
        assert_eq!(OriginalRecipient::parse("rfc822;a+2Bb@c.example").unwrap().decoded(), "rfc822;a+b@c.example");
        let typed = |text| typed_address(&Address::parse(text).unwrap());
        assert_eq!(typed("a+b@c.example"), "rfc822;a+b@c.example");
        assert_eq!(typed("grün@example.com"), "utf-8;gr\\x{FC}n@example.com");
    }

    #[test]
    fn an_original_recipient_has_a_type_and_an_address() {
        for (text, kept) in [
            ("rfc822;Bob@big-bucks.example", "rfc822;Bob@big-bucks.example"),
            ("x400;/C+3Dus/", "x400;/C+3Dus/"),
            ("utf-8;grün@example.com", "utf-8;gr\\x{FC}n@example.com"),
            ("utf-8;gr\\x{FC}n@example.com", "utf-8;gr\\x{FC}n@example.com"),
        ] {
            assert_eq!(OriginalRecipient::parse(text).as_ref().map(OriginalRecipient::as_str), Some(kept));
        }
        let long = format!("rfc822;{}", "x".repeat(494));
        for text in [
            "",
            "rfc822",
            "rfc822;",
            ";a@b",
            "rfc822;a=b",
            "rfc822;a+0D+0Ab",
            "rfc822;é@b",
            "r f;a@b",
            "rfc822;a b",
            "utf-8;\u{85}",
            &long,
        ] {
            assert_eq!(OriginalRecipient::parse(text), None, "{text:?}");
        }
        assert!(OriginalRecipient::parse(&long[..500]).is_some());
    }
}
