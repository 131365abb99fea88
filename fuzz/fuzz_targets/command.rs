//! One command line: never a panic, and nothing in what was understood that was not said.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xoauth2_relay::smtp::Command;

fuzz_target!(|line: &[u8]| {
    let parsed = Command::parse(line);
    let padded = [b" ", line, b"\t "].concat();
    assert_eq!(Command::parse(&padded), parsed, "white space around a line means nothing");
    let said = |text: &str| line.windows(text.len().max(1)).any(|part| part == text.as_bytes());
    match &parsed {
        Ok(Command::Mail(mail)) => {
            assert!(mail.sender.as_ref().is_none_or(|sender| said(sender.as_str())));
            assert!(mail.envid.as_ref().is_none_or(|envid| said(envid.as_str()) && is_one_word(envid.as_str())));
            assert!(mail.size == 0 || mail.size < 10_u64.pow(18));
        }
        Ok(Command::Rcpt(recipient)) => {
            assert!(said(recipient.address.as_str()));
            // Handed on as it is: it must not begin another parameter there.
            assert!(recipient.orcpt.as_ref().is_none_or(|orcpt| is_one_word(orcpt.as_str())));
        }
        Ok(_) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});

fn is_one_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}
