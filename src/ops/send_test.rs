//! A real mail to see whether mail leaves.

use std::time::Duration;

use bytes::Bytes;
use lettre::message::header::ContentType;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::error::RecvError;

use super::{Ops, OpsError};
use crate::config::{Account, App};
use crate::inbound::Intake;
use crate::journal::Happening;
use crate::message::{Address, Lane, QueueId};
use crate::own_mail::{self, OwnMail};
use crate::store::{Incoming, RecipientState};

/// How long the answer is waited for. The mail stays in the queue when it takes longer.
const PATIENCE: Duration = Duration::from_mins(1);

/// What to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendTest {
    /// To whom.
    pub to: String,
    /// Through which account; the first one if none is named.
    pub account: Option<String>,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// The message.
    pub id: String,
    /// The account it went through.
    pub account: String,
    /// `accepted`, `refused`, `waiting`, `in_doubt` or `held`.
    pub state: String,
    /// The reply, word for word, or the failure in words.
    pub reply: Option<String>,
}

impl Ops {
    /// Sends a mail through the queue like any other, and waits for the answer.
    pub async fn send_test(&self, order: &SendTest) -> Result<Tested, OpsError> {
        let to = Address::parse(&order.to).map_err(|error| OpsError::Failed(error.to_string()))?;
        let account = match &order.account {
            Some(mailbox) => {
                let mailbox = Address::parse(mailbox).map_err(|error| OpsError::Failed(error.to_string()))?;
                self.account(&mailbox)?
            }
            None => self.config.borrow().accounts[0].clone(),
        };
        let mut feed = self.feed.listen();
        let intake = self.intake();
        let id = self.store.next_id(self.clock.now());
        let incoming = self.test_mail(id, &account, to)?;
        intake.accept(incoming).await.map_err(|error| OpsError::Failed(error.to_string()))?;

        let answer = async {
            loop {
                match feed.recv().await {
                    Ok(Happening::Recipient { id: of, state, reply, .. }) if of == id => return Some((state, reply)),
                    Ok(Happening::Account { account: of, is_held: true, .. }) if of == account.mailbox => return None,
                    Ok(_) | Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return None,
                }
            }
        };
        let standings = self.schedule.standings().await;
        let is_held = standings.iter().any(|standing| standing.account == account.mailbox && standing.hold.is_some());
        let answer = if is_held { None } else { tokio::time::timeout(PATIENCE, answer).await.ok().flatten() };
        let (state, reply) = match answer {
            Some((state, reply)) => (state.as_str().to_owned(), Some(reply)),
            None => self.still_waiting(id, &account).await?,
        };
        Ok(Tested { id: id.to_string(), account: account.mailbox.to_string(), state, reply })
    }

    async fn still_waiting(&self, id: QueueId, account: &Account) -> Result<(String, Option<String>), OpsError> {
        let status = self.status().await?;
        let account = status.accounts.into_iter().find(|status| status.mailbox == account.mailbox.to_string());
        if let Some(hold) = account.as_ref().and_then(|account| account.hold.as_ref()) {
            let why = hold.reply.clone().or_else(|| hold.error.clone()).unwrap_or_else(|| hold.text.clone());
            return Ok((RecipientState::Held.as_str().to_owned(), Some(why)));
        }
        let detail = self.queue_show(id).await?;
        let reply = detail.message.recipients.into_iter().find_map(|recipient| recipient.reply);
        let pause = account.and_then(|account| account.pause).map(|pause| pause.error);
        Ok((detail.message.state, reply.or(pause)))
    }

    fn test_mail(&self, id: QueueId, account: &Account, to: Address) -> Result<Incoming, OpsError> {
        let config = self.config.borrow().clone();
        let subject = format!("Test mail from xoauth2-relay on {}", config.hostname);
        let text = format!(
            "This is a test mail of xoauth2-relay on {}.\r\n\r\nIt was sent through {} as message {id}.\r\n\
             That you can read it means that mail leaves.\r\n",
            config.hostname, account.mailbox
        );
        let mailbox = |address: &Address| own_mail::mailbox(None, address).map_err(OpsError::Failed);
        let mail = lettre::Message::builder()
            .from(mailbox(&account.mailbox)?)
            .to(mailbox(&to)?)
            .subject(&subject)
            .message_id(Some(format!("<{id}@{}>", account.mailbox.domain())))
            .header(ContentType::TEXT_PLAIN)
            .body(text)
            .map_err(|error| OpsError::Failed(format!("the test mail could not be composed: {error}")))?;
        let bytes = Bytes::from(mail.formatted());
        let mail = OwnMail {
            id,
            at: self.clock.now(),
            app: App::SEND_TEST,
            through: account.mailbox.clone(),
            sender: Some(account.mailbox.clone()),
            to: vec![to],
            lane: Lane::Urgent,
            lane_why: "the administrator waits for it",
            subject,
            bytes,
        };
        Ok(mail.incoming(&config))
    }
}
