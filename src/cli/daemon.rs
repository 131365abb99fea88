//! `run`: the daemon.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::{FAILED, load};
use crate::clock::Clock;
use crate::config::{Environment, Log};
use crate::relay::Relay;

/// An orderly stop takes less than 20 s, whatever hangs.
const STOP_DEADLINE: Duration = Duration::from_secs(18);

/// Runs until SIGTERM or Ctrl-C.
pub(super) async fn run(path: &Path) -> anyhow::Result<ExitCode> {
    let config = load(path)?;
    log_to_stderr(&config.log)?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let mut relay = Relay::start(config, Environment::of_process(), Clock::system()).await?;
    eprintln!("ready");
    tokio::spawn(outlive_hangups());
    let failure = tokio::select! {
        () = told_to_stop() => None,
        failure = relay.failure() => Some(failure),
    };
    tokio::select! {
        () = relay.stop() => {}
        () = tokio::time::sleep(STOP_DEADLINE) => tracing::error!("the relay did not stop in time and is cut off"),
        () = told_to_stop() => tracing::warn!("told to stop once more: cut off"),
    }
    match failure {
        None => Ok(ExitCode::SUCCESS),
        Some(failure) => {
            eprintln!("xoauth2-relay: {failure}");
            Ok(ExitCode::from(FAILED))
        }
    }
}

/// Returns once the process is asked to end.
pub(super) async fn told_to_stop() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be received; the relay has to be killed to end it");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// A terminal that is closed, or an administrator who expects a reload, must not end the relay.
async fn outlive_hangups() {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
    while hangups.recv().await.is_some() {
        tracing::warn!("SIGHUP: a changed configuration takes effect with the next start");
    }
}

fn log_to_stderr(log: &Log) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&log.filter)?;
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let done = if log.json {
        subscriber.json().try_init()
    } else {
        subscriber.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).with_target(false).try_init()
    };
    done.map_err(|error| anyhow::anyhow!("logging cannot be set up: {error}"))
}
