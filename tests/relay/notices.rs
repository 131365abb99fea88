//! Who is told what became of a mail, as a program that nobody here wrote reads it.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;
use xoauth2_relay::simulator::{Accepted, Effect, Fault, Phase};

use crate::clients::{client, php_with_phpmailer, run, script};
use crate::support::{Client, MAILBOX, Rig, blocking, expect, quick};

const MAIL: &str = "From: Jane <jane@school.org>\r\nTo: gone@example.com\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?= to all\r\n\
                    Date: Sat, 21 Nov 2026 09:00:00 +0000\r\nMessage-ID: <one@school.org>\r\n\r\nThe text of it.\r\n";
const UNKNOWN: &str = "5.4.1-recipient-rejected";

/// What Python makes of a notice.
async fn read(notice: &Accepted) -> Option<Value> {
    let python = client("python3")?;
    let bytes = notice.bytes.clone();
    let output = blocking(move || {
        let mut reader = Command::new(python)
            .arg(script("read_notice.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        reader.stdin.take().unwrap().write_all(&bytes).unwrap();
        reader.wait_with_output().unwrap()
    })
    .await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// Hands in one mail with what is said of notices behind the addresses.
async fn submit(rig: &Rig, mail: &'static str, recipients: &'static [&'static str]) {
    let door = rig.door();
    blocking(move || {
        let mut client = Client::greeted(door);
        expect(&client.ask(&format!("MAIL FROM:{mail}")), "250");
        for recipient in recipients {
            expect(&client.ask(&format!("RCPT TO:{recipient}")), "250");
        }
        expect(&client.ask("DATA"), "354");
        client.send(MAIL.as_bytes());
        expect(&client.ask("."), "250");
    })
    .await;
}

/// The mail that left to this address.
fn to<'a>(accepted: &'a [Accepted], address: &str) -> &'a Accepted {
    accepted.iter().find(|mail| mail.recipients == [address]).unwrap_or_else(|| panic!("nothing to {address}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_leaves_and_is_read_by_people_and_programs() {
    const RECIPIENTS: [&str; 4] = [
        "<gone@example.com> NOTIFY=FAILURE,DELAY ORCPT=rfc822;old+2Bname@example.com",
        "<here@example.com>",
        "<away@example.com>",
        "<quiet@example.com> NOTIFY=NEVER",
    ];

    let rig = Rig::start().await;
    for gone in ["gone@example.com", "away@example.com", "quiet@example.com"] {
        rig.simulator.fault(Fault::row(UNKNOWN).unwrap().for_recipient(gone));
    }
    submit(&rig, "<jane@school.org> RET=FULL ENVID=a+2Bb", &RECIPIENTS).await;
    let accepted = rig.until_accepted(2).await;
    assert_eq!(to(&accepted, "here@example.com").mail_from, MAILBOX);
    let notice = to(&accepted, "jane@school.org");
    assert_eq!(notice.mail_from, MAILBOX, "Exchange lets a mailbox send as nobody else");
    // For a person to judge: `cargo test --test relay a_notice_leaves -- --nocapture`.
    println!("{}", String::from_utf8_lossy(&notice.bytes));

    let Some(read) = read(notice).await else { return };
    assert_eq!(read["defects"], serde_json::json!([]));
    assert_eq!(read["report_type"], "delivery-status");
    assert_eq!(read["types"], serde_json::json!(["text/plain", "message/delivery-status", "message/rfc822"]));
    assert_eq!(read["from"], format!("Mail Delivery System <{MAILBOX}>"));
    assert_eq!(read["to"], "jane@school.org");
    assert_eq!(read["subject"], "Not delivered to 2 recipients: Grüße to all");
    assert_eq!(read["auto"], "auto-replied");
    assert_eq!(read["in_reply_to"], "<one@school.org>");
    assert_eq!(read["returned"], "Grüße to all");
    assert_eq!(read["mail"]["Original-Envelope-Id"], "a+b");
    assert_eq!(read["mail"]["Reporting-MTA"], "dns; relay.contoso.com");
    assert!(read["mail"]["Arrival-Date"].is_string());
    let recipients = read["recipients"].as_array().unwrap();
    assert_eq!(recipients.len(), 2, "who asked for none is in none: {recipients:?}");
    assert_eq!(recipients[0]["Original-Recipient"], "rfc822;old+name@example.com");
    for (found, address) in recipients.iter().zip(["gone@example.com", "away@example.com"]) {
        assert_eq!(found["Final-Recipient"], format!("rfc822;{address}"));
        assert_eq!(found["Action"], "failed");
        assert_eq!(found["Status"], "5.4.1");
        assert!(found["Diagnostic-Code"].as_str().unwrap().starts_with("smtp; 550 5.4.1 Recipient address rejected"));
        assert!(found["Remote-MTA"].as_str().unwrap().starts_with("dns; "));
    }
    let text = read["text"].as_str().unwrap();
    for words in ["gone@example.com", "550 5.4.1 Recipient address rejected", "What it means:", "queue show"] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_is_refused_is_a_dead_letter_and_nothing_more() {
    let rig = Rig::start().await;
    rig.simulator.fault(Fault::row(UNKNOWN).unwrap());
    submit(&rig, "<jane@school.org>", &["<gone@example.com>"]).await;
    let is_over = |queue: &[xoauth2_relay::ops::MessageView]| {
        queue.len() == 2 && queue.iter().all(|message| message.state == "dead")
    };
    rig.until_queue("two dead letters", is_over).await;
    let rig = rig.restart().await;
    let queue = rig.queue().await;
    assert_eq!(queue.len(), 2, "{queue:?}");
    let since = std::time::Instant::now();
    while rig.relay.ops().status().await.unwrap().told_nobody != 1 {
        assert!(since.elapsed() < crate::support::PATIENCE, "it is counted");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(rig.queue().await.len(), 2);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_given_up_on_is_told_too_once_over_a_restart() {
    let rig = Rig::with(quick(), "[queue]\nretry = [\"1s\"]\ngive_up_after = \"2s\"\n").await;
    let busy = Effect::Reply("451 4.3.2 Temporary server error. Please try again later".to_owned());
    rig.simulator.fault(Fault::at(Phase::Rcpt, busy).unwrap().for_recipient("slow@example.com"));
    submit(&rig, "<jane@school.org>", &["<slow@example.com>"]).await;
    let accepted = rig.until_accepted(1).await;
    if let Some(read) = read(to(&accepted, "jane@school.org")).await {
        assert_eq!(read["recipients"][0]["Action"], "failed");
        assert_eq!(read["recipients"][0]["Status"], "4.3.2");
        assert!(read["text"].as_str().unwrap().contains("tried again and again"), "{read}");
    }
    let rig = rig.restart().await;
    rig.until_queue("the dead letter alone", |queue| queue.len() == 1 && queue[0].state == "dead").await;
    let detail = rig.relay.ops().queue_show(rig.queue().await[0].id.parse().unwrap()).await.unwrap();
    let told = |line: &&xoauth2_relay::ops::JournalView| line.text.contains("the sender jane@school.org was told");
    assert_eq!(detail.journal.iter().filter(told).count(), 1, "{:?}", detail.journal);
    assert_eq!(rig.simulator.accepted_count(), 1);
    rig.stop().await;
}

/// `handlebounces`: Moodle finds the user in the address that the notice goes to.
#[tokio::test(flavor = "multi_thread")]
async fn phpmailer_as_moodle_with_handlebounces_gets_the_notice_at_its_own_address() {
    let Some(php) = php_with_phpmailer() else { return };
    let rig = Rig::start().await;
    rig.simulator.fault(Fault::row(UNKNOWN).unwrap().for_recipient("learner1@example.com"));
    let mut command = Command::new(php);
    command.args([script("moodle.php"), rig.door().port().to_string(), "3".to_owned()]);
    blocking(move || run(&mut command)).await;
    let accepted = rig.until_accepted(3).await;
    let notice = to(&accepted, "moodleAABAAAAAg==0123456789abcdef0123456789abcdef@school.example");
    if let Some(read) = read(notice).await {
        assert_eq!(read["recipients"][0]["Final-Recipient"], "rfc822;learner1@example.com");
        assert_eq!(read["returned"], "LMS: Passwort zurücksetzen 1");
    }
    rig.stop().await;
}
