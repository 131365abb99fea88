//! What a browser brings back from a sign-in (RFC 6749 sections 4.1.2 and 4.1.2.1): read from the address it ended at, as a person
//! copies it or as the browser asks for it. Nothing here is believed: whoever can reach this machine's ports, or a person in a hurry,
//! can bring anything. What belongs to the sign-in shows by its `state` alone.

use reqwest::Url;
use subtle::ConstantTimeEq;

use super::answer::OAuthError;
use crate::config::Secret;

/// An address that belongs to the sign-in.
#[derive(Debug)]
pub(super) enum Redirect {
    /// The person agreed.
    Code(Secret),
    /// The provider said no, or the person did.
    Refused(OAuthError),
}

/// Why an address is not the one that a sign-in waits for. It goes on waiting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotThis {
    /// Something else altogether.
    #[error(
        "that is not the address at which the browser ended: there is no code= in it. Copy the whole of the address bar, from http://localhost to its end"
    )]
    NoRedirect,
    /// The address that was to be opened.
    #[error("that is the address to open. Sign in there, and bring the address at which the browser ends")]
    StartingPoint,
    /// No `state`.
    #[error(
        "that address has no state= in it, so it cannot be told from a forged one, and it was not used. Copy the whole of the address bar, to its end"
    )]
    NoState,
    /// What the provider's page says instead of leading back: explained.
    #[error("{0}")]
    ProvidersPage(String),
    /// The `state` of something else.
    #[error(
        "that address belongs to another sign-in (its state is not the one that was sent), and it was not used. Open the address that this command has printed, and bring what comes of it"
    )]
    WrongState,
}

impl Redirect {
    /// Reads the address, or only its part from `?` on, with blanks or quotes around it, and line breaks where a terminal has broken it.
    pub(super) fn read(text: &str, state: &Secret) -> Result<Self, NotThis> {
        let fields = Fields::read(text).ok_or(NotThis::NoRedirect)?;
        let code = fields.one("code");
        let error = fields.one("error");
        if code.is_none() && error.is_none() {
            let is_start = fields.one("response_type").is_some();
            return Err(if is_start { NotThis::StartingPoint } else { NotThis::NoRedirect });
        }
        let shown = fields.one("state").ok_or(NotThis::NoState)?;
        // In constant time: how much of a guess is right must not show.
        if !bool::from(shown.as_bytes().ct_eq(state.expose().as_bytes())) {
            return Err(NotThis::WrongState);
        }
        match (error, code) {
            (Some(error), _) => {
                let description = fields.one("error_description").unwrap_or_default();
                Ok(Self::Refused(OAuthError::from_redirect(error, description)))
            }
            (None, Some(code)) => Ok(Self::Code(Secret::new(code))),
            (None, None) => Err(NotThis::NoRedirect),
        }
    }
}

/// The refusal in a text from the provider's own page: Entra ID shows what is wrong with the tenant, the application or the redirect
/// address there, and tells the application nothing.
pub(super) fn from_page(text: &str) -> Option<OAuthError> {
    let refusal = OAuthError::from_redirect("invalid_request", text);
    (!refusal.codes.is_empty()).then_some(refusal)
}

/// Whether a query is what a sign-in ends with, whosever it is.
pub fn is_redirect(query: &str) -> bool {
    Fields::read(query).is_some_and(|fields| fields.one("code").is_some() || fields.one("error").is_some())
}

/// The parameters of an address.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn read(text: &str) -> Option<Self> {
        // An address has no white space: whatever stands in it came from the terminal.
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let text = text.trim_matches(['"', '\'', '`', '<', '>', '“', '”', '‘', '’']);
        let query = text.split_once('?').map_or(text, |(_, query)| query);
        let query = query.split('#').next().unwrap_or_default();
        let mut url = Url::parse("http://localhost/").ok()?;
        url.set_query(Some(query));
        Some(Self(url.query_pairs().into_owned().collect()))
    }

    /// The value of a parameter that is given once. RFC 6749 section 3.1: never more often, and what comes without a value was not given.
    fn one(&self, name: &str) -> Option<&str> {
        let mut values = self.0.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let value = values.next().filter(|value| !value.is_empty())?;
        values.next().is_none().then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, NotThis> {
        Redirect::read(text, &Secret::new("st4te")).map(|redirect| match redirect {
            Redirect::Code(code) => code.expose().to_owned(),
            Redirect::Refused(error) => format!("{} {:?} {error}", error.error, error.codes),
        })
    }

    #[test]
    fn an_address_is_read_however_it_was_copied() {
        for text in [
            "http://localhost:40123/?code=1.A%2Bb&state=st4te&session_state=x",
            "  http://localhost:40123/?state=st4te&code=1.A%2Bb#\r\n",
            "\"http://localhost:40123/?code=1.A%2Bb&state=st4te\"",
            "'localhost:40123/?code=1.A%2Bb&state=st4te' ",
            "<http://localhost:40123/?code=1.A%2Bb&state=st4te>",
            "?code=1.A%2Bb&state=st4te",
            "code=1.A%2Bb&state=st4te",
            "http://localhost:40123/?code=1.A%2Bb&st\n ate=st4te",
        ] {
            assert_eq!(read(text).as_deref(), Ok("1.A+b"), "{text}");
        }
    }

    #[test]
    fn what_is_not_the_address_is_told_apart() {
        for (text, why) in [
            ("", NotThis::NoRedirect),
            ("no idea", NotThis::NoRedirect),
            ("1.AX0A-the-code-alone", NotThis::NoRedirect),
            ("http://localhost:40123/", NotThis::NoRedirect),
            ("http://localhost:40123/?code=&state=st4te", NotThis::NoRedirect),
            ("http://localhost:40123/?code=a&code=b&state=st4te", NotThis::NoRedirect),
            ("https://login.example/authorize?client_id=x&response_type=code&state=st4te", NotThis::StartingPoint),
            ("?code=a", NotThis::NoState),
            ("?code=a&state=", NotThis::NoState),
            ("?code=a&state=st4te&state=st4te", NotThis::NoState),
            ("?code=a&state=st4t", NotThis::WrongState),
            ("?code=a&state=st4tee", NotThis::WrongState),
            ("?code=a&state=ST4TE", NotThis::WrongState),
            ("?error=access_denied&state=forged", NotThis::WrongState),
        ] {
            assert_eq!(read(text), Err(why), "{text}");
        }
    }

    #[test]
    fn a_refusal_keeps_its_words_and_numbers() {
        let text = "?error=access_denied&error_description=AADSTS65004%3a+User+declined+to+consent.%0d%0aTrace+ID%3a+t&state=st4te";
        assert_eq!(read(text).unwrap(), "access_denied [65004] access_denied: AADSTS65004: User declined to consent.");
    }

    proptest::proptest! {
        #[test]
        fn nothing_without_the_state_is_ever_taken(text in "[ -~\\n]{0,80}", code in "[a-z]{0,3}") {
            let state = Secret::new("a-state-that-nobody-guesses");
            for text in [text.clone(), format!("?code={code}&{text}"), format!("{text}?error={code}&state={text}")] {
                proptest::prop_assert!(Redirect::read(&text, &state).is_err());
                let _ = is_redirect(&text);
            }
        }
    }

    #[test]
    fn only_what_ends_a_sign_in_is_a_redirect() {
        assert!(is_redirect("code=a"));
        assert!(is_redirect("error=access_denied&state=x"));
        assert!(!is_redirect("") && !is_redirect("x=y"));
    }
}
