//! Which messages somebody works on just now, so that nobody else does: two attempts at one message would send it twice, and the answer to an
//! attempt must not meet other recipients than it was made for.
//!
//! The schedule makes one attempt at a message at a time, as long as it stays in one queue. A message that is moved while it is under way is
//! found in its new queue before the attempt has ended; and a person may readdress it at any time. So whoever works on a message takes its
//! turn here first.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::message::QueueId;

/// The messages that are under way. Cheap to clone; clones share them.
#[derive(Clone, Debug, Default)]
pub struct UnderWay {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    ids: Mutex<HashSet<QueueId>>,
    left: Notify,
}

/// The turn at a message; ends when it is dropped.
#[derive(Debug)]
pub struct Turn {
    shared: Arc<Shared>,
    id: QueueId,
}

impl UnderWay {
    /// The turn at this message; `None` if somebody else has it.
    pub fn enter(&self, id: QueueId) -> Option<Turn> {
        self.shared.lock().insert(id).then(|| Turn { shared: Arc::clone(&self.shared), id })
    }

    /// The turn at this message, waited for so long; `None` if somebody else still has it.
    pub async fn enter_within(&self, id: QueueId, patience: Duration) -> Option<Turn> {
        let entered = async {
            loop {
                // Listened for first: it may end between the look and the wait.
                let left = self.shared.left.notified();
                tokio::pin!(left);
                left.as_mut().enable();
                if let Some(turn) = self.enter(id) {
                    return turn;
                }
                left.await;
            }
        };
        tokio::time::timeout(patience, entered).await.ok()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashSet<QueueId>> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.shared.lock().remove(&self.id);
        self.shared.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_message_has_one_turn_at_a_time() {
        let under_way = UnderWay::default();
        let (one, other) = (QueueId::from_number(1), QueueId::from_number(2));
        let turn = under_way.enter(one).unwrap();
        assert!(under_way.clone().enter(one).is_none());
        assert!(under_way.enter(other).is_some());
        assert!(under_way.enter_within(one, Duration::from_millis(1)).await.is_none());
        let (entered, ()) = tokio::join!(under_way.enter_within(one, Duration::from_mins(1)), async { drop(turn) });
        drop(entered.unwrap());
        assert!(under_way.enter(one).is_some());
    }
}
