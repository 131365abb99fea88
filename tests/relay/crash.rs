//! Killed in the middle of everything: what was acknowledged arrives, and only what was under way may arrive twice.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use xoauth2_relay::message::Headers;
use xoauth2_relay::simulator::{Latency, Options, Simulator};

use crate::command_line::Daemon;
use crate::support::{Client, MAILBOX, PATIENCE, blocking, quick};

const SESSIONS: usize = 8;
/// Sessions that the relay has with Exchange: so many mails can be under way.
const UNDER_WAY: usize = 3;
/// How often the relay is killed.
const ROUNDS: usize = 4;
/// So many mails have arrived in a round before the kill, so that most of them are settled by then.
const ARRIVED: usize = 8 * UNDER_WAY;

/// An Exchange that takes its time, so that mails are under way when the relay is killed.
fn slow() -> Options {
    Options { latency: Latency { data_end: Duration::from_millis(10), ..Latency::default() }, ..quick() }
}

/// Hands in mails until the relay is gone; those that were acknowledged. Every twentieth is large.
fn hand_in(door: SocketAddr, session: usize, round: usize, acknowledged: &Mutex<Vec<String>>) {
    let Some(mut client) = Client::try_connect(door) else { return };
    if client.try_reply().is_none() {
        return;
    }
    for n in 0.. {
        let name = format!("{round}-{session}-{n}");
        let padding = if n % 20 == 7 { "a line of a large mail\r\n".repeat(10_000) } else { String::new() };
        let mail = format!("From: {MAILBOX}\r\nSubject: {name}\r\n\r\n{padding}hello\r\n.\r\n");
        for part in ["RSET\r\n", "MAIL FROM:<lms@contoso.com>\r\n", "RCPT TO:<you@example.com>\r\n", "DATA\r\n", &mail]
        {
            match client.try_send(part.as_bytes()).then(|| client.try_reply()).flatten() {
                Some(reply) if reply.starts_with('2') || reply.starts_with('3') => {}
                _ => return,
            }
        }
        acknowledged.lock().unwrap().push(name);
    }
}

/// The mails in the order in which they arrived, by their subject.
fn arrivals(simulator: &Simulator) -> Vec<String> {
    let subject = |bytes: &[u8]| Headers::scan(bytes).first("subject").unwrap().value.trim_ascii().to_vec();
    simulator.accepted().iter().map(|mail| String::from_utf8(subject(&mail.bytes)).unwrap()).collect()
}

/// How many mails had arrived when the relay was killed.
struct Kill {
    /// Just before.
    before: usize,
    /// Once it was dead. What it had sent by then may still arrive, as many mails as were under way.
    after: usize,
}

impl Kill {
    /// Whether what arrived in this place may have been without a record when the relay died.
    ///
    /// A session takes the next mail only once the last one is recorded, so that no more than [`UNDER_WAY`] are without one. While
    /// one session waits for its record, the others may be a mail ahead: hence twice as many.
    fn may_have_cut_off(&self, place: usize) -> bool {
        (self.before.saturating_sub(2 * UNDER_WAY)..self.after + UNDER_WAY).contains(&place)
    }
}

/// What came twice was under way at a kill; what was settled by then came once.
fn assert_nothing_settled_came_twice(arrivals: &[String], kills: &[Kill]) {
    let mut last: HashMap<&str, usize> = HashMap::new();
    let mut again = 0;
    for (place, name) in arrivals.iter().enumerate() {
        if let Some(earlier) = last.insert(name, place) {
            again += 1;
            let is_excused = kills.iter().any(|kill| kill.may_have_cut_off(earlier) && place >= kill.before);
            let kills: Vec<_> = kills.iter().map(|kill| kill.before..kill.after).collect();
            assert!(is_excused, "{name} arrived as {earlier} and once more as {place}; killed at {kills:?}");
        }
    }
    assert!(again <= UNDER_WAY * kills.len(), "{again} mails came once more after {} kills", kills.len());
}

/// Waits until all of these have arrived and nothing waits any more: also what was sent without having been acknowledged, and what
/// is sent twice. All arrivals.
async fn until_arrived(simulator: &Simulator, acknowledged: &[String], daemon: &Arc<Daemon>) -> Vec<String> {
    let since = Instant::now();
    loop {
        let asked = daemon.clone();
        let queue = blocking(move || asked.json(&["queue", "list", "--json"])).await;
        let arrivals = arrivals(simulator);
        let arrived: HashSet<&String> = arrivals.iter().collect();
        let missing: Vec<&String> = acknowledged.iter().filter(|name| !arrived.contains(name)).collect();
        if missing.is_empty() && queue == Value::Array(Vec::new()) {
            return arrivals;
        }
        assert!(since.elapsed() < PATIENCE, "lost: {missing:?}\nwaiting: {queue}\n{}", daemon.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Hands mails in from several sessions, until they are all at an end.
fn sessions(
    door: SocketAddr,
    round: usize,
    acknowledged: &Arc<Mutex<Vec<String>>>,
) -> Vec<std::thread::JoinHandle<()>> {
    let session = |session| {
        let acknowledged = acknowledged.clone();
        std::thread::spawn(move || hand_in(door, session, round, &acknowledged))
    };
    (0..SESSIONS).map(session).collect()
}

/// Starts it once more, in the same folder.
async fn start_again(mut daemon: Daemon) -> Arc<Daemon> {
    blocking(move || {
        daemon.start(&[]);
        Arc::new(daemon)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_a_kill_arrives_after_it() {
    let simulator = Arc::new(Simulator::start(slow()).await.unwrap());
    let folder = TempDir::new().unwrap();
    let mut daemon = Daemon::prepare(&simulator, &folder).await;
    let acknowledged: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut kills = Vec::new();
    for round in 0..ROUNDS {
        let (of_round, wanted) = (acknowledged.clone(), acknowledged.lock().unwrap().len() + 60 + 45 * round);
        let exchange = simulator.clone();
        let kill;
        (daemon, kill) = blocking(move || {
            daemon.start(&[]);
            let sessions = sessions(daemon.door, round, &of_round);
            let (since, arrived) = (Instant::now(), exchange.accepted_count() + ARRIVED);
            while of_round.lock().unwrap().len() < wanted || exchange.accepted_count() < arrived {
                assert!(since.elapsed() < PATIENCE, "{}", daemon.said());
                std::thread::sleep(Duration::from_millis(1));
            }
            let before = exchange.accepted_count();
            daemon.kill();
            let after = exchange.accepted_count();
            for session in sessions {
                session.join().unwrap();
            }
            (daemon, Kill { before, after })
        })
        .await;
        kills.push(kill);
    }
    let daemon = start_again(daemon).await;
    let acknowledged = acknowledged.lock().unwrap().clone();
    let arrivals = until_arrived(&simulator, &acknowledged, &daemon).await;
    assert_nothing_settled_came_twice(&arrivals, &kills);
}

/// Debug builds can be told to die at named points of the one writer.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_point_of_the_writer_loses_nothing_that_was_acknowledged() {
    for point in ["before_commit:40", "after_commit_before_answer:40", "after_body_sync:2"] {
        let simulator = Simulator::start(slow()).await.unwrap();
        let folder = TempDir::new().unwrap();
        let mut daemon = Daemon::prepare(&simulator, &folder).await;
        let acknowledged: Arc<Mutex<Vec<String>>> = Arc::default();
        let of_run = acknowledged.clone();
        daemon = blocking(move || {
            daemon.start(&[("XOAUTH2_RELAY_CRASH_AT", point)]);
            for session in sessions(daemon.door, 0, &of_run) {
                session.join().unwrap();
            }
            // It has died by itself by now.
            daemon.kill();
            daemon
        })
        .await;
        let kill = died(&simulator);
        let daemon = start_again(daemon).await;
        let acknowledged = acknowledged.lock().unwrap().clone();
        assert!(!acknowledged.is_empty(), "{point}: it died before anything was acknowledged");
        let arrivals = until_arrived(&simulator, &acknowledged, &daemon).await;
        assert_nothing_settled_came_twice(&arrivals, &[kill]);
    }
}

/// A relay that died by itself some moments ago: what was under way then may have arrived meanwhile.
#[cfg(debug_assertions)]
fn died(simulator: &Simulator) -> Kill {
    let after = simulator.accepted_count();
    Kill { before: after.saturating_sub(UNDER_WAY), after }
}

/// The one window in which a mail is sent twice: Exchange has said `250`, and what is to be written down of it is not on disk.
///
/// It needs no crash point of its own. Every record goes through the writer, so that `before_commit` is this window whenever the
/// batch holds a record; and here nobody hands mail in any more, so that all batches do but those of the start.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_exchanges_250_and_our_record_repeats_what_was_under_way_and_nothing_else() {
    const MAILS: usize = 40;
    let simulator = Simulator::start(slow()).await.unwrap();
    let folder = TempDir::new().unwrap();
    let mut daemon = Daemon::prepare(&simulator, &folder).await;
    simulator.go_away().await.unwrap();
    daemon = blocking(move || {
        daemon.start(&[]);
        let mut client = Client::greeted(daemon.door);
        for n in 0..MAILS {
            let mail = format!("From: {MAILBOX}\r\nSubject: {n}\r\n\r\nhello\r\n");
            client.submit(MAILBOX, &["you@example.com"], &mail);
        }
        assert_eq!(daemon.terminate(), Some(0));
        daemon
    })
    .await;
    simulator.come_back().await.unwrap();
    daemon = blocking(move || {
        // The start itself commits less than ten times; then each batch holds a record, of three mails at the most: there are
        // fourteen of them or more.
        daemon.start(&[("XOAUTH2_RELAY_CRASH_AT", "before_commit:15")]);
        assert_eq!(daemon.ended(), None, "it dies of a signal: {}", daemon.said());
        daemon
    })
    .await;
    let kill = died(&simulator);
    let daemon = start_again(daemon).await;
    let names: Vec<String> = (0..MAILS).map(|n| n.to_string()).collect();
    let arrivals = until_arrived(&simulator, &names, &daemon).await;
    assert_nothing_settled_came_twice(&arrivals, &[kill]);
    assert!(arrivals.len() > MAILS, "the mail whose record was lost is sent once more");
}
