//! A look at a store that nobody has open: whether everything in it reads back and fits together. And its repair, which copies
//! what does into a new database and leaves the old one beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::bodies::References;
use crate::chunk::{IndexEntry, QueueState, Record, UNKNOWN_BODY, messages, verify};
use crate::directory::{self, DirectoryLock};
use crate::engine::{Engine, Space, Visit};
use crate::error::StorageError;
use crate::ids::{BodyId, Position, QueueId, Weight};
use crate::keys::{self, ChunkKey, Key};
use crate::records::{Definition, QueueRecord};
use crate::rocks::Rocks;

/// What a look at a store found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Definitions that read back.
    pub definitions: u64,
    /// Queues with anything stored.
    pub queues: u64,
    /// Chunks that read back and may have living messages.
    pub chunks: u64,
    /// Living messages that read back.
    pub messages: u64,
    /// Their bytes, without shared bodies.
    pub message_bytes: u64,
    /// Bodies that several of them have in common.
    pub bodies: u64,
    /// Bodies that no message refers to any more: a crash may leave them, and the next start drops them.
    pub orphans: u64,
    /// What is damaged, missing or contradictory, a line each, with what is lost by it.
    pub problems: Vec<String>,
    /// After a repair: where the database is kept as it was.
    pub kept_as: Option<PathBuf>,
}

/// Reads everything in the store of a data directory and compares it with itself: checksums, counts, order. Changes nothing.
/// Errors: there is no store, it is in use, or a newer version wrote it.
pub fn check(directory: &Path) -> Result<CheckReport, StorageError> {
    let database = directory::inspect(directory)?;
    let _lock = DirectoryLock::take(directory, &database)?;
    match Rocks::open_read_only(&database) {
        Ok(engine) => Ok(Survey::of(&engine)?.report),
        Err(error) => Ok(CheckReport {
            problems: vec![format!("the database does not open: {error}")],
            ..CheckReport::default()
        }),
    }
}

/// Does what [`check`] does; if there are problems, makes a database of all that is readable and puts it in the place of the
/// old one, which is kept beside it.
pub fn repair(directory: &Path) -> Result<CheckReport, StorageError> {
    let database = directory::inspect(directory)?;
    let _lock = DirectoryLock::take(directory, &database)?;
    let salvage = directory.join(SALVAGE);
    let mut not_opened = None;
    let engine = match Rocks::open_read_only(&database) {
        Ok(engine) => engine,
        Err(error) => {
            not_opened = Some(format!(
                "the database did not open and was put together anew, perhaps without the newest messages: {error}"
            ));
            remove(directory, &salvage)?;
            directory::copy_files(&database, &salvage)
                .map_err(|source| StorageError::not_writable(directory, source))?;
            Rocks::salvage(&salvage)?
        }
    };
    let mut survey = Survey::of(&engine)?;
    survey.report.problems.splice(0..0, not_opened);
    if !survey.report.problems.is_empty() {
        let mended = directory.join(MENDED);
        remove(directory, &mended)?;
        survey.copy(&engine, &Rocks::open(&mended)?)?;
        drop(engine);
        let kept = (1..)
            .map(|number| directory.join(format!("{DAMAGED}{number}")))
            .find(|path| !path.exists())
            .unwrap_or_default();
        let not_writable = |source| StorageError::not_writable(directory, source);
        fs::rename(&database, &kept).map_err(not_writable)?;
        fs::rename(&mended, &database).map_err(not_writable)?;
        directory::sync(directory).map_err(not_writable)?;
        survey.report.kept_as = Some(kept);
    }
    remove(directory, &salvage)?;
    Ok(survey.report)
}

fn remove(directory: &Path, path: &Path) -> Result<(), StorageError> {
    if path.exists() {
        fs::remove_dir_all(path).map_err(|source| StorageError::not_writable(directory, source))?;
    }
    Ok(())
}

/// What is in a database, and what of it cannot be used.
#[derive(Default)]
struct Survey {
    report: CheckReport,
    states: BTreeMap<QueueId, QueueState>,
    /// The last position that was read of each queue.
    ends: BTreeMap<QueueId, Position>,
    /// Queues that a definition names.
    named: BTreeSet<QueueId>,
    index: BTreeMap<(QueueId, ChunkKey), IndexEntry>,
    /// Shared bodies that read back.
    bodies: BTreeSet<BodyId>,
    /// What living messages refer to, by chunk.
    references: BTreeMap<(QueueId, ChunkKey), Referring>,
    /// What a copy leaves out.
    dropped: BTreeSet<(Space, Vec<u8>)>,
    /// What a copy has instead or besides.
    added: Vec<(Vec<u8>, Vec<u8>)>,
    /// States that a copy has instead of the ones that are there.
    mended: BTreeMap<QueueId, QueueState>,
}

/// A chunk with messages whose bodies are shared.
struct Referring {
    entry: IndexEntry,
    /// Of living messages.
    references: References,
}

impl Survey {
    fn of(engine: &dyn Engine) -> Result<Self, StorageError> {
        let mut survey = Self::default();
        survey.read_meta(engine)?;
        let found = survey.read_chunks(engine)?;
        survey.compare_with_index(&found);
        survey.compare_with_bodies();
        survey.look_for_nameless();
        let queues = survey.states.keys().filter(|queue| **queue != QueueId::BODIES);
        survey.report.queues = queues.count() as u64;
        Ok(survey)
    }

    fn object(&mut self, problem: impl Into<String>) {
        self.report.problems.push(problem.into());
    }

    fn drop_key(&mut self, key: &Key<'_>) {
        self.dropped.insert((key.space(), key.encode()));
    }

    fn read_meta(&mut self, engine: &dyn Engine) -> Result<(), StorageError> {
        let scanned = scan_all(engine, Space::Meta, &[], &mut |key, value| {
            if let Err(error) = self.read_one(key, value) {
                if matches!(error, StorageError::NewerFormat { .. }) {
                    return Err(error);
                }
                self.object(format!("{}: {error}; it is lost", describe(key)));
                self.dropped.insert((Space::Meta, key.to_vec()));
            }
            Ok(ControlFlow::Continue(()))
        });
        match scanned {
            Err(error @ StorageError::Corrupt { .. }) => {
                self.object(format!("definitions and indexes are readable in part only: {error}"));
                Ok(())
            }
            other => other,
        }
    }

    fn read_one(&mut self, key: &[u8], value: &[u8]) -> Result<(), StorageError> {
        if let Some(kind) = keys::decode_definition_kind(key) {
            let definition = Definition::decode(kind, value)?;
            if Key::Definition(&definition.key()).encode() != key {
                return Err(StorageError::corrupt("a definition under the key of another"));
            }
            if let Definition::Queue(queue) = &definition {
                self.named.insert(queue.id);
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

    /// Reads all chunks, around blocks that cannot be read. Returns the keys of those that can.
    fn read_chunks(&mut self, engine: &dyn Engine) -> Result<BTreeSet<(QueueId, ChunkKey)>, StorageError> {
        let mut found = BTreeSet::new();
        let hints: Vec<_> = self.index.keys().copied().collect();
        let unreadable = scan_around(engine, &hints, &mut |key, bytes| {
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
        for (queue, chunk, error) in unreadable {
            self.lose_chunk(queue, chunk, &error);
        }
        Ok(found)
    }

    fn lose_chunk(&mut self, queue: QueueId, chunk: ChunkKey, why: &str) {
        let how_many = match self.index.get(&(queue, chunk)) {
            Some(entry) => entry.live.count().to_string(),
            None => "an unknown number".to_owned(),
        };
        let what = messages_of(queue);
        self.object(format!(
            "{why}: {how_many} {what} from position {} are lost",
            chunk.first
        ));
        self.drop_key(&Key::Chunk(queue, chunk));
        self.drop_key(&Key::ChunkIndex(queue, chunk));
        self.index.remove(&(queue, chunk));
    }

    /// Checks one chunk, against itself and its index entry. Returns its last position.
    fn read_chunk(&mut self, queue: QueueId, key: ChunkKey, bytes: &[u8]) -> Result<Position, StorageError> {
        let count = verify(queue, key, bytes)?;
        let entry = self.index.get(&(queue, key));
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
            let distance = (position.0 - key.first.0) as u32;
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
            (entry.count, u64::from(entry.span), entry.bytes as usize) == (count, span, bytes.len())
                && entry.live.count() == alive
        });
        if refers {
            let whole = IndexEntry::of_chunk(queue, key, bytes, |_| Weight::from(0))?;
            let entry = entry.filter(|_| fits).cloned().unwrap_or(whole);
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

    fn compare_with_index(&mut self, found: &BTreeSet<(QueueId, ChunkKey)>) {
        let missing: Vec<_> = self
            .index
            .iter()
            .filter(|((queue, key), _)| {
                let low = self.states.get(queue).map_or(Position(0), |state| state.low);
                key.first >= low && !found.contains(&(*queue, *key))
            })
            .map(|((queue, key), _)| (*queue, *key))
            .collect();
        for (queue, key) in missing {
            self.lose_chunk(queue, key, &format!("chunk {} is missing", key.first));
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
            for position in &lost {
                entry.live.remove((position.0 - key.first.0) as u32);
            }
            if entry.live.count() == 0 {
                self.index.remove(&(queue, key));
                self.drop_key(&Key::Chunk(queue, key));
                self.drop_key(&Key::ChunkIndex(queue, key));
                continue;
            }
            let numbers = [entry.count, entry.span, entry.bytes, UNKNOWN_BODY];
            let mut value = Vec::new();
            IndexEntry::encode_into(
                key.first,
                numbers,
                entry.expires,
                &entry.references,
                &entry.live,
                &mut value,
            );
            self.added.push((Key::ChunkIndex(queue, key).encode(), value));
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
    fn copy(&self, from: &dyn Engine, to: &dyn Engine) -> Result<(), StorageError> {
        let copied = |space: Space, key: &[u8], value: &[u8]| {
            if self.dropped.contains(&(space, key.to_vec())) {
                return Ok(ControlFlow::Continue(()));
            }
            to.write(&mut |batch| batch.put(space, key, value), false)?;
            Ok(ControlFlow::Continue(()))
        };
        match scan_all(from, Space::Meta, &[], &mut |key, value| {
            copied(Space::Meta, key, value)
        }) {
            Ok(()) | Err(StorageError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
        let hints: Vec<_> = self.index.keys().copied().collect();
        scan_around(from, &hints, &mut |key, value| copied(Space::Chunks, key, value))?;
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

fn scan_all(engine: &dyn Engine, space: Space, from: &[u8], visit: Visit<'_>) -> Result<(), StorageError> {
    engine.scan(space, from, &[0xff; LONGER_THAN_ANY_KEY], visit)
}

/// Scans all chunks. Where a block cannot be read, it goes on at the next chunk that the index knows. Returns those that cannot
/// be read.
fn scan_around(
    engine: &dyn Engine,
    hints: &[(QueueId, ChunkKey)],
    visit: Visit<'_>,
) -> Result<Vec<(QueueId, ChunkKey, String)>, StorageError> {
    let (mut unreadable, mut from) = (Vec::new(), Vec::new());
    loop {
        let mut reached = from.clone();
        let scanned = scan_all(engine, Space::Chunks, &from, &mut |key, value| {
            reached = key.to_vec();
            reached.push(0);
            visit(key, value)
        });
        match scanned {
            Ok(()) => return Ok(unreadable),
            Err(StorageError::Corrupt { .. }) => {}
            Err(error) => return Err(error),
        }
        from = loop {
            let next = hints.partition_point(|(queue, key)| Key::Chunk(*queue, *key).encode() < reached);
            let Some((queue, key)) = hints.get(next) else {
                return Ok(unreadable);
            };
            let bytes = Key::Chunk(*queue, *key).encode();
            match engine.get(Space::Chunks, &bytes) {
                Ok(_) => break bytes,
                Err(error) => {
                    unreadable.push((*queue, *key, error.to_string()));
                    reached = bytes;
                    reached.push(0);
                }
            }
        };
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

/// No key is as long, and none begins like this: lengths of names are bounded, and the first byte is a tag or a queue's id.
const LONGER_THAN_ANY_KEY: usize = 32;
const SHOWN_BYTES: usize = 40;
const SALVAGE: &str = "db.salvage";
const MENDED: &str = "db.mended";
const DAMAGED: &str = "db.damaged.";
const RECOVERED_VHOST: &str = "/";
const RECOVERED_NAME: &str = "leveret.recovered.";
