//! What is stored of a queue besides its chunks: their entries in the index, and where the queue begins and ends.
//!
//! ```text
//! index entry    version:1  count:4  span:4  bytes:4  body:4  live set      (version 1 had no body)
//!                version 3, of a chunk in which something expires, has  expires:8  before the live set
//!                version 4, of a chunk with shared bodies, has  expires:8  references  before it: see `bodies.rs`
//!                version 5, of one entry for several chunks that follow one another, has  length:varint  starts  besides
//! queue state    version:1  low:8  delivered:8  indexed:8  next:8
//! ```
//!
//! Numbers are big-endian.

use crate::bodies::References;
use crate::chunk::{Record, messages, verify};
use crate::error::StorageError;
use crate::ids::{NEVER, Position, QueueId, Weight};
use crate::keys::ChunkKey;
use crate::live::LiveSet;
use crate::varint;

/// What the index knows of a chunk, or of several small ones that follow one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// How many messages the chunk holds, dead ones included.
    pub(crate) count: u32,
    /// The distance from its first position to its last.
    pub(crate) span: u32,
    /// The size of its value, or of all its values.
    pub(crate) bytes: u32,
    /// Of several: where those begin of which something may be alive. The sizes above are those of all that there once were.
    pub(crate) starts: Option<LiveSet>,
    /// What the live messages weigh. Unknown to version 1.
    pub(crate) body: Option<u32>,
    /// Nothing in it expires before this.
    pub(crate) expires: u64,
    /// The bodies that its messages refer to, those of dead ones perhaps too.
    pub(crate) references: References,
    pub(crate) live: LiveSet,
}

impl IndexEntry {
    /// Appends the stored form of the entry of a chunk that begins at `first`, with these numbers: count, span, bytes, body.
    pub(crate) fn encode_into(
        first: Position,
        numbers: [u32; 4],
        expires: u64,
        references: &References,
        starts: Option<&LiveSet>,
        live: &LiveSet,
        out: &mut Vec<u8>,
    ) {
        let version = match expires {
            _ if starts.is_some() => INDEX_VERSION_OF_SEVERAL,
            _ if !references.is_empty() => INDEX_VERSION_REFERRING,
            NEVER => INDEX_VERSION,
            _ => INDEX_VERSION_EXPIRING,
        };
        out.push(version);
        numbers
            .iter()
            .for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
        if version != INDEX_VERSION {
            out.extend_from_slice(&expires.to_be_bytes());
        }
        if version >= INDEX_VERSION_REFERRING {
            references.encode_into(first, out);
        }
        if let Some(starts) = starts {
            let mut stored = Vec::new();
            starts.encode_into(&mut stored);
            varint::write(stored.len() as u64, out);
            out.extend_from_slice(&stored);
        }
        live.encode_into(out);
    }

    /// Reads the entry of a chunk that begins at `first`.
    pub(crate) fn decode(queue: QueueId, first: Position, stored: &[u8]) -> Result<Self, StorageError> {
        let version = match stored.first() {
            Some(&version @ INDEX_VERSION_WITHOUT_BODY..INDEX_VERSION_OF_SEVERAL) => version,
            _ => {
                check_version("an index entry", stored, INDEX_VERSION_OF_SEVERAL).map(|()| INDEX_VERSION_OF_SEVERAL)?
            }
        };
        Self::decode_rest(version, first, stored.get(1..).unwrap_or_default())
            .ok_or_else(|| StorageError::corrupt(format!("an index entry of queue {queue}")))
    }

    fn decode_rest(version: u8, first: Position, rest: &[u8]) -> Option<Self> {
        let (count, rest) = rest.split_first_chunk::<4>()?;
        let (span, rest) = rest.split_first_chunk::<4>()?;
        let (bytes, mut rest) = rest.split_first_chunk::<4>()?;
        let mut body = None;
        if version != INDEX_VERSION_WITHOUT_BODY {
            let (stored, after) = rest.split_first_chunk::<4>()?;
            body = Some(u32::from_be_bytes(*stored));
            rest = after;
        }
        let mut expires = NEVER;
        if version >= INDEX_VERSION_EXPIRING {
            let (stored, after) = rest.split_first_chunk::<8>()?;
            expires = u64::from_be_bytes(*stored);
            rest = after;
        }
        let mut references = References::default();
        if version >= INDEX_VERSION_REFERRING {
            references = References::decode(first, &mut rest)?;
            // What a repair could not weigh.
            body = body.filter(|body| *body != UNKNOWN_BODY);
        }
        let mut starts = None;
        if version == INDEX_VERSION_OF_SEVERAL {
            let length = usize::try_from(varint::read(&mut rest)?).ok()?;
            let (stored, after) = rest.split_at_checked(length)?;
            starts = Some(LiveSet::decode(stored)?);
            rest = after;
        }
        let entry = Self {
            starts,
            count: u32::from_be_bytes(*count),
            span: u32::from_be_bytes(*span),
            bytes: u32::from_be_bytes(*bytes),
            body,
            expires,
            references,
            live: LiveSet::decode(rest)?,
        };
        let last = entry.live.last().unwrap_or(0);
        let last_start = entry.starts.as_ref().map_or(Some(0), LiveSet::last)?;
        (entry.live.count() <= entry.count && last.max(last_start) <= entry.span).then_some(entry)
    }

    /// The entry of a chunk that cannot be read: it stays in its place as at least one message, so that it is neither forgotten
    /// nor overwritten, up to the place where the next one begins.
    pub(crate) fn of_damaged_chunk(chunk: &[u8]) -> Self {
        Self {
            count: 1,
            span: u32::MAX,
            bytes: u32::try_from(chunk.len()).unwrap_or(u32::MAX),
            starts: None,
            body: Some(0),
            expires: NEVER,
            references: References::default(),
            live: LiveSet::first(),
        }
    }

    /// The entry of a chunk that has none yet: everything in it is alive. Checks the chunk.
    pub(crate) fn of_chunk(
        queue: QueueId,
        key: ChunkKey,
        chunk: &[u8],
        weigh: fn(&[u8]) -> Weight,
    ) -> Result<Self, StorageError> {
        let count = verify(queue, key, chunk)?;
        let misshapen = || StorageError::corrupt(format!("chunk {} of queue {queue} is misshapen", key.first));
        let mut live: Option<LiveSet> = None;
        let (mut span, mut body, mut expires, mut references) = (0, 0u32, NEVER, References::default());
        for message in messages(queue, key.first, chunk) {
            let Record {
                position,
                payload,
                body: shared,
            } = message?;
            let weight = weigh(payload);
            body = body.saturating_add(weight.body_bytes);
            expires = expires.min(weight.expires_at);
            let distance = u32::try_from(position.0 - key.first.0).map_err(|_| misshapen())?;
            match &mut live {
                None => live = Some(LiveSet::first()),
                Some(_) if distance <= span => return Err(misshapen()),
                Some(live) => live.push(distance),
            }
            span = distance;
            if let Some(shared) = shared {
                references.insert(position, shared);
            }
        }
        let live = live.filter(|live| live.count() == count).ok_or_else(misshapen)?;
        let bytes = u32::try_from(chunk.len()).map_err(|_| misshapen())?;
        Ok(Self {
            count,
            span,
            bytes,
            starts: None,
            body: Some(body),
            expires,
            references,
            live,
        })
    }

    /// The values that the chunk with this key is stored as, of which something is alive.
    pub(crate) fn values(&self, key: ChunkKey) -> Vec<Value> {
        values_of(key, self.span, self.starts.as_ref(), &self.live).collect()
    }

    /// Whether the chunk with this key has the value with that one.
    pub(crate) fn has_value(&self, key: ChunkKey, value: ChunkKey) -> bool {
        has_value(key, self.starts.as_ref(), value)
    }
}

/// One of the values that a chunk is stored as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Value {
    pub(crate) key: ChunkKey,
    /// Nothing behind this position is in it.
    pub(crate) last: Position,
    /// What of it is alive, by the distance from its own first position.
    pub(crate) live: LiveSet,
}

/// Whether a chunk has a value with this key.
pub(crate) fn has_value(key: ChunkKey, starts: Option<&LiveSet>, value: ChunkKey) -> bool {
    let distance = key.distance_to(value);
    distance.is_some_and(|distance| starts.map_or(distance == 0, |starts| starts.contains(distance)))
}

/// The values of a chunk, as [`IndexEntry::values`] says.
pub(crate) fn values_of<'a>(
    key: ChunkKey,
    span: u32,
    starts: Option<&'a LiveSet>,
    live: &'a LiveSet,
) -> impl Iterator<Item = Value> + use<'a> {
    let alone = starts.is_none().then(|| Value {
        key,
        last: key.at(span).first,
        live: live.clone(),
    });
    let mut rest = starts.map(|starts| starts.iter().peekable());
    let several = std::iter::from_fn(move || {
        let rest = rest.as_mut()?;
        let start = rest.next()?;
        let last = rest.peek().map_or(span, |next| next - 1);
        Some(Value {
            key: key.at(start),
            last: key.at(last).first,
            live: live.part(start, last),
        })
    });
    alone.into_iter().chain(several).filter(|value| value.live.count() > 0)
}

/// What the live messages of a chunk weigh.
pub(crate) fn weigh_live(
    queue: QueueId,
    key: ChunkKey,
    chunk: &[u8],
    live: &LiveSet,
    weigh: fn(&[u8]) -> Weight,
) -> Result<u32, StorageError> {
    let mut body = 0u32;
    for message in messages(queue, key.first, chunk) {
        let Record { position, payload, .. } = message?;
        if u32::try_from(position.0 - key.first.0).is_ok_and(|distance| live.contains(distance)) {
            body = body.saturating_add(weigh(payload).body_bytes);
        }
    }
    Ok(body)
}

/// What is stored of a queue besides its chunks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueState {
    /// Everything below is settled: the authority, whatever keys there may be.
    pub(crate) low: Position,
    /// Everything below may have been delivered.
    pub(crate) delivered: Position,
    /// Every live chunk that begins below has an index entry.
    pub(crate) indexed: Position,
    /// Every position ever used is below (those of chunks above `indexed` apart).
    pub(crate) next: Position,
}

impl QueueState {
    /// Replaces what is in `out` by the stored form.
    pub(crate) fn encode_into(&self, out: &mut Vec<u8>) {
        out.clear();
        out.push(STATE_VERSION);
        for position in [self.low, self.delivered, self.indexed, self.next] {
            out.extend_from_slice(&position.0.to_be_bytes());
        }
    }

    pub(crate) fn decode(queue: QueueId, stored: &[u8]) -> Result<Self, StorageError> {
        check_version("the state of a queue", stored, STATE_VERSION)?;
        let (numbers, rest) = stored.get(1..).unwrap_or_default().as_chunks::<8>();
        match numbers {
            [low, delivered, indexed, next] if rest.is_empty() => {
                let position = |bytes: &[u8; 8]| Position(u64::from_be_bytes(*bytes));
                let (low, delivered) = (position(low), position(delivered));
                Ok(Self {
                    low,
                    delivered,
                    indexed: position(indexed),
                    next: position(next),
                })
            }
            _ => Err(StorageError::corrupt(format!("the state of queue {queue}"))),
        }
    }
}

fn check_version(what: &str, stored: &[u8], supported: u8) -> Result<(), StorageError> {
    match stored.first() {
        Some(&version) if version == supported => Ok(()),
        Some(&newer) if newer > supported => {
            let (found, supported) = (u32::from(newer), u32::from(supported));
            Err(StorageError::NewerFormat {
                what: what.into(),
                found,
                supported,
            })
        }
        _ => Err(StorageError::corrupt(format!("{what} has no format version"))),
    }
}

const INDEX_VERSION: u8 = 2;
const INDEX_VERSION_EXPIRING: u8 = 3;
const INDEX_VERSION_REFERRING: u8 = 4;
const INDEX_VERSION_OF_SEVERAL: u8 = 5;
const INDEX_VERSION_WITHOUT_BODY: u8 = 1;
const STATE_VERSION: u8 = 1;
/// What the live messages of a chunk weigh, if that must be looked at.
pub(crate) const UNKNOWN_BODY: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::tests::{KEY, QUEUE, chunk};

    #[test]
    fn the_index_entry_of_a_chunk_reads_back() {
        let entry = IndexEntry::of_chunk(QUEUE, KEY, &chunk(), |payload| (payload.len() as u32).into()).unwrap();
        assert_eq!((entry.count, entry.span, entry.live.count()), (3, 3900, 3));
        assert_eq!(entry.body, Some(305));
        let mut stored = Vec::new();
        let numbers = [entry.count, entry.span, entry.bytes, 305];
        let none = References::default();
        IndexEntry::encode_into(KEY.first, numbers, NEVER, &none, None, &entry.live, &mut stored);
        assert_eq!(IndexEntry::decode(QUEUE, KEY.first, &stored).unwrap(), entry);
        assert!(IndexEntry::decode(QUEUE, KEY.first, &stored[..stored.len() - 1]).is_err());
        assert_eq!(stored[0], 2, "an older version reads what does not expire");
        stored.clear();
        IndexEntry::encode_into(KEY.first, numbers, 77, &none, None, &entry.live, &mut stored);
        let expiring = IndexEntry { expires: 77, ..entry };
        assert_eq!(IndexEntry::decode(QUEUE, KEY.first, &stored).unwrap(), expiring);
        assert!(IndexEntry::decode(QUEUE, KEY.first, &stored[..20]).is_err());
    }

    #[test]
    fn an_index_entry_of_version_1_does_not_know_what_its_messages_weigh() {
        let mut live = Vec::new();
        LiveSet::first().encode_into(&mut live);
        let stored = [&[1, 0, 0, 0, 3, 0, 0, 15, 60, 0, 0, 1, 67][..], &live].concat();
        let entry = IndexEntry::decode(QUEUE, KEY.first, &stored).unwrap();
        assert_eq!((entry.count, entry.span, entry.bytes, entry.body), (3, 3900, 323, None));
    }

    #[test]
    fn the_state_of_a_queue_reads_back() {
        let state = QueueState {
            low: Position(1),
            delivered: Position(2),
            indexed: Position(3),
            next: Position(4),
        };
        let mut stored = Vec::new();
        state.encode_into(&mut stored);
        assert_eq!(QueueState::decode(QUEUE, &stored).unwrap(), state);
        assert!(QueueState::decode(QUEUE, &stored[..20]).is_err());
        stored[0] = 9;
        assert!(matches!(
            QueueState::decode(QUEUE, &stored),
            Err(StorageError::NewerFormat { .. })
        ));
    }
}
