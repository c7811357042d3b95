//! `leveret perf connections`: what idle connections and queues cost.

use std::fmt;
use std::time::Duration;

use amq_protocol::protocol::basic;
use amq_protocol::types::FieldTable;
use serde::Serialize;

use super::args::ConnectionsArgs;
use super::connection::{CHANNEL, Connection};
use super::error::PerfError;
use super::report::Mebibytes;
use super::topology::{call_many, declare_queue, delete_queue};
use super::{open_control, print, process};
use crate::clock;
use crate::protocol::AMQPClass;
use crate::protocol::wire::short_string;

/// Read buffer of an idle connection.
const IDLE_INPUT_BYTES: usize = 1024;

#[derive(Debug, Serialize)]
struct Idle {
    queues: u32,
    queues_seconds: f64,
    connections: u32,
    connections_seconds: f64,
    memory: Option<Memory>,
}

/// Resident memory of the broker in octets.
#[derive(Debug, Serialize)]
struct Memory {
    before_bytes: u64,
    with_queues_bytes: u64,
    with_connections_bytes: u64,
    per_queue_bytes: Option<u64>,
    per_connection_bytes: Option<u64>,
}

impl fmt::Display for Idle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "queues           {} in {:.2} s", self.queues, self.queues_seconds)?;
        writeln!(
            f,
            "connections      {} in {:.2} s",
            self.connections, self.connections_seconds
        )?;
        let Some(memory) = &self.memory else { return Ok(()) };
        writeln!(f, "memory before    {}", Mebibytes(memory.before_bytes))?;
        if let Some(each) = memory.per_queue_bytes {
            let all = Mebibytes(memory.with_queues_bytes);
            writeln!(f, "with queues      {all}, {:.2} KiB each", each as f64 / 1024.0)?;
        }
        if let Some(each) = memory.per_connection_bytes {
            let all = Mebibytes(memory.with_connections_bytes);
            writeln!(f, "with connections {all}, {:.2} KiB each", each as f64 / 1024.0)?;
        }
        Ok(())
    }
}

pub fn run(args: &ConnectionsArgs) -> Result<(), PerfError> {
    crate::metrics::process::raise_fd_limit();
    let mut control = open_control(&args.target)?;
    let mut opened = Vec::new();
    let report = measure(args, &mut control, &mut opened);
    if report.is_ok() {
        std::thread::sleep(Duration::from_secs_f64(args.hold));
    }
    for connection in opened {
        connection.close()?;
    }
    let mut names = queue_names("queue", args.queues);
    if args.queue {
        names.extend(queue_names("own", args.connections));
    }
    let deletes: Vec<AMQPClass> = names.iter().map(|name| delete_queue(name)).collect();
    let deleted = call_many(&mut control, &deletes).and_then(|()| control.close());
    let report = report?;
    deleted?;
    print(&report, args.target.json)
}

fn measure(args: &ConnectionsArgs, control: &mut Connection, opened: &mut Vec<Connection>) -> Result<Idle, PerfError> {
    let before = resident(args)?;
    let start = clock::now();
    let declares: Vec<AMQPClass> = queue_names("queue", args.queues)
        .iter()
        .map(|name| declare_queue(name, args.durable, false))
        .collect();
    call_many(control, &declares)?;
    let queues_seconds = clock::now().duration_since(start).as_secs_f64();
    let with_queues = resident(args)?;

    let start = clock::now();
    for name in queue_names("own", args.connections) {
        opened.push(open(args, &name)?);
    }
    let connections_seconds = clock::now().duration_since(start).as_secs_f64();
    let with_connections = resident(args)?;

    let memory = match (before, with_queues, with_connections) {
        (Some(before), Some(with_queues), Some(with_connections)) => Some(Memory {
            before_bytes: before,
            with_queues_bytes: with_queues,
            with_connections_bytes: with_connections,
            per_queue_bytes: each(before, with_queues, args.queues),
            per_connection_bytes: each(with_queues, with_connections, args.connections),
        }),
        _ => None,
    };
    Ok(Idle {
        queues: args.queues,
        queues_seconds,
        connections: args.connections,
        connections_seconds,
        memory,
    })
}

fn open(args: &ConnectionsArgs, queue: &str) -> Result<Connection, PerfError> {
    let mut connection = Connection::open(&args.target.uri, IDLE_INPUT_BYTES)?;
    for channel in CHANNEL + 1..=args.channels {
        connection.open_channel(channel)?;
    }
    if args.queue {
        connection.call(CHANNEL, &declare_queue(queue, args.durable, false))?;
    }
    if args.consumer {
        let consume = basic::Consume {
            queue: short_string(queue),
            consumer_tag: short_string(""),
            no_local: false,
            no_ack: false,
            exclusive: false,
            nowait: false,
            arguments: FieldTable::default(),
        };
        connection.call(CHANNEL, &AMQPClass::Basic(basic::AMQPMethod::Consume(consume)))?;
    }
    Ok(connection)
}

fn queue_names(what: &str, count: u32) -> Vec<String> {
    let process = std::process::id();
    (0..count)
        .map(|index| format!("perf-{process}-{what}-{index:05}"))
        .collect()
}

/// The broker's resident memory once it has come to rest.
fn resident(args: &ConnectionsArgs) -> Result<Option<u64>, PerfError> {
    let Some(pid) = args.target.broker_pid else {
        return Ok(None);
    };
    std::thread::sleep(Duration::from_secs_f64(args.settle));
    Ok(Some(process::usage(pid)?.resident_bytes))
}

/// What one of `count` added.
fn each(before: u64, after: u64, count: u32) -> Option<u64> {
    after.saturating_sub(before).checked_div(u64::from(count))
}
