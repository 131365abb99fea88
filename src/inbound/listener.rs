//! Accepts connections: a place is taken, a task is started, and whatever goes wrong with one of them, the next is accepted.
//!
//! What stands in front of a dialogue has its order here: a proxy's header, the place, TLS.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use socket2::{Domain, Socket, Type};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::converse;
use super::intake::{Door, Intake};
use super::limits::{Limits, Slot};
use super::proxy::{self, Origin, ProxyError};
use super::session::{Facts, Tls, Welcome};
use super::tls::TlsDoor;
use super::told::Told;
use super::wire::Stream;
use crate::config::{self, TlsBegins};
use crate::smtp::Reply;

/// How many connections may wait to be accepted.
const BACKLOG: i32 = 1024;
/// How long a failed `accept` is waited out: it fails for want of descriptors or memory, and both need a moment.
const PAUSE: Duration = Duration::from_millis(500);
/// How many peers are told at once that there is no place, and how long one may take to listen.
const MAX_REFUSALS: usize = 64;
const REFUSAL_DEADLINE: Duration = Duration::from_secs(5);
/// How long somebody who may not send may say nothing.
const STRANGER_TIMEOUT: Duration = Duration::from_mins(1);
/// How long a proxy may take to say for whom it connects, and how many connections may wait for that. They have no place yet.
const PROXY_DEADLINE: Duration = Duration::from_secs(10);
const MAX_UNNAMED: usize = 256;

/// Listens on the listener's address. Has to be called within a runtime.
///
/// A listener at `[::]` takes IPv6 alone, whatever the system's default is: so another one can be at `0.0.0.0` with the same port.
///
/// # Errors
/// What the system says: the port is in use, the address is not this machine's, the port needs more rights.
pub fn bind(listener: &config::Listener) -> io::Result<TcpListener> {
    let address = listener.address;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // So that a restart does not wait for the connections of its predecessor. Two relays still cannot have one port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Accepts connections until `stop`, each in a task of `tasks`.
///
/// After `stop`, sessions that wait for a command are ended with `421`; those that read a body or wait for the queue finish that
/// first, as long as the owner of `tasks` lets them. With TLS, the certificate is kept up to date: its files are looked at every few
/// seconds, and at once when the door's configuration is replaced.
pub async fn serve<I: Intake>(
    tcp: TcpListener,
    listener: Arc<config::Listener>,
    door: Arc<Door<I>>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let address = tcp.local_addr().unwrap_or(listener.address);
    let entrance = Arc::new(Entrance {
        address,
        limits: Limits::new(&listener),
        tls: listener.tls.as_ref().map(|tls| TlsDoor::new(tls, address, listener.idle_timeout)),
        listener,
        door,
        stop,
        tasks,
        refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
        unnamed: Arc::new(Semaphore::new(MAX_UNNAMED)),
        told: Told::default(),
    });
    tokio::join!(entrance.accept(&tcp), entrance.keep_certificate());
}

struct Entrance<I> {
    address: SocketAddr,
    listener: Arc<config::Listener>,
    limits: Arc<Limits>,
    tls: Option<TlsDoor>,
    door: Arc<Door<I>>,
    stop: CancellationToken,
    tasks: TaskTracker,
    refusals: Arc<Semaphore>,
    unnamed: Arc<Semaphore>,
    told: Told,
}

impl<I: Intake> Entrance<I> {
    async fn accept(self: &Arc<Self>, tcp: &TcpListener) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.cancelled() => return,
                accepted = tcp.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => self.begin(stream, peer),
                Err(error) => {
                    tracing::warn!(address = %self.address, %error, "could not accept a connection");
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = sleep(PAUSE) => {}
                    }
                }
            }
        }
    }

    async fn keep_certificate(&self) {
        if let Some(tls) = &self.tls {
            tls.certificates.keep_up(self.address, self.door.config.clone(), &self.door.clock, &self.stop).await;
        }
    }

    /// Starts the connection's task, if there is a place for it.
    fn begin(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        // Answers are written whole: waiting to gather more only delays them. A socket that refuses this still works.
        drop(stream.set_nodelay(true));
        // An IPv4 peer of an IPv6 listener is still an IPv4 peer.
        let ip = peer.ip().to_canonical();
        let listener = self.listener();
        if contains(&listener.proxy_protocol_from, ip) {
            let entrance = Arc::clone(self);
            self.tasks.spawn(async move { entrance.attend_proxied(stream, ip).await });
        } else if let Some((stream, slot, facts)) = self.admit(stream, ip) {
            self.note(&facts);
            let entrance = Arc::clone(self);
            self.tasks.spawn(async move { entrance.attend(stream, slot, facts).await });
        }
    }

    /// A place for this client's connection; if there is none, it is told so.
    fn admit(&self, stream: TcpStream, client: IpAddr) -> Option<(TcpStream, Slot, Facts)> {
        let listener = self.listener();
        let welcome = if contains(&listener.allow, client) { Welcome::Allowed } else { Welcome::Stranger };
        match self.limits.admit(client, welcome) {
            Ok(slot) => Some((stream, slot, self.facts(&listener, client, welcome))),
            Err(reply) => {
                tracing::warn!(peer = %client, listener = %self.address, %reply, "connection refused");
                self.refuse(stream, reply);
                None
            }
        }
    }

    /// The listener as it is configured now: what a reload may change is asked for at every connection.
    fn listener(&self) -> Arc<config::Listener> {
        let config = self.door.config();
        let mut now = config.listeners.iter().filter(|listener| listener.address == self.listener.address);
        // Several with port 0 are alike by their address: none may get what another one allows.
        match (now.next(), now.next()) {
            (Some(now), None) => Arc::clone(now),
            _ => Arc::clone(&self.listener),
        }
    }

    fn facts(&self, listener: &config::Listener, peer: IpAddr, welcome: Welcome) -> Facts {
        let config = self.door.config();
        Facts {
            hostname: config.hostname.clone(),
            password: listener.password,
            default_domain: config.default_domain.clone(),
            listener: self.address,
            max_message_size: listener.max_message_size,
            max_recipients: listener.max_recipients,
            peer,
            welcome,
            tls: self.tls.as_ref().map_or(Tls::None, TlsDoor::at_first),
        }
    }

    fn note(&self, facts: &Facts) {
        let (peer, listener) = (facts.peer, self.address);
        tracing::debug!(%peer, %listener, "connected");
        if facts.welcome == Welcome::Stranger {
            tracing::info!(%peer, %listener, "connection from a network outside \"allow\"");
        }
    }

    /// Waits for the proxy to say who its client is, and goes on as if that one had connected.
    async fn attend_proxied(&self, mut stream: TcpStream, proxy: IpAddr) {
        let Ok(turn) = Arc::clone(&self.unnamed).try_acquire_owned() else {
            tracing::warn!(%proxy, listener = %self.address, "closed: {MAX_UNNAMED} connections of proxies wait for their PROXY header");
            return;
        };
        let deadline = PROXY_DEADLINE.min(self.listener().idle_timeout);
        let received = tokio::select! {
            biased;
            () = self.stop.cancelled() => return,
            received = timeout(deadline, proxy::receive(&mut stream)) => received,
        };
        drop(turn);
        let origin = match received.unwrap_or(Err(ProxyError::Late)) {
            Ok(origin) => origin,
            Err(error) => return self.tell_of_proxy(proxy, &error),
        };
        let client = if let Origin::Client(client) = origin { client.ip().to_canonical() } else { proxy };
        let Some((stream, slot, facts)) = self.admit(stream, client) else { return };
        // A proxy looks every few seconds whether somebody is there; HAProxy may do that in its own name, without LOCAL.
        if client != proxy {
            tracing::debug!(%proxy, peer = %client, "through a proxy");
            self.note(&facts);
        }
        self.attend(stream, slot, facts).await;
    }

    fn tell_of_proxy(&self, proxy: IpAddr, error: &ProxyError) {
        let listener = self.address;
        // Monitoring connects and closes without a word all day.
        if !matches!(error, ProxyError::Closed | ProxyError::Broken(_)) && self.told.is_news(proxy, error.kind()) {
            tracing::warn!(
                %listener,
                "closed: the proxy {proxy} {error}; let it send one (HAProxy: send-proxy-v2, nginx: proxy_protocol on), or take it out of \
                 \"proxy_protocol_from\" (the same of {proxy} is not said again for a day)"
            );
        } else {
            tracing::debug!(%listener, "closed: the proxy {proxy} {error}");
        }
    }

    /// Talks with the client: in the clear, with TLS, or first one and then the other.
    /// Its place is free when this ends.
    async fn attend(&self, stream: TcpStream, _place: Slot, facts: Facts) {
        let peer = facts.peer;
        let Some(tls) = &self.tls else {
            self.talk(stream, facts).await;
            return;
        };
        let stream = match tls.begins {
            TlsBegins::AtOnce => Some(stream),
            TlsBegins::WithStartTls => self.talk(stream, facts.clone()).await,
        };
        let Some(stream) = stream else { return };
        if let Some(stream) = tls.handshake(stream, peer, &self.stop).await {
            self.talk(stream, Facts { tls: tls.at_last(), ..facts }).await;
        }
    }

    /// One session; the stream, if another one follows on it.
    async fn talk<S: Stream>(&self, stream: S, facts: Facts) -> Option<S> {
        let mut idle_timeout = self.listener().idle_timeout;
        if facts.welcome == Welcome::Stranger {
            idle_timeout = idle_timeout.min(STRANGER_TIMEOUT);
        }
        converse(stream, facts, idle_timeout, Arc::clone(&self.door), self.stop.clone()).await
    }

    /// Says why there is no place; when even that is asked for too often, or would be no TLS, just closes.
    fn refuse(&self, mut stream: TcpStream, reply: Reply) {
        if self.tls.as_ref().is_some_and(|tls| tls.begins == TlsBegins::AtOnce) {
            return;
        }
        let Ok(turn) = Arc::clone(&self.refusals).try_acquire_owned() else { return };
        self.tasks.spawn(async move {
            // The peer is gone, or does not listen: there is nobody left to tell.
            drop(timeout(REFUSAL_DEADLINE, stream.write_all(reply.wire().as_bytes())).await);
            drop(turn);
        });
    }
}

fn contains(networks: &[IpNet], address: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&address))
}
