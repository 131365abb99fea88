//! One cause: whether it is there, what was told of it, and what is to be told next. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::alerts::{Action, Handed};
use super::memory::Told;
use super::notice::{Item, State};
use super::receiver::ReceiverName;
use super::trouble::{Cause, Kind, Severity, Trouble};

/// When what still lasts is told again, each counted from the time before; the last one repeats.
const REMINDERS: [Duration; 3] = [Duration::from_hours(24), Duration::from_hours(72), Duration::from_hours(168)];
/// What is over stays in mind for this long: if it comes back, it is restless.
const RESTLESS: Duration = Duration::from_hours(1);
/// What is restless has to be gone for this long before it is said to be over again.
const CALM: Duration = Duration::from_mins(30);
/// A hold that changes its cause back and forth is news at most this often.
const NEWS: Duration = Duration::from_hours(1);
/// Somebody who could not be told for so long that it is over need not hear it any more.
const STALE: Duration = Duration::from_hours(24);

/// A cause that is there, or was and is still talked about.
#[derive(Debug)]
pub(super) struct Case {
    /// As it was last seen; `None` after a restart until it is.
    pub trouble: Option<Trouble>,
    /// Since when it is there without a break, or is not.
    pub is_there: bool,
    pub turned: Timestamp,
    pub told: Option<Told>,
}

impl Case {
    /// Nothing is known of it yet.
    pub fn new(now: Timestamp) -> Self {
        Self { trouble: None, is_there: false, turned: now, told: None }
    }

    /// It is there.
    pub fn seen(&mut self, trouble: Trouble, now: Timestamp) {
        if !self.is_there {
            (self.is_there, self.turned) = (true, now);
        }
        self.trouble = Some(trouble);
    }

    /// It is not there.
    pub fn missed(&mut self, now: Timestamp) {
        if self.is_there {
            (self.is_there, self.turned) = (false, now);
        }
    }

    /// Nothing has happened in the future: a clock that was ahead is no reason to wait until that time comes again.
    fn follow_clock(&mut self, now: Timestamp) {
        self.turned = self.turned.min(now);
        if let Some(told) = &mut self.told {
            told.at = told.at.min(now);
            told.solved_at = told.solved_at.map(|at| at.min(now));
        }
    }

    fn since(&self) -> Timestamp {
        self.trouble.as_ref().and_then(|trouble| trouble.since).unwrap_or(self.turned)
    }

    /// Whether it has lasted long enough to be told.
    pub fn has_settled(&self, now: Timestamp) -> bool {
        let Some(trouble) = &self.trouble else { return false };
        // A hold may be older than this process, but not younger than what was seen of it.
        let counts_from = if trouble.cause.kind == Kind::Held { self.since().min(self.turned) } else { self.turned };
        is_past(counts_from, trouble.settles_after, now)
    }

    /// Tells it if that is due now.
    pub fn advance(&mut self, cause: &Cause, now: Timestamp, actions: &mut Vec<Action>) {
        self.follow_clock(now);
        let is_news = if self.is_there { self.has_begun(now) } else { self.is_over(cause, now) };
        if !is_news {
            return;
        }
        let before = self.told.clone();
        if self.is_there {
            self.tell(now);
        } else if let Some(told) = &mut self.told {
            told.solved_at = Some(now);
            // Somebody may have been told of an earlier end when it had come back already.
            told.heard_solved.clear();
        }
        let Some(told) = &self.told else { return };
        actions.push(Action::Learn(told.fact(cause, now)));
        let is_put_off =
            before.is_some_and(|before| before.edition == told.edition && before.solved_at == told.solved_at);
        if !is_put_off {
            actions.extend(self.item(cause, told.edition > 1).map(Action::Say));
        }
    }

    fn has_begun(&self, now: Timestamp) -> bool {
        let Some(trouble) = &self.trouble else { return false };
        let Some(told) = &self.told else { return self.has_settled(now) };
        if told.solved_at.is_some() {
            return self.has_settled(now);
        }
        let is_countdown = trouble.cause.kind.is_countdown();
        let is_news = if is_countdown {
            trouble.stage != told.stage
        } else {
            trouble.stage != told.stage && is_past(told.at, NEWS, now)
        };
        is_news || Self::is_reminder_due(trouble, told, now)
    }

    fn is_reminder_due(trouble: &Trouble, told: &Told, now: Timestamp) -> bool {
        // Until it ends a countdown has its thresholds.
        let is_ahead = trouble.cause.kind.is_countdown() && trouble.ends.is_some_and(|ends| ends > now);
        let wait = REMINDERS[(told.reminders as usize).min(REMINDERS.len() - 1)];
        !is_ahead && is_past(told.at, wait, now)
    }

    fn is_over(&self, cause: &Cause, now: Timestamp) -> bool {
        let Some(told) = self.told.as_ref().filter(|told| told.solved_at.is_none()) else { return false };
        let wait = cause.kind.clears_after().max(if told.is_restless { CALM } else { Duration::ZERO });
        is_past(self.turned, wait, now)
    }

    /// Makes the next edition.
    fn tell(&mut self, now: Timestamp) {
        let since = self.since();
        let Some(trouble) = &self.trouble else { return };
        let is_critical = trouble.severity == Severity::Critical;
        let stage = trouble.stage;
        let Some(told) = &mut self.told else {
            self.told = Some(Told {
                since,
                at: now,
                edition: 1,
                is_reminder: false,
                reminders: 0,
                stage,
                is_critical,
                is_restless: false,
                solved_at: None,
                heard: BTreeMap::new(),
                heard_solved: BTreeSet::new(),
            });
            return;
        };
        if let Some(solved_at) = told.solved_at.take() {
            // Back again: for whoever had heard that it was over it begins anew.
            told.is_restless = !is_past(solved_at, RESTLESS, now);
            for name in std::mem::take(&mut told.heard_solved) {
                told.heard.remove(&name);
            }
            (told.since, told.reminders, told.is_reminder) = (since, 0, false);
        } else if trouble.cause.kind.is_countdown() && stage < told.stage {
            // Put off: nothing to tell, but the thresholds count again.
            (told.stage, told.is_critical) = (stage, is_critical);
            return;
        } else if stage == told.stage {
            told.reminders += 1;
            told.is_reminder = true;
        } else {
            (told.reminders, told.is_reminder) = (0, false);
        }
        (told.at, told.edition, told.stage, told.is_critical) = (now, told.edition + 1, stage, is_critical);
    }

    /// What this receiver has not heard yet.
    pub fn news_for(&self, name: &ReceiverName, cause: &Cause) -> Option<(Item, Handed)> {
        let told = self.told.as_ref()?;
        let name = name.to_string();
        let heard = told.heard.get(&name);
        if told.solved_at.is_some() {
            let is_news = heard.is_some() && !told.heard_solved.contains(&name);
            return is_news.then(|| self.item(cause, true)).flatten().map(|item| (item, (cause.clone(), None)));
        }
        if !self.is_there || heard == Some(&told.edition) {
            return None;
        }
        Some((self.item(cause, heard.is_some())?, (cause.clone(), Some(told.edition))))
    }

    /// In words; `is_known` to whoever is told.
    fn item(&self, cause: &Cause, is_known: bool) -> Option<Item> {
        let told = self.told.as_ref()?;
        if let Some(solved_at) = told.solved_at {
            return Some(solved(cause, told, solved_at));
        }
        let trouble = self.trouble.as_ref()?;
        let Trouble { severity, title, text, ends, waiting, error, codes, todo, .. } = trouble.clone();
        let state = if is_known && told.is_reminder { State::Reminder } else { State::Raised };
        let cause = Some(cause.clone());
        Some(Item { cause, state, severity, title, text, since: told.since, ends, waiting, error, codes, todo })
    }

    /// Nothing was told, or everybody who had heard of it knows that it is over.
    pub fn is_done(&self, is_receiver: impl Fn(&str) -> bool, now: Timestamp) -> bool {
        if self.is_there {
            return false;
        }
        let Some(told) = &self.told else { return true };
        let Some(solved_at) = told.solved_at else { return false };
        let is_waited_for = |name: &String| is_receiver(name) && !told.heard_solved.contains(name);
        let is_all_said = !told.heard.keys().any(is_waited_for);
        is_past(solved_at, STALE, now) || is_all_said && is_past(solved_at, RESTLESS, now)
    }
}

fn solved(cause: &Cause, told: &Told, solved_at: Timestamp) -> Item {
    Item {
        cause: Some(cause.clone()),
        state: State::Solved,
        severity: told.severity(),
        title: cause.solved(),
        text: if cause.kind.is_countdown() {
            "It was renewed, replaced or given another date".to_owned()
        } else {
            format!("It lasted {}", lasted(told.since, solved_at))
        },
        since: told.since,
        ends: None,
        waiting: None,
        error: None,
        codes: Vec::new(),
        todo: String::new(),
    }
}

/// `3 days and 4 hours`, in the two largest units that matter.
pub(super) fn lasted(since: Timestamp, until: Timestamp) -> String {
    let minutes = u64::try_from(until.as_second() - since.as_second()).unwrap_or_default() / 60;
    let count = |n: u64, noun: &str| format!("{n} {noun}{}", if n == 1 { "" } else { "s" });
    match (minutes / 1440, minutes / 60 % 24, minutes % 60) {
        (0, 0, 0) => "less than a minute".to_owned(),
        (0, 0, minutes) => count(minutes, "minute"),
        (0, hours, 0) => count(hours, "hour"),
        (0, hours, minutes) => format!("{} and {}", count(hours, "hour"), count(minutes, "minute")),
        (days, 0, _) => count(days, "day"),
        (days, hours, _) => format!("{} and {}", count(days, "day"), count(hours, "hour")),
    }
}

/// Whether `wait` is over.
pub(super) fn is_past(from: Timestamp, wait: Duration, now: Timestamp) -> bool {
    from.checked_add(wait).is_ok_and(|at| at <= now)
}
