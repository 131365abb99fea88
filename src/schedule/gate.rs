//! Whether an account's mail may leave: its hold, what takes the place of it, and when and how it is tried whether it may go. Rules only.
//!
//! What a login shows is tried by a login that sends nothing. What Exchange says only behind the final dot is tried by the account's next real
//! message, one at a time. And whatever ends a hold, one message goes first: the others follow once it was answered otherwise.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::event::{Outcome, Stop};
use crate::message::QueueId;
use crate::store::{Hold, HoldCause};

const MINUTE: Duration = Duration::from_mins(1);
const HOUR: Duration = Duration::from_hours(1);
/// Exchange counts recipients over this long: by then whatever was too much is no more.
const DAY: Duration = Duration::from_hours(24);
/// When a probe has found out nothing, because the server was away or said something else.
const PROBE_AGAIN: Duration = Duration::from_mins(5);

/// The gate of one account.
#[derive(Debug, Default)]
pub(super) struct Gate {
    hold: Option<Hold>,
    probe: Probe,
    /// The last hold has ended, and no message has shown yet that it has.
    on_trial: bool,
}

/// The probe that is under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Probe {
    #[default]
    None,
    Login,
    Message(QueueId),
}

/// How it is found out that a hold is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// Only a person knows.
    Nothing,
    /// AUTH, then QUIT.
    Login,
    /// The next message of the account.
    Message,
}

/// Who may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// Nobody.
    Shut,
    /// A login that sends nothing: it is to be made now.
    Login,
    /// One message, while none is under way.
    One,
    /// Everyone.
    All,
}

/// When somebody may pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opening {
    /// There is no telling: a probe is under way, or only a person opens it.
    Unknown,
    /// A login, from then on.
    Login(Timestamp),
    /// A message, from then on.
    Message(Timestamp),
    /// Mail, now.
    Open,
}

/// A hold as it is from now on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Raised {
    pub(super) hold: Hold,
    /// It has a new cause; otherwise something about it has changed.
    pub(super) is_news: bool,
}

/// What a probe has led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Probed {
    /// It was overtaken: nobody waits for it any more. Or there was none.
    Nothing,
    /// What held the account is over.
    Free,
    /// It is held on.
    Still(Hold),
}

impl Gate {
    /// As an earlier run has left it.
    pub(super) fn restore(&mut self, hold: Hold) {
        self.hold = Some(hold);
    }

    pub(super) fn hold(&self) -> Option<&Hold> {
        self.hold.as_ref()
    }

    pub(super) fn is_open(&self) -> bool {
        self.hold.is_none()
    }

    /// A new cause replaces an older one, save that a person's word counts most, and then whose the account is. `None`: nothing changes.
    pub(super) fn raise(&mut self, mut hold: Hold) -> Option<Raised> {
        let current = self.hold.as_ref();
        let is_news = current.is_none_or(|current| current.cause != hold.cause);
        match current {
            Some(current) if is_news && current.cause == HoldCause::Manual => return None,
            Some(current) if is_news && current.cause == HoldCause::Clone && hold.cause != HoldCause::Manual => {
                return None;
            }
            // What a probe of the login meets is for its own answer to tell.
            Some(_) if is_news && self.probe == Probe::Login && hold.cause != HoldCause::Manual => return None,
            // Attempts that were under way together are refused together, and a probe of the sign-in fails as it did before.
            Some(current) if !is_news => {
                hold.since = current.since;
                hold.probe_at = hold.probe_at.or(current.probe_at);
                hold.probes = hold.probes.max(current.probes);
            }
            _ => hold.probe_at = hold.probe_at.or_else(|| next_probe(&hold, hold.since)),
        }
        if is_news && matches!(self.probe, Probe::Message(_)) {
            self.probe = Probe::None;
        }
        if self.hold.as_ref() == Some(&hold) {
            return None;
        }
        self.on_trial = false;
        self.hold = Some(hold.clone());
        Some(Raised { hold, is_news })
    }

    /// Opens it, to one message at first. Whether it was held.
    pub(super) fn release(&mut self) -> bool {
        self.probe = Probe::None;
        let was_held = self.hold.take().is_some();
        self.on_trial |= was_held;
        was_held
    }

    /// Whether a sign-in that works again ends the hold.
    pub(super) fn is_freed_by_sign_in(&self) -> bool {
        use HoldCause::{Key, NotSignedIn, Registration, SignIn};
        let frees = |cause| matches!(cause, NotSignedIn | SignIn | Registration | Key);
        self.hold.as_ref().is_some_and(|hold| frees(hold.cause))
    }

    /// Whether only a person's word ends the hold.
    pub(super) fn is_manual(&self) -> bool {
        self.hold.as_ref().is_some_and(|hold| hold.cause == HoldCause::Manual)
    }

    /// Whether it was one hold that stopped both, for the whole tenant: such holds begin at the same instant.
    pub(super) fn shares(&self, other: &Self) -> bool {
        let (Some(one), Some(other)) = (&self.hold, &other.hold) else { return false };
        is_of_exchange(one.cause) && one.cause == other.cause && one.since == other.since
    }

    /// Who may pass now.
    pub(super) fn pass(&self, now: Timestamp) -> Pass {
        match self.opening() {
            Opening::Open if self.on_trial => Pass::One,
            Opening::Open => Pass::All,
            Opening::Login(when) if when <= now => Pass::Login,
            Opening::Message(when) if when <= now => Pass::One,
            Opening::Unknown | Opening::Login(_) | Opening::Message(_) => Pass::Shut,
        }
    }

    /// When somebody may pass.
    pub(super) fn opening(&self) -> Opening {
        let Some(hold) = &self.hold else { return Opening::Open };
        match (proof(hold.cause), hold.probe_at) {
            _ if self.is_probing() => Opening::Unknown,
            (Proof::Login, Some(when)) => Opening::Login(when),
            (Proof::Message, Some(when)) => Opening::Message(when),
            (Proof::Nothing, _) | (_, None) => Opening::Unknown,
        }
    }

    /// Whether mail finds its way through it, or is to find out whether it does.
    pub(super) fn is_for_messages(&self) -> bool {
        matches!(self.opening(), Opening::Open | Opening::Message(_))
    }

    /// A probe is under way.
    pub(super) fn is_probing(&self) -> bool {
        self.probe != Probe::None
    }

    /// A probe of the login begins.
    pub(super) fn begin_probe(&mut self) {
        self.probe = Probe::Login;
    }

    /// A message passes; while the account is held it is the probe.
    pub(super) fn passes(&mut self, id: QueueId) {
        if self.hold.is_some() {
            self.probe = Probe::Message(id);
        }
    }

    /// A message has shown that the hold is over: nobody has to wait for another one.
    pub(super) fn trust(&mut self) {
        self.on_trial = false;
    }

    /// What an attempt tells of the hold. A hold that the attempt brings along is only looked at here if it is the probe's answer;
    /// otherwise it is for [`Gate::raise`].
    pub(super) fn answered(&mut self, id: QueueId, outcome: &Outcome, now: Timestamp) -> Probed {
        if let Outcome::Answered { sent: Some(_), .. } = outcome {
            self.on_trial = false;
        }
        if self.probe != Probe::Message(id) {
            return Probed::Nothing;
        }
        self.probe = Probe::None;
        let Some(hold) = &mut self.hold else { return Probed::Nothing };
        match outcome {
            // Also if it met something of its own, and was not taken.
            Outcome::Answered { .. } => return Probed::Free,
            Outcome::Held { hold: met, .. } | Outcome::Stopped { stop: Stop::Hold { hold: met, .. }, .. } => {
                if met.cause != hold.cause {
                    return Probed::Nothing;
                }
                fail(hold, now);
                hold.reply.clone_from(&met.reply);
                hold.error.clone_from(&met.error);
            }
            Outcome::Unreachable { .. } | Outcome::Stopped { stop: Stop::Pause { .. }, .. } => {
                hold.probe_at = Some(now + PROBE_AGAIN);
            }
            // It was not tried at all: the next one is the probe.
            Outcome::NotDue(_) | Outcome::Gone => return Probed::Nothing,
        }
        Probed::Still(hold.clone())
    }

    /// A probe of the login has ended; the reply or failure that keeps the account held.
    pub(super) fn probed(&mut self, result: Result<(), String>, now: Timestamp) -> Probed {
        if self.probe != Probe::Login {
            return Probed::Nothing;
        }
        self.probe = Probe::None;
        let Some(hold) = self.hold.as_mut().filter(|hold| proof(hold.cause) == Proof::Login) else {
            return Probed::Nothing;
        };
        let Err(reply) = result else { return Probed::Free };
        fail(hold, now);
        if hold.cause == HoldCause::Login {
            hold.reply = Some(reply);
        }
        Probed::Still(hold.clone())
    }

    /// The probe of another account of the tenant has failed: it counts for this one too.
    pub(super) fn follow(&mut self, other: &Hold) -> Option<Hold> {
        let hold = self.hold.as_mut()?;
        hold.probes = other.probes;
        hold.probe_at = other.probe_at;
        hold.reply.clone_from(&other.reply);
        Some(hold.clone())
    }

    /// The clock has gone back by so much.
    pub(super) fn earlier(&mut self, step: SignedDuration, now: Timestamp) {
        if let Some(when) = self.hold.as_mut().and_then(|hold| hold.probe_at.as_mut()) {
            *when = when.checked_sub(step).unwrap_or(now);
        }
    }
}

fn fail(hold: &mut Hold, now: Timestamp) {
    hold.probes += 1;
    hold.probe_at = next_probe(hold, now);
}

/// How it may end by itself. Whoever keeps the sign-in tries that too; a probe from here is the net below.
fn proof(cause: HoldCause) -> Proof {
    use HoldCause::{
        Blocked, Clone, Connection, Key, Login, MailboxFull, Manual, NotSignedIn, Permission, Quota, Registration,
        SignIn,
    };
    match cause {
        Manual | Clone => Proof::Nothing,
        NotSignedIn | SignIn | Registration | Login | Key => Proof::Login,
        Quota | Blocked | MailboxFull | Permission | Connection => Proof::Message,
    }
}

/// Whether a reply of Exchange's raises it.
fn is_of_exchange(cause: HoldCause) -> bool {
    cause == HoldCause::Login || proof(cause) == Proof::Message
}

/// The waits between the probes of a hold; the last one repeats. Also in `docs/queue.md`.
fn waits(cause: HoldCause) -> &'static [Duration] {
    const LOGIN: &[Duration] =
        &[Duration::from_mins(5), Duration::from_mins(15), Duration::from_mins(30), Duration::from_hours(1)];
    const GRANTED: &[Duration] = &[MINUTE, Duration::from_mins(5), Duration::from_mins(15), HOUR];
    const COUNTED: &[Duration] =
        &[HOUR, Duration::from_hours(2), Duration::from_hours(4), Duration::from_hours(8), DAY];
    match cause {
        HoldCause::Quota => COUNTED,
        HoldCause::Blocked | HoldCause::MailboxFull => &[HOUR],
        // A person may be granting it just now.
        HoldCause::Permission => GRANTED,
        _ => LOGIN,
    }
}

/// When the next probe is due, counted from `now`; `None`: none is.
fn next_probe(hold: &Hold, now: Timestamp) -> Option<Timestamp> {
    if proof(hold.cause) == Proof::Nothing {
        return None;
    }
    let waits = waits(hold.cause);
    let next = now + waits[(hold.probes as usize).min(waits.len() - 1)];
    let counted_until = hold.since + DAY;
    let is_counted = hold.cause == HoldCause::Quota && now < counted_until;
    Some(if is_counted { next.min(counted_until) } else { next })
}

#[cfg(test)]
mod tests;
