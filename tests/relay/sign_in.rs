//! Signing in, and what happens when the sign-in or the login fails.

use xoauth2_relay::config::Secret;
use xoauth2_relay::simulator::{Fault, Mailbox, Options, Simulator};

use crate::support::{LISTENER, MAILBOX, Rig, configuration, mailbox, quick, start_relay_with, until_held};

const MAIL: &str = "From: lms@contoso.com\r\nTo: you@example.com\r\nSubject: hello\r\n\r\nhello\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn mail_waits_until_somebody_signs_in_by_device_code() {
    let options = Options { device_interval: std::time::Duration::from_millis(100), ..quick() };
    let rig = Rig::not_signed_in(options, "").await;
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    let hold = rig.until_held(true).await.unwrap();
    assert_eq!(hold.cause, "not_signed_in");
    assert_eq!(rig.queue().await[0].state, "held");
    assert!(hold.remedy.contains("xoauth2-relay login lms@contoso.com"));

    let prompt = rig.relay.ops().login_begin(&mailbox()).await.unwrap();
    assert!(rig.simulator.approve(&prompt.user_code, MAILBOX));
    let done = rig.relay.ops().login_wait(&mailbox()).await.unwrap();
    assert_eq!(done.signed_in_as.as_deref(), Some(MAILBOX));
    rig.until_accepted(1).await;
    rig.until_held(false).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_else_signing_in_is_named_and_changes_nothing() {
    let options = Options {
        device_interval: std::time::Duration::from_millis(100),
        mailboxes: vec![Mailbox::new(MAILBOX), Mailbox::new("somebody@contoso.com")],
        ..quick()
    };
    let rig = Rig::not_signed_in(options, "").await;
    let prompt = rig.relay.ops().login_begin(&mailbox()).await.unwrap();
    assert!(rig.simulator.approve(&prompt.user_code, "somebody@contoso.com"));
    let done = rig.relay.ops().login_wait(&mailbox()).await;
    // With a custom provider the name in the token is only told, since its meaning is the provider's.
    assert_eq!(done.unwrap().signed_in_as.as_deref(), Some("somebody@contoso.com"));
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    let hold = rig.until_held(true).await.unwrap();
    assert!(hold.reply.unwrap().starts_with("535 5.7.3"), "Exchange does not let that person in");
    assert!(
        hold.text.starts_with("somebody@contoso.com signed in, but this account needs lms@contoso.com"),
        "{}",
        hold.text
    );
    assert_eq!(hold.remedy, "xoauth2-relay login lms@contoso.com");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_exchange_would_refuse_is_refused_at_the_login() {
    for (claim, value, words) in [
        ("aud", "https://graph.microsoft.com", "Microsoft Graph"),
        ("scp", "IMAP.AccessAsUser.All", "lacks SMTP.Send"),
        ("tid", "11111111-1111-1111-1111-111111111111", "comes from another tenant"),
        ("upn", "other@contoso.com", "other@contoso.com signed in, but this account needs lms@contoso.com"),
    ] {
        let claims = [(claim.to_owned(), value.into())].into();
        let tenant = "33333333-3333-3333-3333-333333333333";
        let client_id = "22222222-2222-2222-2222-222222222222".to_owned();
        let simulator =
            Simulator::start(Options { claims, client_id, tenant: tenant.to_owned(), ..quick() }).await.unwrap();
        let folder = tempfile::TempDir::new().unwrap();
        let microsoft = format!("provider = \"microsoft\"\ntenant = \"{tenant}\"");
        let text = configuration(&simulator, folder.path(), LISTENER).replace("provider = \"custom\"", &microsoft);
        let relay = start_relay_with(&text).await;
        let token = Secret::new(simulator.issue_refresh_token(MAILBOX));
        let error = relay.ops().login_take_in(&mailbox(), token).await.unwrap_err().to_string();
        assert!(error.contains(words), "{claim}: {error}");
        assert_eq!(until_held(&relay, true).await.unwrap().cause, "not_signed_in", "{claim}");
        relay.stop().await;
        simulator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_login_holds_the_account_costs_no_try_and_a_good_login_releases_it() {
    let rig = Rig::start().await;
    rig.simulator.fault(Fault::row("535-5.7.139-smtpauth-mailbox").unwrap());
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    let hold = rig.until_held(true).await.unwrap();
    assert_eq!(hold.cause, "login");
    let reply = hold.reply.unwrap();
    assert!(
        reply.starts_with("535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled"),
        "{reply}"
    );
    let queue = rig.queue().await;
    assert_eq!((queue[0].state.as_str(), queue[0].tries), ("held", 0));

    // Still held after a restart, and mail is still taken.
    let rig = rig.restart().await;
    rig.until_held(true).await;
    rig.submit(MAILBOX, &["me@example.com"], MAIL).await;
    rig.simulator.clear_faults();
    rig.sign_in().await;
    rig.until_accepted(2).await;
    rig.until_held(false).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_refused_login_with_a_good_token_is_answered_by_a_fresh_one() {
    let rig = Rig::start().await;
    rig.simulator.fault(Fault::row("535-5.7.3-generic").unwrap().times(1));
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    rig.until_accepted(1).await;
    rig.until_held(false).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_sign_in_holds_the_account_until_somebody_signs_in_again() {
    let rig = Rig::start().await;
    rig.simulator.revoke_sign_ins(MAILBOX);
    let rig = rig.restart().await;
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    let hold = rig.until_held(true).await.unwrap();
    assert_eq!(hold.cause, "sign_in");
    assert_eq!(hold.codes, [50173]);
    assert!(hold.error.unwrap().contains("AADSTS50173"));
    rig.sign_in().await;
    rig.until_accepted(1).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_held_and_released_by_hand() {
    let rig = Rig::start().await;
    let ops = rig.relay.ops();
    ops.account_hold(&mailbox()).await.unwrap();
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    let queue = rig.until_queue("a held message", |queue| queue.iter().any(|message| message.state == "held")).await;
    assert_eq!(queue[0].recipients[0].state, "held");
    ops.account_release(&mailbox()).await.unwrap();
    rig.until_accepted(1).await;
    ops.account_release(&mailbox()).await.expect("releasing what is not held is fine");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_endpoint_may_be_away_without_harm_to_the_sign_in() {
    let rig = Rig::start().await.restart_without_endpoint().await;
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    rig.until_queue("a pause", |queue| !queue.is_empty()).await;
    rig.simulator.clear_faults();
    rig.relay.ops().account_release(&mailbox()).await.unwrap();
    rig.until_accepted(1).await;
    rig.stop().await;
}

impl Rig {
    /// The access token outlives a restart, but Exchange no longer takes it; and the endpoint answers with an error page.
    async fn restart_without_endpoint(self) -> Self {
        self.simulator.fault(Fault::row("http-5xx").unwrap());
        self.simulator.revoke_access_tokens(MAILBOX);
        self.restart().await
    }
}
