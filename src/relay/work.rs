//! What goes on behind the door, whether mail comes or not.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::stage::Stage;
use crate::alert;
use crate::clock::Clock;
use crate::ops::Ops;
use crate::outbound::{Moods, Parts, Pool, Sender};
use crate::schedule::{Desk, Event, Inbox};
use crate::signin::SignInEvent;
use crate::store::Hold;

/// What the scheduler works with.
pub(super) fn desk(ops: &Ops, pool: &Pool) -> Desk<Sender> {
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
pub(super) async fn pass_on(
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
