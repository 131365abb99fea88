//! Whether a refusal that speaks of the account is the account's indeed, or this one message's. In memory; rules only.
//!
//! Exchange says of single messages, too, that the mailbox or the server is at fault. Such a message would be tried first, again and again, and
//! stop all others. So whoever was stopped twice in a row goes behind the others; and if the account takes other mail and then stops at
//! the same message again, that counts as a try of the message and no longer against the account.
//!
//! A restart forgets it. But the message has lost tries by then, and those are on disk: so it goes behind the others the first time that it stops an
//! account in a run, and the next to try is another one. That is one pause or hold for each start, account and such message, and `give_up_after`
//! (on disk, too) ends it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::message::{Address, QueueId};

/// How many messages are remembered. One that is forgotten stops its account once more.
const REMEMBERED: usize = 4096;

/// What is known of messages that were stopped by a reply about their account.
#[derive(Debug, Default)]
pub struct Moods {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// How many messages each account has taken since the start.
    taken: HashMap<Address, u64>,
    /// By message and who carried it: what that account had taken when it was first stopped in this row. It stays once others were taken, so
    /// that the message stays at fault. What another account of its app says of the message is counted apart.
    stopped: HashMap<Carried, u64>,
    /// The same, oldest first.
    order: VecDeque<Carried>,
}

type Carried = (QueueId, Address);

/// Whose fault it seems to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The account's, as it is said.
    Account,
    /// The account's, and this message has tried for the others before: it is another one's turn.
    AccountAgain,
    /// Nobody's: there was too much at once.
    Throttled,
    /// This message's: the account has taken other mail meanwhile.
    Message,
}

impl Moods {
    /// The account has taken a message.
    pub(super) fn taken(&self, account: &Address, id: QueueId) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known.taken.entry(account.clone()).or_default() += 1;
        // Few are stopped at any time.
        known.stopped.retain(|(other, _), _| *other != id);
        known.order.retain(|(other, _)| *other != id);
    }

    /// A message was answered with something about its account. `tries` is how many it has lost so far, in whatever run.
    pub(super) fn stopped(&self, account: &Address, id: QueueId, tries: u32) -> Fault {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = known.taken.get(account).copied().unwrap_or_default();
        let carried = (id, account.clone());
        match known.stopped.get(&carried) {
            Some(&before) if before < taken => return Fault::Message,
            Some(_) => return Fault::AccountAgain,
            None => {}
        }
        known.stopped.insert(carried.clone(), taken);
        known.order.push_back(carried);
        while known.order.len() > REMEMBERED {
            if let Some(oldest) = known.order.pop_front() {
                known.stopped.remove(&oldest);
            }
        }
        if tries > 0 { Fault::AccountAgain } else { Fault::Account }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> Address {
        Address::parse(&format!("{name}@contoso.com")).unwrap()
    }

    fn id(n: usize) -> QueueId {
        QueueId::from_number(i64::try_from(n).unwrap())
    }

    #[test]
    fn who_stops_an_account_that_takes_others_is_at_fault_itself() {
        let moods = Moods::default();
        let lms = account("lms");
        assert_eq!(moods.stopped(&lms, id(1), 0), Fault::Account);
        assert_eq!(moods.stopped(&lms, id(1), 0), Fault::AccountAgain);
        moods.taken(&account("erp"), id(7));
        assert_eq!(moods.stopped(&lms, id(1), 0), Fault::AccountAgain, "that was another account");
        moods.taken(&lms, id(2));
        for _ in 0..2 {
            assert_eq!(moods.stopped(&lms, id(1), 0), Fault::Message, "also while there is no other mail");
        }
        assert_eq!(moods.stopped(&lms, id(3), 0), Fault::Account);
        moods.taken(&lms, id(3));
        assert_eq!(moods.stopped(&lms, id(3), 0), Fault::Account, "it had gone through");
    }

    #[test]
    fn what_one_account_has_taken_says_nothing_about_a_message_that_stops_another_one() {
        let moods = Moods::default();
        let (lms, erp) = (account("lms"), account("erp"));
        assert_eq!(moods.stopped(&lms, id(1), 0), Fault::Account);
        for n in 2..9 {
            moods.taken(&erp, id(n));
        }
        assert_eq!(moods.stopped(&erp, id(1), 0), Fault::Account, "erp has not refused it before");
        assert_eq!(moods.stopped(&lms, id(1), 0), Fault::AccountAgain);
        moods.taken(&erp, id(1));
        assert_eq!(moods.stopped(&lms, id(1), 0), Fault::Account, "somebody took it: that row is over");
    }

    #[test]
    fn after_a_restart_a_message_that_has_lost_tries_lets_the_others_go_first() {
        let moods = Moods::default();
        let lms = account("lms");
        assert_eq!(moods.stopped(&lms, id(1), 3), Fault::AccountAgain);
        assert_eq!(
            moods.stopped(&lms, id(1), 3),
            Fault::AccountAgain,
            "nobody has shown yet that it is not the account"
        );
        moods.taken(&lms, id(2));
        assert_eq!(moods.stopped(&lms, id(1), 3), Fault::Message);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let moods = Moods::default();
        for n in 0..3 * REMEMBERED {
            moods.stopped(&account("lms"), id(n), 0);
        }
        let known = moods.known.lock().unwrap();
        assert_eq!((known.stopped.len(), known.order.len()), (REMEMBERED, REMEMBERED));
    }
}
