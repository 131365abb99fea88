//! Ten days without a sign-in.

use std::time::Duration;

use jiff::Timestamp;
use xoauth2_relay::message::{Lane, QueueId};
use xoauth2_relay::schedule::Event;
use xoauth2_relay::store::{Hold, HoldCause, RecipientState};

use crate::simulation::{Obstacle, Simulation};
use crate::support::mailbox;

const DAYS: u32 = 10;
const EVERY: Duration = Duration::from_mins(10);
/// Word for word.
const ERROR: &str = "AADSTS50173: The provided grant has expired due to it being revoked";

#[tokio::test]
async fn nothing_is_lost_or_given_up_and_all_of_it_leaves_after_the_login_oldest_first() {
    let mut simulation = Simulation::start(Obstacle::NoSignIn(ERROR));
    let start = simulation.now;
    simulation.on(Event::Held(sign_in_is_dead(start))).await;

    let mut accepted = Vec::new();
    let login_at = start + Duration::from_hours(24) * DAYS;
    while simulation.now < login_at {
        accepted.push(simulation.accept(lane(accepted.len())).await);
        // The announcement was lost: the store knows.
        simulation.on(Event::Overflowed).await;
        simulation.run_until(simulation.now + EVERY).await;
        // In the night of the fifth day the machine is restarted.
        if accepted.len() == 700 {
            simulation.restart().await;
        }
    }
    assert!(simulation.left.is_empty(), "nothing leaves without a sign-in");
    assert!(simulation.probes > 200, "and it was tried all the time: {}", simulation.probes);
    let waiting = simulation.store.list(None, 10_000).await.unwrap();
    assert_eq!(waiting.len(), accepted.len(), "nothing is refused, nothing bounced");
    for message in &waiting {
        assert_eq!((message.tries, message.tried_for), (0, Duration::ZERO), "give_up_after has not begun");
        assert_eq!(message.recipients[0].state, RecipientState::Waiting);
    }
    let held = simulation.store.holds().await.unwrap();
    assert_eq!((held.len(), held[0].since, held[0].error.as_deref()), (1, start, Some(ERROR)));

    simulation.obstacle = None;
    simulation.on(Event::SignedIn { account: mailbox() }).await;
    assert!(simulation.store.holds().await.unwrap().is_empty());
    simulation.run_until_all_may_have_left(accepted.len()).await;
    assert!(simulation.store.list(None, 10).await.unwrap().is_empty(), "everything has left");
    assert_eq!(simulation.left.len(), accepted.len(), "each once");
    for lane in [Lane::Urgent, Lane::Normal, Lane::Bulk] {
        let left: Vec<QueueId> = simulation.left.iter().filter(|left| left.lane == lane).map(|left| left.id).collect();
        assert_eq!(left.len(), accepted.len() / 3);
        assert!(left.is_sorted(), "oldest first within {lane:?}");
    }
}

fn sign_in_is_dead(since: Timestamp) -> Hold {
    Hold {
        account: mailbox(),
        cause: HoldCause::SignIn,
        reply: None,
        error: Some(ERROR.to_owned()),
        codes: vec![50173],
        since,
        probe_at: None,
        probes: 0,
    }
}

fn lane(n: usize) -> Lane {
    [Lane::Urgent, Lane::Normal, Lane::Bulk][n % 3]
}
