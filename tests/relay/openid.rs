//! An `OpenID` provider that nobody here wrote: npm's `oidc-provider` as `provider = "custom"`. People sign in on its own pages with a real
//! Chromium; its access tokens live for seconds, and each of its refresh tokens works once.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xoauth2_relay::clock::Clock;
use xoauth2_relay::relay::Relay;

use crate::chromium::Chromium;
use crate::clients::{modern_node, script, unpacked};
use crate::person::{Login, relay};
use crate::support::{LISTENER, MAILBOX, PATIENCE, mailbox, until_held};

/// Seconds: as short as the keeper still goes along with.
const LIFE: u32 = 5;

/// The provider.
struct Provider {
    server: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    port: String,
}

impl Provider {
    /// `None` if it is to be left out.
    fn start() -> Option<Self> {
        let node = modern_node()?;
        let modules = unpacked("node_modules/oidc-provider")?;
        let mut server = Command::new(node)
            .args([script("openid_server.js"), LIFE.to_string()])
            .env("NODE_PATH", modules.parent().unwrap())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // It says of each default that it should not be used in earnest.
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (orders, answers) = (server.stdin.take(), BufReader::new(server.stdout.take().unwrap()));
        let mut provider = Self { server, orders, answers, port: String::new() };
        provider.port = provider.answer();
        Some(provider)
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn order(&mut self, order: &str) -> String {
        tokio::task::block_in_place(|| {
            writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
            self.answer()
        })
    }

    fn granted(&mut self, grant: &str) -> u32 {
        self.order(&format!("granted {grant}")).parse().unwrap()
    }

    fn refused(&mut self) -> u32 {
        self.order("refused").parse().unwrap()
    }

    /// Waits until so many refreshes were granted in all.
    async fn until_refreshed(&mut self, times: u32) {
        let since = Instant::now();
        while self.granted("refresh_token") < times {
            assert!(since.elapsed() < PATIENCE, "{} of {times} refreshes", self.granted("refresh_token"));
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A relay's configuration with one account of this provider. Nothing is sent.
    fn configuration(&self, folder: &TempDir) -> PathBuf {
        let base = format!("http://127.0.0.1:{}", self.port);
        let text = format!(
            "hostname = \"relay.contoso.com\"\ndata_dir = \"{}\"\n[admin]\naddress = \"127.0.0.1:0\"\n{LISTENER}\n\
             [[account]]\nmailbox = \"{MAILBOX}\"\nprovider = \"custom\"\nclient_id = \"xoauth2-relay\"\n\
             token_url = \"{base}/token\"\ndevice_url = \"{base}/device/auth\"\nauthorize_url = \"{base}/auth\"\n\
             scopes = [\"openid\", \"offline_access\"]\nsmtp = \"127.0.0.1:9\"\nsmtp_tls = \"none\"\n",
            folder.path().join("data").display()
        );
        let file = folder.path().join("relay.toml");
        std::fs::write(&file, text).unwrap();
        file
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.server.wait();
    }
}

/// Name and consent on the provider's pages.
fn sign_in(chromium: &mut Chromium) {
    chromium.until("Sign-in");
    chromium.fill("[name=login]", MAILBOX);
    chromium.fill("[name=password]", "any");
    chromium.click("Sign-in");
    chromium.until("offline access");
    chromium.click("Continue");
}

/// Signs in with the browser through the running relay.
async fn login_by_browser(chromium: &mut Chromium, config: &Path, is_known: bool) {
    let mut login = Login::start(config, &[MAILBOX, "--browser"]);
    chromium.open(&login.address().await);
    if is_known {
        // The provider remembers the person, and asks for consent alone.
        chromium.until("offline access");
        chromium.click("Continue");
    } else {
        sign_in(chromium);
    }
    chromium.until("You are signed in");
    login.succeeds("lms@contoso.com is signed in").await;
}

async fn assert_well(relay: &Relay) {
    let status = relay.ops().status().await.unwrap();
    assert!(status.accounts[0].hold.is_none(), "{:?}", status.accounts[0].hold);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_sign_in_outlives_rotations_and_restarts() {
    let (Some(mut provider), Some(mut chromium)) = (Provider::start(), Chromium::start()) else { return };
    let folder = TempDir::new().unwrap();
    let config = provider.configuration(&folder);
    let mut login = Login::start(&config, &[MAILBOX]);
    let (page, code) = login.code().await;
    chromium.open(&page);
    chromium.until("Enter the code displayed on your device");
    chromium.fill("[name=user_code]", &code);
    chromium.click("Continue");
    chromium.until("Confirm Device");
    chromium.click("Continue");
    sign_in(&mut chromium);
    chromium.until("Sign-in Success");
    login.succeeds("lms@contoso.com is signed in").await;

    let mut refreshes = 0;
    for _ in 0..3 {
        let relay = relay(&config, Clock::system()).await;
        refreshes += 2;
        provider.until_refreshed(refreshes).await;
        assert_well(&relay).await;
        relay.stop().await;
        refreshes = refreshes.max(provider.granted("refresh_token"));
    }
    assert_eq!(provider.refused(), 0, "every refresh token was used once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_sign_in_that_is_revoked_waits_for_the_next_and_is_not_lost() {
    let (Some(mut provider), Some(mut chromium)) = (Provider::start(), Chromium::start()) else { return };
    let folder = TempDir::new().unwrap();
    let config = provider.configuration(&folder);
    let relay = relay(&config, Clock::system()).await;
    login_by_browser(&mut chromium, &config, false).await;
    assert_eq!(provider.granted("authorization_code"), 1);
    provider.until_refreshed(2).await;
    assert_well(&relay).await;
    assert_eq!(provider.refused(), 0);

    // Somebody else shows a refresh token that was used before: the provider takes it for stolen and ends the whole sign-in.
    let stolen = provider.order("first");
    let form = [("grant_type", "refresh_token"), ("client_id", "xoauth2-relay"), ("refresh_token", &stolen)];
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let reused = http.post(format!("http://127.0.0.1:{}/token", provider.port)).form(&form).send().await.unwrap();
    assert_eq!(reused.status(), 400);
    let hold = until_held(&relay, true).await.unwrap();
    assert_eq!(hold.cause, "sign_in");
    assert!(hold.error.unwrap().contains("grant request is invalid"));

    // What is stored is kept and tried again when told to, over a restart too.
    let before = provider.refused();
    relay.ops().account_release(&mailbox()).await.unwrap();
    until_held(&relay, true).await;
    relay.stop().await;
    let relay = crate::person::relay(&config, Clock::system()).await;
    relay.ops().account_release(&mailbox()).await.unwrap();
    until_held(&relay, true).await;
    let since = Instant::now();
    while provider.refused() < before + 2 {
        assert!(since.elapsed() < PATIENCE, "the stored sign-in was not tried again");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    login_by_browser(&mut chromium, &config, true).await;
    until_held(&relay, false).await;
    let so_far = provider.granted("refresh_token");
    provider.until_refreshed(so_far + 1).await;
    assert_well(&relay).await;
    relay.stop().await;
}
