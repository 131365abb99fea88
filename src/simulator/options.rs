//! What a [`Simulator`](super::Simulator) is told before it starts.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// Tells the simulator what time it is: the life of tokens and codes, the minute of the pace, the day of the quota, `Date`.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// How this Microsoft 365 behaves. The defaults are the real one's, on loopback and on free ports.
#[derive(Clone)]
pub struct Options {
    /// Where Exchange Online listens. Port 0: a free one.
    pub smtp: SocketAddr,
    /// Where Entra ID listens, in plain HTTP. Port 0: a free one.
    pub http: SocketAddr,
    /// The tenant's name; the paths of Entra ID begin with it.
    pub tenant: String,
    /// The one registered application.
    pub client_id: String,
    /// The registration's secret. Without a secret, a certificate and a federated credential it is a public client, which must not send
    /// anything of the kind.
    pub client_secret: Option<String>,
    /// Further secrets, valid at the same time.
    pub client_secrets: Vec<ClientSecret>,
    /// The registration's certificates (PEM): assertions signed with one of their keys are taken.
    pub certificates: Vec<String>,
    /// The registration's federated credential: tokens of another identity provider are taken.
    pub federated: Option<Federated>,
    /// `roles` of the tokens that the registration gets for itself. Empty where access is given by App RBAC instead.
    pub app_roles: Vec<String>,
    /// Where a browser may be sent to with a code. On loopback the port counts for nothing.
    pub redirect_uris: Vec<String>,
    /// Who can sign in.
    pub mailboxes: Vec<Mailbox>,
    /// As whom a person's token may log in, if that person has been given shared mailboxes.
    pub shared_login: SharedLogin,
    /// Messages taken from a mailbox in any 60 seconds; 0: no limit.
    pub messages_per_minute: u32,
    /// Sessions of a mailbox that may send at once; 0: no limit.
    pub connections: u32,
    /// Recipients taken from a mailbox in any 24 hours; 0: no limit.
    pub recipients_per_day: u32,
    /// The most recipients of one message.
    pub max_recipients: usize,
    /// The largest message in octets. EHLO promises more (150 MiB), as the real one's does.
    pub max_message_size: usize,
    /// How long an access token works.
    pub access_token_life: Duration,
    /// How long a refresh token may lie unused.
    pub refresh_token_life: Duration,
    /// A refresh token works once; its second use is `70000`. Microsoft's keep working beside their successors.
    pub single_use_refresh_tokens: bool,
    /// A refresh token that came by a refresh ends the one it came for, once it is used itself: its use after that is `70000`. Stricter
    /// than Microsoft's, as lenient as a client that may be killed at any moment needs it.
    pub retire_predecessors: bool,
    /// Claims put over those of every access token: another audience, no `scp`, an empty `roles`.
    pub claims: BTreeMap<String, serde_json::Value>,
    /// How often a device code may be asked after; told in whole seconds, kept exactly.
    pub device_interval: Duration,
    /// How long a device code can be used.
    pub device_code_life: Duration,
    /// This mailbox signs in at once whenever a device code is handed out: no person needed.
    pub auto_approve: Option<String>,
    /// How slow Exchange is.
    pub latency: Latency,
    /// How the SMTP port is protected.
    pub tls: SmtpTls,
    /// How long an SMTP session may say nothing.
    pub idle_timeout: Duration,
    /// How long an SMTP session may last.
    pub session_life: Duration,
    /// What time it is. The SMTP deadlines and the polling interval of device codes do not use it.
    pub now: Now,
    /// How many accepted messages are kept; the oldest go first. All are counted.
    pub keep: usize,
}

impl Default for Options {
    fn default() -> Self {
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self {
            smtp: loopback,
            http: loopback,
            tenant: "contoso.onmicrosoft.com".to_owned(),
            client_id: "00000000-0000-0000-0000-000000000000".to_owned(),
            client_secret: None,
            client_secrets: Vec::new(),
            certificates: Vec::new(),
            federated: None,
            app_roles: vec!["SMTP.SendAsApp".to_owned()],
            redirect_uris: vec!["http://localhost".to_owned()],
            mailboxes: vec![Mailbox::new("lms@contoso.com")],
            shared_login: SharedLogin::default(),
            messages_per_minute: 30,
            connections: 3,
            recipients_per_day: 10_000,
            max_recipients: 500,
            max_message_size: 35 * 1024 * 1024,
            access_token_life: Duration::from_mins(75),
            refresh_token_life: Duration::from_hours(90 * 24),
            single_use_refresh_tokens: false,
            retire_predecessors: false,
            claims: BTreeMap::new(),
            device_interval: Duration::from_secs(5),
            device_code_life: Duration::from_mins(15),
            auto_approve: None,
            latency: Latency::default(),
            tls: SmtpTls::StartTls,
            idle_timeout: Duration::from_mins(5),
            session_life: Duration::from_mins(20),
            now: Arc::new(Timestamp::now),
            keep: 1_000_000,
        }
    }
}

/// Without the secret.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("smtp", &self.smtp)
            .field("http", &self.http)
            .field("tenant", &self.tenant)
            .field("mailboxes", &self.mailboxes)
            .finish_non_exhaustive()
    }
}

/// A client secret. It has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientSecret {
    /// Its value.
    pub value: String,
    /// Entra ID does not know it everywhere before: `7000215` until then.
    pub works_from: Option<Timestamp>,
    /// `7000222` from then on.
    pub expires: Option<Timestamp>,
}

impl ClientSecret {
    /// A secret that works at once and for ever.
    pub fn new(value: impl Into<String>) -> Self {
        Self { value: value.into(), works_from: None, expires: None }
    }
}

/// A federated credential: whose tokens stand for the registration's own. The defaults are those of a Kubernetes cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Federated {
    /// `iss` of the tokens.
    pub issuer: String,
    /// `sub` of the tokens.
    pub subject: String,
    /// `aud` of the tokens.
    pub audience: String,
}

impl Default for Federated {
    fn default() -> Self {
        Self {
            issuer: "https://kubernetes.default.svc".to_owned(),
            subject: "system:serviceaccount:mail:relay".to_owned(),
            audience: "api://AzureADTokenExchange".to_owned(),
        }
    }
}

/// A mailbox that can sign in, without any password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// Its address.
    pub address: String,
    /// Other senders it has been granted Send As for.
    pub send_as: Vec<String>,
    /// The people who were given this shared mailbox: see [`SharedLogin`]. What they may send as, logged in as themselves, is a right of its own:
    /// [`Mailbox::send_as`] of theirs.
    pub delegates: Vec<String>,
}

impl Mailbox {
    /// A mailbox that sends as itself only.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), send_as: Vec::new(), delegates: Vec::new() }
    }

    /// Grants it Send As for `sender`.
    #[must_use]
    pub fn send_as(mut self, sender: impl Into<String>) -> Self {
        self.send_as.push(sender.into());
        self
    }

    /// Makes it a shared mailbox that `person` was given.
    #[must_use]
    pub fn shared_with(mut self, person: impl Into<String>) -> Self {
        self.delegates.push(person.into());
        self
    }

    /// Whether it is a shared mailbox of this person's.
    pub fn is_shared_with(&self, person: &str) -> bool {
        self.delegates.iter().any(|delegate| delegate.eq_ignore_ascii_case(person))
    }

    /// Whether Exchange takes mail of `sender` from it.
    pub fn may_send_as(&self, sender: &str) -> bool {
        self.is(sender) || self.send_as.iter().any(|own| own.eq_ignore_ascii_case(sender))
    }

    /// Whether this is its address; case counts for nothing.
    pub fn is(&self, address: &str) -> bool {
        self.address.eq_ignore_ascii_case(address)
    }
}

/// `lms@contoso.com` or `lms@contoso.com=noreply@contoso.com,help@contoso.com`: the address, then its Send As.
impl FromStr for Mailbox {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, send_as) = text.split_once('=').unwrap_or((text, ""));
        let mailbox = Mailbox {
            send_as: send_as.split(',').filter(|part| !part.trim().is_empty()).map(|s| s.trim().to_owned()).collect(),
            ..Mailbox::new(address.trim())
        };
        let addresses = std::iter::once(&mailbox.address).chain(&mailbox.send_as);
        match addresses.into_iter().find(|address| !looks_like_an_address(address)) {
            Some(wrong) => {
                Err(format!("{wrong:?} is not an address: write user@domain, or user@domain=other@domain,…"))
            }
            None => Ok(mailbox),
        }
    }
}

fn looks_like_an_address(text: &str) -> bool {
    let well_formed = text.rsplit_once('@').is_some_and(|(local, domain)| !local.is_empty() && !domain.is_empty());
    well_formed && !text.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | '"'))
}

/// What `user=` of XOAUTH2 may be for a person who was given shared mailboxes. Microsoft documents the mailbox; the person is what has been seen to
/// work. Others may always log in as themselves and as nobody else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SharedLogin {
    /// The person, as in the token's `upn`.
    #[default]
    Person,
    /// A shared mailbox of theirs, and no longer themselves.
    Mailbox,
    /// Either.
    Both,
}

impl SharedLogin {
    /// Whether a token of `person`, who was given shared mailboxes, may log in as `user`.
    pub(super) fn lets_in(self, person: &str, user: &Mailbox) -> bool {
        match self {
            Self::Person => user.is(person),
            Self::Mailbox => user.is_shared_with(person),
            Self::Both => user.is(person) || user.is_shared_with(person),
        }
    }
}

impl FromStr for SharedLogin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "person" => Ok(Self::Person),
            "mailbox" => Ok(Self::Mailbox),
            "both" => Ok(Self::Both),
            _ => Err(format!("{text:?} is not one of person, mailbox, both")),
        }
    }
}

/// `help@contoso.com=svc@contoso.com,…`: a shared mailbox and the people who were given it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Shared(pub(super) Mailbox);

impl FromStr for Shared {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The same form as of a mailbox and what it may send as.
        let Mailbox { address, send_as: delegates, .. } = text.parse()?;
        if delegates.is_empty() {
            return Err(format!("{text:?} names nobody who may use it: write shared@domain=person@domain,…"));
        }
        Ok(Self(Mailbox { delegates, ..Mailbox::new(address) }))
    }
}

/// How long Exchange thinks before it answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// Before the greeting.
    pub connect: Duration,
    /// Before each reply to a command, pipelined or not.
    pub command: Duration,
    /// Before the answer to AUTH.
    pub auth: Duration,
    /// Before the answer to the final dot.
    pub data_end: Duration,
}

impl Latency {
    /// 20 ms to connect, 10 ms a command, 50 ms for AUTH, 150 ms behind the final dot: what comparisons of relays use.
    pub const REALISTIC: Self = Self {
        connect: Duration::from_millis(20),
        command: Duration::from_millis(10),
        auth: Duration::from_millis(50),
        data_end: Duration::from_millis(150),
    };
}

/// `realistic`, or `connect=20ms,command=10ms,auth=50ms,data_end=150ms` (each may be left out).
impl FromStr for Latency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim() == "realistic" {
            return Ok(Self::REALISTIC);
        }
        let mut latency = Self::default();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(|| {
                format!("{part:?} is not a latency: write \"realistic\" or connect=20ms,command=10ms,auth=50ms,data_end=150ms")
            })?;
            let field = match name.trim() {
                "connect" => &mut latency.connect,
                "command" => &mut latency.command,
                "auth" => &mut latency.auth,
                "data_end" => &mut latency.data_end,
                other => {
                    return Err(format!("{other:?} has no latency: the names are connect, command, auth and data_end"));
                }
            };
            *field = duration(value.trim())?;
        }
        Ok(latency)
    }
}

/// `250ms`, `2s`, `5m`, `1h`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is not a duration: write 250ms, 2s, 5m or 1h");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 3600 * 1000,
        _ => return Err(wrong()),
    };
    number.checked_mul(milliseconds).map(Duration::from_millis).ok_or_else(wrong)
}

/// How the SMTP port is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SmtpTls {
    /// STARTTLS (RFC 3207); AUTH is offered behind it only.
    #[default]
    StartTls,
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// No TLS at all; AUTH is offered at once.
    None,
}

impl SmtpTls {
    /// As the relay's `smtp_tls` says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::StartTls => "starttls",
            Self::Implicit => "implicit",
            Self::None => "none",
        }
    }
}

impl FromStr for SmtpTls {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "starttls" => Ok(Self::StartTls),
            "implicit" => Ok(Self::Implicit),
            "none" => Ok(Self::None),
            _ => Err(format!("{text:?} is not one of starttls, implicit, none")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_is_read_with_its_send_as() {
        let mailbox: Mailbox = "lms@contoso.com=noreply@contoso.com, help@contoso.com".parse().unwrap();
        assert_eq!(mailbox.address, "lms@contoso.com");
        assert_eq!(mailbox.send_as, ["noreply@contoso.com", "help@contoso.com"]);
        assert!(mailbox.may_send_as("NoReply@Contoso.com"));
        assert!(!mailbox.may_send_as("dean@contoso.com"));
        for wrong in ["", "lms", "@contoso.com", "lms@", "lms@contoso.com=x", "l ms@contoso.com"] {
            assert!(wrong.parse::<Mailbox>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_shared_mailbox_is_read_and_who_may_log_in_as_whom_depends() {
        let Shared(shared) = "help@contoso.com=svc@contoso.com".parse().unwrap();
        assert_eq!(
            (shared.address.as_str(), &shared.delegates[..]),
            ("help@contoso.com", &["svc@contoso.com".to_owned()][..])
        );
        for wrong in ["help@contoso.com", "help@contoso.com=", "help=svc@contoso.com"] {
            assert!(wrong.parse::<Shared>().is_err(), "{wrong}");
        }
        let own = Mailbox::new("svc@contoso.com");
        for (policy, as_person, as_mailbox) in [("person", true, false), ("mailbox", false, true), ("both", true, true)]
        {
            let policy: SharedLogin = policy.parse().unwrap();
            let lets_in = |user| policy.lets_in("SVC@contoso.com", user);
            assert_eq!((lets_in(&own), lets_in(&shared)), (as_person, as_mailbox), "{policy:?}");
            assert!(!policy.lets_in("somebody@contoso.com", &shared), "{policy:?}");
        }
        assert!("login".parse::<SharedLogin>().unwrap_err().contains("person, mailbox, both"));
    }

    #[test]
    fn a_latency_is_read() {
        assert_eq!("realistic".parse(), Ok(Latency::REALISTIC));
        let latency: Latency = "auth=50ms,data_end=2s".parse().unwrap();
        assert_eq!(latency.auth, Duration::from_millis(50));
        assert_eq!(latency.data_end, Duration::from_secs(2));
        assert_eq!(latency.connect, Duration::ZERO);
        for wrong in ["", "10ms", "auth=10", "auth=ms", "rcpt=10ms", "auth=99999999999999999999s"] {
            assert!(wrong.parse::<Latency>().is_err(), "{wrong}");
        }
    }
}
