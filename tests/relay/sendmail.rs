//! `sendmail` as programs call it, and the drop folder behind it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;
use xoauth2_relay::message::Headers;
use xoauth2_relay::simulator::{Accepted, Simulator};

use crate::clients::{client, left_out_without, run};
use crate::command_line::Daemon;
use crate::support::{MAILBOX, PATIENCE, blocking, quick};

/// A relay in a folder that other users may pass through, and a link to the program by the name sendmail.
struct Site {
    simulator: Simulator,
    folder: TempDir,
    daemon: Option<Daemon>,
    sendmail: PathBuf,
}

impl Site {
    async fn prepare() -> Self {
        let simulator = Simulator::start(quick()).await.unwrap();
        let folder = TempDir::new().unwrap();
        let daemon = Daemon::prepare(&simulator, &folder).await;
        // Whatever the way to the test's own program, nobody may be kept from it: a copy.
        let sendmail = folder.path().join("sendmail");
        let program = folder.path().join("xoauth2-relay");
        std::fs::copy(env!("CARGO_BIN_EXE_xoauth2-relay"), &program).unwrap();
        std::os::unix::fs::symlink(&program, &sendmail).unwrap();
        open_to_all(folder.path());
        Self { simulator, folder, daemon: Some(daemon), sendmail }
    }

    async fn start() -> Self {
        Self::prepare().await.run(&[]).await
    }

    async fn run(mut self, environment: &'static [(&'static str, &'static str)]) -> Self {
        let mut daemon = self.daemon.take().unwrap();
        let daemon = blocking(move || {
            daemon.start(environment);
            daemon
        })
        .await;
        self.daemon = Some(daemon);
        self
    }

    fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().unwrap()
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("relay.toml")
    }

    fn drop_folder(&self) -> PathBuf {
        self.folder.path().join("data/drop")
    }

    /// Hands a text to sendmail.
    fn send(&self, arguments: &[&str], text: &str) -> Output {
        pipe(Command::new(&self.sendmail).args(arguments).env("XOAUTH2_RELAY_CONFIG", self.config()), text)
    }

    fn send_well(&self, arguments: &[&str], text: &str) {
        let output = self.send(arguments, text);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    async fn until_accepted(&self, count: usize) -> Vec<Accepted> {
        let waited = tokio::time::timeout(PATIENCE, self.simulator.wait_for_accepted(count)).await;
        let said = self.daemon.as_ref().map(Daemon::said);
        assert!(waited.is_ok(), "{} of {count}: {said:?}", self.simulator.accepted_count());
        self.simulator.accepted()
    }

    /// What is left in the folder and is not what was put aside.
    fn left(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.drop_folder()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != "bad").collect()
    }

    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let since = Instant::now();
        while !is_so() {
            assert!(since.elapsed() < PATIENCE, "{what} never came true: {}", self.daemon.as_ref().unwrap().said());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

fn open_to_all(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn pipe(command: &mut Command, text: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // One that refuses its options does not read.
    let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
    child.wait_with_output().unwrap()
}

fn body(mail: &Accepted) -> String {
    let text = String::from_utf8_lossy(&mail.bytes).into_owned();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn field(mail: &Accepted, name: &str) -> Option<String> {
    Headers::scan(&mail.bytes).first(name).map(|field| String::from_utf8_lossy(field.value).trim().to_owned())
}

fn recipients(mail: &Accepted) -> Vec<String> {
    let mut recipients: Vec<String> = mail.recipients.iter().map(ToString::to_string).collect();
    recipients.sort();
    recipients
}

/// As cron of Debian pipes it.
const CRON: &str = "From: root (Cron Daemon)\nTo: root\nSubject: Cron <root@lms> /usr/local/bin/backup\nMIME-Version: 1.0\n\
    Content-Type: text/plain; charset=UTF-8\n\nbackup failed\n.\nstill failed\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_programs_pipe_into_it_arrives() {
    let site = Site::start().await;
    let site = blocking(move || {
        site.send_well(&["-FCronDaemon", "-i", "-odi", "-oem", "-oi", "-t"], CRON);
        site
    })
    .await;
    let mails = site.until_accepted(1).await;
    assert_eq!(recipients(&mails[0]), ["root@relay.contoso.com"]);
    assert_eq!(body(&mails[0]), "backup failed\r\n.\r\nstill failed\r\n");

    let site = blocking(move || {
        let letter =
            "To: You <you@example.com>\nCc: other@example.com\nBcc: hidden@example.com\nSubject: hello\n\nhello\n";
        site.send_well(&["-t", "-i", "-f", "noreply@contoso.com"], letter);
        site
    })
    .await;
    let mails = site.until_accepted(2).await;
    assert_eq!(recipients(&mails[1]), ["hidden@example.com", "other@example.com", "you@example.com"]);
    assert_eq!((field(&mails[1], "Bcc"), field(&mails[1], "Cc").as_deref()), (None, Some("other@example.com")));

    // Only a text, and more than fits into memory; by the command's long name.
    let text = "not a header at all\n".repeat(20_000);
    let (site, text) = blocking(move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xoauth2-relay"));
        command.arg("--config").arg(site.config()).args(["sendmail", "-F", "The Site", "you@example.com"]);
        let output = pipe(&mut command, &text);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (site, text)
    })
    .await;
    let mails = site.until_accepted(3).await;
    assert_eq!(body(&mails[2]), text.replace('\n', "\r\n"));
    assert!(
        field(&mails[2], "From").unwrap().contains("\"The Site\" <lms@contoso.com>"),
        "{:?}",
        field(&mails[2], "From")
    );

    let mut site = site;
    blocking(move || {
        site.until("an empty folder", || site.left().is_empty());
        let queue = site.daemon().json(&["queue", "list", "--json"]);
        assert_eq!(queue, Value::Array(Vec::new()));
        assert_eq!(site.daemon().terminate(), Some(0));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_sent_is_refused_with_the_codes_that_programs_know() {
    let site = Site::start().await;
    blocking(move || {
        let failing = |arguments: &[&str], text: &str| {
            let output = site.send(arguments, text);
            (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        for (arguments, code, says) in [
            (&[][..], 64, "there is no recipient"),
            (&["-t"], 64, "there is no recipient"),
            (&["-bs"], 64, "127.0.0.1:2525"),
            (&["-bp"], 69, "xoauth2-relay queue list"),
            (&["-N", "often", "root"], 64, "never"),
            (&["a b@example.com@"], 65, "is not an address"),
            (&["-f", "a@b@", "root"], 65, "is not an address"),
        ] {
            let (ended, said) = failing(arguments, "Subject: x\n\nhello\n");
            assert_eq!(ended, code, "{arguments:?}: {said}");
            assert!(said.starts_with("sendmail: ") && said.contains(says), "{arguments:?}: {said}");
        }
        let (code, said) = failing(&["root"], &"x".repeat((35 << 20) + 1));
        assert_eq!(code, 65, "{said}");
        assert_eq!(failing(&["-q"], "").0, 0);
        assert!(site.left().is_empty());

        let nowhere = site.folder.path().join("nowhere.toml");
        std::fs::write(&nowhere, format!("data_dir = \"{}\"", site.folder.path().join("nowhere").display())).unwrap();
        let mut command = Command::new(&site.sendmail);
        let output = pipe(command.arg("root").env("XOAUTH2_RELAY_CONFIG", nowhere), "hello\n");
        assert_eq!(output.status.code(), Some(75), "the folder may come");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_is_left_while_the_relay_is_down_and_bad_files_stop_nobody() {
    let mut site = Site::start().await;
    site = blocking(move || {
        assert_eq!(site.daemon().terminate(), Some(0));
        let at = |name: &str| site.drop_folder().join(name);
        std::fs::write(at("0.mail"), "Subject: not ours\n\nhello\n").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", at("1.mail")).unwrap();
        assert!(Command::new("mkfifo").arg(at("2.mail")).status().unwrap().success());
        std::fs::write(at("3.mail"), "xoauth2-relay drop 1\nrecipient a b@@\n\nhello\n").unwrap();
        std::fs::write(at(".begun"), "half of").unwrap();
        site.send_well(&["you@example.com"], "Subject: first\n\nhello\n");
        site.send_well(&["you@example.com"], "Subject: second\n\nhello\n");
        site
    })
    .await;
    assert_eq!(site.simulator.accepted_count(), 0);
    let site = site.run(&[]).await;
    site.until_accepted(2).await;
    blocking(move || {
        site.until("an empty folder", || site.left() == [".begun"]);
        let aside = std::fs::read_dir(site.drop_folder().join("bad")).unwrap().count();
        assert_eq!(aside, 4);
        let said = site.daemon.as_ref().unwrap().said();
        for why in ["it does not begin with", "it cannot be opened", "no plain file", "is not an address"] {
            assert!(said.contains(why), "{why} is not in {said}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rules_of_an_app_hold_for_what_is_left_too() {
    let site = Site::prepare().await;
    let config = site.config();
    let rules = "[[app]]\nname = 'sendmail'\nsenders = ['*@contoso.com']\n";
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, format!("default_domain = 'contoso.com'\n{text}\n{rules}")).unwrap();
    let site = site.run(&[]).await;
    let site = blocking(move || {
        site.send_well(&["-f", "x@evil.example", "you@example.com"], "Subject: x\n\nrefused\n");
        site.send_well(&["-f", "root", "you@example.com"], "From: x@evil.example\n\nrefused\n");
        site.send_well(&["-f", "root", "-N", "never", "-V", "job+2B7", "you"], "Subject: x\n\ntaken\n");
        site.until("an empty folder", || site.left().is_empty());
        site
    })
    .await;
    let accepted = site.until_accepted(1).await;
    assert_eq!((accepted.len(), recipients(&accepted[0])), (1, vec!["you@contoso.com".to_owned()]));
    assert_eq!(body(&accepted[0]).trim(), "taken");
    let said = site.daemon.as_ref().unwrap().said();
    let why = "its sender x@evil.example is not among \"senders\" of the app sendmail";
    assert!(said.replace('\\', "").matches(why).count() == 2, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_only_the_relay_should_give_does_no_harm() {
    let mut site = Site::start().await;
    site = blocking(move || {
        assert_eq!(site.daemon().terminate(), Some(0));
        // The largest id that there is: in the queue, it would leave none for the mail that comes later.
        let planted = site.drop_folder().join("7zzzzzzzzzzzz.taken");
        std::fs::write(planted, "xoauth2-relay drop 1\nrecipient you@example.com\n\nSubject: x\n\nplanted\n").unwrap();
        site
    })
    .await;
    for (n, text) in ["second", "third"].into_iter().enumerate() {
        site = site.run(&[]).await;
        site.until_accepted(n + 1).await;
        site = blocking(move || {
            site.send_well(&["you@example.com"], &format!("Subject: x\n\n{text}\n"));
            site
        })
        .await;
        site.until_accepted(n + 2).await;
        site = blocking(move || {
            site.until("an empty folder", || site.left().is_empty());
            assert_eq!(site.daemon().terminate(), Some(0));
            site
        })
        .await;
    }
    let texts: Vec<_> = site.simulator.accepted().iter().map(body).collect();
    assert_eq!(texts.iter().map(|text| text.trim()).collect::<Vec<_>>(), ["planted", "second", "third"]);
}

/// Debug builds can be told to die at named points.
#[cfg(debug_assertions)]
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_point_neither_loses_nor_repeats_what_was_left() {
    for point in
        ["after_pickup_rename", "before_commit", "after_commit_before_answer", "after_pickup_commit", "after_body_sync"]
    {
        let mut site = Site::start().await;
        site = blocking(move || {
            // Nothing is sent before the crash, so that what arrives twice was taken twice.
            let hold =
                crate::command_line::program(&site.config()).args(["account", "hold", MAILBOX]).output().unwrap();
            assert!(hold.status.success());
            assert_eq!(site.daemon().terminate(), Some(0));
            site
        })
        .await;
        // The start itself commits a few times.
        let environment: &[(&str, &str)] = match point {
            "before_commit" => &[("XOAUTH2_RELAY_CRASH_AT", "before_commit:3")],
            "after_commit_before_answer" => &[("XOAUTH2_RELAY_CRASH_AT", "after_commit_before_answer:3")],
            "after_pickup_rename" => &[("XOAUTH2_RELAY_CRASH_AT", "after_pickup_rename")],
            "after_pickup_commit" => &[("XOAUTH2_RELAY_CRASH_AT", "after_pickup_commit")],
            _ => &[("XOAUTH2_RELAY_CRASH_AT", "after_body_sync")],
        };
        site = blocking(move || {
            site.send_well(&["you@example.com"], &format!("Subject: large\n\n{}", "a line\n".repeat(40_000)));
            site.daemon().start(environment);
            assert_eq!(site.daemon().ended(), None, "{point}: it dies of a signal");
            site
        })
        .await;
        let mut site = site.run(&[]).await;
        site = blocking(move || {
            site.until("an empty folder", || site.left().is_empty());
            let queue = site.daemon().json(&["queue", "list", "--json"]);
            assert_eq!(queue.as_array().unwrap().len(), 1, "{point}: {queue}");
            let release = crate::command_line::program(&site.config()).args(["account", "release", MAILBOX]).output();
            assert!(release.unwrap().status.success());
            site
        })
        .await;
        let mails = site.until_accepted(1).await;
        assert_eq!(body(&mails[0]).lines().count(), 40_000, "{point}");
    }
}

/// What stands in the way of other programs and users; left out where they are not there.
#[tokio::test(flavor = "multi_thread")]
async fn other_users_php_and_python_leave_mail() {
    let site = Site::start().await;
    let (site, expected) = blocking(move || {
        let mut expected = 0;
        let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
        if is_root {
            let mut nobody = Command::new("setpriv");
            nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&site.sendmail).args(["-t", "-i"]);
            // The configuration is not for everybody to read, the folder's place is the same all the same.
            nobody.env("XOAUTH2_RELAY__DATA_DIR", site.folder.path().join("data"));
            let output = pipe(&mut nobody, "To: you@example.com\nSubject: from nobody\n\nhello\n");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            expected += 1;
            let mut list = Command::new("setpriv");
            list.args(["--reuid=65534", "--regid=65534", "--clear-groups", "ls"]).arg(site.drop_folder());
            assert!(!list.output().unwrap().status.success(), "nobody but the relay may list the folder");
        } else {
            left_out_without("other user", "it takes root");
        }
        let php = format!("sendmail_path={} -t -i", site.sendmail.display());
        let code = "exit(mail('you@example.com', 'from PHP', \"hello\\n.\\nthere\", 'From: lms@contoso.com', '-fnoreply@contoso.com') ? 0 : 1);";
        if let Some(program) = client("php") {
            run(Command::new(program).args(["-d", &php, "-r", code]).env("XOAUTH2_RELAY_CONFIG", site.config()));
            expected += 1;
        }
        let code = "import subprocess, sys; from email.message import EmailMessage; m = EmailMessage(); m['To'] = 'you@example.com'; \
                    m['Subject'] = 'from Python'; m.set_content('hello\\n'); \
                    subprocess.run([sys.argv[1], '-t', '-oi'], input=m.as_bytes(), check=True)";
        if let Some(program) = client("python3") {
            let command = &mut Command::new(program);
            run(command.args(["-c", code]).arg(&site.sendmail).env("XOAUTH2_RELAY_CONFIG", site.config()));
            expected += 1;
        }
        (site, expected)
    })
    .await;
    let mails = site.until_accepted(expected).await;
    for mail in &mails {
        assert_eq!(recipients(mail), ["you@example.com"]);
        assert!(body(mail).starts_with("hello\r\n"), "{}", body(mail));
    }
}
