//! What to do when the far side says that it is too much, although we keep to its limits: halve, and come back in steps.
//!
//! Additive increase, multiplicative decrease, as TCP does it (RFC 5681): several senders that share a limit nobody knows end up with a
//! fair part of it each. All in wall time; time is an argument.

use std::time::Duration;

use jiff::Timestamp;

/// Messages that are under way together are refused together: that is one refusal.
const ONE: Duration = Duration::from_secs(30);
/// Between two steps back up, and between a refusal and the first one.
const STEP: Duration = Duration::from_mins(2);
/// Without a refusal for so long it is over, whatever was sent meanwhile.
const OVER: Duration = Duration::from_hours(1);

/// Less than what is configured, for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slowdown {
    /// What is allowed now: messages a minute, or sessions.
    pub level: u32,
    /// Since when it has been less than configured.
    pub since: Timestamp,
    /// What the far side said last.
    pub said: String,
    changed: Timestamp,
    refused: Timestamp,
}

/// One limit that can be slowed down.
#[derive(Clone, Debug, Default)]
pub(super) struct Gauge(Option<Slowdown>);

impl Gauge {
    pub(super) fn slowdown(&self) -> Option<&Slowdown> {
        self.0.as_ref()
    }

    /// What is allowed of `full`.
    pub(super) fn of(&self, full: u32) -> u32 {
        self.0.as_ref().map_or(full, |slowdown| slowdown.level.min(full))
    }

    /// The far side says that it is too much: half of it, but never less than `floor`.
    pub(super) fn refused(&mut self, full: u32, floor: u32, said: &str, now: Timestamp) {
        if let Some(slowdown) = self.0.as_mut().filter(|slowdown| now < slowdown.changed + ONE) {
            slowdown.refused = now;
            said.clone_into(&mut slowdown.said);
            return;
        }
        let level = (self.of(full) / 2).max(floor.max(1)).min(full);
        let since = self.0.as_ref().map_or(now, |slowdown| slowdown.since);
        self.0 = Some(Slowdown { level, since, said: said.to_owned(), changed: now, refused: now });
    }

    /// Something was taken: a step further up, if the last one is long enough ago.
    pub(super) fn taken(&mut self, full: u32, step: u32, now: Timestamp) {
        let Some(slowdown) = self.0.as_mut().filter(|slowdown| now >= slowdown.changed + STEP) else { return };
        (slowdown.level, slowdown.changed) = (slowdown.level.saturating_add(step.max(1)), now);
        if slowdown.level >= full {
            self.0 = None;
        }
    }

    /// Time has passed.
    pub(super) fn forget(&mut self, now: Timestamp) {
        self.0.take_if(|slowdown| now >= slowdown.refused + OVER);
    }

    /// The clock has gone back.
    pub(super) fn set_back(&mut self, now: Timestamp) {
        if let Some(slowdown) = &mut self.0 {
            for when in [&mut slowdown.since, &mut slowdown.changed, &mut slowdown.refused] {
                *when = (*when).min(now);
            }
        }
    }

    /// What will be allowed of `full` in so many minutes if everything is taken.
    pub(super) fn after(&self, minutes: u32, full: u32, step: u32) -> u32 {
        let steps = u32::try_from(u64::from(minutes) * 60 / STEP.as_secs()).unwrap_or(u32::MAX);
        self.of(full).saturating_add(if self.0.is_some() { steps.saturating_mul(step.max(1)) } else { 0 }).min(full)
    }
}
