//! Replies of a server that may be broken or hostile: nothing in them reaches a terminal or a second line, memory is bounded.

#![no_main]

use libfuzzer_sys::fuzz_target;
use xoauth2_relay::smtp::{Reply, ReplyError, ReplyParser};
use xoauth2_relay_fuzz::{pieces, sizes_and_bytes};

fuzz_target!(|input: &[u8]| {
    let (sizes, stream) = sizes_and_bytes(input);
    let (replies, error) = parsed(stream, &[]);
    let cut = parsed(stream, sizes);
    // What stands behind the place that is no reply is never looked at.
    assert_eq!(replies, cut.0);
    assert_eq!(error, cut.1);
    for reply in &replies {
        check(reply);
    }
});

fn parsed(stream: &[u8], sizes: &[u8]) -> (Vec<Reply>, Option<ReplyError>) {
    let mut parser = ReplyParser::new();
    let mut replies = Vec::new();
    for piece in pieces(stream, sizes) {
        parser.feed(piece);
        loop {
            match parser.next_reply() {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(error) => return (replies, Some(error)),
            }
        }
    }
    (replies, None)
}

fn check(reply: &Reply) {
    assert!((200..600).contains(&reply.code()));
    assert!((1..=200).contains(&reply.lines().len()));
    for line in reply.lines() {
        assert!(!line.chars().any(|c| c.is_control() && c != '\t'), "{line:?}");
        assert!(line.chars().count() <= 4097);
    }
    if let Some(enhanced) = reply.enhanced() {
        assert!(enhanced.is_ascii() && enhanced.len() <= 9, "{enhanced}");
    }
    // Said again, it is the same reply, unless a line is so long that it would be cut.
    if reply.lines().iter().all(|line| line.len() <= 4096) {
        let again = parsed(reply.wire().as_bytes(), &[]);
        assert_eq!(again, (vec![reply.clone()], None));
    }
    assert_eq!(reply.to_string().lines().count(), reply.lines().len());
}
