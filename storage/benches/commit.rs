//! What a message costs the store: appended with others, committed, and settled after the next commit, over both engines.
//! Nothing is synced: the disk is not measured.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use leveret_storage::{Fsync, Position, QueueId, Store, StoreOptions};

/// Messages in one commit.
const BATCH: u64 = 100;
const SIZES: [usize; 3] = [100, 1024, 16 * 1024];

/// A queue whose messages are settled one commit after they were written, as a consumer that keeps up does it.
struct Kept {
    store: Store,
    queue: QueueId,
    next: u64,
}

impl Kept {
    fn new(store: Store) -> Kept {
        let queue = store.allocate_queue_id();
        Kept { store, queue, next: 0 }
    }

    fn round(&mut self, payload: &[u8]) {
        let (first, queue) = (self.next, self.queue);
        self.next += BATCH;
        let mut writer = self.store.writer();
        for position in first..self.next {
            writer.append(queue, Position(position), &[payload]);
        }
        for position in first.saturating_sub(BATCH)..first {
            writer.settle(queue, Position(position));
        }
        let ticket = writer.submit();
        self.store.commit(false);
        assert!(self.store.durable() >= ticket);
    }
}

fn options(fsync: Fsync) -> StoreOptions {
    StoreOptions {
        manual_commit: true,
        fsync,
        ..StoreOptions::default()
    }
}

fn committing(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    for size in SIZES {
        let payload = vec![7; size];
        group.throughput(Throughput::Elements(BATCH));
        // The engine in memory copies at each sync what the syncs of a disk would have; without, it keeps all batches.
        let mut kept = Kept::new(Store::in_memory(options(Fsync::Always)));
        group.bench_function(BenchmarkId::new("memory", size), |bencher| {
            bencher.iter(|| kept.round(&payload));
        });
        let folder = tempfile::tempdir().unwrap();
        let mut kept = Kept::new(Store::open(folder.path(), options(Fsync::Never)).unwrap());
        group.bench_function(BenchmarkId::new("rocksdb", size), |bencher| {
            bencher.iter(|| kept.round(&payload));
        });
        kept.store.close().unwrap();
    }
    group.finish();
}

criterion_group!(benches, committing);
criterion_main!(benches);
