//! What the API shows: the only types of it that are serialised, copied from the broker's own values. Their fields are
//! RabbitMQ's.

mod clients;
mod figures;
mod node;

use serde::Serialize;
use serde_json::{Map, Value};

pub use clients::*;
pub use figures::*;
pub use node::*;

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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_stats: Option<ExchangeStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incoming: Option<Vec<ExchangePublishesView>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outgoing: Option<Vec<OutgoingView>>,
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
    pub octets: Option<OctetSums>,
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
    pub port: Option<u32>,
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

/// What an import would change.
#[derive(Serialize)]
pub struct DifferencesView {
    pub differences: Vec<String>,
}
