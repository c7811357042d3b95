//! What the API shows: the only types of it that are serialised, copied from the broker's own values. Their fields are
//! RabbitMQ's.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::metrics::rates::{Churn, Depth, Flow};

/// Why a request was refused.
#[derive(Serialize)]
pub struct ErrorView {
    pub error: &'static str,
    pub reason: String,
}

/// A page of a list.
#[derive(Serialize)]
pub struct PageView<T> {
    pub filtered_count: usize,
    pub item_count: usize,
    pub items: T,
    pub page: usize,
    pub page_count: usize,
    pub page_size: usize,
    pub total_count: usize,
}

/// The rate beside a count.
#[derive(Clone, Copy, Serialize)]
pub struct RateView {
    pub rate: f64,
}

impl From<f64> for RateView {
    fn from(rate: f64) -> RateView {
        RateView { rate }
    }
}

/// What happened to messages, and how fast.
#[derive(Serialize)]
pub struct MessageStats {
    pub ack: u64,
    pub ack_details: RateView,
    pub confirm: u64,
    pub confirm_details: RateView,
    pub deliver: u64,
    pub deliver_details: RateView,
    pub deliver_get: u64,
    pub deliver_get_details: RateView,
    pub deliver_no_ack: u64,
    pub deliver_no_ack_details: RateView,
    pub drop_unroutable: u64,
    pub drop_unroutable_details: RateView,
    pub get: u64,
    pub get_details: RateView,
    pub get_empty: u64,
    pub get_empty_details: RateView,
    pub get_no_ack: u64,
    pub get_no_ack_details: RateView,
    pub publish: u64,
    pub publish_details: RateView,
    pub redeliver: u64,
    pub redeliver_details: RateView,
    pub return_unroutable: u64,
    pub return_unroutable_details: RateView,
}

impl MessageStats {
    pub fn new(count: &Flow<u64>, rate: &Flow<f64>) -> MessageStats {
        MessageStats {
            ack: count.ack,
            ack_details: rate.ack.into(),
            confirm: count.confirm,
            confirm_details: rate.confirm.into(),
            deliver: count.deliver,
            deliver_details: rate.deliver.into(),
            deliver_get: count.deliver_get(),
            deliver_get_details: rate.deliver_get().into(),
            deliver_no_ack: count.deliver_no_ack,
            deliver_no_ack_details: rate.deliver_no_ack.into(),
            drop_unroutable: count.drop_unroutable,
            drop_unroutable_details: rate.drop_unroutable.into(),
            get: count.get,
            get_details: rate.get.into(),
            get_empty: count.get_empty,
            get_empty_details: rate.get_empty.into(),
            get_no_ack: count.get_no_ack,
            get_no_ack_details: rate.get_no_ack.into(),
            publish: count.publish,
            publish_details: rate.publish.into(),
            redeliver: count.redeliver,
            redeliver_details: rate.redeliver.into(),
            return_unroutable: count.return_unroutable,
            return_unroutable_details: rate.return_unroutable.into(),
        }
    }

    /// Nothing where nothing ever happened, as RabbitMQ leaves it out.
    pub fn if_any(count: &Flow<u64>, rate: &Flow<f64>) -> Option<MessageStats> {
        (*count != Flow::default()).then(|| MessageStats::new(count, rate))
    }
}

/// How much waits in queues, and how fast it grows.
#[derive(Serialize)]
pub struct DepthView {
    pub messages: u64,
    pub messages_details: RateView,
    pub messages_ready: u64,
    pub messages_ready_details: RateView,
    pub messages_unacknowledged: u64,
    pub messages_unacknowledged_details: RateView,
}

impl DepthView {
    pub fn new(count: &Depth<u64>, rate: &Depth<f64>) -> DepthView {
        DepthView {
            messages: count.messages(),
            messages_details: rate.messages().into(),
            messages_ready: count.ready,
            messages_ready_details: rate.ready.into(),
            messages_unacknowledged: count.unacked,
            messages_unacknowledged_details: rate.unacked.into(),
        }
    }
}

/// What came and went, and how fast.
#[derive(Serialize)]
pub struct ChurnView {
    pub channel_closed: u64,
    pub channel_closed_details: RateView,
    pub channel_created: u64,
    pub channel_created_details: RateView,
    pub connection_closed: u64,
    pub connection_closed_details: RateView,
    pub connection_created: u64,
    pub connection_created_details: RateView,
    pub queue_created: u64,
    pub queue_created_details: RateView,
    pub queue_declared: u64,
    pub queue_declared_details: RateView,
    pub queue_deleted: u64,
    pub queue_deleted_details: RateView,
}

impl ChurnView {
    pub fn new(count: &Churn<u64>, rate: &Churn<f64>) -> ChurnView {
        ChurnView {
            channel_closed: count.channel_closed,
            channel_closed_details: rate.channel_closed.into(),
            channel_created: count.channel_created,
            channel_created_details: rate.channel_created.into(),
            connection_closed: count.connection_closed,
            connection_closed_details: rate.connection_closed.into(),
            connection_created: count.connection_created,
            connection_created_details: rate.connection_created.into(),
            queue_created: count.queue_created,
            queue_created_details: rate.queue_created.into(),
            queue_declared: count.queue_declared,
            queue_declared_details: rate.queue_declared.into(),
            queue_deleted: count.queue_deleted,
            queue_deleted_details: rate.queue_deleted.into(),
        }
    }
}

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

/// `GET /api/overview`.
#[derive(Serialize)]
pub struct OverviewView {
    pub management_version: &'static str,
    pub rates_mode: &'static str,
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
}

/// A program that runs in the node.
#[derive(Serialize)]
pub struct ApplicationView {
    pub name: &'static str,
    pub description: &'static str,
    pub version: &'static str,
}

/// A client connection.
#[derive(Serialize)]
pub struct ConnectionView {
    pub name: String,
    pub node: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub protocol: &'static str,
    pub user: String,
    pub user_who_performed_action: String,
    pub vhost: String,
    pub state: &'static str,
    pub channels: u16,
    pub channel_max: u16,
    pub frame_max: u32,
    pub timeout: u16,
    pub connected_at: u64,
    pub user_provided_name: Option<String>,
    pub client_properties: Map<String, Value>,
    pub host: String,
    pub port: u16,
    pub peer_host: String,
    pub peer_port: u16,
    pub ssl: bool,
    pub ssl_cipher: Option<String>,
    pub ssl_hash: Option<String>,
    pub ssl_key_exchange: Option<String>,
    pub ssl_protocol: Option<String>,
    pub peer_cert_issuer: Option<String>,
    pub peer_cert_subject: Option<String>,
    pub peer_cert_validity: Option<String>,
}

/// A connection in what belongs to it.
#[derive(Clone, Serialize)]
pub struct ConnectionDetails {
    pub name: String,
    pub peer_host: String,
    pub peer_port: u16,
}

/// A channel.
#[derive(Serialize)]
pub struct ChannelView {
    pub name: String,
    pub number: u16,
    pub node: String,
    pub user: String,
    pub user_who_performed_action: String,
    pub vhost: String,
    pub state: &'static str,
    pub connection_details: ConnectionDetails,
    pub consumer_count: usize,
    pub messages_unacknowledged: usize,
    pub global_prefetch_count: u16,
    pub prefetch_count: u16,
    pub transactional: bool,
    pub confirm: bool,
    pub messages_unconfirmed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer_details: Option<Vec<ConsumerView>>,
}

/// A channel in what belongs to it.
#[derive(Clone, Serialize)]
pub struct ChannelDetails {
    pub name: String,
    pub number: u16,
    pub user: String,
    pub connection_name: String,
    pub peer_host: String,
    pub peer_port: u16,
    pub node: String,
}

/// The name of a queue and its virtual host.
#[derive(Clone, Serialize)]
pub struct QueueName {
    pub name: String,
    pub vhost: String,
}

/// A consumer.
#[derive(Clone, Serialize)]
pub struct ConsumerView {
    pub consumer_tag: String,
    pub queue: QueueName,
    pub channel_details: ChannelDetails,
    pub ack_required: bool,
    pub active: bool,
    pub activity_status: &'static str,
    pub exclusive: bool,
    pub prefetch_count: u16,
    /// Milliseconds, 0 for ever.
    pub consumer_timeout: u64,
    pub arguments: Map<String, Value>,
}

/// An exchange.
#[derive(Serialize)]
pub struct ExchangeView {
    pub name: String,
    pub vhost: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub durable: bool,
    pub auto_delete: bool,
    pub internal: bool,
    pub arguments: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub messages_delayed: Option<u64>,
}

/// A binding.
#[derive(Clone, Serialize)]
pub struct BindingView {
    pub source: String,
    pub vhost: String,
    pub destination: String,
    pub destination_type: &'static str,
    pub routing_key: String,
    pub arguments: Value,
    pub properties_key: String,
}

/// A virtual host.
#[derive(Serialize)]
pub struct VhostView {
    pub name: String,
    pub description: String,
    pub tags: Vec<String>,
    pub default_queue_type: String,
    pub redeclare_rule: &'static str,
    pub protected_from_deletion: bool,
    pub metadata: VhostMetadata,
    pub tracing: bool,
    pub cluster_state: Map<String, Value>,
    #[serde(flatten)]
    pub depth: Option<DepthView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_stats: Option<MessageStats>,
}

/// What people say about a virtual host.
#[derive(Serialize)]
pub struct VhostMetadata {
    pub description: String,
    pub tags: Vec<String>,
    pub default_queue_type: String,
    pub redeclare_rule: &'static str,
    pub protected_from_deletion: bool,
}

/// A user, with the hash of its password.
#[derive(Serialize)]
pub struct UserView {
    pub name: String,
    pub password_hash: String,
    pub hashing_algorithm: &'static str,
    pub tags: Vec<String>,
    pub limits: Map<String, Value>,
}

/// Who asks.
#[derive(Serialize)]
pub struct WhoamiView {
    pub name: String,
    pub tags: Vec<String>,
}

/// What a user may do in a virtual host.
#[derive(Serialize)]
pub struct PermissionView {
    pub user: String,
    pub vhost: String,
    pub configure: String,
    pub write: String,
    pub read: String,
}

/// What restricts a user's routing keys at an exchange.
#[derive(Serialize)]
pub struct TopicPermissionView {
    pub user: String,
    pub vhost: String,
    pub exchange: String,
    pub write: String,
    pub read: String,
}

/// A policy or operator policy.
#[derive(Serialize)]
pub struct PolicyView {
    pub vhost: String,
    pub name: String,
    pub pattern: String,
    #[serde(rename = "apply-to")]
    pub apply_to: &'static str,
    pub definition: Map<String, Value>,
    pub priority: i64,
}

/// The limits of a virtual host.
#[derive(Serialize)]
pub struct VhostLimitsView {
    pub vhost: String,
    pub value: Map<String, Value>,
}

/// The limits of a user.
#[derive(Serialize)]
pub struct UserLimitsView {
    pub user: String,
    pub value: Map<String, Value>,
}

/// Whether a message found a queue.
#[derive(Serialize)]
pub struct RoutedView {
    pub routed: bool,
}

/// A message that was got.
#[derive(Serialize)]
pub struct MessageView {
    pub payload_bytes: usize,
    pub redelivered: bool,
    pub exchange: String,
    pub routing_key: String,
    pub message_count: usize,
    pub properties: Value,
    pub payload: String,
    pub payload_encoding: &'static str,
}

/// The outcome of a health check.
#[derive(Default, Serialize)]
pub struct CheckView {
    pub status: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missing: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<u16>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alarms: Option<Vec<AlarmView>>,
}

/// An alarm that is on.
#[derive(Serialize)]
pub struct AlarmView {
    pub node: String,
    pub resource: &'static str,
}

/// What belongs to a virtual host by component and name.
#[derive(Serialize)]
pub struct ParameterView {
    pub vhost: String,
    pub component: &'static str,
    pub name: String,
    pub value: Value,
}

/// What belongs to the whole broker.
#[derive(Serialize)]
pub struct GlobalParameterView {
    pub name: String,
    pub value: Value,
}

/// A name that stands alone.
#[derive(Serialize)]
pub struct NameView {
    pub name: String,
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

/// What an import would change.
#[derive(Serialize)]
pub struct DifferencesView {
    pub differences: Vec<String>,
}
