//! The fixtures in `tests/relay/moving_in` were written by the program itself, of the version in their names, driven by
//! `tests/relay/clients/emailproxy_config.py`: lms@contoso.com signed in with the password "hunter2 ", erp@contoso.com with "Pässwort".
//! The older two are of the time of 870,000 iterations, and of that before `token_iterations`.

use proptest::prelude::*;

use super::*;

const NEW: &str = include_str!("../../../tests/relay/moving_in/emailproxy-2026.7.3.config");
const FIXTURES: [&str; 3] = [
    NEW,
    include_str!("../../../tests/relay/moving_in/emailproxy-2024.5.25.config"),
    include_str!("../../../tests/relay/moving_in/emailproxy-2023.9.6.config"),
];

fn open(text: &str, mailbox: &str, password: &str) -> Opened {
    let proxy = Proxy::parse(text, None).unwrap_or_else(|error| panic!("{error}"));
    let account = proxy.accounts().find(|account| account.name == mailbox).unwrap();
    account.open(Some(&Secret::new(password)), proxy.other_server())
}

fn found(opened: Opened) -> Found {
    match opened {
        Opened::Found(found) => *found,
        other => panic!("{other:?}"),
    }
}

fn unusable(opened: Opened) -> String {
    match opened {
        Opened::Unusable(why) => why,
        other => panic!("{other:?}"),
    }
}

/// A file with one account of this kind.
fn with(keys: &str, rest: &str) -> String {
    format!(
        "[a@contoso.com]\ntoken_url = https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token\n\
         client_id = 11111111-2222-3333-4444-555555555555\n{keys}\n{rest}"
    )
}

#[test]
fn what_the_program_has_written_is_opened_with_the_right_password() {
    for text in FIXTURES {
        let lms = found(open(text, "lms@contoso.com", "hunter2 "));
        assert_eq!(lms.sign_in, SignIn::Person(Secret::new("1.AXEA-refresh-token-of-lms%~")));
        assert_eq!(lms.proof, Proof::None);
        assert_eq!(lms.client_id, "11111111-2222-3333-4444-555555555555");
        let tenant = Some("contoso.com".to_owned());
        assert_eq!(lms.provider, Provider::Microsoft { cloud: "public", tenant, smtp: None });

        let erp = found(open(text, "erp@contoso.com", "Pässwort"));
        assert_eq!(erp.proof, Proof::Secret(Secret::new("a~secret.of-the_registration")));
        assert_eq!(erp.sign_in, SignIn::Person(Secret::new("1.AXEA-refresh-token-of-erp")));
    }
}

#[test]
fn another_password_opens_nothing() {
    assert!(matches!(open(NEW, "lms@contoso.com", "hunter2"), Opened::OtherPassword), "the space is part of it");
    assert!(matches!(open(NEW, "erp@contoso.com", "hunter2 "), Opened::OtherPassword));
    let proxy = Proxy::parse(NEW, None).unwrap();
    assert!(matches!(proxy.accounts().next().unwrap().open(None, None), Opened::OtherPassword));
}

#[test]
fn byte_order_marks_and_line_ends_of_windows_do_no_harm() {
    let text = format!("\u{feff}{}", NEW.replace('\n', "\r\n"));
    found(open(&text, "lms@contoso.com", "hunter2 "));
}

#[test]
fn the_sample_account_is_left_out_and_the_doors_are_known() {
    let proxy = Proxy::parse(NEW, None).unwrap();
    let names: Vec<_> = proxy.accounts().map(|account| account.name).collect();
    assert_eq!((names, proxy.examples()), (vec!["lms@contoso.com", "erp@contoso.com"], 1));
    let doors: Vec<_> = proxy.doors.iter().map(|door| (door.sends, door.address.as_str(), door.tls)).collect();
    assert_eq!(doors, [(false, "127.0.0.1:1993", false), (true, "127.0.0.1:1587", false)]);
    let upstream = proxy.doors[1].upstream.as_ref().unwrap();
    assert_eq!((upstream.address.as_str(), upstream.implicit_tls), ("smtp-mail.outlook.com:587", false));
    assert!(proxy.unknown.is_empty() && proxy.other_server().is_none());
}

#[test]
fn a_file_that_ends_too_soon_is_damaged() {
    let at = NEW.find("\n\n[erp@contoso.com]").unwrap();
    // The last character is padding that may be missing.
    for cut in [2, 10, 100] {
        let why = unusable(open(&NEW[..at - cut], "lms@contoso.com", "hunter2 "));
        assert!(why.contains("cut off or damaged"), "{why}");
    }
    // With whole blocks left of it, the form is good and the signature is not.
    let token = NEW[..at].rfind("refresh_token = ").unwrap() + "refresh_token = ".len();
    let changed = format!("{}B{}", &NEW[..token + 40], &NEW[token + 41..]);
    assert!(matches!(open(&changed, "lms@contoso.com", "hunter2 "), Opened::OtherPassword));
}

#[test]
fn what_is_no_configuration_is_said_so() {
    for (text, hint) in [
        ("", "it is empty"),
        ("{}", "no configuration file of email-oauth2-proxy"),
        ("[lms]\nx = 1\n[@contoso.com]\n", "it has [lms], [@contoso.com]"),
        ("[a@b.c]\nx = 1\n[a@b.c]\n", "line 3 begins the section [a@b.c] for the second time"),
    ] {
        let error = Proxy::parse(text, None).unwrap_err().to_string();
        assert!(error.contains(hint), "{error}");
    }
    let proxy = Proxy::parse("[lms]\nx = 1\n[a@b.c]\n[SMTP-x]\n", None).unwrap();
    assert_eq!(proxy.unknown, ["lms", "SMTP-x"]);
}

#[test]
fn every_obstacle_has_its_sentence() {
    for (text, hint) in [
        ("[a@b.c]\nclient_id = x\n".to_owned(), "has no token_url"),
        ("[a@b.c]\ntoken_url = x\n".to_owned(), "has no client_id"),
        ("[a b@c]\n".to_owned(), "is not an address"),
        (with("", ""), "--cache-store FILE"),
        (with("oauth2_flow = service_account", ""), "service account"),
        (with("refresh_token = gAAAA", ""), "cut off or damaged"),
    ] {
        let proxy = Proxy::parse(&text, None).unwrap();
        let why = unusable(proxy.accounts().next().unwrap().open(None, None));
        assert!(why.contains(hint), "{why}");
    }
    let keys = |extra: &str| NEW.replacen("token_iterations = 1200000", extra, 1);
    assert!(
        unusable(open(&keys("token_iterations = 99999999999"), "lms@contoso.com", "x")).contains("token_iterations")
    );
    let without_salt = NEW.replacen("token_salt = ", "token_salt = !", 1);
    assert!(unusable(open(&without_salt, "lms@contoso.com", "x")).contains("token_salt"));
    // The number is tried that the program would try too, whatever the file says.
    found(open(&keys("token_iterations = 100000"), "lms@contoso.com", "hunter2 "));
}

#[test]
fn tokens_of_a_cache_file_are_found() {
    let is_token = |line: &&str| CACHED.iter().any(|key| line.starts_with(&format!("{key} = ")));
    let config = NEW.lines().filter(|line| !is_token(line)).collect::<Vec<_>>().join(
        "
",
    );
    let cache = NEW.lines().filter(|line| is_token(line) || line.contains('@')).collect::<Vec<_>>().join(
        "
",
    );
    let proxy = Proxy::parse(&config, None).unwrap();
    assert!(proxy.accounts().all(|account| account.obstacle().is_some()));
    let proxy = Proxy::parse(&config, Some(&cache)).unwrap();
    found(proxy.accounts().next().unwrap().open(Some(&Secret::new("hunter2 ")), None));
}

#[test]
fn catch_all_sections_lend_their_values_where_that_is_on() {
    let lent = NEW.replacen("[lms@contoso.com]", "[@contoso.com]", 1).replacen(
        "token_salt",
        "[lms@contoso.com]\ntoken_salt",
        1,
    );
    assert!(unusable(open(&lent, "lms@contoso.com", "hunter2 ")).contains("has no token_url"));
    let on = format!("{lent}allow_catch_all_accounts = Yes\n");
    assert_eq!(found(open(&on, "lms@contoso.com", "hunter2 ")).client_id, "11111111-2222-3333-4444-555555555555");
}

#[test]
fn an_application_needs_no_sign_in() {
    let flow = "oauth2_flow = client_credentials\noauth2_scope = https://outlook.office365.com/.default\n";
    let secret = found(open(&with(&format!("{flow}client_secret = s3cret%"), ""), "a@contoso.com", ""));
    assert_eq!((secret.sign_in, secret.proof), (SignIn::Application, Proof::Secret(Secret::new("s3cret%"))));
    let rest = "[emailproxy]\nuse_login_password_as_client_credentials_secret = True\n";
    assert!(unusable(open(&with(flow, rest), "a@contoso.com", "x")).contains("nothing there to try a password with"));
    // What is sealed there shows which password it is.
    let (start, end) = (NEW.find("token_salt").unwrap(), NEW.find("access_token_expiry").unwrap());
    let sealed = with(&format!("{flow}{}", &NEW[start..end]), rest);
    let password = found(open(&sealed, "a@contoso.com", "hunter2 "));
    assert_eq!((password.proof, password.sign_in), (Proof::Secret(Secret::new("hunter2 ")), SignIn::Application));
    assert!(matches!(open(&sealed, "a@contoso.com", "other"), Opened::OtherPassword));
    let jwt = |folder: &str| format!("{flow}jwt_certificate_path = {folder}cert.pem\njwt_key_path = {folder}key.pem\n");
    let certificate = found(open(&with(&jwt("/etc/"), ""), "a@contoso.com", ""));
    assert!(
        certificate.block("").contains("certificate = { certificate = \"/etc/cert.pem\", key = \"/etc/key.pem\" }")
    );
    assert!(certificate.block("").contains("grant = \"application\""));
    assert!(unusable(open(&with(&jwt(""), ""), "a@contoso.com", "")).contains("write them in full"));
}

#[test]
fn one_server_that_nobody_knows_is_that_of_the_accounts() {
    let server = |port: u16, host: &str| format!("[SMTP-{port}]\nserver_address = {host}\nserver_port = 465\n");
    let one = format!("[a@b.c]\n{}{}", server(1, "smtp.gmail.com"), server(2, "smtp.fastmail.com"));
    let proxy = Proxy::parse(&one, None).unwrap();
    assert_eq!(proxy.other_server(), Some(&Server::new("smtp.fastmail.com", 465, true)));
    assert_eq!(proxy.doors[0].address, "port 1", "every address of the machine");
    let two = format!("{one}{}", server(3, "smtp.example.com"));
    assert_eq!(Proxy::parse(&two, None).unwrap().other_server(), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Lines of the real file in any order, doubled, and cut.
    #[test]
    fn no_file_makes_it_panic(picks in proptest::collection::vec(any::<(proptest::sample::Index, u8)>(), 0..40)) {
        let lines: Vec<&str> = NEW.lines().collect();
        let picked = picks.iter().map(|(line, cut)| {
            let line = line.get(&lines);
            let end = (0..=usize::from(*cut).min(line.len())).rev().find(|&end| line.is_char_boundary(end)).unwrap_or(0);
            if *cut > 128 { line } else { &line[..end] }
        });
        let text = picked.collect::<Vec<_>>().join("
");
        if let Ok(proxy) = Proxy::parse(&text, None) {
            for account in proxy.accounts() {
                let _ = account.obstacle();
                let _ = account.open(None, proxy.other_server());
            }
        }
    }
}
