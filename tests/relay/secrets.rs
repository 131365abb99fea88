//! No secret is ever printed: the real program at `log = "trace"` is led through everything that touches a secret, and all that it said, and what it
//! left on disk unsealed, is searched for them.
//!
//! A new command goes into [`LOOKS`] or [`LOOKS_AWAY`]; whatever else has to do with secrets gets a line in [`everything`],
//! or in one of the files beside it.

pub mod ear;
mod people;
mod registration;

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use xoauth2_relay::simulator::{Fault, Options, Simulator};

use self::ear::Ear;
use crate::command_line::{Daemon, free_port, program};
use crate::support::{Client, MAILBOX, PATIENCE, blocking, configuration, quick};

/// What an administrator types to see how things stand.
const LOOKS: &[&[&str]] = &[
    &["status"],
    &["status", "--json"],
    &["account", "list"],
    &["account", "list", "--json"],
    &["account", "show", MAILBOX],
    &["account", "show", MAILBOX, "--json"],
    &["queue", "list"],
    &["queue", "list", "--json"],
    &["health"],
    &["health", "--json"],
];
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

/// The program in a folder, and whoever listens to it.
struct Site {
    simulator: Simulator,
    folder: TempDir,
    daemon: Daemon,
    checked: SocketAddr,
    ear: Ear,
    /// Hears what the other one does, but for the mail in the queue.
    letters: Ear,
}

impl Site {
    async fn prepare() -> Self {
        let options = Options {
            client_secret: Some(CLIENT_SECRET.to_owned()),
            device_interval: Duration::from_secs(1),
            auto_approve: Some(MAILBOX.to_owned()),
            ..quick()
        };
        let simulator = Simulator::start(options).await.unwrap();
        let folder = TempDir::new().unwrap();
        let (door, checked) = (free_port(), free_port());
        let extra = format!(
            "[queue]\nretry = [\"1s\"]\n[[listener]]\naddress = \"{door}\"\n\
             [[listener]]\naddress = \"{checked}\"\npassword = \"checked\"\n\
             [[app]]\nname = \"moodle\"\npassword = {APP_PASSWORD:?}\n"
        );
        let text = configuration(&simulator, folder.path(), &extra);
        let file = folder.path().join("client-secret");
        let from_file = format!("client_secret = {{ file = \"{}\" }}", file.display());
        let lines = text.lines().map(|line| if line.starts_with("client_secret") { &from_file } else { line });
        let text = format!("log = \"trace\"\n{}\n", lines.collect::<Vec<_>>().join("\n"));
        assert!(text.contains("client-secret"), "{text}");
        std::fs::write(folder.path().join("relay.toml"), text).unwrap();
        std::fs::write(&file, CLIENT_SECRET).unwrap();

        Self::at(simulator, folder, door, checked)
    }

    /// With the configuration in `folder`.
    fn at(simulator: Simulator, folder: TempDir, door: SocketAddr, checked: SocketAddr) -> Self {
        let mut ear = Ear::default();
        for (name, secret) in [
            ("the client secret", CLIENT_SECRET),
            ("a wrong client secret", WRONG_CLIENT_SECRET),
            ("the id of a secret", SECRET_ID),
            ("an app's password", APP_PASSWORD),
            ("a wrong password", WRONG_APP_PASSWORD),
            ("a password for nothing", ANY_PASSWORD),
            ("a wrong refresh token", WRONG_REFRESH_TOKEN),
            ("a misplaced secret", MISPLACED),
        ] {
            ear.keep(name, secret);
        }
        let (config, stderr) = (folder.path().join("relay.toml"), folder.path().join("stderr"));
        let mut letters = Ear::default();
        for (name, secret) in
            [("a reset link", RESET_TOKEN), ("a one-time code", ONE_TIME_CODE), ("the text of a mail", PRIVATE)]
        {
            letters.keep(name, secret);
        }
        Self { simulator, daemon: Daemon::at(config, door, stderr), checked, folder, ear, letters }
    }

    fn run(&mut self, arguments: &[&str]) -> Output {
        let output = program(&self.daemon.config).args(arguments).env("RUST_BACKTRACE", "full").output().unwrap();
        self.hear_output(&arguments.join(" "), &output);
        output
    }

    fn hear_output(&mut self, who: &str, output: &Output) {
        self.ear.hear(who, &output.stdout);
        self.ear.hear(who, &output.stderr);
    }

    /// A file in the folder with this in it.
    fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    fn take_in(&mut self, token: &str) -> Output {
        let file = self.file("token", token);
        self.run(&["login", MAILBOX, "--refresh-token-file", file.to_str().unwrap()])
    }

    /// Everything that can be asked now, and what is on disk.
    fn look(&mut self) {
        let asked = LOOKS.iter().map(|&look| {
            let mut command = program(&self.daemon.config);
            command.args(look).env("RUST_BACKTRACE", "full").stdout(Stdio::piped()).stderr(Stdio::piped());
            (look, command.spawn().unwrap())
        });
        // All at once: most of their time they wait.
        for (look, child) in asked.collect::<Vec<_>>() {
            self.hear_output(&look.join(" "), &child.wait_with_output().unwrap());
        }
        for name in ["queue.db", "queue.db-wal"] {
            let file = self.folder.path().join("data").join(name);
            self.ear.hear(name, &std::fs::read(file).unwrap_or_default());
        }
        let log = self.daemon.said();
        self.ear.hear("the log", log.as_bytes());
    }

    /// Everything in the database but the mail itself.
    fn look_into_columns(&mut self) {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let database = rusqlite::Connection::open_with_flags(self.folder.path().join("data/queue.db"), flags).unwrap();
        let names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'body'";
        let mut names = database.prepare(names).unwrap();
        let names: Vec<String> = names.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
        assert!(names.iter().any(|name| name == "journal") && names.len() > 5, "{names:?}");
        for name in names {
            let mut table = database.prepare(&format!("SELECT * FROM \"{name}\"")).unwrap();
            let columns = table.column_count();
            let mut rows = table.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                for column in 0..columns {
                    if let Ok(octets) = row.get_ref(column).unwrap().as_bytes() {
                        self.letters.hear(format!("the table {name}"), octets);
                    }
                }
            }
        }
    }

    /// Waits until `status --json` says this of the one account.
    fn until(&mut self, what: &str, is_so: impl Fn(&serde_json::Value) -> bool) {
        let since = Instant::now();
        loop {
            let status = self.daemon.json(&["status", "--json"]);
            if is_so(&status["accounts"][0]) {
                return self.look();
            }
            assert!(since.elapsed() < PATIENCE, "{what} never came true of {status:#}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The key of the sign-ins as it is now, and those before it if they are still there.
    fn keep_keys(&mut self) {
        for key in std::fs::read_to_string(self.folder.path().join("data/key")).unwrap_or_default().lines() {
            self.ear.keep("a key", key.trim());
        }
    }

    /// Ends the daemon in order, and hears its last words.
    fn stop(&mut self) {
        assert_eq!(self.daemon.terminate(), Some(0), "{}", self.daemon.said());
        self.look();
    }

    fn assert_nothing_was_told(&mut self) {
        self.keep_keys();
        let issued = self.simulator.issued_secrets();
        assert!(issued.len() > 8, "tokens were rotated: {}", issued.len());
        for token in issued {
            self.ear.keep("a token", &token);
        }
        let log = self.daemon.said();
        assert!(log.contains("TRACE") && log.contains("DEBUG"), "the log was to tell everything");
        let heard: usize = self.ear.said.iter().map(|(_, said)| said.len()).sum();
        assert!(heard > 100_000, "only {heard} octets were heard");
        let said = self.ear.said.iter().filter(|(who, _)| !who.starts_with("queue.db"));
        self.letters.said.extend(said.cloned());
        self.ear.assert_heard_no_secret();
        self.letters.assert_heard_no_secret();
    }

    fn until_held(&mut self, cause: &str) {
        self.until(cause, |account| account["hold"]["cause"] == cause);
    }

    fn release(&mut self) {
        self.run(&["account", "release", MAILBOX]);
    }
}

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

/// A secret in every place of the configuration where it is one, or where somebody may put it by mistake.
fn misplaced() -> Vec<String> {
    let account = "mailbox = \"lms@contoso.com\"\ntenant = \"contoso.onmicrosoft.com\"\n\
                   client_id = \"00000000-0000-0000-0000-000000000000\"\n";
    let in_account = [
        format!("client_secret = \"{MISPLACED}"),
        format!("client_secret = \"{MISPLACED}\" \"twice\""),
        format!("client_secret = [\"{MISPLACED}\"]"),
        format!("client_secret = {{ fil = \"{MISPLACED}\" }}"),
        format!("client_secret = {{ file = [\"{MISPLACED}\"] }}"),
        format!("client_secret = {{ command = [\"false\", \"{MISPLACED}\"] }}"),
        format!("client_secret = {{ command = \"{MISPLACED}\" }}"),
        format!("client_secrets = \"{MISPLACED}\""),
        format!("client_secret_expires = \"{MISPLACED}\""),
        format!("client_secret = \"{MISPLACED}\"\nclient_secret = \"{MISPLACED}\""),
        format!("client_secret = '''{MISPLACED}"),
        format!("token_url = \"https://svc:{MISPLACED}@login.example/token\""),
        format!("token_url = \"http://svc:{MISPLACED}@login.example/token\""),
        format!("smtp = \"svc:{MISPLACED}@smtp.example:587\""),
        format!("scopes = \"{MISPLACED}\""),
        format!("next_client_secret = [\"{MISPLACED}\"]"),
        format!("certificate = \"{MISPLACED}\""),
        format!("certificate = {{ certificate = \"cert.pem\", key = {{ text = \"{MISPLACED}\" }} }}"),
        format!("federated_token = [\"{MISPLACED}\"]"),
        format!("password = \"{MISPLACED}\""),
        format!("provider = \"smarthost\"\npassword = [\"{MISPLACED}\"]"),
    ];
    let mut texts: Vec<String> =
        in_account.iter().map(|line| format!("[[account]]\n{account}{line}\nsend_as = 3\n")).collect();
    for line in [
        format!("key = \"{MISPLACED}\""),
        format!("key = [\"{MISPLACED}\"]"),
        format!("[[app]]\npassword = \"{MISPLACED}\""),
        format!("[[app]]\nname = \"moodle\"\npassword = [\"{MISPLACED}\"]"),
        format!("[[app]]\nname = \"moodle\"\npasswords = \"{MISPLACED}\""),
        format!(
            "[[app]]\nname = \"moodle\"\npassword = {{ command = [\"sh\", \"-c\", 'echo \"{MISPLACED}\" | tee /dev/stderr; false'] }}"
        ),
        format!("[[app]]\nname = \"moodle\"\npassword = {{ command = [\"{MISPLACED}\"] }}"),
        format!("[[app]]\nname = \"moodle\"\npassword = {{ env = [\"{MISPLACED}\"] }}"),
        format!("[[listener]]\naddress = \"127.0.0.1:0\"\npassword = \"{MISPLACED}\""),
        format!("[alert]\nwebhook = \"{MISPLACED}\""),
        format!("[alert]\nwebhook = [{{ uri = \"https://hooks.example/{MISPLACED}\" }}]"),
        format!("[alert]\nwebhook = [{{ url = \"http://hooks.example/{MISPLACED}\" }}]"),
        format!("[alert]\nwebhook = [{{ url = \"ftp://svc:{MISPLACED}@hooks.example/\" }}]"),
        format!("[alert]\nwebhook = [{{ url = \"https://hooks.example/{MISPLACED}\", format = \"xml\" }}]"),
        format!("[alert]\nheartbeat_url = [\"{MISPLACED}\"]"),
        format!("[alert]\nheartbeat_url = \"hooks.example/{MISPLACED}\""),
        format!("[alert]\ncommand = \"page --token={MISPLACED}\""),
    ] {
        let (top, below) = if line.starts_with("key") { (line.as_str(), "") } else { ("", line.as_str()) };
        texts.push(format!("{top}\n[[account]]\n{account}send_as = 3\n{below}\n"));
    }
    texts
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
