//! Told to stop while something hangs: the program ends in order and in time, and the next start goes on where it was.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use xoauth2_relay::simulator::{Effect, Event, Fault, Phase, Simulator};

use crate::command_line::Daemon;
use crate::support::{Client, MAILBOX, PATIENCE, Rig, blocking, expect, quick};

const MAIL: &str = "From: lms@contoso.com\r\nSubject: hello\r\n\r\nhello\r\n";
/// What is promised to whoever stops a service, systemd for one: it ends in less than this, whatever hangs.
const CONTRACT: Duration = Duration::from_secs(20);

/// A program that runs, and its Microsoft 365.
struct Site {
    simulator: Simulator,
    folder: TempDir,
    daemon: Daemon,
}

impl Site {
    async fn prepare() -> Self {
        let simulator = Simulator::start(quick()).await.unwrap();
        let folder = TempDir::new().unwrap();
        let daemon = Daemon::prepare(&simulator, &folder).await;
        Self { simulator, folder, daemon }
    }

    /// Something that blocks, done with the program.
    async fn with<T: Send + 'static>(self, work: impl FnOnce(&mut Daemon) -> T + Send + 'static) -> (Self, T) {
        let Self { simulator, folder, mut daemon } = self;
        let (daemon, done) = blocking(move || {
            let done = work(&mut daemon);
            (daemon, done)
        })
        .await;
        (Self { simulator, folder, daemon }, done)
    }

    async fn start(self) -> Self {
        self.with(|daemon| daemon.start(&[])).await.0
    }

    /// One mail; its id.
    async fn submit(self) -> (Self, String) {
        self.with(|daemon| {
            let reply = Client::greeted(daemon.door).submit(MAILBOX, &["you@example.com"], MAIL);
            reply.rsplit(' ').next().unwrap().to_owned()
        })
        .await
    }

    async fn until_accepted(&self, count: usize) {
        let waited = tokio::time::timeout(PATIENCE, self.simulator.wait_for_accepted(count)).await;
        assert!(waited.is_ok(), "{} of {count} mails arrived: {}", self.simulator.accepted_count(), self.daemon.said());
    }

    /// SIGTERM: the program keeps what is promised, and cuts nothing off but what is expected.
    async fn stop_in_time(self, cut_off: &[&str]) -> Self {
        let stop = |daemon: &mut Daemon| {
            let since = Instant::now();
            let code = daemon.terminate();
            assert_eq!(code, Some(0), "{}", daemon.said());
            assert!(since.elapsed() < CONTRACT, "it took {:?}: {}", since.elapsed(), daemon.said());
            daemon.said()
        };
        let (site, said) = self.with(stop).await;
        let cuts: Vec<&str> = said.lines().filter(|line| line.contains("is cut off")).collect();
        let is_expected = cuts.len() == cut_off.len() && cuts.iter().zip(cut_off).all(|(cut, what)| cut.contains(what));
        assert!(is_expected, "{cut_off:?} was to be cut off: {said}");
        assert!(
            said.trim_end().ends_with("stopped: what waits is on disk"),
            "the log does not tell of the end: {said}"
        );
        site
    }

    /// Waits until the message has left the queue; what its journal tells.
    async fn until_sent(self, id: &str) -> (Self, Vec<String>) {
        let id = id.to_owned();
        self.with(move |daemon| {
            let since = Instant::now();
            while daemon.json(&["queue", "list", "--json"]) != Value::Array(Vec::new()) {
                assert!(since.elapsed() < PATIENCE, "{}", daemon.said());
                std::thread::sleep(Duration::from_millis(50));
            }
            let shown = daemon.json(&["queue", "show", &id, "--json"]);
            let message = shown.get(0).unwrap_or(&shown);
            let lines = message["journal"].as_array().unwrap_or_else(|| panic!("no journal in {shown}"));
            lines.iter().map(|line| line["text"].as_str().unwrap().to_owned()).collect()
        })
        .await
    }

    async fn end(self) {
        let Self { simulator, folder, mut daemon } = self;
        assert_eq!(blocking(move || daemon.terminate()).await, Some(0));
        simulator.stop().await;
        drop(folder);
    }
}

fn is_in_doubt(journal: &[String]) -> bool {
    journal.iter().any(|line| line.contains("you@example.com in doubt"))
}

/// Exchange has the mail and never says so: the doubt is written down before the end, and the mail sent again.
async fn exchange_is_silent_behind_the_final_dot() {
    let site = Site::prepare().await.start().await;
    site.simulator.fault(Fault::at(Phase::DataEnd, Effect::KeepAndSilence).unwrap().times(1));
    let (site, id) = site.submit().await;
    site.until_accepted(1).await;
    let site = site.stop_in_time(&[]).await.start().await;
    site.until_accepted(2).await;
    let (site, journal) = site.until_sent(&id).await;
    assert!(is_in_doubt(&journal), "{journal:?}");
    assert_eq!(site.simulator.accepted_count(), 2);
    site.end().await;
}

/// No access token yet, and nobody who gives one.
async fn the_token_endpoint_is_silent() {
    let site = Site::prepare().await;
    site.simulator.fault(Fault::at(Phase::Token, Effect::Silence).unwrap());
    let mut events = site.simulator.watch();
    let site = site.start().await;
    let (site, id) = site.submit().await;
    let asked = async { while !matches!(events.recv().await.unwrap(), Event::Broken { .. }) {} };
    tokio::time::timeout(PATIENCE, asked).await.expect("nobody asks for a token");
    let site = site.stop_in_time(&[]).await;
    assert_eq!(site.simulator.accepted_count(), 0);
    site.simulator.clear_faults();
    let site = site.start().await;
    site.until_accepted(1).await;
    let (site, journal) = site.until_sent(&id).await;
    assert!(!is_in_doubt(&journal), "{journal:?}");
    assert_eq!(site.simulator.accepted_count(), 1);
    site.end().await;
}

/// One client that says nothing, and one that stays silent within a mail. That mail was not accepted.
async fn clients_are_silent() {
    let site = Site::prepare().await.start().await;
    let (site, (idle, sending)) = site
        .with(|daemon| {
            let idle = Client::greeted(daemon.door);
            let mut sending = Client::greeted(daemon.door);
            expect(&sending.ask("MAIL FROM:<lms@contoso.com>"), "250");
            expect(&sending.ask("RCPT TO:<you@example.com>"), "250");
            expect(&sending.ask("DATA"), "354");
            sending.send(MAIL.as_bytes());
            (idle, sending)
        })
        .await;
    let site = site.stop_in_time(&["a conversation"]).await;
    let (idle, sending) = blocking(move || (idle.rest(), sending.rest())).await;
    assert!(idle.starts_with("421 4.3.2"), "{idle}");
    assert!(!sending.contains("250"), "{sending}");
    let site = site.start().await;
    let (site, queue) = site.with(|daemon| daemon.json(&["queue", "list", "--json"])).await;
    assert_eq!(queue, Value::Array(Vec::new()));
    assert_eq!(site.simulator.accepted_count(), 0);
    site.end().await;
}

/// Together, since each of them waits for a deadline of the program.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_something_hangs_is_in_order_and_in_time() {
    tokio::join!(exchange_is_silent_behind_the_final_dot(), the_token_endpoint_is_silent(), clients_are_silent());
}

/// An orderly stop would first wait for Exchange's answer, and then write down that there is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_it_at_once() {
    let site = Site::prepare().await.start().await;
    site.simulator.fault(Fault::at(Phase::DataEnd, Effect::KeepAndSilence).unwrap().times(1));
    let (site, id) = site.submit().await;
    site.until_accepted(1).await;
    let (site, ()) = site
        .with(|daemon| {
            daemon.tell_to_stop();
            // The door is closed first.
            let since = Instant::now();
            while TcpStream::connect(daemon.door).is_ok() {
                assert!(since.elapsed() < PATIENCE, "{}", daemon.said());
                std::thread::sleep(Duration::from_millis(10));
            }
            daemon.tell_to_stop();
            assert_eq!(daemon.ended(), Some(0), "{}", daemon.said());
            assert!(daemon.said().contains("told to stop once more"), "{}", daemon.said());
        })
        .await;
    let site = site.start().await;
    site.until_accepted(2).await;
    let (site, journal) = site.until_sent(&id).await;
    assert!(!is_in_doubt(&journal), "it waited for the answer: {journal:?}");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_stopped_has_closed_its_queue() {
    let rig = Rig::start().await;
    let database = rig.folder.path().join("data/queue.db").canonicalize().unwrap();
    let open = || {
        let files = std::fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok);
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).filter(|file| *file == database).count()
    };
    assert!(open() > 1);
    rig.relay.stop().await;
    let since = Instant::now();
    // One is kept for good: `store/sqlite/checkpoint.rs` has the reason.
    while open() > 1 {
        assert!(since.elapsed() < PATIENCE, "somebody keeps it open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
