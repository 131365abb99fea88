//! From the tree to the checked configuration: the top of the file. Each heading has a module of its own.

mod account;
mod admin;
mod alert;
mod app;
mod credentials;
mod endpoints;
mod exposure;
mod lane;
mod listener;
mod log;
mod queue;
mod reply;
mod secret;
mod tenant;
mod tls;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::civil::Date;

use super::document::{self, Node, Table, Value};
use super::keys::{self, ROOT, Scope};
use super::problem::{Place, Problems};
use super::review::Review;
use super::section::{Section, choice, parsed, text};
use super::units::{is_domain, quoted};
use super::{Account, App, Config, Environment, Listener, ReplyRule, SecretSource, Tenant, overrides, seen_by_others};
use crate::message::Address;

/// Reads and checks everything. `file` is the name for messages; relative paths in it start at its folder.
pub(super) fn config(contents: &str, file: &Path, environment: &Environment, today: Date) -> Result<Config, Problems> {
    let mut review = Review::new(file, today);
    let mut root = document::parse(contents, &mut review);
    overrides::apply(environment, &mut root, &mut review);
    let config = top(&root, &mut review);
    let (problems, warnings) = review.into_findings();
    match Problems::collect(problems) {
        Some(problems) => Err(problems),
        None => Ok(Config { warnings, ..config }),
    }
}

/// What can be made of a file whatever is wrong with it: only for those who ask for single values.
pub(super) fn at_a_glance(contents: &str, file: &Path, environment: &Environment, today: Date) -> Config {
    let mut review = Review::new(file, today);
    let mut root = document::parse(contents, &mut review);
    overrides::apply(environment, &mut root, &mut review);
    top(&root, &mut review)
}

fn top(root: &Table, review: &mut Review) -> Config {
    let top = Section::open(String::new(), Place::File, root, &ROOT, review);
    let admin = one("admin", root, review);
    let queue = one("queue", root, review);
    let alert = one("alert", root, review);
    let data_dir = data_dir(&top, review);
    let listener_sections = many("listener", root, review);
    let account_sections = many("account", root, review);
    let config = Config {
        hostname: hostname(&top, review),
        instance: instance(&top, review),
        key: key(&top, review),
        log: log::log(&top, review),
        listeners: listeners(&top, &listener_sections, &data_dir, review),
        postmaster: postmaster(&top, review),
        default_domain: default_domain(&top, review),
        accounts: accounts(&top, &account_sections, &data_dir, review),
        data_dir,
        apps: Vec::new(),
        default_app: Arc::new(App::default_app()),
        tenants: Vec::new(),
        replies: replies(root, review),
        queue: queue::queue(&queue, review),
        admin: admin::admin(&admin, review),
        alert: alert::alert(&alert, review),
        warnings: Vec::new(),
    };
    postmaster_is_read(&top, &config, review);
    let config = with_apps(config, &listener_sections, &account::mailboxes(&account_sections), root, review);
    let config = Config { tenants: tenants(&config.accounts, root, review), ..config };
    database(&top, review);
    admin::stands_apart(&config, &admin, review);
    alert::is_read_by_somebody(&config.alert, &config.accounts, &alert, review);
    config
}

/// One label will do: many machines have no domain, and Exchange takes whatever has the form of a name.
fn hostname(top: &Section<'_>, review: &mut Review) -> String {
    let usable = |name: &str| {
        let name = name.trim();
        let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let literal = literal.map(|inside| inside.strip_prefix("IPv6:").unwrap_or(inside));
        let is_literal = literal.is_some_and(|address| address.parse::<std::net::IpAddr>().is_ok());
        if is_domain(name) || is_literal {
            return Ok(name.to_owned());
        }
        Err(format!(
            "{} cannot be said in EHLO: write a name of letters, digits, hyphens and dots, such as \"relay.contoso.com\"",
            quoted(name)
        ))
    };
    let given = top.read("hostname", parsed(usable), review);
    given.unwrap_or_else(|| presentable(&gethostname::gethostname().to_string_lossy()))
}

/// Who gets the notices that no sender would read.
fn postmaster(top: &Section<'_>, review: &mut Review) -> Option<Address> {
    let usable = |text: &str| {
        let wrong =
            |_| format!("{} is no address: write one that somebody reads, such as \"it@contoso.com\"", quoted(text));
        Address::parse(text.trim()).map_err(wrong)
    };
    top.read("postmaster", parsed(usable), review)
}

/// What comes back to a mailbox that programs send through is read by nobody.
fn postmaster_is_read(top: &Section<'_>, config: &Config, review: &mut Review) {
    let is_own = |to: &&Address| config.accounts.iter().any(|account| account.mailbox == **to);
    if let Some(own) = config.postmaster.as_ref().filter(is_own) {
        let text = format!("{own} is a mailbox that programs send through: name people who read their mail");
        top.warning("postmaster", text, review);
    }
}

/// A name that reads the same wherever it is shown.
fn instance(top: &Section<'_>, review: &mut Review) -> Option<String> {
    let usable = |name: &str| {
        let name = name.trim();
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if (1..=64).contains(&name.len()) && name.chars().all(is_plain) {
            return Ok(name.to_owned());
        }
        Err(format!(
            "{} is no name for an instance: write up to 64 letters, digits, hyphens, underscores and dots, such as \"production\"",
            quoted(name)
        ))
    };
    top.read("instance", parsed(usable), review)
}

/// The secret that seals sign-ins.
fn key(top: &Section<'_>, review: &mut Review) -> Option<SecretSource> {
    let source = secret::source("key", top, review)?;
    if let SecretSource::File(path) = &source
        && seen_by_others(path)
    {
        let path = path.display();
        let text = format!("{source} can be read by every user of this machine: chmod o= {path}");
        top.warning("key", text, review);
    }
    Some(source)
}

/// The machine's own name made fit for EHLO: whoever called it `moodle_01` should not be stopped by that.
fn presentable(name: &str) -> String {
    let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    let name = name.trim_matches(['-', '.']);
    if is_domain(name) { name.to_owned() } else { "localhost".to_owned() }
}

fn data_dir(top: &Section<'_>, review: &mut Review) -> PathBuf {
    let given = top.read("data_dir", |value| text(value).map(str::to_owned), review);
    given.map_or_else(|| PathBuf::from("/var/lib/xoauth2-relay"), |path| review.resolve(&path))
}

/// There is only one so far; the key is there so that a file can say so.
fn database(top: &Section<'_>, review: &mut Review) {
    let known = |value: &Value| match text(value)? {
        // The address holds a password: it is not repeated.
        address if address.starts_with("postgres") => {
            Err("PostgreSQL is not yet supported in this version: use \"sqlite\"".to_owned())
        }
        address if address.contains("://") => Err("is not supported: use \"sqlite\"".to_owned()),
        _ => choice(&[("sqlite", ())], &[])(value),
    };
    top.read("database", known, review);
}

/// What an address needs to be answered: a domain of its own.
fn default_domain(top: &Section<'_>, review: &mut Review) -> Option<String> {
    let usable = |text: &str| match text.trim() {
        domain if is_domain(domain) => Ok(domain.to_owned()),
        text => match text.rsplit_once('@') {
            Some((_, domain)) if is_domain(domain) => {
                Err(format!("{} is an address: write the domain alone, {domain:?}", quoted(text)))
            }
            _ => Err(format!("{} is no domain: write one such as \"contoso.com\"", quoted(text))),
        },
    };
    let domain = top.read("default_domain", parsed(usable), review)?;
    if !domain.contains('.') {
        let text =
            format!("{domain} has no dot: mail to such addresses reaches nobody; write a domain such as contoso.com");
        top.warning("default_domain", text, review);
    }
    Some(domain)
}

/// Looked at last, since apps name accounts and meet listeners.
fn with_apps(
    config: Config,
    listeners: &[Section<'_>],
    mailboxes: &[Option<Address>],
    root: &Table,
    review: &mut Review,
) -> Config {
    let sections = many("app", root, review);
    let accounts = app::Accounts { good: &config.accounts, mailboxes };
    let apps: Vec<_> = sections.iter().map(|section| app::app(section, accounts, review)).collect();
    app::differ(&apps, &sections, review);
    app::can_be_told_apart(&apps, &sections, &config.listeners, review);
    app::somebody_can_log_in(&apps, &config.listeners, listeners, review);
    let (default, apps): (Vec<_>, Vec<_>) =
        apps.into_iter().flatten().map(Arc::new).partition(|app| app.name == App::DEFAULT);
    let default_app = default.into_iter().next().unwrap_or(config.default_app);
    Config { apps, default_app, ..config }
}

fn listeners(top: &Section<'_>, sections: &[Section<'_>], data_dir: &Path, review: &mut Review) -> Vec<Arc<Listener>> {
    if !top.has("listener") || top.is_empty_list("listener") {
        return listener::defaults();
    }
    let listeners: Vec<_> = sections.iter().map(|section| Arc::new(listener::listener(section, review))).collect();
    listener::stand_apart(&listeners, sections, review);
    for (listener, section) in listeners.iter().zip(sections) {
        if let Some(tls) = &listener.tls {
            tls::is_within_reach(tls, data_dir, section, review);
        }
    }
    listeners
}

fn accounts(top: &Section<'_>, sections: &[Section<'_>], data_dir: &Path, review: &mut Review) -> Vec<Arc<Account>> {
    if !top.has("account") || top.is_empty_list("account") {
        let text =
            "is missing: the relay needs a mailbox to send through; add [[account]] with mailbox, tenant and client_id";
        review.missing(&Place::File, "account", text);
    }
    let accounts: Vec<_> = sections.iter().map(|section| account::account(section, review)).collect();
    account::differ(sections, review);
    account::can_fall_back(sections, review);
    for (account, section) in accounts.iter().zip(sections) {
        if let Some(certificate) = account.as_ref().and_then(|account| account.certificate.as_ref()) {
            credentials::is_within_reach(certificate, data_dir, section, review);
        }
    }
    accounts.into_iter().flatten().map(Arc::new).collect()
}

/// Looked at behind the accounts, which name them.
fn tenants(accounts: &[Arc<Account>], root: &Table, review: &mut Review) -> Vec<Tenant> {
    let sections = many("tenant", root, review);
    let all_known = match root.get("account").map(|node| &node.value) {
        Some(Value::List(items)) => items.len() == accounts.len(),
        _ => false,
    };
    let tenants: Vec<_> = sections.iter().map(|section| tenant::tenant(section, accounts, all_known, review)).collect();
    tenant::differ(&tenants, &sections, review);
    tenants.into_iter().flatten().collect()
}

fn replies(root: &Table, review: &mut Review) -> Vec<ReplyRule> {
    let sections = many("reply", root, review);
    sections.iter().filter_map(|section| reply::reply(section, review)).collect()
}

/// The section `[name]`; an empty one if it is not there or is something else.
fn one<'a>(name: &str, root: &'a Table, review: &mut Review) -> Section<'a> {
    static EMPTY: Table = Table::new();
    let scope = scope(name);
    let (place, table) = match root.get(name) {
        Some(Node { place, value: Value::Table(table) }) => (place.clone(), table),
        Some(Node { place, value }) => {
            let list = matches!(value, Value::List(_));
            let is = if list { "can be there only once".to_owned() } else { format!("is {}", value.form()) };
            review.problem(place, name, format!("{is}: write [{name}] and its keys below"));
            (place.clone(), &EMPTY)
        }
        None => (Place::File, &EMPTY),
    };
    Section::open(name.to_owned(), place, table, scope, review)
}

/// The sections `[[name]]`.
fn many<'a>(name: &str, root: &'a Table, review: &mut Review) -> Vec<Section<'a>> {
    let wrong = |value: &Value| {
        let is = if matches!(value, Value::Table(_)) { "is written with single brackets" } else { value.form() };
        let is = if is.starts_with("is ") { is.to_owned() } else { format!("is {is}") };
        format!("{is}: write [[{name}]] and its keys below, since there can be several")
    };
    let items = match root.get(name) {
        Some(Node { value: Value::List(items), .. }) => items,
        Some(Node { place, value }) => {
            review.problem(place, name, wrong(value));
            // Its keys are looked at all the same: they will be the first section's once the brackets are there.
            return match value {
                Value::Table(table) => {
                    vec![Section::open(format!("{name}[0]"), place.clone(), table, scope(name), review)]
                }
                _ => Vec::new(),
            };
        }
        None => return Vec::new(),
    };
    let mut sections = Vec::new();
    for (n, item) in items.iter().enumerate() {
        let path = format!("{name}[{n}]");
        match &item.value {
            Value::Table(table) => sections.push(Section::open(path, item.place.clone(), table, scope(name), review)),
            other => review.problem(&item.place, path, wrong(other)),
        }
    }
    sections
}

/// The text of an address.
fn address(text: &str) -> Result<Address, String> {
    Address::parse(text.trim()).map_err(|error| error.to_string())
}

fn scope(name: &str) -> &'static Scope {
    keys::below(name).expect("the headings with a meaning are all in the tables")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machines_own_name_is_made_fit_for_ehlo() {
        for (name, said) in [
            ("moodle01", "moodle01"),
            ("moodle_01.contoso.com", "moodle-01.contoso.com"),
            ("", "localhost"),
            ("büro", "b-ro"),
            ("..", "localhost"),
            ("a..b", "localhost"),
        ] {
            assert_eq!(presentable(name), said);
        }
    }
}
