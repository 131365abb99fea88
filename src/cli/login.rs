//! `login`: signs an account in, through the running relay or without one.

mod browser;
mod loopback;
mod page;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Args;
use tokio_util::sync::CancellationToken;

use browser::Keeper;

use super::alone::Alone;
use super::{Client, ControlError, load, show};
use crate::config::{Account, Config, Grant, Secret};
use crate::message::Address;
use crate::ops::{DevicePrompt, LoginDone};
use crate::signin::{self, DeviceLogin};

/// The arguments of `login`.
#[derive(Args)]
pub(super) struct LoginArgs {
    /// The account's mailbox
    mailbox: Address,
    /// Sign in with a browser: on this machine, or by pasting the address at which a browser elsewhere ends
    #[arg(long, conflicts_with = "refresh_token_file")]
    browser: bool,
    /// Take in a refresh token that was obtained elsewhere, instead of asking a person to sign in
    #[arg(long, value_name = "FILE")]
    refresh_token_file: Option<PathBuf>,
}

/// How somebody signs in.
enum How {
    Device,
    Browser,
    Token(Secret),
}

/// Signs in.
pub(super) async fn run(path: &Path, args: LoginArgs) -> anyhow::Result<ExitCode> {
    let config = load(path)?;
    let Some(account) = config.account(&args.mailbox).cloned() else {
        let known: Vec<String> = config.accounts.iter().map(|account| account.mailbox.to_string()).collect();
        bail!("there is no account {} in {}; it has {}", args.mailbox, path.display(), known.join(", "));
    };
    if account.grant == Grant::None {
        bail!(
            "{} has provider = \"smarthost\": nobody signs in to it; its login and password are in the configuration, and \
             `xoauth2-relay send-test TO --account {}` shows whether they work",
            account.mailbox,
            account.mailbox
        );
    }
    if account.grant == Grant::Application {
        return try_application(&config, &account, &args).await;
    }
    let how = match &args.refresh_token_file {
        Some(file) => How::Token(read_token(file)?),
        None if args.browser => How::Browser,
        None => How::Device,
    };
    let client = Client::new(&config.data_dir)?;
    let done = match client.status().await {
        Ok(_) => through_relay(&client, &account, how).await?,
        Err(ControlError::NotRunning(_)) => without_relay(&config, &account, how).await?,
        Err(error) => return Err(error.into()),
    };
    if let Some(why) = &done.unproven {
        println!("The refresh token of {} is stored, but nobody knows yet whether it works:", done.mailbox);
        println!("{}", show::printable(why));
        println!("The relay tries it as soon as it can; `xoauth2-relay status` tells.");
        return Ok(ExitCode::SUCCESS);
    }
    let who = done.signed_in_as.map(|who| format!(" as {}", show::printable(&who))).unwrap_or_default();
    println!("{} is signed in{who}", done.mailbox);
    Ok(ExitCode::SUCCESS)
}

/// Nobody has to sign in; whether it works is worth knowing all the same.
async fn try_application(config: &Config, account: &Account, args: &LoginArgs) -> anyhow::Result<ExitCode> {
    let mailbox = &account.mailbox;
    if args.refresh_token_file.is_some() {
        bail!("{mailbox} has grant = \"application\": it has no refresh token, and needs none");
    }
    println!("Nobody has to sign in: {mailbox} has grant = \"application\". Trying it …");
    let client = Client::new(&config.data_dir)?;
    match client.login_application(mailbox).await {
        Ok(tried) => {
            println!("It works: the relay has an access token, good until {}", show::time(tried.access_token_until));
        }
        Err(ControlError::NotRunning(_)) => {
            // Which secret was dropped is remembered in the data folder.
            let alone = Alone::of(config).await?;
            let tried = signin::try_application(account, &alone.tools).await;
            alone.store.close().await;
            tried?;
            println!("It works: an access token was given. The relay is not running; it gets its own when it starts");
        }
        Err(error) => return Err(error.into()),
    }
    println!("Whether Exchange takes it for the mailbox: xoauth2-relay send-test ADDRESS --account {mailbox}");
    Ok(ExitCode::SUCCESS)
}

fn read_token(file: &Path) -> anyhow::Result<Secret> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        bail!("{} does not hold a refresh token: it has to be one word and nothing else", file.display());
    }
    Ok(Secret::new(token))
}

async fn through_relay(client: &Client, account: &Account, how: How) -> anyhow::Result<LoginDone> {
    let mailbox = &account.mailbox;
    match how {
        How::Token(token) => Ok(client.login_take_in(mailbox, &token).await?),
        How::Browser => browser::run(Keeper::Relay(client), account).await,
        How::Device => {
            tell(&client.login_begin(mailbox).await?);
            Ok(client.login_wait(mailbox).await?)
        }
    }
}

async fn without_relay(config: &Config, account: &Account, how: How) -> anyhow::Result<LoginDone> {
    let alone = Alone::of(config).await?;
    alone.shelf.ensure_key().await?;
    let done = sign_in(&alone, account, how).await;
    alone.store.close().await;
    done
}

async fn sign_in(alone: &Alone, account: &Account, how: How) -> anyhow::Result<LoginDone> {
    match how {
        How::Browser => browser::run(Keeper::Alone(alone), account).await,
        How::Token(token) => alone.take_in(account, token).await,
        How::Device => {
            let login = DeviceLogin::start(account, &alone.tools).await?;
            tell(&DevicePrompt::of(&login, account));
            let stored = login.wait(&alone.tools, &CancellationToken::new()).await?;
            alone.keep(stored).await
        }
    }
}

fn tell(prompt: &DevicePrompt) {
    println!("Open   {}", show::printable(&prompt.verification_uri));
    println!("Code   {}", show::printable(&prompt.user_code));
    println!("Sign in there as {}. The code is good until {}.", prompt.login, show::time(prompt.expires_at));
}
