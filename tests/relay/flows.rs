//! What overtakes what, and who carries it, with real sockets. `LANES_BULK=20000` makes it a longer queue; with `-- --nocapture` it prints when
//! the mail that somebody waits for has left.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tempfile::TempDir;
use xoauth2_relay::message::{Lane, QueueId};
use xoauth2_relay::simulator::{Latency, Mailbox, Options, Simulator};
use xoauth2_relay::store::{Change, Store};

use crate::support::{Client, LISTENER, MAILBOX, PATIENCE, blocking, incoming, mailbox, quick, sign_in, start_relay};

/// A second mailbox.
const SECOND: &str = "lms2@contoso.com";

/// A mail of Moodle's in this lane, as it waits.
fn waiting(id: QueueId, at: Timestamp, lane: Lane, to: &str) -> Change {
    let mail = format!("From: Moodle <{MAILBOX}>\r\nTo: {to}\r\nSubject: {lane}\r\n\r\nIt works.\r\n");
    Change::Accept(Box::new(incoming(id, at, lane, to, mail.into())))
}

/// Digests, and one password reset that came after all of them.
async fn fill(folder: &Path, bulk: usize) {
    let store = Store::open(&folder.join("data")).unwrap();
    let at = Timestamp::now();
    let digests = (0..bulk).map(|_| waiting(store.next_id(at), at, Lane::Bulk, "digest@example.com"));
    let reset = waiting(store.next_id(at), at + Duration::from_millis(1), Lane::Urgent, "reset@example.com");
    let changes: Vec<Change> = digests.chain([reset]).collect();
    for committed in futures_util::future::join_all(changes.into_iter().map(|change| store.commit(change))).await {
        committed.unwrap();
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_waits_for_overtakes_thousands_of_digests() {
    let bulk = std::env::var("LANES_BULK").map_or(3_000, |bulk| bulk.parse().expect("LANES_BULK is a number"));
    // Every mail takes a while, so that the queue stays full.
    let latency = Latency { data_end: Duration::from_millis(30), ..Latency::default() };
    let simulator = Simulator::start(Options { latency, ..quick() }).await.unwrap();
    let folder = TempDir::new().unwrap();
    let relay = start_relay(&simulator, folder.path(), LISTENER).await;
    sign_in(&simulator, &relay, MAILBOX).await;
    relay.stop().await;
    fill(folder.path(), bulk).await;

    let since = Instant::now();
    let relay = start_relay(&simulator, folder.path(), LISTENER).await;
    tokio::time::timeout(PATIENCE, simulator.wait_for_accepted(20)).await.unwrap();
    let accepted = simulator.accepted();
    let place =
        accepted.iter().position(|mail| mail.recipients == ["reset@example.com"]).expect("it is one of the first");
    // Three leave at once, and any of them may be the first to arrive.
    assert!(place < 3, "it was number {place}");
    println!("{bulk} digests were waiting; the reset left as number {} after {:?}", place + 1, since.elapsed());

    // And now one that comes while they leave: it is no digest.
    let door = relay.listeners()[0];
    let since = Instant::now();
    blocking(move || {
        let mail = format!("From: Moodle <{MAILBOX}>\r\nTo: you@example.com\r\nSubject: hello\r\n\r\nIt works.\r\n");
        Client::greeted(door).submit(MAILBOX, &["you@example.com"], &mail);
    })
    .await;
    let before = simulator.accepted_count();
    let is_there = || simulator.accepted().iter().position(|mail| mail.recipients == ["you@example.com"]);
    while is_there().is_none() {
        assert!(since.elapsed() < PATIENCE, "it never left");
        let count = simulator.accepted_count();
        tokio::time::timeout(PATIENCE, simulator.wait_for_accepted(count + 1)).await.unwrap();
    }
    // Three were under way, every eighth turn is for the digests, and some may have left before it was counted.
    let behind = is_there().unwrap().saturating_sub(before);
    assert!(behind < 12, "{behind} left before it");
    println!("a mail that came meanwhile left after {behind} others, {:?} after it came", since.elapsed());
    assert!(simulator.accepted_count() < bulk, "the queue was full all the time");
    relay.stop().await;
    simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_accounts_of_an_app_share_its_mail_and_one_that_is_held_is_skipped() {
    let mut options = quick();
    options.mailboxes.push(Mailbox::new(SECOND));
    let simulator = Simulator::start(options).await.unwrap();
    let folder = TempDir::new().unwrap();
    let app = format!("[[app]]\nname = \"default\"\naccounts = [\"{MAILBOX}\", \"{SECOND}\"]\n{LISTENER}");
    let relay = start_relay(&simulator, folder.path(), &app).await;
    for mailbox in [MAILBOX, SECOND] {
        sign_in(&simulator, &relay, mailbox).await;
    }
    let door = relay.listeners()[0];
    let submit = |count: usize| async move {
        blocking(move || {
            let mut client = Client::greeted(door);
            for _ in 0..count {
                let mail =
                    "From: Moodle <moodle@contoso.com>\r\nTo: you@example.com\r\nSubject: hello\r\n\r\nIt works.\r\n";
                client.submit(MAILBOX, &["you@example.com"], mail);
            }
        })
        .await;
    };
    let carried =
        |from: usize| -> Vec<String> { simulator.accepted()[from..].iter().map(|mail| mail.mailbox.clone()).collect() };
    submit(12).await;
    tokio::time::timeout(PATIENCE, simulator.wait_for_accepted(12)).await.unwrap();
    let both = carried(0);
    assert!(both.iter().any(|carrier| carrier == MAILBOX) && both.iter().any(|carrier| carrier == SECOND), "{both:?}");
    // Each is sent as the mailbox that carries it.
    for mail in simulator.accepted() {
        let text = String::from_utf8_lossy(&mail.bytes).into_owned();
        assert!(mail.mail_from == mail.mailbox && text.contains(&format!("<{}>", mail.mailbox)), "{text}");
    }

    relay.ops().account_hold(&mailbox()).await.unwrap();
    submit(6).await;
    tokio::time::timeout(PATIENCE, simulator.wait_for_accepted(18)).await.unwrap();
    assert_eq!(carried(12), [SECOND; 6], "what waits in the queue of the held one");
    relay.stop().await;
    simulator.stop().await;
}
