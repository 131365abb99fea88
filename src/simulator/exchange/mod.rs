//! Exchange Online's SMTP submission: strict about what it reads, moody about what it takes.

mod auth;
mod body;
mod command;
mod connection;
mod envelope;
mod inspect;
mod limits;
mod session;
#[cfg(test)]
mod tests;

pub(crate) use limits::Limits;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cloud::Cloud;

/// How long a failed `accept` is waited out.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`, then cuts every connection off.
pub(super) async fn serve(cloud: Arc<Cloud>, listener: TcpListener, stop: CancellationToken, tasks: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (cloud, stop) = (Arc::clone(&cloud), stop.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = connection::converse(cloud, stream, peer) => {}
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "could not accept an SMTP connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
