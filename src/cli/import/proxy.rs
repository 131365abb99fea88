//! `import email-oauth2-proxy`.

use std::path::PathBuf;

use anyhow::{anyhow, bail};
use clap::Args;

use super::passwords::Passwords;
use super::{Common, Gathered, read};
use crate::cli::show;
use crate::import::Server;
use crate::import::email_oauth2_proxy::{Account, Door, Opened, Proxy};
use crate::message::Address;

const PROGRAM: &str = "email-oauth2-proxy";

/// The arguments of `import email-oauth2-proxy`.
#[derive(Args)]
pub(in crate::cli) struct ProxyArgs {
    /// Its configuration file, usually emailproxy.config; it is only read
    file: PathBuf,
    /// A file with the password that programs log in to email-oauth2-proxy with, one a line if accounts have different ones; - is standard
    /// input. Without it, it is asked for
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Take over this account alone; may be given several times
    #[arg(long, value_name = "MAILBOX")]
    mailbox: Vec<Address>,
    /// The file that email-oauth2-proxy is given with its own --cache-store, if it is
    #[arg(long, value_name = "FILE")]
    cache_store: Option<String>,
    #[command(flatten)]
    common: Common,
}

/// Reads and opens everything.
pub(super) fn gather(args: &ProxyArgs) -> anyhow::Result<Gathered> {
    let text = read(&args.file)?;
    let cache = args.cache_store.as_deref().map(|cache| match cache.strip_prefix("aws:") {
        None => read(cache.as_ref()),
        Some(_) => bail!(
            "tokens that email-oauth2-proxy keeps in AWS Secrets Manager cannot be read here. Fetch the secret with the AWS tools and take \
             over one account at a time: xoauth2-relay login MAILBOX --refresh-token-file FILE; or sign in anew: xoauth2-relay login MAILBOX"
        ),
    });
    let proxy = Proxy::parse(&text, cache.transpose()?.as_deref());
    let proxy = proxy.map_err(|error| anyhow!("{}: {error}", args.file.display()))?;
    let given =
        args.common.smtp.as_deref().map(Server::parse).transpose().map_err(|error| anyhow!("--smtp: {error}"))?;
    let accounts = wanted(&proxy, args)?;
    let smtp = given.as_ref().or_else(|| proxy.other_server());
    let mut passwords = None;
    let mut opened = Vec::new();
    for account in accounts {
        let found = if account.obstacle().is_some() || !account.needs_password() {
            match account.open(None, smtp) {
                Opened::Found(found) => Ok(*found),
                Opened::Unusable(why) => Err(why),
                Opened::OtherPassword => Err("it needs a password".to_owned()),
            }
        } else {
            let passwords = match &mut passwords {
                Some(passwords) => passwords,
                empty => empty.insert(Passwords::from(args.password_file.as_deref())?),
            };
            passwords.open(&account, smtp)
        };
        opened.push((account.name.to_owned(), found));
    }
    let doors = proxy.doors.iter().filter(|door| door.sends).map(listener).collect();
    let hints = hints(&proxy, &args.file.display().to_string());
    Ok(Gathered {
        program: PROGRAM,
        accounts: opened,
        doors,
        hints,
        is_for_postfix: false,
        dry_run: args.common.dry_run,
    })
}

fn wanted<'a>(proxy: &'a Proxy, args: &ProxyArgs) -> anyhow::Result<Vec<Account<'a>>> {
    let is = |account: &Account<'_>, mailbox: &Address| {
        Address::parse(account.name).is_ok_and(|address| address == *mailbox)
    };
    for mailbox in &args.mailbox {
        if !proxy.accounts().any(|account| is(&account, mailbox)) {
            let has: Vec<&str> = proxy.accounts().map(|account| account.name).collect();
            bail!("{} has no account {mailbox}; it has {}", args.file.display(), has.join(", "));
        }
    }
    let is_wanted =
        |account: &Account<'_>| args.mailbox.is_empty() || args.mailbox.iter().any(|mailbox| is(account, mailbox));
    let accounts: Vec<Account<'_>> = proxy.accounts().filter(is_wanted).collect();
    if accounts.is_empty() {
        bail!(
            "{} has only the sample accounts that come with {PROGRAM}: there is nothing to take over",
            args.file.display()
        );
    }
    Ok(accounts)
}

fn hints(proxy: &Proxy, file: &str) -> Vec<String> {
    let mut hints = Vec::new();
    if proxy.doors.iter().any(|door| door.sends && door.tls) {
        hints.push(format!(
            "Programs spoke TLS with {PROGRAM} (local_certificate_path): give such a listener certificate, key and tls = \"starttls\" or \"implicit\"."
        ));
    }
    if proxy.doors.iter().any(|door| !door.sends) {
        hints.push(format!(
            "{file} has doors for reading mail (IMAP, POP) too. The relay only sends: whoever reads mail through {PROGRAM} still needs it."
        ));
    }
    if proxy.examples() > 0 {
        hints.push(format!(
            "Left out: {} of the sample file that was never filled in.",
            show::count(proxy.examples(), "account")
        ));
    }
    if !proxy.unknown.is_empty() {
        let names: Vec<String> = proxy.unknown.iter().map(|name| format!("[{}]", show::printable(name))).collect();
        hints.push(format!("Left out, as {PROGRAM} does not know it either: {}.", names.join(", ")));
    }
    hints
}

/// A door for every address of the machine becomes one on this machine: the rest is for `allow` to say.
fn listener(door: &Door) -> String {
    match door.address.strip_prefix("port ") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => door.address.clone(),
    }
}
