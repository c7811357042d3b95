//! Messages on their way in and out: publish, hand to consumers, basic.get.

use super::consumers::{ConsumerKey, Taker};
use super::ready::{Entry, History};
use super::unacked::UnackedMessage;
use super::{Delivery, NO_SLOT, Position, Queue, QueueGone, QueueMessage, Sink, Slot};

/// What became of a batch of published messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishOutcome {
    /// Messages that the queue took. A deleted queue takes none and rejects none: its messages are dropped and count
    /// as confirmed.
    pub accepted: usize,
    /// Indices in the batch of messages that a full queue refused, in rising order; their publishers get a
    /// basic.nack.
    pub rejected: Vec<usize>,
}

/// The answer to basic.get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got<M> {
    pub position: Position,
    /// [`NO_SLOT`] when `no_ack`.
    pub slot: Slot,
    pub redelivered: bool,
    /// How many earlier deliveries failed.
    pub delivery_count: u32,
    pub message: M,
    /// Ready messages left after this one.
    pub ready: usize,
}

impl<M: QueueMessage, C> Queue<M, C> {
    /// Enqueues a batch. One message is wholly dealt with (see [`Sink::persist`]) before the next is drawn from the
    /// iterator.
    pub fn publish<S>(&mut self, messages: impl IntoIterator<Item = M>, sink: &mut S) -> PublishOutcome
    where
        S: Sink<M, C> + ?Sized,
    {
        let mut outcome = PublishOutcome::default();
        if self.deleted {
            return outcome;
        }
        for message in messages {
            self.publish_one(message, sink);
            outcome.accepted += 1;
        }
        self.totals.published += outcome.accepted as u64;
        self.finish(sink);
        outcome
    }

    /// Takes the next message for basic.get. Prefetch limits and consumers do not matter here.
    pub fn get<S>(&mut self, no_ack: bool, sink: &mut S) -> Result<Option<Got<M>>, QueueGone>
    where
        S: Sink<M, C> + ?Sized,
    {
        if self.deleted {
            return Err(QueueGone);
        }
        let slot = if no_ack {
            Some(NO_SLOT)
        } else {
            self.unacked.vacant_slot()
        };
        let (Some(slot), Some(entry)) = (slot, self.ready.pop()) else {
            return Ok(None);
        };
        let Entry {
            position,
            history,
            message,
        } = entry;
        let got = Got {
            position,
            slot,
            redelivered: history.redelivered,
            delivery_count: history.delivery_count,
            message: message.clone(),
            ready: self.ready.len(),
        };
        self.totals.redelivered += u64::from(history.redelivered);
        if no_ack {
            self.totals.got_no_ack += 1;
            self.settle_if_persisted(position, &message, sink);
        } else {
            self.totals.got += 1;
            self.keep_unacked(position, message, history, None);
        }
        self.finish(sink);
        Ok(Some(got))
    }

    /// Hands out ready messages while there are consumers that take them.
    pub(super) fn dispatch<S: Sink<M, C> + ?Sized>(&mut self, sink: &mut S) {
        while let Some(taker) = self.offer_head(sink) {
            let Some(Entry {
                position,
                history,
                message,
            }) = self.ready.pop()
            else {
                break;
            };
            self.count_delivery(taker, history);
            match taker {
                Taker::NoAck => self.settle_if_persisted(position, &message, sink),
                Taker::Settles(consumer) => self.keep_unacked(position, message, history, Some(consumer)),
            }
        }
        self.finish(sink);
    }

    /// Ends every operation: what is said once per batch is said, what grew too big is given back.
    pub(super) fn finish<S: Sink<M, C> + ?Sized>(&mut self, sink: &mut S) {
        if std::mem::take(&mut self.delivered_up_to_is_news)
            && let Some(position) = self.delivered_up_to
        {
            sink.delivered_up_to(position);
        }
        self.ready.release_spare_memory();
        self.unacked.release_spare_memory();
    }

    pub(super) fn settle_if_persisted<S: Sink<M, C> + ?Sized>(&self, position: Position, message: &M, sink: &mut S) {
        if self.is_persisted(message) {
            sink.settle(position);
        }
    }

    fn publish_one<S: Sink<M, C> + ?Sized>(&mut self, message: M, sink: &mut S) {
        let position = self.next_position;
        self.next_position = Position(position.0 + 1);
        let taker = if self.ready.is_empty() {
            self.offer_new(position, &message, sink)
        } else {
            None
        };
        if let Some(taker) = taker {
            self.count_delivery(taker, History::default());
        }
        if taker == Some(Taker::NoAck) {
            return;
        }
        if self.is_persisted(&message) {
            sink.persist(position, &message);
        }
        match taker {
            Some(Taker::Settles(consumer)) => self.keep_unacked(position, message, History::default(), Some(consumer)),
            Some(Taker::NoAck) | None => self.ready.push(position, message),
        }
    }

    fn offer_new<S: Sink<M, C> + ?Sized>(&mut self, position: Position, message: &M, sink: &mut S) -> Option<Taker> {
        let slot = self.unacked.vacant_slot()?;
        let delivery = Delivery {
            position,
            slot,
            redelivered: false,
            delivery_count: 0,
            message,
            no_ack: false,
        };
        self.consumers.offer(&delivery, sink)
    }

    fn offer_head<S: Sink<M, C> + ?Sized>(&mut self, sink: &mut S) -> Option<Taker> {
        let Entry {
            position,
            history,
            message,
        } = self.ready.peek()?;
        let slot = self.unacked.vacant_slot()?;
        let History {
            redelivered,
            delivery_count,
        } = history;
        let delivery = Delivery {
            position,
            slot,
            redelivered,
            delivery_count,
            message,
            no_ack: false,
        };
        self.consumers.offer(&delivery, sink)
    }

    fn keep_unacked(&mut self, position: Position, message: M, history: History, consumer: Option<ConsumerKey>) {
        if self.is_persisted(&message) && self.delivered_up_to < Some(position) {
            self.delivered_up_to = Some(position);
            self.delivered_up_to_is_news = true;
        }
        self.unacked.insert(UnackedMessage {
            message,
            position,
            consumer,
            history,
        });
    }

    fn count_delivery(&mut self, taker: Taker, history: History) {
        match taker {
            Taker::NoAck => self.totals.delivered_no_ack += 1,
            Taker::Settles(_) => self.totals.delivered += 1,
        }
        self.totals.redelivered += u64::from(history.redelivered);
    }
}
