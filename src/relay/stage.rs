//! Tasks that belong together: stopped together, and watched over while they run.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks that are stopped together, and run until then.
pub(super) struct Stage {
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
    /// Hears of a task that has ended before that.
    failed: mpsc::UnboundedSender<String>,
}

impl Stage {
    pub(super) fn new(failed: mpsc::UnboundedSender<String>) -> Self {
        Self { stop: CancellationToken::new(), tasks: TaskTracker::new(), failed }
    }

    /// Starts a task, and notices when it ends although it should not.
    pub(super) fn run<T>(&self, what: &'static str, task: impl FnOnce(CancellationToken) -> T)
    where
        T: Future<Output = ()> + Send + 'static,
    {
        let (stop, failed) = (self.stop.clone(), self.failed.clone());
        let running = self.tasks.spawn(task(stop.clone()));
        tokio::spawn(async move {
            let ended = running.await;
            if ended.is_err() || !stop.is_cancelled() {
                let _ = failed.send(format!("{what} has ended unexpectedly; see the log"));
            }
        });
    }

    /// Whether all of it ends in time.
    pub(super) async fn end(&self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok()
    }
}
