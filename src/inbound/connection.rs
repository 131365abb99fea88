//! One connection from its greeting to its end: bytes to lines, lines to the session, its events to the wire and the queue.
//!
//! Lines are never logged: any of them can hold a password, and bodies are nobody's business.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroize as _;

use super::auth::Login;
use super::body::{self, Chunks};
use super::collector::Received;
use super::doorkeeper::Decision;
use super::head::Head;
use super::intake::{AcceptError, Door, Intake};
use super::replies;
use super::route::{Route, route};
use super::session::{Chunk, Event, Facts, LoginOutcome, Mail, Outcome, Session};
use super::wire::{Ended, Stream, Wire};
use crate::config::{Config, Passwords};
use crate::lane::{Arrival, Judged, Way};
use crate::message::Body;
use crate::registry;
use crate::smtp::{Expect, LineDecoder, LineError, Reply};
use crate::store::Incoming;

/// What is asked of the socket at a time while commands are read.
const COMMAND_READ: usize = 4096;

/// Talks with one peer until either side ends it: then `None`. Or until the client was told to begin TLS: then the stream, of which
/// nothing more was read. The session that follows there begins anew.
pub(super) async fn converse<S: Stream, I: Intake>(
    stream: S,
    facts: Facts,
    idle_timeout: Duration,
    door: Arc<Door<I>>,
    stop: CancellationToken,
) -> Option<S> {
    let mut connection = Connection {
        wire: Wire::new(stream, idle_timeout),
        lines: LineDecoder::new(),
        peer: facts.peer,
        passwords: facts.password,
        max_message_size: facts.max_message_size,
        session: Session::new(facts),
        chunks: None,
        accepted: 0,
        door,
        stop,
    };
    let ended = connection.run().await;
    if matches!(ended, Ok(Close::ForTls)) {
        return Some(connection.wire.into_stream());
    }
    let (peer, user) = (connection.peer, connection.session.user().map(str::to_owned));
    match connection.part(ended).await {
        Ok(()) => tracing::debug!(%peer, user, "session ended"),
        Err(ended) => tracing::debug!(%peer, user, %ended, "connection ended"),
    }
    None
}

struct Connection<S, I: Intake> {
    wire: Wire<S>,
    lines: LineDecoder,
    session: Session,
    /// What has come of a message in chunks; nothing once the session has given it up.
    chunks: Option<Chunks<I>>,
    /// Messages so far.
    accepted: u64,
    peer: IpAddr,
    passwords: Passwords,
    max_message_size: u64,
    door: Arc<Door<I>>,
    stop: CancellationToken,
}

/// How a session wants its connection closed.
enum Close {
    /// The client asked for it and has said all it had to say.
    Now,
    /// The client may be in the middle of a word.
    Gently,
    /// It goes on with TLS.
    ForTls,
}

impl<S: Stream, I: Intake> Connection<S, I> {
    /// Answers until the session closes.
    async fn run(&mut self) -> Result<Close, Ended> {
        if let Some(greeting) = self.session.greeting() {
            self.wire.answer(&greeting);
        }
        let mut next = None;
        loop {
            let event = match next.take() {
                Some(event) => event,
                None => self.next_event().await?,
            };
            if !self.session.is_chunking() && !matches!(event, Event::Chunk(_)) {
                self.chunks = None;
            }
            match event {
                Event::Reply(reply) => self.wire.answer(&reply),
                Event::Body(go_ahead, mail) => {
                    self.wire.answer(&go_ahead);
                    let outcome = self.take(*mail).await?;
                    next = Some(self.session.on_body(outcome));
                }
                Event::Login(login) => {
                    let outcome = self.log_in(*login).await?;
                    next = Some(self.session.on_login(outcome));
                }
                Event::Chunk(chunk) => next = Some(self.on_chunk(chunk).await?),
                Event::StartTls(reply) => return self.begin_tls(&reply).await,
                Event::Close(reply) => {
                    self.wire.answer(&reply);
                    return Ok(if reply.is_positive() { Close::Now } else { Close::Gently });
                }
            }
            if self.wire.is_full() {
                self.wire.flush().await?;
            }
        }
    }

    /// Tells the client to begin TLS, unless it said more already: that was in the clear, where anyone may have added it.
    async fn begin_tls(&mut self, go_ahead: &Reply) -> Result<Close, Ended> {
        if !self.wire.input.is_empty() {
            let (peer, octets) = (self.peer, self.wire.input.len());
            tracing::warn!(%peer, octets, "closed: commands in the clear came behind STARTTLS; they may be another's (injection)");
            self.wire.answer(&replies::bytes_behind_starttls());
            return Ok(Close::Gently);
        }
        self.wire.answer(go_ahead);
        self.wire.flush().await?;
        Ok(Close::ForTls)
    }

    /// Says goodbye as far as there is somebody to say it to.
    async fn part(mut self, ended: Result<Close, Ended>) -> Result<(), Ended> {
        match ended {
            Ok(Close::Now | Close::ForTls) => return self.wire.close().await,
            Ok(Close::Gently) => return self.wire.close_gently().await,
            Err(Ended::Idle) => self.wire.answer(&replies::idle()),
            Err(Ended::LoneDot) => self.wire.answer(&replies::lone_dot()),
            Err(Ended::Stopping) => self.wire.answer(&replies::restarting()),
            Err(ended) => return Err(ended),
        }
        self.wire.close().await
    }

    /// Reads a line and asks the session about it.
    async fn next_event(&mut self) -> Result<Event, Ended> {
        let line = self.line().await?;
        let is_secret = self.session.expects() == Expect::AuthResponse;
        let event = self.session.on(line.as_deref().map_err(|error| *error), self.door.intake.room());
        if let (Err(LineError::Tls), Event::Close(reply)) = (&line, &event) {
            let peer = self.peer;
            tracing::info!(%peer, %reply, "a program began TLS where a command should be");
        }
        if let Ok(mut line) = line
            && (is_secret || matches!(event, Event::Login(_)))
        {
            line.zeroize();
        }
        Ok(event)
    }

    /// Asks about a login. A wrong one is answered slowly; that must not hold up a stop.
    async fn log_in(&mut self, login: Login) -> Result<LoginOutcome, Ended> {
        self.wire.flush().await?;
        let began = Instant::now();
        let slowly = async {
            let (outcome, delay) = match self.door.doorkeeper.check(self.peer, login).await {
                Decision::In(user) => return LoginOutcome::In(user),
                Decision::Out(delay) => (LoginOutcome::Refused, delay),
                Decision::Unknown(delay) => (LoginOutcome::Unavailable, delay),
            };
            // From the beginning: how long it took to find out is nobody's business.
            sleep_until(began + delay).await;
            outcome
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(Ended::Stopping),
            outcome = slowly => Ok(outcome),
        }
    }

    /// The next line. It has to be complete within the idle timeout, however many of its bytes come meanwhile.
    async fn line(&mut self) -> Result<Result<BytesMut, LineError>, Ended> {
        let deadline = self.wire.deadline();
        loop {
            if let Some(line) = self.lines.next(&mut self.wire.input, self.session.expects()) {
                return Ok(line);
            }
            // Apart from the wait below, which may be given up: half an answer cannot be said again.
            self.wire.flush().await?;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(Ended::Stopping),
                read = self.wire.more(COMMAND_READ, deadline) => read?,
            }
        }
    }

    /// Reads the body and hands the message over. Whoever stops the relay has to wait for this.
    async fn take(&mut self, mail: Mail) -> Result<Outcome, Ended> {
        let config = self.door.config();
        let way = |head: &Head| route(&config, self.passwords, &mail, head);
        let received = body::receive(&mut self.wire, self.max_message_size, &self.door, way).await?;
        Ok(self.finish(mail, received, &config).await)
    }

    /// Reads a chunk, and hands the message over if it was the last one.
    async fn on_chunk(&mut self, chunk: Chunk) -> Result<Event, Ended> {
        let (size, last) = match chunk {
            Chunk::Refused(size, reply) => {
                body::discard(&mut self.wire, size).await?;
                return Ok(Event::Reply(reply));
            }
            Chunk::Part(size) => (size, None),
            Chunk::Last(size, mail) => (size, Some(mail)),
        };
        let mut chunks = self.chunks.take().unwrap_or_else(|| Chunks::new(self.max_message_size));
        let given_up = chunks.take(&mut self.wire, size, &self.door).await?;
        let outcome = match (given_up, last) {
            (Some(outcome), _) => self.not_taken(outcome),
            (None, Some(mail)) => {
                let config = self.door.config();
                let received = chunks.finish(&self.door, |head| route(&config, self.passwords, &mail, head)).await;
                self.finish(*mail, received, &config).await
            }
            (None, None) => {
                self.chunks = Some(chunks);
                return Ok(self.session.on_chunk(size));
            }
        };
        Ok(self.session.on_body(outcome))
    }

    /// The body has come, or why it is not taken.
    async fn finish(&mut self, mail: Mail, received: Result<Received, Outcome>, config: &Config) -> Outcome {
        let outcome = match received {
            Ok(received) => self.hand_over(mail, received, config).await,
            Err(outcome) => outcome,
        };
        if matches!(outcome, Outcome::Queued(_)) {
            self.accepted += 1;
            return outcome;
        }
        self.not_taken(outcome)
    }

    fn not_taken(&self, outcome: Outcome) -> Outcome {
        let peer = self.peer;
        tracing::warn!(%peer, why = %outcome, "message not taken");
        outcome
    }

    async fn hand_over(&self, mail: Mail, received: Received, config: &Config) -> Outcome {
        let received_at = self.door.clock.now();
        let arrival = Arrival {
            start: received.start(),
            recipients: &mail.envelope.recipients,
            way: Way::Connection { first: self.accepted == 0, helo: mail.trace.helo.as_deref() },
            at: received_at,
        };
        let Judged { lane, why } = self.door.lanes.judge(&received.route.app, &arrival);
        let Received { id, subject, route: Route { app, account }, size, body, .. } = received;
        let recipients = mail.envelope.recipients.iter().map(|recipient| &recipient.address);
        let outside = registry::is_outside(config, &app.name, &account.mailbox, recipients);
        let incoming = Incoming {
            id,
            received_at,
            app: app.name.clone(),
            account: account.mailbox.clone(),
            lane,
            lane_why: why,
            outside,
            subject: subject.filter(|_| config.queue.record_subjects),
            envelope: mail.envelope,
            trace: mail.trace,
            size,
            body,
        };
        let recipients = incoming.envelope.recipients.len();
        let in_file = matches!(incoming.body, Body::File(_));
        match self.door.intake.accept(incoming).await {
            Ok(()) => {
                let (peer, app, account) = (self.peer, &app.name, &account.mailbox);
                tracing::info!(%id, %peer, app, %account, %lane, recipients, size, in_file, "message accepted");
                Outcome::Queued(id)
            }
            Err(AcceptError::Full) => Outcome::Full,
            Err(AcceptError::Unavailable) => Outcome::Unavailable,
        }
    }
}
