//! A chunk: messages of one queue, back to back, in one value.
//!
//! ```text
//! chunk          version:1  flags:1  crc32:4  count:4  record ...
//! record         flags:1  step:varint  length:varint  payload
//!                with flag 1, the payload goes on in a body of that id:  body:varint  before the payload
//! ```
//!
//! Numbers are big-endian. The checksum covers the chunk's key and everything but itself, so that a chunk under a wrong key is
//! noticed too. `step` is the distance from the record before (0 for the first, which stands at the position in
//! the key). A chunk is of version 2 if a record of it refers to a body, else of version 1. Other flags are zero; a set one is
//! something a newer version wrote.

use crate::error::StorageError;
use crate::ids::{BodyId, Position, QueueId};
use crate::keys::{ChunkKey, Key};
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

    /// Appends a message, given as parts that follow one another, and the body that it goes on in. The positions must rise.
    pub(crate) fn push(&mut self, position: Position, body: Option<BodyId>, parts: &[&[u8]]) {
        let step = if self.count == 0 { 0 } else { position.0 - self.last.0 };
        let length: usize = parts.iter().map(|part| part.len()).sum();
        self.bytes.reserve(length + RECORD_HEADER_BYTES_MAX);
        self.bytes.push(body.map_or(0, |_| REFERS));
        varint::write(step, &mut self.bytes);
        varint::write(length as u64, &mut self.bytes);
        if let Some(body) = body {
            varint::write(body.0, &mut self.bytes);
            if let Some(version) = self.bytes.first_mut() {
                *version = CHUNK_VERSION_REFERRING;
            }
        }
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
    if version > CHUNK_VERSION_REFERRING || (version >= CHUNK_VERSION && flags != 0) {
        let supported = u32::from(CHUNK_VERSION_REFERRING);
        let found = u32::from(version).max(supported + 1);
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

/// A message as its chunk has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) position: Position,
    pub(crate) payload: &'a [u8],
    /// The payload goes on there.
    pub(crate) body: Option<BodyId>,
}

impl<'a> Messages<'a> {
    fn take(&mut self) -> Option<Record<'a>> {
        let (&flags, mut rest) = self.rest.split_first()?;
        let step = varint::read(&mut rest)?;
        let length = usize::try_from(varint::read(&mut rest)?).ok()?;
        let body = match flags {
            0 => None,
            REFERS => Some(BodyId(varint::read(&mut rest)?)),
            _ => return None,
        };
        let (payload, rest) = rest.split_at_checked(length)?;
        self.at = Position(self.at.0.checked_add(step)?);
        self.rest = rest;
        let position = self.at;
        Some(Record {
            position,
            payload,
            body,
        })
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Record<'a>, StorageError>;

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

fn checksum(queue: QueueId, key: ChunkKey, chunk: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&Key::Chunk(queue, key).encode());
    hasher.update(chunk.get(..CHECKSUM_AT).unwrap_or_default());
    hasher.update(chunk.get(COUNT_AT..).unwrap_or_default());
    hasher.finalize()
}

const CHUNK_VERSION: u8 = 1;
const CHUNK_VERSION_REFERRING: u8 = 2;

const CHECKSUM_AT: usize = 2;
const COUNT_AT: usize = 6;
const HEADER_BYTES: usize = 10;
/// Flags, step, length and body at their longest.
const RECORD_HEADER_BYTES_MAX: usize = 31;
/// The flag of a record that refers to a body.
const REFERS: u8 = 1;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::ids::NEVER;
    use crate::index::IndexEntry;

    pub(crate) const QUEUE: QueueId = QueueId(3);
    pub(crate) const KEY: ChunkKey = ChunkKey {
        first: Position(100),
        generation: 0,
    };

    pub(crate) fn chunk() -> Vec<u8> {
        let mut builder = ChunkBuilder::new(b"old contents".to_vec());
        builder.push(Position(100), None, &[b"he", b"", b"llo"]);
        builder.push(Position(101), None, &[]);
        builder.push(Position(4000), None, &[&[7; 300]]);
        let mut chunk = builder.finish();
        seal(QUEUE, KEY, &mut chunk);
        chunk
    }

    #[test]
    fn messages_read_back_in_order() {
        let chunk = chunk();
        assert_eq!(verify(QUEUE, KEY, &chunk).unwrap(), 3);
        let read: Vec<_> = messages(QUEUE, KEY.first, &chunk).map(Result::unwrap).collect();
        let record = |position, payload, body| Record {
            position: Position(position),
            payload,
            body,
        };
        let expected = [
            record(100, &b"hello"[..], None),
            record(101, b"", None),
            record(4000, &[7; 300], None),
        ];
        assert_eq!(read, expected);
        assert_eq!(chunk[0], 1, "an older version reads it");
    }

    #[test]
    fn a_message_may_go_on_in_a_body_of_its_own() {
        let mut builder = ChunkBuilder::new(Vec::new());
        builder.push(Position(100), Some(BodyId(1 << 40)), &[b"he", b"ad"]);
        builder.push(Position(101), None, &[b"whole"]);
        builder.push(Position(104), Some(BodyId(7)), &[]);
        let mut chunk = builder.finish();
        seal(QUEUE, KEY, &mut chunk);
        assert_eq!((verify(QUEUE, KEY, &chunk).unwrap(), chunk[0]), (3, 2));
        let read: Vec<_> = messages(QUEUE, KEY.first, &chunk).map(Result::unwrap).collect();
        let bodies: Vec<_> = read.iter().map(|record| (record.payload, record.body)).collect();
        let expected = [
            (&b"head"[..], Some(BodyId(1 << 40))),
            (b"whole", None),
            (b"", Some(BodyId(7))),
        ];
        assert_eq!(bodies, expected);
        let entry = IndexEntry::of_chunk(QUEUE, KEY, &chunk, |_| 3.into()).unwrap();
        assert_eq!(entry.references.get(Position(104)), Some(BodyId(7)));
        let mut stored = Vec::new();
        let numbers = [entry.count, entry.span, entry.bytes, 9];
        IndexEntry::encode_into(
            KEY.first,
            numbers,
            NEVER,
            &entry.references,
            None,
            &entry.live,
            &mut stored,
        );
        assert_eq!(IndexEntry::decode(QUEUE, KEY.first, &stored).unwrap(), entry);
        for length in 1..stored.len() {
            assert!(IndexEntry::decode(QUEUE, KEY.first, &stored[..length]).is_err());
        }
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
        newer[0] = 3;
        assert!(matches!(
            verify(QUEUE, KEY, &newer),
            Err(StorageError::NewerFormat { found: 3, .. })
        ));
    }
}
