//! What an HTTPS proxy on the way is called, and what is said when it is what is wrong.
//!
//! reqwest itself follows `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`, but its errors do not tell that there is a proxy. Here the same
//! rules are asked for its name, so that an administrator is not sent to look for a fault at Microsoft's.

use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::Url;

/// The proxy through which an address is reached. Holds its name alone: the variable may have a password in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Proxy {
    name: String,
}

impl Proxy {
    /// The environment's proxy for this address, if it has one.
    pub(super) fn of_environment(url: &Url) -> Option<Self> {
        Self::by(&Matcher::from_system(), url)
    }

    fn by(rules: &Matcher, url: &Url) -> Option<Self> {
        let intercept = rules.intercept(&url.as_str().parse().ok()?)?;
        let address = intercept.uri();
        let name = match (address.host()?, address.port_u16()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        Some(Self { name })
    }

    /// Why `host` was not reached, and what to do. `error` is what the HTTP client said.
    pub(super) fn blame(&self, host: &str, error: &str) -> String {
        if error.contains("proxy authorization required") {
            return format!(
                "{self} wants a user name and a password (407): write them into HTTPS_PROXY as \
                 http://user:password@{}, or name {host} in NO_PROXY if it can be reached without the proxy",
                self.name
            );
        }
        if error.contains("tunnel error") {
            return format!(
                "{self} does not connect to {host} ({error}): allow this address there, or name it in NO_PROXY if it can be \
                 reached without the proxy"
            );
        }
        format!("cannot reach {host} through {self}: {error}")
    }

    /// What is to be looked at when something answered that is no token endpoint.
    pub(super) fn suspicion(&self, host: &str) -> String {
        format!(
            "it came through {self}: let {host} pass there unchanged, or name it in NO_PROXY if it can be reached without the proxy"
        )
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {} (HTTPS_PROXY)", self.name)
    }
}

/// What is to be looked at when something answered that is no token endpoint and no proxy is configured. `None`: nothing special.
pub(super) fn unknown_suspect(status: u16) -> Option<&'static str> {
    match status {
        // RFC 6585 section 6.
        511 => Some("a network that wants a log-in first (a captive portal) answered instead: log in there"),
        // RFC 9110 section 15.5.8: only a proxy says that.
        407 => Some("a proxy on the way answered instead, and wants a user name and a password: set HTTPS_PROXY"),
        300..=399 => {
            Some("something on the way (a captive portal, a proxy) sends elsewhere: let the address pass there")
        }
        _ => None,
    }
}

/// A certificate that is not trusted is mostly that of a firewall which opens TLS.
pub(super) fn untrusted(error: &str) -> Option<&'static str> {
    let is_so = ["UnknownIssuer", "BadSignature", "CaUsedAsEndEntity"].iter().any(|what| error.contains(what))
        || (error.contains("certificate") && error.contains("issuer"));
    is_so
        .then_some("if a proxy or firewall opens TLS on the way, put its root certificate into ca_file of this account")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> Matcher {
        let proxy = "http://jane:hunter2@proxy.contoso.com:3128";
        Matcher::builder().https(proxy.to_owned()).no("internal.contoso.com".to_owned()).build()
    }

    fn proxy(address: &str) -> Option<Proxy> {
        Proxy::by(&rules(), &Url::parse(address).unwrap())
    }

    #[test]
    fn the_proxy_is_named_without_its_password_and_only_where_it_is_used() {
        let proxied = proxy("https://login.microsoftonline.com/x/oauth2/v2.0/token").unwrap();
        assert_eq!(proxied.to_string(), "the proxy proxy.contoso.com:3128 (HTTPS_PROXY)");
        assert!(!format!("{proxied:?}").contains("hunter2"));
        assert_eq!(proxy("https://login.internal.contoso.com/token"), None);
        assert_eq!(proxy("https://internal.contoso.com/token"), None);
    }

    #[test]
    fn whatever_the_proxy_does_wrong_is_said_with_its_name_and_a_remedy() {
        let proxied = proxy("https://login.example/token").unwrap();
        for (error, remedy) in [
            (
                "tunnel error: proxy authorization required",
                "wants a user name and a password (407): write them into HTTPS_PROXY",
            ),
            ("tunnel error: unsuccessful", "allow this address there, or name it in NO_PROXY"),
            ("tunnel error: failed to create underlying connection: refused", "does not connect to login.example"),
            ("dns error", "cannot reach login.example through the proxy"),
        ] {
            let said = proxied.blame("login.example", error);
            assert!(said.contains(remedy) && said.contains("the proxy proxy.contoso.com:3128"), "{said}");
            assert!(!said.contains("hunter2"), "{said}");
        }
        assert!(proxied.suspicion("login.example").contains("name it in NO_PROXY"));
    }

    #[test]
    fn a_certificate_of_an_unknown_issuer_points_at_ca_file() {
        assert!(untrusted("invalid peer certificate: UnknownIssuer").unwrap().contains("ca_file"));
        assert_eq!(untrusted("connection refused"), None);
        assert_eq!(untrusted("invalid peer certificate: certificate expired"), None);
    }
}
