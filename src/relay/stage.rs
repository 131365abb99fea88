//! Tasks that belong together: stopped together, and watched over while they run.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks that are stopped together.
#[derive(Default)]
pub(super) struct Stage {
    pub(super) stop: CancellationToken,
    pub(super) tasks: TaskTracker,
}

impl Stage {
    /// Whether all of it ends in time.
    pub(super) async fn end(&self, deadline: Duration) -> bool {
        self.stop.cancel();
        self.tasks.close();
        tokio::time::timeout(deadline, self.tasks.wait()).await.is_ok()
    }
}

/// Notices when a task ends that should not.
#[derive(Clone)]
pub(super) struct Watcher {
    pub(super) failed: mpsc::UnboundedSender<String>,
}

impl Watcher {
    pub(super) fn over(&self, stage: &Stage, what: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (stop, failed) = (stage.stop.clone(), self.failed.clone());
        let running = stage.tasks.spawn(task);
        tokio::spawn(async move {
            let ended = running.await;
            if ended.is_err() || !stop.is_cancelled() {
                let _ = failed.send(format!("{what} has ended unexpectedly; see the log"));
            }
        });
    }
}
