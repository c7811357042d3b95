//! Many writers share commits and syncs, and every one is told.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may end that way")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use common::{Disk, append, patient, positions};
use leveret_storage::{CommitListener, Position, QueueId, Store, StoreOptions, Ticket};
use parking_lot::{Condvar, Mutex};

/// Wakes the thread that waits for its confirms, as a connection would.
#[derive(Default)]
struct Connection {
    woken: Mutex<bool>,
    condition: Condvar,
}

impl CommitListener for Connection {
    fn committed(&self) {
        *self.woken.lock() = true;
        self.condition.notify_one();
    }
}

impl Connection {
    /// Waits for a ticket as a connection does: register, look, sleep.
    fn wait(self: &Arc<Self>, store: &Store, ticket: Ticket) {
        loop {
            store.wake_on_commit(self.clone());
            if store.durable() >= ticket {
                return;
            }
            let mut woken = self.woken.lock();
            while !std::mem::take(&mut *woken) {
                let deadline = Instant::now() + Duration::from_secs(30);
                assert!(
                    !self.condition.wait_until(&mut woken, deadline).timed_out(),
                    "nobody called"
                );
            }
        }
    }
}

#[test]
fn many_publishers_are_all_confirmed_and_share_syncs() {
    for mut disk in Disk::both() {
        let store = disk.open(&patient());
        let confirmed = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for queue in 1..=8u64 {
                let (store, confirmed) = (&store, &confirmed);
                scope.spawn(move || {
                    let connection = Arc::new(Connection::default());
                    for position in 0..50 {
                        let mut writer = store.writer();
                        writer.append(QueueId(queue), Position(position), &[&queue.to_be_bytes()]);
                        let ticket = writer.submit();
                        connection.wait(store, ticket);
                        confirmed.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(confirmed.into_inner(), 400);
        let statistics = store.statistics();
        assert_eq!(statistics.messages_appended, 400);
        assert_eq!(statistics.syncs, statistics.commits);
        assert!(statistics.commits <= 400);
        let store = disk.reopen_killed(store, &patient());
        for queue in 1..=8 {
            assert!(positions(&store, QueueId(queue)).into_iter().eq(0..50));
        }
    }
}

#[test]
fn settling_alone_neither_commits_nor_syncs_until_its_time_has_come() {
    let store = Store::in_memory(patient());
    append(&store, QueueId(1), 0..10);
    let before = store.statistics();
    for position in 0..10 {
        let mut writer = store.writer();
        writer.settle(QueueId(1), Position(position));
        writer.delivered(QueueId(1), Position(position));
        writer.submit();
    }
    assert_eq!(store.statistics().commits, before.commits);
    append(&store, QueueId(2), 0..1);
    let after = store.statistics();
    assert_eq!((after.commits, after.syncs), (before.commits + 1, before.syncs + 1));
}

#[test]
fn settling_is_written_unsynced_a_little_later_by_itself() {
    let lazy_flush = Duration::from_millis(20);
    let store = Store::in_memory(StoreOptions {
        lazy_flush,
        ..StoreOptions::default()
    });
    append(&store, QueueId(1), 0..10);
    store.flush().unwrap();
    let before = store.statistics();
    let mut writer = store.writer();
    writer.settle(QueueId(1), Position(3));
    writer.submit();
    let deadline = Instant::now() + Duration::from_secs(10);
    while store.statistics().commits == before.commits {
        assert!(Instant::now() < deadline, "settling was never written");
        std::thread::yield_now();
    }
    assert_eq!(store.statistics().syncs, before.syncs);
}

#[test]
fn an_idle_store_does_nothing() {
    let store = Store::in_memory(StoreOptions {
        lazy_flush: Duration::from_millis(1),
        ..StoreOptions::default()
    });
    append(&store, QueueId(1), 0..10);
    store.flush().unwrap();
    // Opening and dropping writers without a word is nothing either.
    drop(store.writer());
    assert_eq!(store.writer().submit(), Ticket::NONE);
    let before = store.statistics();
    let end = Instant::now() + Duration::from_millis(50);
    while Instant::now() < end {
        std::thread::yield_now();
    }
    assert_eq!(store.statistics(), before);
}

#[test]
fn readers_see_every_message_while_it_moves_to_the_disk() {
    for mut disk in Disk::both() {
        let options = StoreOptions {
            chunk_bytes: 20_000,
            lazy_flush: Duration::from_millis(1),
            sparse_patience: Duration::ZERO,
            ..StoreOptions::default()
        };
        let store = disk.open(&options);
        let queue = QueueId(1);
        // Only multiples of ten stay, so chunks are rewritten all the time; some are settled while that goes on.
        let stays = |position: u64| position.is_multiple_of(10);
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| {
                for batch in 0..80u64 {
                    let mut writer = store.writer();
                    for position in batch * 20..batch * 20 + 20 {
                        writer.append(queue, Position(position), &[&[1; 500]]);
                    }
                    let ticket = writer.submit();
                    for position in (batch * 20).saturating_sub(500)..batch * 20 {
                        if !stays(position) && position % 50 == batch % 50 {
                            let mut writer = store.writer();
                            writer.settle(queue, Position(position));
                            writer.submit();
                        }
                    }
                    store.wait(ticket).unwrap();
                }
            });
            while !writing.is_finished() {
                let seen = positions(&store, queue);
                assert!(seen.is_sorted());
                let kept: Vec<u64> = seen.into_iter().filter(|position| stays(*position)).collect();
                let expected = (0..).step_by(10).take(kept.len());
                assert!(kept.iter().copied().eq(expected), "{kept:?}");
            }
        });
        for position in (0..1600).filter(|position| !stays(*position)) {
            let mut writer = store.writer();
            writer.settle(queue, Position(position));
            writer.submit();
        }
        let kept: Vec<u64> = (0..1600).filter(|position| stays(*position)).collect();
        assert_eq!(positions(&store, queue), kept);
        store.flush().unwrap();
        let store = disk.reopen_killed(store, &options);
        assert_eq!(positions(&store, queue), kept);
        assert_eq!(store.message_count(queue), 160);
    }
}
