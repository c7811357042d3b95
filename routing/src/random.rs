//! Random exchange: any one of the bindings takes the message, each as likely as the others.

use std::hash::Hash;

use crate::{buffer::Found, entry::Entry, error::RoutingError};

/// The bindings of one random exchange.
#[derive(Debug)]
pub(crate) struct RandomMatcher<Q> {
    entries: Vec<Entry<Q>>,
}

impl<Q: Copy + Eq + Hash> RandomMatcher<Q> {
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new() }
    }

    pub(crate) fn insert(&mut self, entry: Entry<Q>) -> u32 {
        self.entries.push(entry);
        self.entries.len() as u32 - 1
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<u32> {
        let slot = slot as usize;
        if slot < self.entries.len() {
            self.entries.swap_remove(slot);
        }
        self.entries.get(slot).map(|moved| moved.binding)
    }

    #[inline]
    pub(crate) fn matches(&self, found: &mut Found<Q>) {
        found.varies = true;
        let index = found.random.below(self.entries.len());
        if let Some(entry) = self.entries.get(index) {
            found.reach(std::slice::from_ref(entry));
        }
    }
}

/// Random numbers good enough to spread messages; nothing secret depends on them.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below the bound; 0 if there is none.
    #[inline]
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = crate::stable_hash::mixed(self.0);
        // The high half of the product is evenly spread, without a division.
        ((u128::from(bits) * bound as u128) >> u64::BITS) as usize
    }
}

/// A local-random exchange takes bindings without key only, as in RabbitMQ.
pub(crate) fn check_empty_key(routing_key: &str) -> Result<(), RoutingError> {
    if routing_key.is_empty() {
        return Ok(());
    }
    Err(RoutingError::KeyNotEmpty(routing_key.to_owned()))
}
