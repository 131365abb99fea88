//! HTTP connections that can be hung up on: by a fault in the middle of a request, and by the simulator going away.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How long a failed `accept` is waited out.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens for HTTP; `stop` hangs up on every connection.
pub(super) struct Switchboard {
    pub(super) listener: TcpListener,
    pub(super) stop: CancellationToken,
}

impl Listener for Switchboard {
    type Io = Line;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Line, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return (Line::new(stream, self.stop.child_token()), peer),
                Err(error) => {
                    tracing::warn!(%error, "could not accept an HTTP connection");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// Ends the connection that a request came in by. Cloned into each request.
#[derive(Clone, Debug)]
pub(super) struct Hangup(pub(super) CancellationToken);

impl Connected<IncomingStream<'_, Switchboard>> for Hangup {
    fn connect_info(stream: IncomingStream<'_, Switchboard>) -> Self {
        Self(stream.io().hangup.clone())
    }
}

/// One HTTP connection.
pub(super) struct Line {
    stream: TcpStream,
    hangup: CancellationToken,
    hung_up: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Line {
    fn new(stream: TcpStream, hangup: CancellationToken) -> Self {
        let hung_up = Box::pin(hangup.clone().cancelled_owned());
        Self { stream, hangup, hung_up }
    }

    /// An error once somebody hung up; until then the task is woken when that happens.
    fn poll_alive(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.hung_up.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::ConnectionAborted.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_alive(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_alive(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
