//! The command line: what is typed, and what is printed for people.

mod alone;
mod check_config;
mod daemon;
mod demo;
mod health;
mod import;
mod login;
mod order;
mod rotate_key;
mod sendmail;
mod show;
mod standing;
mod when;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use jiff::Timestamp;
use serde::Serialize;

use crate::config::{Config, Environment};
use crate::control::{Client, ControlError};
use crate::message::{Address, Lane};
use crate::ops::{LaneOrder, ReleaseOrder, Selection, SendTest};
use crate::service::{Inherited, InheritedError};
use crate::store::RecipientState;

/// What went wrong has been said: exit with this code.
const FAILED: u8 = 1;
const NOT_RUNNING: u8 = 3;
/// Where the configuration is unless somebody says otherwise.
const CONFIG: &str = "/etc/xoauth2-relay/relay.toml";

/// A local SMTP relay that lets programs which only know "SMTP server and password" send through Microsoft 365.
#[derive(Parser)]
#[command(name = "xoauth2-relay", version, max_term_width = 100, disable_help_subcommand = true)]
struct Cli {
    /// The configuration file
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "XOAUTH2_RELAY_CONFIG",
        default_value = CONFIG
    )]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the relay; says `ready` on stderr when it takes mail
    Run,
    /// Try it out: a simulated Microsoft 365 and a relay in one process, nothing to configure
    Demo,
    /// Run the simulated Microsoft 365 by itself, for rehearsals
    Simulator(Box<crate::simulator::Args>),
    /// Sign an account in
    Login(login::LoginArgs),
    /// How things stand: accounts, sign-ins, holds, queue, pace
    Status(Json),
    /// Whether the relay is well, by its exit code: 0 yes, 1 no, 3 not running
    Health(Json),
    /// Send a real mail and print Exchange's own reply
    SendTest(SendTestArgs),
    /// The queue
    #[command(subcommand)]
    Queue(Queue),
    /// The accounts
    #[command(subcommand)]
    Account(AccountCommand),
    /// The alerts
    #[command(subcommand)]
    Alert(AlertCommand),
    /// Take a mail from standard input, as sendmail does; also when called by that name
    #[command(disable_help_flag = true)]
    Sendmail {
        /// Options and recipients as of sendmail
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENT")]
        arguments: Vec<OsString>,
    },
    /// Seal the stored sign-ins with a new key
    RotateKey,
    /// Take over accounts and sign-ins from another program, which is left as it is
    #[command(subcommand)]
    Import(Box<import::Import>),
    /// Check the configuration and report every problem at once
    CheckConfig,
}

#[derive(Args)]
struct Json {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct SendTestArgs {
    /// To whom
    to: Address,
    /// Through which account (default: the first one)
    #[arg(long, value_name = "MAILBOX")]
    account: Option<Address>,
    #[command(flatten)]
    output: Json,
}

#[derive(Subcommand)]
enum Queue {
    /// Every message that is not finished, and the dead letters
    List(Json),
    /// Messages with all that happened to them, finished ones too
    Show {
        /// Which messages
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        #[command(flatten)]
        output: Json,
    },
    /// Try messages now, dead letters too
    Retry(Which),
    /// Let messages travel in another lane: urgent, normal or bulk
    #[command(
        override_usage = "xoauth2-relay queue lane <LANE> <ID|--all|--dead|--held|--app <NAME>|--account <MAILBOX>>"
    )]
    Lane {
        /// Which lane
        #[arg(value_name = "LANE", value_parser = lane)]
        lane: Lane,
        #[command(flatten)]
        which: Which,
    },
    /// Throw messages away
    Delete(Which),
    #[command(flatten)]
    Order(order::Order),
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// Which messages
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Every message in the queue, dead letters too
    #[arg(long)]
    all: bool,
    /// Every dead letter
    #[arg(long)]
    dead: bool,
    /// Every message that is held by itself, not through its account
    #[arg(long)]
    held: bool,
    /// Every message of this app, dead letters too
    #[arg(long, value_name = "NAME")]
    app: Option<String>,
    /// Every message in the queue of this account, dead letters too
    #[arg(long, value_name = "MAILBOX")]
    account: Option<Address>,
}

#[derive(Subcommand)]
enum AccountCommand {
    /// Every account
    List(Json),
    /// Everything about one account, with what happened to it lately
    Show {
        /// The account's mailbox
        mailbox: Address,
        #[command(flatten)]
        output: Json,
    },
    /// Send nothing through an account until it is released; its mail waits
    Hold {
        /// The account's mailbox
        mailbox: Address,
    },
    /// Use `next_client_secret` alone from now on; refused while it has not worked yet
    DropSecret {
        /// The account's mailbox
        mailbox: Address,
    },
    /// Lift any hold, try the stored sign-in at once and wake the waiting mail
    Release {
        /// The account's mailbox
        mailbox: Address,
        /// Send only what came within this time, such as 2h: waiting mail that is older becomes dead letters
        #[arg(long, value_name = "TIME", value_parser = crate::config::duration)]
        newer_than: Option<Duration>,
    },
}

#[derive(Subcommand)]
enum AlertCommand {
    /// Send a test to every webhook, command and address of [alert], and print what each answered
    Test(Json),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if sendmail::is_called(arguments.next().as_ref()) {
        let config = std::env::var_os("XOAUTH2_RELAY_CONFIG").filter(|path| !path.is_empty());
        return sendmail::run(&config.map_or_else(|| PathBuf::from(CONFIG), PathBuf::from), arguments);
    }
    let cli = Cli::parse();
    // Before there are threads: it changes the environment.
    let inherited =
        if matches!(cli.command, Command::Run) { Inherited::of_process() } else { Ok(Inherited::default()) };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("xoauth2-relay: cannot start threads: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let result = runtime.block_on(execute(cli, inherited));
    // A thread that still reads a name from DNS must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xoauth2-relay: {}", in_one_line(&error));
            let is_away = matches!(error.downcast_ref(), Some(ControlError::NotRunning(_)));
            ExitCode::from(if is_away { NOT_RUNNING } else { FAILED })
        }
    }
}

/// The error with its causes, each said once.
fn in_one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if line.is_empty() {
            line = cause;
        } else if !line.contains(&cause) {
            line = format!("{line}: {cause}");
        }
    }
    line
}

async fn execute(cli: Cli, inherited: Result<Inherited, InheritedError>) -> anyhow::Result<ExitCode> {
    let path = &cli.config;
    match cli.command {
        Command::Run => daemon::run(path, inherited).await,
        Command::Demo => demo::run().await,
        Command::Simulator(args) => crate::simulator::run(*args).await.map(|()| ExitCode::SUCCESS),
        Command::Login(args) => login::run(path, args).await,
        Command::RotateKey => rotate_key::run(path).await,
        Command::Import(import) => import::run(path, *import).await,
        Command::CheckConfig => Ok(check_config::run(path)),
        Command::Sendmail { arguments } => Ok(sendmail::run(path, arguments)),
        Command::Health(output) => health::run(path, &output).await,
        Command::Status(output) => {
            let status = client(path)?.status().await?;
            print(&output, &status, || show::status(&status, Timestamp::now()))
        }
        Command::SendTest(args) => send_test(&client(path)?, args).await,
        Command::Queue(command) => queue(&client(path)?, command).await,
        Command::Account(command) => account(path, &client(path)?, command).await,
        Command::Alert(AlertCommand::Test(output)) => alert_test(&client(path)?, &output).await,
    }
}

/// The control socket of the relay that this configuration describes.
fn client(path: &std::path::Path) -> anyhow::Result<Client> {
    Ok(Client::new(&load(path)?.data_dir)?)
}

fn load(path: &std::path::Path) -> anyhow::Result<Config> {
    Config::load(path, &Environment::of_process()).map_err(|problems| anyhow::anyhow!("{problems}"))
}

async fn send_test(client: &Client, args: SendTestArgs) -> anyhow::Result<ExitCode> {
    let order = SendTest { to: args.to.to_string(), account: args.account.map(|account| account.to_string()) };
    let tested = client.send_test(&order).await?;
    print(&args.output, &tested, || show::tested(&tested))?;
    let is_accepted = tested.state == RecipientState::Accepted.as_str();
    Ok(if is_accepted { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

async fn alert_test(client: &Client, output: &Json) -> anyhow::Result<ExitCode> {
    let tested = client.alert_test().await?;
    if tested.is_empty() && !output.json {
        anyhow::bail!("nobody would be told: [alert] of the running configuration has no webhook, command or mail_to");
    }
    print(output, &tested, || show::alerts_tested(&tested))?;
    let is_heard = !tested.is_empty() && tested.iter().all(|one| one.ok);
    Ok(if is_heard { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

async fn queue(client: &Client, command: Queue) -> anyhow::Result<ExitCode> {
    match command {
        Queue::List(output) => {
            let messages = client.queue_list().await?;
            print(&output, &messages, || show::messages(&messages))
        }
        Queue::Show { ids, output } => {
            let mut details = Vec::new();
            for id in ids {
                details.push(client.queue_show(&id).await?);
            }
            print(&output, &details, || show::details(&details))
        }
        Queue::Retry(which) => {
            let retried = client.queue_retry(&which.into()).await?;
            println!("{}", show::counted(retried, "due now, once the account and the pace allow"));
            Ok(ExitCode::SUCCESS)
        }
        Queue::Lane { lane, which } => {
            let order = LaneOrder { which: which.into(), lane };
            println!("{}", show::counted(client.queue_lane(&order).await?, &format!("in the lane {lane} now")));
            Ok(ExitCode::SUCCESS)
        }
        Queue::Delete(which) => {
            println!("{}", show::counted(client.queue_delete(&which.into()).await?, "deleted"));
            Ok(ExitCode::SUCCESS)
        }
        Queue::Order(order) => order::run(client, order).await,
    }
}

fn lane(name: &str) -> Result<Lane, String> {
    Lane::parse(name).ok_or_else(|| "write urgent, normal or bulk, and behind it the messages".to_owned())
}

impl From<Which> for Selection {
    fn from(which: Which) -> Self {
        match which {
            Which { all: true, .. } => Self::All,
            Which { dead: true, .. } => Self::Dead,
            Which { held: true, .. } => Self::Held,
            Which { app: Some(name), .. } => Self::App(name),
            Which { account: Some(mailbox), .. } => Self::Account(mailbox.to_string()),
            Which { ids, .. } => Self::Ids(ids),
        }
    }
}

async fn account(path: &std::path::Path, client: &Client, command: AccountCommand) -> anyhow::Result<ExitCode> {
    match command {
        AccountCommand::List(output) => {
            let accounts = client.account_list().await?;
            return print(&output, &accounts, || show::accounts(&accounts));
        }
        AccountCommand::Show { mailbox, output } => {
            let detail = client.account_show(&mailbox).await?;
            return print(&output, &detail, || show::account(&detail, Timestamp::now()));
        }
        AccountCommand::Hold { mailbox } => {
            client.account_hold(&mailbox).await?;
            println!("{mailbox} is held: nothing leaves through it until `xoauth2-relay account release {mailbox}`");
        }
        AccountCommand::DropSecret { mailbox } => {
            client.account_drop_secret(&mailbox).await?;
            print!("{}", show::dropped_secret(&mailbox, path));
        }
        AccountCommand::Release { mailbox, newer_than } => {
            let order = ReleaseOrder { newer_than: newer_than.map(|age| age.as_secs()) };
            let released = client.account_release(&mailbox, &order).await?;
            print!("{}", show::released(&mailbox, &order, &released));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print<T: Serialize>(output: &Json, value: &T, text: impl FnOnce() -> String) -> anyhow::Result<ExitCode> {
    let text = if output.json {
        serde_json::to_string_pretty(value).context("the answer cannot be written as JSON")?
    } else {
        text()
    };
    match writeln!(io::stdout().lock(), "{}", text.trim_end()) {
        // Whoever has read enough closes the pipe, as in `status | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        written => written.context("the answer cannot be printed").map(|()| ExitCode::SUCCESS),
    }
}
