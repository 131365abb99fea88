//! Mail in, mail out.

use std::fmt::Write;
use std::time::{Duration, Instant};

use xoauth2_relay::ops::Selection;
use xoauth2_relay::simulator::{Effect, Fault, Phase};

use crate::support::{Client, MAILBOX, NOREPLY, PATIENCE, Rig, blocking, quick, without_received};

const MAIL: &str = "From: Moodle <lms@contoso.com>\r\nTo: you@example.com\r\nSubject: hello\r\nDate: Sat, 21 Nov 2026 09:00:00 +0000\r\n\
                    Message-ID: <one@moodle.example>\r\n\r\nIt works.\r\n..two dots at the start of a line\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_leaves_as_it_came() {
    let rig = Rig::start().await;
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    let accepted = rig.until_accepted(1).await;
    assert_eq!(accepted[0].mail_from, MAILBOX);
    assert_eq!(accepted[0].recipients, ["you@example.com"]);
    // The client's first dot was for transparency.
    let sent = MAIL.replace("\r\n..two", "\r\n.two");
    assert_eq!(String::from_utf8_lossy(without_received(&accepted[0].bytes)), sent);
    rig.until_queue_is_empty().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_recipient_does_not_stop_the_others_and_is_kept_as_a_dead_letter() {
    let rig = Rig::start().await;
    rig.simulator.fault(Fault::row("5.4.1-recipient-rejected").unwrap().for_recipient("gone@example.com"));
    let recipients = ["one@example.com", "gone@example.com", "two@example.com"];
    rig.submit(NOREPLY, &recipients, &MAIL.replace(MAILBOX, NOREPLY)).await;
    let accepted = rig.until_accepted(1).await;
    assert_eq!(accepted[0].recipients, ["one@example.com", "two@example.com"]);

    let queue = rig.until_queue("a dead letter", |queue| queue.iter().any(|message| message.state == "dead")).await;
    let states: Vec<&str> = queue[0].recipients.iter().map(|recipient| recipient.state.as_str()).collect();
    assert_eq!(states, ["accepted", "refused", "accepted"]);
    let reply = queue[0].recipients[1].reply.as_deref().unwrap();
    assert!(reply.starts_with("550 5.4.1 Recipient address rejected"), "{reply}");
    assert_eq!(rig.relay.ops().status().await.unwrap().queue.dead, 1);

    // Retried, it goes to the one who does not have it.
    rig.simulator.clear_faults();
    let id = queue[0].id.parse().unwrap();
    rig.relay.ops().queue_retry(Selection::Ids(vec![queue[0].id.clone()])).await.unwrap();
    assert_eq!(rig.until_accepted(2).await[1].recipients, ["gone@example.com"]);
    rig.until_queue_is_empty().await;
    let detail = rig.relay.ops().queue_show(id).await.unwrap();
    assert_eq!(detail.message.state, "accepted");
    assert!(detail.journal.len() >= 3, "{:?}", detail.journal);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exchange_may_be_away_while_mail_comes_and_the_relay_is_restarted() {
    let rig = Rig::start().await;
    rig.simulator.go_away().await.unwrap();
    for _ in 0..5 {
        rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    }
    rig.until_queue("a reason", |queue| queue.iter().any(|message| message.recipients[0].reply.is_some())).await;
    assert_eq!(rig.queue().await.len(), 5);
    let rig = rig.restart().await;
    assert_eq!(rig.queue().await.len(), 5);
    rig.simulator.come_back().await.unwrap();
    assert_eq!(rig.until_accepted(5).await.len(), 5);
    rig.until_queue_is_empty().await;
    assert_eq!(rig.simulator.accepted().len(), 5);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_behind_the_final_dot_is_in_doubt_and_tried_again_with_the_same_message_id() {
    let rig = Rig::with(quick(), "[queue]\nretry = [\"2s\"]\n").await;
    rig.simulator.fault(Fault::at(Phase::DataEnd, Effect::KeepAndDrop).unwrap().times(1));
    let without_id = MAIL.replace("Message-ID: <one@moodle.example>\r\n", "");
    rig.submit(MAILBOX, &["you@example.com"], &without_id).await;
    let queue = rig.until_queue("a doubt", |queue| queue.iter().any(|message| message.state == "in_doubt")).await;
    assert_eq!(queue[0].recipients[0].state, "in_doubt");
    let accepted = rig.until_accepted(2).await;
    let ids: Vec<String> = accepted.iter().map(|mail| header(&mail.bytes, "message-id")).collect();
    assert_eq!(ids[0], ids[1]);
    rig.until_queue_is_empty().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_for_now_is_tried_again_and_a_named_one_is_final() {
    let rig = Rig::start().await;
    rig.simulator.fault(Fault::row("451-4.3.111-mrh1").unwrap().times(2));
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    rig.until_accepted(1).await;
    rig.until_queue_is_empty().await;

    rig.simulator.fault(Fault::row("5.7.509").unwrap().times(1));
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    let queue = rig.until_queue("a dead letter", |queue| queue.iter().any(|message| message.state == "dead")).await;
    assert_eq!(queue[0].recipients[0].state, "refused");
    assert_eq!(rig.simulator.accepted().len(), 1);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_moodle_sends_in_others_names_leaves_as_the_mailbox_and_is_answered_to_them() {
    let rig = Rig::start().await;
    let mail =
        MAIL.replace("Moodle <lms@contoso.com>", "\"=?utf-8?B?SsO8cmdlbg==?= (via LMS)\" <teacher@school.example>");
    rig.submit("moodleAABAAAAAg==0123456789abcdef@school.example", &["you@example.com"], &mail).await;
    let accepted = &rig.until_accepted(1).await[0];
    assert_eq!(accepted.mail_from, MAILBOX);
    assert_eq!(header(&accepted.bytes, "from"), "\"=?utf-8?B?SsO8cmdlbg==?= (via LMS)\" <lms@contoso.com>");
    assert!(header(&accepted.bytes, "reply-to").contains("teacher@school.example"));
    let body = |bytes: &[u8]| String::from_utf8_lossy(bytes).split_once("\r\n\r\n").unwrap().1.to_owned();
    assert_eq!(body(&accepted.bytes), body(mail.replace("\r\n..", "\r\n.").as_bytes()));
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_of_hundreds_of_mails_and_hundreds_of_sessions_of_one() {
    let rig = Rig::start().await;
    let door = rig.door();
    blocking(move || {
        let mut client = Client::greeted(door);
        for n in 0..200 {
            client.submit(MAILBOX, &[format!("user{n}@example.com")], MAIL);
            assert!(client.ask("RSET").starts_with("250"));
        }
        for n in 200..400 {
            let mut client = Client::greeted(door);
            client.submit(MAILBOX, &[format!("user{n}@example.com")], MAIL);
            assert!(client.ask("QUIT").starts_with("221"));
        }
    })
    .await;
    let accepted = rig.until_accepted(400).await;
    let mut recipients: Vec<String> = accepted.into_iter().flat_map(|mail| mail.recipients).collect();
    recipients.sort();
    recipients.dedup();
    assert_eq!(recipients.len(), 400, "each once");
    rig.until_queue_is_empty().await;
    let statistics = rig.simulator.statistics();
    assert_eq!(statistics.throttled, 0);
    assert!(statistics.most_open <= 3, "{statistics:?}");
    assert!(statistics.connections < 20, "sessions are used again: {statistics:?}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_mail_goes_through_a_file_and_leaves_as_it_came() {
    let rig = Rig::start().await;
    let mut mail = MAIL.replace("\r\n..two", "\r\ntwo");
    for n in 0..150_000 {
        write!(mail, "line {n} of many, long enough to be worth a file\r\n").unwrap();
    }
    rig.submit(MAILBOX, &["you@example.com"], &mail).await;
    let accepted = rig.until_accepted(1).await;
    assert!(without_received(&accepted[0].bytes) == mail.as_bytes(), "the bytes differ");
    rig.until_queue_is_empty().await;
    let bodies = rig.folder.path().join("data/bodies");
    let since = Instant::now();
    while std::fs::read_dir(&bodies).unwrap().next().is_some() {
        assert!(since.elapsed() < PATIENCE, "the body's file is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_without_a_sender_leaves_as_the_mailbox() {
    let rig = Rig::start().await;
    rig.submit("", &["you@example.com"], MAIL).await;
    assert_eq!(rig.until_accepted(1).await[0].mail_from, MAILBOX);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_mail_tells_exchanges_own_reply() {
    let rig = Rig::start().await;
    let order = xoauth2_relay::ops::SendTest { to: "you@example.com".to_owned(), account: None };
    let tested = rig.relay.ops().send_test(&order).await.unwrap();
    assert_eq!(tested.state, "accepted");
    assert!(tested.reply.unwrap().starts_with("250 2.0.0 OK <"));
    let accepted = &rig.simulator.accepted()[0];
    assert!(header(&accepted.bytes, "subject").starts_with("Test mail from xoauth2-relay"));

    rig.simulator.fault(Fault::row("5.7.509").unwrap());
    let tested = rig.relay.ops().send_test(&order).await.unwrap();
    assert_eq!(tested.state, "refused");
    assert!(tested.reply.unwrap().starts_with("550 5.7.509"));
    rig.stop().await;
}

/// The value of the first field of this name, as it stands there.
fn header(bytes: &[u8], name: &str) -> String {
    let headers = xoauth2_relay::message::Headers::scan(bytes);
    let field = headers.first(name).unwrap_or_else(|| panic!("no {name} in {}", String::from_utf8_lossy(bytes)));
    String::from_utf8_lossy(field.value).trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_retried_or_deleted_at_once_and_named_messages_have_to_be_there() {
    let rig = Rig::start().await;
    rig.simulator.fault(Fault::row("5.4.1-recipient-rejected").unwrap());
    for _ in 0..3 {
        rig.submit(MAILBOX, &["gone@example.com"], MAIL).await;
    }
    rig.until_queue("three dead letters", |queue| queue.iter().filter(|message| message.state == "dead").count() == 3)
        .await;
    rig.relay.ops().account_hold(&crate::support::mailbox()).await.unwrap();
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;

    let ops = rig.relay.ops();
    assert_eq!(ops.queue_delete(Selection::Dead).await, Ok(3));
    let ids: Vec<String> = rig.queue().await.into_iter().map(|message| message.id).collect();
    assert_eq!(ids.len(), 1, "what waits is no dead letter");
    let with_another = Selection::Ids(vec![ids[0].clone(), "0000000000000".to_owned()]);
    let refused = ops.queue_delete(with_another).await.unwrap_err().to_string();
    assert!(refused.contains("there is no message 0000000000000"), "{refused}");
    assert_eq!(rig.queue().await.len(), 1, "nothing was done");
    assert_eq!(ops.queue_retry(Selection::All).await, Ok(1));
    assert_eq!(ops.queue_delete(Selection::All).await, Ok(1));
    rig.until_queue_is_empty().await;
    rig.stop().await;
}
