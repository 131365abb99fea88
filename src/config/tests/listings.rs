//! What a bad file is told, as a whole.

use super::*;
use crate::config::keys::{self, Meaning};

#[test]
fn what_is_missing_says_what_to_add() {
    assert_eq!(
        load("").unwrap_err().to_string(),
        "/etc/relay/relay.toml: account: is missing: the relay needs a mailbox to send through; add [[account]] with mailbox, \
         tenant and client_id"
    );
    assert_listing(
        "log = 'debug'\n\n[[account]]\n",
        &[
            "3: account[0].mailbox: is missing: name the address that mail leaves as, for example lms@contoso.com",
            "3: account[0].tenant: is missing: Entra ID needs to know the tenant, for example contoso.onmicrosoft.com",
            "3: account[0].client_id: is missing: copy the Application (client) ID from the app registration's overview page",
        ],
    );
}

#[test]
fn all_problems_come_at_once_in_the_order_of_the_file() {
    assert_listing(
        r#"hostname = "my_host"
log = "inof"
hostnam = 1

[[account]]
mailbox = "lms"
tenant = "common"
clientid = "x"
messages_per_minute = 0

[queue]
retry = []
log = "debug"

[admin]
address = "8025"
"#,
        &[
            "1: hostname: \"my_host\" cannot be said in EHLO: write a name of letters, digits, hyphens and dots, such as \
             \"relay.contoso.com\"",
            "2: log: \"inof\" is no level; did you mean \"info\"?",
            "3: hostnam: is unknown; did you mean hostname?",
            "6: account[0].mailbox: \"lms\" is not an address: it needs the form name@domain",
            "7: account[0].tenant: \"common\" is no tenant of its own: write the mailbox's, for example contoso.onmicrosoft.com",
            "8: account[0].clientid: is unknown; did you mean client_id?",
            "9: account[0].messages_per_minute: is 0: it must be at least 1",
            "12: queue.retry: is empty: a mail that fails once would never be tried again",
            "13: queue.log: does not belong below [queue], but at the top of the file, above the first [heading]",
            "16: admin.address: \"8025\" is no address to listen at: write an address of this machine and a port, such as \
             \"127.0.0.1:2525\" or \"[::1]:2525\"",
        ],
    );
}

#[test]
fn broken_toml_is_told_together_with_everything_else() {
    assert_listing(
        r#"log = info
hostnam = "x"
data_dir: /var/lib

[[listener]]
adress = "127.0.0.1:2525"
idle_timeout = 10m
allow = ["10.0.0.0/7", "10.0.0.0/8"
max_connections = 0

[account]
mailbox = lms@contoso.com
client_secret = abc~hunter2
client_id
[queue
retry = "1m"
[admin]
address = "127.0.0.1:1
address = "127.0.0.1:2"
[admin]
"#,
        &[
            "1: the value of log is not understood: a text needs quotes, as in log = \"…\"",
            "2: hostnam: is unknown; did you mean hostname?",
            "3: a key and its value are joined by =, as in data_dir = \"…\"",
            "6: listener[0].adress: is unknown; did you mean address?",
            "7: the value of idle_timeout is not understood: a text needs quotes, as in idle_timeout = \"…\"",
            "8: the list is not closed: the ] at its end is missing",
            "8: listener[0].allow[0]: \"10.0.0.0/7\" lets strangers on the Internet send as your mailbox without a password (an open \
             relay): write the networks of your programs; at most a /16 (IPv6: a /32) of public addresses is taken, unless password = \
             \"checked\"",
            "9: listener[0].max_connections: is 0: it must be at least 1",
            "11: account: is written with single brackets: write [[account]] and its keys below, since there can be several",
            "12: the value of mailbox is not understood: a text needs quotes, as in mailbox = \"…\"",
            "13: the value of client_secret is not understood: a text needs quotes, as in client_secret = \"…\"",
            "14: this line has no value: remove it or complete it, as in client_id = \"…\"",
            "15: the heading is not closed: it needs as many ] as it has [",
            "16: queue.retry: is a text: write a list, as in retry = [\"…\"]",
            "18: the text is not closed: the quote at its end is missing",
            "19: address is given for the second time: remove one of them",
            "20: [admin] stands here for the second time: put all its keys below one heading",
        ],
    );
}

#[test]
fn other_ways_to_break_toml_are_understood() {
    for (text, expected) in [
        (
            "hostname = \"C:\\windows\"",
            "1: a backslash has a meaning of its own within \"…\": write \\\\ for one, or put the text in '…'",
        ),
        ("log =", "1: log has no value: remove the line or complete it"),
        ("[[account]]\n[account]", "2: [account] must be written [[account]]: there can be several of them"),
        ("[[listener]]\nallow = [\"::1\" \"10.0.0.0/8\"]", "2: a comma is missing between two items of the list"),
        ("[queue]\nretry = [ # why\n  \"1m\", # so", "2: the list is not closed: the ] at its end is missing"),
        ("log = \"\"\"info", "1: the text is not closed: the quote at its end is missing"),
        ("[[queue]]", "1: queue: can be there only once: write [queue] and its keys below"),
        ("queue = 5", "1: queue: is a number: write [queue] and its keys below"),
        ("listener = 5", "1: listener: is a number: write [[listener]] and its keys below, since there can be several"),
        (
            "listener = ['x']",
            "1: listener[0]: is a text: write [[listener]] and its keys below, since there can be several",
        ),
        ("\"\"\"\n\n", "1: this line has no value: remove it or complete it, as in key = \"…\""),
        ("a b c", "1: this line has no value: remove it or complete it, as in key = \"…\""),
    ] {
        let listing = listing(load(text));
        assert_eq!(listing.first().map(String::as_str), Some(expected), "{text}: {listing:#?}");
    }
}

/// A file with all keys that have no meaning yet, and their paths. `value` says what they are set to; `None` leaves one out.
fn later(value: impl Fn(Meaning) -> Option<String>) -> (String, Vec<String>) {
    let mut text = String::new();
    let mut paths = Vec::new();
    for (scope, heading, path) in [
        (&keys::ROOT, "", ""),
        (&keys::LISTENER, "[[listener]]", "listener[0]."),
        (&keys::ACCOUNT, ACCOUNT, "account[0]."),
        (&keys::APP, "[[app]]\nname = 'moodle'", "app[0]."),
        (&keys::QUEUE, "[queue]", "queue."),
        (&keys::ADMIN, "[admin]", "admin."),
        (&keys::ALERT, "[alert]", "alert."),
    ] {
        text.extend([heading, "\n"]);
        for key in scope.keys.iter().filter(|key| key.meaning != Meaning::Now) {
            if let Some(value) = value(key.meaning) {
                text.extend([key.name, " = ", &value, "\n"]);
                paths.push(format!("{path}{}", key.name));
            }
        }
    }
    (text, paths)
}

#[test]
fn keys_of_later_versions_are_refused_as_such() {
    let (text, paths) = later(|_| Some("'x'".to_owned()));
    let problems = load(&text).unwrap_err();
    assert_eq!(problems.iter().map(|problem| problem.key.clone()).collect::<Vec<_>>(), paths);
    for problem in problems.iter() {
        assert!(problem.text.starts_with("is not yet supported in this version: remove it"), "{problem}");
    }
}

#[test]
fn keys_of_later_versions_may_say_what_holds_anyway() {
    let (text, paths) = later(|meaning| match meaning {
        Meaning::Empty => Some("[]".to_owned()),
        Meaning::Now | Meaning::Later => None,
    });
    assert_eq!(paths.len(), 1, "{paths:?}");
    assert_eq!(listing(load(&text)), [""; 0], "{text}");
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let load = |path: &Path| Config::load(path, &Environment::default()).unwrap_err().to_string();
    let expected = "/nowhere/relay.toml: cannot be read: No such file or directory; --config names another file";
    assert_eq!(load(Path::new("/nowhere/relay.toml")), expected);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.toml");
    std::fs::write(&file, b"log = 'info'\n# caf\xe9\n").unwrap();
    assert!(load(&file).ends_with("relay.toml: line 2 is not UTF-8: save the file in that encoding"));
    std::fs::write(&file, vec![b'#'; (1 << 20) + 1]).unwrap();
    assert!(load(&file).ends_with("relay.toml: is larger than 1 MiB: that is no configuration"));
}

#[test]
fn no_secret_is_ever_shown() {
    let text = format!("key = 'hunter2'\n{ACCOUNT}client_secret = 'hunter2'");
    assert!(!format!("{:?}", load(&text).unwrap()).contains("hunter2"));
    for line in [
        "client_secret = hunter2",
        "client_secret = 'hunter2",
        "client_secret = ['hunter2']",
        "client_secret = { value = 'hunter2' }",
        "client_secret = { env = 'hunter2=' }",
        "client_secret = { credential = '/hunter2' }",
        "client_secret = { command = 'echo hunter2' }",
        "client_secret =\nhunter2",
        "client_secret = 'a'\nclient_secret = 'hunter2'",
        "client_id = 'hunter2'",
        "token_url = 'https://u:hunter2@x/'",
        "token_url = 'hunter2'",
    ] {
        let problems = load(&format!("{ACCOUNT}{line}\n")).unwrap_err();
        assert!(!format!("{problems} {problems:?}").contains("hunter2"), "{problems}");
    }
}
