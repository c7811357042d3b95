//! How messages end: acknowledged, requeued, rejected, purged, deleted with their queue.

use super::kept::Kept;
use super::leaving::Place;
use super::unacked::UnackedMessage;
use super::{Amount, DropReason, Position, Queue, QueueMessage, Sink, Slot};

/// What a deleted queue leaves behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted<C> {
    /// Who must be told with basic.cancel, in no particular order.
    pub consumers: Vec<C>,
    /// Ready messages that went with the queue, for delete-ok.
    pub ready: usize,
    /// Unacked messages that went with the queue. Settling them later is allowed and does nothing.
    pub unacked: usize,
}

impl<M: QueueMessage, C> Queue<M, C> {
    /// Settles messages for good and gives their consumers credit. Returns how many were unknown, which is none
    /// unless the caller erred.
    pub fn ack<S>(&mut self, messages: impl IntoIterator<Item = (Slot, Position)>, sink: &mut S) -> usize
    where
        S: Sink<M, C> + ?Sized,
    {
        self.settle_each(messages, sink, |queue, entry, sink| {
            queue.totals.acked += 1;
            queue.settle_kept(entry.position, &entry.kept, sink);
        })
    }

    /// Puts messages back to their places with the redelivered flag, then hands out what can be handed out.
    ///
    /// `failed` says whether this counts as a failed delivery: basic.reject and a lost consumer do, basic.nack is a
    /// polite return (RabbitMQ 4.3, quorum queues). What has failed too often by now is given up instead, with
    /// [`DropReason::DeliveryLimit`]. Returns how many were unknown.
    pub fn requeue<S>(
        &mut self,
        messages: impl IntoIterator<Item = (Slot, Position)>,
        failed: bool,
        sink: &mut S,
    ) -> usize
    where
        S: Sink<M, C> + ?Sized,
    {
        self.settle_each(messages, sink, |queue, entry, sink| {
            let delivery_count = entry.history.delivery_count.saturating_add(u32::from(failed));
            if failed && delivery_count > queue.delivery_limit {
                return queue.give_up(entry, DropReason::DeliveryLimit, sink);
            }
            queue.take_back(entry, failed, sink);
        })
    }

    /// Gives messages up: settled and dropped with [`DropReason::Rejected`]. Returns how many were unknown.
    pub fn reject<S>(&mut self, messages: impl IntoIterator<Item = (Slot, Position)>, sink: &mut S) -> usize
    where
        S: Sink<M, C> + ?Sized,
    {
        self.settle_each(messages, sink, |queue, entry, sink| {
            queue.give_up(entry, DropReason::Rejected, sink);
        })
    }

    /// Removes all ready messages and returns how many they were. Unacked messages stay.
    pub fn purge<S: Sink<M, C> + ?Sized>(&mut self, sink: &mut S) -> usize {
        let count = self.ready.len() + self.waiting.len();
        if count > 0 {
            let persisted = |entry: &&UnackedMessage<M>| self.is_kept_persisted(&entry.kept);
            let mut kept: Vec<_> = self
                .unacked
                .iter()
                .filter(persisted)
                .map(|entry| (entry.position, entry.kept.body_len()))
                .chain(self.given_up_on_disk())
                .collect();
            kept.sort_unstable();
            sink.purge(self.next_position, kept);
            self.persistent = self.persistent_unacked();
            self.ready.clear();
            self.waiting = super::Waiting::new();
        }
        self.totals.purged += count as u64;
        self.finish(sink);
        count
    }

    /// Empties the queue for ever. What is stored of it is the caller's to delete; nothing is settled one by one.
    pub fn delete(&mut self) -> Deleted<C> {
        let deleted = Deleted {
            consumers: self.consumers.remove_all(),
            ready: self.ready.len() + self.waiting.len(),
            unacked: self.unacked.len(),
        };
        self.ready.clear();
        self.waiting = super::Waiting::new();
        self.timeouts = None;
        self.unacked = super::Unacked::new();
        self.persistent = Amount::default();
        self.given_up = None;
        self.deleted = true;
        deleted
    }

    fn persistent_unacked(&self) -> Amount {
        let mut sum = Amount::default();
        let persisted = self.unacked.iter().filter(|entry| self.is_kept_persisted(&entry.kept));
        persisted.for_each(|entry| sum.add(entry.kept.body_len()));
        sum
    }

    fn give_up<S>(&mut self, entry: UnackedMessage<M>, reason: DropReason, sink: &mut S)
    where
        S: Sink<M, C> + ?Sized,
    {
        self.totals.rejected += 1;
        match entry.kept {
            // Nothing is in its way, so it can go at once.
            Kept::Memory(message) if self.given_up.is_none() => {
                self.settle_if_persisted(entry.position, &message, sink);
                sink.dropped(message, reason);
            }
            kept @ Kept::Disk(_) if self.given_up.is_none() && !self.wants_dead_letters => {
                self.settle_kept(entry.position, &kept, sink);
            }
            kept => self.put_aside_from(Place::Here, entry.position, kept, reason),
        }
    }

    /// Takes messages out of the unacked ones, lets `end` decide their fate, and spends the credit that came free
    /// when all are dealt with.
    fn settle_each<S: Sink<M, C> + ?Sized>(
        &mut self,
        messages: impl IntoIterator<Item = (Slot, Position)>,
        sink: &mut S,
        mut end: impl FnMut(&mut Self, UnackedMessage<M>, &mut S),
    ) -> usize {
        if self.deleted {
            return 0;
        }
        let mut unknown = 0;
        for (slot, position) in messages {
            let Some(entry) = self.unacked.remove(slot, position) else {
                unknown += 1;
                continue;
            };
            if let Some(timeouts) = &mut self.timeouts {
                timeouts.remove(position);
            }
            if let Some(consumer) = entry.consumer {
                self.consumers.give_credit(consumer);
            }
            end(self, entry, sink);
        }
        self.drop_overflow(sink);
        self.dispatch(sink);
        unknown
    }
}
