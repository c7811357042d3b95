//! What is gone leaves the disk, and many small commits leave no large index.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end that way")]

mod common;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Disk, append, manual, patient, positions};
use leveret_storage::{Fsync, Position, QueueId, Store, StoreOptions, StoreStatistics};

const DEADLINE: Duration = Duration::from_secs(60);
const LONG: QueueId = QueueId(1);
const OTHER: QueueId = QueueId(2);

fn bytes_in(directory: &Path) -> u64 {
    let entries = fs::read_dir(directory).unwrap().map(Result::unwrap);
    // A file may go while it is looked at.
    let sizes = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        Some(if metadata.is_dir() {
            bytes_in(&entry.path())
        } else {
            metadata.len()
        })
    });
    sizes.sum()
}

fn wait_until_below(directory: &Path, most: u64) {
    let deadline = Instant::now() + DEADLINE;
    while bytes_in(directory) > most {
        assert!(Instant::now() < deadline, "{} bytes are left", bytes_in(directory));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn reclaiming_soon() -> StoreOptions {
    StoreOptions {
        fsync: Fsync::Never,
        reclaim_pause: Duration::from_millis(50),
        ..StoreOptions::default()
    }
}

/// Messages of 64 KiB that no compression makes smaller.
fn fill(store: &Store, queue: QueueId, range: std::ops::Range<u64>) {
    let mut seed = 88172645463325252u64;
    let mut payload = vec![0; 64 << 10];
    for position in range {
        for word in payload.chunks_exact_mut(8) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            word.copy_from_slice(&seed.to_le_bytes());
        }
        let mut writer = store.writer();
        writer.append(queue, Position(position), &[&payload]);
        writer.submit();
        while store.is_congested() {
            std::thread::yield_now();
        }
    }
    store.flush().unwrap();
}

#[test]
fn a_drained_a_purged_and_a_deleted_queue_leave_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    let options = reclaiming_soon();
    let store = Store::open(directory.path(), options.clone()).unwrap();
    fill(&store, OTHER, 0..10);
    for way_out in 0..3u64 {
        let first = way_out * 3000;
        fill(&store, LONG, first..first + 3000);
        assert!(bytes_in(directory.path()) > 180 << 20);
        let mut writer = store.writer();
        match way_out {
            0 => (first..first + 3000).for_each(|position| writer.settle(LONG, Position(position))),
            1 => writer.purge(LONG, Position(first + 3000), &[] as &[Position]),
            _ => writer.delete_queue(LONG),
        }
        drop(writer);
        wait_until_below(directory.path(), 60 << 20);
        fill(&store, OTHER, way_out * 10 + 10..way_out * 10 + 20);
    }
    drop(store);
    let store = Store::open(directory.path(), options).unwrap();
    assert_eq!(positions(&store, OTHER), (0..40).collect::<Vec<_>>());
    assert!(positions(&store, LONG).is_empty());
}

#[test]
fn one_unacked_message_at_the_head_of_a_queue_keeps_nothing_of_what_is_settled_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    let options = reclaiming_soon();
    let store = Store::open(directory.path(), options.clone()).unwrap();
    for first in [0, 1500] {
        fill(&store, LONG, first..first + 1500);
        assert!(bytes_in(directory.path()) > 90 << 20);
        let mut writer = store.writer();
        // In the order in which consumers ack, but for the first.
        for position in (first..first + 1500).filter(|position| *position > 0) {
            writer.settle(LONG, Position(position));
        }
        drop(writer);
        wait_until_below(directory.path(), 60 << 20);
        assert!(store.statistics().chunks_live <= 2);
    }
    assert_eq!(positions(&store, LONG), [0]);
    drop(store);
    let store = Store::open(directory.path(), options).unwrap();
    assert_eq!(positions(&store, LONG), [0]);
    assert_eq!(store.next_position(LONG), Position(3000));
}

#[test]
fn the_chunks_of_a_long_queue_that_came_message_by_message_are_joined() {
    for mut disk in Disk::both() {
        let options = StoreOptions {
            weigh: |payload| (payload.len() as u32).into(),
            ..manual()
        };
        let store = disk.open(&options);
        for position in 0..3000 {
            append(&store, LONG, position..position + 1);
            if position % 10 == 0 {
                store.commit(true);
            }
        }
        let mut writer = store.writer();
        (0..100).for_each(|position| writer.settle(LONG, Position(position)));
        drop(writer);
        (0..20).for_each(|_| store.commit(true));
        let chunks = store.statistics().chunks_live;
        assert!(chunks < 50, "{chunks} chunks");
        let contents = store.contents(LONG);
        let all: Vec<u64> = (100..3000).collect();
        assert_eq!(positions(&store, LONG), all);
        let store = disk.reopen_killed(store, &options);
        assert_eq!(positions(&store, LONG), all);
        assert_eq!(contents.messages, 2900);
        assert_eq!(store.contents(LONG).messages, 2900);
    }
}

/// Thousands of queues that fill in turn get a message each with every commit.
#[test]
fn small_chunks_of_many_queues_are_joined_as_they_come_and_not_written_again() {
    let store = Store::in_memory(manual());
    let written = |store: &Store| store.statistics().bytes_written as f64;
    for position in 0..100 {
        let mut writer = store.writer();
        for queue in 1..=200 {
            writer.append(QueueId(queue), Position(position), &[&[7; 1000]]);
        }
        store.wait(writer.submit()).unwrap();
        store.commit(true);
    }
    let StoreStatistics { chunks_live, .. } = store.statistics();
    assert!(chunks_live < 30 * 200, "{chunks_live} chunks of 20,000 messages");
    let amplification = written(&store) / 20_000_000.0;
    assert!(
        amplification < 1.1,
        "{amplification} bytes were written for each that came"
    );
    for queue in [1, 77, 200] {
        assert_eq!(positions(&store, QueueId(queue)), (0..100).collect::<Vec<_>>());
    }
}

/// Ten thousand queues may bring more sparse chunks than are written anew at a time: the store goes on at once instead of falling
/// further behind with each lazy flush.
#[test]
fn chunks_that_come_faster_than_they_are_written_anew_do_not_wait() {
    let options = StoreOptions {
        unjoined_chunks: 1000,
        ..patient()
    };
    let store = Store::in_memory(options);
    for batch in 0..100 {
        let mut writer = store.writer();
        for queue in 1..=200 {
            (batch * 5..batch * 5 + 5)
                .for_each(|position| writer.append(QueueId(queue), Position(position), &[&[7; 100]]));
        }
        let ticket = writer.submit();
        store.wait(ticket).unwrap();
    }
    assert_eq!(store.statistics().chunks_live, 20_000);
    let mut writer = store.writer();
    for queue in 1..=200 {
        let settled = (0..500).filter(|position| position % 5 > 0);
        settled.for_each(|position| writer.settle(QueueId(queue), Position(position)));
    }
    drop(writer);
    // The next lazy flush by itself would be in an hour, and each writes a part of them anew.
    store.flush().unwrap();
    store.flush().unwrap();
    let deadline = Instant::now() + DEADLINE;
    while store.statistics().chunks_live > 11_500 {
        let left = store.statistics().chunks_live;
        assert!(Instant::now() < deadline, "{left} chunks are left");
        std::thread::sleep(Duration::from_millis(5));
    }
    for queue in [1, 77, 200] {
        assert!(positions(&store, QueueId(queue)).into_iter().eq((0..500).step_by(5)));
    }
}

/// What is settled of joined chunks leaves the disk before its neighbours do.
#[test]
fn the_settled_values_of_a_joined_chunk_leave_with_its_next_index_entry() {
    for mut disk in Disk::both() {
        let store = disk.open(&manual());
        for position in 0..100 {
            append(&store, LONG, position..position + 1);
        }
        store.commit(true);
        let mut writer = store.writer();
        let settled = (0..100).filter(|position| position % 10 < 7);
        settled.for_each(|position| writer.settle(LONG, Position(position)));
        drop(writer);
        store.commit(true);
        let left: Vec<u64> = (0..100).filter(|position| position % 10 >= 7).collect();
        assert_eq!(positions(&store, LONG), left);
        let store = disk.reopen_killed(store, &manual());
        assert_eq!(positions(&store, LONG), left);
        assert_eq!(store.next_position(LONG), Position(100));
        let mut writer = store.writer();
        left.iter()
            .for_each(|position| writer.settle(LONG, Position(*position)));
        drop(writer);
        store.commit(true);
        let store = disk.reopen_killed(store, &manual());
        assert_eq!((positions(&store, LONG), store.statistics().chunks_live), (vec![], 0));
    }
}

/// A dead letter is settled here and appended there in one commit: until that is written, a crash brings it back here.
#[test]
fn what_is_not_settled_on_disk_yet_stays_there() {
    let options = StoreOptions {
        reclaim_bytes_min: 0,
        ..manual()
    };
    let mut disk = Disk::Rocks(tempfile::tempdir().unwrap());
    let store = disk.open(&options);
    fill(&store, LONG, 0..20);
    fill(&store, OTHER, 0..100);
    // A start brings messages to the tables, and a compaction to where whole files may go.
    let store = disk.reopen_killed(store, &options);
    store.writer().delete_queue(OTHER);
    store.commit(true);
    store.reclaim();
    let hold = store.hold();
    let mut writer = store.writer();
    (0..20).for_each(|position| writer.settle(LONG, Position(position)));
    drop(writer);
    store.reclaim();
    drop(hold);
    let store = disk.reopen_killed(store, &options);
    assert_eq!(positions(&store, LONG).len(), 20);
}
