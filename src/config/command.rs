//! Runs the command of `{ command = ["…"] }`: no shell, a time limit, and nothing of its output in an error.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::Environment;
use super::secret::{MAX_LENGTH, cause};

/// How long a command may take: a password manager that asks a human would hang the relay.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// How often a running command is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What the command prints. The error says why there is nothing, to stand behind the command's name.
pub(super) fn output(command: &[String], environment: &Environment) -> Result<Zeroizing<Vec<u8>>, String> {
    output_within(TIME_LIMIT, command, environment)
}

fn output_within(limit: Duration, command: &[String], environment: &Environment) -> Result<Zeroizing<Vec<u8>>, String> {
    let (program, arguments) = command.split_first().ok_or("is empty")?;
    let deadline = Instant::now() + limit;
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(environment.iter())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot be started: {}", cause(&error)))?;
    let stdout = collect(child.stdout.take());
    let stderr = collect(child.stderr.take());
    let status = wait(&mut child, deadline)?.ok_or_else(|| format!("took longer than {} seconds", limit.as_secs()))?;
    // A child of the child may keep the pipes open, so that their end never comes.
    let left = || deadline.saturating_duration_since(Instant::now()).max(LOOK_AGAIN);
    if !status.success() {
        let stderr = stderr.recv_timeout(left()).unwrap_or_default();
        return Err(failure(status, &stderr));
    }
    stdout.recv_timeout(left()).map_err(|_| "ended, but something it started keeps its output open".to_owned())
}

/// Reads a pipe to its end, or to a little more than any secret is long, beside the waiting: a full pipe would stop the command.
fn collect(pipe: Option<impl Read + Send + 'static>) -> Receiver<Zeroizing<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut octets = Zeroizing::new(Vec::new());
        if let Some(pipe) = pipe {
            // What came before an error is all there is.
            let _ = pipe.take(MAX_LENGTH + 1).read_to_end(&mut octets);
        }
        // Nobody waits any more once the time is over.
        let _ = sender.send(octets);
    });
    receiver
}

/// Waits for the end of the command. `None`: it was stopped at the deadline.
fn wait(child: &mut Child, deadline: Instant) -> Result<Option<ExitStatus>, String> {
    let failed = |error: std::io::Error| format!("cannot be waited for: {}", cause(&error));
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill().and_then(|()| child.wait()).map_err(failed)?;
            return Ok(None);
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// How it failed, with what it said about it. Its standard output may hold the secret and is never shown.
fn failure(status: ExitStatus, stderr: &[u8]) -> String {
    let stderr = String::from_utf8_lossy(stderr);
    let said = stderr.lines().map(str::trim).find(|line| !line.is_empty());
    let how = match status.code() {
        Some(code) => format!("failed with exit code {code}"),
        None => format!("was ended ({status})"),
    };
    match said {
        Some(said) => {
            let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
            format!("{how}: {said}")
        }
        None => how,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Secret, SecretSource};
    use super::*;

    fn sh(script: &str) -> SecretSource {
        SecretSource::Command(vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()])
    }

    fn error(source: &SecretSource) -> String {
        source.read(&Environment::default()).unwrap_err().to_string()
    }

    #[test]
    fn what_a_command_prints_is_the_secret() {
        let environment = Environment::from([("GREETING", "s3cret")]);
        assert_eq!(sh("echo; echo \" $GREETING \"").read(&environment), Ok(Secret::new("s3cret")));
    }

    #[test]
    fn no_shell_reads_the_words() {
        let source = SecretSource::Command(vec!["/bin/echo".to_owned(), "$HOME; `id`".to_owned()]);
        assert_eq!(source.read(&Environment::default()), Ok(Secret::new("$HOME; `id`")));
    }

    #[test]
    fn a_failure_tells_what_it_said_but_never_its_output() {
        assert_eq!(
            error(&sh("echo hunter2; echo; echo 'vault is sealed' >&2; echo more >&2; exit 3")),
            "the command /bin/sh failed with exit code 3: vault is sealed"
        );
        assert_eq!(error(&sh("echo hunter2; exit 1")), "the command /bin/sh failed with exit code 1");
        assert!(error(&sh("kill -9 $$")).contains("was ended (signal: 9"));
    }

    #[test]
    fn a_command_without_a_secret_is_an_error() {
        assert_eq!(error(&sh("true")), "the command /bin/sh is empty");
        assert_eq!(error(&SecretSource::Command(vec![])), "the command  is empty");
        assert_eq!(
            error(&SecretSource::Command(vec!["/nowhere/tool".to_owned(), "--token=hunter2".to_owned()])),
            "the command /nowhere/tool cannot be started: No such file or directory"
        );
        assert!(error(&sh("while :; do echo xxxxxxxxxxxxxxxx; done")).contains("the command /bin/sh"));
    }

    #[test]
    fn a_command_that_hangs_is_stopped() {
        let command = ["/bin/sh", "-c", "exec sleep 600"].map(str::to_owned);
        let error =
            output_within(Duration::ZERO, &command, &Environment::from([("PATH", "/usr/bin:/bin")])).unwrap_err();
        assert_eq!(error, "took longer than 0 seconds");
    }
}
