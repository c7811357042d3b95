//! Sparse chunks: the few messages still alive are written anew, so that one unacked message does not pin its neighbours.
//!
//! Survivors keep their positions. Neighbours that are sparse or small go into the new chunk too, so that a queue of survivors
//! does not become a queue of tiny chunks. The old chunks go in the commit that brings the new one.

use std::collections::{HashSet, VecDeque};
use std::ops::{ControlFlow, Range};

use crate::chunk::{ChunkBuilder, Record, messages, verify};
use crate::commit::Shared;
use crate::error::StorageError;
use crate::ids::{Position, QueueId};
use crate::index::Value;
use crate::keys::{self, ChunkKey, Key};
use crate::live::LiveSet;
use crate::log::{Chunk, Expiry, Place, QueueLog};
use crate::options::StoreOptions;
use crate::pending::State;

/// The sparse chunks that wait to be looked at.
#[derive(Default)]
pub(crate) struct Rewriter {
    candidates: VecDeque<Candidate>,
    /// There was more to do than may be done at once.
    behind: bool,
}

struct Candidate {
    queue: QueueId,
    key: ChunkKey,
    /// How many lazy flushes it has waited.
    age: u32,
}

/// Neighbouring chunks to be written as one, and what of their values was alive when that was decided.
struct Plan {
    queue: QueueId,
    old: Vec<Old>,
    values: Vec<Value>,
}

/// A chunk to be replaced, if it still has as many messages, dead or alive: it may have been joined with others meanwhile.
struct Old {
    key: ChunkKey,
    count: u32,
}

/// The new chunk, to be put in the place of the old ones if they are still there.
pub(crate) struct Rewritten {
    queue: QueueId,
    old: Vec<Old>,
    new: ChunkKey,
    positions: Vec<Position>,
    bytes: Vec<u8>,
}

impl Rewriter {
    /// Adds chunks that have become sparse.
    pub(crate) fn note(&mut self, sparse: Vec<(QueueId, ChunkKey)>) {
        self.candidates
            .extend(sparse.into_iter().map(|(queue, key)| Candidate { queue, key, age: 0 }));
    }

    /// Whether there is something to look at next time.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.candidates.is_empty()
    }

    /// Whether it should go on soon, because chunks come faster than they are joined.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind
    }

    /// Chooses chunks, reads them and makes their successors, within a budget of bytes. Called without any lock.
    pub(crate) fn prepare(&mut self, shared: &Shared) -> Vec<Rewritten> {
        let plans = self.plan(shared);
        let mut rewritten = Vec::new();
        for plan in plans {
            let queue = plan.queue.0;
            match plan.build(shared) {
                Ok(new) => rewritten.extend(new),
                Err(error) => {
                    tracing::error!(queue, %error, "a sparse chunk cannot be written anew")
                }
            }
        }
        rewritten
    }

    fn plan(&mut self, shared: &Shared) -> Vec<Plan> {
        if self.candidates.is_empty() {
            return Vec::new();
        }
        let patience = patience(&shared.options);
        let mut state = shared.state.lock();
        let mut taken: HashSet<(QueueId, ChunkKey)> = HashSet::new();
        let (mut plans, mut waiting) = (Vec::new(), VecDeque::new());
        let (mut budget, mut chunks_left) = (REWRITE_BYTES_MAX, REWRITE_CHUNKS_MAX);
        // What follows soon after the last time counts with it.
        let ages = u32::from(!std::mem::take(&mut self.behind));
        while let Some(mut candidate) = self.candidates.pop_front() {
            if budget == 0 || chunks_left == 0 {
                self.behind = true;
                self.candidates.push_front(candidate);
                break;
            }
            candidate.age += ages;
            let Candidate { queue, key, age } = candidate;
            let Some(log) = state.queues.get_mut(&queue) else {
                continue;
            };
            let Some(index) = log.find_key(key).filter(|_| !taken.contains(&(queue, key))) else {
                continue;
            };
            let newest = index + NEWEST_CHUNKS >= log.chunks.len();
            let stored = log
                .chunks
                .get(index)
                .is_some_and(|chunk| chunk.place() == Place::Stored);
            if !stored || (newest && age < patience) {
                waiting.push_back(candidate);
                continue;
            }
            let run = choose_run(log, index, shared.options.chunk_bytes, |key| {
                taken.contains(&(queue, key))
            });
            if let Some(chunk) = log.chunks.get_mut(index) {
                chunk.noted = false;
            }
            let chunks: Vec<&Chunk> = log.chunks.range(run).collect();
            let bytes: usize = chunks.iter().map(|chunk| chunk.bytes as usize).sum();
            let live: usize = chunks.iter().map(|chunk| live_bytes(chunk)).sum();
            if bytes - live < GAIN_BYTES_MIN && chunks.len() < GAIN_CHUNKS_MIN {
                continue;
            }
            budget = budget.saturating_sub(bytes);
            chunks_left = chunks_left.saturating_sub(chunks.len());
            taken.extend(chunks.iter().map(|chunk| (queue, chunk.key())));
            plans.push(Plan {
                queue,
                old: chunks.iter().map(|chunk| Old::of(chunk)).collect(),
                values: chunks.iter().flat_map(|chunk| chunk.values()).collect(),
            });
        }
        waiting.append(&mut self.candidates);
        self.candidates = waiting;
        plans
    }
}

impl Plan {
    /// Reads the old chunks and makes the new one. `None` if they are gone.
    fn build(self, shared: &Shared) -> Result<Option<Rewritten>, StorageError> {
        let mut builder = ChunkBuilder::new(Vec::new());
        let mut positions = Vec::new();
        let (Some(first), Some(last)) = (self.values.first(), self.values.last()) else {
            return Ok(None);
        };
        // Neighbours: one scan finds them all.
        let from = Key::Chunk(self.queue, first.key);
        let mut until = Key::Chunk(self.queue, last.key).encode();
        until.push(0);
        let mut old = self.values.iter().peekable();
        shared
            .engine
            .scan(from.space(), &from.encode(), &until, &mut |key, bytes| {
                let (Some(Value { key, live, .. }), Some((_, found))) = (old.peek(), keys::decode_chunk(key)) else {
                    return Ok(ControlFlow::Break(()));
                };
                if found != *key {
                    // Something of an older generation that is dead already, or this one is.
                    return Ok(if found < *key {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    });
                }
                verify(self.queue, *key, bytes)?;
                for message in messages(self.queue, key.first, bytes) {
                    let Record {
                        position,
                        payload,
                        body,
                    } = message?;
                    if u32::try_from(position.0 - key.first.0).is_ok_and(|distance| live.contains(distance)) {
                        builder.push(position, body, &[payload]);
                        positions.push(position);
                    }
                }
                old.next();
                Ok(ControlFlow::Continue(()))
            })?;
        if old.peek().is_some() {
            return Ok(None);
        }
        let Some(&first) = positions.first() else {
            return Ok(None);
        };
        let generations = self.old.iter().map(|old| old.key.generation);
        let generation = generations.max().unwrap_or(0).saturating_add(1);
        let new = ChunkKey { first, generation };
        Ok(Some(Rewritten {
            queue: self.queue,
            old: self.old,
            new,
            positions,
            bytes: builder.finish(),
        }))
    }
}

impl Rewritten {
    /// Puts the new chunk in the place of the old ones, with what is alive now, as part of the pending commit. If one of the old
    /// ones has gone meanwhile, the others are looked at again later.
    pub(crate) fn apply(self, state: &mut State) {
        let State { queues, pending, .. } = state;
        let Some(log) = queues.get_mut(&self.queue) else {
            return;
        };
        let found: Vec<usize> = self.old.iter().filter_map(|old| old.find(log)).collect();
        let (start, end) = match (found.first(), found.last()) {
            (Some(first), Some(last)) if found.len() == self.old.len() => (*first, last + 1),
            _ => {
                for index in found {
                    if let Some(chunk) = log.chunks.get_mut(index) {
                        chunk.note_sparse(self.queue, pending);
                    }
                }
                return;
            }
        };
        let first = self.new.first.0;
        let bodies = log.chunks.range(start..end).map(|chunk| chunk.body);
        let body = bodies.fold(0, u32::saturating_add);
        let expiries = log.chunks.range(start..end).map(Chunk::expiry);
        let expiry = expiries.fold(Expiry::NONE, Expiry::min);
        let alive = self.positions.iter().filter(|position| log.is_live(**position));
        let live = LiveSet::from_sorted(alive.map(|position| (position.0 - first) as u32).collect());
        let span = self.positions.last().map_or(0, |last| (last.0 - first) as u32);
        let (count, bytes) = (self.positions.len() as u32, self.bytes.len());
        pending.bytes += bytes;
        pending.waiting.push((self.queue, self.new));
        pending.index_now.push((self.queue, self.new));
        for chunk in log.chunks.drain(start..end) {
            pending.bury(self.queue, &chunk);
        }
        let mut chunk = Chunk::merged(self.new, live, self.bytes);
        chunk.span = span;
        chunk.count = count;
        chunk.body = body;
        chunk.set_expiry(expiry);
        log.chunks.insert(start, chunk);
        log.release_spare_memory();
    }
}

impl Old {
    fn of(chunk: &Chunk) -> Self {
        Self {
            key: chunk.key(),
            count: chunk.count,
        }
    }

    fn find(&self, log: &QueueLog) -> Option<usize> {
        let index = log.find_key(self.key)?;
        let found = log.chunks.get(index)?;
        (found.count == self.count).then_some(index)
    }
}

/// The chunks to be written as one with the chunk at `index`: its neighbours as far as their live messages take little room.
fn choose_run(log: &QueueLog, index: usize, chunk_bytes: usize, taken: impl Fn(ChunkKey) -> bool) -> Range<usize> {
    let alike = log.chunks.get(index).map_or(0, live_bytes) * ALIKE_FACTOR;
    let little = (chunk_bytes / JOINS_DIVISOR).min(alike.max(SMALL_BYTES));
    let joins = |chunk: &Chunk, bytes: usize| {
        let fits = live_bytes(chunk) <= little && bytes + live_bytes(chunk) <= chunk_bytes;
        fits && chunk.place() == Place::Stored && !taken(chunk.key())
    };
    let narrow = |start: usize, end: usize| match (log.chunks.get(start), log.chunks.get(end - 1)) {
        (Some(first), Some(last)) => last.last().0 - first.first().0 < u64::from(u32::MAX),
        _ => false,
    };
    let (mut start, mut end) = (index, index + 1);
    let mut bytes = log.chunks.get(index).map_or(0, live_bytes);
    while let Some(chunk) = start.checked_sub(1).and_then(|before| log.chunks.get(before)) {
        if end - start >= RUN_CHUNKS_MAX / 2 || !joins(chunk, bytes) || !narrow(start - 1, end) {
            break;
        }
        bytes += live_bytes(chunk);
        start -= 1;
    }
    let newest = log.chunks.len().saturating_sub(NEWEST_CHUNKS);
    while let Some(chunk) = log.chunks.get(end).filter(|_| end < newest) {
        if end - start >= RUN_CHUNKS_MAX || !joins(chunk, bytes) || !narrow(start, end + 1) {
            break;
        }
        bytes += live_bytes(chunk);
        end += 1;
    }
    start..end
}

/// About how many bytes the live messages of a chunk take.
fn live_bytes(chunk: &Chunk) -> usize {
    (u64::from(chunk.bytes) * u64::from(chunk.live.count()) / u64::from(chunk.count.max(1))) as usize
}

/// How many lazy flushes a sparse chunk among the newest is left alone.
fn patience(options: &StoreOptions) -> u32 {
    let flushes = options.sparse_patience.as_nanos() / options.lazy_flush.as_nanos().max(1);
    u32::try_from(flushes).unwrap_or(u32::MAX)
}

/// So much may be read and written anew at a time, so that the commits in between are not held up for long.
const REWRITE_BYTES_MAX: usize = 4 << 20;
/// Small chunks cost more than their bytes.
const REWRITE_CHUNKS_MAX: usize = 8_192;
/// The last chunks of a queue are probably about to be settled as a whole.
const NEWEST_CHUNKS: usize = 4;
/// A neighbour joins if its live messages take less than one in so many of a full chunk.
const JOINS_DIVISOR: usize = 8;
/// But one that is larger than this joins only if it is not so many times as large as the chunk that was looked at: what was
/// joined already is not written again for each few that come.
const SMALL_BYTES: usize = 16 << 10;
const ALIKE_FACTOR: usize = 2;
const RUN_CHUNKS_MAX: usize = 48;
/// It pays to write chunks anew if that frees this much, or
const GAIN_BYTES_MIN: usize = 4 << 10;
/// joins so many.
const GAIN_CHUNKS_MIN: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load;
    use crate::memory::MemoryDisk;
    use crate::read::{self, Shown};
    use crate::writer::Writer;
    use std::ops::ControlFlow;

    const QUEUE: QueueId = QueueId(1);

    /// A store with sparse chunks at the head of a queue, and their successors made but not put in their place yet.
    fn rewriting() -> (Shared, Vec<Rewritten>) {
        let options = StoreOptions {
            manual_commit: true,
            chunk_bytes: 100_000,
            ..StoreOptions::default()
        };
        let shared = Shared::new(Box::new(MemoryDisk::new()), options, load::empty(), 1);
        for batch in 0..10 {
            let mut writer = Writer::new(&shared);
            for position in batch * 10..batch * 10 + 10 {
                writer.append(QUEUE, Position(position), &[&[batch as u8; 2000]]);
            }
            writer.submit();
            shared.commit(false, false);
        }
        let mut writer = Writer::new(&shared);
        for position in (0..50).filter(|position| position % 10 > 1) {
            writer.settle(QUEUE, Position(position));
        }
        writer.submit();
        let mut rewriter = Rewriter::default();
        rewriter.note(std::mem::take(&mut shared.state.lock().pending.sparse));
        let rewritten = rewriter.prepare(&shared);
        assert_eq!(rewritten.len(), 1, "neighbours are written as one");
        assert_eq!(rewritten[0].positions.len(), 10);
        (shared, rewritten)
    }

    fn positions(shared: &Shared) -> Vec<u64> {
        let mut positions = Vec::new();
        let mut show = |shown: Shown<'_>| {
            if let Shown::Message(message) = shown {
                assert_eq!(message.payload, [(message.position.0 / 10) as u8; 2000]);
                positions.push(message.position.0);
            }
            ControlFlow::Continue(())
        };
        read::visit(shared, QUEUE, Position(0), &mut show, &mut |error| panic!("{error}")).unwrap();
        positions
    }

    fn apply(shared: &Shared, rewritten: Vec<Rewritten>) {
        rewritten
            .into_iter()
            .for_each(|chunk| chunk.apply(&mut shared.state.lock()));
    }

    #[test]
    fn what_is_settled_while_its_chunk_is_written_anew_stays_settled() {
        let (shared, rewritten) = rewriting();
        let mut writer = Writer::new(&shared);
        [0, 21, 40]
            .into_iter()
            .for_each(|position| writer.settle(QUEUE, Position(position)));
        writer.submit();
        apply(&shared, rewritten);
        let expected: Vec<u64> = [1, 10, 11, 20, 30, 31, 41].into_iter().chain(50..100).collect();
        assert_eq!(positions(&shared), expected);
        assert_eq!(shared.state.lock().queues[&QUEUE].chunks.len(), 6);
        shared.commit(false, false);
        assert_eq!(positions(&shared), expected);
    }

    /// Between the look and the deed the chunk that was read is joined with one that was not.
    #[test]
    fn what_was_joined_while_it_was_written_anew_stays_whole() {
        let options = StoreOptions {
            manual_commit: true,
            unjoined_chunks: 4,
            sparse_patience: std::time::Duration::ZERO,
            ..StoreOptions::default()
        };
        let shared = Shared::new(Box::new(MemoryDisk::new()), options, load::empty(), 1);
        let append = |range: Range<u64>| {
            let mut writer = Writer::new(&shared);
            let payload = |position: u64| [(position / 10) as u8; 2000];
            range.for_each(|position| writer.append(QUEUE, Position(position), &[&payload(position)]));
            writer.submit();
            shared.commit(false, false);
        };
        append(0..8);
        let mut writer = Writer::new(&shared);
        (1..8).for_each(|position| writer.settle(QUEUE, Position(position)));
        writer.submit();
        let mut rewriter = Rewriter::default();
        rewriter.note(std::mem::take(&mut shared.state.lock().pending.sparse));
        let rewritten = rewriter.prepare(&shared);
        assert_eq!(rewritten.len(), 1);
        (8..30).for_each(|position| append(position..position + 1));
        assert!(shared.state.lock().queues[&QUEUE].chunks[0].count > 8, "it was joined");
        apply(&shared, rewritten);
        shared.commit(false, false);
        let expected: Vec<u64> = [0].into_iter().chain(8..30).collect();
        assert_eq!(positions(&shared), expected);
    }

    #[test]
    fn a_chunk_that_died_while_it_was_written_anew_stays_dead() {
        let (shared, rewritten) = rewriting();
        let mut writer = Writer::new(&shared);
        [20, 21]
            .into_iter()
            .for_each(|position| writer.settle(QUEUE, Position(position)));
        writer.submit();
        apply(&shared, rewritten);
        shared.commit(false, false);
        let expected: Vec<u64> = [0, 1, 10, 11, 30, 31, 40, 41].into_iter().chain(50..100).collect();
        assert_eq!(positions(&shared), expected);
        assert_eq!(
            shared.state.lock().queues[&QUEUE].chunks.len(),
            9,
            "the old ones are still in place"
        );
        shared.commit(true, false);
        shared.commit(true, false);
        assert_eq!(positions(&shared), expected);
        assert_eq!(
            shared.state.lock().queues[&QUEUE].chunks.len(),
            6,
            "a little later they are one"
        );
    }

    #[test]
    fn a_queue_deleted_while_its_chunks_were_written_anew_stays_deleted() {
        let (shared, rewritten) = rewriting();
        Writer::new(&shared).delete_queue(QUEUE);
        apply(&shared, rewritten);
        shared.commit(false, false);
        assert!(positions(&shared).is_empty());
        assert!(load::load(&*shared.engine, |_| 0.into()).unwrap().0.queues.is_empty());
    }
}
