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
mod sync;
mod topology;
mod uri;
mod worker;

pub use args::PerfArgs;
pub use error::PerfError;

use std::time::Duration;

use args::{LatencyArgs, PerfCommand, Target, ThroughputArgs};
use connection::Connection;
use load::Load;
use report::Report;
use serde::Serialize;
use topology::Topology;

use crate::clock;

/// Read buffer of a connection that only declares and asks.
const CONTROL_INPUT_BYTES: usize = 8 * 1024;
/// How often a broker that is just starting is tried.
const KNOCK_INTERVAL: Duration = Duration::from_millis(1);

/// Runs a `leveret perf` command and prints its report.
pub fn run(args: PerfArgs) -> Result<(), PerfError> {
    match args.command {
        PerfCommand::Throughput(args) => throughput(&args),
        PerfCommand::Latency(args) => latency(&args),
        PerfCommand::FillDrain(args) => fill_drain::run(&args),
        PerfCommand::Connections(args) => connections::run(&args),
        PerfCommand::Sync(args) => sync::run(&args),
    }
}

fn throughput(args: &ThroughputArgs) -> Result<(), PerfError> {
    let (load, topology) = (args.load()?, args.topology());
    let filling = (args.backlog > 0).then(|| args.filling()).transpose()?;
    print(
        &measure(&args.target, filling.as_ref(), &load, &topology)?,
        args.target.json,
    )
}

fn latency(args: &LatencyArgs) -> Result<(), PerfError> {
    let report = measure(&args.target, None, &args.load()?, &args.topology())?;
    print(&report, args.target.json)
}

/// Declares, makes the backlog, runs, deletes.
fn measure(target: &Target, filling: Option<&Load>, load: &Load, topology: &Topology) -> Result<Report, PerfError> {
    let mut control = open_control(target)?;
    topology.declare(&mut control)?;
    let filled = filling.map_or(Ok(()), |filling| {
        load::run(filling, topology)?;
        fill_drain::await_messages(topology, &mut control, load.backlog)
    });
    let measured = filled.and_then(|()| load::run(load, topology));
    let deleted = topology.delete(&mut control).and_then(|()| control.close());
    let report = Report::of(&measured?);
    deleted.map(|()| report)
}

/// The connection that declares and asks. A broker that is just starting may be waited for.
fn open_control(target: &Target) -> Result<Connection, PerfError> {
    let deadline = clock::now() + Duration::from_secs_f64(target.wait_for_broker);
    loop {
        match Connection::open(&target.uri, CONTROL_INPUT_BYTES) {
            Err(_) if clock::now() < deadline => std::thread::sleep(KNOCK_INTERVAL),
            result => return result,
        }
    }
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
