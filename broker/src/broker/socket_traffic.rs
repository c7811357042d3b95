//! What passed through the socket of one connection. Only the connection's task counts, so no count is ever waited for.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::metrics::{Octets, Trend};

/// Octets as the session sees them: over TLS more pass through the wire.
#[derive(Default)]
pub struct SocketTraffic {
    received: AtomicU64,
    sent: AtomicU64,
    reads: AtomicU64,
    writes: AtomicU64,
    trend: Mutex<Trend<Octets<u64>>>,
}

impl SocketTraffic {
    /// One read brought so many octets.
    pub fn count_read(&self, octets: usize) {
        raise(&self.received, octets as u64);
        raise(&self.reads, 1);
    }

    /// One write took so many octets.
    pub fn count_write(&self, octets: usize) {
        raise(&self.sent, octets as u64);
        raise(&self.writes, 1);
    }

    /// All octets so far.
    pub fn octets(&self) -> Octets<u64> {
        Octets {
            received: self.received.load(Ordering::Relaxed),
            sent: self.sent.load(Ordering::Relaxed),
        }
    }

    /// How often there was something to read, and to write.
    pub fn packets(&self) -> Octets<u64> {
        Octets {
            received: self.reads.load(Ordering::Relaxed),
            sent: self.writes.load(Ordering::Relaxed),
        }
    }

    /// How fast octets pass.
    pub fn rates(&self) -> Octets<f64> {
        self.trend.lock().rates
    }

    /// Looks at the counts, so many seconds after the last time. False if nothing passed lately.
    pub fn look(&self, seconds: f64) -> bool {
        let (octets, mut trend) = (self.octets(), self.trend.lock());
        if trend.is_still(octets) {
            return false;
        }
        trend.look(octets, seconds);
        true
    }
}

/// There is one writer, so this needs no atomic addition.
fn raise(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed) + more, Ordering::Relaxed);
}
