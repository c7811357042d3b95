//! Messages that expire, found without reading those that do not.
//!
//! Of each chunk it is known, in memory and in the index, before when nothing in it expires. Only chunks in which something may
//! have expired are read; afterwards that is known better, until the next start.

use std::ops::{ControlFlow, Range};

use crate::error::StorageError;
use crate::ids::{NEVER, Position, QueueId, Weighed};
use crate::keys::ChunkKey;
use crate::log::{Expiry, QueueLog};
use crate::read::{self, RecoveredMessage, Shown};
use crate::store::Store;
use crate::writer::Writer;

/// What a search for expired messages saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpiredFound {
    /// Live messages that were looked at.
    pub seen: u64,
    /// Of them, how many have expired.
    pub expired: u64,
    /// No message in the range that has not been shown expires before this.
    pub next: u64,
    chunks: Vec<SeenChunk>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SeenChunk {
    key: ChunkKey,
    last: Position,
    /// Messages in it, dead or alive, when it was seen: with another one it must be looked at again.
    count: u32,
    search_at: u64,
}

impl Store {
    /// Shows the live messages within a range that have expired by `now`, in no particular order: those of the chunks in which
    /// something expires first. Say [`Writer::saw_expired`] when they were dealt with.
    ///
    /// Errors: the engine cannot read at the moment.
    pub fn read_expired(
        &self,
        queue: QueueId,
        range: Range<Position>,
        now: u64,
        visit: &mut dyn FnMut(RecoveredMessage<'_>),
    ) -> Result<ExpiredFound, StorageError> {
        let shared = self.shared();
        let weigh = shared.options.weigh;
        let (mut chunks, next) = match shared.state.lock().queues.get(&queue) {
            Some(log) => log.chunks_with_expired(&range, now),
            None => (Vec::new(), NEVER),
        };
        let mut found = ExpiredFound {
            next,
            ..ExpiredFound::default()
        };
        for chunk in &mut chunks {
            chunk.search_at = NEVER;
            let mut show = |shown: Shown<'_>| {
                let message = match shown {
                    Shown::Message(message) if message.position <= chunk.last => message,
                    Shown::EndOfValue(end) if end < chunk.last => return ControlFlow::Continue(()),
                    _ => return ControlFlow::Break(()),
                };
                if message.position >= range.end {
                    return ControlFlow::Break(());
                }
                let expires = weigh(message.payload).expires_at;
                found.seen += 1;
                if expires <= now {
                    found.expired += 1;
                    visit(message);
                } else {
                    chunk.search_at = chunk.search_at.min(expires);
                }
                ControlFlow::Continue(())
            };
            let from = range.start.max(chunk.key.first);
            // Who reads the message itself will report it.
            let mut damaged = |_| ControlFlow::Break(());
            let expired = |head: &[u8]| weigh(head).expires_at <= now;
            read::visit_some(shared, queue, from, &expired, &mut show, &mut damaged)?;
            found.next = found.next.min(chunk.search_at);
        }
        found.chunks = chunks;
        Ok(found)
    }

    /// Like [`read_expired`](Self::read_expired), for what was [spilled](Writer::spill).
    pub fn read_spilled_expired(
        &self,
        queue: QueueId,
        range: Range<Position>,
        now: u64,
        visit: &mut dyn FnMut(RecoveredMessage<'_>),
    ) -> Result<ExpiredFound, StorageError> {
        self.read_expired(queue.spill(), range, now, visit)
    }
}

impl Writer<'_> {
    /// What a search found has been settled: its chunks need not be looked at before the next of their messages expires.
    pub fn saw_expired(&mut self, queue: QueueId, found: &ExpiredFound) {
        let Some(log) = self.log_mut(queue) else { return };
        for seen in &found.chunks {
            if let Some(chunk) = log.chunk_mut(seen.key).filter(|chunk| chunk.count == seen.count) {
                let first = chunk.expiry().first;
                let search_at = seen.search_at;
                chunk.set_expiry(Expiry { first, search_at });
            }
        }
    }

    /// Like [`saw_expired`](Self::saw_expired), for what was [spilled](Self::spill).
    pub fn saw_spilled_expired(&mut self, queue: QueueId, found: &ExpiredFound) {
        self.saw_expired(queue.spill(), found);
    }

    /// Gives up one spilled message.
    pub fn settle_spilled(&mut self, queue: QueueId, message: impl Into<Weighed>) {
        self.settle(queue.spill(), message);
    }
}

impl QueueLog {
    /// The message appended last expires then.
    pub(crate) fn expires(&mut self, expires_at: u64) {
        if let Some(chunk) = self.chunks.back_mut().filter(|_| expires_at != NEVER) {
            chunk.set_expiry(chunk.expiry().min(Expiry {
                first: expires_at,
                search_at: expires_at,
            }));
        }
    }

    /// The chunks of a range that something may have expired in, those that have waited longest, and before when nothing in the
    /// others expires.
    fn chunks_with_expired(&self, range: &Range<Position>, now: u64) -> (Vec<SeenChunk>, u64) {
        let start = self.chunks.partition_point(|chunk| chunk.last() < range.start);
        let chunks = self.chunks.range(start..);
        let chunks = chunks.take_while(|chunk| chunk.first() < range.end);
        let mut expired = Vec::new();
        let mut next = NEVER;
        for chunk in chunks {
            let search_at = chunk.expiry().search_at;
            if search_at <= now {
                expired.push(SeenChunk {
                    key: chunk.key(),
                    last: chunk.last(),
                    count: chunk.count,
                    search_at,
                });
            } else {
                next = next.min(search_at);
            }
        }
        expired.sort_unstable_by_key(|chunk| chunk.search_at);
        if let Some(left) = expired.get(SEARCHED_CHUNKS_MAX) {
            next = next.min(left.search_at);
        }
        expired.truncate(SEARCHED_CHUNKS_MAX);
        (expired, next)
    }
}

/// So many chunks are read in one search.
const SEARCHED_CHUNKS_MAX: usize = 8;
