//! What is published to each exchange, for statistics. An exchange that nobody published to has no figures and costs nothing.
//!
//! Connections add to them once for a run of publishes (`session/traffic.rs`), not for each message.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use super::Vhost;
use crate::metrics::{Publishes, Trend};

/// What was published to one exchange since the broker started.
pub struct ExchangeTraffic {
    /// The exchange; the default one has an empty name.
    pub name: Box<str>,
    received: AtomicU64,
    routed: AtomicU64,
    returned: AtomicU64,
    dropped: AtomicU64,
    trend: Mutex<Trend<Publishes<u64>>>,
}

impl ExchangeTraffic {
    /// Of an exchange that nobody published to yet.
    pub fn of(name: &str) -> ExchangeTraffic {
        ExchangeTraffic {
            name: name.into(),
            received: AtomicU64::new(0),
            routed: AtomicU64::new(0),
            returned: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
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

    /// All of them so far.
    pub fn counts(&self) -> Publishes<u64> {
        Publishes {
            received: self.received.load(Ordering::Relaxed),
            routed: self.routed.load(Ordering::Relaxed),
            returned: self.returned.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
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
