//! How messages leave a queue by the chunk: purged, deleted with their queue, or settled to the last.

use std::collections::VecDeque;

use crate::chunk::ChunkBuilder;
use crate::engine::Space;
use crate::ids::{Position, QueueId, Weighed};
use crate::keys::{ChunkKey, Key, Prefix};
use crate::log::{Chunk, Place, QueueLog};
use crate::pending::Pending;

impl QueueLog {
    /// Settles all below a position but those in `except`, which must ascend. Returns how many.
    pub(crate) fn purge(&mut self, queue: QueueId, below: Position, except: &[Weighed], pending: &mut Pending) -> u64 {
        let excepted = |position: Position| except.binary_search_by_key(&position, |kept| kept.position);
        let before = self.live;
        let mut kept = VecDeque::with_capacity(self.chunks.len());
        let mut run = Run::default();
        let mut stale = Vec::new();
        for mut chunk in std::mem::take(&mut self.chunks) {
            let alive = chunk.live.count();
            if chunk.first() < below {
                let first = chunk.first().0;
                let end = u32::try_from(below.0 - first).unwrap_or(u32::MAX);
                let keep = |distance| excepted(Position(first + u64::from(distance))).is_ok();
                chunk.live.remove_below(end, keep);
                if chunk.last() < below && chunk.live.count() < alive {
                    let kept = chunk.live.iter().filter_map(|distance| {
                        let at = excepted(Position(first + u64::from(distance))).ok()?;
                        except.get(at).map(|kept| kept.body_bytes)
                    });
                    chunk.body = kept.fold(0, u32::saturating_add);
                }
            }
            if chunk.live.count() == 0 {
                self.freed_bytes += u64::from(chunk.bytes);
                run.add(chunk, pending, &mut self.open);
                continue;
            }
            std::mem::take(&mut run).drop_all(queue, pending);
            if chunk.live.count() < alive {
                stale.push(kept.len());
            }
            kept.push_back(chunk);
        }
        run.drop_all(queue, pending);
        let is_kept = |position| excepted(position).is_ok();
        self.references.remove_below(below, is_kept, &mut pending.released);
        self.chunks = kept;
        self.release_spare_memory();
        for index in stale {
            self.note_stale(queue, index, true, pending);
        }
        let kept = self.counts.split_off(&below);
        for (position, count) in std::mem::replace(&mut self.counts, kept) {
            if excepted(position).is_ok() {
                self.counts.insert(position, count);
            } else {
                pending.counts.push((queue, position, None));
            }
        }
        self.note_state(queue, pending);
        self.live = self.chunks.iter().map(|chunk| u64::from(chunk.live.count())).sum();
        before - self.live
    }

    /// Drops the chunks that end below a position, whatever of them is alive. Returns how many messages went.
    pub(crate) fn discard(&mut self, queue: QueueId, below: Position, pending: &mut Pending) -> u64 {
        let before = self.live;
        while let Some(chunk) = self.chunks.front().filter(|chunk| chunk.last() < below) {
            self.live -= u64::from(chunk.live.count());
            self.drop_chunk(queue, 0, pending);
        }
        before - self.live
    }

    /// Puts into the commit whatever removes the queue from the engine. The caller drops the queue.
    pub(crate) fn delete(self, queue: QueueId, pending: &mut Pending) {
        pending.released.extend(self.references.iter().map(|(_, body)| body));
        let values: usize = self.chunks.iter().map(|chunk| chunk.values_count() as usize).sum();
        let few = values + self.counts.len() <= SINGLE_DELETES_MAX;
        pending.counts.retain(|(of, ..)| *of != queue);
        pending.settled_counts.retain(|(of, _)| *of != queue);
        let bytes: u64 = self.chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
        if bytes + self.freed_bytes >= pending.freed_bytes_min {
            pending.gone.push(Prefix::Chunks(queue, Position(0)).range());
        }
        let mut open = self.open;
        for chunk in self.chunks {
            if let Some(stored) = pending.forget(chunk, &mut open).filter(|_| few) {
                pending.bury(queue, &stored);
            }
        }
        if few {
            pending
                .counts
                .extend(self.counts.into_keys().map(|position| (queue, position, None)));
        } else {
            let start = Position(0);
            for prefix in [
                Prefix::Chunks(queue, start),
                Prefix::ChunkIndex(queue, start),
                Prefix::DeliveryCounts(queue),
            ] {
                pending.drop_all(prefix);
            }
        }
        if self.known {
            pending.deleted_states.push(queue);
        }
    }

    /// Drops a chunk of which nothing is alive.
    pub(super) fn drop_chunk(&mut self, queue: QueueId, index: usize, pending: &mut Pending) {
        let Some(chunk) = self.chunks.remove(index) else {
            return;
        };
        self.release_spare_memory();
        self.freed_bytes += u64::from(chunk.bytes);
        if let Some(stored) = pending.forget(chunk, &mut self.open) {
            pending.bury(queue, &stored);
        }
        // The last chunk's keys are what the next position is known by.
        if index == self.chunks.len() {
            self.note_state(queue, pending);
        }
    }
}

impl Pending {
    /// Deletes all keys of a prefix.
    pub(crate) fn drop_all(&mut self, prefix: Prefix) {
        let (from, until) = prefix.range();
        self.ranges.push((prefix.space(), from, until));
    }

    /// Takes leave of a chunk. It is given back if the engine has something of it.
    fn forget(&mut self, chunk: Chunk, open: &mut Option<Box<ChunkBuilder>>) -> Option<Chunk> {
        match chunk.place() {
            Place::Open => {
                let bytes = open.take().map(|open| open.finish()).unwrap_or_default();
                self.never_written(bytes);
                None
            }
            Place::Waiting => {
                let buffer = chunk.buffer().map(|bytes| std::mem::take(&mut *bytes.lock()));
                self.never_written(buffer.unwrap_or_default());
                None
            }
            Place::Writing | Place::Stored => Some(chunk),
        }
    }

    /// Has a chunk that the engine has deleted, and its index entry.
    pub(crate) fn bury(&mut self, queue: QueueId, chunk: &Chunk) {
        self.dead.extend(chunk.value_keys().map(|key| (queue, key)));
        if chunk.indexed {
            self.dead_entries.push((queue, chunk.key()));
        }
    }
}

/// Neighbouring chunks that the engine has and nobody wants.
#[derive(Default)]
struct Run {
    values: Keys,
    entries: Keys,
}

/// Ascending keys: all of them, while they are few.
#[derive(Default)]
struct Keys {
    few: Vec<ChunkKey>,
    last: Option<ChunkKey>,
}

impl Run {
    fn add(&mut self, chunk: Chunk, pending: &mut Pending, open: &mut Option<Box<ChunkBuilder>>) {
        if let Some(stored) = pending.forget(chunk, open) {
            stored.value_keys().for_each(|key| self.values.push(key));
            if stored.indexed {
                self.entries.push(stored.key());
            }
        }
    }

    /// Deletes them: one by one if they are few, else as a range.
    fn drop_all(self, queue: QueueId, pending: &mut Pending) {
        match self.values.range(queue, Key::Chunk) {
            Some(range) => pending.ranges.push(range),
            None => pending.dead.extend(self.values.few.into_iter().map(|key| (queue, key))),
        }
        match self.entries.range(queue, Key::ChunkIndex) {
            Some(range) => pending.ranges.push(range),
            None => pending
                .dead_entries
                .extend(self.entries.few.into_iter().map(|key| (queue, key))),
        }
    }
}

impl Keys {
    fn push(&mut self, key: ChunkKey) {
        self.last = Some(key);
        if self.few.len() <= SINGLE_DELETES_MAX {
            self.few.push(key);
        }
    }

    /// All of them and what lies between, if they are many.
    fn range(&self, queue: QueueId, key: fn(QueueId, ChunkKey) -> Key<'static>) -> Option<(Space, Vec<u8>, Vec<u8>)> {
        let (Some(first), Some(last)) = (self.few.first(), self.last) else {
            return None;
        };
        if self.few.len() <= SINGLE_DELETES_MAX {
            return None;
        }
        let (from, mut until) = (key(queue, *first), key(queue, last).encode());
        until.push(0);
        Some((from.space(), from.encode(), until))
    }
}

/// Up to so many keys are deleted one by one: a range tombstone costs every later read something.
const SINGLE_DELETES_MAX: usize = 16;
