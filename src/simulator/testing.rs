//! A plain SMTP client for the tests of the simulator: it sends what it is told and reads whole replies.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::{Options, Simulator, SmtpTls};

pub(super) const MAILBOX: &str = "lms@contoso.com";
pub(super) const HELLO: &str = "From: lms@contoso.com\r\nSubject: hello\r\n\r\nHello.\r\n";
const DEADLINE: Duration = Duration::from_secs(30);

trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

pub(super) struct Client {
    stream: BufStream<Box<dyn Wire>>,
}

/// A simulator without TLS and without limits, unless `change` says otherwise.
pub(super) async fn microsoft(change: impl FnOnce(&mut Options)) -> Simulator {
    let mut options = Options {
        tls: SmtpTls::None,
        messages_per_minute: 0,
        connections: 0,
        device_interval: Duration::ZERO,
        ..Options::default()
    };
    change(&mut options);
    Simulator::start(options).await.unwrap()
}

impl Client {
    /// Connects; the greeting is still to be read.
    pub(super) async fn dial(microsoft: &Simulator) -> Self {
        let stream = TcpStream::connect(microsoft.smtp_addr()).await.unwrap();
        Self { stream: BufStream::new(Box::new(stream)) }
    }

    /// Connects, reads the greeting and says EHLO.
    pub(super) async fn connect(microsoft: &Simulator) -> Self {
        let mut client = Self::dial(microsoft).await;
        assert!(client.reply().await.starts_with("220 "));
        assert!(client.say("EHLO client.example").await.starts_with("250-"));
        client
    }

    /// Connects without TLS and signs in.
    pub(super) async fn signed_in(microsoft: &Simulator) -> Self {
        let mut client = Self::connect(microsoft).await;
        let reply = client.auth(MAILBOX, &microsoft.issue_access_token(MAILBOX)).await;
        assert_eq!(reply, "235 2.7.0 Authentication successful");
        client
    }

    /// The TLS handshake, trusting the simulator's authority only.
    pub(super) async fn secure(self, microsoft: &Simulator, name: &'static str) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(microsoft.ca_pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(ServerName::try_from(name).unwrap(), self.stream.into_inner()).await?;
        Ok(Self { stream: BufStream::new(Box::new(stream)) })
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends a line and reads the reply to it.
    pub(super) async fn say(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes()).await;
        self.reply().await
    }

    /// A whole reply, its lines parted by line feeds; empty if the connection was closed instead.
    pub(super) async fn reply(&mut self) -> String {
        let mut reply = String::new();
        loop {
            let mut line = String::new();
            let read = timeout(DEADLINE, self.stream.read_line(&mut line)).await.expect("an answer in time");
            if read.unwrap_or(0) == 0 {
                return reply;
            }
            reply.push_str(line.strip_suffix("\r\n").expect("a reply's line ends with CRLF"));
            if line.as_bytes().get(3) != Some(&b'-') {
                return reply;
            }
            reply.push('\n');
        }
    }

    /// Waits until the connection is closed.
    pub(super) async fn is_closed(&mut self) -> bool {
        self.reply().await.is_empty()
    }

    /// As [`Self::say`], on a connection that may be closed already: then the reply is empty.
    pub(super) async fn say_to_the_end(&mut self, line: &str) -> String {
        let line = format!("{line}\r\n");
        let written = self.stream.write_all(line.as_bytes()).await.is_ok() && self.stream.flush().await.is_ok();
        if written { self.reply().await } else { String::new() }
    }

    /// AUTH XOAUTH2 in two steps.
    pub(super) async fn auth(&mut self, user: &str, token: &str) -> String {
        assert_eq!(self.say("AUTH XOAUTH2").await, "334 ");
        self.say(&blob(user, token)).await
    }

    /// Everything up to DATA's 354.
    pub(super) async fn begin(&mut self, from: &str, to: &str) {
        assert_eq!(self.say(&format!("MAIL FROM:<{from}>")).await, "250 2.1.0 Sender OK");
        assert_eq!(self.say(&format!("RCPT TO:<{to}>")).await, "250 2.1.5 Recipient OK");
        assert!(self.say("DATA").await.starts_with("354 "));
    }

    /// A whole message from the mailbox: the reply to its final dot.
    pub(super) async fn mail(&mut self, to: &str, message: &str) -> String {
        self.begin(MAILBOX, to).await;
        self.send(message.as_bytes()).await;
        self.say(".").await
    }
}

/// The one line of XOAUTH2.
pub(super) fn blob(user: &str, token: &str) -> String {
    STANDARD.encode(format!("user={user}\x01auth=Bearer {token}\x01\x01"))
}
