//! The pure core: events and the time go in, actions come out. No socket, no database, no clock of its own.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::carrier::Routes;
use super::event::{Action, Event, Outcome, Proved, Standing, Stop, Throttle};
use super::fairness::Lanes;
use super::gate::{Gate, Pass, Probed};
use super::pace::{Budgets, Limits, Pace};
use super::proof::Proof;
use super::rate::Rates;
use super::retry;
use super::window::{Load, Window};
use crate::config::Config;
use crate::message::{Address, QueueId};
use crate::store::{Flow, FlowHead, Hold, Sent, Waiting};

mod dispatch;
mod holds;

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
    /// By login: which lane was passed over.
    lanes: HashMap<Address, Lanes>,
    /// What the tenants may send to the outside.
    budgets: Budgets,
    /// What the apps may send by themselves.
    rates: Rates,
    routes: Routes,
    /// Every message that is under way.
    under_way: HashMap<QueueId, UnderWay>,
    /// Turns so far.
    turns: u64,
    retry: Vec<Duration>,
    /// When the clock was last looked at.
    last: Option<Timestamp>,
    /// When the store is asked again although nothing seems to be missing.
    look_again_at: Option<Timestamp>,
}

/// An account: a queue in which mail waits, and a carrier of mail, which may be that of other queues.
#[derive(Debug)]
pub(super) struct AccountQueue {
    login: Address,
    /// In lower case; empty if there is none.
    tenant: String,
    /// No longer configured. What is under way still ends here, and a hold is not forgotten.
    pub(super) is_removed: bool,
    window: Window,
    /// What it carries.
    under_way: usize,
    pub(super) gate: Gate,
    /// What has tried for all, if the last message did.
    tried: Option<QueueId>,
    proving: bool,
    proof: Proof,
    pause: Option<Pause>,
    read_again_at: Option<Timestamp>,
}

/// A message that somebody carries.
#[derive(Debug)]
struct UnderWay {
    /// The queue that it was taken from.
    queue: Address,
    flow: Flow,
    /// It has turned up in another queue meanwhile.
    moved: bool,
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
            tried: None,
            pause: None,
            read_again_at: None,
        }
    }

    fn removed(mailbox: &Address, now: Timestamp) -> Self {
        Self { is_removed: true, ..Self::new(mailbox, mailbox.clone(), now) }
    }

    /// Whether a message may leave through it now, as far as its hold and its pause go. After a pause, and while a hold is in doubt, one
    /// message tries for all.
    fn takes(&self, now: Timestamp) -> bool {
        let is_paused = self.pause.as_ref().is_some_and(|pause| pause.until > now);
        let may_pass = matches!(self.gate.pass(now), Pass::One | Pass::All);
        may_pass && !is_paused && !(self.is_tried_by_one(now) && self.under_way > 0)
    }

    fn is_tried_by_one(&self, now: Timestamp) -> bool {
        self.pause.is_some() || self.gate.pass(now) == Pass::One
    }
}

impl Scheduler {
    /// Begins with what an earlier run has left: the holds, and what was sent in the last day by login.
    pub fn new(config: &Config, holds: Vec<Hold>, sent: &[Sent], crashed: bool, now: Timestamp) -> Self {
        let mut scheduler = Self::default();
        scheduler.configure(config, sent, now);
        if crashed {
            scheduler.assume_unrecorded(now);
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

    /// Whose queues have mail, even if nobody has configured them any more: other accounts of its apps may carry it.
    #[must_use]
    pub fn with_queues(mut self, accounts: &[Address], now: Timestamp) -> Self {
        for account in accounts {
            self.queues.entry(account.clone()).or_insert_with(|| AccountQueue::removed(account, now));
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
            Event::Loaded { account, load, heads } => self.loaded(&account, &load, heads, now),
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
            Event::Throttled { account, throttle, said } => self.throttled(&account, throttle, &said, now),
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

    /// Where every account stands.
    pub fn standings(&mut self, now: Timestamp) -> Vec<Standing> {
        let Self { queues, paces, budgets, .. } = self;
        queues
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
                    allowance: budgets.allowance(&queue.tenant, now),
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
        self.routes = Routes::of(config);
        self.rates.configure(config);
        self.budgets.configure(config);
        for (mailbox, queue) in &mut self.queues {
            queue.is_removed = config.account(mailbox).is_none();
            queue.window.forget();
        }
        for account in &config.accounts {
            let (mailbox, login) = (&account.mailbox, &account.login);
            let queue = self.queues.entry(mailbox.clone());
            let queue = queue.or_insert_with(|| AccountQueue::new(mailbox, login.clone(), now));
            queue.tenant = account.tenant.to_ascii_lowercase();
            if queue.login != *login {
                queue.login = login.clone();
                queue.proof.soon(now);
            }
        }
        self.configure_paces(config, sent, now);
    }

    /// A pace outlives its account: what a login has sent today counts, should it come back. So does what its tenant has sent to the outside.
    fn configure_paces(&mut self, config: &Config, sent: &[Sent], now: Timestamp) {
        let mut limits: HashMap<Address, (Limits, String)> = HashMap::new();
        for account in &config.accounts {
            let (own, tenant) = (Limits::of(account), account.tenant.to_ascii_lowercase());
            let of_login = limits.entry(account.login.clone());
            of_login.and_modify(|(limits, _)| *limits = limits.and(own)).or_insert((own, tenant));
        }
        for (login, (limits, tenant)) in limits {
            match self.paces.entry(login) {
                Entry::Occupied(mut known) => known.get_mut().limit(limits),
                Entry::Vacant(new) => {
                    let of_login: Vec<Sent> = sent.iter().filter(|sent| sent.login == *new.key()).cloned().collect();
                    new.insert(Pace::new(limits)).restore(&of_login, now);
                    self.budgets.restore(&tenant, &of_login, now);
                }
            }
        }
    }

    /// What may have left just before a crash counts, for each login and for its tenant.
    fn assume_unrecorded(&mut self, now: Timestamp) {
        let Self { queues, paces, budgets, .. } = self;
        for (login, pace) in paces {
            let messages = pace.assume_unrecorded(now);
            if let Some(queue) = queues.values().find(|queue| queue.login == *login) {
                budgets.assume_unrecorded(&queue.tenant, messages, now);
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
        self.settle_pace(account, id, &outcome, now);
        let was_seen = outcome.sent().is_some();
        let probed = match self.queues.get_mut(account) {
            Some(carrier) => {
                carrier.under_way = carrier.under_way.saturating_sub(1);
                carrier.gate.answered(id, &outcome, now)
            }
            None => Probed::Nothing,
        };
        let is_known = matches!(probed, Probed::Still(_));
        self.conclude(account, id, outcome, is_known, now, actions);
        let is_proven = probed == Probed::Free && was_seen;
        self.after_probe(account, probed, "released by success: Exchange takes its mail again", now, actions);
        if is_proven {
            self.with(account, |queue| queue.gate.trust());
        }
    }

    /// What an attempt has used of the pace. The session may belong to a login that the account no longer has: whoever has it under way lets
    /// go of it.
    fn settle_pace(&mut self, account: &Address, id: QueueId, outcome: &Outcome, now: Timestamp) {
        let sent = outcome.sent();
        if let Some(carrier) = self.queues.get(account) {
            self.budgets.finish(&carrier.tenant, id, sent);
        }
        for pace in self.paces.values_mut().filter(|pace| pace.carries(id)) {
            pace.finish(id, sent.map(|sent| (sent.at, sent.recipients)));
            if let Outcome::Answered { throttled, .. } = outcome {
                match throttled {
                    Some((throttle, said)) => pace.throttled(now, *throttle, said),
                    None if sent.is_some() => pace.taken(now),
                    None => {}
                }
            }
        }
    }

    /// The message is in line again if it waits, and what came of it for its carrier. A hold that is known has been looked at by the gate.
    fn conclude(
        &mut self,
        account: &Address,
        id: QueueId,
        outcome: Outcome,
        is_known: bool,
        now: Timestamp,
        actions: &mut Vec<Action>,
    ) {
        match outcome {
            Outcome::Answered { again, .. } => {
                self.with(account, |carrier| carrier.pause = None);
                self.back(account, id, again);
            }
            Outcome::NotDue(again) => {
                self.back(account, id, Some(again));
            }
            // Should the store know better, it is asked.
            Outcome::Gone => {
                let queue = self.back(account, id, None);
                self.with(&queue, |queue| queue.window.forget());
            }
            Outcome::Unreachable { again, error, retry_at } => {
                self.back(account, id, Some(again));
                self.pause(account, error, retry_at, now);
            }
            Outcome::Held { again, hold } => {
                self.back(account, id, Some(again));
                if !is_known {
                    self.hold(hold, actions);
                }
            }
            Outcome::Stopped { again, stop, .. } => {
                self.back(account, id, again);
                match stop {
                    Stop::Pause { error, retry_at } => self.pause(account, error, retry_at, now),
                    Stop::Hold { hold, of_tenant } if !is_known => self.stop(&hold, of_tenant, actions),
                    Stop::Hold { .. } => {}
                }
            }
        }
    }

    fn pause(&mut self, account: &Address, error: String, retry_at: Option<Timestamp>, now: Timestamp) {
        let Some(carrier) = self.queues.get_mut(account) else { return };
        carrier.pause = Some(longer_pause(carrier.pause.take(), &self.retry, error, retry_at, now));
    }

    fn throttled(&mut self, account: &Address, throttle: Throttle, said: &str, now: Timestamp) {
        let login = self.queues.get(account).map(|queue| &queue.login);
        if let Some(pace) = login.and_then(|login| self.paces.get_mut(login)) {
            pace.throttled(now, throttle, said);
        }
    }

    /// A message is no longer under way; if it waits again, it is in line again: in the flow that it now belongs to, or where it was if whoever
    /// tried it could not tell. The queue that it was taken from.
    fn back(&mut self, carrier: &Address, id: QueueId, again: Option<Waiting>) -> Address {
        let Some(UnderWay { queue: address, flow, moved }) = self.under_way.remove(&id) else { return carrier.clone() };
        self.with(&address, |queue| {
            queue.window.ended(id);
            if let Some(mut again) = again {
                if !again.flow.is_known() {
                    again.flow = flow;
                }
                queue.window.insert(&again);
            }
        });
        if moved {
            self.forget_windows();
        }
        address
    }

    fn loaded(&mut self, account: &Address, load: &Load, heads: Option<Vec<FlowHead>>, now: Timestamp) {
        let Some(queue) = self.queues.get_mut(account) else { return };
        let Some(mut heads) = heads else {
            queue.window.load_failed(load);
            queue.read_again_at = Some(now + READ_AGAIN);
            return;
        };
        // Moved here while it is tried for the queue that it was in: it waits for the end of that.
        for messages in heads.iter_mut().map(|head| &mut head.messages) {
            messages.retain(|waiting| match self.under_way.get_mut(&waiting.id) {
                Some(elsewhere) if elsewhere.queue != *account => {
                    elsewhere.moved = true;
                    false
                }
                _ => true,
            });
        }
        queue.window.loaded(load, &heads);
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
            Proved::Held(hold, of_tenant) => self.stop(&hold, of_tenant, actions),
        }
    }

    /// The session of a probe has ended, whatever login it belonged to.
    fn leave(&mut self, account: &Address) {
        self.paces.values_mut().for_each(|pace| pace.leave(account));
    }

    /// Whether the account is one that has to prove its login, and has the time to: nothing of its login waits or is under way.
    fn may_prove(&self, queue: &AccountQueue, now: Timestamp) -> bool {
        let is_idle = || self.paces.get(&queue.login).is_some_and(Pace::is_idle);
        let is_asked = !queue.is_removed && queue.gate.is_open() && !queue.proving;
        is_asked && is_idle() && !self.has_work(&queue.login, now)
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
mod simulation;
#[cfg(test)]
mod tests;
