//! Takes the body of one message off the wire: a small one into memory, a larger one into a file of its own, never more than a piece
//! of it at a time. However it goes wrong, its end is looked for, so that the session can go on.

use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use tokio::time::Instant;

use super::head::Head;
use super::intake::{BodyWriter, Intake};
use super::session::Outcome;
use super::wire::{Ended, Stream, Wire};
use crate::clock::Clock;
use crate::message::{Body, QueueId};
use crate::smtp::{BodyDecoder, Decoded};
use crate::store::INLINE_LIMIT;

/// What is asked of the socket at a time: little for a small body, more once it is known to be large.
const SMALL_READ: usize = 16 * 1024;
const LARGE_READ: usize = 64 * 1024;
/// A body that is so many times larger than the limit is not read to its end.
const FLOOD: u64 = 4;
/// The longest a body may take, whatever comes how slowly.
const LONGEST: Duration = Duration::from_hours(1);

/// A body that is complete.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) id: QueueId,
    pub(super) head: Head,
    pub(super) size: u64,
    pub(super) body: Body,
}

/// Reads up to the end of the body: all of it, or why it is not taken.
pub(super) async fn receive<S: Stream, I: Intake>(
    wire: &mut Wire<S>,
    limit: u64,
    intake: &I,
    clock: &Clock,
) -> Result<Result<Received, Outcome>, Ended> {
    let longest = Instant::now() + LONGEST;
    let mut decoder = BodyDecoder::new(limit);
    let mut collector = Collector { intake, clock, piece: Vec::new(), rest: Rest::Nowhere };
    loop {
        let (at_end, taken) = match decoder.decode(&wire.input, &mut collector.piece) {
            Decoded::More => (false, wire.input.len()),
            Decoded::End(end) => (true, end),
        };
        wire.input.advance(taken);
        if decoder.is_over() {
            collector.give_up(Outcome::TooLarge);
        }
        collector.settle().await;
        if at_end {
            return Ok(collector.finish(decoder.size()).await);
        }
        if decoder.seen() > limit.saturating_mul(FLOOD).saturating_add(LARGE_READ as u64) {
            return Ok(Err(Outcome::Flood));
        }
        let size = if decoder.seen() > INLINE_LIMIT as u64 { LARGE_READ } else { SMALL_READ };
        let deadline = wire.deadline().min(longest);
        wire.more(size, deadline).await?;
    }
}

struct Collector<'a, I: Intake> {
    intake: &'a I,
    clock: &'a Clock,
    /// What came and is nowhere else yet.
    piece: Vec<u8>,
    rest: Rest<I::Writer>,
}

/// Where what came before the piece is.
enum Rest<W> {
    /// There is none.
    Nowhere,
    File {
        id: QueueId,
        head: Head,
        writer: W,
    },
    /// Thrown away, because it will not be taken.
    GivenUp(Outcome),
}

impl<I: Intake> Collector<'_, I> {
    fn give_up(&mut self, why: Outcome) {
        if !matches!(self.rest, Rest::GivenUp(_)) {
            self.rest = Rest::GivenUp(why);
        }
        self.piece = Vec::new();
    }

    /// Writes the piece to the file if it has become too large for memory.
    async fn settle(&mut self) {
        if self.piece.len() <= INLINE_LIMIT {
            return;
        }
        let written = match &mut self.rest {
            Rest::Nowhere => self.begin_file().await,
            Rest::File { writer, .. } => writer.write(&self.piece).await,
            Rest::GivenUp(_) => Ok(()),
        };
        match written {
            Ok(()) => self.piece.clear(),
            Err(error) => self.give_up(failed(&error)),
        }
    }

    async fn begin_file(&mut self) -> io::Result<()> {
        let id = self.intake.next_id(self.clock.now());
        let mut writer = self.intake.create_body(id).await?;
        writer.write(&self.piece).await?;
        self.rest = Rest::File { id, head: Head::read(&self.piece), writer };
        Ok(())
    }

    async fn finish(self, size: u64) -> Result<Received, Outcome> {
        match self.rest {
            Rest::GivenUp(why) => Err(why),
            Rest::Nowhere => {
                let id = self.intake.next_id(self.clock.now());
                let head = Head::read(&self.piece);
                Ok(Received { id, head, size, body: Body::Inline(Bytes::from(self.piece)) })
            }
            Rest::File { id, head, mut writer } => {
                let finished = match writer.write(&self.piece).await {
                    Ok(()) => writer.finish().await,
                    Err(error) => Err(error),
                };
                match finished {
                    Ok(body) => Ok(Received { id, head, size, body }),
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
