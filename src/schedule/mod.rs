//! Which message leaves when: due times, pace, holds. Decided by a pure core, carried out by one task.

mod event;
mod gate;
pub mod pace;
mod proof;
pub mod retry;
mod scheduler;
mod task;
pub mod window;

pub use event::{Action, Event, Outcome, Proved, Standing, Stop, Throttle};
pub use scheduler::Scheduler;
pub use task::{Courier, Desk, Inbox, inbox, run};
