//! Mail of the relay's own: test mails, warnings, notices about what could not be delivered. One place that says how such a mail gets into the
//! queue, where it is a mail like any other.

use std::net::{IpAddr, Ipv4Addr};

use bytes::Bytes;
use jiff::Timestamp;
use lettre::message::header::{ContentTransferEncoding, Header, HeaderName, HeaderValue};
use lettre::message::{Body as TextBody, Mailbox};

use crate::config::Config;
use crate::message::{Address, Body, Envelope, Lane, Protocol, QueueId, Trace};
use crate::registry;
use crate::store::Incoming;

/// A mail of our own, composed.
#[derive(Clone, Debug)]
pub struct OwnMail {
    /// Its name in the queue.
    pub id: QueueId,
    /// When it was written.
    pub at: Timestamp,
    /// As which app it is shown: `App::RELAY` or `App::SEND_TEST`.
    pub app: &'static str,
    /// Whose queue it waits in, and whom it is from in its header.
    pub through: Address,
    /// The reverse path: the mailbox, or `None` (`<>`) for a notice that must never be answered by another one.
    pub sender: Option<Address>,
    /// To whom; at least one.
    pub to: Vec<Address>,
    /// How urgent it is.
    pub lane: Lane,
    /// Why, in words.
    pub lane_why: &'static str,
    /// Its subject, decoded.
    pub subject: String,
    /// All of it, header included.
    pub bytes: Bytes,
}

impl OwnMail {
    /// As the queue takes it.
    pub fn incoming(self, config: &Config) -> Incoming {
        let outside = registry::is_outside(config, self.app, &self.through, self.to.iter());
        Incoming {
            id: self.id,
            received_at: self.at,
            app: self.app.to_owned(),
            account: self.through,
            lane: self.lane,
            lane_why: Some(self.lane_why.to_owned()),
            outside,
            envelope: Envelope {
                sender: self.sender,
                smtputf8: !self.to.iter().all(Address::is_ascii),
                recipients: self.to.into_iter().map(Into::into).collect(),
                ..Envelope::default()
            },
            trace: Trace {
                peer: IpAddr::V4(Ipv4Addr::LOCALHOST),
                helo: Some(config.hostname.clone()),
                protocol: Protocol { extended: true, tls: false, authenticated: false },
                user: None,
            },
            subject: config.queue.record_subjects.then_some(self.subject),
            size: u64::try_from(self.bytes.len()).unwrap_or(u64::MAX),
            body: Body::Inline(self.bytes),
        }
    }
}

/// An address for `From` or `To`.
///
/// # Errors
///
/// In words, when it cannot stand in a header.
pub fn mailbox(name: Option<&str>, address: &Address) -> Result<Mailbox, String> {
    let parsed = address.as_str().parse::<lettre::Address>();
    let parsed = parsed.map_err(|_| format!("{address} cannot be written into the header of a mail"))?;
    Ok(Mailbox::new(name.map(str::to_owned), parsed))
}

/// A text as it stands where ASCII and short lines allow it, else encoded. `text` has line feeds alone.
pub fn plain(text: &str) -> TextBody {
    /// RFC 5322 section 2.1.1.
    const LONGEST_LINE: usize = 998;
    let is_plain = text.is_ascii() && text.lines().all(|line| line.len() <= LONGEST_LINE);
    let text = text.replace('\n', "\r\n");
    if is_plain {
        TextBody::dangerous_pre_encoded(text.into_bytes(), ContentTransferEncoding::SevenBit)
    } else {
        TextBody::new(text)
    }
}

/// RFC 3834 section 5: holiday notices and their like are not to answer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoSubmitted {
    /// Nobody's mail was the reason.
    Generated,
    /// It says what became of another mail.
    Replied,
}

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(if text == "auto-replied" { Self::Replied } else { Self::Generated })
    }

    fn display(&self) -> HeaderValue {
        let value = match self {
            Self::Generated => "auto-generated",
            Self::Replied => "auto-replied",
        };
        HeaderValue::new(Self::name(), value.to_owned())
    }
}
