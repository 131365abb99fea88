//! What is no matter of words: time, disks, stops, and how many there are at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::harness::{Client, TestDoor, until};
use crate::config::{Listener, Passwords};
use crate::inbound::memory::Memory;
use crate::message::Body;
use crate::registry::testing;
use crate::store::INLINE_LIMIT;

#[tokio::test]
async fn a_stalled_client_is_closed_and_the_next_session_is_unharmed() {
    let listener = Listener { idle_timeout: Duration::from_secs(1), ..testing::listener() };
    let door = TestDoor::start_with(listener, Memory::default());

    let mut silent = door.greeted().await;
    let mut within_a_line = door.greeted().await;
    within_a_line.send("MAIL FR").await;
    let mut within_a_body = door.greeted().await;
    within_a_body.begin().await;
    within_a_body.send("Subject: half").await;

    for client in [&mut silent, &mut within_a_line, &mut within_a_body] {
        client.expect("421 4.4.2 *").await;
        client.expect_end().await;
    }
    door.submit("whole").await;
    assert_eq!(door.accepted(), 1);
}

#[tokio::test]
async fn three_hundred_messages_fit_into_one_session() {
    let door = TestDoor::start();
    let mut client = door.greeted().await;
    for n in 0..300 {
        client.submit(&format!("Subject: {n}")).await;
        client.say("RSET", "250 2.0.0 OK").await;
    }
    let accepted = door.memory.accepted();
    assert_eq!(accepted.len(), 300);
    assert!(accepted.windows(2).all(|two| two[0].0.id < two[1].0.id));
    assert_eq!(accepted[299].0.subject.as_deref(), Some("299"));
}

#[tokio::test]
async fn three_hundred_sessions_of_one_message_leave_nothing_behind() {
    let door =
        TestDoor::start_with(Listener { max_connections_per_address: 5, ..testing::listener() }, Memory::default());
    for n in 0..300 {
        door.submit(&format!("Subject: {n}")).await;
        // The client sees the end a moment before its place is free.
        until("the session's task ends", || door.tasks.len() == 1).await;
    }
    assert_eq!(door.accepted(), 300);
}

#[tokio::test]
async fn what_is_known_of_a_message_goes_with_it() {
    let door = TestDoor::start();
    let mut client = door.greeted().await;
    client.say("HELO printer", "250 relay.test").await;
    client.say("AUTH PLAIN AHNjYW5uZXIAcHc=", "235 2.7.0 *").await;
    client.submit("Subject: a\r\n\tscan\r\nFrom: x@contoso.com\r\n\r\nbody").await;
    let (incoming, bytes) = door.memory.accepted().remove(0);
    assert_eq!(bytes, b"Subject: a\r\n\tscan\r\nFrom: x@contoso.com\r\n\r\nbody\r\n");
    assert_eq!(incoming.size, bytes.len() as u64);
    assert_eq!(incoming.subject.as_deref(), Some("a scan"));
    assert_eq!((incoming.app.as_str(), incoming.account.as_str()), ("default", "lms@contoso.com"));
    assert_eq!(incoming.trace.user.as_deref(), Some("scanner"));
    assert_eq!(incoming.trace.helo.as_deref(), Some("printer"));
    assert!(!incoming.trace.protocol.extended && incoming.trace.protocol.authenticated);
    assert!(incoming.trace.peer.is_loopback());
}

#[tokio::test]
async fn a_large_body_goes_into_a_file_byte_for_byte() {
    let door = TestDoor::start();
    let mut client = door.greeted().await;
    let mut body = b"From: a@b.example\r\nSubject: large\r\n\r\n".to_vec();
    while body.len() < 5 * INLINE_LIMIT {
        body.extend_from_slice(format!("line {} with \r bare \n ends and \u{e9}\r\n", body.len()).as_bytes());
    }
    for size in [INLINE_LIMIT, INLINE_LIMIT + 1, body.len()] {
        let body = [&body[..size - 2], b"\r\n"].concat();
        client.begin().await;
        client.send(&body).await;
        client.say(".", "250 2.0.0 OK queued as *").await;
        let (incoming, bytes) = door.memory.accepted().pop().unwrap();
        assert!(bytes == body, "the bytes differ");
        assert_eq!(incoming.size, size as u64);
        assert_eq!(incoming.subject.as_deref(), Some("large"));
        assert_eq!(matches!(incoming.body, Body::File(_)), size > INLINE_LIMIT);
    }
}

#[tokio::test]
async fn a_program_that_ends_its_message_with_line_feeds_alone_is_told_why_it_waits() {
    let listener = Listener { idle_timeout: Duration::from_secs(1), ..testing::listener() };
    let door = TestDoor::start_with(listener, Memory::default());
    for end in ["\n.\n", "\r\n.\n", "\n.\r\n", "\r.\r"] {
        let mut client = door.greeted().await;
        client.begin().await;
        client.send(format!("Subject: x{end}")).await;
        client.expect("554 5.5.2 the message was not taken: every line, *").await;
        client.expect_end().await;
    }
    let mut slow = door.greeted().await;
    slow.begin().await;
    slow.send("one\n.\n").await;
    slow.send("two\r\n").await;
    slow.say(".", "250 2.0.0 OK queued as *").await;
    assert_eq!(door.memory.accepted().remove(0).1, b"one\n.\ntwo\r\n");
}

#[tokio::test]
async fn a_mail_is_kept_though_its_sender_has_gone_before_the_answer() {
    let door = TestDoor::start();
    let mut client = door.greeted().await;
    client.begin().await;
    client.send("Subject: the last words\r\n.\r\n").await;
    drop(client);
    until("the mail is kept", || door.accepted() == 1).await;

    let mut chunks = addressed(&door).await;
    chunks.send("BDAT 2 LAST\r\nhi").await;
    drop(chunks);
    until("the mail is kept", || door.accepted() == 2).await;
}

/// Goes as far as the first BDAT.
async fn addressed(door: &TestDoor) -> Client {
    let mut client = door.greeted().await;
    client.say("MAIL FROM:<a@contoso.com>", "250 2.1.0 *").await;
    client.say("RCPT TO:<b@example.com>", "250 2.1.5 *").await;
    client
}

#[tokio::test]
async fn chunks_of_a_message_that_never_becomes_whole_leave_nothing_behind() {
    let listener = Listener { idle_timeout: Duration::from_secs(1), ..testing::listener() };
    let door = TestDoor::start_with(listener, Memory::default());
    let chunk = "x".repeat(2 * INLINE_LIMIT);
    let (mut lost, mut silent, mut given_up) = (addressed(&door).await, addressed(&door).await, addressed(&door).await);
    for client in [&mut lost, &mut silent, &mut given_up] {
        client.send(format!("BDAT {}\r\n{chunk}", chunk.len())).await;
        client.expect("250 2.0.0 262144 octets taken").await;
    }
    assert_eq!(door.memory.files(), 3);
    given_up.say("RSET", "250 2.0.0 OK").await;
    drop(lost);
    silent.send("BDAT 10 LAST\r\nhalf").await;
    silent.expect("421 4.4.2 *").await;
    silent.expect_end().await;
    until("no file is left", || door.memory.files() == 0).await;
    assert_eq!(door.accepted(), 0);
}

#[tokio::test]
async fn large_chunks_go_into_a_file_byte_for_byte() {
    let door = TestDoor::start();
    let mut client = addressed(&door).await;
    let chunk: Vec<u8> = (0..=255).cycle().take(INLINE_LIMIT - 1).collect();
    for _ in 0..3 {
        client.send(format!("BDAT {}\r\n", chunk.len())).await;
        client.send(&chunk).await;
        client.expect("250 2.0.0 131071 octets taken").await;
    }
    client.send(b"BDAT 4 LAST\r\n\r\n.\r").await;
    client.expect("250 2.0.0 OK queued as *").await;
    let (incoming, bytes) = door.memory.accepted().remove(0);
    assert!(bytes == [&chunk.repeat(3)[..], b"\r\n.\r"].concat(), "the bytes differ");
    assert_eq!(incoming.size, bytes.len() as u64);
    assert!(matches!(incoming.body, Body::File(_)));
}

#[tokio::test]
async fn a_chunk_that_cannot_be_written_is_refused_at_once() {
    let door = TestDoor::start();
    let mut client = addressed(&door).await;
    door.memory.disk_full.store(true, Ordering::Relaxed);
    client.send(format!("BDAT 300000\r\n{}BDAT 5 LAST\r\nQUIT\n", "x".repeat(300_000))).await;
    client.expect("452 4.3.1 *").await;
    client.expect("503 5.5.1 MAIL comes first*").await;
    assert_eq!((door.memory.files(), door.accepted()), (0, 0));
    door.memory.disk_full.store(false, Ordering::Relaxed);
    client.submit("the next one").await;
}

#[tokio::test]
async fn a_body_that_cannot_be_written_is_refused_and_the_session_goes_on() {
    let door = TestDoor::start();
    let mut client = door.greeted().await;
    let body = format!("{}\r\n", "a".repeat(70)).repeat(2000);
    door.memory.disk_full.store(true, Ordering::Relaxed);
    client.begin().await;
    client.send(&body).await;
    client.say(".", "452 4.3.1 *").await;
    assert_eq!(door.memory.files(), 0);

    door.memory.broken.store(true, Ordering::Relaxed);
    client.begin().await;
    client.send("small\r\n").await;
    client.say(".", "451 4.3.0 *").await;

    door.memory.full.store(true, Ordering::Relaxed);
    client.say("MAIL FROM:<>", "452 4.3.1 *").await;

    for fault in [&door.memory.disk_full, &door.memory.broken, &door.memory.full] {
        fault.store(false, Ordering::Relaxed);
    }
    client.submit("now").await;
    assert_eq!(door.accepted(), 1);
}

#[tokio::test]
async fn a_body_cut_off_leaves_no_message_and_no_file() {
    let door = TestDoor::start();
    let mut client = door.greeted().await;
    client.begin().await;
    client.send("a\r\n".repeat(50_000)).await;
    until("a file is begun", || door.memory.files() == 1).await;
    drop(client);
    until("it is gone", || door.memory.files() == 0).await;
    assert_eq!(door.accepted(), 0);
}

#[tokio::test]
async fn a_client_that_vanishes_behind_the_dot_does_not_take_its_message_along() {
    let gate = Arc::new(Semaphore::new(0));
    let memory = Memory::gated(&gate);
    let door = TestDoor::start_with(testing::listener(), memory);
    let mut client = door.greeted().await;
    client.begin().await;
    client.send("kept\r\n.\r\n").await;
    drop(client);
    gate.add_permits(1);
    until("the message is taken", || door.accepted() == 1).await;
}

#[tokio::test]
async fn a_body_much_too_large_is_not_read_to_its_end() {
    let listener = Listener { max_message_size: 1000, ..testing::listener() };
    let door = TestDoor::start_with(listener, Memory::default());
    let mut client = door.greeted().await;
    client.begin().await;
    client.send_aside(vec![b"123456789\r\n".repeat(30_000)]);
    client.expect("552 5.3.4 *").await;
    client.expect_end().await;
    door.submit("small").await;
}

#[tokio::test]
async fn stopping_ends_idle_sessions_and_lets_bodies_and_commits_finish() {
    let gate = Arc::new(Semaphore::new(0));
    let memory = Memory::gated(&gate);
    let door = TestDoor::start_with(testing::listener(), memory);
    let mut idle = door.greeted().await;
    let mut within_body = door.greeted().await;
    within_body.begin().await;
    let mut within_commit = door.greeted().await;
    within_commit.begin().await;
    within_commit.send("two\r\n.\r\n").await;

    door.stop.cancel();
    door.tasks.close();
    idle.expect("421 4.3.2 *").await;
    idle.expect_end().await;
    within_body.send("one\r\n.\r\n").await;
    gate.add_permits(2);
    for client in [&mut within_body, &mut within_commit] {
        client.expect("250 2.0.0 OK queued as *").await;
        client.expect("421 4.3.2 *").await;
        client.expect_end().await;
    }
    door.tasks.wait().await;
    assert_eq!(door.accepted(), 2);
}

/// AUTH PLAIN of the user moodle with the password "right" or "wrong".
const RIGHT: &str = "AUTH PLAIN AG1vb2RsZQByaWdodA==";
const WRONG: &str = "AUTH PLAIN AG1vb2RsZQB3cm9uZw==";

#[tokio::test]
async fn an_answer_that_is_slow_on_purpose_holds_up_neither_others_nor_a_stop() {
    let listener = Listener { password: Passwords::Checked, ..testing::listener() };
    let door = TestDoor::slow(listener, testing::config_with("[[app]]\nname = 'moodle'\npassword = 'right'\n"));
    let mut wrong = door.greeted().await;
    wrong.send(format!("{WRONG}\r\n")).await;
    until("the wrong password is noticed", || door.keeper.failed() == 1).await;

    let mut right = door.greeted().await;
    right.say(RIGHT, "235 2.7.0 *").await;
    right.submit("in time").await;
    assert_eq!(door.accepted(), 1);

    door.stop.cancel();
    door.tasks.close();
    wrong.expect("421 4.3.2 *").await;
    wrong.expect_end().await;
    door.tasks.wait().await;
}

#[tokio::test]
async fn too_many_connections_are_told_so() {
    let listener = Listener { max_connections: 2, max_connections_per_address: 2, ..testing::listener() };
    let door = TestDoor::start_with(listener, Memory::default());
    let first = door.greeted().await;
    let _second = door.greeted().await;
    let mut third = door.connect().await;
    third.expect("421 4.3.2 all 2 connections *").await;
    third.expect_end().await;
    drop(first);
    until("its place is free", || door.tasks.len() == 2).await;
    door.submit("fits again").await;
}

#[tokio::test]
async fn one_address_cannot_take_every_place() {
    let listener = Listener { max_connections_per_address: 1, ..testing::listener() };
    let door = TestDoor::start_with(listener, Memory::default());
    let _first = door.greeted().await;
    door.connect().await.expect("421 4.7.0 127.0.0.1 already has 1 connection, as many as one address may have: raise listener.max_connections_per_address *").await;
}
