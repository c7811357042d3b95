//! Fanout exchange: every binding matches, whatever the routing key.

use std::hash::Hash;

use crate::{
    buffer::Found,
    entry::{Entry, EntryList},
};

/// All bindings of the exchange in one list.
#[derive(Debug)]
pub(crate) struct FanoutMatcher<Q> {
    entries: EntryList<Q>,
}

impl<Q: Copy + Eq + Hash> FanoutMatcher<Q> {
    pub(crate) fn new() -> Self {
        Self {
            entries: EntryList::Empty,
        }
    }

    pub(crate) fn insert(&mut self, entry: Entry<Q>) -> u32 {
        self.entries.push(entry)
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<u32> {
        self.entries.remove(slot)
    }

    #[inline]
    pub(crate) fn matches(&self, found: &mut Found<Q>) {
        found.reach(self.entries.as_slice());
    }
}
