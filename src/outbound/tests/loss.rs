//! Connections lost at every step: what is certain, and what is in doubt.

use super::*;

/// The script up to the given line of what the server says, where it ends.
fn cut_before(script: &str, says: usize) -> String {
    let mut said = 0;
    let kept = script.lines().take_while(|line| {
        said += usize::from(line.trim().starts_with("S:"));
        said <= says
    });
    kept.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_connection_lost_before_the_final_dot_leaves_everything_as_it_was() {
    for login in [LOGIN, LOGIN_PIPELINED] {
        let script = format!("{login}{ONE_MESSAGE}");
        let says = script.lines().filter(|line| line.trim().starts_with("S:")).count();
        for cut in 0..says - 1 {
            let cut = cut_before(&script, cut);
            let upstream = Upstream::playing(&[&cut]).await;
            let pool = Pool::new();
            let attempt = pool.attempt(delivery(&upstream, &["a@example.com"], MESSAGE)).await;
            assert!(matches!(error(&attempt), AttemptError::Network { .. }), "{cut}: {:?}", attempt.result);
            assert!(!attempt.submitted, "{cut}");
            assert_eq!(pool.open_sessions(&address("lms@contoso.com")), 0);
            upstream.heard().await;
        }
    }
}

#[tokio::test]
async fn a_connection_lost_behind_the_final_dot_leaves_the_accepted_recipients_in_doubt() {
    let script = format!(
        "{LOGIN}
        C: MAIL
        S: 250 ok
        C: RCPT
        S: 250 ok
        C: RCPT
        S: 550 5.1.1 no
        C: DATA
        S: 354 go
        BODY"
    );
    for end in ["", "\nSAY 25", "\nS: what?"] {
        let upstream = Upstream::playing(&[format!("{script}{end}")]).await;
        let attempt = Pool::new().attempt(delivery(&upstream, &["a@example.com", "b@example.com"], MESSAGE)).await;
        assert_eq!(classes(&attempt), [(0, Class::InDoubt), (1, Class::Refused)], "{end}");
        assert!(attempt.submitted);
        let doubt = &verdicts(&attempt).iter().find(|(place, _)| *place == 0).unwrap().1.reply;
        assert!(doubt.to_string().starts_with("451 4.4.2 xoauth2-relay: "), "{doubt}");
        upstream.heard().await;
    }
}

/// More than the buffers of both sides hold.
fn large() -> String {
    format!("{MESSAGE}{}", "0123456789\r\n".repeat(3_000_000))
}

const TO_DATA: &str = "
    C: MAIL
    S: 250 ok
    C: RCPT
    S: 250 ok
    C: DATA
    S: 354 go
    HEAR 1000
";

#[tokio::test]
async fn a_connection_lost_within_the_message_is_no_doubt() {
    let upstream = Upstream::playing(&[format!("{LOGIN}{TO_DATA}")]).await;
    let attempt = Pool::new().attempt(delivery(&upstream, &["a@example.com"], large())).await;
    assert!(matches!(error(&attempt), AttemptError::Network { .. }), "{:?}", attempt.result);
    assert!(attempt.submitted);
    upstream.heard().await;
}

#[tokio::test]
async fn a_refusal_within_the_message_is_heard() {
    let refusal = "552 5.3.4 Message size exceeds fixed maximum message size";
    // It stays until the client has gone, or its last words may be lost with the connection.
    let script = format!("{LOGIN}{TO_DATA}\nS: {refusal}\nEND\nHEAR 100000");
    let upstream = Upstream::playing(&[script]).await;
    let pool = Pool::new();
    let attempt = pool.attempt(delivery(&upstream, &["a@example.com"], large())).await;
    assert_eq!(classes(&attempt), [(0, Class::Refused)]);
    assert_eq!(verdicts(&attempt)[0].1.reply.to_string(), refusal);
    assert_eq!(pool.open_sessions(&address("lms@contoso.com")), 0, "the session is of no use any more");
}

#[tokio::test]
async fn a_yes_within_the_message_is_not_believed() {
    let upstream = Upstream::playing(&[format!("{LOGIN}{TO_DATA}\nS: 250 thanks\nHEAR 100000")]).await;
    let attempt = Pool::new().attempt(delivery(&upstream, &["a@example.com"], large())).await;
    assert!(matches!(error(&attempt), AttemptError::Protocol { .. }), "{:?}", attempt.result);
}

#[tokio::test]
async fn a_file_cut_short_while_it_is_sent_never_gets_its_final_dot() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("body");
    std::fs::write(&path, large()).unwrap();
    let content = crate::outbound::content::Content::new(Vec::new(), &Body::File(path.clone()), 0, 30_000_000).await;
    let content = content.unwrap();
    std::fs::write(&path, "half").unwrap();
    let mut pieces = content.pieces().await.unwrap();
    assert_eq!(pieces.next().await.unwrap().unwrap(), "");
    assert_eq!(pieces.next().await.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}
