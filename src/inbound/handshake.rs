//! Why a TLS handshake failed, and what an administrator does about it.

use std::fmt;
use std::io;

use rustls::{AlertDescription, Error, PeerIncompatible};

/// Why there is no TLS with a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// It offers nothing newer than TLS 1.1.
    TooOld,
    /// It offers TLS 1.2 or 1.3, but nothing to fill it with that is taken here.
    NothingInCommon,
    /// It refused the certificate.
    Distrust(AlertDescription),
    /// What it sent is no TLS.
    NotTls,
    /// It closed the connection.
    Closed,
    /// It took too long.
    Late,
    /// Anything else, in the words of rustls or the system.
    Other(String),
}

impl Failure {
    pub(super) fn of(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        match tls {
            Some(Error::PeerIncompatible(why)) if is_about_versions(why) => Self::TooOld,
            Some(Error::AlertReceived(AlertDescription::ProtocolVersion)) => Self::TooOld,
            Some(Error::PeerIncompatible(_)) => Self::NothingInCommon,
            Some(Error::AlertReceived(alert)) if is_about_certificates(*alert) => Self::Distrust(*alert),
            Some(Error::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity)) => {
                Self::NothingInCommon
            }
            Some(Error::InvalidMessage(_)) => Self::NotTls,
            Some(other) => Self::Other(other.to_string()),
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    Self::Closed
                }
                _ => Self::Other(error.to_string()),
            },
        }
    }

    /// A word for each kind, to tell them apart.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::TooOld => "too old",
            Self::NothingInCommon => "nothing in common",
            Self::Distrust(_) => "distrust",
            Self::NotTls => "not tls",
            Self::Closed => "closed",
            Self::Late => "late",
            Self::Other(_) => "other",
        }
    }
}

/// A program that knows nothing newer than TLS 1.1 lacks an extension of 1.2 first (RFC 5246 section 7.4.1.4.1), and rustls looks for that
/// before it looks at the version.
fn is_about_versions(why: &PeerIncompatible) -> bool {
    matches!(
        why,
        PeerIncompatible::SignatureAlgorithmsExtensionRequired
            | PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::SupportedVersionsExtensionRequired
    )
}

/// RFC 8446 section 6.2.
fn is_about_certificates(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
    )
}

/// Stands behind "no TLS with PEER: the program".
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooOld => f.write_str(
                "knows only TLS 1.1 or older, and the relay needs 1.2: update it, or give its network a listener with tls = \"none\"",
            ),
            Self::NothingInCommon => f.write_str(
                "has no cipher or key exchange in common with the relay, which needs ECDHE with AES-GCM or ChaCha20: update it, use a \
                 certificate with an RSA key if it knows no other, or give its network a listener with tls = \"none\"",
            ),
            Self::Distrust(alert) => write!(
                f,
                "does not accept the relay's certificate ({alert:?}): it has to be for the name that the program connects to, valid, whole \
                 with its chain, and of an authority that the program's machine trusts",
            ),
            Self::NotTls => f.write_str(
                "sent something that is no TLS: set its encryption to what \"tls\" of this listener says \
                 (\"implicit\": SSL/TLS; \"starttls\": STARTTLS)",
            ),
            Self::Closed => f.write_str(
                "closed the connection in the middle of the handshake: it may not trust the relay's certificate; its own log says more",
            ),
            Self::Late => f.write_str(
                "did not finish the handshake in time: with tls = \"implicit\" its encryption has to be SSL/TLS, not STARTTLS and not none",
            ),
            Self::Other(error) => write!(f, "failed: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_has_its_remedy() {
        for (error, words) in [
            (Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered), "update it, or give its network a listener"),
            (Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), "no cipher or key exchange in common"),
            (Error::AlertReceived(AlertDescription::UnknownCA), "(UnknownCA): it has to be for the name"),
            (Error::AlertReceived(AlertDescription::ProtocolVersion), "only TLS 1.1"),
            (Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType), "is no TLS"),
            (Error::AlertReceived(AlertDescription::InternalError), "failed: received fatal alert"),
        ] {
            let said = Failure::of(&io::Error::new(io::ErrorKind::InvalidData, error)).to_string();
            assert!(said.contains(words), "{said}");
        }
        let closed = Failure::of(&io::Error::new(io::ErrorKind::UnexpectedEof, "tls handshake eof"));
        assert_eq!(closed, Failure::Closed);
    }
}
