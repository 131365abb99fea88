//! Durations, sizes, networks and addresses as an administrator writes them.
//!
//! Each function takes the text of a value and says in an error what is wrong with it, to stand behind the key.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};

use super::HostPort;

/// More than anyone waits for, and far from every limit of a calendar.
const LONGEST: Duration = Duration::from_hours(3650 * 24);

/// The text in quotes, short enough for a message, without control characters.
pub(super) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// `10m`, `1h30m`, `5d`: never zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        let example = "such as \"30s\", \"10m\", \"1h30m\" or \"5d\"";
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            format!(
                "{} has no unit: write {:?}, {:?}, {:?} or {:?}",
                quoted(text),
                unit(text, 's'),
                unit(text, 'm'),
                unit(text, 'h'),
                unit(text, 'd')
            )
        } else {
            format!("{} is no duration: write numbers with a unit (s, m, h, d), {example}", quoted(text))
        }
    };
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = rest[digits..].trim_start();
        let seconds = match rest.chars().next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86400,
            _ => return Err(wrong()),
        };
        // The unit is one ASCII letter; what follows has to be the next number.
        rest = rest[1..].trim_start();
        if rest.starts_with(|c: char| !c.is_ascii_digit()) {
            return Err(wrong());
        }
        total = total.saturating_add(Duration::from_secs(number.saturating_mul(seconds)));
    }
    match total {
        Duration::ZERO if text.trim().is_empty() => Err(wrong()),
        Duration::ZERO => Err(format!("{} is no time at all: it must be longer", quoted(text))),
        total if total > LONGEST => Err(format!("{} is longer than ten years: write less", quoted(text))),
        total => Ok(total),
    }
}

fn unit(number: &str, unit: char) -> String {
    format!("{number}{unit}")
}

/// `35 MiB`, `1 GiB`, `500 KB`, in octets: never zero.
pub(super) fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 9] = [
        ("B", 1),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    let wrong = || {
        format!(
            "{} is no size: write a whole number with a unit, such as \"500 KB\", \"35 MiB\" or \"1 GiB\"",
            quoted(text)
        )
    };
    let trimmed = text.trim();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = trimmed[..digits].parse().map_err(|_| wrong())?;
    let unit = trimmed[digits..].trim();
    let (_, octets) = UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(wrong)?;
    match number.checked_mul(*octets) {
        Some(0) => Err(format!("{} is nothing at all: it must be more", quoted(text))),
        Some(total) if i64::try_from(total).is_ok() => Ok(total),
        _ => Err(format!("{} is more than any disk holds: write less", quoted(text))),
    }
}

/// `10.0.0.0/8`, `fd00::/8`, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let trimmed = text.trim();
    if let Ok(net) = trimmed.parse::<IpNet>() {
        return Ok(unmapped(net.trunc()));
    }
    match trimmed.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(address) => Ok(unmapped(IpNet::from(address))),
        Err(_) => Err(format!(
            "{} is no network: write an address or a range, such as \"10.1.2.3\", \"10.0.0.0/8\" or \"::1\"",
            quoted(text)
        )),
    }
}

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8` (RFC 4291 section 2.5.5.2): the address of an IPv4 program counts as one, however it came.
pub(super) fn unmapped(net: IpNet) -> IpNet {
    let IpNet::V6(v6) = net else { return net };
    let mapped = v6.addr().to_ipv4_mapped().zip(v6.prefix_len().checked_sub(96));
    mapped.and_then(|(address, length)| Ipv4Net::new(address, length).ok()).map_or(net, IpNet::V4)
}

/// Where to listen: `127.0.0.1:2525`, `[::1]:2525`.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let text = text.trim();
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let example = if let Ok(address) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        format!("the port is missing, as in {:?}", SocketAddr::new(address, 2525).to_string())
    } else if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok()) {
        format!("write \"127.0.0.1:{port}\" or \"[::1]:{port}\"")
    } else if let Some(port) =
        text.strip_prefix(['*', ':']).and_then(|port| port.trim_start_matches(':').parse::<u16>().ok())
    {
        format!("write \"0.0.0.0:{port}\" for all addresses of this machine")
    } else {
        "write an address of this machine and a port, such as \"127.0.0.1:2525\" or \"[::1]:2525\"".to_owned()
    };
    Err(format!("{} is no address to listen at: {example}", quoted(text)))
}

/// Where to connect: `smtp.office365.com:587`, `127.0.0.1:2525`, `[::1]:2525`.
pub(super) fn host_port(text: &str) -> Result<HostPort, String> {
    let text = text.trim();
    let wrong = |why: &str| Err(format!("{} is no server: {why}", quoted(text)));
    // Not repeated: in front of the @ there may be a password.
    if text.contains('@') {
        return Err("names a user: write only the name and the port, such as \"smtp.office365.com:587\"".to_owned());
    }
    if text.contains("://") {
        return wrong("write only the name and the port, such as \"smtp.office365.com:587\"");
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| host.starts_with('[') || !host.contains(':'))
    else {
        return if text.contains(':') {
            wrong("an IPv6 address needs brackets and a port, such as \"[::1]:2525\"")
        } else {
            wrong("the port is missing, as in \"smtp.office365.com:587\"")
        };
    };
    let port = match port.parse::<u16>() {
        Ok(port) if port > 0 => port,
        _ => return wrong("the port must be a number from 1 to 65535, as in \"smtp.office365.com:587\""),
    };
    if let Some(inside) = host.strip_prefix('[') {
        return match inside.strip_suffix(']').map(str::parse::<std::net::Ipv6Addr>) {
            Some(Ok(address)) => Ok(HostPort { host: address.to_string(), port }),
            _ => wrong("within brackets belongs an IPv6 address, such as \"[::1]:2525\""),
        };
    }
    // Underscores are no host names, but internal DNS is full of them.
    if is_domain(&host.replace('_', "-")) {
        Ok(HostPort { host: host.to_owned(), port })
    } else {
        wrong("write a host name and a port, such as \"smtp.office365.com:587\"")
    }
}

/// Whether this is a domain of RFC 5321 section 4.1.2: labels of letters, digits and inner hyphens. One label will do.
pub(super) fn is_domain(text: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// Whether this has the form of an Entra ID: `00000000-0000-0000-0000-000000000000`.
pub fn is_guid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = text.split('-').collect();
    parts.len() == lengths.len()
        && parts
            .iter()
            .zip(lengths)
            .all(|(part, length)| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [
            ("30s", 30),
            ("10m", 600),
            ("1h30m", 5400),
            ("1h 30m", 5400),
            ("5d", 432_000),
            (" 2 h ", 7200),
            ("90m", 5400),
            ("3650d", 315_360_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_what_to_write() {
        for (text, hint) in [
            ("90", "\"90\" has no unit: write \"90s\", \"90m\", \"90h\" or \"90d\""),
            ("", "is no duration"),
            ("m", "is no duration"),
            ("10 minutes", "is no duration"),
            ("10ms", "is no duration"),
            ("1h30", "is no duration"),
            ("-5m", "is no duration"),
            ("1.5h", "is no duration"),
            ("5ü", "is no duration"),
            ("0s", "no time at all"),
            ("0d0h", "no time at all"),
            ("3651d", "ten years"),
            ("18446744073709551615d", "ten years"),
            ("99999999999999999999s", "is no duration"),
        ] {
            let error = duration(text).unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, octets) in
            [("35 MiB", 36_700_160), ("1 GiB", 1_073_741_824), ("500 KB", 500_000), ("500kb", 500_000), ("1 B", 1)]
        {
            assert_eq!(size(text), Ok(octets), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for text in ["", "35", "MiB", "35 M", "3.5 MiB", "-1 MiB", "0 MiB", "99999999 TiB", "1 MiB x", "1 ü"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_alone_is_a_network_of_one() {
        for (text, net) in [
            ("127.0.0.0/8", "127.0.0.0/8"),
            ("::1", "::1/128"),
            ("[::1]", "::1/128"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("10.1.2.3/8", "10.0.0.0/8"),
            ("::ffff:10.1.2.3", "10.1.2.3/32"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:0.0.0.0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(network(text).map(|net| net.to_string()).as_deref(), Ok(net), "{text}");
        }
        for text in ["", "10.1.2", "localhost", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "*"] {
            assert!(network(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_to_listen_at_needs_a_port() {
        assert_eq!(socket_address("[::1]:2525"), Ok("[::1]:2525".parse().unwrap()));
        for (text, hint) in [
            ("localhost:2525", "write \"127.0.0.1:2525\""),
            (":2525", "write \"0.0.0.0:2525\""),
            ("*:25", "write \"0.0.0.0:25\""),
            ("127.0.0.1", "the port is missing, as in \"127.0.0.1:2525\""),
            ("::1", "the port is missing, as in \"[::1]:2525\""),
            ("2525", "write an address of this machine and a port"),
            ("127.0.0.1:70000", "write an address of this machine and a port"),
        ] {
            let error = socket_address(text).unwrap_err();
            assert!(error.contains(hint), "{text}: {error}");
        }
    }

    #[test]
    fn a_server_is_a_name_and_a_port() {
        for (text, host, port) in [
            ("smtp.office365.com:587", "smtp.office365.com", 587),
            ("mail_server:25", "mail_server", 25),
            ("127.0.0.1:2525", "127.0.0.1", 2525),
            ("[::1]:2525", "::1", 2525),
        ] {
            assert_eq!(host_port(text), Ok(HostPort { host: host.to_owned(), port }), "{text}");
        }
        for text in
            ["", "smtp.office365.com", "::1:25", "[::1]", "[x]:25", "smtp://a:25", "a b:25", ":25", "a:0", "a:99999"]
        {
            assert!(host_port(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_long_value_is_cut_in_messages() {
        assert_eq!(quoted("a\r\nb"), r#""a\r\nb""#);
        assert_eq!(quoted(&"é".repeat(1000)).chars().count(), 63);
    }

    #[test]
    fn guids_and_domains_are_told_apart() {
        assert!(is_guid("00000000-0000-0000-0000-00000000AbCd"));
        for text in ["", "0000", "{00000000-0000-0000-0000-000000000000}", "00000000-0000-0000-0000-00000000000g"] {
            assert!(!is_guid(text), "{text}");
        }
        assert!(is_domain("contoso.onmicrosoft.com") && is_domain("moodle01"));
        for text in ["", ".", "a..b", "-a", "a-", "a_b", "ü.de", "a b", &"a".repeat(64)] {
            assert!(!is_domain(text), "{text}");
        }
    }
}
