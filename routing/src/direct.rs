//! Direct exchange: the routing key equals the binding key, byte for byte.

use std::hash::Hash;

use crate::{
    buffer::Found,
    entry::{Entry, EntryList},
    key::KeyMap,
};

/// Entries by binding key. One look-up for a message, whatever the number of bindings.
#[derive(Debug)]
pub(crate) struct DirectMatcher<Q> {
    keys: KeyMap<EntryList<Q>>,
}

impl<Q: Copy + Eq + Hash> DirectMatcher<Q> {
    pub(crate) fn new() -> Self {
        Self { keys: KeyMap::new() }
    }

    pub(crate) fn insert(&mut self, key: &str, entry: Entry<Q>) -> u32 {
        self.keys.get_or_insert_with(key, || EntryList::Empty).push(entry)
    }

    pub(crate) fn remove(&mut self, key: &str, slot: u32) -> Option<u32> {
        let mut found = self.keys.find_entry(key)?;
        let (_, entries) = found.get_mut();
        let moved = entries.remove(slot);
        if entries.is_empty() {
            found.remove();
        }
        moved
    }

    #[inline]
    pub(crate) fn matches(&self, key: &str, found: &mut Found<Q>) {
        if let Some(entries) = self.keys.get(key) {
            found.reach(entries.as_slice());
        }
    }
}
