//! A day without Exchange.

use std::time::Duration;

use xoauth2_relay::message::{Lane, QueueId};
use xoauth2_relay::schedule::Event;
use xoauth2_relay::store::{Flow, Waiting};

use crate::simulation::{Obstacle, Simulation};
use crate::support::mailbox;

const DAY: Duration = Duration::from_hours(24);
/// A busy site: a mail every 40 seconds.
const EVERY: Duration = Duration::from_secs(40);

#[tokio::test]
async fn nothing_is_refused_or_lost_and_all_of_it_leaves_within_the_pace() {
    let mut simulation = Simulation::start(Obstacle::NoExchange);
    let back_at = simulation.now + DAY;
    simulation.on(Event::Woken).await;

    let mut accepted = Vec::new();
    while simulation.now < back_at {
        let id = simulation.accept(Lane::Normal).await;
        let flow = Flow::new("default", Lane::Normal);
        let waiting = Waiting { id, due_at: simulation.now, recipients: 1, flow };
        simulation.on(Event::Accepted { account: mailbox(), waiting }).await;
        accepted.push(id);
        simulation.run_until(simulation.now + EVERY).await;
    }
    assert!(simulation.left.is_empty());
    assert!(simulation.in_vain < 400, "{} attempts in vain", simulation.in_vain);
    let waiting = simulation.store.list(None, 10_000).await.unwrap();
    assert_eq!(waiting.len(), accepted.len());
    assert!(waiting.iter().all(|message| message.tries == 0), "no message has lost a try");

    simulation.obstacle = None;
    simulation.run_until_all_may_have_left(accepted.len()).await;
    assert!(simulation.store.list(None, 10).await.unwrap().is_empty());
    let mut left: Vec<QueueId> = simulation.left.iter().map(|left| left.id).collect();
    assert_eq!(left.len(), accepted.len(), "each leaves once");
    left.sort();
    assert_eq!(left, accepted, "and none is missing");
    for window in simulation.left.windows(31) {
        let span = window[30].at.duration_since(window[0].at);
        assert!(span.as_secs() >= 60, "31 messages within {span:?}");
    }
}
