//! Bytes to and from the server, each wait with its deadline.
//!
//! It listens while it writes: a server may refuse a message before it has all of it, and one that waits for its replies to be
//! read must not wait for ever.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::smtp::{Reply, ReplyError, ReplyParser};

/// How much a server may say before it is read. A pipelined batch for 500 recipients is answered in less.
const MOST_BUFFERED: usize = 256 * 1024;

/// How long last words are waited for once nothing can be sent any more.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// A connection, plain or protected, with the replies that came over it.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    replies: ReplyParser,
    /// Why nothing more will come.
    ended: Option<io::Error>,
    /// Why nothing more can be sent.
    broken: Option<io::Error>,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Why no reply came.
#[derive(Debug)]
pub(super) enum NoReply {
    /// The connection is gone, or the time is up.
    Lost(io::Error),
    /// What came is no reply.
    Garbled(ReplyError),
}

/// Bytes did not leave. Why is told by the reply that is asked for next, or by its absence.
#[derive(Debug)]
pub(super) struct Unsent {
    /// All of them had been handed to the system before it failed: the server may have them.
    pub(super) handed_over: bool,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream: Stream::Plain(stream), replies: ReplyParser::new(), ended: None, broken: None }
    }

    /// The same connection under TLS. What came before it was protected must have been read: see [`Wire::is_quiet`].
    pub(super) async fn protect(
        self,
        config: Arc<rustls::ClientConfig>,
        name: ServerName<'static>,
        limit: Duration,
    ) -> io::Result<Self> {
        let Stream::Plain(stream) = self.stream else { return Ok(self) };
        let stream = within(limit, TlsConnector::from(config).connect(name, stream)).await?;
        Ok(Self { stream: Stream::Tls(Box::new(stream)), replies: ReplyParser::new(), ended: None, broken: None })
    }

    /// Whether the server has said nothing that was not asked for, and not ended the connection. Does not wait.
    pub(super) async fn is_quiet(&mut self) -> bool {
        poll_fn(|cx| {
            self.listen(cx);
            Poll::Ready(())
        })
        .await;
        self.replies.buffered() == 0 && self.ended.is_none()
    }

    /// Sends all of `bytes`, reading meanwhile.
    pub(super) async fn send(&mut self, bytes: &[u8], limit: Duration) -> Result<(), Unsent> {
        let mut taken = 0;
        let sent = within(limit, poll_fn(|cx| self.poll_send(cx, bytes, &mut taken))).await;
        sent.map_err(|source| {
            self.broken = Some(source);
            Unsent { handed_over: taken == bytes.len() }
        })
    }

    /// The next reply. Where sending has failed, what the server said before it went away.
    pub(super) async fn reply(&mut self, limit: Duration) -> Result<Reply, NoReply> {
        let limit = if self.broken.is_some() { limit.min(LAST_WORDS) } else { limit };
        let reply = within(limit, poll_fn(|cx| self.poll_reply(cx).map(Ok))).await;
        match (reply.unwrap_or_else(|late| Err(NoReply::Lost(late))), &self.broken) {
            (Err(NoReply::Lost(_)), Some(broken)) => Err(NoReply::Lost(again(broken))),
            (reply, _) => reply,
        }
    }

    /// A reply that is already there, without waiting.
    pub(super) fn reply_at_hand(&mut self) -> Result<Option<Reply>, NoReply> {
        self.replies.next_reply().map_err(NoReply::Garbled)
    }

    fn poll_reply(&mut self, cx: &mut Context<'_>) -> Poll<Result<Reply, NoReply>> {
        loop {
            if let Some(reply) = self.reply_at_hand().transpose() {
                return Poll::Ready(reply);
            }
            if let Some(ended) = &self.ended {
                return Poll::Ready(Err(NoReply::Lost(again(ended))));
            }
            if self.replies.buffered() > MOST_BUFFERED {
                return Poll::Ready(Err(NoReply::Garbled(ReplyError::TooManyLines)));
            }
            ready!(self.poll_read(cx));
        }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8], taken: &mut usize) -> Poll<io::Result<()>> {
        self.listen(cx);
        while *taken < bytes.len() {
            match self.stream.pinned().poll_write(cx, &bytes[*taken..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => *taken += n,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => break,
            }
        }
        if *taken == bytes.len()
            && let Poll::Ready(flushed) = self.stream.pinned().poll_flush(cx)
        {
            return Poll::Ready(flushed);
        }
        // Whoever has ended their side reads no more of ours.
        self.ended.as_ref().map_or(Poll::Pending, |ended| Poll::Ready(Err(again(ended))))
    }

    /// Takes in what has come, as far as there is room for it.
    fn listen(&mut self, cx: &mut Context<'_>) {
        while self.ended.is_none() && self.replies.buffered() < MOST_BUFFERED {
            if self.poll_read(cx).is_pending() {
                return;
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut space = [0; 4096];
        let mut buffer = ReadBuf::new(&mut space);
        match ready!(self.stream.pinned().poll_read(cx, &mut buffer)) {
            Ok(()) if buffer.filled().is_empty() => self.ended = Some(closed()),
            Ok(()) => self.replies.feed(buffer.filled()),
            // rustls says this of an end without a farewell, in words for programmers.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => self.ended = Some(closed()),
            Err(error) => self.ended = Some(error),
        }
        Poll::Ready(())
    }
}

impl Stream {
    fn pinned(&mut self) -> Pin<&mut dyn Both> {
        match self {
            Self::Plain(stream) => Pin::new(stream),
            Self::Tls(stream) => Pin::new(stream),
        }
    }
}

trait Both: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Both for T {}

/// `wait`, or an error that says how long was waited.
pub(super) async fn within<T>(limit: Duration, wait: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| {
        let waited = format!("nothing for {} s", limit.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, waited))
    };
    tokio::time::timeout(limit, wait).await.unwrap_or_else(late)
}

/// The server has ended the connection, under TLS with or without a farewell.
fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed it")
}

/// I/O errors cannot be cloned; kind and words can.
fn again(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
