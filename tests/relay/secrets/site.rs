//! The program in a folder, and whoever listens to all that it says.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xoauth2_relay::simulator::{Options, Simulator};

use super::ear::Ear;
use super::{
    ANY_PASSWORD, APP_PASSWORD, CLIENT_SECRET, MISPLACED, ONE_TIME_CODE, PRIVATE, RESET_TOKEN, SECRET_ID,
    WRONG_APP_PASSWORD, WRONG_CLIENT_SECRET, WRONG_REFRESH_TOKEN,
};
use crate::command_line::{Daemon, free_port, program};
use crate::support::{MAILBOX, PATIENCE, configuration, quick};

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

/// The program in a folder, and whoever listens to it.
pub struct Site {
    pub simulator: Simulator,
    pub folder: TempDir,
    pub daemon: Daemon,
    pub checked: SocketAddr,
    pub ear: Ear,
    /// Hears what the other one does, but for the mail in the queue.
    pub letters: Ear,
}

impl Site {
    pub async fn prepare() -> Self {
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
    pub fn at(simulator: Simulator, folder: TempDir, door: SocketAddr, checked: SocketAddr) -> Self {
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

    pub fn run(&mut self, arguments: &[&str]) -> Output {
        let output = program(&self.daemon.config).args(arguments).env("RUST_BACKTRACE", "full").output().unwrap();
        self.hear_output(&arguments.join(" "), &output);
        output
    }

    pub fn hear_output(&mut self, who: &str, output: &Output) {
        self.ear.hear(who, &output.stdout);
        self.ear.hear(who, &output.stderr);
    }

    /// A file in the folder with this in it.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    pub fn take_in(&mut self, token: &str) -> Output {
        let file = self.file("token", token);
        self.run(&["login", MAILBOX, "--refresh-token-file", file.to_str().unwrap()])
    }

    /// Everything that can be asked now, and what is on disk.
    pub fn look(&mut self) {
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
    pub fn look_into_columns(&mut self) {
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
    pub fn until(&mut self, what: &str, is_so: impl Fn(&serde_json::Value) -> bool) {
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
    pub fn keep_keys(&mut self) {
        for key in std::fs::read_to_string(self.folder.path().join("data/key")).unwrap_or_default().lines() {
            self.ear.keep("a key", key.trim());
        }
    }

    /// Ends the daemon in order, and hears its last words.
    pub fn stop(&mut self) {
        assert_eq!(self.daemon.terminate(), Some(0), "{}", self.daemon.said());
        self.look();
    }

    pub fn assert_nothing_was_told(&mut self) {
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

    pub fn until_held(&mut self, cause: &str) {
        self.until(cause, |account| account["hold"]["cause"] == cause);
    }

    pub fn release(&mut self) {
        self.run(&["account", "release", MAILBOX]);
    }
}
