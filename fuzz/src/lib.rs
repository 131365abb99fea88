//! What several targets need.

use xoauth2_relay::config::Passwords;
use xoauth2_relay::inbound::{Facts, Tls, Welcome};

/// The most recipients of one message in [`facts`].
pub const MOST_RECIPIENTS: usize = 3;

/// A session of a program that may send, or of one that may not, in the clear and with any password.
pub fn facts(max_message_size: u64, welcome: Welcome) -> Facts {
    Facts {
        hostname: "relay.test".into(),
        listener: ([127, 0, 0, 1], 2525).into(),
        max_message_size,
        max_recipients: MOST_RECIPIENTS,
        peer: [10, 2, 3, 4].into(),
        welcome,
        tls: Tls::None,
        password: Passwords::Any,
        default_domain: None,
    }
}

/// `bytes` in pieces whose sizes come from `sizes`, over and over: 1 to 256 octets each, or all at once if there are none.
pub fn pieces<'a>(bytes: &'a [u8], sizes: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    let mut sizes = sizes.iter().cycle();
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let size = sizes.next().map_or(usize::MAX, |&size| usize::from(size) + 1).min(rest.len());
        let (piece, behind) = rest.split_at(size);
        rest = behind;
        (!piece.is_empty()).then_some(piece)
    })
}

/// The first octets as sizes for [`pieces`], and the rest as what is to be cut. The first octet of all says how many.
pub fn sizes_and_bytes(input: &[u8]) -> (&[u8], &[u8]) {
    match input.split_first() {
        None => (&[], &[]),
        Some((count, rest)) => rest.split_at(usize::from(count % 8).min(rest.len())),
    }
}

/// A bare CR or LF made CRLF, and an end put behind the last line; a dot more for one with nothing but NULs in front of it in its line:
/// what a message has to look like when it leaves.
pub fn mended(message: &[u8]) -> Vec<u8> {
    let mut even = Vec::new();
    for (n, &byte) in message.iter().enumerate() {
        match byte {
            b'\n' if n > 0 && message[n - 1] == b'\r' => {}
            b'\r' | b'\n' => even.push(b'\n'),
            byte => even.push(byte),
        }
    }
    if !even.is_empty() && !even.ends_with(b"\n") {
        even.push(b'\n');
    }
    let mut mended = Vec::new();
    for line in even.split_inclusive(|&byte| byte == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let nuls = text.iter().take_while(|&&byte| byte == 0).count();
        mended.extend_from_slice(&text[..nuls]);
        if nuls > 0 && text[nuls..].starts_with(b".") {
            mended.push(b'.');
        }
        mended.extend_from_slice(&text[nuls..]);
        mended.extend_from_slice(b"\r\n");
    }
    mended
}
