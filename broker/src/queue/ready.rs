//! The messages that wait for a consumer, in order of position.
//!
//! Messages that were never handed out are the many: they cost one handle each, because their positions follow from
//! runs of consecutive numbers. Messages that came back, and those that expire, stand apart: they carry their history and are
//! merged in by position, and any of them can leave at any time.
//!
//! When there are more than memory allows, the later ones are *paged*: see [`Behind`].

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use super::behind::Behind;
use super::fresh::Fresh;
use super::{ExpiresAt, Load, Loaded, Position, QueueMessage};

/// What a message has been through before it became ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// How many deliveries failed.
    pub delivery_count: u32,
    /// Somebody may have seen it.
    pub redelivered: bool,
    /// When it expires, whatever happens to it.
    pub expires_at: ExpiresAt,
}

/// A ready message with its place and its history.
pub(super) struct Entry<T> {
    pub(super) position: Position,
    pub(super) history: History,
    pub(super) message: T,
}

pub(super) struct Ready<M> {
    fresh: Fresh<M>,
    apart: BTreeMap<Position, (M, History)>,
    /// Those of them that expire.
    expiring: BTreeSet<(NonZeroU64, Position)>,
    behind: Behind<M>,
    /// Of all that are in memory.
    body_bytes: u64,
    memory_bytes: u64,
}

impl<M: QueueMessage> Ready<M> {
    pub(super) fn new() -> Self {
        Self {
            fresh: Fresh::new(),
            apart: BTreeMap::new(),
            expiring: BTreeSet::new(),
            behind: Behind::new(),
            body_bytes: 0,
            memory_bytes: 0,
        }
    }

    /// The position before which nothing is paged.
    pub(super) fn first_paged(&self) -> Option<Position> {
        self.behind.first()
    }

    /// Whether the last message is paged.
    pub(super) fn ends_paged(&self) -> bool {
        self.behind.ends_paged()
    }

    /// Counts messages that are in the store. They stand behind all that were appended before.
    pub(super) fn page(&mut self, first: Position, until: Position, count: usize, body_bytes: u64) {
        self.behind.page(first, until, count, body_bytes);
    }

    pub(super) fn is_paging(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Whether the message that leaves next is paged.
    pub(super) fn is_head_paged(&self) -> bool {
        self.is_paging() && self.fresh.messages.is_empty() && !self.apart_is_next()
    }

    #[cfg(test)]
    pub(super) fn paged_ranges(&self) -> Vec<std::ops::Range<u64>> {
        self.behind.paged_ranges()
    }

    /// The next load to ask for, unless one is under way or there is more than `ahead_bytes` to hand out before.
    pub(super) fn next_load(&mut self, ahead_bytes: u64) -> Option<Load> {
        if !self.is_head_paged() && self.memory_bytes - self.behind.memory_bytes() > ahead_bytes {
            return None;
        }
        self.behind.next_load(ahead_bytes)
    }

    /// Takes in what a load brought. False if nobody waits for it any more.
    pub(super) fn loaded(&mut self, load: Load, loaded: Loaded<M>) -> bool {
        if !self.behind.waits_for(load) {
            return false;
        }
        for (position, history, message) in loaded.messages {
            self.behind.count_out(message.body_len());
            if history == History::default() {
                self.count_in(&message);
                self.fresh.push(position, message);
            } else {
                self.put_back(position, history, message);
            }
        }
        if let Some(kept) = self.behind.advance(loaded.until) {
            self.fresh.append(kept);
        }
        true
    }

    /// Appends a message that was never handed out. Its position is higher than that of all appended before.
    pub(super) fn push(&mut self, position: Position, message: M, expires_at: ExpiresAt) {
        if expires_at.is_some() {
            self.behind.end_stretch();
            let history = History {
                expires_at,
                ..History::default()
            };
            return self.put_back(position, history, message);
        }
        self.count_in(&message);
        if self.is_paging() {
            self.behind.push(position, message);
        } else {
            self.fresh.push(position, message);
        }
    }

    /// Puts a message back to its place.
    pub(super) fn put_back(&mut self, position: Position, history: History, message: M) {
        self.count_in(&message);
        if let Some(expires_at) = history.expires_at {
            self.expiring.insert((expires_at, position));
        }
        self.apart.insert(position, (message, history));
    }

    /// Takes the message with the lowest position.
    pub(super) fn pop(&mut self) -> Option<Entry<M>> {
        if self.apart_is_next() {
            let (position, _) = self.apart.first_key_value()?;
            return self.take_apart(*position);
        }
        let (position, message) = self.fresh.pop()?;
        self.count_out(&message);
        Some(Entry {
            position,
            history: History::default(),
            message,
        })
    }

    /// When the first of those in memory expires.
    pub(super) fn first_expiry(&self) -> ExpiresAt {
        self.expiring.first().map(|(expires_at, _)| *expires_at)
    }

    /// Takes a message whose time is over.
    pub(super) fn take_expired(&mut self, now_millis: u64) -> Option<Entry<M>> {
        let (_, position) = self.expiring.first().filter(|(at, _)| at.get() <= now_millis)?;
        self.take_apart(*position)
    }

    fn take_apart(&mut self, position: Position) -> Option<Entry<M>> {
        let (message, history) = self.apart.remove(&position)?;
        if let Some(expires_at) = history.expires_at {
            self.expiring.remove(&(expires_at, position));
        }
        self.count_out(&message);
        Some(Entry {
            position,
            history,
            message,
        })
    }

    /// Gives memory back after a burst; cheap when there is nothing to give.
    pub(super) fn release_spare_memory(&mut self) {
        self.fresh.release_spare_memory();
    }

    pub(super) fn peek(&self) -> Option<Entry<&M>> {
        if self.apart_is_next() {
            let (position, (message, history)) = self.apart.first_key_value()?;
            return Some(Entry {
                position: *position,
                history: *history,
                message,
            });
        }
        let (position, message) = self.fresh.peek()?;
        Some(Entry {
            position,
            history: History::default(),
            message,
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fresh.messages.is_empty() && self.apart.is_empty() && !self.is_paging()
    }

    pub(super) fn len(&self) -> usize {
        self.fresh.messages.len() + self.apart.len() + self.behind.len()
    }

    /// How many are in the store only.
    pub(super) fn paged_len(&self) -> usize {
        self.behind.paged_len()
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes + self.behind.paged_body_bytes()
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    fn count_in(&mut self, message: &M) {
        self.body_bytes += message.body_len() as u64;
        self.memory_bytes += message.memory_size() as u64;
    }

    fn count_out(&mut self, message: &M) {
        self.body_bytes -= message.body_len() as u64;
        self.memory_bytes -= message.memory_size() as u64;
    }

    fn apart_is_next(&self) -> bool {
        let Some((position, _)) = self.apart.first_key_value() else {
            return false;
        };
        match self.fresh.peek() {
            Some((fresh, _)) => *position < fresh,
            None => self.behind.first().is_none_or(|paged| *position < paged),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fresh::KEPT_CAPACITY_MESSAGES;
    use super::*;

    #[derive(Clone)]
    struct Body(usize);

    impl QueueMessage for Body {
        fn body_len(&self) -> usize {
            self.0
        }

        fn is_persistent(&self) -> bool {
            false
        }

        fn priority(&self) -> u8 {
            0
        }

        fn memory_size(&self) -> usize {
            self.0
        }

        fn time_to_live_millis(&self) -> Option<u64> {
            None
        }
    }

    fn positions(ready: &mut Ready<Body>) -> Vec<u64> {
        std::iter::from_fn(|| ready.pop().map(|entry| entry.position.0)).collect()
    }

    #[test]
    fn gaps_between_positions_are_kept() {
        let mut ready = Ready::new();
        for position in [3, 4, 5, 9, 20, 21] {
            ready.push(Position(position), Body(1), None);
        }
        assert_eq!(ready.pop().map(|entry| entry.position), Some(Position(3)));
        ready.put_back(Position(3), History::default(), Body(1));
        ready.put_back(Position(10), History::default(), Body(1));
        assert_eq!(positions(&mut ready), [3, 4, 5, 9, 10, 20, 21]);
        ready.push(Position(30), Body(1), None);
        assert_eq!(positions(&mut ready), [30]);
        assert!(ready.is_empty() && ready.body_bytes() == 0);
    }

    #[test]
    fn memory_is_given_back_after_a_burst() {
        let mut ready = Ready::new();
        for position in 0..100_000 {
            ready.push(Position(position), Body(1), None);
        }
        let full = ready.fresh.messages.capacity();
        while ready.len() > 10_000 {
            ready.pop();
            ready.release_spare_memory();
        }
        assert!(ready.fresh.messages.capacity() <= full / 2);
        while ready.pop().is_some() {
            ready.release_spare_memory();
        }
        assert!(ready.fresh.messages.capacity() <= 2 * KEPT_CAPACITY_MESSAGES);
    }
}
