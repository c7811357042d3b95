//! Everything in a database, read and compared: definitions, states, index entries, chunks and shared bodies.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use super::around::{Gap, scan_around};
use super::{CheckReport, LogOfSetting, NamedLog};
use crate::bodies::References;
use crate::chunk::{Record, messages, verify};
use crate::engine::{Engine, Space};
use crate::error::StorageError;
use crate::ids::{BodyId, Position, QueueId, Weight};
use crate::index::{IndexEntry, QueueState, UNKNOWN_BODY};
use crate::keys::{self, ChunkKey, Key};
use crate::records::{Definition, QueueRecord};

/// What is in a database, and what of it cannot be used.
#[derive(Default)]
pub(super) struct Survey {
    pub(super) report: CheckReport,
    states: BTreeMap<QueueId, QueueState>,
    /// The last position that was read of each queue.
    ends: BTreeMap<QueueId, Position>,
    /// Queues and logs that a definition names.
    named: BTreeSet<QueueId>,
    /// Those without messages.
    logs: BTreeSet<QueueId>,
    index: BTreeMap<(QueueId, ChunkKey), IndexEntry>,
    /// Shared bodies that read back.
    bodies: BTreeSet<BodyId>,
    /// How many living messages were found of chunks that are several values.
    joined: BTreeMap<(QueueId, ChunkKey), u32>,
    /// What living messages refer to, by chunk.
    references: BTreeMap<(QueueId, ChunkKey), Referring>,
    /// What a copy leaves out.
    dropped: BTreeSet<(Space, Vec<u8>)>,
    /// What a copy has instead or besides.
    added: Vec<(Vec<u8>, Vec<u8>)>,
    /// States that a copy has instead of the ones that are there.
    mended: BTreeMap<QueueId, QueueState>,
}

/// The keys of chunks.
type Found = BTreeSet<(QueueId, ChunkKey)>;

/// A chunk with messages whose bodies are shared.
struct Referring {
    entry: IndexEntry,
    /// Of living messages.
    references: References,
}

impl Survey {
    pub(super) fn of(engine: &dyn Engine, log_of: LogOfSetting<'_>) -> Result<Self, StorageError> {
        let mut survey = Self::default();
        survey.read_meta(engine, log_of)?;
        let (found, gaps) = survey.read_chunks(engine)?;
        survey.compare_with_index(&found, &gaps);
        survey.compare_with_bodies();
        survey.look_for_nameless();
        let is_queue = |queue: &&QueueId| **queue != QueueId::BODIES && !survey.logs.contains(queue);
        let queues = survey.states.keys().filter(is_queue);
        survey.report.queues = queues.count() as u64;
        Ok(survey)
    }

    fn object(&mut self, problem: impl Into<String>) {
        self.report.problems.push(problem.into());
    }

    fn drop_key(&mut self, key: &Key<'_>) {
        self.dropped.insert((key.space(), key.encode()));
    }

    fn read_meta(&mut self, engine: &dyn Engine, log_of: LogOfSetting<'_>) -> Result<(), StorageError> {
        let gaps = scan_around(engine, Space::Meta, &mut |key, value| {
            if let Err(error) = self.read_one(key, value, log_of) {
                if matches!(error, StorageError::NewerFormat { .. }) {
                    return Err(error);
                }
                self.object(format!("{}: {error}; it is lost", describe(key)));
                self.dropped.insert((Space::Meta, key.to_vec()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        for gap in gaps {
            self.object(format!("some definitions and indexes cannot be read: {}", gap.error));
        }
        Ok(())
    }

    fn read_one(&mut self, key: &[u8], value: &[u8], log_of: LogOfSetting<'_>) -> Result<(), StorageError> {
        if let Some(kind) = keys::decode_definition_kind(key) {
            let definition = Definition::decode(kind, value)?;
            if Key::Definition(&definition.key()).encode() != key {
                return Err(StorageError::corrupt("a definition under the key of another"));
            }
            match &definition {
                Definition::Queue(queue) => drop(self.named.insert(queue.id)),
                Definition::Setting(setting) => log_of(setting).into_iter().for_each(|log| self.know(log)),
                _ => {}
            }
            self.report.definitions += 1;
        } else if let Some(queue) = keys::decode_queue_state(key) {
            self.states.insert(queue, QueueState::decode(queue, value)?);
        } else if let Some((queue, chunk)) = keys::decode_chunk_index(key) {
            let entry = IndexEntry::decode(queue, chunk.first, value)?;
            self.index.insert((queue, chunk), entry);
        } else if keys::decode_delivery_count(key).is_some() {
            if value.len() != size_of::<u32>() {
                return Err(StorageError::corrupt("a delivery count"));
            }
        } else if keys::decode_scheduled(key).is_some() {
            self.report.messages += 1;
            self.report.message_bytes += value.len() as u64;
        } else if key == Key::QueueIdCounter.encode() {
            if value.len() != size_of::<u64>() {
                return Err(StorageError::corrupt("the counter of queue ids"));
            }
        } else {
            return Err(StorageError::corrupt("a key that means nothing"));
        }
        Ok(())
    }

    fn know(&mut self, log: NamedLog) {
        self.named.insert(log.queue);
        if !log.has_messages {
            self.logs.insert(log.queue);
        }
    }

    /// Reads all chunks that can be read. Returns their keys, and where there may be others.
    fn read_chunks(&mut self, engine: &dyn Engine) -> Result<(Found, Vec<Gap>), StorageError> {
        let mut found = Found::new();
        let gaps = scan_around(engine, Space::Chunks, &mut |key, bytes| {
            let Some((queue, chunk)) = keys::decode_chunk(key) else {
                self.object(format!("{}: it means nothing", describe(key)));
                self.dropped.insert((Space::Chunks, key.to_vec()));
                return Ok(ControlFlow::Continue(()));
            };
            let low = self.states.get(&queue).map_or(Position(0), |state| state.low);
            // Spilled messages are of no use after their process, and what is below the low watermark is settled.
            if queue.is_spill() || chunk.first < low {
                return Ok(ControlFlow::Continue(()));
            }
            match self.read_chunk(queue, chunk, bytes) {
                Ok(end) => {
                    self.ends.insert(queue, end);
                    found.insert((queue, chunk));
                }
                Err(error @ StorageError::NewerFormat { .. }) => return Err(error),
                Err(error) => self.lose_chunk(queue, chunk, &error.to_string()),
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((found, gaps))
    }

    /// The index entry that tells of a value, and its key.
    fn entry_of(&self, queue: QueueId, value: ChunkKey) -> Option<(ChunkKey, &IndexEntry)> {
        let ((_, key), entry) = self
            .index
            .range((queue, ChunkKey::FIRST)..=(queue, value))
            .next_back()?;
        entry.has_value(*key, value).then_some((*key, entry))
    }

    fn lose_chunk(&mut self, queue: QueueId, chunk: ChunkKey, why: &str) {
        self.drop_key(&Key::Chunk(queue, chunk));
        let Some((key, mut entry)) = self.entry_of(queue, chunk).map(|(key, entry)| (key, entry.clone())) else {
            return self.object_to_loss(queue, chunk, why, "an unknown number of");
        };
        let values = entry.values(key);
        let lost = values
            .iter()
            .find(|value| value.key == chunk)
            .map(|value| value.live.iter());
        let mut how_many = 0;
        let distance = (chunk.first.0 - key.first.0) as u32;
        for alive in lost.into_iter().flatten() {
            how_many += u32::from(entry.live.remove(distance + alive));
        }
        self.object_to_loss(queue, chunk, why, &how_many.to_string());
        if let Some(starts) = &mut entry.starts {
            starts.remove(distance);
        }
        self.replace_entry(queue, key, entry);
    }

    fn object_to_loss(&mut self, queue: QueueId, chunk: ChunkKey, why: &str, how_many: &str) {
        let what = messages_of(queue);
        self.object(format!(
            "{why}: {how_many} {what} from position {} are lost",
            chunk.first
        ));
    }

    /// Has the copy know of a chunk what is left of it.
    fn replace_entry(&mut self, queue: QueueId, key: ChunkKey, entry: IndexEntry) {
        let index_key = Key::ChunkIndex(queue, key);
        self.added.retain(|(added, _)| *added != index_key.encode());
        if entry.live.count() == 0 {
            self.index.remove(&(queue, key));
            self.drop_key(&index_key);
            return;
        }
        let numbers = [entry.count, entry.span, entry.bytes, UNKNOWN_BODY];
        let mut value = Vec::new();
        let (references, starts) = (&entry.references, entry.starts.as_ref());
        IndexEntry::encode_into(
            key.first,
            numbers,
            entry.expires,
            references,
            starts,
            &entry.live,
            &mut value,
        );
        self.added.push((index_key.encode(), value));
        self.index.insert((queue, key), entry);
    }

    /// Checks one chunk, against itself and its index entry. Returns its last position.
    fn read_chunk(&mut self, queue: QueueId, key: ChunkKey, bytes: &[u8]) -> Result<Position, StorageError> {
        let count = verify(queue, key, bytes)?;
        let known = self.entry_of(queue, key).map(|(key, entry)| (key, entry.clone()));
        let entry = known.as_ref().map(|(_, entry)| entry);
        let of_entry = known.as_ref().map_or(key, |(key, _)| *key);
        let (mut seen, mut end, mut alive, mut alive_bytes) = (0, None, 0, 0);
        let mut refers = false;
        for message in messages(queue, key.first, bytes) {
            let Record {
                position,
                payload,
                body,
            } = message?;
            if end.is_some_and(|end| end >= position) {
                return Err(StorageError::corrupt(format!("chunk {} is out of order", key.first)));
            }
            end = Some(position);
            seen += 1;
            let distance = (position.0 - of_entry.first.0) as u32;
            if entry.is_none_or(|entry| entry.live.contains(distance)) {
                alive += 1;
                alive_bytes += payload.len() as u64;
                refers |= body.is_some();
                if queue == QueueId::BODIES {
                    self.bodies.insert(BodyId(position.0));
                }
            }
        }
        let end = end.filter(|_| seen == count);
        let end =
            end.ok_or_else(|| StorageError::corrupt(format!("chunk {} has {seen} of {count} messages", key.first)))?;
        if self.ends.get(&queue).is_some_and(|end| *end >= key.first) {
            return Err(StorageError::corrupt(format!(
                "chunk {} begins before its predecessor ends",
                key.first
            )));
        }
        let fits = entry.is_none_or(|entry| {
            let span = end.0 - key.first.0;
            let whole = (entry.count, u64::from(entry.span), entry.bytes as usize) == (count, span, bytes.len())
                && entry.live.count() == alive;
            whole || entry.starts.is_some()
        });
        if entry.is_some_and(|entry| entry.starts.is_some()) {
            *self.joined.entry((queue, of_entry)).or_default() += alive;
        }
        if refers {
            let whole = IndexEntry::of_chunk(queue, key, bytes, |_| Weight::from(0))?;
            let (key, entry) = match entry.filter(|_| fits) {
                Some(entry) => (of_entry, entry.clone()),
                None => (key, whole),
            };
            let mut references = References::default();
            references.add_live(key.first, &entry);
            self.references.insert((queue, key), Referring { entry, references });
        }
        if !fits {
            self.forget_entry(queue, key);
        } else if entry.is_none() && self.states.get(&queue).is_some_and(|state| key.first < state.indexed) {
            let of = of(queue);
            self.object(format!(
                "chunk {} of {of} has no index entry, so nobody would find it",
                key.first
            ));
            self.read_from(queue, key.first);
        }
        if queue == QueueId::BODIES {
            return Ok(end);
        }
        if self.logs.contains(&queue) {
            self.report.entries += u64::from(alive);
            return Ok(end);
        }
        self.report.chunks += 1;
        self.report.messages += u64::from(alive);
        self.report.message_bytes += alive_bytes;
        Ok(end)
    }

    fn forget_entry(&mut self, queue: QueueId, key: ChunkKey) {
        self.object(format!(
            "the index entry of chunk {} of {} does not fit: its settled messages come back",
            key.first,
            of(queue)
        ));
        self.index.remove(&(queue, key));
        self.drop_key(&Key::ChunkIndex(queue, key));
        self.read_from(queue, key.first);
    }

    /// Sees to it that the copy is read without an index from here on, and knows the queue.
    fn read_from(&mut self, queue: QueueId, first: Position) {
        let stored = self.states.get(&queue).copied();
        let state = self.mended.entry(queue).or_insert(stored.unwrap_or_default());
        state.indexed = state.indexed.min(first);
    }

    fn compare_with_index(&mut self, found: &Found, gaps: &[Gap]) {
        let values = self.index.iter().flat_map(|((queue, key), entry)| {
            let values = entry.values(*key).into_iter();
            values.map(move |value| (*queue, value.key))
        });
        let missing = values.filter(|(queue, key)| {
            let low = self.states.get(queue).map_or(Position(0), |state| state.low);
            key.first >= low && !found.contains(&(*queue, *key))
        });
        let missing: Vec<_> = missing.collect();
        let mut unexplained: Vec<&Gap> = gaps.iter().collect();
        for (queue, key) in missing {
            let bytes = Key::Chunk(queue, key).encode();
            let why = match gaps.iter().find(|gap| gap.covers(&bytes)) {
                Some(gap) => gap.error.clone(),
                None => format!("chunk {} is missing", key.first),
            };
            unexplained.retain(|gap| !gap.covers(&bytes));
            self.lose_chunk(queue, key, &why);
        }
        for ((queue, key), alive) in std::mem::take(&mut self.joined) {
            let entry = self.index.get(&(queue, key));
            if entry.is_some_and(|entry| entry.live.count() != alive) {
                self.forget_entry(queue, key);
            }
        }
        for gap in unexplained {
            self.object(format!("{}: an unknown number of messages are lost", gap.error));
        }
        let stateless: BTreeSet<QueueId> = found
            .iter()
            .map(|(queue, _)| *queue)
            .filter(|queue| !self.states.contains_key(queue))
            .collect();
        for queue in stateless {
            self.object(format!(
                "the state of {} is missing: its messages count as delivered",
                of(queue)
            ));
            self.read_from(queue, Position(0));
            // Who knows what was delivered of them.
            let end = self.ends.get(&queue).map_or(Position(0), |end| end.next());
            if let Some(state) = self.mended.get_mut(&queue) {
                state.delivered = end;
            }
        }
    }

    /// Looks whether every message has its body, and every body a message.
    fn compare_with_bodies(&mut self) {
        let mut wanted = BTreeSet::new();
        for ((queue, key), Referring { mut entry, references }) in std::mem::take(&mut self.references) {
            let lost: Vec<Position> = references
                .iter()
                .filter(|(_, body)| !self.bodies.contains(body))
                .map(|(position, _)| position)
                .collect();
            wanted.extend(references.iter().map(|(_, body)| body));
            let Some(first) = lost.first() else { continue };
            let how_many = lost.len();
            self.object(format!(
                "{how_many} messages of queue {queue} from position {first} are lost with their bodies"
            ));
            self.report.messages = self.report.messages.saturating_sub(how_many as u64);
            // What of it could not be read is known by now.
            if let Some(known) = self.index.get(&(queue, key)) {
                entry = known.clone();
            }
            let values = entry.values(key);
            for position in &lost {
                entry.live.remove((position.0 - key.first.0) as u32);
            }
            let left: BTreeSet<ChunkKey> = entry.values(key).iter().map(|value| value.key).collect();
            let gone = values.iter().filter(|value| !left.contains(&value.key));
            gone.for_each(|value| self.drop_key(&Key::Chunk(queue, value.key)));
            self.replace_entry(queue, key, entry);
        }
        self.report.bodies = self.bodies.len() as u64;
        self.report.orphans = self.bodies.difference(&wanted).count() as u64;
    }

    /// A queue with messages that no definition names gets a name, so that somebody can have them.
    fn look_for_nameless(&mut self) {
        let with_messages: BTreeSet<QueueId> = self.index.keys().map(|(queue, _)| *queue).collect();
        let stored = self.states.keys().filter(|queue| with_messages.contains(queue));
        let nameless: Vec<QueueId> = stored
            .chain(self.mended.keys())
            .filter(|queue| !self.named.contains(queue))
            .copied()
            .collect();
        self.named.insert(QueueId::BODIES);
        for queue in nameless {
            if !self.named.insert(queue) {
                continue;
            }
            let definition = Definition::Queue(QueueRecord {
                id: queue,
                vhost: RECOVERED_VHOST.into(),
                name: format!("{RECOVERED_NAME}{queue}"),
                ..QueueRecord::default()
            });
            self.object(format!(
                "queue {queue} has messages and no definition: a repair calls it {RECOVERED_NAME}{queue} in vhost {RECOVERED_VHOST}"
            ));
            if let Ok(value) = definition.encode() {
                self.added.push((Key::Definition(&definition.key()).encode(), value));
            }
        }
    }

    /// Copies all that can be used into an empty database, and syncs it.
    pub(super) fn copy(&self, from: &dyn Engine, to: &dyn Engine) -> Result<(), StorageError> {
        let copied = |space: Space, key: &[u8], value: &[u8]| {
            if self.dropped.contains(&(space, key.to_vec())) {
                return Ok(ControlFlow::Continue(()));
            }
            to.write(&mut |batch| batch.put(space, key, value), false)?;
            Ok(ControlFlow::Continue(()))
        };
        for space in [Space::Meta, Space::Chunks] {
            scan_around(from, space, &mut |key, value| copied(space, key, value))?;
        }
        let states = self.mended.iter().map(|(queue, state)| {
            let mut value = Vec::new();
            state.encode_into(&mut value);
            (Key::QueueState(*queue).encode(), value)
        });
        let added: Vec<_> = self.added.iter().cloned().chain(states).collect();
        to.write(
            &mut |batch| added.iter().for_each(|(key, value)| batch.put(Space::Meta, key, value)),
            true,
        )?;
        to.sync()
    }
}

fn of(queue: QueueId) -> String {
    match queue {
        QueueId::BODIES => "the shared bodies".to_owned(),
        queue => format!("queue {queue}"),
    }
}

fn messages_of(queue: QueueId) -> String {
    match queue {
        QueueId::BODIES => "shared bodies".to_owned(),
        queue => format!("messages of queue {queue}"),
    }
}

fn describe(key: &[u8]) -> String {
    let shown: String = key.iter().take(SHOWN_BYTES).map(|byte| format!("{byte:02x}")).collect();
    format!("the entry {shown}")
}

const SHOWN_BYTES: usize = 40;
const RECOVERED_VHOST: &str = "/";
const RECOVERED_NAME: &str = "leveret.recovered.";
