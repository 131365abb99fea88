//! Telling people what became of their mail: delivery status notices (RFC 3464) to senders, warnings that something takes long, and a digest to
//! the postmaster of what no sender would read. `docs/notices.md` has the rules.
//!
//! `addressee` says who would read a notice, `plan` who is told when (both pure), `memory` is what was told lately, `affair` what a notice
//! is about; `dsn` and `digest` write, with the words of `meaning`. The `task` looks and commits. Who has to be told stands in the
//! store, together with the message: a lost event loses no notice, and the mail that tells is committed with the mark that it was told.

mod addressee;
mod affair;
mod digest;
mod dsn;
mod meaning;
mod memory;
mod plan;
mod task;

pub use task::{Desk, run};
