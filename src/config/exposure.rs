//! Whether others on this machine may read a file.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::statfs;

/// `f_type` of file systems in memory (statfs(2)).
const TMPFS: i64 = 0x0102_1994;
const RAMFS: i64 = 0x8584_58f6;
/// Where container runtimes put secrets, readable for all of a container's users, of whom there is usually one.
const OF_CONTAINERS: [&str; 2] = ["/run/secrets", "/var/run/secrets"];
const OTHERS_READ_OR_WRITE: u32 = 0o006;
const OTHERS_PASS: u32 = 0o001;

/// Whether users who are neither its owner nor in its group can read or write the file. Not so where a folder above it keeps them out, nor in
/// memory or in a container's folder of secrets: systemd, Kubernetes and Docker put files there with modes such as 0444, and keep others
/// out by other means. A group is somebody's decision. A file that cannot be looked at is not seen either.
pub fn seen_by_others(path: &Path) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    let Ok(file) = path.metadata() else { return false };
    // The remedy for a file would shut everybody out of a folder.
    if !file.is_file() || file.mode() & OTHERS_READ_OR_WRITE == 0 || is_kept_by_a_manager(&path) {
        return false;
    }
    let passes = |folder: &Path| folder.metadata().is_ok_and(|folder| folder.mode() & OTHERS_PASS != 0);
    path.ancestors().skip(1).all(passes)
}

fn is_kept_by_a_manager(path: &Path) -> bool {
    // The type of this field differs between systems.
    #[allow(
        clippy::allow_attributes,
        clippy::useless_conversion,
        clippy::unnecessary_cast,
        reason = "the type differs between systems"
    )]
    let is_in_memory = statfs(path).is_ok_and(|volume| [TMPFS, RAMFS].contains(&(volume.f_type as i64)));
    is_in_memory || OF_CONTAINERS.iter().any(|folder| path.starts_with(folder))
}

#[cfg(test)]
mod tests {
    use std::fs::{Permissions, create_dir, set_permissions, write};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path, mode: u32) {
        set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_file_is_seen_if_its_mode_and_all_folders_above_it_let_others_pass() {
        // Below the build's own folder: where others cannot come there at all, there is nothing to see.
        let outside = tempfile::tempdir_in("/var/tmp").unwrap();
        mode(outside.path(), 0o755);
        let folder = outside.path().join("folder");
        create_dir(&folder).unwrap();
        let file = folder.join("key");
        write(&file, "key").unwrap();
        for (of_folder, of_file, is_seen) in [
            (0o755, 0o644, true),
            (0o751, 0o604, true),
            (0o755, 0o602, true),
            (0o755, 0o640, false),
            (0o755, 0o600, false),
            (0o750, 0o644, false),
            (0o700, 0o666, false),
        ] {
            mode(&folder, of_folder);
            mode(&file, of_file);
            let expected = is_seen && !is_kept_by_a_manager(&file);
            assert_eq!(seen_by_others(&file), expected, "{of_folder:o} {of_file:o}");
        }
        assert!(!seen_by_others(&folder.join("missing")));
        mode(&folder, 0o777);
        assert!(!seen_by_others(&folder), "a folder is no file");
    }

    #[test]
    fn what_a_manager_keeps_is_not_told() {
        assert!(is_kept_by_a_manager(Path::new("/run/secrets/key")));
        assert!(!is_kept_by_a_manager(Path::new("/run/secrets-of-mine/key")));
        if Path::new("/dev/shm").is_dir() {
            let folder = tempfile::tempdir_in("/dev/shm").unwrap();
            mode(folder.path(), 0o755);
            let file = folder.path().join("key");
            write(&file, "key").unwrap();
            mode(&file, 0o444);
            let is_in_memory = statfs(folder.path()).unwrap().f_type as i64 == TMPFS;
            assert_eq!(seen_by_others(&file), !is_in_memory);
        }
    }
}
