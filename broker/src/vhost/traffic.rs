//! What is published to each exchange, for statistics. An exchange that nobody published to has no figures and costs nothing.
//!
//! Connections add to them once for a run of publishes (`session/traffic.rs`), not for each message.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};

use super::{QueueHandle, Vhost};
use crate::metrics::{Publishes, Trend};

/// Queues of an exchange for which it is kept what ended channels had published there.
const QUEUES_KEPT_MAX: usize = 1024;

/// What was published to one exchange since the broker started.
pub struct ExchangeTraffic {
    /// The exchange; the default one has an empty name.
    pub name: Box<str>,
    received: AtomicU64,
    routed: AtomicU64,
    returned: AtomicU64,
    dropped: AtomicU64,
    confirmed: AtomicU64,
    routed_by_ended: Mutex<Vec<QueueCount>>,
    trend: Mutex<Trend<Publishes<u64>>>,
}

/// What went to a queue through an exchange.
pub struct Routed {
    /// The exchange that it was published to.
    pub exchange: Arc<ExchangeTraffic>,
    /// The queue.
    pub queue: Arc<QueueHandle>,
    /// So many messages.
    pub count: u64,
}

/// What went to one queue.
pub struct QueueCount {
    queue: Weak<QueueHandle>,
    /// So many messages.
    pub count: u64,
}

impl QueueCount {
    /// So many went to this queue.
    pub fn of(queue: &Arc<QueueHandle>, count: u64) -> QueueCount {
        let queue = Arc::downgrade(queue);
        QueueCount { queue, count }
    }

    /// Is it what went to this queue?
    pub fn is_of(&self, queue: &Arc<QueueHandle>) -> bool {
        Weak::as_ptr(&self.queue) == Arc::as_ptr(queue)
    }

    /// The queue, unless it is gone.
    pub fn living(&self) -> Option<(Arc<QueueHandle>, u64)> {
        Some((self.queue.upgrade()?, self.count))
    }

    /// Is the queue still there?
    pub fn is_living(&self) -> bool {
        self.queue.strong_count() > 0
    }
}

impl ExchangeTraffic {
    /// Keeps what a channel that ends has counted by queue.
    pub fn keep_routed(&self, more: QueueCount) {
        let Some((queue, count)) = more.living() else { return };
        let mut routed = self.routed_by_ended.lock();
        if let Some(known) = routed.iter_mut().find(|known| known.is_of(&queue)) {
            known.count += count;
            return;
        }
        routed.retain(QueueCount::is_living);
        if routed.len() < QUEUES_KEPT_MAX {
            routed.push(more);
        }
    }

    /// What channels that are gone had counted by queue.
    pub fn routed_by_ended(&self) -> Vec<(Arc<QueueHandle>, u64)> {
        self.routed_by_ended
            .lock()
            .iter()
            .filter_map(QueueCount::living)
            .collect()
    }

    /// Of an exchange that nobody published to yet.
    pub fn of(name: &str) -> ExchangeTraffic {
        ExchangeTraffic {
            name: name.into(),
            received: AtomicU64::new(0),
            routed: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            routed_by_ended: Mutex::default(),
            trend: Mutex::default(),
        }
    }

    /// Counts a run of publishes.
    pub fn add(&self, more: Publishes<u64>) {
        for (counter, count) in [
            (&self.received, more.received),
            (&self.routed, more.routed),
            (&self.returned, more.returned),
            (&self.dropped, more.dropped),
        ] {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// So many of them are confirmed.
    pub fn add_confirmed(&self, count: u64) {
        self.confirmed.fetch_add(count, Ordering::Relaxed);
    }

    /// All of them so far.
    pub fn counts(&self) -> Publishes<u64> {
        Publishes {
            received: self.received.load(Ordering::Relaxed),
            routed: self.routed.load(Ordering::Relaxed),
            returned: self.returned.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            confirmed: self.confirmed.load(Ordering::Relaxed),
        }
    }

    /// How fast they come.
    pub fn rates(&self) -> Publishes<f64> {
        self.trend.lock().rates
    }

    /// Looks at the counts, so many seconds after the last time.
    pub fn look(&self, seconds: f64) {
        let counts = self.counts();
        self.trend.lock().look(counts, seconds);
    }
}

/// The exchanges of a virtual host that were published to.
#[derive(Default)]
pub(super) struct Traffic(RwLock<HashMap<Box<str>, Arc<ExchangeTraffic>>>);

impl Traffic {
    /// The exchange is gone.
    pub(super) fn forget(&self, exchange: &str) {
        self.0.write().remove(exchange);
    }
}

impl Vhost {
    /// Where to count what is published to an exchange. If it is gone meanwhile, what is counted is gone with it.
    pub fn traffic_of(&self, exchange: &str) -> Arc<ExchangeTraffic> {
        if let Some(found) = self.find_traffic(exchange) {
            return found;
        }
        let made = Arc::new(ExchangeTraffic::of(exchange));
        // Whoever deletes the exchange forgets its figures under the same lock.
        let topology = self.topology.read();
        if topology.routing.exchange(exchange).is_none() {
            return made;
        }
        let mut all = self.traffic.0.write();
        all.entry(exchange.into()).or_insert(made).clone()
    }

    /// The figures of an exchange that was published to.
    pub fn find_traffic(&self, exchange: &str) -> Option<Arc<ExchangeTraffic>> {
        self.traffic.0.read().get(exchange).cloned()
    }

    /// All exchanges that were published to.
    pub fn traffic(&self) -> Vec<Arc<ExchangeTraffic>> {
        self.traffic.0.read().values().cloned().collect()
    }
}
