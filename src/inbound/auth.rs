//! AUTH PLAIN and LOGIN (RFC 4954). What is decided here is only whether the exchange has the right form; whether the password matters,
//! and is right, is not. Whatever of a password passes through here is wiped.

use std::fmt;

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use zeroize::Zeroizing;

use super::replies::printable;
use crate::smtp::Mechanism;

/// The longest user name that is remembered, in bytes.
const MAX_USER: usize = 254;

/// Old programs are not sure about padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// An exchange that waits for the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Exchange {
    /// For the one response of PLAIN.
    Plain,
    /// For LOGIN's user name.
    LoginUser,
    /// For LOGIN's password.
    LoginPassword {
        /// The user name.
        user: String,
    },
}

/// Where an exchange went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// `334` with this challenge, then the next response.
    Challenge(&'static str, Exchange),
    /// The client says who it is.
    Done(Login),
    /// Not base64, or not what the mechanism asks for.
    Malformed,
    /// The client gave up.
    Cancelled,
}

/// Who a client says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// The user name, fit to be printed.
    pub user: String,
    /// What it gave as proof.
    pub password: Password,
}

/// A password as it came: any octets. Printing it prints nothing; its memory is wiped when it goes.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    pub(super) fn new(octets: &[u8]) -> Self {
        Self(Zeroizing::new(octets.to_vec()))
    }

    /// The octets themselves. Search for this call to see who reads passwords.
    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Begins an exchange; `None` if the mechanism is not offered.
pub(super) fn begin(mechanism: Mechanism, initial: Option<&str>) -> Option<Step> {
    let exchange = match mechanism {
        Mechanism::Plain => Exchange::Plain,
        Mechanism::Login => Exchange::LoginUser,
        Mechanism::Other => return None,
    };
    Some(match initial {
        None => challenge(exchange),
        // RFC 4954 section 4: a lone "=" is an initial response of no octets.
        Some("=") => exchange.decoded(b""),
        Some(initial) => exchange.on(initial.as_bytes()),
    })
}

fn challenge(exchange: Exchange) -> Step {
    let text = match exchange {
        Exchange::Plain => "",
        Exchange::LoginUser => "VXNlcm5hbWU6",            // "Username:"
        Exchange::LoginPassword { .. } => "UGFzc3dvcmQ6", // "Password:"
    };
    Step::Challenge(text, exchange)
}

impl Exchange {
    /// The client's response, as the line came.
    pub(super) fn on(self, response: &[u8]) -> Step {
        let response = response.trim_ascii();
        if response == b"*" {
            return Step::Cancelled;
        }
        // Room for all of it at once: a buffer that grows leaves copies behind.
        let mut decoded = Zeroizing::new(Vec::with_capacity(base64::decoded_len_estimate(response.len())));
        match BASE64.decode_vec(response, &mut decoded) {
            Ok(()) => self.decoded(&decoded),
            Err(_) => Step::Malformed,
        }
    }

    fn decoded(self, response: &[u8]) -> Step {
        match self {
            // RFC 4616: authorization identity NUL user name NUL password.
            Self::Plain => match *response.split(|&b| b == 0).collect::<Vec<_>>() {
                [_, user, password] => done(name(user), password),
                _ => Step::Malformed,
            },
            Self::LoginUser => challenge(Self::LoginPassword { user: name(response) }),
            Self::LoginPassword { user } => done(user, response),
        }
    }
}

fn done(user: String, password: &[u8]) -> Step {
    Step::Done(Login { user, password: Password::new(password) })
}

fn name(user: &[u8]) -> String {
    printable(&String::from_utf8_lossy(user), MAX_USER)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encode(text: &str) -> String {
        BASE64.encode(text)
    }

    fn login(user: &str, password: &str) -> Step {
        done(user.to_owned(), password.as_bytes())
    }

    #[test]
    fn plain_says_user_and_password() {
        for (blob, user, password) in [
            ("\0user\0pass", "user", "pass"),
            ("user\0user\0", "user", ""),
            ("\0\0", "", ""),
            ("z\0a@b\0p w", "a@b", "p w"),
        ] {
            let login = login(user, password);
            assert_eq!(begin(Mechanism::Plain, Some(&encode(blob))), Some(login.clone()), "{blob:?}");
            let Some(Step::Challenge("", exchange)) = begin(Mechanism::Plain, None) else { panic!("no challenge") };
            assert_eq!(exchange.on(encode(blob).as_bytes()), login);
        }
    }

    #[test]
    fn printing_a_login_shows_no_password() {
        assert!(!format!("{:?}", login("moodle", "hunter2")).contains("hunter2"));
    }

    #[test]
    fn login_asks_for_what_it_was_not_told() {
        let Some(Step::Challenge(text, exchange)) = begin(Mechanism::Login, None) else { panic!("no challenge") };
        assert_eq!(BASE64.decode(text).unwrap(), b"Username:");
        let Step::Challenge(text, exchange) = exchange.on(encode("moodle").as_bytes()) else { panic!("no challenge") };
        assert_eq!(BASE64.decode(text).unwrap(), b"Password:");
        assert_eq!(exchange.clone().on(b""), login("moodle", ""), "an empty password is a password");
        assert_eq!(exchange.on(encode("p\0w").as_bytes()), login("moodle", "p\0w"));
        let Some(Step::Challenge("UGFzc3dvcmQ6", _)) = begin(Mechanism::Login, Some("=")) else {
            panic!("no challenge")
        };
    }

    #[test]
    fn padding_is_not_insisted_on() {
        let unpadded = encode("moodle@x").trim_end_matches('=').to_owned();
        assert!(matches!(begin(Mechanism::Login, Some(&unpadded)), Some(Step::Challenge(..))));
    }

    #[test]
    fn nonsense_is_malformed_and_a_star_gives_up() {
        for response in ["%%%", "=", "dXNlcg", "QQ==QQ=="] {
            assert_eq!(Exchange::Plain.on(response.as_bytes()), Step::Malformed, "{response}");
        }
        assert_eq!(begin(Mechanism::Plain, Some("=")), Some(Step::Malformed));
        assert_eq!(Exchange::LoginUser.on(b" * "), Step::Cancelled);
        assert_eq!(begin(Mechanism::Other, None), None);
    }

    #[test]
    fn control_characters_never_reach_a_log() {
        assert_eq!(Exchange::Plain.on(encode("\0a\r\nb\0c").as_bytes()), login("a??b", "c"));
    }
}
