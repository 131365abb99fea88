//! The few values that a command needs which must work whatever else is wrong with the file, or when it may not be read.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::{Environment, check, read_text};

/// What the file says about these, as far as it can be understood; else the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glance {
    /// Where the queue and the drop folder are.
    pub data_dir: PathBuf,
    /// Where `/healthz` answers.
    pub admin: SocketAddr,
    /// The largest message that any listener takes, in octets. No limit if whoever asks may not read the file: the relay knows it.
    pub max_message_size: u64,
    /// The most recipients that any listener takes; likewise.
    pub max_recipients: usize,
}

impl Glance {
    /// Looks at a file. Blocks on the disk.
    pub fn at(path: &Path, environment: &Environment) -> Self {
        // A program of any user may ask, and the file may hold secrets: that it cannot be read is nothing out of the ordinary.
        let text = read_text(path).unwrap_or_default();
        let config = check::at_a_glance(&text, path, environment, super::today());
        // A file that is not there says as much as an empty one; one that is closed says nothing.
        let is_closed = File::open(path).is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied);
        let listeners = if is_closed { Vec::new() } else { config.listeners };
        Self {
            data_dir: config.data_dir,
            admin: config.admin.address,
            max_message_size: listeners.iter().map(|listener| listener.max_message_size).max().unwrap_or(u64::MAX),
            max_recipients: listeners.iter().map(|listener| listener.max_recipients).max().unwrap_or(usize::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glance(text: &str, environment: &Environment) -> Glance {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        std::fs::write(&path, text).unwrap();
        Glance::at(&path, environment)
    }

    #[test]
    fn what_can_be_understood_of_a_broken_file_counts() {
        let text = "data_dir = \"/srv/relay\"\ncolour = \"red\"\n[admin]\naddress = \"127.0.0.1:9\"\n[[account]]\nmailbox = 3\n";
        let seen = glance(text, &Environment::default());
        assert_eq!((seen.data_dir.as_path(), seen.admin), (Path::new("/srv/relay"), "127.0.0.1:9".parse().unwrap()));
        let text = "[[listener]]\naddress = \"127.0.0.1:1\"\nmax_message_size = \"1 MiB\"\nmax_recipients = 7\n";
        let seen = glance(text, &Environment::default());
        assert_eq!((seen.max_message_size, seen.max_recipients), (1 << 20, 7));
    }

    #[test]
    fn without_a_file_the_defaults_and_the_environment_count() {
        let defaults = Glance::at(Path::new("/no/such/file"), &Environment::default());
        assert_eq!(defaults.data_dir, Path::new("/var/lib/xoauth2-relay"));
        assert_eq!(defaults.admin, "127.0.0.1:8025".parse().unwrap());
        let elsewhere = Environment::from([("XOAUTH2_RELAY__DATA_DIR", "/srv/relay")]);
        assert_eq!(Glance::at(Path::new("/no/such/file"), &elsewhere).data_dir, Path::new("/srv/relay"));
        assert_eq!(glance("data_dir = \"/other", &elsewhere).data_dir, Path::new("/srv/relay"));
    }

    #[test]
    fn a_file_that_may_not_be_read_sets_no_limits() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        std::fs::write(&path, "").unwrap();
        assert_eq!(Glance::at(&path, &Environment::default()).max_message_size, 35 << 20);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
        if File::open(&path).is_ok() {
            return; // Nothing is closed to root.
        }
        let seen = Glance::at(&path, &Environment::default());
        assert_eq!((seen.max_message_size, seen.max_recipients), (u64::MAX, usize::MAX));
    }
}
