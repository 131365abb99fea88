//! One SMTP connection: bytes, deadlines, TLS and faults. What is answered is decided in [`session`](super::session).

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::cloud::Cloud;
use super::super::event::Event;
use super::super::fault::{Effect, Phase};
use super::super::options::SmtpTls;
use super::super::texts::{fill, words};
use super::body::Body;
use super::session::{Session, Step, Text};

/// The longest command line, AUTH with a large token included.
const LONGEST_LINE: usize = 16 * 1024;
const BUFFER: usize = 64 * 1024;
const HANDSHAKE: Duration = Duration::from_secs(30);
/// How long a closed connection is read on, so that the last reply is not lost to a reset.
const LINGER: Duration = Duration::from_secs(2);

/// Why the conversation stopped.
enum End {
    /// The last reply is out: close in good order.
    Close,
    /// Closed without a word, by a fault or by the client.
    Drop,
    /// The TLS handshake comes next.
    StartTls,
}

/// Whether the conversation goes on.
enum Flow {
    Go,
    Stop(End),
}

/// Holds one conversation from the greeting to the end.
pub(super) async fn converse(cloud: Arc<Cloud>, mut stream: TcpStream, peer: SocketAddr) {
    // Replies are small and written whole: waiting for more would only delay them.
    let _ = stream.set_nodelay(true);
    let session = Session::open(Arc::clone(&cloud), peer);
    let over = Instant::now() + cloud.options.session_life;
    let mut connection = Connection {
        cloud,
        session,
        input: BytesMut::new(),
        out: Vec::new(),
        scanned: 0,
        opened: Instant::now(),
        over,
    };
    let result = match connection.cloud.options.tls {
        SmtpTls::Implicit => connection.secure(stream, true).await,
        SmtpTls::None | SmtpTls::StartTls => match connection.greet_and_run(&mut stream).await {
            Ok(End::StartTls) => connection.secure(stream, false).await,
            Ok(end) => finish(&mut stream, end).await,
            Err(error) => Err(error),
        },
    };
    if let Err(error) = result {
        tracing::debug!(session = connection.session.id, %error, "an SMTP connection of the simulator broke");
    }
}

/// Closes in good order, if that is wanted.
async fn finish<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, end: End) -> io::Result<()> {
    if matches!(end, End::Close) {
        stream.shutdown().await?;
        // Whoever does not close in time is cut off.
        let _ = timeout(LINGER, drain(stream)).await;
    }
    Ok(())
}

/// Reads and forgets until the client closes.
async fn drain<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<()> {
    let mut ignored = [0; 4096];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}

struct Connection {
    cloud: Arc<Cloud>,
    session: Session,
    /// What has come and was not yet understood.
    input: BytesMut,
    /// How much of it holds no line end.
    scanned: usize,
    /// Replies not yet written.
    out: Vec<u8>,
    opened: Instant,
    over: Instant,
}

impl Connection {
    async fn secure(&mut self, stream: TcpStream, greet: bool) -> io::Result<()> {
        let handshake = timeout(HANDSHAKE, self.cloud.identity.acceptor.accept(stream)).await;
        let mut stream = match handshake {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.handshake_failed(&error.to_string()),
            Err(_) => return self.handshake_failed("timed out"),
        };
        self.session.secured();
        let end = if greet { self.greet_and_run(&mut stream).await? } else { self.run(&mut stream).await? };
        finish(&mut stream, end).await
    }

    // Its callers end with it, and a broken handshake is an event of the client's making, not an error of ours.
    #[expect(clippy::unnecessary_wraps, reason = "the last expression of callers that return io::Result")]
    fn handshake_failed(&self, error: &str) -> io::Result<()> {
        self.cloud.emit(|| Event::TlsFailed { session: self.session.id.clone(), error: error.to_owned() });
        Ok(())
    }

    async fn greet_and_run<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<End> {
        let played = self.cloud.faults.play(Phase::Connect, self.session.about_message());
        self.pause(stream, self.cloud.options.latency.connect + played.wait).await?;
        match played.effect {
            Some(Effect::Reply(text)) if text.starts_with("220") => self.say(&text),
            Some(Effect::Reply(text)) => {
                self.say(&text);
                self.flush(stream).await?;
                return Ok(End::Close);
            }
            Some(effect) => return self.strike(stream, Phase::Connect, &effect).await,
            None => {
                let greeting = self.session.greeting();
                self.say(&greeting);
            }
        }
        self.run(stream).await
    }

    async fn run<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<End> {
        loop {
            match self.take_line() {
                Some(line) => {
                    if let Flow::Stop(end) = self.line(stream, &line).await? {
                        return Ok(end);
                    }
                }
                None if self.input.len() > LONGEST_LINE => {
                    self.say("500 5.5.2 Line too long");
                    self.flush(stream).await?;
                    return Ok(End::Close);
                }
                None => {
                    if let Flow::Stop(end) = self.fill(stream).await? {
                        return Ok(end);
                    }
                }
            }
        }
    }

    /// The next line, without its CRLF. Only CRLF ends a line.
    fn take_line(&mut self) -> Option<BytesMut> {
        let from = self.scanned.saturating_sub(1);
        let Some(at) = self.input[from..].windows(2).position(|two| two == b"\r\n") else {
            self.scanned = self.input.len();
            return None;
        };
        self.scanned = 0;
        let mut line = self.input.split_to(from + at + 2);
        line.truncate(from + at);
        Some(line)
    }

    async fn line<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S, line: &[u8]) -> io::Result<Flow> {
        if line.len() > LONGEST_LINE {
            self.say("500 5.5.2 Line too long");
            return Ok(Flow::Go);
        }
        let Some(line) = std::str::from_utf8(line).ok().filter(|line| !line.contains(['\0', '\r', '\n'])) else {
            self.say("501 5.5.4 Invalid arguments");
            return Ok(Flow::Go);
        };
        let input = self.session.read(line);
        let phase = Session::phase(&input);
        let played = self.cloud.faults.play(phase, self.session.about(&input));
        let latency = self.cloud.options.latency;
        let usual = if phase == Phase::Auth { latency.auth } else { latency.command };
        self.pause(stream, usual + played.wait).await?;
        let step = match played.effect {
            None => self.session.on(input, line),
            Some(Effect::Reply(text)) => self.session.on_fault(input, line, text),
            Some(effect) => return self.strike(stream, phase, &effect).await.map(Flow::Stop),
        };
        self.carry_out(stream, step).await
    }

    async fn carry_out<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S, step: Step) -> io::Result<Flow> {
        match step {
            Step::Reply(reply) => self.say(&reply),
            Step::Close(reply) => {
                self.say(&reply);
                self.flush(stream).await?;
                return Ok(Flow::Stop(End::Close));
            }
            Step::StartTls(reply) => {
                if !self.input.is_empty() {
                    // A command sent behind STARTTLS in the clear would be taken for one that came inside TLS.
                    self.say("554 5.5.3 Data behind STARTTLS");
                    self.flush(stream).await?;
                    return Ok(Flow::Stop(End::Close));
                }
                self.say(&reply);
                self.flush(stream).await?;
                return Ok(Flow::Stop(End::StartTls));
            }
            Step::Body(reply) => {
                self.say(&reply);
                return self.message(stream).await;
            }
            Step::Chunk { size, last } => return self.chunk(stream, size, last).await,
            Step::Skip { size, reply } => {
                let mut nowhere = Body::with_limit(0);
                if let Flow::Stop(end) = self.octets(stream, &mut nowhere, size).await? {
                    return Ok(Flow::Stop(end));
                }
                self.say(&reply);
            }
        }
        Ok(Flow::Go)
    }

    /// The message behind DATA.
    async fn message<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<Flow> {
        let played = self.cloud.faults.play(Phase::Body, self.session.about_message());
        self.pause(stream, played.wait).await?;
        let drop_after = match played.effect {
            Some(Effect::DropAfter(octets)) => octets,
            Some(effect) => return self.strike(stream, Phase::Body, &effect).await.map(Flow::Stop),
            None => u64::MAX,
        };
        let mut body = self.session.body();
        let mut ended = false;
        while !ended && body.received < drop_after {
            if self.input.is_empty()
                && let Flow::Stop(end) = self.fill(stream).await?
            {
                return Ok(Flow::Stop(end));
            }
            let room = usize::try_from(drop_after - body.received).unwrap_or(usize::MAX).min(self.input.len());
            let taken;
            (taken, ended) = body.take_stuffed(&self.input[..room]);
            let _ = self.input.split_to(taken);
        }
        if drop_after < u64::MAX {
            return self.strike(stream, Phase::Body, &Effect::Drop).await.map(Flow::Stop);
        }
        self.end_of_data(stream, body).await
    }

    /// A chunk of BDAT.
    async fn chunk<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        size: u64,
        last: bool,
    ) -> io::Result<Flow> {
        let mut body = self.session.body();
        if let Flow::Stop(end) = self.octets(stream, &mut body, size).await? {
            return Ok(Flow::Stop(end));
        }
        if last {
            body.close();
            return self.end_of_data(stream, body).await;
        }
        self.session.keep_chunk(body);
        self.say(&format!("250 2.0.0 {size} octets received"));
        Ok(Flow::Go)
    }

    async fn octets<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        body: &mut Body,
        size: u64,
    ) -> io::Result<Flow> {
        let mut left = size;
        while left > 0 {
            if self.input.is_empty()
                && let Flow::Stop(end) = self.fill(stream).await?
            {
                return Ok(Flow::Stop(end));
            }
            let taken = usize::try_from(left).unwrap_or(usize::MAX).min(self.input.len());
            body.take_counted(&self.input.split_to(taken));
            left -= taken as u64;
        }
        Ok(Flow::Go)
    }

    /// The final dot, or the last chunk.
    async fn end_of_data<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S, body: Body) -> io::Result<Flow> {
        let phase = Phase::DataEnd;
        let played = self.cloud.faults.play(phase, self.session.about_message());
        self.pause(stream, self.cloud.options.latency.data_end + played.wait).await?;
        let reply = match played.effect {
            None => self.session.finish(body, None, None),
            Some(Effect::Reply(text)) if text.starts_with("250") => self.session.finish(body, Some(text), None),
            Some(Effect::Reply(text)) => self.session.refuse_message(text.into()),
            Some(Effect::Notice(text)) => self.session.finish(body, None, Some(text)),
            Some(effect @ (Effect::KeepAndDrop | Effect::KeepAndSilence)) => {
                self.session.finish(body, None, None);
                return self.strike(stream, phase, &effect).await.map(Flow::Stop);
            }
            Some(effect) => return self.strike(stream, phase, &effect).await.map(Flow::Stop),
        };
        self.answered(stream, &reply).await
    }

    async fn answered<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S, reply: &Text) -> io::Result<Flow> {
        self.say(reply);
        if reply.starts_with("421") || reply.starts_with("221") {
            self.flush(stream).await?;
            return Ok(Flow::Stop(End::Close));
        }
        Ok(Flow::Go)
    }

    /// A fault that leaves the client without an answer.
    async fn strike<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        phase: Phase,
        effect: &Effect,
    ) -> io::Result<End> {
        self.cloud.emit(|| Event::Broken { session: self.session.id.clone(), phase: phase.name() });
        // Replies to earlier commands have nothing to do with it.
        self.flush(stream).await?;
        if matches!(effect, Effect::Silence | Effect::KeepAndSilence) {
            drain(stream).await?;
        }
        Ok(End::Drop)
    }

    /// Writes what was said, then waits for more from the client.
    async fn fill<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<Flow> {
        self.flush(stream).await?;
        let idle = Instant::now() + self.cloud.options.idle_timeout;
        self.input.reserve(BUFFER);
        match timeout_at(idle.min(self.over), stream.read_buf(&mut self.input)).await {
            Ok(Ok(0)) => Ok(Flow::Stop(End::Drop)),
            Ok(Ok(_)) => Ok(Flow::Go),
            Ok(Err(error)) => Err(error),
            Err(_) => {
                let reply = if idle < self.over { words().idle.into() } else { self.session_over() };
                self.say(&reply);
                self.flush(stream).await?;
                Ok(Flow::Stop(End::Close))
            }
        }
    }

    fn session_over(&self) -> Text {
        let seconds = self.opened.elapsed().as_secs();
        let duration = format!("{:02}:{:02}:{:02}.0000000", seconds / 3600, seconds / 60 % 60, seconds % 60);
        fill(words().session_over, &[("duration", &duration)]).into_owned().into()
    }

    /// Waits, after writing the replies that are due before it.
    async fn pause<S: AsyncRead + AsyncWrite + Unpin>(&mut self, stream: &mut S, wait: Duration) -> io::Result<()> {
        if !wait.is_zero() {
            self.flush(stream).await?;
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    fn say(&mut self, reply: &str) {
        for line in reply.split('\n') {
            self.out.extend_from_slice(line.as_bytes());
            self.out.extend_from_slice(b"\r\n");
        }
    }

    async fn flush<S: AsyncWrite + Unpin>(&mut self, stream: &mut S) -> io::Result<()> {
        if !self.out.is_empty() {
            stream.write_all(&self.out).await?;
            stream.flush().await?;
            self.out.clear();
        }
        Ok(())
    }
}
