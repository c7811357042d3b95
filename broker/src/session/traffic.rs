//! What passes through a connection's channels, for statistics.
//!
//! Deliveries are told by their tags and cost nothing. Publishes are counted by runs: those of one channel to one exchange in a
//! row are counted together, when another run begins or the batch is handed over.

use std::sync::{Arc, Weak};

use super::batch::{Batch, Counts};
use super::outbox::Outbox;
use crate::metrics::{Flow, Publishes, Trend};
use crate::vhost::QueueHandle;
use crate::vhost::traffic::{ExchangeTraffic, QueueCount};

/// Exchanges for which a channel tells what it published there; what goes to more of them is in its sum only.
const EXCHANGES_TOLD_MAX: usize = 32;

/// Ways from an exchange to a queue for which a channel tells what it published there; it looks at so many queues of a batch.
const ROUTES_TOLD_MAX: usize = 32;
/// Queues for which a channel remembers what it got, beside those that it consumes from; what came from more of them is in its sum only.
const QUEUES_TOLD_MAX: usize = 32;

/// What passed through one channel, beside what its delivery tags tell.
#[derive(Default)]
pub struct ChannelTraffic {
    /// All but `deliver` and `deliver_no_ack`, for which the other delivery tags were given.
    pub flow: Flow<u64>,
    /// How fast that grows, deliveries included.
    pub trend: Trend<Flow<u64>>,
    /// What went to each exchange.
    pub publishes: Vec<(Arc<ExchangeTraffic>, Publishes<u64>)>,
    /// What went to queues, and through which exchange.
    routed: Vec<(Arc<ExchangeTraffic>, QueueCount)>,
    /// What came from each queue by basic.get and by consumers that are gone.
    pub queues: Vec<(Weak<QueueHandle>, Flow<u64>)>,
}

impl ChannelTraffic {
    fn published(&mut self, exchange: &Arc<ExchangeTraffic>, more: Publishes<u64>) {
        self.flow.publish += more.received;
        self.flow.return_unroutable += more.returned;
        self.flow.drop_unroutable += more.dropped;
        self.add_to_exchange(exchange, more);
    }

    /// So many publishes to this exchange are confirmed; the sum of all is counted elsewhere.
    pub fn confirmed(&mut self, exchange: &Arc<ExchangeTraffic>, count: u64) {
        exchange.add_confirmed(count);
        let mut known = self.publishes.iter_mut();
        if let Some((_, published)) = known.find(|(known, _)| Arc::ptr_eq(known, exchange)) {
            published.confirmed += count;
        }
    }

    fn add_to_exchange(&mut self, exchange: &Arc<ExchangeTraffic>, more: Publishes<u64>) {
        let known = self
            .publishes
            .iter_mut()
            .find(|(known, _)| Arc::ptr_eq(known, exchange));
        if let Some((_, published)) = known {
            published.add(more);
        } else if self.publishes.len() < EXCHANGES_TOLD_MAX {
            self.publishes.push((exchange.clone(), more));
        }
    }
}

/// Nothing that passed through a channel is forgotten with it.
impl Drop for ChannelTraffic {
    fn drop(&mut self) {
        for (exchange, routed) in self.routed.drain(..) {
            exchange.keep_routed(routed);
        }
    }
}

impl ChannelTraffic {
    /// What went to queues, and through which exchange.
    pub fn routed(&self) -> impl Iterator<Item = (&Arc<ExchangeTraffic>, Arc<QueueHandle>, u64)> {
        self.routed.iter().filter_map(|(exchange, routed)| {
            let (queue, count) = routed.living()?;
            Some((exchange, queue, count))
        })
    }

    fn add_routed(&mut self, exchange: &Arc<ExchangeTraffic>, queue: &Arc<QueueHandle>, more: u64) {
        let mut known = self.routed.iter_mut();
        let found = known.find(|(known, routed)| routed.is_of(queue) && Arc::ptr_eq(known, exchange));
        if let Some((_, routed)) = found {
            routed.count += more;
            return;
        }
        if self.routed.len() == ROUTES_TOLD_MAX {
            self.routed.retain(|(_, routed)| routed.is_living());
        }
        if self.routed.len() < ROUTES_TOLD_MAX {
            self.routed.push((exchange.clone(), QueueCount::of(queue, more)));
        }
    }

    /// Counts what came from a queue.
    pub fn add_of_queue(&mut self, queue: &Arc<QueueHandle>, more: Flow<u64>) {
        let is_it = |(known, _): &&mut (Weak<QueueHandle>, _)| Weak::as_ptr(known) == Arc::as_ptr(queue);
        if let Some((_, flow)) = self.queues.iter_mut().find(is_it) {
            *flow = flow.plus(more);
            return;
        }
        if self.queues.len() == QUEUES_TOLD_MAX {
            self.queues.retain(|(queue, _)| queue.strong_count() > 0);
        }
        if self.queues.len() < QUEUES_TOLD_MAX {
            self.queues.push((Arc::downgrade(queue), more));
        }
    }
}

/// The run of publishes that is going on, and what is counted of the batch.
#[derive(Default)]
pub(super) struct Tally {
    run: Option<(u16, Arc<ExchangeTraffic>)>,
    counted: Publishes<u64>,
}

impl Tally {
    /// Does a publish of this channel to this exchange belong to the run?
    #[inline]
    pub(super) fn is_of(&self, channel: u16, exchange: &Arc<ExchangeTraffic>) -> bool {
        let run = self.run.as_ref();
        run.is_some_and(|(number, known)| *number == channel && Arc::ptr_eq(known, exchange))
    }

    /// The same, for who knows the name only.
    pub(super) fn is_to(&self, channel: u16, exchange: &str) -> bool {
        let run = self.run.as_ref();
        run.is_some_and(|(number, known)| *number == channel && *known.name == *exchange)
    }

    /// Another run begins; `counts` are those of the batch so far.
    pub(super) fn begin(
        &mut self,
        channel: u16,
        exchange: Arc<ExchangeTraffic>,
        batch: &mut Batch,
        counts: &Counts,
        outbox: &Outbox,
    ) {
        self.count(batch, counts, outbox);
        self.run = Some((channel, exchange));
    }

    /// The run ends: its exchange may not be the same any more.
    pub(super) fn end(&mut self, batch: &mut Batch, counts: &Counts, outbox: &Outbox) {
        self.count(batch, counts, outbox);
        self.run = None;
    }

    /// The batch is about to be handed over, and with it end its counts; the run goes on in the next.
    pub(super) fn end_batch(&mut self, batch: &mut Batch, counts: &Counts, outbox: &Outbox) {
        self.count(batch, counts, outbox);
        self.counted = Publishes::default();
    }

    fn count(&mut self, batch: &mut Batch, counts: &Counts, outbox: &Outbox) {
        let more = counts.published.beyond(self.counted);
        self.counted = counts.published;
        if more.received == 0 {
            return;
        }
        let Some((channel, exchange)) = &self.run else { return };
        exchange.add(more);
        if let Some(channel) = outbox.lock().channel(*channel) {
            let traffic = channel.traffic();
            traffic.published(exchange, more);
            for (queue, more) in batch.take_collected(ROUTES_TOLD_MAX) {
                traffic.add_routed(exchange, queue, more);
            }
        }
    }
}
