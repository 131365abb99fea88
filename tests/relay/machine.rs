//! A small machine of its own for the mail servers that `tests/all` has unpacked: its processes, its `/etc`, `/usr`, `/var` and `/run`,
//! and their users. They run as on any Debian, nothing of them is installed on this one. Only the network is shared.
//!
//! The first process of its PID namespace is a shell that takes commands until its standard input ends. It ends with the test, however
//! that ends, and the kernel then ends every process of the machine.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::clients::{left_out_without, unpacked};
use crate::support::PATIENCE;

/// Arguments: the folders that lie over `/etc`, those over `/usr`, the one with `var` and `run`. A command's output goes to
/// `/run/said`, its exit status to standard output.
const BOOT: &str = r#"
set -e
mount -t overlay etc -o "lowerdir=$1:/etc" /etc
mount -t overlay usr -o "lowerdir=$2:/usr" /usr
mount --bind "$3/var" /var
mount --bind "$3/run" /run
echo up
set +e
while read -r command; do
    timeout 60 sh -c "$command" </dev/null >/run/said 2>&1
    echo $?
done
"#;

/// Who the servers run as: name and number. Each has a group of its own.
const USERS: [(&str, u32); 4] =
    [("postfix", 20_001), ("Debian-exim", 20_002), ("dovecot", 20_003), ("dovenull", 20_004)];

pub struct Machine {
    shell: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    folder: TempDir,
}

impl Machine {
    /// With these packages of `tests/all`, and these files in `/etc`. `None` if it is to be left out.
    pub fn start(packages: &[&str], etc: &[(&str, String)]) -> Option<Self> {
        let roots: Vec<PathBuf> = packages.iter().map(|package| unpacked(package)).collect::<Option<_>>()?;
        let folder = furnished(etc);
        let own_etc = folder.path().join("etc");
        let over_etc = [own_etc].into_iter().chain(roots.iter().map(|root| root.join("etc")));
        let mut shell = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", BOOT, "sh"])
            .args([joined(over_etc), joined(roots.iter().map(|root| root.join("usr")))])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (commands, answers) = (shell.stdin.take(), BufReader::new(shell.stdout.take().unwrap()));
        let mut machine = Self { shell, commands, answers, folder };
        if machine.answer() == "up" {
            return Some(machine);
        }
        let mut reason = String::new();
        machine.shell.stderr.take().unwrap().read_to_string(&mut reason).unwrap();
        let what = format!("machine of its own for {}", packages.join(" and "));
        left_out_without(
            &what,
            &format!("it takes root and namespaces, and a file system for overlays ({})", reason.trim()),
        );
        None
    }

    /// Runs a command of one line; what it said. It has to succeed.
    pub fn run(&mut self, command: &str) -> String {
        let (status, said) = tokio::task::block_in_place(|| {
            writeln!(self.commands.as_mut().unwrap(), "{command}").unwrap();
            (self.answer(), self.read("run/said"))
        });
        assert!(status == "0", "{command} ended with {status:?}:\n{said}\n{}", self.logs());
        said
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Waits until a command says what is wanted.
    pub async fn until(&mut self, command: &str, is_so: impl Fn(&str) -> bool) -> String {
        let since = Instant::now();
        loop {
            let said = self.run(command);
            if is_so(&said) {
                return said;
            }
            assert!(since.elapsed() < PATIENCE, "{command} still says\n{said}\n{}", self.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Where a path of the machine below `/var`, `/run` or its own `/etc` is on this one.
    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path.trim_start_matches('/'))
    }

    fn read(&self, path: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path(path)).unwrap()).into_owned()
    }

    /// The last that the servers have logged, for the eye.
    pub fn logs(&self) -> String {
        let files = std::fs::read_dir(self.path("var/log")).unwrap().map(|entry| entry.unwrap().path());
        files.filter(|file| file.is_file()).fold(String::new(), |mut logs, file| {
            let text = String::from_utf8_lossy(&std::fs::read(&file).unwrap()).into_owned();
            let lines: Vec<&str> = text.lines().collect();
            let _ = writeln!(logs, "{}:\n{}", file.display(), lines[lines.len().saturating_sub(40)..].join("\n"));
            logs
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.shell.wait();
    }
}

/// The machine's folder, with what its servers expect to be there.
fn furnished(etc: &[(&str, String)]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for part in ["etc", "run", "var/lib", "var/log", "var/mail", "var/spool", "var/tmp"] {
        std::fs::create_dir_all(folder.path().join(part)).unwrap();
    }
    for writable in ["var/log", "var/tmp"] {
        std::fs::set_permissions(folder.path().join(writable), PermissionsExt::from_mode(0o1777)).unwrap();
    }
    let (mut passwd, mut group) = (known("/etc/passwd"), known("/etc/group"));
    for (name, number) in USERS {
        if !is_listed(&passwd, name) {
            let _ = writeln!(passwd, "{name}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin");
        }
        if !is_listed(&group, name) {
            let _ = writeln!(group, "{name}:x:{number}:");
        }
    }
    if !is_listed(&group, "postdrop") {
        group.push_str("postdrop:x:20006:\n");
    }
    let accounts = [("passwd", passwd), ("group", group)];
    for (path, text) in accounts.iter().chain(etc) {
        let path = folder.path().join("etc").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn known(file: &str) -> String {
    std::fs::read_to_string(file).unwrap()
}

fn is_listed(accounts: &str, name: &str) -> bool {
    accounts.lines().any(|line| line.split(':').next() == Some(name))
}

fn joined(folders: impl Iterator<Item = impl AsRef<Path>>) -> String {
    folders.map(|folder| folder.as_ref().to_str().unwrap().to_owned()).collect::<Vec<_>>().join(":")
}
