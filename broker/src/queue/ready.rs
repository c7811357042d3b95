//! The messages that wait for a consumer, in order of position.
//!
//! Messages that were never handed out are the many: they cost one handle each, because their positions follow from
//! runs of consecutive numbers. Messages that came back, and those that expire, stand apart: they carry their history and are
//! merged in by position, and any of them can leave at any time.
//!
//! When there are more than memory allows, the later ones are *paged*: see [`Behind`]. Of those that came back some may be on disk
//! only as well: see [`Kept`].

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use super::behind::Behind;
use super::fresh::Fresh;
use super::kept::{Kept, Stubs, stubs};
use super::sink::LoadOf;
use super::{Amount, ExpiresAt, Load, Loaded, Position, QueueMessage};

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

/// The messages that stand apart.
pub(super) type Apart<M> = BTreeMap<Position, (Kept<M>, History)>;

pub(super) struct Ready<M> {
    fresh: Fresh<M>,
    apart: Apart<M>,
    /// Those of them that are on disk only, if any are.
    stubs: Option<Box<Stubs>>,
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
            stubs: None,
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
    pub(super) fn page(&mut self, first: Position, until: Position, count: usize, body_bytes: u64, expires: ExpiresAt) {
        self.behind.page(first, until, count, body_bytes, expires);
    }

    /// What is paged from now on stands behind something else.
    pub(super) fn end_stretch(&mut self) {
        self.behind.end_stretch();
    }

    /// Whether anything is on disk only, here or behind.
    pub(super) fn is_paging(&self) -> bool {
        !self.behind.is_empty() || self.stubs.is_some()
    }

    /// Whether the message that leaves next is on disk only.
    pub(super) fn is_head_paged(&self) -> bool {
        self.is_paging() && !self.is_empty() && self.peek().is_none()
    }

    #[cfg(test)]
    pub(super) fn waits_for_load(&self, load: Load) -> bool {
        match load.of {
            LoadOf::Stubs => self.stubs.as_ref().is_some_and(|stubs| stubs.waits_for(load)),
            _ => self.behind.waits_for(load),
        }
    }

    #[cfg(test)]
    pub(super) fn paged_ranges(&self) -> Vec<std::ops::Range<u64>> {
        let stubs = stubs(self.apart.iter());
        let mut ranges: Vec<_> = stubs.map(|(position, _)| position.0..position.0 + 1).collect();
        ranges.extend(self.behind.paged_ranges());
        ranges.sort_unstable_by_key(|range| range.start);
        ranges
    }

    /// The next load to ask for, unless one is under way or there is more than `ahead_bytes` to hand out before.
    pub(super) fn next_load(&mut self, ahead_bytes: u64) -> Option<Load> {
        if !self.is_head_paged() && self.memory_bytes - self.behind.memory_bytes() > ahead_bytes {
            return None;
        }
        match &mut self.stubs {
            // What came back stands before all that was never handed out.
            Some(stubs) if stubs.len() > 0 => stubs.next_load(&self.apart, ahead_bytes),
            _ => self.behind.next_load(ahead_bytes),
        }
    }

    /// Takes in what a load brought. False if nobody waits for it any more.
    pub(super) fn loaded(&mut self, load: Load, loaded: Loaded<M>) -> bool {
        if load.of == LoadOf::Stubs {
            return self.loaded_stubs(load, loaded);
        }
        if !self.behind.waits_for(load) {
            return false;
        }
        for (position, history, message) in loaded.messages {
            self.behind.count_out(message.body_len());
            if history == History::default() {
                self.count_in(&message);
                self.fresh.push(position, message);
            } else {
                self.put_back(position, history, Kept::Memory(message));
            }
        }
        if let Some(kept) = self.behind.advance(loaded.until) {
            self.fresh.append(kept);
        }
        true
    }

    /// Takes in what came back and was on disk only. What else a load brought is here already, or handed out.
    fn loaded_stubs(&mut self, load: Load, loaded: Loaded<M>) -> bool {
        if !self
            .stubs
            .as_mut()
            .is_some_and(|stubs| stubs.end_load(load, loaded.until))
        {
            return false;
        }
        for (position, _, message) in loaded.messages {
            if let Some((kept, _)) = self.apart.get_mut(&position)
                && let Kept::Disk(stub) = kept
                && let Some(stubs) = &mut self.stubs
            {
                stubs.count_out(*stub);
                self.body_bytes += message.body_len() as u64;
                self.memory_bytes += message.memory_size() as u64;
                *kept = Kept::Memory(message);
            }
        }
        // They could not be read.
        let range = load.from..loaded.until.max(load.from);
        let lost: Vec<_> = stubs(self.apart.range(range)).map(|(position, _)| position).collect();
        for position in lost {
            self.take_apart(position);
        }
        self.stubs.take_if(|stubs| stubs.is_idle());
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
            return self.put_back(position, history, Kept::Memory(message));
        }
        self.count_in(&message);
        if !self.behind.is_empty() {
            self.behind.push(position, message);
        } else {
            self.fresh.push(position, message);
        }
    }

    /// Puts a message back to its place.
    pub(super) fn put_back(&mut self, position: Position, history: History, kept: Kept<M>) {
        match &kept {
            Kept::Memory(message) => self.count_in(message),
            Kept::Disk(stub) => {
                let stubs = self.stubs.get_or_insert_with(|| Box::new(Stubs::new()));
                stubs.count_in(position, *stub);
            }
        }
        if let Some(expires_at) = history.expires_at {
            self.expiring.insert((expires_at, position));
        }
        self.apart.insert(position, (kept, history));
    }

    /// Takes the message with the lowest position.
    pub(super) fn pop(&mut self) -> Option<Entry<M>> {
        if self.apart_is_next() {
            let (position, (kept, _)) = self.apart.first_key_value()?;
            kept.message()?;
            let Entry {
                position,
                history,
                message: Kept::Memory(message),
            } = self.take_apart(*position)?
            else {
                return None;
            };
            return Some(Entry {
                position,
                history,
                message,
            });
        }
        let (position, message) = self.fresh.pop()?;
        self.count_out(&message);
        Some(Entry {
            position,
            history: History::default(),
            message,
        })
    }

    /// Before this nothing in memory expires, in milliseconds since 1970.
    pub(super) fn first_expiry(&self) -> u64 {
        let first = self.expiring.first();
        first.map_or(u64::MAX, |(expires_at, _)| expires_at.get())
    }

    /// When to search what is paged for what has expired.
    pub(super) fn search_at(&self) -> u64 {
        self.behind.search_at()
    }

    /// Begins a search of all that is paged: from where to where.
    pub(super) fn begin_search(&mut self) -> Option<(Position, Position)> {
        self.behind.begin_search()
    }

    /// Ends a search. False if a load is under way, which may bring the same messages: then it must be repeated.
    pub(super) fn end_search(&mut self, found_by_millis: u64, next_millis: u64) -> bool {
        let is_good = !self.behind.is_loading();
        self.behind
            .end_search(if is_good { next_millis } else { found_by_millis });
        is_good
    }

    /// Forgets a message that a search has found, if it is still paged and no load may bring it.
    pub(super) fn lose(&mut self, position: Position, body_len: usize) -> bool {
        if self.behind.is_loading() || !self.behind.lose(position, body_len) {
            return false;
        }
        while let Some(kept) = self.behind.end_if_lost() {
            self.fresh.append(kept);
        }
        true
    }

    /// Takes a message whose time is over.
    pub(super) fn take_expired(&mut self, now_millis: u64) -> Option<Entry<Kept<M>>> {
        let (_, position) = self.expiring.first().filter(|(at, _)| at.get() <= now_millis)?;
        self.take_apart(*position)
    }

    fn take_apart(&mut self, position: Position) -> Option<Entry<Kept<M>>> {
        let (kept, history) = self.apart.remove(&position)?;
        if let Some(expires_at) = history.expires_at {
            self.expiring.remove(&(expires_at, position));
        }
        match &kept {
            Kept::Memory(message) => self.count_out(message),
            Kept::Disk(stub) => {
                if let Some(stubs) = &mut self.stubs {
                    stubs.count_out(*stub);
                }
                self.stubs.take_if(|stubs| stubs.is_idle());
            }
        }
        Some(Entry {
            position,
            history,
            message: kept,
        })
    }

    /// Gives memory back after a burst; cheap when there is nothing to give.
    pub(super) fn release_spare_memory(&mut self) {
        self.fresh.release_spare_memory();
    }

    pub(super) fn peek(&self) -> Option<Entry<&M>> {
        if self.apart_is_next() {
            let (position, (kept, history)) = self.apart.first_key_value()?;
            return Some(Entry {
                position: *position,
                history: *history,
                message: kept.message()?,
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
        self.fresh.messages.is_empty() && self.apart.is_empty() && self.behind.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.fresh.messages.len() + self.apart.len() + self.behind.len()
    }

    /// How many are in the store only.
    pub(super) fn paged_len(&self) -> usize {
        self.behind.paged_len() + self.stubs.as_ref().map_or(0, |stubs| stubs.len())
    }

    /// What is in the store only.
    pub(super) fn paged(&self) -> Amount {
        Amount {
            messages: self.paged_len(),
            bytes: self.body_bytes() - self.body_bytes,
        }
    }

    pub(super) fn body_bytes(&self) -> u64 {
        let stubs = self.stubs.as_ref().map_or(0, |stubs| stubs.body_bytes());
        self.body_bytes + self.behind.paged_body_bytes() + stubs
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
        ready.put_back(Position(3), History::default(), Kept::Memory(Body(1)));
        ready.put_back(Position(10), History::default(), Kept::Memory(Body(1)));
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
