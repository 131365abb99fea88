//! The address of the page. It answers `/healthz` so far.

use std::io;

use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Answers until `stop`. `alive` says whether the relay can do its work: take mail and keep it.
pub async fn serve(listener: TcpListener, alive: watch::Receiver<bool>, stop: CancellationToken) -> io::Result<()> {
    let healthz = async move || {
        let is_alive = *alive.borrow();
        let status = if is_alive { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(json!({ "status": if is_alive { "ok" } else { "failing" } })))
    };
    let router = Router::new().route("/healthz", get(healthz));
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}
