//! A queue's side of flow control: whether its consumers are behind its publishers, and who waits for them.
//!
//! The list is looked at while its queue is locked, and nothing is locked while it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::QueueHandle;
use crate::queue::Counts;
use crate::session::outbox::Outbox;

/// With more ready messages than this the consumers of a queue are behind its publishers.
const BACKLOG_MESSAGES_MAX: usize = 32 * 1024;
/// The same in bytes of their bodies.
const BACKLOG_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// The publishers go on when one part in so many of that is gone: short pauses keep both sides busy.
const BACKLOG_STEP_DIVISOR: usize = 8;

/// How a queue stands between its publishers and its consumers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Demand {
    /// Nobody consumes: the queue is there to keep messages.
    #[default]
    None,
    /// The consumers have nothing to take, or soon will.
    Near,
    /// More waits than consumers, who have their hands full, can take for a while.
    Behind {
        /// Ready messages.
        ready: usize,
        /// Bytes of bodies that the last batch added to them.
        grown_bytes: u64,
    },
}

impl Demand {
    /// The demand of a queue with these counts before and after a batch of publishes.
    pub fn of(before: &Counts, after: &Counts) -> Demand {
        if after.consumers == 0 {
            Demand::None
        } else if after.ready > BACKLOG_MESSAGES_MAX || after.ready_bytes > BACKLOG_BYTES_MAX {
            Demand::Behind {
                ready: after.ready,
                grown_bytes: after.ready_bytes.saturating_sub(before.ready_bytes),
            }
        } else {
            Demand::Near
        }
    }
}

/// Is so little ready that the publishers should go on?
pub fn is_short(counts: &Counts) -> bool {
    counts.ready <= BACKLOG_MESSAGES_MAX - BACKLOG_MESSAGES_MAX / BACKLOG_STEP_DIVISOR
        && counts.ready_bytes <= BACKLOG_BYTES_MAX - BACKLOG_BYTES_MAX / BACKLOG_STEP_DIVISOR as u64
}

/// The connections that wait until a queue is short again.
#[derive(Default)]
pub struct WaitingPublishers {
    any: AtomicBool,
    outboxes: Mutex<Vec<Outbox>>,
}

impl WaitingPublishers {
    /// Does anybody wait? Costs next to nothing.
    pub fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Enters a connection. The queue is locked, so that it cannot become short unnoticed meanwhile.
    pub fn add(&self, outbox: Outbox) {
        let mut outboxes = self.outboxes.lock();
        outboxes.push(outbox);
        self.any.store(true, Ordering::Relaxed);
    }

    /// Takes a connection off the list.
    pub fn remove(&self, outbox: &Outbox) {
        let mut outboxes = self.outboxes.lock();
        outboxes.retain(|waiting| !waiting.is(outbox));
        self.any.store(!outboxes.is_empty(), Ordering::Relaxed);
    }

    /// Takes all off the list, to be told without any lock.
    pub fn take(&self) -> Vec<Outbox> {
        let mut outboxes = self.outboxes.lock();
        self.any.store(false, Ordering::Relaxed);
        std::mem::take(&mut outboxes)
    }
}

/// A connection's place on the list of one queue, given back when it is dropped.
pub struct Wait {
    queue: Arc<QueueHandle>,
    outbox: Outbox,
}

impl Wait {
    /// Lets a connection wait until the queue is short; none if it is already.
    pub fn start(queue: Arc<QueueHandle>, outbox: &Outbox) -> Option<Wait> {
        let outbox = outbox.clone();
        queue.add_waiting(&outbox).then_some(Wait { queue, outbox })
    }

    /// Messages that the queue's consumers took since it was made.
    pub fn taken(&self) -> u64 {
        self.queue.taken()
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.queue.remove_waiting(&self.outbox);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(consumers: usize, ready: usize, ready_bytes: u64) -> Counts {
        Counts {
            consumers,
            ready,
            ready_bytes,
            ..Counts::default()
        }
    }

    fn demand(consumers: usize, ready: usize, ready_bytes: u64) -> Demand {
        Demand::of(&counts(consumers, 0, 0), &counts(consumers, ready, ready_bytes))
    }

    #[test]
    fn consumers_are_behind_by_messages_or_by_bytes() {
        let (messages, bytes) = (BACKLOG_MESSAGES_MAX, BACKLOG_BYTES_MAX);
        assert_eq!(demand(1, messages, bytes), Demand::Near);
        assert!(matches!(
            demand(1, messages + 1, 7),
            Demand::Behind { grown_bytes: 7, .. }
        ));
        assert!(matches!(demand(1, 1, bytes + 1), Demand::Behind { ready: 1, .. }));
    }

    #[test]
    fn a_queue_without_consumers_keeps_nobody_waiting() {
        assert_eq!(demand(0, usize::MAX, u64::MAX), Demand::None);
    }

    #[test]
    fn publishers_go_on_when_an_eighth_of_the_backlog_is_gone() {
        let (messages, bytes) = (BACKLOG_MESSAGES_MAX / 8 * 7, BACKLOG_BYTES_MAX / 8 * 7);
        assert!(is_short(&counts(1, messages, bytes)));
        assert!(!is_short(&counts(1, messages + 1, bytes)));
        assert!(!is_short(&counts(1, messages, bytes + 1)));
    }
}
