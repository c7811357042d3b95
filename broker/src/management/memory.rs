//! Who holds the memory, in RabbitMQ's categories. What queues hold is told; all else is one sum.

use serde_json::{Map, Value, json};

use super::overview::this_node;
use super::reply::{Outcome, Reply};
use super::request::Request;
use crate::metrics::process;

/// Kinds of memory that only RabbitMQ tells apart.
const MEMORY_OF_ERLANG: [&str; 26] = [
    "connection_readers",
    "connection_writers",
    "connection_channels",
    "connection_other",
    "queue_procs",
    "quorum_queue_procs",
    "quorum_queue_dlx_procs",
    "stream_queue_procs",
    "stream_queue_replica_reader_procs",
    "stream_queue_coordinator_procs",
    "plugins",
    "metadata_store",
    "other_proc",
    "metrics",
    "mgmt_db",
    "mnesia",
    "quorum_ets",
    "metadata_store_ets",
    "other_ets",
    "binary",
    "msg_index",
    "code",
    "atom",
    "other_system",
    "allocated_unused",
    "reserved_unallocated",
];

/// `GET /api/nodes/{node}/memory`: in bytes.
pub fn absolute(request: &Request) -> Outcome {
    this_node(request)?;
    let resident = process::resident_memory_bytes();
    let mut memory: Map<String, Value> = categories(request, resident)
        .map(|(name, bytes)| (name.to_owned(), bytes.into()))
        .collect();
    memory.insert("strategy".to_owned(), "rss".into());
    let total = json!({ "erlang": resident, "rss": resident, "allocated": resident });
    memory.insert("total".to_owned(), total);
    Reply::json(&json!({ "memory": memory }))
}

/// `GET /api/nodes/{node}/memory/relative`: in parts of a hundred, of which nothing that is there has none.
pub fn relative(request: &Request) -> Outcome {
    this_node(request)?;
    let resident = process::resident_memory_bytes();
    let percent = |bytes: u64| match (bytes * 100 + resident / 2) / resident.max(1) {
        0 if bytes > 0 => 1,
        percent => percent,
    };
    let mut memory: Map<String, Value> = categories(request, resident)
        .map(|(name, bytes)| (name.to_owned(), percent(bytes).into()))
        .collect();
    memory.insert("total".to_owned(), 100.into());
    Reply::json(&json!({ "memory": memory }))
}

/// `GET /api/nodes/{node}/memory/ets` and below: tables of Erlang, of which there are none.
pub fn tables(request: &Request) -> Outcome {
    this_node(request)?;
    Reply::json(&json!({ "ets_tables_memory": "no_tables" }))
}

fn categories(request: &Request, resident: u64) -> impl Iterator<Item = (&'static str, u64)> {
    let vhosts = request.broker.vhosts();
    let queues = vhosts.iter().flat_map(|vhost| vhost.queues());
    let queues: u64 = queues.map(|queue| queue.counts().memory_bytes).sum();
    MEMORY_OF_ERLANG.into_iter().map(move |name| match name {
        "queue_procs" => (name, queues),
        "other_system" => (name, resident.saturating_sub(queues)),
        _ => (name, 0),
    })
}
