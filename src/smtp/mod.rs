//! The protocol's grammar for both directions: framing of lines and bodies, replies, dots. No I/O, and nothing of the relay.

mod reply;

pub use reply::Reply;
