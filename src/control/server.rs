//! The relay's side of the control socket.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, FromRequest, Path as Segment, Request, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::UnixListener;
use tokio_util::sync::CancellationToken;

use crate::config::Secret;
use crate::message::{Address, Body, QueueId};
use crate::ops::{
    BrowserRedirect, LaneOrder, MoveOrder, Ops, OpsError, ReaddressOrder, ReleaseOrder, Selection, SendTest,
};

/// Owner and group may order operations; whoever may read the data folder is one of them.
const MODE: u32 = 0o660;

/// The largest order in octets: about a million ids.
const BODY_LIMIT: usize = 16 << 20;
/// Octets of a file that are read at a time.
const PIECE: usize = 64 * 1024;

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
        .route("/queue/hold", post(queue_hold))
        .route("/queue/release", post(queue_release))
        .route("/queue/move", post(queue_move))
        .route("/queue/readdress", post(queue_readdress))
        .route("/queue/{id}", get(queue_show))
        .route("/queue/{id}/message", get(queue_export))
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

/// What an order brings; nothing at all is `null`. If it cannot be read, the answer says so without a word of it: there may be a token in it, and serde quotes what it
/// does not understand.
struct Order<T>(T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Order<T> {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let unreadable =
            |why: &str| (StatusCode::BAD_REQUEST, Json(OpsError::Failed(format!("the order {why}")))).into_response();
        let body = Bytes::from_request(request, state).await.map_err(|_| unreadable("is too large or broke off"))?;
        let body = if body.is_empty() { Bytes::from_static(b"null") } else { body };
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

async fn queue_hold(State(ops): State<Ops>, Order(which): Order<Selection>) -> Response {
    answer(async move { ops.queue_hold(which).await }).await
}

async fn queue_release(State(ops): State<Ops>, Order(which): Order<Selection>) -> Response {
    answer(async move { ops.queue_release(which).await }).await
}

async fn queue_move(State(ops): State<Ops>, Order(order): Order<MoveOrder>) -> Response {
    answer(async move { ops.queue_move(&order).await }).await
}

async fn queue_readdress(State(ops): State<Ops>, Order(order): Order<ReaddressOrder>) -> Response {
    answer(async move { ops.queue_readdress(&order).await }).await
}

/// The message's octets and nothing else.
async fn queue_export(State(ops): State<Ops>, Segment(id): Segment<String>) -> Response {
    let exported = match queue_id(&id) {
        Ok(id) => ops.queue_export(id).await,
        Err(error) => Err(error),
    };
    match exported {
        Ok(Body::Inline(octets)) => octets.into_response(),
        Ok(Body::File(path)) => match from_file(&path).await {
            Ok(response) => response,
            Err(error) => refuse(&OpsError::Failed(format!("{} cannot be read: {error}", path.display()))),
        },
        Err(error) => refuse(&error),
    }
}

/// A file a piece at a time: a message may be larger than what should be in memory.
async fn from_file(path: &Path) -> io::Result<Response> {
    let file = tokio::fs::File::open(path).await?;
    let length = file.metadata().await?.len();
    let pieces = futures_util::stream::try_unfold(file, async |mut file| {
        let mut piece = vec![0; PIECE];
        let read = file.read(&mut piece).await?;
        piece.truncate(read);
        io::Result::Ok((read > 0).then(|| (Bytes::from(piece), file)))
    });
    // With its length, so that whoever reads it notices if it breaks off.
    Ok(([(CONTENT_LENGTH, length.to_string())], axum::body::Body::from_stream(pieces)).into_response())
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

async fn account_release(
    State(ops): State<Ops>,
    Segment(mailbox): Segment<String>,
    Order(order): Order<Option<ReleaseOrder>>,
) -> Response {
    let order = order.unwrap_or_default();
    match address(&mailbox) {
        Ok(mailbox) => answer(async move { ops.account_release_with(&mailbox, &order).await }).await,
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
