//! The queue: list, show, retry, lane, delete.

use std::collections::HashSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::delay::delay;
use super::{Left, Ops, OpsError, Ordered};
use crate::config::{Account, Config};
use crate::message::{Address, Lane, NotAnId, Permitted, QueueId, Recipient, doubtful_sender};
use crate::outbound::beginning;
use crate::outbound::replies::{About, explain, lacks_sender};
use crate::registry;
use crate::schedule::Event;
use crate::store::{Archived, Change, JournalEntry, MessageState, RecipientRow, RecipientState, Stored};

/// How many messages are read at a time.
const PAGE: u32 = 1000;
/// How many messages are changed at a time.
const SHARE: u32 = 500;

/// Which messages an order is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// These.
    Ids(Vec<String>),
    /// Everything in the queue, dead letters too.
    All,
    /// Every dead letter.
    Dead,
    /// Every message that is held by itself, whatever its account.
    Held,
    /// Everything that came from the app of this name.
    App(String),
    /// Everything in the queue of this mailbox.
    Account(String),
}

impl Selection {
    /// Whether it is meant; messages that are named one by one are looked up by their ids.
    fn means(&self, stored: &Stored) -> bool {
        match self {
            Self::Ids(_) => false,
            Self::All => true,
            Self::Dead => stored.state == MessageState::Dead,
            Self::Held => stored.state == MessageState::Held,
            Self::App(name) => stored.app.eq_ignore_ascii_case(name),
            Self::Account(mailbox) => Address::parse(mailbox).is_ok_and(|mailbox| mailbox == stored.account),
        }
    }
}

/// Which messages are to travel in which lane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneOrder {
    /// The messages.
    pub which: Selection,
    /// The lane.
    pub lane: Lane,
}

/// An unfinished or dead message, as `queue list --json` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageView {
    /// Its name.
    pub id: String,
    /// The app it came from.
    pub app: String,
    /// The mailbox whose queue it is in.
    pub account: String,
    /// `urgent`, `normal` or `bulk`.
    pub lane: String,
    /// What says so; absent or null: nothing says anything.
    #[serde(default)]
    pub lane_why: Option<String>,
    /// `waiting`, `held`, `in_doubt` or `dead`; when it is finished `accepted`, or `deleted`.
    pub state: String,
    /// When it came.
    pub received_at: Timestamp,
    /// Not tried before; absent for what is not tried by itself.
    pub due_at: Option<Timestamp>,
    /// Tries that counted.
    pub tries: u32,
    /// The reverse path, empty for `<>`.
    pub sender: String,
    /// The subject as it stands in the header, if it is recorded.
    pub subject: Option<String>,
    /// Octets.
    pub size: u64,
    /// The sender's own name for the message (ENVID of RFC 3461), if it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envid: Option<String>,
    /// How much the sender wants back with a notice of failure (RET): `FULL` or `HDRS`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ret: Option<String>,
    /// In the order of their RCPT commands.
    pub recipients: Vec<RecipientView>,
}

/// One recipient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientView {
    /// Its address.
    pub address: String,
    /// `waiting`, `held`, `in_doubt`, `refused` or `accepted`.
    pub state: String,
    /// The last reply about it, word for word, or the failure in words.
    pub reply: Option<String>,
    /// What that means, unless it was accepted: `queue show` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
    /// What to type, if it means something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Of what the sender asked to hear (NOTIFY of RFC 3461), if it said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<String>,
    /// Whom it was for in the first place (ORCPT), if the sender said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orcpt: Option<String>,
}

/// A message with its journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageDetail {
    /// The message.
    #[serde(flatten)]
    pub message: MessageView,
    /// What happened to it, oldest first.
    pub journal: Vec<JournalView>,
}

/// A line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalView {
    /// When.
    pub at: Timestamp,
    /// What happened.
    pub text: String,
}

impl Ops {
    /// Every unfinished and dead message, oldest first.
    pub async fn queue_list(&self) -> Result<Vec<MessageView>, OpsError> {
        let stops = self.stops().await;
        let mut messages = Vec::new();
        let mut after = None;
        loop {
            let page = self.store.list(after, PAGE).await?;
            let Some(last) = page.last() else { return Ok(messages) };
            after = Some(last.id);
            messages.extend(page.iter().map(|stored| view(stored, stops.stop(stored))));
        }
    }

    /// One message, finished or not, with its journal.
    pub async fn queue_show(&self, id: QueueId) -> Result<MessageDetail, OpsError> {
        let stored = self.store.message(id).await?;
        let mut message = if let Some(stored) = &stored {
            view(stored, self.stops().await.stop(stored))
        } else if let Some(archived) = self.store.archived(id).await? {
            archived_view(&archived)
        } else {
            return Err(unknown(&[id]));
        };
        self.explain(&mut message, stored.as_ref()).await;
        let journal = self.store.journal(id).await?;
        Ok(MessageDetail { message, journal: journal.into_iter().map(JournalView::from).collect() })
    }

    /// Says what keeps the message back: of each reply that was no acceptance what it means, of what waits for a held account why that is held, of
    /// what is due and waits all the same why.
    async fn explain(&self, message: &mut MessageView, stored: Option<&Stored>) {
        if let Some(stored) = stored.filter(|stored| stored.state == MessageState::Waiting)
            && message.state == MessageState::Held.as_str()
        {
            self.explain_by_account(message, stored).await;
        }
        let now = self.clock.now();
        if let Some(stored) = stored.filter(|stored| stored.due_at <= now)
            && message.state == MessageState::Waiting.as_str()
        {
            self.explain_delay(message, stored).await;
        }
        let config = self.config.borrow().clone();
        let account = config.accounts.iter().find(|account| account.mailbox.as_str() == message.account);
        let Some(account) = account else { return };
        let mut replies = message.recipients.iter().filter_map(|recipient| recipient.reply.as_deref());
        let sender = match stored.filter(|_| replies.any(|reply| lacks_sender(&config.replies, reply))) {
            Some(stored) => self.doubtful_sender(stored, account, &config).await,
            None => None,
        };
        let about = About { id: Some(&message.id), sender: sender.as_ref() };
        let is_open =
            |one: &&mut RecipientView| one.meaning.is_none() && one.state != RecipientState::Accepted.as_str();
        for recipient in message.recipients.iter_mut().filter(is_open) {
            let reply = recipient.reply.as_deref();
            let advice = reply.and_then(|reply| explain(&config.replies, reply, account, about));
            let advice = advice.map(|advice| (advice.sentence, advice.command)).or_else(|| {
                let is_for_a_person = message.state == MessageState::Held.as_str();
                let is_in_doubt = recipient.state == RecipientState::InDoubt.as_str();
                (is_for_a_person && is_in_doubt).then(|| doubt(&message.id))
            });
            (recipient.meaning, recipient.remedy) = advice.unzip();
        }
    }

    /// Of those who wait for an account that is held, or that is gone from the configuration.
    async fn explain_by_account(&self, message: &mut MessageView, stored: &Stored) {
        let Ok(status) = self.status().await else { return };
        let account = status.accounts.into_iter().find(|account| account.mailbox == message.account);
        let (meaning, remedy) = match account.map(|account| account.hold) {
            Some(Some(hold)) => (hold.text, hold.remedy),
            // It has just been released.
            Some(None) => return,
            None => (
                format!("{} is no longer in the configuration", message.account),
                format!(
                    "put it back, or let another account send it: xoauth2-relay queue move --to MAILBOX {}",
                    message.id
                ),
            ),
        };
        for (recipient, row) in message.recipients.iter_mut().zip(&stored.recipients) {
            if row.state == RecipientState::Waiting {
                (recipient.meaning, recipient.remedy) = (Some(meaning.clone()), Some(remedy.clone()));
            }
        }
    }

    /// Of those who are due and wait all the same.
    async fn explain_delay(&self, message: &mut MessageView, stored: &Stored) {
        let Ok(status) = self.status().await else { return };
        let account = status.accounts.into_iter().find(|account| account.mailbox == message.account);
        let meaning = account.and_then(|account| delay(stored, &account));
        for recipient in message.recipients.iter_mut().filter(|one| one.state == RecipientState::Waiting.as_str()) {
            recipient.meaning.clone_from(&meaning);
        }
    }

    /// Whom a refusal of the message's sender means that names nobody.
    async fn doubtful_sender(&self, stored: &Stored, account: &Account, config: &Config) -> Option<Address> {
        let body = self.store.body(stored.id).await.ok()??;
        let start = beginning(&body, stored.size).await.ok()?;
        let permitted = Permitted { mailbox: &account.mailbox, send_as: &account.send_as };
        let policy = registry::app_named(config, &stored.app).map(|app| app.sender).unwrap_or_default();
        Some(doubtful_sender(&start, &stored.envelope, permitted, policy))
    }

    /// Waiting, held and dead messages are due now; how many.
    pub async fn queue_retry(&self, which: Selection) -> Result<usize, OpsError> {
        let at = self.clock.now();
        self.change(which, |ids| Change::Retry { ids, at }).await
    }

    /// Messages travel in another lane from now on; how many.
    pub async fn queue_lane(&self, order: LaneOrder) -> Result<usize, OpsError> {
        let (at, lane) = (self.clock.now(), order.lane);
        let why = "an administrator said so";
        self.change(order.which, |ids| Change::Lane { ids, lane, why: why.to_owned(), at }).await
    }

    /// Messages are thrown away; how many.
    pub async fn queue_delete(&self, which: Selection) -> Result<usize, OpsError> {
        let at = self.clock.now();
        self.change(which, |ids| Change::Delete { ids, at }).await
    }

    async fn change(&self, which: Selection, change: impl Fn(Vec<QueueId>) -> Change) -> Result<usize, OpsError> {
        Ok(self.order(which, |_| Ok(()), change).await?.done)
    }

    /// Carries out an order to the messages that it fits; those that it does not fit are told why. A share at a time, so that mail can be taken
    /// in between. Of messages that are named one by one, none may be unknown; of many, those that have left meanwhile are none of them any
    /// more.
    pub(super) async fn order(
        &self,
        which: Selection,
        fits: impl Fn(&Stored) -> Result<(), String>,
        change: impl Fn(Vec<QueueId>) -> Change,
    ) -> Result<Ordered, OpsError> {
        let mut ordered = Ordered::default();
        if let Selection::Ids(ids) = &which {
            let mut found = Vec::new();
            for stored in self.named(ids).await? {
                match fits(&stored) {
                    Ok(()) => found.push((stored.id, stored.account)),
                    Err(why) => ordered.left.push(Left { id: stored.id.to_string(), why }),
                }
            }
            for share in found.chunks(SHARE as usize) {
                ordered.done += self.change_share(share, &change).await?;
            }
            return Ok(ordered);
        }
        let mut after = None;
        loop {
            let page = self.store.list(after, SHARE).await?;
            let Some(last) = page.last() else { return Ok(ordered) };
            after = Some(last.id);
            let is_meant = |stored: &&Stored| which.means(stored) && fits(stored).is_ok();
            let share: Vec<_> =
                page.iter().filter(is_meant).map(|stored| (stored.id, stored.account.clone())).collect();
            ordered.done += self.change_share(&share, &change).await?;
        }
    }

    async fn change_share(
        &self,
        share: &[(QueueId, Address)],
        change: impl Fn(Vec<QueueId>) -> Change,
    ) -> Result<usize, OpsError> {
        if share.is_empty() {
            return Ok(0);
        }
        self.store.commit(change(share.iter().map(|(id, _)| *id).collect())).await?;
        let accounts: HashSet<&Address> = share.iter().map(|(_, account)| account).collect();
        for account in accounts {
            self.schedule.tell(Event::Changed { account: account.clone() });
        }
        Ok(share.len())
    }

    /// The messages of these ids, each once, all of which have to be unfinished or dead.
    pub(super) async fn named(&self, ids: &[String]) -> Result<Vec<Stored>, OpsError> {
        let mut found = Vec::new();
        let mut missing = Vec::new();
        let mut seen = HashSet::new();
        for text in ids {
            let id: QueueId = text.parse().map_err(|error: NotAnId| OpsError::NotFound(error.to_string()))?;
            if !seen.insert(id) {
                continue;
            }
            match self.store.message(id).await? {
                Some(stored) => found.push(stored),
                None => missing.push(id),
            }
        }
        if missing.is_empty() { Ok(found) } else { Err(unknown(&missing)) }
    }
}

pub(super) fn unknown(ids: &[QueueId]) -> OpsError {
    let ids: Vec<String> = ids.iter().map(QueueId::to_string).collect();
    OpsError::NotFound(format!("there is no message {} in the queue; see `xoauth2-relay queue list`", ids.join(", ")))
}

/// A message as it is shown; `is_held` says whether it waits for an account that is.
pub fn view(stored: &Stored, is_held: bool) -> MessageView {
    let is_held = stored.state == MessageState::Held || (is_held && stored.state == MessageState::Waiting);
    let rows = stored.recipients.iter().zip(&stored.envelope.recipients);
    let recipients: Vec<RecipientView> = rows.map(|(row, said)| wishing(recipient_view(row, is_held), said)).collect();
    let is_in_doubt = recipients.iter().any(|recipient| recipient.state == RecipientState::InDoubt.as_str());
    let state = match stored.state {
        MessageState::Dead => MessageState::Dead.as_str(),
        _ if is_held => MessageState::Held.as_str(),
        _ if is_in_doubt => RecipientState::InDoubt.as_str(),
        MessageState::Waiting | MessageState::Held => MessageState::Waiting.as_str(),
    };
    MessageView {
        id: stored.id.to_string(),
        app: stored.app.clone(),
        account: stored.account.to_string(),
        lane: stored.lane.to_string(),
        lane_why: stored.lane_why.clone(),
        state: state.to_owned(),
        received_at: stored.received_at,
        due_at: (stored.state == MessageState::Waiting).then_some(stored.due_at),
        tries: stored.tries,
        sender: stored.envelope.sender.as_ref().map(Address::to_string).unwrap_or_default(),
        subject: stored.subject.clone(),
        size: stored.size,
        envid: stored.envelope.envid.as_ref().map(|envid| envid.as_str().to_owned()),
        ret: stored.envelope.ret.map(|ret| ret.as_str().to_owned()),
        recipients,
    }
}

fn archived_view(archived: &Archived) -> MessageView {
    let is_accepted = archived.recipients.iter().all(|row| row.state == RecipientState::Accepted);
    MessageView {
        id: archived.id.to_string(),
        app: archived.app.clone(),
        account: archived.account.to_string(),
        lane: archived.lane.to_string(),
        lane_why: archived.lane_why.clone(),
        state: if is_accepted { "accepted" } else { "deleted" }.to_owned(),
        received_at: archived.received_at,
        due_at: None,
        tries: 0,
        sender: archived.sender.as_ref().map(Address::to_string).unwrap_or_default(),
        subject: archived.subject.clone(),
        size: archived.size,
        envid: None,
        ret: None,
        recipients: archived.recipients.iter().map(|row| recipient_view(row, false)).collect(),
    }
}

/// What to do about a message that is held because nobody knows whether Exchange has it.
fn doubt(id: &str) -> (String, String) {
    let sentence = "Nobody knows whether Exchange has it: look for its Message-ID in the message trace of the Exchange admin center";
    (
        sentence.to_owned(),
        format!("xoauth2-relay queue delete {id} if it is there, xoauth2-relay queue retry {id} if it is not"),
    )
}

fn recipient_view(row: &RecipientRow, is_held: bool) -> RecipientView {
    let state = if is_held && row.state == RecipientState::Waiting { RecipientState::Held } else { row.state };
    RecipientView {
        address: row.address.to_string(),
        state: state.as_str().to_owned(),
        reply: row.reply.clone(),
        meaning: None,
        remedy: None,
        notify: None,
        orcpt: None,
    }
}

/// The same with what was said of notices.
fn wishing(view: RecipientView, said: &Recipient) -> RecipientView {
    let notify = said.notify.map(|notify| notify.to_string());
    RecipientView { notify, orcpt: said.orcpt.as_ref().map(|orcpt| orcpt.as_str().to_owned()), ..view }
}

impl From<JournalEntry> for JournalView {
    fn from(entry: JournalEntry) -> Self {
        Self { at: entry.at, text: entry.text }
    }
}
