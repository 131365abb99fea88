//! Killed at every step of a rotation, stopped like a machine that sleeps, asked by 200 at once: the sign-in lives on.
//!
//! The endpoint ends a refresh token when its successor is used, so that a relay which loses or forgets one is out for good.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tempfile::TempDir;
use tokio::sync::broadcast::error::TryRecvError;
use xoauth2_relay::clock::Clock;
use xoauth2_relay::simulator::{Event, Fault, Options, Simulator};

use crate::command_line::{Daemon, program};
use crate::support::{
    Client, LISTENER, MAILBOX, PATIENCE, Rig, blocking, configuration, mailbox, quick, sign_in, start_relay_at,
};

const MAIL: &str = "From: lms@contoso.com\r\nSubject: hello\r\n\r\nhello\r\n";

fn strict() -> Options {
    Options { retire_predecessors: true, ..quick() }
}

/// The requests for tokens with a refresh token so far.
fn refreshes(simulator: &Simulator) -> u64 {
    simulator.statistics().token_requests.get("refresh_token").copied().unwrap_or(0)
}

/// Starts it once more without any help: a mail has to leave, by a sign-in that nobody had to renew.
fn assert_alive(daemon: &mut Daemon, simulator: &Simulator, context: &str) {
    daemon.start(&[]);
    let (since, accepted) = (Instant::now(), simulator.accepted_count());
    Client::greeted(daemon.door).submit(MAILBOX, &["you@example.com"], MAIL);
    while simulator.accepted_count() == accepted {
        assert!(since.elapsed() < PATIENCE, "{context}: no mail leaves: {}", daemon.said());
        std::thread::sleep(Duration::from_millis(10));
    }
    // The mail may have left with the token of an earlier run.
    until_refreshed(daemon, context);
    daemon.kill();
}

/// Waits until a refresh has worked that this run made.
fn until_refreshed(daemon: &Daemon, context: &str) {
    let since = Instant::now();
    loop {
        let status = daemon.json(&["status", "--json"]);
        let account = &status["accounts"][0];
        assert!(account["hold"].is_null(), "{context}: a person is needed: {account}");
        if daemon.said().contains("the stored sign-in works") {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "{context}: never refreshed: {account}\n{}", daemon.said());
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A refresh token that is refused is one that was lost, or kept too long.
fn assert_nothing_was_refused(events: &mut tokio::sync::broadcast::Receiver<Event>, context: &str) {
    loop {
        match events.try_recv() {
            Ok(Event::TokenRefused { .. }) => panic!("{context}: a refresh token was refused"),
            Ok(_) | Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return,
        }
    }
}

#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_at_each_step_of_a_rotation_the_next_start_signs_in_without_a_person() {
    let simulator = Arc::new(Simulator::start(strict()).await.unwrap());
    let folder = TempDir::new().unwrap();
    let mut daemon = Daemon::prepare(&simulator, &folder).await;
    let mut events = simulator.watch();
    for point in ["after_sign_in_load", "before_sign_in_write", "after_sign_in_write"] {
        for round in 0..3 {
            let exchange = simulator.clone();
            daemon = blocking(move || {
                daemon.start(&[("XOAUTH2_RELAY_CRASH_AT", point)]);
                assert_eq!(daemon.ended(), None, "it dies of a signal: {}", daemon.said());
                // Twice in a row is no worse than once.
                if round > 0 {
                    daemon.start(&[("XOAUTH2_RELAY_CRASH_AT", point)]);
                    assert_eq!(daemon.ended(), None, "it dies of a signal: {}", daemon.said());
                }
                if round > 1 {
                    assert_alive(&mut daemon, &exchange, point);
                }
                daemon
            })
            .await;
            assert_nothing_was_refused(&mut events, point);
        }
    }
}

/// How often it is killed at a random moment: `ROTATION_KILLS`, or so often.
const KILLS: u64 = 25;

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_moment_of_its_rotations_it_never_loses_the_sign_in() {
    let kills: u64 = std::env::var("ROTATION_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    // Every start and then every second rotates; each answer takes a while, so that a kill often falls into one.
    let options = Options { access_token_life: Duration::from_secs(10), ..strict() };
    let simulator = Arc::new(Simulator::start(options).await.unwrap());
    let folder = TempDir::new().unwrap();
    let mut daemon = Daemon::prepare(&simulator, &folder).await;
    let mut events = simulator.watch();
    simulator.fault("token=wait:30ms".parse::<Fault>().unwrap());
    for round in 0..kills {
        let (asked, exchange) = (refreshes(&simulator), simulator.clone());
        let config = daemon.config.clone();
        // Half of the kills come a little after the request, the others at any moment of the start.
        let (behind, pause) = (round % 2 == 0, Duration::from_micros(rand::random_range(0..80_000)));
        blocking(move || {
            let mut child = program(&config).arg("run").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            let since = Instant::now();
            while behind && refreshes(&exchange) == asked {
                assert!(since.elapsed() < PATIENCE && child.try_wait().unwrap().is_none(), "it never asks");
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(pause);
            child.kill().unwrap();
            child.wait().unwrap();
        })
        .await;
        assert_nothing_was_refused(&mut events, &format!("round {round} of {kills}, killed after {pause:?}"));
    }
    assert!(refreshes(&simulator) >= kills / 2, "the kills fell into rotations");
    blocking(move || assert_alive(&mut daemon, &simulator, "after all kills")).await;
    assert_nothing_was_refused(&mut events, "after all kills");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_stopped_while_its_token_expired_goes_on_with_a_new_one() {
    let life = Duration::from_secs(4);
    let options = Options { access_token_life: life, ..strict() };
    let simulator = Arc::new(Simulator::start(options).await.unwrap());
    let folder = TempDir::new().unwrap();
    let mut daemon = Daemon::prepare(&simulator, &folder).await;
    let mut events = simulator.watch();
    let exchange = simulator.clone();
    blocking(move || {
        daemon.start(&[]);
        until_refreshed(&daemon, "at the start");
        let mut client = Client::greeted(daemon.door);
        daemon.signal("STOP");
        let stopped_at = Timestamp::now();
        let asked = refreshes(&exchange);
        while Timestamp::now() < stopped_at + life + Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(refreshes(&exchange), asked, "nobody asks while it sleeps");
        daemon.signal("CONT");
        client.submit(MAILBOX, &["you@example.com"], MAIL);
        let since = Instant::now();
        while exchange.accepted_count() == 0 {
            assert!(since.elapsed() < PATIENCE, "no mail leaves: {}", daemon.said());
            std::thread::sleep(Duration::from_millis(5));
        }
        let awake = since.elapsed().as_secs();
        let burst = refreshes(&exchange) - asked;
        assert!((1..=2 + awake).contains(&burst), "{burst} requests after it woke up {awake} s ago");
        assert_eq!(daemon.terminate(), Some(0));
    })
    .await;
    assert_nothing_was_refused(&mut events, "after a sleep");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_senders_of_an_expired_token_cause_one_request() {
    const SENDERS: usize = 200;
    let clock = Clock::manual(Timestamp::now());
    let calendar = clock.clone();
    let options = Options { connections: 0, now: Arc::new(move || calendar.now()), ..strict() };
    let simulator = Simulator::start(options).await.unwrap();
    let folder = TempDir::new().unwrap();
    let text = configuration(&simulator, folder.path(), &format!("{LISTENER}max_connections_per_address = 300\n"));
    let relay = start_relay_at(&text, clock.clone()).await;
    sign_in(&simulator, &relay, MAILBOX).await;
    relay.ops().status().await.unwrap();
    let door = relay.listeners()[0];
    tokio::time::timeout(PATIENCE, async {
        while relay.ops().status().await.unwrap().accounts[0]
            .sign_in
            .as_ref()
            .is_none_or(|sign_in| sign_in.access_token_until.is_none())
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("signed in in time");

    let asked = refreshes(&simulator);
    simulator.fault("token=wait:500ms".parse::<Fault>().unwrap());
    clock.advance(Duration::from_hours(3));
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| std::thread::spawn(move || Client::greeted(door).submit(MAILBOX, &["you@example.com"], MAIL)))
        .collect();
    let accepted = tokio::time::timeout(PATIENCE, async {
        while simulator.accepted_count() < SENDERS {
            // The pace is on the calendar, which stands still otherwise.
            clock.advance(Duration::from_millis(10));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    assert!(accepted.await.is_ok(), "only {} of {SENDERS} left", simulator.accepted_count());
    for sender in senders {
        sender.join().unwrap();
    }
    assert_eq!(refreshes(&simulator) - asked, 1);
    relay.stop().await;
    simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_in_an_outage_mail_leaves_at_once_with_the_token_of_before() {
    let rig = Rig::start().await;
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    rig.until_accepted(1).await;
    rig.simulator.fault(Fault::row("http-5xx").unwrap());
    let rig = rig.restart().await;
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    rig.until_accepted(2).await;
    rig.until_held(false).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_exchange_rejected_is_not_used_again_after_a_restart() {
    let rig = Rig::start().await;
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    rig.until_accepted(1).await;
    rig.simulator.fault(Fault::row("http-5xx").unwrap());
    rig.simulator.revoke_access_tokens(MAILBOX);
    let rig = rig.restart().await;
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    let since = Instant::now();
    while rig.simulator.statistics().auth_refused == 0 {
        assert!(since.elapsed() < PATIENCE, "the token is shown to Exchange once");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // It is gone from the disk by the time the relay has stopped.
    let rig = rig.restart().await;
    let refused = rig.simulator.statistics().auth_refused;
    rig.until_queue("the mail that waits", |queue| queue.len() == 1).await;
    assert_eq!(rig.simulator.statistics().auth_refused, refused, "nothing is shown to Exchange");
    rig.simulator.clear_faults();
    rig.relay.ops().account_release(&mailbox()).await.unwrap();
    rig.until_accepted(2).await;
    rig.stop().await;
}
