//! The store against real files.
#![allow(clippy::unwrap_used)]

use std::path::PathBuf;

use banger_proto::failure::{Classified as _, Kind};
use rusqlite::Connection;

use super::*;
use crate::platform::ProcessIdentity;
use crate::vm::record::{RuntimeRecord, Workspace, sample};
use crate::vm::state::VmState;

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("bangerd.db");
    (scratch, path)
}

#[tokio::test]
async fn everything_about_a_vm_is_read_back_as_it_was_written() {
    let (_scratch, path) = scratch();
    let mut record = sample("box");
    {
        let (store, origin) = Store::open(path.clone()).unwrap();
        assert_eq!(origin, Origin::Fresh);
        store.insert_vm(record.clone(), "op-1").await.unwrap();
        assert_eq!(store.vms().await.unwrap(), [record.clone()]);
        let intents = store.intents().await.unwrap();
        assert_eq!((intents[0].action, intents[0].operation_id.as_str()), (Action::Create, "op-1"));

        record.state = VmState::Running;
        record.last_error = "none".into();
        record.runtime = Some(RuntimeRecord {
            process: ProcessIdentity { pid: 1, start_time_ticks: u64::MAX, host_boot_id: "h".into() },
            agent_address: "127.0.0.1:4022".parse().unwrap(),
            ssh_address: Some("127.0.0.1:2222".parse().unwrap()),
        });
        record.workspace = Some(Workspace {
            guest_path: b"/root/\xfe".to_vec(),
            source_path: b"/s".to_vec(),
            head_commit: "c".into(),
            tree_digest: "d".into(),
            prepared_unix_ms: 5,
        });
        store.save_vm(record.clone(), IntentChange::Finish).await.unwrap();
    }
    let (store, origin) = Store::open(path).unwrap();
    assert_eq!(origin, Origin::Existing);
    assert_eq!(store.vms().await.unwrap(), [record.clone()]);
    assert_eq!(store.intents().await.unwrap(), []);
    store.remove_vm(record.id).await.unwrap();
    assert_eq!(store.vms().await.unwrap(), []);
}

#[tokio::test]
async fn a_name_is_reserved_once() {
    let (_scratch, path) = scratch();
    let (store, _) = Store::open(path).unwrap();
    store.insert_vm(sample("box"), "op-1").await.unwrap();
    let error = store.insert_vm(sample("box"), "op-2").await.unwrap_err();
    assert!(error.to_string().contains("reserve the VM \"box\""), "{error}");
    assert_eq!(store.vms().await.unwrap().len(), 1);
    assert_eq!(store.intents().await.unwrap().len(), 1, "the failed one left no intent");
}

#[test]
fn a_file_that_is_no_database_is_refused_by_name_and_left_alone() {
    let (_scratch, path) = scratch();
    let precious = "this is not a database, but it may be precious".repeat(100);
    std::fs::write(&path, &precious).unwrap();
    let error = Store::open(path.clone()).unwrap_err();
    assert!(matches!(error, StoreError::Corrupted { .. }), "{error:?}");
    assert_eq!(error.kind(), Kind::HostNotReady);
    assert!(error.to_string().contains(path.to_str().unwrap()));
    assert!(error.hints()[0].contains("mv "), "{:?}", error.hints());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), precious);
}

#[tokio::test]
async fn damaged_pages_are_found_when_the_store_is_opened() {
    let (_scratch, path) = scratch();
    {
        let (store, _) = Store::open(path.clone()).unwrap();
        for number in 0..50 {
            store.insert_vm(sample(&format!("box-{number}")), "op").await.unwrap();
        }
        store.check().await.unwrap();
    }
    // The thread that closes it last moves everything into the main file and removes the log.
    let log = path.with_extension("db-wal");
    let began = std::time::Instant::now();
    while log.exists() {
        assert!(began.elapsed().as_secs() < 20, "the store was not closed");
        std::thread::yield_now();
    }
    // All but the header page.
    let mut bytes = std::fs::read(&path).unwrap();
    assert!(bytes.len() > 3 * 4096);
    bytes[4096..].fill(0x5a);
    std::fs::write(&path, &bytes).unwrap();
    let error = Store::open(path.clone()).unwrap_err();
    assert!(matches!(error, StoreError::Corrupted { .. }), "{error:?}");
    assert!(path.exists());
}

#[test]
fn what_the_hint_says_makes_the_daemon_start_again() {
    let (scratch, path) = scratch();
    std::fs::write(&path, "garbage".repeat(1000)).unwrap();
    std::fs::write(scratch.path().join("bangerd.db-wal"), "old").unwrap();
    let error = Store::open(path.clone()).unwrap_err();
    let hint = &error.hints()[0];
    let command = hint.split('`').nth(1).unwrap();
    let done = std::process::Command::new("sh").args(["-c", command]).status().unwrap();
    assert!(done.success() || !path.exists(), "{command}");
    assert!(scratch.path().join("bangerd.db.broken").exists());
    assert!(!scratch.path().join("bangerd.db-wal").exists());
    assert_eq!(Store::open(path).unwrap().1, Origin::Fresh);
}

#[test]
fn a_store_of_a_later_version_is_refused() {
    let (_scratch, path) = scratch();
    drop(Store::open(path.clone()).unwrap());
    Connection::open(&path).unwrap().pragma_update(None, "user_version", 999).unwrap();
    let error = Store::open(path).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 999, .. }), "{error:?}");
    assert_eq!(error.kind(), Kind::HostNotReady);
}

#[test]
fn a_migration_happens_whole_or_not_at_all() {
    let (_scratch, path) = scratch();
    let mut connection = Connection::open(&path).unwrap();
    let first = "CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (1);";
    let broken = "INSERT INTO a VALUES (2); CREATE TABLE a (y INTEGER);";
    let second = "INSERT INTO a VALUES (3);";
    let version = |connection: &Connection| -> u32 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
    };
    let sum = |connection: &Connection| -> u32 {
        connection.query_row("SELECT sum(x) FROM a", [], |row| row.get(0)).unwrap()
    };

    migrate::run_steps(&mut connection, &path, &[first, broken]).unwrap_err();
    assert_eq!((version(&connection), sum(&connection)), (1, 1));
    migrate::run_steps(&mut connection, &path, &[first, second]).unwrap();
    assert_eq!((version(&connection), sum(&connection)), (2, 4));
    migrate::run_steps(&mut connection, &path, &[first, second]).unwrap();
    assert_eq!(sum(&connection), 4, "a step runs once");
}

#[tokio::test]
async fn another_process_can_look_into_the_file() {
    let (_scratch, path) = scratch();
    let (store, _) = Store::open(path.clone()).unwrap();
    store.insert_vm(sample("box"), "op").await.unwrap();
    let visitor = Connection::open(&path).unwrap();
    let name: String = visitor.query_row("SELECT name FROM vms", [], |row| row.get(0)).unwrap();
    assert_eq!(name, "box");
}

#[tokio::test]
async fn an_address_is_reserved_once_and_released_with_its_row() {
    let (_scratch, path) = scratch();
    let (store, _) = Store::open(path).unwrap();
    let address = Some([172, 16, 0, 2].into());
    let first = crate::vm::record::VmRecord { address, ..sample("one") };
    store.insert_vm(first.clone(), "op").await.unwrap();
    store.insert_vm(crate::vm::record::VmRecord { address, ..sample("two") }, "op").await.unwrap_err();
    // VMs without an address do not stand in each other's way.
    store.insert_vm(sample("three"), "op").await.unwrap();
    store.insert_vm(sample("four"), "op").await.unwrap();
    store.remove_vm(first.id).await.unwrap();
    store.insert_vm(crate::vm::record::VmRecord { address, ..sample("two") }, "op").await.unwrap();
}

#[tokio::test]
async fn a_store_of_the_first_version_keeps_its_vms() {
    let (_scratch, path) = scratch();
    let mut connection = Connection::open(&path).unwrap();
    migrate::run_steps(&mut connection, &path, &[include_str!("migrate/0001_vms.sql")]).unwrap();
    drop(connection);
    let (store, origin) = Store::open(path).unwrap();
    assert_eq!((origin, store.vms().await.unwrap()), (Origin::Existing, Vec::new()));
    store.insert_vm(sample("box"), "op").await.unwrap();
}
