//! How a registration proves itself: by a client secret, a certificate, a federated token, or not at all.

use std::path::Path;

use jiff::civil::Date;

use super::{secret, tls};
use crate::clock::Clock;
use crate::config::document::{Node, Table, Value};
use crate::config::review::Review;
use crate::config::section::{Section, choice, text};
use crate::config::units::is_guid;
use crate::config::{AssertionAlgorithm, ClientCertificate, Grant, Provider, SecretSource, keys};

/// Each is a way of its own.
const WAYS: [&str; 3] = ["client_secret", "certificate", "federated_token"];
const SECRET_ID: &str = "that is the Secret ID, not the Value: copy the Value; it is only shown when the secret is made, so make a new one \
    if it is gone";

/// What of it the file has.
pub(super) struct Credentials {
    pub client_secret: Option<SecretSource>,
    pub next_client_secret: Option<SecretSource>,
    pub client_secret_expires: Option<Date>,
    pub certificate: Option<ClientCertificate>,
    pub federated_token: Option<SecretSource>,
}

/// Reads all of it, and says what does not go together.
pub(super) fn credentials(account: &Section<'_>, provider: Provider, grant: Grant, review: &mut Review) -> Credentials {
    let client_secret = client_secret("client_secret", account, provider, review);
    let next_client_secret = client_secret_to_come(account, provider, client_secret.as_ref(), review);
    let certificate = certificate(account, review);
    let federated_token = federated_token(account, review);
    let client_secret_expires = expires(account, review);
    one_way(account, provider, grant, review);
    Credentials { client_secret, next_client_secret, client_secret_expires, certificate, federated_token }
}

fn one_way(account: &Section<'_>, provider: Provider, grant: Grant, review: &mut Review) {
    let given: Vec<&str> = WAYS.into_iter().filter(|key| account.has(key)).collect();
    if let [first, rest @ ..] = given.as_slice() {
        for key in rest {
            let text =
                format!("stands beside {first}, and a registration proves itself in one way: keep one of the two");
            account.problem(key, text, review);
        }
    } else if grant == Grant::Application {
        let text = "needs client_secret, certificate or federated_token: nobody signs in, so the registration has to prove itself";
        account.problem("grant", text, review);
    } else if provider == Provider::Google {
        account.missing("client_secret", "Google wants the client secret of a desktop client too", review);
    }
}

fn client_secret(key: &str, account: &Section<'_>, provider: Provider, review: &mut Review) -> Option<SecretSource> {
    let source = secret::source(key, account, review)?;
    // Of another provider a secret may look like that.
    if provider == Provider::Microsoft {
        match &source {
            SecretSource::Literal(secret) if is_guid(secret.expose()) => account.problem(key, SECRET_ID, review),
            SecretSource::File(path) if std::fs::read_to_string(path).is_ok_and(|text| is_guid(text.trim())) => {
                account.warning(key, format!("{} holds a GUID: {SECRET_ID}", path.display()), review);
            }
            _ => {}
        }
    }
    Some(source)
}

fn client_secret_to_come(
    account: &Section<'_>,
    provider: Provider,
    old: Option<&SecretSource>,
    review: &mut Review,
) -> Option<SecretSource> {
    const KEY: &str = "next_client_secret";
    let next = client_secret(KEY, account, provider, review)?;
    if !account.has("client_secret") {
        account.problem(KEY, "takes the place of a client_secret, and there is none: name it client_secret", review);
    } else if old == Some(&next) {
        let text = "is the same as client_secret: put the new secret here, and leave the old one there until the new one works";
        account.problem(KEY, text, review);
    }
    Some(next)
}

fn federated_token(account: &Section<'_>, review: &mut Review) -> Option<SecretSource> {
    let source = secret::source("federated_token", account, review)?;
    if matches!(source, SecretSource::Literal(_)) {
        let text = "lives for minutes only: say where it is to be read each time, as in { file = \"/var/run/secrets/…/token\" }";
        account.problem("federated_token", text, review);
    }
    Some(source)
}

/// `{ certificate = "…", key = "…", algorithm = "…" }`.
fn certificate(account: &Section<'_>, review: &mut Review) -> Option<ClientCertificate> {
    let files = account.read("certificate", pair_of, review)?;
    let (file, key_file) = (review.resolve(&files.certificate), review.resolve(&files.key));
    match ClientCertificate::read(&file, &key_file, files.algorithm) {
        Ok(certificate) => {
            if let Some(doubt) = certificate.doubt(Clock::system().now()) {
                account.warning("certificate", doubt, review);
            }
            Some(certificate)
        }
        Err(errors) => {
            let place = account.place_of("certificate").clone();
            for error in errors {
                review.problem(&place, account.key_path(&format!("certificate.{}", error.key)), error.text);
            }
            None
        }
    }
}

/// As for listeners: what the relay's user cannot read is pointed out before a start fails.
pub(super) fn is_within_reach(
    certificate: &ClientCertificate,
    data_dir: &Path,
    account: &Section<'_>,
    review: &mut Review,
) {
    if let Some((_, text)) = tls::closed(certificate.files(), data_dir) {
        account.warning("certificate", text, review);
    }
}

struct Files {
    certificate: String,
    key: String,
    algorithm: AssertionAlgorithm,
}

fn pair_of(value: &Value) -> Result<Files, String> {
    const HOW: &str = "write { certificate = \"/path/cert.pem\", key = \"/path/key.pem\" }";
    const NAMES: [&str; 3] = ["certificate", "key", "algorithm"];
    let Value::Table(table) = value else { return Err(format!("is {}: {HOW}", value.form())) };
    if let Some(name) = table.keys().find(|name| !NAMES.contains(&name.as_str())) {
        return Err(match keys::nearest(name, NAMES.into_iter()) {
            Some(near) => format!("has a word in it that is unknown; did you mean {near}?"),
            None => format!("has a word in it that is unknown: {HOW}"),
        });
    }
    let words = [("PS256", AssertionAlgorithm::Ps256), ("RS256", AssertionAlgorithm::Rs256)];
    let algorithm = table.get("algorithm").map(|Node { value, .. }| choice(&words, &[])(value));
    let algorithm = algorithm.transpose().map_err(|why| format!("algorithm {why}"))?;
    Ok(Files {
        certificate: file_of("certificate", table).ok_or_else(|| format!("names no certificate: {HOW}"))??,
        key: file_of("key", table).ok_or_else(|| format!("names no key: {HOW}"))??,
        algorithm: algorithm.unwrap_or_default(),
    })
}

fn file_of(name: &str, table: &Table) -> Option<Result<String, String>> {
    let Node { value, .. } = table.get(name)?;
    Some(text(value).map(str::to_owned).map_err(|why| format!("{name} {why}")))
}

fn expires(account: &Section<'_>, review: &mut Review) -> Option<Date> {
    let date = |value: &Value| match value {
        Value::Date(date) => match (date.date, date.time) {
            (Some(date), None) => civil(date).ok_or_else(|| "is no day of the calendar".to_owned()),
            _ => Err("has a time of day: write the day alone, as in 2027-05-01".to_owned()),
        },
        Value::Text(_) => Err("is a text: write the day without quotes, as in 2027-05-01".to_owned()),
        other => Err(format!("is {}: write a day, as in 2027-05-01", other.form())),
    };
    let date = account.read("client_secret_expires", date, review)?;
    if !account.has("client_secret") {
        account.problem("client_secret_expires", "belongs to a client_secret, and there is none: remove it", review);
    } else if date < review.today {
        let text = format!("{date} is in the past: make a new secret in Entra ID, or correct the date");
        account.warning("client_secret_expires", text, review);
    }
    Some(date)
}

fn civil(date: toml::value::Date) -> Option<Date> {
    let year = i16::try_from(date.year).ok()?;
    Date::new(year, i8::try_from(date.month).ok()?, i8::try_from(date.day).ok()?).ok()
}
