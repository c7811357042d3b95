//! The command line of `leveret perf`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::batch::STAMP_LEN;
use super::error::PerfError;
use super::load::{Load, Until};
use super::topology::{ExchangeKind, Topology};
use super::uri::AmqpUri;

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
}

/// Who publishes and consumes what.
#[derive(Debug, Args)]
pub struct Workers {
    /// Connections that publish.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub publishers: usize,
    /// Connections that consume.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub consumers: usize,
    /// Queues. Publishers and consumers share them; each takes part of them, or several take one.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub queues: u32,
    /// Octets of each body.
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=512 << 20))]
    pub size: u32,
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
    /// Bindings beyond one per queue, none of which matches; not with the default exchange.
    #[arg(long, value_name = "N", default_value_t = 0)]
    extra_bindings: u32,
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
    /// Octets of each body.
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(..=512 << 20))]
    pub size: u32,
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

impl Workers {
    fn load(&self, target: &Target, ack_every: u32, rate: Option<f64>, until: Until) -> Result<Load, PerfError> {
        if self.publishers + self.consumers == 0 {
            return Err(PerfError::Usage("nobody publishes and nobody consumes".to_owned()));
        }
        check_acks(self.prefetch, ack_every)?;
        Ok(Load {
            uri: target.uri.clone(),
            publishers: self.publishers,
            consumers: self.consumers,
            size: self.size as usize,
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
        let until = match self.count {
            Some(_) if self.workers.publishers == 0 => {
                return Err(PerfError::Usage("--count needs a publisher".to_owned()));
            }
            Some(count) => Until::Published(count),
            None => Until::Elapsed(Duration::from_secs_f64(self.duration)),
        };
        self.workers.load(&self.target, self.ack_every, self.rate, until)
    }

    pub(super) fn topology(&self) -> Topology {
        let queues = self.workers.queues as usize;
        Topology::new(
            self.exchange,
            queues,
            self.extra_bindings as usize,
            self.workers.persistent,
        )
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
        let until = Until::Elapsed(Duration::from_secs_f64(self.duration));
        self.workers.load(&self.target, self.ack_every, Some(self.rate), until)
    }

    pub(super) fn topology(&self) -> Topology {
        Topology::new(
            ExchangeKind::Default,
            self.workers.queues as usize,
            0,
            self.workers.persistent,
        )
    }
}

impl FillDrainArgs {
    /// The load that fills, or the one that drains.
    pub(super) fn load(&self, drain: bool) -> Result<Load, PerfError> {
        check_acks(self.prefetch, self.ack_every)?;
        Ok(Load {
            uri: self.target.uri.clone(),
            publishers: usize::from(!drain),
            consumers: usize::from(drain),
            size: self.size as usize,
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
