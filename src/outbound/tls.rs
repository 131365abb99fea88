//! Which certificates are trusted: the platform's roots, and the account's own beside them.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, Error};
use rustls_pki_types::CertificateDer;
use rustls_platform_verifier::Verifier;

type Roots = Arc<[CertificateDer<'static>]>;

/// One client configuration for each set of extra roots: reading the platform's roots takes a while.
#[derive(Debug, Default)]
pub(super) struct TlsConfigs {
    made: Mutex<Vec<(Roots, Arc<ClientConfig>)>>,
}

impl TlsConfigs {
    /// The configuration that trusts the platform and `extra`. Fails if that is nobody at all, or if `extra` holds what is no
    /// certificate.
    pub(super) fn trusting(&self, extra: &Roots) -> Result<Arc<ClientConfig>, Error> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, config)) = made.iter().find(|(roots, _)| roots == extra) {
            return Ok(config.clone());
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Verifier::new_with_extra_roots(extra.iter().cloned(), provider.clone())?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            // The platform's own way to check; nothing is checked less.
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        let config = Arc::new(config);
        made.push((extra.clone(), config.clone()));
        Ok(config)
    }
}
