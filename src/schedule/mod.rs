//! Which message leaves when: due times, pace, holds. Decided by a pure core, carried out by one task.

pub mod pace;
pub mod retry;
mod scheduler;
mod task;
pub mod window;

pub use scheduler::{Action, Event, Outcome, Scheduler, Standing};
pub use task::{Courier, Desk, Inbox, inbox, run};
