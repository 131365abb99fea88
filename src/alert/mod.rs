//! Says that a person is needed, over another road than the mail: webhooks, a command, a heartbeat whose silence is the alarm, and mail for
//! what is still to come.
//!
//! From the inside out: `trouble` is what can be wrong, `look` derives what is wrong *now* from how things stand, `alerts` (pure) decides who
//! is told what and when (`case` is one cause, `memory` what of it outlives a restart), `notice` and `format` are its words. `task` looks every minute and whenever something happens, and carries out what
//! is decided with a `receiver` each. Since every look starts from how things stand, a lost event loses no alert.
//!
//! Promises: a cause is told once, then reminded of at growing intervals, and told to be over to whoever had heard of it; over restarts too.
//! A receiver that fails is tried again as long as there is something to tell, and keeps nobody else waiting. No secret and nothing of a mail
//! is told, and of a receiver's address nothing but the host is logged.

mod alerts;
mod case;
mod command;
mod format;
mod heartbeat;
mod http;
mod look;
mod mail;
mod memory;
mod notice;
mod receiver;
mod task;
mod trouble;

pub use alerts::{Action, Alerts, Event, Handed};
pub use look::{Looked, look};
pub use notice::{Item, Notice, State};
pub use receiver::{Receiver, ReceiverName, SendError, receivers};
pub use task::{Bell, Ears, bell, run};
pub use trouble::{Cause, Kind, Severity, Trouble};
