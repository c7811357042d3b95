//! How fast things happen: the broker's counters and those of each queue, exchange, connection and channel, looked at once a
//! second.
//!
//! Only the last look and what it gave are kept, and of queues only those where something happened, so an idle queue costs
//! a look and no memory. Exchanges, connections and channels keep theirs themselves, once something happened to them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;

use super::past::Whole;
use super::{Churn, Counted, Depth, Disk, Flow};
use crate::broker::Broker;
use crate::clock;

/// Time between two looks, unless looking takes long.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// Looking takes at most this share of the time: with very many queues the interval grows.
const SAMPLING_PERCENT_MAX: u32 = 1;

/// Rates of one queue.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct QueueRates {
    /// Of its messages.
    pub flow: Flow<f64>,
    /// Of its length.
    pub depth: Depth<f64>,
    /// Of what it reads and writes.
    pub disk: Disk<f64>,
}

/// All rates per second, as of the last look.
#[derive(Debug, Default)]
pub struct Rates {
    /// Of the whole broker.
    pub flow: Flow<f64>,
    /// Of the whole broker.
    pub churn: Churn<f64>,
    /// Of the whole broker.
    pub disk: Disk<f64>,
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

/// One look at everything.
#[derive(Default)]
struct Sample {
    flow: Flow<u64>,
    churn: Churn<u64>,
    disk: Disk<u64>,
    /// Queues where something ever happened.
    queues: HashMap<u64, QueueSample>,
}

/// What was counted of one queue.
#[derive(Clone, Copy, Default, PartialEq)]
struct QueueSample {
    flow: Flow<u64>,
    depth: Depth<u64>,
    disk: Disk<u64>,
}

impl QueueSample {
    fn since(&self, before: &QueueSample, seconds: f64) -> QueueRates {
        QueueRates {
            flow: self.flow.since(before.flow, seconds),
            depth: self.depth.since(before.depth, seconds),
            disk: self.disk.since(before.disk, seconds),
        }
    }
}

impl Sample {
    /// Each queue is locked for as long as it takes to copy its counts.
    fn take(broker: &Broker) -> Sample {
        let mut queues = HashMap::new();
        for queue in broker.vhosts().iter().flat_map(|vhost| vhost.queues()) {
            let (counts, totals) = queue.counts_and_totals();
            let sample = QueueSample {
                flow: Flow::of_queue(&totals),
                depth: Depth::of_queue(&counts),
                disk: Disk::of_queue(&totals),
            };
            if sample != QueueSample::default() {
                queues.insert(queue.id.0, sample);
            }
        }
        Sample {
            flow: Flow::of_broker(&broker.counters),
            churn: Churn::of_broker(&broker.counters),
            disk: Disk::of_broker(&broker.counters),
            queues,
        }
    }

    fn whole(&self) -> Whole {
        let depths = self.queues.values().map(|queue| queue.depth);
        Whole {
            flow: self.flow,
            disk: self.disk,
            depth: depths.fold(Depth::default(), Depth::plus),
            churn: self.churn,
        }
    }

    fn since(&self, before: &Sample, seconds: f64) -> Rates {
        let mut queues = HashMap::new();
        for (id, sample) in &self.queues {
            // A queue that was not there before was empty.
            let before = before.queues.get(id).copied().unwrap_or_default();
            let rates = sample.since(&before, seconds);
            if rates != QueueRates::default() {
                queues.insert(*id, rates);
            }
        }
        Rates {
            flow: self.flow.since(before.flow, seconds),
            churn: self.churn.since(before.churn, seconds),
            disk: self.disk.since(before.disk, seconds),
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
    for exchange in broker.vhosts().iter().flat_map(|vhost| vhost.traffic()) {
        exchange.look(seconds);
    }
    for connection in broker.connections() {
        connection.look(seconds);
    }
    broker.past.note(&sample.whole(), (now, clock::unix_time().as_secs()));
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
        let queue = QueueSample {
            flow,
            depth: Depth { ready, unacked: 0 },
            disk: Disk::default(),
        };
        Sample {
            flow,
            queues: HashMap::from([(id, queue)]),
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
