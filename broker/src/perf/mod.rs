//! `leveret perf`: a load generator for any AMQP 0-9-1 broker.
//!
//! It is made to cost little beside the broker: publishes are encoded once and written many at a time ([`batch`]), input
//! is cut into frames in place, every worker is a thread with a connection of its own ([`publisher`], [`consumer`]), and
//! what they count is read by one conductor ([`load`]). A TLS connection is not supported: it would measure TLS.

mod args;
mod batch;
mod confirms;
mod connection;
mod connections;
mod consumer;
mod error;
mod fill_drain;
mod load;
mod process;
mod publisher;
mod report;
mod topology;
mod uri;
mod worker;

pub use args::PerfArgs;
pub use error::PerfError;

use args::{LatencyArgs, PerfCommand, ThroughputArgs};
use connection::Connection;
use load::Load;
use report::Report;
use serde::Serialize;
use topology::Topology;

/// Read buffer of a connection that only declares and asks.
const CONTROL_INPUT_BYTES: usize = 8 * 1024;

/// Runs a `leveret perf` command and prints its report.
pub fn run(args: PerfArgs) -> Result<(), PerfError> {
    match args.command {
        PerfCommand::Throughput(args) => throughput(&args),
        PerfCommand::Latency(args) => latency(&args),
        PerfCommand::FillDrain(args) => fill_drain::run(&args),
        PerfCommand::Connections(args) => connections::run(&args),
    }
}

fn throughput(args: &ThroughputArgs) -> Result<(), PerfError> {
    print(&measure(&args.load()?, &args.topology())?, args.target.json)
}

fn latency(args: &LatencyArgs) -> Result<(), PerfError> {
    print(&measure(&args.load()?, &args.topology())?, args.target.json)
}

/// Declares, runs, deletes.
fn measure(load: &Load, topology: &Topology) -> Result<Report, PerfError> {
    let mut control = Connection::open(&load.uri, CONTROL_INPUT_BYTES)?;
    topology.declare(&mut control)?;
    let measured = load::run(load, topology);
    let deleted = topology.delete(&mut control).and_then(|()| control.close());
    let report = Report::of(&measured?);
    deleted.map(|()| report)
}

fn print(report: &(impl Serialize + std::fmt::Display), json: bool) -> Result<(), PerfError> {
    use std::io::Write as _;
    let text = if json {
        serde_json::to_string(report).map_err(|error| PerfError::Io {
            what: "write the report".to_owned(),
            source: error.into(),
        })?
    } else {
        report.to_string().trim_end().to_owned()
    };
    writeln!(std::io::stdout().lock(), "{text}").map_err(PerfError::io("write the report"))
}
