//! What a sign-in needs, decided without doing it: events and the time go in, actions come out.
//!
//! Promises:
//! - A rotated refresh token is committed before the access token that came with it is published. Its predecessor stays until the
//!   new one has worked, and is tried when the new one is refused.
//! - Only a definite answer of the token endpoint marks a sign-in dead. Even then nothing is deleted: it is probed on a schedule.
//! - A published access token stays in use until it ends, whatever happens to the refreshes meanwhile.
//! - Every request and every write has a number. An answer to anything but the latest one changes nothing.
//! - The calendar may jump. Forward, the token counts as expired and is replaced; backward, every time that is kept moves along,
//!   so that no wait becomes longer and no token lives longer than it would have. Over a restart, an access token that seems to come
//!   from the future counts as received now: it lives no longer than it was given.
//! - An access token that Exchange rejected does not outlive a restart.

mod access;
mod event;
mod failing;
mod rotation;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod view;

use std::fmt;

use jiff::Timestamp;

pub use event::{Action, Event, Failure, Loaded, Which};

use self::access::Access;
use self::rotation::successor;
use super::answer::Tokens;
use super::errors::Advice;
use super::shelf::{ShelfError, StoredAccess, StoredSignIn};
use super::status::{HoldView, Problem, Published, Why};
use super::timing::{earlier, later, write_backoff};
use crate::config::Grant;
use crate::message::Address;
use crate::store::HoldCause;

/// Keeps the sign-in of one account.
pub struct Keeper {
    mailbox: Address,
    grant: Grant,
    jitter: f64,
    /// How long a refresh token of this provider may lie unused, where it promises that.
    refresh_life: Option<std::time::Duration>,
    /// The latest time that was told.
    seen: Option<Timestamp>,
    /// What is on the shelf, as far as known.
    stored: Option<StoredSignIn>,
    /// When the registration itself was given an access token, first and last: the application grant has nothing on the shelf.
    applied: Option<(Timestamp, Timestamp)>,
    access: Option<Access>,
    work: Work,
    /// The number of the last request or write.
    number: u64,
    /// The number of the last request whose outcome is known.
    answered: u64,
    /// The last rejected version that was heard of.
    heard_rejection: u64,
    /// Failures in a row.
    failures: u32,
    problem: Option<Problem>,
    hold: Option<HoldView>,
    /// What was said of the token in use, while its predecessor is tried.
    refused: Option<Failure>,
    /// When it acts next without being asked.
    next_at: Option<Timestamp>,
    /// Why the next success is worth telling.
    announce: Option<Why>,
    /// The configuration changed while a request was under way: what it brings is kept, but asked again.
    ask_again: bool,
    published: Option<Published>,
}

/// What is under way.
#[derive(Debug)]
enum Work {
    Idle,
    Loading,
    Asking {
        request: u64,
        which: Which,
        after_rejection: bool,
    },
    /// Rotated, and on its way to the shelf.
    Writing(Pending),
    /// Rotated, but the shelf did not take it; written again at `next_at`.
    Unwritten(Pending),
}

/// What a refresh brought, until it may be relied upon.
#[derive(Clone, Debug)]
struct Pending {
    number: u64,
    stored: StoredSignIn,
    access: Access,
}

impl Keeper {
    /// A keeper that knows nothing yet; [`Event::Started`] sets it going. `jitter` is a number in `0.0..1.0`.
    pub fn new(mailbox: Address, jitter: f64) -> Self {
        Self {
            mailbox,
            grant: Grant::Delegated,
            jitter,
            refresh_life: None,
            seen: None,
            stored: None,
            applied: None,
            access: None,
            work: Work::Idle,
            number: 0,
            answered: 0,
            heard_rejection: 0,
            failures: 0,
            problem: None,
            hold: None,
            refused: None,
            next_at: None,
            announce: Some(Why::Started),
            ask_again: false,
            published: None,
        }
    }

    /// How the account gets its tokens: by a person's sign-in unless this says otherwise.
    #[must_use]
    pub fn granted_by(self, grant: Grant) -> Self {
        Self { grant, ..self }
    }

    /// The configuration has another grant now, if it has; [`Event::ConfigChanged`] follows. What was had by the old one is of no use, and
    /// neither is an answer still to come.
    pub fn change_grant(&mut self, grant: Grant) {
        if self.grant != grant {
            *self = Self {
                refresh_life: self.refresh_life,
                seen: self.seen,
                number: self.number,
                answered: self.number,
                heard_rejection: self.heard_rejection,
                published: self.published.take(),
                ..Self::new(self.mailbox.clone(), self.jitter).granted_by(grant)
            };
        }
    }

    /// How long refresh tokens of this account's provider may lie unused, if it promises that; for
    /// [`good_until_at_least`](crate::signin::SignInStatus::good_until_at_least).
    pub fn expect_refresh_life(&mut self, life: Option<std::time::Duration>) {
        self.refresh_life = life;
    }

    /// What is to be done about this event, in this order.
    pub fn on(&mut self, event: Event, now: Timestamp) -> Vec<Action> {
        self.follow_clock(now);
        let mut told = Vec::new();
        let mut actions = self.decide(event, now, &mut told);
        let published = self.view();
        if self.published.as_ref() != Some(&published) {
            actions.push(Action::Publish(Box::new(published.clone())));
            self.published = Some(published);
        }
        // Told after it is published: whoever hears of it finds the token.
        actions.append(&mut told);
        actions.extend(self.wake_at().map(Action::WakeAt));
        actions
    }

    /// The number of the request under way, for whoever wants to wait for its outcome.
    pub fn asking(&self) -> Option<u64> {
        match &self.work {
            Work::Asking { request, .. } => Some(*request),
            Work::Writing(pending) => Some(pending.number),
            _ => None,
        }
    }

    /// Whether something is under way that must not be cut off: a request that may rotate the token, or its write.
    pub fn is_busy(&self) -> bool {
        matches!(self.work, Work::Loading | Work::Asking { .. } | Work::Writing(_))
    }

    /// Whether a rotated token is only in memory, because the shelf did not take it.
    pub fn has_unwritten(&self) -> bool {
        matches!(self.work, Work::Unwritten(_))
    }

    fn decide(&mut self, event: Event, now: Timestamp, told: &mut Vec<Action>) -> Vec<Action> {
        match event {
            Event::Started => self.load(),
            Event::Loaded(loaded) => self.loaded(loaded, now, told),
            Event::Tick => self.tick(now),
            Event::TokensReceived { request, tokens } => self.received(request, &tokens, now, told),
            Event::RefreshFailed { request, failure } => self.failed(request, failure, now, told),
            Event::Written { number } => self.written(number, told),
            Event::WriteFailed { number, error } => self.write_failed(number, &error, now, told),
            Event::Rejected { version } => self.rejected(version, now),
            Event::SignedIn(stored) => self.signed_in(*stored, told),
            Event::Asked => self.asked(),
            Event::ConfigChanged => self.config_changed(),
        }
    }

    fn load(&mut self) -> Vec<Action> {
        if self.grant == Grant::Application {
            return self.ask(Which::Current, false);
        }
        self.work = Work::Loading;
        vec![Action::Load]
    }

    fn loaded(&mut self, loaded: Loaded, now: Timestamp, told: &mut Vec<Action>) -> Vec<Action> {
        if !matches!(self.work, Work::Loading) {
            return Vec::new();
        }
        self.work = Work::Idle;
        self.ask_again = false;
        match loaded {
            Ok(Some(stored)) => {
                // It is given out: so it is this instance's now, whatever the endpoint says of it.
                if self.hold.take_if(|hold| hold.cause == HoldCause::Clone).is_some() {
                    self.announce.get_or_insert(Why::Recovered);
                }
                self.bring_back(stored.access.as_ref(), now);
                self.stored = Some(stored);
                self.ask(Which::Current, false)
            }
            Ok(None) => {
                let error = format!("{} is not signed in", self.mailbox);
                let advice = Advice::not_signed_in(&self.mailbox);
                self.hold(HoldCause::NotSignedIn, Failure { advice, ..Failure::passing(error) }, now, told);
                // Only a person changes that, and `SignedIn` or `Asked` tells of it.
                self.next_at = None;
                Vec::new()
            }
            Err(ShelfError::WrongKey(error)) => {
                let advice = Advice::wrong_key(&self.mailbox);
                self.hold(HoldCause::Key, Failure { advice, ..Failure::passing(error) }, now, told);
                Vec::new()
            }
            Err(ShelfError::Foreign(error)) => {
                let advice = Advice::foreign(&self.mailbox);
                self.hold(HoldCause::Clone, Failure { advice, ..Failure::passing(error) }, now, told);
                // It is not here to be tried: only a person says whose it is.
                self.next_at = None;
                Vec::new()
            }
            Err(ShelfError::Unavailable(error)) => {
                let error = format!("cannot read the stored sign-in: {error}");
                self.try_later(Failure::passing(error), now, told);
                Vec::new()
            }
        }
    }

    /// The access token of an earlier run is used until a refresh brings another one.
    fn bring_back(&mut self, kept: Option<&StoredAccess>, now: Timestamp) {
        let Some(kept) = kept.filter(|_| self.access.is_none()) else { return };
        if let Some(access) = Access::kept(kept, self.number + 1, now) {
            self.number += 1;
            self.access = Some(access);
        }
    }

    fn tick(&mut self, now: Timestamp) -> Vec<Action> {
        if self.next_at.is_some_and(|at| at <= now) { self.act() } else { Vec::new() }
    }

    /// The next step, whichever it is, unless one is under way.
    fn act(&mut self) -> Vec<Action> {
        match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Idle if self.stored.is_none() => self.load(),
            Work::Idle => self.ask(Which::Current, false),
            Work::Unwritten(pending) => self.write(pending),
            busy => {
                self.work = busy;
                Vec::new()
            }
        }
    }

    fn ask(&mut self, which: Which, after_rejection: bool) -> Vec<Action> {
        if self.grant == Grant::Application {
            self.number += 1;
            self.next_at = None;
            self.work = Work::Asking { request: self.number, which, after_rejection };
            return vec![Action::Apply { request: self.number }];
        }
        let Some(stored) = &self.stored else { return self.load() };
        let refresh_token = match (which, &stored.previous) {
            (Which::Previous, Some(previous)) => previous.clone(),
            _ => stored.current.clone(),
        };
        self.number += 1;
        self.next_at = None;
        self.work = Work::Asking { request: self.number, which, after_rejection };
        vec![Action::Refresh { request: self.number, which, refresh_token }]
    }

    fn received(&mut self, request: u64, tokens: &Tokens, now: Timestamp, told: &mut Vec<Action>) -> Vec<Action> {
        let (which, after_rejection) = match self.work {
            Work::Asking { request: asked, which, after_rejection } if asked == request => (which, after_rejection),
            _ => return Vec::new(),
        };
        let access = Access::received(tokens, request, after_rejection, now, self.jitter);
        if self.grant == Grant::Application {
            let first = self.applied.map_or(now, |(first, _)| first);
            self.applied = Some((first, now));
            return self.rely_on_access(request, access, told);
        }
        let Some(stored) = &self.stored else { return Vec::new() };
        let (mut stored, rotated) = successor(stored, which, tokens, now);
        stored.access = Some(StoredAccess { token: tokens.access.clone(), received_at: now, life: tokens.life() });
        let pending = Pending { number: request, stored, access };
        if rotated {
            return self.write(pending);
        }
        // The token on the shelf is still the good one, so nothing depends on this write.
        let write = Action::Write { number: request, stored: Box::new(pending.stored.clone()) };
        let mut actions = vec![write];
        actions.extend(self.rely_on(pending, told));
        actions
    }

    fn write(&mut self, pending: Pending) -> Vec<Action> {
        self.next_at = None;
        let write = Action::Write { number: pending.number, stored: Box::new(pending.stored.clone()) };
        self.work = Work::Writing(pending);
        vec![write]
    }

    fn written(&mut self, number: u64, told: &mut Vec<Action>) -> Vec<Action> {
        match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Writing(pending) if pending.number == number => self.rely_on(pending, told),
            other => {
                self.work = other;
                Vec::new()
            }
        }
    }

    fn write_failed(&mut self, number: u64, error: &str, now: Timestamp, told: &mut Vec<Action>) -> Vec<Action> {
        match std::mem::replace(&mut self.work, Work::Idle) {
            Work::Writing(pending) if pending.number == number => {
                self.answered = number;
                self.failures = self.failures.saturating_add(1);
                self.work = Work::Unwritten(pending);
                let retry_at = later(now, write_backoff(self.failures));
                let failure = Failure::passing(format!("cannot write the renewed sign-in: {error}"));
                self.trouble(failure, retry_at, told);
            }
            other => self.work = other,
        }
        Vec::new()
    }

    /// The shelf has it: from here on it is what counts.
    fn rely_on(&mut self, pending: Pending, told: &mut Vec<Action>) -> Vec<Action> {
        self.stored = Some(pending.stored);
        self.rely_on_access(pending.number, pending.access, told)
    }

    fn rely_on_access(&mut self, number: u64, access: Access, told: &mut Vec<Action>) -> Vec<Action> {
        self.work = Work::Idle;
        self.answered = number;
        self.next_at = Some(access.refresh_at);
        self.access = Some(access);
        self.failures = 0;
        self.refused = None;
        let recovered = (self.problem.take().is_some() | self.hold.take().is_some()).then_some(Why::Recovered);
        if let Some(why) = self.announce.take().or(recovered) {
            told.push(Action::Cleared(why));
        }
        if std::mem::take(&mut self.ask_again) { self.ask(Which::Current, false) } else { Vec::new() }
    }

    fn rejected(&mut self, version: u64, now: Timestamp) -> Vec<Action> {
        self.heard_rejection = self.heard_rejection.max(version);
        let Some(access) = self.access.as_ref().filter(|access| access.token.version == version) else {
            return Vec::new();
        };
        let is_replaced_lately = access.is_replaced_lately(now);
        let mut actions = self.forget_access();
        if is_replaced_lately {
            return actions;
        }
        self.access = None;
        match &mut self.work {
            // A dead sign-in brings no other token, and an endpoint in trouble asked for patience: `next_at` stands.
            Work::Idle if self.hold.is_some() || self.failures > 0 => {}
            Work::Idle => actions.extend(self.ask(Which::Current, true)),
            Work::Asking { after_rejection, .. } => *after_rejection = true,
            _ => {}
        }
        actions
    }

    /// Takes a rejected access token off the shelf. Nothing depends on this write: the next one does the same.
    fn forget_access(&mut self) -> Vec<Action> {
        if matches!(self.work, Work::Writing(_)) {
            return Vec::new();
        }
        let Some(stored) = self.stored.as_mut().filter(|stored| stored.access.is_some()) else { return Vec::new() };
        stored.access = None;
        // No write that is waited for has this number.
        vec![Action::Write { number: 0, stored: Box::new(stored.clone()) }]
    }

    /// A person signed in anew, and it is on the shelf: whatever was under way belongs to the past.
    fn signed_in(&mut self, stored: StoredSignIn, told: &mut Vec<Action>) -> Vec<Action> {
        self.stored = Some(stored);
        self.work = Work::Idle;
        self.failures = 0;
        self.problem = None;
        self.hold = None;
        self.refused = None;
        self.ask_again = false;
        self.announce = None;
        told.push(Action::Cleared(Why::SignedIn));
        self.ask(Which::Current, false)
    }

    /// A person or a probe wants to know now, whatever was thought of the sign-in so far.
    fn asked(&mut self) -> Vec<Action> {
        self.announce = Some(Why::Asked);
        self.act()
    }

    fn config_changed(&mut self) -> Vec<Action> {
        self.failures = 0;
        self.ask_again = !matches!(self.work, Work::Idle);
        self.act()
    }

    /// Moves every time that is kept along with a calendar that went back.
    fn follow_clock(&mut self, now: Timestamp) {
        let Some(seen) = self.seen.replace(now) else { return };
        let Ok(back) = std::time::Duration::try_from(seen.duration_since(now)) else { return };
        let shift = |at: &mut Timestamp| *at = earlier(*at, back);
        self.next_at.as_mut().map(shift);
        let mut accesses: Vec<&mut Access> = self.access.iter_mut().collect();
        if let Work::Writing(pending) | Work::Unwritten(pending) = &mut self.work {
            accesses.push(&mut pending.access);
        }
        for access in accesses {
            access.shift(back);
        }
        if let Some(problem) = &mut self.problem {
            shift(&mut problem.retry_at);
        }
        self.hold.as_mut().and_then(|hold| hold.probe_at.as_mut()).map(shift);
    }

    fn wake_at(&self) -> Option<Timestamp> {
        if self.is_busy() { None } else { self.next_at }
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").field("mailbox", &self.mailbox).field("work", &self.work).finish_non_exhaustive()
    }
}
