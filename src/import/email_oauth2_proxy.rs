//! The configuration of email-oauth2-proxy (<https://github.com/simonrob/email-oauth2-proxy>): its accounts, and the tokens it keeps in the
//! same file.
//!
//! Tokens, and on request client secrets, are sealed with the password with which mail programs log in to the proxy: PBKDF2 with the
//! account's `token_salt` and `token_iterations`, then Fernet. The number of iterations grew over the years, and files without
//! `token_iterations` are of before October 2023; as the program does, all its numbers are tried. `[@domain]` and `[@]` lend their values
//! to accounts where `allow_catch_all_accounts` is on.

use std::num::NonZeroU32;
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::fernet::{self, Fernet, Sealed};
use super::ini::{Ini, IniError};
use super::provider::{Known, Provider, Server};
use super::{Found, Proof, SignIn, other_person};
use crate::config::Secret;
use crate::message::Address;

/// `Cryptographer.ITERATIONS` since 2025, from October 2023 on, and before that.
const ITERATIONS: [u32; 3] = [1_200_000, 870_000, 100_000];
/// Beyond this somebody has edited the file: it would take minutes.
const MOST_ITERATIONS: u32 = 20_000_000;
/// What the program keeps for an account in a file of its own when it is started with `--cache-store FILE`.
const CACHED: [&str; 7] = [
    "access_token",
    "access_token_expiry",
    "refresh_token",
    "token_salt",
    "token_iterations",
    "client_secret_encrypted",
    "last_activity",
];
/// Sections that hold no account.
const KNOWN_SECTIONS: [&str; 6] = [
    "Email OAuth 2.0 Proxy configuration file",
    "Server setup",
    "Account setup",
    "Advanced proxy configuration",
    "emailproxy",
    "DEFAULT",
];
/// How the values begin that the sample file asks to be replaced.
const EXAMPLE: &str = "*** your";

/// A whole configuration.
#[derive(Debug)]
pub struct Proxy {
    ini: Ini,
    /// The doors it has, in the order of the file.
    pub doors: Vec<Door>,
    /// Sections that mean nothing to the program.
    pub unknown: Vec<String>,
}

/// `[SMTP-1587]`: where it listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Door {
    /// Whether it is one for sending; the others read mail.
    pub sends: bool,
    /// Where programs connect to; a port alone stands for every address of the machine.
    pub address: String,
    /// Whether programs speak TLS there.
    pub tls: bool,
    /// Where it leads.
    pub upstream: Option<Server>,
}

/// Why a file is no configuration of the program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReadable {
    /// It is no INI.
    #[error("{0}: this is no configuration file of email-oauth2-proxy, or it is damaged")]
    Ini(#[from] IniError),
    /// It is, but with nothing to take over.
    #[error("{}: there is no section [user@domain], so there is no account to take over", .0)]
    NoAccounts(String),
}

/// What came of opening an account.
#[derive(Debug)]
pub enum Opened {
    /// Here it is.
    Found(Box<Found>),
    /// The password is another one.
    OtherPassword,
    /// It cannot be taken over, whatever the password; why, and what to do.
    Unusable(String),
}

/// One account of the file.
pub struct Account<'a> {
    ini: &'a Ini,
    /// The name of its section: its mailbox.
    pub name: &'a str,
}

impl Proxy {
    /// Reads a configuration; `cache` is the text of the file named by `--cache-store`, if there is one.
    ///
    /// # Errors
    /// If it is none, or has no account.
    pub fn parse(text: &str, cache: Option<&str>) -> Result<Self, NotReadable> {
        let mut ini = Ini::parse(text)?;
        if let Some(cache) = cache {
            ini.overlay(&Ini::parse(cache)?, &CACHED);
        }
        let doors: Vec<Door> = ini.sections().filter_map(|section| door(&ini, &section.name)).collect();
        let is_known = |name: &str| name.contains('@') || KNOWN_SECTIONS.contains(&name) || port(name).is_some();
        let names = || ini.sections().map(|section| section.name.clone());
        let unknown: Vec<String> = names().filter(|name| !is_known(name)).collect();
        if !names().any(|name| is_account(&name)) {
            let has: Vec<String> = names().take(5).map(|name| format!("[{name}]")).collect();
            let has = if has.is_empty() { "it is empty".to_owned() } else { format!("it has {}", has.join(", ")) };
            return Err(NotReadable::NoAccounts(has));
        }
        Ok(Self { ini, doors, unknown })
    }

    /// The accounts in the order of the file. The sample accounts that come with the program are none.
    pub fn accounts(&self) -> impl Iterator<Item = Account<'_>> {
        let names = self.ini.sections().map(|section| section.name.as_str()).filter(|name| is_account(name));
        names.map(|name| Account { ini: &self.ini, name }).filter(|account| !account.is_example())
    }

    /// The sample accounts that were never filled in.
    pub fn examples(&self) -> usize {
        self.ini.sections().filter(|section| is_account(&section.name)).count() - self.accounts().count()
    }

    /// The one server for sending that is neither Microsoft's nor Google's, if there is just one.
    pub fn other_server(&self) -> Option<&Server> {
        let mut others = self.doors.iter().filter(|door| door.sends).filter_map(|door| door.upstream.as_ref());
        let mut others = others.by_ref().filter(|server| !server.is_of_the_big_ones());
        let first = others.next()?;
        others.all(|other| other == first).then_some(first)
    }
}

/// `[@domain]` and `[@]` only lend their values.
fn is_account(section: &str) -> bool {
    section.contains('@') && !section.starts_with('@')
}

/// The kind and the port in `SMTP-1587`.
fn port(section: &str) -> Option<(&str, u16)> {
    let (kind, port) = section.split_once('-')?;
    ["IMAP", "POP", "SMTP"].contains(&kind).then_some(())?;
    Some((kind, port.parse().ok()?))
}

fn door(ini: &Ini, section: &str) -> Option<Door> {
    let (kind, port) = port(section)?;
    let get = |key| ini.get(section, key);
    let address = match get("local_address") {
        None | Some("::" | "0.0.0.0") => format!("port {port}"),
        Some(address) if address.contains(':') => format!("[{address}]:{port}"),
        Some(address) => format!("{address}:{port}"),
    };
    let upstream = get("server_address").zip(get("server_port").and_then(|port| port.parse().ok()));
    let upstream = upstream.map(|(host, port)| Server::new(host, port, !is_on(get("server_starttls"))));
    let tls = get("local_certificate_path").is_some() && get("local_key_path").is_some();
    Some(Door { sends: kind == "SMTP", address, tls, upstream })
}

/// The words of `configparser` for yes.
fn is_on(value: Option<&str>) -> bool {
    value.is_some_and(|value| matches!(value.to_lowercase().as_str(), "1" | "yes" | "true" | "on"))
}

impl<'a> Account<'a> {
    fn own(&self, key: &str) -> Option<&'a str> {
        self.ini.get(self.name, key)
    }

    /// Its own value, else its domain's, else that for all.
    fn get(&self, key: &str) -> Option<&'a str> {
        let lent = || {
            is_on(self.ini.get("emailproxy", "allow_catch_all_accounts")).then_some(())?;
            let domain = self.name.rsplit_once('@').map_or("", |(_, domain)| domain);
            self.ini.get(&format!("@{domain}"), key).or_else(|| self.ini.get("@", key))
        };
        self.own(key).or_else(lent)
    }

    fn is_example(&self) -> bool {
        self.get("client_id").is_some_and(|id| id.starts_with(EXAMPLE))
            || self.get("token_url").is_some_and(|url| url.contains(EXAMPLE))
    }

    fn client_secret(&self) -> Option<&'a str> {
        self.get("client_secret").filter(|secret| !secret.starts_with(EXAMPLE))
    }

    /// Client credentials: nobody signs in.
    fn is_application(&self) -> bool {
        self.get("permission_url").is_none() && self.get("oauth2_flow") == Some("client_credentials")
    }

    /// Whether the login's password is the client secret.
    fn password_is_secret(&self) -> bool {
        let is_on = is_on(self.ini.get("emailproxy", "use_login_password_as_client_credentials_secret"));
        is_on
            && self.is_application()
            && self.client_secret().is_none()
            && self.get("client_secret_encrypted").is_none()
    }

    /// What has to be opened with the password; the first of them shows whether it is the right one.
    fn sealed(&self) -> Vec<&'a str> {
        let secret = if self.client_secret().is_none() { self.get("client_secret_encrypted") } else { None };
        let token = if self.is_application() { None } else { self.own("refresh_token") };
        let proof = if self.password_is_secret() { self.own("access_token") } else { None };
        [token, secret, proof].into_iter().flatten().collect()
    }

    /// Whether a password is needed to open it.
    pub fn needs_password(&self) -> bool {
        !self.sealed().is_empty()
    }

    /// Why it cannot be taken over whatever the password is, if that is so.
    pub fn obstacle(&self) -> Option<String> {
        if let Err(error) = Address::parse(self.name) {
            return Some(error.to_string());
        }
        for key in ["token_url", "client_id"] {
            if self.get(key).is_none() {
                return Some(format!("its section has no {key}: it has never worked there either"));
            }
        }
        if self.get("oauth2_flow") == Some("service_account") {
            let text = "it is a service account of Google's, which xoauth2-relay has no use for: sign a person in";
            return Some(text.to_owned());
        }
        if !self.is_application() && self.own("refresh_token").is_none() {
            return Some(
                "nobody is signed in there (no refresh_token). If email-oauth2-proxy is run with --cache-store FILE, its tokens are there: \
                 add --cache-store FILE here too; otherwise add the account by hand and sign in with `xoauth2-relay login`"
                    .to_owned(),
            );
        }
        if self.password_is_secret() && self.sealed().is_empty() {
            return Some(
                "the password of its programs is its client secret, and there is nothing there to try a password with: add the account by hand"
                    .to_owned(),
            );
        }
        for sealed in self.sealed() {
            if fernet::check_form(sealed).is_err() {
                return Some("what it keeps sealed is cut off or damaged: take the file from a backup".to_owned());
            }
        }
        if !self.sealed().is_empty() {
            return self.salt().err();
        }
        None
    }

    /// Opens it. `smtp` is the server for a provider that is not known.
    pub fn open(&self, password: Option<&Secret>, smtp: Option<&Server>) -> Opened {
        if let Some(why) = self.obstacle() {
            return Opened::Unusable(why);
        }
        let key = match (self.sealed().first(), password) {
            (None, _) => None,
            (Some(_), None) => return Opened::OtherPassword,
            (Some(first), Some(password)) => match self.key(password, first) {
                Ok(None) => return Opened::OtherPassword,
                Ok(Some(key)) => Some(key),
                Err(why) => return Opened::Unusable(why),
            },
        };
        match self.found(key.as_ref(), password, smtp) {
            Ok(found) => Opened::Found(Box::new(found)),
            Err(why) => Opened::Unusable(why),
        }
    }

    fn found(&self, key: Option<&Fernet>, password: Option<&Secret>, smtp: Option<&Server>) -> Result<Found, String> {
        let mailbox = Address::parse(self.name).map_err(|error| error.to_string())?;
        let unseal = |sealed: &str, what: &str| {
            let key = key.ok_or(Sealed::OtherKey);
            key.and_then(|key| key.open(sealed)).map_err(|error| format!("its {what} {error}"))
        };
        let access_token = self.own("access_token").and_then(|sealed| unseal(sealed, "access_token").ok());
        let proof = match (self.client_secret(), self.get("client_secret_encrypted"), self.certificate()?) {
            (Some(secret), _, _) => Proof::Secret(Secret::new(secret)),
            (None, Some(sealed), _) => Proof::Secret(unseal(sealed, "client_secret_encrypted")?),
            (None, None, Some(certificate)) => certificate,
            (None, None, None) if self.password_is_secret() => {
                Proof::Secret(password.cloned().ok_or("its password is its client secret, and it was not given")?)
            }
            (None, None, None) => Proof::None,
        };
        let sign_in = match self.own("refresh_token") {
            Some(sealed) if !self.is_application() => SignIn::Person(unseal(sealed, "refresh_token")?),
            _ => SignIn::Application,
        };
        let is_device = self.get("oauth2_flow") == Some("device");
        let known = Known {
            token_url: self.get("token_url").unwrap_or_default(),
            authorize_url: self.get("permission_url").filter(|_| !is_device),
            device_url: self.get("permission_url").filter(|_| is_device),
            scopes: self.get("oauth2_scope").unwrap_or_default(),
            smtp,
            access_token: access_token.as_ref().map(Secret::expose),
        };
        Ok(Found {
            login: other_person(&mailbox, known.access_token).filter(|_| sign_in != SignIn::Application),
            provider: Provider::recognise(&mailbox, &known)?,
            mailbox,
            client_id: self.get("client_id").unwrap_or_default().to_owned(),
            proof,
            sign_in,
            ca_file: None,
        })
    }

    fn certificate(&self) -> Result<Option<Proof>, String> {
        let Some((certificate, key)) = self.get("jwt_certificate_path").zip(self.get("jwt_key_path")) else {
            return Ok(None);
        };
        let (certificate, key) = (PathBuf::from(certificate), PathBuf::from(key));
        if certificate.is_relative() || key.is_relative() {
            let text = "jwt_certificate_path and jwt_key_path start at the folder email-oauth2-proxy is run in, which is not known here: \
                        write them in full in a copy of the file";
            return Err(text.to_owned());
        }
        Ok(Some(Proof::Certificate { certificate, key }))
    }

    fn salt(&self) -> Result<Vec<u8>, String> {
        let salt = self.get("token_salt").and_then(|salt| STANDARD.decode(salt.trim()).ok());
        let salt = salt.filter(|salt| !salt.is_empty());
        salt.ok_or_else(|| "its token_salt is missing or damaged: take the file from a backup".to_owned())
    }

    /// The key that opens `sealed`; `None` if the password is another one.
    fn key(&self, password: &Secret, sealed: &str) -> Result<Option<Fernet>, String> {
        let salt = self.salt()?;
        let mut iterations = ITERATIONS.to_vec();
        if let Some(own) = self.get("token_iterations") {
            let own = own.parse().ok().filter(|own| (1..=MOST_ITERATIONS).contains(own));
            let own = own.ok_or("its token_iterations is no number that email-oauth2-proxy has ever used")?;
            iterations.retain(|&other| other != own);
            iterations.insert(0, own);
        } else {
            iterations.reverse();
        }
        for iterations in iterations.into_iter().filter_map(NonZeroU32::new) {
            let key = Fernet::of_password(password, &salt, iterations);
            match key.open(sealed) {
                Ok(_) => return Ok(Some(key)),
                Err(Sealed::OtherKey) => {}
                Err(Sealed::Damaged) => return Err("what it keeps sealed is damaged".to_owned()),
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
