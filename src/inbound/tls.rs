//! TLS of one listener: the handshake, with its deadline and what is said when it fails.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::certificates::Certificates;
use super::handshake::Failure;
use super::session::Tls;
use super::told::Told;
use super::wire::Stream as _;
use crate::config::{ListenerTls, TlsBegins};

/// How long a handshake may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often the files of the certificate are looked at.
const LOOK: Duration = Duration::from_secs(10);

/// What a listener needs for TLS.
pub(super) struct TlsDoor {
    pub(super) begins: TlsBegins,
    pub(super) certificates: Arc<Certificates>,
    required: bool,
    listener: SocketAddr,
    deadline: Duration,
    acceptor: TlsAcceptor,
    told: Told,
}

impl TlsDoor {
    /// TLS 1.2 and 1.3, with the ciphers that rustls thinks safe.
    pub(super) fn new(tls: &ListenerTls, listener: SocketAddr, idle_timeout: Duration) -> Self {
        let certificates = Arc::new(Certificates::new(tls.certificate.clone(), LOOK));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs has ciphers for TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(certificates.clone());
        Self {
            begins: tls.begins,
            certificates,
            required: tls.required,
            listener,
            deadline: DEADLINE.min(idle_timeout),
            acceptor: TlsAcceptor::from(Arc::new(config)),
            told: Told::default(),
        }
    }

    /// What a session has of TLS when its connection begins.
    pub(super) fn at_first(&self) -> Tls {
        match (self.begins, self.required) {
            (TlsBegins::AtOnce, _) => Tls::Implicit,
            (TlsBegins::WithStartTls, true) => Tls::Required,
            (TlsBegins::WithStartTls, false) => Tls::Offered,
        }
    }

    /// What a session has of TLS behind the handshake.
    pub(super) fn at_last(&self) -> Tls {
        match self.begins {
            TlsBegins::AtOnce => Tls::Implicit,
            TlsBegins::WithStartTls => Tls::Started,
        }
    }

    /// The handshake; `None` if there is no TLS with this peer, or the relay stops.
    pub(super) async fn handshake(
        &self,
        stream: TcpStream,
        peer: IpAddr,
        stop: &CancellationToken,
    ) -> Option<TlsStream<TcpStream>> {
        stream.hurry();
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            accepted = timeout(self.deadline, self.acceptor.accept(stream)) => accepted,
        };
        let failure = match accepted {
            Ok(Ok(stream)) => {
                let (_, tls) = stream.get_ref();
                let (version, cipher) =
                    (tls.protocol_version(), tls.negotiated_cipher_suite().map(|suite| suite.suite()));
                tracing::debug!(%peer, ?version, ?cipher, "TLS begins");
                return Some(stream);
            }
            Ok(Err(error)) => Failure::of(&error),
            Err(_) => Failure::Late,
        };
        self.tell(peer, &failure);
        None
    }

    fn tell(&self, peer: IpAddr, failure: &Failure) {
        let listener = self.listener;
        // Monitoring connects and closes without a word all day.
        let is_probe = *failure == Failure::Closed && self.begins == TlsBegins::AtOnce;
        if !is_probe && self.told.is_news(peer, failure.kind()) {
            tracing::warn!(%listener, "no TLS with {peer}: the program {failure} (the same of {peer} is not said again for a day)");
        } else {
            tracing::debug!(%listener, "no TLS with {peer}: the program {failure}");
        }
    }
}
