//! Who goes now: one message after the other, until no login has a turn to give. The cost of a turn grows with the flows that have mail,
//! never with the mail.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::holds::is_probed_for;
use super::{AccountQueue, Scheduler, UnderWay};
use crate::message::{Address, Lane};
use crate::schedule::carrier::Routes;
use crate::schedule::event::Action;
use crate::schedule::fairness::{self, Due};
use crate::schedule::gate::{Opening, Pass};
use crate::schedule::pace::{Budgets, Pace, Turn, later};
use crate::schedule::rate::Rates;
use crate::schedule::window::First;
use crate::store::{Flow, Waiting};

/// A message that could go.
struct Ready<'a> {
    queue: &'a Address,
    carrier: &'a Address,
    first: First<'a>,
    /// It was the last one that tried for all of that carrier's.
    has_tried: bool,
}

/// The message that goes.
struct Pick {
    queue: Address,
    carrier: Address,
    flow: Flow,
    recipients: u32,
}

impl Scheduler {
    /// When something will be due that no event announces.
    pub fn next_wake(&mut self, now: Timestamp) -> Option<Timestamp> {
        let mut earliest = self.next_proof(now);
        let mut consider = |when: Timestamp| earliest = Some(earliest.map_or(when, |e| e.min(when)));
        for (address, queue) in &self.queues {
            if !queue.is_removed || self.routes.share() {
                queue.read_again_at.into_iter().for_each(&mut consider);
            }
            if let Opening::Login(when) = queue.gate.opening()
                && !queue.is_removed
                && !is_probed_for(&self.queues, queue)
            {
                consider(when);
            }
            for first in queue.window.firsts() {
                let rate = self.rates.not_before(&first.flow.app, now);
                for (_, carrier) in self.routes.carriers(&self.queues, address, first.flow) {
                    let opens = match carrier.gate.opening() {
                        Opening::Message(when) => Some(when),
                        _ => None,
                    };
                    let pause = carrier.pause.as_ref().map(|pause| pause.until);
                    let due = [pause, rate, opens].into_iter().flatten().fold(first.due_at, Timestamp::max);
                    // Whoever tries for the others will have an answer, and that is an event.
                    if opens.is_some() && is_probed_for(&self.queues, carrier) {
                        continue;
                    }
                    if due > now {
                        consider(due);
                        continue;
                    }
                    if !carrier.takes(now) {
                        continue;
                    }
                    let Some(pace) = self.paces.get_mut(&carrier.login) else { continue };
                    let by_pace = pace.turn(now, first.recipients.max(1), first.flow.lane);
                    let by_budget = self.budgets.turn(&carrier.tenant, first.flow, first.recipients, now);
                    match later(by_pace, by_budget) {
                        Turn::At(when) => consider(when),
                        // It has become due since the last event.
                        Turn::Now => consider(now),
                        Turn::Busy => {}
                    }
                }
            }
        }
        earliest
    }

    /// Whether mail waits that this login could carry, but for its pace and pauses.
    pub(super) fn has_work(&self, login: &Address, now: Timestamp) -> bool {
        let is_carried = |queue: &Address, flow: &Flow| {
            let mut carriers = self.routes.carriers(&self.queues, queue, flow);
            carriers.any(|(_, carrier)| carrier.login == *login && carrier.gate.is_open())
        };
        self.queues.iter().any(|(address, queue)| {
            queue.window.firsts().any(|first| first.due_at <= now && is_carried(address, first.flow))
        })
    }

    pub(super) fn dispatch(&mut self, now: Timestamp, actions: &mut Vec<Action>) {
        let accounts: Vec<Address> = self.queues.keys().cloned().collect();
        for account in &accounts {
            self.refill(account, now, actions);
            self.probe(account, now, actions);
        }
        // In turn, so that accounts which share an app share it evenly.
        let mut logins = self.logins(now);
        while !logins.is_empty() {
            logins.retain(|login| {
                let Some(pick) = self.pick(login, now) else { return false };
                self.start(login, pick, now, actions);
                true
            });
        }
        // Behind all mail: a proof is never what a message waits for.
        let due = self.queues.iter().filter(|(_, queue)| queue.proof.due_at() <= now && self.may_prove(queue, now));
        for account in due.map(|(account, _)| account.clone()).collect::<Vec<_>>() {
            self.prove(&account, now, actions);
        }
    }

    /// The logins of all accounts. Those that have done least in the last minute come first, where it matters.
    fn logins(&mut self, now: Timestamp) -> Vec<Address> {
        let mut logins: Vec<Address> = Vec::new();
        for queue in self.queues.values().filter(|queue| !queue.is_removed) {
            if !logins.contains(&queue.login) {
                logins.push(queue.login.clone());
            }
        }
        if self.routes.share() {
            logins.sort_by_cached_key(|login| self.paces.get_mut(login).map_or(0, |pace| pace.last_minute(now)));
        }
        logins
    }

    fn refill(&mut self, account: &Address, now: Timestamp, actions: &mut Vec<Action>) {
        let is_carried = self.routes.share();
        let Some(queue) = self.queues.get_mut(account).filter(|queue| !queue.is_removed || is_carried) else { return };
        if queue.read_again_at.is_some_and(|when| when > now) {
            return;
        }
        queue.read_again_at = None;
        if let Some(load) = queue.window.load() {
            actions.push(Action::Load(account.clone(), load));
        }
    }

    fn probe(&mut self, account: &Address, now: Timestamp, actions: &mut Vec<Action>) {
        let is_due = |queue: &&AccountQueue| !queue.is_removed && queue.gate.pass(now) == Pass::Login;
        if self.queues.get(account).filter(is_due).is_none_or(|queue| is_probed_for(&self.queues, queue)) {
            return;
        }
        let Some(queue) = self.queues.get_mut(account) else { return };
        queue.gate.begin_probe();
        let login = queue.login.clone();
        self.visit(account, &login);
        actions.push(Action::Probe(account.clone()));
    }

    /// Whose turn it is at this login; `None`: nobody's.
    fn pick(&mut self, login: &Address, now: Timestamp) -> Option<Pick> {
        let Self { queues, routes, rates, paces, budgets, .. } = self;
        let mut ready = ready(queues, routes, (rates, budgets), (login, paces.get_mut(login)?), now);
        others_first(&mut ready);
        let mut due: Due = [None; 3];
        for Ready { first, .. } in &ready {
            let since = &mut due[first.flow.lane as usize];
            *since = Some(since.map_or(first.due_at, |since| since.min(first.due_at)));
        }
        let lane = self.lanes.get(login).copied().unwrap_or_default().next(&due, now)?;
        let in_lane: Vec<&Ready<'_>> = ready.iter().filter(|ready| ready.first.flow.lane == lane).collect();
        let bids = in_lane.iter().map(|ready| (ready.first.share, ready.first.recipients));
        let (winner, rounds) = fairness::next(bids)?;
        let Ready { queue, carrier, first, .. } = in_lane[winner];
        let (queue, carrier) = ((*queue).clone(), (*carrier).clone());
        let pick = Pick { queue, carrier, flow: first.flow.clone(), recipients: first.recipients };
        if rounds > 0 {
            let all = in_lane.iter().map(|ready| (ready.queue.clone(), ready.first.flow.clone()));
            for (queue, flow) in all.collect::<Vec<_>>() {
                self.with(&queue, |queue| queue.window.share(&flow).earn(rounds));
            }
        }
        self.lanes.entry(login.clone()).or_default().served(lane, &due);
        Some(pick)
    }

    fn start(&mut self, login: &Address, pick: Pick, now: Timestamp, actions: &mut Vec<Action>) {
        let Pick { queue: address, carrier, flow, recipients } = pick;
        self.turns += 1;
        let turn = self.turns;
        let Some(queue) = self.queues.get_mut(&address) else { return };
        queue.window.share(&flow).pay(recipients, turn);
        let Some(Waiting { id, .. }) = queue.window.take_first(&flow) else { return };
        // Moved, and known in both queues for a moment: the other one was quicker. Its end has both read anew.
        if let Some(elsewhere) = self.under_way.get_mut(&id) {
            elsewhere.moved = true;
            queue.window.ended(id);
            return;
        }
        if let Some(pace) = self.paces.get_mut(login) {
            pace.start(now, id, recipients, flow.lane);
        }
        self.rates.charge(&flow.app, now);
        if let Some(carrier) = self.queues.get_mut(&carrier) {
            carrier.tried = carrier.is_tried_by_one(now).then_some(id);
            carrier.under_way += 1;
            carrier.gate.passes(id);
            self.budgets.start(&carrier.tenant, id, &flow, recipients);
        }
        self.under_way.insert(id, UnderWay { queue: address, flow, moved: false });
        actions.push(Action::Attempt(carrier, id));
    }
}

/// Who has tried for all in vain is behind the others of its carrier: it may be what the far side cannot bear, and alone in its lane or flow it
/// would be the first each time. Other accounts of the login do not wait for that carrier, and it does not wait for them.
fn others_first(ready: &mut Vec<Ready<'_>>) {
    let tried: Vec<&Address> = ready.iter().filter(|ready| ready.has_tried).map(|ready| ready.carrier).collect();
    for carrier in tried {
        if ready.iter().any(|ready| ready.carrier == carrier && !ready.has_tried) {
            ready.retain(|ready| ready.carrier != carrier || !ready.has_tried);
        }
    }
}

/// Of each line what is first, if this login could carry it now.
fn ready<'a>(
    queues: &'a BTreeMap<Address, AccountQueue>,
    routes: &'a Routes,
    (rates, budgets): (&Rates, &mut Budgets),
    (login, pace): (&Address, &mut Pace),
    now: Timestamp,
) -> Vec<Ready<'a>> {
    let mut ready: Vec<Ready<'_>> = Vec::new();
    let has_turn = Lane::ALL.map(|lane| pace.turn(now, 1, lane) == Turn::Now);
    if !has_turn.contains(&true) {
        return ready;
    }
    let is_ours =
        |carrier: &AccountQueue| carrier.login == *login && carrier.takes(now) && !is_probed_for(queues, carrier);
    for (queue, head) in
        queues.iter().flat_map(|(address, queue)| queue.window.firsts().map(move |first| (address, first)))
    {
        let is_due = head.due_at <= now && has_turn[head.flow.lane as usize];
        if !is_due || rates.not_before(&head.flow.app, now).is_some() {
            continue;
        }
        let mut carriers = routes.carriers(queues, queue, head.flow);
        let mut has_budget =
            |carrier: &AccountQueue| budgets.turn(&carrier.tenant, head.flow, head.recipients, now) == Turn::Now;
        let found = carriers.find(|(_, carrier)| is_ours(carrier) && has_budget(carrier));
        let Some((address, carrier)) = found else { continue };
        // What is too large for the rest of the day does not keep the others from using it.
        if head.recipients <= 1 || pace.turn(now, head.recipients, head.flow.lane) == Turn::Now {
            let has_tried = carrier.tried == Some(head.id);
            stand_in_line(&mut ready, Ready { queue, carrier: address, first: head, has_tried });
        }
    }
    ready
}

/// An app's two flows of a lane have one place in it, and of both what is due first takes that: a budget does not give the app another share.
/// They come one behind the other.
fn stand_in_line<'a>(ready: &mut Vec<Ready<'a>>, next: Ready<'a>) {
    let place = |ready: &Ready<'_>| (ready.has_tried, ready.first.due_at, ready.first.id);
    match ready.last_mut() {
        Some(last) if last.queue == next.queue && last.first.flow.is_in_line_with(next.first.flow) => {
            if place(&next) < place(last) {
                *last = next;
            }
        }
        _ => ready.push(next),
    }
}
