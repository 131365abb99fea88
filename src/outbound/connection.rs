//! One session with the server, from the first packet to an accepted login.
//!
//! Nothing secret leaves before the connection is protected by a certificate that was checked; only to loopback may it be plain.

use std::fmt;
use std::io;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::capabilities::Capabilities;
use super::credentials::{self, Login};
use super::error::AttemptError;
use super::sessions::Counted;
use super::tls::TlsConfigs;
use super::verdict::{Class, Judge, Step};
use super::wire::{NoReply, Unsent, Wire, within};
use crate::config::{Account, HostPort, SmtpTls};
use crate::smtp::Reply;

/// How long the server is waited for. RFC 5321 section 4.5.3.2 names the shortest waits that suit everybody; for a greeting and a
/// login its 5 minutes would only keep other mail waiting, and Exchange answers within seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To resolve the name, for each address to answer, and for the TLS handshake: 30 s.
    pub connect: Duration,
    /// For the greeting: 60 s.
    pub greeting: Duration,
    /// For EHLO, STARTTLS, AUTH and RSET: 60 s.
    pub command: Duration,
    /// For MAIL and each RCPT: 5 minutes.
    pub envelope: Duration,
    /// For DATA: 2 minutes.
    pub data: Duration,
    /// For the server to take 64 KiB of the message: 3 minutes.
    pub block: Duration,
    /// For the answer to the final dot: 10 minutes. Too short a wait makes duplicates.
    pub data_end: Duration,
    /// For QUIT: 5 s; nobody depends on it.
    pub quit: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let (seconds, minutes) = (Duration::from_secs, Duration::from_mins);
        Self {
            connect: seconds(30),
            greeting: seconds(60),
            command: seconds(60),
            envelope: minutes(5),
            data: minutes(2),
            block: minutes(3),
            data_end: minutes(10),
            quit: seconds(5),
        }
    }
}

/// What the server said first. Microsoft's support asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// The server as configured.
    pub host: HostPort,
    /// The whole banner.
    pub banner: Reply,
}

impl Greeting {
    /// The name the server gives itself: `BE1P281CA0440.outlook.office365.com`.
    pub fn server(&self) -> &str {
        self.words().next().unwrap_or_default()
    }

    /// The session's id at the end of newer banners: `08DDD30471EE4ED5`.
    pub fn session(&self) -> Option<&str> {
        let id = self.words().last()?.strip_prefix('[')?.strip_suffix(']')?;
        (!id.is_empty() && id.bytes().all(|b| b.is_ascii_hexdigit())).then_some(id)
    }

    fn words(&self) -> impl Iterator<Item = &str> {
        self.banner.lines().first().map_or("", String::as_str).split_ascii_whitespace()
    }
}

impl fmt::Display for Greeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.session() {
            Some(session) => write!(f, "{} session {session}", self.server()),
            None => f.write_str(self.server()),
        }
    }
}

/// What opening a session goes by.
#[derive(Clone, Copy)]
pub(super) struct Opening<'a> {
    pub(super) account: &'a Account,
    pub(super) login: &'a Login,
    pub(super) hostname: &'a str,
    pub(super) tls: &'a TlsConfigs,
    pub(super) timeouts: Timeouts,
    pub(super) judge: &'a Judge,
    pub(super) hurry: &'a CancellationToken,
}

/// A session that is logged in, if there is something to log in with.
#[derive(Debug)]
pub(super) struct Connection {
    host: HostPort,
    wire: Wire,
    pub(super) timeouts: Timeouts,
    pub(super) greeting: Greeting,
    pub(super) offers: Capabilities,
    pub(super) opened: Instant,
    /// Messages tried in it.
    pub(super) messages: u32,
    /// The last transaction failed: RSET goes before the next one.
    pub(super) needs_reset: bool,
    /// What its replies mean.
    pub(super) judge: Judge,
    /// The relay is about to end: a message whose dot has left is in doubt now rather than cut off without a word.
    hurry: CancellationToken,
    /// Last, so that the socket is closed before it counts as closed.
    _counted: Counted,
}

impl Connection {
    /// Connects, protects, logs in.
    pub(super) async fn open(opening: Opening<'_>, counted: Counted) -> Result<Self, AttemptError> {
        let Opening { account, timeouts, .. } = opening;
        let host = account.smtp.clone();
        let stream = connect(account, timeouts.connect).await?;
        let ehlo = ehlo(opening.hostname, &stream);
        let mut wire = Wire::new(stream);
        if account.smtp_tls == SmtpTls::Implicit {
            wire = protect(wire, opening).await?;
        }
        let greeting = Greeting { host: host.clone(), banner: Reply::new(220, "") };
        let mut connection = Self {
            host,
            wire,
            timeouts,
            greeting,
            offers: Capabilities::default(),
            opened: Instant::now(),
            messages: 0,
            needs_reset: false,
            judge: opening.judge.clone(),
            hurry: opening.hurry.clone(),
            _counted: counted,
        };
        connection.greet().await?;
        connection.hello(&ehlo).await?;
        if account.smtp_tls == SmtpTls::StartTls {
            connection = connection.start_tls(opening).await?;
            connection.hello(&ehlo).await?;
        }
        connection.login(opening.login).await?;
        Ok(connection)
    }

    /// Whether the server has been silent since the last reply, and is still there. Does not wait.
    pub(super) async fn is_quiet(&mut self) -> bool {
        self.wire.is_quiet().await
    }

    /// Says goodbye. Whatever comes of it, the socket is closed afterwards.
    pub(super) async fn quit(mut self) {
        let _ = self.command("QUIT", "saying goodbye", self.timeouts.quit).await;
    }

    /// Sends one line and waits for its reply.
    pub(super) async fn command(
        &mut self,
        line: &str,
        doing: &'static str,
        limit: Duration,
    ) -> Result<Reply, AttemptError> {
        // A server that has gone may have said why: that is the reply, or there is none.
        let _ = self.wire.send(format!("{line}\r\n").as_bytes(), limit).await;
        self.reply(doing, limit).await
    }

    /// Sends bytes as they are.
    pub(super) async fn send(&mut self, bytes: &[u8], limit: Duration) -> Result<(), Unsent> {
        self.wire.send(bytes, limit).await
    }

    /// The next reply.
    pub(super) async fn reply(&mut self, doing: &'static str, limit: Duration) -> Result<Reply, AttemptError> {
        self.wire.reply(limit).await.map_err(|no_reply| self.failed(doing, no_reply))
    }

    /// The answer to the final dot, unless the relay is about to end.
    pub(super) async fn last_reply(&mut self) -> Result<Reply, AttemptError> {
        let doing = "waiting for the answer to the message";
        let (hurry, limit) = (self.hurry.clone(), self.timeouts.data_end);
        match hurry.run_until_cancelled(self.reply(doing, limit)).await {
            Some(reply) => reply,
            None => Err(self.failed(doing, NoReply::Lost(io::Error::other("the relay is being stopped")))),
        }
    }

    /// A reply that nobody has asked for yet.
    pub(super) fn reply_at_hand(&mut self, doing: &'static str) -> Result<Option<Reply>, AttemptError> {
        self.wire.reply_at_hand().map_err(|no_reply| self.failed(doing, no_reply))
    }

    /// The server did what it must not.
    pub(super) fn misbehaved(&self, problem: impl Into<String>) -> AttemptError {
        AttemptError::Protocol { host: self.host.clone(), problem: problem.into() }
    }

    fn failed(&self, doing: &'static str, no_reply: NoReply) -> AttemptError {
        match no_reply {
            NoReply::Lost(source) => AttemptError::Network { host: self.host.clone(), doing, source },
            NoReply::Garbled(error) => self.misbehaved(error.to_string()),
        }
    }

    /// The server said no, and that ends the attempt.
    pub(super) fn refused(&self, step: Step, reply: Reply) -> AttemptError {
        let verdict = Box::new(self.judge.judge(step, &reply));
        AttemptError::Refused { host: self.host.clone(), step, reply, verdict }
    }

    async fn greet(&mut self) -> Result<(), AttemptError> {
        let banner = self.reply("waiting for its greeting", self.timeouts.greeting).await?;
        if !banner.is_positive() {
            return Err(self.refused(Step::Greeting, banner));
        }
        self.greeting.banner = banner;
        Ok(())
    }

    /// What is offered before TLS counts for nothing afterwards (RFC 3207 section 4.2).
    async fn hello(&mut self, name: &str) -> Result<(), AttemptError> {
        let reply = self.command(&format!("EHLO {name}"), "saying EHLO", self.timeouts.command).await?;
        if !reply.is_positive() {
            return Err(self.refused(Step::Ehlo, reply));
        }
        self.offers = Capabilities::of(&reply);
        Ok(())
    }

    async fn start_tls(mut self, opening: Opening<'_>) -> Result<Self, AttemptError> {
        if !self.offers.starttls {
            let problem =
                "it does not offer STARTTLS; where TLS begins at once (port 465), set smtp_tls = \"implicit\"";
            return Err(AttemptError::Tls { host: self.host, problem: problem.to_owned() });
        }
        let reply = self.command("STARTTLS", "saying STARTTLS", self.timeouts.command).await?;
        if reply.code() != 220 {
            return Err(self.refused(Step::StartTls, reply));
        }
        // Whatever waits behind the reply was not protected by anything: somebody in between may have put it there.
        if !self.wire.is_quiet().await {
            return Err(self.misbehaved("it went on talking behind its reply to STARTTLS; nothing was sent"));
        }
        self.wire = protect(self.wire, opening).await?;
        Ok(self)
    }

    async fn login(&mut self, login: &Login) -> Result<(), AttemptError> {
        let (user, reply) = match login {
            Login::Nothing => return Ok(()),
            Login::Token { user, token } => (user.to_string(), self.xoauth2(&credentials::xoauth2(user, token)).await?),
            Login::Password { user, password } if self.offers.mechanism("PLAIN") => {
                (user.clone(), self.say(&credentials::plain(user, password)).await?)
            }
            Login::Password { user, password } => {
                let answers = [credentials::answer(user), credentials::answer(password.expose())];
                (user.clone(), self.auth_login(&answers).await?)
            }
        };
        let verdict = self.judge.judge(Step::Auth, &reply);
        match verdict.class {
            Class::Accepted if reply.is_positive() => Ok(()),
            Class::Accepted => Err(self.misbehaved("it asks for more and more instead of answering the login")),
            Class::Held(_) => {
                let (host, verdict) = (self.host.clone(), Box::new(verdict));
                Err(AttemptError::Login { host, user, reply, verdict })
            }
            _ => Err(self.refused(Step::Auth, reply)),
        }
    }

    /// XOAUTH2 in the two-step form: real tokens make lines too long for the first command.
    async fn xoauth2(&mut self, line: &[u8]) -> Result<Reply, AttemptError> {
        if !self.offers.mechanism("XOAUTH2") {
            return Err(self.lacks("XOAUTH2"));
        }
        let mut reply = self.say(b"AUTH XOAUTH2\r\n").await?;
        if reply.code() == 334 {
            reply = self.say(line).await?;
        }
        if reply.code() == 334 {
            // The reason in detail; the real reply follows once it is acknowledged.
            reply = self.say(b"\r\n").await?;
        }
        Ok(reply)
    }

    /// For servers without PLAIN, such as Exchange's own.
    async fn auth_login(&mut self, answers: &[zeroize::Zeroizing<Vec<u8>>]) -> Result<Reply, AttemptError> {
        if !self.offers.mechanism("LOGIN") {
            return Err(self.lacks("PLAIN or LOGIN"));
        }
        let mut reply = self.say(b"AUTH LOGIN\r\n").await?;
        for line in answers {
            if reply.code() != 334 {
                break;
            }
            reply = self.say(line).await?;
        }
        Ok(reply)
    }

    fn lacks(&self, mechanism: &str) -> AttemptError {
        let offered = self.offers.auth.join(" ");
        self.misbehaved(format!("it does not offer AUTH {mechanism}, only: {offered:?}"))
    }

    /// A line of the login and its reply.
    async fn say(&mut self, line: &[u8]) -> Result<Reply, AttemptError> {
        let limit = self.timeouts.command;
        // A server that has gone may have said why: that is the reply, or there is none.
        let _ = self.wire.send(line, limit).await;
        self.reply("logging in", limit).await
    }
}

/// The first address that answers.
async fn connect(account: &Account, limit: Duration) -> Result<TcpStream, AttemptError> {
    let host = &account.smtp;
    let unreachable = |source| AttemptError::Unreachable { host: host.clone(), source };
    let found = within(limit, lookup_host((host.host.as_str(), host.port))).await.map_err(unreachable)?;
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in found {
        if account.smtp_tls == SmtpTls::None && !address.ip().to_canonical().is_loopback() {
            let problem = format!("smtp_tls = \"none\" is for loopback, and {} is not", address.ip());
            return Err(AttemptError::Tls { host: host.clone(), problem });
        }
        match within(limit, TcpStream::connect(address)).await {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(unreachable)?;
                return Ok(stream);
            }
            Err(error) => failed = error,
        }
    }
    Err(unreachable(failed))
}

/// The name for EHLO; the address where the machine's name cannot be said (RFC 5321 section 4.1.4).
fn ehlo(hostname: &str, stream: &TcpStream) -> String {
    let sayable = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    if !hostname.is_empty() && hostname.len() <= 255 && hostname.chars().all(sayable) {
        return hostname.to_owned();
    }
    match stream.local_addr().map(|local| local.ip().to_canonical()) {
        Ok(std::net::IpAddr::V4(ip)) => format!("[{ip}]"),
        Ok(std::net::IpAddr::V6(ip)) => format!("[IPv6:{ip}]"),
        Err(_) => "[127.0.0.1]".to_owned(),
    }
}

async fn protect(wire: Wire, opening: Opening<'_>) -> Result<Wire, AttemptError> {
    let host = &opening.account.smtp;
    let wrong = |problem| AttemptError::Tls { host: host.clone(), problem };
    let config = opening.tls.trusting(&opening.account.extra_roots).map_err(|error| wrong(error.to_string()))?;
    let name = ServerName::try_from(host.host.clone()).map_err(|error| wrong(error.to_string()))?;
    wire.protect(config, name, opening.timeouts.connect).await.map_err(|error| handshake_failed(host, error))
}

fn handshake_failed(host: &HostPort, source: io::Error) -> AttemptError {
    let problem = match source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        None => {
            return AttemptError::Network { host: host.clone(), doing: "agreeing on TLS", source };
        }
        Some(rustls::Error::InvalidCertificate(error)) => {
            format!("its certificate was not accepted: {error}; the root of a private authority goes into ca_file")
        }
        Some(rustls::Error::InvalidMessage(_)) => {
            "it answered with something that is not TLS; does smtp_tls fit the port?".to_owned()
        }
        Some(error) => error.to_string(),
    };
    AttemptError::Tls { host: host.clone(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greeting(banner: &str) -> String {
        let host = HostPort { host: "smtp.office365.com".into(), port: 587 };
        Greeting { host, banner: Reply::new(220, banner) }.to_string()
    }

    #[test]
    fn the_banner_of_exchange_tells_server_and_session() {
        let words = "Microsoft ESMTP MAIL Service ready at Mon, 4 Aug 2025 11:15:30 +0000";
        let server = "BE1P281CA0440.outlook.office365.com";
        assert_eq!(
            greeting(&format!("{server} {words} [08DDD30471EE4ED5]")),
            format!("{server} session 08DDD30471EE4ED5")
        );
        assert_eq!(greeting(&format!("{server} {words}")), server);
        assert_eq!(greeting("mx [not hex]"), "mx");
        assert_eq!(greeting(""), "");
    }
}
