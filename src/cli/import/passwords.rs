//! The passwords that open the accounts of email-oauth2-proxy: from a file, from standard input, or typed. Never from the command line,
//! where every user of the machine could read them.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, bail};
use zeroize::Zeroizing;

use super::terminal;
use crate::config::Secret;
use crate::import::email_oauth2_proxy::{Account, Opened};
use crate::import::{Found, Server};

/// What is larger holds no passwords.
const MAX_FILE: u64 = 64 * 1024;
/// How often a wrong password may be typed for an account.
const TRIES: usize = 3;

/// The passwords so far. Each is tried with every account, as accounts may share one.
pub(super) struct Passwords {
    known: Vec<Secret>,
    may_ask: bool,
}

impl Passwords {
    /// From a file, one a line, or `-` for standard input; without a file they are typed, or read from standard input if nobody can type.
    pub(super) fn from(file: Option<&Path>) -> anyhow::Result<Self> {
        let known = match file {
            None if terminal::is_there() => return Ok(Self { known: Vec::new(), may_ask: true }),
            None => lines(std::io::stdin().lock()).context("cannot read the passwords from standard input")?,
            Some(file) if file == Path::new("-") => {
                lines(std::io::stdin().lock()).context("cannot read the passwords from standard input")?
            }
            Some(file) => {
                let opened = std::fs::File::open(file).map_err(anyhow::Error::from);
                opened.and_then(lines).with_context(|| format!("cannot read {}", file.display()))?
            }
        };
        if known.is_empty() {
            bail!(
                "no password was given: --password-file FILE names a file with the password that programs log in to email-oauth2-proxy with \
                 (one a line if accounts have different ones), or run this in a terminal and type it"
            );
        }
        Ok(Self { known, may_ask: false })
    }

    /// Opens an account.
    pub(super) fn open(&mut self, account: &Account<'_>, smtp: Option<&Server>) -> Result<Found, String> {
        for password in &self.known {
            if let Some(opened) = tried(account.open(Some(password), smtp)) {
                return opened;
            }
        }
        if !self.may_ask {
            return Err(format!(
                "the password is not the one with which programs log in to email-oauth2-proxy as {}. Look it up in their settings; a password file \
                 may hold several, one a line",
                account.name
            ));
        }
        for _ in 0..TRIES {
            let question = format!("Password with which programs log in to email-oauth2-proxy as {}", account.name);
            let typed = terminal::ask(&question).map_err(|error| format!("the password cannot be read: {error}"))?;
            let Some(password) = typed else { return Err("no password was given".to_owned()) };
            if let Some(opened) = tried(account.open(Some(&password), smtp)) {
                self.known.insert(0, password);
                return opened;
            }
            eprintln!("That is not the password of {}.", account.name);
        }
        Err(format!("the password was wrong {TRIES} times"))
    }
}

/// `None`: another password may do.
fn tried(opened: Opened) -> Option<Result<Found, String>> {
    match opened {
        Opened::Found(found) => Some(Ok(*found)),
        Opened::Unusable(why) => Some(Err(why)),
        Opened::OtherPassword => None,
    }
}

fn lines(from: impl Read) -> anyhow::Result<Vec<Secret>> {
    let mut text = Zeroizing::new(String::new());
    from.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        bail!("it is larger than 64 KiB: those are no passwords");
    }
    // White space may be part of a password, line ends are not.
    let lines = text.trim_start_matches('\u{feff}').lines().filter(|line| !line.is_empty());
    Ok(lines.map(Secret::new).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_password_with_its_spaces() {
        let read = lines(&b"\xef\xbb\xbfhunter2 \r\n\n P\xc3\xa4ss\n"[..]).unwrap();
        assert_eq!(read, [Secret::new("hunter2 "), Secret::new(" Päss")]);
        assert!(lines(&b"\xff"[..]).is_err());
        assert!(lines(std::io::repeat(b'x')).unwrap_err().to_string().contains("64 KiB"));
        assert!(Passwords::from(Some(Path::new("/nowhere"))).err().unwrap().to_string().contains("/nowhere"));
        assert!(
            Passwords::from(Some(Path::new("/dev/null"))).err().unwrap().to_string().contains("no password was given")
        );
    }
}
