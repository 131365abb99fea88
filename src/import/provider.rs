//! Whose token endpoint it is: what the address alone tells of provider, cloud and tenant.

use crate::message::Address;
use crate::signin::Claims;

/// Where an account's tokens come from and its mail goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provider {
    /// Entra ID and Exchange Online.
    Microsoft {
        /// `cloud` of the configuration.
        cloud: &'static str,
        /// `None`: personal mailboxes have none of their own.
        tenant: Option<String>,
        /// Another server than the cloud's own.
        smtp: Option<Server>,
    },
    /// Gmail and Google Workspace.
    Google {
        /// Another server than Google's own.
        smtp: Option<Server>,
    },
    /// Anybody else: by addresses.
    Other {
        /// The token endpoint.
        token_url: String,
        /// The page on which a person signs in.
        authorize_url: Option<String>,
        /// The device code endpoint.
        device_url: Option<String>,
        /// What is asked for; empty: not said.
        scopes: Vec<String>,
        /// Where mail goes.
        smtp: Server,
    },
}

/// An SMTP server and when TLS begins there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `host:port`.
    pub address: String,
    /// TLS from the first byte instead of STARTTLS.
    pub implicit_tls: bool,
}

/// What another program knows of a provider.
#[derive(Clone, Debug, Default)]
pub struct Known<'a> {
    /// The token endpoint.
    pub token_url: &'a str,
    /// The page on which a person signs in.
    pub authorize_url: Option<&'a str>,
    /// The device code endpoint.
    pub device_url: Option<&'a str>,
    /// The scopes, separated by spaces.
    pub scopes: &'a str,
    /// Where mail went.
    pub smtp: Option<&'a Server>,
    /// An access token, for what it says of itself.
    pub access_token: Option<&'a str>,
}

/// The hosts of Entra ID (<https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud>), with older names.
const CLOUDS: [(&str, &str); 6] = [
    ("login.microsoftonline.com", "public"),
    ("login.microsoft.com", "public"),
    ("login.windows.net", "public"),
    ("login.microsoftonline.us", "gcc-high"),
    ("login.partner.microsoftonline.cn", "china"),
    ("login.chinacloudapi.cn", "china"),
];
/// The SMTP servers that the relay knows by itself from the cloud.
const EXCHANGE: [&str; 4] =
    ["smtp.office365.com:587", "smtp-mail.outlook.com:587", "smtp.office365.us:587", "smtp.partner.outlook.cn:587"];
/// The tenant of all personal mailboxes, by name and by id
/// (<https://learn.microsoft.com/entra/identity-platform/v2-protocols#endpoints>).
const PERSONAL: [&str; 2] = ["consumers", "9188040d-6c67-4c5b-b112-36a304b66dad"];
const PERSONAL_DOMAINS: [&str; 5] = ["outlook", "hotmail", "live", "msn", "passport"];
const GOOGLE: [&str; 3] = ["oauth2.googleapis.com", "accounts.google.com", "www.googleapis.com"];
const GMAIL: &str = "smtp.gmail.com:587";

impl Server {
    /// From `host:port`, as somebody writes it or as `[host]:port` of Postfix. Port 465 speaks TLS from the first byte (RFC 8314).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no server: write it as smtp.example.com:587");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port: u16 = port.parse().ok().filter(|&port| port != 0).ok_or_else(wrong)?;
        let host = host.trim_matches(['[', ']']);
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(wrong());
        }
        Ok(Self::new(host, port, port == 465))
    }

    /// A server that is known in parts.
    pub fn new(host: &str, port: u16, implicit_tls: bool) -> Self {
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Self { address, implicit_tls }
    }

    /// Whether it belongs to Microsoft or Google, who are recognised by their token endpoints.
    pub fn is_of_the_big_ones(&self) -> bool {
        let host = self.address.rsplit_once(':').map_or("", |(host, _)| host).to_ascii_lowercase();
        [".office365.com", ".office365.us", ".outlook.com", ".outlook.cn", ".gmail.com", ".google.com"]
            .iter()
            .any(|domain| host.ends_with(domain))
    }
}

impl Provider {
    /// Judges by the token endpoint. Only for a provider that nobody knows does the server have to be told.
    ///
    /// # Errors
    /// What is missing or wrong, and the remedy.
    pub fn recognise(mailbox: &Address, known: &Known<'_>) -> Result<Self, String> {
        let url = reqwest::Url::parse(known.token_url)
            .map_err(|_| "its token endpoint is no address (https://…)".to_owned())?;
        let host = url.host_str().unwrap_or_default().to_ascii_lowercase();
        if let Some((_, cloud)) = CLOUDS.iter().find(|(known, _)| *known == host) {
            let tenant = url.path_segments().and_then(|mut parts| parts.next()).unwrap_or_default();
            return Ok(Self::microsoft(mailbox, cloud, tenant, known.smtp));
        }
        let texts = |url: Option<&str>| url.map(str::to_owned);
        if GOOGLE.contains(&host.as_str()) {
            let smtp = known.smtp.filter(|smtp| !smtp.address.eq_ignore_ascii_case(GMAIL)).cloned();
            return Ok(Self::Google { smtp });
        }
        let smtp = match known.smtp {
            Some(smtp) => smtp.clone(),
            None => {
                return Err(format!(
                    "nobody here knows which SMTP server belongs to {host}: name it with --smtp HOST:PORT"
                ));
            }
        };
        let mut scopes: Vec<String> = known.scopes.split_whitespace().map(str::to_owned).collect();
        if scopes.is_empty() {
            scopes = known.access_token.map(scopes_of).unwrap_or_default();
        }
        Ok(Self::Other {
            token_url: known.token_url.to_owned(),
            authorize_url: texts(known.authorize_url),
            device_url: texts(known.device_url),
            scopes,
            smtp,
        })
    }

    fn microsoft(mailbox: &Address, cloud: &'static str, tenant: &str, smtp: Option<&Server>) -> Self {
        let is_personal_domain = is_personal(mailbox.domain());
        let smtp = smtp.filter(|smtp| !EXCHANGE.contains(&smtp.address.to_ascii_lowercase().as_str())).cloned();
        match tenant.to_ascii_lowercase().as_str() {
            tenant if PERSONAL.contains(&tenant) => Self::Microsoft { cloud: "personal", tenant: None, smtp },
            "common" if is_personal_domain => Self::Microsoft { cloud: "personal", tenant: None, smtp },
            // Entra ID knows a tenant by each of its domains too.
            "common" | "organizations" | "" => {
                Self::Microsoft { cloud, tenant: Some(mailbox.domain().to_owned()), smtp }
            }
            _ => Self::Microsoft { cloud, tenant: Some(tenant.to_owned()), smtp },
        }
    }

    /// Whether redeeming a refresh token leaves older ones good: Entra ID
    /// (<https://learn.microsoft.com/entra/identity-platform/refresh-tokens>) and Google do, of others nobody knows.
    pub fn keeps_older_tokens(&self) -> bool {
        match self {
            Self::Microsoft { .. } | Self::Google { .. } => true,
            Self::Other { .. } => false,
        }
    }
}

/// `outlook.com`, `hotmail.co.uk`, but not `live.contoso.com`.
fn is_personal(domain: &str) -> bool {
    let (name, country) = domain.split_once('.').unwrap_or((domain, ""));
    PERSONAL_DOMAINS.iter().any(|personal| personal.eq_ignore_ascii_case(name))
        && country.split('.').all(|part| part.len() <= 3)
}

/// A cloud of Microsoft's that is not known by its address: its tokens still say for whom they are.
fn scopes_of(access_token: &str) -> Vec<String> {
    let claims = Claims::decode(access_token).unwrap_or_default();
    let sends = claims.scp.is_some_and(|scp| scp.split_whitespace().any(|scope| scope == "SMTP.Send"));
    match claims.aud.filter(|aud| sends && aud.starts_with("https://") && !aud.contains(char::is_whitespace)) {
        Some(aud) => vec![format!("{}/SMTP.Send", aud.trim_end_matches('/')), "offline_access".to_owned()],
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;

    use super::*;

    fn of(mailbox: &str, token_url: &str) -> Result<Provider, String> {
        Provider::recognise(&Address::parse(mailbox).unwrap(), &Known { token_url, ..Known::default() })
    }

    #[test]
    fn cloud_and_tenant_are_in_the_address() {
        let personal = || ("personal", None);
        for (mailbox, url, (cloud, tenant)) in [
            (
                "a@contoso.com",
                "https://login.microsoftonline.com/Contoso.com/oauth2/v2.0/token",
                ("public", Some("Contoso.com")),
            ),
            (
                "a@contoso.com",
                "https://login.microsoftonline.com/common/oauth2/v2.0/token",
                ("public", Some("contoso.com")),
            ),
            (
                "a@contoso.com",
                "https://login.microsoftonline.com/organizations/oauth2/v2.0/token",
                ("public", Some("contoso.com")),
            ),
            ("a@hotmail.co.uk", "https://login.microsoftonline.com/common/oauth2/v2.0/token", personal()),
            (
                "a@live.contoso.com",
                "https://login.microsoftonline.com/common/oauth2/v2.0/token",
                ("public", Some("live.contoso.com")),
            ),
            ("a@contoso.com", "https://login.microsoftonline.com/consumers/oauth2/v2.0/token", personal()),
            ("a@contoso.us", "https://login.microsoftonline.us/t.us/oauth2/v2.0/token", ("gcc-high", Some("t.us"))),
            ("a@contoso.cn", "https://login.partner.microsoftonline.cn/t.cn/oauth2/token", ("china", Some("t.cn"))),
        ] {
            let tenant = tenant.map(str::to_owned);
            assert_eq!(of(mailbox, url), Ok(Provider::Microsoft { cloud, tenant, smtp: None }), "{url}");
            assert!(of(mailbox, url).unwrap().keeps_older_tokens());
        }
    }

    #[test]
    fn google_is_known_and_others_have_to_name_their_server() {
        let google = of("a@gmail.com", "https://oauth2.googleapis.com/token");
        assert_eq!(google, Ok(Provider::Google { smtp: None }));
        let error = of("a@example.com", "https://login.example.com/token").unwrap_err();
        assert!(error.contains("login.example.com") && error.contains("--smtp HOST:PORT"), "{error}");
        assert!(of("a@example.com", "login.example.com").unwrap_err().contains("is no address"));
        let smtp = Server::parse("[mail.example.com]:465").unwrap();
        assert_eq!(smtp, Server::new("mail.example.com", 465, true));
        for wrong in ["mail.example.com", "mail.example.com:x", ":25", "a b:25", "mail.example.com:0"] {
            assert!(Server::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_old_access_token_tells_the_scope_of_a_cloud_that_is_not_known() {
        let claims = r#"{"aud":"https://outlook.office.example/","scp":"IMAP.AccessAsUser.All SMTP.Send"}"#;
        let token = format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(scopes_of(&token), ["https://outlook.office.example/SMTP.Send", "offline_access"]);
        assert!(scopes_of("opaque").is_empty());
    }

    #[test]
    fn a_server_of_the_clouds_own_is_not_repeated() {
        for (smtp, kept) in [("smtp.office365.com:587", false), ("[smtp-hve.office365.com]:587", true)] {
            let smtp = Server::parse(smtp).unwrap();
            let token_url = "https://login.microsoftonline.com/t.com/oauth2/v2.0/token";
            let known = Known { token_url, smtp: Some(&smtp), ..Known::default() };
            let found = Provider::recognise(&Address::parse("a@t.com").unwrap(), &known);
            let Ok(Provider::Microsoft { smtp: left, .. }) = found else { panic!("Microsoft it is") };
            assert_eq!(left.is_some(), kept);
        }
    }
}
