//! Mail as values and text: addresses, envelopes, headers, rewriting. No I/O, and nothing of the relay.

mod address;
mod envelope;
mod headers;
mod id;

pub use address::{Address, AddressError};
pub use envelope::{Body, Envelope, Protocol, Trace};
pub use headers::{Field, Headers};
pub use id::QueueId;
