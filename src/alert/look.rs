//! From how things stand to what is wrong now. Pure. Whatever can be wrong belongs here, each a function of its own.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use super::trouble::{Cause, Kind, Severity, Trouble};
use crate::message::Address;
use crate::ops::expiry::{Expiring, Expiry};
use crate::ops::{AccountStatus, BudgetView, HoldView, STATUS, Status};
use crate::store::HoldCause;

/// A new account is being set up by somebody who knows that it is not signed in yet.
const SETTING_UP: Duration = Duration::from_mins(15);
/// A hold that a person asked for is told only when it seems forgotten.
const FORGOTTEN: Duration = Duration::from_hours(24);
/// Networks and servers come back by themselves.
const OUTAGE: Duration = Duration::from_mins(30);
/// A refresh that fails is tried again within seconds.
const HICCUP: Duration = Duration::from_mins(5);
/// An access token with less left than this no longer carries mail over an outage.
const ENDS_SOON: Duration = Duration::from_mins(10);
/// A refresh token of Microsoft's lives for 90 days without use; whoever hears after one has 89 left.
const TOO_LONG: Duration = Duration::from_hours(24);
/// A sign-in is renewed at least once a day; this long without any word of failure means that nobody tries.
const FAR_TOO_LONG: Duration = Duration::from_hours(30);
/// A certificate that is being replaced, a disk that is being tidied.
const MOMENT: Duration = Duration::from_mins(2);
/// So many refused senders of one account are told of, each by itself; `account show` has all.
const SENDERS_TOLD: usize = 5;
/// Days left at which a countdown is told.
const THRESHOLDS: [u64; 5] = [30, 14, 7, 3, 1];
/// The stage of a countdown behind the last threshold.
const ENDED: u8 = 6;
/// In seconds.
const DAY: u64 = 86_400;

/// What one look has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Looked {
    /// Every account that is configured.
    pub accounts: Vec<Address>,
    /// What is wrong.
    pub troubles: Vec<Trouble>,
    /// Accounts of which nothing is known yet, just after a start: nothing of them has begun or is over.
    pub unknown: Vec<Address>,
    /// Accounts through which mail leaves, in the order of the configuration: they can carry a warning.
    pub usable: Vec<Address>,
}

/// What is wrong at `now`.
pub fn look(status: &Status, expiries: &[Expiry], has_room: bool, now: Timestamp) -> Looked {
    let mut looked = Looked::default();
    for (n, account) in status.accounts.iter().enumerate() {
        // It came out of an address.
        let Ok(mailbox) = Address::parse(&account.mailbox) else { continue };
        if is_unknown(account) {
            looked.unknown.push(mailbox.clone());
        } else if account.hold.is_none() && account.pause.is_none() {
            looked.usable.push(mailbox.clone());
        }
        // What has stopped the whole tenant is told once, by the first of its accounts.
        if status.accounts[..n].iter().any(|earlier| is_held_together(earlier, account)) {
            looked.troubles.extend(message_held(account, &mailbox));
        } else {
            let others = status.accounts[n + 1..].iter().filter(|other| is_held_together(account, other));
            let others: Vec<&AccountStatus> = others.collect();
            let own = of_account(account, &mailbox, now).into_iter();
            looked.troubles.extend(own.map(|trouble| of_all(trouble, &others)));
        }
        // Accounts that share a login share its day: one of them is told of.
        let shares = |other: &&AccountStatus| other.login == account.login && other.pace.is_day_nearly_used();
        let is_first = status.accounts.iter().find(shares).is_some_and(|first| first.mailbox == account.mailbox);
        looked.troubles.extend(day_nearly_used(account, &mailbox).filter(|_| is_first));
        looked.troubles.extend(budget_nearly_used(account, &status.accounts[..n]));
        looked.accounts.push(mailbox);
    }
    if !has_room {
        looked.troubles.push(disk_full());
    }
    looked.troubles.extend(clock_skew(status));
    looked.troubles.extend(expiries.iter().filter_map(|expiry| countdown(expiry, now)));
    looked
}

/// One hold of their tenant has stopped both: such holds begin at the same instant.
fn is_held_together(one: &AccountStatus, other: &AccountStatus) -> bool {
    let (Some(one), Some(other)) = (&one.hold, &other.hold) else { return false };
    one.reply.is_some() && (&one.cause, one.since) == (&other.cause, other.since)
}

/// The same trouble, as that of these accounts too.
fn of_all(mut trouble: Trouble, others: &[&AccountStatus]) -> Trouble {
    if trouble.cause.kind == Kind::Held && !others.is_empty() {
        let mailboxes: Vec<&str> = others.iter().map(|account| account.mailbox.as_str()).collect();
        trouble.text = format!("{}. It has stopped {} too", trouble.text.trim_end_matches('.'), mailboxes.join(", "));
        let more: u64 = others.iter().map(|account| account.queue.waiting).sum();
        trouble.waiting = trouble.waiting.map(|waiting| waiting + more);
    }
    trouble
}

/// Its keeper has not looked yet.
fn is_unknown(account: &AccountStatus) -> bool {
    account.grant != "none" && account.sign_in.is_none() && account.hold.is_none() && account.trouble.is_none()
}

/// One cause of standing still is enough: a hold says more than a failed refresh, and that more than an upstream that was not tried.
fn of_account(account: &AccountStatus, mailbox: &Address, now: Timestamp) -> Vec<Trouble> {
    let standstill = match &account.hold {
        Some(hold) => Some(held(account, hold, mailbox)),
        None => sign_in_trouble(account, mailbox, now)
            .or_else(|| unreachable(account, mailbox))
            .or_else(|| unproven(account, mailbox)),
    };
    standstill.into_iter().chain(message_held(account, mailbox)).chain(senders_refused(account, mailbox)).collect()
}

fn held(account: &AccountStatus, hold: &HoldView, mailbox: &Address) -> Trouble {
    let cause = HoldCause::parse(&hold.cause);
    let (settles_after, severity) = match cause {
        Some(HoldCause::NotSignedIn) => (SETTING_UP, Severity::Critical),
        Some(HoldCause::Manual) => (FORGOTTEN, Severity::Warning),
        _ => (Duration::ZERO, Severity::Critical),
    };
    let text = match cause {
        Some(HoldCause::Manual) => "An administrator holds the account, and nobody has released it since".to_owned(),
        _ => hold.text.clone(),
    };
    Trouble {
        cause: Cause::of(Kind::Held, mailbox),
        severity,
        stage: cause.map_or(0, |cause| cause as u8),
        settles_after,
        since: Some(hold.since),
        ends: None,
        title: match cause {
            Some(HoldCause::Manual) => format!("Mail through {mailbox} is still held"),
            Some(HoldCause::NotSignedIn) => format!("Mail through {mailbox} waits for a first sign-in"),
            _ => format!("Mail through {mailbox} has stopped"),
        },
        text,
        waiting: Some(account.queue.waiting),
        error: hold.reply.clone().or_else(|| hold.error.clone()),
        codes: hold.codes.clone(),
        todo: to_do(hold),
    }
}

/// What passes by itself is told with the time at which it may have passed.
fn to_do(hold: &HoldView) -> String {
    match hold.probe_at {
        _ if hold.remedy != STATUS => hold.remedy.clone(),
        Some(at) => {
            let at = at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M %Z");
            format!("Nothing: it is tried again by itself, the next time at {at}")
        }
        None => "Nothing: it is tried again by itself".to_owned(),
    }
}

/// A sign-in that is not renewed: mail stops when the access token ends, and after 90 days the sign-in is dead.
fn sign_in_trouble(account: &AccountStatus, mailbox: &Address, now: Timestamp) -> Option<Trouble> {
    let sign_in = account.sign_in.as_ref();
    let last_refresh = sign_in.map(|sign_in| sign_in.last_refresh);
    let rested = last_refresh.and_then(|at| Duration::try_from(now.duration_since(at)).ok()).unwrap_or_default();
    let token_until = sign_in.and_then(|sign_in| sign_in.access_token_until);
    let has_token = token_until.is_some_and(|until| until > now);
    let ends_soon = token_until.is_none_or(|until| until <= now + ENDS_SOON);
    let fails = account.trouble.is_some();
    if !(fails && (ends_soon || rested >= TOO_LONG) || rested >= FAR_TOO_LONG) {
        return None;
    }
    let text = match (fails, has_token) {
        (true, false) => {
            "There is no access token, and the token endpoint gives no new one, so no mail can leave".to_owned()
        }
        (true, true) if rested < TOO_LONG => {
            "The access token ends within minutes, and the token endpoint gives no new one: then no mail can leave"
                .to_owned()
        }
        _ => {
            let hours = rested.as_secs() / 3600;
            let dies = if account.grant == "delegated" && account.provider == "microsoft" {
                "; without one it dies after 90 days"
            } else {
                ""
            };
            format!("No refresh of the sign-in has succeeded for {hours} hours{dies}")
        }
    };
    Some(Trouble {
        cause: Cause::of(Kind::SignInTrouble, mailbox),
        severity: if has_token { Severity::Warning } else { Severity::Critical },
        stage: 0,
        settles_after: HICCUP,
        since: last_refresh,
        ends: None,
        title: format!("The sign-in of {mailbox} cannot be renewed"),
        text,
        waiting: Some(account.queue.waiting),
        error: account.trouble.clone(),
        codes: Vec::new(),
        todo: "If it does not pass, see that this machine reaches the token endpoint (network, proxy, DNS, clock); it is tried again by \
               itself. How it stands: xoauth2-relay status"
            .to_owned(),
    })
}

fn unreachable(account: &AccountStatus, mailbox: &Address) -> Option<Trouble> {
    let pause = account.pause.as_ref().filter(|_| account.queue.waiting > 0)?;
    Some(Trouble { error: Some(pause.error.clone()), ..unreachable_by(account, mailbox) })
}

fn unreachable_by(account: &AccountStatus, mailbox: &Address) -> Trouble {
    Trouble {
        cause: Cause::of(Kind::Unreachable, mailbox),
        severity: Severity::Critical,
        stage: 0,
        settles_after: OUTAGE,
        since: None,
        ends: None,
        title: format!("Mail through {mailbox} does not leave"),
        text: "The mail server cannot be reached, or ends every conversation".to_owned(),
        waiting: Some(account.queue.waiting),
        error: None,
        codes: Vec::new(),
        todo: "If it does not pass, see that this machine reaches the mail server (network, firewall, DNS); it is tried again by itself. How \
               it stands: xoauth2-relay status"
            .to_owned(),
    }
}

/// No mail waits, but the daily login has failed time and again: the next mail would wait.
fn unproven(account: &AccountStatus, mailbox: &Address) -> Option<Trouble> {
    let error = account.probe_trouble.clone()?;
    Some(Trouble {
        severity: Severity::Warning,
        title: format!("Mail through {mailbox} would not leave"),
        text: "The daily login to the mail server has failed several times; no mail waits yet".to_owned(),
        error: Some(error),
        ..unreachable_by(account, mailbox)
    })
}

/// A program that may send in any name can have any number of them refused.
fn senders_refused<'a>(account: &'a AccountStatus, mailbox: &'a Address) -> impl Iterator<Item = Trouble> + 'a {
    let refused = account.senders.iter().filter(|sender| sender.state == "refused");
    refused.take(SENDERS_TOLD).map(move |sender| Trouble {
        cause: Cause { subject: Some(sender.address.clone()), ..Cause::of(Kind::SenderRefused, mailbox) },
        severity: Severity::Warning,
        stage: 0,
        settles_after: Duration::ZERO,
        since: Some(sender.since),
        ends: None,
        title: format!("Exchange does not let {mailbox} send as {}", sender.address),
        text: "Its mail leaves as the mailbox meanwhile; of an app with sender = \"keep\" or \"refuse\" it is refused"
            .to_owned(),
        waiting: None,
        error: sender.reply.clone(),
        codes: Vec::new(),
        todo: sender.remedy.clone().unwrap_or_default(),
    })
}

/// What `recipients_allow` keeps back is kept back on purpose, and so is what somebody has set aside with `queue hold`.
fn message_held(account: &AccountStatus, mailbox: &Address) -> Option<Trouble> {
    let held = account.queue.held.saturating_sub(account.queue.held_by_rule + account.queue.held_by_order);
    (held > 0).then(|| Trouble {
        cause: Cause::of(Kind::MessageHeld, mailbox),
        severity: Severity::Critical,
        stage: 0,
        settles_after: Duration::ZERO,
        since: None,
        ends: None,
        title: match held {
            1 => format!("A message of {mailbox} is set aside"),
            _ => format!("{held} messages of {mailbox} are set aside"),
        },
        text: "It waits for a person; its journal says why. All other mail goes on".to_owned(),
        waiting: None,
        error: None,
        codes: Vec::new(),
        todo: "xoauth2-relay queue list shows it; then queue show ID for the reason, and queue retry ID or queue delete ID".to_owned(),
    })
}

/// While there is time to do something about it.
fn day_nearly_used(account: &AccountStatus, mailbox: &Address) -> Option<Trouble> {
    account.pace.is_day_nearly_used().then(|| Trouble {
        cause: Cause::of(Kind::DayNearlyUsed, mailbox),
        severity: Severity::Warning,
        stage: 0,
        settles_after: MOMENT,
        since: None,
        ends: None,
        title: format!("{} has nearly used its recipients of a day", account.login),
        text: account.pace.day_in_words(),
        waiting: Some(account.queue.waiting),
        error: None,
        codes: Vec::new(),
        todo: format!(
            "Nothing, if this was a single large mailing: mail waits and then leaves by itself. Otherwise put a second account into the \
             configuration for some of the apps; raise recipients_per_day of {mailbox} if its provider allows it more; or, for mail within \
             the organisation, use Microsoft's High Volume Email. When the queue will be empty: xoauth2-relay status"
        ),
    })
}

/// Of all accounts of a tenant once: of the first one that has it.
fn budget_nearly_used(account: &AccountStatus, earlier: &[AccountStatus]) -> Option<Trouble> {
    let budget = account.budget.as_ref().filter(|budget| budget.is_nearly_used())?;
    let is_told = |other: &AccountStatus| other.budget.as_ref().is_some_and(|other| other.is_of_same_tenant(budget));
    if earlier.iter().any(is_told) {
        return None;
    }
    let BudgetView { tenant, .. } = budget;
    Some(Trouble {
        // However each account writes it.
        cause: Cause { subject: Some(tenant.to_ascii_lowercase()), ..Cause::of_relay(Kind::BudgetNearlyUsed) },
        severity: Severity::Warning,
        stage: 0,
        settles_after: MOMENT,
        since: None,
        ends: None,
        title: format!("{tenant} has nearly used its external recipients of a day"),
        text: budget.warning_in_words(),
        waiting: None,
        error: None,
        codes: Vec::new(),
        todo: "Nothing, if this was a single large mailing: mail waits and then leaves by itself. Otherwise see who sends so much (Exchange \
               admin center, report Tenant Outbound External Recipients); raise external_recipients_per_day of the [[tenant]] if Microsoft \
               allows it more, since the limit grows with the licences; or add a domain of the organisation's own that is missing in its domains"
            .to_owned(),
    })
}

fn disk_full() -> Trouble {
    Trouble {
        cause: Cause::of_relay(Kind::DiskFull),
        severity: Severity::Critical,
        stage: 0,
        settles_after: MOMENT,
        since: None,
        ends: None,
        title: "The disk is too full to take mail".to_owned(),
        text:
            "Less than min_free_disk is left on the volume of data_dir, so programs are told to try again later (452)"
                .to_owned(),
        waiting: None,
        error: None,
        codes: Vec::new(),
        todo: "Make room on the volume of data_dir; mail is taken again at once".to_owned(),
    }
}

/// Found by the token endpoints' answers, so one account that knows is enough.
fn clock_skew(status: &Status) -> Option<Trouble> {
    let ahead = status.accounts.iter().find_map(|account| account.clock_ahead_seconds)?;
    let minutes = ahead.unsigned_abs().saturating_add(30) / 60;
    let direction = if ahead < 0 { "behind" } else { "ahead" };
    Some(Trouble {
        cause: Cause::of_relay(Kind::ClockSkew),
        severity: Severity::Warning,
        stage: 0,
        settles_after: OUTAGE,
        since: None,
        ends: None,
        title: "The clock of this machine is wrong".to_owned(),
        text: format!(
            "By the token endpoint's clock it is {minutes} minutes {direction}. Certificates and signed requests fail by that, and every time in \
             a log is wrong"
        ),
        waiting: None,
        error: None,
        codes: Vec::new(),
        todo: "timedatectl set-ntp true".to_owned(),
    })
}

/// A warning once one of the thresholds is reached. One that is more than a third of the whole life is none: a certificate that is
/// renewed every few weeks would always be about to end.
fn countdown(expiry: &Expiry, now: Timestamp) -> Option<Trouble> {
    let left = expiry.at.as_second() - now.as_second();
    let is_meant = |days: u64| expiry.life.is_none_or(|life| DAY * 3 * days < life.as_secs());
    let is_reached = |days: u64| left <= i64::try_from(DAY * days).unwrap_or(i64::MAX);
    let reached =
        (1..).zip(THRESHOLDS).filter(|&(_, days)| is_meant(days) && is_reached(days)).map(|(stage, _)| stage).last();
    let has_ended = expiry.has_ended(now);
    let stage = if has_ended { ENDED } else { reached? };
    let (kind, subject, what) = match &expiry.what {
        Expiring::ClientSecret { .. } => {
            let whose = expiry.account.as_ref().map_or_else(String::new, Address::to_string);
            (Kind::ClientSecret, None, format!("The client secret of {whose}"))
        }
        Expiring::ClientCertificate(file) => {
            (Kind::ClientCertificate, None, format!("The certificate {} of the app registration", file.display()))
        }
        Expiring::ListenerCertificate(file) => {
            let file = file.display().to_string();
            (Kind::ListenerCertificate, Some(file.clone()), format!("The certificate {file}"))
        }
    };
    let title = match u64::try_from(left).unwrap_or_default().div_ceil(DAY) {
        _ if has_ended => format!("{what} has ended"),
        1 => format!("{what} ends within a day"),
        days => format!("{what} ends in {days} days"),
    };
    let (text, todo) = what_then(&expiry.what);
    Some(Trouble {
        cause: Cause { kind, account: expiry.account.clone(), subject },
        severity: Severity::Warning,
        stage,
        settles_after: MOMENT,
        since: None,
        ends: Some(expiry.at),
        title,
        text: text.to_owned(),
        waiting: None,
        error: None,
        codes: Vec::new(),
        todo: todo.to_owned(),
    })
}

/// What happens then, and what to do before.
fn what_then(what: &Expiring) -> (&'static str, &'static str) {
    match what {
        Expiring::ClientSecret { has_next: true } => (
            "From then on access tokens come by next_client_secret alone, and mail stops if that does not work",
            "See that it works: xoauth2-relay account drop-secret refuses if it has not. Then put it in the place of client_secret, and set \
             client_secret_expires",
        ),
        Expiring::ClientSecret { has_next: false } => (
            "From then on there are no access tokens, and mail stops",
            "Make a new client secret in the app registration (Entra portal: Certificates & secrets), put its Value in place of the old \
             one, and set client_secret_expires; no new sign-in is needed",
        ),
        Expiring::ClientCertificate(_) => (
            "From then on there are no access tokens, and mail stops",
            "Make a new certificate, upload it to the app registration beside the old one (Entra portal: Certificates & secrets), then \
             replace the files here; they are used at the next request, without a restart",
        ),
        Expiring::ListenerCertificate(_) => (
            "From then on programs that check it refuse to hand in mail over TLS",
            "Renew it, and see that the new files get to this place; they are used within seconds, without a restart",
        ),
    }
}

#[cfg(test)]
mod tests;
