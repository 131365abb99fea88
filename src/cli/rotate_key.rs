//! `rotate-key`: a new key for the stored sign-ins, through the running relay or without one.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Client, ControlError, load};
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::relay::open_shelf;
use crate::shelf::Rotated;
use crate::store::{DataDir, Store};

/// Seals everything anew, and says what is left to do.
pub(super) async fn run(path: &Path) -> anyhow::Result<ExitCode> {
    let config = load(path)?;
    let client = Client::new(&config.data_dir)?;
    let rotated = match client.rotate_key().await {
        Ok(rotated) => rotated,
        Err(ControlError::NotRunning(_)) => alone(config).await?,
        Err(error) => return Err(error.into()),
    };
    let sign_ins = super::show::count(rotated.sign_ins, "stored sign-in");
    println!("{sign_ins} sealed with the key {} now", rotated.key);
    for account in &rotated.left {
        println!(
            "{account}: no key at hand opens its stored sign-in, which is as it was; if the key is lost: xoauth2-relay login {account}"
        );
    }
    println!("{}", rotated.next);
    Ok(ExitCode::SUCCESS)
}

async fn alone(config: Config) -> anyhow::Result<Rotated> {
    let _lock = DataDir::lock(&config.data_dir)?;
    let store = Store::open(&config.data_dir)?;
    let clock = Clock::system();
    let (_sender, config) = watch::channel(Arc::new(config));
    let rotated = match open_shelf(&config, &Environment::of_process(), &store, &clock).await {
        Ok(shelf) => shelf.rotate(clock.now()).await.map_err(Into::into),
        Err(error) => Err(error),
    };
    store.close().await;
    rotated
}
