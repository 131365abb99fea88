//! What overtakes what, and who carries it, with real sockets.

use std::collections::BTreeSet;

use xoauth2_relay::config::Secret;
use xoauth2_relay::message::Address;
use xoauth2_relay::ops::Selection;
use xoauth2_relay::simulator::{Mailbox, Options};

use crate::support::{Client, MAILBOX, Rig, blocking, quick};

/// Mail of one sender, one after the other, in one session.
async fn submit(rig: &Rig, user: &str, to: Vec<String>) {
    let (door, user) = (rig.door(), user.to_owned());
    blocking(move || {
        let mut client = Client::greeted(door);
        // "\0user\0x" in Base64.
        assert!(client.ask(&format!("AUTH PLAIN {}", base64(&format!("\0{user}\0x")))).starts_with("235"));
        for to in to {
            let mail = format!("From: Moodle <{MAILBOX}>\r\nTo: {to}\r\nSubject: a mail\r\n\r\nIt works.\r\n");
            client.submit(MAILBOX, &[to], &mail);
        }
        assert!(client.ask("QUIT").starts_with("221"));
    })
    .await;
}

fn base64(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}
