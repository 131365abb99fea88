//! What an administrator sees.

use super::*;
use crate::ops::{AccountView, BudgetView, JournalView, LoginView, PaceView, PauseView, WarningView};

fn now() -> Timestamp {
    Timestamp::from_second(1_795_000_000).unwrap()
}

fn ago(minutes: u64) -> Timestamp {
    now() - std::time::Duration::from_mins(minutes)
}

fn good(mailbox: &str) -> AccountStatus {
    AccountStatus {
        mailbox: mailbox.to_owned(),
        login: mailbox.to_owned(),
        provider: "microsoft".to_owned(),
        grant: "delegated".to_owned(),
        sign_in: Some(SignInView {
            signed_in_as: Some(mailbox.to_owned()),
            since: ago(60 * 24 * 90),
            last_refresh: ago(20),
            next_refresh: Some(now() + std::time::Duration::from_mins(25)),
            access_token_until: None,
            good_until_at_least: Some(now() + std::time::Duration::from_hours(24 * 89)),
        }),
        last_login: Some(LoginView { at: ago(3), user: mailbox.to_owned() }),
        next_probe: None,
        probe_trouble: None,
        trouble: None,
        trouble_text: None,
        hold: None,
        pause: None,
        queue: QueueCounts::default(),
        pace: PaceView {
            under_way: 0,
            connections: 3,
            last_minute: 3,
            messages_per_minute: 30,
            last_day: 120,
            recipients_per_day: 10_000,
            slowed: Vec::new(),
        },
        budget: None,
        empty_at: None,
        forecast: None,
        client_secret_expires: None,
        expires: Vec::new(),
        warnings: Vec::new(),
        clock_ahead_seconds: None,
        senders: Vec::new(),
    }
}

fn held(mailbox: &str) -> AccountStatus {
    AccountStatus {
        login: "svc@contoso.com".to_owned(),
        hold: Some(HoldView {
            cause: "login".to_owned(),
            text: "Exchange refuses the login".to_owned(),
            reply: Some("535 5.7.3 Authentication unsuccessful\n[SN2PR00CA0018]".to_owned()),
            error: Some(format!("as {mailbox}: 535 5.7.139 no")),
            codes: Vec::new(),
            since: ago(50),
            probe_at: Some(now() + std::time::Duration::from_mins(10)),
            remedy: format!("xoauth2-relay account release {mailbox}"),
        }),
        queue: QueueCounts { waiting: 14, dead: 1, oldest: Some(ago(120)), ..QueueCounts::default() },
        expires: vec![
            ExpiryView { what: "client_secret".to_owned(), file: None, at: "2027-05-01T00:00:00Z".parse().unwrap() },
            ExpiryView {
                what: "certificate".to_owned(),
                file: Some("/etc/relay/app.pem".to_owned()),
                at: now() + std::time::Duration::from_hours(24 * 400),
            },
        ],
        warnings: vec![WarningView {
            text: "This machine's clock is 7 minutes ahead of Microsoft's: set up NTP".to_owned(),
            remedy: "timedatectl set-ntp true".to_owned(),
        }],
        ..good(mailbox)
    }
}

fn of(accounts: Vec<AccountStatus>) -> String {
    let held = accounts.iter().map(|account| account.queue.held).sum();
    let held_by_rule = accounts.iter().map(|account| account.queue.held_by_rule).sum();
    let held_by_order = accounts.iter().map(|account| account.queue.held_by_order).sum();
    let queue = QueueCounts { waiting: 14, dead: 1, held, held_by_rule, held_by_order, ..QueueCounts::default() };
    super::status(&Status { queue, ..status_of(accounts) }, now())
}

fn status_of(accounts: Vec<AccountStatus>) -> Status {
    let (version, hostname) = ("1.0".to_owned(), "relay".to_owned());
    Status {
        version,
        hostname,
        started_at: ago(180),
        key: None,
        queue: QueueCounts::default(),
        forecast: None,
        accounts,
        told_nobody: 0,
        has_postmaster: false,
        removed_accounts: Vec::new(),
        expires: Vec::new(),
    }
}

/// Times of the machine that runs the test made the same everywhere.
fn without_times(text: &str) -> Vec<String> {
    let is_time = |word: &str| {
        word.len() >= 8 && word.trim_end_matches(',').bytes().all(|b| b.is_ascii_digit() || b"-:".contains(&b))
    };
    text.lines().map(|line| line.split(' ').filter(|word| !is_time(word)).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn what_needs_somebody_comes_first_and_says_why_what_was_answered_and_what_to_type() {
    let text = of(vec![good("good@contoso.com"), held("lms@contoso.com")]);
    let expected = "\
xoauth2-relay 1.0 on relay, running since (3 hours ago)
2 accounts, 1 HELD; 14 waiting

lms@contoso.com: HELD since (50 minutes ago)
  why          Exchange refuses the login
  answer       535 5.7.3 Authentication unsuccessful [SN2PR00CA0018]
               as lms@contoso.com: 535 5.7.139 no
  to do        xoauth2-relay account release lms@contoso.com
  next try     (in 10 minutes), by itself
  queue        14 waiting, the oldest since (2 hours ago), 1 dead
  signed in    as lms@contoso.com, since (3 months ago)
  renewed      (20 minutes ago), again in 25 minutes
  good until   (in 2 months) at least, even if nothing renews it
  login        Exchange last took it (3 minutes ago), as lms@contoso.com
  warning      This machine's clock is 7 minutes ahead of Microsoft's: set up NTP. Then: timedatectl set-ntp true
  expires      the client secret on (in 164 days)
               the certificate /etc/relay/app.pem on (in 400 days)
  pace         3 of 30 messages in the last minute, 120 of 10,000 recipients in the last 24 hours

good@contoso.com: good
  queue        0 waiting
  signed in    as good@contoso.com, since (3 months ago)
  renewed      (20 minutes ago), again in 25 minutes
  good until   (in 2 months) at least, even if nothing renews it
  login        Exchange last took it (3 minutes ago)
  pace         3 of 30 messages in the last minute, 120 of 10,000 recipients in the last 24 hours

1 dead letter: see `xoauth2-relay queue list`, and `queue show ID` for the reason";
    assert_eq!(without_times(&text).join("\n"), expected, "\n{text}");
}

#[test]
fn what_fails_without_holding_anything_is_told() {
    let account = AccountStatus {
        trouble: Some("no answer".to_owned()),
        probe_trouble: Some("connection refused".to_owned()),
        last_login: None,
        ..good("lms@contoso.com")
    };
    let text = of(vec![account]);
    for line in [
        "  trouble      renewing it fails: no answer",
        "  login        not tried yet",
        "               trying it daily fails: connection refused",
    ] {
        assert!(text.lines().any(|told| told == line), "{line:?} is not in\n{text}");
    }
    let nobody = AccountStatus { sign_in: None, last_login: None, ..good("lms@contoso.com") };
    let text = of(vec![nobody]);
    assert!(text.contains("  signed in    no\n") && !text.contains("  login "), "{text}");
    let shared = AccountStatus { sign_in: None, login: "svc@contoso.com".to_owned(), ..good("lms@contoso.com") };
    assert!(of(vec![shared]).contains("  signed in    no: svc@contoso.com has to\n"));
}

#[test]
fn an_account_is_shown_with_its_registration_and_its_journal() {
    let journal = vec![JournalView { at: ago(50), text: "held, Exchange refuses the login\x1b[2J".to_owned() }];
    let detail = AccountDetail {
        status: held("lms@contoso.com"),
        smtp: "smtp.office365.com:587".to_owned(),
        send_as: Vec::new(),
        tenant: "contoso.onmicrosoft.com".to_owned(),
        client_id: "0000".to_owned(),
        token_url: "https://login".to_owned(),
        scopes: vec!["a".to_owned(), "b".to_owned()],
        journal,
    };
    let text = account(&detail, now());
    for line in
        ["  through      smtp.office365.com:587", "  tenant       contoso.onmicrosoft.com", "  scopes       a b"]
    {
        assert!(text.lines().any(|told| told == line), "{line:?} is not in\n{text}");
    }
    assert!(!text.contains("may send as"), "{text}");
    assert!(text.trim_end().ends_with("held, Exchange refuses the login [2J"), "{text}");
    // The same names as in `status --json`, beside its own.
    let json = serde_json::to_value(&detail).unwrap();
    assert_eq!((&json["hold"]["cause"], &json["smtp"]), (&"login".into(), &"smtp.office365.com:587".into()));
    assert_eq!(serde_json::from_value::<AccountDetail>(json).unwrap(), detail);
}

#[test]
fn a_list_has_a_line_for_each_account() {
    let view = AccountView {
        mailbox: "lms@contoso.com".to_owned(),
        login: "lms@contoso.com".to_owned(),
        provider: "microsoft".to_owned(),
        grant: "delegated".to_owned(),
        smtp: "smtp:587".to_owned(),
        send_as: Vec::new(),
        signed_in: true,
        hold: None,
        pause: None,
        waiting: 2,
    };
    let list = |view: &AccountView| crate::cli::show::accounts(std::slice::from_ref(view));
    assert_eq!(list(&view), "lms@contoso.com  good  2 waiting  through smtp:587\n");
    let hold = held("lms@contoso.com").hold.map(|hold| HoldView { remedy: "xoauth2-relay status".to_owned(), ..hold });
    let text = list(&AccountView { hold, ..view.clone() });
    assert!(text.ends_with("\n    to do: nothing: it is tried again by itself\n"), "{text}");
    let pause = Some(PauseView { until: now(), error: "connection refused".to_owned() });
    let text = list(&AccountView { pause, ..view });
    assert_eq!(text, "lms@contoso.com  pausing: connection refused  2 waiting  through smtp:587\n");
}

fn forecast(minutes: u64, limited_by: &str, carried_by: &[&str]) -> ForecastView {
    let empty_at = now() + std::time::Duration::from_mins(minutes);
    let carried_by = carried_by.iter().map(|&mailbox| mailbox.to_owned()).collect();
    ForecastView { empty_at, limited_by: limited_by.to_owned(), carried_by }
}

#[test]
fn a_forecast_names_the_accounts_that_carry_the_mail_if_it_is_not_the_queues_own_alone() {
    let line = |limited_by, carried_by: &[&str]| {
        let forecast = Some(forecast(40, limited_by, carried_by));
        let text = of(vec![AccountStatus { forecast, ..held("lms@contoso.com") }]);
        let line =
            text.lines().find_map(|line| line.strip_prefix("  forecast     empty in about 40 minutes (")).unwrap();
        line.split_once(')').unwrap().1.to_owned()
    };
    assert_eq!(line("rate", &["lms2@contoso.com"]), ", through lms2@contoso.com");
    let both = ["lms2@contoso.com", "lms3@contoso.com"];
    assert_eq!(line("rate", &both), ", through lms2@contoso.com and lms3@contoso.com");
    let many = ["lms@contoso.com", "lms2@contoso.com", "lms3@contoso.com", "lms4@contoso.com"];
    assert_eq!(line("day", &many), ", through lms@contoso.com and 3 others: their recipients of a day are the limit");
}

#[test]
fn what_can_leave_is_told_apart_from_what_stays() {
    let all = |accounts: Vec<AccountStatus>| {
        let queue = QueueCounts { waiting: 14, ..QueueCounts::default() };
        let forecast = Some(forecast(40, "rate", &["lms@contoso.com"]));
        let status = Status { queue, forecast, ..status_of(accounts) };
        in_all(&status, now()).split_once(" (").unwrap().0.to_owned()
    };
    let queue = QueueCounts { waiting: 7, ..QueueCounts::default() };
    let leaves = |account: AccountStatus| {
        let forecast = Some(forecast(40, "rate", &["lms2@contoso.com"]));
        AccountStatus { queue: queue.clone(), forecast, ..account }
    };
    let good = || leaves(good("lms2@contoso.com"));
    let accounts = vec![leaves(held("lms@contoso.com")), good()];
    assert_eq!(all(accounts), "2 accounts, 1 HELD; 14 waiting, empty in about 40 minutes");
    let stays = AccountStatus { queue: queue.clone(), ..held("lms@contoso.com") };
    let told = "2 accounts, 1 HELD; 14 waiting, what can leave will be gone in about 40 minutes";
    assert_eq!(all(vec![stays, good()]), told);
}

#[test]
fn an_account_that_is_gone_holds_its_mail_unless_others_carry_it() {
    let queue = QueueCounts { waiting: 7, ..QueueCounts::default() };
    let removed = |forecast| {
        removed_sheet(&RemovedAccount { mailbox: "old@contoso.com".to_owned(), queue: queue.clone(), forecast }, now())
    };
    let waits = removed(None);
    assert!(waits.starts_with("old@contoso.com: HELD, no longer in the configuration\n  to do "), "{waits}");
    let leaves = removed(Some(forecast(40, "rate", &["lms@contoso.com"])));
    assert!(
        leaves.starts_with("old@contoso.com: no longer in the configuration\n  queue        7 waiting\n"),
        "{leaves}"
    );
    assert!(leaves.ends_with(", through lms@contoso.com\n"), "{leaves}");
}

#[test]
fn a_forecast_a_slowdown_and_a_day_that_is_nearly_used_are_told_in_plain_words() {
    let forecast = |minutes, limited_by| Some(forecast(minutes, limited_by, &["lms@contoso.com"]));
    let mut account = AccountStatus { forecast: forecast(40, "rate"), ..good("lms@contoso.com") };
    account.pace.last_day = 8_123;
    account.pace.slowed = vec![SlowdownView {
        what: "messages_per_minute".to_owned(),
        level: 15,
        since: ago(0),
        said: "421 4.4.2 Message submission rate for this client has exceeded the configured limit".to_owned(),
    }];
    let text = of(vec![account.clone()]);
    let since = clock(ago(0), now());
    for line in [
        "  forecast     empty in about 40 minutes (",
        &format!("               slowed down: 15 a minute since {since} because Exchange said: 421 4.4.2 Message"),
        "               warning: 8,123 of 10,000 recipients of the last 24 hours are used (81 %); from 9,000 on",
    ] {
        assert!(text.lines().any(|told| told.starts_with(line)), "{line:?} is not in\n{text}");
    }
    let budget = |last_day| BudgetView {
        tenant: "contoso.onmicrosoft.com".to_owned(),
        last_day,
        external_recipients_per_day: 5_000,
    };
    for (last_day, line) in [
        (
            312,
            "  outside      312 of 5,000 recipients outside contoso.onmicrosoft.com in the last 24 hours, of all its",
        ),
        (
            4_812,
            "  outside      warning: 4,812 of 5,000 recipients outside contoso.onmicrosoft.com in the last 24 hours (96 %)",
        ),
    ] {
        let text = of(vec![AccountStatus { budget: Some(budget(last_day)), ..account.clone() }]);
        assert!(text.lines().any(|told| told.starts_with(line)), "{line:?} is not in\n{text}");
    }
    account.pace.slowed[0].what = "connections".to_owned();
    account.pace.slowed[0].level = 1;
    let by_day = AccountStatus { forecast: forecast(60 * 24 * 3, "day"), ..account.clone() };
    let text = of(vec![by_day]);
    assert!(text.contains("slowed down: 1 session since"), "{text}");
    assert!(
        text.contains("empty in about 3 days (") && text.contains("): the day's 10,000 recipients are the limit\n"),
        "{text}"
    );
    let by_retry = AccountStatus { forecast: forecast(0, "retry"), ..account };
    let text = of(vec![by_retry]);
    assert!(text.contains("empty in a few seconds: then the last message is due to be tried again\n"), "{text}");
}

#[test]
fn where_nothing_is_to_be_done_status_does_not_tell_to_type_status() {
    let mut quota = held("lms@contoso.com");
    quota.hold = quota.hold.map(|hold| HoldView { remedy: "xoauth2-relay status".to_owned(), ..hold });
    let text = of(vec![quota]);
    assert!(text.contains("\n  to do        nothing: it is tried again by itself\n"), "{text}");
}

#[test]
fn messages_that_wait_for_a_person_are_named_and_those_that_a_rule_keeps_back_are_not() {
    let said = |held, held_by_rule, held_by_order| {
        let mut account = good("lms@contoso.com");
        account.queue = QueueCounts { held, held_by_rule, held_by_order, ..QueueCounts::default() };
        of(vec![account])
    };
    let line = "1 message held one by one: see `xoauth2-relay queue list`, and `queue show ID` for why and what to do";
    assert!(said(4, 2, 1).contains(line), "{}", said(4, 2, 1));
    let on_purpose = said(3, 2, 1);
    assert!(!on_purpose.contains("for why and what to do"), "{on_purpose}");
    assert!(on_purpose.contains("0 waiting, 1 held by queue hold, 2 held by recipients_allow"), "{on_purpose}");
}
