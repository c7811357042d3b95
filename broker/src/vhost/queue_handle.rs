//! A queue as the rest of the broker holds it: the lock around the pure [`Queue`], and what its effects become.
//!
//! Every method takes the lock once for a whole batch. While it is held, deliveries are encoded into the outboxes of
//! their consumers' connections; what concerns the disk is collected and handed to the store before the lock is
//! released, so that the store sees a queue's positions in order. Connections are woken after the lock is free.
//!
//! Lock order: this queue, then one outbox; the store's pending batch only after the outbox is released.

use std::sync::Arc;
use std::task::Waker;

use leveret_storage::{QueueId, Store, Ticket};
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::broker::ConnectionId;
use crate::metrics::Counters;
use crate::policy::Applied;
use crate::protocol::message::Message;
use crate::queue::{
    Accept, ConsumeError, ConsumerKey, ConsumerSpec, Counts, Deleted, Delivery, DropReason, EffectiveArguments, Got,
    Position, Queue, QueueArguments, QueueGone, QueueMessage, QueueOptions, Sink,
};
use crate::session::outbox::{Consumer, Outbox, OutboxGuard, wake};
use crate::vhost::flow::{self, Demand, WaitingPublishers};

/// What is fixed about a queue when it is declared.
pub struct QueueProperties {
    /// Survives a restart.
    pub durable: bool,
    /// The only connection that may use it, and with which it ends.
    pub exclusive_owner: Option<ConnectionId>,
    /// Deleted when its last consumer leaves.
    pub auto_delete: bool,
    /// Its arguments, checked.
    pub arguments: QueueArguments,
}

/// The policies that apply to a queue, and what is in force by them and its arguments.
pub struct InForce {
    /// The policies.
    pub policies: Applied,
    /// What features of queues go by.
    pub arguments: EffectiveArguments,
}

/// One queue of a virtual host.
pub struct QueueHandle {
    /// The queue's incarnation in the store, never used again.
    pub id: QueueId,
    /// The small number by which the routing table knows it.
    pub index: u32,
    /// Its name.
    pub name: Arc<str>,
    /// The virtual host it belongs to.
    pub vhost: Arc<str>,
    /// How it was declared.
    pub properties: QueueProperties,
    policies: RwLock<Arc<InForce>>,
    state: Mutex<Queue<Message, Consumer>>,
    waiting: WaitingPublishers,
    store: Store,
    counters: Arc<Counters>,
}

/// What a batch of publishes to one queue led to.
#[derive(Default)]
pub struct Published {
    /// The commit that makes the batch's persistent messages durable.
    pub ticket: Option<Ticket>,
    /// How the queue stands now.
    pub demand: Demand,
}

/// How a delivery is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// `basic.ack`.
    Ack,
    /// Back to its place: `failed` counts it as a failed attempt (`basic.reject`), otherwise it was only returned.
    Requeue {
        /// Counts towards the delivery count.
        failed: bool,
    },
    /// Out of the queue, to be dead-lettered.
    Reject,
}

impl QueueHandle {
    /// A new, empty queue.
    pub fn new(
        id: QueueId,
        index: u32,
        name: Arc<str>,
        vhost: Arc<str>,
        properties: QueueProperties,
        store: Store,
        counters: Arc<Counters>,
    ) -> QueueHandle {
        let first_position = Position(store.next_position(id).0);
        let options = QueueOptions {
            durable: properties.durable,
            first_position,
        };
        let in_force = InForce {
            policies: Applied::default(),
            arguments: EffectiveArguments::merge(&properties.arguments, None, None),
        };
        QueueHandle {
            id,
            index,
            name,
            vhost,
            properties,
            policies: RwLock::new(Arc::new(in_force)),
            state: Mutex::new(Queue::new(options)),
            waiting: WaitingPublishers::default(),
            store,
            counters,
        }
    }

    /// The policies that apply, and the arguments in force.
    pub fn in_force(&self) -> Arc<InForce> {
        self.policies.read().clone()
    }

    /// Puts these policies in force, in place of those before.
    pub fn apply_policies(&self, policies: Applied) {
        let arguments = policies.effective_arguments(&self.properties.arguments);
        *self.policies.write() = Arc::new(InForce { policies, arguments });
    }

    /// Enqueues a batch in order and delivers what consumers have credit for. A deleted queue takes nothing.
    pub fn publish(&self, messages: &mut Vec<Message>, scratch: &mut Scratch) -> Published {
        let (ticket, demand) = self.with(scratch, |queue, sink| {
            let before = queue.counts();
            queue.publish(messages.drain(..), sink);
            Demand::of(&before, &queue.counts())
        });
        Published { ticket, demand }
    }

    /// Settles deliveries given by slot and position. What is rejected for a dead-letter exchange is in the scratch afterwards:
    /// see [`Vhost::settle`](super::Vhost::settle).
    pub fn settle(&self, settlement: Settlement, entries: &[(u32, Position)], scratch: &mut Scratch) -> Option<Ticket> {
        let entries = entries.iter().copied();
        let (ticket, _unknown) = self.with(scratch, |queue, sink| match settlement {
            Settlement::Ack => queue.ack(entries, sink),
            Settlement::Requeue { failed } => queue.requeue(entries, failed, sink),
            Settlement::Reject => queue.reject(entries, sink),
        });
        ticket
    }

    /// Whether what it gives up goes somewhere.
    pub fn has_dead_letter_exchange(&self) -> bool {
        self.policies.read().arguments.dead_letter_exchange.is_some()
    }

    /// Adds a consumer; `started` runs before its first delivery, with the queue locked.
    pub fn consume(&self, spec: ConsumerSpec<Consumer>, started: impl FnOnce(ConsumerKey)) -> Result<(), ConsumeError> {
        let mut scratch = Scratch::default();
        let (_, result) = self.with(&mut scratch, |queue, sink| {
            let key = queue.add_consumer(spec)?;
            started(key);
            queue.resume(key, sink);
            Ok(())
        });
        result
    }

    /// Removes a consumer. True when it was the last one of a queue that is deleted with its last consumer.
    pub fn cancel(&self, key: ConsumerKey) -> bool {
        let removed = self.lock().remove_consumer(key);
        removed.is_some_and(|removed| removed.was_last) && self.properties.auto_delete
    }

    /// Lets stalled consumers have deliveries again.
    pub fn resume(&self, keys: impl Iterator<Item = ConsumerKey>, scratch: &mut Scratch) {
        self.with(scratch, |queue, sink| queue.resume_all(keys, sink));
    }

    /// `basic.get`: takes the head of the queue.
    pub fn get(&self, no_ack: bool, scratch: &mut Scratch) -> Result<Option<Got<Message>>, QueueGone> {
        self.with(scratch, |queue, sink| queue.get(no_ack, sink)).1
    }

    /// Drops all ready messages and says how many.
    pub fn purge(&self) -> usize {
        let mut scratch = Scratch::default();
        let (_, count) = self.with(&mut scratch, |queue, sink| queue.purge(sink));
        count
    }

    /// Deletes the queue's content if `condition` holds for its counts; else the counts.
    pub fn delete_if(&self, condition: impl FnOnce(&Counts) -> bool) -> Result<Deleted<Consumer>, Counts> {
        let mut queue = self.lock();
        let counts = queue.counts();
        if condition(&counts) {
            Ok(queue.delete())
        } else {
            Err(counts)
        }
    }

    /// The queue's counts at this moment.
    pub fn counts(&self) -> Counts {
        self.lock().counts()
    }

    /// The message of an outstanding delivery, for redelivering it to the same consumer.
    pub fn unacked_message(&self, slot: u32, position: Position) -> Option<Message> {
        self.lock().unacked_message(slot, position).cloned()
    }

    /// Lets a publisher wait until consumers have caught up; false when they have.
    pub fn add_waiting(&self, outbox: &Outbox) -> bool {
        let queue = self.state.lock();
        let waits = !flow::is_short(&queue.counts());
        if waits {
            self.waiting.add(outbox.clone());
        }
        waits
    }

    /// A publisher waits no longer.
    pub fn remove_waiting(&self, outbox: &Outbox) {
        self.waiting.remove(outbox);
    }

    /// Messages that consumers took since the queue was made.
    pub fn taken(&self) -> u64 {
        let totals = self.lock().totals();
        totals.delivered + totals.delivered_no_ack
    }

    /// The state, for recovery and listings.
    pub fn lock(&self) -> MutexGuard<'_, Queue<Message, Consumer>> {
        self.state.lock()
    }

    /// Runs one pure step under the lock and carries out its effects.
    fn with<R>(
        &self,
        scratch: &mut Scratch,
        step: impl FnOnce(&mut Queue<Message, Consumer>, &mut Effects<'_>) -> R,
    ) -> (Option<Ticket>, R) {
        let mut queue = self.state.lock();
        let mut effects = Effects {
            scratch,
            guard: None,
            durable: self.properties.durable,
            queue: self,
        };
        let result = step(&mut queue, &mut effects);
        effects.release_outbox();
        let ticket = effects.scratch.submit(&self.store, self.id);
        let caught_up = self.waiting.any() && flow::is_short(&queue.counts());
        drop(queue);
        if caught_up {
            self.waiting.take().iter().for_each(Outbox::flow_is_over);
        }
        scratch.finish(&self.counters);
        (ticket, result)
    }
}

/// Buffers of one caller that are used again for each batch.
#[derive(Default)]
pub struct Scratch {
    persist: Vec<(Position, Message)>,
    settled: Vec<Position>,
    requeued: Vec<(Position, u32)>,
    delivered_up_to: Option<Position>,
    /// Given up by a queue with a dead-letter exchange.
    dropped: Vec<(Message, DropReason)>,
    /// Settlements are waited for too, as tx.commit does.
    pub durably: bool,
    wakers: Vec<Waker>,
    delivered: Delivered,
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

    fn submit(&mut self, store: &Store, queue: QueueId) -> Option<Ticket> {
        let nothing = self.persist.is_empty()
            && self.settled.is_empty()
            && self.requeued.is_empty()
            && self.delivered_up_to.is_none();
        if nothing {
            return None;
        }
        let mut writer = store.writer();
        for (position, message) in self.persist.drain(..) {
            writer.append(queue, storage_position(position), &message.stored_parts());
        }
        for position in self.settled.drain(..) {
            if self.durably {
                writer.settle_durably(queue, storage_position(position));
            } else {
                writer.settle(queue, storage_position(position));
            }
        }
        for (position, delivery_count) in self.requeued.drain(..) {
            writer.requeued(queue, storage_position(position), delivery_count);
        }
        if let Some(position) = self.delivered_up_to.take() {
            writer.delivered(queue, storage_position(position));
        }
        Some(writer.submit()).filter(|ticket| *ticket != Ticket::NONE)
    }

    fn finish(&mut self, counters: &Counters) {
        let delivered = std::mem::take(&mut self.delivered);
        counters.delivered(delivered.manual_ack, delivered.auto_ack, delivered.redelivered);
        for waker in self.wakers.drain(..) {
            waker.wake();
        }
    }
}

fn storage_position(position: Position) -> leveret_storage::Position {
    leveret_storage::Position(position.0)
}

/// The queue's effects on their way to outboxes and the store.
pub struct Effects<'a> {
    scratch: &'a mut Scratch,
    guard: Option<OutboxGuard>,
    durable: bool,
    queue: &'a QueueHandle,
}

impl Effects<'_> {
    fn release_outbox(&mut self) {
        if let Some(mut guard) = self.guard.take() {
            self.scratch.wakers.extend(guard.take_waker());
        }
    }
}

impl Sink<Message, Consumer> for Effects<'_> {
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
        }
        accept
    }

    fn persist(&mut self, position: Position, message: &Message) {
        self.scratch.persist.push((position, message.clone()));
    }

    fn settle(&mut self, position: Position) {
        self.scratch.settled.push(position);
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

/// Tells the consumers of a deleted queue that it is gone.
pub fn notify_cancelled(queue: QueueId, consumers: Vec<Consumer>) {
    for consumer in consumers {
        let waker = {
            let mut outbox = consumer.outbox.lock();
            outbox.consumer_cancelled(consumer.channel, consumer.origin, queue);
            outbox.take_waker()
        };
        wake(waker);
    }
}

impl QueueMessage for Message {
    fn body_len(&self) -> usize {
        Message::body_len(self)
    }

    fn is_persistent(&self) -> bool {
        Message::is_persistent(self)
    }

    fn priority(&self) -> u8 {
        Message::priority(self)
    }

    fn memory_size(&self) -> usize {
        Message::memory_size(self)
    }
}
