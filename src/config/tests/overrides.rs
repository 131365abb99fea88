//! Variables that override the file.

use std::path::PathBuf;
use std::time::Duration;

use super::*;

fn overridden(vars: &[(&str, &str)]) -> Result<Config, Problems> {
    let environment = vars.iter().copied().collect();
    Config::from_text(&format!("log = 'warn'\n{ACCOUNT}"), "relay.toml", &environment)
}

#[test]
fn variables_override_scalars_outside_lists() {
    let config = overridden(&[
        ("XOAUTH2_RELAY__HOSTNAME", "relay.contoso.com"),
        ("XOAUTH2_RELAY__LOG", "debug"),
        ("XOAUTH2_RELAY__DATA_DIR", "\"/srv/relay\""),
        ("XOAUTH2_RELAY__QUEUE__GIVE_UP_AFTER", "2d"),
        ("XOAUTH2_RELAY__QUEUE__JOURNAL_DAYS", "7"),
        ("XOAUTH2_RELAY__QUEUE__RECORD_SUBJECTS", "false"),
        ("XOAUTH2_RELAY__ADMIN__ADDRESS", "127.0.0.1:9025"),
        ("XOAUTH2_RELAY__KEY", "{ env = 'SEAL' }"),
        ("XOAUTH2_RELAY_CONFIG", "/etc/other.toml"),
        ("HOME", "/root"),
    ])
    .unwrap();
    assert_eq!((config.hostname.as_str(), config.log.filter.as_str()), ("relay.contoso.com", "debug"));
    assert_eq!(config.data_dir, PathBuf::from("/srv/relay"));
    assert_eq!((config.queue.give_up_after, config.queue.journal_days), (Duration::from_hours(48), 7));
    assert!(!config.queue.record_subjects);
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9025");
    assert_eq!(config.key, Some(SecretSource::Env("SEAL".to_owned())));
}

#[test]
fn a_secret_may_come_from_the_place_that_a_variable_names() {
    let config = overridden(&[("XOAUTH2_RELAY__KEY__FILE", "/run/secrets/key")]).unwrap();
    assert_eq!(config.key, Some(SecretSource::File(PathBuf::from("/run/secrets/key"))));
    // A number is a text where a text belongs.
    let config = overridden(&[("XOAUTH2_RELAY__HOSTNAME", "2027"), ("XOAUTH2_RELAY__KEY", "12345")]).unwrap();
    assert_eq!((config.hostname.as_str(), config.key), ("2027", Some(SecretSource::Literal(Secret::new("12345")))));
}

#[test]
fn a_variable_that_sets_nothing_is_named() {
    for (name, value, expected) in [
        ("QUEUE__GIVEUP_AFTER", "1d", "names no key of [queue]; did you mean GIVE_UP_AFTER?"),
        ("PORT", "25", "names no key of the top of the file: remove it or correct its name"),
        ("SERVER__PORT", "25", "names no key: there is no server"),
        ("", "x", "names no key of the top of the file: remove it or correct its name"),
        ("QUEUE__RETRY", "['1m']", "retry is a list, and variables only set single values: set it in the file"),
        ("QUEUE", "{}", "[queue] has keys of its own: name one of them, as in XOAUTH2_RELAY__QUEUE__…"),
        (
            "ACCOUNT__0__TENANT",
            "x",
            "there can be several [[account]], and a variable could not say which one: set it in the file",
        ),
        (
            "LISTENER",
            "x",
            "there can be several [[listener]], and a variable could not say which one: set it in the file",
        ),
        ("QUEUE__JOURNAL_DAYS", "0", "queue.journal_days: is 0: it must be at least 1"),
        ("ADMIN__URL", "https://relay.test", "admin.url: is not yet supported in this version: remove it"),
        ("HOSTNAME", "", "hostname: is empty: remove it or complete it"),
    ] {
        let name = format!("XOAUTH2_RELAY__{name}");
        let problems = overridden(&[(name.as_str(), value)]).unwrap_err();
        assert_eq!(problems.to_string(), format!("{name}: {expected}"));
    }
}
