//! Whose turn it is: of the lanes, and within a lane of the flows. Rules only.
//!
//! Urgent mail goes first; of the other two lanes normal mail does, and every eighth turn is for bulk mail. Within a lane flows share by
//! deficit round robin (Shreedhar and Varghese, 1995). What a turn costs is the number of recipients, because that is what Exchange counts
//! of a day; so an app that sends one mail to 100 people gets as much of it as one that sends 100 mails. Here all rounds until somebody can
//! pay are made at once, and who has waited longest pays first.

use jiff::{SignedDuration, Timestamp};

use crate::message::Lane;

/// Urgent messages in a row, while others could go. The next turn is theirs: an app whose mail is all urgent does not stop everybody.
const URGENT_RUN: u32 = 15;
/// Normal messages in a row, while bulk mail could go.
const NORMAL_RUN: u32 = 7;
/// The same once bulk mail has been due for [`OLD`].
const NORMAL_RUN_IF_OLD: u32 = 1;
/// Bulk mail that has been due for so long gets half of what urgent mail leaves.
const OLD: SignedDuration = SignedDuration::from_hours(12);

/// The lanes of one login: who was passed over.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Lanes {
    urgent_run: u32,
    normal_run: u32,
}

/// Since when the oldest mail of each lane is due that could go now, in the order of [`Lane::ALL`].
pub(super) type Due = [Option<Timestamp>; 3];

impl Lanes {
    /// The lane whose turn it is; `None` if nothing could go.
    pub(super) fn next(self, due: &Due, now: Timestamp) -> Option<Lane> {
        let [urgent, normal, bulk] = *due;
        let others_turn = self.urgent_run >= URGENT_RUN && (normal.is_some() || bulk.is_some());
        if urgent.is_some() && !others_turn {
            return Some(Lane::Urgent);
        }
        let is_old = bulk.is_some_and(|since| now.duration_since(since) >= OLD);
        let run = if is_old { NORMAL_RUN_IF_OLD } else { NORMAL_RUN };
        match (normal, bulk) {
            (Some(_), Some(_)) if self.normal_run >= run => Some(Lane::Bulk),
            (Some(_), _) => Some(Lane::Normal),
            (None, Some(_)) => Some(Lane::Bulk),
            (None, None) => None,
        }
    }

    /// A message of this lane goes.
    pub(super) fn served(&mut self, lane: Lane, due: &Due) {
        let [_, normal, bulk] = due;
        match lane {
            Lane::Urgent if normal.is_some() || bulk.is_some() => self.urgent_run += 1,
            Lane::Urgent => self.urgent_run = 0,
            Lane::Normal => {
                self.urgent_run = 0;
                self.normal_run = if bulk.is_some() { self.normal_run + 1 } else { 0 };
            }
            Lane::Bulk => *self = Self::default(),
        }
    }
}

/// What a flow has saved up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    /// Recipients that it may send to, from rounds in which it could not pay yet.
    deficit: u64,
    /// The number of its last turn.
    served: u64,
}

impl Share {
    /// Rounds went by in which it could have gone.
    pub(super) fn earn(&mut self, rounds: u64) {
        self.deficit += rounds;
    }

    /// It is its turn, the `turn`th of all.
    pub(super) fn pay(&mut self, cost: u32, turn: u64) {
        self.deficit = self.deficit.saturating_sub(cost.into());
        self.served = turn;
    }

    /// Rounds until it can pay.
    fn rounds(self, cost: u32) -> u64 {
        u64::from(cost).saturating_sub(self.deficit)
    }
}

/// Which of those that could go has its turn, and after how many rounds, which all of them earn.
pub(super) fn next(flows: impl Iterator<Item = (Share, u32)>) -> Option<(usize, u64)> {
    let ranked = flows.enumerate().map(|(n, (share, cost))| (share.rounds(cost), share.served, n));
    ranked.min().map(|(rounds, _, n)| (n, rounds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_795_000_000).unwrap()
    }

    /// How many turns each lane gets of `turns`, if all of these always have something to send.
    fn turns(due: Due, turns: usize) -> [usize; 3] {
        let mut lanes = Lanes::default();
        let mut counts = [0; 3];
        for _ in 0..turns {
            let lane = lanes.next(&due, now()).unwrap();
            lanes.served(lane, &due);
            counts[lane as usize] += 1;
        }
        counts
    }

    #[test]
    fn bulk_mail_gets_every_eighth_turn_under_endless_normal_mail_and_every_second_once_it_is_old() {
        let since = Some(now());
        assert_eq!(turns([None, since, since], 800), [0, 700, 100]);
        assert_eq!(turns([None, since, None], 8), [0, 8, 0]);
        let old = Some(now() - SignedDuration::from_hours(13));
        assert_eq!(turns([None, since, old], 800), [0, 400, 400]);
    }

    #[test]
    fn urgent_mail_goes_first_and_leaves_a_sixteenth_to_the_others_however_much_there_is() {
        let since = Some(now());
        assert_eq!(turns([since, since, since], 1600), [1500, 88, 12]);
        assert_eq!(turns([since, None, since], 1600), [1500, 0, 100]);
        let mut lanes = Lanes::default();
        for _ in 0..100 {
            lanes.served(Lane::Normal, &[None, since, since]);
        }
        assert_eq!(
            lanes.next(&[since, since, since], now()),
            Some(Lane::Urgent),
            "one reset need not wait for anybody"
        );
        assert_eq!(lanes.next(&[None, None, None], now()), None);
    }

    /// Recipients that each flow has reached, all of which always have a message of that many recipients waiting.
    fn reached(costs: &[u32], turns: u64) -> Vec<u64> {
        let mut shares = vec![Share::default(); costs.len()];
        let mut reached = vec![0; costs.len()];
        for turn in 1..=turns {
            let (n, rounds) = next(shares.iter().copied().zip(costs.iter().copied())).unwrap();
            for share in &mut shares {
                share.earn(rounds);
            }
            shares[n].pay(costs[n], turn);
            reached[n] += u64::from(costs[n]);
        }
        reached
    }

    #[test]
    fn flows_of_single_mails_take_turns() {
        assert_eq!(reached(&[1; 20], 2_000), [100; 20]);
    }

    #[test]
    fn who_writes_to_many_at_once_reaches_as_many_as_who_writes_to_one_at_a_time() {
        let reached = reached(&[1, 100, 7], 21_000);
        let (least, most) = (reached.iter().min().unwrap(), reached.iter().max().unwrap());
        assert!(most - least <= 100, "{reached:?}");
    }

    #[test]
    fn a_flow_that_comes_back_has_no_more_than_its_share() {
        // The last one is gone after each of its turns, and back with nothing to its name.
        let mut shares = [Share::default(); 3];
        let mut reached = [0; 3];
        for turn in 1..=900 {
            let (n, rounds) = next(shares.iter().map(|&share| (share, 1))).unwrap();
            for share in &mut shares {
                share.earn(rounds);
            }
            shares[n].pay(1, turn);
            reached[n] += 1;
            if n == 2 {
                shares[2] = Share::default();
            }
        }
        assert_eq!(reached, [300; 3]);
    }
}
