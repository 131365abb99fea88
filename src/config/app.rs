//! `[[app]]`: a program that sends. What it is known by, and what it may do.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::SecretSource;
use super::lane::LaneRule;
use crate::message::{Address, Lane, SenderPolicy};

/// A checked `[[app]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct App {
    /// Its name, and its user name in AUTH.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Where it runs. Empty: anywhere that a listener lets connect.
    pub allow: Vec<IpNet>,
    /// For listeners with `password = "checked"`.
    pub password: Option<SecretSource>,
    /// The mailbox that its mail leaves through; one of the accounts.
    pub account: Option<Address>,
    /// The mailboxes that its mail leaves through, each within its own limits; it waits in the queue of the first. Empty: `account` says.
    pub accounts: Vec<Address>,
    /// The most messages that leave in a minute; above it they wait. 0: no limit of its own.
    pub messages_per_minute: u32,
    /// Who it may send as. Empty: anyone.
    pub senders: Vec<AddressPattern>,
    /// What is done about a sender that its account may not send as.
    pub sender: SenderPolicy,
    /// Where all of its mail goes instead of to its recipients.
    pub divert_to: Option<Address>,
    /// To whom its mail may go; all others are held. Empty: to anyone.
    pub recipients_allow: Vec<AddressPattern>,
    /// What becomes of a message of which nobody knows whether it has arrived.
    pub in_doubt: InDoubt,
    /// The lane of all its mail; `None` (`"auto"`): each mail is looked at.
    pub lane: Option<Lane>,
    /// What is looked at before anything else of a mail then; the first that fits decides.
    pub lane_rules: Vec<LaneRule>,
}

/// `in_doubt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InDoubt {
    /// It is tried again, and may arrive twice.
    #[default]
    Retry,
    /// It is held: a person looks whether it has arrived.
    Hold,
}

impl App {
    /// The name of the app that every program belongs to which no other `[[app]]` describes.
    pub const DEFAULT: &'static str = "default";
    /// The app that the relay's own notices are shown as.
    pub(crate) const RELAY: &'static str = "xoauth2-relay";
    /// The app that test mails are shown as.
    pub(crate) const SEND_TEST: &'static str = "send-test";

    /// Whether mail under this name is the relay's own, which no `[[app]]` has a say in.
    pub(crate) fn is_own(name: &str) -> bool {
        [Self::RELAY, Self::SEND_TEST].iter().any(|own| own.eq_ignore_ascii_case(name))
    }

    /// That app, as long as no `[[app]]` describes it.
    pub(crate) fn default_app() -> Self {
        Self { name: Self::DEFAULT.to_owned(), ..Self::default() }
    }

    /// How near its networks are to this address: 0 for an app without networks, more for longer prefixes; `None` if it cannot
    /// come from there.
    pub fn nearness(&self, peer: IpAddr) -> Option<u8> {
        if self.allow.is_empty() {
            return Some(0);
        }
        self.allow.iter().filter(|network| network.contains(&peer)).map(|network| network.prefix_len() + 1).max()
    }

    /// Whether this is its name in AUTH: `name` or `name@anything`, in any case.
    pub fn is_named(&self, user: &str) -> bool {
        let name = user.split_once('@').map_or(user, |(name, _)| name);
        name.trim().eq_ignore_ascii_case(&self.name)
    }

    /// Whether it may send as this address.
    pub fn may_send_as(&self, sender: &Address) -> bool {
        self.senders.is_empty() || self.senders.iter().any(|pattern| pattern.fits(sender))
    }

    /// Whether there are rules that a program must not get rid of by calling itself by another app's name.
    pub fn binds(&self) -> bool {
        !self.senders.is_empty() || self.sender == SenderPolicy::Refuse || self.is_staging()
    }

    /// Whether its mail does not simply go to its recipients.
    pub fn is_staging(&self) -> bool {
        self.divert_to.is_some() || !self.recipients_allow.is_empty()
    }

    /// Whether its mail may go to this address.
    pub fn may_send_to(&self, recipient: &Address) -> bool {
        self.recipients_allow.is_empty() || self.recipients_allow.iter().any(|pattern| pattern.fits(recipient))
    }
}

/// One of `senders` or `recipients_allow`: `lms@contoso.com`, `*@contoso.com`, `scan-*@contoso.com`, `*@*.contoso.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPattern {
    /// What stands before the `*` of the local part, or all of it.
    start: String,
    /// What stands behind the `*`; `None`: there is no `*`.
    end: Option<String>,
    domain: String,
    /// `*.` stands before the domain: the domains below it, not itself.
    below: bool,
}

impl AddressPattern {
    /// Reads a pattern. `what` it stands for, "sender" or "recipient", is for messages.
    ///
    /// # Errors
    /// What is wrong with it and what to write, to stand behind the key.
    pub(super) fn parse(what: &str, text: &str) -> Result<Self, String> {
        let quoted = super::units::quoted(text);
        let text = text.trim();
        let Some((local, domain)) = text.rsplit_once('@') else {
            return Err(match text {
                "*" => "\"*\" is anyone, as without this key: remove it".to_owned(),
                text if super::units::is_domain(text) && text.contains('.') => {
                    format!("{quoted} is a domain: write \"*@{text}\" for everyone in it")
                }
                _ => format!("{quoted} is no {what}: write an address or a pattern, such as \"*@contoso.com\""),
            });
        };
        if local.is_empty() {
            return Err(format!("{quoted} has nothing before the @: write \"*@{domain}\" for everyone in the domain"));
        }
        let (start, end) = match local.split_once('*') {
            Some((start, end)) => (start, Some(end.to_owned())),
            None => (local, None),
        };
        let (domain, below) = domain.strip_prefix("*.").map_or((domain, false), |domain| (domain, true));
        if domain.contains('*') {
            return Err(format!(
                "{quoted} has a * where none can stand: in a domain it can only be \"*.\" at the beginning, for the domains below"
            ));
        }
        if end.as_ref().is_some_and(|end| end.contains('*')) {
            return Err(format!("{quoted} has more than one * before the @: one is enough"));
        }
        // With something in the place of the `*`, it has to be an address.
        let example = format!("{}@{domain}", local.replace('*', "x"));
        Address::parse(&example)
            .map_err(|_| format!("{quoted} is no {what}: write an address or a pattern, such as \"*@contoso.com\""))?;
        Ok(Self { start: start.to_owned(), end, domain: domain.to_owned(), below })
    }

    /// Whether this address is one of those meant. ASCII letters count in any case, as they do in Exchange.
    pub fn fits(&self, address: &Address) -> bool {
        let (local, domain) = address.as_str().rsplit_once('@').unwrap_or_default();
        let (local, domain) = (local.to_ascii_lowercase(), domain.to_ascii_lowercase());
        let wanted = self.domain.to_ascii_lowercase();
        let fits_domain = match domain.strip_suffix(&wanted) {
            Some("") => !self.below,
            Some(above) => self.below && above.len() > 1 && above.ends_with('.'),
            None => false,
        };
        let start = self.start.to_ascii_lowercase();
        let fits_local = match &self.end {
            None => local == start,
            Some(end) => local.strip_prefix(&start).is_some_and(|rest| rest.ends_with(&end.to_ascii_lowercase())),
        };
        fits_domain && fits_local
    }
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let star = if self.end.is_some() { "*" } else { "" };
        let below = if self.below { "*." } else { "" };
        write!(f, "{}{star}{}@{below}{}", self.start, self.end.as_deref().unwrap_or_default(), self.domain)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, address: &str) -> bool {
        AddressPattern::parse("sender", pattern).unwrap().fits(&Address::parse(address).unwrap())
    }

    #[test]
    fn patterns_mean_what_they_look_like() {
        for (pattern, inside, outside) in [
            (
                "lms@contoso.com",
                &["lms@contoso.com", "LMS@Contoso.COM"][..],
                &["lms2@contoso.com", "lms@x.contoso.com"][..],
            ),
            (
                "*@contoso.com",
                &["a@contoso.com", "moodleAAB==x@CONTOSO.com", "\"a@b\"@contoso.com"],
                &["a@contoso.com.evil.example", "a@evilcontoso.com", "a@mail.contoso.com", "a@contoso.co"],
            ),
            (
                "*@*.contoso.com",
                &["a@mail.contoso.com", "a@a.b.Contoso.com"],
                &["a@contoso.com", "a@evilcontoso.com", "a@contoso.com.x"],
            ),
            (
                "Scan-*@contoso.com",
                &["scan-1@contoso.com", "scan-@contoso.com"],
                &["scan@contoso.com", "xscan-1@contoso.com", "scan-1@x.contoso.com"],
            ),
            ("a*a@contoso.com", &["aa@contoso.com", "aba@contoso.com"], &["a@contoso.com", "ab@contoso.com"]),
        ] {
            for address in inside {
                assert!(fits(pattern, address), "{pattern} {address}");
            }
            for address in outside {
                assert!(!fits(pattern, address), "{pattern} {address}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_says_what_to_write() {
        for (text, hint) in [
            ("contoso.com", "write \"*@contoso.com\""),
            ("@contoso.com", "write \"*@contoso.com\""),
            ("*", "remove it"),
            ("lms", "is no sender: write an address or a pattern"),
            ("*@", "is no sender"),
            ("*@*", "has a * where none can stand"),
            ("*@con*.com", "has a * where none can stand"),
            ("*@*.*.com", "has a * where none can stand"),
            ("*a*@contoso.com", "more than one *"),
            ("a b@contoso.com", "is no sender"),
            ("*@contoso..com", "is no sender"),
        ] {
            let error = AddressPattern::parse("sender", text).unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn an_app_is_known_by_its_name_in_any_case_with_any_domain() {
        let app = App { name: "Moodle".into(), ..App::default() };
        for user in ["moodle", "MOODLE", "moodle@contoso.com", "Moodle@", " moodle"] {
            assert!(app.is_named(user), "{user}");
        }
        for user in ["", "@", "moodle2", "x@moodle", "mood", "moodle.contoso.com"] {
            assert!(!app.is_named(user), "{user}");
        }
    }

    proptest! {
        #[test]
        fn what_was_written_can_be_read_again_and_an_address_fits_itself(
            local in "[a-zA-Z0-9.+-]{1,10}", domain in "[a-z]{1,5}(\\.[a-z]{1,5}){0,2}", star in 0usize..10, below: bool
        ) {
            let address = Address::parse(&format!("{local}@{domain}")).unwrap();
            prop_assert!(AddressPattern::parse("sender", address.as_str()).unwrap().fits(&address));
            let star = star.min(local.len());
            let text = format!("{}*{}@{}{domain}", &local[..star], &local[star..], if below { "*." } else { "" });
            let pattern = AddressPattern::parse("sender", &text).unwrap();
            prop_assert_eq!(pattern.to_string(), text);
            prop_assert_eq!(pattern.fits(&address), !below);
            let deeper = Address::parse(&format!("{local}@x.{domain}")).unwrap();
            prop_assert_eq!(pattern.fits(&deeper), below);
        }
    }
}
