//! The protocol's grammar for both directions: framing of lines and bodies, replies, dots. No I/O, and nothing of the relay.

mod body;
mod command;
mod data_encoder;
mod line;
mod parameters;
mod path;
mod reply;
mod reply_parser;

pub use body::{BodyDecoder, Decoded};
pub use command::{Command, CommandError, MailFrom, Mechanism};
pub use data_encoder::{DataEncoder, Mended};
pub use line::{Expect, LineDecoder, LineError};
pub use path::PathError;
pub use reply::Reply;
pub use reply_parser::{ReplyError, ReplyParser};
