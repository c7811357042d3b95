//! Bodies that several queues have in common: each is stored once, and the queues' messages refer to it.
//!
//! The bodies are the messages of a queue of their own, [`QueueId::BODIES`], whose positions are their [`BodyId`]s. So they are
//! written, indexed, rewritten when sparse, and freed as messages are.
//!
//! Who refers to them is written in the chunks and index entries of the queues, and nowhere else: a start counts it anew. A body
//! goes when nobody refers to it, and only with a [lazy](crate::commit::Shared::commit) commit: that one writes the index of every
//! queue, so no reference to the body is left on the disk either. A crash before leaves a body without references, which the next
//! start drops; it never leaves a reference without its body.

use std::collections::BTreeMap;

use crate::chunk::{messages, verify};
use crate::commit::Shared;
use crate::error::StorageError;
use crate::ids::{BodyId, Position, QueueId, Weighed};
use crate::index::IndexEntry;
use crate::keys::{ChunkKey, Key};
use crate::log::{Place, QueueLog, SharedBytes};
use crate::pending::State;
use crate::varint;

/// Which of a queue's messages refer to which bodies: neighbours to neighbours, mostly, so runs of them take little memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    /// By their first position; they do not overlap.
    runs: BTreeMap<Position, Run>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// That of the first position; the following have the following.
    body: BodyId,
    count: u64,
}

impl References {
    /// Adds a message that has none yet.
    pub(crate) fn insert(&mut self, position: Position, body: BodyId) {
        let before = self.runs.range_mut(..position).next_back();
        if let Some((first, run)) = before
            && first.0 + run.count == position.0
            && run.body.0 + run.count == body.0
        {
            run.count += 1;
            return;
        }
        self.runs.insert(position, Run { body, count: 1 });
    }

    /// Adds those of the living messages of a chunk.
    pub(crate) fn add_live(&mut self, first: Position, entry: &IndexEntry) {
        for (position, body) in entry.references.iter() {
            let distance = position.0 - first.0;
            if u32::try_from(distance).is_ok_and(|distance| entry.live.contains(distance)) {
                self.insert(position, body);
            }
        }
    }

    /// The body that a message refers to.
    #[cfg(test)]
    pub(crate) fn get(&self, position: Position) -> Option<BodyId> {
        let (first, run) = self.runs.range(..=position).next_back()?;
        let distance = position.0 - first.0;
        (distance < run.count).then_some(BodyId(run.body.0 + distance))
    }

    /// Takes a message out.
    pub(crate) fn remove(&mut self, position: Position) -> Option<BodyId> {
        // Most queues have none.
        let (&first, &run) = self.runs.range(..=position).next_back()?;
        let distance = position.0 - first.0;
        if distance >= run.count {
            return None;
        }
        let body = BodyId(run.body.0 + distance);
        match (distance, self.runs.get_mut(&first)) {
            (1.., Some(run)) => run.count = distance,
            _ => {
                self.runs.remove(&first);
            }
        }
        if distance + 1 < run.count {
            let rest = Run {
                body: BodyId(body.0 + 1),
                count: run.count - distance - 1,
            };
            self.runs.insert(position.next(), rest);
        }
        Some(body)
    }

    /// Takes out all below a position but some.
    pub(crate) fn remove_below(&mut self, below: Position, kept: impl Fn(Position) -> bool, removed: &mut Vec<BodyId>) {
        if self.runs.is_empty() {
            return;
        }
        let doomed: Vec<Position> = self
            .iter()
            .map(|(position, _)| position)
            .take_while(|at| *at < below)
            .collect();
        removed.extend(
            doomed
                .into_iter()
                .filter(|position| !kept(*position))
                .filter_map(|position| self.remove(position)),
        );
    }

    /// All of them, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Position, BodyId)> {
        self.runs.iter().flat_map(|(first, run)| {
            (0..run.count).map(|distance| (Position(first.0 + distance), BodyId(run.body.0 + distance)))
        })
    }

    /// Those of a chunk, from its first position to its last.
    pub(crate) fn within(&self, first: Position, last: Position) -> References {
        let before = self.runs.range(..first).next_back();
        let runs = before.into_iter().chain(self.runs.range(first..=last));
        let clipped = runs.filter_map(|(at, run)| {
            let from = first.max(*at);
            let end = last.next().0.min(at.0 + run.count);
            let body = BodyId(run.body.0 + (from.0 - at.0));
            let count = end.checked_sub(from.0).filter(|count| *count > 0)?;
            Some((from, Run { body, count }))
        });
        References {
            runs: clipped.collect(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Appends the stored form of a chunk's references.
    pub(crate) fn encode_into(&self, chunk: Position, out: &mut Vec<u8>) {
        varint::write(self.runs.len() as u64, out);
        let mut at = chunk;
        for (first, run) in &self.runs {
            varint::write(first.0 - at.0, out);
            varint::write(run.count, out);
            varint::write(run.body.0, out);
            at = Position(first.0 + run.count);
        }
    }

    /// Reads the stored form, which may be followed by something else.
    pub(crate) fn decode(chunk: Position, stored: &mut &[u8]) -> Option<Self> {
        let mut runs = BTreeMap::new();
        let mut at = chunk.0;
        for _ in 0..varint::read(stored)? {
            let first = at.checked_add(varint::read(stored)?)?;
            let (count, body) = (varint::read(stored)?, varint::read(stored)?);
            body.checked_add(count)?;
            at = first.checked_add(count).filter(|_| count > 0)?;
            let body = BodyId(body);
            runs.insert(Position(first), Run { body, count });
        }
        Some(Self { runs })
    }
}

/// How many living messages refer to each body, and to which of them no message refers any more.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    /// At the least 1, and not less than there are: what was taken away since the last lazy commit is still counted.
    counts: BTreeMap<BodyId, u32>,
}

impl Bodies {
    pub(crate) fn has(&self, body: BodyId) -> bool {
        self.counts.contains_key(&body)
    }

    pub(crate) fn refer(&mut self, body: BodyId) {
        *self.counts.entry(body).or_default() += 1;
    }

    /// Counts one message less. True for the last one.
    fn release(&mut self, body: BodyId) -> bool {
        let Some(count) = self.counts.get_mut(&body) else {
            return false;
        };
        *count -= 1;
        *count == 0 && self.counts.remove(&body).is_some()
    }
}

impl State {
    /// The body that a message refers to from now on: the one that is known, if it is still there, or a new one.
    pub(crate) fn share(&mut self, body: &[u8], known: Option<BodyId>) -> BodyId {
        let known = known.filter(|known| self.bodies.has(*known));
        let id = known.unwrap_or_else(|| {
            let Self { queues, pending, .. } = self;
            let log = queues.entry(QueueId::BODIES).or_default();
            let position = log.next;
            let weighed = Weighed::from(position);
            log.append(QueueId::BODIES, weighed, None, &[body], BODY_CHUNK_BYTES, pending);
            BodyId(position.0)
        });
        self.bodies.refer(id);
        id
    }

    /// Gives up the bodies that nobody refers to any more. For a commit that writes the index of every queue, before it is cut.
    pub(crate) fn drop_bodies(&mut self) {
        let Self {
            queues,
            pending,
            bodies,
            ..
        } = self;
        let released = std::mem::take(&mut pending.released);
        let Some(log) = queues.get_mut(&QueueId::BODIES) else {
            return;
        };
        for body in released {
            if bodies.release(body) {
                log.settle(QueueId::BODIES, body.position().into(), false, pending);
            }
        }
    }

    /// Counts the references of all queues, at a start, and drops what has none.
    pub(crate) fn count_references(&mut self) {
        let Self {
            queues,
            pending,
            bodies,
            ..
        } = self;
        for log in queues.values() {
            log.references.iter().for_each(|(_, body)| bodies.refer(body));
        }
        let log = match bodies.counts.is_empty() {
            true => queues.get_mut(&QueueId::BODIES),
            false => Some(queues.entry(QueueId::BODIES).or_default()),
        };
        let Some(log) = log else { return };
        if let Some((last, _)) = bodies.counts.last_key_value() {
            // No id is used twice, whatever is lost.
            log.next = log.next.max(last.position().next());
        }
        let orphans: Vec<Position> = log
            .live_positions()
            .filter(|position| !bodies.has(BodyId(position.0)))
            .collect();
        let missing = bodies
            .counts
            .keys()
            .filter(|body| !log.is_live(body.position()))
            .count();
        if missing > 0 {
            tracing::error!(
                missing,
                "bodies that several queues have in common are missing, see `leveret check`"
            );
        }
        for position in orphans {
            log.settle(QueueId::BODIES, position.into(), false, pending);
        }
    }
}

impl QueueLog {
    fn live_positions(&self) -> impl Iterator<Item = Position> {
        self.chunks.iter().flat_map(|chunk| {
            let first = chunk.first().0;
            chunk
                .live
                .iter()
                .map(move |distance| Position(first + u64::from(distance)))
        })
    }
}

/// Reads bodies, and keeps the chunk that it has read last: neighbours are wanted one after the other, mostly.
#[derive(Default)]
pub(crate) struct BodyReader {
    chunk: Option<(ChunkKey, Vec<u8>)>,
}

/// Where a body is at a moment.
enum Whereabouts {
    Nowhere,
    /// It was open to be read, and was.
    Read,
    /// In a chunk that is not, or not surely, in the engine yet.
    Shared(ChunkKey, SharedBytes),
    Stored(ChunkKey),
}

impl BodyReader {
    /// Appends a body to `out`. False if it is not there: nobody refers to it any more, or it is lost. Errors: it is damaged, or the
    /// engine cannot read.
    pub(crate) fn read(&mut self, shared: &Shared, body: BodyId, out: &mut Vec<u8>) -> Result<bool, StorageError> {
        let mut missing = None;
        loop {
            let key = match locate(shared, body, out) {
                Whereabouts::Nowhere => return Ok(false),
                Whereabouts::Read => return Ok(true),
                Whereabouts::Shared(key, bytes) => {
                    // Since it was found, the commit may have been written, and the bytes given back.
                    if copy(key, &bytes.lock(), body, out) {
                        return Ok(true);
                    }
                    continue;
                }
                Whereabouts::Stored(key) => key,
            };
            let chunk = match self.chunk.take() {
                Some((cached, bytes)) if cached == key => bytes,
                _ => {
                    let stored = Key::Chunk(QueueId::BODIES, key);
                    match shared.engine.get(stored.space(), &stored.encode())? {
                        Some(bytes) => {
                            verify(QueueId::BODIES, key, &bytes)?;
                            bytes
                        }
                        None if missing.replace(key) == Some(key) => {
                            let what = format!("chunk {} of shared bodies is missing", key.first);
                            return Err(StorageError::corrupt(what));
                        }
                        // It may have been written anew a moment ago.
                        None => continue,
                    }
                }
            };
            let copied = copy(key, &chunk, body, out);
            self.chunk = Some((key, chunk));
            return match copied {
                true => Ok(true),
                false => Err(StorageError::corrupt(format!(
                    "shared body {} is not in its chunk",
                    body.0
                ))),
            };
        }
    }
}

fn locate(shared: &Shared, body: BodyId, out: &mut Vec<u8>) -> Whereabouts {
    let state = shared.state.lock();
    let found = state.queues.get(&QueueId::BODIES).and_then(|log| {
        let (index, distance) = log.find(body.position())?;
        let chunk = log.chunks.get(index).filter(|chunk| chunk.live.contains(distance))?;
        Some((log, chunk, distance))
    });
    let Some((log, chunk, distance)) = found else {
        return Whereabouts::Nowhere;
    };
    match (chunk.place(), chunk.buffer()) {
        (Place::Open, _) if copy(chunk.key(), log.open_bytes().unwrap_or_default(), body, out) => Whereabouts::Read,
        (Place::Open, _) => Whereabouts::Nowhere,
        (_, Some(bytes)) => Whereabouts::Shared(chunk.key(), bytes.clone()),
        (_, None) => Whereabouts::Stored(chunk.value_key_at(distance)),
    }
}

/// Appends a body of a chunk to `out`, if it is there.
fn copy(key: ChunkKey, chunk: &[u8], body: BodyId, out: &mut Vec<u8>) -> bool {
    let mut bodies = messages(QueueId::BODIES, key.first, chunk).map_while(Result::ok);
    let found = bodies.find(|found| found.position == body.position());
    found.inspect(|found| out.extend_from_slice(found.payload)).is_some()
}

/// A chunk of bodies is read to have one of them, so it is smaller than one of messages.
const BODY_CHUNK_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn all(references: &References) -> Vec<(u64, u64)> {
        references.iter().map(|(position, body)| (position.0, body.0)).collect()
    }

    #[test]
    fn neighbours_that_refer_to_neighbours_are_one_run() {
        let mut references = References::default();
        (0..100).for_each(|at| references.insert(Position(10 + at), BodyId(500 + at)));
        assert_eq!(references.runs.len(), 1);
        assert_eq!(references.remove(Position(50)), Some(BodyId(540)));
        assert_eq!(references.remove(Position(50)), None);
        assert_eq!(references.runs.len(), 2);
        assert_eq!(
            (references.get(Position(49)), references.get(Position(50))),
            (Some(BodyId(539)), None)
        );
        assert_eq!(
            all(&references.within(Position(48), Position(52))),
            [(48, 538), (49, 539), (51, 541), (52, 542)]
        );
        assert!(references.within(Position(50), Position(50)).is_empty());
        let mut removed = Vec::new();
        references.remove_below(Position(109), |position| position == Position(20), &mut removed);
        assert_eq!((removed.len(), all(&references)), (97, vec![(20, 510), (109, 599)]));
    }

    #[test]
    fn references_agree_with_a_map_and_read_back() {
        let (mut references, mut map) = (References::default(), BTreeMap::new());
        let mut dice = 7u64;
        for position in 0..2000u64 {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if dice >> 62 > 0 {
                let body = position / 2 + (dice >> 63) * 10_000;
                references.insert(Position(position), BodyId(body));
                map.insert(position, body);
            }
            let doomed = (dice >> 40) % (position + 1);
            assert_eq!(
                references.remove(Position(doomed)).map(|body| body.0),
                map.remove(&doomed)
            );
        }
        assert!(map.clone().into_iter().eq(all(&references)));
        for (first, last) in [(0, 1999), (100, 100), (777, 1300), (1999, 5000)] {
            let within = references.within(Position(first), Position(last));
            assert!(map.range(first..=last).map(|(at, body)| (*at, *body)).eq(all(&within)));
            let mut stored = Vec::new();
            within.encode_into(Position(first), &mut stored);
            let mut rest = stored.as_slice();
            assert_eq!(References::decode(Position(first), &mut rest), Some(within));
            assert!(rest.is_empty());
        }
    }
}
