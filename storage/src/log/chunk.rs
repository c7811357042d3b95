//! What is kept in memory of a chunk.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::chunk::IndexEntry;
use crate::ids::{NEVER, Position, QueueId};
use crate::keys::ChunkKey;
use crate::live::LiveSet;
use crate::pending::Pending;

/// The bytes of a chunk that is not, or not surely, in the engine yet.
pub(crate) type SharedBytes = Arc<Mutex<Vec<u8>>>;

/// A chunk, and what of it is alive. A chunk of which nothing is alive is dropped at once.
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
    /// Most chunks have none.
    expiry: Option<Box<Expiry>>,
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
            expiry: None,
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
        chunk.set_expiry(Expiry {
            first: expires,
            search_at: expires,
        });
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
        self.expiry.as_deref().copied().unwrap_or(Expiry::NONE)
    }

    pub(crate) fn set_expiry(&mut self, expiry: Expiry) {
        self.expiry = (expiry != Expiry::NONE).then(|| Box::new(expiry));
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
        Position(self.first.0 + u64::from(self.span))
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
