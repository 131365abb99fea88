//! Each wrong value and its remedy.

use super::*;

#[test]
fn each_wrong_value_gets_its_remedy() {
    let guid = "00000000-1111-2222-3333-444444444444";
    for (line, expected) in [
        // The top of the file.
        ("hostname = 5", "hostname: is a number: write a text, in quotes"),
        ("data_dir = ''", "data_dir: is empty: remove it or complete it"),
        ("database = 'mysql'", "database: \"mysql\" is unknown: use \"sqlite\""),
        (
            "database = 'postgres://a:hunter2@db/x'",
            "database: PostgreSQL is not yet supported in this version: use \"sqlite\"",
        ),
        ("log = 'loud'", "log: \"loud\" is no level: use off, error, warn, info, debug, trace"),
        ("log = 'a=b=c'", "log: \"a=b=c\" is no filter: write a level, or \"xoauth2_relay::outbound=trace,info\""),
        ("log_format = 'jsn'", "log_format: \"jsn\" is unknown; did you mean \"json\"?"),
        // Secrets.
        (
            "key = ''",
            "key: is empty: write it in quotes, or say where it is: { file = \"…\" }, { env = \"…\" }, { credential = \"…\" } or { command = [\"…\"] }",
        ),
        ("key = '/proc/self/status'", "key: is the path of a file, not a secret: write { file = \"…\" } around it"),
        ("key = { fiel = 'x' }", "key: has a word in it that is unknown; did you mean file?"),
        ("key = { file = 'x', env = 'X' }", "key: names several places: keep one of them"),
        ("key = { file = '' }", "key: file is empty: remove it or complete it"),
        ("key = { env = '$KEY' }", "key: env must be the name of a variable, without $"),
        (
            "key = { credential = '../key' }",
            "key: credential must be a name as in systemd's LoadCredential=, not a path",
        ),
        ("key = { command = [] }", "key: command names no program: it is empty"),
        ("key = { command = [''] }", "key: command names no program: its first word is empty"),
        ("key = { command = ['a', 1] }", "key: command has a word that is a number: put every word in quotes"),
        (
            "key = { command = 'pass show relay' }",
            "key: command is a text, but no shell reads it: write the program and each argument, as in [\"pass\", \"show\", \"relay\"]",
        ),
        // [queue] and [admin].
        ("queue.retry = ['1m', '0s', 5]", "queue.retry[1]: \"0s\" is no time at all: it must be longer"),
        ("queue.give_up_after = 5", "queue.give_up_after: is a number without a unit: write it like \"5d\", in quotes"),
        ("queue.give_up_after = '5'", "queue.give_up_after: \"5\" has no unit: write \"5s\", \"5m\", \"5h\" or \"5d\""),
        ("queue.journal_days = '30'", "queue.journal_days: is a text: write the number without quotes"),
        ("queue.journal_days = 36501", "queue.journal_days: is too large: the most is 36500"),
        (
            "queue.journal_days = 99999999999999999999999999999999999999999",
            "queue.journal_days: is too large: the most is 36500",
        ),
        ("queue.dead_letter_days = -1", "queue.dead_letter_days: is negative: it must be at least 1"),
        ("queue.dead_letter_days = 1.5", "queue.dead_letter_days: is a number with a fraction: write a whole number"),
        ("queue.record_subjects = 'no'", "queue.record_subjects: is a text: write true or false, without quotes"),
        ("queue.min_free_disk = '0 B'", "queue.min_free_disk: \"0 B\" is nothing at all: it must be more"),
        (
            "admin.address = '127.0.0.1:2525'",
            "admin.address: 127.0.0.1:2525 is already taken by the listener at 127.0.0.1:2525: choose another port",
        ),
        // [[listener]]
        (
            "listener = [{ allow = [] }]",
            "listener[0].allow: is empty: nobody could connect; write the networks of your programs, or remove the line for this machine alone",
        ),
        (
            "listener = [{ allow = ['nowhere'] }]",
            "listener[0].allow[0]: \"nowhere\" is no network: write an address or a range, such as \"10.1.2.3\", \"10.0.0.0/8\" or \"::1\"",
        ),
        (
            "listener = [{ address = '[::]:25' }, { address = '[::1]:25' }]",
            "listener[1].address: [::1]:25 is already taken by listener[0] (line 1): give each listener an address of its own",
        ),
        ("listener = [{ max_recipients = 0 }]", "listener[0].max_recipients: is 0: it must be at least 1"),
        // [[account]], a second one.
        (
            &format!("account = [{{ client_id = '{guid}', tenant = 'Contoso GmbH', mailbox = 'a@b.de' }}]"),
            "account[0].tenant: \"Contoso GmbH\" is no tenant: write its domain, for example contoso.onmicrosoft.com, or its Directory (tenant) ID",
        ),
    ] {
        let text = if line.starts_with("account") { line.to_owned() } else { format!("{line}\n{ACCOUNT}") };
        let listing = listing(load(&text));
        assert_eq!(listing.first().map(String::as_str), Some(format!("1: {expected}").as_str()), "{listing:#?}");
        assert!(!listing.concat().contains("hunter2"));
    }
}

#[test]
fn each_wrong_value_of_an_account_gets_its_remedy() {
    for (line, expected) in [
        ("login = 'lms'", "login: \"lms\" is not an address: it needs the form name@domain"),
        ("provider = 'Microsoft'", "provider: \"Microsoft\" is unknown; did you mean \"microsoft\"?"),
        ("cloud = 'germany'", "cloud: \"germany\" is unknown: use \"public\", \"gcc-high\", \"china\", \"personal\""),
        ("grant = 'aplication'", "grant: \"aplication\" is unknown; did you mean \"application\"?"),
        (
            "client_secret = '11111111-2222-3333-4444-555555555555'",
            "client_secret: that is the Secret ID, not the Value: copy the Value; it is only shown when the secret is made, so make a new one if it is gone",
        ),
        (
            "client_secret_expires = 2090-01-01",
            "client_secret_expires: belongs to a client_secret, and there is none: remove it",
        ),
        (
            "client_secret_expires = '2090-01-01'",
            "client_secret_expires: is a text: write the day without quotes, as in 2027-05-01",
        ),
        (
            "client_secret_expires = 2090-01-01T00:00:00Z",
            "client_secret_expires: has a time of day: write the day alone, as in 2027-05-01",
        ),
        ("send_as = 'a@b.de'", "send_as: is a text: write a list, as in send_as = [\"…\"]"),
        ("send_as = ['*@b.de']", "send_as[0]: \"*@b.de\" is a pattern: write each address that Exchange has granted"),
        ("connections = 0", "connections: is 0: it must be at least 1"),
        ("recipients_per_day = 4294967296", "recipients_per_day: is too large: the most is 4294967295"),
        (
            "token_url = 'http://login.contoso.com/'",
            "token_url: would send secrets in the clear to \"login.contoso.com\": use https://; http:// is only for this machine",
        ),
        (
            "device_url = 'login.contoso.com'",
            "device_url: is no address: write it in full, such as \"https://login.example.com/token\"",
        ),
        ("scopes = []", "scopes: is empty: remove the line for Microsoft's own"),
        ("scopes = ['a b']", "scopes[0]: \"a b\" has a space in it: write each scope as an item of its own"),
        (
            "smtp = 'smtp.office365.com'",
            "smtp: \"smtp.office365.com\" is no server: the port is missing, as in \"smtp.office365.com:587\"",
        ),
        (
            "smtp_tls = 'none'",
            "smtp_tls: \"none\" would send mail and token in the clear to smtp.office365.com:587: use \"starttls\" or \"implicit\"; \"none\" is only for this machine (127.0.0.1, ::1, localhost)",
        ),
        ("ca_file = '/nowhere/ca.pem'", "ca_file: /nowhere/ca.pem cannot be read: No such file or directory"),
        (
            "ca_file = '/proc/self/status'",
            "ca_file: /proc/self/status holds no certificate: it needs \"-----BEGIN CERTIFICATE-----\" (PEM)",
        ),
    ] {
        let listing = listing(load(&format!("{}{line}", ACCOUNT.trim_start())));
        assert_eq!(listing, [format!("5: account[0].{expected}")], "{line}");
    }
}

#[test]
fn a_client_id_is_checked_but_never_repeated() {
    let text = ACCOUNT.replace("11111111-2222-3333-4444-555555555555", "abc~hunter2");
    assert_listing(
        &text,
        &[
            "5: account[0].client_id: is not of the form 00000000-0000-0000-0000-000000000000: copy the Application (client) ID from the \
           app registration's overview page",
        ],
    );
}

#[test]
fn a_mailbox_is_there_once() {
    let second = ACCOUNT.replace("lms@", "LMS@");
    assert_listing(
        &format!("{ACCOUNT}{second}"),
        &["8: account[1].mailbox: LMS@contoso.com is already account[0] (line 2): keep one of the two"],
    );
}

#[test]
fn a_personal_mailbox_has_no_tenant() {
    let text = format!("{ACCOUNT}cloud = 'personal'");
    assert_listing(
        &text,
        &["4: account[0].tenant: is not needed: personal mailboxes are in no tenant of their own, remove it"],
    );
}

#[test]
fn a_range_cannot_be_smuggled_in_by_its_halves() {
    let nets: Vec<String> = (0..=255).map(|n| format!("\"8.{n}.0.0/16\"")).collect();
    let text = format!("[[listener]]\nallow = [{}]\n", nets.join(", "));
    let expected = "2: listener[0].allow: all of them together lets strangers on the Internet send as your mailbox";
    assert!(listing(with_account(&text))[0].starts_with(expected));
    assert!(
        with_account("[[listener]]\nallow = ['10.0.0.0/8', 'fd00::/8', '203.0.113.0/24', '2001:db8::/32']").is_ok()
    );
}

#[test]
fn the_name_of_an_instance_reads_the_same_wherever_it_is_shown() {
    for name in ["production", "staging-2", "lms_1.test", "P"] {
        assert_eq!(load(&format!("instance = {name:?}\n{ACCOUNT}")).unwrap().instance.as_deref(), Some(name));
    }
    for name in ["two words", "büro", "a\"b", &"x".repeat(65)] {
        let problems = load(&format!("instance = {name:?}\n{ACCOUNT}")).unwrap_err().to_string();
        assert!(problems.contains("instance: ") && problems.contains("is no name for an instance"), "{problems}");
    }
}
