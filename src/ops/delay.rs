//! Why a message that is due, and that nothing holds, has not left yet, as far as its account tells: the account pauses, or there is no room left
//! in the day.

use super::{AccountStatus, BudgetView, PaceView};
use crate::message::Lane;
use crate::store::{RecipientState, Stored};

/// What keeps a message of this account's queue back, in words; `None`: at most those that are before it.
pub(super) fn delay(stored: &Stored, account: &AccountStatus) -> Option<String> {
    if let Some(budget) = account.budget.as_ref().filter(|budget| stored.outside && is_full_for(stored, budget.used()))
    {
        return Some(budget.warning_in_words());
    }
    let carriers = account.forecast.as_ref().map(|forecast| forecast.carried_by.as_slice()).unwrap_or_default();
    // Others carry it, each with a pace of its own.
    if account.hold.is_some() || carriers.iter().any(|carrier| *carrier != account.mailbox) {
        return None;
    }
    if let Some(pause) = &account.pause {
        // The reply that made it pause says more to whom it was given.
        let is_new = stored.recipients.iter().all(|row| row.reply.is_none());
        return is_new.then(|| format!("{} pauses and is tried again by itself: {}", account.mailbox, pause.error));
    }
    is_full_for(stored, account.pace.used()).then(|| account.pace.day_in_words())
}

/// What is used of a day's recipients, and how many there may be.
type Used = (u64, u32);

impl BudgetView {
    fn used(&self) -> Used {
        (self.last_day, self.external_recipients_per_day)
    }
}

impl PaceView {
    fn used(&self) -> Used {
        (self.last_day, self.recipients_per_day)
    }
}

/// Whether a day has no room for all who are to get the message. A tenth is for urgent mail; a message for more than there may be gets an empty day.
fn is_full_for(stored: &Stored, (used, limit): Used) -> bool {
    let limit = u64::from(limit);
    let limit = if stored.lane == Lane::Urgent { limit } else { limit - limit / 10 };
    let pending = stored.recipients.iter().filter(|row| row.state == RecipientState::Waiting).count();
    used > 0 && used + pending as u64 > limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::samples::stored;

    #[test]
    fn a_day_is_full_for_a_message_before_it_is_full() {
        let mut stored = stored(&[RecipientState::Waiting, RecipientState::Accepted, RecipientState::Waiting]);
        let is_full = |stored: &Stored, used| is_full_for(stored, (used, 100));
        assert!(!is_full(&stored, 88) && is_full(&stored, 89), "a tenth is for urgent mail");
        stored.lane = Lane::Urgent;
        assert!(!is_full(&stored, 98) && is_full(&stored, 99));
        stored.recipients = vec![stored.recipients[0].clone(); 101];
        assert!(!is_full(&stored, 0) && is_full(&stored, 1), "an empty day is for a message of any size");
    }
}
