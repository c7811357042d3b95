//! What the operator and the tests can choose.

use std::time::Duration;

use crate::ids::Weight;

/// When a commit is forced to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fsync {
    /// Before its ticket becomes durable: nothing confirmed is lost, whatever fails.
    Always,
    /// At the latest this long after it was written. A killed process loses nothing confirmed; the loss of power, or a crash
    /// of the system, loses at most this much.
    Interval(Duration),
    /// When the operating system likes, and at close. A killed process loses nothing confirmed.
    Never,
}

/// How a store behaves. The defaults are right for a broker.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// When a commit is forced to the disk.
    pub fsync: Fsync,
    /// A chunk is closed when it has grown to this. A larger message has a chunk of its own.
    pub chunk_bytes: usize,
    /// So many chunks at the end of a queue are left as they are, however small: they may be about to be settled.
    pub unjoined_chunks: usize,
    /// Above this much that waits to be written, [`Store::is_congested`](crate::Store::is_congested) asks publishers to pause.
    /// It says that they may go on at half of it.
    pub pending_bytes_max: usize,
    /// How long what nobody waits for (settled messages, delivery counts) may wait for a commit to ride along with.
    pub lazy_flush: Duration,
    /// How long a sparse chunk among the newest of its queue may wait for the rest of its messages to be settled, before the
    /// survivors are written anew.
    pub sparse_patience: Duration,
    /// So long after something died the disk space of what is dead is freed.
    pub reclaim_pause: Duration,
    /// Nothing is done for less than this, and nothing in particular for a queue of which less than half of this has gone.
    pub reclaim_bytes_min: u64,
    /// What a payload, of which it gets at least the first part, says of its message. The bytes are added up in
    /// [`QueueContents::body_bytes`](crate::QueueContents::body_bytes), and the earliest expiry is known of each chunk.
    pub weigh: fn(&[u8]) -> Weight,
    /// Without a commit thread: commits happen in [`Store::commit`](crate::Store::commit) and nowhere else, so that a
    /// simulation decides when.
    pub manual_commit: bool,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            fsync: Fsync::Always,
            chunk_bytes: CHUNK_BYTES,
            unjoined_chunks: UNJOINED_CHUNKS,
            pending_bytes_max: PENDING_BYTES_MAX,
            lazy_flush: Duration::from_millis(LAZY_FLUSH_MILLIS),
            sparse_patience: Duration::from_millis(SPARSE_PATIENCE_MILLIS),
            reclaim_pause: Duration::from_secs(RECLAIM_PAUSE_SECONDS),
            reclaim_bytes_min: RECLAIM_BYTES_MIN,
            weigh: |_| Weight::from(0),
            manual_commit: false,
        }
    }
}

impl StoreOptions {
    /// As a broker has them, but for how much it takes until the store writes chunks anew and frees disk space: it does so all
    /// the time. For tests that want to meet it there.
    pub fn restless() -> Self {
        Self {
            chunk_bytes: RESTLESS_CHUNK_BYTES,
            unjoined_chunks: RESTLESS_UNJOINED_CHUNKS,
            sparse_patience: Duration::from_millis(LAZY_FLUSH_MILLIS),
            reclaim_pause: Duration::from_millis(RESTLESS_PAUSE_MILLIS),
            reclaim_bytes_min: 0,
            ..Self::default()
        }
    }
}

/// Large enough that a long queue has few chunks, small enough to be read back in a moment.
pub const CHUNK_BYTES: usize = 1 << 20;
/// Few, because each is a place in memory, and there may be ten thousand queues.
pub const UNJOINED_CHUNKS: usize = 16;
/// Some tenths of a second of a fast disk.
pub const PENDING_BYTES_MAX: usize = 64 << 20;
/// What is settled within this time of a crash may be delivered again.
pub const LAZY_FLUSH_MILLIS: u64 = 200;
/// Consumers mostly settle within seconds; what they still hold then pins its neighbours no longer.
pub const SPARSE_PATIENCE_MILLIS: u64 = 5_000;
/// A drained queue leaves the disk within a minute, and a busy one is looked at rarely.
pub const RECLAIM_PAUSE_SECONDS: u64 = 10;
/// Compacting for less would write more than it frees.
pub const RECLAIM_BYTES_MIN: u64 = 32 << 20;
/// A handful of small messages.
const RESTLESS_CHUNK_BYTES: usize = 2_000;
const RESTLESS_UNJOINED_CHUNKS: usize = 2;
const RESTLESS_PAUSE_MILLIS: u64 = 20;
