//! What stands beside the sink over HTTP: a token endpoint that says yes to everybody, and the sink's counters.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::sink::Counters;

/// A token of the length that Entra ID's have.
const TOKEN_LENGTH: usize = 2000;

/// Answers until the process ends.
pub async fn serve(listener: TcpListener, counters: Arc<Counters>) -> std::io::Result<()> {
    let (seen, cleared) = (Arc::clone(&counters), counters);
    let router = Router::new()
        .route("/token", post(async || Json(tokens())))
        .route("/device", post(async || Json(device())))
        .route("/counters", get(async move || Json(read(&seen))))
        .route(
            "/reset",
            post(async move || {
                cleared.reset();
                Json(json!({}))
            }),
        );
    axum::serve(listener, router).await
}

fn tokens() -> Value {
    json!({
        "token_type": "Bearer",
        "expires_in": 3599,
        "access_token": "t".repeat(TOKEN_LENGTH),
        "refresh_token": "r".repeat(TOKEN_LENGTH / 2),
    })
}

/// RFC 8628 section 3.2. Whoever asks for the token next has it: nobody needs to type the code.
fn device() -> Value {
    json!({
        "device_code": "d",
        "user_code": "NOBODY",
        "verification_uri": "http://127.0.0.1/",
        "expires_in": 900,
        "interval": 1,
    })
}

fn read(counters: &Counters) -> Value {
    let of = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    json!({
        "messages": of(&counters.messages),
        "octets": of(&counters.octets),
        "connections": of(&counters.connections),
        "refused": of(&counters.refused),
        "last_at": Counters::seconds(&counters.last_at),
    })
}
