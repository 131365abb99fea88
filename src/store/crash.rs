//! Named places where a debug build can be made to die, for the tests that kill it there and start it again.
//!
//! `XOAUTH2_RELAY_CRASH_AT=name` aborts at the first time the place is passed, `name:n` at the n-th. With `panic/` in front it panics instead, as a
//! fault in the relay would. A release build has none of it.

/// After a large body and its folder were synced, before anything refers to it.
pub const AFTER_BODY_SYNC: &str = "after_body_sync";
/// A batch is taken, nothing of it written.
pub const BEFORE_COMMIT: &str = "before_commit";
/// The batch is on disk, nobody has heard of it.
pub const AFTER_COMMIT_BEFORE_ANSWER: &str = "after_commit_before_answer";
/// Finished messages are gone from the database, their body files are not.
pub const BEFORE_BODY_REMOVAL: &str = "before_body_removal";
/// Files of the drop folder have the names of their messages, nothing of them is in the queue.
pub const AFTER_PICKUP_RENAME: &str = "after_pickup_rename";
/// A message from the drop folder is in the queue, its file is still there.
pub const AFTER_PICKUP_COMMIT: &str = "after_pickup_commit";
/// A new key is in the key file, in front of the old one; nothing is sealed with it.
pub const AFTER_NEW_KEY: &str = "after_new_key";
/// Everything is sealed with the new key; the old one is still in the key file.
pub const BEFORE_OLD_KEY_REMOVAL: &str = "before_old_key_removal";

/// A stored sign-in was read, the token endpoint was not asked.
pub const AFTER_SIGN_IN_LOAD: &str = "after_sign_in_load";
/// The token endpoint has answered with a new refresh token, nothing of it is on disk.
pub const BEFORE_SIGN_IN_WRITE: &str = "before_sign_in_write";
/// The new refresh token is on disk, nobody relies upon it.
pub const AFTER_SIGN_IN_WRITE: &str = "after_sign_in_write";

/// Dies here if the environment says so.
#[cfg(debug_assertions)]
pub fn point(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: OnceLock<Option<(bool, String, AtomicU64)>> = OnceLock::new();
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("XOAUTH2_RELAY_CRASH_AT").ok()?;
        let (name, times) = text.split_once(':').unwrap_or((&text, "1"));
        let panics = name.starts_with("panic/");
        let name = name.trim_start_matches("panic/").to_owned();
        Some((panics, name, AtomicU64::new(times.parse().unwrap_or(1))))
    });
    let Some((panics, wanted, left)) = wanted else { return };
    if wanted == name && left.fetch_sub(1, Ordering::Relaxed) == 1 {
        assert!(!panics, "dying at {name}, as XOAUTH2_RELAY_CRASH_AT says");
        eprintln!("dying at {name}, as XOAUTH2_RELAY_CRASH_AT says");
        std::process::abort();
    }
}

/// Nothing: this is a release build.
#[cfg(not(debug_assertions))]
#[inline]
pub fn point(_name: &str) {}

#[cfg(all(test, debug_assertions))]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::path::Path;
    use std::process::Command;

    use crate::message::{Body, QueueId};
    use crate::store::samples::{accept, id, incoming, recorded};
    use crate::store::{Change, Next, RecipientState, Store};

    const FOLDER: &str = "XOAUTH2_RELAY_TEST_CRASH_FOLDER";

    /// What the process that is to die does: mail 1 inline, mail 2 in a file, mail 2 finished, mail 3. Run only by the test below.
    #[tokio::test]
    async fn the_one_that_dies() {
        let Some(folder) = std::env::var_os(FOLDER) else { return };
        let store = Store::open(Path::new(&folder)).unwrap();
        store.commit(accept(1, &["a@example.com"])).await.unwrap();
        let mut large = incoming(2, &["a@example.com"]);
        large.body = store.bodies().create(id(2)).await.unwrap().finish().await.unwrap();
        store.commit(Change::Accept(Box::new(large))).await.unwrap();
        store.commit(recorded(2, 10, &[(0, RecipientState::Accepted)], Next::Archive)).await.unwrap();
        store.commit(accept(3, &["a@example.com"])).await.unwrap();
        store.close().await;
    }

    /// Dies at `place`; what the next start finds: unfinished messages, archived ones, body files swept.
    async fn after_dying_at(place: &str) -> (Vec<QueueId>, bool, u64) {
        let folder = tempfile::tempdir().unwrap();
        let died = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::crash::tests::the_one_that_dies"])
            .env(FOLDER, folder.path())
            .env("XOAUTH2_RELAY_CRASH_AT", place)
            .output()
            .unwrap();
        assert_eq!(died.status.signal(), Some(6), "{place} was not passed: {died:?}");
        let store = Store::open(folder.path()).unwrap();
        let swept = store.sweep().await.unwrap();
        let left = store.list(None, 10).await.unwrap();
        for stored in &left {
            match store.body(stored.id).await.unwrap().unwrap() {
                Body::Inline(bytes) => assert_eq!(bytes.len() as u64, stored.size),
                Body::File(path) => assert!(path.exists(), "{place}: a message without its body"),
            }
        }
        (left.iter().map(|stored| stored.id).collect(), store.archived(id(2)).await.unwrap().is_some(), swept)
    }

    #[tokio::test]
    async fn whatever_the_moment_nothing_acknowledged_is_lost_and_nothing_is_left_over() {
        for (place, left, is_archived, swept) in [
            ("before_commit:1", vec![], false, 0),
            ("after_commit_before_answer:1", vec![id(1)], false, 0),
            ("after_body_sync", vec![id(1)], false, 1),
            ("before_commit:2", vec![id(1)], false, 1),
            ("after_commit_before_answer:2", vec![id(1), id(2)], false, 0),
            ("before_commit:3", vec![id(1), id(2)], false, 0),
            ("after_commit_before_answer:3", vec![id(1)], true, 1),
            ("after_commit_before_answer:4", vec![id(1), id(3)], true, 0),
        ] {
            let (found, archived, files) = after_dying_at(place).await;
            assert_eq!((found, archived), (left, is_archived), "{place}");
            // In the last case the file may be gone already or not.
            assert!(files == swept || place.ends_with(":4"), "{place}: {files}");
        }
        // The upkeep runs beside the writer: mail 3 may be in or not.
        let (found, archived, files) = after_dying_at("before_body_removal").await;
        assert!(found.starts_with(&[id(1)]) && archived);
        assert_eq!(files, 1);
    }
}
