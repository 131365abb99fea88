//! Where tokens come from and where mail goes: Microsoft's clouds, and addresses that the file gives itself.

use crate::config::review::Review;
use crate::config::section::choice;
use crate::config::section::{Section, parsed};
use crate::config::units::{self, quoted};
use crate::config::{Endpoints, Grant, HostPort, Provider, SmtpTls};

/// `cloud`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cloud {
    Public,
    /// GCC High and nothing else of the US government: `DoD` has a server of its own, GCC is in the public cloud.
    GccHigh,
    /// Operated by 21Vianet.
    China,
    /// Outlook.com, Hotmail, Live.
    Personal,
}

/// The words for `cloud`.
pub(super) const CLOUDS: [(&str, Cloud); 4] =
    [("public", Cloud::Public), ("gcc-high", Cloud::GccHigh), ("china", Cloud::China), ("personal", Cloud::Personal)];

/// The tenant in which all personal mailboxes are
/// (<https://learn.microsoft.com/entra/identity-platform/v2-protocols#endpoints>).
pub(super) const PERSONAL_TENANT: &str = "consumers";

impl Cloud {
    /// <https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud>. China had `login.chinacloudapi.cn`
    /// before; that page names only this one.
    fn login_host(self) -> &'static str {
        match self {
            Self::Public | Self::Personal => "login.microsoftonline.com",
            Self::GccHigh => "login.microsoftonline.us",
            Self::China => "login.partner.microsoftonline.cn",
        }
    }

    /// Whose permission it is: the first part of the scope. Public:
    /// <https://learn.microsoft.com/exchange/client-developer/legacy-protocols/how-to-authenticate-an-imap-pop-smtp-application-by-using-oauth>.
    /// The other clouds are in no page of Microsoft's; these are what other programs use there with success.
    fn resource(self) -> &'static str {
        match self {
            Self::Public | Self::Personal => "https://outlook.office.com",
            Self::GccHigh => "https://outlook.office365.us",
            Self::China => "https://partner.outlook.cn",
        }
    }

    /// <https://learn.microsoft.com/microsoft-365/enterprise/urls-and-ip-address-ranges> and its pages for the national clouds;
    /// personal: <https://support.microsoft.com/office/d088b986-291d-42b8-9564-9c414e2aa040>.
    fn smtp_host(self) -> &'static str {
        match self {
            Self::Public => "smtp.office365.com",
            Self::GccHigh => "smtp.office365.us",
            Self::China => "smtp.partner.outlook.cn",
            Self::Personal => "smtp-mail.outlook.com",
        }
    }

    /// RFC 6749 section 3.2 at Entra ID.
    fn token_url(self, tenant: &str) -> String {
        format!("https://{}/{tenant}/oauth2/v2.0/token", self.login_host())
    }

    /// RFC 6749 section 3.1 at Entra ID.
    fn authorize_url(self, tenant: &str) -> String {
        format!("https://{}/{tenant}/oauth2/v2.0/authorize", self.login_host())
    }

    /// RFC 8628 section 3.1 at Entra ID.
    fn device_url(self, tenant: &str) -> String {
        format!("https://{}/{tenant}/oauth2/v2.0/devicecode", self.login_host())
    }

    /// SMTP AUTH with a person's sign-in; `offline_access` is what brings the refresh token.
    fn scopes(self) -> Vec<String> {
        vec![format!("{}/SMTP.Send", self.resource()), "offline_access".to_owned()]
    }

    /// SMTP AUTH with the registration's own sign-in: whatever it was granted (`SMTP.SendAsApp`). Public: the page of [`Self::resource`],
    /// which names another host here than for a person.
    fn application_scopes(self) -> Vec<String> {
        let resource = match self {
            Self::Public | Self::Personal => "https://outlook.office365.com",
            Self::GccHigh | Self::China => self.resource(),
        };
        vec![format!("{resource}/.default")]
    }

    /// Together with what else Microsoft's addresses and scopes depend on.
    pub(super) fn of(self, tenant: &str, grant: Grant) -> Realm<'_> {
        Realm { cloud: self, tenant, grant }
    }

    fn smtp(self) -> HostPort {
        HostPort { host: self.smtp_host().to_owned(), port: 587 }
    }
}

/// What Microsoft's addresses and scopes depend on.
#[derive(Clone, Copy)]
pub(super) struct Realm<'a> {
    cloud: Cloud,
    tenant: &'a str,
    grant: Grant,
}

/// The OAuth endpoints; `None` where a custom provider lacks one.
pub(super) fn endpoints(
    account: &Section<'_>,
    provider: Provider,
    realm: Realm<'_>,
    review: &mut Review,
) -> Option<Endpoints> {
    let Realm { cloud, tenant, grant } = realm;
    let token = account.read("token_url", parsed(url), review);
    let authorize = account.read("authorize_url", parsed(url), review);
    let device = account.read("device_url", parsed(url), review);
    let scopes = account.list("scopes", scope, review);
    match provider {
        Provider::Microsoft => {
            if account.is_empty_list("scopes") {
                account.problem("scopes", "is empty: remove the line for Microsoft's own", review);
            } else if let Some(text) = scopes.as_deref().and_then(|scopes| lacking(scopes, grant)) {
                account.warning("scopes", text, review);
            }
            let usual = || match grant {
                Grant::Delegated => cloud.scopes(),
                Grant::Application | Grant::None => cloud.application_scopes(),
            };
            Some(Endpoints {
                token: token.unwrap_or_else(|| cloud.token_url(tenant)),
                authorize: Some(authorize.unwrap_or_else(|| cloud.authorize_url(tenant))),
                device: Some(device.unwrap_or_else(|| cloud.device_url(tenant))),
                scopes: scopes.unwrap_or_else(usual),
            })
        }
        // <https://developers.google.com/identity/protocols/oauth2/native-app>. Its device flow is not for the scope of mail
        // (<https://developers.google.com/identity/protocols/oauth2/limited-input-device#allowedscopes>).
        Provider::Google => Some(Endpoints {
            token: token.unwrap_or_else(|| "https://oauth2.googleapis.com/token".to_owned()),
            authorize: Some(authorize.unwrap_or_else(|| "https://accounts.google.com/o/oauth2/v2/auth".to_owned())),
            device,
            scopes: scopes.unwrap_or_else(|| vec!["https://mail.google.com/".to_owned()]),
        }),
        Provider::Custom | Provider::SmartHost => {
            if !account.has("token_url") {
                let text = "a custom provider needs the address of its token endpoint, for example https://login.example.com/token";
                account.missing("token_url", text, review);
            }
            token.map(|token| Endpoints { token, authorize, device, scopes: scopes.unwrap_or_default() })
        }
    }
}

/// What is missing among scopes that the file sets itself for Microsoft.
fn lacking(scopes: &[String], grant: Grant) -> Option<&'static str> {
    let is_graph = |scope: &String| scope.to_ascii_lowercase().starts_with("https://graph.microsoft");
    if scopes.iter().any(is_graph) {
        return Some(
            "asks for Microsoft Graph, and Exchange takes only tokens of its own: remove the line for Microsoft's own scopes",
        );
    }
    match grant {
        Grant::Delegated if !scopes.iter().any(|scope| scope == "offline_access") => {
            Some("lacks \"offline_access\": without a refresh token a sign-in lasts about an hour")
        }
        Grant::Application if !scopes.iter().any(|scope| scope.ends_with("/.default")) => {
            Some("lacks a scope that ends in \"/.default\": an application is granted nothing else")
        }
        _ => None,
    }
}

/// The SMTP server and how the connection to it is protected; `None` where a custom provider names none.
pub(super) fn smtp(
    account: &Section<'_>,
    provider: Provider,
    cloud: Cloud,
    review: &mut Review,
) -> (Option<HostPort>, SmtpTls) {
    let words = [("starttls", SmtpTls::StartTls), ("implicit", SmtpTls::Implicit), ("none", SmtpTls::None)];
    let tls = account.read("smtp_tls", choice(&words, &[]), review).unwrap_or(SmtpTls::StartTls);
    let given = account.read("smtp", parsed(units::host_port), review);
    let lacks = match provider {
        Provider::Custom => Some("a custom provider needs its server, for example smtp.example.com:587"),
        Provider::SmartHost => Some("name the server that takes the mail, for example smtp.example.com:587"),
        Provider::Microsoft | Provider::Google => None,
    };
    if let Some(text) = lacks.filter(|_| !account.has("smtp")) {
        account.missing("smtp", text, review);
    }
    let smtp = match provider {
        Provider::Microsoft if !account.has("smtp") => Some(cloud.smtp()),
        Provider::Google if !account.has("smtp") => Some(HostPort { host: "smtp.gmail.com".to_owned(), port: 587 }),
        _ => given,
    };
    if let Some(smtp) = &smtp {
        if tls == SmtpTls::None && !smtp.is_loopback() {
            let secret = if provider == Provider::SmartHost { "password" } else { "token" };
            let text = format!(
                "\"none\" would send mail and {secret} in the clear to {smtp}: use \"starttls\" or \"implicit\"; \
                 \"none\" is only for this machine (127.0.0.1, ::1, localhost)"
            );
            account.problem("smtp_tls", text, review);
        }
        if tls == SmtpTls::StartTls && smtp.port == 465 {
            let text = "port 465 speaks TLS from the first byte (RFC 8314): smtp_tls = \"implicit\" fits it";
            account.warning(if account.has("smtp_tls") { "smtp_tls" } else { "smtp" }, text, review);
        }
    }
    (smtp, tls)
}

/// An address of the token or device endpoint: https, or http within this machine.
fn url(text: &str) -> Result<String, String> {
    let text = text.trim();
    let example = "such as \"https://login.example.com/token\"";
    // Nothing of it is repeated: addresses can carry passwords.
    let url = reqwest::Url::parse(text).map_err(|_| format!("is no address: write it in full, {example}"))?;
    let host = url.host_str().filter(|host| !host.is_empty());
    let Some(host) = host else { return Err(format!("names no server: write it in full, {example}")) };
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not hold a user name or password: use client_id and client_secret".to_owned());
    }
    if url.fragment().is_some() {
        return Err("must not have a # part (RFC 6749 section 3.2)".to_owned());
    }
    let loopback = HostPort { host: host.trim_matches(['[', ']']).to_owned(), port: 0 }.is_loopback();
    match url.scheme() {
        "https" => Ok(text.to_owned()),
        "http" if loopback => Ok(text.to_owned()),
        "http" => Err(format!(
            "would send secrets in the clear to {}: use https://; http:// is only for this machine",
            quoted(host)
        )),
        _ => Err(format!("must begin with https://, {example}")),
    }
}

/// RFC 6749 section 3.3.
fn scope(text: &str) -> Result<String, String> {
    if text.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\') {
        Ok(text.to_owned())
    } else if text.contains(' ') {
        Err(format!("{} has a space in it: write each scope as an item of its own", quoted(text)))
    } else {
        Err(format!("{} is no scope: it may only have ASCII characters without quotes", quoted(text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_endpoints_are_https_or_within_this_machine() {
        for text in [
            "https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token",
            "http://127.0.0.1:8080/token",
            "http://127.1.2.3/token",
            "http://[::1]:8080/token?x=1",
            "http://localhost/token",
        ] {
            assert_eq!(url(text).as_deref(), Ok(text));
        }
        for (text, hint) in [
            ("http://login.contoso.com/token", "in the clear to \"login.contoso.com\""),
            ("http://127.0.0.1.contoso.com/token", "in the clear"),
            ("http://localhost.contoso.com/token", "in the clear"),
            ("http://10.0.0.1/token", "in the clear"),
            ("ftp://contoso.com/", "must begin with https://"),
            ("contoso.com/token", "is no address"),
            ("https://", "is no address"),
            ("file:///etc/passwd", "names no server"),
            ("https://user:hunter2@contoso.com/token", "must not hold a user name"),
            ("https://contoso.com/token#x", "must not have a #"),
        ] {
            let error = url(text).unwrap_err();
            assert!(error.contains(hint) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
