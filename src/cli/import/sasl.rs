//! `import sasl-xoauth2`.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use clap::Args;

use super::config_file::read_text;
use super::{Common, Gathered, read};
use crate::import::sasl_xoauth2::{Beside, SaslPasswd, Settings, account};
use crate::import::{Found, Server};
use crate::message::Address;

/// Where its configuration is unless somebody says otherwise.
const CONFIG: &str = "/etc/sasl-xoauth2.conf";

/// The arguments of `import sasl-xoauth2`.
#[derive(Args)]
pub(in crate::cli) struct SaslArgs {
    /// Token files, as named in Postfix's `sasl_passwd`; they are only read
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The configuration of sasl-xoauth2 [default: /etc/sasl-xoauth2.conf, if it is there]
    #[arg(long, value_name = "FILE")]
    config_file: Option<PathBuf>,
    /// The mailbox, where neither the token file, nor `sasl_passwd`, nor the file's name tells it
    #[arg(long, value_name = "MAILBOX")]
    mailbox: Option<Address>,
    /// Postfix's `sasl_passwd` (the text, not the .db): tells whose each token file is, and the server
    #[arg(long, value_name = "FILE")]
    sasl_passwd: Option<PathBuf>,
    #[command(flatten)]
    common: Common,
}

/// Reads everything.
pub(super) fn gather(args: &SaslArgs) -> anyhow::Result<Gathered> {
    if args.mailbox.is_some() && args.files.len() > 1 {
        bail!(
            "--mailbox belongs to one token file: give them one at a time, or name Postfix's table with --sasl-passwd"
        );
    }
    let smtp =
        args.common.smtp.as_deref().map(Server::parse).transpose().map_err(|error| anyhow!("--smtp: {error}"))?;
    let sasl_passwd = args.sasl_passwd.as_deref().map(read).transpose()?.map(|text| SaslPasswd::parse(&text));
    let beside = Beside { mailbox: args.mailbox.clone(), smtp, sasl_passwd };
    let config = config(args.config_file.as_deref())?;
    let mut hints = Vec::new();
    let mut accounts = Vec::new();
    for file in &args.files {
        let found = token(file, config.as_ref(), &beside, &mut hints);
        let name = found.as_ref().map_or_else(|_| file.display().to_string(), |found| found.mailbox.to_string());
        accounts.push((name, found));
    }
    hints.dedup();
    Ok(Gathered {
        program: "sasl-xoauth2",
        accounts,
        doors: Vec::new(),
        hints,
        is_for_postfix: true,
        dry_run: args.common.dry_run,
    })
}

fn token(file: &Path, config: Option<&Settings>, beside: &Beside, hints: &mut Vec<String>) -> Result<Found, String> {
    let text = read(file).map_err(|error| format!("{error:#}"))?;
    // What `sasl_passwd` names is a path from the root.
    let path = std::path::absolute(file).unwrap_or_else(|_| file.to_owned());
    let read = account(&path, &Settings::parse(&text)?, config, beside)?;
    if let Some(proxy) = read.proxy {
        hints.push(proxy_hint(&proxy));
    }
    Ok(read.found)
}

/// What to do about the proxy. A user name and a password in its address are not repeated.
fn proxy_hint(proxy: &str) -> String {
    let (shown, also) = match proxy.rsplit_once('@') {
        None => (proxy.to_owned(), ""),
        Some((before, host)) => {
            let scheme = before.split_once("://").map(|(scheme, _)| format!("{scheme}://")).unwrap_or_default();
            (format!("{scheme}…@{host}"), "; its user name and password are in the file, and belong in the place of …")
        }
    };
    format!(
        "sasl-xoauth2 asked for its tokens through the proxy {shown}: the relay takes it from HTTPS_PROXY in its environment \
         (systemctl edit xoauth2-relay, [Service] Environment=HTTPS_PROXY={shown}{also})."
    )
}

/// The configuration; the usual one need not be there.
fn config(file: Option<&Path>) -> anyhow::Result<Option<Settings>> {
    let text = match file {
        Some(file) => Some(read(file)?),
        None => read_text(Path::new(CONFIG))?,
    };
    let name = file.unwrap_or(Path::new(CONFIG)).display();
    let config = text.map(|text| Settings::parse(&text)).transpose().map_err(|error| anyhow!("{name}: {error}"))?;
    if config.as_ref().is_some_and(|config| config.has_refresh_token() && !config.has_client_id()) {
        bail!(
            "{name} is a token file: name the configuration of sasl-xoauth2 with --config-file, and the token file without an option"
        );
    }
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_of_a_proxy_is_not_repeated() {
        let plain = proxy_hint("http://proxy.contoso.com:3128");
        assert!(plain.ends_with("Environment=HTTPS_PROXY=http://proxy.contoso.com:3128)."), "{plain}");
        for proxy in ["http://jane:hun@ter2@proxy.contoso.com:3128", "jane:hunter2@proxy.contoso.com:3128"] {
            let hint = proxy_hint(proxy);
            assert!(hint.contains("…@proxy.contoso.com:3128"), "{hint}");
            assert!(!hint.contains("jane") && !hint.contains("hun") && !hint.contains("ter2"), "{hint}");
        }
    }
}
