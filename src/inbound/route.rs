//! Whose message is it, may its sender stand there, and whose queue does it wait in: asked once the message
//! is there, and before any of it is kept for good. Pure.

use std::fmt;
use std::sync::Arc;

use super::head::Head;
use super::session::{Mail, Outcome};
use crate::config::{Account, App, Config, Passwords};
use crate::message::Address;
use crate::registry;

/// Where a message comes from and goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The app that sends it.
    pub(crate) app: Arc<App>,
    /// The account in whose queue it waits.
    pub(crate) account: Arc<Account>,
}

/// A sender that is not among the app's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The app's name.
    pub app: String,
    /// The sender.
    pub sender: Address,
    /// Where it was said.
    pub said_in: SaidIn,
}

/// Where a sender was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaidIn {
    /// MAIL FROM.
    Envelope,
    /// The field From.
    Header,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { app, sender, said_in } = self;
        write!(f, "{said_in} <{sender}> is not among the senders of the app {app}")
    }
}

impl fmt::Display for SaidIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Envelope => "MAIL FROM",
            Self::Header => "From",
        })
    }
}

/// The way of a message, or why it is not taken.
///
/// The null sender is nobody's and always allowed; a `From` without an address is none of anybody's, and will become the mailbox.
pub(super) fn route(config: &Config, passwords: Passwords, mail: &Mail, head: &Head) -> Result<Route, Outcome> {
    let (peer, user) = (mail.trace.peer, mail.trace.user.as_deref());
    let app = match (passwords, user) {
        (Passwords::Any, user) => registry::app_for(config, peer, user),
        (Passwords::Checked, Some(user)) => {
            registry::app_to_log_in(config, peer, user).map_err(|_| Outcome::LoggedOut)?
        }
        (Passwords::Checked, None) => return Err(Outcome::LoggedOut),
    };
    route_of(config, app, user, mail.envelope.sender.as_ref(), head)
}

/// The same where the app is known.
pub(crate) fn route_of(
    config: &Config,
    app: &Arc<App>,
    user: Option<&str>,
    sender: Option<&Address>,
    head: &Head,
) -> Result<Route, Outcome> {
    may_send(app, sender, head)?;
    let account = registry::account_for(config, app, user, sender, head.from.first()).ok_or(Outcome::NoAccount)?;
    Ok(Route { app: Arc::clone(app), account: Arc::clone(account) })
}

fn may_send(app: &App, sender: Option<&Address>, head: &Head) -> Result<(), Outcome> {
    if app.senders.is_empty() {
        return Ok(());
    }
    let in_envelope = sender.map(|sender| (sender, SaidIn::Envelope));
    let in_header = head.from.iter().map(|sender| (sender, SaidIn::Header));
    for (sender, said_in) in in_envelope.into_iter().chain(in_header) {
        if !app.may_send_as(sender) {
            return Err(Outcome::Sender(Refused { app: app.name.clone(), sender: sender.clone(), said_in }));
        }
    }
    if head.is_whole { Ok(()) } else { Err(Outcome::SenderUnseen(app.name.clone())) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Envelope, Protocol, Trace};
    use crate::registry::testing;

    const APPS: &str = "[[app]]\nname = 'moodle'\nsenders = ['*@contoso.com', 'dean@school.org']\n\
                        password = 'long enough to be good'\n";

    fn mail(sender: &str, user: Option<&str>) -> Mail {
        let sender = (!sender.is_empty()).then(|| Address::parse(sender).unwrap());
        let protocol = Protocol { extended: true, tls: false, authenticated: user.is_some() };
        Mail {
            envelope: Envelope {
                sender,
                recipients: vec![Address::parse("you@example.com").unwrap().into()],
                ..Envelope::default()
            },
            trace: Trace { peer: "127.0.0.1".parse().unwrap(), helo: None, protocol, user: user.map(str::to_owned) },
        }
    }

    fn refused(sender: &str, header: &str) -> Option<String> {
        let config = testing::config_with(APPS);
        let head = Head::read(format!("{header}\r\n\r\nbody").as_bytes());
        match route(&config, Passwords::Any, &mail(sender, None), &head) {
            Ok(route) => {
                assert_eq!(route.app.name, "moodle");
                None
            }
            Err(Outcome::Sender(refused)) => Some(format!("{:?} {}", refused.said_in, refused.sender)),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_sender_has_to_be_among_those_of_the_app() {
        for (sender, header, why) in [
            ("a@contoso.com", "From: b@contoso.com", None),
            ("a@contoso.com", "From: Dean <DEAN@school.org>, x@contoso.com", None),
            ("a@contoso.com", "Subject: no From at all", None),
            ("a@contoso.com", "From: root (Cron Daemon)", None),
            ("", "From: a@contoso.com", None),
            ("x@evil.example", "From: a@contoso.com", Some("Envelope x@evil.example")),
            ("a@contoso.com", "From: x@evil.example", Some("Header x@evil.example")),
            ("", "From: x@evil.example", Some("Header x@evil.example")),
            ("a@contoso.com", "From: a@contoso.com, \"x\" <x@evil.example>", Some("Header x@evil.example")),
            ("a@contoso.com", "From: Team: a@contoso.com, x@evil.example;", Some("Header x@evil.example")),
            ("a@contoso.com", "From: a@contoso.com\r\nfrom: x@evil.example", Some("Header x@evil.example")),
            ("a@contoso.com", "From : x@evil.example", Some("Header x@evil.example")),
            ("a@contoso.com", "From: \"a@contoso.com\" <x@evil.example>", Some("Header x@evil.example")),
        ] {
            assert_eq!(refused(sender, header).as_deref(), why, "{sender} {header}");
        }
    }

    #[test]
    fn a_header_whose_end_was_not_seen_may_hide_a_sender() {
        let head = Head::read(format!("From: a@contoso.com\r\nX: {}", "x".repeat(1000)).as_bytes());
        let mail = mail("a@contoso.com", None);
        let config = testing::config_with(APPS);
        assert_eq!(route(&config, Passwords::Any, &mail, &head), Err(Outcome::SenderUnseen("moodle".into())));
        let config = testing::config_with("");
        assert!(route(&config, Passwords::Any, &mail, &head).is_ok(), "nobody minds");
    }

    #[test]
    fn a_login_is_good_as_long_as_its_app_is_there() {
        let head = Head::read(b"\r\n");
        let way = |config: &Config, user| route(config, Passwords::Checked, &mail("", user), &head);
        let config = testing::config_with(APPS);
        assert_eq!(way(&config, Some("moodle@x")).map(|route| route.app.name.clone()), Ok("moodle".into()));
        assert_eq!(way(&config, None), Err(Outcome::LoggedOut));
        let moved = testing::config_with(&format!("{APPS}allow = ['10.0.0.1']\n"));
        for config in [moved, testing::config_with("")] {
            assert_eq!(way(&config, Some("moodle")), Err(Outcome::LoggedOut));
        }
    }
}
