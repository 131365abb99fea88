//! Files of other programs: none makes the readers panic, and an account that is found becomes one `[[account]]` with its own values.
//!
//! The first octet says of which program they are; a NUL parts two files.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use xoauth2_relay::import::Found;
use xoauth2_relay::import::email_oauth2_proxy::{Opened, Proxy};
use xoauth2_relay::import::sasl_xoauth2::{Beside, SaslPasswd, Settings, account};

fuzz_target!(|input: &[u8]| {
    let Some((program, input)) = input.split_first() else { return };
    let Ok(text) = str::from_utf8(input) else { return };
    let (first, second) = text.split_once('\0').map_or((text, None), |(first, second)| (first, Some(second)));
    match program {
        b'e' => email_oauth2_proxy(first, second),
        b's' => sasl_xoauth2(first, second),
        _ => {}
    }
});

fn email_oauth2_proxy(text: &str, cache: Option<&str>) {
    let Ok(proxy) = Proxy::parse(text, cache) else { return };
    for account in proxy.accounts() {
        let obstacle = account.obstacle();
        match account.open(None, proxy.other_server()) {
            Opened::Found(found) => {
                assert!(obstacle.is_none() && !account.needs_password(), "nothing sealed opens without a password");
                check(&found);
            }
            Opened::OtherPassword => assert!(account.needs_password()),
            Opened::Unusable(why) => assert!(!why.is_empty()),
        }
    }
}

fn sasl_xoauth2(token: &str, beside: Option<&str>) {
    let Ok(token) = Settings::parse(token) else { return };
    let (config, table) = beside.and_then(|beside| beside.split_once('\0')).unwrap_or((beside.unwrap_or_default(), ""));
    let config = Settings::parse(config).ok();
    let beside = Beside { sasl_passwd: Some(SaslPasswd::parse(table)), ..Beside::default() };
    if let Ok(read) = account(Path::new("/etc/tokens/lms@contoso.com"), &token, config.as_ref(), &beside) {
        check(&read.found);
    }
}

fn check(found: &Found) {
    let block: toml::Table = found.block("\"secret\"").parse().expect("a block is TOML");
    let accounts = block["account"].as_array().expect("a list of tables");
    assert_eq!((block.len(), accounts.len()), (1, 1));
    assert_eq!(accounts[0]["mailbox"].as_str(), Some(found.mailbox.as_str()));
    assert_eq!(accounts[0]["client_id"].as_str(), Some(found.client_id.as_str()));
}
