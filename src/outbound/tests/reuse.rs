//! Sessions kept for the next message: as long as they are good for one, and never more of them than allowed.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::outbound::{Bounds, Timeouts};

fn lms() -> Address {
    address("lms@contoso.com")
}

fn to_a(upstream: &Upstream) -> Delivery {
    delivery(upstream, &["a@example.com"], MESSAGE)
}

fn bounded(bounds: Bounds) -> Pool {
    Pool::with(Timeouts::default(), bounds)
}

#[tokio::test]
async fn one_session_serves_one_message_after_the_other() {
    let upstream = Upstream::playing(&[format!("{LOGIN}{ONE_MESSAGE}{ONE_MESSAGE}{ONE_MESSAGE}C: QUIT")]).await;
    let pool = Pool::new();
    for n in 0..3 {
        let attempt = pool.attempt(to_a(&upstream)).await;
        assert_eq!(classes(&attempt), [(0, Class::Accepted)]);
        assert_eq!(attempt.session == Session::Reused, n > 0);
        assert_eq!(pool.open_sessions(&lms()), 1);
    }
    pool.close_all().await;
    assert_eq!(pool.open_sessions(&lms()), 0);
    let heard = upstream.heard().await.remove(0);
    assert_eq!(heard.matches("MAIL").count(), 3);
    assert_eq!(heard.matches("RSET").count(), 0, "RSET is for failed transactions");
}

#[tokio::test]
async fn a_session_that_died_while_idle_is_replaced_without_a_word() {
    let next = format!("{LOGIN}{ONE_MESSAGE}");
    for death in [
        "END",
        "S: 421 4.4.2 Connection dropped due to SocketError",
        "C: MAIL",
        "C: MAIL\nS: 421 4.3.2 Service not available",
        "C: MAIL\nS: 451 4.7.0 Timeout waiting for client input",
        "C: MAIL\nS: 530 5.7.57 Client not authenticated to send mail.",
    ] {
        let upstream = Upstream::playing(&[format!("{LOGIN}{ONE_MESSAGE}{death}"), next.clone()]).await;
        let pool = Pool::new();
        assert_eq!(classes(&pool.attempt(to_a(&upstream)).await), [(0, Class::Accepted)]);
        let second = pool.attempt(to_a(&upstream)).await;
        assert_eq!(classes(&second), [(0, Class::Accepted)], "{death}");
        assert!(second.session != Session::Reused, "{death}");
        assert_eq!(pool.open_sessions(&lms()), 1);
        upstream.heard().await;
    }
}

#[tokio::test]
async fn a_fresh_session_that_fails_is_not_replaced_again() {
    let dead = format!("{LOGIN}{ONE_MESSAGE}C: MAIL");
    let upstream = Upstream::playing(&[dead, format!("{LOGIN}\nC: MAIL\nS: 421 4.3.2 Service not available")]).await;
    let pool = Pool::new();
    pool.attempt(to_a(&upstream)).await.result.unwrap();
    let second = pool.attempt(to_a(&upstream)).await;
    assert_eq!(classes(&second), [(0, Class::Later)]);
    assert_eq!(verdicts(&second)[0].1.reply.code(), 421);
    assert_eq!(pool.open_sessions(&lms()), 0);
    upstream.heard().await;
}

#[tokio::test]
async fn a_session_past_its_bounds_says_goodbye_before_the_next_one_opens() {
    let whole = Bounds::default();
    for bounds in [
        Bounds { messages: 1, ..whole },
        Bounds { age: Duration::ZERO, ..whole },
        Bounds { idle: Duration::ZERO, ..whole },
    ] {
        let script = format!("{LOGIN}{ONE_MESSAGE}C: QUIT\nS: 221 bye");
        let upstream = Upstream::playing(&[&script, &script]).await;
        let pool = bounded(bounds);
        for _ in 0..2 {
            let attempt = pool.attempt(to_a(&upstream)).await;
            assert_eq!(classes(&attempt), [(0, Class::Accepted)]);
            assert!(attempt.session != Session::Reused);
            assert_eq!(pool.open_sessions(&lms()), 1);
        }
        pool.close_idle().await;
        assert_eq!(pool.open_sessions(&lms()), 0);
        upstream.heard().await;
    }
}

#[tokio::test]
async fn an_idle_session_makes_room_for_a_probe() {
    let one = format!("{LOGIN}{ONE_MESSAGE}C: QUIT\nS: 221 bye");
    let upstream = Upstream::playing(&[one, format!("{LOGIN}C: QUIT\nS: 221 bye")]).await;
    let pool = Pool::new();
    let mut delivery = to_a(&upstream);
    let mut account = (*delivery.account).clone();
    account.connections = 1;
    delivery.account = Arc::new(account);
    pool.attempt(delivery.clone()).await.result.unwrap();
    let greeting = pool.probe(&delivery.account, &delivery.user, &token(), "relay.contoso.com").await.unwrap();
    assert_eq!(greeting.session(), Some("0A1B"));
    assert_eq!(pool.open_sessions(&lms()), 0);
    upstream.heard().await;
}

#[tokio::test]
async fn the_keeper_of_the_pool_closes_everything_when_it_is_told_to_stop() {
    let upstream = Upstream::playing(&[format!("{LOGIN}{ONE_MESSAGE}C: QUIT\nS: 221 bye")]).await;
    let (pool, stop) = (Pool::new(), CancellationToken::new());
    pool.attempt(to_a(&upstream)).await.result.unwrap();
    let keeper = tokio::spawn({
        let (pool, stop) = (pool.clone(), stop.clone());
        async move { pool.tend(stop).await }
    });
    stop.cancel();
    keeper.await.unwrap();
    assert_eq!(pool.open_sessions(&lms()), 0);
    upstream.heard().await;
}

#[tokio::test]
async fn nothing_that_is_printed_shows_the_token() {
    let upstream = Upstream::playing(&[format!("{LOGIN}{ONE_MESSAGE}")]).await;
    let (pool, delivery) = (Pool::new(), to_a(&upstream));
    let printed = format!("{delivery:?}");
    let attempt = pool.attempt(delivery).await;
    let printed = format!("{printed}{attempt:?}{pool:?}");
    assert!(!printed.contains("TOKEN") && !printed.contains("dXNlcj1"), "{printed}");
    upstream.heard().await;
}
