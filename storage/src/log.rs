//! One queue's chunks as the store knows them in memory: where each message is, and what of it is alive.

mod chunk;
mod join;
mod removal;

use std::collections::{BTreeMap, VecDeque};

use crate::bodies::References;
use crate::chunk::ChunkBuilder;
use crate::ids::{BodyId, Position, QueueId, Weighed};
use crate::index::QueueState;
use crate::keys::ChunkKey;
use crate::pending::Pending;

pub(crate) use chunk::{Chunk, Expiry, Place, SharedBytes};

/// The chunks of one queue, first to last, and what is known of its messages.
#[derive(Debug, Default)]
pub(crate) struct QueueLog {
    pub(crate) chunks: VecDeque<Chunk>,
    /// The bytes of the last chunk while it is open.
    open: Option<Box<ChunkBuilder>>,
    /// How many messages are alive.
    pub(crate) live: u64,
    /// The bodies that live messages refer to.
    pub(crate) references: References,
    /// The delivery counts of live messages that were requeued.
    pub(crate) counts: BTreeMap<Position, u32>,
    /// One beyond the last position that was appended.
    pub(crate) next: Position,
    /// Everything below may have been delivered.
    pub(crate) delivered: Position,
    /// Every chunk that begins below has an index entry, or is in `stale`.
    indexed: Position,
    /// Chunks whose index entry is missing or outdated, though they begin below `indexed`.
    stale: Vec<Position>,
    /// Whether the list of states to write with the next commit has this queue.
    state_noted: bool,
    /// Whether the list of queues with index entries to write has this queue.
    lazy_noted: bool,
    /// Whether the engine has, or will have with the next commit, a state of this queue.
    known: bool,
    /// Bytes of chunks that went, since the disk was last asked to free them.
    pub(crate) freed_bytes: u64,
    /// Chunks opened since small ones were last joined.
    opened: u32,
}

impl QueueLog {
    /// A queue as the engine has it.
    pub(crate) fn load(
        queue: QueueId,
        state: QueueState,
        (chunks, references): (VecDeque<Chunk>, References),
        pending: &mut Pending,
    ) -> Self {
        let end = chunks.back().map_or(state.low, |chunk| chunk.last().next());
        let next = state.next.max(end);
        let live = chunks.iter().map(|chunk| u64::from(chunk.live.count())).sum();
        let QueueState { delivered, indexed, .. } = state;
        let mut log = Self {
            chunks,
            references,
            next,
            live,
            delivered,
            indexed,
            known: true,
            ..Self::default()
        };
        if end > indexed {
            log.note_lazy(queue, pending);
        }
        for chunk in &mut log.chunks {
            chunk.note_sparse(queue, pending);
        }
        log
    }

    /// Appends a message, which may go on in a body of its own, to the open chunk, opening one if need be. The caller has checked the position against
    /// `next` and the size of the message.
    pub(crate) fn append(
        &mut self,
        queue: QueueId,
        Weighed { position, body_bytes }: Weighed,
        body: Option<BodyId>,
        parts: &[&[u8]],
        chunk_bytes: usize,
        pending: &mut Pending,
    ) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if let (Some(open), Some(chunk)) = (&self.open, self.chunks.back()) {
            let full = open.len() + length > chunk_bytes;
            let too_wide = position.0 - chunk.first().0 >= u64::from(u32::MAX);
            if full || too_wide {
                self.close(queue, pending);
            }
        }
        if self.open.is_none() {
            self.open_chunk(queue, position, pending);
        }
        let Some(open) = &mut self.open else { return };
        let before = open.len();
        open.push(position, body, parts);
        pending.bytes += open.len() - before;
        self.next = position.next();
        self.live += 1;
        if let Some(body) = body {
            self.references.insert(position, body);
        }
        if let Some(chunk) = self.chunks.back_mut() {
            let distance = (position.0 - chunk.first().0) as u32;
            if distance > 0 {
                chunk.live.push(distance);
            }
            chunk.span = distance;
            chunk.count += 1;
            chunk.body = chunk.body.saturating_add(body_bytes);
        }
    }

    fn open_chunk(&mut self, queue: QueueId, first: Position, pending: &mut Pending) {
        let builder = ChunkBuilder::new(pending.buffer());
        pending.bytes += builder.len();
        self.open = Some(Box::new(builder));
        self.make_room();
        self.chunks.push_back(Chunk::open(first));
        pending.open.push(queue);
        self.note_lazy(queue, pending);
        self.opened += 1;
        if self.opened as usize >= pending.unjoined_chunks {
            self.opened = 0;
            self.join_small(queue, pending);
        }
        if !self.known && !queue.is_spill() {
            self.known = true;
            self.note_state(queue, pending);
        }
    }

    /// Ends the open chunk, if there is one: it waits for the commit.
    pub(crate) fn close(&mut self, queue: QueueId, pending: &mut Pending) {
        let (Some(open), Some(chunk)) = (self.open.take(), self.chunks.back_mut()) else {
            return;
        };
        chunk.waits(open.finish());
        pending.waiting.push((queue, chunk.key()));
    }

    /// Settles a message. False if it was not alive. With `strict`, what is left of its chunk is written with this commit.
    pub(crate) fn settle(&mut self, queue: QueueId, settled: Weighed, strict: bool, pending: &mut Pending) -> bool {
        let Weighed { position, body_bytes } = settled;
        let Some((index, distance)) = self.find(position) else {
            return false;
        };
        let Some(chunk) = self.chunks.get_mut(index) else {
            return false;
        };
        if !chunk.live.remove(distance) {
            return false;
        }
        chunk.body = chunk.body.saturating_sub(body_bytes);
        self.live -= 1;
        pending.released.extend(self.references.remove(position));
        if chunk.live.count() == 0 {
            self.drop_chunk(queue, index, pending);
        } else {
            self.note_stale(queue, index, strict, pending);
        }
        if self.counts.remove(&position).is_some() {
            pending.settled_counts.push((queue, position));
        }
        true
    }

    /// Remembers how often a live message was delivered.
    pub(crate) fn requeued(&mut self, queue: QueueId, position: Position, count: u32, pending: &mut Pending) {
        if self.is_live(position) && self.counts.insert(position, count) != Some(count) {
            pending.counts.push((queue, position, Some(count)));
        }
    }

    /// Remembers that everything up to a position may have been delivered.
    pub(crate) fn delivered(&mut self, queue: QueueId, up_to: Position, pending: &mut Pending) {
        if up_to.next() > self.delivered {
            self.delivered = up_to.next();
            self.note_state(queue, pending);
        }
    }

    /// The chunk that would hold a position, and the position's distance from its first.
    pub(crate) fn find(&self, position: Position) -> Option<(usize, u32)> {
        // Queues are settled at the head, mostly.
        let index = match self.chunks.front() {
            Some(head) if position <= head.last() => 0,
            _ => self.chunks.partition_point(|chunk| chunk.last() < position),
        };
        let chunk = self.chunks.get(index)?;
        let distance = position.0.checked_sub(chunk.first().0)?;
        Some((index, u32::try_from(distance).ok()?))
    }

    /// The index of the chunk of exactly this key.
    pub(crate) fn find_key(&self, key: ChunkKey) -> Option<usize> {
        // It is mostly about what was appended last, and a search through a list that is in no cache costs more than all the rest.
        let last = self.chunks.len().checked_sub(1)?;
        let index = match self.chunks.get(last) {
            Some(chunk) if chunk.key() <= key => last,
            _ => self.chunks.partition_point(|chunk| chunk.key() < key),
        };
        (self.chunks.get(index)?.key() == key).then_some(index)
    }

    /// The chunk of exactly this key.
    pub(crate) fn chunk_mut(&mut self, key: ChunkKey) -> Option<&mut Chunk> {
        let index = self.find_key(key)?;
        self.chunks.get_mut(index)
    }

    /// Whether a position holds a live message.
    pub(crate) fn is_live(&self, position: Position) -> bool {
        let found = self
            .find(position)
            .and_then(|(index, distance)| Some((self.chunks.get(index)?, distance)));
        found.is_some_and(|(chunk, distance)| chunk.live.contains(distance))
    }

    /// The lowest position that was never used.
    pub(crate) fn next_unused(&self) -> Position {
        self.next.max(self.delivered)
    }

    /// Nothing below is alive.
    pub(crate) fn low(&self) -> Position {
        self.chunks.front().map_or(self.next, |chunk| chunk.first())
    }

    /// Makes room for one more chunk. There may be a million of them, so a list must not be half empty.
    fn make_room(&mut self) {
        if self.chunks.len() == self.chunks.capacity() {
            self.chunks
                .reserve_exact(SPARE_CHUNKS_MIN + self.chunks.len() / SPARE_DIVISOR);
        }
    }

    /// Gives memory back when chunks have gone; cheap when there is nothing to give.
    pub(crate) fn release_spare_memory(&mut self) {
        let (used, capacity) = (self.chunks.len(), self.chunks.capacity());
        if capacity > KEPT_CHUNKS && used < capacity / SPARE_DIVISOR {
            self.chunks.shrink_to(2 * used + SPARE_CHUNKS_MIN);
        }
    }

    /// The messages appended to the open chunk so far.
    pub(crate) fn open_bytes(&self) -> Option<&[u8]> {
        self.open.as_deref().map(ChunkBuilder::bytes)
    }

    /// What the engine is to know of this queue. The caller writes it with the next commit.
    pub(crate) fn take_state(&mut self) -> QueueState {
        self.state_noted = false;
        QueueState {
            low: self.low(),
            delivered: self.delivered,
            indexed: self.indexed,
            next: self.next_unused(),
        }
    }

    /// The chunks whose index entries are missing or outdated, but for small ones among the newest. The caller writes them with the
    /// next commit, and the state.
    pub(crate) fn take_stale(
        &mut self,
        queue: QueueId,
        unjoined_chunks: usize,
        pending: &mut Pending,
    ) -> Vec<ChunkKey> {
        self.lazy_noted = false;
        let mut keys = Vec::new();
        for first in std::mem::take(&mut self.stale) {
            let index = self.chunks.partition_point(|chunk| chunk.first() < first);
            if let Some(chunk) = self
                .chunks
                .get_mut(index)
                .filter(|chunk| chunk.first() == first && chunk.stale)
            {
                chunk.stale = false;
                keys.push(chunk.key());
            }
        }
        let young = self.chunks.len() - self.young_chunks(unjoined_chunks);
        let reach = self.chunks.get(young).map_or(self.next, |chunk| chunk.first());
        if self.indexed < reach {
            let new = self.chunks.partition_point(|chunk| chunk.first() < self.indexed);
            keys.extend(self.chunks.range(new..young).map(|chunk| chunk.key()));
            self.indexed = reach;
            self.note_state(queue, pending);
        }
        keys
    }

    /// How many of the last chunks need no index entry yet: small ones, all alive, that are about to be joined or to be gone. A
    /// start reads them instead.
    fn young_chunks(&self, unjoined_chunks: usize) -> usize {
        let mut bytes = 0;
        let newest = self.chunks.iter().rev().take(2 * unjoined_chunks);
        let young = newest.take_while(|chunk| {
            bytes = u32::saturating_add(bytes, chunk.bytes);
            bytes <= YOUNG_BYTES_MAX && chunk.is_young()
        });
        young.count()
    }

    /// Puts the queue on the list of those with index entries to write, when it has a new chunk.
    pub(crate) fn note_lazy(&mut self, queue: QueueId, pending: &mut Pending) {
        if !self.lazy_noted && !queue.is_spill() {
            self.lazy_noted = true;
            pending.lazy.push(queue);
        }
    }

    fn note_state(&mut self, queue: QueueId, pending: &mut Pending) {
        if !self.state_noted && !queue.is_spill() {
            self.state_noted = true;
            pending.states.push(queue);
        }
    }

    /// Remembers that a chunk's index entry is outdated, and perhaps that the chunk has become sparse.
    fn note_stale(&mut self, queue: QueueId, index: usize, strict: bool, pending: &mut Pending) {
        // What was spilled has no index, and goes before it is worth writing anew.
        let Some(chunk) = self.chunks.get_mut(index).filter(|_| !queue.is_spill()) else {
            return;
        };
        chunk.note_sparse(queue, pending);
        if strict {
            pending.index_now.push((queue, chunk.key()));
        } else {
            if !chunk.stale && chunk.first() < self.indexed {
                chunk.stale = true;
                self.stale.push(chunk.first());
            }
            self.note_lazy(queue, pending);
        }
    }
}

/// Up to so many bytes of a queue's newest chunks, each of them small, have no index entry.
const YOUNG_BYTES_MAX: u32 = 64 << 10;
/// A queue's list of chunks grows by a part in so many, and gives memory back when less than one part in so many is used.
const SPARE_DIVISOR: usize = 4;
/// Chunks that a list has room for when it grows or shrinks,
const SPARE_CHUNKS_MIN: usize = 4;
/// and that it keeps room for.
const KEPT_CHUNKS: usize = 16;
