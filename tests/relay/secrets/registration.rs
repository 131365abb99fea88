//! How a registration proves itself, and who is told when it cannot: client secrets, certificates, federated tokens, and the addresses of
//! webhooks.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use tempfile::TempDir;
use xoauth2_relay::simulator::{ClientSecret, Fault, Federated, Mailbox, Options, Simulator};

use super::{CLIENT_SECRET, MAIL, SECRET_ID, Site, WRONG_CLIENT_SECRET};
use crate::command_line::free_port;
use crate::grants::write_certificate;
use crate::support::{Client, MAILBOX, PATIENCE, blocking, quick};
use crate::tap::Tap;

const NEXT_CLIENT_SECRET: &str = "nS8Q~next/client+secret\"value&0123456789";
const CERTIFIED: &str = "certified@contoso.com";
const FEDERATED: &str = "federated@contoso.com";
/// In the path, the query and the password of a webhook's address.
const HOOK_SECRETS: [&str; 3] = ["T0KEN+in.a-path", "T0KEN+in-a-query", "T0KEN+as-a-password"];
const HEARTBEAT: &str = "T0KEN~of.the-heartbeat";
const COMMAND_TOKEN: &str = "--token=T0KEN~of.the-command";

/// As it stands in an address.
fn escaped(secret: &str) -> String {
    secret.replace('+', "%2B")
}

/// Takes what is posted, or refuses it and repeats of its secrets what it can.
#[derive(Clone, Default)]
struct Receiver {
    got: Arc<Mutex<Vec<String>>>,
    takes: Arc<Mutex<bool>>,
}

impl Receiver {
    async fn start() -> (Self, String) {
        let receiver = Self::default();
        let router = Router::new().fallback(receive).with_state(receiver.clone());
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap().to_string();
        tokio::spawn(async move { axum::serve(socket, router).await });
        (receiver, address)
    }

    fn got(&self) -> Vec<String> {
        self.got.lock().unwrap().clone()
    }

    fn until(&self, what: &str, count: usize) {
        let since = Instant::now();
        while self.got().iter().filter(|got| got.starts_with(what)).count() < count {
            assert!(since.elapsed() < PATIENCE, "{count} {what} never came: {:#?}", self.got());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

async fn receive(State(receiver): State<Receiver>, request: Request) -> (StatusCode, String) {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let kind = parts.uri.path().split('/').nth(1).unwrap().to_owned();
    let takes = *receiver.takes.lock().unwrap() && kind != "heartbeat";
    let mut got = format!("{} {kind} ", if takes { "taken" } else { "refused" });
    // Its own address and password a receiver knows.
    for (name, value) in parts.headers.iter().filter(|(name, _)| *name != "authorization") {
        got.extend([name.as_str(), ": ", value.to_str().unwrap(), "\n"]);
    }
    got += std::str::from_utf8(&body).unwrap();
    receiver.got.lock().unwrap().push(got);
    if takes {
        return (StatusCode::OK, format!("ok, {}", parts.uri));
    }
    let said = match kind.as_str() {
        "json" => format!("nothing is at {}", parts.uri),
        "slack" => format!("{} is unknown", HOOK_SECRETS[1]),
        "teams" => format!("{{\"error\":\"nobody is called {}\"}}", HOOK_SECRETS[0]),
        "ntfy" => format!("{} is wrong", HOOK_SECRETS[2]),
        _ => format!("no heart beats at {HEARTBEAT}"),
    };
    (StatusCode::FORBIDDEN, said)
}

/// Three accounts, each with another proof; whoever may be told is told.
fn configured(simulator: &Simulator, folder: &Path, endpoints: [&str; 3], receiver: &str, instance: &str) -> String {
    let hook = |format: &str| {
        let [path, query, password] = HOOK_SECRETS.map(escaped);
        format!("{{ url = \"http://svc:{password}@{receiver}/{format}/{path}?key={query}\", format = \"{format}\" }}")
    };
    let hooks = ["json", "slack", "teams", "ntfy"].map(hook).join(", ");
    let mut text = format!(
        "log = \"trace\"\ninstance = \"{instance}\"\nhostname = \"relay.contoso.com\"\ndata_dir = \"{}\"\n\
         [admin]\naddress = \"127.0.0.1:0\"\n[queue]\nretry = [\"1s\"]\n\
         [alert]\nwebhook = [{hooks}]\ncommand = [\"{}\", \"{COMMAND_TOKEN}\"]\nmail_to = [\"it@example.com\"]\n\
         heartbeat_url = {{ file = \"heartbeat\" }}\n",
        folder.join("data").display(),
        folder.join("page").display(),
    );
    let proofs = [
        "client_secret = { file = \"client-secret\" }\nnext_client_secret = { file = \"next-client-secret\" }",
        "certificate = { certificate = \"cert.pem\", key = \"key.pem\" }",
        "federated_token = { file = \"federated-token\" }",
    ];
    for ((mailbox, proof), endpoint) in [MAILBOX, CERTIFIED, FEDERATED].into_iter().zip(proofs).zip(endpoints) {
        let token_url = simulator.token_url().replace(&simulator.http_addr().to_string(), endpoint);
        let _ = write!(
            text,
            "[[account]]\nmailbox = \"{mailbox}\"\ntenant = \"contoso.onmicrosoft.com\"\n\
             client_id = \"00000000-0000-0000-0000-000000000000\"\ngrant = \"application\"\ntoken_url = \"{token_url}\"\n\
             smtp = \"{}\"\nca_file = \"ca.pem\"\nmessages_per_minute = 1000000\n{proof}\n",
            simulator.smtp_addr(),
        );
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn no_proof_of_a_registration_and_no_address_of_a_webhook_is_printed() {
    let folder = TempDir::new().unwrap();
    let certificate = write_certificate(folder.path());
    let options = Options {
        mailboxes: [MAILBOX, CERTIFIED, FEDERATED].map(Mailbox::new).to_vec(),
        client_secret: Some(CLIENT_SECRET.to_owned()),
        certificates: vec![certificate],
        federated: Some(Federated::default()),
        ..quick()
    };
    let simulator = Simulator::start(options).await.unwrap();
    std::fs::write(folder.path().join("ca.pem"), simulator.ca_pem()).unwrap();
    let (receiver, address) = Receiver::start().await;
    let (tap, door) = (Tap::before(simulator.http_addr()), free_port());
    let site = Site::at(simulator, folder, door, door);
    let mut site = blocking(move || {
        let mut site = site;
        everything(&mut site, &receiver, &address, &tap);
        for got in receiver.got() {
            site.ear.hear("a webhook", got.as_bytes());
        }
        keep(&mut site, &tap);
        site
    })
    .await;
    site.assert_nothing_was_told();
    site.simulator.stop().await;
}

/// What was used as a proof, and the addresses.
fn keep(site: &mut Site, tap: &Tap) {
    let said = tap.said();
    let assertions = said.split("client_assertion=eyJ").skip(1);
    assert!(assertions.clone().count() > 1, "{said}");
    for behind in assertions {
        let end = behind.find(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c)).unwrap_or(behind.len());
        site.ear.keep("an assertion", &format!("eyJ{}", &behind[..end]));
    }
    let key = std::fs::read_to_string(site.folder.path().join("key.pem")).unwrap();
    let lines: Vec<&str> = key.lines().filter(|line| !line.starts_with("-----")).collect();
    // The first ones are those of every key.
    for line in &lines[2..] {
        site.ear.keep("the private key", line.trim());
    }
    site.ear.keep("the next client secret", NEXT_CLIENT_SECRET);
    for secret in HOOK_SECRETS {
        site.ear.keep("a webhook's token", secret);
        site.ear.keep("a webhook's token", &escaped(secret));
    }
    site.ear.keep("the heartbeat's token", HEARTBEAT);
    site.ear.keep("the command's token", COMMAND_TOKEN.trim_start_matches("--token="));
}

/// Gives it a federated token, and knows it for a secret.
fn federate(site: &mut Site, token: &str) {
    site.ear.keep("a federated token", token);
    site.file("federated-token", token);
}

fn reload(site: &mut Site, text: &str) {
    site.file("relay.toml", text);
    let before = site.daemon.said().matches("was read again and is in force").count();
    site.daemon.signal("HUP");
    let since = Instant::now();
    while site.daemon.said().matches("was read again and is in force").count() == before {
        assert!(since.elapsed() < PATIENCE, "never reloaded: {}", site.daemon.said());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn shows(site: &mut Site) {
    for mailbox in [CERTIFIED, FEDERATED] {
        site.run(&["account", "show", mailbox]);
        site.run(&["account", "show", mailbox, "--json"]);
    }
    site.look();
}

fn everything(site: &mut Site, receiver: &Receiver, address: &str, tap: &Tap) {
    let folder = site.folder.path().to_owned();
    let page = site.file("page", "#!/bin/sh\ncat > /dev/null\necho \"no pager takes $1\" >&2\nexit 1\n");
    std::fs::set_permissions(&page, PermissionsExt::from_mode(0o755)).unwrap();
    site.file("heartbeat", &format!("http://{address}/heartbeat/{HEARTBEAT}?x={HEARTBEAT}"));
    site.file("client-secret", SECRET_ID);
    site.file("next-client-secret", WRONG_CLIENT_SECRET);
    federate(site, "eyJhbGciOiJSUzI1NiJ9.eyJub2JvZHkiOiJoYXMgaXNzdWVkIHRoaXMifQ.c2lnbmVkLWJ5LW5vYm9keQ");
    let (straight, tapped) = (site.simulator.http_addr().to_string(), format!("127.0.0.1:{}", tap.port()));
    // The assertion is for the address of the tap, so the endpoint refuses it.
    let listened = |site: &Site, endpoints: [&str; 3], instance: &str| {
        let door = format!("[[listener]]\naddress = \"{}\"\n", site.daemon.door);
        configured(&site.simulator, &folder, endpoints, address, instance) + &door
    };
    let text = listened(site, [&straight, &tapped, &straight], "production");
    site.file("relay.toml", &text);
    site.run(&["check-config"]);
    for mailbox in [MAILBOX, CERTIFIED, FEDERATED] {
        assert!(!site.run(&["login", mailbox]).status.success(), "{mailbox}");
    }
    site.daemon.start(&[("RUST_BACKTRACE", "full")]);
    site.until("a refused secret", |account| !account["trouble"].is_null());
    for mailbox in [MAILBOX, CERTIFIED, FEDERATED] {
        assert!(!site.run(&["login", mailbox]).status.success(), "{mailbox}");
    }
    for kind in ["refused json", "refused slack", "refused teams", "refused ntfy"] {
        receiver.until(kind, 1);
    }
    for _ in 0..2 {
        site.run(&["alert", "test"]);
        site.run(&["alert", "test", "--json"]);
        *receiver.takes.lock().unwrap() = true;
    }
    shows(site);

    // All is well: by the secret, the certificate and the token.
    site.file("client-secret", CLIENT_SECRET);
    let token = site.simulator.issue_federated_token(Duration::from_mins(10)).unwrap();
    federate(site, &token);
    let text = listened(site, [&straight; 3], "production");
    reload(site, &text);
    for mailbox in [MAILBOX, CERTIFIED, FEDERATED] {
        let output = site.run(&["login", mailbox]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(site.run(&["send-test", "you@example.com", "--account", mailbox]).status.success(), "{mailbox}");
    }
    receiver.until("refused heartbeat", 1);
    receiver.until("taken ntfy", 2);
    shows(site);

    // One secret takes the place of the other.
    assert!(!site.run(&["account", "drop-secret", MAILBOX]).status.success());
    site.file("next-client-secret", NEXT_CLIENT_SECRET);
    site.simulator.add_client_secret(ClientSecret::new(NEXT_CLIENT_SECRET));
    let output = site.run(&["account", "drop-secret", MAILBOX]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    shows(site);
    site.stop();

    // An outage from the start; then the folder is a copy, and nothing is used.
    site.simulator.fault(Fault::row("http-5xx").unwrap());
    site.daemon.start(&[("RUST_BACKTRACE", "full")]);
    Client::greeted(site.daemon.door).submit(MAILBOX, &["you@example.com"], MAIL);
    site.until("an outage", |account| !account["trouble"].is_null());
    shows(site);
    site.stop();
    site.simulator.clear_faults();
    let text = listened(site, [&straight; 3], "staging");
    site.file("relay.toml", &text);
    site.daemon.start(&[("RUST_BACKTRACE", "full")]);
    site.until_held("clone");
    shows(site);
    site.stop();

    // A fault in the relay itself, while it has new tokens at hand and somebody to tell.
    site.daemon.start(&[("RUST_BACKTRACE", "full"), ("XOAUTH2_RELAY_CRASH_AT", "panic/before_commit:4")]);
    for mailbox in [MAILBOX, CERTIFIED, FEDERATED] {
        site.run(&["account", "release", mailbox]);
        site.run(&["login", mailbox]);
    }
    site.run(&["alert", "test"]);
    assert_eq!(site.daemon.ended(), Some(1));
    let log = site.daemon.said();
    assert!(log.contains("panicked at"), "{log}");
    site.look();
}
