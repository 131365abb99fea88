//! The lane of a message: whatever it looks like, it gets one, for a reason that can be shown.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xoauth2_relay::config::App;
use xoauth2_relay::lane::{Arrival, Judged, Lanes, Way};
use xoauth2_relay::message::{Address, Lane, Recipient};

/// A word that is in no reason.
const SECRET: &[u8] = b"s3cr3t";

fn judged(mail: &[u8], way: Way<'_>) -> Judged {
    let recipients = [Recipient::from(Address::parse("anna@example.com").unwrap())];
    let at = "2025-08-04T11:15:30Z".parse().unwrap();
    Lanes::default().judge(&App::default(), &Arrival { start: mail, recipients: &recipients, way, at })
}

fuzz_target!(|mail: &[u8]| {
    let way = Way::Connection { first: true, helo: None };
    let Judged { lane, why } = judged(mail, way);
    assert_eq!(judged(mail, way), Judged { lane, why: why.clone() });
    assert_eq!(judged(mail, Way::Folder).lane, lane, "nothing came before it");
    assert_eq!(why.is_none(), lane == Lane::Normal);
    if let Some(why) = why {
        assert!(why.len() < 200 && !why.chars().any(char::is_control), "{why}");
        assert!(!why.as_bytes().windows(SECRET.len()).any(|part| part == SECRET));
    }
    // In front of white space the field would go on.
    if !mail.starts_with(b" ") && !mail.starts_with(b"\t") {
        let bulk = [b"Precedence: bulk\r\n", mail].concat();
        assert_eq!(judged(&bulk, way).lane, Lane::Bulk);
    }
});
