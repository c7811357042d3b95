//! The conductor of a measurement: starts publishers and consumers together, watches them, and stops them together.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::batch::{Batch, Shape};
use super::connection::Connection;
use super::consumer::Consumer;
use super::error::PerfError;
use super::process::{self, Usage};
use super::publisher::{Publisher, Schedule};
use super::topology::Topology;
use super::uri::AmqpUri;
use super::worker::{Counters, Phase, Stage, histogram};
use crate::clock;

/// Read buffer of a publisher, which reads confirms only, and of a consumer.
const PUBLISHER_INPUT_BYTES: usize = 16 * 1024;
const CONSUMER_INPUT_BYTES: usize = 256 * 1024;
/// What one write hands to the kernel: large enough that its cost does not count per message, small enough to stay in
/// the cache.
const BATCH_BYTES: usize = 64 * 1024;
/// The same at a fixed rate.
const PACED_BATCH_BYTES: usize = 4 * 1024;
/// Random bodies must not come again within the distance at which a compressor finds them.
const RANDOM_BATCH_BYTES: usize = 1024 * 1024;
/// The workers recurse nowhere and keep their buffers on the heap.
const STACK_BYTES: usize = 256 * 1024;
/// Time between two lines of progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How often the conductor looks whether a run by count is complete.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);
/// A run by count without any progress for this long is given up.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Load {
    pub uri: AmqpUri,
    pub publishers: usize,
    pub consumers: usize,
    /// Octets of each body.
    pub size: usize,
    /// Bodies of random octets instead of zeros.
    pub random: bool,
    pub persistent: bool,
    pub confirm_window: Option<usize>,
    pub prefetch: u16,
    pub ack_every: u32,
    /// Messages per second of all publishers together; without it as many as the broker takes.
    pub rate: Option<f64>,
    pub until: Until,
    pub warm_up: Duration,
    /// Messages in the queues before the run.
    pub backlog: u64,
    pub broker_pid: Option<u32>,
    /// Whether to print a line each second.
    pub progress: bool,
}

/// When a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After the warm-up.
    Elapsed(Duration),
    /// When so many messages are published, confirmed if confirms are asked for, and consumed if there are consumers.
    Published(u64),
}

/// What was seen between the end of the warm-up and the end of the run.
pub struct Measured {
    /// Octets of each body.
    pub size: usize,
    pub elapsed: Duration,
    pub counts: Counts,
    pub latency: Histogram<u64>,
    pub confirm_latency: Histogram<u64>,
    /// The broker's CPU time meanwhile and its memory at the end.
    pub broker: Option<Usage>,
    pub own_cpu: Duration,
}

/// Messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub published: u64,
    pub confirmed: u64,
    pub nacked: u64,
    pub received: u64,
    pub blocked: u64,
}

impl Counts {
    fn since(self, earlier: Counts) -> Counts {
        Counts {
            published: self.published - earlier.published,
            confirmed: self.confirmed - earlier.confirmed,
            nacked: self.nacked - earlier.nacked,
            received: self.received - earlier.received,
            blocked: self.blocked - earlier.blocked,
        }
    }
}

type Running = JoinHandle<Result<Histogram<u64>, PerfError>>;

/// Runs a load on queues that are declared.
pub fn run(load: &Load, topology: &Topology) -> Result<Measured, PerfError> {
    crate::metrics::process::raise_fd_limit();
    let stage = Stage::new(load.publishers + load.consumers);
    // All connections first: a thread must not wait at the barrier for one that could not connect.
    let consumers = consumers(load, topology, &stage)?;
    let publishers = publishers(load, topology, &stage)?;
    let mut crew = Crew {
        stage,
        counters: Vec::new(),
        publishers: Vec::new(),
        consumers: Vec::new(),
    };
    for consumer in consumers {
        crew.counters.push(Arc::clone(&consumer.counters));
        crew.consumers.push(spawn("perf-consumer", move || consumer.run())?);
    }
    for publisher in publishers {
        crew.counters.push(Arc::clone(&publisher.counters));
        crew.publishers.push(spawn("perf-publisher", move || publisher.run())?);
    }
    let watched = crew.watch(load, topology);
    crew.stage.enter(Phase::Stop);
    // A worker's own reason says more than that it is gone.
    let confirm_latency = joined(crew.publishers, "publisher");
    let latency = joined(crew.consumers, "consumer");
    let (confirm_latency, latency) = (confirm_latency?, latency?);
    let measured = watched?;
    Ok(Measured {
        latency,
        confirm_latency,
        ..measured
    })
}

fn consumers(load: &Load, topology: &Topology, stage: &Arc<Stage>) -> Result<Vec<Consumer>, PerfError> {
    let consumer = |index| {
        Ok(Consumer {
            connection: Connection::open(&load.uri, CONSUMER_INPUT_BYTES)?,
            counters: Arc::default(),
            stage: Arc::clone(stage),
            queues: topology.queues_of_consumer(index, load.consumers),
            prefetch: load.prefetch,
            ack_every: load.ack_every,
            backlog: load.backlog > 0,
        })
    };
    (0..load.consumers).map(consumer).collect()
}

fn publishers(load: &Load, topology: &Topology, stage: &Arc<Stage>) -> Result<Vec<Publisher>, PerfError> {
    let publisher = |index| {
        let mut connection = Connection::open(&load.uri, PUBLISHER_INPUT_BYTES)?;
        if load.confirm_window.is_some() {
            connection.select_confirms()?;
        }
        let shape = Shape {
            exchange: topology.exchange_name(),
            size: load.size,
            persistent: load.persistent,
            frame_max: connection.frame_max(),
            // At a fixed rate few messages are due at once, and there may be thousands of publishers.
            batch_bytes: match load.rate {
                Some(_) => PACED_BATCH_BYTES,
                None if load.random => RANDOM_BATCH_BYTES,
                None => BATCH_BYTES,
            },
            random: load.random,
        };
        let interval = load.rate.map(|rate| 1e9 * load.publishers as f64 / rate);
        Ok(Publisher {
            batch: Batch::new(shape, &topology.keys_of_publisher(index, load.publishers)),
            connection,
            counters: Arc::default(),
            stage: Arc::clone(stage),
            schedule: interval.map(|interval| Schedule {
                interval,
                // The publishers take turns.
                offset: interval * index as f64 / load.publishers as f64,
            }),
            quota: match load.until {
                Until::Elapsed(_) => None,
                Until::Published(count) => Some(part(count, index as u64, load.publishers as u64)),
            },
            confirm_window: load.confirm_window,
        })
    };
    (0..load.publishers).map(publisher).collect()
}

/// The part of `whole` that falls to one of `parts`.
fn part(whole: u64, index: u64, parts: u64) -> u64 {
    whole / parts + u64::from(index < whole % parts)
}

fn spawn(
    name: &str,
    work: impl FnOnce() -> Result<Histogram<u64>, PerfError> + Send + 'static,
) -> Result<Running, PerfError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .stack_size(STACK_BYTES)
        .spawn(work)
        .map_err(PerfError::io("start a thread"))
}

fn joined(workers: Vec<Running>, what: &'static str) -> Result<Histogram<u64>, PerfError> {
    let mut all = histogram()?;
    let mut failure = None;
    for worker in workers {
        match worker.join() {
            Ok(Ok(latencies)) => all
                .add(latencies)
                .map_err(|error| PerfError::Usage(error.to_string()))?,
            Ok(Err(error)) => failure = failure.or(Some(error)),
            Err(_) => failure = failure.or(Some(PerfError::WorkerFailed(what))),
        }
    }
    failure.map_or(Ok(all), Err)
}

struct Crew {
    stage: Arc<Stage>,
    counters: Vec<Arc<Counters>>,
    publishers: Vec<Running>,
    consumers: Vec<Running>,
}

/// A moment of a run.
#[derive(Clone, Copy)]
struct Snapshot {
    at: Instant,
    counts: Counts,
    broker: Option<Usage>,
    own_cpu: Duration,
}

impl Crew {
    /// Lets the load run its time and measures it. The latencies are still with the workers.
    fn watch(&self, load: &Load, topology: &Topology) -> Result<Measured, PerfError> {
        let mut from = self.snapshot(load);
        if load.warm_up.is_zero() {
            self.stage.enter(Phase::Measure);
        }
        self.stage.begin.wait();
        let start = clock::now();
        let mut line = ProgressLine {
            start,
            last: start,
            counts: Counts::default(),
            shown: load.progress,
        };
        if !load.warm_up.is_zero() {
            self.wait_until(Some(start + load.warm_up), &mut line, |_| false)?;
            from = self.snapshot(load);
        }
        let from = from?;
        if let Some(pid) = load.broker_pid {
            process::forget_peak(pid);
        }
        self.stage.enter(Phase::Measure);
        match load.until {
            Until::Elapsed(duration) => self.wait_until(Some(from.at + duration), &mut line, |_| false)?,
            Until::Published(count) => {
                let received = load.backlog
                    + if load.publishers > 0 {
                        count * topology.copies() as u64
                    } else {
                        0
                    };
                self.wait_until(None, &mut line, |counts| {
                    let all_published = load.publishers == 0 || counts.published == count;
                    let all_confirmed = load.confirm_window.is_none() || counts.confirmed + counts.nacked == count;
                    all_published && all_confirmed && (load.consumers == 0 || counts.received >= received)
                })?;
            }
        }
        let to = self.snapshot(load)?;
        Ok(Measured {
            size: load.size,
            elapsed: to.at.duration_since(from.at),
            counts: to.counts.since(from.counts),
            latency: histogram()?,
            confirm_latency: histogram()?,
            broker: match (from.broker, to.broker) {
                (Some(from), Some(to)) => Some(Usage {
                    cpu: to.cpu.saturating_sub(from.cpu),
                    ..to
                }),
                _ => None,
            },
            own_cpu: to.own_cpu.saturating_sub(from.own_cpu),
        })
    }

    fn snapshot(&self, load: &Load) -> Result<Snapshot, PerfError> {
        Ok(Snapshot {
            at: clock::now(),
            counts: self.counts(),
            broker: load.broker_pid.map(process::usage).transpose()?,
            own_cpu: process::own_cpu(),
        })
    }

    fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for counters in &self.counters {
            sum.published += counters.published.load(Ordering::Relaxed);
            sum.confirmed += counters.confirmed.load(Ordering::Relaxed);
            sum.nacked += counters.nacked.load(Ordering::Relaxed);
            sum.received += counters.received.load(Ordering::Relaxed);
            sum.blocked += counters.blocked.load(Ordering::Relaxed);
        }
        sum
    }

    /// Waits until a moment or until `complete`, showing progress. A worker that ends too early ends the wait: it knows why.
    fn wait_until(
        &self,
        end: Option<Instant>,
        line: &mut ProgressLine,
        complete: impl Fn(&Counts) -> bool,
    ) -> Result<(), PerfError> {
        let mut progressed = (clock::now(), Counts::default());
        loop {
            let now = clock::now();
            let counts = self.counts();
            if counts != progressed.1 {
                progressed = (now, counts);
            }
            let over = match end {
                Some(end) if now >= end => true,
                Some(_) => self
                    .publishers
                    .iter()
                    .chain(&self.consumers)
                    .any(JoinHandle::is_finished),
                None => complete(&counts) || self.consumers.iter().any(JoinHandle::is_finished),
            };
            if over {
                return Ok(());
            }
            if end.is_none() && now.duration_since(progressed.0) > STALL_TIMEOUT {
                return Err(PerfError::Stalled {
                    seconds: STALL_TIMEOUT.as_secs(),
                    published: counts.published,
                    received: counts.received,
                });
            }
            line.show_when_due(now, counts);
            let next_line = (line.last + PROGRESS_INTERVAL).saturating_duration_since(now);
            let pause = match end {
                Some(end) => next_line.min(end.saturating_duration_since(now)),
                None => next_line.min(LOOK_INTERVAL),
            };
            std::thread::sleep(pause);
        }
    }
}

/// One line each second on standard error.
struct ProgressLine {
    start: Instant,
    last: Instant,
    counts: Counts,
    shown: bool,
}

impl ProgressLine {
    fn show_when_due(&mut self, now: Instant, counts: Counts) {
        let elapsed = now.duration_since(self.last);
        if elapsed < PROGRESS_INTERVAL {
            return;
        }
        let done = counts.since(self.counts);
        (self.last, self.counts) = (now, counts);
        if !self.shown {
            return;
        }
        let rate = |count: u64| (count as f64 / elapsed.as_secs_f64()).round();
        let at = now.duration_since(self.start).as_secs_f64();
        let mut line = format!("{at:6.1} s  published {:>9}/s", rate(done.published));
        if counts.confirmed + counts.nacked > 0 {
            line += &format!("  confirmed {:>9}/s", rate(done.confirmed));
        }
        line += &format!("  received {:>9}/s", rate(done.received));
        if done.blocked > 0 {
            line += "  (blocked by the broker)";
        }
        eprintln!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_up_the_whole() {
        let parts: Vec<u64> = (0..3).map(|index| part(11, index, 3)).collect();
        assert_eq!(parts, [4, 4, 3]);
    }
}
