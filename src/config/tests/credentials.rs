//! How a registration proves itself, and what does not go together.

use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd};
use tempfile::TempDir;

use super::*;

fn load_in(folder: &TempDir, keys: &str) -> Result<Config, Problems> {
    let file = folder.path().join("relay.toml").display().to_string();
    Config::from_text(&format!("{ACCOUNT}{keys}"), &file, &Environment::default())
}

/// What is said of an account with these keys: problems, else warnings, without place and folder.
fn said(folder: &TempDir, keys: &str) -> Vec<String> {
    let found = match load_in(folder, keys) {
        Ok(config) => config.warnings,
        Err(problems) => problems.iter().cloned().collect(),
    };
    let prefix = format!("{}/", folder.path().display());
    found
        .iter()
        .map(|found| format!("{}: {}", found.key, found.text).replace(&prefix, "").replace("account[0].", ""))
        .collect()
}

fn write(folder: &TempDir, name: &str, text: &str) {
    std::fs::write(folder.path().join(name), text).unwrap();
}

fn certificate(folder: &TempDir, name: &str, key: &KeyPair, until: i32) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.not_after = date_time_ymd(until, 5, 1);
    write(folder, &format!("{name}.pem"), &params.self_signed(key).unwrap().pem());
    write(folder, &format!("{name}.key"), &key.serialize_pem());
}

fn rsa(size: RsaKeySize) -> KeyPair {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, size).unwrap()
}

const PAIR: &str = "certificate = { certificate = 'good.pem', key = 'good.key' }\n";

#[test]
fn an_application_is_asked_for_all_it_was_granted() {
    for (cloud, scope) in [
        ("public", "https://outlook.office365.com/.default"),
        ("gcc-high", "https://outlook.office365.us/.default"),
        ("china", "https://partner.outlook.cn/.default"),
    ] {
        let config =
            load(&format!("{ACCOUNT}cloud = {cloud:?}\ngrant = 'application'\nclient_secret = 'abc8Q~x'")).unwrap();
        let account = &config.accounts[0];
        assert_eq!((account.grant, account.endpoints.scopes.as_slice()), (Grant::Application, &[scope.to_owned()][..]));
        assert_eq!(config.warnings, []);
    }
    let own = |scopes| format!("{ACCOUNT}grant = 'application'\nclient_secret = 'abc8Q~x'\nscopes = {scopes}");
    assert_eq!(load(&own("['https://x.example/.default']")).unwrap().warnings, []);
    let warnings = load(&own("['https://x.example/SMTP.Send']")).unwrap().warnings;
    assert!(warnings[0].text.contains("ends in \"/.default\""), "{warnings:?}");
    let graph = "scopes = ['https://graph.microsoft.com/Mail.Send', 'offline_access']";
    let warnings = load(&format!("{ACCOUNT}{graph}")).unwrap().warnings;
    assert!(warnings[0].text.contains("asks for Microsoft Graph"), "{warnings:?}");
}

#[test]
fn a_certificate_is_read_with_the_file_and_says_how_long_it_is_good() {
    let folder = tempfile::tempdir().unwrap();
    certificate(&folder, "good", &rsa(RsaKeySize::_2048), 2090);
    for (algorithm, expected) in [
        ("", AssertionAlgorithm::Ps256),
        (", algorithm = 'PS256'", AssertionAlgorithm::Ps256),
        (", algorithm = 'RS256'", AssertionAlgorithm::Rs256),
    ] {
        let keys =
            format!("grant = 'application'\ncertificate = {{ certificate = 'good.pem', key = 'good.key'{algorithm} }}");
        let config = load_in(&folder, &keys).unwrap();
        let certificate = config.accounts[0].certificate.as_ref().unwrap();
        assert_eq!(certificate.algorithm, expected);
        assert_eq!(certificate.not_after.to_string(), "2090-05-01T00:00:00Z");
        assert_eq!(config.warnings, []);
    }
}

#[test]
fn each_way_to_get_a_certificate_wrong_has_its_remedy() {
    let folder = tempfile::tempdir().unwrap();
    certificate(&folder, "good", &rsa(RsaKeySize::_2048), 2090);
    certificate(&folder, "other", &rsa(RsaKeySize::_2048), 2090);
    certificate(&folder, "old", &rsa(RsaKeySize::_2048), 2020);
    certificate(&folder, "curve", &KeyPair::generate().unwrap(), 2090);
    let pair =
        |certificate: &str, key: &str| format!("certificate = {{ certificate = '{certificate}', key = '{key}' }}");
    for (keys, expected) in [
        (
            pair("good.pem", "other.key"),
            "certificate.key: other.key does not belong to the certificate in good.pem: name the key that it was made with",
        ),
        (
            pair("curve.pem", "curve.key"),
            "certificate.key: curve.key holds a key that cannot sign for an app registration: it has to be RSA with 2048 bits or more",
        ),
        (
            pair("old.pem", "old.key"),
            "certificate: old.pem expired at 2020-05-01T00:00:00Z: the sign-in is refused; make a new certificate and upload it to the app registration",
        ),
        (pair("gone.pem", "good.key"), "certificate.certificate: gone.pem cannot be read: No such file or directory"),
        (
            "certificate = 'good.pem'".to_owned(),
            "certificate: is a text: write { certificate = \"/path/cert.pem\", key = \"/path/key.pem\" }",
        ),
        (
            "certificate = { certificate = 'good.pem' }".to_owned(),
            "certificate: names no key: write { certificate = \"/path/cert.pem\", key = \"/path/key.pem\" }",
        ),
        (
            "certificate = { certificat = 'good.pem', key = 'good.key' }".to_owned(),
            "certificate: has a word in it that is unknown; did you mean certificate?",
        ),
        (
            "certificate = { certificate = 'good.pem', key = 'good.key', algorithm = 'ES256' }".to_owned(),
            "certificate: algorithm \"ES256\" is unknown; did you mean \"PS256\"?",
        ),
        (
            "certificate = { certificate = 'good.pem', key = 5 }".to_owned(),
            "certificate: key is a number: write a text, in quotes",
        ),
    ] {
        assert_eq!(said(&folder, &keys), [expected], "{keys}");
    }
}

#[test]
fn a_short_key_is_refused() {
    // Made with: openssl genrsa 1024
    let folder = tempfile::tempdir().unwrap();
    certificate(&folder, "good", &rsa(RsaKeySize::_2048), 2090);
    write(&folder, "short.key", include_str!("short_key.pem"));
    let said = said(&folder, "certificate = { certificate = 'good.pem', key = 'short.key' }");
    assert!(said[0].ends_with("it has to be RSA with 2048 bits or more"), "{said:?}");
}

#[test]
fn a_registration_proves_itself_in_one_way() {
    let folder = tempfile::tempdir().unwrap();
    certificate(&folder, "good", &rsa(RsaKeySize::_2048), 2090);
    write(&folder, "token", "e30.e30.x");
    let token = "federated_token = { file = 'token' }\n";
    for keys in [
        format!("client_secret = 'abc8Q~x'\n{PAIR}"),
        format!("{PAIR}{token}"),
        format!("client_secret = 'a'\n{token}"),
    ] {
        let said = said(&folder, &keys);
        assert!(said.len() == 1 && said[0].contains("proves itself in one way: keep one of the two"), "{said:?}");
    }
    for keys in ["client_secret = 'abc8Q~x'\n", PAIR, token] {
        for grant in ["delegated", "application"] {
            assert_eq!(said(&folder, &format!("grant = '{grant}'\n{keys}")), [""; 0], "{grant} {keys}");
        }
    }
    assert_eq!(said(&folder, "grant = 'delegated'\n"), [""; 0], "a public client needs none");
    assert_eq!(
        said(&folder, "grant = 'application'\n"),
        [
            "grant: needs client_secret, certificate or federated_token: nobody signs in, so the registration has to prove itself"
        ]
    );
    assert_eq!(
        said(&folder, "federated_token = 'e30.e30.x'\n"),
        [
            "federated_token: lives for minutes only: say where it is to be read each time, as in { file = \"/var/run/secrets/…/token\" }"
        ]
    );
}

#[test]
fn an_application_needs_a_tenant_of_microsofts() {
    let personal = "[[account]]\nmailbox = 'a@outlook.com'\nclient_id = '11111111-2222-3333-4444-555555555555'\n\
        cloud = 'personal'\ngrant = 'application'\nclient_secret = 'x'\n";
    assert_listing(
        personal,
        &["5: account[0].grant: \"application\" is not for personal mailboxes: remove the line, and sign a person in"],
    );
}

#[test]
fn a_next_secret_stands_beside_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let both = load_in(&folder, "client_secret = 'old~x'\nnext_client_secret = 'new~x'\n").unwrap();
    assert_eq!(both.accounts[0].next_client_secret, Some(SecretSource::Literal(Secret::new("new~x"))));
    for (keys, expected) in [
        (
            "next_client_secret = 'new~x'",
            "next_client_secret: takes the place of a client_secret, and there is none: name it client_secret",
        ),
        (
            "client_secret = 'same'\nnext_client_secret = 'same'",
            "next_client_secret: is the same as client_secret: put the new secret here, and leave the old one there until the new one works",
        ),
    ] {
        assert_eq!(said(&folder, keys), [expected]);
    }
}

#[test]
fn the_id_of_a_secret_is_recognised_wherever_it_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "id", "11111111-2222-3333-4444-555555555555\n");
    write(&folder, "value", "abc8Q~hunter2\n");
    assert_eq!(said(&folder, "client_secret = { file = 'value' }"), [""; 0]);
    let said_of = said(&folder, "client_secret = { file = 'value' }\nnext_client_secret = { file = 'id' }");
    assert!(
        said_of[0].starts_with("next_client_secret: id holds a GUID: that is the Secret ID, not the Value"),
        "{said_of:?}"
    );
    assert!(load_in(&folder, "client_secret = { file = 'id' }").is_ok(), "a warning: the relay starts and keeps mail");
    let custom = "[[account]]\nmailbox = 'a@b.de'\nprovider = 'custom'\nclient_id = 'x'\ntoken_url = 'https://x.example/t'\n\
        smtp = 'x.example:587'\nclient_secret = '11111111-2222-3333-4444-555555555555'\n";
    assert_eq!(listing(load(custom)), [""; 0], "another provider's secrets may look like that");
}

#[test]
fn google_needs_no_tenant_but_a_secret() {
    const GOOGLE: &str =
        "[[account]]\nmailbox = 'a@gmail.com'\nprovider = 'google'\nclient_id = 'x.apps.googleusercontent.com'\n";
    let config = load(&format!("{GOOGLE}client_secret = 'GOCSPX-x'\n")).unwrap();
    let account = &config.accounts[0];
    assert_eq!((account.provider, account.tenant.as_str()), (Provider::Google, ""));
    let endpoints = Endpoints {
        token: "https://oauth2.googleapis.com/token".to_owned(),
        authorize: Some("https://accounts.google.com/o/oauth2/v2/auth".to_owned()),
        device: None,
        scopes: vec!["https://mail.google.com/".to_owned()],
    };
    assert_eq!(account.endpoints, endpoints);
    assert_eq!((account.smtp.to_string().as_str(), account.smtp_tls), ("smtp.gmail.com:587", SmtpTls::StartTls));
    assert_eq!(config.warnings, []);
    assert_listing(
        GOOGLE,
        &["1: account[0].client_secret: is missing: Google wants the client secret of a desktop client too"],
    );
    assert_listing(
        &format!("{GOOGLE}client_secret = 'x'\ntenant = 'contoso.com'\ncloud = 'public'\ngrant = 'application'\n"),
        &[
            "6: account[0].tenant: is Microsoft's: Google has none, remove it",
            "7: account[0].cloud: is Microsoft's: Google has none, remove it",
            "8: account[0].grant: \"application\" is not known to Google for mail: remove the line, and sign a person in",
        ],
    );
}
