//! What the file says, made into what the program uses: all problems at once, each with file, line and key.

//!
//! The way: `document` (text to a tree with places) → `overrides` (the environment) → `check` (the tree to the structs below).
//! What keys there are is in `keys`.

mod account;
mod alert;
mod app;
mod certificate;
mod check;
mod client_certificate;
mod command;
mod document;
mod environment;
mod exposure;
mod glance;
mod keys;
mod lane;
mod overrides;
mod problem;
mod reload;
mod reply;
mod review;
mod secret;
mod section;
mod syntax;
mod tenant;
mod units;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use account::{Account, Endpoints, Grant, HostPort, PasswordLogin, Provider, SmtpTls};
pub use alert::{Alert, HookUrl, Webhook, WebhookFormat};
pub use app::{AddressPattern, App, InDoubt};
pub use certificate::{Certificate, CertificateError};
pub use client_certificate::{AssertionAlgorithm, ClientCertificate};
pub use environment::Environment;
pub use exposure::seen_by_others;
pub use glance::Glance;
pub use lane::{Glob, LaneRule};
pub use problem::{Place, Problem, Problems};
pub use reload::Followed;
pub use reply::{EnhancedCodes, ReplyCause, ReplyClass, ReplyPhase, ReplyRule, ReplyScope, ReplyThrottle};
pub use secret::{Secret, SecretError, SecretSource};
pub use tenant::Tenant;
pub(crate) use units::{duration, is_guid};

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::clock::Clock;

/// The checked configuration. Whatever holds one may rely on it: it came through every check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The machine's name: in the banner, in EHLO and in `Received`.
    pub hostname: String,
    /// Which of several installations this is, such as `production`: a copy under another name is held. `None`: nothing is compared.
    pub instance: Option<String>,
    /// Where the queue, the sign-ins and the control socket are.
    pub data_dir: PathBuf,
    /// The key that seals sign-ins; `None`: `data_dir/key`, made at the first start.
    pub key: Option<SecretSource>,
    /// Who reads the notices that no sender would read; `None`: nobody.
    pub postmaster: Option<crate::message::Address>,
    /// The domain of addresses that come without one, such as `root`.
    pub default_domain: Option<String>,
    /// What is logged.
    pub log: Log,
    /// At least one.
    pub listeners: Vec<Arc<Listener>>,
    /// In the order of the file: the first one carries mail that names no other.
    pub accounts: Vec<Arc<Account>>,
    /// In the order of the file, `default` left out.
    pub apps: Vec<Arc<App>>,
    /// The app of every program that none of these describes.
    pub default_app: Arc<App>,
    /// What the accounts of an organisation share, where that is configured; each of another name.
    pub tenants: Vec<Tenant>,
    /// What replies mean, as the administrator says: asked before the shipped table, in this order.
    pub replies: Vec<ReplyRule>,
    /// Retries and keeping.
    pub queue: Queue,
    /// The page's address; `/healthz` for now.
    pub admin: Admin,
    /// Who hears that a person is needed.
    pub alert: Alert,
    /// What can be used but should be looked at, such as a secret that has expired; in the order of the file.
    pub warnings: Vec<Problem>,
}

/// Whoever names a disk or a log by mistake should hear so, not wait for memory to run out.
const MAX_FILE: u64 = 1 << 20;

impl Config {
    /// Reads a file and checks it: what a start, a reload and `check-config` do. Blocks on the disk.
    ///
    /// `environment` overrides the file. A relative path in the file starts at the file's folder.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn load(path: &Path, environment: &Environment) -> Result<Self, Problems> {
        check::config(&read_text(path)?, path, environment, today())
    }

    /// Checks a text as if it stood in the file `file_name`, which need not exist.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn from_text(text: &str, file_name: &str, environment: &Environment) -> Result<Self, Problems> {
        check::config(text, Path::new(file_name), environment, today())
    }

    /// The account of this mailbox.
    pub fn account(&self, mailbox: &crate::message::Address) -> Option<&Arc<Account>> {
        self.accounts.iter().find(|account| account.mailbox == *mailbox)
    }

    /// What is configured for the tenant of this name, in any case.
    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| tenant.name.eq_ignore_ascii_case(name))
    }

    /// The app of this name, as messages carry it.
    pub fn app(&self, name: &str) -> Option<&Arc<App>> {
        self.apps.iter().chain([&self.default_app]).find(|app| app.name == name)
    }
}

fn read_text(path: &Path) -> Result<String, Problems> {
    let name = path.display().to_string();
    let mut octets = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut octets));
    if let Err(error) = read {
        let text = format!("cannot be read: {}; --config names another file", secret::cause(&error));
        return Err(Problems::of_file(&name, text));
    }
    if octets.len() as u64 > MAX_FILE {
        return Err(Problems::of_file(&name, "is larger than 1 MiB: that is no configuration".to_owned()));
    }
    String::from_utf8(octets).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good].split(|&octet| octet == b'\n').count();
        Problems::of_file(&name, format!("line {line} is not UTF-8: save the file in that encoding"))
    })
}

fn today() -> jiff::civil::Date {
    Clock::system().now().to_zoned(jiff::tz::TimeZone::UTC).date()
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
    /// How it speaks TLS; `None`: not at all.
    pub tls: Option<ListenerTls>,
    /// Networks that may connect at all.
    pub allow: Vec<IpNet>,
    /// Networks of proxies, which have to say for whom they connect (PROXY protocol).
    pub proxy_protocol_from: Vec<IpNet>,
    /// Whether programs have to log in.
    pub password: Passwords,
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

/// `tls` of a listener, other than `none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// When TLS begins.
    pub begins: TlsBegins,
    /// Whether mail and passwords are refused outside TLS.
    pub required: bool,
    /// Who the relay says it is, as read when the configuration was.
    pub certificate: Certificate,
}

/// When TLS begins on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsBegins {
    /// When the client says STARTTLS (RFC 3207).
    WithStartTls,
    /// With the first octet (RFC 8314 section 3).
    AtOnce,
}

/// What a listener does about passwords.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passwords {
    /// Takes any, or none at all.
    Any,
    /// Every program has to log in as an app, with that app's password.
    Checked,
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
