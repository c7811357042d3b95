//! Connections, their channels and consumers.

use serde::Serialize;
use serde_json::{Map, Value};

use super::figures::{ChannelDeliveriesView, ChannelPublishes, MessageStats, OctetsView};

/// A client connection.
#[derive(Serialize)]
pub struct ConnectionView {
    pub name: String,
    pub node: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub protocol: &'static str,
    pub auth_mechanism: &'static str,
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
    #[serde(flatten)]
    pub octets: OctetsView,
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
    pub messages_uncommitted: u64,
    pub acks_uncommitted: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_stats: Option<MessageStats>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub publishes: Option<Vec<ChannelPublishes>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<Vec<ChannelDeliveriesView>>,
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

/// The name of a queue or an exchange, and its virtual host.
#[derive(Clone, Serialize)]
pub struct ObjectName {
    pub name: String,
    pub vhost: String,
}

/// A consumer.
#[derive(Clone, Serialize)]
pub struct ConsumerView {
    pub consumer_tag: String,
    pub queue: ObjectName,
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
