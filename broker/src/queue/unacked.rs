//! The messages that were handed out and wait for an acknowledgement.

use slab::Slab;

use super::consumers::ConsumerKey;
use super::kept::{Kept, Sizes};
use super::ready::History;
use super::{Amount, Position, QueueMessage, Room, Slot};

/// A slab that once grew beyond this many entries is freed when it is empty.
const KEPT_CAPACITY_ENTRIES: usize = 256;
/// The same when a queue may not hold so much: of ten thousand queues that are drained in turn, each has many entries for a moment.
const KEPT_CAPACITY_ENTRIES_MIN: usize = 32;
const KEPT_ROOM_BYTES: u64 = 4 << 20;

pub(super) struct UnackedMessage<M> {
    pub(super) kept: Kept<M>,
    pub(super) position: Position,
    /// `None` after basic.get.
    pub(super) consumer: Option<ConsumerKey>,
    pub(super) history: History,
}

pub(super) struct Unacked<M> {
    entries: Slab<UnackedMessage<M>>,
    body_bytes: u64,
    memory_bytes: u64,
    /// Those that are on disk only.
    on_disk: Amount,
}

impl<M: QueueMessage> Unacked<M> {
    pub(super) fn new() -> Self {
        Self {
            entries: Slab::new(),
            body_bytes: 0,
            memory_bytes: 0,
            on_disk: Amount::default(),
        }
    }

    /// Keeps a message in the slot that `vacant_slot` announced.
    pub(super) fn insert(&mut self, entry: UnackedMessage<M>, sizes: Sizes) {
        self.body_bytes += sizes.body;
        self.memory_bytes += sizes.memory;
        if let Kept::Disk(stub) = &entry.kept {
            self.on_disk.add(stub.body_len as usize);
        }
        self.entries.insert(entry);
    }

    /// Takes the message out if it is the one that `slot` was given to.
    pub(super) fn remove(&mut self, slot: Slot, position: Position) -> Option<UnackedMessage<M>> {
        let key = slot as usize;
        if self.entries.get(key)?.position != position {
            return None;
        }
        let entry = self.entries.try_remove(key)?;
        let sizes = entry.kept.sizes();
        self.body_bytes -= sizes.body;
        self.memory_bytes -= sizes.memory;
        if let Kept::Disk(stub) = &entry.kept {
            self.on_disk.take(stub.body_len as usize);
        }
        Some(entry)
    }

    /// The message in a slot and its history, if it is the one at this position and in memory.
    pub(super) fn get(&self, slot: Slot, position: Position) -> Option<(&M, History)> {
        let entry = self.entries.get(slot as usize)?;
        let message = entry.kept.message().filter(|_| entry.position == position)?;
        Some((message, entry.history))
    }

    /// Who has the message in a slot, if it is the one at this position and a consumer has it.
    pub(super) fn consumer(&self, slot: Slot, position: Position) -> Option<ConsumerKey> {
        let entry = self.entries.get(slot as usize)?;
        entry.consumer.filter(|_| entry.position == position)
    }

    /// All of them, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &UnackedMessage<M>> {
        self.entries.iter().map(|(_, entry)| entry)
    }

    /// The positions of those that are on disk only.
    #[cfg(test)]
    pub(super) fn stubs(&self) -> Vec<u64> {
        let stubs = self.iter().filter(|entry| entry.kept.message().is_none());
        stubs.map(|entry| entry.position.0).collect()
    }

    /// Gives memory back after a burst; cheap when there is nothing to give.
    pub(super) fn release_spare_memory(&mut self, room: Room) {
        let kept = match room.persisted_bytes {
            KEPT_ROOM_BYTES.. => KEPT_CAPACITY_ENTRIES,
            _ => KEPT_CAPACITY_ENTRIES_MIN,
        };
        if self.entries.is_empty() && self.entries.capacity() > kept {
            self.entries = Slab::new();
        }
    }

    /// The slot that the next `insert` will use; `None` when slots are exhausted, which means: hand out nothing more.
    pub(super) fn vacant_slot(&self) -> Option<Slot> {
        Slot::try_from(self.entries.vacant_key())
            .ok()
            .filter(|slot| *slot != super::NO_SLOT)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    pub(super) fn on_disk(&self) -> Amount {
        self.on_disk
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }
}
