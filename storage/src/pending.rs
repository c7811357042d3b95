//! What waits for the next commit, and how a commit is cut from it.

use std::ops::Range;
use std::time::Instant;

use crate::bodies::{Bodies, References};
use crate::chunk::seal;
use crate::engine::{Batch, Space};
use crate::error::StorageError;
use crate::ids::{BodyId, Position, QueueId, Ticket};
use crate::index::{IndexEntry, QueueState};
use crate::keys::{ChunkKey, Key};
use crate::log::{Chunk, QueueLog, SharedBytes};
use crate::reclaim::KeyRange;

/// All queues, and what of them the engine does not know yet. One lock guards it.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) queues: foldhash::HashMap<QueueId, QueueLog>,
    pub(crate) bodies: Bodies,
    pub(crate) pending: Pending,
    /// The commit that `pending` will be.
    pub(crate) ticket: Ticket,
    /// The bytes of chunks in the commit that is being written.
    pub(crate) writing_bytes: usize,
    /// A rule was broken: nothing more may be written.
    pub(crate) misuse: Option<StorageError>,
    /// Nothing more is taken: the store is closed, or a write failed.
    pub(crate) refusing: bool,
    /// When what nobody waits for goes to the engine.
    pub(crate) lazy_due: Option<Instant>,
    /// Somebody wants everything written and synced, lazy things too.
    pub(crate) flush: bool,
    /// How the commit thread is to end.
    pub(crate) stop: Option<Stop>,
    pub(crate) appended: u64,
    pub(crate) settled: u64,
}

/// How a commit thread ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It writes and syncs everything first.
    Flush,
    /// At once, as if the process had been killed.
    Abandon,
}

/// What the next commit will write.
#[derive(Default)]
pub(crate) struct Pending {
    /// Queues with an open chunk, some of them twice.
    pub(crate) open: Vec<QueueId>,
    /// Closed chunks; those that died since are in no queue any more.
    pub(crate) waiting: Vec<(QueueId, ChunkKey)>,
    /// The bytes of open and waiting chunks.
    pub(crate) bytes: usize,
    /// Stored values of chunks of which nothing is alive.
    pub(crate) dead: Vec<(QueueId, ChunkKey)>,
    /// Index entries of what is dead, or has been joined with others.
    pub(crate) dead_entries: Vec<(QueueId, ChunkKey)>,
    /// Keys to delete as ranges.
    pub(crate) ranges: Vec<(Space, Vec<u8>, Vec<u8>)>,
    /// Chunks whose index entry must go with this commit.
    pub(crate) index_now: Vec<(QueueId, ChunkKey)>,
    /// Queues with index entries that can wait.
    pub(crate) lazy: Vec<QueueId>,
    /// Queues whose state changed.
    pub(crate) states: Vec<QueueId>,
    pub(crate) deleted_states: Vec<QueueId>,
    /// Delivery counts in the order they changed; `None` deletes.
    pub(crate) counts: Vec<(QueueId, Position, Option<u32>)>,
    /// Delivery counts of settled messages. They go with the index: a message that comes back has its count.
    pub(crate) settled_counts: Vec<(QueueId, Position)>,
    /// Bodies that a message refers to no longer.
    pub(crate) released: Vec<BodyId>,
    /// Definitions in the order they changed, by key; `None` deletes.
    pub(crate) definitions: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// Messages of schedules in the order they changed, by key; `None` deletes.
    pub(crate) scheduled: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The lowest id no queue has had, if that changed.
    pub(crate) next_queue_id: Option<u64>,
    /// All chunks of large queues that were deleted; not part of a commit.
    pub(crate) gone: Vec<KeyRange>,
    /// Files of a queue are looked for when so much of it has gone.
    pub(crate) freed_bytes_min: u64,
    /// So many chunks at the end of a queue are not joined with others.
    pub(crate) unjoined_chunks: usize,
    /// Chunks that have become sparse; not part of a commit.
    pub(crate) sparse: Vec<(QueueId, ChunkKey)>,
    /// There is to be a commit at once.
    pub(crate) urgent: bool,
    /// Somebody waits for the messages of this commit.
    pub(crate) awaited: bool,
    /// Somebody waits for something else than messages: messages may be settled before they are written.
    pub(crate) must_sync: bool,
    /// Buffers to use again.
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
}

/// A commit: everything needed to write it without the lock.
#[derive(Default)]
pub(crate) struct Cut {
    pub(crate) ticket: Ticket,
    /// Whether there is anything in it that somebody wants to be durable.
    pub(crate) needs_sync: bool,
    /// Somebody who waits for this ticket wants all that was written to be durable.
    pub(crate) flush: bool,
    pub(crate) chunks: Vec<(QueueId, ChunkKey, SharedBytes)>,
    pub(crate) chunk_bytes: usize,
    dead: Vec<(QueueId, ChunkKey)>,
    dead_entries: Vec<(QueueId, ChunkKey)>,
    ranges: Vec<(Space, Vec<u8>, Vec<u8>)>,
    index: Vec<(QueueId, ChunkKey, Range<usize>)>,
    index_bytes: Vec<u8>,
    states: Vec<(QueueId, QueueState)>,
    deleted_states: Vec<QueueId>,
    counts: Vec<(QueueId, Position, Option<u32>)>,
    definitions: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    scheduled: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    scheduled_bytes: usize,
    next_queue_id: Option<u64>,
}

impl State {
    /// Takes everything that waits as one commit. With `lazily`, the index is brought up to date too.
    pub(crate) fn cut(&mut self, lazily: bool) -> Cut {
        let mut cut = Cut {
            ticket: self.ticket,
            ..Cut::default()
        };
        if lazily {
            self.drop_bodies();
        }
        self.cut_chunks(&mut cut);
        self.cut_index(&mut cut, lazily);
        let Self { queues, pending, .. } = self;
        for queue in std::mem::take(&mut pending.states) {
            if let Some(log) = queues.get_mut(&queue) {
                cut.states.push((queue, log.take_state()));
            }
        }
        if lazily {
            cut.flush = std::mem::take(&mut self.flush);
            let settled = std::mem::take(&mut pending.settled_counts);
            pending
                .counts
                .extend(settled.into_iter().map(|(queue, position)| (queue, position, None)));
            if cut.chunks.is_empty() {
                // Nothing was appended for a while: an idle broker keeps no buffers.
                pending.drop_buffers();
            }
        }
        cut.dead.append(&mut pending.dead);
        cut.dead_entries = std::mem::take(&mut pending.dead_entries);
        cut.ranges = std::mem::take(&mut pending.ranges);
        cut.deleted_states = std::mem::take(&mut pending.deleted_states);
        cut.counts = std::mem::take(&mut pending.counts);
        cut.definitions = std::mem::take(&mut pending.definitions);
        cut.scheduled = std::mem::take(&mut pending.scheduled);
        let payloads = cut.scheduled.iter().filter_map(|(_, payload)| payload.as_ref());
        cut.scheduled_bytes = payloads.map(Vec::len).sum();
        cut.next_queue_id = pending.next_queue_id.take();
        pending.urgent = false;
        let awaited = std::mem::take(&mut pending.awaited);
        cut.needs_sync = std::mem::take(&mut pending.must_sync) || (awaited && !cut.chunks.is_empty());
        pending.bytes = 0;
        self.writing_bytes = cut.chunk_bytes + cut.scheduled_bytes;
        self.ticket.0 += 1;
        cut
    }

    /// Closes the open chunks, and takes all that wait and did not die meanwhile.
    fn cut_chunks(&mut self, cut: &mut Cut) {
        let Self { queues, pending, .. } = self;
        for queue in std::mem::take(&mut pending.open) {
            if let Some(log) = queues.get_mut(&queue) {
                log.close(queue, pending);
            }
        }
        for (queue, key) in std::mem::take(&mut pending.waiting) {
            let Some(chunk) = queues.get_mut(&queue).and_then(|log| log.chunk_mut(key)) else {
                continue;
            };
            if let Some(bytes) = chunk.write() {
                cut.chunk_bytes += bytes.lock().len();
                cut.chunks.push((queue, key, bytes));
            }
        }
    }

    /// Encodes the index entries that must be written, and with `lazily` all that are missing or outdated.
    fn cut_index(&mut self, cut: &mut Cut, lazily: bool) {
        let Self { queues, pending, .. } = self;
        let mut stale = std::mem::take(&mut pending.index_now);
        // What a store leaves behind when it is closed is found without looking at messages.
        let closing = self.stop == Some(Stop::Flush);
        let mut lazy = if lazily {
            std::mem::take(&mut pending.lazy)
        } else {
            Vec::new()
        };
        if lazily && closing {
            lazy = queues.keys().copied().filter(|queue| !queue.is_spill()).collect();
        }
        let unjoined_chunks = if closing { 0 } else { pending.unjoined_chunks };
        for queue in lazy {
            if let Some(log) = queues.get_mut(&queue) {
                let keys = log.take_stale(queue, unjoined_chunks, pending);
                stale.extend(keys.into_iter().map(|key| (queue, key)));
            }
        }
        for (queue, key) in stale {
            let Some(log) = queues.get_mut(&queue) else {
                continue;
            };
            let found = log.find_key(key).and_then(|index| log.chunks.get_mut(index));
            if let Some(chunk) = found {
                cut.index_chunk(queue, chunk, &log.references);
            }
        }
    }

    /// Remembers that a commit is in the engine.
    pub(crate) fn stored(&mut self, cut: Cut) {
        self.writing_bytes = 0;
        for (queue, key, bytes) in cut.chunks {
            if let Some(chunk) = self.queues.get_mut(&queue).and_then(|log| log.chunk_mut(key)) {
                chunk.written();
            }
            self.pending.keep_buffer(std::mem::take(&mut bytes.lock()));
        }
    }
}

impl Pending {
    /// Whether a commit now would write anything but index entries that can wait.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
            && self.waiting.is_empty()
            && self.dead.is_empty()
            && self.dead_entries.is_empty()
            && self.ranges.is_empty()
            && self.index_now.is_empty()
            && self.states.is_empty()
            && self.deleted_states.is_empty()
            && self.counts.is_empty()
            && self.definitions.is_empty()
            && self.scheduled.is_empty()
            && self.next_queue_id.is_none()
    }

    /// Whether nothing at all waits to be written.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_empty()
            && self.lazy.is_empty()
            && self.settled_counts.is_empty()
            && self.released.is_empty()
            && self.sparse.is_empty()
    }

    /// An empty buffer for a chunk.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        let buffer = self.spare.pop().unwrap_or_default();
        self.spare_bytes -= buffer.capacity();
        buffer
    }

    /// Takes back the bytes of a chunk that died before it was written.
    pub(crate) fn never_written(&mut self, bytes: Vec<u8>) {
        self.bytes = self.bytes.saturating_sub(bytes.len());
        self.keep_buffer(bytes);
    }

    fn keep_buffer(&mut self, buffer: Vec<u8>) {
        let fits = self.spare.len() < SPARE_BUFFERS_MAX && self.spare_bytes + buffer.capacity() <= SPARE_BYTES_MAX;
        if buffer.capacity() > 0 && fits {
            self.spare_bytes += buffer.capacity();
            self.spare.push(buffer);
        }
    }

    fn drop_buffers(&mut self) {
        self.spare = Vec::new();
        self.spare_bytes = 0;
    }
}

impl Cut {
    fn index_chunk(&mut self, queue: QueueId, chunk: &mut Chunk, references: &References) {
        chunk.indexed = true;
        self.dead
            .extend(chunk.take_dead_values().into_iter().map(|key| (queue, key)));
        let start = self.index_bytes.len();
        let out = &mut self.index_bytes;
        let numbers = [chunk.count, chunk.span, chunk.bytes, chunk.body];
        let first = chunk.first();
        let references = references.within(first, chunk.last());
        let expires = chunk.expiry().first;
        IndexEntry::encode_into(first, numbers, expires, &references, chunk.starts(), &chunk.live, out);
        self.index.push((queue, chunk.key(), start..self.index_bytes.len()));
    }

    /// Whether it makes anything in the engine useless.
    pub(crate) fn frees(&self) -> bool {
        !self.dead.is_empty() || !self.ranges.is_empty()
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
            && self.dead.is_empty()
            && self.dead_entries.is_empty()
            && self.ranges.is_empty()
            && self.index.is_empty()
            && self.states.is_empty()
            && self.deleted_states.is_empty()
            && self.counts.is_empty()
            && self.definitions.is_empty()
            && self.scheduled.is_empty()
            && self.next_queue_id.is_none()
    }

    /// About how many bytes the commit is as a batch. What is not counted is little.
    fn bytes_to_write(&self) -> usize {
        let entries = self.chunks.len() + self.dead.len() + self.index.len() + self.states.len() + self.counts.len();
        let entries = entries + self.dead_entries.len() + self.scheduled.len();
        self.chunk_bytes + self.scheduled_bytes + self.index_bytes.len() + (1 + entries) * BATCH_ENTRY_BYTES
    }

    /// Puts the commit into a batch, and returns how many bytes that took. What deletes comes before what writes.
    pub(crate) fn fill(&self, batch: &mut dyn Batch) -> u64 {
        batch.reserve(self.bytes_to_write());
        let mut batch = Counting {
            batch,
            bytes: 0,
            key: Vec::new(),
        };
        for &(queue, key) in &self.dead {
            batch.single_delete(&Key::Chunk(queue, key));
        }
        for &(queue, key) in &self.dead_entries {
            batch.delete(&Key::ChunkIndex(queue, key));
        }
        for (space, from, until) in &self.ranges {
            batch.bytes += (from.len() + until.len()) as u64;
            batch.batch.delete_range(*space, from, until);
        }
        for (queue, key, bytes) in &self.chunks {
            let mut bytes = bytes.lock();
            seal(*queue, *key, &mut bytes);
            batch.put(&Key::Chunk(*queue, *key), &bytes);
        }
        for (queue, key, range) in &self.index {
            let entry = self.index_bytes.get(range.clone()).unwrap_or_default();
            batch.put(&Key::ChunkIndex(*queue, *key), entry);
        }
        for &(queue, position, count) in &self.counts {
            let key = Key::DeliveryCount(queue, position);
            match count {
                Some(count) => batch.put(&key, &count.to_be_bytes()),
                None => batch.delete(&key),
            }
        }
        let mut encoded = Vec::new();
        for (queue, state) in &self.states {
            state.encode_into(&mut encoded);
            batch.put(&Key::QueueState(*queue), &encoded);
        }
        for &queue in &self.deleted_states {
            batch.delete(&Key::QueueState(queue));
        }
        for (key, value) in self.definitions.iter().chain(&self.scheduled) {
            batch.bytes += (key.len() + value.as_ref().map_or(0, Vec::len)) as u64;
            match value {
                Some(value) => batch.batch.put(Space::Meta, key, value),
                None => batch.batch.delete(Space::Meta, key),
            }
        }
        if let Some(next) = self.next_queue_id {
            batch.put(&Key::QueueIdCounter, &next.to_be_bytes());
        }
        batch.bytes
    }
}

/// A batch that counts what goes into it, with a buffer for keys.
struct Counting<'a> {
    batch: &'a mut dyn Batch,
    bytes: u64,
    key: Vec<u8>,
}

impl Counting<'_> {
    fn put(&mut self, key: &Key<'_>, value: &[u8]) {
        key.encode_into(&mut self.key);
        self.bytes += (self.key.len() + value.len()) as u64;
        self.batch.put(key.space(), &self.key, value);
    }

    fn delete(&mut self, key: &Key<'_>) {
        key.encode_into(&mut self.key);
        self.bytes += self.key.len() as u64;
        self.batch.delete(key.space(), &self.key);
    }

    fn single_delete(&mut self, key: &Key<'_>) {
        key.encode_into(&mut self.key);
        self.bytes += self.key.len() as u64;
        self.batch.single_delete(key.space(), &self.key);
    }
}

/// What an entry of a batch may take beside its value.
const BATCH_ENTRY_BYTES: usize = 64;
/// Buffers of written chunks kept for the next ones.
const SPARE_BYTES_MAX: usize = 8 << 20;
const SPARE_BUFFERS_MAX: usize = 64;
