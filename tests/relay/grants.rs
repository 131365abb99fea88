//! How the registration proves itself, and mail that leaves without anybody having signed in.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;
use xoauth2_relay::clock::Clock;
use xoauth2_relay::config::{Config, Environment};
use xoauth2_relay::ops::OpsError;
use xoauth2_relay::relay::Relay;
use xoauth2_relay::simulator::{ClientSecret, Federated, Options, Simulator};

use crate::support::{Client, MAILBOX, PATIENCE, blocking, mailbox, quick, until_held};

const MAIL: &str = "From: lms@contoso.com\r\nTo: you@example.com\r\nSubject: hello\r\n\r\nhello\r\n";
const SECRET: &str = "abc8Q~the-first-secret-of-the-registration";
const NEXT: &str = "xyz8Q~the-next-secret-of-the-registration";

/// A relay that sends through this simulator as Microsoft 365, with `grant = "application"`.
struct Rig {
    simulator: Simulator,
    relay: Relay,
    folder: TempDir,
}

fn configuration(simulator: &Simulator, folder: &Path, proof: &str) -> String {
    let ca_file = folder.join("ca.pem");
    std::fs::write(&ca_file, simulator.ca_pem()).unwrap();
    format!(
        "hostname = \"relay.contoso.com\"\ndata_dir = \"{}\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [[listener]]\naddress = \"127.0.0.1:0\"\n[queue]\nretry = [\"1s\"]\n\
         [[account]]\nmailbox = \"{MAILBOX}\"\ntenant = \"contoso.onmicrosoft.com\"\n\
         client_id = \"00000000-0000-0000-0000-000000000000\"\ngrant = \"application\"\ntoken_url = {:?}\n\
         smtp = \"{}\"\nca_file = \"{}\"\nmessages_per_minute = 1000000\n{proof}\n",
        folder.join("data").display(),
        simulator.token_url(),
        simulator.smtp_addr(),
        ca_file.display(),
    )
}

fn checked(text: &str, folder: &Path) -> Config {
    let file = folder.join("relay.toml").display().to_string();
    Config::from_text(text, &file, &Environment::default()).unwrap_or_else(|problems| panic!("{problems}\nin\n{text}"))
}

impl Rig {
    async fn start(options: Options, folder: TempDir, proof: &str) -> Self {
        let simulator = Simulator::start(options).await.unwrap();
        Self::beside(simulator, folder, proof).await
    }

    async fn beside(simulator: Simulator, folder: TempDir, proof: &str) -> Self {
        let config = checked(&configuration(&simulator, folder.path(), proof), folder.path());
        let relay = Relay::start(config, Environment::default(), Clock::system()).await.unwrap();
        Self { simulator, relay, folder }
    }

    /// Hands in a mail and waits until so many have left in all.
    async fn sends(&self, count: usize) {
        let door = self.relay.listeners()[0];
        blocking(move || Client::greeted(door).submit(MAILBOX, &["you@example.com"], MAIL)).await;
        let waited = tokio::time::timeout(PATIENCE, self.simulator.wait_for_accepted(count)).await;
        let queue = self.relay.ops().queue_list().await;
        assert!(waited.is_ok(), "{:?} {queue:#?}", self.relay.ops().status().await.unwrap().accounts[0]);
    }

    async fn refresh(&self) -> Result<(), String> {
        let tried = self.relay.ops().login_application(&mailbox()).await;
        tried.map(|_| ()).map_err(|error| error.to_string())
    }

    async fn stop(self) -> TempDir {
        self.relay.stop().await;
        self.simulator.stop().await;
        self.folder
    }
}

/// A certificate and its RSA key, in `cert.pem` and `key.pem`; the certificate.
pub fn write_certificate(folder: &Path) -> String {
    let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
    let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
    std::fs::write(folder.join("cert.pem"), &certificate).unwrap();
    std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    certificate
}

fn secret_files(folder: &Path) -> String {
    std::fs::write(folder.join("secret"), SECRET).unwrap();
    std::fs::write(folder.join("next"), NEXT).unwrap();
    "client_secret = { file = \"secret\" }\nnext_client_secret = { file = \"next\" }".to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_leaves_with_a_secret_and_nobody_signed_in() {
    for app_roles in [vec!["SMTP.SendAsApp".to_owned()], Vec::new()] {
        let options = Options { client_secret: Some(SECRET.to_owned()), app_roles, ..quick() };
        let rig = Rig::start(options, TempDir::new().unwrap(), &format!("client_secret = {SECRET:?}")).await;
        rig.sends(1).await;
        let account = rig.relay.ops().status().await.unwrap().accounts.remove(0);
        assert_eq!((account.grant.as_str(), account.hold), ("application", None));
        assert!(account.sign_in.unwrap().access_token_until.is_some());
        assert_eq!(rig.simulator.statistics().token_requests["client_credentials"], 1);
        let refused = rig.relay.ops().login_begin(&mailbox()).await;
        assert!(matches!(refused, Err(OpsError::Failed(text)) if text.contains("nobody signs in")));
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_leaves_with_a_certificate_by_both_algorithms_and_a_renewed_one_needs_no_restart() {
    for algorithm in ["PS256", "RS256"] {
        let folder = TempDir::new().unwrap();
        let certificates = vec![write_certificate(folder.path())];
        let proof =
            format!("certificate = {{ certificate = \"cert.pem\", key = \"key.pem\", algorithm = {algorithm:?} }}");
        let rig = Rig::start(Options { certificates, ..quick() }, folder, &proof).await;
        rig.sends(1).await;
        let renewed = write_certificate(rig.folder.path());
        let refused = rig.refresh().await.unwrap_err();
        assert!(refused.contains("AADSTS700027"), "not uploaded yet: {refused}");
        let status = rig.relay.ops().status().await.unwrap().accounts.remove(0);
        assert_eq!(status.hold, None, "Entra ID may not know it everywhere yet");
        assert!(status.trouble_text.unwrap().contains("takes some minutes"));
        assert!(rig.simulator.add_certificate(&renewed));
        rig.refresh().await.unwrap();
        rig.sends(2).await;
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_leaves_with_a_federated_token_whose_file_is_replaced_meanwhile() {
    let options = Options { federated: Some(Federated::default()), ..quick() };
    let (simulator, folder) = (Simulator::start(options).await.unwrap(), TempDir::new().unwrap());
    let file = folder.path().join("token");
    let write = |simulator: &Simulator| {
        std::fs::write(&file, simulator.issue_federated_token(Duration::from_mins(10)).unwrap()).unwrap();
    };
    write(&simulator);
    let rig = Rig::beside(simulator, folder, "federated_token = { file = \"token\" }").await;
    rig.sends(1).await;
    std::fs::write(&file, "e30.e30.AAAA").unwrap();
    assert!(rig.refresh().await.is_err());
    write(&rig.simulator);
    rig.refresh().await.unwrap();
    rig.sends(2).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_replaced_without_a_gap_and_dropped_when_its_successor_works() {
    let folder = TempDir::new().unwrap();
    let proof = secret_files(folder.path());
    let rig = Rig::start(Options { client_secret: Some(SECRET.to_owned()), ..quick() }, folder, &proof).await;
    rig.sends(1).await;
    let ops = rig.relay.ops();
    let refused = ops.account_drop_secret(&mailbox()).await.unwrap_err().to_string();
    assert!(refused.starts_with("next_client_secret has not worked yet, so the old one stays in use"), "{refused}");

    // Made in the portal, but not known everywhere at once.
    let now = jiff::Timestamp::now();
    let later = ClientSecret { works_from: Some(now + Duration::from_hours(1)), ..ClientSecret::new(NEXT) };
    rig.simulator.add_client_secret(later);
    rig.refresh().await.expect("the old one carries on");
    rig.simulator.add_client_secret(ClientSecret::new(NEXT));
    rig.simulator.add_client_secret(ClientSecret { expires: Some(now), ..ClientSecret::new(SECRET) });
    rig.refresh().await.expect("the new one has taken over");
    rig.sends(2).await;
    assert_eq!(ops.status().await.unwrap().accounts[0].hold, None);

    ops.account_drop_secret(&mailbox()).await.unwrap();
    rig.simulator.remove_client_secret(NEXT);
    rig.simulator.add_client_secret(ClientSecret::new(SECRET));
    let refused = rig.refresh().await.unwrap_err();
    assert!(refused.contains("AADSTS7000215"), "the old one is not used any more: {refused}");

    // The file is put in order: what was next is the only one now.
    rig.simulator.add_client_secret(ClientSecret::new(NEXT));
    std::fs::write(rig.folder.path().join("secret"), NEXT).unwrap();
    let text = configuration(&rig.simulator, rig.folder.path(), "client_secret = { file = \"secret\" }");
    rig.relay.configure(checked(&text, rig.folder.path())).await.unwrap();
    rig.refresh().await.unwrap();
    rig.sends(3).await;
    let refused = ops.account_drop_secret(&mailbox()).await.unwrap_err().to_string();
    assert!(refused.contains("has no next_client_secret"), "{refused}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_needs_some_minutes_to_work_holds_nothing() {
    let options = Options { client_secret: Some("another".to_owned()), ..quick() };
    let rig = Rig::start(options, TempDir::new().unwrap(), &format!("client_secret = {SECRET:?}")).await;
    let refused = rig.refresh().await.unwrap_err();
    assert!(refused.contains("AADSTS7000215"), "{refused}");
    let status = rig.relay.ops().status().await.unwrap().accounts.remove(0);
    assert!(status.trouble_text.unwrap().contains("takes some minutes"));
    assert_eq!(status.hold, None);
    rig.simulator.add_client_secret(ClientSecret::new(SECRET));
    rig.refresh().await.unwrap();
    rig.sends(1).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_id_of_a_secret_is_named_in_the_hold() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("secret"), "11111111-2222-3333-4444-555555555555").unwrap();
    let options = Options { client_secret: Some(SECRET.to_owned()), ..quick() };
    let rig = Rig::start(options, folder, "client_secret = { file = \"secret\" }").await;
    let hold = until_held(&rig.relay, true).await.unwrap();
    assert_eq!((hold.cause.as_str(), hold.codes.as_slice()), ("registration", &[7_000_215][..]));
    assert!(hold.text.contains("has the form of a Secret ID: paste the secret's Value"), "{}", hold.text);
    // A changed file takes effect without a reload.
    std::fs::write(rig.folder.path().join("secret"), SECRET).unwrap();
    let released = rig.relay.ops().account_release(&mailbox()).await.unwrap();
    assert_eq!(released.sign_in_problem, None);
    rig.sends(1).await;
    rig.stop().await;
}

fn relay_command(config: &Path, words: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_xoauth2-relay");
    Command::new(program).arg("--config").arg(config).args(words).output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String) {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (output.status.code(), String::from_utf8(text).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn login_says_that_nobody_has_to_sign_in_and_tries_it() {
    let folder = TempDir::new().unwrap();
    let proof = secret_files(folder.path());
    let rig = Rig::start(Options { client_secret: Some(SECRET.to_owned()), ..quick() }, folder, &proof).await;
    let config = rig.folder.path().join("relay.toml");
    std::fs::write(&config, configuration(&rig.simulator, rig.folder.path(), &proof)).unwrap();
    let run = |words: &'static [&'static str]| {
        let config = config.clone();
        blocking(move || said(&relay_command(&config, words)))
    };
    let (code, text) = run(&["login", MAILBOX]).await;
    assert!(code == Some(0) && text.contains("Nobody has to sign in") && text.contains("It works"), "{text}");
    let (code, text) = run(&["account", "drop-secret", MAILBOX]).await;
    assert!(code == Some(1) && text.contains("has not worked yet"), "{text}");
    rig.simulator.add_client_secret(ClientSecret::new(NEXT));
    let (code, text) = run(&["account", "drop-secret", MAILBOX]).await;
    assert!(code == Some(0) && text.contains("is no longer used") && text.contains("relay.toml"), "{text}");
    let (code, text) = run(&["status"]).await;
    assert!(code == Some(0) && text.contains("signed in    by itself"), "{text}");
    for secret in [SECRET, NEXT] {
        assert!(!text.contains(secret));
    }

    let Rig { simulator, relay, folder } = rig;
    relay.stop().await;
    let (code, text) = run(&["login", MAILBOX]).await;
    assert!(code == Some(0) && text.contains("The relay is not running"), "{text}");
    simulator.remove_client_secret(SECRET);
    simulator.remove_client_secret(NEXT);
    simulator.add_client_secret(ClientSecret::new("another"));
    let (code, text) = run(&["login", MAILBOX]).await;
    assert!(code == Some(1) && text.contains("AADSTS7000215"), "{text}");
    simulator.stop().await;
    drop(folder);
}
