//! `import`: takes over the accounts and sign-ins of another program. Nothing of the other program is changed.
//!
//! First everything is read and opened; what cannot be is told and left out. Then the configuration is written, whole and checked, and put
//! in force; only then are the sign-ins handed over, since each belongs to an account that is known by then. Done twice, the second
//! time finds everything there.

mod config_file;
mod hand_over;
mod passwords;
mod plan;
mod proxy;
mod sasl;
mod terminal;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Subcommand};

use super::{FAILED, show};
use crate::config::{Config, SecretSource};
use crate::import::{Found, SignIn};
use crate::message::Address;
use crate::ops::LoginDone;
use config_file::{ConfigFile, SecretFiles};
use hand_over::Relay;
use plan::{Plan, Step};

/// The programs whose files can be read.
#[derive(Subcommand)]
pub(super) enum Import {
    /// Take over the accounts in the configuration file of email-oauth2-proxy (emailproxy.config)
    EmailOauth2Proxy(proxy::ProxyArgs),
    /// Take over the account of a token file of sasl-xoauth2 (Postfix)
    SaslXoauth2(sasl::SaslArgs),
}

/// What both have.
#[derive(Args)]
struct Common {
    /// Change nothing: only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// The SMTP server of accounts that are neither Microsoft's nor Google's
    #[arg(long, value_name = "HOST:PORT")]
    smtp: Option<String>,
}

/// What another program's files come to.
struct Gathered {
    program: &'static str,
    /// Each account, or why it cannot be had.
    accounts: Vec<(String, Result<Found, String>)>,
    /// Where its programs connect to until now.
    doors: Vec<String>,
    /// What else there is to say, at the end.
    hints: Vec<String>,
    /// Whether it is Postfix that hands its mail over from now on.
    is_for_postfix: bool,
    dry_run: bool,
}

/// Takes over.
pub(super) async fn run(path: &Path, import: Import) -> anyhow::Result<ExitCode> {
    let gathered = match import {
        Import::EmailOauth2Proxy(args) => proxy::gather(&args)?,
        Import::SaslXoauth2(args) => sasl::gather(&args)?,
    };
    let file = ConfigFile::read(path)?;
    let mut report = Report::default();
    let plan = Plan::of(gathered.accounts, &file, &mut report);
    if plan.is_empty() {
        return Ok(report.code());
    }
    let draft = file.check(&file.with(&plan.blocks(|_| None)))?;
    let keeps_older = plan.accounts().all(|found| found.provider.keeps_older_tokens());
    let hints = Hints {
        program: gathered.program,
        keeps_older,
        doors: gathered.doors,
        others: gathered.hints,
        is_for_postfix: gathered.is_for_postfix,
    };
    if gathered.dry_run {
        rehearse(&plan, &file, &draft);
        return Ok(report.code());
    }
    let mut relay = Relay::of(&draft).await?;
    let changed = match write(&plan, &file, &draft, &mut report) {
        Ok(changed) => relay.learn(&changed, &plan).await,
        Err(error) => Err(error),
    };
    match changed {
        Ok(()) => {
            for step in plan.steps {
                take_over(&step, &relay, &file, &mut report).await;
            }
        }
        Err(error) => {
            relay.close().await;
            return Err(error);
        }
    }
    relay.close().await;
    if report.changed > 0 || !report.written.is_empty() {
        let has_redeemed = report.changed > 0;
        for paragraph in report.written.iter().cloned().chain(hints.paragraphs(&draft, has_redeemed)) {
            println!("\n{paragraph}");
        }
    }
    Ok(report.code())
}

/// Writes the secrets, then the configuration; what is in force then.
fn write(plan: &Plan, file: &ConfigFile, draft: &Config, report: &mut Report) -> anyhow::Result<Config> {
    let added = plan.added().count();
    if added == 0 {
        return Ok(draft.clone());
    }
    let mut secrets = SecretFiles::of(&draft.data_dir);
    let mut places = BTreeMap::new();
    for found in plan.added() {
        if let Some(place) = secrets.keep(found).context("the client secret cannot be kept, and nothing was changed")? {
            report.written.push(format!(
                "The client secret of {} is in {} (mode 0600).",
                found.mailbox,
                place.display()
            ));
            places.insert(found.mailbox.key(), place);
        }
    }
    let blocks = plan.blocks(|found| places.get(&found.mailbox.key()).cloned());
    let text = file.with(&blocks);
    let config = file.check(&text).inspect_err(|_| secrets.undo())?;
    if let Err(error) = file.replace(&text) {
        println!("{} cannot be written: {error}", file.path.display());
        println!(
            "Add this to it by hand, reload the relay, and give this command again, which takes over the sign-ins then:\n"
        );
        println!("{blocks}");
        anyhow::bail!("the configuration could not be written, and no sign-in was taken over");
    }
    let made = if file.text.is_some() { "added to" } else { "written to the new file" };
    let accounts = show::count(added, "account");
    report.written.insert(0, format!("{accounts} {made} {}; the rest of it is as it was.", file.path.display()));
    Ok(config)
}

async fn take_over(step: &Step, relay: &Relay, file: &ConfigFile, report: &mut Report) {
    let mailbox = &step.found.mailbox;
    let token = match &step.found.sign_in {
        SignIn::Person(token) => token,
        SignIn::Application if step.is_new => {
            return tell(mailbox, "taken over; it needs no sign-in, the relay gets its tokens by itself");
        }
        SignIn::Application => return tell(mailbox, "already there, nothing was changed"),
    };
    match relay.has_sign_in(mailbox).await {
        Ok(true) => return tell(mailbox, "already there with a sign-in, nothing was changed"),
        Ok(false) => {}
        Err(error) => return report.failed(mailbox, &error.to_string()),
    }
    match relay.take_in(mailbox, token).await {
        Ok(done) => report.taken(mailbox, &done),
        Err(error) => {
            report.failures += 1;
            // Its own words for what it has left unchanged are about the sign-in alone.
            let why = format!("{error:#}").replace("the sign-in was refused, and nothing was changed: ", "");
            tell(mailbox, &format!("it is in {}, but its sign-in could not be taken over: {why}", file.path.display()));
        }
    }
}

fn rehearse(plan: &Plan, file: &ConfigFile, draft: &Config) {
    for step in &plan.steps {
        let mailbox = &step.found.mailbox;
        match (&step.found.sign_in, step.is_new) {
            (SignIn::Person(_), true) => println!("{mailbox}: would be added, and its sign-in taken over"),
            (SignIn::Application, true) => println!("{mailbox}: would be added; it needs no sign-in"),
            (SignIn::Person(_), false) => {
                println!("{mailbox}: is there already; its sign-in would be taken over if it has none yet");
            }
            (SignIn::Application, false) => println!("{mailbox}: is there already"),
        }
    }
    let secrets = SecretFiles::of(&draft.data_dir);
    if plan.added().next().is_some() {
        println!("\nThis would be added to {}:\n", file.path.display());
        print!("{}", plan.blocks(|found| secrets.place(found)));
    }
    println!("\nNothing was changed (--dry-run).");
}

/// What came of an account, on a line of its own.
fn tell(name: impl std::fmt::Display, what: &str) {
    println!("{name}: {}", show::printable(what));
}

/// What could not be done, and what was written.
#[derive(Default)]
struct Report {
    failures: usize,
    /// Sign-ins that were taken over.
    changed: usize,
    /// What was written where.
    written: Vec<String>,
}

impl Report {
    fn taken(&mut self, mailbox: &Address, done: &LoginDone) {
        self.changed += 1;
        match (&done.unproven, &done.signed_in_as) {
            (Some(why), _) => tell(
                mailbox,
                &format!(
                    "taken over, but nobody knows yet whether its sign-in works: {why}. The relay tries it as soon as it can; \
                     `xoauth2-relay status` tells"
                ),
            ),
            (None, Some(who)) => tell(mailbox, &format!("taken over, signed in as {who}")),
            (None, None) => tell(mailbox, "taken over, signed in"),
        }
    }

    fn failed(&mut self, name: impl std::fmt::Display, why: &str) {
        self.failures += 1;
        println!("{}: could not be taken over: {}", show::printable(&name.to_string()), show::printable(why));
    }

    fn code(&self) -> ExitCode {
        if self.failures == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
    }
}

/// What is to be done next.
struct Hints {
    program: &'static str,
    keeps_older: bool,
    doors: Vec<String>,
    others: Vec<String>,
    is_for_postfix: bool,
}

impl Hints {
    /// `has_redeemed`: whether the relay has used a refresh token of the other program.
    fn paragraphs(self, config: &Config, has_redeemed: bool) -> Vec<String> {
        let program = self.program;
        let beside = if !has_redeemed {
            format!("The files of {program} were only read, and it goes on working.")
        } else if self.keeps_older {
            format!(
                "The files of {program} were only read, and it goes on working: a refresh token can be used by both. Stop it once mail leaves \
                 through the relay, so that there is one place to look after."
            )
        } else {
            format!(
                "The files of {program} were only read. But some providers let a refresh token be used only once, and the relay has used it \
                 now: {program} may be refused from now on. Point the programs to the relay, and stop it."
            )
        };
        let mut paragraphs = vec![beside];
        paragraphs.extend(self.doors(config));
        paragraphs.extend(
            config.listeners.first().filter(|_| self.is_for_postfix).map(|listener| relayhost(listener.address)),
        );
        paragraphs.extend(self.others);
        paragraphs
    }

    /// Where the programs have to be pointed to, or what makes that unnecessary.
    fn doors(&self, config: &Config) -> Vec<String> {
        let program = self.program;
        let ours: Vec<String> = config.listeners.iter().map(|listener| listener.address.to_string()).collect();
        let now = format!(
            "Programs send through the relay at {}, with the mailbox as user name and any password.",
            ours.join(" and ")
        );
        let missing: Vec<&String> = self.doors.iter().filter(|door| !ours.contains(*door)).collect();
        if missing.is_empty() {
            return vec![now];
        }
        // The default ones are only there while none is named.
        let is_default = config.listeners.iter().any(|listener| listener.optional);
        let named: Vec<&String> = if is_default { ours.iter().chain(missing).collect() } else { missing };
        let listeners: Vec<String> =
            named.iter().map(|address| format!("    [[listener]]\n    address = \"{address}\"")).collect();
        let until_now = format!(
            "Until now it was {} at {}. Where a program cannot be pointed elsewhere, stop {program}, add this to the configuration and restart the \
             relay:\n{}",
            program,
            self.doors.join(" and "),
            listeners.join("\n")
        );
        vec![now, until_now]
    }
}

/// What Postfix is told.
fn relayhost(door: SocketAddr) -> String {
    let here = if door.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let address: IpAddr = if door.ip().is_unspecified() { here } else { door.ip() };
    format!(
        "In Postfix: relayhost = [{address}]:{}, and smtp_sasl_auth_enable = no for it; the relay signs in. Or let the programs hand their \
         mail to the relay themselves.",
        door.port()
    )
}

/// A whole file of another program: at most 1 MiB of UTF-8. Opened for reading only.
fn read(path: &Path) -> anyhow::Result<String> {
    config_file::read_text(path)?.with_context(|| format!("there is no file {}", path.display()))
}

/// Where the secret of a block is: in this file, or in the block itself while that is only being checked.
fn secret_value(source: &SecretSource) -> String {
    let (key, value) = match source {
        SecretSource::File(path) => ("file", path.to_string_lossy().into_owned()),
        SecretSource::Literal(secret) => return toml::Value::from(secret.expose()).to_string(),
        _ => return String::new(),
    };
    format!("{{ {key} = {} }}", toml::Value::from(value))
}

type Place = Option<PathBuf>;
