//! A token endpoint on loopback for tests: answers what it was told to, else with ever new tokens, and remembers what was asked.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Form, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Semaphore;

use super::endpoint::{SecretReader, Timeouts};
use super::login::LoginTools;
use super::shelf::MemoryShelf;
use crate::clock::Clock;
use crate::config::{Account, Endpoints, Environment, Provider, Secret, SecretError, SecretSource, testing};

/// What to answer to one request.
#[derive(Clone, Debug)]
pub enum Answer {
    Text(u16, &'static [(&'static str, &'static str)], String),
    /// Nothing, for ever.
    Silence,
}

impl Answer {
    pub fn json(status: u16, body: &str) -> Self {
        Self::Text(status, &[("content-type", "application/json")], body.to_owned())
    }

    pub fn refusal(error: &str, code: u32) -> Self {
        let body = format!(
            r#"{{"error":"{error}","error_description":"AADSTS{code}: no.\r\nTrace ID: t","error_codes":[{code}]}}"#
        );
        Self::json(400, &body)
    }

    pub fn tokens(access: &str, refresh: &str) -> Self {
        Self::json(200, &format!(r#"{{"access_token":"{access}","refresh_token":"{refresh}","expires_in":3600}}"#))
    }
}

type Forms = Vec<HashMap<String, String>>;

/// The endpoint; its address ends in `/token`, that of its device flow in `/device`.
#[derive(Clone)]
pub struct Scripted {
    pub url: String,
    script: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Forms>>,
    gate: Arc<Semaphore>,
}

impl Scripted {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scripted = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            script: Arc::default(),
            asked: Arc::default(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
        };
        let router = Router::new().route("/{*path}", post(answer)).with_state(scripted.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        scripted
    }

    pub fn then(&self, answer: Answer) -> &Self {
        self.script.lock().unwrap().push_back(answer);
        self
    }

    /// No answer leaves until [`Self::open`].
    pub fn close(&self) {
        self.gate.forget_permits(Semaphore::MAX_PERMITS);
    }

    pub fn open(&self) {
        self.gate.add_permits(Semaphore::MAX_PERMITS);
    }

    /// The forms that came, in order.
    pub fn asked(&self) -> Forms {
        self.asked.lock().unwrap().clone()
    }

    /// An account that signs in here.
    pub fn account(&self, mailbox: &str) -> Account {
        account(mailbox, &format!("{}/token", self.url), Some(format!("{}/device", self.url)))
    }
}

async fn answer(State(scripted): State<Scripted>, Form(form): Form<HashMap<String, String>>) -> Response {
    let number = {
        let mut asked = scripted.asked.lock().unwrap();
        asked.push(form);
        asked.len()
    };
    let told = scripted.script.lock().unwrap().pop_front();
    drop(scripted.gate.acquire().await);
    match told.unwrap_or_else(|| Answer::tokens(&format!("access-{number}"), &format!("refresh-{number}"))) {
        Answer::Text(status, headers, body) => {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.insert(*name, HeaderValue::from_static(value));
            }
            (StatusCode::from_u16(status).unwrap(), map, body).into_response()
        }
        Answer::Silence => std::future::pending().await,
    }
}

pub fn account(mailbox: &str, token: &str, device: Option<String>) -> Account {
    Account {
        provider: Provider::Microsoft,
        tenant: "contoso.onmicrosoft.com".to_owned(),
        client_id: "the-client".to_owned(),
        endpoints: Endpoints {
            authorize: None,
            token: token.to_owned(),
            device,
            scopes: vec!["https://outlook.office.com/SMTP.Send".to_owned(), "offline_access".to_owned()],
        },
        ..testing::account(mailbox, mailbox)
    }
}

/// Reads secrets that stand in the configuration itself or in a file, and fails for all others.
pub fn literals() -> SecretReader {
    Arc::new(|source: &SecretSource| match source {
        SecretSource::Literal(secret) => Ok(Secret::clone(secret)),
        file @ SecretSource::File(_) => file.read(&Environment::default()),
        other => Err(SecretError(format!("{other:?} is not there"))),
    })
}

/// What a login needs, with this calendar.
pub fn tools(clock: &Clock) -> LoginTools {
    let timeouts = Timeouts { connect: Duration::from_secs(10), total: Duration::from_secs(30) };
    LoginTools { secrets: literals(), shelf: Arc::new(MemoryShelf::default()), clock: clock.clone(), timeouts }
}

/// An access token that names this person.
pub fn access_of(person: &str) -> String {
    format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(format!(r#"{{"upn":"{person}"}}"#)))
}
