//! What a start reads: the index of every queue, without reading its messages.
//!
//! A queue's state says where to begin and how far the index entries reach; chunks beyond, written within the last lazy flush
//! before the end, are found by looking at them. Nothing below the low watermark is looked at, so the tombstones of settled
//! messages cost nothing. One scan goes through the index entries of all queues, and one through their chunks: where there are many
//! queues, beginning a scan costs more than what it finds.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::bodies::References;
use crate::engine::{Engine, Visit};
use crate::error::StorageError;
use crate::ids::{QueueId, Ticket, Weight};
use crate::index::{IndexEntry, QueueState, weigh_live};
use crate::keys::{self, ChunkKey, Key, Prefix};
use crate::log::{Chunk, QueueLog};
use crate::pending::State;
use crate::records::Definition;

/// Reads everything but definitions and messages. Returns the state, and the lowest queue id that was never used.
pub(crate) fn load(engine: &dyn Engine, weigh: fn(&[u8]) -> Weight) -> Result<(State, u64), StorageError> {
    let mut state = empty();
    let mut next_queue_id = 1;
    let key = Key::QueueIdCounter;
    if let Some(counter) = engine.get(key.space(), &key.encode())? {
        let counter: [u8; 8] = counter
            .as_slice()
            .try_into()
            .map_err(|_| StorageError::corrupt("the counter of queue ids"))?;
        next_queue_id = u64::from_be_bytes(counter).max(next_queue_id);
    }
    let mut queues = queue_states(engine)?;
    for Loading {
        queue, weigh: of_queue, ..
    } in &mut queues
    {
        match *queue {
            QueueId::BODIES => *of_queue = |_| Weight::from(0),
            _ => {
                next_queue_id = next_queue_id.max(queue.0.saturating_add(1));
                *of_queue = weigh;
            }
        }
    }
    load_chunks(engine, &mut queues)?;
    for loading in queues {
        let (queue, stored) = (loading.queue, loading.stored);
        let log = QueueLog::load(queue, stored, loading.finish()?, &mut state.pending);
        state.queues.insert(queue, log);
    }
    state.count_references();
    load_counts(engine, &mut state)?;
    drop_spilled(engine, &mut state)?;
    Ok((state, next_queue_id))
}

/// The state of a store that nothing was ever written to.
pub(crate) fn empty() -> State {
    State {
        ticket: Ticket(1),
        ..State::default()
    }
}

/// All definitions, in the order of their keys: virtual hosts, users, permissions, exchanges, queues, bindings, the rest.
pub(crate) fn definitions(engine: &dyn Engine) -> Result<Vec<Definition>, StorageError> {
    let mut definitions = Vec::new();
    scan(engine, Prefix::Definitions, &mut |key, value| {
        let kind = keys::decode_definition_kind(key).ok_or_else(|| StorageError::corrupt("the key of a definition"))?;
        definitions.push(Definition::decode(kind, value)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(definitions)
}

/// A queue whose chunks are being found.
struct Loading {
    queue: QueueId,
    stored: QueueState,
    weigh: fn(&[u8]) -> Weight,
    chunks: VecDeque<Chunk>,
    references: References,
}

/// The states of all queues, in the order of their ids.
fn queue_states(engine: &dyn Engine) -> Result<Vec<Loading>, StorageError> {
    let mut states = Vec::new();
    scan(engine, Prefix::QueueStates, &mut |key, value| {
        let queue = keys::decode_queue_state(key).ok_or_else(|| StorageError::corrupt("the key of a queue's state"))?;
        states.push(Loading {
            queue,
            stored: QueueState::decode(queue, value)?,
            weigh: |_| Weight::from(0),
            chunks: VecDeque::new(),
            references: References::default(),
        });
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(states)
}

/// Finds the chunks of all queues: first those in the index, then those beyond it.
fn load_chunks(engine: &dyn Engine, queues: &mut [Loading]) -> Result<(), StorageError> {
    let indexed = |loading: &Loading| Prefix::ChunkIndex(loading.queue, loading.stored.low);
    scan_queues(engine, queues, indexed, |loading, key, value| {
        let (_, key) =
            keys::decode_chunk_index(key).ok_or_else(|| StorageError::corrupt("the key of an index entry"))?;
        loading.add_indexed(engine, key, value)
    })?;
    let beyond = |loading: &Loading| Prefix::Chunks(loading.queue, loading.stored.low.max(loading.stored.indexed));
    scan_queues(engine, queues, beyond, |loading, key, value| {
        let (_, key) = keys::decode_chunk(key).ok_or_else(|| StorageError::corrupt("the key of a chunk"))?;
        loading.add_unindexed(key, value)
    })
}

/// Visits the keys of a prefix of each queue, in one scan.
fn scan_queues(
    engine: &dyn Engine,
    queues: &mut [Loading],
    prefix: impl Fn(&Loading) -> Prefix,
    mut visit: impl FnMut(&mut Loading, &[u8], &[u8]) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let Some(space) = queues.first().map(|loading| prefix(loading).space()) else {
        return Ok(());
    };
    let ranges: Vec<_> = queues.iter().map(|loading| prefix(loading).range()).collect();
    let mut queues = queues.iter_mut().zip(&ranges).peekable();
    engine.scan_ranges(space, &ranges, &mut |key, value| {
        while queues.next_if(|(_, (_, until))| key >= until.as_slice()).is_some() {}
        if let Some((loading, _)) = queues.peek_mut() {
            visit(loading, key, value)?;
        }
        Ok(ControlFlow::Continue(()))
    })
}

impl Loading {
    fn add_indexed(&mut self, engine: &dyn Engine, key: ChunkKey, value: &[u8]) -> Result<(), StorageError> {
        let mut entry = match IndexEntry::decode(self.queue, key.first, value) {
            Err(error @ StorageError::Corrupt { .. }) => {
                tracing::error!(%error, "the settled messages of chunk {} come back", key.first);
                // Nobody knows how many chunks it told of: all from here on are looked at.
                self.stored.indexed = self.stored.indexed.min(key.first);
                return Ok(());
            }
            entry => entry?,
        };
        if entry.body.is_none() {
            entry.body = Some(weigh_stored(engine, self.queue, key, &entry, self.weigh)?);
        }
        self.references.add_live(key.first, &entry);
        self.chunks.push_back(Chunk::stored(key, entry, true));
        Ok(())
    }

    fn add_unindexed(&mut self, key: ChunkKey, value: &[u8]) -> Result<(), StorageError> {
        let at = self.chunks.partition_point(|chunk| chunk.key() <= key);
        let before = at.checked_sub(1).and_then(|before| self.chunks.get(before));
        if before.is_none_or(|before| !before.has_value(key)) {
            let entry = entry_of(self.queue, key, value, self.weigh)?;
            self.references.add_live(key.first, &entry);
            self.chunks.insert(at, Chunk::stored(key, entry, false));
        }
        Ok(())
    }

    /// The chunks, once all are found.
    fn finish(mut self) -> Result<(VecDeque<Chunk>, References), StorageError> {
        let chunks = &mut self.chunks;
        chunks.shrink_to_fit();
        let firsts: Vec<_> = chunks.iter().skip(1).map(|next| next.first()).collect();
        for (chunk, next) in chunks.iter_mut().zip(firsts) {
            chunk.end_before(next);
        }
        for (one, next) in chunks.iter().zip(chunks.iter().skip(1)) {
            if one.last() >= next.first() {
                let what = format!(
                    "chunks {} and {} of queue {} overlap",
                    one.first(),
                    next.first(),
                    self.queue
                );
                return Err(StorageError::corrupt(what));
            }
        }
        Ok((self.chunks, self.references))
    }
}

/// What the live messages of a chunk weigh, if its index entry does not say so. What cannot be read counts nothing; it is
/// reported when somebody reads it.
fn weigh_stored(
    engine: &dyn Engine,
    queue: QueueId,
    key: ChunkKey,
    entry: &IndexEntry,
    weigh: fn(&[u8]) -> Weight,
) -> Result<u32, StorageError> {
    let mut body = 0u32;
    for value in entry.values(key) {
        let stored = Key::Chunk(queue, value.key);
        if let Some(chunk) = engine.get(stored.space(), &stored.encode())? {
            body = body.saturating_add(weigh_live(queue, value.key, &chunk, &value.live, weigh).unwrap_or(0));
        }
    }
    Ok(body)
}

/// What was spilled before this start is of no use to anybody.
fn drop_spilled(engine: &dyn Engine, state: &mut State) -> Result<(), StorageError> {
    let mut any = false;
    scan(engine, Prefix::Spilled, &mut |_, _| {
        any = true;
        Ok(ControlFlow::Break(()))
    })?;
    if any {
        state.pending.drop_all(Prefix::Spilled);
    }
    Ok(())
}

/// The entry of a chunk without one. One damaged chunk does not keep the others from being read.
fn entry_of(
    queue: QueueId,
    key: ChunkKey,
    chunk: &[u8],
    weigh: fn(&[u8]) -> Weight,
) -> Result<IndexEntry, StorageError> {
    match IndexEntry::of_chunk(queue, key, chunk, weigh) {
        Err(error @ StorageError::Corrupt { .. }) => {
            tracing::error!(%error, "a chunk of messages is damaged; it stays where it is, see `leveret check`");
            Ok(IndexEntry::of_damaged_chunk(chunk))
        }
        entry => entry,
    }
}

fn load_counts(engine: &dyn Engine, state: &mut State) -> Result<(), StorageError> {
    scan(engine, Prefix::AllDeliveryCounts, &mut |key, value| {
        let (queue, position) =
            keys::decode_delivery_count(key).ok_or_else(|| StorageError::corrupt("the key of a delivery count"))?;
        let count = value
            .try_into()
            .map_err(|_| StorageError::corrupt("a delivery count"))?;
        match state.queues.get_mut(&queue).filter(|log| log.is_live(position)) {
            Some(log) => {
                log.counts.insert(position, u32::from_be_bytes(count));
            }
            // A count may outlive its message: a dead chunk goes with the next commit, counts later.
            None => state.pending.settled_counts.push((queue, position)),
        }
        Ok(ControlFlow::Continue(()))
    })
}

fn scan(engine: &dyn Engine, prefix: Prefix, visit: Visit<'_>) -> Result<(), StorageError> {
    let (from, until) = prefix.range();
    engine.scan(prefix.space(), &from, &until, visit)
}
