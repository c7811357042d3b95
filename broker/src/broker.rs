//! The broker: virtual hosts, users, store, connections and counters, shared by every door.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use leveret_storage::{Definition, DefinitionKey, PermissionRecord, Store, Ticket, UserRecord, VhostRecord};
use parking_lot::{Mutex, RwLock};
use serde_json::Value;

use crate::alarms::Alarms;
use crate::auth::{LoginThrottle, RecordChange, UserEvent, Users, UsersEdit};

use crate::config::Config;
use crate::limits::UserLimits;
use crate::logins::Logins;
use crate::metrics::Counters;
use crate::metrics::rates::LatestRates;
use crate::names::Names;
use crate::net::tls::Tls;
use crate::net::tls::peer::TlsInfo;
use crate::protocol::error::AmqpError;
use crate::protocol::reply_code::ReplyCode;
use crate::reload::LiveConfig;
use crate::session::outbox::{Event, Outbox};
use crate::session::reply_to::ReplyTargets;
use crate::settings::{self, Setting};
use crate::timer::Timer;
use crate::vhost::paging::Paging;
use crate::vhost::queue_handle::Services;
use crate::vhost::{About, Vhost};

/// So long after a flow pause a connection is shown to be in flow.
const FLOW_SHOWN: Duration = Duration::from_secs(1);

/// The global parameter that names the cluster.
pub const CLUSTER_NAME: &str = "cluster_name";

/// A connection for the life of the process; numbers are not used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

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
    /// The turns of slow logins.
    pub logins: Logins,
    /// The node's name with the host's name filled in.
    pub node_name: String,
    /// When the broker started.
    pub started: Instant,
    /// The broker says goodbye to its clients.
    pub stopping: AtomicBool,
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
    open_connections: Arc<AtomicUsize>,
    arriving: Arc<AtomicUsize>,
    next_connection: AtomicU64,
}

/// The place of one connection among those that are counted, given free when it is dropped.
pub struct OpenPlace(Arc<AtomicUsize>);

impl Drop for OpenPlace {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What is known of one connection outside its session.
pub struct ConnectionInfo {
    /// Its number.
    pub id: ConnectionId,
    /// `client address -> server address`, as RabbitMQ names connections.
    pub name: String,
    /// The client's address.
    pub peer: SocketAddr,
    /// The address it connected to.
    pub local: SocketAddr,
    /// The way to its client.
    pub outbox: Outbox,
    /// How it is encrypted, and whom its client's certificate names.
    pub tls: Option<TlsInfo>,
    /// When it was accepted.
    pub connected_at: Instant,
    channels: AtomicU16,
    publishes: AtomicBool,
    open: AtomicBool,
    /// When the last flow pause began, in milliseconds since the connection was accepted, plus one; 0 for never.
    in_flow_at: AtomicU64,
    frame_max: AtomicU32,
    heartbeat_seconds: AtomicU16,
    identity: RwLock<Identity>,
}

/// What the client said of itself and what it was let into.
#[derive(Clone, Default)]
pub struct Identity {
    /// The user it logged in as.
    pub user: Arc<str>,
    /// The virtual host it opened.
    pub vhost: Arc<str>,
    /// `connection_name` of the client's properties.
    pub connection_name: Option<String>,
    /// `product` and `version` of the client's properties.
    pub product: Option<String>,
}

impl ConnectionInfo {
    /// A connection that has just been accepted.
    pub fn new(id: ConnectionId, peer: SocketAddr, local: SocketAddr, frame_max: u32, now: Instant) -> ConnectionInfo {
        ConnectionInfo {
            id,
            name: format!("{peer} -> {local}"),
            peer,
            local,
            outbox: Outbox::new(frame_max),
            tls: None,
            connected_at: now,
            channels: AtomicU16::new(0),
            publishes: AtomicBool::new(false),
            open: AtomicBool::new(false),
            in_flow_at: AtomicU64::new(0),
            frame_max: AtomicU32::new(0),
            heartbeat_seconds: AtomicU16::new(0),
            identity: RwLock::default(),
        }
    }

    /// The same over TLS, if it is.
    pub fn with_tls(self, tls: Option<TlsInfo>) -> ConnectionInfo {
        ConnectionInfo { tls, ..self }
    }

    /// The user name that the client's certificate has proven, or why there is none.
    pub fn certificate_login(&self) -> Result<&str, &'static str> {
        let tls = self.tls.as_ref().ok_or("the connection is not encrypted")?;
        let peer = tls.peer.as_ref().ok_or("the client has shown no certificate")?;
        peer.login.as_deref().map_err(|reason| *reason)
    }

    /// What is known of the client.
    pub fn identity(&self) -> Identity {
        self.identity.read().clone()
    }

    /// The user, empty before login.
    pub fn user(&self) -> Arc<str> {
        self.identity.read().user.clone()
    }

    /// The virtual host, empty before open.
    pub fn vhost(&self) -> Arc<str> {
        self.identity.read().vhost.clone()
    }

    /// What the client calls itself, for the log.
    pub fn client_name(&self) -> String {
        let identity = self.identity.read();
        identity
            .connection_name
            .clone()
            .or_else(|| identity.product.clone())
            .unwrap_or_default()
    }

    /// Remembers the client's properties.
    pub fn set_client(&self, connection_name: Option<String>, product: Option<String>, version: Option<String>) {
        let mut identity = self.identity.write();
        identity.connection_name = connection_name;
        identity.product = product.map(|product| match version {
            Some(version) => format!("{product} {version}"),
            None => product,
        });
    }

    /// Remembers who logged in.
    pub fn set_user(&self, user: &str) {
        self.identity.write().user = user.into();
    }

    /// Remembers what was opened.
    pub fn set_vhost(&self, vhost: &str) {
        self.identity.write().vhost = vhost.into();
    }

    /// Remembers what was negotiated.
    pub fn set_tuning(&self, frame_max: u32, heartbeat_seconds: u16) {
        self.frame_max.store(frame_max, Ordering::Relaxed);
        self.heartbeat_seconds.store(heartbeat_seconds, Ordering::Relaxed);
    }

    /// The negotiated frame size and heartbeat interval.
    pub fn tuning(&self) -> (u32, u16) {
        (
            self.frame_max.load(Ordering::Relaxed),
            self.heartbeat_seconds.load(Ordering::Relaxed),
        )
    }

    /// Remembers how many channels are open.
    pub fn set_channels(&self, count: u16) {
        self.channels.store(count, Ordering::Relaxed);
    }

    /// The connection has published.
    pub fn set_publishes(&self) {
        self.publishes.store(true, Ordering::Relaxed);
    }

    /// The connection is let into its virtual host, or closes.
    pub fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Release);
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// Has the connection published?
    pub fn publishes(&self) -> bool {
        self.publishes.load(Ordering::Relaxed)
    }

    /// The connection waits for the consumers of what it publishes.
    pub fn set_in_flow(&self, now: Instant) {
        self.in_flow_at.store(self.age_millis(now) + 1, Ordering::Relaxed);
    }

    /// Has the connection waited for consumers lately? It does so for moments only, too short to be seen.
    pub fn is_in_flow(&self, now: Instant) -> bool {
        match self.in_flow_at.load(Ordering::Relaxed) {
            0 => false,
            at => self.age_millis(now).saturating_sub(at - 1) < FLOW_SHOWN.as_millis() as u64,
        }
    }

    fn age_millis(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.connected_at).as_millis() as u64
    }

    /// Open channels.
    pub fn channels(&self) -> u16 {
        self.channels.load(Ordering::Relaxed)
    }
}

/// Why a connection is not let into a virtual host. Display is RabbitMQ's text.
#[derive(Debug, thiserror::Error)]
pub enum LimitReached {
    /// The virtual host has as many connections as it may have.
    #[error("access to vhost '{vhost}' refused for user '{user}': connection limit ({limit}) is reached")]
    OfVhost {
        /// The virtual host.
        vhost: String,
        /// Who asked.
        user: Arc<str>,
        /// So many it may have.
        limit: u64,
    },
    /// The user has as many connections as it may have.
    #[error("connection refused for user '{user}': user connection limit ({limit}) is reached")]
    OfUser {
        /// Who asked.
        user: Arc<str>,
        /// So many it may have.
        limit: u64,
    },
}

/// An address that the broker listens on. Prints as `amqp 127.0.0.1:5672`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What it is for: amqp, management or metrics, or amqp_tls and so on.
    pub purpose: &'static str,
    /// Its address.
    pub address: SocketAddr,
}

impl std::fmt::Display for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.purpose, self.address)
    }
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
            reply_targets: ReplyTargets::default(),
            alarms: Alarms::default(),
            throttle: Mutex::default(),
            logins: Logins::default(),
            node_name,
            started: now,
            stopping: AtomicBool::new(false),
            cluster_name,
            global_parameters: RwLock::default(),
            listeners: Mutex::default(),
            tls: OnceLock::new(),
            vhosts: RwLock::default(),
            user_limits: RwLock::default(),
            timer: Arc::default(),
            admission: Mutex::default(),
            connections: Mutex::default(),
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

    /// The virtual host of that name.
    pub fn vhost(&self, name: &str) -> Option<Arc<Vhost>> {
        self.vhosts.read().get(name).cloned()
    }

    /// All virtual hosts, by name.
    pub fn vhosts(&self) -> Vec<Arc<Vhost>> {
        let mut vhosts: Vec<_> = self.vhosts.read().values().cloned().collect();
        vhosts.sort_by(|a, b| a.name.cmp(&b.name));
        vhosts
    }

    fn services(&self) -> Services {
        Services {
            store: self.store.clone(),
            counters: self.counters.clone(),
            paging: self.paging.clone(),
        }
    }

    /// Enters a virtual host that is stored already.
    pub fn recover_vhost(&self, record: &VhostRecord) -> Arc<Vhost> {
        let vhost = Arc::new(Vhost::new(&record.name, self.services(), self.timer.clone()));
        vhost.set_about(About {
            description: record.description.clone(),
            tags: record.tags.clone(),
            default_queue_type: record.default_queue_type.clone(),
        });
        self.vhosts.write().insert(record.name.clone(), vhost.clone());
        vhost
    }

    /// Makes a virtual host; the commit to wait for.
    pub fn add_vhost(&self, name: &str) -> Result<Ticket, AdminError> {
        self.add_vhost_with(name, About::default())
    }

    /// Makes a virtual host about which people say something; the commit to wait for.
    pub fn add_vhost_with(&self, name: &str, about: About) -> Result<Ticket, AdminError> {
        if name.is_empty() || name.len() > 255 {
            return Err(AdminError::VhostNameLength);
        }
        let mut vhosts = self.vhosts.write();
        if vhosts.contains_key(name) {
            return Err(AdminError::VhostExists(name.to_owned()));
        }
        let vhost = Arc::new(Vhost::new(name, self.services(), self.timer.clone()));
        vhosts.insert(name.to_owned(), vhost.clone());
        Ok(self.store_about(&vhost, about))
    }

    /// Replaces what people say about a virtual host; the commit to wait for.
    pub fn describe_vhost(&self, name: &str, about: About) -> Result<Ticket, AdminError> {
        // Under the lock, so that a virtual host that is being deleted is not stored again.
        let vhosts = self.vhosts.read();
        let missing = || AdminError::NoSuchVhost(name.to_owned());
        Ok(self.store_about(vhosts.get(name).ok_or_else(missing)?, about))
    }

    fn store_about(&self, vhost: &Vhost, about: About) -> Ticket {
        let mut writer = self.store.writer();
        writer.put(&Definition::Vhost(VhostRecord {
            name: vhost.name.to_string(),
            description: about.description.clone(),
            tags: about.tags.clone(),
            default_queue_type: about.default_queue_type.clone(),
        }));
        vhost.set_about(about);
        writer.submit()
    }

    /// Deletes a virtual host with everything in it and closes its connections.
    pub fn delete_vhost(&self, name: &str) -> Result<Ticket, AdminError> {
        let vhost = self
            .vhosts
            .write()
            .remove(name)
            .ok_or_else(|| AdminError::NoSuchVhost(name.to_owned()))?;
        self.close_connections(&format!("vhost '{name}' is deleted"), |identity| {
            &*identity.vhost == name
        });
        let mut edit = self.users.edit();
        edit.clear_vhost(name);
        vhost.delete_everything();
        let mut writer = self.store.writer();
        write_user_changes(&mut writer, edit.records());
        writer.delete(&DefinitionKey::Vhost { name: name.to_owned() });
        let ticket = writer.submit();
        edit.commit();
        Ok(ticket)
    }

    /// Stores a change of users or permissions and lets it take effect; the commit to wait for.
    pub fn commit_users(&self, edit: UsersEdit<'_>) -> Result<Ticket, AdminError> {
        let ticket = self.store_user_changes(edit.records())?;
        edit.commit();
        Ok(ticket)
    }

    /// Stores changes of users or permissions in one write.
    pub fn store_user_changes(&self, changes: &[RecordChange]) -> Result<Ticket, AdminError> {
        self.check_store()?;
        let mut writer = self.store.writer();
        write_user_changes(&mut writer, changes);
        Ok(writer.submit())
    }

    /// The limits of a user.
    pub fn user_limits(&self, user: &str) -> UserLimits {
        self.user_limits.read().get(user).copied().unwrap_or_default()
    }

    /// The limits of all users that have some, by name.
    pub fn all_user_limits(&self) -> Vec<(String, UserLimits)> {
        let limits = self.user_limits.read();
        let mut limits: Vec<_> = limits.iter().map(|(user, limits)| (user.clone(), *limits)).collect();
        limits.sort_by(|a, b| a.0.cmp(&b.0));
        limits
    }

    /// Replaces the limits of a user; the commit to wait for. What is open stays open.
    pub fn set_user_limits(&self, user: &str, limits: UserLimits) -> Result<Ticket, AdminError> {
        self.check_store()?;
        if self.users.get(user).is_none() {
            return Err(crate::auth::AuthError::NoSuchUser { name: user.to_owned() }.into());
        }
        Ok(self.store_user_limits(user, limits))
    }

    fn store_user_limits(&self, user: &str, limits: UserLimits) -> Ticket {
        let mut all = self.user_limits.write();
        let mut writer = self.store.writer();
        if limits.is_empty() {
            all.remove(user);
            writer.delete(&settings::user_limits(user));
        } else {
            all.insert(user.to_owned(), limits);
            let user = user.to_owned();
            writer.put(&Setting::UserLimits { user, limits }.to_definition());
        }
        writer.submit()
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
            Setting::DelayedLog { vhost, exchange, log } => vhost_of(&vhost)?.recover_delayed(&exchange, log),
            Setting::GlobalParameter { name, value } => drop(self.global_parameters.write().insert(name, value)),
            Setting::DeduplicationLog { vhost, owner, log } => vhost_of(&vhost)?.recover_deduplication(owner, log),
            // They came back with the users.
            Setting::TopicPermission(_) => {}
            Setting::UserLimits { user, limits } => drop(self.user_limits.write().insert(user, limits)),
        }
        Ok(())
    }

    /// Counts the open connections of a virtual host and of a user. If the limits allow one more, it is let in, provided that
    /// its user `has_access`, which RabbitMQ checks after the limits.
    pub fn admit(&self, info: &ConnectionInfo, vhost: &Vhost, has_access: bool) -> Result<(), LimitReached> {
        let _admission = self.admission.lock();
        let user = info.user();
        if let Some(limit) = vhost.limits().max_connections
            && self.count_connections(|identity| identity.vhost == vhost.name) >= limit
        {
            let vhost = vhost.name.to_string();
            return Err(LimitReached::OfVhost { vhost, user, limit });
        }
        if let Some(limit) = self.user_limits(&user).max_connections
            && self.count_connections(|identity| identity.user == user) >= limit
        {
            return Err(LimitReached::OfUser { user, limit });
        }
        if has_access {
            info.set_vhost(&vhost.name);
            info.set_open(true);
        }
        Ok(())
    }

    fn count_connections(&self, matches: impl Fn(&Identity) -> bool) -> u64 {
        let connections = self.connections.lock();
        connections
            .values()
            .filter(|info| info.is_open() && matches(&info.identity.read()))
            .count() as u64
    }

    /// Open channels of all connections of a user.
    pub fn channels_of_user(&self, user: &str) -> u64 {
        let connections = self.connections.lock();
        let own = connections.values().filter(|info| *info.user() == *user);
        own.map(|info| u64::from(info.channels())).sum()
    }

    /// What follows from a change of users.
    pub fn user_changed(&self, event: &UserEvent) {
        if let UserEvent::Deleted { name } = event {
            if !self.user_limits(name).is_empty() {
                self.store_user_limits(name, UserLimits::default());
            }
            self.close_connections(&format!("user '{name}' is deleted"), |identity| {
                &*identity.user == name.as_str()
            });
        }
    }

    /// The number of the next connection.
    pub fn next_connection_id(&self) -> ConnectionId {
        ConnectionId(self.next_connection.fetch_add(1, Ordering::Relaxed))
    }

    /// A socket was accepted.
    pub fn connection_accepted(&self, info: &Arc<ConnectionInfo>) {
        self.connections.lock().insert(info.id, info.clone());
        self.counters.connections_opened.inc();
    }

    /// A place for a connection that opens; none when `connection_max` are open.
    pub fn take_open_place(&self) -> Option<OpenPlace> {
        let max = self.live().connection_max.map_or(usize::MAX, |max| max as usize);
        let count = &self.open_connections;
        count
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
                (open < max).then_some(open + 1)
            })
            .ok()
            .map(|_| OpenPlace(count.clone()))
    }

    /// A place for an AMQP client on its way in, as in its TLS handshake.
    pub fn take_arriving_place(&self) -> OpenPlace {
        self.arriving.fetch_add(1, Ordering::AcqRel);
        OpenPlace(self.arriving.clone())
    }

    /// AMQP clients on their way in; their sockets are not counted elsewhere.
    pub fn arriving(&self) -> usize {
        self.arriving.load(Ordering::Acquire)
    }

    /// A socket is gone.
    pub fn connection_closed(&self, id: ConnectionId) {
        if self.connections.lock().remove(&id).is_some() {
            self.counters.connections_closed.inc();
        }
    }

    /// Connections from their connection.open to their end, which is before their socket's.
    pub fn open_connections(&self) -> usize {
        self.open_connections.load(Ordering::Acquire)
    }

    /// Sockets of clients: of open connections, and of those in their handshake, refused or closing.
    pub fn sockets(&self) -> usize {
        self.connections.lock().len()
    }

    /// All connections, oldest first, those in their handshake or closing included.
    pub fn connections(&self) -> Vec<Arc<ConnectionInfo>> {
        let mut connections: Vec<_> = self.connections.lock().values().cloned().collect();
        connections.sort_by_key(|info| info.id);
        connections
    }

    /// Closes the connections whose identity matches, with 320 and this reason; how many.
    pub fn close_connections(&self, reason: &str, matches: impl Fn(&Identity) -> bool) -> usize {
        let chosen: Vec<_> = self
            .connections()
            .into_iter()
            .filter(|info| matches(&info.identity()))
            .collect();
        for info in &chosen {
            info.outbox.notify(Event::Close(AmqpError::new(
                ReplyCode::ConnectionForced,
                reason.to_owned(),
            )));
        }
        chosen.len()
    }

    /// Closes the connection of this name; false when there is none.
    pub fn close_connection(&self, name: &str, reason: &str) -> bool {
        let found = self.connections().into_iter().find(|info| info.name == name);
        if let Some(info) = &found {
            info.outbox.notify(Event::Close(AmqpError::new(
                ReplyCode::ConnectionForced,
                reason.to_owned(),
            )));
        }
        found.is_some()
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

fn write_user_changes(writer: &mut leveret_storage::Writer<'_>, changes: &[RecordChange]) {
    for change in changes {
        match change.clone() {
            RecordChange::PutUser(user) => writer.put(&Definition::User(UserRecord {
                name: user.name,
                password_hash: user.password_hash,
                hashing_algorithm: user.hashing_algorithm,
                tags: user.tags,
            })),
            RecordChange::DeleteUser { name } => writer.delete(&DefinitionKey::User { name }),
            RecordChange::PutPermission(permission) => writer.put(&Definition::Permission(PermissionRecord {
                user: permission.user,
                vhost: permission.vhost,
                configure: permission.configure,
                write: permission.write,
                read: permission.read,
            })),
            RecordChange::DeletePermission { user, vhost } => {
                writer.delete(&DefinitionKey::Permission { user, vhost });
            }
            RecordChange::PutTopicPermission(record) => {
                writer.put(&Setting::TopicPermission(record).to_definition());
            }
            RecordChange::DeleteTopicPermission { user, vhost, exchange } => {
                writer.delete(&settings::topic_permission(&user, &vhost, &exchange));
            }
        }
    }
}
