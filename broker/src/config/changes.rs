//! What a configuration that is read again changes at once, and what waits for a restart.

use toml::Value;

use super::{Config, keys};

/// Keys that take effect while the broker runs; on new connections where they concern connections.
const RELOADED: [&str; 27] = [
    "log_level",
    "metrics_access",
    "tls_certificate",
    "tls_key",
    "tls_hosts",
    "tls_client_ca",
    "tls_crl_files",
    "tls_verify",
    "http_tls_verify",
    "tls_login_from",
    "tls_min_version",
    "proxy_protocol_from",
    "product",
    "product_version",
    "frame_max",
    "channel_max",
    "heartbeat",
    "handshake_timeout",
    "max_message_size",
    "set_header_timestamp",
    "set_header_routing_node",
    "connection_max",
    "memory_high_watermark",
    "disk_free_limit",
    "loopback_users",
    "anonymous_login_user",
    "shutdown_deadline",
];

/// Keys that are looked at in a new data directory only.
const FIRST_START: [&str; 6] = [
    "default_user",
    "default_pass",
    "default_vhost",
    "vhosts",
    "users",
    "load_definitions",
];

/// What comes of reading the configuration again.
#[derive(Debug, Clone, PartialEq)]
pub struct Changes {
    /// What is in force from now on.
    pub config: Config,
    /// Keys whose new values it has.
    pub taken: Vec<&'static str>,
    /// Keys whose new values wait for a restart.
    pub at_restart: Vec<&'static str>,
}

impl Config {
    /// This configuration with another value of a key.
    pub fn with(&self, key: &str, value: &Value) -> Result<Config, String> {
        let key = keys::find(key).ok_or_else(|| format!("there is no key '{key}'"))?;
        let mut config = self.clone();
        (key.set)(&mut config, value)?;
        Ok(config)
    }

    /// This configuration with what can be taken from one that was read later.
    pub fn changes_to(&self, later: &Config) -> Changes {
        let mut changes = Changes {
            config: self.clone(),
            taken: Vec::new(),
            at_restart: Vec::new(),
        };
        for key in keys::KEYS.iter().filter(|key| !(key.same)(self, later)) {
            if RELOADED.contains(&key.name) {
                (key.take)(&mut changes.config, later);
                changes.taken.push(key.name);
            } else if !FIRST_START.contains(&key.name) {
                changes.at_restart.push(key.name);
            }
        }
        changes
    }
}

/// Whether a key takes effect while the broker runs.
pub fn is_reloaded(key: &str) -> bool {
    RELOADED.contains(&key)
}
