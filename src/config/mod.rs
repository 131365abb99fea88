//! What the file says, made into what the program uses: all problems at once, each with file, line and key.

mod account;
mod secret;

pub use account::{Account, Endpoints, Grant, HostPort, Provider, SmtpTls};
pub use secret::{Secret, SecretError, SecretSource};

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

/// The checked configuration. Whatever holds one may rely on it: it came through every check.
#[derive(Clone, Debug)]
pub struct Config {
    /// The machine's name: in the banner, in EHLO and in `Received`.
    pub hostname: String,
    /// Where the queue, the sign-ins and the control socket are.
    pub data_dir: PathBuf,
    /// The key that seals sign-ins; `None`: `data_dir/key`, made at the first start.
    pub key: Option<SecretSource>,
    /// What is logged.
    pub log: Log,
    /// At least one.
    pub listeners: Vec<Arc<Listener>>,
    /// In the order of the file: the first one carries mail that names no other.
    pub accounts: Vec<Arc<Account>>,
    /// Retries and keeping.
    pub queue: Queue,
    /// The page's address; `/healthz` for now.
    pub admin: Admin,
}

impl Config {
    /// The account of this mailbox.
    pub fn account(&self, mailbox: &crate::message::Address) -> Option<&Arc<Account>> {
        self.accounts.iter().find(|account| account.mailbox == *mailbox)
    }
}

/// `log` and `log_format`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// A level or a `tracing` filter: `info`, `debug`, `xoauth2_relay::outbound=trace,info`.
    pub filter: String,
    /// One JSON object a line instead of text.
    pub json: bool,
}

/// One `[[listener]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens.
    pub address: SocketAddr,
    /// A machine without this address family starts without this listener: the default `[::1]` one.
    pub optional: bool,
    /// Networks that may connect at all.
    pub allow: Vec<IpNet>,
    /// The largest message in octets.
    pub max_message_size: u64,
    /// The most recipients of one message.
    pub max_recipients: usize,
    /// The most connections at once.
    pub max_connections: usize,
    /// The most connections at once from one address.
    pub max_connections_per_address: usize,
    /// How long a session may say nothing.
    pub idle_timeout: Duration,
}

/// `[queue]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Waits between tries; never empty; the last one repeats.
    pub retry: Vec<Duration>,
    /// How long a message is tried; time on hold, on pace or on quota does not count.
    pub give_up_after: Duration,
    /// How long the journal is kept.
    pub journal_days: u32,
    /// How long dead letters are kept.
    pub dead_letter_days: u32,
    /// Whether subjects are kept for the journal.
    pub record_subjects: bool,
    /// Below this much free space no mail is accepted (`452`), in octets; on a small volume 5 % of it counts instead.
    pub min_free_disk: u64,
}

/// `[admin]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where `/healthz` answers.
    pub address: SocketAddr,
}
