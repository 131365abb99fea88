//! Who is told, and how.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::http::Http;
use super::notice::Notice;
use super::{command, format, mail};
use crate::config::{Config, HookUrl, SecretSource, WebhookFormat};
use crate::inbound::QueueIntake;
use crate::message::Address;
use crate::signin::SecretReader;

/// Which receiver, by its place in the configuration. Its text is also its name in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReceiverName {
    /// A webhook, counted from 1, and its format.
    Webhook(usize, &'static str),
    /// `command`.
    Command,
    /// `mail_to`.
    Mail,
}

impl ReceiverName {
    /// Whether it depends on what it may have to tell about.
    pub fn is_mail(self) -> bool {
        self == Self::Mail
    }
}

impl fmt::Display for ReceiverName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Webhook(number, format) => write!(f, "webhook {number} ({format})"),
            Self::Command => f.write_str("command"),
            Self::Mail => f.write_str("mail_to"),
        }
    }
}

/// It did not get it. The text holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct SendError {
    /// What went wrong, in words.
    pub text: String,
    /// Not before, if it said so.
    pub retry_after: Option<Duration>,
}

impl SendError {
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), retry_after: None }
    }
}

/// Somebody who can be told. Cheap to clone.
#[derive(Clone)]
pub struct Receiver {
    /// Which.
    pub name: ReceiverName,
    way: Way,
}

#[derive(Clone)]
enum Way {
    Webhook { url: SecretSource, format: WebhookFormat, secrets: SecretReader },
    Command(Arc<[String]>),
    Mail { to: Arc<[Address]>, intake: QueueIntake },
}

/// Everybody that this configuration names.
pub fn receivers(config: &Config, secrets: &SecretReader, intake: &QueueIntake) -> Vec<Receiver> {
    let alert = &config.alert;
    let webhooks = (1..).zip(&alert.webhooks).map(|(number, webhook)| Receiver {
        name: ReceiverName::Webhook(number, webhook.format.as_str()),
        way: Way::Webhook { url: webhook.url.clone(), format: webhook.format, secrets: Arc::clone(secrets) },
    });
    let command = (!alert.command.is_empty())
        .then(|| Receiver { name: ReceiverName::Command, way: Way::Command(alert.command.clone().into()) });
    let mail = (!alert.mail_to.is_empty()).then(|| Receiver {
        name: ReceiverName::Mail,
        way: Way::Mail { to: alert.mail_to.clone().into(), intake: intake.clone() },
    });
    webhooks.chain(command).chain(mail).collect()
}

impl Receiver {
    /// Hands it over, and says in a word how it was taken. `through` is the account that carries a mail. Takes half a minute at most.
    ///
    /// # Errors
    /// Whatever means that nobody has got it.
    pub async fn send(&self, notice: &Notice, through: Option<&Address>) -> Result<String, SendError> {
        match &self.way {
            Way::Webhook { url, format, secrets } => {
                let url = read(url, secrets).await?;
                let answer = Http::new(&url)?.post(format::request(*format, notice)).await?;
                Ok(format!("{url} answered {answer}"))
            }
            Way::Command(words) => command::run(words, notice).await,
            Way::Mail { to, intake } => mail::put(intake, to, through, notice).await,
        }
    }
}

/// The address as it is now: its file may have been replaced.
pub(super) async fn read(source: &SecretSource, secrets: &SecretReader) -> Result<HookUrl, SendError> {
    let (source, secrets) = (source.clone(), Arc::clone(secrets));
    let name = source.to_string();
    let read = tokio::task::spawn_blocking(move || secrets(&source)).await;
    let secret = read.map_err(|_| SendError::new("reading the address failed in an unexpected way"))?;
    let secret = secret.map_err(|error| SendError::new(error.to_string()))?;
    HookUrl::parse(secret.expose()).map_err(|text| SendError::new(format!("the address in {name} {text}")))
}
