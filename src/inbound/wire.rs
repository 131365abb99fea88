//! The bytes of one connection: what was read and not yet understood, what was answered and not yet sent. Every wait has a deadline.
//!
//! Answers to pipelined commands go out together: they are sent when more bytes are needed, not before.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::server::TlsStream;

use crate::smtp::Reply;

/// How long a peer may refuse to take an answer.
const WRITE_DEADLINE: Duration = Duration::from_mins(1);
/// Answers are sent at the latest when there are so many octets of them: a peer that never reads cannot fill the memory.
const OUTPUT_LIMIT: usize = 16 * 1024;
/// How long, and for how many octets, a closed connection still listens, so that the last answer is not lost to a reset.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_OCTETS: usize = 256 * 1024;
/// What an idle connection keeps of its buffer.
const SMALL: usize = 8 * 1024;

/// Why a connection is over.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    /// The peer closed it.
    #[error("closed by the peer")]
    Closed,
    /// Nothing was heard for too long.
    #[error("nothing was heard for too long")]
    Idle,
    /// The same, behind a lone dot between bare line ends in a body: the peer believes that this is its end.
    #[error("lines that end without CRLF")]
    LoneDot,
    /// The relay stops.
    #[error("the relay stops")]
    Stopping,
    /// It broke, or the peer did not take an answer in time.
    #[error("broken: {0}")]
    Broken(#[from] io::Error),
}

/// A connection's two directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Asks the system to acknowledge at once what comes next: a client that writes a mail line by line waits 40 ms for an
    /// acknowledgement that is delayed. Lasts for one read or so, and is asked for again before each.
    fn hurry(&self);

    /// Whether everything that was received has been read: nothing of it is kept back here, such as a part of a TLS record.
    fn reads_all(&self) -> bool {
        false
    }
}

impl Stream for TcpStream {
    fn hurry(&self) {
        // A hint: if it fails, mail is slower, and a broken socket shows at the next read.
        #[cfg(target_os = "linux")]
        drop(self.set_quickack(true));
    }

    fn reads_all(&self) -> bool {
        true
    }
}

impl<S: Stream> Stream for TlsStream<S> {
    fn hurry(&self) {
        self.get_ref().0.hurry();
    }
}

/// The peer's bytes and ours.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    /// What came and is not understood yet.
    pub(super) input: BytesMut,
    output: Vec<u8>,
    /// Nothing was read since the last answer was sent.
    has_answered: bool,
    idle_timeout: Duration,
}

impl<S: Stream> Wire<S> {
    pub(super) fn new(stream: S, idle_timeout: Duration) -> Self {
        Self { stream, input: BytesMut::new(), output: Vec::new(), has_answered: false, idle_timeout }
    }

    /// The stream alone; what came and was not understood is dropped.
    pub(super) fn into_stream(self) -> S {
        self.stream
    }

    /// When a wait that begins now has lasted too long.
    pub(super) fn deadline(&self) -> Instant {
        Instant::now() + self.idle_timeout
    }

    /// Puts an answer into the output.
    pub(super) fn answer(&mut self, reply: &Reply) {
        self.output.extend_from_slice(reply.wire().as_bytes());
    }

    /// Whether so much is to be sent that it should be.
    pub(super) fn is_full(&self) -> bool {
        self.output.len() >= OUTPUT_LIMIT
    }

    /// Sends what is to be sent, then waits until `deadline` for more input, and reads up to about `size` octets of it.
    ///
    /// Nothing is lost if the wait is given up half-way.
    pub(super) async fn more(&mut self, size: usize, deadline: Instant) -> Result<(), Ended> {
        self.flush().await?;
        if self.input.is_empty() && size <= SMALL && self.input.capacity() > 2 * SMALL {
            self.input = BytesMut::new();
        }
        self.input.reserve(size);
        // Who has our answer has the acknowledgement with it. Who is in the middle of something may wait for one.
        if !(self.has_answered && self.stream.reads_all()) {
            self.stream.hurry();
        }
        self.has_answered = false;
        match timeout_at(deadline, self.stream.read_buf(&mut self.input)).await {
            Err(_) => Err(Ended::Idle),
            Ok(Ok(0)) => Err(Ended::Closed),
            Ok(Ok(_)) => Ok(()),
            // Over TLS: closed without a goodbye, as many programs do. What was not complete by then is not taken.
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Err(Ended::Closed),
            Ok(Err(error)) => Err(Ended::Broken(error)),
        }
    }

    /// Sends what is to be sent.
    pub(super) async fn flush(&mut self) -> Result<(), Ended> {
        if self.output.is_empty() {
            return Ok(());
        }
        let deadline = self.idle_timeout.min(WRITE_DEADLINE);
        let write = async {
            self.stream.write_all(&self.output).await?;
            // TLS may have taken the bytes and not sent them yet.
            self.stream.flush().await
        };
        timeout(deadline, write).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        self.output.clear();
        self.has_answered = true;
        Ok(())
    }

    /// Sends what is to be sent and says that nothing follows.
    pub(super) async fn close(&mut self) -> Result<(), Ended> {
        self.flush().await?;
        timeout(LINGER, self.stream.shutdown()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(())
    }

    /// Closes, and reads on for a moment: a socket closed with bytes unread is reset, and the peer may never see the last answer.
    pub(super) async fn close_gently(&mut self) -> Result<(), Ended> {
        self.close().await?;
        let mut left = LINGER_OCTETS;
        let mut scrap = vec![0; SMALL];
        let drain = async {
            while let Ok(n @ 1..) = self.stream.read(&mut scrap).await {
                left = left.saturating_sub(n);
                if left == 0 {
                    break;
                }
            }
        };
        // What comes is thrown away, and when it stops coming does not matter.
        drop(timeout(LINGER, drain).await);
        Ok(())
    }
}
