//! `[queue]`.

use std::time::Duration;

use crate::config::Queue;
use crate::config::review::Review;
use crate::config::section::{Section, count, switch, with_unit};
use crate::config::units;

/// A century: far from the limits of a calendar.
const MOST_DAYS: i128 = 36_500;

pub(super) fn queue(queue: &Section<'_>, review: &mut Review) -> Queue {
    Queue {
        retry: retry(queue, review),
        give_up_after: queue.read("give_up_after", with_unit("5d", units::duration), review).unwrap_or(days(5)),
        journal_days: queue.read("journal_days", count(MOST_DAYS), review).unwrap_or(30),
        dead_letter_days: queue.read("dead_letter_days", count(MOST_DAYS), review).unwrap_or(30),
        record_subjects: queue.read("record_subjects", switch, review).unwrap_or(true),
        min_free_disk: queue.read("min_free_disk", with_unit("1 GiB", units::size), review).unwrap_or(1 << 30),
    }
}

fn retry(queue: &Section<'_>, review: &mut Review) -> Vec<Duration> {
    let steps = queue.list("retry", units::duration, review);
    if let Some([]) = steps.as_deref()
        && queue.is_empty_list("retry")
    {
        queue.problem("retry", "is empty: a mail that fails once would never be tried again", review);
    }
    steps.unwrap_or_else(|| [1, 5, 15, 30, 60].map(|minutes| Duration::from_secs(minutes * 60)).to_vec())
}

const fn days(days: u64) -> Duration {
    Duration::from_secs(days * 86_400)
}
