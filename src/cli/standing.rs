//! `status` and `account show` for people: what needs somebody first, then what to know, one line each under a short name.

use std::fmt::Write;

use jiff::{Timestamp, tz::TimeZone};

use super::show::{count, journal_line, printable, to_do};
use super::when::{both, clock, days, distance, time};
use crate::ops::{
    AccountDetail, AccountStatus, ExpiryView, ForecastView, HoldView, QueueCounts, RemovedAccount, STATUS, SignInView,
    SlowdownView, Status, grouped,
};

/// The names in front of the lines are made as wide as the longest one.
const NAME: usize = 12;

/// Lines of one account.
struct Sheet {
    text: String,
}

impl Sheet {
    /// `  queue        3 waiting`
    fn line(&mut self, name: &str, value: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "  {name:NAME$} {}", printable(value));
    }

    fn some(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            self.line(name, value);
        }
    }
}

/// `status`.
pub(in crate::cli) fn status(status: &Status, now: Timestamp) -> String {
    let mut text = String::new();
    let since = both(status.started_at, now);
    let _ = writeln!(text, "xoauth2-relay {} on {}, running since {since}", status.version, status.hostname);
    let _ = writeln!(text, "{}", in_all(status, now));
    if let Some((key, since)) = status.key.as_ref().and_then(|key| Some((key, key.since?))) {
        let _ = writeln!(text, "sign-ins are sealed with the key {} since {}", key.id, time(since));
    }
    // What needs somebody is not to be looked for.
    let (held, well): (Vec<_>, Vec<_>) = status.accounts.iter().partition(|account| account.hold.is_some());
    for account in held.into_iter().chain(well) {
        text.push('\n');
        text.push_str(&account_sheet(account, now));
    }
    for removed in &status.removed_accounts {
        text.push('\n');
        text.push_str(&removed_sheet(removed, now));
    }
    for expiry in &status.expires {
        let _ = writeln!(text, "\nends: {}", ends(expiry, now));
    }
    // What was set aside on purpose is counted with its account.
    let by_itself = status.queue.held.saturating_sub(status.queue.held_by_rule + status.queue.held_by_order);
    if by_itself > 0 {
        let held = count(usize::try_from(by_itself).unwrap_or(usize::MAX), "message");
        let _ = writeln!(
            text,
            "\n{held} held one by one: see `xoauth2-relay queue list`, and `queue show ID` for why and what to do"
        );
    }
    if status.queue.dead > 0 {
        let dead = count(usize::try_from(status.queue.dead).unwrap_or(usize::MAX), "dead letter");
        let _ = writeln!(text, "\n{dead}: see `xoauth2-relay queue list`, and `queue show ID` for the reason");
    }
    if status.told_nobody > 0 {
        let refusals = count(usize::try_from(status.told_nobody).unwrap_or(usize::MAX), "refusal");
        let remedy = if status.has_postmaster { "" } else { "; set postmaster in the configuration to be told" };
        let _ = writeln!(text, "{refusals} among them of which nobody was told{remedy}");
    }
    text
}

fn in_all(status: &Status, now: Timestamp) -> String {
    let held = status.accounts.iter().filter(|account| account.hold.is_some()).count();
    let accounts = count(status.accounts.len(), "account");
    let accounts = if held == 0 { accounts } else { format!("{accounts}, {held} HELD") };
    let waiting = status.queue.waiting;
    let waits = if waiting == 0 { "no mail waits".to_owned() } else { format!("{waiting} waiting") };
    let queues = status.accounts.iter().map(|account| (&account.queue, &account.forecast));
    let removed = status.removed_accounts.iter().map(|removed| (&removed.queue, &removed.forecast));
    let stays = queues.chain(removed).any(|(queue, forecast)| queue.waiting > 0 && forecast.is_none());
    let forecast = status.forecast.as_ref().map(|forecast| match empty(forecast, now) {
        empty if stays => format!(", what can leave will be gone{}", empty.trim_start_matches("empty")),
        empty => format!(", {empty}"),
    });
    format!("{accounts}; {waits}{}", forecast.unwrap_or_default())
}

/// `account show`.
pub(in crate::cli) fn account(detail: &AccountDetail, now: Timestamp) -> String {
    let mut sheet = Sheet { text: account_sheet(&detail.status, now) };
    sheet.line("through", &detail.smtp);
    sheet.some("may send as", Some(&detail.send_as.join(", ")));
    for sender in detail.status.senders.iter().filter(|sender| sender.state == "accepted") {
        sheet.line("sent as", &format!("{}, accepted since {}", sender.address, both(sender.since, now)));
    }
    sheet.some("tenant", Some(&detail.tenant));
    sheet.some("client id", Some(&detail.client_id));
    sheet.some("token from", Some(&detail.token_url));
    sheet.some("scopes", Some(&detail.scopes.join(" ")));
    let mut text = sheet.text;
    if detail.journal.is_empty() {
        let _ = writeln!(text, "\n  nothing has happened to it lately");
    } else {
        let _ = writeln!(text, "\n  what happened to it lately:");
    }
    for entry in &detail.journal {
        let _ = writeln!(text, "    {}", journal_line(entry));
    }
    text
}

fn account_sheet(account: &AccountStatus, now: Timestamp) -> String {
    let state = match (&account.hold, &account.pause) {
        (Some(hold), _) => format!("HELD since {}", both(hold.since, now)),
        (None, Some(_)) => "pausing".to_owned(),
        (None, None) => "good".to_owned(),
    };
    let mut sheet = Sheet { text: format!("{}: {state}\n", account.mailbox) };
    if let Some(hold) = &account.hold {
        hold_lines(&mut sheet, hold, &account.mailbox, now);
    } else if let Some(pause) = &account.pause {
        sheet.line("because", &pause.error);
        sheet.line("next try", &both(pause.until, now));
    }
    sheet.line("queue", &counts(&account.queue, now));
    sheet.some("forecast", account.forecast.as_ref().map(|forecast| forecast_line(forecast, account, now)).as_deref());
    sign_in_lines(&mut sheet, account, now);
    login_lines(&mut sheet, account, now);
    for (n, warning) in account.warnings.iter().enumerate() {
        sheet.line(if n == 0 { "warning" } else { "" }, &format!("{}. Then: {}", warning.text, warning.remedy));
    }
    let refused = account.senders.iter().filter(|sender| sender.state == "refused");
    for (n, sender) in refused.enumerate() {
        let since = both(sender.since, now);
        let remedy = sender.remedy.as_deref().unwrap_or_default();
        sheet.line(if n == 0 { "sender" } else { "" }, &format!("{} refused since {since}: {remedy}", sender.address));
        sheet.some("", sender.reply.as_deref().map(|reply| format!("Exchange says: {reply}")).as_deref());
    }
    for (n, line) in account.expires.iter().map(|expiry| ends(expiry, now)).enumerate() {
        sheet.line(if n == 0 { "expires" } else { "" }, &line);
    }
    pace_lines(&mut sheet, account, now);
    sheet.text
}

/// Its mail waits for it, unless other accounts of its apps carry all of it. Dead letters alone wait for nothing.
fn removed_sheet(removed: &RemovedAccount, now: Timestamp) -> String {
    let RemovedAccount { mailbox, queue, forecast } = removed;
    let is_held = forecast.is_none() && queue.waiting + queue.held > 0;
    let state = if is_held { "HELD, " } else { "" };
    let mut sheet = Sheet { text: format!("{mailbox}: {state}no longer in the configuration\n") };
    if forecast.is_none() {
        let elsewhere = format!("xoauth2-relay queue move --to MAILBOX --account {mailbox}");
        let remedy = format!("put the account back into the configuration, or let another one send it: {elsewhere}");
        sheet.line("to do", &remedy);
    }
    sheet.line("queue", &counts(queue, now));
    let through = |forecast: &ForecastView| {
        format!("{}{}", empty(forecast, now), carried_by(forecast, mailbox).unwrap_or_default())
    };
    sheet.some("forecast", forecast.as_ref().map(through).as_deref());
    sheet.text
}

fn hold_lines(sheet: &mut Sheet, hold: &HoldView, mailbox: &str, now: Timestamp) {
    sheet.line("why", &hold.text);
    // That nobody has signed in was nobody's answer.
    let said = hold.reply.iter().chain(&hold.error).filter(|_| hold.cause != "not_signed_in");
    for (n, said) in said.enumerate() {
        sheet.line(if n == 0 { "answer" } else { "" }, said);
    }
    sheet.line("to do", to_do(hold));
    if let Some(at) = hold.probe_at {
        // Whoever has just mended something need not wait.
        let release = format!("xoauth2-relay account release {mailbox}");
        let is_told = hold.remedy == STATUS || hold.remedy.contains(&release);
        let at_once = if is_told { String::new() } else { format!("; at once with: {release}") };
        sheet.line("next try", &format!("{}, by itself{at_once}", both(at, now)));
    }
}

fn pace_lines(sheet: &mut Sheet, account: &AccountStatus, now: Timestamp) {
    let pace = &account.pace;
    let used = format!(
        "{} of {} messages in the last minute, {} of {} recipients in the last 24 hours",
        pace.last_minute,
        pace.messages_per_minute,
        grouped(pace.last_day),
        grouped(u64::from(pace.recipients_per_day))
    );
    sheet.line("pace", &used);
    let who = if account.provider == "microsoft" { "Exchange" } else { "the mail server" };
    for SlowdownView { what, level, since, said } in &pace.slowed {
        let level = match (what.as_str(), level) {
            ("connections", 1) => "1 session".to_owned(),
            ("connections", level) => format!("{level} sessions"),
            (_, level) => format!("{level} a minute"),
        };
        sheet.line("", &format!("slowed down: {level} since {} because {who} said: {said}", clock(*since, now)));
    }
    if pace.is_day_nearly_used() {
        sheet.line("", &format!("warning: {}", pace.day_in_words()));
    }
    match &account.budget {
        Some(budget) if budget.is_nearly_used() => {
            sheet.line("outside", &format!("warning: {}", budget.warning_in_words()));
        }
        Some(budget) => sheet.line("outside", &budget.in_words()),
        None => {}
    }
}

/// `empty in about 40 minutes (11:20)`
fn empty(forecast: &ForecastView, now: Timestamp) -> String {
    match distance(forecast.empty_at, now).strip_prefix("in ") {
        Some(span) => format!("empty in about {span} ({})", clock(forecast.empty_at, now)),
        None => "empty in a few seconds".to_owned(),
    }
}

fn forecast_line(forecast: &ForecastView, account: &AccountStatus, now: Timestamp) -> String {
    let (empty, others) = (empty(forecast, now), carried_by(forecast, &account.mailbox));
    let limit = grouped(u64::from(account.pace.recipients_per_day));
    let why = match (forecast.limited_by.as_str(), &others) {
        ("day", None) => format!(": the day's {limit} recipients are the limit"),
        ("day", Some(_)) => ": their recipients of a day are the limit".to_owned(),
        ("budget", _) => ": the recipients outside the tenant in a day are the limit".to_owned(),
        ("retry", _) => ": then the last message is due to be tried again".to_owned(),
        _ => String::new(),
    };
    format!("{empty}{}{why}", others.unwrap_or_default())
}

/// `, through lms2@contoso.com and lms3@contoso.com`; `None` if it is the account's own business.
fn carried_by(forecast: &ForecastView, mailbox: &str) -> Option<String> {
    match forecast.carried_by.as_slice() {
        [] => None,
        [own] if own == mailbox => None,
        [one] => Some(format!(", through {one}")),
        [one, other] => Some(format!(", through {one} and {other}")),
        [one, others @ ..] => Some(format!(", through {one} and {} others", others.len())),
    }
}

fn counts(queue: &QueueCounts, now: Timestamp) -> String {
    let mut parts = vec![format!("{} waiting", queue.waiting)];
    if let Some(oldest) = queue.oldest {
        parts.push(format!("the oldest since {}", both(oldest, now)));
    }
    let (by_rule, by_order) = (queue.held_by_rule, queue.held_by_order);
    let others = queue.held.saturating_sub(by_rule + by_order);
    if others > 0 {
        parts.push(format!("{others} held one by one"));
    }
    if by_order > 0 {
        parts.push(format!("{by_order} held by queue hold"));
    }
    if by_rule > 0 {
        parts.push(format!("{by_rule} held by recipients_allow"));
    }
    if queue.dead > 0 {
        parts.push(format!("{} dead", queue.dead));
    }
    parts.join(", ")
}

fn sign_in_lines(sheet: &mut Sheet, account: &AccountStatus, now: Timestamp) {
    if account.grant == "none" {
        let login =
            if account.login.is_empty() { "no login" } else { &format!("user name {} and a password", account.login) };
        return sheet.line("smarthost", &format!("{login}; nobody signs in"));
    }
    let by_itself = account.grant == "application";
    let Some(SignInView { signed_in_as, since, last_refresh, next_refresh, good_until_at_least, .. }) =
        &account.sign_in
    else {
        if by_itself {
            return sheet.line("signed in", "by itself, but has no access token yet");
        }
        let who = if account.login == account.mailbox { String::new() } else { format!(": {} has to", account.login) };
        return sheet.line("signed in", &format!("no{who}"));
    };
    let who = if by_itself { "by itself" } else { &format!("as {}", signed_in_as.as_ref().unwrap_or(&account.login)) };
    sheet.line("signed in", &format!("{who}, since {}", both(*since, now)));
    let next = next_refresh.map(|at| format!(", again {}", distance(at, now))).unwrap_or_default();
    sheet.line("renewed", &format!("{}{next}", both(*last_refresh, now)));
    if let Some(at) = good_until_at_least {
        sheet.line("good until", &format!("{} at least, even if nothing renews it", both(*at, now)));
    }
    sheet.some("trouble", account.trouble.as_deref().map(|error| format!("renewing it fails: {error}")).as_deref());
    sheet.some("", account.trouble_text.as_deref());
}

fn login_lines(sheet: &mut Sheet, account: &AccountStatus, now: Timestamp) {
    let value = match &account.last_login {
        Some(last) => {
            let is_exchange = account.grant != "none";
            let is_told = is_exchange && account.login != account.mailbox;
            let who = if is_told { format!(", as {}", last.user) } else { String::new() };
            let server = if is_exchange { "Exchange" } else { "the server" };
            format!("{server} last took it {}{who}", both(last.at, now))
        }
        None if account.sign_in.is_none() && account.grant != "none" => return,
        None => "not tried yet".to_owned(),
    };
    sheet.line("login", &value);
    sheet.some("", account.probe_trouble.as_deref().map(|error| format!("trying it daily fails: {error}")).as_deref());
}

/// What ends on which day, by the calendar of this machine; a day that was configured is that day everywhere.
fn ends(expiry: &ExpiryView, now: Timestamp) -> String {
    let (what, zone) = match &expiry.file {
        Some(file) => (format!("the certificate {file}"), TimeZone::system()),
        None => ("the client secret".to_owned(), TimeZone::UTC),
    };
    let (day, today) = (expiry.at.to_zoned(zone).date(), now.to_zoned(TimeZone::system()).date());
    format!("{what} on {day} ({})", days(day, today))
}

#[cfg(test)]
mod tests;
