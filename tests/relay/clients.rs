//! Where the programs are that nobody here wrote, and what is done about those that are missing.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Set by `tests/all`.
const TEST_ALL: &str = "XOAUTH2_RELAY_TEST_ALL";
/// Where `tests/all` unpacks what it does not install.
const CLIENTS: &str = "XOAUTH2_RELAY_CLIENTS";

/// The client's program, unless it is to be left out.
pub fn client(program: &str) -> Option<PathBuf> {
    let unpacked = std::env::var_os(CLIENTS).map(|clients| Path::new(&clients).join("postfix/usr/sbin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(unpacked);
    let found = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    if found.is_none() {
        left_out(program);
    }
    found
}

/// PHP with PHPMailer, unless it is to be left out.
pub fn php_with_phpmailer() -> Option<PathBuf> {
    let php = client("php")?;
    let is_there = Path::new("/usr/share/php/libphp-phpmailer/autoload.php").exists();
    if !is_there {
        left_out("PHPMailer (libphp-phpmailer)");
    }
    is_there.then_some(php)
}

/// Node.js as new as playwright-core and oidc-provider want it, unless it is to be left out. Debian 12 has an older one.
pub fn modern_node() -> Option<PathBuf> {
    let node = client("node")?;
    let version = run(Command::new(&node).arg("--version")).stdout;
    let version = String::from_utf8_lossy(&version).trim().trim_start_matches('v').to_owned();
    let is_modern =
        version.split('.').next().and_then(|major| major.parse().ok()).is_some_and(|major: u32| major >= 20);
    if !is_modern {
        left_out_without(
            "Node.js 20 or later",
            &format!("this one is {version}; Debian 13 and nodejs.org have later ones"),
        );
    }
    is_modern.then_some(node)
}

/// What `tests/all` has unpacked under this name, unless it is to be left out.
pub fn unpacked(name: &str) -> Option<PathBuf> {
    let found =
        std::env::var_os(CLIENTS).map(|clients| Path::new(&clients).join(name)).filter(|folder| folder.is_dir());
    if found.is_none() {
        left_out(name);
    }
    found
}

/// A file of ours that a client runs.
pub fn script(name: &str) -> String {
    format!("{}/tests/relay/clients/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A program that is not there: under `tests/all` a failure, otherwise said aloud.
pub fn left_out(program: &str) {
    left_out_without(program, "tests/all installs it");
}

/// The same for anything else; `remedy` says what it takes.
pub fn left_out_without(what: &str, remedy: &str) {
    assert!(std::env::var_os(TEST_ALL).is_none(), "there is no {what}: {remedy}");
    // Not `eprintln!`: the test's output is only shown when it fails, and this has to be seen.
    let _ = writeln!(std::io::stderr(), "\n*** LEFT OUT: there is no {what}, so its test did not run: {remedy}\n");
}

pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed with {}:\n{said}", output.status);
    output
}
