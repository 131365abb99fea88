//! A listener with a queue in memory behind it, and a client that says exactly what it is told.

use std::sync::Arc;
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader, ReadHalf, WriteHalf,
};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::config::{Config, Environment, Listener};
use crate::inbound::memory::Memory;
use crate::inbound::{Door, Doorkeeper, bind, serve};
use crate::registry::testing;

/// Nothing here takes as long, unless something hangs.
const DEADLINE: Duration = Duration::from_secs(30);

/// A running listener.
pub(super) struct TestDoor {
    pub(super) memory: Arc<Memory>,
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    pub(super) keeper: Doorkeeper,
    pub(super) address: std::net::SocketAddr,
    config: watch::Sender<Arc<Config>>,
}

impl TestDoor {
    pub(super) fn start() -> Self {
        Self::start_with(testing::listener(), Memory::default())
    }

    pub(super) fn start_with(listener: Listener, memory: Memory) -> Self {
        Self::configured(listener, memory, testing::config(&[("lms@contoso.com", &[])]))
    }

    /// With another configuration than one account; its listeners do not matter. Wrong passwords are answered at once.
    pub(super) fn configured(listener: Listener, memory: Memory, config: Config) -> Self {
        Self::answering_after(Duration::ZERO, listener, memory, config)
    }

    /// Wrong passwords are answered as slowly as anybody ever waits for.
    pub(super) fn slow(listener: Listener, config: Config) -> Self {
        Self::answering_after(Duration::from_hours(1), listener, Memory::default(), config)
    }

    fn answering_after(first_delay: Duration, listener: Listener, memory: Memory, config: Config) -> Self {
        let tcp = bind(&listener).unwrap();
        let address = tcp.local_addr().unwrap();
        let (memory, stop, tasks) = (Arc::new(memory), CancellationToken::new(), TaskTracker::new());
        let config = watch::Sender::new(Arc::new(config));
        let (doorkeeper, passwords) =
            Doorkeeper::with_first_delay(config.subscribe(), Environment::default(), first_delay);
        tokio::spawn(passwords.run(stop.clone()));
        let clock = Clock::system();
        let keeper = doorkeeper.clone();
        let door = Door {
            intake: Arc::clone(&memory),
            config: config.subscribe(),
            clock,
            doorkeeper,
            lanes: crate::lane::Lanes::default(),
        };
        tasks.spawn(serve(tcp, Arc::new(listener), Arc::new(door), stop.clone(), tasks.clone()));
        Self { memory, stop, tasks, keeper, address, config }
    }

    /// A connection of which nothing is read yet.
    pub(super) async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client::over(stream)
    }

    /// As if the configuration was reloaded.
    pub(super) fn reload(&self) {
        self.config.send_modify(|_| {});
    }

    /// A connection that was greeted.
    pub(super) async fn greeted(&self) -> Client {
        let mut client = self.connect().await;
        client.expect("220 relay.test *").await;
        client
    }

    /// Sends one small message over a connection of its own.
    pub(super) async fn submit(&self, text: &str) {
        let mut client = self.greeted().await;
        client.submit(text).await;
        client.say("QUIT", "221 *").await;
        client.expect_end().await;
    }

    pub(super) fn accepted(&self) -> usize {
        self.memory.accepted().len()
    }
}

impl Drop for TestDoor {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A socket, with TLS or without.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// One side of a dialogue.
pub(super) struct Client {
    reading: BufReader<ReadHalf<Box<dyn Stream>>>,
    writing: Option<WriteHalf<Box<dyn Stream>>>,
    aside: Option<JoinHandle<WriteHalf<Box<dyn Stream>>>>,
}

impl Client {
    pub(super) fn over(stream: impl Stream + 'static) -> Self {
        let (reading, writing) = tokio::io::split(Box::new(stream) as Box<dyn Stream>);
        Self { reading: BufReader::new(reading), writing: Some(writing), aside: None }
    }

    /// The same connection, with TLS from here on.
    pub(super) async fn with_tls(self, connector: &TlsConnector) -> std::io::Result<Self> {
        let Self { reading, writing, aside } = self;
        assert!(reading.buffer().is_empty(), "more came in the clear: {}", reading.buffer().escape_ascii());
        let writing = match (writing, aside) {
            (Some(writing), _) => writing,
            (None, Some(aside)) => aside.await.unwrap(),
            (None, None) => unreachable!("somebody has it"),
        };
        let stream = reading.into_inner().unsplit(writing);
        let name = ServerName::try_from("relay.test").unwrap();
        let stream = timeout(DEADLINE, connector.connect(name, stream)).await.expect("no end of the handshake")?;
        Ok(Self::over(stream))
    }

    /// Sends these bytes.
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let writing = self.writing.as_mut().unwrap();
        writing.write_all(bytes.as_ref()).await.unwrap();
        writing.flush().await.unwrap();
    }

    /// Sends the pieces from a task of its own, each by itself, while answers are read. A server that closes is no failure.
    pub(super) fn send_aside(&mut self, pieces: Vec<Vec<u8>>) {
        let mut writing = self.writing.take().unwrap();
        self.aside = Some(tokio::spawn(async move {
            for piece in pieces {
                if writing.write_all(&piece).await.is_err() || writing.flush().await.is_err() {
                    break;
                }
                tokio::task::yield_now().await;
            }
            writing
        }));
    }

    /// The next line of a reply, without its CRLF; `None` when the server has closed.
    pub(super) async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = timeout(DEADLINE, self.reading.read_line(&mut line)).await.expect("no answer");
        match read {
            Ok(0) | Err(_) => None,
            Ok(_) => Some(line.strip_suffix("\r\n").expect("a reply ends with CRLF").to_owned()),
        }
    }

    /// The next byte; `None` when the server has closed.
    pub(super) async fn byte(&mut self) -> Option<u8> {
        timeout(DEADLINE, self.reading.read_u8()).await.expect("no answer").ok()
    }

    /// Reads one line; a `*` at the end of `pattern` stands for anything.
    pub(super) async fn expect(&mut self, pattern: &str) {
        let line = self.line().await.unwrap_or_else(|| "(closed)".into());
        let fits = match pattern.strip_suffix('*') {
            Some(start) => line.starts_with(start),
            None => line == pattern,
        };
        assert!(fits, "expected {pattern:?}, got {line:?}");
    }

    /// Reads a whole reply of any number of lines.
    pub(super) async fn expect_reply(&mut self, code: &str) {
        loop {
            let line = self.line().await.unwrap_or_else(|| "(closed)".into());
            assert!(line.starts_with(code), "expected {code}, got {line:?}");
            if line.as_bytes().get(code.len()) != Some(&b'-') {
                return;
            }
        }
    }

    pub(super) async fn expect_end(&mut self) {
        let mut rest = Vec::new();
        let read = timeout(DEADLINE, self.reading.read_to_end(&mut rest)).await.expect("not closed");
        assert!(read.is_err() || rest.is_empty(), "more came: {}", rest.escape_ascii());
    }

    /// Sends a line and reads its answer of one line.
    pub(super) async fn say(&mut self, line: &str, pattern: &str) {
        self.send(format!("{line}\r\n")).await;
        self.expect(pattern).await;
    }

    /// Goes as far as the body.
    pub(super) async fn begin(&mut self) {
        self.say("MAIL FROM:<a@contoso.com>", "250 2.1.0 *").await;
        self.say("RCPT TO:<b@example.com>", "250 2.1.5 *").await;
        self.say("DATA", "354 *").await;
    }

    /// Sends one message with this body (which needs no dots stuffed).
    pub(super) async fn submit(&mut self, text: &str) {
        self.begin().await;
        self.send(format!("{text}\r\n")).await;
        self.say(".", "250 2.0.0 OK queued as *").await;
    }
}

/// Waits until something is so.
pub(super) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let wait = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(DEADLINE, wait).await.unwrap_or_else(|_| panic!("never happened: {what}"));
}
