//! What is kept in memory of a chunk.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::ids::{NEVER, Position, QueueId};
use crate::index::{IndexEntry, Value, has_value, values_of};
use crate::keys::ChunkKey;
use crate::live::LiveSet;
use crate::pending::Pending;

/// The bytes of a chunk that is not, or not surely, in the engine yet.
pub(crate) type SharedBytes = Arc<Mutex<Vec<u8>>>;

/// A chunk, and what of it is alive. A chunk of which nothing is alive is dropped at once.
///
/// It is stored as one value. Small neighbours that are stored already are joined into one chunk where they lie: it has several
/// values then, each under a key of its own.
#[derive(Debug)]
pub(crate) struct Chunk {
    first: Position,
    generation: u32,
    /// The distance from the first position to the last.
    pub(crate) span: u32,
    /// How many messages it holds, dead ones included.
    pub(crate) count: u32,
    pub(crate) bytes: u32,
    /// What its live messages weigh.
    pub(crate) body: u32,
    /// Most chunks have neither expiry nor several values.
    extra: Option<Box<Extra>>,
    pub(crate) live: LiveSet,
    /// Its bytes while it waits or is being written.
    buffer: Option<SharedBytes>,
    place: Place,
    /// Whether the engine has, or the commit being written brings, an index entry for it.
    pub(crate) indexed: bool,
    /// Whether the queue's list of chunks to index has it.
    pub(crate) stale: bool,
    /// Whether the store's list of sparse chunks has it.
    pub(crate) noted: bool,
}

#[derive(Debug)]
struct Extra {
    expiry: Expiry,
    /// Where its values begin, if they are several: the distances from the first position. Those of which nothing is alive leave
    /// with the next index entry.
    starts: Option<LiveSet>,
}

/// When messages of a chunk expire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// Nothing in it expires before this.
    pub(crate) first: u64,
    /// Nothing in it that a search has to find expires before this.
    pub(crate) search_at: u64,
}

/// Where the bytes of a chunk are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the builder of its queue: messages are still being appended.
    Open,
    /// Closed, waiting for the next commit.
    Waiting,
    /// In the commit that is being written.
    Writing,
    /// In the engine.
    Stored,
}

impl Chunk {
    fn new(key: ChunkKey, live: LiveSet, place: Place) -> Self {
        Self {
            first: key.first,
            generation: key.generation,
            span: 0,
            count: 0,
            bytes: 0,
            body: 0,
            extra: None,
            live,
            buffer: None,
            place,
            indexed: false,
            stale: false,
            noted: false,
        }
    }

    /// A chunk to which messages are appended, of which the first is there.
    pub(crate) fn open(first: Position) -> Self {
        Self::new(ChunkKey { first, generation: 0 }, LiveSet::first(), Place::Open)
    }

    /// A chunk made of others, which waits for the next commit.
    pub(crate) fn merged(key: ChunkKey, live: LiveSet, bytes: Vec<u8>) -> Self {
        let mut chunk = Self::new(key, live, Place::Waiting);
        chunk.waits(bytes);
        chunk
    }

    /// A chunk as the engine has it.
    pub(crate) fn stored(key: ChunkKey, entry: IndexEntry, indexed: bool) -> Self {
        let IndexEntry {
            count,
            span,
            bytes,
            body,
            starts,
            expires,
            live,
            ..
        } = entry;
        let mut chunk = Self {
            span,
            count,
            bytes,
            body: body.unwrap_or(0),
            indexed,
            ..Self::new(key, live, Place::Stored)
        };
        let search_at = expires;
        let first = expires;
        chunk.set_extra(Expiry { first, search_at }, starts);
        chunk
    }

    /// What names it in its queue.
    pub(crate) fn key(&self) -> ChunkKey {
        ChunkKey {
            first: self.first,
            generation: self.generation,
        }
    }

    /// The first position, dead or alive.
    pub(crate) fn first(&self) -> Position {
        self.first
    }

    pub(crate) fn place(&self) -> Place {
        self.place
    }

    /// Its bytes, if it waits or is being written.
    pub(crate) fn buffer(&self) -> Option<&SharedBytes> {
        self.buffer.as_ref()
    }

    /// It is closed, and waits for the next commit with these bytes.
    pub(crate) fn waits(&mut self, bytes: Vec<u8>) {
        self.bytes = bytes.len() as u32;
        self.buffer = Some(Arc::new(Mutex::new(bytes)));
        self.place = Place::Waiting;
    }

    /// Goes with a commit. Its bytes, if it waited.
    pub(crate) fn write(&mut self) -> Option<SharedBytes> {
        if self.place != Place::Waiting {
            return None;
        }
        self.place = Place::Writing;
        self.buffer.clone()
    }

    /// The commit is in the engine.
    pub(crate) fn written(&mut self) {
        self.place = Place::Stored;
        self.buffer = None;
    }

    /// When its messages expire.
    pub(crate) fn expiry(&self) -> Expiry {
        self.extra.as_ref().map_or(Expiry::NONE, |extra| extra.expiry)
    }

    pub(crate) fn set_expiry(&mut self, expiry: Expiry) {
        let starts = self.extra.take().and_then(|extra| extra.starts);
        self.set_extra(expiry, starts);
    }

    fn set_extra(&mut self, expiry: Expiry, starts: Option<LiveSet>) {
        let needed = expiry != Expiry::NONE || starts.is_some();
        self.extra = needed.then(|| Box::new(Extra { expiry, starts }));
    }

    /// Where its values begin, if they are several.
    pub(crate) fn starts(&self) -> Option<&LiveSet> {
        self.extra.as_ref()?.starts.as_ref()
    }

    /// The keys of its values.
    pub(crate) fn value_keys(&self) -> impl Iterator<Item = ChunkKey> + '_ {
        let alone = self.starts().is_none().then(|| self.key());
        let several = self.starts().into_iter().flat_map(LiveSet::iter);
        alone.into_iter().chain(several.map(|start| self.key().at(start)))
    }

    /// Its values of which something is alive.
    pub(crate) fn values(&self) -> impl Iterator<Item = Value> + '_ {
        values_of(self.key(), self.span, self.starts(), &self.live)
    }

    /// The key of the value that has what stands at a distance from its first position.
    pub(crate) fn value_key_at(&self, distance: u32) -> ChunkKey {
        let start = self.starts().and_then(|starts| starts.floor(distance));
        self.key().at(start.unwrap_or(0))
    }

    /// Whether it has the value with this key.
    pub(crate) fn has_value(&self, value: ChunkKey) -> bool {
        has_value(self.key(), self.starts(), value)
    }

    /// How many values it has.
    pub(crate) fn values_count(&self) -> u32 {
        self.starts().map_or(1, LiveSet::count)
    }

    /// Whether an index entry would say nothing that the chunk itself does not.
    pub(crate) fn is_young(&self) -> bool {
        self.generation == 0 && self.starts().is_none() && self.is_whole()
    }

    /// Whether nothing of it has been settled.
    pub(crate) fn is_whole(&self) -> bool {
        self.live.count() == self.count
    }

    /// Whether it may be joined with its neighbours: not while it is to be written anew, nor if nobody knows where it ends.
    pub(crate) fn is_joinable(&self, small_bytes: u32) -> bool {
        let small = self.bytes <= small_bytes || self.starts().is_some();
        small && self.place == Place::Stored && self.generation == 0 && !self.noted && self.span != u32::MAX
    }

    /// Goes on with the chunk that follows it, both of which are joinable and not too far apart. The values stay where they are.
    pub(crate) fn join(&mut self, next: &Chunk) {
        let shift = (next.first.0 - self.first.0) as u32;
        let expiry = self.expiry().min(next.expiry());
        let own = self.extra.take().and_then(|extra| extra.starts);
        let mut starts = own.unwrap_or_else(LiveSet::first);
        match next.starts() {
            None => starts.push(shift),
            Some(others) => others.iter().for_each(|start| starts.push(shift + start)),
        }
        next.live.iter().for_each(|distance| self.live.push(shift + distance));
        self.set_extra(expiry, Some(starts));
        self.span = shift + next.span;
        self.count += next.count;
        self.bytes = self.bytes.saturating_add(next.bytes);
        self.body = self.body.saturating_add(next.body);
    }

    /// Takes the keys of those of several values of which nothing is alive: the caller deletes them with what it writes of the
    /// others.
    pub(crate) fn take_dead_values(&mut self) -> Vec<ChunkKey> {
        let Some(starts) = self.starts().filter(|_| !self.is_whole()) else {
            return Vec::new();
        };
        let alive: Vec<u32> = self
            .values()
            .map(|value| (value.key.first.0 - self.first.0) as u32)
            .collect();
        if alive.len() == starts.count() as usize {
            return Vec::new();
        }
        let is_dead = |start: &u32| alive.binary_search(start).is_err();
        let dead = starts
            .iter()
            .filter(is_dead)
            .map(|start| self.key().at(start))
            .collect();
        self.set_extra(self.expiry(), Some(LiveSet::from_sorted(alive)));
        dead
    }

    pub(crate) fn note_sparse(&mut self, queue: QueueId, pending: &mut Pending) {
        if !self.noted && u64::from(self.live.count()) * SPARSE_DIVISOR < u64::from(self.count) {
            self.noted = true;
            pending.sparse.push((queue, self.key()));
        }
    }

    /// Nobody knows where a damaged chunk ends, except that the next one begins after it.
    pub(crate) fn end_before(&mut self, next: Position) {
        if self.span == u32::MAX && self.count == 1 {
            let distance = next.0.saturating_sub(self.first.0 + 1);
            self.span = u32::try_from(distance).unwrap_or(u32::MAX);
        }
    }

    /// The last position, dead or alive.
    pub(crate) fn last(&self) -> Position {
        self.key().at(self.span).first
    }
}

impl Expiry {
    /// Nothing expires.
    pub(crate) const NONE: Self = Self {
        first: NEVER,
        search_at: NEVER,
    };

    /// Of two chunks that become one.
    pub(crate) fn min(self, other: Self) -> Self {
        Self {
            first: self.first.min(other.first),
            search_at: self.search_at.min(other.search_at),
        }
    }
}

/// A chunk is sparse when less than one in so many of its messages is alive.
const SPARSE_DIVISOR: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten thousand queues of a thousand small messages have about a million chunks.
    #[test]
    fn a_chunk_takes_little_memory() {
        assert_eq!(size_of::<Chunk>(), 64);
    }
}
