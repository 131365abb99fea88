//! A data folder that was copied: under another name it is held and leaves the original's sign-in alone; on another machine it only says so.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;
use xoauth2_relay::simulator::Simulator;

use crate::command_line::{Daemon, free_port, program};
use crate::support::{Client, MAILBOX, PATIENCE, blocking, configuration, quick};

const MAIL: &str = "From: lms@contoso.com\r\nSubject: hello\r\n\r\nhello\r\n";

fn run(config: &Path, arguments: &[&str]) -> Output {
    program(config).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

fn requests(simulator: &Simulator) -> u64 {
    simulator.statistics().token_requests.values().sum()
}

fn hold(daemon: &Daemon) -> Value {
    daemon.json(&["status", "--json"])["accounts"][0]["hold"].clone()
}

fn send(daemon: &Daemon) {
    let sent = run(&daemon.config, &["send-test", "you@example.com"]);
    assert!(sent.status.success(), "{}\n{}", said(&sent), daemon.said());
}

/// Puts the name into the configuration; `None` takes it out.
fn name(config: &Path, instance: Option<&str>) {
    let text = fs::read_to_string(config).unwrap();
    let rest: Vec<&str> = text.lines().filter(|line| !line.starts_with("instance = ")).collect();
    let name = instance.map(|name| format!("instance = {name:?}\n")).unwrap_or_default();
    fs::write(config, format!("{name}{}\n", rest.join("\n"))).unwrap();
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()));
        } else if kind.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// A relay of this name that has sent a mail and was stopped.
async fn original(instance: Option<&'static str>) -> (Simulator, TempDir, Daemon) {
    let simulator = Simulator::start(quick()).await.unwrap();
    let folder = TempDir::new().unwrap();
    let mut daemon = Daemon::prepare(&simulator, &folder).await;
    name(&daemon.config, instance);
    let daemon = blocking(move || {
        daemon.start(&[]);
        send(&daemon);
        assert_eq!(daemon.terminate(), Some(0));
        daemon
    })
    .await;
    (simulator, folder, daemon)
}

/// All of the data folder, key and all, with a configuration that names this instance.
fn copy(simulator: &Simulator, original: &TempDir, folder: &TempDir, instance: Option<&str>) -> Daemon {
    copy_folder(&original.path().join("data"), &folder.path().join("data"));
    let extra = format!("[queue]\nretry = [\"1s\"]\n[[listener]]\naddress = \"{}\"\n", free_port());
    let config = folder.path().join("relay.toml");
    fs::write(&config, configuration(simulator, folder.path(), &extra)).unwrap();
    name(&config, instance);
    Daemon::of(&config, folder)
}

fn until_waiting(daemon: &Daemon, wanted: u64) {
    let since = std::time::Instant::now();
    loop {
        let waiting = daemon.json(&["status", "--json"])["queue"]["waiting"].as_u64().unwrap();
        if waiting == wanted {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "{waiting} wait: {}", daemon.said());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

/// Held at every start, mail is taken, and not one token is asked for.
fn assert_held(copy: &mut Daemon, simulator: &Simulator, names: [&str; 2]) {
    let (asked, arrived) = (requests(simulator), simulator.accepted_count());
    for mails in 1..=2 {
        copy.start(&[]);
        Client::greeted(copy.door).submit(MAILBOX, &["you@example.com"], MAIL);
        let held = hold(copy);
        assert_eq!(held["cause"], "clone");
        let said_of_it = format!("belongs to the instance \"{}\", and this relay is \"{}\"", names[0], names[1]);
        assert!(held["error"].as_str().unwrap().ends_with(&said_of_it), "{held}");
        let remedy = held["remedy"].as_str().unwrap();
        assert!(remedy.contains("xoauth2-relay login lms@contoso.com"), "{remedy}");
        assert!(remedy.contains("xoauth2-relay account release lms@contoso.com"), "{remedy}");
        assert!(held["probe_at"].is_null());
        until_waiting(copy, mails);
        assert!(copy.said().contains(&said_of_it), "{}", copy.said());
        // A reload changes nothing about it.
        copy.signal("HUP");
        assert_eq!(hold(copy)["cause"], "clone");
        assert_eq!(copy.terminate(), Some(0));
    }
    assert_eq!((requests(simulator), simulator.accepted_count()), (asked, arrived));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_production_that_is_cloned_to_staging_is_held_until_it_has_a_sign_in_of_its_own() {
    let (simulator, folder, mut production) = original(Some("production")).await;
    blocking(move || {
        let elsewhere = TempDir::new().unwrap();
        let mut staging = copy(&simulator, &folder, &elsewhere, Some("staging"));
        assert_held(&mut staging, &simulator, ["production", "staging"]);

        staging.start(&[]);
        let token = elsewhere.path().join("token");
        fs::write(&token, simulator.issue_refresh_token(MAILBOX)).unwrap();
        let login = run(&staging.config, &["login", MAILBOX, "--refresh-token-file", token.to_str().unwrap()]);
        assert!(login.status.success(), "{}", said(&login));
        until_waiting(&staging, 0);
        assert!(hold(&staging).is_null());
        assert_eq!(staging.terminate(), Some(0));
        staging.start(&[]);
        send(&staging);
        assert!(hold(&staging).is_null(), "{}", staging.said());

        // The original has kept its own, and has not heard of anything.
        production.start(&[]);
        send(&production);
        assert!(hold(&production).is_null());
        assert_eq!((production.terminate(), staging.terminate()), (Some(0), Some(0)));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_staging_that_is_cloned_to_production_is_held_until_it_is_released() {
    let (simulator, folder, mut staging) = original(Some("staging")).await;
    blocking(move || {
        let elsewhere = TempDir::new().unwrap();
        let mut production = copy(&simulator, &folder, &elsewhere, Some("production"));
        assert_held(&mut production, &simulator, ["staging", "production"]);

        production.start(&[]);
        let released = run(&production.config, &["account", "release", MAILBOX]);
        assert!(said(&released).contains("is released, and its sign-in works"), "{}", said(&released));
        until_waiting(&production, 0);
        for _ in 0..2 {
            assert_eq!(production.terminate(), Some(0));
            production.start(&[]);
            send(&production);
            assert!(hold(&production).is_null(), "{}", production.said());
        }
        assert_eq!(production.terminate(), Some(0));
        // The folder has its new name: brought back under the old one, it is a copy itself.
        name(&production.config, Some("staging"));
        production.start(&[]);
        assert_eq!(hold(&production)["cause"], "clone");
        assert_eq!(production.terminate(), Some(0));
        staging.start(&[]);
        assert!(hold(&staging).is_null());
        assert_eq!(staging.terminate(), Some(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_without_a_running_relay_makes_a_copy_its_own_too() {
    let (simulator, folder, _production) = original(Some("production")).await;
    blocking(move || {
        let elsewhere = TempDir::new().unwrap();
        let mut staging = copy(&simulator, &folder, &elsewhere, Some("staging"));
        let token = elsewhere.path().join("token");
        fs::write(&token, simulator.issue_refresh_token(MAILBOX)).unwrap();
        let login = run(&staging.config, &["login", MAILBOX, "--refresh-token-file", token.to_str().unwrap()]);
        assert!(login.status.success(), "{}", said(&login));
        staging.start(&[]);
        send(&staging);
        assert_eq!(staging.terminate(), Some(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_is_added_to_a_running_copy_is_held_too() {
    let (simulator, folder, _production) = original(Some("production")).await;
    blocking(move || {
        let elsewhere = TempDir::new().unwrap();
        let mut staging = copy(&simulator, &folder, &elsewhere, Some("staging"));
        staging.start(&[]);
        let text = fs::read_to_string(&staging.config).unwrap();
        let (_, account) = text.split_once("[[account]]").unwrap();
        let account = account.split("[queue]").next().unwrap().replace("\"lms@", "\"erp@");
        fs::write(&staging.config, format!("{text}\n[[account]]{account}")).unwrap();
        staging.signal("HUP");
        let since = std::time::Instant::now();
        let held = loop {
            let added = staging.json(&["status", "--json"])["accounts"][1].clone();
            if added["hold"].is_object() {
                break added;
            }
            assert!(since.elapsed() < PATIENCE, "{added}: {}", staging.said());
            std::thread::sleep(std::time::Duration::from_millis(20));
        };
        assert_eq!(
            (held["mailbox"].as_str(), held["hold"]["cause"].as_str()),
            (Some("erp@contoso.com"), Some("clone"))
        );
        assert_eq!(staging.terminate(), Some(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_its_own_name_and_a_relay_without_one_are_not_punished() {
    let (simulator, folder, _production) = original(Some("production")).await;
    blocking(move || {
        for instance in [Some("production"), None] {
            let elsewhere = TempDir::new().unwrap();
            let mut restored = copy(&simulator, &folder, &elsewhere, instance);
            restored.start(&[]);
            send(&restored);
            assert!(hold(&restored).is_null());
            let told = restored.said().contains("instance is not configured any more");
            assert_eq!(told, instance.is_none(), "{}", restored.said());
            assert_eq!(restored.terminate(), Some(0));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_machine_is_told_in_the_log_once_and_holds_nothing() {
    let (simulator, folder, mut daemon) = original(None).await;
    if fs::read_to_string("/etc/machine-id").map_or(true, |id| id.trim().is_empty()) {
        eprintln!("left out: this machine has no id");
        return;
    }
    blocking(move || {
        let queue = rusqlite::Connection::open(folder.path().join("data/queue.db")).unwrap();
        let change = "UPDATE fact SET value = 'the mark of another machine' WHERE name = 'identity/machine'";
        assert_eq!(queue.execute(change, []).unwrap(), 1);
        drop(queue);
        for is_told in [true, false] {
            daemon.start(&[]);
            send(&daemon);
            assert!(hold(&daemon).is_null());
            assert_eq!(
                daemon.said().contains("if it is a copy of a relay that still runs"),
                is_told,
                "{}",
                daemon.said()
            );
            let id = fs::read_to_string("/etc/machine-id").unwrap();
            assert!(!daemon.said().contains(id.trim()));
            assert_eq!(daemon.terminate(), Some(0));
        }
        drop(simulator);
    })
    .await;
}
