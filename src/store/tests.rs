//! The store as a whole: batches, files, ends and failures.

use std::sync::{Arc, Condvar, Mutex};

use futures_util::FutureExt;

use super::engine::{Committed, Engine, Failure, Opened};
use super::samples::{accept, at, id, incoming, lms, recorded};
use super::space::Space;
use super::*;
use crate::message::Body;

/// An engine in memory whose commits do what a test wants first.
struct Odd<F> {
    engine: Box<dyn Engine>,
    first: F,
}

impl<F: FnMut(&[Change]) -> Result<(), Failure> + Send> Engine for Odd<F> {
    fn commit(&mut self, changes: &[Change]) -> Result<Committed, Failure> {
        (self.first)(changes)?;
        self.engine.commit(changes)
    }
}

fn odd(first: impl FnMut(&[Change]) -> Result<(), Failure> + Send + 'static) -> Store {
    let Opened { engine, readers, upkeep } = sqlite::in_memory().unwrap();
    let opened = Opened { engine: Box::new(Odd { engine, first }), readers, upkeep };
    Store::start(opened, Bodies::new(None), Space::new(None)).unwrap()
}

/// A store every commit of which waits at this door.
fn behind(door: &Arc<Door>) -> Store {
    let door = Arc::clone(door);
    odd(move |_| {
        door.pass();
        Ok(())
    })
}

/// A door that commits wait at until it is opened.
#[derive(Default)]
struct Door {
    open: Mutex<bool>,
    changed: Condvar,
}

impl Door {
    fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn pass(&self) {
        drop(self.changed.wait_while(self.open.lock().unwrap(), |open| !*open).unwrap());
    }
}

async fn all(store: &Store) -> Vec<QueueId> {
    store.list(None, 10_000).await.unwrap().iter().map(|stored| stored.id).collect()
}

async fn large(store: &Store, n: u32, size: usize) -> Incoming {
    let mut incoming = incoming(n, &["a@example.com"]);
    let mut writer = store.bodies().create(incoming.id).await.unwrap();
    writer.write(&vec![b'x'; size]).await.unwrap();
    incoming.body = writer.finish().await.unwrap();
    incoming.size = size as u64;
    incoming
}

#[tokio::test]
async fn whoever_waits_together_shares_one_sync() {
    let door = Arc::new(Door::default());
    let store = behind(&door);
    // Unconstrained: 200 steps are more than tokio lets one task do at a time.
    let commit = |n| tokio::task::unconstrained(store.commit(accept(n, &["a@example.com"])));
    let mut commits: Vec<_> = (0..200).map(|n| Box::pin(commit(n))).collect();
    for commit in &mut commits {
        assert!(commit.now_or_never().is_none(), "handed over, and waiting for the sync");
    }
    door.open();
    for commit in commits {
        commit.await.unwrap();
    }
    assert_eq!(all(&store).await.len(), 200);
    assert!(store.batches() <= 3, "{} transactions for 200 changes", store.batches());
}

#[tokio::test]
async fn one_faulty_change_does_not_fail_the_others() {
    let door = Arc::new(Door::default());
    let store = behind(&door);
    let numbers = [1, 2, 1, 3, 2];
    let commits = numbers.map(|n| store.commit(accept(n, &["a@example.com"])));
    let opened = async {
        tokio::task::yield_now().await;
        door.open();
    };
    let (committed, ()) = futures_util::future::join(futures_util::future::join_all(commits), opened).await;
    let went: Vec<bool> = committed.iter().map(Result::is_ok).collect();
    assert_eq!(went, [true, true, false, true, false]);
    assert!(matches!(&committed[2], Err(CommitError::Failed(_))));
    assert_eq!(all(&store).await, [id(1), id(2), id(3)]);
}

#[tokio::test]
async fn a_failing_disk_fails_all_that_waits_and_the_writer_lives_on() {
    let mut failures = vec![Err(Failure::Broken("disk I/O error".to_owned()))];
    let store = odd(move |_| failures.pop().unwrap_or(Ok(())));
    let failed = store.commit(accept(1, &["a@example.com"])).await;
    assert_eq!(failed, Err(CommitError::Failed("disk I/O error".to_owned())));
    store.commit(accept(1, &["a@example.com"])).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_mail_but_not_what_became_of_it() {
    let door = Arc::new(Door::default());
    let store = odd({
        let door = Arc::clone(&door);
        move |changes| {
            let is_mail = |change: &Change| matches!(change, Change::Accept(incoming) if incoming.id > id(1));
            if !changes.iter().any(is_mail) {
                return Ok(());
            }
            door.pass();
            Err(Failure::Full)
        }
    });
    store.commit(accept(1, &["a@example.com"])).await.unwrap();
    let refused = store.commit(accept(2, &["a@example.com"]));
    let recorded = store.commit(recorded(1, 10, &[(0, RecipientState::Accepted)], Next::Archive));
    let opened = async {
        tokio::task::yield_now().await;
        door.open();
    };
    let (refused, recorded, ()) = futures_util::future::join3(refused, recorded, opened).await;
    assert_eq!((refused, recorded), (Err(CommitError::Full), Ok(())));
    assert!(store.archived(id(1)).await.unwrap().is_some());
}

#[tokio::test]
async fn a_database_that_may_not_grow_is_full_and_goes_on_when_it_may() {
    let folder = tempfile::tempdir().unwrap();
    let (opened, limit) = sqlite::open_with_limit(&folder.path().join("queue.db")).unwrap();
    let bodies = Bodies::new(Some(folder.path()));
    let store = Store::start(opened, bodies, Space::new(None)).unwrap();
    store.commit(accept(0, &["a@example.com"])).await.unwrap();
    limit(Some(10));
    let mut many = incoming(1, &["a@example.com"]);
    many.body = Body::Inline(vec![0; 1 << 20].into());
    assert_eq!(store.commit(Change::Accept(Box::new(many.clone()))).await, Err(CommitError::Full));
    assert_eq!(all(&store).await, [id(0)]);
    limit(None);
    store.commit(Change::Accept(Box::new(many))).await.unwrap();
    assert_eq!(all(&store).await, [id(0), id(1)]);
}

#[tokio::test]
async fn the_body_file_of_mail_refused_by_a_full_disk_goes() {
    let folder = tempfile::tempdir().unwrap();
    let Opened { engine, readers, upkeep } = sqlite::in_memory().unwrap();
    let engine = Box::new(Odd { engine, first: |_: &[Change]| Err(Failure::Full) });
    let bodies = Bodies::new(Some(folder.path()));
    let store = Store::start(Opened { engine, readers, upkeep }, bodies.clone(), Space::new(None)).unwrap();
    let incoming = large(&store, 1, 100_000).await;
    assert_eq!(bodies.ids().unwrap(), [id(1)]);
    assert_eq!(store.commit(Change::Accept(Box::new(incoming))).await, Err(CommitError::Full));
    assert_eq!(bodies.ids().unwrap(), []);
}

#[tokio::test]
async fn a_writer_that_panics_is_noticed_and_nobody_waits_for_it() {
    let store = odd(|_| panic!("a test wants this"));
    assert_eq!(store.commit(accept(1, &["a@example.com"])).await, Err(CommitError::Closed));
    store.writer_gone().await;
    assert_eq!(store.commit(accept(2, &["a@example.com"])).await, Err(CommitError::Closed));
}

#[tokio::test]
async fn closing_commits_what_was_handed_over_and_refuses_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let commits = (0..25).map(|n| store.commit(accept(n, &["a@example.com"])));
    let (committed, ()) =
        futures_util::future::join(futures_util::future::join_all(commits), store.clone().close()).await;
    assert!(committed.iter().all(Result::is_ok), "all of them were handed over first");
    assert_eq!(store.commit(accept(99, &["a@example.com"])).await, Err(CommitError::Closed));
    assert_eq!(all(&store).await.len(), 25, "it can still be read");
    let log = std::fs::metadata(folder.path().join("queue.db-wal")).map_or(0, |log| log.len());
    assert_eq!(log, 0, "the database file alone is whole");
}

#[tokio::test]
async fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert!(!store.was_running());
    store.commit(Change::Running(true)).await.unwrap();
    store.commit(accept(1, &["a@example.com"])).await.unwrap();
    store.commit(Change::Accept(Box::new(large(&store, 2, 300_000).await))).await.unwrap();
    drop(store);

    let store = Store::open(folder.path()).unwrap();
    assert!(store.was_running(), "it did not end in order");
    assert_eq!(store.sweep().await.unwrap(), 0);
    assert_eq!(all(&store).await, [id(1), id(2)]);
    assert!(matches!(store.body(id(1)).await.unwrap(), Some(Body::Inline(bytes)) if bytes.ends_with(b"body 1\r\n")));
    let Some(Body::File(path)) = store.body(id(2)).await.unwrap() else { panic!("it is a file") };
    assert_eq!(std::fs::read(path).unwrap().len(), 300_000);
    for n in 1..=2 {
        let (stored, body) = store.message_and_body(id(n)).await.unwrap().unwrap();
        assert_eq!(Some(stored), store.message(id(n)).await.unwrap());
        assert_eq!(body, store.body(id(n)).await.unwrap());
    }
    assert_eq!(store.message_and_body(id(3)).await.unwrap(), None);
    assert!(store.next_id(at(-1_000)) > id(2), "larger than any before, even if the clock went back");
}

/// What kill -9 leaves is what is in the files at that moment.
#[tokio::test]
async fn a_copy_taken_at_any_moment_has_all_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    for n in 0..20 {
        store.commit(accept(n, &["a@example.com"])).await.unwrap();
        let copy = tempfile::tempdir().unwrap();
        for name in ["queue.db", "queue.db-wal"] {
            std::fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
        }
        let copy = Store::open(copy.path()).unwrap();
        assert_eq!(all(&copy).await.len(), usize::try_from(n + 1).unwrap());
        copy.close().await;
    }
}

#[tokio::test]
async fn a_body_file_lives_as_long_as_its_message() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    for n in [1, 2] {
        store.commit(Change::Accept(Box::new(large(&store, n, 100_000).await))).await.unwrap();
    }
    let finished = recorded(1, 10, &[(0, RecipientState::Accepted)], Next::Archive);
    store.commit(finished).await.unwrap();
    store.commit(recorded(2, 10, &[], Next::Dead)).await.unwrap();
    let bodies = store.bodies();
    store.close().await;
    assert_eq!(bodies.ids().unwrap(), [id(2)], "a dead letter keeps its body");
}

#[tokio::test]
async fn a_sweep_removes_what_no_message_refers_to() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    store.commit(Change::Accept(Box::new(large(&store, 1, 100_000).await))).await.unwrap();
    large(&store, 2, 100_000).await;
    store.commit(accept(3, &["a@example.com"])).await.unwrap();
    large(&store, 3, 100_000).await;
    std::fs::write(folder.path().join("bodies/README"), "not ours").unwrap();
    assert_eq!(store.sweep().await.unwrap(), 2);
    assert_eq!(store.bodies().ids().unwrap(), [id(1)]);
    assert!(folder.path().join("bodies/README").exists());
}

#[tokio::test]
async fn a_file_of_another_message_is_not_taken_for_its_body() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    let mut swapped = large(&store, 1, 10).await;
    swapped.id = id(2);
    assert!(matches!(store.commit(Change::Accept(Box::new(swapped))).await, Err(CommitError::Failed(_))));
}

#[tokio::test]
async fn ids_rise_within_one_millisecond_and_when_the_clock_goes_back() {
    let store = Store::in_memory(None).unwrap();
    let mut last = store.next_id(at(10));
    for n in 0..10_000 {
        let next = store.next_id(at(10 - n % 2));
        assert!(next > last);
        last = next;
    }
}

#[tokio::test]
async fn all_that_is_old_is_forgotten_by_one_change() {
    let store = Store::in_memory(None).unwrap();
    let notes = (0..1700).map(|n| {
        store.commit(Change::Note(JournalEntry { at: at(n), message: None, account: Some(lms()), text: n.to_string() }))
    });
    futures_util::future::try_join_all(notes).await.unwrap();
    let forget = Change::Forget { journal_before: at(1690), dead_before: at(0), sent_before: at(0) };
    store.commit(forget).await.unwrap();
    assert_eq!(store.recent_journal(2000).await.unwrap().len(), 10);
}

#[test]
fn a_folder_that_cannot_be_is_named_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let Err(refused) = Store::open(&file) else { panic!("it was opened") };
    assert!(refused.to_string().starts_with(&format!("cannot use {}", file.join("bodies").display())), "{refused}");
}

#[tokio::test]
async fn bodies_without_their_queue_are_kept_apart() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("bodies")).unwrap();
    let name = id(1).to_string();
    std::fs::write(folder.path().join("bodies").join(&name), "the only copy").unwrap();
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.sweep().await.unwrap(), 0);
    let names = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
    let aside = names.into_iter().find(|path| path.to_string_lossy().contains("bodies-without-queue")).unwrap();
    assert_eq!(std::fs::read_to_string(aside.join(name)).unwrap(), "the only copy");
    assert!(std::fs::read_dir(folder.path().join("bodies")).unwrap().next().is_none());
}

#[tokio::test]
async fn the_writer_answers_until_it_has_ended_and_writes_nothing_for_it() {
    let store = Store::in_memory(None).unwrap();
    let batches = store.batches();
    assert!(store.answers().await);
    assert_eq!(store.batches(), batches);
    store.clone().close().await;
    assert!(!store.answers().await);
}
