//! The certificate of a listener as it is now: looked at every few seconds, replaced when its files hold another good one.
//!
//! A look is two calls of `stat`; the files are read only when they have changed. What cannot be used is said once, and the certificate
//! before stays in use. Sessions under way keep the one that they began with.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Certificate, CertificateError, Config};

/// How often is said that the certificate in use has expired.
const REMIND: Duration = Duration::from_hours(24);

/// The certificate that the next handshake uses.
#[derive(Debug)]
pub(super) struct Certificates {
    current: Mutex<Arc<Certificate>>,
    look_every: Duration,
}

impl Certificates {
    pub(super) fn new(certificate: Certificate, look_every: Duration) -> Self {
        Self { current: Mutex::new(Arc::new(certificate)), look_every }
    }

    pub(super) fn current(&self) -> Arc<Certificate> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Follows the files until `stop`. A configuration put in force ([`crate::relay::Relay::configure`], on SIGHUP) is a reason to look
    /// at once.
    pub(super) async fn keep_up(
        &self,
        listener: SocketAddr,
        mut config: watch::Receiver<Arc<Config>>,
        clock: &Clock,
        stop: &CancellationToken,
    ) {
        let mut ticks = interval(self.look_every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Expired at the start was said at the start.
        let mut log = Log { listener, fault: None, reminded_at: clock.now() };
        config.mark_unchanged();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
                Ok(()) = config.changed() => {}
            }
            let current = self.current();
            let looked = tokio::task::spawn_blocking({
                let current = Arc::clone(&current);
                move || Look::at(&current)
            });
            // It fails only if it panics: then the certificate stays, and the next look may do better.
            let look = looked.await.unwrap_or(Look::Same);
            log.of(&look, &current, clock.now());
            if let Look::New(certificate) = look {
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::from(certificate);
            }
        }
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current().pair())
    }
}

/// What was seen.
enum Look {
    /// The files that are known.
    Same,
    /// Others that can be used. They may hold the same certificate.
    New(Box<Certificate>),
    /// Others that cannot: half-written, or a new certificate whose key is not there yet.
    Bad(Vec<CertificateError>),
}

impl Look {
    fn at(current: &Certificate) -> Self {
        if !current.has_changed() {
            return Self::Same;
        }
        match current.read_again() {
            Ok(certificate) => Self::New(Box::new(certificate)),
            Err(errors) => Self::Bad(errors),
        }
    }
}

/// Says what is worth a line, once.
struct Log {
    listener: SocketAddr,
    fault: Option<String>,
    reminded_at: Timestamp,
}

impl Log {
    fn of(&mut self, look: &Look, current: &Certificate, now: Timestamp) {
        let (listener, file) = (self.listener, current.file().display());
        match look {
            Look::Same => self.fault = None,
            Look::New(certificate) => {
                self.fault = None;
                if certificate.chain() != current.chain() {
                    let not_after = certificate.not_after();
                    tracing::info!(%listener, %file, %not_after, "the certificate has changed and is used from now on");
                    self.doubt(certificate, now);
                }
            }
            Look::Bad(errors) => {
                let fault = errors.iter().map(|error| error.text.as_str()).collect::<Vec<_>>().join("; ");
                if self.fault.as_ref() != Some(&fault) {
                    tracing::warn!(%listener, "the certificate has changed but cannot be used, so the one before is kept: {fault}");
                    self.fault = Some(fault);
                }
            }
        }
        if now > current.not_after() && now > self.reminded_at + REMIND {
            self.doubt(current, now);
        }
    }

    fn doubt(&mut self, certificate: &Certificate, now: Timestamp) {
        self.reminded_at = now;
        if let Some(doubt) = certificate.doubt(now) {
            tracing::warn!(listener = %self.listener, "{doubt}");
        }
    }
}
