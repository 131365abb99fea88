//! People who sign in with a browser, replace the key of the sign-ins, and bring sign-ins from other programs.

use reqwest::Url;
use tempfile::TempDir;
use xoauth2_relay::simulator::{Fault, Mailbox, Options, Simulator};

use super::{CLIENT_SECRET, MAIL, Site};
use crate::command_line::{free_port, program};
use crate::login::{decide, get};
use crate::moving_in::fernet;
use crate::person::Login;
use crate::support::{Client, MAILBOX, configuration, quick};
use crate::tap::Tap;

const ERP: &str = "erp@contoso.com";
const CRM: &str = "crm@contoso.com";
const PASSWORD: &str = "pAssw0rd/of+another\"program&1";
const WRONG_PASSWORD: &str = "pAssw0rd/that+is\"wrong&1";
const KEY: &str = "XOAUTH2_RELAY__KEY";

/// What was shown on a terminal, without the address that a person has to open: `state` is in it, and there it belongs.
fn shown(said: &str) -> String {
    said.lines().filter(|line| !line.starts_with("http")).fold(String::new(), |text, line| text + line + "\n")
}

/// What stands in the query of an address.
fn part(address: &str, name: &str) -> String {
    let url = Url::parse(address).unwrap();
    url.query_pairs().find(|(key, _)| key == name).expect(name).1.into_owned()
}

/// Signs in with a browser as `person`, which goes back to the relay or whose last address is pasted.
async fn signs_in(site: &mut Site, person: &str, is_pasted: bool) -> Option<i32> {
    let mut login = Login::start(&site.daemon.config, &[MAILBOX, "--browser"]);
    let address = login.address().await;
    site.ear.keep("a state", &part(&address, "state"));
    login.paste("?code=a-stolen-code-of-somebody&state=a-forged-state-of-somebody");
    login.until("belongs to another sign-in").await;
    let end = decide(&address, person, "accept").await;
    site.ear.keep("a code", &part(&end, "code"));
    // Without a code, and with another state.
    for pasted in [end.replace("code=", "kode="), end.replace("state=", "state=x")] {
        login.paste(&pasted);
    }
    if is_pasted {
        login.paste(&end);
    } else {
        let (_, page) = get(&end).await;
        site.ear.hear("the last page", page.as_bytes());
    }
    let (code, said) = login.ended().await;
    site.ear.hear("login --browser", shown(&said).as_bytes());
    site.look();
    code
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_people_bring_is_printed() {
    let options = Options {
        mailboxes: [MAILBOX, ERP, CRM].map(Mailbox::new).to_vec(),
        client_secret: Some(CLIENT_SECRET.to_owned()),
        ..quick()
    };
    let simulator = Simulator::start(options).await.unwrap();
    let folder = TempDir::new().unwrap();
    let (tap, door) = (Tap::before(simulator.http_addr()), free_port());
    let extra = format!("[queue]\nretry = [\"1s\"]\n[[listener]]\naddress = \"{door}\"\n");
    let text = configuration(&simulator, folder.path(), &extra);
    // One account of the three: the others are still in other programs.
    let (head, accounts) = text.split_once("[[account]]").unwrap();
    let (first, _) = accounts.split_once("[[account]]").unwrap();
    let text = format!("log = \"trace\"\n{head}[[account]]{first}{extra}");
    let tapped = text.replace(&simulator.http_addr().to_string(), &format!("127.0.0.1:{}", tap.port()));
    std::fs::write(folder.path().join("relay.toml"), &tapped).unwrap();
    let mut site = Site::at(simulator, folder, door, door);
    for (name, secret) in [("a password", PASSWORD), ("a wrong password", WRONG_PASSWORD)] {
        site.ear.keep(name, secret);
    }

    browsers(&mut site).await;
    tokio::task::block_in_place(|| {
        imports(&mut site);
        keys(&mut site);
        panics(&mut site);
    });
    let said = tap.said();
    let verifiers = said.split("code_verifier=").skip(1).map(|rest| &rest[..43]);
    assert!(verifiers.clone().count() >= 3, "{said}");
    for verifier in verifiers {
        site.ear.keep("a verifier", verifier);
    }
    site.assert_nothing_was_told();
    site.simulator.stop().await;
}

async fn browsers(site: &mut Site) {
    assert_eq!(signs_in(site, MAILBOX, true).await, Some(0));
    site.daemon.start(&[("RUST_BACKTRACE", "full")]);
    assert_eq!(signs_in(site, MAILBOX, true).await, Some(0));
    assert_eq!(signs_in(site, MAILBOX, false).await, Some(0));
    for fault in ["token=70008*1", "token=http-5xx*1"] {
        site.simulator.fault(fault.parse().unwrap());
        assert_eq!(signs_in(site, MAILBOX, false).await, Some(1), "{fault}");
        site.simulator.clear_faults();
    }

    // The access token outlives a restart.
    assert!(site.run(&["account", "release", MAILBOX]).status.success());
    assert!(site.run(&["send-test", "you@example.com"]).status.success());
    site.stop();
    site.simulator.fault(Fault::row("http-5xx").unwrap());
    site.daemon.start(&[("RUST_BACKTRACE", "full")]);
    Client::greeted(site.daemon.door).submit(MAILBOX, &["you@example.com"], MAIL);
    let arrived = tokio::time::timeout(crate::support::PATIENCE, site.simulator.wait_for_accepted(2)).await;
    assert!(arrived.is_ok(), "{}", site.daemon.said());
    site.simulator.clear_faults();
}

/// From both programs, with what is right and with what is wrong about their files; with the relay running.
fn imports(site: &mut Site) {
    let simulator = &site.simulator;
    let (salt, token) = ([7; 16], simulator.issue_refresh_token(ERP));
    let sealed = |password: &str, text: &str| fernet(password, salt, text);
    let smtp = simulator.smtp_addr().port();
    let (token_url, client) = (simulator.token_url(), Options::default().client_id);
    let proxy = format!(
        "[SMTP-1587]\nserver_address = localhost\nserver_port = {smtp}\nserver_starttls = True\n\n\
         [{ERP}]\ntoken_url = {token_url}\noauth2_scope = https://outlook.office.com/SMTP.Send offline_access\n\
         redirect_uri = http://localhost\nclient_id = {client}\ntoken_salt = {}\ntoken_iterations = 1000\n\
         refresh_token = {}\naccess_token = {}\nclient_secret_encrypted = {}\n",
        base64::Engine::encode(&base64::engine::general_purpose::STANDARD, salt),
        sealed(PASSWORD, &token),
        sealed(PASSWORD, &simulator.issue_access_token(ERP)),
        sealed(PASSWORD, CLIENT_SECRET),
    );
    let open = proxy.replace("client_secret_encrypted", "client_secret");
    let open = open.replace(&sealed(PASSWORD, CLIENT_SECRET), CLIENT_SECRET);
    let tokens = format!(
        "{{\"access_token\": \"{}\", \"expiry\": \"0\", \"refresh_token\": \"{}\", \"user\": \"{CRM}\"}}",
        simulator.issue_access_token(CRM),
        simulator.issue_refresh_token(CRM),
    );
    let settings = format!(
        "{{\"client_id\": \"{client}\", \"client_secret\": {}, \"token_endpoint\": \"{token_url}\"}}",
        serde_json::json!(CLIENT_SECRET)
    );
    let table = format!("[localhost]:{smtp} {CRM}:{}\n", site.folder.path().join("tokens").display());
    let file = |name: &str, text: &str| site.file(name, text).display().to_string();
    let (right, wrong) = (file("password", PASSWORD), file("wrong-password", &format!("{WRONG_PASSWORD}\nanother\n")));
    let (good, open) = (file("emailproxy.config", &proxy), file("open.config", &open));
    // In the middle of the sealed token, and in the middle of an open secret.
    let cut_at = |text: &str, what: &str| text[..text.find(what).unwrap() + what.len() + 60].to_owned();
    let cut = file("cut.config", &cut_at(&proxy, "refresh_token = "));
    let tokens_cut = file("tokens-cut", &cut_at(&tokens, "\"refresh_token\": "));
    let tokens_odd = file("tokens-odd", &tokens.replace("\"refresh_token\": ", "\"refresh_token\": []"));
    let (tokens, settings_cut) = (file("tokens", &tokens), file("settings-cut", &settings[..settings.len() - 60]));
    let (settings, table) = (file("settings", &settings), file("sasl_passwd", &table));
    let from_proxy = |file: &str, password: &str| {
        ["import", "email-oauth2-proxy", file, "--password-file", password].map(str::to_owned).to_vec()
    };
    let from_sasl = |file: &str, settings: &str| {
        ["import", "sasl-xoauth2", file, "--config-file", settings, "--sasl-passwd", &table].map(str::to_owned).to_vec()
    };
    let rehearsed = |mut words: Vec<String>| {
        words.push("--dry-run".to_owned());
        words
    };
    for (words, is_well) in [
        (from_proxy(&good, &wrong), false),
        (from_proxy(&cut, &right), false),
        (from_proxy(&settings, &right), false),
        (rehearsed(from_proxy(&open, &right)), true),
        (from_proxy(&open, &right), true),
        (from_proxy(&good, &right), true),
        (from_sasl(&tokens_cut, &settings), false),
        (from_sasl(&tokens_odd, &settings), false),
        (from_sasl(&tokens, &settings_cut), false),
        (from_sasl(&good, &settings), false),
        (rehearsed(from_sasl(&tokens, &settings)), true),
        (from_sasl(&tokens, &settings), true),
        (from_sasl(&tokens, &settings), true),
    ] {
        let mut command = program(&site.daemon.config);
        command.args(&words).env("SSL_CERT_FILE", site.folder.path().join("ca.pem")).env("RUST_BACKTRACE", "full");
        let output = command.output().unwrap();
        assert_eq!(output.status.success(), is_well, "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        site.hear_output("import", &output);
    }
    // That of the first account stands in the configuration itself; what was imported has a file of its own.
    let config = std::fs::read_to_string(&site.daemon.config).unwrap();
    let lines: Vec<&str> = config.lines().filter(|line| !line.starts_with("client_secret = '")).collect();
    assert_eq!(lines.len() + 1, config.lines().count());
    site.ear.hear("the configuration", lines.join("\n").as_bytes());
    site.look();
    site.stop();
}

/// Replaces the key with the relay and without it, its own and a configured one.
fn keys(site: &mut Site) {
    site.keep_keys();
    assert!(site.run(&["rotate-key"]).status.success());
    site.keep_keys();
    site.daemon.start(&[("RUST_BACKTRACE", "full")]);
    assert!(site.run(&["rotate-key"]).status.success());
    site.keep_keys();
    assert!(site.run(&["send-test", "you@example.com"]).status.success());
    site.stop();

    // By a variable, a wrong one first; then by a file.
    let own = std::fs::read_to_string(site.folder.path().join("data/key")).unwrap();
    let other = "c3".repeat(32);
    site.ear.keep("another key", &other);
    for value in [&other, &own[..own.trim().len() - 3], own.trim()] {
        for command in ["check-config", "rotate-key"] {
            let mut command_line = program(&site.daemon.config);
            let output = command_line.arg(command).env(KEY, value).env("RUST_BACKTRACE", "full").output().unwrap();
            site.hear_output(command, &output);
        }
        site.daemon.start(&[(KEY, value), ("RUST_BACKTRACE", "full")]);
        site.run(&["account", "release", MAILBOX]);
        site.run(&["rotate-key"]);
        site.look();
        site.daemon.kill();
    }
    let file = site.file("configured-key", &format!("{other}\n{own}"));
    let text = std::fs::read_to_string(&site.daemon.config).unwrap();
    site.file("relay.toml", &format!("key = {{ file = \"{}\" }}\n{text}", file.display()));
    assert!(site.run(&["rotate-key"]).status.success());
    site.daemon.start(&[("RUST_BACKTRACE", "full")]);
    site.run(&["rotate-key"]);
    assert!(site.run(&["send-test", "you@example.com"]).status.success());
    site.stop();
    site.file("relay.toml", &text);
    site.file("data/key", &other);
}

/// Faults in the relay itself, with keys and tokens at hand.
fn panics(site: &mut Site) {
    let mut rotate = program(&site.daemon.config);
    rotate.arg("rotate-key").env("RUST_BACKTRACE", "full").env("XOAUTH2_RELAY_CRASH_AT", "panic/after_new_key");
    let output = rotate.output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("panicked at"), "{output:?}");
    site.hear_output("rotate-key", &output);
    site.keep_keys();
    for point in ["panic/after_new_key", "panic/after_sign_in_write:2", "panic/before_old_key_removal"] {
        site.daemon.start(&[("RUST_BACKTRACE", "full"), ("XOAUTH2_RELAY_CRASH_AT", point)]);
        site.keep_keys();
        site.run(&["rotate-key"]);
        site.run(&["account", "release", MAILBOX]);
        let log = site.daemon.said();
        assert!(log.contains("panicked at"), "{point}: {log}");
        site.ear.hear("the log of a panic", log.as_bytes());
        site.keep_keys();
        site.daemon.kill();
    }
    site.look();
}
