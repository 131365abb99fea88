//! Sending programs told apart: by network, by user name, by password; each with its own mailbox and its own senders.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;
use xoauth2_relay::clock::Clock;
use xoauth2_relay::config::{Config, Environment};
use xoauth2_relay::relay::Relay;
use xoauth2_relay::simulator::{Accepted, Mailbox, Simulator};

use crate::clients::client;
use crate::support::{Client, LISTENER, MAILBOX, blocking, configuration, expect, id_of, quick, sign_in};

/// A second mailbox.
const SCANNER: &str = "scan@contoso.com";
const CHECKED: &str = "[[listener]]\naddress = \"127.0.0.1:0\"\npassword = \"checked\"\n";

/// A relay with two mailboxes.
struct Site {
    simulator: Simulator,
    relay: Relay,
    folder: TempDir,
}

impl Site {
    /// `top` stands at the top of the configuration, `below` at its end.
    async fn with(top: &str, below: &str) -> Self {
        let mut options = quick();
        options.mailboxes.push(Mailbox::new(SCANNER));
        let simulator = Simulator::start(options).await.unwrap();
        let folder = TempDir::new().unwrap();
        let config = Self::read(&simulator, folder.path(), top, below);
        let relay = Relay::start(config, Environment::default(), Clock::system()).await.unwrap();
        for mailbox in [MAILBOX, SCANNER] {
            sign_in(&simulator, &relay, mailbox).await;
        }
        Self { simulator, relay, folder }
    }

    fn read(simulator: &Simulator, folder: &Path, top: &str, below: &str) -> Config {
        let text = format!("{top}\n{}", configuration(simulator, folder, below));
        let config = Config::from_text(&text, &folder.join("relay.toml").to_string_lossy(), &Environment::default());
        config.unwrap_or_else(|problems| panic!("{problems}\nin\n{text}"))
    }

    /// Another configuration, as a reload brings it.
    async fn configure(&self, top: &str, below: &str) {
        let config = Self::read(&self.simulator, self.folder.path(), top, below);
        assert_eq!(self.relay.configure(config).await.unwrap(), [""; 0], "nothing of it needs a restart");
    }

    /// What is accepted next; its app, its account, the mailbox it left through.
    async fn next(&self, count: usize) -> (String, Accepted) {
        tokio::time::timeout(crate::support::PATIENCE, self.simulator.wait_for_accepted(count)).await.unwrap();
        let accepted = self.simulator.accepted().pop().unwrap();
        let shown = self.relay.ops().queue_show(id_of(&accepted)).await.unwrap();
        (shown.message.app, accepted)
    }

    async fn stop(self) {
        self.relay.stop().await;
        self.simulator.stop().await;
    }
}

/// What swaks saw, and whether its mail was taken. `None`: it is not installed.
async fn swaks(site: &Site, arguments: &[&str]) -> Option<(bool, String)> {
    let mut command = Command::new(client("swaks")?);
    let server = site.relay.listeners()[0];
    command.args(["--server", "127.0.0.1", "--port", &server.port().to_string(), "--to", "you@example.com"]);
    command.args(arguments);
    let output = blocking(move || command.output().unwrap()).await;
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Some((output.status.success(), said))
}

fn login<'a>(user: &'a str, password: &'a str) -> [&'a str; 6] {
    ["--auth", "LOGIN", "--auth-user", user, "--auth-password", password]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_checks_passwords_takes_mail_from_those_who_know_one() {
    let apps = format!(
        "{CHECKED}[[app]]\nname = \"printers\"\npassword = {{ file = \"printers\" }}\naccount = \"{SCANNER}\"\n\
         [[app]]\nname = \"moodle\"\npassword = \"a password of moodle\"\n"
    );
    let site = Site::with("", &apps).await;
    let file = site.folder.path().join("printers");
    std::fs::write(&file, "the first password\n").unwrap();
    site.configure("", &apps).await;

    let Some((taken, said)) = swaks(&site, &["--from", MAILBOX]).await else { return site.stop().await };
    assert!(!taken && said.contains("530 5.7.0 log in first"), "{said}");
    let (taken, said) = swaks(&site, &login("printers", "the wrong password")).await.unwrap();
    assert!(!taken && said.contains("535 5.7.8"), "{said}");
    let (taken, said) = swaks(&site, &login("Printers@contoso.com", "the first password")).await.unwrap();
    assert!(taken, "{said}");
    let (app, accepted) = site.next(1).await;
    assert_eq!((app.as_str(), accepted.mailbox.as_str()), ("printers", SCANNER));

    // The password is changed, and the configuration read again.
    std::fs::write(&file, "the second password\n").unwrap();
    site.configure("", &apps).await;
    let (taken, said) = swaks(&site, &login("printers", "the first password")).await.unwrap();
    assert!(!taken && said.contains("535 5.7.8"), "{said}");
    let (taken, said) = swaks(&site, &login("printers", "the second password")).await.unwrap();
    assert!(taken, "{said}");
    let (taken, said) = swaks(&site, &login("moodle", "a password of moodle")).await.unwrap();
    assert!(taken, "{said}");
    assert_eq!(site.next(3).await.0, "moodle");
    site.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_tell_apps_apart_and_each_has_its_mailbox() {
    let apps = format!(
        "{LISTENER}[[app]]\nname = \"moodle\"\nallow = [\"127.0.0.1\"]\naccount = \"{MAILBOX}\"\n\
         [[app]]\nname = \"printers\"\nallow = [\"127.0.0.2\"]\naccount = \"{SCANNER}\"\nsenders = [\"scan@contoso.com\"]\n\
         [[app]]\nname = \"erp\"\nallow = [\"127.0.0.0/8\"]\n"
    );
    let site = Site::with("", &apps).await;
    let from = |address| ["--from", "scan@contoso.com", "--local-interface", address];
    let cases = [
        ("127.0.0.1", "", "moodle", MAILBOX),
        ("127.0.0.2", "", "printers", SCANNER),
        ("127.0.0.2", "erp", "printers", SCANNER),
        ("127.0.0.3", "", "erp", SCANNER),
        ("127.0.0.1", "erp@contoso.com", "erp", SCANNER),
        ("127.0.0.3", "moodle", "erp", SCANNER),
    ];
    for (n, (address, user, app, mailbox)) in cases.into_iter().enumerate() {
        let mut arguments = from(address).to_vec();
        if !user.is_empty() {
            arguments.extend(login(user, "any random text"));
        }
        let Some((taken, said)) = swaks(&site, &arguments).await else { return site.stop().await };
        assert!(taken, "{said}");
        let (sent_by, accepted) = site.next(n + 1).await;
        assert_eq!((sent_by.as_str(), accepted.mailbox.as_str()), (app, mailbox), "{address} {user}");
    }
    let (taken, said) = swaks(&site, &["--from", "root@evil.example", "--local-interface", "127.0.0.2"]).await.unwrap();
    assert!(
        !taken
            && said.contains("550 5.7.60 MAIL FROM <root@evil.example> is not among the senders of the app printers"),
        "{said}"
    );
    site.stop().await;
}

/// As Debian's cron hands it to sendmail.
const CRON: &str = "From: root (Cron Daemon)\r\nTo: root\r\nSubject: Cron <root@web> test -x /usr/sbin/anacron\r\nAuto-Submitted: auto-generated\r\n\
                    Content-Type: text/plain; charset=UTF-8\r\n\r\nhello\r\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_of_cron_arrives() {
    let apps = format!("{LISTENER}[[app]]\nname = \"default\"\nsenders = [\"*@contoso.com\"]\n");
    let site = Site::with("default_domain = \"contoso.com\"", &apps).await;
    let door = site.relay.listeners()[0];
    blocking(move || Client::greeted(door).submit("root", &["root"], CRON)).await;
    let (app, accepted) = site.next(1).await;
    assert_eq!(app, "default");
    assert_eq!((accepted.mail_from.as_str(), accepted.recipients[0].as_str()), (MAILBOX, "root@contoso.com"));
    let text = String::from_utf8_lossy(&accepted.bytes).into_owned();
    assert!(text.contains(&format!("From: root (Cron Daemon) <{MAILBOX}>\r\n")), "{text}");
    assert!(!text.contains("Reply-To"), "nobody can answer root: {text}");

    // Without the key the envelope has to be whole, and the refusal says what to do.
    site.configure("", LISTENER).await;
    blocking(move || {
        let mut client = Client::greeted(door);
        let refusal = client.ask("MAIL FROM:<root>");
        assert!(refusal.starts_with("501 5.1.7") && refusal.contains("default_domain"), "{refusal}");
        client.submit("root@contoso.com", &["root@contoso.com"], CRON);
        expect(&client.ask("QUIT"), "221");
    })
    .await;
    let text = String::from_utf8_lossy(&site.next(2).await.1.bytes).into_owned();
    assert!(text.contains(&format!("From: root (Cron Daemon) <{MAILBOX}>\r\n")), "{text}");
    site.stop().await;
}
