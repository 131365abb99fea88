//! Accounts without a sign-in: a server that wants a user name and a password, or nothing at all.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use xoauth2_relay::message::Address;
use xoauth2_relay::relay::Relay;

use crate::command_line::{Daemon, free_port, program};
use crate::secrets::ear::Ear;
use crate::support::{Client, LISTENER, PATIENCE, blocking, start_relay_with, until_held, until_queue};

const MAILBOX: &str = "backup@school.example";
const USER: &str = "apikey";
const PASSWORD: &str = "pass/word+of\"the&provider-0123456789";
const WRONG: &str = "wrong/word+of\"the&provider-0123456789";
const MAIL: &str = "From: backup@school.example\r\nTo: you@example.com\r\nSubject: hello\r\n\r\nhello\r\n";

/// What the server has been told.
#[derive(Default)]
pub struct Heard {
    pub mails: Vec<String>,
    /// The answers to the messages are kept back.
    pub is_slow: bool,
    refused: usize,
}

/// A provider's server on loopback.
pub struct Host {
    pub address: SocketAddr,
    pub heard: Arc<Mutex<Heard>>,
}

impl Host {
    /// One that offers these mechanisms; without any it takes mail from everybody.
    pub fn start(mechanisms: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, heard) = (listener.local_addr().unwrap(), Arc::new(Mutex::default()));
        let told = Arc::clone(&heard);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let told = Arc::clone(&told);
                std::thread::spawn(move || talk(stream.unwrap(), mechanisms, &told));
            }
        });
        Self { address, heard }
    }

    pub async fn until(&self, what: &str, is_so: impl Fn(&Heard) -> bool) {
        let since = Instant::now();
        while !is_so(&self.heard.lock().unwrap()) {
            assert!(since.elapsed() < PATIENCE, "{what} never came true");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// One session, to its end; `None` when the other side has gone.
fn talk(mut stream: TcpStream, mechanisms: &str, heard: &Mutex<Heard>) -> Option<()> {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let mut say = move |text: &str| stream.write_all(format!("{text}\r\n").as_bytes()).ok();
    say("220 mx.provider.example ESMTP")?;
    let mut is_in = mechanisms.is_empty();
    loop {
        let line = lines.next()?;
        let mut words = line.split(' ');
        let shown = match words.next()? {
            "EHLO" => {
                let offer = if is_in { "250 8BITMIME".to_owned() } else { format!("250 AUTH {mechanisms}") };
                say(&format!("250-mx.provider.example\r\n{offer}"))?;
                continue;
            }
            "AUTH" if words.next()? == "PLAIN" => decoded(words.next()?).replace('\0', " ").trim().to_owned(),
            "AUTH" => {
                say("334 VXNlcm5hbWU6")?;
                let user = decoded(&lines.next()?);
                say("334 UGFzc3dvcmQ6")?;
                format!("{user} {}", decoded(&lines.next()?))
            }
            "DATA" => {
                say("354 go on")?;
                let mail: Vec<String> = lines.by_ref().take_while(|line| line != ".").collect();
                heard.lock().unwrap().mails.push(mail.join("\n"));
                while heard.lock().unwrap().is_slow {
                    std::thread::sleep(Duration::from_millis(5));
                }
                say("250 2.0.0 taken")?;
                continue;
            }
            "QUIT" => return say("221 bye"),
            "MAIL" if !is_in => {
                say("530 5.7.0 authentication required")?;
                continue;
            }
            _ => {
                say("250 2.1.0 fine")?;
                continue;
            }
        };
        is_in = shown == format!("{USER} {PASSWORD}");
        heard.lock().unwrap().refused += usize::from(!is_in);
        say(if is_in { "235 2.7.0 welcome" } else { "535 5.7.8 authentication failed" })?;
    }
}

fn decoded(text: &str) -> String {
    String::from_utf8(STANDARD.decode(text).unwrap()).unwrap()
}

fn configuration(folder: &TempDir, host: &Host, login: &str, extra: &str) -> String {
    format!(
        "hostname = \"relay.school.example\"\ndata_dir = \"{}\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [queue]\nretry = [\"1s\"]\n[[account]]\nmailbox = \"{MAILBOX}\"\nprovider = \"smarthost\"\nsmtp = \"{}\"\n\
         smtp_tls = \"none\"\nmessages_per_minute = 100000\n{login}\n{extra}\n",
        folder.path().join("data").display(),
        host.address,
    )
}

fn with_password(folder: &TempDir, password: &str) -> String {
    let file = folder.path().join("password");
    std::fs::write(&file, password).unwrap();
    format!("login = \"{USER}\"\npassword = {{ file = \"{}\" }}", file.display())
}

async fn submit(relay: &Relay) {
    let door = relay.listeners()[0];
    blocking(move || Client::greeted(door).submit(MAILBOX, &["you@example.com"], MAIL)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_leaves_with_a_password_in_either_way_and_without_one_where_none_is_wanted() {
    for (mechanisms, is_asked) in [("PLAIN LOGIN", true), ("LOGIN XOAUTH2", true), ("", false)] {
        let (folder, host) = (TempDir::new().unwrap(), Host::start(mechanisms));
        let login = if is_asked { with_password(&folder, PASSWORD) } else { String::new() };
        let relay = start_relay_with(&configuration(&folder, &host, &login, LISTENER)).await;
        submit(&relay).await;
        host.until("a mail", |heard| heard.mails.len() == 1).await;
        assert!(host.heard.lock().unwrap().mails[0].contains("Subject: hello"));
        until_queue(&relay, "an empty queue", <[_]>::is_empty).await;
        let status = relay.ops().status().await.unwrap();
        let account = &status.accounts[0];
        assert_eq!((account.provider.as_str(), account.grant.as_str()), ("smarthost", "none"));
        assert_eq!(account.login, if is_asked { USER } else { "" });
        assert!(account.hold.is_none() && account.sign_in.is_none() && account.trouble.is_none());
        let refused = relay.ops().login_begin(&Address::parse(MAILBOX).unwrap()).await.unwrap_err().to_string();
        assert!(refused.contains("nobody signs in"), "{refused}");
        relay.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_holds_the_account_and_the_right_one_frees_it_without_a_restart() {
    let (folder, host) = (TempDir::new().unwrap(), Host::start("PLAIN"));
    let relay = start_relay_with(&configuration(&folder, &host, &with_password(&folder, WRONG), LISTENER)).await;
    submit(&relay).await;
    let hold = until_held(&relay, true).await.unwrap();
    assert_eq!((hold.cause.as_str(), hold.reply.as_deref()), ("login", Some("535 5.7.8 authentication failed")));
    assert!(hold.text.contains("refuses the login as apikey"), "{}", hold.text);
    assert!(hold.remedy.contains("the secret file ") && hold.remedy.contains("account release"), "{}", hold.remedy);
    assert_eq!(host.heard.lock().unwrap().refused, 1, "a password is not tried again and again");
    assert_eq!(relay.ops().queue_list().await.unwrap()[0].tries, 0);

    with_password(&folder, PASSWORD);
    let released = relay.ops().account_release(&Address::parse(MAILBOX).unwrap()).await.unwrap();
    assert!(!released.has_sign_in && released.sign_in_problem.is_none());
    host.until("a mail", |heard| heard.mails.len() == 1).await;
    until_queue(&relay, "an empty queue", <[_]>::is_empty).await;
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_in_nothing_that_is_printed_or_stored() {
    let (folder, host) = (TempDir::new().unwrap(), Host::start("PLAIN LOGIN"));
    let door = free_port();
    let listener = format!("[[listener]]\naddress = \"{door}\"\n");
    let text = configuration(&folder, &host, &with_password(&folder, WRONG), &listener);
    let config = folder.path().join("relay.toml");
    std::fs::write(&config, format!("log = \"trace\"\n{text}")).unwrap();
    let mut daemon = Daemon::at(config.clone(), door, folder.path().join("stderr"));
    let mut ear = Ear::default();
    ear.keep("the password", PASSWORD);
    ear.keep("a wrong password", WRONG);
    blocking(move || {
        daemon.start(&[]);
        Client::greeted(door).submit(MAILBOX, &["you@example.com"], MAIL);
        let held = |daemon: &Daemon| daemon.json(&["status", "--json"])["accounts"][0]["hold"]["cause"] == "login";
        wait_for("a hold", || held(&daemon));
        with_password(&folder, PASSWORD);
        for command in [
            &["account", "release", MAILBOX][..],
            &["login", MAILBOX],
            &["status"],
            &["status", "--json"],
            &["account", "list"],
            &["account", "show", MAILBOX],
            &["account", "show", MAILBOX, "--json"],
            &["check-config"],
        ] {
            let output = program(&config).args(command).output().unwrap();
            ear.hear(command.join(" "), &output.stdout);
            ear.hear(command.join(" "), &output.stderr);
        }
        wait_for("a mail", || host.heard.lock().unwrap().mails.len() == 1);
        assert_eq!(daemon.terminate(), Some(0), "{}", daemon.said());
        for name in ["queue.db", "queue.db-wal"] {
            ear.hear(name, &std::fs::read(folder.path().join("data").join(name)).unwrap_or_default());
        }
        let log = daemon.said();
        assert!(log.contains("accepted"), "the log was to tell what left: {log}");
        ear.hear("the log", log.as_bytes());
        ear.assert_heard_no_secret();
    })
    .await;
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "{what} never came true");
        std::thread::sleep(Duration::from_millis(20));
    }
}
