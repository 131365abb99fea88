//! `[[listener]]`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{app, exposure, tls};
use crate::config::review::Review;
use crate::config::section::{Section, count, parsed, with_unit};
use crate::config::{Listener, Passwords, units};

const PORT: u16 = 2525;
/// More than any machine can hold open.
const MOST: i128 = 1_000_000;
/// RFC 5321 section 4.5.3.2.7.
const SHORTEST_GOOD_IDLE: Duration = Duration::from_mins(5);

/// What listens when nothing is configured: loopback, where there is IPv6 on that too.
pub(super) fn defaults() -> Vec<Arc<Listener>> {
    let ipv4 = default();
    let address = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), PORT);
    let ipv6 = Listener { address, optional: true, ..ipv4.clone() };
    vec![Arc::new(ipv4), Arc::new(ipv6)]
}

fn default() -> Listener {
    Listener {
        address: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT),
        optional: false,
        tls: None,
        allow: vec![
            IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
            IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
        ],
        proxy_protocol_from: Vec::new(),
        password: Passwords::Any,
        max_message_size: 35 << 20,
        max_recipients: 500,
        max_connections: 500,
        max_connections_per_address: 100,
        idle_timeout: Duration::from_mins(10),
    }
}

pub(super) fn listener(listener: &Section<'_>, review: &mut Review) -> Listener {
    let default = default();
    let address = listener.read("address", parsed(units::socket_address), review).unwrap_or(default.address);
    let address = SocketAddr::new(address.ip().to_canonical(), address.port());
    let password = listener.read("password", app::passwords, review).unwrap_or(default.password);
    let checked = Listener {
        address,
        optional: false,
        tls: tls::tls(listener, address.port(), review),
        allow: exposure::allow(listener, password, review).unwrap_or(default.allow),
        proxy_protocol_from: exposure::proxies(listener, review).unwrap_or_default(),
        password,
        max_message_size: listener
            .read("max_message_size", with_unit("35 MiB", units::size), review)
            .unwrap_or(default.max_message_size),
        max_recipients: listener.read("max_recipients", count(MOST), review).unwrap_or(default.max_recipients),
        max_connections: listener.read("max_connections", count(MOST), review).unwrap_or(default.max_connections),
        max_connections_per_address: listener
            .read("max_connections_per_address", count(MOST), review)
            .unwrap_or(default.max_connections_per_address),
        idle_timeout: listener
            .read("idle_timeout", with_unit("10m", units::duration), review)
            .unwrap_or(default.idle_timeout),
    };
    exposure::shown_passwords(&checked, listener, review);
    if checked.idle_timeout < SHORTEST_GOOD_IDLE {
        let text = "is short: programs that keep a session open, such as Moodle, lose their next mail when it is closed; 5m and more is safe";
        listener.warning("idle_timeout", text, review);
    }
    checked
}

/// No two listeners may want the same address.
pub(super) fn stand_apart(listeners: &[Arc<Listener>], sections: &[Section<'_>], review: &mut Review) {
    for (n, (listener, section)) in listeners.iter().zip(sections).enumerate() {
        let earlier = listeners[..n].iter().position(|earlier| clash(earlier.address, listener.address));
        if let Some(earlier) = earlier {
            let text = format!(
                "{} is already taken by {}: give each listener an address of its own",
                listener.address, sections[earlier]
            );
            section.problem("address", text, review);
        }
        let address = listener.address;
        let ipv4 = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
        let has_ipv4 =
            || listeners.iter().any(|other| other.address.is_ipv4() && other.address.port() == address.port());
        if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && !has_ipv4() {
            let text = format!("{address} takes IPv6 alone: for IPv4 add a [[listener]] at {ipv4}");
            section.warning("address", text, review);
        }
    }
}

/// Whether both cannot be bound at once. Port 0 means "any free one" and never clashes.
pub(super) fn clash(a: SocketAddr, b: SocketAddr) -> bool {
    let all = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.port() != 0 && a.is_ipv4() == b.is_ipv4() && (a.ip() == b.ip() || all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_clash_when_one_takes_in_the_other() {
        for (a, b, expected) in [
            ("127.0.0.1:25", "127.0.0.1:25", true),
            ("0.0.0.0:25", "127.0.0.1:25", true),
            ("127.0.0.1:25", "0.0.0.0:25", true),
            ("[::]:25", "[::1]:25", true),
            ("0.0.0.0:25", "[::1]:25", false),
            ("127.0.0.1:25", "127.0.0.2:25", false),
            ("127.0.0.1:25", "127.0.0.1:26", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            assert_eq!(clash(a.parse().unwrap(), b.parse().unwrap()), expected, "{a} {b}");
        }
    }
}
