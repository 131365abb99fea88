//! `allow`: who may connect, and that this is not the whole Internet.
//!
//! Where every password is taken, whoever may connect may send: such a listener open to large public ranges would be an open relay.

use std::net::Ipv4Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::config::review::Review;
use crate::config::section::Section;
use crate::config::{Listener, Passwords, TlsBegins, units};

/// Addresses that no stranger on the Internet has: private (RFC 1918, RFC 4193), loopback, link-local (RFC 3927, RFC 4291) and
/// shared by a carrier (RFC 6598).
const NOT_PUBLIC: [&str; 9] = [
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "100.64.0.0/10",
    "::1/128",
    "fc00::/7",
    "fe80::/10",
];

/// The networks of `allow`; `None` if it is not there.
pub(super) fn allow(listener: &Section<'_>, password: Passwords, review: &mut Review) -> Option<Vec<IpNet>> {
    let is_wide = |net| password == Passwords::Any && is_wide(net);
    let closed = |text: &str| {
        let net = units::network(text)?;
        if is_wide(net) { Err(format!("{} {OPEN_RELAY}", units::quoted(text))) } else { Ok(net) }
    };
    let allow = listener.list("allow", closed, review)?;
    if listener.is_empty_list("allow") {
        let text = "is empty: nobody could connect; write the networks of your programs, or remove the line for this machine alone";
        listener.problem("allow", text, review);
    }
    // The halves of a range are as wide as the range.
    if IpNet::aggregate(&allow).into_iter().any(is_wide) {
        listener.problem("allow", format!("all of them together {OPEN_RELAY}"), review);
    }
    Some(allow)
}

/// Points out passwords that programs may have to show to everybody between them and here.
pub(super) fn shown_passwords(checked: &Listener, listener: &Section<'_>, review: &mut Review) {
    let is_hidden = checked.tls.as_ref().is_some_and(|tls| tls.required || tls.begins == TlsBegins::AtOnce);
    let open = checked.allow.iter().find(|net| !is_private(unmapped(**net)));
    if let (Passwords::Checked, false, Some(open)) = (checked.password, is_hidden, open) {
        let text = format!(
            "is \"checked\" without TLS being required, so passwords of programs in {open} may cross the Internet in the clear: set \
             tls = \"implicit\", or \"starttls\" with require_tls = true"
        );
        listener.warning("password", text, review);
    }
}

/// The networks of `proxy_protocol_from`; `None` if it is not there.
///
/// Whoever is in them is believed: an address of `allow` is soon said.
pub(super) fn proxies(listener: &Section<'_>, review: &mut Review) -> Option<Vec<IpNet>> {
    let few = |text: &str| {
        let net = units::network(text)?;
        if is_wide(net) {
            return Err(format!(
                "{} lets strangers on the Internet say that they are in \"allow\": write the addresses of your proxies",
                units::quoted(text)
            ));
        }
        Ok(net)
    };
    listener.list("proxy_protocol_from", few, review)
}

const OPEN_RELAY: &str = "lets strangers on the Internet send as your mailbox without a password (an open relay): \
    write the networks of your programs; at most a /16 (IPv6: a /32) of public addresses is taken, unless password = \"checked\"";

/// Whether it takes in more public addresses than one organisation has.
fn is_wide(net: IpNet) -> bool {
    let net = unmapped(net);
    let widest = match net {
        IpNet::V4(_) => 16,
        IpNet::V6(_) => 32,
    };
    net.prefix_len() < widest && !is_private(net)
}

/// Whether no stranger has any of its addresses. A range that is only partly private, such as 10.0.0.0/7, is within none of these.
fn is_private(net: IpNet) -> bool {
    let is_within = |range: &str| range.parse::<IpNet>().is_ok_and(|range| range.contains(&net));
    NOT_PUBLIC.into_iter().any(is_within)
}

/// What a network means for IPv4: one that takes in all mapped addresses (`::ffff:0:0/96`) counts as all of it.
fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    if v6.contains(&Ipv6Net::new_assert(Ipv4Addr::UNSPECIFIED.to_ipv6_mapped(), 96)) {
        return IpNet::V4(Ipv4Net::default());
    }
    units::unmapped(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_stranger_has_may_be_as_wide_as_it_likes() {
        for net in [
            "10.0.0.0/8",
            "10.128.0.0/9",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "127.0.0.0/8",
            "100.64.0.0/10",
            "::1/128",
            "fc00::/7",
            "fd00::/8",
            "fe80::/10",
            "::ffff:10.0.0.0/104",
            "203.0.0.0/16",
            "2001:db8::/32",
            "8.8.8.8/32",
        ] {
            assert!(!is_wide(net.parse().unwrap()), "{net}");
        }
    }

    #[test]
    fn what_takes_in_the_internet_is_wide() {
        for net in [
            "0.0.0.0/0",
            "::/0",
            "0.0.0.0/1",
            "10.0.0.0/7",
            "172.0.0.0/8",
            "172.16.0.0/11",
            "192.168.0.0/15",
            "203.0.0.0/15",
            "2000::/3",
            "2001:db8::/31",
            "::ffff:0.0.0.0/96",
            "::ffff:0.0.0.0/90",
            "::/64",
            "fe80::/9",
        ] {
            assert!(is_wide(net.parse().unwrap()), "{net}");
        }
    }
}
