//! Configurations for tests, made the way every configuration is.

use std::sync::Arc;

use super::{Account, Config, Environment, Listener};

/// A configuration with these accounts and nothing else that differs from the defaults.
pub fn config(accounts: Vec<Account>) -> Config {
    let accounts = accounts.into_iter().map(Arc::new).collect();
    Config { accounts, ..checked(&account_text("unused@contoso.com", "unused@contoso.com")) }
}

/// A configuration with these mailboxes of one tenant, and its budget for recipients outside.
pub fn of_tenant(tenant: &str, mailboxes: &[&str], external_recipients_per_day: u32) -> Config {
    let text = |mailbox: &&str| format!("{}tenant = \"{tenant}\"\n", account_text(mailbox, mailbox));
    let accounts: String = mailboxes.iter().map(text).collect();
    checked(&format!(
        "{accounts}[[tenant]]\nname = \"{tenant}\"\nexternal_recipients_per_day = {external_recipients_per_day}\n"
    ))
}

/// A configuration with one account and this text in front of it.
pub fn config_with(text: &str) -> Config {
    checked(&format!("{text}\n{}", account_text("lms@contoso.com", "lms@contoso.com")))
}

/// A custom account with the limits of Exchange Online.
pub fn account(mailbox: &str, login: &str) -> Account {
    Account::clone(&checked(&account_text(mailbox, login)).accounts[0])
}

/// A listener that takes mail from this machine.
pub fn listener() -> Listener {
    let text =
        format!("[[listener]]\naddress = \"127.0.0.1:0\"\n{}", account_text("lms@contoso.com", "lms@contoso.com"));
    Listener::clone(&checked(&text).listeners[0])
}

fn account_text(mailbox: &str, login: &str) -> String {
    format!(
        "[[account]]\nmailbox = \"{mailbox}\"\nlogin = \"{login}\"\nprovider = \"custom\"\nclient_id = \"relay\"\n\
         token_url = \"http://127.0.0.1/token\"\nsmtp = \"localhost:587\"\n"
    )
}

fn checked(text: &str) -> Config {
    let text = format!("hostname = \"relay.test\"\n{text}");
    Config::from_text(&text, "relay.toml", &Environment::default()).unwrap_or_else(|problems| panic!("{problems}"))
}
