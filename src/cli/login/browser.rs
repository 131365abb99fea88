//! `login --browser`: shows the address, then waits for the browser at a port of this machine and for a pasted address on standard input,
//! whichever comes first. Who keeps state and verifier, and redeems the code, is the relay; without one, it is this process.

use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, anyhow, bail};
use tokio::sync::mpsc;

use super::loopback::{Arrival, Loopback};
use super::page::Page;
use super::show;
use crate::cli::Client;
use crate::cli::alone::Alone;
use crate::config::Account;
use crate::message::Address;
use crate::ops::{BrowserAnswer, BrowserPrompt, BrowserRedirect, LoginDone};
use crate::signin::{BrowserLogin, LoginError, Unanswered, loopback_redirect};

/// Addresses of other sign-ins that are put up with.
const TRIES: u32 = 20;
/// The most that is read from standard input.
const MAX_INPUT: u64 = 1024 * 1024;

/// Who keeps the secrets of the sign-in.
pub(super) enum Keeper<'a> {
    /// The running relay.
    Relay(&'a Client),
    /// This process.
    Alone(&'a Alone),
}

/// The same, once the sign-in has begun.
enum Begun<'a> {
    Relay { client: &'a Client, mailbox: &'a Address, number: u64 },
    Alone { login: Box<BrowserLogin>, alone: &'a Alone },
}

/// Signs in.
pub(super) async fn run(keeper: Keeper<'_>, account: &Account) -> anyhow::Result<LoginDone> {
    let loopback = Loopback::open(Page::waiting(account.login.as_str())).await;
    let mut loopback = loopback.context("cannot open a port on 127.0.0.1 for the browser to come back to")?;
    let (begun, prompt) = begin(keeper, account, loopback.port()).await?;
    tell(&prompt, loopback.port());
    let done = wait(&begun, &mut loopback).await;
    loopback.close().await;
    done
}

async fn begin<'a>(keeper: Keeper<'a>, account: &'a Account, port: u16) -> anyhow::Result<(Begun<'a>, BrowserPrompt)> {
    match keeper {
        Keeper::Relay(client) => {
            let prompt = client.login_browser_begin(&account.mailbox, port).await?;
            Ok((Begun::Relay { client, mailbox: &account.mailbox, number: prompt.number }, prompt))
        }
        Keeper::Alone(alone) => {
            let login = BrowserLogin::start(account, loopback_redirect(port), &alone.tools).await?;
            let prompt = BrowserPrompt {
                address: login.address(),
                expires_at: login.expires_at(),
                login: account.login.to_string(),
                number: 0,
            };
            Ok((Begun::Alone { login: Box::new(login), alone }, prompt))
        }
    }
}

fn tell(prompt: &BrowserPrompt, port: u16) {
    println!("Open this address in a browser and sign in as {}:\n", prompt.login);
    println!("{}\n", show::printable(&prompt.address));
    println!("The browser ends at http://localhost:{port}/. If it runs on another machine, it cannot open that page:");
    println!("copy the address of that page, paste it here and press Enter. If the page to sign in at shows an error,");
    println!("paste its text (AADSTS…) to have it explained. Waiting until {}.", show::time(prompt.expires_at));
}

/// Until somebody is signed in, or nobody can be any more.
async fn wait(begun: &Begun<'_>, loopback: &mut Loopback) -> anyhow::Result<LoginDone> {
    let mut over = std::pin::pin!(begun.over());
    let mut pasted = pasted();
    for _ in 0..TRIES {
        let (address, browser) = tokio::select! {
            why = over.as_mut() => return Err(why),
            _ = tokio::signal::ctrl_c() => return Err(LoginError::Stopped.into()),
            Some(Arrival { query, answer }) = loopback.arrival() => (query, Some(answer)),
            Some(address) = pasted.recv() => (address, None),
        };
        let outcome = begun.answer(&address).await;
        let page = match &outcome {
            Ok(BrowserAnswer::Done(done)) => Page::success(&done.mailbox, done.signed_in_as.as_deref()),
            Ok(BrowserAnswer::NotThis(why)) => Page::not_this(why),
            Err(error) => Page::failure(&error.to_string()),
        };
        let came = browser.is_some();
        if let Some(browser) = browser {
            // Gone meanwhile: the terminal says the same.
            let _ = browser.send(page);
        }
        match outcome? {
            BrowserAnswer::Done(done) => return Ok(done),
            BrowserAnswer::NotThis(why) => not_this(&why, came),
        }
    }
    bail!(
        "too many addresses came that do not belong to this sign-in, so it is over and nothing was changed. Start again"
    )
}

fn not_this(why: &str, came: bool) {
    let what = if came { "A browser came back, but " } else { "Not signed in yet: " };
    eprintln!("{what}{why}. Still waiting");
}

/// What is typed or pasted, line by line. The thread ends with standard input, or with the process.
fn pasted() -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel(1);
    std::thread::spawn(move || {
        let input = std::io::stdin().lock().take(MAX_INPUT);
        let lines = BufReader::new(input).lines().map_while(Result::ok);
        for line in lines.filter(|line| !line.trim().is_empty()) {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    lines
}

impl Begun<'_> {
    /// Redeems what the browser brought, and stores the sign-in.
    async fn answer(&self, address: &str) -> anyhow::Result<BrowserAnswer> {
        match self {
            Self::Relay { client, mailbox, number } => {
                let redirect = BrowserRedirect { number: *number, address: address.to_owned() };
                Ok(client.login_browser_answer(mailbox, &redirect).await?)
            }
            Self::Alone { login, alone } => match login.answer(address, &alone.tools).await {
                Ok(stored) => Ok(BrowserAnswer::Done(alone.keep(stored).await?)),
                Err(Unanswered::NotThis(why)) => Ok(BrowserAnswer::NotThis(why.to_string())),
                Err(Unanswered::Over(error)) => Err(error.into()),
            },
        }
    }

    /// Waits until it cannot come to anything any more: why.
    async fn over(&self) -> anyhow::Error {
        match self {
            Self::Relay { client, mailbox, number } => match client.login_browser_wait(mailbox, *number).await {
                Ok(()) => anyhow!("the sign-in was finished elsewhere; `xoauth2-relay status` tells"),
                Err(error) => error.into(),
            },
            Self::Alone { login, alone } => {
                alone.tools.clock.sleep_until(login.expires_at()).await;
                login.expired().into()
            }
        }
    }
}
