//! SIGHUP: a changed configuration takes effect while mail goes on, and a wrong one changes nothing.

use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use xoauth2_relay::simulator::{Mailbox, Options, Simulator};

use crate::command_line::{Daemon, free_port, program};
use crate::support::{Client, MAILBOX, PATIENCE, blocking, expect, quick};

const MAIL: &str = "From: lms@contoso.com\r\nSubject: hello\r\n\r\nhello\r\n";
const ERP: &str = "erp@contoso.com";

fn two_mailboxes() -> Options {
    Options { mailboxes: vec![Mailbox::new(MAILBOX).send_as("noreply@contoso.com"), Mailbox::new(ERP)], ..quick() }
}

/// Replaces text in the configuration and tells the relay.
fn change(daemon: &Daemon, from: &str, to: &str) {
    let text = std::fs::read_to_string(&daemon.config).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    std::fs::write(&daemon.config, text.replacen(from, to, 1)).unwrap();
    daemon.signal("HUP");
}

fn wait(what: &str, daemon: &Daemon, is_so: impl Fn() -> bool) {
    let since = Instant::now();
    while !is_so() {
        assert!(since.elapsed() < PATIENCE, "{what} never came true: {}", daemon.said());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn accounts(daemon: &Daemon) -> Vec<String> {
    let status = daemon.json(&["status", "--json"]);
    let accounts = status["accounts"].as_array().unwrap().iter();
    accounts.map(|account| account["mailbox"].as_str().unwrap().to_owned()).collect()
}

/// How often it was said that a configuration is in force.
fn reloads(daemon: &Daemon) -> usize {
    daemon.said().matches("the configuration was read again").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_come_and_go_and_mail_of_one_that_is_gone_waits_for_it() {
    let simulator = Simulator::start(two_mailboxes()).await.unwrap();
    let folder = TempDir::new().unwrap();
    let mut daemon = Daemon::prepare(&simulator, &folder).await;
    let token = simulator.issue_refresh_token(ERP);
    let daemon = blocking(move || {
        let both = std::fs::read_to_string(&daemon.config).unwrap();
        let (start, second) = both.rsplit_once("[[account]]").unwrap();
        let one = format!("{start}{}", &second[second.find("[queue]").unwrap()..]);
        std::fs::write(&daemon.config, &one).unwrap();
        daemon.start(&[]);
        assert_eq!(accounts(&daemon), [MAILBOX]);
        std::fs::write(&daemon.config, &both).unwrap();
        daemon.signal("HUP");
        wait("a second account", &daemon, || accounts(&daemon) == [MAILBOX, ERP]);
        wait("its hold", &daemon, || {
            daemon.json(&["status", "--json"])["accounts"][1]["hold"]["cause"] == "not_signed_in"
        });

        // Signed in through the relay, which knows it now; then held, so that its mail is there when the account goes.
        let file = daemon.config.with_file_name("erp-token");
        std::fs::write(&file, token).unwrap();
        let run = |arguments: &[&str]| {
            let output = program(&daemon.config).args(arguments).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run(&["login", ERP, "--refresh-token-file", file.to_str().unwrap()]);
        run(&["account", "hold", ERP]);
        Client::greeted(daemon.door).submit(ERP, &["you@example.com"], MAIL);

        std::fs::write(&daemon.config, &one).unwrap();
        daemon.signal("HUP");
        wait("one account", &daemon, || accounts(&daemon) == [MAILBOX]);
        let status = daemon.json(&["status", "--json"]);
        assert_eq!(status["removed_accounts"][0]["mailbox"], ERP);
        assert_eq!(daemon.json(&["queue", "list", "--json"])[0]["state"], "held");
        assert!(daemon.said().contains("the account is gone: its mail is kept"), "{}", daemon.said());

        std::fs::write(&daemon.config, &both).unwrap();
        daemon.signal("HUP");
        wait("the account", &daemon, || accounts(&daemon) == [MAILBOX, ERP]);
        run(&["account", "release", ERP]);
        daemon
    })
    .await;
    tokio::time::timeout(PATIENCE, simulator.wait_for_accepted(1)).await.expect("the mail leaves");
    let mut daemon = daemon;
    blocking(move || assert_eq!(daemon.terminate(), Some(0))).await;
    simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_configuration_changes_nothing_and_every_problem_is_told() {
    let simulator = Simulator::start(quick()).await.unwrap();
    let folder = TempDir::new().unwrap();
    let mut daemon = Daemon::prepare(&simulator, &folder).await;
    blocking(move || {
        daemon.start(&[]);
        change(&daemon, "[queue]\n", "[queue]\ncolour = \"red\"\ngive_up_after = \"soon\"\n");
        wait("the problems", &daemon, || daemon.said().contains("the one before is in force"));
        for part in ["queue.colour", "queue.give_up_after"] {
            assert!(daemon.said().contains(part), "{part} is not in {}", daemon.said());
        }
        Client::greeted(daemon.door).submit(MAILBOX, &["you@example.com"], MAIL);
        change(&daemon, "colour = \"red\"\ngive_up_after = \"soon\"\n", "give_up_after = \"2d\"\n");
        wait("the right one", &daemon, || reloads(&daemon) == 1);
        std::fs::remove_file(&daemon.config).unwrap();
        daemon.signal("HUP");
        wait("the missing file", &daemon, || daemon.said().contains("cannot be read"));
        Client::greeted(daemon.door).submit(MAILBOX, &["you@example.com"], MAIL);
        assert_eq!(daemon.terminate(), Some(0));
    })
    .await;
    assert_eq!(simulator.accepted_count(), 2);
    simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_changes_what_it_can_and_what_it_cannot_is_named() {
    let simulator = Simulator::start(quick()).await.unwrap();
    let folder = TempDir::new().unwrap();
    let mut daemon = Daemon::prepare(&simulator, &folder).await;
    blocking(move || {
        daemon.start(&[]);
        let address = format!("address = \"{}\"\n", daemon.door);
        let with = |more: &str| format!("{address}{more}");

        change(&daemon, &address, &with("max_message_size = \"1 MiB\"\nallow = [\"10.0.0.0/8\"]\n"));
        wait("the first reload", &daemon, || reloads(&daemon) == 1);
        let mut client = Client::greeted(daemon.door);
        expect(&client.ask("MAIL FROM:<lms@contoso.com>"), "550");
        change(&daemon, "10.0.0.0/8", "127.0.0.0/8");
        wait("the second reload", &daemon, || reloads(&daemon) == 2);
        let mut client = Client::greeted(daemon.door);
        assert!(client.ask("EHLO client.example").contains("SIZE 1048576"));
        assert!(!daemon.said().contains("needs a restart"), "{}", daemon.said());

        assert!(!daemon.said().contains(" DEBUG "), "{}", daemon.said());
        change(&daemon, "hostname =", "log = \"debug\"\nhostname =");
        wait("the third reload", &daemon, || reloads(&daemon) == 3);
        drop(Client::greeted(daemon.door));
        wait("more in the log", &daemon, || daemon.said().contains(" DEBUG "));

        let elsewhere = free_port();
        change(&daemon, &address, &format!("address = \"{elsewhere}\"\n"));
        wait("the fourth reload", &daemon, || reloads(&daemon) == 4);
        let said = daemon.said();
        for part in [format!("listener {}: it is gone", daemon.door), format!("listener {elsewhere}: it is new")] {
            assert!(said.contains(&format!("needs a restart to take effect: {part}")), "{part} is not in {said}");
        }
        Client::greeted(daemon.door).submit(MAILBOX, &["you@example.com"], MAIL);
        assert_eq!(daemon.terminate(), Some(0));
    })
    .await;
    simulator.stop().await;
}

/// Starts the relay with these sockets as descriptors 3 and 4, as a service manager does.
fn start_on(daemon: &mut Daemon, sockets: [TcpListener; 2]) {
    let [first, second] = sockets.map(|socket| Stdio::from(std::os::fd::OwnedFd::from(socket)));
    daemon.start_by(|program| {
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "exec 3<&0 4<&1 </dev/null >/dev/null; LISTEN_FDS=2 exec \"$0\" \"$@\""]);
        shell.arg(program.get_program()).args(program.get_args()).env_remove("XOAUTH2_RELAY_CONFIG");
        shell.stdin(first).stdout(second);
        shell
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_that_comes_while_the_relay_restarts_waits_in_the_socket_that_was_passed() {
    let simulator = Simulator::start(quick()).await.unwrap();
    let folder = TempDir::new().unwrap();
    let mut daemon = Daemon::prepare(&simulator, &folder).await;
    blocking(move || {
        // Bound before the relay is there, and kept while it is not, as a service manager does.
        let kept = TcpListener::bind(daemon.door).unwrap();
        let admin = TcpListener::bind("127.0.0.1:0").unwrap();
        let page: SocketAddr = admin.local_addr().unwrap();
        let text = std::fs::read_to_string(&daemon.config).unwrap();
        std::fs::write(&daemon.config, text.replace("address = \"127.0.0.1:0\"", &format!("address = \"{page}\"")))
            .unwrap();
        let mut early = Client::connect(daemon.door);
        start_on(&mut daemon, [kept.try_clone().unwrap(), admin.try_clone().unwrap()]);
        expect(&early.reply(), "220");
        let health = || program(&daemon.config).args(["health", "--json"]).output().unwrap();
        let answer: Value = serde_json::from_slice(&health().stdout).unwrap();
        assert_eq!((health().status.code(), &answer["status"]), (Some(0), &Value::from("ok")));

        assert_eq!(daemon.terminate(), Some(0));
        assert!(early.rest().starts_with("421"));
        let mut between = Client::connect(daemon.door);
        start_on(&mut daemon, [kept.try_clone().unwrap(), admin]);
        expect(&between.reply(), "220");
        expect(&between.ask("EHLO client.example"), "250");
        between.submit(MAILBOX, &["you@example.com"], MAIL);
        assert_eq!(daemon.terminate(), Some(0));
    })
    .await;
    assert_eq!(simulator.accepted_count(), 1);
    simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_fits_no_listener_and_a_wrong_configuration_end_with_code_2() {
    let simulator = Simulator::start(quick()).await.unwrap();
    let folder = TempDir::new().unwrap();
    let daemon = Daemon::prepare(&simulator, &folder).await;
    blocking(move || {
        let stray = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = stray.local_addr().unwrap();
        let run = |socket: Stdio| {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", "exec 3<&0 </dev/null; LISTEN_FDS=1 exec \"$0\" \"$@\""]);
            let program = program(&daemon.config);
            shell.arg(program.get_program()).args(program.get_args()).arg("run").stdin(socket);
            let output = shell.output().unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let (code, said) = run(Stdio::from(std::os::fd::OwnedFd::from(stray)));
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(&format!("a socket for {address}, but no [[listener]] has that address")), "{said}");
        let (code, said) = run(Stdio::null());
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("no listening TCP socket"), "{said}");

        std::fs::write(&daemon.config, "colour = \"red\"\n").unwrap();
        let output = program(&daemon.config).arg("run").output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains("colour"));
    })
    .await;
    simulator.stop().await;
}
