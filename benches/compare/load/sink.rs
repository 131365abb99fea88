//! An upstream that takes every message and keeps none: STARTTLS, any login, no disk.
//!
//! It can be slow in the way of Exchange Online (`--connect-ms`, `--command-ms`, `--auth-ms`, `--data-ms`) and let only so many sessions
//! send (`--limit`): the first ones keep their places until they close, all others are told `432` at MAIL.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use rustls::ServerConfig;
use rustls_pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsAcceptor;

use crate::cloud;
use crate::figures::wall;

/// More than any load has sessions.
const BACKLOG: u32 = 1024;
/// What is read at a time.
const PIECE: usize = 64 * 1024;
/// How much may stand behind the final dot, with the dot itself.
const BEHIND_DOT: usize = 512;

/// What is asked for.
#[derive(Args, Clone)]
pub struct Sink {
    /// Where the certificate for 127.0.0.1 is written, in PEM
    #[arg(long)]
    certificate: PathBuf,
    /// Milliseconds until the banner
    #[arg(long, default_value_t = 0)]
    connect_ms: u64,
    /// Milliseconds for each command
    #[arg(long, default_value_t = 0)]
    command_ms: u64,
    /// Milliseconds more for a login
    #[arg(long, default_value_t = 0)]
    auth_ms: u64,
    /// Milliseconds for the answer to the final dot
    #[arg(long, default_value_t = 0)]
    data_ms: u64,
    /// Sessions that may send at once; all others are told 432
    #[arg(long)]
    limit: Option<usize>,
}

/// What the sink has seen.
#[derive(Debug, Default)]
pub struct Counters {
    /// Messages taken.
    pub messages: AtomicU64,
    /// Their octets, as they came over the wire.
    pub octets: AtomicU64,
    /// Connections accepted.
    pub connections: AtomicU64,
    /// Times somebody was told 432.
    pub refused: AtomicU64,
    /// When the last message was taken, in microseconds since 1970.
    pub last_at: AtomicU64,
}

impl Counters {
    /// Begins anew.
    pub fn reset(&self) {
        for counter in [&self.messages, &self.octets, &self.connections, &self.refused, &self.last_at] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// A time of the counters in seconds since 1970.
    pub fn seconds(micros: &AtomicU64) -> f64 {
        Duration::from_micros(micros.load(Ordering::Relaxed)).as_secs_f64()
    }

    fn took(&self, octets: u64) {
        self.messages.fetch_add(1, Ordering::Relaxed);
        self.octets.fetch_add(octets, Ordering::Relaxed);
        let micros = u64::try_from(Duration::from_secs_f64(wall()).as_micros()).unwrap_or(u64::MAX);
        self.last_at.store(micros, Ordering::Relaxed);
    }
}

/// Where the message ends, if all of it is here. Looks at its end alone: little can stand behind the dot, since whoever sends QUIT or
/// the next MAIL along with it sends nothing more before the answer.
fn end_of_data(input: &[u8]) -> Option<usize> {
    const END: &[u8] = b"\r\n.\r\n";
    let from = input.len().saturating_sub(BEHIND_DOT);
    let found = input[from..].windows(END.len()).rposition(|five| five == END);
    found.map(|at| from + at + END.len())
}

/// What all sessions share.
struct Place {
    sink: Sink,
    counters: Arc<Counters>,
    acceptor: TlsAcceptor,
    slots: Option<Arc<Semaphore>>,
}

/// Runs until the process is killed.
pub async fn run(sink: Sink) -> anyhow::Result<()> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    std::fs::write(&sink.certificate, made.cert.pem())?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key)?;
    let counters = Arc::<Counters>::default();
    let slots = sink.limit.map(|limit| Arc::new(Semaphore::new(limit)));
    let place = Arc::new(Place { sink, counters: Arc::clone(&counters), acceptor: Arc::new(config).into(), slots });

    let socket = TcpSocket::new_v4()?;
    socket.bind(([127, 0, 0, 1], 0).into())?;
    let smtp = socket.listen(BACKLOG)?;
    let http = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", json!({ "smtp": smtp.local_addr()?.port(), "http": http.local_addr()?.port() }));
    tokio::spawn(cloud::serve(http, counters));
    loop {
        let (stream, _) = smtp.accept().await?;
        stream.set_nodelay(true)?;
        let place = Arc::clone(&place);
        place.counters.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move { drop(serve(stream, &place).await) });
    }
}

/// One connection, plain and then perhaps under TLS.
async fn serve(stream: TcpStream, place: &Place) -> io::Result<()> {
    // A place is taken by connecting, as with Exchange Online, and given back by closing.
    let slot = match &place.slots {
        None => Slot::NotNeeded,
        Some(slots) => Arc::clone(slots).try_acquire_owned().map_or(Slot::None, Slot::Taken),
    };
    let mut session =
        Session { stream, place, slot, input: Vec::new(), output: Vec::new(), busy_until: Instant::now() };
    session.wait(place.sink.connect_ms);
    session.output.extend_from_slice(b"220 sink.example ESMTP\r\n");
    if session.talk(true).await? == End::StartTls {
        let stream = place.acceptor.accept(session.stream).await?;
        let (slot, busy_until) = (session.slot, Instant::now());
        Session { stream, place, slot, input: Vec::new(), output: Vec::new(), busy_until }.talk(false).await?;
    }
    Ok(())
}

/// Whether a session may send.
enum Slot {
    /// Every session may.
    NotNeeded,
    /// It has one of the places.
    Taken(#[expect(dead_code, reason = "held until the session ends")] OwnedSemaphorePermit),
    /// There was none left when it connected.
    None,
}

#[derive(PartialEq, Eq)]
enum End {
    Closed,
    StartTls,
}

struct Session<'a, S> {
    stream: S,
    place: &'a Place,
    slot: Slot,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Everything said so far has been thought about by then; commands are thought about one after the other.
    busy_until: Instant,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<'_, S> {
    async fn talk(&mut self, offers_tls: bool) -> io::Result<End> {
        loop {
            self.flush().await?;
            let Some(line) = self.line().await? else { return Ok(End::Closed) };
            let verb = line.get(..4).unwrap_or(&line).to_ascii_uppercase();
            self.wait(self.place.sink.command_ms);
            match &verb[..] {
                b"EHLO" => self.greet(offers_tls),
                b"STAR" => {
                    self.output.extend_from_slice(b"220 2.0.0 go ahead\r\n");
                    self.flush().await?;
                    return Ok(End::StartTls);
                }
                b"AUTH" => self.login(&line).await?,
                b"MAIL" if matches!(self.slot, Slot::None) => {
                    self.place.counters.refused.fetch_add(1, Ordering::Relaxed);
                    self.output.extend_from_slice(b"432 4.3.2 Concurrent connections limit exceeded\r\n");
                }
                b"DATA" => self.message().await?,
                b"QUIT" => {
                    self.output.extend_from_slice(b"221 2.0.0 bye\r\n");
                    self.flush().await?;
                    return Ok(End::Closed);
                }
                _ => self.output.extend_from_slice(b"250 2.0.0 OK\r\n"),
            }
        }
    }

    fn greet(&mut self, offers_tls: bool) {
        self.output.extend_from_slice(b"250-sink.example\r\n250-SIZE\r\n250-PIPELINING\r\n250-8BITMIME\r\n");
        self.output.extend_from_slice(b"250-ENHANCEDSTATUSCODES\r\n250-AUTH XOAUTH2 PLAIN LOGIN\r\n");
        let last: &[u8] = if offers_tls { b"250 STARTTLS\r\n" } else { b"250 SMTPUTF8\r\n" };
        self.output.extend_from_slice(last);
    }

    /// Whatever is said is right.
    async fn login(&mut self, line: &[u8]) -> io::Result<()> {
        let words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty()).count();
        let is_login = line.get(5..10).is_some_and(|name| name.eq_ignore_ascii_case(b"LOGIN"));
        let prompts = usize::from(words < 3) + usize::from(is_login);
        for _ in 0..prompts {
            self.output.extend_from_slice(b"334 \r\n");
            self.flush().await?;
            if self.line().await?.is_none() {
                return Ok(());
            }
        }
        self.wait(self.place.sink.auth_ms);
        self.output.extend_from_slice(b"235 2.7.0 Authentication successful\r\n");
        Ok(())
    }

    /// Reads up to the lone dot.
    async fn message(&mut self) -> io::Result<()> {
        self.output.extend_from_slice(b"354 go ahead\r\n");
        self.flush().await?;
        let mut octets = 0;
        let end = loop {
            if let Some(end) = end_of_data(&self.input) {
                break end;
            }
            if self.input.len() > PIECE {
                let gone = self.input.len() - BEHIND_DOT;
                octets += gone;
                self.input.drain(..gone);
            }
            if !self.more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        };
        octets += end;
        self.input.drain(..end);
        self.wait(self.place.sink.data_ms);
        self.pause().await;
        self.place.counters.took(u64::try_from(octets).unwrap_or(u64::MAX));
        self.output.extend_from_slice(b"250 2.0.0 OK\r\n");
        Ok(())
    }

    async fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(end) = self.input.iter().position(|&byte| byte == b'\n') {
                let line = self.input.drain(..=end).collect::<Vec<u8>>();
                return Ok(Some(line.trim_ascii_end().to_vec()));
            }
            if !self.more().await? {
                return Ok(None);
            }
        }
    }

    async fn more(&mut self) -> io::Result<bool> {
        self.input.reserve(PIECE);
        Ok(self.stream.read_buf(&mut self.input).await? > 0)
    }

    /// The next answer takes so long more.
    fn wait(&mut self, milliseconds: u64) {
        self.busy_until = self.busy_until.max(Instant::now()) + Duration::from_millis(milliseconds);
    }

    async fn pause(&self) {
        if self.busy_until > Instant::now() {
            sleep_until(self.busy_until).await;
        }
    }

    /// Says what is to be said, unless another command is here already.
    async fn flush(&mut self) -> io::Result<()> {
        if self.input.contains(&b'\n') {
            return Ok(());
        }
        self.pause().await;
        self.stream.write_all(&self.output).await?;
        self.stream.flush().await?;
        self.output.clear();
        Ok(())
    }
}
