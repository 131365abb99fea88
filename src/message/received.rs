//! The `Received` field that every relay puts in front (RFC 5321 section 4.4, RFC 3848, RFC 6531 section 4.3).

use std::net::IpAddr;

use jiff::Timestamp;

use super::date::date;
use super::{Protocol, QueueId, Trace};

/// The longest name of EHLO that is repeated (RFC 5321 section 4.5.3.1.2).
const LONGEST_NAME: usize = 255;

/// The field with its line ends. There is no `for`: it would show one recipient of a mailing to whoever gets the mail.
pub fn received(trace: &Trace, hostname: &str, smtputf8: bool, id: QueueId, at: Timestamp) -> String {
    let peer = literal(trace.peer);
    let from = match trace.helo.as_deref().map(name) {
        Some(helo) if !helo.is_empty() => helo,
        _ => peer.clone(),
    };
    let (by, with, date) = (name(hostname), with(trace.protocol, smtputf8), date(at));
    format!("Received: from {from} ({peer})\r\n\tby {by} with {with} id {id};\r\n\t{date}\r\n")
}

/// `[127.0.0.1]` or `[IPv6:::1]` (RFC 5321 section 4.1.3).
fn literal(peer: IpAddr) -> String {
    match peer.to_canonical() {
        IpAddr::V4(peer) => format!("[{peer}]"),
        IpAddr::V6(peer) => format!("[IPv6:{peer}]"),
    }
}

/// What a client called itself, as far as it can stand in a header. Programs say anything here, even `EHLO 127.0.0.1`.
fn name(said: &str) -> String {
    said.chars()
        .take(LONGEST_NAME)
        .map(|c| if c.is_ascii_alphanumeric() || ".-_:[]".contains(c) { c } else { '?' })
        .collect()
}

fn with(protocol: Protocol, smtputf8: bool) -> String {
    // AUTH and TLS are extensions, and there are no words for them with plain SMTP.
    let extended = protocol.extended || protocol.tls || protocol.authenticated || smtputf8;
    let mut with = String::from(match (extended, smtputf8) {
        (false, _) => "SMTP",
        (true, false) => "ESMTP",
        (true, true) => "UTF8SMTP",
    });
    if protocol.tls {
        with.push('S');
    }
    if protocol.authenticated {
        with.push('A');
    }
    with
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(peer: &str, helo: Option<&str>) -> Trace {
        let protocol = Protocol { extended: true, tls: false, authenticated: true };
        Trace { peer: peer.parse().unwrap(), helo: helo.map(str::to_owned), protocol, user: Some("secret".to_owned()) }
    }

    fn line(trace: &Trace) -> String {
        let at = "2025-08-04T11:15:30Z".parse().unwrap();
        received(trace, "relay.contoso.com", false, QueueId::from_number(1), at)
    }

    #[test]
    fn the_field_tells_the_last_hop_and_nothing_of_the_user() {
        assert_eq!(
            line(&trace("10.1.2.3", Some("lms.contoso.com"))),
            "Received: from lms.contoso.com ([10.1.2.3])\r\n\tby relay.contoso.com with ESMTPA id 0000000000001;\r\n\t\
             Mon, 4 Aug 2025 11:15:30 +0000\r\n"
        );
    }

    #[test]
    fn a_name_that_could_break_the_header_cannot() {
        let odd = line(&trace("::1", Some("evil;\r\nBcc: x@y (")));
        assert!(odd.starts_with("Received: from evil???Bcc:?x?y?? ([IPv6:::1])\r\n\tby"), "{odd}");
        for helo in [None, Some("")] {
            assert!(line(&trace("::ffff:127.0.0.1", helo)).starts_with("Received: from [127.0.0.1] ([127.0.0.1])"));
        }
    }

    #[test]
    fn the_with_clause_has_a_word_for_every_way() {
        let protocol = |extended, tls, authenticated| Protocol { extended, tls, authenticated };
        for (protocol, smtputf8, word) in [
            (protocol(false, false, false), false, "SMTP"),
            (protocol(true, false, false), false, "ESMTP"),
            (protocol(true, true, true), false, "ESMTPSA"),
            (protocol(false, false, true), false, "ESMTPA"),
            (protocol(true, false, false), true, "UTF8SMTP"),
            (protocol(true, true, true), true, "UTF8SMTPSA"),
        ] {
            assert_eq!(with(protocol, smtputf8), word);
        }
    }
}
