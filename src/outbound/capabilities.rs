//! What a server offers in its reply to EHLO (RFC 5321 section 4.1.1.1).

use crate::smtp::Reply;

/// The offers that this client can make use of.
#[expect(clippy::struct_excessive_bools, reason = "each is an offer that is made or not, and they depend on nothing")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    /// RFC 2920.
    pub(super) pipelining: bool,
    /// RFC 1870; what it says about the largest message is left to the server to enforce.
    pub(super) size: bool,
    /// RFC 6152.
    pub(super) eight_bit: bool,
    /// RFC 6531.
    pub(super) smtputf8: bool,
    /// RFC 3461.
    pub(super) dsn: bool,
    /// RFC 3207.
    pub(super) starttls: bool,
    /// The mechanisms of AUTH, in capitals (RFC 4954).
    pub(super) auth: Vec<String>,
}

impl Capabilities {
    /// Reads a positive reply to EHLO; what is unknown is passed over.
    pub(super) fn of(reply: &Reply) -> Self {
        let mut offers = Self::default();
        for line in reply.lines().iter().skip(1) {
            // `AUTH=LOGIN` is how servers spoke before there was a standard.
            let line = line.to_ascii_uppercase().replace("AUTH=", "AUTH ");
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("PIPELINING") => offers.pipelining = true,
                Some("SIZE") => offers.size = true,
                Some("8BITMIME") => offers.eight_bit = true,
                Some("SMTPUTF8") => offers.smtputf8 = true,
                Some("DSN") => offers.dsn = true,
                Some("STARTTLS") => offers.starttls = true,
                Some("AUTH") => offers.auth.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        offers
    }

    /// Whether this mechanism of AUTH is offered; `name` in capitals.
    pub(super) fn mechanism(&self, name: &str) -> bool {
        self.auth.iter().any(|mechanism| mechanism == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offers_of_exchange_are_understood() {
        let lines = "SN7P220CA0005.outlook.office365.com Hello [203.0.113.10]|SIZE 157286400|PIPELINING|DSN|\
                     ENHANCEDSTATUSCODES|AUTH LOGIN XOAUTH2|8BITMIME|BINARYMIME|CHUNKING|SMTPUTF8";
        let offers = Capabilities::of(&Reply::with_lines(250, lines.split('|').map(str::to_owned).collect()));
        assert!(
            offers.pipelining
                && offers.size
                && offers.eight_bit
                && offers.smtputf8
                && offers.dsn
                && offers.mechanism("XOAUTH2")
        );
        assert!(!offers.starttls);
    }

    #[test]
    fn the_first_line_is_a_greeting_and_no_offer() {
        let reply = Reply::with_lines(250, vec!["STARTTLS".into(), "auth=plain xoauth2".into(), String::new()]);
        let offers = Capabilities::of(&reply);
        assert!(!offers.starttls && offers.mechanism("XOAUTH2"));
        assert_eq!(offers.auth, ["PLAIN", "XOAUTH2"]);
    }
}
