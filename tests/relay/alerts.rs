//! Who is told when a person is needed, what they read, and that nobody hears a secret.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use xoauth2_relay::clock::Clock;
use xoauth2_relay::config::Secret;
use xoauth2_relay::relay::Relay;
use xoauth2_relay::simulator::{Mailbox, Options, Simulator};

use crate::command_line::program;
use crate::support::{LISTENER, MAILBOX, PATIENCE, blocking, checked, configuration, mailbox, quick, start_relay_at};

const ERP: &str = "erp@contoso.com";
/// What stands in the address of a webhook.
const TOKEN: &str = "T0KEN-0F-THE-W3BH00K";
const MINUTE: Duration = Duration::from_mins(1);

/// What was called: method and path, headers, body.
#[derive(Clone, Debug)]
pub struct Call {
    pub what: String,
    headers: BTreeMap<String, String>,
    pub body: String,
}

/// A server that takes alerts and calls that all is well.
#[derive(Clone, Default)]
pub struct Listener {
    calls: Arc<Mutex<Vec<Call>>>,
    is_away: Arc<Mutex<bool>>,
    refused: Arc<Mutex<usize>>,
}

impl Listener {
    pub async fn start() -> (Self, String) {
        let listener = Self::default();
        let router = Router::new().fallback(take).with_state(listener.clone());
        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", socket.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(socket, router).await });
        (listener, address)
    }

    fn set_away(&self, is_away: bool) {
        *self.is_away.lock().unwrap() = is_away;
    }

    pub fn all(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// The calls of this path.
    fn calls(&self, path: &str) -> Vec<Call> {
        self.all().into_iter().filter(|call| call.what.ends_with(path)).collect()
    }
}

async fn take(State(listener): State<Listener>, request: Request) -> (StatusCode, String) {
    if *listener.is_away.lock().unwrap() {
        *listener.refused.lock().unwrap() += 1;
        // Some servers repeat what they were asked.
        let uri = request.uri();
        let said = if uri.path() == "/echo" { format!("no {uri} today") } else { "closed today".to_owned() };
        return (StatusCode::SERVICE_UNAVAILABLE, said);
    }
    let what = format!("{} {}", request.method(), request.uri());
    let headers = request.headers().iter();
    let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body = String::from_utf8(body.to_vec()).unwrap();
    listener.calls.lock().unwrap().push(Call { what, headers, body });
    (StatusCode::OK, "ok".to_owned())
}

/// A relay whose calendar stands still until it is moved.
struct World {
    simulator: Simulator,
    relay: Relay,
    folder: TempDir,
    clock: Clock,
    tokens: Vec<String>,
}

impl World {
    async fn start(options: Options, extra: &str) -> Self {
        let simulator = Simulator::start(options).await.unwrap();
        let folder = TempDir::new().unwrap();
        let clock = Clock::manual(Timestamp::now());
        let relay = start_relay_at(&text(&simulator, &folder, extra), clock.clone()).await;
        Self { simulator, relay, folder, clock, tokens: Vec::new() }
    }

    async fn restart(self, extra: &str) -> Self {
        let Self { simulator, relay, folder, clock, tokens } = self;
        relay.stop().await;
        let relay = start_relay_at(&text(&simulator, &folder, extra), clock.clone()).await;
        Self { simulator, relay, folder, clock, tokens }
    }

    async fn sign_in(&mut self, who: &str) {
        let token = self.simulator.issue_refresh_token(who);
        let who = xoauth2_relay::message::Address::parse(who).unwrap();
        self.relay.ops().login_take_in(&who, Secret::new(token.clone())).await.unwrap();
        self.tokens.push(token);
    }

    /// The sign-in dies, and the relay finds out.
    async fn kill_sign_in(&self) {
        self.simulator.revoke_sign_ins(MAILBOX);
        let since = Instant::now();
        // A refresh that was under way since the login may still be answered well.
        while self.relay.ops().account_release(&mailbox()).await.unwrap().sign_in_problem.is_none() {
            assert!(since.elapsed() < PATIENCE, "the sign-in never died");
        }
    }

    /// Lets minutes pass until something is so.
    async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let since = Instant::now();
        while !is_so() {
            assert!(since.elapsed() < PATIENCE, "{what} never came true: {:#?}", self.relay.ops().status().await);
            self.clock.advance(MINUTE);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn stop(self) {
        self.relay.stop().await;
        self.simulator.stop().await;
    }
}

/// Waits without touching the calendar.
async fn soon(what: &str, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "{what} never came true");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn text(simulator: &Simulator, folder: &TempDir, extra: &str) -> String {
    configuration(simulator, folder.path(), &format!("{extra}\n{LISTENER}"))
}

fn json_hook(address: &str) -> String {
    format!("[alert]\nwebhook = [{{ url = \"{address}/json?{TOKEN}\" }}]\n")
}

fn states(calls: &[Call]) -> Vec<String> {
    let state = |call: &Call| {
        let alert: Value = serde_json::from_str(&call.body).unwrap();
        alert["alerts"][0]["state"].as_str().unwrap().to_owned()
    };
    calls.iter().map(state).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_sign_in_is_told_once_to_everybody_and_a_login_ends_it() {
    let (listener, address) = Listener::start().await;
    let folder = TempDir::new().unwrap();
    let (script, output) = (folder.path().join("page"), folder.path().join("paged"));
    std::fs::write(&script, format!("#!/bin/sh\ncat >> {0}\necho >> {0}\n", output.display())).unwrap();
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let hook = |format: &str| format!("{{ url = \"{address}/{format}?{TOKEN}\", format = \"{format}\" }}");
    let hooks = ["json", "slack", "teams", "ntfy"].map(hook).join(", ");
    let extra = format!("[alert]\nwebhook = [{hooks}]\ncommand = [{script:?}]\nmail_to = [\"it@example.com\"]\n");
    let mut world = World::start(quick(), &extra).await;
    world.sign_in(MAILBOX).await;
    world.kill_sign_in().await;
    soon("four alerts", || listener.all().len() == 4).await;
    let paged = || std::fs::read_to_string(&output).unwrap_or_default();
    soon("a page", || paged().ends_with("}\n")).await;

    let json: Value = serde_json::from_str(&listener.calls(&format!("/json?{TOKEN}"))[0].body).unwrap();
    assert_eq!(json["title"], "Mail through lms@contoso.com has stopped");
    let alert = &json["alerts"][0];
    assert_eq!((&alert["kind"], &alert["account"]), (&"held".into(), &MAILBOX.into()));
    assert_eq!((&alert["codes"][0], &alert["todo"]), (&50173.into(), &"xoauth2-relay login lms@contoso.com".into()));
    assert!(alert["error"].as_str().unwrap().starts_with("AADSTS50173: "), "{alert}");
    let ntfy = listener.calls(&format!("/ntfy?{TOKEN}"))[0].clone();
    assert_eq!(
        (ntfy.headers["title"].as_str(), ntfy.headers["priority"].as_str()),
        (json["title"].as_str().unwrap(), "5")
    );
    for part in ["AADSTS50173: ", "\nTo do: xoauth2-relay login lms@contoso.com\n", "Relay: relay.contoso.com"] {
        assert!(ntfy.body.contains(part), "{part} is not in {}", ntfy.body);
    }

    world.sign_in(MAILBOX).await;
    soon("the end of it", || listener.all().len() == 8).await;
    soon("a second page", || paged().lines().count() == 2).await;
    for format in ["json", "slack", "teams", "ntfy"] {
        assert_eq!(listener.calls(&format!("/{format}?{TOKEN}")).len(), 2, "{format}");
    }
    assert_eq!(states(&listener.calls(&format!("/json?{TOKEN}"))), ["raised", "solved"]);
    let page: Value = serde_json::from_str(paged().lines().nth(1).unwrap()).unwrap();
    assert_eq!(page["title"], "Solved: mail through lms@contoso.com leaves again");
    assert_eq!(world.simulator.accepted_count(), 0, "no mail says that mail has stopped");
    let told = format!("{:?} {}", listener.all().iter().map(|call| call.body.clone()).collect::<Vec<_>>(), paged());
    for secret in world.tokens.iter().map(String::as_str).chain([TOKEN]) {
        assert!(!told.contains(secret), "{secret} was told");
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_could_not_take_it_gets_later_and_a_restart_repeats_nothing() {
    let (listener, address) = Listener::start().await;
    listener.set_away(true);
    let extra = json_hook(&address);
    let mut world = World::start(quick(), &extra).await;
    world.sign_in(MAILBOX).await;
    world.kill_sign_in().await;
    soon("a refusal", || *listener.refused.lock().unwrap() > 0).await;
    world.until("another one", || *listener.refused.lock().unwrap() > 1).await;
    assert_eq!(listener.all().len(), 0);
    let mut world = world.restart(&extra).await;
    listener.set_away(false);
    world.until("the alert", || listener.all().len() == 1).await;
    world = world.restart(&extra).await;
    world.sign_in(MAILBOX).await;
    soon("the end of it", || listener.all().len() == 2).await;
    assert_eq!(states(&listener.all()), ["raised", "solved"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_comes_while_all_is_well_and_silence_while_it_is_not() {
    let (listener, address) = Listener::start().await;
    let extra = format!("{}heartbeat_url = \"{address}/beat\"\n", json_hook(&address));
    let mut world = World::start(quick(), &extra).await;
    world.sign_in(MAILBOX).await;
    let beats = || listener.calls("GET /beat").len();
    soon("a heartbeat", || beats() == 1).await;
    let first = world.clock.now();
    world.until("the next one", || beats() == 2).await;
    assert!(world.clock.now() >= first + 5 * MINUTE, "every five minutes, not every minute");

    world.kill_sign_in().await;
    let alerts = || listener.calls(&format!("/json?{TOKEN}"));
    soon("the alert", || alerts().len() == 1).await;
    // The reminder shows that it was looked at when a heartbeat would long have been due.
    world.clock.advance(Duration::from_hours(25));
    soon("the reminder", || alerts().len() == 2).await;
    assert_eq!(states(&alerts()), ["raised", "reminder"]);
    assert_eq!(beats(), 2, "silence is the alarm");
    world.sign_in(MAILBOX).await;
    soon("a heartbeat again", || beats() == 3).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_ends_soon_is_told_by_mail_while_mail_works() {
    let options = Options { client_secret: Some("hunter2-hunter2".to_owned()), ..quick() };
    let ends =
        Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date().checked_add(jiff::Span::new().days(10)).unwrap();
    let extra =
        format!("client_secret_expires = {ends}\n[alert]\nmail_to = [\"it@example.com\", \"me@example.com\"]\n");
    let mut world = World::start(options, &extra).await;
    world.sign_in(MAILBOX).await;
    world.until("the mail", || world.simulator.accepted_count() == 1).await;
    let mail = world.simulator.accepted().remove(0);
    assert_eq!(
        (mail.mail_from.as_str(), &mail.recipients[..]),
        (MAILBOX, &["it@example.com".to_owned(), "me@example.com".to_owned()][..])
    );
    let text =
        String::from_utf8(mail.bytes.to_vec()).unwrap().replace("\r\n", "\n").replace("=\n", "").replace("\n ", " ");
    for line in [
        "From: xoauth2-relay <lms@contoso.com>",
        "To: it@example.com, me@example.com",
        "Subject: [xoauth2-relay] The client secret of lms@contoso.com ends in 10 days",
        "Auto-Submitted: auto-generated",
        "From then on there are no access tokens, and mail stops.",
        "Relay: relay.contoso.com",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    for start in ["Date: ", "Message-ID: <", "Ends: ", "To do: Make a new client secret"] {
        assert!(text.lines().any(|found| found.starts_with(start)), "{start} is not in {text}");
    }
    assert!(!text.contains("hunter2"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_account_carries_the_mail_that_one_has_stopped() {
    let options =
        Options { mailboxes: vec![Mailbox::new(ERP), Mailbox::new(MAILBOX).send_as("noreply@contoso.com")], ..quick() };
    let mut world = World::start(options, "[alert]\nmail_to = [\"it@example.com\"]\n").await;
    world.sign_in(ERP).await;
    world.sign_in(MAILBOX).await;
    world.kill_sign_in().await;
    let waited = tokio::time::timeout(PATIENCE, world.simulator.wait_for_accepted(1)).await;
    assert!(waited.is_ok(), "{:#?}", world.relay.ops().queue_list().await);
    assert_eq!(world.simulator.accepted()[0].mail_from, ERP);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_new_in_the_configuration_hears_of_what_is_wrong_at_once() {
    let (listener, address) = Listener::start().await;
    let mut world = World::start(quick(), "").await;
    world.sign_in(MAILBOX).await;
    world.kill_sign_in().await;
    crate::support::until_held(&world.relay, true).await;
    let config = checked(&text(&world.simulator, &world.folder, &json_hook(&address)));
    assert_eq!(world.relay.configure(config).await.unwrap(), [""; 0]);
    soon("the alert", || listener.all().len() == 1).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_is_sent_to_everybody_and_says_who_did_not_get_it() {
    let (listener, address) = Listener::start().await;
    let extra = format!(
        "[alert]\nwebhook = [{{ url = \"{address}/json?{TOKEN}\" }}, {{ url = \"{address}/echo?{TOKEN}\" }}]\n\
         command = [\"/bin/false\"]\nmail_to = [\"it@example.com\"]\n"
    );
    let mut world = World::start(quick(), &extra).await;
    world.sign_in(MAILBOX).await;
    let file = world.folder.path().join("relay.toml");
    std::fs::write(&file, text(&world.simulator, &world.folder, &extra)).unwrap();
    let test = || {
        let file = file.clone();
        blocking(move || program(&file).args(["alert", "test"]).output().unwrap())
    };
    let output = test().await;
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 4, "{said}");
    assert_eq!(lines[0], format!("webhook 1 (json): ok: {address} answered 200"));
    assert_eq!(lines[2], "command: FAILED: /bin/false failed with exit code 1");
    assert!(lines[3].starts_with("mail_to: ok: put into the queue of lms@contoso.com as message "), "{said}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(listener.all().len(), 2);
    tokio::time::timeout(PATIENCE, world.simulator.wait_for_accepted(1)).await.unwrap();

    listener.set_away(true);
    let said = String::from_utf8(test().await.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], format!("webhook 1 (json): FAILED: {address} answered 503 (closed today)"));
    assert_eq!(lines[1], format!("webhook 2 (json): FAILED: {address} answered 503"));
    assert!(!said.contains(TOKEN), "{said}");

    world.relay.configure(checked(&text(&world.simulator, &world.folder, ""))).await.unwrap();
    let output = test().await;
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("nobody would be told: [alert]"));
    world.stop().await;
}
