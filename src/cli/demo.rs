//! `demo`: a simulated Microsoft 365 and a relay in one process on loopback.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use tokio::sync::broadcast::error::RecvError;

use super::daemon::told_to_stop;
use super::{FAILED, show};
use crate::clock::Clock;
use crate::config::{Config, Environment, Secret};
use crate::journal::Happening;
use crate::message::{Address, QueueId};
use crate::relay::Relay;
use crate::simulator::{Mailbox, Options, Simulator};
use crate::store::RecipientState;

const MAILBOX: &str = "lms@contoso.com";
const LISTENER: &str = "127.0.0.1:2525";

/// Runs until Ctrl-C.
pub(super) async fn run() -> anyhow::Result<ExitCode> {
    let folder = tempfile::Builder::new().prefix("xoauth2-relay-demo-").tempdir();
    let folder = folder.context("cannot make a folder for the demo")?;
    let options = Options { mailboxes: vec![Mailbox::new(MAILBOX)], keep: 100, ..Options::default() };
    let simulator = Simulator::start(options).await.context("cannot start the simulated Microsoft 365")?;
    let config = configuration(&simulator, folder.path())?;
    let mut relay = Relay::start(config, Environment::default(), Clock::system()).await?;
    let mailbox = Address::parse(MAILBOX)?;
    let token = Secret::new(simulator.issue_refresh_token(MAILBOX));
    relay.ops().login_take_in(&mailbox, token).await.context("the demo could not sign itself in")?;
    let mut feed = relay.ops().feed.listen();
    say(&instructions(folder.path()));

    let mut story = Story::default();
    let stop = told_to_stop();
    tokio::pin!(stop);
    let failure = loop {
        tokio::select! {
            () = &mut stop => break None,
            failure = relay.failure() => break Some(failure),
            happening = feed.recv() => match happening {
                Ok(happening) => story.tell(happening),
                Err(RecvError::Lagged(missed)) => say(&format!("({missed} lines left out: too much at once)")),
                Err(RecvError::Closed) => break Some("the relay has ended".to_owned()),
            },
        }
    };
    relay.stop().await;
    simulator.stop().await;
    match failure {
        None => {
            say("\nThe demo has ended; nothing of it is left.");
            Ok(ExitCode::SUCCESS)
        }
        Some(failure) => {
            eprintln!("xoauth2-relay: {failure}");
            Ok(ExitCode::from(FAILED))
        }
    }
}

fn configuration(simulator: &Simulator, folder: &Path) -> anyhow::Result<Config> {
    let ca_file = folder.join("simulator-ca.pem");
    std::fs::write(&ca_file, simulator.ca_pem()).with_context(|| format!("cannot write {}", ca_file.display()))?;
    let text = format!(
        "data_dir = \"{}\"\n[admin]\naddress = \"127.0.0.1:0\"\n[[listener]]\naddress = \"{LISTENER}\"\n{}",
        folder.join("data").display(),
        simulator.relay_config(Some(&ca_file)),
    );
    let path = folder.join("relay.toml");
    std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
    // Nothing that is meant for another relay is to change the demo.
    Config::load(&path, &Environment::default())
        .map_err(|problems| anyhow::anyhow!("the demo's own configuration is wrong: {problems}"))
}

fn instructions(folder: &Path) -> String {
    format!(
        "\
A simulated Microsoft 365 is running, and a relay in front of it that is signed in as {MAILBOX}.
Nothing leaves this machine. Send a mail, from another terminal:

  swaks --server {LISTENER} --from noreply@moodle.example --to you@example.com

  printf 'Subject: hello\\n\\nIt works.\\n' | curl -sS smtp://{LISTENER} --crlf \\
      --mail-from noreply@moodle.example --mail-rcpt you@example.com -T -

Or in Moodle, under Site administration > Server > Email > Outgoing mail configuration:

  SMTP hosts      {LISTENER}
  SMTP security   None
  SMTP username   anything
  SMTP password   anything

How things stand:  xoauth2-relay --config {}/relay.toml status
Exchange takes 30 mails a minute: after the first two, one leaves every two seconds.
Ctrl-C ends the demo. What happens to each mail:
",
        folder.display()
    )
}

/// Tells what happens, a line at a time.
#[derive(Default)]
struct Story {
    /// What was said last of each recipient that is not settled: a retry that changes nothing is no news.
    said: HashMap<(QueueId, Address), String>,
    held: HashSet<Address>,
}

impl Story {
    fn tell(&mut self, happening: Happening) {
        match happening {
            Happening::Received { id, sender, recipients, size } => {
                let sender = sender.map_or_else(|| "<>".to_owned(), |sender| sender.to_string());
                let recipients = show::count(recipients, "recipient");
                say(&format!("{id}  taken from {sender}, {recipients}, {size} octets: safe on disk"));
            }
            Happening::Recipient { id, address, state, reply } => {
                let what = match state {
                    RecipientState::Accepted => "accepted by Exchange",
                    RecipientState::Refused => "refused by Exchange",
                    RecipientState::InDoubt => "perhaps accepted by Exchange, tried again",
                    RecipientState::Waiting | RecipientState::Held => "not yet, tried again",
                };
                let line = format!("{id}  {address}: {what}: {}", show::printable(&reply));
                if matches!(state, RecipientState::Accepted | RecipientState::Refused) {
                    self.said.remove(&(id, address));
                } else if self.said.insert((id, address), line.clone()).as_ref() == Some(&line) {
                    return;
                }
                say(&line);
            }
            Happening::Dead { id } => say(&format!("{id}  no more tries: kept as a dead letter")),
            Happening::Account { account, is_held, what } => {
                // That the demo has signed itself in is no news.
                let is_news = if is_held { self.held.insert(account.clone()) } else { self.held.remove(&account) };
                if is_news {
                    say(&format!("{account}  {}", show::printable(&what)));
                }
            }
        }
    }
}

/// A line on stdout, at once. A reader that has gone is no reason to end.
fn say(line: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{line}");
    let _ = stdout.flush();
}
