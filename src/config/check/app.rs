//! `[[app]]`, and what apps and listeners have to do with each other.

use std::sync::Arc;

use ipnet::IpNet;

use super::{address, lane, secret};
use crate::config::app::AddressPattern;
use crate::config::document::Value;
use crate::config::keys;
use crate::config::review::Review;
use crate::config::section::{Section, choice, count, parsed, text};
use crate::config::units::{self, quoted};
use crate::config::{Account, App, Environment, InDoubt, Listener, Passwords, SecretSource};
use crate::message::{Address, SenderPolicy};
use crate::password;

const SENDER: &[(&str, SenderPolicy)] =
    &[("rewrite", SenderPolicy::Rewrite), ("keep", SenderPolicy::Keep), ("refuse", SenderPolicy::Refuse)];
/// Longer than any name that somebody wants to type into a printer.
const LONGEST_NAME: usize = 64;

/// The accounts that an app can name.
#[derive(Clone, Copy)]
pub(super) struct Accounts<'a> {
    /// Those without a problem.
    pub(super) good: &'a [Arc<Account>],
    /// What all of them are called; `None` where that cannot be read.
    pub(super) mailboxes: &'a [Option<Address>],
}

/// One app; `None` without a name. All its problems are reported either way.
pub(super) fn app(app: &Section<'_>, accounts: Accounts<'_>, review: &mut Review) -> Option<App> {
    if !app.has("name") {
        app.missing("name", "it is the app's user name too, for example name = \"moodle\"", review);
    }
    let name = app.read("name", parsed(name), review);
    let checked = App {
        description: app.read("description", |value| text(value).map(str::to_owned), review),
        allow: allow(app, review),
        password: password(app, review),
        account: account(app, accounts, review),
        accounts: shared(app, accounts, review),
        messages_per_minute: app.read("messages_per_minute", rate, review).unwrap_or(0),
        senders: senders(app, review),
        in_doubt: app
            .read("in_doubt", choice(&[("retry", InDoubt::Retry), ("hold", InDoubt::Hold)], &[]), review)
            .unwrap_or_default(),
        lane: lane::lane(app, review),
        lane_rules: lane::rules(app, review),
        sender: app.read("sender", choice(SENDER, &[]), review).unwrap_or_default(),
        divert_to: app.read("divert_to", parsed(one_address), review),
        recipients_allow: recipients_allow(app, review),
        name: name?,
    };
    if checked.name == App::DEFAULT {
        for key in ["allow", "password"] {
            if app.has(key) {
                let text = "cannot be set for \"default\", which is every program that no other [[app]] describes: remove it, or \
                            give the app another name";
                app.problem(key, text, review);
            }
        }
    }
    Some(checked)
}

/// ASCII, since AUTH leaves the encoding open, and no `@`, since what stands behind one is ignored.
fn name(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.eq_ignore_ascii_case(App::DEFAULT) {
        return Ok(App::DEFAULT.to_owned());
    }
    if name.len() > LONGEST_NAME {
        return Err(format!("{} is too long: at most {LONGEST_NAME} characters", quoted(name)));
    }
    if App::is_own(name) {
        return Err(format!("{} is the relay's own mail: take another name", quoted(name)));
    }
    match name.chars().find(|&c| !(c.is_ascii_alphanumeric() || ".-_".contains(c))) {
        None => Ok(name.to_owned()),
        Some('@') => Err(format!(
            "{} is an address: write the part before the @ alone; programs may log in with any @domain behind it",
            quoted(name)
        )),
        Some(c) => Err(format!(
            "{} cannot be a user name, because of {c:?}: write letters (a-z), digits, dots, hyphens and underscores, and put the \
             rest into description",
            quoted(name)
        )),
    }
}

fn allow(app: &Section<'_>, review: &mut Review) -> Vec<IpNet> {
    let allow = app.list("allow", units::network, review).unwrap_or_default();
    if app.is_empty_list("allow") {
        let text = "is empty: the app could never send; write its networks, or remove the line for every network of the listener";
        app.problem("allow", text, review);
    }
    allow
}

fn account(app: &Section<'_>, accounts: Accounts<'_>, review: &mut Review) -> Option<Address> {
    let account = app.read("account", parsed(address), review)?;
    known("account", account, app, accounts, review)
}

/// 0 is no limit of its own.
fn rate(value: &Value) -> Result<u32, String> {
    match value {
        Value::Number(Some(0)) => Ok(0),
        Value::Number(Some(number)) if *number < 0 => {
            Err("is negative: write how many a minute, or 0 for no limit of its own".to_owned())
        }
        other => count(u32::MAX.into())(other),
    }
}

/// `accounts`: instead of `account`, two or more that are there.
fn shared(app: &Section<'_>, accounts: Accounts<'_>, review: &mut Review) -> Vec<Address> {
    if app.is_empty_list("accounts") {
        let text = "is empty: write the mailboxes that carry the app's mail, or remove the line";
        app.problem("accounts", text, review);
    }
    let listed = app.list("accounts", address, review).unwrap_or_default();
    if app.has("accounts") && app.has("account") {
        let text = "cannot stand beside account: write all mailboxes into accounts, and remove account";
        app.problem("accounts", text, review);
    }
    let mut shared: Vec<Address> = Vec::new();
    for mailbox in listed {
        if shared.contains(&mailbox) {
            app.problem("accounts", format!("names {mailbox} twice: remove one of them"), review);
        } else {
            shared.extend(known("accounts", mailbox, app, accounts, review));
        }
    }
    advise_on_sender(app, &shared, accounts.good, review);
    shared
}

/// Whichever account carries a mail has to be able to send as what its `From` says, or `From` changes from mail to mail.
fn advise_on_sender(app: &Section<'_>, shared: &[Address], accounts: &[Arc<Account>], review: &mut Review) {
    let carriers: Vec<_> = accounts.iter().filter(|account| shared.contains(&account.mailbox)).collect();
    let may_send = |account: &Account, sender: &Address| account.mailbox == *sender || account.send_as.contains(sender);
    let senders = carriers.first().map(|first| first.send_as.iter().chain([&first.mailbox]));
    let mut senders = senders.into_iter().flatten();
    if carriers.len() > 1 && !senders.any(|sender| carriers.iter().all(|account| may_send(account, sender))) {
        let text = "have no sender in common: the From of the app's mail will change with the account that carries it; grant all of them \
                    one address with Send As, and put it into send_as of each";
        app.warning("accounts", text, review);
    }
}

/// The mailbox, if it is that of an account.
fn known(
    key: &str,
    account: Address,
    app: &Section<'_>,
    accounts: Accounts<'_>,
    review: &mut Review,
) -> Option<Address> {
    let known: Vec<_> = accounts.mailboxes.iter().flatten().map(Address::as_str).collect();
    if accounts.mailboxes.contains(&Some(account.clone())) {
        return Some(account);
    }
    // One that could not be read may be the one that is meant; without any, that is what has to be mended first.
    if !known.is_empty() && !accounts.mailboxes.contains(&None) {
        let text = match keys::nearest(account.as_str(), known.iter().copied()) {
            Some(near) => format!("{account} is no mailbox of an [[account]]; did you mean {near}?"),
            None => format!("{account} is no mailbox of an [[account]]: write one of {}", known.join(", ")),
        };
        app.problem(key, text, review);
    }
    None
}

fn senders(app: &Section<'_>, review: &mut Review) -> Vec<AddressPattern> {
    if app.is_empty_list("senders") {
        let text = "is empty: the app could send as nobody; write who it may send as, or remove the line for anyone";
        app.problem("senders", text, review);
    }
    app.list("senders", |text| AddressPattern::parse("sender", text), review).unwrap_or_default()
}

/// A pattern would be taken for an address that begins with a star.
fn one_address(text: &str) -> Result<Address, String> {
    if text.contains('*') {
        return Err(format!("{} is a pattern: write the one address that every mail goes to", quoted(text)));
    }
    address(text)
}

fn recipients_allow(app: &Section<'_>, review: &mut Review) -> Vec<AddressPattern> {
    if app.is_empty_list("recipients_allow") {
        let text = "is empty: every mail would be held; write to whom mail may go, or remove the line for anyone";
        app.problem("recipients_allow", text, review);
    } else if app.has("recipients_allow") && app.has("divert_to") {
        let text = "has no effect beside divert_to, where every mail goes instead: remove one of the two";
        app.warning("recipients_allow", text, review);
    }
    app.list("recipients_allow", |text| AddressPattern::parse("recipient", text), review).unwrap_or_default()
}

fn password(app: &Section<'_>, review: &mut Review) -> Option<SecretSource> {
    let source = secret::source("password", app, review)?;
    // Only what can be looked at without running anything; `check-config` may run as somebody who may not read the file.
    let is_at_hand = match &source {
        SecretSource::Literal(_) => true,
        SecretSource::File(path) => path.is_file(),
        _ => false,
    };
    let secret = if is_at_hand { source.read(&Environment::default()).ok() } else { None };
    match secret.map(|secret| password::examine(secret.expose())) {
        Some(Err(error)) => app.problem("password", error.to_string(), review),
        Some(Ok(Some(weakness))) => app.warning("password", weakness.to_string(), review),
        Some(Ok(None)) | None => {}
    }
    Some(source)
}

/// `password` of a listener.
pub(super) fn passwords(value: &Value) -> Result<Passwords, String> {
    choice(&[("any", Passwords::Any), ("checked", Passwords::Checked)], &[])(value).map_err(|error| {
        // Somebody may have put a program's password here: it is not repeated, unless it is no more than a slip of the pen.
        if error.contains("did you mean") || !matches!(value, Value::Text(_)) {
            return error;
        }
        "is neither \"any\" nor \"checked\"; a program's own password goes into its [[app]]".to_owned()
    })
}

/// Each name once.
pub(super) fn differ(apps: &[Option<App>], sections: &[Section<'_>], review: &mut Review) {
    let name = |app: &Option<App>| app.as_ref().map(|app| app.name.to_ascii_lowercase());
    for (n, (app, section)) in apps.iter().zip(sections).enumerate() {
        let earlier = apps[..n].iter().position(|earlier| app.is_some() && name(earlier) == name(app));
        if let (Some(earlier), Some(app)) = (earlier, app) {
            let text =
                format!("{:?} is already {}: upper and lower case make no difference", app.name, sections[earlier]);
            section.problem("name", text, review);
        }
    }
}

/// Where a program cannot be told from another one, or can never be recognised.
pub(super) fn can_be_told_apart(
    apps: &[Option<App>],
    sections: &[Section<'_>],
    listeners: &[Arc<Listener>],
    review: &mut Review,
) {
    let all_log_in = listeners.iter().all(|listener| listener.password == Passwords::Checked);
    for (n, (app, section)) in apps.iter().zip(sections).enumerate() {
        let Some(app) = app.as_ref().filter(|app| app.name != App::DEFAULT) else { continue };
        for (i, network) in app.allow.iter().enumerate() {
            if !listeners.iter().any(|listener| listener.allow.iter().any(|allowed| overlap(allowed, network))) {
                let text = format!("{network} may not connect to any listener: add it to allow of a [[listener]]");
                section.warning(
                    "allow",
                    if i == 0 && app.allow.len() == 1 { text } else { format!("{text} (or remove it here)") },
                    review,
                );
            }
        }
        if app.password.is_some() && !listeners.iter().any(|listener| listener.password == Passwords::Checked) {
            let text = "is not looked at, because no [[listener]] has password = \"checked\": every program may call itself by this name";
            section.warning("password", text, review);
        }
        if let Some((earlier, shared)) = apps[..n].iter().zip(sections).find_map(|(earlier, section)| {
            let earlier = earlier.as_ref().filter(|earlier| earlier.name != App::DEFAULT)?;
            shared_network(earlier, app).map(|shared| ((earlier, section), shared))
        }) && !all_log_in
        {
            let (earlier, place) = earlier;
            let text = format!(
                "{shared} as {place}: a program there that does not log in as {:?} counts as {:?}, the first of the two",
                app.name, earlier.name
            );
            section.warning("allow", text, review);
        }
    }
}

/// Why the networks alone do not tell these two apart: to stand before "as" and the earlier one.
fn shared_network(earlier: &App, app: &App) -> Option<String> {
    if earlier.allow.is_empty() && app.allow.is_empty() {
        return Some("is not set, the same".to_owned());
    }
    app.allow.iter().find(|network| earlier.allow.contains(network)).map(|network| format!("has {network}, the same"))
}

/// A listener that checks passwords needs somebody who can log in.
pub(super) fn somebody_can_log_in(
    apps: &[Option<App>],
    listeners: &[Arc<Listener>],
    sections: &[Section<'_>],
    review: &mut Review,
) {
    let with_password: Vec<&App> = apps.iter().flatten().filter(|app| app.password.is_some()).collect();
    for (listener, section) in listeners.iter().zip(sections) {
        let reaches = |app: &&App| {
            app.allow.is_empty()
                || app.allow.iter().any(|network| listener.allow.iter().any(|allowed| overlap(allowed, network)))
        };
        if listener.password == Passwords::Any || with_password.iter().any(reaches) {
            continue;
        }
        let text = if with_password.is_empty() {
            "is \"checked\", and no [[app]] has a password: nobody could log in; add an [[app]] with name and password"
        } else {
            "is \"checked\", and every [[app]] with a password is in networks that may not connect here: nobody could log in; \
             compare allow of the two"
        };
        section.problem("password", text, review);
    }
}

/// Whether the two have an address in common.
fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}
