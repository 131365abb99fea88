//! Clients that nobody here wrote. What Exchange gets equals what left the client, byte for byte, apart from what is to differ.
//!
//! Under `tests/all` a client that is missing is a failure. Otherwise its test is left out, and says so.

use std::process::Command;

use crate::clients::{client, php_with_phpmailer, run, script, unpacked};
use crate::letters;
use crate::support::{MAILBOX, NOREPLY, Rig, blocking};
use crate::tap::Tap;

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
    tap.assert_all_arrived(&rig, 3).await;
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
    tap.assert_all_arrived(&rig, 2).await;
    assert_eq!(rig.simulator.accepted()[0].recipients.len(), 2);
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pythons_smtplib_with_text_in_8_bits() {
    let Some(python) = client("python3") else { return };
    let rig = Rig::start().await;
    let tap = Tap::before(rig.door());
    let mut command = Command::new(python);
    command.args([script("smtplib_client.py"), tap.port()]);
    blocking(move || run(&mut command)).await;
    tap.assert_all_arrived(&rig, 5).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn phpmailer_as_moodle_sets_it() {
    let Some(php) = php_with_phpmailer() else { return };
    let rig = Rig::start().await;
    let tap = Tap::before(rig.door());
    let mut command = Command::new(php);
    command.args([script("moodle.php"), tap.port(), "20".to_owned()]);
    blocking(move || run(&mut command)).await;
    tap.assert_all_arrived(&rig, 20).await;
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
    tap.assert_all_arrived(&rig, 200).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn msmtp_with_auth_plain_with_login_and_without() {
    let Some(msmtp) = client("msmtp") else { return };
    let rig = Rig::start().await;
    let tap = Tap::before(rig.door());
    let letters = letters::of_every_kind();
    for (auth, letter) in ["plain", "login", "off"].into_iter().cycle().zip(&letters) {
        let file = rig.folder.path().join("letter");
        std::fs::write(&file, letter).unwrap();
        let mut command = Command::new(&msmtp);
        command.args(["--host=127.0.0.1", &format!("--port={}", tap.port()), &format!("--auth={auth}")]);
        command.args(["--user=anyone", "--passwordeval=echo any random text", "--tls=off"]);
        command.args([&format!("--from={MAILBOX}"), "you@example.com", "me@example.com"]);
        command.stdin(std::fs::File::open(&file).unwrap());
        blocking(move || run(&mut command)).await;
    }
    tap.assert_all_arrived(&rig, letters.len()).await;
    assert!(rig.simulator.accepted().iter().all(|accepted| accepted.recipients.len() == 2));
    let said = tap.said();
    assert!(said.contains("AUTH PLAIN ") && said.contains("AUTH LOGIN"), "{said}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s_nail_with_auth_plain_with_login_and_without_and_with_a_file() {
    let Some(s_nail) = client("s-nail") else { return };
    let rig = Rig::start().await;
    let tap = Tap::before(rig.door());
    let home = rig.folder.path();
    std::fs::write(home.join("all.bin"), (0..=255).cycle().take(100_000).collect::<Vec<u8>>()).unwrap();
    std::fs::write(home.join("text"), "Grüße aus Köln\n.\n..dots\n.\n").unwrap();
    for auth in ["plain", "login", "none"] {
        let user = if auth == "none" { "" } else { "anyone:any%20random%20text@" };
        let mut command = Command::new(&s_nail);
        // No configuration but this one.
        command.args(["-:/", "-S", "v15-compat", "-S", "ttycharset=utf-8", "-S", "sendwait"]);
        command.args(["-S", &format!("mta=smtp://{user}127.0.0.1:{}", tap.port())]);
        command.args(["-S", &format!("smtp-auth={auth}")]);
        command.args(["-s", "Grüße von s-nail", "-r", MAILBOX, "-c", "me@example.com"]);
        command.arg("-a").arg(home.join("all.bin")).arg("you@example.com");
        command.env("HOME", home).stdin(std::fs::File::open(home.join("text")).unwrap());
        blocking(move || run(&mut command)).await;
    }
    tap.assert_all_arrived(&rig, 3).await;
    assert!(rig.simulator.accepted().iter().all(|accepted| accepted.recipients.len() == 2));
    let said = tap.said();
    assert!(said.contains("AUTH PLAIN") && said.contains("AUTH LOGIN"), "{said}");
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodemailer_with_one_mail_with_lists_and_files_and_50_over_a_pool() {
    let Some(node) = client("node") else { return };
    let Some(modules) = unpacked("node_modules/nodemailer") else { return };
    let rig = Rig::start().await;
    let tap = Tap::before(rig.door());
    let mut command = Command::new(node);
    command.args([script("nodemailer.js"), tap.port(), "50".to_owned()]).env("NODE_PATH", modules.parent().unwrap());
    blocking(move || run(&mut command)).await;
    tap.assert_all_arrived(&rig, 54).await;
    let accepted = rig.simulator.accepted();
    let listed = accepted.iter().find(|accepted| accepted.recipients.len() > 1).unwrap();
    assert_eq!(listed.recipients.len(), 32, "30 in To, one in Cc, one in Bcc");
    assert!(!String::from_utf8_lossy(&listed.bytes).contains("hidden@example.com"));
    assert!(tap.connections() <= 4 + 5, "the pool keeps its connections");
    rig.stop().await;
}
