//! `[alert]`: who hears that a person is needed, over another road than the mail.

use std::net::IpAddr;

use ipnet::IpNet;
use reqwest::Url;

use super::{HostPort, SecretSource};
use crate::message::Address;

/// A checked `[alert]`. With nothing in it nobody is told, and the log has to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alert {
    /// Where alerts are posted.
    pub webhooks: Vec<Webhook>,
    /// The program that is started for each alert, with its arguments; empty: none.
    pub command: Vec<String>,
    /// Who gets them by mail, while mail still works.
    pub mail_to: Vec<Address>,
    /// What is called every 5 minutes while all is well. The address is a secret.
    pub heartbeat: Option<SecretSource>,
}

/// One place that alerts are posted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Its address, which is a secret: whoever knows it can post there.
    pub url: SecretSource,
    /// What it understands.
    pub format: WebhookFormat,
}

/// `format` of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WebhookFormat {
    /// Ours: `docs/alerts.md`.
    Json,
    /// Slack's incoming webhooks.
    Slack,
    /// Microsoft Teams: "When a Teams webhook request is received" of Power Automate.
    Teams,
    /// ntfy: the topic's address.
    Ntfy,
}

impl WebhookFormat {
    /// The word for it in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Slack => "slack",
            Self::Teams => "teams",
            Self::Ntfy => "ntfy",
        }
    }
}

/// The address of a webhook or a heartbeat. Printing it shows scheme and host: the rest of it is a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct HookUrl(Url);

impl HookUrl {
    /// Reads an address: https, or http where it stays in house. An error repeats nothing of it but the host.
    ///
    /// # Errors
    /// What is wrong, to stand behind the key.
    pub fn parse(text: &str) -> Result<Self, String> {
        const EXAMPLE: &str = "such as \"https://hooks.example.com/…\"";
        let url = Url::parse(text.trim()).map_err(|_| format!("is no address: write it in full, {EXAMPLE}"))?;
        if url.host_str().is_none_or(str::is_empty) {
            return Err(format!("names no server: write it in full, {EXAMPLE}"));
        }
        let url = Self(url);
        match url.0.scheme() {
            "https" => Ok(url),
            "http" if url.is_loopback() || url.is_in_house() => Ok(url),
            "http" => Err(format!(
                "would send alerts, and the secret in the address, in the clear to {}: use https://; http:// is only for this machine, \
                 private addresses (10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, fc00::/7) and names without a dot or ending in .local, \
                 .lan, .internal or .home.arpa",
                super::units::quoted(&url.host())
            )),
            _ => Err(format!("must begin with https://, {EXAMPLE}")),
        }
    }

    /// The address itself, with its secret.
    pub fn expose(&self) -> &Url {
        &self.0
    }

    /// The server's name, without port and without brackets.
    pub fn host(&self) -> String {
        self.0.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned()
    }

    /// Whether it is this machine.
    pub fn is_loopback(&self) -> bool {
        HostPort { host: self.host(), port: 0 }.is_loopback()
    }

    /// Whether everybody on the way can read it, though that way is short.
    pub fn is_in_the_clear(&self) -> bool {
        self.0.scheme() == "http" && !self.is_loopback()
    }

    /// Whether it is within a private network, as far as its name or address tells.
    fn is_in_house(&self) -> bool {
        const NETWORKS: [&str; 6] =
            ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"];
        const ENDINGS: [&str; 4] = [".local", ".lan", ".internal", ".home.arpa"];
        let host = self.host().to_ascii_lowercase();
        match host.parse::<IpAddr>() {
            Ok(address) => NETWORKS.iter().any(|net| net.parse::<IpNet>().is_ok_and(|net| net.contains(&address))),
            Err(_) => !host.contains('.') || ENDINGS.iter().any(|ending| host.ends_with(ending)),
        }
    }
}

/// `https://hooks.slack.com`, and nothing behind it.
impl std::fmt::Display for HookUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}://{}", self.0.scheme(), self.0.host_str().unwrap_or_default())?;
        self.0.port().map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl std::fmt::Debug for HookUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HookUrl({self}/…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_scheme_and_host_are_shown() {
        let url = HookUrl::parse("https://user:hunter2@hooks.slack.com/services/T0/B0/hunter2?key=hunter2").unwrap();
        assert_eq!(url.to_string(), "https://hooks.slack.com");
        assert_eq!(format!("{url:?}"), "HookUrl(https://hooks.slack.com/…)");
        assert_eq!(HookUrl::parse("http://[::1]:8080/hunter2").unwrap().to_string(), "http://[::1]:8080");
    }

    #[test]
    fn http_is_for_this_machine_and_in_house() {
        for (text, in_the_clear) in [
            ("http://127.0.0.1:8080/x", false),
            ("http://localhost/x", false),
            ("https://ntfy.sh/x", false),
            ("http://10.1.2.3/topic", true),
            ("http://[fd00::1]/topic", true),
            ("http://ntfy/topic", true),
            ("http://ntfy.contoso.internal/topic", true),
        ] {
            assert_eq!(HookUrl::parse(text).map(|url| url.is_in_the_clear()), Ok(in_the_clear), "{text}");
        }
        for (text, why) in [
            ("http://ntfy.sh/hunter2", "in the clear to \"ntfy.sh\""),
            ("http://8.8.8.8/hunter2", "in the clear"),
            ("ntfy.sh/hunter2", "is no address"),
            ("ftp://ntfy.sh/hunter2", "must begin with https://"),
            ("hunter2", "is no address"),
            ("file:///hunter2", "names no server"),
        ] {
            let error = HookUrl::parse(text).unwrap_err();
            assert!(error.contains(why) && !error.contains("hunter2"), "{text}: {error}");
        }
    }
}
