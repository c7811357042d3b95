//! Who may get the next message.
//!
//! Consumers wait for their turn in a ring, one ring per consumer priority. The ring's head is served and moves on. Who
//! turns out to be without credit, or refuses, leaves the ring, and joins at the end when it can take messages again;
//! who has its credit back before its turn comes keeps its place. So choosing costs the same for one consumer and for
//! ten thousand, and equal consumers with free credit never differ by more than one message.
//!
//! Of a queue with a single active consumer only that one is in a ring.

use std::cmp::Reverse;

use slab::Slab;

use super::single_active::{Candidate, SingleActive};
use super::{Accept, Delivery, Sink};

/// A slab of consumers that once grew beyond this many entries is freed when the last consumer leaves.
const KEPT_CAPACITY_CONSUMERS: usize = 64;

/// The end of a link that leads nowhere.
const NOWHERE: u32 = u32::MAX;

/// Names one consumer of one queue. The generation tells it from earlier consumers at the same index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConsumerKey {
    index: u32,
    generation: u32,
}

#[cfg(test)]
impl ConsumerKey {
    /// A key for tests that have no queue.
    pub fn numbered(index: u32) -> Self {
        Self { index, generation: 0 }
    }
}

/// What basic.consume asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerSpec<C> {
    pub handle: C,
    pub no_ack: bool,
    /// The most unacked messages the consumer may hold; 0 is unlimited. Without meaning when `no_ack`.
    pub prefetch_count: u16,
    /// No other consumer beside this one.
    pub exclusive: bool,
    /// Higher is served first.
    pub priority: i32,
    /// How long it may take to settle a delivery; 0 is for ever, `None` as long as the queue says.
    pub timeout_millis: Option<u64>,
}

/// Whether a consumer may have messages at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// As all consumers of its queue.
    Up,
    /// It is the one active consumer of its queue.
    SingleActive,
    /// Another one is.
    Waiting,
}

impl Activity {
    /// As RabbitMQ's listings say it.
    pub fn name(self) -> &'static str {
        match self {
            Activity::Up => "up",
            Activity::SingleActive => "single_active",
            Activity::Waiting => "waiting",
        }
    }
}

/// A consumer as the outside may see it.
#[derive(Debug)]
pub struct ConsumerView<'a, C> {
    pub key: ConsumerKey,
    pub spec: &'a ConsumerSpec<C>,
    pub unacked: u32,
    /// Refused a message, or was never resumed.
    pub stalled: bool,
    pub activity: Activity,
}

struct Consumer<C> {
    spec: ConsumerSpec<C>,
    generation: u32,
    unacked: u32,
    stalled: bool,
    in_ring: bool,
    previous: u32,
    next: u32,
}

/// All consumers of one priority.
struct Level {
    priority: i32,
    consumers: u32,
    /// The next one to serve; `NOWHERE` when the ring is empty.
    head: u32,
}

/// Who took a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taker {
    Settles(ConsumerKey),
    NoAck,
}

pub(super) struct Consumers<C> {
    entries: Slab<Consumer<C>>,
    /// Highest priority first; only priorities that some consumer has.
    levels: Vec<Level>,
    /// All rings before this level are empty.
    first_level: usize,
    last_generation: u32,
    exclusive: bool,
    had_any: bool,
    /// Boxed because few queues have it.
    single_active: Option<Box<SingleActive>>,
}

impl<C> Consumers<C> {
    pub(super) fn new(single_active: bool) -> Self {
        Self {
            entries: Slab::new(),
            levels: Vec::new(),
            first_level: 0,
            last_generation: 0,
            exclusive: false,
            had_any: false,
            single_active: single_active.then(Box::default),
        }
    }

    /// Adds a consumer. It is stalled until it is resumed.
    pub(super) fn add(&mut self, spec: ConsumerSpec<C>) -> ConsumerKey {
        match self.level_of(spec.priority) {
            Ok(level) => self.levels[level].consumers += 1,
            Err(level) => {
                self.levels.insert(
                    level,
                    Level {
                        priority: spec.priority,
                        consumers: 1,
                        head: NOWHERE,
                    },
                );
            }
        }
        self.had_any = true;
        self.exclusive = spec.exclusive;
        self.last_generation = self.last_generation.wrapping_add(1);
        let generation = self.last_generation;
        let consumer = Consumer {
            spec,
            generation,
            unacked: 0,
            stalled: true,
            in_ring: false,
            previous: NOWHERE,
            next: NOWHERE,
        };
        // Four thousand million consumers do not fit into memory, so the index does fit into 32 bits.
        let index = self.entries.insert(consumer) as u32;
        if let Some(candidate) = self.candidate(index)
            && let Some(single_active) = &mut self.single_active
        {
            single_active.add(candidate);
            self.hand_over();
        }
        ConsumerKey { index, generation }
    }

    pub(super) fn remove(&mut self, key: ConsumerKey) -> Option<C> {
        self.get(key)?;
        self.leave_ring(key.index);
        let candidate = self.candidate(key.index);
        let consumer = self.entries.try_remove(key.index as usize)?;
        if let Ok(level) = self.level_of(consumer.spec.priority) {
            self.levels[level].consumers -= 1;
            if self.levels[level].consumers == 0 {
                self.levels.remove(level);
                self.first_level = 0;
            }
        }
        if let (Some(candidate), Some(single_active)) = (candidate, &mut self.single_active) {
            single_active.remove(candidate);
            self.hand_over();
        }
        if self.entries.is_empty() {
            self.exclusive = false;
            if self.entries.capacity() > KEPT_CAPACITY_CONSUMERS {
                self.entries = Slab::new();
                self.levels = Vec::new();
            }
        }
        Some(consumer.spec.handle)
    }

    /// Takes all consumers out, in no particular order.
    pub(super) fn remove_all(&mut self) -> Vec<C> {
        let entries = std::mem::take(&mut self.entries);
        *self = Self {
            had_any: self.had_any,
            last_generation: self.last_generation,
            ..Self::new(self.single_active.is_some())
        };
        entries.into_iter().map(|(_, consumer)| consumer.spec.handle).collect()
    }

    /// Offers a message to one ready consumer after the other until one takes it.
    ///
    /// `position`, history and message of the delivery are the caller's; slot and `no_ack` are filled in for each
    /// consumer.
    pub(super) fn offer<M, S: Sink<M, C> + ?Sized>(
        &mut self,
        delivery: &Delivery<'_, M>,
        sink: &mut S,
    ) -> Option<Taker> {
        while let Some(index) = self.next_ready() {
            let consumer = self.entries.get(index as usize)?;
            let no_ack = consumer.spec.no_ack;
            let slot = if no_ack { super::NO_SLOT } else { delivery.slot };
            match sink.deliver(
                &consumer.spec.handle,
                Delivery {
                    slot,
                    no_ack,
                    ..*delivery
                },
            ) {
                Accept::Taken => return self.served(index),
                Accept::Refused => self.stall(index),
            }
        }
        None
    }

    /// A consumer's message was settled or went back: it has that much credit again.
    pub(super) fn give_credit(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.get_mut(key) else { return };
        consumer.unacked = consumer.unacked.saturating_sub(1);
        self.enter_ring_if_ready(key.index);
        if self.single_active.is_some() {
            self.hand_over();
        }
    }

    /// The consumer can take messages again. False when there is no such consumer.
    pub(super) fn resume(&mut self, key: ConsumerKey) -> bool {
        let Some(consumer) = self.get_mut(key) else {
            return false;
        };
        consumer.stalled = false;
        self.enter_ring_if_ready(key.index);
        true
    }

    /// Whether anybody waits for a turn, though perhaps without credit by now.
    pub(super) fn any_in_turn(&self) -> bool {
        self.levels
            .iter()
            .skip(self.first_level)
            .any(|level| level.head != NOWHERE)
    }

    pub(super) fn has_exclusive(&self) -> bool {
        self.exclusive
    }

    /// Whether only one consumer at a time is active.
    pub(super) fn has_single_active(&self) -> bool {
        self.single_active.is_some()
    }

    /// How long a consumer may take, if it has a time of its own.
    pub(super) fn timeout_millis(&self, key: ConsumerKey) -> Option<u64> {
        self.get(key)?.spec.timeout_millis
    }

    /// Whether there was ever a consumer.
    pub(super) fn had_any(&self) -> bool {
        self.had_any
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn view(&self, key: ConsumerKey) -> Option<ConsumerView<'_, C>> {
        self.get(key).map(|consumer| self.view_of(consumer, key.index))
    }

    pub(super) fn views(&self) -> impl Iterator<Item = ConsumerView<'_, C>> {
        self.entries
            .iter()
            .map(|(index, consumer)| self.view_of(consumer, index as u32))
    }

    fn view_of<'a>(&self, consumer: &'a Consumer<C>, index: u32) -> ConsumerView<'a, C> {
        let activity = match &self.single_active {
            None => Activity::Up,
            Some(single_active) if single_active.active() == Some(index) => Activity::SingleActive,
            Some(_) => Activity::Waiting,
        };
        ConsumerView {
            key: ConsumerKey {
                index,
                generation: consumer.generation,
            },
            spec: &consumer.spec,
            unacked: consumer.unacked,
            stalled: consumer.stalled,
            activity,
        }
    }

    /// The one that is active where only one may be.
    pub(super) fn single_active(&self) -> Option<ConsumerView<'_, C>> {
        let index = self.single_active.as_ref()?.active()?;
        let consumer = self.entries.get(index as usize)?;
        Some(self.view_of(consumer, index))
    }

    /// How a consumer stands among those of a queue with a single active consumer.
    fn candidate(&self, index: u32) -> Option<Candidate> {
        let consumer = self.entries.get(index as usize)?;
        Some(Candidate {
            priority: Reverse(consumer.spec.priority),
            generation: consumer.generation,
            index,
        })
    }

    /// Lets another consumer be the single active one, if it is time.
    fn hand_over(&mut self) {
        let Some(single_active) = &mut self.single_active else {
            return;
        };
        let active = single_active.active();
        let holds = active.and_then(|active| self.entries.get(active as usize));
        let next = single_active.hand_over(holds.map_or(0, |consumer| consumer.unacked));
        if let Some(active) = active
            && !single_active.may_take(active)
        {
            self.leave_ring(active);
        }
        if let Some(next) = next {
            self.enter_ring_if_ready(next);
        }
    }

    fn get(&self, key: ConsumerKey) -> Option<&Consumer<C>> {
        self.entries
            .get(key.index as usize)
            .filter(|consumer| consumer.generation == key.generation)
    }

    fn get_mut(&mut self, key: ConsumerKey) -> Option<&mut Consumer<C>> {
        self.entries
            .get_mut(key.index as usize)
            .filter(|consumer| consumer.generation == key.generation)
    }

    fn level_of(&self, priority: i32) -> Result<usize, usize> {
        self.levels.binary_search_by(|level| priority.cmp(&level.priority))
    }

    /// The consumer to serve next.
    fn next_ready(&mut self) -> Option<u32> {
        loop {
            let level = self.levels.get(self.first_level)?;
            match self.entries.get(level.head as usize) {
                Some(consumer) if consumer.has_credit() => return Some(level.head),
                Some(_) => self.leave_ring(level.head),
                None => self.first_level += 1,
            }
        }
    }

    /// The head of the first ring took a message.
    fn served(&mut self, index: u32) -> Option<Taker> {
        let consumer = self.entries.get_mut(index as usize)?;
        let taker = if consumer.spec.no_ack {
            Taker::NoAck
        } else {
            consumer.unacked += 1;
            Taker::Settles(ConsumerKey {
                index,
                generation: consumer.generation,
            })
        };
        self.levels.get_mut(self.first_level)?.head = consumer.next;
        Some(taker)
    }

    fn stall(&mut self, index: u32) {
        if let Some(consumer) = self.entries.get_mut(index as usize) {
            consumer.stalled = true;
            self.leave_ring(index);
        }
    }

    fn enter_ring_if_ready(&mut self, index: u32) {
        let Some(consumer) = self.entries.get(index as usize) else {
            return;
        };
        if consumer.in_ring || consumer.stalled || !consumer.has_credit() {
            return;
        }
        if let Some(single_active) = &self.single_active
            && !single_active.may_take(index)
        {
            return;
        }
        let Ok(level) = self.level_of(consumer.spec.priority) else {
            return;
        };
        let head = self.levels[level].head;
        if head == NOWHERE {
            self.levels[level].head = index;
            self.link(index, index);
        } else {
            let tail = self.entries[head as usize].previous;
            self.link(tail, index);
            self.link(index, head);
        }
        self.entries[index as usize].in_ring = true;
        self.first_level = self.first_level.min(level);
    }

    fn leave_ring(&mut self, index: u32) {
        let Some(consumer) = self.entries.get_mut(index as usize) else {
            return;
        };
        if !std::mem::take(&mut consumer.in_ring) {
            return;
        }
        let (previous, next, priority) = (consumer.previous, consumer.next, consumer.spec.priority);
        self.link(previous, next);
        if let Ok(level) = self.level_of(priority)
            && self.levels[level].head == index
        {
            self.levels[level].head = if next == index { NOWHERE } else { next };
        }
    }

    fn link(&mut self, previous: u32, next: u32) {
        self.entries[previous as usize].next = next;
        self.entries[next as usize].previous = previous;
    }
}

impl<C> Consumer<C> {
    fn has_credit(&self) -> bool {
        self.spec.no_ack || self.spec.prefetch_count == 0 || self.unacked < u32::from(self.spec.prefetch_count)
    }
}
