//! The contract, and what only SQLite has.

use rusqlite::Connection;

use super::*;
use crate::store::contract::Subject;

mod in_a_file {
    use super::*;

    fn subject() -> Subject {
        let folder = tempfile::tempdir().unwrap();
        Subject::new(open(&folder.path().join("queue.db")).unwrap(), folder)
    }

    crate::store::contract::suite!(subject());
}

mod in_memory {
    use super::*;

    fn subject() -> Subject {
        Subject::new(super::super::in_memory().unwrap(), ())
    }

    crate::store::contract::suite!(subject());
}

fn plan(query: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    drop(open(&path).unwrap());
    let connection = Connection::open(path).unwrap();
    let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
    let values = vec![rusqlite::types::Value::Null; explain.parameter_count()];
    let steps = explain.query_map(rusqlite::params_from_iter(values), |row| row.get::<_, String>("detail")).unwrap();
    steps.collect::<rusqlite::Result<Vec<_>>>().unwrap().join("; ")
}

#[test]
fn the_windows_are_read_from_their_index_in_order_and_the_flows_from_it_alone() {
    let window = plan(reader::WINDOW);
    assert_eq!(
        window,
        "SEARCH message USING COVERING INDEX message_by_flow (account=? AND state=? AND lane=? AND app=? AND outside=?)"
    );
    let flows = plan(reader::NEXT_FLOW);
    let expected =
        "SEARCH message USING COVERING INDEX message_by_flow (account=? AND state=? AND (lane,app,outside)>(?,?,?))";
    assert_eq!(flows, expected);
}

#[test]
fn counts_come_from_the_index_alone() {
    assert_eq!(plan(reader::COUNTS), "SCAN message USING COVERING INDEX message_by_flow");
    let accounts = plan(reader::ACCOUNTS);
    assert!(!accounts.contains("SCAN message"), "{accounts}");
    assert!(!accounts.contains("TEMP B-TREE"), "{accounts}");
}

#[test]
fn what_is_forgotten_is_found_by_its_time() {
    for (table, column) in [("journal", "at"), ("sent", "at"), ("archive", "finished_at"), ("message", "dead_at")] {
        let plan = plan(&format!("SELECT rowid FROM {table} WHERE {column} < ?1 ORDER BY {column} LIMIT ?2"));
        assert!(plan.starts_with(&format!("SEARCH {table} USING COVERING INDEX")), "{plan}");
    }
}

#[test]
fn who_is_to_be_told_is_found_by_its_time() {
    let plan = plan(reader::TO_TELL);
    assert!(plan.starts_with("SEARCH recipient USING INDEX recipient_to_tell (tell_at<?)"), "{plan}");
}

#[test]
fn a_newer_schema_is_refused_in_plain_words() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    drop(open(&path).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 7).unwrap();
    let Err(refused) = open(&path) else { panic!("it was opened") };
    let expected = format!(
        "the queue {} was made by a newer xoauth2-relay (its version is 7): install that one again, or restore a backup from \
         before the update",
        path.display()
    );
    assert_eq!(refused.to_string(), expected);
}

/// Every column of every table, and every index.
fn shape(path: &std::path::Path) -> Vec<String> {
    let query = "SELECT tables.name || ' ' || columns.name || ' ' || columns.type || ' ' || columns.\"notnull\" || ' ' || columns.pk
         FROM sqlite_schema AS tables JOIN pragma_table_info(tables.name) AS columns WHERE tables.type = 'table'
         UNION ALL SELECT name || ' ' || coalesce(sql, '') FROM sqlite_schema WHERE type = 'index'";
    let connection = Connection::open(path).unwrap();
    let mut select = connection.prepare(query).unwrap();
    let mut lines: Vec<String> =
        select.query_map([], |row| row.get(0)).unwrap().collect::<rusqlite::Result<_>>().unwrap();
    lines.sort();
    lines
}

#[test]
fn a_queue_of_version_1_is_taken_over_with_its_mail() {
    use crate::message::{Address, Envelope, QueueId, Recipient};
    use crate::store::engine::Found;

    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (folder.path().join("old.db"), folder.path().join("new.db"));
    Connection::open(&old).unwrap().execute_batch(include_str!("version_1.sql")).unwrap();
    for _ in 0..2 {
        let mut opened = open(&old).unwrap();
        let reader = opened.readers[0].as_mut();
        let stored = reader.message(QueueId::from_number(7)).unwrap().unwrap();
        let recipients: Vec<Recipient> =
            ["a@example.com", "b@example.com"].map(|text| Address::parse(text).unwrap().into()).into();
        assert_eq!(stored.envelope, Envelope { recipients, smtputf8: true, ..Envelope::default() });
        assert_eq!(stored.recipients[0].reply.as_deref(), Some("250 2.0.0 OK"));
        assert_eq!((stored.tries, stored.subject.as_deref()), (1, Some("old")));
        assert!(!stored.outside, "nobody has looked yet where it goes");
        let body = reader.body(QueueId::from_number(7)).unwrap();
        assert_eq!(body, Some(Found::Inline(bytes::Bytes::from_static(b"old mail\r\n"))));
        assert_eq!(reader.archived(QueueId::from_number(6)).unwrap().unwrap().recipients.len(), 1);
        assert!(reader.running().unwrap());
    }
    drop(open(&new).unwrap());
    assert_eq!(shape(&old), shape(&new));
}

#[test]
fn foreign_and_damaged_files_are_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE theirs (n)").unwrap();
    let Err(refused) = open(&foreign) else { panic!("it was opened") };
    assert!(refused.to_string().ends_with("it is a database of another program"), "{refused}");

    let text = folder.path().join("text.db");
    std::fs::write(&text, "no database at all ".repeat(1000)).unwrap();
    let Err(refused) = open(&text) else { panic!("it was opened") };
    assert!(refused.to_string().contains("it is damaged"), "{refused}");
}

#[test]
fn every_commit_is_synced_and_none_waits_for_a_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let (_opened, writing) = open_shared(&folder.path().join("queue.db")).unwrap();
    let writing = lock(&writing);
    let pragma = |name: &str| writing.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(pragma("synchronous"), 2, "FULL");
    assert_eq!(pragma("wal_autocheckpoint"), 0);
}

#[test]
fn the_database_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue.db");
    let mut opened = open(&path).unwrap();
    opened.engine.commit(&[crate::store::Change::Running(true)]).unwrap();
    for name in ["queue.db", "queue.db-wal", "queue.db-shm"] {
        let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_long_log_is_begun_anew_while_mail_keeps_coming() {
    use crate::store::samples;

    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(&folder.path().join("queue.db")).unwrap();
    let upkeep = opened.upkeep.as_mut().unwrap();
    let reading = Connection::open(folder.path().join("queue.db")).unwrap();
    for n in 0..300 {
        // Under load the checkpoint never reaches the end of the log; here a reading sees to that.
        reading.execute_batch("BEGIN; SELECT count(*) FROM message;").unwrap();
        let mut incoming = samples::incoming(n, &["a@example.com"]);
        incoming.body = crate::message::Body::Inline(vec![0; 100 * 4096].into());
        opened.engine.commit(&[crate::store::Change::Accept(Box::new(incoming))]).unwrap();
        upkeep.tend();
        reading.execute_batch("COMMIT").unwrap();
        opened.engine.settle();
    }
    let log = std::fs::metadata(folder.path().join("queue.db-wal")).unwrap().len();
    assert!(log < 48 << 20, "the log has {log} octets after 120 MB of mail");
}

#[test]
fn a_log_with_zeros_behind_it_is_read_to_its_end_after_a_crash() {
    use crate::store::samples;

    let folder = tempfile::tempdir().unwrap();
    let mut opened = open(&folder.path().join("queue.db")).unwrap();
    let upkeep = opened.upkeep.as_mut().unwrap();
    for n in 1..=60 {
        let mut incoming = samples::incoming(n, &["a@example.com"]);
        incoming.body = crate::message::Body::Inline(vec![1; 20_000].into());
        opened.engine.commit(&[crate::store::Change::Accept(Box::new(incoming))]).unwrap();
        opened.engine.settle();
        if n == 40 {
            // From here on the log begins anew: frames of its first life stand between its end and the zeros.
            upkeep.tend();
        }
        if n % 10 == 0 {
            let crashed = tempfile::tempdir().unwrap();
            for name in ["queue.db", "queue.db-wal"] {
                std::fs::copy(folder.path().join(name), crashed.path().join(name)).unwrap();
            }
            let log = std::fs::read(crashed.path().join("queue.db-wal")).unwrap();
            assert!(log.ends_with(&[0; 64]), "there are zeros behind the log");
            let mut again = open(&crashed.path().join("queue.db")).unwrap();
            assert_eq!(again.readers[0].last_id().unwrap(), Some(samples::id(n)));
            assert_eq!(again.readers[0].list(None, 100).unwrap().len(), usize::try_from(n).unwrap());
        }
    }
}
