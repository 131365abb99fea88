//! `check-config`: every problem at once.

use std::path::Path;
use std::process::ExitCode;

use super::{FAILED, show};
use crate::config::{Config, Environment};

/// Prints the problems, or that there are none.
pub(super) fn run(path: &Path) -> ExitCode {
    match Config::load(path, &Environment::of_process()) {
        Ok(config) => {
            for warning in &config.warnings {
                println!("warning: {warning}");
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
