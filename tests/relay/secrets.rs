//! No secret is ever printed: the real program at `log = "trace"` is led through everything that touches a secret, and all that it said, and what it
//! left on disk unsealed, is searched for them.
//!
//! A new command goes into [`LOOKS`](site::LOOKS) or [`LOOKS_AWAY`]; whatever else has to do with secrets gets a line in [`everything`],
//! or in one of the files beside it.

pub mod ear;
mod misplaced;
mod people;
mod registration;
mod site;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use xoauth2_relay::simulator::Fault;

use self::ear::Ear;
use self::misplaced::misplaced;
use self::site::Site;
use crate::command_line::program;
use crate::support::{Client, MAILBOX, PATIENCE, blocking};

/// What also answers without a running relay.
const LOOKS_AWAY: &[&[&str]] = &[&["check-config"], &["status"], &["health"], &["--help"]];

const MAIL: &str = "From: lms@contoso.com\r\nTo: you@example.com\r\nSubject: hello\r\n\r\nhello\r\n";

/// Secrets that nobody would say by chance, with what JSON, URLs and base64 have to escape in them.
const CLIENT_SECRET: &str = "cS8Q~right/client+secret\"value&0123456789";
const WRONG_CLIENT_SECRET: &str = "wS8Q~wrong/client+secret\"value&0123456789";
/// The id of a secret, which people paste in place of its value.
const SECRET_ID: &str = "5f0c1d2e-7a61-4b0f-9d35-c0ffee15bad1";
const APP_PASSWORD: &str = "app/passw0rd+of\"moodle&scanner";
const WRONG_APP_PASSWORD: &str = "app/passw0rd+that\"is&wrong";
const ANY_PASSWORD: &str = "any/passw0rd+of\"a&program";
const WRONG_REFRESH_TOKEN: &str = "1.AX0A-a-refresh-token/that+nobody-has-issued-0123456789";
/// What mail brings that somebody could use who reads it. It is in the mail, and nowhere else.
const RESET_LINK: &str = "https://lms.example/login/forgot_password.php?token=r3set/t0ken+0f-a-l1nk";
const RESET_TOKEN: &str = "r3set/t0ken+0f-a-l1nk";
const ONE_TIME_CODE: &str = "48213957";
const PRIVATE: &str = "what only the two of them know";
/// In the configuration where it does not belong.
const MISPLACED: &str = "mIsplaced/secret+Value&0123456789";

/// What is said to a listener is said by a program; the answers go into the log of that program.
///
/// Wrong passwords are answered slowly: only the first `ways` are tried.
fn logs_in(ear: &mut Ear, door: SocketAddr, user: &str, password: &str, ways: usize) {
    let plain = STANDARD.encode(format!("\0{user}\0{password}"));
    let (user, password) = (STANDARD.encode(user), STANDARD.encode(password));
    let all = [
        vec!["AUTH LOGIN".to_owned(), user.clone(), password.clone()],
        vec![format!("AUTH PLAIN {plain}")],
        vec!["AUTH PLAIN".to_owned(), plain.clone()],
        vec![format!("AUTH LOGIN {user}"), password.clone()],
        // Out of step: a password where a command is expected, and an AUTH that is none.
        vec![password.clone()],
        vec![format!("AUTH XOAUTH2 {plain}"), password.clone()],
        vec![format!("AUTH PLAIN {plain} {password}"), format!("AUTH {plain}")],
    ];
    for lines in all.into_iter().take(ways) {
        let mut client = Client::greeted(door);
        for line in lines {
            client.try_send(format!("{line}\r\n").as_bytes());
            let Some(reply) = client.try_reply() else { break };
            ear.hear(format!("the answer on {door}"), reply.as_bytes());
        }
    }
}

/// A request to the control socket as no command of ours makes it.
fn ask_control(ear: &mut Ear, data: &Path, request: &str) {
    let mut stream = UnixStream::connect(data.join("control.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.is_empty());
    ear.hear("the control socket", &answer);
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_printed_whatever_happens() {
    let mut site = Site::prepare().await;
    site = blocking(move || {
        everything(&mut site);
        site
    })
    .await;
    site.assert_nothing_was_told();
    site.simulator.stop().await;
}

/// The way of a relay through all that can happen to its secrets.
fn everything(site: &mut Site) {
    for (n, text) in misplaced().into_iter().enumerate() {
        let file = site.file(&format!("misplaced-{n}.toml"), &text);
        for command in ["check-config", "run", "status"] {
            let output = program(&file).arg(command).output().unwrap();
            assert!(!output.status.success(), "{command} was to find something wrong with {text}");
            site.hear_output(command, &output);
        }
    }
    for look in LOOKS_AWAY {
        site.run(look);
    }
    for (name, value) in [
        ("XOAUTH2_RELAY__KEY", MISPLACED),
        ("XOAUTH2_RELAY__KEYS", MISPLACED),
        ("XOAUTH2_RELAY__QUEUE__RETRY", MISPLACED),
    ] {
        for command in ["check-config", "run"] {
            let output = program(&site.daemon.config).arg(command).env(name, value).output().unwrap();
            assert!(!output.status.success() || command == "check-config", "{name} is wrong");
            site.hear_output(command, &output);
        }
    }

    // Signed in without the relay, then with it: by device code and by tokens, good and bad.
    assert!(site.run(&["login", MAILBOX]).status.success());
    site.daemon.start(&[("RUST_BACKTRACE", "full")]);
    site.look();
    assert!(site.run(&["login", MAILBOX]).status.success());
    assert!(!site.take_in(WRONG_REFRESH_TOKEN).status.success());
    assert!(!site.take_in(&format!("{MISPLACED} {MISPLACED}")).status.success());
    let token = site.simulator.issue_refresh_token(MAILBOX);
    assert!(site.take_in(&token).status.success());
    site.until("a sign-in", |account| account["sign_in"].is_object() && account["hold"].is_null());

    programs_send(site);
    control_is_misused(site);

    // Exchange refuses the login; then the sign-in is refused; then the client's secret. A start has no session to go on with.
    assert_eq!(site.daemon.terminate(), Some(0));
    let log = site.daemon.said();
    site.ear.hear("the first log", log.as_bytes());
    site.simulator.fault(Fault::row("535-5.7.3-generic").unwrap());
    site.daemon.start(&[("RUST_BACKTRACE", "full")]);
    Client::greeted(site.daemon.door).submit(MAILBOX, &["you@example.com"], MAIL);
    site.until_held("login");
    site.simulator.clear_faults();
    site.release();
    site.until("a release", |account| account["hold"].is_null() && account["queue"]["waiting"] == 0);
    for wrong in [WRONG_CLIENT_SECRET, SECRET_ID] {
        site.file("client-secret", wrong);
        site.release();
        site.until("a refused client", |account| !account["hold"].is_null() || !account["trouble"].is_null());
        site.run(&["login", MAILBOX]);
    }
    site.file("client-secret", CLIENT_SECRET);
    site.release();
    site.until("a release", |account| account["hold"].is_null() && account["trouble"].is_null());
    site.simulator.fault(Fault::row("http-5xx").unwrap().times(1));
    site.release();
    site.look();
    site.simulator.revoke_sign_ins(MAILBOX);
    site.release();
    site.until_held("sign_in");

    // A configuration with a secret in the wrong place is asked for, and then the relay is told to stop.
    let good = std::fs::read_to_string(&site.daemon.config).unwrap();
    site.file("relay.toml", &format!("client_secret = \"{MISPLACED}\"\n{good}"));
    site.daemon.signal("HUP");
    let since = Instant::now();
    while !site.daemon.said().contains("client_secret") {
        assert!(since.elapsed() < PATIENCE, "the reload never told what is wrong");
        std::thread::sleep(Duration::from_millis(20));
    }
    site.file("relay.toml", &good);
    site.look();
    assert_eq!(site.daemon.terminate(), Some(0));
    let log = site.daemon.said();
    site.ear.hear("the log", log.as_bytes());

    // A fault in the relay itself, while it has a new sign-in at hand.
    let token = site.simulator.issue_refresh_token(MAILBOX);
    site.take_in(&token);
    site.daemon.start(&[("RUST_BACKTRACE", "full"), ("XOAUTH2_RELAY_CRASH_AT", "panic/before_commit:4")]);
    let token = site.simulator.issue_refresh_token(MAILBOX);
    site.take_in(&token);
    site.run(&["login", MAILBOX]);
    site.run(&["send-test", "you@example.com"]);
    assert_eq!(site.daemon.ended(), Some(1));
    let log = site.daemon.said();
    assert!(log.contains("panicked at"), "{log}");
    site.ear.hear("the log of a panic", log.as_bytes());
}

/// With passwords, right and wrong, asked for or not; and by sendmail.
fn programs_send(site: &mut Site) {
    let (door, checked) = (site.daemon.door, site.checked);
    logs_in(&mut site.ear, door, "anybody", ANY_PASSWORD, 7);
    logs_in(&mut site.ear, checked, "moodle", APP_PASSWORD, 7);
    logs_in(&mut site.ear, checked, "moodle", WRONG_APP_PASSWORD, 2);
    logs_in(&mut site.ear, checked, "nobody", WRONG_APP_PASSWORD, 1);

    let mut client = Client::greeted(checked);
    let plain = STANDARD.encode(format!("\0moodle\0{APP_PASSWORD}"));
    assert!(client.ask(&format!("AUTH PLAIN {plain}")).starts_with("235"));
    client.submit(MAILBOX, &["you@example.com"], MAIL);
    let mut sendmail = program(&site.daemon.config);
    sendmail.args(["sendmail", "-t"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut sendmail = sendmail.spawn().unwrap();
    sendmail.stdin.take().unwrap().write_all(MAIL.replace("\r\n", "\n").as_bytes()).unwrap();
    let output = sendmail.wait_with_output().unwrap();
    assert!(output.status.success());
    site.hear_output("sendmail", &output);
    assert!(site.run(&["send-test", "you@example.com"]).status.success());
    site.run(&["account", "hold", MAILBOX]);
    Client::greeted(door).submit(MAILBOX, &["you@example.com"], MAIL);
    let queue = site.daemon.json(&["queue", "list", "--json"]);
    let id = queue[0]["id"].as_str().unwrap().to_owned();
    site.look();
    for command in [&["queue", "show", &id][..], &["queue", "show", &id, "--json"], &["queue", "delete", &id]] {
        assert!(site.run(command).status.success());
    }
    let ids = letters_wait(site, door);
    site.release();
    site.until("a release", |account| account["hold"].is_null() && account["queue"]["waiting"] == 0);
    letters_left(site, &ids);
}

/// Mail with secrets in it comes to a held account: its lane is told by what is in it.
fn letters_wait(site: &mut Site, door: SocketAddr) -> Vec<String> {
    site.simulator.fault(Fault::row("5.4.1-recipient-rejected").unwrap().for_recipient("gone@example.com"));
    let mut ids = Vec::new();
    for (sender, text) in
        [("jane@school.example", RESET_LINK), ("john@school.example", &format!("Code: {ONE_TIME_CODE}"))]
    {
        let mut client = Client::greeted(door);
        for line in [&format!("MAIL FROM:<{sender}> RET=FULL"), "RCPT TO:<gone@example.com>", "DATA"] {
            client.ask(line);
        }
        let head = format!("To: gone@example.com\r\nFrom: {sender}\r\nSubject: for you");
        client.send(format!("{head}\r\n\r\n{text}\r\n{PRIVATE}\r\n").as_bytes());
        let reply = client.ask(".");
        let (_, id) = reply.trim_end().rsplit_once(' ').unwrap();
        ids.push(id.to_owned());
    }
    for id in &ids {
        let shown = site.run(&["queue", "show", id, "--json"]);
        let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.contains("\"urgent\""), "what is in it says how it travels: {shown}");
        assert!(site.run(&["queue", "show", id]).status.success());
    }
    site.look();
    let has_mail = |(who, said): &(String, String)| who.starts_with("queue.db") && said.contains(PRIVATE);
    assert!(site.ear.said.iter().any(has_mail), "the search finds what is there");
    site.look_into_columns();
    ids
}

/// They were refused, and each sender has their own mail back, and nobody else's.
fn letters_left(site: &mut Site, ids: &[String]) {
    for (sender, own, other) in
        [("jane@school.example", RESET_TOKEN, ONE_TIME_CODE), ("john@school.example", ONE_TIME_CODE, RESET_TOKEN)]
    {
        let since = Instant::now();
        let notice = loop {
            let accepted = site.simulator.accepted();
            match accepted.into_iter().find(|mail| mail.recipients == [sender]) {
                Some(notice) => break String::from_utf8(notice.bytes.to_vec()).unwrap(),
                None => assert!(since.elapsed() < PATIENCE, "{sender} was never told"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        assert!(notice.contains(PRIVATE) && notice.contains(own) && !notice.contains(other), "RET=FULL: {notice}");
    }
    for id in ids {
        assert!(site.run(&["queue", "show", id]).status.success());
        assert!(site.run(&["queue", "show", id, "--json"]).status.success());
    }
    site.look();
    site.look_into_columns();
}

/// Orders that nobody can carry out, with tokens in them.
fn control_is_misused(site: &mut Site) {
    let data = site.folder.path().join("data");
    let path = format!("/accounts/{MAILBOX}/login/refresh-token");
    for body in [
        format!("{{\"refresh_token\": \"{MISPLACED}\""),
        format!("{{\"refresh_token\": [\"{MISPLACED}\"]}}"),
        format!("{{\"refresh_tokens\": \"{MISPLACED}\"}}"),
        format!("\"{MISPLACED}\""),
        format!("{{\"refresh_token\": \"{MISPLACED}\"}}"),
    ] {
        ask_control(&mut site.ear, &data, &post(&path, &body));
    }
    let nobody =
        post("/accounts/nobody@contoso.com/login/refresh-token", &format!("{{\"refresh_token\": \"{MISPLACED}\"}}"));
    ask_control(&mut site.ear, &data, &nobody);
}
