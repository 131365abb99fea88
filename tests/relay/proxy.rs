//! The way to the token endpoint: HTTPS with a private authority, and a proxy in between. The program itself, since it is the environment
//! that names the proxy.
//!
//! The endpoint is called `login.contoso.example`, which no resolver knows: whoever reaches it came through the proxy.

use std::net::SocketAddr;
use std::process::Output;
use std::sync::{Arc, Mutex};

use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use xoauth2_relay::simulator::Simulator;

use crate::command_line::{free_port, program};
use crate::secrets::ear::Ear;
use crate::support::{Client, MAILBOX, PATIENCE, blocking, configuration, quick};

const NAME: &str = "login.contoso.example";
const MAIL: &str = "From: lms@contoso.com\r\nSubject: hello\r\n\r\nhello\r\n";

/// What a proxy does with a CONNECT.
#[derive(Clone, Copy, Debug)]
enum Mood {
    /// Connects to the endpoint, whose certificate the account's `ca_file` vouches for.
    Kind,
    /// Opens TLS itself, with a certificate of its own.
    Curious,
    /// Says this instead.
    Says(&'static str),
    /// Connects, and answers the request inside itself.
    Blocks(&'static str),
}

/// A CONNECT proxy on loopback.
struct Proxy {
    address: SocketAddr,
    /// The heads of the requests that came.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// A certificate for [`NAME`] by this issuer: its PEM, and who shows it.
fn certificate(issuer: &str) -> (String, TlsAcceptor) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new([NAME.to_owned()]).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, issuer);
    let made = parameters.self_signed(&key).unwrap();
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.der().clone()], key).unwrap();
    (made.pem(), TlsAcceptor::from(Arc::new(config)))
}

/// Stands before the simulator's plain HTTP: TLS with this certificate.
async fn proxy(mood: Mood, endpoint: SocketAddr, right: TlsAcceptor) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, asked) = (listener.local_addr().unwrap(), Arc::<Mutex<Vec<String>>>::default());
    let heard = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            // A client that hangs up is nobody's fault.
            let (right, heard) = (right.clone(), heard.clone());
            tokio::spawn(async move { drop(converse(stream, mood, endpoint, right, &heard).await) });
        }
    });
    Proxy { address, asked }
}

async fn converse(
    mut stream: TcpStream,
    mood: Mood,
    endpoint: SocketAddr,
    right: TlsAcceptor,
    asked: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    asked.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
    if let Mood::Says(answer) = mood {
        stream.write_all(answer.as_bytes()).await?;
        return stream.shutdown().await;
    }
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
    let acceptor = if matches!(mood, Mood::Curious) { certificate("a nosy firewall").1 } else { right };
    let mut inside = acceptor.accept(stream).await?;
    if let Mood::Blocks(answer) = mood {
        let mut request = [0; 4096];
        let _ = inside.read(&mut request).await?;
        inside.write_all(answer.as_bytes()).await?;
        return inside.shutdown().await;
    }
    let mut endpoint = TcpStream::connect(endpoint).await?;
    copy_bidirectional(&mut inside, &mut endpoint).await.map(drop)
}

/// A relay in a folder whose token endpoint is behind the proxy.
struct Site {
    simulator: Simulator,
    right: TlsAcceptor,
    folder: TempDir,
    door: SocketAddr,
}

impl Site {
    async fn new() -> Self {
        let simulator = Simulator::start(quick()).await.unwrap();
        let (folder, door) = (TempDir::new().unwrap(), free_port());
        let (pem, right) = certificate("contoso");
        let text = configuration(&simulator, folder.path(), &format!("[[listener]]\naddress = \"{door}\"\n"));
        let text = text.replace(&format!("http://{}", simulator.http_addr()), &format!("https://{NAME}"));
        assert!(text.contains(&format!("token_url = \"https://{NAME}")), "{text}");
        std::fs::write(folder.path().join("relay.toml"), text).unwrap();
        // One file vouches for both, the endpoint and the SMTP server.
        let ca = folder.path().join("ca.pem");
        std::fs::write(&ca, format!("{}{pem}", simulator.ca_pem())).unwrap();
        std::fs::write(folder.path().join("token"), simulator.issue_refresh_token(MAILBOX)).unwrap();
        Self { simulator, right, folder, door }
    }

    async fn proxy(&self, mood: Mood) -> Proxy {
        proxy(mood, self.simulator.http_addr(), self.right.clone()).await
    }

    fn command(&self, environment: &[(&str, String)]) -> std::process::Command {
        let mut command = program(&self.folder.path().join("relay.toml"));
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"] {
            command.env_remove(name);
        }
        command.envs(environment.iter().cloned());
        command
    }

    async fn login(&self, environment: &[(&str, String)]) -> Output {
        let mut command = self.command(environment);
        command.args(["login", MAILBOX, "--refresh-token-file"]).arg(self.folder.path().join("token"));
        blocking(move || command.output().unwrap()).await
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sign_in_goes_through_the_environments_proxy_and_a_private_authority() {
    let site = Site::new().await;
    let proxy = site.proxy(Mood::Kind).await;
    let environment = [("HTTPS_PROXY", format!("http://jane:hunter2@{}", proxy.address))];
    let login = site.login(&environment).await;
    assert!(said(&login).contains("is signed in as lms@contoso.com"), "{}", said(&login));
    let heads = proxy.asked();
    assert!(heads[0].starts_with(&format!("CONNECT {NAME}:443 HTTP/1.1\r\n")), "{heads:?}");
    // jane:hunter2
    assert!(heads[0].contains("Basic amFuZTpodW50ZXIy"), "{heads:?}");

    let mut daemon = site.command(&environment).arg("run").stderr(std::process::Stdio::null()).spawn().unwrap();
    let door = site.door;
    blocking(move || {
        let since = std::time::Instant::now();
        while std::net::TcpStream::connect(door).is_err() {
            assert!(since.elapsed() < PATIENCE, "never ready");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Client::greeted(door).submit(MAILBOX, &["you@example.com"], MAIL);
    })
    .await;
    let arrived = tokio::time::timeout(PATIENCE, site.simulator.wait_for_accepted(1)).await;
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    assert!(arrived.is_ok(), "no mail left");
    assert!(proxy.asked().iter().all(|head| head.starts_with("CONNECT login")), "mail itself does not go through it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_for_a_proxy_is_in_no_log_whether_it_is_taken_or_not() {
    let site = Site::new().await;
    let config = site.folder.path().join("relay.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("log = \"trace\"\n{text}")).unwrap();
    let login = site.login(&[("HTTPS_PROXY", format!("http://{}", site.proxy(Mood::Kind).await.address))]).await;
    assert!(login.status.success(), "{}", said(&login));
    let wants = "HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=\"x\"\r\n\r\n";
    let mut ear = Ear::default();
    for (mood, until) in [
        (Mood::Kind, "the stored sign-in works"),
        (Mood::Says(wants), "wants a user name and a password (407)"),
        (Mood::Curious, "ca_file"),
    ] {
        let proxy = site.proxy(mood).await;
        let log = site.folder.path().join("stderr");
        let environment = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"];
        let environment = environment.map(|name| (name, format!("http://jane:pAss%2Fw0rd-of@{}", proxy.address)));
        let mut command = site.command(&environment);
        command.arg("run").env("RUST_BACKTRACE", "full").stderr(std::fs::File::create(&log).unwrap());
        let mut daemon = command.spawn().unwrap();
        let told = blocking(move || {
            let since = std::time::Instant::now();
            loop {
                let told = std::fs::read_to_string(&log).unwrap();
                if told.contains(until) || since.elapsed() > PATIENCE {
                    return told;
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        })
        .await;
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        assert!(told.contains(until) && told.contains("TRACE"), "{mood:?}: {told}");
        assert!(
            !proxy.asked().is_empty() && proxy.asked()[0].contains("amFuZTpwQXNzL3cwcmQtb2Y="),
            "{:?}",
            proxy.asked()
        );
        ear.hear(format!("{mood:?}"), told.as_bytes());
    }
    for secret in ["pAss/w0rd-of", "pAss%2Fw0rd-of", "amFuZTpwQXNzL3cwcmQtb2Y"] {
        ear.keep("the password for the proxy", secret);
    }
    for token in site.simulator.issued_secrets() {
        ear.keep("a token", &token);
    }
    ear.assert_heard_no_secret();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_in_the_way_is_named_with_the_remedy_and_the_stored_sign_in_stays() {
    let site = Site::new().await;
    let kind = site.proxy(Mood::Kind).await;
    assert!(site.login(&[("HTTPS_PROXY", format!("http://{}", kind.address))]).await.status.success());
    let page = "HTTP/1.1 403 Forbidden\r\ncontent-type: text/html\r\ncontent-length: 38\r\n\r\n<html><title>Blocked</title></html>...";
    let inside =
        "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n<html><title>Zscaler</title></html>";
    for (mood, words) in [
        (
            Mood::Says("HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic realm=\"x\"\r\n\r\n"),
            vec!["wants a user name and a password (407)", "HTTPS_PROXY", "NO_PROXY"],
        ),
        (Mood::Says(page), vec!["does not connect to login.contoso.example", "allow this address there", "NO_PROXY"]),
        (Mood::Says("<html>what is this"), vec!["does not connect to login.contoso.example"]),
        (Mood::Curious, vec!["cannot reach login.contoso.example through", "ca_file"]),
        (Mood::Blocks(inside), vec!["Zscaler", "let login.contoso.example pass there unchanged"]),
    ] {
        let proxy = site.proxy(mood).await;
        let login = site.login(&[("https_proxy", format!("http://jane:hunter2@{}", proxy.address))]).await;
        let text = said(&login);
        assert_eq!(login.status.code(), Some(1), "{mood:?}: {text}");
        for word in words.iter().copied().chain([proxy.address.to_string().as_str()]) {
            assert!(text.contains(word), "{mood:?}: {word:?} is not in {text:?}");
        }
        assert!(!text.contains("hunter2"), "{text}");
        assert_eq!(proxy.asked().len(), 1);
    }
    // And the sign-in of the beginning is as good as ever.
    let login = site.login(&[("HTTPS_PROXY", format!("http://{}", kind.address))]).await;
    assert!(login.status.success(), "{}", said(&login));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_no_proxy_is_reached_without_it_and_loopback_always_is() {
    let site = Site::new().await;
    let proxy = site.proxy(Mood::Kind).await;
    let environment =
        [("HTTPS_PROXY", format!("http://{}", proxy.address)), ("NO_PROXY", ".contoso.example".to_owned())];
    let login = site.login(&environment).await;
    assert!(said(&login).contains("cannot reach login.contoso.example"), "{}", said(&login));
    assert!(!said(&login).contains("through the proxy"), "{}", said(&login));

    let config = site.folder.path().join("relay.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace(&format!("https://{NAME}"), &format!("http://{}", site.simulator.http_addr())),
    )
    .unwrap();
    let everywhere = ["HTTPS_PROXY", "HTTP_PROXY", "http_proxy", "ALL_PROXY"];
    let environment = everywhere.map(|name| (name, format!("http://{}", proxy.address)));
    let login = site.login(&environment).await;
    assert!(said(&login).contains("is signed in as"), "{}", said(&login));
    assert!(proxy.asked().is_empty(), "{:?}", proxy.asked());
}
