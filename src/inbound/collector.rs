//! Where a body goes while it comes: a small one into memory, a larger one into a file of its own, never more than a piece of it at a
//! time. One that will not be taken goes nowhere.

use std::io;

use bytes::Bytes;

use super::head::Head;
use super::intake::{BodyWriter, Door, Intake};
use super::route::Route;
use super::session::Outcome;
use crate::lane::LOOKED_AT;
use crate::message::{Body, QueueId};
use crate::store::INLINE_LIMIT;

/// A body that is complete.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) id: QueueId,
    /// The subject, for the journal.
    pub(super) subject: Option<String>,
    pub(super) route: Route,
    pub(super) size: u64,
    pub(super) body: Body,
    /// The beginning of a body in a file.
    start: Vec<u8>,
}

impl Received {
    /// The beginning of the message, as much as is looked at for its lane.
    pub(super) fn start(&self) -> &[u8] {
        match &self.body {
            Body::Inline(bytes) => bytes,
            Body::File(_) => &self.start,
        }
    }
}

/// A body that is not complete yet.
pub(super) struct Collector<I: Intake> {
    /// What came and is nowhere else yet. Whoever appends to it calls [`Collector::settle`].
    pub(super) piece: Vec<u8>,
    rest: Rest<I::Writer>,
}

/// Where what came before the piece is.
enum Rest<W> {
    /// There is none.
    Nowhere,
    File {
        id: QueueId,
        head: Head,
        start: Vec<u8>,
        writer: W,
    },
    /// Thrown away, because it will not be taken.
    GivenUp(Outcome),
}

impl<I: Intake> Collector<I> {
    pub(super) fn new() -> Self {
        Self { piece: Vec::new(), rest: Rest::Nowhere }
    }

    /// The body will not be taken: what there is of it goes, and what still comes.
    pub(super) fn give_up(&mut self, why: Outcome) {
        if self.given_up().is_none() {
            self.rest = Rest::GivenUp(why);
        }
        self.piece = Vec::new();
    }

    /// Why it will not be taken.
    pub(super) fn given_up(&self) -> Option<Outcome> {
        if let Rest::GivenUp(why) = &self.rest { Some(why.clone()) } else { None }
    }

    /// Writes the piece to the file if it has become too large for memory.
    pub(super) async fn settle(&mut self, door: &Door<I>) {
        if self.piece.len() <= INLINE_LIMIT {
            return;
        }
        let written = match &mut self.rest {
            Rest::Nowhere => self.begin_file(door).await,
            Rest::File { writer, .. } => writer.write(&self.piece).await,
            Rest::GivenUp(_) => Ok(()),
        };
        match written {
            Ok(()) => self.piece.clear(),
            Err(error) => self.give_up(failed(&error)),
        }
    }

    async fn begin_file(&mut self, door: &Door<I>) -> io::Result<()> {
        let id = door.intake.next_id(door.clock.now());
        let mut writer = door.intake.create_body(id).await?;
        writer.write(&self.piece).await?;
        let start = self.piece[..self.piece.len().min(LOOKED_AT)].to_vec();
        self.rest = Rest::File { id, head: Head::read(&self.piece), start, writer };
        Ok(())
    }

    /// All of it has come, `size` octets. `route` says where it goes, or why it is not taken; nothing of what it refuses is kept.
    pub(super) async fn finish(
        self,
        size: u64,
        door: &Door<I>,
        route: impl FnOnce(&Head) -> Result<Route, Outcome>,
    ) -> Result<Received, Outcome> {
        match self.rest {
            Rest::GivenUp(why) => Err(why),
            Rest::Nowhere => {
                // What is all there hides nothing.
                let head = Head { is_whole: true, ..Head::read(&self.piece) };
                let route = route(&head)?;
                let id = door.intake.next_id(door.clock.now());
                let body = Body::Inline(Bytes::from(self.piece));
                Ok(Received { id, subject: head.subject, route, size, body, start: Vec::new() })
            }
            Rest::File { id, head, start, mut writer } => {
                let route = route(&head)?;
                let finished = match writer.write(&self.piece).await {
                    Ok(()) => writer.finish().await,
                    Err(error) => Err(error),
                };
                match finished {
                    Ok(body) => Ok(Received { id, subject: head.subject, route, size, body, start }),
                    Err(error) => Err(failed(&error)),
                }
            }
        }
    }
}

fn failed(error: &io::Error) -> Outcome {
    tracing::error!(%error, "could not write the body of a message");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Outcome::Full,
        _ => Outcome::Unavailable,
    }
}
