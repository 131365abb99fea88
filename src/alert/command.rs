//! Starts the command for a notice: no shell, a time limit, the alert as JSON on its standard input.

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use super::format;
use super::notice::Notice;
use super::receiver::SendError;

/// How long it may take.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// How much of what it printed is logged, in characters.
const LONGEST_SAID: usize = 200;
/// What is shorter is no secret, in octets: `mail` may well be said.
const SHORTEST_SECRET: usize = 8;
/// What it gets of the relay's own environment, which may hold secrets otherwise.
const PASSED_ON: [&str; 6] = ["PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// Runs it to its end; what it said.
pub(super) async fn run(words: &[String], notice: &Notice) -> Result<String, SendError> {
    run_within(TIME_LIMIT, words, notice).await
}

async fn run_within(limit: Duration, words: &[String], notice: &Notice) -> Result<String, SendError> {
    let Some((program, arguments)) = words.split_first() else { return Err(SendError::new("command is empty")) };
    let passed_on = PASSED_ON.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let spawned = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(passed_on)
        .envs(variables(notice))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    // Arguments may be secrets: only the program is named.
    let child = spawned.map_err(|error| SendError::new(format!("{program} cannot be started: {error}")))?;
    let ended = tokio::time::timeout(limit, feed(child, format::json(notice))).await;
    let output =
        ended.map_err(|_| SendError::new(format!("{program} took longer than {} seconds", limit.as_secs())))?;
    let output = output.map_err(|error| SendError::new(format!("{program} cannot be waited for: {error}")))?;
    let said = said(&output, arguments).map(|said| format!(": {said}")).unwrap_or_default();
    match output.status.code() {
        Some(0) => Ok(format!("{program} ended well{said}")),
        Some(code) => Err(SendError::new(format!("{program} failed with exit code {code}{said}"))),
        None => Err(SendError::new(format!("{program} was ended ({})", output.status))),
    }
}

async fn feed(mut child: Child, input: Vec<u8>) -> std::io::Result<Output> {
    let stdin = child.stdin.take();
    let write = async {
        if let Some(mut stdin) = stdin {
            // A command that does not read its input is none the worse for it.
            let _ = stdin.write_all(&input).await;
        }
    };
    // Both at once: a command may print before it has read all.
    tokio::join!(write, child.wait_with_output()).1
}

/// For those who do not want to read JSON.
fn variables(notice: &Notice) -> [(&'static str, String); 5] {
    let state =
        if notice.is_solved() { "solved" } else { notice.items.first().map_or("raised", |item| item.state.as_str()) };
    let account = match notice.items.as_slice() {
        [item] => item.cause.as_ref().and_then(|cause| cause.account.as_ref()).map(ToString::to_string),
        _ => None,
    };
    [
        ("ALERT_TITLE", notice.title()),
        ("ALERT_TEXT", notice.text()),
        ("ALERT_STATE", state.to_owned()),
        ("ALERT_SEVERITY", notice.severity().to_string()),
        ("ALERT_ACCOUNT", account.unwrap_or_default()),
    ]
}

/// The first line of what it printed: of its errors, if there are any. Left out if it repeats an argument, which may be a secret.
fn said(output: &Output, arguments: &[String]) -> Option<String> {
    let text = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    let text = String::from_utf8_lossy(text);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    let mut values = arguments.iter().map(|word| word.split_once('=').map_or(word.as_str(), |(_, value)| value));
    if values.any(|value| value.len() >= SHORTEST_SECRET && line.contains(value)) {
        return None;
    }
    Some(line.chars().filter(|c| !c.is_control()).take(LONGEST_SAID).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::format::samples;

    fn sh(script: &str) -> Vec<String> {
        ["/bin/sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn it_gets_the_alert_as_json_and_in_variables_and_nothing_else_of_our_environment() {
        let folder = tempfile::tempdir().unwrap();
        let (json, vars) = (folder.path().join("json"), folder.path().join("vars"));
        let script = format!("cat > {}; env > {}; echo paged", json.display(), vars.display());
        let notice = samples::dead_sign_in();
        assert_eq!(run(&sh(&script), &notice).await.unwrap(), "/bin/sh ended well: paged");
        assert_eq!(std::fs::read(json).unwrap(), format::json(&notice));
        let vars = std::fs::read_to_string(vars).unwrap();
        for line in [
            "ALERT_TITLE=Mail through lms@contoso.com has stopped",
            "ALERT_STATE=raised",
            "ALERT_SEVERITY=critical",
            "ALERT_ACCOUNT=lms@contoso.com",
        ] {
            assert!(vars.lines().any(|var| var == line), "{line} is not in {vars}");
        }
        assert!(!vars.contains("CARGO"), "{vars}");
    }

    #[tokio::test]
    async fn how_it_failed_is_told_without_its_arguments() {
        let notice = samples::dead_sign_in();
        for (words, error) in [
            (sh("echo 'no signal' >&2; exit 3"), "/bin/sh failed with exit code 3: no signal"),
            (sh("kill -9 $$"), "/bin/sh was ended (signal: 9 (SIGKILL))"),
            (
                vec!["/nowhere/page".to_owned(), "--token=hunter2".to_owned()],
                "/nowhere/page cannot be started: No such file or directory (os error 2)",
            ),
        ] {
            assert_eq!(run(&words, &notice).await.unwrap_err().text, error);
        }
        for (script, said) in
            [("echo \"no $0, $1\"", ": no mail, 12"), ("echo \"no $2\"", ""), ("echo \"no ${2#*=}\"", "")]
        {
            let words = [sh(script), ["mail", "12", "--token=hunter2-hunter2"].map(str::to_owned).to_vec()].concat();
            assert_eq!(run(&words, &notice).await.unwrap(), format!("/bin/sh ended well{said}"));
        }
        let error = run_within(Duration::ZERO, &sh("exec sleep 600"), &notice).await.unwrap_err();
        assert_eq!(error.text, "/bin/sh took longer than 0 seconds");
    }

    #[tokio::test]
    async fn one_that_does_not_read_or_prints_much_is_no_trouble() {
        let notice = samples::dead_sign_in();
        assert_eq!(run(&sh("exec <&-"), &notice).await.unwrap(), "/bin/sh ended well");
        let said = run(&sh("head -c 300000 /dev/zero | tr '\\0' x"), &notice).await.unwrap();
        assert_eq!(said.len(), "/bin/sh ended well: ".len() + LONGEST_SAID);
    }
}
