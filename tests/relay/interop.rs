//! Clients that nobody here wrote. What Exchange gets equals what left the client, byte for byte, apart from what is to differ.
//!
//! Under `tests/all` a client that is missing is a failure. Otherwise its test is left out, and says so.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use crate::support::{MAILBOX, NOREPLY, Rig, blocking, without_received};

/// Set by `tests/all`.
const TEST_ALL: &str = "XOAUTH2_RELAY_TEST_ALL";
/// Where `tests/all` unpacks what it does not install.
const CLIENTS: &str = "XOAUTH2_RELAY_CLIENTS";

/// The client's program, unless it is to be left out.
pub fn client(program: &str) -> Option<PathBuf> {
    let unpacked = std::env::var_os(CLIENTS).map(|clients| Path::new(&clients).join("postfix/usr/sbin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(unpacked);
    let found = folders.map(|folder| folder.join(program)).find(|file| file.is_file());
    if found.is_none() {
        left_out(program);
    }
    found
}

fn left_out(program: &str) {
    assert!(std::env::var_os(TEST_ALL).is_none(), "{program} is missing: tests/all installs it");
    // Not `eprintln!`: the test's output is only shown when it fails, and this has to be seen.
    let _ = writeln!(
        std::io::stderr(),
        "\n*** LEFT OUT: {program} is not installed, so its test did not run; tests/all has it\n"
    );
}

pub fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?} failed with {}:\n{said}", output.status);
    output
}

/// What one connection has said so far.
type Record = Arc<Mutex<Vec<u8>>>;

/// Stands between client and relay and writes down what the client says.
struct Tap {
    address: SocketAddr,
    heard: Arc<Mutex<Vec<Record>>>,
}

impl Tap {
    fn before(relay: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tap = Self { address: listener.local_addr().unwrap(), heard: Arc::default() };
        let heard = tap.heard.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let record = Record::default();
                heard.lock().unwrap().push(record.clone());
                let server = TcpStream::connect(relay).unwrap();
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || copy(from, to, Some(&record)));
                std::thread::spawn(move || copy(server, client, None));
            }
        });
        tap
    }

    fn port(&self) -> String {
        self.address.port().to_string()
    }

    /// The mails that were said, dots unstuffed.
    fn mails(&self) -> Vec<Vec<u8>> {
        let heard = self.heard.lock().unwrap();
        heard.iter().flat_map(|record| mails_of(&record.lock().unwrap())).collect()
    }

    /// Everything that was said, for the eye.
    fn said(&self) -> String {
        let heard = self.heard.lock().unwrap();
        heard.iter().map(|record| String::from_utf8_lossy(&record.lock().unwrap()).into_owned()).collect()
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, record: Option<&Mutex<Vec<u8>>>) {
    let mut buffer = vec![0; 65_536];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if let Some(record) = record {
            record.lock().unwrap().extend_from_slice(&buffer[..read]);
        }
        if to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Reads a client's side of a dialogue: what stands between DATA and the lone dot.
fn mails_of(dialogue: &[u8]) -> Vec<Vec<u8>> {
    let mut mails = Vec::new();
    let mut lines = dialogue.split_inclusive(|&byte| byte == b'\n');
    while let Some(line) = lines.next() {
        if !line.eq_ignore_ascii_case(b"DATA\r\n") {
            continue;
        }
        let body = lines.by_ref().take_while(|line| *line != b".\r\n");
        mails.push(body.flat_map(|line| line.strip_prefix(b".").unwrap_or(line)).copied().collect());
    }
    mails
}

/// Every mail that left the client has arrived, unchanged but for fields added in front.
async fn assert_all_arrived(rig: &Rig, tap: &Tap, count: usize) {
    let mut sent = tap.mails();
    assert_eq!(sent.len(), count, "{}", tap.said());
    for accepted in rig.until_accepted(count).await {
        let arrived = without_received(&accepted.bytes);
        let found = sent.iter().position(|mail| is_same(mail, arrived));
        let Some(found) = found else {
            panic!(
                "this did not leave the client so:\n{}\nbut one of\n{}",
                String::from_utf8_lossy(arrived),
                tap.said()
            )
        };
        sent.swap_remove(found);
    }
    rig.until_queue_is_empty().await;
}

/// Fields that were missing may stand in front: `Date` and `Message-ID`, nothing else.
fn is_same(sent: &[u8], arrived: &[u8]) -> bool {
    let Some(added) = arrived.strip_suffix(sent) else { return false };
    let missing = |name: &str| xoauth2_relay::message::Headers::scan(sent).first(name).is_none();
    String::from_utf8_lossy(added).lines().all(|line| {
        (line.starts_with("Date: ") && missing("date")) || (line.starts_with("Message-ID: ") && missing("message-id"))
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn swaks_with_auth_plain_with_login_and_without() {
    let Some(swaks) = client("swaks") else { return };
    let rig = Rig::start().await;
    let tap = Tap::before(rig.door());
    for auth in ["PLAIN", "LOGIN", ""] {
        let mut command = Command::new(&swaks);
        command.args(["--server", "127.0.0.1", "--port", &tap.port(), "--from", MAILBOX, "--to", "you@example.com"]);
        command.args(["--body", "one\\n.\\n..two\\n.three\\n"]);
        if !auth.is_empty() {
            command.args(["--auth", auth, "--auth-user", "anyone", "--auth-password", "any random text"]);
        }
        let output = blocking(move || run(&mut command)).await;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(said.contains("235 2.7.0"), !auth.is_empty(), "{said}");
    }
    assert_all_arrived(&rig, &tap, 3).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn curl_with_a_password_and_without() {
    let Some(curl) = client("curl") else { return };
    let rig = Rig::start().await;
    let tap = Tap::before(rig.door());
    let mail = rig.folder.path().join("mail");
    std::fs::write(&mail, "From: LMS <lms@contoso.com>\r\nSubject: from curl\r\n\r\n.\r\nhello\r\n").unwrap();
    for user in [None, Some("printer:any random text")] {
        let mut command = Command::new(&curl);
        command.args(["-sS", &format!("smtp://127.0.0.1:{}", tap.port()), "--noproxy", "*"]);
        command.args(["--mail-from", MAILBOX, "--mail-rcpt", "you@example.com", "--mail-rcpt", "me@example.com"]);
        command.arg("-T").arg(&mail);
        if let Some(user) = user {
            command.args(["--user", user]);
        }
        blocking(move || run(&mut command)).await;
    }
    assert_all_arrived(&rig, &tap, 2).await;
    assert_eq!(rig.simulator.accepted()[0].recipients.len(), 2);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pythons_smtplib_with_text_in_8_bits() {
    let Some(python) = client("python3") else { return };
    let rig = Rig::start().await;
    let tap = Tap::before(rig.door());
    let mut command = Command::new(python);
    command.args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/relay/clients/smtplib_client.py"), &tap.port()]);
    blocking(move || run(&mut command)).await;
    assert_all_arrived(&rig, &tap, 5).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn phpmailer_as_moodle_sets_it() {
    let Some(php) = client("php") else { return };
    if !Path::new("/usr/share/php/libphp-phpmailer/autoload.php").exists() {
        left_out("PHPMailer (libphp-phpmailer)");
        return;
    }
    let rig = Rig::start().await;
    let tap = Tap::before(rig.door());
    let mut command = Command::new(php);
    command.args([concat!(env!("CARGO_MANIFEST_DIR"), "/tests/relay/clients/moodle.php"), &tap.port(), "20"]);
    blocking(move || run(&mut command)).await;
    assert_all_arrived(&rig, &tap, 20).await;
    for accepted in rig.simulator.accepted() {
        assert_eq!(accepted.mail_from, MAILBOX, "the VERP sender is not one that Exchange has granted");
        assert!(String::from_utf8_lossy(&accepted.bytes).contains(&format!("<{NOREPLY}>")), "this one is");
    }
    assert_eq!(tap.said().matches("RSET").count(), 20);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn smtp_source_with_many_sessions_at_once() {
    let Some(source) = client("smtp-source") else { return };
    let rig = Rig::start().await;
    let tap = Tap::before(rig.door());
    let libraries = source.parent().unwrap().join("../lib/postfix");
    for one_connection in [true, false] {
        let mut command = Command::new(&source);
        command.env("LD_LIBRARY_PATH", &libraries);
        if one_connection {
            command.arg("-d");
        }
        command.args(["-s", "10", "-m", "100", "-l", "4096", "-f", MAILBOX, "-t", "you@example.com"]);
        command.arg(format!("127.0.0.1:{}", tap.port()));
        blocking(move || run(&mut command)).await;
    }
    assert_all_arrived(&rig, &tap, 200).await;
    rig.stop().await;
}
