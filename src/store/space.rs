//! Free space on the volume of the data folder.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A measurement serves for this long: a disk does not fill up in less, given that the reserve is large.
const FRESH: Duration = Duration::from_secs(1);

/// What a volume has.
#[derive(Clone, Copy, Debug)]
struct Room {
    /// What the relay's user may still write, in octets.
    free: u64,
    /// All of it, in octets.
    total: u64,
}

impl Room {
    /// On a small volume 5 % of it is reserve enough.
    fn is_enough(self, reserve: u64) -> bool {
        self.free >= reserve.min(self.total / 20)
    }
}

/// Measures one volume, at most once a second.
#[derive(Debug)]
pub struct Space {
    folder: Option<PathBuf>,
    last: Mutex<Option<(Instant, Room)>>,
}

impl Space {
    /// The volume of `folder`; `None`: memory, where there is always room.
    pub fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, last: Mutex::new(None) }
    }

    /// Whether at least `reserve` octets are free, or 5 % of the volume if that is less. A volume that cannot be measured has room:
    /// the commit will tell.
    pub fn has_room(&self, reserve: u64) -> bool {
        let Some(folder) = &self.folder else { return true };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, room)) = last.filter(|(at, _)| at.elapsed() < FRESH) {
            return room.is_enough(reserve);
        }
        match rustix::fs::statvfs(folder) {
            Ok(volume) => {
                let room = Room { free: volume.f_bavail * volume.f_frsize, total: volume.f_blocks * volume.f_frsize };
                *last = Some((Instant::now(), room));
                room.is_enough(reserve)
            }
            Err(error) => {
                tracing::warn!(%error, folder = %folder.display(), "could not measure the free space");
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_what_was_asked_for_or_a_twentieth_of_a_small_volume() {
        const GIB: u64 = 1 << 30;
        for (free, total, reserve, enough) in [
            (2 * GIB, 100 * GIB, GIB, true),
            (GIB / 2, 100 * GIB, GIB, false),
            (GIB / 2, 8 * GIB, GIB, true),
            (GIB / 4, 8 * GIB, GIB, false),
            (0, 8 * GIB, 0, true),
        ] {
            assert_eq!(Room { free, total }.is_enough(reserve), enough, "{free} of {total}, reserve {reserve}");
        }
    }

    #[test]
    fn a_real_volume_is_measured_and_memory_has_room() {
        let folder = tempfile::tempdir().unwrap();
        assert!(Space::new(Some(folder.path().to_owned())).has_room(0));
        assert!(Space::new(None).has_room(u64::MAX));
    }
}
