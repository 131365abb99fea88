//! The control socket: the operations of the running relay as HTTP over a Unix socket, for the commands of the same machine.

mod client;
mod server;

pub use client::{Client, ControlError, Download};
pub use server::{bind, serve};

/// The socket's name in the data folder.
pub const SOCKET: &str = "control.sock";
