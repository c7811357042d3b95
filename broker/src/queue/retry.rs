//! Messages that came back too late or too early: deliveries that nobody acknowledges in time return by themselves, and messages that
//! came back may have to wait before they are delivered again.
//!
//! What waits counts as ready, and no message stands behind it. It comes back to its place when its time has come, and at
//! once after a restart.

use std::collections::{BTreeMap, BTreeSet};

use super::kept::Kept;
use super::ready::History;
use super::unacked::UnackedMessage;
use super::{Amount, ConsumerKey, DelayedRetry, Position, Queue, QueueMessage, Sink, Slot};

/// So many deliveries and messages return in one operation, before others have their turn.
const RETURNED_BATCH_MESSAGES: usize = 4096;

/// Which messages that come back wait, and how long: `min_millis` for each delivery that failed, but no more than `max_millis`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryDelay {
    pub kind: DelayedRetry,
    pub min_millis: u64,
    pub max_millis: Option<u64>,
}

impl RetryDelay {
    /// How long a message waits whose deliveries failed so often; the last one perhaps did not.
    fn millis(&self, failed: bool, delivery_count: u32) -> u64 {
        let waits = match self.kind {
            DelayedRetry::Disabled => false,
            DelayedRetry::All => true,
            DelayedRetry::Failed => failed,
            DelayedRetry::Returned => !failed,
        };
        if !waits {
            return 0;
        }
        let millis = self.min_millis.saturating_mul(u64::from(delivery_count.max(1)));
        self.max_millis.map_or(millis, |max_millis| millis.min(max_millis))
    }
}

/// Messages that wait. Apart, because in most queues none ever does.
pub(super) struct Waiting<M>(Option<Box<WaitingList<M>>>);

struct WaitingList<M> {
    by_time: BTreeMap<(u64, Position), (Kept<M>, History)>,
    body_bytes: u64,
    memory_bytes: u64,
    on_disk: Amount,
}

impl<M: QueueMessage> Waiting<M> {
    pub(super) fn new() -> Self {
        Self(None)
    }

    pub(super) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |list| list.by_time.len())
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |list| list.body_bytes)
    }

    pub(super) fn memory_bytes(&self) -> u64 {
        self.0.as_ref().map_or(0, |list| list.memory_bytes)
    }

    /// Those that are on disk only.
    pub(super) fn on_disk(&self) -> Amount {
        self.0.as_ref().map_or(Amount::default(), |list| list.on_disk)
    }

    fn first_millis(&self) -> Option<u64> {
        let first = self.0.as_ref()?.by_time.first_key_value();
        first.map(|((millis, _), _)| *millis)
    }

    fn insert(&mut self, millis: u64, position: Position, history: History, kept: Kept<M>) {
        let list = self.0.get_or_insert_with(|| Box::new(WaitingList::new()));
        let sizes = kept.sizes();
        list.body_bytes += sizes.body;
        list.memory_bytes += sizes.memory;
        if let Kept::Disk(stub) = &kept {
            list.on_disk.add(stub.body_len as usize);
        }
        list.by_time.insert((millis, position), (kept, history));
    }

    fn take_due(&mut self, now_millis: u64) -> Option<(Position, Kept<M>, History)> {
        let list = self.0.as_mut()?;
        let first = list.by_time.first_entry().filter(|first| first.key().0 <= now_millis)?;
        let ((_, position), (kept, history)) = first.remove_entry();
        let sizes = kept.sizes();
        list.body_bytes -= sizes.body;
        list.memory_bytes -= sizes.memory;
        if let Kept::Disk(stub) = &kept {
            list.on_disk.take(stub.body_len as usize);
        }
        self.0.take_if(|list| list.by_time.is_empty());
        Some((position, kept, history))
    }
}

impl<M> WaitingList<M> {
    fn new() -> Self {
        Self {
            by_time: BTreeMap::new(),
            body_bytes: 0,
            memory_bytes: 0,
            on_disk: Amount::default(),
        }
    }
}

/// Deliveries that must be settled in time.
#[derive(Default)]
pub(super) struct Timeouts {
    by_time: BTreeSet<(u64, Position)>,
    by_position: BTreeMap<Position, (u64, Slot)>,
}

impl Timeouts {
    pub(super) fn insert(&mut self, millis: u64, position: Position, slot: Slot) {
        self.by_time.insert((millis, position));
        self.by_position.insert(position, (millis, slot));
    }

    pub(super) fn remove(&mut self, position: Position) {
        if let Some((millis, _)) = self.by_position.remove(&position) {
            self.by_time.remove(&(millis, position));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }

    fn first_millis(&self) -> Option<u64> {
        self.by_time.first().map(|(millis, _)| *millis)
    }

    fn take_due(&mut self, now_millis: u64) -> Option<(Slot, Position)> {
        let (_, position) = *self.by_time.first().filter(|(millis, _)| *millis <= now_millis)?;
        self.by_time.pop_first();
        let (_, slot) = self.by_position.remove(&position)?;
        Some((slot, position))
    }
}

impl<M: QueueMessage, C> Queue<M, C> {
    /// Says which messages wait before they are delivered again, of those that come back from now on.
    pub fn delay_retries(&mut self, delay: RetryDelay) {
        self.retry_delay = delay;
    }

    /// Says how long consumers that do not say it themselves may take to settle what is delivered from now on. What is late comes back, and the consumer is told by
    /// [`Sink::late`]. `None` is for ever.
    pub fn set_consumer_timeout(&mut self, millis: Option<u64>) {
        self.consumer_timeout_millis = millis;
        self.may_be_late |= millis.is_some();
    }

    /// How long a consumer may take to settle a delivery: what it says itself counts before what its queue says.
    pub(super) fn millis_to_settle(&self, consumer: ConsumerKey) -> Option<u64> {
        let own = self.consumers.timeout_millis(consumer);
        own.or(self.consumer_timeout_millis).filter(|millis| *millis > 0)
    }

    /// When the first message has waited long enough, or the first delivery is late.
    pub(super) fn next_return_millis(&self) -> Option<u64> {
        let late = self.timeouts.as_ref().and_then(|timeouts| timeouts.first_millis());
        self.waiting.first_millis().into_iter().chain(late).min()
    }

    /// Lets come back what has waited long enough, and what is late; some of it.
    pub(super) fn return_what_is_due<S: Sink<M, C> + ?Sized>(&mut self, now_millis: u64, sink: &mut S) {
        for _ in 0..RETURNED_BATCH_MESSAGES {
            let Some((position, kept, history)) = self.waiting.take_due(now_millis) else {
                break;
            };
            self.ready.put_back(position, history, kept);
        }
        for _ in 0..RETURNED_BATCH_MESSAGES {
            let timeouts = self.timeouts.as_mut();
            let Some((slot, position)) = timeouts.and_then(|timeouts| timeouts.take_due(now_millis)) else {
                break;
            };
            self.return_late(slot, position, sink);
        }
    }

    fn return_late<S: Sink<M, C> + ?Sized>(&mut self, slot: Slot, position: Position, sink: &mut S) {
        let consumer = self.unacked.consumer(slot, position);
        // What a cancelled consumer holds stays with its channel: there is nobody to tell that it is late.
        let Some(view) = consumer.and_then(|consumer| self.consumers.view(consumer)) else {
            return;
        };
        sink.late(&view.spec.handle, slot, position);
        let key = view.key;
        if let Some(entry) = self.unacked.remove(slot, position) {
            self.consumers.give_credit(key);
            self.take_back(entry, false, sink);
        }
    }

    /// Puts a message back to its place, or lets it wait for that.
    pub(super) fn take_back<S>(&mut self, entry: UnackedMessage<M>, failed: bool, sink: &mut S)
    where
        S: Sink<M, C> + ?Sized,
    {
        let delivery_count = entry.history.delivery_count.saturating_add(u32::from(failed));
        self.totals.requeued += 1;
        if self.is_kept_persisted(&entry.kept) {
            sink.requeued(entry.position, delivery_count);
        }
        let history = History {
            delivery_count,
            redelivered: true,
            ..entry.history
        };
        match self.retry_delay.millis(failed, delivery_count) {
            0 => self.ready.put_back(entry.position, history, entry.kept),
            millis => {
                let millis = sink.now_millis().saturating_add(millis);
                let kept = match entry.kept {
                    Kept::Memory(message) => {
                        let memory_size = message.memory_size() as u64;
                        self.keep(message, memory_size)
                    }
                    Kept::Disk(stub) => Kept::Disk(stub),
                };
                self.waiting.insert(millis, entry.position, history, kept);
            }
        }
    }
}
