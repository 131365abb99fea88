//! Mail that local programs leave in the drop folder, `data_dir/drop`: cron, scripts and PHP's `mail()`, by way of the `sendmail` command.
//!
//! Every local user may leave mail there, and it waits there while the relay is down. Nobody but the relay can list the folder or read
//! what others left: it is `3733`, so that files get the relay's group and only their owner or the relay may remove them.
//!
//! `letter` is the file's form, `folder` the files and their names, `envelope` makes SMTP's words of a letter, `task` takes them into the queue. How a crash is survived: `task`.

mod envelope;
mod folder;
mod letter;
mod task;
mod users;
mod watch;

pub use folder::{Folder, LeaveError, leave};
pub use letter::{Letter, LetterError, Sender};
pub use task::run;
