//! How fast things happen: the broker's counters and each queue's, looked at once a second.
//!
//! Only the last look and what it gave are kept, and of queues only those where something happened, so an idle queue costs
//! a look and no memory. The counters are those that exist anyway: nothing is counted for this.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use prometheus::IntCounter;

use super::Counters;
use crate::broker::Broker;
use crate::clock;
use crate::queue::{Counts, Totals};

/// Time between two looks, unless looking takes long.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// Looking takes at most this share of the time: with very many queues the interval grows.
const SAMPLING_PERCENT_MAX: u32 = 1;

/// What happens to messages: counts, or what they grow by in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Flow<T> {
    pub publish: T,
    pub confirm: T,
    pub return_unroutable: T,
    pub drop_unroutable: T,
    pub deliver: T,
    pub deliver_no_ack: T,
    pub get: T,
    pub get_no_ack: T,
    pub get_empty: T,
    pub ack: T,
    pub redeliver: T,
}

/// What comes and goes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Churn<T> {
    pub connection_created: T,
    pub connection_closed: T,
    pub channel_created: T,
    pub channel_closed: T,
    pub queue_declared: T,
    pub queue_created: T,
    pub queue_deleted: T,
}

/// How much is in queues.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Depth<T> {
    /// Ready messages.
    pub ready: T,
    /// Messages out for acknowledgement.
    pub unacked: T,
}

/// Rates of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QueueRates {
    /// Of its messages.
    pub flow: Flow<f64>,
    /// Of its length.
    pub depth: Depth<f64>,
}

/// All rates per second, as of the last look.
#[derive(Debug, Default)]
pub struct Rates {
    /// Of the whole broker.
    pub flow: Flow<f64>,
    /// Of the whole broker.
    pub churn: Churn<f64>,
    queues: HashMap<u64, QueueRates>,
}

impl Rates {
    /// The rates of a queue by its number in the store.
    pub fn queue(&self, id: u64) -> QueueRates {
        self.queues.get(&id).copied().unwrap_or_default()
    }
}

/// The newest rates, for everybody.
#[derive(Default)]
pub struct LatestRates(RwLock<Arc<Rates>>);

impl LatestRates {
    /// The newest rates.
    pub fn get(&self) -> Arc<Rates> {
        self.0.read().clone()
    }
}

impl Flow<u64> {
    /// Of the whole broker since it started.
    pub fn of_broker(counters: &Counters) -> Flow<u64> {
        let deliver = &counters.delivered_consume_manual_ack;
        Flow {
            publish: counters.received.get(),
            confirm: counters.confirmed.get(),
            return_unroutable: counters.unroutable_returned.get(),
            drop_unroutable: counters.unroutable_dropped.get(),
            deliver: deliver.get(),
            deliver_no_ack: counters.delivered_consume_auto_ack.get(),
            get: counters.delivered_get_manual_ack.get(),
            get_no_ack: counters.delivered_get_auto_ack.get(),
            get_empty: counters.get_empty.get(),
            ack: counters.acknowledged.get(),
            redeliver: counters.redelivered.get(),
        }
    }

    /// Of one queue since it was made or recovered.
    pub fn of_queue(totals: &Totals) -> Flow<u64> {
        Flow {
            publish: totals.published,
            deliver: totals.delivered,
            deliver_no_ack: totals.delivered_no_ack,
            get: totals.got,
            get_no_ack: totals.got_no_ack,
            ack: totals.acked,
            redeliver: totals.redelivered,
            ..Flow::default()
        }
    }

    fn since(self, before: Flow<u64>, seconds: f64) -> Flow<f64> {
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        Flow {
            publish: rate(self.publish, before.publish),
            confirm: rate(self.confirm, before.confirm),
            return_unroutable: rate(self.return_unroutable, before.return_unroutable),
            drop_unroutable: rate(self.drop_unroutable, before.drop_unroutable),
            deliver: rate(self.deliver, before.deliver),
            deliver_no_ack: rate(self.deliver_no_ack, before.deliver_no_ack),
            get: rate(self.get, before.get),
            get_no_ack: rate(self.get_no_ack, before.get_no_ack),
            get_empty: rate(self.get_empty, before.get_empty),
            ack: rate(self.ack, before.ack),
            redeliver: rate(self.redeliver, before.redeliver),
        }
    }
}

impl<T: Copy + std::ops::Add<Output = T>> Flow<T> {
    /// All that went out, as RabbitMQ adds it up.
    pub fn deliver_get(&self) -> T {
        self.deliver + self.deliver_no_ack + self.get + self.get_no_ack
    }

    /// Both together.
    pub fn plus(self, other: Flow<T>) -> Flow<T> {
        Flow {
            publish: self.publish + other.publish,
            confirm: self.confirm + other.confirm,
            return_unroutable: self.return_unroutable + other.return_unroutable,
            drop_unroutable: self.drop_unroutable + other.drop_unroutable,
            deliver: self.deliver + other.deliver,
            deliver_no_ack: self.deliver_no_ack + other.deliver_no_ack,
            get: self.get + other.get,
            get_no_ack: self.get_no_ack + other.get_no_ack,
            get_empty: self.get_empty + other.get_empty,
            ack: self.ack + other.ack,
            redeliver: self.redeliver + other.redeliver,
        }
    }
}

impl Churn<u64> {
    /// Since the broker started.
    pub fn of_broker(counters: &Counters) -> Churn<u64> {
        let count = IntCounter::get;
        Churn {
            connection_created: count(&counters.connections_opened),
            connection_closed: count(&counters.connections_closed),
            channel_created: count(&counters.channels_opened),
            channel_closed: count(&counters.channels_closed),
            queue_declared: count(&counters.queues_declared),
            queue_created: count(&counters.queues_created),
            queue_deleted: count(&counters.queues_deleted),
        }
    }

    fn since(self, before: Churn<u64>, seconds: f64) -> Churn<f64> {
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        Churn {
            connection_created: rate(self.connection_created, before.connection_created),
            connection_closed: rate(self.connection_closed, before.connection_closed),
            channel_created: rate(self.channel_created, before.channel_created),
            channel_closed: rate(self.channel_closed, before.channel_closed),
            queue_declared: rate(self.queue_declared, before.queue_declared),
            queue_created: rate(self.queue_created, before.queue_created),
            queue_deleted: rate(self.queue_deleted, before.queue_deleted),
        }
    }
}

impl<T: Copy + std::ops::Add<Output = T>> Depth<T> {
    /// Both together.
    pub fn plus(self, other: Depth<T>) -> Depth<T> {
        Depth {
            ready: self.ready + other.ready,
            unacked: self.unacked + other.unacked,
        }
    }

    /// Ready or not.
    pub fn messages(&self) -> T {
        self.ready + self.unacked
    }
}

impl Depth<u64> {
    /// Of one queue.
    pub fn of_queue(counts: &Counts) -> Depth<u64> {
        Depth {
            ready: counts.ready as u64,
            unacked: counts.unacked as u64,
        }
    }

    /// A length may shrink, too.
    fn since(self, before: Depth<u64>, seconds: f64) -> Depth<f64> {
        let rate = |now: u64, then: u64| (now as f64 - then as f64) / seconds;
        Depth {
            ready: rate(self.ready, before.ready),
            unacked: rate(self.unacked, before.unacked),
        }
    }
}

/// One look at everything.
#[derive(Default)]
struct Sample {
    flow: Flow<u64>,
    churn: Churn<u64>,
    /// Queues where something ever happened.
    queues: HashMap<u64, (Flow<u64>, Depth<u64>)>,
}

impl Sample {
    /// Each queue is locked for as long as it takes to copy its counts.
    fn take(broker: &Broker) -> Sample {
        let mut queues = HashMap::new();
        for queue in broker.vhosts().iter().flat_map(|vhost| vhost.queues()) {
            let (counts, totals) = queue.counts_and_totals();
            let sample = (Flow::of_queue(&totals), Depth::of_queue(&counts));
            if sample != Default::default() {
                queues.insert(queue.id.0, sample);
            }
        }
        Sample {
            flow: Flow::of_broker(&broker.counters),
            churn: Churn::of_broker(&broker.counters),
            queues,
        }
    }

    fn since(&self, before: &Sample, seconds: f64) -> Rates {
        let mut queues = HashMap::new();
        for (id, (flow, depth)) in &self.queues {
            // A queue that was not there before was empty.
            let (flow_before, depth_before) = before.queues.get(id).copied().unwrap_or_default();
            let rates = QueueRates {
                flow: flow.since(flow_before, seconds),
                depth: depth.since(depth_before, seconds),
            };
            if rates != QueueRates::default() {
                queues.insert(*id, rates);
            }
        }
        Rates {
            flow: self.flow.since(before.flow, seconds),
            churn: self.churn.since(before.churn, seconds),
            queues,
        }
    }
}

/// Keeps the rates fresh for as long as the broker runs.
pub async fn watch(broker: Arc<Broker>) {
    let mut last = (clock::now(), Sample::take(&broker));
    let mut pause = SAMPLE_INTERVAL;
    loop {
        tokio::time::sleep(pause).await;
        let begun = clock::now();
        last = look(&broker, last, begun);
        let cost = clock::now().saturating_duration_since(begun);
        pause = SAMPLE_INTERVAL.max(cost * (100 / SAMPLING_PERCENT_MAX));
    }
}

fn look(broker: &Broker, (then, before): (Instant, Sample), now: Instant) -> (Instant, Sample) {
    let sample = Sample::take(broker);
    let seconds = now.saturating_duration_since(then).as_secs_f64().max(f64::EPSILON);
    let rates = Arc::new(sample.since(&before, seconds));
    *broker.rates.0.write() = rates;
    (now, sample)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(id: u64, published: u64, ready: u64) -> Sample {
        let flow = Flow {
            publish: published,
            ..Flow::default()
        };
        let depth = Depth { ready, unacked: 0 };
        Sample {
            flow,
            queues: HashMap::from([(id, (flow, depth))]),
            ..Sample::default()
        }
    }

    #[test]
    fn rates_are_what_came_between_two_looks() {
        let rates = sample(7, 130, 5).since(&sample(7, 100, 25), 2.0);
        assert_eq!(rates.flow.publish, 15.0);
        assert_eq!(rates.queue(7).flow.publish, 15.0);
        assert_eq!(rates.queue(7).depth.ready, -10.0, "a queue may get shorter");
        assert_eq!(rates.queue(8), QueueRates::default());
    }

    #[test]
    fn of_queues_where_nothing_happens_nothing_is_kept() {
        let rates = sample(7, 100, 5).since(&sample(7, 100, 5), 1.0);
        assert!(rates.queues.is_empty());
        let rates = sample(8, 4, 4).since(&sample(7, 100, 5), 1.0);
        assert_eq!(rates.queue(8).flow.publish, 4.0, "a new queue began with nothing");
        assert_eq!(rates.queues.len(), 1);
    }
}
