//! The relay's side of the control socket.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Path as Segment, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::config::Secret;
use crate::message::{Address, QueueId};
use crate::ops::{BrowserRedirect, LaneOrder, Ops, OpsError, Selection, SendTest};

/// Owner and group may order operations; whoever may read the data folder is one of them.
const MODE: u32 = 0o660;

/// The largest order in octets: about a million ids.
const BODY_LIMIT: usize = 16 << 20;

/// Opens the socket. The data folder's lock is held: a socket that is left there belongs to nobody.
pub fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(MODE))?;
    Ok(listener)
}

/// Answers until `stop`.
pub async fn serve(listener: UnixListener, ops: Ops, stop: CancellationToken) -> io::Result<()> {
    axum::serve(listener, router(ops)).with_graceful_shutdown(stop.cancelled_owned()).await
}

fn router(ops: Ops) -> Router {
    Router::new()
        .route("/status", get(async |State(ops): State<Ops>| answer(async move { ops.status().await }).await))
        .route("/queue", get(async |State(ops): State<Ops>| answer(async move { ops.queue_list().await }).await))
        .route("/queue/retry", post(queue_retry))
        .route("/queue/lane", post(queue_lane))
        .route("/queue/delete", post(queue_delete))
        .route("/queue/{id}", get(queue_show))
        .route("/accounts", get(async |State(ops): State<Ops>| answer(async move { ops.account_list().await }).await))
        .route("/accounts/{mailbox}", get(account_show))
        .route("/accounts/{mailbox}/hold", post(account_hold))
        .route("/accounts/{mailbox}/release", post(account_release))
        .route("/accounts/{mailbox}/drop-secret", post(account_drop_secret))
        .route("/accounts/{mailbox}/login/application", post(login_application))
        .route("/accounts/{mailbox}/login/begin", post(login_begin))
        .route("/accounts/{mailbox}/login/wait", post(login_wait))
        .route("/accounts/{mailbox}/login/browser/begin", post(login_browser_begin))
        .route("/accounts/{mailbox}/login/browser/wait", post(login_browser_wait))
        .route("/accounts/{mailbox}/login/browser/answer", post(login_browser_answer))
        .route("/accounts/{mailbox}/login/refresh-token", post(login_take_in))
        .route("/send-test", post(send_test))
        .route("/rotate-key", post(async |State(ops): State<Ops>| answer(async move { ops.rotate_key().await }).await))
        .route("/alert/test", post(async |State(ops): State<Ops>| answer(async move { ops.alert_test().await }).await))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(ops)
}

/// What an order brings. If it cannot be read, the answer says so without a word of it: there may be a token in it, and serde quotes what it
/// does not understand.
struct Order<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Order<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let unreadable =
            |why: &str| (StatusCode::BAD_REQUEST, Json(OpsError::Failed(format!("the order {why}")))).into_response();
        let body = Bytes::from_request(request, state).await.map_err(|_| unreadable("is too large or broke off"))?;
        serde_json::from_slice(&body).map(Self).map_err(|error| {
            unreadable(&format!("is not what was expected, at line {} column {}", error.line(), error.column()))
        })
    }
}

/// A token that was obtained elsewhere. It has no `Debug`.
#[derive(Deserialize)]
struct RefreshToken {
    refresh_token: String,
}

async fn queue_show(State(ops): State<Ops>, Segment(id): Segment<String>) -> Response {
    match queue_id(&id) {
        Ok(id) => answer(async move { ops.queue_show(id).await }).await,
        Err(error) => refuse(&error),
    }
}

async fn queue_retry(State(ops): State<Ops>, Order(which): Order<Selection>) -> Response {
    answer(async move { ops.queue_retry(which).await }).await
}

async fn queue_lane(State(ops): State<Ops>, Order(order): Order<LaneOrder>) -> Response {
    answer(async move { ops.queue_lane(order).await }).await
}

async fn queue_delete(State(ops): State<Ops>, Order(which): Order<Selection>) -> Response {
    answer(async move { ops.queue_delete(which).await }).await
}

async fn account_show(State(ops): State<Ops>, Segment(mailbox): Segment<String>) -> Response {
    match address(&mailbox) {
        Ok(mailbox) => answer(async move { ops.account_show(&mailbox).await }).await,
        Err(error) => refuse(&error),
    }
}

async fn account_hold(State(ops): State<Ops>, Segment(mailbox): Segment<String>) -> Response {
    match address(&mailbox) {
        Ok(mailbox) => answer(async move { ops.account_hold(&mailbox).await }).await,
        Err(error) => refuse(&error),
    }
}

async fn account_release(State(ops): State<Ops>, Segment(mailbox): Segment<String>) -> Response {
    match address(&mailbox) {
        Ok(mailbox) => answer(async move { ops.account_release(&mailbox).await }).await,
        Err(error) => refuse(&error),
    }
}

async fn account_drop_secret(State(ops): State<Ops>, Segment(mailbox): Segment<String>) -> Response {
    match address(&mailbox) {
        Ok(mailbox) => answer(async move { ops.account_drop_secret(&mailbox).await }).await,
        Err(error) => refuse(&error),
    }
}

async fn login_application(State(ops): State<Ops>, Segment(mailbox): Segment<String>) -> Response {
    match address(&mailbox) {
        Ok(mailbox) => answer(async move { ops.login_application(&mailbox).await }).await,
        Err(error) => refuse(&error),
    }
}

async fn login_begin(State(ops): State<Ops>, Segment(mailbox): Segment<String>) -> Response {
    match address(&mailbox) {
        Ok(mailbox) => answer(async move { ops.login_begin(&mailbox).await }).await,
        Err(error) => refuse(&error),
    }
}

async fn login_wait(State(ops): State<Ops>, Segment(mailbox): Segment<String>) -> Response {
    match address(&mailbox) {
        Ok(mailbox) => answer(async move { ops.login_wait(&mailbox).await }).await,
        Err(error) => refuse(&error),
    }
}

async fn login_browser_begin(
    State(ops): State<Ops>,
    Segment(mailbox): Segment<String>,
    Json(port): Json<u16>,
) -> Response {
    match address(&mailbox) {
        Ok(mailbox) => answer(async move { ops.login_browser_begin(&mailbox, port).await }).await,
        Err(error) => refuse(&error),
    }
}

async fn login_browser_wait(
    State(ops): State<Ops>,
    Segment(mailbox): Segment<String>,
    Json(number): Json<u64>,
) -> Response {
    match address(&mailbox) {
        Ok(mailbox) => answer(async move { ops.login_browser_wait(&mailbox, number).await }).await,
        Err(error) => refuse(&error),
    }
}

async fn login_browser_answer(
    State(ops): State<Ops>,
    Segment(mailbox): Segment<String>,
    Order(redirect): Order<BrowserRedirect>,
) -> Response {
    match address(&mailbox) {
        Ok(mailbox) => answer(async move { ops.login_browser_answer(&mailbox, &redirect).await }).await,
        Err(error) => refuse(&error),
    }
}

async fn login_take_in(
    State(ops): State<Ops>,
    Segment(mailbox): Segment<String>,
    Order(token): Order<RefreshToken>,
) -> Response {
    match address(&mailbox) {
        Ok(mailbox) => answer(async move { ops.login_take_in(&mailbox, Secret::new(token.refresh_token)).await }).await,
        Err(error) => refuse(&error),
    }
}

async fn send_test(State(ops): State<Ops>, Order(order): Order<SendTest>) -> Response {
    answer(async move { ops.send_test(&order).await }).await
}

fn queue_id(text: &str) -> Result<QueueId, OpsError> {
    text.parse().map_err(|error: crate::message::NotAnId| OpsError::NotFound(error.to_string()))
}

fn address(text: &str) -> Result<Address, OpsError> {
    Address::parse(text).map_err(|error| OpsError::NotFound(error.to_string()))
}

/// Carries an order out to its end, whether or not whoever gave it still waits: half an order would leave the scheduler in the dark.
async fn answer<T: Serialize + Send + 'static>(
    order: impl Future<Output = Result<T, OpsError>> + Send + 'static,
) -> Response {
    match tokio::spawn(order).await {
        Ok(Ok(value)) => Json(value).into_response(),
        Ok(Err(error)) => refuse(&error),
        Err(_panic) => refuse(&OpsError::Failed("this failed within the relay; see its log".to_owned())),
    }
}

fn refuse(error: &OpsError) -> Response {
    let status = match error {
        OpsError::NotFound(_) => StatusCode::NOT_FOUND,
        OpsError::Failed(_) => StatusCode::UNPROCESSABLE_ENTITY,
    };
    (status, Json(error)).into_response()
}
