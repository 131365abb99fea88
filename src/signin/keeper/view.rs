//! What callers and `status` see of a keeper.

use jiff::Timestamp;

use super::Keeper;
use crate::signin::status::{Published, SignInStatus};
use crate::signin::timing::later;

impl Keeper {
    pub(super) fn view(&self) -> Published {
        let stored = self.stored.as_ref();
        let access = self.access.as_ref();
        Published {
            access: access.map(|access| access.token.clone()),
            busy: self.is_busy(),
            answered: self.answered,
            heard_rejection: self.heard_rejection,
            status: SignInStatus {
                mailbox: self.mailbox.clone(),
                grant: self.grant,
                signed_in_as: stored.and_then(|stored| stored.signed_in_as.clone()),
                since: stored.map(|stored| stored.since).or(self.applied.map(|(first, _)| first)),
                last_refresh: stored.map(|stored| stored.refreshed_at).or(self.applied.map(|(_, last)| last)),
                next_refresh: self.wake_at(),
                good_until_at_least: self.good_until_at_least(),
                access_token_until: access.map(|access| access.token.expires_at),
                problem: self.problem.clone(),
                hold: self.hold.clone(),
                // The observer's part.
                findings: Vec::new(),
                clock_skew: None,
            },
        }
    }

    fn good_until_at_least(&self) -> Option<Timestamp> {
        let stored = self.stored.as_ref().filter(|_| self.hold.is_none())?;
        let life = stored.refresh_life.or(self.refresh_life).filter(|life| !life.is_zero())?;
        // A calendar that has gone back since must not promise more than there is.
        Some(later(stored.refreshed_at.min(self.seen?), life))
    }
}
