//! The table of keys: which fields there are and how each is read.

use std::time::Duration;

use toml::Value;

use super::{Config, networks, seeds, tls, value};
use crate::protocol::stamp::Stamping;
use crate::vhost::redeclare::RedeclareRule;

/// Smallest frame every AMQP peer must be able to handle; less cannot be offered.
const LEAST_FRAME_MAX_BYTES: u32 = 4096;
/// Larger frames only make one message block others for longer.
pub(super) const MOST_FRAME_MAX_BYTES: u32 = 16 << 20;
/// RabbitMQ's own ceiling for a message.
const MOST_MESSAGE_BYTES: u64 = 512 << 20;
/// More than any machine has today.
const MOST_QUEUE_MEMORY_BYTES: u64 = 1 << 50;
const LEAST_TIMEOUT: Duration = Duration::from_millis(1);
const MOST_TIMEOUT: Duration = Duration::from_secs(3600);

/// One key: its name and how its value gets into the configuration.
pub(super) struct Key {
    pub name: &'static str,
    pub set: fn(&mut Config, &Value) -> Result<(), String>,
    /// Whether two configurations agree on it.
    pub same: fn(&Config, &Config) -> bool,
    /// Takes the value of another configuration.
    pub take: fn(&mut Config, &Config),
}

/// Makes the table, and a function that does not compile when a field of [`Config`] has no key.
macro_rules! keys {
    ($($field:ident: $parse:expr,)*) => {
        pub(super) const KEYS: &[Key] = &[$(Key {
            name: stringify!($field),
            set: |config, value| {
                config.$field = ($parse)(value)?;
                Ok(())
            },
            same: |one, other| one.$field == other.$field,
            take: |config, other| config.$field = other.$field.clone(),
        },)*];

        #[expect(dead_code, reason = "only its compilation matters")]
        fn every_field_has_a_key(Config { $($field: _,)* }: Config) {}
    };
}

keys! {
    data_dir: value::path,
    amqp_listen: value::addresses,
    metrics_listen: value::addresses,
    management_listen: value::addresses,
    tls_listen: value::addresses,
    management_tls_listen: value::addresses,
    metrics_tls_listen: value::addresses,
    metrics_access: value::metrics_access,
    ctl_socket: value::optional_path,
    tls_certificate: value::optional_path,
    tls_key: value::optional_path,
    tls_hosts: tls::hosts,
    tls_client_ca: value::optional_path,
    tls_crl_files: value::paths,
    tls_verify: tls::verify,
    http_tls_verify: tls::verify,
    tls_login_from: tls::login_from,
    tls_min_version: tls::version,
    proxy_protocol_from: networks::networks,
    log_format: value::log_format,
    log_level: value::log_level,
    node_name: value::hostname_template,
    cluster_name: value::text,
    product: value::some_text,
    product_version: value::version,
    frame_max: |v| value::whole(v, LEAST_FRAME_MAX_BYTES..=MOST_FRAME_MAX_BYTES),
    channel_max: |v| value::whole(v, 1..=u16::MAX),
    heartbeat: value::heartbeat,
    handshake_timeout: |v| value::duration(v, LEAST_TIMEOUT..=MOST_TIMEOUT),
    max_message_size: |v| value::size(v, 1..=MOST_MESSAGE_BYTES),
    connection_max: value::limit,
    consumer_max_per_channel: value::limit,
    set_header_timestamp: |v| value::one_of(v, &Stamping::ALL),
    set_header_routing_node: |v| value::one_of(v, &Stamping::ALL),
    redeclare_rule: |v| value::one_of(v, &RedeclareRule::ALL),
    fsync: value::fsync,
    fsync_interval: |v| value::duration(v, LEAST_TIMEOUT..=MOST_TIMEOUT),
    queue_memory_budget: |v| value::size(v, 0..=MOST_QUEUE_MEMORY_BYTES),
    memory_high_watermark: value::memory_watermark,
    disk_free_limit: value::disk_free_limit,
    default_user: value::text,
    default_pass: value::password,
    default_vhost: value::some_text,
    loopback_users: value::texts,
    anonymous_login_user: value::text,
    password_hashing: value::password_hashing,
    oauth_resource_server_id: value::text,
    oauth_jwks_file: value::optional_path,
    oauth_issuer: value::text,
    oauth_scope_prefix: value::text,
    oauth_username_claims: value::texts,
    vhosts: seeds::vhosts,
    users: seeds::users,
    load_definitions: value::optional_path,
    shutdown_deadline: |v| value::duration(v, Duration::ZERO..=MOST_TIMEOUT),
    worker_threads: value::threads,
}

/// The key of this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// Names of all keys, in the order of the documentation.
pub fn key_names() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(|key| key.name)
}
