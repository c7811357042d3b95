//! The command line of `leveret perf`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::batch::STAMP_LEN;
use super::error::PerfError;
use super::load::{Load, Until};
use super::topology::{ExchangeKind, Topology};
use super::uri::AmqpUri;

/// Each worker is a thread.
const WORKERS_MAX: i64 = 20_000;

#[derive(Debug, Args)]
pub struct PerfArgs {
    #[command(subcommand)]
    pub(super) command: PerfCommand,
}

#[derive(Debug, Subcommand)]
pub enum PerfCommand {
    /// Publish and consume as fast as the broker can, or at a fixed rate.
    Throughput(ThroughputArgs),
    /// Publish at a fixed rate and measure how long messages take.
    Latency(LatencyArgs),
    /// Publish a number of messages into a queue, then consume them.
    FillDrain(FillDrainArgs),
    /// Open many idle connections or queues and report the broker's memory for each.
    Connections(ConnectionsArgs),
    /// Append small blocks to a file and sync each: what the disk alone takes, for comparison with confirms.
    Sync(SyncArgs),
}

/// The broker, and how to report.
#[derive(Debug, Args)]
pub struct Target {
    /// Broker to measure.
    #[arg(long, value_name = "URI", default_value = "amqp://guest:guest@localhost:5672/%2f")]
    pub uri: AmqpUri,
    /// Print the report as one JSON object.
    #[arg(long)]
    pub json: bool,
    /// Do not show a line each second.
    #[arg(long)]
    pub quiet: bool,
    /// Process id of the broker, if it runs on this machine: adds its CPU time per message and its memory, those of its
    /// child processes included.
    #[arg(long, value_name = "PID")]
    pub broker_pid: Option<u32>,
    /// Wait up to so long for a broker that is just starting.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    pub wait_for_broker: f64,
}

/// Who publishes and consumes what.
#[derive(Debug, Args)]
pub struct Workers {
    /// Connections that publish.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=WORKERS_MAX))]
    pub publishers: u32,
    /// Connections that consume.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=WORKERS_MAX))]
    pub consumers: u32,
    /// Queues. Publishers and consumers share them; each takes part of them, or several take one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub queues: u32,
    /// Octets of each body.
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=512 << 20))]
    pub size: u32,
    /// Bodies of random octets, which a broker cannot compress; else they are zeros.
    #[arg(long)]
    pub random: bool,
    /// Persistent messages in durable queues.
    #[arg(long)]
    pub persistent: bool,
    /// Publish with confirms and with at most N messages unconfirmed.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub confirm: Option<u32>,
    /// Most deliveries of a consumer that are not acked; 0 is no limit.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub prefetch: u16,
    /// Seconds to work before the measurement begins.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    pub warm_up: f64,
}

#[derive(Debug, Args)]
pub struct ThroughputArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    workers: Workers,
    /// Exchange the messages go through.
    #[arg(long, value_enum, default_value_t)]
    exchange: ExchangeKind,
    /// Routing keys for each queue, which messages take in turn; only with a direct or a topic exchange.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    routing_keys: u32,
    /// Bindings beyond those needed, none of which matches (but for a fanout exchange); not with the default exchange.
    #[arg(long, value_name = "N", default_value_t = 0)]
    extra_bindings: u32,
    /// Messages to publish before the measurement begins, which stay in the queues until then.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub backlog: u64,
    /// Ack every N deliveries at once; 0 consumes without acks.
    #[arg(long, value_name = "N", default_value_t = 0)]
    ack_every: u32,
    /// Messages per second of all publishers together [default: as many as the broker takes].
    #[arg(long, value_name = "PER_SECOND", value_parser = positive)]
    rate: Option<f64>,
    /// Seconds to measure.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    duration: f64,
    /// Publish so many messages and wait until they are consumed, instead of measuring for a time.
    #[arg(long, value_name = "N", conflicts_with_all = ["duration", "warm_up"])]
    count: Option<u64>,
}

#[derive(Debug, Args)]
pub struct LatencyArgs {
    #[command(flatten)]
    pub target: Target,
    #[command(flatten)]
    workers: Workers,
    /// Messages per second of all publishers together.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 1000.0, value_parser = positive)]
    rate: f64,
    /// Ack every N deliveries at once; 0 consumes without acks.
    #[arg(long, value_name = "N", default_value_t = 1)]
    ack_every: u32,
    /// Seconds to measure.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds)]
    duration: f64,
}

#[derive(Debug, Args)]
pub struct FillDrainArgs {
    #[command(flatten)]
    pub target: Target,
    /// Messages.
    #[arg(long, value_name = "N", default_value_t = 500_000)]
    pub count: u64,
    /// Queues, which share the messages.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub queues: u32,
    /// Connections that drain, which share the queues.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=WORKERS_MAX))]
    pub consumers: u32,
    /// Octets of each body.
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=512 << 20))]
    pub size: u32,
    /// Bodies of random octets, which a broker cannot compress; else they are zeros.
    #[arg(long)]
    pub random: bool,
    /// Persistent messages in durable queues.
    #[arg(long)]
    pub persistent: bool,
    /// Publish with confirms and with at most N messages unconfirmed.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub confirm: Option<u32>,
    /// Most deliveries that are not acked; 0 is no limit.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub prefetch: u16,
    /// Ack every N deliveries at once; 0 consumes without acks.
    #[arg(long, value_name = "N", default_value_t = 100)]
    pub ack_every: u32,
}

#[derive(Debug, Args)]
pub struct ConnectionsArgs {
    #[command(flatten)]
    pub target: Target,
    /// Connections to open, each with a channel.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub connections: u32,
    /// Channels of each connection.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=2047))]
    pub channels: u16,
    /// Declare a queue for each connection.
    #[arg(long)]
    pub queue: bool,
    /// Consume from that queue.
    #[arg(long, requires = "queue")]
    pub consumer: bool,
    /// Queues to declare beforehand, on one connection.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub queues: u32,
    /// Make all queues durable.
    #[arg(long)]
    pub durable: bool,
    /// Seconds to wait before memory is read, for the broker to come to rest.
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds)]
    pub settle: f64,
    /// Seconds to stay connected after the report.
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    pub hold: f64,
}

#[derive(Debug, Args)]
pub struct SyncArgs {
    /// Folder on the disk to be measured; the file in it is removed in the end.
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Blocks to append, each followed by fdatasync.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..))]
    pub count: u32,
    /// Octets of each block.
    #[arg(long, value_name = "BYTES", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    pub size: u32,
    /// Print the report as one JSON object.
    #[arg(long)]
    pub json: bool,
}

impl Workers {
    fn load(&self, target: &Target, ack_every: u32, rate: Option<f64>, until: Until) -> Result<Load, PerfError> {
        if self.publishers + self.consumers == 0 {
            return Err(PerfError::Usage("nobody publishes and nobody consumes".to_owned()));
        }
        check_acks(self.prefetch, ack_every)?;
        Ok(Load {
            uri: target.uri.clone(),
            publishers: self.publishers as usize,
            consumers: self.consumers as usize,
            size: self.size as usize,
            random: self.random,
            persistent: self.persistent,
            confirm_window: self.confirm.map(|window| window as usize),
            prefetch: self.prefetch,
            ack_every,
            rate: rate.filter(|_| self.publishers > 0),
            until,
            warm_up: Duration::from_secs_f64(self.warm_up),
            backlog: 0,
            broker_pid: target.broker_pid,
            progress: !target.quiet,
        })
    }
}

impl ThroughputArgs {
    pub(super) fn load(&self) -> Result<Load, PerfError> {
        if self.extra_bindings > 0 && self.exchange == ExchangeKind::Default {
            return Err(PerfError::Usage(
                "the default exchange takes no --extra-bindings".to_owned(),
            ));
        }
        let by_key = matches!(self.exchange, ExchangeKind::Direct | ExchangeKind::Topic);
        if self.routing_keys > 1 && !by_key {
            let text = "--routing-keys needs --exchange direct or topic: others do not choose by key";
            return Err(PerfError::Usage(text.to_owned()));
        }
        let until = match self.count {
            Some(_) if self.workers.publishers == 0 => {
                return Err(PerfError::Usage("--count needs a publisher".to_owned()));
            }
            Some(count) => Until::Published(count),
            None => Until::Elapsed(Duration::from_secs_f64(self.duration)),
        };
        let load = self.workers.load(&self.target, self.ack_every, self.rate, until)?;
        Ok(Load {
            backlog: self.backlog * self.topology().copies() as u64,
            ..load
        })
    }

    /// What makes the backlog.
    pub(super) fn filling(&self) -> Result<Load, PerfError> {
        Ok(Load {
            publishers: 1,
            consumers: 0,
            rate: None,
            until: Until::Published(self.backlog),
            warm_up: Duration::ZERO,
            backlog: 0,
            broker_pid: None,
            progress: false,
            ..self.load()?
        })
    }

    pub(super) fn topology(&self) -> Topology {
        let queues = self.workers.queues as usize;
        Topology::new(self.exchange, queues, self.workers.persistent)
            .with_keys(self.routing_keys as usize, self.extra_bindings as usize)
    }
}

impl LatencyArgs {
    pub(super) fn load(&self) -> Result<Load, PerfError> {
        if (self.workers.size as usize) < STAMP_LEN {
            return Err(PerfError::Usage(format!(
                "latency needs bodies of at least {STAMP_LEN} octets for the time"
            )));
        }
        if self.workers.publishers == 0 {
            return Err(PerfError::Usage("latency needs a publisher".to_owned()));
        }
        if self.workers.consumers == 0 && self.workers.confirm.is_none() {
            let text = "latency needs a consumer, or --confirm to measure confirms alone";
            return Err(PerfError::Usage(text.to_owned()));
        }
        let until = Until::Elapsed(Duration::from_secs_f64(self.duration));
        self.workers.load(&self.target, self.ack_every, Some(self.rate), until)
    }

    pub(super) fn topology(&self) -> Topology {
        let queues = self.workers.queues as usize;
        Topology::new(ExchangeKind::Default, queues, self.workers.persistent)
    }
}

impl FillDrainArgs {
    /// The load that fills, or the one that drains.
    pub(super) fn load(&self, drain: bool) -> Result<Load, PerfError> {
        check_acks(self.prefetch, self.ack_every)?;
        Ok(Load {
            uri: self.target.uri.clone(),
            publishers: usize::from(!drain),
            consumers: if drain { self.consumers as usize } else { 0 },
            size: self.size as usize,
            random: self.random,
            persistent: self.persistent,
            confirm_window: self.confirm.filter(|_| !drain).map(|window| window as usize),
            prefetch: self.prefetch,
            ack_every: self.ack_every,
            rate: None,
            until: Until::Published(self.count),
            warm_up: Duration::ZERO,
            backlog: if drain { self.count } else { 0 },
            broker_pid: self.target.broker_pid,
            progress: !self.target.quiet,
        })
    }
}

/// With fewer deliveries in flight than one ack takes, no ack would ever be sent.
fn check_acks(prefetch: u16, ack_every: u32) -> Result<(), PerfError> {
    if prefetch > 0 && ack_every > u32::from(prefetch) {
        return Err(PerfError::Usage(
            "--ack-every must not be above --prefetch: no ack would ever be due".to_owned(),
        ));
    }
    Ok(())
}

fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && number <= 1e9 => Ok(number),
        _ => Err("must be a number above 0".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if (0.0..=1e6).contains(&number) => Ok(number),
        _ => Err("must be a number of seconds".to_owned()),
    }
}
