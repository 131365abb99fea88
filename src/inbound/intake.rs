//! What the door needs of the queue behind it.

use std::io;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use super::doorkeeper::Doorkeeper;
use crate::clock::Clock;
use crate::config::Config;
use crate::lane::Lanes;
use crate::message::{Body, QueueId};
use crate::store::Incoming;

/// Takes messages for good.
pub trait Intake: Send + Sync + 'static {
    /// Writes a body too large for memory.
    type Writer: BodyWriter;

    /// A name for a message that arrives now; never the same twice.
    fn next_id(&self, now: Timestamp) -> QueueId;

    /// Whether there is room for more mail. Asked at every command: it must not wait.
    fn room(&self) -> Room;

    /// A file for the body of this message. It is removed unless it is finished and accepted.
    fn create_body(&self, id: QueueId) -> impl Future<Output = io::Result<Self::Writer>> + Send;

    /// Takes the message. Once this returns `Ok` it is on disk, and nothing but a delivery or an administrator ends it.
    /// A body file goes with it, or is removed.
    fn accept(&self, incoming: Incoming) -> impl Future<Output = Result<(), AcceptError>> + Send;
}

/// Writes one body to a file. Dropping it removes the file.
pub trait BodyWriter: Send + Sync {
    /// Appends bytes.
    fn write(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// Syncs the file; from now on it is the message's.
    fn finish(self) -> impl Future<Output = io::Result<Body>> + Send;
}

/// Whether mail can be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It can.
    Enough,
    /// The disk is too full.
    None,
}

/// Why a message was not taken. It is not in the queue, or will not be after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// The disk is full.
    #[error("the disk is full")]
    Full,
    /// The queue could not be written. The cause was logged where it happened.
    #[error("the queue could not be written")]
    Unavailable,
}

/// What every connection shares.
#[derive(Debug)]
pub struct Door<I> {
    /// Where messages go.
    pub intake: Arc<I>,
    /// The configuration as it is now; asked anew for every connection and every message.
    pub config: watch::Receiver<Arc<Config>>,
    /// For the time of arrival.
    pub clock: Clock,
    /// Who knows the apps' passwords.
    pub doorkeeper: Doorkeeper,
    /// Who tells the lane of each message.
    pub lanes: Lanes,
}

impl<I> Door<I> {
    /// The configuration as it is now.
    pub(crate) fn config(&self) -> Arc<Config> {
        self.config.borrow().clone()
    }
}
