//! What came with a message beside its bytes.

use std::net::IpAddr;
use std::path::PathBuf;

use bytes::Bytes;

use super::{Address, EnvelopeId, Notify, OriginalRecipient, Return};

/// Who sent it to whom, as it was said in MAIL and RCPT (RFC 5321 section 2.3.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The reverse path; `None` is the null sender `<>`.
    pub sender: Option<Address>,
    /// The forward paths in the order of their RCPT commands. Never empty once accepted.
    pub recipients: Vec<Recipient>,
    /// MAIL said `SMTPUTF8` (RFC 6531).
    pub smtputf8: bool,
    /// How much comes back with a notice of failure, if MAIL said so.
    pub ret: Option<Return>,
    /// The sender's own name for the message, if MAIL gave one.
    pub envid: Option<EnvelopeId>,
}

/// One forward path with what RCPT said of notices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Where the message goes.
    pub address: Address,
    /// Of what the sender wants to hear; `None` if it left that to us.
    pub notify: Option<Notify>,
    /// Whom it was for in the first place, if the sender said so.
    pub orcpt: Option<OriginalRecipient>,
}

/// A recipient of whom nothing else was said.
impl From<Address> for Recipient {
    fn from(address: Address) -> Self {
        Self { address, notify: None, orcpt: None }
    }
}

/// What the `Received` header tells of the last hop (RFC 5321 section 4.4), and what routing needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Where the connection came from.
    pub peer: IpAddr,
    /// The argument of EHLO or HELO, or `None` if neither was said.
    pub helo: Option<String>,
    /// How it was handed over.
    pub protocol: Protocol,
    /// The user name of AUTH. The password is never kept.
    pub user: Option<String>,
}

/// The `with` clause of `Received` (RFC 3848, RFC 6531 section 4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// EHLO rather than HELO.
    pub extended: bool,
    /// TLS was in use.
    pub tls: bool,
    /// AUTH had succeeded.
    pub authenticated: bool,
}

/// The message's bytes as they came, dots unstuffed, or where they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// In memory, and in the database once stored.
    Inline(Bytes),
    /// In a file of its own, already synced.
    File(PathBuf),
}
