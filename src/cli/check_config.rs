//! `check-config`: every problem at once.

use std::path::Path;
use std::process::ExitCode;

use super::{FAILED, show};
use crate::config::{Config, Environment, SecretSource, seen_by_others};
use crate::store::{Key, KeyFile, VaultError};

/// Prints the problems, or that there are none.
pub(super) fn run(path: &Path) -> ExitCode {
    match Config::load(path, &Environment::of_process()) {
        Ok(config) => {
            for warning in &config.warnings {
                println!("warning: {warning}");
            }
            if let Some(doubt) = doubt_about_key(&config) {
                println!("warning: {doubt}");
            }
            let accounts = show::count(config.accounts.len(), "account");
            let listeners = show::count(config.listeners.len(), "listener");
            let apps = match config.apps.len() {
                0 => String::new(),
                apps => format!(", {}", show::count(apps, "app")),
            };
            println!("{}: good: {accounts}, {listeners}{apps}", path.display());
            ExitCode::SUCCESS
        }
        Err(problems) => {
            eprintln!("{problems}");
            ExitCode::from(FAILED)
        }
    }
}

/// Whether what seals the sign-ins is a key, and the relay's own one for itself, as far as it can be seen from here: what comes from the
/// service's environment is not there, and no command is run.
fn doubt_about_key(config: &Config) -> Option<String> {
    let found = match &config.key {
        Some(source @ SecretSource::Literal(_)) => source.read(&Environment::default()),
        Some(source @ SecretSource::File(path)) if path.is_file() => source.read(&Environment::default()),
        Some(_) => return None,
        None => return doubt_about_own_key(&KeyFile::of(&config.data_dir)),
    };
    // That it cannot be read may be right: this may run as somebody else.
    let is_key = found.map_or(true, |text| Key::read_all(text.expose().as_bytes()).is_some());
    let source = config.key.as_ref()?;
    (!is_key).then(|| format!("key: {}", VaultError::NotAKey(source.to_string())))
}

fn doubt_about_own_key(file: &KeyFile) -> Option<String> {
    let path = file.path();
    match file.read() {
        Err(error @ VaultError::NotAKey(_)) => Some(error.to_string()),
        Ok(_) if seen_by_others(path) => {
            let path = path.display();
            Some(format!("the key {path} can be read by every user of this machine: chmod 600 {path}"))
        }
        Ok(_) | Err(_) => None,
    }
}
