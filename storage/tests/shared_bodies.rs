//! Bodies that several queues have in common are stored once, and as long as somebody refers to them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end that way")]

mod common;

use std::path::Path;

use common::{Disk, check, manual, recover, repair, write};
use leveret_storage::{
    BodyId, Crash, Definition, MemoryDisk, Position, QueueId, QueueRecord, Store, StoreOptions, VhostRecord,
};
use rocksdb::{ColumnFamilyDescriptor, DB, Options};

const BODY_BYTES: usize = 100_000;
const QUEUES: u64 = 50;

fn body(number: u64) -> Vec<u8> {
    let mut body = vec![number as u8; BODY_BYTES];
    body[..8].copy_from_slice(&number.to_be_bytes());
    body
}

fn whole(number: u64) -> Vec<u8> {
    [b"head", body(number).as_slice()].concat()
}

/// Appends a message to queues from 1 on, each with a writer of its own, as publishes do. The number is the position.
fn publish(store: &Store, queues: u64, number: u64) {
    let (mut known, body) = (None, body(number));
    for queue in 1..=queues {
        let parts = [&b"head"[..], &body];
        let mut writer = store.writer();
        known = writer.append_shared(QueueId(queue), Position(number), parts, known);
    }
}

fn settle(store: &Store, queues: std::ops::RangeInclusive<u64>, number: u64) {
    let mut writer = store.writer();
    queues.for_each(|queue| writer.settle(QueueId(queue), Position(number)));
}

fn bodies(store: &Store) -> u64 {
    store.statistics().bodies_live
}

#[test]
fn a_body_for_many_queues_is_written_once_and_goes_with_its_last_message() {
    for mut disk in Disk::both() {
        let store = disk.open(&manual());
        for number in 0..5 {
            publish(&store, QUEUES, number);
            store.commit(false);
        }
        let written = store.statistics().bytes_written as usize;
        assert!((5 * BODY_BYTES..6 * BODY_BYTES).contains(&written), "{written}");
        let store = disk.reopen_killed(store, &manual());
        assert_eq!((bodies(&store), store.statistics().messages_live), (5, 5 * QUEUES));
        for queue in 1..=QUEUES {
            let seen: Vec<_> = recover(&store, QueueId(queue)).into_iter().map(|seen| seen.3).collect();
            assert!(seen == (0..5).map(whole).collect::<Vec<_>>(), "queue {queue}");
        }
        settle(&store, 2..=QUEUES, 3);
        store.commit(true);
        assert_eq!(bodies(&store), 5, "the first queue has it");
        settle(&store, 1..=1, 3);
        store.commit(false);
        assert_eq!(bodies(&store), 5, "the first queue may have it after a crash");
        store.commit(true);
        assert_eq!(bodies(&store), 4);
        store.close().unwrap();
        drop(store);
        let store = disk.open(&manual());
        assert_eq!(bodies(&store), 4);
        assert_eq!(common::positions(&store, QueueId(7)), [0, 1, 2, 4]);
    }
}

#[test]
fn a_message_that_comes_back_after_a_crash_has_its_body() {
    let disk = MemoryDisk::new();
    let store = Store::on_memory_disk(&disk, manual()).unwrap();
    publish(&store, 2, 0);
    publish(&store, 2, 1);
    store.commit(true);
    settle(&store, 1..=2, 0);
    // Nothing of this is written with a commit that is not lazy, and all of it with one that is.
    store.writer().append(QueueId(9), Position(0), &[b"other"]);
    store.commit(false);
    let left = Store::on_memory_disk(&disk.crash(Crash::Killed), manual()).unwrap();
    let seen: Vec<_> = recover(&left, QueueId(2)).into_iter().map(|seen| seen.3).collect();
    assert!(seen == [whole(0), whole(1)]);
    store.commit(true);
    let left = Store::on_memory_disk(&disk.crash(Crash::Killed), manual()).unwrap();
    assert_eq!(common::positions(&left, QueueId(2)), [1]);
    assert_eq!(bodies(&left), 1);
}

#[test]
fn purged_and_deleted_queues_give_up_their_bodies() {
    let store = Store::in_memory(manual());
    (0..10).for_each(|number| publish(&store, 3, number));
    store.commit(true);
    store.writer().purge(QueueId(1), Position(8), &[Position(2)]);
    store.writer().purge::<Position>(QueueId(2), Position(9), &[]);
    store.writer().delete_queue(QueueId(3));
    store.commit(true);
    assert_eq!(bodies(&store), 3, "2, 8 and 9");
    assert_eq!(common::positions(&store, QueueId(1)), [2, 8, 9]);
    assert!(recover(&store, QueueId(1))[0].3 == whole(2));
}

#[test]
fn a_dead_letter_refers_to_the_body_that_is_there() {
    let store = Store::in_memory(manual());
    publish(&store, 2, 0);
    store.commit(true);
    let mut known = None;
    let range = Position(0)..Position(1);
    store
        .read_range(QueueId(1), range, 1, &mut |message| known = message.body)
        .unwrap();
    let before = store.statistics().bytes_written;
    let hold = store.hold();
    store.writer().settle(QueueId(1), Position(0));
    let parts = [&b"dead"[..], &body(0)];
    let now = store.writer().append_shared(QueueId(5), Position(0), parts, known);
    drop(hold);
    settle(&store, 2..=2, 0);
    store.commit(true);
    assert_eq!((now, bodies(&store)), (known, 1));
    let written = store.statistics().bytes_written - before;
    assert!(written < 1000, "{written}");
    assert!(recover(&store, QueueId(5))[0].3[4..] == body(0));
    // Who is told an id that is of no use any more stores the body again.
    settle(&store, 5..=5, 0);
    store.commit(true);
    let again = store.writer().append_shared(QueueId(5), Position(1), parts, now);
    assert!(again > now);
    assert!(
        recover(&store, QueueId(5))[0].3[4..] == body(0),
        "before it is written, too"
    );
}

#[test]
fn a_search_for_expired_messages_shows_them_whole() {
    let weigh = |payload: &[u8]| leveret_storage::Weight {
        body_bytes: 1,
        expires_at: u64::from(payload[0]),
    };
    let options = StoreOptions { weigh, ..manual() };
    let store = Store::in_memory(options);
    for (position, expires) in [9u8, 3, 9, 4].into_iter().enumerate() {
        let parts = [&[expires][..], &body(position as u64)];
        store
            .writer()
            .append_shared(QueueId(1), Position(position as u64), parts, None);
    }
    store.commit(true);
    let mut found = Vec::new();
    let range = Position(0)..Position(4);
    store
        .read_expired(QueueId(1), range, 5, &mut |message| {
            assert!(message.payload[1..] == body(message.position.0));
            found.push(message.position.0);
        })
        .unwrap();
    assert_eq!(found, [1, 3]);
}

#[test]
fn a_lost_body_costs_its_messages_and_no_other() {
    let disk = MemoryDisk::new();
    let store = Store::on_memory_disk(&disk, manual()).unwrap();
    for number in 0..4 {
        publish(&store, 2, number);
        store.commit(true);
    }
    // Four chunks of each queue come first, then those of the bodies.
    assert!(disk.damage_chunk(8 + 2));
    for store in [
        store,
        Store::on_memory_disk(&disk.crash(Crash::Killed), manual()).unwrap(),
    ] {
        for queue in [1, 2] {
            let mut seen = Vec::new();
            let result = store.recover_queue(QueueId(queue), &mut |message| seen.push(message.position.0));
            assert_eq!(seen, [0, 1, 3]);
            let error = result.unwrap_err().to_string();
            assert!(error.contains(&format!("message 2 of queue {queue}")), "{error}");
        }
        let failing = disk.crash(Crash::Killed);
        let store = Store::on_memory_disk(&failing, manual()).unwrap();
        failing.fail_reads(true);
        let result = store.recover_queue(QueueId(1), &mut |message| panic!("{message:?}"));
        assert!(result.unwrap_err().to_string().contains("the test asked for it"));
    }
}

/// A store on RocksDB with three queues and shared bodies, whose numbers are their ids, each in a commit of its own.
fn filled(dir: &Path) -> Store {
    let store = Store::open(dir, manual()).unwrap();
    write(&store, |writer| {
        let name = "/".to_owned();
        let vhost = VhostRecord {
            name,
            ..VhostRecord::default()
        };
        writer.put(&Definition::Vhost(vhost));
        for id in 1..=3 {
            writer.put(&Definition::Queue(QueueRecord {
                id: QueueId(id),
                vhost: "/".into(),
                name: format!("queue {id}"),
                ..QueueRecord::default()
            }));
        }
    });
    for number in 0..4 {
        publish(&store, 3, number);
        store.commit(true);
    }
    for number in 100..104 {
        store.writer().append(QueueId(1), Position(number), &[b"single"]);
    }
    store.commit(true);
    store
}

fn tamper(dir: &Path, change: impl FnOnce(&DB)) {
    let families = ["default", "chunks"].map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
    let db = DB::open_cf_descriptors(&Options::default(), dir.join("db"), families).unwrap();
    change(&db);
    db.flush_wal(true).unwrap();
}

fn body_chunk_key(BodyId(id): BodyId) -> Vec<u8> {
    [&(1u64 << 62).to_be_bytes()[..], &id.to_be_bytes(), &[0; 4]].concat()
}

#[test]
fn a_check_misses_bodies_and_a_repair_gives_up_their_messages_only() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    store.close().unwrap();
    drop(store);
    let report = check(dir.path()).unwrap();
    assert_eq!(report.problems, [""; 0]);
    assert_eq!((report.messages, report.bodies, report.orphans), (16, 4, 0));
    assert_eq!(report.queues, 3);
    tamper(dir.path(), |db| {
        let chunks = db.cf_handle("chunks").unwrap();
        let key = body_chunk_key(BodyId(1));
        let mut damaged = db.get_cf(chunks, &key).unwrap().unwrap();
        damaged[BODY_BYTES / 2] ^= 1;
        db.put_cf(chunks, key, damaged).unwrap();
        db.delete_cf(chunks, body_chunk_key(BodyId(3))).unwrap();
    });
    let report = check(dir.path()).unwrap();
    assert_eq!((report.messages, report.bodies), (10, 2));
    let said = report.problems.join("\n");
    for words in [
        "shared bodies",
        "chunk 3 is missing",
        "messages of queue 2 from position",
    ] {
        assert!(said.contains(words), "{words:?} in {said}");
    }
    let report = repair(dir.path()).unwrap();
    assert!(report.kept_as.is_some());
    let report = check(dir.path()).unwrap();
    assert_eq!(report.problems, [""; 0]);
    assert_eq!((report.messages, report.bodies), (10, 2));
    let store = Store::open(dir.path(), manual()).unwrap();
    assert_eq!(common::positions(&store, QueueId(3)), [0, 2]);
    assert!(recover(&store, QueueId(3))[1].3 == whole(2));
    let positions = common::positions(&store, QueueId(1));
    assert_eq!(positions, [0, 2, 100, 101, 102, 103]);
    publish_next(&store);
}

/// After whatever was lost, a new body is a new one.
fn publish_next(store: &Store) {
    let parts = [&b"head"[..], &body(7)];
    let id = store.writer().append_shared(QueueId(3), Position(7), parts, None);
    store.commit(true);
    assert!(id >= Some(BodyId(4)), "{id:?}");
    assert!(recover(store, QueueId(3)).last().unwrap().3 == whole(7));
}

#[test]
fn what_a_crash_leaves_without_a_message_is_no_damage_and_the_next_start_drops_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    let ticket = {
        let mut writer = store.writer();
        (1..=3).for_each(|queue| writer.settle_durably(QueueId(queue), Position(2)));
        writer.submit()
    };
    store.wait(ticket).unwrap();
    drop(store);
    let report = check(dir.path()).unwrap();
    assert_eq!(report.problems, [""; 0]);
    assert_eq!((report.messages, report.bodies, report.orphans), (13, 4, 1));
    let store = Store::open(dir.path(), manual()).unwrap();
    assert_eq!(bodies(&store), 3);
    store.close().unwrap();
    drop(store);
    assert_eq!(check(dir.path()).unwrap().orphans, 0);
}

#[test]
fn a_copy_has_the_bodies_too() {
    let (dir, copies) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = filled(dir.path());
    let copy = copies.path().join("copy");
    store.backup(&copy).unwrap();
    settle(&store, 1..=3, 0);
    store.close().unwrap();
    let copy = Store::open(&copy, manual()).unwrap();
    assert!(recover(&copy, QueueId(2))[0].3 == whole(0));
    assert_eq!(bodies(&copy), 4);
}

#[test]
fn an_older_version_refuses_the_directory_that_a_newer_one_has_opened() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("FORMAT"), "leveret storage format 1\n").unwrap();
    drop(Store::open(dir.path(), manual()).unwrap());
    let format = std::fs::read_to_string(dir.path().join("FORMAT")).unwrap();
    assert_eq!(format, "leveret storage format 3\n");
}
