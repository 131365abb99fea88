//! Orders about messages that are in the queue: hold, release, move, readdress, export.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::queue::Selection;
use super::{Ops, OpsError};
use crate::message::{Address, Body, QueueId};
use crate::schedule::Event;
use crate::store::{Change, MessageState, RecipientState, Stored};

/// How long an attempt that is under way is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of an order about messages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ordered {
    /// How many messages it was done to.
    pub done: usize,
    /// Messages that were named and left as they are. Of messages that were not named one by one, nothing is said.
    pub left: Vec<Left>,
}

/// A message that was left as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// Which.
    pub id: String,
    /// Why, to be read behind the id.
    pub why: String,
}

/// What `queue move` asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveOrder {
    /// Which messages.
    pub which: Selection,
    /// The account that they wait for from then on.
    pub to: String,
}

/// What `queue readdress` asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReaddressOrder {
    /// Which messages.
    pub ids: Vec<String>,
    /// Whom they do not go to any more.
    pub from: String,
    /// Whom they go to.
    pub to: String,
}

impl Ops {
    /// Waiting messages are held until they are released. An attempt that is under way ends as it will.
    pub async fn queue_hold(&self, which: Selection) -> Result<Ordered, OpsError> {
        let at = self.clock.now();
        let fits = |stored: &Stored| match stored.state {
            MessageState::Waiting => Ok(()),
            MessageState::Held => Err("is held already".to_owned()),
            MessageState::Dead => Err("is a dead letter: nothing sends it before `queue retry`".to_owned()),
        };
        self.order(which, fits, |ids| Change::HoldMessages { ids, at }).await
    }

    /// Held messages wait again, due now.
    pub async fn queue_release(&self, which: Selection) -> Result<Ordered, OpsError> {
        let (at, stops) = (self.clock.now(), self.stops().await);
        let fits = |stored: &Stored| match stored.state {
            MessageState::Held => Ok(()),
            MessageState::Dead => Err("is a dead letter: `queue retry` tries it again".to_owned()),
            MessageState::Waiting if stops.stop(stored) => {
                let account = &stored.account;
                Err(format!("is not held by itself: its account {account} is (`xoauth2-relay account show {account}`)"))
            }
            MessageState::Waiting => Err("is not held: it waits for its time (`queue retry` tries it now)".to_owned()),
        };
        self.order(which, fits, |ids| Change::ReleaseMessages { ids, at }).await
    }

    /// Messages wait for another account from now on.
    pub async fn queue_move(&self, order: &MoveOrder) -> Result<Ordered, OpsError> {
        let to = address("--to", &order.to)?;
        let to = self.account(&to)?.mailbox.clone();
        let at = self.clock.now();
        let fits = |stored: &Stored| {
            if stored.account == to { Err(format!("is in the queue of {to} already")) } else { Ok(()) }
        };
        let moved = self.order(order.which.clone(), fits, |ids| Change::Move { ids, account: to.clone(), at }).await;
        // Also when only a part was moved before something failed.
        self.schedule.tell(Event::Changed { account: to.clone() });
        self.look_outside_after_order().await;
        moved
    }

    /// Messages go to another address instead of one that does not have them yet.
    pub async fn queue_readdress(&self, order: &ReaddressOrder) -> Result<Ordered, OpsError> {
        let (from, to) = (address("--from", &order.from)?, address("--to", &order.to)?);
        let mut ordered = Ordered::default();
        for stored in self.named(&order.ids).await? {
            match self.readdress(stored.id, &from, &to).await? {
                Ok(()) => ordered.done += 1,
                Err(why) => ordered.left.push(Left { id: stored.id.to_string(), why }),
            }
        }
        self.look_outside_after_order().await;
        Ok(ordered)
    }

    /// With the message's turn: the answer to an attempt would be about the address that it was made for.
    async fn readdress(&self, id: QueueId, from: &Address, to: &Address) -> Result<Result<(), String>, OpsError> {
        let Some(_turn) = self.under_way.enter_within(id, PATIENCE).await else {
            return Ok(Err("is being sent just now: look at it again in a minute".to_owned()));
        };
        let Some(stored) = self.store.message(id).await? else {
            return Ok(Err("has just been sent".to_owned()));
        };
        if let Err(why) = can_be_readdressed(&stored, from, to) {
            return Ok(Err(why));
        }
        let (from, to, at) = (from.clone(), to.clone(), self.clock.now());
        self.store.commit(Change::Readdress { id, from, to, at }).await?;
        self.schedule.tell(Event::Changed { account: stored.account });
        Ok(Ok(()))
    }

    /// The message as it came, or the file that holds it.
    pub async fn queue_export(&self, id: QueueId) -> Result<Body, OpsError> {
        if let Some(body) = self.store.body(id).await? {
            return Ok(body);
        }
        let missing = if self.store.message(id).await?.is_some() {
            format!("the text of message {id} is missing from the data folder")
        } else if self.store.archived(id).await?.is_some() {
            format!(
                "message {id} has left the queue: its text is not kept, `xoauth2-relay queue show {id}` tells its story"
            )
        } else {
            return Err(super::queue::unknown(&[id]));
        };
        Err(OpsError::NotFound(missing))
    }
}

fn can_be_readdressed(stored: &Stored, from: &Address, to: &Address) -> Result<(), String> {
    let of = |address: &Address| stored.recipients.iter().filter(|row| row.address == *address).collect::<Vec<_>>();
    let rows = of(from);
    if rows.is_empty() {
        let recipients: Vec<_> = stored.recipients.iter().map(|row| row.address.to_string()).collect();
        return Err(format!("does not go to {from}, but to {}", recipients.join(", ")));
    }
    if rows.iter().all(|row| row.state == RecipientState::Accepted) {
        return Err(format!("has already been accepted for {from}"));
    }
    if from != to && !of(to).is_empty() {
        return Err(format!("goes to {to} already"));
    }
    Ok(())
}

fn address(option: &str, text: &str) -> Result<Address, OpsError> {
    Address::parse(text).map_err(|error| OpsError::Failed(format!("{option}: {error}")))
}
