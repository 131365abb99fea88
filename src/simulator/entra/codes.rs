//! Authorization codes: who consented, to what, and what becomes of each (RFC 6749 section 4.1, RFC 7636). Time is an argument.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;

use super::book::Book;
use super::{Refused, jwt};

/// As long as Microsoft's.
const LIFE: Duration = Duration::from_mins(10);
/// How many are remembered; what is older counts as never issued.
const ROOM: usize = 10_000;

/// What a person consented to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Consent {
    pub(super) mailbox: String,
    pub(super) redirect_uri: String,
    /// `code_challenge`, always S256.
    pub(super) challenge: Option<String>,
    /// Whether a refresh token was asked for.
    pub(super) offline: bool,
}

/// Every code handed out.
#[derive(Debug)]
pub(super) struct Codes(Book<Code>);

#[derive(Debug)]
struct Code {
    consent: Consent,
    expires: Timestamp,
    redeemed: bool,
}

impl Codes {
    pub(super) fn new() -> Self {
        Self(Book::with_room(ROOM))
    }

    /// Hands out a code.
    pub(super) fn issue(&mut self, consent: Consent, now: Timestamp) -> String {
        let code = jwt::opaque("1.AX0A", 600);
        let expires = now.saturating_add(LIFE).unwrap_or(Timestamp::MAX);
        self.0.write(code.clone(), Code { consent, expires, redeemed: false });
        code
    }

    /// Whose code this is.
    pub(super) fn owner(&self, code: &str) -> Option<String> {
        self.0.entry(code).map(|code| code.consent.mailbox.clone())
    }

    /// Uses a code up, if it came back to where it was sent and by whom it was asked for.
    pub(super) fn redeem(
        &mut self,
        code: &str,
        redirect_uri: &str,
        verifier: Option<&str>,
        now: Timestamp,
    ) -> Result<Consent, Refused> {
        let code = self.0.entry_mut(code).ok_or_else(|| Refused::row("9002313"))?;
        if code.redeemed {
            return Err(Refused::row("54005"));
        }
        if code.expires <= now {
            return Err(Refused::row("70008"));
        }
        if code.consent.redirect_uri != redirect_uri {
            return Err(Refused::row("50011"));
        }
        let matches = match (&code.consent.challenge, verifier) {
            (None, None) => true,
            (Some(challenge), Some(verifier)) => *challenge == s256(verifier),
            (None, Some(_)) | (Some(_), None) => false,
        };
        if !matches {
            return Err(Refused::row("501481"));
        }
        code.redeemed = true;
        Ok(code.consent.clone())
    }
}

/// RFC 7636 section 4.2.
fn s256(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACK: &str = "http://localhost:1/";
    /// RFC 7636, appendix B.
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";

    fn start() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn consent() -> Consent {
        Consent {
            mailbox: "lms@contoso.com".to_owned(),
            redirect_uri: BACK.to_owned(),
            challenge: Some("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM".to_owned()),
            offline: true,
        }
    }

    #[test]
    fn a_code_works_once_and_only_for_whoever_asked() {
        let mut codes = Codes::new();
        let code = codes.issue(consent(), start());
        let mut redeem = |code: &str, uri: &str, verifier: Option<&str>, after: u64| {
            let now = start() + Duration::from_secs(after);
            codes.redeem(code, uri, verifier, now).map_err(|refused| refused.id().to_owned())
        };
        let refused = |id: &str| Err(id.to_owned());
        assert_eq!(redeem("made up", BACK, Some(VERIFIER), 0), refused("9002313"));
        assert_eq!(redeem(&code, "http://localhost:2/", Some(VERIFIER), 0), refused("50011"));
        assert_eq!(redeem(&code, BACK, Some("another"), 0), refused("501481"));
        assert_eq!(redeem(&code, BACK, None, 0), refused("501481"));
        assert_eq!(redeem(&code, BACK, Some(VERIFIER), 600), refused("70008"));
        assert_eq!(redeem(&code, BACK, Some(VERIFIER), 599), Ok(consent()));
        assert_eq!(redeem(&code, BACK, Some(VERIFIER), 599), refused("54005"));
    }

    #[test]
    fn a_verifier_without_a_challenge_is_no_good() {
        let mut codes = Codes::new();
        let code = codes.issue(Consent { challenge: None, ..consent() }, start());
        assert_eq!(codes.redeem(&code, BACK, Some(VERIFIER), start()).unwrap_err().id(), "501481");
        assert!(codes.redeem(&code, BACK, None, start()).is_ok());
    }
}
