//! What `status` shows. Fields are added, none is renamed or removed: `docs/status.md` is the contract, and has to be extended with them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ops::forecast::ForecastView;
use crate::ops::outside::BudgetView;
use crate::ops::pace::PaceView;
use crate::store::{Count, MessageState};

/// How things stand, as `status --json` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// The machine's name.
    pub hostname: String,
    /// When the relay started.
    pub started_at: Timestamp,
    /// The key that stored sign-ins are sealed with; absent when it cannot be had.
    pub key: Option<KeyView>,
    /// Of all accounts, configured or not.
    pub queue: QueueCounts,
    /// When everything will have left that is not kept back by a hold, if nothing more comes; absent when nothing leaves.
    #[serde(default)]
    pub forecast: Option<ForecastView>,
    /// Refusals among the dead letters of which nobody could be told.
    #[serde(default)]
    pub told_nobody: u64,
    /// Whether a postmaster is configured, who is told what no sender would read.
    #[serde(default)]
    pub has_postmaster: bool,
    /// In the order of the configuration.
    pub accounts: Vec<AccountStatus>,
    /// Accounts that are no longer configured but have mail: it is held.
    pub removed_accounts: Vec<RemovedAccount>,
    /// What ends on a known day and belongs to no account: certificates of listeners.
    #[serde(default)]
    pub expires: Vec<ExpiryView>,
}

/// A key, by its name, which says nothing about the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// Its name.
    pub id: String,
    /// Since when it has been in use, if it took the place of another one.
    pub since: Option<Timestamp>,
}

/// An account that is gone from the configuration, with mail left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedAccount {
    /// Its mailbox.
    pub mailbox: String,
    /// Its messages.
    pub queue: QueueCounts,
    /// When they will have left through other accounts of their apps; absent where they wait for the account.
    #[serde(default)]
    pub forecast: Option<ForecastView>,
}

/// How many messages are where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueCounts {
    /// To be sent; on a held account this is what its hold keeps back.
    pub waiting: u64,
    /// Held one by one.
    pub held: u64,
    /// Those of them that are kept back by `recipients_allow`, on purpose.
    #[serde(default)]
    pub held_by_rule: u64,
    /// Those of them that somebody has set aside with `queue hold`, on purpose too.
    #[serde(default)]
    pub held_by_order: u64,
    /// Dead letters: refused for good or given up on, kept.
    pub dead: u64,
    /// The arrival of the oldest one waiting.
    pub oldest: Option<Timestamp>,
    /// Recipients of those to be sent, as far as they are still to be served.
    #[serde(default)]
    pub recipients: u64,
    /// When the last of those to be sent is due.
    #[serde(default)]
    pub last_due: Option<Timestamp>,
}

/// One account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AccountStatus {
    /// The address mail leaves as.
    pub mailbox: String,
    /// Who is signed in, as configured.
    pub login: String,
    /// `microsoft`, `google` or `custom`.
    pub provider: String,
    /// `delegated` or `application`: whether a person signs in, or the registration itself; `none` for a smarthost.
    pub grant: String,
    /// The sign-in, if there is one.
    pub sign_in: Option<SignInView>,
    /// The last login that Exchange took, for a mail or for the daily probe.
    pub last_login: Option<LoginView>,
    /// When the next probe is due if no mail logs in before; absent while the account is held.
    pub next_probe: Option<Timestamp>,
    /// Why the probe is overdue: what has failed several times in a row without saying anything about the login.
    pub probe_trouble: Option<String>,
    /// What the last refresh failed with, while it fails.
    pub trouble: Option<String>,
    /// What that means, and what to do about it, if anything.
    #[serde(default)]
    pub trouble_text: Option<String>,
    /// The hold, if there is one.
    pub hold: Option<HoldView>,
    /// Why it pauses, if it does.
    pub pause: Option<PauseView>,
    /// Its messages.
    pub queue: QueueCounts,
    /// What it has used of its limits.
    pub pace: PaceView,
    /// What its tenant has used of its budget for recipients outside the organisation; absent where none is configured.
    #[serde(default)]
    pub budget: Option<BudgetView>,
    /// When the queue will be empty, if nothing more comes; absent when nothing waits, or some of it does not leave at present.
    pub empty_at: Option<Timestamp>,
    /// The same, and what it depends on.
    #[serde(default)]
    pub forecast: Option<ForecastView>,
    /// The day on which the client secret ends, as configured.
    pub client_secret_expires: Option<String>,
    /// Everything of the account that ends on a known day, the next first.
    #[serde(default)]
    pub expires: Vec<ExpiryView>,
    /// What will be in the way although nothing has failed yet: a token that does not fit the account, a wrong clock.
    #[serde(default)]
    pub warnings: Vec<WarningView>,
    /// By how many seconds this machine's clock is ahead of the token endpoint's (negative: behind), if it is wrong.
    #[serde(default)]
    pub clock_ahead_seconds: Option<i64>,
    /// What Exchange has lately said of senders other than the mailbox itself.
    #[serde(default)]
    pub senders: Vec<SenderView>,
}

/// How a sender other than the mailbox stands with Exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SenderView {
    /// Which.
    pub address: String,
    /// `accepted` or `refused`.
    pub state: String,
    /// Since when.
    pub since: Timestamp,
    /// When Exchange last said so.
    pub last: Timestamp,
    /// What it said when it refused it.
    pub reply: Option<String>,
    /// What to type if it is refused.
    pub remedy: Option<String>,
}

/// Something that ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpiryView {
    /// `client_secret`, `certificate` or `listener_certificate`.
    pub what: String,
    /// The file, where it is one.
    pub file: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// What an administrator should know before it hurts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarningView {
    /// In a sentence.
    pub text: String,
    /// What to type.
    pub remedy: String,
}

/// A login that Exchange took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginView {
    /// When.
    pub at: Timestamp,
    /// `user=` of XOAUTH2: the account's login, or its mailbox.
    pub user: String,
}

/// A sign-in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignInView {
    /// Who signed in, as far as the token tells.
    pub signed_in_as: Option<String>,
    /// When the person signed in.
    pub since: Timestamp,
    /// When the last refresh succeeded.
    pub last_refresh: Timestamp,
    /// When the next one is planned.
    pub next_refresh: Option<Timestamp>,
    /// Until when the access token at hand is good.
    pub access_token_until: Option<Timestamp>,
    /// How long the sign-in lasts at least if nothing renews it any more, where the provider says so; absent while it is refused.
    #[serde(default)]
    pub good_until_at_least: Option<Timestamp>,
}

/// Why an account stops, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldView {
    /// `not_signed_in`, `sign_in`, `registration`, `login`, `key`, `clone` or `manual`.
    pub cause: String,
    /// The cause in words.
    pub text: String,
    /// The SMTP reply, word for word.
    pub reply: Option<String>,
    /// What failed when there was no reply.
    pub error: Option<String>,
    /// AADSTS numbers.
    pub codes: Vec<u32>,
    /// Since when.
    pub since: Timestamp,
    /// When the relay tries by itself.
    pub probe_at: Option<Timestamp>,
    /// What to type.
    pub remedy: String,
}

/// Why nothing leaves for the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseView {
    /// When it is tried again.
    pub until: Timestamp,
    /// What failed.
    pub error: String,
}

impl QueueCounts {
    /// These too.
    pub(super) fn add(&mut self, count: &Count) {
        match count.state {
            MessageState::Waiting => {
                self.waiting += count.messages;
                self.oldest = earlier(self.oldest, Some(count.oldest));
                self.recipients += count.recipients;
                self.last_due = self.last_due.max(Some(count.last_due));
            }
            MessageState::Held => {
                self.held += count.messages;
                self.held_by_rule += count.by_rule;
                self.held_by_order += count.by_order;
            }
            MessageState::Dead => self.dead += count.messages,
        }
    }

    /// Both together.
    pub(super) fn and(&self, other: &Self) -> Self {
        Self {
            waiting: self.waiting + other.waiting,
            held: self.held + other.held,
            held_by_rule: self.held_by_rule + other.held_by_rule,
            held_by_order: self.held_by_order + other.held_by_order,
            dead: self.dead + other.dead,
            oldest: earlier(self.oldest, other.oldest),
            recipients: self.recipients + other.recipients,
            last_due: self.last_due.max(other.last_due),
        }
    }
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    a.into_iter().chain(b).min()
}
