//! The byte proof: mail of every form goes from a program through the whole relay, and what Exchange gets is what was handed in.
//! What the design lets differ is written down in the simplest way in here, without any code of the relay.
//!
//! The mails differ at each run. A failure names its seed; `BYTES_SEED=…` repeats it, `BYTES_MAILS=…` makes more of them.

mod body;
mod mail;
mod program;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use xoauth2_relay::simulator::{Accepted, Options};

use self::mail::{Added, Mail, mail};
pub use self::program::{Manner, Program};
use crate::support::{LISTENER, MAILBOX, NOREPLY, PATIENCE, Rig, blocking, quick, without_received};

/// So many mails go through one relay.
const MAILS: usize = 500;
/// So many programs hand them in at once.
const PROGRAMS: usize = 4;
/// As the issue says. The relay takes no larger ones by default.
const LARGEST: usize = 35 << 20;

/// What was handed in.
struct Handed {
    mail: Mail,
    /// The body as the relay has to understand it.
    understood: Vec<u8>,
}

#[tokio::test(flavor = "multi_thread")]
async fn any_mail_leaves_as_it_came_apart_from_what_the_design_lets_differ() {
    let (seed, mut runner) = runner();
    let count = std::env::var("BYTES_MAILS").map_or(MAILS, |count| count.parse().unwrap());
    let strategy = (mail(), manner());
    let mut trees: Vec<_> = (0..count).map(|_| strategy.new_tree(&mut runner).unwrap()).collect();
    let mails: Vec<_> = trees.iter().map(ValueTree::current).collect();

    let rig = Rig::start().await;
    let handed = hand_in(rig.door(), &mails).await;
    let accepted = rig.until_accepted(count).await;
    let wrong = (0..count).find_map(|n| Some((n, compare(&handed[n], of(&accepted, n)).err()?)));
    if let Some((n, difference)) = wrong {
        let smallest = smallest(&rig, &mut trees[n], difference).await;
        panic!("mail {n} of BYTES_SEED={seed} did not leave as it came: {smallest}");
    }
    rig.until_queue_is_empty().await;
    assert_eq!(rig.simulator.accepted().len(), count, "none twice");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mails_as_large_as_may_be_leave_as_they_came() {
    // Exchange lets more pass than the relay takes, so there is room for `Received`.
    let rig = Rig::with_listener(Options { max_message_size: LARGEST + 4096, ..quick() }, LISTENER).await;
    let header = format!("From: {NOREPLY}\r\nDate: Sat, 21 Nov 2026 09:00:00 +0000\r\nMessage-ID: <1@x>\r\n\r\n");
    let of_size = |piece: &[u8]| {
        let mut mail = header.clone().into_bytes();
        mail.extend(piece.iter().cycle().take(LARGEST - header.len() - 2));
        mail.extend_from_slice(b"\r\n");
        mail
    };
    let bodies = [
        of_size(&[&[b'A'; 76][..], b"\r\n"].concat()),
        of_size(b"."),
        of_size(b"\r\n."),
        // Sizes around the relay's buffers, so that line ends and dots stand at the seams of its pieces.
        of_size(&[&b"x".repeat(65_533)[..], b"\r\n.\0\xff\r\n."].concat()),
    ];
    // Behind DATA, and in chunks.
    let manner = |n| Manner { chunked: n % 2 == 1, ..manner_of(65_536) };
    let mails: Vec<_> = bodies.into_iter().enumerate().map(|(n, bytes)| (untouched(bytes), manner(n))).collect();
    check_all(&rig, &mails).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bare_line_ends_in_a_large_mail_are_mended_wherever_its_pieces_are_cut() {
    let rig = Rig::start().await;
    let header = format!("From: {MAILBOX}\r\nDate: Sat, 21 Nov 2026 09:00:00 +0000\r\nMessage-ID: <1@x>\r\n\r\n");
    let mails: Vec<_> = (0..8)
        .map(|n| {
            // 11 octets: every place within it falls on a seam of 64 KiB pieces sooner or later.
            let body = b"a\r\r\n.\nb\n.\r".repeat(40_000 + n);
            (untouched([header.as_bytes(), &body].concat()), manner_of(10_000 + n))
        })
        .collect();
    check_all(&rig, &mails).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn long_lines_of_headers_and_text_are_not_wrapped() {
    let rig = Rig::start().await;
    let mut mails = Vec::new();
    for size in [998, 1_000, 2_049, 4_096, 65_536, 100_000] {
        let long = "x".repeat(size);
        let text = format!(
            "From: {MAILBOX}\r\nSubject: {long}\r\nX-Folded: {}\r\nDate: Sat, 21 Nov 2026 09:00:00 +0000\r\n\
             Message-ID: <{long}@x>\r\n\r\n.{long}\r\n{long}",
            long.as_bytes().chunks(70).map(|line| String::from_utf8_lossy(line)).collect::<Vec<_>>().join("\r\n\t")
        );
        mails.push((untouched(text.into_bytes()), manner_of(size)));
    }
    check_all(&rig, &mails).await;
    rig.stop().await;
}

/// A test that could not fail would be worth nothing.
#[test]
fn each_kind_of_damage_is_noticed() {
    let bytes = b"Subject: x\r\nFrom: lms@contoso.com\r\n\r\n.text\nend\r\n".to_vec();
    let mail = Mail { added: vec![Added::Date], ..untouched(bytes.clone()) };
    let handed = Handed { understood: bytes, mail };
    let received =
        "Received: from client.example ([127.0.0.1])\r\n\tby relay.contoso.com with ESMTP id 0000000000007;\r\n\tx\r\n";
    let date = "Date: Sat, 21 Nov 2026 09:00:00 +0000\r\n";
    let good = format!("{received}{date}Subject: x\r\nFrom: lms@contoso.com\r\n\r\n.text\r\nend\r\n");
    assert_eq!(compare_bytes(&handed, good.as_bytes()), Ok(()));
    for (from, to) in [
        ("by relay", "by other"),
        ("Date: Sat", "Date Sat"),
        ("Subject: x", "Subject:  x"),
        ("Subject: x\r\n", ""),
        ("\r\n\r\n", "\r\n"),
        (".text", "..text"),
        (".text", "text"),
        (".text\r\n", ".text\n"),
        ("end\r\n", "end"),
        ("end\r\n", "end\r\n\r\n"),
        ("end", "END"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good);
        assert!(compare_bytes(&handed, bad.as_bytes()).is_err(), "{from:?} became {to:?}");
    }
}

fn runner() -> (u64, TestRunner) {
    let seed: u64 = std::env::var("BYTES_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    let octets: Vec<u8> = (0..4).flat_map(|n: u64| (seed.wrapping_add(n)).to_le_bytes()).collect();
    (seed, TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &octets)))
}

fn manner() -> impl Strategy<Value = Manner> {
    let cuts = prop_oneof![
        3 => Just(vec![usize::MAX]),
        2 => prop::collection::vec(1_usize..3_000, 1..20),
        1 => prop::collection::vec(1_usize..60, 1..20),
    ];
    (any::<bool>(), cuts).prop_map(|(chunked, cuts)| Manner { chunked, cuts })
}

fn manner_of(cut: usize) -> Manner {
    Manner { chunked: false, cuts: vec![cut] }
}

/// A mail of which nothing may differ but the line ends.
fn untouched(bytes: Vec<u8>) -> Mail {
    Mail { sender: MAILBOX, rest: bytes.clone(), bytes, added: Vec::new() }
}

fn recipient(n: usize) -> String {
    format!("n{n}@example.com")
}

/// Hands in all the mails, several programs at once; each mail has its own recipient.
async fn hand_in(door: SocketAddr, mails: &[(Mail, Manner)]) -> Vec<Handed> {
    let mut programs = Vec::new();
    for first in 0..PROGRAMS.min(mails.len()) {
        let share: Vec<_> = mails.iter().cloned().enumerate().skip(first).step_by(PROGRAMS).collect();
        programs.push(tokio::spawn(blocking(move || {
            let mut program = Program::connect(door);
            let hand_in = |(n, (mail, manner)): (usize, (Mail, Manner))| {
                let understood = program.hand_in(mail.sender, &recipient(n), &mail.bytes, &manner);
                (n, Handed { mail, understood })
            };
            share.into_iter().map(hand_in).collect::<Vec<_>>()
        })));
    }
    let mut handed = Vec::new();
    for program in programs {
        handed.extend(program.await.unwrap());
    }
    handed.sort_by_key(|(n, _)| *n);
    handed.into_iter().map(|(_, handed)| handed).collect()
}

async fn check_all(rig: &Rig, mails: &[(Mail, Manner)]) {
    let handed = hand_in(rig.door(), mails).await;
    let accepted = rig.until_accepted(mails.len()).await;
    for (n, handed) in handed.iter().enumerate() {
        if let Err(difference) = compare(handed, of(&accepted, n)) {
            panic!("mail {n} did not leave as it came: {difference}");
        }
    }
}

fn of(accepted: &[Accepted], n: usize) -> &Accepted {
    accepted.iter().find(|accepted| accepted.recipients == [recipient(n)]).unwrap()
}

/// Makes the mail smaller as long as it still arrives changed; what it is then.
async fn smallest(rig: &Rig, tree: &mut impl ValueTree<Value = (Mail, Manner)>, first: String) -> String {
    let (mut last, since) = (first, Instant::now());
    while since.elapsed() < PATIENCE && tree.simplify() {
        loop {
            match difference(rig, tree.current()).await {
                Some(difference) => {
                    last = difference;
                    break;
                }
                None if tree.complicate() => {}
                None => return last,
            }
        }
    }
    last
}

/// How this mail differs when it has arrived. One that is refused is of no use here.
async fn difference(rig: &Rig, mail: (Mail, Manner)) -> Option<String> {
    let before = rig.simulator.accepted().len();
    let handed = hand_in(rig.door(), &[mail]).await.remove(0);
    let arrival = rig.simulator.wait_for_accepted(before + 1);
    tokio::time::timeout(Duration::from_secs(5), arrival).await.ok()?;
    compare(&handed, &rig.simulator.accepted()[before]).err()
}

fn compare(handed: &Handed, accepted: &Accepted) -> Result<(), String> {
    let sender = handed.mail.sender;
    let permitted = [MAILBOX, NOREPLY].iter().any(|permitted| permitted.eq_ignore_ascii_case(sender));
    let expected = if permitted { sender } else { MAILBOX };
    if accepted.mail_from != expected {
        return Err(format!("MAIL FROM <{sender}> became <{}>", accepted.mail_from));
    }
    compare_bytes(handed, &accepted.bytes)
}

/// `Received` on top, then the fields that were missing, then every octet as it came but for bare line ends.
fn compare_bytes(handed: &Handed, arrived: &[u8]) -> Result<(), String> {
    const RECEIVED: &[u8] = b"Received: from client.example ([127.0.0.1])\r\n\tby relay.contoso.com with ESMTP id ";
    if !arrived.starts_with(RECEIVED) {
        return Err(shown("Received", arrived));
    }
    let mut rest = without_received(arrived);
    for added in &handed.mail.added {
        rest = behind(added, rest).ok_or_else(|| shown(&format!("{added} on top"), rest))?;
    }
    // What had to be put behind the mail for DATA is behind it still.
    let ending = handed.understood.strip_prefix(&handed.mail.bytes[..]).unwrap_or_default();
    let expected = mended(&[&handed.mail.rest[..], ending].concat());
    if rest == expected {
        return Ok(());
    }
    let same = rest.iter().zip(&expected).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(40);
    let handed_in = shown("handed in", &handed.mail.bytes);
    Err(format!(
        "at octet {same}: {}\n{}\n{handed_in}",
        shown("expected", &expected[from..]),
        shown("arrived", &rest[from..])
    ))
}

/// What stands behind this field, if it is there.
fn behind<'a>(added: &Added, message: &'a [u8]) -> Option<&'a [u8]> {
    let (start, middle, end): (&[u8], usize, &[u8]) = match added {
        Added::Exactly(field) => return message.strip_prefix(&mended(&[&field[..], b"\r\n"].concat())[..]),
        Added::Date => (b"Date: ", "Sat, 21 Nov 2026 09:00:00".len(), b" +0000\r\n"),
        Added::MessageId => (b"Message-ID: <", "0000000000007".len(), b"@contoso.com>\r\n"),
    };
    let rest = message.strip_prefix(start)?;
    // A day of the month has one digit or two.
    let length = (middle - 1..=middle).find(|&length| rest.get(length..).is_some_and(|rest| rest.starts_with(end)))?;
    rest[..length]
        .iter()
        .all(|&b| b.is_ascii_alphanumeric() || b" ,:".contains(&b))
        .then(|| &rest[length + end.len()..])
}

/// A bare CR or LF is made CRLF, and the last line has an end. A dot with nothing but NULs in front of it in its line gets another one,
/// so that no server that drops NULs takes it for the end.
fn mended(message: &[u8]) -> Vec<u8> {
    let mut even = Vec::new();
    for (n, &byte) in message.iter().enumerate() {
        match byte {
            b'\n' if n > 0 && message[n - 1] == b'\r' => {}
            b'\r' | b'\n' => even.push(b'\n'),
            byte => even.push(byte),
        }
    }
    if !even.is_empty() && !even.ends_with(b"\n") {
        even.push(b'\n');
    }
    let mut mended = Vec::new();
    for line in even.split_inclusive(|&byte| byte == b'\n') {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        let nuls = text.iter().take_while(|&&byte| byte == 0).count();
        mended.extend_from_slice(&text[..nuls]);
        if nuls > 0 && text[nuls..].starts_with(b".") {
            mended.push(b'.');
        }
        mended.extend_from_slice(&text[nuls..]);
        mended.extend_from_slice(b"\r\n");
    }
    mended
}

fn shown(what: &str, bytes: &[u8]) -> String {
    format!("{what}: {}", bytes[..bytes.len().min(300)].escape_ascii())
}
