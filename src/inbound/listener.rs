//! Accepts connections: a place is taken, a task is started, and whatever goes wrong with one of them, the next is accepted.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::converse;
use super::intake::{Door, Intake};
use super::limits::{Limits, Slot};
use super::session::{Facts, Welcome};
use crate::config;
use crate::smtp::Reply;

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long a failed `accept` is waited out: it fails for want of descriptors or memory, and both need a moment.
const PAUSE: Duration = Duration::from_millis(500);
/// How many peers are told at once that there is no place, and how long one may take to listen.
const MAX_REFUSALS: usize = 64;
const REFUSAL_DEADLINE: Duration = Duration::from_secs(5);
/// How long somebody who may not send may say nothing.
const STRANGER_TIMEOUT: Duration = Duration::from_mins(1);

/// Listens on the listener's address. Has to be called within a runtime.
///
/// # Errors
/// What the system says: the port is in use, the address is not this machine's, the port needs more rights.
pub fn bind(listener: &config::Listener) -> io::Result<TcpListener> {
    let address = listener.address;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // So that a restart does not wait for the connections of its predecessor. Two relays still cannot have one port.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections until `stop`, each in a task of `tasks`.
///
/// After `stop`, sessions that wait for a command are ended with `421`; those that read a body or wait for the queue finish that
/// first, as long as the owner of `tasks` lets them.
pub async fn serve<I: Intake>(
    tcp: TcpListener,
    listener: Arc<config::Listener>,
    door: Arc<Door<I>>,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let limits = Limits::new(&listener);
    let address = tcp.local_addr().unwrap_or(listener.address);
    let entrance =
        Entrance { address, limits, listener, door, stop, tasks, refusals: Arc::new(Semaphore::new(MAX_REFUSALS)) };
    loop {
        let accepted = tokio::select! {
            biased;
            () = entrance.stop.cancelled() => return,
            accepted = tcp.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => entrance.admit(stream, peer),
            Err(error) => {
                tracing::warn!(%address, %error, "could not accept a connection");
                tokio::select! {
                    () = entrance.stop.cancelled() => return,
                    () = sleep(PAUSE) => {}
                }
            }
        }
    }
}

struct Entrance<I> {
    address: SocketAddr,
    listener: Arc<config::Listener>,
    limits: Arc<Limits>,
    door: Arc<Door<I>>,
    stop: CancellationToken,
    tasks: TaskTracker,
    refusals: Arc<Semaphore>,
}

impl<I: Intake> Entrance<I> {
    /// Starts a session if there is a place for it.
    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        // An IPv4 peer of an IPv6 listener is still an IPv4 peer.
        let ip = peer.ip().to_canonical();
        let allowed = self.listener.allow.iter().any(|network| network.contains(&ip));
        let welcome = if allowed { Welcome::Allowed } else { Welcome::Stranger };
        match self.limits.admit(ip, welcome) {
            Ok(slot) => self.begin(stream, slot, self.facts(ip, welcome)),
            Err(reply) => {
                tracing::warn!(peer = %ip, listener = %self.address, %reply, "connection refused");
                self.refuse(stream, reply);
            }
        }
    }

    fn facts(&self, peer: IpAddr, welcome: Welcome) -> Facts {
        Facts {
            hostname: self.door.config().hostname.clone(),
            listener: self.address,
            max_message_size: self.listener.max_message_size,
            max_recipients: self.listener.max_recipients,
            peer,
            welcome,
        }
    }

    fn begin(&self, stream: TcpStream, slot: Slot, facts: Facts) {
        let mut idle_timeout = self.listener.idle_timeout;
        tracing::debug!(peer = %facts.peer, listener = %self.address, "connected");
        if facts.welcome == Welcome::Stranger {
            tracing::info!(peer = %facts.peer, listener = %self.address, "connection from a network outside \"allow\"");
            idle_timeout = idle_timeout.min(STRANGER_TIMEOUT);
        }
        // Answers are written whole: waiting to gather more only delays them. A socket that refuses this still works.
        drop(stream.set_nodelay(true));
        let (door, stop) = (Arc::clone(&self.door), self.stop.clone());
        self.tasks.spawn(async move {
            converse(stream, facts, idle_timeout, door, stop).await;
            drop(slot);
        });
    }

    /// Says why there is no place; when even that is asked for too often, just closes.
    fn refuse(&self, mut stream: TcpStream, reply: Reply) {
        let Ok(turn) = Arc::clone(&self.refusals).try_acquire_owned() else { return };
        self.tasks.spawn(async move {
            // The peer is gone, or does not listen: there is nobody left to tell.
            drop(timeout(REFUSAL_DEADLINE, stream.write_all(reply.wire().as_bytes())).await);
            drop(turn);
        });
    }
}
