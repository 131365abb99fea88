//! `xoauth2-relay simulator`: our Microsoft 365 by itself, for rehearsals.
//!
//! Standard output gets the relay configuration that fits and nothing else, so that it can be written into a file; what to type next and what
//! happens goes to standard error.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf, absolute};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::options::Shared;
use super::{Event, Fault, Latency, Mailbox, Options, SharedLogin, Simulator, SmtpTls};

/// Messages kept in memory: nobody asks for them here.
const KEEP: usize = 0;

/// Options of `xoauth2-relay simulator`.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where Exchange Online listens
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:1587")]
    smtp: SocketAddr,
    /// Where Entra ID listens, in plain HTTP
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8026")]
    http: SocketAddr,
    /// A mailbox and what it may send as; may be given several times
    #[arg(long, value_name = "ADDRESS[=SEND-AS,…]", default_value = "lms@contoso.com")]
    mailbox: Vec<Mailbox>,
    /// A shared mailbox and the people who were given it: they can sign in, and send as it; may be given several times
    #[arg(long, value_name = "ADDRESS=PERSON,…")]
    shared_mailbox: Vec<Shared>,
    /// As whom those people's tokens may log in to Exchange: person, mailbox or both
    #[arg(long, default_value = "person")]
    shared_login: SharedLogin,
    /// The tenant's name
    #[arg(long, default_value = "contoso.onmicrosoft.com")]
    tenant: String,
    /// The registration's client id
    #[arg(long, default_value = "00000000-0000-0000-0000-000000000000")]
    client_id: String,
    /// The registration's secret; without it, it is a public client
    #[arg(long, env = "XOAUTH2_RELAY_SIMULATOR_SECRET", hide_env_values = true)]
    client_secret: Option<String>,
    /// Where a browser may be sent to with a code; on loopback with any port. May be given several times
    #[arg(long, value_name = "ADDRESS", default_value = "http://localhost")]
    redirect_uri: Vec<String>,
    /// What goes wrong, e.g. `data_end=554-5.2.0-quota*3`, `rcpt="550 5.1.1 Gone",to=a@b.example` (or from=, mailbox=), `token=50173`,
    /// `body=drop:1000`; may be given several times
    #[arg(long, value_name = "[PHASE=]EFFECT[*TIMES][,WHOM]")]
    fault: Vec<Fault>,
    /// How slow Exchange is: "realistic", or `connect=20ms,command=10ms,auth=50ms,data_end=150ms`
    #[arg(long, default_value = "connect=0ms")]
    latency: Latency,
    /// Messages taken from a mailbox in any minute; 0: no limit
    #[arg(long, value_name = "N", default_value_t = 30)]
    messages_per_minute: u32,
    /// Sessions of a mailbox that may send at once; 0: no limit
    #[arg(long, value_name = "N", default_value_t = 3)]
    connections: u32,
    /// Recipients taken from a mailbox in any day; 0: no limit
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    recipients_per_day: u32,
    /// How the SMTP port is protected: starttls, implicit or none
    #[arg(long, default_value = "starttls")]
    tls: SmtpTls,
    /// Where the simulator's certificate authority is written to
    #[arg(long, value_name = "FILE", default_value = "simulator-ca.pem")]
    ca_file: PathBuf,
    /// Every sign-in is approved at once, as the first mailbox
    #[arg(long)]
    auto_approve: bool,
    /// A refresh token of the first mailbox is written here, for `login --refresh-token-file`
    #[arg(long, value_name = "FILE")]
    refresh_token_file: Option<PathBuf>,
}

impl Args {
    fn options(&self) -> Options {
        Options {
            smtp: self.smtp,
            http: self.http,
            tenant: self.tenant.clone(),
            client_id: self.client_id.clone(),
            client_secret: self.client_secret.clone(),
            redirect_uris: self.redirect_uri.clone(),
            mailboxes: self.mailboxes(),
            shared_login: self.shared_login,
            messages_per_minute: self.messages_per_minute,
            connections: self.connections,
            recipients_per_day: self.recipients_per_day,
            auto_approve: self.auto_approve.then(|| self.mailbox[0].address.clone()),
            latency: self.latency,
            tls: self.tls,
            keep: KEEP,
            ..Options::default()
        }
    }
}

impl Args {
    /// Those that can sign in, each with what it may send as, then the shared ones.
    fn mailboxes(&self) -> Vec<Mailbox> {
        let mut people = self.mailbox.clone();
        for Shared(shared) in &self.shared_mailbox {
            for person in &shared.delegates {
                let known = people.iter().position(|mailbox| mailbox.is(person));
                let known = known.unwrap_or_else(|| {
                    people.push(Mailbox::new(person));
                    people.len() - 1
                });
                people[known].send_as.push(shared.address.clone());
            }
        }
        people.into_iter().chain(self.shared_mailbox.iter().map(|Shared(shared)| shared.clone())).collect()
    }
}

/// Runs the simulator until Ctrl-C or SIGTERM.
///
/// # Errors
/// If a port is taken or a file cannot be written.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let simulator = Simulator::start(args.options()).await.context("the simulator cannot start")?;
    for fault in &args.fault {
        simulator.fault(fault.clone());
    }
    let events = simulator.watch();
    let ca_file = write_ca(&args, &simulator)?;
    if let Some(file) = &args.refresh_token_file {
        let token = simulator.issue_refresh_token(&args.mailbox[0].address);
        write_secret(file, &token).with_context(|| format!("cannot write the refresh token to {}", file.display()))?;
    }
    let config = simulator.relay_config(ca_file.as_deref());
    io::stdout().write_all(config.as_bytes()).context("cannot write the configuration to standard output")?;
    io::stdout().flush().context("cannot write the configuration to standard output")?;
    eprint!("{}", next_steps(&args, &simulator));
    tell(events).await?;
    simulator.stop().await;
    Ok(())
}

fn write_ca(args: &Args, simulator: &Simulator) -> anyhow::Result<Option<PathBuf>> {
    if args.tls == SmtpTls::None {
        return Ok(None);
    }
    let file = absolute(&args.ca_file).context("cannot tell the working directory")?;
    fs::write(&file, simulator.ca_pem()).with_context(|| {
        format!("cannot write the certificate authority to {} (choose with --ca-file)", file.display())
    })?;
    Ok(Some(file))
}

/// Writes a file that only its owner can read, one that was readable before too.
fn write_secret(file: &Path, secret: &str) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    writeln!(file, "{secret}")
}

fn next_steps(args: &Args, simulator: &Simulator) -> String {
    let mailbox = &args.mailbox[0].address;
    let login = match &args.refresh_token_file {
        Some(file) => {
            format!("xoauth2-relay --config relay.toml login {mailbox} --refresh-token-file {}", file.display())
        }
        None => format!("xoauth2-relay --config relay.toml login {mailbox}"),
    };
    let person = match (&args.refresh_token_file, args.auto_approve) {
        (Some(_), _) => String::new(),
        (None, true) => "  (approved by itself)\n".to_owned(),
        (None, false) => format!("  (type its code in at {})\n", simulator.verification_url()),
    };
    format!(
        "\nExchange Online listens on {}, Entra ID on http://{}. Put the configuration above into relay.toml, then:\n\
         \n  {login}\n{person}  xoauth2-relay --config relay.toml run\n\nCtrl-C ends the simulator. What happens:\n",
        simulator.smtp_addr(),
        simulator.http_addr(),
    )
}

/// A line per event, until a signal ends it.
async fn tell(mut events: broadcast::Receiver<Event>) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for Ctrl-C")?;
    loop {
        let event = tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            event = events.recv() => event,
        };
        match event {
            Ok(event) => eprintln!("{} {event}", jiff::Zoned::now().strftime("%H:%M:%S")),
            Err(RecvError::Lagged(lost)) => eprintln!("({lost} events came too fast to be shown)"),
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        args: Args,
    }

    fn parsed(line: &[&str]) -> Result<Args, String> {
        let words = std::iter::once("simulator").chain(line.iter().copied());
        CommandLine::try_parse_from(words).map(|line| line.args).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_read() {
        let args = parsed(&[]).unwrap();
        assert_eq!(args.options().mailboxes, [Mailbox::new("lms@contoso.com")]);
        assert_eq!(args.options().smtp.port(), 1587);
        let args = parsed(&[
            "--mailbox=a@b.example=c@d.example",
            "--mailbox=e@f.example",
            "--fault=data_end=554-5.2.0-quota*3",
            "--latency=realistic",
            "--tls=none",
            "--auto-approve",
        ])
        .unwrap();
        assert_eq!(args.options().mailboxes[0].send_as, ["c@d.example"]);
        assert_eq!(args.options().auto_approve.as_deref(), Some("a@b.example"));
        assert_eq!(args.fault.len(), 1);
        let args = parsed(&["--shared-mailbox=help@b.example=svc@b.example", "--shared-login=both"]).unwrap();
        let options = args.options();
        let shared = Mailbox::new("help@b.example").shared_with("svc@b.example");
        let person = Mailbox::new("svc@b.example").send_as("help@b.example");
        assert_eq!(options.mailboxes, [Mailbox::new("lms@contoso.com"), person, shared]);
        assert_eq!(options.shared_login, SharedLogin::Both);
    }

    #[test]
    fn a_mistake_on_the_command_line_is_explained() {
        let error = parsed(&["--fault=data_end=554-5.2.0-qouta"]).unwrap_err();
        assert!(error.contains("did you mean 554-5.2.0-quota"), "{error}");
        assert!(parsed(&["--mailbox=nobody"]).unwrap_err().contains("is not an address"));
        assert!(parsed(&["--tls=ssl"]).unwrap_err().contains("starttls, implicit, none"));
    }

    #[test]
    fn a_secret_is_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        fs::write(&file, "old and longer than the new one").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        write_secret(&file, "new").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new\n");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
