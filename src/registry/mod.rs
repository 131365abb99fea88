//! Which program is it, and through which mailbox does its mail leave? Pure: the configuration and the dialogue decide.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::{Account, Config};
use crate::message::Address;

/// The app of every program that no `[[app]]` describes.
const DEFAULT_APP: &str = "default";

/// The name of the app that sends from `peer` and calls itself `user` in AUTH.
///
/// Until `[[app]]` has a meaning there is only one.
pub fn app_for<'a>(_config: &'a Config, _peer: IpAddr, _user: Option<&str>) -> &'a str {
    DEFAULT_APP
}

/// The account that carries a message: the AUTH user name that is a mailbox, else MAIL FROM or From that is one, else one of them
/// that an account may send as, else the first account. `None` only if there is no account at all.
pub fn account_for<'a>(
    config: &'a Config,
    user: Option<&str>,
    mail_from: Option<&Address>,
    from_header: Option<&Address>,
) -> Option<&'a Arc<Account>> {
    let senders = || mail_from.into_iter().chain(from_header);
    let user = user.and_then(|user| Address::parse(user).ok());
    user.and_then(|user| config.account(&user))
        .or_else(|| senders().find_map(|sender| config.account(sender)))
        .or_else(|| senders().find_map(|sender| config.accounts.iter().find(|a| a.send_as.contains(sender))))
        .or_else(|| config.accounts.first())
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;
    use crate::config::{Listener, testing};

    /// A configuration with these accounts, each a mailbox and what it may send as.
    pub(crate) fn config(accounts: &[(&str, &[&str])]) -> Config {
        let accounts = accounts.iter().map(|(mailbox, send_as)| {
            let send_as = send_as.iter().map(|address| Address::parse(address).unwrap()).collect();
            Account { send_as, ..testing::account(mailbox, mailbox) }
        });
        testing::config(accounts.collect())
    }

    /// A listener that takes mail from this machine, with small limits.
    pub(crate) fn listener() -> Listener {
        Listener {
            max_message_size: 1_000_000,
            max_recipients: 3,
            max_connections: 50,
            max_connections_per_address: 20,
            ..testing::listener()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dialogue_picks_the_account() {
        let config = testing::config(&[
            ("first@contoso.com", &[]),
            ("lms@contoso.com", &["noreply@contoso.com"]),
            ("erp@contoso.com", &["noreply@contoso.com", "invoices@contoso.com"]),
        ]);
        let address = |text: &str| (!text.is_empty()).then(|| Address::parse(text).unwrap());
        for (user, mail_from, from, account) in [
            ("", "", "", "first@contoso.com"),
            ("moodle", "x@y.example", "", "first@contoso.com"),
            ("LMS@contoso.com", "erp@contoso.com", "erp@contoso.com", "lms@contoso.com"),
            ("", "erp@contoso.com", "lms@contoso.com", "erp@contoso.com"),
            ("", "x@y.example", "lms@contoso.com", "lms@contoso.com"),
            ("", "invoices@contoso.com", "", "erp@contoso.com"),
            ("", "invoices@contoso.com", "lms@contoso.com", "lms@contoso.com"),
            ("", "x@y.example", "NoReply@contoso.com", "lms@contoso.com"),
        ] {
            let user = (!user.is_empty()).then_some(user);
            let found = account_for(&config, user, address(mail_from).as_ref(), address(from).as_ref());
            assert_eq!(found.map(|a| a.mailbox.as_str()), Some(account), "{user:?} {mail_from} {from}");
        }
        assert_eq!(account_for(&testing::config(&[]), None, None, None), None);
    }

    #[test]
    fn without_app_tables_every_program_is_the_default_one() {
        let config = testing::config(&[]);
        assert_eq!(app_for(&config, "10.0.0.1".parse().unwrap(), Some("moodle")), "default");
    }
}
