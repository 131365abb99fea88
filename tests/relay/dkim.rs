//! Signatures of DKIM (RFC 6376) survive the relay wherever the sender is kept. Made and checked by dkimpy, which nobody here wrote.
//!
//! A signature covers what it names byte for byte (`simple`), so these tests tell even what a comparison of ours might overlook.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData as _};

use crate::bytes::{Manner, Program};
use crate::clients::{left_out, run};
use crate::support::{MAILBOX, NOREPLY, Rig, blocking};

/// Debian's own Python, which is where its package python3-dkim goes.
const PYTHON: &str = "/usr/bin/python3";
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/relay/clients/dkim_mail.py");

const HEADER: &str = "From: LMS <lms@contoso.com>\r\nTo: You <you@example.com>\r\nSubject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?=\r\n and more\r\n\
                      Date: Sat, 21 Nov 2026 09:00:00 +0000\r\nMessage-ID: <one@lms.contoso.com>\r\nMIME-Version: 1.0\r\n\
                      Content-Type: text/plain; charset=utf-8\r\n";

/// Header and body of each mail, by name.
fn mails() -> BTreeMap<&'static str, Vec<u8>> {
    let long_line = "long ".repeat(20_000) + "line";
    let mail = |header: &str, body: &[u8]| [header.as_bytes(), b"\r\n", body].concat();
    BTreeMap::from([
        ("plain", mail(HEADER, b"Hello\r\n")),
        ("empty", mail(HEADER, b"")),
        ("no-line-end", mail(HEADER, b"the last line\r\nhas no end")),
        ("blank-lines-at-the-end", mail(HEADER, b"text \r\n\r\n \r\n\r\n\r\n")),
        ("dots", mail(HEADER, b".\r\n..\r\n...\r\n.x\r\n\r\n.\r\n")),
        ("eight-bit", mail(HEADER, "grüße \t und\u{a0}mehr\r\n\u{feff}€\r\n".as_bytes())),
        ("latin-1", mail(HEADER, b"gr\xfc\xdfe \xff\xfe\r\n")),
        // A signer hashes these as CRLF, which is what the relay makes them.
        ("bare-line-feeds", mail(HEADER, b"Hello\nyou\r\n\n.\n")),
        ("white-space", mail(HEADER, b" \t a \t b \t \r\n\t\r\n  c\r\n")),
        ("long-line", mail(HEADER, long_line.as_bytes())),
        ("large", mail(HEADER, "a line of text\r\n".repeat(20_000).as_bytes())),
        (
            "odd-header",
            mail(&HEADER.replace("Subject: ", "SUBJECT:   \t").replace("To: You", "to:\tYou"), b"Hello\r\n"),
        ),
        ("send-as", mail(&HEADER.replace(MAILBOX, NOREPLY), b"Hello\r\n")),
        ("reply-to-and-more", mail(&format!("Reply-To: x@school.org\r\n{HEADER}X-Other: x\r\n"), b"Hello\r\n")),
    ])
}

/// The folder of mails, keys and results, and how they are signed and checked.
struct Signer {
    folder: PathBuf,
}

impl Signer {
    /// With a key of its own; `None` if dkimpy is missing and may be.
    fn new(folder: &Path) -> Option<Self> {
        let works = Command::new(PYTHON).args(["-c", "import dkim"]).output();
        if !works.is_ok_and(|output| output.status.success()) {
            left_out("dkimpy (python3-dkim)");
            return None;
        }
        let key = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        std::fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(folder.join("public.der"), key.subject_public_key_info()).unwrap();
        Some(Self { folder: folder.to_owned() })
    }

    fn call(&self, verb: &str) -> String {
        let output = run(Command::new(PYTHON).arg(SCRIPT).arg(verb).arg(&self.folder));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Every mail signed in every way.
    fn signed(&self, mails: &BTreeMap<&str, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
        for (name, mail) in mails {
            std::fs::write(self.folder.join(format!("{name}.mail")), mail).unwrap();
        }
        self.call("sign");
        let names = mails.keys().flat_map(|name| ["relaxed", "simple", "mixed"].map(|way| format!("{name}.{way}")));
        names.map(|name| (name.clone(), std::fs::read(self.folder.join(format!("{name}.signed"))).unwrap())).collect()
    }

    /// The names of those whose signature is good, and of those whose is not.
    fn verified(&self, arrived: &BTreeMap<String, Vec<u8>>) -> (BTreeSet<String>, BTreeSet<String>) {
        for (name, mail) in arrived {
            std::fs::write(self.folder.join(format!("{name}.arrived")), mail).unwrap();
        }
        let (mut good, mut bad) = (BTreeSet::new(), BTreeSet::new());
        for line in self.call("verify").lines() {
            match line.rsplit_once(' ') {
                Some((name, "good")) => good.insert(name.to_owned()),
                Some((name, "bad")) => bad.insert(name.to_owned()),
                _ => panic!("what is {line:?}?"),
            };
        }
        (good, bad)
    }
}

/// Through the whole relay; the names stay with their mails.
async fn through_the_relay(rig: &Rig, mails: &BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let (door, share) = (rig.door(), mails.clone());
    blocking(move || {
        let mut program = Program::connect(door);
        for (n, mail) in share.values().enumerate() {
            let manner = Manner { chunked: n % 2 == 1, cuts: vec![1_000 + n] };
            program.hand_in(MAILBOX, &format!("n{n}@example.com"), mail, &manner);
        }
    })
    .await;
    let accepted = rig.until_accepted(mails.len()).await;
    let arrived = |n: usize| {
        let recipient = format!("n{n}@example.com");
        accepted.iter().find(|accepted| accepted.recipients[0] == recipient).unwrap().bytes.to_vec()
    };
    mails.keys().enumerate().map(|(n, name)| (name.clone(), arrived(n))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_is_still_good_where_the_sender_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let Some(dkimpy) = Signer::new(folder.path()) else { return };
    let signed = dkimpy.signed(&mails());
    let rig = Rig::start().await;
    let arrived = through_the_relay(&rig, &signed).await;
    let (good, bad) = dkimpy.verified(&arrived);
    assert_eq!(bad, BTreeSet::new());
    assert_eq!(good, signed.keys().cloned().collect());
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_breaks_where_the_relay_has_to_change_what_it_covers() {
    let folder = tempfile::tempdir().unwrap();
    let Some(dkimpy) = Signer::new(folder.path()) else { return };
    let header = HEADER.replace("lms@contoso.com", "teacher@school.org");
    let mails = BTreeMap::from([
        ("another-sender", format!("{header}\r\nHello\r\n").into_bytes()),
        // These are named in the signature, to say that they are not there.
        (
            "no-message-id",
            format!("{}\r\nHello\r\n", HEADER.replace("Message-ID: <one@lms.contoso.com>\r\n", "")).into(),
        ),
    ]);
    let signed = dkimpy.signed(&mails);
    let rig = Rig::start().await;
    let arrived = through_the_relay(&rig, &signed).await;
    let (good, bad) = dkimpy.verified(&arrived);
    assert_eq!(good, BTreeSet::new());
    assert_eq!(bad, signed.keys().cloned().collect());

    // The signatures themselves are good: without the relay each verifies.
    let (good, bad) = dkimpy.verified(&signed);
    assert_eq!(bad, BTreeSet::new());
    assert_eq!(good, signed.keys().cloned().collect());
    rig.stop().await;
}
