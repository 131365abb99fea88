//! What ends on a day that is known: secrets and certificates. One list, for `status` and for the alerts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use crate::config::{Account, Certificate, Config, Listener};
use crate::message::Address;

const DAY: i64 = 86_400;

/// Something that ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The account it belongs to; `None`: the relay itself.
    pub account: Option<Address>,
    /// What ends.
    pub what: Expiring,
    /// When.
    pub at: Timestamp,
    /// How long it is good in all, where that is known.
    pub life: Option<Duration>,
}

/// What can end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expiring {
    /// `client_secret`, as far as `client_secret_expires` tells.
    ClientSecret {
        /// Whether `next_client_secret` stands beside it.
        has_next: bool,
    },
    /// The certificate by which the app registration proves itself, by its file.
    ClientCertificate(PathBuf),
    /// The certificate of a listener, by its file.
    ListenerCertificate(PathBuf),
}

impl Expiring {
    /// Its name in JSON.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::ClientSecret { .. } => "client_secret",
            Self::ClientCertificate(_) => "certificate",
            Self::ListenerCertificate(_) => "listener_certificate",
        }
    }

    /// The file that ends, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::ClientSecret { .. } => None,
            Self::ClientCertificate(file) | Self::ListenerCertificate(file) => Some(file),
        }
    }
}

impl Expiry {
    /// Whole days that are left; negative once it has ended.
    pub fn days_left(&self, now: Timestamp) -> i64 {
        (self.at.as_second() - now.as_second()).div_euclid(DAY)
    }

    /// Whether it is over.
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.at <= now
    }
}

/// Everything with a known end, the next one first. Blocks on the disk: the certificates of listeners are followed as the listeners
/// themselves do, since a renewed one takes effect without a new configuration.
pub fn expiries(config: &Config) -> Vec<Expiry> {
    let of_accounts = config.accounts.iter().flat_map(|account| of_account(account));
    let mut expiries: Vec<Expiry> = of_accounts.collect();
    for listener in &config.listeners {
        let found = of_listener(listener).filter(|found| !expiries.contains(found));
        expiries.extend(found);
    }
    expiries.sort_by_key(|expiry| expiry.at);
    expiries
}

/// Of a next secret nobody has told when it ends.
fn of_account(account: &Account) -> Vec<Expiry> {
    let mut expiries = Vec::new();
    // The portal tells a day and a time; here it is the day alone, so that its beginning is the safe reading.
    if let Some(day) = account.client_secret_expires
        && let Ok(at) = day.to_zoned(TimeZone::UTC)
    {
        let what = Expiring::ClientSecret { has_next: account.next_client_secret.is_some() };
        let account = Some(account.mailbox.clone());
        expiries.push(Expiry { account, what, at: at.timestamp(), life: None });
    }
    if let Some(known) = &account.certificate {
        // A renewed one is used from the next request on; one that cannot be read is not.
        let renewed = known.as_it_is_now().ok();
        let certificate = renewed.as_ref().unwrap_or(known);
        let what = Expiring::ClientCertificate(certificate.file().to_owned());
        let (account, life) = (Some(account.mailbox.clone()), Some(certificate.life()));
        expiries.push(Expiry { account, what, at: certificate.not_after, life });
    }
    expiries
}

fn of_listener(listener: &Listener) -> Option<Expiry> {
    let known = &listener.tls.as_ref()?.certificate;
    // What cannot be read any more is not used either: the one from before is.
    let renewed = if known.has_changed() { known.read_again().ok() } else { None };
    let certificate: &Certificate = renewed.as_ref().unwrap_or(known);
    let what = Expiring::ListenerCertificate(certificate.file().to_owned());
    Some(Expiry { account: None, what, at: certificate.not_after(), life: Some(certificate.life()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn days_are_counted_down_to_the_day_itself() {
        let mut account = testing::account("lms@contoso.com", "lms@contoso.com");
        account.client_secret_expires = Some(jiff::civil::date(2027, 5, 1));
        let all = expiries(&testing::config(vec![account]));
        assert_eq!(all.len(), 1);
        for (now, left, ended) in [
            ("2027-04-01T00:00:00Z", 30, false),
            ("2027-04-01T00:00:01Z", 29, false),
            ("2027-04-30T23:59:59Z", 0, false),
            ("2027-05-01T00:00:00Z", 0, true),
            ("2027-05-01T00:00:01Z", -1, true),
        ] {
            assert_eq!((all[0].days_left(at(now)), all[0].has_ended(at(now))), (left, ended), "{now}");
        }
    }

    #[test]
    fn a_renewed_certificate_of_a_listener_counts_at_once_and_one_for_two_listeners_once() {
        let folder = tempfile::tempdir().unwrap();
        let (file, key_file) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let make = |year: i32| {
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec!["relay.test".to_owned()]).unwrap();
            params.not_after = rcgen::date_time_ymd(year, 1, 1);
            std::fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
            std::fs::write(&key_file, key.serialize_pem()).unwrap();
        };
        make(2040);
        let listener = |port: u16| {
            format!(
                "[[listener]]\naddress = \"127.0.0.1:{port}\"\ntls = \"starttls\"\ncertificate = {file:?}\nkey = {key_file:?}\n"
            )
        };
        let config = testing::config_with(&format!("{}{}", listener(2525), listener(2526)));
        let ends = || {
            let found = expiries(&config);
            assert_eq!(found.len(), 1);
            assert_eq!(found[0].what, Expiring::ListenerCertificate(file.clone()));
            found[0].at
        };
        assert_eq!(ends(), at("2040-01-01T00:00:00Z"));
        make(2041);
        assert_eq!(ends(), at("2041-01-01T00:00:00Z"));
        std::fs::write(&file, "half").unwrap();
        assert_eq!(ends(), at("2040-01-01T00:00:00Z"), "as far as is known");
    }
}
