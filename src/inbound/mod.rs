//! Mail comes in here: listeners, connections and the dialogue, up to the moment the queue has taken a message.
//!
//! `session` decides every answer and knows no socket; `connection` moves bytes between the wire, the session and the queue;
//! `listener` accepts connections and bounds them, with `proxy` and `tls` in front of the dialogue where configured. The queue is behind [`Intake`]: `250` goes out only after it said yes.

mod auth;
mod body;
mod certificates;
mod collector;
mod connection;
mod doorkeeper;
mod handshake;
mod head;
mod intake;
mod limits;
mod listener;
#[cfg(test)]
pub(crate) mod memory;
mod proxy;
mod queue_intake;
mod replies;
mod route;
mod session;
#[cfg(test)]
mod tests;
mod tls;
mod told;
mod wire;

pub use auth::{Login, Password};
pub use doorkeeper::{Doorkeeper, PasswordReader};
pub(crate) use head::Head;
pub use intake::{AcceptError, BodyWriter, Door, Intake, Room};
pub use listener::{bind, serve};
pub use queue_intake::QueueIntake;
pub use route::{Refused, SaidIn};
pub(crate) use route::{Route, route_of};
pub use session::{Chunk, Event, Facts, LoginOutcome, Mail, Outcome, Session, Tls, Welcome};
