//! `[[account]]`.

use std::path::PathBuf;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::endpoints::{CLOUDS, Cloud, PERSONAL_TENANT};
use super::{address, credentials, endpoints, secret};
use crate::config::review::Review;
use crate::config::secret::cause;
use crate::config::section::{Section, choice, count, parsed, text};
use crate::config::units::{is_domain, is_guid, quoted};
use crate::config::{Account, Endpoints, Grant, PasswordLogin, Provider};
use crate::message::Address;

/// The id with which the guides begin, ours too.
const PLACEHOLDER: &str = "00000000-0000-0000-0000-000000000000";
/// What Exchange Online takes from one mailbox
/// (<https://learn.microsoft.com/office365/servicedescriptions/exchange-online-service-description/exchange-online-limits>).
const MESSAGES_PER_MINUTE: u32 = 30;
const CONNECTIONS: u32 = 3;
const RECIPIENTS_PER_DAY: u32 = 10_000;
/// The words for `provider`.
const PROVIDERS: [(&str, Provider); 4] = [
    ("microsoft", Provider::Microsoft),
    ("google", Provider::Google),
    ("custom", Provider::Custom),
    ("smarthost", Provider::SmartHost),
];

/// One account; `None` if something is missing without which there is none. All its problems are reported either way.
pub(super) fn account(account: &Section<'_>, review: &mut Review) -> Option<Account> {
    let mailbox = mailbox(account, review);
    let provider = account.read("provider", choice(&PROVIDERS, &[]), review);
    if provider == Some(Provider::SmartHost) {
        return smart_host(account, mailbox, review);
    }
    let login = account.read("login", parsed(address), review);
    // What follows depends on the provider: with a wrong one, only what is wrong for all of them is said.
    let known = provider.is_some() || !account.has("provider");
    let provider = provider.unwrap_or(Provider::Microsoft);
    let cloud = cloud(account, provider, review);
    let grant = grant(account, provider, cloud, review);
    let tenant = if known { tenant(account, provider, cloud, review) } else { None };
    let client_id = if known { client_id(account, provider, review) } else { None };
    if account.has("password") {
        let text = "is for provider = \"smarthost\": this provider takes no password, but a sign-in (OAuth); remove it";
        account.problem("password", text, review);
    }
    let fallback = account.read("fallback", parsed(address), review);
    let proof = credentials::credentials(account, provider, grant, review);
    let (ca_file, extra_roots) = extra_roots(account, review);
    let endpoints =
        endpoints::endpoints(account, provider, cloud.of(tenant.as_deref().unwrap_or_default(), grant), review);
    let (smtp, smtp_tls) = endpoints::smtp(account, provider, cloud, review);
    let send_as = account.list("send_as", send_as, review).unwrap_or_default();
    let messages_per_minute = limit("messages_per_minute", MESSAGES_PER_MINUTE, account, provider, review);
    let connections = limit("connections", CONNECTIONS, account, provider, review);
    let recipients_per_day = limit("recipients_per_day", RECIPIENTS_PER_DAY, account, provider, review);
    let mailbox = mailbox?;
    Some(Account {
        login: login.unwrap_or_else(|| mailbox.clone()),
        mailbox,
        provider,
        grant,
        password: None,
        tenant: tenant?,
        client_id: client_id?,
        client_secret: proof.client_secret,
        next_client_secret: proof.next_client_secret,
        client_secret_expires: proof.client_secret_expires,
        certificate: proof.certificate,
        federated_token: proof.federated_token,
        send_as,
        messages_per_minute,
        connections,
        recipients_per_day,
        fallback,
        endpoints: endpoints?,
        smtp: smtp?,
        smtp_tls,
        ca_file,
        extra_roots,
    })
}

/// Keys of a sign-in, which a smarthost has none of.
const OF_SIGN_INS: [&str; 13] = [
    "cloud",
    "grant",
    "tenant",
    "client_id",
    "client_secret",
    "next_client_secret",
    "client_secret_expires",
    "certificate",
    "federated_token",
    "authorize_url",
    "token_url",
    "device_url",
    "scopes",
];

/// A server with a user name and a password, or with nothing at all.
fn smart_host(account: &Section<'_>, mailbox: Option<Address>, review: &mut Review) -> Option<Account> {
    for key in OF_SIGN_INS.into_iter().filter(|key| account.has(key)) {
        account.problem(
            key,
            "belongs to a sign-in, and a smarthost has none, but login and password: remove it",
            review,
        );
    }
    let password = password_login(account, mailbox.as_ref(), review);
    let (ca_file, extra_roots) = extra_roots(account, review);
    let (smtp, smtp_tls) = endpoints::smtp(account, Provider::SmartHost, Cloud::Public, review);
    let send_as = account.list("send_as", send_as, review).unwrap_or_default();
    let limit = |key, default, review: &mut Review| limit(key, default, account, Provider::SmartHost, review);
    let messages_per_minute = limit("messages_per_minute", MESSAGES_PER_MINUTE, review);
    let connections = limit("connections", CONNECTIONS, review);
    let recipients_per_day = limit("recipients_per_day", RECIPIENTS_PER_DAY, review);
    let fallback = account.read("fallback", parsed(address), review);
    let mailbox = mailbox?;
    let login = password.as_ref().and_then(|login| Address::parse(&login.user).ok());
    Some(Account {
        login: login.unwrap_or_else(|| mailbox.clone()),
        mailbox,
        provider: Provider::SmartHost,
        grant: Grant::None,
        password,
        tenant: String::new(),
        client_id: String::new(),
        client_secret: None,
        next_client_secret: None,
        client_secret_expires: None,
        certificate: None,
        federated_token: None,
        send_as,
        messages_per_minute,
        connections,
        recipients_per_day,
        fallback,
        endpoints: Endpoints { token: String::new(), authorize: None, device: None, scopes: Vec::new() },
        smtp: smtp?,
        smtp_tls,
        ca_file,
        extra_roots,
    })
}

/// The user name is the mailbox unless `login` says something else, which need not be an address.
fn password_login(account: &Section<'_>, mailbox: Option<&Address>, review: &mut Review) -> Option<PasswordLogin> {
    let usable = |name: &str| match name.trim() {
        name if name.chars().any(char::is_control) => Err("has a control character in it".to_owned()),
        name => Ok(name.to_owned()),
    };
    let user = account.read("login", parsed(usable), review);
    if !account.has("password") {
        if account.has("login") {
            let text =
                "login needs it, as in { file = \"…\" }; without both the server has to take mail without a login";
            account.missing("password", text, review);
        }
        return None;
    }
    let password = secret::source("password", account, review)?;
    let user = user.or_else(|| mailbox.map(Address::to_string).filter(|_| !account.has("login")))?;
    Some(PasswordLogin { user, password })
}

/// What the sections name as their mailboxes, whatever else is wrong with them; `None` where that cannot be read.
pub(super) fn mailboxes(sections: &[Section<'_>]) -> Vec<Option<Address>> {
    sections.iter().map(|section| named("mailbox", section)).collect()
}

/// The address under a key, if it is one. What is wrong with it is told where it is read.
fn named(key: &str, section: &Section<'_>) -> Option<Address> {
    section.node(key).and_then(|node| parsed(address)(&node.value).ok())
}

/// Mail goes one step: from a held account to its fallback, and not on from there.
pub(super) fn can_fall_back(sections: &[Section<'_>], review: &mut Review) {
    let mailboxes = mailboxes(sections);
    for (section, mailbox) in sections.iter().zip(&mailboxes) {
        let Some(fallback) = named("fallback", section) else { continue };
        let found = mailboxes.iter().position(|other| other.as_ref() == Some(&fallback));
        let onward = found.and_then(|n| named("fallback", &sections[n]));
        let text = match (found, onward) {
            // One that could not be read may be the one that is meant.
            (None, _) if mailboxes.contains(&None) => continue,
            (None, _) => format!("there is no account {fallback}: add an [[account]] for it, or name another mailbox"),
            (Some(_), _) if mailbox.as_ref() == Some(&fallback) => {
                "is the account itself: name another one, which works when this one does not".to_owned()
            }
            (Some(_), Some(third)) if mailbox.as_ref() != Some(&third) => format!(
                "{fallback} has a fallback of its own, {third}: mail goes one step only, so name {third} here, or remove that one"
            ),
            (Some(_), _) => continue,
        };
        section.problem("fallback", text, review);
    }
}

/// Two accounts of one mailbox would share its sign-in and its pace without knowing.
pub(super) fn differ(sections: &[Section<'_>], review: &mut Review) {
    let mailboxes = mailboxes(sections);
    for (n, (mailbox, section)) in mailboxes.iter().zip(sections).enumerate() {
        let earlier = mailboxes[..n].iter().position(|earlier| mailbox.is_some() && earlier == mailbox);
        if let (Some(earlier), Some(mailbox)) = (earlier, mailbox) {
            let text = format!("{mailbox} is already {}: keep one of the two", sections[earlier]);
            section.problem("mailbox", text, review);
        }
    }
}

fn mailbox(account: &Section<'_>, review: &mut Review) -> Option<Address> {
    if !account.has("mailbox") {
        account.missing("mailbox", "name the address that mail leaves as, for example lms@contoso.com", review);
    }
    account.read("mailbox", parsed(address), review)
}

fn send_as(text: &str) -> Result<Address, String> {
    if text.contains('*') {
        return Err(format!("{} is a pattern: write each address that Exchange has granted", quoted(text)));
    }
    address(text)
}

fn cloud(account: &Section<'_>, provider: Provider, review: &mut Review) -> Cloud {
    let cloud = account.read("cloud", choice(&CLOUDS, &[]), review);
    match provider {
        Provider::Custom if cloud.is_some() => {
            account.problem("cloud", "is Microsoft's: a custom provider has none, remove it", review);
        }
        Provider::Google if cloud.is_some() => {
            account.problem("cloud", "is Microsoft's: Google has none, remove it", review);
        }
        _ => {}
    }
    cloud.unwrap_or(Cloud::Public)
}

fn grant(account: &Section<'_>, provider: Provider, cloud: Cloud, review: &mut Review) -> Grant {
    let words = [("delegated", Grant::Delegated), ("application", Grant::Application)];
    let grant = account.read("grant", choice(&words, &[]), review).unwrap_or(Grant::Delegated);
    if grant == Grant::Application {
        if provider == Provider::Google {
            let text = "\"application\" is not known to Google for mail: remove the line, and sign a person in";
            account.problem("grant", text, review);
        } else if provider == Provider::Microsoft && cloud == Cloud::Personal {
            let text = "\"application\" is not for personal mailboxes: remove the line, and sign a person in";
            account.problem("grant", text, review);
        }
    }
    grant
}

fn tenant(account: &Section<'_>, provider: Provider, cloud: Cloud, review: &mut Review) -> Option<String> {
    let microsoft = provider == Provider::Microsoft;
    if !account.has("tenant") {
        return match (microsoft, cloud) {
            (false, _) => Some(String::new()),
            (true, Cloud::Personal) => Some(PERSONAL_TENANT.to_owned()),
            (true, _) => {
                let text = "Entra ID needs to know the tenant, for example contoso.onmicrosoft.com";
                account.missing("tenant", text, review);
                None
            }
        };
    }
    let usable = |text: &str| match text.trim() {
        _ if provider == Provider::Google => Err("is Microsoft's: Google has none, remove it".to_owned()),
        text if !microsoft => Ok(text.to_owned()),
        text if cloud == Cloud::Personal => of_personal(text),
        text if is_guid(text) || (is_domain(text) && text.contains('.')) => Ok(text.to_owned()),
        text @ ("common" | "organizations" | "consumers") => {
            let outlook =
                if text == "consumers" { "; for a mailbox of Outlook.com write cloud = \"personal\"" } else { "" };
            Err(format!(
                "{text:?} is no tenant of its own: write the mailbox's, for example contoso.onmicrosoft.com{outlook}"
            ))
        }
        text => Err(format!(
            "{} is no tenant: write its domain, for example contoso.onmicrosoft.com, or its Directory (tenant) ID",
            quoted(text)
        )),
    };
    account.read("tenant", parsed(usable), review)
}

fn of_personal(tenant: &str) -> Result<String, String> {
    if tenant == PERSONAL_TENANT {
        Ok(tenant.to_owned())
    } else {
        Err("is not needed: personal mailboxes are in no tenant of their own, remove it".to_owned())
    }
}

/// Its value is not repeated: a secret that was put here by mistake would be shown.
fn client_id(account: &Section<'_>, provider: Provider, review: &mut Review) -> Option<String> {
    let microsoft = provider == Provider::Microsoft;
    if !account.has("client_id") {
        let text = match provider {
            Provider::Microsoft => "copy the Application (client) ID from the app registration's overview page",
            Provider::Google => "copy the client ID of the desktop client from Google's console",
            Provider::Custom | Provider::SmartHost => "write the client id that the provider gave you",
        };
        account.missing("client_id", text, review);
    }
    let usable = |text: &str| match text.trim() {
        text if !microsoft || is_guid(text) => Ok(text.to_owned()),
        _ => Err(
            "is not of the form 00000000-0000-0000-0000-000000000000: copy the Application (client) ID from the app \
                  registration's overview page"
                .to_owned(),
        ),
    };
    let client_id = account.read("client_id", parsed(usable), review)?;
    if microsoft && client_id == PLACEHOLDER {
        let text =
            "is still the placeholder: copy the Application (client) ID from the app registration's overview page";
        account.warning("client_id", text, review);
    }
    Some(client_id)
}

/// A limit whose default is what Exchange Online takes.
fn limit(key: &str, default: u32, account: &Section<'_>, provider: Provider, review: &mut Review) -> u32 {
    let limit = account.read(key, count(i128::from(u32::MAX)), review).unwrap_or(default);
    if limit > default && provider == Provider::Microsoft && !account.has("smtp") {
        let text =
            format!("{limit} is more than Exchange Online takes ({default}): it refuses or slows what goes beyond");
        account.warning(key, text, review);
    }
    limit
}

type Roots = Arc<[CertificateDer<'static>]>;

fn extra_roots(account: &Section<'_>, review: &mut Review) -> (Option<PathBuf>, Roots) {
    let path = account.read("ca_file", |value| text(value).map(str::to_owned), review);
    let Some(path) = path.map(|path| review.resolve(&path)) else { return (None, Roots::default()) };
    let roots = std::fs::read(&path).map_err(|error| format!("{} cannot be read: {}", path.display(), cause(&error)));
    let roots = roots.and_then(|pem| {
        let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        match roots {
            Ok(roots) if roots.is_empty() => {
                Err(format!("{} holds no certificate: it needs \"-----BEGIN CERTIFICATE-----\" (PEM)", path.display()))
            }
            Ok(roots) => Ok(roots),
            Err(_) => Err(format!("{} is damaged: what is between BEGIN and END is no PEM", path.display())),
        }
    });
    match roots {
        Ok(roots) => (Some(path), roots.into()),
        Err(text) => {
            account.problem("ca_file", text, review);
            (Some(path), Roots::default())
        }
    }
}
