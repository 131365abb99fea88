//! `run`: the daemon.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use super::FAILED;
use crate::clock::Clock;
use crate::config::{Config, Environment, Log};
use crate::relay::Relay;
use crate::service::{self, Inherited, InheritedError, Manager};

/// An orderly stop takes less than 20 s, whatever hangs.
const STOP_DEADLINE: Duration = Duration::from_secs(18);
/// Another try would come to the same: a service manager is not to start it again.
const MISCONFIGURED: u8 = 2;

/// Runs until SIGTERM or Ctrl-C. SIGHUP reads the configuration again.
pub(super) async fn run(path: &Path, inherited: Result<Inherited, InheritedError>) -> anyhow::Result<ExitCode> {
    let config = match Config::load(path, &Environment::of_process()) {
        Ok(config) => config,
        Err(problems) => return Ok(misconfigured(&problems)),
    };
    let inherited = match inherited {
        Ok(inherited) => inherited,
        Err(error) => return Ok(misconfigured(&error)),
    };
    let logging = log_to_stderr(&config.log)?;
    warn_of(&config);
    // From here on a hangup asks for a reload; until then it ends the process.
    let mut hangups = signal(SignalKind::hangup())?;
    let started = Relay::start_on(inherited, config, Environment::of_process(), Clock::system()).await;
    let mut relay = match started {
        Ok(relay) => relay,
        Err(error) if error.is::<InheritedError>() => return Ok(misconfigured(&error)),
        Err(error) => return Err(error),
    };
    let daemon = Daemon { path, logging, manager: Manager::default() };
    let accompanied = CancellationToken::new();
    tokio::spawn(service::accompany(daemon.manager.clone(), relay.ops().clone(), accompanied.clone()));
    daemon.manager.ready(&daemon.manager.status(relay.ops()).await);
    eprintln!("ready");
    let failure = daemon.serve(&mut relay, &mut hangups).await;
    accompanied.cancel();
    daemon.manager.stopping();
    tracing::info!("stopping: no new connections, and what is under way is finished");
    tokio::select! {
        () = relay.stop() => tracing::info!("stopped: what waits is on disk"),
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

fn misconfigured(error: &impl std::fmt::Display) -> ExitCode {
    eprintln!("xoauth2-relay: {error}");
    ExitCode::from(MISCONFIGURED)
}

struct Daemon<'a> {
    path: &'a Path,
    logging: Logging,
    manager: Manager,
}

impl Daemon<'_> {
    /// Until the relay is told to stop, or has failed: then says why.
    async fn serve(&self, relay: &mut Relay, hangups: &mut Signal) -> Option<String> {
        let stop = told_to_stop();
        tokio::pin!(stop);
        loop {
            tokio::select! {
                () = &mut stop => return None,
                failure = relay.failure() => return Some(failure),
                Some(()) = hangups.recv() => {
                    self.manager.reloading();
                    self.reload(relay).await;
                    self.manager.ready(&self.manager.status(relay.ops()).await);
                }
            }
        }
    }

    /// Reads the configuration again. A wrong one changes nothing.
    async fn reload(&self, relay: &Relay) {
        let path = self.path.to_owned();
        // It reads files, which can take its time.
        let loaded = tokio::task::spawn_blocking(move || Config::load(&path, &Environment::of_process())).await;
        let config = match loaded {
            Ok(Ok(config)) => config,
            Ok(Err(problems)) => {
                for problem in problems.to_string().lines() {
                    tracing::error!("{problem}");
                }
                return self.keep_the_old_one("the configuration on disk is wrong: the one before is in force");
            }
            Err(panic) => {
                tracing::error!(%panic, "reading the configuration failed within the relay: this is a bug");
                return self.keep_the_old_one("the configuration could not be read: the one before is in force");
            }
        };
        warn_of(&config);
        match relay.configure(config).await {
            Ok(needs_restart) => {
                for part in &needs_restart {
                    tracing::warn!("needs a restart to take effect: {part}");
                }
                self.logging.filter(&relay.config().log.filter);
                tracing::info!("the configuration was read again and is in force");
                let note = if needs_restart.is_empty() { "" } else { "part of the configuration needs a restart" };
                self.manager.note(note);
            }
            Err(error) => {
                tracing::error!(%error, "could not put the configuration in force");
                self.keep_the_old_one("the configuration could not be put in force: the one before is");
            }
        }
    }

    fn keep_the_old_one(&self, why: &str) {
        tracing::error!("{why}");
        self.manager.note(why);
    }
}

fn warn_of(config: &Config) {
    for warning in &config.warnings {
        tracing::warn!("{warning}");
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

/// The log while it is written: what goes into it can be changed.
struct Logging {
    targets: reload::Handle<Targets, Registry>,
}

impl Logging {
    /// The filter came through the checks of the configuration.
    fn filter(&self, filter: &str) {
        let changed = filter
            .parse()
            .map_err(|error: ParseError| error.to_string())
            .and_then(|targets: Targets| self.targets.reload(targets).map_err(|error| error.to_string()));
        if let Err(error) = changed {
            tracing::error!(error, "could not change what is logged");
        }
    }
}

fn log_to_stderr(log: &Log) -> anyhow::Result<Logging> {
    let (filter, targets) = reload::Layer::new(log.filter.parse::<Targets>()?);
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if log.json {
        lines.json().boxed()
    } else {
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        lines.with_ansi(is_terminal).with_target(false).boxed()
    };
    // The filter stands before the lines for everybody, so that what is not logged is not even put together.
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .try_init()
        .map_err(|error| anyhow::anyhow!("logging cannot be set up: {error}"))?;
    Ok(Logging { targets })
}
