//! The two listening sockets: open, or shut with the ports kept for the return.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::cloud::Cloud;
use super::{entra, exchange};

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Binds a socket without listening yet: a client is refused, and nobody else gets the port.
pub(super) fn bind(address: SocketAddr) -> io::Result<(TcpSocket, SocketAddr)> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address).map_err(|error| named(address, &error))?;
    let bound = socket.local_addr()?;
    Ok((socket, bound))
}

/// Binds a port that was ours a moment ago. A connection that happens to have it as its own end meanwhile is waited for.
pub(super) async fn bind_again(address: SocketAddr) -> io::Result<TcpSocket> {
    const PATIENCE: Duration = Duration::from_secs(30);
    let until = tokio::time::Instant::now() + PATIENCE;
    loop {
        match bind(address) {
            Ok((socket, _)) => return Ok(socket),
            Err(error) if tokio::time::Instant::now() >= until => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

fn listen(socket: TcpSocket) -> io::Result<TcpListener> {
    let address = socket.local_addr()?;
    socket.listen(BACKLOG).map_err(|error| named(address, &error))
}

fn named(address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
}

/// Both doors.
pub(super) enum Doors {
    Open(Open),
    Shut {
        smtp: TcpSocket,
        http: TcpSocket,
    },
    /// Being shut failed half-way: the ports are bound anew by the next try to open.
    Lost,
}

/// Dropping it cuts every connection off.
pub(super) struct Open {
    stop: DropGuard,
    tasks: TaskTracker,
}

impl Open {
    pub(super) fn new(cloud: &Arc<Cloud>, smtp: TcpSocket, http: TcpSocket) -> io::Result<Self> {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (smtp, http) = (listen(smtp)?, listen(http)?);
        tasks.spawn(exchange::serve(Arc::clone(cloud), smtp, stop.clone(), tasks.clone()));
        tasks.spawn(entra::serve(Arc::clone(cloud), http, stop.clone()));
        tasks.close();
        Ok(Self { stop: stop.drop_guard(), tasks })
    }

    /// Cuts every connection off and waits until that is done.
    pub(super) async fn shut(self) {
        drop(self.stop);
        self.tasks.wait().await;
    }
}
