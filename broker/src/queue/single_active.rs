//! Single active consumer: which of a queue's consumers may have messages, when only one of them may.
//!
//! The first one that comes is active, until it leaves or one of a higher priority comes; then follows the one of the highest priority
//! that has waited longest. A consumer that has to make room for a higher one gets nothing more, and stays active until it has
//! settled what it has.

use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Those that go first are less: a higher priority, then an earlier arrival, which is the consumer's generation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Candidate {
    pub(super) priority: Reverse<i32>,
    pub(super) generation: u32,
    pub(super) index: u32,
}

#[derive(Default)]
pub(super) struct SingleActive {
    candidates: BTreeSet<Candidate>,
    active: Option<Candidate>,
}

impl SingleActive {
    pub(super) fn add(&mut self, candidate: Candidate) {
        self.candidates.insert(candidate);
    }

    pub(super) fn remove(&mut self, candidate: Candidate) {
        self.candidates.remove(&candidate);
        self.active = self.active.filter(|active| *active != candidate);
    }

    /// The active consumer, if there is any consumer.
    pub(super) fn active(&self) -> Option<u32> {
        self.active.map(|active| active.index)
    }

    /// Whether this is the active consumer, and none of a higher priority waits for its end.
    pub(super) fn may_take(&self, index: u32) -> bool {
        self.active() == Some(index) && !self.makes_room()
    }

    /// The consumer that is active from now on, if that changes. `unacked` is what the active one has not settled.
    pub(super) fn hand_over(&mut self, unacked: u32) -> Option<u32> {
        let is_over = self.active.is_none() || (unacked == 0 && self.makes_room());
        self.active = Some(*self.candidates.first().filter(|_| is_over)?);
        self.active()
    }

    fn makes_room(&self) -> bool {
        let highest = self.candidates.first().map(|first| first.priority);
        highest < self.active.map(|active| active.priority)
    }
}
