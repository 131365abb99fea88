//! The accounts: list, show, hold, release.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::status::{AccountStatus, HoldView, PauseView};
use super::{JournalView, Ops, OpsError, Selection};
use crate::message::Address;
use crate::schedule::Event;
use crate::store::{Change, Hold, HoldCause, JournalEntry, MessageState, Stored};

/// An account, as `account list --json` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccountView {
    /// The address mail leaves as.
    pub mailbox: String,
    /// Who is signed in, as configured; of a smarthost the user name, empty without a login.
    pub login: String,
    /// `microsoft`, `google`, `custom` or `smarthost`.
    pub provider: String,
    /// `delegated` or `application`: whether a person signs in, or the registration itself; `none` for a smarthost.
    pub grant: String,
    /// Where mail goes.
    pub smtp: String,
    /// Other senders that Exchange has granted it.
    pub send_as: Vec<String>,
    /// Whether there is a sign-in; with the application grant, whether there was an access token.
    pub signed_in: bool,
    /// The hold, if there is one.
    pub hold: Option<HoldView>,
    /// Why it pauses, if it does.
    #[serde(default)]
    pub pause: Option<PauseView>,
    /// Messages that wait.
    pub waiting: u64,
}

/// Everything that is known of one account, as `account show --json` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccountDetail {
    /// How it stands: the same as in `status`.
    #[serde(flatten)]
    pub status: AccountStatus,
    /// Where mail goes.
    pub smtp: String,
    /// Other senders that Exchange has granted it.
    pub send_as: Vec<String>,
    /// The tenant; empty for a custom provider without one.
    pub tenant: String,
    /// The registration's client id.
    pub client_id: String,
    /// Where tokens come from.
    pub token_url: String,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// What happened to the account itself, oldest first: the last 20 lines.
    pub journal: Vec<JournalView>,
}

/// What `account release` may ask for beside the release.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseOrder {
    /// Waiting mail that came longer ago than this becomes dead letters first, in seconds.
    pub newer_than: Option<u64>,
}

/// What came of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// How many messages were too old and are dead letters now.
    #[serde(default)]
    pub dead_letters: usize,
    /// Whether there is a sign-in that could be tried: a smarthost has none.
    #[serde(default)]
    pub has_sign_in: bool,
    /// Why the stored sign-in does not work, if it does not; the account is held again then.
    pub sign_in_problem: Option<String>,
}

/// What came of trying an account to which nobody signs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Until when the access token is good that it brought.
    pub access_token_until: Timestamp,
}

/// How much of its journal is shown with an account.
const JOURNAL_LINES: u32 = 20;
/// How long a release waits for the token endpoint.
const RELEASE_PATIENCE: Duration = Duration::from_secs(10);

impl Ops {
    /// Every configured account.
    pub async fn account_list(&self) -> Result<Vec<AccountView>, OpsError> {
        let status = self.status().await?;
        let config = self.config.borrow().clone();
        let views = config.accounts.iter().zip(status.accounts).map(|(account, status)| AccountView {
            mailbox: account.mailbox.to_string(),
            login: account.user_name().unwrap_or_default().to_owned(),
            provider: status.provider,
            grant: status.grant,
            smtp: account.smtp.to_string(),
            send_as: account.send_as.iter().map(Address::to_string).collect(),
            signed_in: status.sign_in.is_some(),
            hold: status.hold,
            pause: status.pause,
            waiting: status.queue.waiting,
        });
        Ok(views.collect())
    }

    /// Everything about one account.
    pub async fn account_show(&self, mailbox: &Address) -> Result<AccountDetail, OpsError> {
        let account = self.account(mailbox)?;
        let journal = self.store.account_journal(&account.mailbox, JOURNAL_LINES).await?;
        let mut accounts = self.status().await?.accounts.into_iter();
        // A reload in between may have taken it away.
        let status = accounts.find(|status| status.mailbox == account.mailbox.as_str());
        let status = status.ok_or_else(|| OpsError::NotFound(format!("there is no account {mailbox} any more")))?;
        Ok(AccountDetail {
            status,
            smtp: account.smtp.to_string(),
            send_as: account.send_as.iter().map(Address::to_string).collect(),
            tenant: account.tenant.clone(),
            client_id: account.client_id.clone(),
            token_url: account.endpoints.token.clone(),
            scopes: account.endpoints.scopes.clone(),
            journal: journal.into_iter().map(|entry| JournalView { at: entry.at, text: entry.text }).collect(),
        })
    }

    /// The account sends nothing until it is released.
    pub async fn account_hold(&self, mailbox: &Address) -> Result<(), OpsError> {
        let account = self.account(mailbox)?;
        let hold = Hold {
            account: account.mailbox.clone(),
            cause: HoldCause::Manual,
            reply: None,
            error: None,
            codes: Vec::new(),
            since: self.clock.now(),
            probe_at: None,
            probes: 0,
        };
        self.schedule.tell(Event::Held(hold));
        // Answered in order: once the standings are here, the hold is in force.
        self.schedule.standings().await;
        Ok(())
    }

    /// From now on only `next_client_secret` is used.
    pub async fn account_drop_secret(&self, mailbox: &Address) -> Result<(), OpsError> {
        let account = self.account(mailbox)?;
        let dropped = self.sign_ins.drop_secret(&account.mailbox).await;
        dropped.map_err(|error| OpsError::Failed(error.to_string()))?;
        let entry = JournalEntry {
            at: self.clock.now(),
            message: None,
            account: Some(account.mailbox.clone()),
            text: "the old client secret was dropped by an administrator".to_owned(),
        };
        // It is dropped, whether or not that can be told later.
        if let Err(error) = self.store.commit(Change::Note(entry)).await {
            tracing::warn!(%error, "the journal lacks that a client secret was dropped");
        }
        Ok(())
    }

    /// Lifts any hold, tries the stored sign-in at once and wakes the waiting mail. What came of the sign-in is told, not waited for for
    /// long.
    pub async fn account_release(&self, mailbox: &Address) -> Result<Released, OpsError> {
        self.account_release_with(mailbox, &ReleaseOrder::default()).await
    }

    /// The same, once the mail that nobody needs any more is taken out: before anything can leave.
    pub async fn account_release_with(&self, mailbox: &Address, order: &ReleaseOrder) -> Result<Released, OpsError> {
        let account = self.account(mailbox)?;
        let mailbox = account.mailbox.clone();
        let dead_letters = match order.newer_than {
            Some(seconds) => self.give_up_older(&mailbox, Duration::from_secs(seconds)).await?,
            None => 0,
        };
        self.send_as.try_again(Some(&mailbox));
        if self.shelf.identity().foreign(&mailbox).is_some() {
            self.shelf.identity().claim(&mailbox).await.map_err(|error| OpsError::Failed(error.to_string()))?;
            // A message that left before the keeper has heard of it would be told that the account is another instance's.
            self.sign_ins.retry(&mailbox).await;
        }
        self.schedule.tell(Event::Released { account: mailbox.clone(), why: "by an administrator".to_owned() });
        self.store.commit(Change::Wake { account: mailbox.clone(), at: self.clock.now() }).await?;
        self.schedule.tell(Event::Changed { account: mailbox.clone() });
        if !account.signs_in() {
            return Ok(Released { dead_letters, has_sign_in: false, sign_in_problem: None });
        }
        let sign_ins = self.sign_ins.clone();
        let tried = tokio::spawn(async move { sign_ins.refresh_now(&mailbox).await });
        let sign_in = match tokio::time::timeout(RELEASE_PATIENCE, tried).await {
            Ok(Ok(Ok(_))) => None,
            Ok(Ok(Err(error))) => Some(error.to_string()),
            Ok(Err(_panic)) => Some("this failed within the relay; see its log".to_owned()),
            Err(_elapsed) => Some("the token endpoint has not answered yet".to_owned()),
        };
        Ok(Released { dead_letters, has_sign_in: true, sign_in_problem: sign_in })
    }

    /// What has waited for this account for longer than `age` becomes dead letters; how many.
    async fn give_up_older(&self, mailbox: &Address, age: Duration) -> Result<usize, OpsError> {
        let at = self.clock.now();
        let since = at.checked_sub(age).unwrap_or(Timestamp::MIN);
        let why = format!(
            "a dead letter: it came more than {} before an administrator released {mailbox}; `queue retry` sends it all the same",
            spoken(age)
        );
        let fits = |stored: &Stored| {
            let is_old = stored.state == MessageState::Waiting && stored.received_at < since;
            if is_old { Ok(()) } else { Err(String::new()) }
        };
        let which = Selection::Account(mailbox.to_string());
        let given_up = self.order(which, fits, |ids| Change::GiveUp { ids, at, why: why.clone() }).await?;
        Ok(given_up.done)
    }
}

/// A duration as it is typed: `2h`, `1d 12h`.
fn spoken(span: Duration) -> String {
    let mut rest = span.as_secs();
    let mut words = Vec::new();
    for (name, seconds) in [("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)] {
        if rest >= seconds {
            words.push(format!("{}{name}", rest / seconds));
            rest %= seconds;
        }
    }
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_said_as_they_are_typed() {
        for (seconds, said) in [(7200, "2h"), (129_600, "1d 12h"), (5400, "1h 30m"), (59, "59s")] {
            assert_eq!(spoken(Duration::from_secs(seconds)), said);
        }
    }
}
