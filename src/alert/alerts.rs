//! Who is told what and when. Pure: looks and time in, actions out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::case::Case;
use super::look::Looked;
use super::memory::{forgotten, recalled};
use super::notice::{Item, State};
use super::receiver::{ReceiverName, SendError};
use super::trouble::{Cause, Kind, Severity, Trouble};
use crate::message::Address;
use crate::store::Fact;

/// Waits of a receiver that fails; the last one repeats.
const RETRIES: [Duration; 5] = [
    Duration::from_mins(1),
    Duration::from_mins(2),
    Duration::from_mins(5),
    Duration::from_mins(15),
    Duration::from_hours(1),
];

/// What a receiver may ask for by `Retry-After`: an alert that comes a day later is none.
const LONGEST_WISH: Duration = Duration::from_hours(1);

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// Who can be told, from now on.
    Receivers(Vec<ReceiverName>),
    /// What is wrong, and everything that is.
    Looked(Looked),
    /// The keeper of this account's sign-in has panicked: the relay is about to end, and no look will show it.
    Broken(Address),
    /// A receiver has answered.
    Handed {
        /// Which.
        to: ReceiverName,
        /// What it was told.
        what: Vec<Handed>,
        /// How it went.
        result: Result<(), SendError>,
    },
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell this receiver, and say how it went.
    Send {
        /// Which.
        to: ReceiverName,
        /// What.
        items: Vec<Item>,
        /// To be handed back.
        what: Vec<Handed>,
        /// The account that carries it, for mail.
        through: Option<Address>,
    },
    /// Write this down.
    Learn(Fact),
    /// For the log: it is there even if nobody else is.
    Say(Item),
}

/// One thing that was told: of which cause, and which edition; `None`: that it is over.
pub type Handed = (Cause, Option<u32>);

/// What is wrong, what was told of it, and who has heard.
#[derive(Debug, Default)]
pub struct Alerts {
    cases: BTreeMap<Cause, Case>,
    receivers: BTreeMap<ReceiverName, Line>,
    usable: Vec<Address>,
    is_known: bool,
}

/// How it stands with a receiver.
#[derive(Debug, Default)]
struct Line {
    is_busy: bool,
    failures: usize,
    /// It failed then, and is left alone until then.
    pause: Option<(Timestamp, Timestamp)>,
}

impl Line {
    /// Whether it can be told something. A clock that went back must not silence it for longer than it failed for.
    fn is_free(&self, now: Timestamp) -> bool {
        !self.is_busy && self.pause.is_none_or(|(from, until)| now < from || until <= now)
    }
}

impl Alerts {
    /// With what an earlier process had told.
    pub fn recall(facts: &[Fact], now: Timestamp) -> Self {
        let cases = facts.iter().filter_map(recalled).map(|(cause, told)| {
            let is_there = told.solved_at.is_none();
            (cause, Case { trouble: None, is_there, turned: now, told: Some(told) })
        });
        Self { cases: cases.collect(), ..Self::default() }
    }

    /// What is to be done now. Time passes by looks: there is one every minute.
    pub fn on(&mut self, event: Event, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Receivers(names) => self.follow(names),
            Event::Looked(looked) => self.take(looked, now, &mut actions),
            Event::Broken(account) => {
                let trouble = broken(&account);
                let about = trouble.cause.clone();
                let case = self.cases.entry(about.clone()).or_insert_with(|| Case::new(now));
                case.seen(trouble, now);
                case.advance(&about, now, &mut actions);
            }
            Event::Handed { to, what, result } => self.handed(&to, what, &result, now, &mut actions),
        }
        self.send(now, &mut actions);
        actions
    }

    /// Whether everything is known and nothing stands in the way of mail: what the heartbeat says.
    pub fn is_well(&self, now: Timestamp) -> bool {
        let stops_mail = |case: &Case| {
            let Some(trouble) = case.trouble.as_ref().filter(|_| case.is_there) else { return false };
            let is_held = trouble.cause.kind == Kind::Held;
            is_held || trouble.severity == Severity::Critical && (case.told.is_some() || case.has_settled(now))
        };
        self.is_known && !self.cases.values().any(stops_mail)
    }

    fn follow(&mut self, names: Vec<ReceiverName>) {
        let names: BTreeSet<ReceiverName> = names.into_iter().collect();
        self.receivers.retain(|name, _| names.contains(name));
        for name in names {
            // Whoever has just corrected an address wants to see that it works.
            let line = self.receivers.entry(name).or_default();
            (line.failures, line.pause) = (0, None);
        }
    }

    fn take(&mut self, looked: Looked, now: Timestamp, actions: &mut Vec<Action>) {
        let Looked { accounts, troubles, unknown, usable } = looked;
        self.is_known = unknown.is_empty();
        self.usable = usable;
        let there: BTreeSet<Cause> = troubles.iter().map(|trouble| trouble.cause.clone()).collect();
        for trouble in troubles {
            self.cases.entry(trouble.cause.clone()).or_insert_with(|| Case::new(now)).seen(trouble, now);
        }
        for (cause, case) in &mut self.cases {
            if !there.contains(cause) && !cause.account.as_ref().is_some_and(|account| unknown.contains(account)) {
                case.missed(now);
            }
            case.advance(cause, now, actions);
        }
        let names: BTreeSet<String> = self.receivers.keys().map(ToString::to_string).collect();
        self.cases.retain(|cause, case| {
            // That an account is gone from the configuration does not mean that its mail leaves again.
            let has_left = cause.account.as_ref().is_some_and(|account| !accounts.contains(account));
            let is_done = has_left || case.is_done(|name| names.contains(name), now);
            if is_done && case.told.is_some() {
                actions.push(Action::Learn(forgotten(cause, now)));
            }
            !is_done
        });
    }

    fn handed(
        &mut self,
        to: &ReceiverName,
        what: Vec<Handed>,
        result: &Result<(), SendError>,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        if let Some(line) = self.receivers.get_mut(to) {
            line.is_busy = false;
            match result {
                Ok(()) => *line = Line::default(),
                Err(error) => {
                    let wait = RETRIES[line.failures.min(RETRIES.len() - 1)];
                    line.failures += 1;
                    let wait = wait.max(error.retry_after.unwrap_or_default().min(LONGEST_WISH));
                    line.pause = now.checked_add(wait).ok().map(|until| (now, until));
                }
            }
        }
        if result.is_err() {
            return;
        }
        for (cause, edition) in what {
            let Some(told) = self.cases.get_mut(&cause).and_then(|case| case.told.as_mut()) else { continue };
            match edition {
                Some(edition) => drop(told.heard.insert(to.to_string(), edition)),
                None => drop(told.heard_solved.insert(to.to_string())),
            }
            actions.push(Action::Learn(told.fact(&cause, now)));
        }
    }

    /// Whatever a receiver has not heard yet goes to it in one go.
    fn send(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        for (name, line) in &mut self.receivers {
            if !line.is_free(now) {
                continue;
            }
            let news = self.cases.iter().filter_map(|(cause, case)| case.news_for(name, cause));
            let mut through = None;
            let (mut items, mut what) = (Vec::new(), Vec::new());
            for (item, handed) in news {
                if name.is_mail() {
                    let Some(carrier) = carrier(&item, &self.usable) else { continue };
                    // What another account has to carry goes next time.
                    if through.get_or_insert_with(|| carrier.clone()) != carrier {
                        continue;
                    }
                }
                items.push(item);
                what.push(handed);
            }
            if !items.is_empty() {
                line.is_busy = true;
                actions.push(Action::Send { to: *name, items, what, through });
            }
        }
    }
}

/// The account that can carry this as mail: not the one whose mail has stopped, and none if the relay itself is in trouble.
fn carrier<'a>(item: &Item, usable: &'a [Address]) -> Option<&'a Address> {
    let about = item.cause.as_ref().and_then(|cause| cause.account.as_ref());
    if item.severity == Severity::Warning || item.state == State::Solved {
        return usable.first();
    }
    about.and_then(|about| usable.iter().find(|account| *account != about))
}

fn broken(account: &Address) -> Trouble {
    Trouble {
        cause: Cause::of(Kind::Broken, account),
        severity: Severity::Critical,
        stage: 0,
        settles_after: Duration::ZERO,
        since: None,
        ends: None,
        title: "The relay has failed and ends".to_owned(),
        text: format!(
            "What keeps the sign-in of {account} has failed within the relay itself; what was accepted is safe on disk"
        ),
        waiting: None,
        error: None,
        codes: Vec::new(),
        todo: "See that it is started again (systemctl status xoauth2-relay), and report the lines of its log"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
