//! The pure core: events and the time go in, actions come out. No socket, no database, no clock of its own.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::event::{Action, Event, Outcome, Proved, Standing, Stop};
use super::gate::{Gate, Opening, Pass, Probed, Raised};
use super::pace::{Limits, Pace, Turn};
use super::proof::Proof;
use super::retry;
use super::window::Window;
use crate::config::Config;
use crate::message::{Address, Lane, QueueId};
use crate::store::{Hold, Sent};

/// However long the configured waits are: an upstream that cannot be reached is tried this often, by one message.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// How often the store is asked although nothing seems to be missing: whatever was overlooked waits no longer than this.
const LOOK_AGAIN: Duration = Duration::from_mins(10);
/// A step back of the clock that is more than its being set right.
const CLOCK_STEP: Duration = Duration::from_mins(1);
/// When the store could not be read.
const READ_AGAIN: Duration = Duration::from_secs(5);

/// Decides which message leaves when.
#[derive(Debug, Default)]
pub struct Scheduler {
    queues: BTreeMap<Address, AccountQueue>,
    /// By login: accounts that share one share its pace.
    paces: HashMap<Address, Pace>,
    retry: Vec<Duration>,
    /// When the clock was last looked at.
    last: Option<Timestamp>,
    /// When the store is asked again although nothing seems to be missing.
    look_again_at: Option<Timestamp>,
    /// Which account is looked at first next time, so that accounts sharing a login take turns.
    first: usize,
}

#[derive(Debug)]
struct AccountQueue {
    login: Address,
    /// In lower case; empty if there is none.
    tenant: String,
    /// No longer configured. What is under way still ends here, and a hold is not forgotten.
    is_removed: bool,
    window: Window,
    under_way: usize,
    gate: Gate,
    proving: bool,
    proof: Proof,
    pause: Option<Pause>,
    read_again_at: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct Pause {
    until: Timestamp,
    failures: u32,
    error: String,
}

impl AccountQueue {
    fn new(mailbox: &Address, login: Address, now: Timestamp) -> Self {
        Self {
            login,
            tenant: String::new(),
            proving: false,
            proof: Proof::new(mailbox, None, now),
            is_removed: false,
            window: Window::default(),
            under_way: 0,
            gate: Gate::default(),
            pause: None,
            read_again_at: None,
        }
    }

    fn removed(mailbox: &Address, now: Timestamp) -> Self {
        Self { is_removed: true, ..Self::new(mailbox, mailbox.clone(), now) }
    }

    /// Whether mail waits for nothing but its turn.
    fn has_work(&self, now: Timestamp) -> bool {
        self.gate.is_open() && self.window.first().is_some_and(|first| first.due_at <= now)
    }

    fn ended(&mut self, id: QueueId) {
        self.under_way = self.under_way.saturating_sub(1);
        self.window.ended(id);
    }
}

impl Scheduler {
    /// Begins with what an earlier run has left: the holds, and what was sent in the last day by login.
    pub fn new(config: &Config, holds: Vec<Hold>, sent: &[Sent], crashed: bool, now: Timestamp) -> Self {
        let mut scheduler = Self::default();
        scheduler.configure(config, sent, now);
        if crashed {
            scheduler.paces.values_mut().for_each(|pace| pace.assume_unrecorded(now));
        }
        for hold in holds {
            // The account may come back, and then it is still held.
            let queue = scheduler
                .queues
                .entry(hold.account.clone())
                .or_insert_with(|| AccountQueue::removed(&hold.account, now));
            queue.gate.restore(hold);
        }
        scheduler
    }

    /// When Exchange last took the logins, from an earlier run: no account has to prove anew what it has proven today.
    #[must_use]
    pub fn with_logins(mut self, taken: &[(Address, Timestamp)], now: Timestamp) -> Self {
        for (account, at) in taken {
            self.with(account, |queue| queue.proof = Proof::new(account, Some(*at), now));
        }
        self
    }

    /// Takes in what happened, and says what is to be done.
    pub fn on(&mut self, event: Event, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        self.mind_the_clock(now, &mut actions);
        match event {
            Event::Accepted { account, waiting } => self.with(&account, |queue| queue.window.insert(&waiting)),
            Event::Overflowed => self.forget_windows(),
            Event::Loaded { account, load, messages } => self.with(&account, |queue| {
                if let Some(messages) = messages {
                    queue.window.loaded(load, &messages);
                } else {
                    queue.window.load_failed(load);
                    queue.read_again_at = Some(now + READ_AGAIN);
                }
            }),
            Event::Finished { account, id, outcome } => self.finished(&account, id, outcome, now, &mut actions),
            Event::Held(hold) => self.hold(hold, &mut actions),
            Event::Released { account, why } => {
                for account in self.held_with(&account).iter().chain([&account]) {
                    self.release(account, why.clone(), now, &mut actions);
                }
            }
            Event::SignInGood { account } => self.sign_in_good(&account, now, &mut actions),
            Event::SignedIn { account } => self.signed_in(&account, now, &mut actions),
            Event::Probed { account, result } => self.probed(&account, result, now, &mut actions),
            Event::LoginTaken { account, at } => self.with(&account, |queue| queue.proof.taken(at)),
            Event::Proved { account, result } => self.proved(&account, result, now, &mut actions),
            Event::Changed { account } => self.with(&account, |queue| queue.window.forget()),
            Event::Configured { config, sent } => self.configure(&config, &sent, now),
            Event::Woken if self.look_again_at.is_none_or(|when| when <= now) => {
                self.look_again_at = Some(now + LOOK_AGAIN);
                self.forget_windows();
            }
            Event::Woken => {}
        }
        self.dispatch(now, &mut actions);
        actions
    }

    /// When something will be due that no event announces.
    pub fn next_wake(&mut self, now: Timestamp) -> Option<Timestamp> {
        let mut earliest = self.next_proof(now);
        let mut consider = |when: Timestamp| earliest = Some(earliest.map_or(when, |e| e.min(when)));
        for queue in self.queues.values().filter(|queue| !queue.is_removed) {
            if let Some(when) = queue.read_again_at {
                consider(when);
            }
            let opens = match queue.gate.opening() {
                // An event will tell.
                Opening::Login(_) | Opening::Message(_) if self.is_probed_for(queue) => continue,
                Opening::Unknown => continue,
                Opening::Login(when) => {
                    consider(when);
                    continue;
                }
                Opening::Message(when) => when,
                Opening::Open => Timestamp::MIN,
            };
            let Some(first) = queue.window.first() else { continue };
            let due = first.due_at.max(queue.pause.as_ref().map_or(opens, |pause| pause.until.max(opens)));
            if due > now {
                consider(due);
                continue;
            }
            // Whoever tries for the others will have an answer, and that is an event.
            if (queue.pause.is_some() || queue.gate.pass(now) == Pass::One) && queue.under_way > 0 {
                continue;
            }
            match self.paces.get_mut(&queue.login).map(|pace| pace.turn(now, first.recipients, Lane::Normal)) {
                Some(Turn::At(when)) => consider(when),
                // It has become due since the last event.
                Some(Turn::Now) => consider(now),
                Some(Turn::Busy) | None => {}
            }
        }
        earliest
    }

    /// Where every account stands.
    pub fn standings(&mut self, now: Timestamp) -> Vec<Standing> {
        let paces = &mut self.paces;
        self.queues
            .iter()
            .filter(|(_, queue)| !queue.is_removed)
            .map(|(account, queue)| {
                let mut pace = paces.get_mut(&queue.login);
                Standing {
                    account: account.clone(),
                    hold: queue.gate.hold().cloned(),
                    pause: queue.pause.as_ref().map(|pause| (pause.until, pause.error.clone())),
                    under_way: queue.under_way,
                    last_minute: pace.as_mut().map_or(0, |pace| pace.last_minute(now)),
                    last_day: pace.as_mut().map_or(0, |pace| pace.last_day(now)),
                    slowdowns: pace.as_mut().map(|pace| pace.slowdowns(now)).unwrap_or_default(),
                    outlook: pace.map(|pace| pace.outlook(now)),
                    prove_at: queue.proof.due_at(),
                    unproven: queue.proof.trouble().map(str::to_owned),
                }
            })
            .collect()
    }

    /// Attempts under way, of all accounts.
    pub fn under_way(&self) -> usize {
        self.queues.values().map(|queue| queue.under_way).sum()
    }

    fn with(&mut self, account: &Address, change: impl FnOnce(&mut AccountQueue)) {
        if let Some(queue) = self.queues.get_mut(account) {
            change(queue);
        }
    }

    /// Accounts that are gone take nothing with them: their mail waits in the store until they are back or it is moved.
    fn configure(&mut self, config: &Config, sent: &[Sent], now: Timestamp) {
        self.retry.clone_from(&config.queue.retry);
        for (mailbox, queue) in &mut self.queues {
            queue.is_removed = config.account(mailbox).is_none();
            queue.window.forget();
        }
        let mut limits: HashMap<Address, Limits> = HashMap::new();
        for account in &config.accounts {
            let own = Limits::of(account);
            limits.entry(account.login.clone()).and_modify(|limits| *limits = limits.and(own)).or_insert(own);
            let (mailbox, login) = (&account.mailbox, &account.login);
            let queue = self.queues.entry(mailbox.clone());
            let queue = queue.or_insert_with(|| AccountQueue::new(mailbox, login.clone(), now));
            queue.tenant = account.tenant.to_ascii_lowercase();
            if queue.login != *login {
                queue.login = login.clone();
                queue.proof.soon(now);
            }
        }
        // A pace outlives its account: what a login has sent today counts, should it come back.
        for (login, limits) in limits {
            match self.paces.entry(login) {
                Entry::Occupied(mut known) => known.get_mut().limit(limits),
                Entry::Vacant(new) => {
                    let of_login: Vec<Sent> = sent.iter().filter(|sent| sent.login == *new.key()).cloned().collect();
                    new.insert(Pace::new(limits)).restore(&of_login, now);
                }
            }
        }
    }

    fn finished(
        &mut self,
        account: &Address,
        id: QueueId,
        outcome: Outcome,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        let sent = match &outcome {
            Outcome::Answered { sent, .. } | Outcome::Stopped { sent, .. } => *sent,
            _ => None,
        };
        // The session may belong to a login that the account no longer has: whoever has it under way lets go of it.
        for pace in self.paces.values_mut().filter(|pace| pace.carries(id)) {
            pace.finish(id, sent);
            if let Outcome::Answered { throttled, .. } = &outcome {
                match throttled {
                    Some((throttle, said)) => pace.throttled(now, *throttle, said),
                    None if sent.is_some() => pace.taken(now),
                    None => {}
                }
            }
        }
        let steps = self.retry.clone();
        let Some(queue) = self.queues.get_mut(account) else { return };
        queue.ended(id);
        let probed = queue.gate.answered(id, &outcome, now);
        let is_known = matches!(probed, Probed::Still(_));
        match outcome {
            Outcome::Answered { again, .. } => {
                queue.pause = None;
                if let Some(again) = again {
                    queue.window.insert(&again);
                }
            }
            Outcome::NotDue(again) => queue.window.insert(&again),
            // Should the store know better, it is asked.
            Outcome::Gone => queue.window.forget(),
            Outcome::Unreachable { again, error, retry_at } => {
                queue.window.insert(&again);
                queue.pause = Some(longer_pause(queue.pause.take(), &steps, error, retry_at, now));
            }
            Outcome::Held { again, hold } => {
                queue.window.insert(&again);
                if !is_known {
                    self.hold(hold, actions);
                }
            }
            Outcome::Stopped { again, stop, .. } => {
                if let Some(again) = again {
                    queue.window.insert(&again);
                }
                match stop {
                    Stop::Pause { error } => {
                        queue.pause = Some(longer_pause(queue.pause.take(), &steps, error, None, now));
                    }
                    Stop::Hold { hold, of_tenant } if !is_known => self.stop(&hold, of_tenant, actions),
                    Stop::Hold { .. } => {}
                }
            }
        }
        let is_proven = probed == Probed::Free && sent.is_some();
        self.after_probe(account, probed, "released by success: Exchange takes its mail again", now, actions);
        if is_proven {
            self.with(account, |queue| queue.gate.trust());
        }
    }

    fn forget_windows(&mut self) {
        self.queues.values_mut().for_each(|queue| queue.window.forget());
    }

    /// A clock that goes back far takes what was planned with it: nothing waits for a time that was only ever a mistake.
    fn mind_the_clock(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(last) = self.last.replace(now).filter(|&last| now + CLOCK_STEP < last) else { return };
        let step = last.duration_since(now);
        tracing::warn!(seconds = step.as_secs(), "the clock has gone back; what was planned is planned anew");
        let earlier = |when: &mut Timestamp| *when = when.checked_sub(step).unwrap_or(now);
        self.look_again_at = None;
        for (account, queue) in &mut self.queues {
            queue.pause.iter_mut().for_each(|pause| earlier(&mut pause.until));
            queue.read_again_at.iter_mut().for_each(earlier);
            queue.proof.earlier(step, now);
            queue.gate.earlier(step, now);
            if !queue.is_removed {
                actions.push(Action::Wake(account.clone(), now));
            }
        }
    }

    fn hold(&mut self, hold: Hold, actions: &mut Vec<Action>) {
        // Whoever keeps the sign-in of a new account may be quicker than the word of the new configuration.
        let queue = self.queues.entry(hold.account.clone());
        let queue = queue.or_insert_with(|| AccountQueue::removed(&hold.account, hold.since));
        if let Some(Raised { hold, is_news }) = queue.gate.raise(hold) {
            actions.push(Action::Hold { hold, is_news });
        }
    }

    /// Holds the account, and with it those of its tenant that nothing holds yet.
    fn stop(&mut self, hold: &Hold, of_tenant: bool, actions: &mut Vec<Action>) {
        let tenant = self.queues.get(&hold.account).map(|queue| queue.tenant.clone()).unwrap_or_default();
        let is_meant = |queue: &AccountQueue| {
            of_tenant && !tenant.is_empty() && !queue.is_removed && queue.tenant == tenant && queue.gate.is_open()
        };
        let others = self.queues.iter().filter(|(account, queue)| **account != hold.account && is_meant(queue));
        let others: Vec<Address> = others.map(|(account, _)| account.clone()).collect();
        self.hold(hold.clone(), actions);
        for account in others {
            self.hold(Hold { account, ..hold.clone() }, actions);
        }
    }

    /// The other accounts of the tenant that the same hold has stopped.
    fn held_with(&self, account: &Address) -> Vec<Address> {
        let Some(queue) = self.queues.get(account) else { return Vec::new() };
        let others = self.queues.iter().filter(|(other, _)| *other != account);
        others.filter(|(_, other)| are_held_together(queue, other)).map(|(other, _)| other.clone()).collect()
    }

    /// Whether another account of the tenant tries for this one.
    fn is_probed_for(&self, queue: &AccountQueue) -> bool {
        self.queues.values().any(|other| other.gate.is_probing() && are_held_together(queue, other))
    }

    /// What follows from a probe, for the account and for those held with it.
    fn after_probe(&mut self, account: &Address, probed: Probed, why: &str, now: Timestamp, actions: &mut Vec<Action>) {
        let others = self.held_with(account);
        match probed {
            Probed::Nothing => {}
            Probed::Free => {
                for account in std::iter::once(account).chain(&others) {
                    self.release(account, why.to_owned(), now, actions);
                }
            }
            Probed::Still(hold) => {
                let gates = others.iter().filter_map(|other| self.queues.get_mut(other)?.gate.follow(&hold));
                let followed: Vec<Hold> = gates.collect();
                actions.extend(std::iter::once(hold).chain(followed).map(|hold| Action::Hold { hold, is_news: false }));
            }
        }
    }

    fn release(&mut self, account: &Address, why: String, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(queue) = self.queues.get_mut(account) else { return };
        queue.pause = None;
        if queue.gate.release() {
            // Whoever freed it may be wrong.
            queue.proof.soon(now);
            actions.push(Action::Release { account: account.clone(), at: now, why });
        }
    }

    fn sign_in_good(&mut self, account: &Address, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(queue) = self.queues.get_mut(account) else { return };
        if queue.gate.is_open() {
            // What failed for want of a token need not wait any longer.
            queue.pause = None;
        } else if queue.gate.is_freed_by_sign_in() {
            self.release(account, "the sign-in works".to_owned(), now, actions);
        }
    }

    fn signed_in(&mut self, account: &Address, now: Timestamp, actions: &mut Vec<Action>) {
        if self.queues.get(account).is_some_and(|queue| !queue.gate.is_manual()) {
            self.release(account, "somebody signed in".to_owned(), now, actions);
            self.with(account, |queue| queue.proof.soon(now));
        }
    }

    fn proved(&mut self, account: &Address, result: Proved, now: Timestamp, actions: &mut Vec<Action>) {
        self.leave(account);
        let Some(queue) = self.queues.get_mut(account) else { return };
        queue.proving = false;
        match result {
            Proved::Taken(at) => queue.proof.taken(at),
            Proved::Failed(error) => {
                tracing::info!(%account, %error, "the daily login could not be made; it is tried again");
                queue.proof.failed(error, now);
            }
            Proved::Held(hold) => self.hold(hold, actions),
        }
    }

    /// The session of a probe has ended, whatever login it belonged to.
    fn leave(&mut self, account: &Address) {
        self.paces.values_mut().for_each(|pace| pace.leave(account));
    }

    fn probed(&mut self, account: &Address, result: Result<(), String>, now: Timestamp, actions: &mut Vec<Action>) {
        self.leave(account);
        let Some(queue) = self.queues.get_mut(account) else { return };
        let probed = queue.gate.probed(result, now);
        let is_free = probed == Probed::Free;
        self.after_probe(account, probed, "the login was accepted again", now, actions);
        if is_free {
            self.with(account, |queue| queue.proof.taken(now));
        }
    }

    fn dispatch(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let accounts = self.queues.iter().filter(|(_, queue)| !queue.is_removed);
        let accounts: Vec<Address> = accounts.map(|(account, _)| account.clone()).collect();
        self.first = self.first.wrapping_add(1);
        for n in 0..accounts.len() {
            let account = &accounts[(self.first + n) % accounts.len()];
            self.refill(account, now, actions);
            self.send(account, now, actions);
        }
        // Behind all mail: a proof is never what a message waits for.
        let due = self.queues.iter().filter(|(_, queue)| queue.proof.due_at() <= now && self.may_prove(queue, now));
        for account in due.map(|(account, _)| account.clone()).collect::<Vec<_>>() {
            self.prove(&account, now, actions);
        }
    }

    /// Whether the account is one that has to prove its login, and has the time to: nothing of its login waits or is under way.
    fn may_prove(&self, queue: &AccountQueue, now: Timestamp) -> bool {
        let is_idle = || self.paces.get(&queue.login).is_some_and(Pace::is_idle);
        let has_work = |other: &AccountQueue| !other.is_removed && other.login == queue.login && other.has_work(now);
        let is_asked = !queue.is_removed && queue.gate.is_open() && !queue.proving;
        is_asked && is_idle() && !self.queues.values().any(has_work)
    }

    fn next_proof(&self, now: Timestamp) -> Option<Timestamp> {
        let asked = self.queues.values().filter(|queue| !queue.is_removed && queue.gate.is_open() && !queue.proving);
        // One that is due waits for its login to be idle, and what ends that is an event or a wake of its own.
        let timely = asked.filter(|queue| queue.proof.due_at() > now || self.may_prove(queue, now));
        timely.map(|queue| queue.proof.due_at().max(now)).min()
    }

    fn prove(&mut self, account: &Address, now: Timestamp, actions: &mut Vec<Action>) {
        // Another account of the same login may have begun just now.
        let Some(queue) = self.queues.get(account).filter(|queue| self.may_prove(queue, now)) else { return };
        let login = queue.login.clone();
        self.visit(account, &login);
        self.with(account, |queue| queue.proving = true);
        actions.push(Action::Prove(account.clone()));
    }

    fn visit(&mut self, account: &Address, login: &Address) {
        if let Some(pace) = self.paces.get_mut(login) {
            pace.visit(account);
        }
    }

    fn refill(&mut self, account: &Address, now: Timestamp, actions: &mut Vec<Action>) {
        let Some(queue) = self.queues.get_mut(account) else { return };
        if queue.read_again_at.is_some_and(|when| when > now) {
            return;
        }
        queue.read_again_at = None;
        if let Some(load) = queue.window.load() {
            actions.push(Action::Load(account.clone(), load));
        }
    }

    fn send(&mut self, account: &Address, now: Timestamp, actions: &mut Vec<Action>) {
        if self.queues.get(account).is_none_or(|queue| !queue.gate.is_open() && self.is_probed_for(queue)) {
            return;
        }
        let Some(queue) = self.queues.get_mut(account) else { return };
        match queue.gate.pass(now) {
            Pass::Shut => return,
            Pass::Login => {
                queue.gate.begin_probe();
                let login = queue.login.clone();
                self.visit(account, &login);
                actions.push(Action::Probe(account.clone()));
                return;
            }
            Pass::One | Pass::All => {}
        }
        let Some(pace) = self.paces.get_mut(&queue.login) else { return };
        while let Some(first) = queue.window.first() {
            let is_alone = queue.pause.is_some() || queue.gate.pass(now) != Pass::All;
            let is_paused = queue.pause.as_ref().is_some_and(|pause| pause.until > now);
            if is_paused
                || (is_alone && queue.under_way > 0)
                || first.due_at > now
                || pace.turn(now, first.recipients, Lane::Normal) != Turn::Now
            {
                return;
            }
            queue.window.take_first();
            queue.under_way += 1;
            queue.gate.passes(first.id);
            pace.start(now, first.id, first.recipients, Lane::Normal);
            actions.push(Action::Attempt(account.clone(), first.id));
        }
    }
}

/// Whether one hold of their tenant has stopped both.
fn are_held_together(one: &AccountQueue, other: &AccountQueue) -> bool {
    !one.tenant.is_empty() && one.tenant == other.tenant && !other.is_removed && one.gate.shares(&other.gate)
}

/// Each failure in a row makes the pause longer, by the configured steps; while it lasts nothing is tried, and then one message.
fn longer_pause(
    current: Option<Pause>,
    steps: &[Duration],
    error: String,
    retry_at: Option<Timestamp>,
    now: Timestamp,
) -> Pause {
    match current {
        // Attempts that were under way together fail together: that is one failure.
        Some(pause) if pause.until > now => Pause { error, ..pause },
        current => {
            let failures = current.map_or(0, |pause| pause.failures) + 1;
            let until = now + retry::delay(steps, failures, 0.0).min(LONGEST_PAUSE);
            Pause { until: retry_at.filter(|&at| at > now).unwrap_or(until), failures, error }
        }
    }
}

#[cfg(test)]
mod hold_tests;
#[cfg(test)]
mod tests;
