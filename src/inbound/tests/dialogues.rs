//! Runs the dialogues of `tests/dialogues/` against a real listener: line by line, all at once, and byte by byte. What is answered
//! must not depend on it. What stands between two `TLS` is a connection of its own in this respect. `tests/dialogues/README.md` tells the form.

use std::path::{Path, PathBuf};

use super::harness::{Client, TestDoor};
use super::identity::Identity;
use crate::config::{Listener, Passwords, TlsBegins};
use crate::inbound::memory::Memory;
use crate::registry::testing;

/// How the client's bytes are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Each when it is its turn.
    LineByLine,
    /// All of them in one piece at the start.
    AtOnce,
    /// All of them at the start, each byte by itself.
    ByteByByte,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Send(Vec<u8>),
    Expect(String),
    /// All lines of a reply with this code.
    Reply(String),
    Closed,
    /// The client begins TLS.
    Tls,
    Stored(usize),
    Body(Vec<u8>),
}

struct Dialogue {
    listener: Listener,
    identity: Identity,
    /// What is sent at once comes at once, and what it means depends on that.
    whole: bool,
    config: String,
    steps: Vec<Step>,
}

#[tokio::test]
async fn dialogues_line_by_line() {
    run_all(Manner::LineByLine).await;
}

#[tokio::test]
async fn dialogues_all_at_once() {
    run_all(Manner::AtOnce).await;
}

#[tokio::test]
async fn dialogues_byte_by_byte() {
    run_all(Manner::ByteByByte).await;
}

async fn run_all(manner: Manner) {
    let files = files();
    assert!(files.len() >= 10, "where are the dialogues?");
    for file in files {
        // So that a failure says which dialogue it was.
        eprintln!("{manner:?}: {}", file.file_name().unwrap_or_default().display());
        let dialogue = Dialogue::read(&file);
        if manner != Manner::ByteByByte || !dialogue.whole {
            run(dialogue, manner).await;
        }
    }
}

fn files() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dialogues");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|file| file.extension().is_some_and(|e| e == "txt")).collect();
    files.sort();
    files
}

async fn run(dialogue: Dialogue, manner: Manner) {
    let config = testing::config_with(&dialogue.config);
    let door = TestDoor::configured(dialogue.listener, Memory::default(), config);
    let mut client = door.connect().await;
    send_ahead(&mut client, &dialogue.steps, manner);
    for (n, step) in dialogue.steps.iter().enumerate() {
        match step {
            Step::Send(bytes) if manner == Manner::LineByLine => client.send(bytes).await,
            Step::Send(_) => {}
            Step::Expect(pattern) => client.expect(pattern).await,
            Step::Reply(code) => client.expect_reply(code).await,
            Step::Closed => client.expect_end().await,
            Step::Tls => {
                client = client.with_tls(&dialogue.identity.trusted()).await.expect("a handshake");
                send_ahead(&mut client, &dialogue.steps[n + 1..], manner);
            }
            // A message is in the queue before its reply is sent, and the dialogue has read that reply.
            Step::Stored(n) if manner == Manner::LineByLine => assert_eq!(door.accepted(), *n),
            Step::Stored(n) => assert!(door.accepted() >= *n),
            Step::Body(bytes) => {
                let bodies: Vec<_> = door.memory.accepted().into_iter().map(|(_, bytes)| bytes).collect();
                assert!(bodies.contains(bytes), "no {:?} among {:?}", bytes.escape_ascii().to_string(), bodies.len());
            }
        }
    }
}

/// Unless they are sent line by line: all the bytes up to the next `TLS`.
fn send_ahead(client: &mut Client, steps: &[Step], manner: Manner) {
    if manner == Manner::LineByLine {
        return;
    }
    let steps = steps.iter().take_while(|step| **step != Step::Tls);
    let sent: Vec<u8> = steps.flat_map(|step| if let Step::Send(b) = step { &b[..] } else { &[] }).copied().collect();
    // A mebibyte byte by byte takes long and shows no more than in small pieces.
    let size = if manner == Manner::AtOnce { sent.len() } else { sent.len() / 20_000 + 1 };
    client.send_aside(sent.chunks(size.max(1)).map(<[u8]>::to_vec).collect());
}

impl Dialogue {
    fn read(file: &Path) -> Self {
        let text = std::fs::read_to_string(file).unwrap();
        let identity = Identity::new();
        let (mut listener, mut whole) = (testing::listener(), false);
        let (mut steps, mut repeated) = (Vec::new(), None);
        let mut config = String::new();
        for line in text.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let step = match word {
                "" => continue,
                _ if word.starts_with('#') => continue,
                "C:" => Step::Send([unescape(rest), b"\r\n".to_vec()].concat()),
                "C|" => Step::Send(unescape(rest)),
                "S:" => Step::Expect(rest.to_owned()),
                "S+" => Step::Reply(rest.to_owned()),
                "CLOSED" => Step::Closed,
                "STORED" => Step::Stored(rest.parse().unwrap()),
                "BODY" => Step::Body(unescape(rest)),
                "TLS" => Step::Tls,
                "WHOLE" => {
                    whole = true;
                    continue;
                }
                "SET" => {
                    set(&mut listener, &identity, rest);
                    continue;
                }
                "CONFIG" => {
                    config.extend([rest, "\n"]);
                    continue;
                }
                "REPEAT" => {
                    repeated = Some((rest.parse::<usize>().unwrap(), steps.len()));
                    continue;
                }
                "END" => {
                    let (times, start): (usize, usize) = repeated.take().expect("END without REPEAT");
                    let once = steps[start..].to_vec();
                    steps.extend((1..times).flat_map(|_| once.clone()));
                    continue;
                }
                _ => panic!("{}: what is {line:?}?", file.display()),
            };
            steps.push(step);
        }
        Self { listener, identity, whole, config, steps }
    }
}

fn set(listener: &mut Listener, identity: &Identity, setting: &str) {
    let (key, value) = setting.split_once('=').expect("SET key = value");
    match (key.trim(), value.trim()) {
        ("max_message_size", value) => listener.max_message_size = value.parse().unwrap(),
        ("max_recipients", value) => listener.max_recipients = value.parse().unwrap(),
        ("tls", "starttls") => listener.tls = Some(identity.tls(TlsBegins::WithStartTls)),
        ("require_tls", "true") => listener.tls.as_mut().expect("tls comes first").required = true,
        ("password", "checked") => listener.password = Passwords::Checked,
        ("allow", value) => listener.allow = vec![value.parse().unwrap()],
        (key, _) => panic!("what is {key}?"),
    }
}

/// `\r`, `\n`, `\0`, `\t`, `\\`, `\xNN`, and `{text*1000}` for text a thousand times.
fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        match c {
            '\\' => {
                let (code, behind) = rest.split_at(1);
                rest = behind;
                match code {
                    "r" => out.push(b'\r'),
                    "n" => out.push(b'\n'),
                    "t" => out.push(b'\t'),
                    "0" => out.push(0),
                    "x" => {
                        let (digits, behind) = rest.split_at(2);
                        out.push(u8::from_str_radix(digits, 16).unwrap());
                        rest = behind;
                    }
                    other => out.extend_from_slice(other.as_bytes()),
                }
            }
            '{' => {
                let (inside, behind) = rest.split_once('}').expect("{ without }");
                let (text, times) = inside.rsplit_once('*').expect("{text*times}");
                out.extend(unescape(text).repeat(times.parse().unwrap()));
                rest = behind;
            }
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out
}
