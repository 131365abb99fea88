//! A server that follows a script, one for each connection, and remembers every byte it heard.
//!
//! `S: …` says a line, `C: …` hears one that begins like this, `BODY` hears up to the lone dot, `HEAR n` hears n bytes, `QUIET`
//! finds nothing more said, `TLS` shakes hands, `SAY …` says raw text with `\r\n` written out, `END` closes at once. A connection
//! ends with its script.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Longer than any test takes; reached only by one that has failed.
const GENEROUS: Duration = Duration::from_secs(30);

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
type Side = BufReader<Pin<Box<dyn Io>>>;

pub struct Upstream {
    pub port: u16,
    /// Trusting this trusts the server's certificate for `localhost`.
    pub root: CertificateDer<'static>,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    playing: JoinHandle<Result<(), String>>,
}

impl Upstream {
    /// Plays one script for each connection in turn, then accepts none.
    pub async fn playing<T: AsRef<str>>(scripts: &[T]) -> Self {
        let (tls, root) = certificate();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let scripts: Vec<String> = scripts.iter().map(|script| script.as_ref().to_owned()).collect();
        let playing = tokio::spawn({
            let heard = heard.clone();
            async move {
                let mut players = Vec::new();
                for (n, script) in scripts.into_iter().enumerate() {
                    let (stream, _) = listener.accept().await.map_err(|error| error.to_string())?;
                    heard.lock().unwrap().push(Vec::new());
                    let player = Player { tls: tls.clone(), heard: heard.clone(), n };
                    players.push(tokio::spawn(player.play(stream, script)));
                }
                drop(listener);
                for player in players {
                    player.await.unwrap()?;
                }
                Ok(())
            }
        });
        Self { port, root, heard, playing }
    }

    /// Waits until all scripts were played to their end, and gives what each connection heard.
    pub async fn heard(self) -> Vec<String> {
        tokio::time::timeout(GENEROUS, self.playing).await.expect("a script is not at its end").unwrap().unwrap();
        self.heard.lock().unwrap().iter().map(|heard| String::from_utf8_lossy(heard).into_owned()).collect()
    }
}

struct Player {
    tls: TlsAcceptor,
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    n: usize,
}

impl Player {
    async fn play(self, stream: TcpStream, script: String) -> Result<(), String> {
        let mut side: Side = BufReader::new(Box::pin(stream));
        for step in script.lines().map(str::trim).filter(|step| !step.is_empty()) {
            side = tokio::time::timeout(GENEROUS, self.step(side, step))
                .await
                .map_err(|_| format!("connection {}: nothing came at {step:?}", self.n))?
                .map_err(|error| format!("connection {}: {error} at {step:?}", self.n))?;
        }
        Ok(())
    }

    async fn step(&self, mut side: Side, step: &str) -> Result<Side, String> {
        let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
        let io = |error: std::io::Error| error.to_string();
        match verb {
            "S:" => side.write_all(format!("{rest}\r\n").as_bytes()).await.map_err(io)?,
            "SAY" => side.write_all(rest.replace("\\r\\n", "\r\n").as_bytes()).await.map_err(io)?,
            "C:" => {
                let line = self.line(&mut side).await?;
                if !line.starts_with(rest) {
                    return Err(format!("heard {line:?}"));
                }
            }
            "BODY" => while self.line(&mut side).await? != ".\r\n" {},
            "HEAR" => {
                let mut bytes = vec![0; rest.parse().map_err(|_| "not a number")?];
                side.read_exact(&mut bytes).await.map_err(io)?;
            }
            "QUIET" if !side.buffer().is_empty() => return Err("heard more than was its turn".to_owned()),
            "QUIET" => {}
            "TLS" => {
                let stream = self.tls.accept(side.into_inner()).await.map_err(io)?;
                side = BufReader::new(Box::pin(stream));
            }
            "END" => drop(side.shutdown().await),
            _ => panic!("no such step: {step}"),
        }
        side.flush().await.map_err(io)?;
        Ok(side)
    }

    async fn line(&self, side: &mut Side) -> Result<String, String> {
        let mut line = Vec::new();
        side.read_until(b'\n', &mut line).await.map_err(|error| error.to_string())?;
        self.heard.lock().unwrap()[self.n].extend_from_slice(&line);
        if line.is_empty() { Err("the client has gone".to_owned()) } else { Ok(String::from_utf8_lossy(&line).into()) }
    }
}

fn certificate() -> (TlsAcceptor, CertificateDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), certificate.der().clone())
}
