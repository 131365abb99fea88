//! How many sessions each login has open. Exchange counts them too, until the socket is closed.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::message::Address;

/// Open sessions by login. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions {
    open: Arc<Mutex<HashMap<Address, usize>>>,
}

/// One session counts as long as this lives.
#[derive(Debug)]
pub(super) struct Counted {
    sessions: Sessions,
    login: Address,
}

impl Sessions {
    /// One more, from before its socket is opened.
    pub(super) fn count(&self, login: &Address) -> Counted {
        *self.lock().entry(login.clone()).or_default() += 1;
        Counted { sessions: self.clone(), login: login.clone() }
    }

    /// How many are open.
    pub(super) fn of(&self, login: &Address) -> usize {
        self.lock().get(login).copied().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Address, usize>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.sessions.lock();
        match open.get_mut(&self.login) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(open.remove(&self.login)),
        }
    }
}
