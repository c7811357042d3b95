//! Queues that have something to do by themselves, and when: give up what has expired, bring back what had to wait, end.
//!
//! A queue has one deadline, the earliest of all that it knows of ([`Queue::next_due_millis`]), and none as long as it has
//! nothing to do with time. Whoever works on a queue tells the deadline if it has become earlier, before the queue is unlocked.
//! When it has come, the [timer](crate::timer) calls [`Vhost::do_what_is_due`], and that calls [`Queue::do_what_is_due`] with the
//! queue locked. Times are milliseconds since 1970, so that a restart changes nothing about them.
//!
//! The lock of the list is a leaf.
//!
//! [`Queue::next_due_millis`]: crate::queue::Queue::next_due_millis
//! [`Queue::do_what_is_due`]: crate::queue::Queue::do_what_is_due

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use leveret_storage::QueueId;
use parking_lot::Mutex;

use super::effects::Scratch;
use super::{QueueHandle, Vhost};
use crate::timer::Timer;

/// The deadline of what has none.
pub const NEVER: u64 = u64::MAX;

/// Deadlines are met within this time, so that much that is due at about the same time is done at once.
const TICK_MILLIS: u64 = 10;
/// So many queues are called before others have their turn.
const DUE_BATCH_QUEUES: usize = 64;

/// The deadlines of the queues of a virtual host.
pub struct Deadlines {
    queues: Mutex<BTreeMap<(u64, QueueId), Weak<QueueHandle>>>,
    timer: Arc<Timer>,
}

impl Deadlines {
    pub(super) fn new(timer: Arc<Timer>) -> Deadlines {
        Deadlines {
            queues: Mutex::default(),
            timer,
        }
    }

    /// Milliseconds since 1970.
    pub(super) fn now_millis(&self) -> u64 {
        self.timer.now_millis()
    }

    /// A queue wants to be called at `due_millis`, and no longer at `before_millis`.
    pub(super) fn set(&self, queue: &Weak<QueueHandle>, id: QueueId, before_millis: u64, due_millis: u64) {
        let due_millis = at_a_tick(due_millis);
        let mut queues = self.queues.lock();
        if before_millis != NEVER {
            queues.remove(&(at_a_tick(before_millis), id));
        }
        let is_first = queues
            .first_key_value()
            .is_none_or(|((first, _), _)| due_millis < *first);
        queues.insert((due_millis, id), queue.clone());
        drop(queues);
        if is_first {
            self.timer.wake();
        }
    }

    /// The first deadline of all.
    pub(super) fn next_millis(&self) -> Option<u64> {
        self.queues.lock().first_key_value().map(|((due, _), _)| *due)
    }

    fn take_due(&self, now_millis: u64) -> Vec<Weak<QueueHandle>> {
        let mut queues = self.queues.lock();
        let mut taken = Vec::new();
        while taken.len() < DUE_BATCH_QUEUES
            && let Some(first) = queues.first_entry()
            && first.key().0 <= now_millis
        {
            taken.push(first.remove());
        }
        taken
    }
}

fn at_a_tick(millis: u64) -> u64 {
    millis.div_ceil(TICK_MILLIS).saturating_mul(TICK_MILLIS)
}

impl Vhost {
    /// When there is something to do next: a delayed message to deliver, a queue to call, or a copy to publish.
    pub fn next_due_millis(&self) -> Option<u64> {
        let delayed = self.delayed.next_due_millis();
        let queues = self.deadlines.next_millis();
        if self.has_seen() {
            return Some(0);
        }
        delayed.into_iter().chain(queues).min()
    }

    /// Delivers delayed messages and calls queues whose time has come, and publishes copies for the firehose: some of them; how many.
    pub fn do_what_is_due(&self, now_millis: u64) -> usize {
        self.deliver_due(now_millis) + self.call_queues(now_millis) + self.publish_what_was_seen()
    }

    fn call_queues(&self, now_millis: u64) -> usize {
        let due = self.deadlines.take_due(now_millis);
        let mut scratch = Scratch::default();
        for queue in due.iter().filter_map(Weak::upgrade) {
            self.call_queue(&queue, &mut scratch);
        }
        due.len()
    }

    /// Lets one queue do what is due, which may be to end. What it gives up goes to its dead-letter exchange with the same write.
    fn call_queue(&self, queue: &Arc<QueueHandle>, scratch: &mut Scratch) {
        if queue.is_abandoned() && self.delete_queue_if_abandoned(queue) {
            return;
        }
        if !queue.has_dead_letter_exchange() {
            queue.do_what_is_due(scratch);
            return;
        }
        let _hold = self.store.hold();
        self.publish_what_it_gives_up(queue, scratch, |scratch| queue.do_what_is_due(scratch));
    }
}
