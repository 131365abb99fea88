//! Whoever types `login`: the program itself, what it says, and what is pasted into it; on a machine with a relay or without one.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xoauth2_relay::clock::Clock;
use xoauth2_relay::relay::Relay;
use xoauth2_relay::simulator::{Options, Simulator};

use crate::command_line::program;
use crate::support::{LISTENER, PATIENCE, configuration, start_relay_at};

/// A folder with a configuration, and a simulated Microsoft 365 that fits it.
pub struct Site {
    pub simulator: Simulator,
    pub folder: TempDir,
}

impl Site {
    /// The account is one of Microsoft's, so that it matters who signs in.
    pub async fn with(options: Options) -> Self {
        Self::edited(options, |config| config).await
    }

    /// With another configuration than the one that fits.
    pub async fn edited(options: Options, edit: impl FnOnce(String) -> String) -> Self {
        let tenant = options.tenant.clone();
        let simulator = Simulator::start(options).await.unwrap();
        let folder = TempDir::new().unwrap();
        let fits = configuration(&simulator, folder.path(), &format!("[queue]\nretry = [\"1s\"]\n{LISTENER}"));
        let config = fits.replace("provider = \"custom\"", &format!("provider = \"microsoft\"\ntenant = \"{tenant}\""));
        std::fs::write(folder.path().join("relay.toml"), edit(config)).unwrap();
        Self { simulator, folder }
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("relay.toml")
    }

    /// A relay in this folder.
    pub async fn relay(&self, clock: Clock) -> Relay {
        relay(&self.config(), clock).await
    }

    pub fn login(&self, arguments: &[&str]) -> Login {
        Login::start(&self.config(), arguments)
    }
}

/// A relay of this configuration.
pub async fn relay(config: &Path, clock: Clock) -> Relay {
    let text = std::fs::read_to_string(config).unwrap();
    start_relay_at(&text, clock).await
}

/// `xoauth2-relay login …` as a process.
pub struct Login {
    child: Child,
    input: ChildStdin,
    said: PathBuf,
    _folder: TempDir,
}

impl Login {
    pub fn start(config: &Path, arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let said = folder.path().join("said");
        let out = File::create(&said).unwrap();
        let mut command = program(config);
        command.arg("login").args(arguments).stdin(Stdio::piped()).stdout(out.try_clone().unwrap()).stderr(out);
        let mut child = command.spawn().unwrap();
        let input = child.stdin.take().unwrap();
        Self { child, input, said, _folder: folder }
    }

    /// Everything on the terminal.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.said).unwrap()
    }

    /// Waits until it has said this.
    pub async fn until(&mut self, says: &str) -> String {
        let since = Instant::now();
        loop {
            let said = self.said();
            if said.contains(says) {
                return said;
            }
            let ended = self.child.try_wait().unwrap();
            assert!(ended.is_none() && since.elapsed() < PATIENCE, "{says:?} was never said ({ended:?}):\n{said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The address to open.
    pub async fn address(&mut self) -> String {
        let said = self.until("Waiting until").await;
        said.lines().find(|line| line.starts_with("http")).expect("an address on a line of its own").to_owned()
    }

    /// The page and the code of a device sign-in.
    pub async fn code(&mut self) -> (String, String) {
        let said = self.until("The code is good until").await;
        let behind = |word: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(word)).expect(word);
            line.trim().to_owned()
        };
        (behind("Open"), behind("Code"))
    }

    /// Types or pastes a line.
    pub fn paste(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        let kill = Command::new("kill").args(["-s", "INT"]).arg(self.child.id().to_string()).status();
        assert!(kill.unwrap().success());
    }

    /// Waits for its end: the exit code, and everything it said.
    pub async fn ended(mut self) -> (Option<i32>, String) {
        let since = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status.code(), self.said());
            }
            assert!(since.elapsed() < PATIENCE, "it still runs:\n{}", self.said());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for its end, which has to be a good one, and says this.
    pub async fn succeeds(self, sentence: &str) {
        self.ends(0, &[sentence]).await;
    }

    /// Waits for its end, which has to be a bad one, and says all of this.
    pub async fn fails(self, sentences: &[&str]) {
        self.ends(1, sentences).await;
    }

    async fn ends(self, expected: i32, sentences: &[&str]) {
        let (code, said) = self.ended().await;
        assert_eq!(code, Some(expected), "{said}");
        for sentence in sentences {
            assert!(said.contains(sentence), "{sentence:?} is not in\n{said}");
        }
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
