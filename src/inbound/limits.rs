//! How many connections there are at once: in all, from one address, and from those who may not send anyway.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::{IpNet, Ipv6Net};

use super::replies;
use super::session::Welcome;
use crate::config;
use crate::smtp::Reply;

/// How many peers from networks that are not allowed are told so at once. They take no place from those who are.
const MAX_STRANGERS: usize = 16;

/// The connections of one listener.
#[derive(Debug)]
pub(super) struct Limits {
    max_connections: usize,
    max_per_address: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    allowed: usize,
    strangers: usize,
    /// Allowed peers only, by [`customer`]. One without connections has no entry.
    by_address: HashMap<IpNet, usize>,
}

/// One connection's place; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Slot {
    limits: Arc<Limits>,
    customer: IpNet,
    welcome: Welcome,
}

impl Limits {
    pub(super) fn new(listener: &config::Listener) -> Arc<Self> {
        Arc::new(Self {
            max_connections: listener.max_connections,
            max_per_address: listener.max_connections_per_address,
            counts: Mutex::default(),
        })
    }

    /// A place for a connection, or what to say instead of a greeting.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr, welcome: Welcome) -> Result<Slot, Reply> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let customer = customer(peer);
        match welcome {
            Welcome::Stranger if counts.strangers >= MAX_STRANGERS => return Err(replies::busy(MAX_STRANGERS)),
            Welcome::Stranger => counts.strangers += 1,
            Welcome::Allowed if counts.allowed >= self.max_connections => {
                return Err(replies::busy(self.max_connections));
            }
            Welcome::Allowed => {
                let of_peer = counts.by_address.entry(customer).or_default();
                if *of_peer >= self.max_per_address {
                    return Err(replies::busy_for(customer, self.max_per_address));
                }
                *of_peer += 1;
                counts.allowed += 1;
            }
        }
        Ok(Slot { limits: Arc::clone(self), customer, welcome })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut counts = self.limits.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if self.welcome == Welcome::Stranger {
            counts.strangers -= 1;
            return;
        }
        counts.allowed -= 1;
        if let Some(of_peer) = counts.by_address.get_mut(&self.customer) {
            *of_peer -= 1;
            if *of_peer == 0 {
                counts.by_address.remove(&self.customer);
            }
        }
    }
}

/// Whose connections are counted together. An IPv6 customer has a /64 of addresses at least (RFC 6177 section 2), and its machines pick
/// new ones at will. Link-local addresses are the exception: all machines of a link share their /64.
fn customer(peer: IpAddr) -> IpNet {
    match peer.to_canonical() {
        IpAddr::V6(peer) if !peer.is_unicast_link_local() => IpNet::V6(Ipv6Net::new_assert(peer, 64).trunc()),
        peer => IpNet::from(peer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing;

    fn limits(max_connections: usize, max_connections_per_address: usize) -> Arc<Limits> {
        Limits::new(&config::Listener { max_connections, max_connections_per_address, ..testing::listener() })
    }

    fn peer(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    #[test]
    fn places_are_counted_and_freed() {
        let limits = limits(3, 2);
        let first = limits.admit(peer(1), Welcome::Allowed).unwrap();
        let second = limits.admit(peer(1), Welcome::Allowed).unwrap();
        let refusal = limits.admit(peer(1), Welcome::Allowed).unwrap_err();
        assert!(refusal.to_string().contains("10.0.0.1 already has 2 connections"), "{refusal}");
        let third = limits.admit(peer(2), Welcome::Allowed).unwrap();
        let refusal = limits.admit(peer(3), Welcome::Allowed).unwrap_err();
        assert!(refusal.to_string().contains("max_connections"), "{refusal}");
        drop((first, second, third));
        limits.admit(peer(3), Welcome::Allowed).unwrap();
        assert!(limits.counts.lock().unwrap().by_address.is_empty(), "nothing is remembered of who left");
    }

    #[test]
    fn a_64_of_ipv6_is_one_customer() {
        let limits = limits(9, 1);
        let admit = |peer: &str| limits.admit(peer.parse().unwrap(), Welcome::Allowed);
        let _first = admit("2001:db8::1").unwrap();
        let refusal = admit("2001:db8::2:3").unwrap_err();
        assert!(refusal.to_string().contains("2001:db8::/64 already has 1 connection,"), "{refusal}");
        let _others = ["2001:db8:0:1::1", "fe80::1", "fe80::2", "10.0.0.1"].map(|peer| admit(peer).unwrap());
        let refusal = admit("::ffff:10.0.0.1").unwrap_err();
        assert!(refusal.to_string().contains(" 10.0.0.1 already"), "{refusal}");
    }

    #[test]
    fn strangers_take_no_place_from_others() {
        let limits = limits(1, 1);
        let strangers: Vec<_> = (0..16).map(|_| limits.admit(peer(9), Welcome::Stranger).unwrap()).collect();
        assert!(limits.admit(peer(9), Welcome::Stranger).is_err());
        limits.admit(peer(1), Welcome::Allowed).unwrap();
        drop(strangers);
        limits.admit(peer(9), Welcome::Stranger).unwrap();
    }
}
