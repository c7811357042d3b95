//! What a start reads: the index of every queue, without reading its messages.
//!
//! A queue's state says where to begin and how far the index entries reach; chunks beyond, written within the last lazy flush
//! before the end, are found by looking at them. Nothing below the low watermark is looked at, so the tombstones of settled
//! messages cost nothing.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use crate::bodies::References;
use crate::chunk::{IndexEntry, QueueState, weigh_live};
use crate::engine::{Engine, Visit};
use crate::error::StorageError;
use crate::ids::{QueueId, Ticket, Weight};
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
    for (queue, stored) in queue_states(engine)? {
        let weigh = match queue {
            QueueId::BODIES => |_: &[u8]| Weight::from(0),
            _ => {
                next_queue_id = next_queue_id.max(queue.0.saturating_add(1));
                weigh
            }
        };
        let chunks = load_chunks(engine, queue, stored, weigh)?;
        let log = QueueLog::load(queue, stored, chunks, &mut state.pending);
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

fn queue_states(engine: &dyn Engine) -> Result<Vec<(QueueId, QueueState)>, StorageError> {
    let mut states = Vec::new();
    scan(engine, Prefix::QueueStates, &mut |key, value| {
        let queue = keys::decode_queue_state(key).ok_or_else(|| StorageError::corrupt("the key of a queue's state"))?;
        states.push((queue, QueueState::decode(queue, value)?));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(states)
}

fn load_chunks(
    engine: &dyn Engine,
    queue: QueueId,
    state: QueueState,
    weigh: fn(&[u8]) -> Weight,
) -> Result<(VecDeque<Chunk>, References), StorageError> {
    let mut chunks: BTreeMap<ChunkKey, Chunk> = BTreeMap::new();
    let mut references = References::default();
    scan(engine, Prefix::ChunkIndex(queue, state.low), &mut |key, value| {
        let (_, key) =
            keys::decode_chunk_index(key).ok_or_else(|| StorageError::corrupt("the key of an index entry"))?;
        let mut entry = match IndexEntry::decode(queue, key.first, value) {
            Err(error @ StorageError::Corrupt { .. }) => match unindexed(engine, queue, key, &error, weigh)? {
                Some(entry) => entry,
                None => return Ok(ControlFlow::Continue(())),
            },
            entry => entry?,
        };
        if entry.body.is_none() {
            entry.body = Some(weigh_stored(engine, queue, key, &entry, weigh)?);
        }
        references.add_live(key.first, &entry);
        chunks.insert(key, Chunk::stored(key, entry, true));
        Ok(ControlFlow::Continue(()))
    })?;
    scan(
        engine,
        Prefix::Chunks(queue, state.low.max(state.indexed)),
        &mut |key, value| {
            let (_, key) = keys::decode_chunk(key).ok_or_else(|| StorageError::corrupt("the key of a chunk"))?;
            if let Entry::Vacant(unindexed) = chunks.entry(key) {
                let entry = entry_of(queue, key, value, weigh)?;
                references.add_live(key.first, &entry);
                unindexed.insert(Chunk::stored(key, entry, false));
            }
            Ok(ControlFlow::Continue(()))
        },
    )?;
    let mut chunks: VecDeque<Chunk> = chunks.into_values().collect();
    let firsts: Vec<_> = chunks.iter().skip(1).map(|next| next.key.first).collect();
    for (chunk, next) in chunks.iter_mut().zip(firsts) {
        chunk.end_before(next);
    }
    for (one, next) in chunks.iter().zip(chunks.iter().skip(1)) {
        if one.last() >= next.key.first {
            let what = format!(
                "chunks {} and {} of queue {queue} overlap",
                one.key.first, next.key.first
            );
            return Err(StorageError::corrupt(what));
        }
    }
    Ok((chunks, references))
}

/// What the live messages of a chunk weigh, if its index entry is too old to say so. One that cannot be read counts nothing; it
/// is reported when somebody reads it.
fn weigh_stored(
    engine: &dyn Engine,
    queue: QueueId,
    key: ChunkKey,
    entry: &IndexEntry,
    weigh: fn(&[u8]) -> Weight,
) -> Result<u32, StorageError> {
    let stored = Key::Chunk(queue, key);
    let Some(chunk) = engine.get(stored.space(), &stored.encode())? else {
        return Ok(0);
    };
    Ok(weigh_live(queue, key, &chunk, &entry.live, weigh).unwrap_or(0))
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

/// The entry of a chunk whose stored one is damaged: what was settled of it comes back. None if there is no such chunk.
fn unindexed(
    engine: &dyn Engine,
    queue: QueueId,
    key: ChunkKey,
    error: &StorageError,
    weigh: fn(&[u8]) -> Weight,
) -> Result<Option<IndexEntry>, StorageError> {
    tracing::error!(%error, "the settled messages of chunk {} come back", key.first);
    let stored = Key::Chunk(queue, key);
    let chunk = engine.get(stored.space(), &stored.encode())?;
    chunk.map(|chunk| entry_of(queue, key, &chunk, weigh)).transpose()
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
