//! `[[app]]`, `password` and `default_domain`.

use super::*;
use crate::config::{Glob, LaneRule};
use crate::message::{Address, Lane, SenderPolicy};

/// The warnings, the file's name left out.
fn warnings(text: &str) -> Vec<String> {
    let config = load(text).unwrap_or_else(|problems| panic!("{problems}"));
    config.warnings.iter().map(|warning| warning.to_string().replace("/etc/relay/relay.toml:", "")).collect()
}

#[test]
fn apps_are_read() {
    let config = with_account(
        "default_domain = 'contoso.com'\n[[listener]]\npassword = 'checked'\nallow = ['0.0.0.0/0', '::/0']\n\
         [[app]]\nname = 'Moodle'\ndescription = 'the learning site'\nallow = ['10.1.2.3', 'fd00::/8']\n\
         password = 'a password of moodle'\naccount = 'LMS@contoso.com'\nsenders = ['*@contoso.com']\n\
         sender = 'rewrite'\nlane = 'auto'\nin_doubt = 'retry'\nmessages_per_minute = 0\n\
         [[app]]\nname = 'DEFAULT'\ndescription = 'the others'\n",
    )
    .unwrap();
    assert_eq!(config.warnings.len(), 1, "passwords in the clear: {:?}", config.warnings);
    assert_eq!(config.default_domain.as_deref(), Some("contoso.com"));
    assert_eq!(config.listeners[0].password, Passwords::Checked);
    let [app] = &config.apps[..] else { panic!("{:?}", config.apps) };
    assert_eq!((app.name.as_str(), app.description.as_deref()), ("Moodle", Some("the learning site")));
    assert_eq!(app.allow.len(), 2);
    assert!(app.password.is_some());
    assert_eq!(app.in_doubt, InDoubt::Retry);
    assert_eq!(app.account.as_ref(), Some(&config.accounts[0].mailbox));
    assert_eq!(app.senders.iter().map(ToString::to_string).collect::<Vec<_>>(), ["*@contoso.com"]);
    assert_eq!(
        (config.default_app.name.as_str(), config.default_app.description.as_deref()),
        ("default", Some("the others"))
    );
    assert_eq!(load(ACCOUNT).unwrap().default_app.name, "default", "it is there without being described");
}

#[test]
fn all_that_is_wrong_with_apps_is_said_at_once() {
    assert_listing(
        &format!(
            "default_domain = 'root@contoso.com'{ACCOUNT}\
             [[app]]\nallow = []\nsenders = []\naccount = 'lsm@contoso.com'\n\
             [[app]]\nname = 'moodle'\naccount = 'erp@fabrikam.com'\nallow = ['10.0.0.0/33']\n\
             [[app]]\nname = 'MOODLE'\npassword = '$2y$10$abcdefghijklmnop$'\n\
             [[app]]\nname = 'the printers'\nsenders = ['contoso.com', 'lms']\n\
             [[app]]\nname = 'moodle@contoso.com'\nlane = 'fast'\naccounts = []\n\
             [[app]]\nname = 'default'\nallow = ['::1']\npassword = 'long enough to be good'\n\
             [[app]]\nnaem = 'x'\nmessages_per_minute = '5'\n"
        ),
        &[
            "1: default_domain: \"root@contoso.com\" is an address: write the domain alone, \"contoso.com\"",
            "6: app[0].name: is missing: it is the app's user name too, for example name = \"moodle\"",
            "7: app[0].allow: is empty: the app could never send; write its networks, or remove the line for every network of the listener",
            "8: app[0].senders: is empty: the app could send as nobody; write who it may send as, or remove the line for anyone",
            "9: app[0].account: lsm@contoso.com is no mailbox of an [[account]]; did you mean lms@contoso.com?",
            "12: app[1].account: erp@fabrikam.com is no mailbox of an [[account]]: write one of lms@contoso.com",
            "13: app[1].allow[0]: \"10.0.0.0/33\" is no network: write an address or a range, such as \"10.1.2.3\", \"10.0.0.0/8\" or \
             \"::1\"",
            "15: app[2].name: \"MOODLE\" is already app[1] (line 10): upper and lower case make no difference",
            "16: app[2].password: is a hash of another kind: write the password itself, or a hash that begins with $argon2id$, as \
             made by: argon2 SALT -id -t 2 -k 19456 -p 1 -e",
            "18: app[3].name: \"the printers\" cannot be a user name, because of ' ': write letters (a-z), digits, dots, hyphens and \
             underscores, and put the rest into description",
            "19: app[3].senders[0]: \"contoso.com\" is a domain: write \"*@contoso.com\" for everyone in it",
            "19: app[3].senders[1]: \"lms\" is no sender: write an address or a pattern, such as \"*@contoso.com\"",
            "21: app[4].name: \"moodle@contoso.com\" is an address: write the part before the @ alone; programs may log in with any \
             @domain behind it",
            "22: app[4].lane: \"fast\" is unknown: use \"auto\", \"urgent\", \"normal\", \"bulk\"",
            "23: app[4].accounts: is empty: write the mailboxes that carry the app's mail, or remove the line",
            "26: app[5].allow: cannot be set for \"default\", which is every program that no other [[app]] describes: remove it, or \
             give the app another name",
            "27: app[5].password: cannot be set for \"default\", which is every program that no other [[app]] describes: remove it, or \
             give the app another name",
            "29: app[6].naem: is unknown; did you mean name?",
            "30: app[6].messages_per_minute: is a text: write the number without quotes",
        ],
    );
}

#[test]
fn a_listener_that_nobody_could_log_in_at_is_refused() {
    let elsewhere = "[[app]]\nname = 'x'\nallow = ['10.0.0.1']\npassword = 'long enough to be good'\n";
    assert_listing(
        &format!("[[listener]]\npassword = 'checked'{ACCOUNT}"),
        &[
            "2: listener[0].password: is \"checked\", and no [[app]] has a password: nobody could log in; add an [[app]] with name and \
           password",
        ],
    );
    assert_listing(
        &format!("[[listener]]\npassword = 'checked'{ACCOUNT}{elsewhere}"),
        &[
            "2: listener[0].password: is \"checked\", and every [[app]] with a password is in networks that may not connect here: nobody \
           could log in; compare allow of the two",
        ],
    );
    assert_listing(
        &format!("[[listener]]\npassword = 'cheked'{ACCOUNT}"),
        &["2: listener[0].password: \"cheked\" is unknown; did you mean \"checked\"?"],
    );
    assert_listing(
        &format!("[[listener]]\npassword = 'a password of moodle'{ACCOUNT}"),
        &[
            "2: listener[0].password: is neither \"any\" nor \"checked\"; a program's own password goes into its [[app]]",
        ],
    );
    assert!(load(&format!("[[listener]]\npassword = 'checked'\nallow = ['10.0.0.0/8']{ACCOUNT}{elsewhere}")).is_ok());
}

#[test]
fn only_a_listener_that_checks_passwords_may_be_open_to_everybody() {
    let text = |password: &str| {
        format!(
            "[[listener]]\npassword = '{password}'\nallow = ['0.0.0.0/0', '::/0']{ACCOUNT}[[app]]\nname = 'x'\n\
             password = 'long enough to be good'\n"
        )
    };
    assert!(load(&text("checked")).is_ok());
    let listing = listing(load(&text("any")));
    assert_eq!(listing.len(), 2, "{listing:#?}");
    assert!(
        listing[0].contains("(an open relay)") && listing[0].ends_with("unless password = \"checked\""),
        "{listing:#?}"
    );
}

#[test]
fn passwords_that_may_cross_the_internet_in_the_clear_are_a_warning() {
    let said = |allow: &str, password: &str| {
        let app = "[[app]]\nname = 'x'\npassword = 'long enough to be good'\n";
        warnings(&format!("[[listener]]\npassword = '{password}'\nallow = ['10.0.0.0/8', {allow}]{ACCOUNT}{app}"))
    };
    assert_eq!(
        said("'203.0.113.9'", "checked"),
        [
            "2: listener[0].password: is \"checked\" without TLS being required, so passwords of programs in 203.0.113.9/32 may cross the \
          Internet in the clear: set tls = \"implicit\", or \"starttls\" with require_tls = true"
        ]
    );
    assert_eq!(said("'fd00::/8'", "checked"), [""; 0], "a network of one's own");
    assert!(said("'203.0.113.9'", "any").iter().all(|text| !text.contains("Internet")), "nobody asks for a password");
}

#[test]
fn what_apps_cannot_be_told_apart_by_is_a_warning() {
    assert_eq!(
        warnings(&format!(
            "default_domain = 'localdomain'{ACCOUNT}\
             [[app]]\nname = 'a'\nallow = ['127.0.0.1', '10.9.0.1']\n\
             [[app]]\nname = 'b'\nallow = ['127.0.0.1/32']\npassword = 'hunter2'\n\
             [[app]]\nname = 'c'\n\
             [[app]]\nname = 'd'\n\
             [[app]]\nname = 'e'\nallow = ['127.0.0.2']\n\
             [[app]]\nname = 'default'\n"
        )),
        [
            "1: default_domain: localdomain has no dot: mail to such addresses reaches nobody; write a domain such as contoso.com",
            "8: app[0].allow: 10.9.0.1/32 may not connect to any listener: add it to allow of a [[listener]] (or remove it here)",
            "11: app[1].allow: has 127.0.0.1/32, the same as app[0] (line 6): a program there that does not log in as \"b\" counts as \
             \"a\", the first of the two",
            "12: app[1].password: is short: 12 characters and more are not found by trying; \"openssl rand -base64 18\" makes a good one",
            "12: app[1].password: is not looked at, because no [[listener]] has password = \"checked\": every program may call itself by \
             this name",
            "15: app[3].allow: is not set, the same as app[2] (line 13): a program there that does not log in as \"d\" counts as \"c\", \
             the first of the two",
        ]
    );
    let checked = "[[listener]]\npassword = 'checked'\n[[app]]\nname = 'a'\npassword = 'long enough to be good'\n\
                   [[app]]\nname = 'b'\npassword = 'long enough to be good too'\n";
    assert_eq!(warnings(&format!("{checked}{ACCOUNT}")), [""; 0], "their passwords tell them apart");
}

#[test]
fn several_accounts_of_an_app_have_to_be_there_and_should_be_able_to_send_as_one() {
    let two = |send_as: &str| {
        let one = |mailbox: &str| format!("{}send_as = {send_as}\n", ACCOUNT.replace("lms@contoso.com", mailbox));
        format!("{}{}", one("lms1@contoso.com"), one("lms2@contoso.com"))
    };
    let app =
        "[[app]]\nname = 'moodle'\nmessages_per_minute = 5\naccounts = ['lms2@contoso.com', 'LMS1@contoso.com']\n";
    let config = load(&format!("{}{app}", two("['noreply@contoso.com']"))).unwrap();
    assert_eq!(config.warnings.len(), 0, "{:?}", config.warnings);
    assert_eq!(config.apps[0].accounts, [config.accounts[1].mailbox.clone(), config.accounts[0].mailbox.clone()]);
    assert_eq!(config.apps[0].messages_per_minute, 5);
    let said = warnings(&format!("{}{app}", two("[]")));
    assert!(said[0].contains("app[0].accounts: have no sender in common"), "{said:?}");

    let wrong = "[[app]]\nname = 'moodle'\naccount = 'lms1@contoso.com'\n\
                 accounts = ['lms1@contoso.com', 'LMS1@contoso.com', 'lms3@contoso.com']\n";
    let problems = load(&format!("{}{wrong}", two("['noreply@contoso.com']"))).unwrap_err();
    let said: Vec<_> = problems.iter().map(|problem| problem.text.as_str()).collect();
    assert_eq!(
        said,
        [
            "cannot stand beside account: write all mailboxes into accounts, and remove account",
            "names LMS1@contoso.com twice: remove one of them",
            "lms3@contoso.com is no mailbox of an [[account]]; did you mean lms1@contoso.com?",
        ]
    );
}

#[test]
fn a_password_file_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    let load = || {
        load(&format!(
            "{ACCOUNT}[[listener]]\npassword = 'checked'\n[[app]]\nname = 'x'\npassword = {{ file = '{}' }}\n",
            file.display()
        ))
    };
    let said = |config: Config| config.warnings.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(said(load().unwrap())[0].ends_with("does not exist"));
    for (contents, warning) in [
        ("hunter2\n", Some("is short")),
        ("long enough to be good\n", None),
        ("$argon2id$v=19$m=4096,t=3,p=1$c2FsdHNhbHRzYWx0$MDEyMzQ1Njc4OWFiY2RlZg\n", Some("cheap to try")),
    ] {
        std::fs::write(&file, contents).unwrap();
        let said = said(load().unwrap());
        assert_eq!(said.len(), usize::from(warning.is_some()), "{said:?}");
        assert!(said.iter().all(|text| text.contains(warning.unwrap()) && !text.contains("hunter2")), "{said:?}");
    }
    std::fs::write(&file, "$6$salt$hash\n").unwrap();
    assert!(load().unwrap_err().to_string().contains("is a hash of another kind"));
}

#[test]
fn no_password_is_ever_shown() {
    for password in ["'hunter2'", "'$6$hunter2$x'", "hunter2", "['hunter2']", "{ value = 'hunter2' }"] {
        let text = format!("{ACCOUNT}[[app]]\nname = 'x'\npassword = {password}\n");
        assert!(!format!("{:?}", load(&text)).contains("hunter2"), "{password}");
    }
}

#[test]
fn lanes_and_their_rules_are_read() {
    let text = "[[app]]\nname = 'erp'\nlane = 'bulk'\n[[app]]\nname = 'moodle'\nlane = 'auto'\n\
         [[app.lane_rule]]\nheader = 'Subject'\nmatches = '*Prüfung*'\nlane = 'urgent'\n\
         [[app.lane_rule]]\nheader = 'X-Queue'\nmatches = 'low'\nlane = 'bulk'\n[[app]]\nname = 'grafana'\n";
    let config = with_account(text).unwrap();
    let lanes: Vec<_> = config.apps.iter().map(|app| (app.lane, app.lane_rules.len())).collect();
    assert_eq!(lanes, [(Some(Lane::Bulk), 0), (None, 2), (None, 0)]);
    let rule = LaneRule { header: "Subject".into(), matches: Glob::new("*Prüfung*"), lane: Lane::Urgent };
    assert_eq!(config.apps[1].lane_rules[0], rule);
    let both = format!(
        "{ACCOUNT}[[app]]\nname = 'x'\nlane = 'bulk'\nlane_rule = [{{ header = 'A', matches = '*', lane = 'urgent' }}]\n"
    );
    let said = warnings(&both);
    assert!(said.iter().any(|said| said.contains("is not looked at, because lane = \"bulk\"")), "{said:?}");
}

#[test]
fn all_that_is_wrong_with_rules_is_said_at_once() {
    assert_listing(
        &format!(
            "{ACCOUNT}[[app]]\nname = 'a'\nlane = 'urgnet'\n\
             [[app.lane_rule]]\nheader = 'Subject:'\nmatches = ''\nlane = 'auto'\n\
             [[app.lane_rule]]\nhaeder = 'Subject'\n\
             [[app.lane_rule]]\nheader = 'To whom'\nmatches = 7\nlane = 'bulk'\n\
             [[app]]\nname = 'b'\nlane_rule = 'Subject'\n"
        ),
        &[
            "8: app[0].lane: \"urgnet\" is unknown; did you mean \"urgent\"?",
            "10: app[0].lane_rule[0].header: \"Subject:\" has a colon: write the name alone, \"Subject\"",
            "11: app[0].lane_rule[0].matches: is empty: write what the value looks like, for example \"*exam*\", or \"*\" for any",
            "12: app[0].lane_rule[0].lane: \"auto\" is unknown: use \"urgent\", \"normal\", \"bulk\"",
            "13: app[0].lane_rule[1].matches: is missing: say what its value looks like, for example matches = \"*password reset*\", or \
             \"*\" for any",
            "13: app[0].lane_rule[1].lane: is missing: say where such mail travels: \"urgent\", \"normal\" or \"bulk\"",
            "14: app[0].lane_rule[1].haeder: is unknown; did you mean header?",
            "16: app[0].lane_rule[2].header: \"To whom\" is no name of a header field: write one such as \"Subject\"",
            "17: app[0].lane_rule[2].matches: is a number: write a text, in quotes",
            "21: app[1].lane_rule: is a text: write [[app.lane_rule]] below its [[app]], with header = \"Subject\", matches = \"*…*\" and \
             lane = \"urgent\"",
        ],
    );
}

#[test]
fn what_an_app_does_about_senders_and_recipients_is_read() {
    let config = with_account(
        "[[app]]\nname = 'erp'\nsender = 'refuse'\n\
         [[app]]\nname = 'printers'\nsender = 'keep'\nallow = ['10.0.0.1']\n\
         [[app]]\nname = 'staging'\nallow = ['10.0.0.2']\ndivert_to = ' dev-team@contoso.com '\n\
         [[app]]\nname = 'default'\nrecipients_allow = ['*@contoso.com', 'dean@school.org']\n",
    )
    .unwrap();
    let policies: Vec<SenderPolicy> = config.apps.iter().map(|app| app.sender).collect();
    assert_eq!(policies, [SenderPolicy::Refuse, SenderPolicy::Keep, SenderPolicy::Rewrite]);
    assert_eq!(config.apps[2].divert_to.as_ref().map(Address::as_str), Some("dev-team@contoso.com"));
    let may_go = |to: &str| config.default_app.may_send_to(&Address::parse(to).unwrap());
    assert!(may_go("Anyone@contoso.com") && may_go("dean@school.org") && !may_go("you@example.com"));
    let binds: Vec<bool> = config.apps.iter().chain([&config.default_app]).map(|app| app.binds()).collect();
    assert_eq!(binds, [true, false, true, true], "a user name leads out of none of these");
}

#[test]
fn all_that_is_wrong_with_staging_is_said_at_once() {
    assert_listing(
        &format!(
            "{ACCOUNT}[[app]]\nname = 'a'\nsender = 'rewrit'\ndivert_to = 'dev-team'\nrecipients_allow = []\n\
             [[app]]\nname = 'send-test'\nsender = true\nrecipients_allow = ['contoso.com', '*']\n\
             [[app]]\nname = 'XOAUTH2-relay'\ndivert_to = []\n\
             [[app]]\nname = 'b'\ndivert_to = '*@contoso.com'\n"
        ),
        &[
            "8: app[0].sender: \"rewrit\" is unknown; did you mean \"rewrite\"?",
            "9: app[0].divert_to: \"dev-team\" is not an address: it needs the form name@domain",
            "10: app[0].recipients_allow: is empty: every mail would be held; write to whom mail may go, or remove the line for anyone",
            "12: app[1].name: \"send-test\" is the relay's own mail: take another name",
            "13: app[1].sender: is true or false: write a text, in quotes",
            "14: app[1].recipients_allow[0]: \"contoso.com\" is a domain: write \"*@contoso.com\" for everyone in it",
            "14: app[1].recipients_allow[1]: \"*\" is anyone, as without this key: remove it",
            "16: app[2].name: \"XOAUTH2-relay\" is the relay's own mail: take another name",
            "17: app[2].divert_to: is a list: write a text, in quotes",
            "20: app[3].divert_to: \"*@contoso.com\" is a pattern: write the one address that every mail goes to",
        ],
    );
    let both = format!("{ACCOUNT}[[app]]\nname = 'a'\ndivert_to = 'a@b.example'\nrecipients_allow = ['*@b.example']\n");
    assert_eq!(
        warnings(&both),
        [
            "9: app[0].recipients_allow: has no effect beside divert_to, where every mail goes instead: remove one of the two"
        ]
    );
}

#[test]
fn a_postmaster_whose_mail_nobody_reads_is_warned_of() {
    let told = |postmaster: &str| warnings(&format!("postmaster = '{postmaster}'{ACCOUNT}"));
    assert_eq!(told("it@contoso.com"), [""; 0]);
    assert_eq!(
        told("LMS@contoso.com"),
        ["1: postmaster: LMS@contoso.com is a mailbox that programs send through: name people who read their mail"]
    );
}
