//! `[[account]]`: a mailbox through which mail leaves.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;

use super::{ClientCertificate, SecretSource};
use crate::message::Address;

/// A checked `[[account]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The address mail leaves as.
    pub mailbox: Address,
    /// `user=` of XOAUTH2 and the person signed in; the pace belongs to it. Of a smarthost the user name if that is an address, else the
    /// mailbox.
    pub login: Address,
    /// Whose rules apply.
    pub provider: Provider,
    /// How access tokens are had.
    pub grant: Grant,
    /// User name and password of a smarthost; without them it takes mail without a login.
    pub password: Option<PasswordLogin>,
    /// The tenant's name or id; empty for a custom provider without one.
    pub tenant: String,
    /// The registration's client id; empty for a smarthost.
    pub client_id: String,
    /// The registration's secret, if that is how it proves itself.
    pub client_secret: Option<SecretSource>,
    /// The secret that takes its place: tried beside it until the old one is dropped.
    pub next_client_secret: Option<SecretSource>,
    /// The day on which the secret ends, as far as the administrator said so.
    pub client_secret_expires: Option<jiff::civil::Date>,
    /// The registration's certificate, if that is how it proves itself.
    pub certificate: Option<ClientCertificate>,
    /// The token of another identity provider, if that is how it proves itself. Read anew for each request: it lives for minutes.
    pub federated_token: Option<SecretSource>,
    /// Other senders that Exchange has granted it.
    pub send_as: Vec<Address>,
    /// The pace; at least 1.
    pub messages_per_minute: u32,
    /// Sessions at once; at least 1.
    pub connections: u32,
    /// Recipients in any 24 hours; at least 1.
    pub recipients_per_day: u32,
    /// The account that carries urgent mail while this one is held.
    pub fallback: Option<Address>,
    /// Where tokens come from; empty for a smarthost.
    pub endpoints: Endpoints,
    /// Where mail goes.
    pub smtp: HostPort,
    /// How the SMTP connection is protected.
    pub smtp_tls: SmtpTls,
    /// The file with extra roots.
    pub ca_file: Option<PathBuf>,
    /// The certificates of `ca_file`, for this account's HTTPS and SMTP beside the platform's own.
    pub extra_roots: Arc<[CertificateDer<'static>]>,
}

impl Account {
    /// Whether it has a sign-in, and with it access tokens.
    pub fn signs_in(&self) -> bool {
        self.grant != Grant::None
    }

    /// As whom it logs in, as configured; `None`: not at all.
    pub fn user_name(&self) -> Option<&str> {
        match &self.password {
            Some(login) => Some(&login.user),
            None => self.signs_in().then(|| self.login.as_str()),
        }
    }
}

/// How a smarthost is logged in to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PasswordLogin {
    /// The user name; often, but not always an address.
    pub user: String,
    /// Where the password is. Read anew for each session.
    pub password: SecretSource,
}

/// `provider`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Entra ID and Exchange Online.
    Microsoft,
    /// Gmail and Google Workspace.
    Google,
    /// Whatever its endpoints say.
    Custom,
    /// A server with a user name and a password, or with nothing at all: the way out of last resort.
    SmartHost,
}

/// `grant`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// A person signed in once; refresh tokens since then.
    Delegated,
    /// The registration itself asks, with its secret, certificate or federated token (client credentials, RFC 6749 section 4.4):
    /// nobody signs in.
    Application,
    /// There are no tokens: a smarthost.
    None,
}

/// The OAuth endpoints after provider, cloud, tenant and overrides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// RFC 6749 section 3.2.
    pub token: String,
    /// RFC 6749 section 3.1: where a person can sign in with a browser; a custom provider may have none. `login` points to it
    /// where there is no device endpoint.
    pub authorize: Option<String>,
    /// RFC 8628 section 3.1; a custom provider may have none.
    pub device: Option<String>,
    /// What is asked for.
    pub scopes: Vec<String>,
}

/// `smtp = "host:port"`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name or an address without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// Whether it is this machine beyond doubt: an address of loopback, or `localhost` (RFC 6761 section 6.3).
    pub fn is_loopback(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            || self.host.eq_ignore_ascii_case("localhost")
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// `smtp_tls`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SmtpTls {
    /// RFC 3207; required, never skipped.
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// Plain; only to loopback.
    None,
}
