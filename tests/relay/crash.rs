//! Killed in the middle of everything: what was acknowledged arrives, and only what was under way may arrive twice.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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

/// An Exchange that takes its time, so that mails are under way when the relay is killed.
fn slow() -> Options {
    Options { latency: Latency { data_end: Duration::from_millis(30), ..Latency::default() }, ..quick() }
}

/// Hands in mails until the relay is gone; those that were acknowledged. Every twentieth is large.
fn hand_in(door: SocketAddr, session: usize, round: usize, acknowledged: &Mutex<Vec<String>>) {
    let Ok(stream) = std::net::TcpStream::connect(door) else { return };
    drop(stream);
    let mut client = Client::connect(door);
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

/// How often each mail has arrived, by its subject.
fn arrived(simulator: &Simulator) -> HashMap<String, usize> {
    let mut arrived = HashMap::new();
    for mail in simulator.accepted() {
        let subject = Headers::scan(&mail.bytes).first("subject").map(|field| field.value.trim_ascii().to_vec());
        *arrived.entry(String::from_utf8(subject.unwrap()).unwrap()).or_default() += 1;
    }
    arrived
}

async fn until_arrived(simulator: &Simulator, acknowledged: &[String], daemon: &Daemon) -> HashMap<String, usize> {
    let since = Instant::now();
    loop {
        let arrived = arrived(simulator);
        let missing: Vec<&String> = acknowledged.iter().filter(|name| !arrived.contains_key(*name)).collect();
        if missing.is_empty() {
            return arrived;
        }
        assert!(since.elapsed() < PATIENCE, "lost: {missing:?}\n{}", daemon.said());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_before_a_kill_arrives_after_it() {
    let simulator = Simulator::start(slow()).await.unwrap();
    let folder = TempDir::new().unwrap();
    let mut daemon = Daemon::prepare(&simulator, &folder).await;
    let acknowledged: Arc<Mutex<Vec<String>>> = Arc::default();
    for round in 0..ROUNDS {
        let (of_round, wanted) = (acknowledged.clone(), acknowledged.lock().unwrap().len() + 60 + 45 * round);
        daemon = blocking(move || {
            daemon.start(&[]);
            let door = daemon.door;
            let sessions: Vec<_> = (0..SESSIONS)
                .map(|session| {
                    let acknowledged = of_round.clone();
                    std::thread::spawn(move || hand_in(door, session, round, &acknowledged))
                })
                .collect();
            let since = Instant::now();
            while of_round.lock().unwrap().len() < wanted {
                assert!(since.elapsed() < PATIENCE, "{}", daemon.said());
                std::thread::sleep(Duration::from_millis(1));
            }
            daemon.kill();
            for session in sessions {
                session.join().unwrap();
            }
            daemon
        })
        .await;
    }
    daemon = blocking(move || {
        daemon.start(&[]);
        daemon
    })
    .await;
    let acknowledged = acknowledged.lock().unwrap().clone();
    let arrived = until_arrived(&simulator, &acknowledged, &daemon).await;
    let twice = arrived.values().filter(|&&times| times > 1).count();
    assert!(twice <= UNDER_WAY * ROUNDS, "{twice} mails came twice");
    assert!(arrived.values().all(|&times| times <= 1 + ROUNDS));
    simulator.stop().await;
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
            let door = daemon.door;
            let sessions: Vec<_> = (0..SESSIONS)
                .map(|session| {
                    let acknowledged = of_run.clone();
                    std::thread::spawn(move || hand_in(door, session, 0, &acknowledged))
                })
                .collect();
            for session in sessions {
                session.join().unwrap();
            }
            // It has died by itself by now.
            daemon.kill();
            daemon.start(&[]);
            daemon
        })
        .await;
        let acknowledged = acknowledged.lock().unwrap().clone();
        assert!(!acknowledged.is_empty(), "{point}: it died before anything was acknowledged");
        let arrived = until_arrived(&simulator, &acknowledged, &daemon).await;
        let twice = arrived.values().filter(|&&times| times > 1).count();
        assert!(twice <= UNDER_WAY, "{point}: {twice} mails came twice");
        simulator.stop().await;
    }
}
