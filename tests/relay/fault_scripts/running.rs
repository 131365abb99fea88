//! The relay of a script, which can be stopped in order or ended at any instant.

use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use xoauth2_relay::clock::Clock;
use xoauth2_relay::config::{Config, Environment};
use xoauth2_relay::relay::Relay;
use xoauth2_relay::simulator::Simulator;
use xoauth2_relay::store::Store;

use super::model::POSTMASTER;
use super::script::App;
use crate::support::{LISTENER, PATIENCE, blocking};

/// A relay on threads of its own, so that it can be ended at any instant.
pub struct Running {
    pub relay: Relay,
    threads: Threads,
}

struct Threads(Option<Runtime>);

impl Drop for Threads {
    /// Also where a test fails: threads that are waited for there would end the process.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Running {
    pub async fn start(simulator: &Simulator, folder: &TempDir, clock: &Clock) -> Self {
        let config = Config::from_text(&configuration(simulator, folder), "relay.toml", &Environment::default());
        let config = config.unwrap_or_else(|problems| panic!("{problems}"));
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let relay = runtime.spawn(Relay::start(config, Environment::default(), clock.clone())).await.unwrap().unwrap();
        Self { relay, threads: Threads(Some(runtime)) }
    }

    /// Stops it in order.
    pub async fn stop(self) {
        self.relay.stop().await;
    }

    /// Ends every task of the relay where it stands, as a kill does, and closes its sockets. What the writer was given by then is still written,
    /// as when the kill comes a moment later; nobody hears of that. What is left is what is on disk.
    pub async fn kill(mut self) -> Store {
        let runtime = self.threads.0.take().expect("taken here alone");
        blocking(move || runtime.shutdown_timeout(PATIENCE)).await;
        let store = self.relay.ops().store.clone();
        assert!(store.answers().await, "the writer has died");
        store
    }
}

/// Both accounts, as the simulator wants them, and an app for each way of sending.
fn configuration(simulator: &Simulator, folder: &TempDir) -> String {
    let ca_file = folder.path().join("ca.pem");
    std::fs::write(&ca_file, simulator.ca_pem()).unwrap();
    let app = |app: App| format!("[[app]]\nname = \"{}\"\n{}", app.name(), app.keys());
    format!(
        "hostname = \"relay.contoso.com\"\npostmaster = \"{POSTMASTER}\"\ndata_dir = \"{}\"\n[admin]\naddress = \"127.0.0.1:0\"\n{}\n{}{LISTENER}",
        folder.path().join("data").display(),
        simulator.relay_config(Some(&ca_file)),
        App::ALL.map(app).concat(),
    )
}
