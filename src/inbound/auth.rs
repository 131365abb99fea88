//! AUTH PLAIN and LOGIN (RFC 4954): any user name and any password will do. What is decided here is only whether the exchange has the
//! right form, and the user name, which may pick the account. Passwords are decoded, found well-formed and forgotten.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

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
    /// The client is this user.
    Done(String),
    /// Not base64, or not what the mechanism asks for.
    Malformed,
    /// The client gave up.
    Cancelled,
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
        match BASE64.decode(response) {
            Ok(decoded) => self.decoded(&decoded),
            Err(_) => Step::Malformed,
        }
    }

    fn decoded(self, response: &[u8]) -> Step {
        match self {
            // RFC 4616: authorization identity NUL user name NUL password.
            Self::Plain => match *response.split(|&b| b == 0).collect::<Vec<_>>() {
                [_, user, _] => Step::Done(name(user)),
                _ => Step::Malformed,
            },
            Self::LoginUser => challenge(Self::LoginPassword { user: name(response) }),
            Self::LoginPassword { user } => Step::Done(user),
        }
    }
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

    #[test]
    fn plain_takes_any_user_and_password() {
        for (blob, user) in [("\0user\0pass", "user"), ("user\0user\0", "user"), ("\0\0", ""), ("z\0a@b\0p w", "a@b")] {
            assert_eq!(begin(Mechanism::Plain, Some(&encode(blob))), Some(Step::Done(user.into())), "{blob:?}");
            let Some(Step::Challenge("", exchange)) = begin(Mechanism::Plain, None) else { panic!("no challenge") };
            assert_eq!(exchange.on(encode(blob).as_bytes()), Step::Done(user.into()));
        }
    }

    #[test]
    fn login_asks_for_what_it_was_not_told() {
        let Some(Step::Challenge(text, exchange)) = begin(Mechanism::Login, None) else { panic!("no challenge") };
        assert_eq!(BASE64.decode(text).unwrap(), b"Username:");
        let Step::Challenge(text, exchange) = exchange.on(encode("moodle").as_bytes()) else { panic!("no challenge") };
        assert_eq!(BASE64.decode(text).unwrap(), b"Password:");
        assert_eq!(exchange.on(b""), Step::Done("moodle".into()), "an empty password is a password");
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
        assert_eq!(Exchange::Plain.on(encode("\0a\r\nb\0c").as_bytes()), Step::Done("a??b".into()));
    }
}
