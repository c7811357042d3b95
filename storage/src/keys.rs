//! Keys, typed, and encoded so that the order of the bytes is the order of the keys.
//!
//! Numbers are big-endian. A string ends with two zero bytes and a zero byte within it becomes `00 ff`, so no string is the
//! beginning of another and no two keys collide, whatever a client puts into a name.
//!
//! ```text
//! space Meta
//!   02                                            the queue id counter
//!   10  kind  strings ...                         a definition
//!   20  queue:8                                   the state of a queue
//!   21  queue:8  first position:8  generation:4   the index entry of a chunk: what of it is alive
//!   22  queue:8  position:8                       how often a message was delivered
//!   23  schedule:8  time:8  number:8              a message that is due at that time
//! space Chunks
//!   queue:8  first position:8  generation:4       a chunk: messages of one queue; spilled ones if the highest bit is set
//! ```

use crate::engine::Space;
use crate::ids::{Position, QueueId};
use crate::records::DefinitionKey;
use crate::schedule::Moment;

/// What names a chunk in its queue. The generation rises each time survivors are written anew, so that no key of a chunk is
/// ever written twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ChunkKey {
    pub(crate) first: Position,
    pub(crate) generation: u32,
}

impl ChunkKey {
    /// None comes before it.
    pub(crate) const FIRST: Self = Self {
        first: Position(0),
        generation: 0,
    };

    /// The key of what begins at a distance from here.
    pub(crate) fn at(self, distance: u32) -> Self {
        let first = Position(self.first.0 + u64::from(distance));
        Self { first, ..self }
    }

    /// The distance to what begins at another key, if that may be the key of a value of the same chunk.
    pub(crate) fn distance_to(self, value: Self) -> Option<u32> {
        let distance = value.first.0.checked_sub(self.first.0)?;
        let distance = u32::try_from(distance).ok()?;
        (value.generation == self.generation).then_some(distance)
    }
}

/// Everything that can be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Key<'a> {
    QueueIdCounter,
    Definition(&'a DefinitionKey),
    QueueState(QueueId),
    ChunkIndex(QueueId, ChunkKey),
    DeliveryCount(QueueId, Position),
    Chunk(QueueId, ChunkKey),
    Scheduled(QueueId, Moment),
}

/// Everything that can be scanned or deleted as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefix {
    Definitions,
    QueueStates,
    /// The index entries of the chunks of a queue, from this position on.
    ChunkIndex(QueueId, Position),
    DeliveryCounts(QueueId),
    AllDeliveryCounts,
    /// All messages of a schedule.
    Schedule(QueueId),
    /// The chunks of a queue whose first position is this or higher.
    Chunks(QueueId, Position),
    /// The chunks of all queues of spilled messages.
    Spilled,
}

impl Key<'_> {
    /// Where the key lives.
    pub(crate) fn space(&self) -> Space {
        match self {
            Self::Chunk(..) => Space::Chunks,
            Self::QueueIdCounter
            | Self::Definition(_)
            | Self::QueueState(_)
            | Self::ChunkIndex(..)
            | Self::DeliveryCount(..)
            | Self::Scheduled(..) => Space::Meta,
        }
    }

    /// Replaces what is in `out` by the key.
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        out.clear();
        match self {
            Self::QueueIdCounter => out.push(tag::QUEUE_ID_COUNTER),
            Self::Definition(key) => {
                out.push(tag::DEFINITION);
                encode_definition(key, out);
            }
            Self::QueueState(queue) => {
                out.push(tag::QUEUE_STATE);
                out.extend_from_slice(&queue.0.to_be_bytes());
            }
            Self::ChunkIndex(queue, chunk) => {
                out.push(tag::CHUNK_INDEX);
                encode_chunk(*queue, *chunk, out);
            }
            Self::DeliveryCount(queue, position) => {
                out.push(tag::DELIVERY_COUNT);
                out.extend_from_slice(&queue.0.to_be_bytes());
                out.extend_from_slice(&position.0.to_be_bytes());
            }
            Self::Chunk(queue, chunk) => encode_chunk(*queue, *chunk, out),
            Self::Scheduled(schedule, Moment { time, number }) => {
                out.push(tag::SCHEDULED);
                for part in [schedule.0, *time, *number] {
                    out.extend_from_slice(&part.to_be_bytes());
                }
            }
        }
    }

    /// The key as bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(CHUNK_KEY_BYTES + 1);
        self.encode_into(&mut out);
        out
    }
}

impl Prefix {
    /// Where the keys live.
    pub(crate) fn space(self) -> Space {
        match self {
            Self::Chunks(..) | Self::Spilled => Space::Chunks,
            Self::Definitions
            | Self::QueueStates
            | Self::ChunkIndex(..)
            | Self::DeliveryCounts(_)
            | Self::AllDeliveryCounts
            | Self::Schedule(_) => Space::Meta,
        }
    }

    /// The first key of the prefix, and the first key after it.
    pub(crate) fn range(self) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::Definitions => (vec![tag::DEFINITION], vec![tag::DEFINITION + 1]),
            Self::QueueStates => (vec![tag::QUEUE_STATE], vec![tag::QUEUE_STATE + 1]),
            Self::ChunkIndex(queue, from) => {
                let mut start = vec![tag::CHUNK_INDEX];
                start.extend_from_slice(&queue.0.to_be_bytes());
                let end = successor(&start);
                start.extend_from_slice(&from.0.to_be_bytes());
                (start, end)
            }
            Self::AllDeliveryCounts => (vec![tag::DELIVERY_COUNT], vec![tag::DELIVERY_COUNT + 1]),
            Self::DeliveryCounts(queue) => {
                let mut start = vec![tag::DELIVERY_COUNT];
                start.extend_from_slice(&queue.0.to_be_bytes());
                let end = successor(&start);
                (start, end)
            }
            Self::Schedule(schedule) => {
                let mut start = vec![tag::SCHEDULED];
                start.extend_from_slice(&schedule.0.to_be_bytes());
                let end = successor(&start);
                (start, end)
            }
            Self::Spilled => {
                let start = QueueId::FIRST_SPILL.0.to_be_bytes().to_vec();
                (start, vec![0xff; CHUNK_KEY_BYTES + 1])
            }
            Self::Chunks(queue, from) => {
                let mut start = queue.0.to_be_bytes().to_vec();
                let end = successor(&start);
                start.extend_from_slice(&from.0.to_be_bytes());
                (start, end)
            }
        }
    }
}

/// Reads the key of a queue's state.
pub(crate) fn decode_queue_state(key: &[u8]) -> Option<QueueId> {
    let (first, queue) = key.split_first()?;
    (*first == tag::QUEUE_STATE).then_some(())?;
    Some(QueueId(u64::from_be_bytes(queue.try_into().ok()?)))
}

/// Reads the key of a chunk's index entry.
pub(crate) fn decode_chunk_index(key: &[u8]) -> Option<(QueueId, ChunkKey)> {
    let (first, chunk) = key.split_first()?;
    (*first == tag::CHUNK_INDEX).then_some(())?;
    decode_chunk(chunk)
}

/// Reads the key of a chunk.
pub(crate) fn decode_chunk(key: &[u8]) -> Option<(QueueId, ChunkKey)> {
    let (queue, rest) = key.split_first_chunk::<8>()?;
    let (first, generation) = rest.split_first_chunk::<8>()?;
    let chunk = ChunkKey {
        first: Position(u64::from_be_bytes(*first)),
        generation: u32::from_be_bytes(generation.try_into().ok()?),
    };
    Some((QueueId(u64::from_be_bytes(*queue)), chunk))
}

/// Reads the key of a delivery count.
pub(crate) fn decode_delivery_count(key: &[u8]) -> Option<(QueueId, Position)> {
    let (first, rest) = key.split_first()?;
    (*first == tag::DELIVERY_COUNT).then_some(())?;
    let (queue, position) = rest.split_first_chunk::<8>()?;
    Some((
        QueueId(u64::from_be_bytes(*queue)),
        Position(u64::from_be_bytes(position.try_into().ok()?)),
    ))
}

/// Reads the key of a scheduled message.
pub(crate) fn decode_scheduled(key: &[u8]) -> Option<(QueueId, Moment)> {
    let (first, rest) = key.split_first()?;
    (*first == tag::SCHEDULED).then_some(())?;
    let (schedule, rest) = rest.split_first_chunk::<8>()?;
    let (time, number) = rest.split_first_chunk::<8>()?;
    let moment = Moment {
        time: u64::from_be_bytes(*time),
        number: u64::from_be_bytes(number.try_into().ok()?),
    };
    Some((QueueId(u64::from_be_bytes(*schedule)), moment))
}

/// Reads which kind of definition a key names.
pub(crate) fn decode_definition_kind(key: &[u8]) -> Option<u8> {
    match key {
        [tag::DEFINITION, kind, ..] => Some(*kind),
        _ => None,
    }
}

fn encode_chunk(queue: QueueId, chunk: ChunkKey, out: &mut Vec<u8>) {
    out.extend_from_slice(&queue.0.to_be_bytes());
    out.extend_from_slice(&chunk.first.0.to_be_bytes());
    out.extend_from_slice(&chunk.generation.to_be_bytes());
}

fn encode_definition(key: &DefinitionKey, out: &mut Vec<u8>) {
    out.push(key.kind());
    match key {
        DefinitionKey::Vhost { name } | DefinitionKey::User { name } | DefinitionKey::Setting { key: name } => {
            encode_string(name.as_bytes(), out);
        }
        DefinitionKey::Permission { user, vhost } => {
            encode_string(vhost.as_bytes(), out);
            encode_string(user.as_bytes(), out);
        }
        DefinitionKey::Exchange { vhost, name } | DefinitionKey::Queue { vhost, name } => {
            encode_string(vhost.as_bytes(), out);
            encode_string(name.as_bytes(), out);
        }
        DefinitionKey::Binding {
            vhost,
            source,
            destination,
            destination_is_queue,
            routing_key,
            arguments,
        } => {
            encode_string(vhost.as_bytes(), out);
            encode_string(source.as_bytes(), out);
            out.push(u8::from(*destination_is_queue));
            encode_string(destination.as_bytes(), out);
            encode_string(routing_key.as_bytes(), out);
            encode_string(arguments, out);
        }
    }
}

fn encode_string(string: &[u8], out: &mut Vec<u8>) {
    for &byte in string {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// The least byte string above all that begin with `prefix`.
fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    // Only a prefix of ff bytes has no successor: the chunks of the queue of the highest id, which no counter reaches.
    vec![0xff; CHUNK_KEY_BYTES + 1]
}

mod tag {
    pub(super) const QUEUE_ID_COUNTER: u8 = 0x02;
    pub(super) const DEFINITION: u8 = 0x10;
    pub(super) const QUEUE_STATE: u8 = 0x20;
    pub(super) const CHUNK_INDEX: u8 = 0x21;
    pub(super) const DELIVERY_COUNT: u8 = 0x22;
    pub(super) const SCHEDULED: u8 = 0x23;
}

const CHUNK_KEY_BYTES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(first: u64, generation: u32) -> ChunkKey {
        ChunkKey {
            first: Position(first),
            generation,
        }
    }

    #[test]
    fn keys_of_chunks_sort_by_queue_then_position_then_generation() {
        let keys = [
            (1, 5, 9),
            (1, 6, 0),
            (1, 6, 1),
            (1, 256, 0),
            (2, 0, 0),
            (256, 0, 0),
            (u64::MAX, u64::MAX, u32::MAX),
        ]
        .map(|(queue, first, generation)| Key::Chunk(QueueId(queue), chunk(first, generation)).encode());
        assert!(keys.is_sorted());
        assert_eq!(decode_chunk(&keys[3]), Some((QueueId(1), chunk(256, 0))));
    }

    #[test]
    fn every_key_reads_back() {
        let (queue, position) = (QueueId(7), Position(u64::MAX));
        let index = Key::ChunkIndex(queue, chunk(3, 4)).encode();
        assert_eq!(decode_chunk_index(&index), Some((queue, chunk(3, 4))));
        assert_eq!(decode_queue_state(&Key::QueueState(queue).encode()), Some(queue));
        assert_eq!(
            decode_delivery_count(&Key::DeliveryCount(queue, position).encode()),
            Some((queue, position))
        );
        assert_eq!(decode_queue_state(&index), None);
        assert_eq!(decode_chunk(&index[1..5]), None);
    }

    #[test]
    fn a_prefix_holds_all_its_keys_and_no_others() {
        let within = |prefix: Prefix, key: &Key<'_>| {
            let (from, until) = prefix.range();
            let bytes = key.encode();
            prefix.space() == key.space() && from <= bytes && bytes < until
        };
        for queue in [QueueId(0), QueueId(255), QueueId(0xffff), QueueId(u64::MAX)] {
            let other = QueueId(queue.0.wrapping_add(1));
            for position in [Position(0), Position(9), Position(u64::MAX)] {
                let key = ChunkKey {
                    first: position,
                    generation: u32::MAX,
                };
                assert!(within(Prefix::Chunks(queue, Position(0)), &Key::Chunk(queue, key)));
                assert!(within(Prefix::Chunks(queue, position), &Key::Chunk(queue, key)));
                assert!(within(
                    Prefix::ChunkIndex(queue, position),
                    &Key::ChunkIndex(queue, key)
                ));
                assert!(within(
                    Prefix::DeliveryCounts(queue),
                    &Key::DeliveryCount(queue, position)
                ));
                assert!(!within(Prefix::Chunks(queue, Position(0)), &Key::Chunk(other, key)));
                assert!(!within(
                    Prefix::ChunkIndex(queue, Position(0)),
                    &Key::ChunkIndex(other, key)
                ));
                assert!(!within(
                    Prefix::DeliveryCounts(queue),
                    &Key::DeliveryCount(other, position)
                ));
                assert!(within(Prefix::QueueStates, &Key::QueueState(queue)));
                assert!(!within(Prefix::Definitions, &Key::QueueState(queue)));
            }
            assert!(!within(
                Prefix::Chunks(queue, Position(10)),
                &Key::Chunk(queue, chunk(9, 7))
            ));
        }
    }

    #[test]
    fn no_two_definitions_share_a_key_whatever_their_names() {
        let names = [
            "", "a", "ab", "a\0", "a\0b", "\0", "\0\0", "\u{ff}", "a\u{ff}", "\0\u{ff}", "b",
        ];
        let mut keys = Vec::new();
        for one in names {
            keys.push(DefinitionKey::Vhost { name: one.into() });
            keys.push(DefinitionKey::User { name: one.into() });
            keys.push(DefinitionKey::Setting { key: one.into() });
            for two in names {
                let (one, two) = (one.to_owned(), two.to_owned());
                keys.push(DefinitionKey::Permission {
                    user: one.clone(),
                    vhost: two.clone(),
                });
                keys.push(DefinitionKey::Exchange {
                    vhost: one.clone(),
                    name: two.clone(),
                });
                keys.push(DefinitionKey::Queue {
                    vhost: one.clone(),
                    name: two.clone(),
                });
                for three in names {
                    for destination_is_queue in [false, true] {
                        keys.push(DefinitionKey::Binding {
                            vhost: "/".into(),
                            source: one.clone(),
                            destination: two.clone(),
                            destination_is_queue,
                            routing_key: three.into(),
                            arguments: one.clone().into_bytes(),
                        });
                    }
                }
            }
        }
        let mut encoded: Vec<_> = keys.iter().map(|key| Key::Definition(key).encode()).collect();
        let count = encoded.len();
        encoded.sort();
        encoded.dedup();
        assert_eq!(encoded.len(), count);
        // None is the beginning of another either, so a prefix scan for one name never meets a second.
        for pair in encoded.windows(2) {
            assert!(!pair[1].starts_with(&pair[0]), "{pair:?}");
        }
    }

    #[test]
    fn strings_keep_their_order() {
        let names = ["", "\0", "\0a", "a", "a\0", "a\0b", "ab", "b"];
        let keys = names.map(|name| Key::Definition(&DefinitionKey::Vhost { name: name.into() }).encode());
        assert!(keys.is_sorted());
    }
}
