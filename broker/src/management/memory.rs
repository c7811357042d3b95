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

/// `GET /api/nodes/{node}/memory`: RabbitMQ's categories. What queues hold is told; all else is one sum.
pub fn absolute(request: &Request) -> Outcome {
    this_node(request)?;
    let resident = process::resident_memory_bytes();
    let vhosts = request.broker.vhosts();
    let queues = vhosts.iter().flat_map(|vhost| vhost.queues());
    let queues: u64 = queues.map(|queue| queue.counts().memory_bytes).sum();
    let mut memory: Map<String, Value> = MEMORY_OF_ERLANG
        .iter()
        .map(|name| ((*name).to_owned(), 0.into()))
        .collect();
    memory.insert("queue_procs".to_owned(), queues.into());
    memory.insert("other_system".to_owned(), resident.saturating_sub(queues).into());
    memory.insert("strategy".to_owned(), "rss".into());
    let total = json!({ "erlang": resident, "rss": resident, "allocated": resident });
    memory.insert("total".to_owned(), total);
    Reply::json(&json!({ "memory": memory }))
}
