//! The sign-ins as the relay sees them, against a scripted endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::bench::{MAILBOX, config, mailbox, stored};
use super::scripted::{Answer, Scripted};
use super::*;
use crate::config::{Secret, SecretSource};
use crate::store::Fact;

/// A shelf whose writes can be held up or made to fail.
struct Stubborn {
    rows: MemoryShelf,
    gate: Semaphore,
    full: AtomicBool,
    broken: AtomicBool,
}

impl Default for Stubborn {
    fn default() -> Self {
        let gate = Semaphore::new(Semaphore::MAX_PERMITS);
        Self { rows: MemoryShelf::default(), gate, full: AtomicBool::new(false), broken: AtomicBool::new(false) }
    }
}

impl Shelf for Stubborn {
    fn load<'a>(&'a self, account: &'a Address) -> BoxFuture<'a, Result<Option<StoredSignIn>, ShelfError>> {
        assert!(!self.broken.load(Ordering::SeqCst), "a bug in the shelf");
        self.rows.load(account)
    }

    fn save(&self, sign_in: StoredSignIn) -> BoxFuture<'_, Result<(), ShelfError>> {
        async move {
            drop(self.gate.acquire().await);
            if self.full.load(Ordering::SeqCst) {
                return Err(ShelfError::Unavailable("no space left on device".to_owned()));
            }
            self.rows.save(sign_in).await
        }
        .boxed()
    }

    fn facts<'a>(&'a self, account: &'a Address) -> BoxFuture<'a, Result<Vec<Fact>, ShelfError>> {
        self.rows.facts(account)
    }

    fn learn(&self, fact: Fact) -> BoxFuture<'_, Result<(), ShelfError>> {
        self.rows.learn(fact)
    }
}

type Bench = bench::Bench<Stubborn>;

impl Bench {
    /// One account, signed in with `refresh-0`.
    fn signed_in(scripted: &Scripted) -> Self {
        let shelf = Arc::new(Stubborn::default());
        shelf.rows.put(stored(&mailbox(), "refresh-0"));
        Self::start(vec![scripted.account(MAILBOX)], shelf)
    }

    fn on_shelf(&self) -> Option<String> {
        self.shelf.rows.peek(&mailbox()).map(|stored| stored.current.expose().to_owned())
    }
}

#[tokio::test]
async fn two_hundred_callers_of_an_ended_token_cause_one_request() {
    let scripted = Scripted::start().await;
    let bench = Bench::signed_in(&scripted);
    assert_eq!(bench.token().await.unwrap().secret, Secret::new("access-1"));
    scripted.close();
    bench.clock.advance(Duration::from_hours(2));
    let callers = (0..200).map(|_| {
        let sign_ins = bench.sign_ins.clone();
        tokio::spawn(async move { sign_ins.token(&mailbox()).await })
    });
    let callers: Vec<_> = callers.collect();
    bench.until(|_| scripted.asked().len() == 2).await;
    scripted.open();
    for token in join_all(callers).await {
        assert_eq!(token.unwrap().unwrap().secret, Secret::new("access-2"));
    }
    assert_eq!(scripted.asked().len(), 2);
    bench.end().await;
}

#[tokio::test]
async fn the_rotated_token_is_on_the_shelf_before_the_access_token_is_handed_out() {
    let scripted = Scripted::start().await;
    let shelf = Arc::new(Stubborn::default());
    shelf.rows.put(stored(&mailbox(), "refresh-0"));
    shelf.gate.forget_permits(Semaphore::MAX_PERMITS);
    let bench = Bench::start(vec![scripted.account(MAILBOX)], shelf);
    let sign_ins = bench.sign_ins.clone();
    let caller = tokio::spawn(async move { sign_ins.token(&mailbox()).await });
    bench.until(|_| scripted.asked().len() == 1).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
        assert!(!caller.is_finished(), "handed out before it was written");
    }
    assert_eq!(bench.on_shelf().as_deref(), Some("refresh-0"));
    bench.shelf.gate.add_permits(Semaphore::MAX_PERMITS);
    assert!(caller.await.unwrap().is_ok());
    assert_eq!(bench.on_shelf().as_deref(), Some("refresh-1"));
    bench.end().await;
}

#[tokio::test]
async fn a_token_that_cannot_be_written_is_not_relied_upon_until_it_can() {
    let scripted = Scripted::start().await;
    let shelf = Arc::new(Stubborn::default());
    shelf.rows.put(stored(&mailbox(), "refresh-0"));
    shelf.full.store(true, Ordering::SeqCst);
    let mut bench = Bench::start(vec![scripted.account(MAILBOX)], shelf);
    assert!(matches!(bench.token().await, Err(NoToken::Unavailable { error, .. }) if error.contains("no space left")));
    assert!(matches!(bench.event().await, SignInEvent::Trouble { .. }));
    bench.shelf.full.store(false, Ordering::SeqCst);
    bench.clock.advance(Duration::from_mins(1));
    let good = bench.event().await;
    assert_eq!(good, SignInEvent::Good { account: mailbox(), why: Why::Started });
    assert_eq!(bench.token().await.unwrap().secret, Secret::new("access-1"));
    assert_eq!(scripted.asked().len(), 1, "the first answer was kept");
    bench.end().await;
}

#[tokio::test]
async fn a_refused_sign_in_is_told_held_and_released_by_a_new_one() {
    let scripted = Scripted::start().await;
    scripted.then(Answer::refusal("invalid_grant", 50173));
    let mut bench = Bench::signed_in(&scripted);
    let held = bench.token().await.unwrap_err();
    assert!(matches!(held, NoToken::Held { cause: HoldCause::SignIn, ref codes, .. } if codes == &[50173]), "{held:?}");
    let SignInEvent::Dead { account, cause, error, codes, advice, .. } = bench.event().await else { panic!("dead") };
    assert_eq!((account, cause, codes), (mailbox(), HoldCause::SignIn, vec![50173]));
    assert_eq!(error, "AADSTS50173: no.\r\nTrace ID: t", "word for word");
    assert_eq!(advice.command, "xoauth2-relay login lms@contoso.com");
    assert_eq!(bench.on_shelf().as_deref(), Some("refresh-0"), "nothing is deleted");
    assert!(bench.sign_ins.status()[0].hold.is_some());

    bench.sign_ins.adopt(stored(&mailbox(), "new-0")).await.unwrap();
    assert_eq!(bench.event().await, SignInEvent::Good { account: mailbox(), why: Why::SignedIn });
    assert!(bench.token().await.is_ok());
    assert_eq!(scripted.asked().last().unwrap()["refresh_token"], "new-0");
    assert!(bench.sign_ins.status()[0].hold.is_none());
    bench.end().await;
}

#[tokio::test]
async fn a_release_tries_a_dead_sign_in_at_once() {
    let scripted = Scripted::start().await;
    scripted.then(Answer::refusal("invalid_grant", 50173));
    let mut bench = Bench::signed_in(&scripted);
    assert!(matches!(bench.event().await, SignInEvent::Dead { .. }));
    scripted.then(Answer::refusal("invalid_grant", 50173));
    bench.sign_ins.retry(&mailbox()).await;
    assert!(matches!(bench.event().await, SignInEvent::Dead { probes: 1, .. }));
    bench.sign_ins.retry(&mailbox()).await;
    assert_eq!(bench.event().await, SignInEvent::Good { account: mailbox(), why: Why::Asked });
    bench.end().await;
}

#[tokio::test]
async fn a_rejected_token_is_never_handed_out_again_and_replaced_once() {
    let scripted = Scripted::start().await;
    let bench = Bench::signed_in(&scripted);
    let first = bench.token().await.unwrap();
    for _ in 0..50 {
        bench.sign_ins.rejected(&mailbox(), first.version);
    }
    let second = bench.token().await.unwrap();
    assert!(second.version > first.version && second.secret != first.secret);
    bench.sign_ins.rejected(&mailbox(), first.version);
    bench.sign_ins.rejected(&mailbox(), second.version);
    assert_eq!(bench.token().await.unwrap(), second, "a second replacement would not help");
    assert_eq!(scripted.asked().len(), 2);
    bench.end().await;
}

#[tokio::test]
async fn mail_goes_on_while_the_endpoint_is_away() {
    let scripted = Scripted::start().await;
    let mut bench = Bench::signed_in(&scripted);
    let first = bench.token().await.unwrap();
    assert!(matches!(bench.event().await, SignInEvent::Good { .. }));
    scripted.then(Answer::Text(503, &[("retry-after", "1200")], "<html>".to_owned()));
    bench.clock.advance(Duration::from_mins(40));
    let SignInEvent::Trouble { retry_at, .. } = bench.event().await else { panic!("trouble") };
    assert_eq!(retry_at, bench.clock.now() + Duration::from_mins(20));
    assert_eq!(bench.token().await.unwrap(), first);
    let status = bench.sign_ins.status().remove(0);
    assert!(status.problem.is_some() && status.hold.is_none());
    assert_eq!(status.next_refresh, Some(retry_at));
    let failed = bench.sign_ins.refresh_now(&mailbox()).await;
    assert_eq!(failed.unwrap().secret, Secret::new("access-3"), "asked by a person, it is tried at once");
    bench.end().await;
}

#[tokio::test]
async fn accounts_come_and_go_with_the_configuration() {
    let scripted = Scripted::start().await;
    let mut bench = Bench::signed_in(&scripted);
    assert!(bench.token().await.is_ok());
    assert!(matches!(bench.event().await, SignInEvent::Good { .. }));
    let other = Address::parse("other@contoso.com").unwrap();
    assert_eq!(bench.sign_ins.token(&other).await, Err(NoToken::UnknownAccount));

    bench.config.send_replace(config(vec![scripted.account("other@contoso.com")]));
    let event = bench.event().await;
    assert!(matches!(event, SignInEvent::Dead { cause: HoldCause::NotSignedIn, .. }), "{event:?}");
    assert_eq!(bench.token().await, Err(NoToken::UnknownAccount));
    assert!(matches!(bench.sign_ins.adopt(stored(&mailbox(), "x")).await, Err(AdoptError::UnknownAccount)));
    bench.sign_ins.adopt(stored(&other, "other-0")).await.unwrap();
    assert!(bench.sign_ins.token(&other).await.is_ok());

    let mut changed = scripted.account("other@contoso.com");
    changed.client_id = "another-client".to_owned();
    changed.client_secret = Some(SecretSource::Literal(Secret::new("s3cret")));
    bench.config.send_replace(config(vec![changed, scripted.account(MAILBOX)]));
    bench.until(|_| scripted.asked().iter().any(|form| form["client_id"] == "another-client")).await;
    assert!(scripted.asked().iter().any(|form| form.get("client_secret").is_some_and(|secret| secret == "s3cret")));
    bench.until(|bench| bench.sign_ins.status().len() == 2).await;
    assert!(bench.token().await.is_ok(), "back again, with the sign-in it had");
    bench.end().await;
}

#[tokio::test]
async fn a_stop_lets_a_refresh_end_and_writes_its_token() {
    let scripted = Scripted::start().await;
    scripted.close();
    let bench = Bench::signed_in(&scripted);
    bench.until(|_| scripted.asked().len() == 1).await;
    bench.stop.cancel();
    scripted.open();
    let shelf = Arc::clone(&bench.shelf);
    bench.end().await;
    assert_eq!(shelf.rows.peek(&mailbox()).unwrap().current, Secret::new("refresh-1"));
}

#[tokio::test]
async fn a_stop_offers_the_shelf_once_more_what_it_did_not_take() {
    let scripted = Scripted::start().await;
    let shelf = Arc::new(Stubborn::default());
    shelf.rows.put(stored(&mailbox(), "refresh-0"));
    shelf.full.store(true, Ordering::SeqCst);
    let mut bench = Bench::start(vec![scripted.account(MAILBOX)], Arc::clone(&shelf));
    assert!(matches!(bench.event().await, SignInEvent::Trouble { .. }));
    shelf.full.store(false, Ordering::SeqCst);
    bench.end().await;
    assert_eq!(shelf.rows.peek(&mailbox()).unwrap().current, Secret::new("refresh-1"));
}

#[tokio::test]
async fn a_token_that_is_rotated_while_the_grant_changes_is_kept() {
    let scripted = Scripted::start().await;
    scripted.close();
    let bench = Bench::signed_in(&scripted);
    bench.until(|_| scripted.asked().len() == 1).await;
    let application = Account { grant: Grant::Application, ..scripted.account(MAILBOX) };
    bench.config.send_replace(config(vec![application]));
    scripted.open();
    bench.until(|bench| bench.sign_ins.grant(&mailbox()) == Some(Grant::Application)).await;
    assert_eq!(bench.on_shelf().as_deref(), Some("refresh-1"));
    bench.end().await;
}

#[tokio::test]
async fn a_keeper_that_panics_is_told_of() {
    let scripted = Scripted::start().await;
    let shelf = Arc::new(Stubborn::default());
    shelf.broken.store(true, Ordering::SeqCst);
    let mut bench = Bench::start(vec![scripted.account(MAILBOX)], shelf);
    assert_eq!(bench.event().await, SignInEvent::Broken { account: mailbox() });
    assert!(matches!(bench.token().await, Err(NoToken::Unavailable { .. })));
    assert!(matches!(bench.sign_ins.refresh_now(&mailbox()).await, Err(NoToken::Unavailable { .. })));
    assert!(matches!(bench.sign_ins.adopt(stored(&mailbox(), "x")).await, Err(AdoptError::Stopping)));
    bench.end().await;
}

#[tokio::test]
async fn a_secret_that_cannot_be_read_is_trouble_and_no_dead_sign_in() {
    let scripted = Scripted::start().await;
    let mut account = scripted.account(MAILBOX);
    account.client_secret = Some(SecretSource::Env("NO_SUCH".to_owned()));
    let shelf = Arc::new(Stubborn::default());
    shelf.rows.put(stored(&mailbox(), "refresh-0"));
    let bench = Bench::start(vec![account], shelf);
    let error = bench.token().await.unwrap_err();
    assert!(matches!(&error, NoToken::Unavailable { error, .. } if error.contains("client_secret")), "{error:?}");
    assert_eq!(scripted.asked().len(), 0);
    bench.end().await;
}

#[tokio::test]
async fn a_refused_secret_whose_file_is_replaced_is_tried_within_a_minute() {
    let scripted = Scripted::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "expired~secret").unwrap();
    let mut account = scripted.account(MAILBOX);
    account.grant = Grant::Application;
    account.client_secret = Some(SecretSource::File(file.clone()));
    scripted.then(Answer::refusal("invalid_client", 7_000_222));
    let mut bench = Bench::start(vec![account], Arc::new(Stubborn::default()));
    let event = bench.event().await;
    assert!(matches!(event, SignInEvent::Dead { cause: HoldCause::Registration, .. }), "{event:?}");
    bench.clock.advance(Duration::from_mins(1));
    bench.until(|bench| bench.sign_ins.status()[0].hold.is_some()).await;
    assert_eq!(scripted.asked().len(), 1, "the same secret is left to the probes");

    std::fs::write(&file, "the-new~secret").unwrap();
    bench.clock.advance(Duration::from_mins(1));
    assert_eq!(bench.event().await, SignInEvent::Good { account: mailbox(), why: Why::Started });
    let asked: Vec<_> = scripted.asked().iter().map(|form| form["client_secret"].clone()).collect();
    assert_eq!(asked, ["expired~secret", "the-new~secret"]);
    bench.end().await;
}

/// A token of an hour, dated so many seconds before or after our calendar; by its own `exp` it has ended long ago.
fn dated(bench_time: Timestamp, seconds: i64) -> Answer {
    let date = bench_time + jiff::SignedDuration::from_secs(seconds);
    let date = date.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    // A test's few headers may live as long as it does.
    let headers: &'static [(&str, &str)] = Box::leak(Box::new([("date", &*String::leak(date))]));
    let token = "e30.eyJleHAiOjF9.sig";
    Answer::Text(200, headers, format!(r#"{{"access_token":"{token}","refresh_token":"next","expires_in":3600}}"#))
}

#[tokio::test]
async fn a_wrong_clock_is_named_and_neither_shortens_nor_lengthens_the_life_of_a_token() {
    for (seconds, minutes) in [(-420, 7), (420, -7), (-86_400, 1_440), (30, 0)] {
        let scripted = Scripted::start().await;
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        scripted.then(dated(start, seconds));
        let mut bench = Bench::signed_in(&scripted);
        let token = bench.token().await.unwrap();
        assert_eq!(token.expires_at, start + Duration::from_mins(59), "an hour from its arrival, but for the margin");
        assert!(matches!(bench.event().await, SignInEvent::Good { .. }));
        let status = bench.sign_ins.status().remove(0);
        let skew = status.clock_skew.map_or(0, |skew| (skew.as_secs() + 30 * skew.as_secs().signum()) / 60);
        assert_eq!(skew, minutes);
        let advice = status.clock_advice(crate::config::Provider::Microsoft);
        assert_eq!(advice.map(|advice| advice.command), (minutes != 0).then(|| "timedatectl set-ntp true".to_owned()));
        bench.end().await;
    }
}

#[tokio::test]
async fn a_replaced_secret_is_given_a_quarter_of_an_hour_before_it_counts_as_wrong() {
    let scripted = Scripted::start().await;
    let account = |secret: &str| {
        let mut account = scripted.account(MAILBOX);
        account.client_secret = Some(SecretSource::Literal(Secret::new(secret)));
        account
    };
    let shelf = Arc::new(Stubborn::default());
    shelf.rows.put(stored(&mailbox(), "refresh-0"));
    let mut bench = Bench::start(vec![account("old")], shelf);
    let first = bench.token().await.unwrap();
    assert!(matches!(bench.event().await, SignInEvent::Good { .. }));
    for _ in 0..2 {
        scripted.then(Answer::refusal("invalid_client", 7_000_215));
    }
    bench.config.send_replace(config(vec![account("new")]));
    let SignInEvent::Trouble { retry_at, .. } = bench.event().await else { panic!("it passes") };
    assert_eq!(retry_at, bench.clock.now() + Duration::from_mins(1));
    let advice = bench.sign_ins.status().remove(0).problem.unwrap().advice;
    assert!(advice.sentence.contains("takes some minutes"), "{advice}");
    assert_eq!(bench.token().await.unwrap(), first, "mail goes on");

    bench.clock.advance(Duration::from_mins(16));
    let event = bench.event().await;
    assert!(matches!(event, SignInEvent::Dead { cause: HoldCause::Registration, .. }), "{event:?}");
    bench.sign_ins.retry(&mailbox()).await;
    assert!(matches!(bench.event().await, SignInEvent::Good { .. }));
    scripted.then(Answer::refusal("invalid_client", 7_000_215));
    bench.sign_ins.retry(&mailbox()).await;
    let event = bench.event().await;
    assert!(matches!(event, SignInEvent::Dead { cause: HoldCause::Registration, .. }), "it has worked: {event:?}");
    bench.end().await;
}

/// Everything that can be printed, with secrets in every place that holds one.
#[tokio::test]
async fn nothing_that_can_be_printed_shows_a_secret() {
    let secret = "TOP-SECRET-refresh";
    let scripted = Scripted::start().await;
    let echo = r#"{"error":"invalid_grant","error_description":"AADSTS70000: TOP-SECRET-refresh is malformed"}"#;
    scripted
        .then(Answer::tokens("TOP-SECRET-access", "TOP-SECRET-refresh"))
        .then(Answer::json(400, echo))
        .then(Answer::json(400, echo));
    let shelf = Arc::new(Stubborn::default());
    shelf.rows.put(stored(&mailbox(), secret));
    let mut bench = Bench::start(vec![scripted.account(MAILBOX)], shelf);
    let mut printed = vec![format!("{:?}{:?}", bench.token().await, bench.event().await)];
    let refused = bench.sign_ins.refresh_now(&mailbox()).await.unwrap_err();
    printed.push(format!("{refused}{refused:?}{:?}{:?}", bench.event().await, bench.sign_ins.status()));
    let login = take_in(&scripted.account(MAILBOX), Secret::new(secret), &scripted::tools(&bench.clock)).await;
    let login = login.unwrap_err();
    printed.push(format!("{login}{login:?}{:?}{:?}", stored(&mailbox(), secret), bench.shelf.rows));

    let tokens = Tokens {
        access: Secret::new(secret),
        expires_in: None,
        refresh: Some(Secret::new(secret)),
        refresh_life: None,
        scope: None,
        date: None,
    };
    let mut keeper = keeper::Keeper::new(mailbox(), 0.0);
    let now = bench.clock.now();
    for event in [
        keeper::Event::Started,
        keeper::Event::Loaded(Ok(Some(stored(&mailbox(), "refresh-0")))),
        keeper::Event::TokensReceived { request: 1, tokens },
    ] {
        printed.push(format!("{event:?}{:?}{keeper:?}", keeper.on(event.clone(), now)));
    }
    let printed = printed.concat();
    assert!(printed.contains("AADSTS70000"), "it was really printed");
    assert!(!printed.contains("TOP-SECRET"), "{printed}");
    bench.end().await;
}
