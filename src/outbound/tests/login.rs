//! Up to the login: certificates, STARTTLS, XOAUTH2.

use std::time::Duration;

use super::*;
use crate::config::{Environment, Grant, PasswordLogin, SecretSource};
use crate::outbound::{Step, Timeouts};
use crate::signin::SecretReader;

const START_TLS: &str = "
    S: 220 mx ready
    C: EHLO
    S: 250-mx
    S: 250 STARTTLS
    C: STARTTLS
";

const BEHIND_TLS: &str = "
    C: EHLO
    S: 250-mx
    S: 250 AUTH XOAUTH2
    C: AUTH XOAUTH2
    S: 334
    C: dXNlcj
    S: 235 2.7.0 Authentication successful
    C: QUIT
    S: 221 bye
";

async fn probe(script: &str, tls: SmtpTls, trusted: bool, host: &str) -> (Result<String, AttemptError>, String) {
    let upstream = Upstream::playing(&[script]).await;
    let mut account = account(upstream.port, tls);
    account.smtp.host = host.to_owned();
    if trusted {
        account.extra_roots = Arc::new([upstream.root.clone()]);
    }
    let probed = Pool::new().probe(&account, &account.login, &token(), "relay.contoso.com").await;
    (probed.map(|greeting| greeting.banner.to_string()), upstream.heard().await.concat())
}

#[tokio::test]
async fn a_probe_logs_in_under_tls_and_says_goodbye() {
    let (greeting, _) =
        probe(&format!("{START_TLS}S: 220 go\nTLS{BEHIND_TLS}"), SmtpTls::StartTls, true, "localhost").await;
    assert_eq!(greeting.unwrap(), "220 mx ready");
    let implicit = format!("TLS\nS: 220 mx implicit{BEHIND_TLS}");
    let (greeting, _) = probe(&implicit, SmtpTls::Implicit, true, "localhost").await;
    assert_eq!(greeting.unwrap(), "220 mx implicit");
}

#[tokio::test]
async fn an_end_without_a_farewell_is_told_as_plainly_under_tls_as_without_it() {
    for (script, tls) in [("S: 220 mx\nC: EHLO", SmtpTls::None), ("TLS\nS: 220 mx\nC: EHLO", SmtpTls::Implicit)] {
        let (result, _) = probe(script, tls, true, "localhost").await;
        let error = result.unwrap_err();
        let cause = std::error::Error::source(&error).expect("a lost connection has a cause").to_string();
        assert_eq!(cause, "the server closed it", "{error:?}");
    }
}

#[tokio::test]
async fn what_came_before_tls_ends_the_connection() {
    for injected in ["SAY 220 go\\r\\n250 injected\\r\\n", "SAY 220 go\\r\\n250-half"] {
        let (result, heard) = probe(&format!("{START_TLS}{injected}"), SmtpTls::StartTls, true, "localhost").await;
        assert!(matches!(result, Err(AttemptError::Protocol { .. })), "{result:?}");
        assert!(!heard.contains("AUTH"), "{heard}");
    }
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_gets_no_token() {
    // The handshake fails on this side; the script cannot succeed in it.
    for (trusted, host) in [(false, "localhost"), (true, "127.0.0.1")] {
        let upstream = Upstream::playing(&[format!("{START_TLS}S: 220 go\nTLS")]).await;
        let mut account = account(upstream.port, SmtpTls::StartTls);
        account.smtp.host = host.to_owned();
        if trusted {
            account.extra_roots = Arc::new([upstream.root.clone()]);
        }
        let error = Pool::new().probe(&account, &account.login, &token(), "relay").await.unwrap_err();
        assert!(matches!(error, AttemptError::Tls { .. }), "{error}");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
}

#[tokio::test]
async fn without_starttls_there_is_no_login() {
    let (result, heard) =
        probe("S: 220 mx\nC: EHLO\nS: 250-mx\nS: 250 AUTH XOAUTH2", SmtpTls::StartTls, true, "localhost").await;
    let error = result.unwrap_err().to_string();
    assert!(error.contains("does not offer STARTTLS"), "{error}");
    assert!(!heard.contains("AUTH"));
    let refused = format!("{START_TLS}S: 454 4.7.0 TLS not available");
    let (result, _) = probe(&refused, SmtpTls::StartTls, true, "localhost").await;
    assert!(matches!(result, Err(AttemptError::Refused { step: Step::StartTls, .. })), "{result:?}");
}

#[tokio::test]
async fn without_tls_a_token_goes_to_loopback_only() {
    let mut account = account(25, SmtpTls::None);
    // RFC 5737: an address that leads nowhere. It is refused before anything is sent.
    account.smtp.host = "192.0.2.1".to_owned();
    let error = Pool::new().probe(&account, &account.login, &token(), "relay").await.unwrap_err();
    assert!(matches!(error, AttemptError::Tls { .. }), "{error}");
}

/// A login with a user name and a password.
async fn with_password(script: &str) -> (Result<String, AttemptError>, String) {
    let upstream = Upstream::playing(&[format!("S: 220 mx\nC: EHLO\n{script}")]).await;
    let mut account = account(upstream.port, SmtpTls::None);
    account.grant = Grant::None;
    let password = SecretSource::Literal(Secret::new("PASSWORD"));
    account.password = Some(PasswordLogin { user: "apikey".to_owned(), password });
    let secrets: SecretReader = Arc::new(|source| source.read(&Environment::default()));
    let credentials = Credentials::own(&account, &secrets);
    let probed = Pool::new().probe(&account, &account.login, &credentials, "relay.contoso.com").await;
    (probed.map(|greeting| greeting.banner.to_string()), upstream.heard().await.concat())
}

#[tokio::test]
async fn a_password_is_said_in_the_way_that_the_server_offers() {
    let plain =
        "S: 250-mx\nS: 250 AUTH LOGIN PLAIN\nC: AUTH PLAIN AGFwaWtleQBQQVNTV09SRA==\nS: 235 ok\nC: QUIT\nS: 221 bye";
    assert!(with_password(plain).await.0.is_ok());
    let login = "S: 250-mx\nS: 250 AUTH LOGIN XOAUTH2\nC: AUTH LOGIN\nS: 334 VXNlcm5hbWU6\nC: YXBpa2V5\nS: 334 UGFzc3dvcmQ6\n\
                 C: UEFTU1dPUkQ=\nS: 235 ok\nC: QUIT\nS: 221 bye";
    assert!(with_password(login).await.0.is_ok());

    let refused = "S: 250-mx\nS: 250 AUTH PLAIN\nC: AUTH PLAIN\nS: 535 5.7.8 no";
    let error = with_password(refused).await.0.unwrap_err();
    assert!(error.to_string().contains("refused the login of apikey: 535 5.7.8 no"), "{error}");
    assert!(matches!(error, AttemptError::Login { .. }) && !format!("{error:?}").contains("PASSWORD"));
    let early = "S: 250-mx\nS: 250 AUTH LOGIN\nC: AUTH LOGIN\nS: 535 5.7.8 not from there";
    let (result, heard) = with_password(early).await;
    assert!(matches!(result, Err(AttemptError::Login { .. })) && !heard.contains("UEFTU1dPUkQ="), "{heard}");
    let (result, _) = with_password("S: 250-mx\nS: 250 AUTH XOAUTH2").await;
    let error = result.unwrap_err().to_string();
    assert!(error.contains("does not offer AUTH PLAIN or LOGIN, only: \"XOAUTH2\""), "{error}");
}

fn login(answers: &str) -> String {
    format!("S: 220 mx\nC: EHLO\nS: 250-mx\nS: 250 AUTH XOAUTH2\nC: AUTH XOAUTH2\nS: 334\nC: dXNlcj\n{answers}")
}

#[tokio::test]
async fn a_refused_login_holds_the_account_unless_it_may_pass() {
    let held = "535 5.7.3 Authentication unsuccessful [SN2PR00CA0018.namprd00.prod.outlook.com]";
    let (result, _) = probe(&login(&format!("S: {held}")), SmtpTls::None, false, "localhost").await;
    let error = result.unwrap_err();
    assert_eq!(error.reply().unwrap().to_string(), held);
    assert!(matches!(error, AttemptError::Login { .. }));
    assert!(error.to_string().contains("refused the login of lms@contoso.com: 535 5.7.3"), "{error}");
    assert!(!format!("{error:?}").contains("TOKEN"));

    let passing = "S: 535 5.7.139 Authentication unsuccessful, federated STS service was unreachable.";
    let (result, _) = probe(&login(passing), SmtpTls::None, false, "localhost").await;
    assert!(matches!(result, Err(AttemptError::Refused { step: Step::Auth, .. })), "{result:?}");
}

#[tokio::test]
async fn a_second_challenge_is_acknowledged_and_the_real_reply_kept() {
    let challenge = "S: 334 eyJzdGF0dXMiOiI0MDEifQ==\nC: \nS: 535 5.7.8 no";
    let (result, heard) = probe(&login(challenge), SmtpTls::None, false, "localhost").await;
    assert_eq!(result.unwrap_err().reply().unwrap().to_string(), "535 5.7.8 no");
    assert!(heard.ends_with("AQE=\r\n\r\n") || heard.ends_with("AQ==\r\n\r\n"), "{heard}");
    let endless = "S: 334 a\nC: \nS: 334 b";
    let (result, _) = probe(&login(endless), SmtpTls::None, false, "localhost").await;
    assert!(matches!(result, Err(AttemptError::Protocol { .. })), "{result:?}");
}

#[tokio::test]
async fn a_server_without_xoauth2_is_named_with_what_it_offers() {
    let (result, _) =
        probe("S: 220 mx\nC: EHLO\nS: 250-mx\nS: 250 AUTH LOGIN PLAIN", SmtpTls::None, false, "localhost").await;
    let error = result.unwrap_err().to_string();
    assert!(error.contains("does not offer AUTH XOAUTH2, only: \"LOGIN PLAIN\""), "{error}");
}

#[tokio::test]
async fn a_busy_server_is_tried_later() {
    for (script, step) in [
        ("S: 421 4.3.2 Service not available", Step::Greeting),
        ("S: 220 mx\nC: EHLO\nS: 421 4.3.2 Service not active", Step::Ehlo),
    ] {
        let (result, _) = probe(script, SmtpTls::None, false, "localhost").await;
        let error = result.unwrap_err();
        assert!(matches!(error, AttemptError::Refused { step: at, .. } if at == step), "{error}");
        assert_eq!(error.verdict().unwrap().class, Class::Later);
    }
}

#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for_for_ever() {
    let upstream = Upstream::playing(&["HEAR 1"]).await;
    let timeouts = Timeouts { greeting: Duration::from_millis(20), ..Timeouts::default() };
    let pool = Pool::with(timeouts, crate::outbound::Bounds::default());
    let error = pool
        .probe(&account(upstream.port, SmtpTls::None), &address("lms@contoso.com"), &token(), "relay")
        .await
        .unwrap_err();
    assert!(matches!(error, AttemptError::Network { ref source, .. } if source.kind() == std::io::ErrorKind::TimedOut));
    assert!(error.to_string().contains("while waiting for its greeting"), "{error}");
    assert_eq!(pool.open_sessions(&address("lms@contoso.com")), 0);
}

#[tokio::test]
async fn where_nobody_listens_the_server_is_named() {
    // Nobody can listen on port 0.
    let error = Pool::new()
        .probe(&account(0, SmtpTls::None), &address("lms@contoso.com"), &token(), "relay")
        .await
        .unwrap_err();
    assert!(error.to_string().starts_with("could not connect to 127.0.0.1:0: "), "{error}");
}
