//! What an administrator orders about mail in the queue.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xoauth2_relay::ops::{MoveOrder, Ordered, ReaddressOrder, Selection};
use xoauth2_relay::simulator::{Fault, Simulator};

use crate::command_line::{Daemon, program};
use crate::password_host::Host;
use crate::support::{Client, LISTENER, MAILBOX, Rig, blocking, mailbox, quick, start_relay_with, until_queue};

const MAIL: &str = "From: lms@contoso.com\r\nTo: you@example.com\r\nSubject: hello\r\n\r\nhello\r\n";

fn these(ids: &[&str]) -> Selection {
    Selection::Ids(ids.iter().map(|&id| id.to_owned()).collect())
}

/// An account that leaves through this server.
fn account(mailbox: &str, host: &Host) -> String {
    format!(
        "[[account]]\nmailbox = \"{mailbox}\"\nprovider = \"smarthost\"\nsmtp = \"{}\"\nsmtp_tls = \"none\"\n",
        host.address
    )
}

fn why(ordered: &Ordered) -> &str {
    &ordered.left[0].why
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_message_waits_for_its_release_while_others_leave() {
    let rig = Rig::start().await;
    let ops = rig.relay.ops();
    ops.account_hold(&mailbox()).await.unwrap();
    rig.submit(MAILBOX, &["one@example.com"], MAIL).await;
    rig.submit(MAILBOX, &["two@example.com"], MAIL).await;
    let queue = rig.queue().await;
    let id = queue[0].id.as_str();

    let left = ops.queue_release(these(&[id])).await.unwrap();
    assert_eq!(left.done, 0);
    assert!(why(&left).contains("its account lms@contoso.com is"), "{left:?}");
    assert_eq!(ops.queue_hold(these(&[id, id])).await.unwrap().done, 1);
    assert_eq!(why(&ops.queue_hold(these(&[id])).await.unwrap()), "is held already");
    ops.account_release(&mailbox()).await.unwrap();
    assert_eq!(rig.until_accepted(1).await[0].recipients, ["two@example.com"]);
    let queue = rig.until_queue("one message", |queue| queue.len() == 1).await;
    assert_eq!((queue[0].id.as_str(), queue[0].state.as_str()), (id, "held"));

    let missing = ops.queue_release(these(&[id, "0000000000000"])).await.unwrap_err().to_string();
    assert!(missing.contains("there is no message 0000000000000"), "{missing}");
    assert_eq!(ops.queue_release(Selection::Held).await.unwrap().done, 1);
    assert_eq!(rig.until_accepted(2).await[1].recipients, ["one@example.com"]);
    rig.until_queue_is_empty().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mail_of_a_held_account_leaves_through_another_one() {
    let host = Host::start("");
    let rig = Rig::with(quick(), &account("backup@contoso.com", &host)).await;
    let ops = rig.relay.ops();
    ops.account_hold(&mailbox()).await.unwrap();
    for to in ["one@example.com", "two@example.com"] {
        rig.submit(MAILBOX, &[to], MAIL).await;
    }
    let order = |which, to: &str| MoveOrder { which, to: to.to_owned() };
    let unknown = ops.queue_move(&order(Selection::All, "nobody@contoso.com")).await.unwrap_err().to_string();
    assert!(unknown.contains("the configuration has lms@contoso.com, backup@contoso.com"), "{unknown}");
    let of_lms = || Selection::Account(MAILBOX.to_uppercase());
    assert_eq!(ops.queue_move(&order(of_lms(), "backup@contoso.com")).await.unwrap().done, 2);
    host.until("both", |heard| heard.mails.len() == 2).await;
    rig.until_queue_is_empty().await;
    assert_eq!(ops.queue_move(&order(of_lms(), "backup@contoso.com")).await.unwrap(), Ordered::default());
    assert!(rig.simulator.accepted().is_empty());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_moved_while_it_is_sent_is_sent_once() {
    let (folder, slow, other) = (TempDir::new().unwrap(), Host::start(""), Host::start(""));
    slow.heard.lock().unwrap().is_slow = true;
    let relay = start_relay_with(&format!(
        "hostname = \"relay.test\"\ndata_dir = \"{}\"\n[admin]\naddress = \"127.0.0.1:0\"\n{}{}{LISTENER}",
        folder.path().join("data").display(),
        account(MAILBOX, &slow),
        account("other@contoso.com", &other),
    ))
    .await;
    let door = relay.listeners()[0];
    let submit = |from: &'static str| blocking(move || Client::greeted(door).submit(from, &["you@example.com"], MAIL));
    submit(MAILBOX).await;
    slow.until("the whole message", |heard| heard.mails.len() == 1).await;

    let order = MoveOrder { which: Selection::All, to: "other@contoso.com".to_owned() };
    assert_eq!(relay.ops().queue_move(&order).await.unwrap().done, 1);
    // It comes behind the moved one: once it has left, that one has been looked at.
    submit("other@contoso.com").await;
    other.until("its own message", |heard| heard.mails.len() == 1).await;
    slow.heard.lock().unwrap().is_slow = false;
    until_queue(&relay, "an empty queue", <[_]>::is_empty).await;
    assert_eq!((slow.heard.lock().unwrap().mails.len(), other.heard.lock().unwrap().mails.len()), (1, 1));
    relay.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_recipient_is_replaced_and_the_others_get_nothing_twice() {
    let rig = Rig::start().await;
    rig.simulator.fault(Fault::row("5.4.1-recipient-rejected").unwrap().for_recipient("old+x@example.com"));
    rig.submit(MAILBOX, &["one@example.com", "old+x@example.com"], MAIL).await;
    rig.until_accepted(1).await;
    let queue = rig.until_queue("a dead letter", |queue| queue.iter().any(|message| message.state == "dead")).await;
    let id = queue[0].id.clone();
    let order =
        |from: &str, to: &str| ReaddressOrder { ids: vec![id.clone()], from: from.to_owned(), to: to.to_owned() };
    let ops = rig.relay.ops();
    for (from, to, expected) in [
        ("other@example.com", "new@example.com", "does not go to other@example.com, but to one@example.com, old+x@"),
        ("one@example.com", "new@example.com", "has already been accepted for one@example.com"),
        ("old+x@example.com", "ONE@example.com", "goes to ONE@example.com already"),
    ] {
        let left = ops.queue_readdress(&order(from, to)).await.unwrap();
        assert!(left.done == 0 && why(&left).starts_with(expected), "{left:?}");
    }
    assert!(
        ops.queue_readdress(&order("old", "new@example.com")).await.unwrap_err().to_string().starts_with("--from: ")
    );

    assert_eq!(ops.queue_readdress(&order("old+x@example.com", "new@example.com")).await.unwrap().done, 1);
    assert_eq!(rig.until_accepted(2).await[1].recipients, ["new@example.com"]);
    rig.until_queue_is_empty().await;
    let detail = ops.queue_show(id.parse().unwrap()).await.unwrap();
    assert!(
        detail
            .journal
            .iter()
            .any(|entry| entry.text.starts_with("readdressed by an administrator from old+x@example.com")),
        "{detail:?}"
    );
    rig.stop().await;
}

struct Site {
    _simulator: Simulator,
    folder: TempDir,
    daemon: Daemon,
}

impl Site {
    async fn start() -> Self {
        let (simulator, folder) = (Simulator::start(quick()).await.unwrap(), TempDir::new().unwrap());
        let mut daemon = Daemon::prepare(&simulator, &folder).await;
        daemon.start(&[]);
        Self { _simulator: simulator, folder, daemon }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        program(&self.daemon.config).args(arguments).output().unwrap()
    }

    /// What it prints, on success.
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap()
    }

    fn ids(&self) -> Vec<String> {
        let queue = self.daemon.json(&["queue", "list", "--json"]);
        queue.as_array().unwrap().iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_exported_as_they_came() {
    let site = Site::start().await;
    let large = format!("{MAIL}{}", "0123456789 and so on and on and on\r\n".repeat(10_000));
    blocking(move || {
        site.says(&["account", "hold", MAILBOX]);
        for mail in [MAIL, &large] {
            Client::greeted(site.daemon.door).submit(MAILBOX, &["you@example.com"], mail);
        }
        let ids = site.ids();
        assert_eq!(site.says(&["queue", "export", &ids[0]]), MAIL);
        assert!(site.fails(&["queue", "export", &ids[0], &ids[1]]).contains("--output FOLDER"));
        assert!(site.fails(&["queue", "export", "0000000000000"]).contains("there is no message 0000000000000"));
        assert!(site.fails(&["queue", "export", "../../x", "--output", "/"]).contains("is not a message id"));

        let folder = site.folder.path().join("mails");
        let to = folder.to_str().unwrap();
        let said = site.says(&["queue", "export", &ids[0], &ids[1], "--output", to]);
        assert!(said.contains(&format!("({} octets)", large.len())), "{said}");
        for (id, mail) in ids.iter().zip([MAIL, &large]) {
            let file = folder.join(format!("{id}.eml"));
            assert!(std::fs::read_to_string(&file).unwrap() == *mail);
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert!(site.fails(&["queue", "export", &ids[0], "--output", to]).contains("is there already"));
        let file = site.folder.path().join("one.eml");
        site.says(&["queue", "export", &ids[0], "--output", file.to_str().unwrap()]);
        assert_eq!(std::fs::read_to_string(file).unwrap(), MAIL);
        site.says(&["queue", "delete", "--all"]);
        assert!(site.fails(&["queue", "export", &ids[0]]).contains("has left the queue"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_sends_only_what_is_new_enough_and_loses_nothing() {
    let site = Site::start().await;
    blocking(move || {
        site.says(&["account", "hold", MAILBOX]);
        Client::greeted(site.daemon.door).submit(MAILBOX, &["you@example.com"], MAIL);
        let id = &site.ids()[0];
        assert!(site.says(&["queue", "hold", id]).starts_with("1 message held until"));
        let said = site.says(&["queue", "hold", id]);
        assert_eq!(said, format!("{id} is held already\n"));
        assert!(site.says(&["queue", "release", "--app", "default"]).starts_with("1 message released"));
        assert!(
            site.fails(&["queue", "readdress", id, "--from", "a@example.com", "--to", "b@example.com"]).contains(id)
        );

        let said = site.says(&["account", "release", MAILBOX, "--newer-than", "2h"]);
        assert!(said.contains("Nothing older was waiting"), "{said}");
        let left = || site.ids().is_empty();
        while !left() {
            std::thread::sleep(Duration::from_millis(20));
        }

        site.says(&["account", "hold", MAILBOX]);
        Client::greeted(site.daemon.door).submit(MAILBOX, &["you@example.com"], MAIL);
        let id = &site.ids()[0];
        let since = Instant::now();
        while since.elapsed() <= Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let said = site.says(&["account", "release", MAILBOX, "--newer-than", "1s"]);
        assert!(said.contains("Not sent, but kept as dead letters: 1 older message;"), "{said}");
        let queue = site.daemon.json(&["queue", "list", "--json"]);
        assert_eq!((&queue[0]["state"], &queue[0]["recipients"][0]["state"]), (&"dead".into(), &"waiting".into()));
        assert!(site.says(&["queue", "show", id]).contains("it came more than 1s before an administrator released"));
        site.says(&["queue", "retry", id]);
        while !left() {
            std::thread::sleep(Duration::from_millis(20));
        }
    })
    .await;
}
