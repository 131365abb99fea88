//! An upstream that nobody here wrote: Debian's Postfix, with Debian's Dovecot to check XOAUTH2 logins against an OAuth server.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xoauth2_relay::config::Secret;
use xoauth2_relay::relay::Relay;

use crate::clients::{client, script};
use crate::letters;
use crate::machine::Machine;
use crate::support::{
    Client, LISTENER, MAILBOX, NOREPLY, PATIENCE, blocking, expect, mailbox, start_relay_with, until_held, until_queue,
};

/// The relay in front of a Postfix that lets in whom Dovecot lets in, which asks the OAuth server.
struct Rig {
    oauth: OAuth,
    server: Machine,
    relay: Relay,
    _folder: TempDir,
}

impl Rig {
    /// Signed in. `None` if it is to be left out.
    async fn start() -> Option<Self> {
        Self::with_life(3600).await
    }

    /// With access tokens that live for so many seconds.
    async fn with_life(seconds: u32) -> Option<Self> {
        let mut oauth = OAuth::start()?;
        oauth.order(&format!("life {seconds}"));
        let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let port = free_port();
        let server = server(&oauth, &certified, port)?;
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("ca.pem"), certified.cert.pem()).unwrap();
        let relay = relay(&oauth, port, &folder).await;
        let mut rig = Self { oauth, server, relay, _folder: folder };
        rig.sign_in().await;
        Some(rig)
    }

    async fn sign_in(&mut self) {
        let token = Secret::new(self.oauth.order("sign-in"));
        self.relay.ops().login_take_in(&mailbox(), token).await.unwrap();
    }

    /// Hands in a mail that is written with LF.
    async fn submit(&self, to: &[&str], letter: &[u8]) {
        let door = self.relay.listeners()[0];
        let recipients: Vec<String> = to.iter().map(|to| format!("RCPT TO:<{to}>")).collect();
        let stuffed = stuffed(letter);
        blocking(move || {
            let mut client = Client::greeted(door);
            expect(&client.ask(&format!("MAIL FROM:<{MAILBOX}>")), "250");
            for recipient in &recipients {
                expect(&client.ask(recipient), "250");
            }
            expect(&client.ask("DATA"), "354");
            client.send(&stuffed);
            expect(&client.ask("."), "250");
            expect(&client.ask("QUIT"), "221");
        })
        .await;
    }

    /// Waits until somebody's mailbox holds so many mails; these.
    async fn until_delivered(&self, to: &str, count: usize) -> Vec<Vec<u8>> {
        let new = self.server.path(&format!("var/mail/{to}/new"));
        let since = Instant::now();
        loop {
            let files = std::fs::read_dir(&new).into_iter().flatten().map(|file| file.unwrap().path());
            let mails: Vec<Vec<u8>> = files.map(|file| std::fs::read(file).unwrap()).collect();
            if mails.len() >= count {
                assert_eq!(mails.len(), count, "none comes twice");
                return mails;
            }
            let queue = self.relay.ops().queue_list().await;
            let logs = self.server.logs();
            assert!(since.elapsed() < PATIENCE, "{to} has {} of {count}: {queue:#?}\n{logs}", mails.len());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends every session that the relay keeps, so that it has to log in again.
    fn end_sessions(&mut self) {
        self.server.run("postfix stop && postfix start");
    }

    /// Waits until Dovecot has refused so many logins, as Postfix tells it; more are too many.
    async fn until_refused_logins(&self, count: usize) {
        let since = Instant::now();
        loop {
            let log = std::fs::read_to_string(self.server.path("var/log/postfix.log")).unwrap();
            let refused = log.matches("SASL XOAUTH2 authentication failed").count();
            if refused >= count {
                assert_eq!(refused, count, "{log}");
                return;
            }
            assert!(since.elapsed() < PATIENCE, "{refused} of {count} refused logins:\n{log}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn stop(self) {
        self.relay.stop().await;
    }
}

/// The machine with Postfix and Dovecot.
fn server(oauth: &OAuth, certified: &rcgen::CertifiedKey<rcgen::KeyPair>, port: u16) -> Option<Machine> {
    let door = format!("127.0.0.1:{port} inet n - n - - smtpd\n");
    let etc = [
        ("postfix/main.cf", include_str!("clients/postfix-upstream.cf").to_owned()),
        ("postfix/master.cf", include_str!("clients/postfix-master.cf").to_owned() + &door),
        ("postfix/certificate.pem", certified.cert.pem()),
        ("postfix/key.pem", certified.signing_key.serialize_pem()),
        ("dovecot/dovecot.conf", include_str!("clients/dovecot.conf").to_owned()),
        (
            "dovecot/dovecot-oauth2.conf.ext",
            include_str!("clients/dovecot-oauth2.conf.ext").replace("{port}", &oauth.port.to_string()),
        ),
    ];
    let mut machine = Machine::start(&["postfix", "dovecot"], &etc)?;
    machine.run("chown 20005:20005 /var/mail && mkdir /var/spool/postfix && install -d -o postfix /var/lib/postfix");
    machine.run("postfix start");
    machine.run("dovecot");
    Some(machine)
}

async fn relay(oauth: &OAuth, port: u16, folder: &TempDir) -> Relay {
    let path = folder.path().display();
    let text = format!(
        "hostname = \"relay.contoso.com\"\ndata_dir = \"{path}/data\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [[account]]\nmailbox = \"{MAILBOX}\"\nsend_as = [\"{NOREPLY}\"]\nprovider = \"custom\"\nclient_id = \"relay\"\n\
         token_url = \"http://127.0.0.1:{}/token\"\nsmtp = \"127.0.0.1:{port}\"\nsmtp_tls = \"starttls\"\n\
         ca_file = \"{path}/ca.pem\"\nmessages_per_minute = 1000000\n[queue]\nretry = [\"1s\"]\n{LISTENER}",
        oauth.port
    );
    start_relay_with(&text).await
}

/// The OAuth server in Python: see `clients/oauth_server.py`. It ends when its standard input does.
struct OAuth {
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    port: u16,
}

impl OAuth {
    fn start() -> Option<Self> {
        let mut command = Command::new(client("python3")?);
        command.args([script("oauth_server.py"), MAILBOX.to_owned()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (orders, answers) = (process.stdin.take(), BufReader::new(process.stdout.take().unwrap()));
        let mut oauth = Self { process, orders, answers, port: 0 };
        oauth.port = oauth.answer().parse().unwrap();
        Some(oauth)
    }

    fn order(&mut self, order: &str) -> String {
        writeln!(self.orders.as_mut().unwrap(), "{order}").unwrap();
        self.answer()
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn refreshes(&mut self) -> u32 {
        self.order("refreshes").parse().unwrap()
    }

    async fn until_refreshes(&mut self, count: u32) {
        let since = Instant::now();
        while self.refreshes() < count {
            assert!(since.elapsed() < PATIENCE, "only {} of {count} refreshes", self.refreshes());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for OAuth {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.process.wait();
    }
}

/// A port for a server that cannot be told to find one. It lies below those that the kernel hands out, so that nobody gets it meanwhile
/// who asks for just any; and tests running at once begin at different places.
fn free_port() -> u16 {
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % 500).unwrap() * 20;
    loop {
        let port = 20_000 + (start + ASKED.fetch_add(1, Ordering::Relaxed)) % 10_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// With CRLF, and dots doubled at the starts of lines.
fn stuffed(letter: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::new();
    for line in letter.split_inclusive(|&byte| byte == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend_from_slice(line.strip_suffix(b"\n").unwrap());
        stuffed.extend_from_slice(b"\r\n");
    }
    stuffed
}

/// What stands above the letter: only fields that servers put there on the way, Postfix's first, the relay's last.
fn assert_only_trace_above(above: &[u8]) {
    let above = String::from_utf8_lossy(above);
    let names: Vec<&str> = above
        .lines()
        .filter(|line| !line.starts_with([' ', '\t']))
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(names, ["Return-Path", "X-Original-To", "Delivered-To", "Received", "Received"], "{above}");
    assert!(above.contains("with ESMTPSA id ") && above.contains("by relay.contoso.com"), "{above}");
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_of_every_kind_lies_in_the_mailbox_as_it_was_handed_in() {
    let Some(rig) = Rig::start().await else { return };
    let letters = letters::of_every_kind();
    for letter in &letters {
        rig.submit(&["you@example.com", "me@example.com"], letter).await;
    }
    for person in ["you", "me"] {
        let mut sent = letters.clone();
        for arrived in rig.until_delivered(person, letters.len()).await {
            let found = sent.iter().position(|letter| arrived.ends_with(letter));
            let Some(found) = found else { panic!("nobody sent this:\n{}", String::from_utf8_lossy(&arrived)) };
            let letter = sent.swap_remove(found);
            assert_only_trace_above(&arrived[..arrived.len() - letter.len()]);
        }
    }
    until_queue(&rig.relay, "an empty queue", <[_]>::is_empty).await;
    rig.until_refused_logins(0).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recipient_that_postfix_does_not_know_is_refused_and_the_others_get_the_mail() {
    let Some(rig) = Rig::start().await else { return };
    let letter = &letters::of_every_kind()[0];
    rig.submit(&["you@example.com", "nobody@example.com", "me@example.com"], letter).await;
    let is_dead = |queue: &[xoauth2_relay::ops::MessageView]| queue.iter().any(|message| message.state == "dead");
    let queue = until_queue(&rig.relay, "a dead letter", is_dead).await;
    let states: Vec<&str> = queue[0].recipients.iter().map(|recipient| recipient.state.as_str()).collect();
    assert_eq!(states, ["accepted", "refused", "accepted"]);
    let reply = queue[0].recipients[1].reply.as_deref().unwrap();
    assert!(reply.starts_with("550 5.1.1 <nobody@example.com>: Recipient address rejected"), "{reply}");
    rig.until_delivered("you", 1).await;
    rig.until_delivered("me", 1).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_dovecot_refuses_holds_the_account_until_somebody_signs_in_again() {
    let Some(mut rig) = Rig::start().await else { return };
    let letters = letters::of_every_kind();
    rig.oauth.order("block");
    rig.submit(&["you@example.com"], &letters[0]).await;
    let hold = until_held(&rig.relay, true).await.unwrap();
    assert_eq!(hold.cause, "login");
    let reply = hold.reply.unwrap();
    assert!(reply.starts_with("535 5.7.8 Error: authentication failed"), "{reply}");
    // Once more with a fresh token.
    rig.until_refused_logins(2).await;
    rig.submit(&["you@example.com"], &letters[1]).await;
    let queue = until_queue(&rig.relay, "two held", |queue| {
        queue.len() == 2 && queue.iter().all(|message| message.state == "held")
    })
    .await;
    assert!(queue.iter().all(|message| message.tries == 0), "{queue:#?}");

    rig.sign_in().await;
    rig.until_delivered("you", 2).await;
    until_held(&rig.relay, false).await;
    until_queue(&rig.relay, "an empty queue", <[_]>::is_empty).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_withdrawn_before_its_time_costs_one_refused_login_and_no_hold() {
    let Some(mut rig) = Rig::start().await else { return };
    let letters = letters::of_every_kind();
    rig.submit(&["you@example.com"], &letters[0]).await;
    rig.until_delivered("you", 1).await;
    let refreshes = rig.oauth.refreshes();
    rig.oauth.order("expire");
    rig.end_sessions();
    rig.submit(&["you@example.com"], &letters[1]).await;
    rig.until_delivered("you", 2).await;
    rig.until_refused_logins(1).await;
    assert_eq!(rig.oauth.refreshes() - refreshes, 1);
    until_held(&rig.relay, false).await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_replaced_before_they_end_so_that_no_login_is_ever_refused() {
    let Some(mut rig) = Rig::with_life(8).await else { return };
    let letters = letters::of_every_kind();
    rig.submit(&["you@example.com"], &letters[0]).await;
    rig.until_delivered("you", 1).await;
    // The first two have ended by then.
    let refreshes = rig.oauth.refreshes();
    rig.oauth.until_refreshes(refreshes + 2).await;
    rig.end_sessions();
    rig.submit(&["you@example.com"], &letters[1]).await;
    rig.until_delivered("you", 2).await;
    rig.until_refused_logins(0).await;
    rig.stop().await;
}
