//! The broker as a whole.

use serde::Serialize;
use serde_json::{Map, Value};

use super::figures::{ChurnView, DepthView, MessageStats};

/// Something that has a name and may be there.
#[derive(Clone, Serialize)]
pub struct PluggedView {
    pub name: &'static str,
    pub description: &'static str,
    pub enabled: bool,
}

/// An address that the broker listens on.
#[derive(Serialize)]
pub struct ListenerView {
    pub node: String,
    pub protocol: &'static str,
    pub ip_address: String,
    pub port: u16,
    pub socket_opts: Map<String, Value>,
}

/// How many there are of each kind.
#[derive(Default, Serialize)]
pub struct ObjectTotals {
    pub channels: u64,
    pub connections: u64,
    pub consumers: u64,
    pub exchanges: u64,
    pub queues: u64,
}

/// How far back samples go, in seconds: of the broker, and of objects that are watched.
#[derive(Serialize)]
pub struct RetentionView {
    pub global: Vec<u64>,
    pub basic: Vec<u64>,
    pub detailed: Vec<u64>,
}

/// `GET /api/overview`.
#[derive(Serialize)]
pub struct OverviewView {
    pub management_version: &'static str,
    pub rates_mode: &'static str,
    pub sample_retention_policies: RetentionView,
    pub exchange_types: Vec<PluggedView>,
    pub product_name: String,
    pub product_version: String,
    pub rabbitmq_version: &'static str,
    pub cluster_name: String,
    pub erlang_version: &'static str,
    pub erlang_full_version: &'static str,
    pub disable_stats: bool,
    pub enable_queue_totals: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_stats: Option<MessageStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub churn_rates: Option<ChurnView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_totals: Option<DepthView>,
    pub object_totals: ObjectTotals,
    pub statistics_db_event_queue: u64,
    pub node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listeners: Option<Vec<ListenerView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contexts: Option<Vec<ContextView>>,
}

/// A web page or API that the broker serves.
#[derive(Serialize)]
pub struct ContextView {
    pub node: String,
    pub description: &'static str,
    pub path: &'static str,
    pub ip: String,
    pub port: String,
}

/// `GET /api/nodes`.
#[derive(Serialize)]
pub struct NodeView {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub running: bool,
    pub being_drained: bool,
    pub partitions: [&'static str; 0],
    pub os_pid: String,
    pub uptime: u64,
    pub processors: usize,
    pub run_queue: u64,
    pub rates_mode: &'static str,
    pub fd_used: u64,
    pub fd_total: u64,
    pub sockets_used: u64,
    pub sockets_total: u64,
    pub proc_used: u64,
    pub proc_total: u64,
    pub mem_used: u64,
    pub mem_limit: u64,
    pub mem_alarm: bool,
    pub mem_calculation_strategy: &'static str,
    pub disk_free: u64,
    pub disk_free_limit: u64,
    pub disk_free_alarm: bool,
    pub exchange_types: Vec<PluggedView>,
    pub auth_mechanisms: Vec<PluggedView>,
    pub applications: Vec<ApplicationView>,
    pub contexts: Vec<ContextView>,
    pub db_dir: String,
    pub config_files: [&'static str; 0],
    pub log_files: [&'static str; 1],
    pub enabled_plugins: [&'static str; 1],
    #[serde(flatten)]
    pub churn: ChurnView,
}

/// A program that runs in the node.
#[derive(Serialize)]
pub struct ApplicationView {
    pub name: &'static str,
    pub description: &'static str,
    pub version: &'static str,
}

/// Logins of one source.
#[derive(Serialize)]
pub struct SourceAttemptsView {
    pub remote_address: String,
    pub username: &'static str,
    pub protocol: &'static str,
    pub auth_attempts: u32,
    pub auth_attempts_failed: u32,
    pub auth_attempts_succeeded: u32,
}

/// Logins over one protocol.
#[derive(Serialize)]
pub struct AttemptsView {
    pub protocol: &'static str,
    pub auth_attempts: u64,
    pub auth_attempts_failed: u64,
    pub auth_attempts_succeeded: u64,
}
