//! What leaves one connection, and who may put it there.
//!
//! The connection task owns its socket; everybody else reaches the connection through this: bytes to write, delivery
//! tags, and a few events. A queue that has a message for a consumer encodes it here while it holds its own lock, so
//! that the order of a queue is the order on the wire; the connection is woken once when the lock is released.
//!
//! ```text
//!   queue ──deliver──▶ ┌──────────────────────────────┐
//!   queue ──cancelled▶ │ bytes   channels: tag, unacked│ ──take_bytes──▶ connection task ──▶ socket
//!   store ──committed▶ │ stalled consumers   events    │
//!   server ──close──▶  └──────────────────────────────┘
//! ```
//!
//! Bounds: deliveries are refused above [`OUTBOX_BYTES_MAX`]; the refused consumer is remembered here, under the same
//! lock, and resumed by the connection when its bytes are gone. Replies are not refused: a client that does not read
//! them is not read either (`net::connection`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use amq_protocol::types::FieldTable;
use leveret_storage::{CommitListener, QueueId};
use parking_lot::lock_api::ArcMutexGuard;
use parking_lot::{Mutex, RawMutex};

use super::confirms::Confirmed;
use super::deliveries::{ChannelDeliveries, Shown, held_bytes};
use super::origin::Origin;
use super::stalled::{Pass, Stalled, StalledConsumers};
use super::stock;
use super::traffic::ChannelTraffic;
use crate::broker::ConnectionInfo;
use crate::metrics::{Flow, Publishes};
use crate::protocol::error::AmqpError;
use crate::protocol::hot;
use crate::protocol::message::Message;
use crate::protocol::rewrite::with_delivery_count;
use crate::queue::{Accept, ConsumerKey, Delivery, Position};
use crate::vhost::QueueHandle;
use crate::vhost::traffic::{ExchangeTraffic, Routed};

/// Deliveries wait in their queue while this many bytes wait for the socket.
pub const OUTBOX_BYTES_MAX: usize = 256 * 1024;

/// An empty buffer that grew beyond this goes to the [`stock`]; most connections are idle most of the time.
pub const KEPT_CAPACITY_BYTES: usize = 16 * 1024;

/// What a delivery may take beside its message: a consumer tag of any length, and the envelopes of three frames. A body in
/// more frames grows the buffer a little further.
const DELIVERY_ENVELOPE_BYTES: usize = 256 + 3 * 8 + 13;

/// One end of one connection's outbox; clones share it.
#[derive(Clone)]
pub struct Outbox {
    state: Arc<Mutex<OutboxState>>,
    signals: Arc<Signals>,
}

/// Set without the outbox's lock.
#[derive(Default)]
struct Signals {
    committed: AtomicBool,
    flow_over: AtomicBool,
}

/// A held outbox; a queue keeps it while consecutive messages go to the same connection.
pub type OutboxGuard = ArcMutexGuard<RawMutex, OutboxState>;

/// Everything behind the lock.
pub struct OutboxState {
    bytes: Vec<u8>,
    channels: Vec<Option<Box<ChannelDeliveries>>>,
    stalled: StalledConsumers<QueueHandle>,
    events: VecDeque<Event>,
    waker: Option<Waker>,
    frame_max: u32,
    closed: bool,
}

/// A channel as listings show it.
pub struct ChannelSummary {
    /// Its number.
    pub number: u16,
    /// Its consumers.
    pub consumers: usize,
    /// Deliveries that it has not acknowledged.
    pub unacked: usize,
    /// Limit of unacked deliveries to all its consumers together, 0 for none.
    pub prefetch_global: u16,
    /// What its session says of it.
    pub shown: Shown,
    /// What passed through it.
    pub flow: Flow<u64>,
    /// How fast.
    pub rates: Flow<f64>,
}

/// What others tell a connection.
pub enum Event {
    /// The queue of this consumer is gone.
    ConsumerCancelled {
        /// The consumer's channel.
        channel: u16,
        /// The consumer's place in its channel, which may be another's when the notice arrives.
        origin: u32,
        /// The queue.
        queue: QueueId,
    },
    /// Close the connection with this reason (operator, shutdown, deleted user or vhost).
    Close(AmqpError),
    /// The message that basic.get waits for may be there.
    Loaded,
    /// The memory or disk alarm changed.
    AlarmChanged,
}

/// How a queue reaches one consumer.
pub struct Consumer {
    /// The way to its client.
    pub outbox: Outbox,
    /// Its connection.
    pub connection: Arc<ConnectionInfo>,
    /// The channel it consumes on.
    pub channel: u16,
    /// Its place among the channel's origins.
    pub origin: u32,
    /// Deliveries need no acknowledgement.
    pub no_ack: bool,
}

impl Outbox {
    /// An empty outbox of a connection that has not negotiated anything yet.
    pub fn new(frame_max: u32) -> Outbox {
        Outbox {
            state: Arc::new(Mutex::new(OutboxState {
                bytes: Vec::new(),
                channels: Vec::new(),
                stalled: StalledConsumers::default(),
                events: VecDeque::new(),
                waker: None,
                frame_max,
                closed: false,
            })),
            signals: Arc::default(),
        }
    }

    /// Locks the outbox for a short pure step.
    pub fn lock(&self) -> parking_lot::MutexGuard<'_, OutboxState> {
        self.state.lock()
    }

    /// Locks the outbox with a guard that may outlive this borrow.
    pub fn lock_owned(&self) -> OutboxGuard {
        self.state.lock_arc()
    }

    /// Do both ends belong to the same connection?
    pub fn is(&self, other: &Outbox) -> bool {
        Arc::ptr_eq(&self.state, &other.state)
    }

    /// A number that no other open connection's outbox has, for look-ups.
    pub fn key(&self) -> usize {
        Arc::as_ptr(&self.state).addr()
    }

    /// Is this the outbox that `guard` holds?
    pub fn is_held_by(&self, guard: &OutboxGuard) -> bool {
        Arc::ptr_eq(&self.state, ArcMutexGuard::mutex(guard))
    }

    /// Tells the connection something and wakes it.
    pub fn notify(&self, event: Event) {
        let waker = {
            let mut state = self.lock();
            if state.closed {
                return;
            }
            state.events.push_back(event);
            state.waker.take()
        };
        wake(waker);
    }

    /// Has the store committed since the last call?
    pub fn take_committed(&self) -> bool {
        self.signals.committed.swap(false, Ordering::AcqRel)
    }

    /// Tells the connection that consumers have caught up with it, and wakes it.
    pub fn flow_is_over(&self) {
        self.signals.flow_over.store(true, Ordering::Release);
        let waker = self.lock().waker.take();
        wake(waker);
    }

    /// Have consumers caught up since the last call?
    pub fn take_flow_over(&self) -> bool {
        self.signals.flow_over.swap(false, Ordering::AcqRel)
    }

    /// Ready when there is an event, a commit, the end of a flow pause, or (if the caller can write) bytes to write; otherwise the task is woken later.
    pub fn poll_work(&self, context: &mut Context<'_>, can_write: bool) -> Poll<()> {
        let mut state = self.lock();
        let has_work = !state.events.is_empty()
            || (can_write && !state.bytes.is_empty())
            || self.signals.committed.load(Ordering::Acquire)
            || self.signals.flow_over.load(Ordering::Acquire);
        if has_work {
            return Poll::Ready(());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => state.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}

impl CommitListener for Outbox {
    fn committed(&self) {
        self.signals.committed.store(true, Ordering::Release);
        let waker = self.lock().waker.take();
        wake(waker);
    }
}

impl OutboxState {
    /// The reply buffer: whole frames are appended.
    pub fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes waiting for the socket.
    pub fn bytes_waiting(&self) -> usize {
        self.bytes.len()
    }

    /// Swaps the waiting bytes with `sending`, which must be empty; its capacity serves the next batch.
    pub fn take_bytes(&mut self, sending: &mut Vec<u8>) {
        debug_assert!(sending.is_empty(), "the last batch is written before the next is taken");
        if !self.bytes.is_empty() {
            std::mem::swap(&mut self.bytes, sending);
        } else if self.bytes.capacity() > KEPT_CAPACITY_BYTES {
            stock::give_back(std::mem::take(&mut self.bytes));
        }
    }

    /// Sets the frame size that the client accepts, in bytes with frame overhead.
    pub fn set_frame_max(&mut self, frame_max: u32) {
        self.frame_max = frame_max;
    }

    /// The negotiated frame size.
    pub fn frame_max(&self) -> u32 {
        self.frame_max
    }

    /// The next thing somebody told this connection.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Refuses deliveries from now on, so that none of its channels gets what another one gives back.
    pub fn take_nothing_more(&mut self) {
        for channel in self.channels.iter_mut().flatten() {
            channel.active = false;
        }
    }

    /// Refuses everything from now on: the socket is gone.
    pub fn close(&mut self) {
        self.closed = true;
        self.bytes = Vec::new();
        self.events.clear();
        self.stalled.clear();
    }

    /// Opens the delivery side of a channel.
    pub fn open_channel(&mut self, number: u16) {
        let index = usize::from(number);
        if self.channels.len() <= index {
            self.channels.resize_with(index + 1, || None);
        }
        self.channels[index] = Some(Box::default());
    }

    /// The delivery side of an open channel.
    pub fn channel(&mut self, number: u16) -> Option<&mut ChannelDeliveries> {
        self.channels.get_mut(usize::from(number))?.as_deref_mut()
    }

    /// Ends the delivery side of a channel and hands back what it held.
    pub fn close_channel(&mut self, number: u16) -> Option<Box<ChannelDeliveries>> {
        let channel = self.channels.get_mut(usize::from(number))?.take();
        self.stalled.forget_channel(number);
        while matches!(self.channels.last(), Some(None)) {
            self.channels.pop();
        }
        channel
    }

    /// The tag of a consumer.
    pub fn consumer_tag(&self, channel: u16, origin: u32) -> Option<String> {
        let channel = self.channels.get(usize::from(channel))?.as_deref()?;
        channel.origins.get(origin as usize)?.tag()
    }

    /// The arguments that a consumer was given, as they are kept.
    pub fn consumer_arguments(&self, channel: u16, origin: u32) -> Option<FieldTable> {
        let channel = self.channels.get(usize::from(channel))?.as_deref()?;
        channel.origins.get(origin as usize)?.arguments()
    }

    /// Every open channel, for listings.
    pub fn channel_summaries(&self) -> Vec<ChannelSummary> {
        let open = self
            .channels
            .iter()
            .enumerate()
            .filter_map(|(number, channel)| Some((number, channel.as_deref()?)));
        open.map(|(number, channel)| ChannelSummary {
            number: number as u16,
            consumers: channel.origins.iter().filter(|(_, origin)| origin.consuming).count(),
            unacked: channel.unacked_count(),
            prefetch_global: channel.prefetch_global,
            shown: channel.shown.clone(),
            flow: channel.flow(),
            rates: channel
                .counted_traffic()
                .map(|traffic| traffic.trend.rates)
                .unwrap_or_default(),
        })
        .collect()
    }

    /// What a channel published to each exchange.
    pub fn published_by(&self, number: u16) -> Vec<(Arc<ExchangeTraffic>, Publishes<u64>)> {
        let channel = self.channels.get(usize::from(number)).and_then(Option::as_deref);
        let traffic = channel.and_then(ChannelDeliveries::counted_traffic);
        traffic.map(|traffic| traffic.publishes.clone()).unwrap_or_default()
    }

    /// What a channel published through which exchange into which queue.
    pub fn routed_by(&self, number: u16) -> Vec<Routed> {
        let channel = self.channels.get(usize::from(number)).and_then(Option::as_deref);
        let traffic = channel.and_then(ChannelDeliveries::counted_traffic);
        let routed = traffic.into_iter().flat_map(ChannelTraffic::routed);
        let routed = routed.map(|(exchange, queue, count)| Routed {
            exchange: exchange.clone(),
            queue,
            count,
        });
        routed.collect()
    }

    /// What passed through a channel, if it is open.
    pub fn flow_of(&self, number: u16) -> Option<Flow<u64>> {
        let channel = self.channels.get(usize::from(number))?.as_deref()?;
        Some(channel.flow())
    }

    /// What all channels published through each exchange into each queue.
    pub fn routed(&self) -> Vec<Routed> {
        let numbers = 0..self.channels.len();
        numbers.flat_map(|number| self.routed_by(number as u16)).collect()
    }

    /// The queues that a channel consumes from.
    pub fn consumed_by(&self, number: u16) -> Vec<Arc<QueueHandle>> {
        let channel = self.channels.get(usize::from(number)).and_then(Option::as_deref);
        let origins = channel.into_iter().flat_map(|channel| &channel.origins);
        let consuming = origins.filter(|(_, origin)| origin.consuming);
        let mut queues: Vec<_> = consuming.map(|(_, origin)| origin.queue.clone()).collect();
        queues.sort_by_key(|queue| queue.id);
        queues.dedup_by_key(|queue| queue.id);
        queues
    }

    /// What a channel got from each queue.
    pub fn got_by(&self, number: u16) -> Vec<(Arc<QueueHandle>, Flow<u64>)> {
        let channel = self.channels.get(usize::from(number)).and_then(Option::as_deref);
        channel.map(ChannelDeliveries::by_queue).unwrap_or_default()
    }

    /// What is told of the channels that have something to tell.
    pub fn channels_with<T>(&self, told: impl Fn(&ChannelDeliveries) -> Option<T>) -> Vec<(u16, T)> {
        let channels = self.channels.iter().enumerate();
        let found = channels.filter_map(|(number, channel)| Some((number as u16, told(channel.as_deref()?)?)));
        found.collect()
    }

    /// Looks at what passes through the channels, so many seconds after the last time.
    pub fn look(&mut self, seconds: f64) {
        for channel in self.channels.iter_mut().flatten() {
            channel.look(seconds);
        }
    }

    /// Counts so many confirms of publishes to this exchange.
    pub fn count_confirms(&mut self, number: u16, exchange: &Arc<ExchangeTraffic>, count: u64) {
        if let Some(channel) = self.channel(number) {
            channel.traffic().confirmed(exchange, count);
        }
    }

    /// Tells a publisher that publishes are safe; how many.
    pub fn confirm(&mut self, number: u16, confirmed: &Confirmed) -> u64 {
        let count = confirmed.write(&mut self.bytes, number);
        if let Some(channel) = self.channel(number) {
            channel.traffic().flow.confirm += count;
        }
        count
    }

    /// A pass over the consumers that wait to be resumed, if anyone does.
    pub fn stalled(&self) -> Option<Pass> {
        self.stalled.pass()
    }

    /// The queue whose turn it is in this pass, with its consumers in `keys`; none where nobody else may have a delivery: the
    /// socket is behind, or their channels take none.
    pub fn next_stalled(&mut self, pass: &mut Pass, keys: &mut Vec<ConsumerKey>) -> Option<Arc<QueueHandle>> {
        if self.bytes.len() >= OUTBOX_BYTES_MAX {
            return None;
        }
        let channels = &self.channels;
        let may_go = |consumer: &Stalled<QueueHandle>| {
            let channel = channels.get(usize::from(consumer.channel)).and_then(Option::as_deref);
            channel.is_none_or(|channel| channel.takes_deliveries() || (consumer.no_ack && channel.active))
        };
        self.stalled.next(pass, may_go, keys)
    }

    /// Encodes one delivery for a consumer of this connection, or remembers the consumer as stalled.
    pub fn deliver(&mut self, consumer: &Consumer, delivery: &Delivery<'_, Message>) -> Accept {
        let Some(channel) = self
            .channels
            .get_mut(usize::from(consumer.channel))
            .and_then(Option::as_deref_mut)
        else {
            return Accept::Refused;
        };
        if self.bytes.len() >= OUTBOX_BYTES_MAX || !(consumer.no_ack || channel.takes_deliveries()) || !channel.active {
            if let Some(origin) = channel.origins.get(consumer.origin as usize)
                && let Some(key) = origin.key
            {
                self.stalled.push(Stalled {
                    queue: origin.queue.clone(),
                    key,
                    channel: consumer.channel,
                    no_ack: consumer.no_ack,
                });
            }
            return Accept::Refused;
        }
        let delivery_tag = channel.next_tag();
        let Some(origin) = channel.origins.get_mut(consumer.origin as usize) else {
            return Accept::Refused;
        };
        origin.delivered_no_ack += u64::from(consumer.no_ack);
        let told = match delivery.delivery_count {
            0 => None,
            count => told_delivery_count(origin, delivery.message, count),
        };
        let view = told.as_ref().unwrap_or(delivery.message).view();
        stock::reserve(&mut self.bytes, view.len() + DELIVERY_ENVELOPE_BYTES);
        hot::write_deliver(
            &mut self.bytes,
            consumer.channel,
            &origin.consumer_tag,
            delivery_tag,
            delivery.redelivered,
            &view,
            self.frame_max,
        );
        let held_bytes = match consumer.no_ack {
            true => 0,
            false => held_bytes(&origin.queue, delivery.message, view.len()),
        };
        channel.count_delivery(consumer.no_ack);
        if delivery.redelivered {
            channel.count_redelivery(consumer.origin);
        }
        if !consumer.no_ack {
            channel.track(
                delivery_tag,
                consumer.origin,
                delivery.slot,
                delivery.position,
                held_bytes,
            );
        }
        Accept::Taken
    }

    /// A delivery of a consumer of this connection was taken back, because it was not settled in time.
    pub fn deliveries_late(&mut self, consumer: &Consumer, slot: u32, position: Position) {
        if let Some(channel) = self.channel(consumer.channel) {
            channel.take_back_late(consumer.origin, slot, position);
        }
    }

    /// Tells the connection that the queue of one of its consumers is gone.
    pub fn consumer_cancelled(&mut self, channel: u16, origin: u32, queue: QueueId) {
        if !self.closed {
            self.events
                .push_back(Event::ConsumerCancelled { channel, origin, queue });
        }
    }

    /// The waker to call once the lock is released, when something was added for a sleeping connection.
    pub fn take_waker(&mut self) -> Option<Waker> {
        self.waker.take()
    }
}

/// The message with how often its delivery failed, where consumers are told that.
#[cold]
fn told_delivery_count(origin: &Origin, message: &Message, delivery_count: u32) -> Option<Message> {
    let tells = origin.queue.tells_delivery_count();
    tells.then(|| with_delivery_count(message, delivery_count))
}

/// Wakes a connection; call it without holding its outbox.
pub fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
