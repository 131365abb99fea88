//! `[admin]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::listener::clash;
use crate::config::review::Review;
use crate::config::section::{Section, parsed};
use crate::config::{Admin, Config, units};

const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8025);

pub(super) fn admin(admin: &Section<'_>, review: &mut Review) -> Admin {
    Admin { address: admin.read("address", parsed(units::socket_address), review).unwrap_or(DEFAULT) }
}

/// The page and a listener cannot have the same address; found here it has a line, at the start only an error of the system.
pub(super) fn stands_apart(config: &Config, admin: &Section<'_>, review: &mut Review) {
    if let Some(listener) = config.listeners.iter().find(|listener| clash(listener.address, config.admin.address)) {
        let text = format!(
            "{} is already taken by the listener at {}: choose another port",
            config.admin.address, listener.address
        );
        admin.problem("address", text, review);
    }
}
