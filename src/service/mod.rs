//! The service manager, as systemd and its like are one: sockets that it has bound for us, and what it is told of how we are.
//!
//! Without one, all of this does nothing.

mod inherited;
mod manager;

pub use inherited::{Inherited, InheritedError};
pub use manager::{Manager, accompany};
