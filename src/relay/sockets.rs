//! The sockets of the relay: bound before anything runs, served once everything does.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::stage::Stage;
use crate::config::{Config, Listener};
use crate::lane::Lanes;
use crate::ops::Ops;
use crate::pickup::{self, Folder};
use crate::service::Inherited;
use crate::store::Store;
use crate::{admin, control, inbound};

/// Everything that is bound at the start, so that a port that is taken is told before anything runs.
pub(super) struct Sockets {
    listeners: Vec<(TcpListener, Arc<Listener>)>,
    admin: TcpListener,
    control: UnixListener,
}

impl Sockets {
    pub(super) async fn bind(config: &Config, mut inherited: Inherited) -> anyhow::Result<Self> {
        let mut listeners = Vec::new();
        for listener in &config.listeners {
            let bound = match inherited.take(listener.address) {
                Some(socket) => TcpListener::from_std(socket),
                None => inbound::bind(listener),
            };
            match bound {
                Ok(socket) => listeners.push((socket, listener.clone())),
                Err(error) if listener.optional && is_missing_family(&error) => {
                    tracing::info!(address = %listener.address, "this machine has no IPv6: the listener is left out");
                }
                Err(error) => return Err(cannot_listen(&listener.address, "address in [[listener]]", &error)),
            }
        }
        let admin = match inherited.take(config.admin.address) {
            Some(socket) => TcpListener::from_std(socket),
            None => TcpListener::bind(config.admin.address).await,
        };
        let admin = admin.map_err(|error| cannot_listen(&config.admin.address, "address in [admin]", &error))?;
        inherited.used_up()?;
        let control = bind_control(&config.data_dir)?;
        Ok(Self { listeners, admin, control })
    }

    /// Starts to serve; returns where, in the order of the configuration, and where the page is.
    pub(super) fn serve(
        self,
        door: &Stage,
        ops: &Ops,
        doorkeeper: inbound::Doorkeeper,
    ) -> (Vec<SocketAddr>, SocketAddr) {
        let intake = Arc::new(ops.intake());
        let (config, clock) = (ops.config.clone(), ops.clock.clone());
        let behind = Arc::new(inbound::Door { intake, config, clock, doorkeeper, lanes: Lanes::default() });
        let mut addresses = Vec::new();
        for (socket, listener) in self.listeners {
            addresses.push(socket.local_addr().unwrap_or(listener.address));
            let (behind, tasks) = (behind.clone(), door.tasks.clone());
            door.run("a listener", |stop| inbound::serve(socket, listener, behind, stop, tasks));
        }
        match Folder::prepare(&ops.config.borrow().data_dir) {
            Ok(folder) => door.run("the drop folder", |stop| pickup::run(folder, behind, ops.store.clone(), stop)),
            Err(error) => tracing::error!(%error, "there is no drop folder: sendmail cannot be used"),
        }
        let admin = self.admin.local_addr().unwrap_or(ops.config.borrow().admin.address);
        let healthy = healthy(door, &ops.store);
        run_logged(door, "the page", |stop| admin::serve(self.admin, healthy, stop));
        run_logged(door, "the control socket", |stop| control::serve(self.control, ops.clone(), stop));
        (addresses, admin)
    }
}

/// Whether the store can still be written.
fn healthy(door: &Stage, store: &Store) -> watch::Receiver<bool> {
    let (alive, healthy) = watch::channel(true);
    let (store, stop) = (store.clone(), door.stop.clone());
    door.tasks.spawn(async move {
        tokio::select! {
            () = store.writer_gone() => drop(alive.send_replace(false)),
            // Whoever waits for a store that was closed in order waits for ever, and keeps it open.
            () = stop.cancelled() => {}
        }
    });
    healthy
}

/// Starts something that may fail, and says how it ended.
fn run_logged<T>(door: &Stage, what: &'static str, task: impl FnOnce(CancellationToken) -> T)
where
    T: Future<Output = std::io::Result<()>> + Send + 'static,
{
    door.run(what, |stop| {
        let task = task(stop);
        async move {
            if let Err(error) = task.await {
                tracing::error!(%error, "{what} has failed");
            }
        }
    });
}

fn bind_control(data_dir: &Path) -> anyhow::Result<UnixListener> {
    let path = data_dir.join(control::SOCKET);
    control::bind(&path).with_context(|| format!("cannot open the control socket {}", path.display()))
}

fn cannot_listen(address: &SocketAddr, key: &str, error: &std::io::Error) -> anyhow::Error {
    let why = match error.kind() {
        std::io::ErrorKind::AddrInUse => "another program listens there already".to_owned(),
        std::io::ErrorKind::PermissionDenied => "ports below 1024 need the right to use them".to_owned(),
        std::io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
        _ => error.to_string(),
    };
    anyhow::anyhow!("cannot listen on {address}: {why}; {key} names another one")
}

fn is_missing_family(error: &std::io::Error) -> bool {
    // EAFNOSUPPORT has no kind of its own.
    const ADDRESS_FAMILY_NOT_SUPPORTED: i32 = 97;
    error.kind() == std::io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(ADDRESS_FAMILY_NOT_SUPPORTED)
}
