//! The key that seals sign-ins: lost, copied without, replaced, and replaced in the middle of a kill.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;
use xoauth2_relay::simulator::{Options, Simulator};

use crate::command_line::{Daemon, program};
use crate::support::{Client, MAILBOX, PATIENCE, blocking, configuration, quick};

const MAIL: &str = "From: lms@contoso.com\r\nSubject: hello\r\n\r\nhello\r\n";

fn run(config: &Path, arguments: &[&str]) -> Output {
    program(config).args(arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// Gives the account a sign-in of its own.
fn login(daemon: &Daemon, simulator: &Simulator, folder: &TempDir) {
    let token = folder.path().join("token");
    fs::write(&token, simulator.issue_refresh_token(MAILBOX)).unwrap();
    let done = run(&daemon.config, &["login", MAILBOX, "--refresh-token-file", token.to_str().unwrap()]);
    assert!(done.status.success(), "{}", said(&done));
}

/// Sends one more mail through a relay that runs, and waits for it.
fn send(daemon: &Daemon) {
    let sent = run(&daemon.config, &["send-test", "you@example.com"]);
    assert!(sent.status.success(), "{}\n{}", said(&sent), daemon.said());
}

/// The first account's hold; `Null` if there is none.
fn hold(daemon: &Daemon) -> serde_json::Value {
    daemon.json(&["status", "--json"])["accounts"][0]["hold"].clone()
}

fn until_held(daemon: &Daemon) -> serde_json::Value {
    let since = std::time::Instant::now();
    loop {
        let hold = hold(daemon);
        if !hold.is_null() {
            return hold;
        }
        assert!(since.elapsed() < PATIENCE, "never held: {}", daemon.said());
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn keys(data: &Path) -> Vec<String> {
    fs::read_to_string(data.join("key")).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn what_is_no_key_or_open_to_all_is_said_by_check_config() {
    use std::os::unix::fs::PermissionsExt;
    // Where others may come: a temporary folder is its owner's.
    let folder = TempDir::new_in("/var/tmp").unwrap();
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(folder.path(), 0o755);
    let (config, data) = (folder.path().join("relay.toml"), folder.path().join("data"));
    fs::create_dir(&data).unwrap();
    let check = |key: &str| {
        let text = format!(
            "{key}\ndata_dir = 'data'\n[[account]]\nmailbox = '{MAILBOX}'\ntenant = 'contoso.com'\n\
             client_id = '11111111-2222-3333-4444-555555555555'\n"
        );
        fs::write(&config, text).unwrap();
        let checked = run(&config, &["check-config"]);
        assert!(checked.status.success(), "{}", said(&checked));
        said(&checked)
    };
    let (good, short) = ("07".repeat(32), "hunter2");
    fs::write(folder.path().join("short"), short).unwrap();
    mode(&folder.path().join("short"), 0o600);
    for (key, expected) in [
        (format!("key = '{good}'"), None),
        (format!("key = '{short}'"), Some("warning: key: the secret in the configuration holds no key")),
        ("key = { file = 'short' }".to_owned(), Some("short holds no key")),
        (String::new(), None),
    ] {
        let said = check(&key);
        assert_eq!(said.contains("warning"), expected.is_some(), "{said}");
        assert!(said.contains(expected.unwrap_or_default()) && !said.contains(short), "{said}");
    }
    fs::write(data.join("key"), good).unwrap();
    mode(&data.join("key"), 0o600);
    assert!(!check("").contains("warning"));
    mode(&data.join("key"), 0o644);
    let said = check("");
    assert!(said.contains(&format!("chmod 600 {}", data.join("key").display())), "{said}");
}

async fn prepared() -> (Simulator, TempDir, Daemon) {
    prepared_with(quick()).await
}

async fn prepared_with(options: Options) -> (Simulator, TempDir, Daemon) {
    let simulator = Simulator::start(options).await.unwrap();
    let folder = TempDir::new().unwrap();
    let daemon = Daemon::prepare(&simulator, &folder).await;
    (simulator, folder, daemon)
}

/// A second relay with the database of the first one, and nothing else of it.
fn with_a_copy_of(simulator: &Simulator, original: &TempDir, folder: &TempDir) -> PathBuf {
    fs::create_dir(folder.path().join("data")).unwrap();
    for file in ["queue.db", "queue.db-wal"] {
        let from = original.path().join("data").join(file);
        if from.exists() {
            fs::copy(from, folder.path().join("data").join(file)).unwrap();
        }
    }
    let extra =
        format!("[queue]\nretry = [\"1s\"]\n[[listener]]\naddress = \"{}\"\n", crate::command_line::free_port());
    let config = folder.path().join("relay.toml");
    fs::write(&config, configuration(simulator, folder.path(), &extra)).unwrap();
    config
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_copied_without_its_key_takes_mail_and_says_what_it_lacks() {
    let (simulator, original, first) = prepared().await;
    let folder = TempDir::new().unwrap();
    let config = with_a_copy_of(&simulator, &original, &folder);
    blocking(move || {
        let asked = simulator.statistics().token_requests;
        let mut copy = Daemon::of(&config, &folder);
        copy.start(&[]);
        Client::greeted(copy.door).submit(MAILBOX, &["you@example.com"], MAIL);
        let hold = until_held(&copy);
        assert_eq!(hold["cause"], "key");
        let error = hold["error"].as_str().unwrap();
        assert!(error.contains("/data/key is missing, and the stored sign-ins are of no use without it"), "{error}");
        let remedy = hold["remedy"].as_str().unwrap();
        for command in ["xoauth2-relay account release lms@contoso.com", "xoauth2-relay login lms@contoso.com"] {
            assert!(remedy.contains(command), "{remedy}");
        }
        assert_eq!(simulator.statistics().token_requests, asked, "nothing was asked for");
        assert!(!folder.path().join("data/key").exists(), "a lost key is not replaced in silence");

        // The rotation has nothing to rotate.
        let rotated = run(&copy.config, &["rotate-key"]);
        assert_eq!(rotated.status.code(), Some(1));
        assert!(said(&rotated).contains("is missing"), "{}", said(&rotated));

        // A sign-in of its own makes it work, with the relay running; its key is another one.
        login(&copy, &simulator, &folder);
        send(&copy);
        assert!(hold_is_gone(&copy), "{}", copy.said());
        assert_eq!(copy.terminate(), Some(0));
        assert_ne!(keys(&folder.path().join("data")), keys(&original.path().join("data")));
        copy.start(&[]);
        send(&copy);
        assert_eq!(copy.terminate(), Some(0));

        // And without: then the key is made before anybody is asked to sign in.
        fs::remove_file(folder.path().join("data/key")).unwrap();
        login(&copy, &simulator, &folder);
        copy.start(&[]);
        send(&copy);
        assert_eq!(copy.terminate(), Some(0));
        drop(first);
    })
    .await;
}

fn hold_is_gone(daemon: &Daemon) -> bool {
    let since = std::time::Instant::now();
    while !hold(daemon).is_null() {
        if since.elapsed() > PATIENCE {
            return false;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_put_back_works_without_a_restart() {
    let (simulator, folder, mut daemon) = prepared().await;
    blocking(move || {
        let (key, aside) = (folder.path().join("data/key"), folder.path().join("aside"));
        fs::rename(&key, &aside).unwrap();
        daemon.start(&[]);
        Client::greeted(daemon.door).submit(MAILBOX, &["you@example.com"], MAIL);
        assert_eq!(until_held(&daemon)["cause"], "key");
        fs::rename(&aside, &key).unwrap();
        let released = run(&daemon.config, &["account", "release", MAILBOX]);
        assert!(said(&released).contains("is released, and its sign-in works"), "{}", said(&released));
        assert!(hold_is_gone(&daemon));
        assert_eq!(daemon.terminate(), Some(0));
        drop(simulator);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_takes_the_place_of_the_old_one_with_the_relay_running_and_without() {
    let (simulator, folder, mut daemon) = prepared().await;
    blocking(move || {
        let data = folder.path().join("data");
        let mut seen = vec![keys(&data)];
        let mut rotate = |daemon: &Daemon| {
            let rotated = run(&daemon.config, &["rotate-key"]);
            assert!(rotated.status.success(), "{}", said(&rotated));
            let text = said(&rotated);
            assert!(text.starts_with("1 stored sign-in sealed with the key "), "{text}");
            assert!(text.contains("the old one is gone"), "{text}");
            let now = keys(&data);
            assert!(now.len() == 1 && !seen.contains(&now), "one key, and a new one");
            seen.push(now);
            let shown = text.split_whitespace().nth(7).unwrap().to_owned();
            assert_eq!(shown.len(), 16, "the key's name: {text}");
            shown
        };
        rotate(&daemon);
        daemon.start(&[]);
        send(&daemon);
        let name = rotate(&daemon);
        let status = daemon.json(&["status", "--json"]);
        assert_eq!(status["key"]["id"], name.as_str());
        assert!(status["key"]["since"].is_string());
        assert!(said(&run(&daemon.config, &["status"])).contains(&format!("sealed with the key {name} since ")));
        // The sign-in is saved under the new key.
        assert!(run(&daemon.config, &["account", "release", MAILBOX]).status.success());
        send(&daemon);
        assert!(
            daemon.said().contains(&format!("a new key: 1 sign-in is sealed with {name} now")),
            "{}",
            daemon.said()
        );
        assert_eq!(daemon.terminate(), Some(0));
        daemon.start(&[]);
        send(&daemon);
        assert_eq!(daemon.terminate(), Some(0));
        let said = daemon.said();
        assert!(seen.iter().flatten().all(|key| !said.contains(key.as_str())), "no key is ever logged");
        drop(simulator);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configured_key_is_replaced_as_the_command_says() {
    let (simulator, folder, mut daemon) = prepared().await;
    blocking(move || {
        // The relay's own key moves out of the data folder: nothing but a place changes.
        let key = folder.path().join("configured-key");
        fs::rename(folder.path().join("data/key"), &key).unwrap();
        let text = fs::read_to_string(&daemon.config).unwrap();
        fs::write(&daemon.config, format!("key = {{ file = {key:?} }}\n{text}")).unwrap();
        daemon.start(&[]);
        send(&daemon);
        let refused = run(&daemon.config, &["rotate-key"]);
        assert_eq!(refused.status.code(), Some(1));
        assert!(said(&refused).contains("1. make a new one (openssl rand -base64 32)"), "{}", said(&refused));

        let old = fs::read_to_string(&key).unwrap();
        let new = "9a".repeat(32);
        fs::write(&key, format!("{new}\n{old}")).unwrap();
        let rotated = run(&daemon.config, &["rotate-key"]);
        assert!(rotated.status.success(), "{}", said(&rotated));
        assert!(said(&rotated).contains("Now take the old key away"), "{}", said(&rotated));
        daemon.kill();
        daemon.start(&[]);
        send(&daemon);
        fs::write(&key, new).unwrap();
        assert_eq!(daemon.terminate(), Some(0));
        daemon.start(&[]);
        send(&daemon);
        assert_eq!(daemon.terminate(), Some(0));
        assert!(!folder.path().join("data/key").exists());
        drop(simulator);
    })
    .await;
}

/// Debug builds can be told to die at named points.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_dies_at_any_point_loses_no_sign_in_and_is_finished_by_the_next_start() {
    const CRASH: &str = "XOAUTH2_RELAY_CRASH_AT";
    let (simulator, folder, mut daemon) = prepared().await;
    blocking(move || {
        let data = folder.path().join("data");
        for (point, on_disk) in [
            ("after_new_key", 2),
            ("before_commit", 2),
            ("after_commit_before_answer", 2),
            ("before_old_key_removal", 2),
        ] {
            // Without a relay: its first commit is that of the rotation.
            let before = keys(&data);
            let died = program(&daemon.config).arg("rotate-key").env(CRASH, point).output().unwrap();
            assert_eq!(died.status.code(), None, "{point} was not passed: {}", said(&died));
            assert_eq!(keys(&data).len(), on_disk, "{point}");
            daemon.start(&[]);
            send(&daemon);
            let after = keys(&data);
            assert!(after.len() == 1 && after != before, "{point}: the start has finished it: {}", daemon.said());
            // The start has renewed the sign-in; that is under the new key too.
            assert_eq!(daemon.terminate(), Some(0));
            daemon.start(&[]);
            send(&daemon);
            assert_eq!(daemon.terminate(), Some(0));
        }
        for point in ["after_new_key", "before_old_key_removal"] {
            daemon.start(&[(CRASH, point)]);
            let died = run(&daemon.config, &["rotate-key"]);
            assert_eq!(died.status.code(), Some(1));
            assert!(said(&died).contains("the relay was stopped before it had answered"), "{}", said(&died));
            daemon.ended();
            assert_eq!(keys(&data).len(), 2);
            daemon.start(&[]);
            send(&daemon);
            assert_eq!(keys(&data).len(), 1);
            assert_eq!(daemon.terminate(), Some(0));
        }
        drop(simulator);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_killed_while_keys_are_replaced_has_its_sign_in_every_time() {
    const KILLS: u64 = 8;
    let (simulator, folder, mut daemon) = prepared().await;
    blocking(move || {
        for round in 0..KILLS {
            daemon.start(&[]);
            let (config, is_over) = (daemon.config.clone(), Arc::new(AtomicBool::new(false)));
            let rotating = std::thread::spawn({
                let is_over = Arc::clone(&is_over);
                move || {
                    while !is_over.load(Ordering::Relaxed) {
                        // The sign-in is renewed and saved in between. The last rotation may find no relay, and does it alone.
                        run(&config, &["rotate-key"]);
                        run(&config, &["account", "release", MAILBOX]);
                    }
                }
            });
            // Any moment will do: nothing depends on which it is.
            std::thread::sleep(std::time::Duration::from_millis(50 + round * 97 % 300));
            is_over.store(true, Ordering::Relaxed);
            daemon.kill();
            rotating.join().unwrap();
            assert!(matches!(keys(&folder.path().join("data")).len(), 1 | 2));
        }
        daemon.start(&[]);
        send(&daemon);
        assert!(hold(&daemon).is_null());
        assert_eq!(keys(&folder.path().join("data")).len(), 1);
        assert_eq!(daemon.terminate(), Some(0));
        drop(simulator);
    })
    .await;
}
