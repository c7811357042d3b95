//! What queues longer than memory need: what a queue has without reading it, reading a part of it, and messages that are here
//! only because they do not fit into memory.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end that way")]

mod common;

use common::{Disk, append, manual, positions, write};
use leveret_storage::{MemoryDisk, Position, QueueContents, QueueId, Store, StoreOptions, Ticket, Weighed};

const QUEUE: QueueId = QueueId(1);

fn weighing() -> StoreOptions {
    StoreOptions {
        weigh: |payload| (payload.len() as u32).into(),
        ..manual()
    }
}

fn message(position: u64) -> Weighed {
    Weighed {
        position: Position(position),
        body_bytes: position.to_string().len() as u32,
    }
}

/// What the live messages weigh, by reading them.
fn contents(store: &Store, next: u64, delivered: u64) -> QueueContents {
    let live = positions(store, QUEUE);
    QueueContents {
        messages: live.len() as u64,
        body_bytes: live.iter().map(|position| position.to_string().len() as u64).sum(),
        first: store.contents(QUEUE).first,
        next: Position(next),
        delivered: Position(delivered),
        expires: None,
    }
}

#[test]
fn a_queue_knows_how_many_messages_it_has_and_what_they_weigh_without_reading_them() {
    for mut disk in Disk::both() {
        let options = StoreOptions {
            chunk_bytes: 500,
            ..weighing()
        };
        let store = disk.open(&options);
        for batch in 0..10 {
            append(&store, QUEUE, batch * 100..batch * 100 + 100);
        }
        let mut writer = store.writer();
        writer.delivered(QUEUE, Position(700));
        (0..1000)
            .filter(|position| position % 3 > 0 || *position < 250)
            .for_each(|position| writer.settle(QUEUE, message(position)));
        writer.submit();
        assert_eq!(store.contents(QUEUE), contents(&store, 1000, 701));
        // Survivors are written anew, the index is written, some is not.
        (0..100).for_each(|_| store.commit(true));
        append(&store, QUEUE, 1000..1100);
        let before = store.contents(QUEUE);
        assert_eq!(before, contents(&store, 1100, 701));
        assert!(before.first >= Position(200), "{before:?}");
        let store = disk.reopen_killed(store, &options);
        assert_eq!(store.contents(QUEUE), before);
        assert_eq!(store.contents(QueueId(9)), QueueContents::default());

        write(&store, |writer| {
            writer.purge(QUEUE, Position(1100), &[message(999), message(300)])
        });
        assert_eq!(store.contents(QUEUE), contents(&store, 1100, 701));
        assert_eq!(store.contents(QUEUE).messages, 2);
        let store = disk.reopen_killed(store, &options);
        assert_eq!(store.contents(QUEUE), contents(&store, 1100, 701));
    }
}

#[test]
fn a_range_is_read_up_to_its_end_or_so_many_bytes_wherever_its_messages_are() {
    for disk in Disk::both() {
        let store = disk.open(&weighing());
        append(&store, QUEUE, 100..200);
        append(&store, QUEUE, 200..300);
        // Not written yet.
        let mut writer = store.writer();
        (300..400).for_each(|position| writer.append(QUEUE, Position(position), &[b"abc"]));
        writer.settle(QUEUE, Position(250));
        writer.submit();
        let read = |from: u64, until: u64, max_bytes: u64| {
            let mut seen = Vec::new();
            let range = Position(from)..Position(until);
            let reached = store.read_range(QUEUE, range, max_bytes, &mut |message| seen.push(message.position.0));
            (seen, reached.unwrap().0)
        };
        let all = |range: std::ops::Range<u64>| range.filter(|position| *position != 250).collect::<Vec<_>>();
        assert_eq!(read(0, 1000, 10_000), (all(100..400), 1000));
        assert_eq!(read(150, 310, 10_000), (all(150..310), 310));
        assert_eq!(read(150, 310, 30), (all(150..160), 160));
        assert_eq!(read(249, 310, 3), (vec![249], 251), "what is settled is passed over");
        assert_eq!(
            read(190, 310, 40),
            (all(190..200), 200),
            "half of it is enough at the end of a chunk"
        );
        assert_eq!(read(190, 310, 80), (all(190..217), 217));
        assert_eq!(read(249, 310, 0).1, 249);
        assert_eq!(read(395, 310, 30), (vec![], 310));
        assert_eq!(read(350, 450, 9), (vec![350, 351, 352], 353));
    }
}

#[test]
fn spilled_messages_stay_until_they_are_discarded_and_nobody_waits_for_them() {
    for disk in Disk::both() {
        let store = disk.open(&StoreOptions {
            chunk_bytes: 100,
            ..weighing()
        });
        let spilled = || {
            let mut seen = Vec::new();
            let range = Position(0)..Position(u64::MAX);
            let read = store.read_spilled(QUEUE, range, u64::MAX, &mut |message| {
                seen.push(message.position.0);
                assert_eq!(message.payload, message.position.0.to_string().as_bytes());
                assert!(!message.redelivered && message.delivery_count == 0);
            });
            read.unwrap();
            seen
        };
        append(&store, QUEUE, 0..10);
        let mut writer = store.writer();
        for position in (10..200).step_by(2) {
            writer.spill(QUEUE, Position(position), &[position.to_string().as_bytes()]);
        }
        assert_eq!(writer.submit(), Ticket::NONE);
        let all: Vec<u64> = (10..200).step_by(2).collect();
        assert_eq!(spilled(), all);
        let syncs = store.statistics().syncs;
        store.commit(true);
        assert_eq!(spilled(), all);
        assert_eq!(store.statistics().syncs, syncs, "nobody waits for what is spilled");
        assert_eq!(positions(&store, QUEUE), (0..10).collect::<Vec<_>>());
        assert_eq!(store.contents(QUEUE).messages, 10);
        assert_eq!(store.queues(), [QUEUE]);

        store.writer().discard(QUEUE, Position(100));
        store.commit(true);
        let left = spilled();
        assert!(
            left.starts_with(&[]) && left.ends_with(&all[45..]) && left.len() < 60,
            "{left:?}"
        );
        store.writer().discard_all(QUEUE);
        store.commit(true);
        assert!(spilled().is_empty());
        // Positions go on as if nothing had been.
        store.writer().spill(QUEUE, Position(300), &[b"300"]);
        assert_eq!(spilled(), [300]);
    }
}

#[test]
fn a_start_drops_what_was_spilled() {
    for mut disk in Disk::both() {
        let store = disk.open(&manual());
        append(&store, QUEUE, 0..10);
        for queue in [QUEUE, QueueId(2)] {
            (0..1000).for_each(|position| store.writer().spill(queue, Position(position), &[&[7; 100]]));
        }
        append(&store, QUEUE, 10..20);
        let mut store = store;
        for _ in 0..2 {
            store = disk.reopen_killed(store, &manual());
            for queue in [QUEUE, QueueId(2)] {
                let range = Position(0)..Position(u64::MAX);
                let read = store.read_spilled(queue, range, u64::MAX, &mut |message| panic!("{message:?}"));
                assert_eq!(read.unwrap(), Position(u64::MAX));
                // Its keys may be used again before the old ones are gone.
                (0..10).for_each(|position| store.writer().spill(queue, Position(position), &[b"new"]));
            }
            store.commit(true);
            assert_eq!(positions(&store, QUEUE), (0..20).collect::<Vec<_>>());
            assert_eq!(store.allocate_queue_id(), QueueId(2), "spilled messages use up no ids");
            let mut seen = 0;
            let range = Position(0)..Position(u64::MAX);
            let mut count = |message: leveret_storage::RecoveredMessage<'_>| {
                assert_eq!(message.payload, b"new");
                seen += 1;
            };
            store.read_spilled(QUEUE, range, u64::MAX, &mut count).unwrap();
            assert_eq!(seen, 10);
        }
    }
}

#[test]
fn a_store_that_failed_still_shows_what_was_spilled() {
    let disk = MemoryDisk::new();
    let store = Store::on_memory_disk(&disk, manual()).unwrap();
    (0..10).for_each(|position| store.writer().spill(QUEUE, Position(position), &[b"x"]));
    disk.fail_syncs_after(Some(0));
    let mut writer = store.writer();
    writer.append(QUEUE, Position(10), &[b"y"]);
    let ticket = writer.submit();
    assert!(store.wait(ticket).is_err());
    assert!(store.has_failed());
    let mut seen = 0;
    let range = Position(0)..Position(u64::MAX);
    store.read_spilled(QUEUE, range, u64::MAX, &mut |_| seen += 1).unwrap();
    assert_eq!(seen, 10);
}
