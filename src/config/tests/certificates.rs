//! Certificates and keys in every form that administrators have them, and everything that can be wrong with them.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, RsaKeySize, date_time_ymd};
use tempfile::TempDir;
use x509_parser::der_parser::parse_der;

use super::*;

/// As `openssl x509 -req -signkey` makes it: without extensions.
const VERSION_1: &str = "\
-----BEGIN CERTIFICATE-----
MIIBFzCBvQIUawUtYPaxVTawgZsYa5bgtNJ5SzQwCgYIKoZIzj0EAwIwDTELMAkG
A1UEAwwCdjEwIBcNMjYxMTIxMTEzNDI3WhgPMjEyNjEwMjgxMTM0MjdaMA0xCzAJ
BgNVBAMMAnYxMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEI1yFEo9F24o5wg/7
Pi4qkyuX1EH/wVJtCvYu6OJ0n2SieuRziQNlBP6aK7F46x+T0hk0OpbQm/+o8JHW
LzNTMTAKBggqhkjOPQQDAgNJADBGAiEAnox48Z0OKjBmwykpXAyGydOdK9+YIftv
MXWpr95D5G4CIQCnnAOf+WiV7Ze9Y1X/EvLOsChSRUskUgIo7B9Osdi+Ww==
-----END CERTIFICATE-----
";

struct Files(TempDir);

impl Files {
    /// `good.pem` and `good.key`, and what is said in between.
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let key = KeyPair::generate().unwrap();
        files.write("good.pem", &certificate(&key));
        files.write("good.key", &key.serialize_pem());
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.0.path().join(name)).unwrap()
    }

    fn load(&self, listener: &str) -> Result<Config, Problems> {
        let file = self.0.path().join("relay.toml").display().to_string();
        Config::from_text(&format!("[[listener]]\n{listener}\n{ACCOUNT}"), &file, &Environment::default())
    }

    /// What is said of a listener with these lines, paths without the folder.
    fn said(&self, listener: &str) -> Vec<String> {
        let (problems, warnings) = match self.load(listener) {
            Ok(config) => (Vec::new(), config.warnings),
            Err(problems) => (problems.iter().cloned().collect(), Vec::new()),
        };
        let folder = format!("{}/", self.0.path().display());
        problems
            .iter()
            .chain(&warnings)
            .map(|found| found.to_string().replace(&folder, "").replace("relay.toml:", ""))
            .collect()
    }
}

fn certificate(key: &KeyPair) -> String {
    CertificateParams::new(vec!["relay.contoso.com".to_owned()]).unwrap().self_signed(key).unwrap().pem()
}

fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// RFC 5958 section 2: what is in a PKCS#8 key is the older form of it.
fn older_form(key: &KeyPair) -> Vec<u8> {
    let der = key.serialize_der();
    let (_, parsed) = parse_der(&der).unwrap();
    parsed.as_sequence().unwrap()[2].as_slice().unwrap().to_vec()
}

#[test]
fn a_listener_gets_its_certificate() {
    let files = Files::new();
    let config =
        files.load("tls = 'starttls'\nrequire_tls = true\ncertificate = 'good.pem'\nkey = 'good.key'").unwrap();
    let tls = config.listeners[0].tls.as_ref().unwrap();
    assert_eq!((tls.begins, tls.required), (TlsBegins::WithStartTls, true));
    assert_eq!(tls.certificate.file(), files.0.path().join("good.pem"));
    assert_eq!(config.warnings, []);
    assert_eq!(
        *tls,
        files
            .load("tls = 'starttls'\nrequire_tls = true\ncertificate = 'good.pem'\nkey = 'good.key'")
            .unwrap()
            .listeners[0]
            .tls
            .clone()
            .unwrap()
    );
    assert!(!format!("{config:?}").to_lowercase().contains("signingkey"), "{config:?}");

    let all = files.read("good.key") + &files.read("good.pem");
    files.write("all.pem", &all);
    let config = files.load("tls = 'implicit'\ncertificate = 'all.pem'\nkey = 'all.pem'").unwrap();
    let tls = config.listeners[0].tls.as_ref().unwrap();
    assert_eq!((tls.begins, tls.required), (TlsBegins::AtOnce, false));
}

#[test]
fn keys_may_have_any_usual_form() {
    let files = Files::new();
    let ec = KeyPair::generate().unwrap();
    let rsa = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap();
    let ed = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    // OpenSSL's `ecparam -genkey` writes the name of the curve in front.
    let parameters = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    for (key, text) in [
        (&ec, ec.serialize_pem()),
        (&ec, pem("EC PRIVATE KEY", &older_form(&ec))),
        (&ec, format!("{parameters}{}", pem("EC PRIVATE KEY", &older_form(&ec)))),
        (&ec, format!("Bag Attributes\n    friendlyName: relay\n{}", ec.serialize_pem()).replace('\n', "\r\n")),
        (&rsa, rsa.serialize_pem()),
        (&rsa, pem("RSA PRIVATE KEY", &older_form(&rsa))),
        (&ed, ed.serialize_pem()),
    ] {
        files.write("cert.pem", &certificate(key));
        files.write("key.pem", &text);
        assert_eq!(files.said("tls = 'implicit'\ncertificate = 'cert.pem'\nkey = 'key.pem'"), [""; 0], "{text}");
    }
}

#[test]
fn each_mistake_around_tls_gets_its_remedy() {
    let files = Files::new();
    for (listener, expected) in [
        (
            "tls = 'starttls'",
            &[
                "1: listener[0].certificate: is missing: TLS needs the certificate with its chain: name the PEM file",
                "1: listener[0].key: is missing: TLS needs its private key: name the PEM file",
            ][..],
        ),
        (
            "tls = 'implicit'\ncertificate = 'good.pem'",
            &["1: listener[0].key: is missing: TLS needs its private key: name the PEM file"],
        ),
        (
            "certificate = 'good.pem'\nkey = 'good.key'",
            &[
                "2: listener[0].certificate: has no effect without TLS: set tls = \"starttls\" (or \"implicit\"), or remove the line",
                "3: listener[0].key: has no effect without TLS: set tls = \"starttls\" (or \"implicit\"), or remove the line",
            ],
        ),
        (
            "tls = 'none'\nrequire_tls = true",
            &[
                "3: listener[0].require_tls: needs TLS, and this listener has none: set tls = \"starttls\", or remove the line",
            ],
        ),
        (
            "tls = 'startls'\nrequire_tls = true",
            &["2: listener[0].tls: \"startls\" is unknown; did you mean \"starttls\"?"],
        ),
        ("tls = 'ssl'", &["2: listener[0].tls: \"ssl\" is unknown: use \"none\", \"starttls\", \"implicit\""]),
        ("require_tls = 'yes'", &["2: listener[0].require_tls: is a text: write true or false, without quotes"]),
        (
            "address = '0.0.0.0:465'\ntls = 'starttls'\ncertificate = 'good.pem'\nkey = 'good.key'",
            &[
                "3: listener[0].tls: programs expect TLS from the first octet at port 465 (RFC 8314): \"implicit\" fits it",
            ],
        ),
        (
            "address = '[::]:25'",
            &["2: listener[0].address: [::]:25 takes IPv6 alone: for IPv4 add a [[listener]] at 0.0.0.0:25"],
        ),
        ("address = '[::]:25'\n[[listener]]\naddress = '0.0.0.0:25'", &[]),
        (
            "proxy_protocol_from = ['0.0.0.0/0']",
            &[
                "2: listener[0].proxy_protocol_from[0]: \"0.0.0.0/0\" lets strangers on the Internet say that they are in \"allow\": write \
               the addresses of your proxies",
            ],
        ),
    ] {
        assert_eq!(files.said(listener), expected, "{listener}");
    }
}

/// Files with all kinds of mistakes.
fn wrong_files() -> Files {
    let files = Files::new();
    let (good, good_key) = (files.read("good.pem"), files.read("good.key"));
    let authority = certificate(&KeyPair::generate().unwrap());
    let sections = [
        ("empty.pem", String::new()),
        ("other.key", KeyPair::generate().unwrap().serialize_pem()),
        ("reversed.pem", format!("{authority}{good}")),
        ("torn.pem", good[..good.len() / 2].to_owned()),
        ("torn.key", good_key[..good_key.len() / 2].to_owned()),
        ("junk.pem", pem("CERTIFICATE", b"no certificate")),
        ("junk.key", pem("PRIVATE KEY", b"no key")),
        ("damaged.pem", good.replace("MII", "M!!")),
        ("text.pem", "hello\n".to_owned()),
        ("both.pfx", "0\u{2}".to_owned()),
        ("locked.key", pem("ENCRYPTED PRIVATE KEY", b"x")),
        ("locked1.key", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n".to_owned()),
    ];
    for (name, text) in &sections {
        files.write(name, text);
    }
    files
}

#[test]
fn each_wrong_certificate_gets_its_remedy() {
    let files = wrong_files();
    for (certificate, key, expected) in [
        (
            "none.pem",
            "none.key",
            &[
                "3: listener[0].certificate: none.pem cannot be read: No such file or directory",
                "4: listener[0].key: none.key cannot be read: No such file or directory",
            ][..],
        ),
        (".", "good.key", &["3: listener[0].certificate: . cannot be read: Is a directory"]),
        (
            "empty.pem",
            "empty.pem",
            &["3: listener[0].certificate: empty.pem is empty", "4: listener[0].key: empty.pem is empty"],
        ),
        (
            "text.pem",
            "text.pem",
            &[
                "3: listener[0].certificate: text.pem holds no certificate: it needs \"-----BEGIN CERTIFICATE-----\" (PEM)",
                "4: listener[0].key: text.pem holds no key: it needs \"-----BEGIN PRIVATE KEY-----\" (PEM)",
            ],
        ),
        (
            "good.key",
            "good.pem",
            &[
                "3: listener[0].certificate: good.key holds a key and no certificate: \"certificate\" and \"key\" may be mixed up",
                "4: listener[0].key: good.pem holds a certificate and no key: name the file with the private key",
            ],
        ),
        (
            "both.pfx",
            "both.pfx",
            &[
                "3: listener[0].certificate: both.pfx is no PEM: openssl x509 -inform der -in both.pfx -out NEW-FILE converts it, or openssl \
                 pkcs12 -nodes -in both.pfx -out NEW-FILE if it is a PFX file",
                "4: listener[0].key: both.pfx is no PEM: openssl pkey -inform der -in both.pfx -out NEW-FILE converts it, or openssl pkcs12 \
                 -nodes -in both.pfx -out NEW-FILE if it is a PFX file",
            ],
        ),
        (
            "torn.pem",
            "torn.key",
            &[
                "3: listener[0].certificate: torn.pem is damaged: what is between BEGIN and END is no PEM",
                "4: listener[0].key: torn.key is damaged: what is between BEGIN and END is no PEM",
            ],
        ),
        (
            "damaged.pem",
            "good.key",
            &["3: listener[0].certificate: damaged.pem is damaged: what is between BEGIN and END is no PEM"],
        ),
        (
            "junk.pem",
            "good.key",
            &["3: listener[0].certificate: junk.pem holds a certificate that cannot be understood: get it anew"],
        ),
    ] {
        let listener = format!("tls = 'starttls'\ncertificate = '{certificate}'\nkey = '{key}'");
        assert_eq!(files.said(&listener), expected, "{listener}");
    }
}

#[test]
fn each_wrong_key_gets_its_remedy() {
    let files = wrong_files();
    for (certificate, key, expected) in [
        (
            "good.pem",
            "junk.key",
            &["4: listener[0].key: junk.key holds a key that TLS cannot use here: it has to be RSA with 2048 bits or \
            more, ECDSA (P-256, P-384, P-521) or Ed25519"],
        ),
        (
            "good.pem",
            "other.key",
            &[
                "4: listener[0].key: other.key does not belong to the certificate in good.pem: name the key that it was \
            made with",
            ],
        ),
        (
            "reversed.pem",
            "good.key",
            &["3: listener[0].certificate: reversed.pem is in the wrong order: the certificate of good.key is number \
            2 in it and must be the first"],
        ),
        (
            "good.pem",
            "locked.key",
            &[
                "4: listener[0].key: locked.key is locked with a passphrase, and nobody is there to type it: openssl pkey \
            -in locked.key -out NEW-FILE unlocks it",
            ],
        ),
        (
            "good.pem",
            "locked1.key",
            &[
                "4: listener[0].key: locked1.key is locked with a passphrase, and nobody is there to type it: openssl pkey \
            -in locked1.key -out NEW-FILE unlocks it",
            ],
        ),
    ] {
        let listener = format!("tls = 'starttls'\ncertificate = '{certificate}'\nkey = '{key}'");
        assert_eq!(files.said(&listener), expected, "{listener}");
    }
}

#[test]
fn a_certificate_of_version_1_is_told_from_a_damaged_one() {
    let files = Files::new();
    files.write("v1.pem", VERSION_1);
    let said = files.said("tls = 'starttls'\ncertificate = 'v1.pem'\nkey = 'good.key'");
    assert!(said[0].contains("v1.pem holds a certificate of version 1") && said.len() == 1, "{said:?}");
}

#[test]
fn certificates_out_of_their_time_are_pointed_out_and_used() {
    let files = Files::new();
    let key = KeyPair::generate().unwrap();
    files.write("key.pem", &key.serialize_pem());
    for (from, to, expected) in [
        (2001, 2002, Some("cert.pem expired at 2002-01-01T00:00:00Z: programs that check it refuse to send; renew it")),
        (2101, 2102, Some("cert.pem is not valid before 2101-01-01T00:00:00Z: is the clock of this machine right?")),
        (2001, 2102, None),
    ] {
        let mut parameters = CertificateParams::new(vec!["relay.contoso.com".to_owned()]).unwrap();
        (parameters.not_before, parameters.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        files.write("cert.pem", &parameters.self_signed(&key).unwrap().pem());
        let said = files.said("tls = 'starttls'\ncertificate = 'cert.pem'\nkey = 'key.pem'");
        let expected: Vec<_> = expected.iter().map(|text| format!("3: listener[0].certificate: {text}")).collect();
        assert_eq!(said, expected);
    }
    // As in certbot's folder.
    files.write("fullchain.pem", "");
    assert_eq!(
        files.said("tls = 'starttls'\ncertificate = 'cert.pem'\nkey = 'key.pem'"),
        [
            "3: listener[0].certificate: cert.pem lacks the certificates of its authority, and programs may not trust it without: use fullchain.pem"
        ]
    );
}

#[test]
fn files_that_the_relays_user_cannot_reach_are_pointed_out() {
    let files = Files::new();
    let path = |name: &str| files.0.path().join(name);
    let mode = |name: &str, mode| {
        std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    files.write("secret.key", &files.read("good.key"));
    std::fs::create_dir(path("closed")).unwrap();
    std::fs::copy(path("good.pem"), path("closed/good.pem")).unwrap();
    let certificate = |file: &str, key: &str| Certificate::read(&path(file), &path(key)).unwrap();
    let (nobody, me) = (65_534, std::fs::metadata(files.0.path()).unwrap().uid());
    mode("", 0o755);
    mode("secret.key", 0o600);
    mode("closed", 0o700);
    for (file, key, user, closed) in [
        ("good.pem", "good.key", nobody, None),
        ("good.pem", "secret.key", me, None),
        ("good.pem", "secret.key", nobody, Some(("key", "secret.key"))),
        ("closed/good.pem", "good.key", nobody, Some(("certificate", "closed"))),
    ] {
        let found = certificate(file, key).closed_to(user);
        let closed = closed.map(|(key, name)| (key, path(name).canonicalize().unwrap()));
        assert_eq!(found, closed, "{file} {key} {user}");
    }
    // Some group has it: it may well be the relay's.
    mode("secret.key", 0o640);
    assert_eq!(certificate("good.pem", "secret.key").closed_to(nobody), None);
}

#[test]
fn passwords_are_out_of_sight_where_tls_is_required() {
    let files = Files::new();
    for (tls, is_shown) in
        [("tls = 'starttls'", true), ("tls = 'starttls'\nrequire_tls = true", false), ("tls = 'implicit'", false)]
    {
        let said = files.said(&format!(
            "{tls}\ncertificate = 'good.pem'\nkey = 'good.key'\npassword = 'checked'\nallow = ['203.0.113.9']\n\
             [[app]]\nname = 'x'\npassword = 'long enough to be good'"
        ));
        assert_eq!(said.iter().any(|text| text.contains("in the clear")), is_shown, "{tls}: {said:?}");
    }
}
