//! Entra ID: the token endpoint, the device code endpoint and the page for the code, the authorize endpoint with its pages; in plain HTTP
//! on loopback.

mod authorize;
mod authorize_page;
mod book;
mod codes;
mod grants;
mod jwt;
mod ledger;
mod line;
mod page;
mod refused;
mod registration;
#[cfg(test)]
mod tests;

use authorize::{NotShown, Request};
pub(super) use ledger::{Bearer, Ledger};
use refused::Refused;
pub(super) use registration::Registration;

use std::sync::Arc;

use axum::extract::rejection::FormRejection;
use axum::extract::{ConnectInfo, Form, Path, Query, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, DATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::map_response_with_state;
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::cloud::{Cloud, DEVICE_PAGE};
use super::event::Event;
use super::fault::{About, Effect, Phase};
use line::{Hangup, Switchboard};

/// As Microsoft says it.
const WRONG_CODE: &str = "That code didn't work. Check the code and try again.";

/// As Microsoft says it.
const WRONG_NAME: &str = "This username may be incorrect. Make sure you typed it correctly.";

/// Serves until `stop`, then hangs up on everybody.
pub(super) async fn serve(cloud: Arc<Cloud>, listener: TcpListener, stop: CancellationToken) {
    let app = router(cloud).into_make_service_with_connect_info::<Hangup>();
    let switchboard = Switchboard { listener, stop: stop.clone() };
    tokio::select! {
        () = stop.cancelled() => {}
        ended = axum::serve(switchboard, app) => if let Err(error) = ended {
            tracing::error!(%error, "the simulator's HTTP server ended");
        },
    }
}

fn router(cloud: Arc<Cloud>) -> Router {
    Router::new()
        .route("/{tenant}/oauth2/v2.0/token", post(token))
        .route("/{tenant}/oauth2/v2.0/devicecode", post(device_code))
        .route("/{tenant}/oauth2/v2.0/authorize", get(authorize).post(authorize_decide))
        .route(DEVICE_PAGE, get(show_page).post(submit_page))
        .route("/", get(|| async { Redirect::to(DEVICE_PAGE) }))
        .layer(map_response_with_state(Arc::clone(&cloud), with_headers))
        .with_state(cloud)
}

/// `Date` by the simulator's clock, so that a client can notice that its own is wrong; nothing is cached, no page loads anything.
async fn with_headers(State(cloud): State<Arc<Cloud>>, mut response: Response) -> Response {
    let date = cloud.now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let headers = response.headers_mut();
    if let Ok(date) = HeaderValue::try_from(date) {
        headers.insert(DATE, date);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Browsers apply form-action to the redirect behind a form, too: a consent leads to the application's own port.
    let policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; \
                  form-action 'self' http://localhost:* http://127.0.0.1:*";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    response
}

type MaybeForm = Result<Form<grants::Form>, FormRejection>;

async fn token(
    State(cloud): State<Arc<Cloud>>,
    Path(tenant): Path<String>,
    ConnectInfo(hangup): ConnectInfo<Hangup>,
    headers: HeaderMap,
    form: MaybeForm,
) -> Response {
    // What is no form has no parameters: the first one missing is named.
    let form = form.map(|Form(form)| form).unwrap_or_default();
    let grant = grants::grant_name(&form).to_owned();
    cloud.count(|statistics| *statistics.token_requests.entry(grant.clone()).or_default() += 1);
    let owner = grants::owner(&cloud, &form);
    let about = About { mailbox: owner.as_deref(), ..About::default() };
    if let Some(response) = struck(&cloud, Phase::Token, about, &hangup, &grant).await {
        return response;
    }
    let basic = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let answer = grants::token(&cloud, &tenant, basic, &form);
    answered(&cloud, &grant, answer)
}

async fn device_code(
    State(cloud): State<Arc<Cloud>>,
    Path(tenant): Path<String>,
    ConnectInfo(hangup): ConnectInfo<Hangup>,
    form: MaybeForm,
) -> Response {
    let form = form.map(|Form(form)| form).unwrap_or_default();
    if let Some(response) = struck(&cloud, Phase::Device, About::default(), &hangup, "devicecode").await {
        return response;
    }
    let answer = grants::device_code(&cloud, &tenant, &form);
    if answer.is_ok() {
        cloud.count(|statistics| statistics.device_codes += 1);
    }
    answered(&cloud, "devicecode", answer)
}

fn answered(cloud: &Cloud, grant: &str, answer: Result<Value, Refused>) -> Response {
    match answer {
        Ok(value) => Json(value).into_response(),
        Err(refused) => refuse(cloud, grant, &refused),
    }
}

fn refuse(cloud: &Cloud, grant: &str, refused: &Refused) -> Response {
    let (error, aadsts) = refused.summary();
    cloud.emit(|| Event::TokenRefused { grant: grant.to_owned(), error, aadsts });
    refused.response(cloud)
}

/// What a fault answers in place of Entra ID, after whatever wait.
async fn struck(cloud: &Cloud, phase: Phase, about: About<'_>, hangup: &Hangup, grant: &str) -> Option<Response> {
    let played = cloud.faults.play(phase, about);
    if !played.wait.is_zero() {
        tokio::time::sleep(played.wait).await;
    }
    match played.effect? {
        Effect::OAuth(row) => Some(refuse(cloud, grant, &Refused::from(row))),
        Effect::Http { status, retry_after } => {
            cloud.emit(|| Event::TokenRefused { grant: grant.to_owned(), error: format!("HTTP {status}"), aadsts: 0 });
            Some(refused::html(status, retry_after))
        }
        // `Fault::at` lets nothing else through to these phases but silence and a closed connection.
        other => {
            cloud.emit(|| Event::Broken { session: "entra id".to_owned(), phase: phase.name() });
            if matches!(other, Effect::Silence) {
                hangup.0.cancelled().await;
            }
            hangup.0.cancel();
            Some(refused::html(503, None))
        }
    }
}

async fn authorize(
    State(cloud): State<Arc<Cloud>>,
    Path(tenant): Path<String>,
    Query(query): Query<grants::Form>,
) -> Response {
    let request = match Request::read(&cloud, &tenant, &query) {
        Ok(request) => request,
        Err(not_shown) => return turned_away(&cloud, not_shown),
    };
    match cloud.options.auto_approve.as_deref().and_then(|person| cloud.options.mailbox(person)) {
        Some(mailbox) => signed_in(&cloud, &request, &mailbox.address),
        None => authorize_page::pick_account(&cloud, &request, None, "").into_response(),
    }
}

async fn authorize_decide(
    State(cloud): State<Arc<Cloud>>,
    Path(tenant): Path<String>,
    Form(form): Form<grants::Form>,
) -> Response {
    let request = match Request::read(&cloud, &tenant, &form) {
        Ok(request) => request,
        Err(not_shown) => return turned_away(&cloud, not_shown),
    };
    let typed = form.get("mailbox").map(|mailbox| mailbox.trim()).unwrap_or_default();
    let Some(mailbox) = cloud.options.mailbox(typed) else {
        return authorize_page::pick_account(&cloud, &request, Some(WRONG_NAME), typed).into_response();
    };
    match form.get("action").map(String::as_str) {
        Some("accept") => signed_in(&cloud, &request, &mailbox.address),
        Some("cancel") => {
            cloud.emit(|| Event::ConsentDenied { mailbox: mailbox.address.clone() });
            Redirect::to(request.denied(&cloud).as_str()).into_response()
        }
        _ => authorize_page::consent(&request, &mailbox.address).into_response(),
    }
}

/// Off to the application with a code.
fn signed_in(cloud: &Cloud, request: &Request<'_>, mailbox: &str) -> Response {
    cloud.emit(|| Event::Consented { mailbox: mailbox.to_owned() });
    Redirect::to(request.consented(cloud, mailbox).as_str()).into_response()
}

fn turned_away(cloud: &Cloud, not_shown: NotShown) -> Response {
    let (refused, response) = match not_shown {
        NotShown::Page(refused) => {
            let page = authorize_page::sorry(cloud, &refused);
            (refused, (StatusCode::BAD_REQUEST, page).into_response())
        }
        NotShown::Redirect(refused, back) => (refused, Redirect::to(back.as_str()).into_response()),
    };
    let (error, aadsts) = refused.summary();
    cloud.emit(|| Event::TokenRefused { grant: "authorize".to_owned(), error, aadsts });
    response
}

async fn show_page(State(cloud): State<Arc<Cloud>>, Query(query): Query<grants::Form>) -> Html<String> {
    let Some(typed) = query.get("user_code").or_else(|| query.get("otc")) else {
        return page::ask_for_code(None);
    };
    let pending = cloud.ledger().pending(typed, cloud.now());
    match pending {
        Some(user_code) => page::ask_for_mailbox(&cloud, &user_code),
        None => page::ask_for_code(Some(WRONG_CODE)),
    }
}

async fn submit_page(State(cloud): State<Arc<Cloud>>, form: MaybeForm) -> Html<String> {
    let form = form.map(|Form(form)| form).unwrap_or_default();
    let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
    let (code, mailbox) = (field("user_code"), field("mailbox"));
    let decided = if field("action") == "deny" {
        cloud.deny(code).then(|| page::done("You cancelled", "The program was told that you do not want to sign in."))
    } else if cloud.options.mailbox(mailbox).is_none() {
        Some(page::done("Nobody is called that", &format!("{mailbox:?} is no mailbox of this simulator.")))
    } else {
        let text = format!("{mailbox} is signed in. You may close this window.");
        cloud.approve(code, mailbox).then(|| page::done("You have signed in", &text))
    };
    decided.unwrap_or_else(|| page::ask_for_code(Some(WRONG_CODE)))
}
