//! The table, and what it says of every answer.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;

use super::table::{Status, rows};
use super::*;
use crate::signin::answer::RawAnswer;
use crate::signin::scripted::account;

const FLOWS: [Flow; 4] = [Flow::RefreshToken, Flow::AuthorizationCode, Flow::DeviceCode, Flow::ClientCredentials];

fn relay() -> Account {
    let mut account = account("lms@contoso.com", "https://login.microsoftonline.com/t/oauth2/v2.0/token", None);
    account.login = Address::parse("person@contoso.com").unwrap();
    account
}

fn answer(error: &str, codes: &[u32], status: u16) -> EndpointError {
    described(error, codes, status, "")
}

fn described(error: &str, codes: &[u32], status: u16, description: &str) -> EndpointError {
    let (error, description) = (error.to_owned(), description.to_owned());
    EndpointError::Answer(Box::new(OAuthError {
        error,
        codes: codes.to_vec(),
        status,
        description,
        ..OAuthError::default()
    }))
}

fn row_for(error: &EndpointError, flow: Flow) -> Option<&'static str> {
    judge(error, &flow.into()).row()
}

#[test]
fn every_row_is_whole_and_there_once() {
    let ids: BTreeSet<_> = rows().iter().map(|row| row.id.as_str()).collect();
    assert_eq!(ids.len(), rows().len(), "an id names one row");
    for row in rows() {
        let id = &row.id;
        assert!(row.error.is_some() != (row.status.is_some() && row.codes.is_empty()), "{id}: error or status");
        assert_eq!(
            row.class == Class::Wait,
            row.pause.is_some(),
            "{id}: a pause belongs to a wait, and a wait has one"
        );
        assert!(row.pause != Some(0), "{id}: a pause of nothing");
        for text in [&row.sentence, &row.action] {
            assert!(text.len() > 10 && !text.ends_with(['.', ' ']), "{id}: {text:?}");
            let told = filled(text, &relay());
            assert!(!told.contains(['{', '}', '\n']), "{id}: {told:?}");
        }
    }
}

#[test]
fn every_row_decides_about_some_answer() {
    for row in rows() {
        let flows = if row.flow.is_empty() { &FLOWS[..] } else { &row.flow };
        let error = row.error.as_deref().unwrap_or("anything");
        let status = match row.status {
            Some(Status::TooManyRequests) => 429,
            Some(Status::ServerError) => 503,
            None => 400,
        };
        let words = row.words.as_deref().unwrap_or_default();
        for flow in flows {
            for codes in row.codes.iter().map(|code| vec![*code]).chain(row.codes.is_empty().then(Vec::new)) {
                let answer = described(error, &codes, status, &words.to_uppercase());
                assert_eq!(row_for(&answer, *flow), Some(row.id.as_str()), "{flow:?}");
            }
        }
    }
}

/// What the facts say, where they lie beside a checkout of the project's authors; elsewhere there is nothing to compare.
fn facts() -> Vec<serde_json::Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/microsoft/oauth_errors.json");
    std::fs::read_to_string(file).map(|text| serde_json::from_str(&text).unwrap()).unwrap_or_default()
}

#[test]
fn every_fact_has_its_class_in_every_flow_it_was_seen_in() {
    for fact in facts() {
        let id = fact["id"].as_str().unwrap();
        let error = fact["error"].as_str().unwrap_or_default();
        let codes: Vec<u32> = fact["aadsts"].as_u64().map(|code| u32::try_from(code).unwrap()).into_iter().collect();
        let status = match id {
            "http-429" => 429,
            "http-5xx" => 502,
            _ if error == "invalid_client" => 401,
            _ => 400,
        };
        let description = fact["example_description"].as_str().unwrap();
        for flow in fact["flow"].as_array().unwrap() {
            let flow = serde_json::from_value(flow.clone()).unwrap_or(Flow::RefreshToken);
            let answer = described(error, &codes, status, description);
            let expected = match (fact["class"].as_str().unwrap(), id, flow) {
                // An application has no person who could sign in.
                ("reauthorize", "any-invalid_grant", Flow::ClientCredentials) | ("fix_config", ..) => "fix_config",
                (class, ..) => class,
            };
            let judged = match judge(&answer, &flow.into()).meaning {
                Meaning::TryAgain => "transient",
                Meaning::Wait(_) => "wait",
                Meaning::SignInAgain => "reauthorize",
                Meaning::FixConfiguration => "fix_config",
            };
            assert_eq!(judged, expected, "{id} {flow:?}");
        }
    }
}

#[test]
fn passing_trouble_never_marks_a_sign_in_dead() {
    for code in [90033, 50033, 90006, 90012, 90024, 90090, 70012] {
        for error in ["invalid_grant", "temporarily_unavailable", "server_error"] {
            assert_eq!(meaning(&answer(error, &[code], 400)), Meaning::TryAgain, "{error} {code}");
            assert_eq!(meaning(&answer(error, &[700_082, code], 400)), Meaning::TryAgain, "{error} {code} and another");
        }
    }
    let looping = Meaning::Wait(Duration::from_mins(5));
    for code in [50196, 90055, 50053] {
        assert_eq!(meaning(&answer("invalid_grant", &[code], 400)), looping, "{code}");
    }
    for status in [500, 502, 503, 504] {
        assert_eq!(meaning(&answer("invalid_grant", &[700_082], status)), Meaning::TryAgain, "{status}");
    }
    let throttled = Meaning::Wait(Duration::from_mins(1));
    assert_eq!(meaning(&answer("invalid_grant", &[70008], 429)), throttled);
    for error in ["temporarily_unavailable", "server_error", "", "what_is_this"] {
        assert_eq!(meaning(&answer(error, &[], 400)), Meaning::TryAgain, "{error}");
    }
    assert_eq!(meaning(&EndpointError::Unreachable(String::new())), Meaning::TryAgain);
    let page = |status, retry_after| EndpointError::Nonsense { status, what: String::new(), retry_after };
    assert_eq!(meaning(&page(404, None)), Meaning::TryAgain);
    assert_eq!(meaning(&page(429, None)), throttled);
    let ten = Duration::from_secs(10);
    assert_eq!(meaning(&page(503, Some(ten))), Meaning::Wait(ten));
    assert_eq!(meaning(&page(404, Some(ten))), Meaning::Wait(ten));
}

#[test]
fn a_retry_after_is_honoured_where_it_passes_and_changes_nothing_where_it_does_not() {
    let ten = Duration::from_secs(10);
    let with = |error: &str, codes: &[u32], status| {
        let EndpointError::Answer(mut answer) = answer(error, codes, status) else { unreachable!() };
        answer.retry_after = Some(ten);
        meaning(&EndpointError::Answer(answer))
    };
    assert_eq!(with("server_error", &[], 400), Meaning::Wait(ten));
    assert_eq!(with("invalid_grant", &[50196], 400), Meaning::Wait(ten));
    assert_eq!(with("no_such_thing", &[], 400), Meaning::Wait(ten));
    assert_eq!(with("invalid_grant", &[700_082], 400), Meaning::SignInAgain);
}

#[test]
fn of_several_numbers_the_one_that_says_most_decides() {
    for (error, codes, expected) in [
        // As in old captures: the number that fits its error.
        ("invalid_grant", &[70002, 70008][..], "token-expired"),
        ("invalid_client", &[70002, 70008], "credentials-not-valid"),
        ("invalid_client", &[7_000_215, 70002], "wrong-secret"),
        ("invalid_grant", &[70000, 700_082], "unused-for-90-days"),
        ("invalid_grant", &[50173, 70000], "password-changed"),
        ("access_denied", &[53003, 530_032], "security-policy"),
        // Unknown ones are passed over.
        ("invalid_grant", &[4_242_424, 50076, 4_242_425], "mfa-wanted"),
        ("invalid_grant", &[4_242_424], "invalid_grant"),
        // Whatever passes by itself goes first.
        ("invalid_grant", &[700_082, 50196], "asked-in-circles"),
    ] {
        assert_eq!(row_for(&answer(error, codes, 400), Flow::RefreshToken), Some(expected), "{error} {codes:?}");
    }
}

#[test]
fn words_and_flow_part_what_has_one_name() {
    let abuse =
        described("invalid_grant", &[70000], 400, "AADSTS70000: User account is found to be in Service Abuse mode.");
    assert_eq!(row_for(&abuse, Flow::RefreshToken), Some("service-abuse"));
    let scope = described(
        "invalid_scope",
        &[70011],
        400,
        "The scope 'https://outlook.office.com/SMTP.SendAsApp' does not exist",
    );
    assert_eq!(row_for(&scope, Flow::AuthorizationCode), Some("send-as-app-scope"));
    let denied = answer("access_denied", &[], 400);
    assert_eq!(row_for(&denied, Flow::DeviceCode), Some("access_denied-by-the-person"));
    assert_eq!(row_for(&denied, Flow::RefreshToken), Some("access_denied"));
    let dead = answer("Invalid_Grant ", &[], 400);
    assert_eq!(judge(&dead, &Flow::RefreshToken.into()).meaning, Meaning::SignInAgain);
    assert_eq!(judge(&dead, &Flow::ClientCredentials.into()).meaning, Meaning::FixConfiguration);
}

#[test]
fn a_new_secret_is_given_time_and_a_known_one_is_not() {
    let under = |age: Option<Duration>, code: u32| {
        let circumstances = Circumstances { secret_age: age, ..Circumstances::default() };
        judge(&answer("invalid_client", &[code], 401), &circumstances).meaning
    };
    let (young, old) = (Some(Duration::from_secs(899)), Some(NEW_SECRET));
    for code in [7_000_215, 70002, 700_027, 4_242_424] {
        assert_eq!(under(young, code), Meaning::Wait(SETTLING), "{code}");
        assert_eq!(under(old, code), Meaning::FixConfiguration, "{code}");
        assert_eq!(under(None, code), Meaning::FixConfiguration, "{code}");
    }
    // Entra ID knows a secret of which it says that it has expired, and how the app is registered has nothing to do with its age.
    for code in [7_000_222, 7_000_218, 700_025, 650_056, 700_024] {
        assert_eq!(under(young, code), Meaning::FixConfiguration, "{code}");
    }
    let young = Circumstances { secret_age: Some(Duration::ZERO), ..Circumstances::default() };
    let told = advice(&answer("invalid_client", &[7_000_215], 401), &relay(), &young);
    assert!(told.sentence.contains("takes some minutes"), "{told}");
    assert_eq!(told.command, "xoauth2-relay status");
    let told = advice(&answer("invalid_client", &[7_000_215], 401), &relay(), &Flow::DeviceCode.into());
    assert!(told.sentence.contains("may just need some more"), "{told}");
}

#[test]
fn errors_about_time_name_a_wrong_clock() {
    let ahead = Circumstances { clock_skew: Some(SignedDuration::from_mins(7)), ..Circumstances::default() };
    for code in [700_024, 50013] {
        let error = answer("invalid_client", &[code], 401);
        let told = advice(&error, &relay(), &ahead).sentence;
        assert!(
            told.contains("this machine's clock is 7 minutes ahead of Microsoft's: set up NTP: timedatectl"),
            "{told}"
        );
        assert!(!advice(&error, &relay(), &Circumstances::default()).sentence.contains("ahead"));
    }
    let other = advice(&answer("invalid_client", &[7_000_222], 401), &relay(), &ahead).sentence;
    assert!(!other.contains("clock"), "{other}");
}

#[test]
fn every_failure_has_one_sentence_and_one_command() {
    let told = |error: &str, codes: &[u32]| advice(&answer(error, codes, 400), &relay(), &Circumstances::default());
    let dead = told("invalid_grant", &[700_082]);
    assert_eq!(dead.command, "xoauth2-relay login lms@contoso.com");
    assert!(
        dead.sentence.starts_with("The refresh token was not used for 90 days and has expired: sign in again"),
        "{dead}"
    );
    assert_eq!(told("invalid_client", &[7_000_222]).command, "xoauth2-relay account release lms@contoso.com");
    assert_eq!(told("server_error", &[]).command, "xoauth2-relay status");
    let consent = told("invalid_grant", &[65001]);
    assert_eq!(consent.command, "xoauth2-relay login lms@contoso.com");
    let link = "https://login.microsoftonline.com/t/adminconsent?client_id=the-client";
    assert!(consent.sentence.ends_with(link), "{consent}");
    assert!(told("invalid_grant", &[50055]).sentence.contains("Update-MgUser -UserId person@contoso.com"));
    let application = advice(&answer("invalid_grant", &[65001], 400), &relay(), &Flow::ClientCredentials.into());
    assert_eq!(
        application.command, "xoauth2-relay account release lms@contoso.com",
        "an application has nobody to sign in"
    );
    let away = advice(&EndpointError::Unreachable(String::new()), &relay(), &Circumstances::default());
    assert!(away.sentence.contains("cannot be reached"), "{away}");
    let mut custom = relay();
    custom.provider = Provider::Custom;
    let consent = advice(&answer("consent_required", &[], 400), &custom, &Circumstances::default());
    assert!(consent.sentence.ends_with("the provider's consent page"), "{consent}");
}

#[test]
fn what_is_in_no_table_is_told_in_the_providers_own_words() {
    let said = "AADSTS4242424: The moon is in the wrong house.\r\nTrace ID: t\r\nCorrelation ID: c";
    let tell = |error: &str, codes: &[u32], said: &str| {
        let error = described(error, codes, 400, said);
        (meaning(&error), advice(&error, &relay(), &Circumstances::default()))
    };
    let (dead, told) = tell("invalid_grant", &[4_242_424], said);
    assert_eq!(dead, Meaning::SignInAgain);
    assert_eq!(told.command, "xoauth2-relay login lms@contoso.com");
    assert_eq!(
        told.sentence,
        "AADSTS4242424 is unknown to this version; the provider says \"AADSTS4242424: The moon is in the wrong house.\". \
         The stored sign-in no longer works: sign in again"
    );
    let (passing, told) = tell("lunar_error", &[], "The moon is new.");
    assert_eq!(passing, Meaning::TryAgain);
    assert_eq!(
        told.sentence,
        "lunar_error is unknown to this version; the provider says \"The moon is new.\": it is tried again by itself"
    );
    assert!(tell("a\nforged log line", &[], "").1.sentence.starts_with("a forged log line is unknown"));
    assert!(tell("", &[], "").1.sentence.starts_with("The answer is unknown to this version"));
    let long = tell("lunar_error", &[], &"ü".repeat(900)).1.sentence;
    assert!(long.chars().count() < 450 && long.contains('…'), "{long}");
}

proptest! {
    #[test]
    fn nothing_a_server_sends_can_make_it_panic(
        error in "(invalid_grant|invalid_client|access_denied|.{0,40})",
        codes in proptest::collection::vec(prop_oneof![any::<u32>(), Just(70000), Just(700_024), Just(7_000_215)], 0..6),
        description in ".{0,700}",
        status in any::<u16>(),
        retry in proptest::option::of(any::<u64>()),
        age in proptest::option::of(any::<u64>()),
        skew in proptest::option::of(any::<i64>()),
        flow in 0_usize..4,
    ) {
        let retry_after = retry.map(Duration::from_secs);
        let clock_skew = skew.map(SignedDuration::from_secs);
        let circumstances = Circumstances { flow: FLOWS[flow], secret_age: age.map(Duration::from_secs), clock_skew };
        let answer = OAuthError { error, description, codes, status, retry_after, ..OAuthError::default() };
        for error in [
            EndpointError::Answer(Box::new(answer)),
            EndpointError::Nonsense { status, what: String::new(), retry_after },
        ] {
            let told = judge(&error, &circumstances).advice(&relay());
            prop_assert!(!told.sentence.is_empty() && told.command.starts_with("xoauth2-relay "));
        }
    }
}

proptest! {
    #[test]
    fn no_body_that_a_server_sends_can_make_it_panic(
        body in prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..200),
            "\\{\"error\":(\"invalid_grant\"|\\[\\]|\\{\"code\":\"x\"\\}),\"error_codes\":(\\[[0-9]{0,12}\\]|7|null),\"error_description\":\"(AADSTS[0-9]{0,12}: )?[a-zü ]{0,40}\"\\}"
                .prop_map(String::into_bytes),
        ],
        status in any::<u16>(),
        retry_after in proptest::option::of(".{0,40}"),
        date in proptest::option::of(".{0,40}"),
    ) {
        let raw = RawAnswer { status, retry_after, date, body: Some(body) };
        if let Err(error) = raw.tokens() {
            let told = judge(&error, &Circumstances::default()).advice(&relay());
            prop_assert!(!told.sentence.is_empty());
        }
    }
}

/// `docs/sign-in-errors.md` behind its introduction.
fn document() -> String {
    let mut text = String::new();
    for (class, title) in [
        (Class::SignIn, "Sign in again"),
        (Class::Fix, "Change something"),
        (Class::Wait, "Wait"),
        (Class::TryAgain, "Tried again by itself"),
    ] {
        write!(text, "## {title}\n\n| answer | what is wrong | what to do |\n|---|---|---|\n").unwrap();
        for row in rows().iter().filter(|row| row.class == class) {
            writeln!(text, "| {} | {} | {} |", key(row), generic(&row.sentence), then(row)).unwrap();
        }
        text.push('\n');
    }
    text.trim_end().to_owned() + "\n"
}

/// What the answer is known by.
fn key(row: &Row) -> String {
    let numbers: Vec<String> = row.codes.iter().map(|code| format!("AADSTS{code}")).collect();
    let mut key = match (numbers.as_slice(), row.status) {
        ([], Some(Status::TooManyRequests)) => "HTTP 429".to_owned(),
        ([], Some(Status::ServerError)) => "HTTP 5xx".to_owned(),
        ([], None) => format!("`{}`", row.error.as_deref().unwrap_or_default()),
        (numbers, _) => numbers.join(", "),
    };
    if let Some(words) = &row.words {
        write!(key, " with \"{words}\"").unwrap();
    }
    match row.flow.as_slice() {
        [] => {}
        [Flow::ClientCredentials] => key.push_str(" of an application"),
        flows if flows.contains(&Flow::ClientCredentials) => key.push_str(" at a refresh"),
        flows if flows.contains(&Flow::RefreshToken) => key.push_str(" of a person's sign-in"),
        _ => key.push_str(" while a person signs in"),
    }
    key
}

fn generic(text: &str) -> String {
    let text = text.replace("{login}", "LOGIN").replace("{mailbox}", "MAILBOX");
    let text = text.replace("{consent}", "`https://login.microsoftonline.com/TENANT/adminconsent?client_id=CLIENT_ID`");
    text.replace("{client_id}", "CLIENT_ID").replace("{tenant}", "TENANT").replace('|', "\\|")
}

fn then(row: &Row) -> String {
    let command = match (row.class, row.then) {
        (Class::TryAgain | Class::Wait, _) | (_, Some(Then::Status)) => return generic(&row.action),
        (Class::SignIn, None) | (_, Some(Then::Login)) => "login",
        (Class::Fix, None) | (_, Some(Then::Release)) => "account release",
    };
    format!("{}; then `{command}`", generic(&row.action))
}

#[test]
fn the_document_says_what_the_table_says() {
    const BEGIN: &str = "<!-- From here on made of src/signin/errors.toml. -->\n\n";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/sign-in-errors.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, _) = text.split_once(BEGIN).expect("the document has a table");
    let right = format!("{before}{BEGIN}{}", document());
    if std::env::var_os("WRITE_SIGN_IN_ERRORS").is_some() {
        std::fs::write(&file, &right).unwrap();
    } else {
        let how = "WRITE_SIGN_IN_ERRORS=1 cargo test --lib the_document_says";
        assert!(text == right, "docs/sign-in-errors.md is not up to date: {how}");
    }
}
