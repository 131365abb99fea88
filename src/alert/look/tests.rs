use std::path::PathBuf;

use super::*;
use crate::ops::{PaceView, PauseView, QueueCounts, SignInView};

const MAILBOX: &str = "lms@contoso.com";

fn now() -> Timestamp {
    "2026-11-21T22:41:00Z".parse().unwrap()
}

fn hours(hours: u64) -> Duration {
    Duration::from_hours(hours)
}

/// An account that is well.
fn account() -> AccountStatus {
    AccountStatus {
        mailbox: MAILBOX.to_owned(),
        login: MAILBOX.to_owned(),
        provider: "microsoft".to_owned(),
        grant: "delegated".to_owned(),
        sign_in: Some(SignInView {
            signed_in_as: None,
            since: now() - hours(1000),
            last_refresh: now() - hours(1),
            next_refresh: None,
            access_token_until: Some(now() + hours(1)),
            good_until_at_least: None,
        }),
        trouble: None,
        trouble_text: None,
        hold: None,
        pause: None,
        queue: QueueCounts::default(),
        pace: PaceView {
            under_way: 0,
            connections: 3,
            last_minute: 0,
            messages_per_minute: 30,
            last_day: 0,
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
        last_login: None,
        next_probe: None,
        probe_trouble: None,
        senders: Vec::new(),
    }
}

fn looked(account: AccountStatus) -> Looked {
    looked_at(vec![account])
}

fn looked_at(accounts: Vec<AccountStatus>) -> Looked {
    look(&status(accounts), &[], true, now())
}

fn status(accounts: Vec<AccountStatus>) -> Status {
    Status {
        version: String::new(),
        hostname: String::new(),
        started_at: now(),
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

/// The kinds of what is wrong, and how long each has to last.
fn kinds(account: AccountStatus) -> Vec<(Kind, Duration)> {
    looked(account).troubles.into_iter().map(|trouble| (trouble.cause.kind, trouble.settles_after)).collect()
}

fn hold(cause: HoldCause) -> HoldView {
    HoldView {
        cause: cause.as_str().to_owned(),
        text: "The stored sign-in no longer works: sign in again".to_owned(),
        reply: None,
        error: Some("AADSTS50173: revoked".to_owned()),
        codes: vec![50173],
        since: now(),
        probe_at: None,
        remedy: format!("xoauth2-relay login {MAILBOX}"),
    }
}

fn waiting(messages: u64) -> QueueCounts {
    QueueCounts { waiting: messages, ..QueueCounts::default() }
}

#[test]
fn an_account_that_is_well_can_carry_warnings_and_one_of_which_nothing_is_known_cannot() {
    let seen = looked(account());
    assert_eq!((seen.troubles.len(), seen.unknown.len(), seen.usable.len()), (0, 0, 1));
    let seen = looked(AccountStatus { sign_in: None, ..account() });
    assert_eq!((seen.troubles.len(), seen.unknown.len(), seen.usable.len()), (0, 1, 0));
}

#[test]
fn a_dead_sign_in_is_told_at_once_with_the_error_and_what_to_type() {
    for cause in [HoldCause::SignIn, HoldCause::Registration, HoldCause::Login, HoldCause::Key] {
        let seen = looked(AccountStatus { hold: Some(hold(cause)), queue: waiting(12), ..account() });
        let trouble = &seen.troubles[0];
        assert_eq!((trouble.cause.kind, trouble.settles_after), (Kind::Held, Duration::ZERO), "{cause:?}");
        assert_eq!(trouble.title, "Mail through lms@contoso.com has stopped");
        assert_eq!(trouble.error.as_deref(), Some("AADSTS50173: revoked"));
        assert_eq!((trouble.waiting, trouble.todo.as_str()), (Some(12), "xoauth2-relay login lms@contoso.com"));
        assert!(seen.usable.is_empty());
    }
}

#[test]
fn what_passes_by_itself_is_told_with_the_next_try_and_not_with_a_command_that_does_nothing() {
    let quota = |probe_at| HoldView { remedy: "xoauth2-relay status".to_owned(), probe_at, ..hold(HoldCause::Quota) };
    let todo = |probe_at| looked(AccountStatus { hold: Some(quota(probe_at)), ..account() }).troubles.remove(0).todo;
    assert_eq!(todo(None), "Nothing: it is tried again by itself");
    let at = now() + hours(1);
    let told = at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M %Z");
    assert_eq!(todo(Some(at)), format!("Nothing: it is tried again by itself, the next time at {told}"));
}

#[test]
fn who_sets_up_or_holds_an_account_knows_it_for_a_while() {
    let of = |cause| kinds(AccountStatus { hold: Some(hold(cause)), ..account() });
    assert_eq!(of(HoldCause::NotSignedIn), [(Kind::Held, SETTING_UP)]);
    assert_eq!(of(HoldCause::Manual), [(Kind::Held, FORGOTTEN)]);
}

#[test]
fn a_refresh_that_fails_matters_when_the_token_ends_or_after_a_day() {
    let fails = |last_refresh: Duration, token_left: Option<Duration>| {
        let sign_in = account().sign_in.unwrap();
        let access_token_until = token_left.map(|left| now() + left);
        let sign_in = SignInView { last_refresh: now() - last_refresh, access_token_until, ..sign_in };
        let trouble = Some("no answer from login.microsoftonline.com".to_owned());
        looked(AccountStatus { sign_in: Some(sign_in), trouble, ..account() }).troubles
    };
    assert_eq!(fails(hours(1), Some(hours(1))), [], "mail goes on meanwhile");
    let soon = fails(hours(1), Some(Duration::from_mins(9)));
    assert_eq!((soon[0].cause.kind, soon[0].severity), (Kind::SignInTrouble, Severity::Warning));
    let gone = fails(hours(2), None);
    assert_eq!((gone[0].severity, gone[0].settles_after), (Severity::Critical, HICCUP));
    let long = fails(hours(25), Some(hours(20)));
    assert!(long[0].text.starts_with("No refresh of the sign-in has succeeded for 25 hours"), "{}", long[0].text);
}

#[test]
fn a_sign_in_that_nobody_renews_is_noticed_even_without_an_error() {
    let sign_in = SignInView { last_refresh: now() - hours(31), ..account().sign_in.unwrap() };
    assert_eq!(kinds(AccountStatus { sign_in: Some(sign_in), ..account() }), [(Kind::SignInTrouble, HICCUP)]);
}

#[test]
fn an_upstream_out_of_reach_matters_while_mail_waits_and_says_less_than_a_lost_token() {
    let pause = Some(PauseView { until: now(), error: "connection refused".to_owned() });
    assert_eq!(kinds(AccountStatus { pause: pause.clone(), ..account() }), []);
    let away = AccountStatus { pause, queue: waiting(1), ..account() };
    assert_eq!(kinds(away.clone()), [(Kind::Unreachable, OUTAGE)]);
    let sign_in = SignInView { access_token_until: None, ..account().sign_in.unwrap() };
    let trouble = Some("no answer".to_owned());
    assert_eq!(kinds(AccountStatus { trouble, sign_in: Some(sign_in), ..away }), [(Kind::SignInTrouble, HICCUP)]);
}

#[test]
fn messages_that_were_set_aside_are_told() {
    let queue = QueueCounts { held: 2, ..QueueCounts::default() };
    let seen = looked(AccountStatus { queue, ..account() });
    assert_eq!(seen.troubles[0].title, "2 messages of lms@contoso.com are set aside");
}

#[test]
fn a_countdown_has_its_thresholds_and_an_end() {
    let expiry = |left: i64| Expiry {
        account: Some(Address::parse(MAILBOX).unwrap()),
        what: Expiring::ClientSecret { has_next: false },
        at: Timestamp::from_second(now().as_second() + left).unwrap(),
        life: None,
    };
    let day = 86_400;
    for (left, stage, title) in [
        (30 * day, 1, "ends in 30 days"),
        (30 * day - 1, 1, "ends in 30 days"),
        (15 * day, 1, "ends in 15 days"),
        (14 * day, 2, "ends in 14 days"),
        (6 * day + 1, 3, "ends in 7 days"),
        (2 * day, 4, "ends in 2 days"),
        (day, 5, "ends within a day"),
        (1, 5, "ends within a day"),
        (0, 6, "has ended"),
        (-400 * day, 6, "has ended"),
    ] {
        let trouble = countdown(&expiry(left), now()).unwrap();
        assert_eq!(
            (trouble.stage, trouble.title),
            (stage, format!("The client secret of {MAILBOX} {title}")),
            "{left}"
        );
    }
    assert_eq!(countdown(&expiry(30 * day + 1), now()), None);
}

#[test]
fn a_certificate_that_is_always_renewed_early_is_no_trouble() {
    let expiry = |left: u64, life: u64| Expiry {
        account: None,
        what: Expiring::ListenerCertificate(PathBuf::from("/etc/relay/cert.pem")),
        at: now() + hours(24 * left),
        life: Some(hours(24 * life)),
    };
    let stage = |left, life| countdown(&expiry(left, life), now()).map(|trouble| trouble.stage);
    assert_eq!(stage(29, 365), Some(1));
    assert_eq!((stage(29, 90), stage(14, 90)), (None, Some(2)));
    assert_eq!((stage(4, 6), stage(1, 6)), (None, Some(5)));
    let trouble = countdown(&expiry(3, 365), now()).unwrap();
    assert_eq!(trouble.title, "The certificate /etc/relay/cert.pem ends in 3 days");
    assert_eq!(trouble.cause.subject.as_deref(), Some("/etc/relay/cert.pem"));
}

#[test]
fn a_wrong_clock_is_told_when_it_stays_wrong() {
    let seen = looked(AccountStatus { clock_ahead_seconds: Some(-421), ..account() });
    let [trouble] = seen.troubles.as_slice() else { panic!("{:?}", seen.troubles) };
    assert_eq!((trouble.cause.kind, trouble.settles_after), (Kind::ClockSkew, OUTAGE));
    assert!(trouble.text.contains("7 minutes behind"), "{}", trouble.text);
}

#[test]
fn the_certificate_of_a_registration_is_counted_down() {
    let expiry = Expiry {
        account: Some(Address::parse(MAILBOX).unwrap()),
        what: Expiring::ClientCertificate("/etc/relay/app.pem".into()),
        at: now() + hours(24 * 6),
        life: Some(Duration::from_hours(24 * 365)),
    };
    let trouble = countdown(&expiry, now()).unwrap();
    assert_eq!(trouble.cause, Cause::of(Kind::ClientCertificate, &Address::parse(MAILBOX).unwrap()));
    assert!(trouble.title.contains("/etc/relay/app.pem of the app registration ends in 6 days"), "{}", trouble.title);
}

#[test]
fn a_server_that_cannot_be_reached_is_told_before_mail_waits_for_it() {
    let seen = looked(AccountStatus { probe_trouble: Some("cannot reach smtp".to_owned()), ..account() });
    let [trouble] = seen.troubles.as_slice() else { panic!("{:?}", seen.troubles) };
    assert_eq!((trouble.cause.kind, trouble.severity), (Kind::Unreachable, Severity::Warning));
    assert!(trouble.text.contains("no mail waits yet") && trouble.error.is_some(), "{trouble:?}");
}

#[test]
fn four_fifths_of_the_day_are_a_warning_once_for_a_login() {
    let pace = PaceView { last_day: 8_000, ..account().pace };
    let used = AccountStatus { pace: pace.clone(), ..account() };
    let shared = AccountStatus { mailbox: "second@contoso.com".to_owned(), ..used.clone() };
    let mut status = status(vec![used, shared]);
    let seen = look(&status, &[], true, now());
    let [trouble] = seen.troubles.as_slice() else { panic!("{:?}", seen.troubles) };
    assert_eq!((trouble.cause.kind, trouble.severity), (Kind::DayNearlyUsed, Severity::Warning));
    assert!(trouble.text.starts_with("8,000 of 10,000 recipients"), "{}", trouble.text);
    assert!(trouble.todo.contains("recipients_per_day of lms@contoso.com"), "{}", trouble.todo);
    assert_eq!(seen.usable.len(), 2, "mail still leaves");
    status.accounts.iter_mut().for_each(|account| account.pace.last_day = 7_999);
    assert!(look(&status, &[], true, now()).troubles.is_empty());
}

#[test]
fn four_fifths_of_a_tenants_budget_are_a_warning_once_for_all_its_accounts() {
    let of = |mailbox: &str, tenant: &str, last_day| AccountStatus {
        mailbox: mailbox.to_owned(),
        login: mailbox.to_owned(),
        budget: Some(BudgetView { tenant: tenant.to_owned(), last_day, external_recipients_per_day: 5_000 }),
        ..account()
    };
    let seen = looked_at(vec![
        of("a@contoso.com", "contoso.com", 4_000),
        of("b@contoso.com", "Contoso.com", 4_000),
        of("c@fabrikam.com", "fabrikam.com", 3_999),
    ]);
    let [trouble] = seen.troubles.as_slice() else { panic!("{:?}", seen.troubles) };
    assert_eq!((trouble.cause.kind, trouble.severity), (Kind::BudgetNearlyUsed, Severity::Warning));
    assert_eq!((trouble.cause.account.as_ref(), trouble.cause.subject.as_deref()), (None, Some("contoso.com")));
    assert!(trouble.text.starts_with("4,000 of 5,000 recipients outside contoso.com"), "{}", trouble.text);
    assert!(trouble.todo.contains("external_recipients_per_day"), "{}", trouble.todo);
    assert!(trouble.cause.solved().starts_with("contoso.com has used less than 80 %"));
}

#[test]
fn a_sender_that_is_refused_is_a_warning_of_its_own_and_what_is_held_on_purpose_is_none() {
    let sender = |n: usize, state: &str| crate::ops::SenderView {
        address: format!("user{n}@contoso.com"),
        state: state.to_owned(),
        since: now() - hours(50),
        last: now() - hours(1),
        reply: Some("554 5.2.252 SendAsDenied".to_owned()),
        remedy: Some("grant it".to_owned()),
    };
    let senders = vec![sender(0, "refused"), sender(1, "accepted"), sender(2, "refused")];
    let held = QueueCounts { held: 9, held_by_rule: 7, held_by_order: 2, ..QueueCounts::default() };
    let seen = looked(AccountStatus { senders, queue: held, ..account() });
    let subjects: Vec<_> = seen.troubles.iter().map(|trouble| trouble.cause.subject.as_deref().unwrap()).collect();
    assert_eq!(subjects, ["user0@contoso.com", "user2@contoso.com"]);
    let trouble = &seen.troubles[0];
    assert_eq!((trouble.cause.kind, trouble.severity), (Kind::SenderRefused, Severity::Warning));
    assert_eq!(trouble.title, "Exchange does not let lms@contoso.com send as user0@contoso.com");
    assert_eq!((trouble.since, trouble.todo.as_str()), (Some(now() - hours(50)), "grant it"));
    let many = (0..40).map(|n| sender(n, "refused")).collect();
    assert_eq!(looked(AccountStatus { senders: many, ..account() }).troubles.len(), SENDERS_TOLD);
}

#[test]
fn what_has_stopped_a_whole_tenant_is_told_once() {
    let blocked = |mailbox: &str, cause, since| AccountStatus {
        mailbox: mailbox.to_owned(),
        queue: waiting(3),
        hold: Some(HoldView { reply: Some("550 5.7.705 Access denied".to_owned()), since, ..hold(cause) }),
        ..account()
    };
    let looked = looked_at(vec![
        blocked(MAILBOX, HoldCause::Blocked, now()),
        blocked("erp@contoso.com", HoldCause::Blocked, now()),
        blocked("it@fabrikam.com", HoldCause::Blocked, now() - hours(1)),
        blocked("hr@contoso.com", HoldCause::Quota, now()),
    ]);
    let told: Vec<_> = looked.troubles.iter().map(|trouble| trouble.cause.account.as_ref().unwrap().as_str()).collect();
    assert_eq!(told, [MAILBOX, "it@fabrikam.com", "hr@contoso.com"]);
    assert!(looked.troubles[0].text.ends_with(". It has stopped erp@contoso.com too"), "{}", looked.troubles[0].text);
    assert_eq!(looked.troubles.iter().map(|trouble| trouble.waiting).collect::<Vec<_>>(), [Some(6), Some(3), Some(3)]);
    assert!(looked.usable.is_empty());
}
