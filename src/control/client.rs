//! The commands' side of the control socket.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use reqwest::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::SOCKET;
use crate::config::Secret;
use crate::message::Address;
use crate::ops::{
    AccountDetail, AccountView, AlertTested, BrowserAnswer, BrowserPrompt, BrowserRedirect, DevicePrompt, LaneOrder,
    LoginDone, MessageDetail, MessageView, MoveOrder, OpsError, Ordered, ReaddressOrder, ReleaseOrder, Released,
    Selection, SendTest, Status, Tested, Tried,
};
use crate::shelf::Rotated;

/// Why an order was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens on the socket.
    #[error("the relay is not running: nobody answers on {}; start it with `xoauth2-relay run`", .0.display())]
    NotRunning(PathBuf),
    /// The socket may not be used by this user.
    #[error("may not talk to the relay on {}: run this as root or as the relay's own user", .0.display())]
    NotAllowed(PathBuf),
    /// The relay said no, and why.
    #[error("{0}")]
    Refused(OpsError),
    /// It ended in the middle of the order.
    #[error("the relay was stopped before it had answered; start it and give the order again")]
    Stopped,
    /// The conversation failed.
    #[error("the relay did not answer as expected on {}: {}", .0.display(), .1)]
    Broken(PathBuf, String),
}

/// Orders operations from the relay that runs on a data folder.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    socket: PathBuf,
}

#[derive(Serialize)]
struct RefreshToken<'a> {
    refresh_token: &'a str,
}

const NOTHING: Option<&()> = None;

/// A message that comes, a piece at a time.
#[derive(Debug)]
pub struct Download {
    response: reqwest::Response,
    client: Client,
}

impl Download {
    /// The next piece; `None` at the end.
    ///
    /// # Errors
    /// When it breaks off.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ControlError> {
        self.response.chunk().await.map_err(|error| self.client.unanswered(&error))
    }
}

impl Client {
    /// A client of the relay with this data folder. Connects with the first order.
    pub fn new(data_dir: &Path) -> Result<Self, ControlError> {
        let socket = data_dir.join(SOCKET);
        let http = reqwest::Client::builder().unix_socket(socket.clone()).no_proxy().build();
        let http = http.map_err(|error| ControlError::Broken(socket.clone(), error.to_string()))?;
        Ok(Self { http, socket })
    }

    /// How things stand.
    pub async fn status(&self) -> Result<Status, ControlError> {
        self.ask(Method::GET, &["status"], NOTHING).await
    }

    /// Every unfinished and dead message.
    pub async fn queue_list(&self) -> Result<Vec<MessageView>, ControlError> {
        self.ask(Method::GET, &["queue"], NOTHING).await
    }

    /// One message with its journal.
    pub async fn queue_show(&self, id: &str) -> Result<MessageDetail, ControlError> {
        self.ask(Method::GET, &["queue", id], NOTHING).await
    }

    /// Tries messages now; how many.
    pub async fn queue_retry(&self, which: &Selection) -> Result<usize, ControlError> {
        self.ask(Method::POST, &["queue", "retry"], Some(which)).await
    }

    /// Puts messages into another lane; how many.
    pub async fn queue_lane(&self, order: &LaneOrder) -> Result<usize, ControlError> {
        self.ask(Method::POST, &["queue", "lane"], Some(order)).await
    }

    /// Throws messages away; how many.
    pub async fn queue_delete(&self, which: &Selection) -> Result<usize, ControlError> {
        self.ask(Method::POST, &["queue", "delete"], Some(which)).await
    }

    /// Holds messages.
    pub async fn queue_hold(&self, which: &Selection) -> Result<Ordered, ControlError> {
        self.ask(Method::POST, &["queue", "hold"], Some(which)).await
    }

    /// Releases messages.
    pub async fn queue_release(&self, which: &Selection) -> Result<Ordered, ControlError> {
        self.ask(Method::POST, &["queue", "release"], Some(which)).await
    }

    /// Moves messages to another account.
    pub async fn queue_move(&self, order: &MoveOrder) -> Result<Ordered, ControlError> {
        self.ask(Method::POST, &["queue", "move"], Some(order)).await
    }

    /// Gives messages another recipient instead of one.
    pub async fn queue_readdress(&self, order: &ReaddressOrder) -> Result<Ordered, ControlError> {
        self.ask(Method::POST, &["queue", "readdress"], Some(order)).await
    }

    /// A message as it came.
    pub async fn queue_export(&self, id: &str) -> Result<Download, ControlError> {
        let response = self.send(Method::GET, &["queue", id, "message"], NOTHING).await?;
        Ok(Download { response, client: self.clone() })
    }

    /// Every account.
    pub async fn account_list(&self) -> Result<Vec<AccountView>, ControlError> {
        self.ask(Method::GET, &["accounts"], NOTHING).await
    }

    /// One account with its journal.
    pub async fn account_show(&self, mailbox: &Address) -> Result<AccountDetail, ControlError> {
        self.ask(Method::GET, &["accounts", mailbox.as_str()], NOTHING).await
    }

    /// Stops an account.
    pub async fn account_hold(&self, mailbox: &Address) -> Result<(), ControlError> {
        self.ask(Method::POST, &["accounts", mailbox.as_str(), "hold"], NOTHING).await
    }

    /// Lets an account go on.
    pub async fn account_release(&self, mailbox: &Address, order: &ReleaseOrder) -> Result<Released, ControlError> {
        self.ask(Method::POST, &["accounts", mailbox.as_str(), "release"], Some(order)).await
    }

    /// Drops the old client secret of an account.
    pub async fn account_drop_secret(&self, mailbox: &Address) -> Result<(), ControlError> {
        self.ask(Method::POST, &["accounts", mailbox.as_str(), "drop-secret"], NOTHING).await
    }

    /// Seals the sign-ins with a new key.
    pub async fn rotate_key(&self) -> Result<Rotated, ControlError> {
        self.ask(Method::POST, &["rotate-key"], NOTHING).await
    }

    /// Sends a test mail.
    pub async fn send_test(&self, order: &SendTest) -> Result<Tested, ControlError> {
        self.ask(Method::POST, &["send-test"], Some(order)).await
    }

    /// Tries an account to which nobody signs in.
    pub async fn login_application(&self, mailbox: &Address) -> Result<Tried, ControlError> {
        self.ask(Method::POST, &["accounts", mailbox.as_str(), "login", "application"], NOTHING).await
    }

    /// Sends a test through every receiver of alerts.
    pub async fn alert_test(&self) -> Result<Vec<AlertTested>, ControlError> {
        self.ask(Method::POST, &["alert", "test"], NOTHING).await
    }

    /// Begins a device sign-in.
    pub async fn login_begin(&self, mailbox: &Address) -> Result<DevicePrompt, ControlError> {
        self.ask(Method::POST, &["accounts", mailbox.as_str(), "login", "begin"], NOTHING).await
    }

    /// Waits until the person is done.
    pub async fn login_wait(&self, mailbox: &Address) -> Result<LoginDone, ControlError> {
        self.ask(Method::POST, &["accounts", mailbox.as_str(), "login", "wait"], NOTHING).await
    }

    /// Begins a sign-in with a browser that ends at this port.
    pub async fn login_browser_begin(&self, mailbox: &Address, port: u16) -> Result<BrowserPrompt, ControlError> {
        self.ask(Method::POST, &["accounts", mailbox.as_str(), "login", "browser", "begin"], Some(&port)).await
    }

    /// Waits until a sign-in with a browser is over: done, or why not.
    pub async fn login_browser_wait(&self, mailbox: &Address, number: u64) -> Result<(), ControlError> {
        self.ask(Method::POST, &["accounts", mailbox.as_str(), "login", "browser", "wait"], Some(&number)).await
    }

    /// Hands over the address at which a browser ended.
    pub async fn login_browser_answer(
        &self,
        mailbox: &Address,
        redirect: &BrowserRedirect,
    ) -> Result<BrowserAnswer, ControlError> {
        self.ask(Method::POST, &["accounts", mailbox.as_str(), "login", "browser", "answer"], Some(redirect)).await
    }

    /// Hands over a refresh token that was obtained elsewhere.
    pub async fn login_take_in(&self, mailbox: &Address, token: &Secret) -> Result<LoginDone, ControlError> {
        let body = RefreshToken { refresh_token: token.expose() };
        self.ask(Method::POST, &["accounts", mailbox.as_str(), "login", "refresh-token"], Some(&body)).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
        body: Option<&impl Serialize>,
    ) -> Result<T, ControlError> {
        let response = self.send(method, segments, body).await?;
        response.json().await.map_err(|error| self.broken(&error))
    }

    /// The answer to an order that was carried out.
    async fn send(
        &self,
        method: Method,
        segments: &[&str],
        body: Option<&impl Serialize>,
    ) -> Result<reqwest::Response, ControlError> {
        let mut url = reqwest::Url::parse("http://relay").map_err(|error| self.broken(&error))?;
        if let Ok(mut path) = url.path_segments_mut() {
            path.extend(segments);
        }
        let mut request = self.http.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| self.unanswered(&error))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        match response.json().await {
            Ok(error) => Err(ControlError::Refused(error)),
            Err(_) => Err(ControlError::Broken(self.socket.clone(), format!("HTTP status {status}"))),
        }
    }

    fn unanswered(&self, error: &reqwest::Error) -> ControlError {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            match error.downcast_ref::<io::Error>().map(io::Error::kind) {
                Some(io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::NotADirectory) => {
                    return ControlError::NotRunning(self.socket.clone());
                }
                Some(io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof) => return ControlError::Stopped,
                Some(io::ErrorKind::PermissionDenied) => return ControlError::NotAllowed(self.socket.clone()),
                // hyper says it with a word of its own.
                _ if error.to_string().contains("connection closed before message completed") => {
                    return ControlError::Stopped;
                }
                _ => cause = error.source(),
            }
        }
        self.broken(error)
    }

    fn broken(&self, error: &impl std::error::Error) -> ControlError {
        let mut words = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            words = format!("{words}: {error}");
            cause = error.source();
        }
        ControlError::Broken(self.socket.clone(), words)
    }
}
