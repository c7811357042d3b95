//! What stands behind the first messages of a queue: stretches that are *paged*, each followed by messages in memory.
//!
//! Paged messages are in the store. All that is known of a stretch here is where it begins and ends, how many messages it has
//! and how large their bodies are: four numbers, however many they are. A stretch with nothing in memory behind it goes on with
//! each message that is paged; one in memory ends it. So there are as many stretches as times the queue began to page.
//!
//! ```text
//!   first messages, in memory │ paged  in memory │ paged  in memory │ paged
//!   Fresh and returned        │ Stretch          │ Stretch          │ Stretch
//! ```

use std::collections::VecDeque;

use super::fresh::Fresh;
use super::{Load, Position, QueueMessage};

pub(super) struct Behind<M> {
    stretches: VecDeque<Stretch<M>>,
    /// The beginning of the first stretch was asked for.
    loading: bool,
    /// Of all stretches together.
    paged: usize,
    paged_body_bytes: u64,
    kept: usize,
    memory_bytes: u64,
}

struct Stretch<M> {
    /// No paged message stands before this.
    from: Position,
    /// All paged messages stand before this.
    until: Position,
    paged: usize,
    paged_body_bytes: u64,
    /// What stands behind them, in memory.
    kept: Fresh<M>,
    memory_bytes: u64,
    /// Something stands behind it, in memory, though not here.
    ended: bool,
}

impl<M: QueueMessage> Behind<M> {
    pub(super) fn new() -> Self {
        Self {
            stretches: VecDeque::new(),
            loading: false,
            paged: 0,
            paged_body_bytes: 0,
            kept: 0,
            memory_bytes: 0,
        }
    }

    /// Counts messages that are in the store.
    pub(super) fn page(&mut self, first: Position, until: Position, count: usize, body_bytes: u64) {
        if !self.ends_paged() {
            self.stretches.push_back(Stretch {
                from: first,
                until,
                paged: 0,
                paged_body_bytes: 0,
                kept: Fresh::new(),
                memory_bytes: 0,
                ended: false,
            });
        }
        if let Some(stretch) = self.stretches.back_mut() {
            stretch.until = until;
            stretch.paged += count;
            stretch.paged_body_bytes += body_bytes;
        }
        self.paged += count;
        self.paged_body_bytes += body_bytes;
    }

    /// Keeps a message behind the last stretch, if there is one.
    pub(super) fn push(&mut self, position: Position, message: M) {
        if let Some(stretch) = self.stretches.back_mut() {
            let memory_size = message.memory_size() as u64;
            stretch.memory_bytes += memory_size;
            stretch.kept.push(position, message);
            self.memory_bytes += memory_size;
            self.kept += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// Whether the last message of all is paged.
    pub(super) fn ends_paged(&self) -> bool {
        self.stretches
            .back()
            .is_some_and(|stretch| stretch.kept.messages.is_empty() && !stretch.ended)
    }

    /// What is paged from now on does not belong to the last stretch, because something else stands in between.
    pub(super) fn end_stretch(&mut self) {
        if let Some(stretch) = self.stretches.back_mut() {
            stretch.ended = true;
        }
    }

    /// Where the first stretch begins.
    pub(super) fn first(&self) -> Option<Position> {
        self.stretches.front().map(|stretch| stretch.from)
    }

    pub(super) fn len(&self) -> usize {
        self.paged + self.kept
    }

    pub(super) fn paged_len(&self) -> usize {
        self.paged
    }

    pub(super) fn paged_body_bytes(&self) -> u64 {
        self.paged_body_bytes
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// The load of the first stretch, unless one is under way.
    pub(super) fn next_load(&mut self, bytes: u64) -> Option<Load> {
        let first = self.stretches.front().filter(|_| !self.loading)?;
        self.loading = true;
        Some(Load {
            from: first.from,
            until: first.until,
            bytes,
            ..Load::default()
        })
    }

    /// Whether this load was asked for and nothing has made it useless.
    pub(super) fn waits_for(&self, load: Load) -> bool {
        // Positions are not used twice, so no later load begins where this one did.
        self.loading && self.stretches.front().is_some_and(|first| first.from == load.from)
    }

    /// A message of the first stretch is in memory now.
    pub(super) fn count_out(&mut self, body_len: usize) {
        if let Some(first) = self.stretches.front_mut().filter(|first| first.paged > 0) {
            let body_bytes = first.paged_body_bytes.min(body_len as u64);
            first.paged -= 1;
            first.paged_body_bytes -= body_bytes;
            self.paged -= 1;
            self.paged_body_bytes -= body_bytes;
        }
    }

    /// Ends a load that brought everything below a position. What stood in memory behind the first stretch, if that is over.
    pub(super) fn advance(&mut self, until: Position) -> Option<Fresh<M>> {
        self.loading = false;
        let first = self.stretches.front_mut()?;
        first.from = first.from.max(until);
        if first.from < first.until {
            return None;
        }
        let over = self.stretches.pop_front()?;
        // What is still counted could not be read.
        self.paged -= over.paged;
        self.paged_body_bytes -= over.paged_body_bytes;
        self.kept -= over.kept.messages.len();
        self.memory_bytes -= over.memory_bytes;
        if self.stretches.is_empty() {
            self.stretches = VecDeque::new();
        }
        Some(over.kept)
    }

    #[cfg(test)]
    pub(super) fn paged_ranges(&self) -> Vec<std::ops::Range<u64>> {
        self.stretches
            .iter()
            .map(|stretch| stretch.from.0..stretch.until.0)
            .collect()
    }
}
