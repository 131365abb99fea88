//! Addresses: what is taken as one is the same wherever it is written and read again, and can break out of nothing it is put into.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xoauth2_relay::message::{Address, Mailboxes};
use xoauth2_relay::smtp::Command;

fuzz_target!(|input: &[u8]| {
    let Ok(text) = str::from_utf8(input) else { return };
    check_field(text);
    let Ok(address) = Address::parse(text) else { return };
    assert_eq!(address.to_string(), text, "kept as it was written");
    assert_eq!(Address::parse(&address.to_string()).as_ref(), Ok(&address));
    assert_eq!(Address::parse(&address.key()).as_ref(), Ok(&address), "the form in which the store knows it");
    assert_eq!(address.is_ascii(), text.is_ascii());
    assert!(text.ends_with(&format!("@{}", address.domain())));
    assert!(!text.chars().any(char::is_control));

    let line = format!("RCPT TO:<{address}>");
    assert_eq!(Command::parse(line.as_bytes()), Ok(Command::Rcpt(address.clone().into())), "{line}");
    let Ok(Command::Mail(mail)) = Command::parse(format!("MAIL FROM:<{address}> SIZE=7").as_bytes()) else {
        panic!("MAIL FROM:<{address}> SIZE=7 is not understood")
    };
    assert_eq!((mail.sender.as_ref(), mail.size), (Some(&address), 7));

    if let Some(ascii) = address.in_ascii() {
        assert!(ascii.is_ascii());
        assert_eq!(ascii.in_ascii().as_ref(), Some(&ascii), "what is ASCII already stays as it is");
    }

    for value in [format!(" <{address}>"), format!(" Name <{address}> (x)")] {
        let found = Mailboxes::find(value.as_bytes());
        assert!(found.sound, "{value}");
        assert_eq!(found.list.iter().map(|mailbox| &mailbox.address).collect::<Vec<_>>(), [&address], "{value}");
    }
});

/// Anything at all may stand in an address field; the places found in it are places in it.
fn check_field(value: &str) {
    let found = Mailboxes::find(value.as_bytes());
    let mut end = 0;
    for mailbox in &found.list {
        assert!(
            mailbox.phrase.start >= end
                && mailbox.phrase.end <= mailbox.place.start
                && mailbox.place.end <= value.len()
        );
        end = mailbox.place.end;
    }
    assert!(!found.sound || !found.list.is_empty());
    // A name that is used for a field written anew leaves the address behind it the only one.
    if let Some(name) = found.name {
        let anew = [&name[..], b" <lms@contoso.com>"].concat();
        let again = Mailboxes::find(&anew);
        let addresses: Vec<_> = again.list.iter().map(|mailbox| mailbox.address.as_str()).collect();
        assert!(again.sound, "{:?}", anew.escape_ascii().to_string());
        assert_eq!(addresses, ["lms@contoso.com"], "{:?}", anew.escape_ascii().to_string());
    }
}
