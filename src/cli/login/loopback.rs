//! The port at which a browser ends a sign-in (RFC 8252 section 7.3): loopback alone, for as long as one sign-in takes.
//!
//! Whatever runs on this machine can connect, and any page that its browsers show can ask. So it answers one path by one method to one name,
//! bounds how many may connect and for how long, and decides nothing: it hands over what it was asked for, and shows what comes of that.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY};
use axum::http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::page::Page;
use crate::signin::is_redirect;

/// Connections at once. Browsers open some that they never use.
const CONNECTIONS: usize = 16;
/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(10);
/// How long a connection may last in all; in it a code is redeemed.
const WHOLE: Duration = Duration::from_mins(2);
/// The most octets of a head. Codes of Entra ID are about 1,500 long.
const MAX_HEAD: usize = 32 * 1024;
/// How long the last page may take to leave.
const FAREWELL: Duration = Duration::from_secs(3);
/// How often a port is looked for that is free for both families.
const PORTS: usize = 20;

/// What a browser came back with. Whoever takes it says what the browser is shown.
pub(super) struct Arrival {
    /// What stood behind `?`.
    pub(super) query: String,
    pub(super) answer: oneshot::Sender<Page>,
}

/// The open port.
pub(super) struct Loopback {
    port: u16,
    arrivals: mpsc::Receiver<Arrival>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Loopback {
    /// Opens a random port on 127.0.0.1, and the same one on `[::1]` where there is such a thing: browsers may try that one first, and
    /// nobody else must sit there. `waiting` is shown to those who come with nothing.
    pub(super) async fn open(waiting: Page) -> io::Result<Self> {
        let listeners = bind().await?;
        let port = listeners[0].local_addr()?.port();
        let (sender, arrivals) = mpsc::channel(1);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let desk = Arc::new(Desk { port, sender, waiting, stop: stop.clone(), places: Semaphore::new(CONNECTIONS) });
        for listener in listeners {
            tasks.spawn(accept(listener, Arc::clone(&desk), tasks.clone()));
        }
        Ok(Self { port, arrivals, stop, tasks })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The next browser that came back with something.
    pub(super) async fn arrival(&mut self) -> Option<Arrival> {
        self.arrivals.recv().await
    }

    /// Closes the port; pages that are under way still arrive.
    pub(super) async fn close(self) {
        self.stop.cancel();
        self.tasks.close();
        drop(self.arrivals);
        // A browser that does not read its page is not waited for.
        let _ = timeout(FAREWELL, self.tasks.wait()).await;
    }
}

async fn bind() -> io::Result<Vec<TcpListener>> {
    let mut last = None;
    for _ in 0..PORTS {
        let four = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match TcpListener::bind((Ipv6Addr::LOCALHOST, four.local_addr()?.port())).await {
            Ok(six) => return Ok(vec![four, six]),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = Some(error),
            // No IPv6 here: nobody can sit there either.
            Err(_) => return Ok(vec![four]),
        }
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

/// What every connection needs.
struct Desk {
    port: u16,
    sender: mpsc::Sender<Arrival>,
    waiting: Page,
    stop: CancellationToken,
    places: Semaphore,
}

async fn accept(listener: TcpListener, desk: Arc<Desk>, tasks: TaskTracker) {
    loop {
        let accepted = tokio::select! {
            () = desk.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => drop(tasks.spawn(converse(stream, Arc::clone(&desk)))),
            Err(error) => {
                tracing::debug!(%error, "could not accept a browser's connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, desk: Arc<Desk>) {
    // Too many at once: hung up on.
    let Ok(_place) = desk.places.try_acquire() else { return };
    let service = service_fn(|request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.respond(request).await) }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(MAX_HEAD).keep_alive(false);
    let mut connection = std::pin::pin!(http.serve_connection(TokioIo::new(stream), service));
    let talked = timeout(WHOLE, async {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = desk.stop.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.as_mut().await
    });
    if let Ok(Err(error)) = talked.await {
        tracing::debug!(%error, "a connection to the sign-in's port ended early");
    }
}

impl Desk {
    async fn respond(&self, request: Request<Incoming>) -> Response<String> {
        if !self.is_meant(&request) {
            return plain(StatusCode::MISDIRECTED_REQUEST, "This port belongs to a sign-in on this machine.\n");
        }
        if request.uri().path() != "/" {
            return plain(StatusCode::NOT_FOUND, "Nothing is here.\n");
        }
        if request.method() != Method::GET {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Only GET is answered here.\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
            return response;
        }
        let query = request.uri().query().unwrap_or_default();
        if !is_redirect(query) {
            return shown(&self.waiting);
        }
        let (answer, page) = oneshot::channel();
        let arrival = Arrival { query: format!("?{query}"), answer };
        match self.sender.send(arrival).await {
            Ok(()) => shown(&page.await.unwrap_or_else(|_| Page::over())),
            Err(_) => shown(&Page::over()),
        }
    }

    /// A name that is not ours, though it leads here, belongs to a page that wants to be taken for us (DNS rebinding).
    fn is_meant(&self, request: &Request<Incoming>) -> bool {
        let mut hosts = request.headers().get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        let Some((name, port)) = host.to_str().ok().and_then(|host| host.rsplit_once(':')) else { return false };
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let is_loopback = bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        (name.eq_ignore_ascii_case("localhost") || is_loopback) && port.parse() == Ok(self.port)
    }
}

fn shown(page: &Page) -> Response<String> {
    let mut response = Response::new(page.html());
    *response.status_mut() = page.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    sealed(response)
}

fn plain(status: StatusCode, text: &'static str) -> Response<String> {
    let mut response = Response::new(text.to_owned());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    sealed(response)
}

/// The page's address has a code in it: it is kept nowhere and told nobody.
fn sealed(mut response: Response<String>) -> Response<String> {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response.headers_mut().insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn at(port: u16) -> std::net::SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    async fn open() -> Loopback {
        Loopback::open(Page::waiting("lms@contoso.com")).await.unwrap()
    }

    /// Sends this and reads to the end.
    async fn ask(port: u16, request: &str) -> String {
        let mut stream = TcpStream::connect(at(port)).await.unwrap();
        // Refused early, it may close before everything is sent.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    async fn get(port: u16, path: &str) -> String {
        ask(port, &format!("GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n")).await
    }

    #[tokio::test]
    async fn a_browser_is_shown_what_comes_of_its_address_and_not_before() {
        let mut loopback = open().await;
        let port = loopback.port();
        let asked = tokio::spawn(async move { get(port, "/?code=a&state=b").await });
        let arrival = loopback.arrival().await.unwrap();
        assert_eq!(arrival.query, "?code=a&state=b");
        assert!(!asked.is_finished());
        assert!(arrival.answer.send(Page::success("lms@contoso.com", None)).is_ok());
        loopback.close().await;
        let answer = asked.await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        for header in
            ["cache-control: no-store", "referrer-policy: no-referrer", "default-src 'none'", "connection: close"]
        {
            assert!(answer.contains(header), "{header} is not in {answer}");
        }
        assert!(
            answer.contains("lms@contoso.com") && !answer.contains("code=a") && !answer.contains("<script"),
            "{answer}"
        );
        assert!(TcpStream::connect(at(port)).await.is_err(), "the port is closed");
    }

    #[tokio::test]
    async fn whatever_else_comes_does_not_disturb() {
        let mut loopback = open().await;
        let port = loopback.port();
        let silent = TcpStream::connect(at(port)).await.unwrap();
        for (request, status) in [
            ("GET /favicon.ico HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", "404"),
            ("GET /?x=y HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", "404"),
            ("GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n", "404"),
            ("POST /?code=a&state=b HTTP/1.1\r\nHost: localhost:PORT\r\nContent-Length: 0\r\n\r\n", "405"),
            ("HEAD /?code=a&state=b HTTP/1.1\r\nHost: localhost:PORT\r\n\r\n", "405"),
            ("GET /?code=a&state=b HTTP/1.1\r\nHost: evil.example:PORT\r\n\r\n", "421"),
            ("GET /?code=a&state=b HTTP/1.1\r\nHost: localhost.evil.example:PORT\r\n\r\n", "421"),
            ("GET /?code=a&state=b HTTP/1.1\r\nHost: localhost:1\r\n\r\n", "421"),
            ("GET /?code=a&state=b HTTP/1.1\r\nHost: localhost\r\n\r\n", "421"),
            ("GET /?code=a&state=b HTTP/1.1\r\nHost: localhost:PORT\r\nHost: evil.example\r\n\r\n", "421"),
            ("GET /?code=a&state=b HTTP/1.0\r\n\r\n", "421"),
        ] {
            let answer = ask(port, &request.replace("PORT", &port.to_string())).await;
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")) || answer.starts_with(&format!("HTTP/1.0 {status}")),
                "{request}: {answer}"
            );
        }
        for garbage in ["\r\n\r\n", "\u{16}\u{3}\u{1}\0\r\n\r\n", "QUIT\r\n\r\n"] {
            let mut stream = TcpStream::connect(at(port)).await.unwrap();
            stream.write_all(garbage.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
        }
        let long = format!("GET /?code={} HTTP/1.1\r\n", "a".repeat(2 * MAX_HEAD));
        let answer = ask(port, &long).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        let asked = tokio::spawn(async move { get(port, "/?error=access_denied").await });
        let arrival = loopback.arrival().await.unwrap();
        assert_eq!(arrival.query, "?error=access_denied", "nothing came before it");
        assert!(arrival.answer.send(Page::failure("no")).is_ok());
        assert!(asked.await.unwrap().starts_with("HTTP/1.1 400"));
        loopback.close().await;
        drop(silent);
    }

    #[tokio::test]
    async fn too_many_connections_are_hung_up_on_and_places_become_free_again() {
        let loopback = open().await;
        let port = loopback.port();
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stream = TcpStream::connect(at(port)).await.unwrap();
            stream.write_all(b"GET /").await.unwrap();
            silent.push(stream);
        }
        // Which of them has its place already is not known: at last one more is hung up on.
        timeout(Duration::from_secs(30), async { while !get(port, "/").await.is_empty() {} }).await.unwrap();
        drop(silent);
        timeout(Duration::from_secs(30), async { while get(port, "/").await.is_empty() {} }).await.unwrap();
        loopback.close().await;
    }

    #[tokio::test]
    async fn a_browser_that_comes_too_late_is_told_so() {
        let loopback = open().await;
        let port = loopback.port();
        let asked = tokio::spawn(async move { get(port, "/?code=a&state=b").await });
        // Accepted and waiting, or refused: both are over when the port closes.
        while loopback.arrivals.is_empty() {
            tokio::task::yield_now().await;
        }
        loopback.close().await;
        assert!(asked.await.unwrap().contains("is over"));
    }
}
