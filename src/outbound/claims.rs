//! Which messages are being tried: none twice at the same time.
//!
//! A message that is moved to another account while it is under way is due there at once. Who comes second has to wait for what became of the first.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::message::QueueId;

/// The messages that are being tried. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Claims(Arc<Mutex<HashSet<QueueId>>>);

/// The right to try a message, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    claims: Claims,
    id: QueueId,
}

impl Claims {
    /// `None`: somebody else tries it.
    pub(super) fn claim(&self, id: QueueId) -> Option<Claim> {
        let is_new = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        is_new.then(|| Claim { claims: self.clone(), id })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_claimed_by_one_at_a_time() {
        let claims = Claims::default();
        let (one, other) = (QueueId::from_number(1), QueueId::from_number(2));
        let claim = claims.claim(one).unwrap();
        assert!(claims.claim(one).is_none());
        assert!(claims.claim(other).is_some());
        drop(claim);
        assert!(claims.claim(one).is_some());
    }
}
