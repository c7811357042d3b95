//! What `leveret check` finds, what a repair keeps, and that a copy is a store like any other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end that way")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::{append, check, manual, positions, repair, write};
use leveret_storage::{
    CheckReport, Definition, NamedLog, Position, QueueId, QueueRecord, SettingRecord, StorageError, Store,
    StoreOptions, VhostRecord,
};
use rocksdb::{ColumnFamilyDescriptor, DB, Options};

const QUEUE: QueueId = QueueId(7);

/// A store with a virtual host, a queue, fifty messages in five chunks, all indexed, five of them settled.
fn filled() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), manual()).unwrap();
    write(&store, |writer| {
        let vhost = VhostRecord {
            name: "/".into(),
            ..VhostRecord::default()
        };
        writer.put(&Definition::Vhost(vhost));
        let queue = QueueRecord {
            id: QUEUE,
            vhost: "/".into(),
            name: "orders".into(),
            ..QueueRecord::default()
        };
        writer.put(&Definition::Queue(queue));
    });
    for batch in 0..5 {
        append(&store, QUEUE, batch * 10..batch * 10 + 10);
    }
    write(&store, |writer| {
        for position in 10..15 {
            writer.settle_durably(QUEUE, Position(position));
        }
    });
    store.close().unwrap();
    dir
}

/// Changes the database as no store would.
fn tamper(dir: &Path, change: impl FnOnce(&DB)) {
    let families = ["default", "chunks"].map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
    let db = DB::open_cf_descriptors(&Options::default(), dir.join("db"), families).unwrap();
    change(&db);
    db.flush_wal(true).unwrap();
}

fn chunk_key(first: u64) -> Vec<u8> {
    [&QUEUE.0.to_be_bytes()[..], &first.to_be_bytes(), &[0; 4]].concat()
}

fn index_key(first: u64) -> Vec<u8> {
    [&[0x21][..], &chunk_key(first)].concat()
}

fn damage_chunk(db: &DB, first: u64) {
    let chunks = db.cf_handle("chunks").unwrap();
    let mut value = db.get_cf(chunks, chunk_key(first)).unwrap().unwrap();
    let middle = value.len() / 2;
    value[middle] ^= 1;
    db.put_cf(chunks, chunk_key(first), value).unwrap();
}

fn table_files(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir.join("db")).unwrap();
    let paths = files.map(|file| file.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .collect()
}

#[track_caller]
fn assert_only_problem(report: &CheckReport, says: &[&str]) {
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    for words in says {
        assert!(
            report.problems[0].contains(words),
            "{:?} in {:?}",
            words,
            report.problems
        );
    }
}

/// What is left after a repair, which leaves nothing to repair.
#[track_caller]
fn repaired(dir: &Path) -> Vec<u64> {
    let report = repair(dir).unwrap();
    assert!(
        report.kept_as.as_ref().is_some_and(|kept: &PathBuf| kept.is_dir()),
        "{report:?}"
    );
    let after = check(dir).unwrap();
    assert_eq!(after.problems, [""; 0]);
    let store = Store::open(dir, manual()).unwrap();
    let left = positions(&store, QUEUE);
    assert_eq!(after.messages, left.len() as u64);
    let next = store.next_position(QUEUE).0;
    append(&store, QUEUE, next..next + 1);
    assert_eq!(positions(&store, QUEUE).len(), left.len() + 1);
    left
}

fn all_but(missing: std::ops::Range<u64>) -> Vec<u64> {
    (0..10)
        .chain(15..50)
        .filter(|position| !missing.contains(position))
        .collect()
}

#[test]
fn a_sound_store_is_counted_and_left_alone() {
    let dir = filled();
    let report = check(dir.path()).unwrap();
    assert_eq!(report.problems, [""; 0]);
    let counts = (report.definitions, report.queues, report.chunks, report.messages);
    assert_eq!(counts, (2, 1, 5, 45));
    assert_eq!(repair(dir.path()).unwrap(), report, "there is nothing to repair");
    assert_eq!(check(dir.path()).unwrap(), report);
}

#[test]
fn a_damaged_chunk_is_found_and_a_repair_keeps_all_others() {
    let dir = filled();
    tamper(dir.path(), |db| damage_chunk(db, 20));
    let report = check(dir.path()).unwrap();
    assert_only_problem(&report, &["chunk 20 of queue 7", "checksum", "10 messages"]);
    assert_eq!(report.messages, 35);
    assert_eq!(repaired(dir.path()), all_but(20..30));
}

#[test]
fn a_missing_chunk_is_found_and_a_repair_forgets_it() {
    let dir = filled();
    tamper(dir.path(), |db| {
        db.delete_cf(db.cf_handle("chunks").unwrap(), chunk_key(30)).unwrap()
    });
    assert_only_problem(&check(dir.path()).unwrap(), &["chunk 30 is missing", "10 messages"]);
    assert_eq!(repaired(dir.path()), all_but(30..40));
}

#[test]
fn without_its_index_entry_a_chunk_comes_back_whole() {
    let dir = filled();
    tamper(dir.path(), |db| db.delete(index_key(10)).unwrap());
    assert_only_problem(&check(dir.path()).unwrap(), &["chunk 10", "no index entry"]);
    assert_eq!(repaired(dir.path()), Vec::from_iter(0..50));
    let dir = filled();
    tamper(dir.path(), |db| {
        let of_another = db.get(index_key(20)).unwrap().unwrap();
        let mut wrong = of_another;
        wrong[4] += 1;
        db.put(index_key(10), wrong).unwrap();
    });
    assert_only_problem(
        &check(dir.path()).unwrap(),
        &["index entry of chunk 10", "does not fit"],
    );
    assert_eq!(repaired(dir.path()), Vec::from_iter(0..50));
}

/// Fifty messages, each of a commit of its own, all but the newest joined with others; of the first ones half are settled.
fn joined() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        unjoined_chunks: 4,
        ..manual()
    };
    let store = Store::open(dir.path(), options).unwrap();
    let (id, vhost, name) = (QUEUE, "/".into(), "orders".into());
    let queue = QueueRecord {
        id,
        vhost,
        name,
        ..QueueRecord::default()
    };
    write(&store, |writer| writer.put(&Definition::Queue(queue)));
    for position in 0..50 {
        append(&store, QUEUE, position..position + 1);
    }
    write(&store, |writer| {
        let settled = (0..20).filter(|position| position % 2 == 0);
        settled.for_each(|position| writer.settle_durably(QUEUE, Position(position)));
    });
    store.close().unwrap();
    assert!(store.statistics().chunks_live <= 10);
    dir
}

fn all_joined_but(lost: &[u64]) -> Vec<u64> {
    let alive = (0..50).filter(|position| *position >= 20 || position % 2 == 1);
    alive.filter(|position| !lost.contains(position)).collect()
}

#[test]
fn what_is_lost_of_a_joined_chunk_costs_none_of_its_neighbours() {
    let dir = joined();
    let report = check(dir.path()).unwrap();
    assert_eq!((report.problems, report.messages), (vec![], 40));
    tamper(dir.path(), |db| damage_chunk(db, 7));
    assert_only_problem(
        &check(dir.path()).unwrap(),
        &["chunk 7 of queue 7", "checksum", ": 1 messages"],
    );
    assert_eq!(repaired(dir.path()), all_joined_but(&[7]));

    let dir = joined();
    tamper(dir.path(), |db| {
        let chunks = db.cf_handle("chunks").unwrap();
        [11, 13]
            .iter()
            .for_each(|first| db.delete_cf(chunks, chunk_key(*first)).unwrap());
    });
    let report = check(dir.path()).unwrap();
    assert_eq!(
        (report.problems.len(), report.messages),
        (2, 38),
        "{:?}",
        report.problems
    );
    assert!(
        report.problems[0].contains("chunk 11 is missing: 1 messages"),
        "{:?}",
        report.problems
    );
    assert_eq!(repaired(dir.path()), all_joined_but(&[11, 13]));
}

#[test]
fn without_their_index_entry_joined_chunks_come_back_as_far_as_they_are_there() {
    for damage in [true, false] {
        let dir = joined();
        tamper(dir.path(), |db| match damage {
            true => db.put(index_key(0), b"\x05damaged").unwrap(),
            false => db.delete(index_key(0)).unwrap(),
        });
        if damage {
            let store = Store::open(dir.path(), manual()).unwrap();
            assert_eq!(positions(&store, QUEUE), all_joined_but(&[]), "a start finds them too");
            drop(store);
            let dir = joined();
            tamper(dir.path(), |db| db.put(index_key(0), b"\x05damaged").unwrap());
            assert!(!check(dir.path()).unwrap().problems.is_empty());
            assert_eq!(repaired(dir.path()), all_joined_but(&[]));
        } else {
            let report = check(dir.path()).unwrap();
            assert!(report.problems.iter().all(|problem| problem.contains("no index entry")));
            assert_eq!(repaired(dir.path()), all_joined_but(&[]));
        }
    }
}

#[test]
fn a_queue_whose_state_or_definition_is_lost_keeps_its_messages() {
    let state_key = [&[0x20][..], &QUEUE.0.to_be_bytes()].concat();
    let dir = filled();
    tamper(dir.path(), |db| db.delete(&state_key).unwrap());
    assert_only_problem(&check(dir.path()).unwrap(), &["state of queue 7 is missing"]);
    assert_eq!(repaired(dir.path()), all_but(0..0));

    let dir = filled();
    tamper(dir.path(), |db| {
        let definitions = db.prefix_iterator([0x10]).map(Result::unwrap);
        let (queue, _) = definitions
            .into_iter()
            .find(|(_, value)| value.windows(6).any(|w| w == b"orders"))
            .unwrap();
        db.put(queue, b"\x01{").unwrap();
    });
    assert!(Store::open(dir.path(), manual()).unwrap().definitions().is_err());
    let report = check(dir.path()).unwrap();
    assert_eq!(report.problems.len(), 2, "{:?}", report.problems);
    assert_eq!(repaired(dir.path()), all_but(0..0));
    let definitions = Store::open(dir.path(), manual()).unwrap().definitions().unwrap();
    assert!(definitions.iter().any(|definition| matches!(
        definition,
        Definition::Queue(queue) if queue.id == QUEUE && queue.name == "leveret.recovered.7"
    )));
}

#[test]
fn a_damaged_table_file_costs_no_more_than_what_was_in_its_damaged_block() {
    let dir = filled();
    // Opening and closing puts the log into table files.
    drop(Store::open(dir.path(), manual()).unwrap());
    let tables = table_files(dir.path());
    assert!(!tables.is_empty());
    for table in tables {
        let mut bytes = std::fs::read(&table).unwrap();
        bytes[20] ^= 1;
        std::fs::write(&table, bytes).unwrap();
    }
    let report = check(dir.path()).unwrap();
    assert!(!report.problems.is_empty());
    let report = repair(dir.path()).unwrap();
    assert!(report.kept_as.is_some());
    assert_eq!(check(dir.path()).unwrap().problems, [""; 0]);
    Store::open(dir.path(), manual()).unwrap();
}

#[test]
fn of_thousands_of_definitions_only_those_in_a_damaged_block_are_lost() {
    const QUEUES: usize = 3_000;
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), manual()).unwrap();
    write(&store, |writer| {
        for number in 0..QUEUES {
            writer.put(&Definition::Queue(QueueRecord {
                id: QueueId(number as u64 + 1),
                vhost: "/".into(),
                name: format!("orders of {number}"),
                ..QueueRecord::default()
            }));
        }
    });
    store.close().unwrap();
    drop(store);
    // Opening and closing puts the log into table files.
    drop(Store::open(dir.path(), manual()).unwrap());
    let tables = table_files(dir.path());
    let largest = tables.iter().max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let mut bytes = std::fs::read(largest).unwrap();
    let somewhere = bytes.len() / 4;
    bytes[somewhere] ^= 1;
    std::fs::write(largest, bytes).unwrap();

    assert_only_problem(&check(dir.path()).unwrap(), &["cannot be read"]);
    repair(dir.path()).unwrap();
    let left = Store::open(dir.path(), manual()).unwrap().definitions().unwrap().len();
    assert!((QUEUES * 9 / 10..QUEUES).contains(&left), "{left} of {QUEUES}");
}

#[test]
fn a_log_that_a_setting_names_is_no_queue_that_lost_its_name() {
    let dir = filled();
    let store = Store::open(dir.path(), manual()).unwrap();
    let log = QueueId(8);
    append(&store, log, 0..10);
    write(&store, |writer| {
        writer.put(&Definition::Setting(SettingRecord {
            key: "keys of orders".into(),
            value: log.0.into(),
        }));
    });
    store.close().unwrap();
    drop(store);
    assert_only_problem(&check(dir.path()).unwrap(), &["queue 8 has messages and no definition"]);
    let named = |setting: &SettingRecord| {
        Some(NamedLog {
            queue: QueueId(setting.value.as_u64()?),
            has_messages: false,
        })
    };
    let report = leveret_storage::check(dir.path(), &named).unwrap();
    assert_eq!(report.problems, [""; 0]);
    assert_eq!((report.queues, report.messages, report.entries), (1, 45, 10));
}

#[test]
fn a_database_without_its_list_of_files_is_put_together_anew() {
    let dir = filled();
    drop(Store::open(dir.path(), manual()).unwrap());
    for file in std::fs::read_dir(dir.path().join("db")).unwrap() {
        let path = file.unwrap().path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST"))
        {
            std::fs::remove_file(path).unwrap();
        }
    }
    assert_only_problem(&check(dir.path()).unwrap(), &["does not open"]);
    assert_eq!(repaired(dir.path()), all_but(0..0));
}

#[test]
fn what_is_no_store_or_a_newer_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(check(dir.path()), Err(StorageError::Corrupt { .. })));
    assert!(matches!(
        check(&dir.path().join("nothing")),
        Err(StorageError::Corrupt { .. })
    ));
    assert!(!dir.path().join("nothing").exists());
    let dir = filled();
    std::fs::write(dir.path().join("FORMAT"), "leveret storage format 9\n").unwrap();
    assert!(matches!(
        repair(dir.path()),
        Err(StorageError::NewerFormat { found: 9, .. })
    ));
}

#[test]
fn a_copy_made_while_messages_come_in_has_all_that_was_durable_before() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("data"), Default::default()).unwrap();
    write(&store, |writer| {
        let queue = QueueRecord {
            id: QUEUE,
            ..QueueRecord::default()
        };
        writer.put(&Definition::Queue(queue));
    });
    let (stop, confirmed) = (AtomicBool::new(false), AtomicU64::new(0));
    let (store, stopping, confirming) = (&store, &stop, &confirmed);
    let copies: Vec<(PathBuf, u64)> = std::thread::scope(|scope| {
        let publishing = scope.spawn(move || {
            let mut position = 0;
            while !stopping.load(Ordering::Relaxed) {
                append(store, QUEUE, position..position + 5);
                position += 5;
                confirming.store(position, Ordering::SeqCst);
            }
        });
        let copies = (0..4).map(|number| {
            let before = confirmed.load(Ordering::SeqCst);
            let copy = dir.path().join(format!("copy {number}"));
            store.backup(&copy).unwrap();
            (copy, before)
        });
        let copies = copies.collect();
        stop.store(true, Ordering::Relaxed);
        publishing.join().unwrap();
        copies
    });
    assert!(store.backup(&copies[0].0).is_err(), "a copy never replaces anything");
    for (copy, confirmed) in copies {
        assert_eq!(check(&copy).unwrap().problems, [""; 0]);
        let copied = Store::open(&copy, manual()).unwrap();
        let seen = positions(&copied, QUEUE);
        assert!(seen.len() as u64 >= confirmed, "{} of {confirmed}", seen.len());
        assert!(seen.into_iter().eq(0..copied.next_position(QUEUE).0));
        append(
            &copied,
            QUEUE,
            copied.next_position(QUEUE).0..copied.next_position(QUEUE).0 + 1,
        );
    }
}
