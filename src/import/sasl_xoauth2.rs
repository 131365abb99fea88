//! sasl-xoauth2, Postfix's plugin (<https://github.com/tarickb/sasl-xoauth2>): a token file for each account, and one configuration for
//! all, both JSON. What a token file says itself wins.
//!
//! A token file need not name its account: its path is what stands as the password in Postfix's `sasl_passwd`, and the path of the
//! documentation ends with the address. Values may be texts or numbers, as jsoncpp takes both.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::provider::{Known, Provider, Server};
use super::{Found, Proof, SignIn, other_person};
use crate::config::Secret;
use crate::message::Address;

/// Where tokens come from if no file says so: the plugin began with Google.
const GOOGLE: &str = "https://accounts.google.com/o/oauth2/token";
/// Bundles of the system itself: the relay knows what is in them.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// A file of settings, read.
pub struct Settings(Map<String, Value>);

/// What is known beside the two files.
#[derive(Clone, Debug, Default)]
pub struct Beside {
    /// The mailbox, if somebody named it.
    pub mailbox: Option<Address>,
    /// The server, if somebody named it.
    pub smtp: Option<Server>,
    /// The lines of `sasl_passwd`.
    pub sasl_passwd: Option<SaslPasswd>,
}

/// Postfix's `sasl_passwd`, as far as it leads to token files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaslPasswd(Vec<Line>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    server: Option<Server>,
    user: String,
    token_file: PathBuf,
}

/// What a token file comes to.
#[derive(Debug)]
pub struct Read {
    /// The account.
    pub found: Found,
    /// The proxy through which its token endpoint was asked.
    pub proxy: Option<String>,
}

impl Settings {
    /// Reads a token file or a configuration. A byte order mark in front is taken.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim_start_matches('\u{feff}').trim();
        if text.is_empty() {
            return Err("is empty".to_owned());
        }
        match serde_json::from_str(text) {
            Ok(Value::Object(settings)) => Ok(Self(settings)),
            Ok(_) => Err("is not a file of sasl-xoauth2: it holds JSON, but not { \"…\": \"…\" }".to_owned()),
            Err(error) if error.is_eof() => Err("is cut off: its JSON has no end".to_owned()),
            Err(error) => {
                Err(format!("is no JSON (line {}): it is not a file of sasl-xoauth2, or damaged", error.line()))
            }
        }
    }

    /// The token file that was named, instead of a configuration.
    pub fn has_refresh_token(&self) -> bool {
        self.0.contains_key("refresh_token")
    }

    /// Whether it says which registration it belongs to.
    pub fn has_client_id(&self) -> bool {
        self.get("client_id").is_some()
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str).map(str::trim).filter(|text| !text.is_empty())
    }
}

impl SaslPasswd {
    /// Reads the text from which `postmap` makes the table. Lines that make no sense are skipped, as Postfix does.
    pub fn parse(text: &str) -> Self {
        let lines = text.trim_start_matches('\u{feff}').lines().map(str::trim).filter(|line| !line.starts_with('#'));
        Self(lines.filter_map(Line::parse).collect())
    }

    /// The entry of a token file. Where Postfix runs in a chroot, the path there is the end of the real one.
    fn of(&self, token_file: &Path) -> Option<&Line> {
        let exact = self.0.iter().find(|line| line.token_file == token_file);
        exact.or_else(|| {
            self.0
                .iter()
                .find(|line| line.token_file.strip_prefix("/").is_ok_and(|within| token_file.ends_with(within)))
        })
    }
}

impl Line {
    /// `[smtp.office365.com]:587 user@domain:/etc/tokens/user@domain`
    fn parse(line: &str) -> Option<Self> {
        let (server, login) = line.split_once(char::is_whitespace)?;
        let (user, token_file) = login.trim().split_once(':')?;
        let port =
            if server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) { "" } else { ":25" };
        let server = Server::parse(&format!("{server}{port}")).ok();
        Some(Self { server, user: user.to_owned(), token_file: token_file.into() })
    }
}

/// Makes an account of a token file and the configuration beside it.
///
/// # Errors
/// What is missing, and what to do.
pub fn account(path: &Path, token: &Settings, config: Option<&Settings>, beside: &Beside) -> Result<Read, String> {
    let own_or_common = |key: &str| match token.0.get(key) {
        // An empty value in the token file is one too: `client_secret` of a public client.
        Some(_) => token.get(key),
        None => config.and_then(|config| config.get(key)),
    };
    let refresh_token = token.get("refresh_token").ok_or_else(|| {
        "has no refresh_token: it is not a token file of sasl-xoauth2 (the one that sasl_passwd names), or nobody has signed in yet"
            .to_owned()
    })?;
    let line = beside.sasl_passwd.as_ref().and_then(|lines| lines.of(path));
    let (mailbox, user) = mailbox(path, token, line, beside)?;
    let client_id = own_or_common("client_id").ok_or(
        "nobody says which registration it belongs to: name sasl-xoauth2's configuration with --config-file (usually /etc/sasl-xoauth2.conf)",
    )?;
    let access_token = token.get("access_token");
    let known = Known {
        token_url: own_or_common("token_endpoint").unwrap_or(GOOGLE),
        smtp: beside.smtp.as_ref().or_else(|| line.and_then(|line| line.server.as_ref())),
        access_token,
        ..Known::default()
    };
    let ca_file = own_or_common("ca_bundle_file").filter(|file| !SYSTEM_BUNDLES.contains(file)).map(PathBuf::from);
    let found = Found {
        login: user.or_else(|| other_person(&mailbox, access_token)),
        provider: Provider::recognise(&mailbox, &known)?,
        mailbox,
        client_id: client_id.to_owned(),
        proof: own_or_common("client_secret").map_or(Proof::None, |secret| Proof::Secret(Secret::new(secret))),
        sign_in: SignIn::Person(Secret::new(refresh_token)),
        ca_file,
    };
    Ok(Read { found, proxy: own_or_common("proxy").map(str::to_owned) })
}

/// The mailbox: as named, else as the token file says, else Postfix, else the file's own name. Then the user, if that is another one.
fn mailbox(
    path: &Path,
    token: &Settings,
    line: Option<&Line>,
    beside: &Beside,
) -> Result<(Address, Option<Address>), String> {
    let user = token.get("user").map(|user| {
        Address::parse(user)
            .map_err(|_| format!("its user is {user:?}, which is no address: name the mailbox with --mailbox"))
    });
    let name = path.file_name().and_then(|name| name.to_str());
    if let Some(mailbox) = &beside.mailbox {
        let user = user.and_then(Result::ok).filter(|user| user != mailbox);
        return Ok((mailbox.clone(), user));
    }
    if let Some(user) = user {
        return Ok((user?, None));
    }
    let mut known = [line.map(|line| line.user.as_str()), name].into_iter().flatten();
    let mailbox = known.find_map(|text| Address::parse(text).ok());
    let mailbox = mailbox.ok_or(
        "does not say whose it is: name the mailbox with --mailbox MAILBOX, or Postfix's table with --sasl-passwd FILE",
    )?;
    Ok((mailbox, None))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As the README has it, and as `TokenStore::Write` writes it: numbers are texts there.
    const TOKEN: &str = "{\n\t\"access_token\" : \"opaque\",\n\t\"expiry\" : \"1795258788\",\n\t\"refresh_token\" : \"1.AXEA-refresh\"\n}";
    const CONFIG: &str = r#"{"client_id": "11111111-2222-3333-4444-555555555555", "client_secret": "",
        "token_endpoint": "https://login.microsoftonline.com/consumers/oauth2/v2.0/token", "log_to_syslog_on_failure": "yes"}"#;

    fn read(path: &str, token: &str, config: Option<&str>, beside: &Beside) -> Result<Read, String> {
        let config = config.map(|config| Settings::parse(config).unwrap());
        account(Path::new(path), &Settings::parse(token)?, config.as_ref(), beside)
    }

    #[test]
    fn a_token_file_and_the_configuration_are_an_account() {
        for token in
            [TOKEN.to_owned(), format!("\u{feff}{}", TOKEN.replace('\n', "\r\n")), TOKEN.replace("\"1795258788\"", "0")]
        {
            let read = read("/etc/tokens/lms@outlook.com", &token, Some(CONFIG), &Beside::default()).unwrap();
            assert_eq!(read.found.mailbox, Address::parse("lms@outlook.com").unwrap());
            assert_eq!(read.found.provider, Provider::Microsoft { cloud: "personal", tenant: None, smtp: None });
            assert_eq!((read.found.proof, read.found.login), (Proof::None, None));
            assert_eq!(read.found.sign_in, SignIn::Person(Secret::new("1.AXEA-refresh")));
        }
    }

    #[test]
    fn what_the_token_file_says_itself_wins() {
        let token = r#"{"refresh_token": "r", "user": "lms@contoso.com", "client_id": "own", "client_secret": "s3cret",
            "token_endpoint": "https://oauth2.googleapis.com/token", "proxy": "http://proxy:3128", "refresh_window": "600",
            "ca_bundle_file": "/etc/ssl/inspection.pem"}"#;
        let read = read("/etc/tokens/1", token, Some(CONFIG), &Beside::default()).unwrap();
        assert_eq!((read.found.client_id.as_str(), read.proxy.as_deref()), ("own", Some("http://proxy:3128")));
        assert_eq!(read.found.proof, Proof::Secret(Secret::new("s3cret")));
        assert_eq!(read.found.ca_file, Some("/etc/ssl/inspection.pem".into()));
        assert!(read.found.block("{ file = \"x\" }").contains("provider = \"google\""));
    }

    #[test]
    fn postfix_knows_the_mailbox_and_the_server() {
        let table = "# a comment\n\n[smtp.example.com]:465 lms@contoso.com:/etc/tokens/one\nother.example.com\n\
                     smtp.example.net\terp@contoso.com:/etc/tokens/two\n";
        let sasl_passwd = SaslPasswd::parse(table);
        assert_eq!(sasl_passwd.0.len(), 2);
        assert_eq!(sasl_passwd.0[1].server, Some(Server::new("smtp.example.net", 25, false)));
        let beside = Beside { sasl_passwd: Some(sasl_passwd), ..Beside::default() };
        let config = r#"{"client_id": "x", "client_secret": "y", "token_endpoint": "https://login.example.com/token"}"#;
        for path in ["/etc/tokens/one", "/var/spool/postfix/etc/tokens/one"] {
            let found = read(path, TOKEN, Some(config), &beside).unwrap().found;
            assert_eq!(found.mailbox.as_str(), "lms@contoso.com");
            let Provider::Other { smtp, .. } = found.provider else { panic!("example.com is not Microsoft") };
            assert_eq!(smtp, Server::new("smtp.example.com", 465, true));
        }
        let named = Beside { mailbox: Some(Address::parse("shared@contoso.com").unwrap()), ..Beside::default() };
        let token = TOKEN.replace("\"expiry\"", "\"user\": \"person@contoso.com\", \"expiry\"");
        let found = read("/x", &token, Some(CONFIG), &named).unwrap().found;
        assert_eq!(
            (found.mailbox.as_str(), found.login.unwrap().as_str()),
            ("shared@contoso.com", "person@contoso.com")
        );
    }

    #[test]
    fn every_lack_has_its_sentence() {
        for (path, token, config, hint) in [
            ("/x", "", None, "is empty"),
            ("/x", &TOKEN[..40], None, "is cut off"),
            ("/x", "[1, 2]", None, "is not a file of sasl-xoauth2"),
            ("/x", "[Server setup]\nx = 1", None, "is no JSON (line 1)"),
            ("/x", "{\"access_token\": \"x\"}", None, "has no refresh_token"),
            ("/x", "{\"refresh_token\": 3}", None, "has no refresh_token"),
            ("/x", TOKEN, Some(CONFIG), "--mailbox MAILBOX"),
            ("/x", "{\"refresh_token\": \"r\", \"user\": \"lms\"}", Some(CONFIG), "\"lms\", which is no address"),
            ("/lms@contoso.com", TOKEN, None, "--config-file"),
            (
                "/lms@contoso.com",
                TOKEN,
                Some("{\"client_id\": \"x\", \"token_endpoint\": \"https://a.example/t\"}"),
                "--smtp",
            ),
        ] {
            let error = read(path, token, config, &Beside::default()).unwrap_err();
            assert!(error.contains(hint), "{hint} is not in {error}");
        }
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(text in "(\\PC|[{}\":,\\[\\]\\\\\\r\\n])*", cut in 0usize..100, path in "\\PC*") {
            let _ = Settings::parse(&text);
            let _ = SaslPasswd::parse(&text);
            let token = TOKEN.get(..cut.min(TOKEN.len())).unwrap_or(TOKEN);
            if let Ok(token) = Settings::parse(token) {
                let _ = account(Path::new(&path), &token, None, &Beside::default());
            }
        }
    }
}
