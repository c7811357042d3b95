//! What the threads of a measurement share.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, LazyLock};
use std::time::Instant;

use hdrhistogram::Histogram;

use super::error::PerfError;
use crate::clock;

/// Shortest latency that is told from a shorter one, in nanoseconds.
const LATENCY_MIN_NANOS: u64 = 1_000;
/// Decimal digits of a latency that are kept.
const LATENCY_DIGITS: u8 = 3;

/// Times in messages are nanoseconds since then, plus one: 0 is no time. It is the same for all runs of the process, because
/// one run may consume what an earlier one has published.
static BASE: LazyLock<Instant> = LazyLock::new(clock::now);

/// What a worker has done, for others to read while it goes on.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counters {
    pub published: AtomicU64,
    pub confirmed: AtomicU64,
    pub nacked: AtomicU64,
    pub received: AtomicU64,
    /// How often the broker sent connection.blocked.
    pub blocked: AtomicU64,
}

/// Adds to a counter that no other thread writes, which a plain load and store do cheaper than an atomic addition.
#[inline]
pub fn add(counter: &AtomicU64, count: u64) {
    counter.store(counter.load(Ordering::Relaxed) + count, Ordering::Relaxed);
}

/// What the workers are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Work, but do not note latencies yet.
    WarmUp,
    Measure,
    Stop,
}

/// The conductor's side and the workers' side of a run.
pub struct Stage {
    phase: AtomicU8,
    /// Passed by everybody when all are ready.
    pub begin: Barrier,
}

impl Stage {
    /// For `workers` threads beside the one that conducts them.
    pub fn new(workers: usize) -> Arc<Stage> {
        Arc::new(Stage {
            phase: AtomicU8::new(Phase::WarmUp as u8),
            begin: Barrier::new(workers + 1),
        })
    }

    #[inline]
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Relaxed) {
            0 => Phase::WarmUp,
            1 => Phase::Measure,
            _ => Phase::Stop,
        }
    }

    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// This moment as it is written into messages.
    #[inline]
    pub fn nanos(&self) -> u64 {
        clock::now().duration_since(*BASE).as_nanos() as u64 + 1
    }
}

/// Latencies a worker has seen since the measurement began.
pub struct Latencies {
    histogram: Histogram<u64>,
    measuring: bool,
}

impl Latencies {
    pub fn new() -> Result<Latencies, PerfError> {
        Ok(Latencies {
            histogram: histogram()?,
            measuring: false,
        })
    }

    /// Forgets what was noted before the measurement began.
    #[inline]
    pub fn follow(&mut self, phase: Phase) {
        if !self.measuring && phase != Phase::WarmUp {
            self.measuring = true;
            self.histogram.reset();
        }
    }

    #[inline]
    pub fn record(&mut self, nanos: u64) {
        // It grows as needed, up to what memory holds.
        let _ = self.histogram.record(nanos.max(LATENCY_MIN_NANOS));
    }

    pub fn into_histogram(self) -> Histogram<u64> {
        self.histogram
    }
}

/// An empty histogram of nanoseconds, which grows with what is recorded.
pub fn histogram() -> Result<Histogram<u64>, PerfError> {
    let created = Histogram::new_with_bounds(LATENCY_MIN_NANOS, 2 * LATENCY_MIN_NANOS, LATENCY_DIGITS);
    let mut histogram = created.map_err(|error| PerfError::Usage(format!("cannot make a histogram: {error}")))?;
    histogram.auto(true);
    Ok(histogram)
}
