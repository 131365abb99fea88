//! What is forgotten in time.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::found::PACE_MEMORY;
use crate::ops::Ops;
use crate::store::Change;

/// How often old journals and dead letters are looked for.
const HOUSEKEEPING: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);

/// Old journals and dead letters are forgotten.
pub(super) async fn keep_house(ops: Ops, stop: CancellationToken) {
    loop {
        let now = ops.clock.now();
        let queue = ops.config.borrow().queue.clone();
        let forget = Change::Forget {
            journal_before: now - DAY * queue.journal_days,
            dead_before: now - DAY * queue.dead_letter_days,
            sent_before: now - PACE_MEMORY,
        };
        if let Err(error) = ops.store.commit(forget).await {
            tracing::warn!(%error, "old journal entries could not be removed");
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = ops.clock.sleep_until(now + HOUSEKEEPING) => {}
        }
    }
}
