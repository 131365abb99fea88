//! Whether an account's mail may leave: its hold, what takes the place of it, and when it is tried whether it may go. Rules only.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::store::{Hold, HoldCause};

/// When what holds an account is tried again without a person; the last one repeats.
const PROBES: [Duration; 4] =
    [Duration::from_mins(5), Duration::from_mins(15), Duration::from_mins(30), Duration::from_hours(1)];

/// The gate of one account.
#[derive(Debug, Default)]
pub(super) struct Gate {
    hold: Option<Hold>,
    probing: bool,
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
    /// It was overtaken: nobody waits for it any more.
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
            // What a probe meets is for its own answer to tell.
            Some(_) if is_news && self.probing && hold.cause != HoldCause::Manual => return None,
            // Attempts that were under way together are refused together, and a probe of the sign-in fails as it did before.
            Some(current) if !is_news => {
                hold.since = current.since;
                hold.probe_at = hold.probe_at.or(current.probe_at);
                hold.probes = hold.probes.max(current.probes);
            }
            _ if is_probed(hold.cause) => hold.probe_at = hold.probe_at.or(Some(hold.since + PROBES[0])),
            _ => {}
        }
        if self.hold.as_ref() == Some(&hold) {
            return None;
        }
        self.hold = Some(hold.clone());
        Some(Raised { hold, is_news })
    }

    /// Opens it. Whether it was held.
    pub(super) fn release(&mut self) -> bool {
        self.probing = false;
        self.hold.take().is_some()
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

    /// When the next probe is due; `None`: none is, or one is under way.
    pub(super) fn next_probe(&self) -> Option<Timestamp> {
        self.hold.as_ref().filter(|_| !self.probing)?.probe_at
    }

    /// A probe begins.
    pub(super) fn begin_probe(&mut self) {
        self.probing = true;
    }

    /// A probe has ended; the reply or failure that keeps the account held.
    pub(super) fn probed(&mut self, result: Result<(), String>, now: Timestamp) -> Probed {
        let is_probed = self.hold.as_ref().is_some_and(|hold| is_probed(hold.cause));
        if !std::mem::take(&mut self.probing) || !is_probed {
            return Probed::Nothing;
        }
        let (Err(reply), Some(hold)) = (result, &mut self.hold) else { return Probed::Free };
        hold.probes += 1;
        let step = (hold.probes as usize).min(PROBES.len() - 1);
        hold.probe_at = Some(now + PROBES[step]);
        if hold.cause == HoldCause::Login {
            hold.reply = Some(reply);
        }
        Probed::Still(hold.clone())
    }

    /// The clock has gone back by so much.
    pub(super) fn earlier(&mut self, step: SignedDuration, now: Timestamp) {
        if let Some(when) = self.hold.as_mut().and_then(|hold| hold.probe_at.as_mut()) {
            *when = when.checked_sub(step).unwrap_or(now);
        }
    }
}

/// Whether it may end by itself. Whoever keeps the sign-in tries that too; a probe from here is the net below.
fn is_probed(cause: HoldCause) -> bool {
    !matches!(cause, HoldCause::Manual | HoldCause::Clone)
}
