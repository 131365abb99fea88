//! A password from a terminal, without showing it.

use std::io::{self, BufRead, IsTerminal, Stdin, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::config::Secret;

/// The terminal with its echo off; on again when this goes.
struct Silence<'a> {
    stdin: &'a Stdin,
    before: Termios,
}

impl<'a> Silence<'a> {
    fn of(stdin: &'a Stdin) -> io::Result<Self> {
        let before = tcgetattr(stdin)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(stdin, OptionalActions::Flush, &silent)?;
        Ok(Self { stdin, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.stdin, OptionalActions::Flush, &self.before);
    }
}

/// Whether there is somebody to ask.
pub(super) fn is_there() -> bool {
    io::stdin().is_terminal()
}

/// Asks; `None` if nothing was typed.
pub(super) fn ask(question: &str) -> io::Result<Option<Secret>> {
    let stdin = io::stdin();
    let silence = Silence::of(&stdin)?;
    eprint!("{question}: ");
    io::stderr().flush()?;
    let mut line = zeroize::Zeroizing::new(String::new());
    stdin.lock().read_line(&mut line)?;
    drop(silence);
    let typed = line.trim_end_matches(['\r', '\n']);
    Ok((!typed.is_empty()).then(|| Secret::new(typed)))
}
