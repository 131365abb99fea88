//! A wire tap between client and relay, and the comparison of what the client said with what Exchange got.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use xoauth2_relay::message::Headers;

use crate::support::{Rig, without_received};

/// What one connection has said so far.
type Record = Arc<Mutex<Vec<u8>>>;

/// Stands between client and relay and writes down what the client says.
pub struct Tap {
    address: SocketAddr,
    relay: Arc<Mutex<Option<SocketAddr>>>,
    heard: Arc<Mutex<Vec<Record>>>,
}

impl Tap {
    pub fn before(relay: SocketAddr) -> Self {
        let tap = Self::before_nobody();
        tap.lead_to(relay);
        tap
    }

    /// Until it is told of a relay, clients find their connections closed.
    pub fn before_nobody() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let tap = Self { address, relay: Arc::default(), heard: Arc::default() };
        let (relay, heard) = (tap.relay.clone(), tap.heard.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Some(relay) = *relay.lock().unwrap() else { continue };
                let server = TcpStream::connect(relay).unwrap();
                let record = Record::default();
                heard.lock().unwrap().push(record.clone());
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || copy(from, to, Some(&record)));
                std::thread::spawn(move || copy(server, client, None));
            }
        });
        tap
    }

    pub fn port(&self) -> String {
        self.address.port().to_string()
    }

    /// From now on there is a relay.
    pub fn lead_to(&self, relay: SocketAddr) {
        *self.relay.lock().unwrap() = Some(relay);
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.heard.lock().unwrap().len()
    }

    /// The mails that were said, dots unstuffed.
    pub fn mails(&self) -> Vec<Vec<u8>> {
        let heard = self.heard.lock().unwrap();
        heard.iter().flat_map(|record| read(&record.lock().unwrap()).mails).collect()
    }

    /// How many chunks came by BDAT.
    pub fn chunks(&self) -> usize {
        let heard = self.heard.lock().unwrap();
        heard.iter().map(|record| read(&record.lock().unwrap()).chunks).sum()
    }

    /// Everything that was said, for the eye.
    pub fn said(&self) -> String {
        let heard = self.heard.lock().unwrap();
        heard.iter().map(|record| String::from_utf8_lossy(&record.lock().unwrap()).into_owned()).collect()
    }

    /// Every mail that left the client has arrived, unchanged but for fields added in front.
    pub async fn assert_all_arrived(&self, rig: &Rig, count: usize) {
        let accepted = rig.until_accepted(count).await;
        let mut sent = self.mails();
        assert_eq!(sent.len(), count, "{}", self.said());
        for accepted in accepted {
            let arrived = without_received(&accepted.bytes);
            let Some(found) = sent.iter().position(|mail| is_same(mail, arrived)) else {
                let arrived = String::from_utf8_lossy(arrived);
                panic!("this did not leave the client so:\n{arrived}\nbut one of\n{}", self.said())
            };
            sent.swap_remove(found);
        }
        rig.until_queue_is_empty().await;
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

/// Fields that were missing may stand in front: `Date` and `Message-ID`, nothing else.
fn is_same(sent: &[u8], arrived: &[u8]) -> bool {
    let Some(added) = arrived.strip_suffix(sent) else { return false };
    let missing = |name: &str| Headers::scan(sent).first(name).is_none();
    String::from_utf8_lossy(added).lines().all(|line| {
        (line.starts_with("Date: ") && missing("date")) || (line.starts_with("Message-ID: ") && missing("message-id"))
    })
}

/// What was in a client's side of a dialogue.
#[derive(Default)]
struct Heard {
    mails: Vec<Vec<u8>>,
    /// How many chunks they came in, those that came by BDAT.
    chunks: usize,
}

/// Reads a client's side of a dialogue: what stands between DATA and the lone dot, and the chunks behind BDAT (RFC 3030) up to the
/// last one. That the relay said yes to each is taken for granted.
fn read(dialogue: &[u8]) -> Heard {
    let mut heard = Heard::default();
    let mut chunks = Vec::new();
    let mut rest = dialogue;
    while let Some(line) = take_line(&mut rest) {
        let command = line.to_ascii_uppercase();
        if command == b"DATA\r\n" {
            heard.mails.extend(take_stuffed(&mut rest));
        } else if let Some(announced) = command.strip_prefix(b"BDAT ") {
            let (size, is_last) = announced_chunk(announced);
            // Cut off, it is no mail yet.
            let Some((chunk, behind)) = rest.split_at_checked(size) else { break };
            chunks.extend_from_slice(chunk);
            rest = behind;
            heard.chunks += 1;
            if is_last {
                heard.mails.push(std::mem::take(&mut chunks));
            }
        }
    }
    heard
}

fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = rest.iter().position(|&byte| byte == b'\n')? + 1;
    let (line, behind) = rest.split_at(end);
    *rest = behind;
    Some(line)
}

/// A mail up to its lone dot; `None` if it was cut off.
fn take_stuffed(rest: &mut &[u8]) -> Option<Vec<u8>> {
    let mut mail = Vec::new();
    loop {
        let line = take_line(rest)?;
        if line == b".\r\n" {
            return Some(mail);
        }
        mail.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
    }
}

fn announced_chunk(announced: &[u8]) -> (usize, bool) {
    let announced = std::str::from_utf8(announced).unwrap();
    let mut words = announced.split_ascii_whitespace();
    let size = words.next().unwrap().parse().unwrap();
    (size, words.next() == Some("LAST"))
}

#[test]
fn the_tap_reads_mails_between_data_and_the_lone_dot() {
    let dialogue = b"EHLO me\r\nMAIL FROM:<a@b>\r\ndata\r\nSubject: x\r\n\r\n..\r\n.BDAT 5\r\n.\r\nRSET\r\nDATA\r\n.\r\nDATA\r\ncut off\r\n";
    assert_eq!(read(dialogue).mails, [b"Subject: x\r\n\r\n.\r\nBDAT 5\r\n".to_vec(), Vec::new()]);
}

#[test]
fn the_tap_reads_mails_in_chunks_with_anything_in_them() {
    let dialogue = b"EHLO me\r\nBDAT 11\r\nDATA\r\n.\r\n\r\nbdat 3 last\r\n\n.\0MAIL FROM:<a@b>\r\nBDAT 0 LAST\r\nBDAT 2\r\nabBDAT 1\r\nc\
        BDAT 0 LAST\r\nDATA\r\nx\r\n.\r\nBDAT 9 LAST\r\ncut off";
    let heard = read(dialogue);
    assert_eq!(heard.chunks, 6);
    assert_eq!(heard.mails, [b"DATA\r\n.\r\n\r\n\n.\0".to_vec(), Vec::new(), b"abc".to_vec(), b"x\r\n".to_vec()]);
}
