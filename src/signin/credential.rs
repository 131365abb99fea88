//! How a request proves that it comes from the registration: not at all (a public client), by its client secret, by an assertion that
//! its certificate signed (RFC 7523 section 2.2), or by a federated token in the place of one.
//!
//! Everything is read anew for each request, so that a replaced file takes effect with the next one. Nothing in here prints a secret;
//! assertions and federated tokens are secrets too.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::json;

use super::endpoint::SecretReader;
use crate::config::{
    Account, AssertionAlgorithm, CertificateError, ClientCertificate, Secret, SecretError, SecretSource, is_guid,
};

/// RFC 7523 section 2.2.
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How long an assertion is good from now on, in seconds.
const GOOD_FOR: i64 = 300;
/// How much earlier it begins to be good: a clock that is ahead by less than this does no harm. Together they stay below ten minutes.
const BEGINS_BEFORE: i64 = 240;

/// What a request carries to prove itself. Printing it prints nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Nothing but the client id: a public client.
    None,
    /// The client secret.
    Secret(Secret),
    /// A `client_assertion`: signed by the registration's certificate, or given by another identity provider.
    Assertion(Secret),
}

/// Which of an account's two secrets, while one replaces the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// `client_secret`, or whatever else the account proves itself with.
    Current,
    /// `next_client_secret`.
    Next,
}

impl Offer {
    /// What this account asks with first.
    pub(super) fn first(account: &Account) -> Self {
        if account.next_client_secret.is_some() { Self::Next } else { Self::Current }
    }

    /// What this account may ask with, in this order. The next secret comes first, so that it is used as soon as it works.
    pub(super) fn all(account: &Account) -> &'static [Self] {
        if account.next_client_secret.is_some() { &[Self::Next, Self::Current] } else { &[Self::Current] }
    }
}

/// A credential cannot be made. Never an answer of the endpoint, so it never marks a sign-in dead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The secret or token cannot be read.
    #[error("cannot read {key}: {error}")]
    Unreadable {
        /// Its key in the configuration.
        key: &'static str,
        /// Why.
        error: SecretError,
    },
    /// The certificate has expired, and its files hold no newer one.
    #[error("{0}")]
    Certificate(String),
}

impl Credential {
    /// What it adds to the form of a request. An assertion is sent beside the client id, as Entra ID wants it. A secret goes into the body
    /// (`client_secret_post`), which Entra ID takes as gladly as a header and which needs no second encoding.
    pub(super) fn fields(&self) -> Vec<(&str, &str)> {
        match self {
            Self::None => Vec::new(),
            Self::Secret(secret) => vec![("client_secret", secret.expose())],
            Self::Assertion(assertion) => {
                vec![("client_assertion_type", JWT_BEARER), ("client_assertion", assertion.expose())]
            }
        }
    }

    /// What must not be seen in an error.
    pub(super) fn secret(&self) -> Option<&Secret> {
        match self {
            Self::None => None,
            Self::Secret(secret) | Self::Assertion(secret) => Some(secret),
        }
    }

    /// What stays the same as long as the same secret or certificate is used: an assertion is another one each time, but its header names the
    /// certificate or key.
    pub(super) fn lasting(&self) -> Option<Secret> {
        match self {
            Self::None => None,
            Self::Secret(secret) => Some(secret.clone()),
            Self::Assertion(assertion) => assertion.expose().split('.').next().map(Secret::new),
        }
    }

    /// Whether it is a secret of the form that only the id of a secret has: copied from the wrong column.
    pub(super) fn is_secret_id(&self) -> bool {
        matches!(self, Self::Secret(secret) if is_guid(secret.expose()))
    }
}

/// Reads or makes what this account proves itself with now.
///
/// # Errors
/// When it cannot be read or made; with [`Offer::Next`] also when there is no next secret.
pub(super) async fn credential(
    reader: &SecretReader,
    account: &Account,
    offer: Offer,
    now: Timestamp,
) -> Result<Credential, CredentialError> {
    let (key, source) = match (offer, &account.client_secret, &account.federated_token) {
        (Offer::Next, ..) => ("next_client_secret", account.next_client_secret.clone()),
        (Offer::Current, Some(secret), _) => ("client_secret", Some(secret.clone())),
        (Offer::Current, None, token) => ("federated_token", token.clone()),
    };
    let certificate = account.certificate.clone().filter(|_| offer == Offer::Current);
    let (audience, client_id) = (account.endpoints.token.clone(), account.client_id.clone());
    let reader = Arc::clone(reader);
    // Files on a network and commands may block, and a signature takes a millisecond.
    let made = tokio::task::spawn_blocking(move || match (source, certificate) {
        (Some(source), _) => {
            let secret = reader(&source).map_err(|error| CredentialError::Unreadable { key, error })?;
            let is_token = key == "federated_token";
            Ok(if is_token { Credential::Assertion(secret) } else { Credential::Secret(secret) })
        }
        (None, Some(certificate)) => {
            let certificate = latest(certificate, now)?;
            assertion(&certificate, &audience, &client_id, now).map(Credential::Assertion)
        }
        (None, None) => Ok(Credential::None),
    });
    made.await.map_err(|_| {
        let error = SecretError("reading it failed in an unexpected way".to_owned());
        CredentialError::Unreadable { key, error }
    })?
}

/// What the files look like from which this account proves itself: another value means that one was replaced. Blocks: a `stat` each.
pub(super) fn files_of(account: &Account) -> CredentialFiles {
    let secrets = [&account.client_secret, &account.next_client_secret, &account.federated_token];
    let secrets = secrets.into_iter().flatten().filter_map(|source| match source {
        SecretSource::File(path) => Some(path.as_path()),
        _ => None,
    });
    let certificate = account.certificate.iter().flat_map(ClientCertificate::paths);
    let stamp = |path: &Path| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
    };
    CredentialFiles(secrets.chain(certificate).map(stamp).collect())
}

/// See [`files_of`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CredentialFiles(Vec<Option<(u64, u64, i64, i64)>>);

/// The certificate as its files are now; while they are being replaced, the one that was read with the configuration.
fn latest(configured: ClientCertificate, now: Timestamp) -> Result<ClientCertificate, CredentialError> {
    match configured.as_it_is_now() {
        Ok(certificate) => Ok(certificate),
        Err(errors) if now > configured.not_after => Err(CredentialError::Certificate(in_words(&errors))),
        Err(errors) => {
            let why = in_words(&errors);
            tracing::warn!(%why, "the certificate's files cannot be used: the one before stays in use");
            Ok(configured)
        }
    }
}

fn in_words(errors: &[CertificateError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A signed assertion as Entra ID wants it (<https://learn.microsoft.com/entra/identity-platform/certificate-credentials>).
fn assertion(
    certificate: &ClientCertificate,
    audience: &str,
    client_id: &str,
    now: Timestamp,
) -> Result<Secret, CredentialError> {
    let now = now.as_second();
    let claims = json!({
        "aud": audience,
        "iss": client_id,
        "sub": client_id,
        "jti": id(),
        "nbf": now.saturating_sub(BEGINS_BEFORE),
        "exp": now.saturating_add(GOOD_FOR),
    });
    let part = |json: &serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let text = format!("{}.{}", part(&header(certificate)), part(&claims));
    let signature = certificate.sign(text.as_bytes());
    let signature = signature.map_err(|error| CredentialError::Certificate(format!("cannot sign: {error}")))?;
    Ok(Secret::new(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))))
}

/// RFC 7515 sections 4.1.7 and 4.1.8.
fn header(certificate: &ClientCertificate) -> serde_json::Value {
    let (name, hash) = match certificate.algorithm {
        AssertionAlgorithm::Ps256 => ("x5t#S256", &SHA256),
        AssertionAlgorithm::Rs256 => ("x5t", &SHA1_FOR_LEGACY_USE_ONLY),
    };
    let thumbprint = URL_SAFE_NO_PAD.encode(digest(hash, certificate.der()));
    json!({ "alg": certificate.algorithm.name(), "typ": "JWT", name: thumbprint })
}

/// An assertion's own number: used once, never guessed.
fn id() -> String {
    format!("{:032x}", rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{
        RSA_PKCS1_2048_8192_SHA256, RSA_PSS_2048_8192_SHA256, UnparsedPublicKey, VerificationAlgorithm,
    };
    use serde_json::Value;
    use x509_parser::prelude::{FromDer as _, X509Certificate};

    use super::*;
    use crate::config::Environment;
    use crate::signin::scripted::{account, literals};

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    /// A new RSA certificate and its key in this folder.
    fn write_certificate(folder: &Path) {
        let key = rcgen::KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048).unwrap();
        let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
        std::fs::write(folder.join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    }

    fn read(folder: &Path, algorithm: AssertionAlgorithm) -> ClientCertificate {
        ClientCertificate::read(&folder.join("cert.pem"), &folder.join("key.pem"), algorithm).unwrap()
    }

    fn json(part: &str) -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn an_assertion_has_microsofts_claims_and_a_signature_that_verifies() {
        let folder = tempfile::tempdir().unwrap();
        write_certificate(folder.path());
        let algorithms: [(_, &'static dyn VerificationAlgorithm, _, _); 2] = [
            (AssertionAlgorithm::Ps256, &RSA_PSS_2048_8192_SHA256, "PS256", "x5t#S256"),
            (AssertionAlgorithm::Rs256, &RSA_PKCS1_2048_8192_SHA256, "RS256", "x5t"),
        ];
        for (algorithm, verification, name, thumbprint) in algorithms {
            let certificate = read(folder.path(), algorithm);
            let assertion = assertion(&certificate, "https://login.example/token", "the-client", now()).unwrap();
            let parts: Vec<&str> = assertion.expose().split('.').collect();
            let (header, claims) = (json(parts[0]), json(parts[1]));
            assert_eq!((&header["alg"], &header["typ"]), (&Value::from(name), &Value::from("JWT")));
            let octets = URL_SAFE_NO_PAD.decode(header[thumbprint].as_str().unwrap()).unwrap();
            assert_eq!(octets.len(), if name == "PS256" { 32 } else { 20 });
            assert_eq!(header.as_object().unwrap().len(), 3);
            assert_eq!(claims["aud"], "https://login.example/token");
            assert_eq!((&claims["iss"], &claims["sub"]), (&Value::from("the-client"), &Value::from("the-client")));
            let (nbf, exp) = (claims["nbf"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
            assert!(nbf < now().as_second() && now().as_second() < exp && exp - nbf <= 600);
            assert_eq!(claims["jti"].as_str().unwrap().len(), 32);
            let (_, parsed) = X509Certificate::from_der(certificate.der()).unwrap();
            let key = UnparsedPublicKey::new(verification, &parsed.public_key().subject_public_key.data);
            let signed = format!("{}.{}", parts[0], parts[1]);
            key.verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(parts[2]).unwrap()).unwrap();
        }
    }

    /// Somebody else's reading of RFC 7515 and RFC 7518 section 3.5.
    #[test]
    fn openssl_verifies_what_was_signed() {
        use std::process::Command;
        if Command::new("openssl").arg("version").output().is_err() {
            assert!(std::env::var_os("XOAUTH2_RELAY_TEST_ALL").is_none(), "there is no openssl: tests/all installs it");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        write_certificate(folder.path());
        let openssl = |arguments: &[&str]| {
            let output = Command::new("openssl").args(arguments).current_dir(folder.path()).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            output.stdout
        };
        std::fs::write(folder.path().join("public.pem"), openssl(&["x509", "-in", "cert.pem", "-noout", "-pubkey"]))
            .unwrap();
        let pss =
            ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest", "-sigopt", "rsa_mgf1_md:sha256"];
        for (algorithm, options, hash, name) in [
            (AssertionAlgorithm::Ps256, &pss[..], "-sha256", "x5t#S256"),
            (AssertionAlgorithm::Rs256, &[][..], "-sha1", "x5t"),
        ] {
            let made = assertion(&read(folder.path(), algorithm), "https://login.example/token", "the-client", now());
            let made = made.unwrap();
            let (signed, signature) = made.expose().rsplit_once('.').unwrap();
            std::fs::write(folder.path().join("signed"), signed).unwrap();
            std::fs::write(folder.path().join("signature"), URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
            let verify = ["dgst", "-sha256", "-verify", "public.pem", "-signature", "signature"];
            openssl(&[&verify, options, &["signed"]].concat());
            let printed = openssl(&["x509", "-in", "cert.pem", "-noout", "-fingerprint", hash]);
            let printed = String::from_utf8(printed).unwrap();
            let (_, printed) = printed.trim().rsplit_once('=').unwrap();
            let printed: Vec<u8> = printed.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
            let header = json(signed.split('.').next().unwrap());
            assert_eq!(URL_SAFE_NO_PAD.decode(header[name].as_str().unwrap()).unwrap(), printed);
        }
    }

    #[tokio::test]
    async fn every_request_has_an_assertion_of_its_own_by_the_certificate_that_is_there_now() {
        let folder = tempfile::tempdir().unwrap();
        write_certificate(folder.path());
        let mut account = account("lms@contoso.com", "https://login.example/token", None);
        account.certificate = Some(read(folder.path(), AssertionAlgorithm::Ps256));
        let ask = async || credential(&literals(), &account, Offer::Current, now()).await.unwrap();
        let thumbprint = |credential: &Credential| {
            let Credential::Assertion(assertion) = credential else { panic!("an assertion") };
            json(assertion.expose().split('.').next().unwrap())["x5t#S256"].clone()
        };
        let (first, second) = (ask().await, ask().await);
        assert_ne!(first, second);
        assert_eq!(thumbprint(&first), thumbprint(&second));
        std::fs::write(folder.path().join("cert.pem"), "half of it").unwrap();
        assert_eq!(thumbprint(&ask().await), thumbprint(&first), "half-written files change nothing");
        write_certificate(folder.path());
        assert_ne!(thumbprint(&ask().await), thumbprint(&first));
        std::fs::remove_file(folder.path().join("key.pem")).unwrap();
        assert_eq!(thumbprint(&ask().await), thumbprint(&first), "the one read with the configuration");
        let late = account.certificate.as_ref().unwrap().not_after + std::time::Duration::from_secs(1);
        let error = credential(&literals(), &account, Offer::Current, late).await.unwrap_err().to_string();
        assert!(error.contains("key.pem cannot be read"), "{error}");
    }

    #[tokio::test]
    async fn secrets_and_tokens_are_read_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        let reader: SecretReader = Arc::new(|source: &SecretSource| source.read(&Environment::default()));
        let mut account = account("lms@contoso.com", "https://login.example/token", None);
        let ask = async |account: &Account, offer| credential(&reader, account, offer, now()).await;
        assert_eq!(ask(&account, Offer::Current).await, Ok(Credential::None));
        account.federated_token = Some(SecretSource::File(file.clone()));
        for token in ["first", "second"] {
            std::fs::write(&file, format!("{token}\n")).unwrap();
            assert_eq!(ask(&account, Offer::Current).await, Ok(Credential::Assertion(Secret::new(token))));
        }
        account.federated_token = None;
        account.client_secret = Some(SecretSource::Literal(Secret::new("old")));
        account.next_client_secret = Some(SecretSource::File(file.clone()));
        assert_eq!(ask(&account, Offer::Current).await, Ok(Credential::Secret(Secret::new("old"))));
        assert_eq!(ask(&account, Offer::Next).await, Ok(Credential::Secret(Secret::new("second"))));
        std::fs::remove_file(&file).unwrap();
        let error = ask(&account, Offer::Next).await.unwrap_err().to_string();
        assert!(error.starts_with("cannot read next_client_secret: the secret file"), "{error}");
    }

    #[test]
    fn nothing_of_it_can_be_printed_and_a_secret_id_is_known() {
        let secret = Credential::Secret(Secret::new("00000000-1111-2222-3333-444444444444"));
        assert!(secret.is_secret_id());
        assert!(!Credential::Secret(Secret::new("abc8Q~xyz")).is_secret_id());
        let assertion = Credential::Assertion(Secret::new("00000000-1111-2222-3333-444444444444"));
        assert!(!assertion.is_secret_id());
        assert_eq!(format!("{secret:?}{assertion:?}"), "Secret(Secret(…))Assertion(Secret(…))");
    }
}
