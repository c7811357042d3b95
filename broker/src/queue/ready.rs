//! The messages that wait for a consumer, in order of position.
//!
//! Messages that were never handed out are the many: they cost one handle each, because their positions follow from
//! runs of consecutive numbers. Messages that came back are the few: they carry their history and are merged in by
//! position.
//!
//! When there are more than memory allows, the later ones are *paged*: they are in the store, and all that is known here
//! is where they begin and end, how many they are and how large their bodies. That is four numbers, however many they
//! are. As long as any message is paged every new one is, so whatever is in memory stands before whatever is not.

use std::collections::{BTreeMap, VecDeque};

use super::{Load, Loaded, Position, QueueMessage};

/// A buffer that once grew beyond this many messages gives the memory back when it is nearly empty.
const KEPT_CAPACITY_MESSAGES: usize = 256;

/// Memory is given back when less than one part in this many is used.
const SPARSE_FACTOR: usize = 8;

/// What a message has been through before it became ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// How many deliveries failed.
    pub delivery_count: u32,
    /// Somebody may have seen it.
    pub redelivered: bool,
}

/// A ready message with its place and its history.
pub(super) struct Entry<T> {
    pub(super) position: Position,
    pub(super) history: History,
    pub(super) message: T,
}

pub(super) struct Ready<M> {
    fresh: Fresh<M>,
    returned: BTreeMap<Position, (M, History)>,
    /// What of it is in memory takes.
    body_bytes: u64,
    memory_bytes: u64,
    paged: Paged,
}

/// The messages behind all that are in memory.
#[derive(Default)]
struct Paged {
    /// None of them stands before this.
    from: Position,
    /// All of them stand before this.
    until: Position,
    count: usize,
    body_bytes: u64,
    /// The first of them were asked for.
    loading: bool,
}

impl<M: QueueMessage> Ready<M> {
    pub(super) fn new() -> Self {
        Self {
            fresh: Fresh::new(),
            returned: BTreeMap::new(),
            body_bytes: 0,
            memory_bytes: 0,
            paged: Paged::default(),
        }
    }

    /// Whether a message of this size must be paged, if so much memory is allowed.
    pub(super) fn must_page(&self, memory_size: usize, allowed_bytes: u64) -> bool {
        self.is_paging() || self.memory_bytes + memory_size as u64 > allowed_bytes
    }

    /// Counts messages that are in the store. They stand behind all that were appended before.
    pub(super) fn page(&mut self, first: Position, until: Position, count: usize, body_bytes: u64) {
        let paged = &mut self.paged;
        if paged.count == 0 {
            paged.from = first;
        }
        paged.until = until;
        paged.count += count;
        paged.body_bytes += body_bytes;
    }

    pub(super) fn is_paging(&self) -> bool {
        self.paged.count > 0
    }

    /// Whether the message that leaves next is paged.
    pub(super) fn is_head_paged(&self) -> bool {
        self.is_paging() && self.fresh.messages.is_empty() && self.returned.is_empty()
    }

    #[cfg(test)]
    pub(super) fn first_paged(&self) -> Option<Position> {
        self.is_paging().then_some(self.paged.from)
    }

    /// The next load to ask for, unless one is under way or more than `ahead_bytes` are in memory.
    pub(super) fn next_load(&mut self, ahead_bytes: u64) -> Option<Load> {
        let paged = &mut self.paged;
        if paged.count == 0 || paged.loading || self.memory_bytes > ahead_bytes {
            return None;
        }
        paged.loading = true;
        Some(Load {
            from: paged.from,
            until: paged.until,
            bytes: ahead_bytes,
        })
    }

    /// Takes in what a load brought. False if nobody waits for it any more.
    pub(super) fn loaded(&mut self, load: Load, loaded: Loaded<M>) -> bool {
        // Positions are not used twice, so no later load begins where this one did.
        if !self.paged.loading || self.paged.from != load.from {
            return false;
        }
        self.paged.loading = false;
        for (position, history, message) in loaded.messages {
            self.paged.count = self.paged.count.saturating_sub(1);
            self.paged.body_bytes = self.paged.body_bytes.saturating_sub(message.body_len() as u64);
            if history == History::default() {
                self.push(position, message);
            } else {
                self.put_back(position, history, message);
            }
        }
        self.paged.from = loaded.until.max(load.from);
        if self.paged.from >= self.paged.until {
            // What is still counted could not be read.
            self.paged = Paged::default();
        }
        true
    }

    /// Appends a message that was never handed out. Its position is higher than that of all appended before.
    pub(super) fn push(&mut self, position: Position, message: M) {
        self.count_in(&message);
        self.fresh.push(position, message);
    }

    /// Puts a message back to its place.
    pub(super) fn put_back(&mut self, position: Position, history: History, message: M) {
        self.count_in(&message);
        self.returned.insert(position, (message, history));
    }

    /// Takes the message with the lowest position.
    pub(super) fn pop(&mut self) -> Option<Entry<M>> {
        let entry = if self.returned_is_next() {
            let (position, (message, history)) = self.returned.pop_first()?;
            Entry {
                position,
                history,
                message,
            }
        } else {
            let (position, message) = self.fresh.pop()?;
            Entry {
                position,
                history: History::default(),
                message,
            }
        };
        self.body_bytes -= entry.message.body_len() as u64;
        self.memory_bytes -= entry.message.memory_size() as u64;
        Some(entry)
    }

    /// Gives memory back after a burst; cheap when there is nothing to give.
    pub(super) fn release_spare_memory(&mut self) {
        self.fresh.release_spare_memory();
    }

    pub(super) fn peek(&self) -> Option<Entry<&M>> {
        if self.returned_is_next() {
            let (position, (message, history)) = self.returned.first_key_value()?;
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
        self.fresh.messages.is_empty() && self.returned.is_empty() && !self.is_paging()
    }

    pub(super) fn len(&self) -> usize {
        self.fresh.messages.len() + self.returned.len() + self.paged.count
    }

    /// How many are in the store only.
    pub(super) fn paged_len(&self) -> usize {
        self.paged.count
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes + self.paged.body_bytes
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    fn count_in(&mut self, message: &M) {
        self.body_bytes += message.body_len() as u64;
        self.memory_bytes += message.memory_size() as u64;
    }

    fn returned_is_next(&self) -> bool {
        match self.returned.first_key_value() {
            None => false,
            Some((position, _)) => self.fresh.peek().is_none_or(|(fresh, _)| *position < fresh),
        }
    }
}

/// Messages never handed out. There is a second run only after a recovery in which some positions were already
/// settled.
struct Fresh<M> {
    messages: VecDeque<M>,
    first_run: Run,
    later_runs: VecDeque<Run>,
}

/// So many messages with consecutive positions.
#[derive(Clone, Copy, Default)]
struct Run {
    first: u64,
    length: u64,
}

impl<M> Fresh<M> {
    fn new() -> Self {
        Self {
            messages: VecDeque::new(),
            first_run: Run::default(),
            later_runs: VecDeque::new(),
        }
    }

    fn push(&mut self, position: Position, message: M) {
        self.messages.push_back(message);
        let last_run = self.later_runs.back_mut().unwrap_or(&mut self.first_run);
        if last_run.length == 0 {
            *last_run = Run {
                first: position.0,
                length: 1,
            };
        } else if last_run.first + last_run.length == position.0 {
            last_run.length += 1;
        } else {
            self.later_runs.push_back(Run {
                first: position.0,
                length: 1,
            });
        }
    }

    fn pop(&mut self) -> Option<(Position, M)> {
        let message = self.messages.pop_front()?;
        let position = Position(self.first_run.first);
        self.first_run.first += 1;
        self.first_run.length -= 1;
        if self.first_run.length == 0 {
            self.first_run = self.later_runs.pop_front().unwrap_or_default();
        }
        Some((position, message))
    }

    fn peek(&self) -> Option<(Position, &M)> {
        self.messages
            .front()
            .map(|message| (Position(self.first_run.first), message))
    }

    fn release_spare_memory(&mut self) {
        let capacity = self.messages.capacity();
        if capacity > KEPT_CAPACITY_MESSAGES && self.messages.len() < capacity / SPARSE_FACTOR {
            self.messages
                .shrink_to((self.messages.len() * 2).max(KEPT_CAPACITY_MESSAGES));
        }
        if self.later_runs.is_empty() && self.later_runs.capacity() > 0 {
            self.later_runs = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
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
    }

    fn positions(ready: &mut Ready<Body>) -> Vec<u64> {
        std::iter::from_fn(|| ready.pop().map(|entry| entry.position.0)).collect()
    }

    #[test]
    fn gaps_between_positions_are_kept() {
        let mut ready = Ready::new();
        for position in [3, 4, 5, 9, 20, 21] {
            ready.push(Position(position), Body(1));
        }
        assert_eq!(ready.pop().map(|entry| entry.position), Some(Position(3)));
        ready.put_back(Position(3), History::default(), Body(1));
        ready.put_back(Position(10), History::default(), Body(1));
        assert_eq!(positions(&mut ready), [3, 4, 5, 9, 10, 20, 21]);
        ready.push(Position(30), Body(1));
        assert_eq!(positions(&mut ready), [30]);
        assert!(ready.is_empty() && ready.body_bytes() == 0);
    }

    #[test]
    fn memory_is_given_back_after_a_burst() {
        let mut ready = Ready::new();
        for position in 0..100_000 {
            ready.push(Position(position), Body(1));
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
