//! One account as `status` shows it: what the scheduler, the keeper of its sign-in and the configuration know of it. Pure.

use super::{
    AccountStatus, ExpiryView, HoldView, LoginView, PauseView, QueueCounts, SenderView, SignInView, WarningView,
};
use crate::config::{Account, Config, Grant, Provider, ReplyRule};
use crate::message::{Address, SenderPolicy};
use crate::ops::expiry::Expiry;
use crate::ops::forecast::ForecastView;
use crate::ops::outside::BudgetView;
use crate::ops::pace::PaceView;
use crate::outbound::replies::explain_hold;
use crate::outbound::{LastLogin, SenderStanding};
use crate::schedule::Standing;
use crate::signin::{Advice, SignInStatus};
use crate::store::{Hold, HoldCause};

/// All that the parts know of it.
pub(super) fn account_status(
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
pub(super) fn senders(config: &Config, account: &Account, standings: Vec<SenderStanding>) -> Vec<SenderView> {
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

pub(super) fn expires(expiries: &[Expiry], account: Option<&Address>) -> Vec<ExpiryView> {
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
pub(super) fn hold_view(hold: &Hold, sign_in: Option<&SignInStatus>, account: &Account, own: &[ReplyRule]) -> HoldView {
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
pub(super) fn of_smart_host(account: &Account, hold: &Hold, view: HoldView) -> HoldView {
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
    use jiff::Timestamp;

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
