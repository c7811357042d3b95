//! A chunk: messages of one queue, back to back, in one value; and its entry in the index.
//!
//! ```text
//! chunk          version:1  flags:1  crc32:4  count:4  record ...
//! record         flags:1  step:varint  length:varint  payload
//! index entry    version:1  count:4  span:4  bytes:4  body:4  live set      (version 1 had no body)
//!                version 3, of a chunk in which something expires, has  expires:8  before the live set
//! queue state    version:1  low:8  delivered:8  indexed:8  next:8
//! ```
//!
//! Numbers are big-endian. The checksum covers the chunk's key and everything but itself, so that a chunk under a wrong key is
//! noticed too. `step` is the distance from the record before (0 for the first, which stands at the position in
//! the key). The flags are zero so far; a set flag is something a newer version wrote, like a reference to a shared payload.

use crate::error::StorageError;
use crate::ids::{NEVER, Position, QueueId, Weight};
use crate::keys::{ChunkKey, Key};
use crate::live::LiveSet;
use crate::varint;

/// The bytes of a chunk while messages are being appended.
#[derive(Debug)]
pub(crate) struct ChunkBuilder {
    bytes: Vec<u8>,
    count: u32,
    last: Position,
}

impl ChunkBuilder {
    /// Starts a chunk in `buffer`, whose contents are dropped and whose memory is used again.
    pub(crate) fn new(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        buffer.extend_from_slice(&[CHUNK_VERSION, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        Self {
            bytes: buffer,
            count: 0,
            last: Position(0),
        }
    }

    /// Appends a message, given as parts that follow one another. The positions must rise.
    pub(crate) fn push(&mut self, position: Position, parts: &[&[u8]]) {
        let step = if self.count == 0 { 0 } else { position.0 - self.last.0 };
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.bytes.reserve(length + RECORD_HEADER_BYTES_MAX);
        self.bytes.push(0);
        varint::write(step, &mut self.bytes);
        varint::write(length as u64, &mut self.bytes);
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.last = position;
        self.count += 1;
    }

    /// The size so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The value so far, readable by [`messages`] but without its checksum.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Ends the chunk; [`seal`] gives it its checksum.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        if let Some(count) = self.bytes.get_mut(COUNT_AT..HEADER_BYTES) {
            count.copy_from_slice(&self.count.to_be_bytes());
        }
        self.bytes
    }
}

/// Writes the checksum into a finished chunk.
pub(crate) fn seal(queue: QueueId, key: ChunkKey, chunk: &mut [u8]) {
    let checksum = checksum(queue, key, chunk);
    if let Some(place) = chunk.get_mut(CHECKSUM_AT..COUNT_AT) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Checks version and checksum of a chunk as read from the engine, and returns how many messages it holds.
pub(crate) fn verify(queue: QueueId, key: ChunkKey, chunk: &[u8]) -> Result<u32, StorageError> {
    let damaged = |how: &str| StorageError::corrupt(format!("chunk {} of queue {queue} {how}", key.first));
    let Some((header, _)) = chunk.split_first_chunk::<HEADER_BYTES>() else {
        return Err(damaged("is too short"));
    };
    let [version, flags, c0, c1, c2, c3, n0, n1, n2, n3] = *header;
    if version > CHUNK_VERSION || (version == CHUNK_VERSION && flags != 0) {
        let (found, supported) = (u32::from(version.max(CHUNK_VERSION + 1)), u32::from(CHUNK_VERSION));
        return Err(StorageError::NewerFormat {
            what: format!("a chunk of queue {queue}"),
            found,
            supported,
        });
    }
    if u32::from_be_bytes([c0, c1, c2, c3]) != checksum(queue, key, chunk) {
        return Err(damaged("does not match its checksum"));
    }
    Ok(u32::from_be_bytes([n0, n1, n2, n3]))
}

/// The messages of a chunk, in order. An error ends it.
pub(crate) fn messages(queue: QueueId, first: Position, chunk: &[u8]) -> Messages<'_> {
    Messages {
        queue,
        first,
        at: first,
        rest: chunk.get(HEADER_BYTES..).unwrap_or_default(),
    }
}

/// See [`messages`].
pub(crate) struct Messages<'a> {
    queue: QueueId,
    first: Position,
    at: Position,
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    fn take(&mut self) -> Option<(Position, &'a [u8])> {
        let (&flags, mut rest) = self.rest.split_first()?;
        let step = varint::read(&mut rest)?;
        let length = usize::try_from(varint::read(&mut rest)?).ok()?;
        let payload = rest.split_at_checked(length).filter(|_| flags == 0);
        let (payload, rest) = payload?;
        self.at = Position(self.at.0.checked_add(step)?);
        self.rest = rest;
        Some((self.at, payload))
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<(Position, &'a [u8]), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        Some(self.take().ok_or_else(|| {
            self.rest = &[];
            let Self { queue, first, at, .. } = self;
            StorageError::corrupt(format!(
                "chunk {first} of queue {queue} is not readable after position {at}"
            ))
        }))
    }
}

/// What the index knows of a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// How many messages the chunk holds, dead ones included.
    pub(crate) count: u32,
    /// The distance from its first position to its last.
    pub(crate) span: u32,
    /// The size of its value.
    pub(crate) bytes: u32,
    /// What the live messages weigh. Unknown to version 1.
    pub(crate) body: Option<u32>,
    /// Nothing in it expires before this.
    pub(crate) expires: u64,
    pub(crate) live: LiveSet,
}

impl IndexEntry {
    /// Appends the stored form of an entry with these numbers: count, span, bytes, body.
    pub(crate) fn encode_into(numbers: [u32; 4], expires: u64, live: &LiveSet, out: &mut Vec<u8>) {
        let expiring = expires != NEVER;
        out.push(if expiring {
            INDEX_VERSION_EXPIRING
        } else {
            INDEX_VERSION
        });
        numbers
            .iter()
            .for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
        if expiring {
            out.extend_from_slice(&expires.to_be_bytes());
        }
        live.encode_into(out);
    }

    pub(crate) fn decode(queue: QueueId, stored: &[u8]) -> Result<Self, StorageError> {
        let version = match stored.first() {
            Some(&version @ (INDEX_VERSION_WITHOUT_BODY | INDEX_VERSION)) => version,
            _ => check_version("an index entry", stored, INDEX_VERSION_EXPIRING).map(|()| INDEX_VERSION_EXPIRING)?,
        };
        Self::decode_rest(version, stored.get(1..).unwrap_or_default())
            .ok_or_else(|| StorageError::corrupt(format!("an index entry of queue {queue}")))
    }

    fn decode_rest(version: u8, rest: &[u8]) -> Option<Self> {
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
        if version == INDEX_VERSION_EXPIRING {
            let (stored, after) = rest.split_first_chunk::<8>()?;
            expires = u64::from_be_bytes(*stored);
            rest = after;
        }
        let entry = Self {
            count: u32::from_be_bytes(*count),
            span: u32::from_be_bytes(*span),
            bytes: u32::from_be_bytes(*bytes),
            body,
            expires,
            live: LiveSet::decode(rest)?,
        };
        let last = entry.live.last().unwrap_or(0);
        (entry.live.count() <= entry.count && last <= entry.span).then_some(entry)
    }

    /// The entry of a chunk that cannot be read: it stays in its place as at least one message, so that it is neither forgotten
    /// nor overwritten, up to the place where the next one begins.
    pub(crate) fn of_damaged_chunk(chunk: &[u8]) -> Self {
        Self {
            count: 1,
            span: u32::MAX,
            bytes: u32::try_from(chunk.len()).unwrap_or(u32::MAX),
            body: Some(0),
            expires: NEVER,
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
        let (mut span, mut body, mut expires) = (0, 0u32, NEVER);
        for message in messages(queue, key.first, chunk) {
            let (position, payload) = message?;
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
        }
        let live = live.filter(|live| live.count() == count).ok_or_else(misshapen)?;
        let bytes = u32::try_from(chunk.len()).map_err(|_| misshapen())?;
        Ok(Self {
            count,
            span,
            bytes,
            body: Some(body),
            expires,
            live,
        })
    }
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
        let (position, payload) = message?;
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

fn checksum(queue: QueueId, key: ChunkKey, chunk: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&Key::Chunk(queue, key).encode());
    hasher.update(chunk.get(..CHECKSUM_AT).unwrap_or_default());
    hasher.update(chunk.get(COUNT_AT..).unwrap_or_default());
    hasher.finalize()
}

const CHUNK_VERSION: u8 = 1;
const INDEX_VERSION: u8 = 2;
const INDEX_VERSION_EXPIRING: u8 = 3;
const INDEX_VERSION_WITHOUT_BODY: u8 = 1;
const STATE_VERSION: u8 = 1;

const CHECKSUM_AT: usize = 2;
const COUNT_AT: usize = 6;
const HEADER_BYTES: usize = 10;
/// Flags, step and length at their longest.
const RECORD_HEADER_BYTES_MAX: usize = 21;

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: QueueId = QueueId(3);
    const KEY: ChunkKey = ChunkKey {
        first: Position(100),
        generation: 0,
    };

    fn chunk() -> Vec<u8> {
        let mut builder = ChunkBuilder::new(b"old contents".to_vec());
        builder.push(Position(100), &[b"he", b"", b"llo"]);
        builder.push(Position(101), &[]);
        builder.push(Position(4000), &[&[7; 300]]);
        let mut chunk = builder.finish();
        seal(QUEUE, KEY, &mut chunk);
        chunk
    }

    #[test]
    fn messages_read_back_in_order() {
        let chunk = chunk();
        assert_eq!(verify(QUEUE, KEY, &chunk).unwrap(), 3);
        let read: Vec<_> = messages(QUEUE, KEY.first, &chunk).map(Result::unwrap).collect();
        assert_eq!(
            read,
            [
                (Position(100), &b"hello"[..]),
                (Position(101), b""),
                (Position(4000), &[7; 300])
            ]
        );
    }

    #[test]
    fn a_flipped_bit_anywhere_is_noticed() {
        let whole = chunk();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(verify(QUEUE, KEY, &damaged).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_chunk_under_a_wrong_key_or_cut_short_is_noticed() {
        let whole = chunk();
        assert!(verify(QueueId(4), KEY, &whole).is_err());
        assert!(verify(QUEUE, ChunkKey { generation: 1, ..KEY }, &whole).is_err());
        for length in 0..whole.len() {
            assert!(verify(QUEUE, KEY, &whole[..length]).is_err());
            // Even unchecked bytes are read without a panic.
            messages(QUEUE, KEY.first, &whole[..length]).for_each(drop);
        }
    }

    #[test]
    fn a_chunk_of_a_newer_version_is_named_as_such() {
        let mut newer = chunk();
        newer[0] = 2;
        assert!(matches!(
            verify(QUEUE, KEY, &newer),
            Err(StorageError::NewerFormat { found: 2, .. })
        ));
    }

    #[test]
    fn the_index_entry_of_a_chunk_reads_back() {
        let entry = IndexEntry::of_chunk(QUEUE, KEY, &chunk(), |payload| (payload.len() as u32).into()).unwrap();
        assert_eq!((entry.count, entry.span, entry.live.count()), (3, 3900, 3));
        assert_eq!(entry.body, Some(305));
        let mut stored = Vec::new();
        let numbers = [entry.count, entry.span, entry.bytes, 305];
        IndexEntry::encode_into(numbers, NEVER, &entry.live, &mut stored);
        assert_eq!(IndexEntry::decode(QUEUE, &stored).unwrap(), entry);
        assert!(IndexEntry::decode(QUEUE, &stored[..stored.len() - 1]).is_err());
        assert_eq!(stored[0], 2, "an older version reads what does not expire");
        stored.clear();
        IndexEntry::encode_into(numbers, 77, &entry.live, &mut stored);
        let expiring = IndexEntry { expires: 77, ..entry };
        assert_eq!(IndexEntry::decode(QUEUE, &stored).unwrap(), expiring);
        assert!(IndexEntry::decode(QUEUE, &stored[..20]).is_err());
    }

    #[test]
    fn an_index_entry_of_version_1_does_not_know_what_its_messages_weigh() {
        let mut live = Vec::new();
        LiveSet::first().encode_into(&mut live);
        let stored = [&[1, 0, 0, 0, 3, 0, 0, 15, 60, 0, 0, 1, 67][..], &live].concat();
        let entry = IndexEntry::decode(QUEUE, &stored).unwrap();
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
