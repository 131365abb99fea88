//! What the service manager is told (`sd_notify(3)`): when we are ready, how we are, and that we are still there.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use crate::ops::{Ops, Status};

/// How often the status is looked at, at most: reading it costs a few milliseconds.
const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// Whom we tell. Cheap to clone; tells nobody where there is no service manager.
#[derive(Clone, Debug, Default)]
pub struct Manager {
    note: Arc<Mutex<String>>,
}

impl Manager {
    /// Mail is taken.
    pub fn ready(&self, status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The configuration is read again; [`Self::ready`] tells when it is.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => tracing::debug!(%error, "no monotonic clock"),
        }
    }

    /// We are about to end.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping, NotifyState::Status("stopping: mail under way may still leave")]);
    }

    /// What stands in front of every status from now on; empty: nothing.
    pub fn note(&self, note: &str) {
        note.clone_into(&mut self.note.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// How things stand, in one line.
    pub async fn status(&self, ops: &Ops) -> String {
        let status = ops.status().await.map_or_else(|error| error.to_string(), |status| sentence(&status));
        let note = self.note.lock().unwrap_or_else(PoisonError::into_inner);
        if note.is_empty() { status } else { format!("{note}; {status}") }
    }
}

/// Tells how things stand, and feeds the watchdog as long as the writer and the scheduler answer. Until `stop`.
pub async fn accompany(manager: Manager, ops: Ops, stop: CancellationToken) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    // Half of it is what systemd asks for; a quarter leaves room for a disk that takes its time.
    let watchdog = sd_notify::watchdog_enabled();
    let every = watchdog.map_or(LOOK_AGAIN, |limit| limit / 4).min(LOOK_AGAIN);
    let look = async {
        loop {
            tokio::time::sleep(every).await;
            if ops.answers().await && watchdog.is_some() {
                tell(&[NotifyState::Watchdog]);
            }
            tell(&[NotifyState::Status(&manager.status(&ops).await)]);
        }
    };
    stop.run_until_cancelled(look).await;
}

/// `2 accounts; 14 messages wait; held: lms@contoso.com (the sign-in no longer works)`.
fn sentence(status: &Status) -> String {
    let mut parts = vec![format!("{} account{}", status.accounts.len(), plural(status.accounts.len() as u64))];
    let queue = &status.queue;
    parts.push(match queue.waiting {
        0 => "nothing waits".to_owned(),
        1 => "1 message waits".to_owned(),
        n => format!("{n} messages wait"),
    });
    if queue.dead > 0 {
        parts.push(format!("{} dead letter{}", queue.dead, plural(queue.dead)));
    }
    let held = status.accounts.iter().filter_map(|account| Some((&account.mailbox, account.hold.as_ref()?)));
    let held: Vec<String> = held.map(|(mailbox, hold)| format!("{mailbox} ({})", hold.text)).collect();
    let removed = status.removed_accounts.iter().map(|account| format!("{} (removed)", account.mailbox));
    let held: Vec<String> = held.into_iter().chain(removed).collect();
    if !held.is_empty() {
        parts.push(format!("held: {}", held.join(", ")));
    }
    parts.join("; ")
}

fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// A service manager that cannot be told is no reason to stop relaying mail.
fn tell(news: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(news) {
        tracing::warn!(%error, "could not tell the service manager how we are");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{QueueCounts, RemovedAccount};

    fn status(waiting: u64, dead: u64) -> Status {
        Status {
            key: None,
            version: String::new(),
            hostname: String::new(),
            started_at: jiff::Timestamp::UNIX_EPOCH,
            queue: QueueCounts { waiting, dead, ..QueueCounts::default() },
            forecast: None,
            accounts: Vec::new(),
            told_nobody: 0,
            has_postmaster: false,
            removed_accounts: Vec::new(),
            expires: Vec::new(),
        }
    }

    #[test]
    fn the_status_is_one_sentence() {
        assert_eq!(sentence(&status(0, 0)), "0 accounts; nothing waits");
        assert_eq!(sentence(&status(1, 1)), "0 accounts; 1 message waits; 1 dead letter");
        let mailbox = "erp@contoso.com".to_owned();
        let removed = RemovedAccount { mailbox, queue: QueueCounts::default(), forecast: None };
        let status = Status { removed_accounts: vec![removed], ..status(14, 2) };
        assert_eq!(sentence(&status), "0 accounts; 14 messages wait; 2 dead letters; held: erp@contoso.com (removed)");
    }
}
