//! A queue as the rest of the broker holds it: the lock around the pure [`Queue`], and what its effects become.
//!
//! Every method takes the lock once for a whole batch. While it is held, deliveries are encoded into the outboxes of
//! their consumers' connections; what concerns the disk is collected and handed to the store before the lock is
//! released, so that the store sees a queue's positions in order. Connections are woken after the lock is free.
//!
//! Lock order: this queue, then one outbox; the store's pending batch only after the outbox is released.

use std::sync::{Arc, Weak};

use leveret_storage::{QueueId, Store, Ticket};
use parking_lot::{MappedMutexGuard, Mutex, MutexGuard};

use super::Vhost;
use super::deadlines::{Deadlines, NEVER};
use super::effects::{Effects, Scratch};
use super::firehose::Firehose;
use super::paging::{ExpiredOnDisk, Paging};
use super::rules::Rules;
use crate::broker::ConnectionId;
use crate::metrics::Counters;
use crate::protocol::message::Message;
use crate::queue::{
    ConsumeError, ConsumerKey, ConsumerSpec, Counts, Deleted, GetOutcome, Load, Loaded, Position, Queue,
    QueueArguments, QueueGone, QueueOptions, Recovered, Totals,
};
use crate::session::outbox::{Consumer, Event, Outbox, wake};
use crate::vhost::flow::{self, Demand, WaitingPublishers};

/// What is fixed about a queue when it is declared.
pub struct QueueProperties {
    /// Survives a restart.
    pub durable: bool,
    /// The only connection that may use it, and with which it ends.
    pub exclusive_owner: Option<ConnectionId>,
    /// Deleted when its last consumer leaves.
    pub auto_delete: bool,
    /// Its arguments, checked, as it was declared. Those that can be altered are in [`QueueHandle::arguments`].
    pub arguments: QueueArguments,
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
    pub(super) rules: Rules,
    state: Mutex<State>,
    waiting_publishers: WaitingPublishers,
    /// Had by whoever publishes what the queue gives up, since before it does, so that the letters keep their order.
    pub(super) dead_letter_lane: Mutex<()>,
    pub(super) store: Store,
    counters: Arc<Counters>,
    pub(super) paging: Arc<Paging>,
    pub(super) deadlines: Arc<Deadlines>,
    pub(super) firehose: Arc<Firehose>,
    /// For loads and deadlines, which outlive the call that asks for them.
    this: Weak<QueueHandle>,
}

/// What the lock guards.
struct State {
    queue: Queue<Message, Consumer>,
    /// Connections whose basic.get waits for a load.
    waiting_gets: Vec<Outbox>,
    /// The memory that was last reported to `Paging`.
    reported_bytes: u64,
    /// Messages that have expired on disk, to be given up by whoever calls the queue next.
    expired_on_disk: Option<ExpiredOnDisk>,
    /// The deadline that was last told to `Deadlines`.
    due_millis: u64,
}

/// What all queues need.
#[derive(Clone)]
pub struct Services {
    /// Where messages are durable, or spilled.
    pub store: Store,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// How much memory there is, and who loads.
    pub paging: Arc<Paging>,
}

/// What a batch of publishes to one queue led to.
#[derive(Default)]
pub struct Published {
    /// The commit that makes the batch's persistent messages durable.
    pub ticket: Option<Ticket>,
    /// How the queue stands now.
    pub demand: Demand,
    /// Indices in the batch of messages that the queue refused because it is full, in rising order.
    pub rejected: Vec<usize>,
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
    /// A new, empty queue of a virtual host.
    pub fn new(
        id: QueueId,
        index: u32,
        name: Arc<str>,
        properties: QueueProperties,
        vhost: &Vhost,
    ) -> Arc<QueueHandle> {
        let first_position = Position(vhost.store.next_position(id).0);
        let options = QueueOptions {
            durable: properties.durable,
            max_priority: properties.arguments.max_priority.unwrap_or(0),
            single_active_consumer: properties.arguments.single_active_consumer,
            first_position,
        };
        let state = State {
            queue: Queue::new(options),
            waiting_gets: Vec::new(),
            reported_bytes: 0,
            expired_on_disk: None,
            due_millis: NEVER,
        };
        Arc::new_cyclic(|this| QueueHandle {
            id,
            index,
            name,
            vhost: vhost.name.clone(),
            rules: Rules::new(&properties.arguments),
            properties,
            state: Mutex::new(state),
            waiting_publishers: WaitingPublishers::default(),
            dead_letter_lane: Mutex::new(()),
            store: vhost.store.clone(),
            counters: vhost.counters.clone(),
            paging: vhost.paging.clone(),
            deadlines: vhost.deadlines.clone(),
            firehose: vhost.firehose.clone(),
            this: this.clone(),
        })
    }

    /// Enqueues a batch in order and delivers what consumers have credit for. A deleted queue takes nothing.
    pub fn publish(&self, messages: &mut Vec<Message>, scratch: &mut Scratch) -> Published {
        let (ticket, (demand, rejected)) = self.with(scratch, |queue, sink| {
            let before = queue.counts();
            let outcome = queue.publish(messages.drain(..), sink);
            (Demand::of(&before, &queue.counts()), outcome.rejected)
        });
        Published {
            ticket,
            demand,
            rejected,
        }
    }

    /// Settles deliveries given by slot and position. What is given up for a dead-letter exchange is in the scratch afterwards:
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

    /// Does what the queue has to do by itself by now. What it gives up for a dead-letter exchange is in the scratch afterwards,
    /// if that is [held](Scratch::held).
    pub(super) fn do_what_is_due(&self, scratch: &mut Scratch) -> Option<Ticket> {
        let mut state = self.state.lock();
        // Its deadline is over; another is told when this is done.
        state.due_millis = NEVER;
        let mut on_disk = state
            .expired_on_disk
            .take_if(|_| scratch.held || !self.has_dead_letter_exchange());
        drop(state);
        let (ticket, done) = self.with(scratch, |queue, sink| {
            let done = on_disk
                .as_mut()
                .is_some_and(|on_disk| queue.found(on_disk.take(), sink));
            queue.do_what_is_due(sink);
            done
        });
        if let Some(on_disk) = on_disk.filter(|_| done) {
            on_disk.say_done(&mut self.store.writer(), self.id);
        }
        ticket
    }

    /// Whether it has put something aside for its dead-letter exchange.
    pub(super) fn keeps_dead_letters(&self) -> bool {
        self.has_dead_letter_exchange() && self.lock().has_given_up()
    }

    /// The load for which what it gives up waits, if it does.
    pub(super) fn letters_on_disk(&self) -> Option<Load> {
        self.lock().load_of_given_up()
    }

    /// Has the queue give up for its dead-letter exchange what it has put aside; it is in the scratch afterwards.
    pub(super) fn release_given_up(&self, scratch: &mut Scratch) -> Option<Ticket> {
        // That happens at the beginning of any step.
        self.with(scratch, |_, _| ()).0
    }

    /// Takes the answer to a search. Who gives up what was found is whoever does what is due.
    pub(super) fn found(&self, on_disk: ExpiredOnDisk) {
        let mut state = self.state.lock();
        if state.queue.waits_for(&on_disk.search()) {
            state.expired_on_disk = Some(on_disk);
            self.tell_deadline(&mut state);
        }
    }

    /// Takes back what the store has of the queue, at a start.
    pub(super) fn recover(&self, recovered: Vec<Recovered>) {
        self.with(&mut Scratch::default(), |queue, sink| {
            recovered.into_iter().for_each(|part| queue.recover(part));
            queue.cut_to_length(sink);
        });
    }

    /// Has the queue called in time.
    fn tell_deadline(&self, state: &mut State) {
        let due_millis = match state.expired_on_disk {
            Some(_) => 0,
            None => state.queue.next_due_millis(),
        };
        if due_millis < state.due_millis {
            self.deadlines.set(&self.this, self.id, state.due_millis, due_millis);
            state.due_millis = due_millis;
        }
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
        let mut scratch = Scratch::default();
        let (_, removed) = self.with(&mut scratch, |queue, sink| queue.remove_consumer(key, sink));
        removed.is_some_and(|removed| removed.was_last) && self.properties.auto_delete
    }

    /// Somebody has declared the queue again.
    pub(super) fn renew_lease(&self) {
        self.with(&mut Scratch::default(), |queue, sink| queue.renew_lease(sink));
    }

    /// Whether nobody has used it for as long as it may be unused.
    pub(super) fn is_abandoned(&self) -> bool {
        self.lock().is_abandoned(self.deadlines.now_millis())
    }

    /// Lets stalled consumers have deliveries again.
    pub fn resume(&self, keys: impl Iterator<Item = ConsumerKey>, scratch: &mut Scratch) {
        self.with(scratch, |queue, sink| queue.resume_all(keys, sink));
    }

    /// `basic.get`: takes the head of the queue. If that has to be loaded first, the connection gets [`Event::Loaded`] when it
    /// is worth asking again.
    pub fn get(
        &self,
        no_ack: bool,
        connection: &Outbox,
        scratch: &mut Scratch,
    ) -> Result<GetOutcome<Message>, QueueGone> {
        loop {
            let outcome = self.with(scratch, |queue, sink| queue.get(no_ack, sink)).1?;
            if !matches!(outcome, GetOutcome::Loading) {
                return Ok(outcome);
            }
            let mut state = self.state.lock();
            if state.queue.is_head_paged() {
                state.waiting_gets.push(connection.clone());
                return Ok(outcome);
            }
        }
    }

    /// Takes back paged messages.
    pub(super) fn loaded(&self, load: Load, loaded: Loaded<Message>, scratch: &mut Scratch) -> Option<Ticket> {
        self.counters.disk_reads.inc_by(loaded.messages.len() as u64);
        let (ticket, ()) = self.with(scratch, |queue, sink| {
            let until = loaded.until;
            queue.loaded(load, loaded, sink);
            // With priorities, others may have stayed.
            let discard_below = queue.first_paged().map_or(until, |first| first.min(until));
            sink.scratch.discard_below = Some(discard_below);
        });
        ticket
    }

    /// Drops all ready messages and says how many, and in which commit.
    pub fn purge(&self) -> (usize, Option<Ticket>) {
        let mut scratch = Scratch::default();
        let (ticket, count) = self.with(&mut scratch, |queue, sink| queue.purge(sink));
        (count, ticket)
    }

    /// Deletes the queue's content if `condition` holds for it; else its counts.
    pub fn delete_if(
        &self,
        condition: impl FnOnce(&Queue<Message, Consumer>) -> bool,
    ) -> Result<Deleted<Consumer>, Counts> {
        let mut state = self.state.lock();
        if !condition(&state.queue) {
            return Err(state.queue.counts());
        }
        let deleted = state.queue.delete();
        self.paging.report(&mut state.reported_bytes, 0);
        self.store.writer().discard_all(self.id);
        let waiting_gets = std::mem::take(&mut state.waiting_gets);
        drop(state);
        notify_loaded(waiting_gets);
        Ok(deleted)
    }

    /// The queue's counts at this moment.
    pub fn counts(&self) -> Counts {
        self.lock().counts()
    }

    /// Its counts and what happened in it so far, of one moment.
    pub fn counts_and_totals(&self) -> (Counts, Totals) {
        let queue = self.lock();
        (queue.counts(), queue.totals())
    }

    /// The message of an outstanding delivery, if it is in memory, and how many deliveries of it failed, for redelivering it to the same consumer.
    pub fn unacked_message(&self, slot: u32, position: Position) -> Option<(Message, u32)> {
        let queue = self.lock();
        let (message, history) = queue.unacked_message(slot, position)?;
        Some((message.clone(), history.delivery_count))
    }

    /// Whether a message of this queue is on disk, whatever else there is of it.
    #[inline]
    pub fn persists(&self, message: &Message) -> bool {
        self.properties.durable && message.is_persistent()
    }

    /// Lets a publisher wait until consumers have caught up; false when they have.
    pub fn add_waiting(&self, outbox: &Outbox) -> bool {
        let state = self.state.lock();
        let waits = !flow::is_short(&state.queue.counts());
        if waits {
            self.waiting_publishers.add(outbox.clone());
        }
        waits
    }

    /// A publisher waits no longer.
    pub fn remove_waiting(&self, outbox: &Outbox) {
        self.waiting_publishers.remove(outbox);
    }

    /// Messages that consumers took since the queue was made.
    pub fn taken(&self) -> u64 {
        let totals = self.lock().totals();
        totals.delivered + totals.delivered_no_ack
    }

    /// The state, for recovery and listings.
    pub fn lock(&self) -> MappedMutexGuard<'_, Queue<Message, Consumer>> {
        MutexGuard::map(self.state.lock(), |state| &mut state.queue)
    }

    /// Lets go what the queue has put aside, unless it has to wait for somebody who publishes it.
    #[inline]
    fn release_if_held(&self, queue: &mut Queue<Message, Consumer>, effects: &mut Effects<'_>) {
        if queue.has_given_up() && (effects.scratch.held || !self.has_dead_letter_exchange()) {
            queue.release_given_up(effects);
        }
    }

    /// Runs one pure step under the lock and carries out its effects.
    pub(super) fn with<R>(
        &self,
        scratch: &mut Scratch,
        step: impl FnOnce(&mut Queue<Message, Consumer>, &mut Effects<'_>) -> R,
    ) -> (Option<Ticket>, R) {
        // What nobody took, because a policy named a dead-letter exchange meanwhile, belongs to no other queue.
        scratch.dropped.clear();
        let mut locked = self.state.lock();
        let state = &mut *locked;
        // What a failed store does not take must stay in memory.
        let room = if self.store.has_failed() {
            u64::MAX.into()
        } else {
            self.paging.room()
        };
        state.queue.allow(room);
        let mut effects = Effects::new(self, scratch);
        // What was put aside before comes before what this step gives up.
        self.release_if_held(&mut state.queue, &mut effects);
        let result = step(&mut state.queue, &mut effects);
        self.release_if_held(&mut state.queue, &mut effects);
        effects.release_outbox();
        let ticket = effects.scratch.submit(&self.store, self.id);
        let caught_up = self.waiting_publishers.any() && flow::is_short(&state.queue.counts());
        self.paging
            .report(&mut state.reported_bytes, state.queue.memory_bytes());
        self.tell_deadline(state);
        let mut waiting_gets = Vec::new();
        if !state.waiting_gets.is_empty() && !state.queue.is_head_paged() {
            waiting_gets = std::mem::take(&mut state.waiting_gets);
        }
        drop(locked);
        if caught_up {
            self.waiting_publishers.take().iter().for_each(Outbox::flow_is_over);
        }
        for load in scratch.loads.drain(..) {
            self.paging.load(self.this.clone(), load);
        }
        if let Some(search) = scratch.search.take() {
            self.paging.search(self.this.clone(), search);
        }
        scratch.finish(&self.counters);
        notify_loaded(waiting_gets);
        (ticket, result)
    }
}

impl Drop for QueueHandle {
    fn drop(&mut self) {
        self.paging.report(&mut self.state.get_mut().reported_bytes, 0);
    }
}

fn notify_loaded(waiting: Vec<Outbox>) {
    for connection in waiting {
        connection.notify(Event::Loaded);
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
