//! What the API shows of a queue.

use serde::Serialize;
use serde_json::{Map, Value};

use super::views::{ConnectionDetails, ConsumerView, DepthView, IncomingView, MessageStats, QueueDeliveriesView};

/// A queue; what is borrowed would cost the most to copy. At most one of totals and figures is there.
#[derive(Serialize)]
pub struct QueueView<'a> {
    pub name: &'a str,
    pub vhost: &'a str,
    pub node: &'a str,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub state: &'static str,
    pub durable: bool,
    pub auto_delete: bool,
    pub exclusive: bool,
    pub arguments: Value,
    pub policy: Option<&'a str>,
    pub operator_policy: Option<&'a str>,
    pub effective_policy_definition: Map<String, Value>,
    #[serde(flatten)]
    pub totals: Option<QueueTotals>,
    #[serde(flatten)]
    pub figures: Option<QueueFigures<'a>>,
}

/// How many messages are in a queue, for who wants to know nothing else.
#[derive(Serialize)]
pub struct QueueTotals {
    pub messages: usize,
    pub messages_ready: usize,
    pub messages_unacknowledged: usize,
}

/// What is in a queue, what happened there, and who consumes.
#[derive(Serialize)]
pub struct QueueFigures<'a> {
    pub consumers: usize,
    pub consumer_capacity: f64,
    pub consumer_utilisation: f64,
    pub exclusive_consumer_tag: Option<&'a str>,
    pub single_active_consumer_tag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner_pid_details: Option<&'a ConnectionDetails>,
    #[serde(flatten)]
    pub depth: DepthView,
    pub head_message_timestamp: Option<u64>,
    pub memory: u64,
    pub message_bytes: u64,
    pub message_bytes_paged_out: u64,
    pub message_bytes_persistent: u64,
    pub message_bytes_ram: u64,
    pub message_bytes_ready: u64,
    pub message_bytes_unacknowledged: u64,
    pub messages_paged_out: usize,
    pub messages_persistent: usize,
    pub messages_ram: usize,
    pub messages_ready_ram: usize,
    pub messages_unacknowledged_ram: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_stats: Option<MessageStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_details: Option<&'a [ConsumerView]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<&'a [QueueDeliveriesView]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incoming: Option<&'a [IncomingView]>,
}
