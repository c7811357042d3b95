//! How messages leave a queue by the chunk: purged, deleted with their queue, or settled to the last.

use std::collections::VecDeque;

use crate::chunk::ChunkBuilder;
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
        let mut run = Vec::new();
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
                run.extend(pending.forget(chunk, &mut self.open));
                continue;
            }
            pending.drop_run(queue, &mut run);
            if chunk.live.count() < alive {
                stale.push(kept.len());
            }
            kept.push_back(chunk);
        }
        pending.drop_run(queue, &mut run);
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
        let few = self.chunks.len() + self.counts.len() <= SINGLE_DELETES_MAX;
        pending.counts.retain(|(of, ..)| *of != queue);
        pending.settled_counts.retain(|(of, _)| *of != queue);
        let bytes: u64 = self.chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
        if bytes + self.freed_bytes >= pending.freed_bytes_min {
            pending.gone.push(Prefix::Chunks(queue, Position(0)).range());
        }
        let mut open = self.open;
        for chunk in self.chunks {
            let dead = pending.forget(chunk, &mut open).filter(|_| few);
            pending.dead.extend(dead.map(|(key, indexed)| (queue, key, indexed)));
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
        let dead = pending.forget(chunk, &mut self.open);
        pending.dead.extend(dead.map(|(key, indexed)| (queue, key, indexed)));
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

    /// Takes leave of a chunk: what must be deleted of it in the engine, if the engine has it.
    fn forget(&mut self, chunk: Chunk, open: &mut Option<Box<ChunkBuilder>>) -> Option<(ChunkKey, bool)> {
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
            Place::Writing | Place::Stored => Some((chunk.key(), chunk.indexed)),
        }
    }

    /// Deletes neighbouring chunks: one by one if they are few, else as a range.
    fn drop_run(&mut self, queue: QueueId, run: &mut Vec<(ChunkKey, bool)>) {
        if let (Some(first), Some(last)) = (run.first(), run.last())
            && run.len() > SINGLE_DELETES_MAX
        {
            for key in [Key::Chunk as fn(_, _) -> Key<'static>, Key::ChunkIndex] {
                let (from, mut until) = (key(queue, first.0), key(queue, last.0).encode());
                until.push(0);
                self.ranges.push((from.space(), from.encode(), until));
            }
            run.clear();
        }
        self.dead
            .extend(run.drain(..).map(|(key, indexed)| (queue, key, indexed)));
    }
}

/// Up to so many keys are deleted one by one: a range tombstone costs every later read something.
const SINGLE_DELETES_MAX: usize = 16;
