//! Takes the body of one message off the wire: up to the lone dot behind DATA, or chunk by chunk (RFC 3030). However it goes wrong,
//! its end is looked for, so that the session can go on.

use std::time::Duration;

use bytes::Buf as _;
use tokio::time::Instant;

use super::collector::{Collector, Received};
use super::head::Head;
use super::intake::{Door, Intake};
use super::route::Route;
use super::session::{Outcome, is_flood};
use super::wire::{Ended, Stream, Wire};
use crate::smtp::{BodyDecoder, Decoded};
use crate::store::INLINE_LIMIT;

/// What is asked of the socket at a time: little for a small body, more once it is known to be large.
const SMALL_READ: usize = 16 * 1024;
const LARGE_READ: usize = 64 * 1024;
/// How long a program is waited for that seems to believe that it has sent the end, and waits for us. It need not wait for the whole
/// idle timeout to learn why.
const SEEMS_ENDED: Duration = Duration::from_mins(1);
/// The longest a body may take, whatever comes how slowly.
const LONGEST: Duration = Duration::from_hours(1);

/// Reads up to the end of the body behind DATA: all of it, or why it is not taken. `route` is asked at its end.
pub(super) async fn receive<S: Stream, I: Intake>(
    wire: &mut Wire<S>,
    limit: u64,
    door: &Door<I>,
    route: impl FnOnce(&Head) -> Result<Route, Outcome> + Send,
) -> Result<Result<Received, Outcome>, Ended> {
    let longest = Instant::now() + LONGEST;
    let mut decoder = BodyDecoder::new(limit);
    let mut collector = Collector::new();
    loop {
        let (at_end, taken) = match decoder.decode(&wire.input, &mut collector.piece) {
            Decoded::More => (false, wire.input.len()),
            Decoded::End(end) => (true, end),
        };
        wire.input.advance(taken);
        if decoder.is_over() {
            collector.give_up(Outcome::TooLarge);
        }
        collector.settle(door).await;
        if at_end {
            return Ok(collector.finish(decoder.size(), door, route).await);
        }
        if is_flood(decoder.seen(), limit) {
            return Ok(Err(Outcome::Flood));
        }
        let mut deadline = wire.deadline().min(longest);
        if decoder.seems_ended() {
            deadline = deadline.min(Instant::now() + SEEMS_ENDED);
        }
        match wire.more(read_size(decoder.seen()), deadline).await {
            Err(Ended::Idle) if decoder.seems_ended() => return Err(Ended::LoneDot),
            more => more?,
        }
    }
}

/// A message that comes in chunks, as far as it has come. Dropping it leaves nothing behind.
pub(super) struct Chunks<I: Intake> {
    collector: Collector<I>,
    limit: u64,
    size: u64,
    longest: Instant,
}

impl<I: Intake> Chunks<I> {
    /// A message of at most `limit` octets of which nothing has come.
    pub(super) fn new(limit: u64) -> Self {
        Self { collector: Collector::new(), limit, size: 0, longest: Instant::now() + LONGEST }
    }

    /// Takes a chunk of so many octets off the wire, whatever becomes of them, and says why the message will not be taken if that is
    /// known by now. Every octet is kept as it is: there are no dots to look for in a chunk, and no line ends.
    pub(super) async fn take<S: Stream>(
        &mut self,
        wire: &mut Wire<S>,
        size: u64,
        door: &Door<I>,
    ) -> Result<Option<Outcome>, Ended> {
        self.size = self.size.saturating_add(size);
        if self.size > self.limit {
            self.collector.give_up(Outcome::TooLarge);
        }
        let mut left = size;
        loop {
            let taken = usize::try_from(left).unwrap_or(usize::MAX).min(wire.input.len());
            if self.collector.given_up().is_none() {
                self.collector.piece.extend_from_slice(&wire.input[..taken]);
                self.collector.settle(door).await;
            }
            wire.input.advance(taken);
            left -= taken as u64;
            if left == 0 {
                return Ok(self.collector.given_up());
            }
            let deadline = wire.deadline().min(self.longest);
            wire.more(read_size(self.size), deadline).await?;
        }
    }

    /// The last chunk has come.
    pub(super) async fn finish(
        self,
        door: &Door<I>,
        route: impl FnOnce(&Head) -> Result<Route, Outcome>,
    ) -> Result<Received, Outcome> {
        self.collector.finish(self.size, door, route).await
    }
}

/// Takes a chunk off the wire that belongs to no message.
pub(super) async fn discard<S: Stream>(wire: &mut Wire<S>, size: u64) -> Result<(), Ended> {
    let longest = Instant::now() + LONGEST;
    let mut left = size;
    loop {
        let taken = usize::try_from(left).unwrap_or(usize::MAX).min(wire.input.len());
        wire.input.advance(taken);
        left -= taken as u64;
        if left == 0 {
            return Ok(());
        }
        let deadline = wire.deadline().min(longest);
        wire.more(read_size(size), deadline).await?;
    }
}

fn read_size(octets: u64) -> usize {
    if octets > INLINE_LIMIT as u64 { LARGE_READ } else { SMALL_READ }
}
