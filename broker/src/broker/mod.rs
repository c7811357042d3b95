//! The broker: virtual hosts, users, store, connections and counters, shared by every door.

mod client_properties;
mod connection_info;
mod connections;
mod listener;
mod socket_traffic;
mod users;
mod vhosts;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use leveret_storage::{Store, Ticket};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;

pub use connection_info::{ConnectionId, ConnectionInfo, Identity};
pub use connections::{LimitReached, OpenPlace};
pub use listener::{Listener, protocol_asked};

use crate::alarms::Alarms;
use crate::auth::oauth::Oauth;
use crate::auth::{LoginThrottle, Users};
use crate::config::Config;
use crate::limits::UserLimits;
use crate::logins::Logins;
use crate::metrics::past::Past;
use crate::metrics::rates::LatestRates;
use crate::metrics::{Counters, Octets};
use crate::names::Names;
use crate::net::tls::Tls;
use crate::reload::LiveConfig;
use crate::service::Drained;
use crate::session::outbox::Event;
use crate::session::reply_to::ReplyTargets;
use crate::settings::{self, Setting};
use crate::timer::Timer;
use crate::vhost::Vhost;
use crate::vhost::paging::Paging;

/// The global parameter that names the cluster.
pub const CLUSTER_NAME: &str = "cluster_name";

/// Everything that connections and management share.
pub struct Broker {
    /// What the operator chose when the broker started.
    pub config: Config,
    /// What the operator wants now, as far as it takes effect without a restart.
    pub(crate) live: LiveConfig,
    /// Users and permissions.
    pub users: Users,
    /// Definitions and durable messages.
    pub store: Store,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// How fast they rise.
    pub rates: LatestRates,
    /// What figures were.
    pub past: Past,
    /// How much of their messages queues may hold in memory.
    pub paging: Arc<Paging>,
    /// Random names.
    pub names: Names,
    /// Who waits for direct replies.
    pub reply_targets: ReplyTargets,
    /// Memory and disk alarms.
    pub alarms: Alarms,
    /// Failed logins by source.
    pub throttle: Mutex<LoginThrottle>,
    /// Checks access tokens, if they are accepted.
    pub oauth: OnceLock<Oauth>,
    /// The turns of slow logins.
    pub logins: Logins,
    /// The node's name with the host's name filled in.
    pub node_name: String,
    /// When the broker started.
    pub started: Instant,
    /// The broker says goodbye to its clients.
    pub stopping: AtomicBool,
    /// No clients are served for now.
    pub(crate) drained: Drained,
    cluster_name: String,
    global_parameters: RwLock<BTreeMap<String, Value>>,
    listeners: Mutex<Vec<Listener>>,
    /// What TLS listeners give new connections; unset without any.
    pub tls: OnceLock<Arc<Tls>>,
    vhosts: RwLock<HashMap<String, Arc<Vhost>>>,
    user_limits: RwLock<HashMap<String, UserLimits>>,
    /// Wakes the task that does what is due.
    pub timer: Arc<Timer>,
    /// Held while a connection is counted and let into its virtual host.
    admission: Mutex<()>,
    connections: Mutex<HashMap<ConnectionId, Arc<ConnectionInfo>>>,
    octets_of_closed: Mutex<Octets<u64>>,
    /// What clients say of themselves.
    pub client_properties: client_properties::ClientProperties,
    open_connections: Arc<AtomicUsize>,
    arriving: Arc<AtomicUsize>,
    next_connection: AtomicU64,
}

/// Why a change of vhosts or users failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The virtual host is there already.
    #[error("virtual host '{0}' already exists")]
    VhostExists(String),
    /// There is no such virtual host.
    #[error("virtual host '{0}' does not exist")]
    NoSuchVhost(String),
    /// Somebody has protected it.
    #[error("refusing to delete virtual host '{0}' because it is protected from deletion")]
    VhostProtected(String),
    /// The name cannot be sent in AMQP.
    #[error("a virtual host's name must have 1 to 255 bytes")]
    VhostNameLength,
    /// The cluster's name is a text.
    #[error("the name of the cluster must be a text")]
    ClusterName,
    /// A user or permission cannot be changed so.
    #[error("{0}")]
    Auth(#[from] crate::auth::AuthError),
    /// The store takes no more writes.
    #[error("{0}")]
    Storage(#[from] leveret_storage::StorageError),
}

impl Broker {
    /// A broker without virtual hosts.
    pub fn new(
        config: Config,
        users: Users,
        store: Store,
        counters: Arc<Counters>,
        paging: Paging,
        now: Instant,
    ) -> Broker {
        let node_name = config.node_name.replace("{hostname}", &crate::names::host_name());
        let cluster_name = if config.cluster_name.is_empty() {
            node_name.clone()
        } else {
            config.cluster_name.clone()
        };
        Broker {
            live: LiveConfig::new(&config),
            config,
            users,
            store,
            counters,
            paging: Arc::new(paging),
            names: Names::new(),
            rates: LatestRates::default(),
            past: Past::default(),
            reply_targets: ReplyTargets::default(),
            alarms: Alarms::default(),
            throttle: Mutex::default(),
            oauth: OnceLock::new(),
            logins: Logins::default(),
            node_name,
            started: now,
            stopping: AtomicBool::new(false),
            drained: Drained::default(),
            cluster_name,
            global_parameters: RwLock::default(),
            listeners: Mutex::default(),
            tls: OnceLock::new(),
            vhosts: RwLock::default(),
            user_limits: RwLock::default(),
            timer: Arc::default(),
            admission: Mutex::default(),
            connections: Mutex::default(),
            octets_of_closed: Mutex::default(),
            client_properties: client_properties::ClientProperties::default(),
            open_connections: Arc::default(),
            arriving: Arc::default(),
            next_connection: AtomicU64::new(1),
        }
    }

    /// The cluster's name: that of the global parameter, of the configuration, or of the node.
    pub fn cluster_name(&self) -> String {
        let parameters = self.global_parameters.read();
        let set = parameters.get(CLUSTER_NAME).and_then(Value::as_str);
        set.unwrap_or(&self.cluster_name).to_owned()
    }

    /// All global parameters, by name.
    pub fn global_parameters(&self) -> Vec<(String, Value)> {
        let parameters = self.global_parameters.read();
        let named = parameters.iter().map(|(name, value)| (name.clone(), value.clone()));
        named.collect()
    }

    /// Sets a global parameter; the commit to wait for.
    pub fn set_global_parameter(&self, name: &str, value: Value) -> Result<Ticket, AdminError> {
        if name == CLUSTER_NAME && !value.is_string() {
            return Err(AdminError::ClusterName);
        }
        self.check_store()?;
        let mut parameters = self.global_parameters.write();
        parameters.insert(name.to_owned(), value.clone());
        let mut writer = self.store.writer();
        let name = name.to_owned();
        writer.put(&Setting::GlobalParameter { name, value }.to_definition());
        Ok(writer.submit())
    }

    /// Clears a global parameter; the commit to wait for, none if there was no such parameter.
    pub fn clear_global_parameter(&self, name: &str) -> Result<Option<Ticket>, AdminError> {
        self.check_store()?;
        let mut parameters = self.global_parameters.write();
        if parameters.remove(name).is_none() {
            return Ok(None);
        }
        let mut writer = self.store.writer();
        writer.delete(&settings::global_parameter(name));
        Ok(Some(writer.submit()))
    }

    fn check_store(&self) -> Result<(), AdminError> {
        match self.store.failed() {
            Some(error) => Err(leveret_storage::StorageError::Failed(error).into()),
            None => Ok(()),
        }
    }

    /// Brings back what an operator had set. The virtual hosts must be there, their queues and exchanges not yet.
    pub fn recover_setting(&self, setting: Setting) -> Result<(), String> {
        let vhost_of = |name: &str| self.vhost(name).ok_or_else(|| format!("no vhost '{name}'"));
        match setting {
            Setting::Policy { vhost, kind, policy } => {
                let name = policy.name.clone();
                let recovered = vhost_of(&vhost)?.recover_policy(kind, policy);
                recovered.map_err(|error| format!("policy '{name}' in vhost '{vhost}': {error}"))?;
            }
            Setting::VhostLimits { vhost, limits } => vhost_of(&vhost)?.recover_limits(limits),
            Setting::DelayedLog {
                vhost,
                exchange,
                log,
                by_time,
            } => vhost_of(&vhost)?.recover_delayed(&exchange, log, by_time),
            Setting::GlobalParameter { name, value } => drop(self.global_parameters.write().insert(name, value)),
            Setting::DeduplicationLog { vhost, owner, log } => vhost_of(&vhost)?.recover_deduplication(owner, log),
            // They came back with the users.
            Setting::TopicPermission(_) => {}
            Setting::UserLimits { user, limits } => drop(self.user_limits.write().insert(user, limits)),
        }
        Ok(())
    }

    /// Remembers where the broker listens, for status and management.
    pub fn set_listeners(&self, listeners: Vec<Listener>) {
        *self.listeners.lock() = listeners;
    }

    /// Where the broker listens.
    pub fn listeners(&self) -> Vec<Listener> {
        self.listeners.lock().clone()
    }

    /// What keeps publishers from being confirmed at the moment; empty when all is well.
    pub fn troubles(&self) -> Vec<String> {
        let store = self.store.trouble().map(|error| format!("storage: {error}"));
        self.alarms.reason().into_iter().chain(store).collect()
    }

    /// Tells every connection that an alarm went on or off.
    pub fn announce_alarm(&self) {
        for info in self.connections() {
            info.outbox.notify(Event::AlarmChanged);
        }
    }
}
