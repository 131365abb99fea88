//! A relay and a simulated Microsoft 365 in a folder of their own, and a small client that says just what it is told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use tempfile::TempDir;
use xoauth2_relay::clock::Clock;
use xoauth2_relay::config::{Config, Environment, Secret};
use xoauth2_relay::message::{Address, Body, Envelope, Lane, Protocol, QueueId, Trace};
use xoauth2_relay::ops::{HoldView, MessageView};
use xoauth2_relay::relay::Relay;
use xoauth2_relay::simulator::{Accepted, Mailbox, Options, Simulator};
use xoauth2_relay::store::Incoming;

/// The mailbox that everything leaves through.
pub const MAILBOX: &str = "lms@contoso.com";
/// Another sender that Exchange has granted it.
pub const NOREPLY: &str = "noreply@contoso.com";
/// How long a condition is waited for before the test gives up: long, since machines are busy, and never waited out.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A relay in front of a simulated Microsoft 365.
pub struct Rig {
    pub simulator: Simulator,
    pub relay: Relay,
    pub folder: TempDir,
    extra: String,
}

/// A listener on a port that is free.
pub const LISTENER: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\n";

/// A Microsoft 365 with one mailbox that takes mail as fast as it comes.
pub fn quick() -> Options {
    Options {
        mailboxes: vec![Mailbox::new(MAILBOX).send_as(NOREPLY)],
        messages_per_minute: 1_000_000,
        recipients_per_day: 1_000_000,
        ..Options::default()
    }
}

impl Rig {
    /// Signed in, and with nothing to wait for.
    pub async fn start() -> Self {
        Self::with(quick(), "[queue]\nretry = [\"1s\"]\n").await
    }

    /// With a Microsoft 365 of this kind, and more configuration.
    pub async fn with(options: Options, extra: &str) -> Self {
        let rig = Self::not_signed_in(options, extra).await;
        rig.sign_in().await;
        rig
    }

    /// Signed in, with a listener of this kind.
    pub async fn with_listener(options: Options, listener: &str) -> Self {
        let rig = Self::build(options, listener, "").await;
        rig.sign_in().await;
        rig
    }

    /// Nobody has signed in yet.
    pub async fn not_signed_in(options: Options, extra: &str) -> Self {
        Self::build(options, LISTENER, extra).await
    }

    async fn build(options: Options, listener: &str, extra: &str) -> Self {
        let simulator = Simulator::start(options).await.unwrap();
        let folder = TempDir::new().unwrap();
        let extra = format!("{extra}\n{listener}");
        let relay = start_relay(&simulator, folder.path(), &extra).await;
        Self { simulator, relay, folder, extra }
    }

    pub async fn sign_in(&self) {
        sign_in(&self.simulator, &self.relay, MAILBOX).await;
    }

    /// Stops the relay in order and starts it again on the same folder.
    pub async fn restart(self) -> Self {
        let Self { simulator, relay, folder, extra } = self;
        relay.stop().await;
        let relay = start_relay(&simulator, folder.path(), &extra).await;
        Self { simulator, relay, folder, extra }
    }

    /// Where mail is taken.
    pub fn door(&self) -> SocketAddr {
        self.relay.listeners()[0]
    }

    /// Hands in one mail, and expects it to be taken.
    pub async fn submit(&self, from: &str, to: &[&str], mail: &str) {
        let (door, from, mail) = (self.door(), from.to_owned(), mail.to_owned());
        let to: Vec<String> = to.iter().map(|&to| to.to_owned()).collect();
        blocking(move || {
            let mut client = Client::greeted(door);
            client.submit(&from, &to, &mail);
            assert!(client.ask("QUIT").starts_with("221"));
        })
        .await;
    }

    /// Waits for so many mails to be accepted in all.
    pub async fn until_accepted(&self, count: usize) -> Vec<Accepted> {
        let waited = tokio::time::timeout(PATIENCE, self.simulator.wait_for_accepted(count)).await;
        let accepted = self.simulator.accepted();
        assert!(
            waited.is_ok(),
            "only {} of {count} mails were accepted: {:#?}",
            accepted.len(),
            self.relay.ops().queue_list().await
        );
        accepted
    }

    pub async fn queue(&self) -> Vec<MessageView> {
        self.relay.ops().queue_list().await.unwrap()
    }

    /// Waits until the queue looks like this.
    pub async fn until_queue(&self, what: &str, is_so: impl Fn(&[MessageView]) -> bool) -> Vec<MessageView> {
        until_queue(&self.relay, what, is_so).await
    }

    pub async fn until_queue_is_empty(&self) {
        self.until_queue("an empty queue", <[MessageView]>::is_empty).await;
    }

    /// Waits until the account is held, or is not; what its hold says.
    pub async fn until_held(&self, is_held: bool) -> Option<HoldView> {
        until_held(&self.relay, is_held).await
    }

    pub async fn stop(self) {
        self.relay.stop().await;
        self.simulator.stop().await;
    }
}

/// Waits until this relay's queue looks like this.
pub async fn until_queue(relay: &Relay, what: &str, is_so: impl Fn(&[MessageView]) -> bool) -> Vec<MessageView> {
    let since = Instant::now();
    loop {
        let queue = relay.ops().queue_list().await.unwrap();
        if is_so(&queue) {
            return queue;
        }
        assert!(since.elapsed() < PATIENCE, "{what} never came true of {queue:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until this relay's first account is held, or is not; what its hold says.
pub async fn until_held(relay: &Relay, is_held: bool) -> Option<HoldView> {
    let since = Instant::now();
    loop {
        let status = relay.ops().status().await.unwrap();
        let hold = status.accounts.into_iter().next().unwrap().hold;
        if hold.is_some() == is_held {
            return hold;
        }
        assert!(since.elapsed() < PATIENCE, "waited for a hold: {is_held}, found {hold:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn mailbox() -> Address {
    Address::parse(MAILBOX).unwrap()
}

/// A mail of one recipient as it is given to the store.
pub fn incoming(id: QueueId, at: Timestamp, lane: Lane, to: &str, mail: Bytes) -> Incoming {
    Incoming {
        id,
        received_at: at,
        app: "default".to_owned(),
        account: mailbox(),
        lane,
        lane_why: None,
        outside: false,
        envelope: Envelope {
            sender: Some(mailbox()),
            recipients: vec![Address::parse(to).unwrap().into()],
            ..Envelope::default()
        },
        trace: Trace {
            peer: Ipv4Addr::LOCALHOST.into(),
            helo: None,
            protocol: Protocol { extended: true, tls: false, authenticated: false },
            user: None,
        },
        subject: None,
        size: u64::try_from(mail.len()).unwrap(),
        body: Body::Inline(mail),
    }
}

/// The configuration of a relay in `folder` that sends through this simulator. `extra` comes behind the account; keys of the account
/// itself come first in it.
pub fn configuration(simulator: &Simulator, folder: &Path, extra: &str) -> String {
    let ca_file = folder.join("ca.pem");
    std::fs::write(&ca_file, simulator.ca_pem()).unwrap();
    format!(
        "hostname = \"relay.contoso.com\"\ndata_dir = \"{}\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         {}\nmessages_per_minute = 1000000\nrecipients_per_day = 1000000\n\
         send_as = [\"{NOREPLY}\"]\n{extra}",
        folder.join("data").display(),
        without_limits(&simulator.relay_config(Some(&ca_file))),
    )
}

/// The simulator's own advice, without the lines that a test sets itself.
fn without_limits(config: &str) -> String {
    let own = ["messages_per_minute", "recipients_per_day", "send_as"];
    let lines = config.lines().filter(|line| !own.iter().any(|key| line.starts_with(key)));
    lines.collect::<Vec<_>>().join("\n")
}

pub async fn start_relay(simulator: &Simulator, folder: &Path, extra: &str) -> Relay {
    start_relay_with(&configuration(simulator, folder, extra)).await
}

/// A relay with this configuration.
pub async fn start_relay_with(text: &str) -> Relay {
    start_relay_at(text, Clock::system()).await
}

/// A relay with this configuration and this calendar.
pub async fn start_relay_at(text: &str, clock: Clock) -> Relay {
    Relay::start(checked(text), Environment::default(), clock).await.unwrap()
}

/// The configuration that this text is.
pub fn checked(text: &str) -> Config {
    let config = Config::from_text(text, "relay.toml", &Environment::default());
    config.unwrap_or_else(|problems| panic!("{problems}\nin\n{text}"))
}

/// A person signs this mailbox in.
pub async fn sign_in(simulator: &Simulator, relay: &Relay, mailbox: &str) {
    let token = Secret::new(simulator.issue_refresh_token(mailbox));
    relay.ops().login_take_in(&Address::parse(mailbox).unwrap(), token).await.unwrap();
}

/// Runs something that blocks beside the runtime.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

/// An SMTP client without opinions.
pub struct Client {
    reader: BufReader<TcpStream>,
    stream: TcpStream,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap()
    }

    /// Connected, if somebody listens there.
    pub fn try_connect(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Some(Self { reader: BufReader::new(stream.try_clone().unwrap()), stream })
    }

    /// Connected, greeted, and EHLO said.
    pub fn greeted(address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        assert!(client.reply().starts_with("220 "));
        assert!(client.ask("EHLO client.example").starts_with("250"));
        client
    }

    /// As much as the other side takes before it closes.
    pub fn send_what_it_takes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Whether the other side was still there.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// One reply, all its lines.
    pub fn reply(&mut self) -> String {
        self.try_reply().expect("a reply")
    }

    /// One reply, or `None` at the end of the connection.
    pub fn try_reply(&mut self) -> Option<String> {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            reply.push_str(&line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return Some(reply.trim_end().to_owned());
            }
        }
    }

    pub fn ask(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes());
        self.reply()
    }

    /// One mail within the session.
    pub fn submit<T: AsRef<str>>(&mut self, from: &str, to: &[T], mail: &str) -> String {
        expect(&self.ask(&format!("MAIL FROM:<{from}>")), "250");
        for to in to {
            expect(&self.ask(&format!("RCPT TO:<{}>", to.as_ref())), "250");
        }
        expect(&self.ask("DATA"), "354");
        self.send(mail.as_bytes());
        let reply = self.ask(".");
        expect(&reply, "250");
        reply
    }

    /// Whether the other side closes the connection; what it still said.
    pub fn rest(mut self) -> String {
        let mut rest = Vec::new();
        let _ = self.reader.read_to_end(&mut rest);
        String::from_utf8_lossy(&rest).into_owned()
    }
}

pub fn expect(reply: &str, code: &str) {
    assert!(reply.starts_with(code), "wanted {code}, got {reply}");
}

/// What the relay calls a mail that Exchange has.
pub fn id_of(accepted: &Accepted) -> QueueId {
    let text = String::from_utf8_lossy(&accepted.bytes);
    let (_, behind) = text.split_once(" id ").unwrap();
    behind.split([';', '\r', ' ']).next().unwrap().parse().unwrap()
}

/// What left equals what came, apart from the `Received` field in front and `From`, `Reply-To`, `Sender` where they are to differ.
pub fn without_received(bytes: &[u8]) -> &[u8] {
    assert!(bytes.starts_with(b"Received: from "), "{}", String::from_utf8_lossy(bytes));
    let mut at = 0;
    loop {
        at += bytes[at..].windows(2).position(|two| two == b"\r\n").unwrap() + 2;
        if !matches!(bytes.get(at), Some(b' ' | b'\t')) {
            return &bytes[at..];
        }
    }
}
