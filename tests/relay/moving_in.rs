//! `import`: accounts and sign-ins of email-oauth2-proxy and sasl-xoauth2 are taken over, and mail leaves with them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use aws_lc_rs::cipher::{AES_128, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use tempfile::TempDir;
use xoauth2_relay::simulator::{Fault, Mailbox, Options, Simulator};

use crate::clients::{self, script, unpacked};
use crate::command_line::{Daemon, free_port, program};
use crate::support::{Client, MAILBOX, blocking, quick};

const MAIL: &str = "From: erp@contoso.com\r\nSubject: hello\r\n\r\nhello\r\n";
const ERP: &str = "erp@contoso.com";
const PASSWORD: &str = "hunter2 ";

/// A folder with a Microsoft 365 beside it.
struct Scene {
    simulator: Simulator,
    folder: TempDir,
}

impl Scene {
    async fn new() -> Self {
        let options = Options {
            mailboxes: vec![Mailbox::new(MAILBOX), Mailbox::new(ERP)],
            client_secret: Some("a~s3cret%of.the_registration".to_owned()),
            ..quick()
        };
        let simulator = Simulator::start(options).await.unwrap();
        let folder = TempDir::new().unwrap();
        std::fs::write(folder.path().join("ca.pem"), simulator.ca_pem()).unwrap();
        Self { simulator, folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.file(name);
        std::fs::write(&file, text).unwrap();
        file
    }

    fn config(&self) -> PathBuf {
        self.file("relay.toml")
    }

    /// A configuration without an account.
    fn empty_config(&self) -> String {
        let (data, door) = (self.file("data"), free_port());
        let text = format!(
            "# mine: keep this\ndata_dir = \"{}\"   # and this\n[admin]\naddress = \"127.0.0.1:0\"\n\
             [[listener]]\naddress = \"{door}\"\n[queue]\nretry = [\"1s\"]",
            data.display()
        );
        self.write("relay.toml", &text);
        text
    }

    /// The configuration of email-oauth2-proxy before anybody has signed in.
    fn proxy_config(&self) -> String {
        format!(
            "[Server setup]\ndocumentation = a sample\n\tof two lines\n\n[IMAP-1993]\nserver_address = localhost\nserver_port = 993\n\n\
             [SMTP-1587]\nlocal_address = 127.0.0.1\nserver_address = localhost\nserver_port = {}\nserver_starttls = True\n\n\
             [{ERP}]\npermission_url = https://localhost/authorize\ntoken_url = {}\n\
             oauth2_scope = https://outlook.office.com/SMTP.Send offline_access\nredirect_uri = http://localhost\nclient_id = {}\n\
             client_secret = a~s3cret%of.the_registration\n\n[emailproxy]\nencrypt_client_secret_on_first_use = True\n",
            self.simulator.smtp_addr().port(),
            self.simulator.token_url(),
            Options::default().client_id
        )
    }

    /// The same behind the first sign-in: what the program writes then, in its own form.
    fn signed_in_proxy_config(&self) -> String {
        let (salt, token) = ([7; 16], self.simulator.issue_refresh_token(ERP));
        let sealed = format!(
            "token_salt = {}\ntoken_iterations = 1000\nrefresh_token = {}\nclient_secret_encrypted = {}\n",
            STANDARD.encode(salt),
            fernet(PASSWORD, salt, &token),
            fernet(PASSWORD, salt, "a~s3cret%of.the_registration"),
        );
        self.proxy_config().replace("client_secret = a~s3cret%of.the_registration\n", &sealed)
    }

    /// Runs `import`, as somebody without a terminal.
    fn import(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program(&self.config());
        command.arg("import").args(arguments).env("SSL_CERT_FILE", self.file("ca.pem"));
        command
    }

    /// Everything that lies there, with its contents.
    fn everything(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(self.folder.path()).unwrap().map(|f| f.unwrap().path()).collect();
        files.sort();
        files.into_iter().map(|file| (file.clone(), std::fs::read(file).unwrap_or_default())).collect()
    }
}

/// As Python's `cryptography` seals with a password.
pub fn fernet(password: &str, salt: [u8; 16], text: &str) -> String {
    let mut key = [0; 32];
    let iterations = 1000.try_into().unwrap();
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut key);
    let (signing, encryption) = key.split_at(16);
    let (iv, mut body) = ([3; 16], text.as_bytes().to_vec());
    let cipher = UnboundCipherKey::new(&AES_128, encryption).and_then(PaddedBlockEncryptingKey::cbc_pkcs7).unwrap();
    cipher.less_safe_encrypt(&mut body, EncryptionContext::Iv128(FixedLength::from(iv))).unwrap();
    let mut token = [&[0x80; 1][..], &[0; 8], &iv, &body].concat();
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, signing), &token);
    token.extend_from_slice(tag.as_ref());
    URL_SAFE.encode(token)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What was said, after it went well, or after it did not.
fn said(output: &Output, code: i32) -> String {
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

fn mode(file: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).unwrap().permissions().mode() & 0o777
}

/// Starts the relay, and has a mail leave through the mailbox.
async fn mail_leaves(scene: Scene) {
    let scene = blocking(move || {
        let config = std::fs::read_to_string(scene.config()).unwrap();
        let door =
            config.lines().find_map(|line| line.strip_prefix("address = \"").filter(|line| !line.ends_with(":0\"")));
        let door = door.unwrap().trim_end_matches('"').parse().unwrap();
        let mut daemon = Daemon::at(scene.config(), door, scene.file("stderr"));
        daemon.start(&[("SSL_CERT_FILE", scene.file("ca.pem").to_str().unwrap())]);
        Client::greeted(daemon.door).submit(ERP, &["you@example.com"], MAIL);
        (scene, daemon)
    });
    let (scene, mut daemon) = scene.await;
    let waited = tokio::time::timeout(crate::support::PATIENCE, scene.simulator.wait_for_accepted(1)).await;
    assert!(waited.is_ok(), "{}", daemon.said());
    assert!(scene.simulator.accepted()[0].mailbox.eq_ignore_ascii_case(ERP));
    blocking(move || assert_eq!(daemon.terminate(), Some(0))).await;
    scene.simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_leaves_with_a_sign_in_of_email_oauth2_proxy_and_its_file_stays_as_it_was() {
    let scene = Scene::new().await;
    let scene = blocking(move || {
        let mine = scene.empty_config();
        let theirs = scene.signed_in_proxy_config().replace('\n', "\r\n");
        let file = scene.write("emailproxy.config", &format!("\u{feff}{theirs}"));
        let password = scene.write("password", &format!("wrong\n{PASSWORD}\n"));
        let arguments = ["email-oauth2-proxy", file.to_str().unwrap(), "--password-file", password.to_str().unwrap()];
        let first = said(&scene.import(&arguments), 0);
        for part in [
            "erp@contoso.com: taken over, signed in as erp@contoso.com",
            "1 account added to",
            "secrets/erp@contoso.com.client-secret (mode 0600)",
            "Until now it was email-oauth2-proxy at 127.0.0.1:1587.",
            "    [[listener]]\n    address = \"127.0.0.1:1587\"\n",
            "whoever reads mail",
        ] {
            assert!(first.contains(part), "{part} is not in {first}");
        }
        for secret in ["s3cret", "hunter2"] {
            assert!(!first.contains(secret), "{first}");
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("\u{feff}{theirs}"));
        let config = std::fs::read_to_string(scene.config()).unwrap();
        assert!(config.starts_with(&mine) && !config.contains("s3cret"), "{config}");
        assert_eq!(mode(&scene.file("data/secrets/erp@contoso.com.client-secret")), 0o600);

        let again = said(&scene.import(&arguments), 0);
        assert!(again.contains("erp@contoso.com: already there with a sign-in, nothing was changed"), "{again}");
        assert_eq!(std::fs::read_to_string(scene.config()).unwrap(), config);
        scene
    });
    mail_leaves(scene.await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_leaves_with_a_token_file_of_sasl_xoauth2() {
    let scene = Scene::new().await;
    let refresh = scene.simulator.issue_refresh_token(ERP);
    let access = scene.simulator.issue_access_token(ERP);
    let scene = blocking(move || {
        scene.empty_config();
        let token = format!(
            "{{\n\t\"access_token\" : \"{access}\",\n\t\"expiry\" : \"0\",\n\t\"refresh_token\" : \"{refresh}\"\n}}"
        );
        let file = scene.write("token", &token);
        let config = format!(
            "{{\"client_id\": \"{}\", \"client_secret\": \"a~s3cret%of.the_registration\", \"token_endpoint\": \"{}\", \"ca_bundle_file\": \"{}\"}}",
            Options::default().client_id,
            scene.simulator.token_url(),
            scene.file("ca.pem").display()
        );
        let config = scene.write("sasl-xoauth2.conf", &config);
        let line = format!("[localhost]:{} {ERP}:{}\n", scene.simulator.smtp_addr().port(), file.display());
        let table = scene.write("sasl_passwd", &line);
        let arguments = [
            "sasl-xoauth2",
            file.to_str().unwrap(),
            "--config-file",
            config.to_str().unwrap(),
            "--sasl-passwd",
            table.to_str().unwrap(),
        ];
        let before = scene.everything();
        let dry: Vec<&str> = arguments.iter().copied().chain(["--dry-run"]).collect();
        let rehearsed = said(&scene.import(&dry), 0);
        assert!(
            rehearsed.contains("would be added") && rehearsed.contains("[[account]]\nmailbox = \"erp@contoso.com\"")
        );
        assert!(!rehearsed.contains("s3cret%"), "{rehearsed}");
        assert!(scene.everything() == before, "a rehearsal writes nothing");

        let first = said(&scene.import(&arguments), 0);
        assert!(first.contains("erp@contoso.com: taken over, signed in as erp@contoso.com"), "{first}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), token);
        let again = said(&scene.import(&arguments), 0);
        assert!(again.contains("already there"), "{again}");
        scene
    });
    mail_leaves(scene.await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_relay_is_told_of_the_account_and_takes_the_sign_in() {
    let scene = Scene::new().await;
    let mut daemon = Daemon::prepare(&scene.simulator, &scene.folder).await;
    let (scene, mut daemon) = blocking(move || {
        // One of the two accounts is only in the other program.
        let both = std::fs::read_to_string(&daemon.config).unwrap();
        let (start, second) = both.rsplit_once("[[account]]").unwrap();
        std::fs::write(&daemon.config, format!("{start}{}", &second[second.find("[queue]").unwrap()..])).unwrap();
        daemon.start(&[("SSL_CERT_FILE", scene.file("ca.pem").to_str().unwrap())]);
        let file = scene.write("emailproxy.config", &scene.signed_in_proxy_config());
        let password = scene.write("password", PASSWORD);
        let arguments = ["email-oauth2-proxy", file.to_str().unwrap(), "--password-file", password.to_str().unwrap()];
        let taken = said(&scene.import(&arguments), 0);
        assert!(taken.contains("erp@contoso.com: taken over, signed in as erp@contoso.com"), "{taken}");
        let again = said(&scene.import(&arguments), 0);
        assert!(again.contains("already there with a sign-in"), "{again}");
        Client::greeted(daemon.door).submit(ERP, &["you@example.com"], MAIL);
        (scene, daemon)
    })
    .await;
    let waited = tokio::time::timeout(crate::support::PATIENCE, scene.simulator.wait_for_accepted(1)).await;
    assert!(waited.is_ok(), "{}", daemon.said());
    blocking(move || assert_eq!(daemon.terminate(), Some(0))).await;
    scene.simulator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_email_oauth2_proxy_has_written_itself_is_taken_over() {
    let Some(venv) = unpacked("emailproxy") else { return };
    let scene = Scene::new().await;
    let refresh = scene.simulator.issue_refresh_token(ERP);
    let scene = blocking(move || {
        scene.empty_config();
        let file = scene.write("emailproxy.config", &scene.proxy_config());
        let mut python = Command::new(venv.join("bin/python"));
        python.arg(script("emailproxy_config.py")).arg(&file).args([&refresh, ERP, PASSWORD]);
        clients::run(python.stdin(Stdio::null()));
        let theirs = std::fs::read_to_string(&file).unwrap();
        assert!(theirs.contains("client_secret_encrypted = ") && !theirs.contains("a~s3cret%"), "{theirs}");
        let password = scene.write("password", PASSWORD);
        let arguments = ["email-oauth2-proxy", file.to_str().unwrap(), "--password-file", password.to_str().unwrap()];
        let taken = said(&scene.import(&arguments), 0);
        assert!(taken.contains("erp@contoso.com: taken over, signed in as erp@contoso.com"), "{taken}");
        assert_eq!(std::fs::read_to_string(&file).unwrap(), theirs);
        scene
    });
    mail_leaves(scene.await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_typed_without_being_shown_and_may_be_typed_again() {
    let Some(python) = clients::client("python3") else { return };
    let scene = Scene::new().await;
    blocking(move || {
        scene.empty_config();
        let file = scene.write("emailproxy.config", &scene.signed_in_proxy_config());
        let question = format!("Password with which programs log in to email-oauth2-proxy as {ERP}");
        let dialogue = [&question, "not-this-one", &question, PASSWORD, "--"];
        let import = scene.command(&["email-oauth2-proxy", file.to_str().unwrap()]);
        let mut terminal = Command::new(python);
        terminal.arg(script("at_a_terminal.py")).args(dialogue).arg(import.get_program()).args(import.get_args());
        let shown = said(&terminal.env("SSL_CERT_FILE", scene.file("ca.pem")).output().unwrap(), 0);
        assert!(shown.contains("That is not the password of erp@contoso.com."), "{shown}");
        assert!(shown.contains("erp@contoso.com: taken over, signed in as erp@contoso.com"), "{shown}");
        assert!(!shown.contains("not-this-one") && !shown.contains("hunter2"), "{shown}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_root_makes_in_the_data_folder_belongs_to_the_relays_user() {
    use std::os::unix::fs::{MetadataExt, chown};
    const SOMEBODY: u32 = 65534;
    let scene = Scene::new().await;
    blocking(move || {
        scene.empty_config();
        let data = scene.file("data");
        std::fs::create_dir(&data).unwrap();
        if chown(&data, Some(SOMEBODY), Some(SOMEBODY)).is_err() {
            return clients::left_out_without("other user", "it takes root");
        }
        let file = scene.write("emailproxy.config", &scene.signed_in_proxy_config());
        let password = scene.write("password", PASSWORD);
        said(
            &scene.import(&[
                "email-oauth2-proxy",
                file.to_str().unwrap(),
                "--password-file",
                password.to_str().unwrap(),
            ]),
            0,
        );
        let mut folders = vec![data];
        let mut files = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let metadata = entry.metadata().unwrap();
                assert_eq!(metadata.uid(), SOMEBODY, "{}", entry.path().display());
                files += 1;
                if metadata.is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        assert!(files > 4, "the queue, its key, a secret");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_has_a_sentence_and_writes_nothing() {
    let scene = Scene::new().await;
    blocking(move || {
        scene.empty_config();
        let good = scene.signed_in_proxy_config();
        let cut = &good[..good.find("refresh_token = ").unwrap() + 50];
        let none = scene.proxy_config();
        scene.write("password", PASSWORD);
        scene.write("wrong", "hunter2\n");
        let tokens = "{\"refresh_token\": \"x\", \"user\": \"erp@contoso.com\", \"client_id\": \"x\"}";
        let cases: [(&str, &str, &[&str], &str); 12] = [
            ("email-oauth2-proxy", &good, &["--password-file", "wrong"], "the password is not the one"),
            ("email-oauth2-proxy", &good, &[], "no password was given"),
            ("email-oauth2-proxy", cut, &["--password-file", "password"], "cut off or damaged"),
            ("email-oauth2-proxy", &none, &["--password-file", "password"], "nobody is signed in there"),
            ("email-oauth2-proxy", "[lms]\nx = %(y)s\n", &[], "it has [lms]"),
            ("email-oauth2-proxy", tokens, &[], "is no configuration file of email-oauth2-proxy"),
            (
                "email-oauth2-proxy",
                &good,
                &["--mailbox", "who@contoso.com"],
                "has no account who@contoso.com; it has erp@contoso.com",
            ),
            ("email-oauth2-proxy", &good, &["--cache-store", "aws:x"], "AWS Secrets Manager"),
            ("sasl-xoauth2", &tokens[..20], &[], "is cut off"),
            ("sasl-xoauth2", &good, &[], "is no JSON (line 1)"),
            ("sasl-xoauth2", "{\"user\": \"erp@contoso.com\"}", &[], "has no refresh_token"),
            ("sasl-xoauth2", "{\"refresh_token\": \"x\"}", &["--config-file", "nowhere"], "there is no file nowhere"),
        ];
        for (from, theirs, options, says) in cases {
            scene.write("theirs", theirs);
            let before = scene.everything();
            let mut command = scene.command(&[from, "theirs"]);
            let output = command.args(options).current_dir(scene.folder.path()).output().unwrap();
            let said = said(&output, 1);
            assert!(said.contains(says), "{says:?} is not in {said:?}");
            assert!(!said.contains("hunter2") && !said.contains("s3cret"), "{said}");
            assert_eq!(said.trim_end().lines().count(), 1, "one line, not {said:?}");
            assert!(scene.everything() == before, "something was written: {said}");
        }
        for file in ["nowhere", "."] {
            let output =
                scene.command(&["email-oauth2-proxy", file]).current_dir(scene.folder.path()).output().unwrap();
            assert!(said(&output, 1).contains(&format!(" {file}")));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_account_that_cannot_be_had_does_not_stop_the_others() {
    let scene = Scene::new().await;
    blocking(move || {
        scene.empty_config();
        let other = "[lms@contoso.com]\ntoken_url = https://login.microsoftonline.com/contoso.com/oauth2/v2.0/token\nclient_id = x\n\n";
        let theirs = scene.signed_in_proxy_config().replace("[emailproxy]", &format!("{other}[emailproxy]"));
        let file = scene.write("emailproxy.config", &theirs);
        scene.write("password", PASSWORD);
        let mut command = scene.command(&["email-oauth2-proxy", file.to_str().unwrap(), "--password-file", "password"]);
        let said = said(&command.current_dir(scene.folder.path()).output().unwrap(), 1);
        assert!(said.contains("lms@contoso.com: could not be taken over: nobody is signed in there"), "{said}");
        assert!(said.contains("erp@contoso.com: taken over"), "{said}");
        assert!(!std::fs::read_to_string(scene.config()).unwrap().contains("lms@contoso.com"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_that_cannot_be_tried_is_kept_and_one_that_is_refused_is_told() {
    let scene = Scene::new().await;
    let scene = blocking(move || {
        scene.empty_config();
        let file = scene.write("emailproxy.config", &scene.signed_in_proxy_config());
        scene.simulator.revoke_sign_ins(ERP);
        let arguments = ["email-oauth2-proxy", file.to_str().unwrap(), "--password-file", "-"];
        let import = |scene: &Scene| {
            let password = std::fs::File::open(scene.write("password", PASSWORD)).unwrap();
            scene.command(&arguments).stdin(password).output().unwrap()
        };
        let refused = said(&import(&scene), 1);
        assert!(
            refused.contains("its sign-in could not be taken over") && refused.contains("AADSTS50173"),
            "{refused}"
        );
        assert!(refused.contains("xoauth2-relay login erp@contoso.com"), "{refused}");
        assert!(
            !refused.contains("erp@contoso.com: could not") && !refused.contains("nothing was changed"),
            "{refused}"
        );

        scene.write("emailproxy.config", &scene.signed_in_proxy_config());
        scene.simulator.fault(Fault::row("http-5xx").unwrap());
        let untried = said(&import(&scene), 0);
        assert!(untried.contains("nobody knows yet whether its sign-in works"), "{untried}");
        scene.simulator.clear_faults();
        scene
    });
    mail_leaves(scene.await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_not_there_is_made_and_one_that_cannot_be_written_is_printed() {
    let scene = Scene::new().await;
    blocking(move || {
        let file = scene.write("emailproxy.config", &scene.signed_in_proxy_config());
        scene.write("password", PASSWORD);
        let arguments = ["email-oauth2-proxy", file.to_str().unwrap(), "--password-file", "password"];
        let import = |config: &Path, data: &str| {
            let mut command = program(config);
            command.arg("import").args(arguments).current_dir(scene.folder.path());
            command.env("SSL_CERT_FILE", scene.file("ca.pem")).env("XOAUTH2_RELAY__DATA_DIR", scene.file(data));
            command.output().unwrap()
        };
        // A folder in which not even root can make a file.
        let printed = said(&import(Path::new("/proc/relay.toml"), "data-1"), 1);
        assert!(printed.contains("/proc/relay.toml cannot be written"), "{printed}");
        assert!(
            printed.contains("by hand") && printed.contains("[[account]]\nmailbox = \"erp@contoso.com\""),
            "{printed}"
        );
        assert!(!printed.contains("s3cret%"), "{printed}");

        let config = scene.file("etc/relay.toml");
        let made = said(&import(&config, "data-2"), 0);
        assert!(made.contains("1 account written to the new file"), "{made}");
        assert_eq!(mode(&config), 0o644);
        let checked = program(&config).arg("check-config").output().unwrap();
        assert!(checked.status.success(), "{}", text(&checked.stderr));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_keeps_its_mode_and_a_wrong_one_is_not_touched() {
    use std::os::unix::fs::PermissionsExt;
    let scene = Scene::new().await;
    blocking(move || {
        let mine = scene.empty_config();
        let file = scene.write("emailproxy.config", &scene.signed_in_proxy_config());
        let password = scene.write("password", PASSWORD);
        let arguments = ["email-oauth2-proxy", file.to_str().unwrap(), "--password-file", password.to_str().unwrap()];
        scene.write("relay.toml", &format!("colour = \"red\"\n{mine}"));
        let wrong = said(&scene.import(&arguments), 1);
        assert!(wrong.contains("relay.toml:1: colour") && wrong.contains("nothing was changed"), "{wrong}");
        assert!(!scene.file("data").exists());

        // Behind a link, with a mode of its own.
        let real = scene.write("real.toml", &mine);
        std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::fs::remove_file(scene.config()).unwrap();
        std::os::unix::fs::symlink(&real, scene.config()).unwrap();
        said(&scene.import(&arguments), 0);
        assert_eq!(mode(&real), 0o640);
        assert!(std::fs::read_link(scene.config()).is_ok());
        assert!(std::fs::read_to_string(&real).unwrap().contains(ERP));
    })
    .await;
}
