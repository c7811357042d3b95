//! A queue at one moment, for lists and metrics: what its lock is held for is to copy numbers, and to count a reference.

use super::QueueHandle;
use crate::protocol::message::Message;
use crate::queue::{Counts, Totals, Whereabouts};

/// What there is in a queue and what happened there.
#[derive(Clone, Default)]
pub struct QueueMoment {
    pub counts: Counts,
    pub totals: Totals,
    pub whereabouts: Whereabouts,
    /// The ready message that leaves next, if it is in memory.
    head: Option<Message>,
}

impl QueueMoment {
    /// Adds another queue, of which the head does not matter.
    pub fn add(&mut self, other: &QueueMoment) {
        self.counts = self.counts.plus(other.counts);
        self.whereabouts = self.whereabouts.plus(other.whereabouts);
    }

    /// The `timestamp` of the message that leaves next, in seconds since 1970, if that is in memory and has one.
    pub fn head_timestamp(&self) -> Option<u64> {
        self.head.as_ref()?.timestamp()
    }
}

impl QueueHandle {
    /// The queue at this moment.
    pub fn moment(&self) -> QueueMoment {
        let queue = self.lock();
        QueueMoment {
            counts: queue.counts(),
            totals: queue.totals(),
            whereabouts: queue.whereabouts(),
            head: queue.head().cloned(),
        }
    }
}
