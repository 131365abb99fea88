//! Whom mail leaves as: what Exchange gets is permitted or refused as the app's policy says, and what Exchange says of senders is learnt.

use std::path::Path;
use std::process::Command;

use xoauth2_relay::ops::{SenderView, Status};
use xoauth2_relay::simulator::{Accepted, Fault};

use crate::clients::{client, php_with_phpmailer, run, script};
use crate::support::{Client, LISTENER, MAILBOX, NOREPLY, Rig, blocking, expect, mailbox, quick, without_received};

const DEAN: &str = "dean@contoso.com";
const QUEUE: &str = "[queue]\nretry = [\"1s\"]\n";
const DENIED: &str = "554-5.2.252-sendas";

fn default_app(rules: &str) -> String {
    format!("{QUEUE}[[app]]\nname = \"default\"\n{rules}\n")
}

fn mail(from: &str) -> String {
    format!(
        "Date: Sat, 21 Nov 2026 09:00:00 +0000\r\nFrom: {from}\r\nMessage-ID: <one@moodle.example>\r\nSubject: hello\r\n\r\nhello\r\n"
    )
}

async fn status(rig: &Rig) -> Status {
    rig.relay.ops().status().await.unwrap()
}

async fn senders(rig: &Rig) -> Vec<SenderView> {
    status(rig).await.accounts.into_iter().next().unwrap().senders
}

/// Only what is permitted, in the envelope and in the header, as Python's own parser reads it.
fn as_python_reads(accepted: &[Accepted], folder: &Path) -> Option<Vec<String>> {
    let python = client("python3")?;
    let read = "import email, email.policy, sys\n\
        for path in sys.argv[1:]:\n\
        \x20   m = email.message_from_bytes(open(path, 'rb').read(), policy=email.policy.default)\n\
        \x20   names = [(a.display_name, a.addr_spec) for a in m['from'].addresses]\n\
        \x20   replies = [a.addr_spec for a in m['reply-to'].addresses] if m['reply-to'] else []\n\
        \x20   print(names, replies, m['subject'])\n";
    let files: Vec<_> = (0..accepted.len()).map(|n| folder.join(format!("mail-{n}"))).collect();
    for (mail, file) in accepted.iter().zip(&files) {
        std::fs::write(file, &mail.bytes).unwrap();
    }
    let output =
        Command::new(python).arg("-c").arg(read).args(&files).env("PYTHONIOENCODING", "utf-8").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn moodle_with_handlebounces_and_teachers_own_addresses_leaves_as_the_mailbox_and_is_answered_to_the_teacher() {
    let Some(php) = php_with_phpmailer() else { return };
    let rig = Rig::start().await;
    let mut command = Command::new(php);
    command.args([script("teachers.php"), rig.door().port().to_string()]);
    blocking(move || run(&mut command)).await;
    let accepted = rig.until_accepted(3).await;
    for one in &accepted {
        assert_eq!(one.mail_from, MAILBOX, "VERP is no address that Exchange permits");
        assert!(!String::from_utf8_lossy(&one.bytes).contains("moodleAABAAAAAg"), "and nothing of it is left");
    }
    // Exchange is strict about both: nothing was refused on the way.
    rig.until_queue_is_empty().await;
    let known: Vec<_> = senders(&rig).await.into_iter().map(|one| (one.address, one.state)).collect();
    assert_eq!(known, [(NOREPLY.to_owned(), "accepted".to_owned())]);
    let Some(read) = as_python_reads(&accepted, rig.folder.path()) else { return rig.stop().await };
    let wanted = [
        "[('Jürgen Müller (via LMS)', 'lms@contoso.com')] ['juergen@school.example'] Übung 1: Grüße",
        "[('Зоя Петрова (via LMS)', 'lms@contoso.com')] ['forum-reply@school.example'] Übung 2: Grüße",
        "[('Nicht antworten (via LMS)', 'noreply@contoso.com')] [] Übung 3: Grüße",
    ];
    // They leave through several sessions at once.
    assert_eq!(read.len(), 3);
    for wanted in wanted {
        assert!(read.iter().any(|read| read == wanted), "{wanted} is not among {read:#?}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_refused_is_refused_where_the_program_keeps_the_text() {
    let rig = Rig::with(quick(), &default_app("sender = \"refuse\"")).await;
    let door = rig.door();
    blocking(move || {
        for (sender, from) in [(DEAN, MAILBOX), (MAILBOX, DEAN), ("", DEAN)] {
            let mut client = Client::greeted(door);
            expect(&client.ask(&format!("MAIL FROM:<{sender}>")), "250");
            expect(&client.ask("RCPT TO:<you@example.com>"), "250");
            expect(&client.ask("DATA"), "354");
            client.send(mail(from).as_bytes());
            let refusal = client.ask(".");
            for words in ["550 5.7.60", DEAN, MAILBOX, "send_as", "sender = \"rewrite\"", "the app default"] {
                assert!(refusal.contains(words), "{words} is not in {refusal}");
            }
        }
    })
    .await;
    rig.submit(NOREPLY, &["you@example.com"], &mail(NOREPLY)).await;
    rig.submit("", &["you@example.com"], &mail("root (Cron Daemon)")).await;
    let accepted = rig.until_accepted(2).await;
    assert!(accepted.iter().any(|one| one.mail_from == NOREPLY));
    assert!(accepted.iter().any(|one| one.mail_from == MAILBOX), "what names nobody is nobody's");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_be_kept_leaves_as_it_came_and_what_exchange_refuses_is_refused_and_told() {
    let rig = Rig::with(quick(), &default_app("sender = \"keep\"")).await;
    let odd = mail(NOREPLY).replace("Subject", "Sender: x@y.example\r\nSubject");
    rig.submit(NOREPLY, &["you@example.com"], &odd).await;
    let accepted = rig.until_accepted(1).await;
    assert_eq!((accepted[0].mail_from.as_str(), without_received(&accepted[0].bytes)), (NOREPLY, odd.as_bytes()));

    rig.submit(MAILBOX, &["you@example.com"], &mail(DEAN)).await;
    let queue = rig.until_queue("a dead letter", |queue| queue.iter().any(|one| one.state == "dead")).await;
    let reply = queue[0].recipients[0].reply.as_deref().unwrap();
    assert!(reply.contains("not allowed to send as dean@contoso.com"), "{reply}");
    let detail = rig.relay.ops().queue_show(queue[0].id.parse().unwrap()).await.unwrap();
    let tries = detail.journal.iter().filter(|line| line.text.contains("SendAsDenied")).count();
    assert_eq!(tries, 2, "once more, since it may be chance: {:#?}", detail.journal);
    let known = senders(&rig).await;
    let states: Vec<_> = known.iter().map(|one| (one.address.as_str(), one.state.as_str())).collect();
    assert_eq!(states, [(DEAN, "refused"), (NOREPLY, "accepted")]);
    let remedy = known[0].remedy.as_deref().unwrap();
    assert!(remedy.ends_with("then: xoauth2-relay account release lms@contoso.com"), "{remedy}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_whose_permission_is_gone_costs_no_mail_and_comes_back_once_it_is_granted() {
    let rig = Rig::with(quick(), QUEUE).await;
    rig.simulator.fault(Fault::row(DENIED).unwrap().times(2));
    rig.submit(NOREPLY, &["you@example.com"], &mail(NOREPLY)).await;
    let accepted = rig.until_accepted(1).await;
    assert_eq!(accepted[0].mail_from, MAILBOX, "refused twice, and then rewritten");
    assert!(String::from_utf8_lossy(&accepted[0].bytes).contains("Reply-To: noreply@contoso.com\r\n"));
    rig.until_queue_is_empty().await;
    let journal = rig.relay.ops().account_show(&mailbox()).await.unwrap().journal;
    assert!(
        journal.iter().any(|line| line.text.contains("Exchange refuses noreply@contoso.com as a sender")),
        "{journal:?}"
    );

    rig.submit(NOREPLY, &["you@example.com"], &mail(NOREPLY)).await;
    assert_eq!(rig.until_accepted(2).await[1].mail_from, MAILBOX, "the next ones are not refused first");
    let rig = rig.restart().await;
    rig.submit(NOREPLY, &["you@example.com"], &mail(NOREPLY)).await;
    assert_eq!(rig.until_accepted(3).await[2].mail_from, MAILBOX, "nor after a restart");
    assert_eq!(senders(&rig).await[0].state, "refused");

    rig.relay.ops().account_release(&mailbox()).await.unwrap();
    rig.submit(NOREPLY, &["you@example.com"], &mail(NOREPLY)).await;
    assert_eq!(rig.until_accepted(4).await[3].mail_from, NOREPLY);
    rig.until_queue_is_empty().await;
    assert_eq!(senders(&rig).await[0].state, "accepted");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_chance_changes_nothing() {
    let rig = Rig::with(quick(), QUEUE).await;
    rig.simulator.fault(Fault::row("550-5.7.60").unwrap().times(1));
    rig.submit(NOREPLY, &["you@example.com"], &mail(NOREPLY)).await;
    assert_eq!(rig.until_accepted(1).await[0].mail_from, NOREPLY);
    rig.until_queue_is_empty().await;
    assert_eq!(senders(&rig).await[0].state, "accepted");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_that_was_taken_while_its_sender_was_permitted_does_not_leave_in_another_name() {
    let rig = Rig::with(quick(), &default_app("sender = \"refuse\"")).await;
    rig.simulator.go_away().await.unwrap();
    rig.submit(NOREPLY, &["you@example.com"], &mail(NOREPLY)).await;
    rig.until_queue("a first try", |queue| queue.iter().any(|one| one.recipients[0].reply.is_some())).await;
    let config = |send_as: &str| {
        let rules = format!("{}\n{LISTENER}", default_app("sender = \"refuse\""));
        crate::staging::read(&rig, &rules, &[("send_as = [\"noreply@contoso.com\"]", send_as)])
    };
    rig.relay.configure(config("send_as = []")).await.unwrap();
    rig.simulator.come_back().await.unwrap();
    rig.relay.ops().account_release(&mailbox()).await.unwrap();
    let queue = rig.until_queue("a held message", |queue| queue.iter().any(|one| one.state == "held")).await;
    let reply = queue[0].recipients[0].reply.as_deref().unwrap();
    assert!(reply.contains("may not send as noreply@contoso.com") && reply.contains("queue retry"), "{reply}");
    assert_eq!(rig.simulator.accepted_count(), 0);

    rig.relay.configure(config("send_as = [\"noreply@contoso.com\"]")).await.unwrap();
    rig.relay.ops().queue_retry(xoauth2_relay::ops::Selection::All).await.unwrap();
    assert_eq!(rig.until_accepted(1).await[0].mail_from, NOREPLY);
    rig.stop().await;
}
