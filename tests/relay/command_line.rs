//! The program itself: what it prints, and how it ends.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use xoauth2_relay::simulator::Simulator;

use crate::support::{Client, MAILBOX, PATIENCE, blocking, configuration, expect, quick};

const MAIL: &str = "From: lms@contoso.com\r\nSubject: hello\r\n\r\nhello\r\n";

pub fn program(config: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_xoauth2-relay"));
    command.arg("--config").arg(config).env_remove("XOAUTH2_RELAY_CONFIG").stdin(Stdio::null());
    command
}

fn run(config: &Path, arguments: &[&str]) -> Output {
    program(config).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Fails with this code and one line on stderr that says so.
fn assert_fails(output: &Output, code: i32, says: &str) {
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(says), "{says:?} is not in {said:?}");
    assert_eq!(said.trim_end().lines().count(), 1, "one line, not {said:?}");
}

/// A port that nobody uses just now.
pub fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The daemon as a process of its own.
pub struct Daemon {
    pub config: PathBuf,
    pub door: SocketAddr,
    child: Option<Child>,
    stderr: PathBuf,
}

impl Daemon {
    /// Writes the configuration, and signs in before anything runs.
    pub async fn prepare(simulator: &Simulator, folder: &TempDir) -> Self {
        let door = free_port();
        let extra = format!("[queue]\nretry = [\"1s\"]\n[[listener]]\naddress = \"{door}\"\n");
        let config = folder.path().join("relay.toml");
        std::fs::write(&config, configuration(simulator, folder.path(), &extra)).unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, simulator.issue_refresh_token(MAILBOX)).unwrap();
        let arguments = ["login", MAILBOX, "--refresh-token-file", token.to_str().unwrap()].map(str::to_owned);
        let output = blocking({
            let config = config.clone();
            move || run(&config, &arguments.each_ref().map(String::as_str))
        })
        .await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains("is signed in as lms@contoso.com"), "{}", text(&output.stdout));
        Self { config, door, child: None, stderr: folder.path().join("stderr") }
    }

    /// With a configuration that is there already, in a folder of its own.
    pub fn of(config: &Path, folder: &TempDir) -> Self {
        let text = std::fs::read_to_string(config).unwrap();
        let behind = text.split("[[listener]]\naddress = \"").nth(1).unwrap();
        let door = behind.split('"').next().unwrap().parse().unwrap();
        Self::at(config.to_owned(), door, folder.path().join("stderr"))
    }

    /// One whose configuration is there already.
    pub fn at(config: PathBuf, door: SocketAddr, stderr: PathBuf) -> Self {
        Self { config, door, child: None, stderr }
    }

    /// Starts it and waits for `ready`.
    pub fn start(&mut self, environment: &[(&str, &str)]) {
        let mut command = program(&self.config);
        command.arg("run").envs(environment.iter().copied()).stdout(Stdio::null());
        self.spawn(command, environment);
    }

    /// Starts it by another program, which is told what to run, and waits for `ready`.
    pub fn start_by(&mut self, other: impl FnOnce(&Command) -> Command) {
        let mut command = program(&self.config);
        command.arg("run");
        let command = other(&command);
        self.spawn(command, &[]);
    }

    fn spawn(&mut self, mut command: Command, environment: &[(&str, &str)]) {
        command.stderr(File::create(&self.stderr).unwrap());
        self.child = Some(command.spawn().unwrap());
        let since = Instant::now();
        while !self.said().lines().any(|line| line == "ready") {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            // Told to crash, it may do so before it is ready.
            if ended.is_some() && !environment.is_empty() {
                return;
            }
            assert!(ended.is_none() && since.elapsed() < PATIENCE, "never ready: {}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM; the exit code.
    pub fn terminate(&mut self) -> Option<i32> {
        self.tell_to_stop();
        self.ended()
    }

    /// SIGTERM, not waited for.
    pub fn tell_to_stop(&self) {
        self.signal("TERM");
    }

    pub fn signal(&self, name: &str) {
        let child = self.child.as_ref().unwrap();
        let kill = Command::new("kill").args(["-s", name]).arg(child.id().to_string()).status();
        assert!(kill.unwrap().success());
    }

    /// Whether it has ended by itself.
    pub fn has_ended(&mut self) -> bool {
        self.child.as_mut().unwrap().try_wait().unwrap().is_some()
    }

    /// Waits for its end; the exit code.
    pub fn ended(&mut self) -> Option<i32> {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.as_mut().unwrap().try_wait().unwrap() {
                self.child = None;
                return status.code();
            }
            assert!(since.elapsed() < PATIENCE, "it does not end: {}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub fn json(&self, arguments: &[&str]) -> Value {
        let output = run(&self.config, arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_says_ready_answers_the_commands_and_ends_in_order() {
    let simulator = Simulator::start(quick()).await.unwrap();
    let folder = TempDir::new().unwrap();
    let mut daemon = Daemon::prepare(&simulator, &folder).await;
    blocking(move || {
        daemon.start(&[]);
        Client::greeted(daemon.door).submit(MAILBOX, &["you@example.com"], MAIL);

        let sent = run(&daemon.config, &["send-test", "you@example.com"]);
        assert!(text(&sent.stdout).starts_with("accepted by Exchange through lms@contoso.com: 250 2.0.0 OK"));
        assert_eq!(sent.status.code(), Some(0));
        assert_eq!(daemon.json(&["queue", "list", "--json"]), Value::Array(Vec::new()));

        let hold = run(&daemon.config, &["account", "hold", MAILBOX]);
        assert!(hold.status.success(), "{}", text(&hold.stderr));
        Client::greeted(daemon.door).submit(MAILBOX, &["you@example.com"], MAIL);
        let status = daemon.json(&["status", "--json"]);
        assert_eq!(status["accounts"][0]["hold"]["cause"], "manual");
        let queue = daemon.json(&["queue", "list", "--json"]);
        let id = queue[0]["id"].as_str().unwrap().to_owned();
        for (key, value) in [("state", "held"), ("lane", "normal"), ("app", "default")] {
            assert_eq!(queue[0][key], value);
        }
        assert_eq!(queue[0]["recipients"][0]["address"], "you@example.com");
        let lane = run(&daemon.config, &["queue", "lane", "urgent", &id]);
        assert_eq!(text(&lane.stdout), "1 message in the lane urgent now\n", "{}", text(&lane.stderr));
        let queue = daemon.json(&["queue", "list", "--json"]);
        assert_eq!((&queue[0]["lane"], &queue[0]["lane_why"]), (&"urgent".into(), &"an administrator said so".into()));
        let wrong = run(&daemon.config, &["queue", "lane", "fast", &id]);
        assert_eq!(wrong.status.code(), Some(2));
        assert!(text(&wrong.stderr).contains("write urgent, normal or bulk"), "{}", text(&wrong.stderr));
        let shown = run(&daemon.config, &["queue", "show", &id]);
        assert!(text(&shown.stdout).contains("you@example.com"), "{}", text(&shown.stdout));
        for command in [&["status"][..], &["queue", "list"], &["account", "list"]] {
            let output = run(&daemon.config, command);
            assert!(output.status.success() && text(&output.stdout).contains(MAILBOX), "{command:?}");
        }
        assert_fails(
            &run(&daemon.config, &["queue", "retry", "0000000000000"]),
            1,
            "there is no message 0000000000000",
        );
        assert_fails(
            &run(&daemon.config, &["account", "release", "who@contoso.com"]),
            1,
            "there is no account who@contoso.com",
        );
        assert!(run(&daemon.config, &["queue", "delete", &id]).status.success());
        assert!(run(&daemon.config, &["account", "release", MAILBOX]).status.success());

        assert_eq!(daemon.terminate(), Some(0), "{}", daemon.said());
        assert_fails(&run(&daemon.config, &["status"]), 3, "the relay is not running");
        let secrets = ["Bearer ", "refresh_token"];
        assert!(secrets.iter().all(|secret| !daemon.said().contains(secret)), "{}", daemon.said());
    })
    .await;
    assert_eq!(simulator.accepted_count(), 2);
    simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_signs_in_by_device_code_while_the_relay_runs() {
    let options = xoauth2_relay::simulator::Options { device_interval: Duration::from_millis(100), ..quick() };
    let simulator = Simulator::start(options).await.unwrap();
    let folder = TempDir::new().unwrap();
    let mut daemon = Daemon::prepare(&simulator, &folder).await;
    let (shown, login) = blocking(move || {
        daemon.start(&[]);
        let shown = folder.path().join("shown");
        let stdout = File::create(&shown).unwrap();
        let login = program(&daemon.config).args(["login", MAILBOX]).stdout(stdout).spawn().unwrap();
        let since = Instant::now();
        let code = loop {
            let said = std::fs::read_to_string(&shown).unwrap();
            if let Some(code) = said.lines().find_map(|line| line.strip_prefix("Code   ")) {
                break code.to_owned();
            }
            assert!(since.elapsed() < PATIENCE, "{said}");
            std::thread::sleep(Duration::from_millis(10));
        };
        (code, (login, shown, daemon, folder))
    })
    .await;
    assert!(simulator.approve(&shown, MAILBOX));
    blocking(move || {
        let (mut login, shown, mut daemon, _folder) = login;
        assert!(login.wait().unwrap().success());
        let said = std::fs::read_to_string(shown).unwrap();
        assert!(said.ends_with("lms@contoso.com is signed in as lms@contoso.com\n"), "{said}");
        assert_eq!(daemon.terminate(), Some(0));
    })
    .await;
    simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stands_in_the_way_of_a_start_is_said_in_one_line() {
    let simulator = Simulator::start(quick()).await.unwrap();
    let folder = TempDir::new().unwrap();
    let mut daemon = Daemon::prepare(&simulator, &folder).await;
    let elsewhere = TempDir::new().unwrap();
    let another = elsewhere.path().join("another.toml");
    let same_port =
        configuration(&simulator, elsewhere.path(), &format!("[[listener]]\naddress = \"{}\"\n", daemon.door));
    std::fs::write(&another, same_port).unwrap();
    blocking(move || {
        assert_fails(&run(&daemon.config, &["health"]), 3, "the relay is not running: nobody answers on");
        daemon.start(&[]);
        assert_fails(&run(&daemon.config, &["run"]), 1, "another xoauth2-relay is running on");
        for arguments in [&["status"][..], &["status", "--json"]] {
            let mut status = program(&daemon.config);
            let mut status = status.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            // As `status | head` does once it has seen enough.
            drop(status.stdout.take());
            let ended = status.wait_with_output().unwrap();
            assert_eq!((ended.status.code(), self::text(&ended.stderr).as_str()), (Some(0), ""), "{arguments:?}");
        }
        assert_fails(&run(&another, &["run"]), 1, &format!("cannot listen on {}: another program", daemon.door));
        assert_eq!(daemon.terminate(), Some(0));

        let missing = elsewhere.path().join("missing.toml");
        assert_fails(&run(&missing, &["run"]), 2, "cannot be read");

        // A file where the folder should be: not even root can write there.
        let text = std::fs::read_to_string(&another).unwrap();
        std::fs::write(elsewhere.path().join("file"), "").unwrap();
        let unwritable = text.replace("/data\"", "/file/data\"");
        std::fs::write(&another, unwritable).unwrap();
        assert_fails(&run(&another, &["run"]), 1, "/file/data");

        std::fs::write(&another, "[[account]]\nmailbox = 3\ncolour = \"red\"\n[queue]\nretry = []\n").unwrap();
        let problems = run(&another, &["check-config"]);
        assert_eq!(problems.status.code(), Some(1));
        let said = self::text(&problems.stderr);
        for part in
            ["another.toml:2: account[0].mailbox", "another.toml:3: account[0].colour", "another.toml:5: queue.retry"]
        {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        assert_eq!(run(&another, &["no-such-command"]).status.code(), Some(2));
    })
    .await;
    simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_of_a_session_says_so_to_the_client() {
    let simulator = Simulator::start(quick()).await.unwrap();
    let folder = TempDir::new().unwrap();
    let mut daemon = Daemon::prepare(&simulator, &folder).await;
    blocking(move || {
        daemon.start(&[]);
        let mut client = Client::greeted(daemon.door);
        expect(&client.ask("MAIL FROM:<lms@contoso.com>"), "250");
        assert_eq!(daemon.terminate(), Some(0));
        assert!(client.rest().starts_with("421 "));
    })
    .await;
    simulator.stop().await;
}
