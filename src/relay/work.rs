//! What goes on behind the door, whether mail comes or not.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::stage::Stage;
use super::upkeep::keep_house;
use crate::clock::Clock;
use crate::ops::Ops;
use crate::outbound::{Moods, Parts, Pool, Sender};
use crate::schedule::{self, Desk, Event, Inbox, Letters, Scheduler};
use crate::signin::SignInEvent;
use crate::store::Hold;
use crate::{alert, report};

/// What the work begins with.
pub(super) struct Begin {
    /// What is known of the queue.
    pub(super) scheduler: Scheduler,
    /// What the scheduler is told from here on.
    pub(super) letters: Letters,
    /// What the sign-ins tell.
    pub(super) sign_in_events: mpsc::UnboundedReceiver<SignInEvent>,
}

/// Starts all of it.
pub(super) fn start(work: &Stage, ops: &Ops, pool: &Pool, begin: Begin) {
    let Begin { scheduler, letters, sign_in_events } = begin;
    let desk = desk(ops, pool);
    work.run("the scheduler", |stop| schedule::run(desk, scheduler, letters, stop));
    let (bell, ears) = alert::bell();
    let (inbox, clock) = (ops.schedule.clone(), ops.clock.clone());
    work.run("a sign-in", |stop| pass_on(sign_in_events, inbox, bell, clock, stop));
    work.run("the alerts", |stop| alert::run(ops.clone(), ears, stop));
    let reporting = report::Desk { intake: ops.intake(), clock: ops.clock.clone() };
    work.run("the notices", |stop| report::run(reporting, stop));
    work.run("the housekeeping", |stop| keep_house(ops.clone(), stop));
    let sessions = pool.clone();
    work.run("the session pool", |stop| async move { sessions.tend(stop).await });
    look_outside(ops, work);
}

/// What the scheduler works with.
fn desk(ops: &Ops, pool: &Pool) -> Desk<Sender> {
    let courier = Sender {
        store: ops.store.clone(),
        sign_ins: ops.sign_ins.clone(),
        pool: pool.clone(),
        config: ops.config.clone(),
        clock: ops.clock.clone(),
        feed: ops.feed.clone(),
        user_names: ops.user_names.clone(),
        send_as: ops.send_as.clone(),
        schedule: ops.schedule.clone(),
        moods: Moods::default(),
        parts: Parts::default(),
        secrets: ops.login_tools.secrets.clone(),
        under_way: ops.under_way.clone(),
    };
    Desk {
        store: ops.store.clone(),
        courier: Arc::new(courier),
        clock: ops.clock.clone(),
        feed: ops.feed.clone(),
        inbox: ops.schedule.clone(),
    }
}

/// What the sign-ins tell concerns the schedule, and makes the alerts look.
async fn pass_on(
    mut events: mpsc::UnboundedReceiver<SignInEvent>,
    inbox: Inbox,
    bell: alert::Bell,
    clock: Clock,
    stop: CancellationToken,
) {
    loop {
        let event = tokio::select! {
            event = events.recv() => event,
            () = stop.cancelled() => return,
        };
        // Whatever it is, how things stand may have changed.
        bell.ring();
        match event {
            Some(SignInEvent::Dead { account, cause, error, codes, probe_at, probes, .. }) => {
                inbox.tell(Event::Held(Hold {
                    account,
                    cause,
                    reply: None,
                    error: Some(error),
                    codes,
                    since: clock.now(),
                    probe_at,
                    probes,
                }));
            }
            Some(SignInEvent::Good { account, .. }) => inbox.tell(Event::SignInGood { account }),
            // Its keeper has logged it.
            Some(SignInEvent::Trouble { .. }) => {}
            // Its keeper has panicked: the watcher over this task ends the relay.
            Some(SignInEvent::Broken { account }) => return bell.broken(account),
            None => return,
        }
    }
}

/// What a tenant's budget counts may be other mail than when the queue was last looked at.
pub(super) fn look_outside(ops: &Ops, work: &Stage) {
    let (ops, stop) = (ops.clone(), work.stop.clone());
    work.tasks.spawn(async move {
        let looked = tokio::select! {
            () = stop.cancelled() => return,
            looked = ops.look_outside() => looked,
        };
        match looked {
            Ok(0) => {}
            Ok(messages) => tracing::info!(messages, "waiting mail was put in line anew by external_recipients_per_day"),
            Err(error) => {
                tracing::warn!(%error, "could not put waiting mail in line by external_recipients_per_day; each attempt looks again");
            }
        }
    });
}
