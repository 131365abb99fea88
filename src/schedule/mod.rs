//! Which message leaves when, and through which account: due times, lanes, fairness, pace, holds. Decided by a pure core, carried out by one task.

mod carrier;
mod event;
mod fairness;
mod gate;
pub mod pace;
mod proof;
mod rate;
pub mod retry;
mod scheduler;
mod task;
pub mod window;

pub use carrier::Routes;
pub use event::{Action, Counted, Event, Outcome, Proved, Standing, Stop, Throttle};
pub use scheduler::Scheduler;
pub use task::{Courier, Desk, Inbox, Letters, inbox, run};
