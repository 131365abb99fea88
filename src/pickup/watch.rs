//! Hears within a second of new names in a folder, by the time of the folder's last change: one call to the system, where reading the
//! folder takes several. (inotify would be woken instead, but tokio has no way to wait for it without unsafe code.)

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// How often the time is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// A change that is younger may be followed by another one of the same time: file systems count in ticks of some milliseconds, some in
/// two seconds.
const SETTLED: Duration = Duration::from_secs(3);

pub(super) struct Watch {
    folder: PathBuf,
    seen: Option<SystemTime>,
}

impl Watch {
    pub(super) fn over(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), seen: None }
    }

    /// Waits until there may be a new name since the last time.
    pub(super) async fn change(&mut self) {
        loop {
            tokio::time::sleep(EVERY).await;
            let changed = std::fs::metadata(&self.folder).and_then(|folder| folder.modified()).ok();
            if self.is_news(changed, SystemTime::now()) {
                return;
            }
        }
    }

    fn is_news(&mut self, changed: Option<SystemTime>, now: SystemTime) -> bool {
        // In the future: the clock was set, and nothing can be told by it.
        let is_settled = changed.is_some_and(|at| now.duration_since(at).is_ok_and(|age| age > SETTLED));
        let is_news = !is_settled || changed != self.seen;
        self.seen = changed;
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_looked_at_until_its_last_change_is_certainly_the_last() {
        let mut watch = Watch::over(Path::new("/"));
        let start = SystemTime::UNIX_EPOCH + Duration::from_hours(1);
        let later = |seconds| start + Duration::from_secs(seconds);
        for (changed, now, is_news) in [
            (Some(0), 1, true),
            (Some(0), 2, true),
            (Some(0), 4, false),
            (Some(0), 5, false),
            (Some(90), 100, true),
            (Some(90), 101, false),
            (Some(500), 102, true),
            (None, 103, true),
        ] {
            assert_eq!(watch.is_news(changed.map(later), later(now)), is_news, "{changed:?} at {now}");
        }
    }
}
