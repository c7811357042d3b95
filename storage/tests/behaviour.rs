//! What a store does, on both engines.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end that way")]

mod common;

use common::{Disk, Seen, append, manual, patient, positions, recover, write};
use leveret_storage::{Position, QueueId, Store, StoreOptions, Ticket};

const QUEUE: QueueId = QueueId(1);
const OTHER: QueueId = QueueId(2);

#[test]
fn messages_come_back_in_order_after_a_close_and_after_a_kill() {
    for mut disk in Disk::both() {
        let store = disk.open(&patient());
        append(&store, QUEUE, 0..3);
        write(&store, |writer| {
            writer.append(OTHER, Position(7), &[b"he", b"", b"ad", b"body"]);
        });
        append(&store, QUEUE, 3..6);
        store.close().unwrap();
        drop(store);
        let store = disk.open(&patient());
        append(&store, QUEUE, 10..12);
        let store = disk.reopen_killed(store, &patient());
        assert_eq!(positions(&store, QUEUE), [0, 1, 2, 3, 4, 5, 10, 11]);
        let expected: Seen = (7, false, 0, b"headbody".to_vec());
        assert_eq!(recover(&store, OTHER), [expected]);
        assert_eq!(store.next_position(QUEUE), Position(12));
        assert_eq!(store.message_count(QUEUE), 8);
        assert_eq!(store.statistics().messages_live, 9, "what was recovered counts");
    }
}

#[test]
fn settled_messages_do_not_come_back_after_a_close() {
    for disk in Disk::both() {
        let store = disk.open(&patient());
        append(&store, QUEUE, 0..10);
        append(&store, QUEUE, 10..20);
        let mut writer = store.writer();
        for position in [0, 1, 2, 5, 19, 10, 11, 12, 13, 14, 15, 16, 17, 18, 500] {
            writer.settle(QUEUE, Position(position));
        }
        assert_eq!(writer.submit(), Ticket::NONE, "nobody waits for an ack");
        assert_eq!(positions(&store, QUEUE), [3, 4, 6, 7, 8, 9]);
        store.close().unwrap();
        drop(store);
        let store = disk.open(&patient());
        assert_eq!(positions(&store, QUEUE), [3, 4, 6, 7, 8, 9]);
        assert_eq!(store.statistics().chunks_live, 1);
        assert_eq!(store.next_position(QUEUE), Position(20), "no position is used twice");
    }
}

#[test]
fn a_wholly_settled_queue_is_empty_and_keeps_its_positions() {
    for mut disk in Disk::both() {
        let store = disk.open(&patient());
        append(&store, QUEUE, 0..10);
        let mut writer = store.writer();
        (0..10).for_each(|position| writer.settle(QUEUE, Position(position)));
        writer.submit();
        // The dead chunk goes with the next commit, whoever makes it.
        append(&store, OTHER, 0..1);
        let store = disk.reopen_killed(store, &patient());
        assert!(recover(&store, QUEUE).is_empty());
        assert_eq!(store.next_position(QUEUE), Position(10));
    }
}

#[test]
fn a_message_settled_before_it_was_written_is_never_written() {
    for disk in Disk::both() {
        let store = disk.open(&manual());
        let mut writer = store.writer();
        writer.append(QUEUE, Position(0), &[&[7; 100_000]]);
        let ticket = writer.submit();
        let mut writer = store.writer();
        writer.settle(QUEUE, Position(0));
        writer.submit();
        store.commit(true);
        assert!(store.durable() >= ticket, "its publisher is confirmed all the same");
        assert!(store.statistics().bytes_written < 1000);
        assert!(recover(&store, QUEUE).is_empty());
    }
}

#[test]
fn what_was_delivered_comes_back_as_redelivered() {
    for mut disk in Disk::both() {
        let store = disk.open(&patient());
        append(&store, QUEUE, 0..6);
        let mut writer = store.writer();
        writer.delivered(QUEUE, Position(3));
        writer.delivered(QUEUE, Position(2));
        writer.delivered(QueueId(99), Position(2));
        assert_eq!(writer.submit(), Ticket::NONE);
        append(&store, QUEUE, 6..7);
        let store = disk.reopen_killed(store, &patient());
        let redelivered: Vec<_> = recover(&store, QUEUE).iter().map(|seen| seen.1).collect();
        assert_eq!(redelivered, [true, true, true, true, false, false, false]);
    }
}

#[test]
fn delivery_counts_live_as_long_as_their_messages() {
    for mut disk in Disk::both() {
        let store = disk.open(&patient());
        append(&store, QUEUE, 0..4);
        let mut writer = store.writer();
        writer.requeued(QUEUE, Position(1), 1);
        writer.requeued(QUEUE, Position(1), 2);
        writer.requeued(QUEUE, Position(2), 9);
        writer.requeued(QUEUE, Position(77), 5);
        writer.submit();
        append(&store, OTHER, 0..1);
        let store = disk.reopen_killed(store, &patient());
        let counts = |store: &Store| -> Vec<(u64, u32)> {
            let seen = recover(store, QUEUE);
            seen.iter().map(|(position, _, count, _)| (*position, *count)).collect()
        };
        assert_eq!(counts(&store), [(0, 0), (1, 2), (2, 9), (3, 0)]);
        let mut writer = store.writer();
        writer.settle(QUEUE, Position(2));
        writer.submit();
        store.flush().unwrap();
        let store = disk.reopen_killed(store, &patient());
        assert_eq!(counts(&store), [(0, 0), (1, 2), (3, 0)]);
    }
}

#[test]
fn purge_keeps_what_is_unacked_and_what_is_above() {
    for chunk_bytes in [1, 40, 1 << 20] {
        for mut disk in Disk::both() {
            let options = StoreOptions {
                chunk_bytes,
                ..patient()
            };
            let store = disk.open(&options);
            append(&store, QUEUE, 0..100);
            append(&store, OTHER, 0..3);
            append(&store, QUEUE, 100..200);
            write(&store, |writer| {
                writer.requeued(QUEUE, Position(7), 3);
                writer.requeued(QUEUE, Position(8), 3);
                writer.purge(QUEUE, Position(150), &[Position(120), Position(7), Position(300)]);
            });
            let expected: Vec<u64> = [7, 120].into_iter().chain(150..200).collect();
            assert_eq!(positions(&store, QUEUE), expected);
            let store = disk.reopen_killed(store, &options);
            assert_eq!(positions(&store, QUEUE), expected);
            assert_eq!(recover(&store, QUEUE)[0].2, 3);
            assert_eq!(positions(&store, OTHER), [0, 1, 2]);
            write(&store, |writer| writer.purge(QUEUE, Position(200), &[] as &[Position]));
            append(&store, QUEUE, 200..201);
            let store = disk.reopen_killed(store, &options);
            assert_eq!(positions(&store, QUEUE), [200]);
        }
    }
}

#[test]
fn a_purge_reaches_what_was_not_written_yet() {
    for disk in Disk::both() {
        let store = disk.open(&manual());
        let mut writer = store.writer();
        (0..10).for_each(|position| writer.append(QUEUE, Position(position), &[b"x"]));
        writer.purge(QUEUE, Position(9), &[Position(4)]);
        writer.append(QUEUE, Position(10), &[b"y"]);
        let ticket = writer.submit();
        assert_eq!(positions(&store, QUEUE), [4, 9, 10]);
        store.wait(ticket).unwrap();
        assert_eq!(positions(&store, QUEUE), [4, 9, 10]);
    }
}

#[test]
fn a_deleted_queue_leaves_nothing() {
    for (chunks, mut disk) in [1, 50]
        .into_iter()
        .flat_map(|chunks| Disk::both().map(|disk| (chunks, disk)))
    {
        let store = disk.open(&patient());
        for chunk in 0..chunks {
            append(&store, QUEUE, chunk * 3..chunk * 3 + 3);
            append(&store, OTHER, chunk..chunk + 1);
        }
        write(&store, |writer| {
            writer.requeued(QUEUE, Position(1), 1);
            writer.requeued(OTHER, Position(0), 1);
        });
        store.flush().unwrap();
        write(&store, |writer| writer.delete_queue(QUEUE));
        assert_eq!(store.queues(), [OTHER]);
        let store = disk.reopen_killed(store, &patient());
        assert_eq!(store.queues(), [OTHER]);
        assert!(recover(&store, QUEUE).is_empty());
        assert_eq!(store.message_count(OTHER), chunks);
        assert_eq!(recover(&store, OTHER)[0].2, 1);
    }
}

#[test]
fn a_long_queue_is_read_from_anywhere_wherever_its_messages_are() {
    for disk in Disk::both() {
        let store = disk.open(&StoreOptions {
            chunk_bytes: 200,
            ..manual()
        });
        for batch in 0..5u64 {
            let mut writer = store.writer();
            for index in batch * 1000..batch * 1000 + 1000 {
                writer.append(QUEUE, Position(index * 3), &[&index.to_be_bytes()]);
            }
            let ticket = writer.submit();
            // The last batch stays pending: part of it in closed chunks, part in an open one.
            if batch < 4 {
                store.wait(ticket).unwrap();
            }
        }
        let mut from = Position(2);
        let mut read = Vec::new();
        loop {
            let messages = store.read(QUEUE, from, 2000).unwrap();
            let Some(last) = messages.last() else { break };
            let bytes: usize = messages.iter().map(|message| message.payload.len()).sum();
            assert!(bytes >= 2000 || last.position == Position(4999 * 3));
            assert!(bytes < 2000 + 200, "no more than the chunk that filled it");
            from = Position(last.position.0 + 1);
            read.extend(messages);
        }
        let expected: Vec<u64> = (1..5000).map(|index| index * 3).collect();
        assert!(
            read.iter()
                .map(|message| message.position.0)
                .eq(expected.iter().copied())
        );
        assert!(
            read.iter()
                .all(|message| message.payload == (message.position.0 / 3).to_be_bytes())
        );
        assert_eq!(positions(&store, QUEUE).len(), 5000);
        assert!(store.read(QUEUE, Position(15_000), 1).unwrap().is_empty());
        assert!(store.read(OTHER, Position(0), 1).unwrap().is_empty());
    }
}

#[test]
fn a_large_message_has_a_chunk_of_its_own() {
    for mut disk in Disk::both() {
        let store = disk.open(&patient());
        let body: Vec<u8> = (0..5_000_000u32).map(|index| (index / 7) as u8).collect();
        write(&store, |writer| {
            writer.append(QUEUE, Position(0), &[b"small"]);
            writer.append(QUEUE, Position(1), &[b"head", &body]);
            writer.append(QUEUE, Position(2), &[b"small"]);
            writer.append(QUEUE, Position(3), &[b""]);
        });
        assert_eq!(store.statistics().chunks_live, 3);
        let store = disk.reopen_killed(store, &patient());
        let seen = recover(&store, QUEUE);
        assert_eq!(seen.len(), 4);
        assert!(seen[1].3.starts_with(b"head") && seen[1].3[4..] == body);
        assert!(seen[3].3.is_empty());
    }
}

#[test]
fn the_survivors_of_a_sparse_chunk_are_written_anew_in_their_places() {
    for mut disk in Disk::both() {
        let options = manual();
        let store = disk.open(&options);
        for batch in 0..20u64 {
            let mut writer = store.writer();
            for position in batch * 100..batch * 100 + 100 {
                writer.append(QUEUE, Position(position), &[&position.to_be_bytes(), &[0; 1000]]);
            }
            store.wait(writer.submit()).unwrap();
        }
        store.commit(true);
        let mut writer = store.writer();
        writer.delivered(QUEUE, Position(1500));
        writer.requeued(QUEUE, Position(777), 4);
        let survives = |position: u64| position % 100 == 77 || position >= 1900;
        (0..2000)
            .filter(|position| !survives(*position))
            .for_each(|position| writer.settle(QUEUE, Position(position)));
        writer.submit();
        assert_eq!(store.statistics().chunks_live, 20);
        (0..3).for_each(|_| store.commit(true));
        assert!(store.statistics().chunks_live <= 6, "all but the newest are one chunk");
        let expected: Vec<u64> = (0..2000).filter(|position| survives(*position)).collect();
        assert_eq!(positions(&store, QUEUE), expected);
        let store = disk.reopen_killed(store, &options);
        let seen = recover(&store, QUEUE);
        assert!(seen.iter().map(|seen| seen.0).eq(expected.iter().copied()));
        assert!(seen.iter().all(|seen| seen.3[..8] == seen.0.to_be_bytes()));
        assert!(seen.iter().all(|seen| seen.1 == (seen.0 <= 1500)));
        assert!(seen.iter().all(|seen| seen.2 == if seen.0 == 777 { 4 } else { 0 }));

        // Survivors are settled like any others, and what they leave behind is written anew once more.
        let mut writer = store.writer();
        (0..1900).for_each(|position| writer.settle(QUEUE, Position(position)));
        writer.submit();
        store.commit(true);
        let store = disk.reopen_killed(store, &options);
        assert_eq!(positions(&store, QUEUE), Vec::from_iter(1900..2000));
    }
}

#[test]
fn everything_written_under_a_hold_is_one_commit() {
    for mut disk in Disk::both() {
        let store = disk.open(&patient());
        append(&store, QUEUE, 0..10);
        let commits = store.statistics().commits;
        let hold = store.hold();
        let mut writer = store.writer();
        writer.append(OTHER, Position(0), &[b"dead-lettered"]);
        let first = writer.submit();
        let another = append_in_thread(&store, QueueId(3));
        let mut writer = store.writer();
        writer.settle(QUEUE, Position(4));
        assert_eq!(writer.submit(), Ticket::NONE);
        assert!(store.durable() < first, "the commit thread keeps its hands off");
        assert_eq!(another, first);
        drop(hold);
        store.wait(first).unwrap();
        assert_eq!(store.statistics().commits, commits + 1);
        // The settled message went with it, although its chunk lives on.
        let store = disk.reopen_killed(store, &patient());
        assert_eq!(positions(&store, OTHER), [0]);
        assert_eq!(positions(&store, QUEUE), [0, 1, 2, 3, 5, 6, 7, 8, 9]);
    }
}

fn append_in_thread(store: &Store, queue: QueueId) -> Ticket {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut writer = store.writer();
            writer.append(queue, Position(0), &[b"meanwhile"]);
            writer.submit()
        });
        thread.join().unwrap()
    })
}

#[test]
fn settling_durably_survives_a_kill_at_once() {
    for mut disk in Disk::both() {
        let store = disk.open(&patient());
        append(&store, QUEUE, 0..10);
        write(&store, |writer| {
            writer.settle_durably(QUEUE, Position(3));
        });
        let store = disk.reopen_killed(store, &patient());
        assert_eq!(positions(&store, QUEUE), [0, 1, 2, 4, 5, 6, 7, 8, 9]);
    }
}

#[test]
fn one_commit_holds_many_queues_and_many_chunks() {
    for mut disk in Disk::both() {
        let options = StoreOptions {
            chunk_bytes: 64,
            ..patient()
        };
        let store = disk.open(&options);
        write(&store, |writer| {
            for position in 0..50 {
                for queue in 1..40 {
                    writer.append(QueueId(queue), Position(position), &[&[queue as u8; 30]]);
                }
            }
        });
        assert_eq!(store.statistics().commits, 1);
        let store = disk.reopen_killed(store, &options);
        assert_eq!(store.queues().len(), 39);
        for queue in 1..40 {
            let seen = recover(&store, QueueId(queue));
            assert!(seen.iter().map(|seen| seen.0).eq(0..50));
            assert!(seen.iter().all(|seen| seen.3 == [queue as u8; 30]));
        }
    }
}
