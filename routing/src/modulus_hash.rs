//! Modulus-hash exchange: the hash of the routing key, modulo the number of bindings, says which of them takes the
//! message.
//!
//! The bindings stand in an order that depends on their destinations' names only, so that a restart moves no key. A
//! binding that comes or goes moves most keys: whoever minds uses consistent hashing.

use std::hash::Hash;

use crate::{buffer::Found, entry::Entry, hash_on::hash_keys};

/// The bindings of one modulus-hash exchange.
#[derive(Debug)]
pub(crate) struct ModulusHashMatcher<Q> {
    entries: Vec<(u64, Entry<Q>)>,
    /// Slots of the entries, in the order of their destinations' hashes.
    order: Vec<u32>,
}

impl<Q: Copy + Eq + Hash> ModulusHashMatcher<Q> {
    pub(crate) fn new() -> Self {
        Self {
            entries: Vec::new(),
            order: Vec::new(),
        }
    }

    pub(crate) fn insert(&mut self, seed: u64, entry: Entry<Q>) -> u32 {
        let slot = self.entries.len() as u32;
        self.entries.push((seed, entry));
        self.order.insert(self.position(seed), slot);
        slot
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<u32> {
        let last = self.entries.len().checked_sub(1)? as u32;
        if slot > last {
            return None;
        }
        self.order.retain(|other| *other != slot);
        for moved in self.order.iter_mut().filter(|moved| **moved == last) {
            *moved = slot;
        }
        self.entries.swap_remove(slot as usize);
        self.entries.get(slot as usize).map(|(_, moved)| moved.binding)
    }

    #[inline]
    pub(crate) fn matches(&self, routing_keys: &[&str], found: &mut Found<Q>) {
        let Some(index) = hash_keys(routing_keys).checked_rem(self.order.len() as u64) else {
            return;
        };
        let slot = self.order.get(index as usize);
        if let Some((_, entry)) = slot.and_then(|slot| self.entries.get(*slot as usize)) {
            found.reach(std::slice::from_ref(entry));
        }
    }

    /// Where in the order a destination belongs.
    fn position(&self, seed: u64) -> usize {
        self.order
            .partition_point(|slot| self.entries.get(*slot as usize).is_some_and(|(other, _)| *other < seed))
    }
}
