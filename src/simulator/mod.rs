//! Our own Microsoft 365: Entra ID (device codes, sign-in in a browser, refresh tokens, client credentials) and Exchange Online's SMTP submission, strict and moody, on loopback.
//!
//! For tests, for `demo`, and for rehearsals by `xoauth2-relay simulator`. What it says comes from two tables, `replies.toml` and
//! `oauth_errors.toml`; what goes wrong on top of that is told by [`Fault`]s. It keeps what it accepted. It knows nothing of the relay:
//! a mistake common to both would otherwise go unnoticed.
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use xoauth2_relay::simulator::{Options, Simulator};
//!
//! let microsoft = Simulator::start(Options::default()).await?;
//! microsoft.fault("data_end=432-4.3.2-sender-thread*2".parse()?);
//! let refresh_token = microsoft.issue_refresh_token("lms@contoso.com");
//! // … a relay is pointed at `microsoft.smtp_addr()` and `microsoft.token_url()` …
//! microsoft.wait_for_accepted(1).await;
//! assert_eq!(microsoft.accepted()[0].mail_from, "lms@contoso.com");
//! # Ok(())
//! # }
//! ```

mod certificate;
mod cloud;
mod command;
mod doors;
mod entra;
mod event;
mod exchange;
mod fault;
mod fault_text;
mod options;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod texts;

pub use command::{Args, run};
pub use event::{Accepted, Event, Statistics};
/// For the tests of the pace: what the far side would say.
#[cfg(test)]
pub(crate) use exchange::Limits;
pub use fault::{Effect, Fault, FaultError, Phase, Times, Whom};
pub use options::{ClientSecret, Federated, Latency, Mailbox, Now, Options, SharedLogin, SmtpTls};
pub use texts::{OAuthRow, ReplyRow, oauth_error, oauth_errors, replies, reply};

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::{Mutex, broadcast};

use certificate::Identity;
use cloud::{Cloud, reachable};
use doors::{Doors, Open};

/// A running Microsoft 365. Dropping it cuts every connection off.
pub struct Simulator {
    cloud: Arc<Cloud>,
    doors: Mutex<Doors>,
    smtp: SocketAddr,
    http: SocketAddr,
}

impl Simulator {
    /// Binds both ports, makes a certificate authority and a certificate for `localhost`, `127.0.0.1` and `::1`, and starts.
    ///
    /// # Errors
    /// If a port cannot be had; the error names it.
    pub async fn start(options: Options) -> io::Result<Self> {
        let (smtp_socket, smtp) = doors::bind(options.smtp)?;
        let (http_socket, http) = doors::bind(options.http)?;
        let identity = tokio::task::spawn_blocking(Identity::generate).await.map_err(io::Error::other)??;
        let cloud = Arc::new(Cloud::new(options, identity, http));
        let doors = Mutex::new(Doors::Open(Open::new(&cloud, smtp_socket, http_socket)?));
        Ok(Self { cloud, doors, smtp, http })
    }

    /// Where Exchange listens, also while it is away.
    pub fn smtp_addr(&self) -> SocketAddr {
        self.smtp
    }

    /// Where Entra ID listens, also while it is away.
    pub fn http_addr(&self) -> SocketAddr {
        self.http
    }

    /// Entra ID's token endpoint.
    pub fn token_url(&self) -> String {
        format!("{}/{}/oauth2/v2.0/token", self.cloud.http_base(), self.cloud.options.tenant)
    }

    /// Entra ID's device code endpoint.
    pub fn device_url(&self) -> String {
        format!("{}/{}/oauth2/v2.0/devicecode", self.cloud.http_base(), self.cloud.options.tenant)
    }

    /// Entra ID's page on which a person signs in with a browser.
    pub fn authorize_url(&self) -> String {
        format!("{}/{}/oauth2/v2.0/authorize", self.cloud.http_base(), self.cloud.options.tenant)
    }

    /// The page on which a person types a device code in.
    pub fn verification_url(&self) -> String {
        self.cloud.device_page()
    }

    /// The certificate authority that a client must trust, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.cloud.identity.ca_pem
    }

    /// The messages accepted so far, the oldest first; at the most [`Options::keep`] of them.
    pub fn accepted(&self) -> Vec<Accepted> {
        self.cloud.accepted()
    }

    /// How many messages were accepted, those no longer kept too.
    pub fn accepted_count(&self) -> usize {
        *self.cloud.accepted_count().borrow()
    }

    /// Waits until at least `n` messages were accepted. Has no end of its own: the caller sets one.
    pub async fn wait_for_accepted(&self, n: usize) {
        let mut count = self.cloud.accepted_count();
        // Fails only without a sender, and `self` holds it.
        let _ = count.wait_for(|count| *count >= n).await;
    }

    /// Everything that happens from now on. Who lags more than 4,096 events behind loses the oldest.
    pub fn watch(&self) -> broadcast::Receiver<Event> {
        self.cloud.watch()
    }

    /// What was counted since the start.
    pub fn statistics(&self) -> Statistics {
        self.cloud.statistics()
    }

    /// Every access token, refresh token and device code issued so far, to look for them where they must not be.
    pub fn issued_secrets(&self) -> Vec<String> {
        self.cloud.ledger().issued()
    }

    /// A refresh token, as if a person had signed in as `mailbox`.
    pub fn issue_refresh_token(&self, mailbox: &str) -> String {
        self.cloud.ledger().issue_refresh(mailbox, self.cloud.now())
    }

    /// One more client secret beside the others, or another validity for one.
    pub fn add_client_secret(&self, secret: ClientSecret) {
        self.cloud.registration().add_secret(secret);
    }

    /// A client secret is deleted in the portal.
    pub fn remove_client_secret(&self, value: &str) {
        self.cloud.registration().remove_secret(value);
    }

    /// One more certificate (PEM) of the registration beside the others. False if it is none.
    pub fn add_certificate(&self, pem: &str) -> bool {
        self.cloud.registration().add_certificate(pem)
    }

    /// A token of the other identity provider, good for so long; `None` without a federated credential.
    pub fn issue_federated_token(&self, life: std::time::Duration) -> Option<String> {
        self.cloud.registration().federated_token(self.cloud.now(), life)
    }

    /// An access token, as if the token endpoint had just issued it.
    pub fn issue_access_token(&self, mailbox: &str) -> String {
        self.issue_access_token_with(mailbox, &Map::new())
    }

    /// An access token with these claims over the usual ones: another `aud`, `scp`, `upn` or `exp`. Exchange judges it by them.
    pub fn issue_access_token_with(&self, mailbox: &str, claims: &Map<String, Value>) -> String {
        self.cloud.ledger().issue_access(&self.cloud.options, mailbox, claims, self.cloud.now())
    }

    /// A person types `user_code` in and signs in as `mailbox`. False if there is no such mailbox, or no such code to decide about.
    pub fn approve(&self, user_code: &str, mailbox: &str) -> bool {
        self.cloud.approve(user_code, mailbox)
    }

    /// A person types `user_code` in and says no. False if there is no such code to decide about.
    pub fn deny(&self, user_code: &str) -> bool {
        self.cloud.deny(user_code)
    }

    /// From now on this goes wrong. Of several faults at one moment every wait counts, and the first one that is more than a wait.
    pub fn fault(&self, fault: Fault) {
        self.cloud.faults.add(fault);
    }

    /// From now on nothing goes wrong.
    pub fn clear_faults(&self) {
        self.cloud.faults.clear();
    }

    /// Ends every refresh token of a mailbox with `50173`, as a password reset does. Access tokens live on.
    pub fn revoke_sign_ins(&self, mailbox: &str) {
        self.cloud.ledger().revoke_refresh(mailbox);
    }

    /// Ends every access token of a mailbox: Exchange answers `535 5.7.3`.
    pub fn revoke_access_tokens(&self, mailbox: &str) {
        self.cloud.ledger().revoke_access(mailbox);
    }

    /// Exchange and Entra ID are gone: every connection is cut, new ones are refused. The ports stay ours.
    ///
    /// # Errors
    /// If the ports cannot be kept; then both are gone all the same.
    pub async fn go_away(&self) -> io::Result<()> {
        let mut doors = self.doors.lock().await;
        let Doors::Open(open) = std::mem::replace(&mut *doors, Doors::Lost) else {
            return Ok(());
        };
        open.shut().await;
        let (smtp, http) = (doors::bind_again(self.smtp).await?, doors::bind_again(self.http).await?);
        *doors = Doors::Shut { smtp, http };
        Ok(())
    }

    /// Back on the same ports, with everything still known.
    ///
    /// # Errors
    /// If a port was lost meanwhile.
    pub async fn come_back(&self) -> io::Result<()> {
        let mut doors = self.doors.lock().await;
        let (smtp, http) = match std::mem::replace(&mut *doors, Doors::Lost) {
            Doors::Open(open) => {
                *doors = Doors::Open(open);
                return Ok(());
            }
            Doors::Shut { smtp, http } => (smtp, http),
            Doors::Lost => (doors::bind_again(self.smtp).await?, doors::bind_again(self.http).await?),
        };
        *doors = Doors::Open(Open::new(&self.cloud, smtp, http)?);
        Ok(())
    }

    /// Cuts every connection off and waits until that is done.
    pub async fn stop(self) {
        if let Doors::Open(open) = self.doors.into_inner() {
            open.shut().await;
        }
    }

    /// The `[[account]]` tables of a relay configuration that fit this simulator, one a mailbox. `ca_file` is where [`Self::ca_pem`]
    /// was written to; without TLS it is not needed.
    pub fn relay_config(&self, ca_file: Option<&Path>) -> String {
        let accounts = self.cloud.options.mailboxes.iter().map(|mailbox| self.account(mailbox, ca_file));
        accounts.collect::<Vec<_>>().join("\n")
    }

    fn account(&self, mailbox: &Mailbox, ca_file: Option<&Path>) -> String {
        let options = &self.cloud.options;
        let text = |value: &str| toml::Value::from(value).to_string();
        // The relay knows no "no limit": so many are never reached.
        let limit = |value: u32, plenty: u32| if value == 0 { plenty } else { value }.to_string();
        let send_as = toml::Value::from(mailbox.send_as.clone()).to_string();
        let mut keys = vec![
            ("mailbox", text(&mailbox.address)),
            ("provider", text("custom")),
            ("client_id", text(&options.client_id)),
            ("send_as", send_as),
            ("messages_per_minute", limit(options.messages_per_minute, 1_000_000)),
            ("connections", limit(options.connections, 100)),
            ("recipients_per_day", limit(options.recipients_per_day, 1_000_000_000)),
            ("token_url", text(&self.token_url())),
            ("device_url", text(&self.device_url())),
            ("authorize_url", text(&self.authorize_url())),
            ("scopes", "[\"https://outlook.office.com/SMTP.Send\", \"offline_access\"]".to_owned()),
            ("smtp", text(&reachable(self.smtp).to_string())),
            ("smtp_tls", text(options.tls.name())),
        ];
        if let Some(secret) = &options.client_secret {
            keys.insert(3, ("client_secret", text(secret)));
        }
        if let Some(person) = mailbox.delegates.first() {
            keys.insert(1, ("login", text(person)));
        }
        if let Some(file) = ca_file.filter(|_| options.tls != SmtpTls::None) {
            keys.push(("ca_file", text(&file.to_string_lossy())));
        }
        let lines = keys.into_iter().map(|(key, value)| format!("{key} = {value}\n"));
        format!("[[account]]\n{}", lines.collect::<String>())
    }
}

impl std::fmt::Debug for Simulator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Simulator").field("smtp", &self.smtp).field("http", &self.http).finish_non_exhaustive()
    }
}
