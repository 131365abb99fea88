//! `[[tenant]]`: what all accounts of an organisation share.

use std::collections::BTreeSet;

use crate::message::Address;

/// A checked `[[tenant]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its name, as the `tenant` of the accounts says it, in any case.
    pub name: String,
    /// Recipients outside the organisation in any 24 hours, for all its accounts together; at least 1.
    pub external_recipients_per_day: u32,
    /// The organisation's own domains, as [`Address::domain_key`] has them: those that are configured, those of its mailboxes, and its name if
    /// that is one.
    pub domains: BTreeSet<String>,
}

impl Tenant {
    /// Whether mail to this address leaves the organisation.
    pub fn is_outside(&self, address: &Address) -> bool {
        !self.domains.contains(&address.domain_key())
    }
}
