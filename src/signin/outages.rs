//! Whatever stands in the endpoint's place, the stored sign-in stays as it is to the octet, and mail goes on with the token at hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;

use super::bench::{MAILBOX, config, mailbox, stored};
use super::scripted::{Answer, Scripted, account};
use super::*;
use crate::shelf::VaultShelf;
use crate::store::{Fact, SealedSignIn, Store};

const HTML: &[(&str, &str)] = &[("content-type", "text/html")];

/// A shelf of the real kind that counts what is written to it.
struct Counted {
    shelf: VaultShelf,
    writes: AtomicUsize,
    store: Store,
    _folder: tempfile::TempDir,
}

impl Counted {
    async fn new() -> Self {
        let (store, folder) = (Store::in_memory(None).unwrap(), tempfile::tempdir().unwrap());
        let shelf = VaultShelf::in_folder(store.clone(), folder.path()).await;
        Self { shelf, writes: AtomicUsize::new(0), store, _folder: folder }
    }
}

impl Shelf for Counted {
    fn load<'a>(&'a self, account: &'a Address) -> BoxFuture<'a, Result<Option<StoredSignIn>, ShelfError>> {
        self.shelf.load(account)
    }

    fn save(&self, sign_in: StoredSignIn) -> BoxFuture<'_, Result<(), ShelfError>> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.shelf.save(sign_in)
    }

    fn facts<'a>(&'a self, account: &'a Address) -> BoxFuture<'a, Result<Vec<Fact>, ShelfError>> {
        self.shelf.facts(account)
    }

    fn learn(&self, fact: Fact) -> BoxFuture<'_, Result<(), ShelfError>> {
        self.shelf.learn(fact)
    }
}

type Bench = bench::Bench<Counted>;

impl Bench {
    /// Signed in at this endpoint, with an access token for an hour.
    async fn signed_in(scripted: &Scripted) -> Self {
        let shelf = Arc::new(Counted::new().await);
        shelf.save(stored(&mailbox(), "refresh-0")).await.unwrap();
        let timeouts = Timeouts { connect: Duration::from_secs(2), total: Duration::from_secs(2) };
        let mut bench = Self::with(vec![scripted.account(MAILBOX)], shelf, timeouts);
        assert!(matches!(bench.event().await, SignInEvent::Good { .. }));
        bench
    }

    /// What is at rest, to the octet, and how often it was written.
    async fn at_rest(&self) -> (SealedSignIn, usize) {
        let row = self.shelf.store.sign_in(&mailbox()).await.unwrap().unwrap();
        (row, self.shelf.writes.load(Ordering::SeqCst))
    }

    /// Asks the endpoint now; it has to fail in a way that passes. In what words.
    async fn fails_in_passing(&mut self) -> String {
        self.sign_ins.retry(&mailbox()).await;
        match self.event().await {
            SignInEvent::Trouble { error, .. } => error,
            other => panic!("not passing: {other:?}"),
        }
    }
}

#[tokio::test]
async fn whatever_answers_in_the_endpoints_place_touches_neither_the_stored_sign_in_nor_the_token_at_hand() {
    let scripted = Scripted::start().await;
    let mut bench = Bench::signed_in(&scripted).await;
    let token = bench.token().await.unwrap();
    let at_rest = bench.at_rest().await;
    let page = |status, title: &str| Answer::Text(status, HTML, format!("<html><title>{title}</title>"));
    for (answer, named) in [
        (page(200, "Welcome to Hotel WLAN"), "Welcome to Hotel WLAN"),
        (Answer::Text(302, &[("location", "https://portal.example/")], String::new()), "captive portal"),
        (page(407, "Proxy Authentication Required"), "HTTPS_PROXY"),
        (page(511, "Network Authentication Required"), "captive portal"),
        (page(403, "Blocked by Zscaler"), "Zscaler"),
        (page(404, "Not Found"), "404"),
        (page(500, "Internal Server Error"), "500"),
        (page(502, "Bad Gateway"), "502"),
        (Answer::json(503, r#"{"error":"temporarily_unavailable"}"#), "temporarily_unavailable"),
        (Answer::json(500, r#"{"error":"invalid_grant","error_codes":[50173]}"#), "invalid_grant"),
        (Answer::json(429, r#"{"error":"invalid_client"}"#), "invalid_client"),
        (Answer::refusal("invalid_grant", 50196), "AADSTS50196"),
        (Answer::json(200, r#"{"access_token":"#), "not JSON"),
        (Answer::json(200, r#"{"refresh_token":"of no use alone"}"#), "access_token"),
        (Answer::json(200, "[]"), "not JSON"),
        (Answer::json(200, ""), "nothing"),
        (Answer::Text(200, HTML, "x".repeat(2 << 20)), "more than"),
        (Answer::Silence, "no answer from 127.0.0.1"),
    ] {
        scripted.then(answer.clone());
        let said = bench.fails_in_passing().await;
        assert!(said.contains(named), "{named:?} is not in {said:?}");
        assert_eq!(bench.at_rest().await, at_rest, "{answer:?}");
        assert_eq!(bench.token().await.unwrap(), token, "{answer:?}");
        assert!(bench.sign_ins.status()[0].hold.is_none(), "{answer:?}");
    }
    bench.end().await;
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_touches_neither() {
    let scripted = Scripted::start().await;
    let mut bench = Bench::signed_in(&scripted).await;
    let token = bench.token().await.unwrap();
    let at_rest = bench.at_rest().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (address, named) in [
        (format!("http://{closed}/token"), "refused"),
        // RFC 6761 section 6.4: there is never such a name.
        ("https://login.contoso.invalid/token".to_owned(), "login.contoso.invalid"),
        // TLS is spoken to somebody who does not.
        (scripted.url.replace("http:", "https:"), "127.0.0.1"),
    ] {
        bench.config.send_replace(config(vec![account(MAILBOX, &address, None)]));
        let SignInEvent::Trouble { error, .. } = bench.event().await else { panic!("{address}: not passing") };
        assert!(error.contains(named), "{address}: {error}");
        assert_eq!(bench.at_rest().await, at_rest, "{address}");
        assert_eq!(bench.token().await.unwrap(), token, "{address}");
    }
    bench.end().await;
}

#[tokio::test]
async fn a_pause_that_is_asked_for_is_kept_in_seconds_as_a_date_and_never_for_a_day() {
    const DELTA: &[(&str, &str)] = &[("retry-after", "1200")];
    const DATE: &[(&str, &str)] =
        &[("date", "Wed, 21 Oct 2026 07:00:00 GMT"), ("retry-after", "Wed, 21 Oct 2026 07:45:00 GMT")];
    const ABSURD: &[(&str, &str)] = &[("retry-after", "99999999999999999999999")];
    let scripted = Scripted::start().await;
    let mut bench = Bench::signed_in(&scripted).await;
    for (headers, minutes) in [(DELTA, 20), (DATE, 45), (ABSURD, 60)] {
        scripted.then(Answer::Text(429, headers, String::new()));
        bench.sign_ins.retry(&mailbox()).await;
        let SignInEvent::Trouble { retry_at, .. } = bench.event().await else { panic!("passing") };
        assert_eq!(retry_at, bench.clock.now() + Duration::from_mins(minutes));
        let asked = scripted.asked().len();
        bench.clock.advance(Duration::from_secs(minutes * 60 - 1));
        // The token lives for an hour, less a minute.
        if minutes < 59 {
            assert!(bench.token().await.is_ok(), "and mail goes on");
        }
        bench.clock.advance(Duration::from_secs(1));
        assert!(matches!(bench.event().await, SignInEvent::Good { why: Why::Asked, .. }));
        assert_eq!(scripted.asked().len(), asked + 1, "nobody was asked before its time");
    }
    bench.end().await;
}

#[tokio::test]
async fn a_clock_that_jumps_costs_no_more_than_a_refresh() {
    let scripted = Scripted::start().await;
    let bench = Bench::signed_in(&scripted).await;
    let year = Duration::from_hours(365 * 24);
    let first = bench.token().await.unwrap();
    bench.clock.set(bench.clock.now() - year);
    assert_eq!(bench.token().await.unwrap().secret, first.secret, "back: it is good as ever");
    assert_eq!(scripted.asked().len(), 1);
    bench.clock.set(bench.clock.now() + year + year);
    let second = bench.token().await.unwrap();
    assert_ne!(second.secret, first.secret, "forward: it counts as expired");
    bench.clock.set(bench.clock.now() - year);
    assert_eq!(bench.token().await.unwrap().secret, second.secret);
    assert_eq!(scripted.asked().len(), 2);
    bench.end().await;
}

/// The token that is kept is sealed, and so of no use to whoever has the database alone.
#[tokio::test]
async fn the_access_token_at_rest_is_sealed_and_gone_once_it_is_rejected() {
    let scripted = Scripted::start().await;
    let bench = Bench::signed_in(&scripted).await;
    let token = bench.token().await.unwrap();
    let sealed = bench.at_rest().await.0.access.expect("kept").token;
    assert!(!sealed.windows(6).any(|part| part == b"access"));
    scripted.then(Answer::json(503, ""));
    bench.sign_ins.rejected(&mailbox(), token.version);
    assert!(bench.token().await.is_err());
    assert_eq!(bench.at_rest().await.0.access, None);
    bench.end().await;
}
