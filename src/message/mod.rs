//! Mail as values and text: addresses, envelopes, headers, rewriting. No I/O, and nothing of the relay.

mod address;
mod date;
mod envelope;
mod headers;
mod id;
mod lane;
mod mailboxes;
mod notices;
mod received;
mod rewrite;
mod sender;

pub use address::{Address, AddressError, domain_key};
pub use date::date;
pub use envelope::{Body, Envelope, Protocol, Recipient, Trace};
pub use headers::{Field, Headers};
pub use id::{NotAnId, QueueId};
pub use lane::Lane;
pub use mailboxes::{Mailbox, Mailboxes};
pub use notices::{EnvelopeId, Notify, OriginalRecipient, Return, typed_address};
pub use received::received;
pub use rewrite::{HEADER_LIMIT, Policy, Rewritten, rewrite};
pub use sender::{Permitted, SenderPolicy, doubtful_sender, foreign_sender};
