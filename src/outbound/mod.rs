//! Mail out: sessions with the upstream server, one attempt at a time, and what its replies mean.
//!
//! It decides nothing about when and whether a message is tried, and it writes nothing down: the caller gets a verdict for each
//! recipient, or the reason why there is none, and lines for the journal. Tokens are in none of them.

mod attempt;
mod capabilities;
mod connection;
mod content;
mod credentials;
mod errand;
mod error;
mod login_order;
mod moods;
mod parts;
mod pool;
pub mod replies;
mod rules;
mod send_as;
mod sender;
mod sessions;
mod settlement;
mod tls;
mod transaction;
mod under_way;
mod user_names;
mod verdict;
mod wire;

#[cfg(test)]
mod tests;

pub use attempt::{Attempt, Delivery, Session};
pub use connection::{Greeting, Timeouts};
pub use content::beginning;
pub use credentials::{Credentials, PasswordSource};
pub use error::AttemptError;
pub use moods::Moods;
pub use parts::Parts;
pub use pool::{Bounds, Pool};
pub use send_as::{SendAs, SenderStanding};
pub use sender::Sender;
pub use under_way::{Turn, UnderWay};
pub use user_names::{LastLogin, UserNames};
pub use verdict::{Class, Judge, Scope, Step, Verdict, judge, judge_with};
