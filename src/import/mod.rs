//! Moving in from other programs: what their files hold, made into accounts of ours.
//!
//! Everything here is pure: texts come in, [`Found`] accounts go out. Reading files, asking for passwords, writing the configuration and
//! trying the sign-ins are `cli/import`. Nothing is ever written in the other program's format.

pub mod email_oauth2_proxy;
pub mod fernet;
pub mod ini;
pub mod provider;
pub mod sasl_xoauth2;

use std::path::PathBuf;

use crate::config::Secret;
use crate::message::Address;
use crate::signin::Claims;
pub use provider::{Known, Provider, Server};

/// An account of another program, ready to be one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The address mail leaves as.
    pub mailbox: Address,
    /// Who is signed in, if it is known to be somebody else.
    pub login: Option<Address>,
    /// Where tokens come from and mail goes to.
    pub provider: Provider,
    /// The registration's client id.
    pub client_id: String,
    /// How the registration proves itself.
    pub proof: Proof,
    /// What it signs in with.
    pub sign_in: SignIn,
    /// The file with extra roots for HTTPS and SMTP.
    pub ca_file: Option<PathBuf>,
}

/// How a registration proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It does not: a public client.
    None,
    /// By a secret.
    Secret(Secret),
    /// By a certificate and its private key, as PEM.
    Certificate {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
}

/// What an account signs in with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignIn {
    /// A person's refresh token.
    Person(Secret),
    /// Nobody's: the program itself has the permission (client credentials).
    Application,
}

impl Found {
    /// The `[[account]]` that describes it. `client_secret` is the TOML value that says where the secret is; without a secret it is not used.
    pub fn block(&self, client_secret: &str) -> String {
        let text = |value: &str| toml::Value::from(value).to_string();
        let mut keys = vec![("mailbox", text(self.mailbox.as_str()))];
        let mut add = |key, value| keys.push((key, value));
        if let Some(login) = &self.login {
            add("login", text(login.as_str()));
        }
        match &self.provider {
            Provider::Microsoft { cloud, tenant, .. } => {
                if *cloud != "public" {
                    add("cloud", text(cloud));
                }
                if let Some(tenant) = tenant {
                    add("tenant", text(tenant));
                }
            }
            Provider::Google { .. } => add("provider", text("google")),
            Provider::Other { .. } => add("provider", text("custom")),
        }
        if self.sign_in == SignIn::Application {
            add("grant", text("application"));
        }
        add("client_id", text(&self.client_id));
        match &self.proof {
            Proof::None => {}
            Proof::Secret(_) => add("client_secret", client_secret.to_owned()),
            Proof::Certificate { certificate, key } => {
                let (certificate, key) = (text(&certificate.to_string_lossy()), text(&key.to_string_lossy()));
                add("certificate", format!("{{ certificate = {certificate}, key = {key} }}"));
            }
        }
        let smtp = match &self.provider {
            Provider::Microsoft { smtp, .. } | Provider::Google { smtp } => smtp.as_ref(),
            Provider::Other { token_url, authorize_url, device_url, scopes, smtp } => {
                add("token_url", text(token_url));
                for (key, url) in [("authorize_url", authorize_url), ("device_url", device_url)] {
                    if let Some(url) = url {
                        add(key, text(url));
                    }
                }
                if !scopes.is_empty() {
                    add("scopes", toml::Value::from(scopes.clone()).to_string());
                }
                Some(smtp)
            }
        };
        if let Some(smtp) = smtp {
            add("smtp", text(&smtp.address));
            add("smtp_tls", text(if smtp.implicit_tls { "implicit" } else { "starttls" }));
        }
        if let Some(file) = &self.ca_file {
            add("ca_file", text(&file.to_string_lossy()));
        }
        let lines = keys.into_iter().map(|(key, value)| format!("{key} = {value}\n"));
        format!("[[account]]\n{}", lines.collect::<String>())
    }
}

/// Who is signed in, where the old access token names somebody else than the mailbox: a person who may send for a shared mailbox.
fn other_person(mailbox: &Address, access_token: Option<&str>) -> Option<Address> {
    let claims = Claims::decode(access_token?)?;
    let person = Address::parse(claims.person()?).ok()?;
    (person != *mailbox).then_some(person)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Config, Environment, SecretSource};

    fn found() -> Found {
        Found {
            mailbox: Address::parse("lms@contoso.com").unwrap(),
            login: None,
            provider: Provider::Microsoft { cloud: "public", tenant: Some("contoso.com".into()), smtp: None },
            client_id: "11111111-2222-3333-4444-555555555555".into(),
            proof: Proof::None,
            sign_in: SignIn::Person(Secret::new("refresh")),
            ca_file: None,
        }
    }

    fn checked(found: &Found, secret: &str) -> crate::config::Account {
        let text = found.block(secret);
        let config = Config::from_text(&text, "relay.toml", &Environment::default());
        config.unwrap_or_else(|problems| panic!("{problems}\nin\n{text}")).accounts[0].as_ref().clone()
    }

    #[test]
    fn the_smallest_account_has_three_lines() {
        let text = found().block("");
        assert_eq!(
            text,
            "[[account]]\nmailbox = \"lms@contoso.com\"\ntenant = \"contoso.com\"\n\
             client_id = \"11111111-2222-3333-4444-555555555555\"\n"
        );
        assert_eq!(checked(&found(), "").endpoints.scopes[0], "https://outlook.office.com/SMTP.Send");
    }

    #[test]
    fn whatever_a_file_held_is_one_value_of_the_block() {
        let mut other = found();
        other.login = Some(Address::parse("person@contoso.com").unwrap());
        other.client_id = "id\"\n[[account]]\nmailbox = \"mallory@example.com\"".into();
        other.proof = Proof::Secret(Secret::new("s3cret"));
        other.provider = Provider::Other {
            token_url: "https://login.example.com/token".into(),
            authorize_url: Some("https://login.example.com/authorize".into()),
            device_url: None,
            scopes: vec!["mail".into(), "offline_access".into()],
            smtp: Server::new("smtp.example.com", 465, true),
        };
        let account = checked(&other, "{ env = \"SECRET\" }");
        assert_eq!(account.client_id, other.client_id);
        assert_eq!(account.client_secret, Some(SecretSource::Env("SECRET".into())));
        assert_eq!((account.login, account.smtp.port), (other.login.clone().unwrap(), 465));
        assert!(!format!("{other:?}").contains("s3cret") && !other.block("").contains("s3cret"));
    }

    proptest! {
        /// Values come from files that somebody else wrote: none of them may become a key or an account of its own.
        #[test]
        fn a_block_is_one_account_with_the_values_it_was_made_of(
            values in proptest::array::uniform6("(\\PC|[\"'\\[\\]{}=#\\\\\\r\\n\\t])*"),
            is_microsoft in any::<bool>(),
        ) {
            let [id, token_url, scope, smtp, file, tenant] = values;
            let mut found = found();
            found.client_id = id;
            found.ca_file = Some(file.into());
            let smtp = Server { address: smtp, implicit_tls: true };
            found.provider = if is_microsoft {
                Provider::Microsoft { cloud: "china", tenant: Some(tenant.clone()), smtp: Some(smtp) }
            } else {
                let (device_url, scopes) = (Some(token_url.clone()), vec![scope, String::new()]);
                Provider::Other { token_url: token_url.clone(), authorize_url: None, device_url, scopes, smtp }
            };
            let block: toml::Table = found.block("").parse().unwrap();
            prop_assert_eq!(block.len(), 1);
            let accounts = block["account"].as_array().unwrap();
            prop_assert_eq!(accounts.len(), 1);
            prop_assert_eq!(accounts[0]["client_id"].as_str(), Some(found.client_id.as_str()));
            let (key, value) = if is_microsoft { ("tenant", tenant) } else { ("device_url", token_url) };
            prop_assert_eq!(accounts[0][key].as_str(), Some(value.as_str()));
        }
    }
}
