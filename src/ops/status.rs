//! How things stand: accounts, sign-ins, holds, queue, pace, forecast.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::expiry::{Expiry, expiries};
use super::outside::BudgetView;
use super::pace::{ForecastView, PaceView, forecasts};
use super::{Ops, OpsError};
use crate::config::{Account, Config, Grant, Provider, ReplyRule};
use crate::message::{Address, SenderPolicy};
use crate::outbound::replies::explain_hold;
use crate::outbound::{LastLogin, SenderStanding};
use crate::schedule::Standing;
use crate::shelf::KEY_FACT;
use crate::signin::{Advice, SignInStatus};
use crate::store::{Count, Hold, HoldCause, MessageState};

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
    /// When all queues will be empty that are not held, if nothing more comes; absent when nothing leaves.
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
    /// When the queue will be empty, if nothing more comes; absent when nothing waits or nothing leaves.
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

impl Ops {
    /// How things stand.
    pub async fn status(&self) -> Result<Status, OpsError> {
        let config = self.config.borrow().clone();
        let mut counts: HashMap<Address, QueueCounts> = HashMap::new();
        for count in self.store.counts().await? {
            counts.entry(count.account.clone()).or_default().add(&count);
        }
        let standings = by(self.schedule.standings().await, |standing| standing.account.clone());
        let sign_ins = by(self.sign_ins.status(), |sign_in| sign_in.mailbox.clone());
        let now = self.clock.now();
        let reading = tokio::task::spawn_blocking({
            let config = config.clone();
            move || expiries(&config)
        });
        let expiries =
            reading.await.map_err(|_| OpsError::Failed("looking for what ends soon failed: see the log".to_owned()))?;
        let mut forecasts = forecasts(&config.accounts, &counts, &standings, now);
        let forecast = forecasts.values().max_by_key(|forecast| forecast.empty_at).cloned();
        let total = counts.values().fold(QueueCounts::default(), |sum, counts| sum.and(counts));
        let accounts = config.accounts.iter().map(|account| {
            let queue = counts.remove(&account.mailbox).unwrap_or_default();
            let (standing, sign_in) = (standings.get(&account.mailbox), sign_ins.get(&account.mailbox));
            let forecast = forecasts.remove(&account.mailbox);
            let last_login = self.user_names.last(account);
            let mut status = account_status(account, queue, standing, sign_in, last_login, &expiries, forecast);
            let hold = standing.and_then(|standing| standing.hold.as_ref());
            status.hold =
                hold.map(|hold| of_smart_host(account, hold, hold_view(hold, sign_in, account, &config.replies)));
            status.senders = senders(&config, account, self.send_as.standings(&account.mailbox, now));
            status
        });
        let accounts = accounts.collect();
        let removed = counts.into_iter().map(|(mailbox, queue)| RemovedAccount { mailbox: mailbox.to_string(), queue });
        let key = match self.shelf.key().await {
            Some(id) => Some(self.key_view(&id.to_string()).await?),
            None => None,
        };
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            hostname: config.hostname.clone(),
            started_at: self.started_at,
            key,
            queue: total,
            forecast,
            told_nobody: self.store.told_nobody().await?,
            has_postmaster: config.postmaster.is_some(),
            accounts,
            removed_accounts: removed.collect(),
            expires: expires(&expiries, None),
        })
    }
}

impl Ops {
    async fn key_view(&self, id: &str) -> Result<KeyView, OpsError> {
        let facts = self.store.facts().await?;
        let told = facts.iter().find(|fact| fact.account.is_none() && fact.name == KEY_FACT);
        let since = told.filter(|fact| fact.value.as_deref() == Some(id)).map(|fact| fact.at);
        Ok(KeyView { id: id.to_owned(), since })
    }
}

impl QueueCounts {
    fn add(&mut self, count: &Count) {
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

    fn and(&self, other: &Self) -> Self {
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

fn by<T>(all: Vec<T>, key: impl Fn(&T) -> Address) -> HashMap<Address, T> {
    all.into_iter().map(|one| (key(&one), one)).collect()
}

fn account_status(
    account: &Account,
    queue: QueueCounts,
    standing: Option<&Standing>,
    sign_in: Option<&SignInStatus>,
    last_login: Option<LastLogin>,
    expiries: &[Expiry],
    forecast: Option<ForecastView>,
) -> AccountStatus {
    AccountStatus {
        mailbox: account.mailbox.to_string(),
        login: account.user_name().unwrap_or_default().to_owned(),
        provider: provider(account.provider).to_owned(),
        grant: grant(account.grant).to_owned(),
        sign_in: sign_in.and_then(sign_in_view),
        last_login: last_login.map(|last| LoginView { at: last.at, user: last.user.to_string() }),
        next_probe: standing.filter(|standing| standing.hold.is_none()).map(|standing| standing.prove_at),
        probe_trouble: standing.and_then(|standing| standing.unproven.clone()),
        trouble: sign_in.and_then(|sign_in| sign_in.problem.as_ref()).map(|problem| problem.error.clone()),
        trouble_text: sign_in
            .and_then(|sign_in| sign_in.problem.as_ref())
            .map(|problem| problem.advice.sentence.clone()),
        // Whoever asks knows what replies mean.
        hold: None,
        pause: standing.and_then(|standing| standing.pause.clone()).map(|(until, error)| PauseView { until, error }),
        empty_at: forecast.as_ref().map(|forecast| forecast.empty_at),
        forecast,
        queue,
        pace: PaceView::of(account, standing),
        budget: BudgetView::of(account, standing),
        client_secret_expires: account.client_secret_expires.map(|day| day.to_string()),
        expires: expires(expiries, Some(&account.mailbox)),
        warnings: sign_in.map(|sign_in| warnings(sign_in, account.provider)).unwrap_or_default(),
        clock_ahead_seconds: sign_in.and_then(|sign_in| sign_in.clock_skew).map(|ahead| ahead.as_secs()),
        senders: Vec::new(),
    }
}

/// Those that mail may still leave as: what was taken out of the configuration concerns nobody any more.
fn senders(config: &Config, account: &Account, standings: Vec<SenderStanding>) -> Vec<SenderView> {
    let any = config.apps.iter().chain([&config.default_app]).any(|app| app.sender == SenderPolicy::Keep);
    let concerns = |standing: &SenderStanding| any || account.send_as.contains(&standing.sender);
    let view = |standing: SenderStanding| SenderView {
        address: standing.sender.to_string(),
        state: if standing.refused.is_some() { "refused" } else { "accepted" }.to_owned(),
        since: standing.since,
        last: standing.last,
        remedy: standing.refused.is_some().then(|| grant_send_as(account, &standing.sender)),
        reply: standing.refused,
    };
    standings.into_iter().filter(concerns).map(view).collect()
}

fn grant_send_as(account: &Account, sender: &Address) -> String {
    let Account { mailbox, login, .. } = account;
    let grant = match account.provider {
        Provider::Microsoft => {
            format!("grant Send As with: Add-RecipientPermission {sender} -Trustee {login} -AccessRights SendAs")
        }
        Provider::Google => format!("add {sender} as a \"Send mail as\" address of {mailbox}"),
        Provider::Custom => format!("let {login} send as {sender} at the provider"),
        Provider::SmartHost => format!("let this account send as {sender} at the smarthost"),
    };
    format!("{grant}; then: xoauth2-relay account release {mailbox}")
}

fn expires(expiries: &[Expiry], account: Option<&Address>) -> Vec<ExpiryView> {
    let of_account = expiries.iter().filter(|expiry| expiry.account.as_ref() == account);
    let view = |expiry: &Expiry| ExpiryView {
        what: expiry.what.as_str().to_owned(),
        file: expiry.what.file().map(|file| file.display().to_string()),
        at: expiry.at,
    };
    of_account.map(view).collect()
}

fn warnings(sign_in: &SignInStatus, provider: Provider) -> Vec<WarningView> {
    let findings = sign_in.findings.iter().map(|finding| finding.advice.clone());
    let view = |advice: Advice| WarningView { text: advice.sentence, remedy: advice.command };
    findings.chain(sign_in.clock_advice(provider)).map(view).collect()
}

fn provider(provider: Provider) -> &'static str {
    match provider {
        Provider::Microsoft => "microsoft",
        Provider::Google => "google",
        Provider::Custom => "custom",
        Provider::SmartHost => "smarthost",
    }
}

fn grant(grant: Grant) -> &'static str {
    match grant {
        Grant::Delegated => "delegated",
        Grant::Application => "application",
        Grant::None => "none",
    }
}

fn sign_in_view(status: &SignInStatus) -> Option<SignInView> {
    Some(SignInView {
        signed_in_as: status.signed_in_as.clone(),
        since: status.since?,
        last_refresh: status.last_refresh?,
        next_refresh: status.next_refresh,
        access_token_until: status.access_token_until,
        good_until_at_least: status.good_until_at_least,
    })
}

/// Whether Exchange refused the login without a reason. `5.7.139` comes with one (SMTP AUTH switched off, a policy, a locked account).
fn says_nothing(hold: &Hold) -> bool {
    let reply = hold.reply.as_deref().unwrap_or_default();
    hold.cause == HoldCause::Login && !reply.contains("5.7.139")
}

/// The advice of the sign-in is more exact than what the cause alone tells; and where Exchange gives no reason, what was found in the
/// access token is the likeliest one.
fn hold_view(hold: &Hold, sign_in: Option<&SignInStatus>, account: &Account, own: &[ReplyRule]) -> HoldView {
    use crate::store::HoldCause::{
        Blocked, Clone, Connection, Key, Login, MailboxFull, Manual, NotSignedIn, Permission, Quota, Registration,
        SignIn,
    };
    let mailbox = &hold.account;
    let remedy = match hold.cause {
        NotSignedIn | SignIn => format!("xoauth2-relay login {mailbox}"),
        Registration => format!("change what the error names, then: xoauth2-relay account release {mailbox}"),
        Login | Quota | Blocked | MailboxFull | Permission | Connection => {
            format!("change what the reply names, then: xoauth2-relay account release {mailbox}")
        }
        Key => format!("put the right key back, then: xoauth2-relay account release {mailbox}"),
        // The advice of the sign-in says when to sign in anew instead.
        Clone | Manual => format!("xoauth2-relay account release {mailbox}"),
    };
    let known = sign_in.and_then(|sign_in| sign_in.hold.as_ref()).filter(|known| known.cause == hold.cause);
    let found = sign_in.and_then(|sign_in| sign_in.findings.first()).filter(|_| says_nothing(hold));
    let advice = known.map(|known| &known.advice).or(found.map(|found| &found.advice)).cloned();
    let advice = advice.or_else(|| explain_hold(own, hold, account));
    HoldView {
        cause: hold.cause.as_str().to_owned(),
        text: advice.as_ref().map_or_else(|| hold.cause.to_string(), |advice| advice.sentence.clone()),
        reply: hold.reply.clone(),
        error: hold.error.clone(),
        codes: hold.codes.clone(),
        since: hold.since,
        // Without any sign-in a try by itself comes to nothing: only the person counts.
        probe_at: hold.probe_at.filter(|_| hold.cause != NotSignedIn),
        remedy: advice.map_or(remedy, |advice| advice.command),
    }
}

/// A smarthost is not Exchange, and its login is in the configuration.
fn of_smart_host(account: &Account, hold: &Hold, view: HoldView) -> HoldView {
    if account.signs_in() || hold.cause != HoldCause::Login {
        return view;
    }
    let server = &account.smtp;
    let (text, change) = match &account.password {
        Some(login) => (
            format!("{server} refuses the login as {}", login.user),
            format!("correct login in the configuration or {}", login.password),
        ),
        None => (
            format!("{server} does not take mail from here without a login"),
            "add login and password to the account, or have the server take mail from this machine".to_owned(),
        ),
    };
    let remedy = format!("{change}, then: xoauth2-relay account release {}", account.mailbox);
    HoldView { text, remedy, ..view }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reply_without_a_reason_is_explained_by_what_was_found_in_the_token() {
        let hold = |cause, reply: &str| Hold {
            account: Address::parse("lms@contoso.com").unwrap(),
            cause,
            reply: Some(reply.to_owned()),
            error: None,
            codes: Vec::new(),
            since: Timestamp::UNIX_EPOCH,
            probe_at: None,
            probes: 0,
        };
        let bare = "535 5.7.3 Authentication unsuccessful [FR0P281CA0001.DEUP281.PROD.OUTLOOK.COM]";
        let reason = "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Mailbox";
        assert!(says_nothing(&hold(HoldCause::Login, bare)));
        assert!(!says_nothing(&hold(HoldCause::Login, reason)));
        assert!(!says_nothing(&hold(HoldCause::Manual, "")));
        assert!(!says_nothing(&hold(HoldCause::SignIn, "")));
    }

    #[test]
    fn a_refused_sender_comes_with_what_to_type_unless_nothing_leaves_as_it_any_more() {
        let noreply = Address::parse("noreply@contoso.com").unwrap();
        let account = Account {
            provider: Provider::Microsoft,
            send_as: vec![noreply.clone()],
            ..crate::config::testing::account("help@contoso.com", "svc@contoso.com")
        };
        let config = crate::config::testing::config(vec![account.clone()]);
        let standing = |sender: &Address| SenderStanding {
            sender: sender.clone(),
            refused: Some("554 5.2.252 SendAsDenied".to_owned()),
            since: Timestamp::UNIX_EPOCH,
            last: Timestamp::UNIX_EPOCH,
        };
        let views = senders(&config, &account, vec![standing(&noreply), standing(&account.login)]);
        let [view] = &views[..] else { panic!("{views:?}") };
        assert_eq!((view.address.as_str(), view.state.as_str()), ("noreply@contoso.com", "refused"));
        assert_eq!(
            view.remedy.as_deref(),
            Some(
                "grant Send As with: Add-RecipientPermission noreply@contoso.com -Trustee svc@contoso.com -AccessRights SendAs; then: \
                 xoauth2-relay account release help@contoso.com"
            )
        );
    }
}
