//! The effects of one step of a queue, on their way to outboxes and the store.
//!
//! Deliveries are encoded at once; what concerns the disk is collected in a [`Scratch`] and handed over when the step is done.

use std::num::NonZeroU64;
use std::task::Waker;

use leveret_storage::{BodyId, QueueId, RecoveredMessage, Store, Ticket, Weighed, Weight};

use super::QueueHandle;
use super::firehose::Who;
use crate::metrics::Counters;
use crate::protocol::message::{Message, StoredMessageError};
use crate::queue::{Accept, Delivery, DropReason, ExpiresAt, Load, Position, QueueMessage, Search, Sink};
use crate::session::outbox::{Consumer, OutboxGuard};

/// Buffers of one caller that are used again for each batch.
#[derive(Default)]
pub struct Scratch {
    persist: Vec<(Position, Message, ExpiresAt)>,
    spill: Vec<(Position, Message, ExpiresAt)>,
    /// The beginning of a stored message, for one that expires.
    stamped: Vec<u8>,
    /// With the size of the body.
    settled: Vec<(Position, usize)>,
    /// All below but these.
    purge: Option<(Position, Vec<(Position, usize)>)>,
    /// Spilled messages below are in memory again, or gone.
    pub(super) discard_below: Option<Position>,
    pub(super) loads: Vec<Load>,
    pub(super) search: Option<Search>,
    settled_spilled: Vec<Position>,
    requeued: Vec<(Position, u32)>,
    delivered_up_to: Option<Position>,
    /// Given up by a queue with a dead-letter exchange.
    pub(super) dropped: Vec<(Message, DropReason)>,
    /// Settlements are waited for too, as tx.commit does.
    pub durably: bool,
    /// The store is held, and the caller publishes what queues give up. Otherwise a queue with a dead-letter exchange keeps
    /// that until somebody calls it so.
    pub(super) held: bool,
    wakers: Vec<Waker>,
    delivered: Delivered,
    /// Messages that the last queue stored, counted as the deliveries are.
    stored: u64,
}

/// Deliveries of one batch, counted once at its end.
#[derive(Default)]
struct Delivered {
    manual_ack: u64,
    auto_ack: u64,
    redelivered: u64,
}

impl Scratch {
    /// What the last queue gave up and has a dead-letter exchange for.
    pub(super) fn take_dropped(&mut self) -> Vec<(Message, DropReason)> {
        std::mem::take(&mut self.dropped)
    }

    pub(super) fn submit(&mut self, store: &Store, queue: QueueId) -> Option<Ticket> {
        let nothing = self.persist.is_empty()
            && self.settled.is_empty()
            && self.requeued.is_empty()
            && self.delivered_up_to.is_none()
            && self.spill.is_empty()
            && self.settled_spilled.is_empty()
            && self.purge.is_none()
            && self.discard_below.is_none();
        if nothing {
            return None;
        }
        self.stored += (self.persist.len() + self.spill.len()) as u64;
        let mut writer = store.writer();
        for (position, message, expires_at) in self.persist.drain(..) {
            let parts = stored_parts(&message, expires_at, &mut self.stamped);
            let position = storage_position(position);
            if message.shares_body() {
                // Whoever asks and tells has the writer.
                let known = message.shared_body().map(BodyId);
                if let Some(stored) = writer.append_shared(queue, position, parts, known) {
                    message.set_shared_body(stored.0);
                }
            } else {
                writer.append(queue, position, &parts);
            }
        }
        for (position, message, expires_at) in self.spill.drain(..) {
            let parts = stored_parts(&message, expires_at, &mut self.stamped);
            writer.spill(queue, storage_position(position), &parts);
        }
        for settled in self.settled.drain(..) {
            if self.durably {
                writer.settle_durably(queue, weighed(settled));
            } else {
                writer.settle(queue, weighed(settled));
            }
        }
        if let Some((below, kept)) = self.purge.take() {
            let kept: Vec<Weighed> = kept.into_iter().map(weighed).collect();
            writer.purge(queue, storage_position(below), &kept);
        }
        for position in self.settled_spilled.drain(..) {
            writer.settle_spilled(queue, storage_position(position));
        }
        if let Some(below) = self.discard_below.take() {
            writer.discard(queue, storage_position(below));
        }
        for (position, delivery_count) in self.requeued.drain(..) {
            writer.requeued(queue, storage_position(position), delivery_count);
        }
        if let Some(position) = self.delivered_up_to.take() {
            writer.delivered(queue, storage_position(position));
        }
        Some(writer.submit()).filter(|ticket| *ticket != Ticket::NONE)
    }

    pub(super) fn finish(&mut self, counters: &Counters) {
        let delivered = std::mem::take(&mut self.delivered);
        counters.delivered(delivered.manual_ack, delivered.auto_ack, delivered.redelivered);
        match std::mem::take(&mut self.stored) {
            0 => {}
            stored => counters.disk_writes.inc_by(stored),
        }
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}

/// A message's stored form, with the time of its expiry; that is put together with the first part, which must tell the weight.
fn stored_parts<'a>(message: &'a Message, expires_at: ExpiresAt, stamped: &'a mut Vec<u8>) -> [&'a [u8]; 2] {
    let [first, second] = message.stored_parts();
    let Some(expires_at) = expires_at else {
        return [first, second];
    };
    stamped.clear();
    Message::put_stored_expiry(expires_at, stamped);
    stamped.extend_from_slice(first);
    [stamped, second]
}

pub(super) fn storage_position(position: Position) -> leveret_storage::Position {
    leveret_storage::Position(position.0)
}

/// A message that the store shows. If others have its body too, it knows as what that is stored.
pub(super) fn message_of(stored: &RecoveredMessage<'_>) -> Result<Message, StoredMessageError> {
    let message = Message::from_stored(stored.payload)?;
    if let Some(body) = stored.body {
        message.set_shared_body(body.0);
    }
    Ok(message)
}

/// A message as the store weighs it: see [`weigh`].
fn weighed((position, body_len): (Position, usize)) -> Weighed {
    Weighed {
        position: storage_position(position),
        body_bytes: body_len as u32,
    }
}

/// The size of the body of a stored message, of which at least everything but the body must be there, and when it expires.
/// Bodies are far smaller than the 4 GiB at which this would be wrong.
pub fn weigh(stored: &[u8]) -> Weight {
    let (expires_at, _) = Message::split_stored_expiry(stored);
    Weight {
        body_bytes: Message::stored_body_len(stored) as u32,
        expires_at: expires_at.map_or(leveret_storage::NEVER, NonZeroU64::get),
    }
}

/// The queue's effects on their way to outboxes and the store.
pub struct Effects<'a> {
    pub(super) scratch: &'a mut Scratch,
    guard: Option<OutboxGuard>,
    durable: bool,
    /// Somebody wants to see what is delivered.
    traced: bool,
    queue: &'a QueueHandle,
    /// Read when it was first asked for.
    now_millis: Option<u64>,
}

impl<'a> Effects<'a> {
    /// Of one step of this queue.
    pub(super) fn new(queue: &'a QueueHandle, scratch: &'a mut Scratch) -> Self {
        Effects {
            scratch,
            guard: None,
            durable: queue.properties.durable,
            traced: queue.firehose.is_on(),
            queue,
            now_millis: None,
        }
    }

    pub(super) fn release_outbox(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            self.scratch.wakers.extend(guard.take_waker());
        }
    }
}

impl Sink<Message, Consumer> for Effects<'_> {
    fn now_millis(&mut self) -> u64 {
        *self.now_millis.get_or_insert_with(|| self.queue.deadlines.now_millis())
    }

    fn deliver(&mut self, consumer: &Consumer, delivery: Delivery<'_, Message>) -> Accept {
        let guard = match &mut self.guard {
            Some(guard) if consumer.outbox.is_held_by(guard) => guard,
            _ => {
                self.release_outbox();
                self.guard.insert(consumer.outbox.lock_owned())
            }
        };
        let accept = guard.deliver(consumer, &delivery);
        if accept == Accept::Taken {
            let counts = &mut self.scratch.delivered;
            if consumer.no_ack {
                counts.auto_ack += 1;
            } else {
                counts.manual_ack += 1;
            }
            counts.redelivered += u64::from(delivery.redelivered);
            if self.traced {
                let who = || Who::Connection(consumer.connection.clone(), consumer.channel);
                self.queue.trace_delivery(delivery.message, delivery.redelivered, who);
            }
        }
        accept
    }

    fn persist(&mut self, position: Position, message: &Message, expires_at: ExpiresAt) {
        self.scratch.persist.push((position, message.clone(), expires_at));
    }

    fn spill(&mut self, position: Position, message: &Message, expires_at: ExpiresAt) {
        self.scratch.spill.push((position, message.clone(), expires_at));
    }

    fn load(&mut self, load: Load) {
        self.scratch.loads.push(load);
    }

    fn search(&mut self, search: Search) {
        self.scratch.search = Some(search);
    }

    fn settle_spilled(&mut self, position: Position, _message: &Message) {
        self.scratch.settled_spilled.push(position);
    }

    fn late(&mut self, consumer: &Consumer, slot: u32, position: Position) {
        self.release_outbox();
        let mut outbox = consumer.outbox.lock();
        let tag = outbox
            .consumer_tag(consumer.channel, consumer.origin)
            .unwrap_or_default();
        outbox.deliveries_late(consumer, slot, position);
        self.scratch.wakers.extend(outbox.take_waker());
        drop(outbox);
        tracing::warn!(
            queue = %self.queue.name, vhost = %self.queue.vhost, consumer = tag, channel = consumer.channel,
            "a delivery was not acknowledged in time and goes back"
        );
    }

    fn settle(&mut self, position: Position, body_len: usize) {
        self.scratch.settled.push((position, body_len));
    }

    fn purge(&mut self, below: Position, kept: Vec<(Position, usize)>) {
        self.scratch.discard_below = Some(below);
        if self.durable {
            self.scratch.purge = Some((below, kept));
        }
    }

    fn delivered_up_to(&mut self, position: Position) {
        self.scratch.delivered_up_to = Some(position);
    }

    fn requeued(&mut self, position: Position, delivery_count: u32) {
        if self.durable {
            self.scratch.requeued.push((position, delivery_count));
        }
    }

    fn dropped(&mut self, message: Message, reason: DropReason) {
        if self.queue.has_dead_letter_exchange() {
            self.scratch.dropped.push((message, reason));
        }
    }
}

impl QueueMessage for Message {
    #[inline]
    fn body_len(&self) -> usize {
        Message::body_len(self)
    }

    #[inline]
    fn is_persistent(&self) -> bool {
        Message::is_persistent(self)
    }

    #[inline]
    fn priority(&self) -> u8 {
        Message::priority(self)
    }

    #[inline]
    fn memory_size(&self) -> usize {
        Message::memory_size(self)
    }

    #[inline]
    fn time_to_live_millis(&self) -> Option<u64> {
        self.expiration_millis()
    }
}
