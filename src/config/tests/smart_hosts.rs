//! Accounts without a sign-in, and accounts that stand in for others.

use super::*;

const HOST: &str =
    "[[account]]\nmailbox = 'backup@contoso.com'\nprovider = 'smarthost'\nsmtp = 'smtp.example.com:587'\n";

fn second(config: &Config) -> &Account {
    &config.accounts[1]
}

#[test]
fn a_smarthost_needs_a_server_and_perhaps_a_password() {
    let config = load(&format!("{ACCOUNT}fallback = 'BACKUP@contoso.com'\n{HOST}")).unwrap();
    assert_eq!(config.accounts[0].fallback.as_ref().map(ToString::to_string).as_deref(), Some("BACKUP@contoso.com"));
    let account = second(&config);
    assert_eq!((account.provider, account.grant, &account.password), (Provider::SmartHost, Grant::None, &None));
    assert!(!account.signs_in() && account.user_name().is_none());
    assert_eq!((account.messages_per_minute, account.connections), (30, 3));

    for (lines, user, login) in [
        ("password = 'x'", "backup@contoso.com", "backup@contoso.com"),
        ("password = 'x'\nlogin = 'apikey'", "apikey", "backup@contoso.com"),
        ("password = 'x'\nlogin = 'svc@contoso.com'", "svc@contoso.com", "svc@contoso.com"),
    ] {
        let config = load(&format!("{ACCOUNT}{HOST}{lines}\nmessages_per_minute = 600")).unwrap();
        let account = second(&config);
        assert_eq!((account.user_name(), account.login.as_str()), (Some(user), login), "{lines}");
        assert_eq!(account.messages_per_minute, 600);
    }
}

#[test]
fn what_a_smarthost_does_not_have_is_told_with_what_it_has() {
    for (lines, expected) in [
        ("login = 'apikey'", "is missing: login needs it, as in { file = \"…\" }"),
        ("login = ''\npassword = 'hunter2'", "is empty: remove it or complete it"),
        ("tenant = 'contoso.com'", "belongs to a sign-in, and a smarthost has none, but login and password: remove it"),
        ("client_secret = 'hunter2'", "belongs to a sign-in"),
        ("token_url = 'https://hunter2'", "belongs to a sign-in"),
        ("password = ['hunter2']", "is a list"),
        ("password = 'hunter2'\nsmtp_tls = 'none'", "\"none\" would send mail and password in the clear"),
    ] {
        let listing = listing(load(&format!("{ACCOUNT}{HOST}{lines}")));
        assert!(listing.len() == 1 && listing[0].contains(expected) && !listing[0].contains("hunter2"), "{listing:?}");
    }
    let without = HOST.replace("smtp = 'smtp.example.com:587'\n", "");
    let told = listing(load(&format!("{ACCOUNT}{without}")));
    assert!(told[0].contains("smtp: is missing: name the server that takes the mail"), "{told:?}");
    let told = listing(load(&format!("{ACCOUNT}password = 'hunter2'")));
    assert!(told[0].contains("password: is for provider = \"smarthost\"") && !told[0].contains("hunter2"), "{told:?}");
}

#[test]
fn a_fallback_is_another_account_and_the_end_of_the_way() {
    let chain = format!("{ACCOUNT}fallback = 'backup@contoso.com'\n{HOST}");
    for (text, expected) in [
        (format!("{ACCOUNT}fallback = 'nobody@contoso.com'\n{HOST}"), "there is no account nobody@contoso.com"),
        (format!("{ACCOUNT}fallback = 'LMS@contoso.com'\n{HOST}"), "is the account itself"),
        (format!("{ACCOUNT}fallback = 'lms'\n{HOST}"), "\"lms\" is not an address"),
        (
            format!("{chain}fallback = 'third@contoso.com'\n{}", HOST.replace("backup@", "third@")),
            "backup@contoso.com has a fallback of its own, third@contoso.com: mail goes one step only",
        ),
    ] {
        let listing = listing(load(&text));
        assert!(listing.len() == 1 && listing[0].contains(expected), "{listing:?}");
    }
    assert!(load(&format!("{chain}fallback = 'lms@contoso.com'\n")).is_ok(), "each may stand in for the other");
}

#[test]
fn a_wrong_fallback_is_told_together_with_whatever_else_is_wrong() {
    let broken = HOST.replace("587", "none");
    let told =
        listing(load(&format!("{ACCOUNT}fallback = 'nobody@contoso.com'\n{broken}fallback = 'backup@contoso.com'\n")));
    let has = |text: &str| told.iter().any(|line| line.contains(text));
    assert!(has("there is no account nobody@contoso.com") && has("is the account itself"), "{told:?}");
    assert_eq!(told.len(), 3, "{told:?}");
    let unreadable = HOST.replace("'backup@contoso.com'", "'backup'");
    let told = listing(load(&format!("{ACCOUNT}fallback = 'backup@contoso.com'\n{unreadable}")));
    assert!(told.len() == 1 && told[0].contains("\"backup\" is not an address"), "{told:?}");
}

#[test]
fn an_app_may_name_an_account_that_is_still_to_be_mended() {
    let broken = HOST.replace("587", "none");
    let told = listing(load(&format!("{ACCOUNT}{broken}[[app]]\nname = 'erp'\naccount = 'backup@contoso.com'\n")));
    assert!(told.len() == 1 && told[0].contains("smtp"), "{told:?}");
}
