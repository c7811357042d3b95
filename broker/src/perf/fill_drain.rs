//! `leveret perf fill-drain`: a backlog grows, then goes.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::args::FillDrainArgs;
use super::connection::Connection;
use super::error::PerfError;
use super::load::{self, Measured};
use super::report::Report;
use super::topology::{ExchangeKind, Topology};
use super::{open_control, print, process};
use crate::clock;

/// How often the broker is asked whether it has all messages.
const ASK_INTERVAL: Duration = Duration::from_millis(10);
/// How long messages that are sent may take to be in the queue.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Serialize)]
struct FillDrain {
    fill: Report,
    drain: Report,
}

impl fmt::Display for FillDrain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fill\n{}drain\n{}", self.fill, self.drain)
    }
}

pub fn run(args: &FillDrainArgs) -> Result<(), PerfError> {
    let topology = Topology::new(ExchangeKind::Default, args.queues as usize, args.persistent);
    let mut control = open_control(&args.target)?;
    topology.declare(&mut control)?;
    let measured = measure(args, &topology, &mut control);
    let deleted = topology.delete(&mut control).and_then(|()| control.close());
    let report = measured?;
    deleted?;
    print(&report, args.target.json)
}

fn measure(args: &FillDrainArgs, topology: &Topology, control: &mut Connection) -> Result<FillDrain, PerfError> {
    let fill = fill(args, topology, control)?;
    let drain = load::run(&args.load(true)?, topology)?;
    Ok(FillDrain {
        fill: Report::of(&fill),
        drain: Report::of(&drain),
    })
}

/// Publishes all, and ends when the queue has all: what lies in sockets does not count as done.
fn fill(args: &FillDrainArgs, topology: &Topology, control: &mut Connection) -> Result<Measured, PerfError> {
    let load = args.load(false)?;
    let pid = args.target.broker_pid;
    if let Some(pid) = pid {
        process::forget_peak(pid);
    }
    let before = pid.map(process::usage).transpose()?;
    let start = clock::now();
    let mut measured = load::run(&load, topology)?;
    await_messages(topology, control, args.count)?;
    measured.elapsed = clock::now().duration_since(start);
    if let (Some(pid), Some(before)) = (pid, before) {
        let mut after = process::usage(pid)?;
        after.cpu = after.cpu.saturating_sub(before.cpu);
        measured.broker = Some(after);
    }
    Ok(measured)
}

/// Waits until so many messages are in the queues: what was written last may still lie in sockets.
pub fn await_messages(topology: &Topology, control: &mut Connection, count: u64) -> Result<(), PerfError> {
    let deadline = clock::now() + ARRIVAL_TIMEOUT;
    while topology.messages(control)? < count {
        if clock::now() > deadline {
            return Err(PerfError::Unexpected(
                "fewer messages than were published to it".to_owned(),
            ));
        }
        std::thread::sleep(ASK_INTERVAL);
    }
    Ok(())
}
