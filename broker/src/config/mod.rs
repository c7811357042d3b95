//! The configuration: one struct, filled from the TOML file, then the environment, then flags; the later wins.
//!
//! Every key is written the same way everywhere: `amqp_listen` in the file, `LEVERET_AMQP_LISTEN` in the
//! environment, `--amqp-listen` as a flag where there is one.

mod changes;
mod check;
mod error;
mod file;
mod keys;
mod listen;
mod networks;
mod rabbitmq_conf;
mod rabbitmq_elsewhere;
mod rabbitmq_http;
mod rabbitmq_keys;
mod rabbitmq_tls;
mod rabbitmq_values;
mod seeds;
mod sources;
mod suggest;
mod tls;
mod value;

use std::path::PathBuf;
use std::time::Duration;

pub use changes::{Changes, is_reloaded};
pub use check::Settings;
pub use error::{ConfigError, Origin};
pub use keys::key_names;
pub use listen::ListenAddress;
pub use networks::{Network, Networks};
pub use rabbitmq_values::size_of;
pub use seeds::{SeedGrant, SeedPassword, SeedUser, SeedVhost};
pub use sources::{Flag, Loaded, Sources};
pub use tls::{LoginFrom, TlsFiles, TlsHost, TlsVerify, TlsVersion};
pub use value::available_cores;

use crate::auth::{HashingAlgorithm, Secret};
use crate::protocol::stamp::{Stamping, Stamps};
use crate::vhost::redeclare::RedeclareRule;

/// Everything an operator can choose. `Config::default()` is what a broker without any configuration does.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Directory of everything that is kept, made at the first start. Default `./data`.
    pub data_dir: PathBuf,
    /// Where AMQP clients connect. Default port 5672 of all interfaces, IPv4 and IPv6.
    pub amqp_listen: Vec<ListenAddress>,
    /// Where `GET /metrics` is served; an empty list turns it off. Default port 15692 of all interfaces.
    pub metrics_listen: Vec<ListenAddress>,
    /// Where the management API is served; an empty list turns it off. Default port 15672 of all interfaces.
    pub management_listen: Vec<ListenAddress>,
    /// Where AMQP clients connect over TLS. Default none.
    pub tls_listen: Vec<ListenAddress>,
    /// Where the management API is served over TLS. Default none.
    pub management_tls_listen: Vec<ListenAddress>,
    /// Where `GET /metrics` is served over TLS. Default none.
    pub metrics_tls_listen: Vec<ListenAddress>,
    /// Who reads the metrics. Default anybody.
    pub metrics_access: MetricsAccess,
    /// Socket of `leveret ctl`; `None` is `ctl.sock` in the data directory, the default.
    pub ctl_socket: Option<PathBuf>,

    /// This server's certificate, with those between it and its root behind it. Default none.
    pub tls_certificate: Option<PathBuf>,
    /// The private key of `tls_certificate`. Default none.
    pub tls_key: Option<PathBuf>,
    /// Certificates for host names that clients ask for (SNI). Default none.
    pub tls_hosts: Vec<TlsHost>,
    /// The authorities that clients' certificates are checked against. Default none.
    pub tls_client_ca: Option<PathBuf>,
    /// Lists of certificates that those authorities have revoked. Default none.
    pub tls_crl_files: Vec<PathBuf>,
    /// Whether AMQP clients show a certificate. Default none.
    pub tls_verify: TlsVerify,
    /// The same for the management API and the metrics. Default none.
    pub http_tls_verify: TlsVerify,
    /// The part of a client's certificate that is its user name for EXTERNAL. Default the distinguished name.
    pub tls_login_from: LoginFrom,
    /// The oldest version of TLS that is spoken. Default 1.2.
    pub tls_min_version: TlsVersion,
    /// The proxies whose PROXY protocol header is believed. Default none.
    pub proxy_protocol_from: Networks,

    /// How log lines look. Default text.
    pub log_format: LogFormat,
    /// A level, or directives such as `info,leveret::net=debug`. Default `info`.
    pub log_level: String,

    /// Name of this node in metrics and management; `{hostname}` stands for the host's name. Default `rabbit@{hostname}`.
    pub node_name: String,
    /// Cluster name shown to clients and in metrics. Default: the node name.
    pub cluster_name: String,
    /// `product` in the properties shown to clients; some clients change their behaviour by it. Default `Leveret`.
    pub product: String,
    /// `version` in the properties shown to clients. Default: the version of this program.
    pub product_version: String,

    /// Largest frame offered to clients, in bytes, the frame's header and end included. Default 131072.
    pub frame_max: u32,
    /// Most channels offered per connection. Default 2047.
    pub channel_max: u16,
    /// Heartbeat interval offered to clients, in seconds; 0 turns heartbeats off. Default 60.
    pub heartbeat: u16,
    /// Time a client has from connecting to an open connection. Default 10 s.
    pub handshake_timeout: Duration,
    /// Largest message body accepted, in bytes. Default 128 MiB.
    pub max_message_size: u64,
    /// Most client connections at once; `None`, the default, is no limit.
    pub connection_max: Option<u32>,
    /// Most consumers of a channel; `None`, the default, is no limit.
    pub consumer_max_per_channel: Option<u32>,

    /// Whether messages get the time of their publish. Default off.
    pub set_header_timestamp: Stamping,
    /// Whether messages get the name of this node. Default off.
    pub set_header_routing_node: Stamping,

    /// What becomes of declarations that differ from what is there, in virtual hosts without a rule of their own. Default strict.
    pub redeclare_rule: RedeclareRule,

    /// When a message is on disk. Default always: a confirm follows the sync.
    pub fsync: FsyncPolicy,
    /// Time between syncs when `fsync` is interval. Default 200 ms.
    pub fsync_interval: Duration,

    /// Memory for the waiting messages of all queues; more of them are on disk only. Default 128 MiB.
    pub queue_memory_budget: u64,
    /// Memory above which publishers are blocked. Default 0.6 of what this process may use.
    pub memory_high_watermark: MemoryWatermark,
    /// Free disk space below which publishers are blocked. Default: 1 GB or 5 % of the disk, whichever is more.
    pub disk_free_limit: DiskFreeLimit,

    /// Administrator made at the first start, with all permissions in `default_vhost`; empty for none. Default `guest`.
    pub default_user: String,
    /// Password of `default_user`. Default `guest`.
    pub default_pass: Secret,
    /// Virtual host made at the first start. Default `/`.
    pub default_vhost: String,
    /// Users that may connect only from this machine. Default `guest`.
    pub loopback_users: Vec<String>,
    /// Who clients are that log in with ANONYMOUS; nobody may if it is empty. Default empty.
    pub anonymous_login_user: String,
    /// How new passwords are hashed. Default argon2id.
    pub password_hashing: HashingAlgorithm,
    /// How tokens of OAuth 2 call this broker; none are accepted if it is empty. Default empty.
    pub oauth_resource_server_id: String,
    /// File of the keys that sign tokens. Default none.
    pub oauth_jwks_file: Option<PathBuf>,
    /// Who must have issued tokens. Default anybody who has a key.
    pub oauth_issuer: String,
    /// What stands before the scopes that are meant; `auto` is `oauth_resource_server_id` and a dot. Default `auto`.
    pub oauth_scope_prefix: String,
    /// Claims of which the first that is there names the user. Default `sub`, `client_id`.
    pub oauth_username_claims: Vec<String>,
    /// Further virtual hosts made at the first start. Default none.
    pub vhosts: Vec<SeedVhost>,
    /// Further users made at the first start. Default none.
    pub users: Vec<SeedUser>,

    /// Definitions file in RabbitMQ's form, imported at the first start. Default none.
    pub load_definitions: Option<PathBuf>,

    /// Time an orderly stop may take before the process ends anyway. Default 30 s.
    pub shutdown_deadline: Duration,
    /// Threads that run connections. Default: the number of processor cores.
    pub worker_threads: usize,
}

/// Who reads the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricsAccess {
    /// Whoever reaches their port.
    Open,
    /// Users that may monitor, who log in.
    Monitoring,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One readable line per event.
    Text,
    /// One JSON object per event.
    Json,
}

/// When what is written is synced to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// Before it is confirmed.
    Always,
    /// Every `fsync_interval`; a power failure loses what was confirmed since.
    Interval,
    /// When the operating system likes; a power failure loses what was confirmed lately.
    Never,
}

/// Memory above which publishers are blocked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MemoryWatermark {
    /// Of the memory this process may use: the machine's, or its container's limit if that is less.
    Fraction(f64),
    Bytes(u64),
}

/// Free disk space below which publishers are blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskFreeLimit {
    /// 1 GB or 5 % of the disk, whichever is more.
    Auto,
    Bytes(u64),
}

impl Config {
    /// Reads the file, if one is named, and the environment of this process, and puts the flags on top.
    pub fn load(file: Option<PathBuf>, flags: Vec<Flag>) -> Result<Loaded, ConfigError> {
        Sources::of_process(file, flags)?.into_config()
    }

    /// Path of the socket of `leveret ctl`.
    pub fn ctl_socket_path(&self) -> PathBuf {
        self.ctl_socket
            .clone()
            .unwrap_or_else(|| self.data_dir.join(CTL_SOCKET_FILE))
    }

    /// Whether messages get any stamp.
    pub fn stamps_messages(&self) -> bool {
        self.set_header_timestamp != Stamping::Off || self.set_header_routing_node != Stamping::Off
    }

    /// What is put on messages that are published now.
    pub fn stamps(&self, now_millis: u64) -> Stamps<'_> {
        Stamps {
            timestamp: (self.set_header_timestamp, now_millis),
            routed_by: (self.set_header_routing_node, &self.node_name),
        }
    }

    /// Names of the virtual hosts to make at the first start: the default, the listed ones and those in which
    /// a listed user gets permissions; each once.
    pub fn seed_vhost_names(&self) -> Vec<&str> {
        let listed = self.vhosts.iter().map(|vhost| vhost.name.as_str());
        let granted = self
            .users
            .iter()
            .flat_map(|user| &user.permissions)
            .map(|grant| grant.vhost.as_str());
        let mut names = Vec::new();
        for name in std::iter::once(self.default_vhost.as_str())
            .chain(listed)
            .chain(granted)
        {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

/// Name of the socket of `leveret ctl` in the data directory.
pub const CTL_SOCKET_FILE: &str = "ctl.sock";

impl Default for Config {
    fn default() -> Self {
        let node_name = value::expand_hostname("rabbit@{hostname}");
        Self {
            data_dir: PathBuf::from("./data"),
            amqp_listen: ListenAddress::all_interfaces(5672),
            metrics_listen: ListenAddress::all_interfaces(15692),
            management_listen: ListenAddress::all_interfaces(15672),
            tls_listen: Vec::new(),
            management_tls_listen: Vec::new(),
            metrics_tls_listen: Vec::new(),
            metrics_access: MetricsAccess::Open,
            ctl_socket: None,
            tls_certificate: None,
            tls_key: None,
            tls_hosts: Vec::new(),
            tls_client_ca: None,
            tls_crl_files: Vec::new(),
            tls_verify: TlsVerify::None,
            http_tls_verify: TlsVerify::None,
            tls_login_from: LoginFrom::DistinguishedName,
            tls_min_version: TlsVersion::Tls12,
            proxy_protocol_from: Networks::default(),
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
            cluster_name: node_name.clone(),
            node_name,
            product: "Leveret".to_owned(),
            product_version: env!("CARGO_PKG_VERSION").to_owned(),
            frame_max: 131_072,
            channel_max: 2047,
            heartbeat: 60,
            handshake_timeout: Duration::from_secs(10),
            max_message_size: 128 << 20,
            connection_max: None,
            consumer_max_per_channel: None,
            set_header_timestamp: Stamping::Off,
            set_header_routing_node: Stamping::Off,
            redeclare_rule: RedeclareRule::Strict,
            fsync: FsyncPolicy::Always,
            fsync_interval: Duration::from_millis(200),
            queue_memory_budget: 128 << 20,
            memory_high_watermark: MemoryWatermark::Fraction(0.6),
            disk_free_limit: DiskFreeLimit::Auto,
            default_user: "guest".to_owned(),
            default_pass: Secret::from("guest"),
            default_vhost: "/".to_owned(),
            loopback_users: vec!["guest".to_owned()],
            anonymous_login_user: String::new(),
            password_hashing: HashingAlgorithm::Argon2id,
            oauth_resource_server_id: String::new(),
            oauth_jwks_file: None,
            oauth_issuer: String::new(),
            oauth_scope_prefix: "auto".to_owned(),
            oauth_username_claims: vec!["sub".to_owned(), "client_id".to_owned()],
            vhosts: Vec::new(),
            users: Vec::new(),
            load_definitions: None,
            shutdown_deadline: Duration::from_secs(30),
            worker_threads: value::available_cores(),
        }
    }
}
