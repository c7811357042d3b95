//! Direct exchange: the routing key equals the binding key, byte for byte.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::{
    buffer::Found,
    entry::{Entry, EntryList},
    key::Key,
};

/// Entries by binding key. One look-up for a message, whatever the number of bindings.
#[derive(Debug)]
pub(crate) struct DirectMatcher<Q> {
    keys: HashTable<(Key, EntryList<Q>)>,
    hasher: RandomState,
}

impl<Q: Copy> DirectMatcher<Q> {
    pub(crate) fn new() -> Self {
        Self {
            keys: HashTable::new(),
            hasher: RandomState::default(),
        }
    }

    pub(crate) fn insert(&mut self, key: &str, entry: Entry<Q>) -> u32 {
        let Self { keys, hasher } = self;
        let hash = hasher.hash_one(key.as_bytes());
        keys.entry(
            hash,
            |(known, _)| known.as_bytes() == key.as_bytes(),
            |(known, _)| hasher.hash_one(known.as_bytes()),
        )
        .or_insert_with(|| (Key::new(key.as_bytes()), EntryList::Empty))
        .get_mut()
        .1
        .push(entry)
    }

    pub(crate) fn remove(&mut self, key: &str, slot: u32) -> Option<u32> {
        let hash = self.hasher.hash_one(key.as_bytes());
        let is_key = |(known, _): &(Key, EntryList<Q>)| known.as_bytes() == key.as_bytes();
        let mut occupied = self.keys.find_entry(hash, is_key).ok()?;
        let moved = occupied.get_mut().1.remove(slot);
        if occupied.get().1.is_empty() {
            occupied.remove();
        }
        moved
    }
}

impl<Q: Copy + Eq + std::hash::Hash> DirectMatcher<Q> {
    #[inline]
    pub(crate) fn matches(&self, key: &str, found: &mut Found<Q>) {
        let hash = self.hasher.hash_one(key.as_bytes());
        if let Some((_, entries)) = self
            .keys
            .find(hash, |(known, _)| known.as_bytes() == key.as_bytes())
        {
            found.reach(entries.as_slice());
        }
    }
}
