//! What routing takes and gives: a message's routing data in, a reused set of queues out.

use std::hash::{BuildHasher, Hash};

use amq_protocol_types::FieldTable;
use foldhash::fast::RandomState;

use crate::{
    entry::{Entry, Target},
    random::Random,
    topic::Scratch,
};

/// A message's headers and the properties that may decide its way, asked for only when an exchange needs them.
///
/// A caller that holds encoded headers decodes them in this call, and keeps the table for the
/// next one (in a `OnceCell`, say): one message may pass several headers exchanges.
pub trait MessageHeaders {
    /// The headers, or `None` if the message has none.
    fn field_table(&self) -> Option<&FieldTable>;

    /// The property `correlation_id`.
    fn correlation_id(&self) -> Option<&[u8]> {
        None
    }

    /// The property `message_id`.
    fn message_id(&self) -> Option<&[u8]> {
        None
    }

    /// Whether the message asks to be delivered later; delayed exchanges ask this.
    fn is_delayed(&self) -> bool {
        false
    }

    /// The property `timestamp`.
    fn timestamp(&self) -> Option<u64> {
        None
    }
}

impl MessageHeaders for FieldTable {
    fn field_table(&self) -> Option<&FieldTable> {
        Some(self)
    }
}

impl MessageHeaders for Option<FieldTable> {
    fn field_table(&self) -> Option<&FieldTable> {
        self.as_ref()
    }
}

/// The headers of a message that has none.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoHeaders;

impl MessageHeaders for NoHeaders {
    fn field_table(&self) -> Option<&FieldTable> {
        None
    }
}

/// What routing needs to know of a message.
#[derive(Clone, Copy)]
pub struct Routable<'a> {
    /// The routing key it was published with.
    pub routing_key: &'a str,
    /// Its headers.
    pub headers: &'a dyn MessageHeaders,
}

/// The queues found, and the working memory of routing; to be reused for every message.
///
/// A queue is in it once, however many bindings led there and over however many calls, until
/// [`RouteBuffer::clear`]. It grows to the largest result it has held and then allocates no more;
/// only what hostile topic patterns have blown up is given back after the message.
#[derive(Debug)]
pub struct RouteBuffer<Q> {
    pub(crate) found: Found<Q>,
    pub(crate) topic: Scratch,
}

impl<Q: Copy + Eq + Hash> RouteBuffer<Q> {
    /// An empty buffer, which holds no memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            found: Found::new(),
            topic: Scratch::new(),
        }
    }

    /// Forgets the queues; keeps the memory.
    pub fn clear(&mut self) {
        self.found.queues.clear();
        self.found.varies = false;
        self.found.keeps_history = false;
        self.found.delayed.clear();
    }

    /// Whether, since the last [`RouteBuffer::clear`], anything but exchange and routing keys had a say: headers,
    /// properties or chance. The next message of the same key may go elsewhere.
    #[must_use]
    pub fn varies(&self) -> bool {
        self.found.varies
    }

    /// Whether, since the last [`RouteBuffer::clear`], a message has passed an exchange that keeps its history. See
    /// [`RoutingTable::histories`](crate::RoutingTable::histories).
    #[must_use]
    pub fn keeps_history(&self) -> bool {
        self.found.keeps_history
    }

    /// The queues found since the last [`RouteBuffer::clear`], each once, in no particular order.
    #[must_use]
    pub fn queues(&self) -> &[Q] {
        &self.found.queues.items
    }

    /// Whether no queue was found.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queues().is_empty()
    }
}

impl<Q: Copy + Eq + Hash> Default for RouteBuffer<Q> {
    fn default() -> Self {
        Self::new()
    }
}

/// What the matchers have found.
#[derive(Debug)]
pub(crate) struct Found<Q> {
    pub(crate) queues: DistinctSet<Q>,
    /// Exchanges reached with this message, the one published to first.
    pub(crate) exchanges: DistinctSet<u32>,
    /// Whether anything has matched since the flag was last reset.
    pub(crate) matched: bool,
    /// Whether a queue has matched since the flag was last reset, be it one found before.
    pub(crate) queue_matched: bool,
    /// Whether more than exchange and routing keys had a say.
    pub(crate) varies: bool,
    /// Whether a recent-history exchange was passed.
    pub(crate) keeps_history: bool,
    /// The delayed exchanges that keep the message.
    pub(crate) delayed: Vec<u32>,
    pub(crate) random: Random,
}

impl<Q: Copy + Eq + Hash> Found<Q> {
    fn new() -> Self {
        Self {
            queues: DistinctSet::new(),
            exchanges: DistinctSet::new(),
            matched: false,
            queue_matched: false,
            varies: false,
            keeps_history: false,
            delayed: Vec::new(),
            // The state of a new hasher is random.
            random: Random::new(RandomState::default().hash_one(0_u64)),
        }
    }

    #[inline]
    pub(crate) fn reach(&mut self, entries: &[Entry<Q>]) {
        self.matched |= !entries.is_empty();
        for entry in entries {
            match entry.target {
                Target::Queue(queue) => self.reach_queue(queue),
                Target::Exchange(id) => {
                    self.exchanges.insert(id);
                }
            }
        }
    }

    #[inline]
    pub(crate) fn reach_queue(&mut self, queue: Q) {
        self.queue_matched = true;
        self.queues.insert(queue);
    }
}

/// Up to this many items a scan of the list is cheaper than the index.
const SCANNED_ITEMS: usize = 8;

/// A list without duplicates that is emptied in constant time.
///
/// From [`SCANNED_ITEMS`] on, an open-addressed index of positions finds duplicates. Its slots are
/// stamped with the generation in which they were written, so that emptying the list is counting
/// up.
#[derive(Debug)]
pub(crate) struct DistinctSet<T> {
    items: Vec<T>,
    /// A power of two of slots, at most half of them in use.
    index: Vec<Slot>,
    /// How many items, from the first, the index knows in this generation.
    indexed: usize,
    generation: u32,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    generation: u32,
    position: u32,
}

impl<T: Copy + Eq + Hash> DistinctSet<T> {
    pub(crate) fn new() -> Self {
        Self {
            items: Vec::new(),
            index: Vec::new(),
            indexed: 0,
            // Slots are made with generation 0, so it must never be the current one.
            generation: 1,
            hasher: RandomState::default(),
        }
    }

    #[inline]
    pub(crate) fn clear(&mut self) {
        self.items.clear();
        if self.indexed > 0 {
            self.forget_index();
        }
    }

    /// Adds an item unless it is there.
    #[inline]
    pub(crate) fn insert(&mut self, item: T) -> bool {
        let is_new = if self.items.len() < SCANNED_ITEMS {
            !self.items.contains(&item)
        } else {
            self.insert_in_index(item)
        };
        if is_new {
            self.items.push(item);
        }
        is_new
    }

    #[inline]
    pub(crate) fn get(&self, position: usize) -> Option<T> {
        self.items.get(position).copied()
    }

    /// Adds the item about to be pushed to the index, unless the list has it.
    fn insert_in_index(&mut self, item: T) -> bool {
        if self.index.len() < (self.items.len() + 1) * 2 {
            self.index.clear();
            self.index
                .resize((self.items.len() * 4).next_power_of_two(), Slot::default());
            self.indexed = 0;
        }
        while self.indexed < self.items.len() {
            let Some(known) = self.get(self.indexed) else {
                break;
            };
            self.place(known, self.indexed);
            self.indexed += 1;
        }
        let is_new = self.place(item, self.items.len());
        self.indexed += usize::from(is_new);
        is_new
    }

    /// Writes an item's position into the first free slot of its probe sequence, unless the item
    /// is met on the way.
    #[inline]
    fn place(&mut self, item: T, position: usize) -> bool {
        let mask = self.index.len() - 1;
        let mut at = self.hasher.hash_one(item) as usize & mask;
        while let Some(slot) = self.index.get_mut(at) {
            if slot.generation != self.generation {
                *slot = Slot {
                    generation: self.generation,
                    position: position as u32,
                };
                return true;
            }
            if self.items.get(slot.position as usize) == Some(&item) {
                return false;
            }
            at = (at + 1) & mask;
        }
        // Not reached: a masked position is always within the index.
        true
    }

    fn forget_index(&mut self) {
        self.indexed = 0;
        self.generation = self.generation.checked_add(1).unwrap_or_else(|| {
            self.index.fill(Slot::default());
            1
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_kept_once_below_and_above_the_scanned_size() {
        let mut set = DistinctSet::new();
        for round in 0..3 {
            for item in (0..1000_u32).chain((0..1000).rev()) {
                let expected = set.items.len() == item as usize;
                assert_eq!(set.insert(item), expected, "item {item} in round {round}");
            }
            assert_eq!(set.items, (0..1000).collect::<Vec<_>>());
            set.clear();
            assert_eq!(set.get(0), None);
        }
    }

    #[test]
    fn a_generation_that_runs_over_forgets_old_slots() {
        let mut set = DistinctSet::new();
        (0..100_u32).for_each(|item| assert!(set.insert(item)));
        set.generation = u32::MAX;
        set.clear();
        assert_eq!(set.generation, 1);
        (0..100_u32).for_each(|item| assert!(set.insert(item)));
        assert!(!set.insert(50));
    }
}
