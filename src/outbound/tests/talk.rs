//! What is said over the wire, and what each recipient's verdict is.

use super::*;
use crate::message::{EnvelopeId, Notify, OriginalRecipient, Return};
use crate::store::RecipientState;

async fn attempt(scripts: &[String], recipients: &[&str], message: &'static str) -> (Attempt, Vec<String>) {
    let upstream = Upstream::playing(scripts).await;
    let attempt = Pool::new().attempt(delivery(&upstream, recipients, message)).await;
    (attempt, upstream.heard().await)
}

#[tokio::test]
async fn a_message_leaves_as_it_should_byte_for_byte() {
    let (attempt, heard) = attempt(&[format!("{LOGIN}{ONE_MESSAGE}")], &["a@example.com"], MESSAGE).await;
    assert_eq!(classes(&attempt), [(0, Class::Accepted)]);
    assert_eq!(verdicts(&attempt)[0].1.reply.to_string(), "250 2.0.0 OK <id> [Hostname=mx]");
    assert_eq!(attempt.notes, ["over mx.example session 0A1B"]);
    assert!(attempt.submitted && attempt.session == Session::New);
    let token = "dXNlcj1sbXNAY29udG9zby5jb20BYXV0aD1CZWFyZXIgVE9LRU4BAQ==";
    let commands = "MAIL FROM:<lms@contoso.com>\r\nRCPT TO:<a@example.com>\r\nDATA\r\n";
    let hello = format!("EHLO relay.contoso.com\r\nAUTH XOAUTH2\r\n{token}\r\n");
    assert_eq!(heard[0], format!("{hello}{commands}{ON_THE_WIRE}"));
}

#[tokio::test]
async fn what_is_offered_is_used() {
    let script = format!(
        "{LOGIN_PIPELINED}
        C: MAIL FROM:<lms@contoso.com> SIZE=200 BODY=8BITMIME SMTPUTF8
        C: RCPT TO:<a@example.com>
        C: RCPT TO:<grün@example.com>
        C: DATA
        QUIET
        SAY 250 ok\\r\\n250 ok\\r\\n
        SAY 250 ok\\r\\n354 go\\r\\n
        BODY
        S: 250 2.0.0 OK"
    );
    let message = "From: lms@contoso.com\r\nDate: x\r\nMessage-ID: <1@lms>\r\nSubject: gr\u{fc}n\r\n\r\nHello\nyou";
    let (attempt, heard) = attempt(&[script], &["a@example.com", "grün@example.com"], message).await;
    assert_eq!(classes(&attempt), [(0, Class::Accepted), (1, Class::Accepted)]);
    assert!(heard[0].ends_with("Subject: gr\u{fc}n\r\n\r\nHello\r\nyou\r\n.\r\n"), "{}", heard[0]);
    assert!(attempt.notes.contains(&"bare CR or LF made CRLF".to_owned()), "{:?}", attempt.notes);
}

#[tokio::test]
async fn one_command_waits_for_the_reply_to_the_other_where_pipelining_is_not_offered() {
    let script = format!(
        "{LOGIN}
        C: MAIL FROM:
        QUIET
        S: 250 ok
        C: RCPT TO:<a@example.com>
        QUIET
        S: 250 ok
        C: DATA
        QUIET
        S: 354 go
        BODY
        S: 250 ok"
    );
    let (attempt, _) = attempt(&[script], &["a@example.com"], MESSAGE).await;
    assert_eq!(classes(&attempt), [(0, Class::Accepted)]);
}

#[tokio::test]
async fn a_refused_recipient_does_not_stop_the_others() {
    let rest = "
        S: 250 ok
        C: RCPT TO:<b@example.com>
        S: 550-5.1.1 no
        S: 550 5.1.1 such user
        C: RCPT TO:<c@example.com>
        S: 450 4.2.1 busy
        C: RCPT TO:<d@example.com>
        S: 452 4.5.3 Too many recipients
        C: DATA
        S: 354 go
        BODY
        S: 250 ok";
    let to = ["a@example.com", "b@example.com", "c@example.com", "d@example.com"];
    let in_steps = format!("{LOGIN}\nC: MAIL\nS: 250 ok\nC: RCPT TO:<a@example.com>{rest}");
    // The same replies to the same commands, however they are sent.
    let at_once = format!("{LOGIN_PIPELINED}\nC: MAIL\nS: 250 ok\nC: RCPT TO:<a@example.com>{rest}");
    for script in [in_steps, at_once] {
        let (attempt, _) = attempt(&[script], &to, MESSAGE).await;
        let expected = [(0, Class::Accepted), (1, Class::Refused), (2, Class::Later), (3, Class::Later)];
        assert_eq!(classes(&attempt), expected);
        let refused = verdicts(&attempt).iter().find(|(place, _)| *place == 1).unwrap();
        assert_eq!(refused.1.reply.to_string(), "550-5.1.1 no\n550 5.1.1 such user");
    }
}

#[tokio::test]
async fn only_recipients_that_wait_are_tried() {
    let script = format!("{LOGIN}\nC: MAIL\nS: 250 ok\nC: RCPT TO:<b@example.com>\nS: 550 5.1.1 no");
    let upstream = Upstream::playing(&[script]).await;
    let mut delivery = delivery(&upstream, &["a@example.com", "b@example.com"], MESSAGE);
    delivery.message.recipients[0].state = RecipientState::Accepted;
    let pool = Pool::new();
    let attempt = pool.attempt(delivery.clone()).await;
    assert_eq!(classes(&attempt), [(1, Class::Refused)]);
    assert!(!attempt.submitted);
    upstream.heard().await;

    delivery.message.recipients[1].state = RecipientState::Refused;
    assert_eq!(classes(&Pool::new().attempt(delivery).await), []);
}

#[tokio::test]
async fn a_refusal_is_given_to_whom_it_concerns() {
    for (at, script, class, submitted) in [
        (
            "MAIL",
            "C: MAIL\nS: 550 5.7.60 SMTP; Client does not have permissions to send as this sender",
            Class::Refused,
            false,
        ),
        ("MAIL", "C: MAIL\nS: 451 4.3.0 later", Class::Later, false),
        ("DATA", "C: MAIL\nS: 250 ok\nC: RCPT\nS: 250 ok\nC: DATA\nS: 554 5.5.1 no", Class::Later, false),
        (
            "dot",
            "C: MAIL\nS: 250 ok\nC: RCPT\nS: 250 ok\nC: DATA\nS: 354 go\nBODY\nS: 554 5.2.252 SendAsDenied; x",
            Class::Refused,
            true,
        ),
        (
            "dot",
            "C: MAIL\nS: 250 ok\nC: RCPT\nS: 250 ok\nC: DATA\nS: 354 go\nBODY\nS: 432 4.3.2 slower",
            Class::Later,
            true,
        ),
    ] {
        let (attempt, _) = attempt(&[format!("{LOGIN}{script}")], &["a@example.com"], MESSAGE).await;
        assert_eq!(classes(&attempt), [(0, class)], "{at}");
        assert_eq!(attempt.submitted, submitted, "{at}");
    }
}

#[tokio::test]
async fn a_server_that_wants_a_message_for_nobody_gets_an_empty_one() {
    let script = format!(
        "{LOGIN_PIPELINED}
        C: MAIL
        C: RCPT
        C: DATA
        S: 250 ok
        S: 550 5.1.1 no
        S: 354 go
        C: .
        S: 554 5.5.1 no valid recipients
        C: RSET
        S: 250 ok
        C: MAIL
        C: RCPT
        C: DATA
        S: 250 ok
        S: 250 ok
        S: 354 go
        BODY
        S: 250 ok"
    );
    let upstream = Upstream::playing(&[script]).await;
    let pool = Pool::new();
    let first = pool.attempt(delivery(&upstream, &["a@example.com"], MESSAGE)).await;
    assert_eq!(classes(&first), [(0, Class::Refused)]);
    assert!(!first.submitted);
    let second = pool.attempt(delivery(&upstream, &["b@example.com"], MESSAGE)).await;
    assert_eq!(classes(&second), [(0, Class::Accepted)]);
    assert!(second.session == Session::Reused);
    upstream.heard().await;
}

#[tokio::test]
async fn a_refused_mail_does_not_confuse_the_replies_behind_it() {
    let script = format!(
        "{LOGIN_PIPELINED}
        C: MAIL
        C: RCPT
        C: RCPT
        C: DATA
        S: 451 4.3.0 later
        S: 503 5.5.1 need MAIL
        S: 503 5.5.1 need MAIL
        S: 503 5.5.1 need MAIL
        C: RSET
        S: 250 ok
        C: MAIL"
    );
    let upstream = Upstream::playing(&[script]).await;
    let pool = Pool::new();
    let first = pool.attempt(delivery(&upstream, &["a@example.com", "b@example.com"], MESSAGE)).await;
    assert_eq!(classes(&first), [(0, Class::Later), (1, Class::Later)]);
    assert_eq!(verdicts(&first)[0].1.reply.to_string(), "451 4.3.0 later");
    assert_eq!(pool.open_sessions(&address("lms@contoso.com")), 1);
    // The second one finds the session in order, then the server gone.
    pool.attempt(delivery(&upstream, &["a@example.com"], MESSAGE)).await.result.unwrap_err();
    upstream.heard().await;
}

#[tokio::test]
async fn a_server_that_closes_among_the_recipients_leaves_all_for_later() {
    let script =
        format!("{LOGIN}\nC: MAIL\nS: 250 ok\nC: RCPT\nS: 250 ok\nC: RCPT\nS: 421 4.3.2 Service not available");
    let (attempt, _) = attempt(&[script], &["a@example.com", "b@example.com", "c@example.com"], MESSAGE).await;
    assert_eq!(classes(&attempt), [(0, Class::Later), (1, Class::Later), (2, Class::Later)]);
}

#[tokio::test]
async fn an_address_outside_ascii_is_refused_where_the_server_cannot_take_it() {
    let (attempt, heard) =
        attempt(&[format!("{LOGIN}{ONE_MESSAGE}")], &["grün@example.com", "a@example.com"], MESSAGE).await;
    assert_eq!(classes(&attempt), [(0, Class::Refused), (1, Class::Accepted)]);
    assert!(verdicts(&attempt)[0].1.reply.to_string().starts_with("553 5.6.7 xoauth2-relay: "));
    assert!(!heard[0].contains("SMTPUTF8"));
}

#[tokio::test]
async fn a_domain_outside_ascii_is_said_in_ascii_where_the_server_knows_nothing_else() {
    let script = format!(
        "{LOGIN}
        C: MAIL FROM:<lms@contoso.com>
        S: 250 ok
        C: RCPT TO:<info@xn--mnchen-3ya.example>
        S: 250 ok
        C: DATA
        S: 354 go
        BODY
        S: 250 ok"
    );
    let (attempt, heard) = attempt(&[script], &["info@münchen.example"], MESSAGE).await;
    assert_eq!(classes(&attempt), [(0, Class::Accepted)]);
    assert!(!heard[0].contains("SMTPUTF8"));
}

#[tokio::test]
async fn a_header_outside_ascii_is_refused_in_words_where_the_client_announced_it_and_the_server_cannot_take_it() {
    let upstream = Upstream::playing(&[LOGIN]).await;
    let mut delivery = delivery(&upstream, &["a@example.com"], format!("Subject: gr\u{fc}n\r\n{MESSAGE}"));
    delivery.message.envelope.smtputf8 = true;
    let attempt = Pool::new().attempt(delivery).await;
    assert_eq!(classes(&attempt), [(0, Class::Refused)]);
    let said = verdicts(&attempt)[0].1.reply.to_string();
    assert_eq!(said, "553 5.6.7 xoauth2-relay: the server takes only ASCII (no SMTPUTF8), and the header is not ASCII");
}

/// To two recipients, with all that can be said of notices.
fn wishing(upstream: &Upstream) -> Delivery {
    let mut delivery = delivery(upstream, &["a@example.com", "b@example.com"], MESSAGE);
    let envelope = &mut delivery.message.envelope;
    (envelope.ret, envelope.envid) = (Return::parse("HDRS"), EnvelopeId::parse("QQ+2B1"));
    envelope.recipients[0].notify = Notify::parse("NEVER");
    envelope.recipients[1].notify = Notify::parse("DELAY,SUCCESS");
    envelope.recipients[1].orcpt = OriginalRecipient::parse("rfc822;B+2B1@example.com");
    delivery
}

#[tokio::test]
async fn what_the_sender_wants_to_hear_is_handed_on_where_dsn_is_offered() {
    let rest = "C: DATA\nS: 354 go\nBODY\nS: 250 ok";
    let with = format!(
        "{}
        C: MAIL FROM:<lms@contoso.com> RET=HDRS ENVID=QQ+2B1
        S: 250 ok
        C: RCPT TO:<a@example.com> NOTIFY=NEVER
        S: 250 ok
        C: RCPT TO:<b@example.com> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;B+2B1@example.com
        S: 250 ok
        {rest}",
        LOGIN.replace("S: 250 AUTH", "S: 250-DSN\nS: 250 AUTH")
    );
    let without = format!(
        "{LOGIN}\nC: MAIL\nS: 250 ok\nC: RCPT TO:<a@example.com>\nS: 250 ok\nC: RCPT TO:<b@example.com>\nS: 250 ok\n{rest}"
    );
    for (script, is_told) in [(with, true), (without, false)] {
        let upstream = Upstream::playing(&[script]).await;
        let attempt = Pool::new().attempt(wishing(&upstream)).await;
        assert_eq!(classes(&attempt), [(0, Class::Accepted), (1, Class::Accepted)]);
        let heard = upstream.heard().await.remove(0);
        assert_eq!(["RET=", "ENVID=", "NOTIFY=", "ORCPT="].map(|name| heard.contains(name)), [is_told; 4], "{heard}");
    }
}

#[tokio::test]
async fn a_large_message_streams_from_its_file() {
    let line = "0123456789012345678901234567890123456789012345678901234567890123456789\r\n";
    let body = format!("{MESSAGE}{}", line.repeat(5_000_000 / line.len()));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("body");
    std::fs::write(&path, &body).unwrap();
    for login in [LOGIN, LOGIN_PIPELINED] {
        let upstream = Upstream::playing(&[format!("{login}{ONE_MESSAGE}")]).await;
        let mut delivery = delivery(&upstream, &["a@example.com"], body.clone());
        delivery.body = Body::File(path.clone());
        let attempt = Pool::new().attempt(delivery).await;
        assert_eq!(classes(&attempt), [(0, Class::Accepted)]);
        let heard = upstream.heard().await.remove(0);
        let (_, sent) = heard.split_once("Hello\r\n..\r\n").unwrap();
        assert_eq!(sent.len(), body.len() - MESSAGE.len() + 3);
        assert!(sent.ends_with("0123456789\r\n.\r\n"));
    }
}

#[tokio::test]
async fn a_body_that_is_gone_or_cut_short_is_never_begun() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("body");
    for kind in [std::io::ErrorKind::NotFound, std::io::ErrorKind::UnexpectedEof] {
        let upstream = Upstream::playing::<&str>(&[]).await;
        let mut delivery = delivery(&upstream, &["a@example.com"], MESSAGE);
        delivery.body = Body::File(path.clone());
        let attempt = Pool::new().attempt(delivery).await;
        assert!(
            matches!(error(&attempt), AttemptError::Body { source } if source.kind() == kind),
            "{:?}",
            attempt.result
        );
        std::fs::write(&path, "half a mess").unwrap();
    }
}
