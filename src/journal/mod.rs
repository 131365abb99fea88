//! What happens, told while it happens: to the demo's terminal, to a waiting `send-test`, to the log.
//!
//! The written journal is the store's; this is only the live side of it. Nobody waits for a slow listener.

use tokio::sync::broadcast;

use crate::message::{Address, QueueId};
use crate::store::RecipientState;

/// How far a listener may fall behind before it misses something. So much memory is taken from the start.
const BACKLOG: usize = 512;

/// Something that a person who watches would want to see.
#[derive(Clone, Debug)]
pub enum Happening {
    /// A message was accepted from an app and is on disk.
    Received {
        /// Its name.
        id: QueueId,
        /// The reverse path; `None` is `<>`.
        sender: Option<Address>,
        /// To how many recipients.
        recipients: usize,
        /// Octets.
        size: u64,
    },
    /// A recipient of a message has a new state.
    Recipient {
        /// The message.
        id: QueueId,
        /// The recipient.
        address: Address,
        /// Its state now.
        state: RecipientState,
        /// The reply or failure that caused it.
        reply: String,
    },
    /// A message will not be tried again by itself.
    Dead {
        /// The message.
        id: QueueId,
    },
    /// An account stops or goes on.
    Account {
        /// Its mailbox.
        account: Address,
        /// Whether it is held now.
        is_held: bool,
        /// What happened, as a sentence.
        what: String,
    },
}

/// Tells whoever listens. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Feed {
    sender: broadcast::Sender<Happening>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { sender: broadcast::Sender::new(BACKLOG) }
    }
}

impl Feed {
    /// Tells it; nobody listening is no failure.
    pub fn tell(&self, happening: Happening) {
        let _ = self.sender.send(happening);
    }

    /// Everything from now on.
    pub fn listen(&self) -> broadcast::Receiver<Happening> {
        self.sender.subscribe()
    }
}
