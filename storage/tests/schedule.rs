//! Messages by the time when they are due.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::ops::ControlFlow;

use common::check;
use leveret_storage::{Moment, QueueId, Store, StoreOptions};

fn at(time: u64, number: u64) -> Moment {
    Moment { time, number }
}

/// What is read from a moment on.
fn read(store: &Store, schedule: QueueId, from: Moment) -> Vec<(Moment, Vec<u8>)> {
    let mut read = Vec::new();
    let mut visit = |at, payload: &[u8]| {
        read.push((at, payload.to_vec()));
        ControlFlow::Continue(())
    };
    store.read_schedule(schedule, from, &mut visit).unwrap();
    read
}

fn reads_in_order_of_time(store: &Store) -> QueueId {
    let (schedule, other) = (store.allocate_queue_id(), store.allocate_queue_id());
    let mut writer = store.writer();
    writer.reserve_id(schedule);
    writer.reserve_id(other);
    for (time, number) in [(300, 0), (100, 1), (200, 2), (100, 3)] {
        writer.schedule(schedule, at(time, number), &[b"no. ", number.to_string().as_bytes()]);
    }
    writer.schedule(other, at(100, 0), &[b"other"]);
    store.wait(writer.submit()).unwrap();
    let numbers = |from| {
        read(store, schedule, from)
            .iter()
            .map(|(at, _)| at.number)
            .collect::<Vec<_>>()
    };
    assert_eq!(numbers(Moment::default()), [1, 3, 2, 0]);
    assert_eq!(numbers(at(100, 2)), [3, 2, 0]);
    assert_eq!(read(store, schedule, at(300, 0)), [(at(300, 0), b"no. 0".to_vec())]);
    let mut writer = store.writer();
    writer.unschedule(schedule, at(200, 2));
    writer.schedule(other, at(50, 1), &[b"never seen"]);
    writer.delete_schedule(other);
    store.wait(writer.submit()).unwrap();
    assert_eq!(numbers(Moment::default()), [1, 3, 0]);
    assert!(read(store, other, Moment::default()).is_empty());
    schedule
}

#[test]
fn a_schedule_in_memory_reads_in_order_of_time() {
    let store = Store::in_memory(StoreOptions::default());
    reads_in_order_of_time(&store);
}

#[test]
fn a_schedule_on_disk_reads_in_order_of_time_and_survives_a_kill_with_its_number() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
    let schedule = reads_in_order_of_time(&store);
    // Without a close: as if the process had been killed.
    drop(store);
    let store = Store::open(directory.path(), StoreOptions::default()).unwrap();
    assert_eq!(read(&store, schedule, Moment::default()).len(), 3);
    assert!(store.allocate_queue_id() > schedule);
    drop(store);
    let report = check(directory.path()).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!((report.messages, report.message_bytes), (3, 15));
}
