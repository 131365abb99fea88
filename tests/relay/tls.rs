//! Programs that encrypt, through the whole relay: they check the certificate, and the mail arrives.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::clients::{client, run};
use crate::support::{MAILBOX, PATIENCE, Rig, blocking, quick};

/// An authority, and the files that it issues for `localhost`.
struct Authority {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, "an authority for tests");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        std::fs::write(folder.path().join("ca.pem"), parameters.self_signed(&key).unwrap().pem()).unwrap();
        let authority = Self { folder, issuer: Issuer::new(parameters, key) };
        authority.renew();
        authority
    }

    /// Writes a new certificate and its key over the old ones.
    fn renew(&self) {
        let key = KeyPair::generate().unwrap();
        let names = ["localhost", "127.0.0.1"].map(str::to_owned).to_vec();
        let mut parameters = CertificateParams::new(names).unwrap();
        parameters.use_authority_key_identifier_extension = true;
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path("fullchain.pem"), certificate.pem()).unwrap();
        std::fs::write(self.path("privkey.pem"), key.serialize_pem()).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn ca(&self) -> String {
        self.path("ca.pem").display().to_string()
    }

    fn certificate(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(self.path("fullchain.pem")).unwrap()
    }

    /// A listener with STARTTLS, which has to be used, and one with implicit TLS.
    fn listeners(&self) -> String {
        let folder = self.folder.path().display();
        let of = |how: &str| {
            format!(
                "[[listener]]\naddress = \"127.0.0.1:0\"\n{how}\ncertificate = \"{folder}/fullchain.pem\"\nkey = \"{folder}/privkey.pem\"\n"
            )
        };
        of("tls = \"starttls\"\nrequire_tls = true") + &of("tls = \"implicit\"")
    }
}

async fn start(authority: &Authority) -> (Rig, [u16; 2]) {
    let rig = Rig::with_listener(quick(), &authority.listeners()).await;
    let ports = [0, 1].map(|n: usize| rig.relay.listeners()[n].port());
    (rig, ports)
}

/// So many mails have arrived, over TLS and with a password.
async fn assert_all_arrived(rig: &Rig, count: usize) {
    for accepted in rig.until_accepted(count).await {
        let mail = String::from_utf8_lossy(&accepted.bytes).into_owned();
        assert!(mail.contains(" with ESMTPSA id "), "{mail}");
        assert!(mail.contains("over TLS"), "{mail}");
    }
    rig.until_queue_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn swaks_with_starttls_and_with_tls_on_connect() {
    let Some(swaks) = client("swaks") else { return };
    let authority = Authority::new();
    let (rig, ports) = start(&authority).await;
    for (port, tls) in ports.into_iter().zip(["--tls", "--tls-on-connect"]) {
        let mut command = Command::new(&swaks);
        command.args([
            "--server",
            "localhost",
            "--port",
            &port.to_string(),
            "--from",
            MAILBOX,
            "--to",
            "you@example.com",
        ]);
        command.args([tls, "--tls-verify", "--tls-ca-path", &authority.ca(), "--body", "over TLS"]);
        command.args(["--auth", "LOGIN", "--auth-user", "anyone", "--auth-password", "any random text"]);
        let output = blocking(move || run(&mut command)).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("TLS started with cipher TLSv1.3"), "{said}");
    }
    assert_all_arrived(&rig, 2).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_with_both_kinds_of_tls_and_refused_without() {
    let Some(curl) = client("curl") else { return };
    let authority = Authority::new();
    let (rig, ports) = start(&authority).await;
    let mail = authority.path("mail");
    std::fs::write(&mail, format!("From: {MAILBOX}\r\nSubject: from curl\r\n\r\nover TLS\r\n")).unwrap();
    let send = |url: String, options: &[&str]| {
        let mut command = Command::new(&curl);
        command.args(["-sS", &url, "--noproxy", "*", "--mail-from", MAILBOX, "--mail-rcpt", "you@example.com"]);
        command.args(["--cacert", &authority.ca()]).args(options).arg("-T").arg(&mail);
        command
    };
    let password = ["--user", "printer:any random text"];
    let [starttls, implicit] = ports;
    for (url, version) in [
        (format!("smtp://localhost:{starttls}"), "1.2"),
        (format!("smtp://localhost:{starttls}"), "1.3"),
        (format!("smtps://localhost:{implicit}"), "1.2"),
        (format!("smtps://localhost:{implicit}"), "1.3"),
    ] {
        let options = [&password[..], &["--ssl-reqd", "--tls-max", version]].concat();
        let mut command = send(url, &options);
        blocking(move || run(&mut command)).await;
    }
    let mut clear = send(format!("smtp://localhost:{starttls}"), &[]);
    let output = blocking(move || clear.output().unwrap()).await;
    assert_eq!(output.status.code(), Some(55), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("MAIL failed: 530"), "{output:?}");
    assert_all_arrived(&rig, 4).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pythons_smtplib_checks_the_certificate_and_goes_on_with_tls() {
    let Some(python) = client("python3") else { return };
    let authority = Authority::new();
    let (rig, [starttls, implicit]) = start(&authority).await;
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/relay/clients/smtplib_tls.py"));
    command.args([starttls.to_string(), implicit.to_string(), authority.ca()]);
    blocking(move || run(&mut command)).await;
    // Two mails in each session, one of them of some size.
    assert_all_arrived(&rig, 4).await;
    rig.stop().await;
}

/// The certificate that a program gets which connects now.
async fn certificate_at(door: SocketAddr, authority: &Authority) -> CertificateDer<'static> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.path("ca.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(door).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_certificate_needs_no_restart() {
    let authority = Authority::new();
    let (rig, _) = start(&authority).await;
    let door = rig.relay.listeners()[1];
    let before = authority.certificate();
    assert_eq!(certificate_at(door, &authority).await, before);
    authority.renew();
    assert_ne!(authority.certificate(), before);
    // What a reload does: no need to wait for the next look then.
    let config = rig.relay.ops().config.borrow().clone();
    rig.relay.configure(Arc::unwrap_or_clone(config)).await.unwrap();
    let since = Instant::now();
    while certificate_at(door, &authority).await != authority.certificate() {
        assert!(since.elapsed() < PATIENCE, "the old certificate is still there");
    }
    rig.stop().await;
}
