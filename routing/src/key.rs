//! A short byte string that lives in place, and a map from such strings.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::{HashTable, hash_table::OccupiedEntry};

/// Longest string kept in place, in bytes; the whole [`Key`] then takes 24 bytes, as a `Vec` does.
const INLINE_BYTES: usize = 22;

/// A routing key or a word of one, as stored in an index.
///
/// Most are short. Keeping these in place saves a memory access, and on large tables a cache miss,
/// with every comparison.
#[derive(Clone, Debug)]
pub(crate) enum Key {
    Inline { len: u8, bytes: [u8; INLINE_BYTES] },
    Heap(Box<[u8]>),
}

impl Key {
    pub(crate) fn new(text: &[u8]) -> Self {
        let mut bytes = [0; INLINE_BYTES];
        match bytes.get_mut(..text.len()) {
            Some(place) => {
                place.copy_from_slice(text);
                Self::Inline {
                    len: text.len() as u8,
                    bytes,
                }
            }
            None => Self::Heap(text.into()),
        }
    }

    #[inline]
    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Heap(bytes) => bytes,
        }
    }
}

/// A map from short strings, looked up without a detour through the heap.
#[derive(Debug)]
pub(crate) struct KeyMap<V> {
    entries: HashTable<(Key, V)>,
    hasher: RandomState,
}

impl<V> KeyMap<V> {
    pub(crate) fn new() -> Self {
        Self {
            entries: HashTable::new(),
            hasher: RandomState::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    #[inline]
    pub(crate) fn get(&self, text: &str) -> Option<&V> {
        let text = text.as_bytes();
        let hash = self.hasher.hash_one(text);
        let (_, value) = self.entries.find(hash, |(key, _)| key.as_bytes() == text)?;
        Some(value)
    }

    pub(crate) fn get_or_insert_with(&mut self, text: &str, value: impl FnOnce() -> V) -> &mut V {
        let Self { entries, hasher } = self;
        let text = text.as_bytes();
        let is_key = |(key, _): &(Key, V)| key.as_bytes() == text;
        let rehash = |(key, _): &(Key, V)| hasher.hash_one(key.as_bytes());
        let entry = entries.entry(hasher.hash_one(text), is_key, rehash);
        &mut entry.or_insert_with(|| (Key::new(text), value())).into_mut().1
    }

    /// The entry of a key, to be changed or removed.
    pub(crate) fn find_entry(&mut self, text: &str) -> Option<OccupiedEntry<'_, (Key, V)>> {
        let text = text.as_bytes();
        let hash = self.hasher.hash_one(text);
        self.entries.find_entry(hash, |(key, _)| key.as_bytes() == text).ok()
    }

    pub(crate) fn remove(&mut self, text: &str) -> Option<V> {
        let ((_, value), _) = self.find_entry(text)?.remove();
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_length_come_back_as_they_were() {
        for len in 0..=255 {
            let text = vec![b'x'; len];
            assert_eq!(Key::new(&text).as_bytes(), text);
        }
    }

    #[test]
    fn a_map_holds_each_key_once() {
        let mut map = KeyMap::new();
        let texts: Vec<_> = (0..100).map(|n| "k".repeat(n)).collect();
        for (n, text) in texts.iter().enumerate() {
            assert_eq!(map.get(text), None);
            assert_eq!(*map.get_or_insert_with(text, || n), n);
            assert_eq!(*map.get_or_insert_with(text, || 0), n);
        }
        assert_eq!(map.remove(&texts[7]), Some(7));
        assert_eq!(map.remove(&texts[7]), None);
        assert_eq!(map.get(&texts[8]), Some(&8));
        assert_eq!(map.get("other"), None);
    }

    #[test]
    fn a_key_is_no_larger_than_a_vector() {
        assert_eq!(size_of::<Key>(), size_of::<Vec<u8>>());
    }
}
