//! The header by which a proxy says for whom it connects: PROXY protocol, versions 1 and 2
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! Only what is of use here: the client's address. The header is taken off the socket to the octet, because a TLS handshake follows. (That
//! framing is why no crate does it: `ppp` parses a buffer that is complete, and takes a header cut in the wrong place for a wrong one.)

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// Section 2.1: the longest line, CRLF included.
const LONGEST_LINE: usize = 107;
/// Section 2.2: how version 2 begins.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Section 2.2: what stands in front of the addresses.
const FIXED: usize = 16;
/// The longest header of version 2 that is taken. A proxy that adds all it knows of TLS needs a few hundred octets.
const LONGEST: usize = 4096;

/// For whom a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// This client's.
    Client(SocketAddr),
    /// The proxy's own: it looks whether somebody is there.
    Proxy,
}

/// Why a header is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    /// Something else came.
    #[error("does not begin with a PROXY header")]
    Missing,
    /// It has the beginning of a header, and then something is wrong.
    #[error("sent a PROXY header that is wrong: {0}")]
    Malformed(&'static str),
    /// It is longer than any.
    #[error("sent a PROXY header that is too long")]
    TooLong,
    /// It is about no TCP connection, so nobody knows whom it is for.
    #[error("sent a PROXY header for something else than TCP over IPv4 or IPv6")]
    Family,
    /// It closed, in the middle or at once.
    #[error("closed the connection before its PROXY header was complete")]
    Closed,
    /// It was silent for too long.
    #[error("did not send its PROXY header in time")]
    Late,
    /// The connection broke.
    #[error("lost the connection: {0}")]
    Broken(#[from] io::Error),
}

impl ProxyError {
    /// A word for each kind, to tell them apart.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed(_) => "malformed",
            Self::TooLong => "too long",
            Self::Family => "family",
            Self::Closed => "closed",
            Self::Late => "late",
            Self::Broken(_) => "broken",
        }
    }
}

/// Takes the header off the connection, and not an octet more. Waits for as long as the peer does.
pub(super) async fn receive(stream: &mut TcpStream) -> Result<Origin, ProxyError> {
    let mut header = Vec::new();
    let mut scrap = [0; LONGEST];
    loop {
        let peeked = stream.peek(&mut scrap).await?;
        if peeked == 0 {
            return Err(ProxyError::Closed);
        }
        let before = header.len();
        header.extend_from_slice(&scrap[..peeked]);
        let parsed = parse(&header)?;
        // What is not yet whole belongs to the header all the same.
        let length = parsed.map_or(header.len(), |(length, _)| length);
        stream.read_exact(&mut scrap[..length - before]).await?;
        if let Some((_, origin)) = parsed {
            return Ok(origin);
        }
    }
}

/// The header at the start of `bytes`: its length and what it says. `None` if all of `bytes` belongs to it and more has to come.
fn parse(bytes: &[u8]) -> Result<Option<(usize, Origin)>, ProxyError> {
    if SIGNATURE.starts_with(&bytes[..bytes.len().min(SIGNATURE.len())]) {
        return version_2(bytes);
    }
    let start = b"PROXY ";
    if start.starts_with(&bytes[..bytes.len().min(start.len())]) {
        return version_1(bytes);
    }
    Err(ProxyError::Missing)
}

fn version_1(bytes: &[u8]) -> Result<Option<(usize, Origin)>, ProxyError> {
    let Some(end) = bytes.iter().take(LONGEST_LINE).position(|&b| b == b'\n') else {
        return if bytes.len() < LONGEST_LINE { Ok(None) } else { Err(ProxyError::TooLong) };
    };
    let line = bytes[..end].strip_suffix(b"\r").ok_or(ProxyError::Malformed("its line does not end with CRLF"))?;
    let line = str::from_utf8(line).map_err(|_| ProxyError::Malformed("its line is not ASCII"))?;
    let words: Vec<&str> = line.split(' ').collect();
    let origin = match words[..] {
        // What stands behind UNKNOWN is to be ignored.
        ["PROXY", "UNKNOWN", ..] => Origin::Proxy,
        ["PROXY", "TCP4", source, destination, source_port, destination_port] => {
            let addresses = [source, destination].map(|address| address.parse::<Ipv4Addr>().map(IpAddr::V4).ok());
            client(addresses, [source_port, destination_port])?
        }
        ["PROXY", "TCP6", source, destination, source_port, destination_port] => {
            let addresses = [source, destination].map(|address| address.parse::<Ipv6Addr>().map(IpAddr::V6).ok());
            client(addresses, [source_port, destination_port])?
        }
        ["PROXY", "TCP4" | "TCP6", ..] => return Err(ProxyError::Malformed("it needs two addresses and two ports")),
        _ => return Err(ProxyError::Family),
    };
    Ok(Some((end + 1, origin)))
}

/// The first of two addresses, if all of them are what they should be.
fn client(addresses: [Option<IpAddr>; 2], ports: [&str; 2]) -> Result<Origin, ProxyError> {
    let [Some(address), Some(_)] = addresses else { return Err(ProxyError::Malformed("an address is none")) };
    let port = |text: &str| text.parse::<u16>().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()));
    let [Some(port), Some(_)] = ports.map(port) else { return Err(ProxyError::Malformed("a port is none")) };
    Ok(Origin::Client(SocketAddr::new(address, port)))
}

fn version_2(bytes: &[u8]) -> Result<Option<(usize, Origin)>, ProxyError> {
    let Some((fixed, rest)) = bytes.split_first_chunk::<FIXED>() else { return Ok(None) };
    let [.., version_and_command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    if version_and_command >> 4 != 2 {
        return Err(ProxyError::Malformed("its version is not 2"));
    }
    if FIXED + length > LONGEST {
        return Err(ProxyError::TooLong);
    }
    let Some(addresses) = rest.get(..length) else { return Ok(None) };
    let short = ProxyError::Malformed("its addresses are incomplete");
    let origin = match (version_and_command & 0x0F, family) {
        (0, _) => Origin::Proxy,
        (1, 0x11) => match *addresses {
            [a, b, c, d, _, _, _, _, high, low, _, _, ..] => of_v2(Ipv4Addr::new(a, b, c, d).into(), [high, low]),
            _ => return Err(short),
        },
        (1, 0x21) => match (addresses.first_chunk::<16>(), addresses.get(32..36)) {
            (Some(source), Some(ports)) => of_v2(Ipv6Addr::from(*source).into(), [ports[0], ports[1]]),
            _ => return Err(short),
        },
        // Not the proxy's own either: a client that nobody can name must not get what the proxy may.
        (1, _) => return Err(ProxyError::Family),
        _ => return Err(ProxyError::Malformed("its command is neither LOCAL nor PROXY")),
    };
    Ok(Some((FIXED + length, origin)))
}

fn of_v2(address: IpAddr, port: [u8; 2]) -> Origin {
    Origin::Client(SocketAddr::new(address, u16::from_be_bytes(port)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v2(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[0x20 | command, family], &length, payload].concat()
    }

    fn from(text: &str) -> Origin {
        Origin::Client(text.parse().unwrap())
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 10, 0, 0, 1, 0x04, 0xD2, 0, 25];

    #[test]
    fn headers_are_read() {
        let v6: Vec<u8> = [&[0x20, 1, 0xD, 0xB8][..], &[0; 11], &[7], &[0; 16], &[0, 80, 0, 25]].concat();
        let with_tlv = [&V4[..], &[0x20, 0, 3, 1, 2, 3]].concat();
        for (header, origin) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 1234 25\r\n".to_vec(), from("192.0.2.1:1234")),
            (b"PROXY TCP6 2001:db8::7 ::1 80 25\r\n".to_vec(), from("[2001:db8::7]:80")),
            (b"PROXY TCP6 ::ffff:10.0.0.9 ::1 80 25\r\n".to_vec(), from("[::ffff:10.0.0.9]:80")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Origin::Proxy),
            (b"PROXY UNKNOWN ffff::1 what ever 1 2\r\n".to_vec(), Origin::Proxy),
            (v2(1, 0x11, &V4), from("192.0.2.1:1234")),
            (v2(1, 0x11, &with_tlv), from("192.0.2.1:1234")),
            (v2(1, 0x21, &v6), from("[2001:db8::7]:80")),
            (v2(0, 0, &[]), Origin::Proxy),
            (v2(0, 0x11, &V4), Origin::Proxy),
        ] {
            let length = header.len();
            let followed = [&header[..], b"EHLO x\r\nPROXY TCP4"].concat();
            assert_eq!(parse(&followed).unwrap(), Some((length, origin)), "{}", header.escape_ascii());
            for end in 1..length {
                assert_eq!(parse(&header[..end]).unwrap(), None, "{} cut at {end}", header.escape_ascii());
            }
        }
    }

    #[test]
    fn what_is_no_header_is_told_apart() {
        let long = [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200], b"\r\n".to_vec()].concat();
        for (bytes, kind) in [
            (b"EHLO x\r\n".to_vec(), "missing"),
            (b"\x16\x03\x01\x02".to_vec(), "missing"),
            (b"\r\n\r\nQUIT".to_vec(), "missing"),
            (b"proxy TCP4 ".to_vec(), "missing"),
            (long, "too long"),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 1234 25\n".to_vec(), "malformed"),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 1234\r\n".to_vec(), "malformed"),
            (b"PROXY TCP4  192.0.2.1 10.0.0.1 1234 25\r\n".to_vec(), "malformed"),
            (b"PROXY TCP4 2001:db8::7 ::1 80 25\r\n".to_vec(), "malformed"),
            (b"PROXY TCP6 192.0.2.1 10.0.0.1 1234 25\r\n".to_vec(), "malformed"),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 +1234 25\r\n".to_vec(), "malformed"),
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 65536 25\r\n".to_vec(), "malformed"),
            (b"PROXY TCP4 192.0.2.\xff 10.0.0.1 1 25\r\n".to_vec(), "malformed"),
            (b"PROXY UDP4 192.0.2.1 10.0.0.1 1 25\r\n".to_vec(), "family"),
            (b"PROXY \r\n".to_vec(), "family"),
            (v2(1, 0x11, &V4[..11]), "malformed"),
            (v2(1, 0x21, &[0; 35]), "malformed"),
            (v2(2, 0x11, &V4), "malformed"),
            ([&SIGNATURE[..], &[0x11, 0x11, 0, 12], &V4].concat(), "malformed"),
            (v2(1, 0x12, &V4), "family"),
            (v2(1, 0x31, &[0; 216]), "family"),
            (v2(1, 0, &[]), "family"),
            (v2(1, 0x11, &[0; 5000]), "too long"),
        ] {
            assert_eq!(parse(&bytes).unwrap_err().kind(), kind, "{}", bytes.escape_ascii());
        }
    }

    fn beginnings() -> impl Strategy<Value = Vec<u8>> {
        let starts: Vec<&[u8]> = vec![
            b"",
            b"PROXY ",
            b"PROXY TCP4 1.2.3.4 ",
            b"PROXY UNKNOWN",
            &SIGNATURE,
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0",
        ];
        let rest =
            prop::collection::vec(prop_oneof![any::<u8>(), Just(b' '), Just(b'\r'), Just(b'\n'), Just(b'1')], 0..300);
        (prop::sample::select(starts), rest).prop_map(|(start, rest)| [start, &rest].concat())
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_and_packets_make_no_difference(bytes in beginnings()) {
            let whole = parse(&bytes).map_err(|error| error.kind());
            if let Ok(Some((length, _))) = whole {
                prop_assert!(length <= bytes.len() && length <= LONGEST);
            }
            // As it grows: what was decided once stays decided.
            for end in 1..bytes.len() {
                match parse(&bytes[..end]).map_err(|error| error.kind()) {
                    Ok(None) => prop_assert!(end < LONGEST),
                    decided => {
                        prop_assert_eq!(&decided, &whole);
                        break;
                    }
                }
            }
        }
    }
}
