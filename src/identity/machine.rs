//! The machine, recognised without being named.

use std::path::Path;

use blake2::{Blake2s256, Digest};

/// Where systemd and D-Bus keep the machine's id (machine-id(5)).
const FILE: &str = "/etc/machine-id";

/// A mark of this machine: always the same here, another one elsewhere, and of no use to whoever wants the id itself, which machine-id(5)
/// asks to be kept from others. `None`: it has none, as in many containers.
pub fn mark() -> Option<String> {
    mark_of(Path::new(FILE))
}

fn mark_of(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    let id = text.trim();
    // As yet unset; "uninitialized" is said during the first boot of an image.
    if id.is_empty() || id == "uninitialized" {
        return None;
    }
    let digest = Blake2s256::new().chain_update(b"xoauth2-relay machine\0").chain_update(id.as_bytes()).finalize();
    Some(digest.iter().take(16).fold(String::new(), |hex, octet| format!("{hex}{octet:02x}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_has_a_mark_that_does_not_tell_its_id() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("machine-id");
        let mark = |text: &str| {
            std::fs::write(&file, text).unwrap();
            mark_of(&file)
        };
        let one = mark("8b6a1f5e4c3d4a2b9e0f1a2b3c4d5e6f\n").unwrap();
        assert_eq!(mark("8b6a1f5e4c3d4a2b9e0f1a2b3c4d5e6f"), Some(one.clone()));
        assert_ne!(mark("00000000000000000000000000000001\n"), Some(one.clone()));
        assert!(one.len() == 32 && !one.contains("8b6a1f5e"));
        for nothing in ["", "\n", "uninitialized\n"] {
            assert_eq!(mark(nothing), None);
        }
        assert_eq!(mark_of(Path::new("/nowhere/machine-id")), None);
    }
}
