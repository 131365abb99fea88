//! What the registration proves itself with, and whether a request does: client secrets, certificates, federated tokens. No HTTP in here.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::super::options::{ClientSecret, Federated, Options};
use super::Refused;
use super::grants::Form;
use super::jwt;

const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How wrong clocks may be.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// How a request proved itself, as `appidacr` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    Public,
    Secret,
    Assertion,
}

/// The one registered application's credentials. They come and go while the simulator runs.
pub(in crate::simulator) struct Registration {
    client_id: String,
    secrets: Vec<ClientSecret>,
    certificates: Vec<CertificateDer<'static>>,
    federated: Option<Federated>,
    /// Stands for the keys of the other identity provider, which Entra ID would fetch from it.
    issuer: Option<EcdsaKeyPair>,
}

impl Registration {
    /// As the options say. What is no certificate is none.
    pub(in crate::simulator) fn of(options: &Options) -> Self {
        let first = options.client_secret.iter().map(ClientSecret::new);
        let certificates = options.certificates.iter();
        let federated = options.federated.clone();
        Self {
            client_id: options.client_id.clone(),
            secrets: first.chain(options.client_secrets.iter().cloned()).collect(),
            certificates: certificates.filter_map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).ok()).collect(),
            issuer: federated.as_ref().and_then(|_| EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).ok()),
            federated,
        }
    }

    /// One more secret beside the others; one of the same value is replaced.
    pub(in crate::simulator) fn add_secret(&mut self, secret: ClientSecret) {
        self.remove_secret(&secret.value);
        self.secrets.push(secret);
    }

    /// The secret is deleted in the portal.
    pub(in crate::simulator) fn remove_secret(&mut self, value: &str) {
        self.secrets.retain(|secret| secret.value != value);
    }

    /// One more certificate beside the others. False if it is none.
    pub(in crate::simulator) fn add_certificate(&mut self, pem: &str) -> bool {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes());
        certificate.map(|certificate| self.certificates.push(certificate)).is_ok()
    }

    /// A token of the other identity provider for the registered subject.
    pub(in crate::simulator) fn federated_token(&self, now: Timestamp, life: std::time::Duration) -> Option<String> {
        let (federated, issuer) = (self.federated.as_ref()?, self.issuer.as_ref()?);
        let exp = now.saturating_add(life).unwrap_or(Timestamp::MAX);
        let claims = json!({
            "iss": federated.issuer, "sub": federated.subject, "aud": federated.audience,
            "nbf": now.as_second(), "exp": exp.as_second(), "jti": jwt::guid(),
        });
        let part = |json: &Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let text = format!("{}.{}", part(&json!({ "alg": "ES256", "typ": "JWT", "kid": "simulator" })), part(&claims));
        let signature = issuer.sign(&SystemRandom::new(), text.as_bytes()).ok()?;
        Some(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    fn is_public(&self) -> bool {
        self.secrets.is_empty() && self.certificates.is_empty() && self.federated.is_none()
    }

    /// Whether the request comes from the registration. `secret` was in the form or in the header; `audience` is the token endpoint.
    pub(super) fn check(
        &self,
        secret: Option<&str>,
        form: &Form,
        audience: &str,
        now: Timestamp,
    ) -> Result<Proof, Refused> {
        let field = |name: &str| form.get(name).map(String::as_str).filter(|value| !value.is_empty());
        match (secret, field("client_assertion")) {
            (None, None) if self.is_public() => Ok(Proof::Public),
            (None, None) => Err(Refused::row("7000218")),
            _ if self.is_public() => Err(Refused::row("700025")),
            (Some(secret), None) => self.check_secret(secret, now).map(|()| Proof::Secret),
            (_, Some(assertion)) => {
                if field("client_assertion_type") != Some(JWT_BEARER) {
                    return Err(Refused::row("900144").with("parameter", "client_assertion_type"));
                }
                self.check_assertion(assertion, audience, now).map(|()| Proof::Assertion)
            }
        }
    }

    fn check_secret(&self, shown: &str, now: Timestamp) -> Result<(), Refused> {
        let own = self.secrets.iter().find(|secret| secret.value == shown);
        match own {
            Some(secret) if secret.expires.is_some_and(|at| at <= now) => Err(Refused::row("7000222")),
            Some(secret) if secret.works_from.is_none_or(|at| at <= now) => Ok(()),
            _ => Err(Refused::row("7000215")),
        }
    }

    fn check_assertion(&self, assertion: &str, audience: &str, now: Timestamp) -> Result<(), Refused> {
        let parsed = Jwt::parse(assertion).ok_or_else(|| Refused::row("50013"))?;
        if !matches!(parsed.header["typ"].as_str(), Some("JWT" | "http://openid.net/specs/jwt/1.0")) {
            return Err(Refused::row("5002727"));
        }
        let is_signed = parsed.header.get("x5t").is_some() || parsed.header.get("x5t#S256").is_some();
        if is_signed {
            self.check_signature(&parsed)?;
            if parsed.text("aud") != audience
                || parsed.text("iss") != self.client_id
                || parsed.text("sub") != self.client_id
                || parsed.text("jti").is_empty()
            {
                return Err(Refused::row("50013"));
            }
        } else {
            self.check_federated(&parsed)?;
        }
        if parsed.is_in_time(now) { Ok(()) } else { Err(Refused::row("700024")) }
    }

    /// By the certificate that the header names (RFC 7515 sections 4.1.7 and 4.1.8).
    fn check_signature(&self, jwt: &Jwt<'_>) -> Result<(), Refused> {
        let refused = || Refused::row("700027");
        let named = |name: &str, hash| {
            let wanted = jwt.header[name].as_str()?;
            self.certificates.iter().find(|own| URL_SAFE_NO_PAD.encode(digest(hash, own)) == wanted)
        };
        let own = named("x5t#S256", &SHA256).or_else(|| named("x5t", &SHA1_FOR_LEGACY_USE_ONLY));
        let (_, own) = own.and_then(|own| X509Certificate::from_der(own).ok()).ok_or_else(refused)?;
        let key = &own.public_key().subject_public_key.data;
        let verified = match jwt.header["alg"].as_str() {
            Some("PS256") => UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key).verify(jwt.signed, &jwt.signature),
            Some("RS256") => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key).verify(jwt.signed, &jwt.signature)
            }
            _ => return Err(refused()),
        };
        verified.map_err(|_| refused())
    }

    fn check_federated(&self, jwt: &Jwt<'_>) -> Result<(), Refused> {
        let (Some(federated), Some(issuer)) = (&self.federated, &self.issuer) else {
            return Err(Refused::row("70021"));
        };
        let claims = [("iss", &federated.issuer), ("sub", &federated.subject), ("aud", &federated.audience)];
        if claims.iter().any(|(name, wanted)| jwt.text(name) != wanted.as_str()) {
            return Err(Refused::row("700213"));
        }
        let key = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, issuer.public_key());
        key.verify(jwt.signed, &jwt.signature).map_err(|_| Refused::row("700027"))
    }
}

/// A JSON Web Token, taken apart (RFC 7519).
struct Jwt<'a> {
    header: Value,
    claims: Value,
    signed: &'a [u8],
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (signed, signature) = text.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let json = |part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        Some(Self { header: json(header)?, claims: json(claims)?, signed: signed.as_bytes(), signature })
    }

    fn text(&self, name: &str) -> &str {
        self.claims[name].as_str().unwrap_or_default()
    }

    fn is_in_time(&self, now: Timestamp) -> bool {
        let time = |name: &str| self.claims[name].as_i64().and_then(|at| Timestamp::from_second(at).ok());
        let (Some(begins), Some(ends)) = (time("nbf"), time("exp")) else { return false };
        now.duration_since(begins) >= -SKEW && now.duration_since(ends) < SKEW
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn checked(registration: &Registration, fields: &[(&str, &str)], at: Timestamp) -> Result<Proof, String> {
        let form: Form = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let secret = form.get("client_secret").map(String::as_str);
        let outcome = registration.check(secret, &form, "http://login.test/token", at);
        outcome.map_err(|refused| refused.id().to_owned())
    }

    #[test]
    fn secrets_work_from_and_until() {
        let hour = Duration::from_hours(1);
        let mut registration =
            Registration::of(&Options { client_secret: Some("old".to_owned()), ..Options::default() });
        registration.add_secret(ClientSecret { expires: Some(now() + hour), ..ClientSecret::new("old") });
        registration.add_secret(ClientSecret { works_from: Some(now() + hour / 2), ..ClientSecret::new("new") });
        let ask = |secret, at| checked(&registration, &[("client_secret", secret)], at);
        assert_eq!(ask("old", now()), Ok(Proof::Secret));
        assert_eq!(ask("new", now()), Err("7000215".to_owned()));
        assert_eq!(ask("new", now() + hour / 2), Ok(Proof::Secret));
        assert_eq!(ask("old", now() + hour / 2), Ok(Proof::Secret), "both at once");
        assert_eq!(ask("old", now() + hour), Err("7000222".to_owned()));
        assert_eq!(ask("other", now()), Err("7000215".to_owned()));
        assert_eq!(checked(&registration, &[], now()), Err("7000218".to_owned()));
        let public = Registration::of(&Options::default());
        assert_eq!(checked(&public, &[], now()), Ok(Proof::Public));
        assert_eq!(checked(&public, &[("client_secret", "x")], now()), Err("700025".to_owned()));
    }

    #[test]
    fn a_federated_token_is_its_issuers_for_this_subject_and_in_time() {
        let options = || Options { federated: Some(Federated::default()), ..Options::default() };
        let (registration, other) = (Registration::of(&options()), Registration::of(&options()));
        let ask = |token: &str, at| {
            let kind = ("client_assertion_type", JWT_BEARER);
            checked(&registration, &[kind, ("client_assertion", token)], at)
        };
        let token = registration.federated_token(now(), Duration::from_mins(10)).unwrap();
        assert_eq!(ask(&token, now()), Ok(Proof::Assertion));
        assert_eq!(ask(&token, now() + Duration::from_mins(16)), Err("700024".to_owned()));
        let foreign = other.federated_token(now(), Duration::from_mins(10)).unwrap();
        assert_eq!(ask(&foreign, now()), Err("700027".to_owned()), "signed by somebody else");
        assert_eq!(ask("no.jw.t", now()), Err("50013".to_owned()));
        let form = [("client_assertion", token.as_str())];
        assert_eq!(checked(&registration, &form, now()), Err("900144".to_owned()));
        let elsewhere = Federated { subject: "system:serviceaccount:mail:other".to_owned(), ..Federated::default() };
        let strict = Registration::of(&Options { federated: Some(elsewhere), ..Options::default() });
        let form = [("client_assertion_type", JWT_BEARER), ("client_assertion", token.as_str())];
        assert_eq!(checked(&strict, &form, now()), Err("700213".to_owned()));
    }
}
