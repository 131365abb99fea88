//! What goes first: real mail of a real program, and what an administrator changes.

use std::process::Command;

use xoauth2_relay::message::Lane;
use xoauth2_relay::ops::{LaneOrder, MessageView, Selection};

use crate::clients::{php_with_phpmailer, run, script};
use crate::support::{MAILBOX, Rig, blocking, mailbox, quick};

/// The lane of the mail to this recipient, and what says so.
fn lane_of(queue: &[MessageView], to: &str) -> (String, String) {
    let is_meant = |message: &&MessageView| message.recipients[0].address == format!("{to}@example.com");
    let message = queue.iter().find(is_meant).unwrap_or_else(|| panic!("nothing for {to}: {queue:#?}"));
    (message.lane.clone(), message.lane_why.clone().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_mail_that_moodle_sends_has_its_lane() {
    let Some(php) = php_with_phpmailer() else { return };
    let rig = Rig::start().await;
    rig.relay.ops().account_hold(&mailbox()).await.unwrap();
    let mut command = Command::new(php);
    command.args([script("moodle_kinds.php"), rig.door().port().to_string()]);
    blocking(move || run(&mut command)).await;
    let queue = rig.queue().await;
    assert_eq!(queue.len(), 12);
    for (to, lane, why) in [
        ("post0", "bulk", "its "),
        ("post2", "bulk", "its "),
        ("digest0", "bulk", "its field Precedence: bulk"),
        ("reset-de", "urgent", "a link to /login/forgot_password.php (password reset)"),
        ("reset-ja", "urgent", "a link to /login/forgot_password.php (password reset)"),
        ("reset-ar", "urgent", "a link to /login/forgot_password.php (password reset)"),
        ("confirm", "urgent", "a link to /login/confirm.php (confirmation of an account)"),
        ("mfa", "urgent", "a link to /admin/tool/mfa/factor/email/email.php (one-time code)"),
        ("message", "normal", ""),
    ] {
        let (is, because) = lane_of(&queue, to);
        assert!(is == lane && because.starts_with(why), "{to} is {is}: {because}");
    }
    rig.stop().await;
}

const MAIL: &str = "From: lms@contoso.com\r\nSubject: Pr\u{fc}fung am Montag\r\n\r\nhello\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_changes_the_lane_and_the_journal_knows_it() {
    let rig = Rig::with(quick(), "[[app]]\nname = \"default\"\n[[app.lane_rule]]\nheader = \"Subject\"\nmatches = \"*prüfung*\"\nlane = \"bulk\"\n").await;
    rig.relay.ops().account_hold(&mailbox()).await.unwrap();
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    let large = format!("List-Id: <x>\r\n\r\n{}", "words and words\r\n".repeat(20_000));
    rig.submit(MAILBOX, &["large@example.com"], &large).await;
    let queue = rig.queue().await;
    let ruled = ("bulk".to_owned(), "the rule of the app default: Subject is *prüfung*".to_owned());
    assert_eq!(lane_of(&queue, "you"), ruled);
    assert_eq!(lane_of(&queue, "large"), ("bulk".to_owned(), "its field List-Id".to_owned()), "its body is in a file");

    let id = queue[0].id.clone();
    let order = LaneOrder { which: Selection::Ids(vec![id.clone()]), lane: Lane::Urgent };
    assert_eq!(rig.relay.ops().queue_lane(order).await, Ok(1));
    let shown = rig.relay.ops().queue_show(id.parse().unwrap()).await.unwrap();
    assert_eq!(
        (shown.message.lane.as_str(), shown.message.lane_why.as_deref()),
        ("urgent", Some("an administrator said so"))
    );
    assert!(
        shown.journal.iter().any(|line| line.text == "lane urgent: an administrator said so"),
        "{:?}",
        shown.journal
    );
    let unknown = LaneOrder { which: Selection::Ids(vec!["0000000000000".to_owned()]), lane: Lane::Urgent };
    assert!(rig.relay.ops().queue_lane(unknown).await.unwrap_err().to_string().contains("there is no message"));

    rig.relay.ops().account_release(&mailbox()).await.unwrap();
    rig.until_queue_is_empty().await;
    let shown = rig.relay.ops().queue_show(id.parse().unwrap()).await.unwrap();
    assert_eq!(shown.message.lane, "urgent", "it is known when it has left, too");
    rig.stop().await;
}
