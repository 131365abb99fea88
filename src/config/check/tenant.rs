//! `[[tenant]]`.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::config::review::Review;
use crate::config::section::{Section, count, text};
use crate::config::units::{is_domain, quoted};
use crate::config::{Account, Tenant};
use crate::message::{Address, domain_key};

/// One table; `None` if something it cannot do without is missing or wrong. All its problems are reported either way. `all_known`: every
/// account could be read, so that a name that none of them has is none.
pub(super) fn tenant(
    tenant: &Section<'_>,
    accounts: &[Arc<Account>],
    all_known: bool,
    review: &mut Review,
) -> Option<Tenant> {
    if !tenant.has("name") {
        tenant.missing("name", "write it as tenant of the accounts does, for example contoso.onmicrosoft.com", review);
    }
    if !tenant.has("external_recipients_per_day") {
        let text = "write what Exchange lets the tenant send to recipients outside in 24 hours: 500 x licences^0.7 + 9500, of a trial 5000";
        tenant.missing("external_recipients_per_day", text, review);
    }
    let name = tenant.read("name", |value| text(value).map(|name| name.trim().to_owned()), review);
    let external_recipients_per_day = tenant.read("external_recipients_per_day", count(i128::from(u32::MAX)), review);
    let domains = tenant.list("domains", domain, review).unwrap_or_default();
    let name = name?;
    let own: Vec<&Account> =
        accounts.iter().map(Arc::as_ref).filter(|account| account.tenant.eq_ignore_ascii_case(&name)).collect();
    if own.is_empty() && all_known {
        tenant.problem("name", nobodys(&name, accounts), review);
    }
    let of_mailboxes = own.iter().map(|account| account.mailbox.domain_key());
    let of_name = Some(domain_key(&name)).filter(|name| is_domain(name) && name.contains('.'));
    let domains: BTreeSet<String> = domains.into_iter().chain(of_mailboxes).chain(of_name).collect();
    Some(Tenant { name, external_recipients_per_day: external_recipients_per_day?, domains })
}

/// Two budgets of one tenant: nobody could say which counts.
pub(super) fn differ(tenants: &[Option<Tenant>], sections: &[Section<'_>], review: &mut Review) {
    for (n, (tenant, section)) in tenants.iter().zip(sections).enumerate() {
        let Some(tenant) = tenant else { continue };
        let is_same = |earlier: &Option<Tenant>| {
            earlier.as_ref().is_some_and(|earlier| earlier.name.eq_ignore_ascii_case(&tenant.name))
        };
        if let Some(earlier) = tenants[..n].iter().position(is_same) {
            let text = format!("{} is already {}: keep one of the two", quoted(&tenant.name), sections[earlier]);
            section.problem("name", text, review);
        }
    }
}

fn nobodys(name: &str, accounts: &[Arc<Account>]) -> String {
    let mut known: Vec<&str> = Vec::new();
    for account in accounts.iter().filter(|account| !account.tenant.is_empty()) {
        if !known.contains(&account.tenant.as_str()) {
            known.push(&account.tenant);
        }
    }
    let name = quoted(name);
    if known.is_empty() {
        return format!(
            "no account has tenant = {name}, or any tenant: give it to those that belong to it, or remove the [[tenant]]"
        );
    }
    format!(
        "no account has tenant = {name}: write it as the accounts do ({}), or remove the [[tenant]]",
        known.join(", ")
    )
}

/// The key of a domain, which may be written in letters beyond ASCII.
fn domain(text: &str) -> Result<String, String> {
    let text = text.trim();
    let key = domain_key(text);
    if is_domain(&key) {
        return Ok(key);
    }
    if text.starts_with("*.") || text.starts_with('.') {
        return Err(format!("{} is a pattern: write each domain of the organisation, subdomains too", quoted(text)));
    }
    match Address::parse(text) {
        Ok(address) => Err(format!("{} is an address: write the domain alone, {:?}", quoted(text), address.domain())),
        Err(_) => Err(format!("{} is no domain: write one such as \"contoso.com\"", quoted(text))),
    }
}
