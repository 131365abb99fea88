//! Shared mailboxes: a person signs in, mail leaves as the mailbox, and Exchange may want either name in `user=`.

use xoauth2_relay::config::Secret;
use xoauth2_relay::ops::AccountStatus;
use xoauth2_relay::simulator::{Fault, Mailbox, Options, SharedLogin};

use crate::support::{MAILBOX, Rig, mailbox, quick};

const MAIL: &str = "From: lms@contoso.com\r\nTo: you@example.com\r\nSubject: hello\r\n\r\nhello\r\n";
/// The person who was given the mailbox.
const PERSON: &str = "svc@contoso.com";

fn options(shared_login: SharedLogin) -> Options {
    let person = Mailbox::new(PERSON).send_as(MAILBOX);
    Options { mailboxes: vec![Mailbox::new(MAILBOX).shared_with(PERSON), person], shared_login, ..quick() }
}

impl Rig {
    async fn with_shared(shared_login: SharedLogin) -> Self {
        let rig = Self::not_signed_in(options(shared_login), "").await;
        rig.sign_in_as(PERSON).await;
        rig
    }

    async fn sign_in_as(&self, person: &str) {
        let token = Secret::new(self.simulator.issue_refresh_token(person));
        self.relay.ops().login_take_in(&mailbox(), token).await.unwrap();
    }

    /// Sends one mail; as whom Exchange had let the relay in, and what MAIL FROM was.
    async fn send(&self) -> (String, String) {
        let before = self.simulator.accepted_count();
        self.submit(MAILBOX, &["you@example.com"], MAIL).await;
        let accepted = self.until_accepted(before + 1).await.pop().unwrap();
        self.until_queue_is_empty().await;
        (accepted.mailbox, accepted.mail_from)
    }

    /// Logins so far, and those of them that were refused.
    fn logins(&self) -> (u64, u64) {
        let statistics = self.simulator.statistics();
        (statistics.auth_attempts, statistics.auth_refused)
    }

    /// Requests for tokens so far, none of them under way.
    async fn tokens(&self) -> u64 {
        self.relay.ops().sign_ins.token(&mailbox()).await.unwrap();
        self.simulator.statistics().token_requests.values().sum()
    }

    async fn shared_account(&self) -> AccountStatus {
        self.relay.ops().status().await.unwrap().accounts.remove(0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_that_exchange_takes_is_found_out_once_and_mail_leaves_as_the_mailbox() {
    for (policy, user, logins) in [
        (SharedLogin::Person, PERSON, (1, 0)),
        (SharedLogin::Mailbox, MAILBOX, (2, 1)),
        (SharedLogin::Both, PERSON, (1, 0)),
    ] {
        let rig = Rig::with_shared(policy).await;
        let tokens = rig.tokens().await;
        assert_eq!(rig.send().await, (user.to_owned(), MAILBOX.to_owned()), "{policy:?}");
        assert_eq!(rig.logins(), logins, "{policy:?}");
        assert_eq!(rig.shared_account().await.last_login.unwrap().user, user);
        assert_eq!(rig.tokens().await, tokens, "{policy:?}: the token was not to blame");

        let rig = rig.restart().await;
        assert_eq!(rig.send().await.0, user, "{policy:?}");
        assert_eq!(rig.logins(), (logins.0 + 1, logins.1), "{policy:?}: known after a restart");
        let shown = rig.relay.ops().account_show(&mailbox()).await.unwrap();
        let learnt = format!("Exchange takes the login as {user}");
        assert!(shown.journal.iter().any(|line| line.text == learnt));
        let journal = rig.relay.ops().store.recent_journal(100).await.unwrap();
        let sent = journal.iter().position(|line| line.message.is_some());
        let learnt = journal.iter().position(|line| line.text == learnt);
        assert!(sent < learnt, "until it is written that a mail has left, nothing else is: {journal:?}");
        rig.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_user_that_worked_is_refused_the_other_one_is_tried_before_the_account_is_held() {
    let mut rig = Rig::with_shared(SharedLogin::Both).await;
    assert_eq!(rig.send().await.0, PERSON);
    for (refused, other) in [(PERSON, MAILBOX), (MAILBOX, PERSON)] {
        rig.simulator.clear_faults();
        rig.simulator.fault(Fault::row("535-5.7.3-generic").unwrap().for_mailbox(refused));
        // The session at hand would do for the next mail.
        rig = rig.restart().await;
        let before = rig.logins();
        assert_eq!(rig.send().await.0, other);
        assert_eq!(rig.logins(), (before.0 + 2, before.1 + 1));
        assert!(rig.shared_account().await.hold.is_none());
    }
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_may_use_neither_is_held_after_four_logins_and_one_token() {
    let mut options = options(SharedLogin::Both);
    options.mailboxes.push(Mailbox::new("somebody@contoso.com"));
    let rig = Rig::not_signed_in(options, "").await;
    rig.sign_in_as("somebody@contoso.com").await;
    let before = rig.tokens().await;
    rig.submit(MAILBOX, &["you@example.com"], MAIL).await;
    let hold = rig.until_held(true).await.unwrap();
    assert_eq!(hold.cause, "login");
    assert!(hold.reply.unwrap().starts_with("535 5.7.3 "));
    assert!(hold.error.unwrap().starts_with("as lms@contoso.com: 535 5.7.3 "), "what the other user met is told, too");
    assert_eq!((rig.logins(), rig.tokens().await - before), ((4, 4), 1));
    let queue = rig.queue().await;
    assert_eq!((queue[0].state.as_str(), queue[0].tries), ("held", 0));

    // The right person sets it right.
    rig.sign_in_as(PERSON).await;
    rig.until_accepted(1).await;
    rig.until_held(false).await;
    rig.stop().await;
}
