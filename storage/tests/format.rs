//! Data written by earlier versions opens. `format_v1` was written by this file when format 1 was made, and `format_v2` when
//! bodies came to be shared, and `format_v3` when small chunks came to be joined. They are never changed: a new format gets a folder of its own beside them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end that way")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Seen, manual, positions, recover};
use leveret_storage::{
    BindingRecord, Definition, ExchangeRecord, PermissionRecord, Position, QueueId, QueueRecord, SettingRecord, Store,
    StoreOptions, UserRecord, VhostRecord,
};

/// Partly settled in every pattern, with redelivered messages and counts, and survivors written anew.
const ORDERS: QueueId = QueueId(1);
/// Far apart positions, purged at the head.
const GAPS: QueueId = QueueId(2);
/// Settled as a whole.
const EMPTY: QueueId = QueueId(3);
/// Deleted.
const GONE: QueueId = QueueId(4);
/// Written last, and never indexed.
const LATE: QueueId = QueueId(5);
/// Have their bodies in common, some of them indexed and some not. Not in format 1.
const SHARING: [QueueId; 2] = [QueueId(6), QueueId(7)];
/// Written message by message, so that its chunks are joined, and partly settled. Not in formats 1 and 2.
const JOINED: QueueId = QueueId(8);

fn payload(position: u64) -> Vec<u8> {
    let length = 20 + position % 50;
    (0..length).map(|index| (position + index) as u8).collect()
}

fn alive(position: u64) -> bool {
    match position {
        0..1000 => position % 100 == 42,
        1000..1100 => position.is_multiple_of(3),
        1100..1150 => false,
        _ => true,
    }
}

fn definitions() -> Vec<Definition> {
    let queue = |id: QueueId, name: &str| {
        Definition::Queue(QueueRecord {
            id,
            vhost: "/".into(),
            name: name.into(),
            auto_delete: false,
            arguments: vec![0, 0, 0, 0],
        })
    };
    vec![
        Definition::Vhost(VhostRecord {
            name: "/".into(),
            description: "Default virtual host".into(),
            tags: vec!["a".into()],
            default_queue_type: None,
            redeclare_rule: None,
            protected_from_deletion: false,
        }),
        Definition::User(UserRecord {
            name: "guest".into(),
            password_hash: "9/1i+jKFRpbTRV1PtRnzFFYibT3cEpP92JeZ8YKGtflf4e/u".into(),
            hashing_algorithm: "rabbit_password_hashing_sha256".into(),
            tags: vec!["administrator".into()],
        }),
        Definition::Permission(PermissionRecord {
            user: "guest".into(),
            vhost: "/".into(),
            configure: ".*".into(),
            write: ".*".into(),
            read: ".*".into(),
        }),
        Definition::Exchange(ExchangeRecord {
            vhost: "/".into(),
            name: "logs".into(),
            kind: "x-headers\0\u{fc}".into(),
            auto_delete: true,
            internal: true,
            arguments: vec![0, 0, 0, 3, 1, b'a', b'V'],
        }),
        queue(EMPTY, "empty"),
        queue(GAPS, "gaps"),
        queue(ORDERS, "orders"),
        Definition::Binding(BindingRecord {
            vhost: "/".into(),
            source: "logs".into(),
            destination: "orders".into(),
            destination_is_queue: true,
            routing_key: "a.#".into(),
            arguments: vec![0, 0, 0, 0],
        }),
        Definition::Setting(SettingRecord {
            key: "policy//all".into(),
            value: serde_json::json!({"pattern": ".*", "definition": {"max-length": 10}, "priority": -1}),
        }),
    ]
}

fn append(store: &Store, queue: QueueId, positions: impl Iterator<Item = u64>) {
    let mut writer = store.writer();
    for position in positions {
        writer.append(queue, Position(position), &[&payload(position)]);
    }
    store.wait(writer.submit()).unwrap();
}

fn append_shared(store: &Store, range: std::ops::Range<u64>) {
    let mut writer = store.writer();
    for position in range {
        let (body, mut known) = (payload(position), None);
        for queue in SHARING {
            let parts = [&b"head"[..], &body];
            known = writer.append_shared(queue, Position(position), parts, known);
        }
    }
    store.wait(writer.submit()).unwrap();
}

fn check_shared(directory: &Path) {
    let store = Store::open(directory, manual()).unwrap();
    for (queue, alive) in SHARING.into_iter().zip([0..20, 5..20]) {
        let seen = recover(&store, queue);
        let expected = alive.map(|position| (position, false, 0, [b"head", payload(position).as_slice()].concat()));
        assert!(seen.into_iter().eq(expected), "queue {queue}");
    }
    assert_eq!(store.statistics().bodies_live, 20);
}

fn fill(directory: &Path) {
    let options = StoreOptions {
        chunk_bytes: 6000,
        ..manual()
    };
    let store = Store::open(directory, options.clone()).unwrap();
    let mut writer = store.writer();
    definitions().iter().for_each(|definition| writer.put(definition));
    store.wait(writer.submit()).unwrap();
    append(&store, ORDERS, 0..1000);
    append(&store, GONE, 0..1000);
    append(&store, GAPS, (0..500).map(|index| index * index * index));
    append(&store, EMPTY, 0..10);
    append_shared(&store, 0..10);
    store.commit(true);
    let mut writer = store.writer();
    writer.delivered(ORDERS, Position(500));
    (0..1000)
        .filter(|position| !alive(*position))
        .for_each(|position| writer.settle(ORDERS, Position(position)));
    (0..10).for_each(|position| writer.settle(EMPTY, Position(position)));
    writer.requeued(ORDERS, Position(42), 7);
    writer.purge(GAPS, Position(100 * 100 * 100), &[Position(27)]);
    writer.delete_queue(GONE);
    (0..5).for_each(|position| writer.settle(SHARING[1], Position(position)));
    store.wait(writer.submit()).unwrap();
    (0..3).for_each(|_| store.commit(true));
    store.close().unwrap();
    drop(store);
    // The second start moves the log into table files; what follows stays in the log.
    let store = Store::open(directory, options).unwrap();
    append(&store, ORDERS, 1000..1200);
    let mut writer = store.writer();
    (1000..1200)
        .filter(|position| !alive(*position))
        .for_each(|position| writer.settle(ORDERS, Position(position)));
    writer.delivered(ORDERS, Position(1050));
    writer.requeued(ORDERS, Position(1199), 2);
    writer.submit();
    store.flush().unwrap();
    append(&store, LATE, 0..3);
    append_shared(&store, 10..20);
    (0..60).for_each(|position| append(&store, JOINED, position..position + 1));
    store.flush().unwrap();
    let mut writer = store.writer();
    let settled = (0..60).filter(|position| !joined_alive(*position));
    settled.for_each(|position| writer.settle(JOINED, Position(position)));
    writer.submit();
    store.flush().unwrap();
}

fn joined_alive(position: u64) -> bool {
    position > 5 && !position.is_multiple_of(7)
}

fn check_joined(directory: &Path) {
    let store = Store::open(directory, manual()).unwrap();
    assert!(store.statistics().chunks_live < 60);
    let alive = (0..60).filter(|position| joined_alive(*position));
    let expected = alive.map(|position| (position, false, 0, payload(position)));
    assert!(recover(&store, JOINED).into_iter().eq(expected));
}

fn check(directory: &Path) {
    let store = Store::open(directory, manual()).unwrap();
    assert_eq!(store.definitions().unwrap(), definitions());
    let expected: Vec<Seen> = (0..1200)
        .filter(|position| alive(*position))
        .map(|position| {
            let count = match position {
                42 => 7,
                1199 => 2,
                _ => 0,
            };
            (position, position <= 1050, count, payload(position))
        })
        .collect();
    assert!(recover(&store, ORDERS) == expected);
    let gaps = [27].into_iter().chain((100..500).map(|index| index * index * index));
    assert!(positions(&store, GAPS).into_iter().eq(gaps));
    assert!(positions(&store, EMPTY).is_empty());
    assert_eq!(positions(&store, LATE), [0, 1, 2]);
    assert_eq!(store.next_position(EMPTY), Position(10));
    assert_eq!(store.next_position(ORDERS), Position(1200));
    assert!(!store.queues().contains(&GONE));
    assert!(store.allocate_queue_id() > LATE);
    assert!(store.allocate_queue_id() < QueueId(100));
    // It is a store like any other, and still one after it was written to.
    append(&store, ORDERS, 1200..1201);
    store.close().unwrap();
    drop(store);
    let store = Store::open(directory, manual()).unwrap();
    assert_eq!(store.message_count(ORDERS), expected.len() as u64 + 1);
}

#[test]
fn what_this_version_writes_opens() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path());
    if let Some(target) = std::env::var_os("LEVERET_WRITE_FORMAT_FIXTURE") {
        copy_directory(directory.path(), Path::new(&target));
    }
    check_shared(directory.path());
    check_joined(directory.path());
    check(directory.path());
}

#[test]
fn what_format_1_wrote_opens() {
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/format_v1");
    let directory = tempfile::tempdir().unwrap();
    copy_directory(&fixture, directory.path());
    // Its index did not know what messages weigh.
    let weigh = |payload: &[u8]| (payload.len() as u32).into();
    let store = Store::open(directory.path(), StoreOptions { weigh, ..manual() }).unwrap();
    for queue in [ORDERS, GAPS, LATE] {
        let seen = recover(&store, queue);
        let contents = store.contents(queue);
        assert_eq!(contents.messages, seen.len() as u64);
        assert_eq!(
            contents.body_bytes,
            seen.iter().map(|(.., payload)| payload.len() as u64).sum::<u64>()
        );
    }
    drop(store);
    check(directory.path());
}

#[test]
fn what_format_2_wrote_opens() {
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/format_v2");
    let directory = tempfile::tempdir().unwrap();
    copy_directory(&fixture, directory.path());
    check_shared(directory.path());
    check(directory.path());
}

#[test]
fn what_format_3_wrote_opens() {
    let fixture = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/format_v3");
    let directory = tempfile::tempdir().unwrap();
    copy_directory(&fixture, directory.path());
    check_shared(directory.path());
    check_joined(directory.path());
    check(directory.path());
}

/// RocksDB's info logs and lock stay behind: they say nothing about the data.
fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let name = entry.file_name();
        let text = name.to_string_lossy();
        if entry.path().is_dir() {
            copy_directory(&entry.path(), &to.join(name));
        } else if text != "LOCK" && !text.starts_with("LOG") {
            fs::copy(entry.path(), to.join(name)).unwrap();
        }
    }
}
