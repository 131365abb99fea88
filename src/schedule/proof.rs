//! The daily proof: an account through which no mail flows logs in about once a day, so that a login which Exchange no longer takes is found
//! before the next password reset waits for it. Rules only.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;

use crate::message::Address;

/// The shortest time between a login that was taken and the next proof.
const DAY: Duration = Duration::from_hours(22);
/// How much longer it may be: accounts that were proven together drift apart.
const DAY_JITTER: Duration = Duration::from_hours(4);
/// When an overdue proof is made: never at once, since a start or a release has enough to do, and a relay that is started again and again
/// is not to log in each time.
const SOON: Duration = Duration::from_mins(1);
/// How much later than that it may be.
const SOON_JITTER: Duration = Duration::from_mins(4);
/// After a failure that says nothing about the login; the last one repeats.
const AGAIN: [Duration; 3] = [Duration::from_mins(15), Duration::from_mins(30), Duration::from_hours(1)];
/// So many failures in a row are told.
const TOLD: u32 = 3;

/// What is known of one account's login.
#[derive(Clone, Debug)]
pub(super) struct Proof {
    due_at: Timestamp,
    failures: u32,
    error: Option<String>,
    /// Differs between accounts.
    seed: u64,
}

impl Proof {
    /// Of an account whose login was last taken at `last`, as far as anybody knows.
    pub(super) fn new(account: &Address, last: Option<Timestamp>, now: Timestamp) -> Self {
        let mut hasher = DefaultHasher::new();
        account.hash(&mut hasher);
        let mut proof = Self { due_at: now, failures: 0, error: None, seed: hasher.finish() };
        proof.soon(now);
        if let Some(last) = last {
            // Whoever says that it was tomorrow had a wrong clock.
            let due_at = proof.a_day_after(last.min(now));
            proof.due_at = proof.due_at.max(due_at);
        }
        proof
    }

    /// Nobody knows whether the login is taken: it is proven within minutes.
    pub(super) fn soon(&mut self, now: Timestamp) {
        self.due_at = now + SOON + self.share_of(SOON_JITTER, now);
    }

    /// The login was taken.
    pub(super) fn taken(&mut self, at: Timestamp) {
        self.due_at = self.a_day_after(at);
        self.failures = 0;
        self.error = None;
    }

    /// The far side could not be asked.
    pub(super) fn failed(&mut self, error: String, now: Timestamp) {
        let wait = AGAIN[(self.failures as usize).min(AGAIN.len() - 1)];
        self.due_at = now + wait;
        self.failures = self.failures.saturating_add(1);
        self.error = Some(error);
    }

    /// The clock has gone back by so much.
    pub(super) fn earlier(&mut self, step: jiff::SignedDuration, now: Timestamp) {
        self.due_at = self.due_at.checked_sub(step).unwrap_or(now);
    }

    /// When it is due.
    pub(super) fn due_at(&self) -> Timestamp {
        self.due_at
    }

    /// What keeps failing.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.error.as_deref().filter(|_| self.failures >= TOLD)
    }

    fn a_day_after(&self, at: Timestamp) -> Timestamp {
        at + DAY + self.share_of(DAY_JITTER, at)
    }

    /// A part of `span` that looks like chance, and is the same for the same account at the same time.
    fn share_of(&self, span: Duration, at: Timestamp) -> Duration {
        let mut hasher = DefaultHasher::new();
        (self.seed, at.as_millisecond()).hash(&mut hasher);
        // The upper half is enough, and any share of it is below one.
        let share = f64::from(u32::try_from(hasher.finish() >> 32).unwrap_or(0)) / f64::from(u32::MAX);
        Duration::from_millis(u64::try_from(span.mul_f64(share).as_millis()).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(n: usize) -> Address {
        Address::parse(&format!("lms{n}@contoso.com")).unwrap()
    }

    fn start() -> Timestamp {
        Timestamp::from_second(1_795_000_000).unwrap()
    }

    fn minutes(proof: &Proof) -> i64 {
        proof.due_at().duration_since(start()).as_secs() / 60
    }

    #[test]
    fn a_proof_holds_for_about_a_day_and_accounts_do_not_come_together() {
        let mut due: Vec<i64> = Vec::new();
        for n in 0..50 {
            let mut proof = Proof::new(&account(n), None, start());
            proof.taken(start());
            due.push(minutes(&proof));
        }
        assert!(due.iter().all(|at| (22 * 60..=26 * 60).contains(at)), "{due:?}");
        due.sort_unstable();
        due.dedup();
        assert!(due.len() > 30, "they are spread: {due:?}");
    }

    #[test]
    fn a_restart_neither_hastens_nor_forgets_a_proof() {
        let hours = Duration::from_hours;
        for n in 0..50 {
            let fresh = Proof::new(&account(n), Some(start() - hours(2)), start());
            assert!((20 * 60..=24 * 60).contains(&minutes(&fresh)), "{fresh:?}");
            for overdue in [None, Some(start() - hours(100)), Some(start() - hours(26))] {
                let overdue = Proof::new(&account(n), overdue, start());
                assert!((1..=5).contains(&minutes(&overdue)), "{overdue:?}");
            }
            let tomorrow = Proof::new(&account(n), Some(start() + hours(1000)), start());
            assert!((22 * 60..=26 * 60).contains(&minutes(&tomorrow)), "{tomorrow:?}");
        }
    }

    #[test]
    fn failures_are_tried_again_within_the_hour_and_told_from_the_third_on() {
        let mut proof = Proof::new(&account(1), None, start());
        let mut now = start();
        for (n, wait) in [15, 30, 60, 60].into_iter().enumerate() {
            assert_eq!(proof.trouble().is_some(), n >= 3);
            proof.failed("connection refused".to_owned(), now);
            assert_eq!(proof.due_at(), now + Duration::from_mins(wait));
            now = proof.due_at();
        }
        proof.taken(now);
        assert_eq!(proof.trouble(), None);
    }
}
