//! The delivery side of one channel: delivery tags, what is unacked, and where it came from.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use amq_protocol::types::FieldTable;
use slab::Slab;

use super::origin::Origin;
use super::traffic::ChannelTraffic;
use crate::metrics::{Flow, Publishes};
use crate::protocol::message::Message;
use crate::queue::Position;
use crate::vhost::QueueHandle;
use crate::vhost::traffic::ExchangeTraffic;

/// Deliveries that a channel may have without having settled them, where nothing else says how many; the same for its transient messages in
/// bytes, because those are in memory only. A channel with more gets no more from its consumers until it settles some.
const UNACKED_MESSAGES_MAX: u32 = 1 << 21;
const UNACKED_BYTES_MAX: u64 = 128 << 20;

/// Settled entries are swept out once they outnumber the outstanding ones by this many.
const TOMBSTONES_MAX: usize = 1024;

/// One delivery that waits for its acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unacked {
    /// The channel's delivery tag.
    pub delivery_tag: u64,
    /// The message's place in its queue.
    pub position: Position,
    /// The queue's own index of the delivery.
    pub slot: u32,
    /// Index into [`ChannelDeliveries::origins`], or `SETTLED`, or `LATE`.
    origin: u32,
    /// Bytes of memory that it takes until it is settled; none if the message is on disk.
    pub held_bytes: u32,
}

const SETTLED: u32 = u32::MAX;
/// In place of an origin: the delivery was taken back because it was late. The client may settle it still, which does nothing.
const LATE: u32 = u32::MAX - 1;

/// Memory that a message of this size takes until it is settled, as far as nobody can let go of it.
#[inline]
pub fn held_bytes(queue: &QueueHandle, message: &Message, len: usize) -> u32 {
    if queue.persists(message) {
        return 0;
    }
    u32::try_from(len).unwrap_or(u32::MAX)
}

/// A delivery tag that is not outstanding (ERRORS: `unknown delivery tag N`).
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownDeliveryTag(pub u64);

/// How much a channel's transaction has collected.
#[derive(Default)]
pub struct Uncommitted {
    pub publishes: AtomicU64,
    pub settlements: AtomicU64,
}

/// What listings show of a channel that the session alone knows otherwise; told when it changes.
#[derive(Clone, Default)]
pub struct Shown {
    /// `basic.qos` for consumers that come.
    pub prefetch_count: u16,
    /// What waits for tx.commit, in a mode with transactions.
    pub uncommitted: Option<Arc<Uncommitted>>,
    /// Publishes that wait for their commit, in confirm mode.
    pub unconfirmed: Option<Arc<AtomicU64>>,
}

impl Shown {
    /// How many of one kind the channel's transaction has collected.
    pub fn uncommitted(&self, which: impl Fn(&Uncommitted) -> &AtomicU64) -> u64 {
        let waiting = self.uncommitted.as_deref();
        waiting.map_or(0, |waiting| which(waiting).load(Ordering::Relaxed))
    }
}

/// State of one channel's deliveries, kept in its connection's outbox.
pub struct ChannelDeliveries {
    last_tag: u64,
    /// Sorted by tag. A settled entry in the middle stays as a tombstone until it reaches the front or is swept.
    unacked: VecDeque<Unacked>,
    tombstones: usize,
    /// Consumers and `get` queues, by the index that consumers and unacked entries carry.
    pub origins: Slab<Origin>,
    /// Limit of unacked deliveries to all consumers of the channel together (`basic.qos global`), 0 for none.
    pub prefetch_global: u16,
    /// What listings show of the channel's other side.
    pub shown: Shown,
    consumer_unacked: u32,
    /// Memory of the messages that are not settled, to consumers and by `basic.get`.
    held_bytes: u64,
    /// `channel.flow`: does the client want deliveries?
    pub active: bool,
    /// Deliveries that need no acknowledgement.
    delivered_no_ack: u64,
    /// What else passed through the channel but deliveries; none until something does.
    traffic: Option<Box<ChannelTraffic>>,
}

impl Default for ChannelDeliveries {
    fn default() -> Self {
        ChannelDeliveries {
            last_tag: 0,
            unacked: VecDeque::new(),
            tombstones: 0,
            origins: Slab::new(),
            prefetch_global: 0,
            shown: Shown::default(),
            consumer_unacked: 0,
            held_bytes: 0,
            active: true,
            delivered_no_ack: 0,
            traffic: None,
        }
    }
}

impl ChannelDeliveries {
    /// The next delivery tag; tags start at 1 and are shared by deliver and get.
    pub fn next_tag(&mut self) -> u64 {
        self.last_tag += 1;
        self.last_tag
    }

    /// May a consumer that acknowledges get one more?
    pub fn takes_deliveries(&self) -> bool {
        let most = match self.prefetch_global {
            0 => UNACKED_MESSAGES_MAX,
            prefetch => u32::from(prefetch),
        };
        self.active && self.consumer_unacked < most && self.held_bytes < UNACKED_BYTES_MAX
    }

    /// Remembers a delivery until it is settled.
    pub fn track(&mut self, delivery_tag: u64, origin: u32, slot: u32, position: Position, held_bytes: u32) {
        self.unacked.push_back(Unacked {
            delivery_tag,
            position,
            slot,
            origin,
            held_bytes,
        });
        self.held_bytes += u64::from(held_bytes);
        if let Some(origin) = self.origins.get_mut(origin as usize) {
            origin.outstanding += 1;
            origin.delivered += 1;
            self.consumer_unacked += u32::from(!origin.consumer_tag.is_empty());
        }
    }

    /// Counts a delivery to a consumer. Those without acknowledgement are told apart from the other tags.
    #[inline]
    pub fn count_delivery(&mut self, no_ack: bool) {
        self.delivered_no_ack += u64::from(no_ack);
    }

    /// Counts that a consumer was given a message again.
    #[cold]
    pub fn count_redelivery(&mut self, origin: u32) {
        self.traffic().flow.redeliver += 1;
        if let Some(origin) = self.origins.get_mut(origin as usize) {
            origin.redelivered += 1;
        }
    }

    /// Counts what a queue was asked for by basic.get.
    pub fn count_get(&mut self, queue: &Arc<QueueHandle>, more: Flow<u64>) {
        let traffic = self.traffic();
        traffic.flow = traffic.flow.plus(more);
        traffic.add_of_queue(queue, more);
    }

    /// Takes an origin out; what went its way stays with its queue.
    fn remove_origin(&mut self, index: usize) {
        if let Some(origin) = self.origins.try_remove(index) {
            let flow = origin.flow();
            if flow != Flow::default() {
                self.traffic().add_of_queue(&origin.queue, flow);
            }
        }
    }

    /// What came from each queue.
    pub fn by_queue(&self) -> Vec<(Arc<QueueHandle>, Flow<u64>)> {
        let mut sums: HashMap<u64, (Arc<QueueHandle>, Flow<u64>)> = HashMap::new();
        let mut add = |queue: Arc<QueueHandle>, more: Flow<u64>| {
            if more != Flow::default() {
                let sum = sums.entry(queue.id.0).or_insert((queue, Flow::default()));
                sum.1 = sum.1.plus(more);
            }
        };
        for (_, origin) in &self.origins {
            add(origin.queue.clone(), origin.flow());
        }
        for (queue, flow) in self.traffic.iter().flat_map(|traffic| &traffic.queues) {
            if let Some(queue) = queue.upgrade() {
                add(queue, *flow);
            }
        }
        let mut sums: Vec<_> = sums.into_values().collect();
        sums.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        sums
    }

    /// What passes through the channel, to be counted.
    pub fn traffic(&mut self) -> &mut ChannelTraffic {
        self.traffic.get_or_insert_default()
    }

    /// What passed through the channel, if anything did.
    pub fn flow(&self) -> Flow<u64> {
        let mut flow = self.traffic.as_ref().map(|traffic| traffic.flow).unwrap_or_default();
        flow.deliver_no_ack = self.delivered_no_ack;
        flow.deliver = self
            .last_tag
            .saturating_sub(flow.deliver_no_ack + flow.get + flow.get_no_ack);
        flow
    }

    /// What came from one queue, if anything did.
    pub fn of_queue(&self, queue: &QueueHandle) -> Option<Flow<u64>> {
        let consumed = self.origins.iter().filter(|(_, origin)| origin.queue.id == queue.id);
        let gone = self.traffic.iter().flat_map(|traffic| &traffic.queues);
        let gone = gone.filter(|(known, _)| std::ptr::eq(Weak::as_ptr(known), queue));
        let flows = consumed
            .map(|(_, origin)| origin.flow())
            .chain(gone.map(|(_, flow)| *flow));
        let sum = flows.fold(Flow::default(), Flow::plus);
        (sum != Flow::default()).then_some(sum)
    }

    /// What was published to one exchange, if anything was.
    pub fn to_exchange(&self, exchange: &Arc<ExchangeTraffic>) -> Option<Publishes<u64>> {
        let mut publishes = self.traffic.as_ref()?.publishes.iter();
        let found = publishes.find(|(known, _)| Arc::ptr_eq(known, exchange));
        found.map(|(_, published)| *published)
    }

    /// How fast, and to which exchanges.
    pub fn counted_traffic(&self) -> Option<&ChannelTraffic> {
        self.traffic.as_deref()
    }

    /// Looks at what passes, so many seconds after the last time.
    pub fn look(&mut self, seconds: f64) {
        let flow = self.flow();
        if flow != Flow::default() {
            self.traffic().trend.look(flow, seconds);
        }
    }

    /// Deliveries not settled yet.
    pub fn unacked_count(&self) -> usize {
        self.unacked.len() - self.tombstones
    }

    /// Takes one delivery, or with `multiple` all up to it, and gives each with its origin to `settled` in tag order. Those that are
    /// acknowledged are counted.
    ///
    /// Tag 0 with `multiple` means all, even none. Any other tag must be outstanding, as RabbitMQ demands.
    pub fn settle(
        &mut self,
        delivery_tag: u64,
        multiple: bool,
        is_ack: bool,
        mut settled: impl FnMut(&Origin, Unacked),
    ) -> Result<(), UnknownDeliveryTag> {
        if multiple && delivery_tag == 0 {
            self.settle_front(u64::MAX, is_ack, &mut settled);
            return Ok(());
        }
        let index = self.find(delivery_tag).ok_or(UnknownDeliveryTag(delivery_tag))?;
        if multiple {
            self.settle_front(delivery_tag, is_ack, &mut settled);
        } else {
            self.settle_at(index, is_ack, &mut settled);
        }
        self.sweep();
        Ok(())
    }

    fn find(&self, delivery_tag: u64) -> Option<usize> {
        // Acknowledgements mostly come in order, so the front is looked at before the search.
        if self
            .unacked
            .front()
            .is_some_and(|entry| entry.delivery_tag == delivery_tag && entry.origin != SETTLED)
        {
            return Some(0);
        }
        let index = self
            .unacked
            .binary_search_by_key(&delivery_tag, |entry| entry.delivery_tag)
            .ok()?;
        (self.unacked[index].origin != SETTLED).then_some(index)
    }

    fn settle_front(&mut self, up_to: u64, is_ack: bool, settled: &mut impl FnMut(&Origin, Unacked)) {
        while let Some(entry) = self.unacked.front().copied() {
            if entry.delivery_tag > up_to {
                break;
            }
            self.unacked.pop_front();
            if entry.origin == SETTLED {
                self.tombstones -= 1;
            } else {
                self.release(entry, is_ack, settled);
            }
        }
    }

    fn settle_at(&mut self, index: usize, is_ack: bool, settled: &mut impl FnMut(&Origin, Unacked)) {
        let entry = self.unacked[index];
        if index == 0 {
            self.unacked.pop_front();
        } else {
            self.unacked[index].origin = SETTLED;
            self.tombstones += 1;
        }
        self.release(entry, is_ack, settled);
    }

    fn release(&mut self, entry: Unacked, is_ack: bool, settled: &mut impl FnMut(&Origin, Unacked)) {
        let index = entry.origin as usize;
        let Some(origin) = self.origins.get_mut(index) else {
            return;
        };
        origin.outstanding -= 1;
        origin.acked += u64::from(is_ack);
        self.consumer_unacked -= u32::from(!origin.consumer_tag.is_empty());
        self.held_bytes -= u64::from(entry.held_bytes);
        settled(origin, entry);
        if origin.outstanding == 0 && !origin.consuming {
            self.remove_origin(index);
        }
    }

    /// Takes a delivery back from the client, who does not know.
    pub fn take_back_late(&mut self, origin: u32, slot: u32, position: Position) {
        let is_it = |entry: &&mut Unacked| (entry.origin, entry.slot, entry.position) == (origin, slot, position);
        let Some(entry) = self.unacked.iter_mut().find(is_it) else {
            return;
        };
        let taken = *entry;
        entry.origin = LATE;
        self.release(taken, false, &mut |_, _| {});
    }

    /// Drops tombstones: at once those at the front, the others when they are many.
    fn sweep(&mut self) {
        while self.unacked.front().is_some_and(|entry| entry.origin == SETTLED) {
            self.unacked.pop_front();
            self.tombstones -= 1;
        }
        if self.tombstones > TOMBSTONES_MAX && self.tombstones > self.unacked.len() / 2 {
            self.unacked.retain(|entry| entry.origin != SETTLED);
            self.tombstones = 0;
        }
        if self.unacked.is_empty() && self.unacked.capacity() > 4 * TOMBSTONES_MAX {
            self.unacked = VecDeque::new();
        }
    }

    /// Adds a consumer whose key in its queue is not known yet.
    pub fn add_consumer(&mut self, queue: &Arc<QueueHandle>, consumer_tag: &[u8], arguments: &FieldTable) -> u32 {
        let origin = Origin::consumer(queue, consumer_tag, arguments);
        self.origins.insert(origin) as u32
    }

    /// The origin of `basic.get` deliveries from this queue.
    pub fn get_origin(&mut self, queue: &Arc<QueueHandle>) -> u32 {
        let same = |origin: &Origin| origin.consumer_tag.is_empty() && Arc::ptr_eq(&origin.queue, queue);
        let found = self
            .origins
            .iter()
            .find(|(_, origin)| same(origin))
            .map(|(index, _)| index);
        found.unwrap_or_else(|| self.origins.insert(Origin::get(queue))) as u32
    }

    /// Ends a consumer; its origin stays while deliveries to it are outstanding.
    pub fn cancel(&mut self, origin: u32) {
        let index = origin as usize;
        if let Some(entry) = self.origins.get_mut(index) {
            entry.consuming = false;
            if entry.outstanding == 0 {
                self.remove_origin(index);
            }
        }
    }

    /// Is this tag outstanding?
    pub fn is_outstanding(&self, delivery_tag: u64) -> bool {
        self.find(delivery_tag).is_some()
    }

    /// Takes all deliveries but those with tags in `kept`, in tag order.
    pub fn settle_all_but(&mut self, kept: &HashSet<u64>, mut settled: impl FnMut(&Origin, Unacked)) {
        if kept.is_empty() {
            self.settle_front(u64::MAX, false, &mut settled);
            return;
        }
        let is_kept = |entry: &Unacked| kept.contains(&entry.delivery_tag);
        let (kept, taken) = std::mem::take(&mut self.unacked).into_iter().partition(is_kept);
        (self.unacked, self.tombstones) = (kept, 0);
        let taken: VecDeque<Unacked> = taken;
        for entry in taken {
            self.release(entry, false, &mut settled);
        }
    }

    /// Takes all deliveries of living consumers but those with tags in `settled` off the list, with the index of their origin, to be
    /// delivered again.
    pub fn take_redeliverable(&mut self, settled: &HashSet<u64>, mut take: impl FnMut(&Origin, u32, Unacked)) {
        let mut kept = VecDeque::new();
        for entry in std::mem::take(&mut self.unacked) {
            match self.origins.get_mut(entry.origin as usize) {
                Some(origin) if origin.consuming && !settled.contains(&entry.delivery_tag) => {
                    origin.outstanding -= 1;
                    self.consumer_unacked -= 1;
                    self.held_bytes -= u64::from(entry.held_bytes);
                    take(origin, entry.origin, entry);
                }
                Some(_) => kept.push_back(entry),
                None if entry.origin == LATE => kept.push_back(entry),
                None => {}
            }
        }
        self.unacked = kept;
        self.tombstones = 0;
    }

    /// Outstanding deliveries in tag order, with their origins.
    pub fn outstanding(&self) -> impl Iterator<Item = (&Origin, &Unacked)> {
        self.outstanding_after(0)
    }

    /// Those with a higher tag. What lies before them is not looked at.
    pub fn outstanding_after(&self, delivery_tag: u64) -> impl Iterator<Item = (&Origin, &Unacked)> {
        let first = self.unacked.partition_point(|entry| entry.delivery_tag <= delivery_tag);
        self.unacked
            .range(first..)
            .filter_map(|entry| Some((self.origins.get(entry.origin as usize)?, entry)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_takes_no_more_than_it_may_hold_whatever_its_prefetch() {
        let mut channel = ChannelDeliveries {
            consumer_unacked: UNACKED_MESSAGES_MAX - 1,
            held_bytes: UNACKED_BYTES_MAX - 1,
            ..ChannelDeliveries::default()
        };
        assert!(channel.takes_deliveries());
        channel.consumer_unacked += 1;
        assert!(!channel.takes_deliveries());
        channel.consumer_unacked = 0;
        channel.held_bytes += 1;
        assert!(!channel.takes_deliveries());
    }
}
