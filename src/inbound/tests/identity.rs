//! A certificate in a folder of its own, to be renewed at will, and clients that trust it or do not.

use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

use crate::config::{Certificate, Listener, ListenerTls, TlsBegins};
use crate::registry::testing;

/// `cert.pem` and `key.pem`, for `relay.test`.
pub(super) struct Identity {
    folder: TempDir,
}

impl Identity {
    pub(super) fn new() -> Self {
        let identity = Self { folder: tempfile::tempdir().unwrap() };
        let (certificate, key) = Self::pair();
        identity.write("cert.pem", &certificate);
        identity.write("key.pem", &key);
        identity
    }

    /// Another certificate and its key, PEM.
    pub(super) fn pair() -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["relay.test".to_owned()]).unwrap().self_signed(&key).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(super) fn certificate(&self) -> Certificate {
        Certificate::read(&self.path("cert.pem"), &self.path("key.pem")).unwrap()
    }

    pub(super) fn tls(&self, begins: TlsBegins) -> ListenerTls {
        ListenerTls { begins, required: false, certificate: self.certificate() }
    }

    pub(super) fn listener(&self, begins: TlsBegins) -> Listener {
        Listener { tls: Some(self.tls(begins)), ..testing::listener() }
    }

    /// A client that trusts the certificate as it is now, and no other.
    pub(super) fn trusted(&self) -> TlsConnector {
        let pem = std::fs::read(self.path("cert.pem")).unwrap();
        connector(&[CertificateDer::from_pem_slice(&pem).unwrap()])
    }
}

/// A client that trusts these certificates.
pub(super) fn connector(trusted: &[CertificateDer<'static>]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots.add(certificate.clone()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}
