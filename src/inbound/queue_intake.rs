//! The queue behind the door: the store keeps the message, and the scheduler hears of it.

use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::intake::{AcceptError, BodyWriter, Intake, Room};
use crate::config::Config;
use crate::journal::{Feed, Happening};
use crate::message::{Body, QueueId};
use crate::schedule::Inbox;
use crate::store::{self, Change, CommitError, Flow, Incoming, Store, Waiting};

/// Takes messages into the store.
#[derive(Clone)]
pub struct QueueIntake {
    /// Where they are kept.
    pub store: Store,
    /// Who sends them on.
    pub schedule: Inbox,
    /// Who hears of it.
    pub feed: Feed,
    /// For the free space that has to be left.
    pub config: watch::Receiver<Arc<Config>>,
}

impl Intake for QueueIntake {
    type Writer = store::BodyWriter;

    fn next_id(&self, now: Timestamp) -> QueueId {
        self.store.next_id(now)
    }

    fn room(&self) -> Room {
        let min_free = self.config.borrow().queue.min_free_disk;
        if self.store.has_room(min_free) { Room::Enough } else { Room::None }
    }

    async fn create_body(&self, id: QueueId) -> io::Result<store::BodyWriter> {
        self.store.bodies().create(id).await
    }

    async fn accept(&self, incoming: Incoming) -> Result<(), AcceptError> {
        let (id, account, size) = (incoming.id, incoming.account.clone(), incoming.size);
        let sender = incoming.envelope.sender.clone();
        let recipients = incoming.envelope.recipients.len();
        let due_at = incoming.received_at;
        let flow = Flow::new(&incoming.app, incoming.lane).to_outside(incoming.outside);
        let file = matches!(incoming.body, Body::File(_)).then(|| incoming.body.clone());
        if let Err(error) = self.store.commit(Change::Accept(Box::new(incoming))).await {
            tracing::error!(%id, %error, "could not keep a message; its sender is told to try again");
            // The store has removed it already when the disk was full. What was under way when the writer ended may be on disk: then its
            // file is needed.
            if let (Some(file), CommitError::Failed(_)) = (file, &error) {
                self.store.bodies().discard(file).await;
            }
            return Err(if error == CommitError::Full { AcceptError::Full } else { AcceptError::Unavailable });
        }
        self.feed.tell(Happening::Received { id, sender, recipients, size });
        let recipients = u32::try_from(recipients).unwrap_or(u32::MAX);
        self.schedule.accepted(account, Waiting { id, due_at, recipients, flow });
        Ok(())
    }
}

impl BodyWriter for store::BodyWriter {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write(bytes).await
    }

    async fn finish(self) -> io::Result<Body> {
        self.finish().await
    }
}
