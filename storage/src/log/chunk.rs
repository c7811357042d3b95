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
    pub(crate) key: ChunkKey,
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
    pub(crate) place: Place,
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
#[derive(Debug)]
pub(crate) enum Place {
    /// In the builder of its queue: messages are still being appended.
    Open,
    /// Closed, waiting for the next commit.
    Waiting(SharedBytes),
    /// In the commit that is being written.
    Writing(SharedBytes),
    /// In the engine.
    Stored,
}

impl Chunk {
    pub(crate) fn new(key: ChunkKey, live: LiveSet, place: Place) -> Self {
        Self {
            key,
            span: 0,
            count: 0,
            bytes: 0,
            body: 0,
            expiry: None,
            live,
            place,
            indexed: false,
            stale: false,
            noted: false,
        }
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
            pending.sparse.push((queue, self.key));
        }
    }

    /// Nobody knows where a damaged chunk ends, except that the next one begins after it.
    pub(crate) fn end_before(&mut self, next: Position) {
        if self.span == u32::MAX && self.count == 1 {
            let distance = next.0.saturating_sub(self.key.first.0 + 1);
            self.span = u32::try_from(distance).unwrap_or(u32::MAX);
        }
    }

    /// The last position, dead or alive.
    pub(crate) fn last(&self) -> Position {
        Position(self.key.first.0 + u64::from(self.span))
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
