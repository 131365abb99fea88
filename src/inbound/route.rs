//! Whose message is it, may its sender stand there, and whose queue does it wait in: asked once the message
//! is there, and before any of it is kept for good. Pure.

use std::fmt;
use std::sync::Arc;

use super::head::Head;
use super::session::{Mail, Outcome};
use crate::config::{Account, App, Config, Passwords};
use crate::message::{Address, Permitted, SenderPolicy};
use crate::registry;

/// Where a message comes from and goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// The app that sends it.
    pub(crate) app: Arc<App>,
    /// The account in whose queue it waits.
    pub(crate) account: Arc<Account>,
}

/// A sender that is not among the app's, or that its account may not send as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The app's name.
    pub app: String,
    /// The sender.
    pub sender: Address,
    /// Where it was said.
    pub said_in: SaidIn,
    /// The mailbox that may not send as it; `None`: the app itself may not.
    pub mailbox: Option<Address>,
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
        let Self { app, sender, said_in, mailbox } = self;
        match mailbox {
            None => write!(f, "{said_in} <{sender}> is not among the senders of the app {app}"),
            Some(mailbox) => write!(f, "{said_in} <{sender}> is nobody that {mailbox} may send as"),
        }
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
    if !app.senders.is_empty() {
        all_are(app, sender, head, None, |sender| app.may_send_as(sender))?;
    }
    let account = registry::account_for(config, app, user, sender, head.from.first()).ok_or(Outcome::NoAccount)?;
    if app.sender == SenderPolicy::Refuse {
        // Nobody knows yet which of them will carry it.
        for carrier in registry::carriers(config, &app.name, &account.mailbox) {
            let permitted = Permitted { mailbox: &carrier.mailbox, send_as: &carrier.send_as };
            all_are(app, sender, head, Some(&carrier.mailbox), |sender| permitted.allows(sender))?;
        }
    }
    Ok(Route { app: Arc::clone(app), account: Arc::clone(account) })
}

/// Whether everybody is allowed whom MAIL FROM and `From` name. The null sender names nobody.
fn all_are(
    app: &App,
    sender: Option<&Address>,
    head: &Head,
    mailbox: Option<&Address>,
    is_allowed: impl Fn(&Address) -> bool,
) -> Result<(), Outcome> {
    let in_envelope = sender.map(|sender| (sender, SaidIn::Envelope));
    let in_header = head.from.iter().map(|sender| (sender, SaidIn::Header));
    for (sender, said_in) in in_envelope.into_iter().chain(in_header) {
        if !is_allowed(sender) {
            let (app, sender, mailbox) = (app.name.clone(), sender.clone(), mailbox.cloned());
            return Err(Outcome::Sender(Refused { app, sender, said_in, mailbox }));
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
    fn an_app_that_is_to_be_refused_may_send_only_as_what_its_account_may() {
        let app = "[[app]]\nname = 'erp'\nsender = 'refuse'\n";
        let config = testing::config_with(app);
        let mailbox = config.accounts[0].mailbox.clone();
        for (sender, header, refused) in [
            (mailbox.as_str(), format!("From: ERP <{mailbox}>"), None),
            ("", "From: root (Cron Daemon)".to_owned(), None),
            (mailbox.as_str(), "Subject: no From".to_owned(), None),
            ("bob@school.org", format!("From: {mailbox}"), Some((SaidIn::Envelope, "bob@school.org"))),
            ("", "From: bob@school.org".to_owned(), Some((SaidIn::Header, "bob@school.org"))),
        ] {
            let head = Head::read(format!("{header}\r\n\r\nbody").as_bytes());
            match (route(&config, Passwords::Any, &mail(sender, None), &head), refused) {
                (Ok(_), None) => {}
                (Err(Outcome::Sender(found)), Some((said_in, address))) => {
                    assert_eq!((found.said_in, found.sender.as_str()), (said_in, address));
                    assert_eq!(found.mailbox.as_ref(), Some(&mailbox));
                }
                (other, _) => panic!("{header}: {other:?}"),
            }
        }
        let head = Head::read(b"X: never ends");
        let endless = route(&config, Passwords::Any, &mail("", None), &head);
        assert_eq!(endless, Err(Outcome::SenderUnseen("erp".into())));
    }

    #[test]
    fn an_app_of_several_accounts_may_send_only_as_what_each_of_them_may() {
        let accounts: [(&str, &[&str]); 3] = [
            ("a@contoso.com", &["help@contoso.com"]),
            ("b@contoso.com", &["help@contoso.com"]),
            ("c@contoso.com", &[]),
        ];
        let mut config = testing::config(&accounts);
        let list = ["a@contoso.com", "b@contoso.com"].map(|mailbox| Address::parse(mailbox).unwrap()).to_vec();
        let app = App { name: "erp".to_owned(), sender: SenderPolicy::Refuse, accounts: list, ..App::default() };
        config.apps = vec![Arc::new(app)];
        let way = |from: &str| {
            let head = Head::read(format!("From: {from}\r\n\r\n").as_bytes());
            match route_of(&config, &config.apps[0], None, None, &head) {
                Err(Outcome::Sender(refused)) => refused.mailbox.map(|mailbox| mailbox.to_string()),
                other => other.map(|_| None).unwrap(),
            }
        };
        assert_eq!(way("help@contoso.com"), None, "whoever carries it may");
        assert_eq!(way("a@contoso.com").as_deref(), Some("b@contoso.com"), "the other one may not send as the first");
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
